"""Download PatentsView's tables into a folder: resumed, checked, and recorded in manifest.json.

They come from the USPTO's Open Data Portal, an HTTP mirror, or a folder. What the portal does, as its documentation
(data.uspto.gov/apis/bulk-data/download) says and its clients found: the catalogue of a product lists names, sizes and
release dates and is not counted. Requests for a file are counted: 20 a year and key, then 429. The answer is the ZIP, a
redirect, or JSON with an address; the address lives for half a minute, and requests to it are not counted.
"""

import hashlib
import json
import os
import re
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import chain, islice
from math import inf
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm

from ..common import files
from ..common.cli import InputError, Interrupted
from ..common.resources import require
from .patentsview import CORRUPT, TABLES

NAMES = tuple(stem for table in TABLES.values() for stem in table.stems if stem.startswith("g_"))
OPTIONAL = ("g_cpc_title.tsv.zip", "g_us_rel_doc.tsv.zip")  # the pipeline works without them
ATTEMPTS = 6  # for a file in one run: each may count against the portal's quota
BACKOFF = 1.0  # seconds before the second attempt, doubled for each further one
PATIENCE = 300.0  # seconds; a server that asks for a longer wait ends the run
API = "https://api.uspto.gov/api/v1/datasets/products"
PRODUCT = "PVGPATDIS"
TIMEOUT = (10.0, 30.0)  # seconds to connect, and without a byte
PRESIGNED = 25.0  # seconds for which an address from the portal is used again
CHUNK = 1 << 16  # bytes; as many are lost when a connection is cut
REFUSED = (401, 403)
ADVICE = {  # for a status that waiting does not mend
    **dict.fromkeys(REFUSED, "Copy the key from data.uspto.gov/myodp to USPTO_API_KEY, or check --base-url"),
    429: "The portal gives a file 20 times a year for one key. Pass --base-url, or wait; asking again does not help",
}


class TryAgain(Exception):
    """A failure that may pass; its arguments are the reason, and the seconds to wait that the server asks for."""


class File(NamedTuple):
    """A file that a source offers: its size in bytes, and the date of its release as the source writes it."""

    name: str
    size: int
    release: str


