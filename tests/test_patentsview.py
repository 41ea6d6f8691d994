"""Tables are found by their names and read by their headers; an error names the file and the line."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from patentcl.common.cli import InputError
from patentcl.common.files import fingerprint
from patentcl.sample.write import write_sample
from patentcl.tables.patentsview import find_tables, open_tables
from patentcl.tables.restructure import restructure


def restructured(tables: Path, data: Path) -> tuple[pd.DataFrame, bytes]:
    restructure(tables, data / "graph")
    patents = pd.read_csv(data / "graph" / "patents.csv", dtype=str, keep_default_na=False)
    patents = patents.sort_values("patent_id", ignore_index=True)  # they are in the order of the abstracts
    return patents, (data / "graph" / "citations.csv").read_bytes()


def test_tables_are_found_under_their_keys_and_hashed_by_content(tables: Path, tmp_path: Path) -> None:
    shutil.copytree(tables, tmp_path / "copy")

    original, copy = find_tables(tables), find_tables(tmp_path / "copy")

    assert original["citation"].name == "g_us_patent_citation.tsv"
    assert original.keys() == {"patent", "citation", "cpc", "abstract", "cpc_title"}
    assert fingerprint(original.values()) == fingerprint(copy.values(), threads=2)
    with pytest.raises(InputError, match=r"--tables .*nowhere"):
        find_tables(tmp_path / "nowhere")


@pytest.mark.parametrize(("old", "zipped"), [(True, False), (False, True), (True, True)])
def test_old_columns_and_zips_give_the_same_graph(tables: Path, tmp_path: Path, old: bool, zipped: bool) -> None:
    write_sample(tmp_path / "tables", patents=600, old_columns=old, zipped=zipped)

    patents, citations = restructured(tmp_path / "tables", tmp_path / "other")

    expected, expected_citations = restructured(tables, tmp_path / "today")
    pd.testing.assert_frame_equal(patents, expected)
    assert citations == expected_citations


def test_old_line_ends_give_the_same_graph(tables: Path, tmp_path: Path) -> None:
    write_sample(tmp_path / "tables", patents=600)
    citations = tmp_path / "tables" / "g_us_patent_citation.tsv"
    citations.write_bytes(citations.read_bytes().replace(b"\n", b"\r"))

    assert restructured(citations.parent, tmp_path / "other")[1] == restructured(tables, tmp_path / "today")[1]


def test_titles_come_from_cpc_group_or_g_cpc_title_or_are_empty(tables: Path, tmp_path: Path) -> None:
    with_titles = tmp_path / "a"
    shutil.copytree(tables, with_titles)
    group = pd.read_csv(with_titles / "cpc_group.tsv", sep="\t", dtype=str)
    (with_titles / "cpc_group.tsv").unlink()
    renamed = group.set_axis(["cpc_subclass", "cpc_subclass_title"], axis=1)
    renamed.assign(cpc_group="x", cpc_group_title="y").to_csv(with_titles / "g_cpc_title.tsv", sep="\t", index=False)
    without = tmp_path / "b"
    shutil.copytree(with_titles, without)
    (without / "g_cpc_title.tsv").unlink()

    restructure(with_titles, tmp_path / "graph-a")
    restructure(without, tmp_path / "graph-b")

    a, b = (pd.read_csv(tmp_path / f"graph-{x}" / "cpc_subclasses.csv", keep_default_na=False)["title"] for x in "ab")
    assert set(a) <= set(group["title"])
    assert set(b) == {""}


def changed(tables: Path, tmp_path: Path, name: str, change: bytes | None, line: int = 0) -> Path:
    """A copy of the tables in which one file is missing (None) or has another content, or another line."""
    file = shutil.copytree(tables, tmp_path / "changed") / name
    lines = file.read_bytes().split(b"\n")
    if change is None:
        file.unlink()
    else:
        file.write_bytes(b"\n".join([*lines[: line - 1], change, *lines[line:]]) if line else change)
    return file.parent


@pytest.mark.parametrize(
    ("name", "change", "line", "named"),
    [
        ("g_us_patent_citation.tsv", None, 0, r"--tables .*g_us_patent_citation\.tsv"),
        ("g_patent_abstract.tsv", None, 0, r"g_patent_abstract\.tsv"),
        ("g_cpc_current.tsv", b"<!DOCTYPE html><html>sign in</html>", 0, r"g_cpc_current\.tsv.*HTML"),
        ("g_patent.tsv", b'"patent_id"\t"name"\n', 0, r"g_patent\.tsv, line 1: .*patent_title or title"),
        ("g_patent.tsv", b"patent_id\ttitle\tTitle\n", 0, r"g_patent\.tsv, line 1: .*title"),
        ("g_patent.tsv", b"patent_id\ttitle\n", 0, r"g_patent\.tsv .*--tables"),
        ("g_cpc_current.tsv", b'"1"\t0\t"A"', 5, r"g_cpc_current\.tsv, line 5, column cpc_class: .* 7 .* 3\b"),
        ("g_cpc_current.tsv", b"1\t0\ta\tb\tc\td\te\tf", 5, r"g_cpc_current\.tsv, line 5: .* 7 .* 8\b"),
        ("g_cpc_current.tsv", b"1\t0\tA\tA01\t\xff\td\te", 5, r"tsv, line 5, column cpc_subclass: .*(?i:utf-8)"),
        ("g_patent.tsv", b"", 0, r"g_patent\.tsv, line 1: "),
        ("g_patent.tsv", b"9\tutility\t1976-01-06\tA pump\tA\t1\t?\tx.xml", 3, r"g_patent\.tsv, patent 9: .*'\?'"),
        ("g_cpc_current.tsv", b"9\t0\tA\tA01\tA01B;A01C\td\te", 5, r"g_cpc_current\.tsv, patent 9: .*A01B;A01C"),
    ],
)
def test_an_error_in_a_table_names_the_file_and_the_line(
    tables: Path, tmp_path: Path, name: str, change: bytes | None, line: int, named: str
) -> None:
    folder = changed(tables, tmp_path, name, change, line)

    with pytest.raises(InputError, match=named):
        restructure(folder, tmp_path / "graph")

    assert not (tmp_path / "graph").exists()


def test_names_inside_a_zip_are_not_used_as_paths(tables: Path, tmp_path: Path) -> None:
    folder = changed(tables, tmp_path, "g_patent.tsv", None)
    with zipfile.ZipFile(folder / "g_patent.tsv.zip", "w") as archive:
        archive.write(tables / "g_patent.tsv", "../../escaped/g_patent.tsv")
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    source = open_tables(find_tables(folder), scratch)["patent"]

    assert source.path.parent == scratch
    assert not (tmp_path / "escaped").exists()


def test_an_error_in_a_zipped_table_names_the_zip(tables: Path, tmp_path: Path) -> None:
    folder = changed(tables, tmp_path, "g_cpc_current.tsv", b"1\t0", line=7)
    with zipfile.ZipFile(folder / "g_cpc_current.tsv.zip", "w") as archive:
        archive.write(folder / "g_cpc_current.tsv", "g_cpc_current.tsv")
        archive.writestr("__MACOSX/._g_cpc_current.tsv", "left by another system")
    (folder / "g_cpc_current.tsv").unlink()

    with pytest.raises(InputError, match=r"changed/g_cpc_current\.tsv\.zip, line 7, column cpc_section: .* 2\b"):
        restructure(folder, tmp_path / "graph")


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_lines_are_counted_as_in_an_editor(custom_corpus: Callable[..., Path], tmp_path: Path, line_end: bytes) -> None:
    folder = custom_corpus([("1", "A pump", "A\npump\nwith a valve")], [], [])
    file = folder / "patents.csv"
    file.write_bytes((file.read_bytes() + b"\n\n2,no abstract\n").replace(b"\n", line_end))

    with pytest.raises(InputError, match=r"patents\.csv, line 7, column abstract"):
        restructure(folder, tmp_path / "graph")


def test_a_web_page_and_a_corrupt_zip_are_refused(tables: Path, tmp_path: Path) -> None:
    folder = changed(tables, tmp_path, "g_patent.tsv", None)
    (folder / "g_patent.tsv.zip").write_text("<html>Please sign in</html>")
    with pytest.raises(InputError, match=r"g_patent\.tsv\.zip.*HTML"):
        open_tables(find_tables(folder), tmp_path)

    (folder / "g_patent.tsv.zip").write_bytes(b"PK\3\4 broken")
    with pytest.raises(InputError, match=r"g_patent\.tsv\.zip.*ZIP"):
        open_tables(find_tables(folder), tmp_path)
