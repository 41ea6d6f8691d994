"""Triplets obey their definition, checked here from the CSVs without any graph."""

import errno
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import patent_handler
from patentcl.common.cli import InputError
from patentcl.common.files import locked, read_json
from patentcl.common.resources import GB, Resources
from patentcl.evaluation.compare import patents_to_compare
from patentcl.graph.base import Graph, TooLarge, open_graph
from patentcl.models.embed import embed, unit_rows
from patentcl.models.load import MINILM, find_model
from patentcl.pipeline import tables_to_triplets
from patentcl.tables.restructure import restructure
from patentcl.triplets.dataset import load_dataset
from patentcl.triplets.mine import check_needs, mine, query_parameters, query_parts
from patentcl.triplets.options import HUB, KINDS, Mining, Positives
from patentcl.triplets.report import report
from patentcl.triplets.write import write_training_csv


class Corpus:
    """The graph as plain Python sets."""

    def __init__(self, graph: Path) -> None:
        patents = pd.read_csv(graph / "patents.csv", dtype=str, keep_default_na=False)
        patents = patents.sort_values("rank:ID(Patent){id-type:long}", key=pd.to_numeric, ignore_index=True)
        ids = patents["patent_id"]
        self.classes = dict(zip(ids, patents["subclasses:string[]"].str.split(";").map(set), strict=True))
        self.family = dict(zip(ids, patents["family:long"], strict=True))
        self.primary = dict(zip(ids, patents["subclass"], strict=True))
        self.abstract = dict(zip(ids, patents["abstract"], strict=True))
        edges = pd.read_csv(graph / "citations.csv", dtype=str, keep_default_na=False)
        self.cites: dict[str, set[str]] = {patent: set() for patent in ids}
        for citing, cited in zip(
            ids.iloc[edges.iloc[:, 0].astype(int)], ids.iloc[edges.iloc[:, 1].astype(int)], strict=True
        ):
            self.cites[citing].add(cited)
        category = edges["examiner:boolean"].eq("true").to_numpy()
        ends = [ids.iloc[edges.iloc[:, end].astype(int)].to_numpy()[category] for end in (0, 1)]
        self.examiner = set(zip(*ends, strict=True))
        outside = pd.read_csv(graph / "outside_citations.csv", dtype=str)
        self.cites_any = {patent: set(cited) for patent, cited in self.cites.items()}
        for rank, number in outside.itertuples(index=False):
            self.cites_any[ids.iloc[int(rank)]].add(f"outside {number}")

    def check(self, row: Any) -> None:
        """Assert that a row of triplets obeys the definition."""
        a, p, n = row.anchor_id, row.positive_id, row.negative_id
        if row.positive_kind == "coupled":
            assert p not in self.cites[a] and len(self.cites_any[a] & self.cites_any[p]) >= 2
        else:
            assert p in self.cites[a] and (row.positive_kind == "examiner") == ((a, p) in self.examiner)
        assert row.cpc_subclass in self.classes[a] & self.classes[p]
        assert not self.classes[a] & self.classes[n]
        assert n not in self.cites[a] and a not in self.cites[n]
        assert len({self.family[x] for x in (a, p, n)}) == 3
        assert all(self.abstract[x].strip() for x in (a, p, n))
        assert all(self.primary[x] for x in (a, p, n))
        if row.negative_kind == "citation":
            assert any(n in self.cites[b] for b in self.cites[a])
        if row.negative_kind == "sibling":
            assert self.primary[a][0] == self.primary[n][0]


@pytest.fixture
def data(mined_data: Path, tmp_path: Path) -> Path:
    """A copy of `mined_data`, to mine into."""
    return shutil.copytree(mined_data, tmp_path / "data")


@pytest.fixture
def mined(data: Path) -> Callable[..., tuple[dict[str, Any], pd.DataFrame]]:
    """Mine into a folder of the copy: its record and its triplets."""

    def run(name: str, mining: Mining) -> tuple[dict[str, Any], pd.DataFrame]:
        graph = open_graph("embedded", data)
        record = mine(graph, data, name, mining)
        graph.close()
        return record, triplets_in(data / "triplets" / name)

    return run


