"""Benchmark of the Neo4j import: offline, online with several sessions, online with one session.

    python benchmarks/importing.py                           # 300,000 sample patents with 3 million citations, 15 min
    python benchmarks/importing.py --patents 10000           # a quick look

Requires NEO4J_HOME. Times include creating the indexes and, for the offline import, starting the server. One session
is the baseline: what a plain loop over a driver session does. Memory is the server's peak.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from patentcl.common.cli import run_script
from patentcl.common.files import read_json
from patentcl.graph.base import open_graph
from patentcl.graph.options import Neo4jOptions
from patentcl.sample.write import write_sample
from patentcl.tables.restructure import restructure

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from local_server import local_server, peak_memory


def main() -> None:
    """Import the same CSVs with each method, each into a new server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patents", type=int, default=300_000, help="size of the sample")
    parser.add_argument("--citations", type=float, default=20, help="citations drawn per patent; about half are kept")
    parser.add_argument("--sessions", type=int, default=2, help="sessions of the online import")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="patentcl-benchmark-") as folder:
        data = Path(folder)
        write_sample(data / "tables", args.patents, citations=args.citations)
        restructure(data / "tables", data / "graph")
        counts = read_json(data / "graph" / "graph.json")["counts"]
        methods = {
            "offline": Neo4jOptions("offline"),
            f"online, {args.sessions} sessions": Neo4jOptions("online", sessions=args.sessions),
            "online, 1 session": Neo4jOptions("online", sessions=1),
        }
        results = {name: measure(data, options, name) for name, options in methods.items()}
    links = counts["citations"] + counts["classifications"]
    sizes = ", ".join(f"{counts[name]:,} {name}" for name in ("patents", "citations", "classifications"))
    print(f"\n{sizes}; {os.cpu_count()} cores, {platform.machine()}")
    baseline = results["online, 1 session"][0]
    for name, (seconds, memory) in results.items():
        rate = (counts["patents"] + links) / seconds
        print(f"{name:22} {seconds:>6.0f} s {rate:>9,.0f} rows/s {baseline / seconds:>5.1f}x {memory:>5.1f} GB")


def measure(data: Path, options: Neo4jOptions, name: str) -> tuple[float, float]:
    """Import into a new server; return the seconds and the server's peak memory in GB."""
    with local_server(data / f"server {name}", heap="2g", pagecache="1g") as server:
        if options.import_ == "online":
            server.start()
        started = time.time()
        graph = open_graph("neo4j", data, options=options)
        graph.import_csvs(data / "graph")
        seconds = time.time() - started
        graph.close()
        return seconds, peak_memory(server.pid)


if __name__ == "__main__":
    run_script(main)
