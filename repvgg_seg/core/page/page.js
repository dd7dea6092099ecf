// The page around a source of label maps, which is a script before this one with two functions. readModel() describes the model and
// its limits. segment({canvas, scale, file}) returns the labels of a picture (class indices, row by row), a function png that makes
// a file of them, and milliseconds by name; file is missing for a frame of the webcam. Both return promises.
'use strict';
const find = id => document.getElementById(id);
const pictureCanvas = find('picture'), labelCanvas = find('labels');
let model, shown = null, stream = null;
const hidden = new Set();  // Indices of the classes that the user has hidden.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function canvasOf(source, width, height) {
  const canvas = element('canvas', {width, height});
  canvas.getContext('2d', {willReadFrequently: true}).drawImage(source, 0, 0, width, height);
  return canvas;
}

const pixelsOf = canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
const blobOf = (canvas, type, quality) => new Promise(done => canvas.toBlob(done, type, quality));

// A canvas of something, made smaller if the source takes no more pixels.
function fitting(source, width, height) {
  const scale = Math.min(1, Math.sqrt(model.limits.pixels / (width * height)));
  return {scale, canvas: canvasOf(source, Math.floor(width * scale), Math.floor(height * scale))};
}

function complain(text) {
  find('message').textContent = text;
  find('message').hidden = !text;
}

// The pixels of a file as they are stored: what a color profile would make of them is not what networks are trained on.
async function decode(file) {
  try {
    return await createImageBitmap(file, {colorSpaceConversion: 'none', premultiplyAlpha: 'none'});
  } catch {
    throw new Error(`${file.name} is no picture that this browser can read; choose a PNG or JPEG file`);
  }
}

function show(result) {
  shown = result;
  const {width, height} = result.canvas;
  for (const canvas of [pictureCanvas, labelCanvas]) Object.assign(canvas, {width, height});
  pictureCanvas.getContext('2d').drawImage(result.canvas, 0, 0);
  find('empty').hidden = true;
  find('view').hidden = find('panel').hidden = false;
  document.querySelector('main').classList.add('shows');
  paint();
  writeFacts();
  writeLegend();
}

function paint() {
  const {labels, canvas} = shown;
  const table = new Uint32Array(256), bytes = new Uint8Array(table.buffer);
  for (const {index, color} of model.classes) if (!hidden.has(index)) bytes.set([...color, 255], 4 * index);
  const colored = new Uint32Array(labels.length);
  for (let index = 0; index < labels.length; index++) colored[index] = table[labels[index]];
  const data = new ImageData(new Uint8ClampedArray(colored.buffer), canvas.width, canvas.height);
  labelCanvas.getContext('2d').putImageData(data, 0, 0);
}

function writeFacts() {
  const {canvas, elapsed, scale, milliseconds} = shown;
  const times = Object.entries({...milliseconds, 'In all': elapsed}).map(([name, value]) => [name, `${value.toFixed(1)} ms`]);
  const facts = {'Size': `${canvas.width} × ${canvas.height}${scale < 1 ? ', made smaller' : ''}`, ...Object.fromEntries(times)};
  if (stream) facts['Frames'] = `${(1000 / elapsed).toFixed(1)} a second`;
  find('facts').replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [element('dt', {}, name), element('dd', {}, value)]));
}

function writeLegend() {
  const pixels = new Uint32Array(256);
  for (const label of shown.labels) pixels[label]++;
  const classes = model.classes.filter(({index}) => pixels[index]).sort((one, other) => pixels[other.index] - pixels[one.index]);
  find('legend').replaceChildren(...classes.map(({index, name, color}) => {
    const share = pixels[index] / shown.labels.length;
    const swatch = element('span', {class: 'swatch'});
    swatch.style.background = `rgb(${color})`;
    const button = element('button', {type: 'button', 'aria-pressed': !hidden.has(index), 'data-class': index, title: name}, swatch,
      element('span', {class: 'name'}, name), element('meter', {value: share}), element('span', {class: 'share'}, `${(100 * share).toFixed(1)}%`));
    button.addEventListener('click', () => {
      hidden.has(index) ? hidden.delete(index) : hidden.add(index);
      button.setAttribute('aria-pressed', !hidden.has(index));
      paint();
    });
    return element('li', {}, button);
  }));
}

async function segmentTimed(picture) {
  const start = performance.now(), answer = await segment(picture);
  return {...picture, ...answer, elapsed: performance.now() - start};
}

