"""The interactive picture: one HTML page that loads nothing, to compare models patent by patent."""

import base64
import gzip
import hashlib
import json
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd

from ..common.cli import InputError
from ..common.files import beside
from ..evaluation.metrics import METRICS
from .colours import ColorBy, Groups, colour_groups
from .layout import common_frame
from .scatter import Scatter, scatter_figure

WEB = Path(__file__).with_name("web")
SCRIPTS = ("data", "canvas", "webgl", "maps", "pointing", "search", "filters", "neighbours", "start")  # .js, in order
REACH = 32_767  # coordinates are 16-bit integers: the frame around all points goes from -REACH to REACH
LEVELS: tuple[ColorBy, ...] = ("section", "class", "subclass", "year")
FAR = 1.5  # far islands are left out of the first view if without them it magnifies that many times more


def scatter_page(scatter: Scatter) -> str:
    """Return a page to explore `scatter`: search, neighbours, filters, and points that move from model to model.

    The page holds all its data, each array as base64 of gzip, which the browser unpacks: about 90 bytes a patent and 50
    for each of its models (1.3 MB for 10,000 patents of one model). Above 20,000 patents it draws with WebGL.
    """
    colourings = _colourings(scatter)
    header, arrays = _header(scatter, colourings), _arrays(scatter, colourings)
    script = "\n".join(['"use strict";', *((WEB / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)])
    return Template((WEB / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(scatter.title.removesuffix(f", coloured by {scatter.groups.by}")),  # the colours can be chosen
        style=(WEB / "style.css").read_text(encoding="utf-8"),
        header=_inert(header),
        arrays="\n".join(f'<script type="text/plain" id="{name}">{_packed(array)}</script>' for name, array in arrays),
        script=script,
        # Only this script is executed, even if a title could end the element that holds it.
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _colourings(scatter: Scatter) -> dict[str, Groups]:
    """What the page can colour and filter by: that of the picture first, then the others that these patents have."""
    found = {scatter.groups.by or "none": scatter.groups}
    for level in LEVELS:
        try:
            groups = colour_groups(scatter.patents, level, scatter.titles)
        except InputError:  # they have no classes, or no dates
            continue
        if len(groups.colours) > 1 and groups not in found.values():
            found.setdefault(groups.by if groups.by not in found else level, groups)
    return found


def _header(scatter: Scatter, colourings: dict[str, Groups]) -> dict[str, Any]:
    metrics = scatter.metrics.reindex(list(scatter.points))
    values = metrics.astype(object).where(metrics.notna(), None)
    return {
        "models": list(scatter.points),
        "count": len(scatter.patents),
        "neighbours": next((near.rows.shape[1] for near in scatter.neighbours.values()), 0),
        "home": _home(scatter),
        "colourings": [
            {"by": by, "names": [groups.names[key] for key in groups.colours], "colours": list(groups.colours.values())}
            for by, groups in colourings.items()
        ],
        "metrics": [
            {"name": str(name), "up": name not in METRICS or METRICS[name].higher_is_better, "values": column.tolist()}
            for name, column in values.items()
        ],
    }


def _arrays(scatter: Scatter, colourings: dict[str, Groups]) -> list[tuple[str, bytes]]:
    """Little-endian, as every browser's typed arrays are; the models one after the other."""
    x, y, half = common_frame(scatter.points)
    xy = np.stack([(points - (x, y)) / half * REACH for points in scatter.points.values()])
    near = [scatter.neighbours[name] for name in scatter.points if name in scatter.neighbours]
    keys = [{key: place for place, key in enumerate(groups.colours)} for groups in colourings.values()]
    of = [[place[key] for key in groups.of] for place, groups in zip(keys, colourings.values(), strict=True)]
    patents = scatter.patents
    year = pd.to_numeric(patents["date"].astype(str).str.extract(r"^(\d{4})\b", expand=False)).fillna(0)
    texts = {
        "title": [" ".join(title.split()) for title in patents["title"]],
        "id": patents["patent_id"].tolist(),
        "date": patents["date"].astype(str).tolist(),
        "classes": [", ".join(symbols) for symbols in patents["subclasses"]],
    }
    return [
        ("xy", xy.round().astype("<i2").tobytes()),
        ("near", b"".join(n.rows.astype("<u4").tobytes() for n in near)),
        ("cosines", b"".join((n.cosines * 100).round().astype("i1").tobytes() for n in near)),
        ("groups", np.array(of, np.uint8).tobytes()),
        ("year", year.to_numpy("<i2").tobytes()),
        ("texts", json.dumps(texts, separators=(",", ":")).encode()),
    ]


def _home(scatter: Scatter) -> list[float]:
    """Middle (x, y) and half sides (x, y) of what the page shows first, in its coordinates."""
    x, y, half = common_frame(scatter.points)
    xy = (np.concatenate(list(scatter.points.values())) - (x, y)) / half * REACH
    low, high = np.quantile(xy, [[0.0], [1.0]], axis=0)[:, 0]
    near, far = np.quantile(xy, [[0.005], [0.995]], axis=0)[:, 0]
    if ((high - low) > FAR * (far - near)).any():
        low, high = near, far
    return [*((low + high) / 2).round(1).tolist(), *((high - low) * 0.53 + 1).round(1).tolist()]


def _packed(array: bytes) -> str:
    return base64.b64encode(gzip.compress(array, 6, mtime=0)).decode()


def _inert(data: dict[str, Any]) -> str:
    # Without < > & no name can end the script element or open another; JSON's ASCII form leaves no U+2028.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def save_scatter(scatter: Scatter, folder: Path) -> None:
    """Write `scatter.png`, `scatter.html` and `metrics.csv` to `folder`."""
    with beside(folder / "scatter.png") as scratch:
        scatter_figure(scatter).savefig(scratch, format="png")
    with beside(folder / "scatter.html") as scratch:
        scratch.write_text(scatter_page(scatter), encoding="utf-8")
    with beside(folder / "metrics.csv") as scratch:
        scatter.metrics.to_csv(scratch, index_label="model")
