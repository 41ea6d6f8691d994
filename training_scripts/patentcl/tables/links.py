"""Citations: read once, as integers that hold both ends, which are sorted in memory and written.

A citation is `citing << 33 | cited << 1 | other`; `other` is 0 for an examiner's, so that sorting puts it before
another of the same two patents. The ends are those of `Numbers`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .import_csvs import csv_writer
from .numbers import PLAIN, Numbers, Reader

BLOCK = 1 << 18  # rows at a time
_ROWS = """SELECT plain(citing), other(citing), plain(cited), other(cited),
    CASE WHEN category = 'cited by examiner' THEN 0 ELSE 1 END
FROM citation_rows"""


def read_links(read: Reader, expected: int, numbers: Numbers) -> tuple[np.ndarray, list[int]]:
    """Read about the `expected` number of citations: sorted ones, and four numbers of rows.

    They are all rows; of a known citing patent; of these, of a known cited one; and of these, of the patent itself.
    """
    packed, filled = np.empty(expected, np.int64), 0  # it grows
    rows = np.zeros(4, np.int64)
    for batch in read(_ROWS, BLOCK):
        citing, cited = numbers.of(*batch.columns[:2]), numbers.of(*batch.columns[2:4])
        known = citing < numbers.patents
        citing, cited, other = citing[known], cited[known], batch.column(4).to_numpy()[known]
        if filled + len(citing) > len(packed):
            packed.resize(len(packed) * 5 // 4 + BLOCK, refcheck=False)
        packed[filled : filled + len(citing)] = citing.astype(np.int64) << 33 | cited.astype(np.int64) << 1 | other
        filled += len(citing)
        rows += len(batch), len(citing), (cited < numbers.patents).sum(), (cited == citing).sum()
    packed[:filled].sort()
    return packed[:filled], rows.tolist()


def _blocks(packed: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Distinct sorted citations in blocks: the citing and the cited ones, and whether the examiner cites, (n,) each.

    All those of a citing patent are in one block.
    """
    start = 0
    while start < len(packed):
        last = packed[min(start + BLOCK, len(packed)) - 1] >> 33
        end = int(np.searchsorted(packed, (last + 1) << 33))
        block = packed[start:end]
        block = block[np.diff(block >> 1, prepend=-1) != 0]
        yield block >> 33, block >> 1 & 0xFFFFFFFF, block & 1 == 0
        start = end


def write_links(
    packed: np.ndarray, numbers: Numbers, folder: Path, moved: Callable[[int], object]
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Write the CSVs of citations and of outside patents.

    Return how many patents each one in the table `cites` there and is `cited_by`, (N,) each, and counts.
    """
    patents = numbers.patents
    cites, cited_by = np.zeros(patents, np.int32), np.zeros(patents + PLAIN + len(numbers.others), np.int32)
    for citing, cited, _ in _blocks(packed):
        np.add.at(cited_by, cited[citing != cited], np.int32(1))  # of the same type, else it is slow
    cited_by, outside = cited_by[:patents].copy(), cited_by[patents:]
    outside[PLAIN] = 0  # nobody
    several = np.flatnonzero(outside > 1)
    plain, others = np.split(several, [np.searchsorted(several, PLAIN)])
    names = pa.array([name for name, number in numbers.others.items() if number >= patents + PLAIN], pa.string())
    names = names.take(pa.array(others - PLAIN))
    ids = pa.concat_arrays([pa.array(plain).cast(pa.string()), names])
    order = pc.sort_indices(ids)
    several = several[order.to_numpy()]
    with csv_writer(folder, "outside_patents.csv") as write:
        write(np.arange(len(several)), ids.take(order), outside[several])
    outside[:] = -1
    outside[several] = np.arange(len(several))  # now their numbers
    beyond_rows = 0
    with csv_writer(folder, "citations.csv") as inside, csv_writer(folder, "outside_citations.csv") as beyond:
        for citing, cited, examiner in _blocks(packed):
            linked = (cited < patents) & (citing != cited)
            inside(citing[linked], cited[linked], examiner[linked])
            np.add.at(cites, citing[linked], np.int32(1))
            number = outside[cited[cited >= patents] - patents]
            pairs = np.sort((citing[cited >= patents] << 32 | number)[number >= 0])
            beyond(pairs >> 32, pairs & 0xFFFFFFFF)
            beyond_rows += len(pairs)
            moved(len(cited))
    return {"cites": cites, "cited_by": cited_by}, {
        "citations": int(cites.sum()),
        "citing patents": int(np.count_nonzero(cites)),
        "outside patents cited by several": len(several),
        "citations of these": beyond_rows,
    }
