"""Checkpoints of a training: one file each, written to a scratch file and renamed, so that a file is complete."""

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
    """Write `state` as `<name>-<step>.pt`. Raises `OSError` on a full disk; the previous file then stays."""
    path = folder / f"{name}-{step:09d}.pt"
    scratch = path.with_suffix(".partial")
    try:
        with scratch.open("wb") as file:
            torch.save(state, file)
        scratch.replace(path)
    except RuntimeError as error:  # torch's error when a write fails
        raise OSError(errno.ENOSPC, f"{path} could not be written ({first_line(error)})") from None
    finally:
        scratch.unlink(missing_ok=True)
    return path


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint, without executing anything in it. Raises `InputError` if it is corrupt."""
    try:
        with zipfile.ZipFile(path) as parts:  # torch does not verify the checksums
            if parts.testzip():
                raise ValueError("wrong checksum")
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # noqa: BLE001 (a corrupt file fails in many ways)
        raise InputError(f"Checkpoint {path} is corrupt ({first_line(error)})") from None
    return state


def load_newest(folder: Path, device: torch.device | str = "cpu") -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that can be read, if any; corrupt ones are reported."""
    for path in sorted(folder.glob(PATTERN), reverse=True):
        try:
            return path, load(path, device)
        except InputError as error:
            print(f"{error}; using the previous one.")
    if any(folder.glob(PATTERN)):
        print("No earlier checkpoint; starting from step 0.")
    return None


def newest(folder: Path) -> Path | None:
    """The checkpoint of the latest step."""
    return max(folder.glob(PATTERN), default=None)


def prune(folder: Path, keep: int, best: int | None) -> None:
    """Delete all but the last `keep` checkpoints, and all best weights but those of step `best`."""
    for path in sorted(folder.glob(PATTERN))[:-keep]:
        path.unlink()
    for path in folder.glob("*-*.partial"):  # of a process that was killed
        path.unlink()
    for path in folder.glob(BEST):
        if best is None or path != folder / f"best-{best:09d}.pt":
            path.unlink()


def missing_space(folder: Path, model: nn.Module, keep: int) -> str:
    """A warning if the disk of `folder` has no room for `keep` checkpoints, the best weights and the model; else ""."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    needed = weights * (3 * (keep + 1) + 2)  # a checkpoint holds weights and AdamW's two moments, one is scratch
    free = shutil.disk_usage(folder).free
    if free >= needed:
        return ""
    return f"{folder} has {free / 1e9:.1f} GB free and the training needs {needed / 1e9:.1f} GB. Free disk space."
