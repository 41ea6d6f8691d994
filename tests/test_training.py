"""Training saves a whole model, goes on after a signal to the same bytes, and refuses what cannot work."""

import errno
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import TripletLoss

from patentcl import checkpoints, loop
from patentcl.batches import Batches
from patentcl.embeddings import encode
from patentcl.files import InputError, Interrupted, read_json
from patentcl.models import MINILM, load_model, separator, set_dropout
from patentcl.profiling import forecast
from patentcl.progress import Log
from patentcl.recipes import RECIPES, Running, Training, name_of, training
from patentcl.steps import Steps
from patentcl.texts import join_texts
from patentcl.tokens import token_ids, tokenise
from patentcl.training import train
from patentcl.triplets import Triplets, load_triplets

TINY = Training(MINILM, epochs=2, batch_size=4, max_length=32, evaluations=2)


def small(road: Path) -> Triplets:
    """24 train triplets, and little to evaluate."""
    whole = load_triplets(road / "triplets" / "200")
    triplets = whole.triplets.groupby("split").head(24)
    retrieval = whole.retrieval.groupby("split").head(10)
    used = pd.unique(np.concatenate([frame.filter(like="_id").to_numpy().ravel() for frame in (triplets, retrieval)]))
    texts = whole.texts[whole.texts["patent_id"].isin(used)].reset_index(drop=True)
    return Triplets(triplets, texts, retrieval, whole.fingerprint)


