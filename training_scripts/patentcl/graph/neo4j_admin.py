"""A local server's own tools, `neo4j` and `neo4j-admin` of NEO4J_HOME: offline import, start, stop."""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from ..common.cli import InputError, Interrupted
from ..common.resources import require
from ..tables.import_csvs import FINGERPRINT_FILE, KINDS, ends_of
from .options import Neo4jOptions

# What neo4j-admin says of an error → what to do. The first match counts.
_ADVICE = {
    "already exist": "replace the database with --replace; if it may contain this graph, start the server and "
    "omit --import",
    "in use": "stop the server or the other import",
}
_STOPPED = 3  # exit code of `neo4j status`
_DISK = 2  # bytes of the database for each byte of the CSVs: 1.8 measured
START_SECONDS = 180  # to wait for a server that was started


def import_command(csvs: Path, options: Neo4jOptions, overwrite: bool = False) -> str:
    """The shell command that imports the CSVs in `csvs` into a stopped server."""
    arguments = ["database", "import", "full", options.database_name, "--multiline-fields=true"]
    arguments += [f"--max-off-heap-memory={options.off_heap}", *(["--overwrite-destination"] if overwrite else [])]
    arguments.append(f"--nodes=PatentCL={FINGERPRINT_FILE}")
    for file, (kind, _) in KINDS.items():
        arguments.append(f"--{'relationships' if ends_of(file) else 'nodes'}={kind}={file}")
    admin = f'HEAP_SIZE={options.heap} "$NEO4J_HOME"/bin/neo4j-admin {shlex.join(arguments)}'
    return f"(cd {shlex.quote(str(csvs.resolve()))} && {admin})"


def import_offline(csvs: Path, options: Neo4jOptions, overwrite: bool, is_available: Callable[[], bool]) -> None:
    """Import the CSVs in `csvs` with `neo4j-admin`, start the server, and wait until `is_available()`.

    A running server and an existing database are left alone, unless `overwrite`: then the server is stopped and the
    database replaced. Raises `InputError` for these, and when the import fails.
    """
    command = import_command(csvs, options, overwrite)
    if "NEO4J_HOME" not in os.environ:
        raise InputError(f"NEO4J_HOME is not set; set it, or stop the server and run on its machine: {command}")
    size = sum(csv.stat().st_size for csv in csvs.glob("*.csv"))
    require(_databases(), _DISK * size, 0, "the Neo4j database", flag="server.directories.data")
    if is_running():
        if not overwrite:
            raise InputError("the Neo4j server is running; add --replace to stop it and replace its database")
        if not is_available():  # no login, no replacement
            raise InputError("NEO4J_URI is not the server of NEO4J_HOME, which is running; fix one of them")
        print('neo4j: stopping the server ("$NEO4J_HOME"/bin/neo4j start starts it again)')
        run_tool("neo4j", "stop", check=True)
    if is_available():
        raise InputError("NEO4J_URI is another server than that of NEO4J_HOME; fix one of them")
    print(f"neo4j: {command}", flush=True)
    _import(command)
    print('neo4j: starting the server ("$NEO4J_HOME"/bin/neo4j stop stops it)')
    try:
        start(is_available)
    except KeyboardInterrupt:
        raise Interrupted("the import is complete and the server is starting; rerun to continue") from None


def _import(command: str) -> None:
    """Run the import, showing what it prints."""
    output, pipe = [], subprocess.PIPE
    with subprocess.Popen(  # noqa: S602 (its words are quoted)
        command, shell=True, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
                output.append(line.strip())
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGKILL)  # the launcher and the Java that it started
            raise Interrupted("the database is incomplete; rerun to import again") from None
    if process.returncode:
        for text, advice in _ADVICE.items():
            if line := next((line for line in output if text in line), ""):
                raise InputError(f"neo4j-admin: {line}; {advice}")
        raise InputError("neo4j-admin failed (see its output above); fix the cause, then rerun")


def _databases() -> Path:
    """The folder of the server's databases: server.directories.data of neo4j.conf, by default data in NEO4J_HOME."""
    home = Path(os.environ["NEO4J_HOME"])
    conf = Path(os.environ.get("NEO4J_CONF") or home / "conf") / "neo4j.conf"
    text = conf.read_text(encoding="utf-8", errors="replace") if conf.is_file() else ""
    found = re.search(r"^\s*server\.directories\.data\s*=\s*(\S.*?)\s*$", text, re.MULTILINE)
    return home / (found[1] if found else "data")


def run_tool(name: str, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a tool; stdout is all it prints. Raises `InputError` if it is missing, or if it fails and `check`."""
    path = Path(os.environ.get("NEO4J_HOME", "")) / "bin" / name
    if not path.is_file():
        raise InputError(f"NEO4J_HOME: {path} does not exist; set it to the folder of a Neo4j server")
    done = subprocess.run(  # noqa: S603 (a server that it starts outlives Ctrl-C and the terminal in its own session)
        [path, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    if check and done.returncode:
        raise InputError(f"{name} {' '.join(arguments)} failed: {done.stdout.strip()}")
    return done


def is_running() -> bool:
    """Whether the server of NEO4J_HOME (with its NEO4J_CONF) is running. Raises `InputError` when its tools do not."""
    status = run_tool("neo4j", "status")
    if status.returncode not in (0, _STOPPED):
        said = " ".join(status.stdout.split())
        raise InputError(f"neo4j status failed ({said}); Neo4j 5.26 needs Java 17 or 21, on PATH or in JAVA_HOME")
    return status.returncode == 0


def start(is_available: Callable[[], bool]) -> None:
    """Start the server in the background and wait for it. Raises `InputError` when it does not come up."""
    run_tool("neo4j", "start", check=True)
    end = time.monotonic() + START_SECONDS
    while not is_available():
        if time.monotonic() > end or not is_running():
            raise InputError("the Neo4j server was started but does not answer at NEO4J_URI; see its logs/neo4j.log")
        time.sleep(1)
