"""Import CSVs → Neo4j over Bolt, for Aura, a cluster or any server whose files are out of reach.

Constraints first, then `UNWIND $rows` with `MERGE`, batch by batch in several sessions. Each batch leaves a marker in
the transaction that writes it, so an interrupted import goes on where it stopped, from any machine.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ..common.cli import InputError, Interrupted
from ..common.duck import connect, readable_errors
from ..common.files import read_json
from ..tables.import_csvs import CSVS, OUTSIDE, PATENT, SUBCLASS, plain_name, rows_of
from ..tables.restructure import RECORD
from .parallel import in_parallel

if TYPE_CHECKING:
    from .neo4j import Neo4jGraph


# CSV → rows that a transaction writes, and the Cypher for one `row`: a map of properties, or for a link the list of its
# two ends and what else it has.
_WRITE = {
    "cpc_subclasses.csv": (1_000, "MERGE (c:CPCSubclass {symbol: row.symbol}) SET c += row"),
    "patents.csv": (2_000, "MERGE (p:Patent {rank: row.rank}) SET p += row"),
    "outside_patents.csv": (5_000, "MERGE (o:OutsidePatent {number: row.number}) SET o += row"),
    "citations.csv": (10_000, """MATCH (a:Patent {rank: row[0]}) MATCH (b:Patent {rank: row[1]})
        MERGE (a)-[c:CITES]->(b) SET c.category = row[2]"""),
    "outside_citations.csv": (10_000, """MATCH (a:Patent {rank: row[0]}) MATCH (o:OutsidePatent {number: row[1]})
        MERGE (a)-[:CITES_OUTSIDE]->(o)"""),
    "classifications.csv": (10_000, """MATCH (c:CPCSubclass {symbol: row[0]}) MATCH (p:Patent {rank: row[1]})
        MERGE (c)-[:CLASSIFIES]->(p)"""),
}  # fmt: skip

_COUNTED = ("CPC subclasses", "patents", "outside patents cited by several", "citations", "citations of these",
            "classifications")  # fmt: skip
_DELETE = "MATCH (n:{label}) CALL (n) {{ DETACH DELETE n }} IN TRANSACTIONS OF 5000 ROWS"
_OURS = ("PatentCL", "PatentCLBatch", SUBCLASS, OUTSIDE, PATENT)


def import_online(graph: "Neo4jGraph", csvs: Path, overwrite: bool = False) -> None:
    """Write the graph of the CSVs in `csvs` into the server, or what an interrupted import left to be written.

    Raises `InputError` when the database holds other patents, unless `overwrite`: then these are deleted first.
    """
    record = read_json(csvs / RECORD)
    fingerprint = record["fingerprint"]
    _make_room(graph, fingerprint, overwrite)
    graph.make_indexes()
    graph.write("MERGE (i:PatentCL {fingerprint: $fingerprint}) ON CREATE SET i.complete = false",
                {"fingerprint": fingerprint})  # fmt: skip
    done = set(graph.run("MATCH (b:PatentCLBatch) RETURN b.name AS name", {})["name"].to_pylist())
    if done:
        print(f"import: goes on after {len(done)} batches that were written before")
    counts = record["counts"]
    total = sum(counts[name] for name in _COUNTED)
    with tqdm(total=total, desc="import", unit="row", unit_scale=True, smoothing=0.05) as progress:
        for file, (_, cypher) in _WRITE.items():
            progress.set_postfix_str(file)

            def write(batch: tuple[str, list[Any]], cypher: str = cypher) -> int:
                name, rows = batch
                if name not in done and not graph.write(
                    # Whoever replaces this graph deletes its fingerprint first, and then nothing is written any more.
                    f"MATCH (i:PatentCL {{fingerprint: $fingerprint}}) UNWIND $rows AS row {cypher} "
                    "WITH count(*) AS n WHERE n > 0 MERGE (b:PatentCLBatch {name: $name}) RETURN b.name AS name",
                    {"rows": rows, "name": name, "fingerprint": fingerprint},
                ):
                    raise InputError(
                        f"{graph.server}: another import took the database over, or {csvs / name.split(':')[1]} links "
                        "patents that are not there: wait until the other has ended, or restructure with --overwrite"
                    )
                return len(rows)

            try:
                in_parallel(write, _batches(csvs, file, fingerprint), graph.sessions, progress.update, graph.stop)
            except KeyboardInterrupt:
                raise Interrupted("the batches that were written are kept: start again to go on") from None
    graph.write("MATCH (i:PatentCL {fingerprint: $fingerprint}) SET i.complete = true", {"fingerprint": fingerprint})
    graph.command(_DELETE.format(label="PatentCLBatch"))


def _make_room(graph: "Neo4jGraph", fingerprint: str, overwrite: bool) -> None:
    found = graph.run("MATCH (i:PatentCL) RETURN i.fingerprint AS fingerprint", {})["fingerprint"].to_pylist()
    there = {
        label: graph.run(f"MATCH (n:{label}) RETURN count(n) AS n", {})["n"][0].as_py() for label in _OURS
    }  # one's own nodes of these labels, too
    patents = there[PATENT]
    if any(there.values()) and (overwrite or found != [fingerprint]):
        if not overwrite:
            nodes = ", ".join(f"{count:,} {label}" for label, count in there.items() if count)
            raise InputError(
                f"{graph.server} holds nodes of other tables ({nodes}): "
                "add --overwrite to delete them, or name another --database (Enterprise and Aura have several)"
            )
        print(f"import: deleting {patents:,} patents of the graph that is there")
        for label in _OURS:  # the fingerprint first: half a graph must not pass for a whole one
            graph.command(_DELETE.format(label=label))


def _batches(csvs: Path, file: str, fingerprint: str) -> Iterator[tuple[str, list[Any]]]:
    """The rows of a CSV, some at a time, with a name that tells the same batch in another run."""
    size, names = _WRITE[file][0], [plain_name(header) for header in CSVS[file]]
    links = names[:2] == ["start", "end"]
    with readable_errors(f"{csvs / file} cannot be read", "Restructure with --overwrite."), connect() as db:
        rows, number = db.execute(rows_of(csvs, file)), 0
        while batch := rows.fetchmany(size):
            yield f"{fingerprint}:{file}:{size}:{number}", batch if links else [_properties(names, r) for r in batch]
            number += 1


def _properties(names: list[str], row: tuple[Any, ...]) -> dict[str, Any]:
    """The properties of a node; an empty list is left away, as the offline import does."""
    return {name: None if value == [] else value for name, value in zip(names, row, strict=True)}
