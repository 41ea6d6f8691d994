"""2-D layouts of embeddings: each model's patents as points, in one common frame."""

from collections.abc import Mapping

import numpy as np
from scipy.linalg import orthogonal_procrustes


def project(embeddings: Mapping[str, np.ndarray], seed: int = 42, neighbours: int = 15) -> dict[str, np.ndarray]:
    """Lay out each model's embeddings (N, d) as (N, 2) points: centred, root-mean-square radius 1.

    UMAP (McInnes, Healy and Melville 2018, arXiv:1802.03426), cosine, deterministic for a `seed` on one machine. The
    first model is laid out freely. Each other model starts from the first one's layout and is then rotated or mirrored
    onto it (orthogonal Procrustes; Schönemann 1966), so a patent lies at about the same place in all panels. Axes have
    no unit: only neighbourhoods are meaningful.

    AlignedUMAP is slower, less faithful to each model, and pulls the layouts together, which hides the differences.
    """
    import umap  # takes seconds

    pictures: dict[str, np.ndarray] = {}
    start: str | np.ndarray = "spectral"
    for name, rows in embeddings.items():
        layout = umap.UMAP(
            n_neighbors=min(neighbours, len(rows) - 1),
            metric="cosine",
            init=start,
            random_state=seed,
            n_jobs=1,  # implied by a seed; without it UMAP warns
        )
        picture = np.asarray(layout.fit_transform(np.asarray(rows, dtype=np.float32)), dtype=float)
        picture -= picture.mean(axis=0)
        picture /= np.sqrt((picture**2).sum(axis=1).mean()) or 1.0
        if not pictures:
            first = picture
            # The extent that UMAP gives its own spectral start; a narrower one costs epochs, a wider one never closes.
            start = (10 * (first - first.min(axis=0)) / np.maximum(np.ptp(first, axis=0), 1e-9)).astype(np.float32)
        # Without Procrustes' scale, which would shrink exactly the pictures that resemble the first one least.
        rotation, _ = orthogonal_procrustes(picture, first)
        pictures[name] = picture @ rotation
    return pictures


def common_frame(points: Mapping[str, np.ndarray]) -> tuple[float, float, float]:
    """Return the middle (x, y) and half the side of the smallest square, plus 4 %, around all models' points."""
    xy = np.concatenate(list(points.values()))
    low, high = xy.min(axis=0), xy.max(axis=0)
    x, y = (low + high) / 2
    return float(x), float(y), 0.52 * (float((high - low).max()) or 1.0)
