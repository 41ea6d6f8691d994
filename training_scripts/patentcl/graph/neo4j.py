"""Neo4j, the graph database server: one's own, a cluster, or Aura, over Bolt (https://neo4j.com/docs/python-manual).

Credentials come from the environment alone: NEO4J_URI, NEO4J_USERNAME, NEO4J_PASSWORD, NEO4J_DATABASE, and NEO4J_CA
for a certificate authority of one's own.
"""

import logging
import os
import re
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import neo4j
import pyarrow as pa
from neo4j.exceptions import (
    AuthError,
    ClientError,
    ConfigurationError,
    DatabaseError,
    DriverError,
    IncompleteCommit,
    Neo4jError,
    UnsupportedServerProduct,
)
from tqdm import tqdm

from ..common.cli import InputError
from ..common.files import read_json
from ..tables.import_csvs import miscounted
from ..tables.restructure import RECORD
from .neo4j_admin import address, default_database, import_command, import_offline

logging.getLogger("neo4j.notifications").setLevel(logging.ERROR)  # hints on our queries, to us and not to users
logging.getLogger("neo4j").addHandler(logging.NullHandler())  # what goes wrong is said in our own sentence
Result = TypeVar("Result")

OLDEST = (5, 26)  # the long-term version of Neo4j 5, which the tests run
_VERSION = """CALL dbms.components() YIELD name, versions, edition WHERE name = 'Neo4j Kernel'
RETURN name, versions, edition"""  # newer servers name Cypher as a component too
PATIENCE = 600  # seconds to wait for a server that went away, before giving up
_SCHEMES = ("bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc")
# Records asked for at a time. 89,000 rows of `cited` over loopback took 7.9 s at 100, 6.2 s at 1,000, 6.6 s at 10,000,
# 7.5 s at 100,000 (means of two); over a longer line fewer questions are better.
FETCH = 10_000

_INDEXES = {
    "Patent(rank)": "CREATE CONSTRAINT patent_rank IF NOT EXISTS FOR (p:Patent) REQUIRE p.rank IS UNIQUE",
    "CPCSubclass(symbol)": "CREATE CONSTRAINT cpc_subclass_symbol IF NOT EXISTS "
    "FOR (c:CPCSubclass) REQUIRE c.symbol IS UNIQUE",
    "OutsidePatent(number)": "CREATE CONSTRAINT outside_patent_number IF NOT EXISTS "
    "FOR (o:OutsidePatent) REQUIRE o.number IS UNIQUE",
    "Patent(patent_id)": "CREATE INDEX patent_id IF NOT EXISTS FOR (p:Patent) ON (p.patent_id)",
}


_ONLINE = """SHOW INDEXES YIELD labelsOrTypes, properties, state WHERE state = 'ONLINE' AND size(properties) = 1
RETURN labelsOrTypes[0] + '(' + properties[0] + ')' AS index"""


@dataclass(frozen=True)
class Neo4jOptions:
    """How a Neo4j is used: `--import`, `--sessions`, `--database`, `--heap`, `--off-heap` of the scripts.

    `way` is "offline", "online", or "" for a graph that is in the server already. `sessions` 0 is one a core, 8 at
    most. `database` "" is NEO4J_DATABASE, else neo4j. `heap` and `off_heap` are the memory of the offline import.
    """

    way: str = field(default="", metadata={"aliases": ["--import"], "choices": ("", "offline", "online")})
    sessions: int = 0
    database: str = ""
    heap: str = "2g"
    off_heap: str = "4g"


