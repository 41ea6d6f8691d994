"""Models side by side: the data of the picture, and the picture as a figure.

Figures are made without pyplot, so none stays open; a notebook that shows them runs `%matplotlib inline` first.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from ..evaluation.metrics import METRICS
from ..search.nearest import Nearest, neighbours
from .colours import ColorBy, Groups, colour_groups
from .layout import LAYOUTS, UMAP_NEIGHBOURS, Method, extent, project
from .regions import densest, regions
from .style import FAINT, INK, drawable, more_fonts, shortened

PANEL, LINE = 5.0, 0.25  # inches: width of a panel, a line of text
PER_ROW = 3  # panels
NEIGHBOURS = 10  # of each patent in the page
LEGEND_ENTRY = 4.9  # inches that the longest name and its count take
LOWEST = 0.55  # height of a panel, in its width
# Where the name of a region is tried, in heights of the text, the nearest place first; how far it is without a line.
SHIFTS, NEAR = (
    np.array(sorted(product(range(-15, 16), range(-12, 13)), key=lambda xy: math.hypot(xy[0] / 3, xy[1]))),
    1.5,
)
DENSE, CELLS = 50_000, 320  # patents above which a panel shows densities, in so many cells across


@dataclass(frozen=True)
class Scatter:
    """What a scatter picture shows.

    `points`: model → (N, 2), as `project` returns them; `patents`: N rows; `groups`: their colours; `metrics`: a row
    for each model, and for others that are not shown; `caption`: how it was made; `regions`: name → rows (n,). For
    the page: the `neighbours` of each model, and `titles` of classes and subclasses.
    """

    points: dict[str, np.ndarray]
    patents: pd.DataFrame
    groups: Groups
    metrics: pd.DataFrame
    title: str
    neighbours: Mapping[str, Nearest] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    caption: str = ""
    regions: Mapping[str, np.ndarray] = field(default_factory=dict)


def make_scatter(
    embeddings: Mapping[str, np.ndarray],
    patents: pd.DataFrame,
    metrics: pd.DataFrame,
    split: str,
    color_by: ColorBy = "auto",
    titles: Mapping[str, str] | None = None,
    seed: int = 42,
    layout: Method = "umap",
) -> Scatter:
    """Lay out the embeddings (N, d) of `patents`, of the `split` that the title names, and colour them.

    `titles` names classes or subclasses in the legend. Raises `InputError` as `colour_groups` does.
    """
    groups = colour_groups(patents, color_by, titles)
    where = "all splits" if split == "all" else f"the {split} split"
    title = f"{len(patents):,} patents of {where}" + (f", coloured by {groups.by}" if groups.by else "")
    near = {name: neighbours(rows, UMAP_NEIGHBOURS - 1) for name, rows in embeddings.items()}
    points = project(embeddings, seed, layout, near)
    near = {name: Nearest(*(part[:, :NEIGHBOURS] for part in found)) for name, found in near.items()}
    names = regions(patents, next(iter(points.values())), seed)
    caption = f"{LAYOUTS[layout][1]}, seed {seed}. Far islands are pulled in. Axes have no unit."
    if names:
        what = "frequent subclasses" if (patents["subclass"] != "").any() else "k-means clusters of the first map"
        caption += f" Labels: {what} where they are densest, with words of their patents' titles."
    return Scatter(points, patents, groups, metrics, title, near, titles or {}, caption, names)


@more_fonts()
def scatter_figure(scatter: Scatter) -> Figure:
    """Draw one panel per model with its metrics below, and one legend. All panels have the same limits and aspect.

    Names of regions are placed without overlap; those for which there is no room are left out. Above `DENSE` patents,
    a panel shows the mean colour of each place, the more opaque the more patents lie there.
    """
    frame = extent(scatter.points, LOWEST)
    height = PANEL * (frame[3] - frame[2]) / (frame[1] - frame[0])
    rows = math.ceil(len(scatter.points) / PER_ROW)
    columns = math.ceil(len(scatter.points) / rows)  # four panels as 2 × 2
    entries = max(1, int(columns * PANEL / LEGEND_ENTRY))
    heading = wrap(drawable(scatter.title), int(columns * PANEL * 7.5))
    caption = wrap(drawable(scatter.caption), int(columns * PANEL * 12.5))
    below = LINE * max(1, len(scatter.metrics.columns))
    lines = len(heading) + 0.7 * len(caption) + math.ceil(len(scatter.groups.colours) / entries)
    size = columns * PANEL, rows * (height + 0.3 + below) + LINE * lines
    figure = Figure(figsize=size, dpi=150, facecolor="white", layout=ConstrainedLayoutEngine(w_pad=0.12))
    figure.suptitle("\n".join(heading), x=0.01, ha="left", size=15, weight="bold", color=INK)
    grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[height, below] * rows)
    for axes in grid.ravel():
        axes.axis("off")
    panels = dict(zip(scatter.points, grid[::2].flat, strict=False))
    for (name, panel), table in zip(panels.items(), grid[1::2].flat, strict=False):
        panel.axis("on")
        panel.set(xlim=frame[:2], ylim=frame[2:], xticks=[], yticks=[], aspect="equal")
        panel.spines[:].set(linewidth=0.6, color=FAINT)
        panel.set_title(drawable(shortened(name, 46)), size=12, color=INK, loc="left")
        _draw_patents(panel, scatter.points[name], scatter.groups)
        _write_metrics(table, name, scatter)
    marks = [Line2D([], [], ls="", marker="o", ms=7, color=colour) for colour in scatter.groups.colours.values()]
    look = {"frameon": False, "labelcolor": INK, "handletextpad": 0.2}
    legend = figure.legend(marks, scatter.groups.labels, loc="outside lower left", ncols=entries, **look)
    legend.set_title("\n".join(caption), FontProperties(size=9))
    legend.set_alignment("left")
    figure.draw_without_rendering()  # which gives the panels their places
    for name, panel in panels.items():
        _name_regions(panel, scatter.points[name], scatter.regions)
    return figure


def _draw_patents(panel: Axes, xy: np.ndarray, groups: Groups) -> None:
    """Draw a point for each patent (N, 2), or above `DENSE` the mean colour and the density of each place."""
    colours = {key: to_rgb(colour) for key, colour in groups.colours.items()}
    rgb = np.array([colours[key] for key in groups.of])
    if len(xy) <= DENSE:
        dots = float(np.clip(16_000 / len(xy), 3, 40))  # square points: from 10,000 patents to a few
        order = np.random.default_rng(0).permutation(len(xy))  # so that no group hides another
        x, y = xy[order].T
        panel.scatter(x, y, c=rgb[order], s=dots, alpha=0.75, linewidths=0)
        return
    limits = panel.get_ylim(), panel.get_xlim()
    cells = round(CELLS * np.ptp(limits[0]) / np.ptp(limits[1])), CELLS
    count, *sums = (np.histogram2d(xy[:, 1], xy[:, 0], cells, limits, weights=weights)[0] for weights in (None, *rgb.T))
    opacity = np.where(count > 0, 0.2 + 0.8 * np.log1p(count) / np.log1p(count.max()), 0)
    image = np.dstack([*(part / np.maximum(count, 1) for part in sums), opacity])
    panel.imshow(image, extent=(*limits[1], *limits[0]), origin="lower", interpolation="nearest")


def _name_regions(panel: Axes, xy: np.ndarray, names: Mapping[str, np.ndarray]) -> None:
    """Write the name of each region at its densest place, or at the nearest free one, with a line if that is far.

    A name covers no other name, line or place. Those of the most patents come first; what finds no room is left out.
    """
    halo = [withStroke(linewidth=2.2, foreground="white", alpha=0.85)]
    look: dict[str, Any] = {"ha": "center", "va": "center", "size": 8, "color": INK, "path_effects": halo, "zorder": 3}
    to_data, boxes, lines = panel.transData.inverted().transform, list[Bbox](), list[Path]()
    places = np.array([panel.transData.transform(densest(xy[rows])) for rows in names.values()])
    for name, place in zip(names, places, strict=True):
        text, others = panel.text(0, 0, drawable(shortened(name, 34)), **look), places[(places != place).any(axis=1)]
        text.set_in_layout(False)
        size = np.array(text.get_window_extent().size)
        for middle in place + SHIFTS * size[1]:
            low, high = middle - size / 2, middle + size / 2
            box, edge = Bbox([low, high]), np.clip(place, low, high)
            if (low < panel.bbox.min).any() or (high > panel.bbox.max).any() or box.count_contains(others):
                continue
            is_far = np.hypot(*(edge - place)) > NEAR * size[1]
            line = Path([place, edge] if is_far else [low, high])
            if box.count_overlaps(boxes) or any(map(line.intersects_bbox, boxes)):
                continue
            if not any(other.intersects_bbox(box) or other.intersects_path(line) for other in lines):
                boxes.append(box)
                lines.append(line)
                text.set(position=to_data(middle))
                if is_far:
                    panel.plot(*to_data(line.vertices).T, color=INK, lw=0.6, zorder=2)
                break
        else:
            text.remove()


def _write_metrics(axes: Axes, name: str, scatter: Scatter) -> None:
    """One line per metric of the model; of several models the best value is bold."""
    shown = scatter.metrics.reindex(list(scatter.points))
    axes.set(xlim=(0, 1), ylim=(max(1, len(shown.columns)), 0))
    for line, (metric, values) in enumerate(shown.items()):
        higher_is_better = METRICS[metric].higher_is_better if metric in METRICS else True  # "nDCG@10 (test)" is none
        best = values.max() if higher_is_better else values.min()
        weight = "bold" if values[name] == best and len(shown) > 1 and higher_is_better is not None else "normal"
        value, look = f"{values[name]:.3f}".replace("nan", "–"), {"size": 10.5, "color": INK, "va": "center"}
        axes.text(0, line + 0.5, drawable(shortened(str(metric), 40)), fontdict=look)
        axes.text(1, line + 0.5, value, fontdict=look, ha="right", weight=weight)
        axes.axhline(line + 1, color="#E4E4E4", lw=0.6)
