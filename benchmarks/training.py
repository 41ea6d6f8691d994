"""Benchmark of training: patentCL against the stock trainer of Sentence Transformers, with the same triplets and loss.

    python benchmarks/training.py --triplets data/triplets/800 --models minilm models/all-mpnet-base-v2

Both train the same base model with the triplet loss, margin 5, the same batch size and learning rate, and no dropout,
so that the losses are comparable. The stock trainer is set up as in its documentation. The steps are split into parts:
the sides take turns, each part runs in a new process, and the first part of each side is dropped if there are several.
The stock trainer tokenises during its steps; ours tokenises before them, which is not timed. Both sides see the same
triplets in a different order. Memory is the peak of a process. To see whether it grows in a long training, let it be
printed after every 500 steps, which repeat the triplets if there are fewer:

    python benchmarks/training.py --triplets data/triplets/800 --steps 5000 --parts 1 --memory-every 500
"""

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm
from transformers import TrainerCallback

from patentcl.common.cli import option, parse_options, run_script
from patentcl.models.device import peak_memory_gb, precision
from patentcl.models.load import find_model
from patentcl.models.tokens import join_texts, separator
from patentcl.training.gradient import set_dropout
from patentcl.triplets.dataset import ROLES, Dataset, load_dataset

SIDES = ("ours", "stock")


@dataclass(frozen=True)
class Options:
    """The command line."""

    triplets: Path = option(MISSING, "folder of mined triplets", metavar="DIR")
    max_length: int = option(0, "maximum tokens per text (0: the model's limit)")
    models: list[str] = field(
        default_factory=lambda: ["minilm"], metadata={"help": "base models", "metavar": "NAME|DIR"}
    )
    steps: int = option(8, "steps in each part")
    parts: int = option(3, "parts of each side; the first one warms up")
    warm_up: int = option(0, "steps before each part, for a GPU (0: none)")
    batch_size: int = option(16, "triplets per step")
    memory_every: int = option(0, "also print the resident memory every so many steps (0: no)")
    output: Path | None = option(None, "plot of the losses (default: none)", metavar="PNG")
    part: str = option("", argparse.SUPPRESS)  # set by the parent process


def main(argv: Sequence[str] | None = None) -> None:
    """Run both sides in turn, print the table, plot the losses."""
    (options,) = parse_options(__doc__, Options, argv=argv)
    if options.part:
        side, number = options.part.split(":")
        print(json.dumps(run_part(side, int(number), options)))
        return
    print(f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}, {precision()}")
    print(f"{'model':24} {'side':6} {'triplets/s':>11} {'ratio':>6} {'memory':>8}  last loss")
    curves: dict[str, dict[str, list[float]]] = {}
    for model in options.models:
        results: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for number in range(options.parts):
            for side in SIDES:
                results[side].append(run_child(side, number, model, options))
        speeds = {side: np.mean([p["triplets/s"] for p in parts[1:] or parts]) for side, parts in results.items()}
        for side, parts in results.items():
            memory, last = max(p["memory GB"] for p in parts), np.mean(parts[-1]["losses"])
            ratio = speeds[side] / speeds["stock"]
            print(f"{Path(model).name:24} {side:6} {speeds[side]:11.2f} {ratio:5.2f}x {memory:6.2f}GB {last:10.4f}")
        curves[Path(model).name] = {s: [loss for p in parts for loss in p["losses"]] for s, parts in results.items()}
    if options.output:
        draw(curves, options.output)
        print(f"losses: {options.output}")


def run_child(side: str, number: int, model: str, options: Options) -> dict[str, Any]:
    """Run a part in a new process, so that the peak memory is that of one part."""
    command = [sys.executable, __file__, "--models", model, "--part", f"{side}:{number}"]
    for name in ("triplets", "steps", "warm_up", "batch_size", "max_length", "memory_every"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    stderr = None if options.memory_every else subprocess.PIPE  # where the memory is shown meanwhile
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False)  # noqa: S603 (itself)
    if done.returncode:
        raise SystemExit(done.stderr or 1)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def run_part(side: str, number: int, options: Options) -> dict[str, Any]:
    """Train on the triplets of this part; return losses and speed. Loading and tokenising are not timed."""
    data = load_dataset(options.triplets)
    train = data.triplets[data.triplets["split"] == "train"].reset_index(drop=True)
    random, needed = np.random.default_rng(number), max(options.warm_up, options.steps) * options.batch_size
    order = np.concatenate([random.permutation(len(train)) for _ in range(0, max(needed, 1), len(train))])
    runs = [
        run(
            side,
            replace(data, triplets=train.iloc[order[: steps * options.batch_size]].reset_index(drop=True)),
            options,
        )
        for steps in (options.warm_up, options.steps)
        if steps
    ]
    return runs[-1]


