"""What people hand in instead of good tables: each is read right, or refused in one sentence with exit code 2.

To add an input, add a line to `REFUSED`, with what the sentence names, or to `READ`, with the titles that are read.
"""

import bz2
import errno
import gzip
import io
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import patent_handler
from patentcl.common.cli import run_script
from patentcl.common.files import read_json
from patentcl.tables import rows
from patentcl.tables.patentsview import Table, find_tables, open_tables

Files = dict[str, bytes]
TITLES = ["Pump", "Valve", "Lamp", "Seal", "Rotor"]


def table(*rows: str, between: str = "\t", quote: str = "") -> bytes:
    """Rows, here with commas between their fields."""
    fields = [[f"{quote}{field}{quote}" for field in row.split(",")] for row in rows]
    return "".join(between.join(row) + "\n" for row in fields).encode()


PATENTS = ["patent_id,patent_title,withdrawn", *(f"{i},{title},0" for i, title in enumerate(TITLES, 1))]
ABSTRACTS = ["patent_id,patent_abstract", *(f"{i},A {title} that turns." for i, title in enumerate(TITLES, 1))]
BOTH = ["patent_id,title,abstract", *(f"{i},{title},A {title} that turns." for i, title in enumerate(TITLES, 1))]
LINKS = table("patent_id,citation_patent_id", "2,1", "3,1", "4,2")
TSV = {
    "g_patent.tsv": table(*PATENTS, quote='"'),
    "g_patent_abstract.tsv": table(*ABSTRACTS, quote='"'),
    "g_us_patent_citation.tsv": LINKS,
}
OLD = {"patent.tsv": table(*PATENTS), "g_patent_abstract.tsv": table(*ABSTRACTS), "uspatentcitation.tsv": LINKS}
OWN = {
    "patents.csv": table(*BOTH, between=","),
    "citations.csv": table("citing,cited", "2,1", "3,1", "4,2", between=","),
}


def change(files: Files, name: str, *changes: Any) -> Files:
    """These files with one of them changed by functions, or by pairs of a text and another for it."""
    content = files[name]
    for step in changes:
        if callable(step):
            content = step(content)
        else:
            old, new = (text if isinstance(text, bytes) else text.encode() for text in step)
            assert old in content
            content = content.replace(old, new)
    return {**files, name: content}


tsv = partial(change, TSV, "g_patent.tsv")  # quoted
old = partial(change, OLD, "patent.tsv")  # not quoted
own = partial(change, OWN, "patents.csv")
own_citations = partial(change, OWN, "citations.csv")


def archive(members: Files, declared: int = 0) -> bytes:
    """A ZIP, whose first member is declared to have another size."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
        zipped.filelist[0].file_size = declared or zipped.filelist[0].file_size
    return buffer.getvalue()


def flagged(zipped: bytes, byte: int, value: int) -> bytes:
    """A ZIP of one member with another value at a byte of its header, counted as in the file's first header."""
    changed = bytearray(zipped)
    changed[byte] = changed[changed.rindex(b"PK\1\2") + byte + 2] = value
    return bytes(changed)


PATENT = TSV["g_patent.tsv"]
ZIP = archive({"g_patent.tsv": PATENT})
WITHOUT = {name: content for name, content in TSV.items() if name != "g_patent.tsv"}
MB10 = "ä" * 5_000_000


def zipped(content: bytes) -> Files:
    """The good tables, but this for the ZIP of the patents."""
    return {**WITHOUT, "g_patent.tsv.zip": content}


def cut(count: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:-count]


def ends(*kinds: bytes) -> Callable[[bytes], bytes]:
    """With these line ends in turn."""
    return lambda text: b"".join(line + kinds[i % len(kinds)] for i, line in enumerate(text.splitlines()))


mixed = ends(b"\r\n", b"\r", b"\n")


def encoded(encoding: str) -> Callable[[bytes], bytes]:
    return lambda text: text.decode().encode(encoding)


