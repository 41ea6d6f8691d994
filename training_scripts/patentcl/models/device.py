"""The device a model runs on: its precision, its memory errors, and copies to it."""

import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from ..common.cli import InputError

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
OUT_OF_MEMORY = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")  # in the RuntimeErrors of a CPU and of cuBLAS


def precision() -> str:
    """The precision of matrix products: "fp32", "tf32" or "bf16".

    bf16 where the hardware computes it natively (CUDA from Ampere on, CPUs with AMX or AVX-512 BF16), else fp32.
    The environment variable PATENTCL_PRECISION overrides this, for results that do not depend on the machine.
    Raises `InputError` when its value is unknown or impossible here.
    """
    wanted = os.environ.get("PATENTCL_PRECISION", "")
    if not wanted:
        if torch.cuda.is_available():
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
        return "bf16" if native else "fp32"
    if wanted not in PRECISIONS:
        raise InputError(f"PATENTCL_PRECISION is {wanted!r}. Set it to {', '.join(PRECISIONS)}, or unset it.")
    if wanted == "tf32" and not torch.cuda.is_available():
        raise InputError("PATENTCL_PRECISION is tf32, which needs a GPU. Set it to fp32 or bf16.")
    return wanted


def autocast(model: SentenceTransformer) -> AbstractContextManager[Any]:
    """Autocast to bf16 where `precision` is bf16."""
    return torch.autocast(model.device.type, torch.bfloat16, enabled=precision() == "bf16")


@contextmanager
def out_of_memory_translated() -> Iterator[None]:
    """Re-raise out-of-memory errors of a CPU and of cuBLAS as `torch.OutOfMemoryError`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or any(text in str(error) for text in OUT_OF_MEMORY):
            raise torch.OutOfMemoryError(str(error)) from None
        raise


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy an array to `device`, to a GPU without waiting for it."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def peak_memory_gb() -> float:
    """The peak memory so far, of the GPU or else of this process, in GB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 1e9  # with that of CUDA graphs
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)


def return_freed_memory() -> None:
    """Give freed memory back to the system: glibc keeps it, in gaps that tensors of other sizes do not fit.

    So it grows with each new size. PyTorch's developers advise this call, https://github.com/pytorch/pytorch/issues/41486.
    """
    getattr(ctypes.CDLL(None), "malloc_trim", bool)(0)  # other C libraries have none
