"""The steps of a training, with all that lets it run unattended.

Order, dropout and all else that is random are functions of the seed and the step, so a training that resumes from a
checkpoint takes the same steps as one that was never interrupted.
"""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from tqdm import tqdm
from transformers import get_linear_schedule_with_warmup

from ..common.cli import InputError, Interrupted
from ..common.distributed import add, check_the_same, rank, wait, world
from ..evaluation.held_out import HeldOut
from ..evaluation.metrics import quick
from ..evaluation.rankers import dense_ranker
from ..models.device import peak_memory_gb, return_freed_memory
from ..models.embed import encode_tokens
from ..models.tokens import join_texts, separator, token_ids
from . import checkpoints
from .batches import Batches
from .gradient import Gradient
from .log import Log, StopSignal
from .options import Hyperparameters, RunOptions

LEAST_QUERIES = 50  # to choose weights by; with fewer the choice would be chance
MAX_NORM = 1.0  # of a step's gradient, as in the stock trainer
EXPLODED = 10  # times the median loss of the first `BASELINE_STEPS` steps, or 10 if that is below 1
BASELINE_STEPS = 20
TRIM_STEPS = 20  # between two returns of freed memory, which take 1 % of the time (measured)
SAVE_RETRIES, RETRY_SECONDS = 60, 60  # of the last checkpoint, on a full disk
BAR = "{desc} {n_fmt}/{total_fmt} |{bar:12}| [{elapsed}<{remaining}]{postfix}"


@dataclass(frozen=True)
class Job:
    """A training with its working folder `work`, where checkpoints and log are written.

    `on_step` is called after each step with its number, from 0, and the model.
    """

    work: Path
    hyperparameters: Hyperparameters
    options: RunOptions
    log: Log
    on_step: Callable[[int, SentenceTransformer], object] = lambda step, model: None


@dataclass
class State:
    """What changes during training, besides weights and optimizer."""

    step: int = 0
    triplets: int = 0
    seconds: float = 0.0  # without evaluations and checkpoints
    waited: float = 0.0  # seconds of these without data
    loss: float = math.nan  # of the last step that was read
    ndcg: float = math.nan  # of the last evaluation
    best: float = -math.inf
    best_step: int | None = None
    since_best: int = 0
    evaluated: int = 0  # the last step that was
    micro: int = 0
    first_losses: list[float] = field(default_factory=list)


def average(model: SentenceTransformer, base: dict[str, Tensor], share: float) -> None:
    """Set the weights to `share` of their own and the rest of `base`'s (Wortsman et al. 2022, arXiv:2109.01903)."""
    if share < 1:
        own = model.state_dict()
        model.load_state_dict({k: base[k].lerp(v, share) if v.is_floating_point() else v for k, v in own.items()})


