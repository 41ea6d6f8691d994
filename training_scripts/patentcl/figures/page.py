"""The interactive picture: one HTML page that loads nothing, with the titles of the patents on hover."""

import json
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from ..common.files import beside
from .layout import common_frame
from .scatter import Scatter, scatter_figure

TEMPLATE = Path(__file__).with_name("scatter.html")


def scatter_page(scatter: Scatter) -> str:
    """Return the panels of `scatter_figure` as a page to explore.

    The patent under the mouse is ringed in every panel (dashed at the edge if it lies outside the view) and its title
    shown; a click keeps it. The wheel zooms, dragging moves all panels together, a click on the legend hides a group.
    The page holds all its data (1.5 MB for 10,000 patents and 4 models).
    """
    groups, patents = scatter.groups, scatter.patents
    data = {
        "frame": common_frame(scatter.points),
        "panels": [np.asarray(xy, dtype=float).round(4).ravel().tolist() for xy in scatter.points.values()],
        "order": scatter.order.tolist(),
        "group": [list(groups.colours).index(key) for key in groups.of],
        "colours": list(groups.colours.values()),
        "title": patents["title"].tolist(),
        "below": [
            " · ".join(filter(None, (number, ", ".join(symbols), date)))
            for number, symbols, date in zip(*(patents[c] for c in ("patent_id", "subclasses", "date")), strict=True)
        ],
    }
    legend = (
        f'<button aria-pressed="true"><i style="background:{escape(colour)}"></i>'
        f"{escape(groups.names[key])} <small>{groups.counts[key]:,}</small></button>"
        for key, colour in groups.colours.items()
    )
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(scatter.title),
        legend="\n".join(legend),
        panels="\n".join(_panel(name, scatter) for name in scatter.points),
        data=_inert(data),
    )


def _panel(name: str, scatter: Scatter) -> str:
    table = scatter.metrics.reindex([name]).T.to_html(header=False, float_format="{:.3f}".format, na_rep="–", border=0)
    canvases = '<div class="panel"><canvas></canvas><canvas></canvas></div>'
    return f"<figure><figcaption>{escape(name)}</figcaption>{canvases}{table}</figure>"


def _inert(data: dict[str, Any]) -> str:
    # Without < > & no title can end the script element or open another; JSON's ASCII form leaves no U+2028.
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
