"""What a scatter picture shows: 2-D points of each model's embeddings, colour groups, and each model's figures.

Every function takes the same two things: `embeddings`, a dict of model name → (N, d) array, and `patents`, a
frame whose row i is the patent of embedding row i, with the columns patent_id, title, section, class, subclass
(its primary CPC symbol, empty where unclassified) and subclasses (list of all its subclasses).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..common.cli import InputError
from ..tables.cpc import SECTIONS

Floats = NDArray[np.floating[Any]]

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


def project(embeddings: Mapping[str, np.ndarray], seed: int = 42, neighbours: int = 15) -> dict[str, Floats]:
    """Return each model's patents as (N, 2) points in one common frame: centred, root-mean-square radius 1.

    UMAP (McInnes, Healy & Melville 2018, arXiv:1802.03426), cosine, deterministic for a `seed` on one machine.
    The first model is laid out freely; each other model starts from that picture and is then rotated or
    mirrored onto it (orthogonal Procrustes; Schönemann 1966), so that a patent lies at about the same place in
    all panels. Axes have no unit: only who lies near whom has a meaning.

    Measured at 1,769 real patents × 3 models of 384 dimensions (a sentence model, the same on titles only, the
    same under noise) on 2 cores, the first two as means of three seeds; loading and compiling add 15 s:

    =====================================  ====  ===================  =================================
    layout                                 time  trustworthiness, 15  median shift from the first panel
    =====================================  ====  ===================  =================================
    one UMAP per model, rotated            21 s  0.890  0.900  0.812  0.48  0.37
    **started from the first, rotated**    18 s  0.890  0.898  0.811  0.37  0.35
    AlignedUMAP, identity relations        61 s  0.878  0.886  0.802  0.19  0.18
    =====================================  ====  ===================  =================================

    AlignedUMAP is not used: three times slower, less true to each model, and it pulls the models' pictures
    together, which hides the very differences that the panels are there to show.

    Raises `InputError` for fewer than 4 patents, models of unequal length, and values that are not finite.
    """
    _check(embeddings)
    import umap  # here, because it takes seconds to load and nothing else in this file needs it

    pictures: dict[str, Floats] = {}
    first: Floats | None = None
    for name, rows in embeddings.items():
        layout = umap.UMAP(
            n_neighbors=min(neighbours, len(rows) - 1),
            metric="cosine",
            init="spectral" if first is None else _as_start(first),
            random_state=seed,
            n_jobs=1,  # what a seed implies; said, so that UMAP does not warn
        )
        picture = _centred(np.asarray(layout.fit_transform(np.asarray(rows, dtype=np.float32)), dtype=float))
        first = picture if first is None else first
        pictures[name] = picture @ _rotation(picture, first)
    return pictures


def _check(embeddings: Mapping[str, np.ndarray]) -> None:
    sizes = {name: len(rows) for name, rows in embeddings.items()}
    if not sizes or min(sizes.values()) < 4:
        raise InputError(f"a picture needs at least 4 patents of at least one model, not {sizes}: take a larger sample")
    if len(set(sizes.values())) > 1:
        raise InputError(f"the models embed different numbers of patents ({sizes}): embed the same ones with each")
    for name, rows in embeddings.items():
        if not np.isfinite(rows).all():
            raise InputError(f"the embeddings of {name} hold NaN or infinity: embed these patents again")


def _centred(points: Floats) -> Floats:
    points = points - points.mean(axis=0)
    return points / (np.sqrt((points**2).sum(axis=1).mean()) or 1.0)


def common_frame(points: Mapping[str, np.ndarray]) -> tuple[float, float, float]:
    """Return the middle (x, y) and half the side of the smallest square, plus 4 %, around all models' points."""
    xy = np.concatenate(list(points.values()))
    low, high = xy.min(axis=0), xy.max(axis=0)
    x, y = (low + high) / 2
    return float(x), float(y), 0.52 * (float((high - low).max()) or 1.0)


def _as_start(points: Floats) -> NDArray[np.float32]:
    # The extent that UMAP gives its own spectral start; a narrower one costs epochs, a wider one never closes.
    low, high = points.min(axis=0), points.max(axis=0)
    return (10 * (points - low) / np.maximum(high - low, 1e-9)).astype(np.float32)


def _rotation(points: Floats, onto: Floats) -> Floats:
    # Without scaling: Procrustes' scale would shrink exactly the pictures that resemble the first one least.
    left, _, right = np.linalg.svd(points.T @ onto)
    return left @ right


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
    size: int = len(PALETTE),
    titles: Mapping[str, str] | None = None,
) -> Groups:
    """Group patents by their primary CPC symbol, one colour for each of the `size` most frequent symbols.

    Ties go to the alphabet, and so does the order in the legend. Sections keep the same colour whichever data
    they come from; classes and subclasses take the palette in order. The rest is "other" in grey, patents
    without a symbol are "unclassified" in light grey. `titles` names classes or subclasses for the legend
    (symbol → title; long ones are cut). Raises `InputError` when `size` exceeds the palette's nine colours.
    """
    if not 1 <= size <= len(PALETTE):
        raise InputError(f"the palette has colours for 1 to {len(PALETTE)} groups, not {size}: lower the number")
    symbols = patents[by].fillna("").astype(str)
    counts = symbols[symbols != ""].value_counts()
    is_cpc = by == "section" and bool(counts.index.isin(list(SECTIONS)).any())  # one's own corpus has other symbols
    if is_cpc:
        counts = counts[counts.index.isin(list(SECTIONS))]
    chosen = sorted(sorted(counts.index, key=lambda symbol: (-counts[symbol], symbol))[:size])
    of = [s if s in chosen else OTHER if s else UNCLASSIFIED for s in symbols]
    colours = SECTION_COLOURS if is_cpc else dict(zip(chosen, PALETTE, strict=False))
    greys = {OTHER: OTHER_COLOUR, UNCLASSIFIED: UNCLASSIFIED_COLOUR}
    present = [*chosen, *(grey for grey in greys if grey in of)]
    known = {**SECTIONS, **(titles or {})}
    return Groups(
        of=of,
        colours={key: {**colours, **greys}[key] for key in present},
        names={key: shortened(f"{key} {_plain(known.get(key, ''))}", NAME_LENGTH) for key in present},
    )


def _plain(title: str) -> str:
    # CPC's own titles shout, and explain in brackets what belongs elsewhere.
    title = re.sub(r"\s*[(\[{].*?[)\]}]+", "", title)
    return title.capitalize() if title.isupper() else title


def shortened(text: str, length: int) -> str:
    """Cut `text` at a word to at most `length` characters, with an ellipsis where something is missing."""
    text = " ".join(text.split())
    if len(text) <= length:
        return text
    cut = text[: length - 1]
    return (cut.rsplit(" ", 1)[0] if " " in cut[length // 2 :] else cut).rstrip(" ;,.:-–") + "…"
