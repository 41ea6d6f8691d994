"""Import CSVs → Neo4j over Bolt, for Aura, a cluster, or any server whose files are out of reach; and the indexes.

`UNWIND $rows` with `MERGE`, in batches, by several sessions. The transaction that writes a batch also writes a marker,
so an interrupted import resumes where it stopped, from any machine.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..common.cli import InputError, Interrupted
from ..common.duck import connect, readable_errors
from ..common.files import read_json
from ..tables.import_csvs import COUNTED, CSVS, OUTSIDE, PATENT, SUBCLASS, plain_name, rows_of
from ..tables.restructure import RECORD
from .neo4j_connection import Neo4jConnection
from .parallel import in_parallel

# CSV → rows per transaction, and the Cypher for one `row`: a map of properties, or for a link the list of its two ends
# and further columns. Nodes come before the links between them.
_WRITE = {
    "cpc_subclasses.csv": (1_000, "MERGE (c:CPCSubclass {symbol: row.symbol}) SET c += row"),
    "patents.csv": (2_000, "MERGE (p:Patent {rank: row.rank}) SET p += row"),
    "outside_patents.csv": (5_000, "MERGE (o:OutsidePatent {number: row.number}) SET o += row"),
    "citations.csv": (
        10_000,
        "MATCH (a:Patent {rank: row[0]}) MATCH (b:Patent {rank: row[1]}) MERGE (a)-[c:CITES]->(b) "
        "SET c.examiner = row[2]",
    ),
    "outside_citations.csv": (
        10_000,
        "MATCH (a:Patent {rank: row[0]}) MATCH (o:OutsidePatent {number: row[1]}) MERGE (a)-[:CITES_OUTSIDE]->(o)",
    ),
    "classifications.csv": (
        10_000,
        "MATCH (c:CPCSubclass {symbol: row[0]}) MATCH (p:Patent {rank: row[1]}) MERGE (c)-[:CLASSIFIES]->(p)",
    ),
}
# The fingerprint of the import is matched first: another import that replaces this graph deletes it first, and from
# then on nothing more is written.
_BATCH = """MATCH (i:PatentCL {{fingerprint: $fingerprint}}) UNWIND $rows AS row {write}
WITH count(*) AS n WHERE n > 0 MERGE (b:PatentCLBatch {{name: $name}}) RETURN b.name"""
_DELETE = "MATCH (n:{label}) CALL (n) {{ DETACH DELETE n }} IN TRANSACTIONS OF 5000 ROWS"
_Batch = tuple[str, list[Any]]  # a name that is the same in another run, and rows of a CSV
_LABELS = ("PatentCL", "PatentCLBatch", SUBCLASS, OUTSIDE, PATENT)
_INDEXES = (  # without names, which indexes of the user may have
    "CREATE CONSTRAINT IF NOT EXISTS FOR (n:Patent) REQUIRE n.rank IS UNIQUE",
    "CREATE CONSTRAINT IF NOT EXISTS FOR (n:CPCSubclass) REQUIRE n.symbol IS UNIQUE",
    "CREATE CONSTRAINT IF NOT EXISTS FOR (n:OutsidePatent) REQUIRE n.number IS UNIQUE",
    "CREATE INDEX IF NOT EXISTS FOR (n:Patent) ON (n.patent_id)",
    "CALL db.awaitIndexes(36000)",
)


def import_online(connection: Neo4jConnection, csvs: Path, sessions: int, overwrite: bool, replace: bool) -> None:
    """Write the graph of the CSVs in `csvs` into the server, or what an interrupted import left.

    Raises `InputError` when the database holds other patents, unless `replace` or `overwrite`: then they are deleted
    first; `overwrite` deletes those of these CSVs, too.
    """
    record = read_json(csvs / RECORD)
    parameters = {"fingerprint": record["fingerprint"]}
    _make_room(connection, record["fingerprint"], overwrite, replace)
    make_indexes(connection)
    connection.write("MERGE (i:PatentCL {fingerprint: $fingerprint}) ON CREATE SET i.complete = false", parameters)
    written = set(connection.run("MATCH (b:PatentCLBatch) RETURN b.name AS name")["name"].to_pylist())
    if written:
        print(f"import: resuming (batches written: {len(written):,})")
    total = sum(record["counts"][what] for what in COUNTED)
    with tqdm(total=total, desc="import", unit="row", unit_scale=True, smoothing=0.05) as progress:
        for file in _WRITE:
            progress.set_postfix_str(file)
            write = partial(_write, connection, csvs / file, record["fingerprint"], written)
            batches = _batches(csvs, file, record["fingerprint"])
            try:
                in_parallel(write, batches, sessions, progress.update, connection.stop)
            except KeyboardInterrupt:
                raise Interrupted("written batches are kept; rerun to resume") from None
    connection.write("MATCH (i:PatentCL {fingerprint: $fingerprint}) SET i.complete = true", parameters)
    connection.write(_DELETE.format(label="PatentCLBatch"))


def _write(connection: Neo4jConnection, csv: Path, fingerprint: str, written: set[str], batch: _Batch) -> int:
    """Write a batch, unless it is `written` already; return its number of rows."""
    name, rows = batch
    if name not in written:
        query = _BATCH.format(write=_WRITE[csv.name][1])
        if not connection.write(query, {"rows": rows, "name": name, "fingerprint": fingerprint}):
            raise InputError(
                f"{connection.server}: another import replaced this one, or {csv} links patents that do not exist; "
                "wait for the other import, or rebuild the CSVs with --overwrite"
            )
    return len(rows)


def _make_room(connection: Neo4jConnection, fingerprint: str, overwrite: bool, replace: bool) -> None:
    """Delete all nodes of our labels if asked to; else raise `InputError` if they are not of this import."""
    counts = {label: connection.count(f"(x:{label})") for label in _LABELS}
    imported = connection.run("MATCH (i:PatentCL) RETURN i.fingerprint AS fingerprint")["fingerprint"].to_pylist()
    if not any(counts.values()) or (imported == [fingerprint] and not overwrite):
        return
    if not (overwrite or replace):
        nodes = ", ".join(f"{count:,} {label}" for label, count in counts.items() if count)
        raise InputError(
            f"{connection.server} contains nodes of other tables ({nodes}); delete them with --replace, or use "
            "another --database (Enterprise Edition and Aura have several)"
        )
    print(f"import: deleting the existing graph of {counts[PATENT]:,} patents")
    for label in _LABELS:  # the fingerprint first: a partial graph must not pass for a complete one
        connection.write(_DELETE.format(label=label))


def make_indexes(connection: Neo4jConnection) -> None:
    """Make the indexes that the queries need where they are missing, and wait until they are online."""
    for statement in _INDEXES:
        connection.write(statement)
    print("neo4j: the indexes are ready")


def _batches(csvs: Path, file: str, fingerprint: str) -> Iterator[_Batch]:
    """Read the rows of a CSV in batches."""
    size, names = _WRITE[file][0], [plain_name(header) for header in CSVS[file]]
    links = names[0] == "start"
    with readable_errors(f"{csvs / file} cannot be read", "Rebuild the CSVs with --overwrite."), connect() as db:
        cursor, number = db.execute(rows_of(csvs, file)), 0
        while rows := cursor.fetchmany(size):
            values = rows if links else [dict(zip(names, row, strict=True)) for row in rows]
            yield f"{fingerprint}:{file}:{size}:{number}", values
            number += 1
