"""Static shapes, as CUDA graphs need them, change neither embeddings nor gradients; on a CPU every graph is a call."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from torch.nn.attention.flex_attention import create_block_mask
from torch.utils._python_dispatch import TorchDispatchMode

from patentcl.common.cli import InputError, Interrupted
from patentcl.models import embed, graphs
from patentcl.models.embed import encode_tokens
from patentcl.models.graphs import WARM_UP, Graphs, NotRecorded
from patentcl.models.load import MINILM, find_model
from patentcl.models.packing import embed_packed, embed_static, packing_of
from patentcl.models.static import BLOCK, Static, first_fit, shapes_for, smallest
from patentcl.models.tokens import join_texts, separator, token_ids
from patentcl.training import loop as loop_module
from patentcl.training import train as train_module
from patentcl.training.batches import Batches
from patentcl.training.gradient import Gradient, set_dropout
from patentcl.training.losses import InBatchContrast, Links, Loss, TripletMargin
from patentcl.training.options import Hyperparameters, RunOptions
from patentcl.training.static_steps import StaticSteps
from patentcl.training.train import train
from patentcl.triplets.dataset import Dataset
from test_steps import BATCH, LOSSES, TEXTS, gradient, ours
from tiny import untrained

BACKENDS = ["rows", "flex"]
LINKED = InBatchContrast(Links(np.array([[0, 4], [3, 7]]), np.arange(9)), 20)


@pytest.fixture(scope="module", params=["bert", "mpnet", "roberta"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    model = untrained(tmp_path_factory.mktemp(request.param), request.param).load().to("cpu")
    model.train()
    set_dropout(model, 0)
    return model


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "DEVICES", {"cpu"})


def static_of(model: SentenceTransformer, rows: int, width: int, count: int, backend: str) -> Static:
    static = Static(rows, width, count, 64, backend, model.device)
    static.fill(token_ids(model, TEXTS))
    return static


def steps(model: SentenceTransformer, loss: Loss, warnings: list[str] | None = None) -> Gradient:
    """A gradient in static shapes, which are those of the batch `BATCH` and of one that is a little larger."""
    texts, warn = token_ids(model, TEXTS), pytest.fail if warnings is None else warnings.append
    lengths = np.array([len(text) for text in texts])
    result = Gradient(model, texts, loss, seed=1, warn=warn)
    result.use_graphs(Batches(np.concatenate([BATCH, BATCH]), lengths, len(BATCH), 1), lengths)
    return result


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("backend", BACKENDS)
def test_texts_in_static_shapes_have_the_same_embeddings_with_and_without_filling(
    model: SentenceTransformer, backend: str
) -> None:
    tokens = token_ids(model, TEXTS)
    with torch.inference_mode():
        wanted = embed_packed(model, tokens)
        exact = embed_packed(model, tokens, backend)
        filled = embed_static(model, static_of(model, 7, 72, 20, backend))
        wide = embed_static(model, static_of(model, 2, 3 * BLOCK, 9, backend))

    for vectors in (exact, filled[:9], wide):
        torch.testing.assert_close(vectors, wanted, atol=1e-5, rtol=0)
    assert filled.shape == (20, 32) and filled.isfinite().all()


def test_the_table_of_distances_holds_mpnets_bias_and_its_gradient(tmp_path: Path) -> None:
    model = untrained(tmp_path, "mpnet").load().to("cpu")
    encoder: Any = model[0].model.encoder
    static = static_of(model, 1, 2 * BLOCK, 9, "flex")
    weight, places = encoder.relative_attention_bias.weight, torch.arange(64)

    stock = encoder.compute_position_bias(torch.empty(1, 64, 0))[0]
    with packing_of(model).follow(static):
        encoder.compute_position_bias(torch.empty(1, 2 * BLOCK, 0))
    assert static.bias is not None
    ours = static.bias[:, places - places[:, None] + 63]

    assert torch.equal(ours, stock)
    other = torch.randn(stock.shape, generator=torch.Generator().manual_seed(0))
    both = [torch.autograd.grad((bias * other).sum(), weight)[0] for bias in (stock, ours)]
    torch.testing.assert_close(both[1], both[0], atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("loss", [*LOSSES, LINKED])
def test_a_step_in_static_shapes_has_the_same_loss_and_gradient(model: SentenceTransformer, loss: Loss) -> None:
    step = steps(model, loss)
    static = step.static
    assert static
    for batch in (BATCH, BATCH[:, [0, 2, 1]], BATCH[[3, 2, 1, 0]], BATCH):
        wanted = ours(model, loss, batch)
        model.zero_grad()
        value = step.compute(0, batch)

        assert static.is_set
        assert value.item() == pytest.approx(wanted[0], abs=1e-5)
        assert float((gradient(model) - wanted[1]).norm()) < 1e-5 * float(wanted[1].norm())
    assert {*static.statics} == {*static.graphs.replays}  # all are recorded with the first


def test_a_trained_model_has_the_same_embeddings_and_gradient_in_static_shapes(on_cpu: None) -> None:
    model = find_model(MINILM).load().to("cpu")
    set_dropout(model, 0)
    wanted = ours(model, TripletMargin(5))

    value = steps(model, TripletMargin(5)).compute(0, BATCH)
    with torch.inference_mode():
        plain = embed_packed(model, token_ids(model, TEXTS))
        filled = embed_static(model, static_of(model, 7, 72, 20, "rows"))[: len(TEXTS)]

    torch.testing.assert_close(filled, plain, atol=1e-5, rtol=0)
    assert value.item() == pytest.approx(wanted[0], abs=1e-5)
    assert float((gradient(model) - wanted[1]).norm()) < 1e-5 * float(wanted[1].norm())


class NoWaiting(TorchDispatchMode):
    """Fails where a GPU's host would wait for a result or a copy, which no graph can hold."""

    waits = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique", "lift_fresh")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in self.waits and not name.startswith("_unique"), name
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("loss", LOSSES)
def test_what_a_graph_records_does_not_wait_for_the_device(model: SentenceTransformer, loss: Loss) -> None:
    static = steps(model, loss).static
    assert static
    static.compute(BATCH)
    with NoWaiting():
        static._gradient(static.statics[0])


