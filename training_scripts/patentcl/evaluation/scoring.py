"""One pass over the held-out patents: each ranker scores each patent once, and what the metrics need is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from sklearn.preprocessing import MultiLabelBinarizer

from ..common.hashing import mix
from .held_out import PARTS, HeldOut
from .rankers import Ranker, best_first, fuse, ranks_among

BLOCK = 64  # patents scored at once
CANDIDATES, MOST_RELEVANT = 25, 5  # of the re-ranking
NEIGHBOURS = 8  # of the CPC prediction


@dataclass
class Outcome:
    """What a ranker, or a fusion of several, made of the held-out patents; every metric is computed from this.

    `ranks`: part ("" for all) → (R,) rank of each pair's relevant patent in its query's ranking, 0 outside the part;
    `triplets` (T, 2): scores of the anchor with the positive and with the negative; `first_hits`: "random" or "hard" →
    (Q,) rank of the first relevant patent among the candidates; `nearest` (P, 8): rows of the patents nearest to each
    of the `tested` (P,). A quick pass leaves out parts, candidates and nearest patents.
    """

    held_out: HeldOut
    seed: int
    ranks: dict[str, np.ndarray]
    triplets: np.ndarray
    first_hits: dict[str, np.ndarray]
    tested: np.ndarray
    nearest: np.ndarray | None
    embeddings: np.ndarray | None = field(default=None)

    def ranks_by_query(self, part: str = "") -> list[np.ndarray]:
        """Return the ascending ranks of each query's relevant patents, of the queries that have any in `part`."""
        chosen = np.flatnonzero(self.ranks[part])
        chosen = chosen[np.lexsort((self.ranks[part][chosen], self.held_out.pairs[chosen, 0]))]
        starts = np.unique(self.held_out.pairs[chosen, 0], return_index=True)[1]
        return np.split(self.ranks[part][chosen], starts[1:]) if len(chosen) else []

    @cached_property
    def subclasses(self) -> tuple[np.ndarray, np.ndarray] | None:
        """True and predicted CPC subclasses (P, S) of the tested patents: those of more than half of the nearest."""
        if self.nearest is None:
            return None
        labels = MultiLabelBinarizer().fit_transform(self.held_out.texts["subclasses"]).astype(np.uint8)
        return labels[self.tested], (labels[self.nearest].mean(axis=1) > 0.5).astype(np.uint8)


class _Block:
    """Patents `rows` (q,) and their scores by each ranker; `at` (N,) is a patent's place in the block, -1 outside."""

    def __init__(self, held_out: HeldOut, rows: np.ndarray, rankers: Mapping[str, Ranker]) -> None:
        self.held_out, self.rows = held_out, rows
        self.at = np.full(len(held_out.texts), -1)
        self.at[rows] = np.arange(len(rows))
        self.scores = {name: ranker(rows) for name, ranker in rankers.items()}
        self.order = {name: best_first(scores) for name, scores in self.scores.items()}

    def scores_among(self, names: Sequence[str], mask: np.ndarray) -> np.ndarray:
        """Scores (q, N) by one ranker or a fusion; what a search does not see takes no rank in a fusion."""
        if len(names) == 1:
            return self.scores[names[0]]
        return fuse([ranks_among(self.order[name], mask) for name in names])

    def ranks_among(self, names: Sequence[str], mask: np.ndarray) -> np.ndarray:
        """Ranks (q, N) among the texts of `mask` (q, N)."""
        order = self.order[names[0]] if len(names) == 1 else best_first(self.scores_among(names, mask))
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
            nearest=None if quick else np.zeros((len(tested), NEIGHBOURS), int),
        )
        for name in members
    }
    others = np.setdiff1d(np.concatenate([held_out.triplets[:, 0], tested]), queries)
    rows = np.concatenate([queries, others])
    for start in range(0, len(rows), BLOCK):
        block = _Block(held_out, rows[start : start + BLOCK], rankers)
        for name, names in members.items():
            _rank_relevant(block, names, outcomes[name].ranks)
            _score_triplets(block, names, outcomes[name].triplets)
            for kind in candidates:
                _rerank(block, names, candidates[kind], outcomes[name].first_hits[kind])
            _find_nearest(block, names, known, outcomes[name])
    return outcomes


def _rank_relevant(block: _Block, names: Sequence[str], ranks: dict[str, np.ndarray]) -> None:
    """Rank the relevant patents of each part; those of other parts are removed from the search."""
    queries, relevant = block.held_out.pairs.T
    inside = block.at[queries] >= 0
    for part in ranks:
        wanted = block.held_out.parts[part] if part else np.ones(len(queries), bool)
        chosen, others = np.flatnonzero(inside & wanted), inside & ~wanted
        if len(chosen):
            visible = ~block.held_out.hidden(block.rows)
            visible[block.at[queries[others]], relevant[others]] = False
            ranks[part][chosen] = block.ranks_among(names, visible)[block.at[queries[chosen]], relevant[chosen]]


def _score_triplets(block: _Block, names: Sequence[str], scores: np.ndarray) -> None:
    """Score the positive and the negative; in a fusion, the anchor's family takes no rank."""
    held_out = block.held_out
    chosen = np.flatnonzero(block.at[held_out.triplets[:, 0]] >= 0)
    if len(chosen):
        strangers = held_out.family[block.rows][:, None] != held_out.family
        anchors = block.at[held_out.triplets[chosen, :1]]
        scores[chosen] = block.scores_among(names, strangers)[anchors, held_out.triplets[chosen, 1:]]


def _candidates(held_out: HeldOut, kind: str, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of at most 5 relevant patents of each query, and of 25 others.

    The others are drawn from all patents ("random"), or from the query's CPC section as long as it has any ("hard").
    """
    section, (queries, relevant) = held_out.texts["section"].to_numpy(), held_out.pairs.T
    number = np.arange(len(section))
    key = mix(number, seed)
    chosen = []
    for query in held_out.queries:
        drawn = mix(number ^ int(key[query] >> np.uint64(20)), seed)
        is_far = (section != section[query]) | (section == "") if kind == "hard" else np.zeros(len(number), bool)
        order = np.lexsort((drawn, is_far))
        cited = relevant[queries == query]
        eligible = ~held_out.hidden(np.array([query]))[0]
        eligible[cited] = False
        chosen.append((cited[np.argsort(drawn[cited])][:MOST_RELEVANT], order[eligible[order]][:CANDIDATES]))
    return chosen


def _rerank(
    block: _Block, names: Sequence[str], candidates: list[tuple[np.ndarray, np.ndarray]], first_hits: np.ndarray
) -> None:
    """Rank the first relevant patent among the candidates; of equal scores it comes last."""
    places = block.at[block.held_out.queries]
    chosen = np.flatnonzero(places >= 0)
    among = np.zeros((len(block.rows), len(block.at)), bool)
    for number in chosen:
        among[places[number], np.concatenate(candidates[number])] = True
    scores = block.scores_among(names, among)
    for number in chosen:
        row, (cited, others) = scores[places[number]], candidates[number]
        first_hits[number] = 1 + (row[others] >= row[cited].max()).sum()


def _find_nearest(block: _Block, names: Sequence[str], known: np.ndarray, outcome: Outcome) -> None:
    """Find the nearest of the `known` patents (N,) of each tested one."""
    places = block.at[outcome.tested]
    chosen = np.flatnonzero(places >= 0)
    if len(chosen) and outcome.nearest is not None:
        ranks = block.ranks_among(names, np.broadcast_to(known, (len(block.rows), len(known))))[places[chosen]]
        outcome.nearest[chosen] = np.argpartition(ranks, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
