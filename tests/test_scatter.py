"""Projection, colour groups and figures of a scatter picture, on small clouds whose classes are known."""

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score

from patent_embedding_scatter import main
from patentcl.common.cli import InputError
from patentcl.evaluation.compare import compare_embeddings
from patentcl.evaluation.held_out import held_out_set
from patentcl.evaluation.metrics import METRICS, PICTURE, metric, picture_metrics
from patentcl.figures.colours import PALETTE, SECTION_COLOURS, ColorBy, colour_groups
from patentcl.figures.layout import LAYOUTS, Method, extent, project
from patentcl.figures.regions import densest, regions
from patentcl.figures.style import shortened
from patentcl.pipeline import tables_to_triplets
from patentcl.tables.cpc import SECTIONS
from patentcl.triplets.dataset import load_dataset
from patentcl.triplets.options import Mining

KNN = "kNN accuracy (section)"


def patents(symbols: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "patent_id": [str(n) for n in range(len(symbols))],
            "title": "A title",
            "section": [s[:1] for s in symbols],
            "class": [s[:3] for s in symbols],
            "subclass": symbols,
            "subclasses": [[s] if s else [] for s in symbols],
            "family": range(len(symbols)),
        }
    )


def clouds(symbols: list[str], apart: float, dimensions: int = 16) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = {symbol: rng.normal(size=dimensions) for symbol in sorted(set(symbols))}
    noise = rng.normal(size=(len(symbols), dimensions))
    return (np.array([centres[s] for s in symbols]) * apart + noise).astype(np.float32)


THREE = ["A01B", "C02F", "H04L"] * 20


@pytest.mark.parametrize("method", LAYOUTS)
def test_projection_is_repeatable_and_in_one_frame(method: Method) -> None:
    rows = clouds(THREE, apart=5)
    mirrored = rows * np.where(np.arange(16) % 2, -1, 1)  # cosines stay as they are
    first, second = (project({"a": rows, "b": mirrored}, 7, method) for _ in range(2))
    for name in "ab":
        assert first[name].shape == (60, 2)
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name].mean(axis=0), 0, atol=1e-6)
        assert np.sqrt((first[name] ** 2).sum(axis=1).mean()) == pytest.approx(1)
    moved = np.linalg.norm(first["a"] - first["b"], axis=1)
    assert np.median(moved) < 0.5, "the same patents should lie at about the same place"
    x0, x1, y0, y1 = extent(first, 1)
    assert x1 - x0 == pytest.approx(y1 - y0)
    assert all(((points > (x0, y0)) & (points < (x1, y1))).all() for points in first.values())


@pytest.mark.parametrize("method", LAYOUTS)
def test_projection_of_very_few_patents(method: Method) -> None:
    assert project({"a": clouds(THREE[:4], apart=1)}, 7, method)["a"].shape == (4, 2)


def test_a_far_island_is_pulled_in_and_stays_outside() -> None:
    rows = np.eye(3)[0] + np.random.default_rng(0).normal(0, 0.05, (200, 3))
    rows[:2] = [[0, 1, 0], [0, 0.9, 0.1]]  # at a right angle to the others

    points = project({"a": rows}, method="pca")["a"]

    distance = np.linalg.norm(points - np.median(points, axis=0), axis=1)
    assert distance[:2].min() > np.quantile(distance[2:], 0.98)
    assert distance[:2].max() < 1.6 * distance[2:].max()
    raw = np.abs(PCA(2).fit_transform(rows / np.linalg.norm(rows, axis=1, keepdims=True))[:, 0])
    assert raw[:2].max() > 3 * raw[2:].max(), "without that"


def test_regions_are_frequent_subclasses_named_by_words_of_their_titles() -> None:
    titles = {"A01B": "Plough for deep soil", "C02F": "Sewage sludge for a device", "H04L": "Packet router"}
    frame = patents([*THREE * 2, "B01D"]).assign(title=[*(titles[s] for s in THREE * 2), "Filter"])

    found = regions(frame, clouds(frame["subclass"].tolist(), apart=1, dimensions=2))

    names = {name.split()[0]: set(name.replace(",", "").split()[1:]) for name in found}
    assert sorted(names) == ["A01B", "C02F", "H04L"], "one patent of B01D is no region"
    assert names["H04L"] == {"packet", "router"} and names["C02F"] < {"sewage", "sludge", "device"}
    assert [set(frame["subclass"].iloc[rows]) for rows in found.values()] == [{"A01B"}, {"C02F"}, {"H04L"}]


