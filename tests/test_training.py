"""Training saves a whole model with its card and record, and refuses what cannot work."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import TripletLoss

from patentcl.common.cli import InputError
from patentcl.common.files import read_json
from patentcl.models.embed import encode
from patentcl.models.load import MINILM, find_model
from patentcl.models.tokens import join_texts, separator, token_ids, tokenise
from patentcl.training import loop
from patentcl.training.batches import Batches
from patentcl.training.forecast import forecast
from patentcl.training.gradient import Steps, set_dropout
from patentcl.training.recipes import RECIPES, Running, Training, name_of, training
from patentcl.training.train import train
from patentcl.triplets.dataset import Dataset
from tiny import TINY


def test_a_training_saves_a_model_with_card_log_and_record(trained: Path, data: Dataset) -> None:
    record = read_json(trained / "run.json")
    base, tuned = find_model(MINILM).load(), SentenceTransformer(str(trained))

    assert record["steps"] == 12 and record["train triplets"] == 24
    assert list(record["test"]) == ["BM25", "TF-IDF", MINILM, "tiny", f"BM25 + {MINILM}", "BM25 + tiny"]
    assert [point["step"] for point in record["val"]] == [0, 6, 12]
    assert record["verdict"] in (trained / "training.log").read_text()
    card = (trained / "README.md").read_text()
    assert f"{record['test']['tiny']['nDCG@10']:.3f}" in card and "recipe own: loss triplet" in card
    assert tuned.max_seq_length == 32
    assert not np.allclose(encode(base, data.texts[:2]), encode(tuned, data.texts[:2]), atol=1e-4)
    assert not trained.with_name("tiny.training").exists()


def test_the_same_question_is_not_trained_twice_and_another_is_refused(data: Dataset, trained: Path) -> None:
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
     ({"margin": -1}, "--margin -1"), ({"base_model": "./none"}, "\\./none")],
)  # fmt: skip
def test_bad_arguments_are_refused_before_anything_is_written(
    data: Dataset, tmp_path: Path, change: dict[str, float], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        train(data, tmp_path / "m", tmp_path / "cache", replace(TINY, **change))

    assert not (tmp_path / "m").exists() and not (tmp_path / "m.training").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [({"checkpoint_minutes": -1.0}, "--checkpoint-minutes -1.0"), ({"keep_checkpoints": 0}, "--keep-checkpoints 0"),
     ({"micro_batch": -1}, "--micro-batch -1")],
)  # fmt: skip
def test_bad_arguments_of_the_run_are_refused_too(
    data: Dataset, tmp_path: Path, change: dict[str, float], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        train(data, tmp_path / "m", tmp_path / "cache", TINY, running=Running(**change))  # type: ignore[arg-type]

    assert not (tmp_path / "m.training").exists()


def test_a_margin_that_never_binds_is_said_and_the_contrast_trains(
    data: Dataset, tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "margin 5 is never reached" in (trained / "training.log").read_text()

    short = replace(TINY, loss="contrast", epochs=0.5, evaluations=0, dropout=0)
    record = train(data, tmp_path / "contrast", trained.parent / "cache", short)

    assert record["steps"] == 3
    assert "never reached" not in capsys.readouterr().out


def test_weights_are_averaged_with_the_bases() -> None:
    base, tuned = find_model(MINILM).load(), find_model(MINILM).load()
    before = {key: value.clone() for key, value in base.state_dict().items()}
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(1)

    loop.average(tuned, before, 0.25)

    for key, value in tuned.named_parameters():
        torch.testing.assert_close(value, before[key] + 0.25)


def test_the_best_weights_on_val_are_kept_and_patience_ends_a_training(
    data: Dataset, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LEAST_QUERIES", 1)
    found = iter([0.5, 0.4, 0.3, 0.2])
    monkeypatch.setattr(loop.Validation, "of", lambda self, model, step: next(found))
    record = train(
        data, tmp_path / "m", trained.parent / "cache", replace(TINY, evaluations=4, patience=2), running=Running()
    )

    assert (record["steps"], record["kept step"]) == (9, 3)


def test_the_whole_takes_as_long_as_measured_steps_say_and_the_profile_says_where(
    data: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    model = find_model(MINILM).load(32)
    tokens = token_ids(model, join_texts(data.texts, " "))
    triplets = np.random.default_rng(0).integers(0, len(tokens), (200, 3))
    steps = Steps(model, tokens, TripletLoss(model), 1)
    batches = Batches(triplets, np.array([len(text) for text in tokens]), 4, 1)

    forecast(steps, batches, 0, 100, profile=True)

    said = capsys.readouterr().out
    assert re.search(r"100 steps of \d+\.\d\d s: \d+ min without evaluations", said)
    assert re.search(r"data \d+ ms .* forward \d+ ms .* backward \d+ ms .* optimizer \d+ ms", said)
    assert re.search(r"padding \d+% in attention.*TFLOP/s: \d+% of", said, re.DOTALL)
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_tokens_are_read_from_disk_and_a_killed_tokenising_goes_on(data: Dataset, tmp_path: Path) -> None:
    model = find_model(MINILM).load()
    wanted = token_ids(model, join_texts(data.texts, separator(model)))
    whole = tokenise(model, data.texts, tmp_path)
    folder = next(path for path in tmp_path.iterdir() if path.is_dir())

    (folder / "tokens.json").unlink()  # killed after the ids of 10 texts and some of the eleventh
    lengths, ids = folder / "lengths.bin", folder / "ids.bin"
    lengths.write_bytes(lengths.read_bytes()[:21])
    ids.write_bytes(ids.read_bytes()[: int(whole.starts[10]) * 2 + 7])
    again = tokenise(model, data.texts, tmp_path)

    for tokens in (whole, again):
        assert all(np.array_equal(own, other) for own, other in zip(tokens, wanted, strict=True))
    assert ids.stat().st_size == 2 * sum(map(len, wanted))


@pytest.mark.parametrize("file", ["ids.bin", "lengths.bin"])
def test_truncated_tokens_are_made_again(
    data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    model = find_model(MINILM).load()
    wanted = [ids.tolist() for ids in tokenise(model, data.texts, tmp_path)]
    damaged = next(tmp_path.glob(f"*/{file}"))
    damaged.write_bytes(damaged.read_bytes()[:-2])

    assert [ids.tolist() for ids in tokenise(model, data.texts, tmp_path)] == wanted
    assert str(damaged.parent) in capsys.readouterr().out


def test_a_recipe_gives_the_settings_that_are_not_given() -> None:
    published, own = training("published", MINILM), training("best", MINILM, epochs=3, lr=None)

    assert (published.loss, published.margin, published.epochs, published.batch_size) == ("triplet", 5, 10, 16)
    assert published == Training(MINILM)
    assert own.loss == "contrast" and own.epochs == 3 and own.lr == RECIPES["best"]["lr"]
    assert [name_of(it) for it in (published, own, training("best", MINILM, seed=7))] == ["published", "own", "best"]


def test_dropout_reaches_every_layer() -> None:
    model = find_model(MINILM).load()
    set_dropout(model, 0.25)

    shares = {layer.p for layer in model.modules() if type(layer).__name__ == "Dropout"}
    assert shares == {0.25}