def test_rows_hold_each_text_once_and_no_more_than_their_width() -> None:
    lengths = np.random.default_rng(0).integers(3, 300, 48)

    rows, starts = first_fit(lengths, 512)

    assert np.bincount(rows, lengths).max() <= 512
    cells = np.concatenate([512 * rows[n] + starts[n] + np.arange(length) for n, length in enumerate(lengths)])
    assert len(np.unique(cells)) == lengths.sum()
    assert rows.max() + 1 <= 1.2 * lengths.sum() / 512


def test_shapes_hold_every_batch_they_were_chosen_for_with_little_filling() -> None:
    draw = np.random.default_rng(0)
    batches = [draw.integers(40, 40 + spread, 48) for spread in draw.integers(50, 300, 60)]

    width, counts = shapes_for(batches, 339)

    statics = [Static(rows, width, 48, 339, "rows", torch.device("cpu")) for rows in counts]
    found = [smallest(statics, lengths) for lengths in batches]
    taken = [static.rows for static in found if static]
    assert len(counts) <= 9 and {*taken} == {*counts[:-1]}  # the last is spare
    filling = 1 - sum(lengths.sum() for lengths in batches) / (sum(taken) * width)
    assert len(taken) == len(batches) and 0 < filling < 0.1
    for lengths in (np.full(48, 339), np.full(49, 1), np.array([340])):  # too large, too many, too long
        assert smallest(statics, lengths) is None


@pytest.mark.parametrize("corpus", ["tables", "water"])
def test_about_a_tenth_of_a_trainings_tokens_are_dummies(corpus: str, request: pytest.FixtureRequest) -> None:
    folder, network = request.getfixturevalue(corpus), find_model(MINILM).load(512)
    titles, abstracts = (
        pd.read_csv(folder / file, sep="\t", dtype=str, keep_default_na=False).set_index("patent_id")
        for file in ("g_patent.tsv", "g_patent_abstract.tsv")
    )
    patents = titles.join(abstracts, how="inner")
    patents = patents.rename(columns={"patent_title": "title", "patent_abstract": "abstract"})
    lengths = np.array([len(ids) for ids in token_ids(network, join_texts(patents, separator(network)))])
    triplets = np.random.default_rng(0).integers(0, len(lengths), (len(lengths), 3))  # mined ones repeat texts
    batches = Batches(triplets, lengths, 16, seed=42)

    static = StaticSteps(network, [], TripletMargin(5), "rows", batches, lengths)

    later = [lengths[np.unique(batches[step])] for step in range(batches.per_epoch, 2 * batches.per_epoch - 1)]
    taken = [shape.rows * shape.width for texts in later if (shape := smallest(static.statics, texts))]
    assert len(taken) == len(later) and 0 < 1 - sum(texts.sum() for texts in later) / sum(taken) < 0.11


