"""What the graph answered → triplets: positives in order, a negative for each, splits, and the size asked for.

Everything here is arithmetic on ranks, so both engines and any batches give the same triplets.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..common.hashing import mix
from ..tables.cpc import Sections
from .options import BEFORE_FILTER, KINDS, PLACES, Keep, Mining, P, check


def held_out(patents: int, mining: Mining) -> tuple[int, int]:
    """Bounds of the places: test lies below the first, val below the second."""
    check(mining)
    test = min(mining.test, mining.most_held_out / patents)
    val = min(mining.val, mining.most_held_out / patents)
    return round(test * PLACES), round((test + val) * PLACES)


def split_names(places: np.ndarray, test: int, held: int) -> np.ndarray:
    """Split of each place, (n,) → (n,) of "train", "val", "test"."""
    return np.where(places < test, "test", np.where(places < held, "val", "train")).astype(object)


def positives(found: Mapping[str, pd.DataFrame], mining: Mining, patents: int, seed: int) -> pd.DataFrame:
    """At most `per_anchor` positives of each anchor: columns anchor, positive, positive_kind, nth (from 0).

    Cited ones come in seeded order, coupled ones by how much they share with the anchor.
    """
    cited = _pairs(found["cited"], "positives")
    chosen_by = pd.MultiIndex.from_frame(_pairs(found["cited"], "examiner"))
    cited["positive_kind"] = np.where(pd.MultiIndex.from_frame(cited).isin(chosen_by), "examiner", "cited")
    cited["tier"] = ((cited["positive_kind"] == "cited") & (mining.positives == "examiner")).astype(int)
    cited["shared"] = 0
    tables = [cited]
    if "coupled" in found:
        coupled = _pairs(found["coupled"], "coupled")
        coupled["shared"], coupled["positive"] = coupled["positive"] // patents, coupled["positive"] % patents
        known = pd.MultiIndex.from_frame(cited[["anchor", "positive"]])
        coupled = coupled[~pd.MultiIndex.from_frame(coupled[["anchor", "positive"]]).isin(known)]
        tables.append(coupled.assign(positive_kind="coupled", tier=2))
    pairs = pd.concat(tables, ignore_index=True)
    pairs["key"] = mix(pairs["positive"].to_numpy() * P + pairs["anchor"].to_numpy(), seed)
    pairs = pairs.sort_values(["anchor", "tier", "shared", "key"], ascending=[True, True, False, True])
    pairs["nth"] = pairs.groupby("anchor").cumcount()
    columns = ["anchor", "positive", "positive_kind", "nth"]
    return pairs.loc[pairs["nth"] < mining.per_anchor, columns].reset_index(drop=True)


def _pairs(answers: pd.DataFrame, column: str) -> pd.DataFrame:
    """A row for each member of the lists in `column`: anchor, positive."""
    pairs = answers[["anchor", column]].explode(column).dropna()
    return pairs.set_axis(["anchor", "positive"], axis=1).astype(np.int64)


def negatives(
    pairs: pd.DataFrame, found: Mapping[str, pd.DataFrame], mining: Mining, family: np.ndarray, seed: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Give each pair a negative of a kind drawn by its share, else of the next kind; count wanted → got.

    A patent of the `family` (N,) by rank of any of the anchor's positives is none: it has the positive's very text.
    """
    uniform = mix(pairs["anchor"].to_numpy() * 1009 + pairs["nth"].to_numpy(), seed + 1) / 2.0**64
    bounds = np.cumsum([mining.negatives[kind] for kind in KINDS])
    wanted = np.minimum(np.searchsorted(bounds, uniform, side="right"), len(KINDS) - 1)
    offered = np.stack(
        [found[kind].set_index("anchor")["negative"].reindex(pairs["anchor"]).to_numpy(float) for kind in KINDS],
        axis=1,
    )
    near = pd.MultiIndex.from_arrays([pairs["anchor"], family[pairs["positive"]]])
    for candidates in offered.T:
        there = np.flatnonzero(~np.isnan(candidates))
        families = family[candidates[there].astype(np.int64)]
        twins = pd.MultiIndex.from_arrays([pairs["anchor"].to_numpy()[there], families]).isin(near)
        candidates[there[twins]] = np.nan
    negative, kind = np.full(len(pairs), np.nan), np.full(len(pairs), -1)
    for step in range(len(KINDS)):
        candidate = (wanted + step) % len(KINDS)
        value = offered[np.arange(len(pairs)), candidate]
        take = np.isnan(negative) & ~np.isnan(value)
        negative[take], kind[take] = value[take], candidate[take]
    counts = {
        "wanted": {k: int((wanted == i).sum()) for i, k in enumerate(KINDS)},
        "got": {k: int((kind == i).sum()) for i, k in enumerate(KINDS)},
        "fell back": {
            f"{a} → {b}": int(((wanted == i) & (kind == j)).sum())
            for i, a in enumerate(KINDS)
            for j, b in enumerate(KINDS)
            if i != j
        },
        "none found": int((kind < 0).sum()),
    }
    triplets = pairs[kind >= 0].copy()
    triplets["negative"] = negative[kind >= 0].astype(np.int64)
    triplets["kind"] = np.array(KINDS)[kind[kind >= 0]]
    return triplets, counts


