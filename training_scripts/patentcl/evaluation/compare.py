"""Compare models on the same patents: choose the patents, embed them with each model, and score each."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.cli import InputError
from ..common.hashing import mix
from ..models.bases import Readout
from ..models.embed import embed
from ..models.load import Model, find_model
from ..triplets.dataset import Dataset
from .held_out import HeldOut
from .leakage import warnings_of
from .metrics import measure
from .rankers import bm25_ranker, dense_ranker, notes_of, tfidf_ranker
from .report import Report
from .scoring import score


def patents_to_compare(data: Dataset, sample: int = 10_000, split: str = "test", seed: int = 42) -> pd.DataFrame:
    """Return at most `sample` patents of `split` ("all": of every split), seeded, in the order of `data.texts`.

    They are classified unless the corpus has no classes. No training saw the patents of the test split, so pictures of
    it show what generalises.
    """
    classified = (data.texts["subclass"] != "").to_numpy()
    shown = (classified | ~classified.any()) & ((data.texts["split"] == split) | (split == "all"))
    rows = np.flatnonzero(shown)
    keys = mix(data.texts["family"].to_numpy()[rows] + np.arange(len(rows)), seed)
    patents = data.read_texts(np.sort(rows[np.argsort(keys, kind="stable")[:sample]]))
    patents = patents[patents["abstract"].str.strip() != ""].reset_index(drop=True)
    if len(patents) < 4:
        few = f"--split {split} --sample {sample}: too few patents to show, {len(patents)}"
        raise InputError(f"{few}. Use all, or a larger sample.")
    return patents


def with_base(names: Sequence[str], readout: Readout = Readout()) -> list[Model]:
    """Find the models; the base of the first one comes before them if patentCL trained it and the base is not listed.

    `readout` overrides the pooling and the prompt of those that are listed. Raises `InputError` for a model that is not
    found, before anything is computed.
    """
    if not names:
        raise InputError("--models names no model. Pass at least one.")
    models = [find_model(name, readout) for name in names]
    base = models[0].record.get("params", {}).get("base_model", "")
    if not base or Path(base).name in [model.label for model in models]:
        return models
    print(f"{base}, the base of {models[0].label}, is added as the first model")
    return [_base_of(models[0], base), *models]


def _base_of(model: Model, base: str) -> Model:
    """The base from which `model` was trained, read as then: by its name, else in the folder where it was then."""
    params = model.record["params"]
    readout = Readout(pooling=params.get("pooling"), prompt=params.get("prompt"))
    with suppress(InputError):
        return find_model(base, readout)
    with suppress(InputError):  # ../base was relative to where the training started
        found = find_model(str(model.folder.resolve() / str(model.record.get("base folder", base))), readout)
        if found.fingerprint == params.get("base"):
            return found
    raise InputError(f"{model.name} was trained from {base}, which is missing. Pass it first.")


def embed_all(
    models: Sequence[Model], patents: pd.DataFrame, cache: Path, max_length: int = 0
) -> dict[str, np.ndarray]:
    """Return label → embeddings (N, d) of `patents` by each model; cached in `cache`.

    Raises `InputError` for two models of one name, and for NaN or infinite embeddings.
    """
    check_names([model.label for model in models])
    return {model.label: embed(model, patents, cache, max_length) for model in models}


def check_names(names: Sequence[str]) -> None:
    """Raise `InputError` for a model named like another row of the tables."""
    rows = ["BM25", "TF-IDF", *names, *(f"BM25 + {name}" for name in names)]
    for name in names:
        if rows.count(name) > 1:
            raise InputError(f"two rows would be named {name}. List each model once, or rename its folder.")


def compare(
    models: Sequence[Model],
    held_out: HeldOut,
    cache: Path,
    max_length: int = 0,
    seed: int = 42,
    cuts: Sequence[int] = (),
) -> Report:
    """Evaluate BM25, TF-IDF, each model (the first is the base), and each model fused with BM25.

    Each model is also evaluated with its vectors cut to the first d dimensions, for each d of `cuts`. The report warns
    of models that were trained on patents of `held_out`. Embeddings are cached in `cache`.
    """
    rows = embed_all(models, held_out.texts, cache, max_length)
    cut = {f"{name}, {d}-d": rows[name][:, :d] for name in rows for d in cuts if d < rows[name].shape[1]}
    report = compare_embeddings(rows | cut, held_out, seed)
    report.setting["tokens per text"] = max_length or "the model's limit"
    report.warnings += warnings_of(models, held_out)
    return report


def compare_embeddings(embeddings: Mapping[str, np.ndarray], held_out: HeldOut, seed: int = 42) -> Report:
    """`compare` for embeddings (N, d) of `held_out.texts` by name; the first is the base."""
    rankers = {"BM25": bm25_ranker(held_out.texts), "TF-IDF": tfidf_ranker(held_out.texts)}
    rankers |= {name: dense_ranker(rows) for name, rows in embeddings.items()}
    outcomes = score(rankers, held_out, seed, fusions={f"BM25 + {name}": ["BM25", name] for name in embeddings})
    base = next(iter(embeddings))
    for name, outcome in outcomes.items():
        outcome.embeddings, outcome.words, outcome.base = embeddings.get(name), outcomes["BM25"], outcomes[base]
    by_section = held_out.texts["section"].iloc[held_out.queries].value_counts().sort_index()
    setting: dict[str, str | int] = {
        "split": held_out.split,
        "documents": int(held_out.corpus.sum()),
        "queries by section": ", ".join(f"{name or 'none'} {count:,}" for name, count in by_section.items()),
        "triplets of the split": len(held_out.triplets),
        "seed": seed,
    }
    measured = {name: measure(outcome) for name, outcome in outcomes.items()}
    return Report(measured, base, seed, setting, notes_of(held_out.texts))
