"""The import CSVs in `data/graph/`: their names, headers and types, for all that write or read them.

Headers are those of `neo4j-admin database import` (https://neo4j.com/docs/operations-manual/5/import/). A column's
plain name is its header without what follows the colon; the ends of a relationship are `start` and `end`.
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
        **dict.fromkeys(("place:long", "time_place:long", "bucket:long"), "BIGINT"),
        "cited_by:long": "BIGINT",
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
# A count in graph.json → what of the graph it counts, as a Cypher pattern.
COUNTED = {
    "patents": "(x:Patent)",
    "CPC subclasses": "(x:CPCSubclass)",
    "outside patents cited by several": "(x:OutsidePatent)",
    "citations": "()-[x:CITES]->()",
    "citations of these": "()-[x:CITES_OUTSIDE]->()",
    "classifications": "()-[x:CLASSIFIES]->()",
}
FINGERPRINT_FILE = "import.csv"
PARQUET = "patents.parquet"  # of each patent all but title and abstract, with plain names, in order of rank
FILES = (*CSVS, PARQUET, FINGERPRINT_FILE)


def plain_name(header: str) -> str:
    """A column's name without Neo4j's additions: `rank:ID(Patent)` is `rank`, `:START_ID(Patent)` is `start`."""
    name, _, kind = header.partition(":")
    return name or kind.split("_")[0].lower()


def write_csv(db: duckdb.DuckDBPyConnection, folder: Path, name: str, sql: str) -> None:
    """Write the rows of `sql`, whose columns have plain names, as the import CSV `name`.

    A list is written as `a;b`. Texts are quoted with doubled quotes, as they may hold quotes and line breaks.
    """
    columns, quoted = [], []
    for header, kind in CSVS[name].items():
        column = f'"{plain_name(header)}"'
        if kind.endswith("[]"):
            column = f"array_to_string({column}, ';')"
        columns.append(f'{column} AS "{header}"')
        if header == plain_name(header) and kind == "VARCHAR":
            quoted.append(f'"{header}"')
    force = f", FORCE_QUOTE ({', '.join(quoted)})" if quoted else ""
    target = literal(folder / name)
    db.execute(f"COPY (SELECT {', '.join(columns)} FROM ({sql})) TO {target} (FORMAT csv, HEADER{force})")  # noqa: S608


def rows_of(folder: Path, name: str) -> str:
    """SQL that reads the import CSV `name`, with plain names and types; a list without members is empty."""
    columns, types = [], []
    for header, kind in CSVS[name].items():
        column = f'"{header}"'
        if kind.endswith("[]"):
            column = f"CASE WHEN {column} = '' THEN [] ELSE string_split({column}, ';') END"
        columns.append(f'{column} AS "{plain_name(header)}"')
        types.append(f"'{header}': '{kind.removesuffix('[]')}'")
    return f"""SELECT {", ".join(columns)} FROM read_csv({literal(folder / name)}, header = true, delim = ',',
        quote = '"', escape = '"', auto_detect = false, max_line_size = 33554432, nullstr = {literal(NULL)},
        columns = {{{", ".join(types)}}})"""  # noqa: S608


def miscounted(run: Callable[[str, dict[str, Any]], pa.Table], counts: dict[str, int]) -> str:
    """The first count of graph.json that a graph does not have, or "". `run` answers a Cypher query."""
    for what, pattern in COUNTED.items():
        count = run(f"MATCH {pattern} RETURN count(x) AS n", {})["n"][0].as_py()
        if count != counts.get(what, 0):
            return f"{count:,} {what} instead of {counts.get(what, 0):,}"
    return ""
