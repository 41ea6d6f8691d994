"""The table of an evaluation: for a terminal, as CSV with everything, and as Markdown for a model card."""

import html
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.cli import InputError
from ..common.files import beside
from .compare import Comparison
from .held_out import PARTS, EvaluationSet
from .metrics import Figures
from .significance import paired_difference

COMPARED = "nDCG@10"  # the figure of the verdict
DIFFERENCES = (COMPARED, "triplet accuracy", "CPC F1 micro")  # to the base, with their p-values; the CSV has all
SIGNIFICANT = 0.05
LESS_IS_BETTER = ("rank among random", "rank among hard")
SHOWN = {
    "Cited patents found": ["nDCG@10", "Recall@10", "Recall@100", "MRR", "nDCG@10 IN", "nDCG@10 OUT", "nDCG@10 known",
                            "nDCG@10 unseen"],
    "Told apart": ["triplet accuracy", "triplet accuracy citation", "triplet accuracy sibling",
                   "triplet accuracy random", "rank among random", "rank among hard"],
    "CPC": ["CPC F1 micro", "CPC F1 macro", "CPC accuracy", "v-measure"],
}  # fmt: skip


def as_table(found: Comparison, seed: int = 42) -> pd.DataFrame:
    """All figures, a row each: values, ends of 95 % intervals, differences to the base and their p-values, queries."""
    table = {}
    queries = {f"queries {part}".strip(): number for part, number in queries_of(found).items()}
    for name, row in found.rows.items():
        entry = dict(row.values)
        for metric, (low, high) in row.interval.items():
            entry |= {f"{metric} low": low, f"{metric} high": high}
        for metric in row.by_query:
            if name != found.base:
                difference, p = difference_to_base(found, name, metric, seed)
                entry |= {f"{metric} - base": difference, f"{metric} p": p}
        table[name] = entry | queries
    return pd.DataFrame.from_dict(table, orient="index")


def queries_of(found: Comparison) -> dict[str, int]:
    """How many queries the figures of retrieval are means of: all (""), and those that cite patents of each part."""
    known = found.rows[found.base].by_query
    return {part: len(known[name]) for part in ("", *PARTS) if (name := f"{COMPARED} {part}".strip()) in known}


def _queries_line(found: Comparison) -> str:
    """The numbers of queries in a sentence."""
    whole, *parts = queries_of(found).items()
    told = ", ".join(f"{part} {number:,}" for part, number in parts)
    return f"{whole[1]:,} queries" + (f"; those that cite such patents: {told}" if told else "")


def difference_to_base(found: Comparison, name: str, metric: str, seed: int = 42) -> tuple[float, float]:
    """Mean difference of a row to the base over the queries, and its paired bootstrap p-value."""
    return paired_difference(found.rows[found.base].by_query[metric], found.rows[name].by_query[metric], seed)


def main_figures(found: Comparison) -> pd.DataFrame:
    """Triplet accuracy and nDCG@10 of each row, for beside a picture."""
    return as_table(found)[["triplet accuracy", COMPARED]]


def setting_of(on: EvaluationSet, triplets: Path, max_length: int, seed: int) -> dict[str, str | int]:
    """What an evaluation was made of and with, beside its models: goes into its files."""
    return {
        "triplets": str(triplets),
        "split": on.split,
        "patents to search": int(on.corpus.sum()),
        "triplets of the split": len(on.triplets),
        "tokens of a text": max_length or "as many as each model can",
        "seed": seed,
    }


def write_tables(
    found: Comparison, folder: Path, name: str, seed: int = 42, setting: Mapping[str, str | int] | None = None
) -> None:
    """Write all figures to `name`.csv, those that are shown to `name`.md, in `folder`; and in both the `setting`."""
    check_output(folder, name)
    setting = setting or {}
    with beside(folder / f"{name}.csv") as scratch:
        as_table(found, seed).assign(**setting).to_csv(scratch, index_label="row")
    with beside(folder / f"{name}.md") as scratch:
        told = [f"{key}: {_escaped(str(value))}" for key, value in setting.items()]
        scratch.write_text(as_markdown(found, seed) + ("\n" + "; ".join(told) + "\n" if told else ""), encoding="utf-8")


