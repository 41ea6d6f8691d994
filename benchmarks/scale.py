"""Time, memory and disk of each step from tables to triplets, at sizes up to that of the complete tables.

    python benchmarks/scale.py                                       # 300,000 and 1,000,000 patents
    python benchmarks/scale.py --patents 9000000 --memory 8GB --delete

The tables are those of scale_tables.py, written to --tables-dir where they are missing. Each step runs in a process of
its own, through the functions that patent_handler.py calls; the step `all` is that script with --triplets FULL. Memory
is the highest sum over the process and all that it starts, sampled every 0.2 s (Linux only). A phase of a step, such as
mining after its queries, is a row of its own. Results are kept in <work>/scale.json after each step, so the same
command continues where it was stopped; a step that fails has a row that says so. After a change of the library, use
another --work.
"""

import argparse
import hashlib
import json
import os
import platform
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from patentcl.common.cli import Interrupted, option, parse_options, run_script
from patentcl.common.files import DATA, REPOSITORY, read_json, remove, write_json
from patentcl.common.resources import Resources, machine_memory
from patentcl.graph.base import Graph, open_graph
from patentcl.graph.options import Neo4jOptions
from patentcl.tables.restructure import restructure
from patentcl.triplets import mine
from patentcl.triplets.options import Mining
from scale_tables import write_scale_tables

sys.path.append(str(REPOSITORY / "tests"))
MARK = "PATENTCL_SCALE"  # the variable of the environment by which a step's processes are found, also a server's
COLUMNS = ("patents", "step", "seconds", "CPU seconds", "peak GB", "result GB", "times pandas", "growth", "sha256")


class Run(NamedTuple):
    """One step at one size. `begin` tells that a phase begins, which has a row of its own."""

    options: "Options"
    resources: Resources
    tables: Path
    data: Path
    begin: Callable[[str], None]


def restructuring(run: Run) -> Path:
    """Tables → import CSVs."""
    restructure(run.tables, run.data / "graph", overwrite=True, resources=run.resources)
    return run.data / "graph"


def in_pandas(run: Run) -> Path:
    """Tables → import CSVs with pandas."""
    script, out = REPOSITORY / "benchmarks" / "scale_pandas.py", run.data / "pandas"
    subprocess.run([sys.executable, str(script), str(run.tables), str(out)], check=True)  # noqa: S603
    return out


def importing(run: Run) -> Path:
    """Import CSVs → the embedded graph."""
    with closing(open_graph("embedded", run.data, run.resources)) as graph:
        graph.import_csvs(run.data / "graph", overwrite=True)
    return run.data / "ladybug"


def mining(run: Run) -> Path:
    """The embedded graph → triplets."""
    with closing(open_graph("embedded", run.data, run.resources)) as graph:
        return _mine(graph, run.data, run.options.run, run)


def in_neo4j(run: Run) -> Path:
    """Import CSVs → a Neo4j server, offline → FULL triplets."""
    from local_server import local_server

    data = run.data / "neo4j"
    remove(data)
    (data / "triplets").mkdir(parents=True)
    (data / "graph").symlink_to((run.data / "graph").resolve())
    with ExitStack() as opened:
        opened.enter_context(local_server(data / "server", heap="2g", pagecache="2g"))
        graph = opened.enter_context(closing(open_graph("neo4j", data, run.resources, Neo4jOptions("offline"))))
        graph.import_csvs(data / "graph")
        run.begin("mining")
        return _mine(graph, data, "FULL", run)


def everything(run: Run) -> Path:
    """Tables → FULL triplets with the README's command, in one process."""
    data = run.data / "all"
    remove(data)
    flags = {"tables": run.tables, "data": data, "triplets": "FULL", **asdict(run.resources)}
    sys.argv[1:] = [word for name, value in flags.items() if value for word in (f"--{name}", str(value))]
    runpy.run_path(str(REPOSITORY / "training_scripts" / "patent_handler.py"), run_name="__main__")
    return data / "triplets" / "FULL"


