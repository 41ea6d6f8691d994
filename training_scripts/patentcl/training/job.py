"""One training: its options and its working folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from ..common.cli import InputError
from ..common.files import read_json, remove, write_json
from . import checkpoints
from .log import Log
from .options import Hyperparameters, RunOptions

STAMP = "params.json"  # in the working folder


@dataclass(frozen=True)
class Job:
    """A training with its working folder `work`, where checkpoints and log are written.

    `on_step` is called after each step with its number, from 0, and the model.
    """

    work: Path
    hyperparameters: Hyperparameters
    options: RunOptions
    log: Log
    on_step: Callable[[int, SentenceTransformer], object] = lambda step, model: None


def prepare(work: Path, params: dict[str, Any], options: RunOptions) -> None:
    """Create the working folder, or check that the one that exists belongs to a training with `params`.

    Raises `InputError` if it belongs to another training, or to something else.
    """
    stamp = work / STAMP
    if stamp.exists() and options.resume:
        known = read_json(stamp)
        if changed := [f"{name} {known.get(name)}" for name in params if known.get(name) != params[name]]:
            raise InputError(
                f"{work} was started with {', '.join(changed)}. Resume with the same, or restart with --overwrite "
                "instead of --resume."
            )
        return
    if stamp.exists() and checkpoints.newest(work) and not options.overwrite:
        raise InputError(f"{work} holds an unfinished training. Add --resume to continue, or --overwrite to restart.")
    if not stamp.exists() and work.exists() and (not work.is_dir() or any(work.glob("[!.]*"))):
        raise InputError(f"{work} exists but is not a patentCL training run; move it.")
    if options.resume:
        print(f"{work} does not exist; starting from step 0.")
    remove(work)
    work.mkdir(parents=True)
    write_json(stamp, params)
