"""Seeded hashes of integers, for draws that are the same on every machine."""

import numpy as np


def mix(values: np.ndarray, seed: int) -> np.ndarray:
    """Seeded 64-bit hash of integers, (n,) → (n,) uint64.

    The finaliser of splitmix64 (Steele et al. 2014, doi 10.1145/2660193.2660195).
    """
    z = values.astype(np.uint64) + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
