"""The notebooks are stored without outputs, and run from top to bottom on a sample."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
NOTEBOOKS = ["patent_handler", "patent_embedding_scatter"]
SCRIPTS = REPOSITORY / "training_scripts"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_stripped_and_has_one_parameters_cell(name: str) -> None:
    notebook = nbformat.read(REPOSITORY / f"{name}.ipynb", as_version=4)

    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert len(notebook.cells) <= 30


def pictures(notebook: nbformat.NotebookNode) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_the_handler_notebook_runs_on_the_sample(tables: Path, tmp_path: Path) -> None:
    handler = papermill.execute_notebook(
        REPOSITORY / "patent_handler.ipynb", tmp_path / "handler.ipynb", cwd=REPOSITORY, progress_bar=False,
        parameters={"tables": str(tables), "data": str(tmp_path), "triplets": 100},
    )  # fmt: skip

    assert pictures(handler) == 4


def test_the_scatter_notebook_runs_on_the_sample(road: Path, tmp_path: Path) -> None:
    shutil.copytree(road / "triplets", tmp_path / "triplets")

    scatter = papermill.execute_notebook(
        REPOSITORY / "patent_embedding_scatter.ipynb", tmp_path / "scatter.ipynb", cwd=REPOSITORY, progress_bar=False,
        parameters={"models": ["minilm"], "data": str(tmp_path), "triplets": 200, "max_length": 32},
    )  # fmt: skip

    assert pictures(scatter) == 1
    shown = [output.get("data", {}) for cell in scatter.cells for output in cell.get("outputs", [])]
    report = next(data["text/markdown"] for data in shown if "text/markdown" in data)
    saved = (tmp_path / "scatter" / "200" / "evaluation.md").read_text()
    assert "BM25 + minilm" in report and saved.startswith(report)
    assert "/triplets/200; split: test; patents to search: " in saved and "tokens per text: 32" in saved
    metrics = pd.read_csv(tmp_path / "scatter" / "200" / "metrics.csv", index_col="model")
    assert metrics.loc["minilm", ["silhouette (section)", "nDCG@10 (test)"]].notna().all()
    assert "minilm" in (tmp_path / "scatter" / "200" / "scatter.html").read_text()


def script(*arguments: object, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def test_the_scripts_walk_the_same_road_from_any_folder(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEO4J_PASSWORD", "secret-word")
    handled = script(SCRIPTS / "patent_handler.py", "--tables", tables, "--data", tmp_path, "--triplets", 60, "--csv")
    assert handled.returncode == 0, handled.stderr
    assert "citation pairs of theirs inside the table" in handled.stdout
    assert (tmp_path / "triplets" / "60" / "triplet_training.csv").exists()

    trainer = ["patent_triplet_trainer.py", "--data", tmp_path, "--triplets", "60", "--base-model", "minilm"]
    small = ["--epochs", 0.3, "--max-length", 32, "--evaluations", 0, "--dropout", 0, "--output", tmp_path / "model"]
    trained = script(*trainer, *small, cwd=SCRIPTS)
    assert trained.returncode == 0, trained.stderr
    assert "on test:" in trained.stdout

    drawn = script(SCRIPTS / "patent_embedding_scatter.py", "--data", tmp_path, "--triplets", 60, "--models", "minilm",
                   tmp_path / "model", "--sample", 60, "--max-length", 32, "--color-by", "class")  # fmt: skip
    assert drawn.returncode == 0, drawn.stderr
    assert (tmp_path / "scatter" / "60" / "scatter.png").exists()

    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert tmp_path / "model" / "run.json" in written
    assert not [path for path in written if b"secret-word" in path.read_bytes()]


def test_the_handler_can_stop_at_the_import_csvs(tables: Path, tmp_path: Path) -> None:
    done = script(SCRIPTS / "patent_handler.py", "--tables", tables, "--data", tmp_path, "--graph", "none")

    assert done.returncode == 0, done.stderr
    assert "neo4j-admin database import full neo4j" in done.stdout and "citations: repeated" in done.stdout
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == ["graph"]


def test_smoke_needs_nothing(tmp_path: Path) -> None:
    done = script(SCRIPTS / "patent_triplet_trainer.py", "--smoke", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "the whole road works" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["patent_handler.py", "--tables", "nowhere"], "error: nowhere is not a folder"),
        (["patent_handler.py", "--triplets", "lots"], "error: --triplets lots: "),
        (["patent_handler.py", "--import", "online"], "error: --import online needs --graph neo4j"),
        (["patent_handler.py", "--tables", "nowhere", "--val", "0.9"], "error: --val 0.9, --test 0.2: "),
        (
            ["patent_handler.py", "--tables", "nowhere", "--coupled", "3"],
            "error: --coupled 3 needs --positives coupled",
        ),
        (["patent_handler.py", "--tables", "nowhere", "--filter-model", "./m"], "error: There is no folder ./m"),
        (["patent_triplet_trainer.py", "--data", "nowhere"], "error: nowhere/triplets/10K holds no triplets.parquet"),
        (["patent_embedding_scatter.py", "--data", "nowhere"], "error: nowhere/triplets/10K holds no triplets.parquet"),
    ],
)
def test_an_error_is_one_sentence_and_no_traceback(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = script(SCRIPTS / arguments[0], *arguments[1:], cwd=tmp_path)

    assert done.returncode == 2
    assert done.stderr.startswith(says) and "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_path_of_a_machine_stands_in_the_notebooks() -> None:
    for name in NOTEBOOKS:
        text = json.dumps(nbformat.read(REPOSITORY / f"{name}.ipynb", as_version=4))
        assert "/home/" not in text and "/Users/" not in text
