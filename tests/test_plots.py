"""The pictures: files that hold what they should, whatever the titles of patents contain."""

import struct
import warnings
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from patentcl.figures import style
from patentcl.figures.colours import colour_groups
from patentcl.figures.corpus import degree_histograms, patents_per_year
from patentcl.figures.page import save_scatter
from patentcl.figures.scatter import Scatter, scatter_figure
from patentcl.figures.style import drawable
from patentcl.figures.triplet import triplet_graph, triplet_table

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "\"quotes\" & 'quotes' {braces} %s \\u003c",
    "line\u2028separator\u2029and\nnewline",
    "水の処理 💧",
    "costs $5 and $6_{7}$, 100 %",
]


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # such as a glyph that the font lacks
        yield


@pytest.fixture
def patents() -> pd.DataFrame:
    subclasses = (["A01B", "C02F", "H04L", "Y02E", "", "Z01Z"] * 10)[:60]
    return pd.DataFrame(
        {
            "patent_id": [str(7_000_000 + n) for n in range(60)],
            "title": HOSTILE * 10,
            "date": [f"{2000 + n % 7}-05-01" for n in range(59)] + [""],
            "section": [s[:1] for s in subclasses],
            "class": [s[:3] for s in subclasses],
            "subclass": subclasses,
            "subclasses": [[s] if s else [] for s in subclasses],
        }
    )


METRICS = pd.DataFrame({"kNN accuracy (section)": [0.5, np.nan], "<x>": [1.0, 2.0]}, index=["base", "ours <b>&"])
NAMES = ["base", "ours <b>&", "</script>", "$x$ 水", "a name that goes on and on and on and on and on and on", "last"]


def scatter_of(patents: pd.DataFrame, models: int = 4, title: str = "Title with 水 and $5", **groups: Any) -> Scatter:
    draw = np.random.default_rng(0)
    points = {name: draw.normal(size=(60, 2)) for name in NAMES[:models]}
    return Scatter(points, patents, colour_groups(patents, **groups), METRICS, title)


