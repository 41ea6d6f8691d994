"""Neo4j, the graph database server: local, remote, a cluster or Aura (https://neo4j.com/docs/python-manual).

An import over Bolt is for servers whose files are out of reach: `UNWIND $rows` with `MERGE`, in batches, by several
sessions. The transaction that writes a batch also writes a marker, so an interrupted import resumes where it stopped.
"""

import logging
import os
import re
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import neo4j
import pyarrow as pa
from neo4j.exceptions import DriverError, Neo4jError
from tqdm import tqdm

from ..common.cli import InputError, Interrupted
from ..common.duck import connect, readable_errors
from ..common.files import read_json
from ..common.resources import Resources
from ..tables.import_csvs import COLUMNS, KINDS, ends_of, rows_of
from ..tables.restructure import RECORD
from .base import Graph, TooLarge
from .neo4j_admin import import_command, import_offline
from .options import Neo4jOptions
from .parallel import in_parallel

OLDEST = (5, 26)  # the long-term release of Neo4j 5, which the tests run
PATIENCE = 600  # seconds to retry while the server is unreachable
RETRY_AFTER = 1  # seconds between two attempts
FETCH = 10_000  # records per fetch: over loopback as fast as 1,000, over a network fewer round trips
_URI = re.compile(r"(bolt|neo4j)(\+s|\+ssc)?://([\w-]+(\.[\w-]+)*|\[[\da-fA-F:.]+\])(:(?P<port>[1-9]\d{0,4}))?/?")
_VERSION = """CALL dbms.components() YIELD name, versions, edition WHERE name = 'Neo4j Kernel'
RETURN versions[0] AS version, edition"""  # newer servers list Cypher as a component, too
_IMPORTED = "MATCH (i:PatentCL) RETURN i.fingerprint AS fingerprint, i.complete AS complete"
# Part of a server's error code → what to do. The first match counts.
_ADVICE = {
    "Security.Forbidden": "grant this user the right to do it",
    "Security": "fix NEO4J_USERNAME or NEO4J_PASSWORD; before the first start of a new server, run neo4j-admin dbms "
    "set-initial-password",
    "DatabaseNotFound": "fix --database or NEO4J_DATABASE (Community Edition has one database, neo4j)",
    "Memory": "increase the server's heap, or lower --sessions",
}

NODES, LINKS = 2_000, 10_000  # rows per transaction
# The fingerprint of the import is matched first: another import that replaces this graph deletes it first, and from
# then on nothing more is written.
_BATCH = """MATCH (i:PatentCL {{fingerprint: $fingerprint}}) UNWIND $rows AS row {write}
WITH count(*) AS n WHERE n > 0 MERGE (b:PatentCLBatch {{name: $name}}) RETURN b.name"""
_DELETE = "MATCH (n:{label}) CALL (n) {{ DETACH DELETE n }} IN TRANSACTIONS OF 5000 ROWS"
# Label → the property that identifies a node.
_KEYS = {kind: next(iter(COLUMNS[file])) for file, (kind, _) in KINDS.items() if not ends_of(file)}
_LABELS = ("PatentCL", "PatentCLBatch", *_KEYS)  # the fingerprint first: a partial graph must not pass for complete


