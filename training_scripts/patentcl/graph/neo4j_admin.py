"""The server's own tools, `neo4j` and `neo4j-admin` of NEO4J_HOME: the offline import, starting and stopping.

The import reads the CSVs as they are (https://neo4j.com/docs/operations-manual/5/import/).
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from ..common.cli import InputError, Interrupted

_FILES = [
    "--nodes=Patent=patents.csv",
    "--nodes=CPCSubclass=cpc_subclasses.csv",
    "--nodes=OutsidePatent=outside_patents.csv",
    "--nodes=PatentCL=import.csv",
    "--relationships=CITES=citations.csv",
    "--relationships=CITES_OUTSIDE=outside_citations.csv",
    "--relationships=CLASSIFIES=classifications.csv",
]
_STAGES = 4  # node import, relationship import, relationship linking, post processing


def import_arguments(database: str, off_heap: str, overwrite: bool = False) -> list[str]:
    """Arguments of `neo4j-admin` that import the CSVs of the current folder."""
    replace = ["--overwrite-destination"] if overwrite else []
    return [
        *("database", "import", "full", database, "--multiline-fields=true"),
        *(f"--max-off-heap-memory={off_heap}", *replace, *_FILES),
    ]


def default_database() -> str:
    """NEO4J_DATABASE, else neo4j."""
    return os.environ.get("NEO4J_DATABASE") or "neo4j"


def address() -> str:
    """NEO4J_URI, else bolt://localhost:7687."""
    return os.environ.get("NEO4J_URI") or "bolt://localhost:7687"


def import_command(
    csvs: Path, database: str = "", heap: str = "2g", off_heap: str = "4g", overwrite: bool = False
) -> str:
    """The command that imports the CSVs in `csvs` into a stopped server, to be run by hand."""
    arguments = shlex.join(import_arguments(database or default_database(), off_heap, overwrite))
    admin = '"$NEO4J_HOME"/bin/neo4j-admin'
    return f"(cd {shlex.quote(str(csvs.resolve()))} && HEAP_SIZE={shlex.quote(heap)} {admin} {arguments})"


def import_offline(
    csvs: Path, database: str, heap: str, off_heap: str, overwrite: bool, answers: Callable[[], bool]
) -> None:
    """Import the CSVs in `csvs` with `neo4j-admin`, then start the server and wait until `answers()`.

    A running server and an existing database are left alone, unless `overwrite`: then the server is stopped and the
    database replaced. Raises `InputError` for these, and for what the import says.
    """
    for flag, size in {"--heap": heap, "--off-heap": off_heap}.items():
        if not re.fullmatch(r"[1-9]\d{0,5}[kmgKMG]", size):
            raise InputError(f"{flag} {size} is no amount of memory: write it like 4g")
    command = import_command(csvs, database, heap, off_heap, overwrite)
    if "NEO4J_HOME" not in os.environ:
        raise InputError(f"NEO4J_HOME is not set, so run the import where the server is, stopped: {command}")
    if database != "neo4j" and not _may_have(database):
        raise InputError(
            f"--database {database}: Community Edition has one database, neo4j: "
            "leave --database and NEO4J_DATABASE away"
        )
    running = is_running()
    if running and not overwrite:
        raise InputError(
            "the Neo4j server is running, and an offline import needs it stopped: add --overwrite, which stops it and "
            "replaces the database (and mines again)"
        )
    if running:
        if not answers():  # who cannot log in replaces nothing
            raise InputError("the Neo4j server of NEO4J_HOME runs and does not answer at NEO4J_URI: mend one of them")
        print("neo4j: stopping the server")
        stop()
    if answers():
        again = "; the server of NEO4J_HOME was stopped" if running else ""
        raise InputError(f"another Neo4j server than that of NEO4J_HOME answers at NEO4J_URI: mend one of them{again}")
    print(f"neo4j: {command}")
    try:
        _import(csvs, import_arguments(database, off_heap, overwrite), heap)
    except InputError as problem:
        stopped = '; the server was stopped, "$NEO4J_HOME"/bin/neo4j start starts it' if running else ""
        raise InputError(f"{problem}{stopped}") from None
    print(f'neo4j: starting the server, waiting for it at {address()} ("$NEO4J_HOME"/bin/neo4j stop stops it)')
    try:
        start(answers)
    except KeyboardInterrupt:
        raise Interrupted("the import is whole, and the server starts: start again to go on") from None


def _may_have(database: str) -> bool:
    """Whether the server of NEO4J_HOME may have a database of that name: Enterprise, or named in its configuration."""
    home = Path(os.environ["NEO4J_HOME"])
    settings = Path(os.environ.get("NEO4J_CONF") or home / "conf") / "neo4j.conf"
    named = settings.is_file() and f"initial.dbms.default_database={database}" in settings.read_text().replace(" ", "")
    return named or any((home / "lib").glob("neo4j-enterprise*"))