@dataclass(frozen=True)
class Server:
    """Where a Neo4j is and who we are there; the password shows in no text of it."""

    uri: str
    username: str
    password: str = field(repr=False)
    database: str
    ca: Path | None = None

    @classmethod
    def from_environment(cls, database: str = "") -> "Server":
        """Read the NEO4J_… variables. Raises `InputError` when the password is missing or stands in the address."""
        for name in ("NEO4J_URI", "NEO4J_USERNAME", "NEO4J_PASSWORD", "NEO4J_DATABASE"):
            if not os.environ.get(name, "").isprintable():
                raise InputError(f"{name} holds a letter that cannot be printed: set it anew")
        uri = address()
        if "@" in uri or "?" in uri:  # it may be a secret, so it is not repeated
            raise InputError("NEO4J_URI holds a name or a password: put them into NEO4J_USERNAME and NEO4J_PASSWORD")
        if uri.split("://")[0] not in _SCHEMES:
            raise InputError(f"NEO4J_URI {uri} cannot be used: write it like {', '.join(f'{s}://' for s in _SCHEMES)}")
        try:
            urlsplit(uri).port  # noqa: B018 (raises for what is no port)
            uri.encode("ascii")
            (urlsplit(uri).hostname or ".").encode("idna")
        except ValueError:  # the address is not repeated: what stands in the port's place may be a password
            raise InputError("NEO4J_URI has no proper host and port: write it like bolt://host:7687") from None
        chosen = database or default_database()
        if not re.fullmatch("[A-Za-z][A-Za-z0-9.-]{2,62}", chosen) or chosen.lower() == "system":
            raise InputError(
                f"--database {chosen!a} is no name of a database for patents: take 3 to 63 letters, digits, dots and "
                "dashes that begin with a letter, and not system"
            )
        password, ca = os.environ.get("NEO4J_PASSWORD"), os.environ.get("NEO4J_CA")
        if not password:
            raise InputError("NEO4J_PASSWORD is not set: export the password of the Neo4j server at " + uri)
        if ca and not Path(ca).is_file():
            raise InputError(f"NEO4J_CA names {ca}, which is no file: give the PEM file of your certificate authority")
        try:
            ssl.create_default_context(cafile=ca)
        except ssl.SSLError:
            raise InputError(f"NEO4J_CA names {ca}, which holds no certificate: give a PEM file") from None
        return cls(
            uri, os.environ.get("NEO4J_USERNAME") or "neo4j", password, chosen, Path(ca) if ca else None
        )  # fmt: skip

    def __str__(self) -> str:
        """Return what messages call it."""
        return f"Neo4j at {self.uri}, database {self.database}"

    def driver(self) -> neo4j.Driver:
        """Open the driver. Own certificate authorities are trusted instead of the system's, with encryption on."""
        uri, settings = self.uri, dict[str, Any]()
        if self.ca:
            scheme, rest = uri.split(":", 1)
            uri = f"{scheme.split('+')[0]}:{rest}"
            settings = {"encrypted": True, "trusted_certificates": neo4j.TrustCustomCAs(str(self.ca))}
        try:
            return neo4j.GraphDatabase.driver(
                uri, auth=(self.username, self.password), connection_timeout=15, user_agent="patentCL", **settings
            )
        except (ConfigurationError, ValueError, OSError) as problem:
            raise InputError(
                f"NEO4J_URI {self.uri} cannot be used ({problem}): write it like bolt://host:7687"
            ) from None