class Neo4jGraph(Graph):
    """The graph in a server. Queries are repeated while it is unreachable, so every write must be idempotent."""

    version: tuple[int, ...] = OLDEST

    def __init__(self, data: Path, resources: Resources, options: Neo4jOptions) -> None:
        """Connect to the server that the environment names. It must answer, unless the import is offline.

        Raises `InputError` for a variable that is missing or cannot be used. The password is kept nowhere.
        """
        self.options = options
        self.sessions = options.sessions or min(8, os.cpu_count() or 1)
        uri, self.database = os.environ.get("NEO4J_URI") or "bolt://localhost:7687", options.database_name
        if not (parts := _URI.fullmatch(uri)) or int(parts["port"] or 1) > 65535:  # not shown: it may hold a password
            raise InputError("NEO4J_URI: write it like bolt://host:7687 or neo4j+s://host, without credentials")
        if not re.fullmatch("(?!system$)[a-z][a-z0-9.-]{2,62}", self.database, re.IGNORECASE | re.ASCII):
            raise InputError(
                f"--database {self.database!a}: use 3 to 63 letters, digits, dots, dashes; a letter first; not system"
            )
        self.server = f"Neo4j at {uri}, database {self.database}"
        if not os.environ.get("NEO4J_PASSWORD"):
            raise InputError(f"NEO4J_PASSWORD is not set; export the password of the Neo4j server at {uri}")
        settings: dict[str, Any] = {}
        if ca := os.environ.get("NEO4J_CA"):  # a private authority replaces the system's and turns encryption on
            try:
                ssl.create_default_context(cafile=ca)
            except OSError:  # SSLError is one
                raise InputError(f"NEO4J_CA {ca}: not a PEM file of certificates") from None
            uri = re.sub(r"\+s(sc)?:", ":", uri)
            settings = {"encrypted": True, "trusted_certificates": neo4j.TrustCustomCAs(ca)}
        logging.getLogger("neo4j").setLevel(logging.CRITICAL)  # it logs errors that are raised as well
        self._driver = neo4j.GraphDatabase.driver(
            uri,
            auth=(os.environ.get("NEO4J_USERNAME") or "neo4j", os.environ["NEO4J_PASSWORD"]),
            connection_timeout=15,
            notifications_min_severity="OFF",  # hints on our queries, which users cannot change
            user_agent="patentCL",
            **settings,
        )
        self.forget_bookmarks()
        self._stopping = threading.Event()
        self._outage_reported = False
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
        record = read_json(csvs / RECORD)
        if self.options.import_ == "offline":
            if overwrite or not self.is_available() or self._difference(record):
                import_offline(csvs, self.options, overwrite or self.options.replace, self.is_available)
            self.forget_bookmarks()
            self.check_version()
        elif self.options.import_ == "online" and (overwrite or self._difference(record)):
            _import_online(self, csvs, overwrite)
        if difference := self._difference(record):
            raise InputError(
                f"{self.server} {difference}; import these CSVs with --import offline or --import online "
                f"(--replace replaces another graph), or by hand into the stopped server: "
                f"{import_command(csvs, self.options)}"
            )
        _make_indexes(self)

    def holds(self, fingerprint: str) -> bool:
        """Whether the database still holds the complete graph of these CSVs."""
        return self.run(_IMPORTED).to_pydict() == {"fingerprint": [fingerprint], "complete": [True]}

    def _difference(self, record: dict[str, Any]) -> str:
        """How the database differs from the graph of `record`; "" when it does not."""
        imported, known = self.run(_IMPORTED).to_pydict(), record["fingerprint"]
        if not imported["fingerprint"]:
            return "contains patents that patentCL did not import" if self.count("(x:Patent)") else "is empty"
        if imported["fingerprint"] != [known]:
            return f"contains the graph of other tables ({imported['fingerprint'][0]} instead of {known})"
        if imported["complete"] != [True]:
            return "contains an unfinished import"
        for file, (kind, what) in KINDS.items():
            found = self.count(f"()-[x:{kind}]->()" if ends_of(file) else f"(x:{kind})")
            if found != record["counts"][what]:
                return f"contains {found:,} {what} instead of {record['counts'][what]:,}"
        return ""

    def forget_bookmarks(self) -> None:
        """Drop the bookmarks of a database that was replaced: the new one may never get there."""
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
            database=self.database,
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
                    raise self._error(problem) from None
                if "Bookmark" in _code(problem):
                    self.forget_bookmarks()
                if not self._outage_reported and "Deadlock" not in _code(problem):  # two writers met: a retry solves it
                    self._outage_reported = True
                    what = f"{self.server} is unavailable ({_reason(problem)})"
                    tqdm.write(f"{what}; retrying for {PATIENCE // 60} minutes")
            if stopping.wait(RETRY_AFTER):
                raise KeyboardInterrupt

    def is_available(self) -> bool:
        """Whether the server serves the database now. Raises `InputError` when it refuses to."""
        try:
            with self._driver.session(database=self.database) as session:  # no bookmarks of a replaced database
                session.run("RETURN 1").consume()
        except (Neo4jError, DriverError) as problem:
            if problem.is_retryable():
                return False
            raise self._error(problem) from None
        return True

    def check_version(self) -> None:
        """Print the server's version. Raises `InputError` when it does not answer or is too old."""
        try:
            with self.session(neo4j.READ_ACCESS) as session:
                found = session.run(_VERSION).single(strict=True)
        except (Neo4jError, DriverError, ValueError) as problem:  # ValueError: the answer is not Bolt
            raise self._error(problem) from None
        version = found["version"]
        print(f"{self.server}: version {version} {found['edition']}")
        self.version = tuple(int(part) for part in version.split("-")[0].split(".")[:2])
        if self.version < OLDEST:
            raise InputError(f"Neo4j 5.26 or newer is required (found {version}); upgrade, or use --graph embedded")

    def _error(self, problem: Exception) -> InputError:
        """The error message for an exception of the driver or of the server."""
        code = _code(problem)
        advice = next((f"; {advice}" for part, advice in _ADVICE.items() if part in code), "")
        if not code:
            advice = "; start the server, or fix NEO4J_URI (for a private certificate authority, set NEO4J_CA)"
        return (TooLarge if "Memory" in code else InputError)(f"{self.server}: {_reason(problem)}{advice}")

    def stop(self) -> None:
        """End the retries of other threads with KeyboardInterrupt; running queries finish."""
        self._stopping.set()
        self._stopping = threading.Event()  # for later queries

    def close(self) -> None:
        """Close all connections."""
        self._driver.close()