async function take(files) {
  if (!model) return;
  stopWebcam();
  complain('');
  find('busy').hidden = false;
  for (const file of files) {
    try {
      const bitmap = await decode(file);
      const result = await segmentTimed({...fitting(bitmap, bitmap.width, bitmap.height), file});
      const {canvas} = result, thumbnail = canvasOf(canvas, Math.max(1, Math.round(60 * canvas.width / canvas.height)), 60);
      const button = element('button', {type: 'button', title: file.name, 'aria-label': file.name}, thumbnail);
      button.addEventListener('click', () => { stopWebcam(); show(result); });
      find('strip').append(button);
      show(result);
    } catch (error) {
      complain(error.message);
    }
  }
  find('busy').hidden = true;
}

// The webcam: one frame after another, each as soon as the one before is answered.
async function startWebcam() {
  complain('');
  if (!navigator.mediaDevices) {
    return complain('This browser gives pages a webcam only over HTTPS or from localhost; open the page on the machine of the server');
  }
  try {
    stream = await navigator.mediaDevices.getUserMedia({video: {width: {ideal: 640}}});
  } catch (error) {
    return complain(`The webcam cannot be used: ${error.message}`);
  }
  const own = stream, video = element('video', {muted: '', playsinline: ''});
  find('webcam').setAttribute('aria-pressed', true);
  find('webcam').textContent = 'Stop the webcam';
  video.srcObject = own;
  await video.play();
  while (stream === own) {
    try {
      const result = await segmentTimed(fitting(video, video.videoWidth, video.videoHeight));
      if (stream === own) show(result);
    } catch (error) {
      complain(error.message);
      stopWebcam();
    }
  }
}

function stopWebcam() {
  if (!stream) return;
  for (const track of stream.getTracks()) track.stop();
  stream = null;
  find('webcam').setAttribute('aria-pressed', false);
  find('webcam').textContent = 'Use the webcam';
}

function setOpacity() {
  labelCanvas.style.opacity = find('opacity').value / 100;
  find('percent').textContent = `${find('opacity').value}%`;
}

// Where a pixel of the picture is shown: the canvas keeps its shape within its box.
function pixelAt(event) {
  const box = pictureCanvas.getBoundingClientRect(), {width, height} = shown.canvas;
  const zoom = Math.min(box.width / width, box.height / height);
  const x = Math.floor((event.clientX - box.left - (box.width - width * zoom) / 2) / zoom);
  const y = Math.floor((event.clientY - box.top - (box.height - height * zoom) / 2) / zoom);
  return x >= 0 && y >= 0 && x < width && y < height ? y * width + x : null;
}

async function save(event, makeBlob, link) {
  event.preventDefault();
  const url = URL.createObjectURL(await makeBlob());
  element('a', {href: url, download: link.download}).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

async function overlay() {
  const canvas = canvasOf(pictureCanvas, pictureCanvas.width, pictureCanvas.height), context = canvas.getContext('2d');
  context.globalAlpha = find('opacity').value / 100;
  context.drawImage(labelCanvas, 0, 0);
  return blobOf(canvas, 'image/png');
}

find('choose').addEventListener('click', () => find('files').click());
find('files').addEventListener('change', event => { take([...event.target.files]); event.target.value = ''; });
find('webcam').addEventListener('click', () => stream ? stopWebcam() : startWebcam());
find('opacity').addEventListener('input', setOpacity);
find('save-labels').href = find('save-overlay').href = '#';
find('save-labels').addEventListener('click', event => save(event, () => shown.png(), event.currentTarget));
find('save-overlay').addEventListener('click', event => save(event, overlay, event.currentTarget));
find('view').addEventListener('pointermove', event => {
  const pixel = pixelAt(event), entry = pixel === null ? null : model.classes.find(({index}) => index === shown.labels[pixel]);
  find('under').hidden = !entry;
  if (entry) find('under').textContent = entry.name;
});
find('view').addEventListener('pointerleave', () => { find('under').hidden = true; });
addEventListener('paste', event => { if (event.clipboardData.files.length) take([...event.clipboardData.files]); });
for (const kind of ['dragenter', 'dragover', 'dragleave', 'drop']) {
  addEventListener(kind, event => {
    event.preventDefault();
    find('stage').classList.toggle('over', kind === 'dragenter' || kind === 'dragover');
    if (kind === 'drop' && event.dataTransfer.files.length) take([...event.dataTransfer.files]);
  });
}

readModel().then(found => {
  model = found;
  const sizes = model.size ? `windows of ${model.size[1]} × ${model.size[0]}` : `pictures of ${model.min_size} × ${model.min_size} pixels or more`;
  find('model').textContent = `${model.classes.length - 1} classes, ${model.format} in ${model.precision}, ${sizes}`;
  setOpacity();
  find('choose').disabled = find('webcam').disabled = false;
}).catch(error => complain(error.message)).finally(() => { document.body.dataset.ready = 'true'; });
