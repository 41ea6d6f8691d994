// What the page shows. D holds one entry a patent: xy, near and cosines by model, groups by colouring.

const byId = id => document.getElementById(id);
const D = JSON.parse(byId("header").textContent);
const REACH = 32767;

async function unpacked(id) {
  const text = atob(byId(id).textContent), bytes = new Uint8Array(text.length);
  for (let n = 0; n < bytes.length; n++) bytes[n] = text.charCodeAt(n);
  byId(id).remove();
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

const parts = (array, size) => Array.from({length: array.length / size}, (_, n) => array.subarray(n * size, (n + 1) * size));

async function readArrays() {
  const names = ["xy", "near", "cosines", "groups", "year", "texts"];
  const [xy, near, cosines, groups, year, texts] = await Promise.all(names.map(unpacked));
  D.xy = parts(new Int16Array(xy), 2 * D.count);
  D.near = D.neighbours ? parts(new Uint32Array(near), D.neighbours * D.count) : [];
  D.cosines = D.neighbours ? parts(new Int8Array(cosines), D.neighbours * D.count) : [];
  D.groups = parts(new Uint8Array(groups), D.count);
  D.year = new Int16Array(year);
  Object.assign(D, JSON.parse(new TextDecoder().decode(texts)));
  D.order = shuffled(D.count);
}

// Patents are drawn in a mixed order, so that no group hides another: steps of about the golden section of their number,
// without a common divisor, reach each of them once.
function shuffled(count) {
  const divisor = (a, b) => b ? divisor(b, a % b) : a;
  let step = Math.max(1, Math.round(count * 0.618));
  while (divisor(step, count) > 1) step++;
  return Uint32Array.from({length: count}, (_, n) => n * step % count);
}

const nearestOf = (model, n) => D.near[model].subarray(n * D.neighbours, (n + 1) * D.neighbours);

// An element with attributes and children. A string becomes a text, never markup.
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const about = n => [D.id[n], D.date[n], D.classes[n]].filter(Boolean).join(" · ");
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

// The state of the page. `view`: the middle of every map in the coordinates of the points, and its magnification.
const state = {
  view: {x: D.home[0], y: D.home[1], zoom: 1},
  selected: -1,  // the patent whose neighbours are listed
  pointed: -1,  // the one under the mouse, or reached by an arrow key
  found: null,  // the patents that the search found, if there is one
  colouring: 0,
  hidden: D.colourings.map(colouring => colouring.names.map(() => false)),
  years: null,  // first and last
  visible: new Uint32Array(0),  // patents that no filter hides, in the order in which they are drawn
};
