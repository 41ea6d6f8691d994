"""Token ids of texts: each patent is tokenised once, on all cores, into a memory-mapped file.

`<folder>/ids.bin` holds the ids of all texts end to end (2 bytes each where the vocabulary allows, so 9 million patents
of 160 tokens take 2.9 GB), `lengths.bin` the number of each text's. Both grow chunk by chunk: an interrupted run goes
on where it stopped. The tokenizers of Hugging Face work on all cores by themselves.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from ..common.cli import InputError
from ..common.files import fingerprint, locked, read_json, remove, write_json

CHUNK = 20_000  # texts between two writes to disk


def separator(model: SentenceTransformer) -> str:
    """The separator token of the model's tokenizer, or a space if it has none."""
    return getattr(model.tokenizer, "sep_token", None) or " "


def join_texts(patents: pd.DataFrame, separator: str) -> list[str]:
    """The text of each patent as a model reads it: title + separator token + abstract.

    The separator is the tokenizer's own (`</s>` for MPNet, `[SEP]` for BERT), the form that PatentSBERTa was trained
    with (Bekamiri et al. 2021, https://arxiv.org/abs/2103.11933).
    """
    return (patents["title"].str.strip() + separator + patents["abstract"].str.strip()).tolist()


def token_ids(model: SentenceTransformer, texts: list[str]) -> list[np.ndarray]:
    """The ids that the model reads of each text, special tokens included, cut at its limit."""
    if not texts:
        return []
    limit = model.max_seq_length
    found = model.tokenizer(texts, truncation=limit is not None, max_length=limit, verbose=False)["input_ids"]
    return [np.asarray(ids, _dtype(model)) for ids in found]


def _dtype(model: SentenceTransformer) -> type:
    return np.uint16 if len(model.tokenizer) <= 2**16 else np.uint32


class Tokens(Sequence[np.ndarray]):
    """The token ids of text 0, 1, …, read from disk when they are asked for."""

    def __init__(self, folder: Path) -> None:
        """Open what `tokenise` wrote. Raises `InputError` when that was changed."""
        record = read_json(folder / "tokens.json")
        if record.get("contents") != fingerprint([folder / "ids.bin", folder / "lengths.bin"]):
            raise InputError(f"{folder} is damaged")
        self.lengths = np.fromfile(folder / "lengths.bin", np.uint16)
        self.starts = np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])
        self.ids = np.memmap(folder / "ids.bin", record["dtype"], "r")

    def __len__(self) -> int:
        """How many texts there are."""
        return len(self.lengths)

    def __getitem__(self, row: int) -> np.ndarray:  # type: ignore[override]
        """The ids of a text."""
        return self.ids[self.starts[row] : self.starts[row + 1]]


def tokenise(model: SentenceTransformer, patents: pd.DataFrame, cache: Path) -> Tokens:
    """Tokenise title + separator + abstract of all `patents`, in a folder of `cache` named by what it depends on."""
    tokenizer = model.tokenizer
    sep = separator(model)
    if tokenizer.is_fast:
        rules = json.loads(tokenizer.backend_tokenizer.to_str())
        rules |= {"truncation": None, "padding": None}  # which are as the last texts wanted them
    else:
        rules = sorted(tokenizer.get_vocab().items())
    digest = hashlib.sha256(f"{rules}\0{model.max_seq_length}\0{sep}".encode())
    for title, abstract in zip(patents["title"], patents["abstract"], strict=True):
        digest.update(f"{title}\0{abstract}\0".encode("utf-8", "surrogatepass"))
    folder = cache / digest.hexdigest()[:16]
    if (folder / "tokens.json").exists():
        try:
            return Tokens(folder)
        except (InputError, OSError) as damaged:
            print(f"tokenise: {damaged}: begins anew")
            remove(folder)
    with locked(folder):
        _write(model, patents, sep, folder)
    return Tokens(folder)


def _write(model: SentenceTransformer, patents: pd.DataFrame, sep: str, folder: Path) -> None:
    """Append what is missing; ids go first, so that a text whose length is there is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    ids_file, lengths_file = folder / "ids.bin", folder / "lengths.bin"
    size = np.dtype(_dtype(model)).itemsize
    for file in (ids_file, lengths_file):
        file.touch()
    whole = np.fromfile(lengths_file, np.uint16)
    with ids_file.open("r+b") as ids, lengths_file.open("r+b") as lengths:
        ids.truncate(int(whole.sum(dtype=np.int64)) * size)
        lengths.truncate(len(whole) * 2)
        ids.seek(0, 2)
        lengths.seek(0, 2)
        with tqdm(total=len(patents), initial=len(whole), desc="tokenise", unit="text", unit_scale=True) as bar:
            for start in range(len(whole), len(patents), CHUNK):
                found = token_ids(model, join_texts(patents.iloc[start : start + CHUNK], sep))
                ids.write(np.concatenate(found).tobytes())
                ids.flush()
                lengths.write(np.array([len(text) for text in found], np.uint16).tobytes())
                lengths.flush()
                bar.update(len(found))
    tokens = ids_file.stat().st_size // size
    print(f"tokenise: {len(patents):,} texts, {tokens:,} tokens, {ids_file.stat().st_size / 1e6:,.1f} MB")
    contents = fingerprint([ids_file, lengths_file])
    write_json(folder / "tokens.json", {"dtype": np.dtype(_dtype(model)).name, "contents": contents})
