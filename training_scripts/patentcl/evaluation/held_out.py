"""What is evaluated on: the held-out patents of one split, their triplets, and what they cite."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..common.hashing import mix
from ..tables.cpc import class_of
from ..triplets.dataset import ROLES, Dataset

PARTS = ("IN", "OUT", "known", "unseen")


@dataclass(frozen=True)
class EvaluationSet:
    """The texts that one split's evaluation needs, and triplets and pairs as rows of them.

    `triplets` (T, 3) anchor, positive, negative; `kind` (T,) of the negative; `pairs` (R, 2) query, relevant;
    `family` (N,) numbers; `corpus` (N,) masks the texts to search, `parts` the pairs (R,) of each of `PARTS`. `split`
    is what is evaluated on.
    """

    texts: pd.DataFrame
    triplets: np.ndarray
    kind: np.ndarray
    pairs: np.ndarray
    family: np.ndarray
    corpus: np.ndarray
    parts: dict[str, np.ndarray]
    split: str = "test"

    def hidden(self, rows: np.ndarray) -> np.ndarray:
        """What a search for `rows` (q,) does not see, (q, N): texts outside the corpus, and the query's family."""
        return ~self.corpus | (self.family[rows][:, None] == self.family)


def evaluation_set(data: Dataset, split: str, most_texts: int = 0, seed: int = 42) -> EvaluationSet:
    """What is needed to evaluate on `split`; the corpus is cut to about `most_texts` (0: not cut), seeded."""
    triplets = data.triplets[data.triplets["split"] == split]
    pairs = data.retrieval[data.retrieval["split"] == split]
    roles = list(ROLES)
    needed = pd.unique(
        np.concatenate([triplets[roles].to_numpy().ravel(), pairs[["query_id", "relevant_id"]].to_numpy().ravel()])
    )
    is_needed = data.texts["patent_id"].isin(needed).to_numpy()
    chosen = data.texts["in_corpus"].to_numpy().copy()
    if split == "val":  # its queries cite test patents, too, which are neither right nor wrong answers here
        chosen &= (data.texts["split"] != "test").to_numpy()
    if most_texts and chosen.sum() > most_texts:
        order = np.argsort(mix(np.arange(len(chosen)), seed), kind="stable")
        others = order[chosen[order] & ~is_needed[order]]
        chosen[others[max(0, most_texts - int(is_needed.sum())) :]] = False
    texts = data.texts[chosen | is_needed].reset_index(drop=True)
    row = pd.Series(np.arange(len(texts)), index=texts["patent_id"])
    queries, relevant = row[pairs["query_id"]].to_numpy(), row[pairs["relevant_id"]].to_numpy()
    return EvaluationSet(
        texts,
        np.stack([row[triplets[role]].to_numpy() for role in roles], axis=1),
        triplets["negative_kind"].to_numpy(),
        np.stack([queries, relevant], axis=1),
        texts["family"].to_numpy(),
        texts["in_corpus"].to_numpy() & chosen[chosen | is_needed],
        _parts(data, texts, queries, relevant),
        split,
    )


def _parts(data: Dataset, texts: pd.DataFrame, queries: np.ndarray, relevant: np.ndarray) -> dict[str, np.ndarray]:
    """Masks (R,) of the pairs in each of `PARTS`; a pair without classes, or untrained and not held out, is in none."""
    classes = [{class_of(symbol) for symbol in symbols} for symbols in texts["subclasses"]]
    both = [(classes[q], classes[r]) for q, r in zip(queries, relevant, strict=True)]
    seen = data.texts.loc[data.texts["patent_id"].isin(data.ids_in("train")), "family"]
    return {
        "IN": np.array([bool(q & r) for q, r in both], dtype=bool),
        "OUT": np.array([bool(q and r) and not q & r for q, r in both], dtype=bool),
        "known": texts["family"].isin(seen).to_numpy()[relevant],
        "unseen": (texts["split"] != "train").to_numpy()[relevant],
    }