def tool(name: str) -> str:
    """Path of `neo4j` or `neo4j-admin` in NEO4J_HOME. Raises `InputError` when it is not there."""
    home = os.environ.get("NEO4J_HOME", "")
    path = Path(home) / "bin" / name
    if not home or not path.is_file():
        raise InputError(
            f"NEO4J_HOME {home or 'is not set'}: there is no bin/{name}; name the folder of a Neo4j server"
        )
    return str(path)


def run_tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of the tools to its end and return what it printed.

    In a session of its own: a server that it starts outlives a Ctrl-C in this one, and a closed terminal.
    """
    return subprocess.run([tool(name), *arguments], capture_output=True, text=True, start_new_session=True)  # noqa: S603


def is_running() -> bool:
    """Whether the server of NEO4J_HOME (with its NEO4J_CONF) is running."""
    return run_tool("neo4j", "status").returncode == 0


def start(answers: Callable[[], bool], patience: float = 180) -> None:
    """Start the server in the background and wait until `answers()`. Raises `InputError` when it does not come up."""
    started = run_tool("neo4j", "start")
    if started.returncode:
        raise InputError(f"the Neo4j server did not start ({_last_line(started.stderr or started.stdout)})")
    end = time.monotonic() + patience
    while not answers():
        if time.monotonic() > end or not is_running():
            raise InputError(
                f"the Neo4j server was started and does not answer at {address()}: mend NEO4J_URI if the server has "
                "another port, else see neo4j.log in its logs folder"
            )
        time.sleep(1)


def stop() -> None:
    """Stop the server. Raises `InputError` when it goes on running."""
    stopped = run_tool("neo4j", "stop")
    if stopped.returncode:
        raise InputError(f"the Neo4j server did not stop ({_last_line(stopped.stderr or stopped.stdout)})")


def _import(csvs: Path, arguments: list[str], heap: str) -> None:
    """Run the import with a bar of its four stages; tell its error in a sentence."""
    report = csvs / "import.report"
    lines: list[str] = []
    with (
        subprocess.Popen(  # noqa: S603
            [tool("neo4j-admin"), *arguments], cwd=csvs, text=True, bufsize=1, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "HEAP_SIZE": heap},
        ) as process,
        tqdm(total=100 * _STAGES, desc="import", bar_format="{l_bar}{bar}| {elapsed}{postfix}") as progress,
    ):  # fmt: skip
        assert process.stdout
        progress.set_postfix_str("Java starts")
        try:
            stage = 0
            for line in process.stdout:
                lines.append(line.rstrip())
                if begun := re.match(r"\((\d)/\d\) (.+?) \d{4}-", line):
                    stage = int(begun[1]) - 1
                    progress.set_postfix_str(begun[2])
                elif percent := re.match(r"[.\-\s]+?(\d+)% ", line):
                    progress.update(100 * stage + int(percent[1]) - progress.n)
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGKILL)  # the launcher and the Java that it started
            raise Interrupted(
                "the offline import was stopped and the database is half-made: start again with --overwrite"
            ) from None
    if report.exists() and not report.stat().st_size:
        report.unlink()
    if process.returncode:
        raise InputError(_import_error(lines))
    print("neo4j: " + ", ".join(line.strip() for line in lines if re.match(r"IMPORT DONE|  \d+ |Peak memory", line)))


def _import_error(lines: list[str]) -> str:
    text = "\n".join(lines)
    if "already exist" in text:
        return (
            'the database exists already: run "$NEO4J_HOME"/bin/neo4j start and leave --import away '
            "if it may hold this graph, or add --overwrite to replace it"
        )
    if "in use" in text:
        return "the database is in use, by a running server or by an import that has not ended: stop it first"
    if refused := re.search(r"^Invalid value .+", text, re.MULTILINE):
        return f"neo4j-admin refuses a flag ({refused[0]}): mend --database, --heap or --off-heap"
    if "Importing the contents" not in text:
        return f"neo4j-admin did not begin ({_last_line(text)}): mend --heap, --off-heap or the server's configuration"
    return (
        f"neo4j-admin could not import ({_telling(text)}): run its command with --verbose to see the reason; "
        "then add --overwrite, for the database is half-made"
    )


def _telling(text: str) -> str:
    """The lines of a failed import that say something."""
    said = [line for line in text.splitlines() if re.search(r"(?i)error|exception|no space|memory", line)]
    return "; ".join(line.strip(" .") for line in said if not re.search(r"Run with|Peak memory|Estimated", line))


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]


def available() -> bool:
    """Whether NEO4J_HOME names a server's tools, and Java is there to run them."""
    home = os.environ.get("NEO4J_HOME", "")
    return bool(home) and (Path(home) / "bin" / "neo4j").is_file() and shutil.which("java") is not None
