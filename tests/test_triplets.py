"""A folder of triplets is read as it was written, and what is not whole is told or made again."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from patentcl.common.cli import InputError
from patentcl.common.files import read_json, write_json
from patentcl.graph.base import open_graph
from patentcl.pipeline import tables_to_triplets
from patentcl.triplets.dataset import load_dataset
from patentcl.triplets.mine import mine
from patentcl.triplets.options import Mining


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_ids_that_were_emptied_are_written_again_and_lists_that_are_empty_are_left(
    split: str, road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(road, tmp_path / "data")
    file = tmp_path / "data" / "triplets" / "200" / f"ids_{split}.txt"
    whole = file.read_text()
    graph = open_graph("embedded", tmp_path / "data")

    file.write_text("")
    mine(graph, tmp_path / "data", "200", Mining(triplets=200))
    assert f"{file} is empty and must not be" in capsys.readouterr().out
    assert file.read_text() == whole != ""

    record = read_json(file.with_name("triplets.json"))
    write_json(file.with_name("triplets.json"), record | {"held out": {"val": 0, "test": 0}})
    file.write_text("")
    mine(graph, tmp_path / "data", "200", Mining(triplets=200))
    graph.close()
    assert (file.read_text() == "") == (split != "train")  # a tiny table may hold nothing out; train is never empty


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda texts: pd.concat([texts, texts.iloc[[3]]]), "patent .+ stands there twice"),
        (lambda texts: texts.drop(columns="section"), "no column section"),
        (lambda texts: texts.assign(in_corpus="yes"), "column in_corpus does not hold true or false"),
        (lambda texts: texts.assign(family="a"), "column family does not hold whole numbers"),
        (lambda texts: texts.assign(subclasses="A01B"), "column subclasses does not hold lists"),
        (lambda texts: texts.assign(title=7), "column title does not hold texts"),
    ],
)
def test_texts_that_are_not_as_we_write_them_are_told_in_a_sentence(
    change: Callable[[pd.DataFrame], pd.DataFrame], says: str, road: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "200"
    shutil.copytree(road / "triplets" / "200", folder)
    change(pd.read_parquet(folder / "texts.parquet")).to_parquet(folder / "texts.parquet")

    with pytest.raises(InputError, match=rf"texts\.parquet is none of ours \(.*{says}\): mine again with --overwrite"):
        load_dataset(folder)


def test_ids_stand_in_their_files_as_they_are(own_corpus: Callable[..., Path], tmp_path: Path) -> None:
    names = [f"EP 0{i} 'a', \"b\" \\;" if i % 2 else f" {i}\t" for i in range(60)]
    citations = [(names[i], names[i - 2]) for i in range(2, 60)]
    patents = [(name, f"Title {name}", f"Abstract number {i}.") for i, name in enumerate(names)]
    classes = [(name, "pumps" if i % 2 else "lamps") for i, name in enumerate(names)]

    tables_to_triplets(own_corpus(patents, citations, classes), tmp_path, "10K", Mining())

    folder = tmp_path / "triplets" / "10K"
    ids = {split: (folder / f"ids_{split}.txt").read_text().splitlines() for split in ("train", "val", "test")}
    data = load_dataset(folder)
    assert set(ids["train"]) == data.ids_in("train")
    for split in ("val", "test"):
        held = set(data.texts.loc[data.texts["split"] == split, "patent_id"])
        assert held == set(ids[split]) and held <= set(names)
