"""A folder of triplets is read as it was written, and what is not whole is told or made again."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from patentcl.common.cli import InputError
from patentcl.graph.base import open_graph
from patentcl.pipeline import tables_to_triplets
from patentcl.triplets.dataset import load_dataset
from patentcl.triplets.mine import mine
from patentcl.triplets.options import Mining


def test_a_folder_with_a_file_that_was_emptied_is_mined_again(road: Path, tmp_path: Path) -> None:
    shutil.copytree(road, tmp_path / "data")
    file = tmp_path / "data" / "triplets" / "200" / "ids_val.txt"
    complete = file.read_text()
    file.write_text("")

    mine(open_graph("embedded", tmp_path / "data"), tmp_path / "data", "200", Mining(triplets=200))

    assert file.read_text() == complete != ""


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
