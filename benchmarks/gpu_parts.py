"""The parts of benchmarks/gpu.py, each for a process of its own."""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patentcl.common.cli import InputError, option

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from patentcl.training.gradient import Gradient
    from patentcl.triplets.dataset import Dataset

# Imports of what may come as wheels stand in the functions: the parent process installs these first.
GOALS: dict[Any, Any] = {  # on one H100, of an MPNet of base size, water grants at 512 tokens, bf16
    ("training", 16): (1_000, 0.23),  # triplets/s, share of the card's dense bf16 rate
    ("training", 64): (1_700, 0.40),
    "memory GB": 12,  # at batch 16
    "embedding": 8_000,  # texts/s
    "difference": 1e-5,  # in fp32
}
SIDES = {  # attention, graphs, mode of the compiler
    "rows": ("sdpa", "auto", ""),
    "sdpa": ("sdpa", "off", ""),
    "blocks": ("flex", "auto", ""),
    "stock": ("", "off", ""),
    "flex": ("flex", "off", ""),
    "rows, compiled": ("sdpa", "compile", "default"),
    "blocks, compiled": ("flex", "compile", "default"),
    "rows, autotuned": ("sdpa", "compile", "max-autotune-no-cudagraphs"),
}


@dataclass(frozen=True)
class Options:
    """The command line."""

    triplets: Path = option(MISSING, "folder of mined triplets", metavar="DIR")
    tokenizer: str = option("minilm", "folder with a tokenizer for the model", metavar="DIR")
    wheels: Path | None = option(None, "folder of wheels to install from first", metavar="DIR")
    output: Path = option(Path("gpu.json"), "results, written after each part", metavar="FILE")
    minutes: float = option(7.5, "time for all parts; what is left out is said")
    parts: str = option("", "parts, joined by + (default: all)")
    smoke: bool = option(False, "run a tiny model on the CPU")
    part: str = option("", argparse.SUPPRESS)  # set by the parent process
    work: Path | None = option(None, argparse.SUPPRESS)


def tell(result: dict[str, Any]) -> None:
    """Print what is known so far, so that it survives what fails later."""
    print(json.dumps(result), flush=True)


def device_of(options: Options) -> Any:
    """The device that is measured. Without CUDA only a smoke run makes sense."""
    import torch

    if not torch.cuda.is_available() and not options.smoke:
        raise InputError("There is no CUDA device. Add --smoke for a look at the script on the CPU.")
    return torch.device("cpu" if options.smoke else "cuda")


def network(options: Options) -> "SentenceTransformer":
    """An MPNet of base size with random weights and no dropout; a tiny one for a smoke run."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    from patentcl.models.load import MINILM, find_model
    from patentcl.training.gradient import set_dropout

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


def dataset(options: Options) -> "Dataset":
    """The train triplets."""
    from patentcl.triplets.dataset import load_dataset

    data = load_dataset(options.triplets)
    train = data.triplets[data.triplets["split"] == "train"].reset_index(drop=True)
    return replace(data, triplets=train.head(40) if options.smoke else train)


def gradient_of(options: Options, model: "SentenceTransformer", loss: Any, batch: int, side: str) -> tuple[Any, Any]:
    """What a training computes a side's gradients with, and its batches."""
    import numpy as np

    from patentcl.models import graphs, packing
    from patentcl.models.tokens import join_texts, separator, token_ids
    from patentcl.training.batches import Batches
    from patentcl.training.gradient import Gradient

    attention, wanted, mode = SIDES[side]
    if options.smoke:
        graphs.DEVICES = {"cpu"}
    packing.COMPILE_MODE = mode or packing.COMPILE_MODE
    data = dataset(options)
    texts = token_ids(model, join_texts(data.read_texts(np.arange(len(data.texts))), separator(model)))
    lengths = np.array([len(text) for text in texts])
    batches = Batches(data.triplets_of("train"), lengths, batch, 1)
    said: list[str] = []
    gradient = Gradient(model, texts, loss, 1, attention, warn=said.append)
    if wanted != "off":
        gradient.use_graphs(batches, lengths, wanted == "compile")
        if gradient.static is None:
            raise RuntimeError(said)
    gradient.__dict__["said"] = said
    return gradient, batches


