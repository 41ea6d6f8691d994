"""The rows of the sample's tables, with what is hard in real ones: rows repeated, reversed or leading out."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .words import HARD, STRAY, SURNAMES

Ints = NDArray[Any]
Rows = tuple[dict[str, pa.Table], dict[str, int]]  # of each table, and counts

BLOCK = 50_000  # patents invented at a time, about 0.4 GB; a multiple of all periods by number
CATEGORIES = ["cited by examiner", "cited by applicant", "cited by other", ""]

# The kind of a patent, by its number modulo 100; all others are plain.
CASES = dict.fromkeys((7, 27, 47, 67, 87), "design") | dict.fromkeys((3, 23, 43, 63), "hard text")
CASES |= {13: "plant", 33: "reissue", 53: "withdrawn", 59: "no abstract", 61: "NULL title", 71: "unclassified"}
CASE = np.array([CASES.get(n, "plain") for n in range(100)])

# For each type of patent: letters of its ids, first id, number of ids until 2024, distance of their numbers.
TYPES = ["utility", "design", "plant", "reissue"]
TYPE = np.select([name == CASE for name in TYPES], range(4))  # by number modulo 100
UNCLASSIFIED = (TYPE > 0) | (CASE == "unclassified")  # likewise
LETTERS = ["", "D", "PP", "RE"]
FIRST_ID = np.array([3_930_271, 238_315, 3_987, 28_671])
IDS = np.array([8_250_000, 810_000, 32_000, 21_500])
APART = np.array([1, 20, 100, 100])
KINDS = ["B2", "S1", "P2", "E1", "A"]  # the last one is that of utility patents before 2001
TUESDAYS = [str(date(1976, 1, 6) + timedelta(weeks=week)) for week in range(2556)]


def take(texts: Any, at: Ints) -> pa.Array:
    """Return the texts at these places."""
    return pa.array(texts).take(pa.array(at))


@dataclass(frozen=True)
class Patents:
    """The patents of the tables, numbered from 0 in order of date, and their rows."""

    patents: int
    seed: int
    parent: Ints  # (patents,) the patent it continues, or -1; always in the same block

    def block(self, first: int) -> tuple[Ints, np.random.Generator]:
        """Return the numbers from `first` to the end of its block, and their random generator."""
        number = np.arange(first, min(first + BLOCK, self.patents))
        return number, np.random.default_rng([self.seed, 1 + first // BLOCK])

    def ids(self, number: Ints) -> pa.Array:
        """Return the patent ids of numbers; they rise with the number within a type."""
        kind = TYPE[number % 100]
        serials = FIRST_ID[kind] + number * np.maximum(IDS[kind], self.patents // APART[kind]) // self.patents
        return pc.binary_join_element_wise(take(LETTERS, kind), pa.array(serials).cast(pa.string()), "")

    def weeks(self, number: Ints) -> Ints:
        """Return the places in `TUESDAYS` of the dates of grant."""
        return number * len(TUESDAYS) // self.patents

    def kinds(self, number: Ints) -> Ints:
        """Return the places of the kind codes in `KINDS`: those of 2001 and later, before that `A` for utility."""
        kind = TYPE[number % 100]
        return np.where((kind == 0) & (number < self.patents * 25 // 49), len(KINDS) - 1, kind)

    @staticmethod
    def draw_parents(number: Ints, rng: np.random.Generator) -> Ints:
        """Let 3 % of patents continue one of the thirty before; both are plain, as the others have special texts."""
        parent = np.maximum(number - rng.integers(1, 31, len(number)), -1)
        parent = np.where(rng.random(len(number)) < 0.03, parent, -1)
        plain = CASE[number % 100] == "plain"
        same_block = parent // BLOCK == number // BLOCK
        chained = parent[parent] >= 0  # no continuation of a continuation
        return np.where(plain & plain[parent] & same_block & ~chained, parent, -1)

    def distinct_pairs(self, number: Ints, citing: Ints, cited: Ints) -> Ints:
        """Let every other continuation among `number` cite its parent, too; (pairs, 2), sorted, each pair once."""
        continues = number[(self.parent[number] >= 0) & (number % 2 == 0)]
        key = np.unique(np.append(citing, continues) * self.patents + np.append(cited, self.parent[continues]))
        return np.stack([key // self.patents, key % self.patents], axis=1)

    def assemble(
        self, number: Ints, patents: pa.Table, classes: pa.Table, citations: pa.Table, counts: dict[str, int]
    ) -> Rows:
        """Add rows that are repeated or of no patent, and count patents: what `invent` returns."""
        empty = pc.equal(patents["patent_abstract"], "").to_numpy()
        # A design without an abstract has no row in that table, other patents have an empty one.
        listed = patents.filter(pa.array(~empty | (TYPE[number % 100] != 1)))
        stray = 20_000_000 + number[number % 250 == 111]
        repeated = {name: pa.repeat(value, len(stray)) for name, value in STRAY.items()}
        strays = pa.table({"patent_id": pa.array(stray).cast(pa.string()), **repeated})
        texts, parents = ["patent_id", "patent_abstract"], self.parent[number]
        return {
            "patents": pa.concat_tables([patents, patents.filter(pa.array(number % 250 == 101))]),
            "abstracts": pa.concat_tables([listed.select(texts), strays.select(texts)]),
            "classes": pa.concat_tables([classes, strays.select(classes.column_names)]),
            "citations": citations,
        }, {
            "patents": len(number),
            "withdrawn": pc.sum(patents["withdrawn"]).as_py(),
            "families": len(np.unique(parents[parents >= 0])),
            **counts,
            "unclassified": int(UNCLASSIFIED[number % 100].sum()),
            "empty_abstracts": int(empty.sum()),
        }

    def citation_rows(
        self, number: Ints, pairs: Ints, dangling: Ints, later: int, rng: np.random.Generator
    ) -> tuple[pa.Table, dict[str, int]]:
        """Return the rows of citations, with repeated, reversed and self ones, and their counts.

        `pairs` are (citing, cited) numbers, `dangling` the citing numbers of citations that lead out of the table, and
        `later` is the first sequence of reversed ones.
        """
        repeated, back, itself = pairs[5::90], pairs[50::250, ::-1], np.repeat(number[40::400, None], 2, axis=1)
        rows = np.concatenate([pairs, repeated, itself, np.column_stack([dangling, np.full_like(dangling, -1)])])
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        start = np.searchsorted(rows[:, 0], rows[:, 0])
        # In the rows of `back` the cited patent cites the citing one; it may be in a block that is written already.
        sequence = np.append(np.arange(len(rows)) - start, later + np.arange(len(back)))
        citing, cited = np.concatenate([rows, back]).T
        inside, known = cited >= 0, np.maximum(cited, 0)
        # A cited patent outside the table was granted before the table begins.
        outside_id = pa.array(rng.integers(1_500_000, 3_900_000, len(cited))).cast(pa.string())
        outside_year = len(TUESDAYS) + rng.integers(0, 45, len(cited))
        dates = [f"{day[:8]}01" for day in TUESDAYS] + [f"{year}-05-01" for year in range(1930, 1975)]
        table = {
            "patent_id": self.ids(citing),
            "citation_sequence": sequence,
            "citation_patent_id": pc.if_else(pa.array(inside), self.ids(known), outside_id),
            "citation_date": take(dates, np.where(inside, self.weeks(known), outside_year)),
            "record_name": take([f"{name} et al." for name in SURNAMES], rng.integers(0, len(SURNAMES), len(cited))),
            "wipo_kind": take(KINDS, np.where(inside, self.kinds(known), len(KINDS) - 1)),
            "citation_category": take(CATEGORIES, rng.choice(4, len(cited), p=[0.35, 0.45, 0.12, 0.08])),
        }
        counts = {"inside": inside.sum(), "dangling": len(dangling), "duplicate": len(repeated), "self": len(itself)}
        return pa.table(table), {f"citations_{name}": int(count) for name, count in counts.items()}

    def class_rows(self, number: Ints, sequence: Ints, symbol: pa.Array, rng: np.random.Generator) -> pa.Table:
        """Return the CPC rows of these patents, sequences and subclasses, one each, with groups and types."""
        groups = take([str(n) for n in range(1, 60)], rng.integers(0, 59, len(number)))
        subgroups = take([f"/{n:02d}" for n in range(50)], rng.integers(0, 50, len(number)))
        table = {
            "patent_id": self.ids(number),
            "cpc_sequence": sequence,
            "cpc_section": pc.utf8_slice_codeunits(symbol, 0, 1),
            "cpc_class": pc.utf8_slice_codeunits(symbol, 0, 3),
            "cpc_subclass": symbol,
            "cpc_group": pc.binary_join_element_wise(symbol, groups, subgroups, ""),
            "cpc_type": take(["additional", "inventional"], (rng.random(len(number)) < 0.6).astype(int)),
        }
        return pa.table(table)

    def patent_rows(self, number: Ints, titles: list[str], abstracts: list[str], rng: np.random.Generator) -> pa.Table:
        """Return the patents' rows, in order, with their abstracts, of which some are replaced by hard ones."""
        _spoil(number, titles, abstracts)
        for k in np.flatnonzero(self.parent[number] >= 0).tolist():
            parent = int(self.parent[number[k]] - number[0])
            text = abstracts[parent]  # which a continuation repeats, up to case and white space
            ways = [text, text.upper(), text.lower(), text.replace(". ", ".  "), text.replace(" ", "\n", 3)]
            titles[k], abstracts[k] = titles[parent], ways[k % len(ways)]
        table = {
            "patent_id": self.ids(number),
            "patent_type": take(TYPES, TYPE[number % 100]),
            "patent_date": take(TUESDAYS, self.weeks(number)),
            "patent_title": titles,
            "patent_abstract": abstracts,
            "wipo_kind": take(KINDS, self.kinds(number)),
            "num_claims": 1 + rng.poisson(14, len(number)),
            "withdrawn": (CASE[number % 100] == "withdrawn").astype(int),
            "filename": take([f"ipg{day[2:].replace('-', '')}.xml" for day in TUESDAYS], self.weeks(number)),
        }
        return pa.table(table)


def _spoil(number: Ints, titles: list[str], abstracts: list[str]) -> None:
    """Replace texts by the hard ones of `CASES`."""
    case = CASE[number % 100]
    for k in np.flatnonzero(case != "plain").tolist():
        n = int(number[k])
        if case[k] == "hard text":
            hard = HARD[(n // 100 * 4 + n % 100 // 20) % len(HARD)]
            titles[k] = hard.format(*titles[k].split(" ", 1))
            abstracts[k] = hard.format(*abstracts[k].split(" ", 1))
        elif case[k] == "NULL title":
            titles[k] = "NULL"
        elif case[k] == "no abstract" or (case[k] == "design" and n % 40 == 7):
            abstracts[k] = ""
        elif case[k] == "design":
            abstracts[k] = f"The ornamental design for {titles[k]}, view {n}."
