"""Triplets → a fine-tuned model: prepare, fit, evaluate, save.

AdamW with linear warm-up and decay and gradients clipped to norm 1, as in Sentence Transformers' trainer; what is
faster than there is in `models/packing.py`, `models/tokens.py` and `gradient.py`. At the end the weights may be
averaged with the base model's, which keeps more of what that one knew (Wortsman et al. 2022,
https://arxiv.org/abs/2109.01903).

An unfinished training is in `<output>.training/` (checkpoints, log); at the end the model replaces `<output>`.
"""

import errno
import os
import platform
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer

from ..common.cli import InputError, Interrupted
from ..common.distributed import join, rank, wait, world
from ..common.files import beside, check_replaceable, is_done, locked, read_json, remove, write_record
from ..common.resources import require
from ..evaluation.compare import check_names, compare
from ..evaluation.held_out import held_out_set
from ..evaluation.leakage import TRAINED_ON
from ..models.device import peak_memory_gb, precision
from ..models.embed import embed
from ..models.load import Model, find_model
from ..models.packing import choose_backend
from ..models.tokens import separator, tokenise
from ..triplets.dataset import Dataset
from . import checkpoints
from .batches import Batches
from .card import write_card
from .forecast import forecast
from .gradient import Gradient, set_dropout
from .log import Log
from .loop import Job, Loop
from .losses import LOSSES
from .options import Hyperparameters, RunOptions, recipe_of
from .validation import LEAST_QUERIES, Validation

MEMORY_PER_TRIPLET, MEMORY_PER_TEXT = 45, 10  # bytes: order, lengths and links, besides the model (measured)
VAL_TEXTS = 2_000  # the corpus of the evaluations during training; the one at the end takes all
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
    base = find_model(hyperparameters.base_model)
    check_names([output.name, base.label])
    work = output.with_name(f"{output.name}.training")
    params = {"data": data.fingerprint, "base": base.fingerprint, **asdict(hyperparameters)}
    replaces = options.overwrite or (options.resume and (work / checkpoints.STAMP).exists())
    if not replaces and is_done(output / "run.json", params):
        print(f"training: {output} is up to date")
        return read_json(output / "run.json")
    check_replaceable(output / "run.json", params, replaces)
    if not (data.triplets["split"] == "train").any():
        raise InputError("There is no train triplet. Pass more triplets, or mine again with lower --val and --test.")
    join()
    with locked(work) if rank() == 0 else nullcontext():
        try:
            if rank() == 0:
                checkpoints.prepare(work, params | {"PATENTCL_PRECISION": precision()}, options)
            wait()
            log = Log(work / "training.log", work / "tensorboard" if options.tensorboard else None)
            return _train(Job(work, hyperparameters, options, log, on_step), data, output, cache, base, params)
        except KeyboardInterrupt:
            raise Interrupted(f"{work} is kept. Add --resume to continue.") from None


