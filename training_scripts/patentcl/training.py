"""Triplets → a fine-tuned model, with Sentence Transformers' trainer.

The loss of a triplet is max(0, |a - p| - |a - n| + margin) with Euclidean distances (Schroff et al. 2015,
https://arxiv.org/abs/1503.03832). `contrast` sets each anchor against all positives and negatives of the batch instead,
see `losses.py`. At the end the weights may be averaged with the base model's, which keeps more of what that one knew
(Wortsman et al. 2022, https://arxiv.org/abs/2109.01903).

Work in progress lies in `<output>.training/` (checkpoints, log); at the end the model takes the place of `<output>`.
"""

import json
import math
import platform
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import TripletLoss
from sentence_transformers.sentence_transformer.trainer import SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments
from tqdm import tqdm
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .comparison import compare_embeddings
from .embeddings import embed, encode
from .evaluation import EvaluationSet, Figures, evaluation_set, quick
from .files import InputError, Interrupted, beside, is_done, locked, read_json, remove, write_json
from .losses import ByLength, InBatchContrast, Links
from .models import device_dtype, display_name, load_model, normalises, separator, set_dropout
from .recipes import Training
from .results import as_markdown, as_text, verdict
from .scores import dense_scores
from .texts import join_texts
from .triplets import Triplets

VAL_TEXTS = 2_000  # the corpus of the evaluations during training; the one at the end takes all


def train(
    data: Triplets, output: Path, cache: Path, training: Training, resume: bool = False, overwrite: bool = False
) -> dict[str, Any]:
    """Fine-tune on the train triplets and save the model to `output`; return the record `run.json`.

    Embeddings for the evaluations are kept in `cache`. `resume` goes on from the newest checkpoint to the same model
    as an uninterrupted run. Raises `InputError` for what the user can mend, `Interrupted` after Ctrl-C or SIGTERM.
    """
    asked = {"data": data.fingerprint, **asdict(training)}
    if is_done(output / "run.json", asked, overwrite):
        print(f"training: {output} is up to date")
        return read_json(output / "run.json")
    _check(data, training)
    with locked(output.with_name(f"{output.name}.training")):
        return _train(data, output, cache, training, resume, overwrite, asked)


def _train(
    data: Triplets, output: Path, cache: Path, training: Training, resume: bool, overwrite: bool, asked: dict[str, Any]
) -> dict[str, Any]:
    model = load_model(training.base_model, training.max_length)
    work = output.with_name(f"{output.name}.training")
    checkpoint = _prepare(work, asked, resume, overwrite)
    log = Log(work / "training.log")
    _explain_margin(model, training, log)
    on_test = evaluation_set(data, "test", seed=training.seed)
    name, base_name = output.name, display_name(training.base_model)
    embeddings = {base_name: embed(training.base_model, on_test.texts, cache, training.max_length)}
    on_val = evaluation_set(data, "val", most_texts=VAL_TEXTS, seed=training.seed)
    known = embed(training.base_model, on_val.texts, cache, training.max_length)
    _note_val(log, 0, quick(dense_scores(known), on_val))
    before = {key: value.clone() for key, value in model.state_dict().items()} if training.average < 1 else {}
    run = fit(model, data, work, training, checkpoint, Watch(model, on_val, training, log))
    average(model, before, training.average)
    with beside(output) as scratch:
        model.save_pretrained(str(scratch), create_model_card=False)
        embeddings[name] = embed(str(scratch), on_test.texts, cache, training.max_length, label=name)
        tuned = dense_scores(embed(str(scratch), on_val.texts, cache, training.max_length, label=name))
        _note_val(log, run["steps"], quick(tuned, on_val))
        found = compare_embeddings(embeddings, on_test, training.seed)
        queries = len(set(on_test.pairs[:, 0]))
        line = verdict(found, name, training.seed)
        record = {
            "asked": asked,
            **run,
            "val": log.read("val"),
            "test": {row: figures.values for row, figures in found.rows.items()},
            "test queries": queries,
            "verdict": line,
            **_machine(),
        }
        log.write("verdict", {"line": line})
        (scratch / "training.log").write_bytes(log.path.read_bytes())
        (scratch / "README.md").write_text(_model_card(name, record, training, as_markdown(found)), encoding="utf-8")
        write_json(scratch / "run.json", record)
    remove(work)
    print(as_text(found), line, sep="\n")
    return record


