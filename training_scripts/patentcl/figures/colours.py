"""Colour groups of patents by their CPC symbols, the same in every picture, or by their years."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import matplotlib
import pandas as pd
from matplotlib.colors import to_hex

from ..common.cli import InputError
from ..tables.cpc import SECTIONS
from .style import BLUE, shortened

ColorBy = Literal["auto", "section", "class", "subclass", "year", "none"]

# Paul Tol's "muted" scheme (https://sronpersonalpages.nl/~pault/, SRON/EPS/TN/09-002): nine colours that stay
# apart for colour-blind readers, and pale grey for what has no class. A section keeps its colour everywhere.
SECTION_COLOURS = {
    "A": "#CC6677",  # rose
    "B": "#DDCC77",  # sand
    "C": "#117733",  # green
    "D": "#AA4499",  # purple
    "E": "#999933",  # olive
    "F": "#882255",  # wine
    "G": "#332288",  # indigo
    "H": "#88CCEE",  # cyan
    "Y": "#44AA99",  # teal
}
# For classes and subclasses, which have no colour of their own: the same nine, Tol's order.
PALETTE = ["#332288", "#DDCC77", "#117733", "#CC6677", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499"]
OTHER, OTHER_COLOUR = "other", "#8F8F8F"
UNCLASSIFIED, UNCLASSIFIED_COLOUR = "unclassified", "#DDDDDD"
UNDATED = "undated"
# For periods, from old to new, as they have an order; the lightest colours are hard to see on white.
YEARS, LIGHTEST = "viridis", 0.93
SPANS = (1, 2, 5, 10, 20, 50, 100, 1000)  # years of a period

NAME_LENGTH = 52  # characters of a legend entry


@dataclass(frozen=True)
class Groups:
    """The colour group of every patent, and how the groups look in the legend.

    `of`: N group keys; `colours`: key → "#RRGGBB" in legend order; `names`: key → text for the legend.
    """

    of: list[str]
    colours: dict[str, str]
    names: dict[str, str]

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of patents of each group, in legend order."""
        return {key: self.of.count(key) for key in self.colours}


def chosen_colouring(patents: pd.DataFrame, by: ColorBy) -> ColorBy:
    """`by`, or for "auto" the first of section, year and none that these patents have.

    Raises `InputError` if they have no symbol or date of the given kind.
    """
    has_classes, has_dates = ((patents[name] != "").any() for name in ("subclass", "date"))
    if by == "auto":
        return "section" if has_classes else "year" if has_dates else "none"
    if not {"year": has_dates, "none": True}.get(by, has_classes):
        raise InputError(f"--color-by {by}: these patents have no {'date' if by == 'year' else 'classes'}. Use auto")
    return by


def colour_groups(patents: pd.DataFrame, by: ColorBy = "section", titles: Mapping[str, str] | None = None) -> Groups:
    """Group patents by their primary CPC symbol, one colour for each of the nine most frequent symbols.

    Ties and the legend are in alphabetical order. Sections have the same colour in all data; classes and subclasses
    take the palette in order. The rest is "other" in grey, patents without a symbol are "unclassified" in light grey.
    `titles` names classes or subclasses in the legend (symbol → title; long ones are cut).

    By "year", groups are at most nine periods of equal length, from dark to light. By "none", there is one group.
    """
    if by == "none":
        return Groups(["patents"] * len(patents), {"patents": BLUE}, {"patents": "patents"})
    if by == "year":
        return _periods(patents)
    symbols = patents[by].fillna("").astype(str)
    counts = symbols[symbols != ""].value_counts()
    sections = counts[counts.index.isin(list(SECTIONS))]
    has_cpc_sections = by == "section" and not sections.empty  # a custom corpus has other symbols
    counts = sections if has_cpc_sections else counts
    chosen = sorted(counts.sort_index().sort_values(ascending=False, kind="stable").index[: len(PALETTE)])
    of = [s if s in chosen else OTHER if s else UNCLASSIFIED for s in symbols]
    colours = SECTION_COLOURS if has_cpc_sections else dict(zip(chosen, PALETTE, strict=False))
    colours = {**colours, OTHER: OTHER_COLOUR, UNCLASSIFIED: UNCLASSIFIED_COLOUR}
    present = [*chosen, *(key for key in (OTHER, UNCLASSIFIED) if key in of)]
    known = {**SECTIONS, **(titles or {})}
    names = {key: shortened(f"{key} {_plain(known.get(key, ''))}", NAME_LENGTH) for key in present}
    return Groups(of, {key: colours[key] for key in present}, names)


def _periods(patents: pd.DataFrame) -> Groups:
    years = pd.to_datetime(patents["date"], errors="coerce").dt.year
    known = years.dropna().astype(int)
    span = next(n for n in SPANS if (known // n).max() - (known // n).min() < len(PALETTE) or n == SPANS[-1])
    starts = sorted(set(known // span * span))
    names = {str(start): f"{start}–{start + span - 1}" if span > 1 else str(start) for start in starts}
    scale = matplotlib.colormaps[YEARS]
    shade = {start: LIGHTEST * (start - starts[0]) / max(starts[-1] - starts[0], 1) for start in starts}
    colours = {str(start): to_hex(scale(shade[start])) for start in starts}
    of = [UNDATED if pd.isna(year) else str(int(year) // span * span) for year in years]
    if UNDATED in of:
        colours, names = {**colours, UNDATED: UNCLASSIFIED_COLOUR}, {**names, UNDATED: UNDATED}
    return Groups(of, colours, names)


def _plain(title: str) -> str:
    # CPC titles are in capitals and say in brackets what belongs elsewhere.
    title = re.sub(r"\s*[(\[{].*?[)\]}]+", "", title)
    return title.capitalize() if title.isupper() else title
