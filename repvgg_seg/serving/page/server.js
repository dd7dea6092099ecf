// The source of label maps of the page: the server that it comes from.
'use strict';
const SENT = ['image/png', 'image/jpeg'];

async function readModel() {
  return (await fetch('model')).json();
}

// What is sent of a picture is its file where the server takes it, else what the browser sees of it. The labels come as a gray PNG
// whose values are class indices.
async function segment({canvas, scale, file}) {
  const asIs = file && scale === 1 && SENT.includes(file.type) && file.size <= model.limits.bytes;
  const body = asIs ? file : await blobOf(canvas, 'image/jpeg', 0.95);
  const response = await fetch('segment', {method: 'POST', headers: {'Content-Type': body.type}, body});
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail);
  const png = new Blob([Uint8Array.from(atob(answer.labels), character => character.charCodeAt(0))], {type: 'image/png'});
  const bitmap = await decode(png), pixels = pixelsOf(canvasOf(bitmap, bitmap.width, bitmap.height));
  const labels = new Uint8Array(pixels.length / 4);
  for (let index = 0; index < labels.length; index++) labels[index] = pixels[4 * index];
  const {waited, computed} = answer.milliseconds;
  return {labels, png: () => png, milliseconds: {Network: computed, Waiting: waited}};
}
