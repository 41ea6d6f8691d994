"""The interactive picture: one HTML file that needs no network, with the titles of the patents on hover."""

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..common.files import beside
from .layout import Groups, common_frame
from .scatter import figure_text


def scatter_html(
    points: Mapping[str, np.ndarray],
    patents: pd.DataFrame,
    groups: Groups,
    metrics: pd.DataFrame,
    path: Path,
    title: str,
) -> None:
    """Write the panels of `plots.scatter_png` as a page to explore; the arguments are the same.

    A patent under the mouse is ringed in every panel (dashed, at the edge, where it lies outside the view), and
    its title shown; a click keeps it. The wheel zooms and dragging moves all panels together. A click on the
    legend hides a group. The page holds all its data (1.5 MB for 10,000 patents and 4 models) and loads nothing.
    """
    data = {
        "frame": common_frame(points),
        "panels": [np.asarray(xy, dtype=float).round(4).ravel().tolist() for xy in points.values()],
        "order": np.random.default_rng(0).permutation(len(patents)).tolist(),  # no group hides another
        "group": [list(groups.colours).index(key) for key in groups.of],
        "colours": list(groups.colours.values()),
        "id": patents["patent_id"].astype(str).tolist(),
        "title": patents["title"].fillna("").astype(str).tolist(),
        "classes": [", ".join(symbols) or "unclassified" for symbols in patents["subclasses"]],
    }
    page = PAGE.format(
        title=escape(title),
        panels="\n".join(_panel(name, metrics) for name in points),
        legend="\n".join(
            f'<button aria-pressed="true"><i style="background:{escape(colour)}"></i>'
            f"{escape(groups.names[key])} <small>{groups.counts[key]:,}</small></button>"
            for key, colour in groups.colours.items()
        ),
        data=_inert(data),
        style=STYLE,
        script=SCRIPT,
    )
    with beside(path) as scratch:
        scratch.write_text(page, encoding="utf-8")


def _panel(name: str, metrics: pd.DataFrame) -> str:
    figures = metrics.loc[name] if name in metrics.index else pd.Series(dtype=float)
    rows = (
        f"<tr><th>{escape(str(m))}</th><td>{figure_text(value)}</td></tr>" for m, value in figures.to_dict().items()
    )
    return (
        f'<figure><figcaption>{escape(name)}</figcaption><div class="panel"><canvas></canvas><canvas></canvas></div>'
        f"<table>{''.join(rows)}</table></figure>"
    )


def _inert(data: dict[str, Any]) -> str:
    # Titles are not ours: without < > & no text can end the script element or open another, and JSON's ASCII
    # form leaves no U+2028.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p>Point at a patent to find it in every panel, click to keep it. Wheel: zoom. Drag: move. Double click: reset.
Click a legend entry to hide or show it, Shift-click to see it alone.</p>
<nav>{legend}</nav>
<main>{panels}</main>
<div id="tip" hidden><b></b><span></span></div>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""

STYLE = """
body { font: 15px/1.4 system-ui, "Segoe UI", Roboto, sans-serif; color: #222; background: #fff; margin: 20px 28px }
h1 { font-size: 22px; margin: 0 0 4px } p { color: #666; margin: 0 0 12px; font-size: 14px }
nav { display: flex; flex-wrap: wrap; gap: 4px 6px; margin-bottom: 14px }
button { font: inherit; font-size: 14px; border: 1px solid #ddd; border-radius: 14px; background: #fff; color: #222;
  padding: 2px 11px 2px 8px; cursor: pointer }
button[aria-pressed=false] { opacity: .4; text-decoration: line-through }
button small { color: #666 }
i { display: inline-block; width: 11px; height: 11px; border-radius: 50%; margin-right: 6px }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(340px, 100%), 1fr)); gap: 22px }
figure { margin: 0; max-width: 640px } figcaption { font-weight: 600; margin-bottom: 5px; overflow-wrap: anywhere }
.panel { position: relative; aspect-ratio: 1; border: 1px solid #ccc; cursor: crosshair; touch-action: none }
canvas { position: absolute; inset: 0; width: 100%; height: 100% }
canvas + canvas { pointer-events: none }
table { width: 100%; border-collapse: collapse; margin-top: 6px; font-size: 14px }
th { text-align: left; font-weight: 400 }
td { text-align: right; font-weight: 600; font-variant-numeric: tabular-nums }
tr { border-bottom: 1px solid #e8e8e8 }
#tip { position: fixed; max-width: 340px; background: #fff; border: 1px solid #999; border-radius: 5px;
  padding: 7px 10px; box-shadow: 0 2px 8px #0003; pointer-events: none; font-size: 14px;
  overflow-wrap: anywhere; z-index: 1 }
#tip[hidden] { display: none } #tip span { display: block; color: #555; margin-top: 2px }
"""

