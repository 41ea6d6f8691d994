"""DuckDB as every room uses it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from .cli import InputError, first_line
from .resources import Resources

POOL = 0.6  # DuckDB's share of the memory: Python and its libraries are there, too
OVERSHOOT = 0.85  # DuckDB takes more than its limit


def connect(
    database: Path | str = ":memory:", resources: Resources = Resources(), outside: int = 0
) -> duckdb.DuckDBPyConnection:
    """Open a database for a process that stays within `resources`, without DuckDB's progress bar.

    What does not fit goes to a folder beside the database. `outside` is the memory in bytes that the process takes
    beside the database.
    """
    pool = int(min(resources.bytes * POOL, max(resources.bytes - outside, 0) * OVERSHOOT))
    db = duckdb.connect(str(database), config={"threads": resources.thread_count, "memory_limit": f"{pool}B"})
    db.execute("SET enable_progress_bar = false")
    return db


def arrow(db: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """The rows that `sql` gives."""
    with db.cursor() as cursor:  # another result of `db` may be open
        return cursor.sql(sql).to_arrow_table()


def scalar(db: duckdb.DuckDBPyConnection, sql: str) -> int:
    """The one integer that `sql` gives, such as a count."""
    row = db.execute(sql).fetchone()
    return int(row[0]) if row else 0


def literal(text: Path | str) -> str:
    """A path or text as a literal of SQL, with its quotes."""
    return "'" + str(text).replace("'", "''") + "'"


def sql_sections(file: Path) -> dict[str, str]:
    """The parts of an SQL file by name; each begins with a line `-- ## NAME`."""
    parts = file.read_text(encoding="utf-8").split("-- ## ")[1:]
    return dict(part.split("\n", 1) for part in parts)


@contextmanager
def readable_errors(what: str, advice: str) -> Iterator[None]:
    """Turn an error of DuckDB into an `InputError`: `what` went wrong, the error's first line, `advice`.

    An interrupt is raised as a `KeyboardInterrupt`; a full disk and too little memory have their own advice.
    """
    try:
        yield
    except (
        duckdb.Error,
        RuntimeError,
        OSError,
    ) as problem:  # the second after Ctrl-C, the third where Arrow reads rows
        if isinstance(problem, OSError) and problem.errno:
            raise
        reason = first_line(problem)
        if "CSV Error on Line" in reason:  # the third line of the message says what is wrong
            reason = ", ".join([reason, *filter(None, str(problem).split("\n")[2:3])])
        if "interrupt" in reason.lower():
            raise KeyboardInterrupt from None
        if "No space left" in reason:
            advice = "Free disk space."
        if "Out of Memory Error" in reason:
            advice = "Pass a larger --memory, or close other programs."
        raise InputError(f"{what} ({reason}). {advice}") from None