def run(side: str, data: Dataset, options: Options) -> dict[str, Any]:
    """Train the base model on all train triplets of `data` once."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    model = find_model(options.models[0]).take(options.max_length)
    set_dropout(model, 0)

    def watch(step: int) -> None:
        if options.memory_every and step % options.memory_every == 0:
            tqdm.write(f"{side}: {resident_gb():.2f} GB resident after step {step:,}", file=sys.stderr)

    losses, seconds = (ours if side == "ours" else stock)(model, data, options, watch)
    return {"losses": losses, "triplets/s": len(data.triplets) / seconds, "memory GB": peak_memory_gb()}


def resident_gb() -> float:
    """The memory of this process now, on Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e9


def ours(model: Any, data: Dataset, options: Options, watch: Callable[[int], None]) -> tuple[list[float], float]:
    """Train with the loop of patentCL; `watch` is called with the number of steps taken."""
    from patentcl.evaluation.held_out import held_out_set
    from patentcl.training.log import Log
    from patentcl.training.loop import Job
    from patentcl.training.options import Hyperparameters, RunOptions
    from patentcl.training.train import fit

    chosen = Hyperparameters("", epochs=1, batch_size=options.batch_size, evaluations=0, keep="last", dropout=0, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder) / "log")
        job = Job(Path(folder), chosen, RunOptions(checkpoint_minutes=0), log, lambda step, model: watch(step + 1))
        done = fit(model, data, job, held_out_set(data, "val", max_texts=1), Path(folder))
        return [line["loss"] for line in log.read("step")], done["seconds"]


class Watch(TrainerCallback):
    """Calls `watch` with the number of steps that the stock trainer took."""

    def __init__(self, watch: Callable[[int], None]) -> None:
        """See the class."""
        self.watch = watch

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """After each step."""
        self.watch(state.global_step)


def stock(model: Any, data: Dataset, options: Options, watch: Callable[[int], None]) -> tuple[list[float], float]:
    """Train with the trainer of Sentence Transformers, set up as in its documentation."""
    from datasets import Dataset
    from sentence_transformers.sentence_transformer.losses import TripletLoss
    from sentence_transformers.sentence_transformer.trainer import SentenceTransformerTrainer
    from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments

    used = np.unique(data.triplets[list(ROLES)])
    text = pd.Series(join_texts(data.read_texts(used), separator(model)), index=used)
    columns = {role: text[data.triplets[role]].tolist() for role in ROLES}
    with tempfile.TemporaryDirectory() as folder:
        trainer = SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(
                output_dir=folder,
                num_train_epochs=1,
                per_device_train_batch_size=options.batch_size,
                learning_rate=2e-5,
                warmup_steps=0.1,
                bf16=precision() == "bf16",
                use_cpu=not torch.cuda.is_available(),  # required for bf16 on a CPU
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                seed=1,
            ),
            train_dataset=Dataset.from_dict(columns),
            loss=TripletLoss(model, triplet_margin=5),
            callbacks=[Watch(watch)],
        )
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        return [line["loss"] for line in trainer.state.log_history if "loss" in line], seconds


def draw(curves: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Plot the losses of both sides, one panel per model; each part restarts from the base model."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(curves), figsize=(5 * len(curves), 3.2), squeeze=False, layout="constrained")
    for axes, (name, sides) in zip(panels[0], curves.items(), strict=True):
        for side, losses in sides.items():
            axes.plot(range(1, len(losses) + 1), losses, label=side)
        axes.set(title=name, xlabel="step", ylabel="triplet loss, margin 5")
        axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run_script(main)
