"""Triplets of any source, as CSV: read completely, or refused with the line."""

from pathlib import Path

import pytest

from patentcl.common.cli import InputError
from patentcl.triplets.dataset import CSV_COLUMNS, load_dataset

ROW = ["1", "Pump", "It pumps.", "2", "Valve", "It opens.", "3", "Lamp", "It shines.", "F04B"]


def write(path: Path, *rows: list[str], header: list[str] = CSV_COLUMNS) -> Path:
    path.write_text("\n".join(",".join(f'"{cell}"' for cell in row) for row in [header, *rows]) + "\n")
    return path


def test_a_csv_with_a_byte_order_mark_and_an_upper_case_suffix_is_read(tmp_path: Path) -> None:
    other = [str(10 + int(cell)) if cell.isdigit() else f"{cell} too" for cell in ROW[:9]] + ["F04B"]
    path = write(tmp_path / "T.CSV", ROW, other)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())

    data = load_dataset(path)

    assert data.texts["patent_id"].tolist() == ["1", "11", "2", "12", "3", "13"]


def test_a_cpc_subclass_gives_section_and_class_and_other_symbols_are_their_own(tmp_path: Path) -> None:
    rows = [[*(f"{cell}{end}" for cell in ROW[:9]), symbol] for end, symbol in (("", "f04b 1/00"), (" too", "C02-f"))]

    texts = load_dataset(write(tmp_path / "t.csv", *rows)).texts.set_index("patent_id")

    symbols = texts[["section", "class", "subclass"]]
    assert symbols.loc[["1", "1 too"]].to_numpy().tolist() == [["F", "F04", "F04B"], ["C02-f"] * 3]
    assert texts["subclasses"]["3"] == []  # a negative's class is not known


def test_triplets_across_splits_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [[f"{cell} {i}" for cell in ROW[:9]] + ["C02F"] for i in range(60)]

    data = load_dataset(write(tmp_path / "t.csv", *rows))

    counts = {split: data.triplets["split"].tolist().count(split) for split in ("train", "val", "test")}
    left_out = 60 - sum(counts.values())
    assert 0 < left_out < 60
    printed = capsys.readouterr().out
    assert all(f"{count} {split}" in printed for split, count in counts.items()) and f"{left_out} left out" in printed


@pytest.mark.parametrize(
    ("rows", "header", "where"),
    [
        ([[*ROW, "more"]], CSV_COLUMNS, r"t\.csv, line 2: .* 10 .* 11"),
        ([ROW, ROW[:7]], CSV_COLUMNS, r"t\.csv, line 3, column n_title: .* 10 .* 7"),
        ([ROW], [*CSV_COLUMNS[:-1], "a_id"], "a_id"),
        ([ROW], ["x"], "a_id"),
        ([["", *ROW[1:]]], CSV_COLUMNS, "triplet 1: .*'', '2', '3'"),
        ([[" ", *ROW[1:]]], CSV_COLUMNS, "triplet 1: .*' ', '2', '3'"),
        ([["1\n7", *ROW[1:]]], CSV_COLUMNS, "triplet 1: "),
        ([ROW, [*ROW[:6], "2", *ROW[7:]]], CSV_COLUMNS, "triplet 2: "),
        ([ROW, ["1", "Another", *ROW[2:]]], CSV_COLUMNS, "patent 1 .*'Another'"),
        ([], CSV_COLUMNS, r"t\.csv"),
    ],
)
def test_a_csv_with_an_error_is_refused(tmp_path: Path, rows: list[list[str]], header: list[str], where: str) -> None:
    with pytest.raises(InputError, match=where):
        load_dataset(write(tmp_path / "t.csv", *rows, header=header))


def test_a_truncated_file_and_another_encoding_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ROW, ROW)
    complete = path.read_bytes()
    for count in (2, 3, 40):  # the last quote, a letter of the last field, fields
        path.write_bytes(complete[:-count])
        with pytest.raises(InputError, match="line 3, column "):
            load_dataset(path)
    path.write_bytes(complete.replace(b"Pump", "Pümp".encode("latin-1")))
    with pytest.raises(InputError, match=r"line 2, column a_title: .*utf-8"):
        load_dataset(path)


def test_a_quote_that_is_missing_is_found_though_the_fields_are_as_many(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ROW, ROW)
    path.write_text(path.read_text().replace('"Lamp"', '"Lamp', 1))

    with pytest.raises(InputError, match=r"t\.csv, line 2, column n_title"):
        load_dataset(path)


def test_a_file_that_is_not_there_is_named_with_its_flag(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--triplets .*none\.csv"):
        load_dataset(tmp_path / "none.csv")
