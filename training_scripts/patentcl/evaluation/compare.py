"""Several models on the same patents: the patents, their embeddings, and a row of figures for each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..common.cli import InputError
from ..common.files import REPOSITORY, read_json
from ..common.hashing import mix
from ..models.embed import embed
from ..models.load import Model, find_model, fingerprint_of
from ..triplets.dataset import Dataset
from .held_out import EvaluationSet
from .leakage import warnings_of
from .metrics import evaluate
from .rankers import bm25_scores, dense_scores, fused_scores, tfidf_scores
from .report import Report


def patents_to_compare(data: Dataset, sample: int = 10_000, split: str = "test", seed: int = 42) -> pd.DataFrame:
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


def with_base(names: Sequence[str]) -> list[Model]:
    """The models, and before them the base of the first one where it is a model of ours and that is not among them.

    Raises `InputError` where one of them is not there, before anything is computed.
    """
    if not names:
        raise InputError("no model is named: name at least one")
    models = [find_model(name) for name in names]
    folder = models[0].folder
    if not (folder / "run.json").exists():
        return models
    record = read_json(folder / "run.json")
    base = record.get("params", {}).get("base_model", names[0])
    if not isinstance(base, str):
        raise InputError(
            f"{folder / 'run.json'} names no base model ({base!r}): name the base before {names[0]}, as the first of "
            "the models"
        )
    is_there = Path(base).name in [model.label for model in models]
    return models if is_there else [_base_of(models[0], base, record), *models]


def _base_of(model: Model, base: str, record: dict[str, Any]) -> Model:
    """The base from which `model` was trained: as it was named then, else where that name may have led.

    A name like ../base meant a folder beside that in which the training was started, so a folder is only taken when
    its weights are the base's.
    """
    try:
        return find_model(base)
    except InputError as problem:
        folder = model.folder.resolve()
        recorded = folder / str(record.get("base folder", base))
        for place in (recorded, folder.parent / base, REPOSITORY / base):
            if place.is_dir() and fingerprint_of(place) == record["params"].get("base"):
                return find_model(str(place))
        raise InputError(
            f"{model.name} was trained from {base}, which is not found ({problem}): name its folder before "
            f"{model.name}, as the first of the models"
        ) from None


def embed_all(
    models: Sequence[Model], patents: pd.DataFrame, cache: Path, max_length: int = 0
) -> dict[str, np.ndarray]:
    """Display name → embeddings (N, d) of `patents` by each model; kept in `cache`."""
    names = [model.label for model in models]
    if len(set(names)) != len(names):
        raise InputError(
            f"two of the models {', '.join(model.name for model in models)} have the same name: rename a folder"
        )
    check_names(names)
    return {name: embed(model, patents, cache, max_length) for name, model in zip(names, models, strict=True)}


def check_names(names: Sequence[str]) -> None:
    """Raise `InputError` for a model that has the name of another row of the table."""
    taken = {"BM25", "TF-IDF", *(f"BM25 + {name}" for name in names)}
    for name in names:
        if name in taken:
            raise InputError(f"a model cannot be named {name}, as another row of the evaluation is: rename its folder")


def compare(
    models: Sequence[Model], held_out: EvaluationSet, cache: Path, max_length: int = 0, seed: int = 42
) -> Report:
    """Evaluate BM25, TF-IDF, each model (the first is the base), and each model fused with BM25.

    The report warns of models that were trained on patents of `held_out`. Embeddings are cached in `cache`.
    """
    report = compare_embeddings(embed_all(models, held_out.texts, cache, max_length), held_out, seed)
    report.setting["tokens per text"] = max_length or "the model's limit"
    report.warnings = warnings_of(models, held_out)
    return report


def compare_embeddings(embeddings: Mapping[str, np.ndarray], held_out: EvaluationSet, seed: int = 42) -> Report:
    """`compare` for embeddings (N, d) of `held_out.texts` by name; the first is the base."""
    words = bm25_scores(held_out.texts)
    scores = {name: dense_scores(rows) for name, rows in embeddings.items()}
    rows = {
        "BM25": evaluate(words, held_out, seed=seed),
        "TF-IDF": evaluate(tfidf_scores(held_out.texts), held_out, seed=seed),
    }
    rows |= {name: evaluate(score, held_out, embeddings[name], seed) for name, score in scores.items()}
    for name, score in scores.items():
        rows[f"BM25 + {name}"] = evaluate(fused_scores(words, score, held_out.family), held_out, seed=seed)
    setting: dict[str, str | int] = {
        "split": held_out.split,
        "patents to search": int(held_out.corpus.sum()),
        "triplets of the split": len(held_out.triplets),
        "seed": seed,
    }
    return Report(rows, next(iter(embeddings)), seed, setting)
