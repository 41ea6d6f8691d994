"""The pictures: models side by side as PNG, and the small figures that show a sample and its triplets.

Figures are made without pyplot, so none stays open; a notebook that shows them runs `%matplotlib inline` first.
The interactive picture is in `patentcl.scatter_page`.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, NullLocator
from pandas.io.formats.style import Styler

from ..common.files import beside
from ..graph.neighbourhood import Neighbourhood
from .layout import SECTION_COLOURS, Groups, colour_groups, common_frame, shortened

INK, FAINT, RED, BLUE = "#222222", "#BBBBBB", "#B2182B", "#332288"
PANEL, MARGIN, ROW, PER_ROW = 4.6, 0.3, 0.25, 3  # inches: a panel's side, space around, a line of text; panels
LEGEND_ENTRY = 4.9  # inches that an entry of scatter.NAME_LENGTH characters and its count take


def drawable(text: str) -> str:
    """Return `text` as the font can draw it: what it has no glyph for becomes □, and $ does not start a formula."""
    known = get_font(findfont(FontProperties())).get_charmap()
    seen = (letter if ord(letter) in known else "□" for letter in " ".join(text.split()))
    return "".join(seen).replace("$", r"\$")


def scatter_png(
    points: Mapping[str, np.ndarray],
    patents: pd.DataFrame,
    groups: Groups,
    metrics: pd.DataFrame,
    path: Path,
    title: str,
) -> Figure:
    """Draw one panel per model, its figures below it, one legend for all; write it to `path` and return it.

    `points`: model → (N, 2), as `scatter.project` gives them; `groups`: as `scatter.colour_groups` gives them;
    `metrics`: a row per model (models without one show no figures). All panels have the same limits and aspect,
    and draw their points in one shuffled order, so that no group hides another.
    """
    rows = math.ceil(len(points) / PER_ROW)
    columns = math.ceil(len(points) / rows)  # four panels as 2 × 2
    width = columns * (PANEL + MARGIN) + MARGIN
    entries = max(1, int(width / LEGEND_ENTRY))
    below = ROW * len(metrics.columns) + 0.15
    tall = PANEL + 0.45 + below
    heading = wrap(drawable(title), int(width * 7.5)) or [""]
    top, legend = 0.3 * len(heading) + 0.2, 0.22 * math.ceil(len(groups.colours) / entries) + 0.4
    height = top + rows * tall + legend
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    figure.text(MARGIN / width, 1 - 0.25 / height, "\n".join(heading), size=15, weight="bold", color=INK, va="top")
    order = np.random.default_rng(0).permutation(len(patents))
    colours = np.array([groups.colours[key] for key in groups.of])[order]
    x, y, half = common_frame(points)
    for number, (name, xy) in enumerate(points.items()):
        left = MARGIN + number % columns * (PANEL + MARGIN)
        bottom = legend + (rows - 1 - number // columns) * tall + below
        panel = figure.add_axes((left / width, bottom / height, PANEL / width, PANEL / height))
        panel.scatter(xy[order, 0], xy[order, 1], c=colours, s=_size(len(patents)), alpha=0.75, linewidths=0)
        panel.set(xlim=(x - half, x + half), ylim=(y - half, y + half), xticks=[], yticks=[], aspect="equal")
        panel.spines[:].set(linewidth=0.6, color=FAINT)
        panel.set_title(drawable(shortened(name, 46)), size=12, color=INK, loc="left")
        _figures_below(panel, metrics[metrics.index.isin(list(points))], name)
    marks = [
        Line2D([], [], linestyle="", marker="o", markersize=7, color=groups.colours[key]) for key in groups.colours
    ]
    labels = [f"{drawable(groups.names[key])}  ({count:,})" for key, count in groups.counts.items()]
    figure.legend(
        marks, labels, loc="lower left", bbox_to_anchor=(MARGIN / width, 0.15 / height), ncols=entries,
        frameon=False, fontsize=10, labelcolor=INK, borderaxespad=0, borderpad=0, handletextpad=0.2,
    )  # fmt: skip
    with beside(path) as scratch:
        figure.savefig(scratch, format="png")
    return figure


def _size(patents: int) -> float:
    return float(np.clip(16_000 / max(patents, 1), 3, 40))  # square points: 10,000 patents to a few


def _figures_below(panel: Axes, metrics: pd.DataFrame, name: str) -> None:
    if name not in metrics.index:
        return
    best = metrics.max().to_dict()  # in bold: all these figures are the better the higher
    for line, (metric, value) in enumerate(metrics.loc[name].items()):
        down = -ROW * (line + 0.75) / PANEL
        panel.text(0, down, drawable(shortened(str(metric), 40)), transform=panel.transAxes, size=10.5, color=INK)
        panel.text(
            1,
            down,
            figure_text(value),
            transform=panel.transAxes,
            size=10.5,
            color=INK,
            ha="right",
            weight="bold" if value == best.get(metric) else "normal",
        )
        panel.plot([0, 1], [down - 0.014] * 2, transform=panel.transAxes, color="#E4E4E4", lw=0.6, clip_on=False)


def figure_text(value: float) -> str:
    """Return a metric as a reader wants it: three decimals, or a dash where there is none."""
    return "–" if pd.isna(value) else f"{value:.3f}"


def patents_per_year(patents: pd.DataFrame) -> Figure:
    """Draw the patents granted in each year, stacked by CPC section.

    `patents`: columns date (YYYY-MM-DD or a timestamp; rows that hold neither are left out) and section.
    """
    years = pd.to_datetime(patents["date"], errors="coerce").dt.year
    groups = colour_groups(patents)
    counts = pd.crosstab(years, np.array(groups.of, dtype=object)) if years.notna().any() else pd.DataFrame()
    if len(counts):  # a year without patents is a gap in the picture, not a place where bars move together
        counts = counts.reindex(range(int(years.min()), int(years.max()) + 1), fill_value=0)
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    axes = _plain(figure.subplots(), f"Patents per year of grant, by primary CPC section ({len(patents):,})")
    floor = np.zeros(len(counts))
    for key, colour in groups.colours.items():
        if key in counts:
            label = f"{drawable(groups.names[key])}  ({counts[key].sum():,})"
            axes.bar(counts.index, counts[key], bottom=floor, width=0.9, color=colour, label=label)
            floor += counts[key].to_numpy()
    axes.set_ylabel("patents", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if len(counts):
        axes.set_ylim(0, 1.05 * floor.max())
        figure.legend(loc="outside right upper", frameon=False, fontsize=9, labelcolor=INK, reverse=True)
    return figure


def degree_histograms(
    citations_out: Iterable[int], citations_in: Iterable[int], classes_per_patent: Iterable[int]
) -> Figure:
    """Draw how many patents have how many citations out, citations in, and CPC subclasses.

    Each argument holds one count per patent. Bars cover powers of two (0, 1, 2–3, 4–7, …), because degrees
    span magnitudes and a plain logarithmic axis has no place for 0; heights are logarithmic too.
    """
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    titles = ["Citations made (inside the table)", "Citations received (inside the table)", "CPC subclasses per patent"]
    for axes, title, given in zip(
        figure.subplots(1, 3), titles, (citations_out, citations_in, classes_per_patent), strict=True
    ):
        counts = np.asarray(list(given), dtype=int)
        bins = np.where(counts > 0, np.floor(np.log2(np.maximum(counts, 1))) + 1, 0).astype(int)
        heights = np.bincount(bins)
        lows = [0, *(2**n for n in range(len(heights) - 1))]
        names = [str(low) if low < 2 else f"{low}–{2 * low - 1}" for low in lows[: len(heights)]]
        bars = _plain(axes, title).bar(names, heights, color=BLUE, width=0.85)
        axes.bar_label(bars, [f"{h:,}" if h else "" for h in heights], size=8, color=INK, padding=1)
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylim(0.7, max(heights.max(initial=1) * 2.5, 10))
        axes.tick_params(axis="x", labelsize=8, rotation=30 if len(names) > 6 else 0)
        summary = (
            f"median {np.median(counts):g}, mean {counts.mean():.1f}, most {counts.max():,}" if len(counts) else "none"
        )
        axes.set_xlabel(summary, color=INK)
        axes.set_ylabel("patents", color=INK)
    return figure


def _plain(axes: Axes, title: str) -> Axes:
    axes.set_title(title, size=11, color=INK, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(linewidth=0.6, color=FAINT)
    axes.tick_params(length=2, color=FAINT, labelcolor=INK)
    return axes


def triplet_table(triplets: pd.DataFrame) -> Styler:
    """Return triplets as a table to read in a notebook, titles wrapped and escaped.

    `triplets`: columns anchor_id, anchor_title, the same of positive and negative, negative_kind, cpc_subclass.
    """
    roles = ["anchor", "positive", "negative"]
    cells = {role: triplets[f"{role}_title"].astype(str) + "\n" + triplets[f"{role}_id"].astype(str) for role in roles}
    table = pd.DataFrame(
        {**cells, "kind of negative": triplets["negative_kind"], "CPC subclass": triplets["cpc_subclass"]}
    ).reset_index(drop=True)
    cell = "white-space: pre-line; text-align: left; vertical-align: top; padding: 6px 12px; max-width: 22em;"
    wrapped = [
        {"selector": "td", "props": cell + " border-bottom: 1px solid #ddd"},
        {"selector": "th", "props": "text-align: left; padding: 6px 12px; border-bottom: 1px solid #888"},
        {"selector": "", "props": "border-collapse: collapse"},
    ]
    # Notebooks would typeset what stands between two $ of a title; these classes tell MathJax to keep away.
    return (
        table.style.format(escape="html", na_rep="–").hide(axis="index").set_table_styles(wrapped)  # type: ignore[arg-type]
        .set_table_attributes('class="tex2jax_ignore mathjax_ignore"')
    )  # fmt: skip


Patent = Mapping[str, Any]
CLASSES = 4  # of each patent in a triplet's graph
LABEL = 3.2  # inches, width of a patent's box in a neighbourhood


def triplet_graph(anchor: Patent, positive: Patent, negative: Patent, shared: str = "", kind: str = "random") -> Figure:
    """Draw one triplet as the piece of the citation graph that it comes from.

    Each patent has patent_id, title and subclasses (list). The anchor CITES the positive; the negative, of the
    given `kind`, is joined by a dashed red line. Below, the CPC subclasses of the three, each patent's first
    four, the rest counted; `shared`, the subclass that the triplet was chosen by, comes first and is filled.
    """
    figure = Figure(figsize=(12, 4.6), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 12), ylim=(0, 4.6))
    axes.axis("off")
    parents: dict[str, list[float]] = {}
    boxes: dict[str, Text] = {}
    roles = [(2.0, "positive", positive, BLUE), (6.0, "anchor", anchor, INK), (10.0, "negative", negative, RED)]
    for x, role, patent, colour in roles:
        classes = sorted(patent["subclasses"], key=lambda symbol: symbol != shared)  # stable: else as they were
        axes.text(x, 4.25, role, ha="center", size=12, weight="bold", color=colour)
        boxes[role] = _box(axes, x, 3.1, _patent_text(patent, len(classes) - CLASSES), "white", colour, 1.6)
        for symbol in classes[:CLASSES]:
            parents.setdefault(symbol, []).append(x)
    _arrow(axes, boxes["anchor"], boxes["positive"], "CITES", arrowstyle="-|>", color=BLUE)
    _arrow(
        axes,
        boxes["anchor"],
        boxes["negative"],
        f"negative\n({drawable(kind)})",
        arrowstyle="-",
        color=RED,
        linestyle="--",
    )
    step = min(1.5, 11.2 / max(len(parents), 1))
    by_place = sorted(parents, key=lambda symbol: (float(np.mean(parents[symbol])), symbol))
    for number, symbol in enumerate(by_place):
        x = 6 + step * (number - (len(parents) - 1) / 2)
        is_shared = symbol == shared
        _box(axes, x, 0.75, drawable(symbol), "#DDCC77" if is_shared else "#F2F2F2", FAINT, 1.0)
        for parent in parents[symbol]:
            axes.plot([parent, x], [3.1, 0.75], color=INK if is_shared else FAINT, lw=1.0, zorder=1)
    note = "CPC subclasses" + (f"; filled: {drawable(shared)}, the triplet's own" if shared in parents else "")
    axes.text(6, 0.2, note, ha="center", size=9, color="#666666")
    return figure


def neighbourhood_graph(around: Neighbourhood) -> Figure:
    """Draw a patent (middle) with those that cite it (left) and those it cites (right), arrows along citations.

    Borders have the colours of CPC sections; citations among the neighbours are drawn faintly.
    """
    sides = dict(list(around.patents.groupby("side")))
    rows = max(len(sides.get(side, ())) for side in ("citing", "cited"))
    height = max(2.4, 0.52 * rows + 0.9)
    figure = Figure(figsize=(12, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 12), ylim=(0, height))
    axes.axis("off")
    places: dict[str, tuple[float, float]] = {}
    for side, x in {"citing": 2.2, "anchor": 6.2, "cited": 10.2}.items():
        patents = sides.get(side, around.patents.head(0))
        for number, patent in enumerate(patents.itertuples()):
            places[str(patent.patent_id)] = x, (height - 0.7) * (1 - (number + 0.5) / len(patents))
            colour = SECTION_COLOURS.get(str(patent.subclass)[:1], FAINT)
            text = f"{patent.patent_id} {patent.subclass} {shortened(str(patent.title), 34)}"
            _label(axes, *places[str(patent.patent_id)], drawable(text), colour)
        more = f" (+{around.more[side]} more)" if around.more.get(side) else ""
        title = {"citing": "cite it", "anchor": "the anchor", "cited": "are cited by it"}[side] + more
        if patents.empty:
            axes.text(x, (height - 0.7) / 2, "none", ha="center", va="center", size=10, color=INK)
        axes.text(x, height - 0.4, title, ha="center", size=12, weight="bold", color=INK)
    anchor = str(sides["anchor"]["patent_id"].iloc[0])
    for citing, cited in around.citations[["citing", "cited"]].itertuples(index=False):
        _citation(axes, places[citing], places[cited], of_anchor=anchor in (citing, cited))
    return figure


def _citation(axes: Axes, citing: tuple[float, float], cited: tuple[float, float], of_anchor: bool) -> None:
    """An arrow between boxes: from side to side, or in a bow along the left of a column."""
    (x1, y1), (x2, y2) = citing, cited
    bow = (0.3 if y1 > y2 else -0.3) if x1 == x2 else 0.0
    start, end = (LABEL / 2, -LABEL / 2) if x1 < x2 else (-LABEL / 2, -LABEL / 2 if x1 == x2 else LABEL / 2)
    style = {"lw": 1.2, "color": INK} if of_anchor else {"lw": 0.7, "color": FAINT}
    arrow = {"arrowstyle": "-|>", "mutation_scale": 11, "shrinkA": 0, "shrinkB": 0,
             "connectionstyle": f"arc3,rad={bow}", **style}  # fmt: skip
    axes.annotate("", (x2 + end, y2), (x1 + start, y1), arrowprops=arrow, zorder=2 if of_anchor else 1)


def _label(axes: Axes, x: float, y: float, text: str, edge: str) -> None:
    """A box of known size, so that arrows can end at it."""
    frame = FancyBboxPatch((x - LABEL / 2, y - 0.15), LABEL, 0.3, boxstyle="round,pad=0,rounding_size=0.06",
                           facecolor="white", edgecolor=edge, linewidth=1.6, zorder=3)  # fmt: skip
    axes.add_patch(frame)
    axes.text(x, y, text, ha="center", va="center", size=8, color=INK, zorder=4, clip_path=frame, clip_on=True)


def _patent_text(patent: Patent, unseen: int) -> str:
    lines = wrap(drawable(shortened(str(patent["title"]), 72)), 26)[:4]
    more = [f"(+{unseen} more subclasses)"] if unseen > 0 else []
    return "\n".join([drawable(str(patent["patent_id"])), *lines, *more])


def _box(axes: Axes, x: float, y: float, text: str, fill: str, edge: str, line: float) -> Text:
    box = {"boxstyle": "round,pad=0.45", "facecolor": fill, "edgecolor": edge, "linewidth": line}
    return axes.text(x, y, text, ha="center", va="center", size=10, color=INK, bbox=box, zorder=3, linespacing=1.3)


def _arrow(axes: Axes, start: Text, end: Text, label: str, **style: Any) -> None:
    ends = {"patchA": start.get_bbox_patch(), "patchB": end.get_bbox_patch(), "shrinkA": 3, "shrinkB": 3}
    arrow = {"lw": 1.8, "mutation_scale": 18, **ends, **style}
    axes.annotate("", xy=end.get_position(), xytext=start.get_position(), arrowprops=arrow)
    x = (start.get_position()[0] + end.get_position()[0]) / 2
    axes.text(x, 3.2, label, ha="center", va="bottom", size=9.5, weight="bold", color=style["color"])
