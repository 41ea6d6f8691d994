"""Ladybug, the embedded graph database: Cypher without a server (https://docs.ladybugdb.com)."""

import re
from pathlib import Path
from typing import Any

import ladybug
import pyarrow as pa
from tqdm import tqdm

from ..common.cli import InputError
from ..common.files import beside, check_replaceable, is_done, read_json, write_record
from ..tables.import_csvs import miscounted

_SCHEMA = """
CREATE NODE TABLE Patent(rank INT64 PRIMARY KEY, patent_id STRING, title STRING, abstract STRING, date STRING,
    type STRING, subclass STRING, subclasses STRING[], family INT64, place INT64, time_place INT64,
    bucket INT64, cited_by INT64, has_abstract BOOLEAN);
CREATE NODE TABLE CPCSubclass(symbol STRING PRIMARY KEY, title STRING, class STRING, section STRING, first INT64,
    count INT64, sibling_first INT64, sibling_others INT64, section_first INT64, section_others INT64);
CREATE NODE TABLE OutsidePatent(number INT64 PRIMARY KEY, patent_id STRING, cited_by INT64);
CREATE REL TABLE CITES(FROM Patent TO Patent, category STRING);
CREATE REL TABLE CITES_OUTSIDE(FROM Patent TO OutsidePatent);
CREATE REL TABLE CLASSIFIES(FROM CPCSubclass TO Patent);
"""

# Ladybug splits no lists in quoted columns by itself, reads newlines in quotes only without parallel, and guesses the
# quotes from the first rows where it is not told.
_FORM = """header=true, parallel=false, auto_detect=false, delim=',', quote='"', escape='"'"""
_COPY = {
    "patents.csv": """
        COPY Patent FROM (LOAD WITH HEADERS (rank INT64, patent_id STRING, title STRING, abstract STRING, date STRING,
            type STRING, subclass STRING, subclasses STRING, family INT64, place INT64, time_place INT64,
            bucket INT64, cited_by INT64, has_abstract BOOLEAN)
        FROM '{path}' ({form})
        RETURN rank, patent_id, title, abstract, date, type, subclass, string_split(subclasses, ';'), family,
            place, time_place, bucket, cited_by, has_abstract)""",
    "cpc_subclasses.csv": "COPY CPCSubclass FROM '{path}' ({form})",
    "outside_patents.csv": "COPY OutsidePatent FROM '{path}' ({form})",
    "citations.csv": "COPY CITES FROM '{path}' ({form})",
    "outside_citations.csv": "COPY CITES_OUTSIDE FROM '{path}' ({form})",
    "classifications.csv": "COPY CLASSIFIES FROM '{path}' ({form})",
}


class LadybugGraph:
    """A graph in one file, `folder`/graph.lbug, with `folder`/import.json beside it."""

    batch = 100_000
    sessions = 1  # a query uses all cores by itself

    def __init__(self, folder: Path, memory: str = "4GB") -> None:
        """Keep the folder; the database opens with the first query. `memory` is for the buffer pool, like 4GB."""
        self.folder = folder
        self.memory = _bytes(memory)
        self._connection: ladybug.Connection | None = None

    def import_csvs(self, csvs: Path, overwrite: bool = False) -> None:
        """Load the import CSVs in `csvs` into a new database, beside the old one, which it then replaces."""
        record = read_json(csvs / "graph.json")
        params = {"graph": record.get("fingerprint")}
        if not overwrite and is_done(self.folder / "import.json", params):
            print(f"import: {self.folder} is up to date")
            return
        check_replaceable(self.folder / "import.json", params, overwrite)
        self.close()
        if csvs.resolve() == self.folder.resolve():
            raise InputError(f"{self.folder} would be replaced, and the CSVs lie in it")
        with beside(self.folder) as folder:
            folder.mkdir()
            connection = self._connect(folder / "graph.lbug")
            for statement in filter(str.strip, _SCHEMA.split(";\n")):
                connection.execute(statement)
            for name, copy in (progress := tqdm(_COPY.items(), desc="import", unit="file")):
                progress.set_postfix_str(name)
                path = str(csvs / name).replace("\\", "\\\\").replace("'", "\\'")
                try:
                    connection.execute(copy.format(path=path, form=_FORM))
                except (RuntimeError, UnicodeDecodeError, MemoryError) as problem:
                    raise InputError(
                        f"{csvs / name} cannot be imported ({problem}): restructure again with --overwrite"
                    ) from None
            difference = miscounted(lambda query, _: _arrow(connection.execute(query)), record.get("counts", {}))
            connection.close()
            connection.database.close()
            if difference:
                raise InputError(f"the CSVs in {csvs} hold {difference}: restructure again with --overwrite")
            write_record(folder / "import.json", {"params": params}, ["graph.lbug"])

    def run(self, query: str, parameters: dict[str, Any]) -> pa.Table:
        """Run one Cypher query with the parameters that it names; return its rows as an Arrow table."""
        if self._connection is None:
            if not (self.folder / "graph.lbug").exists():
                raise InputError(f"{self.folder} holds no graph: import the CSVs first")
            self._connection = self._connect(self.folder / "graph.lbug")
        named = {name: value for name, value in parameters.items() if re.search(rf"\${name}\b", query)}
        try:
            result = self._connection.execute(query, named)
        except (RuntimeError, UnicodeDecodeError, MemoryError) as problem:
            raise InputError(
                f"the graph in {self.folder} could not answer ({problem}): give more --memory, or "
                "fewer --triplets; a damaged graph is made anew with --overwrite"
            ) from None
        return _arrow(result)

    def holds(self, fingerprint: str) -> bool:
        """Whether the file still holds the graph of these CSVs."""
        return bool(read_json(self.folder / "import.json").get("params") == {"graph": fingerprint})

    def stop(self) -> None:
        """Interrupt the query that runs in another thread."""
        if self._connection is not None:
            self._connection.interrupt()

    def close(self) -> None:
        """Close the database, so that another process can open it."""
        if self._connection is not None:
            self._connection.close()
            self._connection.database.close()
            self._connection = None

    def _connect(self, path: Path) -> ladybug.Connection:
        try:
            return ladybug.Connection(ladybug.Database(str(path), buffer_pool_size=self.memory))
        except (RuntimeError, UnicodeDecodeError, MemoryError) as problem:
            raise InputError(
                f"{path} cannot be opened ({problem}): does another process use it, is --memory above 100MB? "
                "Else add --overwrite"
            ) from None


def _arrow(result: ladybug.QueryResult | list[ladybug.QueryResult]) -> pa.Table:
    assert isinstance(result, ladybug.QueryResult)
    return result.get_as_arrow()


def _bytes(memory: str) -> int:
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([KMGT])i?B", memory.strip(), re.IGNORECASE)
    if not match:
        raise InputError(f"--memory {memory} is no amount of memory: write it like 4GB")
    if len(match[1]) > 6:
        raise InputError(f"--memory {memory} is more than any machine has")
    return int(float(match[1]) * 10 ** (3 * (" KMGT".index(match[2].upper()))))
