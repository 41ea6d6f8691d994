"""Citations: read once, as integers that hold both ends, which are sorted in memory and written.

A citation is `citing << 33 | cited << 1 | other`; `other` is 0 for an examiner's, so that sorting puts it before
another of the same two patents. Outside patents have numbers from N on.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from ..common.duck import arrow
from .import_csvs import csv_writer
from .patentsview import Source, check_lines

LINKS = ("citations", "citing patents", "outside patents cited by several", "citations of these")  # what is counted
BLOCK = 1 << 20  # rows at a time
# Null where the citing patent is not in the table, -1 where only the cited one is unknown.
_PACKED = """SELECT CASE WHEN a.rank IS NULL THEN NULL WHEN b.rank IS NULL THEN -1
            ELSE (a.rank::BIGINT << 33) | (b.rank::BIGINT << 1)
                 | (CASE WHEN category = 'cited by examiner' THEN 0 ELSE 1 END) END AS citation
FROM citation_rows LEFT JOIN number a ON a.patent_id = citing
LEFT JOIN (FROM number UNION ALL FROM outside) b ON b.patent_id = cited"""


@dataclass
class Links:
    """Citations, and how many rows became none: `citations` (sorted, distinct), `rows` by what they are."""

    citations: np.ndarray
    rows: dict[str, int]


def read_links(db: duckdb.DuckDBPyConnection, source: Source, patents: int, moved: Callable[[int], None]) -> Links:
    """Read the citations of the view `citation_rows` by the `patents` of the table `number`.

    `moved` is called with a number of rows that were read.
    """
    packed, filled = np.empty(source.rows, np.int64), 0  # about; it grows
    counts = {"read": 0, "citing": 0, "linked": 0, "itself": 0}
    with db.cursor() as cursor:
        for batch in cursor.sql(_PACKED).to_arrow_reader(BLOCK):
            known = batch.column(0).drop_null().to_numpy()
            read = known[known >= 0]
            if filled + len(read) > len(packed):
                packed.resize(len(packed) * 5 // 4 + BLOCK, refcheck=False)
            packed[filled : filled + len(read)] = read
            filled += len(read)
            citing, cited = ends_of(read)
            counts["read"] += len(batch)
            counts["citing"] += len(known)
            counts["linked"] += int((cited < patents).sum())
            counts["itself"] += int((cited == citing).sum())
            moved(len(batch))
        check_lines(cursor, source)
    packed[:filled].sort()
    return Links(packed[: _distinct(packed[:filled])], counts)


def ends_of(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The citing and the cited patents of packed citations, (n,) and (n,)."""
    return packed >> 33, packed >> 1 & 0xFFFFFFFF


def _distinct(packed: np.ndarray) -> int:
    """Move the first of each pair of ends, in sorted citations, to the front; return how many they are."""
    kept, last = 0, -1
    for block in _blocks(packed):
        pairs = block >> 1
        new = np.concatenate([pairs[:1] != last, pairs[1:] != pairs[:-1]])
        kept, last, found = kept + int(new.sum()), pairs[-1], block[new]
        packed[kept - len(found) : kept] = found
    return kept


def _blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    return (values[start : start + BLOCK] for start in range(0, len(values), BLOCK))


def write_links(
    db: duckdb.DuckDBPyConnection, links: Links, patents: int, folder: Path, moved: Callable[[int], None]
) -> tuple[np.ndarray, dict[str, int]]:
    """Write the CSVs of citations and of outside patents; return how often each patent is cited, (N,), and counts."""
    outside = arrow(db, "SELECT patent_id FROM outside ORDER BY rank")["patent_id"]
    cited_by = np.zeros(patents + len(outside), np.int32)
    for block in _blocks(links.citations):
        citing, cited = ends_of(block[: len(block)])
        np.add.at(cited_by, cited[citing != cited], 1)
    several = cited_by[patents:] > 1
    number = np.cumsum(several) - 1
    with csv_writer(folder, "outside_patents.csv") as write:
        ids, count = outside.filter(pa.array(several)), int(several.sum())
        write(np.arange(count), ids, cited_by[patents:][several])
    written = {"citations": 0, "citing patents": 0, "citations of these": 0}
    last = -1
    with csv_writer(folder, "citations.csv") as inside, csv_writer(folder, "outside_citations.csv") as beyond:
        for block in _blocks(links.citations):
            citing, cited = ends_of(block)
            linked = (cited < patents) & (citing != cited)
            shared = cited >= patents
            shared[shared] = several[cited[shared] - patents]
            inside(citing[linked], cited[linked], block[linked] & 1 == 0)
            beyond(citing[shared], number[cited[shared] - patents])
            by = np.unique(citing[linked])
            written["citations"] += int(linked.sum())
            written["citing patents"] += len(by) - int(len(by) > 0 and by[0] == last)
            written["citations of these"] += int(shared.sum())
            last = by[-1] if len(by) else last
            moved(len(block))
    return cited_by[:patents], {**written, "outside patents cited by several": count}