def _train(job: Job, data: Dataset, output: Path, cache: Path, base: Model, params: dict[str, Any]) -> dict[str, Any]:
    chosen = job.hyperparameters
    model = base.load(chosen.max_length)
    if warning := checkpoints.missing_space(job.work, model, job.options.keep_checkpoints):
        job.log.warn(warning)
    held_out = held_out_set(data, "val", max_texts=VAL_TEXTS, seed=chosen.seed)
    validation = Validation(held_out, model, chosen, job.log)
    test = held_out_set(data, "test", seed=chosen.seed)
    if rank() == 0:
        embed(base, test.texts, cache, chosen.max_length)  # before the model changes
        if not job.log.read("val"):
            validation.evaluate(model, 0)
    run = fit(base.take(chosen.max_length), data, job, validation, cache, len(test.texts))
    if rank() > 0:
        return run
    check_replaceable(output / "run.json", params, job.options.overwrite or job.options.resume)
    with beside(output) as scratch:
        _save_weights(model, scratch, job.work)
        trained = replace(find_model(str(scratch)), name=output.name)
        report = compare([base, trained], test, cache, chosen.max_length, chosen.seed)
        record = {
            "params": params,
            "name": output.name,
            "base folder": os.path.relpath(base.folder.resolve(), output),
            "recipe": recipe_of(chosen),
            **run,
            "val": job.log.read("val"),
            "test": {name: row.values for name, row in report.rows.items()},
            "test queries": len(np.unique(test.pairs[:, 0])),
            "verdict": report.verdict(output.name),
        }
        job.log.write("verdict", {"line": record["verdict"]})
        job.log.save(scratch)
        trained_on = data.texts.loc[data.used_in("train"), "patent_id"].sort_values()
        with (scratch / TRAINED_ON).open("w", encoding="utf-8") as file:
            file.writelines(f"{patent}\n" for patent in trained_on)
        weights = [str(path.relative_to(scratch)) for path in scratch.rglob("*.safetensors")]
        write_record(scratch / "run.json", record, weights)
        write_card(scratch / "README.md", base, record, separator(model), report.to_markdown())
    remove(job.work)
    print(report.to_markdown(), record["verdict"], sep="\n")
    return record


def _save_weights(model: SentenceTransformer, folder: Path, work: Path) -> None:
    try:
        model.save_pretrained(str(folder), create_model_card=False)
    except SafetensorError as error:  # on a full disk
        raise OSError(errno.ENOSPC, f"{folder} could not be written ({error}); {work} is kept for --resume") from None


def fit(
    model: SentenceTransformer, data: Dataset, job: Job, validation: Validation, cache: Path, test_texts: int = 0
) -> dict[str, Any]:
    """Train `model` on the train triplets; return the steps, time, throughput, and the machine.

    Tokens are cached in `cache`. `test_texts` texts will be evaluated at the end; only the forecast depends on it.
    """
    chosen, options, log = job.hyperparameters, job.options, job.log
    model.train()
    if chosen.dropout is not None:
        set_dropout(model, chosen.dropout)
    if rank() > 0:
        wait()  # until the first process has written the tokens
    needed = MEMORY_PER_TRIPLET * len(data.triplets) + MEMORY_PER_TEXT * len(data.texts)
    require(cache, 0, needed, f"training on {len(data.triplets):,} triplets")
    texts = tokenise(model, len(data.texts), data.blocks, data.fingerprint, cache / "tokens")
    if rank() == 0:
        wait()
    triplets = data.triplets_of("train")
    batches = Batches(triplets, texts.lengths, chosen.batch_size, chosen.seed)
    backend = choose_backend(model, options.attention, log.warn)
    kind = LOSSES[chosen.loss]
    loss = kind.build(data, **{name: getattr(chosen, name) for name in kind.options})
    if note := loss.note(model):
        log.warn(note)
    if (chosen.keep == "best" or chosen.patience) and chosen.evaluations > 1 and not validation.can_choose:
        log.warn(f"The validation set has fewer than {LEAST_QUERIES} queries to choose by; keeping the last weights.")
    gradient = Gradient(model, texts, loss, chosen.seed, backend, options.micro_batch, log.warn)
    loop = Loop(job, gradient, batches, validation, data.texts["patent_id"])
    loop.resume()
    if loop.state.step < loop.total:  # on every process, because gradients are added there, too
        count = sum(step > loop.state.step for step in loop.evaluated)
        count += test_texts / max(1, len(validation.held_out.texts))
        forecast(gradient, batches, loop.state.step, loop.total, validation.seconds * count, options.profile)
    state = loop.run()
    cuda = torch.cuda.is_available()
    return {
        "train triplets": len(triplets),
        "steps": state.step,
        "kept step": state.best_step if loop.keeps_best and state.best_step else state.step,
        "seconds": round(state.seconds, 1),
        "triplets per second": round(state.triplets / max(state.seconds, 1e-9), 2),
        "attention": backend,
        "processes": world(),
        "device": torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads",
        "precision": precision(),
        "peak memory GB": round(peak_memory_gb(), 2),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
