"""Write a synthetic sample of PatentsView's tables, of any size, for trying, testing and measuring without a download.

python -m patentcl.sample --patents 2000 --out data/sample
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..common.cli import option, parse_options, run_script
from ..common.files import DATA
from .plan import CITATIONS
from .write import write_sample


@dataclass
class Options:
    """The command line."""

    patents: int = option(2000, "number of patents")
    out: Path = option(DATA / "sample", "folder to write", metavar="DIR")
    seed: int = option(42, "seed; another one gives other patents")
    citations: float = option(CITATIONS, "mean citations drawn for a patent; about 0.6 of them stay", metavar="MEAN")
    old_columns: bool = option(False, "write tables and columns as before 2023")
    zip: bool = option(False, "write each table as NAME.tsv.zip, as PatentsView does")
    overwrite: bool = option(False, "replace another sample in the folder")


def main(argv: Sequence[str] | None = None) -> None:
    """Write the sample and print its counts."""
    (o,) = parse_options(__doc__, Options, argv=argv)
    counts = write_sample(o.out, o.patents, o.seed, o.old_columns, o.zip, o.overwrite, o.citations)
    print(f"{o.out}: " + ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()))


if __name__ == "__main__":
    run_script(main)
