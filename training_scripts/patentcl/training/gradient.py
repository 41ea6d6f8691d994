"""The gradient of a batch of triplets, however large the batch is and however many processes share it.

A text that occurs twice in the batch is embedded once. A loss that is a mean over triplets is accumulated over
micro-batches. One that compares all texts of the batch needs all embeddings at once: they are computed without a graph,
and again, part by part, when their gradients are known (GradCache: Gao et al. 2021, https://arxiv.org/abs/2101.06983).
Either way, the result is the gradient of the complete batch.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.profiler import record_function

from ..common.cli import InputError, first_line
from ..common.distributed import add, add_gradients, gather_rows, rank, world
from ..models import graphs
from ..models.device import autocast, out_of_memory_translated, to_device
from ..models.packing import STATIC, difference, embed_packed, packing_of
from .batches import Batches
from .losses import Loss
from .static_steps import StaticSteps


def set_dropout(model: SentenceTransformer, share: float) -> None:
    """Let every layer drop `share` of its activations while training. 0 saves 40 % of a step on a CPU (measured)."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share


@dataclass
class Gradient:
    """Computes gradients of `loss` over `texts` (token ids); `micro` triplets are in memory at a time (0: all).

    `micro` shrinks when memory runs out. Dropout is a function of `seed`, step, process and part of the batch.
    """

    model: SentenceTransformer
    texts: Sequence[np.ndarray]
    loss: Loss
    seed: int
    backend: str = "sdpa"
    micro: int = 0
    warn: Callable[[str], None] = print
    static: StaticSteps | None = None

    def use_graphs(self, batches: Batches, lengths: np.ndarray, compiled: bool = False) -> None:
        """Compute in static shapes, from CUDA graphs, if that is possible; else `warn` of what prevents it.

        The shapes follow from the `lengths` (T,) of all texts in `batches`. `compiled` layers take minutes to start.
        """
        if self.model.device.type not in graphs.DEVICES:
            return
        if obstacle := self._obstacle():
            self.warn(f"Training without CUDA graphs: {obstacle}.")
            return
        if compiled:
            packing_of(self.model).compile_layers(self.model)
        backend = STATIC[self.backend]
        self.static = StaticSteps(self.model, self.texts, self.loss, backend, batches, lengths, self.warn)

    def _obstacle(self) -> str:
        if world() > 1:
            return "several processes train together"
        if self.micro:
            return "a micro-batch was chosen"
        if any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in self.model.modules()):
            return "a graph would repeat the same dropout; pass --dropout 0"
        if self.backend not in STATIC:
            return "the texts of this model are padded"
        return difference(self.model, STATIC[self.backend])

    def compute(self, step: int, batch: np.ndarray) -> Tensor:
        """Set the parameters' gradients for `batch` (B, 3), rows of texts; return its mean loss, without a graph.

        Raises `InputError` when not even one triplet fits into memory.
        """
        loss = self._static(batch) if self.static and not self.micro else None
        if loss is not None:
            return loss
        while loss is None:
            self.model.zero_grad()
            with suppress(torch.OutOfMemoryError), out_of_memory_translated():
                loss = self._accumulated(step, batch) if self.loss.is_mean else self._cached(step, batch)
            if loss is None:  # the memory was freed with the traceback
                self._halve(len(batch))
        add_gradients(self.model)
        return loss

    def _static(self, batch: np.ndarray) -> Tensor | None:
        try:
            return self.static.compute(batch) if self.static else None
        except RuntimeError as error:  # CUDA's, of what cannot be captured, or out of memory
            self.stop_graphs(first_line(error))
            return None

    def stop_graphs(self, why: str) -> None:
        """Compute as usual from now on; the allocator frees the graphs' memory when it is needed."""
        self.warn(f"Continuing without CUDA graphs ({why}).")
        self.static = None

    def _halve(self, batch_size: int) -> None:
        share = math.ceil(batch_size / world())
        now = min(self.micro or share, share)
        if now == 1:
            raise InputError("Out of memory with one triplet. Restart with a smaller --max-length or a smaller model.")
        self.micro, self.static = now // 2, None  # graphs hold memory, and the shape of a complete batch
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.warn(
            f"Out of memory: the micro-batch is halved to {self.micro}; the effective batch size is still {batch_size}."
        )

    def _accumulated(self, step: int, batch: np.ndarray) -> Tensor:
        share = batch[rank() :: world()]
        size = self.micro or max(1, len(share))
        total = torch.zeros((), device=self.model.device)
        for number, start in enumerate(range(0, len(share), size)):
            part = share[start : start + size]
            rows, places = np.unique(part, return_inverse=True)
            embeddings = self._embed(step, number, rows)
            loss = self._loss(embeddings, places.reshape(part.shape), part) * (len(part) / len(batch))
            with record_function("backward"):
                loss.backward()
            total += loss.detach()
        return total

    def _cached(self, step: int, batch: np.ndarray) -> Tensor:
        rows, places = np.unique(batch, return_inverse=True)
        share = rows[rank() :: world()]
        most = 3 * self.micro if 0 < self.micro < len(batch) else max(1, len(share))
        parts = [share[start : start + most] for start in range(0, len(share), most)]
        once = len(parts) == 1
        with torch.set_grad_enabled(once), self._failing_together():
            embedded = [self._embed(step, number, part) for number, part in enumerate(parts)]
        none = torch.zeros(0, self.model.get_embedding_dimension() or 0, device=self.model.device)
        embeddings = gather_rows(torch.cat([none, *embedded]).detach(), len(rows)).requires_grad_()
        with self._failing_together():
            loss = self._loss(embeddings, places.reshape(batch.shape), batch)
            loss.backward()
            assert embeddings.grad is not None
            grads = embeddings.grad[rank() :: world()].split(most) if parts else ()
            for number, (part, grad) in enumerate(zip(parts, grads, strict=True)):
                again = embedded[0] if once else self._embed(step, number, part)
                with record_function("backward"):
                    again.backward(grad)
        return loss.detach() / world()  # all processes have the same one, and they are added

    @contextmanager
    def _failing_together(self) -> Iterator[None]:
        """Raise `OutOfMemoryError` on every process if any ran out of memory, because they meet again after this."""
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

    def _embed(self, step: int, part: int, rows: np.ndarray) -> Tensor:
        state = np.random.SeedSequence([self.seed, step, rank(), part]).generate_state(1)
        torch.manual_seed(int(state[0]))  # so that dropout can be repeated
        with record_function("forward"), autocast(self.model):
            return embed_packed(self.model, [self.texts[row] for row in rows], self.backend).float()

    def _loss(self, embeddings: Tensor, places: np.ndarray, rows: np.ndarray) -> Tensor:
        anchor, positive, negative = (embeddings.index_select(0, c) for c in to_device(places.T, embeddings.device))
        return self.loss(anchor, positive, negative, rows)
