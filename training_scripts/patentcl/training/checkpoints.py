"""The working folder of a training: its parameters, and checkpoints of one file each.

A file is written to a scratch file and renamed, so that it is complete.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..common.cli import InputError, first_line
from ..common.files import changes, check_replaceable, remove, write_record
from .options import RunOptions

STAMP = "params.json"
PATTERN, BEST = "checkpoint-*.pt", "best-*.pt"


def prepare(work: Path, params: dict[str, Any], options: RunOptions) -> None:
    """Create the folder `work`, or check that it holds the training with `params` that is resumed.

    Raises `InputError` if it belongs to another training, or to something else.
    """
    stamp = work / STAMP
    check_replaceable(stamp, params, overwrite=True)
    if stamp.exists() and options.resume:
        if changed := changes(stamp, params):
            raise InputError(f"{work} has other parameters ({changed}). Replace --resume by --overwrite to restart.")
        return
    if newest(work) and not options.overwrite:
        raise InputError(f"{work} holds an unfinished training. Add --resume to continue, or --overwrite to restart.")
    if options.resume:
        print(f"{work} does not exist; starting from step 0.")
    remove(work)
    work.mkdir(parents=True)
    write_record(stamp, {"params": params}, files=())


def save(folder: Path, name: str, step: int, state: dict[str, Any], warn: Callable[[str], object]) -> bool:
    """Write `state` as `<name>-<step>.pt`. A full disk costs the file, not the training: then warn and return False."""
    path = folder / f"{name}-{step:09d}.pt"
    scratch = path.with_suffix(".partial")
    try:
        with scratch.open("wb") as file:
            torch.save(state, file)
        scratch.replace(path)
    except (OSError, RuntimeError) as error:  # the latter is torch's when a write fails
        warn(f"{path} could not be written ({first_line(error)}). The newest checkpoint is {newest(folder)}.")
        return False
    finally:
        scratch.unlink(missing_ok=True)
    return True


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint, without executing anything in it. Raises `InputError` if it is corrupt."""
    try:
        with zipfile.ZipFile(path) as parts:  # torch does not verify the checksums
            if parts.testzip():
                raise ValueError("wrong checksum")
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # noqa: BLE001 (a corrupt file fails in many ways)
        raise InputError(f"Checkpoint {path} is corrupt ({first_line(error)})") from None
    return state


def load_newest(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """Read the newest checkpoint that is not corrupt, if any, and print what was read."""
    for path in sorted(folder.glob(PATTERN), reverse=True):
        try:
            state = load(path, device)
            print(f"Resuming from {path}.")
            return state
        except InputError as error:
            print(f"{error}; using the previous one, if any.")
    return None


def newest(folder: Path) -> Path | None:
    """The checkpoint of the latest step."""
    return max(folder.glob(PATTERN), default=None)


def prune(folder: Path, keep: int, best: int | None) -> None:
    """Delete all but the last `keep` checkpoints, and all best weights but those of step `best`."""
    old = sorted(folder.glob(PATTERN))[:-keep]
    worse = [path for path in folder.glob(BEST) if best is None or path.stem != f"best-{best:09d}"]
    for path in (*old, *worse, *folder.glob("*-*.partial")):  # the last are of a process that was killed
        path.unlink()
