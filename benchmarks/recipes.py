"""Compare recipes (training settings and mining options) on several corpora, seen and unseen.

    python benchmarks/recipes.py --tables water=DIR ultrasound=DIR week=DIR      # DIR: tables of real patents
    python benchmarks/recipes.py --tables … --only best published --seeds 3      # the finalists
    python benchmarks/recipes.py --tables … --only best --triplets 10000

Each recipe trains the base model on each corpus, on all of them pooled, and on the synthetic sample. It is
evaluated on the held-out queries of its own corpus, on each other corpus without the documents that it was trained on
(all patents there that cite are queries; where none cites another, those that share citations are relevant), and on a
task without patents: to find the body of a Python docstring by its first line (MRR). Differences are to the base model
or to BM25, and BM25 fused with the model is compared with BM25 fused with the base.

Finished runs are kept in --work with their parameters: rerun to resume; several processes may share it. The library's
version is not one of the parameters, so use another --work after a change of the library.
"""

import argparse
import csv
import hashlib
import importlib
import inspect
import json
import os
import pkgutil
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from patentcl.common.cli import InputError, Interrupted, run_script
from patentcl.common.files import DATA, beside, write_json
from patentcl.common.hashing import mix
from patentcl.evaluation.compare import compare_embeddings
from patentcl.evaluation.held_out import HeldOut, held_out_set
from patentcl.evaluation.other_corpus import other_corpus
from patentcl.evaluation.significance import interval, resampled
from patentcl.models.embed import embed, encode, unit_rows
from patentcl.models.load import MINILM, find_model
from patentcl.pipeline import tables_to_triplets
from patentcl.sample.write import write_sample
from patentcl.training.log import Log
from patentcl.training.loop import Job
from patentcl.training.options import RECIPES as NAMED
from patentcl.training.options import Hyperparameters, RunOptions
from patentcl.training.train import fit
from patentcl.triplets.dataset import Dataset, load_dataset
from patentcl.triplets.options import Mining

CITED = Mining(per_anchor=5, val=0.1, test=0.4)
COUPLED = replace(CITED, positives="coupled")
BEST: dict[str, Any] = {**NAMED["best"], "evaluations": 0, "keep": "last"}
PLAIN: dict[str, Any] = {**BEST, "lr": 5e-5, "views": 0, "distill": 0}
# Name → mining, training. Each but the first four changes `best` as its name says.
RECIPES: dict[str, tuple[Mining, dict[str, Any]]] = {
    "best": (COUPLED, BEST),
    "published, 1 epoch": (CITED, {**NAMED["published"], "epochs": 1, "evaluations": 0, "keep": "last"}),
    "contrast, averaged": (COUPLED, {**PLAIN, "average": 0.5}),  # what `best` was before
    "contrast": (COUPLED, PLAIN),
    "without views": (COUPLED, {**BEST, "views": 0}),
    "without views, 2 epochs": (COUPLED, {**BEST, "views": 0, "epochs": 2}),  # as many steps as `best`
    "without distillation": (COUPLED, {**BEST, "distill": 0}),
    "distillation 0.1": (COUPLED, {**BEST, "distill": 0.1}),
    "distillation 1": (COUPLED, {**BEST, "distill": 1}),
    "views 3": (COUPLED, {**BEST, "views": 3}),
    "cited positives": (CITED, BEST),
    "1 positive per anchor": (replace(COUPLED, per_anchor=1), BEST),
    "random negatives": (replace(COUPLED, negatives="random=1"), BEST),
    "filtered negatives": (replace(COUPLED, filter_model=MINILM), BEST),
    "learning rate 1e-5": (COUPLED, {**BEST, "lr": 1e-5}),
    "learning rate 3e-5": (COUPLED, {**BEST, "lr": 3e-5}),
    "learning rate 1e-4": (COUPLED, {**BEST, "lr": 1e-4}),
    "batch 64": (COUPLED, {**BEST, "batch_size": 64}),
    "batch 64, learning rate 1e-4": (COUPLED, {**BEST, "batch_size": 64, "lr": 1e-4}),
    "batch 256, learning rate 2e-4": (COUPLED, {**BEST, "batch_size": 256, "lr": 2e-4}),
    "3 epochs": (COUPLED, {**BEST, "epochs": 3}),
    "temperature 0.1": (COUPLED, {**BEST, "scale": 10}),
    "averaged with the base": (COUPLED, {**BEST, "average": 0.5}),
    "dropout": (COUPLED, {**BEST, "dropout": None}),
}
POOLED = ("g_patent.tsv", "g_patent_abstract.tsv", "g_us_patent_citation.tsv", "g_cpc_current.tsv")
# Column → the two rows that are compared, and the metric.
METRICS = {
    "nDCG@10": ("base", "model", "nDCG@10"),
    "over BM25": ("BM25", "model", "nDCG@10"),
    "fused": ("BM25 + base", "BM25 + model", "nDCG@10"),
    "CPC F1": ("base", "model", "CPC F1"),
}


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", metavar="NAME=DIR", required=True, help="tables of real patents")
    parser.add_argument("--work", type=Path, default=DATA / "recipes", metavar="DIR", help="folder of finished runs")
    parser.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES), help="recipes (default: all)")
    parser.add_argument("--train", nargs="+", metavar="NAME", help="corpora to train on (default: all)")
    parser.add_argument("--triplets", type=int, default=1_000, metavar="N", help="most triplets of a training")
    parser.add_argument("--base-model", default=MINILM, metavar="NAME|DIR", help="base model (default: minilm)")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each recipe on each corpus")
    return parser.parse_args()


def main() -> None:
    """Mine, run what is not finished, print the table."""
    args = parse_arguments()
    given = dict(item.partition("=")[::2] for item in args.tables)
    if args.seeds < 1 or args.triplets < 1 or not all(given.values()):
        raise InputError("--seeds and --triplets must be at least 1, and --tables a list of NAME=DIR")
    corpora = Corpora(args.work, given, args.triplets)
    train = args.train or list(corpora.tables)
    if not {*train} <= {*corpora.tables}:
        raise InputError(f"--train {' '.join(train)}: expected some of {', '.join(corpora.tables)}")
    runs: list[dict[str, Any]] = []
    for seed in range(args.seeds):  # one seed of all recipes first
        for recipe in args.only:
            for corpus in train:
                mining, settings = RECIPES[recipe]
                data = corpora.triplets(corpus, mining)
                training = replace(Hyperparameters(args.base_model, seed=seed), **settings)
                tables = {name: folder for name, folder in corpora.tables.items() if name != "sample"}
                params = {"data": data.fingerprint, "tables": {k: str(v) for k, v in tables.items()}}
                params |= asdict(training)
                base = Path(args.base_model).name
                key = hashlib.sha256(json.dumps(params).encode()).hexdigest()[:8]  # other parameters: another file
                name = slug(f"{base}-{recipe}-{corpus}-{args.triplets}-{seed}-{key}")
                path = args.work / "runs" / f"{name}.json"
                rows = finished(path)
                if not rows:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    labels = {"trained on": corpus, "recipe": recipe, "seed": seed}
                    rows = [labels | row for row in run(training, data, corpora, corpus)]
                    write_json(path, {"params": params, "rows": rows})
                    print(f"{recipe}, {corpus}, seed {seed}: done\n{table(rows)}", flush=True)
                runs += rows
    print(f"\n{table(runs)}")


def slug(name: str) -> str:
    """`name` in letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


def finished(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a finished run, [] if there is none.

    Raises `InputError` for a corrupt file: a run is long, so its result is not overwritten without asking.
    """
    if not path.exists():
        return []
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
        complete = bool(rows) and all({*METRICS, "docstrings"} <= {*row} for row in rows)
    except (ValueError, KeyError, TypeError) as problem:
        raise InputError(f"{path} is corrupt ({problem!r}). Delete it to repeat the run") from None
    if not complete:
        raise InputError(f"{path} is of another version: metrics are missing. Delete it to repeat the run")
    return rows


