"""Statistics of a restructured corpus: what the notebooks show."""

from pathlib import Path

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..common.files import intact
from .cpc import section_of
from .import_csvs import PARQUET


def overview(graph: Path) -> pd.DataFrame:
    """Of the patents in `graph` by rank (N rows): date, subclass, section, and counts: cites, cited_by, classes."""
    with intact(graph / PARQUET):
        table = pq.read_table(graph / PARQUET, columns=["date", "subclass", "cites", "cited_by", "subclasses"])
        classes = pc.list_value_length(table["subclasses"]).to_numpy()
        patents = table.drop_columns("subclasses").to_pandas().assign(classes=classes)
    return patents.assign(section=patents["subclass"].map(section_of))


def subclass_titles(graph: Path) -> dict[str, str]:
    """Title of each CPC subclass, for legends; empty when the corpus was not restructured here."""
    path = graph / "cpc_subclasses.csv"
    if not path.exists():
        return {}
    with intact(path):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        return dict(zip(table.iloc[:, 0], table["title"], strict=True))