def check_output(folder: Path, name: str) -> None:
    """Make `folder`. Raises `InputError` where tables cannot be written to it, or would replace somebody else's."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as problem:
        reason = "it is a file" if isinstance(problem, FileExistsError) else problem.strerror
        raise InputError(f"{folder} is no folder that can be written to ({reason}): name another --output") from None
    begins = {f"{name}.csv": "row,nDCG@10,", f"{name}.md": next(iter(SHOWN))}
    for file, start in begins.items():  # ours are made anew each time; somebody else's are not replaced
        path = folder / file
        if path.is_dir() or (path.exists() and not path.read_bytes().startswith(start.encode())):
            raise InputError(f"{path} is there and is no table of ours: name another --output")


def as_text(found: Comparison, seed: int = 42) -> str:
    """The figures for a terminal; * marks the best of a column."""
    tables = [
        f"{title}\n{_cells(found, metrics, seed, lambda text: text + '*').to_string()}"
        for title, metrics in SHOWN.items()
    ]
    tables[0] += f"\n{_queries_line(found)}"
    return "\n\n".join([*tables, "* the best of its column; (p) by bootstrap"])


def as_markdown(found: Comparison, seed: int = 42) -> str:
    """The figures as Markdown tables; the best of a column is bold."""
    parts = []
    for title, metrics in SHOWN.items():
        cells = _cells(found, metrics, seed, lambda text: f"**{text}**")
        rows = [[_escaped(str(name)), *texts] for name, texts in zip(cells.index, cells.to_numpy(), strict=True)]
        lines = [["", *cells.columns], ["---"] * (len(cells.columns) + 1), *rows]
        parts.append(f"{title}:\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    parts.insert(1, _queries_line(found))
    return "\n\n".join(parts) + "\n"


def _escaped(name: str) -> str:
    """A model's name as plain text in Markdown."""
    name = html.escape(" ".join(name.split()), quote=False)
    return re.sub(r"([\\\\`*_{}\[\]|#])", r"\\\1", name)


def _cells(found: Comparison, metrics: list[str], seed: int, mark: Callable[[str], str]) -> pd.DataFrame:
    """Texts of a part of the table; the difference to the base stands behind the figure that is compared."""
    shown = [metric for metric in metrics if any(_known(row, metric) for row in found.rows.values())]
    cells = pd.DataFrame(index=list(found.rows))
    for metric in shown:
        values = pd.Series({name: row.values.get(metric, np.nan) for name, row in found.rows.items()})
        best = values.min() if metric in LESS_IS_BETTER else values.max()
        digits = 2 if metric in LESS_IS_BETTER else 3
        texts = {}
        for name, value in values.items():
            text = "–" if np.isnan(value) else f"{value:.{digits}f}"
            text = mark(text) if round(value, digits) == round(best, digits) else text
            low, high = found.rows[str(name)].interval.get(metric, (np.nan, np.nan))
            texts[name] = text if np.isnan(low) else f"{text} [{low:.3f}, {high:.3f}]"
        cells[metric.replace("triplet accuracy ", "… ")] = pd.Series(texts)
        if metric in DIFFERENCES:
            cells["to base (p)"] = [_against(found, name, metric, seed) for name in found.rows]
    return cells


def _known(row: Figures, metric: str) -> bool:
    return not np.isnan(row.values.get(metric, np.nan))


def _against(found: Comparison, name: str, metric: str, seed: int) -> str:
    if name == found.base:
        return "–"
    difference, p = difference_to_base(found, name, metric, seed)
    return f"{difference:+.3f} ({p:.3f})"


def verdict(found: Comparison, name: str, seed: int = 42) -> str:
    """One line: base → fine-tuned, and whether that is better, worse, or nothing that these queries can tell."""
    base, tuned, words = (found.rows[row].values for row in (found.base, name, "BM25"))
    accuracy = f"triplet accuracy {base['triplet accuracy']:.3f} → {tuned['triplet accuracy']:.3f}"
    queries = len(found.rows[found.base].by_query[COMPARED])
    if not queries:
        return f"{name}: {accuracy} on test (no test patent cites another)"
    difference, p = difference_to_base(found, name, COMPARED, seed)
    word = "better than its base" if difference > 0 else "worse than its base"
    if p > SIGNIFICANT:
        word = f"not clearly different from its base, with {queries} queries"
    return (
        f"{name}: {COMPARED} {base[COMPARED]:.3f} → {tuned[COMPARED]:.3f} (p {p:.3f}), {accuracy} on test: {word} "
        f"(BM25: {words[COMPARED]:.3f})"
    )
