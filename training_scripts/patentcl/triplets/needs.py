"""What mining needs of disk and memory, estimated before the first query."""

from pathlib import Path
from typing import Any

from ..common.resources import Resources, require
from .options import MAX_HELD_OUT, SPLITS, Mining

# Measured with 0.3, 1 and 9 million patents (docs/performance.md); bytes, rounded up.
BASE = 900_000_000  # of memory: Python, its libraries, and blocks of texts while they are read and written
PER_PATENT, PER_CANDIDATE = 130, 100  # of memory
ANSWERS = 150  # of disk, for each citing patent
WRITTEN = 60  # of disk, for each triplet, while it is written


def check_needs(folder: Path, csvs: Path, source: dict[str, Any], mining: Mining, resources: Resources) -> None:
    """Raise `InputError` if the triplets written to `folder` do not fit on the disk or into the memory.

    `source` is the record of the import files in `csvs`.
    """
    counts = source["counts"]
    patents, citing = counts["patents"], counts["citing patents"]
    of_each = mining.per_anchor if mining.positives == "coupled" else counts["citations"] / max(citing, 1)
    candidates = citing * min(mining.per_anchor, of_each)
    held_out = 2 * min(mining.max_queries, MAX_HELD_OUT)
    triplets = candidates if mining.count is None else min(candidates, mining.count + held_out)
    texts = min(patents, len(SPLITS) * triplets + (mining.corpus or patents))
    read = candidates if mining.count is None else min(candidates, 4 * triplets)  # samples of anchors grow
    share = texts / max(patents, 1)
    disk = share * (csvs / "patents.csv").stat().st_size + WRITTEN * triplets + ANSWERS * citing
    memory = BASE + PER_PATENT * patents + PER_CANDIDATE * read
    require(folder, disk, memory, f"mining {mining.name} triplets", resources)