class Neo4jGraph:
    """The graph in a Neo4j server. Queries wait for a server that went away, and go on when it is back."""

    batch = 20_000

    def __init__(self, server: Server, options: Neo4jOptions) -> None:
        """Keep the server's name; unless its database is to be imported offline, it must answer."""
        if options.way not in ("", "offline", "online"):
            raise InputError(f"--import {options.way} is no way to import: write offline or online")
        if options.sessions < 0:
            raise InputError(f"--sessions {options.sessions} must be at least 1, or 0 for one a core")
        self.server, self.options = server, options
        self.sessions = options.sessions or min(8, os.cpu_count() or 1)
        self._driver = server.driver()
        self._bookmarks = neo4j.GraphDatabase.bookmark_manager()  # in a cluster, read what was written before
        self._stopping, self._lock, self._away_since = threading.Event(), threading.Lock(), 0.0
        if options.way != "offline":
            self._greet()

    def import_csvs(self, csvs: Path, overwrite: bool = False) -> None:
        """Import the CSVs in `csvs` the way that was asked for, make the indexes, and make sure it is their graph.

        A graph that is there already is kept, unless `overwrite`. Raises `InputError` when the database holds
        another graph, and when it is empty and no way was asked for.
        """
        from .neo4j_import import import_online  # it needs this module

        record, way = read_json(csvs / RECORD), self.options.way
        if not {"fingerprint", "counts"} <= record.keys():
            raise InputError(f"{csvs / RECORD} is not whole: restructure again with --overwrite")
        if way == "offline" and (overwrite or not self.answers() or self._difference(record)):
            import_offline(csvs, self.server.database, self.options.heap, self.options.off_heap, overwrite,
                           self.answers)  # fmt: skip
        if way == "offline":
            self._bookmarks = neo4j.GraphDatabase.bookmark_manager()  # another store knows nothing of the old one's
            self._greet()
        if way == "online" and (overwrite or self._difference(record)):
            import_online(self, csvs, overwrite)
        if difference := self._difference(record):
            if way:
                raise InputError(f"{self.server} {difference} after the import: restructure again with --overwrite")
            raise InputError(
                f"{self.server}, {difference}: import these CSVs with --import offline or --import online "
                f"(--overwrite replaces a graph that is there), or by hand, the server stopped: "
                f"{import_command(csvs, self.server.database, self.options.heap, self.options.off_heap)}"
            )
        self.make_indexes()

    def run(self, query: str, parameters: dict[str, Any]) -> pa.Table:
        """Run one reading Cypher query; return its rows as an Arrow table."""

        def read() -> pa.Table:
            with self.session(neo4j.READ_ACCESS) as session:
                result = session.run(query, parameters)
                names = result.keys()
                columns = list(zip(*result.values(), strict=True)) or [()] * len(names)
            return pa.table([list(column) for column in columns], names=list(names))

        return self.patiently(read)

    def write(self, query: str, parameters: dict[str, Any]) -> int:
        """Run one writing query in a transaction of its own and return its number of rows.

        It may be run twice, so it must be idempotent.
        """

        def commit() -> int:
            with self.session(neo4j.WRITE_ACCESS) as session, session.begin_transaction() as transaction:
                rows = len(list(transaction.run(query, parameters)))
                transaction.commit()
                return rows

        return self.patiently(commit)

    def command(self, query: str) -> None:
        """Run a query that makes its own transactions, or changes the schema."""

        def execute() -> None:
            with self.session(neo4j.WRITE_ACCESS) as session:
                session.run(query).consume()

        self.patiently(execute)

    def holds(self, fingerprint: str) -> bool:
        """Whether the database still holds the whole graph of these CSVs."""
        found = self.run("MATCH (i:PatentCL) RETURN i.fingerprint AS fingerprint, i.complete AS complete", {})
        return found["fingerprint"].to_pylist() == [fingerprint] and bool(found["complete"][0].as_py())

    def make_indexes(self) -> None:
        """Make the indexes that the query needs where they are missing, wait until they can be used, and say so."""
        started = time.time()
        for statement in _INDEXES.values():
            self.command(statement)
        self.command("CALL db.awaitIndexes(36000)")
        online = self.run(_ONLINE, {})["index"].to_pylist()  # IF NOT EXISTS also does nothing when a name is taken
        for index, statement in _INDEXES.items():
            if index not in online:
                raise InputError(
                    f"{self.server} has no index of {index}, and its name {statement.split()[2]} is taken by another: "
                    "drop or rename that one"
                )
        print(f"indexes: {', '.join(_INDEXES)} ready after {time.time() - started:.0f} s")

    def stop(self) -> None:
        """Let threads that wait for the server give up; running queries are let end."""
        waiting, self._stopping = self._stopping, threading.Event()  # later queries wait with the new one
        waiting.set()

    def close(self) -> None:
        """Close all connections."""
        self._driver.close()

    def session(self, access: str) -> neo4j.Session:
        """Open a session for "READ" or "WRITE" queries."""
        return self._driver.session(
            database=self.server.database,
            default_access_mode=access,
            fetch_size=FETCH,
            bookmark_manager=self._bookmarks,
        )

    def _greet(self) -> None:
        """Make sure that the server answers, lets us in, and is new enough."""
        try:
            with self._driver.session(database=self.server.database) as session:
                found = session.run(_VERSION).single(strict=True)
        except (Neo4jError, DriverError) as problem:
            raise told(problem, self.server) from None
        except ValueError:  # the driver could not make sense of the bytes
            raise InputError(f"what answers at {self.server.uri} is no Neo4j server: mend NEO4J_URI") from None
        refuse_old(found["versions"][0], self.server)
        print(f"neo4j: {found['name']} {found['versions'][0]} {found['edition']} at {self.server.uri}, "
              f"database {self.server.database}")  # fmt: skip

    def answers(self) -> bool:
        """Whether a server is there that can serve the database now."""
        try:
            with self._driver.session(database=self.server.database) as session:
                session.run("RETURN 1").consume()
        except (Neo4jError, DriverError) as problem:
            if problem.is_retryable():
                return False
            raise told(problem, self.server) from None
        return True

    def _difference(self, record: dict[str, Any]) -> str:
        """What keeps the database from being the graph of `record`, or "" when nothing does."""
        found = self.run("MATCH (i:PatentCL) RETURN i.fingerprint AS fingerprint, i.complete AS complete", {})
        patents = self.run("MATCH (p:Patent) RETURN count(p) AS patents", {})["patents"][0].as_py()
        if not found.num_rows:
            return "has patents of another import" if patents else "is empty"
        if found["fingerprint"].to_pylist() != [record["fingerprint"]]:
            return f"holds the graph of other tables ({found['fingerprint'][0]} instead of {record['fingerprint']})"
        if not found["complete"][0].as_py():
            return "holds an import that was not finished"
        difference = miscounted(self.run, record["counts"])
        return f"holds {difference}" if difference else ""

    def patiently(self, work: Callable[[], Result]) -> Result:
        """Do `work`; while the server is away or asks for another try, wait with back-off, say so, and try again."""
        failed, pause, stopping = 0.0, 0.5, self._stopping
        while True:
            begun = time.monotonic()
            try:
                result = work()
            except (Neo4jError, DriverError) as problem:
                failed = failed or time.monotonic()
                if not worth_another_try(problem) or time.monotonic() - failed > PATIENCE:
                    raise told(problem, self.server) from None
                self._say_away(problem)
                if stopping.wait(pause):
                    raise KeyboardInterrupt from None
                pause = min(2 * pause, 15)
            else:
                self._say_back(begun)
                return result

    def _say_away(self, problem: Exception) -> None:
        if "DeadlockDetected" in (getattr(problem, "code", None) or ""):
            return  # two writers met; the next try tells
        with self._lock:
            if not self._away_since:
                self._away_since = time.monotonic()
                tqdm.write(f"{self.server} does not answer ({_reason(problem)}): waiting up to {PATIENCE // 60} min")

    def _say_back(self, begun: float) -> None:
        """Say that the server is back, when the work that was just done began after it had gone."""
        with self._lock:
            if 0 < self._away_since < begun:
                tqdm.write(f"{self.server} is back after {begun - self._away_since:.0f} s: going on")
                self._away_since = 0.0


