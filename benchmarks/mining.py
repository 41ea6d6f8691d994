"""Mining, measured: our query on Ladybug and on Neo4j, and the usual CALL { … LIMIT 1 } way on Neo4j, in one run.

    python benchmarks/mining.py                              # 30,000, 100,000 and 300,000 sample patents, 15 min
    python benchmarks/mining.py --patents 3000               # a quick look

All anchors are mined, with a positive list and one negative of each kind. The usual way pages through (anchor,
cited) pairs with SKIP and LIMIT and takes the first patent of the class that the anchor does not cite; it is stopped
after --usual-seconds. Wants NEO4J_HOME; without it only Ladybug is measured. Memory is the peak of the process that
mines, and for Neo4j that of the server besides.
"""

import argparse
import multiprocessing
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from patentcl.common.cli import run_script
from patentcl.common.duck import connect, literal
from patentcl.common.files import read_json
from patentcl.graph.base import open_graph
from patentcl.graph.options import Neo4jOptions
from patentcl.sample.write import write_sample
from patentcl.tables.cpc import sections
from patentcl.tables.restructure import restructure
from patentcl.triplets.mine import Batches, run_batches
from patentcl.triplets.options import KINDS, Mining

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from local_server import available, local_server, peak_memory

USUAL = """
MATCH (c:CPCSubclass)-[:CLASSIFIES]->(a:Patent)-[:CITES]->(p:Patent)<-[:CLASSIFIES]-(c)
WITH a, p, c SKIP $skip LIMIT $limit
CALL (a, c) {
    MATCH (c)-[:CLASSIFIES]->(other:Patent) WHERE other <> a AND NOT (a)-[:CITES]->(other)
    RETURN other LIMIT 1
}
RETURN a.rank AS anchor, p.rank AS positive, other.rank AS negative
"""


class Row(NamedTuple):
    """One line of the table. `wrong` negatives are cited by the anchor, or share a subclass with it."""

    patents: int
    way: str
    prepare: float
    seconds: float
    anchors: int
    negatives: int
    distinct: int
    wrong: int
    memory: str


def main() -> None:
    """Measure each size on each engine, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--patents", type=int, nargs="+", default=[30_000, 100_000, 300_000], help="sizes of the sample"
    )
    parser.add_argument("--usual-seconds", type=float, default=120, help="stop the usual way after this time")
    parser.add_argument("--sessions", type=int, default=os.cpu_count(), help="queries at once on Neo4j")
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="patentcl-benchmark-") as folder:
        for patents in args.patents:
            data = Path(folder) / str(patents)
            write_sample(data / "tables", patents)
            restructure(data / "tables", data / "graph")
            rows.append(in_a_process(on_ladybug, patents, data))
            if available():
                with local_server(data / "server", heap="3g", pagecache="1g") as server:
                    prepared = prepare_neo4j(data)
                    rows.append(in_a_process(on_neo4j, patents, data, prepared, args.sessions, server.pid))
                    rows.append(in_a_process(the_usual_way, patents, data, prepared, args.usual_seconds, server.pid))
    report(rows)


def report(rows: list[Row]) -> None:
    """Print the table: a line for each size and way, and our speed against the usual way's."""
    print(f"\n{'patents':>8}  {'way':22} {'import':>7} {'mining':>7} {'anchors':>8} {'anchors/s':>9} {'ratio':>6}"
          f" {'negatives':>9} {'distinct':>8} {'wrong':>7}  memory")  # fmt: skip
    for row in rows:
        usual = next((r for r in rows if r.patents == row.patents and r.way.startswith("usual")), None)
        ratio = f"{(row.anchors / row.seconds) / (usual.anchors / usual.seconds):.1f}x" if usual else "–"
        print(f"{row.patents:>8,}  {row.way:22} {row.prepare:>6.0f}s {row.seconds:>6.0f}s {row.anchors:>8,}"
              f" {row.anchors / row.seconds:>9,.0f} {ratio:>6} {row.negatives:>9,} {row.distinct:>8,}"
              f" {row.wrong / max(row.negatives, 1):>7.1%}  {row.memory}")  # fmt: skip


