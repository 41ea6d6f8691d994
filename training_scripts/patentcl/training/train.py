"""Triplets → a fine-tuned model: prepare, fit, evaluate, save.

AdamW with linear warm-up and decay and gradients clipped to norm 1, as in Sentence Transformers' trainer; what is
faster than there is in `models/packing.py`, `models/tokens.py` and `gradient.py`. At the end the weights may be
averaged with the base model's, which keeps more of what that one knew (Wortsman et al. 2022,
https://arxiv.org/abs/2109.01903).

An unfinished training is in `<output>.training/` (checkpoints, log); at the end the model replaces `<output>`.
"""

import errno
import hashlib
import math
import os
import platform
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from torch.utils.benchmark import Timer

from ..common.cli import InputError, Interrupted
from ..common.distributed import join, rank, wait, world
from ..common.files import beside, check_replaceable, finished, locked, remove, write_record
from ..common.resources import require
from ..evaluation.card import base_facts, data_facts, write_card, write_list
from ..evaluation.compare import check_names, compare
from ..evaluation.held_out import HeldOut, held_out_set
from ..models.device import PRECISIONS, peak_memory_gb, precision
from ..models.embed import embed
from ..models.load import HASHED, RECORD, Model, find_model
from ..models.packing import choose_backend
from ..models.tokens import Tokens, prompt_of, separator, tokenise
from ..triplets.dataset import Dataset
from . import checkpoints
from .batches import Batches
from .distillation import Distilled, Teacher
from .gradient import Gradient, set_dropout
from .log import Log
from .loop import LEAST_QUERIES, Job, Loop
from .losses import LOSSES, Loss, Nested
from .options import Hyperparameters, RunOptions, recipe_of
from .views import LEAST, Views, view_triplets

MEMORY_PER_TRIPLET, MEMORY_PER_TEXT = 45, 10  # bytes: order, lengths and links, besides the model (measured)
VAL_TEXTS = 2_000  # the corpus of the evaluations during training; the one at the end takes all
WARM_UP, MEASURED = 2, 4  # steps of a forecast; the first ones load, compile or record kernels
LEAST_STEPS = 50  # of a training that is worth a forecast
SETTINGS = ("epochs", "batch_size", "lr", "average", "seed")  # on the card, besides those of the loss
IF_GIVEN = ("views", "distill", "max_length", "pooling", "prompt", "matryoshka")
PACKAGES = ("torch", "transformers", "sentence-transformers", "numpy", "pandas")  # whose versions are recorded


def train(
    data: Dataset,
    output: Path,
    cache: Path,
    hyperparameters: Hyperparameters,
    options: RunOptions | None = None,
    on_step: Callable[[int, SentenceTransformer], object] = lambda step, model: None,
) -> dict[str, Any]:
    """Fine-tune on the train triplets and save the model to `output`; return the record `run.json`.

    Embeddings and tokens are cached in `cache`. A resumed training gives the same model as an uninterrupted one.
    `on_step` is called after each step, see `Job`. Raises `InputError` for what the user can fix, and `Interrupted`
    after a signal.
    """
    output, options = output.resolve(), options or RunOptions()
    if not output.name:
        raise InputError(f"--output {output}: pass a dedicated model folder.")
    base = find_model(hyperparameters.base_model, hyperparameters)
    check_names([output.name, base.label])
    work = output.with_name(f"{output.name}.training")
    params = {"data": data.fingerprint, "base": base.fingerprint, **asdict(hyperparameters)}
    replaces = options.overwrite or (options.resume and (work / checkpoints.STAMP).exists())
    if done := finished(output / RECORD, params, replaces, "training"):
        return done
    if not (data.triplets["split"] == "train").any():
        raise InputError("There is no train triplet. Pass more triplets, or mine again with lower --val and --test.")
    join()
    weights = sum(p.numel() * p.element_size() for p in base.load(hyperparameters.max_length).parameters())
    parts = 3 * (options.keep_checkpoints + 1) + 2  # with AdamW's moments; one is scratch; best weights, the model
    disk = 0 if checkpoints.newest(work) else parts * weights
    triplets = (1 + hyperparameters.views) * len(data.triplets)
    memory = round(MEMORY_PER_TRIPLET * triplets + MEMORY_PER_TEXT * len(data.texts))
    require(work, disk, memory, f"training on {len(data.triplets):,} triplets", flag="--output")
    with locked(work) if rank() == 0 else nullcontext():
        try:
            if rank() == 0:
                checkpoints.prepare(work, params | {"PATENTCL_PRECISION": precision()}, options)
            wait()
            log = Log(work / "training.log", options.tensorboard)
            return _train(Job(work, hyperparameters, options, log, on_step), data, output, cache, base, params)
        except KeyboardInterrupt:
            raise Interrupted(f"{work} is kept. Add --resume to continue.") from None


