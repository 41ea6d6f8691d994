"""Figures of triplets: a table, the graph of one triplet, and an anchor's neighbourhood."""

from collections.abc import Mapping
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from pandas.io.formats.style import Styler

from ..graph.neighbourhood import Neighbourhood
from ..tables.cpc import is_cpc, uses_cpc
from .colours import SECTION_COLOURS
from .style import BLUE, FAINT, INK, RED, drawable, more_fonts, shortened, text_table

Patent = Mapping[str, Any]
CLASSES = 4  # shown of each patent in a triplet's graph
WIDTH, LABEL = 12, 3.2  # inches: of a figure, of a patent's box in a neighbourhood


def triplet_table(triplets: pd.DataFrame) -> Styler:
    """Return triplets as a table for a notebook, titles wrapped and escaped.

    `triplets`: columns anchor_id, anchor_title, the same of positive and negative, negative_kind, cpc_subclass.
    """
    roles = ["anchor", "positive", "negative"]
    cells = {role: triplets[f"{role}_title"].astype(str) + "\n" + triplets[f"{role}_id"].astype(str) for role in roles}
    table = pd.DataFrame({**cells, "kind of negative": triplets["negative_kind"], "class": triplets["cpc_subclass"]})
    return text_table(table.reset_index(drop=True)).hide(axis="index")


@more_fonts()
def triplet_graph(anchor: Patent, positive: Patent, negative: Patent, shared: str = "", kind: str = "random") -> Figure:
    """Draw one triplet as the piece of the citation graph that it comes from.

    Each patent has patent_id, title and subclasses (list). The anchor CITES the positive; the negative, of the given
    `kind`, is joined by a dashed red line. Below are the first four CPC subclasses of each; `shared`, the subclass that
    the triplet was chosen by, comes first and is filled.
    """
    figure, axes = _canvas(4.6)
    parents: dict[str, list[float]] = {}
    boxes: dict[str, Text] = {}
    roles = [(2.0, "positive", positive, BLUE), (6.0, "anchor", anchor, INK), (10.0, "negative", negative, RED)]
    for x, role, patent, colour in roles:
        classes = sorted(patent["subclasses"], key=lambda symbol: symbol != shared)  # stable: the others as they were
        axes.text(x, 4.25, role, ha="center", size=12, weight="bold", color=colour)
        boxes[role] = _box(axes, x, 3.1, _patent_text(patent, len(classes) - CLASSES), "white", colour, 1.6)
        for symbol in classes[:CLASSES]:
            parents.setdefault(symbol, []).append(x)
    _arrow(axes, boxes["anchor"], boxes["positive"], "CITES", arrowstyle="-|>", color=BLUE)
    label = f"negative\n({drawable(kind)})"
    _arrow(axes, boxes["anchor"], boxes["negative"], label, arrowstyle="-", color=RED, linestyle="--")
    step = min(1.5, 11.2 / max(len(parents), 1))
    by_place = sorted(parents, key=lambda symbol: (np.mean(parents[symbol]), symbol))
    for number, symbol in enumerate(by_place):
        x = 6 + step * (number - (len(parents) - 1) / 2)
        fill, colour = ("#DDCC77", INK) if symbol == shared else ("#F2F2F2", FAINT)
        _box(axes, x, 0.75, drawable(symbol), fill, FAINT, 1.0)
        for parent in parents[symbol]:
            axes.plot([parent, x], [3.1, 0.75], color=colour, lw=1.0, zorder=1)
    note = "CPC subclasses" if uses_cpc(parents) else "classes" if parents else "no classes"
    note += f"; filled: {drawable(shared)}, shared by anchor and positive" if shared in parents else ""
    axes.text(6, 0.2, note, ha="center", size=9, color="#666666")
    return figure


