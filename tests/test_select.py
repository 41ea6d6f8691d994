"""How triplets are chosen, on tables small enough to work out by hand."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from patentcl.common.cli import InputError
from patentcl.tables.cpc import Sections
from patentcl.triplets.options import KINDS, Mining
from patentcl.triplets.patents import held_out, split_numbers
from patentcl.triplets.select import (
    POSITIVES,
    are_enough,
    choose,
    corpus_to_search,
    negatives,
    positives,
    retrieval_pairs,
)

TRAIN, VAL, TEST = range(3)  # the triplets hold indices of SPLITS
TWO_SECTIONS = Sections(first=np.array([0, 100]), share=np.array([0.75, 0.25]), names=np.array(["A", "B"]))


def five_rows(**columns: list[object]) -> pd.DataFrame:
    """Triplets of five anchors: three of section A, ranks below 100, and two of section B."""
    rows = {"anchor": [0, 1, 2, 100, 101], "nth": [0] * 5, "order": [30, 10, 20, 50, 40], "split": [TRAIN] * 5}
    return pd.DataFrame(rows | columns)


def test_sections_take_turns_by_their_share_and_anchors_come_in_seeded_order() -> None:
    chosen, dropped = choose(five_rows(), Mining("4"), TWO_SECTIONS, None)

    # turns (i + 0.5) / share: A 0.67, 2, 3.33; B 2, 6. At turn 2 the smaller order goes first.
    assert chosen["anchor"].tolist() == [1, 2, 101, 0] and dropped == 0


def test_sections_of_one_size_come_in_the_order_of_their_anchors() -> None:
    halves = Sections(first=np.array([0, 100]), share=np.array([0.5, 0.5]), names=np.array(["A", "B"]))

    chosen, _ = choose(five_rows(), Mining("FULL"), halves, None)

    # turns: A 1, 3, 5; B 1, 3. At equal turns the smaller order goes first.
    assert chosen["order"].tolist() == [10, 40, 20, 50, 30]


def test_the_order_is_that_of_sorting_all_triplets_by_turn() -> None:
    random = np.random.default_rng(0)
    shares = np.array([0.25, 0.25, 0.4, 0.1])
    where = Sections(np.array([0, 50, 100, 150]), shares, np.array(list("ABCD")))
    anchors = random.permutation(200)
    bucket = random.integers(0, 20, 200)  # anchors of one bucket are ordered by rank
    rows = pd.DataFrame({"anchor": np.repeat(anchors, 3), "nth": [0, 1, 2] * 200, "split": TRAIN})
    rows["order"] = bucket[rows["anchor"]]

    chosen, _ = choose(rows, Mining("FULL"), where, None)

    expected = rows.assign(section=where.of(rows["anchor"].to_numpy())).sort_values(["nth", "order", "anchor"])
    turn = (expected.groupby("section").cumcount() + 0.5) / shares[expected["section"]]
    expected = expected.assign(turn=turn).sort_values(["turn", "nth", "order", "anchor"])
    assert chosen[["anchor", "nth"]].to_numpy().tolist() == expected[["anchor", "nth"]].to_numpy().tolist()


def test_second_positives_come_after_all_first_ones() -> None:
    rows = five_rows(anchor=[0, 0, 0, 1, 2], nth=[0, 1, 2, 0, 0], order=[30, 30, 30, 10, 20])

    chosen, _ = choose(rows, Mining("4"), TWO_SECTIONS, None)

    assert chosen[["anchor", "nth"]].to_numpy().tolist() == [[1, 0], [2, 0], [0, 0], [0, 1]]


def test_dropped_triplets_are_replaced_by_the_next_ones() -> None:
    chosen, dropped = choose(five_rows(), Mining("2"), TWO_SECTIONS, lambda rows: (rows["anchor"] % 2 == 0).to_numpy())

    # two at a time: 1 and 2 (1 dropped), 101 and 0 (101 dropped)
    assert chosen["anchor"].tolist() == [2, 0] and dropped == 2


def test_held_out_triplets_are_neither_filtered_nor_limited_by_the_size() -> None:
    rows = five_rows(split=[TRAIN, VAL, VAL, TEST, TRAIN])

    chosen, dropped = choose(rows, Mining("1"), TWO_SECTIONS, lambda rows: np.zeros(len(rows), bool))

    assert chosen["anchor"].tolist() == [1, 2, 100] and dropped == 2


def test_positives_are_ordered_by_kind_then_by_shared_citations() -> None:
    answers = {
        "cited": pa.table({"anchor": [0], "positives": [[5, 6]], "examiner": [[6, 9]]}),
        "coupled": pa.table({"anchor": [0], "coupled": [[5, 7, 8]], "shared": [[9, 2, 3]]}),
    }

    pairs = positives(answers, Mining(positives="examiner", per_anchor=3), seed=0)
    every = positives(answers, Mining(positives="coupled", per_anchor=9), seed=0)

    assert pairs["positive"].tolist() == [6, 5, 8]
    assert [POSITIVES[kind] for kind in pairs["positive_kind"]] == ["examiner", "cited", "coupled"]
    assert pairs["nth"].tolist() == [0, 1, 2]
    assert every["positive"].tolist()[2:] == [8, 7] and set(every["positive"][:2]) == {5, 6}  # 5 is cited, not coupled


def test_a_triplet_takes_few_bytes() -> None:
    answers = {"cited": pa.table({"anchor": [0, 3], "positives": [[5, 6], [7]], "examiner": [[6, 9], []]})}
    answers |= {kind: pa.table({"anchor": [0, 3], "negative": [1, 2]}) for kind in KINDS}

    triplets, _ = negatives(positives(answers, Mining(), seed=0), answers, Mining(), np.arange(10), seed=0)

    assert len(triplets) == 3 and sum(dtype.itemsize for dtype in triplets.dtypes) <= 20


def test_a_patent_with_the_text_of_a_positive_is_no_negative() -> None:
    pairs = pd.DataFrame({"anchor": [0, 0, 1], "positive": [2, 3, 2], "nth": [0, 1, 0]})
    answers = {kind: pa.table({"anchor": [0, 1], "negative": [4, 4]}) for kind in KINDS}
    answers["random"] = pa.table({"anchor": [0], "negative": [5]})
    family = np.array([10, 11, 12, 13, 13, 15])  # 4 has the abstract of 3, a positive of anchor 0

    triplets, table = negatives(pairs, answers, Mining(), family, seed=0)

    assert triplets[["anchor", "negative"]].to_numpy().tolist() == [[0, 5], [0, 5], [1, 4]]
    assert table.sum() == 3 and table[:, -1].sum() == 0


def test_a_pair_falls_back_to_the_next_kind_and_is_left_out_without_any() -> None:
    pairs = pd.DataFrame({"anchor": [0, 1, 2], "positive": [3, 3, 3], "nth": [0, 0, 0]})
    answers = {
        "citation": pa.table({"anchor": [0], "negative": [4]}),
        "sibling": pa.table({"anchor": pa.array([], pa.int64()), "negative": pa.array([], pa.int64())}),
        "random": pa.table({"anchor": [7, 1], "negative": [4, 5]}),  # 7 has no positive
    }

    triplets, table = negatives(pairs, answers, Mining(negatives="citation=1"), np.arange(8), seed=0)

    assert triplets[["anchor", "negative"]].to_numpy().tolist() == [[0, 4], [1, 5]]
    assert [KINDS[kind] for kind in triplets["kind"]] == ["citation", "random"]
    assert table.tolist() == [[1, 0, 1, 1], [0] * 4, [0] * 4]  # wanted citation: got it, none, random, nothing


def test_retrieval_pairs_are_what_a_limited_number_of_held_out_queries_cite() -> None:
    cited = np.array([[3, 0], [0, 4], [0, 3], [2, 4]])
    split = np.array([VAL, VAL, VAL, TEST, TRAIN])

    pairs = retrieval_pairs(cited, split, Mining(max_queries=1), seed=0)
    every = retrieval_pairs(cited, split, Mining(), seed=0)

    assert every.tolist() == [[0, 3], [0, 4], [2, 4], [3, 0]]
    assert sorted(split[np.unique(pairs[:, 0])]) == [VAL, TEST]


@pytest.mark.parametrize(("corpus", "size"), [(0, 50), (10, 10), (2, 4)])
def test_the_corpus_to_search_always_holds_queries_and_relevant_patents(corpus: int, size: int) -> None:
    retrieval = np.array([[1, 3], [2, 4]])

    ranks = corpus_to_search(retrieval, np.arange(50), Mining(corpus=corpus), seed=0).tolist()

    assert len(ranks) == size and {1, 2, 3, 4} <= set(ranks) and ranks == sorted(ranks)


@pytest.mark.parametrize(("in_a", "in_b", "enough"), [(40, 30, True), (37, 30, False), (60, 12, False)])
def test_anchors_are_enough_when_no_section_is_used_up_too_early(in_a: int, in_b: int, enough: bool) -> None:
    anchors = [*range(in_a), *range(100, 100 + in_b)]
    triplets = pd.DataFrame({"anchor": anchors * 2, "nth": [0] * len(anchors) + [1] * len(anchors), "split": TRAIN})

    assert are_enough(triplets, Mining("50"), TWO_SECTIONS) == enough


def test_without_classes_there_is_no_sibling() -> None:
    assert Mining().without_classes().shares == {"citation": 0.5, "sibling": 0, "random": 0.5}
    assert Mining(negatives="random=3, sibling=1").without_classes().shares["random"] == 1
    with pytest.raises(InputError, match="--negatives sibling=2"):
        Mining(negatives="sibling=2,random=0").without_classes()


def test_places_below_the_bounds_are_held_out() -> None:
    test, held = held_out(1_000, Mining(test=0.2, val=0.1))

    assert (test, held) == (200_000, 300_000)
    places = np.array([0, 199_999, 200_000, 299_999, 300_000, 999_999])
    assert split_numbers(places, test, held).tolist() == [TEST, TEST, VAL, VAL, TRAIN, TRAIN]
    assert held_out(200_000, Mining(test=0.2)) == (100_000, 200_000)  # at most 20,000 patents each
