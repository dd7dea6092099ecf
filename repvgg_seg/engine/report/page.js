'use strict';
const report = JSON.parse(document.getElementById('data').textContent);
const images = report.images, classes = report.classes, against = report.against;
const layers = ['image', 'label', 'prediction', 'errors'];
const suffixes = {image: 'jpg', label: 'png', prediction: 'png', errors: 'jpg'};
const find = id => document.getElementById(id);
const text = (value, digits = 1) => value === null ? '–' : value.toFixed(digits).replace('-', '−');
const signed = value => value === null ? '–' : (value > 0 ? '+' : '') + text(value);
const changeOf = number => against ? against.images[number].change : null;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Names without what all of them begin and end with, such as a city and a suffix.
function shorten(names) {
  const first = names[0];
  const shared = (length, at) => names.every(name => name.length > length && at(name, length) === at(first, length));
  let start = 0, end = 0;
  while (shared(start, (name, index) => name[index])) start++;
  while (shared(end, (name, index) => name[name.length - 1 - index])) end++;
  start = first.slice(0, start).search(/[^/_-]*$/);
  const ending = first.slice(first.length - end).search(/[._-]/);
  end = ending < 0 ? 0 : end - ending;
  const short = names.map(name => name.slice(start, name.length - end));
  return names.length > 1 && short.every(name => name) ? short : names;
}
const shortNames = shorten(images.map(image => image.name));

function picture(number, layer) {
  return `images/${String(number).padStart(5, '0')}_${layer}.${suffixes[layer]}`;
}

function earlierPicture(number, layer) {
  return `${against.pictures}/${picture(against.images[number].number, layer)}`;
}

// Tables: a click on a column's header sorts by it, a second one the other way. What has no value stays at the end.
function sortTable(table, key, direction) {
  const value = row => {
    const raw = row.querySelector(`[data-key="${key}"]`).dataset.value;
    return raw === '' ? null : key === 'name' ? raw.toLowerCase() : Number(raw);
  };
  const sign = direction === 'ascending' ? 1 : -1, body = table.tBodies[0];
  const rows = [...body.rows].map(row => [value(row), row]);
  rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : sign * (a > b ? 1 : a < b ? -1 : 0));
  body.append(...rows.map(([, row]) => row));
  for (const button of table.tHead.querySelectorAll('button')) {
    button.parentElement.setAttribute('aria-sort', button.dataset.key === key ? direction : 'none');
  }
}

for (const table of document.querySelectorAll('.sortable')) {
  for (const button of table.tHead.querySelectorAll('button')) {
    button.addEventListener('click', () => {
      const other = {ascending: 'descending', descending: 'ascending'}[button.parentElement.getAttribute('aria-sort')];
      sortTable(table, button.dataset.key, other || button.dataset.initial);
    });
  }
}

// Galleries.
function fill(gallery, numbers, describe) {
  gallery.replaceChildren(...numbers.map(number => {
    const card = element('button', {type: 'button', class: 'card', 'data-image': number, title: images[number].name},
      element('img', {src: picture(number, 'errors'), alt: '', loading: 'lazy'}),
      element('span', {}, element('b', {}, shortNames[number]), element('i', {}, describe(number))));
    card.addEventListener('click', () => show(number, numbers));
    return card;
  }));
}

function sorted(value, sign) {
  const numbers = images.map((_, number) => number);
  const key = number => value(number);
  return numbers.sort((a, b) => key(a) === null || key(b) === null ? (key(a) === null) - (key(b) === null) :
    sign * (key(a) > key(b) ? 1 : key(a) < key(b) ? -1 : 0));
}

const iouOf = number => images[number].IoU;
const describeIou = number => `IoU ${text(iouOf(number))}`;
const describeChange = number => `${signed(changeOf(number))} → ${text(iouOf(number))}`;
for (const gallery of document.querySelectorAll('[data-gallery]')) {
  const kind = gallery.dataset.gallery;
  if (kind === 'worst' || kind === 'random') fill(gallery, report[kind], describeIou);
  else {
    const sign = kind === 'lost' ? 1 : -1;
    const moved = sorted(changeOf, sign).filter(number => sign * changeOf(number) < 0).slice(0, 6);
    if (moved.length) fill(gallery, moved, describeChange);
    else gallery.replaceChildren(element('p', {class: 'placeholder'}, 'None.'));
  }
}

// The strip: a bar for each image.
const strip = find('strip');
const bars = images.map((image, number) => {
  const change = against ? `, ${signed(changeOf(number))} points` : '';
  const described = `${image.name}: ${describeIou(number)}${change}`;
  const bar = element('button', {type: 'button', 'data-image': number, title: described, 'aria-label': described,
    style: `--value: ${image.IoU ?? 0}`, class: image.IoU === null ? 'none' : ''});
  bar.addEventListener('click', () => show(number, [...strip.children].map(child => Number(child.dataset.image))));
  for (const event of ['mouseenter', 'focus']) bar.addEventListener(event, () => { find('strip-name').textContent = described; });
  return bar;
});
const orders = {
  worst: () => sorted(iouOf, 1), best: () => sorted(iouOf, -1), change: () => sorted(changeOf, 1),
  name: () => sorted(number => images[number].name.toLowerCase(), 1),
};
function orderStrip(order) {
  strip.append(...orders[order]().map(number => bars[number]));
  for (const button of document.querySelectorAll('[data-order]')) {
    button.setAttribute('aria-pressed', button.dataset.order === order);
  }
}
for (const button of document.querySelectorAll('[data-order]')) {
  button.addEventListener('click', () => orderStrip(button.dataset.order));
}
orderStrip('worst');

