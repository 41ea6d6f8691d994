"""Compare recipes (training settings and mining options) on two corpora, with three seeds each.

    python benchmarks/recipes.py --tables DIR                # DIR: tables of real patents; the other corpus is a sample
    python benchmarks/recipes.py --tables DIR --split test   # the same models on the test queries

Each recipe trains the small packaged model on one corpus. It is evaluated on held-out queries of both corpora and on a
task without patents: finding the body of a Python docstring by its first line (MRR). Select recipes by the val split;
the test split is for the selected ones. `share 0.5` is the mean of the base weights and the trained weights.

Finished runs are cached in --work with their parameters: rerun to resume. The library's version is not one of them, so
use another --work after a change of the library. A recipe is better than the base if its mean difference is positive
and large compared to the standard deviation over the seeds.
"""

import argparse
import importlib
import inspect
import json
import os
import pkgutil
import platform
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sentence_transformers import SentenceTransformer

from patentcl.common.cli import InputError, Interrupted, run_script
from patentcl.common.files import DATA, write_json
from patentcl.common.hashing import mix
from patentcl.evaluation.held_out import HeldOut, held_out_set
from patentcl.evaluation.metrics import quick
from patentcl.evaluation.rankers import Ranker, bm25_ranker, dense_ranker
from patentcl.models.embed import embed, encode, unit_rows
from patentcl.models.load import MINILM, find_model
from patentcl.pipeline import tables_to_triplets
from patentcl.sample.write import write_sample
from patentcl.training.log import Log
from patentcl.training.loop import Job, average
from patentcl.training.options import Hyperparameters, RunOptions
from patentcl.training.train import fit
from patentcl.triplets.dataset import Dataset, load_dataset
from patentcl.triplets.options import Mining

TRIPLETS, BATCH = 320, 16
COMMON: dict[str, Any] = {"batch_size": BATCH, "epochs": 1, "dropout": 0.0, "evaluations": 0, "keep": "last"}
BEST: dict[str, Any] = {"loss": "contrast", "lr": 5e-5}
# Name → mining, training; each is evaluated with its trained weights and averaged with the base. The first has the
# published loss; the second, averaged, is the recipe `best`; each of the others changes `best` as its name states.
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "published, 1 epoch": ("cited", {"loss": "triplet", "margin": 5, "lr": 2e-5}),
    "best": ("coupled", BEST),
    "cited positives": ("cited", BEST),
    "learning rate 2e-5": ("coupled", {**BEST, "lr": 2e-5}),
    "random negatives": ("random", BEST),
    "triplet loss, margin 0.3": ("coupled", {"loss": "triplet", "margin": 0.3, "lr": 5e-5}),
    "examiner first, cited": ("examiner", BEST),
    "1 positive per anchor": ("single", BEST),
    "filtered negatives": ("filtered", BEST),
    "3 epochs": ("coupled", {**BEST, "epochs": 3}),
    "citation negatives": ("citation", BEST),
    "triplet loss, margin 5": ("coupled", {"loss": "triplet", "margin": 5, "lr": 5e-5}),
    "published": ("cited", {"loss": "triplet", "margin": 5, "lr": 2e-5, "epochs": 10}),
}
CITED = Mining(str(TRIPLETS), per_anchor=5, val=0.2, test=0.4)
MAX_QUERIES = {"real": 2_000, "sample": 60}  # 60 suffice for the large differences on the sample
MININGS = {
    "cited": CITED,
    "coupled": replace(CITED, positives="coupled"),
    "examiner": replace(CITED, positives="examiner"),
    "filtered": replace(CITED, positives="coupled", filter_model=MINILM),
    "random": replace(CITED, positives="coupled", negatives="random=1"),
    "citation": replace(CITED, positives="coupled", negatives="citation=1"),
    "single": replace(CITED, positives="coupled", per_anchor=1),
}
SHARES = (1.0, 0.5)  # of the trained weights


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, metavar="DIR", required=True, help="tables of real patents")
    parser.add_argument("--work", type=Path, default=DATA / "recipes", metavar="DIR", help="cache of finished runs")
    parser.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES), help="recipes (default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each recipe on each corpus")
    parser.add_argument(
        "--split",
        choices=("val", "test"),
        default="val",
        help="queries to evaluate on (test: for recipes selected on val)",
    )
    parser.add_argument("--corpus-sample", type=int, default=400, help="patents to search in each corpus (0: all)")
    return parser.parse_args()


