"""What mining needs of a graph, and the engines that provide it."""

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from ..common.cli import InputError
from ..common.resources import Resources
from .options import Neo4jOptions


class TooLarge(InputError):
    """A query needs more memory than the engine has; one that reads fewer anchors may do."""


class Graph(Protocol):
    """A graph of `(:Patent)-[:CITES]->(:Patent)` and `(:CPCSubclass)-[:CLASSIFIES]->(:Patent)`.

    `sessions` is the number of concurrent queries.
    """

    sessions: int

    def batch(self, counts: dict[str, int]) -> int:
        """The number of anchors that a mining query should read; `counts` are those of graph.json."""
        ...

    def holds(self, fingerprint: str) -> bool:
        """Whether the graph is still that of the CSVs with this fingerprint; another process may have replaced it."""
        return True

    def import_memory(self, counts: dict[str, int]) -> int:
        """Bytes of memory that this process needs to import a graph of these counts."""
        return 0

    def import_csvs(self, csvs: Path, overwrite: bool = False) -> None:
        """Load the import CSVs in `csvs`; do nothing when they are loaded already."""

    def run(self, query: str, parameters: dict[str, Any]) -> pa.Table:
        """Run one reading Cypher query and return its rows as an Arrow table.

        Raises `TooLarge` when it needs more memory than the engine has.
        """

    def stop(self) -> None:
        """Ask queries that run in other threads to end soon."""

    def release(self) -> None:
        """Free the memory of this process that the database takes, until the next query."""

    def close(self) -> None:
        """Close the database."""


# An engine's name on the command line → its module and class; it needs packages that are imported only when it is used.
GRAPHS = {"embedded": ("ladybug", "LadybugGraph"), "neo4j": ("neo4j", "Neo4jGraph")}


def open_graph(
    engine: str, data: Path, resources: Resources = Resources(), options: Neo4jOptions | None = None
) -> Graph:
    """Open the graph of the data folder `data`.

    "embedded" is Ladybug, in `data/ladybug/`, which stays within `resources`; "neo4j" is the server that the
    environment names (see `Server`), with `options`. Raises `InputError` when the graph cannot be opened.
    """
    module, name = GRAPHS[engine]
    graph: Graph = getattr(import_module(f".{module}", __package__), name)(data, resources, options or Neo4jOptions())
    return graph
