"""PatentsView's tables: their names, the columns that matter, and how they are found, unpacked and opened.

Today's names (`g_patent`, data dictionary of the USPTO's product PVGPATDIS) and those from before 2023 (`patent`) are
both known. Columns are found by their names in the header, in any order. A table is a TSV file or the ZIP as it was
downloaded. Three CSV files (`patents.csv`, `citations.csv`, `classes.csv`) make a custom corpus.
"""

import csv
import errno
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import NamedTuple

from ..common.cli import InputError
from ..common.files import each_file
from ..sample.write import RECORD as SAMPLE

SUFFIXES = (".tsv", ".tsv.zip", ".zip", ".csv", ".csv.zip")
LONGEST_LINE = 1 << 24  # bytes; an abstract is short, but a missing quote makes one field of a whole file
csv.field_size_limit(LONGEST_LINE)
BLOCK = 1 << 22  # bytes
UNPACK = "Unpack the table by hand, and move the ZIP to another folder"
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


@dataclass
class Source:
    """A table that is ready to be read."""

    path: Path
    shown: str  # the file as the user knows it: of an unpacked table, the ZIP
    delimiter: str  # tab in PatentsView's tables, comma in a custom corpus
    quote: str  # around fields; "" in a table without quoting
    header: tuple[str, ...]
    names: dict[str, str | None]  # our column → its name in the header, None if the file has no such column
    mixed: int = 0  # bytes of a buffer of DuckDB if its lines end in different ways, else 0

    @property
    def rows(self) -> int:
        """About how many rows it has."""
        with self.path.open("rb") as file:
            start = file.read(1 << 20)
        return self.path.stat().st_size * max(start.count(b"\n"), start.count(b"\r")) // max(len(start), 1) + 1


def find_tables(folder: Path) -> dict[str, Path]:
    """The files of a corpus by the keys of `TABLES`. Raises `InputError` for missing ones and other formats."""
    if not folder.is_dir():
        raise InputError(f"--tables {folder} is not a folder. Name the one that holds PatentsView's tables")
    files, others = {}, sorted(path for path in folder.iterdir() if path.is_file())
    for key, table in TABLES.items():
        found = [path for stem in table.stems if (path := _find(folder, stem))]
        if found:
            files[key] = found[0]
        elif wrong := [path for path in others if path.name.lower().split(".")[0] in table.stems]:
            raise InputError(f"{wrong[0]}: a table must end in {' or '.join(SUFFIXES)}. Unpack, convert or rename it")
        elif key in ("patent", "citation"):
            names = " or ".join(f"{stem}{'.csv' if stem.endswith('s') else '.tsv'}" for stem in table.stems)
            raise InputError(f"--tables {folder}: found no {names}, nor its ZIP. Add it, or name another folder")
        if len(found) > 1 and key != "cpc_title":  # whose two names may be there
            both = " and ".join(path.name for path in found)
            raise InputError(f"--tables {folder} has {both}, which are one table. Remove the wrong one")
    return files


def source_of(files: dict[str, Path]) -> str:
    """What the tables that `find_tables` found are, for records and model cards."""
    if files["patent"].with_name(SAMPLE).exists():
        return "synthetic sample"
    return "custom corpus" if files["patent"].name.lower().startswith("patents.") else "PatentsView"


def has_tables(folder: Path) -> bool:
    """Whether `folder` holds a file of patents under any of the known names."""
    return any(_find(folder, stem) for stem in TABLES["patent"].stems)


def _find(folder: Path, stem: str) -> Path | None:
    return next((path for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()), None)


def open_tables(files: dict[str, Path], scratch: Path, threads: int = 1) -> dict[str, Source]:
    """Check the headers, and unpack ZIPs into `scratch`. Raises `InputError` if a table is not what its name says."""
    zips = {path: size for path, size in unpacked_sizes(files.values()).items() if _is_zip(path)}
    unpacked = each_file(partial(_unpack, scratch), zips, threads, "unpacking")
    sources = {key: open_table(unpacked.get(path, path), str(path), TABLES[key]) for key, path in files.items()}
    if "abstract" not in sources and sources["patent"].names["abstract"] is None:
        raise InputError(f"{files['patent']}: no column abstract. Add it, or the table g_patent_abstract.tsv")
    return {"abstract": sources["patent"], **sources}


