"""What happens to a training that nobody watches: signals, kills, full disks, exploding losses, several processes."""

import errno
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from patentcl.common.cli import InputError, Interrupted
from patentcl.common.files import read_json
from patentcl.models import graphs
from patentcl.models.load import Model
from patentcl.training import checkpoints, loop
from patentcl.training import train as train_module
from patentcl.training.options import Hyperparameters, RunOptions
from patentcl.training.train import train
from patentcl.triplets.dataset import Dataset

EVERY_STEP = RunOptions(checkpoint_minutes=1e-9)
RESUME = RunOptions(resume=True)
HERE = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"}


OnStep = Callable[[int, SentenceTransformer], object]


def after(step: int, act: Callable[[SentenceTransformer], object]) -> OnStep:
    """An `on_step` that acts once, when `step` (from 0) was taken."""

    def on_step(number: int, model: SentenceTransformer) -> None:
        if number == step:
            act(model)

    return on_step


def assert_same_weights(model: Path, other: Path) -> None:
    assert (model / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(data: Dataset, trained: Path, tiny: Hyperparameters, tmp_path: Path) -> Run:
    """Train `tiny`, with some `changes`, to `tmp_path / "tiny"`."""

    def run(options: RunOptions | None = None, on_step: OnStep = lambda step, model: None, **changes: Any) -> Any:
        return train(data, tmp_path / "tiny", trained.parent / "cache", replace(tiny, **changes), options, on_step)

    return run


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[dict[str, object], str], bool]], None]:
    """Let `torch.save` fail for want of space, for the states and file names that are chosen."""

    def fill(refuses: Callable[[dict[str, object], str], bool]) -> None:
        save = torch.save

        def full(state: dict[str, object], file: BinaryIO) -> None:
            if refuses(state, file.name):
                raise OSError(errno.ENOSPC, "No space left on device")
            save(state, file)

        monkeypatch.setattr(checkpoints.torch, "save", full)

    return fill


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_training_resumes_to_the_same_model_after_a_signal(
    run: Run, trained: Path, tmp_path: Path, number: signal.Signals
) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # as in a terminal; a process in the background may ignore it
    with pytest.raises(Interrupted, match=r"000000005.*--resume"):
        run(on_step=after(4, lambda _: os.kill(os.getpid(), number)))
    signal.signal(number, before)

    record = run(RESUME)

    assert record["steps"] == 12
    assert_same_weights(tmp_path / "tiny", trained)
    assert record["test"] == read_json(trained / "run.json")["test"]
    assert [point["step"] for point in record["val"]] == [0, 6, 12]


@pytest.mark.parametrize(("name", "call", "step"), [("quick", 2, 6), ("Gradient.compute", 5, 4)])
def test_a_signal_interrupts_an_evaluation_or_a_step_which_is_repeated(
    run: Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int, step: int
) -> None:
    owner, attribute = (loop.Gradient, "compute") if "." in name else (loop, name)
    function, calls = getattr(owner, attribute), []

    def strike(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("not at once")
        return function(*given)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match=f"{step:09d}"):
        patch.setattr(owner, attribute, strike)
        run()
    signal.signal(signal.SIGINT, before)

    assert [point["step"] for point in run(RESUME)["val"]] == [0, 6, 12]
    assert_same_weights(tmp_path / "tiny", trained)


@pytest.fixture
def unfinished(run: Run, tmp_path: Path) -> Path:
    """The output of a training that crashed with a checkpoint of step 3."""

    def crash(_: SentenceTransformer) -> None:
        raise RuntimeError("3 at night")

    with pytest.raises(RuntimeError, match="3 at night"):
        run(EVERY_STEP, after(3, crash))
    return tmp_path / "tiny"


