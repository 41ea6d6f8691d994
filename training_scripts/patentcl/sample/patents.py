"""The rows of the sample's tables: patents with their texts, citations and classes, a block of patents at a time.

A text names five of the six concepts of the patent's line, one of a patent that it cites, the line's made-up words
with varying endings, subject words of its own and of related subclasses, and phrases without meaning. It also holds
what is hard in the real tables: `CASES`, `HARD`, and rows that are repeated, reversed or lead out of the table.
"""

from typing import Any

import numpy as np
import pandas as pd

from .plan import BLOCK, CASE, CLASS_OF, SECTION_OF, SYMBOLS, TYPE, TYPES, Ints, Plan, Words, cite, near
from .words import ENDINGS, GENERAL, HARD, PAIRS, SENTENCES, STRAY, SUBCLASSES, SURNAMES, SYLLABLES, TITLES

FAVOURED = 0.8  # how often a patent says the side it favours
OWN, CLASS = 0.38, 0.27  # subject words of the own subclass, of its class; the rest are of its section

SUBJECTS = np.array([subclass["words"] for subclass in SUBCLASSES.values()], object)
TERMS = np.array(PAIRS, object)
SYLLABLE, ENDING = np.array(SYLLABLES, object), np.array(ENDINGS, object)
CATEGORIES = np.array(["cited by examiner", "cited by applicant", "cited by other", ""], object)


