"""Triplets → a fine-tuned model.

The loss of a triplet is max(0, |a - p| - |a - n| + margin) with Euclidean distances (Schroff et al. 2015,
https://arxiv.org/abs/1503.03832). `contrast` sets each anchor against all positives and negatives of the batch instead,
see `losses.py`. AdamW with a linear warm-up and decay and gradients cut to norm 1, as Sentence Transformers' trainer
does it; what is faster than there stands in `packing.py`, `tokens.py` and `steps.py`. At the end the weights may be
averaged with the base model's, which keeps more of what that one knew (Wortsman et al. 2022,
https://arxiv.org/abs/2109.01903).

Work in progress lies in `<output>.training/` (checkpoints, log); at the end the model takes the place of `<output>`.
"""

import errno
import math
import os
import platform
import re
from contextlib import nullcontext
from dataclasses import asdict, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import TripletLoss

from ..common.cli import InputError, Interrupted
from ..common.distributed import join, rank, wait, world
from ..common.files import beside, check_replaceable, is_done, locked, read_json, remove, write_json, write_record
from ..evaluation.compare import check_names, compare_embeddings
from ..evaluation.held_out import held_out_set
from ..evaluation.leakage import TRAINED_ON
from ..models.device import peak_memory_gb, precision
from ..models.embed import embed
from ..models.load import Model, find_model, normalises
from ..models.packing import choose_backend
from ..models.tokens import tokenise
from ..triplets.dataset import ROLES, Dataset
from . import checkpoints
from .batches import Batches
from .card import model_card
from .gradient import Steps, set_dropout
from .log import Log
from .loop import LEAST_QUERIES, Loop, Validation
from .losses import InBatchContrast, Links
from .recipes import Running, Training, name_of

STAMP = "params.json"  # in the folder of a work in progress
OURS = re.compile(
    r"\.?params\.json(\.partial)?|training\.(log|csv|partial)|tensorboard|(checkpoint|best)-\d+\.(pt|partial)"
)
VAL_TEXTS = 2_000  # the corpus of the evaluations during training; the one at the end takes all


def train(
    data: Dataset,
    output: Path,
    cache: Path,
    training: Training,
    resume: bool = False,
    overwrite: bool = False,
    running: Running | None = None,
) -> dict[str, Any]:
    """Fine-tune on the train triplets and save the model to `output`; return the record `run.json`.

    Embeddings for the evaluations and tokens are kept in `cache`. `resume` goes on from the newest checkpoint to the
    same model as an uninterrupted run. Raises `InputError` for what the user can mend, `Interrupted` after a signal.
    """
    output = output.resolve()
    if not output.name:
        raise InputError(f"--output {output} is no folder of a model's own: name one in it")
    base = find_model(training.base_model)
    check_names([output.name, base.label])
    params = {"data": data.fingerprint, "base": base.fingerprint, **asdict(training)}
    work = output.with_name(f"{output.name}.training")
    going_on = resume and (work / STAMP).exists()
    if not (overwrite or going_on) and is_done(output / "run.json", params):
        print(f"training: {output} is up to date")
        return read_json(output / "run.json")
    check_replaceable(output / "run.json", params, overwrite or going_on)
    running = running or Running()
    _check(data, training)
    _check_running(running)
    join()
    with locked(work) if rank() == 0 else nullcontext():
        try:
            return _train(data, output, work, cache, training, base, resume, overwrite, params, running)
        except KeyboardInterrupt:
            raise Interrupted(f"{work} is kept: add --resume to go on") from None