# Input → the folder of tables, and what the sentence names.
REFUSED: dict[str, tuple[Files, list[str]]] = {
    "no table": ({}, ["--tables", "g_patent.tsv", "patents.csv"]),
    "HTML instead of a TSV": (tsv(lambda _: b"\n<!DOCTYPE html>"), ["g_patent.tsv ", "HTML"]),
    "HTML instead of a ZIP": (zipped(b"<html>Sign in</html>"), ["g_patent.tsv.zip ", "HTML"]),
    "HTML instead of a CSV": (own_citations(lambda _: b"<html>"), ["citations.csv ", "HTML"]),
    "both versions of a table": ({**TSV, "patent.tsv": PATENT}, ["--tables", "g_patent.tsv", " patent.tsv"]),
    "JSON": (own(lambda _: b'[\n {"patent_id": "1"}]'), ["patents.csv ", "CSV"]),
    "Parquet": (tsv(lambda _: b"PAR1\0\0"), ["g_patent.tsv ", "TSV"]),
    "spreadsheet": (own(lambda _: archive({"[Content_Types].xml": b"<x/>"})), ["patents.csv ", "CSV"]),
    "ids of a spreadsheet": (
        own_citations((",1\n", ",1.0E+07\n"), (",2\n", ",1.1E+07\n")),
        ["citations.csv, column cited:", "0 of 3", "'1.0E+07'"],
    ),
    "gzip called TSV": (tsv(gzip.compress), ["g_patent.tsv ", "ZIP"]),
    "bzip2 called ZIP": (zipped(bz2.compress(PATENT)), ["g_patent.tsv.zip ", "ZIP"]),
    "gzip": ({**WITHOUT, "g_patent.tsv.gz": gzip.compress(PATENT)}, ["g_patent.tsv.gz:", ".tsv.zip"]),
    "an optional table in gzip": ({**TSV, "g_cpc_current.tsv.gz": b"\x1f\x8b"}, ["g_cpc_current.tsv.gz:"]),
    "ZIP truncated": (zipped(ZIP[:-20]), ["g_patent.tsv.zip:", "again"]),
    "ZIP damaged": (zipped(ZIP[:50] + b"??" + ZIP[52:]), ["g_patent.tsv.zip:", "again"]),
    "ZIP with another compression": (zipped(flagged(ZIP, 8, 97)), ["g_patent.tsv.zip:", "compression", "by hand"]),
    "ZIP encrypted": (zipped(flagged(ZIP, 6, 1)), ["g_patent.tsv.zip:", "encrypted", "by hand"]),
    "ZIP without a table": (zipped(archive({"a.pdf": b""})), ["g_patent.tsv.zip:", "'a.pdf'"]),
    "ZIP of two tables": (zipped(archive({"a.tsv": PATENT, "b.tsv": b""})), ["zip:", "'a.tsv'", "'b.tsv'"]),
    "ZIP bomb": (zipped(archive({"a.tsv": PATENT}, declared=1 << 50)), ["--data", "disk"]),
    "ZIP larger than it says": (zipped(archive({"a.tsv": PATENT}, declared=50)), ["g_patent.tsv.zip:", "CRC"]),
    "TSV cut beside its ZIP": (
        {**TSV, "g_patent.tsv": PATENT[:67], "g_patent.tsv.zip": ZIP},
        ["g_patent.tsv ", " 67 ", f" {len(PATENT)} ", "g_patent.tsv.zip"],
    ),
    "TSV truncated": (tsv(cut(3)), ["g_patent.tsv, line 6, column withdrawn:"]),
    "unquoted TSV truncated": (old(cut(4)), ["patent.tsv, line 6, column withdrawn:", " 3 ", " 2."]),
    "CSV truncated": (own_citations(cut(3)), ["citations.csv, line 4, column cited:", " 2 ", " 1."]),
    "field missing": (
        tsv(('\t"Lamp"', "")),
        ["g_patent.tsv, line 4, column withdrawn:", " 3 ", " 2.", "--skip-bad-lines"],
    ),
    "tab in an unquoted title": (old(("Lamp", "La\tmp")), ["patent.tsv, line 4:", " 3 ", " 4."]),
    "comma in an unquoted title": (own(("Lamp,", "La,mp,")), ["patents.csv, line 4:", " 3 ", " 4."]),
    "quote missing": (tsv(('"Lamp"', '"Lamp')), ["g_patent.tsv, line 4, column patent_title:"]),
    "quote missing in a CSV": (own(("Lamp,", '"Lamp,')), ["patents.csv, line 4, column title:"]),
    "last quote missing": (tsv(cut(2)), ["g_patent.tsv, line 6, column withdrawn:"]),
    "quotes in a title not doubled": (tsv(("Lamp", 'A "Lamp" of')), ["g_patent.tsv, line 4, column patent_title:"]),
    "mixed line ends, and a field missing": (tsv(('\t"Seal"', ""), mixed), ["g_patent.tsv, line 5:", " 3 ", " 2."]),
    "CR in an unquoted title": (old(("Lamp", "La\rmp")), ["patent.tsv, line 4:", " 3 ", " 2."]),
    "Latin-1": (tsv(("Lamp", b"L\xe4mp")), ["g_patent.tsv, line 4, column patent_title:", "utf-8"]),
    "Latin-1 in a CSV": (own((" Lamp", b" L\xe4mp")), ["patents.csv, line 4, column abstract:", "utf-8"]),
    "Latin-1 in the header": (tsv(("withdrawn", b"gel\xf6scht")), ["g_patent.tsv, line 1:", "UTF-8"]),
    "UTF-16": (tsv(encoded("utf-16")), ["g_patent.tsv, line 1:", "UTF-8"]),
    "UTF-16 without a mark": (own(encoded("utf-16-be")), ["patents.csv, line 1:", "UTF-8"]),
    "NUL instead of a line": (tsv(('"3"\t"Lamp"\t"0"', 99 * "\0")), ["g_patent.tsv, line 4", " 3 ", " 1."]),
    "field of 20 MB": (tsv(("Lamp", 2 * MB10)), ["g_patent.tsv, line 4:", "16777216"]),
    "empty table": (own_citations(lambda _: b""), ["citations.csv, line 1:", "citing"]),
    "empty lines": (tsv(lambda _: b"\n\n"), ["g_patent.tsv, line 1:", "patent_id"]),
    "header only": (own(lambda text: text.splitlines()[0]), ["patents.csv ", "--tables"]),
    "no header": (own_citations(lambda text: text[13:]), ["citations.csv, line 1:", "citing", "2, 1"]),
    "spaces between fields": (own_citations((",", " ")), ["citations.csv, line 1:", "citing cited"]),
}

