"""Colour groups of patents by their CPC symbols, the same in every picture."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from ..tables.cpc import SECTIONS
from .style import shortened

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


def colour_groups(
    patents: pd.DataFrame,
    by: Literal["section", "class", "subclass"] = "section",
    titles: Mapping[str, str] | None = None,
) -> Groups:
    """Group patents by their primary CPC symbol, one colour for each of the nine most frequent symbols.

    Ties and the legend are in alphabetical order. Sections have the same colour in all data; classes and subclasses
    take the palette in order. The rest is "other" in grey, patents without a symbol are "unclassified" in light grey.
    `titles` names classes or subclasses in the legend (symbol → title; long ones are cut).
    """
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


def _plain(title: str) -> str:
    # CPC titles are in capitals and say in brackets what belongs elsewhere.
    title = re.sub(r"\s*[(\[{].*?[)\]}]+", "", title)
    return title.capitalize() if title.isupper() else title
