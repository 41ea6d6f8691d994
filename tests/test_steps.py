"""The gradient of a step is the stock library's, however the batch is packed, cut or shared."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import TripletLoss

from patentcl.common.cli import InputError
from patentcl.models import attention
from patentcl.models.attention import Layout
from patentcl.models.load import MINILM, Model, find_model
from patentcl.models.packing import choose_backend, embed_packed
from patentcl.models.tokens import token_ids
from patentcl.training import gradient as gradient_module
from patentcl.training.batches import Batches
from patentcl.training.distillation import Distilled, Teacher
from patentcl.training.gradient import Gradient, set_dropout
from patentcl.training.losses import InBatchContrast, Links, Loss, TripletMargin
from tiny import untrained

TEXTS = [
    "a pump",
    "a valve that opens when the pressure of a liquid in the chamber rises",
    "a lamp",
    "a shut-off member of some length",
    "a bulb",
    "a text about how water is treated with bacteria in a basin " * 4,
    "a chair",
    "a table with four legs and a drawer, of which one can be locked",
    "a hat",
]
BATCH = np.array([[0, 1, 2], [3, 4, 5], [0, 7, 8], [6, 7, 1]])  # 0, 1 and 7 occur twice
ONE_TEXT = np.array([[0, 0, 0]])  # fewer texts than processes
NO_LINKS = Links(np.empty((0, 2), int), np.arange(9))


class Opinion:
    """A teacher of made-up cosines."""

    texts = TEXTS

    def cosines(self, rows: np.ndarray) -> np.ndarray:
        square = np.random.default_rng(0).random((len(TEXTS), len(TEXTS))).astype(np.float32)
        return (square + square.T)[np.ix_(rows, rows)]


CONTRAST = InBatchContrast(NO_LINKS, 20)
LOSSES = (TripletMargin(5), CONTRAST, Distilled(CONTRAST, cast("Teacher", Opinion()), weight=1, scale=5))


@pytest.fixture(scope="module", params=["bert", "mpnet", "roberta"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    return untrained(tmp_path_factory.mktemp(request.param), request.param).load().to("cpu")


@pytest.fixture(autouse=True)
def without_dropout(request: pytest.FixtureRequest) -> Iterator[None]:
    if "model" in request.fixturenames:
        used = request.getfixturevalue("model")
        used.train()
        set_dropout(used, 0)
    yield


def gradient(model: SentenceTransformer) -> torch.Tensor:
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).ravel() for p in model.parameters()])


def ours(
    model: SentenceTransformer, loss: Loss, batch: np.ndarray = BATCH, **more: object
) -> tuple[float, torch.Tensor]:
    step = Gradient(model, token_ids(model, TEXTS), loss, seed=1, **more)  # type: ignore[arg-type]
    value = step.compute(0, batch).item()
    return value, gradient(model)


def stock(model: SentenceTransformer, margin: float = 5) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    columns = [model.preprocess([TEXTS[row] for row in BATCH[:, role]]) for role in range(3)]
    loss = TripletLoss(model, triplet_margin=margin)(columns, torch.zeros(len(BATCH)))
    loss.backward()
    return loss.item(), gradient(model)


def assert_same(result: tuple[float, torch.Tensor], wanted: tuple[float, torch.Tensor]) -> None:
    assert result[0] == pytest.approx(wanted[0], abs=1e-5)
    assert float((result[1] - wanted[1]).norm() / wanted[1].norm()) < 1e-5


def test_mpnet_reads_two_tokens_less_than_it_has_positions(tmp_path: Path) -> None:
    model = untrained(tmp_path, "mpnet")

    assert model.load(max_length=128).max_seq_length == 128
    with pytest.raises(InputError, match=r"--max-length 129 .* 128 tokens"):
        model.load(max_length=129)


@pytest.mark.parametrize(("backend", "slack"), [("sdpa", 0.15), ("sdpa", 0.7), ("padded", 0)])
def test_a_step_has_the_stock_librarys_loss_and_gradient(
    model: SentenceTransformer, backend: str, slack: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(attention.SLACK, "cpu", slack)
    wanted = stock(model)

    assert_same(ours(model, TripletMargin(5), backend=backend), wanted)
    assert_same(stock(model), wanted)  # the stock model computes as before


def test_a_trained_model_has_the_stock_gradient_and_stays_near_it_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    model = find_model(MINILM).load().to("cpu")
    set_dropout(model, 0)
    wanted = stock(model)
    assert_same(ours(model, TripletMargin(5)), wanted)
    monkeypatch.setenv("PATENTCL_PRECISION", "bf16")

    assert choose_backend(model, "sdpa", pytest.fail) == "sdpa"
    result = ours(model, TripletMargin(5))

    assert 0 < abs(result[0] - wanted[0]) < 0.01 * wanted[0]
    assert float((result[1] - wanted[1]).norm() / wanted[1].norm()) < 0.1


@pytest.mark.parametrize("precision", ["tf32", "half"])
def test_a_precision_that_is_unknown_or_needs_a_gpu_is_refused(
    small_model: Model, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model.load().to("cpu")
    monkeypatch.setenv("PATENTCL_PRECISION", precision)

    with pytest.raises(InputError, match=f"PATENTCL_PRECISION .*{precision}"):
        ours(model, TripletMargin(5))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("micro", [1, 3])
def test_a_batch_in_parts_has_the_gradient_of_the_complete_batch(
    model: SentenceTransformer, loss: Loss, micro: int
) -> None:
    assert_same(ours(model, loss, micro=micro), ours(model, loss))


def test_dropout_is_repeated_where_a_text_is_embedded_twice(model: SentenceTransformer) -> None:
    set_dropout(model, 0.3)
    loss = InBatchContrast(NO_LINKS, 20)

    first, again = ours(model, loss, micro=1), ours(model, loss, micro=1)
    other = Gradient(model, token_ids(model, TEXTS), loss, seed=1, micro=1).compute(1, BATCH).item()

    assert first[0] == again[0] and torch.equal(first[1], again[1])
    assert other != first[0]


ERRORS = (
    torch.OutOfMemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
)


def memory_of(most: int, error: RuntimeError, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a device hold `most` texts at a time."""

    def narrow(model: SentenceTransformer, texts: list[np.ndarray], backend: str) -> torch.Tensor:
        if len(texts) > most:
            raise error
        return embed_packed(model, texts, backend)

    monkeypatch.setattr(gradient_module, "embed_packed", narrow)