def triplets_in(folder: Path) -> pd.DataFrame:
    """The triplets with the ids of their patents."""
    return pd.read_parquet(folder / "triplets.parquet")


Mined = Callable[..., tuple[dict[str, Any], pd.DataFrame]]


def test_every_triplet_obeys_the_definition_and_all_kinds_occur(mined_data: Path) -> None:
    corpus, triplets = Corpus(mined_data / "graph"), triplets_in(mined_data / "triplets" / "200")

    assert (triplets["split"] == "train").sum() == 200
    assert set(triplets["negative_kind"]) == set(KINDS)
    for row in triplets.itertuples():
        corpus.check(row)


def test_the_record_counts_what_the_tables_hold(mined_data: Path) -> None:
    corpus, counts = (
        Corpus(mined_data / "graph"),
        read_json(mined_data / "triplets" / "200" / "triplets.json")["counts"],
    )
    pairs = [(a, x) for a, cited in corpus.cites.items() if corpus.abstract[a].strip() for x in cited]
    readable = [(a, x) for a, x in pairs if corpus.abstract[x].strip()]
    sharing = [(a, x) for a, x in readable if corpus.classes[a] & corpus.classes[x] - {""}]

    assert counts["citation pairs inside the table"] == len(pairs)
    assert counts["… both with an abstract"] == len(readable)
    assert counts["… sharing a CPC subclass"] == len(sharing)
    assert counts["… of different families"] == sum(corpus.family[a] != corpus.family[x] for a, x in sharing)


def test_held_out_families_play_no_role_in_train_triplets_and_texts_do_not_leak(mined_data: Path) -> None:
    dataset = load_dataset(mined_data / "triplets" / "200")
    texts = dataset.read_texts(np.arange(len(dataset.texts))).set_index("patent_id")
    normal = texts["abstract"].str.lower().str.replace(r"[\W_]+", "", regex=True)
    held = set(texts.index[texts["split"] != "train"])
    train = sorted(texts.index[dataset.used_in("train")])

    assert not held & set(train)
    assert not set(normal[train]) & set(normal[sorted(held)])
    assert not (dataset.used_in("val") & (texts["split"] == "test")).any()
    query_splits = texts["split"].iloc[dataset.retrieval["query"]]
    assert query_splits.tolist() == dataset.retrieval["split"].tolist()


def test_smaller_sizes_are_part_of_larger_ones(mined_data: Path, mined: Mined) -> None:
    sizes = [
        mined("50", Mining("50"))[1],
        triplets_in(mined_data / "triplets" / "200"),
        mined("400", Mining("400"))[1],
    ]

    small, middle, large = (
        set(triplets.query("split == 'train'").itertuples(index=False, name=None)) for triplets in sizes
    )
    assert small < middle < large


def test_the_same_seed_gives_the_same_bytes(mined_data: Path, data: Path) -> None:
    graph = open_graph("embedded", data)
    mine(graph, data, "200", Mining("200"), overwrite=True)
    graph.close()

    old, new = (folder / "triplets" / "200" / "triplets.parquet" for folder in (mined_data, data))
    assert old.stat().st_mtime < new.stat().st_mtime and old.read_bytes() == new.read_bytes()


class Dying(Graph):
    """A graph that dies after some answers."""

    def batch(self, counts: dict[str, int]) -> int:
        return 100

    def __init__(self, data: Path, answers: int) -> None:
        self.inner, self.left, self.queries = open_graph("embedded", data), answers, 0

    def run(self, query: str, parameters: dict[str, Any]) -> pa.Table:
        self.left, self.queries = self.left - 1, self.queries + 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.inner.run(query, parameters)

    def close(self) -> None:
        self.inner.close()