SCRIPT = """
"use strict";
const D = JSON.parse(document.getElementById("data").textContent);
const tip = document.getElementById("tip"), buttons = [...document.querySelectorAll("nav button")];
const panels = [...document.querySelectorAll(".panel")].map((box, n) => {
  const [below, above] = box.children;
  return {box, xy: D.panels[n], below, above};
});
const [middleX, middleY, reach] = D.frame;
const home = {x: middleX, y: middleY, zoom: 1};  // the middle of every panel and its magnification: one view for all
const shown = D.colours.map(() => true);
let view = {...home}, marked = -1, kept = false, drag = null, waiting = false;

const scale = panel => panel.box.clientWidth / 2 / reach * view.zoom;  // pixels per unit
const placing = panel => {  // patent → pixels; asks the page for its size once, not for every patent
  const half = panel.box.clientWidth / 2, s = scale(panel);
  return n => [half + (panel.xy[2 * n] - view.x) * s, half - (panel.xy[2 * n + 1] - view.y) * s];
};

function clear(panel, canvas) {
  const side = panel.box.clientWidth, dense = window.devicePixelRatio || 1, pen = canvas.getContext("2d");
  canvas.width = canvas.height = Math.round(side * dense);
  pen.setTransform(dense, 0, 0, dense, 0, 0);
  return pen;
}

function drawPoints(panel) {
  const pen = clear(panel, panel.below), side = panel.box.clientWidth, place = placing(panel);
  const radius = Math.min(6, Math.max(1.3, Math.min(3.5, 75 / Math.sqrt(D.id.length))) * view.zoom ** 0.4);
  pen.globalAlpha = 0.75;
  for (const n of D.order) {
    if (!shown[D.group[n]]) continue;
    const [x, y] = place(n);
    if (x < -radius || y < -radius || x > side + radius || y > side + radius) continue;
    pen.fillStyle = D.colours[D.group[n]];
    pen.beginPath(); pen.arc(x, y, radius, 0, 7); pen.fill();
  }
}

function drawMark(panel) {
  const pen = clear(panel, panel.above);
  if (marked < 0) return;
  const there = placing(panel)(marked), edge = panel.box.clientWidth - 11;
  const [x, y] = there.map(v => Math.min(edge, Math.max(11, v)));
  pen.setLineDash(x === there[0] && y === there[1] ? [] : [4, 4]);  // dashed: it lies outside, over there
  for (const [width, colour] of [[5, "#fff"], [2.5, "#000"]]) {
    pen.lineWidth = width; pen.strokeStyle = colour;
    pen.beginPath(); pen.arc(x, y, 9, 0, 7); pen.stroke();
  }
  pen.fillStyle = D.colours[D.group[marked]];
  pen.beginPath(); pen.arc(x, y, 5, 0, 7); pen.fill();
}

function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; panels.forEach(p => { drawPoints(p); drawMark(p); }); });
}

function nearest(panel, x, y) {
  const place = placing(panel);
  let best = -1, least = 12 ** 2;  // no farther than 12 pixels
  for (let n = 0; n < D.id.length; n++) {
    if (!shown[D.group[n]]) continue;
    const [a, b] = place(n), far = (a - x) ** 2 + (b - y) ** 2;
    if (far < least) { least = far; best = n; }
  }
  return best;
}

function mark(n, event) {
  if (n !== marked) { marked = n; panels.forEach(drawMark); }
  tip.hidden = n < 0;
  if (n < 0) return;
  tip.children[0].textContent = D.title[n];  // textContent: a title is text, never markup
  tip.children[1].textContent = D.id[n] + " · " + D.classes[n];
  const room = (at, size, all) => at + 16 + size > all ? Math.max(0, at - 16 - size) : at + 16;
  tip.style.left = room(event.clientX, tip.offsetWidth, innerWidth) + "px";
  tip.style.top = room(event.clientY, tip.offsetHeight, innerHeight) + "px";
}

for (const panel of panels) {
  const box = panel.box, at = e => {
    const r = box.getBoundingClientRect();
    return [e.clientX - r.left - box.clientLeft, e.clientY - r.top - box.clientTop];
  };
  box.onpointerdown = e => { drag = {x: e.clientX, y: e.clientY, moved: false}; box.setPointerCapture(e.pointerId); };
  box.onpointermove = e => {
    if (!drag) { if (!kept) mark(nearest(panel, ...at(e)), e); return; }
    if (!drag.moved && Math.hypot(e.clientX - drag.x, e.clientY - drag.y) < 4) return;  // a click may tremble
    const s = scale(panel);
    view.x -= (e.clientX - drag.x) / s; view.y += (e.clientY - drag.y) / s;
    drag = {x: e.clientX, y: e.clientY, moved: true};
    tip.hidden = true;
    draw();
  };
  box.onpointerup = e => {
    if (drag && !drag.moved) {
      const n = nearest(panel, ...at(e));
      kept = n >= 0 && !(kept && n === marked);
      mark(n, e);
    }
    drag = null;
  };
  box.onpointercancel = () => { drag = null; };
  box.onpointerleave = () => { if (!kept && !drag) mark(-1); };
  box.ondblclick = () => { view = {...home}; kept = false; mark(-1); draw(); };
  box.addEventListener("wheel", e => {
    e.preventDefault();
    const before = scale(panel), [x, y] = at(e).map(v => v - box.clientWidth / 2);
    view.zoom = Math.min(60, Math.max(0.5, view.zoom * Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : 0.0015))));
    const change = 1 / before - 1 / scale(panel);  // what lies under the mouse stays there
    view.x += x * change; view.y -= y * change;
    if (!kept) tip.hidden = true;
    draw();
  }, {passive: false});
}

buttons.forEach((button, n) => button.onclick = e => {
  const alone = shown[n] && shown.every((on, m) => on === (m === n));
  if (e.shiftKey) shown.forEach((_, m) => { shown[m] = alone || m === n; });
  else shown[n] = !shown[n];
  buttons.forEach((b, m) => b.setAttribute("aria-pressed", shown[m]));
  if (marked >= 0 && !shown[D.group[marked]]) { kept = false; mark(-1); }
  draw();
});
new ResizeObserver(draw).observe(document.querySelector("main"));
draw();
"""
