"""Recipes: hyperparameters that go together.

`published` is that of the published models, `best` the result of `benchmarks/recipes.py`, see docs/recipes.md.
"""

from dataclasses import asdict
from typing import Any

from .options import Hyperparameters, RunOptions

RECIPES: dict[str, dict[str, Any]] = {
    "published": {"loss": "triplet", "margin": 5, "epochs": 10, "batch_size": 16, "lr": 2e-5, "average": 1},
    "best": {"loss": "contrast", "scale": 20, "epochs": 1, "batch_size": 16, "lr": 5e-5, "average": 0.5, "dropout": 0},
}
FREE = ("base_model", "max_length", "evaluations", "keep", "patience", "seed")  # they do not make it another recipe


def recipe_of(chosen: Hyperparameters) -> str:
    """The recipe that `chosen` follows, or "custom"."""
    free = {name: getattr(chosen, name) for name in FREE}
    return next((name for name, recipe in RECIPES.items() if Hyperparameters(**{**recipe, **free}) == chosen), "custom")


def describe(recipe: str, chosen: Hyperparameters, options: RunOptions, triplets: int) -> str:
    """Two lines: what is trained, and the options that differ from the recipe and the defaults."""
    usual = asdict(Hyperparameters(**RECIPES[recipe])) | asdict(RunOptions()) | {"base_model": chosen.base_model}
    given = asdict(chosen) | asdict(options)
    changed = [f"{name} {value}" for name, value in given.items() if value != usual[name]]
    return (
        f"{chosen.base_model}, {triplets:,} triplets, recipe {recipe}: {chosen.loss}, {chosen.epochs:g} epochs, "
        f"batch {chosen.batch_size}, lr {chosen.lr:g}, warm-up {chosen.warmup:.0%}\n"
        f"changed from the recipe: {', '.join(changed) or 'nothing'}"
    )
