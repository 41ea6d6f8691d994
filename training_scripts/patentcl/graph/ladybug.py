"""Ladybug, an embedded graph database: Cypher without a server (https://docs.ladybugdb.com)."""

import re
from pathlib import Path
from typing import Any

import ladybug
import pyarrow as pa
from tqdm import tqdm

from ..common.cli import InputError
from ..common.files import beside, check_replaceable, is_done, read_json, write_record
from ..common.resources import Resources
from ..tables.import_csvs import CSVS, OUTSIDE, PATENT, SUBCLASS, miscounted, plain_name
from ..tables.restructure import RECORD

# File → the table that it fills. The columns are those of the CSVs; the first one is a node's primary key.
_NODES = {"patents.csv": PATENT, "cpc_subclasses.csv": SUBCLASS, "outside_patents.csv": OUTSIDE}
_RELATIONSHIPS = {
    "citations.csv": f"CITES(FROM {PATENT} TO {PATENT}, examiner BOOLEAN)",
    "outside_citations.csv": f"CITES_OUTSIDE(FROM {PATENT} TO {OUTSIDE})",
    "classifications.csv": f"CLASSIFIES(FROM {SUBCLASS} TO {PATENT})",
}
_TYPES = {"BIGINT": "INT64", "VARCHAR": "STRING", "VARCHAR[]": "STRING[]", "BOOLEAN": "BOOLEAN"}
# Ladybug guesses the quotes from the first rows unless told, and reads line breaks in quotes only without parallel.
_FORM = """header=true, parallel=false, auto_detect=false, delim=',', quote='"', escape='"'"""
_ERRORS = (RuntimeError, UnicodeDecodeError, MemoryError)  # that Ladybug raises


class LadybugGraph:
    """A graph in one file, `folder`/graph.lbug, with `folder`/import.json beside it."""

    batch = 100_000
    sessions = 1  # a query uses all cores by itself

    def __init__(self, folder: Path, resources: Resources = Resources()) -> None:
        """The database opens with the first query; the process that uses it stays within `resources`."""
        self.folder = folder
        self.resources = resources
        self._connection: ladybug.Connection | None = None

    def import_csvs(self, csvs: Path, overwrite: bool = False) -> None:
        """Load the import CSVs in `csvs` into a new database, which then replaces the old one.

        Raises `InputError` when they cannot be read or hold other numbers of rows than their record says.
        """
        record = read_json(csvs / RECORD)
        params = {"graph": record["fingerprint"]}
        if not overwrite and is_done(self.folder / "import.json", params):
            print(f"import: {self.folder} is up to date")
            return
        check_replaceable(self.folder / "import.json", params, overwrite)
        self.close()
        with beside(self.folder) as folder:
            folder.mkdir()
            self._connection = self._connect(folder / "graph.lbug")
            try:
                _load(self._connection, csvs)
                difference = miscounted(self.run, record["counts"])
            finally:
                self.close()
            if difference:
                raise InputError(f"the CSVs in {csvs} contain {difference}; rebuild them with --overwrite")
            write_record(folder / "import.json", {"params": params}, ["graph.lbug"])

    def run(self, query: str, parameters: dict[str, Any]) -> pa.Table:
        """Run one Cypher query with the parameters that it names; return its rows as an Arrow table."""
        if self._connection is None:
            if not (self.folder / "graph.lbug").exists():
                raise InputError(f"{self.folder} has no graph; import the CSVs first")
            self._connection = self._connect(self.folder / "graph.lbug")
        named = {name: value for name, value in parameters.items() if re.search(rf"\${name}\b", query)}
        try:
            result = self._connection.execute(query, named)
        except _ERRORS as problem:
            raise InputError(
                f"query on {self.folder} failed ({problem}); increase --memory or decrease --triplets; for a corrupt "
                "database, add --overwrite"
            ) from None
        assert isinstance(result, ladybug.QueryResult)  # several queries give a list
        return result.get_as_arrow()

    def holds(self, fingerprint: str) -> bool:
        """Whether the database is still the graph of these CSVs."""
        return bool(read_json(self.folder / "import.json")["params"] == {"graph": fingerprint})

    def stop(self) -> None:
        """Interrupt the query that runs in another thread."""
        if self._connection is not None:
            self._connection.interrupt()

    def release(self) -> None:
        """Close the database, which frees its buffers; the next query opens it again."""
        self.close()

    def close(self) -> None:
        """Close the database, so that another process can open it."""
        if self._connection is not None:
            self._connection.close()
            self._connection.database.close()
            self._connection = None

    def _connect(self, path: Path) -> ladybug.Connection:
        try:
            return ladybug.Connection(ladybug.Database(str(path), buffer_pool_size=self.resources.bytes))
        except _ERRORS as problem:
            raise InputError(
                f"{path} cannot be opened ({problem}); close other processes that use it, set --memory above 100MB, or "
                "add --overwrite"
            ) from None


def _load(connection: ladybug.Connection, csvs: Path) -> None:
    """Create the tables and fill them, nodes before the relationships between them."""
    for file, table in (progress := tqdm([*_NODES.items(), *_RELATIONSHIPS.items()], desc="import", unit="file")):
        progress.set_postfix_str(file)
        path = str(csvs / file).replace("\\", "\\\\").replace("'", "\\'")
        create, source = f"CREATE REL TABLE {table}", f"'{path}' ({_FORM})"
        if file in _NODES:
            types = {plain_name(header): _TYPES[kind] for header, kind in CSVS[file].items()}
            columns = ", ".join(f"{name} {kind}" for name, kind in types.items())
            create = f"CREATE NODE TABLE {table}({columns}, PRIMARY KEY({next(iter(types))}))"
            # Lists are quoted, and Ladybug does not split a quoted list.
            values = [f"string_split({name}, ';')" if "[]" in kind else name for name, kind in types.items()]
            columns = columns.replace("[]", "")
            source = f"(LOAD WITH HEADERS ({columns}) FROM {source} RETURN {', '.join(values)})"
        try:
            connection.execute(create)
            connection.execute(f"COPY {table.split('(')[0]} FROM {source}")
        except _ERRORS as problem:
            raise InputError(f"{csvs / file}: {problem}; rebuild the CSVs with --overwrite") from None