def test_an_unfinished_training_is_neither_replaced_nor_resumed_as_another(
    run: Run, unfinished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"tiny\.training .*--resume"):
        run()
    with pytest.raises(InputError, match=r"tiny\.training .*lr 2e-05"):
        run(RESUME, lr=1e-3)
    monkeypatch.setenv("PATENTCL_PRECISION", "bf16")
    with pytest.raises(InputError, match=r"tiny\.training .*PATENTCL_PRECISION 'fp32'"):
        run(RESUME)


@pytest.mark.parametrize("log", [b"", b'{"event": "note", "te'])
def test_an_unfinished_training_resumes_to_the_same_bytes(
    run: Run, unfinished: Path, trained: Path, capsys: pytest.CaptureFixture[str], log: bytes
) -> None:
    with (unfinished.with_name("tiny.training") / "training.log").open("ab") as file:
        file.write(log)  # a line that a full disk cut

    run(RESUME)

    assert "checkpoint-000000003.pt" in capsys.readouterr().out
    assert_same_weights(unfinished, trained)


KILLED = """
import os, signal, sys
from pathlib import Path
from tiny import hyperparameters, small
from patentcl.training import checkpoints
from patentcl.training.options import RunOptions
from patentcl.training.train import train

mined_data, base, output, at, when, resume = sys.argv[1:]
save = checkpoints.torch.save


def on_step(step, model):
    if step == int(at) and when == "after a step":
        os.kill(os.getpid(), signal.SIGKILL)


def half(state, file):
    if state.get("state", {}).get("step") == int(at) and when == "while it saves":
        file.write(b"PK")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    save(state, file)


checkpoints.torch.save = half
options, output = RunOptions(checkpoint_minutes=1e-9, resume=resume == "resume"), Path(output)
train(small(Path(mined_data)), output, output.parent / "cache", hyperparameters(Path(base)), options, on_step)
"""


def test_after_kill_9_at_any_step_a_training_resumes_to_the_same_bytes(
    run: Run, mined_data: Path, small_model: Model, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained.parent / "cache", tmp_path / "cache")
    for step, when, resume in ((7, "while it saves", "start"), (9, "after a step", "resume")):
        arguments = [str(mined_data), str(small_model.folder), str(tmp_path / "tiny"), str(step), when, resume]
        ended = subprocess.run([sys.executable, "-c", KILLED, *arguments], env=HERE, capture_output=True)
        assert ended.returncode == -signal.SIGKILL, ended.stderr

    run(RESUME)

    assert_same_weights(tmp_path / "tiny", trained)


INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from tiny import hyperparameters, small
from patentcl.common.cli import run_script
from patentcl.training.train import train