@pytest.mark.parametrize("width", [BLOCK, 3 * BLOCK + 64])
def test_flex_attention_skips_the_blocks_that_share_no_text(width: int) -> None:
    lengths = np.random.default_rng(0).integers(3, 100, 48)
    static = Static(60, width, 50, 99, "flex", torch.device("cpu"))

    static.fill([np.arange(length) for length in lengths])
    static.prepare(torch.float32)

    text = static.texts
    wanted = create_block_mask(
        lambda row, _, q, k: text[row, q] == text[row, k], 60, None, width, width, device="cpu", BLOCK_SIZE=BLOCK
    )
    assert torch.equal(static.mask.to_dense(), wanted.to_dense())


def test_a_function_is_recorded_after_its_warm_up() -> None:
    recorded = Graphs(torch.device("cpu"))
    results = [recorded.run(key, lambda: torch.ones(())) for key in "aaab"]
    assert [*recorded.replays] == ["a"] and results[0] == 1 and recorded.calls == {"a": 2, "b": 1}


def test_after_a_failed_capture_the_stream_is_restored_and_the_pool_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded, done = Graphs(torch.device("cpu")), list[object]()
    recorded.cuda, recorded.calls["a"], recorded.stream, recorded.pool = True, WARM_UP, None, (0, 7)  # type: ignore[assignment]

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "stream")
    monkeypatch.setattr(torch.cuda, "set_stream", done.append)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", fail)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda *given: done.append(given))

    with pytest.raises(NotRecorded, match="not permitted"):
        recorded.run("a", lambda: torch.ones(()))

    assert done == [(3, (0, 7)), "stream"] and not recorded.replays


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("error", [RuntimeError("no"), torch.OutOfMemoryError("small")])
def test_what_cannot_be_recorded_is_computed_as_usual_after_a_sentence(
    model: SentenceTransformer, error: RuntimeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    static, wanted = steps(model, TripletMargin(5), warnings), ours(model, TripletMargin(5))
    assert static.static and not warnings

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(static.static.graphs, "run", fail)

    assert static.compute(0, BATCH).item() == wanted[0] and torch.equal(gradient(model), wanted[1])
    assert static.static is None and str(error) in warnings.pop() and not warnings


@pytest.mark.usefixtures("on_cpu")
def test_an_update_that_cannot_be_recorded_is_made_as_usual_after_a_sentence(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    step = steps(model, TripletMargin(5), warnings)
    step.compute(0, BATCH)
    assert step.static
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0, fused=True)
    taken: list[torch.Tensor] = []

    def clip() -> torch.Tensor:
        taken.append(torch.ones(()))
        return taken[-1]

    def fail(*_: object) -> None:
        raise NotRecorded("no")

    with monkeypatch.context() as patch:
        patch.setattr(step.static.graphs, "run", fail)
        assert step.static.update(optimizer, clip) is taken[0]
    assert step.static.update(optimizer, clip) is taken[1] and "no" in warnings.pop() and not warnings


@pytest.mark.usefixtures("on_cpu")
def test_dropout_padding_and_micro_batches_are_trained_without_graphs(model: SentenceTransformer) -> None:
    warnings: list[str] = []

    def static(**more: Any) -> Any:
        step = Gradient(model, [np.arange(9)] * 9, TripletMargin(5), 1, warn=warnings.append, **more)
        step.use_graphs(Batches(BATCH, np.full(9, 9), 4, 1), np.full(9, 9))
        return step.static

    assert static() and not warnings
    assert not static(micro=2) and not static(backend="padded")
    set_dropout(model, 0.1)
    assert not static() and "--dropout 0" in warnings[-1] and len(warnings) == 3
    set_dropout(model, 0)


@pytest.mark.usefixtures("on_cpu")
def test_a_batch_of_another_size_or_too_long_is_computed_as_usual(model: SentenceTransformer) -> None:
    static = steps(model, TripletMargin(5))
    assert static.static
    static.static.statics = [Static(1, 64, 12, 64, "rows", model.device)]
    for batch in (BATCH[:3], BATCH):
        wanted = ours(model, TripletMargin(5), batch)
        assert static.compute(0, batch).item() == wanted[0] and torch.equal(gradient(model), wanted[1])
        assert not static.static.is_set


@pytest.mark.usefixtures("on_cpu")
def test_texts_are_encoded_in_static_shapes_in_the_order_given(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(0)
    texts = [draw.integers(5, 900, size).astype(np.uint16) for size in draw.integers(3, 64, 80)]
    wanted = encode_tokens(model, texts)
    seen: list[Static] = []

    def watch(_: SentenceTransformer, static: Static) -> torch.Tensor:
        seen.append(static)
        return embed_static(model, static)

    monkeypatch.setattr(embed, "embed_static", watch)
    monkeypatch.setattr(embed, "WIDTH", 128)
    monkeypatch.setitem(embed.BATCH_TOKENS, "cpu", 512)
    packing_of(model).static = True

    np.testing.assert_allclose(encode_tokens(model, texts), wanted, atol=1e-5)
    calls = len(seen)
    assert len({*seen}) == 1 and calls == np.ceil(sum(map(len, texts)) / 512)
    assert len(encode_tokens(model, texts[:3])) == 3 and len(seen) == calls  # too few for a shape


@pytest.fixture
def in_static_shapes(on_cpu: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Gradient]]:
    """Let trainings record graphs on the CPU; the list gets the gradient of each."""
    made: list[Gradient] = []

    def keep(*given: Any, **more: Any) -> Gradient:
        made.append(Gradient(*given, **more))
        return made[-1]

    monkeypatch.setattr(train_module, "Gradient", keep)
    monkeypatch.setattr(train_module, "LEAST_STEPS", 1)  # with a forecast
    yield made


@pytest.mark.parametrize("loss", [{}, {"loss": "contrast"}])
def test_a_training_in_static_shapes_gives_the_same_model_and_resumes_to_the_same_bytes(
    loss: dict[str, str],
    data: Dataset,
    trained: Path,
    tiny: Hyperparameters,
    tmp_path: Path,
    in_static_shapes: list[Gradient],
) -> None:
    chosen, cache = replace(tiny, dropout=0, **loss), trained.parent / "cache"  # type: ignore[arg-type]

    def interrupt(step: int, _: SentenceTransformer) -> None:
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    plain = train(data, tmp_path / "plain", cache, chosen, RunOptions(graphs="off"))
    whole = train(data, tmp_path / "whole", cache, chosen)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(Interrupted, match="000000005"):
        train(data, tmp_path / "halves", cache, chosen, None, interrupt)
    signal.signal(signal.SIGINT, before)
    halves = train(data, tmp_path / "halves", cache, chosen, RunOptions(resume=True))

    assert [run["graphs"] for run in (plain, whole, halves)] == ["off", "auto", "auto"]
    used = in_static_shapes[1].static
    assert used and {"update", used.statics[0]} <= {*used.graphs.replays}
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "halves")]
    assert weights[0] == weights[1]
    stock, ours = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "whole"))
    for name in stock.keys() - {name for name in stock if name.endswith("key.bias")}:  # whose gradient is rounding
        torch.testing.assert_close(ours[name], stock[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("place", ["update", "evaluation"])
def test_a_training_that_runs_out_of_memory_beside_its_graphs_goes_on_without_them(
    place: str,
    data: Dataset,
    trained: Path,
    tiny: Hyperparameters,
    tmp_path: Path,
    in_static_shapes: list[Gradient],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chosen, cache = replace(tiny, dropout=0), trained.parent / "cache"
    encode = loop_module.encode_tokens

    def small(*given: Any) -> Any:
        if in_static_shapes[-1].static and in_static_shapes[-1].static.is_set:
            raise InputError("out of memory") if place == "evaluation" else torch.OutOfMemoryError
        return encode(*given)

    plain = train(data, tmp_path / "plain", cache, chosen, RunOptions(graphs="off"))
    if place == "evaluation":
        monkeypatch.setattr(loop_module, "encode_tokens", small)
    else:
        monkeypatch.setattr(StaticSteps, "update", small)
    fallen = train(data, tmp_path / "fallen", cache, chosen)

    assert "out of memory" in capsys.readouterr().out and in_static_shapes[-1].static is None
    assert fallen["steps"] == plain["steps"] and fallen["graphs"] == "off"
    stock, ours = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "fallen"))
    for name in stock.keys() - {name for name in stock if name.endswith("key.bias")}:
        torch.testing.assert_close(ours[name], stock[name], atol=1e-5, rtol=0)
