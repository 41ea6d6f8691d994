// The maps: one for each model, and one in which the points move from a model to another.

const renderer = new URLSearchParams(location.hash.slice(1)).get("renderer");  // #renderer=canvas or =webgl
const usesWebGL = (renderer ? renderer === "webgl" : D.count > 20000) && WebGLPainter.isAvailable();
const SMALLEST_ZOOM = 0.5, LARGEST_ZOOM = 80;

class Map2D {
  constructor(from, to) {
    Object.assign(this, {from, to, blend: 0});
    this.below = make("canvas", {"aria-hidden": "true"});
    this.above = make("canvas", {"aria-hidden": "true"});
    this.box = make("div", {class: "map", tabindex: 0, role: "application"}, this.below, this.above);
    this.caption = make("figcaption", {});
    this.figure = make("figure", {}, this.caption, this.box);
    this.painter = new (usesWebGL ? WebGLPainter : CanvasPainter)(this.below);
    this.name();
  }

  name() {
    const models = this.from === this.to ? D.models[this.from] : `${D.models[this.from]} → ${D.models[this.to]}`;
    this.caption.textContent = models;
    const keys = "Arrow keys go from patent to patent, Enter selects one, plus and minus zoom.";
    this.box.setAttribute("aria-label", `Map of ${D.count.toLocaleString("en")} patents by ${models}. ${keys}`);
  }

  get scale() {  // pixels per unit: the home view fits
    const [, , halfWidth, halfHeight] = D.home, {clientWidth, clientHeight} = this.box;
    return Math.min(clientWidth / 2 / halfWidth, clientHeight / 2 / halfHeight) * state.view.zoom;
  }

  // A function from a patent to its pixels. It asks the page for its size once, not for every patent.
  get placing() {
    const from = D.xy[this.from], to = D.xy[this.to], {blend, scale} = this, {x, y} = state.view;
    const middle = this.box.clientWidth / 2, centre = this.box.clientHeight / 2;
    return n => {
      const a = from[2 * n], b = from[2 * n + 1];
      return [
        middle + (a + (to[2 * n] - a) * blend - x) * scale,
        centre - (b + (to[2 * n + 1] - b) * blend - y) * scale,
      ];
    };
  }

  get isShown() {
    return !this.figure.hidden && this.box.clientWidth > 0;
  }

  drawPoints() {
    const {from, to, blend, scale} = this, {clientWidth: width, clientHeight: height} = this.box;
    const usual = Math.min(6, Math.max(0.8, Math.min(3.5, 75 / Math.sqrt(D.count))) * state.view.zoom ** 0.4);
    const opacity = Math.min(0.8, Math.max(0.35, 90 / Math.sqrt(D.count)) * state.view.zoom ** 0.3);
    const count = Math.ceil(state.visible.length * pace.share);
    const all = {order: state.visible, count, radius: usual, opacity: state.found ? opacity / 4 : opacity};
    const large = state.found && Math.max(1.2 * usual, Math.min(3.5, 75 / Math.sqrt(state.found.length)));
    const found = state.found && {order: state.found, count: state.found.length, radius: large, opacity: 0.9};
    this.painter.paint({
      width, height, dense: Math.min(2, devicePixelRatio || 1), from, to, blend, scale, view: state.view,
      groups: D.groups[state.colouring], colours: theme.groups, layers: found ? [all, found] : [all],
    });
  }

  // The neighbours in the models of this map, each with what changed: kept, new or lost.
  get neighbours() {
    if (state.selected < 0 || !D.neighbours) return [];
    const models = this.from === this.to ? [this.from] : [this.from, this.to];
    const changes = new Map(models.flatMap(model => changesOf(state.selected, model).map(c => [c.patent, c.change])));
    return [...changes];
  }

