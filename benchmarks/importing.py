"""Import into Neo4j, measured: offline, online in several sessions, online in one session, in one run.

    python benchmarks/importing.py                           # 300,000 sample patents with 3 million citations, 15 min
    python benchmarks/importing.py --patents 10000           # a quick look

Wants NEO4J_HOME. Each import ends with the indexes made; the offline one includes starting the server. The one
session is the usual way of writing with a driver. Memory is the server's peak.
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
    """Import the same CSVs three times, each into a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patents", type=int, default=300_000, help="size of the sample")
    parser.add_argument("--citations", type=float, default=20, help="citations drawn for a patent; half of them stay")
    parser.add_argument("--sessions", type=int, default=2, help="sessions of the online import")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="patentcl-benchmark-") as folder:
        data = Path(folder)
        write_sample(data / "tables", args.patents, citations=args.citations)
        restructure(data / "tables", data / "graph")
        counts = read_json(data / "graph" / "graph.json")["counts"]
        ways = {
            "offline": Neo4jOptions("offline"),
            f"online, {args.sessions} sessions": Neo4jOptions("online", sessions=args.sessions),
            "online, 1 session": Neo4jOptions("online", sessions=1),
        }
        measured = {way: measure(data, options, way) for way, options in ways.items()}
    links = counts["citations"] + counts["classifications"]
    print(f"\n{counts['patents']:,} patents, {counts['citations']:,} citations, {counts['classifications']:,} "
          f"classifications; {os.cpu_count()} cores, {platform.machine()}")  # fmt: skip
    slowest = measured["online, 1 session"][0]
    for way, (seconds, memory) in measured.items():
        rate = (counts["patents"] + links) / seconds
        print(f"{way:22} {seconds:>6.0f} s {rate:>9,.0f} rows/s {slowest / seconds:>5.1f}x {memory:>5.1f} GB")


def measure(data: Path, options: Neo4jOptions, way: str) -> tuple[float, float]:
    """Import into a fresh server; return the seconds and the server's peak memory in GB."""
    with local_server(data / f"server {way}", heap="2g", pagecache="1g") as server:
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
