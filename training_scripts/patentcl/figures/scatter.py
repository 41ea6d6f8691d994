"""Models side by side: the data of the picture, and the picture as a figure.

Figures are made without pyplot, so none stays open; a notebook that shows them runs `%matplotlib inline` first.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from textwrap import wrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from ..evaluation.metrics import METRICS
from .colours import ColorBy, Groups, colour_groups
from .layout import common_frame, project
from .neighbours import Neighbours, nearest_neighbours
from .style import FAINT, INK, drawable, more_fonts, shortened

PANEL, LINE = 5.0, 0.25  # inches: side of a panel, a line of text
PER_ROW = 3  # panels
LEGEND_ENTRY = 4.9  # inches that the longest name and its count take


@dataclass(frozen=True)
class Scatter:
    """What a scatter picture shows.

    `points`: model → (N, 2), as `project` returns them; `patents`: N rows; `groups`: their colours; `metrics`: a row
    for each model, and for others that are not shown. For the page: the `neighbours` of each model, and `titles` of
    classes and subclasses.
    """

    points: dict[str, np.ndarray]
    patents: pd.DataFrame
    groups: Groups
    metrics: pd.DataFrame
    title: str
    neighbours: Mapping[str, Neighbours] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)

    @property
    def order(self) -> np.ndarray:
        """The order (N,) in which patents are drawn, shuffled so that no group hides another."""
        return np.random.default_rng(0).permutation(len(self.patents))


def make_scatter(
    embeddings: Mapping[str, np.ndarray],
    patents: pd.DataFrame,
    metrics: pd.DataFrame,
    split: str,
    color_by: ColorBy = "auto",
    titles: Mapping[str, str] | None = None,
    seed: int = 42,
) -> Scatter:
    """Lay out the embeddings (N, d) of `patents`, of the `split` that the title names, and colour them.

    `titles` names classes or subclasses in the legend. Raises `InputError` as `colour_groups` does.
    """
    groups = colour_groups(patents, color_by, titles)
    where = "all splits" if split == "all" else f"the {split} split"
    title = f"{len(patents):,} patents of {where}" + (f", coloured by {groups.by}" if groups.by else "")
    neighbours = {name: nearest_neighbours(rows, name=name) for name, rows in embeddings.items()}
    return Scatter(project(embeddings, seed), patents, groups, metrics, title, neighbours, titles or {})


@more_fonts()
def scatter_figure(scatter: Scatter) -> Figure:
    """Draw one panel per model with its metrics below, and one legend. All panels have the same limits and aspect."""
    rows = math.ceil(len(scatter.points) / PER_ROW)
    columns = math.ceil(len(scatter.points) / rows)  # four panels as 2 × 2
    entries = max(1, int(columns * PANEL / LEGEND_ENTRY))
    heading = wrap(drawable(scatter.title), int(columns * PANEL * 7.5))
    below = LINE * max(1, len(scatter.metrics.columns))
    lines = len(heading) + math.ceil(len(scatter.groups.colours) / entries) + 1
    size = columns * PANEL, rows * (PANEL + 0.3 + below) + LINE * lines
    figure = Figure(figsize=size, dpi=150, facecolor="white", layout=ConstrainedLayoutEngine(w_pad=0.12))
    figure.suptitle("\n".join(heading), x=0.01, ha="left", size=15, weight="bold", color=INK)
    grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[PANEL, below] * rows)
    for axes in grid.ravel():
        axes.axis("off")
    colours = np.array([scatter.groups.colours[key] for key in scatter.groups.of])[scatter.order]
    x, y, half = common_frame(scatter.points)
    for number, (name, xy) in enumerate(scatter.points.items()):
        panel, text = grid[number // columns * 2 : number // columns * 2 + 2, number % columns]
        panel.axis("on")
        dots = float(np.clip(16_000 / len(xy), 3, 40))  # square points: from 10,000 patents to a few
        panel.scatter(*xy[scatter.order].T, c=colours, s=dots, alpha=0.75, linewidths=0)
        panel.set(xlim=(x - half, x + half), ylim=(y - half, y + half), xticks=[], yticks=[], aspect="equal")
        panel.spines[:].set(linewidth=0.6, color=FAINT)
        panel.set_title(drawable(shortened(name, 46)), size=12, color=INK, loc="left")
        _write_metrics(text, name, scatter)
    marks = [Line2D([], [], ls="", marker="o", ms=7, color=colour) for colour in scatter.groups.colours.values()]
    look = {"frameon": False, "labelcolor": INK, "handletextpad": 0.2}
    figure.legend(marks, scatter.groups.labels.values(), loc="outside lower left", ncols=entries, **look)
    return figure


def _write_metrics(axes: Axes, name: str, scatter: Scatter) -> None:
    """One line per metric of the model; of several models the best value is bold."""
    shown = scatter.metrics.reindex(list(scatter.points))
    axes.set(xlim=(0, 1), ylim=(max(1, len(shown.columns)), 0))
    for line, (metric, values) in enumerate(shown.items()):
        higher_is_better = METRICS[metric].higher_is_better if metric in METRICS else True  # "nDCG@10 (test)" is none
        best = values.max() if higher_is_better else values.min()
        weight = "bold" if values[name] == best and len(shown) > 1 else "normal"
        value, look = f"{values[name]:.3f}".replace("nan", "–"), {"size": 10.5, "color": INK, "va": "center"}
        axes.text(0, line + 0.5, drawable(shortened(str(metric), 40)), fontdict=look)
        axes.text(1, line + 0.5, value, fontdict=look, ha="right", weight=weight)
        axes.axhline(line + 1, color="#E4E4E4", lw=0.6)
