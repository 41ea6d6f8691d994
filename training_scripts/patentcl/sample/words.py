"""The words of the synthetic sample and the layouts of its tables, from `sample.toml`, which explains them."""

import tomllib
from pathlib import Path
from typing import Any

_CONTENT = tomllib.loads(Path(__file__).with_name("sample.toml").read_text(encoding="utf-8"))

TODAY: dict[str, Any] = _CONTENT["today"]  # what a table holds → its file and columns
BEFORE_2023: dict[str, Any] = _CONTENT["before_2023"]
SUBCLASSES: dict[str, Any] = _CONTENT["subclasses"]  # symbol → title, words
PAIRS: list[tuple[str, str]] = list(_CONTENT["pairs"].items())  # a term and its counterpart
SENTENCES: list[dict[str, Any]] = _CONTENT["sentences"]  # gaps: the letters of their words; templates
TITLES: list[dict[str, Any]] = _CONTENT["titles"]
STRAY: dict[str, Any] = _CONTENT["stray"]
HARD: list[str] = _CONTENT["hard"]
GENERAL: list[str] = _CONTENT["general"]
SYLLABLES: list[str] = _CONTENT["syllables"]
ENDINGS: list[str] = _CONTENT["endings"]
SURNAMES: list[str] = _CONTENT["surnames"]