def measure_card(options: Options) -> None:
    """The card, its versions, and the two rates that bound everything."""
    import torch
    import transformers
    from torch.utils.benchmark import Timer

    device = device_of(options)
    size = 256 if options.smoke else 8192
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    b = torch.randn(size**2 * 4, device=device, dtype=torch.bfloat16)
    product = Timer("a @ a", globals={"a": a}).timeit(10).mean
    copy = Timer("b.clone()", globals={"b": b}).timeit(10).mean
    tell(
        {
            "device": "CPU" if options.smoke else torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "bf16 TFLOP/s": 2 * size**3 / product / 1e12,
            "copy TB/s": 2 * b.nbytes / copy / 1e12,
        }
    )


def compare_with_stock(options: Options) -> None:
    """Vectors and gradients of every backend against the stock library, from replayed graphs where there are some."""
    import numpy as np
    import torch
    from sentence_transformers.sentence_transformer.losses import TripletLoss
    from sentence_transformers.util import batch_to_device

    from patentcl.models.device import autocast
    from patentcl.models.tokens import join_texts, separator
    from patentcl.training.losses import InBatchContrast, Links, TripletMargin

    os.environ["PATENTCL_PRECISION"] = options.part.removeprefix("equal ")
    model, data = network(options), dataset(options)
    contrast = InBatchContrast(Links(np.empty((0, 2), int), np.arange(len(data.texts))), 20)
    text, batch = join_texts(data.read_texts(np.arange(len(data.texts))), separator(model)), 2 if options.smoke else 16

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
    for side in ("sdpa", "rows", *(() if options.smoke else ("flex", "blocks"))):
        for name, loss in (("triplet", TripletMargin(5)), ("contrast", contrast)):
            try:
                gradient, batches = gradient_of(options, model, loss, batch, side)
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
    for batch in (4,) if options.smoke else (16, 64, 256):
        try:
            result[str(batch)] = stock_rate(options, batch) if side == "stock" else rate(options, batch, side)
        except Exception as error:  # noqa: BLE001 (smaller batches were measured)
            result[str(batch)] = {"error": f"{type(error).__name__}: {error}"[:500]}
        tell(result)


def rate(options: Options, batch: int, side: str) -> dict[str, Any]:
    """Steps as the trainer takes them: the loss of a step is read while the next one is computed."""
    import torch

    from patentcl.training.losses import TripletMargin

    fresh_memory()
    model = network(options)
    gradient, batches = gradient_of(options, model, TripletMargin(5), batch, side)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-5, weight_decay=0, fused=True)
    wait = (lambda: None) if options.smoke else torch.cuda.synchronize
    late: list[torch.Tensor] = []

    def take(step: int) -> None:
        loss = gradient.compute(step, batches[step])
        late.append(loss.to("cpu", non_blocking=True))

        def clip() -> torch.Tensor:
            return torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)

        if gradient.static:
            gradient.static.update(optimizer, clip)
        else:
            clip()
            optimizer.step()

    def steps(first: int, count: int) -> float:
        wait()
        started = time.perf_counter()
        for step in range(first, first + count):
            take(step)
            if len(late) > 1:
                late.pop(0)
        wait()
        return time.perf_counter() - started

    chosen = [step for step in range(10 * batches.per_epoch) if len(batches[step]) == batch]
    batches = [batches[step] for step in chosen[: 6 if options.smoke else {16: 200, 64: 60}.get(batch, 16)]]
    started = time.perf_counter()
    prepare(gradient, batches)
    steps(0, min(5, len(batches)))
    warmed = time.perf_counter() - started
    tokens = [sum(len(gradient.texts[row]) for row in set(rows.ravel().tolist())) for rows in batches]
    seconds = steps(0, len(batches))
    flops = 6 * sum(p.numel() for name, p in model.named_parameters() if "encoder.layer" in name) * sum(tokens)
    result = {
        "triplets/s": batch * len(batches) / seconds,
        "ms per step": 1e3 * seconds / len(batches),
        "TFLOP/s without attention": flops / seconds / 1e12,
        "warm-up and capture s": warmed,
        "shapes": len(gradient.static.statics) if gradient.static else 0,
        "graphs": len(gradient.static.graphs.replays) if gradient.static else 0,
        "filling": filling(gradient, batches, sum(tokens)),
        "said": gradient.__dict__["said"],
    }
    if not options.smoke:
        result |= {
            "memory GB": torch.cuda.max_memory_allocated() / 1e9,
            "reserved GB": torch.cuda.max_memory_reserved() / 1e9,
        }
    return result | profile(lambda: steps(0, 3), 3)


