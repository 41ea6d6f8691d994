"""Whether what is tested was seen: overlaps of ids, families and texts between splits, in one folder or across two."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import pandas as pd

from .evaluation import EvaluationSet
from .models import find_model
from .triplets import Triplets

TRAINED_ON = "ids_train.txt"  # in the folder of a model: the patents of its train triplets


@dataclass(frozen=True)
class Overlap:
    """How many of `patents` in a role share an id, a family or a text with the patents that training sees."""

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


def overlaps(trained: Triplets, tested: Triplets, names: tuple[str, str] = ("", "")) -> list[Overlap]:
    """Overlaps of the patents in train triplets of `trained` with what `tested` holds out.

    Held out are the queries, anchors and all other patents of the splits val and test; that a query cites a known
    patent is no leak. A text is the letters and digits of the abstract. Families are numbered anew for each folder,
    so across folders of other seeds they are told by their texts.
    """
    seen = trained.texts[trained.texts["patent_id"].isin(trained.ids_in("train"))]
    seen_texts, same = set(_texts(seen)), trained.fingerprint == tested.fingerprint
    rows = []
    for split, held in _held_out(tested):
        families = int(held["family"].isin(seen["family"]).sum()) if same else int(_texts(held).isin(seen_texts).sum())
        rows.append(
            Overlap(
                f"{names[0]} train".strip(),
                f"{names[1]} {split}".strip(),
                len(held),
                int(held["patent_id"].isin(seen["patent_id"]).sum()),
                families,
                int(_texts(held).isin(seen_texts).sum()),
            )
        )
    return rows


def warnings_of(models: Sequence[str], on: EvaluationSet) -> list[str]:
    """A sentence for each model that our trainer trained on patents that `on` holds out, or on their families."""
    held = (on.texts["split"] == on.split).to_numpy(copy=True)
    held[on.pairs[:, 0]] = True
    lines = []
    for name in models:
        file = find_model(name) / TRAINED_ON
        if file.exists():
            seen = on.texts["patent_id"].isin(file.read_text(encoding="utf-8").split("\n"))
            known = int((held & on.texts["family"].isin(on.texts.loc[seen, "family"])).sum())
            if known:
                lines.append(
                    f"warning: {name} was trained on {known:,} of the {held.sum():,} patents held out here, or on "
                    "their families: its figures are too good; train it on these triplets"
                )
    return lines


def report(rows: list[Overlap]) -> str:
    """A line for each overlap, and the verdict."""
    table = pd.DataFrame([row.__dict__ for row in rows]).rename(
        columns={"trained": "trained on", "tested": "held out", "ids": "same id", "families": "same family",
                 "texts": "same text"}
    )  # fmt: skip
    leaks = sum(row.leaks for row in rows)
    return f"{table.to_string(index=False)}\n{'leaks: ' + str(leaks) if leaks else 'no leak'}"


def _held_out(data: Triplets) -> Iterator[tuple[str, pd.DataFrame]]:
    for split in ("val", "test"):
        asked = set(data.retrieval.loc[data.retrieval["split"] == split, "query_id"]) | set(
            data.triplets.loc[data.triplets["split"] == split, "anchor_id"]
        )
        yield split, data.texts[(data.texts["split"] == split) | data.texts["patent_id"].isin(asked)]


def _texts(texts: pd.DataFrame) -> pd.Series:
    """A hash of each abstract's letters and digits; of the id where there are none, so that no two are alike."""
    letters = texts["abstract"].str.lower().map(lambda text: re.sub(r"[\W_]+", "", text))
    return pd.Series(
        [
            blake2b((text or f"id:{patent}").encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
            for text, patent in zip(letters, texts["patent_id"], strict=True)
        ],
        index=texts.index,
        dtype=str,
    )