class _Portal(HTTPAdapter):
    """Sends the key with each request, and asks for whole files only, as the answer may be JSON."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key

    def send(self, request: requests.PreparedRequest, *args: Any, **more: Any) -> requests.Response:
        request = request.copy()  # a redirect to another host copies the headers of the original
        request.headers.pop("Range", None)
        request.headers["X-API-KEY"] = self.key
        return super().send(request, *args, **more)


class Source:
    """The portal, a web server that has the files directly under its address, or a folder that has them."""

    def __init__(self, base_url: str) -> None:
        """`base_url` is an address or a folder; "" is the portal, with the key in USPTO_API_KEY."""
        self.base = base_url.rstrip("/") if base_url else f"{API}/files/{PRODUCT}"
        self.shown = re.sub(r"//[^/]*@", "//", self.base)  # without a password
        self.key = "" if base_url else os.environ.get("USPTO_API_KEY", "").strip()
        if not (base_url or re.fullmatch("[!-~]+", self.key)):  # the library's own error would show the key
            what = "holds characters that no key has" if self.key else "is not set"
            raise InputError(f"USPTO_API_KEY {what}. Copy the key from data.uspto.gov/myodp, or pass --base-url.")
        self.folder = None if self.base.startswith(("http://", "https://")) else Path(base_url.removeprefix("file://"))
        if self.folder and not self.folder.is_dir():
            raise InputError(f"--base-url {self.shown}: neither an http address nor a folder.")
        self.session = requests.Session()
        self.session.headers["Accept-Encoding"] = "identity"
        self.session.max_redirects = 5
        if self.key:
            self.session.mount(urljoin(API, "/"), _Portal(self.key))  # no other host gets the key
        self.sent: dict[str, tuple[str, float, str]] = {}  # file → address that sent it, when it was asked for, ETag

    def catalogue(self, names: Sequence[str]) -> list[File]:
        """Those of the files `names` that the source has; of several releases of a file the newest."""
        if self.key:
            return self._product(names)
        files = []
        for name in names:
            if self.folder:
                if (path := self.folder / name).is_file():
                    date = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat()
                    files.append(File(name, path.stat().st_size, date))
                continue
            with self._request(f"{self.base}/{name}", "HEAD") as response:
                size, date = (response.headers.get(field, "") for field in ("Content-Length", "Last-Modified"))
                if response.ok and size.isdecimal():
                    files.append(File(name, int(size), date))
        return files

    def _product(self, names: Sequence[str]) -> list[File]:
        """The files `names` in the portal's catalogue."""
        with self._request(f"{API}/{PRODUCT}") as response:
            body = b"".join(_chunks(response))
        entries: list[dict[str, Any]] = []  # the portal's documentation and its answers differ in how deep they lie
        with suppress(ValueError, RecursionError):
            json.loads(body, object_hook=entries.append)
        files = {}
        for entry in sorted(entries, key=lambda entry: str(entry.get("fileReleaseDate"))):
            name, size = str(entry.get("fileName")), str(entry.get("fileSize"))
            if size.isdecimal():
                files[name] = File(name, int(size), str(entry.get("fileReleaseDate") or ""))
        if not files:
            raise InputError(
                f"{_host(API)} sent {_kind(response)} that lists no table of {PRODUCT} with its size. "
                "Check USPTO_API_KEY, or download the tables by hand from data.uspto.gov."
            )
        return [files[name] for name in names if name in files]

    def open(self, file: File, offset: int) -> tuple[int, Iterator[bytes]]:
        """Start to read `file` at `offset` if the source can and still has the version that it sent last, else at 0.

        Returns from which byte on, and the bytes. An address that the portal gave is used again while it lives; the
        portal is asked at most once.
        """
        if self.folder:
            source = (self.folder / file.name).open("rb")
            source.seek(offset)
            return offset, iter(partial(source.read, CHUNK), b"")
        url, asked, etag = self.sent.pop(file.name, ("", -inf, ""))
        if time.monotonic() - asked > PRESIGNED:
            url, asked = f"{self.base}/{file.name}", time.monotonic()
        for _ in range(2):  # the second time at the address that the portal gave
            headers = {"Range": f"bytes={offset}-", "If-Range": "" if etag.startswith("W/") else etag}
            response = self._request(url, headers={name: value for name, value in headers.items() if offset and value})
            start, chunks = offset if response.status_code == 206 else 0, _chunks(response)
            first = next(chunks, b"")
            if start or first.lstrip()[:1] != b"{":
                break
            first += b"".join(islice(chunks, 16))
            if not (address := re.search(rb'"https?:(?:[!#-\[\]-~]|\\/|\\u[\da-fA-F]{4})+"', first)):
                break
            url = json.loads(address[0])
        host, length = _host(response.url), response.headers.get("Content-Length", "")
        if not start and not first.startswith(b"PK"):
            advice = "Check USPTO_API_KEY, and what data.uspto.gov says" if self.key else "Check --base-url"
            raise InputError(f"{host} sent {_kind(response)} instead of the ZIP {file.name}. {advice}.")
        if length.isdecimal() and start + int(length) != file.size:
            raise InputError(
                f"{file.name} should have {file.size:,} bytes, {host} sends {start + int(length):,}. "
                "A new release may be on its way: run again later."
            )
        self.sent[file.name] = response.url, asked, response.headers.get("ETag", "")
        return start, chain([first], chunks)

    def _request(self, url: str, method: str = "GET", headers: dict[str, str] | None = None) -> requests.Response:
        """The response, its body unread. Raises `TryAgain` for what may pass, `InputError` for what will not."""
        try:
            response = self.session.request(method, url, headers=headers, stream=True, timeout=TIMEOUT)
        except requests.TooManyRedirects:
            raise InputError(f"{_host(url)} redirects without end. Check --base-url, or run again later.") from None
        except (requests.RequestException, ValueError) as problem:  # the latter for what is no address
            raise _lost(url, problem) from None
        status = response.status_code
        if status in (200, 206) or (status == 404 and method == "HEAD"):
            return response
        response.close()
        who = f"{_host(response.url)} answers {status}"
        has_expired = status in REFUSED and urlsplit(response.url)[:2] != urlsplit(self.base)[:2]  # at another host
        if status in (408, 425) or status >= 500 or has_expired:
            seconds = response.headers.get("Retry-After", "")
            raise TryAgain(who, int(seconds) if re.fullmatch("[0-9]{1,9}", seconds) else 0)
        raise InputError(f"{who} ({response.reason}). {ADVICE.get(status, 'Check --base-url, or run again later')}.")


