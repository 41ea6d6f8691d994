"""Figures agree with independent implementations and with figures measured outside of this project."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sklearn.metrics import ndcg_score

from patentcl.evaluation import (
    EvaluationSet,
    bm25_scores,
    dense_scores,
    evaluate,
    evaluation_set,
    retrieval_metrics,
    triplet_accuracy,
    verdict,
)
from patentcl.road import tables_to_triplets
from patentcl.triplets import Mining, load_triplets


def random_set(texts: int = 60, queries: int = 12, seed: int = 0) -> tuple[EvaluationSet, np.ndarray]:
    draw = np.random.default_rng(seed)
    embeddings = draw.normal(size=(texts, 8)).astype(np.float32)
    pairs = [
        (q, r)
        for q in range(queries)
        for r in draw.choice(np.arange(queries, texts), draw.integers(1, 5), replace=False)
    ]
    frame = pd.DataFrame({"patent_id": [str(i) for i in range(texts)]})
    everything = np.ones(texts, bool)
    family, unseen = np.arange(texts), np.ones(len(pairs), bool)
    on = EvaluationSet(frame, np.empty((0, 3), int), np.array(pairs), family, everything, unseen)
    return on, embeddings


def test_retrieval_agrees_with_scikit_learn_and_with_sentence_transformers() -> None:
    on, embeddings = random_set()
    scores = dense_scores(embeddings)
    queries = np.unique(on.pairs[:, 0])
    matrix = scores(queries)
    matrix[np.arange(len(queries)), queries] = -2  # the query itself is no answer
    truth = np.zeros_like(matrix)
    truth[on.pairs[:, 0], on.pairs[:, 1]] = 1

    ours = evaluate(scores, on)

    assert ours["nDCG@10"] == pytest.approx(ndcg_score(truth, matrix, k=10))
    relevant = {str(q): {str(r) for r in on.pairs[on.pairs[:, 0] == q, 1]} for q in queries}
    library = InformationRetrievalEvaluator(
        dict.fromkeys(relevant, ""), {str(i): "" for i in range(60)}, relevant,
        mrr_at_k=[60], ndcg_at_k=[10], accuracy_at_k=[1], precision_recall_at_k=[10], map_at_k=[1],
    )  # fmt: skip
    ranked = [[{"corpus_id": str(i), "score": float(s)} for i, s in enumerate(row) if s > -2] for row in matrix]
    theirs = library.compute_metrics(list(ranked))
    assert ours["MRR"] == pytest.approx(theirs["mrr@k"][60])
    assert ours["Recall@10"] == pytest.approx(theirs["recall@k"][10])


def test_figures_of_a_case_worked_out_by_hand() -> None:
    figures = retrieval_metrics(np.array([7, 7, 9]), np.array([1, 12, 200]))

    assert figures["MRR"] == pytest.approx((1 / 1 + 1 / 200) / 2)
    assert figures["Recall@10"] == pytest.approx((1 / 2 + 0) / 2)
    assert figures["Recall@100"] == pytest.approx((2 / 2 + 0) / 2)
    assert figures["nDCG@10"] == pytest.approx((1 / (1 + 1 / np.log2(3)) + 0) / 2)


def test_equal_texts_get_no_better_rank_than_their_place() -> None:
    on, _ = random_set()
    figures = evaluate(lambda rows: np.zeros((len(rows), 60)), on)

    assert figures["MRR"] < 0.2  # a model that cannot tell anything apart is not rewarded for ties


def test_members_of_the_querys_family_are_not_in_its_way() -> None:
    scores = dense_scores(np.array([[1.0, 0.0], [1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]))
    texts, triplets, pairs = pd.DataFrame(index=range(4)), np.empty((0, 3), int), np.array([[0, 2]])

    strangers = EvaluationSet(texts, triplets, pairs, np.array([1, 2, 3, 4]), np.ones(4, bool), np.ones(1, bool))
    family = EvaluationSet(texts, triplets, pairs, np.array([1, 1, 3, 4]), np.ones(4, bool), np.ones(1, bool))

    assert evaluate(scores, strangers)["MRR"] == 0.5
    assert evaluate(scores, family)["MRR"] == 1


def test_triplet_accuracy_counts_a_tie_as_wrong() -> None:
    triplets = np.array([[0, 1, 2], [0, 2, 1], [0, 1, 1]])
    scores = dense_scores(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]))

    assert triplet_accuracy(scores, triplets) == pytest.approx(1 / 3)


def test_the_corpus_of_an_evaluation_can_be_cut_but_keeps_what_is_asked_for(road: Path) -> None:
    data = load_triplets(road / "triplets" / "200")

    whole, cut = evaluation_set(data, "test"), evaluation_set(data, "test", most_texts=1)

    assert len(cut.texts) < len(whole.texts) == data.texts["in_corpus"].sum()
    for on in (whole, cut):
        ids = on.texts["patent_id"].to_numpy()
        pairs = data.retrieval.query("split == 'test'")
        assert ids[on.pairs[:, 0]].tolist() == pairs["query_id"].tolist()
        assert ids[on.pairs[:, 1]].tolist() == pairs["relevant_id"].tolist()
    assert 0 < whole.unseen.sum() < len(whole.unseen)
    assert whole.texts["abstract"].str.strip().ne("").all()


def test_the_verdict_is_one_line_that_says_which_is_better_or_that_it_cannot() -> None:
    low, high = {"nDCG@10": 0.25, "triplet accuracy": 0.8}, {"nDCG@10": 0.3, "triplet accuracy": 0.9}

    assert "0.250 → 0.300" in verdict("m", low, high, low, 500)
    assert "better than its base" in verdict("m", low, high, low, 500)
    assert "worse than its base" in verdict("m", high, low, low, 500)
    assert "not clearly different from its base, with 30 queries" in verdict("m", low, high, low, 30)


def test_bm25_on_real_patents_reproduces_the_figures_measured_elsewhere(water: Path, tmp_path: Path) -> None:
    tables_to_triplets(water, tmp_path, "10K", Mining())
    texts = load_triplets(tmp_path / "triplets" / "10K").texts
    row = pd.Series(np.arange(len(texts)), index=texts["patent_id"])
    pairs = (
        pd.read_csv(water / "in_set_citation_pairs.csv", dtype=str).apply(lambda ids: row[ids].to_numpy()).to_numpy()
    )
    everything = np.ones(len(texts), bool)

    alone = np.arange(len(texts))  # the measurement elsewhere left families in
    on = EvaluationSet(texts, np.empty((0, 3), int), pairs, alone, everything, pairs[:, 0] >= 0)
    figures = evaluate(bm25_scores(texts), on)

    assert figures["nDCG@10"] == pytest.approx(0.397, abs=0.005)
    assert figures["Recall@10"] == pytest.approx(0.479, abs=0.005)
    assert figures["Recall@100"] == pytest.approx(0.784, abs=0.005)
    assert figures["MRR"] == pytest.approx(0.405, abs=0.005)
