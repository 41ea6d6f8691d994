"""An evaluation on other tables: all citing patents are queries, but none that a model was trained on."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from patentcl.common.cli import InputError
from patentcl.common.files import write_json
from patentcl.evaluation.__main__ import main
from patentcl.evaluation.compare import compare_embeddings
from patentcl.evaluation.held_out import held_out_set
from patentcl.evaluation.other_corpus import other_corpus
from patentcl.models.load import MINILM, find_model
from patentcl.tables.restructure import restructure
from patentcl.triplets.dataset import Dataset

TEXTS = ["a pump for water", "a valve for a pump", "a filter of sand", "a lamp with a lens", "a mirror of glass"]


def ids_of(data: Dataset) -> list[tuple[str, str]]:
    ids = data.texts["patent_id"]
    return sorted(zip(ids[data.retrieval["query"]], ids[data.retrieval["relevant"]], strict=True))


@pytest.fixture
def corpus(custom_corpus: Callable[..., Path]) -> Callable[..., Path]:
    """Patents p0, p1, … of different texts with these citations and classes, restructured: the data folder."""

    def write(citations: list[tuple[str, str]], classes: list[tuple[str, str]], texts: list[str] = TEXTS) -> Path:
        patents = [(f"p{number}", text[:6], text) for number, text in enumerate(texts)]
        folder = custom_corpus(patents, citations, classes)
        restructure(folder, folder / "data" / "graph")
        return folder / "data"

    return write


def test_all_citing_patents_are_queries(mined_data: Path, tmp_path: Path) -> None:
    folder = mined_data / "triplets" / "200"
    data, about = other_corpus(folder, [], tmp_path / "scratch")

    graph = mined_data / "graph"
    patents = pd.read_parquet(graph / "patents.parquet").set_index("rank")
    cited = pd.read_csv(graph / "citations.csv").iloc[:, :2].set_axis(["query", "relevant"], axis=1)
    ends = [patents.loc[cited[end]].reset_index(drop=True) for end in cited]
    both = ends[0]["has_abstract"] & ends[1]["has_abstract"] & (ends[0]["family"] != ends[1]["family"])
    assert ids_of(data) == sorted(zip(ends[0]["patent_id"][both], ends[1]["patent_id"][both], strict=True))
    assert sorted(data.texts["patent_id"]) == sorted(patents["patent_id"][patents["has_abstract"]])
    assert about["documents of a training, removed"] == 0 and not list(tmp_path.iterdir())
    again, _ = other_corpus(mined_data, [], tmp_path / "scratch")  # the data folder of these triplets
    assert ids_of(again) == ids_of(data)


def test_families_of_a_training_are_removed_and_counted(corpus: Callable[..., Path], tmp_path: Path) -> None:
    data = corpus([("p0", "p1"), ("p2", "p3"), ("p3", "p4")], [], [*TEXTS[:4], TEXTS[4], TEXTS[3].upper()])

    rest, about = other_corpus(data, ["p5", "elsewhere"], tmp_path / "scratch")  # p5 has the text of p3

    assert about["documents of a training, removed"] == 2
    assert rest.texts["patent_id"].tolist() == ["p0", "p1", "p2", "p4"] and ids_of(rest) == [("p0", "p1")]


def test_queries_and_documents_are_limited_as_in_the_mining_there(mined_data: Path, tmp_path: Path) -> None:
    complete, _ = other_corpus(mined_data, [], tmp_path / "scratch")
    folder = tmp_path / "data" / "triplets" / "few"
    folder.mkdir(parents=True)
    (tmp_path / "data" / "graph").symlink_to(mined_data / "graph")
    write_json(folder / "triplets.json", {"params": {"max_queries": 7, "corpus": 100}})

    few, _ = other_corpus(folder, [], tmp_path / "scratch")
    others, _ = other_corpus(folder, [], tmp_path / "scratch", seed=43)

    queries = {query for query, _ in ids_of(few)}
    assert len(queries) == 7 and len(few.texts) == 100
    assert ids_of(few) == [pair for pair in ids_of(complete) if pair[0] in queries]
    assert queries != {query for query, _ in ids_of(others)}


def test_a_corpus_without_citations_inside_is_judged_by_shared_ones(
    corpus: Callable[..., Path], tmp_path: Path
) -> None:
    shared = [("p0", "x"), ("p0", "y"), ("p1", "x"), ("p1", "y"), ("p2", "y"), ("p3", "z")]

    data, about = other_corpus(corpus(shared, []), [], tmp_path / "scratch")

    assert ids_of(data) == [("p0", "p1"), ("p1", "p0")]
    assert "share" in str(about["relevant"])
    report = compare_embeddings({"noise": np.eye(5), "other": np.eye(5)[::-1]}, held_out_set(data, "test"))
    assert report.table["queries"].tolist() == [2] * 6 and "nan" not in report.to_markdown()


def test_a_corpus_of_classes_only_has_the_table_of_classes(corpus: Callable[..., Path], tmp_path: Path) -> None:
    texts = [f"{text} number{number}" for number in range(4) for text in TEXTS]
    classes = [(f"p{number}", "A01B" if number % 5 < 3 else "H01L") for number in range(20)]

    data, _ = other_corpus(corpus([], classes, texts), [], tmp_path / "scratch")

    vectors = np.random.default_rng(0).normal(size=(20, 4))
    report = compare_embeddings({"noise": vectors, "classes": np.eye(5)[np.arange(20) % 5]}, held_out_set(data, "test"))
    row = report.table.loc["noise"]
    assert row["queries"] == 0 and row["patents classified"] == 20
    assert row["CPC F1 low"] < row["CPC F1"] < row["CPC F1 high"]
    assert [line.split(":")[0] for line in report.to_markdown().splitlines() if line.endswith("documents")] == ["CPC"]


def test_what_cannot_be_judged_is_an_error(corpus: Callable[..., Path], mined_data: Path, tmp_path: Path) -> None:
    data = corpus([], [])
    with pytest.raises(InputError, match=str(data)):
        other_corpus(data, [], tmp_path / "scratch")
    for folder in (tmp_path / "nowhere", Path("/")):
        with pytest.raises(InputError, match=f"--against {folder}"):
            other_corpus(folder, [], tmp_path / "scratch")
    shutil.copytree(mined_data / "triplets" / "200", data / "triplets" / "200")
    with pytest.raises(InputError, match="another graph"):
        other_corpus(data / "triplets" / "200", [], tmp_path / "scratch")
    with pytest.raises(InputError, match="--split val"):
        main(["--against", str(data), "--split", "val", "--models", MINILM])


def test_a_damaged_graph_is_an_error(corpus: Callable[..., Path], tmp_path: Path) -> None:
    data = corpus([("p0", "p1")], [])
    (data / "graph" / "citations.csv").write_text(":START_ID(Patent),:END_ID(Patent),examiner:boolean\n")

    with pytest.raises(InputError, match=r"citations\.csv"):
        other_corpus(data, [], tmp_path / "scratch")


def test_the_command_evaluates_on_other_tables(
    corpus: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, model = corpus([("p0", "p1"), ("p2", "p3"), ("p3", "p4")], []), tmp_path / "model"
    shutil.copytree(find_model(MINILM).folder, model)
    (model / "ids_train.txt").write_text("p4\n")

    main(
        ["--models", MINILM, str(model), "--data", str(tmp_path / "own"), "--against", str(other), "--max-length", "16"]
    )

    table = pd.read_csv(tmp_path / "own" / "evaluation" / "data" / "against.csv", index_col="row")
    assert table.index.tolist() == ["BM25", "TF-IDF", MINILM, "model", f"BM25 + {MINILM}", "BM25 + model"]
    assert set(table["queries"]) == {2} and set(table["documents"]) == {4}
    assert set(table["documents of a training, removed"]) == {1} and set(table["corpus"]) == {str(other)}
    printed = capsys.readouterr().out
    assert "warning" not in printed and (tmp_path / "own" / "evaluation" / "data" / "against.md").exists()
