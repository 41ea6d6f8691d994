"""PatentsView's tables: their names, the columns that matter, and how they are found, unpacked and read.

Today's names (`g_patent`, data dictionary of the USPTO's product PVGPATDIS) and those from before 2023 (`patent`) are
both known. Columns are found by their names in the header, in any order. A table is a TSV file or the ZIP as it was
downloaded. Three CSV files (`patents.csv`, `citations.csv`, `classes.csv`) make a custom corpus.
"""

import csv
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import duckdb

from ..common.cli import InputError
from ..common.duck import NULL, literal
from ..common.files import each_file

SUFFIXES = (".tsv", ".tsv.zip", ".zip", ".csv", ".csv.zip")
LONGEST_LINE = 1 << 24  # bytes; an abstract is short, but a missing quote makes one field of a whole file
# What zipfile and its decompressors raise for corrupt, encrypted or exotic archives.
CORRUPT = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError)


class Table(NamedTuple):
    """One table: its possible file stems, and for each of our column names the names that files use for it."""

    stems: tuple[str, ...]
    columns: dict[str, tuple[str, ...]]
    optional: dict[str, tuple[str, ...]]


# A folder is searched for these in this order.
TABLES = {
    "patent": Table(
        ("g_patent", "patent", "patents"),
        {"patent_id": ("patent_id", "id"), "title": ("patent_title", "title")},
        {
            "abstract": ("patent_abstract", "abstract"),
            "date": ("patent_date", "date"),
            "type": ("patent_type", "type"),
            "withdrawn": ("withdrawn",),
        },
    ),
    "citation": Table(
        ("g_us_patent_citation", "uspatentcitation", "citations"),
        {"citing": ("patent_id", "citing"), "cited": ("citation_patent_id", "citation_id", "cited")},
        {"category": ("citation_category", "category")},
    ),
    "cpc": Table(
        ("g_cpc_current", "cpc_current", "classes"),
        {"patent_id": ("patent_id",), "subclass": ("cpc_subclass", "group_id", "subclass")},
        {"sequence": ("cpc_sequence", "sequence")},
    ),
    "abstract": Table(
        ("g_patent_abstract",), {"patent_id": ("patent_id",), "abstract": ("patent_abstract", "abstract")}, {}
    ),
    "relation": Table(
        ("g_us_rel_doc", "usreldoc"),
        {
            "patent_id": ("patent_id",),
            "document": ("related_doc_number", "reldocno"),
            "type": ("related_doc_type", "doctype"),
            "kind": ("related_doc_kind", "relkind"),
        },
        {},
    ),
    "cpc_title": Table(
        ("cpc_group", "g_cpc_title"), {"symbol": ("id", "cpc_subclass"), "title": ("title", "cpc_subclass_title")}, {}
    ),
}


@dataclass(frozen=True)
class Source:
    """A table that is ready to be read."""

    path: Path
    shown: str  # the file as the user knows it: of an unpacked table, the ZIP
    delimiter: str  # tab in PatentsView's tables, comma in a custom corpus
    header: tuple[str, ...]
    names: dict[str, str | None]  # our column → its name in the header, None if the file has no such column

    @property
    def rows(self) -> int:
        """About how many rows it has."""
        with self.path.open("rb") as file:
            start = file.read(1 << 20)
        return self.path.stat().st_size * start.count(b"\n") // max(len(start), 1) + 1


def find_tables(folder: Path) -> dict[str, Path]:
    """Find the files of a corpus, by the keys of `TABLES`.

    Raises `InputError` if there is no such folder, or no patents or citations in it.
    """
    if not folder.is_dir():
        raise InputError(f"--tables {folder} is not a folder. Name the one that holds PatentsView's tables")
    files = {key: path for key, table in TABLES.items() if (path := _find(folder, table))}
    for key in ("patent", "citation"):
        if key not in files:
            names = " or ".join(f"{stem}{'.csv' if stem.endswith('s') else '.tsv'}" for stem in TABLES[key].stems)
            raise InputError(f"--tables {folder}: found no {names}, nor its ZIP. Add it, or name another folder")
    return files


def has_tables(folder: Path) -> bool:
    """Whether `folder` holds a file of patents under any of the known names."""
    return _find(folder, TABLES["patent"]) is not None


