"""Benchmark of mining: patentCL on Ladybug and on Neo4j, against a baseline query (CALL { … LIMIT 1 }) on Neo4j.

    python benchmarks/mining.py                              # 30,000, 100,000 and 300,000 sample patents, 15 min
    python benchmarks/mining.py --patents 3000               # a quick look

All anchors are mined, with a list of positives and one negative of each kind. The baseline query pages through the
(anchor, cited) pairs with SKIP and LIMIT and takes the first patent of the class that the anchor does not cite; it
stops after --baseline-seconds. Neo4j requires NEO4J_HOME; without it, only Ladybug is measured. Memory is the peak of
the mining process and, for Neo4j, also that of the server.
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
from patentcl.common.resources import Resources
from patentcl.graph.base import open_graph
from patentcl.graph.options import Neo4jOptions
from patentcl.sample.write import write_sample
from patentcl.tables.restructure import restructure
from patentcl.triplets.mine import Batches, query_parts, run_batches
from patentcl.triplets.options import Mining
from patentcl.triplets.patents import read_patents
from patentcl.triplets.select import Candidates

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from local_server import available, local_server, peak_memory

BASELINE = """
MATCH (c:CPCSubclass)-[:CLASSIFIES]->(a:Patent)-[:CITES]->(p:Patent)<-[:CLASSIFIES]-(c)
WITH a, p, c SKIP $skip LIMIT $limit
CALL (a, c) {
    MATCH (c)-[:CLASSIFIES]->(other:Patent) WHERE other <> a AND NOT (a)-[:CITES]->(other)
    RETURN other LIMIT 1
}
RETURN a.rank AS anchor, p.rank AS positive, other.rank AS negative
"""


class Row(NamedTuple):
    """One row of the table. `wrong` negatives are cited by the anchor, or share a subclass with it."""

    patents: int
    method: str
    prepare: float
    seconds: float
    anchors: int
    negatives: int
    distinct: int
    wrong: int
    memory: str


def main() -> None:
    """Measure each size on each backend and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--patents", type=int, nargs="+", default=[30_000, 100_000, 300_000], help="sizes of the sample"
    )
    parser.add_argument("--baseline-seconds", type=float, default=120, help="time limit of the baseline query")
    parser.add_argument("--sessions", type=int, default=os.cpu_count(), help="parallel queries on Neo4j")
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="patentcl-benchmark-") as folder:
        for patents in args.patents:
            data = Path(folder) / str(patents)
            write_sample(data / "tables", patents)
            restructure(data / "tables", data / "graph")
            rows.append(in_new_process(on_ladybug, patents, data))
            if available():
                with local_server(data / "server", heap="3g", pagecache="1g") as server:
                    prepared = prepare_neo4j(data)
                    rows.append(in_new_process(on_neo4j, patents, data, prepared, args.sessions, server.pid))
                    rows.append(in_new_process(on_baseline, patents, data, prepared, args.baseline_seconds, server.pid))
    report(rows)


def report(rows: list[Row]) -> None:
    """Print a row per size and method, with the speed relative to the baseline query."""
    print(
        f"\n{'patents':>8}  {'method':22} {'import':>7} {'mining':>7} {'anchors':>8} {'anchors/s':>9} {'ratio':>6} "
        f"{'negatives':>9} {'distinct':>8} {'wrong':>7}  memory"
    )
    for row in rows:
        base = next((r for r in rows if r.patents == row.patents and r.method.startswith("baseline")), None)
        rate = row.anchors / row.seconds
        ratio = f"{rate / (base.anchors / base.seconds):.1f}x" if base else "–"
        print(
            f"{row.patents:>8,}  {row.method:22} {row.prepare:>6.0f}s {row.seconds:>6.0f}s {row.anchors:>8,} "
            f"{rate:>9,.0f} {ratio:>6} {row.negatives:>9,} {row.distinct:>8,} "
            f"{row.wrong / max(row.negatives, 1):>7.1%}  {row.memory}"
        )


def in_new_process(measure: Callable[..., Row], *arguments: Any) -> Row:
    """Measure in a new process, so that the peak memory is that of one measurement."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def on_ladybug(patents: int, data: Path) -> Row:
    """Mine the embedded graph with a memory limit of 4 GB."""
    graph, started = open_graph("embedded", data, Resources("4GB")), time.time()
    graph.import_csvs(data / "graph")
    prepared = time.time() - started
    row = mine_all(patents, data, graph, "Ladybug", prepared)
    graph.close()
    return row._replace(memory=f"{process_peak():.1f} GB")


def prepare_neo4j(data: Path) -> float:
    """Import offline and start the server; return the seconds."""
    started = time.time()
    graph = open_graph("neo4j", data, options=Neo4jOptions("offline"))
    graph.import_csvs(data / "graph")
    graph.close()
    return time.time() - started


def on_neo4j(patents: int, data: Path, prepared: float, sessions: int, server: int) -> Row:
    """Mine the graph of the server."""
    graph = open_graph("neo4j", data, options=Neo4jOptions(sessions=sessions))
    row = mine_all(patents, data, graph, f"Neo4j, {sessions} sessions", prepared)
    graph.close()
    return row._replace(memory=f"{process_peak():.1f} + {peak_memory(server):.1f} GB")


def mine_all(patents: int, data: Path, graph: Any, method: str, prepared: float) -> Row:
    """Mine all anchors, batch by batch, as `mine` does."""
    source, mining = read_json(data / "graph" / "graph.json"), Mining("FULL")
    candidates = Candidates(read_patents(data / "graph", mining), mining, source["params"]["seed"])
    with tempfile.TemporaryDirectory() as folder:
        started = time.time()
        batches, params = Path(folder) / "batches", {"graph": source["fingerprint"]}
        asked = Batches(batches, params, graph, query_parts(mining), graph.batch(source["counts"]))
        run_batches(source, mining, asked, candidates)
        seconds = time.time() - started
    negatives = candidates.triplets()[["anchor", "negative"]].drop_duplicates()
    anchors = candidates.counts["anchors that cite inside the table"]
    return Row(patents, method, prepared, seconds, anchors, *judge(data, negatives), "")


def on_baseline(patents: int, data: Path, prepared: float, max_seconds: float, server: int) -> Row:
    """Run the baseline query page by page until all pairs are read or `max_seconds` have passed."""
    graph, limit, started = open_graph("neo4j", data), 10_000, time.time()
    frames: list[pd.DataFrame] = []
    while time.time() - started < max_seconds:
        frames.append(graph.run(BASELINE, {"skip": limit * len(frames), "limit": limit}).to_pandas())
        if frames[-1].empty:
            break
    seconds, result = time.time() - started, pd.concat(frames)
    graph.close()
    method = "baseline" + ("" if frames[-1].empty else ", stopped")
    memory = f"{process_peak():.1f} + {peak_memory(server):.1f} GB"
    return Row(patents, method, prepared, seconds, result["anchor"].nunique(), *judge(data, result), memory)


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


def process_peak() -> float:
    """Peak memory of this process, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    run_script(main)
