"""The import CSVs in `data/graph/`: their names, headers and types, for all that write or read them."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow.csv import WriteOptions, write_csv
from pyarrow.parquet import ParquetWriter

from ..common.duck import literal

PATENT, SUBCLASS, OUTSIDE = "Patent", "CPCSubclass", "OutsidePatent"

# File → header of `neo4j-admin database import` (https://neo4j.com/docs/operations-manual/5/import/) → DuckDB type.
CSVS: dict[str, dict[str, str]] = {
    "patents.csv": {
        f"rank:ID({PATENT}){{id-type:long}}": "BIGINT",
        **dict.fromkeys(("patent_id", "title", "abstract", "date", "type", "subclass"), "VARCHAR"),
        "subclasses:string[]": "VARCHAR[]",
        "family:long": "BIGINT",
        **dict.fromkeys(("place:long", "time_place:long", "bucket:long"), "BIGINT"),
        **dict.fromkeys(("cites:long", "cited_by:long"), "BIGINT"),
        "has_abstract:boolean": "BOOLEAN",
    },
    "cpc_subclasses.csv": {
        f"symbol:ID({SUBCLASS})": "VARCHAR",
        **dict.fromkeys(("title", "class", "section"), "VARCHAR"),
        **dict.fromkeys(("first:long", "count:long"), "BIGINT"),
        **dict.fromkeys(("sibling_first:long", "sibling_others:long"), "BIGINT"),
        **dict.fromkeys(("section_first:long", "section_others:long"), "BIGINT"),
    },
    "outside_patents.csv": {
        f"number:ID({OUTSIDE}){{id-type:long}}": "BIGINT",
        "patent_id": "VARCHAR",
        "cited_by:long": "BIGINT",
    },
    "citations.csv": {f":START_ID({PATENT})": "BIGINT", f":END_ID({PATENT})": "BIGINT", "examiner:boolean": "BOOLEAN"},
    "outside_citations.csv": {f":START_ID({PATENT})": "BIGINT", f":END_ID({OUTSIDE})": "BIGINT"},
    "classifications.csv": {f":START_ID({SUBCLASS})": "VARCHAR", f":END_ID({PATENT})": "BIGINT"},
}
# File → column by its plain name, without Neo4j's additions (the ends of a relationship are start and end) → type.
COLUMNS = {
    file: {header.partition(":")[0] or header[1:].split("_")[0].lower(): kind for header, kind in headers.items()}
    for file, headers in CSVS.items()
}
# File → label of its nodes or type of its relationships, and the count of its rows in graph.json. Nodes come first.
KINDS = {
    "patents.csv": (PATENT, "patents"),
    "cpc_subclasses.csv": (SUBCLASS, "CPC subclasses"),
    "outside_patents.csv": (OUTSIDE, "outside patents cited by several"),
    "citations.csv": ("CITES", "citations"),
    "outside_citations.csv": ("CITES_OUTSIDE", "citations of these"),
    "classifications.csv": ("CLASSIFIES", "classifications"),
}
FINGERPRINT_FILE = "import.csv"
TEXTS = ("title", "abstract")
PARQUET = "patents.parquet"  # of each patent all but the texts, with plain names, in order of rank
_ARROW = {"BIGINT": pa.int64(), "VARCHAR": pa.string(), "VARCHAR[]": pa.list_(pa.string()), "BOOLEAN": pa.bool_()}
FILES = (*CSVS, PARQUET, FINGERPRINT_FILE)


def ends_of(name: str) -> list[str]:
    """The labels at both ends of the relationships in the import CSV `name`; none if it holds nodes."""
    return re.findall(r"(?:START|END)_ID\((\w+)\)", " ".join(CSVS[name]))


@contextmanager
def csv_writer(folder: Path, name: str) -> Iterator[Callable[..., None]]:
    """Write the import CSV `name`: yield a function that appends rows, an array for each column.

    A list is a text `a;b`. Texts are quoted with doubled quotes, as they may hold quotes and line breaks; null is not.
    """
    options = WriteOptions(include_header=False, quoting_style="needed", batch_size=1 << 14)
    with (folder / name).open("wb") as file:
        file.write((",".join(CSVS[name]) + "\n").encode())
        yield lambda *columns: write_csv(pa.table(dict(zip(CSVS[name], columns, strict=True))), file, options)


def write_parquet(folder: Path, patents: pa.Table) -> None:
    """Write patents.parquet."""
    schema = pa.schema({name: _ARROW[kind] for name, kind in COLUMNS["patents.csv"].items() if name not in TEXTS})
    with ParquetWriter(folder / PARQUET, schema) as writer:
        for start in range(0, len(patents), 1 << 17):
            writer.write_table(patents.slice(start, 1 << 17).select(schema.names).cast(schema))


def rows_of(folder: Path, name: str) -> str:
    """SQL that reads the import CSV `name`, with plain names and types; a list without members is empty.

    Its buffers are small: without a size, DuckDB takes several of 16 times the longest line, half a GB each.
    """
    forms = {"VARCHAR": """coalesce("{}", '')""", "VARCHAR[]": """coalesce(string_split("{}", ';'), [])"""}
    columns = [forms.get(kind, '"{}"').format(name) + f' AS "{name}"' for name, kind in COLUMNS[name].items()]
    types = {column: kind.removesuffix("[]") for column, kind in COLUMNS[name].items()}
    return f"""SELECT {", ".join(columns)} FROM read_csv({literal(folder / name)}, header = true, delim = ',',
        quote = '"', escape = '"', auto_detect = false, max_line_size = 33554432,
        buffer_size = 67108864, columns = {types})"""  # noqa: S608
