"""A connection to a Neo4j server over Bolt (https://neo4j.com/docs/python-manual): configuration, queries, errors.

The server is configured by environment variables only: NEO4J_URI, NEO4J_USERNAME, NEO4J_PASSWORD, NEO4J_DATABASE, and
NEO4J_CA for a private certificate authority.
"""

import logging
import os
import re
import ssl
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import neo4j
import pyarrow as pa
from neo4j.exceptions import DriverError, Neo4jError
from tqdm import tqdm

from ..common.cli import InputError
from .base import TooLarge
from .options import Neo4jOptions

OLDEST = (5, 26)  # the long-term release of Neo4j 5, which the tests run
PATIENCE = 600  # seconds to retry while the server is unreachable
RETRY_AFTER = 1  # seconds between two attempts
FETCH = 10_000  # records per fetch: over loopback as fast as 1,000, over a network fewer round trips
_URI = re.compile(r"(bolt|neo4j)(\+s|\+ssc)?://([\w-]+(\.[\w-]+)*|\[[\da-fA-F:.]+\])(:(?P<port>[1-9]\d{0,4}))?/?")
_VERSION = """CALL dbms.components() YIELD name, versions, edition WHERE name = 'Neo4j Kernel'
RETURN versions[0] AS version, edition"""  # newer servers list Cypher as a component, too
# Part of a server's error code → what to do. The first match counts.
_ADVICE = {
    "Security.Forbidden": "grant this user the right to do it",
    "Security": "fix NEO4J_USERNAME or NEO4J_PASSWORD; before the first start of a new server, run neo4j-admin dbms "
    "set-initial-password",
    "DatabaseNotFound": "fix --database or NEO4J_DATABASE (Community Edition has one database, neo4j)",
    "Memory": "increase the server's heap, or lower --sessions",
}


@dataclass(frozen=True)
class Server:
    """Address, credentials and database of a server; the password appears in no text of it."""

    uri: str
    username: str
    password: str = field(repr=False)
    database: str
    ca: Path | None = None

    @classmethod
    def from_environment(cls, options: Neo4jOptions) -> "Server":
        """Read the NEO4J_ variables. Raises `InputError` for one that is missing or cannot be used."""
        for name in ("NEO4J_URI", "NEO4J_USERNAME", "NEO4J_PASSWORD", "NEO4J_DATABASE"):
            if not os.environ.get(name, "").isprintable():
                raise InputError(f"{name} contains an unprintable character; set it again")
        uri = os.environ.get("NEO4J_URI") or "bolt://localhost:7687"
        if not (parts := _URI.fullmatch(uri)) or int(parts["port"] or 1) > 65535:  # not shown: it may hold a password
            raise InputError("NEO4J_URI: write it like bolt://host:7687 or neo4j+s://host, without credentials")
        database = options.database_name
        if not re.fullmatch("(?!system$)[a-z][a-z0-9.-]{2,62}", database, re.IGNORECASE | re.ASCII):
            raise InputError(
                f"--database {database!a}: use 3 to 63 letters, digits, dots, dashes; a letter first; not system"
            )
        password = os.environ.get("NEO4J_PASSWORD")
        if not password:
            raise InputError(f"NEO4J_PASSWORD is not set; export the password of the Neo4j server at {uri}")
        ca = os.environ.get("NEO4J_CA")
        try:
            ssl.create_default_context(cafile=ca or None)
        except OSError:  # SSLError is one
            raise InputError(f"NEO4J_CA {ca}: not a PEM file of certificates") from None
        return cls(uri, os.environ.get("NEO4J_USERNAME") or "neo4j", password, database, Path(ca) if ca else None)

    def __str__(self) -> str:
        """The name that messages use."""
        return f"Neo4j at {self.uri}, database {self.database}"

    def driver(self) -> neo4j.Driver:
        """Open the driver. A private certificate authority replaces the system's and turns encryption on."""
        uri, settings = self.uri, dict[str, Any]()
        if self.ca:
            uri = re.sub(r"\+s(sc)?:", ":", uri)
            settings = {"encrypted": True, "trusted_certificates": neo4j.TrustCustomCAs(str(self.ca))}
        logging.getLogger("neo4j").setLevel(logging.CRITICAL)  # it logs errors that are raised as well
        return neo4j.GraphDatabase.driver(
            uri,
            auth=(self.username, self.password),
            connection_timeout=15,
            notifications_min_severity="OFF",  # hints on our queries, which users cannot change
            user_agent="patentCL",
            **settings,
        )


