"""The synthetic sample: the same bytes from the same seed, both layouts, and every hard case in 300 patents."""

import csv
import io
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from patentcl.common.cli import InputError
from patentcl.sample.__main__ import main
from patentcl.sample.patents import BLOCK
from patentcl.sample.plan import Plan, invent
from patentcl.sample.words import HARD, PAIRS, SUBCLASSES
from patentcl.sample.write import write_sample

Row = dict[str, str]


def read(path: Path) -> list[Row]:
    """Read NAME.tsv, or NAME.tsv in NAME.tsv.zip, as `csv` does with the files of PatentsView."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            text = archive.read(path.stem).decode("utf-8")
    else:
        text = path.read_bytes().decode("utf-8")
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t", strict=True))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hundred patents in today's columns."""
    folder = tmp_path_factory.mktemp("sample") / "tables"
    write_sample(folder, patents=300)
    return folder


@pytest.fixture(scope="module")
def patents(sample: Path) -> list[Row]:
    return read(sample / "g_patent.tsv")


@pytest.fixture(scope="module")
def abstracts(sample: Path) -> dict[str, str]:
    return {row["patent_id"]: row["patent_abstract"] for row in read(sample / "g_patent_abstract.tsv")}


@pytest.fixture(scope="module")
def citations(sample: Path) -> list[Row]:
    return read(sample / "g_us_patent_citation.tsv")


@pytest.fixture(scope="module")
def classes(sample: Path) -> list[Row]:
    return read(sample / "g_cpc_current.tsv")


@pytest.mark.parametrize("zipped", [False, True])
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, zipped: bool) -> None:
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        write_sample(tmp_path / name, patents=200, seed=seed, zipped=zipped)
    assert contents(tmp_path / "one") == contents(tmp_path / "again")
    one, other = contents(tmp_path / "one"), contents(tmp_path / "other")
    assert {name for name in one if one[name] == other[name]} <= {"cpc_group.tsv", "cpc_group.tsv.zip"}


def test_old_columns_and_zips_hold_the_same_patents(sample: Path, patents: list[Row], tmp_path: Path) -> None:
    counts = write_sample(tmp_path / "zip", patents=300, zipped=True)
    assert counts == write_sample(tmp_path / "old", patents=300, old_columns=True)
    for path in sample.glob("*.tsv"):
        assert read(path) == read(tmp_path / "zip" / f"{path.name}.zip")
    old = read(tmp_path / "old" / "patent.tsv")
    assert [(row["id"], row["title"], row["date"]) for row in old] == [
        (row["patent_id"], row["patent_title"], row["patent_date"]) for row in patents
    ]
    today = read(sample / "g_us_patent_citation.tsv")
    assert [(row["patent_id"], row["citation_id"]) for row in read(tmp_path / "old" / "uspatentcitation.tsv")] == [
        (row["patent_id"], row["citation_patent_id"]) for row in today
    ]
    cpc = read(tmp_path / "old" / "cpc_current.tsv")[0]
    assert cpc["section_id"] == cpc["subsection_id"][0] and cpc["group_id"][:3] == cpc["subsection_id"]


def test_columns_and_quoting_are_those_of_patentsview(sample: Path) -> None:
    header, row = (sample / "g_patent.tsv").read_text(encoding="utf-8").split("\n")[:2]
    columns = header.replace('"', "").split("\t")
    assert columns[:4] == ["patent_id", "patent_type", "patent_date", "patent_title"]
    assert columns[4:] == ["wipo_kind", "num_claims", "withdrawn", "filename"]
    assert header.count('"') == 16
    assert row.startswith('"3930271"\t"utility"\t"1976-01-06"\t"') and row.split("\t")[5].isdigit()
    assert {row["id"]: row["title"] for row in read(sample / "cpc_group.tsv")} == {
        symbol: subclass["title"] for symbol, subclass in SUBCLASSES.items()
    }


@pytest.mark.parametrize("hard", ['"', ",", "\t", "\n", "\r\n", ";", "\\", "ä", "µ", "中文", "🔧"])
def test_texts_hold_what_breaks_naive_readers(patents: list[Row], abstracts: dict[str, str], hard: str) -> None:
    assert any(hard in row["patent_title"] for row in patents)
    assert any(hard in abstract for abstract in abstracts.values())


def test_texts_begin_with_spaces_end_with_quotes_or_are_missing(patents: list[Row], abstracts: dict[str, str]) -> None:
    assert any(abstract.startswith("  ") for abstract in abstracts.values())
    assert any(abstract.endswith('"') for abstract in abstracts.values())
    assert "NULL" in {row["patent_title"] for row in patents}
    assert "" in abstracts.values()
    assert len(HARD) * 100 <= 4 * 300  # else a sample of 300 does not have them all


def test_rows_disagree_between_tables(patents: list[Row], abstracts: dict[str, str], classes: list[Row]) -> None:
    ids = Counter(row["patent_id"] for row in patents)
    classified = {row["patent_id"] for row in classes}
    assert 2 in ids.values()  # a patent listed twice
    assert abstracts.keys() - ids.keys() and classified - ids.keys()  # rows of no patent
    assert {row["patent_type"] for row in patents} == {"utility", "design", "plant", "reissue"}
    others = {row["patent_id"] for row in patents if row["patent_type"] != "utility"}
    assert not others & classified and all(name[0] in "DPR" for name in others)
    assert {row["withdrawn"] for row in patents} == {"0", "1"}
    assert ids.keys() - others - classified  # a utility patent without classes
    assert ids.keys() - abstracts.keys()  # a design without an abstract


