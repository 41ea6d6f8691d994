"""Colours of lines and texts, fonts, and texts as a figure can draw them."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pandas as pd
from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties, findfont, get_font, get_font_names
from pandas.io.formats.style import Styler

INK, FAINT, RED, BLUE = "#222222", "#BBBBBB", "#B2182B", "#332288"
# Fonts with Chinese, Japanese, Korean or Thai letters, as Linux, macOS and Windows have them.
FONTS = (
    "Noto Sans CJK SC|Noto Sans CJK JP|WenQuanYi Zen Hei|WenQuanYi Micro Hei|Droid Sans Fallback|IPAGothic|NanumGothic|"
    "Noto Sans Thai|Arial Unicode MS|Hiragino Sans|Apple SD Gothic Neo|Microsoft YaHei|Yu Gothic|Malgun Gothic|Tahoma"
)
# They have one weight, which matplotlib would report for each size of text.
logging.getLogger("matplotlib.font_manager").addFilter(lambda record: "font weight" not in record.getMessage())


@contextmanager
def more_fonts() -> Iterator[None]:
    """Take letters that the usual font lacks from those of `FONTS` that are installed. Use it as a decorator."""
    installed = get_font_names()
    with rc_context({"font.family": [*rcParams["font.family"], *(f for f in FONTS.split("|") if f in installed)]}):
        yield


def drawable(text: str) -> str:
    """Put □ for what the fonts have no glyph for, keep $ from starting a formula and _ from hiding a legend entry."""
    text, known = re.sub("^_", "\u200b_", " ".join(text.split())), _letters(tuple(rcParams["font.family"]))
    return "".join(letter if ord(letter) in known else "□" for letter in text).replace("$", r"\$")


@cache
def _letters(families: tuple[str, ...]) -> frozenset[int]:
    return frozenset().union(*(get_font(findfont(FontProperties(family=[name]))).get_charmap() for name in families))


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


def text_table(table: pd.DataFrame) -> Styler:
    """Show a table of texts in a notebook, wrapped and escaped."""
    css = "text-align: left; vertical-align: top; padding: 4px 12px; border-bottom: 1px solid #ddd; max-width: 24em"
    styler: Any = table.style.format(escape="html", na_rep="–").format_index(escape="html")
    styler = styler.format_index(escape="html", axis=1)
    styler.set_table_styles([{"selector": "td, th", "props": f"{css}; white-space: pre-line"}])
    # A notebook would typeset what stands between two $ of a title; these classes turn MathJax off.
    return styler.set_table_attributes('class="tex2jax_ignore mathjax_ignore" style="border-collapse: collapse"')


def years_of(patents: pd.DataFrame) -> pd.Series:
    """The year of each patent's date; NaN without one."""
    return pd.to_datetime(patents["date"], format="ISO8601", errors="coerce").dt.year
