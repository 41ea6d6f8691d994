"""Time, memory and disk of each step from tables to triplets, at sizes up to that of the complete tables.

    python benchmarks/scale.py                                       # 300,000 and 1,000,000 patents
    python benchmarks/scale.py --patents 9000000 --memory 8GB --delete

The tables are those of `python -m patentcl.sample --real-proportions`, written to --tables-dir where they are missing.
Each step runs in a process of its own, through the functions that patent_handler.py calls. Memory is the highest sum
over the process and all that it starts, sampled every 0.2 s (Linux only); the phase after the queries is a row of its
own. Results are kept in <work>/scale.json after each step, so the same command goes on where it was stopped; a step
that fails has a row that says so. After a change of the library, use another --work.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from types import ModuleType
from typing import Any

from patentcl.common.cli import Interrupted, run_script
from patentcl.common.files import remove, write_json
from patentcl.common.resources import Resources, machine_memory
from patentcl.graph.base import Graph, open_graph
from patentcl.graph.options import Neo4jOptions
from patentcl.sample.write import write_sample
from patentcl.tables.restructure import restructure
from patentcl.triplets import mine
from patentcl.triplets.options import Mining

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
MARK = "PATENTCL_SCALE"  # the variable of the environment by which a step's processes are found, also a server's
Phase = Callable[[str], None]  # tells that a phase begins which has a row of its own
Step = Callable[[argparse.Namespace, Path, Phase], Path]  # options, folder of the size → file or folder of the result


def restructuring(args: argparse.Namespace, data: Path, begin: Phase) -> Path:
    """Tables → import CSVs."""
    restructure(args.tables_dir / str(args.patents[0]), data / "graph", overwrite=True, resources=args.resources)
    return data / "graph"


def in_pandas(args: argparse.Namespace, data: Path, begin: Phase) -> Path:
    """Tables → import CSVs with pandas."""
    command = [sys.executable, str(Path(__file__).with_name("scale_pandas.py"))]
    command += [str(args.tables_dir / str(args.patents[0])), str(data / "pandas")]
    subprocess.run(command, check=True)  # noqa: S603
    return data / "pandas"


def importing(args: argparse.Namespace, data: Path, begin: Phase) -> Path:
    """Import CSVs → the embedded graph."""
    with closing(open_graph("embedded", data, args.resources)) as graph:
        graph.import_csvs(data / "graph", overwrite=True)
    return data / "ladybug"


def mining(size: str) -> Step:
    """Return the step from the embedded graph → `size` triplets."""

    def run(args: argparse.Namespace, data: Path, begin: Phase) -> Path:
        with closing(open_graph("embedded", data, args.resources)) as graph:
            return _mine(graph, data, size, args, begin)

    return run


def in_neo4j(args: argparse.Namespace, data: Path, begin: Phase) -> Path:
    """Import CSVs → a Neo4j server, offline → FULL triplets."""
    from local_server import local_server

    remove(data / "neo4j")
    (data / "neo4j" / "triplets").mkdir(parents=True)
    (data / "neo4j" / "graph").symlink_to((data / "graph").resolve())
    with ExitStack() as opened:
        opened.enter_context(local_server(data / "neo4j" / "server", heap="2g", pagecache="2g"))
        graph = opened.enter_context(closing(open_graph("neo4j", data, args.resources, Neo4jOptions("offline"))))
        graph.import_csvs(data / "graph")
        begin("mining")
        return _mine(graph, data / "neo4j", "FULL", args, begin)


def _mine(graph: Graph, data: Path, size: str, args: argparse.Namespace, begin: Phase) -> Path:
    remove(data / "triplets" / f".{size}.batches")  # answers of a mining that was interrupted
    _mark(mine, "write_triplets", begin, "after the queries")
    mine.mine(graph, data, size, Mining(size), overwrite=True, resources=args.resources)
    return data / "triplets" / size


def start_of_training(args: argparse.Namespace, data: Path, begin: Phase) -> Path:
    """FULL triplets → the first training step, without embedding the corpora of the evaluations."""
    from patentcl.training import train as training
    from patentcl.training.options import RECIPES, Hyperparameters, RunOptions
    from patentcl.triplets.dataset import load_dataset

    def stop(step: int, model: object) -> None:
        raise KeyboardInterrupt

    # An evaluation embeds as many texts at any size, which takes half an hour without a GPU.
    vars(training).update(embed=lambda *args: None, VAL_TEXTS=100)
    _mark(training, "tokenise", begin, "tokens", "first step")
    remove(data / "embeddings")
    settings = Hyperparameters(args.model, evaluations=0, max_length=128, **{**RECIPES["best"], "batch_size": 2})
    dataset = load_dataset(data / "triplets" / "FULL")
    try:
        training.train(dataset, data / "model", data / "embeddings", settings, RunOptions(overwrite=True), stop)
    except (KeyboardInterrupt, Interrupted):
        return data / "embeddings"
    raise RuntimeError("the training ended before its first step")


def _mark(module: ModuleType, name: str, begin: Phase, before: str, after: str = "") -> None:
    """Let a phase begin when a function of `module` is called, and perhaps another when it returns."""
    function = getattr(module, name)

    def marked(*given: Any, **named: Any) -> Any:
        begin(before)
        result = function(*given, **named)
        if after:
            begin(after)
        return result

    setattr(module, name, marked)


STEPS: dict[str, Step] = {
    "restructure": restructuring,
    "pandas": in_pandas,
    "import": importing,
    **{size: mining(size) for size in ("10K", "100K", "FULL")},
    "trainer": start_of_training,
    "neo4j": in_neo4j,
}
USUAL = ("restructure", "pandas", "import", "10K", "100K", "FULL")


def main() -> None:
    """Measure the steps that have no result yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patents", type=int, nargs="+", default=[300_000, 1_000_000], help="sizes")
    parser.add_argument("--steps", nargs="+", default=USUAL, choices=STEPS, help="neo4j needs NEO4J_HOME")
    parser.add_argument("--tables-dir", type=Path, default=Path("data/scale-tables"), help="with a folder a size")
    parser.add_argument(
        "--work", type=Path, default=Path("data/scale"), help="results, a folder a size, and scale.json"
    )
    parser.add_argument("--memory", default="", help="as of patent_handler.py")
    parser.add_argument("--threads", type=int, default=0, help="as of patent_handler.py")
    parser.add_argument("--pandas-up-to", type=int, default=1_000_000, help="the largest size that pandas is given")
    parser.add_argument("--model", default="minilm", help="base model of the step trainer")
    parser.add_argument("--delete", action="store_true", help="delete tables and results of a size after its last step")
    parser.add_argument("--run", choices=STEPS, help=argparse.SUPPRESS)  # in the process of the step
    args = parser.parse_args()
    args.resources = Resources(args.memory, args.threads)
    if args.run:
        run_step(args)
        return
    args.work.mkdir(parents=True, exist_ok=True)
    file = args.work / "scale.json"
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"] if file.exists() else []
    for patents in args.patents:
        for step in args.steps:
            if step == "pandas" and patents > args.pandas_up_to:
                continue
            known = [row for row in rows if (row["patents"], row["of"]) == (patents, step)]
            if not known or known[0]["error"]:
                new = measure(args, patents, step)
                rows = [row for row in rows if row not in known] + new
                write_json(file, {"machine": machine(), "memory": args.memory, "threads": args.threads, "rows": rows})
                print(
                    *to_markdown([row for row in rows if row["of"] == step], rows).splitlines()[2:],
                    sep="\n",
                    flush=True,
                )
        if args.delete:
            remove(args.work / str(patents))
            remove(args.tables_dir / str(patents))
    print(machine(), to_markdown(rows, rows), sep="\n\n")


