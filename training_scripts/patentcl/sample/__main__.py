"""A synthetic sample of PatentsView's tables, of any size, for trying, testing and measuring without a download.

python -m patentcl.sample --patents 2000 --out data/sample
"""

import argparse
from pathlib import Path

from ..common.cli import run_script
from ..common.files import DATA
from .plan import INSIDE
from .write import write_sample


def main() -> None:
    """Read the command line, write the sample, tell its counts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--patents", type=int, default=2000, help="how many patents (default 2000)")
    parser.add_argument("--out", type=Path, default=DATA / "sample", help="folder (default data/sample)")
    parser.add_argument("--seed", type=int, default=42, help="another seed, other patents (default 42)")
    parser.add_argument("--citations", type=float, default=INSIDE, metavar="MEAN",
                        help="citations drawn for a patent; about 0.6 of them stay (default 7.2)")  # fmt: skip
    parser.add_argument("--old-columns", action="store_true", help="tables and columns as before 2023")
    parser.add_argument("--zip", action="store_true", help="each table as NAME.tsv.zip, as PatentsView has it")
    parser.add_argument("--overwrite", action="store_true", help="replace another sample in the folder")
    given = parser.parse_args()
    counts = write_sample(given.out, given.patents, given.seed, given.old_columns, given.zip, given.overwrite,
                          given.citations)  # fmt: skip
    print(f"{given.out}: " + ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in counts.items()))


if __name__ == "__main__":
    run_script(main)