def _import_online(graph: Neo4jGraph, csvs: Path, overwrite: bool) -> None:
    """Write the graph of the CSVs in `csvs` into the server, or what an interrupted import left.

    Raises `InputError` when the database holds other patents, unless `overwrite` or --replace: then they are deleted
    first; `overwrite` deletes those of these CSVs, too.
    """
    record = read_json(csvs / RECORD)
    fingerprint = {"fingerprint": record["fingerprint"]}
    _make_room(graph, record["fingerprint"], overwrite)
    _make_indexes(graph)
    graph.write("MERGE (i:PatentCL {fingerprint: $fingerprint}) ON CREATE SET i.complete = false", fingerprint)
    written = set(graph.run("MATCH (b:PatentCLBatch) RETURN b.name AS name")["name"].to_pylist())
    if written:
        print(f"import: resuming (batches written: {len(written):,})")

    def write(batch: tuple[str, int, list[Any]]) -> int:
        file, start, rows = batch
        name = f"{record['fingerprint']}:{file}:{start}+{len(rows)}"
        parameters = {"rows": rows, "name": name, **fingerprint}
        if name not in written and not graph.write(_BATCH.format(write=_statement(file)), parameters):
            raise InputError(
                f"{graph.server}: another import replaced this one, or {csvs / file} links patents that do not exist; "
                "wait for the other import, or rebuild the CSVs with --overwrite"
            )
        return len(rows)

    total = sum(record["counts"][count] for _, count in KINDS.values())
    with tqdm(total=total, desc="import", unit="row", unit_scale=True, smoothing=0.05) as progress:
        for file in KINDS:  # nodes before the links between them
            progress.set_postfix_str(file)
            try:
                in_parallel(write, _batches(csvs, file), graph.sessions, progress.update, graph.stop)
            except KeyboardInterrupt:
                raise Interrupted("written batches are kept; rerun to resume") from None
    graph.write("MATCH (i:PatentCL {fingerprint: $fingerprint}) SET i.complete = true", fingerprint)
    graph.write(_DELETE.format(label="PatentCLBatch"))


def _make_room(graph: Neo4jGraph, fingerprint: str, overwrite: bool) -> None:
    """Delete all nodes of our labels if asked to; else raise `InputError` if they are not of this import."""
    counts = {label: graph.count(f"(x:{label})") for label in _LABELS}
    imported = graph.run(_IMPORTED)["fingerprint"].to_pylist()
    if not any(counts.values()) or (imported == [fingerprint] and not overwrite):
        return
    if not (overwrite or graph.options.replace):
        nodes = ", ".join(f"{count:,} {label}" for label, count in counts.items() if count)
        raise InputError(
            f"{graph.server} contains nodes of other tables ({nodes}); delete them with --replace, or use "
            "another --database (Enterprise Edition and Aura have several)"
        )
    print(f"import: deleting the existing graph of {counts['Patent']:,} patents")
    for label in _LABELS:
        graph.write(_DELETE.format(label=label))


def _make_indexes(graph: Neo4jGraph) -> None:
    """Make the indexes that the queries need where they are missing, and wait until they are online."""
    for label, key in _KEYS.items():  # without names, which indexes of the user may have
        graph.write(f"CREATE CONSTRAINT IF NOT EXISTS FOR (n:{label}) REQUIRE n.{key} IS UNIQUE")
    graph.write("CREATE INDEX IF NOT EXISTS FOR (n:Patent) ON (n.patent_id)")
    graph.write("CALL db.awaitIndexes(36000)")
    print("neo4j: the indexes are ready")


def _batches(csvs: Path, file: str) -> Iterator[tuple[str, int, list[Any]]]:
    """Read a CSV in batches: its name, the number of rows before, and rows as `_statement` takes them."""
    with readable_errors(f"{csvs / file} cannot be read", "Rebuild the CSVs with --overwrite."), connect() as db:
        cursor, start = db.execute(rows_of(csvs, file)), 0
        while rows := cursor.fetchmany(LINKS if ends_of(file) else NODES):
            values = rows if ends_of(file) else [dict(zip(COLUMNS[file], row, strict=True)) for row in rows]
            yield file, start, values
            start += len(rows)


def _statement(file: str) -> str:
    """Cypher for one `row`: a map of a node's properties, or the list of a link's two ends and its properties."""
    kind, names = KINDS[file][0], list(COLUMNS[file])
    if not ends_of(file):
        return f"MERGE (n:{kind} {{{names[0]}: row.{names[0]}}}) SET n += row"
    start, end = (f"MATCH (n{i}:{label} {{{_KEYS[label]}: row[{i}]}})" for i, label in enumerate(ends_of(file)))
    properties = "".join(f" SET r.{name} = row[{i}]" for i, name in enumerate(names) if i > 1)
    return f"{start} {end} MERGE (n0)-[r:{kind}]->(n1){properties}"


def _code(problem: Exception) -> str:
    return getattr(problem, "code", None) or ""


def _reason(problem: Exception) -> str:
    return " ".join((getattr(problem, "message", None) or str(problem)).split()).rstrip(".")
