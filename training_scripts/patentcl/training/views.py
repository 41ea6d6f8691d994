"""Title and abstract of a patent as texts of their own: a pair of positives that needs no citation.

The views of text i among N are texts N + i (its title) and 2 N + i (its abstract).
"""

from collections.abc import Sequence

import numpy as np
from sentence_transformers import SentenceTransformer

from ..models.tokens import Tokens, token_ids

LEAST = 1_000  # triplets of views where there are so many patents: a corpus with few citations teaches as well
BLOCK = 100_000  # texts that are searched for a separator at a time


class Views(Sequence[np.ndarray]):
    """The token ids of texts, of their titles and of their abstracts; `lengths` (3 N,) is the number of each."""

    def __init__(self, texts: Tokens, model: SentenceTransformer) -> None:
        """Split `texts`, which the tokenizer of `model` made, at its separator."""
        self.texts = texts
        self.start = len(token_ids(model, [""])[0]) - 1  # of the title, behind special tokens and the prompt
        self.places = np.concatenate([self._places(first, model) for first in range(0, len(texts), BLOCK)])
        whole = (self.places <= self.start) | (self.places >= texts.lengths - 2)  # one of the parts would be empty
        self.places[whole] = 0
        titles = np.where(whole, texts.lengths, self.places + 1)
        abstracts = np.where(whole, texts.lengths, texts.lengths - self.places - 1 + self.start)
        self.lengths = np.concatenate([texts.lengths, titles, abstracts]).astype(np.uint16)

    def _places(self, first: int, model: SentenceTransformer) -> np.ndarray:
        """Where the title ends in each text from `first` on: at its first separator, or else in the middle."""
        starts, lengths = self.texts.starts[first : first + BLOCK + 1], self.texts.lengths[first : first + BLOCK]
        ids = self.texts.ids[starts[0] : starts[-1]]
        found = np.flatnonzero(ids == model.tokenizer.sep_token_id) + starts[0]
        at = np.searchsorted(found, starts[:-1] + self.start)
        places = np.append(found, starts[-1])[at] - starts[:-1]
        return np.where(places < lengths - 1, places, lengths // 2).astype(np.uint16)

    def __len__(self) -> int:
        """The number of texts and views."""
        return 3 * len(self.texts)

    def __getitem__(self, row: int) -> np.ndarray:  # type: ignore[override]
        """The ids of a text or of a view, which has the special tokens and the prompt as well."""
        view, row = divmod(int(row), len(self.texts))
        ids, place = self.texts[row], int(self.places[row])
        if view == 0 or place == 0:
            return ids
        return np.append(ids[:place], ids[-1]) if view == 1 else np.append(ids[: self.start], ids[place + 1 :])


def view_triplets(topics: np.ndarray, train: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The title and the abstract of a patent, and as negative another one of its topic in full: rows (count, 3).

    The patents are those of `train`, a mask (N,), each as often as the others. `topics` (N,) are numbers, such as of
    the CPC subclass; a text that is alone in its topic has a negative of another one.
    """
    random, rows = np.random.default_rng([seed, len(train)]), np.flatnonzero(train)
    parts = [np.empty((0, 3), rows.dtype)]
    for left in range(count, 0, -len(rows)):
        rows = random.permutation(rows)
        order = rows[np.argsort(topics[rows], kind="stable")]  # each topic in a random order
        triplets = np.stack([len(train) + order, 2 * len(train) + order, np.roll(order, 1)], axis=1)
        parts.append(random.permutation(triplets)[:left])
    return np.concatenate(parts)
