"""The maps of a scatter picture: names of regions, densities of many patents, captions, and the same as widgets."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from patentcl.figures import scatter as maps
from patentcl.figures.atlas import save_atlas
from patentcl.figures.colours import SECTION_COLOURS, colour_groups
from patentcl.figures.linked import linked_panels
from patentcl.figures.scatter import Scatter, make_scatter, scatter_figure
from patentcl.search.nearest import neighbours

NAMES = ["A01B plough, soil", "C02F sewage, sludge", "H04L packet, router", "H04W radio, <b>$x$</b>"]


def picture(count: int = 200, models: int = 2) -> Scatter:
    draw, symbols = np.random.default_rng(0), ["A01B", "C02F", "H04L", "H04W"] * (count // 4)
    patents = pd.DataFrame({"patent_id": [f"p{n}" for n in range(count)], "title": "A title", "date": "2001-02-03"})
    patents["subclass"] = symbols
    patents["subclasses"] = [[symbol, "H01L"] for symbol in symbols]
    patents["section"], patents["class"] = patents["subclass"].str[:1], patents["subclass"].str[:3]
    centres = np.tile([[0, 0], [0.2, 0], [9, 0], [9, 1]], (count // 4, 1))  # two pairs of neighbours
    points = {f"model {n}": centres + draw.normal(0, 0.5, (count, 2)) for n in range(models)}
    metrics = pd.DataFrame({"nDCG@10 (test)": np.linspace(0.1, 0.3, models)}, index=list(points))
    regions = {name: np.arange(row, count, 4) for row, name in enumerate(NAMES)}
    return Scatter(points, patents, colour_groups(patents), metrics, "A title", caption="UMAP, seed 7", regions=regions)


@pytest.mark.parametrize("models", [2, 4])
def test_names_of_regions_lie_in_every_panel_apart_from_each_other(models: int) -> None:
    figure = scatter_figure(picture(models=models))

    figure.draw_without_rendering()
    panels = [axes for axes in figure.axes if axes.collections]
    assert len(panels) == models
    for panel in panels:
        texts: list[Text] = list(panel.texts)
        assert [text.get_text().split()[0] for text in texts] == ["A01B", "C02F", "H04L", "H04W"]
        boxes = [text.get_window_extent() for text in texts]
        assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[n + 1 :])
        assert all(panel.bbox.x0 - 1 < box.x0 and box.x1 < panel.bbox.x1 + 1 for box in boxes)


def test_names_and_their_lines_cross_no_other_name() -> None:
    """Thirty regions in two crowds: most names lie beside them, and there is no room for all."""
    names = {f"region {n} with a long name": np.array([n]) for n in range(30)}
    figure = scatter_figure(replace(picture(models=1), regions=names))

    panel = next(axes for axes in figure.axes if axes.collections)
    boxes = [text.get_window_extent() for text in panel.texts]
    lines = [line.get_path().transformed(panel.transData) for line in panel.lines]
    assert 10 < len(boxes) < 30 and len(lines) > 2
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[n + 1 :])
    assert all(sum(line.intersects_bbox(box.padded(-1)) for box in boxes) == 0 for line in lines)
    assert not any(one.intersects_path(other) for n, one in enumerate(lines) for other in lines[n + 1 :])


def test_many_patents_are_drawn_as_densities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "DENSE", 100)
    figure = scatter_figure(picture())

    panel = next(axes for axes in figure.axes if axes.images)
    assert not panel.collections
    image = np.asarray(panel.images[0].get_array())
    assert image.shape[1] == maps.CELLS and 20 < (image[..., 3] > 0).sum() <= 200
    left, right = image[:, : maps.CELLS // 2], image[:, maps.CELLS // 2 :]
    shown = {tuple((255 * colour).round().astype(int)) for colour in right[right[..., 3] > 0][:, :3]}
    blue = tuple(int(SECTION_COLOURS["H"][i : i + 2], 16) for i in (1, 3, 5))
    assert shown == {blue}, "only patents of section H lie there"
    assert (left[..., 3] > 0).any()


def test_the_panels_are_as_flat_as_the_maps() -> None:
    figure = scatter_figure(picture())

    figure.draw_without_rendering()
    panel = next(axes for axes in figure.axes if axes.collections)
    width, height = np.ptp(panel.get_xlim()), np.ptp(panel.get_ylim())
    assert height == pytest.approx(maps.LOWEST * width) and panel.bbox.height < 0.6 * panel.bbox.width


def test_the_caption_says_how_the_map_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    one = picture()
    rows = {name: np.eye(200) for name in one.points}
    made = make_scatter(rows, one.patents, one.metrics, "test", "class", seed=7, layout="pca")

    figure = scatter_figure(made)
    shown = figure.legends[0].get_title().get_text().replace("\n", " ")
    assert "seed 7" in shown and "principal components" in shown and shown == made.caption
    assert "200 patents" in made.title and "CPC class" in made.title


def test_linked_panels_need_jupyter_scatter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "jscatter", None)

    assert linked_panels(picture()) is None
    assert "pip install jupyter-scatter" in capsys.readouterr().out


def test_the_atlas_has_points_neighbours_and_classes(tmp_path: Path) -> None:
    near = {"model 0": neighbours(picture().points["model 0"], 3)}
    one = replace(picture(models=1), neighbours=near)

    commands = save_atlas(one, tmp_path / "atlas.parquet")

    table = pd.read_parquet(tmp_path / "atlas.parquet")
    names = ["patent_id", "title", "section", "class", "subclass", "date", "classes", "year"]
    assert list(table) == [*names, "x_model_0", "y_model_0", "neighbors_model_0"]
    assert commands == [
        f"embedding-atlas {tmp_path / 'atlas.parquet'} --text title --x x_model_0 --y y_model_0"
        " --neighbors neighbors_model_0"
    ]
    np.testing.assert_array_equal(table[["x_model_0", "y_model_0"]], one.points["model 0"])
    first = table["neighbors_model_0"][0]
    assert list(first) == ["ids", "distances"] and first["ids"].tolist() == near["model 0"].rows[0].tolist()
    np.testing.assert_allclose(first["distances"], 1 - near["model 0"].cosines[0])
    assert table["year"].tolist() == [2001] * 200 and table["classes"][1] == "C02F, H01L"


def test_models_of_similar_names_have_columns_of_their_own_in_the_atlas(tmp_path: Path) -> None:
    two = picture(models=2)
    points = dict(zip(["a-b", "a_b"], two.points.values(), strict=True))
    near = {name: neighbours(xy, 3) for name, xy in points.items()}

    save_atlas(replace(two, points=points, neighbours=near), tmp_path / "atlas.parquet")

    table = pd.read_parquet(tmp_path / "atlas.parquet")
    for number, xy in enumerate(points.values()):
        np.testing.assert_array_equal(table[[f"{axis}_a_b{'_1' * number}" for axis in "xy"]], xy)


@pytest.mark.parametrize("models", [2, 5])
def test_linked_panels_are_a_widget_for_each_model(models: int) -> None:
    pytest.importorskip("jscatter")
    assert len(linked_panels(picture(models=models)).children) == models
