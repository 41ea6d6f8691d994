"""Where PatentsView's ZIPs come from: the USPTO's Open Data Portal, an HTTP mirror, or a folder.

What the portal does, as its documentation (data.uspto.gov/apis/bulk-data/download) says and its clients found: the
catalogue of a product lists names, sizes and release dates and is not counted. Requests for a file are counted: 20 a
year and key, then 429. The answer is the ZIP, a redirect, or JSON with an address; the address lives for half a minute,
and requests to it are not counted.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import requests
from urllib3.util import Retry

from ..common.cli import InputError

API = "https://api.uspto.gov/api/v1/datasets/products"
PRODUCT = "PVGPATDIS"
TIMEOUT = (10.0, 30.0)  # seconds to connect, and without a byte
PRESIGNED = 25.0  # seconds for which an address from the portal is used again
CHUNK = 1 << 16  # bytes; as many are lost when a connection is cut


class TryAgain(Exception):
    """A failure that may pass, after so many seconds if the server says so."""

    def __init__(self, reason: str, after: float = 0) -> None:
        """Keep both."""
        super().__init__(reason)
        self.after = after


@dataclass(frozen=True)
class File:
    """A file that a source offers: its size in bytes, and the date of its release as the source writes it."""

    name: str
    url: str
    size: int
    release: str


Body = tuple[int, Iterator[bytes]]  # what a source sends of a file: from which byte on, and the bytes


class Mirror:
    """A web server that has the files directly under its address."""

    key = ""

    def __init__(self, base: str) -> None:
        """`base` is an address without a slash at the end; it may hold a name and a password."""
        self.base, self.session = base, requests.Session()
        self.addresses: dict[str, tuple[str, float]] = {}  # file → address at another host, when it was asked for
        self.etags: dict[str, str] = {}  # file → the version that was sent last

    def catalogue(self, names: Iterable[str]) -> dict[str, File]:
        """Those of the files `names` that the source has. The release is the date of the file on the server."""
        found = {}
        for name in names:
            with self._request(f"{self.base}/{name}", "HEAD") as response:
                if response.ok:
                    size, date = (response.headers.get(field, "") for field in ("Content-Length", "Last-Modified"))
                    if not size.isdigit():
                        raise InputError(f"{_host(self.base)} does not tell the size of {name}. Use another mirror.")
                    found[name] = File(name, f"{self.base}/{name}", int(size), date)
        return found

    def open(self, file: File, offset: int) -> Body:
        """Start to read `file` at `offset` if the server can and still has the version that it sent last, else at 0.

        An address that the portal gave is used again while it lives; the portal is asked at most once.
        """
        url, asked = self.addresses.pop(file.name, ("", 0.0))
        if not url or time.monotonic() - asked > PRESIGNED:
            url, asked = file.url, time.monotonic()
        for _ in range(2):  # the second time at the address that the portal gave
            response = self._request(url, offset=offset, file=file)
            start, chunks = offset if response.status_code == 206 else 0, _chunks(response)
            first = next(chunks, b"")
            if start or not first.lstrip().startswith(b"{"):
                break
            url = _address(first + b"".join(islice(chunks, 16)), url, file)
        host, length = _host(response.url), response.headers.get("Content-Length", "")
        if not start and not first.startswith(b"PK"):
            advice = "Check USPTO_API_KEY, and what data.uspto.gov says" if self.key else "Check --base-url"
            raise InputError(f"{host} sent {_kind(first)} instead of the ZIP {file.name}. {advice}.")
        if length.isdigit() and start + int(length) != file.size:
            raise InputError(
                f"{file.name} should have {file.size:,} bytes, {host} sends {start + int(length):,}. "
                "A new release may be on its way: run again later."
            )
        if not self._is_ours(response.url):
            self.addresses[file.name] = response.url, asked
        self.etags[file.name] = response.headers.get("ETag", "")
        return start, chain([first], chunks)

    def _request(self, url: str, method: str = "GET", offset: int = 0, file: File | None = None) -> requests.Response:
        """Send a request, follow redirects, and return the response with its body unread.

        Only requests to the host of `base` hold the key. A server that cannot send the rest of `file` from `offset` on
        is asked for the whole.
        """
        for _ in range(6):  # requests would take the key along to another host
            headers = {"Accept-Encoding": "identity"}
            if self.key and self._is_ours(url):
                headers["X-API-KEY"] = self.key
            if file and offset:
                headers["Range"] = f"bytes={offset}-"
                if (etag := self.etags.get(file.name, "")) and not etag.startswith("W/"):
                    headers["If-Range"] = etag
            try:
                response = self.session.request(
                    method, url, headers=headers, stream=True, allow_redirects=False, timeout=TIMEOUT
                )
            except requests.RequestException as problem:
                raise _lost(url, problem) from None
            if not response.is_redirect:
                break
            response.close()
            url = urljoin(url, response.headers["Location"])
        span = response.headers.get("Content-Range", "")
        is_rest = file and span.startswith(f"bytes {offset}-") and span.endswith(f"/{file.size}")
        if offset and (response.status_code == 416 or (response.status_code == 206 and not is_rest)):
            response.close()
            return self._request(url)
        self._check(response)
        return response

    def _check(self, response: requests.Response) -> None:
        """Raise unless the response is what was asked for."""
        status, who = response.status_code, f"{_host(response.url)} answers {response.status_code}"
        if status in (200, 206) or (status == 404 and response.request.method == "HEAD"):
            return
        response.close()
        refused = status in (401, 403)
        if status == 429:
            raise InputError(
                f"{who}: too many requests. The portal gives a file 20 times a year for one key. "
                "Use another source by --base-url, or wait; asking again does not help."
            )
        if refused and self.key and self._is_ours(response.url):
            raise InputError(f"{who}: it does not accept the key in USPTO_API_KEY. Copy it from data.uspto.gov/myodp.")
        if status in (408, 425) or status >= 500 or (refused and not self._is_ours(response.url)):
            raise TryAgain(who, Retry().get_retry_after(response.raw) or 0)
        raise InputError(f"{who} ({response.reason}). Check --base-url, or run again later.")

    def _is_ours(self, url: str) -> bool:
        return urlsplit(url)[:2] == urlsplit(self.base)[:2]  # scheme, host and port


class Portal(Mirror):
    """The USPTO's Open Data Portal."""

    def __init__(self, key: str) -> None:
        """Raise `InputError` for a key that cannot be one: the library's own error would show it."""
        super().__init__(API)
        self.key = key.strip()
        if not self.key:
            raise InputError("USPTO_API_KEY is not set. Get a key at data.uspto.gov/myodp, or pass --base-url.")
        if not (self.key.isascii() and self.key.isprintable() and " " not in self.key):
            raise InputError("USPTO_API_KEY has characters that no key has. Copy it again from data.uspto.gov/myodp.")

    def catalogue(self, names: Iterable[str]) -> dict[str, File]:
        """Those of the files `names` that the product has, of several releases of a file the newest."""
        found: dict[str, File] = {}
        with self._request(f"{API}/{PRODUCT}") as response:
            body = b"".join(_chunks(response))
        try:
            entries = [v for v in _nested(json.loads(body)) if isinstance(v, dict) and v.get("fileName") in set(names)]
            for entry in sorted(entries, key=lambda entry: str(entry.get("fileReleaseDate") or "")):
                name, date, size = (
                    entry["fileName"],
                    str(entry.get("fileReleaseDate") or ""),
                    str(entry.get("fileSize")),
                )
                url = str(entry.get("fileDownloadURI"))
                url = url if self._is_ours(url) else f"{API}/files/{PRODUCT}/{name}"
                if size.isdigit():
                    found[name] = File(name, url, int(size), date)
        except (ValueError, TypeError, RecursionError):
            found = {}
        if not found:
            raise InputError(
                f"{_host(API)} sent {_kind(body)} that lists no table of {PRODUCT} with its size. "
                "Check USPTO_API_KEY, or download the tables by hand from data.uspto.gov."
            )
        return found


