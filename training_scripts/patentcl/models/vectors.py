"""Checks and normalisation of embeddings."""

import numpy as np

from ..common.cli import InputError


def unit_rows(embeddings: np.ndarray) -> np.ndarray:
    """Scale the rows of `embeddings` (N, d) to length 1. Raises `InputError` as `check_vectors` does."""
    check_vectors(embeddings, "The model")
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)


def check_vectors(embeddings: np.ndarray, name: str) -> None:
    """Raise `InputError` if `embeddings` (N, d) of the model `name` hold NaN or infinity, or are all the same."""
    if not np.isfinite(embeddings).all():
        raise InputError(f"{name} produced NaN or infinite embeddings. Retrain it with a lower --lr.")
    if len(embeddings) > 1 and not np.ptp(embeddings, axis=0).any():
        advice = "Check that the model is complete and --max-length is large enough."
        raise InputError(f"{name} produced the same embedding for every text. {advice}")
