"""What the comparison of recipes keeps between its runs."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from patentcl.common.cli import InputError

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def recipes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_of_recipes", BENCHMARKS / "recipes.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_finished_run_is_taken_and_one_of_other_settings_is_not(recipes: ModuleType, tmp_path: Path) -> None:
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
def test_a_damaged_run_is_told_and_what_to_do(recipes: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)

    with pytest.raises(InputError, match=r"run\.json is damaged .*: delete it, and that training is repeated"):
        recipes.finished(tmp_path / "run.json", {"seed": 0})
