"""Memory of a long run does not grow: no step leaves tensors behind, and what was freed goes back to the system."""

import gc
import os
import platform
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from patentcl.models.embed import encode_tokens
from patentcl.models.load import Model
from patentcl.models.tokens import token_ids
from patentcl.training import loop
from patentcl.training.gradient import Gradient
from patentcl.training.losses import InBatchContrast, Links, TripletMargin
from patentcl.training.options import Hyperparameters
from patentcl.training.train import train
from patentcl.triplets.dataset import Dataset
from tiny import untrained

TEXTS = ["pump", "a valve that opens", "a lamp with a lens", "a text about water " * 5]
LOSSES = (TripletMargin(5), InBatchContrast(Links(np.empty((0, 2), int), np.arange(4)), 20))
BLOCK, BLOCKS = 100_000, 1_000  # bytes of a tensor, and tensors
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def leave_gaps() -> list[torch.Tensor]:
    """Free 19 of 20 tensors; those that are returned keep the gaps between them from the system."""
    return [torch.ones(BLOCK // 4) for _ in range(BLOCKS)][::20]


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_the_tensors_of_a_step_do_not_wait_for_the_garbage_collector(kind: str, tmp_path: Path) -> None:
    model = untrained(tmp_path, kind).load().to("cpu")
    tokens = token_ids(model, TEXTS)
    steps = [Gradient(model, tokens, loss, seed=1) for loss in LOSSES]

    def tensors_after(number: int) -> int:
        for step in steps:
            step.compute(number, np.array([[0, 1, 2], [3, 1, 0]]))
        encode_tokens(model, tokens)
        return sum(type(thing) is torch.Tensor for thing in gc.get_objects())

    tensors_after(0)
    gc.collect()
    assert tensors_after(1) == tensors_after(2)


@glibc
def test_an_embedding_returns_the_memory_that_was_freed(small_model: Model) -> None:
    model = small_model.load().to("cpu")
    pins = leave_gaps()
    before = resident()

    encode_tokens(model, token_ids(model, TEXTS))

    assert before - resident() > BLOCK * BLOCKS / 2, len(pins)


@glibc
def test_a_training_returns_the_memory_that_was_freed(
    data: Dataset, trained: Path, tiny: Hyperparameters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "TRIM_STEPS", 4)
    pins: list[torch.Tensor] = []
    sizes: list[int] = []

    def on_step(step: int, _: SentenceTransformer) -> None:
        if step == 2:
            pins.extend(leave_gaps())
        sizes.append(resident())

    train(data, tmp_path / "m", trained.parent / "cache", replace(tiny, evaluations=0), on_step=on_step)

    assert sizes[3] - sizes[4] > BLOCK * BLOCKS / 2
