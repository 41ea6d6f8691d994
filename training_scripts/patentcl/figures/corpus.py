"""Figures of a corpus: patents per year, and how many citations and classes they have."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from .colours import colour_groups
from .style import BLUE, INK, more_fonts, plain_axes, years_of


@more_fonts()
def patents_per_year(patents: pd.DataFrame) -> Figure:
    """Draw the patents granted in each year, stacked by CPC section, or by the classes of another scheme.

    `patents`: columns date (YYYY-MM-DD or a timestamp; rows that hold neither are left out), section and subclass.
    """
    years = years_of(patents)
    dated = patents[years.notna()]
    groups = colour_groups(dated, "section" if (dated["section"] != "").any() else "none")
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    coloured = f", by primary {groups.by}" if groups.by else ""
    axes = plain_axes(figure.subplots(), f"Patents per year of grant{coloured} ({len(patents):,})")
    axes.set_ylabel("patents", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if len(dated):
        stacks = [years.dropna()[np.array(groups.of) == key] for key in groups.colours]
        bins = np.arange(years.min(), years.max() + 2) - 0.5
        colours, labels = list(groups.colours.values()), groups.labels
        axes.hist(stacks, bins, stacked=True, color=colours, label=labels, rwidth=0.9)  # type: ignore[arg-type]
        figure.legend(loc="outside right upper", frameon=False, fontsize=9, labelcolor=INK, reverse=True)
    return figure


def degree_histograms(corpus: pd.DataFrame) -> Figure:
    """Draw how many patents of an `overview` have how many citations out, citations in, and classes.

    Bars cover powers of two (0, 1, 2–3, 4–7, …), because degrees span orders of magnitude and a logarithmic axis has no
    place for 0; heights are logarithmic too.
    """
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    titles = ["Citations made (inside the table)", "Citations received (inside the table)", "Classes per patent"]
    columns = corpus[["cites", "cited_by", "classes"]].to_numpy(int).T
    for axes, title, counts in zip(figure.subplots(1, 3), titles, columns, strict=True):
        heights = np.bincount(np.frexp(counts)[1])  # the binary exponent: 0 of 0, 1 of 1, 2 of 2 and 3, …
        lows = [0, *(2**n for n in range(len(heights) - 1))]
        names = [str(low) if low < 2 else f"{low}–{2 * low - 1}" for low in lows[: len(heights)]]
        bars = plain_axes(axes, title).bar(names, heights, color=BLUE, width=0.85)
        axes.bar_label(bars, [f"{h:,}" if h else "" for h in heights], size=8, color=INK, padding=1)
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylim(0.7, max(heights.max(initial=1) * 2.5, 10))
        axes.tick_params(axis="x", labelsize=8, rotation=30 if len(names) > 6 else 0)
        known = (
            f"median {np.median(counts):g}, mean {counts.mean():.1f}, max {counts.max():,}" if counts.any() else "none"
        )
        axes.set_xlabel(known, color=INK)
        axes.set_ylabel("patents", color=INK)
    return figure
