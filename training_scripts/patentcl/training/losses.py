"""Training losses. To add one, write a subclass of `Loss` and enter it in `LOSSES`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from sentence_transformers.util import pairwise_euclidean_sim
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, relu

from ..models.device import to_device
from ..triplets.dataset import Dataset


class Loss(ABC):
    """A loss over a batch of triplets."""

    options: ClassVar[tuple[str, ...]]  # the fields of `Hyperparameters` that it takes
    is_mean: bool  # over triplets, so that micro-batches can be added up

    @classmethod
    def build(cls, data: Dataset, **options: float) -> Self:
        """Make the loss for training on `data`, with its `options`."""
        return cls(**options)

    def __call__(self, anchor: Tensor, positive: Tensor, negative: Tensor, rows: np.ndarray) -> Tensor:
        """The mean loss of a batch: three times embeddings (B, d), and their rows (B, 3) in the table of texts."""
        return self.value(anchor, positive, negative, *(to_device(mask, anchor.device) for mask in self.masks(rows)))

    def masks(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """What `value` must know of `rows` (B, 3), computed on the host; the shapes of the arrays depend on B only."""
        return ()

    @abstractmethod
    def value(self, anchor: Tensor, positive: Tensor, negative: Tensor, *masks: Tensor) -> Tensor:
        """The mean loss of embeddings (B, d), computed without waiting for the device, so that graphs can hold it."""


@dataclass
class TripletMargin(Loss):
    """max(0, |a - p| - |a - n| + margin) with Euclidean distances (Schroff et al. 2015, arXiv:1503.03832)."""

    margin: float  # by how much the negative should be further away than the positive
    options = ("margin",)
    is_mean = True

    def value(self, anchor: Tensor, positive: Tensor, negative: Tensor, *masks: Tensor) -> Tensor:
        """See `Loss`."""
        to_positive = pairwise_euclidean_sim(anchor, positive)  # minus the distance
        to_negative = pairwise_euclidean_sim(anchor, negative)
        return relu(to_negative - to_positive + self.margin).mean()


class Links:
    """Pairs of texts that are known to be related, so that neither may be a negative of the other."""

    def __init__(self, pairs: np.ndarray, family: np.ndarray) -> None:
        """Take `pairs` (L, 2) of linked rows, in any order, and the `family` (N,) of each row."""
        self.family = family
        self.keys = self._keys(*pairs.T)
        self.keys.sort()

    def between(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Whether each of `rows` (q,) is linked to, or of the family of, each of `others` (c,); (q, c)."""
        rows, others = rows % len(self.family), others % len(self.family)  # a view is linked like its patent
        keys = self._keys(rows[:, None], others)
        linked = np.searchsorted(self.keys, keys) < np.searchsorted(self.keys, keys, side="right")
        return linked | (self.family[rows][:, None] == self.family[others])

    def _keys(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """A number of each pair, whatever its direction."""
        return np.minimum(rows, others).astype(np.int64) * len(self.family) + np.maximum(rows, others)


@dataclass
class InBatchContrast(Loss):
    """Softmax over cosines: the anchor's positive against all positives and negatives of the batch (InfoNCE).

    van den Oord et al. 2018, arXiv:1807.03748, in both directions: each positive must also find its anchor among the
    anchors of the batch. Candidates that are linked to the anchor are masked, for they are positives as well.
    """

    links: Links
    scale: float  # 1 / temperature
    options = ("scale",)
    is_mean = False

    @classmethod
    def build(cls, data: Dataset, **options: float) -> Self:
        """See `Loss`. Every anchor is linked to its positives, also in held-out triplets."""
        pairs = data.triplets[["anchor", "positive"]].to_numpy()
        return cls(Links(pairs, data.texts["family"].to_numpy()), **options)

    def masks(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """See `Loss`. Candidate i is the target of query i, other linked candidates are masked: (B, 2 B) and (B, B)."""
        forwards = self.links.between(rows[:, 0], rows[:, 1:].T.ravel())
        backwards = self.links.between(rows[:, 1], rows[:, 0])
        for linked in (forwards, backwards):
            np.fill_diagonal(linked, False)
        return forwards, backwards

    def value(self, anchor: Tensor, positive: Tensor, negative: Tensor, *masks: Tensor) -> Tensor:
        """See `Loss`."""
        anchor, positive, negative = (normalize(column, dim=-1) for column in (anchor, positive, negative))
        scores = anchor @ torch.cat([positive, negative]).T, positive @ anchor.T
        target = torch.arange(len(anchor), device=anchor.device)
        forwards, backwards = (
            cross_entropy((cosines * self.scale).masked_fill(mask, -torch.inf), target)
            for cosines, mask in zip(scores, masks, strict=True)
        )
        return (forwards + backwards) / 2


class Nested(Loss):
    """A loss of vectors that can be cut (Kusupati et al. 2022, arXiv:2205.13147); MatryoshkaLoss of the library."""

    def __init__(self, loss: Loss, dimensions: Sequence[int]) -> None:
        """Add up `loss` over the first d components of the embeddings, scaled to length 1, for each of `dimensions`."""
        self.loss, self.dimensions, self.is_mean = loss, dimensions, loss.is_mean

    def masks(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """See `Loss`."""
        return self.loss.masks(rows)

    def value(self, anchor: Tensor, positive: Tensor, negative: Tensor, *masks: Tensor) -> Tensor:
        """See `Loss`."""
        cut = [[normalize(part[:, :d], dim=-1) for part in (anchor, positive, negative)] for d in self.dimensions]
        return torch.stack([self.loss.value(a, p, n, *masks) for a, p, n in cut]).sum()


LOSSES: dict[str, type[Loss]] = {"triplet": TripletMargin, "contrast": InBatchContrast}
