"""Embeddings of patents, kept on disk: a text is encoded once by a model, however often it is asked for."""

import hashlib
import os
import time
import zipfile
import zlib
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import torch
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from ..common.cli import InputError
from ..common.files import beside
from .device import autocast, out_of_memory_translated, precision
from .load import Model
from .packing import choose_way, embed_packed
from .tokens import join_texts, separator, token_ids

BATCH_TOKENS = {"cpu": 8_192, "cuda": 65_536}  # that are in the device at a time
CHUNK = 256  # texts between two writes to disk: what an interrupt can lose


def encode(model: SentenceTransformer, patents: pd.DataFrame, batch_tokens: int = 0) -> np.ndarray:
    """Embed title + separator + abstract of each row; (N, d) float32. bf16 where the device has it.

    Texts of similar length go together, `batch_tokens` at a time (0: what suits the device), fewer where its memory
    is too small.
    """
    texts = token_ids(model, join_texts(patents, separator(model)))
    if not texts:
        return np.empty((0, model.get_embedding_dimension() or 0), np.float32)
    order = np.argsort([-len(text) for text in texts], kind="stable")
    most = batch_tokens or BATCH_TOKENS.get(model.device.type, BATCH_TOKENS["cpu"])
    way, training = _way(model), model.training
    found, left = [], order
    model.eval()
    try:
        while len(left):
            rows = _next(left, texts, most)
            try:
                with torch.inference_mode(), autocast(model), out_of_memory_translated():
                    found.append(embed_packed(model, [texts[row] for row in rows], way).float().cpu().numpy())
                left = left[len(rows) :]
            except torch.OutOfMemoryError:
                if len(rows) == 1:
                    raise InputError("out of memory with one text at a time: give a smaller --max-length") from None
                most = sum(len(texts[row]) for row in rows) // 2
    finally:
        model.train(training)
    return np.concatenate(found)[np.argsort(order, kind="stable")]


_WAYS: WeakKeyDictionary[SentenceTransformer, str] = WeakKeyDictionary()


def _way(model: SentenceTransformer) -> str:
    """How `model` is computed; it is checked once, not with every chunk."""
    if model not in _WAYS:
        _WAYS[model] = choose_way(model, gradients=False)
    return _WAYS[model]


def _next(order: np.ndarray, texts: list[np.ndarray], most: int) -> np.ndarray:
    """The first of `order` with at most `most` tokens together, or one text."""
    ends = np.cumsum([len(texts[row]) for row in order[:most]])
    return order[: max(1, int(np.searchsorted(ends, most, side="right")))]


def embed(model: Model, patents: pd.DataFrame, cache: Path, max_length: int = 0) -> np.ndarray:
    """Embed `patents` (columns title, abstract); (N, d) float32.

    Vectors are kept in `cache/<fingerprint of the model's files>-<max_length>[-<precision>]/` by a hash of each text.
    Those that are not there yet are encoded, and written every `CHUNK` texts: an interrupted run goes on where it
    stopped.
    """
    suffix = "" if precision() == "fp32" else f"-{precision()}"
    store = _Store(cache / f"{model.fingerprint}-{max_length}{suffix}")
    keys = _keys(patents)
    missing = np.flatnonzero(~np.isin(keys, store.keys()))
    missing = missing[np.unique(keys[missing], return_index=True)[1]]  # a text that stands there twice, once
    if len(missing):
        network = model.load(max_length)
        lengths = (patents["title"].str.len() + patents["abstract"].str.len()).to_numpy()
        missing = missing[np.argsort(-lengths[missing], kind="stable")]  # similar lengths together: less padding
        with tqdm(total=len(missing), desc=f"embed with {model.label}", unit="text") as progress:
            for start in range(0, len(missing), CHUNK):
                rows = missing[start : start + CHUNK]
                store.add(keys[rows], encode(network, patents.iloc[rows]))
                progress.update(len(rows))
    return store.get(keys)


def _keys(patents: pd.DataFrame) -> np.ndarray:
    texts = patents["title"] + "\0" + patents["abstract"]
    digests = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


class _Store:
    """Vectors by key: files of a chunk each, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def _chunks(self) -> list[dict[str, np.ndarray]]:
        """All chunks; a damaged one is dropped, so that its texts are encoded again."""
        chunks = []
        for path in sorted(self.folder.glob("[0-9]*.npz")):
            try:
                with np.load(path) as chunk:
                    chunks.append({"keys": chunk["keys"], "vectors": chunk["vectors"]})
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as problem:
                print(f"{path} is damaged ({problem}): its texts are encoded again")
                path.unlink()
        return chunks

    def keys(self) -> np.ndarray:
        return np.concatenate([np.empty(0, np.uint64), *(chunk["keys"] for chunk in self._chunks())])

    def add(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        unique = f"{time.time_ns()}-{os.getpid()}"  # two processes may fill one cache
        with beside(self.folder / f"{unique}.npz") as scratch, scratch.open("wb") as file:
            np.savez(file, keys=keys, vectors=vectors)

    def get(self, keys: np.ndarray) -> np.ndarray:
        chunks = self._chunks()
        stored = np.concatenate([chunk["keys"] for chunk in chunks])
        order = np.argsort(stored, kind="stable")
        rows = order[np.searchsorted(stored, keys, sorter=order)]
        return np.concatenate([chunk["vectors"] for chunk in chunks])[rows]
