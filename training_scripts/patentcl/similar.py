"""Find the patents that are most similar to a text or to a patent.

    python -m patentcl.similar --model minilm --text "reverse osmosis membrane cleaning"
    python -m patentcl.similar --model models/patentCL-10K --patent 10000000 --before 2015 --cpc C02F B01D
    python -m patentcl.similar --model models/patentCL-10K --file queries.csv --hybrid --csv answers.csv

All patents of data/graph are searched; the first search embeds them, and resumes if it was interrupted. The score is
the cosine. With --hybrid, the ranking is fused with that of BM25. docs/search.md describes all options.
"""

from collections.abc import Sequence

from .common.cli import parse_options, run_script
from .search.options import Similar
from .search.show import show
from .search.similar import similar


def main(argv: Sequence[str] | None = None) -> None:
    """Search, and print the answers."""
    (options,) = parse_options(__doc__, Similar, argv=argv)
    show(similar(options), options.csv)


if __name__ == "__main__":
    run_script(main)
