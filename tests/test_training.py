"""Training saves a complete model with its card and record, and refuses what cannot work."""

import math
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sentence_transformers import SentenceTransformer

from patent_triplet_trainer import main
from patentcl.common.cli import InputError
from patentcl.common.files import read_json
from patentcl.models import tokens as tokens_module
from patentcl.models.embed import encode
from patentcl.models.load import MINILM, Model
from patentcl.models.tokens import join_texts, separator, token_ids, tokenise
from patentcl.training import loop
from patentcl.training.batches import Batches
from patentcl.training.gradient import Gradient, set_dropout
from patentcl.training.losses import TripletMargin
from patentcl.training.options import RECIPES, Hyperparameters, RunOptions, recipe_of
from patentcl.training.train import forecast, train
from patentcl.triplets import dataset as dataset_module
from patentcl.triplets.dataset import Dataset


def test_a_training_saves_a_model_with_log_and_record(trained: Path, small_model: Model, data: Dataset) -> None:
    record, tuned = read_json(trained / "run.json"), SentenceTransformer(str(trained))

    assert record["steps"] == 12 and record["train triplets"] == 24
    assert list(record["test"]) == ["BM25", "TF-IDF", "bert", "tiny", "BM25 + bert", "BM25 + tiny"]
    assert [point["step"] for point in record["val"]] == [0, 6, 12]
    assert record["verdict"] in (trained / "training.log").read_text()
    assert len((trained / "training.csv").read_text().splitlines()) == 1 + 13  # the header, steps 0 to 12
    assert (trained / "ids_train.txt").read_text().split() == sorted(data.texts["patent_id"][data.used_in("train")])
    for split in ("val", "test"):
        held_out = data.texts.loc[data.texts["split"] == split, "patent_id"]
        assert (trained / f"ids_{split}.txt").read_text().split() == sorted(held_out)
    assert tuned.max_seq_length == 32
    assert not np.allclose(encode(small_model.load(), data.texts[:2]), encode(tuned, data.texts[:2]), atol=1e-4)
    assert not trained.with_name("tiny.training").exists()


def test_the_same_training_is_not_repeated(data: Dataset, trained: Path, tiny: Hyperparameters) -> None:
    before = (trained / "model.safetensors").stat().st_mtime_ns

    record = train(data, trained, trained.parent / "cache", tiny)

    assert record == read_json(trained / "run.json")
    assert (trained / "model.safetensors").stat().st_mtime_ns == before


def test_another_training_does_not_replace_a_model(data: Dataset, trained: Path, tiny: Hyperparameters) -> None:
    with pytest.raises(InputError, match="margin 5 → 1"):
        train(data, trained, trained.parent / "cache", replace(tiny, margin=1))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", math.inf),
        ("lr", math.nan),
        ("warmup", 1.5),
        ("dropout", 2),
        ("margin", -1),
        ("average", 0),
        ("average", 1.1),
        ("seed", -1),
        ("batch_size", 0),
        ("max_length", -1),
        ("matryoshka", "64,0"),
        ("matryoshka", "64;32"),
    ],
)
def test_a_hyperparameter_out_of_range_is_refused_with_its_flag(name: str, value: float | str) -> None:
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} {value}"):
        Hyperparameters(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"), [("checkpoint_minutes", -1.0), ("keep_checkpoints", 0), ("micro_batch", -1)]
)
def test_a_run_option_out_of_range_is_refused_with_its_flag(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} {value}"):
        RunOptions(**{name: value})  # type: ignore[arg-type]


def test_a_base_model_that_is_missing_is_refused_before_anything_is_written(
    data: Dataset, tiny: Hyperparameters, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"\./none"):
        train(data, tmp_path / "m", tmp_path / "cache", replace(tiny, base_model="./none"))

    assert not list(tmp_path.iterdir())


