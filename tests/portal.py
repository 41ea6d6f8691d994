"""The USPTO's portal, the host of presigned addresses and a mirror, played by local HTTP servers with faults."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

KEY = "key-that-nobody-may-see"
SIGNATURE = "signature-that-nobody-may-see"


@dataclass
class Asked:
    """A request that arrived: at which server, for what, with which headers."""

    where: str  # catalogue, file (the portal's), signed, or mirror
    method: str
    path: str
    headers: dict[str, str]


Fault = Callable[["Handler"], bool]  # answers, or returns False to let the file be sent as it would


@dataclass
class Play:
    """What the servers offer, how they answer, and what was asked of them."""

    files: dict[str, bytes]
    release: str = "2026-07-15 09:37:53"
    answer: str = "json"  # to a request for a file: zip, json or redirect
    has_range: bool = True
    is_key: Callable[[str], bool] = KEY.__eq__
    catalogue: Any = None  # instead of the true one
    faults: dict[str, list[Fault]] = field(default_factory=dict)  # by place, one for each request
    asked: list[Asked] = field(default_factory=list)
    urls: dict[str, str] = field(default_factory=dict)

    def of(self, *places: str) -> list[Asked]:
        """The requests at these places."""
        return [asked for asked in self.asked if asked.where in places]

    def bag(self) -> dict[str, Any]:
        """The catalogue as the portal writes it, with a file that nobody wants first."""
        sizes = {"PV_grant_data_dictionary.pdf": 7} | {name: len(content) for name, content in self.files.items()}
        entries = [
            {"fileName": name, "fileSize": size, "fileReleaseDate": self.release,
             "fileDownloadURI": f"{self.urls['api']}/files/PVGPATDIS/{name}"}
            for name, size in sizes.items()
        ]  # fmt: skip
        product = {"productIdentifier": "PVGPATDIS", "productFileBag": {"count": len(sizes), "fileDataBag": entries}}
        return {"count": 1, "bulkDataProductBag": [product]}


class Handler(BaseHTTPRequestHandler):
    """Both servers: the portal and the mirror, and the host of the presigned addresses."""

    play: Play

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        self.name = address.path.rpartition("/")[2]
        if address.path.startswith("/api"):
            where = "file" if "/files/" in address.path else "catalogue"
        else:
            where = "signed" if address.path.startswith("/signed") else "mirror"
        self.play.asked.append(Asked(where, self.command, self.path, dict(self.headers)))
        faults = self.play.faults.get(where, [])
        if not (faults and faults.pop(0)(self)):
            getattr(self, f"{where}_")()

    def catalogue_(self) -> None:
        if self.has_key():
            self.send(200, json.dumps(self.play.catalogue or self.play.bag()).encode())

    def file_(self) -> None:
        address = f"{self.play.urls['signed']}/signed/{self.name}?X-Amz-Signature={SIGNATURE}"
        if self.has_key():
            if self.play.answer == "zip":
                self.mirror_()
            elif self.play.answer == "json":
                self.send(200, json.dumps({"status": "ok", "links": {"downloadUrl": address}}).encode())
            else:
                self.send(302, b"", Location=address)

    def has_key(self) -> bool:
        key = self.headers.get("X-API-KEY")
        if not key:
            self.send(200, b"<!DOCTYPE html><html>Sign in</html>")
        elif not self.play.is_key(key):
            self.send(403, b'{"message": "Forbidden"}')
            return False
        return bool(key)

    def signed_(self) -> None:
        self.send(403, b"<Error/>") if "X-API-KEY" in self.headers else self.mirror_()

    def mirror_(self, cut: int | None = None) -> None:
        """The file, or the range of it that was asked for; only its first `cut` bytes if that is given."""
        if self.name not in self.play.files:
            return self.send(404, b"")
        content, offset = self.play.files[self.name], 0
        tag = f'"{hash(content)}"'
        if self.play.has_range and "Range" in self.headers and self.headers.get("If-Range", tag) == tag:
            offset = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        headers: dict[str, Any] = {"ETag": tag, "Last-Modified": "Wed, 15 Jul 2026 09:37:53 GMT"}
        if offset:
            headers["Content-Range"] = f"bytes {offset}-{len(content) - 1}/{len(content)}"
        return self.send(206 if offset else 200, content[offset:], cut=cut, **headers)

    def send(self, status: int, body: bytes, *, cut: int | None = None, **headers: Any) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            with suppress(ConnectionError):  # a client that refuses the answer hangs up
                self.wfile.write(body[:cut])
                self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


def status(number: int, **headers: Any) -> Fault:
    """Answer with a status, and headers written like Retry_After."""

    def answer(handler: Handler) -> bool:
        handler.send(number, b"", **headers)
        return True

    return answer


def body(content: bytes) -> Fault:
    """Answer 200 with this instead of the file."""

    def answer(handler: Handler) -> bool:
        is_page = content.lstrip().startswith(b"<")
        handler.send(200, content, Content_Type="text/html" if is_page else "application/json")
        return True

    return answer


def cut(size: int, then: Callable[[], object] = lambda: None) -> Fault:
    """Close the connection after so many bytes of the answer; then something happens."""

    def answer(handler: Handler) -> bool:
        handler.mirror_(size)
        then()
        return True

    return answer


def stall(size: int) -> Fault:
    """Send so many bytes of the answer, and nothing more until the client has gone."""

    def answer(handler: Handler) -> bool:
        handler.mirror_(size)
        handler.connection.settimeout(60)
        with suppress(OSError):
            handler.connection.recv(1)
        return True

    return answer


@contextmanager
def playing(tables: Path) -> Iterator[Play]:
    """Serve the ZIPs in `tables`."""
    play = Play({path.name: path.read_bytes() for path in tables.glob("*.zip")})
    handler = type("PlayHandler", (Handler,), {"play": play})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    main, other = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    play.urls = {"api": f"{main}/api", "mirror": main, "signed": other}
    try:
        yield play
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