def _check(data: Triplets, training: Training) -> None:
    if not (data.triplets["split"] == "train").any():
        raise InputError("there is no train triplet: mine from larger tables, or lower --val and --test")
    positive = {"--epochs": training.epochs, "--batch-size": training.batch_size, "--lr": training.lr}
    for flag, value in positive.items():
        if not 0 < value < 1e6:
            raise InputError(f"{flag} {value} must be a number above 0 and below a million")
    least = {"--max-length": training.max_length, "--evaluations": training.evaluations}
    for flag, number in least.items():
        if number < 0:
            raise InputError(f"{flag} {number} must not be below 0")
    if training.checkpoint_steps < 1:
        raise InputError(f"--checkpoint-steps {training.checkpoint_steps} must be at least 1")
    if training.dropout is not None and not 0 <= training.dropout < 1:
        raise InputError(f"--dropout {training.dropout} must lie in [0, 1)")
    if not 0 < training.average <= 1 or not 0 < training.scale < 1e4:
        raise InputError(f"--average {training.average} must lie in (0, 1], --scale {training.scale} in (0, 10000)")
    if not 0 <= training.margin < math.inf or not 0 <= training.warmup < 1:
        raise InputError(f"--margin {training.margin} must not be below 0, --warmup {training.warmup} lie in [0, 1)")


def _prepare(work: Path, asked: dict[str, Any], resume: bool, overwrite: bool) -> str | None:
    """Make the folder of the work in progress; return the newest whole checkpoint when there is one to go on from."""
    stamp = work / "asked.json"
    if stamp.exists() and not overwrite:
        if not resume:
            raise InputError(
                f"{work} holds an unfinished training: add --resume to go on, or --overwrite to start anew"
            )
        _same_run(stamp, asked)
        whole = [path.parent for path in work.glob("checkpoint-*/trainer_state.json")]
        newest = max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)
        print(
            f"training: goes on from {newest}" if newest else "training: no checkpoint yet, starts from the beginning"
        )
        return str(newest) if newest else None
    if work.exists() and not stamp.exists() and any(work.iterdir()):
        raise InputError(f"{work} is there and is no training of ours: move it away")
    remove(work)
    work.mkdir(parents=True)
    write_json(stamp, asked)
    return None


def _same_run(stamp: Path, asked: dict[str, Any]) -> None:
    known = read_json(stamp)
    changed = [name for name in asked if known.get(name) != asked[name]]
    if changed:
        old = ", ".join(f"{name} {known.get(name)}" for name in changed)
        raise InputError(
            f"{stamp.parent} was started with {old}: resume with the same, or add --overwrite to start anew"
        )


def average(model: SentenceTransformer, base: dict[str, torch.Tensor], share: float) -> None:
    """Set the model's weights to `share` of their own and the rest of `base`'s; share 1 leaves them as they are."""
    if share < 1:
        own = model.state_dict()
        model.load_state_dict(
            {k: torch.lerp(base[k], v, share) if v.is_floating_point() else v for k, v in own.items()}
        )


def _note_val(log: "Log", step: int, found: Figures) -> None:
    figures = found.values
    log.write("val", {"step": step, **figures})
    shown = f"nDCG@10 {figures['nDCG@10']:.3f}, triplet accuracy {figures['triplet accuracy']:.3f}"
    tqdm.write(f"val at step {step}: {shown}")


