"""Answers of the graph → triplets: ordered positives, a negative for each, splits and the requested number.

All is arithmetic on ranks, so both engines and batches of any size give the same triplets. PatentsView has 20 million,
so kinds and splits are small integers: indices of `KINDS`, `POSITIVES` and `SPLITS`.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..common.hashing import mix
from ..tables.cpc import Sections
from ..tables.family import BUCKETS
from .options import KINDS, SPLITS, Mining, P, Positives
from .patents import Patents

Keep = Callable[[pd.DataFrame], np.ndarray]  # rows with anchor, positive, negative (ranks) → which to keep, (n,) bool

_TYPES = {"anchor": "i4", "positive": "i4", "negative": "i4", "nth": "i4", "kind": "i1", "positive_kind": "i1"}
POSITIVES = get_args(Positives)
# A column of the answers → the count of the record that sums it.
_SUMS = {
    "cited": "citation pairs inside the table",
    "with_abstract": "… both with an abstract",
    "sharing": "… sharing a CPC subclass",
    "other_family": "… of different families",
}
CANDIDATES_PER_KEPT = 2  # with a filter of negatives, so many train triplets are mined for each that is needed


@dataclass
class Candidates:
    """The triplets that the answers allow; `seed` is that of the graph.

    `parts`: triplets (ranks `anchor`, `positive`, `negative`; `positive_kind`, `kind`, `nth`, `order`, `split`);
    `cited`: held-out queries and what they cite, (n, 2) ranks; `counts`: labels of the record → numbers; `examiner`:
    number of the examiner's citations; `negatives` (kinds, kinds + 1): how many pairs wanted kind i and got j, or none.
    """

    patents: Patents
    mining: Mining
    seed: int
    parts: list[pd.DataFrame] = field(default_factory=list)
    cited: list[np.ndarray] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    examiner: int = 0
    negatives: np.ndarray = field(default_factory=lambda: np.zeros((len(KINDS), len(KINDS) + 1), np.int64))

    def add(self, answers: Mapping[str, pa.Table]) -> None:
        """Take the answers of one batch: part of the query → its rows."""
        cited, patents = answers["cited"], self.patents
        pairs = positives(answers, self.mining, self.seed)
        triplets, table = negatives(pairs, answers, self.mining, patents.family, self.seed)
        anchor = triplets["anchor"].to_numpy()
        self.parts.append(triplets.assign(order=patents.bucket[anchor], split=patents.split[anchor]))
        self.cited.append(np.stack(members(cited, "relevant"), axis=1))
        self.negatives += table
        self.examiner += len(members(cited, "examiner")[0])
        self.counts["anchors that cite inside the table"] += len(cited)
        for column, label in _SUMS.items():
            if patents.where.exist or column != "sharing":
                self.counts[label] += pc.sum(cited[column]).as_py() or 0
        self.counts["… not across splits"] += len(members(cited, "positives")[0])
        self.counts["positives up to --per-anchor, with coupled ones"] += len(pairs)
        self.counts["… with a negative"] += len(triplets)

    def triplets(self) -> pd.DataFrame:
        """All triplets so far, as one part."""
        self.parts = [pd.concat(self.parts, ignore_index=True)]
        return self.parts[0]


def positives(answers: Mapping[str, pa.Table], mining: Mining, seed: int) -> pd.DataFrame:
    """At most `per_anchor` positives of each anchor: columns anchor, positive, positive_kind, nth (from 0).

    Cited ones come in seeded order, coupled ones by how many citations they share with the anchor. Anchors ascend.
    """
    anchor, positive = members(answers["cited"], "positives")
    by_examiner = np.isin(_pair(anchor, positive), _pair(*members(answers["cited"], "examiner")))
    kind = np.where(by_examiner, POSITIVES.index("examiner"), POSITIVES.index("cited"))
    shared = np.zeros(len(anchor), np.int64)
    if "coupled" in answers:
        citing, coupled = members(answers["coupled"], "coupled")
        new = ~np.isin(_pair(citing, coupled), _pair(anchor, positive))
        anchor, positive = np.concatenate([anchor, citing[new]]), np.concatenate([positive, coupled[new]])
        shared = np.concatenate([shared, members(answers["coupled"], "shared")[1][new]])
        kind = np.concatenate([kind, np.full(new.sum(), POSITIVES.index("coupled"))])
    tier = np.array([mining.positives == "examiner", 0, 2])[kind]  # of cited, the examiner's and coupled ones
    order = np.lexsort((mix(positive * P + anchor, seed), -shared, tier, anchor))
    anchor = anchor[order]
    nth = np.arange(len(anchor)) - np.searchsorted(anchor, anchor)
    kept = nth < mining.per_anchor
    columns = {"anchor": anchor, "positive": positive[order], "positive_kind": kind[order], "nth": nth}
    return pd.DataFrame({name: column[kept].astype(_TYPES[name]) for name, column in columns.items()})


def members(answers: pa.Table, column: str) -> tuple[np.ndarray, np.ndarray]:
    """The members of the lists in `column`, and the anchor of each: anchors (n,), members (n,)."""
    lists = answers[column].combine_chunks()
    anchors = np.repeat(answers["anchor"].to_numpy(), lists.value_lengths().to_numpy())
    return anchors.astype(np.int64), lists.flatten().to_numpy().astype(np.int64)


def _pair(anchor: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """One integer for both ranks, (n,)."""
    return (anchor << 32) + positive


def negatives(
    pairs: pd.DataFrame, answers: Mapping[str, pa.Table], mining: Mining, family: np.ndarray, seed: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """Give each pair a negative of a kind drawn by its share, else of the next kind: columns negative, kind.

    Pairs that get none are left out. Also returns how many pairs wanted kind i and got kind j, or none (the last
    column): (kinds, kinds + 1). `family` (N,) by rank: a patent of the family of one of the anchor's positives is no
    negative, since it has the text of that positive.
    """
    uniform = mix(pairs["anchor"].to_numpy(np.int64) * 1009 + pairs["nth"].to_numpy(), seed + 1) / 2.0**64
    bounds = np.cumsum([mining.shares[kind] for kind in KINDS])
    wanted = np.minimum(np.searchsorted(bounds, uniform, side="right"), len(KINDS) - 1)
    offered = _offered(pairs, answers, family)
    kinds = (wanted[:, None] + np.arange(len(KINDS))) % len(KINDS)  # the wanted one, the next, …
    candidates = np.take_along_axis(offered, kinds, axis=1)
    first = (np.arange(len(pairs)), (candidates >= 0).argmax(axis=1))
    negative, got = candidates[first], np.where(candidates[first] < 0, len(KINDS), kinds[first])
    table = np.bincount(wanted * (len(KINDS) + 1) + got, minlength=len(KINDS) * (len(KINDS) + 1))
    triplets = pairs.assign(negative=negative.astype(_TYPES["negative"]), kind=got.astype(_TYPES["kind"]))
    return triplets[negative >= 0], table.reshape(len(KINDS), -1)


def _offered(pairs: pd.DataFrame, answers: Mapping[str, pa.Table], family: np.ndarray) -> np.ndarray:
    """The negative of each kind that a pair may take, (n, kinds); -1 where there is none."""
    columns = []
    for kind in KINDS:
        given = answers[kind].to_pandas().set_index("anchor")["negative"]
        negative = pairs["anchor"].map(given).fillna(-1).astype(np.int64)
        twin = pd.Series(family[negative] == family[pairs["positive"]], pairs.index)
        columns.append(negative.where(~twin.groupby(pairs["anchor"]).transform("any"), -1))
    return np.stack(columns, axis=1)


def choose(triplets: pd.DataFrame, mining: Mining, where: Sections, keep: Keep | None) -> tuple[pd.DataFrame, int]:
    """The first triplets of each split in a seeded order, and how many train triplets `keep` dropped on the way.

    Sections take turns in proportion to the corpus, and within a section an anchor's second positive comes after all
    first ones. A smaller number is a prefix of a larger one, so sizes are nested.
    """
    limits = {"train": mining.count, "val": mining.max_queries, "test": mining.max_queries}
    chosen, dropped = [], 0
    for number, split in enumerate(SPLITS):
        rows = _taking_turns(triplets, np.flatnonzero(triplets["split"] == number).astype(np.int32), where)
        if split == "train" and keep is not None:
            rows, dropped = _filtered(triplets, rows, mining.count, keep)
        chosen.append(rows[: limits[split]])
    return triplets.iloc[np.concatenate(chosen)].reset_index(drop=True), dropped


def _filtered(triplets: pd.DataFrame, rows: np.ndarray, limit: int | None, keep: Keep) -> tuple[np.ndarray, int]:
    """The first `limit` of the `rows` or more that `keep` keeps, and how many it dropped; it sees `limit` at a time."""
    limit = max(1, len(rows) if limit is None else limit)
    kept, looked = rows[:0], 0
    while len(kept) < limit and looked < len(rows):
        page = rows[looked : looked + limit]
        kept = np.concatenate([kept, page[keep(triplets.iloc[page])]])
        looked += len(page)
    return kept, looked - len(kept)


def _taking_turns(triplets: pd.DataFrame, rows: np.ndarray, where: Sections) -> np.ndarray:
    """The `rows` (n,) of triplets by the turns of their sections; in a section and at equal turns by nth and order."""
    anchor, order, nth = (triplets[name].to_numpy()[rows] for name in ("anchor", "order", "nth"))
    key = (nth.astype(np.int64) * BUCKETS + order) * (anchor.max(initial=0) + 1) + anchor  # one integer, below 2**63
    by_key = np.argsort(key).astype(np.int32)
    del order, nth, key  # twenty million of each are a lot
    section = where.of(anchor[by_key]).astype(np.min_scalar_type(len(where.first)))  # short integers sort in no time
    count = np.bincount(section, minlength=len(where.first))
    turn = np.empty(len(rows))
    turn[np.argsort(section, kind="stable")] = np.arange(0.5, len(rows))
    turn -= (np.cumsum(count) - count)[section]
    turn /= where.share[section]
    return rows[by_key[np.argsort(turn, kind="stable")]]


def are_enough(triplets: pd.DataFrame, mining: Mining, where: Sections) -> bool:
    """Whether the anchors read so far hold the first `mining.count` train triplets in the order of all anchors.

    They do when no section has used up its anchors' first positives before that many are taken.
    """
    first = (triplets["split"] == SPLITS.index("train")) & (triplets["nth"] == 0)
    count = np.bincount(where.of(triplets.loc[first, "anchor"].to_numpy()), minlength=len(where.first))
    used_up = ((count + 0.5) / where.share).min(initial=np.inf)  # the turn at which the first section runs out
    before = np.clip(np.ceil(used_up * where.share - 0.5), 0, count)
    return bool(before.sum() >= (mining.count or 0) * (CANDIDATES_PER_KEPT if mining.filter_model else 1))


def retrieval_pairs(cited: np.ndarray, split: np.ndarray, mining: Mining, seed: int) -> np.ndarray:
    """Held-out queries and the patents that they cite, ascending: (n, 2) ranks, for at most `max_queries` of a split.

    `cited` (m, 2): all these pairs; `split` (N,): the split of each rank.
    """
    cited = cited[np.lexsort(cited.T[::-1])]
    queries = np.unique(cited[:, 0])
    queries = queries[np.argsort(mix(queries, seed + 2), kind="stable")]
    held = [SPLITS.index(name) for name in ("val", "test")]
    kept = np.concatenate([queries[split[queries] == number][: mining.max_queries] for number in held])
    return cited[np.isin(cited[:, 0], kept)]


def corpus_to_search(retrieval: np.ndarray, ranks: np.ndarray, mining: Mining, seed: int) -> np.ndarray:
    """The patents to search, ascending ranks (n,).

    All `ranks` with what `retrieval` (m, 2) names, or the latter filled up to `corpus` with a seeded sample.
    """
    used = np.unique(retrieval)
    others = ranks[~np.isin(ranks, used)]
    if mining.corpus:
        order = np.argsort(mix(others, seed + 3), kind="stable")
        others = others[order[: max(0, mining.corpus - len(used))]]
    return np.sort(np.concatenate([used, others]))
