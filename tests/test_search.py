"""Similar patents and subclasses of a text: exact, by codes, fused with BM25, filtered; and what cannot be answered."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import patentcl.search.corpus
from patentcl import classify as classify_module
from patentcl import similar as similar_module
from patentcl.common.cli import InputError
from patentcl.evaluation.held_out import PARTS, HeldOut
from patentcl.evaluation.rankers import dense_ranker
from patentcl.evaluation.scoring import score
from patentcl.models.embed import encode, unit_rows
from patentcl.models.embed_corpus import embed_corpus
from patentcl.models.load import Model
from patentcl.search.classify import classify
from patentcl.search.nearest import nearest, quantise
from patentcl.search.neo4j import similar_query
from patentcl.search.options import Classify, Similar
from patentcl.search.show import show
from patentcl.search.similar import link, similar
from small_corpus import patents, subclasses, write_corpus
from tiny import untrained

Search = Callable[..., pd.DataFrame]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), patents())


@pytest.fixture(scope="module")
def search(corpus: Path, small_model: Model) -> Search:
    """`similar` in the corpus, with the untrained model."""
    return lambda **options: similar(Similar(**{"model": str(small_model.folder), "data": corpus, **options}))


@pytest.fixture(scope="module")
def cosines(small_model: Model) -> pd.DataFrame:
    """Cosines of all patents with each other, by id."""
    ids, unit = patents()["patent_id"], unit_rows(encode(small_model.load(), patents()))
    return pd.DataFrame(unit @ unit.T, index=ids, columns=ids)


@pytest.fixture(scope="module")
def clustered() -> np.ndarray:
    """20,000 vectors around 200 centres, two of them equal, in more than one block."""
    random = np.random.default_rng(1)
    centres = random.normal(size=(200, 64))
    vectors = centres[random.integers(200, size=20_000)] + 0.5 * random.normal(size=(20_000, 64))
    vectors[17_000] = vectors[3]
    return vectors.astype(np.float16)


def brute_force(vectors: np.ndarray, queries: np.ndarray, count: int, rows: np.ndarray) -> np.ndarray:
    cosine = unit_rows(queries.astype(np.float32)) @ unit_rows(vectors[rows].astype(np.float32)).T
    return rows[np.argsort(-cosine.round(5), axis=1, kind="stable")[:, :count]]


@pytest.mark.parametrize("rows", [np.arange(20_000), np.arange(3, 20_000, 7), np.arange(4)])
def test_exact_search_finds_what_brute_force_finds(clustered: np.ndarray, rows: np.ndarray) -> None:
    queries = clustered[[3, 50, 19_999]]
    found, scores = nearest(clustered, queries, 10, None if len(rows) == 20_000 else rows)

    assert found.tolist() == brute_force(clustered, queries, 10, rows).tolist()
    assert (np.diff(scores, axis=1) <= 0).all()


def test_codes_miss_little_and_filters_stay_exact(clustered: np.ndarray, tmp_path: Path) -> None:
    queries, some = clustered[:100], np.arange(0, 20_000, 500)
    expected, scores = nearest(clustered, queries, 10)
    for kind, size in {"int8": 64, "binary": 8}.items():
        codes = quantise(clustered, tmp_path / f"{kind}.npy", kind)
        found, exact = nearest(clustered, queries, 10, codes=codes)

        assert codes.values.shape == (20_000, size)
        assert np.mean([len({*a} & {*b}) for a, b in zip(found, expected, strict=True)]) > 9
        assert np.allclose(exact[:, 0], scores[:, 0], atol=1e-5)
        assert (
            nearest(clustered, queries, 10, some, codes)[0].tolist()
            == nearest(clustered, queries, 10, some)[0].tolist()
        )


def test_codes_of_any_width(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 13)).astype(np.float16)
    for kind in ("int8", "binary"):
        codes = quantise(vectors, tmp_path / f"{kind}.npy", kind)
        assert nearest(vectors, vectors, 3, codes=codes)[0].tolist() == nearest(vectors, vectors, 3)[0].tolist()


def test_a_text_finds_the_patents_nearest_to_it(search: Search, cosines: pd.DataFrame, small_model: Model) -> None:
    found = search(text="a lamp with a lens", top=60)

    own = small_model.load().encode(["a lamp with a lens"], normalize_embeddings=True)
    expected = (own @ unit_rows(encode(small_model.load(), patents())).T)[0]
    assert [*found] == ["query", "query_title", "rank", "patent_id", "title", "date", "cpc", "score", "link"]
    assert sorted(found["patent_id"]) == sorted(patents()["patent_id"]) and found["rank"].tolist() == [*range(1, 61)]
    by_id = dict(zip(patents()["patent_id"], expected, strict=True))
    assert np.allclose(found["score"], found["patent_id"].map(by_id), atol=2e-3)
    assert found["score"].is_monotonic_decreasing
    one = found[found["patent_id"] == "7000003"].iloc[0]
    assert (one["title"], one["date"], one["cpc"]) == ("Title 3", "1953-06-15", "F04B G06F")
    assert one["link"].endswith("/US7000003")


def test_a_patent_leaves_out_itself_and_its_family(search: Search, cosines: pd.DataFrame) -> None:
    found = search(patent=["US 7,000,005 B2", "7000020"], top=58)

    of_first = found[found["query"] == "7000005"]
    assert not {"7000005", "7000006"} & {*of_first["patent_id"]} and len(of_first) == 58
    expected = cosines["7000020"].drop("7000020").nlargest(58)
    assert np.allclose(found.loc[found["query"] == "7000020", "score"], expected, atol=2e-3)
    assert [*of_first["query_title"].unique()] == ["Title 5"]


@pytest.mark.parametrize("more", [{}, {"hybrid": True}, {"quantise": "binary"}, {"quantise": "int8"}])
def test_filters_are_exact(search: Search, more: dict[str, Any]) -> None:
    found = search(patent=["7000030"], before="1985", cpc=["h05", "", "G06F"], top=100, **more)

    texts = patents()
    classes = texts.index.map(lambda i: bool({"H05B", "G06F"} & {*subclasses(i)}))
    expected = texts[(texts["date"] != "") & (texts["date"] < "1985") & classes & (texts["patent_id"] != "7000030")]
    assert sorted(found["patent_id"]) == sorted(expected["patent_id"]) and len(expected) > 5


def test_hybrid_search_finds_a_word_that_one_patent_has(search: Search) -> None:
    assert search(text="zeppelin", hybrid=True, top=1)["patent_id"].tolist() == ["7000007"]
    assert len(search(text="of the", hybrid=True)) == 10  # stop words: only the vectors rank


def test_a_file_has_a_query_in_each_row(search: Search, tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text('id,text\nfirst,"a lamp, with a lens"\n,pump\n')
    texts = patents().iloc[[8]]
    texts.to_csv(tmp_path / "patents.csv", index=False)

    found = search(file=tmp_path / "q.csv", top=2)
    assert found["query"].tolist() == ["first", "first", "2", "2"]
    assert found.iloc[:2]["patent_id"].tolist() == search(text="a lamp, with a lens", top=2)["patent_id"].tolist()
    own = search(file=tmp_path / "patents.csv", top=1).iloc[0]  # read as the patents themselves
    assert (own["query"], own["patent_id"], round(own["score"], 2)) == ("7000008", "7000008", 1.0)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("text\n", r"q\.csv"),
        ("id,text\n1,a\n2,  \n", r"q\.csv: query 2"),
        ("id,words\n1,a\n", r"q\.csv, line 1: .*text or title"),
        ("id,text\n1,a\n2,b,c\n", r"q\.csv, line 3: expected 2 fields, found 3"),
        ('id,text\n1,"a\n2,b\n', r"q\.csv, line 2"),
    ],
)
def test_a_file_that_holds_no_query_is_refused(search: Search, tmp_path: Path, content: str, match: str) -> None:
    (tmp_path / "q.csv").write_text(content)
    with pytest.raises(InputError, match=match):
        search(file=tmp_path / "q.csv")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "--text"),
        ({"text": " \n"}, "--text"),
        ({"text": "a", "patent": ["7000001"]}, "--patent"),
        ({"patent": ["7000001", "9999999"]}, "--patent 9999999"),
        ({"patent": [""]}, "--patent"),
        ({"file": Path("q.csv"), "csv": Path("q.csv").resolve()}, r"--csv .*q\.csv"),
        ({"text": "a", "before": "15.6.1960"}, "--before 15.6.1960"),
        ({"text": "a", "before": "1960-13"}, "--before 1960-13"),
        ({"text": "a", "before": "１９６０"}, "--before"),
        ({"text": "a", "before": "1949"}, "--before"),
        ({"text": "a", "cpc": ["A01B 1/00"]}, "--cpc"),
        ({"text": "a", "top": 0}, "--top 0"),
        ({"text": "a", "csv": Path("tests")}, "--csv tests"),
        ({"text": "a", "csv": Path("nowhere/a.csv")}, "--csv nowhere"),
        ({"text": "a", "file": Path("none.csv")}, "--file"),
        ({"file": Path("none.csv")}, r"none\.csv"),
        ({"text": "a", "data": Path("nowhere")}, r"patents\.csv"),
        ({"text": "a", "model": "no-such-model"}, "no-such-model"),
    ],
)
def test_what_cannot_be_answered_is_said(
    search: Search, options: dict[str, Any], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=match):
        search(**options)


@pytest.mark.parametrize(
    ("how", "pattern"),
    [
        ({"quantise": "int8"}, "vectors/bert/int8.npy"),
        ({"quantise": "binary"}, "vectors/bert/binary.npy"),
        ({"hybrid": True}, "search/*.bm25/*.npy"),
        ({"hybrid": True}, "search/*.bm25/vocab*"),
        ({}, "search/*.parquet"),
    ],
)
@pytest.mark.parametrize("content", [b"", b"\xff\0"])
def test_damaged_files_of_a_search_are_named(
    small_model: Model, tmp_path: Path, how: dict[str, Any], pattern: str, content: bytes
) -> None:
    options = Similar(model=str(small_model.folder), data=write_corpus(tmp_path, patents()), text="a", **how)
    similar(options)
    file = next(tmp_path.glob(pattern))
    file.write_bytes(content)

    with pytest.raises(InputError, match="damaged"):
        similar(options)


def test_a_pattern_of_files_holds_no_queries(search: Search, tmp_path: Path) -> None:
    (tmp_path / "q*.csv").write_text("text\na\n")
    with pytest.raises(InputError, match="Rename it"):
        search(file=tmp_path / "q*.csv")


def test_vectors_of_another_model_are_kept_unless_asked(corpus: Path, small_model: Model, tmp_path: Path) -> None:
    other, vectors = untrained(tmp_path, pooling="mean"), tmp_path / "vectors"
    options: dict[str, Any] = {
        "model": str(small_model.folder),
        "data": corpus,
        "vectors": vectors,
        "quantise": "int8",
        "text": "pump",
    }
    first = similar(Similar(**options))
    with pytest.raises(InputError, match=r"model .*--overwrite"):
        similar(Similar(**{**options, "model": str(other.folder)}))
    assert similar(Similar(**options)).equals(first)

    second = similar(Similar(**{**options, "model": str(other.folder), "overwrite": True}))

    assert second.equals(similar(Similar(**{**options, "model": str(other.folder)})))  # its codes are its own, too
    assert not np.allclose(second["score"], first["score"], atol=1e-3)


def test_vectors_from_elsewhere_are_not_computed_again(
    corpus: Path, small_model: Model, search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_corpus(small_model, corpus / "graph" / "patents.csv", tmp_path / "v", dtype="float32")
    monkeypatch.setattr(patentcl.search.corpus, "embed_corpus", None)

    found = search(text="pump", vectors=tmp_path / "v")

    assert np.allclose(found["score"], search(text="pump")["score"], atol=2e-3)


def test_subclasses_are_those_that_the_evaluation_predicts(small_model: Model, tmp_path: Path) -> None:
    """PatentSBERTa's protocol: subclasses that at least 3 of the 8 nearest patents of other splits have."""
    texts = patents()
    texts["subclasses"] = [subclasses(i) for i in texts.index]
    texts["subclass"] = texts["subclasses"].map(lambda symbols: symbols[0] if symbols else "")
    texts["section"], texts["split"] = texts["subclass"].str[:1], np.where(texts.index < 20, "test", "train")
    none, parts = np.empty((0, 2), int), dict.fromkeys(PARTS, np.empty(0, bool))
    held_out = HeldOut(
        texts, np.empty((0, 3), int), np.array([]), none, texts.index.to_numpy(), np.ones(60, bool), parts
    )
    outcome = score({"m": dense_ranker(encode(small_model.load(), texts))}, held_out)["m"]
    symbols = sorted({symbol for i in texts.index for symbol in subclasses(i)})
    expected = [{symbols[s] for s in np.flatnonzero(row)} for row in outcome.subclasses(3)[1]]

    data = write_corpus(tmp_path / "others", patents().iloc[20:])
    patents().iloc[:20].to_csv(tmp_path / "held_out.csv", index=False)
    found = classify(Classify(str(small_model.folder), file=tmp_path / "held_out.csv", data=data, quantise="none"))

    predicted = found[found["predicted"]].groupby("query")["subclass"].agg(set)
    tested = texts["patent_id"][outcome.tested]
    assert [predicted.get(patent, set()) for patent in tested] == expected and sum(map(len, expected)) > 10
    assert (found["confidence"] * 8 % 1 == 0).all() and found["confidence"].between(0.125, 1).all()
    assert found.groupby("query")["confidence"].is_monotonic_decreasing.all()


