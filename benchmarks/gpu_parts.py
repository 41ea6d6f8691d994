"""The parts of benchmarks/gpu.py, each for a process of its own."""

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import TripletLoss
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from sentence_transformers.util import batch_to_device
from torch.utils.benchmark import Timer
from transformers import AutoConfig, AutoModel, AutoTokenizer

import training
from gpu import GOALS, SIDES, Options
from patentcl.common.cli import InputError
from patentcl.evaluation.held_out import held_out_set
from patentcl.models import embed, graphs, packing, static
from patentcl.models.device import autocast, peak_memory_gb
from patentcl.models.load import MINILM, find_model
from patentcl.models.tokens import join_texts, separator, token_ids
from patentcl.training.batches import Batches
from patentcl.training.gradient import Gradient, set_dropout
from patentcl.training.log import Log
from patentcl.training.loop import Job
from patentcl.training.losses import InBatchContrast, Links, TripletMargin
from patentcl.training.options import Hyperparameters, RunOptions
from patentcl.training.static_steps import StaticSteps
from patentcl.training.train import fit, train
from patentcl.triplets.dataset import Dataset, load_dataset

STEPS = {16: 200, 64: 60, 256: 30}  # of each batch size; the first half warms up and records the graphs
PROFILED = 3  # steps at the end, under the profiler
RECORD_ALL = StaticSteps._record_all
LITTLE = 8e9  # bytes


def tell(result: dict[str, Any]) -> None:
    """Print what is known so far, so that it survives what fails later."""
    print(json.dumps(result), flush=True)


def device_of(options: Options) -> Any:
    """The device that is measured. Without CUDA only a smoke run makes sense."""
    if not torch.cuda.is_available() and not options.smoke:
        raise InputError("There is no CUDA device. Add --smoke for a look at the script on the CPU.")
    return torch.device("cpu" if options.smoke else "cuda")


def network(options: Options) -> SentenceTransformer:
    """An MPNet of base size with random weights and no dropout; a tiny one for a smoke run."""
    assert options.work
    folder = options.work / "mpnet"
    if not (folder / "modules.json").exists():
        name = find_model(MINILM).folder if options.tokenizer == MINILM else options.tokenizer
        tokenizer = AutoTokenizer.from_pretrained(str(name))
        size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
        more = {"vocab_size": len(tokenizer), "max_position_embeddings": 514, "pad_token_id": 1}
        torch.manual_seed(0)
        body = AutoModel.from_config(AutoConfig.for_model("mpnet", **more, **(size if options.smoke else {})))
        body.save_pretrained(folder / "body")
        tokenizer.save_pretrained(folder / "body")
        transformer = Transformer(str(folder / "body"), max_seq_length=64 if options.smoke else 512)
        pooling = Pooling(body.config.hidden_size, "mean")
        SentenceTransformer(modules=[transformer, pooling], device="cpu").save_pretrained(
            str(folder), create_model_card=False
        )
    model = find_model(str(folder)).take().to(device_of(options))
    model.train()
    set_dropout(model, 0)
    return model


def dataset(options: Options) -> Dataset:
    """The train triplets."""
    data = load_dataset(options.triplets)
    train = data.triplets[data.triplets["split"] == "train"].reset_index(drop=True)
    return replace(data, triplets=train.head(40) if options.smoke else train)


def batches_of(data: Dataset, model: SentenceTransformer, batch: int) -> tuple[list[Any], Any, Any]:
    """The tokens of all texts, their lengths, and the batches of a training with seed 42."""
    texts = token_ids(model, join_texts(data.read_texts(np.arange(len(data.texts))), separator(model)))
    lengths = np.array([len(text) for text in texts])
    return texts, lengths, Batches(data.triplets_of("train"), lengths, batch, 42)


def use_graphs(options: Options) -> None:
    """Let a smoke run take the path of graphs, too."""
    if options.smoke:
        graphs.DEVICES, embed.BATCH_TOKENS = {"cpu"}, {"cpu": 1_024}


def measure_card(options: Options) -> None:
    """The card, its versions, and the two rates that bound everything."""
    device = device_of(options)
    size = 256 if options.smoke else 8192
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    b = torch.randn(size**2 * 4, device=device, dtype=torch.bfloat16)
    product = Timer("a @ a", globals={"a": a}).timeit(10).mean
    copy = Timer("b.clone()", globals={"b": b}).timeit(10).mean
    name = "CPU" if options.smoke else torch.cuda.get_device_name()
    versions = {"device": name, "torch": torch.__version__, "transformers": transformers.__version__}
    tell(versions | {"bf16 TFLOP/s": 2 * size**3 / product / 1e12, "copy TB/s": 2 * b.nbytes / copy / 1e12})


