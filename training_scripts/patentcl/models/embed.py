"""Embed patents, with an on-disk cache keyed by model and text."""

import hashlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from ..common.cli import InputError, first_line
from ..common.files import beside
from . import graphs
from .device import autocast, out_of_memory_translated, precision, return_freed_memory
from .load import Model
from .packing import STATIC, Packing, choose_backend, difference, embed_packed, embed_static, packing_of
from .static import WIDTH_STEP, Static, rows_of
from .tokens import join_texts, separator, token_ids, tokens_ahead

BATCH_TOKENS = {"cpu": 8_192, "cuda": 65_536}  # computed at a time
CHUNK = 8_192 if torch.cuda.is_available() else 256  # texts between two writes to disk: what an interrupt can lose
WIDTH = 512  # tokens in the rows of static shapes, at least


def encode(model: SentenceTransformer, patents: pd.DataFrame) -> np.ndarray:
    """Embed title + separator + abstract of each row; (N, d) float32. See `encode_tokens`."""
    return encode_tokens(model, token_ids(model, join_texts(patents, separator(model))))


def encode_blocks(model: SentenceTransformer, blocks: Iterator[pd.DataFrame]) -> Iterator[np.ndarray]:
    """Embed the patents of each block, see `encode`; the next ones are tokenised meanwhile."""
    _chosen(model)  # which uses the tokenizer, too
    for rows in tokens_ahead(model, blocks):
        yield encode_tokens(model, rows)


def _chosen(model: SentenceTransformer) -> Packing:
    """The model's packing, with a backend for inference, and whether static shapes give the same embeddings."""
    packing = packing_of(model)
    if not packing.backend:
        packing.backend = choose_backend(model, gradients=False)
        static = STATIC.get(packing.backend) if model.device.type in graphs.DEVICES else None
        packing.static = static is not None and not difference(model, static, gradients=False)
    return packing


def encode_tokens(model: SentenceTransformer, texts: list[np.ndarray]) -> np.ndarray:
    """Embed texts given as token ids; (N, d) float32, computed in the device's `precision`.

    Texts of similar length are computed together, about `BATCH_TOKENS` at a time. Raises `InputError` when the memory
    is too small for them.
    """
    embeddings = np.empty((len(texts), model.get_embedding_dimension() or 0), np.float32)
    lengths = np.array([len(text) for text in texts], int)
    packing, training = _chosen(model), model.training
    most = BATCH_TOKENS.get(model.device.type, BATCH_TOKENS["cpu"])
    model.eval()
    try:
        with torch.inference_mode(), autocast(model), out_of_memory_translated():
            if packing.static and lengths.sum() >= most:
                try:
                    return _encode_static(model, texts, lengths, most, embeddings)
                except RuntimeError as error:  # CUDA's, or out of memory
                    print(f"Embedding without static shapes ({first_line(error)}).")
                    packing.static = False
            order = np.argsort(-lengths, kind="stable")
            ends = np.cumsum(lengths[order]) // most
            for rows in np.split(order, np.flatnonzero(np.diff(ends)) + 1) if texts else ():
                batch = embed_packed(model, [texts[row] for row in rows], packing.backend)
                embeddings[rows] = batch.float().cpu().numpy()
    except torch.OutOfMemoryError:
        raise InputError("Out of memory while embedding. Pass a smaller --max-length or use a smaller model.") from None
    finally:
        model.train(training)
        return_freed_memory()
    return embeddings


def _encode_static(
    model: SentenceTransformer, texts: list[np.ndarray], lengths: np.ndarray, most: int, embeddings: np.ndarray
) -> np.ndarray:
    """Fill `embeddings` (N, d) with those of `texts`, in rows of one static shape, about `most` tokens at a time.

    The texts are dealt to the batches by length, so that all hold about as many tokens; the device is waited for once,
    at the end. So many tokens keep it busy without a graph.
    """
    longest = int(lengths.max())
    width = max(WIDTH, -(-longest // WIDTH_STEP) * WIDTH_STEP)
    order, count = np.argsort(-lengths, kind="stable"), -(-int(lengths.sum()) // most)
    batches = [order[number::count] for number in range(count)]
    rows = max(rows_of(lengths[batch], width) for batch in batches)
    static, parts = Static(rows, width, len(batches[0]), longest, "rows", model.device), []
    for batch in batches:
        static.fill([texts[text] for text in batch])
        parts.append(embed_static(model, static)[: len(batch)].float())
    embeddings[np.concatenate(batches)] = torch.cat(parts).cpu().numpy()
    return embeddings


def embed(model: Model, patents: pd.DataFrame, cache: Path, max_length: int = 0) -> np.ndarray:
    """Embed `patents` (columns title, abstract); (N, d) float32.

    Embeddings are cached in `cache/<fingerprint of the model>-<max_length>[-<precision>]/` by a hash of each text.
    Missing ones are computed and written every `CHUNK` texts, so that an interrupted run resumes.
    Raises `InputError` as `check_vectors` does.
    """
    suffix = "" if precision() == "fp32" else f"-{precision()}"
    folder = cache / f"{model.fingerprint}-{max_length}{suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    texts = patents["title"] + "\0" + patents["abstract"]
    digests = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts]
    hashes = np.frombuffer(b"".join(digests), dtype=np.uint64)
    keys, first, rows = np.unique(hashes, return_index=True, return_inverse=True)
    chunks = list(_cached(folder, keys))
    longest_first = np.argsort(-texts.str.len().to_numpy()[first], kind="stable")  # similar lengths: less padding
    known = np.concatenate([[], *(places for places, _ in chunks)])
    missing = longest_first[~np.isin(longest_first, known)]
    with tqdm(total=len(missing), desc=f"embed with {model.label}", unit="text", disable=not len(missing)) as progress:
        parts = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]
        blocks = (patents.iloc[first[places]] for places in parts)
        encoded = encode_blocks(model.load(max_length), blocks) if parts else iter(())
        for places, vectors in zip(parts, encoded, strict=True):
            np.savez(content := io.BytesIO(), keys=keys[places], vectors=vectors)
            with beside(folder / f"{time.time_ns()}-{os.getpid()}.npz") as scratch:  # several may fill one cache
                scratch.write_bytes(content.getvalue())
            chunks.append((places, vectors))
            progress.update(len(places))
    embeddings = np.empty((len(keys), chunks[0][1].shape[1] if chunks else 0), np.float32)
    for places, vectors in chunks:
        embeddings[places] = vectors
    check_vectors(embeddings, model.label)
    return embeddings[rows]


def _cached(folder: Path, keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Places in the sorted `keys` and their embeddings, a file at a time; only files that hold some are read."""
    for path in sorted(folder.glob("[0-9]*.npz")):
        try:
            with np.load(path) as chunk:
                stored = chunk["keys"]
                places = np.searchsorted(keys, stored).clip(max=len(keys) - 1)
                wanted = keys[places] == stored
                if wanted.any():
                    yield places[wanted], chunk["vectors"][wanted]
        except Exception as error:  # noqa: BLE001 (a corrupt file fails in many ways)
            print(f"{path} is corrupt ({error}); encoding its texts again.")
            path.unlink()


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
