"""Whether what is tested was seen: overlaps of ids, families and texts between splits, in one folder or across two."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import pandas as pd

from ..models.load import Model
from ..tables.family import letters
from ..triplets.dataset import Dataset
from .held_out import EvaluationSet

TRAINED_ON = "ids_train.txt"  # in the folder of a model: the patents of its train triplets


@dataclass(frozen=True)
class Overlap:
    """How many of the `patents` that `tested` holds out share an id, a family or a text with those that `trained` sees.

    `trained` is a folder's train or val triplets, `tested` a folder's val or test split.
    """

    trained: str
    tested: str
    patents: int
    ids: int
    families: int
    texts: int

    @property
    def leaks(self) -> bool:
        """Whether anything is seen that must not be."""
        return bool(self.ids or self.families or self.texts)


# Who must not have seen whom: training neither val nor test, and what chooses among weights not test. That a test
# triplet or query has a patent of val, and one of val a patent of train, is no leak.
FORBIDDEN = (("train", "val"), ("train", "test"), ("val", "test"))


def overlaps(trained: Dataset, tested: Dataset, names: tuple[str, str] = ("", "")) -> list[Overlap]:
    """Overlaps of the patents that train and val of `trained` see with what `tested` holds out, as in `FORBIDDEN`.

    Train sees the patents of its triplets, val those of its triplets, its queries and what these cite. Held out are the
    queries, anchors and all other patents of the splits val and test; that a query cites a known patent is no leak. A
    text is the letters and digits of the abstract. Families are numbered anew for each folder, so across folders of
    other seeds they are told by their texts.
    """
    seen = {by: trained.texts[trained.texts["patent_id"].isin(_seen_by(trained, by))] for by in ("train", "val")}
    held = {split: _held_out(tested, split) for split in ("val", "test")}
    seen_texts, held_texts = ({k: _texts(v) for k, v in part.items()} for part in (seen, held))
    rows = []
    for by, split in FORBIDDEN:
        texts = int(held_texts[split].isin(seen_texts[by]).sum())
        same = trained.fingerprint == tested.fingerprint
        rows.append(
            Overlap(
                f"{names[0]} {by}".strip(),
                f"{names[1]} {split}".strip(),
                len(held[split]),
                int(held[split]["patent_id"].isin(seen[by]["patent_id"]).sum()),
                int(held[split]["family"].isin(seen[by]["family"]).sum()) if same else texts,
                texts,
            )
        )
    return rows


def warnings_of(models: Sequence[Model], on: EvaluationSet) -> list[str]:
    """A sentence for each model that our trainer trained on patents that `on` holds out, or on their families."""
    held = (on.texts["split"] == on.split).to_numpy(copy=True)
    held[on.pairs[:, 0]] = True
    lines = []
    for model in models:
        file = model.folder / TRAINED_ON
        if file.exists():
            ids = file.read_text(encoding="utf-8", errors="replace").split("\n")
            if not any(ids):
                lines.append(f"warning: {file} names no patent: whether {model.name} saw what is tested cannot be told")
            seen = on.texts["patent_id"].isin(ids)
            known = int((held & on.texts["family"].isin(on.texts.loc[seen, "family"])).sum())
            if known:
                lines.append(
                    f"warning: {model.name} was trained on {known:,} of the {held.sum():,} patents held out here, or "
                    "on their families: its figures are too good; train it on these triplets"
                )
    return lines


def report(rows: list[Overlap]) -> str:
    """A line for each overlap, and the verdict."""
    table = pd.DataFrame([row.__dict__ for row in rows]).rename(
        columns={"trained": "seen by", "tested": "held out", "ids": "same id", "families": "same family",
                 "texts": "same text"}
    )  # fmt: skip
    leaks = sum(row.leaks for row in rows)
    return f"{table.to_string(index=False)}\n{'leaks: ' + str(leaks) if leaks else 'no leak'}"


def _seen_by(data: Dataset, split: str) -> set[str]:
    pairs = data.retrieval.loc[data.retrieval["split"] == split, ["query_id", "relevant_id"]]
    return data.ids_in(split) | set(pairs.to_numpy().ravel())


def _held_out(data: Dataset, split: str) -> pd.DataFrame:
    asked = set(data.retrieval.loc[data.retrieval["split"] == split, "query_id"]) | set(
        data.triplets.loc[data.triplets["split"] == split, "anchor_id"]
    )
    return data.texts[(data.texts["split"] == split) | data.texts["patent_id"].isin(asked)]


def _texts(texts: pd.DataFrame) -> pd.Series:
    """A hash of each abstract's letters and digits; of the id where there are none, so that no two are alike."""
    return pd.Series(
        [
            blake2b((text or f"id:{patent}").encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
            for text, patent in zip(letters(texts["abstract"]), texts["patent_id"], strict=True)
        ],
        index=texts.index,
        dtype=str,
    )
