"""The import CSVs in `data/graph/`: their names, headers and types, in one place for all who write or read them.

Headers are those of `neo4j-admin database import` (https://neo4j.com/docs/operations-manual/5/import/). A column's
plain name is its header without what follows the colon; the ends of a link are `start` and `end`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from ..common.duck import NULL, literal

PATENT, SUBCLASS, OUTSIDE = "Patent", "CPCSubclass", "OutsidePatent"

# File → header → type in DuckDB.
CSVS: dict[str, dict[str, str]] = {
    "patents.csv": {
        f"rank:ID({PATENT}){{id-type:long}}": "BIGINT",
        **dict.fromkeys(("patent_id", "title", "abstract", "date", "type", "subclass"), "VARCHAR"),
        "subclasses:string[]": "VARCHAR[]",
        "family:long": "BIGINT",
        "split:long": "BIGINT",
        "cited_by:long": "BIGINT",
        "has_abstract:boolean": "BOOLEAN",
    },
    "cpc_subclasses.csv": {
        f"symbol:ID({SUBCLASS})": "VARCHAR",
        **dict.fromkeys(("title", "class", "section"), "VARCHAR"),
        **dict.fromkeys(
            [f"{branch}{what}:long" for branch in ("", "class_", "section_") for what in ("first", "count")], "BIGINT"
        ),
    },
    "outside_patents.csv": {
        f"number:ID({OUTSIDE}){{id-type:long}}": "BIGINT",
        "patent_id": "VARCHAR",
        "cited_by:long": "BIGINT",
    },
    "citations.csv": {f":START_ID({PATENT})": "BIGINT", f":END_ID({PATENT})": "BIGINT", "category": "VARCHAR"},
    "outside_citations.csv": {f":START_ID({PATENT})": "BIGINT", f":END_ID({OUTSIDE})": "BIGINT"},
    "classifications.csv": {f":START_ID({SUBCLASS})": "VARCHAR", f":END_ID({PATENT})": "BIGINT"},
}
# A count in graph.json → what of the graph it counts, as a pattern of Cypher.
_COUNTED = {
    "patents": "(x:Patent)",
    "CPC subclasses": "(x:CPCSubclass)",
    "outside patents cited by several": "(x:OutsidePatent)",
    "citations": "()-[x:CITES]->()",
    "citations of these": "()-[x:CITES_OUTSIDE]->()",
    "classifications": "()-[x:CLASSIFIES]->()",
}
FINGERPRINT_FILE = "import.csv"
CSV_FILES = (*CSVS, FINGERPRINT_FILE)


def plain_name(header: str) -> str:
    """A column's name without Neo4j's additions: `rank:ID(Patent)` is `rank`, `:START_ID(Patent)` is `start`."""
    name, _, kind = header.partition(":")
    return name or kind.split("_")[0].lower()


def write_csv(db: duckdb.DuckDBPyConnection, folder: Path, name: str, sql: str) -> None:
    """Write the rows of `sql`, whose columns have plain names, as the import CSV `name`.

    Every text that may hold a quote or a newline is quoted, and quotes are doubled.
    """
    columns = ", ".join(
        f'{f"array_to_string({plain}, chr(59))" if kind.endswith("[]") else plain} AS "{header}"'
        for header, kind in CSVS[name].items()
        for plain in [f'"{plain_name(header)}"']
    )
    quoted = ", ".join(f'"{header}"' for header, kind in CSVS[name].items() if kind == "VARCHAR" and ":" not in header)
    force = f", FORCE_QUOTE ({quoted})" if quoted else ""
    db.execute(f"COPY (SELECT {columns} FROM ({sql})) TO {literal(folder / name)} (FORMAT csv, HEADER{force})")  # noqa: S608


def miscounted(run: Callable[[str, dict[str, Any]], pa.Table], counts: dict[str, int]) -> str:
    """What of a graph that answers `run` is not as many as `counts` of graph.json, or "" when all are."""
    for what, pattern in _COUNTED.items():
        here = run(f"MATCH {pattern} RETURN count(x) AS n", {})["n"][0].as_py()
        if here != counts.get(what, 0):
            return f"{here:,} {what} instead of {counts.get(what, 0):,}"
    return ""


def rows_of(folder: Path, name: str) -> str:
    """SQL that reads an import CSV, with plain names and types; a list without members is empty."""
    columns = ", ".join(
        f"""CASE WHEN "{header}" = '' THEN [] ELSE string_split("{header}", ';') END AS {plain_name(header)}"""
        if kind.endswith("[]")
        else f'"{header}" AS "{plain_name(header)}"'
        for header, kind in CSVS[name].items()
    )
    types = ", ".join(f"'{header}': '{kind.removesuffix('[]')}'" for header, kind in CSVS[name].items())
    return f"""SELECT {columns} FROM read_csv({literal(folder / name)}, header = true, delim = ',', quote = '"',
        escape = '"', auto_detect = false, max_line_size = 33554432, nullstr = {literal(NULL)},
        columns = {{{types}}})"""  # noqa: S608
