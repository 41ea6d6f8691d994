"""One step of a training: the gradient of a batch of triplets, however large it is and however many processes share it.

A text that stands twice in the batch is embedded once. A loss that is a mean over triplets is accumulated over
micro-batches. One that sets all texts of the batch against each other needs all vectors at once: they are embedded
without a graph, and once more, part by part, when their gradients are known (GradCache: Gao et al. 2021,
https://arxiv.org/abs/2101.06983). Either way, the gradient is that of the whole batch.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from ..common.cli import InputError
from ..common.distributed import add, add_gradients, gather_rows, rank, world
from ..models.device import autocast, out_of_memory_translated, to_device
from ..models.packing import embed_packed
from .losses import is_mean_over_triplets


def set_dropout(model: SentenceTransformer, share: float) -> None:
    """Let every layer drop `share` of its activations while training. 0 saves 40 % of a step on a CPU (measured)."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share


@dataclass
class Steps:
    """Computes gradients; `micro` is how many triplets are in memory at a time, and shrinks when that is too many."""

    model: SentenceTransformer
    texts: Sequence[np.ndarray]
    loss: Any
    seed: int
    way: str = "sdpa"
    micro: int = 0
    say: Callable[[str], None] = print
    seconds: dict[str, float] = field(default_factory=lambda: {"forward": 0.0, "backward": 0.0})
    timed: bool = False

    def gradient(self, step: int, batch: np.ndarray) -> Tensor:
        """Set the parameters' gradients for `batch` (B, 3), rows of texts; return its mean loss, without a graph."""
        separable = is_mean_over_triplets(self.loss)
        while True:
            self.model.zero_grad()
            self._part = 0
            with (
                suppress(torch.OutOfMemoryError),
                out_of_memory_translated(),
            ):  # its memory is free when its traceback is gone
                loss = self._accumulated(step, batch) if separable else self._cached(step, batch)
                break
            self._halve(math.ceil(len(batch) / world()), len(batch))
        add_gradients(self.model)
        return loss

    def _halve(self, most: int, batch_size: int) -> None:
        """Take half as many triplets at a time; `most` is a process' share of the batch."""
        now = min(self.micro or most, most)
        if now == 1:
            raise InputError(
                "out of memory with 1 triplet at a time: start anew with a smaller --max-length, or a smaller model"
            )
        self.micro = now // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.say(f"out of memory: from here on {self.micro} triplets at a time; the batch stays {batch_size}")

    def _accumulated(self, step: int, batch: np.ndarray) -> Tensor:
        own = batch[rank() :: world()]
        total = torch.zeros((), device=self.model.device)
        for start in range(0, len(own), self.micro or max(1, len(own))):
            part = own[start : start + self.micro] if self.micro else own
            rows, places = np.unique(part, return_inverse=True)
            vectors = self._embed(step, rows)
            loss = self._value(vectors, places.reshape(part.shape), part) * (len(part) / len(batch))
            self._backward(loss)
            total += loss.detach()
        return total

    def _cached(self, step: int, batch: np.ndarray) -> Tensor:
        rows, places = np.unique(batch, return_inverse=True)
        own = rows[rank() :: world()]
        most = 3 * self.micro if 0 < self.micro < len(batch) else max(1, len(own))
        parts = [own[start : start + most] for start in range(0, len(own), most)]
        once = len(parts) == 1
        with torch.set_grad_enabled(once), self._on_all():
            embedded = [self._embed(step, part) for part in parts]
        none = torch.zeros(0, self.model.get_embedding_dimension() or 0, device=self.model.device)
        vectors = gather_rows(torch.cat([none, *embedded]).detach(), len(rows)).requires_grad_()
        with self._on_all():
            loss = self._value(vectors, places.reshape(batch.shape), batch)
            loss.backward()
            assert vectors.grad is not None
            self._part = 0
            grads = vectors.grad[rank() :: world()].split(most) if parts else ()
            for part, grad in zip(parts, grads, strict=True):
                again = embedded[0] if once else self._embed(step, part)
                self._backward(again, grad)
        return loss.detach() / world()  # all have the same one, and they are added

    @contextmanager
    def _on_all(self) -> Iterator[None]:
        """Where memory is not enough on one process, raise that on all: they meet again after this."""
        failed = False
        try:
            with out_of_memory_translated():
                yield
        except torch.OutOfMemoryError:
            failed = True
        if world() > 1:
            failed = bool(add(torch.tensor(float(failed), device=self.model.device)))
        if failed:
            raise torch.OutOfMemoryError("on this process or another one")

    def _embed(self, step: int, rows: np.ndarray) -> Tensor:
        """Embed texts; dropout is a function of seed, step, process and part, so that it can be repeated."""
        started = self._now()
        torch.manual_seed(int(np.random.SeedSequence([self.seed, step, rank(), self._part]).generate_state(1)[0]))
        self._part += 1
        with autocast(self.model):
            vectors = embed_packed(self.model, [self.texts[row] for row in rows], self.way)
        self.seconds["forward"] += self._now() - started
        return vectors.float()

    def _value(self, vectors: Tensor, places: np.ndarray, rows: np.ndarray) -> Tensor:
        columns = [vectors.index_select(0, column) for column in to_device(places.T, vectors.device)]
        value: Tensor = self.loss.compute_loss_from_embeddings(columns, torch.from_numpy(rows))
        return value

    def _backward(self, result: Tensor, grad: Tensor | None = None) -> None:
        started = self._now()
        result.backward(grad)
        self.seconds["backward"] += self._now() - started

    def _now(self) -> float:
        """The time when the device has done all that it was told to, if steps are timed; else of no meaning."""
        if self.timed and torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() if self.timed else 0.0
