"""Neo4j, the graph database server: local, remote, a cluster or Aura."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..common.cli import InputError
from ..common.files import read_json
from ..tables.import_csvs import miscounted
from ..tables.restructure import RECORD
from .neo4j_admin import import_command, import_offline
from .neo4j_connection import Neo4jConnection, Server
from .neo4j_import import import_online, make_indexes
from .options import Neo4jOptions


class Neo4jGraph:
    """The graph in a Neo4j server. Queries are retried while the server is unreachable."""

    def __init__(self, options: Neo4jOptions) -> None:
        """Connect to the server that the environment names. It must answer, unless the import is offline."""
        self.options = options
        self.sessions = options.sessions or min(8, os.cpu_count() or 1)
        self.connection = Neo4jConnection(Server.from_environment(options))
        if options.import_ != "offline":
            self.connection.check_version()

    def batch(self, counts: dict[str, int]) -> int:
        """The number of anchors that keeps a query short, so that little is lost when the server stops."""
        return 20_000

    def import_csvs(self, csvs: Path, overwrite: bool = False) -> None:
        """Import the CSVs in `csvs` as the options say, make the indexes, and check that it is their graph.

        A graph of these CSVs is kept, unless `overwrite`. Raises `InputError` when the database holds another graph,
        or is empty without an import.
        """
        record, connection = read_json(csvs / RECORD), self.connection
        if self.options.import_ == "offline":
            if overwrite or not connection.is_available() or _difference(connection, record):
                import_offline(csvs, self.options, overwrite, connection.is_available)
            connection.close()
            connection = self.connection = Neo4jConnection(connection.server)  # the old bookmarks are void
            connection.check_version()
        elif self.options.import_ == "online" and (overwrite or _difference(connection, record)):
            import_online(connection, csvs, self.sessions, overwrite)
        if difference := _difference(connection, record):
            raise InputError(
                f"{connection.server} {difference}; import these CSVs with --import offline or --import online "
                f"(--overwrite replaces another graph), or by hand into the stopped server: "
                f"{import_command(csvs, self.options)}"
            )
        make_indexes(connection)

    def holds(self, fingerprint: str) -> bool:
        """Whether the database still holds the complete graph of these CSVs."""
        return _imported(self.connection) == {"fingerprint": [fingerprint], "complete": [True]}

    def run(self, query: str, parameters: dict[str, Any]) -> pa.Table:
        """Run one reading Cypher query; return its rows as an Arrow table."""
        return self.connection.run(query, parameters)

    def stop(self) -> None:
        """End retries in other threads; running queries finish."""
        self.connection.stop()

    def release(self) -> None:
        """Do nothing: the database is not in this process."""

    def close(self) -> None:
        """Close all connections."""
        self.connection.close()


def _imported(connection: Neo4jConnection) -> dict[str, list[Any]]:
    query = "MATCH (i:PatentCL) RETURN i.fingerprint AS fingerprint, i.complete AS complete"
    return connection.run(query).to_pydict()


def _difference(connection: Neo4jConnection, record: dict[str, Any]) -> str:
    """How the database differs from the graph of `record`; "" when it does not."""
    imported = _imported(connection)
    if not imported["fingerprint"]:
        patents = connection.run("MATCH (p:Patent) RETURN count(p) AS n")["n"][0].as_py()
        return "contains patents that patentCL did not import" if patents else "is empty"
    if imported["fingerprint"] != [record["fingerprint"]]:
        return f"contains the graph of other tables ({imported['fingerprint'][0]}, expected {record['fingerprint']})"
    if imported["complete"] != [True]:
        return "contains an unfinished import"
    difference = miscounted(connection.run, record["counts"])
    return f"contains {difference}" if difference else ""
