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
from patentcl.triplets import dataset as dataset_module
from patentcl.triplets.dataset import ENDS, IN_MEMORY, ROLES, TABLES, load_dataset
from patentcl.triplets.options import Mining


@pytest.fixture
def folder(mined_data: Path, tmp_path: Path) -> Path:
    """A copy of a folder of triplets."""
    return shutil.copytree(mined_data / "triplets" / "200", tmp_path / "200")


def test_rows_look_up_texts_by_patent_id(mined_data: Path) -> None:
    folder = mined_data / "triplets" / "200"
    data, ids = load_dataset(folder), pd.read_parquet(folder / "triplets.parquet")
    patents = data.texts["patent_id"]

    for role in ROLES:
        assert patents[data.triplets[role]].tolist() == ids[f"{role}_id"].tolist()


def test_a_triplet_of_a_patent_without_a_text_is_named(folder: Path) -> None:
    (folder / "triplets.json").unlink()  # with the hash of the files
    triplets = pd.read_parquet(folder / "triplets.parquet")
    triplets.loc[3, "negative_id"] = "no such id"
    triplets.to_parquet(folder / "triplets.parquet")

    with pytest.raises(InputError, match=r"triplets\.parquet .*no such id"):
        load_dataset(folder)


def test_loading_reads_no_titles_and_abstracts(folder: Path) -> None:
    (folder / "triplets.json").unlink()
    texts = pd.read_parquet(folder / "texts.parquet")
    texts[list(IN_MEMORY)].to_parquet(folder / "texts.parquet")

    assert load_dataset(folder).texts["patent_id"].tolist() == texts["patent_id"].tolist()


def test_texts_are_read_by_rows_in_any_order_and_in_blocks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_module, "BLOCK", 7)
    (folder / "triplets.json").unlink()
    table = pd.read_parquet(folder / "texts.parquet")
    table.to_parquet(folder / "texts.parquet", row_group_size=50)
    data = load_dataset(folder)

    rows = np.array([120, 3, 3, len(table) - 1, 50, 49, 0])
    pd.testing.assert_frame_equal(data.read_texts(rows), table.iloc[rows].reset_index(drop=True))
    assert data.read_texts(rows, ["title"])["title"].tolist() == table["title"].iloc[rows].tolist()
    assert data.read_texts(rows[:0]).empty
    for start in (0, 3, 50, 123, len(table)):
        read = [text for block in data.blocks(start) for text in block["abstract"]]
        assert read == table["abstract"].tolist()[start:]


def test_a_part_holds_its_texts_and_names_them_by_its_own_rows(mined_data: Path) -> None:
    data = load_dataset(mined_data / "triplets" / "200")

    few = data.head(train=5, held_out=2)

    assert few.triplets["split"].value_counts().to_dict() == {"train": 5, "val": 2, "test": 2}
    ids = [dataset.texts["patent_id"].to_numpy()[dataset.triplets_of("train")[:5]].tolist() for dataset in (data, few)]
    assert ids[0] == ids[1]
    searched = np.union1d(few.triplets_of("val"), few.triplets_of("test"))
    assert set(np.flatnonzero(few.texts["in_corpus"])) == {*searched, *few.retrieval[list(ENDS)].to_numpy().ravel()}
    row = data.texts["patent_id"].tolist().index(few.texts["patent_id"][4])
    assert few.read_texts(np.array([4]))["abstract"][0] == data.read_texts(np.array([row]))["abstract"][0]


def test_an_empty_field_stays_the_empty_text(mined_data: Path) -> None:
    data = load_dataset(mined_data / "triplets" / "200")
    texts = data.read_texts(np.arange(len(data.texts)))

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
    assert set(ids["train"]) == set(data.texts["patent_id"][data.used_in("train")])
    for split in ("val", "test"):
        held = set(data.texts.loc[data.texts["split"] == split, "patent_id"])
        assert held == set(ids[split]) and held <= set(names)
