"""The hyper-parameters of a training, and the sets of them that go together.

`published` is that of the published models. `best` is what came out of `benchmarks/recipes.py`; see the README.
"""

from dataclasses import asdict, dataclass
from typing import Any

LOSSES = ("triplet", "contrast")
WAYS = ("sdpa", "flex", "padded")  # how attention is computed, see packing.py
RECIPES: dict[str, dict[str, Any]] = {
    "published": {"loss": "triplet", "margin": 5, "epochs": 10, "batch_size": 16, "lr": 2e-5, "average": 1},
    "best": {
        "loss": "contrast",
        "scale": 20,
        "epochs": 1,
        "batch_size": 16,
        "lr": 5e-5,
        "average": 0.5,
        "dropout": 0.0,
    },
}


@dataclass(frozen=True)
class Training:
    """The hyper-parameters of a run; the defaults are those of the published models.

    `margin` is of the triplet loss, `scale` (1 / temperature) of the contrast. `average` is the share of the trained
    weights in the saved model, the rest is the base model's: 1 saves what was trained. `keep` is which weights: of the
    `best` evaluation on val, or the `last`; `patience` stops after so many evaluations without a better one (0: never).
    """

    base_model: str
    epochs: float = 10
    batch_size: int = 16
    lr: float = 2e-5
    warmup: float = 0.1
    margin: float = 5
    loss: str = "triplet"
    scale: float = 20
    average: float = 1
    max_length: int = 0
    dropout: float | None = None
    evaluations: int = 10
    keep: str = "best"
    patience: int = 0
    seed: int = 42


@dataclass(frozen=True)
class Running:
    """How a training is run, which does not change what it computes."""

    checkpoint_minutes: float = 10
    keep_checkpoints: int = 2
    micro_batch: int = 0
    attention: str = "sdpa"
    tensorboard: bool = False
    profile: bool = False


def training(recipe: str, base_model: str, **given: Any) -> Training:
    """The settings of a recipe, those that are `given` and not None in place of its own."""
    return Training(base_model, **{**RECIPES[recipe], **{name: v for name, v in given.items() if v is not None}})


def name_of(chosen: Training) -> str:
    """The recipe whose settings these are, whatever the length, the seed and how it is evaluated; else "own"."""
    rest = ("max_length", "evaluations", "keep", "patience", "seed")
    given = {name: getattr(chosen, name) for name in rest}
    return next((name for name in RECIPES if training(name, chosen.base_model, **given) == chosen), "own")


def echo(recipe: str, chosen: Training, running: Running, triplets: int) -> None:
    """Print what is trained, and every setting that is not the recipe's or the default."""
    usual = training(recipe, chosen.base_model)
    changed = [f"{n} {v}" for n, v in asdict(chosen).items() if v != getattr(usual, n)]
    changed += [f"{n} {v}" for n, v in asdict(running).items() if v != getattr(Running(), n)]
    print(
        f"{chosen.base_model}, {triplets:,} triplets, recipe {recipe}: {chosen.loss}, {chosen.epochs:g} epochs, "
        f"batch {chosen.batch_size}, lr {chosen.lr:g}, warm-up {chosen.warmup:.0%}"
    )
    print(f"changed from the recipe: {', '.join(changed) or 'nothing'}")