def compare_with_stock(options: Options) -> None:
    """Vectors and gradients of every backend against the stock library, from replayed graphs where there are some."""
    use_graphs(options)
    static.MOST_SHAPES = 1  # FlexAttention is compiled for each
    os.environ["PATENTCL_PRECISION"] = options.part.removeprefix("equal ")
    model, data = network(options), dataset(options)
    contrast = InBatchContrast(Links(np.empty((0, 2), int), np.arange(len(data.texts))), 20)
    text, batch = join_texts(data.read_texts(np.arange(len(data.texts))), separator(model)), 2 if options.smoke else 16
    tokens, lengths, batches = batches_of(data, model, batch)

    def flat() -> torch.Tensor:
        return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).ravel() for p in model.parameters()])

    def stock(rows: np.ndarray) -> torch.Tensor:
        model.zero_grad()
        columns = [model.preprocess([text[row] for row in column]) for column in rows.T]
        columns = [batch_to_device(column, model.device) for column in columns]
        with autocast(model):
            loss = TripletLoss(model, triplet_margin=5)(columns, torch.zeros(len(rows)))
        loss.backward()
        return flat()

    result: dict[str, Any] = {"kind": "equal", "goal": GOALS["difference"]}
    wanted: dict[str, torch.Tensor] = {}
    for side in ("sdpa", "rows", *(() if options.smoke else ("flex", "flex rows"))):
        for name, loss in (("triplet", TripletMargin(5)), ("contrast", contrast)):
            try:
                gradient = Gradient(model, tokens, loss, 1, SIDES[side][0])
                if SIDES[side][1] == "auto":
                    gradient.use_graphs(batches, lengths)
                    assert gradient.static, "no graphs"
                for _ in range(3 if gradient.static else 1):  # the third time from the graph
                    value = gradient.compute(0, batches[0])
                got = flat().clone()
            except Exception as error:  # noqa: BLE001 (the other sides are compared all the same)
                result[f"{side}, {name}"] = f"{type(error).__name__}: {error}"[:300]
                continue
            if name not in wanted:  # sdpa is the first; its contrast is the reference of the others
                wanted[name] = stock(batches[0]).clone() if name == "triplet" else got
            apart = float((got - wanted[name]).norm() / wanted[name].norm())
            result[f"{side}, {name}"] = {"gradient differs by": apart, "loss": value.item()}
            tell(result)


def measure_side(options: Options) -> None:
    """Train with one side at each batch size; speed, memory, kernels and the time of capture."""
    os.environ["PATENTCL_PRECISION"] = "fp32" if options.smoke else "bf16"
    side = options.part.removeprefix("side:")
    result: dict[str, Any] = {"kind": "side"}
    attention, recorded, _ = SIDES.get(side, ("", "", ""))
    compiled = recorded == "compile"  # which takes minutes for several sizes and shapes
    static.MOST_SHAPES = 1 if compiled or attention == "flex" else static.MOST_SHAPES
    for batch in (4,) if options.smoke else (16,) if compiled else (16, 64, 256):
        try:
            result[str(batch)] = stock_rate(options, batch) if side == "stock" else rate(options, batch, side)
        except Exception as error:  # noqa: BLE001 (smaller batches were measured)
            result[str(batch)] = {"error": f"{type(error).__name__}: {error}"[:500]}
        tell(result)


class Enough(Exception):
    """All steps that are measured are taken."""