def shape_of(gradient: "Gradient", batch: Any) -> Any:
    """The static shape of a batch, None without."""
    import numpy as np

    from patentcl.models.static import smallest

    lengths = np.array([len(gradient.texts[row]) for row in np.unique(batch)])
    static = smallest(gradient.static.statics, lengths) if gradient.static else None
    return static.shape if static else None


def prepare(gradient: "Gradient", batches: list[Any]) -> None:
    """Let the graph of each shape be recorded, as the first steps of a training do."""
    for batch in batches:
        shape = shape_of(gradient, batch)
        while gradient.static and shape and shape not in gradient.static.graphs.replays:
            gradient.compute(0, batch)


def filling(gradient: "Gradient", batches: list[Any], tokens: int) -> float:
    """The share of dummy tokens in batches that have a static shape."""
    shapes = [shape for shape in (shape_of(gradient, batch) for batch in batches) if shape]
    return 1 - tokens / sum(shape.rows * shape.width for shape in shapes) if len(shapes) == len(batches) else 0.0


def profile(work: Callable[[], object], steps: int) -> dict[str, Any]:
    """Kernels that a step runs, launches by the host, and the five longest kernels."""
    import torch

    cuda = torch.cuda.is_available()
    with torch.profiler.profile() as profiled:
        work()
    events = profiled.events() or []
    kernels = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    launches = [event for event in events if "LaunchKernel" in event.name or "GraphLaunch" in event.name]
    totals: dict[str, float] = {}
    for event in kernels:
        totals[event.name[:80]] = totals.get(event.name[:80], 0) + event.device_time_total / 1e3 / steps
    longest = dict(sorted(totals.items(), key=lambda pair: -pair[1])[:8])
    counted = {"kernels per step": len(kernels) / steps, "launches per step": len(launches) / steps}
    return counted | {"ms of kernels per step": sum(totals.values()), "longest, ms": longest} if cuda else {}


