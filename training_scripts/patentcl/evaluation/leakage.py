"""Whether training saw what is tested: overlaps of ids, families and texts between splits, in one folder or two."""

from collections.abc import Sequence

import pandas as pd

from ..models.load import Model
from ..tables.family import text_keys
from ..triplets.dataset import Dataset
from .held_out import HeldOut

TRAINED_ON = "ids_train.txt"  # in the folder of a model: the patents of its train triplets

# (who saw, what must be new): training sees neither val nor test, and what chooses among weights does not see test. A
# test triplet or query may have a patent of val, and one of val a patent of train.
FORBIDDEN = (("train", "val"), ("train", "test"), ("val", "test"))
SHARED = ["same id", "same family", "same text"]


def overlaps(trained: Dataset, tested: Dataset, names: tuple[str, str] = ("", "")) -> pd.DataFrame:
    """Count the patents held out by `tested` that share an id, a family or a text with those `trained` sees.

    A row for each pair of splits in `FORBIDDEN`. Train sees the patents of its triplets, val those of its triplets,
    its queries and what these cite. Held out are the queries, the anchors and all other patents of val and test. A text
    is the letters and digits of the abstract. Family numbers of two folders differ, so there the texts decide.
    """
    rows = []
    for by, split in FORBIDDEN:
        cited = trained.retrieval.loc[trained.retrieval["split"] == by, ["query_id", "relevant_id"]]
        in_sight = trained.ids_in(by) | set(cited.to_numpy().ravel())
        seen = trained.texts[trained.texts["patent_id"].isin(in_sight)]
        held = _held_out(tested, split)
        ids = held["patent_id"].isin(seen["patent_id"]).sum()
        texts = text_keys(held).isin(text_keys(seen)).sum()
        same_numbers = trained.fingerprint == tested.fingerprint
        families = held["family"].isin(seen["family"]).sum() if same_numbers else texts
        rows.append((f"{names[0]} {by}".strip(), f"{names[1]} {split}".strip(), len(held), ids, families, texts))
    return pd.DataFrame(rows, columns=["seen by", "held out", "patents", *SHARED])


def leaking(shared: pd.DataFrame) -> pd.Series:
    """Whether each row of `overlaps` counts anything that must not be seen."""
    return shared[SHARED].any(axis=1)


def warnings_of(models: Sequence[Model], held_out: HeldOut) -> list[str]:
    """Return a warning for each model trained by patentCL on patents that `held_out` tests, or on their families."""
    texts, tested = held_out.texts, held_out.in_split.copy()
    tested[held_out.pairs[:, 0]] = True
    warnings = []
    for model in models:
        file = model.folder / TRAINED_ON
        if not file.exists():
            continue
        ids = file.read_text(encoding="utf-8", errors="replace").split("\n")
        families = texts.loc[texts["patent_id"].isin(ids), "family"]
        known = int((tested & texts["family"].isin(families)).sum())
        if not any(ids):
            warnings.append(f"warning: {file} is empty, so whether {model.name} saw what is tested is unknown")
        elif known:
            warnings.append(
                f"warning: {model.name} was trained on {known:,} of the {tested.sum():,} patents held out here, or on "
                "their families: its metrics are inflated; retrain it on these triplets"
            )
    return warnings


def _held_out(data: Dataset, split: str) -> pd.DataFrame:
    queries = data.retrieval.loc[data.retrieval["split"] == split, "query_id"]
    anchors = data.triplets.loc[data.triplets["split"] == split, "anchor_id"]
    return data.texts[(data.texts["split"] == split) | data.texts["patent_id"].isin([*queries, *anchors])]
