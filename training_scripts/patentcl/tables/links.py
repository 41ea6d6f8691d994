"""Citations: read once, as integers that hold both ends, which are sorted in memory and written.

A citation is `citing << 33 | cited << 1 | other`; `other` is 0 for an examiner's, so that sorting puts it before
another of the same two patents. The ends are ranks; a patent outside the table is N + its id where that is a plain
number below `PLAIN`, as most are; N + `PLAIN` is nobody, and others with names follow.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

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
# For DuckDB: a plain id as a number, or null. It is written as the number is, so that no two are one.
_PLAIN = f"""CREATE MACRO plain(id) AS CASE WHEN try_cast(id AS INTEGER)::VARCHAR = id
    AND try_cast(id AS INTEGER) BETWEEN 0 AND {PLAIN - 1} THEN try_cast(id AS INTEGER) END"""
_CITATIONS = """SELECT plain(citing) AS citing, plain(cited) AS cited,
    CASE WHEN category = 'cited by examiner' THEN 0 ELSE 1 END AS other,
    CASE WHEN plain(citing) IS NULL OR plain(cited) IS NULL THEN citing END AS citing_name,
    CASE WHEN plain(citing) IS NULL OR plain(cited) IS NULL THEN cited END AS cited_name
FROM citation_rows"""
_OUTSIDE = f"""CREATE TABLE outside AS
SELECT cited AS patent_id,
       ((SELECT count(*) FROM number) + {PLAIN} + row_number() OVER (ORDER BY cited))::INTEGER AS rank
FROM (SELECT DISTINCT cited FROM named ANTI JOIN number ON patent_id = cited
      WHERE plain(cited) IS NULL AND trim(cited) <> '')"""  # noqa: S608
_NAMED = f"""SELECT coalesce(a.rank, patents)::INTEGER AS citing,
    coalesce(b.rank, patents + coalesce(plain(cited), {PLAIN}))::INTEGER AS cited, other
FROM named CROSS JOIN (SELECT count(*) AS patents FROM number)
LEFT JOIN number a ON a.patent_id = citing LEFT JOIN (FROM number UNION ALL FROM outside) b ON b.patent_id = cited"""  # noqa: S608


@dataclass
class Links:
    """Citations, and how many rows became none: `citations` (sorted, distinct), `rows` by what they are."""

    citations: np.ndarray
    named: pa.Array  # the ids of outside patents after N + PLAIN
    rows: dict[str, int]


def read_links(db: duckdb.DuckDBPyConnection, source: Source, patents: int, moved: Callable[[int], None]) -> Links:
    """Read the citations of the view `citation_rows` by the `patents` of the table `number`.

    `moved` is called with a number of rows that were read.
    """
    packed, filled = np.empty(source.rows, np.int64), 0  # about; it grows
    counts = {"read": 0, "citing": 0, "linked": 0, "itself": 0}
    with db.cursor() as named:
        named.begin()  # and never commit: what it writes is for here only
        for rows, citing, cited, other in _rows(db, named, source, patents):
            known = citing < patents
            citing, cited = citing[known], cited[known]
            if filled + len(citing) > len(packed):
                packed.resize(len(packed) * 5 // 4 + BLOCK, refcheck=False)
            packed[filled : filled + len(citing)] = (
                citing.astype(np.int64) << 33 | cited.astype(np.int64) << 1 | other[known]
            )
            filled += len(citing)
            counts["read"] += rows
            counts["citing"] += len(citing)
            counts["linked"] += int((cited < patents).sum())
            counts["itself"] += int((cited == citing).sum())
            moved(rows)
        names = named.sql("SELECT patent_id FROM outside ORDER BY rank").to_arrow_table()["patent_id"]
    packed[:filled].sort()
    return Links(packed[: _distinct(packed[:filled])], names.combine_chunks(), counts)


def _rows(
    db: duckdb.DuckDBPyConnection, named: duckdb.DuckDBPyConnection, source: Source, patents: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Blocks of citations: the rows that were read, and (n,) both ends and `other`. Rows with names come last."""
    db.execute(_PLAIN)
    named.execute("CREATE TABLE named (citing VARCHAR, cited VARCHAR, other INTEGER)")
    number_of = np.arange(patents, patents + PLAIN, dtype=np.int32)
    plain = arrow(db, "SELECT plain(patent_id) AS id, rank FROM number WHERE plain(patent_id) IS NOT NULL")
    number_of[plain["id"].to_numpy()] = plain["rank"].to_numpy()
    with db.cursor() as cursor:
        for batch in cursor.sql(_CITATIONS).to_arrow_reader(BLOCK):
            is_plain = batch.column("citing_name").is_null()
            named.register("found", pa.table(batch.filter(pc.invert(is_plain))))
            named.execute("INSERT INTO named SELECT citing_name, cited_name, other FROM found").fetchall()
            citing, cited, other = (column.to_numpy() for column in batch.select([0, 1, 2]).filter(is_plain).columns)
            yield len(batch), number_of[citing], number_of[cited], other
        check_lines(cursor, source)
    named.execute(_OUTSIDE).fetchall()
    for batch in named.sql(_NAMED).to_arrow_reader(BLOCK):
        citing, cited, other = (column.to_numpy() for column in batch.columns)
        yield 0, citing, cited, other


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
) -> tuple[np.ndarray, dict[str, int]]:
    """Write the CSVs of citations and of outside patents; return how often each patent is cited, (N,), and counts."""
    cited_by = np.zeros(patents + PLAIN + 1 + len(links.named), np.int32)
    for block in _blocks(links.citations):
        citing, cited = ends_of(block)
        np.add.at(cited_by, cited[citing != cited], np.int32(1))  # of the same type, else it is slow
    cited_by, outside = cited_by[:patents].copy(), cited_by[patents:]
    outside[PLAIN] = 0  # nobody
    several = np.flatnonzero(outside > 1)
    plain, named = np.split(several, [np.searchsorted(several, PLAIN)])
    ids = pa.concat_arrays([pa.array(plain).cast(pa.string()), links.named.take(pa.array(named - PLAIN - 1))])
    order = pc.sort_indices(ids)
    several = several[order.to_numpy()]
    with csv_writer(folder, "outside_patents.csv") as write:
        write(np.arange(len(several)), ids.take(order), outside[several])
    outside[:] = -1
    outside[several] = np.arange(len(several))  # now their numbers
    written = {"citations": 0, "citing patents": 0, "citations of these": 0}
    with csv_writer(folder, "citations.csv") as inside, csv_writer(folder, "outside_citations.csv") as beyond:
        for block in _blocks(links.citations):
            citing, cited = ends_of(block)
            linked = (cited < patents) & (citing != cited)
            inside(citing[linked], cited[linked], block[linked] & 1 == 0)
            number = outside[cited[cited >= patents] - patents]
            pairs = np.sort((citing[cited >= patents] << 32 | number)[number >= 0])
            beyond(pairs >> 32, pairs & 0xFFFFFFFF)
            written["citations"] += int(linked.sum())
            written["citing patents"] += int(np.count_nonzero(np.diff(citing[linked], prepend=-1)))
            written["citations of these"] += len(pairs)
            moved(len(block))
    return cited_by, {**written, "outside patents cited by several": len(several)}
