"""What a training shows and writes down: one live line, a log, a plot; and what it does when it is asked to stop."""

import csv
import json
import math
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..common.distributed import rank, world
from ..models.device import peak_memory_gb


class Log:
    """The log file: a JSON object a line, appended at once, so that a crash loses nothing.

    Lines that a full disk does not take are kept, and appended with the next one that it does.
    """

    def __init__(self, path: Path, tensorboard: Path | None = None) -> None:
        """Keep the path; the file is made with the first line. `tensorboard` is a folder for its events."""
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
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(self.unwritten)
            self.unwritten = ""
        except OSError:
            self.unwritten = "\n" + self.unwritten.lstrip("\n")  # a part of a line may have been written
        if self.board and "step" in values:
            for name, value in values.items():
                if isinstance(value, int | float) and name != "step":
                    self.board.add_scalar(f"{event}/{name}", value, values["step"])
            self.board.flush()

    def say(self, sentence: str) -> None:
        """Show a sentence above the live line, and write it down."""
        if rank() == 0:
            tqdm.write(sentence)
        self.write("note", {"text": sentence})

    def read(self, event: str) -> list[dict[str, Any]]:
        """The values of all lines of `event`, the last of each step. A line that a full disk cut is left out."""
        by_step = {line["step"]: line for line in self._lines() if line["event"] == event and "step" in line}
        return [{k: v for k, v in by_step[step].items() if k not in ("time", "event")} for step in sorted(by_step)]

    def forget_after(self, step: int) -> None:
        """Drop what was written after `step`, from where a training goes on."""
        lines = [line for line in self._lines() if line.get("step", 0) <= step]
        if self.path.exists() and rank() == 0:
            scratch = self.path.with_suffix(".partial")
            scratch.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
            scratch.replace(self.path)

    def _lines(self) -> Iterator[dict[str, Any]]:
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        for line in text.splitlines():
            with suppress(ValueError):
                values = json.loads(line)
                if isinstance(values, dict) and "event" in values:
                    yield values

    def write_csv(self, path: Path) -> None:
        """One row a step that has a loss or val figures."""
        steps = {line["step"]: dict(line) for line in self.read("step")}
        for line in self.read("val"):
            steps.setdefault(line["step"], {"step": line["step"]}).update({f"val {k}": v for k, v in line.items()})
        rows = [steps[step] for step in sorted(steps)]
        names = list(dict.fromkeys(name for row in rows for name in row if name != "val step"))
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, names, extrasaction="ignore")
            table.writeheader()
            table.writerows(rows)

    def move_board(self, folder: Path) -> None:
        """Move TensorBoard's events, if there are any."""
        if self.board:
            self.board.close()
            shutil.move(self.board.log_dir, folder)

    def plot(self, path: Path) -> None:
        """Loss and val metric by step, as PNG."""
        import matplotlib.pyplot as plt

        losses, vals = self.read("step"), self.read("val")
        figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
        axes.plot([p["step"] for p in losses], [p["loss"] for p in losses], color="#4477aa", label="train loss")
        axes.set(xlabel="step", ylabel="train loss", ylim=(0, None))
        right = axes.twinx()
        right.plot(
            [p["step"] for p in vals],
            [p["nDCG@10"] for p in vals],
            "o-",
            color="#ee6677",
            label="val nDCG@10",
            clip_on=False,
        )
        right.set(ylabel="val nDCG@10", ylim=(0, None))
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
        figure.savefig(path, dpi=120)
        plt.close(figure)


class LiveLine:
    """The one line that changes: step, loss, val metric, triplets a second, memory, time left."""

    def __init__(self, steps: int, done: int, seen: Callable[[int], int]) -> None:
        """Begin at step `done` of `steps`; `seen` tells how many triplets so many steps take."""
        form = "{desc} {n_fmt}/{total_fmt} |{bar:12}| [{elapsed}<{remaining}]{postfix}"
        self.bar = tqdm(total=steps, initial=done, desc="train", bar_format=form, disable=rank() > 0, leave=True)
        self.seen, self.first, self.started = seen, seen(done), time.perf_counter()
        self.loss = self.val = float("nan")

    def show(self, step: int) -> None:
        """Move on to `step`."""
        rate = (self.seen(step) - self.first) / max(time.perf_counter() - self.started, 1e-9)
        shown = [("loss {:.4f}", self.loss), ("val nDCG@10 {:.3f}", self.val)]  # what is not known yet is left out
        known = [form.format(value) for form, value in shown if math.isfinite(value)]
        self.bar.set_postfix_str(
            ", ".join([*known, f"{rate:.1f} triplets/s", f"{peak_memory_gb():.1f} GB"]), refresh=False
        )
        self.bar.update(step - self.bar.n)

    def pause(self, seconds: float) -> None:
        """Leave `seconds` out: neither the throughput nor the time left knows of them."""
        self.started += seconds
        if self.bar.disable:
            return
        self.bar.start_t, self.bar.last_print_t = self.bar.start_t + seconds, self.bar.last_print_t + seconds

    def close(self) -> None:
        """Leave the line as it is."""
        self.bar.close()


class StopSignal:
    """Whether Ctrl-C, SIGTERM or SIGHUP (a closed terminal) has come.

    A second Ctrl-C or SIGTERM ends the process at once. Not one of several processes, for each gets the signal twice,
    from the terminal and from torchrun.
    """

    def __init__(self) -> None:
        """Nothing has come yet."""
        self.name = ""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Let the first signal ask for a checkpoint."""

        def ask(number: int, _: object) -> None:
            if not self.name and rank() == 0:
                print(f"\n{signal.Signals(number).name}: saves a checkpoint after this step", file=sys.stderr)
            self.name = signal.Signals(number).name
            if world() == 1 and number != signal.SIGHUP:  # which comes from the kernel and from the shell
                signal.signal(number, before[number])

        asking = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
        before: dict[int, Any] = {n: signal.signal(n, ask) for n in asking}  # nohup ignores SIGHUP, and so do we
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
