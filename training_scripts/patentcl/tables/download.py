"""Download PatentsView's tables into a folder: resumed, checked, and recorded in manifest.json."""

import hashlib
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..common import files
from ..common.cli import InputError, Interrupted
from ..common.resources import require
from .patentsview import CORRUPT, TABLES
from .sources import File, Source, TryAgain

NAMES = tuple(stem for table in TABLES.values() for stem in table.stems if stem.startswith("g_"))
OPTIONAL = ("g_cpc_title.tsv.zip", "g_us_rel_doc.tsv.zip")  # the pipeline works without them
ATTEMPTS = 6  # for a file in one run: each may count against the portal's quota
BACKOFF = 1.0  # seconds before the second attempt, doubled for each further one
PATIENCE = 300.0  # seconds; a server that asks for a longer wait ends the run


def download_tables(out: Path, names: Sequence[str] = (), base_url: str = "") -> dict[str, Any]:
    """Download the tables `names` (default: all that the pipeline reads) into `out`; return the manifest.

    `base_url` is a mirror's address or a folder; without it, the USPTO's portal is asked with the key in
    USPTO_API_KEY. A file that is there and whole is not asked for. Raises `InputError` for what the user can fix, and
    `Interrupted` when stopped: what has arrived stays, and the next call goes on from there.
    """
    source, manifest = Source(base_url), out / "manifest.json"
    for table in (out / f"{name}.tsv" for name in names or NAMES):
        if table.exists():
            raise InputError(f"{table} would be read instead of the ZIP. Move it, or choose another --out.")
    with files.locked(manifest):
        known: dict[str, Any] = {}
        with suppress(InputError):  # no manifest, or a corrupt one
            known = files.read_json(manifest).get("tables", {})
        zips = [f"{name}.tsv.zip" for name in names or NAMES]
        offered: list[File] = _patiently("catalogue", lambda: source.catalogue(zips))
        if check := bool(source.folder and source.folder.samefile(out)):  # the dates of files are no releases
            releases = {name: entry["release"] for name, entry in known.items()}
            offered = [replace(file, release=releases.get(file.name, file.release)) for file in offered]
        for name in zips:
            if name not in [file.name for file in offered] and (names or name not in OPTIONAL):
                raise InputError(
                    f"{source.shown} has no {name}, or does not tell its size. Check --base-url and --tables."
                )
        known |= {file.name: _entry(file, out / file.name, known.get(file.name)) for file in offered}
        missing = [file for file in offered if not known[file.name]]
        if check and missing:
            path = out / missing[0].name
            raise InputError(f"{path} is damaged, or not that of {manifest.name}. Delete it and download it again.")
        total, here = sum(file.size for file in missing), sum(_size(_partial(out, file)) for file in missing)
        require(out, total - here, 0, "the download", flag="--out")
        with tqdm(total=total, initial=here, desc="download", disable=not missing, unit="B", unit_scale=True) as bar:
            for file in offered:
                known[file.name] = known[file.name] or _download(source, file, out, bar)
                tables = {name: entry for name, entry in known.items() if entry and (out / name).is_file()}
                record = {"params": {"source": source.shown}, "tables": tables}
                files.write_json(manifest, record)
    return record


def _entry(file: File, path: Path, known: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """What the manifest says of the file at `path` if it is whole: its size and CRC, or release and SHA-256 as known.

    A file that was downloaded by hand is so taken over.
    """
    if _size(path) != file.size or not (known or _has_crc(path, file.name)):
        return None
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    entry = {"release": file.release, "size": file.size, "sha256": digest}
    return entry if known in (None, entry) else None


def _has_crc(path: Path, name: str) -> bool:
    """Whether all that is in the ZIP at `path`, to be called `name`, has the CRC that it should have."""
    try:
        with (
            path.open("rb") as file,
            tqdm.wrapattr(file, "read", _size(path), desc=f"check {name}", leave=False) as content,
            zipfile.ZipFile(content) as archive,
        ):
            return archive.testzip() is None
    except CORRUPT:
        return False


def _download(source: Source, file: File, out: Path, bar: "tqdm[Any]") -> dict[str, Any]:
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


def _attempt(source: Source, file: File, path: Path, bar: "tqdm[Any]") -> None:
    """Append to the partial file at `path` what is missing."""
    offset = _size(path)
    if offset == file.size:
        return
    start, chunks = source.open(file, offset)
    if offset:
        how = "resumes" if start else "starts again"
        tqdm.write(f"{file.name}: {how} at byte {start:,} of {file.size:,}", file=sys.stderr)
    bar.update(start - offset)
    with path.open("ab" if start else "wb") as target:
        for chunk in chunks:
            bar.update(target.write(chunk))
    if _size(path) != file.size:
        raise TryAgain(f"the connection ended at byte {_size(path):,} of {file.size:,}", 0)


def _patiently(what: str, act: Callable[[], Any], attempt: int = 1) -> Any:
    """The result of `act`, tried again after growing waits while its failures may pass."""
    try:
        return act()
    except TryAgain as problem:
        reason, after = problem.args
    wait = max(after, BACKOFF * 2 ** (attempt - 1))
    if attempt == ATTEMPTS or wait > PATIENCE:
        again = "Run the same command again later: it goes on where this one stopped."
        raise InputError(f"{what}: {reason} (attempt {attempt} of {ATTEMPTS}). {again}")
    tqdm.write(f"{what}: {reason}; trying again in {wait:.0f} s", file=sys.stderr)
    time.sleep(wait)
    return _patiently(what, act, attempt + 1)


def _partial(out: Path, file: File) -> Path:
    """Where a file arrives: another path for another release or size, so that two are never mixed."""
    release = hashlib.sha256(f"{file.release} {file.size}".encode()).hexdigest()[:8]
    return out / f".{file.name}.{release}.partial"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
