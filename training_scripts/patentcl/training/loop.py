"""The steps of a training, with all that lets it run unattended.

Order, dropout and all else that is random are functions of the seed and the step, so a training that resumes from a
checkpoint takes the same steps as one that was never interrupted.
"""

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import get_linear_schedule_with_warmup

from ..common.cli import InputError, Interrupted
from ..common.distributed import add, check_the_same, rank, wait, world
from . import checkpoints
from .batches import Batches
from .gradient import Gradient
from .job import Job
from .log import StopSignal, progress_bar, show
from .monitor import Monitor
from .validation import Validation, average

MAX_NORM = 1.0  # of a step's gradient, as in the stock trainer
TRIES, BETWEEN_TRIES = 60, 60.0  # seconds; how often the last checkpoint is tried on a full disk


@dataclass
class State:
    """What changes during training, besides weights and optimizer."""

    step: int = 0
    seconds: float = 0.0  # without evaluations and checkpoints
    best: float = -math.inf
    best_step: int | None = None
    since_best: int = 0
    micro: int = 0
    first_losses: list[float] = field(default_factory=list)


class Loop:
    """Trains a model; see `run`."""

    def __init__(
        self, job: Job, gradient: Gradient, batches: Batches, validation: Validation, ids: Sequence[str]
    ) -> None:
        """`ids` (T,) are the patents of the rows in a batch."""
        self.job, self.gradient, self.batches, self.validation = job, gradient, batches, validation
        self.model, hyper = gradient.model, job.hyperparameters
        self.total = batches.steps(hyper.epochs)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), hyper.lr, weight_decay=0, fused=True)
        warmup = math.ceil(self.total * hyper.warmup)
        self.schedule = get_linear_schedule_with_warmup(self.optimizer, warmup, self.total)
        self.state, self.stop, self.monitor = State(), StopSignal(), Monitor(job, self.total, ids)
        self.keeps_best = hyper.keep == "best" and hyper.evaluations > 1 and validation.can_choose
        self.ndcg, self.waited = math.nan, 0.0  # the last validation metric; seconds without data

    def _is_due(self, step: int) -> bool:
        """Whether to evaluate after `step`; after the last one always, unless there are no evaluations."""
        every = math.ceil(self.total / max(1, self.job.hyperparameters.evaluations))
        return self.job.hyperparameters.evaluations > 0 and (step % every == 0 or step == self.total)

    def evaluations_left(self) -> int:
        """The number of evaluations on the validation set until the end."""
        return sum(map(self._is_due, range(self.state.step + 1, self.total + 1)))

    def resume(self) -> None:
        """Continue from the newest checkpoint in the working folder, if there is one."""
        found = checkpoints.load_newest(self.job.work, self.model.device)
        check_the_same(-1 if found is None else found[1]["state"]["step"], f"the newest checkpoint in {self.job.work}")
        if found is None:
            return
        path, saved = found
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        self.state = State(**saved["state"])
        self.monitor.first_losses = self.state.first_losses
        self.gradient.micro = min(filter(None, (self.job.options.micro_batch, self.state.micro)), default=0)
        self.job.log.forget_after(self.state.step)
        self.ndcg = next((line["nDCG@10"] for line in reversed(self.job.log.read("val"))), math.nan)
        print(f"Resuming from {path}.")

    def run(self) -> State:
        """Train to the end or until patience runs out; the model then has the weights to save.

        Raises `Interrupted` after a signal, and `InputError` when the loss diverges.
        """
        before = self.state.seconds
        with closing(progress_bar(self.total, self.state.step)) as bar, self.stop.listening():
            self._take_steps(bar)
            self._read_loss()
            saved = self._save_last()  # because what comes after training can fail, too
            if self.stop.name and rank() == 0:
                raise Interrupted(self._how_to_resume(saved))
        share = self.waited / max(self.state.seconds - before, 1e-9)
        self.job.log.warn(f"Data loading took {share:.1%} of the time.")
        self._choose_weights()
        return self.state

    def _take_steps(self, bar: tqdm) -> None:
        state, first, before = self.state, self.batches.seen(self.state.step), self.state.seconds
        mark = saved = time.perf_counter()
        for step, batch in self._feed():
            if 0 < self.job.hyperparameters.patience <= state.since_best and self.validation.can_choose:
                self.job.log.warn(f"No better validation nDCG@10 in {state.since_best} evaluations; stopping early.")
                return
            self._step(step, batch)
            self.job.on_step(step, self.model)
            state.step, state.seconds = step + 1, state.seconds + time.perf_counter() - mark
            rate = (self.batches.seen(step + 1) - first) / max(state.seconds - before, 1e-9)
            show(bar, step + 1, self.monitor.loss, self.ndcg, rate)
            if self._is_due(step + 1):
                self._evaluate(step + 1)
            if self._must_stop():
                saved_it = self._save()
                wait()  # torchrun ends all processes when one has ended, so not while the first one writes
                raise Interrupted(self._how_to_resume(saved_it))
            if 0 < self.job.options.checkpoint_minutes * 60 <= time.perf_counter() - saved:
                self._save()
                saved = time.perf_counter()
            mark = time.perf_counter()

    def _feed(self) -> Iterator[tuple[int, np.ndarray]]:
        """The batches that are left, each read from disk while the one before is computed."""

        def read(step: int) -> np.ndarray:
            batch = self.batches[step]
            for row in np.unique(batch):
                self.gradient.texts[row].sum()  # touches the pages of the memory-mapped file
            return batch

        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(read, min(self.state.step, self.total - 1))
            for step in range(self.state.step, self.total):
                started = time.perf_counter()
                batch = ahead.result()
                self.waited += time.perf_counter() - started
                ahead = pool.submit(read, min(step + 1, self.total - 1))
                yield step, batch

    def _step(self, step: int, batch: np.ndarray) -> None:
        loss = self.gradient.compute(step, batch)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM)
        self._read_loss()  # of the step before, which the device has finished: it need not wait
        self.monitor.watch(step, batch, loss, norm, bool(self.stop.name))
        self.optimizer.step()
        self.schedule.step()
        self.state.micro = self.gradient.micro

    def _read_loss(self) -> None:
        self.monitor.read(self.schedule.get_last_lr()[0])
        self.state.first_losses = self.monitor.first_losses

    def _must_stop(self) -> bool:
        """Whether a signal came; several processes stop together, after the step after it."""
        return bool(self.stop.name) if world() == 1 else self.monitor.stop

    def _evaluate(self, step: int) -> None:
        """Evaluate on the validation set, and save the weights if they are the best so far."""
        self._read_loss()
        metric = torch.zeros(1, device=self.model.device)
        if rank() == 0:
            metric += self.validation.evaluate(self.model, step)
            self.model.train()
        self.ndcg = float(add(metric))
        if self.ndcg > self.state.best:
            self.state.best, self.state.since_best = self.ndcg, 0
            if rank() > 0 or not self.keeps_best or self._write("best", {"model": self.model.state_dict()}):
                self.state.best_step = step
        else:
            self.state.since_best += 1

    def _save(self) -> bool:
        """Write a checkpoint; return whether that succeeded. A full disk costs the checkpoint, not the training."""
        self._read_loss()
        if rank() > 0:
            return True
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "state": asdict(self.state),
        }
        if not self._write("checkpoint", state):
            return False
        self.job.log.write("checkpoint", {"step": self.state.step, "seconds": self.state.seconds})
        with suppress(OSError):  # a full disk; it is written again at the end
            self.job.log.write_csv(self.job.work / "training.csv")
        checkpoints.prune(self.job.work, self.job.options.keep_checkpoints, self.state.best_step)
        return True

    def _save_last(self) -> bool:
        """Save the end of the training; wait for disk space, or all steps since the last checkpoint would be lost."""
        for _ in range(TRIES):
            if self._save():
                return True
            if self.stop.name:
                break
            self.job.log.warn(
                f"Free disk space for the last checkpoint. Trying again every {BETWEEN_TRIES:g} s; Ctrl-C gives up."
            )
            until = time.monotonic() + BETWEEN_TRIES
            while time.monotonic() < until and not self.stop.name:
                time.sleep(0.1)
        return False

    def _write(self, name: str, state: dict[str, Any]) -> bool:
        try:
            checkpoints.save(self.job.work, name, self.state.step, state)
        except OSError as error:
            newest = checkpoints.newest(self.job.work)
            self.job.log.warn(f"No checkpoint at step {self.state.step} ({error}); the newest is {newest}.")
            return False
        return True

    def _how_to_resume(self, saved: bool) -> str:
        if saved:
            return f"saved a checkpoint at step {self.state.step}. Add --resume to continue."
        newest = checkpoints.newest(self.job.work)
        return f"no checkpoint could be saved, the newest is {newest}. Free disk space and add --resume to continue."

    def _choose_weights(self) -> None:
        """Give the model the weights to save, averaged with the base model's if so chosen."""
        if rank() > 0:
            return  # the first process saves
        best = self.state.best_step
        if self.keeps_best and best and best != self.state.step:
            try:
                saved = checkpoints.load(self.job.work / f"best-{best:09d}.pt", self.model.device)
                self.model.load_state_dict(saved["model"])
                self.job.log.warn(f"Keeping the weights of step {best}, the best on the validation set.")
            except InputError as error:
                self.state.best_step = None
                self.job.log.warn(f"Keeping the last weights: {error}.")
        average(self.model, self.validation.base, self.job.hyperparameters.average)
