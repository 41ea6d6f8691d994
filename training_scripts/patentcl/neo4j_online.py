"""Import CSVs → Neo4j over Bolt, for Aura, a cluster or any server whose files are out of reach.

Constraints first, then `UNWIND $rows` with `MERGE`, batch by batch in several sessions. Each batch leaves a marker in
the transaction that writes it, so an interrupted import goes on where it stopped, from any machine.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb
from tqdm import tqdm

from .files import NEVER, InputError, read_json
from .parallel import in_parallel
from .restructure import RECORD

if TYPE_CHECKING:
    from .graph_neo4j import Neo4jGraph


class _File(NamedTuple):
    """One CSV: the SELECT that types its columns, how many rows a transaction writes, the Cypher for one `row`."""

    name: str
    select: str
    batch: int
    write: str


_FILES = [
    _File("cpc_subclasses.csv", """
        SELECT {symbol: "symbol:ID(CPCSubclass)", title: nullif(title, ''), class: class, section: section,
            first: "first:long"::BIGINT, count: "count:long"::BIGINT,
            class_first: "class_first:long"::BIGINT, class_count: "class_count:long"::BIGINT,
            section_first: "section_first:long"::BIGINT, section_count: "section_count:long"::BIGINT} AS row""",
        1_000, "MERGE (c:CPCSubclass {symbol: row.symbol}) SET c += row"),
    _File("patents.csv", """
        SELECT {rank: "rank:ID(Patent){id-type:long}"::BIGINT, patent_id: patent_id, title: title, abstract: abstract,
            date: date, type: type, subclass: subclass,
            subclasses: nullif(string_split("subclasses:string[]", ';'), ['']),
            family: "family:long"::BIGINT, has_abstract: "has_abstract:boolean"::BOOLEAN} AS row""",
        2_000, "MERGE (p:Patent {rank: row.rank}) SET p += row"),
    _File("citations.csv", """
        SELECT ":START_ID(Patent)"::BIGINT AS citing, ":END_ID(Patent)"::BIGINT AS cited, category""",
        10_000, """MATCH (a:Patent {rank: row[0]}) MATCH (b:Patent {rank: row[1]})
        MERGE (a)-[c:CITES]->(b) SET c.category = row[2]"""),
    _File("classifications.csv", """SELECT ":START_ID(CPCSubclass)" AS symbol, ":END_ID(Patent)"::BIGINT AS rank""",
        10_000, """MATCH (c:CPCSubclass {symbol: row[0]}) MATCH (p:Patent {rank: row[1]})
        MERGE (c)-[:CLASSIFIES]->(p)"""),
]  # fmt: skip

_DELETE = "MATCH (n:{label}) CALL (n) {{ DETACH DELETE n }} IN TRANSACTIONS OF 5000 ROWS"
_OURS = ("PatentCL", "PatentCLBatch", "CPCSubclass", "Patent")


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
    total = sum(counts[name] for name in ("CPC subclasses", "patents", "citations", "classifications"))
    with tqdm(total=total, desc="import", unit="row", unit_scale=True, smoothing=0.05) as progress:
        for file in _FILES:
            progress.set_postfix_str(file.name)

            def write(batch: tuple[str, list[Any]], file: _File = file) -> int:
                name, rows = batch
                if name not in done:
                    graph.write(
                        f"UNWIND $rows AS row {file.write} WITH count(*) AS n MERGE (:PatentCLBatch {{name: $name}})",
                        {"rows": rows, "name": name},
                    )
                return len(rows)

            in_parallel(write, _batches(csvs, file), graph.sessions, progress.update, graph.stop)
    graph.write("MATCH (i:PatentCL {fingerprint: $fingerprint}) SET i.complete = true", {"fingerprint": fingerprint})
    graph.command(_DELETE.format(label="PatentCLBatch"))


def _make_room(graph: "Neo4jGraph", fingerprint: str, overwrite: bool) -> None:
    found = graph.run("MATCH (i:PatentCL) RETURN i.fingerprint AS fingerprint", {})["fingerprint"].to_pylist()
    patents = graph.run("MATCH (p:Patent) RETURN count(p) AS patents", {})["patents"][0].as_py()
    if (patents or found) and (overwrite or found != [fingerprint]):
        if not overwrite:
            raise InputError(
                f"{graph.server} holds {patents:,} patents of other tables: "
                "name another --database, or add --overwrite to delete them"
            )
        print(f"import: deleting {patents:,} patents of the graph that is there")
        for label in _OURS:  # the fingerprint first: half a graph must not pass for a whole one
            graph.command(_DELETE.format(label=label))


def _batches(csvs: Path, file: _File) -> Iterator[tuple[str, list[Any]]]:
    """The rows of a CSV, `file.batch` at a time, with a name that tells the same batch in another run."""
    with duckdb.connect() as db:
        db.execute("SET enable_progress_bar = false")
        try:
            rows = db.execute(
                f"""{file.select} FROM read_csv($path, header = true, delim = ',', quote = '"', escape = '"',
                    all_varchar = true, max_line_size = 33554432, nullstr = $never)""",
                {"path": str(csvs / file.name), "never": NEVER},
            )
            number = 0
            while batch := rows.fetchmany(file.batch):
                yield f"{file.name}:{file.batch}:{number}", [r[0] if len(r) == 1 else list(r) for r in batch]
                number += 1
        except duckdb.Error as problem:
            reason = str(problem).splitlines()[0]
            raise InputError(f"{csvs / file.name} cannot be read ({reason}): restructure with --overwrite") from None
