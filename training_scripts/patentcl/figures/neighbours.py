"""The nearest neighbours of every patent, in the space of its embeddings and not in their 2-D picture."""

from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from ..models.embed import unit_rows

NEIGHBOURS = 10
BLOCK = 2**25  # similarities held at a time: 134 MB, and as much again while the largest are chosen


@dataclass(frozen=True)
class Neighbours:
    """The nearest patents of each of N: their `rows` (N, k), nearest first, and `cosines` (N, k)."""

    rows: np.ndarray
    cosines: np.ndarray


def nearest_neighbours(embeddings: np.ndarray, count: int = NEIGHBOURS, name: str = "") -> Neighbours:
    """Find the `count` rows of highest cosine to each row of `embeddings` (N, d), itself excluded; exact.

    Fewer than `count` if N is smaller. Time grows with N², memory with N. `name` is that of the model, for the bar.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    unit = torch.from_numpy(unit_rows(np.asarray(embeddings, dtype=np.float32))).to(device)
    count = min(count, len(unit) - 1)
    rows = np.empty((len(unit), count), np.uint32)
    cosines = np.empty((len(unit), count), np.float32)
    block = max(1, BLOCK // len(unit))
    with tqdm(total=len(unit), desc=f"neighbours by {name}", unit="patent", delay=2, leave=False) as progress:
        for start in range(0, len(unit), block):
            part = unit[start : start + block]
            similar = part @ unit.T
            similar.diagonal(start).fill_(-torch.inf)
            highest, places = similar.topk(count)
            rows[start : start + block] = places.cpu().numpy()
            cosines[start : start + block] = highest.cpu().numpy()
            progress.update(len(part))
    return Neighbours(rows, cosines)
