"""What mining asks of a graph, whichever engine holds it."""

from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from .graph_ladybug import LadybugGraph


class Graph(Protocol):
    """A graph of `(:Patent)-[:CITES]->(:Patent)` and `(:CPCSubclass)-[:CLASSIFIES]->(:Patent)`."""

    def import_csvs(self, csvs: Path, overwrite: bool = False) -> None:
        """Load the import CSVs in `csvs`; nothing is done when they are loaded already."""

    def run(self, query: str, parameters: dict[str, Any]) -> pa.Table:
        """Run one Cypher query and return its rows as an Arrow table."""

    def close(self) -> None:
        """Let go of the database."""


def open_graph(kind: str, data: Path, memory: str = "4GB") -> Graph:
    """Open the graph of the data folder `data`: "embedded" is Ladybug, in `data/ladybug/`."""
    if kind == "embedded":
        return LadybugGraph(data / "ladybug", memory)
    raise ValueError(f"no such graph: {kind}")
