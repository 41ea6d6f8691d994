"""How triplets are chosen, on tables small enough to work out by hand."""

import numpy as np
import pandas as pd
import pytest

from patentcl.tables.cpc import Sections
from patentcl.tables.family import PLACES
from patentcl.triplets.options import KINDS, Mining
from patentcl.triplets.select import (
    are_enough,
    choose,
    corpus_to_search,
    held_out,
    negatives,
    positives,
    retrieval_pairs,
    split_names,
)

TWO_SECTIONS = Sections(first=np.array([0, 100]), share=np.array([0.75, 0.25]), names=np.array(["A", "B"]))


def five_rows(**columns: list[object]) -> pd.DataFrame:
    """Triplets of five anchors: three of section A, ranks below 100, and two of section B."""
    rows = {"anchor": [0, 1, 2, 100, 101], "nth": [0] * 5, "order": [30, 10, 20, 50, 40], "split": ["train"] * 5}
    return pd.DataFrame(rows | columns)


def test_sections_take_turns_by_their_share_and_anchors_come_in_seeded_order() -> None:
    chosen, dropped = choose(five_rows(), Mining("4"), TWO_SECTIONS, None)

    # turns (i + 0.5) / share: A 0.67, 2, 3.33; B 2, 6. At turn 2 the smaller order goes first.
    assert chosen["anchor"].tolist() == [1, 2, 101, 0] and dropped == 0
    assert chosen["position"].tolist() == [0, 1, 2, 3]


def test_second_positives_come_after_all_first_ones() -> None:
    rows = five_rows(anchor=[0, 0, 0, 1, 2], nth=[0, 1, 2, 0, 0], order=[30, 30, 30, 10, 20])

    chosen, _ = choose(rows, Mining("4"), TWO_SECTIONS, None)

    assert chosen[["anchor", "nth"]].to_numpy().tolist() == [[1, 0], [2, 0], [0, 0], [0, 1]]


def test_dropped_triplets_are_replaced_by_the_next_ones() -> None:
    chosen, dropped = choose(five_rows(), Mining("2"), TWO_SECTIONS, lambda rows: (rows["anchor"] % 2 == 0).to_numpy())

    # two at a time: 1 and 2 (1 dropped), 101 and 0 (101 dropped)
    assert chosen["anchor"].tolist() == [2, 0] and dropped == 2


def test_held_out_triplets_are_neither_filtered_nor_limited_by_the_size() -> None:
    rows = five_rows(split=["train", "val", "val", "test", "train"])

    chosen, dropped = choose(rows, Mining("1"), TWO_SECTIONS, lambda rows: np.zeros(len(rows), bool))

    assert chosen["anchor"].tolist() == [1, 2, 100] and dropped == 2


def test_positives_are_ordered_by_kind_then_by_shared_citations() -> None:
    answers = {
        "cited": pd.DataFrame({"anchor": [0], "positives": [[5, 6]], "examiner": [[6, 9]]}),
        "coupled": pd.DataFrame({"anchor": [0], "coupled": [[5, 7, 8]], "shared": [[9, 2, 3]]}),
    }

    pairs = positives(answers, Mining(positives="examiner", per_anchor=3), seed=0)
    every = positives(answers, Mining(positives="coupled", per_anchor=9), seed=0)

    assert pairs["positive"].tolist() == [6, 5, 8]
    assert pairs["positive_kind"].tolist() == ["examiner", "cited", "coupled"]
    assert pairs["nth"].tolist() == [0, 1, 2]
    assert every["positive"].tolist()[2:] == [8, 7] and set(every["positive"][:2]) == {5, 6}  # 5 is cited, not coupled


