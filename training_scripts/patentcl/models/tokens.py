"""Token ids of texts: each patent is tokenised once, on all cores, into a memory-mapped file.

`<folder>/ids.bin` holds the ids of all texts end to end (2 bytes each if the vocabulary allows, so 9 million patents
of 160 tokens take 2.9 GB), `lengths.bin` the number of tokens of each text. Hugging Face's tokenizers use all cores by
themselves.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from ..common.files import is_done, locked, read_json, write_record
from ..common.resources import require

FILES = ("ids.bin", "lengths.bin")
LONGEST = 2**16 - 1  # tokens of a text; its length is stored in two bytes
Blocks = Callable[[int], Iterator[pd.DataFrame]]  # from a row on: columns title, abstract
Rows = list[np.ndarray]  # token ids of each text


def separator(model: SentenceTransformer) -> str:
    """The separator token of the model's tokenizer, or a space if it has none."""
    return getattr(model.tokenizer, "sep_token", None) or " "


def prompt_of(model: SentenceTransformer) -> str:
    """The prompt that the model's `encode` puts before each text, empty if there is none."""
    return str(model.prompts.get(model.default_prompt_name or "", ""))


def join_texts(patents: pd.DataFrame, separator: str) -> list[str]:
    """The text of each patent as a model reads it: title + separator token + abstract.

    The separator is the tokenizer's own (`</s>` for MPNet, `[SEP]` for BERT), the form that PatentSBERTa was trained
    with (Bekamiri et al. 2021, https://arxiv.org/abs/2103.11933).
    """
    return (patents["title"].str.strip() + separator + patents["abstract"].str.strip()).tolist()


def token_ids(model: SentenceTransformer, texts: list[str]) -> list[np.ndarray]:
    """The ids that the model reads of each text: with its prompt and special tokens, truncated at its limit."""
    if not texts:
        return []
    others = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
    texts = [prompt_of(model) + text for text in texts]
    ids = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length, **others)["input_ids"]
    return [np.asarray(row, _dtype(model)) for row in ids]


def _dtype(model: SentenceTransformer) -> np.dtype:
    return np.dtype(np.uint16 if len(model.tokenizer) <= 2**16 else np.uint32)


class Tokens(Sequence[np.ndarray]):
    """The token ids of text 0, 1, …, read from disk on access; `lengths` (N,) is the number of tokens of each."""

    def __init__(self, folder: Path) -> None:
        """Open what `tokenise` wrote."""
        self.ids = np.memmap(folder / "ids.bin", read_json(folder / "tokens.json")["dtype"], "r")
        self.lengths = np.fromfile(folder / "lengths.bin", np.uint16)
        self.starts = np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])

    def __len__(self) -> int:
        """The number of texts."""
        return len(self.lengths)

    def __getitem__(self, row: int) -> np.ndarray:  # type: ignore[override]
        """The ids of a text."""
        return self.ids[self.starts[row] : self.starts[row + 1]]


def tokenise(model: SentenceTransformer, count: int, blocks: Blocks, fingerprint: str, cache: Path) -> Tokens:
    """Tokenise title + separator + abstract of `count` texts, those of the dataset with this `fingerprint`.

    `blocks(start)` yields the texts from `start` on, some at a time. The ids are in a folder of `cache` named by the
    dataset, the tokenizer and the maximum length. A run that was interrupted resumes after its last block. Raises
    `InputError` if the disk is too small, after the first block, by whose lengths that is estimated.
    """
    folder = cache / _name(model, f"{fingerprint} {count}")
    if not is_done(folder / "tokens.json", {"texts": count}):
        with locked(folder):
            _write(model, count, blocks, folder)
    return Tokens(folder)


def _name(model: SentenceTransformer, texts: str) -> str:
    """A hash of all that the ids depend on."""
    tokenizer = model.tokenizer
    rules = json.loads(tokenizer.backend_tokenizer.to_str()) if tokenizer.is_fast else tokenizer.get_vocab()
    rules |= {"truncation": None, "padding": None}  # they change with every call
    parts = f"{rules}\0{model.max_seq_length}\0{prompt_of(model)}\0{separator(model)}\0{texts}"
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def _write(model: SentenceTransformer, count: int, blocks: Blocks, folder: Path) -> None:
    """Append the texts that are missing. Ids are written first, so those of a text with a length are complete."""
    folder.mkdir(parents=True, exist_ok=True)
    size = _dtype(model).itemsize
    with (folder / "ids.bin").open("ab") as ids, (folder / "lengths.bin").open("ab") as lengths:
        ends = np.cumsum(np.fromfile(lengths.name, np.uint16), dtype=np.int64) * size
        done = int(np.searchsorted(ends, ids.tell(), side="right"))
        ids.truncate(ends[done - 1] if done else 0)
        lengths.truncate(2 * done)
        with tqdm(total=count, initial=done, desc="tokenise", unit="text", unit_scale=True) as bar:
            for rows in tokens_ahead(model, blocks(done)):
                if bar.n == done:
                    each = sum(map(len, rows)) / len(rows) * size + 2
                    require(folder, each * (count - done), 0, f"tokenising {count:,} texts")
                ids.write(np.concatenate(rows).tobytes())
                ids.flush()
                lengths.write(np.array([len(row) for row in rows], np.uint16).tobytes())
                lengths.flush()
                bar.update(len(rows))
    write_record(folder / "tokens.json", {"params": {"texts": count}, "dtype": _dtype(model).name}, FILES)


def tokens_ahead(model: SentenceTransformer, blocks: Iterator[pd.DataFrame]) -> Iterator[Rows]:
    """The token ids of each block of patents, in order; two are made at a time and one ahead, on all cores.

    The tokenizer uses all cores by itself, but not while its result becomes arrays.
    """

    def work(block: pd.DataFrame) -> Rows:
        return token_ids(model, join_texts(block, separator(model)))

    with ThreadPoolExecutor(2) as pool:
        running = deque(pool.submit(work, block) for block in islice(blocks, 2))
        while running:
            running.extend(pool.submit(work, block) for block in islice(blocks, 1))
            yield running.popleft().result()
