"""Metrics agree with independent implementations and with values measured outside of this project."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sklearn.metrics import f1_score, ndcg_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.preprocessing import MultiLabelBinarizer

from patentcl.common.cli import InputError
from patentcl.common.files import write_json
from patentcl.evaluation import rankers
from patentcl.evaluation.__main__ import ENOUGH, main
from patentcl.evaluation.compare import check_names, compare_embeddings, embed_all, with_base
from patentcl.evaluation.held_out import PARTS, HeldOut, held_out_set
from patentcl.evaluation.metrics import METRICS, TRIPLETS, Row, measure, metric, quick
from patentcl.evaluation.rankers import Ranker, bm25_ranker, dense_ranker, tfidf_ranker
from patentcl.evaluation.report import Report, check_output
from patentcl.evaluation.scoring import CANDIDATES, Outcome, score
from patentcl.evaluation.significance import interval, p_value, resampled
from patentcl.models.embed import encode
from patentcl.models.load import MINILM, Model, find_model
from patentcl.pipeline import tables_to_triplets
from patentcl.triplets.dataset import ENDS, Dataset, load_dataset
from patentcl.triplets.options import Mining

NO_TRIPLETS = np.empty((0, 3), int)


def held_out_of(pairs: list[tuple[int, int]], texts: int, family: list[int] | None = None) -> HeldOut:
    """An evaluation of `pairs` (query, relevant) among `texts` texts, all held out."""
    frame = pd.DataFrame({"patent_id": [str(i) for i in range(texts)], "subclasses": [["A01B"]] * texts})
    frame = frame.assign(section="A", subclass="A01B", split="test", **{"class": "A01"})
    numbers, everything = np.array(family or range(texts)), np.ones(texts, bool)
    all_of, none_of = np.ones(len(pairs), bool), np.zeros(len(pairs), bool)
    parts = {"IN": all_of, "OUT": none_of, "known": none_of, "unseen": all_of}
    return HeldOut(frame, NO_TRIPLETS, np.empty(0, object), np.array(pairs), numbers, everything, parts)


def titled(held_out: HeldOut) -> HeldOut:
    """The same with texts of different words, for BM25 and TF-IDF."""
    held_out.texts["title"] = [f"word{number % 7} number{number}" for number in range(len(held_out.texts))]
    held_out.texts["abstract"] = held_out.texts["title"]
    return held_out


def always(scores: np.ndarray) -> Ranker:
    """A ranker that gives every query the same scores (N,)."""
    return lambda rows: np.tile(scores, (len(rows), 1))


def outcome_of(ranker: Ranker, held_out: HeldOut) -> Outcome:
    return score({"it": ranker}, held_out)["it"]


def row_of(ranker: Ranker, held_out: HeldOut) -> Row:
    return measure(outcome_of(ranker, held_out))


def random_pairs(texts: int = 60, queries: int = 12, seed: int = 0) -> tuple[HeldOut, np.ndarray]:
    draw = np.random.default_rng(seed)
    embeddings = draw.normal(size=(texts, 8)).astype(np.float32)
    pairs = [
        (q, r)
        for q in range(queries)
        for r in draw.choice(np.arange(queries, texts), draw.integers(1, 5), replace=False)
    ]
    return held_out_of(pairs, texts), embeddings


def test_retrieval_agrees_with_scikit_learn_and_with_sentence_transformers() -> None:
    held_out, embeddings = random_pairs()
    ranker = dense_ranker(embeddings)
    queries = np.unique(held_out.pairs[:, 0])
    matrix = ranker(queries)
    matrix[np.arange(len(queries)), queries] = -2  # the query itself is no answer
    truth = np.zeros_like(matrix)
    truth[held_out.pairs[:, 0], held_out.pairs[:, 1]] = 1

    ours = quick(ranker, held_out).values

    assert ours["nDCG@10"] == pytest.approx(ndcg_score(truth, matrix, k=10))
    relevant = {str(q): {str(r) for r in held_out.pairs[held_out.pairs[:, 0] == q, 1]} for q in queries}
    library = InformationRetrievalEvaluator(
        dict.fromkeys(relevant, ""),
        {str(i): "" for i in range(60)},
        relevant,
        mrr_at_k=[60],
        ndcg_at_k=[10],
        accuracy_at_k=[1],
        precision_recall_at_k=[10],
        map_at_k=[1],
    )
    ranked = [[{"corpus_id": str(i), "score": float(s)} for i, s in enumerate(row) if s > -2] for row in matrix]
    theirs = library.compute_metrics(list(ranked))
    assert ours["MRR"] == pytest.approx(theirs["mrr@k"][60])
    assert ours["Recall@10"] == pytest.approx(theirs["recall@k"][10])


def test_metrics_of_a_case_worked_out_by_hand() -> None:
    ranked = np.linspace(1, 0, 250)  # every query ranks the texts as they stand, but itself

    units = row_of(always(ranked), held_out_of([(0, 1), (0, 12), (249, 199)], 250)).units

    assert units["MRR"] == pytest.approx([1, 1 / 200])
    assert units["Recall@10"] == pytest.approx([1 / 2, 0])
    assert units["Recall@100"] == pytest.approx([1, 0])
    assert units["nDCG@10"] == pytest.approx([1 / (1 + 1 / np.log2(3)), 0])


def test_a_ranker_that_gives_equal_scores_is_not_rewarded() -> None:
    held_out, _ = random_pairs()

    row = row_of(always(np.zeros(60)), held_out)

    assert row.values["MRR"] < 0.2
    assert (row.units["rank among random"] == CANDIDATES + 1).all()


def test_the_querys_family_and_what_is_not_searched_take_no_rank() -> None:
    ranker = dense_ranker(np.array([[1.0, 0.0], [1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]))
    strangers, family = held_out_of([(0, 2)], 4), held_out_of([(0, 2)], 4, family=[1, 1, 3, 4])

    assert quick(ranker, strangers).values["MRR"] == 0.5
    assert quick(ranker, family).values["MRR"] == 1
    for held_out, rank in ((strangers, 2), (family, 1)):
        fused = score({"one": ranker, "two": ranker}, held_out, fusions={"both": ["one", "two"]})["both"]
        assert [ranks.tolist() for ranks in fused.ranks[""]] == [[rank]]
    triplet = replace(family, triplets=np.array([[0, 2, 3]]), kind=np.array(["random"]))
    fused = score({"one": ranker, "two": ranker}, triplet, fusions={"both": ["one", "two"]})["both"]
    assert fused.triplets.tolist() == [[2 / 61, 2 / 62]]


def texts_of(*abstracts: str) -> pd.DataFrame:
    return pd.DataFrame({"title": "", "abstract": abstracts})


def test_a_query_without_words_has_no_similarity() -> None:
    texts = texts_of("", "a pump for water", "the of a", "a filter for water")

    for ranker in (bm25_ranker(texts), tfidf_ranker(texts)):
        scores = ranker(np.arange(4))
        assert scores.shape == (4, 4) and not scores[[0, 2]].any()
        assert scores[1].argmax() == 1 and scores[1, 3] > 0

    held_out = held_out_of([(0, 1), (1, 3)], 4)  # without words all are equal, and stand as in the corpus
    assert row_of(bm25_ranker(texts), held_out).units["MRR"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("query", "relevant", "other"),
    [
        ("一种水处理装置及其方法", "用于废水处理的过滤器", "发动机的连接杆"),
        ("半導体装置の製造方法", "本発明は半導体に関する。", "自転車の車輪"),
        ("ﾎﾟﾝﾌﾟ装置", "高圧ポンプ", "自転車の車輪"),  # narrow and wide letters
        ("열처리장치를 제어하는 방법", "금속의 열처리", "자전거 바퀴"),
        ("ปั๊มน้ำแรงดันสูง", "วาล์วของปั๊มน้ำ", "หลอดไฟ"),
        ("LED照明", "ＬＥＤランプ", "自転車の車輪"),
    ],
)
def test_texts_without_spaces_between_words_are_found_by_words(query: str, relevant: str, other: str) -> None:
    texts = texts_of(query, other, relevant, "a wheel", "a bicycle")

    for ranker in (bm25_ranker(texts), tfidf_ranker(texts)):
        scores = ranker(np.arange(1))[0]
        assert scores[2] > scores[[1, 3, 4]].max(), "as with spaces between the words"
        assert scores[2] > 0 == scores[3]

    held_out = held_out_of([(0, 2)], 5)
    held_out.texts[["title", "abstract"]] = texts
    (note,) = compare_embeddings({"noise": np.eye(5)}, held_out).warnings
    assert " of 5 texts" in note


def test_english_words_are_those_of_the_libraries(mined_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held_out = held_out_set(load_dataset(mined_data / "triplets" / "200"), "test")
    ours = [ranker(held_out.texts)(held_out.queries) for ranker in (bm25_ranker, tfidf_ranker)]
    monkeypatch.setattr(rankers, "TOKEN", r"(?u)\b\w\w+\b")
    theirs = [ranker(held_out.texts)(held_out.queries) for ranker in (bm25_ranker, tfidf_ranker)]

    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert held_out.texts["title"].str.contains("中文").any() and rankers.notes_of(held_out.texts) == []


@pytest.mark.parametrize("abstracts", [("", " "), ("the", "of a"), ("about", "between"), ("a", "b")])
def test_texts_of_stop_words_only_are_refused(abstracts: tuple[str, ...]) -> None:
    held_out = held_out_of([(0, 1)], 2)
    held_out.texts[["title", "abstract"]] = texts_of(*abstracts)

    with pytest.raises(InputError, match=r"\btitle\b.*\babstract\b"):
        compare_embeddings({"noise": np.eye(2)}, held_out)


def test_val_queries_do_not_search_test_patents(mined_data: Path) -> None:
    held_out = held_out_set(load_dataset(mined_data / "triplets" / "200"), "val")

    hidden = np.stack([held_out.hidden(query) for query in held_out.queries])

    assert hidden[:, (held_out.texts["split"] == "test").to_numpy()].all()
    assert not hidden[:, (held_out.texts["split"] == "train").to_numpy()].all(axis=0).all()


def test_relevant_patents_of_other_parts_are_removed_from_the_search() -> None:
    held_out = held_out_of([(0, 1), (0, 2)], 5)
    held_out.parts["IN"], held_out.parts["OUT"] = np.array([True, False]), np.array([False, True])

    units = row_of(dense_ranker(np.array([[1, 0], [0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0, 1]])), held_out).units

    assert units["MRR"].tolist() == units["MRR IN"].tolist() == [1]
    assert units["MRR OUT"].tolist() == [1]  # patent 1 is no wrong answer, so it does not rank above patent 2
    assert len(units["MRR known"]) == 0


def test_triplet_accuracy_counts_a_tie_as_wrong() -> None:
    triplets = np.array([[0, 1, 2], [0, 2, 1], [0, 1, 1]])
    held_out = replace(held_out_of([(0, 1)], 3), triplets=triplets, kind=np.array(["random", "random", "sibling"]))

    row = quick(dense_ranker(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])), held_out)

    assert row.values["triplet accuracy"] == pytest.approx(1 / 3)
    assert row.values["triplet accuracy random"] == 0.5 and row.values["triplet accuracy sibling"] == 0
    assert "triplet accuracy citation" not in row.values
    assert row.units["triplet accuracy"].tolist() == [[1, 3]]  # one anchor


def test_reranking_takes_five_relevant_patents_and_hard_ones_of_the_section() -> None:
    held_out = held_out_of([(0, r) for r in range(1, 9)], 80)
    near = np.arange(80) % 2 == 0
    held_out.texts.loc[~near, ["section", "class", "subclass"]] = ["B", "B01", "B01D"]
    prefers_near = np.where(np.isin(np.arange(80), range(1, 9)), 0.5, np.where(near, 1.0, 0.0))

    units = row_of(always(prefers_near), held_out).units

    assert units["rank among hard"].tolist() == [CANDIDATES + 1]
    assert 1 < units["rank among random"][0] < CANDIDATES + 1
    assert units["rank among random"] == row_of(always(prefers_near), held_out).units["rank among random"]


def test_subclass_prediction_agrees_with_scikit_learn() -> None:
    draw = np.random.default_rng(3)
    held_out, symbols = held_out_of([(0, 1)], 90), np.array(["A01B", "B01D", "C02F"])
    vectors = draw.normal(size=(90, 4))
    held_out.texts["subclasses"] = [list(symbols[draw.random(3) < 0.5]) or ["A01B"] for _ in range(90)]
    held_out.texts["split"] = ["test"] * 30 + ["train"] * 60

    ours = row_of(dense_ranker(vectors), held_out)

    labels = MultiLabelBinarizer().fit_transform(held_out.texts["subclasses"])
    voters = KNeighborsClassifier(8, metric="cosine").fit(vectors[30:], labels[30:])
    theirs = voters.predict(vectors[:30])
    assert ours.values["CPC F1 micro"] == pytest.approx(f1_score(labels[:30], theirs, average="micro"))
    assert ours.values["CPC F1 macro"] == pytest.approx(f1_score(labels[:30], theirs, average="macro"))
    assert ours.values["CPC accuracy"] == pytest.approx((theirs == labels[:30]).all(axis=1).mean())
    assert ours.units["CPC F1 micro"].shape == (30, 2)


def labelled(texts: int, tested: int, seed: int = 3) -> tuple[HeldOut, np.ndarray]:
    """Texts with random vectors and subclasses, the first `tested` of them of the test split."""
    draw = np.random.default_rng(seed)
    held_out, symbols = held_out_of([(0, 1)], texts), np.array(["A01B", "B01D", "C02F"])
    vectors = draw.normal(size=(texts, 4))
    held_out.texts["subclasses"] = [list(symbols[draw.random(3) < 0.4]) or ["A01B"] for _ in range(texts)]
    held_out.texts["split"] = ["test"] * tested + ["train"] * (texts - tested)
    return held_out, vectors


def test_class_prediction_follows_the_protocol_of_patentsberta() -> None:
    held_out, vectors = labelled(90, 30)

    units = row_of(dense_ranker(vectors), held_out).units["CPC F1"]

    labels = MultiLabelBinarizer().fit_transform(held_out.texts["subclasses"])
    nearest = NearestNeighbors(n_neighbors=8, metric="cosine").fit(vectors[30:]).kneighbors(vectors[:30])[1]
    predicted = 1 / (1 + np.exp(-labels[30:][nearest].sum(axis=1))) > 0.9  # as in their code
    assert units.shape == (30,) and 0 < predicted.sum() < predicted.size
    assert units.mean() == pytest.approx(f1_score(labels[:30], predicted, average="samples", zero_division=0))


def test_without_other_splits_each_patent_is_predicted_by_all_outside_its_family(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held_out, vectors = labelled(40, 40)
    held_out.family[20:] = held_out.family[:20]
    vectors[20:] = vectors[:20]  # the nearest of all, so predictions would be perfect
    held_out.texts["subclasses"] = held_out.texts["subclasses"].iloc[:20].tolist() * 2

    outcome = outcome_of(dense_ranker(vectors), held_out)

    assert outcome.tested.tolist() == list(range(40))
    assert (held_out.family[outcome.nearest] != held_out.family[:, None]).all()
    monkeypatch.setattr("patentcl.evaluation.scoring.MOST_TESTED", 10)
    few = outcome_of(dense_ranker(vectors), held_out)
    assert len(few.tested) == 10 and few.tested.tolist() != list(range(10))
    np.testing.assert_array_equal(few.nearest, outcome.nearest[few.tested])


def test_a_macro_average_gives_each_section_the_same_weight() -> None:
    held_out, embeddings = random_pairs()
    held_out.texts.loc[:7, "section"], held_out.texts.loc[8, "section"] = "B", ""

    report = compare_embeddings({"one": embeddings, "other": embeddings[:, ::-1] + 1}, titled(held_out))

    values = pd.Series(report.rows["one"].units["nDCG@10"])
    by_section = values.groupby(["B"] * 8 + [None] + ["A"] * 3).mean()
    assert report.table["nDCG@10 macro"]["one"] == pytest.approx(by_section.mean())
    assert report.setting["queries by section"] == "none 1, A 3, B 8"
    low, high = (float(report.table[f"nDCG@10 macro {end}"]["one"]) for end in ("low", "high"))
    assert low < by_section.mean() < high


def test_the_gain_is_divided_between_queries_that_bm25_solves_and_others() -> None:
    held_out, embeddings = random_pairs(texts=120, queries=40)
    titled(held_out)
    solved = {query for query, relevant in held_out.pairs if query % 2 == 0}
    for query, relevant in held_out.pairs:  # a word that only the query and what it cites have
        if query in solved:
            held_out.texts.loc[[query, relevant], "abstract"] += f" query{query}"
    better = embeddings.copy()
    for query, relevant in held_out.pairs:
        better[query] = better[relevant]

    table = compare_embeddings({"base": embeddings, "better": better}, held_out).table

    row, queries = table.loc["better"], len(held_out.queries)
    assert row["queries"] == queries and 0 < row["queries solved"] < queries
    assert table["nDCG@10 unsolved"]["BM25"] == 0 < table["nDCG@10 solved"]["BM25"]
    on_solved = row["nDCG@10 solved - base"] * row["queries solved"]
    on_others = row["nDCG@10 unsolved - base"] * (queries - row["queries solved"])
    assert row["nDCG@10 - base"] * queries == pytest.approx(on_solved + on_others)
    assert row["nDCG@10 p"] < 0.05 and row["gain on solved"] == pytest.approx(on_solved / (on_solved + on_others))
    assert np.isnan(table["gain on solved"]["base"])


def test_a_corpus_without_classes_has_a_dash_for_every_metric_of_classes() -> None:
    held_out, embeddings = random_pairs()
    held_out.texts[["section", "class", "subclass"]] = ""
    held_out.texts["subclasses"] = [[]] * len(held_out.texts)
    held_out.parts["IN"] = held_out.parts["OUT"]  # which is empty

    report = compare_embeddings({"one": embeddings, "other": embeddings[:, ::-1] + 1}, titled(held_out))

    values = report.rows["one"].values
    of_classes = {"nDCG@10 IN", "nDCG@10 OUT", "rank among hard", "CPC F1 micro", "CPC F1 macro", "v-measure"}
    assert all(np.isnan(values[name]) for name in of_classes)
    assert not any(np.isnan(values[name]) for name in ("nDCG@10", "nDCG@10 unseen", "rank among random"))
    assert "nan" not in report.to_markdown().lower()
    tables = report.to_markdown().strip().split("\n\n")
    assert sum("CPC" in table for table in tables) == 0  # a table without any value is left out
    header, _, *rows = next(table for table in tables if "rank among hard" in table).split("\n")
    hard = header.split("|").index(" rank among hard ")
    assert [row.split("|")[hard].strip() for row in rows] == ["–"] * len(report.rows)


def test_a_smaller_corpus_keeps_what_the_queries_need(mined_data: Path) -> None:
    data = load_dataset(mined_data / "triplets" / "200")

    complete, cut = held_out_set(data, "test"), held_out_set(data, "test", max_texts=1)

    assert len(cut.texts) < len(complete.texts) == data.texts["in_corpus"].sum()
    for held_out in (complete, cut):
        ids = held_out.texts["patent_id"].to_numpy()
        pairs = data.retrieval.query("split == 'test'")
        for column, end in enumerate(ENDS):
            assert ids[held_out.pairs[:, column]].tolist() == data.texts["patent_id"][pairs[end]].tolist()
    assert all(0 < mask.sum() < len(complete.pairs) for mask in complete.parts.values())
    assert not (complete.parts["known"] & complete.parts["unseen"]).any()
    assert not (complete.parts["IN"] & complete.parts["OUT"]).any()
    assert complete.texts["abstract"].str.strip().ne("").all()


def test_resampled_metrics_agree_with_scipy() -> None:
    parts = np.array([[1.0, 2], [2, 2], [0, 1], [3, 3]] * 5)
    values = np.random.default_rng(0).random(20)

    def ratio(top: np.ndarray, bottom: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(top.sum(axis) / bottom.sum(axis))

    draws = resampled([parts, values], seed=7)

    how = {"n_resamples": len(draws), "method": "percentile", "paired": True, "batch": 1}
    theirs = [
        bootstrap(list(parts.T), ratio, rng=np.random.default_rng(7), **how),
        bootstrap([values], np.mean, rng=np.random.default_rng(7), **how),
    ]
    for column, known in zip(draws.T, theirs, strict=True):
        np.testing.assert_allclose(column, known.bootstrap_distribution)
        assert interval(column) == pytest.approx(tuple(known.confidence_interval))


def test_fewer_than_two_units_have_no_interval() -> None:
    for units in (np.empty(0), np.ones(1), np.ones((1, 2))):
        (draws,) = resampled([units]).T
        assert np.isnan(interval(draws)).all() and p_value(draws) == 1


def test_a_paired_difference_separates_noise_from_effect() -> None:
    draw = np.random.default_rng(0)
    base = draw.random(200)
    others = [base + 0.05 + draw.normal(0, 0.1, 200), base + draw.normal(0, 0.1, 200), base.copy(), base + 0.1]

    draws = resampled([base, *others])
    effect, noise, same, better = (draws[:, 1:] - draws[:, :1]).T

    low, high = interval(effect)
    assert 0 < low < 0.05 < high and p_value(effect) < 0.01
    assert p_value(noise) > 0.05 and interval(noise)[0] < 0 < interval(noise)[1]
    assert p_value(same) == 1 and interval(same) == pytest.approx((0, 0))
    assert p_value(better) == 2 / 2001


@pytest.fixture(scope="module")
def noise_report(mined_data: Path) -> tuple[Report, HeldOut]:
    """Two models that know nothing, on 200 triplets of the sample."""
    held_out = held_out_set(load_dataset(mined_data / "triplets" / "200"), "test")
    draw = np.random.default_rng(0)
    noise = draw.normal(size=(len(held_out.texts), 16))
    return compare_embeddings({"base": noise, "other": noise + draw.normal(size=noise.shape)}, held_out), held_out


def test_tables_hold_words_models_and_fusions_and_mark_the_best(noise_report: tuple[Report, HeldOut]) -> None:
    report, held_out = noise_report
    table, text = report.table, report.to_markdown()

    assert list(report.rows) == ["BM25", "TF-IDF", "base", "other", "BM25 + base", "BM25 + other"]
    assert table["nDCG@10"]["BM25"] > table["nDCG@10"]["base"] + 0.05
    assert table["nDCG@10 p"]["BM25"] < 0.05 and np.isnan(table["nDCG@10 p"]["base"])
    assert (table["triplet accuracy low"] <= table["triplet accuracy"]).all()
    best = table["nDCG@10"].max()
    assert f"**{best:.3f}**" in text
    lowest = table["rank among hard"].min()
    assert f"**{lowest:.2f}**" in text
    for column in (*(f"nDCG@10 {part}" for part in PARTS), "rank among hard", "CPC F1 macro"):
        assert column in text and table[column].notna().all()
    for part, mask in held_out.parts.items():
        number = len(set(held_out.pairs[mask, 0]))
        assert f"nDCG@10 {part} ({number})" in text
        assert table[f"queries {part}"].tolist() == [number] * 6 and 0 < number < table["queries"].iloc[0]
    assert table["v-measure"].notna().sum() == 2  # words have no vectors to cluster
    assert report._repr_markdown_() == text
    tables = [line for line in text.splitlines() if line.endswith("documents")]
    queries, documents = len(held_out.queries), int(held_out.corpus.sum())
    assert len(tables) == 5 and all(line.endswith(f": {queries} queries, {documents} documents") for line in tables)
    low, value, high = (table[f"nDCG@10{end}"]["other"] for end in (" low", "", " high"))
    assert low < value < high and f"{value:.3f} [{low:.3f}, {high:.3f}]" in text


def test_every_place_shows_the_p_value_of_the_reports_seed(
    noise_report: tuple[Report, HeldOut], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, _ = noise_report
    report, calls = Report(known.rows, "base", seed=7), list[int]()

    def counted(units: list[np.ndarray], seed: int) -> np.ndarray:
        calls.append(seed)
        return resampled(units, seed)

    monkeypatch.setattr("patentcl.evaluation.report.resampled", counted)
    verdict, text = report.verdict("other"), report.to_markdown()
    report.save(tmp_path, "test")

    base, other = resampled([report.rows[name].units["nDCG@10"] for name in ("base", "other")], seed=7).T
    p, (low, high) = p_value(other - base), interval(other - base)
    difference = report.rows["other"].values["nDCG@10"] - report.rows["base"].values["nDCG@10"]
    assert f"(p {p:.3f})" in verdict and f"{difference:+.3f} [{low:+.3f}, {high:+.3f}] ({p:.3f})" in text
    saved = pd.read_csv(tmp_path / "test.csv", index_col="row")
    names = ["nDCG@10 - base", "nDCG@10 - base low", "nDCG@10 - base high", "nDCG@10 p"]
    assert [saved[name]["other"] for name in names] == pytest.approx([difference, low, high, p])
    assert set(calls) == {7} and len(calls) == len(report.rows["BM25"].units)  # once each


def test_a_metric_is_added_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    triplets = np.array([[0, 1, 2], [1, 0, 2]])
    held_out = replace(held_out_of([(0, 1)], 3), triplets=triplets, kind=np.array(["random", "random"]))
    held_out.texts[["title", "abstract"]] = texts_of("a pump", "another pump", "a wheel")
    monkeypatch.setitem(METRICS, "margin", METRICS["MRR"])  # removed again at the end

    @metric("margin", TRIPLETS, higher_is_better=False, compared=True)
    def margin(outcome: Outcome) -> np.ndarray:
        """How much higher the positive scores, per triplet."""
        return outcome.triplets[:, 0] - outcome.triplets[:, 1]

    report = compare_embeddings({"same": np.array([[1, 0], [1, 0.1], [0.6, 0.8]]), "far": np.eye(3)}, held_out)

    least = report.table["margin"].min()
    assert report.rows["far"].values["margin"] == least == 0
    assert f"**{least:.3f}**" in report.to_markdown()
    assert report.table["margin - base"]["far"] == pytest.approx(-report.rows["same"].values["margin"])
    header = next(line for line in report.to_markdown().splitlines() if "margin" in line)
    assert header.count("to base") == 2  # that of the triplet accuracy, and its own


def row_with(values: np.ndarray) -> Row:
    return Row({"nDCG@10": values.mean(), "triplet accuracy": 0.9}, {"nDCG@10": values})


def test_the_verdict_is_better_worse_or_undecided() -> None:
    low = np.random.default_rng(0).random(400) / 2
    rows = {"BM25": row_with(low), "base": row_with(low), "up": row_with(low + 0.05), "down": row_with(low - 0.05)}
    rows |= {"same": row_with(low + np.random.default_rng(1).normal(0, 0.2, 400))}
    report = Report(rows, "base")

    for name, better in {"up": True, "down": False}.items():
        difference, p = report.table.loc[name, ["nDCG@10 - base", "nDCG@10 p"]].to_numpy(float)
        assert difference == pytest.approx(0.05 if better else -0.05) and p < 0.05
        assert f"{low.mean():.3f} → {low.mean() + difference:.3f} (p {p:.3f})" in report.verdict(name)
        assert ("better" in report.verdict(name), "worse" in report.verdict(name)) == (better, not better)
        assert f"{difference:+.3f} [{difference:+.3f}, {difference:+.3f}]" in report.verdict(name)  # to BM25
    p = report.table["nDCG@10 p"]["same"]
    assert p > 0.05 and f"(p {p:.3f})" in report.verdict("same") and "400" in report.verdict("same")
    assert "better" not in report.verdict("same") and "worse" not in report.verdict("same")
    none = Row({"nDCG@10": np.nan, "triplet accuracy": 0.9}, {"nDCG@10": np.empty(0)})
    verdict = Report(dict.fromkeys(("BM25", "base", "m"), none), "base").verdict("m")
    assert "0.900 → 0.900" in verdict and "nan" not in verdict


@pytest.fixture(scope="module")
def real(water: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[HeldOut, Dataset]:
    """All 213 citing patents as queries, as measured elsewhere: with families left in."""
    data = tmp_path_factory.mktemp("water")
    tables_to_triplets(water, data, "10K", Mining())
    triplets = load_dataset(data / "triplets" / "10K")
    pairs = pd.read_csv(water / "in_set_citation_pairs.csv", dtype=str)
    row_of = pd.Series(triplets.texts.index, triplets.texts["patent_id"])
    rows = list(zip(*(row_of[pairs[column]].tolist() for column in pairs), strict=True))
    texts = triplets.read_texts(np.arange(len(triplets.texts)))
    return replace(held_out_of(rows, len(texts)), texts=texts), triplets


def check_reference(row: Row, *reference: float) -> None:
    for name, value in zip(("nDCG@10", "Recall@10", "Recall@100", "MRR"), reference, strict=True):
        assert row.values[name] == pytest.approx(value, abs=0.005), name


def test_real_patents_reproduce_the_values_measured_elsewhere(real: tuple[HeldOut, Dataset]) -> None:
    held_out, _ = real
    texts = held_out.texts
    joined = pd.DataFrame({"title": texts["title"].str.strip() + " " + texts["abstract"].str.strip(), "abstract": ""})
    network = find_model(MINILM).load()
    network.tokenizer.sep_token = None
    embeddings = encode(network, joined)
    rankers = {"words": bm25_ranker(texts), "dense": dense_ranker(embeddings)}

    outcomes = score(rankers, held_out, fusions={"both": ["words", "dense"]}, quick=True)

    check_reference(measure(outcomes["words"]), 0.397, 0.479, 0.784, 0.405)
    check_reference(measure(outcomes["dense"]), 0.395, 0.495, 0.796, 0.392)
    check_reference(measure(outcomes["both"]), 0.432, 0.553, 0.823, 0.423)


def test_tfidf_finds_cited_patents(real: tuple[HeldOut, Dataset]) -> None:
    held_out, triplets = real

    assert quick(tfidf_ranker(held_out.texts), held_out).values["nDCG@10"] > 0.3
    test = held_out_set(triplets, "test")
    assert set(row_of(tfidf_ranker(test.texts), test).values) >= {"nDCG@10 OUT", "rank among hard"}


def test_only_tables_of_an_evaluation_are_replaced(noise_report: tuple[Report, HeldOut], tmp_path: Path) -> None:
    report, _ = noise_report
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "test.csv").write_text("my,notes\n")

    for _ in range(2):
        report.save(tmp_path / "ours", "test")
    with pytest.raises(InputError, match=r"theirs/test\.csv"):
        report.save(tmp_path / "theirs", "test")

    assert (tmp_path / "theirs" / "test.csv").read_text() == "my,notes\n"


@pytest.mark.parametrize("names", [["BM25"], ["a", "BM25 + a"], ["a", "b", "a"]])
def test_a_model_that_is_named_like_another_row_is_refused(names: list[str]) -> None:
    with pytest.raises(InputError, match=re.escape(names[-1])):
        check_names(names)


def test_saved_tables_name_what_was_evaluated(mined_data: Path, tmp_path: Path) -> None:
    held_out = held_out_set(load_dataset(mined_data / "triplets" / "200"), "test", max_texts=100)
    noise = np.random.default_rng(0).normal(size=(len(held_out.texts), 4))

    compare_embeddings({"noise": noise}, held_out, seed=7).save(tmp_path, "test", triplets="data/triplets/200")

    row = pd.read_csv(tmp_path / "test.csv").iloc[0]
    assert row[["triplets", "split", "seed"]].tolist() == ["data/triplets/200", "test", 7]
    assert row["documents"] == held_out.corpus.sum() and row["queries"] == len(held_out.queries)
    text = (tmp_path / "test.md").read_text()
    assert "split: test; " in text and "triplets: data/triplets/200" in text


def test_an_output_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none")):
        with pytest.raises(InputError, match=f"{path} .*--output"):
            check_output(path, "test")


def with_config(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(f'{{"name": "{folder.name}"}}')
    return folder


def test_the_base_of_a_trained_model_is_added_before_it(tmp_path: Path) -> None:
    folder = str(with_config(tmp_path / "model"))
    write_json(tmp_path / "model" / "run.json", {"params": {"base_model": "minilm"}})

    def names(*models: str) -> list[str]:
        return [model.name for model in with_base(models)]

    assert names(folder) == ["minilm", folder]
    assert names(folder, "minilm") == [folder, "minilm"]  # the given order stays
    assert names("minilm") == ["minilm"]
    with pytest.raises(InputError, match="--models"):
        with_base([])
    with pytest.raises(InputError, match=r"\./nowhere"):
        with_base(["minilm", "./nowhere"])


def test_a_base_that_was_a_relative_path_is_found_by_its_fingerprint(tmp_path: Path) -> None:
    model, base = with_config(tmp_path / "model"), with_config(tmp_path / "bases" / "one")

    def trained_from(name: str, fingerprint: str) -> list[str]:
        params = {"base_model": name, "base": fingerprint}
        write_json(model / "run.json", {"params": params, "base folder": "../bases/one"})
        return [known.name for known in with_base([str(model)])]

    assert trained_from("./elsewhere/one", find_model(str(base)).fingerprint) == [
        str(model / "../bases/one"),
        str(model),
    ]
    with pytest.raises(InputError, match=rf"{model} .*\./elsewhere/one"):
        trained_from("./elsewhere/one", "of other weights")


def test_embeddings_that_are_not_finite_name_their_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patentcl.models.embed.encode_tokens", lambda *_: np.full((2, 3), np.nan))

    with pytest.raises(InputError, match=f"^{MINILM} "):
        embed_all([find_model(MINILM)], texts_of("a", "b"), tmp_path)


@pytest.fixture
def data(mined_data: Path, tmp_path: Path) -> Path:
    """A copy of the sample's triplets that a test may write beside."""
    shutil.copytree(mined_data / "triplets", tmp_path / "data" / "triplets")
    return tmp_path / "data"


