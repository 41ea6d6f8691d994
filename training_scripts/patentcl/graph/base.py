"""What mining asks of a graph, whichever engine holds it."""

from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from .ladybug import LadybugGraph
from .neo4j import Neo4jGraph, Neo4jOptions, Server

GRAPHS = ("embedded", "neo4j")


class Graph(Protocol):
    """A graph of `(:Patent)-[:CITES]->(:Patent)` and `(:CPCSubclass)-[:CLASSIFIES]->(:Patent)`.

    `batch` is how many anchors a query of mining should read, `sessions` how many queries may run at once.
    """

    batch: int
    sessions: int

    def holds(self, fingerprint: str) -> bool:
        """Whether the graph is still that of the CSVs with this fingerprint: another process may have replaced it."""
        ...

    def import_csvs(self, csvs: Path, overwrite: bool = False) -> None:
        """Load the import CSVs in `csvs`; nothing is done when they are loaded already."""

    def run(self, query: str, parameters: dict[str, Any]) -> pa.Table:
        """Run one reading Cypher query and return its rows as an Arrow table."""

    def stop(self) -> None:
        """Ask queries that run in other threads to end soon."""

    def close(self) -> None:
        """Let go of the database."""


def open_graph(kind: str, data: Path, memory: str = "4GB", options: Neo4jOptions | None = None) -> Graph:
    """Open the graph of the data folder `data`.

    "embedded" is Ladybug, in `data/ladybug/`, with `memory` for its buffers; "neo4j" is the server that the
    environment names (see `Server`), with `options`. Raises `InputError` when there is no such graph.
    """
    if kind == "embedded":
        return LadybugGraph(data / "ladybug", memory)
    if kind == "neo4j":
        options = options or Neo4jOptions()
        return Neo4jGraph(Server.from_environment(options.database), options)
    raise ValueError(f"no such graph: {kind}")
