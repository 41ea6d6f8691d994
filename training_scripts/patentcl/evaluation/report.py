"""The report of an evaluation: rows to print, to save, and to compare with the base."""

import html
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.cli import InputError
from ..common.files import beside
from .held_out import PARTS
from .metrics import Row
from .significance import paired_difference

COMPARED = "nDCG@10"  # the metric of the verdict
DIFFERENCES = (COMPARED, "triplet accuracy", "CPC F1 micro")  # shown with a difference to the base; the CSV has all
SIGNIFICANT = 0.05
LESS_IS_BETTER = ("rank among random", "rank among hard")
SHOWN = {
    "Cited patents found": ["nDCG@10", "Recall@10", "Recall@100", "MRR", "nDCG@10 IN", "nDCG@10 OUT", "nDCG@10 known",
                            "nDCG@10 unseen"],
    "Told apart": ["triplet accuracy", "triplet accuracy citation", "triplet accuracy sibling",
                   "triplet accuracy random", "rank among random", "rank among hard"],
    "CPC": ["CPC F1 micro", "CPC F1 macro", "CPC accuracy", "v-measure"],
}  # fmt: skip


@dataclass
class Report:
    """The rows of an evaluation by name, in table order; `base` names the row that the others are compared with.

    `seed` draws every bootstrap sample, so a comparison has one p-value wherever it is shown. `setting` says what was
    evaluated, and goes into the saved files; `warnings` are shown below the tables.
    """

    rows: dict[str, Row]
    base: str
    seed: int = 42
    setting: dict[str, str | int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    _differences: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict, repr=False)

    def difference(self, row: str, metric: str) -> tuple[float, float]:
        """Return the mean difference between `row` and the base, and its paired bootstrap p-value; cached."""
        if (row, metric) not in self._differences:
            base, other = (self.rows[name].by_query[metric] for name in (self.base, row))
            self._differences[row, metric] = paired_difference(base, other, self.seed)
        return self._differences[row, metric]

    def queries(self) -> dict[str, int]:
        """Return the number of queries behind the retrieval metrics: all (""), and those of each of `PARTS`."""
        known = self.rows[self.base].by_query
        return {part: len(known[name]) for part in ("", *PARTS) if (name := f"{COMPARED} {part}".strip()) in known}

    def to_frame(self) -> pd.DataFrame:
        """Return all metrics, a row each: values, 95 % intervals, differences to the base, p-values, query counts."""
        table = {}
        queries = {f"queries {part}".strip(): number for part, number in self.queries().items()}
        for name, row in self.rows.items():
            entry = dict(row.values)
            for metric, (low, high) in row.interval.items():
                entry |= {f"{metric} low": low, f"{metric} high": high}
            for metric in row.by_query if name != self.base else ():
                difference, p = self.difference(name, metric)
                entry |= {f"{metric} - base": difference, f"{metric} p": p}
            table[name] = entry | queries
        return pd.DataFrame.from_dict(table, orient="index")

    def main_metrics(self) -> pd.DataFrame:
        """Return the triplet accuracy and nDCG@10 of each row, to stand beside a picture."""
        names = ["triplet accuracy", COMPARED]
        return pd.DataFrame({name: {key: row.values[name] for key, row in self.rows.items()} for name in names})

    def verdict(self, row: str) -> str:
        """Return one line: base → `row`, and whether that is better, worse, or not distinguishable by these queries."""
        split = self.setting.get("split", "test")
        base, tuned, words = (self.rows[name].values for name in (self.base, row, "BM25"))
        accuracy = f"triplet accuracy {base['triplet accuracy']:.3f} → {tuned['triplet accuracy']:.3f} on {split}"
        queries = len(self.rows[self.base].by_query[COMPARED])
        if not queries:
            return f"{row}: {accuracy} (no {split} patent cites another)"
        difference, p = self.difference(row, COMPARED)
        word = "better than its base" if difference > 0 else "worse than its base"
        if p > SIGNIFICANT:
            word = f"not clearly different from its base, with {queries} queries"
        return (
            f"{row}: {COMPARED} {base[COMPARED]:.3f} → {tuned[COMPARED]:.3f} (p {p:.3f}), {accuracy}: {word} "
            f"(BM25: {words[COMPARED]:.3f})"
        )

    def to_text(self) -> str:
        """Return the tables for a terminal; * marks the best value of a column."""
        tables = [
            f"{title}\n{self._cells(metrics, lambda text: text + '*').to_string()}" for title, metrics in SHOWN.items()
        ]
        tables[0] += f"\n{self._queries_line()}"
        return "\n\n".join([*tables, "\n".join(["* best of its column; (p) by bootstrap", *self.warnings])])

    def to_markdown(self) -> str:
        """Return the tables as Markdown; the best value of a column is bold."""
        parts = []
        for title, metrics in SHOWN.items():
            cells = self._cells(metrics, lambda text: f"**{text}**")
            rows = [[_escaped(str(name)), *texts] for name, texts in zip(cells.index, cells.to_numpy(), strict=True)]
            lines = [["", *cells.columns], ["---"] * (len(cells.columns) + 1), *rows]
            parts.append(f"{title}:\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
        parts.insert(1, self._queries_line())
        return "\n\n".join([*parts, *map(_escaped, self.warnings)]) + "\n"

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def save(self, folder: Path, name: str, **setting: object) -> None:
        """Write all metrics to `name`.csv and the tables to `name`.md in `folder`; both name the setting.

        `setting` adds to the report's own. Raises `InputError` as `check_output` does.
        """
        check_output(folder, name)
        described = {key: str(value) for key, value in setting.items()} | self.setting
        with beside(folder / f"{name}.csv") as scratch:
            self.to_frame().assign(**described).to_csv(scratch, index_label="row")
        line = "; ".join(f"{key}: {_escaped(str(value))}" for key, value in described.items())
        with beside(folder / f"{name}.md") as scratch:
            scratch.write_text(f"{self.to_markdown()}\n{line}\n" if line else self.to_markdown(), encoding="utf-8")

    def _queries_line(self) -> str:
        total, *parts = self.queries().items()
        listed = ", ".join(f"{part} {number:,}" for part, number in parts)
        return f"{total[1]:,} queries" + (f"; with relevant patents of a part: {listed}" if listed else "")

    def _cells(self, metrics: Sequence[str], mark: Callable[[str], str]) -> pd.DataFrame:
        """Texts of one table; the difference to the base stands behind the metrics that are compared."""
        table = {name: row.values for name, row in self.rows.items()}
        values = pd.DataFrame.from_dict(table, orient="index").reindex(columns=list(metrics)).dropna(axis=1, how="all")
        cells = pd.DataFrame(index=values.index)
        for metric in map(str, values):
            best = values[metric].min() if metric in LESS_IS_BETTER else values[metric].max()
            texts = [self._cell(row, metric, best, mark) for row in self.rows]
            cells[metric.replace("triplet accuracy ", "… ")] = texts
            if metric in DIFFERENCES:
                cells["to base (p)"] = [self._against(row, metric) for row in self.rows]
        return cells

    def _cell(self, row: str, metric: str, best: float, mark: Callable[[str], str]) -> str:
        value, digits = self.rows[row].values.get(metric, np.nan), 2 if metric in LESS_IS_BETTER else 3
        if np.isnan(value):
            return "–"
        text = f"{value:.{digits}f}"
        text = mark(text) if round(value, digits) == round(best, digits) else text
        low, high = self.rows[row].interval.get(metric, (np.nan, np.nan))
        return text if np.isnan(low) else f"{text} [{low:.3f}, {high:.3f}]"

    def _against(self, row: str, metric: str) -> str:
        if row == self.base:
            return "–"
        difference, p = self.difference(row, metric)
        return f"{difference:+.3f} ({p:.3f})"


def check_output(folder: Path, name: str) -> None:
    """Create `folder`. Raises `InputError` if it is not writable, or if saving there would replace a file not ours."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as problem:
        reason = "it is a file" if isinstance(problem, FileExistsError) else problem.strerror
        raise InputError(f"{folder} is not a writable folder ({reason}): choose another --output") from None
    table, text = folder / f"{name}.csv", folder / f"{name}.md"
    is_ours = table.is_file() and table.read_bytes().startswith(b"row,nDCG@10,")
    for path in (table, text):
        if path.exists() and not is_ours:
            raise InputError(f"{path} exists but was not written by patentCL: move it or choose another --output")


def _escaped(name: str) -> str:
    """`name` as plain text in Markdown."""
    name = html.escape(" ".join(name.split()), quote=False)
    return re.sub(r"([\\\\`*_{}\[\]|#])", r"\\\1", name)