@more_fonts()
def neighbourhood_graph(around: Neighbourhood) -> Figure:
    """Draw a patent (middle) with those that cite it (left) and those it cites (right), arrows along citations.

    Borders have the colours of CPC sections; citations among the neighbours are drawn faintly.
    """
    sides = {side: around.patents[around.patents["side"] == side] for side in ("citing", "anchor", "cited")}
    titles = {"citing": "cite it", "anchor": "the anchor", "cited": "are cited by it"}
    height = max(2.4, 0.52 * max(map(len, sides.values())) + 0.9)
    figure, axes = _canvas(height)
    places: dict[str, tuple[float, float]] = {}
    for x, (side, patents) in zip((2.2, 6.2, 10.2), sides.items(), strict=True):
        more = f" (+{around.more[side]} more)" if around.more.get(side) else ""
        axes.text(x, height - 0.4, titles[side] + more, ha="center", size=12, weight="bold", color=INK)
        if patents.empty:
            axes.text(x, (height - 0.7) / 2, "none", ha="center", va="center", size=10, color=INK)
        for number, patent in enumerate(patents.itertuples()):
            y = (height - 0.7) * (1 - (number + 0.5) / len(patents))
            places[str(patent.patent_id)] = x, y
            text = drawable(f"{patent.patent_id} {patent.subclass} {shortened(str(patent.title), 34)}")
            subclass = str(patent.subclass)
            edge = SECTION_COLOURS[subclass[0]] if is_cpc(subclass) else FAINT
            (bar,) = axes.barh(
                y, LABEL, 0.3, left=x - LABEL / 2, color="white", edgecolor=edge, linewidth=1.6, zorder=3
            )
            label = axes.text(x, y, text, ha="center", va="center", size=8, color=INK, zorder=4)
            label.set_clip_path(bar)
    anchor = str(sides["anchor"]["patent_id"].iloc[0])
    for citing, cited in around.citations[["citing", "cited"]].itertuples(index=False):
        _citation(axes, places[citing], places[cited], of_anchor=anchor in (citing, cited))
    return figure


def _canvas(height: float) -> tuple[Figure, Axes]:
    """A figure whose coordinates are inches."""
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, height), autoscale_on=False)
    axes.axis("off")
    return figure, axes


def _citation(axes: Axes, citing: tuple[float, float], cited: tuple[float, float], of_anchor: bool) -> None:
    """An arrow from side to side of two boxes, or in a bow along the left of a column."""
    (x1, y1), (x2, y2) = citing, cited
    start = x1 + (LABEL if x1 < x2 else -LABEL) / 2, y1
    end = x2 + (LABEL if x1 > x2 else -LABEL) / 2, y2
    bow = np.sign(y1 - y2) * 0.3 if x1 == x2 else 0
    colour, width = (INK, 1.2) if of_anchor else (FAINT, 0.7)
    style = {"arrowstyle": "-|>", "mutation_scale": 11, "shrinkA": 0, "shrinkB": 0, "color": colour, "lw": width}
    style["connectionstyle"] = f"arc3,rad={bow}"
    axes.annotate("", end, start, arrowprops=style, zorder=2 if of_anchor else 1)


def _patent_text(patent: Patent, hidden: int) -> str:
    lines = wrap(drawable(shortened(str(patent["title"]), 72)), 26)[:4]
    more = [f"(+{hidden} more subclasses)"] if hidden > 0 else []
    return "\n".join([drawable(str(patent["patent_id"])), *lines, *more])


def _box(axes: Axes, x: float, y: float, text: str, fill: str, edge: str, line: float) -> Text:
    box = {"boxstyle": "round,pad=0.45", "facecolor": fill, "edgecolor": edge, "linewidth": line}
    return axes.text(x, y, text, ha="center", va="center", size=10, color=INK, bbox=box, zorder=3, linespacing=1.3)


def _arrow(axes: Axes, start: Text, end: Text, label: str, **style: Any) -> None:
    (x1, y1), (x2, y2) = start.get_position(), end.get_position()
    ends = {"patchA": start.get_bbox_patch(), "patchB": end.get_bbox_patch(), "shrinkA": 3, "shrinkB": 3}
    axes.annotate("", (x2, y2), (x1, y1), arrowprops={"lw": 1.8, "mutation_scale": 18, **ends, **style})
    axes.text((x1 + x2) / 2, 3.2, label, ha="center", va="bottom", size=9.5, weight="bold", color=style["color"])