def test_an_interrupted_mining_resumes_and_batches_do_not_change_the_result(data: Path) -> None:
    dying = Dying(data, answers=5)
    with pytest.raises(KeyboardInterrupt):
        mine(dying, data, "batches", Mining("200"))
    dying.close()
    assert not (data / "triplets" / "batches").exists()

    resumed = Dying(data, answers=10**6)
    mine(resumed, data, "batches", Mining("200"))
    resumed.close()

    batches = -(-read_json(data / "graph" / "graph.json")["counts"]["patents"] // 100)
    assert resumed.queries == batches * len(query_parts(Mining("200"))) - 5
    at_once, in_batches = (triplets_in(data / "triplets" / name) for name in ("200", "batches"))
    pd.testing.assert_frame_equal(at_once, in_batches)


class Small(Dying):
    """A graph whose memory holds the answers for 130 anchors."""

    def batch(self, counts: dict[str, int]) -> int:
        return 10**6

    def run(self, query: str, parameters: dict[str, Any]) -> pa.Table:
        if parameters["hi"] - parameters["lo"] > 130:
            raise TooLarge("--memory")
        return super().run(query, parameters)


def test_a_query_that_is_too_large_is_asked_in_halves(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = Small(data, answers=20)
    with pytest.raises(KeyboardInterrupt):
        mine(small, data, "halves", Mining("FULL"))
    answered = len(list((data / "triplets" / ".halves.batches").glob("*.parquet")))
    small.left = 10**6
    monkeypatch.setattr(Small, "batch", lambda *_: 50)  # with other memory; the answers are kept
    mine(small, data, "halves", Mining("FULL"))
    assert answered > 0 and f"answered: {answered}" in capsys.readouterr().out
    mine(small.inner, data, "whole", Mining("FULL"))
    small.close()

    halves, whole = (data / "triplets" / name / "triplets.parquet" for name in ("halves", "whole"))
    assert halves.read_bytes() == whole.read_bytes()


def test_an_anchor_that_is_too_large_for_the_memory_names_the_flag(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(query: str, parameters: dict[str, Any]) -> pa.Table:
        raise TooLarge("pass a larger --memory")

    small = Small(data, answers=0)
    monkeypatch.setattr(small, "run", refuse)
    with pytest.raises(InputError, match="--memory"):
        mine(small, data, "x", Mining("10"))
    small.close()


def test_a_failure_while_writing_keeps_the_answers(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("patentcl.triplets.write._write_texts", full)
        with pytest.raises(OSError, match="No space"):
            mine(Dying(data, answers=1_000), data, "again", Mining("200"))
    assert not (data / "triplets" / "again").exists()
    mine(asked := Dying(data, answers=0), data, "again", Mining("200"))

    assert asked.queries == 0
    folders = (data / "triplets" / name for name in ("200", "again"))
    old, new = ((folder / "triplets.parquet").read_bytes() for folder in folders)
    assert old == new and not list((data / "triplets").glob(".again.batches"))


def test_two_runs_of_one_name_are_refused(data: Path) -> None:
    graph = open_graph("embedded", data)

    with locked(data / "triplets" / ".x.batches"), pytest.raises(InputError, match=r"\.x\.batches"):
        mine(graph, data, "x", Mining("50"))

    assert mine(graph, data, "x", Mining("50"))["triplets"]["train"] == 50
    graph.close()


def test_a_graph_that_is_replaced_while_it_is_mined_is_noticed(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = open_graph("embedded", data)

    with monkeypatch.context() as patch, pytest.raises(InputError, match="graph"):
        patch.setattr(graph, "holds", lambda fingerprint: False)
        mine(graph, data, "x", Mining("50"))
    assert not (data / "triplets" / "x").exists()
    assert not list(data.glob("triplets/.x.batches/*.parquet"))

    assert mine(graph, data, "x", Mining("50"))["triplets"]["train"] == 50
    graph.close()


def test_a_file_that_was_cut_or_lost_is_mined_again(data: Path) -> None:
    graph, folder = open_graph("embedded", data), data / "triplets" / "200"
    complete = {file: (folder / file).read_bytes() for file in ("triplets.parquet", "ids_val.txt", "texts.parquet")}
    (folder / "triplets.parquet").write_bytes(complete["triplets.parquet"][:-9])
    mine(graph, data, "200", Mining("200"))
    (folder / "ids_val.txt").write_text("")
    (folder / "texts.parquet").unlink()
    mine(graph, data, "200", Mining("200"))
    graph.close()

    assert {file: (folder / file).read_bytes() for file in complete} == complete


def test_kinds_of_negative_follow_the_shares_and_falling_back_is_counted(mined: Mined) -> None:
    record, _ = mined("x", Mining("200", negatives="citation=1"))

    counts = record["negatives"]
    assert counts["wanted"]["sibling"] == counts["wanted"]["random"] == 0
    fell_back = sum(counts["fell back"].values())
    assert fell_back > 0
    assert counts["got"]["citation"] + fell_back + counts["none found"] == counts["wanted"]["citation"]
    assert "citation → sibling" in report(record)


def test_examiner_citations_come_first_and_coupled_patents_after_the_cited_ones(data: Path, mined: Mined) -> None:
    cited, examiner, coupled = (
        mined(name, Mining("FULL", per_anchor=2, positives=name)) for name in get_args(Positives)
    )
    corpus, triplets = Corpus(data / "graph"), coupled[1]

    assert examiner[0]["positives"]["examiner"] > cited[0]["positives"]["examiner"] > 0
    assert coupled[0]["positives"]["coupled"] > 20 and cited[0]["positives"]["coupled"] == 0
    assert "positive: coupled" in report(coupled[0])
    for row in triplets.itertuples():
        corpus.check(row)
    by_kind = triplets.groupby(triplets["positive_kind"] == "coupled")["split"].agg(set)
    assert by_kind[True] == {"train"} and by_kind[False] == {"train", "val", "test"}


def test_the_report_notes_tables_that_mark_no_examiner_citation(mined: Mined) -> None:
    record, _ = mined("x", Mining("20", positives="examiner"))

    assert "--positives cited" not in report(record)
    assert "--positives cited" in report(record | {"examiner's citations": 0})


def test_the_report_notes_fewer_triplets_than_requested(mined: Mined) -> None:
    assert "100,000" not in report(mined("y", Mining("20"))[0])
    assert "100,000" in report(mined("x", Mining("100K"))[0])


def test_sections_take_turns_in_the_corpus_proportions(mined: Mined) -> None:
    record, _ = mined("x", Mining("80"))

    corpus, train = (np.array(record["sections"][part]) for part in ("corpus", "train"))
    assert corpus.sum() == pytest.approx(1, abs=1e-3) == train.sum()
    assert np.abs(corpus - train).max() < 0.03
    assert f"(of the corpus {corpus[0]:.1%})" in report(record)


def test_a_model_filters_negatives_that_are_closer_than_the_positive(data: Path, mined: Mined) -> None:
    (plain, complete), (record, kept) = mined("plain", Mining("20")), mined("x", Mining("20", filter_model=MINILM))

    assert record["negatives"]["false negatives dropped"] > 0 == plain["negatives"]["false negatives dropped"]
    line = r"dropped: .* {}\n"
    assert re.search(line.format(record["negatives"]["false negatives dropped"]), report(record))
    assert not re.search(line.format(0), report(plain))
    train = kept.query("split == 'train'")
    assert len(train) == 20  # the next ones take the places of dropped ones
    dataset = load_dataset(data / "triplets" / "x").head(train=20, held_out=0)
    unit = unit_rows(embed(find_model(MINILM), dataset.texts, data / "embeddings"))
    anchor, positive, negative = unit[dataset.triplets_of("train")].swapaxes(0, 1)
    assert ((anchor * positive).sum(axis=1) > (anchor * negative).sum(axis=1)).all()
    held, unfiltered = (rows.query("split != 'train'").reset_index(drop=True) for rows in (kept, complete))
    pd.testing.assert_frame_equal(held, unfiltered)


def test_a_custom_corpus_with_classes_of_another_scheme(custom_corpus: Callable[..., Path], tmp_path: Path) -> None:
    patents = [(f"p{i}", f"Title {i}", f"Abstract number {i}.") for i in range(80)]
    classes = [(f"p{i}", 'pumps, "old"' if i % 2 else "lamps") for i in range(80)]
    citations = [(f"p{i}", f"p{i - 2}") for i in range(2, 80)]

    tables_to_triplets(custom_corpus(patents, citations, classes), tmp_path, "10K", Mining())

    corpus = Corpus(tmp_path / "graph")
    triplets = triplets_in(tmp_path / "triplets" / "10K")
    assert set(triplets["negative_kind"]) == {"random"}  # another scheme has no classes above a subclass
    for row in triplets.itertuples():
        corpus.check(row)


@pytest.mark.parametrize(("cited", "found"), [(HUB, ["x"]), (HUB + 1, [])])
def test_a_cited_patent_leads_to_negatives_that_the_anchor_has_no_citation_with_unless_it_cites_too_many(
    cited: int, found: list[str], custom_corpus: Callable[..., Path], tmp_path: Path
) -> None:
    seen = [f"p{i}" for i in range(cited - 2)]  # that the anchor cites, too
    links = [("a", "b"), ("citing", "a"), ("b", "citing"), ("b", "x"), *((by, p) for by in "ab" for p in seen)]
    texts = [(name, name, f"text of {name}") for name in ("a", "b", "x", "citing", *seen)]
    source = restructure(custom_corpus(texts, links, []), tmp_path / "graph")
    graph = open_graph("embedded", tmp_path)
    graph.import_csvs(tmp_path / "graph")
    parameters = {**query_parameters(source, Mining("FULL")), "test": 0, "held": 0}

    rows = graph.run(query_parts(Mining("FULL"))["citation"], parameters).to_pydict()
    graph.close()

    ids = pd.read_parquet(tmp_path / "graph" / "patents.parquet")["patent_id"]
    negatives = zip(ids[rows["anchor"]], ids[rows["negative"]], strict=True)
    assert [negative for anchor, negative in negatives if anchor == "a"] == found


def test_a_custom_corpus_without_classes(custom_corpus: Callable[..., Path], tmp_path: Path) -> None:
    patents = [(f"p{i}", f"Title {i}", f"Abstract number {i}.") for i in range(90)]
    citations = [(f"p{i}", f"p{i - step}") for step in (2, 5) for i in range(step, 90)]
    tables = custom_corpus(patents, citations, [])
    (tables / "classes.csv").unlink()

    record = tables_to_triplets(tables, tmp_path, "10K", Mining())["mining"]

    corpus, dataset = Corpus(tmp_path / "graph"), load_dataset(tmp_path / "triplets" / "10K")
    triplets = pd.read_parquet(tmp_path / "triplets" / "10K" / "triplets.parquet")
    assert set(triplets["negative_kind"]) == {"citation", "random"} and set(triplets["split"]) > {"train", "test"}
    assert set(triplets["cpc_subclass"]) == {""}
    for a, p, n in triplets[["anchor_id", "positive_id", "negative_id"]].itertuples(index=False):
        assert p in corpus.cites[a] and n not in corpus.cites[a] and a not in corpus.cites[n] and n not in (a, p)
    assert record["negatives"]["wanted"]["sibling"] == 0 and "sibling  " not in report(record)
    assert "section" not in report(record) and not any("subclass" in label for label in record["counts"])
    assert len(patents_to_compare(dataset, split="all")) == 90


def test_what_mining_needs_is_known_before_the_first_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "patents.csv").write_bytes(b"x" * 1_000)
    counts = {"patents": 9_000_000, "citing patents": 8_000_000, "citations": 94_000_000, "classified": 9_000_000}

    def check(mining: Mining, memory: str) -> None:
        check_needs(tmp_path / "triplets" / "x", tmp_path, {"counts": counts}, mining, Resources(memory))

    monkeypatch.setattr("patentcl.common.resources.available_memory", lambda: 64 * GB)
    check(Mining("10K"), "2.1GB")
    check(Mining("FULL"), "4GB")
    with pytest.raises(InputError, match=r"FULL .*--memory"):
        check(Mining("FULL"), "2GB")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=GB))
    with pytest.raises(InputError, match=r"1\.0 GB free"):
        check(Mining("FULL"), "8GB")


def test_tables_without_a_usable_citation_are_refused(custom_corpus: Callable[..., Path], tmp_path: Path) -> None:
    folder = custom_corpus([("1", "A", "a"), ("2", "B", "b")], [("1", "2")], [("1", "A01B"), ("2", "B01D")])

    with pytest.raises(InputError, match="--positives coupled"):
        tables_to_triplets(folder, tmp_path, "10K", Mining())
    with pytest.raises(InputError, match=r"classes$"):  # it was passed already
        tables_to_triplets(folder, tmp_path, "10K", Mining(positives="coupled"))

    assert not (tmp_path / "triplets" / "10K").exists()


@pytest.mark.parametrize(
    ("abstract", "cited", "subclass", "last", "lacking", "advice"),
    [
        ("", "1", "A01B", 12, "with an abstract", "abstracts"),
        (
            "Text {}",
            "99",
            "A01B",
            12,
            "cite",
            "--positives coupled",
        ),  # patents with an abstract, but none cites another
        ("Text {}", "1", "A{:>02}B", 10, "sharing", "classes"),
        ("A family of one text. " * 20, "1", "A01B", 10, "families", "tables"),
        ("Text {}", "1", "A01B", 10, "negative", "subclasses"),  # all in one subclass
    ],
)
def test_what_tables_without_a_train_triplet_lack_is_said(
    custom_corpus: Callable[..., Path],
    tmp_path: Path,
    abstract: str,
    cited: str,
    subclass: str,
    last: int,
    lacking: str,
    advice: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ids = [str(n) for n in range(12)]
    patents = [(name, f"Title {name}", abstract.format(name)) for name in ids]
    classes = [(name, subclass.format(name)) for name in ids]
    folder = custom_corpus(patents, [(name, cited) for name in ids[2:]], classes)

    with pytest.raises(InputError, match=rf"\b{last}\b.* 0 .*{lacking}.*\. .*{advice}") as problem:
        patent_handler.main(["--tables", str(folder), "--data", str(tmp_path / "data")])

    assert "--val" not in str(problem.value)  # which would not help

    assert re.search(r"^patents +12$", capsys.readouterr().out, re.MULTILINE)  # the counts come first


def test_a_patent_that_cites_thousands_and_an_abstract_of_ten_megabytes(
    custom_corpus: Callable[..., Path], tmp_path: Path
) -> None:
    ids = [str(n) for n in range(200)]
    patents = [(name, f"Title {name}", f"Text {name}") for name in ids]
    patents[1] = ("1", "Long", "a pump and " * 950_000)
    cited = [("0", str(n)) for n in (*range(100), *range(1_000, 10_900))]  # itself, too
    others = [(str(n), str(n - 1)) for n in range(50, 100)]
    classes = [(name, ("A01B", "C02F")[int(name) > 150]) for name in ids]
    folder = custom_corpus([*patents, patents[5]], [*cited, *cited[:300], *others, ("7", "7")], classes)

    record = tables_to_triplets(folder, tmp_path, "FULL", Mining("FULL", per_anchor=500))

    counts, dropped = record["restructure"]["counts"], record["restructure"]["dropped"]
    assert (counts["patents"], counts["citations"]) == (200, 99 + 50)
    assert [dropped[f"citations: {why}"] for why in ("of itself", "repeated")] == [3, 99]
    triplets = triplets_in(tmp_path / "triplets" / "FULL")
    pairs = set(zip(triplets["anchor_id"], triplets["positive_id"], strict=True))
    assert ("0", "1") in pairs and pairs <= {*cited, *others} - {("0", "0")}
    texts = pd.read_parquet(tmp_path / "triplets" / "FULL" / "texts.parquet").set_index("patent_id")
    assert texts.loc["1", "abstract"] == patents[1][2]


def test_a_training_csv_has_all_texts_and_can_be_trained_on(mined_data: Path, tmp_path: Path) -> None:
    rows = write_training_csv(mined_data / "triplets" / "200", tmp_path / "triplet_training.csv")
    table = pd.read_csv(tmp_path / "triplet_training.csv", dtype=str, keep_default_na=False)
    dataset = load_dataset(tmp_path / "triplet_training.csv")

    assert len(table) == rows == 200  # the train triplets only
    assert list(table) == [*(f"{role}_{part}" for role in "apn" for part in ("id", "title", "abstract")), "cpc_id"]
    assert {"train", "val", "test"} == set(dataset.triplets["split"])
    assert set(dataset.texts["split"][dataset.used_in("train")]) == {"train"}


def test_a_training_csv_that_does_not_fit_on_the_disk_is_refused(
    mined_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1_000))

    with pytest.raises(InputError, match=r"triplet_training\.csv .*disk"):
        write_training_csv(mined_data / "triplets" / "200", tmp_path / "triplet_training.csv")


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"triplets": "10k!"}, "--triplets 10k!"),
        ({"triplets": "0"}, "--triplets 0"),
        ({"coupled": 0}, "--coupled 0"),
        ({"coupled": 3}, "--positives coupled"),
        ({"corpus": -1}, "--corpus -1"),
        ({"positives": "copled"}, "--positives copled"),
        ({"split": "date"}, "--split date"),
        ({"val": 0.5, "test": 0.6}, "--val 0.5, --test 0.6"),
        ({"filter_model": "./nowhere"}, r"\./nowhere"),
        ({"negatives": "citation=0.5,easy=0.5"}, "--negatives 'easy=0.5'"),
        ({"negatives": "random=1,random=2"}, "--negatives .* random"),
        ({"negatives": "random=0"}, "--negatives random=0"),
        ({"negatives": "random=1" + "0" * 400}, "--negatives random=1"),
    ],
)
def test_options_that_make_no_sense_name_the_flag(options: dict[str, Any], flag: str) -> None:
    with pytest.raises(InputError, match=flag):
        Mining(**options)


