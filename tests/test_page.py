"""The page to explore, in a browser: search, neighbours, filters, slider, keyboard, touch, themes, both renderers."""

import base64
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from browser import Browser, browsing, installed
from patentcl.figures.colours import colour_groups
from patentcl.figures.layout import extent
from patentcl.figures.page import REACH, scatter_page
from patentcl.figures.scatter import Scatter
from patentcl.search import nearest
from patentcl.search.nearest import neighbours

WATER = 7  # a patent with a title of its own, at a place of its own, whose neighbours differ between the models
SECTIONS = "ACGH"


@pytest.fixture(scope="module")
def scatter() -> Scatter:
    """Forty patents of four sections and ten years; the second model turns each section round its middle."""
    draw = np.random.default_rng(0)
    section = np.arange(40) % 4
    angle, far = draw.uniform(0, 6, 40), draw.uniform(0.2, 1, 40)
    middles = np.array([[-3, -3], [-3, 3], [3, -3], [3, 3]])[section]
    points = {
        name: middles + far[:, None] * np.stack([np.cos(angle + turned), np.sin(angle + turned)], axis=1)
        for name, turned in (("base", 0), ("ours", section + draw.normal(size=40)))
    }
    patents = pd.DataFrame(
        {
            "patent_id": [str(7_000_000 + n) for n in range(40)],
            "title": [f"Valve number {n}" for n in range(40)],
            "date": [f"{2000 + n % 10}-05-01" for n in range(39)] + [""],
            "section": [SECTIONS[n] for n in section],
            "class": [f"{SECTIONS[n]}01" for n in section],
            "subclass": [f"{SECTIONS[n]}01{'BF'[n // 20]}" for n in section],
        }
    )
    patents.loc[WATER, "title"] = "Épuration of  waste water\nby <b>bubbles</b>"
    patents["subclasses"] = [[symbol] for symbol in patents["subclass"]]
    metrics = pd.DataFrame({"nDCG@10 (test)": [0.4, 0.5], "v-measure": [0.5, np.nan]}, index=["base", "ours"])
    near = {name: neighbours(np.c_[xy, np.full(40, 9)], 5) for name, xy in points.items()}
    return Scatter(points, patents, colour_groups(patents), metrics, "Forty patents", near, {"A01B": "Ploughs"})