class Page(HTMLParser):
    """Collects the tags of a page and the text that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.seen = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.seen += data


@pytest.mark.parametrize("models", [1, 2, 3, 4, 6])
def test_a_panel_for_each_model_with_all_patents_and_its_metrics(patents: pd.DataFrame, models: int) -> None:
    figure = scatter_figure(scatter_of(patents, models, "A long title " * 15))

    panels = [axes for axes in figure.axes if axes.collections]
    assert [axes.get_title(loc="left")[:4] for axes in panels] == [drawable(name)[:4] for name in NAMES[:models]]
    assert [len(np.asarray(axes.collections[0].get_offsets())) for axes in panels] == [60] * models
    assert len({(*axes.get_xlim(), *axes.get_ylim()) for axes in panels}) == 1, "one frame for all panels"
    colours = {tuple(colour) for axes in panels for colour in np.asarray(axes.collections[0].get_facecolor())}
    assert len(colours) == len(figure.legends[0].get_texts()) == 6  # A, C, H, Y, other, unclassified
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes if axes.texts]
    name = "kNN accuracy (section)"
    known = [[name, "0.500", "<x>", "1.000"], [name, "–", "<x>", "2.000"]]
    assert texts == [*known, *[[name, "–", "<x>", "–"]] * 4][:models]
    assert_apart(figure)


def test_the_best_value_of_all_models_is_bold(patents: pd.DataFrame) -> None:
    figure = scatter_figure(scatter_of(patents, 2))

    bold = [text.get_text() for axes in figure.axes for text in axes.texts if text.get_fontweight() == "bold"]
    assert bold == ["0.500", "2.000"]


def test_files_are_written_at_once_and_to_a_new_folder(patents: pd.DataFrame, tmp_path: Path) -> None:
    save_scatter(scatter_of(patents), tmp_path / "new folder")

    names = ["metrics.csv", "scatter.html", "scatter.png"]
    assert sorted(path.name for path in (tmp_path / "new folder").iterdir()) == names
    width, height = struct.unpack(">II", (tmp_path / "new folder" / "scatter.png").read_bytes()[16:24])
    assert width == 1500 and height > 1500  # two by two panels of 5 inches
    table = pd.read_csv(tmp_path / "new folder" / "metrics.csv", index_col="model")
    pd.testing.assert_frame_equal(table, METRICS, check_names=False)


def assert_apart(figure: Figure) -> None:
    """No two texts overlap, and none leaves the figure."""
    figure.draw_without_rendering()
    texts = [*figure.texts, *(t for legend in figure.legends for t in legend.get_texts())]
    for axes in figure.axes:
        texts += [*axes.texts, axes._left_title]  # type: ignore[attr-defined]
    if figure._suptitle:  # type: ignore[attr-defined]
        texts.append(figure._suptitle)  # type: ignore[attr-defined]
    boxes = [(t.get_text(), t.get_window_extent()) for t in dict.fromkeys(texts) if t.get_text()]
    for n, (text, box) in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, f"{text} leaves the figure"
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, f"{text} leaves the figure"
        for other, its in boxes[n + 1 :]:
            assert not (box.x0 < its.x1 and its.x0 < box.x1 and box.y0 < its.y1 and its.y0 < box.y1), (text, other)


def test_patents_per_year(patents: pd.DataFrame) -> None:
    axes = patents_per_year(patents).axes[0]
    assert sum(bar.get_height() for bar in axes.patches) == 59  # type: ignore[attr-defined]
    assert len(axes.containers) == 6  # A, C, H, Y, other, unclassified
    patents_per_year(patents.assign(date="")).draw_without_rendering()


def test_classes_of_another_scheme_are_in_every_legend_as_they_are(patents: pd.DataFrame) -> None:
    patents[["section", "class", "subclass"]] = np.array([["A", "_b", "__c__"] * 20] * 3).T

    figures = patents_per_year(patents), scatter_figure(scatter_of(patents, 1))

    for figure in figures:
        figure.draw_without_rendering()
        texts = sorted(text.get_text().strip("\u200b").split("  ")[0] for text in figure.legends[0].get_texts())
        assert texts == ["A", "__c__", "_b"]
    assert "CPC" not in figures[0].axes[0].get_title(loc="left")


def test_degree_histograms() -> None:
    counts = {"cites": [0, 0, 1, 5, 900], "cited_by": [0, 2, 3, 0, 0], "classes": 0}
    figure = degree_histograms(pd.DataFrame(counts))
    figure.draw_without_rendering()
    out, received, _ = figure.axes
    assert [bar.get_height() for bar in out.patches][:4] == [2, 1, 0, 1]  # type: ignore[attr-defined]
    assert [label.get_text() for label in received.get_xticklabels()] == ["0", "1", "2–3"]


def test_triplet_table_escapes() -> None:
    row = {f"{role}_{what}": HOSTILE[0] for role in ["anchor", "positive", "negative"] for what in ["id", "title"]}
    table = pd.DataFrame([row | {"negative_kind": "<hard>", "cpc_subclass": "C02F"}] * 2, index=[5, 5])
    page = Page(triplet_table(table).to_html())
    assert "script" not in page.tags
    assert page.seen.count(HOSTILE[0]) == 2 * 3 * 2
    assert "<hard>" in page.seen


def test_triplet_graph_is_readable() -> None:
    def patent(number: int, title: str, subclasses: list[str]) -> dict[str, object]:
        return {"patent_id": f"US{number}", "title": title, "subclasses": subclasses}

    many = [f"B{n:02d}X" for n in range(20)]
    figure = triplet_graph(
        patent(1, HOSTILE[5] + " and a title that goes on and on " * 3, [*many, "C02F"]),
        patent(2, HOSTILE[4], ["C02F", *(f"D{n:02d}X" for n in range(4))]),
        patent(3, "Unclassified", []),
        shared="C02F",
        kind="hard",
    )
    assert_apart(figure)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("C02F") == 1
    assert "negative\n(hard)" in texts and "CITES" in texts
    assert any("+17 more" in text for text in texts)


def test_drawable() -> None:
    assert drawable("水 costs $5\n") == r"□ costs \$5"


def test_letters_that_the_usual_font_lacks_come_from_another_that_is_installed(
    patents: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = "\u2322"  # in no text font but this, which matplotlib brings along
    monkeypatch.setattr(style, "FONTS", "A font that nobody has")
    without = scatter_figure(scatter_of(patents, 1, title=f"水 {letter}"))
    monkeypatch.setattr(style, "FONTS", "A font that nobody has|STIXGeneral")
    figure = scatter_figure(scatter_of(patents, 1, title=f"水 {letter}"))

    figure.draw_without_rendering()  # and warns of no missing glyph
    assert [f._suptitle.get_text() for f in (without, figure)] == ["□ □", f"□ {letter}"]  # type: ignore[attr-defined]
