"""A folder of triplets is read as it was written, and files that changed are noticed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from patentcl.common.cli import InputError
from patentcl.common.files import read_json, write_json
from patentcl.pipeline import tables_to_triplets
from patentcl.triplets.dataset import ROLES, TABLES, load_dataset
from patentcl.triplets.options import Mining


@pytest.fixture
def folder(mined_data: Path, tmp_path: Path) -> Path:
    """A copy of a folder of triplets."""
    return shutil.copytree(mined_data / "triplets" / "200", tmp_path / "200")


def test_rows_look_up_texts_by_patent_id(mined_data: Path) -> None:
    data = load_dataset(mined_data / "triplets" / "200")

    rows = data.rows(data.triplets[list(ROLES)])
    assert rows.shape == (len(data.triplets), 3)
    looked_up = data.texts["patent_id"].to_numpy()[rows]
    assert np.array_equal(looked_up, data.triplets[list(ROLES)].to_numpy())
    assert data.rows([data.texts["patent_id"][7], data.texts["patent_id"][3]]).tolist() == [7, 3]
    with pytest.raises(KeyError, match="no such id"):
        data.rows(["no such id"])


def test_an_empty_field_stays_the_empty_text(mined_data: Path) -> None:
    texts = load_dataset(mined_data / "triplets" / "200").texts

    assert (texts["subclass"] == "").any() and not texts.isna().any(axis=None)


@pytest.mark.parametrize("file", TABLES)
def test_a_table_that_changed_since_mining_is_named(file: str, folder: Path) -> None:
    frame = pd.read_parquet(folder / file)
    pd.concat([frame, frame.iloc[[3]]]).to_parquet(folder / file)

    with pytest.raises(InputError, match=file):
        load_dataset(folder)


def test_a_change_that_keeps_the_size_is_noticed(folder: Path) -> None:
    content = bytearray((folder / "texts.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "texts.parquet").write_bytes(content)

    with pytest.raises(InputError, match=r"texts\.parquet"):
        load_dataset(folder)


def test_a_folder_of_an_earlier_version_has_no_hash_and_is_read(folder: Path) -> None:
    record = read_json(folder / "triplets.json")
    write_json(folder / "triplets.json", {key: record[key] for key in record if key not in ("fingerprint", "files")})
    assert len(load_dataset(folder).triplets)

    (folder / "texts.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="200"):
        load_dataset(folder)


def test_a_folder_that_is_missing_names_those_that_exist(folder: Path) -> None:
    with pytest.raises(InputError, match=r"100K.*triplets\.parquet.*--triplets 200"):
        load_dataset(folder.with_name("100K"))


def test_ids_are_written_to_their_files_unchanged(custom_corpus: Callable[..., Path], tmp_path: Path) -> None:
    names = [f"EP 0{i} 'a', \"b\" \\;" if i % 2 else f" {i}\t" for i in range(60)]
    citations = [(names[i], names[i - 2]) for i in range(2, 60)]
    patents = [(name, f"Title {name}", f"Abstract number {i}.") for i, name in enumerate(names)]
    classes = [(name, "pumps" if i % 2 else "lamps") for i, name in enumerate(names)]

    tables_to_triplets(custom_corpus(patents, citations, classes), tmp_path, "10K", Mining())

    folder = tmp_path / "triplets" / "10K"
    ids = {split: (folder / f"ids_{split}.txt").read_text().splitlines() for split in ("train", "val", "test")}
    data = load_dataset(folder)
    assert set(ids["train"]) == data.ids_in("train")
    for split in ("val", "test"):
        held = set(data.texts.loc[data.texts["split"] == split, "patent_id"])
        assert held == set(ids[split]) and held <= set(names)