def test_nested_dimensions_are_evaluated_and_a_model_is_loaded_with_fewer(
    data: Dataset, trained: Path, tiny: Hyperparameters, tmp_path: Path
) -> None:
    nested = replace(tiny, matryoshka="8,16", epochs=0.2, evaluations=1)
    record = train(data, tmp_path / "m", trained.parent / "cache", nested)

    assert {"m", "m, 16-d", "m, 8-d", "bert, 8-d", "BM25 + m, 8-d"} <= set(record["test"])
    whole, cut = (SentenceTransformer(str(tmp_path / "m"), truncate_dim=size).encode(["pump"]) for size in (None, 8))
    assert np.array_equal(whole[:, :8], cut)
    with pytest.raises(InputError, match="--matryoshka 33"):
        train(data, tmp_path / "n", trained.parent / "cache", replace(nested, matryoshka="33"))


def test_weights_are_averaged_with_the_base_models(small_model: Model) -> None:
    tuned = small_model.take()
    before = {key: value.clone() for key, value in tuned.state_dict().items()}
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(1)

    loop.average(tuned, before, 0.25)

    for key, value in tuned.named_parameters():
        torch.testing.assert_close(value, before[key] + 0.25)


def test_the_best_weights_are_kept_and_patience_ends_a_training(
    data: Dataset, trained: Path, tiny: Hyperparameters, tmp_path: Path, val_metrics: Callable[..., None]
) -> None:
    val_metrics(0.5, 0.4, 0.3, 0.2)
    record = train(data, tmp_path / "m", trained.parent / "cache", replace(tiny, evaluations=4, patience=2))

    assert (record["steps"], record["kept step"]) == (9, 3)


@pytest.fixture
def step(data: Dataset, small_model: Model) -> tuple[Gradient, Batches]:
    """50 steps over the texts of `data`."""
    model = small_model.load(32)
    tokens = token_ids(model, join_texts(data.texts, " "))
    triplets = np.random.default_rng(0).integers(0, len(tokens), (200, 3))
    return Gradient(model, tokens, TripletMargin(5), 1), Batches(triplets, np.array(list(map(len, tokens))), 4, 1)


def test_a_forecast_measures_steps_and_takes_none(
    step: tuple[Gradient, Batches], capsys: pytest.CaptureFixture[str]
) -> None:
    forecast(*step, 0, 100)

    assert re.search(r"^100 steps of \d+\.\d\d s: \d:\d\d:\d\d ", capsys.readouterr().out)
    assert all(p.grad is None or not p.grad.any() for p in step[0].model.parameters())


def test_a_profile_shows_the_parts_of_a_step_and_the_utilisation(
    step: tuple[Gradient, Batches], capsys: pytest.CaptureFixture[str]
) -> None:
    forecast(*step, 0, 100, profile=True)

    out = capsys.readouterr().out
    assert re.search(r"^ +forward ", out, re.MULTILINE) and re.search(r"^ +backward ", out, re.MULTILINE)
    assert re.search(r"TFLOP/s: \d+% of", out)


@pytest.fixture
def tokenised(data: Dataset, small_model: Model, tmp_path: Path) -> Callable[[], list[list[int]]]:
    """Tokenise the texts of `data` into `tmp_path`; return the ids of each."""

    def run() -> list[list[int]]:
        tokens = tokenise(small_model.load(), len(data.texts), data.blocks, data.fingerprint, tmp_path)
        return [ids.tolist() for ids in tokens]

    return run


