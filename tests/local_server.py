"""A Neo4j server in a separate folder, for tests and benchmarks: free port, random password.

It runs the software of NEO4J_HOME with a separate configuration; the installed configuration is unchanged.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from patentcl.common.resources import Resources
from patentcl.graph.neo4j import Neo4jGraph
from patentcl.graph.neo4j_admin import is_running, run_tool, start
from patentcl.graph.options import Neo4jOptions

_SETTINGS = """
server.directories.data={folder}/data
server.directories.transaction.logs.root={folder}/data/transactions
server.directories.logs={folder}/logs
server.directories.run={folder}/run
server.directories.import={folder}/import
server.default_listen_address=127.0.0.1
server.bolt.listen_address=127.0.0.1:{port}
server.http.enabled=false
dbms.usage_report.enabled=false
server.memory.heap.max_size={heap}
server.memory.pagecache.size={pagecache}
{more}
"""


def available() -> bool:
    """Whether NEO4J_HOME names a server, and Java is there to run it."""
    home = os.environ.get("NEO4J_HOME", "")
    return bool(home) and (Path(home) / "bin" / "neo4j").is_file() and shutil.which("java") is not None


class LocalServer:
    """A server in `folder`; while it is in use the NEO4J_ variables of the environment name it."""

    def __init__(self, folder: Path, heap: str = "1g", pagecache: str = "512m", more: str = "") -> None:
        """Write the configuration and set the first password; `more` are further lines of neo4j.conf."""
        self.folder = folder
        for name in ("conf", "data", "logs", "run", "import"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = _SETTINGS.format(folder=folder, port=port, heap=heap, pagecache=pagecache, more=more)
        (folder / "conf" / "neo4j.conf").write_text(settings)
        self.environment = {
            "NEO4J_CONF": str(folder / "conf"),
            "NEO4J_URI": f"bolt://127.0.0.1:{port}",
            "NEO4J_USERNAME": "neo4j",
            "NEO4J_PASSWORD": secrets.token_hex(16),  # never begins with "-": neo4j-admin would take that for a flag
            "NEO4J_DATABASE": "neo4j",
        }
        os.environ.update(self.environment)
        done = run_tool("neo4j-admin", "dbms", "set-initial-password", self.environment["NEO4J_PASSWORD"])
        assert done.returncode == 0, done.stdout

    def is_available(self) -> bool:
        """Whether the server serves its database now."""
        connection = Neo4jGraph(Path(), Resources(), Neo4jOptions("offline"))
        try:
            return connection.is_available()
        finally:
            connection.close()

    def start(self) -> None:
        """Start it and wait until it answers."""
        start(self.is_available)

    def kill(self) -> None:
        """Kill it with SIGKILL, as a crash would, and wait until it is gone: it could not be started before."""
        killed = self.pid
        os.kill(killed, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(killed, 0)
                time.sleep(0.05)

    @property
    def pid(self) -> int:
        """Number of its process."""
        return int((self.folder / "run" / "neo4j.pid").read_text())


def peak_memory(process: int) -> float:
    """Peak memory of a process, GB (Linux only)."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e6


@contextmanager
def local_server(folder: Path, heap: str = "1g", pagecache: str = "512m", more: str = "") -> Iterator[LocalServer]:
    """A server in `folder`, not started yet; at the end it is killed, and the environment is restored."""
    before = {name: value for name, value in os.environ.items() if name.startswith("NEO4J_")}
    try:
        server = LocalServer(folder, heap, pagecache, more)
        try:
            yield server
        finally:
            os.environ.update(server.environment)
            if is_running():
                server.kill()  # its state goes with the folder, and a clean stop takes a quarter of a minute
    finally:
        for name in [name for name in os.environ if name.startswith("NEO4J_")]:
            del os.environ[name]
        os.environ.update(before)
