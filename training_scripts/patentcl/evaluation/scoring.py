"""One pass over the held-out patents: each ranker scores each patent once, and what the metrics need is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sklearn.preprocessing import MultiLabelBinarizer

from ..common.hashing import mix
from .held_out import PARTS, HeldOut
from .rankers import Ranker, best_first, fuse, ranks_among

BLOCK = 64  # patents scored at once
CANDIDATES, MOST_RELEVANT = 25, 5  # of the re-ranking
NEIGHBOURS = 8  # of the CPC prediction

Candidates = list[tuple[np.ndarray, np.ndarray]]  # of each query: rows of relevant patents, and of others


@dataclass
class Outcome:
    """What a ranker, or a fusion of several, made of the held-out patents; every metric is computed from this.

    `ranks`: part ("" for all) → (R,) rank of each pair's relevant patent in its query's ranking, 0 outside the part;
    `triplets` (T, 2): scores of the anchor with the positive and with the negative; `first_hits`: "random" or "hard" →
    (Q,) rank of the first relevant patent among the candidates; `nearest` (P, 8): rows of the patents nearest to each
    of the `tested` (P,). A `quick` pass leaves out parts, candidates and tested patents.
    """

    held_out: HeldOut
    seed: int
    ranks: dict[str, np.ndarray]
    triplets: np.ndarray
    first_hits: dict[str, np.ndarray]
    tested: np.ndarray
    nearest: np.ndarray
    quick: bool = False
    embeddings: np.ndarray | None = None

    @cached_property
    def subclasses(self) -> tuple[np.ndarray, np.ndarray]:
        """True and predicted CPC subclasses (P, S) of the tested patents: those of more than half of the nearest."""
        labels = MultiLabelBinarizer().fit_transform(self.held_out.texts["subclasses"]).astype(np.uint8)
        return labels[self.tested], (labels[self.nearest].mean(axis=1) > 0.5).astype(np.uint8)


class _Block:
    """Patents `rows` (q,) and their scores (q, N) by a ranker, or by several that are fused."""

    def __init__(self, rows: np.ndarray, scores: list[np.ndarray], orders: list[np.ndarray]) -> None:
        self.rows, self.scores, self.orders = rows, scores, orders
        self.place = np.full(scores[0].shape[1], -1)  # of each text in the block
        self.place[rows] = np.arange(len(rows))

    def find(self, patents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of the `patents` are in the block, as indices, and their places in it."""
        chosen = np.flatnonzero(self.place[patents] >= 0)
        return chosen, self.place[patents[chosen]]

    def scores_among(self, mask: np.ndarray) -> np.ndarray:
        """Scores (q, N); in a fusion, texts outside `mask` (q, N) take no rank."""
        if len(self.scores) == 1:
            return self.scores[0]
        return fuse([ranks_among(order, mask) for order in self.orders])

    def ranks_among(self, mask: np.ndarray) -> np.ndarray:
        """Ranks (q, N) among the texts of `mask` (q, N)."""
        order = self.orders[0] if len(self.orders) == 1 else best_first(self.scores_among(mask))
        return ranks_among(order, mask)


def score(
    rankers: Mapping[str, Ranker],
    held_out: HeldOut,
    seed: int = 42,
    fusions: Mapping[str, Sequence[str]] | None = None,
    quick: bool = False,
) -> dict[str, Outcome]:
    """Return the outcome of each ranker, and of each fusion (name → names of the rankers)."""
    queries, pairs = held_out.queries, len(held_out.pairs)
    known = held_out.classified & ~held_out.in_split
    tested = np.flatnonzero(held_out.classified & held_out.in_split & (not quick and known.sum() >= NEIGHBOURS))
    candidates = {} if quick else {kind: _candidates(held_out, kind, seed) for kind in ("random", "hard")}
    members = {name: [name] for name in rankers} | dict(fusions or {})
    outcomes = {
        name: Outcome(
            held_out,
            seed,
            ranks={part: np.zeros(pairs, int) for part in ([""] if quick else ["", *PARTS])},
            triplets=np.zeros((len(held_out.triplets), 2)),
            first_hits={kind: np.zeros(len(queries)) for kind in candidates},
            tested=tested,
            nearest=np.zeros((len(tested), NEIGHBOURS), int),
            quick=quick,
        )
        for name in members
    }
    others = np.setdiff1d(np.concatenate([held_out.triplets[:, 0], tested]), queries)
    patents = np.concatenate([queries, others])
    for start in range(0, len(patents), BLOCK):
        rows = patents[start : start + BLOCK]
        scores = {name: ranker(rows) for name, ranker in rankers.items()}
        orders = {name: best_first(scores[name]) for name in rankers}
        for name, names in members.items():
            block = _Block(rows, [scores[n] for n in names], [orders[n] for n in names])
            _rank_relevant(block, outcomes[name])
            _score_triplets(block, outcomes[name])
            for kind in candidates:
                outcomes[name].first_hits[kind] += _first_hits(block, queries, candidates[kind])
            _find_nearest(block, known, outcomes[name])
    return outcomes


