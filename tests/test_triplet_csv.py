"""Dataset of others, as CSV: read whole, or refused with the line."""

from pathlib import Path

import pytest

from patentcl.common.cli import InputError
from patentcl.triplets.dataset import COLUMNS, load_dataset

ROW = ["1", "Pump", "It pumps.", "2", "Valve", "It opens.", "3", "Lamp", "It shines.", "F04B"]


def write(path: Path, *rows: list[str], header: list[str] = COLUMNS) -> Path:
    path.write_text("\n".join(",".join(f'"{cell}"' for cell in row) for row in [header, *rows]) + "\n")
    return path


def test_a_csv_with_a_byte_order_mark_and_a_big_suffix_is_read(tmp_path: Path) -> None:
    other = [str(10 + int(cell)) if cell.isdigit() else f"{cell} too" for cell in ROW[:9]] + ["F04B"]
    path = write(tmp_path / "T.CSV", ROW, other)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())

    data = load_dataset(path)

    assert data.texts["patent_id"].tolist() == ["1", "11", "2", "12", "3", "13"]


def test_triplets_across_splits_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [[f"{cell} {i}" for cell in ROW[:9]] + ["C02F"] for i in range(60)]

    data = load_dataset(write(tmp_path / "t.csv", *rows))

    train, val, test = ((data.triplets["split"] == split).sum() for split in ("train", "val", "test"))
    assert 0 < train + val + test < 60
    told = f"60 triplets: {train} train, {val} val, {test} test, {60 - train - val - test} left out because"
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "header", "says"),
    [([[*ROW, "more"]], COLUMNS, "line 2: 11 fields, but the header has 10"),
     ([ROW, ROW[:7]], COLUMNS, "line 3: 7 fields"),
     ([ROW], [*COLUMNS[:-1], "a_id"], "line 1: .* a_id, found 2"),
     ([ROW], ["x"], "line 1: .* a_id, found 0"),
     ([["", *ROW[1:]]], COLUMNS, "triplet 1: a_id, p_id and n_id are , 2, 3"),
     ([ROW, [*ROW[:6], "2", *ROW[7:]]], COLUMNS, "triplet 2"),
     ([ROW, ["1", "Another", *ROW[2:]]], COLUMNS, "patent 1 has two different texts"),
     ([], COLUMNS, "holds no triplet, only a header")],
)  # fmt: skip
def test_a_csv_that_is_not_whole_is_refused(
    tmp_path: Path, rows: list[list[str]], header: list[str], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        load_dataset(write(tmp_path / "t.csv", *rows, header=header))


def test_a_cut_or_foreign_encoding_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ROW, ROW)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="line 3: unexpected end of data"):
        load_dataset(path)
    path.write_bytes("é".encode("latin-1"))
    with pytest.raises(InputError, match="is not UTF-8"):
        load_dataset(path)
