"""Benchmark of the page to explore: its size, the neighbours in it, and how fast a browser draws it.

    python benchmarks/page.py                          # 200,000 random patents, neighbours drawn at random
    python benchmarks/page.py --dimensions 384         # neighbours computed from random vectors of this width

Draws with the canvas (circle by circle, as the page does up to 20,000 patents) and with WebGL, in turns, while all maps
are dragged. Chromium without a window draws both on the CPU (SwiftShader): compare the two, a graphics card is faster.
"""

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from patentcl.common.cli import InputError, check_ranges, option, parse_options, run_script
from patentcl.figures.colours import colour_groups
from patentcl.figures.page import scatter_page
from patentcl.figures.scatter import NEIGHBOURS, Scatter
from patentcl.models.device import peak_memory_gb
from patentcl.search.nearest import Nearest, neighbours

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from browser import Browser, browsing, installed

WORDS = [
    "method",
    "apparatus",
    "system",
    "device",
    "process",
    "for",
    "of",
    "with",
    "a",
    "and",
    "water",
    "waste",
    "sensor",
]
WORDS += [
    "optical",
    "semiconductor",
    "polymer",
    "wireless",
    "battery",
    "engine",
    "valve",
    "antibody",
    "circuit",
    "memory",
]
SUBCLASSES = ["A01B", "A61K", "B01D", "B60W", "C02F", "C07D", "D06M", "E21B", "F16K", "G06F", "G02B", "H04L", "H01M"]
DRAG = """(async () => {
  const started = performance.now(), times = [started];
  while (times.at(-1) - started < SECONDS * 1000) {
    maps[0].pan(times.length % 20 < 10 ? 3 : -3, 1);
    await new Promise(requestAnimationFrame);
    times.push(performance.now());
  }
  return times.slice(1).map((t, n) => t - times[n]);
})()"""
CALLS = {"point at a patent": "maps[0].nearest(200, 200, 12)", "search": "search('waste water')"}


@dataclass(frozen=True)
class Options:
    """The command line."""

    patents: int = option(200_000, "patents of the page")
    dimensions: int = option(0, "width of random vectors whose neighbours are computed (0: random neighbours)")
    seconds: float = option(6.0, "length of each part")
    parts: int = option(2, "parts of each side")
    output: Path | None = option(None, "keep the page in this file", metavar="FILE")

    def __post_init__(self) -> None:
        """Raise `InputError` for values out of range."""
        check_ranges(self, {"patents": "[100, inf)", "seconds": "(0, 50]", "parts": "[1, inf)"})


def random_scatter(patents: int, dimensions: int) -> Scatter:
    """Two models of patents in clouds, one a subclass; half of each patent's neighbours are the same in both."""
    draw = np.random.default_rng(0)
    subclass = draw.integers(0, len(SUBCLASSES), patents)
    centres = draw.normal(scale=2, size=(len(SUBCLASSES), 2))
    models = [
        centres[subclass] * far + draw.normal(scale=near, size=(patents, 2)) for far, near in ((1, 0.5), (1.2, 0.4))
    ]
    symbols = np.array(SUBCLASSES)[subclass]
    table = pd.DataFrame({"patent_id": (6_000_000 + 7 * np.arange(patents)).astype(str), "subclass": symbols})
    table["title"] = [
        " ".join(words).capitalize() for words in np.array(WORDS)[draw.integers(0, len(WORDS), (patents, 8))]
    ]
    table["date"] = pd.Series(draw.integers(1976, 2024, patents).astype(str)) + "-05-01"
    table["section"], table["class"] = table["subclass"].str[:1], table["subclass"].str[:3]
    table["subclasses"] = [[symbol, "G06N"] for symbol in symbols]
    names = ["base", "ours"]
    rows = draw.integers(0, patents, (2, patents, NEIGHBOURS)).astype(np.uint32)
    rows[1] = np.where(draw.random(rows[0].shape) < 0.5, *rows)
    cosines = -np.sort(-draw.random(rows.shape, dtype=np.float32))
    near = [Nearest(*found) for found in zip(rows, cosines, strict=True)]
    if dimensions:
        near = [neighbours(draw.normal(size=(patents, dimensions)), NEIGHBOURS) for _ in names]
    metrics = pd.DataFrame({"nDCG@10": [0.4, 0.5]}, index=names)
    points, found = dict(zip(names, models, strict=True)), dict(zip(names, near, strict=True))
    return Scatter(points, table, colour_groups(table), metrics, f"{patents:,} random patents", found)


def measure(browser: Browser, page: Path, renderer: str, seconds: float) -> dict[str, float]:
    """Open the page with a renderer; seconds until it is ready, frames a second, milliseconds of the median frame."""
    started = time.perf_counter()
    browser.call("Page.navigate", url=f"{page.as_uri()}?{started}#renderer={renderer}")
    browser.wait("document.documentElement?.dataset.ready === ''")
    browser.frame()
    measured = {"ready": time.perf_counter() - started}
    if browser.run("usesWebGL") != (renderer == "webgl"):
        raise InputError(f"the browser has no {renderer}. Install another one.")
    for points, least in (
        ("all points", "1"),
        ("paced", "5000 / D.count"),
    ):  # the page draws fewer while it moves, if it has to
        browser.run(f"pace.least = {least}; pace.share = 1; 0")
        frames = browser.run(DRAG.replace("SECONDS", str(seconds)))
        measured[f"frames a second, {points}"] = 1000 * len(frames) / sum(frames)
        measured[f"median frame, {points}"] = statistics.median(frames)
    for name, call in CALLS.items():
        timed = f"(() => {{ {call}; const start = performance.now(); {call}; return performance.now() - start; }})()"
        measured[name] = browser.run(timed)
    return measured


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page, draw it with both renderers in turn, and print the table."""
    (options,) = parse_options(__doc__, Options, argv=argv)
    if not installed():
        raise InputError("no browser on PATH. Install chromium.")
    print(f"{os.cpu_count()} cores, {platform.machine()}")
    started = time.perf_counter()
    scatter = random_scatter(options.patents, options.dimensions)
    print(
        f"{options.patents:,} patents{' with neighbours' * bool(options.dimensions)}: "
        f"{time.perf_counter() - started:.0f} s, {peak_memory_gb():.1f} GB at most"
    )
    with tempfile.TemporaryDirectory() as folder:
        page = (options.output or Path(folder) / "page.html").resolve()
        started = time.perf_counter()
        page.write_text(scatter_page(scatter), encoding="utf-8")
        print(f"page: {page.stat().st_size / 1e6:.1f} MB, written in {time.perf_counter() - started:.0f} s")
        rows: dict[str, list[dict[str, float]]] = {"canvas": [], "webgl": []}
        with browsing(Path(folder), width=1366, height=768) as browser:
            for _ in range(options.parts):
                for renderer, measured in rows.items():
                    measured.append(measure(browser, page, renderer, options.seconds))
            print(browser.call("Browser.getVersion")["product"])
    means = {renderer: pd.DataFrame(measured).mean() for renderer, measured in rows.items()}
    table = pd.DataFrame(means)
    table["webgl / canvas"] = table["webgl"] / table["canvas"]
    print(table.to_string(float_format="{:.2f}".format))


if __name__ == "__main__":
    run_script(main)