class Loop:
    """Trains a model, see `run`; and evaluates it on `held_out`, see `evaluate`."""

    def __init__(self, job: Job, gradient: Gradient, batches: Batches, held_out: HeldOut, ids: pd.Series) -> None:
        """`ids` (T,) are the patents of the rows in a batch, for messages."""
        self.job, self.gradient, self.batches, self.held_out, self.ids = job, gradient, batches, held_out, ids
        hyper, model = job.hyperparameters, gradient.model
        self.held_out_tokens = token_ids(model, join_texts(held_out.texts, separator(model)))
        self.base = deepcopy(model.state_dict()) if hyper.average < 1 else {}
        self.evaluation_seconds = 0.0  # of the last one
        self.total = math.ceil(batches.per_epoch * hyper.epochs)
        every = math.ceil(self.total / max(1, hyper.evaluations))
        self.evaluated = {*range(every, self.total, every), self.total} if hyper.evaluations else set()
        self.optimizer = torch.optim.AdamW(model.parameters(), hyper.lr, weight_decay=0, fused=True)
        warmup = math.ceil(self.total * hyper.warmup)
        self.schedule = get_linear_schedule_with_warmup(self.optimizer, warmup, self.total)
        self.state, self.stop = State(), StopSignal()
        self.can_choose = len(np.unique(held_out.pairs[:, 0])) >= LEAST_QUERIES
        self.keeps_best = hyper.keep == "best" and hyper.evaluations > 1 and self.can_choose
        self._unread: tuple[int, np.ndarray, Tensor, torch.cuda.Event | None] | None = None

    def resume(self) -> None:
        """Continue from the newest checkpoint in the working folder, if there is one."""
        saved = checkpoints.load_newest(self.job.work, self.gradient.model.device)
        check_the_same(saved["state"]["step"] if saved else -1, f"the newest checkpoint in {self.job.work}")
        if saved is None:
            return
        self.gradient.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        self.state = State(**saved["state"])
        self.gradient.micro = min(filter(None, (self.job.options.micro_batch, self.state.micro)), default=0)
        if self.gradient.micro:
            self.gradient.static = None

    def run(self) -> State:
        """Train to the end or until patience runs out; the model then has the weights to save.

        Raises `Interrupted` after a signal, and `InputError` when the loss diverges.
        """
        with self.stop.listening():
            try:
                self._take_steps()
            except KeyboardInterrupt:
                if not self.stop.name:
                    raise
            self._save_last()  # because what comes after training can fail, too
            wait()  # torchrun ends all processes when one has ended, so not while the first one writes
            if self.stop.everywhere or (self.stop.name and rank() == 0):
                newest = checkpoints.newest(self.job.work)
                raise Interrupted(f"the newest checkpoint is {newest}. Add --resume to continue.")
        share = self.state.waited / max(self.state.seconds, 1e-9)
        self.job.log.warn(f"Data loading took {share:.1%} of the time.")
        self._choose_weights()
        return self.state

    def _take_steps(self) -> None:
        state = self.state
        minutes, patience = self.job.options.checkpoint_minutes, self.job.hyperparameters.patience
        with tqdm(total=self.total, initial=state.step, desc="train", bar_format=BAR, disable=rank() > 0) as bar:
            mark = saved = time.perf_counter()
            if state.evaluated < state.step in self.evaluated:  # which was interrupted
                self._evaluate()
            for step, batch in self._feed():
                if 0 < patience <= state.since_best and self.can_choose:
                    self.job.log.warn(f"Stopping early: evaluations without a better nDCG@10: {state.since_best}.")
                    return
                self._step(step, batch)
                if step % TRIM_STEPS == 0:
                    return_freed_memory()
                self.job.on_step(step, self.gradient.model)
                state.step, state.triplets = step + 1, state.triplets + len(batch)
                state.seconds += time.perf_counter() - mark
                self._show(bar)
                if state.step in self.evaluated:
                    self._evaluate()
                if self.stop.everywhere or (self.stop.name and world() == 1):  # several stop together, a step later
                    return
                if 0 < minutes * 60 <= time.perf_counter() - saved:
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
                self.state.waited += time.perf_counter() - started
                ahead = pool.submit(read, min(step + 1, self.total - 1))
                yield step, batch

    def _step(self, step: int, batch: np.ndarray) -> None:
        with self.stop.interrupting():
            loss = self.gradient.compute(step, batch)
        norm = self._update()
        self._read_loss()  # of the step before, which the device has finished: it need not wait
        stop = torch.full_like(loss, float(bool(self.stop.name)))
        both = add(torch.stack([loss, stop]))  # so that all processes learn of a signal at the same step
        values = torch.cat([both, norm[None].to(both.device)])
        copied = torch.cuda.Event() if values.is_cuda else None
        self._unread = step, batch, values.to("cpu", non_blocking=True), copied  # on their way from the device
        if copied:
            copied.record()
        self.schedule.step()
        self.state.micro = self.gradient.micro

    def _update(self) -> Tensor:
        """Clip the gradient and update the weights; return the gradient's norm."""
        if static := self.gradient.static:
            try:
                return static.update(self.optimizer, self._clip)
            except torch.OutOfMemoryError:  # of AdamW's moments, which are allocated before a weight changes
                self.gradient.stop_graphs("out of memory")
        norm = self._clip()
        self.optimizer.step()
        return norm

    def _clip(self) -> Tensor:
        return torch.nn.utils.clip_grad_norm_(self.gradient.model.parameters(), MAX_NORM)

    def _read_loss(self) -> None:
        """Read and log the loss of the last step. Raises `InputError` if it is not finite or exploded."""
        if self._unread is None:
            return
        step, batch, values, copied = self._unread
        self._unread = None
        if copied:
            copied.synchronize()
        loss, stop, norm = values.tolist()
        self.state.loss, self.stop.everywhere = loss, stop > 0
        first = self.state.first_losses
        usual = max(1.0, float(np.median(first))) if first else math.inf
        if not (math.isfinite(loss) and math.isfinite(norm) and loss <= EXPLODED * usual):
            raise InputError(self._diverged(step, batch, norm))
        if len(first) < BASELINE_STEPS:
            first.append(loss)
        every = max(1, min(10, self.total // 50))
        if (step + 1) % every == 0 or step + 1 == self.total:
            lr = self.schedule.get_last_lr()[0]
            self.job.log.write("step", {"step": step + 1, "loss": loss, "lr": lr, "gradient norm": norm})

    def _diverged(self, step: int, batch: np.ndarray, norm: float) -> str:
        names = ", ".join("/".join(self.ids.iloc[triplet % len(self.ids)]) for triplet in batch[:16])
        names += f" and {len(batch) - 16} more" if len(batch) > 16 else ""
        return (
            f"Non-finite or exploding loss {self.state.loss:g} (gradient norm {norm:g}) at step {step + 1} "
            f"(triplets {names}). Inspect these patents or restart with a lower --lr. The last good checkpoint is "
            f"{checkpoints.newest(self.job.work) or 'not written yet'}."
        )

    def _show(self, bar: tqdm) -> None:
        """Move `bar` on, with what is known of loss and metric, triplets per second, and the peak memory."""
        values = {"loss": self.state.loss, "val nDCG@10": self.state.ndcg}
        shown = [f"{name} {value:.4f}" for name, value in values.items() if math.isfinite(value)]
        rate = self.state.triplets / max(self.state.seconds, 1e-9)
        bar.set_postfix_str(", ".join([*shown, f"{rate:.1f} triplets/s", f"{peak_memory_gb():.1f} GB"]), refresh=False)
        bar.update()

    def evaluate(self) -> float:
        """Log the metrics of the model as it would be saved now, averaged if so chosen; return nDCG@10."""
        model, started = self.gradient.model, time.perf_counter()
        own = deepcopy(model.state_dict()) if self.base else {}
        try:
            average(model, self.base, self.job.hyperparameters.average)
            metrics = quick(dense_ranker(self._embed_held_out()), self.held_out).values
        finally:
            if own:
                model.load_state_dict(own)
        self.job.log.write("val", {"step": self.state.step, **metrics})
        self.evaluation_seconds = time.perf_counter() - started
        return metrics["nDCG@10"]

    def _embed_held_out(self) -> np.ndarray:
        try:
            return encode_tokens(self.gradient.model, self.held_out_tokens)
        except InputError:  # out of memory
            if not self.gradient.static:
                raise
            self.gradient.stop_graphs("out of memory in an evaluation")
        return encode_tokens(self.gradient.model, self.held_out_tokens)

    def _evaluate(self) -> None:
        """Evaluate, and save the weights if they are the best so far."""
        self._read_loss()
        state, metric = self.state, torch.zeros(1, device=self.gradient.model.device)
        if rank() == 0:
            with self.stop.interrupting():
                metric += self.evaluate()
        state.ndcg = float(add(metric))
        state.evaluated, state.since_best = state.step, state.since_best + 1
        if state.ndcg > state.best:
            state.best, state.since_best = state.ndcg, 0
            if rank() > 0 or not self.keeps_best or self._write("best", {"model": self.gradient.model.state_dict()}):
                state.best_step = state.step

    def _save(self) -> bool:
        """Write a checkpoint; return whether that succeeded."""
        self._read_loss()
        if rank() > 0:
            return True
        parts = {"model": self.gradient.model, "optimizer": self.optimizer, "schedule": self.schedule}
        states = {name: part.state_dict() for name, part in parts.items()}
        if not self._write("checkpoint", {**states, "state": asdict(self.state)}):
            return False
        self.job.log.write("checkpoint", {"step": self.state.step, "seconds": self.state.seconds})
        checkpoints.prune(self.job.work, self.job.options.keep_checkpoints, self.state.best_step)
        return True

    def _write(self, name: str, state: dict[str, object]) -> bool:
        return checkpoints.save(self.job.work, name, self.state.step, state, self.job.log.warn)

    def _save_last(self) -> None:
        """Save the end of the training; wait for disk space, or all steps since the last checkpoint would be lost."""
        for _ in range(SAVE_RETRIES):
            if self._save() or self.stop.name or self.stop.everywhere:
                return
            self.job.log.warn(f"Free disk space. Trying again every {RETRY_SECONDS} s; Ctrl-C gives up.")
            for _ in range(RETRY_SECONDS):
                if not self.stop.name:
                    time.sleep(1)

    def _choose_weights(self) -> None:
        """Give the model the weights to save, averaged with the base model's if so chosen."""
        if rank() > 0:
            return  # the first process saves
        best = self.state.best_step
        if self.keeps_best and best and best != self.state.step:
            try:
                saved = checkpoints.load(self.job.work / f"best-{best:09d}.pt", self.gradient.model.device)
                self.gradient.model.load_state_dict(saved["model"])
                self.job.log.warn(f"Keeping the weights of step {best}, the best on the validation set.")
            except InputError as error:
                self.state.best_step = None
                self.job.log.warn(f"Keeping the last weights: {error}.")
        average(self.gradient.model, self.base, self.job.hyperparameters.average)
