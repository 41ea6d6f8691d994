"""A run stays within a budget, and says before it starts whether it will fit."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from patentcl.common import resources
from patentcl.common.cli import InputError
from patentcl.common.duck import connect, readable_errors
from patentcl.common.resources import GB, Resources, available_memory, machine_memory, require
from patentcl.graph.ladybug import LadybugGraph
from patentcl.pipeline import tables_to_triplets
from patentcl.triplets.options import Mining

OTHER_DISK = Path("/dev/shm")  # noqa: S108 (on Linux)


@pytest.mark.parametrize("memory", [".GB", "1.2.3GB", "a lot", "900MB"])
def test_a_budget_is_an_amount_of_at_least_1_gb(memory: str) -> None:
    with pytest.raises(InputError, match=f"--memory {memory}"):
        Resources(memory)


def test_the_default_is_half_of_the_machine_and_at_least_4_gb(monkeypatch: pytest.MonkeyPatch) -> None:
    for machine, budget in ((32, 16), (8, 4), (6, 4), (3, 3)):
        monkeypatch.setattr(resources, "machine_memory", lambda machine=machine: machine * GB)
        assert Resources().bytes == budget * GB
    assert Resources("2.5GB").bytes == 2.5 * GB
    assert Resources(threads=1).thread_count == 1
    assert Resources(threads=100_000).thread_count == Resources().thread_count >= 1  # no more than cores
    with pytest.raises(InputError, match="--threads -1"):
        Resources(threads=-1)


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for folder, limit in ((tmp_path / "a", str(GB // 2)), (tmp_path / "a" / "b", "max")):
        (folder / "memory.max").write_text(limit)
        (folder / "memory.current").write_text(str(GB // 4))
        (folder / "memory.stat").write_text(f"anon 1\nfile {GB // 8}\n")
    (tmp_path / "cgroup").write_text("0::/a/b\n")
    monkeypatch.setattr(resources, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(resources, "_VERSIONS", [(tmp_path, *resources._VERSIONS[0][1:])])

    assert machine_memory() == GB // 2
    assert available_memory() == GB // 2 - GB // 8


def test_duckdb_stays_within_the_budget() -> None:
    with connect(resources=Resources("1GB", threads=1)) as db:
        row = db.execute("SELECT current_setting('threads'), current_setting('memory_limit')").fetchone()
    assert row and row[0] == 1
    assert row[1].endswith("MiB") and float(row[1].split()[0]) < 900


def test_too_little_memory_is_not_taken_for_a_corrupt_file() -> None:
    with (
        pytest.raises(InputError, match=r"--memory") as raised,
        readable_errors("patents.csv cannot be read", "Restructure again with --overwrite."),
        connect() as db,
    ):
        db.execute("SET memory_limit = '1MB'; CREATE TABLE numbers AS FROM range(10_000_000)")

    assert "--overwrite" not in str(raised.value)


def test_too_little_disk_names_both_numbers_and_the_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "new" / "graph"
    require(there, GB // 1000, GB // 1000, "work", Resources("4GB"))

    with pytest.raises(InputError, match=r"work .*900000\.0 GB.* [GM]B .*--data"):
        require(there, 9e14, 0, "work", Resources("4GB"))
    with pytest.raises(InputError, match=r"900000\.0 GB.*--out"):
        require(there, 5e14, 0, "work", flag="--out", temporary=4e14)  # both on one disk

    monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: SimpleNamespace(free=0.02 * GB))
    with pytest.raises(InputError, match=r" 30\.0 MB.* 20\.0 MB "):
        require(there, 0.03 * GB, 0, "work")


@pytest.mark.skipif(not OTHER_DISK.is_dir(), reason="needs a second disk")
def test_temporary_files_on_another_disk_are_checked_there(tmp_path: Path) -> None:
    other = Resources(tmp=OTHER_DISK / "new")

    with pytest.raises(InputError, match=r"500000\.0 GB.*/dev/shm.*--tmp"):
        require(tmp_path, 1, 0, "work", other, temporary=5e14)
    with pytest.raises(InputError, match=r"400000\.0 GB.*--data"):
        require(tmp_path, 4e14, 0, "work", other, temporary=5e14)


def test_too_little_memory_names_the_flag_only_if_it_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "available_memory", lambda: 8 * GB)

    with pytest.raises(InputError, match=r"5\.5 GB.*4\.0 GB.*--memory 6GB"):
        require(tmp_path, 0, 5.5e9, "work", Resources("4GB"))
    require(tmp_path, 0, 5.5e9, "work")
    with pytest.raises(InputError, match=r"9\.0 GB.* 8\.0 GB ") as raised:
        require(tmp_path, 0, 9e9, "work", Resources("4GB"))
    assert "--memory" not in str(raised.value)


def test_memory_that_the_import_needs_is_known_before_the_first_step(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, int]] = []

    def import_memory(graph: LadybugGraph, counts: dict[str, int]) -> float:
        asked.append(counts)
        return 3.5 * GB

    monkeypatch.setattr(resources, "available_memory", lambda: 8 * GB)
    monkeypatch.setattr(LadybugGraph, "import_memory", import_memory)

    with pytest.raises(InputError, match=r" 2\.0 GB.*--memory 4GB"):
        tables_to_triplets(tables, tmp_path, "10", Mining("10"), resources=Resources("2GB"))

    assert not (tmp_path / "graph").exists()
    assert asked[0]["patents"] == pytest.approx(600, rel=0.1)


def test_no_budget_exceeds_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "machine_memory", lambda: 8 * GB)

    assert Resources("100TB").bytes == 8 * GB


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_folder_for_temporary_files_that_cannot_be_one_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(InputError, match=f"--tmp .*{name}"):
        Resources(tmp=tmp_path / name)


def test_temporary_files_go_to_their_folder_and_are_removed_after_a_kill_too(tmp_path: Path) -> None:
    result, here = tmp_path / "data" / "graph", Resources(tmp=tmp_path / "fast")

    with here.scratch(result) as folder:
        left = folder
        assert folder.parent == tmp_path / "fast"
    assert not left.exists()
    (left / "of a killed run").mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), here.scratch(result) as folder:
        assert folder == left and not any(folder.iterdir())
        raise KeyboardInterrupt
    assert not left.exists()
    with Resources().scratch(result) as folder:
        assert folder.parent == result.parent
