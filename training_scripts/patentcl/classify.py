"""Predict the CPC subclasses of texts by the votes of the nearest patents, with a confidence: the share of the votes.

    python -m patentcl.classify --model models/patentCL-10K --text "reverse osmosis membrane cleaning"
    python -m patentcl.classify --model models/patentCL-10K --file texts.csv --csv subclasses.csv

The classified patents of data/graph vote. docs/search.md says how often which confidence is right.
"""

from collections.abc import Sequence

from .common.cli import parse_options, run_script
from .search.classify import classify
from .search.options import Classify
from .search.show import show


def main(argv: Sequence[str] | None = None) -> None:
    """Classify, and print the subclasses."""
    (options,) = parse_options(__doc__, Classify, argv=argv)
    show(classify(options), options.csv)


if __name__ == "__main__":
    run_script(main)
