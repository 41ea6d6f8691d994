"""The demo runs a notebook, a training and a notebook on the same folder, and prints where the results are."""

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from papermill.exceptions import PapermillExecutionError

import demo
from patentcl.common.cli import InputError
from patentcl.common.files import write_json


class Steps:
    """Stands in for the notebooks and the trainer: notes what is called."""

    def __init__(self) -> None:
        self.notebooks: list[tuple[str, Path, dict[str, Any]]] = []
        self.training: list[str] = []
        self.code = 0

    def execute_notebook(self, source: Path, target: Path, parameters: dict[str, Any], **_: object) -> None:
        assert source.exists()
        self.notebooks.append((source.name, target, parameters))

    def run(self, command: list[str], **_: object) -> SimpleNamespace:
        self.training = command[2:]
        model = Path(command[command.index("--output") + 1])
        model.mkdir(exist_ok=True)
        write_json(model / "run.json", {"verdict": "better than its base"})
        return SimpleNamespace(returncode=self.code)


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """A repository with empty data/ and models/, where every step is quick."""
    made = Steps()
    monkeypatch.setattr(demo, "DATA", tmp_path / "data")
    monkeypatch.setattr(demo, "MODELS", tmp_path / "models")
    monkeypatch.setattr(demo.papermill, "execute_notebook", made.execute_notebook)
    monkeypatch.setattr(subprocess, "run", made.run)
    (tmp_path / "models").mkdir()
    return made


def test_without_tables_a_sample_goes_through_every_step(
    steps: Steps, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, model = tmp_path / "data" / "demo" / "sample", tmp_path / "models" / "patentCL-demo-sample"

    demo.main(["--patents", "50", "--triplets", "7"])

    assert (data / "tables" / "g_patent.tsv").exists()
    (handler, first, mining), (scatter, second, picture) = steps.notebooks
    assert (handler, first) == ("patent_handler.ipynb", data / "patent_handler.ipynb")
    assert (scatter, second) == ("patent_embedding_scatter.ipynb", data / "patent_embedding_scatter.ipynb")
    assert mining["tables"] == str(data / "tables") and mining["triplets"] == picture["triplets"] == 7
    assert mining["data"] == picture["data"] == str(data) and picture["models"] == ["minilm", str(model)]
    given = dict(zip(steps.training[::2], steps.training[1::2], strict=True))
    assert given["--data"] == str(data) and given["--triplets"] == "7" and given["--output"] == str(model)
    printed = capsys.readouterr().out
    for place in (data / "triplets" / "7", data / "scatter" / "7" / "scatter.png", model, "better than its base"):
        assert str(place) in printed


def test_custom_tables_have_a_separate_folder(steps: Steps, tables: Path) -> None:
    for _ in range(2):
        demo.main(["--tables", str(tables)])

    places = {target.parent for _, target, _ in steps.notebooks}
    assert len(places) == 1 and places.pop().name.startswith("tables-")


@pytest.mark.parametrize(("flags", "passed"), [([], "--resume"), (["--overwrite"], "--overwrite")])
def test_an_interrupted_training_is_resumed_or_overwritten(
    steps: Steps, tmp_path: Path, flags: list[str], passed: str
) -> None:
    (tmp_path / "models" / "patentCL-demo-sample.training").mkdir()

    demo.main(["--patents", "50", *flags])

    assert steps.training[-1] == passed


def test_what_a_step_reports_ends_the_demo(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    steps.code = 3
    with pytest.raises(InputError, match=r"patent_triplet_trainer\.py .* 3"):
        demo.main(["--patents", "50"])

    def fail(*_: object, **__: object) -> None:
        raise PapermillExecutionError(1, 1, "", "InputError", "g_patent.tsv, line 7", [])

    monkeypatch.setattr(demo.papermill, "execute_notebook", fail)
    with pytest.raises(InputError, match="line 7"):
        demo.main(["--patents", "50"])
