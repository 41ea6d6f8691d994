"""Several models on the same patents: the patents, their embeddings, and the triplets each model gets right."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .embeddings import embed
from .evaluation import bm25_scores, dense_scores, evaluate, evaluation_set
from .files import InputError
from .models import display_name
from .triplets import Triplets, mix

MOST_TEXTS = 2_000  # patents among which the cited ones are looked for


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


def citation_figures(
    models: Sequence[str], data: Triplets, cache: Path, split: str = "test", max_length: int = 0
) -> pd.DataFrame:
    """How well each model finds what the split's patents cite, and BM25: a row each, by display name.

    Triplet accuracy and nDCG@10 as in `evaluation.py`, among at most `MOST_TEXTS` patents, so that a new model is
    soon compared; the figures of a training count all.
    """
    on = evaluation_set(data, split, most_texts=MOST_TEXTS)
    scores = {name: dense_scores(rows) for name, rows in embed_all(models, on.texts, cache, max_length).items()}
    rows = {name: evaluate(score, on) for name, score in {**scores, "BM25": bm25_scores(on.texts)}.items()}
    return pd.DataFrame(rows).T[["triplet accuracy", "nDCG@10"]]
