"""The gradient of a step is the stock library's, however the batch is packed, cut or shared."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import TripletLoss
from torch.nn.attention.flex_attention import create_block_mask

from patentcl.common.cli import InputError
from patentcl.models import attention
from patentcl.models.attention import Layout
from patentcl.models.load import MINILM, find_model
from patentcl.models.packing import choose_backend, embed_packed
from patentcl.models.tokens import token_ids
from patentcl.training.batches import Batches
from patentcl.training.gradient import Steps, set_dropout
from patentcl.training.losses import InBatchContrast, Links
from tiny import untrained

TEXTS = [
    "a pump", "a valve that opens when the pressure of a liquid in the chamber rises", "a lamp",
    "a shut-off member of some length", "a bulb", "a text about how water is treated with bacteria in a basin " * 4,
    "a chair", "a table with four legs and a drawer, of which one can be locked", "a hat",
]  # fmt: skip
BATCH = np.array([[0, 1, 2], [3, 4, 5], [0, 7, 8], [6, 7, 1]])  # 0, 1 and 7 stand there twice
ONE_TEXT = np.array([[0, 0, 0]])  # fewer texts than processes
NO_LINKS = Links(np.empty((0, 2), int), np.arange(9))


@pytest.fixture(scope="module", params=["minilm", "mpnet", "roberta"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    if request.param == "minilm":
        return find_model(MINILM).load(device="cpu")
    return untrained(tmp_path_factory.mktemp(request.param), request.param).load(device="cpu")


@pytest.fixture(autouse=True)
def without_dropout(request: pytest.FixtureRequest) -> Iterator[None]:
    if "model" in request.fixturenames:
        own = request.getfixturevalue("model")
        own.train()
        set_dropout(own, 0)
    yield


def gradient(model: SentenceTransformer) -> torch.Tensor:
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).ravel() for p in model.parameters()])


def ours(
    model: SentenceTransformer, loss: torch.nn.Module, batch: np.ndarray = BATCH, **more: object
) -> tuple[float, torch.Tensor]:
    steps = Steps(model, token_ids(model, TEXTS), loss, seed=1, **more)  # type: ignore[arg-type]
    value = steps.gradient(0, batch).item()
    return value, gradient(model)


def stock(model: SentenceTransformer, margin: float = 5) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    columns = [model.preprocess([TEXTS[row] for row in BATCH[:, role]]) for role in range(3)]
    loss = TripletLoss(model, triplet_margin=margin)(columns, torch.zeros(len(BATCH)))
    loss.backward()
    return loss.item(), gradient(model)


def test_mpnet_reads_two_tokens_less_than_it_has_positions(tmp_path: Path) -> None:
    model = untrained(tmp_path, "mpnet")

    assert model.load(max_length=128).max_seq_length == 128
    with pytest.raises(InputError, match=r"--max-length 129 .* 128 tokens"):
        model.load(max_length=129)


@pytest.mark.parametrize(("way", "slack"), [("sdpa", 0.15), ("sdpa", 0.7), ("padded", 0)])
def test_a_step_has_the_stock_librarys_loss_and_gradient(
    model: SentenceTransformer, way: str, slack: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(attention.SLACK, "cpu", slack)
    wanted, found = stock(model), ours(model, TripletLoss(model, triplet_margin=5), way=way)

    assert found[0] == pytest.approx(wanted[0], abs=1e-5)
    assert float((found[1] - wanted[1]).norm() / wanted[1].norm()) < 1e-5


def test_bf16_stays_near_the_stock_models_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    model = find_model(MINILM).load(device="cpu")
    set_dropout(model, 0)
    wanted = stock(model)
    monkeypatch.setenv("PATENTCL_PRECISION", "bf16")

    assert choose_backend(model, "sdpa", pytest.fail) == "sdpa"
    found = ours(model, TripletLoss(model, triplet_margin=5))

    assert 0 < abs(found[0] - wanted[0]) < 0.01 * wanted[0]
    assert float((found[1] - wanted[1]).norm() / wanted[1].norm()) < 0.1
    monkeypatch.setenv("PATENTCL_PRECISION", "tf32")
    with pytest.raises(InputError, match="PATENTCL_PRECISION is tf32"):
        ours(model, TripletLoss(model, triplet_margin=5))
    monkeypatch.setenv("PATENTCL_PRECISION", "half")
    with pytest.raises(InputError, match="PATENTCL_PRECISION is 'half'"):
        ours(model, TripletLoss(model, triplet_margin=5))


@pytest.mark.parametrize("micro", [1, 3])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(model: SentenceTransformer, micro: int) -> None:
    for loss in (TripletLoss(model, triplet_margin=5), InBatchContrast(NO_LINKS, 20)):
        whole, parts = ours(model, loss), ours(model, loss, micro=micro)

        assert parts[0] == pytest.approx(whole[0], abs=1e-5)
        assert float((parts[1] - whole[1]).norm() / whole[1].norm()) < 1e-5


def test_dropout_is_repeated_where_a_text_is_embedded_twice(model: SentenceTransformer) -> None:
    set_dropout(model, 0.3)
    loss = InBatchContrast(NO_LINKS, 20)

    first, again = ours(model, loss, micro=1), ours(model, loss, micro=1)
    other = Steps(model, token_ids(model, TEXTS), loss, seed=1, micro=1).gradient(1, BATCH).item()

    assert first[0] == again[0] and torch.equal(first[1], again[1])
    assert other != first[0]


LACKS = (
    torch.OutOfMemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
)


@pytest.mark.parametrize("lack", LACKS)
def test_out_of_memory_halves_what_is_embedded_at_a_time(model: SentenceTransformer, lack: RuntimeError) -> None:
    said: list[str] = []
    steps = Steps(model, token_ids(model, TEXTS), TripletLoss(model, triplet_margin=5), 1, say=said.append)
    embed = steps._embed

    def narrow(step: int, rows: np.ndarray) -> torch.Tensor:
        if len(rows) > 3:  # the texts of one triplet
            raise lack
        return embed(step, rows)

    steps._embed = narrow  # type: ignore[method-assign]
    value = steps.gradient(0, BATCH).item()

    assert (value, steps.micro, len(said)) == (pytest.approx(stock(model)[0], abs=1e-5), 1, 2)
    assert "from here on 1 triplets at a time; the batch stays 4" in said[-1]
    steps._embed = lambda step, rows: narrow(step, np.arange(9))  # type: ignore[method-assign]
    with pytest.raises(InputError, match="out of memory with 1 triplet at a time: start anew with a smaller"):
        steps.gradient(0, BATCH)


def test_packed_attention_is_the_stock_models_on_both_ways(model: SentenceTransformer) -> None:
    model.eval()
    texts = token_ids(model, TEXTS)
    with torch.inference_mode():
        wanted = model.encode(TEXTS, convert_to_tensor=True, batch_size=9)
        for way in ("sdpa", "flex"):
            found = embed_packed(model, texts, way)
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_an_architecture_that_cannot_be_packed_is_padded_and_that_is_said(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    assert choose_backend(model, "sdpa", said.append) == "sdpa" and not said
    assert choose_backend(model, "flex", said.append) == "sdpa" and "CUDA" in said.pop()

    def wrong(*arguments: object) -> torch.Tensor:
        return attention.attend_by_groups(*arguments) * 1.01  # type: ignore[arg-type]

    monkeypatch.setitem(attention.ATTENTION, "sdpa", wrong)
    assert choose_backend(model, "sdpa", said.append) == "padded" and "differs from the stock model" in said.pop()


def test_a_layout_pads_attention_little_and_covers_every_token() -> None:
    lengths = np.sort(np.random.default_rng(0).integers(3, 300, 48))[::-1]

    layout = Layout(lengths, torch.device("cpu"))

    assert sum(group.tokens for group in layout.groups) == lengths.sum() == len(layout.positions)
    assert sum(group.count for group in layout.groups) == 48 and len(layout.groups) < 16
    cells = sum(group.count * group.width for group in layout.groups)
    assert cells < lengths.sum() / (1 - attention.SLACK["cpu"])


def test_flex_attention_skips_the_blocks_that_share_no_text() -> None:
    lengths = np.sort(np.random.default_rng(0).integers(3, 300, 48))[::-1]
    layout = Layout(lengths, torch.device("cpu"))
    text, tokens = layout.texts, int(lengths.sum())

    wanted = create_block_mask(lambda _, __, q, k: text[q] == text[k], None, None, tokens, tokens, device="cpu")

    assert torch.equal(layout.blocks.to_dense(), wanted.to_dense())
    assert 0 < layout.blocks.to_dense().float().mean() < 0.1


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
import sys, numpy as np, torch
from sentence_transformers.sentence_transformer.losses import TripletLoss
from patentcl.training.losses import InBatchContrast, Links
from patentcl.models.load import MINILM, find_model
from patentcl.common.distributed import add, join, rank
from patentcl.training.gradient import Steps, set_dropout
from patentcl.models.tokens import token_ids
sys.path.insert(0, sys.argv[1])
from test_steps import BATCH, NO_LINKS, ONE_TEXT, TEXTS, gradient
join()
torch.set_num_threads(1)
model = find_model(MINILM).load(device="cpu")
model.train()
set_dropout(model, 0)
found = []
for loss in (TripletLoss(model, triplet_margin=5), InBatchContrast(NO_LINKS, 20)):
    value = add(Steps(model, token_ids(model, TEXTS), loss, 1).gradient(0, BATCH))
    found += [value.reshape(1), gradient(model)]
embed, said = Steps._embed, []


def narrow(steps, step, rows):
    if rank() == 1 and len(rows) > 3:  # memory is not enough on one of the two
        raise torch.OutOfMemoryError
    return embed(steps, step, rows)


Steps._embed = narrow
for batch in (BATCH, ONE_TEXT):
    steps = Steps(model, token_ids(model, TEXTS), loss, 1, say=said.append)
    found += [add(steps.gradient(0, batch)).reshape(1), gradient(model)]
assert len(said) == 1, said  # 2 of 4 triplets are its share, 1 is what it can hold
torch.save(found, f"{sys.argv[2]}/{rank()}.pt")
"""


def test_two_processes_have_the_gradient_of_one(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(TWO)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]

    subprocess.run([*launch, tmp_path / "two.py", Path(__file__).parent, tmp_path], check=True, env=environment)

    model = find_model(MINILM).load(device="cpu")
    model.train()
    set_dropout(model, 0)
    contrast = InBatchContrast(NO_LINKS, 20)
    alone = [ours(model, TripletLoss(model, triplet_margin=5)), ours(model, contrast)]
    alone += [ours(model, contrast), ours(model, contrast, ONE_TEXT)]  # with too little memory, and of a single text
    for process in range(2):
        together = torch.load(tmp_path / f"{process}.pt")
        for place, (value, grad) in enumerate(alone):
            assert together[2 * place].item() == pytest.approx(value, abs=1e-5)
            assert float((together[2 * place + 1] - grad).norm()) <= 1e-5 * float(grad.norm()) + 1e-9
