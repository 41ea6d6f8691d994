"""The loss of a training, read without waiting for the device."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..common.cli import InputError
from ..common.distributed import add
from . import checkpoints
from .job import Job

EXPLODED = 10  # times the median loss of the first steps, or 10 if that is below 1
FIRST = 20  # steps


class Monitor:
    """Reads the loss of a step while the next one is computed, logs it, and stops a training that diverged.

    With it travels whether any process was asked to stop, so that all processes learn of it at the same step.
    """

    def __init__(self, job: Job, steps: int, ids: Sequence[str]) -> None:
        """`ids` (T,) are the patents of the rows in a batch, for messages."""
        self.job, self.steps, self.ids = job, steps, ids
        self.first_losses: list[float] = []
        self.loss, self.stop = math.nan, False  # of the last step that was read
        self._unread: tuple[int, np.ndarray, Tensor, torch.cuda.Event | None] | None = None

    def watch(self, step: int, batch: np.ndarray, loss: Tensor, norm: Tensor, stop: bool) -> None:
        """Start to copy a step's loss, gradient norm and stop flag from the device."""
        both = add(torch.stack([loss, torch.zeros_like(loss) + float(stop)]))
        values = torch.cat([both, norm[None].to(both.device)])
        copied = torch.cuda.Event() if values.is_cuda else None
        self._unread = (step, batch, values.to("cpu", non_blocking=True), copied)
        if copied:
            copied.record()

    def read(self, lr: float) -> None:
        """Read and log the values of the last step. Raises `InputError` if its loss is not finite or exploded."""
        if self._unread is None:
            return
        (step, batch, values, copied), self._unread = self._unread, None
        if copied:
            copied.synchronize()
        self.loss, stop, norm = values.tolist()
        self.stop = stop > 0
        usual = max(1.0, float(np.median(self.first_losses))) if self.first_losses else math.inf
        if not (math.isfinite(self.loss) and math.isfinite(norm) and self.loss <= EXPLODED * usual):
            raise InputError(self._diverged(step, batch, norm))
        if len(self.first_losses) < FIRST:
            self.first_losses.append(self.loss)
        every = max(1, min(10, self.steps // 50))
        if (step + 1) % every == 0 or step + 1 == self.steps:
            self.job.log.write("step", {"step": step + 1, "loss": self.loss, "lr": lr, "gradient norm": norm})

    def _diverged(self, step: int, batch: np.ndarray, norm: float) -> str:
        names = ", ".join("/".join(self.ids[row] for row in triplet) for triplet in batch[:16])
        names += f" and {len(batch) - 16} more" if len(batch) > 16 else ""
        newest = checkpoints.newest(self.job.work)
        return (
            f"Non-finite or exploding loss {self.loss:g} (gradient norm {norm:g}) at step {step + 1} (triplets "
            f"{names}). Inspect these patents or restart with a lower --lr. The last good checkpoint is "
            f"{newest or 'not written yet'}."
        )
