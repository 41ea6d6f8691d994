"""What happens to a training that nobody watches: signals, kills, full disks, exploding losses, several processes."""

import errno
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import IO, BinaryIO

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from patentcl.common.cli import InputError, Interrupted
from patentcl.common.files import read_json
from patentcl.models.load import MINILM, find_model
from patentcl.training import checkpoints, loop
from patentcl.training.gradient import Steps
from patentcl.training.log import Log
from patentcl.training.recipes import Running
from patentcl.training.train import train
from patentcl.triplets.dataset import Dataset
from tiny import TINY


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_after_a_signal_it_goes_on_to_the_same_model(
    data: Dataset, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
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


KILLED = """
import os, signal, sys
from pathlib import Path
import tiny as own
from patentcl.training import checkpoints, loop
from patentcl.training.batches import Batches
from patentcl.training.recipes import Running
from patentcl.training.train import train
from patentcl.triplets.dataset import load_dataset

at, when = int(sys.argv[3]), sys.argv[4]
take_step, save = loop.Loop._step, checkpoints.torch.save
def strike(self, step, batch):
    take_step(self, step, batch)
    if step == at and when == "after a step":
        os.kill(os.getpid(), signal.SIGKILL)
def half(state, file):
    if state.get("state", {}).get("step") == at and when == "while it saves":
        file.write(b"PK")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    save(state, file)
loop.Loop._step, checkpoints.torch.save = strike, half
every_step = Running(checkpoint_minutes=1e-9)
output = Path(sys.argv[2])
train(own.small(Path(sys.argv[1])), output, output.parent / "cache", own.TINY, "resume" in sys.argv, running=every_step)
"""


def test_after_kill_9_at_any_step_it_goes_on_to_the_same_bytes(
    road: Path, data: Dataset, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step, when, resume in (
        (2, "after a step", "start"),
        (7, "while it saves", "resume"),
        (9, "after a step", "resume"),
    ):
        command = [sys.executable, "-c", KILLED, str(road), str(tmp_path / "tiny"), str(step), when, resume]
        environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"}
        assert subprocess.run(command, env=environment, capture_output=True).returncode == -signal.SIGKILL

    train(data, tmp_path / "tiny", tmp_path / "cache", TINY, resume=True)

    assert "goes on from" in capsys.readouterr().out
    assert (tmp_path / "tiny" / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


INTERRUPTED = """
import os, signal, sys
from pathlib import Path
import tiny as own
from patentcl.training import loop
from patentcl.common.cli import run_script
from patentcl.training.train import train

take_step = loop.Loop._step
def strike(self, step, batch):
    if step == 4:
        os.kill(os.getpid(), signal.SIGINT)
    take_step(self, step, batch)
loop.Loop._step = strike
output = Path(sys.argv[2])
run_script(lambda: train(own.small(Path(sys.argv[1])), output, output.parent / "cache", own.TINY))
"""


def test_an_interrupt_that_ends_tee_as_well_keeps_the_checkpoint(road: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # as after `python patent_triplet_trainer.py 2>&1 | tee log` and Ctrl-C
    command = [sys.executable, "-c", INTERRUPTED, str(road), str(tmp_path / "tiny")]
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"}

    ended = subprocess.run(command, env=environment, stdout=writing, stderr=writing)

    os.close(writing)
    assert ended.returncode == 130
    newest = checkpoints.newest(tmp_path / "tiny.training")
    assert newest and newest.name == "checkpoint-000000005.pt"


def test_an_interrupt_before_the_first_step_loses_nothing(
    data: Dataset, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="training is kept: add --resume to go on"):
        patch.setattr(loop, "forecast", interrupt)
        train(data, tmp_path / "tiny", trained.parent / "cache", TINY)

    assert train(data, tmp_path / "tiny", trained.parent / "cache", TINY)["steps"] == 12  # there was nothing to resume


def test_what_came_to_stand_at_the_output_is_not_replaced_and_the_work_is_kept(
    data: Dataset, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_step = loop.Loop._step

    def meanwhile(self: loop.Loop, step: int, batch: np.ndarray) -> None:
        (tmp_path / "tiny").mkdir(exist_ok=True)
        (tmp_path / "tiny" / "thesis.txt").write_text("mine")
        take_step(self, step, batch)

    with monkeypatch.context() as patch, pytest.raises(InputError, match=r"no run.json.*--resume"):
        patch.setattr(loop.Loop, "_step", meanwhile)
        train(data, tmp_path / "tiny", trained.parent / "cache", TINY)
    assert (tmp_path / "tiny" / "thesis.txt").read_text() == "mine"
    shutil.rmtree(tmp_path / "tiny")
    log = tmp_path / "tiny.training" / "training.log"
    log.write_bytes(log.read_bytes() + b'null\n{}\n{"event": "note", "text": "\xc3')  # cut by a full disk
    monkeypatch.setenv("PATENTCL_PRECISION", "bf16")
    with pytest.raises(InputError, match="was started with PATENTCL_PRECISION fp32"):
        train(data, tmp_path / "tiny", trained.parent / "cache", TINY, resume=True)
    monkeypatch.setenv("PATENTCL_PRECISION", "fp32")

    assert train(data, tmp_path / "tiny", trained.parent / "cache", TINY, resume=True)["steps"] == 12
    weights = "model.safetensors"
    assert (tmp_path / "tiny" / weights).read_bytes() == (trained / weights).read_bytes()


def test_a_folder_of_work_without_its_record_is_begun_anew_only_when_asked(
    data: Dataset, trained: Path, tmp_path: Path
) -> None:
    work, cache = tmp_path / "tiny.training", trained.parent / "cache"
    work.mkdir()
    (work / ".params.json.partial").touch()  # of a disk that was full
    checkpoints.save(work, "checkpoint", 3, {"step": 3})
    with pytest.raises(InputError, match=r"holds checkpoints but no params\.json: add --overwrite to start anew"):
        train(data, tmp_path / "tiny", cache, TINY)
    (work / "thesis.txt").touch()
    with pytest.raises(InputError, match="is no training of ours: move it away"):
        train(data, tmp_path / "tiny", cache, TINY, overwrite=True)
    (work / "thesis.txt").unlink()

    assert train(data, tmp_path / "tiny", cache, TINY, overwrite=True)["steps"] == 12


def test_a_disk_that_is_too_small_is_said_before(
    data: Dataset, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda folder: SimpleNamespace(free=900_000_000))

    said = checkpoints.lack_of_room(tmp_path, find_model(MINILM).load(), keep=2)

    assert said.endswith("has 0.9 GB free, and the training will need 1.0 GB: free space")  # 22.7 M weights x 4 x 11
    assert not checkpoints.lack_of_room(tmp_path, find_model(MINILM).load(), keep=1)


TOGETHER = """
import sys
from dataclasses import replace
from pathlib import Path
import tiny as own
from patentcl.training import forecast
from patentcl.training.train import train

forecast.LEAST_STEPS = 1
output = Path(sys.argv[2])
train(own.small(Path(sys.argv[1])), output, output.parent / "cache", replace(own.TINY, dropout=0, epochs=1))
"""


def test_two_processes_train_the_model_of_one(
    road: Path, data: Dataset, trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "together.py").write_text(TOGETHER)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}",
        "OMP_NUM_THREADS": "1",
    }
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*launch, tmp_path / "together.py", road, tmp_path / "two"], check=True, env=environment)
    assert capfd.readouterr().out.count("6 steps of") == 1  # all measured, one speaks

    train(data, tmp_path / "one", trained.parent / "cache", replace(TINY, dropout=0, epochs=1))

    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, atol=1e-5, rtol=1e-4)


