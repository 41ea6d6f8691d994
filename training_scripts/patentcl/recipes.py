"""The hyper-parameters of a training, and the sets of them that go together.

`published` is that of the published models. `best` is what came out of `benchmarks/recipes.py`; see the README.
"""

from dataclasses import dataclass
from typing import Any

LOSSES = ("triplet", "contrast")
RECIPES: dict[str, dict[str, Any]] = {
    "published": {"loss": "triplet", "margin": 5, "epochs": 10, "batch_size": 16, "lr": 2e-5, "average": 1},
    "best": {"loss": "contrast", "scale": 20, "epochs": 1, "batch_size": 16, "lr": 5e-5, "average": 0.5},
}


@dataclass(frozen=True)
class Training:
    """The hyper-parameters of a run; the defaults are those of the published models.

    `margin` is of the triplet loss, `scale` (1 / temperature) of the contrast. `average` is the share of the trained
    weights in the saved model, the rest is the base model's: 1 saves what was trained.
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
    checkpoint_steps: int = 500
    seed: int = 42


def training(recipe: str, base_model: str, **given: Any) -> Training:
    """The settings of a recipe, those that are `given` and not None in place of its own."""
    return Training(base_model, **{**RECIPES[recipe], **{name: v for name, v in given.items() if v is not None}})