def _train(
    data: Dataset,
    output: Path,
    work: Path,
    cache: Path,
    training: Training,
    base: Model,
    resume: bool,
    overwrite: bool,
    params: dict[str, Any],
    running: Running,
) -> dict[str, Any]:
    if rank() == 0:
        _prepare(work, params | {"PATENTCL_PRECISION": precision()}, resume, overwrite)
    wait()
    model = base.load(training.max_length)
    log = Log(work / "training.log", work / "tensorboard" if running.tensorboard else None)
    if lacking := checkpoints.lack_of_room(work, model, running.keep_checkpoints):
        log.say(lacking)
    _explain_margin(model, training, log)
    val = Validation(held_out_set(data, "val", max_texts=VAL_TEXTS, seed=training.seed), model, training, log)
    embeddings = {}
    if rank() == 0:
        on_test = held_out_set(data, "test", seed=training.seed)
        embeddings[base.label] = embed(base, on_test.texts, cache, training.max_length)
        val.test_texts = len(on_test.texts)
        if not log.read("val"):
            val.of(model, 0)
    run = fit(base.take(training.max_length), data, work, training, val, running, cache)
    if rank() > 0:
        return run
    name = output.name
    try:
        check_replaceable(output / "run.json", params, overwrite or resume)  # written there meanwhile
    except InputError as problem:
        raise InputError(f"{problem}; {work} is kept for --resume") from None
    with beside(output) as scratch:
        try:
            model.save_pretrained(str(scratch), create_model_card=False)
        except SafetensorError as problem:  # how a full disk is told
            raise OSError(
                errno.ENOSPC, f"{output} could not be written ({problem}); {work} is kept for --resume"
            ) from None
        trained = replace(find_model(str(scratch)), name=name)
        embeddings[name] = embed(trained, on_test.texts, cache, training.max_length)
        report = compare_embeddings(embeddings, on_test, training.seed)
        line = report.verdict(name)
        record = {
            "params": params,
            "base folder": os.path.relpath(base.folder.resolve(), output),
            "recipe": name_of(training),
            **run,
            "val": log.read("val"),
            "test": {row: figures.values for row, figures in report.rows.items()},
            "test queries": len(set(on_test.pairs[:, 0])),
            "verdict": line,
            **_machine(),
        }
        log.write("verdict", {"line": line})
        (scratch / "training.log").write_bytes(log.path.read_bytes())
        log.write_csv(scratch / "training.csv")
        log.plot(scratch / "training.png")
        log.move_board(scratch / "tensorboard")
        (scratch / "README.md").write_text(model_card(name, record, training, report.to_markdown()), encoding="utf-8")
        (scratch / TRAINED_ON).write_text("".join(f"{i}\n" for i in sorted(data.ids_in("train"))), encoding="utf-8")
        weights = [str(path.relative_to(scratch)) for path in scratch.rglob("*.safetensors")]
        write_record(scratch / "run.json", record, weights)
    remove(work)
    print(report.to_text(), line, sep="\n")
    return record


def _check(data: Dataset, training: Training) -> None:
    if not (data.triplets["split"] == "train").any():
        raise InputError("there is no train triplet: mine from larger tables, or lower --val and --test")
    positive = {"--epochs": training.epochs, "--batch-size": training.batch_size, "--lr": training.lr}
    for flag, value in positive.items():
        if not 0 < value < 1e6:
            raise InputError(f"{flag} {value} must be a number above 0 and below a million")
    least = {
        "--max-length": training.max_length,
        "--evaluations": training.evaluations,
        "--patience": training.patience,
    }
    for flag, number in least.items():
        if number < 0:
            raise InputError(f"{flag} {number} must not be below 0")
    if training.dropout is not None and not 0 <= training.dropout < 1:
        raise InputError(f"--dropout {training.dropout} must lie in [0, 1)")
    if not 0 < training.average <= 1 or not 0 < training.scale < 1e4:
        raise InputError(f"--average {training.average} must lie in (0, 1], --scale {training.scale} in (0, 10000)")
    if not 0 <= training.margin < math.inf or not 0 <= training.warmup < 1:
        raise InputError(f"--margin {training.margin} must not be below 0, --warmup {training.warmup} lie in [0, 1)")


def _check_running(running: Running) -> None:
    if not 0 <= running.checkpoint_minutes < math.inf:
        raise InputError(f"--checkpoint-minutes {running.checkpoint_minutes} must not be below 0")
    if running.keep_checkpoints < 1 or running.micro_batch < 0:
        raise InputError(
            f"--keep-checkpoints {running.keep_checkpoints} must be at least 1, --micro-batch {running.micro_batch} "
            "not below 0"
        )
    if running.tensorboard and not find_spec("tensorboard"):
        raise InputError("--tensorboard needs its package: pip install tensorboard")