  drawMarks() {
    const {above} = this, pen = above.getContext("2d"), dense = Math.min(2, devicePixelRatio || 1);
    const {clientWidth: width, clientHeight: height} = this.box;
    above.width = Math.round(width * dense);
    above.height = Math.round(height * dense);
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    const place = this.placing;
    if (state.selected >= 0) {
      const start = place(state.selected);
      if (this.from !== this.to) this.drawPath(pen, state.selected);
      for (const [n, change] of this.neighbours) {
        pen.strokeStyle = theme.changes[change];
        pen.setLineDash(change === "lost" ? [3, 3] : []);
        pen.lineWidth = 1.2;
        pen.beginPath();
        pen.moveTo(...start);
        pen.lineTo(...place(n));
        pen.stroke();
        this.drawRing(pen, n, place(n), 6, theme.changes[change]);
      }
      this.drawRing(pen, state.selected, start, 10, theme.ink);
    }
    if (state.pointed >= 0 && state.pointed !== state.selected) {
      this.drawRing(pen, state.pointed, place(state.pointed), 9, theme.ink);
    }
  }

  // A ring on the patent; at the edge, dashed, if it lies outside.
  drawRing(pen, n, there, radius, colour) {
    const edge = radius + 2, {clientWidth: width, clientHeight: height} = this.box;
    const [x, y] = [[there[0], width], [there[1], height]].map(([v, side]) => Math.min(side - edge, Math.max(edge, v)));
    pen.setLineDash(x === there[0] && y === there[1] ? [] : [4, 4]);
    for (const [lineWidth, stroke] of [[radius / 2, theme.paper], [radius / 4, colour]]) {
      pen.lineWidth = lineWidth;
      pen.strokeStyle = stroke;
      pen.beginPath();
      pen.arc(x, y, radius, 0, 7);
      pen.stroke();
    }
    pen.setLineDash([]);
    pen.fillStyle = theme.groups[D.groups[state.colouring][n]];
    pen.beginPath();
    pen.arc(x, y, radius / 2, 0, 7);
    pen.fill();
  }

  // The way of a patent from one model to the other.
  drawPath(pen, n) {
    const {blend} = this, ends = [0, 1].map(end => {
      this.blend = end;
      return this.placing(n);
    });
    this.blend = blend;
    pen.strokeStyle = theme.ink;
    pen.setLineDash([2, 4]);
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.moveTo(...ends[0]);
    pen.lineTo(...ends[1]);
    pen.stroke();
    pen.setLineDash([]);
  }

  // The visible patent for which `far` of its distance from these pixels, to the right and down, is least; -1 if none is
  // below `limit`. It visits 200,000 points at each move of the mouse, so it makes no arrays.
  least(x, y, far, limit) {
    const from = D.xy[this.from], to = D.xy[this.to], {blend, scale} = this, {view} = state;
    const right = this.box.clientWidth / 2 - view.x * scale - x, down = this.box.clientHeight / 2 + view.y * scale - y;
    let best = -1, least = limit;
    for (const n of state.visible) {
      const a = from[2 * n], b = from[2 * n + 1];
      const value = far((a + (to[2 * n] - a) * blend) * scale + right, down - (b + (to[2 * n + 1] - b) * blend) * scale);
      if (value < least) {
        least = value;
        best = n;
      }
    }
    return best;
  }

  // The patent at these pixels, no farther than `reach` away, or -1.
  nearest(x, y, reach) {
    return this.least(x, y, (a, b) => a * a + b * b, reach * reach);
  }

  // The patent next to `n` in a direction, within 45° of it, or -1.
  next(n, right, down) {
    const start = n < 0 ? [this.box.clientWidth / 2, this.box.clientHeight / 2] : this.placing(n);
    return this.least(...start, (a, b) => {
      const along = a * right + b * down, across = Math.abs(a * down + b * right);
      return along > 0.5 && across <= along ? along + 2 * across : Infinity;
    }, Infinity);
  }

  zoom(factor, x = this.box.clientWidth / 2, y = this.box.clientHeight / 2) {
    const {view} = state, before = this.scale;
    view.zoom = Math.min(LARGEST_ZOOM, Math.max(SMALLEST_ZOOM, view.zoom * factor));
    const change = 1 / before - 1 / this.scale;  // what lies under the mouse stays there
    view.x += (x - this.box.clientWidth / 2) * change;
    view.y -= (y - this.box.clientHeight / 2) * change;
    drawMoving();
  }

  pan(right, down) {
    state.view.x -= right / this.scale;
    state.view.y += down / this.scale;
    drawMoving();
  }

  // Moves the view as little as possible so that the patent is in it.
  reveal(n) {
    const [x, y] = this.placing(n), {clientWidth: width, clientHeight: height} = this.box;
    const [right, down] = [[x, width], [y, height]].map(([v, side]) => Math.min(side - 30, Math.max(30, v)) - v);
    if (right || down) this.pan(right, down);
  }
}