def main() -> None:
    """Mine, run what is not cached, print the table."""
    args = parse_arguments()
    if args.seeds < 1 or args.corpus_sample < 0:
        raise InputError("--seeds must be at least 1, --corpus-sample at least 0")
    corpora = {"real": args.tables, "sample": args.work / "tables"}
    write_sample(corpora["sample"], patents=2_000)
    for corpus, tables in corpora.items():
        for name, mining in MININGS.items():
            tables_to_triplets(tables, args.work / corpus, name, replace(mining, max_queries=MAX_QUERIES[corpus]))
    folders = {corpus: args.work / corpus / "triplets" for corpus in corpora}
    cited = {corpus: load_dataset(folder / "cited") for corpus, folder in folders.items()}
    held_out = {corpus: CorpusQueries(data, args.corpus_sample) for corpus, data in cited.items()}
    base = base_metrics(held_out, args.work / "embeddings")
    runs: list[dict[str, Any]] = []
    for seed in range(args.seeds):  # one seed of all recipes first
        for recipe in args.only:
            for corpus in corpora:
                triplets, settings = RECIPES[recipe]
                data = load_dataset(folders[corpus] / triplets)
                training = replace(Hyperparameters(MINILM, seed=seed), **{**COMMON, **settings})
                fingerprints = [dataset.fingerprint for dataset in cited.values()]
                params = {"data": data.fingerprint, "held out": [*fingerprints, args.corpus_sample], **asdict(training)}
                path = args.work / "runs" / f"{recipe}-{corpus}-{seed}.json"
                rows = finished(path, params)
                if not rows:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    labels = {"recipe": recipe, "trained on": corpus, "seed": seed}
                    rows = [labels | row for row in run(training, data, held_out, args.work)]
                    write_json(path, {"params": params, "rows": rows})
                    print(", ".join(map(str, labels.values())), "done", flush=True)
                runs += rows
        print_table(base, runs, held_out, args.split)


