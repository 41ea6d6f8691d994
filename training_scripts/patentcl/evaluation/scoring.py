"""One pass over the held-out patents: each ranker scores each patent once, and what the metrics need is kept."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sklearn.preprocessing import MultiLabelBinarizer
from tqdm import tqdm

from ..common.hashing import mix
from .held_out import PARTS, HeldOut
from .rankers import Ranker, best_first, full_order, fuse

BLOCK = 64  # patents scored at once
DEPTH = 1_000  # ranks that are told apart
CANDIDATES, MOST_RELEVANT = 25, 5  # of the re-ranking
NEIGHBOURS, MOST_TESTED = 8, 4_000  # of the CPC prediction: neighbours, patents
BEYOND = 2**30  # the rank of what is not among the first `DEPTH`, or not searched


@dataclass
class Outcome:
    """What a ranker, or a fusion of several, made of the held-out patents; every metric is computed from this.

    `ranks`: part ("" for all) → for each query with relevant patents of the part, their ranks, ascending, or `BEYOND`;
    `triplets` (T, 2): scores of the anchor with the positive and with the negative; `first_hits`: "random" or "hard" →
    for each query the rank of the first relevant patent among the candidates; `nearest` (P, 8): rows of the patents
    nearest to each of the `tested` (P,). A `quick` pass leaves out parts, candidates and tested patents. A comparison
    adds the outcomes of BM25 (`words`) and of the base.
    """

    held_out: HeldOut
    seed: int
    tested: np.ndarray
    first_hits: dict[str, list[int]]
    quick: bool = False
    embeddings: np.ndarray | None = None
    words: "Outcome | None" = None
    base: "Outcome | None" = None

    def __post_init__(self) -> None:
        """Leave room for the ranks and scores."""
        self.ranks: defaultdict[str, list[np.ndarray]] = defaultdict(list)
        self.triplets = np.zeros((len(self.held_out.triplets), 2))
        self.nearest = np.zeros((len(self.tested), NEIGHBOURS), int)

    @cached_property
    def subclasses(self) -> tuple[np.ndarray, np.ndarray]:
        """CPC subclasses of the tested patents, (P, S) bool, and how many of the nearest have each, (P, S)."""
        labels = MultiLabelBinarizer().fit_transform(self.held_out.texts["subclasses"]).astype(np.uint8)
        return labels[self.tested] > 0, labels[self.nearest].sum(axis=1)


@dataclass
class _Ranking:
    """Scores (N,) of all texts for one patent by a ranker, or by several that are fused: then `orders`, best first."""

    scores: list[np.ndarray]
    orders: list[np.ndarray]

    def scores_among(self, mask: np.ndarray) -> np.ndarray:
        """Scores (N,); in a fusion, texts outside `mask` (N,) take no rank."""
        return self.scores[0] if len(self.scores) == 1 else fuse(self.orders, mask)

    def best_among(self, mask: np.ndarray, count: int) -> np.ndarray:
        """The first `count` texts of `mask` (N,), best first."""
        return best_first(np.where(mask, self.scores_among(mask), -np.inf), count)


def score(
    rankers: Mapping[str, Ranker],
    held_out: HeldOut,
    seed: int = 42,
    fusions: Mapping[str, Sequence[str]] | None = None,
    quick: bool = False,
) -> dict[str, Outcome]:
    """Return the outcome of each ranker, and of each fusion (name → names of the rankers)."""
    queries, voters, tested = held_out.queries, held_out.voters, np.empty(0, int) if quick else _tested(held_out, seed)
    kinds = [] if quick else ["random", "hard"] if held_out.classified.any() else ["random"]
    members = {name: [name] for name in rankers} | dict(fusions or {})
    fused = {name for names in members.values() for name in names if len(names) > 1}
    outcomes = {name: Outcome(held_out, seed, tested, {kind: [] for kind in kinds}, quick) for name in members}
    others = np.concatenate([held_out.triplets[:, 0], tested])
    patents = np.concatenate([queries, np.setdiff1d(others, queries)])
    with tqdm(total=len(patents), desc="evaluate", unit="patent", delay=2, leave=False) as progress:
        for start in range(0, len(patents), BLOCK):
            rows = patents[start : start + BLOCK]
            scores = {name: ranker(rows) for name, ranker in rankers.items()}
            for place, patent in enumerate(rows):
                orders = {name: full_order(scores[name][place]) for name in fused}
                visible, pairs = ~held_out.hidden(patent), np.flatnonzero(held_out.pairs[:, 0] == patent)
                candidates = _candidates(held_out, kinds, patent, visible, pairs, seed) if len(pairs) else {}
                for name, names in members.items():
                    ranking = _Ranking([scores[n][place] for n in names], [orders[n] for n in names if n in orders])
                    _rank_relevant(ranking, visible, pairs, outcomes[name])
                    _score_triplets(ranking, patent, outcomes[name])
                    for kind, (cited, uncited) in candidates.items():
                        outcomes[name].first_hits[kind].append(_first_hit(ranking, cited, uncited))
                    if (row := tested == patent).any():
                        outcomes[name].nearest[row] = ranking.best_among(voters & visible, NEIGHBOURS)
                progress.update()
    return outcomes


def _tested(held_out: HeldOut, seed: int) -> np.ndarray:
    """Ascending rows of at most `MOST_TESTED` patents whose subclasses are predicted, seeded.

    They are classified patents of the split that have 8 voters outside their family.
    """
    family = np.unique(held_out.family, return_inverse=True)[1]
    others = held_out.voters.sum() - np.bincount(family, held_out.voters)[family]
    rows = np.flatnonzero(held_out.classified & held_out.in_split & (others >= NEIGHBOURS))
    return np.sort(rows[np.argsort(mix(rows, seed), kind="stable")[:MOST_TESTED]])


def _rank_relevant(ranking: _Ranking, visible: np.ndarray, pairs: np.ndarray, outcome: Outcome) -> None:
    """Rank the relevant patents of each part; those of other parts are removed from the search."""
    held_out, relevant = outcome.held_out, outcome.held_out.pairs[pairs, 1]
    for part in ("",) if outcome.quick else ("", *PARTS):
        wanted = held_out.parts[part][pairs] if part else np.ones(len(pairs), bool)
        if wanted.any():
            searched = visible.copy()
            searched[relevant[~wanted]] = False
            best = ranking.best_among(searched, DEPTH)
            found, place = np.nonzero(relevant[wanted][:, None] == best)
            ranks = np.full(wanted.sum(), BEYOND)
            ranks[found] = place + 1
            outcome.ranks[part].append(np.sort(ranks))


def _score_triplets(ranking: _Ranking, patent: int, outcome: Outcome) -> None:
    """Score the positive and the negative; in a fusion, the anchor's family takes no rank."""
    chosen, family = outcome.held_out.triplets[:, 0] == patent, outcome.held_out.family
    if chosen.any():
        scores = ranking.scores_among(family != family[patent])
        outcome.triplets[chosen] = scores[outcome.held_out.triplets[chosen, 1:]]


