"""What is evaluated on: the held-out patents of one split, their triplets, and the patents that they cite."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from sklearn.preprocessing import MultiLabelBinarizer

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
    def labels(self) -> np.ndarray:
        """Which of the S subclasses each text has, (N, S) of 0 and 1."""
        return MultiLabelBinarizer().fit_transform(self.texts["subclasses"]).astype(np.uint8)

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
    triplets, retrieval = (table[table["split"] == split] for table in (data.triplets, data.retrieval))
    needed = np.union1d(triplets[list(ROLES)], retrieval[list(ENDS)])
    hidden = "test" if split == "val" else ""  # val's queries cite test patents: neither right nor wrong answers here
    corpus = np.flatnonzero(data.texts["in_corpus"] & (data.texts["split"] != hidden))
    if max_texts and len(corpus) > max_texts:
        others = np.setdiff1d(corpus, needed)
        others = others[np.argsort(mix(others, seed))]
        corpus = np.setdiff1d(corpus, others[max(0, max_texts - len(needed)) :])
    part = data.part(triplets, retrieval, data.fingerprint, corpus)
    texts, pairs = part.texts, part.retrieval[list(ENDS)].to_numpy()
    return HeldOut(
        texts,
        triplets=part.triplets[list(ROLES)].to_numpy(),
        kind=triplets["negative_kind"].to_numpy(),
        pairs=pairs,
        family=texts["family"].to_numpy(),
        corpus=texts["in_corpus"].to_numpy(),
        parts=_parts(data, texts, *pairs.T),
        split=split,
    )


def _parts(data: Dataset, texts: pd.DataFrame, queries: np.ndarray, relevant: np.ndarray) -> dict[str, np.ndarray]:
    """Masks (R,) of the pairs in each of `PARTS`; a pair without classes is neither IN nor OUT."""
    classes = [{class_of(symbol) for symbol in symbols} for symbols in texts["subclasses"]]
    both = [(classes[q], classes[r]) for q, r in zip(queries, relevant, strict=True)]
    return {
        "IN": np.array([bool(q & r) for q, r in both], dtype=bool),
        "OUT": np.array([bool(q and r) and not q & r for q, r in both], dtype=bool),
        "known": texts["family"].isin(data.texts["family"][data.used_in("train")]).to_numpy()[relevant],
        "unseen": (texts["split"] != "train").to_numpy()[relevant],
    }
