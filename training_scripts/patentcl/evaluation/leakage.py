"""Whether training saw what is tested: overlaps of ids, families and texts between splits, in one folder or two."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from ..models.load import TRAINED_ON, Model
from ..tables.family import text_keys
from ..triplets.dataset import ENDS, Dataset
from .held_out import HeldOut

# (who saw, what must be new): training sees neither val nor test, and what chooses among weights does not see test. A
# test triplet or query may have a patent of val, and one of val a patent of train.
FORBIDDEN = (("train", "val"), ("train", "test"), ("val", "test"))
FIELDS = ["patent_id", "abstract", "family"]
PART = 100_000  # texts in memory at a time
SHARED = ["same id", "same family", "same text"]


def overlaps(trained: Dataset, tested: Dataset, names: tuple[str, str] = ("", "")) -> pd.DataFrame:
    """Count the patents held out by `tested` that share an id, a family or a text with those `trained` sees.

    A row for each pair of splits in `FORBIDDEN`. Train sees all its patents, for views; val also those of its triplets,
    its queries and what these cite. Held out are the queries, the anchors and all other patents of val and test. A text
    is the letters and digits of the abstract. Family numbers of two folders differ, so there the texts decide.
    """
    held = {split: tested.read_texts(_held_out(tested, split), FIELDS) for split in ("val", "test")}
    keys = {split: text_keys(texts) for split, texts in held.items()}
    seen = {by: _in_sight(trained, by) for by in ("train", "val")}
    seen_keys = {by: _keys_among(trained, rows, pd.concat(keys.values())) for by, rows in seen.items()}
    rows = []
    for by, split in FORBIDDEN:
        of, patents = trained.texts.iloc[seen[by]], held[split]
        ids, texts = of["patent_id"].isin(patents["patent_id"]).sum(), keys[split].isin(seen_keys[by]).sum()
        same_numbers = trained.fingerprint == tested.fingerprint
        families = patents["family"].isin(of["family"]).sum() if same_numbers else texts
        rows.append((f"{names[0]} {by}".strip(), f"{names[1]} {split}".strip(), len(patents), ids, families, texts))
    return pd.DataFrame(rows, columns=["seen by", "held out", "patents", *SHARED])


def _held_out(data: Dataset, split: str) -> np.ndarray:
    """Rows of the texts of `split`, and of its queries and anchors."""
    held = (data.texts["split"] == split).to_numpy().copy()
    held[data.triplets_of(split)[:, 0]] = True
    held[data.retrieval.loc[data.retrieval["split"] == split, "query"]] = True
    return np.flatnonzero(held)


def _in_sight(data: Dataset, split: str) -> np.ndarray:
    """Rows of the texts that a training sees: those of `split`, of its triplets, its queries and what these cite."""
    seen = data.used_in(split) | (data.texts["split"] == split).to_numpy()
    seen[data.retrieval.loc[data.retrieval["split"] == split, list(ENDS)]] = True
    return np.flatnonzero(seen)


def _keys_among(data: Dataset, rows: np.ndarray, wanted: pd.Series) -> set[str]:
    """The texts of `rows`, as `text_keys`, that are `wanted`; read in parts, because all do not fit in memory."""
    found: set[str] = set()
    for start in tqdm(range(0, len(rows), PART), "compare texts", delay=2, unit=f"x {PART:,} texts"):
        keys = text_keys(data.read_texts(rows[start : start + PART], FIELDS))
        found.update(keys[keys.isin(wanted)])
    return found


def leaking(shared: pd.DataFrame) -> pd.Series:
    """Whether each row of `overlaps` counts anything that must not be seen."""
    return shared[SHARED].any(axis=1)


def warnings_of(models: Sequence[Model], held_out: HeldOut) -> list[str]:
    """Return a warning for each model trained by patentCL on patents that `held_out` tests, or on their families."""
    texts, tested = held_out.texts, held_out.in_split.copy()
    tested[held_out.pairs[:, 0]] = True
    here, warnings = set(texts["patent_id"]), []
    for model in models:
        file, seen = model.folder / TRAINED_ON, here.intersection(trained_ids(model))
        families = texts.loc[texts["patent_id"].isin(seen), "family"]
        known = int((tested & texts["family"].isin(families)).sum())
        if file.exists() and file.stat().st_size < 2:
            warnings.append(f"warning: {file} is empty, so whether {model.name} saw what is tested is unknown")
        elif known:
            warnings.append(
                f"warning: {model.name} was trained on {known:,} of the {tested.sum():,} patents held out here, or on "
                "their families: its metrics are inflated; retrain it on these triplets"
            )
    return warnings


def trained_ids(model: Model) -> Iterator[str]:
    """The ids of the patents that `model` was trained on, millions after a large training; none if not by patentCL."""
    file = model.folder / TRAINED_ON
    if file.exists():
        with file.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            yield from (line.rstrip("\n") for line in lines)