mined_data, base, output = map(Path, sys.argv[1:])
strike = lambda step, model: os.kill(os.getpid(), signal.SIGINT) if step == 4 else None
run_script(lambda: train(small(mined_data), output, output.parent / "cache", hyperparameters(base), on_step=strike))
"""


def test_an_interrupt_that_ends_tee_as_well_keeps_the_checkpoint(
    mined_data: Path, small_model: Model, tmp_path: Path
) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # as after `python patent_triplet_trainer.py 2>&1 | tee log` and Ctrl-C
    arguments = [mined_data, small_model.folder, tmp_path / "tiny"]

    ended = subprocess.run([sys.executable, "-c", INTERRUPTED, *arguments], env=HERE, stdout=writing, stderr=writing)

    os.close(writing)
    assert ended.returncode == 130
    newest = checkpoints.newest(tmp_path / "tiny.training")
    assert newest and newest.name == "checkpoint-000000005.pt"


def test_an_interrupt_before_the_first_step_loses_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match=r"tiny\.training .*--resume"):
        patch.setattr(train_module, "forecast", interrupt)
        run()

    assert run()["steps"] == 12  # nothing to resume


def test_what_was_written_to_the_output_meanwhile_is_not_replaced(run: Run, tmp_path: Path) -> None:
    def write(_: SentenceTransformer) -> None:
        (tmp_path / "tiny").mkdir()
        (tmp_path / "tiny" / "thesis.txt").write_text("mine")

    with pytest.raises(InputError, match=r"run\.json"):
        run(on_step=after(1, write))

    assert (tmp_path / "tiny" / "thesis.txt").read_text() == "mine"
    assert checkpoints.newest(tmp_path / "tiny.training")


def test_a_training_that_is_refused_leaves_nothing(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--max-length"):
        run(max_length=999)

    assert not list(tmp_path.iterdir())


def test_a_working_folder_that_is_not_ours_is_refused(run: Run, tmp_path: Path) -> None:
    work = tmp_path / "tiny.training"
    work.mkdir()
    (work / "thesis.txt").touch()

    with pytest.raises(InputError, match=r"tiny\.training"):
        run(RunOptions(overwrite=True))

    assert (work / "thesis.txt").exists()


def test_a_working_folder_without_its_record_is_used(run: Run, tmp_path: Path) -> None:
    work = tmp_path / "tiny.training"
    work.mkdir()
    (work / ".params.json.partial").touch()  # of a process that was killed

    assert run(RESUME)["steps"] == 12


def test_a_training_that_replaces_a_model_can_be_resumed(run: Run, trained: Path, unfinished: Path) -> None:
    shutil.copytree(trained, unfinished)
    assert read_json(unfinished / "run.json")["steps"] == 12  # the old model is there until the end

    run(RESUME)

    assert not unfinished.with_name("tiny.training").exists()


def test_a_disk_that_is_too_small_is_refused_before(
    run: Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = 4 * sum(len(part.ravel()) for part in load_file(trained / "model.safetensors").values())
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10 * weights))

    with pytest.raises(InputError, match=f"{tmp_path}.*--output"):
        run(RunOptions(keep_checkpoints=2))  # 3 + 1 times 3, and 2
    run(RunOptions(keep_checkpoints=1))


TOGETHER = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from tiny import hyperparameters, small
from patentcl.common.cli import Interrupted
from patentcl.common.distributed import rank
from patentcl.training import train as module
from patentcl.training.options import RunOptions
from patentcl.training.train import train

module.LEAST_STEPS = 1
mined_data, base, output = map(Path, sys.argv[1:])
chosen = replace(hyperparameters(base), dropout=0, epochs=1)


def strike(step, model):  # only one of the two gets the signal
    if step == 2 and rank() == 1:
        os.kill(os.getpid(), signal.SIGINT)


for on_step in (strike, lambda step, model: None):
    try:
        train(small(mined_data), output, output.parent / "cache", chosen, RunOptions(resume=True), on_step)
        assert on_step is not strike
    except Interrupted as interrupted:
        assert on_step is strike and "000000005" in str(interrupted), interrupted
"""


def test_two_processes_train_the_model_of_one_and_stop_together(
    run: Run, mined_data: Path, trained: Path, small_model: Model, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "together.py").write_text(TOGETHER)
    shutil.copytree(trained.parent / "cache", tmp_path / "cache")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    arguments = [tmp_path / "together.py", mined_data, small_model.folder, tmp_path / "two"]
    subprocess.run([*launch, *arguments], check=True, env={**HERE, "OMP_NUM_THREADS": "1"})
    assert capfd.readouterr().out.count("6 steps of") == 1  # all measure, one prints

    run(dropout=0, epochs=1)

    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("tiny", "two"))
    for name, weights in one.items():
        if not name.endswith("key.bias"):  # it changes no output, so AdamW amplifies the rounding of a gradient of 0
            torch.testing.assert_close(two[name], weights, atol=1e-5, rtol=1e-4, msg=name)


ONE_A_GPU = """
import sys
from pathlib import Path
import torch
from patentcl.common.cli import InputError, run_script
from patentcl.common.distributed import join, launch_one_process_per_gpu, rank, wait, world

torch.cuda.device_count = lambda: 2

def main():
    launch_one_process_per_gpu()
    join()
    Path(sys.argv[1], f"{rank()} of {world()}").touch()
    wait()
    if sys.argv[2] == "badly":
        raise InputError("this is wrong: mend it")

run_script(main)
"""


