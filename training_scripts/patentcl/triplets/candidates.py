"""The triplets that the answers of the queries allow, gathered batch by batch, and what the record counts of them."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..tables.cpc import Sections
from .options import KINDS, SPLITS, Mining
from .patents import Patents
from .select import are_enough, members, negatives, positives

# A count of the record → the column of the answers that it sums.
_COUNTED = {
    "citation pairs inside the table": "cited",
    "… both with an abstract": "with_abstract",
    "… sharing a CPC subclass": "sharing",
    "… of different families": "other_family",
}


class Candidates:
    """Every batch of answers holds all there is of its anchors, so that it is reduced to triplets by itself.

    `counts`: labels of the record → numbers; `examiner`: examiner's citations of the anchors; `negatives`: how many
    pairs wanted kind i and got j, or none (kinds, kinds + 1).
    """

    def __init__(self, patents: Patents, mining: Mining, where: Sections, seed: int) -> None:
        """Nothing yet. `seed` is that of the graph."""
        self.patents, self.mining, self.where, self.seed = patents, mining, where, seed
        self._columns = {label: column for label, column in _COUNTED.items() if where.exist or column != "sharing"}
        labels = ("anchors that cite inside the table", *self._columns, "… not across splits")
        labels = (*labels, "positives up to --per-anchor, with coupled ones", "… with a negative")
        self.counts = dict.fromkeys(labels, 0)
        self.examiner = 0
        self.negatives = np.zeros((len(KINDS), len(KINDS) + 1), np.int64)
        self._triplets: list[pd.DataFrame] = []
        self._cited: list[np.ndarray] = []

    def add(self, answers: Mapping[str, pa.Table]) -> None:
        """Take the answers of one batch: part of the query → its rows."""
        pairs = positives(answers, self.mining, self.seed)
        triplets, table = negatives(pairs, answers, self.mining, self.patents.family, self.seed)
        anchor = triplets["anchor"].to_numpy()
        self._triplets.append(triplets.assign(order=self.patents.bucket[anchor], split=self.patents.split[anchor]))
        cited = answers["cited"]
        self._cited.append(np.stack(members(cited, "relevant"), axis=1))
        self.negatives += table
        self.examiner += len(members(cited, "examiner")[0])
        self.counts["anchors that cite inside the table"] += len(cited)
        for label, column in self._columns.items():
            self.counts[label] += pc.sum(cited[column]).as_py() or 0
        self.counts["… not across splits"] += len(members(cited, "positives")[0])
        self.counts["positives up to --per-anchor, with coupled ones"] += len(pairs)
        self.counts["… with a negative"] += len(triplets)

    def triplets(self) -> pd.DataFrame:
        """All triplets so far: anchor, positive, negative (ranks), positive_kind, kind, nth, order, split."""
        if len(self._triplets) > 1:  # and the parts are freed
            self._triplets = [pd.concat(self._triplets, ignore_index=True)]
        return self._triplets[0]

    def take(self) -> pd.DataFrame:
        """The same, which are forgotten here, so that their memory is free when the caller needs them no more."""
        taken, self._triplets = self.triplets(), []
        return taken

    def cited(self) -> np.ndarray:
        """The held-out queries and what they cite, (n, 2) ranks."""
        return np.concatenate(self._cited)

    def are_enough(self) -> bool:
        """Whether no further anchors are needed for the requested number of train triplets."""
        return self.mining.count is not None and are_enough(self.triplets(), self.mining, self.where)

    def in_split(self, split: str) -> np.ndarray:
        """Mask (N,) of the patents of a split."""
        return self.patents.split == SPLITS.index(split)
