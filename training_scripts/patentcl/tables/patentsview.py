"""PatentsView's tables: what they are called, which columns matter, how they are read and checked.

Today's names (`g_patent`, data dictionary of the USPTO's product PVGPATDIS) and those from before 2023 (`patent`)
are both known; columns are found by the names in the header, whatever their order. A table may lie there as TSV or
as the ZIP that was downloaded. Three CSV files of a corpus of one's own (`patents.csv`, `citations.csv`,
`classes.csv`) take the place of the tables.
"""

import csv
import lzma
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from ..common.cli import InputError, first_line
from ..common.duck import NULL

csv.field_size_limit(1 << 30)  # an abstract is short, but a missing quote makes a field of a whole file


@dataclass(frozen=True)
class Table:
    """One table: its possible file stems, and for each of our column names the names that files use for it."""

    stems: tuple[str, ...]
    columns: dict[str, tuple[str, ...]]
    optional: dict[str, tuple[str, ...]] = field(default_factory=dict)


PATENT = Table(
    ("g_patent", "patent", "patents"),
    {"patent_id": ("patent_id", "id"), "title": ("patent_title", "title")},
    {
        "abstract": ("patent_abstract", "abstract"),
        "date": ("patent_date", "date"),
        "type": ("patent_type", "type"),
        "withdrawn": ("withdrawn",),
    },
)
ABSTRACT = Table(("g_patent_abstract",), {"patent_id": ("patent_id",), "abstract": ("patent_abstract", "abstract")})
CITATION = Table(
    ("g_us_patent_citation", "uspatentcitation", "citations"),
    {"citing": ("patent_id", "citing"), "cited": ("citation_patent_id", "citation_id", "cited")},
    {"category": ("citation_category", "category")},
)
CPC = Table(
    ("g_cpc_current", "cpc_current", "classes"),
    {"patent_id": ("patent_id",), "subclass": ("cpc_subclass", "group_id", "subclass")},
    {"sequence": ("cpc_sequence", "sequence")},
)
CPC_TITLE = Table(
    ("cpc_group", "g_cpc_title"),
    {"symbol": ("id", "cpc_subclass"), "title": ("title", "cpc_subclass_title")},
)
# How the files of one corpus are called together; a folder is searched for these in this order.
NEEDED = {"patent": PATENT, "citation": CITATION, "cpc": CPC}
OPTIONAL = {"abstract": ABSTRACT, "cpc_title": CPC_TITLE}
SUFFIXES = (".tsv", ".tsv.zip", ".zip", ".csv", ".csv.zip")


@dataclass(frozen=True)
class Source:
    """A table that was found: the file, and the name that each of our columns has in it."""

    table: Table
    path: Path
    header: tuple[str, ...]
    names: dict[str, str]
    shown: str  # the file as the user knows it: of an unpacked table, the ZIP
    delimiter: str  # tab in PatentsView's tables, comma in a corpus of one's own


def has_tables(folder: Path) -> bool:
    """Whether `folder` holds a file of patents under any of the known names."""
    return _find(folder, PATENT) is not None


def find_tables(folder: Path, scratch: Path) -> dict[str, Source]:
    """Find and check the tables of a corpus; ZIPs are unpacked, streamed, into `scratch`.

    Returns sources under the keys of `NEEDED` and `OPTIONAL` (those that are there).
    Raises `InputError` naming the file, line or column when a table is missing or is not what its name says.
    """
    sources = {}
    for key, table in {**NEEDED, **OPTIONAL}.items():
        path = _find(folder, table)
        if path is not None:
            sources[key] = _open(path, table, scratch)
        elif key in NEEDED:
            wanted = " or ".join(f"{stem}{'.csv' if stem.endswith('s') else '.tsv'}" for stem in table.stems)
            raise InputError(f"{folder} holds no {wanted} (or its ZIP): put the table there, or name another --tables")
    if "abstract" not in sources and "abstract" not in sources["patent"].names:
        raise InputError(
            f"{folder} has no abstracts: put g_patent_abstract.tsv there "
            f"({sources['patent'].path.name} has no column patent_abstract or abstract)"
        )
    return sources


def source_files(folder: Path) -> list[Path]:
    """The files, as they lie in `folder`, that make up a corpus. Raises `InputError` when there is no such folder."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: name the folder that holds PatentsView's tables with --tables")
    found = (_find(folder, table) for table in {**NEEDED, **OPTIONAL}.values())
    return [path for path in found if path is not None]


def _find(folder: Path, table: Table) -> Path | None:
    candidates = (folder / f"{stem}{suffix}" for stem in table.stems for suffix in SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def _open(path: Path, table: Table, scratch: Path) -> Source:
    shown = str(path)
    _refuse_page(path, shown)
    if zipfile.is_zipfile(path):
        path = _unpack(path, table, scratch)
        _refuse_page(path, shown)
    elif path.suffix == ".zip":
        raise InputError(f"{path} is not a ZIP (damaged, or a download that broke off): download it again")
    header, delimiter = _header(path, shown)
    names = {}
    for column, aliases in {**table.columns, **table.optional}.items():
        name = next((alias for alias in aliases if alias in header), None)
        if name is not None:
            names[column] = name
        elif column in table.columns:
            raise InputError(
                f"{shown}, line 1: there is no column {' or '.join(aliases)}, it has {', '.join(header) or 'no text'}: "
                "rename the column, or take the table as PatentsView publishes it"
            )
    return Source(table, path, header, names, shown, delimiter)


def _refuse_page(path: Path, shown: str) -> None:
    with path.open("rb") as file:
        start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise InputError(
            f"{shown} is an HTML page, not a table: the download needs a sign-in; get the file again in a browser "
            "that is signed in at the USPTO's Open Data Portal"
        )


def _unpack(archive: Path, table: Table, scratch: Path) -> Path:
    """Stream the one table out of a ZIP, to a path of our own: names inside the archive are never paths here."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            return _unpack_table(zipped, archive, table, scratch)
    except _DAMAGE as problem:
        raise InputError(f"{archive} cannot be unpacked ({problem}): download it again") from None