def _train(job: Job, data: Dataset, output: Path, cache: Path, base: Model, params: dict[str, Any]) -> dict[str, Any]:
    chosen = job.hyperparameters
    model = base.load(chosen.max_length)
    if chosen.dimensions and chosen.dimensions[0] > (most := model.get_embedding_dimension() or 0):
        raise InputError(f"--matryoshka {chosen.matryoshka}: the vectors of {base.name} have {most} dimensions.")
    held_out = held_out_set(data, "val", max_texts=VAL_TEXTS, seed=chosen.seed)
    test = held_out_set(data, "test", seed=chosen.seed) if chosen.evaluations else None
    if test and rank() == 0:
        embed(base, test.texts, cache, chosen.max_length)  # before the model changes
    run = fit(base.take(chosen.max_length), data, job, held_out, cache, len(test.texts) if test else 0)
    if rank() > 0:
        return run
    check_replaceable(output / RECORD, params, job.options.overwrite or job.options.resume)
    with beside(output) as scratch:
        try:
            model.save_pretrained(str(scratch), create_model_card=False)
        except SafetensorError as error:  # on a full disk
            raise OSError(errno.ENOSPC, f"{output} was not written ({error}); {job.work} stays for --resume") from None
        trained = replace(find_model(str(scratch)), name=output.name)
        cuts = chosen.dimensions
        report = compare([base, trained], test, cache, chosen.max_length, chosen.seed, cuts) if test else None
        record = {
            "params": params,
            "name": output.name,
            "data": data_facts(data, scratch, _seen(data, chosen)),
            "card": {"base": base_facts(base), **card_facts(model, chosen)},
            "base folder": os.path.relpath(base.folder.resolve(), output),
            "recipe": recipe_of(chosen),
            **run,
            "val": job.log.read("val"),
            "test": {name: _defined(row.values) for name, row in report.rows.items()} if report else {},
            "test queries": len(test.queries) if test else 0,
            "verdict": report.verdict(output.name) if report else "not evaluated, because of --evaluations 0",
        }
        job.log.write("verdict", {"line": record["verdict"]})
        job.log.save(scratch)
        written = [str(path.relative_to(scratch)) for path in scratch.rglob("*") if path.suffix in HASHED]
        write_record(scratch / RECORD, record, written)
        write_card(scratch, report, f"{record['data']['name']}-test")
    remove(job.work)
    write_list(output.parent)
    print(report.to_markdown() if report else "", record["verdict"], sep="\n")
    return record


def _seen(data: Dataset, chosen: Hyperparameters) -> np.ndarray:
    """Mask (N,) of the texts that are trained on: those of train triplets, and with views all of the train split."""
    return (data.texts["split"] == "train").to_numpy() if chosen.views else data.used_in("train")


