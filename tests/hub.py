"""The hub's API as far as publishing a model needs it, played by a local HTTP server with faults.

Answers follow what huggingface_hub sends and reads: repositories, pre-upload, large files, commits of NDJSON lines.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_" + "that-nobody-may-see"
USER = "me"


@dataclass
class Repository:
    """A repository: whether it is private, its files, and the number of its commits."""

    private: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    commits: int = 0

    @property
    def sha(self) -> str:
        """The name of its last commit."""
        return hashlib.sha1(str(self.commits).encode(), usedforsecurity=False).hexdigest()


@dataclass
class Hub:
    """What the server holds, what was asked of it, and a fault: what it does instead of answering a path."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fault: Callable[["Handler", str], bool] = lambda handler, path: False


class Handler(BaseHTTPRequestHandler):
    """Answers requests by what `hub` holds."""

    hub: Hub

    def do_GET(self) -> None:
        self.answer()

    do_POST = do_PUT = do_GET

    def answer(self) -> None:
        path, hub = self.path.split("?")[0], self.hub
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        hub.asked.append(f"{self.command} {path}")
        if hub.fault(self, path):
            return
        if path.startswith("/storage/"):
            hub.large[path.rpartition("/")[2]] = body
            self.send(200, {})
        elif self.headers.get("Authorization") not in (f"Bearer {TOKEN}", f"Basic {TOKEN}"):
            self.send(
                401, {"error": "Invalid credentials"}, X_Error_Message="Invalid credentials in Authorization header"
            )
        elif path == "/api/repos/create":
            self.create(json.loads(body))
        elif path == "/api/validate-yaml":
            self.send(200, {"errors": [], "warnings": []})
        else:
            name = path.removeprefix("/api/models/").removeprefix("/").removesuffix(".git/info/lfs/objects/batch")
            repo, _, action = name.replace("/", " ", 1).partition("/")
            if known := hub.repositories.get(repo.replace(" ", "/")):
                self.act(known, action or path.rpartition("/")[2], body)
            else:
                self.send(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")

    def create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or USER}/{asked['name']}"
        address = {"url": f"{self.hub.url}/{name}"}
        if name in self.hub.repositories:
            self.send(409, {"error": "You already created this model repo", **address})
        elif not name.startswith(f"{USER}/"):
            self.send(403, {"error": "You don't have the rights"}, X_Error_Message="no rights")
        else:
            self.hub.repositories[name] = Repository(asked.get("visibility") == "private")
            self.hub.repositories[name].files[".gitattributes"] = b""
            self.send(200, {**address, "name": name, "id": name})

    def act(self, repo: Repository, action: str, body: bytes) -> None:
        name = next(name for name, known in self.hub.repositories.items() if known is repo)
        if action == name.partition("/")[2] or action == "revision/main":
            siblings = [{"rfilename": path} for path in repo.files]
            self.send(
                200, {"id": name, "modelId": name, "private": repo.private, "sha": repo.sha, "siblings": siblings}
            )
        elif not name.startswith(f"{USER}/"):
            self.send(403, {"error": "You don't have the rights"}, X_Error_Message="no rights")
        elif action.startswith("preupload"):
            self.send(200, {"files": [self.mode(repo, file["path"]) for file in json.loads(body)["files"]]})
        elif action == "batch":
            objects = [self.place(item["oid"], item["size"]) for item in json.loads(body)["objects"]]
            self.send(200, {"transfer": "basic", "objects": objects})
        elif action.startswith("commit"):
            for line in body.splitlines():
                self.commit(repo, **json.loads(line))
            repo.commits += 1
            address = f"{self.hub.url}/{name}/commit/{repo.sha}"
            self.send(200, {"success": True, "commitOid": repo.sha, "commitUrl": address, "hookOutput": ""})
        else:
            self.send(404, {"error": action})

    def mode(self, repo: Repository, path: str) -> dict[str, Any]:
        """How a file is to be sent, and the id of the one there: SHA-256 if large, else that of git."""
        large, content = path.endswith(".safetensors"), repo.files.get(path)
        known = None
        if content is not None:
            git = b"blob %d\0%b" % (len(content), content)
            digest = hashlib.sha256(content) if large else hashlib.sha1(git, usedforsecurity=False)
            known = digest.hexdigest()
        return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": known}

    def place(self, oid: str, size: int) -> dict[str, Any]:
        """Where a large file is to be sent, unless it is there."""
        known = {"oid": oid, "size": size}
        return (
            known
            if oid in self.hub.large
            else {**known, "actions": {"upload": {"href": f"{self.hub.url}/storage/{oid}"}}}
        )

    def commit(self, repo: Repository, key: str, value: dict[str, Any]) -> None:
        if key == "file":
            repo.files[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            repo.files[value["path"]] = self.hub.large[value["oid"]]
        elif key == "deletedFile":
            del repo.files[value["path"]]

    def send(self, status: int, content: dict[str, Any], **headers: str) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content_Type": "application/json", "Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def hub() -> Iterator[Hub]:
    """Run a hub without repositories."""
    play = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": play}))
    play.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield play
    finally:
        server.shutdown()
        server.server_close()