class Folder:
    """A folder that has the files, such as a network drive."""

    def __init__(self, folder: Path) -> None:
        """`folder` exists."""
        self.folder = folder

    def catalogue(self, names: Iterable[str]) -> dict[str, File]:
        """Those of the files `names` that the folder has, with their dates."""
        stats = {path: path.stat() for name in names if (path := self.folder / name).is_file()}
        dates = {path: datetime.fromtimestamp(stat.st_mtime, UTC).isoformat() for path, stat in stats.items()}
        return {path.name: File(path.name, str(path), stats[path].st_size, dates[path]) for path in stats}

    def open(self, file: File, offset: int) -> Body:
        """Start to read `file` at `offset`."""
        return offset, self._read(Path(file.url), offset)

    def _read(self, path: Path, offset: int) -> Iterator[bytes]:
        with path.open("rb") as source:
            source.seek(offset)
            while chunk := source.read(CHUNK):
                yield chunk


def open_source(base_url: str) -> Mirror | Folder:
    """The source at an address or in a folder; for "" the portal, with the key in USPTO_API_KEY."""
    parts = urlsplit(base_url)
    if not base_url:
        return Portal(os.environ.get("USPTO_API_KEY", ""))
    if parts.scheme in ("http", "https"):
        return Mirror(base_url.rstrip("/"))
    folder = Path(unquote(parts.path)) if parts.scheme == "file" else Path(base_url)
    if not folder.is_dir():
        raise InputError(f"--base-url {base_url}: neither an http address nor a folder.")
    return Folder(folder)


def _chunks(response: requests.Response) -> Iterator[bytes]:
    with response:
        try:
            yield from response.iter_content(CHUNK)
        except requests.RequestException as problem:
            raise _lost(response.url, problem) from None


def _lost(url: str, problem: Exception) -> TryAgain:
    """The texts of the library's errors are not shown: they hold presigned addresses."""
    return TryAgain(f"the connection to {_host(url)} failed ({type(problem).__name__})")


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _nested(value: Any) -> Iterator[Any]:
    """`value` and all that it holds: the portal's documentation and its answers differ in how deep the files lie."""
    yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _nested(child)


def _address(body: bytes, url: str, file: File) -> str:
    """The first web address in a JSON answer."""
    try:
        return next(v for v in _nested(json.loads(body)) if isinstance(v, str) and v.startswith(("http:", "https:")))
    except (ValueError, StopIteration, RecursionError):
        raise InputError(
            f"{_host(url)} sent JSON without an address instead of {file.name}. Run again later."
        ) from None


def _kind(body: bytes) -> str:
    start = body[:512].lstrip().lower()
    return "an HTML page" if start.startswith((b"<!doctype", b"<html")) else "JSON" if start[:1] == b"{" else "a file"