@pytest.mark.parametrize(("how", "code", "stderr"), [("well", 0, ""), ("badly", 2, "error: this is wrong: mend it\n")])
def test_plain_python_starts_a_process_on_each_gpu(tmp_path: Path, how: str, code: int, stderr: str) -> None:
    (tmp_path / "main.py").write_text(ONE_A_GPU)
    (tmp_path / "ranks").mkdir()

    command = [sys.executable, str(tmp_path / "main.py"), str(tmp_path / "ranks"), how]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    assert "2 GPUs" in ended.stdout
    assert (ended.returncode, ended.stderr) == (code, stderr)
    assert sorted(path.name for path in (tmp_path / "ranks").iterdir()) == ["0 of 2", "1 of 2"]


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("factor", [math.nan, 1e6])
def test_an_exploding_loss_is_reported_with_its_triplets_and_the_last_good_checkpoint(
    run: Run, factor: float, recorded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "DEVICES", {"cpu"} if recorded else set())

    @torch.no_grad()
    def spoil(model: SentenceTransformer) -> None:
        for parameter in model.parameters():
            parameter.mul_(factor)

    match = r"step 4 \(triplets \w+/\w+/\w+.*checkpoint-000000003"
    with pytest.raises(InputError, match=match):
        run(EVERY_STEP, after(2, spoil), dropout=0)


def test_a_full_disk_costs_a_checkpoint_and_not_the_training(
    run: Run,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    full_disk: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    full_disk(lambda state, name: "optimizer" in state)
    monkeypatch.setattr(loop, "SAVE_RETRIES", 2)
    monkeypatch.setattr(loop, "RETRY_SECONDS", 0)
    run(EVERY_STEP)

    out = capsys.readouterr().out
    assert re.search(r"000000001.pt .*\[Errno 28\].*None", out)
    assert out.count("Ctrl-C") == 2  # the last checkpoint is tried again
    assert_same_weights(tmp_path / "tiny", trained)


def test_an_interrupt_on_a_full_disk_reports_that_nothing_was_saved(run: Run, full_disk: Callable[..., None]) -> None:
    full_disk(lambda state, name: True)
    with pytest.raises(Interrupted, match=r"None.*--resume"):
        run(on_step=after(0, lambda _: os.kill(os.getpid(), signal.SIGINT)))


def test_best_weights_that_could_not_be_saved_cost_nothing_else(
    run: Run, full_disk: Callable[..., None], val_metrics: Callable[..., None]
) -> None:
    full_disk(lambda state, name: "best-000000006" in name)
    val_metrics(0.4, 0.5, 0.6, 0.4, 0.3)

    assert run(evaluations=4)["kept step"] == 3  # step 6 was better, and its weights were not written


def test_only_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoints.save(tmp_path, "checkpoint", step, {"step": step}, pytest.fail)
        checkpoints.save(tmp_path, "best", step, {"step": step}, pytest.fail)
    (tmp_path / "checkpoint-000000004.partial").touch()  # of a process that was killed
    checkpoints.prune(tmp_path, keep=2, best=2)

    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["best-000000002.pt", "checkpoint-000000002.pt", "checkpoint-000000003.pt"]


@pytest.mark.parametrize(
    "corrupt", [lambda content: content.replace(b"step", b"stop", 1), lambda content: content[:100]]
)
def test_of_a_corrupt_checkpoint_the_previous_one_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], corrupt: Callable[[bytes], bytes]
) -> None:
    for step in (2, 3):
        checkpoints.save(tmp_path, "checkpoint", step, {"step": step}, pytest.fail)
    newest = tmp_path / "checkpoint-000000003.pt"
    newest.write_bytes(corrupt(newest.read_bytes()))

    assert checkpoints.load_newest(tmp_path, torch.device("cpu")) == {"step": 2}
    assert str(newest) in capsys.readouterr().out
