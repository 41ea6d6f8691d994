"""Fine-tune a patent embedding model on mined triplets.

    python patent_triplet_trainer.py                                   # PatentSBERTa, 10K triplets, recipe best
    python patent_triplet_trainer.py --recipe published                # as the published models: 10 epochs
    python patent_triplet_trainer.py --triplets FULL --batch-size 64
    python patent_triplet_trainer.py --resume                          # after Ctrl-C, SIGTERM or a crash
    python patent_triplet_trainer.py --base-model minilm --smoke       # everything, small, in under a minute

Run it inside tmux: it takes hours on a GPU. The model goes to models/patentCL-<triplets>.
"""

import argparse
from pathlib import Path

from patentcl.common.cli import InputError, is_main_process, run_script, seed
from patentcl.common.files import DATA, MODELS
from patentcl.training.recipes import LOSSES, RECIPES, WAYS, Running, Training, echo, training


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument_group("data").add_argument
    add("--data", type=Path, default=DATA, metavar="DIR", help="where patent_handler.py wrote (default: data/)")
    add("--triplets", default="10K", metavar="NAME|FILE", help="10K, 100K, 1M, FULL, a folder's name, or a CSV file")
    add = parser.add_argument_group("model").add_argument
    add("--base-model", metavar="NAME|DIR", help="hub name, folder, or minilm (default: AI-Growth-Lab/PatentSBERTa)")
    add("--output", type=Path, metavar="DIR", help="the model's own folder (default: models/patentCL-<triplets>)")
    add("--max-length", type=int, default=0, help="tokens of a text that are read (0: as many as the model can)")
    add = parser.add_argument_group("training (defaults are the recipe's)").add_argument
    add("--recipe", choices=RECIPES, default="best", help="published: as the published models; best: see README")
    add("--epochs", type=float, help="passes over the triplets")
    add("--batch-size", type=int, help="triplets a step")
    add("--lr", type=float, help="highest learning rate")
    add("--warmup", type=float, default=0.1, help="share of the steps in which the rate rises (0: none)")
    add("--loss", choices=LOSSES, help="triplet: one negative an anchor; contrast: all others of the batch")
    add("--margin", type=float, help="of the triplet loss: by how much a negative should be further away")
    add("--scale", type=float, help="of the contrast: 1 / temperature")
    add("--average", type=float, metavar="SHARE", help="share of the trained weights, the rest is the base's (1: all)")
    add("--dropout", type=float, metavar="SHARE", help="dropped while training (0: none; published: the model's own)")
    add("--seed", type=seed, default=42, help="order of the triplets and dropout")
    add = parser.add_argument_group("evaluation on val").add_argument
    add("--evaluations", type=int, default=10, help="how often during training (0: never)")
    add("--keep", choices=("best", "last"), default="best", help="which weights are saved")
    add("--patience", type=int, default=0, help="stop after so many evaluations without a better one (0: never)")
    add = parser.add_argument_group("run").add_argument
    add("--attention", choices=WAYS, default="sdpa", help="flex: packed, on CUDA; padded: in groups of similar length")
    add("--micro-batch", type=int, default=0, help="triplets in memory at a time (0: as many as the memory holds)")
    add("--checkpoint-minutes", type=float, default=10, help="minutes between two checkpoints (0: at the end only)")
    add("--keep-checkpoints", type=int, default=2, help="the last so many are kept")
    add("--tensorboard", action="store_true", help="write TensorBoard events, too (its package is needed)")
    add("--profile", action="store_true", help="print where the time of a step goes, and go on")
    add("--resume", action="store_true", help="go on from the newest checkpoint")
    add("--overwrite", action="store_true", help="replace a model or an unfinished training of the same name")
    add("--smoke", action="store_true", help="try the whole road on a tiny sample in a temporary folder")
    return parser.parse_args()


def main() -> None:
    """Load triplets, train, say how it went."""
    args = parse_arguments()
    from patentcl.common.distributed import one_process_a_gpu
    from patentcl.models.load import MINILM, PATENTSBERTA
    from patentcl.training.train import train
    from patentcl.triplets.dataset import load_dataset

    one_process_a_gpu()
    own = {name: getattr(args, name) for name in Training.__dataclass_fields__ if name != "base_model"}
    settings = training(args.recipe, args.base_model or (MINILM if args.smoke else PATENTSBERTA), **own)
    other = {"contrast": "margin", "triplet": "scale"}[settings.loss]
    if getattr(args, other) is not None:
        raise InputError(f"--{other} has no meaning for the {settings.loss} loss: leave it out, or set --loss")
    running = Running(**{name: getattr(args, name) for name in Running.__dataclass_fields__})
    if args.smoke:
        from patentcl.pipeline import smoke

        smoke(settings, running)
        return
    path = Path(args.triplets) if args.triplets.lower().endswith(".csv") else args.data / "triplets" / args.triplets
    output = args.output or MODELS / f"patentCL-{path.stem if path.suffix.lower() == '.csv' else path.name}"
    data = load_dataset(path, args.seed)
    if is_main_process():
        print(f"{path} → {output}")
        echo(args.recipe, settings, running, int((data.triplets["split"] == "train").sum()))
    record = train(data, output, args.data / "embeddings", settings, args.resume, args.overwrite, running)
    print(f"model: {output} ({record['train triplets']:,} triplets, {record['triplets a second']} a second)")


if __name__ == "__main__":
    run_script(main)
