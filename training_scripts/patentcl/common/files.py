"""Where files lie, and how a step writes them: to a scratch path, then renamed, with a record of what it did."""

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from tqdm import tqdm

from .cli import InputError

REPOSITORY = Path(__file__).resolve().parents[3]
DATA = REPOSITORY / "data"
MODELS = REPOSITORY / "models"
T = TypeVar("T")


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield a scratch path in the folder of `path`; the file or folder written there replaces `path` at the end.

    After an error or an interrupt `path` is as it was. Raises `InputError` while another process writes `path`.
    """
    scratch, old = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.old")
    with locked(path):
        if old.exists() and not path.exists():  # killed between the two renames below
            old.rename(path)
        remove(scratch)
        try:
            yield scratch
            if path.is_dir():  # a folder that holds files cannot be replaced by one rename
                remove(old)
                path.rename(old)
            scratch.rename(path)
            remove(old)
        finally:
            remove(scratch)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time write `path`; another one gets an `InputError` at once. A killed one holds no lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), blocking=False):
            yield
    except Timeout:
        raise InputError(f"{path}: another process is writing it. Wait until it has ended.") from None


def remove(path: Path) -> None:
    """Delete a file, or a folder with all that it holds, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def plain(path: Path) -> Path:
    """Return `path`; raise `InputError` if the databases would take it for a pattern of several files."""
    if any(letter in str(path.resolve()) for letter in "*?[]\\") or not str(path).isprintable():
        raise InputError(f"{str(path)!r} holds one of * ? [ ] \\ or an unprintable character. Rename it.")
    return path


def fingerprint(paths: Iterable[Path], threads: int = 1) -> str:
    """SHA-256 over the names and contents of files, as 16 hex digits; independent of their folder."""

    def hashed(path: Path, moved: Callable[[int], None]) -> bytes:
        of_file = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                of_file.update(block)  # other threads run meanwhile
                moved(len(block))
        return of_file.digest()

    sizes = {path: path.stat().st_size for path in paths}
    digests, digest = each_file(hashed, sizes, threads, "hashing"), hashlib.sha256()
    for path in sorted(sizes, key=lambda p: p.name):
        digest.update(path.name.encode() + b"\0" + digests[path])
    return digest.hexdigest()[:16]


def each_file(
    work: Callable[[Path, Callable[[int], None]], T], sizes: dict[Path, int], threads: int, desc: str
) -> dict[Path, T]:
    """The results of `work` on files of these sizes in bytes, in threads and with a bar if that takes a while.

    `work` calls its second argument with the number of bytes that it has done; after Ctrl-C that ends it.
    """
    ended = threading.Event()
    largest_first = sorted(sizes, key=lambda path: -sizes[path])
    with (
        tqdm(total=sum(sizes.values()), desc=desc, unit="B", unit_scale=True, delay=2, leave=False) as progress,
        ThreadPoolExecutor(threads) as pool,
    ):

        def moved(count: int) -> None:
            if ended.is_set():
                raise InterruptedError
            progress.update(count)

        try:
            return dict(zip(largest_first, pool.map(lambda path: work(path, moved), largest_first), strict=True))
        finally:
            ended.set()


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write `value` as indented JSON with its checksum, atomically."""
    scratch, value = path.with_name(f".{path.name}.partial"), {**value, "checksum": _checksum(value)}
    scratch.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    scratch.replace(path)


def _checksum(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def write_record(path: Path, record: dict[str, Any], files: Iterable[str]) -> None:
    """Write the record of a step, with the sizes in bytes of the `files` in its folder that are its result."""
    write_json(path, {**record, "files": {name: (path.parent / name).stat().st_size for name in files}})


def read_json(path: Path) -> dict[str, Any]:
    """Read the record of a step. Raises `InputError` if the file is missing, or is not as it was written."""
    try:
        record = dict(json.loads(path.read_text(encoding="utf-8")))
        if record.pop("checksum", None) not in (None, _checksum(record)):  # earlier versions wrote none
            raise ValueError("not as it was written")
    except FileNotFoundError:
        raise InputError(f"{path} is missing. Run the step that writes it first.") from None
    except (ValueError, TypeError, RecursionError) as problem:
        raise InputError(f"{path} is damaged ({problem}). Repeat its step with --overwrite, or delete it.") from None
    if "asked" in record:  # the name in records of earlier versions
        record["params"] = record.pop("asked")
    return record


def is_done(record: Path, params: dict[str, Any]) -> bool:
    """Whether the step that wrote `record` ran with these parameters and inputs, and its files are complete."""
    return record.exists() and _is_complete(record) and not changes(record, params)


def finished(record: Path, params: dict[str, Any], overwrite: bool, step: str) -> dict[str, Any] | None:
    """The record of a step that `is_done`, unless `overwrite`; None if it is to be run.

    Raises `InputError` as `check_replaceable` does.
    """
    if not overwrite and is_done(record, params):
        print(f"{step}: {record.parent} is up to date (--overwrite repeats it)")
        return read_json(record)
    check_replaceable(record, params, overwrite)
    return None


def check_replaceable(record: Path, params: dict[str, Any], overwrite: bool) -> None:
    """Raise `InputError` if the folder of `record` holds files that patentCL did not write, as it has no such record.

    The same for the complete result of other parameters, unless `overwrite`.
    """
    folder = record.parent
    try:
        is_ours = "params" in read_json(record)
    except InputError:  # no record, or a corrupt one
        is_ours = record.exists()
    if folder.exists() and not is_ours:
        left = (".lock", ".partial")  # hidden files, after a kill
        if not folder.is_dir() or any(p.name[0] != "." or p.suffix not in left for p in folder.iterdir()):
            raise InputError(f"{folder} was not written by patentCL (it has no {record.name}). Move it.")
    elif is_ours and not overwrite and _is_complete(record) and (changed := changes(record, params)):
        raise InputError(
            f"{folder} holds the result of other parameters ({changed}). "
            "Choose another folder, or add --overwrite to replace it."
        )


def _is_complete(record: Path) -> bool:
    """Whether no file of the result is missing or shorter than it was."""
    sizes = {record.parent / name: size for name, size in read_json(record).get("files", {}).items()}
    return all(path.exists() and path.stat().st_size >= size for path, size in sizes.items())


def changes(record: Path, params: dict[str, Any]) -> str:
    """The parameters of a `record` that are not as in `params`, each old → new; "" if there are none."""
    known, new = read_json(record).get("params", {}), json.loads(json.dumps(params))
    names = [name for name in sorted({*known, *new}) if known.get(name) != new.get(name)]
    return ", ".join(f"{name} {known.get(name)!r} → {new.get(name)!r}" for name in names)
