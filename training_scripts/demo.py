"""The whole road once: sample or your own tables → notebook → model → notebook, with a line for each result.

python demo.py                                  # a synthetic sample of 2,000 patents
python demo.py --tables DIR                     # your own tables
"""

import argparse
import logging
import resource
import subprocess
import sys
import time
from pathlib import Path

import papermill
from papermill.exceptions import PapermillExecutionError

from patentcl.common.cli import InputError, run_script
from patentcl.common.files import DATA, MODELS, REPOSITORY, read_json
from patentcl.sample.write import write_sample
from patentcl.tables.patentsview import find_tables, has_tables

SCRIPTS = Path(__file__).resolve().parent


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tables", type=Path, metavar="DIR", help="PatentsView's tables (default: those in data/, else a sample)"
    )
    parser.add_argument("--patents", type=int, default=2_000, help="size of the sample")
    parser.add_argument("--triplets", type=int, default=800, help="train triplets, where there are so many")
    parser.add_argument("--overwrite", action="store_true", help="repeat what is there already")
    return parser.parse_args()


def main() -> None:
    """Walk the road; say where each result lies."""
    args, started = parse_arguments(), time.time()
    tables = args.tables.resolve() if args.tables else DATA if has_tables(DATA) else None
    # Other tables are kept apart, even of folders of one name.
    name = f"{tables.name}-{find_tables(tables).fingerprint[:6]}" if tables else "sample"
    data, model = DATA / "demo" / name, MODELS / f"patentCL-demo-{name}"
    if tables is None:
        tables = data / "tables"
        write_sample(tables, patents=args.patents, overwrite=args.overwrite)
    data.mkdir(parents=True, exist_ok=True)
    places: dict[str, object] = {"data": str(data), "triplets": args.triplets}

    mining = {"positives": "coupled", "per_anchor": 5}  # small tables hold few citations inside
    run_notebook("patent_handler", data, {**places, **mining, "tables": str(tables), "overwrite": args.overwrite})
    run([
        sys.executable, SCRIPTS / "patent_triplet_trainer.py", "--data", data, "--triplets", args.triplets,
        "--base-model", "minilm", "--output", model, "--evaluations", 2,
        *unfinished(model, args.overwrite),
    ])  # fmt: skip
    run_notebook("patent_embedding_scatter", data, {**places, "models": ["minilm", str(model)]})

    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"\ntriplets     {data / 'triplets' / str(args.triplets)}")
    print(f"notebooks    {data / 'patent_handler.ipynb'}, {data / 'patent_embedding_scatter.ipynb'}")
    print(f"picture      {data / 'scatter' / str(args.triplets) / 'scatter.png'}, and scatter.html to explore")
    print(f"model        {model}")
    print(f"result       {read_json(model / 'run.json')['verdict']}")
    print(f"took {time.time() - started:.0f} s; the largest step took {peak:.1f} GB of memory")


def unfinished(model: Path, overwrite: bool) -> list[str]:
    """Go on with a training that was interrupted."""
    if overwrite:
        return ["--overwrite"]
    return ["--resume"] if model.with_name(f"{model.name}.training").exists() else []


def run_notebook(name: str, folder: Path, parameters: dict[str, object]) -> None:
    """Execute a notebook with `parameters` in its parameters cell, into `folder`; the one at the top stays as it is."""
    print(f"\n{name}.ipynb", flush=True)
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of parameters that hold an equals sign
    try:
        papermill.execute_notebook(
            REPOSITORY / f"{name}.ipynb", folder / f"{name}.ipynb", parameters, cwd=REPOSITORY, log_level="ERROR"
        )
    except PapermillExecutionError as problem:
        if problem.ename == "InputError":  # the sentence without the notebook's traceback
            raise InputError(problem.evalue) from None
        raise


def run(command: list[object]) -> None:
    """Run one step; its own message tells what went wrong."""
    code = subprocess.run([str(part) for part in command], cwd=REPOSITORY).returncode  # noqa: S603 (our own scripts)
    if code:
        raise InputError(
            f"the step {Path(str(command[1])).name} ended with code {code}, see above; `make demo` goes on from there"
        )


if __name__ == "__main__":
    run_script(main)
