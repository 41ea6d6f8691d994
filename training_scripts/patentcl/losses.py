"""What a training minimises, and how a batch of triplets is embedded for it.

Batches come as the library's losses take them: the tokens of anchors, positives and negatives, and as `labels` (B, 3)
their rows in the table of texts.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, pad

GROUPS = 3  # of texts of similar length in a step; more of them cost more in overhead than they save in padding


class ByLength(nn.Module):
    """Another loss of triplets, the texts of a step embedded in groups of similar length: same loss, less padding."""

    def __init__(self, loss: Any, groups: int = GROUPS) -> None:
        """Wrap a loss that has a `model` and `compute_loss_from_embeddings`."""
        super().__init__()
        self.loss, self.groups = loss, groups

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Mean loss of the batch, a scalar."""
        embeddings = embed_by_length(self.loss.model, list(sentence_features), self.groups)
        loss: Tensor = self.loss.compute_loss_from_embeddings(embeddings, labels)
        return loss


def embed_by_length(model: SentenceTransformer, columns: list[dict[str, Tensor]], groups: int) -> list[Tensor]:
    """Embed the texts of all columns, `groups` of similar length at a time; (B, d) for each column."""
    width = max(column["input_ids"].shape[1] for column in columns)
    tokens = {
        name: torch.cat([pad(column[name], (0, width - column[name].shape[1])) for column in columns])
        for name in columns[0]
        if isinstance(columns[0][name], Tensor)
    }
    lengths = tokens["attention_mask"].sum(dim=1)
    order = torch.argsort(lengths, stable=True)
    embedded = []
    for rows in torch.tensor_split(order, min(groups, len(order))):
        longest = int(lengths[rows].max())
        features = {name: values[rows, :longest] for name, values in tokens.items()}
        embedded.append(model(features)["sentence_embedding"])
    return list(torch.cat(embedded)[torch.argsort(order)].chunk(len(columns)))


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

    def __init__(self, model: SentenceTransformer, links: Links, scale: float) -> None:
        """Keep the model whose parameters are trained."""
        super().__init__()
        self.model, self.links, self.scale = model, links, scale

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Mean loss of the batch, a scalar."""
        return self.compute_loss_from_embeddings(embed_by_length(self.model, list(sentence_features), 1), labels)

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
        masked = torch.from_numpy(linked).to(queries.device)
        return (queries @ candidates.T * self.scale).masked_fill(masked, -torch.inf)