def test_classes_repeat_and_share_branches(classes: list[Row]) -> None:
    rows = Counter((row["patent_id"], row["cpc_subclass"]) for row in classes)
    assert max(rows.values()) > 1
    assert {row["cpc_subclass"] for row in classes} <= SUBCLASSES.keys()
    assert all(row["cpc_group"].startswith(row["cpc_subclass"]) for row in classes)
    assert {symbol[0] for symbol in SUBCLASSES} == set("ABCDEFGHY")


def test_citations_point_back_except_the_planted_ones(patents: list[Row], citations: list[Row]) -> None:
    dates = {row["patent_id"]: row["patent_date"] for row in patents}
    pairs = Counter((row["patent_id"], row["citation_patent_id"]) for row in citations)
    inside = [(citing, cited) for citing, cited in pairs if cited in dates]
    assert any(citing == cited for citing, cited in inside)
    assert any((cited, citing) in pairs for citing, cited in inside if citing != cited)
    assert 2 in pairs.values()
    later = [pair for pair in inside if dates[pair[0]] < dates[pair[1]]]
    assert 0 < len(later) < len(inside) / 50
    assert 0.2 < sum(row["citation_patent_id"] not in dates for row in citations) / len(citations) < 0.3
    assert {row["citation_category"] for row in citations} == {
        "cited by examiner",
        "cited by applicant",
        "cited by other",
        "",
    }


def test_counts_are_those_of_the_files(sample: Path, patents: list[Row], citations: list[Row]) -> None:
    counts = write_sample(sample, patents=300)  # which is there already
    ids = {row["patent_id"] for row in patents}
    pairs = Counter((row["patent_id"], row["citation_patent_id"]) for row in citations)
    assert counts["patents"] == len(ids) == 300
    assert counts["citations_dangling"] == sum(n for pair, n in pairs.items() if pair[1] not in ids)
    assert counts["citations_inside"] == len(citations) - counts["citations_dangling"]
    assert counts["citations_duplicate"] == sum(n - 1 for n in pairs.values())
    assert counts["citations_self"] == sum(n for (citing, cited), n in pairs.items() if citing == cited)


def test_families_repeat_an_abstract(sample: Path, abstracts: dict[str, str]) -> None:
    members = Counter(" ".join(text.lower().split()) for text in abstracts.values())
    del members[""]
    counts = write_sample(sample, patents=300)
    assert counts["families"] > 2
    assert sum(n > 1 for n in members.values()) == counts["families"]
    assert len(set(abstracts.values())) > len(members)  # not all of them to the letter


def test_citations_cross_the_blocks_of_a_large_sample(sample: Path) -> None:
    """A large sample is invented in blocks; citations go back into earlier ones."""
    plan = Plan.draw(BLOCK + 500, seed=3)
    rows, counts = invent(plan, BLOCK)
    assert counts["patents"] == 500 and counts["citations_inside"] > 1000
    first_block = set(plan.ids(plan.by_line % BLOCK).to_pylist())
    assert len(first_block.intersection(rows["citations"]["citation_patent_id"].to_pylist())) > 500


def test_every_term_has_one_counterpart() -> None:
    names = Counter(name for pair in PAIRS for name in pair)
    assert all(len(pair) == 2 for pair in PAIRS) and set(names.values()) == {1}


def test_a_small_sample_is_possible_and_a_foreign_folder_is_safe(tmp_path: Path) -> None:
    assert write_sample(tmp_path / "one", patents=1)["patents"] == 1
    with pytest.raises(InputError, match=r"patents 1 → 2.*--overwrite"):
        write_sample(tmp_path / "one", patents=2)
    assert write_sample(tmp_path / "one", patents=2, overwrite=True)["patents"] == 2
    (tmp_path / "one" / "mine.txt").write_text("keep me")
    (tmp_path / "g_patent.tsv").write_text("a real table")
    for folder in (tmp_path / "one", tmp_path):
        with pytest.raises(InputError, match=r"mine\.txt|sample\.json"):
            write_sample(folder, patents=3, overwrite=True)
    assert (tmp_path / "one" / "mine.txt").exists() and (tmp_path / "g_patent.tsv").exists()


def test_the_number_of_citations_can_be_raised(tmp_path: Path) -> None:
    few, many = (write_sample(tmp_path / str(mean), 3_000, citations=mean)["citations_inside"] for mean in (7.2, 20))
    assert 1.5 * few < many < 3 * few
    with pytest.raises(InputError, match="--citations 0"):
        write_sample(tmp_path / "none", citations=0)


def test_the_command_writes_a_sample_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--patents", "50", "--out", str(tmp_path / "s"), "--zip"]

    main(command)
    assert "50 patents" in capsys.readouterr().out
    complete = contents(tmp_path / "s")
    assert "g_patent.tsv.zip" in complete
    main(command)
    assert contents(tmp_path / "s") == complete
    with pytest.raises(InputError, match="seed 42 → 7"):
        main([*command, "--seed", "7"])
