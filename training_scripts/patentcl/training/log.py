"""What a training reports: a log file, a progress bar, a plot; and the signals that ask it to stop."""

import json
import math
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from ..common.distributed import rank, world
from ..models.device import peak_memory_gb


class Log:
    """A log file with a JSON object per line; a line that a full disk refuses is written with the next one."""

    def __init__(self, path: Path, tensorboard: Path | None = None) -> None:
        """Append to `path`; also write events to the folder `tensorboard`."""
        self.path, self.board, self.unwritten = path, None, ""
        if tensorboard and rank() == 0:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(tensorboard))

    def write(self, event: str, values: dict[str, Any]) -> None:
        """Append a line."""
        if rank() > 0:
            return
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S"), "event": event, **values}
        self.unwritten += json.dumps(line, ensure_ascii=False) + "\n"
        with suppress(OSError):
            with self.path.open("a", encoding="utf-8") as file:
                file.write(self.unwritten)
            self.unwritten = ""
        if self.board and "step" in values:
            for name, value in values.items():
                if isinstance(value, int | float) and name != "step":
                    self.board.add_scalar(f"{event}/{name}", value, values["step"])
            self.board.flush()

    def warn(self, sentence: str) -> None:
        """Print a sentence above the progress bar and write it to the log."""
        if rank() == 0:
            tqdm.write(sentence)
        self.write("note", {"text": sentence})

    def read(self, event: str) -> list[dict[str, Any]]:
        """The values of all lines of `event` that have a step, the last line of each step."""
        by_step = {line["step"]: line for line in self._lines() if line["event"] == event and "step" in line}
        return [{k: v for k, v in by_step[step].items() if k not in ("time", "event")} for step in sorted(by_step)]

    def forget_after(self, step: int) -> None:
        """Drop the lines of later steps, before a training resumes at `step`."""
        lines = [json.dumps(line, ensure_ascii=False) for line in self._lines() if line.get("step", 0) <= step]
        if self.path.exists() and rank() == 0:
            scratch = self.path.with_suffix(".partial")
            scratch.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            scratch.replace(self.path)

    def _lines(self) -> Iterator[dict[str, Any]]:
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(json.JSONDecodeError):  # cut by a full disk
                    yield json.loads(line)

    def write_csv(self, path: Path) -> None:
        """A row per step that has a loss or a validation metric."""
        rows: dict[int, dict[str, Any]] = {}
        for event, prefix in (("step", ""), ("val", "val ")):
            for line in self.read(event):
                values = {f"{prefix}{name}": value for name, value in line.items() if name != "step"}
                rows.setdefault(line["step"], {"step": line["step"]}).update(values)
        pd.DataFrame([rows[step] for step in sorted(rows)]).to_csv(path, index=False)

    def move_board(self, folder: Path) -> None:
        """Move TensorBoard's events, if there are any."""
        if self.board:
            self.board.close()
            shutil.move(self.board.log_dir, folder)

    def plot(self, path: Path) -> None:
        """Training loss and validation nDCG@10 by step, as PNG."""
        import matplotlib.pyplot as plt

        steps, vals = self.read("step"), self.read("val")
        figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
        axes.plot([p["step"] for p in steps], [p["loss"] for p in steps], color="#4477aa", label="train loss")
        axes.set(xlabel="step", ylabel="train loss", ylim=(0, None))
        right = axes.twinx()
        right.plot([p["step"] for p in vals], [p["nDCG@10"] for p in vals], "o-", color="#ee6677",
                   label="val nDCG@10", clip_on=False)  # fmt: skip
        right.set(ylabel="val nDCG@10", ylim=(0, None))
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
        figure.savefig(path, dpi=120)
        plt.close(figure)


def progress_bar(steps: int, done: int) -> tqdm:
    """A progress bar on the first process, which has taken `done` of `steps`."""
    form = "{desc} {n_fmt}/{total_fmt} |{bar:12}| [{elapsed}<{remaining}]{postfix}"
    return tqdm(total=steps, initial=done, desc="train", bar_format=form, disable=rank() > 0, leave=True)


def show(bar: tqdm, step: int, loss: float, ndcg: float, rate: float) -> None:
    """Move `bar` on to `step`, with what is known (finite), the triplets per second and the peak memory."""
    shown = [f"loss {loss:.4f}"] * math.isfinite(loss) + [f"val nDCG@10 {ndcg:.3f}"] * math.isfinite(ndcg)
    shown += [f"{rate:.1f} triplets/s", f"{peak_memory_gb():.1f} GB"]
    bar.set_postfix_str(", ".join(shown), refresh=False)
    bar.update(step - bar.n)


class StopSignal:
    """The name of the signal that asked to stop: Ctrl-C, SIGTERM or SIGHUP (a closed terminal); "" if none came.

    A second Ctrl-C or SIGTERM ends the process at once, but not one of several processes: each of these gets a signal
    twice, from the terminal and from torchrun.
    """

    def __init__(self) -> None:
        """No signal came yet."""
        self.name = ""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note signals inside the `with` block."""

        def note(number: int, _: object) -> None:
            if not self.name and rank() == 0:
                print(f"\n{signal.Signals(number).name}: saving a checkpoint after this step.", file=sys.stderr)
            self.name = signal.Signals(number).name
            if world() == 1 and number != signal.SIGHUP:  # which is sent by the kernel and again by the shell
                signal.signal(number, before[number])

        heard = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
        before: dict[int, Any] = {n: signal.signal(n, note) for n in heard}  # nohup ignores SIGHUP
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
