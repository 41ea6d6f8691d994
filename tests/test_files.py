"""How a step writes: beside, then renamed; done once for the same question."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from patentcl.common.cli import InputError
from patentcl.common.files import beside, fingerprint, is_done, write_json


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_stands_there_survives_an_error(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "result"
    write = {
        "file": lambda p, text: p.write_text(text),
        "folder": lambda p, text: (p.mkdir(), (p / "a").write_text(text)),
    }

    with beside(target) as scratch:
        write[kind](scratch, "first")
    with pytest.raises(RuntimeError), beside(target) as scratch:
        write[kind](scratch, "half")
        raise RuntimeError

    assert (target if kind == "file" else target / "a").read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_replaced_whole_even_after_a_kill_between_the_renames(tmp_path: Path) -> None:
    old = tmp_path / ".result.old"
    old.mkdir()
    (old / "a").write_text("first")

    with pytest.raises(RuntimeError), beside(tmp_path / "result"):
        raise RuntimeError

    assert (tmp_path / "result" / "a").read_text() == "first"


def test_a_fingerprint_is_of_names_and_contents_not_of_places(tmp_path: Path) -> None:
    for folder, text in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "table.tsv").write_text(text)

    a, b, c = (fingerprint([tmp_path / folder / "table.tsv"]) for folder in "abc")

    assert a == b != c


def test_the_same_question_is_answered_once_and_another_one_is_refused(tmp_path: Path) -> None:
    record = tmp_path / "graph.json"
    write_json(record, {"asked": {"seed": 42}})

    assert is_done(record, {"seed": 42}, overwrite=False)
    assert not is_done(record, {"seed": 42}, overwrite=True)
    with pytest.raises(InputError, match=r"seed 42 → 7.*--overwrite"):
        is_done(record, {"seed": 7}, overwrite=False)


def test_a_result_that_was_cut_is_made_again(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"asked": {}})
    np.save(tmp_path / "a.npy", np.ones(100))
    save_file({"weight": np.ones(100)}, tmp_path / "a.safetensors")
    for name in ("a.npy", "a.safetensors"):
        assert is_done(tmp_path / "run.json", {}, False, [name])
        with (tmp_path / name).open("r+b") as file:
            file.truncate(300)
        assert not is_done(tmp_path / "run.json", {}, False, [name])
