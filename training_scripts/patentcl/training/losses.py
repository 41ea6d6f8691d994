"""What a training minimises.

A loss gets the embeddings of anchors, positives and negatives, and as `labels` (B, 3) their rows in the table of texts.
"""

from typing import Any

import numpy as np
import torch
from sentence_transformers.sentence_transformer.losses import TripletLoss
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from ..models.device import to_device


def is_mean_over_triplets(loss: Any) -> bool:
    """Whether a batch's loss is the mean of its triplets' own, so that parts of a batch can be added up."""
    return isinstance(loss, TripletLoss)


class Links:
    """Which texts are known to belong together, so that neither may serve as the other's negative."""

    def __init__(self, pairs: np.ndarray, family: np.ndarray) -> None:
        """Keep `pairs` (L, 2) of rows that are linked, whichever comes first, and the `family` (N,) of each row."""
        self.family = family
        both = np.concatenate([pairs, pairs[:, ::-1]])
        self.keys = np.unique(both[:, 0] * len(family) + both[:, 1])

    def between(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Whether each of `rows` (q,) is linked to, or of one family with, each of `others` (c,); (q, c)."""
        keys = rows[:, None] * len(self.family) + others
        places = np.minimum(np.searchsorted(self.keys, keys), max(len(self.keys) - 1, 0))
        linked = self.keys[places] == keys if len(self.keys) else np.zeros(keys.shape, bool)
        return linked | (self.family[rows][:, None] == self.family[others])


class InBatchContrast(nn.Module):
    """Softmax over cosines: the anchor's positive against all positives and negatives of the batch (InfoNCE).

    van den Oord et al. 2018, https://arxiv.org/abs/1807.03748, in both directions: each positive must find its anchor
    among the batch's anchors too. Candidates that are `links` of the anchor are left out: they are positives that
    happen to stand in the batch. `scale` is the inverse of the temperature.
    """

    def __init__(self, links: Links, scale: float) -> None:
        """Keep what is known to belong together."""
        super().__init__()
        self.links, self.scale = links, scale

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        """Mean loss of a batch of embeddings (B, d) of anchors, positives and negatives."""
        anchor, positive, negative = (normalize(column, dim=-1) for column in embeddings)
        rows = labels.cpu().numpy()
        forwards = self._scores(anchor, torch.cat([positive, negative]), rows[:, 0], rows[:, 1:].T.ravel())
        backwards = self._scores(positive, anchor, rows[:, 1], rows[:, 0])
        own = torch.arange(len(anchor), device=anchor.device)
        return (cross_entropy(forwards, own) + cross_entropy(backwards, own)) / 2

    def _scores(self, queries: Tensor, candidates: Tensor, rows: np.ndarray, others: np.ndarray) -> Tensor:
        """Scaled cosines (B, C); candidate i is query i's own, and other links of it are masked."""
        linked = self.links.between(rows, others)
        np.fill_diagonal(linked, False)
        masked = to_device(linked, queries.device)
        return (queries @ candidates.T * self.scale).masked_fill(masked, -torch.inf)
