"""The whole pipeline once: a sample or your own tables → notebook → model → notebook, with a line for each result.

python demo.py                                  # a synthetic sample of 2,000 patents
python demo.py --tables DIR                     # your own tables
"""

import logging
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import papermill
from papermill.exceptions import PapermillExecutionError

from patentcl.common.cli import InputError, Interrupted, option, parse_options, run_script
from patentcl.common.files import DATA, MODELS, REPOSITORY, fingerprint, read_json
from patentcl.sample.write import write_sample
from patentcl.tables.patentsview import find_tables, has_tables

TRAINER = Path(__file__).resolve().parent / "patent_triplet_trainer.py"


@dataclass
class Options:
    """The command line."""

    tables: Path | None = option(None, "PatentsView's tables (default: those in data/, else a sample)", metavar="DIR")
    patents: int = option(2_000, "size of the sample")
    triplets: int = option(800, "train triplets, or as many as the tables give")
    overwrite: bool = option(False, "repeat what exists already")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the pipeline and print where each result is."""
    (options,) = parse_options(__doc__, Options, argv=argv)
    started = time.time()
    tables, name = _tables(options)
    data, model = DATA / "demo" / name, MODELS / f"patentCL-demo-{name}"
    data.mkdir(parents=True, exist_ok=True)
    places = {"data": str(data), "triplets": options.triplets}
    # Small tables hold few citations inside; 800 triplets need half of the patents, the others make intervals narrow.
    mining = {"positives": "coupled", "per_anchor": 5, "test": 0.4, "training_steps": 0}
    run_notebook("patent_handler", data, {**places, **mining, "tables": str(tables), "overwrite": options.overwrite})
    train(data, options.triplets, model, options.overwrite)
    run_notebook("patent_embedding_scatter", data, {**places, "models": ["minilm", str(model)]})

    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"\ntriplets     {data / 'triplets' / str(options.triplets)}")
    print(f"notebooks    {data / 'patent_handler.ipynb'}, {data / 'patent_embedding_scatter.ipynb'}")
    print(f"picture      {data / 'scatter' / str(options.triplets) / 'scatter.png'}, and scatter.html to explore")
    print(f"model        {model}")
    print(f"result       {read_json(model / 'run.json')['verdict']}")
    print(f"took {time.time() - started:.0f} s; the largest step took {peak:.1f} GB of memory")


def _tables(options: Options) -> tuple[Path, str]:
    """The folder of tables, with the sample written if it is needed, and a name that is different for other tables."""
    tables = options.tables or (DATA if has_tables(DATA) else None)
    if tables:
        return tables.resolve(), f"{tables.resolve().name}-{fingerprint(find_tables(tables).values())[:6]}"
    sample = DATA / "demo" / "sample" / "tables"
    write_sample(sample, options.patents, overwrite=options.overwrite)
    return sample, "sample"


def run_notebook(name: str, folder: Path, parameters: dict[str, object]) -> None:
    """Execute the notebook `name` with `parameters` into `folder`; the notebook itself is unchanged."""
    print(f"\n{name}.ipynb", flush=True)
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of parameters that hold an equals sign
    try:
        papermill.execute_notebook(
            REPOSITORY / f"{name}.ipynb", folder / f"{name}.ipynb", parameters, cwd=REPOSITORY, log_level="ERROR"
        )
    except PapermillExecutionError as problem:
        if problem.ename == "InputError":  # the message without the notebook's traceback
            raise InputError(problem.evalue) from None
        raise


def train(data: Path, triplets: int, model: Path, overwrite: bool) -> None:
    """Train `model`, or resume an interrupted training, in a process of its own that prints its own errors."""
    command = [sys.executable, str(TRAINER), "--data", str(data), "--triplets", str(triplets)]
    command += ["--base-model", "minilm", "--output", str(model), "--evaluations", "2"]
    if overwrite:
        command.append("--overwrite")
    elif model.with_name(f"{model.name}.training").exists():
        command.append("--resume")
    code = subprocess.run(command, cwd=REPOSITORY).returncode  # noqa: S603 (our own script)
    if code == 130:
        raise Interrupted("run `make demo` again to resume.")
    if code:
        raise InputError(f"{TRAINER.name} ended with code {code}, see above. Run `make demo` again to resume")


if __name__ == "__main__":
    run_script(main)