def card_facts(model: SentenceTransformer, chosen: Hyperparameters) -> dict[str, Any]:
    """What the card says of how the model reads texts and was trained, besides the record."""
    names = (*LOSSES[chosen.loss].options, *SETTINGS)
    settings = [f"loss {chosen.loss}", *(f"{name} {getattr(chosen, name):g}" for name in names)]
    settings += [f"{name} {given!r}" for name in IF_GIVEN if (given := getattr(chosen, name))]
    return {
        "settings": ", ".join(settings),
        "separator": separator(model),
        "prompt": prompt_of(model),
        "tokens": model.max_seq_length,
        "dimensions": model.get_embedding_dimension(),
        "nested": [n for n in chosen.dimensions if n < (model.get_embedding_dimension() or 0)],
    }


def _defined(values: dict[str, float]) -> dict[str, float]:
    """The metrics that have a value: JSON has no NaN."""
    return {metric: value for metric, value in values.items() if not math.isnan(value)}


def fit(
    model: SentenceTransformer, data: Dataset, job: Job, held_out: HeldOut, cache: Path, test_texts: int = 0
) -> dict[str, Any]:
    """Train `model` on the train triplets; return the steps, time, throughput, and the machine.

    It is evaluated on `held_out`, and tokens are cached in `cache`. `test_texts` texts will be evaluated at the end;
    only the forecast depends on it.
    """
    chosen, options, log = job.hyperparameters, job.options, job.log
    model.train()
    if chosen.dropout is not None:
        set_dropout(model, chosen.dropout)
    if rank() > 0:
        wait()  # until the first process has written the tokens
    texts = tokenise(model, len(data.texts), data.blocks, data.fingerprint, cache / "tokens")
    triplets, views = _with_views(chosen, data, model, texts)
    loss = _loss_of(job, data, model, texts, np.unique(triplets % len(texts)), cache)
    if rank() == 0:
        wait()
    batches = Batches(triplets, views.lengths, chosen.batch_size, chosen.seed)
    backend = choose_backend(model, options.attention, log.warn)
    gradient = Gradient(model, views, loss, chosen.seed, backend, options.micro_batch, log.warn)
    if options.graphs != "off":
        gradient.use_graphs(batches, views.lengths, options.graphs == "compile")
    loop = Loop(job, gradient, batches, held_out, data.texts["patent_id"])
    if (chosen.keep == "best" or chosen.patience) and chosen.evaluations > 1 and not loop.can_choose:
        log.warn(f"The validation set has fewer than {LEAST_QUERIES} queries to choose by; keeping the last weights.")
    if chosen.evaluations and rank() == 0 and not log.read("val"):
        loop.evaluate()  # the base model
    loop.resume()
    if loop.state.step < loop.total:  # on every process, because gradients are added there, too
        count = sum(step > loop.state.step for step in loop.evaluated) + test_texts / max(1, len(held_out.texts))
        forecast(gradient, batches, loop.state.step, loop.total, loop.evaluation_seconds * count, options.profile)
    state = loop.run()
    cuda = torch.cuda.is_available()
    return {
        "train triplets": int((data.triplets["split"] == "train").sum()),
        "steps": state.step,
        "kept step": state.best_step if loop.keeps_best and state.best_step else state.step,
        "seconds": round(state.seconds, 1),
        "triplets per second": round(state.triplets / max(state.seconds, 1e-9), 2),
        "attention": backend,
        "graphs": options.graphs if gradient.static else "off",
        "processes": world(),
        "device": torch.cuda.get_device_name() if cuda else f"CPU, threads: {torch.get_num_threads()}",
        "precision": precision(),
        "peak memory GB": round(peak_memory_gb(), 2),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def _with_views(
    chosen: Hyperparameters, data: Dataset, model: SentenceTransformer, texts: Tokens
) -> tuple[np.ndarray, Tokens | Views]:
    """The train triplets, those of views among them if these are chosen, and the texts whose rows they hold."""
    triplets = data.triplets_of("train")
    if not chosen.views:
        return triplets, texts
    topics, train = data.texts["subclass"].factorize()[0], _seen(data, chosen)
    count = round(chosen.views * max(len(triplets), min(LEAST, train.sum())))
    more = view_triplets(topics, train, count, chosen.seed).astype(triplets.dtype)
    return np.concatenate([triplets, more]), Views(texts, model)


def _loss_of(job: Job, data: Dataset, model: SentenceTransformer, texts: Tokens, used: np.ndarray, cache: Path) -> Loss:
    """The loss with its options, with distillation, and also of the first dimensions, if these are chosen."""
    chosen = job.hyperparameters
    kind = LOSSES[chosen.loss]
    loss: Loss = kind.build(data, **{name: getattr(chosen, name) for name in kind.options})
    if chosen.distill:
        base = find_model(chosen.base_model, chosen)
        name = f"{data.fingerprint} {base.fingerprint} {model.max_seq_length} {precision()} {len(used)}"
        folder = cache / "teachers" / hashlib.sha256(name.encode()).hexdigest()[:16]
        loss = Distilled(loss, Teacher(model, texts, used, folder), chosen.distill, chosen.scale)
    if nested := chosen.dimensions:
        loss = Nested(loss, tuple(sorted({*nested, model.get_embedding_dimension() or 0}, reverse=True)))
    return loss


def forecast(
    gradient: Gradient, batches: Batches, first: int, total: int, evaluations: float = 0, profile: bool = False
) -> None:
    """Measure some steps without taking them, and print how long the `total - first` that are left will take.

    `evaluations` is the time of evaluations in seconds, 0 if unknown. With `profile`, also print where the time of
    a step goes, and the share of the device's peak that it reaches.
    """
    left = total - first
    if left < LEAST_STEPS and not profile:
        return
    end = min(total, (first // batches.per_epoch + 1) * batches.per_epoch)  # of the epoch, whose order is made once
    steps = np.linspace(first, end, WARM_UP + MEASURED, endpoint=False, dtype=int).tolist()
    seconds = []
    for step in steps:
        batch = batches[step]  # a training reads it while the step before is computed
        started = time.perf_counter()
        gradient.compute(step, batch)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    each = float(np.mean(seconds[WARM_UP:]))  # without the optimizer, a few percent
    duration = timedelta(seconds=round(each * left + evaluations))
    of_these = f"with {timedelta(seconds=round(evaluations))} of evaluations" if evaluations else "without evaluations"
    print(f"{left:,} steps of {each:.2f} s: {duration} {of_these}, until {datetime.now() + duration:%a %H:%M}")
    if profile:
        _print_profile(gradient, batches, steps[WARM_UP:], each)
    gradient.model.zero_grad()


def _print_profile(gradient: Gradient, batches: Batches, steps: list[int], seconds: float) -> None:
    """Print the slowest operations, and the FLOP/s of steps that take `seconds` each."""
    gradient = replace(gradient, static=None)  # a graph hides its operations
    with torch.profiler.profile(with_flops=True) as profiled:
        for step in steps:
            gradient.compute(step, batches[step])
    device, operations = gradient.model.device, profiled.key_averages()
    slowest = "cuda_time_total" if device.type == "cuda" else "cpu_time_total"
    print(operations.table(slowest, row_limit=10, max_name_column_width=32))
    flops = sum(operation.flops for operation in operations) / len(steps)
    size = 8192 if device.type == "cuda" else 2048
    a = torch.randn(size, size, device=device, dtype=PRECISIONS[precision()])
    peak = 2 * size**3 / Timer("a @ a", globals={"a": a}, num_threads=torch.get_num_threads()).timeit(5).mean
    print(
        f"{flops / 1e12:.2f} TFLOP per step without attention, {flops / seconds / 1e12:.2f} TFLOP/s: "
        f"{flops / seconds / peak:.0%} of the {peak / 1e12:.2f} TFLOP/s of a large {precision()} matrix product"
    )