def test_few_patents_vote_where_there_are_few(corpus: Path, small_model: Model) -> None:
    found = classify(Classify(str(small_model.folder), text="pump", data=corpus, neighbours=200, top=2))
    classified = [i for i in range(60) if subclasses(i)]
    share = sum("F04B" in subclasses(i) for i in classified) / len(classified)

    assert found["subclass"].tolist() == ["F04B", "H05B"]
    assert found["confidence"].tolist()[0] == pytest.approx(share) and found["predicted"].tolist()[0] == (
        share >= 0.375
    )


def test_answers_are_printed_without_control_characters_and_written_as_csv(
    corpus: Path, small_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--model", str(small_model.folder), "--data", str(corpus), "--csv", str(tmp_path / "a.csv")]
    similar_module.main([*where, "--text", "zeppelin", "--hybrid", "--top", "1"])
    printed = capsys.readouterr().out

    assert "\x1b" not in printed and "Zeppelin" in printed and "/US7000007" in printed
    assert pd.read_csv(tmp_path / "a.csv", dtype=str)["title"].tolist() == [patents()["title"][7]]
    classify_module.main([*where, "--patent", "7000001"])
    printed = capsys.readouterr().out
    assert "F04B" in printed and "7000001  Title 1\n" in printed
    assert pd.read_csv(tmp_path / "a.csv")["query"].tolist()[0] == 7000001


def test_long_answers_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    show(pd.DataFrame({"query": ["q" * 300], "query_title": [""], "title": ["t" * 300], "rank": [1]}), None)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


def test_each_query_is_answered_or_named(search: Search, capsys: pytest.CaptureFixture[str]) -> None:
    found = search(patent=["7000000", "7000005", "US-07000005-B2"], before="1951", top=1)
    assert found["patent_id"].tolist() == ["7000000", "7000000"]
    assert "7000000: " in capsys.readouterr().out
    show(found, None)
    assert capsys.readouterr().out.count("7000005  Title 5\n") == 2


def test_newer_servers_are_asked_by_the_search_clause() -> None:
    assert "db.index.vector.queryNodes('patent_vectors'" in similar_query((5, 26))
    assert "SEARCH p IN (VECTOR INDEX patent_vectors" in similar_query((2026, 1))


@pytest.mark.parametrize(
    ("patent", "page"),
    [
        ("10000000", "US10000000"),
        ("D345678", "USD345678"),
        ("RE12345", "USRE12345"),
        ("EP1234567A1", "EP1234567A1"),
        ("p1", ""),
    ],
)
def test_links_are_those_of_google_patents(patent: str, page: str) -> None:
    assert link(patent) == (f"https://patents.google.com/patent/{page}" if page else "")
