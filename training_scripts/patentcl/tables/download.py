"""Download PatentsView's tables into a folder: resumed, checked, and recorded in manifest.json."""

import hashlib
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tqdm import tqdm

from ..common import files
from ..common.cli import InputError, Interrupted
from .patentsview import CORRUPT, TABLES
from .sources import API, File, Folder, Mirror, TryAgain, open_source

NAMES = tuple(stem for table in TABLES.values() for stem in table.stems if stem.startswith("g_"))
OPTIONAL = ("g_cpc_title", "g_us_rel_doc")  # the pipeline works without them
ATTEMPTS = 6  # for a file in one run: each may count against the portal's quota
BACKOFF = 1.0  # seconds before the second attempt, doubled for each further one
PATIENCE = 300.0  # seconds; a server that asks for a longer wait ends the run
BYTES: dict[str, Any] = {"unit": "B", "unit_scale": True}

T = TypeVar("T")


def download_tables(out: Path, names: Sequence[str] = (), base_url: str = "") -> dict[str, Any]:
    """Download the tables `names` (default: all that the pipeline reads) into `out`; return the manifest.

    `base_url` is a mirror's address or a folder; without it, the USPTO's portal is asked with the key in
    USPTO_API_KEY. A file that is there and whole is not asked for. Raises `InputError` for what the user can fix, and
    `Interrupted` when stopped: what has arrived stays, and the next call goes on from there.
    """
    optional, names = () if names else OPTIONAL, names or NAMES
    if unknown := [name for name in names if name not in NAMES]:
        raise InputError(f"--tables {' '.join(unknown)}: choose from {', '.join(NAMES)}.")
    for table in (out / f"{name}.tsv" for name in names):
        if table.exists():
            raise InputError(f"{table} would be read instead of the ZIP. Move it, or choose another --out.")
    source, manifest = open_source(base_url), out / "manifest.json"
    where = urlsplit(base_url or API)
    shown = where._replace(netloc=where.netloc.rpartition("@")[2]).geturl()  # without a password
    with files.locked(manifest):
        known = _read(manifest)
        offered = _patiently("catalogue", lambda: source.catalogue([f"{name}.tsv.zip" for name in names]))
        for name in names:
            if f"{name}.tsv.zip" not in offered and name not in optional:
                raise InputError(f"{shown} does not offer {name}.tsv.zip. Choose other tables by --tables.")
        whole = {file.name: _entry(file, out / file.name, known.get(file.name)) for file in offered.values()}
        known |= {name: entry for name, entry in whole.items() if entry}
        missing = [file for name, file in sorted(offered.items()) if not whole[name]]
        with _bar(out, missing) as bar:
            for file in missing:
                known[file.name] = _download(source, file, out, bar)
                _write(manifest, shown, known)
        return _write(manifest, shown, known)


def _read(manifest: Path) -> dict[str, dict[str, Any]]:
    """The tables in the manifest; none if there is no manifest, or one that cannot be read."""
    try:
        return {name: dict(entry) for name, entry in files.read_json(manifest)["tables"].items()}
    except (InputError, KeyError, AttributeError, ValueError, TypeError):
        return {}


def _write(manifest: Path, source: str, tables: dict[str, dict[str, Any]]) -> dict[str, Any]:
    here = {name: entry for name, entry in tables.items() if (manifest.parent / name).is_file()}
    record = {"params": {"source": source}, "tables": here}
    files.write_record(manifest, record, here)
    return record


def _entry(file: File, path: Path, known: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """What the manifest says of the file at `path` if it is whole: its size and CRC, or release and SHA-256 as known.

    A file that was downloaded by hand is so taken over.
    """
    if not path.is_file() or path.stat().st_size != file.size:
        return None
    if not known and not _has_crc(path, file.name):
        return None
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    entry = {"release": file.release, "size": file.size, "sha256": digest}
    return entry if known in (None, entry) else None


def _has_crc(path: Path, name: str) -> bool:
    """Whether all that is in the ZIP at `path`, to be called `name`, has the CRC that it should have."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            size = sum(member.file_size for member in members)
            with tqdm(total=size, desc=f"check {name}", leave=False, **BYTES) as bar:
                for member in members:
                    with archive.open(member) as content:  # raises at the end if the CRC is wrong
                        while chunk := content.read(1 << 20):
                            bar.update(len(chunk))
    except CORRUPT:
        return False
    return True


def _bar(out: Path, missing: list[File]) -> "tqdm[Any]":
    """A bar of bytes over all files, after a check that they fit on the disk."""
    total, here = sum(file.size for file in missing), sum(_size(_partial(out, file)) for file in missing)
    free = shutil.disk_usage(out).free
    if total - here > free:
        raise InputError(
            f"{out}: the download takes {(total - here) / 1e9:.1f} GB, {free / 1e9:.1f} GB are free. "
            "Free some, or choose an --out on another disk."
        )
    return tqdm(total=total, initial=here, desc="download", disable=not missing, **BYTES)


def _download(source: Mirror | Folder, file: File, out: Path, bar: "tqdm[Any]") -> dict[str, Any]:
    """Download one file and check it; return what the manifest says of it."""
    path = _partial(out, file)
    for old in out.glob(f".{file.name}.*.partial"):
        if old != path:  # of another release
            old.unlink()
    try:
        _patiently(file.name, partial(_attempt, source, file, path, bar))
        entry = _entry(file, path)
    except KeyboardInterrupt:
        kept = f"{_size(path):,} of {file.size:,} bytes of {file.name} are kept"
        raise Interrupted(f"{kept}. Run the same command again to go on from there.") from None
    if not entry:
        path.unlink()
        raise InputError(f"{file.name} arrived damaged (CRC) and was removed. Run again to download it anew.")
    path.replace(out / file.name)
    return entry


def _attempt(source: Mirror | Folder, file: File, path: Path, bar: "tqdm[Any]") -> None:
    """Append to the partial file at `path` what is missing."""
    offset = _size(path)
    if offset == file.size:
        return
    start, chunks = source.open(file, offset)
    if offset:
        tqdm.write(
            f"{file.name}: {'resumes' if start else 'starts again'} at byte {start:,} of {file.size:,}", file=sys.stderr
        )
    bar.update(start - offset)
    with path.open("r+b" if start else "wb") as target:
        target.seek(start)
        for chunk in chunks:
            target.write(chunk)
            bar.update(len(chunk))
    if _size(path) != file.size:
        raise TryAgain(f"the connection ended at byte {_size(path):,} of {file.size:,}")


def _patiently(what: str, act: Callable[[], T]) -> T:
    """Try `act` again, after growing waits, while its failures may pass."""
    for attempt in range(ATTEMPTS):
        try:
            return act()
        except TryAgain as problem:
            wait = max(problem.after, BACKOFF * 2**attempt)
            if attempt == ATTEMPTS - 1 or wait > PATIENCE:
                again = "Run the same command again later: it goes on where this one stopped."
                raise InputError(f"{what}: {problem} (attempt {attempt + 1} of {ATTEMPTS}). {again}") from None
            tqdm.write(f"{what}: {problem}; trying again in {wait:.0f} s", file=sys.stderr)
            time.sleep(wait)
    raise AssertionError


def _partial(out: Path, file: File) -> Path:
    """Where a file arrives: another path for another release or size, so that two are never mixed."""
    release = hashlib.sha256(f"{file.release} {file.size}".encode()).hexdigest()[:8]
    return out / f".{file.name}.{release}.partial"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
