"""Options of the Neo4j engine; the scripts' command line comes from them."""

import os
import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from ..common.cli import InputError, check_ranges, option


@dataclass(frozen=True)
class Neo4jOptions:
    """How to use a Neo4j server; its address and credentials come from the environment (see `Server`)."""

    _argument_group_name: ClassVar[str] = "Neo4j"

    import_: Literal["none", "offline", "online"] = option(
        "none",
        "offline: neo4j-admin of NEO4J_HOME; online: over Bolt; none: the server has the graph already",
        aliases=["--import"],
    )
    replace: bool = option(False, "with --import: replace another graph in the database, and repeat nothing else")
    database: str = option("", "database (default: NEO4J_DATABASE, else neo4j)", metavar="NAME")
    sessions: int = option(0, "concurrent queries (0: one per core, at most 8)")
    heap: str = option("2g", "heap of the offline import")
    off_heap: str = option("4g", "off-heap memory of the offline import")

    def __post_init__(self) -> None:
        """Raise `InputError` for a value that no engine takes."""
        check_ranges(self, {"sessions": "[0, inf)"})
        for flag, size in {"--heap": self.heap, "--off-heap": self.off_heap}.items():
            if not re.fullmatch(r"[1-9]\d{0,5}[kmgKMG]", size):
                raise InputError(f"{flag} {size}: write an amount of memory like 4g")

    @property
    def database_name(self) -> str:
        """`database`, else NEO4J_DATABASE, else neo4j."""
        return self.database or os.environ.get("NEO4J_DATABASE") or "neo4j"
