"""The points of a picture as a Parquet file for embedding-atlas, which shows millions of them."""

import re
from pathlib import Path
from shlex import quote

import pyarrow as pa
import pyarrow.parquet as pq

from ..common.files import beside
from .scatter import Scatter
from .style import years_of


def save_atlas(scatter: Scatter, path: Path) -> list[str]:
    """Write the patents of `scatter` with each model's points and nearest neighbours; return commands that show them.

    Columns: patent_id, title, section, class, subclass, classes, date, year, and for each model x, y and
    neighbors with its name: {"ids": [row, …], "distances": [1 - cosine, …]} as embedding-atlas documents it.
    """
    patents, commands = scatter.patents, list[str]()
    texts = patents[["patent_id", "title", "section", "class", "subclass", "date"]].astype(str)
    texts = texts.assign(classes=patents["subclasses"].str.join(", "), year=years_of(patents).astype("Int64"))
    columns = {name: pa.array(column) for name, column in texts.items()}
    for name, xy in scatter.points.items():
        label = re.sub(r"[^a-zA-Z0-9]+", "_", name)
        label += f"_{len(commands)}" * (f"x_{label}" in columns)  # a-b and a_b
        x, y, neighbours = (f"{what}_{label}" for what in ("x", "y", "neighbors"))
        near = scatter.neighbours[name]
        width = near.rows.shape[1]
        lists = [pa.FixedSizeListArray.from_arrays(part.ravel(), width) for part in (near.rows, 1 - near.cosines)]
        columns |= {x: pa.array(xy[:, 0]), y: pa.array(xy[:, 1])}
        columns[neighbours] = pa.StructArray.from_arrays(lists, ["ids", "distances"])
        commands.append(f"embedding-atlas {quote(str(path))} --text title --x {x} --y {y} --neighbors {neighbours}")
    with beside(path) as scratch:
        pq.write_table(pa.table(columns), scratch, row_group_size=100_000)
    return commands
