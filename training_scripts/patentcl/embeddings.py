"""Embeddings of patents, kept on disk: a text is encoded once by a model, however often it is asked for."""

import hashlib
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from .files import beside, fingerprint
from .models import device_dtype, display_name, find_model, load_model, separator
from .texts import join_texts

CHUNK = 256  # texts between two writes to disk: what an interrupt can lose


def encode(model: SentenceTransformer, patents: pd.DataFrame, batch_size: int = 32) -> np.ndarray:
    """Embed title + separator + abstract of each row; (N, d) float32. bf16 where the device has it."""
    with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=device_dtype() == torch.bfloat16):
        vectors = model.encode(
            join_texts(patents, separator(model)),
            batch_size=batch_size,
            show_progress_bar=False,
            convert_to_tensor=True,
        )
    return vectors.float().cpu().numpy()


def embed(
    name: str, patents: pd.DataFrame, cache: Path, max_length: int = 0, batch_size: int = 32, label: str = ""
) -> np.ndarray:
    """Embed `patents` (columns title, abstract) with the model `name`, shown as `label`; (N, d) float32.

    Vectors are kept in `cache/<fingerprint of the model's files>-<max_length>/` by a hash of each text. Only texts
    that are not there yet are encoded, and they are written every `CHUNK` texts: an interrupted run goes on where it
    stopped.
    """
    folder = find_model(name)
    store = _Store(cache / f"{_fingerprint(folder)}-{max_length}")
    keys = _keys(patents)
    missing = np.flatnonzero(~np.isin(keys, store.keys()))
    missing = missing[np.unique(keys[missing], return_index=True)[1]]  # a text that stands there twice, once
    if len(missing):
        model = load_model(name, max_length)
        lengths = (patents["title"].str.len() + patents["abstract"].str.len()).to_numpy()
        missing = missing[np.argsort(-lengths[missing], kind="stable")]  # similar lengths together: less padding
        with tqdm(total=len(missing), desc=f"embed with {label or display_name(name)}", unit="text") as progress:
            for start in range(0, len(missing), CHUNK):
                rows = missing[start : start + CHUNK]
                store.add(keys[rows], encode(model, patents.iloc[rows], batch_size))
                progress.update(len(rows))
    return store.get(keys)


def _fingerprint(folder: Path) -> str:
    """Of the files that make the vectors what they are: weights, tokenizer and configurations, not our own record."""
    kinds = (".json", ".safetensors", ".bin", ".txt", ".model")
    return fingerprint(p for p in folder.rglob("*") if p.suffix in kinds and p.name != "run.json")


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
        last = max((int(path.stem) for path in self.folder.glob("[0-9]*.npz")), default=-1)
        with beside(self.folder / f"{last + 1:06d}.npz") as scratch, scratch.open("wb") as file:
            np.savez(file, keys=keys, vectors=vectors)

    def get(self, keys: np.ndarray) -> np.ndarray:
        chunks = self._chunks()
        stored = np.concatenate([chunk["keys"] for chunk in chunks])
        order = np.argsort(stored, kind="stable")
        rows = order[np.searchsorted(stored, keys, sorter=order)]
        return np.concatenate([chunk["vectors"] for chunk in chunks])[rows]
