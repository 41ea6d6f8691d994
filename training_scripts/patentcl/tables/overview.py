"""Figures of a restructured corpus, read from its import CSVs by DuckDB: what the notebook draws before mining."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.duck import connect
from .cpc import MACROS
from .import_csvs import rows_of


@dataclass(frozen=True)
class Overview:
    """`patents`: date and section of each patent; the arrays: links of each patent, (N,) integers."""

    patents: pd.DataFrame
    citations_out: np.ndarray
    citations_in: np.ndarray
    classes_per_patent: np.ndarray


_DEGREES = """
SELECT rank, count(*) AS links FROM (SELECT {column} AS rank FROM read_csv($path, header = true, all_varchar = true))
GROUP BY rank
"""


def overview(graph: Path) -> Overview:
    """Read the figures of the corpus in `graph`, the folder that `restructure` wrote."""
    with connect() as db:
        db.execute(MACROS)
        patents = db.execute(
            f"SELECT date, section_of(subclass) AS section FROM ({rows_of(graph, 'patents.csv')})"  # noqa: S608
        ).df()
        links = [
            db.execute(_DEGREES.format(column=f'"{column}"'), {"path": str(graph / file)}).df()["links"].to_numpy()
            for file, column in (
                ("citations.csv", ":START_ID(Patent)"),
                ("citations.csv", ":END_ID(Patent)"),
                ("classifications.csv", ":END_ID(Patent)"),
            )
        ]
    return Overview(patents, *(np.pad(found, (0, len(patents) - len(found))) for found in links))


def subclass_titles(graph: Path) -> dict[str, str]:
    """Title of each CPC subclass, for legends; empty when the corpus was not restructured here."""
    path = graph / "cpc_subclasses.csv"
    if not path.exists():
        return {}
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return dict(zip(table.iloc[:, 0], table["title"], strict=True))
