// Mouse, touch and keyboard on the maps.

const CLICK = 4;  // pixels that a hand may tremble
const REACHES = {mouse: 12, pen: 16, touch: 24};  // how far from a patent one may point

function point(n, map = null, x = 0, y = 0) {
  if (n !== state.pointed) {
    state.pointed = n;
    draw(false);
  }
  const tip = byId("tip");
  tip.hidden = n < 0 || !map;
  if (tip.hidden) return;
  tip.children[0].textContent = D.title[n];
  tip.children[1].textContent = about(n);
  const box = map.box.getBoundingClientRect();
  const room = (at, size, all) => Math.max(0, at + 16 + size > all ? at - 16 - size : at + 16);
  tip.style.left = `${room(box.left + x, tip.offsetWidth, innerWidth)}px`;
  tip.style.top = `${room(box.top + y, tip.offsetHeight, innerHeight)}px`;
}

function select(n) {
  state.selected = n;
  point(-1);
  showDetail();
  draw(false);
}

// On a phone, the list covers the lower part of the window: scrolls until the patent is in sight.
function uncover(map, n) {
  const detail = byId("detail");
  if (n < 0 || getComputedStyle(detail).position !== "fixed") return;
  const lowest = map.box.getBoundingClientRect().top + map.placing(n)[1] + 40;
  scrollBy(0, Math.max(0, lowest - detail.getBoundingClientRect().top));
}

function listen(map) {
  const {box} = map, fingers = new Map();  // pointers that are down: id → where
  let moved = false;
  const at = e => {
    const r = box.getBoundingClientRect();
    return [e.clientX - r.left - box.clientLeft, e.clientY - r.top - box.clientTop];
  };
  const middleOf = () => [0, 1].map(axis => [...fingers.values()].reduce((sum, f) => sum + f[axis], 0) / fingers.size);
  const spread = () => fingers.size < 2 ? 0 : Math.hypot(...[0, 1].map(axis => {
    const [a, b] = [...fingers.values()];
    return a[axis] - b[axis];
  }));

  box.addEventListener("pointerdown", e => {
    if (e.button > 0) return;
    box.setPointerCapture(e.pointerId);
    fingers.set(e.pointerId, at(e));
    moved = fingers.size > 1;  // the end of a pinch is no tap
  });
  box.addEventListener("pointermove", e => {
    if (!fingers.has(e.pointerId)) {
      if (e.pointerType !== "touch") point(map.nearest(...at(e), REACHES[e.pointerType] ?? 12), map, ...at(e));
      return;
    }
    const last = fingers.get(e.pointerId), now = at(e);
    if (!moved && Math.hypot(now[0] - last[0], now[1] - last[1]) < CLICK) return;
    const before = middleOf(), wide = spread();
    fingers.set(e.pointerId, now);
    moved = true;
    const after = middleOf();
    map.pan(after[0] - before[0], after[1] - before[1]);
    if (wide) map.zoom(spread() / wide, ...after);
    point(-1);
  });
  box.addEventListener("pointerup", e => {
    if (fingers.has(e.pointerId) && !moved) {
      select(map.nearest(...at(e), REACHES[e.pointerType] ?? 12));
      uncover(map, state.selected);
    }
    fingers.delete(e.pointerId);
  });
  box.addEventListener("pointercancel", e => fingers.delete(e.pointerId));
  box.addEventListener("pointerleave", () => point(-1));
  box.addEventListener("dblclick", showAll);
  box.addEventListener("wheel", e => {
    e.preventDefault();
    map.zoom(Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : 0.0015)), ...at(e));
  }, {passive: false});
  box.addEventListener("keydown", e => {
    if (key(map, e)) e.preventDefault();
  });
  box.addEventListener("blur", () => point(-1));
}

const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

function key(map, e) {
  const arrow = ARROWS[e.key];
  if (e.ctrlKey || e.metaKey || e.altKey) return false;
  if (arrow && e.shiftKey) map.pan(-60 * arrow[0], -60 * arrow[1]);
  else if (arrow) go(map, ...arrow);
  else if (e.key === "Enter" || e.key === " ") select(state.pointed >= 0 ? state.pointed : state.selected);
  else if (e.key === "+" || e.key === "=") map.zoom(1.3);
  else if (e.key === "-") map.zoom(1 / 1.3);
  else return false;
  return true;
}

function go(map, right, down) {
  const n = map.next(state.pointed >= 0 ? state.pointed : state.selected, right, down);
  if (n < 0) return;
  map.reveal(n);
  point(n, map, ...map.placing(n));
  byId("spoken").textContent = `${D.title[n]}, ${about(n)}`;
}

function startPointing() {
  allMaps.forEach(listen);
  document.addEventListener("keydown", e => {
    if (e.ctrlKey || e.metaKey || e.altKey || byId("shortcuts").open) return;
    if (e.key === "Escape") {
      if (byId("query").value) endSearch();
      else if (document.activeElement === byId("query")) byId("query").blur();
      else select(-1);
      return;
    }
    if (e.target.matches("input[type=search], select")) return;
    const action = {
      "/": () => byId("query").focus(),
      "?": () => byId("shortcuts").showModal(),
      "0": showAll,
      t: () => setDark(!theme.isDark),
      v: () => moving && setView(moving.figure.hidden),
      p: () => moving && (setView(true), play()),
      "[": () => moving && (setView(true), setBlend(moving.blend - 0.1)),
      "]": () => moving && (setView(true), setBlend(moving.blend + 0.1)),
    }[e.key];
    if (!action) return;
    e.preventDefault();
    action();
  });
  byId("help").onclick = () => byId("shortcuts").showModal();
}
