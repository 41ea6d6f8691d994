"""The rows of tables with the proportions of the real ones, for measuring time and memory at any size.

As in PatentsView's tables of 2024 a patent has 14 citations on average, a quarter of which lead out of the table, 5.5
CPC rows over 650 subclasses of very different sizes, and an abstract of 100 to 160 words. Some patents cite thousands
of others, some are cited thousands of times, and most citations go to recent patents of the same subclass. A text is
made of sentences that were composed beforehand, those of `patents.py` with the words of the subclass, and of one
sentence of the patent's line of inventions. Rare cases are those of the small sample.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .patents import CATEGORIES, ENDING, SUBJECTS, SYLLABLE, TERMS, compose, spoil, vary
from .plan import BLOCK, CASE, KINDS, LETTERS, TUESDAYS, TYPE, TYPES, Ints, Numbering, draw_parents
from .words import GENERAL, SENTENCES, STRAY, SUBCLASSES, SURNAMES, TITLES

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
# The sentences of an abstract in order, then the one with a word and a term of its line.
_PARTS = [*SENTENCES, *(part for part in SENTENCES if part["gaps"])]
_LAST = [template.split("{}") for template in SENTENCES[-1]["templates"] if template]


@dataclass(frozen=True)
class Proportions(Numbering):
    """What patents depend on of one another: about 30 bytes for each of `patents`."""

    line: Ints  # (patents,) line of inventions
    parent: Ints  # (patents,) the patent it continues, or -1; always in the same block
    branches: Ints  # (lines, 5) rows of `symbols()`, the primary one first
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
        parent = draw_parents(np.arange(patents), rng).astype(np.int32)
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
            patents, seed, line, parent, branches, order, line_start, branch_start + patents, line_place, branch_place
        )


def _group(group: Ints, groups: int) -> tuple[Ints, Ints, Ints]:
    """Sort numbers by their group: the numbers, where each group starts (and ends), and places within the group."""
    order = np.argsort(group, kind="stable").astype(np.int32)
    start = np.append(0, np.cumsum(np.bincount(group, minlength=groups)))
    place = np.empty(len(group), np.int32)
    place[order] = np.arange(len(group)) - np.repeat(start[:-1], np.diff(start))
    return order, start, place


@cache
def symbols() -> list[str]:
    """Return 650 symbols of CPC subclasses in order: those of the small sample, and others of their form."""
    rng = np.random.default_rng(0)
    known = list(SUBCLASSES)
    possible = {f"{s}{c:02d}{letter}" for s in "ABCDEFGHY" for c in range(1, 40) for letter in "BCDFGHJKLMNPQRS"}
    others = rng.permutation(sorted(possible.difference(known)))[: COUNT - len(known)]
    return sorted([*known, *others.tolist()])


def titles() -> dict[str, str]:
    """Return the title of each subclass; one that is not of the small sample has that of a neighbour."""
    known = np.array(list(SUBCLASSES))
    nearest = np.searchsorted(known, symbols()).clip(max=len(known) - 1)
    return {
        symbol: SUBCLASSES[symbol]["title"] if symbol in SUBCLASSES else SUBCLASSES[known[k]]["title"] + " (OTHER)"
        for symbol, k in zip(symbols(), nearest, strict=True)
    }


def invent(plan: Proportions, first: int) -> tuple[dict[str, Any], dict[str, int]]:
    """Invent the patents from number `first` to the end of its block: the rows and counts of `patents.invent`."""
    rng = np.random.default_rng([plan.seed, 1 + first // BLOCK])
    number = np.arange(first, min(first + BLOCK, plan.patents))
    patents = _write(plan, number, rng)
    classes = _classify(plan, number, rng)
    citations, counted = _cite(plan, number, rng)
    empty = pc.equal(patents["patent_abstract"], "").to_numpy()
    listed = patents.filter(pa.array(~empty | (TYPE[number % 100] != 1)))
    strays = pa.table({"patent_id": (20_000_000 + number[number % 250 == 111]).astype(str).tolist()})
    for name, value in STRAY.items():
        strays = strays.append_column(name, pa.repeat(value, len(strays)))
    parents = plan.parent[number]
    rows = {
        "patents": pa.concat_tables([patents, patents.filter(pa.array(number % 250 == 101))]),
        "abstracts": pa.concat_tables([table.select(["patent_id", "patent_abstract"]) for table in (listed, strays)]),
        "classes": pa.concat_tables([classes, strays.select(classes.column_names)]),
        "citations": citations,
        "relations": _relate(plan, number),
    }
    return rows, {
        "patents": len(number),
        "withdrawn": int((CASE[number % 100] == "withdrawn").sum()),
        "families": len(np.unique(parents[parents >= 0])),
        **counted,
        "unclassified": int(_is_unclassified(number).sum()),
        "empty_abstracts": int(empty.sum()),
    }


def _is_unclassified(number: Ints) -> Ints:
    return (TYPE[number % 100] > 0) | (CASE[number % 100] == "unclassified")


def _ids(plan: Proportions, number: Ints) -> pa.Array:
    """Return the ids of `number`, which may repeat."""
    serials = pa.array(plan.serials(number)).cast(pa.string())
    return pc.binary_join_element_wise(_pool(LETTERS, TYPE[number % 100]), serials, "")


def _pool(texts: Any, at: Ints) -> pa.Array:
    """Take from a few texts."""
    return pa.array(texts).take(pa.array(at))


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
    continues = number[(plan.parent[number] >= 0) & (number % 2 == 0)]  # the odd ones do not cite their parent
    good = (size > 0) & (cited < citing)
    citing, cited = np.append(citing[good], continues), np.append(cited[good], plan.parent[continues])
    key = np.unique(citing * plan.patents + cited)
    return np.stack([key // plan.patents, key % plan.patents], axis=1)


def _cite(plan: Proportions, number: Ints, rng: np.random.Generator) -> tuple[pa.Table, dict[str, int]]:
    """Return the rows of citations, with repeated, reversed, self and dangling ones, and their counts."""
    pairs = draw_pairs(plan, number, rng)
    repeated, back, itself = pairs[5::90], pairs[50::250, ::-1], np.repeat(number[40::400, None], 2, axis=1)
    dangling = pairs[rng.random(len(pairs)) < 1 / 3]
    dangling[:, 1] = -1
    rows = np.concatenate([pairs, repeated, itself, dangling])
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    start = np.searchsorted(rows[:, 0], rows[:, 0])
    # In the rows of `back` the cited patent cites the citing one; it may be in a block that is written already.
    sequence = np.append(np.arange(len(rows)) - start, 10_000 + np.arange(len(back)))
    citing, cited = np.concatenate([rows, back]).T
    inside, known = cited >= 0, np.maximum(cited, 0)
    # A cited patent outside the table was granted before the table begins.
    outside_id = pa.array(rng.integers(1_500_000, 3_900_000, len(cited))).cast(pa.string())
    outside_year = len(TUESDAYS) + rng.integers(0, 45, len(cited))
    dates = [f"{day[:8]}01" for day in TUESDAYS] + [f"{year}-05-01" for year in range(1930, 1975)]
    kinds = np.where(inside, plan.kinds(known), len(KINDS) - 1)
    table = {
        "patent_id": _ids(plan, citing),
        "citation_sequence": sequence,
        "citation_patent_id": pc.if_else(pa.array(inside), _ids(plan, known), outside_id),
        "citation_date": _pool(dates, np.where(inside, plan.weeks(known), outside_year)),
        "record_name": _pool([f"{name} et al." for name in SURNAMES], rng.integers(0, len(SURNAMES), len(cited))),
        "wipo_kind": _pool(KINDS, kinds),
        "citation_category": _pool(CATEGORIES, rng.choice(4, len(cited), p=[0.35, 0.45, 0.12, 0.08])),
    }
    return pa.table(table), {
        "citations_inside": int(inside.sum()),
        "citations_dangling": len(dangling),
        "citations_duplicate": len(repeated),
        "citations_self": len(itself),
    }


def _classify(plan: Proportions, number: Ints, rng: np.random.Generator) -> pa.Table:
    """Return the CPC rows in any order; some patents have none."""
    many = np.minimum(1 + rng.negative_binomial(1.5, 1.5 / (1.5 + CLASSES), len(number)), 60)
    many[_is_unclassified(number)] = 0
    patent = np.repeat(np.arange(len(number)), many)
    sequence = np.arange(len(patent)) - np.repeat(np.cumsum(many) - many, many)
    place = np.where(sequence == 0, 0, rng.choice(len(PLACES), len(patent), p=PLACES))
    subclass = plan.branches[plan.line[number[patent]], place]
    at = rng.permutation(len(patent))
    sequence, subclass = sequence[at], subclass[at]
    symbol = _pool(symbols(), subclass)
    groups = _pool([str(n) for n in range(1, 60)], rng.integers(0, 59, len(at)))
    subgroups = _pool([f"/{n:02d}" for n in range(50)], rng.integers(0, 50, len(at)))
    table = {
        "patent_id": _ids(plan, number[patent[at]]),
        "cpc_sequence": sequence,
        "cpc_section": _pool([s[:1] for s in symbols()], subclass),
        "cpc_class": _pool([s[:3] for s in symbols()], subclass),
        "cpc_subclass": symbol,
        "cpc_group": pc.binary_join_element_wise(symbol, groups, subgroups, ""),
        "cpc_type": _pool(["additional", "inventional"], (rng.random(len(at)) < 0.6).astype(int)),
    }
    return pa.table(table)


def _relate(plan: Proportions, number: Ints) -> pa.Table:
    """Return the related documents: what the patents of families continue, and applications outside the table."""
    rng = np.random.default_rng([plan.seed, 1 + number[0] // BLOCK, 1])
    continues = number[plan.parent[number] >= 0]
    count = len(number) * 6 // 10
    applications = rng.integers(60_000_000, 64_000_000, count)  # some are named by two patents
    kind = rng.choice(len(RELATED), count, p=[0.25, 0.1, 0.05, 0.6])
    type_ = np.append(np.zeros(len(continues), int), kind)
    documents = pa.concat_arrays(
        [_ids(plan, plan.parent[continues].astype(np.int64)), pa.array(applications).cast("string")]
    )
    table = {
        "patent_id": _ids(plan, np.append(continues, rng.choice(number, count))),
        "related_doc_type": _pool(RELATED, type_),
        "related_doc_kind": _pool(
            ["parent doc", "parent grant document"], (np.arange(len(type_)) < len(continues)).astype(int)
        ),
        "related_doc_number": documents,
        "related_doc_sequence": np.zeros(len(type_), int),
    }
    return pa.table(table)


def _write(plan: Proportions, number: Ints, rng: np.random.Generator) -> pa.Table:
    """Return the patents' rows, in order, with their abstracts."""
    titles, abstracts = (texts.to_pylist() for texts in _compose(plan, number, rng))
    spoil(number, titles, abstracts)
    for k in np.flatnonzero(plan.parent[number] >= 0).tolist():
        parent = int(plan.parent[number[k]] - number[0])
        titles[k], abstracts[k] = titles[parent], vary(abstracts[parent], k)
    weeks = plan.weeks(number)
    table = {
        "patent_id": _ids(plan, number),
        "patent_type": _pool(TYPES, TYPE[number % 100]),
        "patent_date": _pool(TUESDAYS, weeks),
        "patent_title": titles,
        "patent_abstract": abstracts,
        "wipo_kind": _pool(KINDS, plan.kinds(number)),
        "num_claims": 1 + rng.poisson(14, len(number)),
        "withdrawn": (CASE[number % 100] == "withdrawn").astype(int),
        "filename": _pool([f"ipg{day[2:].replace('-', '')}.xml" for day in TUESDAYS], weeks),
    }
    return pa.table(table)


