"""Citations: read once, as integers that hold both ends, which are sorted in memory and written.

A citation is `citing << 33 | cited << 1 | other`; `other` is 0 for an examiner's, so that sorting puts it before
another of the same two patents. The ends are ranks; a patent outside the table is N + its id where that is a plain
number below `PLAIN`, as most are; N + `PLAIN` is nobody, and other outside patents follow.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..common.duck import arrow
from .import_csvs import csv_writer
from .patentsview import Source, check_lines

LINKS = ("citations", "citing patents", "outside patents cited by several", "citations of these")  # what is counted
PLAIN = 1 << 24  # above all numbers of patents
BLOCK = 1 << 18  # rows at a time
# For DuckDB: the number that an id is, or null. It is written as the number is, so that no two ids are one number.
_PLAIN = f"""CREATE MACRO plain(id) AS CASE WHEN try_cast(id AS INTEGER)::VARCHAR = id
    AND try_cast(id AS INTEGER) BETWEEN 0 AND {PLAIN - 1} THEN try_cast(id AS INTEGER) END"""
_ROWS = """SELECT plain(citing), CASE WHEN plain(citing) IS NULL THEN citing END,
    plain(cited), CASE WHEN plain(cited) IS NULL THEN CASE WHEN trim(cited) = '' THEN '' ELSE cited END END,
    CASE WHEN category = 'cited by examiner' THEN 0 ELSE 1 END
FROM citation_rows"""


class Links(NamedTuple):
    """Citations (sorted, distinct), the outside patents from N + `PLAIN` on, and four numbers of rows.

    They are all rows; of a known citing patent; of these, of a known cited one; and of these, of the patent itself.
    """

    citations: np.ndarray
    others: list[str]
    rows: np.ndarray


def read_links(db: duckdb.DuckDBPyConnection, source: Source, patents: int, moved: Callable[[int], None]) -> Links:
    """Read the citations of the view `citation_rows` by the `patents` of the table `number`.

    `moved` is called with a number of rows that were read.
    """
    packed, filled = np.empty(source.rows, np.int64), 0  # about; it grows
    rows = np.zeros(4, np.int64)
    db.execute(_PLAIN)
    ids = arrow(db, "SELECT plain(patent_id) AS plain, patent_id, rank FROM number ORDER BY plain IS NOT NULL")
    named = ids["plain"].null_count
    names = dict(zip(ids["patent_id"][:named].to_pylist(), ids["rank"][:named].to_pylist(), strict=True))
    nobody = names[""] = patents + PLAIN
    plain = np.arange(patents, nobody, dtype=np.int32)
    plain[ids["plain"][named:].to_numpy()] = ids["rank"][named:].to_numpy()

    def numbers(ids: pa.Array, others: pa.Array, of_other: Callable[[str], int]) -> np.ndarray:
        found = plain[ids.fill_null(0).to_numpy()]
        found[ids.is_null().to_numpy(zero_copy_only=False)] = list(map(of_other, others.drop_null().to_pylist()))
        return found

    with db.cursor() as cursor:
        for batch in cursor.sql(_ROWS).to_arrow_reader(BLOCK):
            citing_id, citing_other, cited_id, cited_other, category = batch.columns
            citing = numbers(citing_id, citing_other, lambda name: names.get(name, nobody))
            cited = numbers(cited_id, cited_other, lambda name: names.setdefault(name, nobody - named + len(names)))
            known = citing < patents
            citing, cited, other = citing[known], cited[known], category.to_numpy()[known]
            if filled + len(citing) > len(packed):
                packed.resize(len(packed) * 5 // 4 + BLOCK, refcheck=False)
            packed[filled : filled + len(citing)] = citing.astype(np.int64) << 33 | cited.astype(np.int64) << 1 | other
            filled += len(citing)
            rows += len(batch), len(citing), (cited < patents).sum(), (cited == citing).sum()
            moved(len(batch))
        check_lines(cursor, source)
    packed[:filled].sort()
    return Links(packed[: _distinct(packed[:filled])], list(names)[named:], rows)


def ends_of(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The citing and the cited patents of packed citations, (n,) and (n,)."""
    return packed >> 33, packed >> 1 & 0xFFFFFFFF


def _distinct(packed: np.ndarray) -> int:
    """Move the first of each pair of ends, in sorted citations, to the front; return how many they are."""
    kept = 0
    for block in _blocks(packed):
        found = block[np.diff(block >> 1, prepend=-1) != 0]
        packed[kept : kept + len(found)] = found
        kept += len(found)
    return kept


def _blocks(packed: np.ndarray) -> Iterator[np.ndarray]:
    """Sorted citations in blocks; all those of a citing patent are in one."""
    start = 0
    while start < len(packed):
        last = packed[min(start + BLOCK, len(packed)) - 1] >> 33
        end = int(np.searchsorted(packed, (last + 1) << 33))
        yield packed[start:end]
        start = end


def write_links(
    links: Links, patents: int, folder: Path, moved: Callable[[int], None]
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Write the CSVs of citations and of outside patents.

    Return how many patents each one in the table `cites` there and is `cited_by`, (N,) each, and counts.
    """
    cited_by = np.zeros(patents + PLAIN + len(links.others), np.int32)
    for block in _blocks(links.citations):
        citing, cited = ends_of(block)
        np.add.at(cited_by, cited[citing != cited], np.int32(1))  # of the same type, else it is slow
    cites, cited_by, outside = np.zeros(patents, np.int32), cited_by[:patents].copy(), cited_by[patents:]
    outside[PLAIN] = 0  # nobody
    several = np.flatnonzero(outside > 1)
    plain, others = np.split(several, [np.searchsorted(several, PLAIN)])
    names = pa.array([links.others[number] for number in others - PLAIN], pa.string())
    ids = pa.concat_arrays([pa.array(plain).cast(pa.string()), names])
    order = pc.sort_indices(ids)
    several = several[order.to_numpy()]
    with csv_writer(folder, "outside_patents.csv") as write:
        write(np.arange(len(several)), ids.take(order), outside[several])
    outside[:] = -1
    outside[several] = np.arange(len(several))  # now their numbers
    counts = np.array([0, 0, len(several), 0])  # of what is in `LINKS`
    with csv_writer(folder, "citations.csv") as inside, csv_writer(folder, "outside_citations.csv") as beyond:
        for block in _blocks(links.citations):
            citing, cited = ends_of(block)
            linked = (cited < patents) & (citing != cited)
            inside(citing[linked], cited[linked], block[linked] & 1 == 0)
            number = outside[cited[cited >= patents] - patents]
            pairs = np.sort((citing[cited >= patents] << 32 | number)[number >= 0])
            beyond(pairs >> 32, pairs & 0xFFFFFFFF)
            by, count = np.unique(citing[linked], return_counts=True)
            cites[by] = count  # a block holds all of a patent
            counts += count.sum(), len(by), 0, len(pairs)
            moved(len(block))
    return {"cites": cites, "cited_by": cited_by}, dict(zip(LINKS, counts.tolist(), strict=True))
