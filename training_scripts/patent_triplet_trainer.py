"""Fine-tune a patent embedding model on mined triplets.

    python patent_triplet_trainer.py                                   # PatentSBERTa, 10K triplets, recipe best
    python patent_triplet_trainer.py --recipe published                # as the published models: 10 epochs
    python patent_triplet_trainer.py --triplets FULL --batch-size 64
    python patent_triplet_trainer.py --resume                          # after Ctrl-C, SIGTERM or a crash
    python patent_triplet_trainer.py --base-model minilm --smoke       # the whole pipeline in about a minute

Run it inside tmux: large sets take hours on a GPU. The model is saved in models/patentCL-<triplets>.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from patentcl.common.cli import is_main_process, option, parse_options, run_script
from patentcl.common.distributed import launch_one_process_per_gpu
from patentcl.common.files import DATA, MODELS
from patentcl.models.load import MINILM
from patentcl.pipeline import smoke
from patentcl.training.options import RECIPES, Hyperparameters, RunOptions, describe
from patentcl.training.train import train
from patentcl.triplets.dataset import load_dataset


@dataclass(frozen=True)
class Places:
    """What is trained on, and where the model goes."""

    data: Path = option(DATA, "folder that patent_handler.py wrote to", metavar="DIR")
    triplets: str = option("10K", "10K, 100K, 1M, FULL, a folder in <data>/triplets, or a CSV", metavar="NAME|FILE")
    output: Path | None = option(None, "folder for the model (default: models/patentCL-<triplets>)", metavar="DIR")
    recipe: Literal["best", "published"] = option("best", "defaults of the hyperparameters, see docs/training.md")
    smoke: bool = option(False, "run the whole pipeline on a small sample in a temporary folder")

    _argument_group_name = "data and model"


def main(argv: Sequence[str] | None = None) -> None:
    """Load triplets, train, print where the model is."""
    places, hyperparameters, options = parse_options(
        __doc__, Places, Hyperparameters, RunOptions, argv=argv, defaults=defaults
    )
    launch_one_process_per_gpu()
    if places.smoke:
        smoke(hyperparameters, options)
        return
    is_csv = places.triplets.lower().endswith(".csv")
    path = Path(places.triplets) if is_csv else places.data / "triplets" / places.triplets
    output = places.output or MODELS / f"patentCL-{path.stem if is_csv else path.name}"
    data = load_dataset(path, hyperparameters.seed)
    if is_main_process():
        print(f"{path} → {output}")
        print(describe(places.recipe, hyperparameters, options, int((data.triplets["split"] == "train").sum())))
    record = train(data, output, places.data / "embeddings", hyperparameters, options)
    print(
        f"model: {output} (train triplets: {record['train triplets']:,}, per second: {record['triplets per second']})"
    )


def defaults(given: argparse.Namespace) -> dict[str, object]:
    """The defaults that other options change: those of the recipe, and a small model for --smoke."""
    return RECIPES[given.recipe] | ({"base_model": MINILM} if given.smoke else {})


if __name__ == "__main__":
    run_script(main)
