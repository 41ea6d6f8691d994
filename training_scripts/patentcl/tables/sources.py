"""Where PatentsView's ZIPs come from: the USPTO's Open Data Portal, an HTTP mirror, or a folder.

What the portal does, as its documentation (data.uspto.gov/apis/bulk-data/download) says and its clients found: the
catalogue of a product lists names, sizes and release dates and is not counted. Requests for a file are counted: 20 a
year and key, then 429. The answer is the ZIP, a redirect, or JSON with an address; the address lives for half a minute,
and requests to it are not counted.
"""

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from ..common.cli import InputError

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


@dataclass(frozen=True)
class File:
    """A file that a source offers: its size in bytes, and the date of its release as the source writes it."""

    name: str
    size: int
    release: str


class Source:
    """The portal, a web server that has the files directly under its address, or a folder that has them."""

    def __init__(self, base_url: str) -> None:
        """`base_url` is an address or a folder; "" is the portal, with the key in USPTO_API_KEY."""
        self.base = base_url.rstrip("/") if base_url else f"{API}/files/{PRODUCT}"
        self.shown = re.sub(r"//[^/]*@", "//", self.base)  # without a password
        self.key = "" if base_url else _key()
        self.folder = None if self.base.startswith(("http://", "https://")) else Path(base_url.removeprefix("file://"))
        if self.folder and not self.folder.is_dir():
            raise InputError(f"--base-url {self.shown}: neither an http address nor a folder.")
        self.session = requests.Session()
        self.sent: dict[str, tuple[str, float, str]] = {}  # file → address that sent it, when it was asked for, ETag

    def catalogue(self, names: Sequence[str]) -> list[File]:
        """Those of the files `names` that the source has; of several releases of a file the newest."""
        if self.key:
            return self._product(names)
        return [file for name in names if (file := self._stat(name))]

    def _product(self, names: Sequence[str]) -> list[File]:
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

    def _stat(self, name: str) -> File | None:
        """A file of a folder or a mirror, if it is there; its release is its date."""
        if self.folder:
            if not (path := self.folder / name).is_file():
                return None
            return File(name, path.stat().st_size, datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat())
        with self._request(f"{self.base}/{name}", "HEAD") as response:
            size, date = (response.headers.get(field, "") for field in ("Content-Length", "Last-Modified"))
            return File(name, int(size), date) if response.ok and size.isdecimal() else None

    def open(self, file: File, offset: int) -> tuple[int, Iterator[bytes]]:
        """Start to read `file` at `offset` if the source can and still has the version that it sent last, else at 0.

        Returns from which byte on, and the bytes. An address that the portal gave is used again while it lives; the
        portal is asked at most once.
        """
        if self.folder:
            return offset, _blocks(self.folder / file.name, offset)
        url, asked, etag = self.sent.pop(file.name, ("", 0.0, ""))
        if not url or time.monotonic() - asked > PRESIGNED:
            url, asked = f"{self.base}/{file.name}", time.monotonic()
        for _ in range(2):  # the second time at the address that the portal gave
            response = self._request(url, offset=offset, etag=etag)
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

    def _request(self, url: str, method: str = "GET", offset: int = 0, etag: str = "") -> requests.Response:
        """Send a request, follow redirects, check the status, and return the response with its body unread.

        The portal gets the key, and no other host does; the others may send the rest from `offset` on of a file that
        still is the version `etag`. Raises `TryAgain` for what may pass and `InputError` for what will not.
        """
        location = ""
        for _ in range(6):  # requests would take the key along to another host
            headers = {"Accept-Encoding": "identity"}
            try:
                url = urljoin(url, location)
                if self.key and self._is_ours(url):
                    headers["X-API-KEY"] = self.key
                elif offset:
                    headers["Range"] = f"bytes={offset}-"
                    if etag and not etag.startswith("W/"):
                        headers["If-Range"] = etag
                response = self.session.request(
                    method, url, headers=headers, stream=True, allow_redirects=False, timeout=TIMEOUT
                )
            except (requests.RequestException, ValueError) as problem:  # the latter for what is no address
                raise _lost(url, problem) from None
            if not response.is_redirect:
                break
            response.close()
            location = response.headers["Location"]
        self._check(response)
        return response

    def _check(self, response: requests.Response) -> None:
        status = response.status_code
        if status in (200, 206) or (status == 404 and response.request.method == "HEAD"):
            return
        response.close()
        who, is_ours = f"{_host(response.url)} answers {status}", self._is_ours(response.url)
        if status in (408, 425) or status >= 500 or (status in REFUSED and not is_ours):  # an address expired
            with suppress(InvalidHeader):
                raise TryAgain(who, Retry().get_retry_after(response.raw) or 0)
            raise TryAgain(who, 0)
        raise InputError(f"{who} ({response.reason}). {ADVICE.get(status, 'Check --base-url, or run again later')}.")

    def _is_ours(self, url: str) -> bool:
        return urlsplit(url)[:2] == urlsplit(self.base)[:2]  # scheme, host and port


def _key() -> str:
    key = os.environ.get("USPTO_API_KEY", "").strip()
    if not re.fullmatch(r"[!-~]+", key):  # the library's own error would show the key
        what = "holds characters that no key has" if key else "is not set"
        raise InputError(f"USPTO_API_KEY {what}. Copy the key from data.uspto.gov/myodp, or pass --base-url.")
    return key


def _blocks(path: Path, offset: int) -> Iterator[bytes]:
    with path.open("rb") as source:
        source.seek(offset)
        while block := source.read(CHUNK):
            yield block


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
    with suppress(ValueError):
        return urlsplit(url).hostname or ""
    return ""


def _kind(response: requests.Response) -> str:
    return response.headers.get("Content-Type", "a file").partition(";")[0]
