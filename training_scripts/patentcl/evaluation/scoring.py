"""One pass over the held-out patents: each ranker scores each patent once, and what the metrics need is kept."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from tqdm import tqdm

from ..common.hashing import mix
from .held_out import PARTS, HeldOut
from .rankers import Ranker, best_first, full_order, fuse

BLOCK = 64  # patents scored at once
DEPTH = 1_000  # ranks that are told apart
CANDIDATES, MOST_RELEVANT = 25, 5  # of the re-ranking, as for PaECTER (Ghosh et al. 2024, arXiv:2402.19411)
NEIGHBOURS, MOST_TESTED = 8, 4_000  # of the CPC prediction: neighbours, patents
BEYOND = 2**30  # the rank of what is not among the first `DEPTH`, or not searched


Candidates = Mapping[str, tuple[np.ndarray, np.ndarray]]  # "random" or "hard" → relevant patents, others (rows)
Scores = Callable[[np.ndarray], np.ndarray]  # mask (N,) → scores (N,); in a fusion, texts outside it take no rank


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
    quick: bool = False
    embeddings: np.ndarray | None = None
    words: "Outcome | None" = None
    base: "Outcome | None" = None

    def __post_init__(self) -> None:
        """Leave room for the ranks and scores."""
        self.ranks: defaultdict[str, list[np.ndarray]] = defaultdict(list)
        self.first_hits: defaultdict[str, list[int]] = defaultdict(list)
        self.triplets = np.zeros((len(self.held_out.triplets), 2))
        self.nearest = np.zeros((len(self.tested), NEIGHBOURS), int)

    def subclasses(self, least: int) -> tuple[np.ndarray, np.ndarray]:
        """CPC subclasses of the tested patents, and those that `least` or more of the nearest have; (P, S) bool."""
        labels = self.held_out.labels
        return labels[self.tested] > 0, labels[self.nearest].sum(axis=1) >= least

    def add(self, patent: int, scores: Scores, visible: np.ndarray, pairs: np.ndarray, candidates: Candidates) -> None:
        """Take the ranking for one patent: a query with `pairs` (rows), an anchor of triplets, or a tested one.

        `visible` (N,): mask of the texts to search; relevant patents of other parts are removed from it. Among the
        candidates, of equal scores the relevant patent is last.
        """
        held_out, relevant = self.held_out, self.held_out.pairs[pairs, 1]
        for part in ("",) if self.quick else ("", *PARTS):
            wanted = held_out.parts[part][pairs] if part else np.ones(len(pairs), bool)
            if wanted.any():
                searched = visible.copy()
                searched[relevant[~wanted]] = False
                found, place = np.nonzero(relevant[wanted][:, None] == _best(scores, searched, DEPTH))
                ranks = np.full(wanted.sum(), BEYOND)
                ranks[found] = place + 1
                self.ranks[part].append(np.sort(ranks))
        for kind, (cited, others) in candidates.items():
            among = np.zeros(len(visible), bool)
            among[cited] = among[others] = True
            known = scores(among)
            self.first_hits[kind].append(1 + int((known[others] >= known[cited].max()).sum()))
        if (chosen := held_out.triplets[:, 0] == patent).any():
            outside = held_out.family != held_out.family[patent]
            self.triplets[chosen] = scores(outside)[held_out.triplets[chosen, 1:]]
        if (row := self.tested == patent).any():
            self.nearest[row] = _best(scores, held_out.voters & visible, NEIGHBOURS)


def _best(scores: Scores, mask: np.ndarray, count: int) -> np.ndarray:
    """The first `count` texts of `mask` (N,), best first."""
    return best_first(np.where(mask, scores(mask), -np.inf), count)


def score(
    rankers: Mapping[str, Ranker],
    held_out: HeldOut,
    seed: int = 42,
    fusions: Mapping[str, Sequence[str]] = {},
    quick: bool = False,
) -> dict[str, Outcome]:
    """Return the outcome of each ranker, and of each fusion (name → names of the rankers)."""
    queries, tested = held_out.queries, np.empty(0, int) if quick else _tested(held_out, seed)
    kinds = [] if quick else ["random", "hard"] if held_out.classified.any() else ["random"]
    fused = {name for names in fusions.values() for name in names}
    outcomes = {name: Outcome(held_out, seed, tested, quick) for name in (*rankers, *fusions)}
    others = np.concatenate([held_out.triplets[:, 0], tested])
    patents = np.concatenate([queries, np.setdiff1d(others, queries)])
    with tqdm(total=len(patents), desc="evaluate", unit="patent", delay=2, leave=False) as progress:
        for start in range(0, len(patents), BLOCK):
            rows = patents[start : start + BLOCK]
            matrices = {name: ranker(rows) for name, ranker in rankers.items()}
            for place, patent in enumerate(rows):
                orders = {name: full_order(matrices[name][place]) for name in fused}
                scores: dict[str, Scores] = {name: partial(_of_all, of[place]) for name, of in matrices.items()}
                scores |= {name: partial(fuse, [orders[n] for n in names]) for name, names in fusions.items()}
                visible, pairs = ~held_out.hidden(patent), np.flatnonzero(held_out.pairs[:, 0] == patent)
                candidates = _candidates(held_out, kinds, patent, visible, pairs, seed) if len(pairs) else {}
                for name, outcome in outcomes.items():
                    outcome.add(patent, scores[name], visible, pairs, candidates)
                progress.update()
    return outcomes


def _of_all(scores: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return scores


def _tested(held_out: HeldOut, seed: int) -> np.ndarray:
    """Ascending rows of at most `MOST_TESTED` patents whose subclasses are predicted, seeded.

    They are classified patents of the split that have 8 voters outside their family.
    """
    family = np.unique(held_out.family, return_inverse=True)[1]
    others = held_out.voters.sum() - np.bincount(family, held_out.voters)[family]
    rows = np.flatnonzero(held_out.classified & held_out.in_split & (others >= NEIGHBOURS))
    return np.sort(rows[np.argsort(mix(rows, seed), kind="stable")[:MOST_TESTED]])


def _candidates(
    held_out: HeldOut, kinds: Sequence[str], query: int, visible: np.ndarray, pairs: np.ndarray, seed: int
) -> Candidates:
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
