"""Write a synthetic sample of PatentsView's tables, of any size, for trying, testing and measuring without a download.

python -m patentcl.sample --patents 2000 --out data/sample
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..common.cli import parse_options, run_script
from ..common.files import DATA
from .plan import CITATIONS
from .write import write_sample


@dataclass
class Options:
    """The command line."""

    patents: int = field(default=2000, metadata={"help": "number of patents"})
    out: Path = field(default=DATA / "sample", metadata={"help": "folder to write", "metavar": "DIR"})
    seed: int = field(default=42, metadata={"help": "seed; another one gives other patents"})
    citations: float = field(
        default=CITATIONS, metadata={"help": "mean citations drawn for a patent; about 0.6 of them stay"}
    )
    old_columns: bool = field(default=False, metadata={"help": "write tables and columns as before 2023"})
    zip: bool = field(default=False, metadata={"help": "write each table as NAME.tsv.zip, as PatentsView does"})
    overwrite: bool = field(default=False, metadata={"help": "replace another sample in the folder"})


def main(argv: Sequence[str] | None = None) -> None:
    """Write the sample and print its counts."""
    (o,) = parse_options(__doc__, Options, argv=argv)
    counts = write_sample(o.out, o.patents, o.seed, o.old_columns, o.zip, o.overwrite, o.citations)
    print(f"{o.out}: " + ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()))


if __name__ == "__main__":
    run_script(main)