@pytest.mark.parametrize("error", ERRORS)
def test_out_of_memory_halves_the_micro_batch(
    model: SentenceTransformer, error: RuntimeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_of(3, error, monkeypatch)  # the texts of one triplet
    warnings: list[str] = []
    step = Gradient(model, token_ids(model, TEXTS), TripletMargin(5), 1, warn=warnings.append)

    assert step.compute(0, BATCH).item() == pytest.approx(stock(model)[0], abs=1e-5)
    assert (step.micro, len(warnings)) == (1, 2)


def test_one_triplet_that_does_not_fit_into_memory_is_refused(
    small_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_of(2, ERRORS[0], monkeypatch)
    model = small_model.load().to("cpu")

    with pytest.raises(InputError, match="--max-length"):
        Gradient(model, token_ids(model, TEXTS), TripletMargin(5), 1).compute(0, BATCH)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("backend", ["sdpa", "flex"])
def test_packed_attention_is_the_stock_models(model: SentenceTransformer, backend: str) -> None:
    model.eval()
    with torch.inference_mode():
        wanted = model.encode(TEXTS, convert_to_tensor=True, batch_size=9)
        torch.testing.assert_close(embed_packed(model, token_ids(model, TEXTS), backend), wanted, atol=1e-5, rtol=1e-4)


def test_a_backend_that_is_unavailable_or_wrong_is_replaced_with_a_warning(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    assert choose_backend(model, "sdpa", warnings.append) == "sdpa" and not warnings
    assert choose_backend(model, "flex", warnings.append) == "sdpa" and "--attention flex" in warnings.pop()

    right = Layout.attend
    monkeypatch.setattr(Layout, "attend", lambda *arguments: right(*arguments) * 1.01)
    assert choose_backend(model, "sdpa", warnings.append) == "padded" and "--attention sdpa" in warnings.pop()


def test_a_layout_pads_attention_little_and_covers_every_token() -> None:
    lengths = -np.sort(-np.random.default_rng(0).integers(3, 300, 48))

    layout = Layout(lengths, torch.device("cpu"))

    assert sum(len(group.real) for group in layout.groups) == lengths.sum() == len(layout.positions)
    assert sum(len(group.mask) for group in layout.groups) == 48 and len(layout.groups) < 16
    cells = sum(len(group.mask) * group.width for group in layout.groups)
    assert cells < lengths.sum() / (1 - attention.SLACK["cpu"])


def test_an_epoch_sees_every_triplet_once_in_batches_of_similar_length() -> None:
    draw = np.random.default_rng(0)
    triplets, lengths = draw.integers(0, 500, (1003, 3)), draw.integers(5, 300, 500)
    triplets[:, 0] = np.arange(1003) % 500
    batches = Batches(triplets, lengths, 16, seed=7)

    first, second = ([batches[step + epoch * 63] for step in range(63)] for epoch in range(2))

    everything = sorted(map(tuple, triplets))
    for epoch in (first, second):
        assert sorted(map(tuple, np.concatenate(epoch))) == everything
    assert [len(batch) for batch in first].count(16) == 62 and min(len(batch) for batch in first) == 11
    assert not np.array_equal(first[0], second[0])
    assert np.array_equal(Batches(triplets, lengths, 16, seed=7)[70], second[7])  # whatever was asked for before
    spread = np.mean([np.ptp(lengths[batch].sum(axis=1)) for batch in first])
    assert spread < 0.2 * np.ptp(lengths[triplets].sum(axis=1))


TWO = """
import sys
import torch
from patentcl.common.distributed import add, join, rank
from patentcl.models.load import find_model
from patentcl.models.tokens import token_ids
from patentcl.training import gradient as module
from patentcl.training.gradient import Gradient, set_dropout
sys.path.insert(0, sys.argv[1])
from test_steps import BATCH, LOSSES, ONE_TEXT, TEXTS, embed_packed, gradient
join()
torch.set_num_threads(1)
model = find_model(sys.argv[3]).load().to("cpu")
model.train()
set_dropout(model, 0)
results, warnings = [], []


def compute(loss, batch):
    step = Gradient(model, token_ids(model, TEXTS), loss, 1, warn=warnings.append)
    results.extend([add(step.compute(0, batch)).reshape(1), gradient(model)])


def narrow(model, texts, backend):
    if rank() == 1 and len(texts) > 3:  # one of the two runs out of memory
        raise torch.OutOfMemoryError
    return embed_packed(model, texts, backend)


for loss in LOSSES:
    compute(loss, BATCH)
module.embed_packed = narrow
for batch in (BATCH, ONE_TEXT):
    compute(LOSSES[1], batch)
assert len(warnings) == 1, warnings  # 2 of 4 triplets are its share, 1 is what fits
torch.save(results, f"{sys.argv[2]}/{rank()}.pt")
"""


def test_two_processes_have_the_gradient_of_one(small_model: Model, tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(TWO)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    arguments = [tmp_path / "two.py", Path(__file__).parent, tmp_path, small_model.folder]

    subprocess.run([*launch, *arguments], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    model = small_model.load().to("cpu")
    model.train()
    set_dropout(model, 0)
    alone = [ours(model, loss) for loss in LOSSES]
    alone += [ours(model, CONTRAST, batch=batch) for batch in (BATCH, ONE_TEXT)]
    for process in range(2):
        together = torch.load(tmp_path / f"{process}.pt")
        for place, (value, grad) in enumerate(alone):
            assert together[2 * place].item() == pytest.approx(value, abs=1e-5)
            assert float((together[2 * place + 1] - grad).norm()) <= 1e-5 * float(grad.norm()) + 1e-9
