"""What mining needs of a graph, and the engines that provide it."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..common.cli import InputError
from ..common.resources import Resources
from .options import Neo4jOptions


class TooLarge(InputError):
    """A query needs more memory than the engine has; one that reads fewer anchors may do."""


class Graph:
    """A graph of `(:Patent)-[:CITES]->(:Patent)` and `(:CPCSubclass)-[:CLASSIFIES]->(:Patent)`."""

    sessions = 1  # concurrent queries

    def batch(self, counts: dict[str, int]) -> int:
        """The number of anchors that a mining query should read; `counts` are those of graph.json."""
        raise NotImplementedError

    def run(self, query: str, parameters: dict[str, Any]) -> pa.Table:
        """The rows of one reading Cypher query. Raises `TooLarge` when it needs more memory than the engine has."""
        raise NotImplementedError

    def import_csvs(self, csvs: Path, overwrite: bool = False) -> None:
        """Load the import CSVs in `csvs`; do nothing when they are loaded already."""
        raise NotImplementedError

    def import_memory(self, counts: dict[str, int]) -> int:
        """Bytes of memory that this process needs to import a graph of these counts."""
        return 0

    def holds(self, fingerprint: str) -> bool:
        """Whether the graph is still that of the CSVs with this fingerprint; another process may have replaced it."""
        return True

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
    """Open the graph of the data folder `data`. Raises `InputError` when it cannot be opened.

    "embedded" is Ladybug, in `data/ladybug/`, which stays within `resources`; "neo4j" is the server that the
    environment names, with `options`.
    """
    module, name = GRAPHS[engine]
    graph: Graph = getattr(import_module(f".{module}", __package__), name)(data, resources, options or Neo4jOptions())
    return graph