# What zipfile and its decompressors raise on damaged, encrypted or exotic archives.
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError)


def _unpack_table(zipped: zipfile.ZipFile, archive: Path, table: Table, scratch: Path) -> Path:
    files = [member for member in zipped.infolist() if not member.is_dir() and "__MACOSX" not in member.filename]
    members = [member for member in files if Path(member.filename).suffix.lower() in (".tsv", ".csv")]
    if len(members) != 1:
        raise InputError(f"{archive} holds {len(members)} .tsv files where one is expected: put the table in itself")
    member = members[0]
    if member.file_size > shutil.disk_usage(scratch).free:
        raise InputError(f"{archive} needs {member.file_size / 1e9:.1f} GB unpacked, more than is free: free disk")
    target = scratch / f"{table.stems[0]}.tsv"
    with zipped.open(member) as source, target.open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 22)
    return target


def _header(path: Path, shown: str) -> tuple[tuple[str, ...], str]:
    """The names in the first line, and what separates them."""
    try:
        with path.open("rb") as file:
            line = file.readline(1 << 20).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{shown}, line 1: this is not UTF-8 text: convert the file, or download it again") from None
    delimiter = "\t" if "\t" in line else ","
    names = next(csv.reader([line], delimiter=delimiter), [])
    header = tuple(name.strip() or f"unnamed {i}" for i, name in enumerate(names, 1))
    lower = [name.lower() for name in header]
    if twice := next((name for name in header if lower.count(name.lower()) > 1), None):
        raise InputError(f"{shown}, line 1: the column {twice} stands there twice: remove one")
    return header, delimiter


def create_table(db: duckdb.DuckDBPyConnection, name: str, source: Source) -> int:
    """Read our columns of `source` into the DuckDB table `name`, as text, and return the number of rows.

    A column that the file lacks becomes null; an empty field stays the empty text.
    Raises `InputError` with file and line when a line has the wrong number of fields or is not UTF-8.
    """
    chosen = ", ".join(
        f'"{source.names[column]}" AS {column}' if column in source.names else f"NULL::VARCHAR AS {column}"
        for column in {**source.table.columns, **source.table.optional}
    )
    columns = dict.fromkeys(source.header, "VARCHAR")
    query = f"""CREATE TABLE {name} AS SELECT {chosen} FROM read_csv($path, columns = $columns, delim = $delimiter,
        header = true, auto_detect = false, quote = '"', escape = '"', nullstr = $null, strict_mode = true,
        max_line_size = 16777216)"""  # noqa: S608 (names from the header are quoted, values are parameters)
    values = {"path": str(source.path), "columns": columns, "delimiter": source.delimiter, "null": NULL}
    try:
        db.execute(query, values)
    except duckdb.InvalidInputException as problem:
        raise InputError(_where(source, problem)) from None
    row = db.execute(f"SELECT count(*) FROM {name}").fetchone()  # noqa: S608
    return row[0] if row else 0


def _where(source: Source, problem: Exception) -> str:
    """Say which line DuckDB could not read, counted as an editor counts, and what is wrong with it."""
    wanted, before = len(source.header), 1
    try:
        for line, fields in _records(source):
            if len(fields) > wanted:
                what = f"{len(fields)} fields where the header has {wanted} (the last is {source.header[-1]})"
                return f"{source.shown}, line {line}: {what}: mend or remove the line"
            if 0 < len(fields) < wanted:
                what = f"{len(fields)} fields where the header has {wanted}, {source.header[len(fields)]} is missing"
                return f"{source.shown}, line {line}: {what}: mend or remove the line"
            for column, text in zip(source.header, fields, strict=False):
                if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
                    return f"{source.shown}, line {line}, column {column}: this is not UTF-8: convert the file to UTF-8"
            before = line
    except csv.Error as error:
        return f"{source.shown}, line {before + 1} or after: a quote is out of place ({error}): mend the line"
    return (
        f"{source.shown} cannot be read ({first_line(problem)}): check its quotes and line ends, or download it again"
    )


def _records(source: Source) -> Iterator[tuple[int, list[str]]]:
    with source.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter=source.delimiter, strict=True)
        line = 1
        for fields in reader:
            yield line, fields
            line = reader.line_num + 1