// The confusion matrix: a cell shows the images with most of its pixels.
function showCell(label, predicted) {
  for (const button of document.querySelectorAll('#matrix button')) {
    button.setAttribute('aria-pressed', button.dataset.cell === `${label},${predicted}`);
  }
  const pixels = images.map(image => (image.confusion.find(([a, b]) => a === label && b === predicted) || [0, 0, 0])[2]);
  const with_ = sorted(number => pixels[number], -1).filter(number => pixels[number]);
  const shown = with_.slice(0, 6), gallery = element('div', {class: 'gallery small'});
  const all = pixels.reduce((sum, each) => sum + each, 0), row = report.confusion[label].reduce((sum, each) => sum + each, 0);
  const title = label === predicted ? `${classes[label].name}, found` : `${classes[label].name} predicted as ${classes[predicted].name}`;
  find('cell').replaceChildren(element('h3', {}, title),
    element('p', {class: 'note'}, `${all.toLocaleString('en')} pixels, ${text(100 * all / row, 2)}% of the class, in ` +
      `${with_.length} of ${images.length} images. Those with most:`), gallery);
  fill(gallery, shown, number => `${pixels[number].toLocaleString('en')} px`);
}
find('matrix').addEventListener('click', event => {
  const cell = event.target.closest('[data-cell]');
  if (cell) showCell(...cell.dataset.cell.split(',').map(Number));
});

const errors = report.confusion.flatMap((row, label) => row.map((pixels, predicted) => ({label, predicted, pixels})))
  .filter(({label, predicted, pixels}) => label !== predicted && pixels);
if (errors.length) {
  const most = errors.reduce((a, b) => b.pixels > a.pixels ? b : a);
  showCell(most.label, most.predicted);
}

// The viewer: two pictures of an image, with a slider between them.
const viewer = find('viewer'), slider = find('slider'), stage = find('stage');
const sides = {left: 'label', right: 'prediction'};
const sources = Object.fromEntries(layers.map(layer => [layer, number => picture(number, layer)]));
if (against) {
  sources['earlier prediction'] = number => earlierPicture(number, 'prediction');
  sources['earlier errors'] = number => earlierPicture(number, 'errors');
}
let current = 0, listed = [];

function draw() {
  for (const side of ['left', 'right']) {
    find(side).src = sources[sides[side]](current);
    find(side).alt = sides[side];
    for (const button of document.querySelectorAll(`[data-side="${side}"] button`)) {
      button.setAttribute('aria-pressed', button.textContent === sides[side]);
    }
  }
}

function classesPresent(number) {
  const areas = classes.map(() => [0, 0, 0]);
  for (const [label, predicted, pixels] of images[number].confusion) {
    areas[label][1] += pixels;
    areas[predicted][2] += pixels;
    if (label === predicted) areas[label][0] += pixels;
  }
  const all = areas.reduce((sum, [, label]) => sum + label, 0);
  return areas.map(([both, label, predicted], index) => ({index, share: label / all, iou: 100 * both / (label + predicted - both)}))
    .filter(entry => entry.iou >= 0).sort((a, b) => b.share - a.share);
}

function show(number, among) {
  current = number;
  listed = among;
  const place = listed.indexOf(number) + 1;
  const change = changeOf(number) === null ? '' : ` (${signed(changeOf(number))})`;
  find('viewer-title').textContent = `${images[number].name} · ${describeIou(number)}${change} · ${place} of ${listed.length}`;
  find('present').replaceChildren(...classesPresent(number).map(({index, share, iou}) => element('span', {},
    element('i', {class: 'swatch', style: `background: rgb(${classes[index].color})`}), `${classes[index].name} `,
    element('i', {}, share ? `IoU ${text(iou)}, ${text(100 * share)}% of the image` : 'predicted only'))));
  draw();
  if (!viewer.open) viewer.showModal();
}

function step(by) {
  const place = (listed.indexOf(current) + by + listed.length) % listed.length;
  show(listed[place], listed);
}

for (const group of document.querySelectorAll('[data-side]')) {
  for (const layer of Object.keys(sources)) {
    const button = element('button', {type: 'button'}, layer);
    button.addEventListener('click', () => {
      sides[group.dataset.side] = layer;
      draw();
    });
    group.append(button);
  }
}
slider.addEventListener('input', () => stage.style.setProperty('--at', `${slider.value}%`));
find('right').addEventListener('load', () => {
  const {naturalWidth, naturalHeight} = find('right');
  stage.style.setProperty('--aspect', naturalWidth / naturalHeight);
});
find('previous').addEventListener('click', () => step(-1));
find('next').addEventListener('click', () => step(1));
find('close').addEventListener('click', () => viewer.close());
viewer.addEventListener('click', event => { if (event.target === viewer) viewer.close(); });
viewer.addEventListener('keydown', event => {
  if (event.target !== slider && (event.key === 'ArrowLeft' || event.key === 'ArrowRight')) {
    event.preventDefault();
    step(event.key === 'ArrowLeft' ? -1 : 1);
  }
});