def refuse_old(version: str, server: Server) -> None:
    """Raise `InputError` for a version like "4.4.30" that lacks what is used here."""
    if tuple(int(part) for part in version.split("-")[0].split(".")[:2]) < OLDEST:
        raise InputError(f"{server} is Neo4j {version}, and at least 5.26 is needed: use that, or --graph embedded")


def worth_another_try(problem: Neo4jError | DriverError) -> bool:
    """Whether an error may pass by itself: a server that goes away, stops, or has too much to do at once.

    A commit whose fate is unknown counts too, for all that is written here may be written twice.
    """
    code = getattr(problem, "code", None) or ""
    stopping = code.endswith(("Transaction.Terminated", "Transaction.LockClientStopped", "DatabaseUnavailable"))
    passing = problem.is_retryable() or isinstance(problem, IncompleteCommit) or stopping
    return passing and not _out_of_memory(problem)


def told(problem: Exception, server: Server) -> InputError:
    """The sentence for an error of the driver or the server."""
    code, reason = getattr(problem, "code", None) or "", _reason(problem)
    if isinstance(problem, UnsupportedServerProduct):
        return InputError(f"{server} is older than this driver can speak to ({reason}): use Neo4j 5.26 or newer")
    if code.endswith("Security.Forbidden"):
        return InputError(f"{server} does not allow that to {server.username} ({reason}): ask for the right to do it")
    if isinstance(problem, AuthError) or "Security" in code:
        return InputError(
            f"{server} refuses {server.username} ({reason}): mend NEO4J_USERNAME or NEO4J_PASSWORD; a new server wants "
            "neo4j-admin dbms set-initial-password before its first start"
        )
    if "DatabaseNotFound" in code:
        return InputError(
            f"{server}: there is no such database: mend --database or NEO4J_DATABASE (Community Edition has one, neo4j)"
        )
    if _out_of_memory(problem):
        return InputError(f"{server} ran out of memory ({reason}): give it a larger heap, or fewer --sessions")
    if isinstance(problem, ClientError | DatabaseError):
        return InputError(f"{server} refused a query ({reason})")
    tls = "+s" in server.uri or re.search(r"(?i)ssl|certificate|encrypted", reason)
    advice = ", and set NEO4J_CA where the certificate's authority is your own" if tls else ""
    return InputError(f"{server} does not answer ({reason}): start it, or mend NEO4J_URI{advice}")


def _out_of_memory(problem: Exception) -> bool:
    return "Memory" in (getattr(problem, "code", None) or "")


def _reason(problem: Exception) -> str:
    """What the driver says, in one line."""
    text = getattr(problem, "message", None) or str(problem) or type(problem).__name__
    text = re.sub(r" \(resolved to [^\n]*\)| \(Resolved\w+\(\(.*?\)\)\)", "", text)
    return " ".join(re.sub(r"IPv[46]Address\(\('(.*?)', (\d+).*?\)\)", r"\1:\2", text).split()).rstrip(".")[:300]
