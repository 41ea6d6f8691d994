"""The rows of tables: read by DuckDB, which refuses or skips lines that are wrong, whatever their line ends."""

import csv
import mmap
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import pyarrow as pa

from ..common.cli import InputError
from ..common.duck import connect, literal
from ..common.files import plain
from .patentsview import LONGEST_LINE, Source, Table, open_table, unpacked_sizes

MOST_BAD = 100_000  # lines that are skipped
CUT = 9_990  # bytes: DuckDB copies at most 10,000 of what it rejects, here less a character


class Again(Exception):
    """A table has to be read again, as its lines end in different ways."""


def create_view(db: duckdb.DuckDBPyConnection, name: str, source: Source | None, columns: Iterable[str]) -> None:
    """Make the view `name` of the `columns` of a table that we use, as texts; no rows if there is no `source`.

    Columns that the file does not have are null; of a header that is repeated, where files were joined, the first one
    is empty. Lines that cannot be read are left out: read it in `reading`.
    """
    names = source.names if source else {}
    values = {c: f"""coalesce("{names[c]}", '')""" if names.get(c) else "NULL::VARCHAR" for c in columns}
    if given := [name for name in names.values() if name]:
        key, others = next(iter(values)), "".join(f""" AND "{name}" = '{name}'""" for name in given[1:2])
        is_header = f"""ltrim("{given[0]}", '\ufeff') = '{given[0]}'{others}"""
        values[key] = f"CASE WHEN {is_header} THEN '' ELSE {values[key]} END"
    selected = ", ".join(f"{value} AS {c}" for c, value in values.items())
    rows = "(SELECT 1) WHERE false"
    if source:
        types = ", ".join(f"{literal(column)}: 'VARCHAR'" for column in source.header)
        quote = literal(source.quote)
        ends = r", new_line = '\n'" if source.mixed else ""  # which is any line end where the mode is not strict
        rows = f"""read_csv({literal(source.path)}, columns = {{{types}}}, delim = {literal(source.delimiter)},
            header = true, auto_detect = false, quote = {quote}, escape = {quote},
            strict_mode = {not source.mixed} {ends}, store_rejects = true, rejects_limit = {MOST_BAD},
            max_line_size = {LONGEST_LINE}, buffer_size = {source.mixed or 4 * LONGEST_LINE})"""
    db.execute(f"CREATE VIEW {name} AS SELECT {selected} FROM {rows}")  # noqa: S608 (names are quoted)


@contextmanager
def reading(
    db: duckdb.DuckDBPyConnection, source: Source | None, skipped: dict[str, str] | None = None, skip: str = ""
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection that reads no other table than `source`.

    Lines that cannot be read are added to `skipped`, as where and why → line. Without it the first one raises an
    `InputError` that names the option `skip`; with it, one whose quote runs on through the lines after it does.
    Raises `Again` if the lines of the table end in different ways.
    """
    with db.cursor() as cursor:
        problem, lines = None, {}
        try:
            yield cursor
            lines = _unreadable(cursor, source, 1 if skipped is None else MOST_BAD) if source else {}
        except (duckdb.InvalidInputException, OSError) as raised:  # a line may end in another way than those before
            if "Invalid Input Error" not in str(raised):
                raise
            problem = raised
    if source and not source.mixed and (problem or lines):
        source.mixed = _mixed(source, next(iter(lines), ""))
        if source.mixed:
            raise Again
    if problem:
        raise problem
    if lines and (skipped is None or len(lines) == MOST_BAD):
        advice = f"Fix or remove the line{skip}" if skipped is None else "Too many lines are bad"
        raise InputError(f"{next(iter(lines))}. {advice}")
    for where, text in lines.items():
        if len(text.encode()) >= CUT and "\n" in text:
            raise InputError(f"{where}. Skipping it would skip all lines up to the next quote. Fix or remove the line")
    if skipped is not None:
        skipped |= lines


def _unreadable(db: duckdb.DuckDBPyConnection, source: Source, most: int) -> dict[str, str]:
    """The first `most` lines of `source` that the queries of this connection could not read: where and why → line."""
    rejected = db.execute(
        f"""SELECT DISTINCT ON (line_byte_position) line_byte_position, column_name, error_message, csv_line
        FROM reject_errors ORDER BY line_byte_position, byte_position, column_idx LIMIT {most}"""  # noqa: S608
    ).fetchall()[::-1]
    lines, end, size = {}, 0, source.path.stat().st_size
    with source.path.open(encoding="latin-1", newline="") as file:  # a letter a byte
        for number, line in enumerate(file if rejected else [], 1):
            end += len(line)
            # A byte in a line break stands for the next line, the end of the file for the last one.
            while rejected and (end == size or (rejected[-1][0] < end and line.strip("\r\n"))):
                _, column, reason, text = rejected.pop()
                reason = re.sub(
                    r"Expected Number of Columns: (\d+) Found:", r"expected \1 fields, found", reason
                ).rstrip(".")
                where = f"{source.shown}, line {number}" + (f", column {column}" if column else "")
                lines[f"{where}: {reason}"] = text
            if not rejected:
                break
    return lines


def _mixed(source: Source, known: str) -> int:
    """The size of a buffer for DuckDB if lines of a table end in different ways, 0 if only the `known` one is bad.

    DuckDB reads such a table if it accepts wrong quotes and too many fields, too. So Python looks for these here, which
    takes a while, and the first one raises an `InputError`. Where a buffer ends between CR and LF, it repeats a row.
    """
    line = 1
    try:
        with source.path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            rows = csv.reader(file, delimiter=source.delimiter, quotechar=source.quote or None, strict=True)
            for row in rows:
                if row and len(row) != len(source.header):
                    raise csv.Error(f"expected {len(source.header)} fields, found {len(row)}")
                line = rows.line_num + 1
            if not isinstance(file.newlines, tuple):
                return 0
    except csv.Error as problem:
        where = f"{source.shown}, line {line}"
        if known.startswith((f"{where},", f"{where}:")):
            return 0
        raise InputError(f"{where}: {problem}. Fix or remove the line") from None
    sizes = range(4 * LONGEST_LINE, 8 * LONGEST_LINE, LONGEST_LINE // 64)
    with source.path.open("rb") as table, mmap.mmap(table.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return next(n for n in sizes if all(data[end - 1 : end + 1] != b"\r\n" for end in range(n, len(data), n)))


def read_table(path: Path, table: Table) -> pa.Table:
    """All rows of a file, as texts; optional columns that it lacks are null. Raises `InputError` if it is bad."""
    unpacked_sizes([plain(path)])
    source = open_table(path, str(path), table)
    while True:
        with suppress(Again), connect() as db:
            create_view(db, "rows_of_file", source, [*table.columns, *table.optional])
            with reading(db, source) as cursor:
                return cursor.sql("FROM rows_of_file").to_arrow_table()
