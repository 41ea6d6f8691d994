"""Colours of lines and texts, and texts as a figure can draw them."""

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties, findfont, get_font

INK, FAINT, RED, BLUE = "#222222", "#BBBBBB", "#B2182B", "#332288"


def drawable(text: str) -> str:
    """Replace what the font has no glyph for by □, and keep $ from starting a formula."""
    known = get_font(findfont(FontProperties())).get_charmap()
    letters = (letter if ord(letter) in known else "□" for letter in " ".join(text.split()))
    return "".join(letters).replace("$", r"\$")


def shortened(text: str, length: int) -> str:
    """Cut `text` at a word to at most `length` characters, with an ellipsis for what is missing."""
    text = " ".join(text.split())
    if len(text) <= length:
        return text
    cut = text[: length - 1]
    return (cut.rsplit(" ", 1)[0] if " " in cut[length // 2 :] else cut).rstrip(" ;,.:-–") + "…"


def plain_axes(axes: Axes, title: str) -> Axes:
    """Remove what distracts from the data."""
    axes.set_title(title, size=11, color=INK, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(linewidth=0.6, color=FAINT)
    axes.tick_params(length=2, color=FAINT, labelcolor=INK)
    return axes
