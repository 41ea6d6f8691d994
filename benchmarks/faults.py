"""Kill each step at random moments, give the same command again, and compare what it wrote with an undisturbed run.

    python benchmarks/faults.py                                   # 20 moments of each step, SIGKILL
    python benchmarks/faults.py --steps import training --kills 5
    python benchmarks/faults.py --signal INT                      # Ctrl-C: how long a step takes to end

The tables are a sample, the model is an untrained one of two layers. A step runs in a process group of its own, through
the functions that the scripts call, and is struck at a seeded moment of the time that an undisturbed run takes. Then it
runs again in the same folder, and the SHA-256 of its files must be those of the undisturbed run. Rows are kept in
<work>/faults.json after each step, so the same command continues where it was stopped; after a change of the library,
use another --work. Linux and macOS only.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from patentcl.common.cli import InputError, option, parse_options, run_script
from patentcl.common.files import DATA, REPOSITORY, read_json, remove, write_json
from patentcl.evaluation import __main__ as evaluation
from patentcl.evaluation import significance
from patentcl.graph.base import open_graph
from patentcl.models.embed_corpus import embed_corpus
from patentcl.models.load import find_model
from patentcl.models.tokens import tokenise
from patentcl.pipeline import tables_to_triplets
from patentcl.sample.write import write_sample
from patentcl.tables.download import download_tables
from patentcl.tables.restructure import restructure
from patentcl.training.options import Hyperparameters, RunOptions
from patentcl.training.train import train
from patentcl.triplets.dataset import load_dataset
from patentcl.triplets.mine import mine
from patentcl.triplets.options import Mining

sys.path.append(str(REPOSITORY / "tests"))
from portal import playing
from tiny import untrained

COLUMNS = ("step", "seconds", "struck", "while it ran", "equal after the rerun", "longest end, s")
NAME = "200"  # of the triplets
CONTENT = (
    "(p:Patent) RETURN p.*",
    "(c:CPCSubclass) RETURN c.*",
    "(a:Patent)-[x:CITES]->(b:Patent) RETURN a.rank, b.rank, x.examiner",
    "(c:CPCSubclass)-[:CLASSIFIES]->(p:Patent) RETURN c.symbol, p.rank",
    "(p:Patent)-[:CITES_OUTSIDE]->(o:OutsidePatent) RETURN p.rank, o.patent_id",
)


class Place(NamedTuple):
    """Where a step reads (`given`) and writes (`out`); `url` is that of a mirror."""

    given: Path
    out: Path
    url: str = ""

    @property
    def model(self) -> str:
        """The base model."""
        return str(self.given / "bert")


def prepare(place: Place, patents: int) -> None:
    """Write what the steps read: tables, ZIPs, graph, triplets, model."""
    write_sample(place.given / "tables", patents)
    write_sample(place.given / "zips", patents, zipped=True)
    tables_to_triplets(place.given / "tables", place.given, NAME, Mining(NAME))
    untrained(place.given)


def importing(place: Place) -> None:
    """Import CSVs → the embedded graph; its file holds random ids, so what counts is what is in it."""
    with closing(open_graph("embedded", place.out)) as graph:
        graph.import_csvs(place.out / "graph")
        rows = [sorted(map(str, graph.run(f"MATCH {what}", {}).to_pylist())) for what in CONTENT]
    (place.out / "content.json").write_text(json.dumps(rows))


def mining(place: Place) -> None:
    """The embedded graph → triplets, in small batches."""
    with closing(open_graph("embedded", place.out)) as graph:
        graph.batch = lambda counts: 200  # type: ignore[method-assign]
        mine(graph, place.out, NAME, Mining(NAME))


def tokenising(place: Place) -> None:
    """Texts → token ids."""
    data = load_dataset(place.out / "triplets" / NAME)
    tokenise(find_model(place.model).load(), len(data.texts), data.blocks, data.fingerprint, place.out / "tokens")


def training(place: Place) -> None:
    """Triplets → a model, with --resume."""
    data = load_dataset(place.out / "triplets" / NAME).head(train=80, held_out=20)
    settings = Hyperparameters(place.model, epochs=1, batch_size=8, max_length=32, evaluations=2)
    options = RunOptions(resume=True, checkpoint_minutes=1e-9)
    train(data, place.out / "model", place.out / "embeddings", settings, options)


def evaluating(place: Place) -> None:
    """Triplets and models → tables of metrics, with few bootstrap samples."""
    vars(significance).update(RESAMPLES=200)
    evaluation.main(["--models", place.model, "--data", str(place.out), "--triplets", NAME])


# Step → what it runs, what it reads of the results of others, which files are compared.
STEPS: dict[str, tuple[Callable[[Place], object], tuple[str, ...], str]] = {
    "restructure": (lambda place: restructure(place.given / "tables", place.out / "graph"), (), "graph/*"),
    "import": (importing, ("graph",), "content.json"),
    "mining": (mining, ("graph", "ladybug"), f"triplets/{NAME}/*"),
    "tokenising": (tokenising, ("triplets",), "tokens/*/*"),
    "training": (training, ("triplets",), "model/*[!g].[st]*"),  # weights, ids_train.txt; not records, log and plot
    "embedding": (
        lambda place: embed_corpus(find_model(place.model), place.out / "graph" / "patents.csv", place.out / "vectors"),
        ("graph",),
        "vectors/*",
    ),
    "evaluation": (evaluating, ("triplets",), f"evaluation/{NAME}/*"),
    "download": (lambda place: download_tables(place.out / "zips", ["g_patent_abstract"], place.url), (), "zips/*"),
}


@dataclass(frozen=True)
class Options:
    """What to strike, how often."""

    steps: list[str] | None = option(None, "steps (default: all)", choices=tuple(STEPS))
    kills: int = option(20, "moments for each step")
    signal: Literal["KILL", "TERM", "INT"] = option("KILL", "what strikes")
    patents: int = option(600, "size of the sample")
    seed: int = option(42, "seed of the moments")
    work: Path = option(DATA / "faults", "folder for results and faults.json", metavar="DIR")


def main() -> None:
    """Strike each step that has no row yet, and print the table."""
    (options,) = parse_options(__doc__, Options)
    file, place = options.work / "faults.json", Place(options.work.resolve() / "given", options.work.resolve() / "run")
    place.given.mkdir(parents=True, exist_ok=True)
    rows = read_json(file)["rows"] if file.exists() else []
    if not (place.given / "bert").exists():
        finish(start(lambda: prepare(place, options.patents), place))
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    for step in options.steps or STEPS:
        key = [step, options.kills, options.signal, options.patents, options.seed]
        row = next((row for row in rows if row["key"] == key), None)
        if row is None:
            with playing(place.given / "zips") if step == "download" else nullcontext() as play:
                row = {"key": key, **strike(step, place._replace(url=play.urls["mirror"] if play else ""), options)}
            rows.append(row)
            write_json(file, {"rows": rows})
        print(f"| {' | '.join(str(row[column]) for column in COLUMNS)} |", flush=True)


def strike(step: str, place: Place, options: Options) -> dict[str, Any]:
    """Strike a step `kills` times and run it again each time; return its row."""
    act, inputs, files = STEPS[step]

    def fresh() -> None:
        remove(place.out)
        place.out.mkdir()
        for name in inputs:
            (place.out / name).symlink_to(place.given / name)

    fresh()
    started = time.monotonic()
    finish(start(lambda: act(place), place))
    seconds, expected = time.monotonic() - started, digest(place.out, files)
    moments, row = random.Random(f"{options.seed} {step}"), dict.fromkeys(COLUMNS[2:], 0)  # noqa: S311
    longest = 0.0
    for _ in range(options.kills):
        fresh()
        process, moment = start(lambda: act(place), place), time.monotonic() + seconds * moments.random()
        while time.monotonic() < moment and not ended(process):
            time.sleep(0.001)
        row["struck"] += 1
        if not ended(process):
            row["while it ran"] += 1
            struck = time.monotonic()
            os.killpg(process, signal.Signals[f"SIG{options.signal}"])
            while not ended(process):
                time.sleep(0.001)
            longest = max(longest, time.monotonic() - struck)
        os.waitpid(process, 0)
        with suppress(ProcessLookupError):
            os.killpg(process, 0)
            raise RuntimeError(f"{step}: the group {process} has left children")
        finish(start(lambda: act(place), place))
        row["equal after the rerun"] += digest(place.out, files) == expected
    return {**row, "step": step, "seconds": f"{seconds:.1f}", "longest end, s": f"{longest:.2f}"}


def start(act: Callable[[], object], place: Place) -> int:
    """Run `act` as a script in a forked process, the leader of a new group, which writes to a log; return its id."""
    if process := os.fork():
        return process
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    with (place.given / "log.txt").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    code = 1
    try:
        run_script(act)
        code = 0
    except SystemExit as left:
        code = int(left.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)  # not the parent's clean-up


def finish(process: int) -> None:
    """Wait for a run that nobody strikes. Raises `InputError` if it fails."""
    if code := os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]):
        raise InputError(f"a run that was not struck ended with code {code}; see given/log.txt in --work")


def ended(process: int) -> bool:
    """Whether a child has ended."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def digest(folder: Path, pattern: str) -> dict[str, str]:
    """The SHA-256 of each file that matches, by name; hidden ones are locks."""
    found = {path: path.read_bytes() for path in sorted(folder.glob(pattern)) if path.name[0] != "."}
    if not found:
        raise RuntimeError(f"{folder} has no {pattern}")
    return {str(path.relative_to(folder)): hashlib.sha256(content).hexdigest() for path, content in found.items()}


if __name__ == "__main__":
    run_script(main)