def choose(triplets: pd.DataFrame, mining: Mining, where: Sections, keep: Keep | None) -> tuple[pd.DataFrame, int]:
    """The first triplets of each split in a seeded order; and how many train triplets `keep` dropped on the way.

    Sections take turns in the corpus' own proportions, and within a section an anchor's second positive comes after
    all first ones. A smaller number is a prefix of a larger one, so sizes are nested.
    """
    most = {"train": mining.triplets, "val": mining.most_queries, "test": mining.most_queries}
    chosen, dropped = [], 0
    for split, number in most.items():
        ordered = _taking_turns(triplets[triplets["split"] == split], where)
        wanted = len(ordered) if number is None else number
        if split == "train" and keep is not None:
            kept, looked, step = [ordered.iloc[:0]], 0, max(wanted, 1)
            while sum(map(len, kept)) < wanted and looked < len(ordered):
                some = ordered.iloc[looked : looked + step]
                good = some[keep(some)]
                dropped, looked = dropped + len(some) - len(good), looked + len(some)
                kept.append(good)
            ordered = pd.concat(kept)
        chosen.append(ordered.head(wanted))
    rows = pd.concat(chosen, ignore_index=True)
    rows["position"] = np.arange(len(rows))
    return rows, dropped


def _taking_turns(triplets: pd.DataFrame, where: Sections) -> pd.DataFrame:
    section = where.of(triplets["anchor"].to_numpy())
    ordered = triplets.assign(section=section).sort_values(["nth", "order", "anchor"])
    index = ordered.groupby("section").cumcount().to_numpy()
    ordered["turn"] = (index + 0.5) / where.share[ordered["section"].to_numpy()]
    return ordered.sort_values(["turn", "nth", "order", "anchor"])


def are_enough(found: Mapping[str, pd.DataFrame], mining: Mining, where: Sections, held: int) -> bool:
    """Whether the anchors read so far hold the first `mining.triplets` in the order of all anchors.

    They do when no section has used up its anchors' first positives before that many are taken.
    """
    assert mining.triplets is not None
    cited, coupled = found["cited"], found.get("coupled")
    train = cited.loc[(cited["place"] >= held) & (cited["positives"].str.len() > 0), "anchor"].to_numpy()
    anchors = train if coupled is None else np.union1d(train, coupled["anchor"].to_numpy())
    with_negative = np.concatenate([found[kind]["anchor"].to_numpy() for kind in KINDS])
    anchors = anchors[np.isin(anchors, with_negative)]
    count = np.bincount(where.of(anchors), minlength=len(where.first))
    used_up = ((count + 0.5) / where.share).min(initial=np.inf)  # the turn at which the first section runs out
    before = np.clip(np.ceil(used_up * where.share - 0.5), 0, count)
    wanted = mining.triplets * (BEFORE_FILTER if mining.filter_model else 1)
    return bool(before.sum() >= wanted)


def retrieval_pairs(cited: pd.DataFrame, split_of: np.ndarray, mining: Mining, seed: int) -> pd.DataFrame:
    """Held-out queries and the patents that they cite: columns query, relevant (ranks), split."""
    pairs = _pairs(cited, "relevant").set_axis(["query", "relevant"], axis=1)
    pairs = pairs.sort_values(["query", "relevant"], ignore_index=True)
    queries = pairs["query"].drop_duplicates().to_numpy()
    queries = queries[np.argsort(mix(queries, seed + 2), kind="stable")]
    kept = [queries[split_of[queries] == split][: mining.most_queries] for split in ("val", "test")]
    pairs = pairs[pairs["query"].isin(np.concatenate(kept))].reset_index(drop=True)
    pairs["split"] = split_of[pairs["query"].to_numpy()]
    return pairs


def corpus_to_search(retrieval: pd.DataFrame, ranks: np.ndarray, mining: Mining, seed: int) -> pd.DataFrame:
    """The patents to search: all, or the queries with what they cite filled up to `corpus` with a seeded sample."""
    asked = pd.unique(retrieval[["query", "relevant"]].to_numpy().ravel())
    order = ranks[np.argsort(mix(ranks, seed + 3), kind="stable")]
    others = order[~np.isin(order, asked)]
    if mining.corpus:
        others = others[: max(0, mining.corpus - len(asked))]
    return pd.DataFrame({"rank": np.sort(np.concatenate([asked, others]).astype(np.int64))})
