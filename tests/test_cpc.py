"""One rule for CPC symbols and one for families, the same in Python and in SQL."""

import pandas as pd
import pytest

from patentcl.common.duck import connect
from patentcl.tables import cpc, family


@pytest.mark.parametrize(
    ("symbol", "is_cpc", "section", "class_"),
    [
        ("H01L", True, "H", "H01"),
        ("Y10T", True, "Y", "Y10"),
        ("C02f", False, "C02f", "C02f"),
        ("h01l", False, "h01l", "h01l"),
        ("I01L", False, "I01L", "I01L"),
        ("A٣٣B", False, "A٣٣B", "A٣٣B"),  # digits, but not of the scheme
        ("H01", False, "H01", "H01"),
        ("H01L\n", False, "H01L\n", "H01L\n"),
        ("pumps", False, "pumps", "pumps"),
        ("4711", False, "4711", "4711"),
        ("", False, "", ""),
    ],
)
def test_a_symbol_has_the_same_section_and_class_in_python_and_in_sql(
    symbol: str, is_cpc: bool, section: str, class_: str
) -> None:
    with connect() as db:
        db.execute(cpc.MACROS)
        in_sql = db.execute("SELECT is_cpc($s), section_of($s), class_of($s)", {"s": symbol}).fetchone()

    assert in_sql == (cpc.is_cpc(symbol), cpc.section_of(symbol), cpc.class_of(symbol)) == (is_cpc, section, class_)


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("H01L", "H01L"),
        *[
            (written, "A01B")
            for written in ("A01B   1/00", "A01B1/00", "a01b", "A01 B", "a 01 b 33/08", "A01B0001000000")
        ],
        *[(other, other) for other in ("pumps", "A", "4711", "A01", "I01L 1/00", "A02BC01", "A01B/x", "A01.B", "")],
        ("A01B 1/00; C02F 1/00", "A01B 1/00; C02F 1/00"),  # two symbols
    ],
)
def test_a_symbol_is_cut_to_its_subclass(symbol: str, expected: str) -> None:
    with connect() as db:
        db.execute(cpc.MACROS)
        assert db.execute("SELECT subclass_of($s)", {"s": symbol}).fetchone() == (expected,)


def test_the_sections_are_those_that_a_symbol_can_have() -> None:
    assert [letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if cpc.is_cpc(f"{letter}01B")] == list(cpc.SECTIONS)


@pytest.mark.parametrize(
    ("subclasses", "expected"),
    [
        (["A01B", "H04L", "", "A01B"], True),
        (["A01B", "H04L", "pumps"], True),  # a few others
        (["A", "B", "C", "M"], False),  # letters, but no sections
        (["pumps", "pumps", "A01B", "valves"], False),
        (["", ""], False),
        ([], False),
    ],
)
def test_a_corpus_uses_the_cpc_if_most_of_its_subclasses_do(subclasses: list[str], expected: bool) -> None:
    assert cpc.uses_cpc(subclasses) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A pump  with a\nvalve.", "apumpwithavalve"),
        ("a PUMP_with; a VALVE", "apumpwithavalve"),
        ("ΑΣ ΟΔΟΣ", "ασοδοσ"),
        ("12 ½ ² Ⅷ", "12½²ⅷ"),
        ("中文 µ", "中文µ"),
        (" .", ""),
        ("", ""),
    ],
)
def test_the_text_of_a_family_is_the_same_in_python_and_in_sql(text: str, expected: str) -> None:
    with connect() as db:
        db.execute(family.MACROS)
        in_sql = db.execute("SELECT letters($text)", {"text": text}).fetchone()

    in_python = family.text_keys(pd.DataFrame({"patent_id": ["7"], "abstract": [text]}))

    assert in_sql == (expected,)
    assert in_python.tolist() == [expected or ":id:7"]