def test_the_command_writes_tables_and_warns_of_a_model_that_saw_what_is_tested(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = tmp_path / "seen"
    shutil.copytree(find_model(MINILM).folder, seen)
    shutil.copy(data / "triplets" / "200" / "ids_test.txt", seen / "ids_train.txt")

    fast = ["--max-length", "24", "--corpus-sample", "50"]
    main(["--data", str(data), "--triplets", "200", "--models", MINILM, str(seen), *fast])

    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1 and str(seen) in warnings[0]
    table = pd.read_csv(data / "evaluation" / "200" / "test.csv", index_col="row")
    assert "BM25 + seen" in table.index and table["queries"].iloc[0] < ENOUGH and "for more queries" in table


def test_tables_are_printed_before_they_are_written(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    def noise(models: list[Model], held_out: HeldOut, *_: object) -> Report:
        embeddings = np.random.default_rng(0).normal(size=(len(held_out.texts), 4))
        return compare_embeddings({MINILM: embeddings}, held_out)

    monkeypatch.setattr(Report, "save", full)
    monkeypatch.setattr("patentcl.evaluation.__main__.compare", noise)
    with pytest.raises(OSError, match="No space left"):
        main(["--data", str(data), "--triplets", "200", "--models", MINILM])

    assert f"BM25 + {MINILM}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--models", MINILM, "./nowhere"], r"\./nowhere"),
        (["--models", MINILM, "--output", __file__], "--output"),
        (["--corpus-sample", "-1"], "--corpus-sample -1"),
        (["--seed", "-1"], "--seed -1"),
    ],
)
def test_the_command_refuses_wrong_options_before_it_evaluates(
    mined_data: Path, argv: list[str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("patentcl.evaluation.__main__.compare")

    with pytest.raises(InputError, match=named):
        main(["--data", str(mined_data), "--triplets", "200", *argv])
