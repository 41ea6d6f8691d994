"""Several models on the same patents: the patents, their embeddings, and the triplets each model gets right."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .embeddings import embed
from .evaluation import dense_scores, evaluation_set, triplet_accuracy
from .files import InputError
from .models import display_name
from .triplets import Triplets, mix


def patents_to_compare(data: Triplets, sample: int = 10_000, split: str = "test", seed: int = 42) -> pd.DataFrame:
    """At most `sample` classified patents of `split` ("all": of every split), seeded, in the order of their classes.

    The test split holds patents that no training has seen, so the pictures show what carries over.
    """
    texts = data.texts[(data.texts["subclass"] != "") & (data.texts["abstract"].str.strip() != "")]
    if split != "all":
        texts = texts[texts["split"] == split]
    chosen = np.argsort(mix(texts["family"].to_numpy() + np.arange(len(texts)), seed), kind="stable")[:sample]
    if len(chosen) < 4:
        raise InputError(
            f"{len(chosen)} classified patents in the split {split} are too few for a picture: take --split all"
        )
    return texts.iloc[np.sort(chosen)].reset_index(drop=True)


def embed_all(models: Sequence[str], patents: pd.DataFrame, cache: Path, max_length: int = 0) -> dict[str, np.ndarray]:
    """Display name → embeddings (N, d) of `patents` by each model; kept in `cache`."""
    names = [display_name(model) for model in models]
    if len(set(names)) != len(names):
        raise InputError(f"two of the models {', '.join(models)} have the same name: rename a folder")
    return {name: embed(model, patents, cache, max_length) for name, model in zip(names, models, strict=True)}


def triplet_accuracies(
    models: Sequence[str], data: Triplets, cache: Path, split: str = "test", max_length: int = 0
) -> pd.Series:
    """Share of the split's triplets in which each model puts the anchor closer to the positive (by display name)."""
    on = evaluation_set(data, split, most_texts=1)
    embeddings = embed_all(models, on.texts, cache, max_length)
    return pd.Series(
        {name: triplet_accuracy(dense_scores(rows), on.triplets) for name, rows in embeddings.items()},
        name="triplet accuracy",
    )