def rate(options: Options, batch: int, side: str) -> dict[str, Any]:
    """Train with patentCL's own loop: the median step of the second half, and what a profile of the last ones shows."""
    fresh_memory()
    use_graphs(options)
    attention, recorded, mode = SIDES[side]
    packing.COMPILE_MODE = mode or packing.COMPILE_MODE
    model, data = network(options), dataset(options)
    texts, _, batches = batches_of(data, model, batch)
    steps, marks, profiler = 10 if options.smoke else STEPS[batch], [time.perf_counter()], torch.profiler.profile()
    captures: list[float] = []

    def record_all(self: StaticSteps) -> None:
        started = now()
        RECORD_ALL(self)
        captures.append(now() - started)

    def on_step(step: int, _: object) -> None:
        marks.append(time.perf_counter())
        if step == steps - PROFILED - 1:
            profiler.start()
        if step == steps - 1:
            profiler.stop()
            raise Enough

    assert options.work
    folder = options.work / f"{options.part} {batch}"
    folder.mkdir()
    epochs = steps / batches.per_epoch
    chosen = Hyperparameters("", epochs=epochs, batch_size=batch, evaluations=0, keep="last", dropout=0)
    how, log = RunOptions(attention=attention, graphs=recorded, checkpoint_minutes=0), Log(folder / "log")
    StaticSteps._record_all = record_all  # type: ignore[method-assign]
    with contextlib.suppress(Enough), contextlib.redirect_stdout(sys.stderr):
        fit(model, data, Job(folder, chosen, how, log, on_step), held_out_set(data, "val", max_texts=1), options.work)
    seconds = float(np.median(np.diff(marks[steps // 2 : steps - PROFILED + 1])))
    tokens = np.mean([sum(len(texts[row]) for row in np.unique(batches[step])) for step in range(steps // 2, steps)])
    flops = 6 * sum(p.numel() for name, p in model.named_parameters() if "encoder.layer" in name) * float(tokens)
    return {
        "triplets/s": batch / seconds,
        "ms per step": 1e3 * seconds,
        "TFLOP/s without attention": flops / seconds / 1e12,
        "capture s": sum(captures),
        "start to steady s": marks[steps // 2] - marks[0],
        "memory GB": peak_memory_gb(),
        "said": [line for line in log.path.read_text().splitlines() if '"note"' in line] if log.path.exists() else [],
        **shown(profiler.events() or []),
    }


def train_in_little_memory(options: Options) -> None:
    """Train with a batch that needs more memory than there is: graphs are given up, and the micro-batch is halved."""
    os.environ["PATENTCL_PRECISION"] = "fp32" if options.smoke else "bf16"
    if not options.smoke:
        torch.cuda.set_per_process_memory_fraction(LITTLE / torch.cuda.get_device_properties(0).total_memory)
    tell({"kind": "memory", **rate(options, 4 if options.smoke else 256, "rows")})


def shown(events: list[Any]) -> dict[str, Any]:
    """Kernels that a step runs, launches by the host, and the longest kernels."""
    on_card = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    kernels = [event for event in on_card if not (event.is_user_annotation or event.name.startswith("Mem"))]
    launches = [event for event in events if "LaunchKernel" in event.name or "GraphLaunch" in event.name]
    totals: dict[str, float] = {}
    for event in kernels:
        totals[event.name[:80]] = totals.get(event.name[:80], 0) + event.device_time_total / 1e3 / PROFILED
    longest = dict(sorted(totals.items(), key=lambda pair: -pair[1])[:8])
    counted = {"kernels per step": len(kernels) / PROFILED, "launches per step": len(launches) / PROFILED}
    return counted | {"ms of kernels per step": sum(totals.values()), "longest, ms": longest}


def stock_rate(options: Options, batch: int) -> dict[str, Any]:
    """The stock trainer, as in benchmarks/training.py; its first steps warm up in a run of their own."""
    data, model = dataset(options), network(options)
    chosen = training.Options(options.triplets, batch_size=batch)
    steps = {16: 40, 64: 12}.get(batch, 4)
    first = replace(data, triplets=data.triplets.head(4 * batch))
    training.stock(model, first, chosen, lambda step: None)
    fresh_memory()
    rows = (list(range(len(data.triplets))) * (1 + steps * batch // len(data.triplets)))[: steps * batch]
    part = replace(data, triplets=data.triplets.iloc[rows].reset_index(drop=True))
    losses, seconds = training.stock(model, part, chosen, lambda step: None)
    return {
        "triplets/s": len(rows) / seconds,
        "ms per step": 1e3 * seconds / len(losses),
        "memory GB": peak_memory_gb(),
    }


def fresh_memory() -> None:
    """Forget earlier peaks."""
    gc.collect()
    torch.compiler.reset()  # what another batch size compiled counts towards its limits
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def now() -> float:
    """The time at which the device has done all that it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def small_training(
    options: Options, name: str, resume: bool = False, killed: int = -1
) -> tuple[dict[str, torch.Tensor], str]:
    """Train a small model with a checkpoint after each step, killed after step `killed`.

    Return its weights, and "auto" if it was trained with graphs.
    """

    def on_step(step: int, _: object) -> None:
        if step == killed:
            os.kill(os.getpid(), signal.SIGKILL)

    assert options.work
    folder, data = options.work / "small", dataset(replace(options, smoke=True))
    network(replace(options, work=folder, smoke=True))
    use_graphs(options)
    chosen = Hyperparameters(str(folder / "mpnet"), epochs=4, batch_size=4, evaluations=0, keep="last", dropout=0)
    data = replace(data, triplets=data.triplets.head(24))
    with contextlib.redirect_stdout(sys.stderr):
        how = RunOptions(checkpoint_minutes=1e-9, resume=resume)
        record = train(data, folder / name, folder / "cache", chosen, how, on_step)
    return load_file(folder / name / "model.safetensors"), record["graphs"]


def train_and_die(options: Options) -> None:
    """The part of `kill_and_resume` that does not return."""
    small_training(options, "halves", killed=15)


def kill_and_resume(options: Options) -> None:
    """How far the weights of a training that was killed and resumed are from those of an uninterrupted one.

    Beside it, how far two uninterrupted ones are apart: a GPU adds some gradients in any order.
    """
    (whole, how), (again, _) = (small_training(options, name) for name in ("whole", "again"))
    command = [sys.executable, str(Path(__file__).with_name("gpu.py")), "--part", "die", "--work", str(options.work)]
    command += ["--triplets", str(options.triplets), "--tokenizer", options.tokenizer, *["--smoke"] * options.smoke]
    died = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 (itself)
    assert died.returncode == -signal.SIGKILL, died.stderr[-1000:]
    halves, _ = small_training(options, "halves", resume=True)
    result: dict[str, Any] = {"kind": "resume", "graphs": how}
    for name, other in (("resumed", halves), ("repeated", again)):
        apart = max(float((whole[key] - other[key]).abs().max()) for key in whole)
        result[f"{name}: largest difference of a weight"] = apart
    tell(result)


def encode_texts(options: Options) -> None:
    """Embed texts: the stock library, today's path and static shapes, with tokenising and without."""
    use_graphs(options)
    os.environ["PATENTCL_PRECISION"] = "fp32" if options.smoke else "bf16"
    model, data = network(options), dataset(options)
    count = 60 if options.smoke else 16_384
    rows = np.resize(np.arange(len(data.texts)), count)
    patents = data.read_texts(np.arange(len(data.texts))).iloc[rows].reset_index(drop=True)
    texts = join_texts(patents, separator(model))
    tokens = token_ids(model, texts)
    result: dict[str, Any] = {"kind": "encode", "goal": GOALS["embedding"]}
    blocks = [patents.iloc[start : start + embed.CHUNK] for start in range(0, count, embed.CHUNK)]
    vectors: dict[str, Any] = {}

    def measure(name: str, work: Callable[[], Any], share: int = 1) -> None:
        work()
        fresh_memory()
        started = time.perf_counter()
        vectors[name] = work()
        result[name] = {"texts/s": count / share / (time.perf_counter() - started), "memory GB": peak_memory_gb()}
        tell(result)

    embed.encode_tokens(model, tokens[:64])  # chooses the backend
    measure("static, tokens", lambda: embed.encode_tokens(model, tokens))
    measure("static, texts", lambda: np.concatenate([*embed.encode_blocks(model, iter(blocks))]))
    result["static shapes used"] = packing.packing_of(model).static
    packing.packing_of(model).static = False
    measure("today, tokens", lambda: embed.encode_tokens(model, tokens))
    measure("tokenising alone", lambda: token_ids(model, texts))
    some = texts[: count // 8]
    measure("stock", lambda: model.encode(some, batch_size=32, show_progress_bar=False), share=8)
    ours, stock = vectors["static, tokens"][: len(some)], vectors["stock"]
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(stock, axis=1)
    tell(result | {"lowest cosine to stock": float(((ours * stock).sum(axis=1) / norms).min())})


PARTS = {"card": measure_card, "equal fp32": compare_with_stock, "equal bf16": compare_with_stock}
PARTS |= {"side": measure_side, "resume": kill_and_resume, "die": train_and_die, "encode": encode_texts}
PARTS |= {"memory": train_in_little_memory}