def open_table(path: Path, shown: str, table: Table) -> Source:
    """Check the header of a table, whose file the user knows as `shown`."""
    with path.open("rb") as file:
        start = file.read(BLOCK)
    lines = start.splitlines()[: -1 if len(start) == BLOCK else None]  # the last one may be cut
    try:
        line = lines[0].decode("utf-8-sig") if lines else ""
    except UnicodeDecodeError:
        line = "\0"
    if "\0" in line:
        raise InputError(f"{shown}, line 1: not UTF-8 text. Convert the file to UTF-8")
    delimiter = max("\t,;|", key=line.count)
    columns = next(csv.reader([line], delimiter=delimiter), [])
    header = tuple(name.strip() or f"unnamed {i}" for i, name in enumerate(columns, 1))
    lower = [name.lower() for name in header]
    if twice := [name for name in header if lower.count(name.lower()) > 1]:
        raise InputError(f"{shown}, line 1: the column {twice[0]} occurs twice. Remove one")
    names = {}
    for column, aliases in {**table.columns, **table.optional}.items():
        names[column] = next((alias for alias in aliases if alias in header), None)
        if names[column] is None and column not in table.optional:
            expected = f"expected a column {' or '.join(aliases)}, found {', '.join(header)[:200] or 'no text'}"
            raise InputError(f"{shown}, line 1: {expected}. Add or rename the column")
    is_quoted = delimiter != "\t" or '"' in line or _is_quoted(lines, len(header))
    return Source(path, shown, delimiter, '"' if is_quoted else "", header, names)


def _is_quoted(lines: list[bytes], width: int) -> bool:
    """Whether fields are quoted where needed, as pandas does; in tables from before 2021, a quote is a letter."""
    fields = [line.split(b"\t") for line in lines if line]
    if any(len(line) != width for line in fields):  # tabs or line breaks stand in quotes, or a line is wrong
        text = io.StringIO(b"\n".join(lines).decode(errors="replace"), newline="")
        return all(len(row) == width for row in [*csv.reader(text, delimiter="\t")][:-1] if row)
    quotes = [field for line in fields for field in line if b'"' in field]
    return any(b'""' in field for field in quotes) and all(re.fullmatch(b'"([^"]|"")*"', field) for field in quotes)


def _is_zip(path: Path) -> bool:
    return path.suffix == ".zip" or zipfile.is_zipfile(path)


@contextmanager
def _table_in(archive: Path) -> Iterator[tuple[zipfile.ZipFile, zipfile.ZipInfo]]:
    """Open a ZIP: yield it and the table in it. Raises `InputError` naming it if it cannot be unpacked."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            files = [file for file in zipped.infolist() if "__MACOSX" not in file.filename]
            tables = [file for file in files if file.filename.lower().endswith((".tsv", ".csv"))]
            stem = archive.name.lower().split(".")[0]
            named = [file for file in tables if PurePath(file.filename).stem.lower() == stem]
            if 1 not in (len(tables), len(named)):
                found = [file.filename for file in files[:5]]
                raise InputError(f"{archive}: expected one .tsv file, or {stem}.tsv, in it, found {found}. {UNPACK}")
            yield zipped, (named if len(named) == 1 else tables)[0]
    except CORRUPT as problem:
        if isinstance(problem, OSError) and problem.errno != errno.EINVAL:
            raise  # of the disk
        advice = UNPACK if isinstance(problem, RuntimeError) else "Download it again"  # encrypted, or of another kind
        raise InputError(f"{archive}: not a ZIP that can be unpacked ({problem}). {advice}") from None


def unpacked_sizes(files: Iterable[Path]) -> dict[Path, int]:
    """The bytes of each table, of a ZIP unpacked. Raises `InputError` for what is neither, and a TSV unlike its ZIP."""
    sizes = {path: path.stat().st_size for path in files}
    for path in sizes:
        with path.open("rb") as file:
            start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        if start.startswith((b"<!doctype", b"<html", b"<?xml")):
            raise InputError(f"{path} is an HTML page, not a table. Sign in at data.uspto.gov and download it again")
        if start.startswith((b"\x1f\x8b", b"bzh", b"7z\xbc\xaf", b"\xfd7zxz", b"\x28\xb5\x2f\xfd")):
            raise InputError(f"{path} is compressed, but not a ZIP. Unpack it")
        if start.startswith((b"par1", b"sqlite", b"\xd0\xcf\x11\xe0", b"{", b"[")) or b"[content_types].xml" in start:
            raise InputError(f"{path} is JSON, Parquet, a spreadsheet or a database. Save it as TSV or CSV")
        is_zip = _is_zip(path)
        for archive in (path, path.with_name(f"{path.name}.zip"), path.with_suffix(".zip")):
            if archive.is_file() and _is_zip(archive):
                with _table_in(archive) as (_, table):
                    size = table.file_size
                if not is_zip and size != sizes[path]:
                    found = f"{path} has {sizes[path]:,} bytes, and {size:,} in {archive.name} beside it"
                    raise InputError(f"{found}. Remove the wrong one")
                sizes[path] = size
    return sizes


def _unpack(scratch: Path, archive: Path, moved: Callable[[int], None]) -> Path:
    """Stream the table of a ZIP, as many bytes as it declares, into `scratch`. Names in it are never used as paths."""
    target = scratch / f"{archive.name}.tsv"
    with _table_in(archive) as (zipped, table), zipped.open(table) as source, target.open("wb") as out:
        while block := source.read(BLOCK):
            out.write(block)
            moved(len(block))
    return target
