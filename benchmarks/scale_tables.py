"""Tables with the proportions of PatentsView's real ones, for measuring time and memory at any size.

    python benchmarks/scale_tables.py --patents 1000000 --out DIR    # 2.3 GB

As in PatentsView's tables of 2024 a patent has 14 citations on average, a quarter of which lead out of the table, 5.5
CPC rows over 650 subclasses of very different sizes, and an abstract of 100 to 160 words. Some patents cite thousands
of others, some are cited thousands of times, and most citations go to recent patents of the same subclass. A text is
made of sentences that were composed beforehand from the words of its subclass, and of one with words of the patent's
line of inventions. Rare cases are those of `python -m patentcl.sample`.
"""

import argparse
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from patentcl.common.cli import InputError, run_script
from patentcl.sample.patents import BLOCK, UNCLASSIFIED, Ints, Patents, Rows, take
from patentcl.sample.plan import ENDING, SUBJECTS, SYLLABLE, TERMS, compose
from patentcl.sample.words import GENERAL, SENTENCES, SUBCLASSES, TITLES
from patentcl.sample.write import write_tables

COUNT = 650  # subclasses
LINE = 40  # patents in a line of inventions, on average
MEDIAN, SPREAD = 5.8, 1.2  # citations drawn for a patent: lognormal
CITERS, MOST = 5e-5, 6000  # some patents draw 1,000 to so many
TARGETS = {"line": 0.25, "subclass": 0.45, "related": 0.2, "anywhere": 0.1}  # where citations go
RECENT = 2.0  # the higher, the more recent the cited patents
HUBS = 0.73  # the higher, the more citations go to few patents
CLASSES = 4.95  # CPC rows of a classified patent after its first one, on average
PLACES = [0.45, 0.25, 0.15, 0.1, 0.05]  # how often a CPC row names the subclasses of a line, the primary one first
RELATED = ["continuation", "division", "reissue", "us-provisional-application"]  # types of related documents
VARIANTS = 32  # sentences of each kind that are composed for a subclass
# The sentences of an abstract in order, then the first ones again, and the one with a word and a term of its line.
_PARTS = [*SENTENCES, *(part for part in SENTENCES if part["gaps"])]
_PARTS[len(SENTENCES)] = {**SENTENCES[0], "templates": [f" {template}" for template in SENTENCES[0]["templates"]]}
_LAST = [template.split("{}") for template in SENTENCES[-1]["templates"] if template]


def _symbols() -> list[str]:
    """650 symbols of CPC subclasses in order: those of the small sample, and others of their form."""
    possible = {f"{s}{c:02d}{letter}" for s in "ABCDEFGHY" for c in range(1, 40) for letter in "BCDFGHJKLMNPQRS"}
    others = np.random.default_rng(0).permutation(sorted(possible.difference(SUBCLASSES)))
    return sorted([*SUBCLASSES, *others[: COUNT - len(SUBCLASSES)].tolist()])


SYMBOLS = _symbols()
NEAREST = np.searchsorted(list(SUBCLASSES), SYMBOLS).clip(max=len(SUBCLASSES) - 1)  # subclass of the small sample


