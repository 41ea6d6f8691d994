"""A model's folder is complete: it works without this repository, and its card says what it is and how it fares."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard import metadata_load

from patentcl.common.files import REPOSITORY, read_json, write_json
from patentcl.evaluation import __main__ as evaluation
from patentcl.evaluation import card as card_module
from patentcl.evaluation.card import base_facts, models_list, write_card, write_list
from patentcl.evaluation.held_out import held_out_set
from patentcl.models.embed import embed
from patentcl.models.load import MINILM, find_model
from patentcl.training.train import train
from patentcl.triplets.dataset import Dataset
from tiny import hyperparameters, plain, untrained

PROMPTS: dict[str, Any] = {"prompts": {"p": "patent: "}, "default_prompt_name": "p"}
BASES: dict[str, Any] = {  # each way in which bases.toml and modules.json say how a vector is read
    "mpnet": lambda folder: untrained(folder, "mpnet", pooling="mean").folder,
    "cls": lambda folder: untrained(folder, pooling="cls", head=True).folder,
    "prompt": lambda folder: untrained(folder, pooling="mean", **PROMPTS).folder,
    "t5": lambda folder: untrained(folder, "t5", pooling="mean").folder,
    "patembed": lambda folder: plain(folder / "patembed"),
}
ALONE = """
import json, sys
import numpy as np
sys.modules["patentcl"] = None  # an import of it fails
for code, folder in json.load(sys.stdin):
    names = {}
    exec(code, names)
    np.save(folder + "/alone.npy", names["vectors"])
"""


def example(folder: Path) -> list[str]:
    """The lines of Python in the card of a model."""
    (block,) = re.findall(r"```python\n(.*?)```", ModelCard.load(folder / "README.md").text, re.DOTALL)
    return [line for line in block.splitlines() if line]


def test_the_five_lines_of_the_card_give_the_evaluated_vectors_without_this_repository(
    data: Dataset, tmp_path: Path
) -> None:
    work = []
    texts = held_out_set(data, "test").texts
    pairs = texts[["title", "abstract"]].apply(lambda column: column.str.strip()).to_numpy().tolist()
    for name, make in BASES.items():
        folder = tmp_path / f"trained-{name}"
        settings = hyperparameters(make(tmp_path / f"base-{name}"))
        train(data, folder, tmp_path, replace(settings, epochs=0.2, evaluations=0))
        load, model, patents, vectors, show = example(folder)
        assert patents.startswith("patents = ") and show.startswith("print(")
        assert f'"{folder.name}"' in model
        model = model.replace(f'"{folder.name}"', repr(str(folder)))
        work.append(("\n".join([load, model, f"patents = {pairs!r}", vectors]), str(folder)))

    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE], input=json.dumps(work), cwd=tmp_path, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    for _, name in work:
        evaluated = embed(find_model(name), texts, tmp_path / "cache", 32)  # as `compare` does
        np.testing.assert_allclose(np.load(Path(name) / "alone.npy"), evaluated, atol=1e-4, err_msg=name)
        assert np.ptp(evaluated, axis=0).min() > 1e-3, name


def test_the_card_says_what_the_model_was_trained_on_and_how_it_fares(trained: Path, data: Dataset) -> None:
    card, record = ModelCard.load(trained / "README.md"), read_json(trained / "run.json")

    assert (card.data.library_name, card.data.pipeline_tag) == ("sentence-transformers", "sentence-similarity")
    assert card.data.base_model is None and card.data.license is None  # the base is a folder without a card
    values = record["test"]["tiny"]
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    names = {"ndcg@10": "nDCG@10", "triplet_accuracy": "triplet accuracy", "cpc_f1_micro": "CPC F1 micro"}
    assert results == {key: pytest.approx(values[name]) for key, name in names.items()}
    assert card.data.metrics == list(results)
    assert record["verdict"] in card.text and f"{values['nDCG@10']:.3f}" in card.text
    assert "loss triplet, margin 5, epochs 2" in card.text
    assert f"{record['test queries']} queries" in card.text
    assert record["data"] == {
        "name": "200", "source": "synthetic sample", "fingerprint": data.fingerprint, "split": "random", "seed": 42,
        "dates": data.about["dates of families"], "negatives": record["data"]["negatives"],
        "positives": record["data"]["positives"],
        "patents": {s: len((trained / f"ids_{s}.txt").read_text().split()) for s in ("train", "val", "test")},
    }  # fmt: skip
    for kind in ("negatives", "positives"):
        assert sum(record["data"][kind].values()) == 24
    for fact in (
        "synthetic sample",
        data.fingerprint,
        *record["data"]["negatives"],
        *data.about["dates of families"]["test"],
    ):
        assert str(fact) in card.text


def test_the_metadata_of_a_model_of_patentsview_from_a_base_of_the_hub(trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "tiny")
    record = read_json(folder / "run.json")
    record["data"]["source"] = "PatentsView"
    record["card"]["base"] = base_facts(find_model(MINILM))
    write_json(folder / "run.json", record)

    write_card(folder, None, "")

    data = metadata_load(folder / "README.md") or {}
    assert (data["base_model"], data["license"]) == ("sentence-transformers/all-MiniLM-L6-v2", "apache-2.0")
    assert data["datasets"] == ["PatentsView"] and data["language"] == "en"


def test_an_evaluation_fills_in_the_card_and_the_list(
    mined_data: Path, trained: Path, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    base = find_model(str(trained)).folder
    train(data, models / "new", trained.parent / "cache", replace(hyperparameters(base), epochs=0.2, evaluations=0))
    monkeypatch.setattr(card_module, "MODELS", models)
    write_list(models)
    assert "| – | 0 | – | – | – |" in (models / "README.md").read_text()
    assert ModelCard.load(models / "new" / "README.md").data.eval_results is None
    shutil.copytree(mined_data / "triplets", tmp_path / "data" / "triplets")

    command = ["--data", str(tmp_path / "data"), "--triplets", "200", "--models", str(base), str(models / "new")]
    evaluation.main([*command, "--max-length", "16"])

    results = ModelCard.load(models / "new" / "README.md").data.eval_results
    assert {result.dataset_name for result in results} == {"200-test"}
    value = next(result.metric_value for result in results if result.metric_type == "ndcg@10")
    (row,) = [
        line
        for line in (models / "README.md").read_text().splitlines()
        if line.startswith("| [new](new) | tiny | 24 | 200-test |")
    ]
    assert f"| {value:.3f} (" in row
    assert (models / "new" / "evaluation" / "200-test.csv").exists()
    evaluation.main(
        [*command, "--corpus-sample", "50", "--max-length", "16"]
    )  # a part of the corpus is no result of the model
    assert ModelCard.load(models / "new" / "README.md").data.eval_results == results


def test_the_list_in_the_repository_is_that_of_no_model(tmp_path: Path) -> None:
    written = (REPOSITORY / "models" / "README.md").read_text()

    assert written.startswith(models_list(tmp_path))


def test_no_list_is_written_into_other_folders(trained: Path, tmp_path: Path) -> None:
    write_list(tmp_path)

    assert not list(tmp_path.iterdir())
    assert not (trained.parent / "README.md").exists()
