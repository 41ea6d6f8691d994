"""The benchmarks that keep finished runs: the comparison of recipes, and the steps at growing sizes."""

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from patentcl.common.cli import InputError

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def benchmark(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def recipes() -> ModuleType:
    return benchmark("recipes")


@pytest.fixture(scope="module")
def scale() -> ModuleType:
    return benchmark("scale")


def test_a_finished_run_is_reused_only_with_the_same_params(recipes: ModuleType, tmp_path: Path) -> None:
    file, rows = tmp_path / "run.json", [{"share": share, "docstrings": 0.5} for share in recipes.SHARES]
    assert recipes.finished(file, {"seed": 0}) == []

    file.write_text(json.dumps({"params": {"seed": 0}, "rows": rows}))

    assert recipes.finished(file, {"seed": 0}) == rows
    assert recipes.finished(file, {"seed": 1}) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        '{"rows": []}',
        '{"params": {"seed": 0}}',
        '{"params": {"seed": 0}, "rows": []}',
        '{"params": {"seed": 0}, "rows": [7]}',
        '{"params": {"seed": 0}, "rows": [{"share": 1.0}]}',
    ],
)
def test_a_corrupt_run_is_refused_with_its_file(recipes: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)

    with pytest.raises(InputError, match=r"run\.json"):
        recipes.finished(tmp_path / "run.json", {"seed": 0})


def test_each_step_has_a_row_and_a_step_that_failed_is_repeated(
    scale: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ["--tables-dir", str(tmp_path / "tables"), "--work", str(tmp_path / "work")]

    def rows(*steps: str) -> dict[str, dict[str, Any]]:
        monkeypatch.setattr(sys, "argv", ["scale.py", "--patents", "300", *where, "--steps", *steps])
        scale.main()
        return {row["step"]: row for row in json.loads((tmp_path / "work" / "scale.json").read_text())["rows"]}

    first = rows("import", "restructure")
    assert first["import"]["error"]  # there is nothing to import yet
    assert not first["restructure"]["error"]
    measured = rows("restructure", "import", "FULL")

    assert measured["restructure"] == first["restructure"]
    assert [*measured] == ["restructure", "import", "FULL", "FULL: after the queries"]
    assert not any(row["error"] for row in measured.values())
    full, after = measured["FULL"], measured["FULL: after the queries"]
    assert full["seconds"] > after["seconds"] > 0 and full["memory"] >= after["memory"] > 10_000_000
    triplets = tmp_path / "work" / "300" / "triplets" / "FULL" / "triplets.parquet"
    assert full["sha256"] == hashlib.sha256(triplets.read_bytes()).hexdigest()
    assert full["disk"] > triplets.stat().st_size


def test_growth_is_the_time_per_patent_against_the_next_smaller_size(scale: ModuleType) -> None:
    def row(patents: int, step: str, seconds: float, error: str = "") -> dict[str, Any]:
        sizes = {"cpu": 12, "memory": 2e9, "disk": 5e8, "sha256": "0123456789abcdef0123"}
        return {"patents": patents, "of": step, "step": step, "seconds": seconds, "error": error, **sizes}

    rows = [
        row(100, "restructure", 10),
        row(100, "pandas", 50),
        row(300, "restructure", 60),
        row(300, "import", 1, "E"),
    ]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in scale.to_markdown(rows, rows).splitlines()]

    assert cells[2] == ["100", "restructure", "10", "12", "2.0", "0.50", "5.0", "", "0123456789abcdef"]
    assert cells[4] == ["300", "restructure", "60", "12", "2.0", "0.50", "", "2.00", "0123456789abcdef"]
    assert cells[5][-1] == "E"


def test_the_pandas_baseline_writes_the_same_rows(tables: Path, mined_data: Path, tmp_path: Path) -> None:
    baseline = benchmark("scale_pandas")
    baseline.restructure(tables, tmp_path)

    for name in ("citations.csv", "classifications.csv", "patents.csv"):
        ours, theirs = (
            pd.read_csv(folder / name, dtype=str, keep_default_na=False) for folder in (mined_data / "graph", tmp_path)
        )
        ours.columns = theirs.columns
        if name == "patents.csv":
            ours = ours.sort_values("rank", key=pd.to_numeric, ignore_index=True)
        pd.testing.assert_frame_equal(ours, theirs.replace({"True": "true", "False": "false"}))