@dataclass(frozen=True)
class Proportions(Patents):
    """What patents depend on of one another: about 30 bytes for each of `patents`."""

    line: Ints  # (patents,) line of inventions
    branches: Ints  # (lines, 5) rows of SYMBOLS, the primary one first
    order: Ints  # (3 * patents,) numbers by line, by primary subclass, and as they are
    line_start: Ints  # (lines,) place in `order` of the line's first patent
    branch_start: Ints  # (COUNT + 1,) likewise of the subclass's
    line_place: Ints  # (patents,) how many earlier patents the line has
    branch_place: Ints  # (patents,) how many earlier patents the primary subclass has

    @staticmethod
    def draw(patents: int, seed: int) -> "Proportions":
        """Draw the plan of the tables."""
        rng = np.random.default_rng([seed, 0])
        lines = max(1, patents // LINE)
        parent = Patents.draw_parents(np.arange(patents), rng).astype(np.int32)
        line = rng.integers(0, lines, patents, dtype=np.int32)
        line = np.where(parent < 0, line, line[parent])
        weight = rng.permutation(1 / (np.arange(COUNT) + 4.0))  # a few subclasses are large, many are small
        branches = rng.choice(COUNT, (lines, 5), p=weight / weight.sum()).astype(np.int16)
        # The second subclass is near the first one in the order of symbols.
        branches[:, 1] = np.minimum(branches[:, 0] // 72 * 72 + rng.integers(0, 72, lines), COUNT - 1)
        by_line, line_start, line_place = _group(line, lines)
        by_branch, branch_start, branch_place = _group(branches[line, 0], COUNT)
        order = np.concatenate([by_line, by_branch, np.arange(patents, dtype=np.int32)])
        return Proportions(
            patents, seed, parent, line, branches, order, line_start, branch_start + patents, line_place, branch_place
        )


def _group(group: Ints, groups: int) -> tuple[Ints, Ints, Ints]:
    """Sort numbers by their group: the numbers, where each group starts (and ends), and places within the group."""
    order = np.argsort(group, kind="stable").astype(np.int32)
    start = np.append(0, np.cumsum(np.bincount(group, minlength=groups)))
    place = np.empty(len(group), np.int32)
    place[order] = np.arange(len(group)) - np.repeat(start[:-1], np.diff(start))
    return order, start, place


def invent(plan: Proportions, first: int) -> Rows:
    """Invent the patents from number `first` to the end of its block: rows and counts as in `patentcl.sample.plan`."""
    number, rng = plan.block(first)
    titles, abstracts = (texts.to_pylist() for texts in _compose(plan, number, rng))
    patents = plan.patent_rows(number, titles, abstracts, rng)
    classes = _classify(plan, number, rng)
    pairs = draw_pairs(plan, number, rng)
    dangling = pairs[rng.random(len(pairs)) < 1 / 3, 0]
    rows, counts = plan.assemble(number, patents, classes, *plan.citation_rows(number, pairs, dangling, 10_000, rng))
    return rows | {"relations": _relate(plan, number)}, counts


def draw_pairs(plan: Proportions, number: Ints, rng: np.random.Generator) -> Ints:
    """Draw which earlier patents are cited: (pairs, 2) of citing and cited number, sorted, each pair once."""
    many = np.minimum(rng.lognormal(np.log(MEDIAN), SPREAD, len(number)) + rng.random(len(number)), MOST).astype(int)
    many = np.where(rng.random(len(number)) < CITERS, rng.integers(1000, MOST, len(number)), many)
    citing = np.repeat(number, many)
    line = plan.line[citing]
    own, other = plan.branches[line, 0], plan.branches[line, rng.integers(1, 4, len(line))]
    target = rng.choice(len(TARGETS), len(citing), p=list(TARGETS.values()))
    low = np.choose(target, [plan.line_start[line], plan.branch_start[own], plan.branch_start[other], 2 * plan.patents])
    # Of another subclass about as large a part is earlier as of all patents.
    earlier = np.diff(plan.branch_start)[other] * citing // plan.patents
    size = np.choose(target, [plan.line_place[citing], plan.branch_place[citing], earlier, citing])
    place = size - 1 - (size * rng.random(len(size)) ** RECENT).astype(np.int64)
    # Patents at places that are multiples of a power of two are cited more often, the higher the power.
    level, shift = np.minimum(rng.geometric(1 - HUBS, len(size)) - 1, 24), low * 7919 % 65_536
    hub = ((place + shift) >> level << level) - shift
    place = np.where(hub < 0, place, hub)
    cited = plan.order[low + np.maximum(place, 0)].astype(np.int64)
    good = (size > 0) & (cited < citing)
    return plan.distinct_pairs(number, citing[good], cited[good])


def _classify(plan: Proportions, number: Ints, rng: np.random.Generator) -> pa.Table:
    """Return the CPC rows in any order; some patents have none."""
    many = np.minimum(1 + rng.negative_binomial(1.5, 1.5 / (1.5 + CLASSES), len(number)), 60)
    many[UNCLASSIFIED[number % 100]] = 0
    patent = np.repeat(np.arange(len(number)), many)
    sequence = np.arange(len(patent)) - np.repeat(np.cumsum(many) - many, many)
    place = np.where(sequence == 0, 0, rng.choice(len(PLACES), len(patent), p=PLACES))
    symbol = take(SYMBOLS, plan.branches[plan.line[number[patent]], place])
    at = rng.permutation(len(patent))
    return plan.class_rows(number[patent[at]], sequence[at], symbol.take(pa.array(at)), rng)


def _relate(plan: Proportions, number: Ints) -> pa.Table:
    """Return the related documents: what the patents of families continue, and applications outside the table."""
    rng = np.random.default_rng([plan.seed, 1 + number[0] // BLOCK, 1])
    continues = number[plan.parent[number] >= 0]
    count = len(number) * 6 // 10
    applications = pa.array(rng.integers(60_000_000, 64_000_000, count)).cast(pa.string())  # two patents name some
    kind = rng.choice(len(RELATED), count, p=[0.25, 0.1, 0.05, 0.6])
    granted = np.repeat([1, 0], [len(continues), count])
    table = {
        "patent_id": plan.ids(np.append(continues, rng.choice(number, count))),
        "related_doc_type": take(RELATED, np.append(np.zeros(len(continues), int), kind)),
        "related_doc_kind": take(["parent doc", "parent grant document"], granted),
        "related_doc_number": pa.concat_arrays([plan.ids(plan.parent[continues]), applications]),
        "related_doc_sequence": np.zeros(len(granted), int),
    }
    return pa.table(table)


def _compose(plan: Proportions, number: Ints, rng: np.random.Generator) -> tuple[pa.Array, pa.Array]:
    """Compose titles and abstracts from the sentences of subclasses, and a sentence with the words of the line."""
    n, line = len(number), plan.line[number].astype(np.int64)
    abstracts, titles, words, terms = _sentences()

    def pick(sentences: pa.Array, subclass: Ints) -> pa.Array:
        return sentences.take(pa.array(subclass.astype(int) * VARIANTS + rng.integers(0, VARIANTS, n)))

    kinds = plan.branches[line[:, None], rng.choice(4, (n, len(abstracts)), p=[0.7, 0.15, 0.1, 0.05])]
    chosen = [pick(sentences, kind) for sentences, kind in zip(abstracts, kinds.T, strict=True)]
    # As in the small sample a line has two words of its own, with four endings, and some terms.
    stem = (line * 2 + rng.integers(0, 2, n)) * 48_271 % (len(words) // 4)
    term = (line * 4 + rng.integers(0, 4, n)) * 69_621 % len(terms)
    ends, template = rng.integers(0, 4, n), rng.integers(0, len(_LAST), n)
    start, middle, end = (take(pieces, template) for pieces in zip(*_LAST, strict=True))
    chosen += [start, words.take(pa.array(stem * 4 + ends)), middle, terms.take(pa.array(term)), end]
    of_title = [pick(sentences, plan.branches[line, 0]) for sentences in titles]
    return pc.binary_join_element_wise(*of_title, ""), pc.binary_join_element_wise(*chosen, "")


@cache
def _sentences() -> tuple[list[pa.Array], list[pa.Array], pa.Array, pa.Array]:
    """Compose `VARIANTS` of each sentence for each subclass: those of abstracts, of titles, made-up words and terms."""
    rng = np.random.default_rng(1)
    n = COUNT * VARIANTS
    subclass = np.repeat(np.arange(COUNT), VARIANTS)[:, None]
    made_up = (SYLLABLE[:, None, None, None] + SYLLABLE[:, None, None] + SYLLABLE[:, None] + ENDING).ravel()
    jargon = rng.integers(0, len(made_up), (COUNT, 6))  # made-up words of a subclass

    def draw(part: dict[str, Any]) -> list[str]:
        words = {
            "g": np.array(GENERAL, object)[rng.integers(0, len(GENERAL), (n, 2))],
            "s": SUBJECTS[NEAREST[subclass], rng.integers(0, SUBJECTS.shape[1], (n, 4))],
            "c": TERMS[rng.integers(0, len(TERMS), (n, 6)), rng.integers(0, 2, (n, 6))],
            "k": made_up[jargon[subclass, rng.integers(0, 6, (n, 2))]],
        }
        return compose([part], words, rng)

    abstracts = [pa.array(draw(part)) for part in _PARTS]
    first, second = (draw(part) for part in TITLES)
    of_title = [pa.array([text[0].upper() + text[1:] for text in first]), pa.array(second)]
    return abstracts, of_title, pa.array(made_up), pa.array(TERMS.ravel())


def write_scale_tables(out: Path, patents: int, seed: int = 42) -> None:
    """Write the tables into the new folder `out`, about 2.3 GB for a million patents."""
    if out.exists():
        raise InputError(f"{out} exists. Choose another folder, or delete it.")
    titles = [subclass["title"] for subclass in SUBCLASSES.values()]
    named = {s: titles[k] if s in SUBCLASSES else f"{titles[k]} (OTHER)" for s, k in zip(SYMBOLS, NEAREST, strict=True)}
    plan = Proportions.draw(patents, seed)
    blocks = (invent(plan, first) for first in range(0, patents, BLOCK))
    write_tables(out, {"patents": patents, "seed": seed, "real_proportions": True}, named, blocks)


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patents", type=int, required=True, metavar="N")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder")
    write_scale_tables(**vars(parser.parse_args()))


if __name__ == "__main__":
    run_script(main)
