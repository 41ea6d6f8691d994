"""Neo4j, the graph database server: local, remote, a cluster or Aura."""

import os
from pathlib import Path
from typing import Any

from ..common.cli import InputError
from ..common.files import read_json
from ..common.resources import Resources
from ..tables.import_csvs import COUNTED
from ..tables.restructure import RECORD
from .base import Graph
from .neo4j_admin import import_command, import_offline
from .neo4j_connection import Neo4jConnection, Server
from .neo4j_import import import_online, make_indexes
from .options import Neo4jOptions

_IMPORTED = "MATCH (i:PatentCL) RETURN i.fingerprint AS fingerprint, i.complete AS complete"


class Neo4jGraph(Neo4jConnection, Graph):
    """The graph in a Neo4j server. Queries are retried while the server is unreachable."""

    def __init__(self, data: Path, resources: Resources, options: Neo4jOptions) -> None:
        """Connect to the server that the environment names. It must answer, unless the import is offline."""
        super().__init__(Server.from_environment(options))
        self.options = options
        self.sessions = options.sessions or min(8, os.cpu_count() or 1)
        if options.import_ != "offline":
            self.check_version()

    def batch(self, counts: dict[str, int]) -> int:
        """The number of anchors that keeps a query short, so that little is lost when the server stops."""
        return 20_000

    def import_csvs(self, csvs: Path, overwrite: bool = False) -> None:
        """Import the CSVs in `csvs` as the options say, make the indexes, and check that it is their graph.

        A graph of these CSVs is kept, unless `overwrite`. Raises `InputError` when the database holds another graph
        that is not to be replaced, or is empty without an import.
        """
        record, replace = read_json(csvs / RECORD), self.options.replace
        if self.options.import_ == "offline":
            if overwrite or not self.is_available() or self._difference(record):
                import_offline(csvs, self.options, overwrite or replace, self.is_available)
            self.close()
            self.connect()
            self.check_version()
        elif self.options.import_ == "online" and (overwrite or self._difference(record)):
            import_online(self, csvs, self.sessions, overwrite, replace)
        if difference := self._difference(record):
            raise InputError(
                f"{self.server} {difference}; import these CSVs with --import offline or --import online "
                f"(--replace replaces another graph), or by hand into the stopped server: "
                f"{import_command(csvs, self.options)}"
            )
        make_indexes(self)

    def holds(self, fingerprint: str) -> bool:
        """Whether the database still holds the complete graph of these CSVs."""
        return self.run(_IMPORTED).to_pydict() == {"fingerprint": [fingerprint], "complete": [True]}

    def release(self) -> None:
        """Do nothing: the database is not in this process."""

    def _difference(self, record: dict[str, Any]) -> str:
        """How the database differs from the graph of `record`; "" when it does not."""
        imported = self.run(_IMPORTED).to_pydict()
        if not imported["fingerprint"]:
            return "contains patents that patentCL did not import" if self.count("(x:Patent)") else "is empty"
        if imported["fingerprint"] != [record["fingerprint"]]:
            return (
                f"contains the graph of other tables ({imported['fingerprint'][0]} instead of {record['fingerprint']})"
            )
        if imported["complete"] != [True]:
            return "contains an unfinished import"
        counts = {what: self.count(pattern) for what, pattern in COUNTED.items()}
        known = {what: record["counts"].get(what, 0) for what in counts}
        return "" if counts == known else f"contains other numbers of nodes and citations ({counts} instead of {known})"
