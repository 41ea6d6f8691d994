"""The points of a picture as a Parquet file for embedding-atlas, which shows millions of them."""

import re
from pathlib import Path
from shlex import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..common.files import beside
from .scatter import Scatter


def save_atlas(scatter: Scatter, path: Path) -> list[str]:
    """Write the patents of `scatter` with each model's points and nearest neighbours; return commands that show them.

    Columns: patent_id, title, section, class, subclass, classes, date, year, and for each model x, y and
    neighbors with its name: {"ids": [row, …], "distances": [1 - cosine, …]} as embedding-atlas documents it.
    """
    patents = scatter.patents
    commands: list[str] = []
    year = pa.array([int(date[:4]) if re.match(r"\d{4}", date) else None for date in patents["date"].astype(str)])
    texts = patents[["patent_id", "title", "section", "class", "subclass", "date"]].astype(str)
    columns = {name: pa.array(column) for name, column in texts.items()}
    columns |= {"classes": pa.array(patents["subclasses"].str.join(", ")), "year": year}
    for name, xy in scatter.points.items():
        label = re.sub(r"[^a-zA-Z0-9]+", "_", name)
        label += f"_{len(commands)}" * (f"x_{label}" in columns)  # a-b and a_b
        x, y, neighbours = (f"{what}_{label}" for what in ("x", "y", "neighbors"))
        near = scatter.neighbours[name]
        ends = np.arange(len(xy) + 1, dtype=np.int32) * near.rows.shape[1]
        lists = [pa.ListArray.from_arrays(ends, v.ravel()) for v in (near.rows.astype(np.int64), 1 - near.cosines)]
        columns |= {x: pa.array(xy[:, 0]), y: pa.array(xy[:, 1])}
        columns[neighbours] = pa.StructArray.from_arrays(lists, ["ids", "distances"])
        commands.append(f"embedding-atlas {quote(str(path))} --text title --x {x} --y {y} --neighbors {neighbours}")
    with beside(path) as scratch:
        pq.write_table(pa.table(columns), scratch, row_group_size=100_000)
    return commands