# Input → the folder of tables, and the titles that are not as in the good ones.
READ: dict[str, tuple[Files, dict[str, str]]] = {
    "quoted": (TSV, {}),
    "not quoted": (OLD, {}),
    "CSV": (OWN, {}),
    "ZIP": (zipped(ZIP), {}),
    "ZIP with a data dictionary": (zipped(archive({"meaning.csv": b"a,b\n", "x/g_patent.tsv": PATENT})), {}),
    "ZIP with an absolute path": (zipped(archive({"/patentcl-escaped.tsv": PATENT})), {}),
    "ZIP with a path upwards": (zipped(archive({"../../escaped.tsv": PATENT})), {}),
    "TSV beside its ZIP": ({**TSV, "g_patent.tsv.zip": ZIP}, {}),
    "unquoted title that begins with quotes": (old(("Lamp", '"Lamp" of')), {"3": '"Lamp" of'}),
    "unquoted title in quotes": (old(("Lamp", '"Lamp"')), {"3": '"Lamp"'}),
    "unquoted titles between two quotes": (
        old(("Valve", '"Valve'), ("Seal", 'Seal of 3"')),
        {"2": '"Valve', "4": 'Seal of 3"'},
    ),
    "quotes where pandas writes them": (
        old(("Lamp", '"A ""Lamp"""'), ("Seal", '"Se\n\tal"')),
        {"3": 'A "Lamp"', "4": "Se\n\tal"},
    ),
    "only quotes in quotes": (old(("Rotor", '"A ""Rotor"""')), {"5": 'A "Rotor"'}),
    "byte order mark": (tsv(encoded("utf-8-sig")), {}),
    "byte order mark, not quoted": (own(encoded("utf-8-sig")), {}),
    "CR": (tsv(ends(b"\r")), {}),
    "CR in a CSV": (own_citations(ends(b"\r")), {}),
    "CR in a large CSV": (own(("Lamp,", f"{MB10},"), ends(b"\r")), {"3": MB10}),
    "CRLF, not quoted": (old(ends(b"\r\n")), {}),
    "CRLF, and LF in a title": (tsv(("Lamp", "La?mp"), ends(b"\r\n"), ("?", "\n")), {"3": "La\nmp"}),
    "mixed line ends": (tsv(("Lamp", 'La""\tmp'), mixed), {"3": 'La"\tmp'}),
    "mixed line ends, not quoted": (old(("Lamp", '"Lamp'), mixed), {"3": '"Lamp'}),
    "mixed line ends in all CSVs": (change(own(mixed), "citations.csv", mixed), {}),
    "no line end at the end": (tsv(bytes.rstrip), {}),
    "empty lines between": (tsv(("\n", "\n\n")), {}),
    "NUL in a title": (tsv(("Lamp", "La\0mp")), {"3": "La\0mp"}),
    "field of 10 MB": (tsv(("Lamp", MB10)), {"3": MB10}),
    "joined files": (tsv(lambda text: text + text), {}),
    "joined CSVs": (own(lambda text: text + "\ufeff".encode() + text), {}),
    "semicolons": (own((",", ";")), {}),
    "bars": (tsv(("\t", "|")), {}),
}


