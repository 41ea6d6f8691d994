"""Checks and normalisation of embeddings."""

import numpy as np

from ..common.cli import InputError


def unit_rows(embeddings: np.ndarray) -> np.ndarray:
    """The rows of `embeddings` (N, d) at length 1. Raises `InputError` for values that are no numbers."""
    check_vectors(embeddings, "the model")
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)


def check_vectors(embeddings: np.ndarray, name: str) -> None:
    """Raise `InputError` unless all values are numbers, and not all vectors are the same."""
    if not np.isfinite(embeddings).all():
        raise InputError(f"{name} gives vectors that are no numbers: it diverged in its training, lower --lr there")
    if len(embeddings) > 1 and not np.ptp(embeddings, axis=0).any():
        raise InputError(f"{name} gives the same vector for every text: is it whole, or --max-length too small?")
