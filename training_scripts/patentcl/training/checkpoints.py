"""Checkpoints of a training: one file each, written beside and renamed, so that a file that is there is whole."""

import errno
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..common.cli import InputError, first_line

PATTERN, BEST = "checkpoint-*.pt", "best-*.pt"


def save(folder: Path, name: str, step: int, state: dict[str, Any]) -> Path:
    """Write `state` as `<name>-<step>.pt`. Raises `OSError` on a full disk; what was there before stays."""
    path = folder / f"{name}-{step:09d}.pt"
    scratch = path.with_suffix(".partial")
    try:
        with scratch.open("wb") as file:
            torch.save(state, file)
        scratch.replace(path)
    except RuntimeError as problem:  # how torch tells that a write failed
        raise OSError(errno.ENOSPC, f"{path} could not be written ({first_line(problem)})") from None
    finally:
        scratch.unlink(missing_ok=True)
    return path


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint; nothing in it is executed. Raises `InputError` when it is damaged."""
    try:
        with zipfile.ZipFile(path) as parts:  # torch reads changed bytes without a word
            if parts.testzip():
                raise ValueError("its bytes were changed")
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as problem:  # noqa: BLE001 (a damaged file fails in many ways)
        raise InputError(f"{path} is damaged ({str(problem).split('.')[0]})") from None
    return state


def load_newest(folder: Path, device: torch.device | str = "cpu") -> tuple[Path, dict[str, Any]] | None:
    """The newest whole checkpoint, if there is one; damaged ones are said and left out."""
    for path in sorted(folder.glob(PATTERN), reverse=True):
        try:
            return path, load(path, device)
        except InputError as damaged:
            print(f"training: {damaged}: takes the one before")
    if any(folder.glob(PATTERN)):
        print("training: there is none before: starts at the first step")
    return None


def newest(folder: Path) -> Path | None:
    """The checkpoint of the latest step."""
    return max(folder.glob(PATTERN), default=None)


def prune(folder: Path, keep: int, best: int | None) -> None:
    """Delete all but the last `keep` checkpoints, and all weights of a best step but `best`."""
    for path in sorted(folder.glob(PATTERN))[:-keep]:
        path.unlink()
    for path in [*folder.glob("checkpoint-*.partial"), *folder.glob("best-*.partial")]:  # of a process that was killed
        path.unlink()
    for path in folder.glob(BEST):
        if best is None or path != folder / f"best-{best:09d}.pt":
            path.unlink()


def lack_of_room(folder: Path, model: nn.Module, keep: int) -> str:
    """A warning if the disk of `folder` has no room for `keep` checkpoints, the best weights and the model itself."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    needed = weights * (3 * (keep + 1) + 2)  # a checkpoint holds weights and AdamW's two moments; one is written beside
    free = shutil.disk_usage(folder).free
    if free >= needed:
        return ""
    return f"{folder} has {free / 1e9:.1f} GB free, and the training will need {needed / 1e9:.1f} GB: free space"