def fit(
    model: SentenceTransformer, data: Triplets, work: Path, training: Training, checkpoint: str | None, watch: "Watch"
) -> dict[str, Any]:
    """Train `model` on the train triplets, with checkpoints in `work`; return steps, time and throughput."""
    dataset = _dataset(data, separator(model))
    model.model_card_data.widget = [{}]  # else the trainer makes examples for a card; ours is written below
    if training.dropout is not None:
        set_dropout(model, training.dropout)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=_arguments(work, training, math.ceil(len(dataset) / training.batch_size * training.epochs)),
        train_dataset=dataset,
        loss=_loss(model, data, training),
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    with watch.signals():
        try:
            trainer.train(resume_from_checkpoint=checkpoint)
        except Exception as problem:
            if checkpoint is None or watch.began or isinstance(problem, InputError):
                raise
            raise InputError(
                f"{checkpoint} cannot be read ({problem}): delete it, and --resume goes on from the one before"
            ) from None
    if watch.interrupted:
        raise Interrupted(f"saved a checkpoint at step {trainer.state.global_step}: add --resume to go on")
    seconds = max(watch.seconds, 1e-9)
    return {
        "train triplets": len(dataset),
        "steps": trainer.state.global_step,
        "seconds": round(seconds, 1),
        "triplets a second": round(trainer.state.global_step * training.batch_size / seconds, 2),
    }