def invent(plan: Plan, first: int) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """Invent the patents from number `first` to the end of its block: the rows of each table, and counts.

    Of the counts, `citations_inside` are those with both ends in the table, `_duplicate` and `_self` ones among them;
    `citations_dangling` cite what is not there. A family is a patent with those that continue it, under its abstract
    up to case and white space. `unclassified` patents have no CPC row.
    """
    rng = np.random.default_rng([plan.seed, 1 + first // BLOCK])
    number = np.arange(first, min(first + BLOCK, plan.patents))
    pairs = cite(plan, number, rng)
    patents = _write(plan, number, pairs, rng)
    classes = _classify(plan, number, rng)
    citations, counted = _cite(plan, number, pairs, rng)
    # A design without an abstract has no row in that table, other patents have an empty one.
    listed = patents[(patents["patent_type"] != "design") | (patents["patent_abstract"] != "")]
    strays = pd.DataFrame({"patent_id": (20_000_000 + number[number % 250 == 111]).astype(str), **STRAY})
    parents = plan.parent[number]
    return {
        "patents": pd.concat([patents, patents[number % 250 == 101]]),
        "abstracts": pd.concat([listed, strays], join="inner"),
        "classes": pd.concat([classes, strays], join="inner"),
        "citations": citations,
    }, {
        "patents": len(number),
        "withdrawn": int(patents["withdrawn"].sum()),
        "families": len(np.unique(parents[parents >= 0])),
        **counted,
        "unclassified": len(number) - classes["patent_id"].nunique(),
        "empty_abstracts": int((patents["patent_abstract"] == "").sum()),
    }


def _cite(plan: Plan, number: Ints, pairs: Ints, rng: np.random.Generator) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the rows of citations, with repeated, reversed, self and dangling ones, and their counts."""
    repeated, back, itself = pairs[5::90], pairs[50::250, ::-1], np.repeat(number[40::400, None], 2, axis=1)
    dangling = np.stack([rng.choice(number, len(pairs) // 3), np.full(len(pairs) // 3, -1)], axis=1)
    rows = np.concatenate([pairs, repeated, itself, dangling])
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    start = np.searchsorted(rows[:, 0], rows[:, 0])
    # In the rows of `back` the cited patent cites the citing one; it may be in a block that is written already.
    sequence = np.append(np.arange(len(rows)) - start, 100 + np.arange(len(back)))
    citing, cited = np.concatenate([rows, back]).T
    inside, known = cited >= 0, np.maximum(cited, 0)
    # A cited patent outside the table was granted before the table begins.
    outside_id = rng.integers(1_500_000, 3_900_000, len(cited)).astype(str)
    outside_year = rng.integers(1930, 1975, len(cited)).astype(str).astype(object)
    table = pd.DataFrame(
        {
            "patent_id": plan.ids(citing),
            "citation_sequence": sequence,
            "citation_patent_id": np.where(inside, plan.ids(known), outside_id),
            "citation_date": np.where(inside, pd.Series(plan.dates(known)).str[:8] + "01", outside_year + "-05-01"),
            "record_name": np.array(SURNAMES, object)[rng.integers(0, len(SURNAMES), len(cited))] + " et al.",
            "wipo_kind": np.where(inside, plan.wipo_kinds(known), "A"),
            "citation_category": CATEGORIES[rng.choice(4, len(cited), p=[0.35, 0.45, 0.12, 0.08])],
        }
    )
    return table, {
        "citations_inside": int(inside.sum()),
        "citations_dangling": len(dangling),
        "citations_duplicate": len(repeated),
        "citations_self": len(itself),
    }


def _classify(plan: Plan, number: Ints, rng: np.random.Generator) -> pd.DataFrame:
    """Return the CPC rows: 1 to 4 subclasses a patent, some of them twice, but none for some patents."""
    many = rng.choice([1, 2, 3, 4], len(number), p=[0.45, 0.3, 0.15, 0.1])
    many[(TYPE[number % 100] > 0) | (CASE[number % 100] == "unclassified")] = 0
    # Five places: the line's four subclasses, of which the patent has the first ones, and the primary one again.
    places = plan.branches[plan.line[number]][:, [0, 1, 2, 3, 0]]
    used = np.column_stack([np.arange(4) < many[:, None], (many > 0) & (rng.random(len(number)) < 0.5)])
    sequence = used.cumsum(axis=1) - 1
    patent, place = rng.permutation(np.argwhere(used)).T
    subclass = places[patent, place]
    main, sub = rng.integers(1, 60, len(subclass)).tolist(), rng.integers(0, 50, len(subclass)).tolist()
    groups = [f"{s}{m}/{u:02d}" for s, m, u in zip(SYMBOLS[subclass], main, sub, strict=True)]
    return pd.DataFrame(
        {
            "patent_id": plan.ids(number[patent]),
            "cpc_sequence": sequence[patent, place],
            "cpc_section": SECTION_OF[subclass],
            "cpc_class": CLASS_OF[subclass],
            "cpc_subclass": SYMBOLS[subclass],
            "cpc_group": groups,
            "cpc_type": np.where(rng.random(len(subclass)) < 0.6, "inventional", "additional"),
        }
    )


def _write(plan: Plan, number: Ints, pairs: Ints, rng: np.random.Generator) -> pd.DataFrame:
    """Return the patents' rows, in order, with their abstracts."""
    words = _choose_words(plan, number, pairs, rng)
    titles = [title[0].upper() + title[1:] for title in compose(TITLES, words, rng)]
    abstracts = compose(SENTENCES, words, rng)
    spoil(number, titles, abstracts)
    for k in np.flatnonzero(plan.parent[number] >= 0).tolist():
        parent = int(plan.parent[number[k]] - number[0])
        titles[k], abstracts[k] = titles[parent], vary(abstracts[parent], k)
    dates = plan.dates(number)
    return pd.DataFrame(
        {
            "patent_id": plan.ids(number),
            "patent_type": TYPES[TYPE[number % 100]],
            "patent_date": dates,
            "patent_title": titles,
            "patent_abstract": abstracts,
            "wipo_kind": plan.wipo_kinds(number),
            "num_claims": 1 + rng.poisson(14, len(number)),
            "withdrawn": (CASE[number % 100] == "withdrawn").astype(int),
            "filename": [f"ipg{day[2:].replace('-', '')}.xml" for day in dates],
        }
    )


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


def compose(sentences: list[dict[str, Any]], words: dict[str, Words], rng: np.random.Generator) -> list[str]:
    """Compose one text per patent from randomly drawn templates, with the gaps filled by the next words."""
    n = len(words["g"])
    texts = np.full(n, "", object)
    used = dict.fromkeys(words, 0)
    for sentence in sentences:
        fill = []
        for letter in sentence["gaps"]:
            fill.append(words[letter][:, used[letter]])
            used[letter] += 1
        choice = rng.integers(0, len(sentence["templates"]), n)
        for which, template in enumerate(sentence["templates"]):
            row = choice == which
            for k, piece in enumerate(template.split("{}")):
                texts[row] += piece if k == 0 else fill[k - 1][row] + piece
    return texts.tolist()


def spoil(number: Ints, titles: list[str], abstracts: list[str]) -> None:
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


def vary(abstract: str, number: int) -> str:
    """An abstract as a continuation repeats it: the same, up to case and white space."""
    ways = [abstract, abstract.upper(), abstract.lower(), abstract.replace(". ", ".  "), abstract.replace(" ", "\n", 3)]
    return ways[number % len(ways)]
