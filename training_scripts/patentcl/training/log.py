"""What a training reports: a log file, a progress bar, a plot; and the signals that ask it to stop."""

import json
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


class Log:
    """A log file with a JSON object per line; a full disk costs lines, not the training."""

    def __init__(self, path: Path, tensorboard: bool = False) -> None:
        """Append to `path`, and with `tensorboard` write events to a folder of that name beside it."""
        self.path, self.board = path, None
        if tensorboard and rank() == 0:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(path.with_name("tensorboard")))

    def write(self, event: str, values: dict[str, Any]) -> None:
        """Append a line."""
        if rank() > 0:
            return
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S"), "event": event, **values}
        with suppress(OSError), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        if self.board and "step" in values:
            for name in values.keys() - {"step"}:
                self.board.add_scalar(f"{event}/{name}", values[name], values["step"])

    def warn(self, sentence: str) -> None:
        """Print a sentence above the progress bar and write it to the log."""
        if rank() == 0:
            tqdm.write(sentence)
        self.write("note", {"text": sentence})

    def read(self, event: str) -> list[dict[str, Any]]:
        """The values of each step's last line of `event`; a training that resumed may have taken steps again."""
        by_step: dict[int, dict[str, Any]] = {}
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        for line in text.splitlines():
            with suppress(json.JSONDecodeError):  # cut by a full disk or a kill
                values = json.loads(line)
                if values.pop("event") == event:
                    del values["time"]
                    by_step[values["step"]] = values
        return [by_step[step] for step in sorted(by_step)]

    def save(self, folder: Path) -> None:
        """Write the log, a table with a row per step that has a loss or a validation metric, and its plot."""
        from matplotlib.figure import Figure

        steps = pd.DataFrame(self.read("step"), columns=["step", "loss", "lr", "gradient norm"]).set_index("step")
        vals = pd.DataFrame(self.read("val") or {"step": [], "nDCG@10": []}).set_index("step").add_prefix("val ")
        table = pd.concat([vals, steps], axis=1).sort_index()
        figure = Figure(figsize=(7, 3.5), layout="constrained")
        left = figure.subplots()
        for axes, column, style, colour in (
            (left, "loss", "-", "#4477aa"),
            (left.twinx(), "val nDCG@10", "o-", "#ee6677"),
        ):
            axes.plot(table[column].dropna(), style, color=colour, label=column, clip_on=False)
            axes.set(xlabel="step", ylabel=column, ylim=(0, None))
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
        (folder / "training.log").write_bytes(self.path.read_bytes())
        table.to_csv(folder / "training.csv")
        figure.savefig(folder / "training.png", dpi=120)
        if self.board:
            self.board.close()
            shutil.move(self.board.log_dir, folder / "tensorboard")


class StopSignal:
    """The name of the signal that asked to stop: Ctrl-C, SIGTERM or SIGHUP (a closed terminal); "" if none came.

    A second Ctrl-C or SIGTERM ends the process at once, but not one of several processes: each of these gets a signal
    twice, from the terminal and from torchrun.
    """

    name = ""
    everywhere = False  # whether all processes know of it
    at_once = False  # whether it interrupts what runs, as that changes nothing that a checkpoint holds

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note signals inside the `with` block."""

        def note(number: int, _: object) -> None:
            if not self.name and rank() == 0:
                print(f"\n{signal.Signals(number).name}: saving a checkpoint.", file=sys.stderr)
            self.name = signal.Signals(number).name
            if world() == 1 and number != signal.SIGHUP:  # which is sent by the kernel and again by the shell
                signal.signal(number, before[number])
            if world() == 1 and self.at_once:
                raise KeyboardInterrupt

        heard = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
        before: dict[int, Any] = {n: signal.signal(n, note) for n in heard}  # nohup ignores SIGHUP
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let a signal interrupt the `with` block, unless several processes train."""
        self.at_once = True
        try:
            yield
        finally:
            self.at_once = False
