"""The rows of the sample's tables: patents with their texts, citations and classes, a block of patents at a time.

A text names five of the six concepts of the patent's line, one of a patent that it cites, the line's made-up words
with varying endings, subject words of its own and of related subclasses, and phrases without meaning. It also holds
what is hard in the real tables: `CASES`, `HARD`, and rows that are repeated, reversed or lead out of the table.
"""

from typing import Any

import numpy as np

from .plan import BLOCK, CASE, CLASS_OF, SECTION_OF, SYMBOLS, TYPE, TYPES, Ints, Plan, Words, cite, near
from .words import ENDINGS, GENERAL, HARD, PAIRS, SENTENCES, SUBCLASSES, SURNAMES, SYLLABLES, TITLES, Sentences

Fields = dict[str, Any]  # field → one value a row, quotes in texts doubled

FAVOURED = 0.8  # how often a patent says the side it favours
OWN, CLASS = 0.38, 0.27  # subject words of the own subclass, of its class; the rest are of its section

SUBJECTS = np.array([words for _, words in SUBCLASSES.values()], object)
TERMS = np.array(PAIRS, object)
SYLLABLE, ENDING = np.array(SYLLABLES, object), np.array(ENDINGS, object)
CATEGORIES = np.array(["cited by examiner", "cited by applicant", "cited by other", ""], object)


