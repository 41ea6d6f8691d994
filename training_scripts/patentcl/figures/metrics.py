"""Pictures of an evaluation: retrieval by section, triplet accuracy by kind, cosines, calibration, nearest patents."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler
from scipy.sparse import csr_array
from sklearn.preprocessing import MultiLabelBinarizer

from ..evaluation.held_out import HeldOut
from ..evaluation.report import COMPARED, Report
from ..evaluation.significance import interval, resampled
from ..models.embed import unit_rows
from ..search.nearest import nearest
from ..tables.cpc import SECTIONS
from ..triplets.options import KINDS
from .style import FAINT, INK, drawable, more_fonts, plain_axes, shortened, text_table

WIDTH, ROW, PANEL = 12, 0.19, 2.6  # inches: of a figure, a model in a row of dots, the height of a model's panel
GROUPS = 12  # rows of dots, the most frequent ones
QUERIES, LEAST_PAIRS = 500, 30  # of the calibration: queries at most, pairs that a bin holds at least
MODELS = ["#332288", "#CC6677", "#117733", "#882255", "#44AA99", "#999933"]  # darker than sand and cyan
LEGEND: Any = {"loc": "outside lower left", "ncols": 4, "frameon": False, "labelcolor": INK}
COLOURS = {"positive": "#332288", "citation": "#882255", "sibling": "#CC6677", "random": "#DDCC77", "given": "#CC6677"}


@more_fonts()
def retrieval_by_section(report: Report, held_out: HeldOut) -> Figure:
    """Draw nDCG@10 of the queries of each section, with 95 % intervals by bootstrap over queries."""
    rows = _main_rows(report)
    sections = held_out.texts["section"].to_numpy(str)[held_out.queries]
    counts = pd.Series(sections[sections != ""]).value_counts()
    groups = {f"all ({len(sections):,} queries)": np.ones(len(sections), bool)}
    for name in sorted(counts.index[:GROUPS]):
        groups[f"{shortened(f'{name} {SECTIONS.get(name, str())}', 30)} ({counts[name]:,})"] = sections == name
    cells = {}
    for group, mask in groups.items():
        values = [report.rows[row].units[COMPARED][mask] for row in rows]
        ends = map(interval, resampled(values, report.seed).T)
        cells[group] = np.array([(value.mean(), *end) for value, end in zip(values, ends, strict=True)])
    return _dots(f"{COMPARED} by section of the query, 95 % intervals", rows, cells)


@more_fonts()
def triplet_accuracy_by_kind(report: Report) -> Figure:
    """Draw the triplet accuracy for each kind of negative, with 95 % intervals by bootstrap over anchors."""
    rows, cells = _main_rows(report), {}
    for kind in ("", *KINDS):
        metric = f"triplet accuracy {kind}".strip()
        if metric in report.table:
            cells[kind or "all"] = report.table.loc[rows, [metric, f"{metric} low", f"{metric} high"]].to_numpy(float)
    return _dots("Triplet accuracy by kind of negative, 95 % intervals", rows, cells)


@more_fonts()
def cosines_of_triplets(embeddings: Mapping[str, np.ndarray], held_out: HeldOut) -> Figure:
    """Draw how the cosines of anchors with positives and with each kind of negative are distributed, by model.

    `embeddings`: name → (N, d) of `held_out.texts`.
    """
    figure, panels = _panels(len(embeddings), "Cosine of the anchor with its positive and with its negative", "density")
    anchors, positives, negatives = held_out.triplets.T
    for (name, vectors), axes in zip(embeddings.items(), panels, strict=True):
        unit = unit_rows(vectors)
        groups = {"positive": (unit[anchors] * unit[positives]).sum(axis=1)}
        cosines = (unit[anchors] * unit[negatives]).sum(axis=1)
        groups |= {str(kind): cosines[held_out.kind == kind] for kind in np.unique(held_out.kind)}
        bins = np.linspace(min(map(np.min, groups.values())), 1, 40) if len(anchors) else 1
        for kind, values in groups.items():
            colour = COLOURS.get(kind, INK)
            label = f"{'negative: ' * (kind != 'positive')}{kind} ({len(values):,})"
            face = (colour, 0.2) if kind == "positive" else "none"  # outlines of the others stay distinct
            look: Any = {"histtype": "stepfilled", "fc": face, "ec": colour, "lw": 1.8}
            axes.hist(values, bins, density=True, label=label, **look)
            axes.axvline(float(np.median(values)), color=colour, lw=1.2, ls="--")
        gap = np.median(groups["positive"]) - np.median(cosines) if len(anchors) else np.nan
        title = f"{drawable(name)}: median (dashed) of positives minus that of all negatives: {gap:.2f}"
        axes.set_title(title, size=10, color=INK, loc="left")
    figure.legend(*panels[0].get_legend_handles_labels(), **LEGEND)
    return figure


@more_fonts()
def calibration(embeddings: Mapping[str, np.ndarray], held_out: HeldOut) -> Figure:
    """Draw how likely a pair of patents is a citation, or shares a subclass, at each cosine; by model.

    Pairs are at most `QUERIES` queries with all patents of the corpus but their family. Grey: how the cosines of all
    pairs are distributed. That they are high says little by itself: embeddings of a narrow field fill a narrow cone
    (Ethayarajh 2019, arXiv:1909.00512).
    """
    title = "What a cosine means: share of pairs that cite, or share a subclass"
    figure, panels = _panels(len(embeddings), title, "share of pairs")
    queries = held_out.queries[:: max(1, -(-len(held_out.queries) // QUERIES))]
    searched = np.array([~held_out.hidden(int(query)) for query in queries])
    texts, pairs = held_out.texts, held_out.pairs
    labels = MultiLabelBinarizer(sparse_output=True).fit_transform(texts["subclasses"])
    truths = {"cites": csr_array((np.ones(len(pairs)), pairs.T), (len(texts), len(texts)))[queries]}
    truths |= {"shares a subclass": labels[queries] @ labels.T} if labels.shape[1] else {}
    for (name, vectors), axes in zip(embeddings.items(), panels, strict=True):
        unit = unit_rows(vectors)
        cosines = np.minimum((unit[queries] @ unit.T)[searched], 1)
        count, bins = np.histogram(cosines, 30, (cosines.min(), 1))
        middle = (bins[1:] + bins[:-1]) / 2
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        for (what, truth), colour, mark in zip(truths.items(), MODELS[:2], "os", strict=False):
            hits = np.histogram(cosines[truth.toarray()[searched] > 0], bins)[0]
            shown = (count >= LEAST_PAIRS) & (hits > 0)
            axes.plot(middle[shown], hits[shown] / count[shown], color=colour, marker=mark, ms=4, label=what)
        behind = axes.twinx()
        behind.fill_between(middle, count, step="mid", color=FAINT, alpha=0.5, lw=0)
        behind.axis("off")
        axes.set(zorder=2, facecolor="none", ylim=(None, 1.3))
        low, median, high = np.quantile(cosines, [0.05, 0.5, 0.95])
        text = f"{drawable(name)}: 90 % of all pairs lie between {low:.2f} and {high:.2f}, median {median:.2f}"
        axes.set_title(text, size=10, color=INK, loc="left")
    figure.legend(*panels[0].get_legend_handles_labels(), **LEGEND)
    return figure


def nearest_table(
    embeddings: Mapping[str, np.ndarray], held_out: HeldOut, patents: Sequence[str] = (), count: int = 5
) -> Styler:
    """Return a table for a notebook: the `count` patents nearest to some by each model, with their cosines.

    `patents`: their ids; by default five queries, the same each time. ★: cited by the patent. Families are left out.
    """
    texts, spread = held_out.texts, np.linspace(0, len(held_out.queries) - 1, 5).round().astype(int)
    chosen = np.flatnonzero(texts["patent_id"].isin(patents)) if patents else np.unique(held_out.queries[spread])
    cells: dict[str, dict[tuple[str, int], str]] = {name: {} for name in embeddings}
    for row in chosen:
        searched, cited = np.flatnonzero(~held_out.hidden(int(row))), held_out.pairs[held_out.pairs[:, 0] == row, 1]
        for name, vectors in embeddings.items():
            found = nearest(vectors, vectors[[row]], count, searched)
            for rank, (near, cosine) in enumerate(zip(*map(np.ravel, found), strict=True), start=1):
                described = f"{cosine:.2f}  {'★ ' * (near in cited)}{_described(texts.iloc[near])}"
                cells[name][_described(texts.iloc[row]), rank] = described
    return text_table(pd.DataFrame(cells).rename_axis(["patent", ""]))


def _described(patent: pd.Series) -> str:
    return " · ".join(filter(None, (shortened(patent["title"], 70), patent["subclass"], patent["patent_id"])))


def _main_rows(report: Report) -> list[str]:
    return [name for name in report.rows if name != "TF-IDF" and not name.startswith("BM25 + ")]


def _dots(title: str, rows: Sequence[str], groups: Mapping[str, np.ndarray]) -> Figure:
    """Draw for each group a dot for each row, with its interval: group → value, low and high (rows, 3)."""
    height = (len(rows) + 1) * ROW
    figure = Figure(figsize=(WIDTH, len(groups) * height + 1.1), layout="constrained", facecolor="white")
    axes = plain_axes(figure.subplots(), title)
    for number, row in enumerate(rows):
        value, low, high = np.stack(list(groups.values()))[:, number].T
        y = np.arange(len(groups)) * height + number * ROW
        colour, mark = ("#777777" if row == "BM25" else MODELS[number % len(MODELS)]), "Dosv^Ph"[number % 7]
        axes.hlines(y, low, high, color=colour, lw=1.6)
        axes.plot(value, y, mark, color=colour, ms=5.5, label=drawable(shortened(row, 40)))
    middle = np.arange(len(groups)) * height + (len(rows) - 1) * ROW / 2
    axes.set_yticks(middle, [drawable(group) for group in groups])
    axes.set(ylim=(middle[-1] + height / 2, -height / 2 + middle[0]))
    axes.grid(axis="x", color="#EEEEEE")
    figure.legend(**LEGEND)
    return figure


def _panels(count: int, title: str, what: str) -> tuple[Figure, list[Any]]:
    """A figure with a panel for each model, one above the other, of the same cosines."""
    figure = Figure(figsize=(WIDTH, PANEL * count + 0.6), layout="constrained", facecolor="white")
    figure.suptitle(title, x=0.01, ha="left", size=12, weight="bold", color=INK)
    panels = [plain_axes(axes, "") for axes in figure.subplots(count, 1, squeeze=False, sharex=True).flat]
    for axes in panels:
        axes.set_ylabel(what, color=INK, size=9)
    panels[-1].set_xlabel("cosine", color=INK)
    return figure, panels
