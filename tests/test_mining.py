"""Dataset obey their definition, checked here from the CSVs without any graph."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from patentcl.common.cli import InputError
from patentcl.common.files import locked, read_json, write_json
from patentcl.evaluation.metrics import triplets_right
from patentcl.evaluation.rankers import dense_scores
from patentcl.graph.base import open_graph
from patentcl.models.embed import embed
from patentcl.models.load import MINILM, find_model
from patentcl.pipeline import tables_to_triplets
from patentcl.tables.cpc import Sections
from patentcl.tables.restructure import restructure
from patentcl.triplets.dataset import load_dataset
from patentcl.triplets.mine import mine, query_parts
from patentcl.triplets.options import KINDS, POSITIVES, Mining, check, check_mining, parse_shares, parse_size
from patentcl.triplets.report import report
from patentcl.triplets.select import are_enough, corpus_to_search, held_out, negatives
from patentcl.triplets.write import write_training_csv


class Corpus:
    """The graph as plain Python sets."""

    def __init__(self, graph: Path) -> None:
        patents = pd.read_csv(graph / "patents.csv", dtype=str, keep_default_na=False)
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
        category = edges["category"].eq("cited by examiner").to_numpy()
        ends = [ids.iloc[edges.iloc[:, end].astype(int)].to_numpy()[category] for end in (0, 1)]
        self.examiner = set(zip(*ends, strict=True))
        outside = pd.read_csv(graph / "outside_citations.csv", dtype=str)
        self.cites_any = {patent: set(cited) for patent, cited in self.cites.items()}
        for rank, number in outside.itertuples(index=False):
            self.cites_any[ids.iloc[int(rank)]].add(f"outside {number}")


def check_row(corpus: Corpus, row: Any) -> None:
    a, p, n = row.anchor_id, row.positive_id, row.negative_id
    shared = len(corpus.cites_any[a] & corpus.cites_any[p])
    assert p in corpus.cites[a] if row.positive_kind != "coupled" else p not in corpus.cites[a] and shared >= 2
    if row.positive_kind != "coupled":
        assert (row.positive_kind == "examiner") == ((a, p) in corpus.examiner)
    assert row.cpc_subclass in corpus.classes[a] & corpus.classes[p]
    assert not corpus.classes[a] & corpus.classes[n]
    assert n not in corpus.cites[a] and a not in corpus.cites[n]
    assert len({corpus.family[x] for x in (a, p, n)}) == 3
    assert all(corpus.abstract[x].strip() for x in (a, p, n))
    assert all(corpus.primary[x] for x in (a, p, n))
    if row.negative_kind == "citation":
        assert any(n in corpus.cites[b] for b in corpus.cites[a])
    if row.negative_kind == "sibling":
        assert corpus.primary[a][0] == corpus.primary[n][0]


def test_every_triplet_obeys_the_definition_and_all_kinds_occur(road: Path) -> None:
    corpus, triplets = Corpus(road / "graph"), load_dataset(road / "triplets" / "200").triplets

    assert (triplets["split"] == "train").sum() == 200
    assert set(triplets["negative_kind"]) == set(KINDS)
    for row in triplets.itertuples():
        check_row(corpus, row)


def test_what_the_report_counts_is_what_the_tables_hold(road: Path) -> None:
    corpus, found = Corpus(road / "graph"), read_json(road / "triplets" / "200" / "triplets.json")["found"]
    pairs = [(a, x) for a, cited in corpus.cites.items() if corpus.abstract[a].strip() for x in cited]
    readable = [(a, x) for a, x in pairs if corpus.abstract[x].strip()]
    sharing = [(a, x) for a, x in readable if corpus.classes[a] & corpus.classes[x] - {""}]

    assert found["citation pairs of theirs inside the table"] == len(pairs)
    assert found["… both with an abstract"] == len(readable)
    assert found["… sharing a CPC subclass"] == len(sharing)
    assert found["… of different families"] == sum(corpus.family[a] != corpus.family[x] for a, x in sharing)


def test_held_out_families_play_no_role_in_train_triplets_and_texts_do_not_leak(road: Path) -> None:
    data = load_dataset(road / "triplets" / "200")
    texts = data.texts.set_index("patent_id")
    roles = ["anchor_id", "positive_id", "negative_id"]
    normal = texts["abstract"].str.lower().str.replace(r"[\W_]+", "", regex=True)

    used = {split: pd.unique(rows[roles].to_numpy().ravel()) for split, rows in data.triplets.groupby("split")}
    held = set(texts.index[texts["split"] != "train"])
    assert not held & set(used["train"])
    assert not set(normal[used["train"]]) & set(normal[sorted(held)])
    assert not set(texts.index[texts["split"] == "test"]) & set(used["val"])
    assert (texts["split"].loc[data.retrieval["query_id"]].to_numpy() == data.retrieval["split"].to_numpy()).all()


def test_smaller_sizes_are_part_of_larger_ones_and_the_same_seed_gives_the_same_bytes(
    road: Path, tmp_path: Path
) -> None:
    graph = open_graph("embedded", road)
    for number in (50, 400):
        mine(graph, road, str(number), Mining(triplets=number))
    small, middle, large = (
        load_dataset(road / "triplets" / n).triplets.query("split == 'train'") for n in ("50", "200", "400")
    )
    first = (road / "triplets" / "50" / "triplets.parquet").read_bytes()
    mine(graph, road, "50", Mining(triplets=50), overwrite=True)
    graph.close()

    def rows(frame: pd.DataFrame) -> set[tuple[str, ...]]:
        return set(frame.itertuples(index=False, name=None))

    assert rows(small) <= rows(middle) <= rows(large)
    assert (road / "triplets" / "50" / "triplets.parquet").read_bytes() == first


def test_batches_do_not_change_the_result_and_an_interrupted_mining_goes_on(road: Path) -> None:
    class Dying:
        """A graph that dies after some answers."""

        batch, sessions = 100, 1

        def __init__(self, answers: int) -> None:
            self.inner, self.left, self.asked = open_graph("embedded", road), answers, 0

        def run(self, query: str, parameters: dict[str, Any]) -> pa.Table:
            self.left, self.asked = self.left - 1, self.asked + 1
            if self.left < 0:
                raise KeyboardInterrupt
            return self.inner.run(query, parameters)

        def holds(self, fingerprint: str) -> bool:
            return self.inner.holds(fingerprint)

        def import_csvs(self, csvs: Path, overwrite: bool = False) -> None: ...

        def stop(self) -> None: ...

        def close(self) -> None:
            self.inner.close()

    settings = Mining(triplets=200)
    dying = Dying(answers=5)
    with pytest.raises(KeyboardInterrupt):
        mine(dying, road, "batches", settings)
    dying.close()
    assert not (road / "triplets" / "batches").exists()

    going_on = Dying(answers=10**6)
    mine(going_on, road, "batches", settings)
    going_on.close()

    batches = -(-read_json(road / "graph" / "graph.json")["counts"]["patents"] // 100)
    parts = len(query_parts()) - 1  # coupled patents were not asked for
    assert going_on.asked == batches * parts - 5
    whole, in_batches = (load_dataset(road / "triplets" / name).triplets for name in ("200", "batches"))
    pd.testing.assert_frame_equal(whole, in_batches)


def test_two_runs_of_one_name_and_a_replaced_graph_are_refused(tables: Path, tmp_path: Path) -> None:
    restructure(tables, tmp_path / "graph")
    graph = open_graph("embedded", tmp_path)
    graph.import_csvs(tmp_path / "graph")
    with locked(tmp_path / "triplets" / ".x.batches"), pytest.raises(InputError, match="another process is writing"):
        mine(graph, tmp_path, "x", Mining(triplets=50))

    record = read_json(tmp_path / "ladybug" / "import.json")
    write_json(tmp_path / "ladybug" / "import.json", {"params": {"graph": "of other tables"}})
    with pytest.raises(InputError, match="was replaced by another process"):
        mine(graph, tmp_path, "x", Mining(triplets=50))
    assert not (tmp_path / "triplets" / "x").exists()
    assert not list(tmp_path.glob("triplets/.x.batches/*.parquet"))

    write_json(tmp_path / "ladybug" / "import.json", record)
    assert mine(graph, tmp_path, "x", Mining(triplets=50))["triplets"]["train"] == 50


def test_results_that_were_cut_are_noticed(tables: Path, tmp_path: Path) -> None:
    tables_to_triplets(tables, tmp_path, "x", Mining(triplets=50))
    whole = (tmp_path / "triplets" / "x" / "triplets.parquet").read_bytes()
    (tmp_path / "triplets" / "x" / "triplets.parquet").write_bytes(whole[:-9])
    tables_to_triplets(tables, tmp_path, "x", Mining(triplets=50))
    assert (tmp_path / "triplets" / "x" / "triplets.parquet").read_bytes() == whole

    for file, sentence in {"patents.csv": "patents instead of", "cpc_subclasses.csv": "names no class"}.items():
        lines = (tmp_path / "graph" / file).read_text().splitlines(keepends=True)
        (tmp_path / "graph" / file).write_text("".join(lines[:1]))
        with pytest.raises(InputError, match=sentence):
            tables_to_triplets(tables, tmp_path, "y", Mining(triplets=50))
        (tmp_path / "graph" / file).write_text("".join(lines))


def test_shares_of_the_kinds_are_asked_for_and_falling_back_is_counted(road: Path) -> None:
    graph = open_graph("embedded", road)
    record = mine(graph, road, "citation-only", Mining(triplets=200, negatives=parse_shares("citation=1")))
    graph.close()

    counts = record["negatives"]
    assert counts["wanted"]["sibling"] == counts["wanted"]["random"] == 0
    assert (
        counts["got"]["citation"] + sum(counts["fell back"].values()) + counts["none found"]
        == counts["wanted"]["citation"]
    )
    assert "citation → sibling" in report(record)


def test_the_examiners_citations_come_first_and_coupled_patents_after_the_cited_ones(road: Path) -> None:
    graph, corpus = open_graph("embedded", road), Corpus(road / "graph")
    cited, examiner, coupled = (
        mine(graph, road, name, Mining(triplets=None, per_anchor=2, positives=name)) for name in POSITIVES
    )
    graph.close()
    tables = {name: load_dataset(road / "triplets" / name).triplets for name in POSITIVES}

    assert examiner["positives"]["examiner"] > cited["positives"]["examiner"] > 0
    assert coupled["positives"]["coupled"] > 20 and cited["positives"]["coupled"] == 0
    assert "positive: coupled" in report(coupled)
    assert "as the examiner's" not in report(examiner)  # these tables say who cited
    assert "--positives examiner is as cited" in report(examiner | {"examiner's citations": 0})
    for row in tables["coupled"].itertuples():
        check_row(corpus, row)
    only_cited = tables["coupled"].query("positive_kind != 'coupled'")
    assert set(only_cited["split"]) == {"train", "val", "test"}  # and coupled ones are for training alone
    assert set(tables["coupled"].query("positive_kind == 'coupled'")["split"]) == {"train"}


def test_a_patent_with_the_text_of_a_positive_is_no_negative() -> None:
    pairs = pd.DataFrame({"anchor": [0, 0, 1], "positive": [2, 3, 2], "nth": [0, 1, 0]})
    found = {kind: pd.DataFrame({"anchor": [0, 1], "negative": [4, 4]}) for kind in KINDS}
    found["random"] = pd.DataFrame({"anchor": [0], "negative": [5]})
    family = np.array([10, 11, 12, 13, 13, 15])  # 4 repeats the abstract of 3, a positive of anchor 0

    triplets, counts = negatives(pairs, found, Mining(), family, seed=0)

    assert triplets[["anchor", "negative"]].to_numpy().tolist() == [[0, 5], [0, 5], [1, 4]]
    assert counts["none found"] == 0 and found["citation"]["negative"].tolist() == [4, 4]


def test_an_evaluation_searches_as_many_patents_as_asked_for_or_all() -> None:
    retrieval = pd.DataFrame({"query": [1, 2], "relevant": [3, 4]})
    sizes = {n: len(corpus_to_search(retrieval, np.arange(50), Mining(corpus=n), seed=0)) for n in (0, 10, 2)}

    assert sizes == {0: 50, 10: 10, 2: 4}  # what is asked for and cited is always there


def test_sections_take_turns_in_the_corpus_proportions(road: Path) -> None:
    graph = open_graph("embedded", road)
    record = mine(graph, road, "turns", Mining(triplets=80))
    graph.close()

    corpus, train = (np.array(record["sections"][part]) for part in ("corpus", "train"))
    assert corpus.sum() == pytest.approx(1, abs=1e-3) == train.sum()
    assert np.abs(corpus - train).max() < 0.03
    assert f"(of the corpus {corpus[0]:.1%})" in report(record)


def test_anchors_are_enough_when_no_section_is_used_up_too_early() -> None:
    where = Sections(np.array([0, 100]), np.array([0.8, 0.2]), np.array(["A", "B"]))

    def found(first: int, second: int) -> dict[str, pd.DataFrame]:
        anchors = [*range(first), *range(100, 100 + second)]
        cited = pd.DataFrame({"anchor": anchors, "place": 999_999, "positives": [[1]] * len(anchors)})
        return {"cited": cited, **dict.fromkeys(KINDS, pd.DataFrame({"anchor": anchors}))}

    assert are_enough(found(40, 30), Mining(triplets=50), where, 0)
    assert not are_enough(found(39, 30), Mining(triplets=50), where, 0)  # the first section is used up before
    assert not are_enough(found(60, 9), Mining(triplets=50), where, 0)


def test_a_model_filters_negatives_that_are_closer_than_the_positive(road: Path) -> None:
    graph = open_graph("embedded", road)
    plain = mine(graph, road, "plain", Mining(triplets=20))
    record = mine(graph, road, "filtered", Mining(triplets=20, filter_model=MINILM))
    graph.close()
    kept, all_of_them = (load_dataset(road / "triplets" / name) for name in ("filtered", "plain"))

    assert record["negatives"]["false negatives dropped"] > 0 == plain["negatives"]["false negatives dropped"]
    assert "dropped: negative closer than the positive" in report(record)
    none = record | {"negatives": record["negatives"] | {"false negatives dropped": 0}}
    assert re.search("dropped: negative closer than the positive +0\n", report(none))
    assert "dropped: negative closer" not in report(plain)
    assert (kept.triplets["split"] == "train").sum() == 20  # the next ones take their places
    train = kept.triplets.query("split == 'train'")
    row = kept.texts.reset_index().set_index("patent_id")["index"]
    scores = dense_scores(embed(find_model(MINILM), kept.texts, road / "embeddings"))
    rows = np.stack([row[train[f"{role}_id"]].to_numpy() for role in ("anchor", "positive", "negative")], axis=1)
    assert triplets_right(scores, rows).all()
    tested = [data.triplets.query("split != 'train'").reset_index(drop=True) for data in (kept, all_of_them)]
    pd.testing.assert_frame_equal(tested[0], tested[1])  # what is tested is the same


def test_own_corpus_with_classes_of_ones_own(own_corpus: Callable[..., Path], tmp_path: Path) -> None:
    patents = [(f"p{i}", f"Title {i}", f"Abstract number {i}.") for i in range(80)]
    classes = [(f"p{i}", 'pumps, "old"' if i % 2 else "lamps") for i in range(80)]
    citations = [(f"p{i}", f"p{i - 2}") for i in range(2, 80)]

    tables_to_triplets(own_corpus(patents, citations, classes), tmp_path, "10K", Mining())

    triplets = load_dataset(tmp_path / "triplets" / "10K").triplets
    assert set(triplets["negative_kind"]) == {"random"}  # another scheme has no classes above a subclass
    for row in triplets.itertuples():
        check_row(Corpus(tmp_path / "graph"), row)


def test_tables_without_a_usable_citation_are_refused(own_corpus: Callable[..., Path], tmp_path: Path) -> None:
    folder = own_corpus([("1", "A", "a"), ("2", "B", "b")], [("1", "2")], [("1", "A01B"), ("2", "B01D")])

    with pytest.raises(InputError, match="gives no train triplet"):
        tables_to_triplets(folder, tmp_path, "10K", Mining())

    assert not (tmp_path / "triplets" / "10K").exists()


def test_training_csv_has_all_texts_and_can_be_trained_on(road: Path, tmp_path: Path) -> None:
    rows = write_training_csv(road / "triplets" / "200", tmp_path / "triplet_training.csv")
    table = pd.read_csv(tmp_path / "triplet_training.csv", dtype=str, keep_default_na=False)
    data = load_dataset(tmp_path / "triplet_training.csv")

    assert len(table) == rows == 200  # the train triplets only
    assert list(table) == ["a_id", "a_title", "a_abstract", "p_id", "p_title", "p_abstract", "n_id", "n_title",
                           "n_abstract", "cpc_id"]  # fmt: skip
    assert {"train", "val", "test"} == set(data.triplets["split"])
    split = data.texts.set_index("patent_id")["split"]
    train = data.triplets[data.triplets["split"] == "train"]
    assert set(split[pd.unique(train[["anchor_id", "positive_id", "negative_id"]].to_numpy().ravel())]) == {"train"}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: parse_size("10k!"), "is no size"),
        (lambda: held_out(100, Mining(coupled=0)), "--coupled 0 must be at least 1"),
        (lambda: check(Mining(coupled=3)), "--coupled 3 has no meaning without --positives coupled"),
        (lambda: check(Mining(positives="copled")), "--positives copled is not one of cited, examiner, coupled"),
        (lambda: check(Mining(split="date")), "--split date is not one of random, time"),
        (lambda: check_mining(Mining(filter_model="./nowhere")), r"\./nowhere"),
        (lambda: parse_size("0"), "is no size"),
        (lambda: parse_shares("citation=0.5,easy=0.5"), "'easy=0.5' is not one of"),
        (lambda: parse_shares("random=0"), "share above 0"),
        (lambda: parse_shares("random=1" + "0" * 400), "none without end"),
    ],
)
def test_bad_arguments_are_refused(call: Callable[[], object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        call()


def test_files_of_others_are_kept_and_lost_files_made_again(road: Path, tables: Path, tmp_path: Path) -> None:
    (tmp_path / "graph").mkdir()
    (tmp_path / "graph" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not ours to replace"):
        restructure(tables, tmp_path / "graph", overwrite=True)
    with pytest.raises(InputError, match="the tables lie in it"):
        restructure(tables, tables)
    with pytest.raises(InputError, match="rename it"):
        restructure(tmp_path / "t[1]", tmp_path / "graph")
    assert (tmp_path / "graph" / "thesis.txt").read_text() == "mine"

    graph = open_graph("embedded", road)
    mine(graph, road, "lost", Mining(triplets=20))
    (road / "triplets" / "lost" / "texts.parquet").unlink()
    mine(graph, road, "lost", Mining(triplets=20))
    graph.close()
    assert (load_dataset(road / "triplets" / "lost").texts["subclass"] == "").any()  # empty stays empty, not null


def test_shares_held_out_must_leave_something(road: Path) -> None:
    graph = open_graph("embedded", road)
    with pytest.raises(InputError, match="together below 1"):
        mine(graph, road, "bad", replace(Mining(), val=0.5, test=0.6))
    graph.close()


def test_real_patents(water: Path, tmp_path: Path) -> None:
    restructure(water, tmp_path / "graph")
    record = tables_to_triplets(water, tmp_path, "10K", Mining())["mining"]

    found = record["found"]
    assert found["citation pairs of theirs inside the table"] == 305
    assert found["… sharing a CPC subclass"] == 261
    assert sum(record["triplets"].values()) == found["… chosen"] > 100
    corpus = Corpus(tmp_path / "graph")
    for row in load_dataset(tmp_path / "triplets" / "10K").triplets.itertuples():
        check_row(corpus, row)