def invent(plan: Plan, first: int) -> tuple[dict[str, Fields], dict[str, int]]:
    """Invent the patents from number `first` to the end of its block: the rows of each table, and counts.

    Of the counts, `citations_inside` are those with both ends in the table, `_duplicate` and `_self` ones among them;
    `citations_dangling` cite what is not there. A family is a patent with those that continue it, under its abstract
    up to case and white space. `unclassified` patents have no CPC row.
    """
    rng = np.random.default_rng([plan.seed, 1 + first // BLOCK])
    number = np.arange(first, min(first + BLOCK, plan.patents))
    pairs = cite(plan, number, rng)
    patents = _write(plan, number, pairs, rng)
    ids, abstracts = patents["patent_id"], patents["patent_abstract"]
    classes, unclassified = _classify(plan, number, ids, rng)
    citations, counted = _list_citations(plan, number, pairs, rng)
    # A design without an abstract has no row in that table, other patents have an empty one.
    listed = np.flatnonzero((CASE[number % 100] != "design") | np.array([text != "" for text in abstracts])).tolist()
    strays = [str(20_000_000 + n) for n in number[number % 250 == 111].tolist()]  # ids of no patent in the table
    stray = {"cpc_sequence": 0, "cpc_section": "A", "cpc_class": "A01", "cpc_subclass": "A01B",
             "cpc_group": "A01B1/00", "cpc_type": "inventional"}  # fmt: skip
    twice = np.flatnonzero(number % 250 == 101).tolist()
    rows = {
        "patents": {field: values + [values[k] for k in twice] for field, values in patents.items()},
        "abstracts": {
            "patent_id": [ids[k] for k in listed] + strays,
            "patent_abstract": [abstracts[k] for k in listed] + ["An abstract without a patent."] * len(strays),
        },
        "classes": {
            "patent_id": classes.pop("patent_id") + strays,
            **{field: values + [stray[field]] * len(strays) for field, values in classes.items()},
        },
        "citations": citations,
    }
    return rows, {
        "patents": len(number),
        "withdrawn": sum(patents["withdrawn"]),
        "families": len(np.unique(plan.parent[number][plan.parent[number] >= 0])),
        **counted,
        "unclassified": unclassified,
        "empty_abstracts": abstracts.count(""),
    }


def _list_citations(plan: Plan, number: Ints, pairs: Ints, rng: np.random.Generator) -> tuple[Fields, dict[str, int]]:
    """Return the rows of citations, with repeated, reversed, self and dangling ones, and their counts."""
    repeated, back, itself = pairs[5::90], pairs[50::250, ::-1], np.repeat(number[40::400, None], 2, axis=1)
    dangling = np.stack([rng.choice(number, len(pairs) // 3), np.full(len(pairs) // 3, -1)], axis=1)
    rows = np.concatenate([pairs, repeated, itself, dangling])
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    start = np.searchsorted(rows[:, 0], rows[:, 0])
    # In the rows of `back` the cited patent cites the citing one; it may be in a block that is written already.
    sequence = np.append(np.arange(len(rows)) - start, 100 + np.arange(len(back)))
    citing, cited = np.concatenate([rows, back]).T
    inside = cited >= 0
    # A cited patent outside the table was granted before the table begins.
    outside_id = rng.integers(1_500_000, 3_900_000, len(cited)).tolist()
    outside_date = rng.integers(1930, 1975, len(cited)).tolist()
    known = plan.ids(np.maximum(cited, 0))
    months = plan.dates(np.maximum(cited, 0)).tolist()
    names = np.array([f"{name} et al." for name in SURNAMES], object)
    fields = {
        "patent_id": plan.ids(citing),
        "citation_sequence": sequence.tolist(),
        "citation_patent_id": [k if i else str(o) for i, k, o in zip(inside.tolist(), known, outside_id, strict=True)],
        "citation_date": [
            f"{m[:8]}01" if i else f"{o}-05-01" for i, m, o in zip(inside.tolist(), months, outside_date, strict=True)
        ],
        "record_name": names[rng.integers(0, len(names), len(cited))].tolist(),
        "wipo_kind": np.where(inside, plan.wipo_kinds(np.maximum(cited, 0)), "A").tolist(),
        "citation_category": CATEGORIES[rng.choice(4, len(cited), p=[0.35, 0.45, 0.12, 0.08])].tolist(),
    }
    return fields, {
        "citations_inside": int(inside.sum()),
        "citations_dangling": len(dangling),
        "citations_duplicate": len(repeated),
        "citations_self": len(itself),
    }


def _classify(plan: Plan, number: Ints, ids: list[str], rng: np.random.Generator) -> tuple[Fields, int]:
    """Return the CPC rows, 1 to 4 subclasses a patent, some of them twice, and how many patents have none."""
    case = CASE[number % 100]
    without = (TYPE[number % 100] > 0) | (case == "unclassified")
    many = rng.choice([1, 2, 3, 4], len(number), p=[0.45, 0.3, 0.15, 0.1])
    many[without] = 0
    # Five places: the line's four subclasses, of which the patent has the first ones, and the primary one again.
    places = plan.branches[plan.line[number]][:, [0, 1, 2, 3, 0]]
    used = np.column_stack([np.arange(4) < many[:, None], (many > 0) & (rng.random(len(number)) < 0.5)])
    sequence = used.cumsum(axis=1) - 1
    patent, place = np.nonzero(used)
    shuffled = rng.permutation(len(patent))
    patent, place = patent[shuffled], place[shuffled]
    symbols = SYMBOLS[places[patent, place]].tolist()
    main, sub = rng.integers(1, 60, len(symbols)).tolist(), rng.integers(0, 50, len(symbols)).tolist()
    fields = {
        "patent_id": [ids[k] for k in patent.tolist()],
        "cpc_sequence": sequence[patent, place].tolist(),
        "cpc_section": [symbol[:1] for symbol in symbols],
        "cpc_class": [symbol[:3] for symbol in symbols],
        "cpc_subclass": symbols,
        "cpc_group": [f"{s}{m}/{u:02d}" for s, m, u in zip(symbols, main, sub, strict=True)],
        "cpc_type": np.where(rng.random(len(symbols)) < 0.6, "inventional", "additional").tolist(),
    }
    return fields, int(without.sum())


def _write(plan: Plan, number: Ints, pairs: Ints, rng: np.random.Generator) -> Fields:
    """Return the patents' rows: field → one value a patent, in order."""
    case = CASE[number % 100]
    words = _choose_words(plan, number, pairs, rng)
    titles = [title[0].upper() + title[1:] for title in _compose(TITLES, words, rng)]
    abstracts = _compose(SENTENCES, words, rng)
    _spoil(number, case, titles, abstracts)
    for k in np.flatnonzero(plan.parent[number] >= 0).tolist():
        parent = int(plan.parent[number[k]] - number[0])
        titles[k], abstracts[k] = titles[parent], _vary(abstracts[parent], k)
    dates = plan.dates(number).tolist()
    return {
        "patent_id": plan.ids(number),
        "patent_type": TYPES[TYPE[number % 100]].tolist(),
        "patent_date": dates,
        "patent_title": [title.replace('"', '""') for title in titles],
        "patent_abstract": [abstract.replace('"', '""') for abstract in abstracts],
        "wipo_kind": plan.wipo_kinds(number).tolist(),
        "num_claims": (1 + rng.poisson(14, len(number))).tolist(),
        "withdrawn": (case == "withdrawn").astype(int).tolist(),
        "filename": [f"ipg{day[2:4]}{day[5:7]}{day[8:]}.xml" for day in dates],
    }


def _choose_words(plan: Plan, number: Ints, pairs: Ints, rng: np.random.Generator) -> dict[str, Words]:
    """Choose the words of each patent, by the letter of the gap they fill: (patents, words) each."""
    n, line = len(number), plan.line[number]
    own = np.repeat(plan.branches[line, :1], 4, axis=1)
    chance = rng.random(own.shape)
    subclass = np.select(
        [chance < OWN, chance < OWN + CLASS], [own, near(own, CLASS_OF, rng)], near(own, SECTION_OF, rng)
    )
    # Five of the line's six concepts and one of a patent it cites, in the name that patent does not favour.
    chosen = np.take_along_axis(plan.concepts[line], rng.random((n, 6)).argsort(axis=1)[:, :5], axis=1)
    favoured = np.repeat(plan.side[number][:, None], 5, axis=1)
    cited = _some_cited(number, pairs, rng)[:, None]
    borrowed = plan.concepts[plan.line[cited], rng.integers(0, 6, cited.shape)]
    concept = np.column_stack([chosen, borrowed])[:, [0, 1, 5, 2, 3, 4]]
    side = np.column_stack([favoured, 1 - plan.side[cited]])[:, [0, 1, 5, 2, 3, 4]]
    side ^= rng.random(side.shape) >= FAVOURED
    stem = plan.stems[line]
    base = len(SYLLABLES)
    made_up = SYLLABLE[stem // base**2] + SYLLABLE[stem // base % base] + SYLLABLE[stem % base]
    return {
        "g": np.array(GENERAL, object)[rng.integers(0, len(GENERAL), (n, 2))],
        "s": SUBJECTS[subclass, rng.integers(0, SUBJECTS.shape[1], subclass.shape)],
        "c": TERMS[concept, side],
        "k": made_up + ENDING[rng.integers(0, len(ENDING), stem.shape)],
    }


def _some_cited(number: Ints, pairs: Ints, rng: np.random.Generator) -> Ints:
    """Draw one of the patents that each patent cites; itself where it cites none."""
    start = np.searchsorted(pairs[:, 0], number)
    size = np.searchsorted(pairs[:, 0], number, side="right") - start
    drawn = start + rng.integers(0, np.maximum(size, 1))
    cited = np.append(pairs[:, 1], 0)[np.minimum(drawn, len(pairs))]
    return np.where(size > 0, cited, number)


def _compose(sentences: Sentences, words: dict[str, Words], rng: np.random.Generator) -> list[str]:
    """Return a text a patent: a template of each sentence, drawn, with the gaps filled by the next words."""
    n = len(words["g"])
    texts = np.full(n, "", object)
    used = dict.fromkeys(words, 0)
    for gaps, templates in sentences:
        fill = []
        for letter in gaps:
            fill.append(words[letter][:, used[letter]])
            used[letter] += 1
        choice = rng.integers(0, len(templates), n)
        for which, template in enumerate(templates):
            row = choice == which
            for k, piece in enumerate(template.split("{}")):
                texts[row] += piece if k == 0 else fill[k - 1][row] + piece
    return texts.tolist()


def _spoil(number: Ints, case: Ints, titles: list[str], abstracts: list[str]) -> None:
    """Replace texts by the hard ones of `CASES`."""
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


def _vary(abstract: str, number: int) -> str:
    """Return an abstract as a continuation repeats it: the same, up to case and white space."""
    ways = [abstract, abstract.upper(), abstract.lower(), abstract.replace(". ", ".  "), abstract.replace(" ", "\n", 3)]
    return ways[number % len(ways)]
