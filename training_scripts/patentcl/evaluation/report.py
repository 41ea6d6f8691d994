"""The report of an evaluation: rows to print, to save, and to compare with the base."""

import html
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.cli import InputError
from ..common.files import beside
from .held_out import PARTS
from .metrics import METRICS, Metric, Row
from .significance import paired_difference, ratio_interval

COMPARED = "nDCG@10"  # the metric of the verdict
SIGNIFICANT = 0.05


@dataclass
class Report:
    """The rows of an evaluation by name, in table order; `base` names the row that the others are compared with.

    `seed` draws every bootstrap sample, so a comparison has one p-value wherever it is shown. `setting` says what was
    evaluated and goes into the saved files; `warnings` are shown below the tables.
    """

    rows: dict[str, Row]
    base: str
    seed: int = 42
    setting: dict[str, str | int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    _bootstraps: dict[tuple[str, str, str], tuple[float, float]] = field(default_factory=dict, repr=False)

    def difference(self, row: str, metric: str) -> tuple[float, float]:
        """Return the mean difference between `row` and the base, and its paired bootstrap p-value; cached."""
        base, other = (self.rows[name].units[metric] for name in (self.base, row))
        return self._once(("difference", row, metric), paired_difference, base, other)

    def interval(self, row: str, metric: str) -> tuple[float, float]:
        """Return the ends of the 95 % bootstrap interval of a metric that is a ratio; cached."""
        return self._once(("interval", row, metric), ratio_interval, self.rows[row].units[metric])

    def _once(
        self, key: tuple[str, str, str], bootstrap: Callable[..., tuple[float, float]], *units: np.ndarray
    ) -> tuple[float, float]:
        if key not in self._bootstraps:
            self._bootstraps[key] = bootstrap(*units, self.seed)
        return self._bootstraps[key]

    def queries(self) -> dict[str, int]:
        """Return the number of queries behind the retrieval metrics: all (""), and those of each of `PARTS`."""
        known = self.rows[self.base].units
        return {part: len(known[name]) for part in ("", *PARTS) if (name := f"{COMPARED} {part}".strip()) in known}

    def to_frame(self) -> pd.DataFrame:
        """Return all metrics, a row each: values, 95 % intervals, differences to the base, p-values, query counts."""
        table = {}
        for name, row in self.rows.items():
            table[name] = dict(row.values)
            for metric in (metric for metric in row.units if METRICS[metric].interval):
                table[name] |= zip((f"{metric} low", f"{metric} high"), self.interval(name, metric), strict=True)
            for metric in row.units if name != self.base else ():
                table[name] |= zip((f"{metric} - base", f"{metric} p"), self.difference(name, metric), strict=True)
        counts = {f"queries {part}".strip(): number for part, number in self.queries().items()}
        return pd.DataFrame.from_dict(table, orient="index").assign(**counts)

    def main_metrics(self) -> pd.DataFrame:
        """Return the triplet accuracy and nDCG@10 of each row, for beside a picture; columns name the split."""
        split = self.setting.get("split", "test")
        table = pd.DataFrame({name: row.values for name, row in self.rows.items()}).T
        return table[["triplet accuracy", COMPARED]].add_suffix(f" ({split})")

    def verdict(self, row: str) -> str:
        """Return one line: base → `row`, and whether that is better, worse, or more than these queries can tell."""
        split = self.setting.get("split", "test")
        base, tuned, words = (self.rows[name].values for name in (self.base, row, "BM25"))
        accuracy = f"triplet accuracy {base['triplet accuracy']:.3f} → {tuned['triplet accuracy']:.3f} on {split}"
        queries = len(self.rows[self.base].units[COMPARED])
        if not queries:
            return f"{row}: {accuracy} (no {split} patent cites another)"
        difference, p = self.difference(row, COMPARED)
        word = "better than its base" if difference > 0 else "worse than its base"
        if p > SIGNIFICANT:
            word = f"no significant difference from the base ({queries} queries)"
        change = f"{COMPARED} {base[COMPARED]:.3f} → {tuned[COMPARED]:.3f} (p {p:.3f})"
        return f"{row}: {change}, {accuracy}: {word} (BM25: {words[COMPARED]:.3f})"

    def to_text(self) -> str:
        """Return the tables for a terminal; * marks the best value of a column."""
        tables = [f"{group}\n{cells.to_string()}" for group, cells in self._tables("{}*").items()]
        tables[0] += f"\n{self._query_counts()}"
        return "\n\n".join([*tables, "\n".join(["* best of its column; (p) by bootstrap", *self.warnings])])

    def to_markdown(self) -> str:
        """Return the tables as Markdown; the best value of a column is bold."""
        parts = []
        for group, cells in self._tables("**{}**").items():
            rows = [[_escaped(str(name)), *texts] for name, texts in zip(cells.index, cells.to_numpy(), strict=True)]
            lines = [["", *cells.columns], ["---"] * (len(cells.columns) + 1), *rows]
            parts.append(f"{group}:\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
        parts.insert(1, self._query_counts())
        return "\n\n".join([*parts, *map(_escaped, self.warnings)]) + "\n"

    _repr_markdown_ = to_markdown  # how a notebook shows a report

    def save(self, folder: Path, name: str, **setting: object) -> None:
        """Write all metrics to `name`.csv and the tables to `name`.md in `folder`; `setting` adds to the report's own.

        Raises `InputError` as `check_output` does.
        """
        check_output(folder, name)
        described = {key: str(value) for key, value in setting.items()} | self.setting
        line = "; ".join(f"{key}: {_escaped(str(value))}" for key, value in described.items())
        with beside(folder / f"{name}.csv") as scratch:
            self.to_frame().assign(**described).to_csv(scratch, index_label="row")
        with beside(folder / f"{name}.md") as scratch:
            scratch.write_text(f"{self.to_markdown()}\n{line}\n", encoding="utf-8")

    def _query_counts(self) -> str:
        total, *parts = self.queries().items()
        listed = ", ".join(f"{part} {number:,}" for part, number in parts)
        return f"{total[1]:,} queries" + (f"; with relevant patents of a part: {listed}" if listed else "")

    def _tables(self, best: str) -> dict[str, pd.DataFrame]:
        """The printed tables by group, if it has any value; `best` formats the best value of a column."""
        tables: dict[str, pd.DataFrame] = {}
        known = pd.DataFrame({name: row.values for name, row in self.rows.items()}).T
        groups = {METRICS[name].group for name in known.columns[known.notna().any()]}
        for metric in METRICS.values():
            if metric.shown and metric.group in groups and metric.name in known:
                values = known[metric.name]
                table = tables.setdefault(metric.group, pd.DataFrame(index=values.index))
                table[metric.name.replace("triplet accuracy ", "… ")] = self._column(metric, values, best)
                if metric.compared:
                    differences = [self._against(name, metric.name) for name in self.rows]
                    table.insert(len(table.columns), "to base (p)", differences, allow_duplicates=True)
        return tables

    def _against(self, row: str, metric: str) -> str:
        difference, p = (np.nan, 1.0) if row == self.base else self.difference(row, metric)
        return "–" if np.isnan(difference) else f"{difference:+.3f} ({p:.3f})"

    def _column(self, metric: Metric, values: pd.Series, best: str) -> list[str]:
        rounded = values.round(metric.digits)
        winner = rounded.max() if metric.higher_is_better else rounded.min()
        cells = []
        for name, value in rounded.items():
            text = "–" if np.isnan(value) else f"{value:.{metric.digits}f}"
            text = best.format(text) if value == winner else text
            if metric.interval and not np.isnan(value):
                text += " [{:.3f}, {:.3f}]".format(*self.interval(str(name), metric.name))
            cells.append(text)
        return cells


def check_output(folder: Path, name: str) -> None:
    """Create `folder`. Raises `InputError` if it is not writable, or if `name`.csv there is not from an evaluation."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as problem:
        raise InputError(f"{folder} is not a writable folder ({problem.strerror}). Choose another --output.") from None
    path = folder / f"{name}.csv"
    if path.exists() and not (path.is_file() and path.read_bytes().startswith(b"row,nDCG@10,")):
        raise InputError(f"{path} exists but was not written by patentCL. Move it or choose another --output.")


def _escaped(name: str) -> str:
    """`name` as plain text in Markdown."""
    name = html.escape(" ".join(name.split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]|#])", r"\\\1", name)
