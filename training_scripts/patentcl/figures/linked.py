"""The panels of a scatter picture as linked widgets of a notebook, by jupyter-scatter, which is optional."""

import math
from html import escape
from typing import Any

from .layout import extent
from .scatter import LOWEST, PER_ROW, Scatter


def linked_panels(scatter: Scatter) -> Any:
    """Return a widget with a panel for each model; zoom, selection and hover are the same in all of them.

    Without jupyter-scatter, says how to install it and returns None. It draws millions of points.
    """
    try:
        import jscatter
    except ImportError:
        print("For linked panels here: pip install jupyter-scatter, then restart the kernel.")
        return None
    x0, x1, y0, y1 = extent(scatter.points, LOWEST)
    names = scatter.groups.names
    table = scatter.patents[["patent_id", "title", "date"]].assign(colour=[names[key] for key in scatter.groups.of])
    colours = {names[key]: colour for key, colour in scatter.groups.colours.items()}
    panels = []
    for model, xy in scatter.points.items():
        panel = jscatter.Scatter(
            data=table.assign(x=xy[:, 0], y=xy[:, 1]), x="x", y="y", x_scale=(x0, x1), y_scale=(y0, y1)
        )
        panel.color(by="colour", map=colours).axes(False).background("white")
        panel.tooltip(True, properties=["title", "patent_id", "date", "colour"])
        panels.append((panel, escape(model)))
    rows = math.ceil(len(panels) / PER_ROW)
    columns = math.ceil(len(panels) / rows)
    return jscatter.compose(
        panels, sync_view=True, sync_selection=True, sync_hover=True, rows=rows, cols=columns, row_height=420
    )
