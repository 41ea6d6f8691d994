"""Embedding models: load, tokenise, embed."""