const maps = D.models.map((_, model) => new Map2D(model, model));
const moving = D.models.length > 1 ? new Map2D(0, D.models.length - 1) : null;
const allMaps = moving ? [...maps, moving] : maps;
byId("maps").append(...allMaps.map(map => map.figure));
if (moving) moving.figure.hidden = true;

// Columns of the grid so that the maps are as large as they can be.
function arrange() {
  const {clientWidth: width, clientHeight: height} = byId("maps"), count = allMaps.filter(m => !m.figure.hidden).length;
  const side = columns => Math.min(width / columns, height / Math.ceil(count / columns));
  let best = 1;
  for (let columns = 2; columns <= count; columns++) if (side(columns) > side(best) * 1.02) best = columns;
  byId("maps").style.setProperty("--columns", best);
}

// While the view moves, a frame draws as many points as the browser can at 30 frames a second: the first `share` of them,
// an even choice, for their order is mixed. When it rests, all are drawn.
const pace = {share: 1, least: Math.min(1, 5000 / D.count), last: 0, rest: 0};
const SLOW = 36, QUICK = 22, REST = 200;  // milliseconds

function drawMoving() {
  clearTimeout(pace.rest);
  pace.rest = setTimeout(() => {
    const isWhole = pace.share === 1;
    pace.last = 0;
    if (isWhole) return;
    const {share} = pace;
    pace.share = 1;
    draw();
    requestAnimationFrame(() => { pace.share = share; });  // where the next movement starts
  }, REST);
  draw.moving = true;
  draw();
}

function keepPace(now) {
  const gap = pace.last ? now - pace.last : 0;
  if (gap > SLOW) pace.share *= 0.7;
  else if (gap > 0 && gap < QUICK) pace.share *= 1.1;
  pace.share = Math.min(1, Math.max(pace.least, pace.share));
  pace.last = now;
}

let waiting = false;
function draw(points = true) {
  draw.points ||= points;
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(now => {
    waiting = false;
    if (draw.moving) keepPace(now);
    draw.moving = false;
    for (const map of allMaps.filter(m => m.isShown)) {
      if (draw.points) map.drawPoints();
      map.drawMarks();
    }
    draw.points = false;
  });
}

function showAll() {
  Object.assign(state.view, {x: D.home[0], y: D.home[1], zoom: 1});
  draw();
}

// Side by side, or the one map whose points move.
function setView(moves) {
  maps.forEach(map => { map.figure.hidden = moves; });
  if (moving) moving.figure.hidden = byId("mover").hidden = !moves;
  byId("side").setAttribute("aria-pressed", !moves);
  byId("move").setAttribute("aria-pressed", moves);
  arrange();
  draw();
}

function setBlend(blend) {
  moving.blend = Math.min(1, Math.max(0, blend));
  byId("blend").value = Math.round(moving.blend * 100);
  const near = moving.blend < 0.5 ? moving.from : moving.to;
  byId("blend").setAttribute("aria-valuetext", `${Math.round(moving.blend * 100)} %, nearer to ${D.models[near]}`);
  drawMoving();
}

// All the way to the farther end, in two seconds.
function play() {
  const start = moving.blend, end = start < 0.5 ? 1 : 0, began = performance.now();
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return setBlend(end);
  const step = now => {
    const share = Math.min(1, (now - began) / 2000);
    setBlend(start + (end - start) * share * share * (3 - 2 * share));
    if (share < 1) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

function startMaps() {
  if (!moving) {
    byId("views").hidden = true;
  } else {
    for (const [id, model] of [["from", 0], ["to", D.models.length - 1]]) {
      byId(id).append(...D.models.map((name, n) => make("option", {value: n, selected: n === model}, name)));
      byId(id).onchange = () => {
        moving[id] = Number(byId(id).value);
        moving.name();
        draw();
      };
    }
    byId("blend").oninput = e => setBlend(e.target.value / 100);
    byId("play").onclick = play;
    byId("side").onclick = () => setView(false);
    byId("move").onclick = () => setView(true);
    setBlend(0);
  }
  byId("home").onclick = showAll;
  new ResizeObserver(() => { arrange(); draw(); }).observe(byId("maps"));
}