def test_regions_of_a_corpus_without_classes_are_clusters() -> None:
    words = ["plough", "sewage", "router"] * 20
    frame = patents([""] * 60).assign(title=words)

    found = regions(frame, clouds(words, apart=50, dimensions=2))

    assert set(found) == set(words)
    assert all(set(frame["title"].iloc[rows]) == {name} for name, rows in found.items())


def test_the_densest_place_is_in_the_crowd() -> None:
    points = np.concatenate([np.linspace([-9, -9], [-1, 9], 40), np.random.default_rng(0).normal([5, 5], 0.1, (30, 2))])
    assert np.linalg.norm(densest(points) - (5, 5)) < 0.3


def test_sections_keep_their_colour_whatever_the_data() -> None:
    groups = colour_groups(patents(["H04L", "H01M", "A01B", "", "Z99Z"]))
    assert groups.of == ["H", "H", "A", "unclassified", "other"]
    assert list(groups.colours) == ["A", "H", "other", "unclassified"]
    assert groups.colours["H"] == SECTION_COLOURS["H"] == colour_groups(patents(["H04L"])).colours["H"]
    assert groups.names["A"] == "A Human necessities"
    assert [label.split("  ")[1] for label in groups.labels] == ["(1)", "(2)", "(1)", "(1)"]
    assert set(SECTION_COLOURS) == set(SECTIONS)
    assert len(set(SECTION_COLOURS.values())) == len(set(PALETTE)) == 9


def test_single_letters_of_another_scheme_are_not_the_cpc() -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTU"  # as of NACE; the last ones are the most frequent
    symbols = [letter for n, letter in enumerate(letters) for _ in range(n + 1)]

    groups = colour_groups(patents(symbols), "auto")

    assert list(groups.colours) == [*letters[-9:], "other"] and "CPC" not in groups.by
    assert [groups.colours[letter] for letter in letters[-9:]] == PALETTE
    assert [groups.names[letter] for letter in letters[-9:]] == list(letters[-9:])


def test_beyond_the_palette_is_grey() -> None:
    symbols = [f"A{n:02d}B" for n in range(12) for _ in range(20 - n)]  # A00B is the most frequent
    groups = colour_groups(patents([*symbols, ""]), by="class")
    assert list(groups.colours) == [*(f"A{n:02d}" for n in range(9)), "other", "unclassified"]
    assert len(set(groups.colours.values())) == 11


def test_years_are_at_most_nine_periods_from_dark_to_light() -> None:
    dates = [f"{year}-05-01" for year in (1976, 1979, 1980, 2001, 2012)]
    groups = colour_groups(patents([""] * 6).assign(date=[*dates, ""]), by="year")

    periods = ["1975–1979", "1980–1984", "2000–2004", "2010–2014"]  # 37 years: eight spans of five
    assert groups.of == [periods[0], *periods, "undated"] and groups.names[periods[0]] == periods[0]
    red_green_blue = [to_rgb(groups.colours[key]) for key in periods]
    assert sorted(red_green_blue, key=sum) == red_green_blue
    close = colour_groups(patents([""] * 2).assign(date=["2007-11-20", "2009-01-01"]), by="year")
    assert close.names == {"2007": "2007", "2009": "2009"}


@pytest.mark.parametrize(
    ("symbols", "date", "by"),
    [("A01B", "2001-01-01", "CPC section"), ("", "2001-01-01", "year"), ("", "", "")],
)
def test_colours_stand_for_what_the_corpus_has(symbols: str, date: str, by: str) -> None:
    frame = patents([symbols] * 5).assign(date=date)

    groups = colour_groups(frame, "auto")
    assert groups.by == by and groups.labels[0].endswith("  (5)")
    kinds: list[tuple[ColorBy, str]] = [("class", symbols), ("year", date)]
    for kind, is_there in kinds:
        with nullcontext() if is_there else pytest.raises(InputError, match=f"--color-by {kind}"):
            colour_groups(frame, kind)


def test_titles_name_subclasses_in_the_legend() -> None:
    titles = {"C02F": "TREATMENT OF WATER (softening B01D), WASTE WATER, SEWAGE, OR SLUDGE AND EVERYTHING ELSE"}
    name = colour_groups(patents(["C02F"]), by="subclass", titles=titles).names["C02F"]
    assert name == "C02F Treatment of water, waste water, sewage, or…"
    assert shortened("one two  three", 9) == "one two…"


def of_one(rows: np.ndarray, frame: pd.DataFrame) -> dict[str, float]:
    """The picture metrics of one embedding."""
    return {str(name): float(column.item()) for name, column in picture_metrics({"it": rows}, frame).items()}


def test_metrics_of_clusters_and_of_noise() -> None:
    clear, noise = (of_one(clouds(THREE, apart=apart), patents(THREE)) for apart in (9, 0))

    assert list(clear) == [KNN, "kNN accuracy (class)", "v-measure (section)"]
    assert all(value > 0.95 for value in clear.values())
    assert noise[KNN] < 0.6 and noise["v-measure (section)"] < 0.3