def _candidates(
    held_out: HeldOut, kinds: Sequence[str], query: int, visible: np.ndarray, pairs: np.ndarray, seed: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each of `kinds`, draw at most 5 relevant patents of a query, and 25 others.

    The others are drawn from all patents ("random"), or from the query's CPC section as long as it has any ("hard").
    """
    section, cited = held_out.sections, held_out.pairs[pairs, 1]
    key = mix(np.array([query]), seed)[0]
    drawn = mix(np.arange(len(section)) ^ int(key >> np.uint64(20)), seed)
    relevant = cited[np.argsort(drawn[cited])][:MOST_RELEVANT]
    eligible = visible.copy()
    eligible[cited] = False
    others = np.flatnonzero(eligible)
    candidates = {}
    for kind in kinds:
        is_far = (kind == "hard") & ((section[others] != section[query]) | (section[others] < 0))
        order = drawn[others] >> np.uint64(1) | is_far.astype(np.uint64) << np.uint64(63)  # far ones last
        few = np.argpartition(order, CANDIDATES)[:CANDIDATES] if len(order) > CANDIDATES else slice(None)
        candidates[kind] = relevant, others[few]
    return candidates


def _first_hit(ranking: _Ranking, cited: np.ndarray, others: np.ndarray) -> int:
    """The rank of the first of the `cited` patents among the `others`, last of equal scores."""
    among = np.zeros(len(ranking.scores[0]), bool)
    among[cited] = among[others] = True
    scores = ranking.scores_among(among)
    return 1 + int((scores[others] >= scores[cited].max()).sum())
