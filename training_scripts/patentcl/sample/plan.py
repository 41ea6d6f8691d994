"""The plan of the sample: lines of inventions, their subclasses, concepts and made-up words, and who cites whom.

Patents come in lines of inventions. A line has a subclass, six concepts and two made-up words. A concept has two names
(`valve`, `shut-off member`) and a patent favours one side of the pairs; four of the six concepts are from a vocabulary
of the CPC section. Most citations go to an earlier patent of the line, preferably to one that favours the other side:
matching words finds some of these, a model that learns the pairs finds more, and the pairs are the same for all
patents, seen or not. Other citations go to the same subclass, to a partner line in another subclass that shares two
concepts, or anywhere.

Patents are numbered from 0 in order of date. Rare cases are placed by number, so that a small sample has them too.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .words import PAIRS, SUBCLASSES, SYLLABLES

Ints = NDArray[Any]
Words = NDArray[np.object_]

BLOCK = 50_000  # patents invented at a time, about 0.4 GB; a multiple of all periods by number
LINE = 8  # patents in a line of inventions, on average
CITATIONS = 7.2  # citations drawn for a patent; about four stay, the others find nothing earlier or repeat one
TARGETS = {"line": 0.6, "subclass": 0.2, "partner": 0.12, "anywhere": 0.08}  # where citations go

# The kind of a patent, by its number modulo 100; all others are plain.
CASES = {
    **dict.fromkeys((7, 27, 47, 67, 87), "design"),
    **dict.fromkeys((3, 23, 43, 63), "hard text"),
    13: "plant",
    33: "reissue",
    53: "withdrawn",
    59: "no abstract",
    61: "NULL title",
    71: "unclassified",
}
CASE = np.array([CASES.get(n, "plain") for n in range(100)])

# For each type of patent: letters of its ids, first id, number of ids until 2024, distance of their numbers.
TYPES = np.array(["utility", "design", "plant", "reissue"], object)
TYPE = np.select([CASE == "design", CASE == "plant", CASE == "reissue"], [1, 2, 3], 0)  # by number modulo 100
LETTERS = np.array(["", "D", "PP", "RE"], object)
FIRST_ID = np.array([3_930_271, 238_315, 3_987, 28_671])
IDS = np.array([8_250_000, 810_000, 32_000, 21_500])
APART = np.array([1, 20, 100, 100])
KINDS = np.array(["B2", "S1", "P2", "E1", "A"], object)  # the last one is that of utility patents before 2001
TUESDAYS = np.array([str(date(1976, 1, 6) + timedelta(weeks=week)) for week in range(2556)], object)

SYMBOLS = np.array(list(SUBCLASSES), object)
SECTION_OF = np.array([symbol[:1] for symbol in SUBCLASSES])
CLASS_OF = np.array([symbol[:3] for symbol in SUBCLASSES])


@dataclass(frozen=True)
class Numbering:
    """What follows from a patent's number alone, in a sample of `patents`."""

    patents: int
    seed: int

    def ids(self, number: Ints) -> Words:
        """Return the patent ids of numbers; they rise with the number within a type."""
        return LETTERS[TYPE[number % 100]] + self.serials(number).astype(str).astype(object)

    def serials(self, number: Ints) -> Ints:
        """Return the ids without their letters."""
        kind = TYPE[number % 100]
        return FIRST_ID[kind] + number * np.maximum(IDS[kind], self.patents // APART[kind]) // self.patents

    def dates(self, number: Ints) -> Words:
        """Return the dates of grant, Tuesdays from 1976 to 2024."""
        return TUESDAYS[self.weeks(number)]

    def weeks(self, number: Ints) -> Ints:
        """Return the places of the dates in `TUESDAYS`."""
        return number * len(TUESDAYS) // self.patents

    def wipo_kinds(self, number: Ints) -> Words:
        """Return the kind codes: those of 2001 and later, before that `A` for utility patents."""
        return KINDS[self.kinds(number)]

    def kinds(self, number: Ints) -> Ints:
        """Return the places of the kind codes in `KINDS`."""
        kind = TYPE[number % 100]
        return np.where((kind == 0) & (number < self.patents * 25 // 49), len(KINDS) - 1, kind)


@dataclass(frozen=True)
class Plan(Numbering):
    """What patents depend on of one another: about 40 bytes for each of `patents`."""

    cites: float  # citations drawn for a patent, on average
    line: Ints  # (patents,) line of inventions; lines 2m and 2m + 1 are partners
    side: Ints  # (patents,) 0 or 1: which names of concepts it favours
    parent: Ints  # (patents,) the patent it continues, or -1; always in the same block
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
        parent = draw_parents(number, rng)
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
        return Plan(
            patents=patents,
            seed=seed,
            cites=cites,
            line=line,
            side=rng.integers(0, 2, patents, dtype=np.uint8),
            parent=parent,
            branches=branches,
            concepts=concepts,
            stems=rng.integers(0, len(SYLLABLES) ** 3, (lines, 2)),
            by_line=np.sort(line.astype(np.int64) * patents + number),
            by_subclass=np.sort(branches[line, 0].astype(np.int64) * patents + number),
        )

    def earlier(self, groups: Ints, group: Ints, number: Ints, rng: np.random.Generator) -> Ints:
        """Draw for each row a patent of `group` before `number`, or -1; `groups` is `by_line` or `by_subclass`."""
        low = np.searchsorted(groups, group.astype(np.int64) * self.patents)
        size = np.searchsorted(groups, group.astype(np.int64) * self.patents + number) - low
        found = groups[np.minimum(low + rng.integers(0, np.maximum(size, 1)), self.patents - 1)]
        return np.where(size > 0, found % self.patents, -1)


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
    continues = number[(plan.parent[number] >= 0) & (number % 2 == 0)]  # the odd ones do not cite their parent
    citing, cited = np.append(citing, continues), np.append(cited, plan.parent[continues])
    good = (cited >= 0) & (cited != citing)
    key = np.unique(citing[good] * plan.patents + cited[good])
    return np.stack([key // plan.patents, key % plan.patents], axis=1)


def draw_parents(number: Ints, rng: np.random.Generator) -> Ints:
    """Let 3 % of patents continue one of the thirty before; both are plain, as the others have special texts."""
    parent = np.maximum(number - rng.integers(1, 31, len(number)), -1)
    parent = np.where(rng.random(len(number)) < 0.03, parent, -1)
    plain = CASE[number % 100] == "plain"
    same_block = parent // BLOCK == number // BLOCK
    chained = parent[parent] >= 0  # no continuation of a continuation
    return np.where(plain & plain[parent] & same_block & ~chained, parent, -1)


def near(subclass: Ints, level: Ints, rng: np.random.Generator) -> Ints:
    """Draw a subclass of the same branch; `level` is SECTION_OF or CLASS_OF, whose branches are contiguous."""
    first = np.searchsorted(level, level)
    size = np.searchsorted(level, level, side="right") - first
    return first[subclass] + rng.integers(0, size[subclass])
