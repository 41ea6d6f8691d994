"""Colour groups of patents by their CPC symbols, the same in every picture, or by their years."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import pandas as pd
from matplotlib.colors import Normalize, to_hex

from ..common.cli import InputError
from ..tables.cpc import SECTIONS, uses_cpc
from .style import BLUE, drawable, shortened, years_of

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
OTHER, UNCLASSIFIED, UNDATED = "other", "unclassified", "undated"
GREYS = {OTHER: "#8F8F8F", UNCLASSIFIED: "#DDDDDD", UNDATED: "#DDDDDD"}
# For periods, from old to new, as they have an order; the lightest colours are hard to see on white.
YEARS, LIGHTEST = "viridis", 0.93
SPANS = (1, 2, 5, 10, 20, 50, 100, 10_000)  # years of a period

NAME_LENGTH = 52  # characters of a legend entry


@dataclass(frozen=True)
class Groups:
    """The colour group of every patent, and how the groups look in the legend.

    `by`: what colours stand for, "" for nothing; `of`: N group keys. `colours` and `names`: key → "#RRGGBB" and text in
    the order of the legend.
    """

    by: str
    of: list[str]
    colours: dict[str, str]
    names: dict[str, str]

    @property
    def labels(self) -> list[str]:
        """Return name and count of each group in legend order, as a figure can draw them."""
        return [f"{drawable(name)}  ({self.of.count(key):,})" for key, name in self.names.items()]


def colour_groups(patents: pd.DataFrame, by: ColorBy = "auto", titles: Mapping[str, str] | None = None) -> Groups:
    """Group patents by their primary class symbol, one colour for each of the nine most frequent symbols.

    Ties and the legend are in alphabetical order. CPC sections have the same colour in all data; other symbols take the
    palette in order. The rest is "other" in grey, patents without a symbol are "unclassified" in light grey.
    `titles` names classes or subclasses in the legend (symbol → title; long ones are cut).

    By "year", groups are at most nine periods of equal length, from dark to light. By "none", there is one group.
    "auto" is the first of section, year and none that these patents have. Raises `InputError` if they have no symbol or
    date of the given kind.
    """
    has_classes = (patents["section"] != "").any()
    if by == "year" or (by == "auto" and not has_classes and (patents["date"] != "").any()):
        return _periods(patents)
    if by == "none" or (by == "auto" and not has_classes):
        return Groups("", ["patents"] * len(patents), {"patents": BLUE}, {"patents": "patents"})
    if not has_classes:
        raise InputError(f"--color-by {by}: these patents have no classes. Use auto")
    level: Any = "section" if by == "auto" else by
    symbols, is_cpc = patents[level].astype(str), uses_cpc(patents["subclass"])
    sections = SECTIONS if is_cpc and level == "section" else {}
    counts = symbols[symbols.isin([*sections]) if sections else symbols != ""].value_counts().sort_index()
    chosen = sorted(counts.sort_values(ascending=False, kind="stable").index[: len(PALETTE)])
    of = [s if s in chosen else OTHER if s else UNCLASSIFIED for s in symbols]
    colours = (SECTION_COLOURS if sections else dict(zip(chosen, PALETTE, strict=False))) | GREYS
    known, keys = {**sections, **(titles or {})}, [key for key in (*chosen, *GREYS) if key in of]
    names = {key: shortened(f"{key} {_plain(known.get(key, ''))}", NAME_LENGTH) for key in keys}
    return Groups(f"CPC {level}" if is_cpc else "class", of, {key: colours[key] for key in names}, names)


def _periods(patents: pd.DataFrame) -> Groups:
    years = years_of(patents).dropna().astype(int)
    if years.empty:
        raise InputError("--color-by year: these patents have no date. Use auto")
    span = next(n for n in SPANS if (years // n).max() - (years // n).min() < len(PALETTE))
    starts = years // span * span
    names = {start: f"{start}–{start + span - 1}" if span > 1 else str(start) for start in sorted(set(starts))}
    of = starts.map(names).reindex(patents.index, fill_value=UNDATED).tolist()
    age = Normalize(starts.min(), max(starts.max(), starts.min() + 1))
    colours = {name: to_hex(matplotlib.colormaps[YEARS](LIGHTEST * age(start))) for start, name in names.items()}
    colours |= {UNDATED: GREYS[UNDATED]} if UNDATED in of else {}
    return Groups("year", of, colours, {key: key for key in colours})


def _plain(title: str) -> str:
    # CPC titles are in capitals and say in brackets what belongs elsewhere.
    title = re.sub(r"\s*[(\[{].*?[)\]}]+", "", title)
    return title.capitalize() if title.isupper() else title
