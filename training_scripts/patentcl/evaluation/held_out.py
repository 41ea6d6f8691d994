"""What is evaluated on: the held-out patents of one split, their triplets, and the patents that they cite."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from ..common.hashing import mix
from ..tables.cpc import class_of
from ..triplets.dataset import ENDS, ROLES, Dataset

PARTS = ("IN", "OUT", "known", "unseen")  # of the relevant patents


@dataclass(frozen=True)
class HeldOut:
    """The texts that an evaluation on one split needs; triplets and pairs name them by row.

    `triplets` (T, 3): anchor, positive, negative; `kind` (T,): of the negative; `pairs` (R, 2): query, relevant;
    `family` (N,): family numbers; `corpus` (N,): mask of the texts to search; `parts`: masks (R,) of the pairs.
    """

    texts: pd.DataFrame
    triplets: np.ndarray
    kind: np.ndarray
    pairs: np.ndarray
    family: np.ndarray
    corpus: np.ndarray
    parts: dict[str, np.ndarray]
    split: str = "test"

    def hidden(self, row: int) -> np.ndarray:
        """Mask (N,) of texts excluded from the search for the text in this row: its family, and outside the corpus."""
        return ~self.corpus | (self.family == self.family[row])

    @cached_property
    def queries(self) -> np.ndarray:
        """Rows (Q,) of the patents that cite others, in ascending order."""
        return np.unique(self.pairs[:, 0])

    @cached_property
    def sections(self) -> np.ndarray:
        """The number of each text's CPC section, (N,); -1 without one."""
        codes, names = pd.factorize(self.texts["section"])
        return np.where(np.append(names == "", False)[codes], -1, codes)

    @cached_property
    def in_split(self) -> np.ndarray:
        """Mask (N,) of the texts of the split itself."""
        return (self.texts["split"] == self.split).to_numpy()

    @cached_property
    def classified(self) -> np.ndarray:
        """Mask (N,) of the texts of the corpus that have a CPC subclass; none in a corpus without classes."""
        return (self.texts["subclass"] != "").to_numpy() & self.corpus

    @cached_property
    def voters(self) -> np.ndarray:
        """Mask (N,) of the classified texts that predict the classes of the split: the others, or all if none are."""
        others = self.classified & ~self.in_split
        return others if others.any() else self.classified


def held_out_set(data: Dataset, split: str, max_texts: int = 0, seed: int = 42) -> HeldOut:
    """Gather what an evaluation on `split` needs, on test for a split that is not held out.

    The corpus is cut to about `max_texts` (0: not cut), seeded.
    """
    split = split if split == "val" else "test"
    triplets = data.triplets[data.triplets["split"] == split]
    pairs = data.retrieval[data.retrieval["split"] == split]
    triplet_rows, pair_rows = triplets[list(ROLES)].to_numpy(), pairs[list(ENDS)].to_numpy()
    is_needed = np.zeros(len(data.texts), bool)
    is_needed[triplet_rows] = is_needed[pair_rows] = True
    searched = data.texts["in_corpus"].to_numpy().copy()
    if split == "val":  # its queries cite test patents, too, which are neither right nor wrong answers here
        searched &= (data.texts["split"] != "test").to_numpy()
    if max_texts and searched.sum() > max_texts:
        others = np.flatnonzero(searched & ~is_needed)
        others = others[np.argsort(mix(others, seed))]
        searched[others[max(0, max_texts - int(is_needed.sum())) :]] = False
    kept = searched | is_needed
    row = np.cumsum(kept) - 1  # of a kept text, among those that are kept
    texts = data.read_texts(np.flatnonzero(kept))
    return HeldOut(
        texts,
        triplets=row[triplet_rows],
        kind=triplets["negative_kind"].to_numpy(),
        pairs=row[pair_rows],
        family=texts["family"].to_numpy(),
        corpus=searched[kept],
        parts=_parts(data, texts, *row[pair_rows].T),
        split=split,
    )


def _parts(data: Dataset, texts: pd.DataFrame, queries: np.ndarray, relevant: np.ndarray) -> dict[str, np.ndarray]:
    """Masks (R,) of the pairs in each of `PARTS`; a pair without classes is neither IN nor OUT."""
    classes = [{class_of(symbol) for symbol in symbols} for symbols in texts["subclasses"]]
    both = [(classes[q], classes[r]) for q, r in zip(queries, relevant, strict=True)]
    trained = data.texts["family"][data.used_in("train")]
    return {
        "IN": np.array([bool(q & r) for q, r in both], dtype=bool),
        "OUT": np.array([bool(q and r) and not q & r for q, r in both], dtype=bool),
        "known": texts["family"].isin(trained[trained.isin(texts["family"])]).to_numpy()[relevant],
        "unseen": (texts["split"] != "train").to_numpy()[relevant],
    }
