"""The options of a training, from which the command line is made (`common.cli.parse_options`), and recipes.

A recipe is a set of hyperparameters that go together: `published` is that of the published models, `best` the result
of `benchmarks/recipes.py`, see docs/recipes.md.
"""

from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any, Literal

from ..common.cli import InputError, check_ranges, option
from ..models.bases import Readout, parse_dimensions
from ..models.load import PATENTSBERTA
from .losses import LOSSES

LOSS_HELP = " ".join(f"{name}: {str(loss.__doc__).splitlines()[0]}" for name, loss in LOSSES.items())
ATTENTION_HELP = "sdpa: default; flex: FlexAttention, CUDA only; padded: stock batches grouped by length"
GRAPHS_HELP = "auto: CUDA graphs where they apply; compile: also compile the layers; off: none"
COUNT = "[0, 1e6)"
RANGES = {"epochs": "(0, 1e6)", "batch_size": "[1, 1e6)", "lr": "(0, 1e6)", "warmup": "[0, 1)", "margin": COUNT}
RANGES |= {"scale": "(0, 1e4)", "average": "(0, 1]", "dropout": "[0, 1)", "views": "[0, 100]", "distill": COUNT}
RANGES |= dict.fromkeys(("max_length", "evaluations", "patience"), COUNT)


@dataclass(frozen=True)
class Hyperparameters(Readout):
    """What determines the trained model, besides its data. The defaults are those of the published models."""

    base_model: str = option(PATENTSBERTA, "hub name, folder, folder in models/, or minilm", metavar="NAME|DIR")
    epochs: float = option(10, "passes over the triplets")
    batch_size: int = option(16, "triplets per step")
    lr: float = option(2e-5, "peak learning rate")
    warmup: float = option(0.1, "share of the steps in which the learning rate rises", metavar="SHARE")
    loss: str = option("triplet", LOSS_HELP, choices=[*LOSSES])
    margin: float = option(5, "triplet loss: by how much a negative should be further away than the positive")
    scale: float = option(20, "contrast: 1 / temperature")
    views: float = option(0, "pairs of title and abstract per mined triplet, see docs/training.md", metavar="SHARE")
    distill: float = option(0, "weight of the distillation from the base model plus TF-IDF (0: none)")
    matryoshka: str | None = option(
        None, "also train the first N dimensions of the vectors alone, so that they can be cut", metavar="N,N,…"
    )
    average: float = option(1, "share of the trained weights in the saved model (1: only these)", metavar="SHARE")
    max_length: int = option(0, "truncate texts to this many tokens (0: the model's limit)")
    dropout: float | None = option(None, "share of activations to drop (published: the model's own)", metavar="SHARE")
    evaluations: int = option(10, "validations during training (0: no evaluation, not even on test)")
    keep: Literal["best", "last"] = option("best", "which weights to save; best: those of the best validation nDCG@10")
    patience: int = option(0, "stop after this many validations without improvement (0: never)")
    seed: int = option(42, "seed of the order of the triplets, of dropout, and of the splits of a CSV file")

    _argument_group_name = "training (the defaults are those of the recipe)"

    def __post_init__(self) -> None:
        """Raise `InputError` for values that are out of range or do not apply together."""
        check_ranges(self, RANGES)
        unused = {name for loss in LOSSES.values() for name in loss.options}
        for name in sorted(unused.difference(LOSSES[self.loss].options)):
            if getattr(self, name) != getattr(type(self), name):
                raise InputError(f"--{name.replace('_', '-')} does not apply to --loss {self.loss}. Remove it.")
        _ = self.dimensions

    @property
    def dimensions(self) -> tuple[int, ...]:
        """The numbers of `matryoshka`, largest first."""
        return parse_dimensions("matryoshka", self.matryoshka)


@dataclass(frozen=True)
class RunOptions:
    """How a training is run, which does not change its result."""

    attention: Literal["sdpa", "flex", "padded"] = option("sdpa", ATTENTION_HELP)
    graphs: Literal["auto", "compile", "off"] = option("auto", GRAPHS_HELP)
    micro_batch: int = option(0, "triplets in memory at a time (0: as many as fit)")
    checkpoint_minutes: float = option(10, "minutes between two checkpoints (0: only at the end)")
    keep_checkpoints: int = option(2, "number of checkpoints to keep")
    tensorboard: bool = option(False, "also write TensorBoard events (pip install tensorboard)")
    profile: bool = option(False, "print where the time of a step goes, then train")
    resume: bool = option(False, "resume from the newest checkpoint")
    overwrite: bool = option(False, "replace a model or an unfinished training of the same name")

    _argument_group_name = "run"

    def __post_init__(self) -> None:
        """Raise `InputError` for values that are out of range, or a package that is missing."""
        check_ranges(self, {"micro_batch": COUNT, "checkpoint_minutes": "[0, 1e9)", "keep_checkpoints": "[1, 1e6)"})
        if self.tensorboard and not find_spec("tensorboard"):
            raise InputError("--tensorboard needs its package. Run: pip install tensorboard")


RECIPES: dict[str, dict[str, Any]] = {
    "published": {"loss": "triplet", "margin": 5, "epochs": 10, "batch_size": 16, "lr": 2e-5, "average": 1},
    "best": {
        "loss": "contrast",
        "scale": 20,
        "views": 1,
        "distill": 0.3,
        "epochs": 1,
        "batch_size": 16,
        "lr": 6e-5,
        "average": 1,
        "dropout": 0,
    },
}
# Options that do not make it another recipe.
FREE = ("base_model", "pooling", "prompt", "matryoshka", "max_length", "evaluations", "keep", "patience", "seed")


def recipe_of(chosen: Hyperparameters) -> str:
    """The recipe that `chosen` follows, or "custom"."""
    free = {name: getattr(chosen, name) for name in FREE}
    return next((name for name, recipe in RECIPES.items() if Hyperparameters(**recipe, **free) == chosen), "custom")


def describe(recipe: str, chosen: Hyperparameters, options: RunOptions, triplets: int) -> str:
    """Two lines: what is trained, and the options that differ from the recipe and the defaults."""
    usual = asdict(Hyperparameters(**RECIPES[recipe])) | asdict(RunOptions()) | {"base_model": chosen.base_model}
    given = asdict(chosen) | asdict(options)
    changed = [f"{name} {value}" for name, value in given.items() if value != usual[name]]
    return (
        f"{chosen.base_model}, {triplets:,} triplets, recipe {recipe}: {chosen.loss}, epochs {chosen.epochs:g}, "
        f"batch {chosen.batch_size}, lr {chosen.lr:g}, warm-up {chosen.warmup:.0%}\n"
        f"changed from the recipe: {', '.join(changed) or 'nothing'}"
    )