ONE_A_GPU = """
import sys
from pathlib import Path
import torch
from patentcl.common.cli import InputError, run_script
from patentcl.common.distributed import join, one_process_a_gpu, rank, wait, world

torch.cuda.device_count = lambda: 2

def main():
    one_process_a_gpu()
    join()
    Path(sys.argv[1], f"{rank()} of {world()}").touch()
    wait()
    if sys.argv[2] == "badly":
        raise InputError("this is wrong: mend it")

run_script(main)
"""


@pytest.mark.parametrize(("how", "code", "says"), [("well", 0, ""), ("badly", 2, "error: this is wrong: mend it\n")])
def test_plain_python_on_several_gpus_starts_a_process_on_each(tmp_path: Path, how: str, code: int, says: str) -> None:
    (tmp_path / "main.py").write_text(ONE_A_GPU)
    (tmp_path / "found").mkdir()

    command = [sys.executable, str(tmp_path / "main.py"), str(tmp_path / "found"), how]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    assert "2 GPUs" in ended.stdout
    assert (ended.returncode, ended.stderr) == (code, says)
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == ["0 of 2", "1 of 2"]


@pytest.mark.parametrize("factor", [math.nan, 1e6])
def test_a_loss_that_explodes_is_told_with_its_triplets_and_the_last_good_checkpoint(
    data: Dataset, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    gradient = Steps.gradient

    def burst(self: Steps, step: int, batch: np.ndarray) -> torch.Tensor:
        return gradient(self, step, batch) * (factor if step == 3 else 1)

    monkeypatch.setattr(Steps, "gradient", burst)
    with pytest.raises(InputError, match=r"became .* in step 4, triplets \d+/\d+/\d+.*checkpoint-000000003"):
        train(data, tmp_path / "nan", trained.parent / "cache", TINY, running=Running(checkpoint_minutes=1e-9))


def test_a_full_disk_costs_a_checkpoint_and_not_the_training(
    data: Dataset, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = torch.save

    def full(state: dict[str, object], file: BinaryIO) -> None:
        if "optimizer" in state:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(state, file)

    monkeypatch.setattr(checkpoints.torch, "save", full)
    monkeypatch.setattr(loop, "TRIES", 2)
    monkeypatch.setattr(loop, "BETWEEN_TRIES", 0)
    train(data, tmp_path / "tiny", trained.parent / "cache", TINY, running=Running(checkpoint_minutes=1e-9))

    said = capsys.readouterr().out
    assert "no checkpoint at step 1: [Errno 28] No space left on device; goes on, the newest is None" in said
    assert said.count("free space for the last checkpoint: tries again every 0 s; Ctrl-C gives up") == 2
    assert (tmp_path / "tiny" / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


def test_an_interrupt_on_a_full_disk_says_that_nothing_could_be_saved(
    data: Dataset, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_step = loop.Loop._step

    def strike(self: loop.Loop, step: int, batch: np.ndarray) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        take_step(self, step, batch)

    def full(state: dict[str, object], file: BinaryIO) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(loop.Loop, "_step", strike)
    monkeypatch.setattr(checkpoints.torch, "save", full)
    with pytest.raises(Interrupted, match="no checkpoint could be saved, and there is none: free space, and add"):
        train(data, tmp_path / "tiny", trained.parent / "cache", TINY)


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
    data: Dataset, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = torch.save

    def full(state: dict[str, object], file: BinaryIO) -> None:
        if "optimizer" not in state and ".partial" in file.name and "best-000000006" in file.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(state, file)

    monkeypatch.setattr(loop, "LEAST_QUERIES", 1)
    found = iter([0.4, 0.5, 0.6, 0.4, 0.3])  # the base comes first
    monkeypatch.setattr(loop.Validation, "of", lambda self, model, step: next(found))
    monkeypatch.setattr(checkpoints.torch, "save", full)
    record = train(data, tmp_path / "m", trained.parent / "cache", replace(TINY, evaluations=4))

    assert record["kept step"] == 3  # step 6 was better, and its weights were not written
    assert "keeps the weights of step 3, the best on val" in capsys.readouterr().out


def test_a_training_that_replaces_a_model_can_be_resumed(
    data: Dataset, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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
    assert read_json(tmp_path / "tiny" / "run.json")["params"]["lr"] == TINY.lr  # the old model is there until the end
    with pytest.raises(InputError, match="was started with lr"):
        train(data, tmp_path / "tiny", cache, replace(TINY, lr=1), resume=True, overwrite=True)

    record = train(data, tmp_path / "tiny", cache, other, resume=True)

    assert record["params"]["lr"] == 1e-3 and "goes on from" in capsys.readouterr().out


def test_only_the_last_checkpoints_are_kept_and_a_damaged_one_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (1, 2, 3):
        checkpoints.save(tmp_path, "checkpoint", step, {"step": step})
        checkpoints.save(tmp_path, "best", step, {"step": step})
    (tmp_path / "checkpoint-000000004.partial").touch()  # of a process that was killed
    checkpoints.prune(tmp_path, keep=2, best=2)

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best-000000002.pt", "checkpoint-000000002.pt", "checkpoint-000000003.pt"
    ]  # fmt: skip
    newest = checkpoints.newest(tmp_path)
    assert newest and checkpoints.load(newest) == {"step": 3}
    whole = newest.read_bytes()
    newest.write_bytes(whole.replace(b"step", b"stop", 1))
    with pytest.raises(InputError, match=r"000000003\.pt is damaged \(its bytes were changed"):
        checkpoints.load(newest)
    newest.write_bytes(whole[:100])
    with pytest.raises(InputError, match=r"000000003\.pt is damaged"):
        checkpoints.load(newest)
    assert checkpoints.load_newest(tmp_path) == (tmp_path / "checkpoint-000000002.pt", {"step": 2})
    assert "takes the one before" in capsys.readouterr().out
