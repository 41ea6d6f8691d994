"""2-D layouts of embeddings: each model's patents as points, in one common frame."""

from collections.abc import Callable, Mapping
from typing import Literal
from warnings import catch_warnings, filterwarnings

import numpy as np
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from ..models.embed import unit_rows
from ..search.nearest import Nearest, neighbours

Method = Literal["umap", "tsne", "pca"]
UMAP_NEIGHBOURS, PERPLEXITY = 15, 30  # UMAP counts a point among its own neighbours
# An empty band across a picture, in one of so many directions, is at most so wide, in median distances from the middle:
# the larger of GAP and FEW / N, for few points lie far apart without any islands.
DIRECTIONS, GAP, FEW = 8, 0.15, 100


def project(
    embeddings: Mapping[str, np.ndarray],
    seed: int = 42,
    method: Method = "umap",
    near: Mapping[str, Nearest] | None = None,
) -> dict[str, np.ndarray]:
    """Lay out each model's embeddings (N, d) as (N, 2) points: middle 0, root-mean-square radius 1.

    `near` are each model's UMAP_NEIGHBOURS - 1 nearest `neighbours`, if they are known.

    The first model is laid out freely, and turned so that its longer side lies flat. Each other model starts from the
    first one's layout and is then rotated or mirrored onto it (orthogonal Procrustes; Schönemann 1966), so a patent
    lies at about the same place in all panels. Axes have no unit: only neighbourhoods are meaningful. Islands far from
    the core are pulled in. Deterministic for a `seed` on one machine.

    AlignedUMAP is slower, less faithful to each model, and pulls the layouts together, which hides the differences.
    """
    pictures: dict[str, np.ndarray] = {}
    for name, rows in embeddings.items():
        first = next(iter(pictures.values()), None)
        unit = unit_rows(np.asarray(rows, dtype=np.float32))
        known = near[name] if near else neighbours(unit, UMAP_NEIGHBOURS - 1)
        laid_out = LAYOUTS[method][0](unit, seed, first, known)
        picture = _normalised(_pulled_in(laid_out))
        flat = np.linalg.svd(picture, full_matrices=False)[2].T
        # Without Procrustes' scale, which would shrink exactly the pictures that resemble the first one least.
        pictures[name] = picture @ (flat if first is None else orthogonal_procrustes(picture, first)[0])
    return pictures


def _normalised(picture: np.ndarray) -> np.ndarray:
    picture = picture - picture.mean(axis=0)
    return picture / (np.sqrt((picture**2).sum(axis=1).mean()) or 1.0)


def _umap(rows: np.ndarray, seed: int, start: np.ndarray | None, near: Nearest) -> np.ndarray:
    import umap  # takes seconds

    init: str | np.ndarray = "spectral"
    if start is not None:  # to the extent of UMAP's own start: a narrower one costs epochs, a wider one never closes
        init = (10 * (start - start.min(axis=0)) / np.maximum(np.ptp(start, axis=0), 1e-9)).astype(np.float32)
    # UMAP's own search for neighbours is approximate, and takes half a minute to be compiled.
    indices = np.column_stack([np.arange(len(rows)), near.rows])
    distances = np.column_stack([np.zeros(len(rows), np.float32), np.maximum(1 - near.cosines, 0)])
    known = {"precomputed_knn": (indices, distances), "force_approximation_algorithm": True}  # also for few points
    with catch_warnings():
        filterwarnings("ignore", "precomputed_knn")  # new points cannot be added
        # n_jobs=1 is implied by a seed; without it UMAP warns.
        layout = umap.UMAP(indices.shape[1], metric="cosine", init=init, random_state=seed, n_jobs=1, **known)
        return np.asarray(layout.fit_transform(rows))


def _tsne(rows: np.ndarray, seed: int, start: np.ndarray | None, near: object) -> np.ndarray:
    init = "pca" if start is None else (start / start.std(axis=0)[0] * 1e-4).astype(np.float32)  # as small as its own
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    with threadpool_limits(1, "openmp"):  # its threads add up in any order
        return TSNE(perplexity=perplexity, metric="cosine", init=init, random_state=seed).fit_transform(rows)


# Name → function of unit rows (N, d), seed, the first model's points or None, neighbours; what a caption says of it.
LAYOUTS: dict[Method, tuple[Callable[..., np.ndarray], str]] = {
    # McInnes, Healy and Melville 2018, arXiv:1802.03426; van der Maaten and Hinton 2008; Pearson 1901.
    "umap": (_umap, f"UMAP of cosines, {UMAP_NEIGHBOURS} neighbours"),
    "tsne": (_tsne, f"t-SNE of cosines, perplexity {PERPLEXITY}"),
    "pca": (lambda rows, seed, *_: PCA(2, random_state=seed).fit_transform(rows), "First two principal components"),
}


def _pulled_in(picture: np.ndarray) -> np.ndarray:
    """Narrow the empty bands in any direction that divide the points (N, 2); their order across a band stays."""
    picture = picture.astype(float)
    middle = np.median(np.linalg.norm(picture - np.median(picture, axis=0), axis=1))
    most = max(GAP, FEW / len(picture)) * middle
    for angle in np.pi * np.arange(DIRECTIONS) / DIRECTIONS:
        direction = np.array([np.cos(angle), np.sin(angle)])
        across = picture @ direction
        values, place = np.unique(across, return_inverse=True)
        narrowed = np.append(0, np.cumsum(np.minimum(np.diff(values), max(most, 1e-9))))[place]
        picture += np.outer(narrowed - across, direction)
    return picture


def extent(points: Mapping[str, np.ndarray], lowest: float) -> tuple[float, float, float, float]:
    """Return the limits (x0, x1, y0, y1) of the smallest box, plus 4 %, around all models' points.

    It is no higher than wide, and at least `lowest` times as high.
    """
    xy = np.concatenate(list(points.values()))
    middle, sides = (xy.max(axis=0) + xy.min(axis=0)) / 2, np.ptp(xy, axis=0)
    width = max(sides.max(), 1e-9)
    half = 0.52 * np.array([width, max(sides[1], lowest * width)])
    (x0, y0), (x1, y1) = middle - half, middle + half
    return float(x0), float(x1), float(y0), float(y1)