def in_a_process(measure: Callable[..., Row], *arguments: Any) -> Row:
    """Measure in a fresh process, so that its peak of memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def on_ladybug(patents: int, data: Path) -> Row:
    """Our query on the embedded graph, at 4 GB."""
    graph, started = open_graph("embedded", data, "4GB"), time.time()
    graph.import_csvs(data / "graph")
    prepared = time.time() - started
    row = ours(patents, data, graph, "ours on Ladybug", prepared)
    graph.close()
    return row._replace(memory=f"{own_peak():.1f} GB")


def prepare_neo4j(data: Path) -> float:
    """Import offline and start the server; return the seconds."""
    started = time.time()
    graph = open_graph("neo4j", data, options=Neo4jOptions("offline"))
    graph.import_csvs(data / "graph")
    graph.close()
    return time.time() - started


def on_neo4j(patents: int, data: Path, prepared: float, sessions: int, server: int) -> Row:
    """Our query on the server."""
    graph = open_graph("neo4j", data, options=Neo4jOptions(sessions=sessions))
    row = ours(patents, data, graph, f"ours on Neo4j, {sessions} sessions", prepared)
    graph.close()
    return row._replace(memory=f"{own_peak():.1f} + {peak_memory(server):.1f} GB")


def ours(patents: int, data: Path, graph: Any, way: str, prepared: float) -> Row:
    """Mine all anchors, batch by batch, as `mine` does."""
    source = read_json(data / "graph" / "graph.json")
    with tempfile.TemporaryDirectory() as folder:
        started = time.time()
        found = run_batches(
            graph,
            source,
            Mining("FULL"),
            Batches(Path(folder) / "batches", {"graph": source["fingerprint"]}),
            sections(data / "graph"),
        )
        seconds = time.time() - started
    negatives = pd.concat([found[kind][["anchor", "negative"]] for kind in KINDS])
    return Row(patents, way, prepared, seconds, len(found["cited"]), *judge(data, negatives), "")


def the_usual_way(patents: int, data: Path, prepared: float, most: float, server: int) -> Row:
    """The first `other` of the class, page by page, until all pairs are seen or the time is up."""
    graph, limit, started = open_graph("neo4j", data), 10_000, time.time()
    frames: list[pd.DataFrame] = []
    while time.time() - started < most:
        frames.append(graph.run(USUAL, {"skip": limit * len(frames), "limit": limit}).to_pandas())
        if frames[-1].empty:
            break
    seconds, found = time.time() - started, pd.concat(frames)
    graph.close()
    way = "usual on Neo4j" + ("" if frames[-1].empty else ", stopped")
    memory = f"{own_peak():.1f} + {peak_memory(server):.1f} GB"
    return Row(patents, way, prepared, seconds, found["anchor"].nunique(), *judge(data, found), memory)


def judge(data: Path, negatives: pd.DataFrame) -> tuple[int, int, int]:
    """Count negatives (pairs with an anchor), distinct ones, and those that are cited or share a subclass."""
    pairs = negatives[["anchor", "negative"]].astype("int64")
    with connect() as db:
        db.register("pairs", pairs)
        citations, classes = (literal(data / "graph" / f"{name}.csv") for name in ("citations", "classifications"))
        row = db.execute(f"""
            WITH cites AS (SELECT ":START_ID(Patent)" AS a, ":END_ID(Patent)" AS b FROM {citations}),
                 classes AS (SELECT ":END_ID(Patent)" AS p, list(":START_ID(CPCSubclass)") AS c
                             FROM {classes} GROUP BY p)
            SELECT count(*) FILTER (a IS NOT NULL OR list_has_any(x.c, y.c))
            FROM pairs JOIN classes x ON x.p = anchor JOIN classes y ON y.p = negative
            LEFT JOIN cites ON a = anchor AND b = negative""").fetchone()  # noqa: S608
    assert row
    return len(pairs), int(pairs["negative"].nunique()), int(row[0])


def own_peak() -> float:
    """Peak memory of this process, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    run_script(main)
