"""Distillation: the cosines of the model should become those of its base plus those of TF-IDF.

Their sum ranks patents better than either (docs/recipes.md), and it is known of every pair of texts: where citations
are thin, a batch of texts still teaches. The soft targets are those of Hinton et al. 2015, arXiv:1503.02531.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sentence_transformers import SentenceTransformer
from sklearn.feature_extraction.text import TfidfTransformer
from torch import Tensor
from torch.nn.functional import log_softmax, normalize, softmax
from tqdm import tqdm

from ..common.files import is_done, locked, write_record
from ..common.resources import require
from ..models.embed import encode_tokens, unit_rows
from ..models.tokens import Tokens
from .losses import Loss

CHUNK = 8_192 if torch.cuda.is_available() else 256  # texts between two writes to disk: what an interrupt can lose
SAME = -1e9  # a score that a softmax makes 0, but that is finite: a batch may hold the texts of one patent only
COUNTED = 100_000  # texts whose words are counted for the weights of TF-IDF


class Teacher:
    """Knows how similar two texts are, from the vectors of the base model and from the tokens that they share."""

    def __init__(self, model: SentenceTransformer, texts: Tokens, used: np.ndarray, folder: Path) -> None:
        """Embed the `used` (U,) rows of `texts`, sorted, with `model`, which is still the base.

        The vectors are written to `folder`, 2 bytes a number; an interrupted run resumes.
        """
        self.texts, self.used, self.vocabulary = texts, used, len(model.tokenizer)
        counted = used[np.linspace(0, len(used) - 1, min(len(used), COUNTED), dtype=int)]
        self.weights = TfidfTransformer(sublinear_tf=True).fit(self._counts(counted))
        shape = len(used), model.get_embedding_dimension() or 0
        if not is_done(folder / "teacher.json", {"shape": list(shape)}):
            with locked(folder):
                _write(model, texts, used, folder)
        self.vectors = np.memmap(folder / "vectors.bin", np.float16, "r", shape=shape)

    def _counts(self, rows: np.ndarray) -> csr_matrix:
        """How often each token occurs in the texts of `rows` (n,); (n, size of the vocabulary)."""
        ids = [self.texts[row] for row in rows]
        ends = np.cumsum([0, *map(len, ids)])
        counts = csr_matrix((np.ones(ends[-1]), np.concatenate(ids), ends), shape=(len(ids), self.vocabulary))
        counts.sum_duplicates()
        return counts

    def cosines(self, rows: np.ndarray) -> np.ndarray:
        """The sum of both cosines, from 0 to 2 or so, of all pairs of the texts `rows` (n,); (n, n) float32."""
        words = self.weights.transform(self._counts(rows))
        dense = self.vectors[np.searchsorted(self.used, rows)].astype(np.float32)
        return dense @ dense.T + (words @ words.T).toarray().astype(np.float32)


def _write(model: SentenceTransformer, texts: Tokens, used: np.ndarray, folder: Path) -> None:
    """Append the vectors that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    width = model.get_embedding_dimension() or 0
    with (folder / "vectors.bin").open("ab") as file:
        done = min(file.tell() // (2 * width * CHUNK) * CHUNK, len(used))
        file.truncate(2 * width * done)
        require(folder, 2 * width * (len(used) - done), 0, f"embedding {len(used):,} texts")
        with tqdm(total=len(used), initial=done, desc="embed with the base model", unit="text") as bar:
            for start in range(done, len(used), CHUNK):
                part = [texts[row] for row in used[start : start + CHUNK]]
                file.write(unit_rows(encode_tokens(model, part)).astype(np.float16).tobytes())
                file.flush()
                bar.update(len(part))
    write_record(folder / "teacher.json", {"params": {"shape": [len(used), width]}}, ["vectors.bin"])


@dataclass
class Distilled(Loss):
    """A loss, and in addition the cross-entropy between the teacher's and the model's softmax over cosines.

    Each text of the batch is a query to all others. A title or an abstract takes the targets of its patent.
    """

    loss: Loss
    teacher: Teacher
    weight: float  # of the cross-entropy
    scale: float  # 1 / temperature, of both
    is_mean = False

    def masks(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """See `Loss`: those of the inner loss, and the teacher's scores (3 B, 3 B), `SAME` for texts of one patent."""
        flat = rows.T.ravel() % len(self.teacher.texts)
        unique, places = np.unique(flat, return_inverse=True)
        scores = self.teacher.cosines(unique)[np.ix_(places, places)] * np.float32(self.scale)
        scores[places[:, None] == places] = SAME
        return *self.loss.masks(rows), scores

    def value(self, anchor: Tensor, positive: Tensor, negative: Tensor, *masks: Tensor) -> Tensor:
        """See `Loss`."""
        *others, scores = masks
        texts = normalize(torch.cat([anchor, positive, negative]), dim=-1)
        same = scores == SAME
        logs = log_softmax((texts @ texts.T * self.scale).masked_fill(same, SAME), dim=1).masked_fill(same, 0)
        taught = -(softmax(scores, dim=1) * logs).sum(dim=1).mean()
        return self.loss.value(anchor, positive, negative, *others) + self.weight * taught
