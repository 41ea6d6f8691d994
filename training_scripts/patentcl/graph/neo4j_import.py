"""Import CSVs → Neo4j over Bolt, for Aura, a cluster, or any server whose files are out of reach; and the indexes.

`UNWIND $rows` with `MERGE`, in batches, by several sessions. The transaction that writes a batch also writes a marker,
so an interrupted import resumes where it stopped, from any machine.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ..common.cli import InputError, Interrupted
from ..common.duck import connect, readable_errors
from ..common.files import read_json
from ..tables.import_csvs import CSVS, KINDS, ends_of, plain_name, rows_of
from ..tables.restructure import RECORD
from .parallel import in_parallel

if TYPE_CHECKING:
    from .neo4j import Neo4jGraph

NODES, LINKS = 2_000, 10_000  # rows per transaction
# The fingerprint of the import is matched first: another import that replaces this graph deletes it first, and from
# then on nothing more is written.
_BATCH = """MATCH (i:PatentCL {{fingerprint: $fingerprint}}) UNWIND $rows AS row {write}
WITH count(*) AS n WHERE n > 0 MERGE (b:PatentCLBatch {{name: $name}}) RETURN b.name"""
_DELETE = "MATCH (n:{label}) CALL (n) {{ DETACH DELETE n }} IN TRANSACTIONS OF 5000 ROWS"
# Label → the property that identifies a node.
_KEYS = {kind: plain_name(next(iter(CSVS[file]))) for file, (kind, _) in KINDS.items() if not ends_of(file)}
_LABELS = ("PatentCL", "PatentCLBatch", *_KEYS)  # the fingerprint first: a partial graph must not pass for complete


def import_online(graph: "Neo4jGraph", csvs: Path, overwrite: bool) -> None:
    """Write the graph of the CSVs in `csvs` into the server, or what an interrupted import left.

    Raises `InputError` when the database holds other patents, unless `overwrite` or --replace: then they are deleted
    first; `overwrite` deletes those of these CSVs, too.
    """
    record = read_json(csvs / RECORD)
    parameters = {"fingerprint": record["fingerprint"]}
    _make_room(graph, record["fingerprint"], overwrite)
    make_indexes(graph)
    graph.write("MERGE (i:PatentCL {fingerprint: $fingerprint}) ON CREATE SET i.complete = false", parameters)
    written = set(graph.run("MATCH (b:PatentCLBatch) RETURN b.name AS name")["name"].to_pylist())
    if written:
        print(f"import: resuming (batches written: {len(written):,})")
    total = sum(record["counts"][count] for _, count in KINDS.values())
    with tqdm(total=total, desc="import", unit="row", unit_scale=True, smoothing=0.05) as progress:
        for file in KINDS:
            progress.set_postfix_str(file)
            write = partial(_write, graph, csvs / file, record["fingerprint"], written)
            try:
                in_parallel(write, _batches(csvs, file), graph.sessions, progress.update, graph.stop)
            except KeyboardInterrupt:
                raise Interrupted("written batches are kept; rerun to resume") from None
    graph.write("MATCH (i:PatentCL {fingerprint: $fingerprint}) SET i.complete = true", parameters)
    graph.write(_DELETE.format(label="PatentCLBatch"))


def _make_room(graph: "Neo4jGraph", fingerprint: str, overwrite: bool) -> None:
    """Delete all nodes of our labels if asked to; else raise `InputError` if they are not of this import."""
    counts = {label: graph.count(f"(x:{label})") for label in _LABELS}
    imported = graph.run("MATCH (i:PatentCL) RETURN i.fingerprint AS fingerprint")["fingerprint"].to_pylist()
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


def make_indexes(graph: "Neo4jGraph") -> None:
    """Make the indexes that the queries need where they are missing, and wait until they are online."""
    for label, key in _KEYS.items():  # without names, which indexes of the user may have
        graph.write(f"CREATE CONSTRAINT IF NOT EXISTS FOR (n:{label}) REQUIRE n.{key} IS UNIQUE")
    graph.write("CREATE INDEX IF NOT EXISTS FOR (n:Patent) ON (n.patent_id)")
    graph.write("CALL db.awaitIndexes(36000)")
    print("neo4j: the indexes are ready")


def _batches(csvs: Path, file: str) -> Iterator[tuple[str, list[Any]]]:
    """Read a CSV in batches: a name that is the same in another run, and rows as `_statement` takes them."""
    names = [plain_name(header) for header in CSVS[file]]
    with readable_errors(f"{csvs / file} cannot be read", "Rebuild the CSVs with --overwrite."), connect() as db:
        cursor, number = db.execute(rows_of(csvs, file)), 0
        while rows := cursor.fetchmany(LINKS if ends_of(file) else NODES):
            yield f"{file}:{number}", rows if ends_of(file) else [dict(zip(names, row, strict=True)) for row in rows]
            number += 1


def _write(graph: "Neo4jGraph", csv: Path, fingerprint: str, written: set[str], batch: tuple[str, list[Any]]) -> int:
    """Write a batch, unless it is `written` already; return its number of rows."""
    name, rows = f"{fingerprint}:{batch[0]}", batch[1]
    if name not in written:
        query = _BATCH.format(write=_statement(csv.name))
        if not graph.write(query, {"rows": rows, "name": name, "fingerprint": fingerprint}):
            raise InputError(
                f"{graph.server}: another import replaced this one, or {csv} links patents that do not exist; "
                "wait for the other import, or rebuild the CSVs with --overwrite"
            )
    return len(rows)


def _statement(file: str) -> str:
    """Cypher for one `row`: a map of a node's properties, or the list of a link's two ends and its properties."""
    kind, names = KINDS[file][0], [plain_name(header) for header in CSVS[file]]
    if not ends_of(file):
        return f"MERGE (n:{kind} {{{names[0]}: row.{names[0]}}}) SET n += row"
    start, end = (f"MATCH (n{i}:{label} {{{_KEYS[label]}: row[{i}]}})" for i, label in enumerate(ends_of(file)))
    properties = "".join(f" SET r.{name} = row[{i}]" for i, name in enumerate(names) if i > 1)
    return f"{start} {end} MERGE (n0)-[r:{kind}]->(n1){properties}"
