// The source of label maps of the page: the exported network, which onnxruntime-web runs in this browser.
'use strict';
const PIXELS = 2048 * 1024;  // Of the largest picture; larger ones are made smaller.
const OVERLAP = 64;  // Of neighboring windows in pixels, as in repvgg_seg.runtime.predictor.
const UNKNOWN = {index: 255, name: 'unknown', color: [0, 0, 0]};
let session;

async function load(name) {
  const response = await fetch(name, {cache: 'no-cache'}).catch(error => ({problem: error.message}));
  if (!response.ok) {
    throw new Error(`${name} cannot be loaded (${response.problem ?? `status ${response.status}`}); put all files of the folder on the server`);
  }
  return response;
}

async function readModel() {
  if (location.protocol === 'file:') {
    throw new Error('Browsers run no network in a page that is opened as a file; run "python -m http.server" in its folder and open http://localhost:8000');
  }
  const record = await (await load('deploy.json')).json();
  const files = Object.entries(record.artefacts).filter(([, {format}]) => format === 'web');
  const wanted = new URLSearchParams(location.search).get('precision') ?? files[0][1].precision;
  const [name, {precision, size}] = files.find(([, file]) => file.precision === wanted) ?? files[0];
  for (const [, other] of files.length > 1 ? files : []) {
    const link = element('a', {href: `?precision=${other.precision}`}, other.precision);
    if (other.precision === precision) link.setAttribute('aria-current', 'page');
    document.querySelector('nav').append(link, ' ');
  }
  const network = new Uint8Array(await (await load(name)).arrayBuffer());
  try {
    ort.env.wasm.proxy = true;  // In a worker, so that the page still answers while a network runs.
    session = await ort.InferenceSession.create(network, {executionProviders: ['wasm']});
  } catch (error) {
    throw new Error(`onnxruntime-web cannot run ${name} (${error.message}); put all files of the folder on the server`);
  }
  const classes = [...record.classes.map((name, index) => ({index, name, color: record.palette[index]})), UNKNOWN];
  return {classes, size, min_size: record.min_size, channels: record.channels, format: 'ONNX', precision, limits: {pixels: PIXELS}};
}

// Windows of equal length that cover an axis; neighbors meet in the middle of their overlap, as in repvgg_seg.runtime.predictor.
function windowsOf(size, length) {
  const overlap = Math.min(OVERLAP, Math.floor(length / 2)), starts = [];
  for (let start = 0; start < size - length; start += length - overlap) starts.push(start);
  starts.push(size - length);
  const cuts = [0, ...starts.slice(1).map((after, index) => Math.floor((after + starts[index] + length) / 2)), size];
  return starts.map((start, index) => ({start, first: cuts[index], end: cuts[index + 1]}));
}

// Class indices of a picture, and the milliseconds of the network.
async function segment({canvas}) {
  const {width, height} = canvas, [tall, wide] = model.size ?? [height, width];
  const [leastTall, leastWide] = model.size ?? [model.min_size, model.min_size];
  if (height < leastTall || width < leastWide) {
    throw new Error(`The picture has ${width} × ${height} pixels, this network takes ${leastWide} × ${leastTall} or more; enlarge it`);
  }
  const pixels = pixelsOf(canvas), order = model.channels === 'BGR' ? [2, 1, 0] : [0, 1, 2], labels = new Uint8Array(width * height);
  let milliseconds = 0;
  for (const row of windowsOf(height, tall)) {
    for (const column of windowsOf(width, wide)) {
      const image = new Uint8Array(3 * tall * wide);
      let place = 0;
      for (let y = row.start; y < row.start + tall; y++) {
        for (let pixel = 4 * (y * width + column.start), end = pixel + 4 * wide; pixel < end; pixel += 4) {
          for (const channel of order) image[place++] = pixels[pixel + channel];
        }
      }
      const start = performance.now();
      const outputs = await session.run({images: new ort.Tensor('uint8', image, [1, tall, wide, 3])});
      milliseconds += performance.now() - start;
      for (let y = row.first; y < row.end; y++) {
        const line = (y - row.start) * wide - column.start;
        labels.set(outputs.labels.data.subarray(line + column.first, line + column.end), y * width + column.first);
      }
    }
  }
  return {labels, png: () => labelPng(labels, width, height), milliseconds: {Network: milliseconds}};
}

// A PNG of class indices, the same in the three colors.
function labelPng(labels, width, height) {
  const colors = new Uint32Array(labels.length).map((_, index) => 0xff000000 + 0x10101 * labels[index]);
  const canvas = element('canvas', {width, height});
  canvas.getContext('2d').putImageData(new ImageData(new Uint8ClampedArray(colors.buffer), width, height), 0, 0);
  return blobOf(canvas, 'image/png');
}