def _prepare(work: Path, params: dict[str, Any], resume: bool, overwrite: bool) -> None:
    """Make the folder of the work in progress, or see that the one that is there is this training's."""
    stamp = work / STAMP
    if stamp.exists() and resume:
        _same_run(stamp, params)
        return
    if stamp.exists() and not overwrite and checkpoints.newest(work):
        raise InputError(f"{work} holds an unfinished training: add --resume to go on, or --overwrite to start anew")
    if work.exists() and not stamp.exists():
        if not work.is_dir() or not all(OURS.fullmatch(path.name) for path in work.iterdir()):
            raise InputError(f"{work} is there and is no training of ours: move it away")
        if checkpoints.newest(work) and not overwrite:
            raise InputError(f"{work} holds checkpoints but no {STAMP}: add --overwrite to start anew")
    if resume:
        print(f"training: there is no {work} to go on with: starts at the first step")
    remove(work)
    work.mkdir(parents=True)
    write_json(stamp, params)


def _same_run(stamp: Path, params: dict[str, Any]) -> None:
    known = read_json(stamp)
    changed = [name for name in params if known.get(name) != params[name]]
    if changed:
        old = ", ".join(f"{name} {known.get(name)}" for name in changed)
        raise InputError(
            f"{stamp.parent} was started with {old}: resume with the same, or start anew with --overwrite, not --resume"
        )


def fit(
    model: SentenceTransformer,
    data: Dataset,
    work: Path,
    training: Training,
    val: Validation,
    running: Running,
    cache: Path,
) -> dict[str, Any]:
    """Train `model` on the train triplets, with checkpoints in `work`; return steps, time and throughput."""
    model.train()
    if training.dropout is not None:
        set_dropout(model, training.dropout)
    row = pd.Series(range(len(data.texts)), index=data.texts["patent_id"])
    triplets = (
        data.triplets.loc[data.triplets["split"] == "train", list(ROLES)].apply(lambda ids: ids.map(row)).to_numpy()
    )
    texts = tokenise(model, data.texts, cache / "tokens") if rank() == 0 else None
    wait()
    texts = texts or tokenise(model, data.texts, cache / "tokens")
    batches = Batches(triplets, texts.lengths, training.batch_size, training.seed)
    way = choose_backend(model, running.attention, val.log.say)
    steps = Steps(model, texts, _loss(model, data, row, training), training.seed, way, running.micro_batch, val.log.say)
    if (training.keep == "best" or training.patience) and training.evaluations > 1 and not val.can_choose():
        val.log.say(
            f"val has fewer than {LEAST_QUERIES} queries: too few to choose by or stop early, the last weights are kept"
        )
    loop = Loop(model, batches, steps, training, running, val, work, data.texts["patent_id"].tolist())
    state = loop.run()
    return {
        "train triplets": len(triplets),
        "steps": state.step,
        "kept step": state.best_step if loop.keeps_best and state.best_step else state.step,
        "seconds": round(state.seconds, 1),
        "triplets a second": round(batches.seen(state.step) / max(state.seconds, 1e-9), 2),
        "attention": way,
        "processes": world(),
    }


def _loss(model: SentenceTransformer, data: Dataset, row: pd.Series, training: Training) -> torch.nn.Module:
    if training.loss == "contrast":
        pairs = data.triplets[["anchor_id", "positive_id"]].apply(lambda ids: ids.map(row)).to_numpy()
        return InBatchContrast(Links(pairs, data.texts["family"].to_numpy()), training.scale)
    return TripletLoss(model, triplet_margin=training.margin)


def _explain_margin(model: SentenceTransformer, training: Training, log: Log) -> None:
    """A margin above all possible gaps turns the loss into a plain difference of distances: say so."""
    if training.loss == "triplet" and normalises(model) and training.margin >= 2:
        sentence = (
            f"{training.base_model} normalises its vectors, so distances are at most 2 and margin {training.margin:g} "
            "is never reached: every triplet keeps pulling; a margin below 0.5 would let solved ones rest"
        )
        log.say(sentence)


def _machine() -> dict[str, Any]:
    cuda = torch.cuda.is_available()
    packages = ("torch", "transformers", "sentence-transformers", "numpy", "pandas")
    return {
        "device": torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads",
        "precision": precision(),
        "peak memory GB": round(peak_memory_gb(), 2),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }
