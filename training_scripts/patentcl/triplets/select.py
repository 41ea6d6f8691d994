"""Answers of the graph → triplets: ordered positives, a negative for each, splits and the requested number.

Everything here is arithmetic on ranks, so both engines and batches of any size give the same triplets.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..common.hashing import mix
from ..tables.cpc import Sections
from ..tables.family import PLACES
from .options import KINDS, MAX_HELD_OUT, Mining, P

Keep = Callable[[pd.DataFrame], np.ndarray]  # rows with anchor, positive, negative (ranks) → which to keep, (n,) bool

CANDIDATES_PER_KEPT = 2  # with a filter of negatives, so many train triplets are mined for each that is needed


def held_out(patents: int, mining: Mining) -> tuple[int, int]:
    """Bounds of the places: test lies below the first, val below the second."""
    test, val = (min(share, MAX_HELD_OUT / patents) for share in (mining.test, mining.val))
    return round(test * PLACES), round((test + val) * PLACES)


def split_names(places: np.ndarray, test: int, held: int) -> np.ndarray:
    """Split of each place, (n,) → (n,) of "train", "val", "test"."""
    return np.where(places < test, "test", np.where(places < held, "val", "train")).astype(object)


def positives(answers: Mapping[str, pd.DataFrame], mining: Mining, seed: int) -> pd.DataFrame:
    """At most `per_anchor` positives of each anchor: columns anchor, positive, positive_kind, nth (from 0).

    Cited ones come in seeded order, coupled ones by how many citations they share with the anchor.
    """
    pairs = _explode(answers["cited"], positive="positives")
    by_examiner = _in(pairs, _explode(answers["cited"], positive="examiner"))
    pairs["positive_kind"] = np.where(by_examiner, "examiner", "cited")
    pairs["tier"] = np.where(by_examiner | (mining.positives != "examiner"), 0, 1)
    pairs["shared"] = 0
    if "coupled" in answers:
        coupled = _explode(answers["coupled"], positive="coupled", shared="shared")
        coupled = coupled[~_in(coupled, pairs)].assign(positive_kind="coupled", tier=2)
        pairs = pd.concat([pairs, coupled], ignore_index=True)
    pairs["key"] = mix(pairs["positive"].to_numpy() * P + pairs["anchor"].to_numpy(), seed)
    pairs = pairs.sort_values(["anchor", "tier", "shared", "key"], ascending=[True, True, False, True])
    pairs["nth"] = pairs.groupby("anchor").cumcount()
    columns = ["anchor", "positive", "positive_kind", "nth"]
    return pairs.loc[pairs["nth"] < mining.per_anchor, columns].reset_index(drop=True)


def _explode(answers: pd.DataFrame, **lists: str) -> pd.DataFrame:
    """A row for each member of lists: anchor and the columns `lists`, named by their keywords."""
    rows = answers[["anchor", *lists.values()]].explode(list(lists.values())).dropna()
    return rows.set_axis(["anchor", *lists], axis=1).astype(np.int64).reset_index(drop=True)


def _in(pairs: pd.DataFrame, others: pd.DataFrame) -> np.ndarray:
    """Whether each pair of anchor and positive is one of `others`, (n,)."""
    ends = ["anchor", "positive"]
    return pd.MultiIndex.from_frame(pairs[ends]).isin(pd.MultiIndex.from_frame(others[ends]))


def negatives(
    pairs: pd.DataFrame, answers: Mapping[str, pd.DataFrame], mining: Mining, family: np.ndarray, seed: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Give each pair a negative of a kind drawn by its share, else of the next kind; count wanted → got.

    `family` (N,) by rank: a patent of the family of one of the anchor's positives is no negative, since it has the
    text of that positive.
    """
    uniform = mix(pairs["anchor"].to_numpy() * 1009 + pairs["nth"].to_numpy(), seed + 1) / 2.0**64
    bounds = np.cumsum([mining.shares[kind] for kind in KINDS])
    wanted = np.minimum(np.searchsorted(bounds, uniform, side="right"), len(KINDS) - 1)
    offered = _offered(pairs, answers, family)
    negative, got = np.full(len(pairs), -1), np.full(len(pairs), -1)
    for step in range(len(KINDS)):
        kind = (wanted + step) % len(KINDS)
        candidate = offered[np.arange(len(pairs)), kind]
        take = (negative < 0) & (candidate >= 0)
        negative[take], got[take] = candidate[take], kind[take]
    table = {(a, b): int(((wanted == i) & (got == j)).sum()) for i, a in enumerate(KINDS) for j, b in enumerate(KINDS)}
    counts = {
        "wanted": {kind: int((wanted == i).sum()) for i, kind in enumerate(KINDS)},
        "got": {kind: int((got == i).sum()) for i, kind in enumerate(KINDS)},
        "fell back": {f"{a} → {b}": count for (a, b), count in table.items() if a != b},
        "none found": int((got < 0).sum()),
    }
    triplets = pairs.assign(negative=negative, kind=np.array(KINDS)[got])
    return triplets[got >= 0], counts


def _offered(pairs: pd.DataFrame, answers: Mapping[str, pd.DataFrame], family: np.ndarray) -> np.ndarray:
    """The negative of each kind that a pair may take, (n, kinds); -1 where there is none."""
    anchors = pd.Index(pairs["anchor"])
    near = pd.MultiIndex.from_arrays([anchors, family[pairs["positive"]]])
    columns = []
    for kind in KINDS:
        negative = answers[kind].set_index("anchor")["negative"].reindex(anchors, fill_value=-1).to_numpy()
        twin = pd.MultiIndex.from_arrays([anchors, family[negative]]).isin(near)
        columns.append(np.where(twin, -1, negative))
    return np.stack(columns, axis=1)


def choose(triplets: pd.DataFrame, mining: Mining, where: Sections, keep: Keep | None) -> tuple[pd.DataFrame, int]:
    """The first triplets of each split in a seeded order, and how many train triplets `keep` dropped on the way.

    Sections take turns in proportion to the corpus, and within a section an anchor's second positive comes after all
    first ones. A smaller number is a prefix of a larger one, so sizes are nested.
    """
    limits = {"train": mining.count, "val": mining.max_queries, "test": mining.max_queries}
    chosen, dropped = [], 0
    for split, limit in limits.items():
        ordered = _taking_turns(triplets[triplets["split"] == split], where)
        limit = len(ordered) if limit is None else limit
        if split == "train" and keep is not None:
            ordered, dropped = _filtered(ordered, limit, keep)
        chosen.append(ordered.head(limit))
    rows = pd.concat(chosen, ignore_index=True)
    rows["position"] = np.arange(len(rows))
    return rows, dropped


def _filtered(ordered: pd.DataFrame, limit: int, keep: Keep) -> tuple[pd.DataFrame, int]:
    """The first `limit` rows or more that `keep` keeps, and how many it dropped; it looks at `limit` rows at a time."""
    kept, looked, limit = ordered.iloc[:0], 0, max(limit, 1)
    while len(kept) < limit and looked < len(ordered):
        page = ordered.iloc[looked : looked + limit]
        kept = pd.concat([kept, page[keep(page)]])
        looked += len(page)
    return kept, looked - len(kept)


def _taking_turns(triplets: pd.DataFrame, where: Sections) -> pd.DataFrame:
    section = where.of(triplets["anchor"].to_numpy())
    ordered = triplets.assign(section=section).sort_values(["nth", "order", "anchor"])
    index = ordered.groupby("section").cumcount().to_numpy()
    ordered["turn"] = (index + 0.5) / where.share[ordered["section"].to_numpy()]
    return ordered.sort_values(["turn", "nth", "order", "anchor"])


def are_enough(answers: Mapping[str, pd.DataFrame], mining: Mining, where: Sections, held: int) -> bool:
    """Whether the anchors read so far hold the first `mining.count` train triplets in the order of all anchors.

    They do when no section has used up its anchors' first positives before that many are taken.
    """
    if mining.count is None:
        return False
    cited, coupled = answers["cited"], answers.get("coupled")
    anchors = cited.loc[(cited["place"] >= held) & (cited["positives"].str.len() > 0), "anchor"].to_numpy()
    if coupled is not None:
        anchors = np.union1d(anchors, coupled["anchor"].to_numpy())
    anchors = anchors[np.isin(anchors, np.concatenate([answers[kind]["anchor"].to_numpy() for kind in KINDS]))]
    count = np.bincount(where.of(anchors), minlength=len(where.first))
    used_up = ((count + 0.5) / where.share).min(initial=np.inf)  # the turn at which the first section runs out
    before = np.clip(np.ceil(used_up * where.share - 0.5), 0, count)
    return bool(before.sum() >= mining.count * (CANDIDATES_PER_KEPT if mining.filter_model else 1))


def retrieval_pairs(cited: pd.DataFrame, split_of: np.ndarray, mining: Mining, seed: int) -> pd.DataFrame:
    """Held-out queries and the patents that they cite: columns query, relevant (ranks), split.

    `split_of` (N,): the split of each rank.
    """
    pairs = _explode(cited, relevant="relevant").rename(columns={"anchor": "query"})
    pairs = pairs.sort_values(["query", "relevant"], ignore_index=True)
    queries = pairs["query"].unique()
    queries = queries[np.argsort(mix(queries, seed + 2), kind="stable")]
    kept = [queries[split_of[queries] == split][: mining.max_queries] for split in ("val", "test")]
    pairs = pairs[pairs["query"].isin(np.concatenate(kept))].reset_index(drop=True)
    return pairs.assign(split=split_of[pairs["query"].to_numpy()])


def corpus_to_search(retrieval: pd.DataFrame, ranks: np.ndarray, mining: Mining, seed: int) -> pd.DataFrame:
    """The patents to search: all, or the queries with what they cite filled up to `corpus` with a seeded sample."""
    used = pd.unique(retrieval[["query", "relevant"]].to_numpy().ravel())
    order = ranks[np.argsort(mix(ranks, seed + 3), kind="stable")]
    others = order[~np.isin(order, used)]
    if mining.corpus:
        others = others[: max(0, mining.corpus - len(used))]
    return pd.DataFrame({"rank": np.sort(np.concatenate([used, others]).astype(np.int64))})
