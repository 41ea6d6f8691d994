"""Where things lie, and how a step writes them: beside, then renamed, with a record of what it did."""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from .cli import InputError

REPOSITORY = Path(__file__).resolve().parents[3]
DATA = REPOSITORY / "data"
MODELS = REPOSITORY / "models"
OPENERS: dict[str, Callable[[Path], Any]] = {  # that look at a file's beginning and at its size
    ".npy": lambda path: np.load(path, mmap_mode="r"),
    ".safetensors": lambda path: safe_open(path, "np"),
}
NEVER = "\x01no text is this\x01"  # what DuckDB reads as null: an empty field stays the empty text


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield a scratch path in the folder of `path`; what stands there at the end takes the place of `path`.

    Works for a file and for a folder. An error or an interrupt leaves what stood at `path` as it was.
    """
    scratch, old = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.old")
    with locked(path):
        if old.exists() and not path.exists():  # killed between the two renames below
            old.rename(path)
        remove(scratch)
        try:
            yield scratch
            take_place(scratch, path)
        finally:
            remove(scratch)


def take_place(scratch: Path, path: Path) -> None:
    """Let a finished file or folder take the place of `path`."""
    old = path.with_name(f".{path.name}.old")
    if path.is_dir():  # a folder that holds files cannot be replaced by one rename
        remove(old)
        path.rename(old)
    scratch.rename(path)
    remove(old)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time write `path`; a second one gets an `InputError`. A killed process holds no lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another process is writing {path}: wait until it has ended") from None
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Delete a file or a folder with all it holds, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def plain(path: Path) -> Path:
    """Return `path`; an `InputError` when it holds characters that the databases take for patterns of many files."""
    if any(letter in str(path.resolve()) for letter in "*?[]\\") or not str(path).isprintable():
        raise InputError(f"{str(path)!r} holds one of * ? [ ] \\ or an unprintable letter: rename it")
    return path


def check_header(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    """Raise `InputError` unless each of `columns` stands once in the header of the CSV file `path`."""
    for column in columns:
        if header.count(column) != 1:
            raise InputError(
                f"{path}, line 1: the column {column} stands there {header.count(column)} times; wanted are "
                f"{', '.join(columns)}, separated by commas"
            )


def fingerprint(paths: Iterable[Path]) -> str:
    """SHA-256 over the names and contents of files, as 16 hex digits; independent of where they lie."""
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda p: p.name):
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write `value` as indented JSON, beside and then renamed."""
    scratch = path.with_name(f".{path.name}.partial")
    try:
        scratch.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """Read a step's record. Raises `InputError` when the file is missing or is no record of ours."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run the step that writes it first") from None
    except ValueError as problem:
        raise InputError(f"{path} is not JSON ({problem}): repeat its step with --overwrite") from None
    if not isinstance(record, dict) or not isinstance(record.get("asked", {}), dict):
        raise InputError(f"{path} is no record of a step: repeat its step with --overwrite")
    return record


def _is_whole(path: Path) -> bool:
    """Whether a result is there and was not cut; only a list of ids (.txt) may be empty."""
    if path.suffix == ".parquet" and path.is_file():
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - 4, 0))
            return file.read() == b"PAR1"  # how the format ends: https://parquet.apache.org/docs/file-format/
    if path.suffix in OPENERS and path.is_file():
        try:
            OPENERS[path.suffix](path)
        except Exception:  # noqa: BLE001 (a cut file fails in several ways)
            return False
        return True
    return path.exists() and (path.is_dir() or path.suffix == ".txt" or path.stat().st_size > 0)


def is_done(record: Path, asked: dict[str, Any], overwrite: bool, files: Iterable[str] = ()) -> bool:
    """Whether the step that wrote `record` ran with the parameters and inputs `asked`, and its `files` are there.

    Raises `InputError` when `record` holds another run's result and `overwrite` is off, and when its folder holds
    files but no record: then they are somebody else's, and are not replaced.
    """
    folder = record.parent
    if not record.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} is there and holds no {record.name}: it is not ours to replace, move it away")
        return False
    paths = [folder / name for name in files]
    if overwrite or not all(map(_is_whole, paths)):
        return False
    known = read_json(record).get("asked", {})
    if known == json.loads(json.dumps(asked)):
        return True
    names = sorted({*known, *asked})
    changed = ", ".join(f"{n} {known.get(n)!r} → {asked.get(n)!r}" for n in names if known.get(n) != asked.get(n))
    raise InputError(
        f"{record.parent} holds the result of other inputs ({changed}): "
        "choose another folder (--data, --output), or add --overwrite to replace it"
    )
