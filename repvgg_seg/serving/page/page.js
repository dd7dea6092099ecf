'use strict';
const find = id => document.getElementById(id);
const pictureCanvas = find('picture'), labelCanvas = find('labels');
const SENT = ['image/png', 'image/jpeg'];
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
  canvas.getContext('2d').drawImage(source, 0, 0, width, height);
  return canvas;
}

const blobOf = (canvas, type, quality) => new Promise(done => canvas.toBlob(done, type, quality));
const bytesOf = base64 => Uint8Array.from(atob(base64), character => character.charCodeAt(0));

// A canvas of something, made smaller if the server takes no more pixels.
function fitting(source, width, height) {
  const scale = Math.min(1, Math.sqrt(model.limits.pixels / (width * height)));
  return {scale, canvas: canvasOf(source, Math.floor(width * scale), Math.floor(height * scale))};
}

function complain(text) {
  find('message').textContent = text;
  find('message').hidden = !text;
}

// What is sent of a file: the file itself where the server takes it, else what the browser sees of it.
async function prepare(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name} is no picture that this browser can read; choose a PNG or JPEG file`);
  }
  const {canvas, scale} = fitting(bitmap, bitmap.width, bitmap.height);
  const asIs = scale === 1 && SENT.includes(file.type) && file.size <= model.limits.bytes;
  return {canvas, scale, body: asIs ? file : await blobOf(canvas, 'image/jpeg', 0.95)};
}

// Segment a picture; the labels come as a gray PNG whose values are class indices.
async function segment(canvas, body) {
  const start = performance.now();
  const response = await fetch('segment', {method: 'POST', headers: {'Content-Type': body.type}, body});
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail);
  const png = new Blob([bytesOf(answer.labels)], {type: 'image/png'});
  const bitmap = await createImageBitmap(png, {colorSpaceConversion: 'none', premultiplyAlpha: 'none'});
  const context = canvasOf(bitmap, bitmap.width, bitmap.height).getContext('2d', {willReadFrequently: true});
  const pixels = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
  const labels = new Uint8Array(pixels.length / 4);
  for (let index = 0; index < labels.length; index++) labels[index] = pixels[4 * index];
  return {canvas, answer, labels, png, elapsed: performance.now() - start};
}

function show(result) {
  shown = result;
  const {width, height} = result.answer;
  for (const canvas of [pictureCanvas, labelCanvas]) Object.assign(canvas, {width, height});
  pictureCanvas.getContext('2d').drawImage(result.canvas, 0, 0, width, height);
  find('empty').hidden = true;
  find('view').hidden = find('panel').hidden = false;
  document.querySelector('main').classList.add('shows');
  paint();
  writeFacts();
  writeLegend();
}

function paint() {
  const {labels, answer} = shown;
  const table = new Uint32Array(256), bytes = new Uint8Array(table.buffer);
  for (const {index, color} of model.classes) if (!hidden.has(index)) bytes.set([...color, 255], 4 * index);
  const colored = new Uint32Array(labels.length);
  for (let index = 0; index < labels.length; index++) colored[index] = table[labels[index]];
  const data = new ImageData(new Uint8ClampedArray(colored.buffer), answer.width, answer.height);
  labelCanvas.getContext('2d').putImageData(data, 0, 0);
}

function writeFacts() {
  const {answer, elapsed, scale} = shown, {waited, computed} = answer.milliseconds;
  const facts = {
    'Size': `${answer.width} × ${answer.height}${scale < 1 ? ', made smaller' : ''}`,
    'Network': `${computed.toFixed(1)} ms`, 'Waiting': `${waited.toFixed(1)} ms`, 'In all': `${elapsed.toFixed(1)} ms`,
  };
  if (stream) facts['Frames'] = `${(1000 / elapsed).toFixed(1)} a second`;
  find('facts').replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [element('dt', {}, name), element('dd', {}, value)]));
}

function writeLegend() {
  const classes = [...shown.answer.classes].sort((one, other) => other.share - one.share);
  find('legend').replaceChildren(...classes.map(({index, name, color, share}) => {
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

async function take(files) {
  stopWebcam();
  complain('');
  find('busy').hidden = false;
  for (const file of files) {
    try {
      const {canvas, scale, body} = await prepare(file);
      const result = {...await segment(canvas, body), scale};
      const thumbnail = canvasOf(canvas, Math.max(1, Math.round(60 * canvas.width / canvas.height)), 60);
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
    const {canvas, scale} = fitting(video, video.videoWidth, video.videoHeight);
    try {
      const result = await segment(canvas, await blobOf(canvas, 'image/jpeg', 0.9));
      if (stream === own) show({...result, scale});
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
  const box = pictureCanvas.getBoundingClientRect(), {width, height} = shown.answer;
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
find('save-labels').addEventListener('click', event => save(event, () => shown.png, event.currentTarget));
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

fetch('model').then(response => response.json()).then(found => {
  model = found;
  const sizes = model.size ? `windows of ${model.size[1]} × ${model.size[0]}` : `pictures of ${model.min_size} × ${model.min_size} pixels or more`;
  find('model').textContent = `${model.classes.length - 1} classes, ${model.format} in ${model.precision}, ${sizes}`;
  setOpacity();
  document.body.dataset.ready = 'true';
});