def _find(folder: Path, table: Table) -> Path | None:
    candidates = (folder / f"{stem}{suffix}" for stem in table.stems for suffix in SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def open_tables(files: dict[str, Path], scratch: Path, threads: int = 1) -> dict[str, Source]:
    """Check the header of each table; stream the ZIPs into the folder `scratch`.

    Raises `InputError` naming the file, line or column when a table is not what its name says.
    """
    zips = {path: size for path, size in unpacked_sizes(files.values()).items() if _is_zip(path)}
    unpacked = each_file(partial(_unpack, scratch), zips, threads, "unpacking")
    sources = {key: _open(unpacked.get(path, path), str(path), TABLES[key]) for key, path in files.items()}
    if "abstract" not in sources and sources["patent"].names["abstract"] is None:
        patents = files["patent"]
        raise InputError(
            f"{patents.parent}: no abstracts. Add g_patent_abstract.tsv, or a column abstract to {patents.name}"
        )
    return sources


def _open(path: Path, shown: str, table: Table) -> Source:
    """Check the header of a table, whose file the user knows as `shown`."""
    try:
        with path.open("rb") as file:
            line = file.readline(1 << 20).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{shown}, line 1: not UTF-8 text. Convert the file to UTF-8") from None
    delimiter = "\t" if "\t" in line else ","
    columns = next(csv.reader(line.splitlines()[:1], delimiter=delimiter), [])  # a line may end in CR
    header = tuple(name.strip() or f"unnamed {i}" for i, name in enumerate(columns, 1))
    lower = [name.lower() for name in header]
    if twice := [name for name in header if lower.count(name.lower()) > 1]:
        raise InputError(f"{shown}, line 1: the column {twice[0]} occurs twice. Remove one")
    names = {}
    for column, aliases in {**table.columns, **table.optional}.items():
        names[column] = next((alias for alias in aliases if alias in header), None)
        if names[column] is None and column not in table.optional:
            raise InputError(
                f"{shown}, line 1: expected a column {' or '.join(aliases)}, found {', '.join(header) or 'no text'}. "
                "Rename the column, or download the table again"
            )
    return Source(path, shown, delimiter, header, names)


def _is_zip(path: Path) -> bool:
    return path.suffix == ".zip" or zipfile.is_zipfile(path)


@contextmanager
def _members(archive: Path) -> Iterator[tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]]:
    """Open a ZIP: yield it and the tables in it. Raises `InputError` naming it if it cannot be unpacked."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            files = [member for member in zipped.infolist() if "__MACOSX" not in member.filename]
            yield zipped, [member for member in files if member.filename.lower().endswith((".tsv", ".csv"))]
    except CORRUPT as problem:
        raise InputError(f"{archive}: not a ZIP that can be unpacked ({problem}). Download it again") from None


def unpacked_sizes(files: Iterable[Path]) -> dict[Path, int]:
    """The bytes of each table, those of a ZIP unpacked. Raises `InputError` for what is neither."""
    sizes = {path: path.stat().st_size for path in files}
    for path in sizes:
        with path.open("rb") as file:
            start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        if start.startswith((b"<!doctype", b"<html", b"<?xml")):
            raise InputError(f"{path} is an HTML page, not a table. Sign in at data.uspto.gov and download it again")
        if _is_zip(path):
            with _members(path) as (_, members):
                sizes[path] = sum(member.file_size for member in members)
    return sizes


def _unpack(scratch: Path, archive: Path, moved: Callable[[int], None]) -> Path:
    """Stream the one table of a ZIP into the folder `scratch`: names inside the archive are never used as paths."""
    target = scratch / f"{archive.name}.tsv"
    with _members(archive) as (zipped, members):
        if len(members) != 1:
            raise InputError(f"{archive}: expected one .tsv file in it, found {len(members)}. Unpack the right one")
        with zipped.open(members[0]) as source, target.open("wb") as out:
            while block := source.read(1 << 22):
                out.write(block)
                moved(len(block))
    return target


def create_view(db: duckdb.DuckDBPyConnection, name: str, source: Source | None, columns: Iterable[str]) -> None:
    """Make the view `name` of the `columns` of a table that we use, as texts; no rows if there is no `source`.

    Columns that the file does not have are null. A query that reads it skips lines that cannot be read: call
    `check_lines` after it.
    """
    names = source.names if source else {}
    selected = ", ".join(f'"{names[c]}" AS {c}' if names.get(c) else f"NULL::VARCHAR AS {c}" for c in columns)
    rows = "(SELECT 1) WHERE false"
    if source:
        types = ", ".join(f"{literal(column)}: 'VARCHAR'" for column in source.header)
        rows = f"""read_csv({literal(source.path)}, columns = {{{types}}}, delim = {literal(source.delimiter)},
            header = true, auto_detect = false, quote = '"', escape = '"', nullstr = {literal(NULL)},
            strict_mode = true, max_line_size = {LONGEST_LINE}, buffer_size = {4 * LONGEST_LINE}, store_rejects = true,
            rejects_limit = 100)"""
    db.execute(f"CREATE VIEW {name} AS SELECT {selected} FROM {rows}")  # noqa: S608 (names are quoted)


def check_lines(db: duckdb.DuckDBPyConnection, source: Source) -> None:
    """Raise `InputError` naming the first line of `source` that the queries of this connection could not read."""
    rejected = db.execute(
        """SELECT line_byte_position, column_name, error_message FROM reject_errors
        ORDER BY line_byte_position, byte_position, column_idx LIMIT 1"""
    ).fetchone()
    if rejected:
        position, column, reason = rejected
        where = f"line {_line_number(source.path, position)}" + (f", column {column}" if column else "")
        raise InputError(f"{source.shown}, {where}: {reason.rstrip('.')}. Fix or remove the line")


def _line_number(path: Path, position: int) -> int:
    """The line, as an editor counts, of the record at a byte, or after it if the byte is in a line break."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            position -= len(line)
            if position < 0 and line.strip(b"\r\n"):
                return number
    return 0  # never: the position is in the file