def _mine(graph: Graph, data: Path, size: str, run: Run) -> Path:
    remove(data / "triplets" / f".{size}.batches")  # answers of a mining that was interrupted
    _mark(mine, "write_triplets", run, "after the queries")
    mine.mine(graph, data, size, Mining(size), overwrite=True, resources=run.resources)
    return data / "triplets" / size


def start_of_training(run: Run) -> Path:
    """FULL triplets → the first training step, without evaluations, which embed as many texts at any size."""
    from patentcl.training import train as training
    from patentcl.training.options import RECIPES, Hyperparameters, RunOptions
    from patentcl.triplets.dataset import load_dataset

    def stop(step: int, model: object) -> None:
        raise KeyboardInterrupt

    vars(training).update(forecast=lambda *args: None)  # it takes more steps
    _mark(training, "tokenise", run, "tokens", "first step")
    remove(run.data / "embeddings")
    settings = Hyperparameters(run.options.model, evaluations=0, max_length=128, **{**RECIPES["best"], "batch_size": 2})
    dataset = load_dataset(run.data / "triplets" / "FULL")
    try:
        training.train(dataset, run.data / "model", run.data / "embeddings", settings, RunOptions(overwrite=True), stop)
    except (KeyboardInterrupt, Interrupted):
        return run.data / "embeddings"
    raise RuntimeError("the training ended before its first step")


def _mark(module: ModuleType, name: str, run: Run, before: str, after: str = "") -> None:
    """Let a phase begin when a function of `module` is called, and perhaps another when it returns."""
    function = getattr(module, name)

    def marked(*given: Any, **named: Any) -> Any:
        run.begin(before)
        result = function(*given, **named)
        if after:
            run.begin(after)
        return result

    setattr(module, name, marked)


RUN: dict[str, Callable[[Run], Path]] = {
    "restructure": restructuring,
    "pandas": in_pandas,
    "import": importing,
    **dict.fromkeys(("10K", "100K", "FULL"), mining),
    "trainer": start_of_training,
    "neo4j": in_neo4j,
    "all": everything,
}


@dataclass(frozen=True)
class Options:
    """What to measure."""

    patents: list[int] | None = option(None, "sizes (default: 300000 1000000)")
    steps: list[str] | None = option(None, "steps (default: all but trainer, neo4j, all)", choices=tuple(RUN))
    tables_dir: Path = option(DATA / "scale-tables", "folder with the tables of each size", metavar="DIR")
    work: Path = option(DATA / "scale", "folder for results and scale.json", metavar="DIR")
    pandas_up_to: int = option(1_000_000, "largest size that pandas is given")
    model: str = option("minilm", "base model of the step trainer", metavar="NAME|DIR")
    delete: bool = option(False, "delete the tables and results of a size after its last step")
    run: str = option("", argparse.SUPPRESS)  # the step that this process is for


def main() -> None:
    """Measure the steps that have no result yet, and print the table."""
    options, resources = parse_options(__doc__, Options, Resources)
    if options.run:
        run_step(options, resources)
        return
    options.work.mkdir(parents=True, exist_ok=True)
    file = options.work / "scale.json"
    rows: list[dict[str, Any]] = read_json(file)["rows"] if file.exists() else []
    for patents in options.patents or (300_000, 1_000_000):
        for step in options.steps or [*RUN][:6]:
            if step == "pandas" and patents > options.pandas_up_to:
                continue
            known = [row for row in rows if (row["patents"], row["of"]) == (patents, step)]
            if not known or known[0]["error"]:
                new = measure(options, patents, step)
                rows = [row for row in rows if row not in known] + new
                write_json(file, {"machine": machine(), **asdict(resources), "rows": rows})
                print(*to_markdown(new, rows).splitlines()[2:], sep="\n", flush=True)
        if options.delete:
            remove(options.work / str(patents))
            remove(options.tables_dir / str(patents))
    print(machine(), to_markdown(rows, rows), sep="\n\n")


