"""The report of an evaluation: rows to print, to save, and to compare with the base."""

import html
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from ..common.cli import InputError
from ..common.files import beside, locked
from .held_out import PARTS
from .metrics import METRICS, Metric, Row
from .significance import interval, p_value, resampled

COMPARED, BM25 = "nDCG@10", "BM25"  # the metric of the verdict, and the row that is compared besides the base
SHARE = "gain on solved"  # of the gain in it, if that is significant
SIGNIFICANT = 0.05
# What is counted → a metric with a value for each.
COUNTED = {"queries": COMPARED, **{f"queries {part}": f"{COMPARED} {part}" for part in PARTS}}
COUNTED |= {"queries solved": f"{COMPARED} solved", "anchors": "triplet accuracy", "patents classified": "CPC F1"}
LEGEND = (
    "In brackets: 95 % interval by bootstrap over the queries, or over as many queries, anchors or patents as the head "
    "of the column says. To base: difference from the base model, its interval and p-value (paired bootstrap)."
)


@dataclass
class Report:
    """The rows of an evaluation by name, in table order; `base` names the row that the others are compared with.

    `seed` draws every bootstrap sample. `setting` says what was evaluated and goes into the saved files; `warnings` are
    shown below the tables. A notebook shows a report as Markdown.
    """

    rows: dict[str, Row]
    base: str
    seed: int = 42
    setting: dict[str, str | int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @cached_property
    def table(self) -> pd.DataFrame:
        """All metrics, a row each: values, differences to the base, 95 % intervals of both, p-values, counts.

        The metric of the verdict is compared with BM25, too.
        """
        table, base = {name: dict(row.values) for name, row in self.rows.items()}, self.rows[self.base]
        for metric in base.units:
            rows = resampled([row.units[metric] for row in self.rows.values()], self.seed).T
            draws = dict(zip(self.rows, rows, strict=True))
            others = {"base": self.base} | ({BM25: BM25} if metric == COMPARED else {})
            for name, cells in table.items():
                cells[f"{metric} low"], cells[f"{metric} high"] = interval(draws[name])
                for title, other in others.items():
                    if name != other:
                        column = f"{metric} - {title}"
                        cells[column] = cells[metric] - self.rows[other].values[metric]
                        cells[f"{column} low"], cells[f"{column} high"] = interval(draws[name] - draws[other])
                if name != self.base:
                    cells[f"{metric} p"] = p_value(draws[name] - draws[self.base])
        for cells in table.values():
            if SHARE in cells and not cells.get(f"{COMPARED} p", 1) <= SIGNIFICANT:
                cells[SHARE] = float("nan")
        counts = {what: len(base.units[metric]) for what, metric in COUNTED.items() if metric in base.units}
        return pd.DataFrame.from_dict(table, orient="index").assign(**counts)

    def main_metrics(self) -> pd.DataFrame:
        """Return the triplet accuracy and nDCG@10 of each row, for beside a picture; columns name the split."""
        return self.table[["triplet accuracy", COMPARED]].add_suffix(f" ({self.setting.get('split', 'test')})")

    def verdict(self, row: str) -> str:
        """Return one line: base → `row`, and whether that is better, worse, or more than these queries can tell."""
        split = self.setting.get("split", "test")
        base, tuned, words = (self.table.loc[name] for name in (self.base, row, BM25))
        accuracy = f"triplet accuracy {base['triplet accuracy']:.3f} → {tuned['triplet accuracy']:.3f} on {split}"
        if not base["queries"]:
            return f"{row}: {accuracy} (no {split} patent cites another)"
        word = "better than its base" if tuned[f"{COMPARED} - base"] > 0 else "worse than its base"
        if (p := tuned[f"{COMPARED} p"]) > SIGNIFICANT:
            word = f"no significant difference from the base (queries: {base['queries']:.0f})"
        change = f"{COMPARED} {base[COMPARED]:.3f} → {tuned[COMPARED]:.3f} (p {p:.3f})"
        beyond = [f"{COMPARED} - {BM25}{end}" for end in ("", " low", " high")]
        compared = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*tuned[beyond])
        return f"{row}: {change}, {accuracy}: {word} (BM25: {words[COMPARED]:.3f}, {compared})"

    def to_markdown(self) -> str:
        """Return the tables as Markdown, in columns for a terminal; the best value of a column is bold."""
        size = f"{self.table['queries'].iloc[0]:,} queries, {self.setting.get('documents', 0):,} documents"
        parts = [LEGEND]
        for group in dict.fromkeys(metric.group for metric in METRICS.values()):
            shown = [m for m in METRICS.values() if m.group == group and m.shown and m.name in self.table]
            if self.table[[metric.name for metric in shown]].notna().any(axis=None):
                columns = [["", "---", *map(escaped, self.rows)]]
                columns += [column for metric in shown for column in self._columns(metric)]
                padded = ([cell.ljust(max(map(len, column))) for cell in column] for column in columns)
                lines = "\n".join(f"| {' | '.join(cells)} |" for cells in zip(*padded, strict=True))
                parts.append(f"{group}: {size}\n\n{lines}")
        parts.append("; ".join(f"{key}: {value}" for key, value in self.setting.items()))
        return "\n\n".join([*parts, *map(escaped, self.warnings)]) + "\n"

    _repr_markdown_ = to_markdown

    def _columns(self, metric: Metric) -> Iterator[list[str]]:
        """The printed column of a metric, and that of its differences to the base, if they are shown."""
        values, digits = self.table[metric.name].round(metric.digits), metric.digits
        best = {True: values.max(), False: values.min(), None: None}[metric.higher_is_better]
        texts = [f"**{value:.{digits}f}**" if value == best else f"{value:.{digits}f}" for value in values]
        head, count = metric.name.replace("triplet accuracy ", "… "), self.table["queries"].iloc[0]
        if (units := self.rows[self.base].units.get(metric.name)) is not None:
            ends = self.table[[f"{metric.name} low", f"{metric.name} high"]].to_numpy()
            brackets = ["" if math.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]" for low, high in ends]
            texts = [text + bracket for text, bracket in zip(texts, brackets, strict=True)]
            head += f" ({len(units):,})" if len(units) != count else ""
        yield [head, "---", *map(_dashed, texts)]
        if metric.compared:
            names = [f"{metric.name} {of}" for of in ("- base", "- base low", "- base high", "p")]
            compared = self.table.reindex(columns=names).to_numpy()
            yield ["to base", "---", *(_dashed("{:+.3f} [{:+.3f}, {:+.3f}] ({:.3f})".format(*row)) for row in compared)]

    def save(self, folder: Path, name: str, **setting: str | Path) -> None:
        """Write all metrics to `name`.csv and the tables to `name`.md in `folder`; `setting` adds to the report's own.

        Raises `InputError` as `check_output` does.
        """
        check_output(folder, name)
        with beside(folder / f"{name}.csv") as scratch:
            self.table.assign(**{key: str(value) for key, value in setting.items()}, **self.setting).to_csv(
                scratch, index_label="row"
            )
        with beside(folder / f"{name}.md") as scratch:
            more = "".join(f"\n{key}: {escaped(str(value))}\n" for key, value in setting.items())
            scratch.write_text(self.to_markdown() + more, encoding="utf-8")


def check_output(folder: Path, name: str) -> None:
    """Create `folder`. Raises `InputError` if it is not writable, or if `name`.csv there is not from an evaluation."""
    path = folder / f"{name}.csv"
    try:
        with locked(path):
            pass
    except OSError as problem:
        raise InputError(f"{folder} is not a writable folder ({problem.strerror}). Choose another --output.") from None
    if path.exists() and not (path.is_file() and path.read_bytes().startswith(b"row,nDCG@10,")):
        raise InputError(f"{path} exists but was not written by patentCL. Move it or choose another --output.")


def _dashed(text: str) -> str:
    return "–" if "nan" in text else text


def escaped(name: str) -> str:
    """`name` as plain text in Markdown."""
    name = html.escape(" ".join(name.split()), quote=False)
    return re.sub(r"([\\`*\[\]|]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", name)  # not a _ within a word