class Neo4jConnection:
    """Runs queries on one database of a server, from several threads; retries while the server is unreachable.

    Every write must be idempotent, for it may be repeated.
    """

    def __init__(self, server: Server) -> None:
        """Open the driver; the server need not be there yet."""
        self.server = server
        self.connect()
        self._stopping = threading.Event()
        self._outage_reported = False
        self.version: tuple[int, ...] = OLDEST

    def connect(self) -> None:
        """Open the driver; after an import that replaced the database again, as the old bookmarks are void."""
        self._driver = self.server.driver()
        self._bookmarks = neo4j.GraphDatabase.bookmark_manager()

    def run(self, query: str, parameters: dict[str, Any] | None = None) -> pa.Table:
        """Run one reading Cypher query and return its rows as an Arrow table."""
        names, rows = self._retry(query, parameters, neo4j.READ_ACCESS)
        columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in names]
        return pa.table(columns, names=names)

    def count(self, pattern: str) -> int:
        """The number of `x` in a Cypher pattern."""
        return int(self.run(f"MATCH {pattern} RETURN count(x) AS n")["n"][0].as_py())

    def write(self, query: str, parameters: dict[str, Any] | None = None) -> int:
        """Run one writing query, schema commands included, and return its number of rows."""
        return len(self._retry(query, parameters, neo4j.WRITE_ACCESS)[1])

    def session(self, access: str) -> neo4j.Session:
        """Open a session for "READ" or "WRITE" queries."""
        return self._driver.session(
            database=self.server.database,
            default_access_mode=access,
            fetch_size=FETCH,
            bookmark_manager=self._bookmarks,  # a cluster's reads follow our writes
        )

    def _retry(self, query: str, parameters: dict[str, Any] | None, access: str) -> tuple[list[str], list[list[Any]]]:
        """Run a query; while the server is unreachable or busy, report that once and repeat it up to `PATIENCE`.

        The driver's managed transactions retry, too, but not after Transaction.Terminated (a server that stops) or
        IncompleteCommit, and not `CALL … IN TRANSACTIONS`; they repeat a query that ran out of memory; and nothing
        ends them early, not even closing the driver, so Ctrl-C would wait for minutes.
        """
        stopping, deadline = self._stopping, 0.0
        while True:
            try:
                with self.session(access) as session:
                    result = session.run(query, parameters)
                    answer = list(result.keys()), result.values()
                self._outage_reported = False
                return answer
            except (Neo4jError, DriverError) as problem:
                deadline = deadline or time.monotonic() + PATIENCE
                stopped = _code(problem).endswith(("Transaction.Terminated", "Transaction.LockClientStopped"))
                may_pass = (problem.is_retryable() or stopped) and "Memory" not in _code(problem)
                if not may_pass or time.monotonic() > deadline:
                    raise connection_error(problem, self.server) from None
                if "Bookmark" in _code(problem):  # of a database that was replaced; the new one may never get there
                    self._bookmarks = neo4j.GraphDatabase.bookmark_manager()
                if not self._outage_reported and "Deadlock" not in _code(problem):  # two writers met: a retry solves it
                    self._outage_reported = True
                    reason = _reason(problem)
                    tqdm.write(f"{self.server} is unavailable ({reason}); retrying for {PATIENCE // 60} minutes")
            if stopping.wait(RETRY_AFTER):
                raise KeyboardInterrupt

    def is_available(self) -> bool:
        """Whether the server serves the database now. Raises `InputError` when it refuses to."""
        try:
            with self._driver.session(database=self.server.database) as session:  # no bookmarks of a replaced database
                session.run("RETURN 1").consume()
        except (Neo4jError, DriverError) as problem:
            if problem.is_retryable():
                return False
            raise connection_error(problem, self.server) from None
        return True

    def check_version(self) -> None:
        """Print the server's version. Raises `InputError` when it does not answer or is too old."""
        try:
            with self.session(neo4j.READ_ACCESS) as session:
                found = session.run(_VERSION).single(strict=True)
        except (Neo4jError, DriverError, ValueError) as problem:  # ValueError: the answer is not Bolt
            raise connection_error(problem, self.server) from None
        self.version = refuse_old(found["version"])
        print(f"neo4j: {found['version']} {found['edition']} at {self.server.uri}, database {self.server.database}")

    def stop(self) -> None:
        """End the retries of other threads with KeyboardInterrupt; running queries finish."""
        self._stopping.set()
        self._stopping = threading.Event()  # for later queries

    def close(self) -> None:
        """Close all connections."""
        self._driver.close()


def refuse_old(version: str) -> tuple[int, ...]:
    """The first two numbers of a version; raise `InputError` for one like "4.4.30" that lacks what is used here."""
    numbers = tuple(int(part) for part in version.split("-")[0].split(".")[:2])
    if numbers < OLDEST:
        raise InputError(f"Neo4j 5.26 or newer is required (found {version}); upgrade, or use --graph embedded")
    return numbers


def connection_error(problem: Exception, server: Server) -> InputError:
    """The error message for an exception of the driver or of the server."""
    code = _code(problem)
    advice = next((advice for part, advice in _ADVICE.items() if part in code), "")
    if not code:
        advice = "start the server, or fix NEO4J_URI (for a private certificate authority, set NEO4J_CA)"
    kind = TooLarge if "Memory" in code else InputError
    return kind(f"{server}: {_reason(problem)}{'; ' + advice if advice else ''}")


def _code(problem: Exception) -> str:
    return getattr(problem, "code", None) or ""


def _reason(problem: Exception) -> str:
    return " ".join((getattr(problem, "message", None) or str(problem)).split()).rstrip(".")