def run_step(options: Options, resources: Resources) -> None:
    """Run one step, noting when its phases began; at the end, write what it made."""
    assert options.patents
    size, phases = str(options.patents[0]), list[tuple[str, float]]()
    data = options.work / size
    run = Run(options, resources, options.tables_dir / size, data, lambda name: phases.append((name, time.time())))
    result = RUN[options.run](run)
    ended, triplets = time.time(), result / "triplets.parquet"
    digest = hashlib.file_digest(triplets.open("rb"), "sha256").hexdigest() if triplets.exists() else ""
    disk = sum(path.lstat().st_size for path in result.rglob("*"))
    write_json(data / "step.json", {"phases": phases, "ended": ended, "disk": disk, "sha256": digest})


def measure(options: Options, patents: int, step: str) -> list[dict[str, Any]]:
    """Run one step in a new process; return a row for each of its phases, or one that says how it failed."""
    data = options.work / str(patents)
    data.mkdir(parents=True, exist_ok=True)
    tables = options.tables_dir / str(patents)
    if not (tables / "sample.json").exists():
        write_scale_tables(tables, patents)
    own = ["--run", step, "--patents", str(patents)]  # the last --patents counts
    command = [sys.executable, __file__, *sys.argv[1:], *own]
    mark = f"{os.getpid()}-{time.time_ns()}"
    print(f"{patents:,} {step} …", flush=True)
    started, before = time.time(), os.times()
    with (data / f"{step}.log").open("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, MARK: mark})  # noqa: S603
        samples = _sample(process, mark)
        log.seek(0)
        lines = [line for line in log.read().replace("\r", "\n").splitlines() if line.strip()]
    cpu = sum(os.times()[2:4]) - sum(before[2:4])
    row = {"patents": patents, "of": step, "cpu": cpu, "disk": 0, "sha256": "", "error": ""}
    phases, ended = [(step, started)], time.time()
    if process.returncode == 0:
        done = json.loads((data / "step.json").read_text())
        row |= {"disk": done["disk"], "sha256": done["sha256"]}
        phases += [(f"{step}: {name}", begin) for name, begin in done["phases"]]
        ended = done["ended"]
        if step == "all":
            print(*lines[-12:], sep="\n")
    else:
        row["error"] = lines[-1] if lines and process.returncode > 0 else f"killed by signal {-process.returncode}"
    ends = [ended, *(begin for _, begin in phases[2:]), ended]  # the first row is that of the whole step
    rows = []
    for (name, begin), end in zip(phases, ends, strict=False):
        nearest = min(abs(when - end) for when, _ in samples)  # a short phase may fall between two samples
        memory = max(bytes_ for when, bytes_ in samples if begin <= when <= end or abs(when - end) == nearest)
        rows.append({**row, "step": name, "seconds": end - begin, "memory": memory})
        row |= {"cpu": 0, "disk": 0, "sha256": "", "error": ""}
    return rows


def _sample(process: "subprocess.Popen[bytes]", mark: str) -> list[tuple[float, int]]:
    """Until the process ends: the time, and the resident memory of all processes whose environment holds the mark."""
    samples: list[tuple[float, int]] = []
    ours = {Path(f"/proc/{process.pid}")}
    try:
        while process.poll() is None:
            total = 0
            for entry in Path("/proc").glob("[0-9]*"):
                try:  # a process has its parent's environment until it starts its own program, so it is asked again
                    if entry not in ours and f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                        ours.add(entry)
                    if entry in ours:
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
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    seconds = {(row["step"], row["patents"]): row["seconds"] for row in rows if not row["error"]}
    for row in shown:
        step, patents, took = row["step"], row["patents"], row["seconds"]
        smaller = max((size for name, size in seconds if name == step and size < patents), default=0)
        growth = took / patents / seconds[step, smaller] * smaller if smaller and not row["error"] else 0
        ratio = seconds.get(("pandas", patents), 0) / took if step == "restructure" and not row["error"] else 0
        cells = [
            f"{patents:,}",
            step,
            f"{took:.0f}",
            f"{row['cpu']:.0f}" if row["cpu"] else "",
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
