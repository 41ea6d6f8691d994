"""Steps in static shapes, which a GPU replays from CUDA graphs: see `models/static.py` and `models/graphs.py`.

One graph for each shape holds forward pass, loss and backward pass; one for all shapes clips the gradient and updates
the weights. The mathematics is that of `Gradient`: a text that occurs twice in a batch is embedded once, and of the
embeddings of dummy texts the loss reads none.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from ..common.cli import first_line
from ..models.device import autocast, out_of_memory_translated, to_device
from ..models.graphs import WARM_UP, Graphs, NotRecorded
from ..models.packing import embed_static
from ..models.static import Static, shapes_for, smallest
from .batches import Batches
from .losses import Loss

SAMPLE = 128  # steps whose lengths decide the shapes, of the first epoch or so many steps


class StaticSteps:
    """Computes gradients and updates in static shapes."""

    def __init__(
        self,
        model: SentenceTransformer,
        texts: Sequence[np.ndarray],
        loss: Loss,
        backend: str,
        batches: Batches,
        lengths: np.ndarray,
        warn: Callable[[str], None] = print,
    ) -> None:
        """Choose the shapes by the `lengths` (T,) of `texts`, in tokens; `backend` is "rows" or "flex"."""
        self.model, self.texts, self.loss, self.warn = model, texts, loss, warn
        size, device, longest = batches.batch_size, model.device, int(lengths.max())
        steps = np.unique(np.linspace(0, max(batches.per_epoch, SAMPLE) - 1, SAMPLE).astype(int)).tolist()
        sample = [lengths[np.unique(batches[step])] for step in steps if len(batches[step]) == size]
        width, counts = shapes_for(sample, longest) if sample else (0, [])
        self.statics = [Static(rows, width, 3 * size, longest, backend, device) for rows in counts]
        self.places = torch.zeros(3, size, dtype=torch.long, device=device)
        self.masks = [to_device(mask, device).clone() for mask in loss.masks(np.zeros((size, 3), int))]
        self.graphs, self.lr = Graphs(device), torch.zeros((), device=device)
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.gradients = [torch.zeros_like(parameter) for parameter in self.trained]
        self.is_set = False  # whether the parameters' gradients are `gradients`

    def compute(self, batch: np.ndarray) -> Tensor | None:
        """Set the parameters' gradients for `batch` (B, 3); return its loss, or None if it has no static shape."""
        rows, places = np.unique(batch, return_inverse=True)
        texts = [self.texts[row] for row in rows]
        static = smallest(self.statics, np.array([len(text) for text in texts]))
        self.is_set = static is not None and batch.T.shape == self.places.shape
        if not static or not self.is_set:
            return None
        static.fill(texts)
        self.places.copy_(to_device(places.reshape(batch.shape).T.copy(), self.places.device))
        for mask, now in zip(self.masks, self.loss.masks(batch), strict=True):
            mask.copy_(to_device(now, mask.device))
        with out_of_memory_translated():
            if not self.graphs.calls:
                self._record_all()
            loss = self.graphs.run(static, partial(self._gradient, static)).clone()  # which other graphs may overwrite
        for parameter, gradient in zip(self.trained, self.gradients, strict=True):
            parameter.grad = gradient
        return loss

    def _record_all(self) -> None:
        """Record all shapes, the largest first: they share memory, and a smaller one fits into that of a larger."""
        for _ in range(WARM_UP + 1):
            for static in reversed(self.statics):
                self.graphs.run(static, partial(self._gradient, static))

    def _gradient(self, static: Static) -> Tensor:
        with autocast(self.model):
            embeddings = embed_static(self.model, static).float()
        loss = self.loss.value(*(embeddings.index_select(0, column) for column in self.places), *self.masks)
        # some models have a pooler that is not used
        torch._foreach_copy_(self.gradients, torch.autograd.grad(loss, self.trained, materialize_grads=True))
        return loss.detach()

    def update(self, optimizer: torch.optim.Optimizer, clip: Callable[[], Tensor]) -> Tensor:
        """Call `clip` and take a step; return the norm that `clip` returns. The learning rate is read on the device."""
        (group,) = optimizer.param_groups
        rate = group["lr"]
        self.lr.fill_(rate)

        def clip_and_step() -> Tensor:
            group["capturable"] = self.lr.is_cuda and torch.cuda.is_current_stream_capturing()
            norm = clip()
            optimizer.step()
            return norm

        group["lr"] = self.lr
        try:
            return self.graphs.run("update", clip_and_step) if self.is_set else clip_and_step()
        except NotRecorded as error:  # only the gradient's graph gains much time
            self.warn(f"Updating the weights without a CUDA graph ({first_line(error)}).")
            self.graphs.replays["update"] = clip_and_step
            return clip_and_step()
        finally:
            group.update(lr=rate, capturable=False)
