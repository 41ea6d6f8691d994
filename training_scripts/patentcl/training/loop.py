"""The steps of a training, one after the other, with all that keeps it safe when nobody watches.

Order, dropout and all else that is random are functions of the seed and the step, so a training that goes on from a
checkpoint takes the same steps as one that was never stopped.
"""

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import get_linear_schedule_with_warmup

from ..common.cli import InputError, Interrupted
from ..common.distributed import add, check_the_same, rank, wait, world
from ..evaluation.held_out import HeldOut
from ..evaluation.metrics import quick
from ..evaluation.rankers import dense_ranker
from ..models.embed import encode
from . import checkpoints
from .batches import Batches
from .forecast import forecast
from .gradient import Steps
from .log import LiveLine, Log, StopSignal
from .recipes import Running, Training

LARGEST_NORM = 1.0  # of a step's gradient, as in the stock trainer
LEAST_QUERIES = 50  # of val, to choose weights by; with fewer the choice would be chance
TRIES, BETWEEN_TRIES = 60, 60.0  # seconds; how often the last checkpoint is tried on a full disk
EXPLODED = 10  # times the median loss of the first steps, or 10 where that is below 1


def average(model: SentenceTransformer, base: dict[str, Tensor], share: float) -> None:
    """Set the model's weights to `share` of their own and the rest of `base`'s; share 1 leaves them as they are."""
    if share < 1:
        own = model.state_dict()
        model.load_state_dict(
            {k: torch.lerp(base[k], v, share) if v.is_floating_point() else v for k, v in own.items()}
        )


