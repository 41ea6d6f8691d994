"""What to mine: options with their help texts, choices, checks and derived values, in one place."""

import re
from dataclasses import asdict, dataclass, replace
from math import inf
from typing import Any, ClassVar, Literal

from ..common.cli import InputError, check_ranges, option

KINDS = ("citation", "sibling", "random")  # of negatives, from hard to easy; each is a part of triplets.cypher
Positives = Literal["cited", "examiner", "coupled"]
SPLITS = ("train", "val", "test")
SIZES: dict[str, int | None] = {"10K": 10_000, "100K": 100_000, "1M": 1_000_000, "FULL": None}

P, Q = 1_000_000_007, 998_244_353  # primes above any number of patents, so that draws visit a whole branch
HUB = 50  # a patent that more patents cite couples nothing, and one that cites more leads to no negative
MAX_HELD_OUT = 20_000  # patents in each of val and test


@dataclass(frozen=True)
class Mining:
    """What to mine. Raises `InputError`, which names the flag, for values that make no sense.

    Coupled positives follow the cited ones of an anchor, in train triplets only. `val` and `test` are shares of
    patents, of which at most `MAX_HELD_OUT` are held out for each.
    """

    _argument_group_name: ClassVar[str] = "triplets"

    triplets: str = option("10K", "train triplets: 10K, 100K, 1M, FULL (all) or a number", metavar="SIZE")
    positives: Positives = option(
        "cited",
        "cited: patents that the anchor cites; examiner: the same, examiner citations first; "
        "coupled: after the cited ones, patents that cite the same patents",
    )
    coupled: int = option(
        2,
        "with --positives coupled: minimum number of shared citations, counting only patents that at most "
        f"{HUB} patents cite",
        metavar="K",
    )
    per_anchor: int = option(3, "maximum positives per anchor", metavar="K")
    negatives: str = option(
        ",".join(f"{kind}=1" for kind in KINDS), "shares of the kinds of negative", metavar="SHARES"
    )
    filter_model: str = option(
        "", "drop train triplets whose negative this model finds closer than the positive", metavar="NAME|DIR"
    )
    split: Literal["random", "time"] = option("random", "hold out random families, or the newest ones")
    val: float = option(0.1, "share of patents held out for validation")
    test: float = option(0.2, "share of patents held out for testing")
    corpus: int = option(50_000, "patents that an evaluation searches (0: all)")
    max_queries: int = option(2_000, "maximum number of queries, and of triplets, in each of val and test")

    def __post_init__(self) -> None:
        """Check all values, before hours are spent on tables and graph."""
        object.__setattr__(self, "triplets", str(self.triplets))  # a notebook may pass a number
        if self.name not in SIZES and not re.fullmatch("[1-9][0-9]{0,14}", self.name):
            raise InputError(f"--triplets {self.triplets}: expected {', '.join(SIZES)} or a number above 0")
        positive = dict.fromkeys(("per_anchor", "coupled", "max_queries"), "[1, 1e9)")
        check_ranges(self, {**positive, "corpus": "[0, inf)", "val": "(0, 1)", "test": "(0, 1)"})
        if self.val + self.test >= 1:
            raise InputError(f"--val {self.val}, --test {self.test}: expected a sum below 1")
        if self.coupled != Mining.coupled and self.positives != "coupled":
            raise InputError(f"--coupled {self.coupled} needs --positives coupled")
        _ = self.shares
        if self.filter_model:
            from ..models.load import find_model  # torch takes seconds to import; mining rarely needs it

            find_model(self.filter_model)

    @property
    def name(self) -> str:
        """Name of the folder in `data/triplets/`, like "10K"."""
        return self.triplets.upper()

    @property
    def count(self) -> int | None:
        """Number of train triplets, None for all."""
        return SIZES[self.name] if self.name in SIZES else int(self.name)

    @property
    def shares(self) -> dict[str, float]:
        """Share of each kind of negative, with a sum of 1."""
        given: dict[str, float] = {}
        for item in self.negatives.split(","):
            kind, _, share = item.strip().partition("=")
            if kind not in KINDS or not re.fullmatch(r"\d*\.?\d+", share):
                raise InputError(f"--negatives {item!r}: expected one of {', '.join(KINDS)} with a share: citation=0.4")
            if kind in given:
                raise InputError(f"--negatives {self.negatives}: {kind} is given twice")
            given[kind] = float(share)
        total = sum(given.values())
        if not 0 < total < inf:
            raise InputError(f"--negatives {self.negatives[:60]}: expected at least one finite share above 0")
        return {kind: given.get(kind, 0.0) / total for kind in KINDS}

    def without_classes(self) -> "Mining":
        """The same for a corpus without classes, without siblings. Raises `InputError` if it asks for no others."""
        if self.shares["sibling"] == 1:
            raise InputError(f"--negatives {self.negatives}: without classes there are no siblings; use citation=1")
        kinds = [item for item in self.negatives.split(",") if item.strip().partition("=")[0] != "sibling"]
        return replace(self, negatives=",".join(kinds))

    def params(self) -> dict[str, Any]:
        """All values in one form each, however they were written: they decide whether an earlier result is reused."""
        return {**asdict(self), "triplets": self.count, "negatives": self.shares}