def _dataset(data: Triplets, sep: str) -> Dataset:
    """Rows of the train triplets; their texts are put together when a batch asks for them."""
    disable_progress_bar()
    train = data.triplets[data.triplets["split"] == "train"]
    row = pd.Series(range(len(data.texts)), index=data.texts["patent_id"])
    texts = data.texts
    roles = ("anchor", "positive", "negative")
    dataset = Dataset.from_dict({role: row[train[f"{role}_id"]].tolist() for role in roles})

    def look_up(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {role: join_texts(texts.iloc[batch[role]], sep) for role in roles}
        return {**columns, "label": list(zip(*(batch[role] for role in roles), strict=True))}

    dataset.set_transform(look_up)
    return dataset


def _loss(model: SentenceTransformer, data: Triplets, training: Training) -> torch.nn.Module:
    if training.loss == "contrast":
        row = pd.Series(range(len(data.texts)), index=data.texts["patent_id"])
        pairs = data.triplets[["anchor_id", "positive_id"]].apply(lambda ids: ids.map(row)).to_numpy()
        links = Links(pairs, data.texts["family"].to_numpy())
        return ByLength(InBatchContrast(model, links, training.scale))
    return ByLength(TripletLoss(model, triplet_margin=training.margin))


def _arguments(work: Path, training: Training, steps: int) -> SentenceTransformerTrainingArguments:
    return SentenceTransformerTrainingArguments(
        output_dir=str(work),
        num_train_epochs=training.epochs,
        per_device_train_batch_size=training.batch_size,
        learning_rate=training.lr,
        warmup_steps=training.warmup,
        bf16=device_dtype() == torch.bfloat16,
        tf32=True if torch.cuda.is_available() else None,
        save_strategy="steps",
        save_steps=training.checkpoint_steps,
        save_total_limit=2,
        logging_steps=max(1, min(10, steps // 50)),
        logging_nan_inf_filter=False,
        seed=training.seed,
        data_seed=training.seed,
        dataloader_pin_memory=torch.cuda.is_available(),
        dataloader_num_workers=2 if torch.cuda.is_available() else 0,
        disable_tqdm=True,
        report_to="none",
    )


class Watch(TrainerCallback):
    """Progress bar, log, evaluations on val, and a checkpoint before the end when a signal asks for it."""

    def __init__(self, model: SentenceTransformer, on_val: EvaluationSet, training: Training, log: "Log") -> None:
        """Keep what the callbacks need."""
        self.model, self.on_val, self.training, self.log = model, on_val, training, log
        self.interrupted, self.began, self.seconds = False, False, 0.0

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Let the first Ctrl-C or SIGTERM finish the step and save; a second one ends at once."""

        def ask(number: int, _: object) -> None:
            print(f"\n{signal.Signals(number).name}: saves a checkpoint after this step", file=sys.stderr)
            self.interrupted = True
            signal.signal(number, before[number])

        before: dict[int, Any] = {n: signal.signal(n, ask) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Open the progress bar; the time until the checkpoint that this goes on from counts too."""
        saved = {event["step"]: event["seconds"] for event in self.log.read("checkpoint")}
        self.seconds = saved.get(state.global_step, 0.0)
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="train", unit="step")
        self.started = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Count the step; evaluate when it is time; stop with a checkpoint when a signal has come."""
        self.bar.update()
        self.began = True
        every = -(-state.max_steps // max(1, self.training.evaluations))
        at_end = state.global_step == state.max_steps  # the saved model is evaluated after that
        if self.training.evaluations and state.global_step % every == 0 and not at_end:
            before = time.perf_counter()
            figures = quick(dense_scores(encode(self.model, self.on_val.texts)), self.on_val)
            _note_val(self.log, state.global_step, figures)
            pause = time.perf_counter() - before
            self.started += pause  # neither the throughput nor the time left knows of the pause
            self.bar.start_t, self.bar.last_print_t = self.bar.start_t + pause, self.bar.last_print_t + pause
        if self.interrupted:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """Show and write down the loss; stop when it is no number any more."""
        logs = more.get("logs", {})
        if "loss" not in logs:
            return
        loss = float(logs["loss"])
        self.bar.set_postfix(loss=f"{loss:.4f}")
        self.log.write("step", {"step": state.global_step, "loss": loss, "lr": float(logs["learning_rate"])})
        if loss != loss or loss == float("inf"):
            raise InputError(f"the loss became {loss} by step {state.global_step}: lower --lr, or look at the triplets")

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write down how long the training took until this checkpoint."""
        seconds = self.seconds + time.perf_counter() - self.started
        self.log.write("checkpoint", {"step": state.global_step, "seconds": seconds})

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Close the progress bar."""
        self.seconds += time.perf_counter() - self.started
        self.bar.close()


class Log:
    """The log file: a JSON object a line, appended at once, so that a crash loses nothing."""

    def __init__(self, path: Path) -> None:
        """Keep the path; the file is made with the first line."""
        self.path = path

    def write(self, event: str, values: dict[str, Any]) -> None:
        """Append a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(
                json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S"), "event": event, **values}, ensure_ascii=False)
                + "\n"
            )

    def read(self, event: str) -> list[dict[str, Any]]:
        """The values of all lines of `event`, the last of each step."""
        if not self.path.exists():
            return []
        lines = [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
        by_step = {line["step"]: line for line in lines if line["event"] == event}
        return [{k: v for k, v in by_step[step].items() if k not in ("time", "event")} for step in sorted(by_step)]


def _explain_margin(model: SentenceTransformer, training: Training, log: Log) -> None:
    """A margin above all possible gaps turns the loss into a plain difference of distances: say so."""
    if training.loss == "triplet" and normalises(model) and training.margin >= 2:
        sentence = (
            f"{training.base_model} normalises its vectors, so distances are at most 2 and margin {training.margin:g} "
            "is never reached: every triplet keeps pulling; a margin below 0.5 would let solved ones rest"
        )
        print(sentence)
        log.write("note", {"text": sentence})


def _machine() -> dict[str, Any]:
    cuda = torch.cuda.is_available()
    packages = ("torch", "transformers", "sentence-transformers", "datasets", "numpy", "pandas")
    return {
        "device": torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads",
        "precision": str(device_dtype()).removeprefix("torch."),
        "peak memory GB": round(
            torch.cuda.max_memory_allocated() / 1e9
            if cuda
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
            2,
        ),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }


def _model_card(name: str, record: dict[str, Any], training: Training, tables: str) -> str:
    """The model's README.md with our numbers, in the hub's format (https://huggingface.co/docs/hub/model-cards)."""
    settings = f"margin {training.margin:g}" if training.loss == "triplet" else f"scale {training.scale:g}"
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, patents]
---

# {name}

A patent embedding model: {training.base_model} fine-tuned on {record["train triplets"]:,} triplets of patents
(loss {training.loss}, {settings}, {training.epochs:g} epochs, batch {training.batch_size}, learning rate
{training.lr:g}, {training.average:.0%} of the trained weights, seed {training.seed}). Encode title + separator token +
abstract.

On the test split, whose patents no training triplet holds ({record["test queries"]:,} queries; p-values and
intervals by bootstrap, the protocol in `patentcl/evaluation.py`):

{tables}
Trained on {record["device"]} at {record["triplets a second"]} triplets a second; `run.json` has the whole record.
"""