def finished(path: Path, params: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a finished run, [] if there is none with these `params`.

    Raises `InputError` for a corrupt file: a run is long, so its result is not overwritten without asking.
    """
    if not path.exists():
        return []
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        rows: list[dict[str, Any]] = record["rows"]
        shares = [float(row["share"]) for row in rows]
        if record["params"] != json.loads(json.dumps(params)):
            return []
    except (ValueError, KeyError, TypeError) as problem:
        raise InputError(f"{path} is corrupt ({problem!r}). Delete it to repeat the run") from None
    if shares != list(SHARES):
        raise InputError(f"{path} is corrupt (shares {shares}). Delete it to repeat the run")
    return rows


class CorpusQueries:
    """The val and test queries of a corpus and the texts of both."""

    def __init__(self, data: Dataset, max_texts: int) -> None:
        """Cut the corpus to about `max_texts` (0: all) for each split; held-out triplets are ignored."""
        data = replace(data, triplets=data.triplets[data.triplets["split"] == "train"])
        self.sets = {split: held_out_set(data, split, max_texts) for split in ("val", "test")}
        self.texts = pd.concat([held.texts for held in self.sets.values()]).drop_duplicates(
            "patent_id", ignore_index=True
        )

    def ndcg(self, embeddings: np.ndarray) -> dict[str, float]:
        """nDCG@10 by split from the embeddings (N, d) of `texts`."""
        row = pd.Series(np.arange(len(self.texts)), index=self.texts["patent_id"])
        return {
            split: ndcg(dense_ranker(embeddings[row[held.texts["patent_id"]]]), held)
            for split, held in self.sets.items()
        }


def ndcg(ranker: Ranker, held_out: HeldOut) -> float:
    """Mean nDCG@10 over the queries."""
    return quick(ranker, held_out).values["nDCG@10"]


def run(
    training: Hyperparameters, data: Dataset, held_out: dict[str, CorpusQueries], work: Path
) -> list[dict[str, Any]]:
    """Train once; return the metrics of the trained and of the averaged weights, a row per share."""
    model = find_model(MINILM).take()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Path(folder), training, RunOptions(checkpoint_minutes=0), Log(Path(folder) / "log"))
        try:
            fit(model, shuffled(data, training.seed), job, next(iter(held_out.values())).sets["val"], work)
        except Interrupted:
            raise KeyboardInterrupt from None  # an unfinished run is not cached; it restarts
    trained = {key: value.clone() for key, value in model.state_dict().items()}
    rows = []
    for share in SHARES:
        model.load_state_dict(trained)
        average(model, before, share)
        rows.append({"share": share, **metrics(model, held_out)})
    return rows


def shuffled(data: Dataset, seed: int) -> Dataset:
    """Shuffle the triplets by the seed: without dropout, the order is all that a seed changes."""
    order = np.argsort(mix(np.arange(len(data.triplets)), seed), kind="stable")
    return replace(data, triplets=data.triplets.iloc[order].reset_index(drop=True))


def metrics(model: SentenceTransformer, held_out: dict[str, CorpusQueries]) -> dict[str, float]:
    """nDCG@10 by corpus and split, and the MRR of the docstrings."""
    by_corpus = {name: corpus.ndcg(encode(model, corpus.texts)) for name, corpus in held_out.items()}
    by_column = {f"{corpus} {split}": value for corpus, values in by_corpus.items() for split, value in values.items()}
    return {**by_column, "docstrings": docstring_mrr(encode(model, docstrings()))}


def base_metrics(held_out: dict[str, CorpusQueries], cache: Path) -> pd.DataFrame:
    """The rows of BM25 and of the base model."""
    base = find_model(MINILM)
    words, dense = {}, {"docstrings": docstring_mrr(embed(base, docstrings(), cache))}
    for corpus, held in held_out.items():
        for split, value in held.ndcg(embed(base, held.texts, cache)).items():
            dense[f"{corpus} {split}"] = value
            words[f"{corpus} {split}"] = ndcg(bm25_ranker(held.sets[split].texts), held.sets[split])
    return pd.DataFrame({"BM25": words, "base": dense}).T


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


def print_table(base: pd.DataFrame, runs: list[dict[str, Any]], held_out: dict[str, CorpusQueries], split: str) -> None:
    """Print each recipe's difference from the base: mean and standard deviation over the seeds."""
    queries = ", ".join(f"{len(np.unique(held.sets[split].pairs[:, 0]))} of {c}" for c, held in held_out.items())
    columns = [*(f"{corpus} {split}" for corpus in held_out), "docstrings"]
    print(f"\n{split} queries: {queries}; nDCG@10, docstrings MRR; {os.cpu_count()} cores, {platform.machine()}")
    print(base[columns].to_string(float_format="{:.3f}".format))
    frame = pd.DataFrame(runs)
    frame[columns] -= base.loc["base", columns].to_numpy(float)
    grouped = frame.groupby(["trained on", "recipe", "share"], sort=False)[columns]
    mean, spread, count = grouped.mean(), grouped.std(), grouped.size()
    cells = mean.map("{:+.3f}".format) + spread.map(lambda s: "" if np.isnan(s) else f" ± {s:.3f}")
    cells["seeds"] = count
    print("\ndifference from the base, mean ± standard deviation over the seeds")
    print(cells.to_string(), flush=True)


if __name__ == "__main__":
    run_script(main)
