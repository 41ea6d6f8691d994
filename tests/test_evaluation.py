"""Figures agree with independent implementations and with figures measured outside of this project."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sklearn.metrics import f1_score, ndcg_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import MultiLabelBinarizer

from patentcl.common.cli import InputError
from patentcl.common.files import write_json
from patentcl.evaluation.__main__ import main
from patentcl.evaluation.compare import check_names, compare_embeddings, with_base
from patentcl.evaluation.held_out import EvaluationSet, evaluation_set
from patentcl.evaluation.metrics import (
    CANDIDATES,
    Row,
    evaluate,
    first_relevant_ranks,
    quick,
    retrieval_measures,
    subclass_prediction,
    triplets_right,
)
from patentcl.evaluation.rankers import Scores, bm25_scores, dense_scores, fused_scores, tfidf_scores
from patentcl.evaluation.report import Report, check_output
from patentcl.evaluation.significance import paired_difference, ratio_interval
from patentcl.models.embed import embed
from patentcl.models.load import MINILM, Model, find_model, fingerprint_of
from patentcl.pipeline import tables_to_triplets
from patentcl.triplets.dataset import Dataset, load_dataset
from patentcl.triplets.options import Mining

NONE = np.empty((0, 3), int)


def set_of(pairs: list[tuple[int, int]], texts: int, family: list[int] | None = None) -> EvaluationSet:
    """An evaluation of `pairs` among `texts` texts, all held out."""
    frame = pd.DataFrame({"patent_id": [str(i) for i in range(texts)], "subclasses": [["A01B"]] * texts})
    frame = frame.assign(section="A", subclass="A01B", split="test", **{"class": "A01"})
    numbers, everything = np.array(family or range(texts)), np.ones(texts, bool)
    all_of, none_of = np.ones(len(pairs), bool), np.zeros(len(pairs), bool)
    parts = {"IN": all_of, "OUT": none_of, "known": none_of, "unseen": all_of}
    return EvaluationSet(frame, NONE, np.empty(0, object), np.array(pairs), numbers, everything, parts)


def always(row: np.ndarray) -> Scores:
    """The same likenesses (N,) for every query."""
    return lambda rows, among=None: np.tile(row, (len(rows), 1))


def random_set(texts: int = 60, queries: int = 12, seed: int = 0) -> tuple[EvaluationSet, np.ndarray]:
    draw = np.random.default_rng(seed)
    embeddings = draw.normal(size=(texts, 8)).astype(np.float32)
    pairs = [
        (q, r)
        for q in range(queries)
        for r in draw.choice(np.arange(queries, texts), draw.integers(1, 5), replace=False)
    ]
    return set_of(pairs, texts), embeddings


def test_retrieval_agrees_with_scikit_learn_and_with_sentence_transformers() -> None:
    on, embeddings = random_set()
    scores = dense_scores(embeddings)
    queries = np.unique(on.pairs[:, 0])
    matrix = scores(queries)
    matrix[np.arange(len(queries)), queries] = -2  # the query itself is no answer
    truth = np.zeros_like(matrix)
    truth[on.pairs[:, 0], on.pairs[:, 1]] = 1

    ours = quick(scores, on).values

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
    ranked = np.linspace(1, 0, 250)  # every query ranks the texts as they stand, but itself

    found = retrieval_measures(
        lambda rows, among=None: np.tile(ranked, (len(rows), 1)), set_of([(0, 1), (0, 12), (249, 199)], 250)
    )

    assert found["MRR"] == pytest.approx([1, 1 / 200])
    assert found["Recall@10"] == pytest.approx([1 / 2, 0])
    assert found["Recall@100"] == pytest.approx([1, 0])
    assert found["nDCG@10"] == pytest.approx([1 / (1 + 1 / np.log2(3)), 0])


def test_equal_texts_get_no_better_rank_than_their_place() -> None:
    on, _ = random_set()

    figures = quick(always(np.zeros(60)), on)

    assert figures.values["MRR"] < 0.2  # a model that cannot tell anything apart is not rewarded for ties
    assert (first_relevant_ranks(always(np.zeros(60)), on, "random") == CANDIDATES + 1).all()


def test_members_of_the_querys_family_are_not_in_its_way() -> None:
    scores = dense_scores(np.array([[1.0, 0.0], [1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]))

    strangers, family = set_of([(0, 2)], 4), set_of([(0, 2)], 4, family=[1, 1, 3, 4])

    assert quick(scores, strangers).values["MRR"] == 0.5
    assert quick(scores, family).values["MRR"] == 1
    fused = fused_scores(scores, scores, family.family)
    assert fused(np.array([0]))[0, 2] == 2 / 61  # the first rank, since the twin takes none
    among = np.array([[False, False, False, True]])
    assert fused(np.array([0]), among)[0, 3] == 2 / 61  # nor does what is not asked about


def texts_of(*abstracts: str) -> pd.DataFrame:
    return pd.DataFrame({"title": "", "abstract": abstracts})


def test_a_query_without_words_finds_nothing_and_stops_nothing() -> None:
    texts = texts_of("", "a pump for water", "the of a", "a filter for water")

    for scores in (bm25_scores(texts), tfidf_scores(texts)):
        found = scores(np.arange(4))
        assert found.shape == (4, 4) and not found[[0, 2]].any()
        assert found[1].argmax() == 1 and found[1, 3] > 0

    on = set_of([(0, 1), (1, 3)], 4)  # without words all are equal, and stand as in the corpus
    assert retrieval_measures(bm25_scores(texts), on)["MRR"].tolist() == [1, 1]


@pytest.mark.parametrize("abstracts", [("", " "), ("the", "of a"), ("about", "between"), ("a", "b")])
def test_texts_without_any_word_that_counts_are_refused(abstracts: tuple[str, ...]) -> None:
    on = set_of([(0, 1)], 2)
    on.texts[["title", "abstract"]] = texts_of(*abstracts)

    with pytest.raises(InputError, match="hold no words of at least two letters, or only ones like"):
        compare_embeddings({"noise": np.eye(2)}, on)


def test_val_queries_do_not_search_test_patents_which_they_cite_too(road: Path) -> None:
    data = load_dataset(road / "triplets" / "200")

    on = evaluation_set(data, "val")

    hidden = on.hidden(np.unique(on.pairs[:, 0]))
    assert hidden[:, (on.texts["split"] == "test").to_numpy()].all()
    assert not hidden[:, (on.texts["split"] == "train").to_numpy()].all(axis=0).all()


def test_parts_of_the_relevant_patents_are_looked_for_without_the_others() -> None:
    on = set_of([(0, 1), (0, 2)], 5)
    on.parts["IN"], on.parts["OUT"] = np.array([True, False]), np.array([False, True])
    scores = dense_scores(np.array([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.0, 1.0]]))

    assert retrieval_measures(scores, on)["MRR"] == [1]
    assert retrieval_measures(scores, on, "IN")["MRR"] == [1]
    assert retrieval_measures(scores, on, "OUT")["MRR"] == [1]  # patent 1 is no wrong answer, so it is not in the way
    assert len(retrieval_measures(scores, on, "known")["MRR"]) == 0


def test_triplet_accuracy_counts_a_tie_as_wrong() -> None:
    triplets = np.array([[0, 1, 2], [0, 2, 1], [0, 1, 1]])
    scores = dense_scores(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]))

    assert triplets_right(scores, triplets).tolist() == [True, False, False]


def test_reranking_takes_five_relevant_and_the_nearest_of_the_classes() -> None:
    on = set_of([(0, r) for r in range(1, 9)], 80)
    near = np.arange(80) % 2 == 0
    on.texts.loc[~near, ["section", "class", "subclass"]] = ["B", "B01", "B01D"]
    wrong = np.where(near, 1.0, 0.0)  # prefers patents of the query's own subclass, relevant or not
    scores = always(np.where(np.isin(np.arange(80), range(1, 9)), 0.5, wrong))

    assert first_relevant_ranks(scores, on, "hard").tolist() == [CANDIDATES + 1]
    assert 1 < first_relevant_ranks(scores, on, "random")[0] < CANDIDATES + 1
    assert (first_relevant_ranks(scores, on, "random") == first_relevant_ranks(scores, on, "random")).all()


def test_subclass_prediction_agrees_with_scikit_learn() -> None:
    draw = np.random.default_rng(3)
    on, symbols = set_of([(0, 1)], 90), np.array(["A01B", "B01D", "C02F"])
    vectors = draw.normal(size=(90, 4))
    on.texts["subclasses"] = [list(symbols[draw.random(3) < 0.5]) or ["A01B"] for _ in range(90)]
    on.texts["split"] = ["test"] * 30 + ["train"] * 60

    ours, by_patent = subclass_prediction(dense_scores(vectors), on)

    labels = MultiLabelBinarizer().fit_transform(on.texts["subclasses"])
    voters = KNeighborsClassifier(8, metric="cosine").fit(vectors[30:], labels[30:])
    theirs = voters.predict(vectors[:30])
    assert ours["CPC F1 micro"] == pytest.approx(f1_score(labels[:30], theirs, average="micro"))
    assert ours["CPC F1 macro"] == pytest.approx(f1_score(labels[:30], theirs, average="macro"))
    right, named = by_patent["CPC F1 micro"].sum(axis=0)
    assert right / named == pytest.approx(ours["CPC F1 micro"])
    assert (
        ours["CPC accuracy"]
        == by_patent["CPC accuracy"].mean()
        == pytest.approx((theirs == labels[:30]).all(axis=1).mean())
    )


def test_the_corpus_of_an_evaluation_can_be_cut_but_keeps_what_is_asked_for(road: Path) -> None:
    data = load_dataset(road / "triplets" / "200")

    whole, cut = evaluation_set(data, "test"), evaluation_set(data, "test", most_texts=1)

    assert len(cut.texts) < len(whole.texts) == data.texts["in_corpus"].sum()
    for on in (whole, cut):
        ids = on.texts["patent_id"].to_numpy()
        pairs = data.retrieval.query("split == 'test'")
        assert ids[on.pairs[:, 0]].tolist() == pairs["query_id"].tolist()
        assert ids[on.pairs[:, 1]].tolist() == pairs["relevant_id"].tolist()
    assert all(0 < mask.sum() < len(whole.pairs) for mask in whole.parts.values())
    assert not (whole.parts["known"] & whole.parts["unseen"]).any()
    assert not (whole.parts["IN"] & whole.parts["OUT"]).any()
    assert whole.texts["abstract"].str.strip().ne("").all()


def test_an_interval_holds_the_figure_and_narrows_with_more_anchors() -> None:
    right, of = np.array([1.0, 2, 0, 3]), np.array([2, 2, 1, 3])

    low, high = ratio_interval(np.tile(right, 3), np.tile(of, 3))
    narrow_low, narrow_high = ratio_interval(np.tile(right, 90), np.tile(of, 90))

    assert low < narrow_low < 6 / 8 < narrow_high < high
    assert np.isnan(ratio_interval(np.ones(1), np.ones(1))).all()


def test_a_paired_difference_knows_noise_from_effect() -> None:
    draw = np.random.default_rng(0)
    base = draw.random(200)

    effect, p = paired_difference(base, base + 0.05 + draw.normal(0, 0.1, 200))
    assert effect == pytest.approx(0.05, abs=0.02) and p < 0.01
    assert paired_difference(base, base + draw.normal(0, 0.1, 200))[1] > 0.05
    assert paired_difference(base, base) == (0, 1)
    parts, better = np.stack([base, np.full(200, 2)], axis=1), np.stack([base + 0.2, np.full(200, 2)], axis=1)
    assert paired_difference(parts, better) == (pytest.approx(0.1), pytest.approx(2 / 2001))


def test_the_table_has_words_models_and_hybrids_and_marks_the_best(road: Path) -> None:
    on = evaluation_set(load_dataset(road / "triplets" / "200"), "test")
    draw = np.random.default_rng(0)
    noise = draw.normal(size=(len(on.texts), 16))

    found = compare_embeddings({"base": noise, "other": noise + draw.normal(size=noise.shape)}, on)
    table, text, card = found.to_frame(), found.to_text(), found.to_markdown()

    assert list(found.rows) == ["BM25", "TF-IDF", "base", "other", "BM25 + base", "BM25 + other"]
    assert table["nDCG@10"]["BM25"] > table["nDCG@10"]["base"] + 0.05
    assert table["nDCG@10 p"]["BM25"] < 0.05 and np.isnan(table["nDCG@10 p"]["base"])
    assert (table["triplet accuracy low"] <= table["triplet accuracy"]).all()
    best = table["nDCG@10"].max()
    assert f"{best:.3f}*" in text and f"**{best:.3f}**" in card
    for column in ("nDCG@10 IN", "nDCG@10 OUT", "nDCG@10 known", "nDCG@10 unseen", "rank among hard", "CPC F1 macro"):
        assert column in text and column in card and table[column].notna().all()
    for part, mask in on.parts.items():
        number = len(set(on.pairs[mask, 0]))
        assert f"{part} {number}" in text and f"{part} {number}" in card
        assert table[f"queries {part}"].tolist() == [number] * 6 and 0 < number < table["queries"].iloc[0]
    assert table["v-measure"].notna().sum() == 2  # words have no vectors to cluster


def figures(values: np.ndarray) -> Row:
    return Row({"nDCG@10": values.mean(), "triplet accuracy": 0.9}, {}, {"nDCG@10": values})


def test_the_verdict_is_one_line_that_says_which_is_better_or_that_it_cannot() -> None:
    low = np.random.default_rng(0).random(400) / 2
    rows = {"BM25": figures(low), "base": figures(low), "up": figures(low + 0.05), "down": figures(low - 0.05)}
    rows |= {"same": figures(low + np.random.default_rng(1).normal(0, 0.2, 400))}
    found = Report(rows, "base")

    assert f"{low.mean():.3f} → {low.mean() + 0.05:.3f}" in found.verdict("up")
    assert "better than its base" in found.verdict("up")
    assert "worse than its base" in found.verdict("down")
    assert "not clearly different from its base, with 400 queries" in found.verdict("same")
    none = Row({"nDCG@10": np.nan, "triplet accuracy": 0.9}, {}, {"nDCG@10": np.empty(0)})
    nothing = Report(dict.fromkeys(("BM25", "base", "m"), none), "base")
    assert "no test patent cites another" in nothing.verdict("m")


@pytest.fixture(scope="module")
def real(water: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[EvaluationSet, Dataset, Path]:
    """All 213 citing patents as queries, as the measurement elsewhere had them: it left families in."""
    data = tmp_path_factory.mktemp("water")
    tables_to_triplets(water, data, "10K", Mining())
    triplets = load_dataset(data / "triplets" / "10K")
    pairs = pd.read_csv(water / "in_set_citation_pairs.csv", dtype=str)
    row = pd.Series(np.arange(len(triplets.texts)), index=triplets.texts["patent_id"])
    on = set_of(pairs.apply(lambda ids: row[ids].to_numpy()).to_numpy().tolist(), len(triplets.texts))
    return EvaluationSet(**{**on.__dict__, "texts": triplets.texts}), triplets, data


def check_reference(figures: Row, *reference: float) -> None:
    for metric, value in zip(("nDCG@10", "Recall@10", "Recall@100", "MRR"), reference, strict=True):
        assert figures.values[metric] == pytest.approx(value, abs=0.005), metric


def test_real_patents_reproduce_the_figures_measured_elsewhere(
    real: tuple[EvaluationSet, Dataset, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    on, _, data = real
    monkeypatch.setattr("patentcl.models.embed.separator", lambda model: " ")  # that measurement joined with a space
    stemmed, dense = bm25_scores(on.texts), dense_scores(embed(find_model(MINILM), on.texts, data / "with-a-space"))

    check_reference(quick(bm25_scores(on.texts, stemmed=False), on), 0.389, 0.477, 0.736, 0.393)
    check_reference(quick(stemmed, on), 0.397, 0.479, 0.784, 0.405)
    check_reference(quick(dense, on), 0.395, 0.495, 0.796, 0.392)
    check_reference(quick(fused_scores(stemmed, dense, on.family), on), 0.432, 0.553, 0.823, 0.423)


def test_tfidf_finds_what_it_is_asked_for(real: tuple[EvaluationSet, Dataset, Path]) -> None:
    on, triplets, _ = real

    assert quick(tfidf_scores(on.texts), on).values["nDCG@10"] > 0.3
    held_out = evaluation_set(triplets, "test")
    assert set(evaluate(tfidf_scores(held_out.texts), held_out).values) >= {"nDCG@10 OUT", "rank among hard"}


def test_tables_of_others_are_not_replaced_and_own_ones_are(road: Path, tmp_path: Path) -> None:
    on = evaluation_set(load_dataset(road / "triplets" / "200"), "test")
    found = compare_embeddings({"noise": np.random.default_rng(0).normal(size=(len(on.texts), 4))}, on)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "test.csv").write_text("my,own\n")

    for _ in range(2):
        found.save(tmp_path / "ours", "test")
    with pytest.raises(InputError, match=r"theirs/test\.csv"):
        found.save(tmp_path / "theirs", "test")

    assert (tmp_path / "theirs" / "test.csv").read_text() == "my,own\n"
    with pytest.raises(InputError, match="cannot be named BM25"):
        check_names(["BM25"])


def test_files_name_what_was_evaluated_and_a_place_that_cannot_be_written_to_is_refused(
    road: Path, tmp_path: Path
) -> None:
    on = evaluation_set(load_dataset(road / "triplets" / "200"), "test", most_texts=100)
    found = compare_embeddings({"noise": np.random.default_rng(0).normal(size=(len(on.texts), 4))}, on, seed=7)

    found.save(tmp_path / "ours", "test", triplets="data/triplets/200")

    row = pd.read_csv(tmp_path / "ours" / "test.csv").iloc[0]
    assert row[["triplets", "split", "seed"]].tolist() == ["data/triplets/200", "test", 7]
    assert row["patents to search"] == on.corpus.sum() and row["queries"] == len(np.unique(on.pairs[:, 0]))
    assert "; seed: 7" in (tmp_path / "ours" / "test.md").read_text()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none")):
        with pytest.raises(InputError, match="--output"):
            check_output(path, "test")


def test_the_base_of_a_trained_model_is_always_in_the_table(tmp_path: Path) -> None:
    def names(models: list[str]) -> list[str]:
        return [model.name for model in with_base(models)]

    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "run.json").write_text('{"params": {"base_model": "minilm"}}')

    assert names([str(tmp_path)]) == ["minilm", str(tmp_path)]
    assert names([str(tmp_path), "minilm"]) == [str(tmp_path), "minilm"]  # the order asked for is kept
    assert names(["minilm"]) == ["minilm"]
    with pytest.raises(InputError, match="no model is named"):
        with_base([])
    with pytest.raises(InputError, match=r"\./nowhere"):
        with_base(["minilm", "./nowhere"])


def test_a_base_that_is_not_where_it_was_is_looked_for_and_asked_for(tmp_path: Path) -> None:
    model, base = tmp_path / "model", tmp_path / "bases" / "one"
    for folder in (model, base):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(f'{{"name": "{folder.name}"}}')

    def trained_from(name: object, fingerprint: str) -> list[str]:
        write_json(model / "run.json", {"params": {"base_model": name, "base": fingerprint}})
        return [found.name for found in with_base([str(model)])]

    assert trained_from("./bases/one", fingerprint_of(base)) == [str(base), str(model)]  # beside the model
    with pytest.raises(InputError, match=rf"{model} was trained from \./bases/one, .*name its folder before {model}"):
        trained_from("./bases/one", "of other weights")
    with pytest.raises(InputError, match=r"run\.json names no base model \(7\)"):
        trained_from(7, "")


def test_the_command_writes_the_tables_and_warns_of_a_model_that_saw_what_is_tested(road: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    shutil.copytree(find_model(MINILM).folder, seen)
    (seen / "ids_train.txt").write_text((road / "triplets" / "200" / "ids_test.txt").read_text())
    where = ["--data", str(road), "--triplets", "200"]
    small = ["--models", MINILM, str(seen), "--max-length", "24", "--corpus-sample", "50"]
    command = [sys.executable, "-m", "patentcl.evaluation", *where, *small]

    done = subprocess.run(command, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stdout.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1 and f"{seen} was trained on" in warnings[0]
    assert "BM25 + seen" in (road / "evaluation" / "200" / "test.csv").read_text()


def test_a_table_that_cannot_be_written_was_printed(
    road: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    def noise(models: list[Model], on: EvaluationSet, *_: object) -> Report:
        return compare_embeddings({MINILM: np.random.default_rng(0).normal(size=(len(on.texts), 4))}, on)

    monkeypatch.setattr(Report, "save", full)
    monkeypatch.setattr("patentcl.evaluation.__main__.compare", noise)
    monkeypatch.setattr(sys, "argv", ["evaluation", "--data", str(road), "--triplets", "200", "--models", MINILM])
    with pytest.raises(OSError, match="No space left"):
        main()

    assert f"BM25 + {MINILM}" in capsys.readouterr().out


def test_the_command_asks_for_all_it_needs_before_it_evaluates(road: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    def refused(*arguments: str) -> str:
        command = [sys.executable, "-m", "patentcl.evaluation", "--data", str(road), "--triplets", "200", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 2 and not done.stdout and done.stderr.count("\n") == 1
        return done.stderr

    assert "./nowhere" in refused("--models", MINILM, "./nowhere")
    assert "(it is a file)" in refused("--models", MINILM, "--output", str(tmp_path / "file"))