def stock_rate(options: Options, batch: int) -> dict[str, Any]:
    """The stock trainer, as in benchmarks/training.py; its first steps warm up in a run of their own."""
    import torch

    import training

    data, model = dataset(options), network(options)
    chosen = training.Options(options.triplets, batch_size=batch)
    steps = {16: 40, 64: 12}.get(batch, 4)
    first = replace(data, triplets=data.triplets.head(4 * batch))
    training.stock(model, first, chosen, lambda step: None)
    fresh_memory()
    rows = (list(range(len(data.triplets))) * (1 + steps * batch // len(data.triplets)))[: steps * batch]
    part = replace(data, triplets=data.triplets.iloc[rows].reset_index(drop=True))
    losses, seconds = training.stock(model, part, chosen, lambda step: None)
    memory = torch.cuda.max_memory_allocated() / 1e9
    return {"triplets/s": len(rows) / seconds, "ms per step": 1e3 * seconds / len(losses), "memory GB": memory}


def fresh_memory() -> None:
    """Forget earlier peaks."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def small_training(options: Options, name: str, resume: bool = False, killed: int = -1) -> dict[str, Any]:
    """Train a small model with a checkpoint after each step, killed after step `killed`; return its weights."""
    from safetensors.torch import load_file

    from patentcl.models import graphs
    from patentcl.training.options import Hyperparameters, RunOptions
    from patentcl.training.train import train

    def on_step(step: int, _: object) -> None:
        if step == killed:
            os.kill(os.getpid(), signal.SIGKILL)

    assert options.work
    folder, data = options.work / "small", dataset(replace(options, smoke=True))
    network(replace(options, work=folder, smoke=True))
    if options.smoke:
        graphs.DEVICES = {"cpu"}
    chosen = Hyperparameters(str(folder / "mpnet"), epochs=4, batch_size=4, evaluations=0, keep="last", dropout=0)
    data = replace(data, triplets=data.triplets.head(24))
    with contextlib.redirect_stdout(sys.stderr):
        how = RunOptions(checkpoint_minutes=1e-9, resume=resume)
        train(data, folder / name, folder / "cache", chosen, how, on_step)
    return load_file(folder / name / "model.safetensors")


def train_and_die(options: Options) -> None:
    """The part of `kill_and_resume` that does not return."""
    small_training(options, "halves", killed=15)


def kill_and_resume(options: Options) -> None:
    """Whether a training that was killed and resumed has the weights of an uninterrupted one."""
    whole = small_training(options, "whole")
    command = [
        sys.executable,
        str(Path(__file__).with_name("gpu.py")),
        "--part",
        "die",
        "--triplets",
        str(options.triplets),
        "--work",
    ]
    command += [str(options.work), "--tokenizer", options.tokenizer, *(["--smoke"] if options.smoke else [])]
    died = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 (itself)
    assert died.returncode == -signal.SIGKILL, died.stderr[-1000:]
    halves = small_training(options, "halves", resume=True)
    apart = max(float((whole[name] - halves[name]).abs().max()) for name in whole)
    tell({"kind": "resume", "largest difference of a weight": apart, "same": apart == 0})


def encode_texts(options: Options) -> None:
    """Embed texts: the stock library, today's path and static shapes, with tokenising and without."""
    import numpy as np

    from patentcl.models import embed, graphs
    from patentcl.models.packing import packing_of
    from patentcl.models.tokens import join_texts, separator, token_ids

    os.environ["PATENTCL_PRECISION"] = "fp32" if options.smoke else "bf16"
    model, data = network(options), dataset(options)
    count = 60 if options.smoke else 16_384
    rows = np.resize(np.arange(len(data.texts)), count)
    patents = data.read_texts(np.arange(len(data.texts))).iloc[rows].reset_index(drop=True)
    texts = join_texts(patents, separator(model))
    tokens = token_ids(model, texts)
    if options.smoke:
        graphs.DEVICES, embed.GRAPHED = {"cpu"}, 0
    result: dict[str, Any] = {"kind": "encode", "goal": GOALS["embedding"]}
    blocks = [patents.iloc[start : start + embed.CHUNK] for start in range(0, count, embed.CHUNK)]
    vectors: dict[str, Any] = {}

    def measure(name: str, work: Callable[[], Any], share: int = 1) -> None:
        work()
        fresh_memory()
        started = time.perf_counter()
        vectors[name] = work()
        result[name] = {"texts/s": count / share / (time.perf_counter() - started), "memory GB": peak()}
        tell(result)

    embed.encode_tokens(model, tokens[:64])  # chooses the backend
    measure("static, tokens", lambda: embed.encode_tokens(model, tokens))
    measure("static, texts", lambda: np.concatenate([*embed.encode_blocks(model, iter(blocks))]))
    packing_of(model).static = False
    measure("today, tokens", lambda: embed.encode_tokens(model, tokens))
    measure("tokenising alone", lambda: token_ids(model, texts))
    some = texts[: count // 8]
    measure("stock", lambda: model.encode(some, batch_size=32, show_progress_bar=False), share=8)
    ours, stock = vectors["static, tokens"][: len(some)], vectors["stock"]
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(stock, axis=1)
    tell(result | {"lowest cosine to stock": float(((ours * stock).sum(axis=1) / norms).min())})


def peak() -> float:
    """Peak memory in GB."""
    from patentcl.models.device import peak_memory_gb

    return peak_memory_gb()


PARTS = {"card": measure_card, "equal fp32": compare_with_stock, "equal bf16": compare_with_stock}
PARTS |= {"side": measure_side, "resume": kill_and_resume, "die": train_and_die, "encode": encode_texts}