class Corpora:
    """The corpora in a folder: tables, graphs, triplets, and what is evaluated on."""

    def __init__(self, work: Path, tables: dict[str, str], triplets: int) -> None:
        """Restructure and import `tables` (name → folder), all of them pooled, and a synthetic sample."""
        self.work, self.count = work, triplets
        self.tables = {name: Path(folder) for name, folder in tables.items()}
        if len(tables) > 1:
            pool(list(self.tables.values()), work / "tables" / "pooled")
            self.tables["pooled"] = work / "tables" / "pooled"
        self.tables["sample"] = work / "tables" / "sample"
        write_sample(self.tables["sample"], patents=2_000)
        for name in self.tables:
            self.triplets(name, COUPLED)

    def triplets(self, corpus: str, mining: Mining) -> Dataset:
        """Mine a corpus."""
        mining = replace(mining, triplets=str(self.count))
        kinds = (mining.positives, mining.negatives, mining.per_anchor, mining.filter_model)
        name = slug("-".join(map(str, (self.count, *kinds))))
        tables_to_triplets(self.tables[corpus], self.work / corpus, name, mining)
        return load_dataset(self.work / corpus / "triplets" / name)

    def evaluated(self, corpus: str, data: Dataset) -> Iterator[tuple[str, HeldOut]]:
        """What a training on `data`, of `corpus`, is evaluated on: its own test queries, and all of the others."""
        yield corpus, held_out_set(data, "test")
        trained = data.texts["patent_id"][data.texts["split"] == "train"]
        for name in self.tables:
            if name not in (corpus, "pooled"):
                other = other_corpus(self.work / name, trained, self.work / f"{corpus} {os.getpid()}")[0]
                yield name, held_out_set(other, "test")


def pool(folders: list[Path], output: Path) -> None:
    """Write the rows of all tables together; a patent that several have is taken from the first."""
    if output.exists():
        return
    with beside(output) as scratch:
        scratch.mkdir(parents=True)
        for file in POOLED:
            parts: list[pd.DataFrame] = []
            for folder in folders:
                rows = pd.read_csv(folder / file, sep="\t", dtype=str, keep_default_na=False)
                known = pd.concat([part["patent_id"] for part in parts]) if parts else []
                parts.append(rows[~rows["patent_id"].isin(known)])
            pd.concat(parts).fillna("").to_csv(scratch / file, sep="\t", index=False, quoting=csv.QUOTE_ALL)


def run(training: Hyperparameters, data: Dataset, corpora: Corpora, corpus: str) -> Iterator[dict[str, Any]]:
    """Train once; yield the metrics on each corpus: values of each query or patent, of the model and of the base."""
    base, model = find_model(training.base_model), find_model(training.base_model).take()
    cache = corpora.work / "embeddings"
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Path(folder), training, RunOptions(checkpoint_minutes=0), Log(Path(folder) / "log"))
        started = time.perf_counter()
        try:
            fit(model, shuffled(data, training.seed), job, held_out_set(data, "val"), cache)
        except Interrupted:
            raise KeyboardInterrupt from None  # an unfinished run is not kept; it restarts
        seconds = time.perf_counter() - started
    control = docstring_mrr(encode(model, docstrings())) - docstring_mrr(embed(base, docstrings(), cache))
    for name, held_out in corpora.evaluated(corpus, data):
        vectors = {"base": embed(base, held_out.texts, cache), "model": encode(model, held_out.texts)}
        rows = compare_embeddings(vectors, held_out).rows
        row: dict[str, Any] = {"evaluated on": name, "docstrings": control, "seconds": seconds}
        row["documents"] = len(held_out.texts)
        for column, (*pair, metric) in METRICS.items():
            row[column] = [rows[which].units[metric].round(6).tolist() for which in pair]
        yield row


