"""Evaluate models on held-out patents."""
