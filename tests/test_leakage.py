"""What is tested was not seen: between the splits of one folder, and between folders."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from patentcl.common.files import read_json
from patentcl.evaluation.held_out import evaluation_set
from patentcl.evaluation.leakage import TRAINED_ON, overlaps, report, warnings_of
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


def test_nothing_that_is_tested_was_seen_whatever_the_split(road: Path, by_time: Path) -> None:
    for folder in (road / "triplets" / "200", by_time):
        data = load_dataset(folder)
        rows = overlaps(data, data)
        assert [(row.trained, row.tested) for row in rows] == [("train", "val"), ("train", "test"), ("val", "test")]
        assert min(row.patents for row in rows) > 20
        assert not any(row.leaks for row in rows)


def test_a_seen_id_and_a_seen_text_are_found(road: Path) -> None:
    data = load_dataset(road / "triplets" / "200")
    train, test = (data.triplets.query(f"split == '{s}'").iloc[0] for s in ("train", "test"))
    texts = data.texts.copy()
    seen = texts.loc[texts["patent_id"] == train["anchor_id"], "abstract"].item()
    texts.loc[texts["patent_id"] == test["anchor_id"], "abstract"] = seen.upper().replace(" ", " - ")

    rewritten = overlaps(replace(data, texts=texts), replace(data, texts=texts))[1]
    assert (rewritten.ids, rewritten.families, rewritten.texts) == (0, 0, 1)

    used = data.triplets.copy()
    used.loc[used.index[used["split"] == "train"][0], "negative_id"] = test["anchor_id"]
    leaked = overlaps(replace(data, triplets=used), data)[1]
    assert leaked.ids == leaked.families == 1
    assert "leaks: 1" in report([leaked])


@pytest.mark.parametrize(("table", "column"), [("triplets", "negative_id"), ("retrieval", "relevant_id")])
def test_a_test_patent_that_val_has_is_a_leak_and_a_val_patent_that_test_has_is_none(
    road: Path, table: str, column: str
) -> None:
    data = load_dataset(road / "triplets" / "200")
    anchor = {split: data.triplets.query(f"split == '{split}'").iloc[0]["anchor_id"] for split in ("val", "test")}

    def with_a_patent_of(other: str, split: str) -> list[int]:
        rows = getattr(data, table).copy()
        rows.loc[rows.index[rows["split"] == split][0], column] = anchor[other]
        changed = replace(data, **{table: rows})
        return [row.ids for row in overlaps(changed, changed)]

    assert with_a_patent_of("test", "val") == [0, 0, 1]
    assert with_a_patent_of("val", "test") == [0, 0, 0]


def test_the_command_tells_overlaps_of_folders_and_the_ids_are_there_to_compare(road: Path, by_time: Path) -> None:
    folders = [road / "triplets" / "200", by_time]

    def check(*names: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "patentcl.evaluation", "--check-leakage", *map(str, names)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    alone, together = check(folders[0]), check(*folders)

    assert alone.returncode == 0 and "no leak" in alone.stdout
    assert together.returncode == 1 and "leaks: " in together.stdout  # trained at random, tested on the newest
    for folder in folders:
        ids = {s: (folder / f"ids_{s}.txt").read_text().split() for s in ("train", "val", "test")}
        assert not set(ids["train"]) & set(ids["val"] + ids["test"])
        train = load_dataset(folder).triplets.query("split == 'train'")
        assert set(ids["train"]) == set(train[["anchor_id", "positive_id", "negative_id"]].to_numpy().ravel())


def test_the_newest_families_are_held_out_by_time(tables: Path, by_time: Path) -> None:
    texts = load_dataset(by_time).texts
    dates = texts.groupby("family").agg(date=("date", "max"), split=("split", "first"))
    first, last = (dates.groupby("split")["date"].agg(end) for end in ("min", "max"))

    assert texts.groupby("family")["split"].nunique().max() == 1
    assert last["train"] < first["val"] <= last["val"] < first["test"]
    record = read_json(by_time / "triplets.json")
    told = record["dates of families"]
    assert list(told) == ["train", "val", "test"]
    assert told["train"][1] < told["val"][0] <= told["val"][1] < told["test"][0]
    assert [told[split][1] for split in told] == [last[split] for split in told]
    held = texts[(texts["split"] != "train") & texts["in_corpus"]]
    assert record["older"] == (held["date"] < told["train"][1]).sum() > 0  # the corpus is all patents here
    assert f"{told['val'][0]} to {told['val'][1]}" in report_of_mining(record)


def test_a_model_is_told_to_have_seen_what_it_was_trained_on_whatever_its_ids(road: Path, tmp_path: Path) -> None:
    on = evaluation_set(load_dataset(road / "triplets" / "200"), "test")
    texts = on.texts.assign(patent_id=[f"US 'a', \"{i}\" B" for i in on.texts["patent_id"]])
    odd = replace(on, texts=texts)
    seen = texts.loc[texts["split"] == "test", "patent_id"].head(3)
    (tmp_path / "config.json").write_text("{}")
    model = find_model(str(tmp_path))
    assert warnings_of([model], odd) == []  # no model of ours

    (tmp_path / TRAINED_ON).write_text("".join(f"{i}\n" for i in seen))
    families = texts.loc[texts["patent_id"].isin(seen), "family"]
    known, held = texts["family"].isin(families).sum(), (texts["split"] == "test").sum()
    (line,) = warnings_of([model], odd)
    assert f"was trained on {known} of the {held} patents" in line
    (tmp_path / TRAINED_ON).write_text("")
    (line,) = warnings_of([model], odd)
    assert f"{TRAINED_ON} names no patent" in line