def test_metrics_without_two_groups_are_nan() -> None:
    one = of_one(clouds(["A01B"] * 9, apart=1), patents(["A01B"] * 9))
    unclassified = of_one(clouds(THREE, apart=1), patents([""] * 60))

    assert np.isnan([*one.values(), *unclassified.values()]).all()


def test_a_family_does_not_vote_for_itself() -> None:
    # Noise, in which every text occurs eleven times: a patent's ten neighbours are its copies.
    symbols = ["A01B", "C02F"] * 10
    rows = np.repeat(clouds(symbols, apart=0), 11, axis=0)
    frame = patents([s for s in symbols for _ in range(11)])

    assert of_one(rows, frame)[KNN] > 0.9
    assert of_one(rows, frame.assign(family=np.repeat(np.arange(20), 11)))[KNN] < 0.8


def test_a_custom_metric_is_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "silhouette", METRICS[KNN])  # removed again at the end

    @metric("silhouette", PICTURE)
    def silhouette(embeddings: np.ndarray, frame: pd.DataFrame, seed: int) -> float:
        return silhouette_score(embeddings, frame["section"], metric="cosine")

    table = picture_metrics({"clear": clouds(THREE, apart=9), "noise": clouds(THREE, apart=0)}, patents(THREE))

    assert list(table.index) == ["clear", "noise"] and list(table.columns)[-1] == "silhouette"
    clear, noise = table["silhouette"]
    assert clear > 0.8 > 0.2 > noise


@pytest.mark.parametrize(
    ("split", "evaluated", "where"), [("val", "val", "the val split"), ("all", "test", "all splits")]
)
def test_the_script_evaluates_on_the_split_that_it_shows(
    mined_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str, evaluated: str, where: str
) -> None:
    monkeypatch.setattr("patentcl.figures.scatter.project", flat)
    monkeypatch.setattr("patentcl.evaluation.compare.embed", noise)  # the same for a text, whatever the model
    shutil.copytree(mined_data / "triplets", tmp_path / "triplets")

    chosen = ["--triplets", "200", "--models", "minilm", "--split", split, "--corpus-sample", "0"]
    main(["--data", str(tmp_path), *chosen, "--output", str(tmp_path / "out")])

    dataset = load_dataset(tmp_path / "triplets" / "200")
    held_out = held_out_set(dataset, evaluated)
    expected = compare_embeddings({"minilm": noise(None, held_out.texts)}, held_out)
    assert f"patents of {where}<" in (tmp_path / "out" / "scatter.html").read_text()
    metrics = pd.read_csv(tmp_path / "out" / "metrics.csv", index_col="model")
    assert metrics.loc["minilm", f"nDCG@10 ({evaluated})"] == expected.rows["minilm"].values["nDCG@10"]
    assert f"split: {evaluated}; " in (tmp_path / "out" / "evaluation.md").read_text()


def test_the_script_shows_a_corpus_without_classes(
    custom_corpus: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("patentcl.figures.scatter.project", flat)
    monkeypatch.setattr("patentcl.evaluation.compare.embed", noise)
    rows = [(f"p{i}", f"Word{i} title", f"Abstract number{i}.") for i in range(90)]
    tables = custom_corpus(rows, [(f"p{i}", f"p{i - 2}") for i in range(2, 90)], [])
    tables_to_triplets(tables, tmp_path, "50", Mining("50"))
    chosen = ["--data", str(tmp_path), "--triplets", "50", "--models", "minilm", "--split", "all"]

    with pytest.raises(InputError, match="--color-by class"):
        main([*chosen, "--color-by", "class"])
    main(chosen)

    page = (tmp_path / "scatter" / "50" / "scatter.html").read_text()
    assert "coloured" not in page and "CPC" not in page and "unclassified" not in page
    assert "nan" not in (tmp_path / "scatter" / "50" / "evaluation.md").read_text()
    metrics = pd.read_csv(tmp_path / "scatter" / "50" / "metrics.csv", index_col="model")
    assert metrics[KNN].isna().all() and metrics["nDCG@10 (test)"].notna().all()


def flat(rows: dict[str, np.ndarray], *_: object) -> dict[str, np.ndarray]:
    return {name: vectors[:, :2] for name, vectors in rows.items()}


def noise(_: object, patents: pd.DataFrame, *_more: object) -> np.ndarray:
    """A vector for each patent, drawn by its id."""
    return np.stack([np.random.default_rng(crc32(number.encode())).normal(size=8) for number in patents["patent_id"]])
