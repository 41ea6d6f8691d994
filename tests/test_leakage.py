"""What is tested was not seen: between the splits of one folder, and between folders."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from patentcl.common.files import read_json
from patentcl.evaluation.__main__ import main
from patentcl.evaluation.held_out import held_out_set
from patentcl.evaluation.leakage import SHARED, TRAINED_ON, leaking, overlaps, warnings_of
from patentcl.models.load import find_model
from patentcl.pipeline import tables_to_triplets
from patentcl.triplets.dataset import load_dataset
from patentcl.triplets.options import Mining
from patentcl.triplets.report import report as report_of_mining


@pytest.fixture(scope="module")
def by_time(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample again, split by time."""
    data = tmp_path_factory.mktemp("by-time")
    tables_to_triplets(tables, data, "200", Mining("200", split="time", positives="coupled"))
    return data / "triplets" / "200"


def test_nothing_that_is_tested_was_seen_whatever_the_split(mined_data: Path, by_time: Path) -> None:
    for folder in (mined_data / "triplets" / "200", by_time):
        data = load_dataset(folder)
        shared = overlaps(data, data)
        assert shared["seen by"].tolist() == ["train", "train", "val"]
        assert shared["held out"].tolist() == ["val", "test", "test"]
        assert shared["patents"].min() > 20 and not leaking(shared).any()


def test_a_seen_id_and_a_seen_text_are_found(mined_data: Path) -> None:
    data = load_dataset(mined_data / "triplets" / "200")
    data = data.part(data.triplets, data.retrieval, data.fingerprint)  # with the texts in memory
    train, test = (data.triplets_of(split)[0, 0] for split in ("train", "test"))
    texts = data.texts.copy()
    texts.loc[test, "abstract"] = texts["abstract"][train].upper().replace(" ", " - ")

    rewritten = replace(data, texts=texts)
    assert overlaps(rewritten, rewritten)[SHARED].iloc[1].tolist() == [0, 0, 1]

    used = data.triplets.copy()
    used.loc[used.index[used["split"] == "train"][0], "negative"] = test
    leaked = overlaps(replace(data, triplets=used), data)
    assert leaked[SHARED].iloc[1].tolist()[:2] == [1, 1]
    assert leaking(leaked).tolist() == [False, True, False]


@pytest.mark.parametrize(("table", "column"), [("triplets", "negative"), ("retrieval", "relevant")])
def test_a_test_patent_that_val_has_is_a_leak_and_a_val_patent_that_test_has_is_none(
    mined_data: Path, table: str, column: str
) -> None:
    data = load_dataset(mined_data / "triplets" / "200")
    anchor = {split: data.triplets_of(split)[0, 0] for split in ("val", "test")}

    def with_a_patent_of(other: str, split: str) -> list[int]:
        rows = getattr(data, table).copy()
        rows.loc[rows.index[rows["split"] == split][0], column] = anchor[other]
        changed = replace(data, **{table: rows})
        return overlaps(changed, changed)["same id"].tolist()

    assert with_a_patent_of("test", "val") == [0, 0, 1]
    assert with_a_patent_of("val", "test") == [0, 0, 0]


def test_the_command_exits_with_1_if_anything_leaks(
    mined_data: Path, by_time: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [mined_data / "triplets" / "200", by_time]

    main(["--check-leakage", str(folders[0])])
    printed = capsys.readouterr().out
    assert all(column in printed for column in SHARED)
    with pytest.raises(SystemExit) as ended:
        main(["--check-leakage", *map(str, folders)])  # trained at random, tested on the newest
    one, other = map(load_dataset, folders)
    leaks = sum(leaking(overlaps(a, b)).sum() for a in (one, other) for b in (one, other))
    assert ended.value.code == 1 and capsys.readouterr().out.split()[-1] == str(leaks)


def test_the_lists_of_ids_are_those_of_the_triplets(mined_data: Path, by_time: Path) -> None:
    for folder in (mined_data / "triplets" / "200", by_time):
        ids = {s: (folder / f"ids_{s}.txt").read_text().split() for s in ("train", "val", "test")}
        assert not set(ids["train"]) & set(ids["val"] + ids["test"])
        train = pd.read_parquet(folder / "triplets.parquet").query("split == 'train'")
        assert set(ids["train"]) == set(train[["anchor_id", "positive_id", "negative_id"]].to_numpy().ravel())


def test_the_newest_families_are_held_out_by_time(tables: Path, by_time: Path) -> None:
    texts = pd.read_parquet(by_time / "texts.parquet")
    dates = texts.groupby("family").agg(date=("date", "max"), split=("split", "first"))
    first, last = (dates.groupby("split")["date"].agg(end) for end in ("min", "max"))

    assert texts.groupby("family")["split"].nunique().max() == 1
    assert last["train"] < first["val"] <= last["val"] < first["test"]
    record = read_json(by_time / "triplets.json")
    dates_in = record["dates of families"]
    assert list(dates_in) == ["train", "val", "test"]
    assert dates_in["train"][1] < dates_in["val"][0] <= dates_in["val"][1] < dates_in["test"][0]
    assert [dates_in[split][1] for split in dates_in] == [last[split] for split in dates_in]
    held = texts[(texts["split"] != "train") & texts["in_corpus"]]
    assert record["older"] == (held["date"] < dates_in["train"][1]).sum() > 0  # the corpus is all patents here
    assert f"{dates_in['val'][0]} to {dates_in['val'][1]}" in report_of_mining(record)


def test_a_model_that_saw_test_patents_is_reported_whatever_their_ids(mined_data: Path, tmp_path: Path) -> None:
    held_out = held_out_set(load_dataset(mined_data / "triplets" / "200"), "test")
    texts = held_out.texts.assign(patent_id=[f"US 'a', \"{i}\" B" for i in held_out.texts["patent_id"]])
    odd = replace(held_out, texts=texts)
    seen = texts.loc[texts["split"] == "test", "patent_id"].head(3)
    (tmp_path / "config.json").write_text("{}")
    model = find_model(str(tmp_path))
    assert warnings_of([model], odd) == []  # no model of ours

    (tmp_path / TRAINED_ON).write_text("".join(f"{i}\n" for i in seen))
    families = texts.loc[texts["patent_id"].isin(seen), "family"]
    known, held = texts["family"].isin(families).sum(), (texts["split"] == "test").sum()
    (line,) = warnings_of([model], odd)
    assert f" {known} of the {held} " in line
    (tmp_path / TRAINED_ON).write_text("")
    (line,) = warnings_of([model], odd)
    assert str(tmp_path / TRAINED_ON) in line
