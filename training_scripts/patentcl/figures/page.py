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

from ..common.cli import InputError
from ..common.files import beside
from ..evaluation.metrics import METRICS
from .colours import ColorBy, Groups, colour_groups
from .layout import extent
from .scatter import Scatter, scatter_figure
from .style import shortened, years_of

WEB = Path(__file__).with_name("web")
SCRIPTS = ("data", "canvas", "webgl", "maps", "pointing", "search", "filters", "neighbours", "start")  # .js, in order
LONGEST = 300  # letters of a title
REACH = 32_767  # coordinates are 16-bit integers: the frame around all points goes from -REACH to REACH
LEVELS: tuple[ColorBy, ...] = ("section", "class", "subclass", "year")


def scatter_page(scatter: Scatter) -> str:
    """Return a page to explore `scatter`: search, neighbours, filters, and points that move from model to model.

    The page holds all its data, each array as base64 of gzip, which the browser unpacks: about 90 bytes a patent and 50
    for each of its models (1.3 MB for 10,000 patents of one model). Above 20,000 patents it draws with WebGL.
    """
    colourings, (x0, x1, y0, y1) = _colourings(scatter), extent(scatter.points, 1)
    xy = (np.stack(list(scatter.points.values())) - (x0, y0)) / (x1 - x0, y1 - y0) * 2 * REACH - REACH
    header, arrays = _header(scatter, colourings, xy), _arrays(scatter, colourings, xy)
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


def _header(scatter: Scatter, colourings: dict[str, Groups], xy: np.ndarray) -> dict[str, Any]:
    metrics = scatter.metrics.reindex(list(scatter.points)).astype(object)
    return {
        "models": list(scatter.points),
        "count": len(scatter.patents),
        "neighbours": next((near.rows.shape[1] for near in scatter.neighbours.values()), 0),
        "home": [0, 0, *(1.06 * np.abs(xy).max(axis=(0, 1)) + 1).tolist()],  # middle and half sides of the first view
        "colourings": [
            {"by": by, "names": list(groups.names.values()), "colours": list(groups.colours.values())}
            for by, groups in colourings.items()
        ],
        "metrics": [
            {"name": str(name), "up": name not in METRICS or METRICS[name].higher_is_better, "values": column.tolist()}
            for name, column in metrics.where(metrics.notna(), None).items()
        ],
    }


def _arrays(scatter: Scatter, colourings: dict[str, Groups], xy: np.ndarray) -> list[tuple[str, bytes]]:
    """Little-endian, as every browser's typed arrays are; the models one after the other."""
    near = [scatter.neighbours[name] for name in scatter.points if name in scatter.neighbours]
    of = [[*map(list(groups.colours).index, groups.of)] for groups in colourings.values()]
    patents = scatter.patents
    texts = {
        "title": [shortened(title, LONGEST) for title in patents["title"]],
        "id": patents["patent_id"].tolist(),
        "date": patents["date"].astype(str).tolist(),
        "classes": patents["subclasses"].str.join(", ").tolist(),
    }
    return [
        ("xy", xy.round().astype("<i2").tobytes()),
        ("near", b"".join(n.rows.astype("<u4").tobytes() for n in near)),
        ("cosines", b"".join((n.cosines * 100).round().astype("i1").tobytes() for n in near)),
        ("groups", np.array(of, np.uint8).tobytes()),
        ("year", years_of(patents).fillna(0).to_numpy("<i2").tobytes()),
        ("texts", json.dumps(texts, separators=(",", ":")).encode()),
    ]


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