def test_tokens_are_read_from_disk_and_made_once(
    data: Dataset,
    small_model: Model,
    tokenised: Callable[[], list[list[int]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = small_model.load()
    texts = join_texts(data.texts, separator(model))
    monkeypatch.setattr(dataset_module, "BLOCK", 50)

    wanted = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"]
    assert tokenised() == wanted
    monkeypatch.delattr(tokens_module, "token_ids")
    assert tokenised() == wanted


def test_the_tokens_of_a_run_that_was_interrupted_have_the_bytes_of_one_that_was_not(
    data: Dataset, small_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_module, "BLOCK", 10)
    model, first_rows = small_model.load(), []

    def ends_after(most: int) -> Callable[[int], Iterator[pd.DataFrame]]:
        def blocks(start: int) -> Iterator[pd.DataFrame]:
            first_rows.append(start)
            for number, block in enumerate(data.blocks(start)):
                if number == most:
                    raise KeyboardInterrupt
                yield block

        return blocks

    for most in (5, 8):
        with pytest.raises(KeyboardInterrupt):
            tokenise(model, len(data.texts), ends_after(most), data.fingerprint, tmp_path / "interrupted")
    tokenise(model, len(data.texts), ends_after(1000), data.fingerprint, tmp_path / "interrupted")
    tokenise(model, len(data.texts), data.blocks, data.fingerprint, tmp_path / "at once")

    assert 0 == first_rows[0] < first_rows[1] < first_rows[2]
    for name in tokens_module.FILES:
        one, other = (next(tmp_path.glob(f"{run}/*/{name}")).read_bytes() for run in ("interrupted", "at once"))
        assert one == other


def test_a_disk_without_room_for_the_tokens_is_refused(
    tokenised: Callable[[], list[list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000))

    with pytest.raises(InputError, match="--data"):
        tokenised()


def test_a_machine_without_memory_for_the_triplets_is_refused_before_texts_are_embedded(
    data: Dataset, tiny: Hyperparameters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("patentcl.common.resources.available_memory", lambda: 1_000)

    with pytest.raises(InputError, match=f" {len(data.triplets)} triplets "):
        train(data, tmp_path / "m", tmp_path / "cache", tiny)

    assert not (tmp_path / "cache").exists()


def test_a_killed_tokenisation_resumes(
    tokenised: Callable[[], list[list[int]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = tokenised()
    folder = next(path for path in tmp_path.iterdir() if path.is_dir())
    (folder / "tokens.json").unlink()  # killed after the ids of 10 texts and a part of the next
    ids, lengths = folder / "ids.bin", folder / "lengths.bin"
    ids.write_bytes(ids.read_bytes()[: 2 * sum(map(len, wanted[:10])) + 7])
    lengths.write_bytes(lengths.read_bytes()[:21])
    made: list[int] = []
    real = tokens_module.token_ids

    def counted(model: SentenceTransformer, texts: list[str]) -> list[np.ndarray]:
        made.append(len(texts))
        return real(model, texts)

    monkeypatch.setattr(tokens_module, "token_ids", counted)

    assert tokenised() == wanted
    assert sum(made) == len(wanted) - 10


@pytest.mark.parametrize("file", ["ids.bin", "lengths.bin"])
def test_truncated_tokens_are_made_again(tokenised: Callable[[], list[list[int]]], tmp_path: Path, file: str) -> None:
    wanted = tokenised()
    truncated = next(tmp_path.glob(f"*/{file}"))
    truncated.write_bytes(truncated.read_bytes()[:-2])

    assert tokenised() == wanted


def test_a_recipe_is_recognised_whatever_its_model_and_seed() -> None:
    best = Hyperparameters(**RECIPES["best"])

    assert Hyperparameters(**RECIPES["published"]) == Hyperparameters()
    assert recipe_of(replace(best, base_model=MINILM, seed=7, patience=1)) == "best"
    assert recipe_of(replace(best, epochs=3)) == "custom"


def test_the_command_line_has_the_recipes_defaults(
    mined_data: Path, small_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(mined_data, tmp_path / "data")
    base = str(small_model.folder)
    command = ["--data", str(data), "--triplets", "200", "--base-model", base, "--evaluations", "0"]
    main([*command, "--output", str(tmp_path / "m"), "--recipe", "published", "--epochs", "0.1", "--max-length", "16"])

    params = read_json(tmp_path / "m" / "run.json")["params"]
    assert {name: params[name] for name in RECIPES["published"]} == {**RECIPES["published"], "epochs": 0.1}
    assert "epochs 0.1, max_length 16, evaluations 0" in capsys.readouterr().out


def test_dropout_reaches_every_layer(small_model: Model) -> None:
    model = small_model.load()
    set_dropout(model, 0.25)

    shares = {layer.p for layer in model.modules() if type(layer).__name__ == "Dropout"}
    assert shares == {0.25}