def shuffled(data: Dataset, seed: int) -> Dataset:
    """Shuffle the triplets by the seed: without dropout, the order is all that a seed changes."""
    order = np.argsort(mix(np.arange(len(data.triplets)), seed), kind="stable")
    return replace(data, triplets=data.triplets.iloc[order].reset_index(drop=True))


def docstrings(count: int = 200) -> pd.DataFrame:
    """Docstrings of the standard library: all first lines, then all bodies in the same order."""
    bodies: dict[str, str] = {}
    for name in sorted({m.name for m in pkgutil.iter_modules() if m.name in STDLIB}):
        for member in vars(importlib.import_module(name)).values():
            first, _, body = (inspect.getdoc(member) or "").partition("\n\n") if callable(member) else ("", "", "")
            if 20 <= len(first) <= 120 and len(body) >= 100:
                bodies.setdefault(first, body)
    chosen = sorted(bodies)[:: max(1, len(bodies) // count)][:count]
    texts = [*chosen, *(bodies[first] for first in chosen)]
    return pd.DataFrame({"title": texts, "abstract": ""})


STDLIB = frozenset(
    """argparse ast asyncio calendar codecs collections configparser contextlib copy csv datetime decimal difflib email
    enum fractions functools gettext glob heapq http inspect io ipaddress itertools json logging mailbox math operator
    os pathlib pickle random re sched shlex shutil socket sqlite3 statistics string subprocess tarfile tempfile textwrap
    threading traceback types typing unittest urllib uuid warnings weakref zipfile""".split()  # noqa: SIM905
)


def docstring_mrr(vectors: np.ndarray) -> float:
    """Mean reciprocal rank of the body of a docstring, with the first line as query and all bodies as corpus."""
    unit = unit_rows(vectors)
    half = len(unit) // 2
    scores = unit[:half] @ unit[half:].T
    ranks = 1 + (scores > np.diag(scores)[:, None]).sum(axis=1)
    return float((1 / ranks).mean())


def table(runs: list[dict[str, Any]]) -> str:
    """A line for each recipe and corpus: differences to the base, averaged over the seeds, and their intervals."""
    lines = []
    for labels, group in pd.DataFrame(runs).groupby(["trained on", "recipe", "evaluated on"], sort=False):
        first = group.iloc[0]
        cells: dict[str, Any] = dict(zip(("trained on", "recipe", "evaluated on"), labels, strict=True))
        queries = len(first["nDCG@10"][0])
        cells |= {"seeds": len(group), "queries": queries, "documents": first["documents"], "BM25": "–", "base": "–"}
        if queries:
            cells |= {"BM25": f"{np.mean(first['over BM25'][0]):.3f}", "base": f"{np.mean(first['nDCG@10'][0]):.3f}"}
        for metric in METRICS:
            differences = [np.subtract(model, base) for base, model in group[metric]]
            cells[metric] = cell(differences)
        cells["docstrings"] = f"{group['docstrings'].mean():+.3f}"
        cells["s"] = f"{group['seconds'].mean():.0f}"
        lines.append(cells)
    return str(pd.DataFrame(lines).to_string(index=False))


def cell(differences: list[np.ndarray]) -> str:
    """Mean of `differences`, (n,) for each seed, with the interval over n, and the deviation over the seeds."""
    if not len(differences[0]):
        return "–"
    mean = np.mean(differences, axis=0)
    low, high = interval(resampled([mean])[:, 0])
    spread = f" ± {np.std(np.mean(differences, axis=1), ddof=1):.3f}" if len(differences) > 1 else ""
    return f"{mean.mean():+.3f} [{low:+.3f}, {high:+.3f}]{spread}"


if __name__ == "__main__":
    run_script(main)