def test_a_patent_with_the_text_of_a_positive_is_no_negative() -> None:
    pairs = pd.DataFrame({"anchor": [0, 0, 1], "positive": [2, 3, 2], "nth": [0, 1, 0]})
    answers = {kind: pd.DataFrame({"anchor": [0, 1], "negative": [4, 4]}) for kind in KINDS}
    answers["random"] = pd.DataFrame({"anchor": [0], "negative": [5]})
    family = np.array([10, 11, 12, 13, 13, 15])  # 4 has the abstract of 3, a positive of anchor 0

    triplets, counts = negatives(pairs, answers, Mining(), family, seed=0)

    assert triplets[["anchor", "negative"]].to_numpy().tolist() == [[0, 5], [0, 5], [1, 4]]
    assert counts["none found"] == 0 and answers["citation"]["negative"].tolist() == [4, 4]


def test_a_pair_falls_back_to_the_next_kind_and_is_left_out_without_any() -> None:
    pairs = pd.DataFrame({"anchor": [0, 1, 2], "positive": [3, 3, 3], "nth": [0, 0, 0]})
    none = pd.DataFrame({"anchor": [], "negative": []}, dtype="int64")
    answers = {
        "citation": pd.DataFrame({"anchor": [0], "negative": [4]}),
        "sibling": none,
        "random": pd.DataFrame({"anchor": [1], "negative": [5]}),
    }

    triplets, counts = negatives(pairs, answers, Mining(negatives="citation=1"), np.arange(6), seed=0)

    assert triplets[["anchor", "negative", "kind"]].to_numpy().tolist() == [[0, 4, "citation"], [1, 5, "random"]]
    assert counts["wanted"] == {"citation": 3, "sibling": 0, "random": 0}
    assert counts["fell back"]["citation → random"] == 1 and counts["none found"] == 1


def test_retrieval_pairs_are_what_a_limited_number_of_held_out_queries_cite() -> None:
    cited = pd.DataFrame({"anchor": [0, 1, 2, 3], "relevant": [[4, 3], [], [4], [0]]})
    split_of = np.array(["val", "val", "val", "test", "train"], dtype=object)

    pairs = retrieval_pairs(cited, split_of, Mining(max_queries=1), seed=0)
    every = retrieval_pairs(cited, split_of, Mining(), seed=0)

    assert every.to_numpy().tolist() == [[0, 3, "val"], [0, 4, "val"], [2, 4, "val"], [3, 0, "test"]]
    assert pairs.groupby("split")["query"].nunique().to_dict() == {"val": 1, "test": 1}


@pytest.mark.parametrize(("corpus", "size"), [(0, 50), (10, 10), (2, 4)])
def test_the_corpus_to_search_always_holds_queries_and_relevant_patents(corpus: int, size: int) -> None:
    retrieval = pd.DataFrame({"query": [1, 2], "relevant": [3, 4]})

    ranks = corpus_to_search(retrieval, np.arange(50), Mining(corpus=corpus), seed=0)["rank"].tolist()

    assert len(ranks) == size and {1, 2, 3, 4} <= set(ranks) and ranks == sorted(ranks)


@pytest.mark.parametrize(("in_a", "in_b", "enough"), [(40, 30, True), (37, 30, False), (60, 12, False)])
def test_anchors_are_enough_when_no_section_is_used_up_too_early(in_a: int, in_b: int, enough: bool) -> None:
    anchors = [*range(in_a), *range(100, 100 + in_b)]
    cited = pd.DataFrame({"anchor": anchors, "place": PLACES - 1, "positives": [[1]] * len(anchors)})
    answers = {"cited": cited, **dict.fromkeys(KINDS, pd.DataFrame({"anchor": anchors}))}

    assert are_enough(answers, Mining("50"), TWO_SECTIONS, held=0) == enough


def test_places_below_the_bounds_are_held_out() -> None:
    test, held = held_out(1_000, Mining(test=0.2, val=0.1))

    assert (test, held) == (200_000, 300_000)
    places = np.array([0, 199_999, 200_000, 299_999, 300_000, 999_999])
    assert split_names(places, test, held).tolist() == ["test", "test", "val", "val", "train", "train"]
    assert held_out(200_000, Mining(test=0.2)) == (100_000, 200_000)  # at most 20,000 patents each