def run_step(args: argparse.Namespace) -> None:
    """Run one step, noting when its phases began; at the end, write what it made."""
    data = args.work / str(args.patents[0])
    phases: list[tuple[str, float]] = []
    result = STEPS[args.run](args, data, lambda name: phases.append((f"{args.run}: {name}", time.time())))
    ended, triplets = time.time(), result / "triplets.parquet"
    digest = hashlib.file_digest(triplets.open("rb"), "sha256").hexdigest() if triplets.exists() else ""
    size = sum(path.lstat().st_size for path in result.rglob("*"))
    write_json(data / "step.json", {"phases": phases, "ended": ended, "disk": size, "sha256": digest})


def measure(args: argparse.Namespace, patents: int, step: str) -> list[dict[str, Any]]:
    """Run one step in a new process; return a row for each of its phases, or one that says how it failed."""
    data = args.work / str(patents)
    data.mkdir(parents=True, exist_ok=True)
    tables = args.tables_dir / str(patents)
    if not (tables / "sample.json").exists():
        write_sample(tables, patents, real_proportions=True)
    command = [sys.executable, str(Path(__file__).resolve()), "--run", step, "--patents", str(patents)]
    for name in ("tables_dir", "work", "memory", "threads", "model"):
        command += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    mark = f"{os.getpid()}-{time.time_ns()}"
    print(f"{patents:,} {step} …", flush=True)
    started = time.time()
    with (data / f"{step}.log").open("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, MARK: mark})  # noqa: S603
        samples = _sample(process, mark)
        log.seek(0)
        lines = [line for line in log.read().replace("\r", "\n").splitlines() if line.strip()]
    row = {"patents": patents, "of": step, "disk": 0, "sha256": "", "error": ""}
    phases, ended = [(step, started)], time.time()
    if process.returncode == 0:
        done = json.loads((data / "step.json").read_text())
        row |= {"disk": done["disk"], "sha256": done["sha256"]}
        phases, ended = phases + done["phases"], done["ended"]
    else:
        row["error"] = lines[-1] if lines and process.returncode > 0 else f"killed by signal {-process.returncode}"
    ends = [ended, *(begin for _, begin in phases[2:]), ended]  # the first row is that of the whole step
    rows = []
    for (name, begin), end in zip(phases, ends, strict=False):
        memory = max((bytes_ for when, bytes_ in samples if begin <= when <= end), default=0)
        rows.append({**row, "step": name, "seconds": end - begin, "memory": memory})
        row |= {"disk": 0, "sha256": "", "error": ""}
    return rows


def _sample(process: "subprocess.Popen[bytes]", mark: str) -> list[tuple[float, int]]:
    """Until the process ends: the time, and the resident memory of all processes whose environment holds the mark."""
    samples: list[tuple[float, int]] = []
    is_ours: dict[Path, bool] = {}
    try:
        while process.poll() is None:
            total = 0
            for entry in Path("/proc").glob("[0-9]*"):
                try:
                    if entry not in is_ours:
                        is_ours[entry] = f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0")
                    if is_ours[entry]:
                        total += int((entry / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
                except OSError:  # it has ended, or is another user's
                    continue
            samples.append((time.time(), total))
            time.sleep(0.2)
    finally:
        process.kill()
    return samples


def to_markdown(shown: list[dict[str, Any]], rows: list[dict[str, Any]]) -> str:
    """The rows as a table; growth is the time per patent, against that of the next smaller size."""
    head = ("patents", "step", "seconds", "peak memory, GB", "result, GB", "pandas / this", "growth", "sha256")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in shown:
        same = {
            other["patents"]: other["seconds"] for other in rows if other["step"] == row["step"] and not other["error"]
        }
        smaller = max((size for size in same if size < row["patents"]), default=0)  # the next smaller size
        growth = row["seconds"] / row["patents"] / (same[smaller] / smaller) if smaller and not row["error"] else 0
        pandas = [r for r in rows if r["step"] == "pandas" and r["patents"] == row["patents"] and not r["error"]]
        ratio = pandas[0]["seconds"] / row["seconds"] if pandas and row["step"] == "restructure" else 0
        cells = [
            f"{row['patents']:,}",
            row["step"],
            f"{row['seconds']:.0f}",
            f"{row['memory'] / 1e9:.1f}",
            f"{row['disk'] / 1e9:.2f}" if row["disk"] else "",
            f"{ratio:.1f}" if ratio else "",
            f"{growth:.2f}" if growth else "",
            row["error"] or row["sha256"][:16],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def machine() -> str:
    """The machine, in words."""
    memory = machine_memory() / 1e9
    free = shutil.disk_usage(".").free / 1e9
    return f"{os.cpu_count()} cores, {platform.machine()}, {memory:.0f} GB of memory, {free:.0f} GB of disk free"


if __name__ == "__main__":
    run_script(main)
