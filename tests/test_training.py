"""Training saves a whole model, goes on after a signal to the same bytes, and refuses what cannot work."""

import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback

from patentcl import training as module
from patentcl.embeddings import encode
from patentcl.files import InputError, Interrupted, read_json
from patentcl.models import MINILM, load_model, set_dropout
from patentcl.recipes import RECIPES, Training, training
from patentcl.training import train
from patentcl.triplets import Triplets, load_triplets

TINY = Training(MINILM, epochs=2, batch_size=4, max_length=32, evaluations=2, checkpoint_steps=100)


@pytest.fixture(scope="module")
def data(road: Path) -> Triplets:
    """24 train triplets, and little to evaluate."""
    whole = load_triplets(road / "triplets" / "200")
    triplets = whole.triplets.groupby("split").head(24)
    retrieval = whole.retrieval.groupby("split").head(10)
    used = pd.unique(np.concatenate([frame.filter(like="_id").to_numpy().ravel() for frame in (triplets, retrieval)]))
    texts = whole.texts[whole.texts["patent_id"].isin(used)].reset_index(drop=True)
    return Triplets(triplets, texts, retrieval, whole.fingerprint)


@pytest.fixture(scope="module")
def trained(data: Triplets, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained without a break, and beside it the cache of embeddings."""
    folder = tmp_path_factory.mktemp("models")
    train(data, folder / "tiny", folder / "cache", TINY)
    return folder / "tiny"


def test_a_training_saves_a_model_with_card_log_and_record(trained: Path, data: Triplets) -> None:
    record = read_json(trained / "run.json")
    base, tuned = load_model(MINILM), SentenceTransformer(str(trained))

    assert record["steps"] == 12 and record["train triplets"] == 24
    assert list(record["test"]) == ["BM25", "TF-IDF", MINILM, "tiny", f"BM25 + {MINILM}", "BM25 + tiny"]
    assert [point["step"] for point in record["val"]] == [0, 6, 12]
    assert record["verdict"] in (trained / "training.log").read_text()
    assert f"{record['test']['tiny']['nDCG@10']:.3f}" in (trained / "README.md").read_text()
    assert tuned.max_seq_length == 32
    assert not np.allclose(encode(base, data.texts[:2]), encode(tuned, data.texts[:2]), atol=1e-4)
    assert not trained.with_name("tiny.training").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_a_signal_it_goes_on_to_the_same_model(
    data: Triplets, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    class Strikes(TrainerCallback):
        """Send the signal after step 5, in the middle of the first epoch."""

        def on_step_begin(self, args: object, state: object, control: object, **_: object) -> None:
            if getattr(state, "global_step", 0) == 4:
                os.kill(os.getpid(), number)

    real = module.SentenceTransformerTrainer

    def striking(**kwargs: object) -> object:
        trainer = real(**kwargs)  # type: ignore[arg-type]
        trainer.add_callback(Strikes())
        return trainer

    cache = trained.parent / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(module, "SentenceTransformerTrainer", striking)
        with pytest.raises(Interrupted, match="step 5: add --resume"):
            train(data, tmp_path / "tiny", cache, TINY)
    with pytest.raises(InputError, match="add --resume to go on"):
        train(data, tmp_path / "tiny", cache, TINY)
    with pytest.raises(InputError, match="was started with lr"):
        train(data, tmp_path / "tiny", cache, replace(TINY, lr=1e-3), resume=True)

    record = train(data, tmp_path / "tiny", cache, TINY, resume=True)

    assert record["steps"] == 12
    weights = "model.safetensors"
    assert (tmp_path / "tiny" / weights).read_bytes() == (trained / weights).read_bytes()
    assert record["test"] == read_json(trained / "run.json")["test"]
    assert [point["step"] for point in record["val"]] == [0, 6, 12]


def test_the_same_question_is_not_trained_twice_and_another_is_refused(data: Triplets, trained: Path) -> None:
    before = (trained / "model.safetensors").stat().st_mtime_ns

    record = train(data, trained, trained.parent / "cache", TINY)

    assert record == read_json(trained / "run.json")
    assert (trained / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="margin 5 → 1"):
        train(data, trained, trained.parent / "cache", replace(TINY, margin=1))


@pytest.mark.parametrize(
    ("change", "says"),
    [({"epochs": 0}, "--epochs 0 must be a number above 0 and below"), ({"epochs": math.inf}, "--epochs inf"),
     ({"lr": math.nan}, "--lr nan"), ({"warmup": 1.5}, "--warmup 1.5"), ({"dropout": 2}, "--dropout 2"),
     ({"margin": -1}, "--margin -1"), ({"base_model": "./none"}, "there is no folder")],
)  # fmt: skip
def test_bad_arguments_are_refused_before_anything_is_written(
    data: Triplets, tmp_path: Path, change: dict[str, float], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        train(data, tmp_path / "m", tmp_path / "cache", replace(TINY, **change))  # type: ignore[arg-type]

    assert not (tmp_path / "m").exists() and not (tmp_path / "m.training").exists()


def test_a_margin_that_never_binds_is_said_and_the_contrast_trains(
    data: Triplets, tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "margin 5 is never reached" in (trained / "training.log").read_text()

    short = replace(TINY, loss="contrast", epochs=0.5, evaluations=0, dropout=0)
    record = train(data, tmp_path / "contrast", trained.parent / "cache", short)

    assert record["steps"] == 3
    assert "never reached" not in capsys.readouterr().out


def test_weights_are_averaged_with_the_bases() -> None:
    base, tuned = load_model(MINILM), load_model(MINILM)
    before = {key: value.clone() for key, value in base.state_dict().items()}
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(1)

    module.average(tuned, before, 0.25)

    for key, value in tuned.named_parameters():
        torch.testing.assert_close(value, before[key] + 0.25)


def test_a_recipe_gives_the_settings_that_are_not_given() -> None:
    published, own = training("published", MINILM), training("best", MINILM, epochs=3, lr=None)

    assert (published.loss, published.margin, published.epochs, published.batch_size) == ("triplet", 5, 10, 16)
    assert published == Training(MINILM)
    assert own.loss == "contrast" and own.epochs == 3 and own.lr == RECIPES["best"]["lr"]


def test_dropout_reaches_every_layer() -> None:
    model = load_model(MINILM)
    set_dropout(model, 0.25)

    shares = {layer.p for layer in model.modules() if type(layer).__name__ == "Dropout"}
    assert shares == {0.25}
