"""What to mine: the options, their checks, and how they are written on the command line."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

import numpy as np
import pandas as pd

from ..common.cli import InputError

KINDS = ("citation", "sibling", "random")
POSITIVES = ("cited", "examiner", "coupled")
SPLITS = ("train", "val", "test")
WAYS_TO_SPLIT = ("random", "time")
PLACES, SAMPLE_BUCKETS = 1_000_000, 999_983  # as in triplets.cypher
P, Q = 1_000_000_007, 998_244_353  # primes above any count of patents, so that draws visit all of a branch
BEFORE_FILTER = 2  # with a filter of negatives, so many times as many train triplets are looked at as are wanted

Keep = Callable[[pd.DataFrame], np.ndarray]  # rows with anchor, positive, negative (ranks) → which to keep, (n,) bool

SIZES: dict[str, int | None] = {"10K": 10_000, "100K": 100_000, "1M": 1_000_000, "FULL": None}


@dataclass(frozen=True)
class Mining:
    """What to mine. Shares are of patents for `val` and `test`, and of triplets for `negatives`.

    `positives`: "cited"; "examiner" takes those that the examiner cited first; "coupled" adds, after the cited ones
    and for train triplets only, patents that cite at least `coupled` of the same patents, such that at most `hub`
    cite, for what everybody cites couples nothing. `split`: "random", or "time" to hold out the newest families.
    `filter_model` drops train triplets whose negative that model finds closer than the positive ("": keeps all).

    At most `most_held_out` patents are held out for each of val and test, and at most `most_queries` triplets and
    retrieval queries are kept for each; `corpus` bounds the patents among which the cited ones must be found (0: all).
    `draws` is how many draws a negative has, on large tables; on small ones it has more.
    """

    triplets: int | None = 10_000
    per_anchor: int = 3
    negatives: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 1 / 3))
    val: float = 0.1
    test: float = 0.2
    positives: str = "cited"
    coupled: int = 2
    split: str = "random"
    filter_model: str = ""
    hub: int = 50
    most_held_out: int = 20_000
    most_queries: int = 2_000
    corpus: int = 50_000
    draws: int = 2


def over(mining: Mining) -> int:
    """What `split` of a patent is divided by to get its place in the order by which splits are made."""
    return PLACES if mining.split == "time" else 1


def check(mining: Mining) -> None:
    """Raise `InputError` for what could be mined from no graph, or has no meaning."""
    if mining.corpus < 0:
        raise InputError(f"--corpus {mining.corpus} must be 0 (all patents) or a number above")
    for name, value in (("--per-anchor", mining.per_anchor), ("--coupled", mining.coupled)):
        if not 1 <= value < 1_000_000:
            raise InputError(f"{name} {value} must be at least 1, and below a million")
    for name, word, words in (("positives", mining.positives, POSITIVES), ("split", mining.split, WAYS_TO_SPLIT)):
        if word not in words:
            raise InputError(f"--{name} {word} is not one of {', '.join(words)}: take one of these")
    if mining.coupled != Mining.coupled and mining.positives != "coupled":
        raise InputError(f"--coupled {mining.coupled} has no meaning without --positives coupled: add that")
    if not 0 < mining.test < 1 or not 0 < mining.val < 1 or mining.val + mining.test >= 1:
        raise InputError(f"--val {mining.val} and --test {mining.test} are shares: both above 0, together below 1")


def parse_size(text: str) -> tuple[str, int | None]:
    """Name and number of triplets of "10K", "100K", "1M", "FULL" (all: None) or a plain number."""
    if text.upper() in SIZES:
        return text.upper(), SIZES[text.upper()]
    if re.fullmatch("[1-9][0-9]{0,14}", text):
        return text, int(text)
    raise InputError(f"--triplets {text} is no size: write {', '.join(SIZES)} or a number above 0")


def parse_shares(text: str) -> dict[str, float]:
    """Shares of the kinds of negative, as in "citation=0.4,sibling=0.3,random=0.3", scaled to a sum of 1."""
    shares, seen = dict.fromkeys(KINDS, 0.0), set[str]()
    for item in text.split(","):
        kind, _, share = item.strip().partition("=")
        if kind not in KINDS or not re.fullmatch(r"\d*\.?\d+", share):
            raise InputError(
                f"--negatives {text}: {item!r} is not one of {', '.join(KINDS)} with a share, like citation=0.4"
            )
        if kind in seen:
            raise InputError(f"--negatives {text}: {kind} stands there twice")
        seen.add(kind)
        shares[kind] = float(share)
    if not 0 < sum(shares.values()) < inf:
        raise InputError(f"--negatives {text[:60]}: give at least one kind a share above 0, and none without end")
    return {kind: share / sum(shares.values()) for kind, share in shares.items()}


def check_mining(mining: Mining) -> None:
    """Raise `InputError` for what mining would refuse, before hours go into tables and graph for it."""
    check(mining)
    if mining.filter_model:
        from ..models.load import find_model  # torch takes seconds to import, and mining does without it otherwise

        find_model(mining.filter_model)
