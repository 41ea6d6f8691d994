"""Statistics of a restructured corpus, read from its import CSVs: what the notebook shows before mining."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.duck import connect, literal
from .cpc import MACROS
from .import_csvs import PARQUET, rows_of


@dataclass(frozen=True)
class Overview:
    """`patents`: date and section of each patent, by rank; the arrays: how many links it has, (N,) integers."""

    patents: pd.DataFrame
    citations_out: np.ndarray
    citations_in: np.ndarray
    classes_per_patent: np.ndarray


def overview(graph: Path) -> Overview:
    """Read the statistics of the corpus in `graph`, the folder that `restructure` wrote."""
    with connect() as db:
        db.execute(MACROS)
        file = literal(graph / PARQUET)
        patents = db.execute(f"SELECT date, section_of(subclass) AS section FROM {file} ORDER BY rank").df()  # noqa: S608

        def links(file: str, end: str) -> np.ndarray:
            sql = f'SELECT "{end}" AS rank, count(*) AS links FROM ({rows_of(graph, file)}) GROUP BY ALL'  # noqa: S608
            counted = db.execute(sql).fetchnumpy()
            of_all = np.zeros(len(patents), dtype=int)
            of_all[counted["rank"]] = counted["links"]
            return of_all

        out, into = links("citations.csv", "start"), links("citations.csv", "end")
        return Overview(patents, out, into, classes_per_patent=links("classifications.csv", "end"))


def subclass_titles(graph: Path) -> dict[str, str]:
    """Title of each CPC subclass, for legends; empty when the corpus was not restructured here."""
    path = graph / "cpc_subclasses.csv"
    if not path.exists():
        return {}
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return dict(zip(table.iloc[:, 0], table["title"], strict=True))
