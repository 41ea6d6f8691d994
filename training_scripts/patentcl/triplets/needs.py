"""What mining needs of disk and memory, estimated before the first query."""

from pathlib import Path
from typing import Any

from ..common.resources import Resources, require
from .options import MAX_HELD_OUT, SPLITS, Mining

# Measured with 0.3, 1 and 9 million patents and 2.4 triplets each; bytes, rounded up.
BASE, TEXTS = 300_000_000, 600_000_000  # of memory: Python with its libraries, blocks of texts read and written
KEPT, READ = 60, 130  # of memory, for each patent: its arrays, and what reading it takes
SORTED = 100  # of memory, for each triplet that is put in order
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
    memory = BASE + KEPT * patents + max(TEXTS, READ * patents, SORTED * read)
    require(folder, disk, memory, f"mining {mining.name} triplets", resources)
