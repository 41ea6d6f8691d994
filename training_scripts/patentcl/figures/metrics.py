"""Pictures of an evaluation: retrieval by section, triplet accuracy by kind, cosines, calibration, nearest patents."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from pandas.io.formats.style import Styler
from sklearn.preprocessing import MultiLabelBinarizer

from ..evaluation.held_out import HeldOut
from ..evaluation.report import COMPARED, Report
from ..evaluation.significance import interval, resampled
from ..models.embed import unit_rows
from ..tables.cpc import SECTIONS
from ..triplets.options import KINDS
from .style import FAINT, INK, drawable, more_fonts, plain_axes, shortened

WIDTH, ROW, PANEL = 12, 0.19, 2.6  # inches: of a figure, a model in a row of dots, the height of a model's panel
GROUPS = 12  # rows of dots, the most frequent ones
QUERIES, LEAST_PAIRS = 500, 30  # of the calibration: queries at most, pairs that a bin holds at least
MODELS = ["#332288", "#CC6677", "#117733", "#882255", "#44AA99", "#999933"]  # darker than sand and cyan
COLOURS = {"positive": "#332288", "citation": "#882255", "sibling": "#CC6677", "random": "#DDCC77", "given": "#CC6677"}


@more_fonts()
def retrieval_by_section(report: Report, held_out: HeldOut, rows: Sequence[str] | None = None) -> Figure:
    """Draw nDCG@10 of the queries of each section, with 95 % intervals by bootstrap over queries.

    `rows`: of the report; by default BM25 and the models.
    """
    rows = rows or _main_rows(report)
    sections = held_out.texts["section"].to_numpy(str)[held_out.queries]
    counts = pd.Series(sections[sections != ""]).value_counts()
    groups = {f"all ({len(sections):,} queries)": np.ones(len(sections), bool)}
    for name in sorted(counts.index[:GROUPS]):
        groups[f"{shortened(f'{name} {SECTIONS.get(name, str())}', 30)} ({counts[name]:,})"] = sections == name
    values = {row: report.rows[row].units[COMPARED] for row in rows}
    cells: dict[str, dict[str, tuple[float, ...]]] = {}
    for group, mask in groups.items():
        draws = resampled([values[row][mask] for row in rows], report.seed).T
        cells[group] = {r: (values[r][mask].mean(), *interval(drawn)) for r, drawn in zip(rows, draws, strict=True)}
    return _dots(f"{COMPARED} by section of the query, 95 % intervals", cells)


@more_fonts()
def triplet_accuracy_by_kind(report: Report, rows: Sequence[str] | None = None) -> Figure:
    """Draw the triplet accuracy for each kind of negative, with 95 % intervals by bootstrap over anchors."""
    name, rows = "triplet accuracy", rows or _main_rows(report)
    known = {kind: f"{name} {kind}".strip() for kind in ("", *KINDS) if f"{name} {kind}".strip() in report.table}
    table = report.table.loc[list(rows)]
    cells = {kind or "all": table[[metric, f"{metric} low", f"{metric} high"]] for kind, metric in known.items()}
    groups = {kind: {row: tuple(cell.loc[row]) for row in rows} for kind, cell in cells.items()}
    return _dots("Triplet accuracy by kind of negative, 95 % intervals", groups)


@more_fonts()
def cosines_of_triplets(embeddings: Mapping[str, np.ndarray], held_out: HeldOut) -> Figure:
    """Draw how the cosines of anchors with positives and with each kind of negative are distributed, by model.

    `embeddings`: name → (N, d) of `held_out.texts`.
    """
    figure, panels = _panels(list(embeddings), "Cosine of the anchor with its positive and with its negative")
    anchors, positives, negatives = held_out.triplets.T
    for (name, vectors), axes in zip(embeddings.items(), panels, strict=True):
        unit = unit_rows(vectors)
        groups = {"positive": (unit[anchors] * unit[positives]).sum(axis=1)}
        cosines = (unit[anchors] * unit[negatives]).sum(axis=1)
        groups |= {str(kind): cosines[held_out.kind == kind] for kind in np.unique(held_out.kind)}
        bins = np.linspace(min(map(np.min, groups.values())), 1, 40) if len(anchors) else 1
        for kind, values in groups.items():
            look: dict[str, Any] = {"color": COLOURS.get(kind, INK), "density": True, "bins": bins}
            axes.hist(values, histtype="stepfilled", alpha=0.2, **look)
            label = f"{kind if kind == 'positive' else f'negative: {kind}'} ({len(values):,})"
            axes.hist(values, histtype="step", lw=1.8, label=label, **look)
            axes.axvline(float(np.median(values)), color=look["color"], lw=1.2, ls="--")
        gap = np.median(groups["positive"]) - np.median(cosines) if len(anchors) else np.nan
        axes.set_title(f"{drawable(name)}: medians (dashed) are {gap:.2f} apart", size=10, color=INK, loc="left")
    return _finished(figure, panels, "density")


@more_fonts()
def calibration(embeddings: Mapping[str, np.ndarray], held_out: HeldOut) -> Figure:
    """Draw how likely a pair of patents is a citation, or shares a subclass, at each cosine; by model.

    Pairs are at most `QUERIES` queries with all patents of the corpus but their family. Grey: how the cosines of all
    pairs are distributed. That they are high says little by itself: embeddings of a narrow field fill a narrow cone
    (Ethayarajh 2019, arXiv:1909.00512).
    """
    figure, panels = _panels(list(embeddings), "What a cosine means: share of pairs that cite, or share a subclass")
    step = -(-len(held_out.queries) // QUERIES)
    queries = held_out.queries[::step] if step else held_out.queries
    searched = np.stack([~held_out.hidden(int(query)) for query in queries]) if len(queries) else np.zeros((0, 0), bool)
    truths = _truths(held_out, queries)
    for (name, vectors), axes in zip(embeddings.items(), panels, strict=True):
        unit = unit_rows(vectors)
        cosines = (unit[queries] @ unit.T)[searched]
        bins = np.linspace(cosines.min(), 1.0, 31)
        place, middle = np.digitize(cosines, bins[1:-1]), (bins[1:] + bins[:-1]) / 2
        count = np.bincount(place, minlength=30)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        for (what, truth), colour, mark in zip(truths.items(), MODELS[:2], "os", strict=False):
            hits = np.bincount(place, weights=truth[searched], minlength=30)
            shown = (count >= LEAST_PAIRS) & (hits > 0)
            axes.plot(middle[shown], hits[shown] / count[shown], color=colour, marker=mark, ms=4, label=what)
        behind = axes.twinx()
        behind.fill_between(middle, count, step="mid", color=FAINT, alpha=0.5, lw=0)
        behind.axis("off")
        axes.set(zorder=2, facecolor="none", ylim=(None, 1.3))
        low, median, high = np.quantile(cosines, [0.05, 0.5, 0.95])
        text = f"{drawable(name)}: 90 % of all pairs lie between {low:.2f} and {high:.2f}, median {median:.2f}"
        axes.set_title(text, size=10, color=INK, loc="left")
    return _finished(figure, panels, "share of pairs")


def _truths(held_out: HeldOut, queries: np.ndarray) -> dict[str, np.ndarray]:
    """Masks (Q, N): which texts each query cites, and with which it shares a subclass, if the corpus has any."""
    cites = np.zeros((len(queries), len(held_out.texts)), bool)
    known = np.isin(held_out.pairs[:, 0], queries)
    cites[np.searchsorted(queries, held_out.pairs[known, 0]), held_out.pairs[known, 1]] = True
    labels = MultiLabelBinarizer(sparse_output=True).fit_transform(held_out.texts["subclasses"])
    shared = {"shares a subclass": (labels[queries] @ labels.T).toarray() > 0} if labels.shape[1] else {}
    return {"cites": cites, **shared}


def nearest_table(
    embeddings: Mapping[str, np.ndarray], held_out: HeldOut, patents: Sequence[str] = (), count: int = 5
) -> Styler:
    """Return a table for a notebook: the `count` patents nearest to some by each model, with their cosines.

    `patents`: their ids; by default five queries, the same each time. ★: cited by the patent. Families are left out.
    """
    texts, spread = held_out.texts, np.linspace(0, len(held_out.queries) - 1, 5).round().astype(int)
    chosen = np.flatnonzero(texts["patent_id"].isin(patents)) if patents else np.unique(held_out.queries[spread])
    cells: dict[str, list[str]] = {}
    for name, vectors in embeddings.items():
        unit = unit_rows(vectors)
        for row in chosen:
            cosines = np.where(held_out.hidden(int(row)), -np.inf, unit @ unit[row])
            cited = held_out.pairs[held_out.pairs[:, 0] == row, 1]
            for near in np.argsort(-cosines, kind="stable")[:count]:
                star = "★ " if near in cited else ""
                cells.setdefault(name, []).append(f"{cosines[near]:.2f}  {star}{_described(texts.iloc[near])}")
    index = [(_described(texts.iloc[row]), rank) for row in chosen for rank in range(1, count + 1)]
    table = pd.DataFrame(cells, index=pd.MultiIndex.from_tuples(index, names=["patent", ""]))
    css = "text-align: left; vertical-align: top; padding: 4px 10px; border-bottom: 1px solid #ddd; max-width: 24em"
    styler: Any = table.style.format(escape="html").format_index(escape="html", axis=0)
    styler = styler.format_index(escape="html", axis=1).set_table_styles([{"selector": "td, th", "props": css}])
    return styler.set_table_attributes('class="tex2jax_ignore mathjax_ignore" style="border-collapse: collapse"')


def _described(patent: pd.Series) -> str:
    return " · ".join(filter(None, (shortened(patent["title"], 70), patent["subclass"], patent["patent_id"])))


def _main_rows(report: Report) -> list[str]:
    return [name for name in report.rows if name != "TF-IDF" and not name.startswith("BM25 + ")]


def _dots(title: str, groups: Mapping[str, Mapping[str, tuple[float, ...]]]) -> Figure:
    """Draw for each group a dot for each row, with its interval: group → row → (value, low, high)."""
    rows = list(next(iter(groups.values())))
    height = (len(rows) + 1) * ROW
    figure = Figure(figsize=(WIDTH, len(groups) * height + 1.1), layout="constrained", facecolor="white")
    axes = plain_axes(figure.subplots(), title)
    for number, row in enumerate(rows):
        values = np.array([group[row] for group in groups.values()])
        y = np.arange(len(groups)) * height + number * ROW
        colour, mark = ("#777777" if row == "BM25" else MODELS[number % len(MODELS)]), "Dosv^Ph"[number % 7]
        axes.hlines(y, values[:, 1], values[:, 2], color=colour, lw=1.6)
        axes.plot(values[:, 0], y, mark, color=colour, ms=5.5, label=drawable(shortened(row, 40)))
    middle = np.arange(len(groups)) * height + (len(rows) - 1) * ROW / 2
    axes.set_yticks(middle, [drawable(group) for group in groups])
    axes.set(ylim=(middle[-1] + height / 2, -height / 2 + middle[0]))
    axes.grid(axis="x", color="#EEEEEE")
    figure.legend(loc="outside lower left", ncols=4, frameon=False, labelcolor=INK)
    return figure


def _panels(names: Sequence[str], title: str) -> tuple[Figure, list[Any]]:
    """A figure with a panel for each model, one above the other, of the same cosines."""
    figure = Figure(figsize=(WIDTH, PANEL * len(names) + 0.6), layout="constrained", facecolor="white")
    figure.suptitle(title, x=0.01, ha="left", size=12, weight="bold", color=INK)
    return figure, [plain_axes(axes, "") for axes in figure.subplots(len(names), 1, squeeze=False, sharex=True)[:, 0]]


def _finished(figure: Figure, panels: Sequence[Any], what: str) -> Figure:
    for axes in panels:
        axes.set_ylabel(what, color=INK, size=9)
    panels[-1].set_xlabel("cosine", color=INK)
    marks = panels[0].get_legend_handles_labels()
    figure.legend(*marks, loc="outside lower left", ncols=4, frameon=False, labelcolor=INK)
    return figure
