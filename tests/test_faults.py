"""Edited results, runs that share a folder, kills, signals, full disks: one sentence, and no work lost."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from odd import sentence
from patent_embedding_scatter import main as scatter
from patentcl.common.cli import InputError
from patentcl.common.files import REPOSITORY, locked, read_json, remove, write_json
from patentcl.evaluation.__main__ import main as evaluation
from patentcl.models.load import Model, find_model
from patentcl.pipeline import tables_to_triplets
from patentcl.triplets.dataset import load_dataset
from patentcl.triplets.options import Mining


@pytest.fixture
def here(mined_data: Path, tmp_path: Path) -> Path:
    """A copy of `mined_data`, to write."""
    return shutil.copytree(mined_data, tmp_path / "data")


def reverse_rows(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.take(list(range(len(table)))[::-1]), path, compression="none")


def empty_first_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(4096))


def change_sizes(path: Path) -> None:
    record = json.loads(path.read_text())
    record["files"] = {name: size - 1 for name, size in record["files"].items()}
    path.write_text(json.dumps(record))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


EDITS: dict[str, Callable[[Path], None]] = {
    "graph/patents.parquet": reverse_rows,
    "graph/graph.json": change_sizes,
    "ladybug/graph.lbug": empty_first_page,
    "ladybug/import.json": cut,
    "triplets/200/triplets.json": change_sizes,
    "triplets/200/retrieval.parquet": reverse_rows,
}


@pytest.mark.parametrize("file", EDITS)
def test_a_result_that_was_edited_is_named_and_written_again_when_its_folder_is_deleted(
    tables: Path, mined_data: Path, here: Path, file: str
) -> None:
    EDITS[file](here / file)
    with pytest.raises(InputError, match=f"{here / file} .* {(here / file).parent} "):
        tables_to_triplets(tables, here, "200", Mining("200"))

    remove((here / file).parent)
    tables_to_triplets(tables, here, "200", Mining("200"))

    for name in ("graph/graph.json", "graph/patents.parquet", "triplets/200/triplets.json"):
        assert (here / name).read_bytes() == (mined_data / name).read_bytes()


@pytest.mark.parametrize(
    ("file", "edit"),
    [
        ("run.json", change_sizes),
        ("config.json", cut),
        ("ids_train.txt", cut),
        ("ids_train.txt", remove),
        ("model.safetensors", empty_first_page),
        ("1_Pooling/config.json", remove),
    ],
)
def test_a_model_that_was_edited_is_named_and_is_used_without_its_record(
    trained: Path, tmp_path: Path, file: str, edit: Callable[[Path], None]
) -> None:
    model = shutil.copytree(trained, tmp_path / "tiny")
    assert find_model(str(model)).record["name"] == "tiny"
    edit(model / file)

    with pytest.raises(InputError, match=f"{model / file} .* {model} .* {model / 'run.json'}"):
        find_model(str(model))

    (model / "run.json").unlink()
    assert find_model(str(model)).record == {}


@pytest.mark.parametrize(
    "file", ["graph/patents.parquet", "triplets/200/texts.parquet", "triplets/200/triplets.parquet"]
)
def test_a_damaged_table_whose_record_holds_no_hashes_is_named(tables: Path, here: Path, file: str) -> None:
    record = next((here / file).parent.glob("*.json"))
    content = read_json(record)
    write_json(record, content | {"sha256": {}})
    with (here / file).open("r+b") as damaged:
        damaged.seek(-300, 2)  # in what Parquet says of its columns
        damaged.write(bytes(100))
    name = "50" if file.startswith("graph") else "200"

    def again() -> None:
        tables_to_triplets(tables, here, name, Mining(name))
        data = load_dataset(here / "triplets" / "200")
        data.read_texts(np.arange(len(data.texts)))

    assert str(here / file) in sentence(again)


def test_a_graph_that_is_mined_is_not_replaced_but_mined_by_others_too(tables: Path, here: Path) -> None:
    with locked(here / "graph", shared=True):
        tables_to_triplets(tables, here, "50", Mining("50"))
        with pytest.raises(InputError, match=f"{here / 'graph'}:"):
            tables_to_triplets(tables, here, "50", Mining("50"), seed=7, overwrite=True)
    assert (here / "triplets" / "50" / "triplets.parquet").exists()


@pytest.mark.parametrize(
    ("script", "output", "flags"),
    [("evaluation", "test", ["--split", "test"]), ("scatter", "scatter", ["--sample", "20"])],
)
def test_two_runs_that_write_one_folder(
    script: str, output: str, flags: list[str], mined_data: Path, small_model: Model, tmp_path: Path
) -> None:
    main = {"evaluation": evaluation, "scatter": scatter}[script]
    where = ["--data", str(mined_data), "--triplets", "200", "--output", str(tmp_path)]

    with locked(tmp_path / output), pytest.raises(InputError, match=f"{tmp_path / output}:"):
        main([*where, "--models", str(small_model.folder), *flags])

    assert not list(tmp_path.glob("*.csv"))


def test_a_lock_ends_with_the_process_that_was_killed(tmp_path: Path) -> None:
    holding = "import os, sys; from pathlib import Path; from patentcl.common.files import locked\n"
    holding += "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holding, str(tmp_path / "graph")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match=f"{tmp_path / 'graph'}:"), locked(tmp_path / "graph"):
            pass
        process.kill()
    with locked(tmp_path / "graph"):
        pass


def test_a_step_that_was_killed_at_any_moment_gives_the_same_bytes_when_it_runs_again(tmp_path: Path) -> None:
    steps = ("restructure", "import", "mining", "download")
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "faults.py"), "--steps", *steps, "--kills", "1"]
    subprocess.run([*command, "--work", str(tmp_path)], check=True, capture_output=True)

    rows = read_json(tmp_path / "faults.json")["rows"]
    assert [(row["step"], row["equal after the rerun"]) for row in rows] == [(step, 1) for step in steps]