class Validation:
    """Evaluates on the val split what would be saved."""

    def __init__(self, on: HeldOut, model: SentenceTransformer, training: Training, log: Log) -> None:
        """Keep the base's weights if the trained ones will be averaged with them."""
        self.on, self.training, self.log = on, training, log
        self.base = {k: v.clone() for k, v in model.state_dict().items()} if training.average < 1 else {}
        self.seconds = math.nan  # of the last evaluation
        self.test_texts = 0  # of the one at the end

    def note(self, step: int, embeddings: np.ndarray) -> float:
        """Write the figures of `embeddings` down; return nDCG@10."""
        figures = quick(dense_ranker(embeddings), self.on).values
        self.log.write("val", {"step": step, **figures})
        return figures["nDCG@10"]

    def can_choose(self) -> bool:
        """Whether val has enough queries to choose weights by."""
        return len(np.unique(self.on.pairs[:, 0])) >= LEAST_QUERIES

    def of(self, model: SentenceTransformer, step: int) -> float:
        """The nDCG@10 of the model as it would be saved now: averaged, if that is asked for."""
        started = time.perf_counter()
        own = {k: v.clone() for k, v in model.state_dict().items()} if self.base else {}
        average(model, self.base, self.training.average)
        found = self.note(step, encode(model, self.on.texts))
        if own:
            model.load_state_dict(own)
        self.seconds = time.perf_counter() - started
        return found

    def seconds_after(self, step: int, steps: int) -> float:
        """Seconds of the evaluations after `step`, the one on test with them; not a number if none was timed."""
        every = self._every(steps)
        left = -(-steps // every) - step // every if self.training.evaluations else 0
        return self.seconds * (left + self.test_texts / max(1, len(self.on.texts)))

    def _every(self, steps: int) -> int:
        return -(-steps // max(1, self.training.evaluations))

    def is_due(self, step: int, steps: int) -> bool:
        """Whether to evaluate after `step`; after the last one always, unless never."""
        every = self._every(steps)
        return self.training.evaluations > 0 and (step % every == 0 or step == steps)


@dataclass
class State:
    """What changes while a training runs, besides weights and optimizer."""

    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    best_step: int | None = None
    since_best: int = 0
    micro: int = 0
    first_losses: list[float] = field(default_factory=list)


class Loop:
    """The steps of a training, one after the other, with all that keeps it safe when nobody watches."""

    def __init__(
        self,
        model: SentenceTransformer,
        batches: Batches,
        steps: Steps,
        training: Training,
        running: Running,
        val: Validation,
        work: Path,
        ids: list[str],
    ) -> None:
        """Make the optimizer, and go on from the newest checkpoint if there is one."""
        self.model, self.batches, self.steps = model, batches, steps
        self.training, self.running, self.work, self.ids = training, running, work, ids
        self.val, self.log = val, val.log
        self.total = batches.steps(training.epochs)
        self.optimizer = torch.optim.AdamW(model.parameters(), training.lr, weight_decay=0, fused=True)
        warmup = math.ceil(self.total * training.warmup)
        self.schedule = get_linear_schedule_with_warmup(self.optimizer, warmup, self.total)
        self.state, self.stop = State(), StopSignal()
        self.unread: tuple[int, np.ndarray, Tensor, torch.cuda.Event | None] | None = None  # the last step's loss
        self.waited, self.last_loss, self.asked_to_stop = 0.0, math.nan, False
        self.keeps_best = training.keep == "best" and training.evaluations > 1 and val.can_choose()
        self._restore()
        self.before = self.state.seconds  # of earlier processes

    def run(self) -> State:
        """Train to the end, or until a signal comes or patience is at its end; the model has the weights to keep."""
        if self.state.step < self.total:  # on every process, for they add their gradients there, too
            later = self.val.seconds_after(self.state.step, self.total)
            forecast(self.steps, self.batches, self.state.step, self.total, later, self.running.profile)
        line = LiveLine(self.total, self.state.step, self.batches.seen)
        line.val = next((p["nDCG@10"] for p in reversed(self.log.read("val"))), math.nan)
        with closing(line), self.stop.listening():
            self._take_steps(line)
            self._read_loss()
            saved = self._save_last()  # what comes after training can fail, too
            if self.stop.name and rank() == 0:
                raise Interrupted(self._how_to_go_on(saved))
        share = self.waited / max(self.state.seconds - self.before, 1e-9)
        self.log.say(f"a share of {share:.1%} of the time was waiting for data")
        self._take_weights()
        return self.state

    def _take_steps(self, line: LiveLine) -> None:
        mark = saved = time.perf_counter()
        for step, batch in self._feed():
            if self._is_out_of_patience():
                self.log.say(f"no better val nDCG@10 in {self.state.since_best} evaluations: stops early")
                return
            self._step(step, batch)
            self.state.step, self.state.seconds = step + 1, self.state.seconds + time.perf_counter() - mark
            line.loss = self.last_loss
            line.show(step + 1)
            if self.val.is_due(step + 1, self.total):
                line.val = self._evaluate(step + 1, line)
            if self.stopping():
                saved_it = self._save()
                wait()  # torchrun ends all when one has ended: not while the first one writes
                raise Interrupted(self._how_to_go_on(saved_it))
            if 0 < self.running.checkpoint_minutes * 60 <= time.perf_counter() - saved:
                self._save()
                saved = time.perf_counter()
            mark = time.perf_counter()

    def _save_last(self) -> bool:
        """Save the end of the training; wait for space, for without it all steps since the last checkpoint are lost."""
        for _ in range(TRIES):
            if self._save():
                return True
            if self.stop.name:
                break
            self.log.say(f"free space for the last checkpoint: tries again every {BETWEEN_TRIES:g} s; Ctrl-C gives up")
            until = time.monotonic() + BETWEEN_TRIES
            while time.monotonic() < until and not self.stop.name:
                time.sleep(0.1)
        return False

    def _is_out_of_patience(self) -> bool:
        return 0 < self.training.patience <= self.state.since_best and self.val.can_choose()

    def _feed(self) -> Iterator[tuple[int, np.ndarray]]:
        """The batches that are left, each read from disk while the one before is computed."""

        def ready(step: int) -> np.ndarray:
            batch = self.batches[step]
            for row in np.unique(batch):
                self.steps.texts[row].sum()  # touches the pages of the memory-mapped file
            return batch

        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(ready, self.state.step) if self.state.step < self.total else None
            for step in range(self.state.step, self.total):
                assert ahead is not None
                started = time.perf_counter()
                batch = ahead.result()
                self.waited += time.perf_counter() - started
                if step + 1 < self.total:
                    ahead = pool.submit(ready, step + 1)
                yield step, batch

    def _step(self, step: int, batch: np.ndarray) -> None:
        loss = self.steps.gradient(step, batch)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_NORM)
        self._read_loss()  # of the step before, which the device has ended: it need not wait for us
        both = torch.stack([loss, torch.zeros_like(loss) + float(bool(self.stop.name))])
        values = torch.cat([add(both), norm[None].to(both.device)])
        there = torch.cuda.Event() if values.is_cuda else None
        self.unread = (step, batch, values.to("cpu", non_blocking=True), there)
        if there:
            there.record()
        self.optimizer.step()
        self.schedule.step()
        self.state.micro = self.steps.micro

    def _read_loss(self) -> None:
        """Write the last loss down; stop if it is no number, or far above the first ones."""
        if self.unread is None:
            return
        step, batch, values, there = self.unread
        self.unread = None
        if there:
            there.synchronize()
        loss, stop, norm = values.tolist()
        self.last_loss = loss
        self.asked_to_stop = stop > 0
        first = self.state.first_losses
        usual = max(1.0, float(np.median(first))) if first else math.inf
        if not math.isfinite(loss) or not math.isfinite(norm) or loss > EXPLODED * usual:
            self._give_up(step, batch, loss, norm)
        if len(first) < 20:
            first.append(loss)
        every = max(1, min(10, self.total // 50))
        if (step + 1) % every == 0 or step + 1 == self.total:
            rate = self.schedule.get_last_lr()[0]
            self.log.write("step", {"step": step + 1, "loss": loss, "lr": rate, "gradient norm": norm})

    def _give_up(self, step: int, batch: np.ndarray, loss: float, norm: float) -> None:
        last = checkpoints.newest(self.work)
        names = ", ".join("/".join(self.ids[row] for row in triplet) for triplet in batch[:16])
        names += f" and {len(batch) - 16} more" if len(batch) > 16 else ""
        raise InputError(
            f"the loss became {loss:g} (gradient {norm:g}) in step {step + 1}, triplets {names}: look at these "
            f"patents, or start anew with a lower --lr; the last good checkpoint is {last or 'not written yet'}"
        )

    def stopping(self) -> bool:
        """Whether a signal has come; of several processes all stop after the same step."""
        if world() == 1:
            return bool(self.stop.name)
        self._read_loss()
        return self.asked_to_stop

    def _evaluate(self, step: int, line: LiveLine) -> float:
        """Evaluate on val, keep the weights if they are the best so far."""
        started = time.perf_counter()
        self._read_loss()
        found = torch.zeros(1, device=self.model.device)
        if rank() == 0:
            found += self.val.of(self.model, step)
            self.model.train()
        value = float(add(found))
        if value > self.state.best:
            self.state.best, self.state.since_best = value, 0
            if rank() > 0 or not self.keeps_best or self._write("best", {"model": self.model.state_dict()}):
                self.state.best_step = step
        else:
            self.state.since_best += 1
        line.pause(time.perf_counter() - started)
        return value

    def _how_to_go_on(self, saved: bool) -> str:
        if saved:
            return f"saved a checkpoint at step {self.state.step}: add --resume to go on"
        newest = checkpoints.newest(self.work)
        there_is = f"the newest is {newest}" if newest else "and there is none"
        return f"no checkpoint could be saved, {there_is}: free space, and add --resume to go on"

    def _save(self) -> bool:
        """Write a checkpoint, return whether that went well; a full disk costs the checkpoint, not the training."""
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
        self.log.write("checkpoint", {"step": self.state.step, "seconds": self.state.seconds})
        with suppress(OSError):  # a full disk; it is written again at the end
            self.log.write_csv(self.work / "training.csv")
        checkpoints.prune(self.work, self.running.keep_checkpoints, self.state.best_step)
        return True

    def _write(self, name: str, state: dict[str, Any]) -> bool:
        try:
            checkpoints.save(self.work, name, self.state.step, state)
        except OSError as problem:
            last = checkpoints.newest(self.work)
            self.log.say(f"no checkpoint at step {self.state.step}: {problem}; goes on, the newest is {last}")
            return False
        return True

    def _restore(self) -> None:
        found = checkpoints.load_newest(self.work, self.model.device)
        check_the_same(-1 if found is None else found[1]["state"]["step"], f"the newest checkpoint in {self.work}")
        if found is None:
            return
        newest, saved = found
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        self.state = State(**saved["state"])
        self.steps.micro = min(filter(None, (self.running.micro_batch, self.state.micro)), default=0)
        self.log.forget_after(self.state.step)
        print(f"training: goes on from {newest}")

    def _take_weights(self) -> None:
        """Give the model the weights that are kept, averaged with the base's if that is asked for."""
        if rank() > 0:
            return  # the first one saves
        best = self.state.best_step
        if self.keeps_best and best and best != self.state.step:
            try:
                saved = checkpoints.load(self.work / f"best-{best:09d}.pt", self.model.device)
                self.model.load_state_dict(saved["model"])
                self.log.say(f"keeps the weights of step {best}, the best on val")
            except InputError as damaged:
                self.state.best_step = None
                self.log.say(f"keeps the last weights, for the best on val cannot be read: {damaged}")
        average(self.model, self.val.base, self.training.average)