def _compose(plan: Proportions, number: Ints, rng: np.random.Generator) -> tuple[pa.Array, pa.Array]:
    """Compose titles and abstracts from the sentences of subclasses, and a sentence with the words of the line."""
    line = plan.line[number]
    abstracts, titles, words, terms = _sentences()
    kinds = plan.branches[line[:, None], rng.choice(4, (len(number), len(abstracts)), p=[0.7, 0.15, 0.1, 0.05])]
    chosen = [
        sentences.take(pa.array(kinds[:, k].astype(int) * VARIANTS + rng.integers(0, VARIANTS, len(number))))
        for k, sentences in enumerate(abstracts)
    ]
    # As in the small sample a line has two words of its own, with four endings, and some terms.
    stem = (line * 2 + rng.integers(0, 2, len(line))).astype(np.int64) * 48_271 % (len(words) // 4)
    term = (line * 4 + rng.integers(0, 4, len(line))).astype(np.int64) * 69_621 % len(terms)
    ends = rng.integers(0, 4, len(line))
    template = rng.integers(0, len(_LAST), len(line))
    start, middle, end = (_pool(pieces, template) for pieces in zip(*_LAST, strict=True))
    chosen += [start, words.take(pa.array(stem * 4 + ends)), middle, terms.take(pa.array(term)), end]
    of_title = [
        sentences.take(pa.array(plan.branches[line, 0].astype(int) * VARIANTS + rng.integers(0, VARIANTS, len(number))))
        for sentences in titles
    ]
    return pc.binary_join_element_wise(*of_title, ""), pc.binary_join_element_wise(*chosen, "")


@cache
def _sentences() -> tuple[list[pa.Array], list[pa.Array], pa.Array, pa.Array]:
    """Compose `VARIANTS` of each sentence for each subclass: those of abstracts, of titles, made-up words and terms."""
    rng = np.random.default_rng(1)
    n, base = COUNT * VARIANTS, len(SYLLABLE)
    neighbour = np.searchsorted(list(SUBCLASSES), symbols()).clip(max=len(SUBCLASSES) - 1)
    subclass = np.repeat(np.arange(COUNT), VARIANTS)[:, None]
    made_up = (SYLLABLE[:, None, None, None] + SYLLABLE[:, None, None] + SYLLABLE[:, None] + ENDING).ravel()
    jargon = rng.integers(0, 4 * base**3, (COUNT, 6))  # made-up words of a subclass

    def draw(part: dict[str, Any], lead: str = "") -> pa.Array:
        words = {
            "g": np.array(GENERAL, object)[rng.integers(0, len(GENERAL), (n, 2))],
            "s": SUBJECTS[neighbour[subclass], rng.integers(0, SUBJECTS.shape[1], (n, 4))],
            "c": TERMS[rng.integers(0, len(TERMS), (n, 6)), rng.integers(0, 2, (n, 6))],
            "k": made_up[jargon[subclass, rng.integers(0, 6, (n, 2))]],
        }
        texts = compose([part], words, rng)
        return pa.array([lead + text if lead else text for text in texts])

    abstracts = [draw(part, " " if k == len(SENTENCES) else "") for k, part in enumerate(_PARTS)]
    of_title = [draw(part) for part in TITLES]
    of_title[0] = pa.array([text[0].upper() + text[1:] for text in of_title[0].to_pylist()])
    return abstracts, of_title, pa.array(made_up), pa.array(TERMS.ravel())