@pytest.fixture(scope="module")
def data(road: Path) -> Triplets:
    return small(road)


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
    card = (trained / "README.md").read_text()
    assert f"{record['test']['tiny']['nDCG@10']:.3f}" in card and "recipe own: loss triplet" in card
    assert tuned.max_seq_length == 32
    assert not np.allclose(encode(base, data.texts[:2]), encode(tuned, data.texts[:2]), atol=1e-4)
    assert not trained.with_name("tiny.training").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_after_a_signal_it_goes_on_to_the_same_model(
    data: Triplets, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    take_step = loop.Loop._step
    heard = signal.signal(number, signal.SIG_DFL)  # as in a terminal; a process in the background may ignore it

    def strike(self: loop.Loop, step: int, batch: np.ndarray) -> None:
        if step == 4:  # in the middle of the first epoch
            os.kill(os.getpid(), number)
        take_step(self, step, batch)

    cache = trained.parent / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_step", strike)
        with pytest.raises(Interrupted, match="step 5: add --resume"):
            train(data, tmp_path / "tiny", cache, TINY)
    signal.signal(number, heard)
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


@pytest.mark.parametrize(
    ("change", "says"),
    [({"checkpoint_minutes": -1.0}, "--checkpoint-minutes -1.0"), ({"keep_checkpoints": 0}, "--keep-checkpoints 0"),
     ({"micro_batch": -1}, "--micro-batch -1")],
)  # fmt: skip
def test_bad_arguments_of_the_run_are_refused_too(
    data: Triplets, tmp_path: Path, change: dict[str, float], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        train(data, tmp_path / "m", tmp_path / "cache", TINY, running=Running(**change))  # type: ignore[arg-type]

    assert not (tmp_path / "m.training").exists()


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

    loop.average(tuned, before, 0.25)

    for key, value in tuned.named_parameters():
        torch.testing.assert_close(value, before[key] + 0.25)


KILLED = """
import os, signal, sys
from pathlib import Path
import test_training as own
from patentcl import checkpoints, loop
from patentcl.batches import Batches
from patentcl.recipes import Running
from patentcl.training import train
from patentcl.triplets import load_triplets

at = int(sys.argv[3])
take_step = loop.Loop._step
def strike(self, step, batch):
    take_step(self, step, batch)
    if step == at:
        os.kill(os.getpid(), signal.SIGKILL)
loop.Loop._step = strike
every_step = Running(checkpoint_minutes=1e-9)
output = Path(sys.argv[2])
train(own.small(Path(sys.argv[1])), output, output.parent / "cache", own.TINY, "resume" in sys.argv, running=every_step)
"""


def test_after_kill_9_at_any_step_it_goes_on_to_the_same_bytes(
    road: Path, data: Triplets, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step, resume in ((2, "start"), (7, "resume")):
        command = [sys.executable, "-c", KILLED, str(road), str(tmp_path / "tiny"), str(step), resume]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        assert subprocess.run(command, env=environment, capture_output=True).returncode == -signal.SIGKILL

    train(data, tmp_path / "tiny", tmp_path / "cache", TINY, resume=True)

    assert "goes on from" in capsys.readouterr().out
    assert (tmp_path / "tiny" / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


TOGETHER = """
import sys
from dataclasses import replace
from pathlib import Path
import test_training as own
from patentcl import profiling
from patentcl.training import train

profiling.LEAST_STEPS = 1
output = Path(sys.argv[2])
train(own.small(Path(sys.argv[1])), output, output.parent / "cache", replace(own.TINY, dropout=0, epochs=1))
"""


def test_two_processes_train_the_model_of_one(
    road: Path, data: Triplets, trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "together.py").write_text(TOGETHER)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*launch, tmp_path / "together.py", road, tmp_path / "two"], check=True, env=environment)
    assert capfd.readouterr().out.count("6 steps of") == 1  # all measured, one speaks

    train(data, tmp_path / "one", trained.parent / "cache", replace(TINY, dropout=0, epochs=1))

    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, atol=1e-5, rtol=1e-4)


def test_a_loss_that_explodes_is_told_with_its_triplets_and_the_last_good_checkpoint(
    data: Triplets, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradient = Steps.gradient

    def burst(self: Steps, step: int, batch: np.ndarray) -> torch.Tensor:
        return gradient(self, step, batch) * (math.nan if step == 3 else 1)

    monkeypatch.setattr(Steps, "gradient", burst)
    with pytest.raises(InputError, match=r"became nan .* in step 4, triplets \d+/\d+/\d+.*checkpoint-000000003"):
        train(data, tmp_path / "nan", trained.parent / "cache", TINY, running=Running(checkpoint_minutes=1e-9))


def test_a_full_disk_costs_a_checkpoint_and_not_the_training(
    data: Triplets, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = torch.save

    def full(state: dict[str, object], file: BinaryIO) -> None:
        if "optimizer" in state:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(state, file)

    monkeypatch.setattr(checkpoints.torch, "save", full)
    train(data, tmp_path / "tiny", trained.parent / "cache", TINY, running=Running(checkpoint_minutes=1e-9))

    said = capsys.readouterr().out
    assert "no checkpoint at step 1: [Errno 28] No space left on device; goes on, the newest is None" in said
    assert (tmp_path / "tiny" / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


def test_log_lines_that_a_full_disk_does_not_take_are_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, opened = Log(tmp_path / "training.log"), Path.open

    def full(self: Path, *arguments: str, **more: str) -> IO[str]:
        raise OSError(errno.ENOSPC, "No space left on device")

    log.write("step", {"step": 1, "loss": 3.0})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        log.write("step", {"step": 2, "loss": 2.0})
    assert Path.open is opened
    log.write("step", {"step": 3, "loss": 1.0})

    assert [line["loss"] for line in log.read("step")] == [3, 2, 1]


def test_best_weights_that_could_not_be_kept_cost_nothing_else(
    data: Triplets, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = torch.save

    def full(state: dict[str, object], file: BinaryIO) -> None:
        if "optimizer" not in state and ".partial" in file.name and "best-000000006" in file.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(state, file)

    monkeypatch.setattr(loop, "LEAST_QUERIES", 1)
    found = iter([0.5, 0.6, 0.4, 0.3])
    monkeypatch.setattr(loop.Validation, "of", lambda self, model, step: next(found))
    monkeypatch.setattr(checkpoints.torch, "save", full)
    record = train(data, tmp_path / "m", trained.parent / "cache", replace(TINY, evaluations=4))

    assert record["kept step"] == 3  # step 6 was better, and its weights were not written
    assert "keeps the weights of step 3, the best on val" in capsys.readouterr().out


def test_a_training_that_replaces_a_model_can_be_resumed(
    data: Triplets, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "tiny")
    cache, other = trained.parent / "cache", replace(TINY, lr=1e-3)
    take_step = loop.Loop._step

    def crash(self: loop.Loop, step: int, batch: np.ndarray) -> None:
        if step == 3:
            raise RuntimeError("3 at night")
        take_step(self, step, batch)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="3 at night"):
        patch.setattr(loop.Loop, "_step", crash)
        train(data, tmp_path / "tiny", cache, other, overwrite=True, running=Running(checkpoint_minutes=1e-9))
    assert read_json(tmp_path / "tiny" / "run.json")["asked"]["lr"] == TINY.lr  # the old model is there until the end
    with pytest.raises(InputError, match="was started with lr"):
        train(data, tmp_path / "tiny", cache, replace(TINY, lr=1), resume=True, overwrite=True)

    record = train(data, tmp_path / "tiny", cache, other, resume=True)

    assert record["asked"]["lr"] == 1e-3 and "goes on from" in capsys.readouterr().out


def test_only_the_last_checkpoints_are_kept_and_a_damaged_one_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (1, 2, 3):
        checkpoints.save(tmp_path, "checkpoint", step, {"step": step})
        checkpoints.save(tmp_path, "best", step, {"step": step})
    checkpoints.prune(tmp_path, keep=2, best=2)

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best-000000002.pt", "checkpoint-000000002.pt", "checkpoint-000000003.pt"
    ]  # fmt: skip
    newest = checkpoints.newest(tmp_path)
    assert newest and checkpoints.load(newest) == {"step": 3}
    newest.write_bytes(newest.read_bytes()[:100])
    with pytest.raises(InputError, match=r"000000003\.pt is damaged"):
        checkpoints.load(newest)
    assert checkpoints.load_newest(tmp_path) == (tmp_path / "checkpoint-000000002.pt", {"step": 2})
    assert "takes the one before" in capsys.readouterr().out


def test_the_best_weights_on_val_are_kept_and_patience_ends_a_training(
    data: Triplets, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LEAST_QUERIES", 1)
    found = iter([0.5, 0.4, 0.3, 0.2])
    monkeypatch.setattr(loop.Validation, "of", lambda self, model, step: next(found))
    record = train(
        data, tmp_path / "m", trained.parent / "cache", replace(TINY, evaluations=4, patience=2), running=Running()
    )

    assert (record["steps"], record["kept step"]) == (9, 3)


def test_the_whole_takes_as_long_as_measured_steps_say_and_the_profile_says_where(
    data: Triplets, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(MINILM, 32)
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


def test_tokens_are_read_from_disk_and_a_killed_tokenising_goes_on(data: Triplets, tmp_path: Path) -> None:
    model = load_model(MINILM)
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


def test_a_recipe_gives_the_settings_that_are_not_given() -> None:
    published, own = training("published", MINILM), training("best", MINILM, epochs=3, lr=None)

    assert (published.loss, published.margin, published.epochs, published.batch_size) == ("triplet", 5, 10, 16)
    assert published == Training(MINILM)
    assert own.loss == "contrast" and own.epochs == 3 and own.lr == RECIPES["best"]["lr"]
    assert [name_of(it) for it in (published, own, training("best", MINILM, seed=7))] == ["published", "own", "best"]


def test_dropout_reaches_every_layer() -> None:
    model = load_model(MINILM)
    set_dropout(model, 0.25)

    shares = {layer.p for layer in model.modules() if type(layer).__name__ == "Dropout"}
    assert shares == {0.25}
