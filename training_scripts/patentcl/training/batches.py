"""The order in which a training sees its triplets: a function of the seed and the step alone.

So there is no sampler state to save: a run that resumes at step 1,234 asks for batch 1,234.
"""

import math
from functools import lru_cache

import numpy as np

MEGABATCH = 64  # batches that are sorted by length together


class Batches:
    """Batches of triplets of similar length, in a new order each epoch; an epoch holds every triplet once."""

    def __init__(self, triplets: np.ndarray, lengths: np.ndarray, batch_size: int, seed: int) -> None:
        """Order `triplets` (N, 3), rows of texts, by the `lengths` (T,) of the texts in tokens."""
        self.triplets, self.batch_size, self.seed = triplets, batch_size, seed
        self.tokens = lengths[triplets].sum(axis=1, dtype=np.uint32)
        self.per_epoch = math.ceil(len(triplets) / batch_size)
        self._order_once = lru_cache(maxsize=1)(self._order)

    def __getitem__(self, step: int) -> np.ndarray:
        """The rows (B, 3) of step 0, 1, …; the last batch of an epoch may be smaller."""
        epoch, place = divmod(step, self.per_epoch)
        order, starts = self._order_once(epoch)
        return self.triplets[order[starts[place] :][: self.batch_size]]

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The order of the triplets in an epoch, and where each batch starts in it."""
        random = np.random.default_rng([self.seed, epoch])
        order = np.arange(len(self.triplets), dtype=np.uint32)
        random.shuffle(order)
        full = len(order) // self.batch_size  # what is left is the last batch, drawn like the others
        end, size = full * self.batch_size, MEGABATCH * self.batch_size
        for start in range(0, end, size):
            part = order[start : min(start + size, end)]
            part[:] = part[np.argsort(self.tokens[part], kind="stable")]
        starts = np.arange(0, len(order), self.batch_size)
        starts[:full] = random.permutation(starts[:full])
        return order, starts
