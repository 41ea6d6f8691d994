"""Tables become numbered patents and CSVs, with every dropped row counted and every text intact."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from patentcl.common import resources
from patentcl.common.cli import InputError
from patentcl.common.files import read_json
from patentcl.common.resources import Resources
from patentcl.tables.import_csvs import FILES
from patentcl.tables.overview import overview
from patentcl.tables.patentsview import Source, find_tables
from patentcl.tables.restructure import restructure

RANK, CLASSES = "rank:ID(Patent){id-type:long}", "subclasses:string[]"


def patents_of(graph: Path) -> pd.DataFrame:
    patents = pd.read_csv(graph / "patents.csv", dtype=str, keep_default_na=False)
    return patents.sort_values(RANK, key=lambda ranks: ranks.astype(int), ignore_index=True)


def dropped(record: dict[str, Any], text: str) -> int:
    """What was dropped for reasons that hold a text."""
    return sum(count for reason, count in record["dropped"].items() if text in reason)


def test_every_branch_is_one_range_of_ranks_and_unclassified_patents_come_last(mined_data: Path) -> None:
    patents = patents_of(mined_data / "graph")
    branches = pd.read_csv(mined_data / "graph" / "cpc_subclasses.csv", keep_default_na=False)

    assert patents[RANK].astype(int).tolist() == list(range(len(patents)))
    for _, branch in branches.iterrows():
        symbol, size = branch.iloc[0], branch["count:long"]
        alone = (patents["subclass"].str[:3] == symbol[:3]).sum() == size  # no other subclass of its class has patents
        for level, width in (("", 4), ("sibling_", 1 if alone else 3), ("section_", 1)):
            first, count = branch[f"{level}first:long"], branch[f"{level}others:long"] + size if level else size
            symbols = patents["subclass"].iloc[first : first + count].str[:width]
            assert set(symbols) <= {symbol[:width]}
            assert count == (patents["subclass"].str[:width] == symbol[:width]).sum()
    assert (patents["subclass"] == "").sum() == (patents["subclass"].iloc[::-1] == "").cumprod().sum()


def test_texts_are_intact_byte_for_byte(tables: Path, mined_data: Path) -> None:
    csv.field_size_limit(1 << 30)
    with (tables / "g_patent_abstract.tsv").open(encoding="utf-8", newline="") as file:
        raw = {row["patent_id"]: row["patent_abstract"] for row in csv.DictReader(file, delimiter="\t")}
    with (mined_data / "graph" / "patents.csv").open(encoding="utf-8", newline="") as file:
        kept = {row["patent_id"]: row["abstract"] for row in csv.DictReader(file)}

    assert all(kept[patent] == raw.get(patent, "") for patent in kept)
    hard = "".join(kept.values())
    assert all(sign in hard for sign in ('"', "\n", "\r\n", "\t", ";", "\\", "µ", "中"))


def test_kept_and_dropped_rows_add_up_to_the_tables(tables: Path, mined_data: Path) -> None:
    record = read_json(mined_data / "graph" / "graph.json")
    counts, dropped = record["counts"], record["dropped"]

    files = {"g_patent": "patents", "g_us_patent_citation": "citations", "g_cpc_current": "classifications"}
    for table, kept in files.items():
        reasons = [count for reason, count in dropped.items() if reason.startswith(f"{kept}:")]
        with (tables / f"{table}.tsv").open(encoding="utf-8", newline="") as file:
            assert sum(1 for _ in csv.DictReader(file, delimiter="\t")) == counts[kept] + sum(reasons)
    assert dropped["citations: repeated"] > 0
    assert dropped["citations: of itself"] > 0
    assert dropped["patents: withdrawn"] > 0


def test_withdrawn_patents_are_kept_on_request(tables: Path, tmp_path: Path) -> None:
    record = restructure(tables, tmp_path / "graph", keep_withdrawn=True)

    assert record["dropped"]["patents: withdrawn"] == 0


def test_withdrawn_patents_are_left_out_however_the_flag_is_written(
    custom_corpus: Callable[..., Path], tmp_path: Path
) -> None:
    folder = custom_corpus([], [], [])
    yes, no = (
        ["1", "1.0", "01", " 1", "y", "Yes", "true", "T"],
        ["", "0", "0.0", "00", "n", "False", "nan", "None", "\\N"],
    )
    rows = [f"{number},A,B,{flag}" for number, flag in enumerate([*yes, *no])]
    (folder / "patents.csv").write_text("\n".join(["patent_id,title,abstract,withdrawn", *rows, ""]))

    record = restructure(folder, tmp_path / "graph")

    assert record["dropped"]["patents: withdrawn"] == len(yes)
    assert patents_of(tmp_path / "graph")["patent_id"].astype(int).min() == len(yes)

    (folder / "patents.csv").write_text("\n".join(["patent_id,title,abstract,withdrawn", *rows, "99,A,B,maybe", ""]))
    with pytest.raises(InputError, match=r"patents\.csv, patent 99\b.*'maybe'"):
        restructure(folder, tmp_path / "other")


def dated(folder: Path, dates: list[str], graph: Path) -> dict[str, Any]:
    """Restructure patents 0, 1, … of these dates, and return the record."""
    rows = [f"{number},Title,Text {number},{date}" for number, date in enumerate(dates)]
    (folder / "patents.csv").write_text("\n".join(["patent_id,title,abstract,date", *rows, ""]))
    return restructure(folder, graph)


def days_of(graph: Path) -> list[str]:
    patents = patents_of(graph).sort_values("patent_id", key=lambda names: names.astype(int))
    return patents["date"].tolist()


def test_a_date_is_a_plausible_day_or_unknown(custom_corpus: Callable[..., Path], tmp_path: Path) -> None:
    one = ["2012-05-03", "2012-5-3", "2012/05/03", "2012.5.03", " 20120503 ", "20120503.0", "2012-05-03 00:00:00"]
    one += ["2012-05-03T23:59:59.123Z", "2012-5-3 9:00+02:00"]
    none = ["9999-12-31", "0001-01-01", "infinity", "-infinity", "epoch", "NaT", "0000-00-00", "2012-02-30"]
    none += ["1699-12-31", "2029-01-01", "2012", "2012-05", "03/05/2012", "12012-05-03", "2012-05-03 (BC)"]
    dates = [*one, *none, "", "1700-01-01", "2027-12-31"]

    record = dated(custom_corpus([], [], []), dates, tmp_path / "graph")

    assert days_of(tmp_path / "graph") == ["2012-05-03"] * len(one) + [""] * (len(none) + 1) + dates[-2:]
    assert dropped(record, "infinity") == len(none)  # an example


def test_a_later_year_is_plausible_if_all_years_before_it_have_patents(
    custom_corpus: Callable[..., Path], tmp_path: Path
) -> None:
    later, folder = ["2027-06-01", "2028-06-01", "2029-06-01", "2031-06-01"], custom_corpus([], [], [])

    dated(folder, later, tmp_path / "all")
    dated(folder, later[1:], tmp_path / "without 2027")

    assert days_of(tmp_path / "all") == [*later[:3], ""]
    assert days_of(tmp_path / "without 2027") == ["", "", ""]


def test_unknown_dates_are_older_than_all(custom_corpus: Callable[..., Path], tmp_path: Path) -> None:
    dates = ["2012-5-3", "2012-11-03", "9999-12-31", "", "1976/1/6"]

    dated(custom_corpus([], [], []), dates, tmp_path / "graph")

    place = patents_of(tmp_path / "graph").set_index("patent_id")["time_place:long"].astype(int)
    assert place["1"] < place["0"] < place["4"] < place["2"] == place["3"]


@pytest.mark.parametrize("is_patents", [False, True])
@pytest.mark.parametrize("written", ["{}.0", "0{}", "{} ", "US{}B2", "US-{}-A1", "US {:,}"])
def test_ids_that_tables_write_in_different_ways_are_shown(
    custom_corpus: Callable[..., Path], tmp_path: Path, written: str, is_patents: bool
) -> None:
    plain, others = "7654321", written.format(7654321)
    patent, citing = (others, plain) if is_patents else (plain, others)
    folder = custom_corpus(
        [(patent, "A", "A pump"), ("D12", "B", "A valve")], [(citing, "D12"), ("D12", citing)] * 9, []
    )

    with pytest.raises(InputError) as refused:
        restructure(folder, tmp_path / "graph")

    for part in (f"{folder / 'citations.csv'}, column c", repr(citing), repr(patent), "patents.csv"):
        assert part in str(refused.value)
    assert not (tmp_path / "graph").exists()


def test_ids_of_which_only_the_short_ones_are_padded_are_shown(
    custom_corpus: Callable[..., Path], tmp_path: Path
) -> None:
    ids = [str(number) for number in range(9_999_990, 10_000_003)]
    classes = [(name.zfill(8), "A01B") for name in ids]
    folder = custom_corpus([(name, "A", f"Text {name}") for name in ids], [], classes)

    with pytest.raises(InputError, match=r"classes\.csv, column patent_id: 3 of 13\b.*'9999990'.*'09999990'"):
        restructure(folder, tmp_path / "graph")


def test_a_table_of_other_patents_is_refused(custom_corpus: Callable[..., Path], tmp_path: Path) -> None:
    folder = custom_corpus([("1", "A", "A pump"), ("2", "B", "A valve")], [("2", "1")], [("77", "F04B")])

    with pytest.raises(InputError, match=r"classes\.csv, column patent_id: 0 of 1\b.*'1'.*'77'"):
        restructure(folder, tmp_path / "graph")


def test_a_text_under_many_titles_is_no_abstract(custom_corpus: Callable[..., Path], tmp_path: Path) -> None:
    texts = {  # text → number of titles
        "No abstract available.": 12,
        "NaN": 10,
        "-": 3,
        "This sentence, which is longer than ten words, stands instead of the abstract of every old patent.": 30,
        "A valve.": 9,  # too few to tell
        "A pump with a piston, a cylinder, two valves, a spring, a seal, a crank and a motor that turns it.": 12,
        "A family of one long text: " + "a pump with a piston, a cylinder and two valves. " * 20: 40,
    }
    one_title = [(f"same {n}", "A pump", "Continued.") for n in range(40)]
    patents = [
        (f"{k} {n}", f"Title {n}", text) for k, (text, titles) in enumerate(texts.items()) for n in range(titles)
    ]

    folder = custom_corpus([*patents, *one_title], [], [])
    record = restructure(folder, tmp_path / "graph")
    restructure(folder, tmp_path / "one thread", resources=Resources("1GB", threads=1))

    kept = patents_of(tmp_path / "graph")
    abstracts = kept[kept["has_abstract:boolean"] == "true"].groupby("abstract")
    assert abstracts.size().to_dict() == {**dict([*texts.items()][4:]), "Continued.": 40}
    assert abstracts["family:long"].nunique().eq(1).all()
    without = kept[kept["has_abstract:boolean"] == "false"]
    assert without["family:long"].is_unique and set(without["abstract"]) == {"", "-"}
    for start, count in (("No abstract", 12), ("NaN", 10), ("This sentence", 30)):
        assert dropped(record, f"'{start}") == count
    assert record["counts"]["with abstract"] == 9 + 12 + 40 + 40
    for name in (*FILES, "graph.json"):
        assert (tmp_path / "graph" / name).read_bytes() == (tmp_path / "one thread" / name).read_bytes()


def test_full_symbols_are_cut_to_the_subclass(custom_corpus: Callable[..., Path], tmp_path: Path) -> None:
    symbols = ["A01B", "A01B   1/00", "a01b", "A01 B", "H04L2012/5603", "C02f 1/00 (2006.01)", "pumps", "M"]
    patents = [(str(n), f"Title {n}", f"Text {n}") for n in range(len(symbols))]
    folder = custom_corpus(patents, [], [*((str(n), symbol) for n, symbol in enumerate(symbols)), ("0", "A01B 3/00")])
    (folder / "cpc_group.csv").write_text("id,title\nA01B 1/00,Hand tools\na01b,Soil working\n")

    record = restructure(folder, tmp_path / "graph")

    kept = patents_of(tmp_path / "graph").sort_values("patent_id")
    assert kept["subclass"].tolist() == ["A01B"] * 4 + ["H04L", "C02F", "pumps", "M"]
    assert kept[CLASSES].iloc[0] == "A01B"
    assert dropped(record, "cut") == 6 and record["dropped"]["classifications: same subclass again"] == 1
    titles = pd.read_csv(tmp_path / "graph" / "cpc_subclasses.csv", index_col=0)["title"]
    assert titles["A01B"] == "Soil working"


@pytest.mark.parametrize("several", ["A01B, H04L", "A01B|H04L", "A01B 1/00, H04L 2/00", "A01B; H04L", "a01b H04L"])
def test_several_symbols_in_one_field_are_refused(
    custom_corpus: Callable[..., Path], tmp_path: Path, several: str
) -> None:
    folder = custom_corpus([("1", "A", "A pump")], [], [("1", several)])

    with pytest.raises(InputError) as refused:
        restructure(folder, tmp_path / "graph")

    assert f"{folder / 'classes.csv'}, patent 1:" in str(refused.value) and repr(several) in str(refused.value)


def test_a_missing_symbol_is_no_class(custom_corpus: Callable[..., Path], tmp_path: Path) -> None:
    symbols = ["A01B", "nan", "NA", "NULL", "<NA>", "None", "Nan"]
    patents = [(str(n), f"Title {n}", f"Text {n}") for n in range(len(symbols))]

    record = restructure(custom_corpus(patents, [], [*zip("0123456", symbols, strict=True)]), tmp_path / "graph")

    assert record["counts"]["classified"] == 2 and dropped(record, "no symbol") == 5


def test_a_continuation_is_in_its_parents_family(custom_corpus: Callable[..., Path], tmp_path: Path) -> None:
    texts = {"1": "A pump  with a\nvalve.", "2": "a PUMP with a valve. ", "3": "", "4": ""}

    restructure(custom_corpus([(name, "A pump", text) for name, text in texts.items()], [], []), tmp_path / "graph")

    family = patents_of(tmp_path / "graph").set_index("patent_id")["family:long"]
    assert family["1"] == family["2"]
    assert family["3"] != family["4"]  # each patent without an abstract is a family


def test_related_documents_join_families(custom_corpus: Callable[..., Path], tmp_path: Path) -> None:
    patents = [(name, f"Title {name}", f"Abstract {name}") for name in ("7000", *"123456789")]
    folder = custom_corpus([*patents, ("10", "Title", "ABSTRACT 2.")], [], [])
    restructure(folder, tmp_path / "without")
    (folder / "g_us_rel_doc.tsv").write_text(
        "patent_id\trelated_doc_number\trelated_doc_type\trelated_doc_kind\n"
        "2\t0000001\tcontinuation\tparent grant document\n"  # 2 continues 1, and 10 has its abstract
        "3\t7000\tdivision\tparent doc\n4\t07000\tcontinuation-in-part\tparent doc\n"  # of an application
        "6\t000\tcontinuation\tparent doc\n7\t0\tcontinuation\tparent doc\n"  # placeholders join nobody
        "5\t8\treissue\tparent grant document\n"
        "6\t60123\tus-provisional-application\tparent doc\n7\t60123\tus-provisional-application\tparent doc\n"
        "99\t1\tcontinuation\tparent grant document\n"
    )

    record = restructure(folder, tmp_path / "with")

    before, after = (patents_of(tmp_path / name).set_index("patent_id") for name in ("without", "with"))
    families = {frozenset(members) for members in after.groupby("family:long").groups.values()}
    assert families == {*map(frozenset, (["1", "2", "10"], "34", "58", "6", "7", "9", ["7000"]))}
    assert set(after["family:long"]) <= set(before["family:long"])  # a member's number
    assert record["counts"]["families joined by related documents"] == 3
    assert record["counts"]["families"] == 7
    assert record["dropped"]["related documents: of another type, or no such patent"] == 5


def test_the_bytes_depend_on_the_seed_but_on_neither_threads_nor_memory(
    tables: Path, mined_data: Path, tmp_path: Path
) -> None:
    restructure(tables, tmp_path / "small", resources=Resources("1GB", threads=1, tmp=tmp_path / "tmp"))
    restructure(tables, tmp_path / "other", seed=7)

    for name in FILES:
        assert (tmp_path / "small" / name).read_bytes() == (mined_data / "graph" / name).read_bytes()
    assert (tmp_path / "other" / "patents.csv").read_bytes() != (mined_data / "graph" / "patents.csv").read_bytes()
    assert not any((tmp_path / "tmp").iterdir())


def test_without_classes_the_tables_of_classes_are_empty(custom_corpus: Callable[..., Path], tmp_path: Path) -> None:
    folder = custom_corpus([("1", "A", "A pump"), ("2", "B", "A valve")], [("2", "1")], [("9", "F04B"), ("1", " ")])
    unusable = restructure(folder, tmp_path / "unusable")
    (folder / "classes.csv").unlink()
    missing = restructure(folder, tmp_path / "missing")

    for name, record in (("unusable", unusable), ("missing", missing)):
        assert record["counts"]["classified"] == record["counts"]["classifications"] == 0
        assert set(patents_of(tmp_path / name)["subclasses:string[]"]) == {""}
        for file in ("cpc_subclasses.csv", "classifications.csv"):
            assert len((tmp_path / name / file).read_text().splitlines()) == 1
    assert unusable["dropped"]["classifications: no such patent, or no symbol"] == 2


def test_too_little_memory_or_disk_is_known_before_the_work(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(InputError, match=r"--memory 2GB"):
        patch.setattr(Source, "rows", 9_000_000)
        restructure(tables, tmp_path / "graph", resources=Resources("1GB"))

    size = sum(path.stat().st_size for path in find_tables(tables).values())
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(size, 0, size // 2))
    with pytest.raises(InputError, match=r"--data"):
        restructure(tables, tmp_path / "graph")
    assert not (tmp_path / "graph").exists()


def test_of_repeated_rows_one_counts(custom_corpus: Callable[..., Path], tmp_path: Path) -> None:
    folder = custom_corpus([("1", "B", ""), ("1", "A", "A pump"), ("2", "C", "A valve")], [("2", "1"), ("2", "1")], [])

    record = restructure(folder, tmp_path / "graph")

    patent = patents_of(tmp_path / "graph").set_index("patent_id").loc["1"]
    assert (patent["title"], patent["abstract"]) == ("A", "A pump")
    assert record["dropped"]["patents: repeated id"] == 1 and record["dropped"]["citations: repeated"] == 1


def test_ids_that_look_like_the_same_number_are_different_patents(
    custom_corpus: Callable[..., Path], tmp_path: Path
) -> None:
    inside = ("100", "0100", "1e2", "100.0", "+100", "-100", "D100", "16777215", "16777216", "99999999999")
    outside = ("7", "07", "7e0", "D7", "3000000000", "16777217")
    ends = [("100", name) for name in (*inside[1:], *outside, " ")] + [("D100", name) for name in (*outside, " ")]
    folder = custom_corpus([(name, "A", "") for name in inside], [*ends, ("D100", "once"), ("no", "100")], [])

    record = restructure(folder, tmp_path / "graph")

    name = patents_of(tmp_path / "graph")["patent_id"]
    links = pd.read_csv(tmp_path / "graph" / "citations.csv").iloc[:, :2]
    assert sorted(zip(name[links.iloc[:, 0]], name[links.iloc[:, 1]], strict=True)) == sorted(ends[:9])
    for end, column in enumerate(("cites", "cited_by")):
        counts = links.iloc[:, end].value_counts().reindex(range(len(name)), fill_value=0)
        assert pd.read_parquet(tmp_path / "graph" / "patents.parquet")[column].tolist() == counts.tolist()
    several = pd.read_csv(tmp_path / "graph" / "outside_patents.csv", dtype=str)
    assert several["patent_id"].tolist() == sorted(outside)  # as texts
    assert several["cited_by:long"].tolist() == ["2"] * 6
    beyond = pd.read_csv(tmp_path / "graph" / "outside_citations.csv")
    assert sorted(zip(name[beyond.iloc[:, 0]], several["patent_id"][beyond.iloc[:, 1]], strict=True)) == sorted(
        (citing, cited) for citing in ("100", "D100") for cited in outside
    )
    assert record["dropped"]["citations: citing patent not in the table"] == 1


def test_the_overview_counts_the_links_of_each_patent(custom_corpus: Callable[..., Path], tmp_path: Path) -> None:
    patents = [(name, f"Title {name}", f"Abstract {name}") for name in "123"]
    tables = custom_corpus(patents, [("2", "1"), ("3", "1")], [("1", "F04B"), ("1", "G01N"), ("2", "pumps")])
    restructure(tables, tmp_path / "graph")

    seen = overview(tmp_path / "graph")

    rank = {patent: rank for rank, patent in enumerate(patents_of(tmp_path / "graph")["patent_id"])}
    order = [rank["1"], rank["2"], rank["3"]]
    assert seen["cited_by"][order].tolist() == [2, 0, 0] and seen["cites"][order].tolist() == [0, 1, 1]
    assert seen["classes"][order].tolist() == [2, 1, 0]
    assert seen["section"][order].tolist() == ["F", "pumps", ""]
    assert seen["subclass"][order].tolist() == ["F04B", "pumps", ""]


def test_real_patents(water: Path, tmp_path: Path) -> None:
    record = restructure(water, tmp_path / "graph")

    assert record["counts"]["patents"] == 1769
    assert record["counts"]["classified"] == 1757
    assert record["counts"]["citations"] == 305
    assert record["dropped"]["citations: cited patent not in the table"] == 37123 - 305
