"""The plan of the sample: lines of inventions, their subclasses, concepts and made-up words, and who cites whom.

A concept has two names (`valve`, `shut-off member`), and a patent favours one side of the pairs. Most citations go to
an earlier patent of the line, preferably to one that favours the other side: matching words finds some of these, a
model that learns the pairs finds more, and the pairs are the same for all patents, seen or not. Other citations go to
the same subclass, to a partner line in another subclass that shares two concepts, or anywhere. A text names five of the
line's concepts and one of a cited patent, its made-up words with varying endings, subject words of its own and related
subclasses, and phrases without meaning.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from .patents import UNCLASSIFIED, Ints, Patents, Rows, take
from .words import ENDINGS, GENERAL, PAIRS, SENTENCES, SUBCLASSES, SYLLABLES, TITLES

LINE = 8  # patents in a line of inventions, on average
CITATIONS = 7.2  # citations drawn for a patent; about four stay, the others find nothing earlier or repeat one
TARGETS = {"line": 0.6, "subclass": 0.2, "partner": 0.12, "anywhere": 0.08}  # where citations go
FAVOURED = 0.8  # how often a patent says the side it favours
OWN, CLASS = 0.38, 0.27  # subject words of the own subclass, of its class; the rest are of its section

SYMBOLS = np.array(list(SUBCLASSES), object)
SECTION_OF = np.array([symbol[:1] for symbol in SUBCLASSES])
CLASS_OF = np.array([symbol[:3] for symbol in SUBCLASSES])
SUBJECTS = np.array([subclass["words"] for subclass in SUBCLASSES.values()], object)
TERMS = np.array(PAIRS, object)
SYLLABLE, ENDING = np.array(SYLLABLES, object), np.array(ENDINGS, object)


@dataclass(frozen=True)
class Plan(Patents):
    """What patents depend on of one another: about 40 bytes for each of `patents`."""

    cites: float  # citations drawn for a patent, on average
    line: Ints  # (patents,) line of inventions; lines 2m and 2m + 1 are partners
    side: Ints  # (patents,) 0 or 1: which names of concepts it favours
    branches: Ints  # (lines, 4) rows of SUBCLASSES, the primary one first
    concepts: Ints  # (lines, 6) rows of PAIRS; partners share the first two, the section has the others
    stems: Ints  # (lines, 2) made-up words, three syllables as one integer
    by_line: Ints  # (patents,) line * patents + number, sorted
    by_subclass: Ints  # (patents,) primary subclass * patents + number, sorted

    @staticmethod
    def draw(patents: int, seed: int, cites: float = CITATIONS) -> "Plan":
        """Draw the plan of a sample."""
        rng = np.random.default_rng([seed, 0])
        lines = 2 * max(1, patents // (2 * LINE))
        number = np.arange(patents)
        parent = Patents.draw_parents(number, rng)
        line = rng.integers(0, lines, patents, dtype=np.int32)
        line = np.where(parent < 0, line, line[parent])
        # Sizes of subclasses as in the real table: a few are large, many are small.
        weight = rng.permutation(1 / (np.arange(len(SYMBOLS)) + 4.0))
        branches = rng.choice(len(SYMBOLS), (lines, 4), p=weight / weight.sum()).astype(np.uint8)
        sibling = near(branches[:, 0], SECTION_OF, rng)
        branches[:, 1] = np.where(rng.random(lines) < 0.5, sibling, branches[:, 1])
        concepts = rng.integers(0, len(PAIRS), (lines, 6), dtype=np.uint8)
        concepts[1::2, :2] = concepts[::2, :2]
        section = np.unique(SECTION_OF, return_inverse=True)[1]
        own = rng.integers(0, len(PAIRS) // (section.max() + 1), (lines, 4)) * (section.max() + 1)
        concepts[:, 2:] = own + section[branches[:, :1]]
        side = rng.integers(0, 2, patents, dtype=np.uint8)
        stems = rng.integers(0, len(SYLLABLES) ** 3, (lines, 2))
        by_line = np.sort(line.astype(np.int64) * patents + number)
        by_subclass = np.sort(branches[line, 0].astype(np.int64) * patents + number)
        return Plan(patents, seed, parent, cites, line, side, branches, concepts, stems, by_line, by_subclass)

    def earlier(self, groups: Ints, group: Ints, number: Ints, rng: np.random.Generator) -> Ints:
        """Draw for each row a patent of `group` before `number`, or -1; `groups` is `by_line` or `by_subclass`."""
        start = group.astype(np.int64) * self.patents
        low, high = np.searchsorted(groups, [start, start + number])
        found = groups[np.minimum(low + rng.integers(0, np.maximum(high - low, 1)), self.patents - 1)]
        return np.where(high > low, found % self.patents, -1)


def invent(plan: Plan, first: int) -> Rows:
    """Invent the patents from number `first` to the end of its block: the rows of each table, and counts.

    Of the counts, `citations_inside` are those with both ends in the table, `_duplicate` and `_self` ones among them;
    `citations_dangling` cite what is not there.
    """
    number, rng = plan.block(first)
    pairs = cite(plan, number, rng)
    words = _choose_words(plan, number, pairs, rng)
    titles = [title[0].upper() + title[1:] for title in compose(TITLES, words, rng)]
    patents = plan.patent_rows(number, titles, compose(SENTENCES, words, rng), rng)
    classes = _classify(plan, number, rng)
    dangling = rng.choice(number, len(pairs) // 3)
    return plan.assemble(number, patents, classes, *plan.citation_rows(number, pairs, dangling, 100, rng))


def cite(plan: Plan, number: Ints, rng: np.random.Generator) -> Ints:
    """Draw which earlier patents are cited: (pairs, 2) of citing and cited number, sorted, each pair once."""
    most = int(max(60, 4 * plan.cites))
    citing = np.repeat(number, np.minimum(rng.negative_binomial(2, 2 / (2 + plan.cites), len(number)), most))
    line, branch = plan.line[citing], plan.branches[plan.line[citing], 0]
    one, other = (plan.earlier(plan.by_line, line, citing, rng) for _ in range(2))
    targets = [
        np.where(plan.side[one] == plan.side[citing], other, one),  # preferably one that favours the other side
        plan.earlier(plan.by_subclass, branch, citing, rng),
        plan.earlier(plan.by_line, line ^ 1, citing, rng),
        (rng.random(len(citing)) * citing).astype(np.int64),
    ]
    cited = np.choose(rng.choice(len(TARGETS), len(citing), p=list(TARGETS.values())), targets)
    good = (cited >= 0) & (cited != citing)
    return plan.distinct_pairs(number, citing[good], cited[good])


def near(subclass: Ints, level: Ints, rng: np.random.Generator) -> Ints:
    """Draw a subclass of the same branch; `level` is SECTION_OF or CLASS_OF, whose branches are contiguous."""
    first, end = (np.searchsorted(level, level, side=side) for side in ("left", "right"))
    return rng.integers(first[subclass], end[subclass])


def _classify(plan: Plan, number: Ints, rng: np.random.Generator) -> pa.Table:
    """Return the CPC rows: 1 to 4 subclasses a patent, some of them twice, but none for some patents."""
    many = rng.choice([1, 2, 3, 4], len(number), p=[0.45, 0.3, 0.15, 0.1])
    many[UNCLASSIFIED[number % 100]] = 0
    # Five places: the line's four subclasses, of which the patent has the first ones, and the primary one again.
    places = plan.branches[plan.line[number]][:, [0, 1, 2, 3, 0]]
    used = np.column_stack([np.arange(4) < many[:, None], (many > 0) & (rng.random(len(number)) < 0.5)])
    sequence = used.cumsum(axis=1) - 1
    patent, place = rng.permutation(np.argwhere(used)).T
    return plan.class_rows(number[patent], sequence[patent, place], take(SYMBOLS, places[patent, place]), rng)


def _choose_words(plan: Plan, number: Ints, pairs: Ints, rng: np.random.Generator) -> dict[str, Any]:
    """Choose the words of each patent, by the letter of the gap they fill: (patents, words) each."""
    n, line = len(number), plan.line[number]
    own = np.repeat(plan.branches[line, :1], 4, axis=1)
    chance = rng.random(own.shape)
    subclass = np.where(chance < OWN + CLASS, near(own, CLASS_OF, rng), near(own, SECTION_OF, rng))
    subclass = np.where(chance < OWN, own, subclass)
    # Five of the line's six concepts and one of a patent it cites, in the name that patent does not favour.
    chosen = np.take_along_axis(plan.concepts[line], rng.random((n, 6)).argsort(axis=1)[:, :5], axis=1)
    start, end = np.searchsorted(pairs[:, 0], [number, number + 1])
    drawn = np.minimum(start + rng.integers(0, np.maximum(end - start, 1)), len(pairs))
    cited = np.where(end > start, np.append(pairs[:, 1], 0)[drawn], number)
    borrowed = plan.concepts[plan.line[cited], rng.integers(0, 6, n)]
    concept = np.column_stack([chosen[:, :2], borrowed, chosen[:, 2:]])
    side = np.repeat(plan.side[number][:, None], 6, axis=1)
    side[:, 2] = 1 - plan.side[cited]
    side ^= rng.random(side.shape) >= FAVOURED
    stem, base = plan.stems[line], len(SYLLABLES)
    made_up = SYLLABLE[stem // base**2] + SYLLABLE[stem // base % base] + SYLLABLE[stem % base]
    return {
        "g": np.array(GENERAL, object)[rng.integers(0, len(GENERAL), (n, 2))],
        "s": SUBJECTS[subclass, rng.integers(0, SUBJECTS.shape[1], subclass.shape)],
        "c": TERMS[concept, side],
        "k": made_up + ENDING[rng.integers(0, len(ENDING), stem.shape)],
    }


def compose(sentences: list[dict[str, Any]], words: dict[str, Any], rng: np.random.Generator) -> list[str]:
    """Compose one text per patent from randomly drawn templates, with the gaps filled by the next words."""
    texts = [""] * len(words["g"])
    unused = {letter: iter(columns.T) for letter, columns in words.items()}
    for sentence in sentences:
        gaps, templates = [next(unused[letter]) for letter in sentence["gaps"]], sentence["templates"]
        drawn = rng.integers(0, len(templates), len(texts))
        texts = [text + templates[which].format(*fill) for text, which, *fill in zip(texts, drawn, *gaps, strict=True)]
    return texts
