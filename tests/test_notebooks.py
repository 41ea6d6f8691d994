"""The notebooks are stored without outputs, and run from top to bottom on a sample."""

import ast
import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pandas as pd
import papermill
import pytest

import patent_embedding_scatter
import patent_handler
import patent_triplet_trainer
from patentcl.common.cli import InputError
from patentcl.common.resources import Resources
from patentcl.graph.options import Neo4jOptions
from patentcl.models.load import Model
from patentcl.triplets.options import Mining

REPOSITORY = Path(__file__).resolve().parents[1]
NOTEBOOKS = ["patent_handler", "patent_embedding_scatter"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_stripped_and_has_one_parameters_cell(name: str) -> None:
    notebook = nbformat.read(REPOSITORY / f"{name}.ipynb", as_version=4)

    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert len(notebook.cells) <= 30


def test_the_options_of_the_notebooks_are_those_of_the_scripts() -> None:
    scripts: dict[str, list[Any]] = {
        "patent_handler": [patent_handler.Options(), Neo4jOptions(), Mining(), Resources()],
        "patent_embedding_scatter": [patent_embedding_scatter.Inputs(), patent_embedding_scatter.Picture()],
    }
    of_notebooks = {"tables", "data", "models", "training_steps", "download", "query"}
    for name, options in scripts.items():
        notebook = nbformat.read(REPOSITORY / f"{name}.ipynb", as_version=4)
        defaults = {key: value for instance in options for key, value in asdict(instance).items()}
        chosen = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", []) or c.id == "options"]
        statements = [statement for cell in chosen for statement in ast.parse(cell.source).body]
        assert len(statements) >= 6
        for statement in statements:
            assert isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
            option, value = statement.targets[0].id, ast.literal_eval(statement.value)
            assert option in of_notebooks or (option, value) == (option, defaults[option])


def pictures(notebook: nbformat.NotebookNode) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_the_handler_notebook_runs_on_the_sample(tables: Path, tmp_path: Path) -> None:
    handler = papermill.execute_notebook(
        REPOSITORY / "patent_handler.ipynb",
        tmp_path / "handler.ipynb",
        cwd=REPOSITORY,
        progress_bar=False,
        parameters={"tables": str(tables), "data": str(tmp_path), "triplets": 100, "training_steps": 2},
    )

    assert pictures(handler) == 5  # years, degrees, a triplet, its neighbourhood, the loss
    assert (tmp_path / "first-model" / "run.json").exists()


def test_the_scatter_notebook_runs_on_the_sample(mined_data: Path, tmp_path: Path) -> None:
    for folder in ("graph", "triplets"):
        shutil.copytree(mined_data / folder, tmp_path / folder)

    scatter = papermill.execute_notebook(
        REPOSITORY / "patent_embedding_scatter.ipynb",
        tmp_path / "scatter.ipynb",
        cwd=REPOSITORY,
        progress_bar=False,
        parameters={"models": ["minilm"], "data": str(tmp_path), "triplets": 200, "max_length": 32, "query": "a pump"},
    )

    assert pictures(scatter) == 5  # by section, by kind, cosines, calibration, the maps
    shown = [output.get("data", {}) for cell in scatter.cells for output in cell.get("outputs", [])]
    assert "https://patents.google.com/patent/US" in shown[-1]["text/html"]  # the search
    report = next(data["text/markdown"] for data in shown if "text/markdown" in data)
    saved = (tmp_path / "scatter" / "200" / "evaluation.md").read_text()
    assert "BM25 + minilm" in report and saved.startswith(report)
    assert "split: test; documents: " in saved and "tokens per text: 32" in saved and "/triplets/200" in saved
    metrics = pd.read_csv(tmp_path / "scatter" / "200" / "metrics.csv", index_col="model")
    assert metrics.loc["minilm", ["silhouette (section)", "mean cosine of two patents", "nDCG@10 (test)"]].notna().all()
    assert "minilm" in (tmp_path / "scatter" / "200" / "scatter.html").read_text()


def test_the_scripts_run_the_same_pipeline(
    tables: Path,
    small_model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NEO4J_PASSWORD", "secret-word")
    monkeypatch.delenv("NEO4J_HOME", raising=False)
    data, base, model = str(tmp_path), str(small_model.folder), tmp_path / "model"

    patent_handler.main(["--tables", str(tables), "--data", data, "--triplets", "60", "--csv"])
    printed = capsys.readouterr().out
    assert "citation pairs inside the table" in printed and "neo4j-admin" not in printed
    monkeypatch.setenv("NEO4J_HOME", str(tmp_path / "neo4j"))
    patent_handler.main(["--tables", str(tables), "--data", data, "--triplets", "60"])
    assert "neo4j-admin" in capsys.readouterr().out
    assert (tmp_path / "triplets" / "60" / "triplet_training.csv").exists()

    short = ["--epochs", "0.3", "--max-length", "32", "--evaluations", "1", "--dropout", "0"]
    trainer = ["--data", data, "--triplets", "60", "--base-model", base, "--output", str(model)]
    patent_triplet_trainer.main([*trainer, *short])
    assert "nDCG@10" in capsys.readouterr().out

    scatter = ["--sample", "60", "--max-length", "32", "--color-by", "class"]
    patent_embedding_scatter.main(["--data", data, "--triplets", "60", "--models", base, str(model), *scatter])
    assert (tmp_path / "scatter" / "60" / "scatter.png").exists()

    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert model / "run.json" in written
    assert not [path for path in written if b"secret-word" in path.read_bytes()]


def test_the_handler_can_stop_at_the_import_csvs(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patent_handler.main(["--tables", str(tables), "--data", str(tmp_path), "--graph", "none"])

    printed = capsys.readouterr().out
    assert "neo4j-admin database import full neo4j" in printed and "citations: repeated" in printed
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == ["graph"]


def test_smoke_needs_nothing(
    small_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    patent_triplet_trainer.main(["--smoke", "--base-model", str(small_model.folder)])

    assert "smoke: " in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("script", "arguments", "where"),
    [
        (patent_handler, ["--tables", "nowhere"], "nowhere"),
        (patent_handler, ["--triplets", "lots"], "--triplets lots"),
        (patent_handler, ["--import", "online"], "--import online"),
        (patent_handler, ["--tables", "nowhere", "--val", "0.9"], "--val 0.9, --test 0.2"),
        (patent_handler, ["--tables", "nowhere", "--coupled", "3"], "--coupled 3"),
        (patent_handler, ["--tables", "nowhere", "--filter-model", "./m"], "./m"),
        (patent_handler, ["--seed", "-1"], "--seed -1"),
        (patent_triplet_trainer, ["--data", "nowhere"], "nowhere/triplets/10K"),
        (patent_embedding_scatter, ["--data", "nowhere"], "nowhere/triplets/10K"),
    ],
)
def test_input_that_cannot_be_used_is_named(
    script: ModuleType, arguments: list[str], where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InputError, match=re.escape(where)):
        script.main(arguments)


def test_no_path_of_a_machine_stands_in_the_notebooks() -> None:
    for name in NOTEBOOKS:
        text = json.dumps(nbformat.read(REPOSITORY / f"{name}.ipynb", as_version=4))
        assert "/home/" not in text and "/Users/" not in text