@pytest.fixture
def handler(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Write files into a folder, run patent_handler.py on it, and return its exit code and what it printed last."""
    folder = tmp_path / "Tabellen für l'eau 水"
    folder.mkdir()

    def run(files: Files, *flags: str) -> tuple[int, str]:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        for stream in ("stdout", "stderr"):
            monkeypatch.setattr(sys, stream, getattr(sys, stream))  # run_script replaces them
        argv = ["--tables", str(folder), "--data", str(tmp_path / "data"), "--graph", "none", *flags]
        try:
            run_script(lambda: patent_handler.main(argv))
        except SystemExit as ended:
            return int(ended.code or 0), capfd.readouterr().err.rstrip("\n").rpartition("\n")[2]
        return 0, capfd.readouterr().out

    return run


def results(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "data").rglob("*") if path.suffix != ".lock"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_input_is_refused_in_one_sentence(handler: Callable[..., Any], tmp_path: Path, name: str) -> None:
    files, named = REFUSED[name]

    code, sentence = handler(files)

    assert (code, sentence[:7]) == (2, "error: ")
    assert [fact for fact in named if fact not in sentence] == [], sentence
    assert not results(tmp_path)


@pytest.mark.parametrize("name", READ)
def test_an_odd_input_is_read(handler: Callable[..., Any], tmp_path: Path, name: str) -> None:
    files, odd = READ[name]

    assert handler(files)[0] == 0

    patents = pd.read_csv(tmp_path / "data" / "graph" / "patents.csv", dtype=str, lineterminator="\n")
    titles = {str(i): title for i, title in enumerate(TITLES, 1)}
    assert dict(zip(patents["patent_id"], patents["title"], strict=True)) == titles | odd
    assert read_json(tmp_path / "data" / "graph" / "graph.json")["counts"]["citations"] == 3
    assert not list(tmp_path.rglob("*escaped*")) and not Path("/patentcl-escaped.tsv").exists()


def test_bad_lines_are_skipped_counted_and_copied_on_request(handler: Callable[..., Any], tmp_path: Path) -> None:
    files = change(tsv(('\t"Lamp"', "")), "g_patent_abstract.tsv", ("Seal", b"S\xe9al"), ('"A Pump', '"A "Pump'))

    code, printed = handler(files, "--skip-bad-lines")

    copied = tmp_path / "data" / "graph" / "bad_lines.txt"
    assert code == 0 and str(copied) in printed
    where, lines = copied.read_text().splitlines()[::2], copied.read_text().splitlines()[1::2]
    expected = ("g_patent.tsv, line 4, ", "g_patent_abstract.tsv, line 2, ", "g_patent_abstract.tsv, line 5, ")
    assert all(fact in line for fact, line in zip(expected, where, strict=True))
    assert lines[:2] == ['"3"\t"0"', '"1"\t"A "Pump that turns."']
    record = read_json(copied.with_name("graph.json"))
    assert (record["counts"]["patents"], record["counts"]["with abstract"]) == (4, 2)
    assert sorted(count for reason, count in record["dropped"].items() if "g_patent" in reason) == [1, 2]
    assert handler({})[0] == 2  # without the flag it is another graph


def test_a_quote_that_takes_the_next_line_along_counts_as_two_lines(
    handler: Callable[..., Any], tmp_path: Path
) -> None:
    handler(own_citations(("3,1", '3,"1'), ("4,2", '"4",2')), "--skip-bad-lines")

    lost = read_json(tmp_path / "data" / "graph" / "graph.json")["dropped"]
    assert [count for reason, count in lost.items() if "citations.csv" in reason] == [2]


def test_a_quote_that_takes_the_rest_of_a_table_along_is_not_skipped(handler: Callable[..., Any]) -> None:
    rest = "".join(f"4,{cited}\n" for cited in range(2_000, 5_000))

    code, printed = handler(own_citations(("3,1", '3,"1'), ("4,2\n", rest)), "--skip-bad-lines")

    assert code == 2 and "citations.csv, line 3, " in printed


def test_a_full_disk_is_not_taken_for_a_bad_zip(handler: Callable[..., Any], tmp_path: Path) -> None:
    for name, content in zipped(ZIP).items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "g_patent.tsv.zip.tsv").symlink_to("/dev/full")

    with pytest.raises(OSError) as raised:
        open_tables(find_tables(tmp_path), tmp_path / "scratch")

    assert raised.value.errno == errno.ENOSPC


MOUNT = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/tmp"]  # noqa: S108 (in a namespace of its own)


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run(MOUNT, capture_output=True, check=False).returncode > 0,
    reason="needs unshare, to mount a small disk",
)
@pytest.mark.parametrize(("disk", "named"), [("size=1m", ["--data", "free"]), ("ro", ["Read-only"])])
def test_a_small_and_a_read_only_disk_are_named(tmp_path: Path, disk: str, named: list[str]) -> None:
    tables, place = tmp_path / "tables", tmp_path / "disk"
    for folder in (tables, place):
        folder.mkdir()
    for name, content in own().items():
        (tables / name).write_bytes(content)
    script = [sys.executable, patent_handler.__file__, "--tables", str(tables), "--data", str(place / "data")]

    mounted = f"mount -t tmpfs -o {disk} none {shlex.quote(str(place))} && exec {shlex.join(script)}"
    ended = subprocess.run(["unshare", "-rm", "sh", "-c", mounted], capture_output=True, text=True, check=False)  # noqa: S607

    sentence = ended.stderr.rpartition("error: ")[2]
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    assert [fact for fact in [str(place), *named] if fact not in sentence] == [], ended.stderr


def test_no_row_is_lost_or_repeated_where_buffers_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LONGEST_LINE", 1024)
    lines = [f"{i},{'x' * (i * i % 31)}" for i in range(9000)]
    file = tmp_path / "t.csv"
    file.write_bytes(ends(b"\r\n", b"\n", b"\r\n", b"\r")("\n".join(["id,text", *lines]).encode()))
    assert any(file.read_bytes()[end - 1 : end + 1] == b"\r\n" for end in range(4096, file.stat().st_size, 4096))

    read = rows.read_table(file, Table((), {"id": ("id",), "text": ("text",)}, {}))

    assert [",".join(row.values()) for row in read.to_pylist()] == lines