def test_options_derive_name_count_and_shares() -> None:
    assert (Mining("10k").name, Mining("10k").count) == ("10K", 10_000)
    assert (Mining("FULL").count, Mining("300").count) == (None, 300)
    assert Mining(negatives="citation=3, random=1").shares == {"citation": 0.75, "sibling": 0, "random": 0.25}
    assert Mining("10K", negatives="random=5").params() == Mining("10000", negatives="random=1").params()


def test_files_of_others_are_kept(tables: Path, tmp_path: Path) -> None:
    (tmp_path / "graph").mkdir()
    (tmp_path / "graph" / "thesis.txt").write_text("mine")

    with pytest.raises(InputError, match=r"graph\.json"):
        restructure(tables, tmp_path / "graph", overwrite=True)
    with pytest.raises(InputError, match="tables"):
        restructure(tables, tables)
    with pytest.raises(InputError, match=r"t\[1\]"):
        restructure(tmp_path / "t[1]", tmp_path / "graph")

    assert (tmp_path / "graph" / "thesis.txt").read_text() == "mine"


def test_real_patents(water: Path, tmp_path: Path) -> None:
    restructure(water, tmp_path / "graph")
    record = tables_to_triplets(water, tmp_path, "10K", Mining())["mining"]

    counts = record["counts"]
    assert counts["citation pairs inside the table"] == 305
    assert counts["… sharing a CPC subclass"] == 261
    assert sum(record["triplets"].values()) == counts["… chosen"] > 100
    corpus = Corpus(tmp_path / "graph")
    for row in triplets_in(tmp_path / "triplets" / "10K").itertuples():
        corpus.check(row)
