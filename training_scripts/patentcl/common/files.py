"""Where files lie, and how a step writes them: to a scratch path, then renamed, with a record of what it did."""

import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pyarrow import ArrowException
from tqdm import tqdm

from .cli import InputError, first_line

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
def locked(path: Path, shared: bool = False) -> Iterator[None]:
    """Let one process at a time write `path`, or several read it (`shared`); another one gets an `InputError` at once.

    The operating system holds the lock, so that of a process that was killed is gone. An `OSError` meanwhile that names
    no file, as that of a full disk, gets the name `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock, is_held = path.with_name(f".{path.name}.lock"), False
    with ExitStack() as opened:
        while not is_held:
            file = opened.enter_context(lock.open("a"))
            with suppress(OSError):  # some network file systems have no locks
                try:
                    fcntl.flock(file, fcntl.LOCK_NB | (fcntl.LOCK_SH if shared else fcntl.LOCK_EX))
                except BlockingIOError:
                    raise InputError(f"{path}: another process is using it. Wait until it has ended.") from None
            with suppress(FileNotFoundError):  # the last one that held it has just removed it
                is_held = os.path.samestat(os.fstat(file.fileno()), lock.stat())
        try:
            yield
        except OSError as problem:
            if problem.errno and not problem.filename:
                problem.filename = str(path)
            raise
        finally:
            with suppress(OSError):  # others still read
                fcntl.flock(file, fcntl.LOCK_NB | fcntl.LOCK_EX)
                lock.unlink()


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


def fingerprint(files: Iterable[Path] | Mapping[Path, str], threads: int = 1) -> str:
    """SHA-256 over names and contents of files, or over their `hashes`, as 16 hex digits; independent of the folder."""
    digests, digest = files if isinstance(files, Mapping) else hashes(files, threads), hashlib.sha256()
    for path in sorted(digests, key=lambda p: p.name):
        digest.update(path.name.encode() + b"\0" + bytes.fromhex(digests[path]))
    return digest.hexdigest()[:16]


def hashes(paths: Iterable[Path], threads: int = 1) -> dict[Path, str]:
    """The SHA-256 of each file, in hexadecimal."""

    def hashed(path: Path, moved: Callable[[int], None]) -> str:
        of_file = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                of_file.update(block)  # other threads run meanwhile
                moved(len(block))
        return of_file.hexdigest()

    return each_file(hashed, {path: path.stat().st_size for path in paths}, threads, "hashing")


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


def write_record(path: Path, record: dict[str, Any], files: Iterable[str], final: bool = True) -> None:
    """Write the record of a step, with size and, if they are `final`, hash of the `files` in its folder."""
    paths = {path.parent / name: name for name in files}
    sizes = {name: file.stat().st_size for file, name in paths.items()}
    digests = {paths[file]: digest for file, digest in hashes(paths).items()} if final else {}
    write_json(path, {**record, "files": sizes, "sha256": digests})


def read_json(path: Path) -> dict[str, Any]:
    """Read the record of a step. Raises `InputError` if the file is missing, or is not as it was written."""
    if not path.exists():
        raise InputError(f"{path} is missing. Run the step that writes it first.")
    with intact(path):
        record = dict(json.loads(path.read_text(encoding="utf-8")))
        if record.pop("checksum", None) not in (None, _checksum(record)):  # earlier versions wrote none
            raise ValueError("not as it was written")
    return record


def _damaged(path: Path, result: Path, problem: str = "not as it was written") -> InputError:
    advice = f"Restore it, or move {result} and repeat the step that wrote it"
    return InputError(f"{path} is damaged ({problem}). {advice}.")


@contextmanager
def intact(path: Path, result: Path | None = None) -> Iterator[None]:
    """Raise `InputError` for what a library raises that reads `path`, a file of the folder or file `result`."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, EOFError, RecursionError, ArrowException) as problem:
        raise _damaged(path, result or path.parent, first_line(problem)) from None


def is_done(record: Path, params: dict[str, Any]) -> bool:
    """Whether the step that wrote `record` ran with these parameters and inputs, and its files are complete.

    Raises `InputError` as `unchanged` does.
    """
    return record.exists() and not changes(record, params) and is_complete(record) and bool(unchanged(record))


def unchanged(record: Path, found: Mapping[Path, str] | None = None) -> dict[str, Any]:
    """Read the record of a step. Raises `InputError` naming the first file of its result that is not as it was.

    `found` are the `hashes` of its files, if they are known.
    """
    content = read_json(record)
    known = {record.parent / name: digest for name, digest in content.get("sha256", {}).items()}
    found = hashes(filter(Path.is_file, known)) if found is None else found
    for path, digest in known.items():
        if found.get(path) != digest:
            raise _damaged(path, record.parent)
    return content


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
    elif is_ours and not overwrite and is_complete(record) and (changed := changes(record, params)):
        raise InputError(
            f"{folder} holds the result of other parameters ({changed}). "
            "Choose another folder, or add --overwrite to replace it."
        )


def is_complete(record: Path) -> bool:
    """Whether no file of the result is missing or shorter than it was."""
    sizes = {record.parent / name: size for name, size in read_json(record).get("files", {}).items()}
    return all(path.exists() and path.stat().st_size >= size for path, size in sizes.items())


def changes(record: Path, params: dict[str, Any]) -> str:
    """The parameters of a `record` that are not as in `params`, each old → new; "" if there are none."""
    known, new = read_json(record).get("params", {}), json.loads(json.dumps(params))
    names = [name for name in sorted({*known, *new}) if known.get(name) != new.get(name)]
    return ", ".join(f"{name} {known.get(name)!r} → {new.get(name)!r}" for name in names)