def _chunks(response: requests.Response) -> Iterator[bytes]:
    with response:
        try:
            yield from response.iter_content(CHUNK)
        except requests.RequestException as problem:
            raise _lost(response.url, problem) from None


def _lost(url: str, problem: Exception) -> TryAgain:
    """The texts of the library's errors are not shown: they hold presigned addresses."""
    return TryAgain(f"the connection to {_host(url)} failed ({type(problem).__name__})", 0)


def _host(url: str) -> str:
    return re.sub(r"^\w+://([^/]*@)?|/.*", "", url)


def _kind(response: requests.Response) -> str:
    return response.headers.get("Content-Type", "a file").partition(";")[0]


def download_tables(out: Path, names: Sequence[str] = (), base_url: str = "") -> dict[str, Any]:
    """Download the tables `names` (default: all that the pipeline reads) into `out`; return the manifest.

    `base_url` is a mirror's address or a folder; without it, the USPTO's portal is asked with the key in
    USPTO_API_KEY. Raises `Interrupted` when stopped: what has arrived stays, and the next call goes on from there.
    """
    source, manifest = Source(base_url), out / "manifest.json"
    with files.locked(manifest):
        known: dict[str, Any] = {}
        with suppress(InputError):  # no manifest, or a corrupt one
            known = files.read_json(manifest).get("tables", {})
        zips = [f"{name}.tsv.zip" for name in names or NAMES]
        offered: list[File] = _patiently("catalogue", lambda: source.catalogue(zips))
        if check := bool(source.folder and source.folder.samefile(out)):  # the dates of files are no releases
            releases = {name: entry["release"] for name, entry in known.items()}
            offered = [file._replace(release=releases.get(file.name, file.release)) for file in offered]
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
    """What the manifest says of the file at `path` if it is whole: by size and CRCs, or by hash where `known`."""
    if _size(path) != file.size:
        return None
    if not known:
        try:
            with (
                path.open("rb") as raw,
                tqdm.wrapattr(raw, "read", file.size, desc=f"check {file.name}", leave=False) as content,
                zipfile.ZipFile(content) as archive,
            ):
                if archive.testzip():
                    return None
        except CORRUPT:
            return None
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    entry = {"release": file.release, "size": file.size, "sha256": digest}
    return entry if known in (None, entry) else None


def _download(source: Source, file: File, out: Path, bar: "tqdm[Any]") -> dict[str, Any]:
    """Download one file and check it; return what the manifest says of it."""
    path = _partial(out, file)
    for old in out.glob(f".{file.name}.*.partial"):
        if old != path:  # of another release
            old.unlink()

    def attempt() -> None:
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

    try:
        _patiently(file.name, attempt)
        entry = _entry(file, path)
    except KeyboardInterrupt:
        kept = f"{_size(path):,} of {file.size:,} bytes of {file.name} are kept"
        raise Interrupted(f"{kept}. Run the same command again to go on from there.") from None
    if not entry:
        path.unlink()
        raise InputError(f"{file.name} arrived damaged (CRC) and was removed. Run again to download it anew.")
    path.replace(out / file.name)
    return entry


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
