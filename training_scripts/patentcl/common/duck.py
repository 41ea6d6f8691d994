"""DuckDB as every room uses it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from .cli import InputError, first_line

NULL = "\x01null\x01"  # what read_csv takes for null: no field holds it, so an empty field stays the empty text


def connect(database: Path | str = ":memory:") -> duckdb.DuckDBPyConnection:
    """Open a database without DuckDB's own progress bar."""
    db = duckdb.connect(str(database))
    db.execute("SET enable_progress_bar = false")
    return db


def literal(text: Path | str) -> str:
    """A path or text as a literal of SQL, with its quotes."""
    return "'" + str(text).replace("'", "''") + "'"


@contextmanager
def readable_errors(what: str, advice: str) -> Iterator[None]:
    """Turn an error of DuckDB into an `InputError`: `what` went wrong, the error's first line, `advice`.

    An interrupt is raised as a `KeyboardInterrupt`, and a full disk has its own advice.
    """
    try:
        yield
    except (duckdb.Error, RuntimeError) as problem:  # DuckDB raises a RuntimeError after Ctrl-C
        reason = first_line(problem)
        if "interrupt" in reason.lower():
            raise KeyboardInterrupt from None
        if "No space left" in reason:
            advice = "Free disk space."
        raise InputError(f"{what} ({reason}). {advice}") from None