@pytest.fixture(scope="module")
def page(scatter: Scatter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "scatter.html"
    path.write_text(scatter_page(scatter), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not installed():
        pytest.skip("no browser on PATH")
    with browsing(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def browser(one_browser: Browser, page: Path) -> Iterator[Browser]:
    """The page, just opened; at the end nothing has failed and nothing was asked of a network."""
    one_browser.resize(1280, 800)
    one_browser.prefer("light")
    one_browser.open(page)
    yield one_browser
    assert one_browser.problems == []


def text(browser: Browser, selector: str) -> list[str]:
    """The texts of the visible elements of a kind."""
    found = f"[...document.querySelectorAll({json.dumps(selector)})].filter(e => e.checkVisibility())"
    return list(browser.run(f"{found}.map(e => e.innerText)"))


def where(browser: Browser, n: int, shown: str = "maps[0]") -> tuple[float, float]:
    """The pixels of a patent in a map."""
    script = f"(map => [map.box.getBoundingClientRect(), map.placing({n})])({shown})"
    box, (x, y) = browser.run(f"(([r, at]) => [{{x: r.x, y: r.y}}, at])({script})")
    return box["x"] + 1 + x, box["y"] + 1 + y


def slide(browser: Browser, slider: str, value: int) -> None:
    """Move a slider as its arrow keys do."""
    browser.run(
        f"(s => {{ s.value = {value}; s.dispatchEvent(new Event('input')); }})(document.querySelector('{slider}'))"
    )
    browser.frame()


@pytest.mark.parametrize("block", [1, 50, 10_000])
def test_neighbours_are_the_nearest_by_cosine_whatever_the_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "BLOCK", block)
    monkeypatch.setattr(nearest, "QUERIES", block)
    rows = np.random.default_rng(0).normal(size=(30, 6)) * np.arange(1, 31)[:, None]

    found = neighbours(rows, 4)

    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = unit @ unit.T - 9 * np.eye(30)
    np.testing.assert_array_equal(found.rows, np.argsort(-cosines, axis=1)[:, :4])
    np.testing.assert_allclose(found.cosines, -np.sort(-cosines, axis=1)[:, :4], atol=1e-6)
    assert neighbours(rows[:3], 10).rows.shape == (3, 2)


def array(page: str, name: str, dtype: str) -> np.ndarray:
    (packed,) = re.findall(f'<script type="text/plain" id="{name}">([^<]*)</script>', page)
    return np.frombuffer(gzip.decompress(base64.b64decode(packed)), dtype)


def test_the_page_holds_all_patents_and_loads_nothing(scatter: Scatter) -> None:
    page = scatter_page(scatter)

    texts: dict[str, Any] = json.loads(array(page, "texts", "u1").tobytes())
    assert texts["id"] == scatter.patents["patent_id"].tolist() and texts["date"][-1] == ""
    assert texts["title"][WATER] == "Épuration of waste water by <b>bubbles</b>"
    x0, x1, y0, y1 = extent(scatter.points, 1)
    half, middle = (x1 - x0) / 2, ((x0 + x1) / 2, (y0 + y1) / 2)
    xy = array(page, "xy", "<i2").reshape(2, 40, 2) / REACH * half + middle
    np.testing.assert_allclose(xy, np.stack(list(scatter.points.values())), atol=half / REACH)
    near = array(page, "near", "<u4").reshape(2, 40, 5)
    np.testing.assert_array_equal(near, [found.rows for found in scatter.neighbours.values()])
    assert array(page, "year", "<i2").tolist() == [*(2000 + n % 10 for n in range(39)), 0]
    assert not re.search(r"(src|href)=|https?:|@import|url\(", page)
    assert page == scatter_page(scatter)


def test_search_by_words_and_by_id(browser: Browser) -> None:
    browser.press("/")
    browser.write("WATER epur")
    assert text(browser, "#results .name") == ["Épuration of waste water by <b>bubbles</b>"]
    assert browser.run("[...state.found]") == [WATER], "it is marked in the maps"
    browser.press("Enter")
    assert text(browser, ".patent h2") == ["Épuration of waste water by <b>bubbles</b>"]

    browser.press("Escape")
    assert text(browser, "#results .name") == [] and text(browser, ".patent h2") != []
    browser.write("7000012")
    assert text(browser, "#results .name") == ["Valve number 12"]
    browser.press("Escape")
    browser.write("valve 3")  # a word begins with 3 before one that only holds it
    assert text(browser, "#results .name")[:2] == ["Valve number 3", "Valve number 30"]
    assert text(browser, "#results .name")[-1] == "Valve number 23"
    browser.press("ArrowDown")
    browser.press("ArrowDown")
    browser.press("Enter")
    assert text(browser, ".patent h2") == ["Valve number 30"]
    browser.press("Escape")
    browser.write("no such words")
    assert text(browser, "#found") == ["0 patents found"]


def point_at(browser: Browser, patent: int) -> None:
    """Move the mouse to a patent, from elsewhere, until the page has seen it: a busy machine drops moves."""
    for _ in range(50):
        browser.mouse("mouseMoved", 1, 1)
        browser.mouse("mouseMoved", *where(browser, patent))
        browser.frame()
        if text(browser, "#tip b"):
            return


def test_a_click_lists_the_neighbours_in_each_model_and_what_changed(browser: Browser, scatter: Scatter) -> None:
    point_at(browser, WATER)
    assert text(browser, "#tip b") == ["Épuration of waste water by <b>bubbles</b>"]
    browser.click(*where(browser, WATER))

    near = {name: found.rows[WATER].tolist() for name, found in scatter.neighbours.items()}
    titles = [f"Valve number {n}" for rows in near.values() for n in rows]
    assert text(browser, ".list li .name") == titles
    cosines = [f"{c:.2f}" for found in scatter.neighbours.values() for c in found.cosines[WATER]]
    assert text(browser, ".list .cosine") == cosines
    base, ours = near.values()
    assert 0 < len({*base} & {*ours}) < 5, "some are kept, others change"
    changes = browser.run("[...document.querySelectorAll('.change')].map(e => e.classList[1])")
    assert changes[:5] == ["kept" if n in ours else "lost" for n in base]
    assert changes[5:] == ["kept" if n in base else "new" for n in ours]
    shared = np.mean([len({*a} & {*b}) for a, b in zip(*(f.rows for f in scatter.neighbours.values()), strict=True)])

    browser.click_on(".list:nth-child(2) li:nth-child(1) button")
    assert text(browser, ".patent h2") == [titles[5]], "a click on a neighbour selects it"
    browser.click_on(".patent button")
    assert text(browser, ".patent") == []
    assert text(browser, "#detail tbody tr:last-child td") == ["–", f"{shared:.1f}"]
    assert text(browser, "#detail td.best") == ["0.500", "0.500"]


def test_filters_by_section_and_by_year(browser: Browser) -> None:
    count = "state.visible.length"
    browser.click_on("#legends button:nth-of-type(2)")
    assert text(browser, "#legends button[aria-pressed=false] .name")[0].startswith("C")
    assert text(browser, "#shown") == ["30 of 40 patents shown"] and browser.run(count) == 30
    browser.mouse("mouseMoved", *where(browser, 1))
    browser.frame()
    assert text(browser, "#tip b") != ["Valve number 1"], "a hidden patent cannot be pointed at"

    slide(browser, "#first", 2004)
    slide(browser, "#last", 2006)
    assert text(browser, "#span") == ["2004–2006"]
    years = [2000 + n % 10 if n < 39 else 0 for n in range(40)]
    expected = [n for n in range(40) if n % 4 != 1 and 2004 <= years[n] <= 2006]
    assert sorted(browser.run("[...state.visible]")) == expected
    slide(browser, "#first", 2009)
    assert text(browser, "#span") == ["2006"], "the first year does not pass the last"
    browser.click_on("#clear")
    assert text(browser, "#shown") == ["All 40 patents shown"] and browser.run(count) == 40

    browser.run("(s => { s.value = 2; s.dispatchEvent(new Event('change')); })(document.querySelector('#colouring'))")
    assert text(browser, "#legends h2") == ["CPC subclass", "CPC section"]
    assert "A01B Ploughs" in text(browser, "#legends .key .name")
    browser.click_on("#legends [role=group]:nth-child(2) button")
    assert browser.run(count) == 30, "the sections stay a filter"


def test_the_slider_moves_the_points_from_model_to_model(browser: Browser, scatter: Scatter) -> None:
    browser.click_on("#move")
    assert text(browser, "#maps figcaption") == ["base → ours"]
    base, ours = (points[WATER] for points in scatter.points.values())
    other = scatter.points["base"][0]
    unit = 0.0
    for value, expected in ((0, base), (50, (base + ours) / 2), (100, ours)):
        slide(browser, "#blend", value)
        x, y = where(browser, WATER, "moving")
        if not value:
            unit = (where(browser, 0, "moving")[0] - x) / (other - base)[0]  # pixels
            start = x, y
        moved = (np.array([x - start[0], start[1] - y])) / unit
        np.testing.assert_allclose(moved, expected - base, atol=0.01)
        browser.mouse("mouseMoved", x, y)
        browser.frame()
        assert text(browser, "#tip b") == ["Épuration of waste water by <b>bubbles</b>"]
    browser.click_on("#play")
    browser.wait("byId('blend').value === '0'")
    browser.click_on("#side")
    assert text(browser, "#maps figcaption") == ["base", "ours"]


def test_the_keyboard_reaches_everything(browser: Browser) -> None:
    browser.run("maps[0].box.focus()")
    x, y = where(browser, WATER)
    browser.run(f"state.selected = {WATER}")
    browser.press("ArrowRight")
    title, n = text(browser, "#tip b")[0], browser.run("state.pointed")
    right, down = np.subtract(where(browser, n), (x, y))
    assert right > 0 and abs(down) <= right
    browser.press("Enter")
    assert text(browser, ".patent h2") == [title]
    before = where(browser, WATER)
    browser.press("ArrowUp", shift=True)
    assert where(browser, WATER)[1] > before[1]
    browser.press("+")
    assert browser.run("state.view.zoom") > 1
    browser.press("0")
    assert where(browser, WATER) == before
    browser.press("v")
    browser.press("]")
    assert browser.run("byId('blend').value") == "10"
    browser.press("?")
    assert len(text(browser, "dialog kbd")) > 10
    browser.press("Escape")
    assert text(browser, "dialog kbd") == [] and text(browser, ".patent h2") == [title]
    browser.press("Escape")
    assert text(browser, ".patent") == []
    focusable = browser.run(
        "[...document.querySelectorAll('button, input, select, summary, [tabindex]')].map(e => e.tabIndex)"
    )
    assert set(focusable) == {0}
    unnamed = "[...document.querySelectorAll('button, input, select, [role]')].filter(e => "
    named = "!(e.getAttribute('aria-label') || e.innerText || e.labels?.length || e.role === 'status'))"
    assert browser.run(f"{unnamed}{named}.length") == 0


def test_touch_pinches_drags_and_taps(browser: Browser) -> None:
    browser.resize(390, 844, phone=True)
    browser.frame()
    assert browser.run("document.documentElement.scrollWidth") == 390, "nothing leaves the screen"
    browser.run("maps[0].box.scrollIntoView({block: 'center'})")
    x, y = where(browser, WATER)
    browser.touch("touchStart", (x - 20, y), (x + 20, y))
    browser.touch("touchMove", (x - 40, y), (x + 40, y))
    browser.touch("touchEnd")
    browser.frame()
    assert browser.run("state.view.zoom") == pytest.approx(2, rel=0.01)
    np.testing.assert_allclose(where(browser, WATER), (x, y), atol=1.5)
    browser.touch("touchStart", (x, y))
    browser.touch("touchMove", (x + 30, y + 10))
    browser.touch("touchEnd")
    np.testing.assert_allclose(where(browser, WATER), (x + 30, y + 10), atol=1.5)
    assert text(browser, ".patent") == []
    browser.touch("touchStart", (x + 30, y + 10))
    browser.touch("touchEnd")
    browser.frame()
    assert text(browser, ".patent h2") == ["Épuration of waste water by <b>bubbles</b>"]

    browser.press("Escape")
    browser.press("0")
    browser.run(f"scrollBy(0, {where(browser, WATER, 'maps[1]')[1] - 780})")
    browser.touch("touchStart", where(browser, WATER, "maps[1]"))
    browser.touch("touchEnd")
    browser.frame()
    covered = browser.run("byId('detail').getBoundingClientRect().top")
    assert covered < 700 and where(browser, WATER, "maps[1]")[1] < covered, "the list does not cover the patent"


def test_light_and_dark(browser: Browser) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light = browser.run(paper)
    browser.prefer("dark")
    browser.wait("theme.isDark")
    dark = browser.run(paper)
    assert dark != light
    assert browser.run("theme.groups.every(colour => contrast(colour, theme.paper) > 2.9)")
    browser.click_on("#theme")
    assert browser.run(paper) == light and browser.run("theme.groups.every(c => contrast(c, theme.paper) > 1.4)")
    browser.press("t")
    assert browser.run(paper) == dark


def test_webgl_draws_what_the_canvas_draws(browser: Browser, page: Path) -> None:
    copy = """new Promise(done => requestAnimationFrame(() => {
      maps[0].drawPoints();
      const canvas = document.createElement("canvas"), pen = canvas.getContext("2d"), from = maps[0].below;
      [canvas.width, canvas.height] = [from.width, from.height];
      pen.drawImage(from, 0, 0);
      done([...pen.getImageData(0, 0, canvas.width, canvas.height).data.filter((_, n) => n % 4 === 3)]);
    }))"""
    drawn = {}
    for renderer in ("canvas", "webgl"):
        browser.call("Page.navigate", url=f"{page.as_uri()}?{renderer}#renderer={renderer}")
        browser.wait("document.documentElement?.dataset.ready === ''")
        browser.frame()
        assert browser.run("usesWebGL") == (renderer == "webgl")
        drawn[renderer] = np.array(browser.run(copy))
    assert (drawn["canvas"] > 0).sum() > 40 * 20
    np.testing.assert_allclose(drawn["webgl"].sum(), drawn["canvas"].sum(), rtol=0.05)
    assert np.corrcoef(drawn["webgl"], drawn["canvas"])[0, 1] > 0.97


def test_a_slow_browser_draws_fewer_points_while_the_view_moves_and_all_when_it_rests(browser: Browser) -> None:
    browser.run(
        """painted = [];
        maps[0].painter.paint = scene => painted.push(scene.layers[0].count);
        pace.share = pace.least = 0.1;  // as if there were 50,000
        maps[0].pan(1, 1)"""
    )
    browser.wait("painted.length > 1")
    first, *_, last = browser.run("painted")
    assert first < 10 and last == 40
    browser.frame()
    assert browser.run("pace.share") < 1, "the next movement starts as the last one ended"


def test_one_model_without_classes_dates_or_neighbours(browser: Browser, scatter: Scatter, tmp_path: Path) -> None:
    bare = scatter.patents.assign(date="", section="", subclass="", **{"class": ""})
    bare["subclasses"] = [[] for _ in range(40)]
    points = {"base": scatter.points["base"]}
    file = tmp_path / "bare.html"
    file.write_text(scatter_page(Scatter(points, bare, colour_groups(bare), pd.DataFrame(), "Bare")), encoding="utf-8")

    browser.open(file)
    assert text(browser, "#views, #years, #colour, #detail table") == []
    browser.click(*where(browser, WATER))
    assert text(browser, ".patent small") == [str(7_000_000 + WATER)] and text(browser, ".list") == []
