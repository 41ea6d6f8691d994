"""The comparison of recipes caches its finished runs."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from patentcl.common.cli import InputError

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def recipes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("recipes", BENCHMARKS / "recipes.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