def _rank_relevant(block: _Block, outcome: Outcome) -> None:
    """Rank the relevant patents of each part; those of other parts are removed from the search."""
    chosen, places = block.find(outcome.held_out.pairs[:, 0])
    relevant = outcome.held_out.pairs[chosen, 1]
    for part, ranks in outcome.ranks.items():
        wanted = outcome.held_out.parts[part][chosen] if part else np.ones(len(chosen), bool)
        if wanted.any():
            visible = ~outcome.held_out.hidden(block.rows)
            visible[places[~wanted], relevant[~wanted]] = False
            ranks[chosen[wanted]] = block.ranks_among(visible)[places[wanted], relevant[wanted]]


def _score_triplets(block: _Block, outcome: Outcome) -> None:
    """Score the positive and the negative; in a fusion, the anchor's family takes no rank."""
    triplets, family = outcome.held_out.triplets, outcome.held_out.family
    chosen, places = block.find(triplets[:, 0])
    if len(chosen):
        scores = block.scores_among(family[block.rows][:, None] != family)
        outcome.triplets[chosen] = scores[places[:, None], triplets[chosen, 1:]]


def _candidates(held_out: HeldOut, kind: str, seed: int) -> Candidates:
    """Draw at most 5 relevant patents of each query, and 25 others.

    The others are drawn from all patents ("random"), or from the query's CPC section as long as it has any ("hard").
    """
    section, (queries, relevant) = held_out.texts["section"].to_numpy(), held_out.pairs.T
    number = np.arange(len(section))
    key = mix(number, seed)
    chosen = []
    for query in held_out.queries:
        drawn = mix(number ^ int(key[query] >> np.uint64(20)), seed)
        is_far = (kind == "hard") & ((section != section[query]) | (section == ""))
        order = np.lexsort((drawn, is_far))
        cited = relevant[queries == query]
        eligible = ~held_out.hidden(np.array([query]))[0]
        eligible[cited] = False
        chosen.append((cited[np.argsort(drawn[cited])][:MOST_RELEVANT], order[eligible[order]][:CANDIDATES]))
    return chosen


def _first_hits(block: _Block, queries: np.ndarray, candidates: Candidates) -> np.ndarray:
    """Ranks (Q,) of the first relevant patent among the candidates, last of equal scores; 0 outside the block."""
    chosen, places = block.find(queries)
    among = np.zeros((len(block.rows), len(block.place)), bool)
    for number, place in zip(chosen, places, strict=True):
        among[place, np.concatenate(candidates[number])] = True
    scores, first = block.scores_among(among), np.zeros(len(queries))
    for number, place in zip(chosen, places, strict=True):
        cited, others = candidates[number]
        first[number] = 1 + (scores[place, others] >= scores[place, cited].max()).sum()
    return first


def _find_nearest(block: _Block, known: np.ndarray, outcome: Outcome) -> None:
    """Find the nearest of the `known` patents (N,) of each tested one."""
    chosen, places = block.find(outcome.tested)
    if len(chosen):
        ranks = block.ranks_among(np.broadcast_to(known, (len(block.rows), len(known))))[places]
        outcome.nearest[chosen] = np.argpartition(ranks, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
