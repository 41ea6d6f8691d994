"""How a step writes: to a scratch path, then renamed; once for the same parameters."""

import errno
import re
from pathlib import Path

import pytest

from patentcl.common.cli import InputError
from patentcl.common.files import beside, check_replaceable, fingerprint, is_done, locked, write_record


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_error_leaves_the_old_result(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "result"
    write = {
        "file": lambda p, text: p.write_text(text),
        "folder": lambda p, text: (p.mkdir(), (p / "a").write_text(text)),
    }

    with beside(target) as scratch:
        write[kind](scratch, "first")
    with pytest.raises(RuntimeError), beside(target) as scratch:
        write[kind](scratch, "partial")
        raise RuntimeError

    assert (target if kind == "file" else target / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_a_process_killed_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    old = tmp_path / ".result.old"
    old.mkdir()
    (old / "a").write_text("first")

    with pytest.raises(RuntimeError), beside(tmp_path / "result"):
        raise RuntimeError

    assert (tmp_path / "result" / "a").read_text() == "first"


def test_a_fingerprint_depends_on_names_and_contents_and_not_on_the_folder(tmp_path: Path) -> None:
    for folder, text in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "table.tsv").write_text(text)

    a, b, c = (fingerprint([tmp_path / folder / "table.tsv"]) for folder in "abc")

    assert a == b != c


def test_a_step_is_done_once_and_another_result_is_replaced_only_with_overwrite(
    tmp_path: Path,
) -> None:
    record = tmp_path / "graph.json"
    write_record(record, {"params": {"seed": 42}}, [])

    assert is_done(record, {"seed": 42})
    assert not is_done(record, {"seed": 7})
    check_replaceable(record, {"seed": 42}, overwrite=False)
    check_replaceable(record, {"seed": 7}, overwrite=True)
    with pytest.raises(InputError, match=r"seed 42 → 7.*--overwrite"):
        check_replaceable(record, {"seed": 7}, overwrite=False)


def test_a_folder_that_we_did_not_write_is_never_replaced(tmp_path: Path) -> None:
    check_replaceable(tmp_path / "new" / "graph.json", {}, overwrite=False)
    (tmp_path / ".graph.lock").touch()
    check_replaceable(tmp_path / "graph.json", {}, overwrite=False)
    (tmp_path / "thesis.txt").touch()

    with pytest.raises(InputError, match=r"graph\.json"):
        check_replaceable(tmp_path / "graph.json", {}, overwrite=True)


def test_a_folder_with_a_record_of_another_program_is_never_replaced(tmp_path: Path) -> None:
    record = tmp_path / "run.json"
    record.write_text('{"project": "other"}')

    with pytest.raises(InputError, match=re.escape(str(tmp_path))):
        check_replaceable(record, {"seed": 1}, overwrite=True)


@pytest.mark.parametrize("text", ["[1]", "3", "{", ""])
def test_a_corrupt_record_is_named_and_replaced_only_with_overwrite(tmp_path: Path, text: str) -> None:
    record = tmp_path / "run.json"
    record.write_text(text)

    with pytest.raises(InputError, match=re.escape(str(record))):
        is_done(record, {})
    check_replaceable(record, {}, overwrite=True)


def test_a_result_with_a_file_that_is_cut_or_missing_is_written_again(tmp_path: Path) -> None:
    record, file = tmp_path / "run.json", tmp_path / "model.bin"
    file.write_bytes(bytes(1_000))
    write_record(record, {"params": {}}, ["model.bin"])
    assert is_done(record, {})

    file.write_bytes(bytes(999))
    assert not is_done(record, {})
    check_replaceable(record, {"seed": 7}, overwrite=False)  # the result is useless
    file.unlink()
    assert not is_done(record, {})


def test_what_holds_a_lock_last_leaves_nothing(tmp_path: Path) -> None:
    with locked(tmp_path / "graph", shared=True):
        with locked(tmp_path / "graph", shared=True):
            pass
        with pytest.raises(InputError, match="graph"), locked(tmp_path / "graph"):
            pass

    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_reported_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=re.escape(str(tmp_path / "result"))), beside(tmp_path / "result"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_one_process_at_a_time_writes_a_path(tmp_path: Path) -> None:
    with beside(tmp_path / "result") as scratch:
        scratch.touch()
        with pytest.raises(InputError, match="result"), beside(tmp_path / "result"):
            pass

    with beside(tmp_path / "result") as scratch:
        scratch.write_text("second")
    assert (tmp_path / "result").read_text() == "second"
