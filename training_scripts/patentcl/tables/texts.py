"""Abstracts: read twice in the order of their table, once for the families and once to be written; never kept.

So no text is sorted or joined: what is known of a patent comes to its abstract by the row that this has in the table.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..common.duck import arrow
from .family import number_of
from .import_csvs import CSVS, Columns, csv_writer, plain_name
from .numbers import Numbered
from .patentsview import Source, check_lines

BLOCK = 10_000  # texts at a time: DuckDB reads the next ones meanwhile
# Letters and digits in lower case: of ASCII in Python, which is fast, of others by the macro. Then a zero byte.
# To trim a long text takes longer than to read it.
_ABSTRACTS = """SELECT patent_id, CASE WHEN trim(left(abstract, 1)) <> '' THEN true
            ELSE coalesce(trim(abstract), '') <> '' END AS filled,
       CASE WHEN strlen(abstract) = length(abstract) AND NOT contains(abstract, chr(0)) THEN abstract
            ELSE letters(coalesce(abstract, '')) END || chr(0) AS letters
FROM abstract_rows"""
_TITLES = """SELECT coalesce(title, '') AS title FROM (
    SELECT patent_id, title FROM patent_rows WHERE patent_id NOT IN (SELECT patent_id FROM repeated)
    UNION ALL
    SELECT patent_id, min(title) FROM patent_rows WHERE patent_id IN (SELECT patent_id FROM repeated) GROUP BY patent_id
) JOIN number USING (patent_id) JOIN places USING (rank) ORDER BY place"""
_LOWER = bytes.maketrans(bytes(range(65, 91)), bytes(range(97, 123)))
_NO_LETTERS = bytes(code for code in range(1, 128) if not chr(code).isalnum())


@dataclass(frozen=True)
class Abstracts:
    """What is known of the texts of N patents, in order of rank; `row` is that in the table of abstracts, or -1."""

    row: np.ndarray
    family: np.ndarray  # a number below 2**60
    filled: np.ndarray  # whether there is more than spaces
    rows: int  # of the table


def read_abstracts(
    db: duckdb.DuckDBPyConnection, source: Source, numbered: Numbered, seed: int, moved: Callable[[int], None]
) -> Abstracts:
    """Read the abstracts of the patents in the table `number`.

    Of several of one patent, one with text counts, and then that of the smallest family number. `moved` is called with
    the number of rows that were read.
    """
    families, filled, where = [np.empty(0, np.int64)], [np.empty(0, bool)], 0
    with db.cursor() as cursor, db.cursor() as ids:
        ids.execute("CREATE TABLE abstract_id (patent_id VARCHAR, row INTEGER)").fetchall()
        for batch in cursor.sql(_ABSTRACTS).to_arrow_reader(BLOCK):
            families.append(_family_numbers(batch.column("letters"), seed))
            filled.append(batch.column("filled").to_numpy(zero_copy_only=False))
            found = pa.table(
                {"patent_id": batch.column(0), "row": np.arange(where, where + len(batch), dtype=np.int32)}
            )
            ids.register("found", found)
            ids.execute("INSERT INTO abstract_id FROM found").fetchall()
            where += len(batch)
            moved(len(batch))
        check_lines(cursor, source)
    family, has = np.concatenate(families), np.concatenate(filled)
    found = arrow(db, "SELECT rank, row FROM abstract_id JOIN number USING (patent_id)")
    db.execute("DROP TABLE abstract_id")
    rank, row = found["rank"].to_numpy(), found["row"].to_numpy()
    row_of = np.full(len(numbered), -1, np.int32)
    row_of[rank] = row
    again = np.flatnonzero(np.bincount(rank, minlength=1)[rank] > 1)  # rare
    worst_first = np.lexsort((row[again], family[row[again]], ~has[row[again]], rank[again]))[::-1]
    row_of[rank[again][worst_first]] = row[again][worst_first]  # the last one stays
    known = row_of >= 0
    family_of, filled_of = np.full(len(numbered), -1), np.zeros(len(numbered), bool)
    family_of[known], filled_of[known] = family[row_of[known]], has[row_of[known]]
    alone = np.flatnonzero(family_of < 0)
    names = numbered.ids.take(pa.array(alone)).to_pylist()
    family_of[alone] = [number_of(f"{seed}:id:{name}") for name in names]
    return Abstracts(row_of, family_of, filled_of, where)


def _family_numbers(letters: pa.Array, seed: int) -> np.ndarray:
    """The number of each text of letters, each followed by a zero byte, (n,) → (n,); -1 if there are none."""
    start, *_, end = np.frombuffer(letters.buffers()[1], np.int32)[letters.offset : letters.offset + len(letters) + 1]
    data = bytes(memoryview(letters.buffers()[2])[start:end])
    texts = data.translate(_LOWER, _NO_LETTERS).split(b"\0")[:-1]
    prefix = f"{seed}:text:".encode()
    digests = b"".join([hashlib.md5(prefix + text).digest() for text in texts])  # noqa: S324
    numbers = (np.frombuffer(digests, ">u8")[::2] >> np.uint64(4)).astype(np.int64)
    numbers[np.array([not text for text in texts], bool)] = -1
    return numbers


def write_patents(
    db: duckdb.DuckDBPyConnection, abstracts: Abstracts, columns: Columns, folder: Path, moved: Callable[[int], None]
) -> None:
    """Write patents.csv in the order of the table of abstracts, then the patents without one.

    `columns` gives the other columns of some ranks, (n,).
    """
    texts = np.where(abstracts.row < 0, abstracts.rows, abstracts.row)
    order = np.argsort(texts, kind="stable").astype(np.int32)  # the rank of each row of the CSV
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    of_row = np.full(abstracts.rows, -1, np.int32)
    of_row[abstracts.row[abstracts.row >= 0]] = np.flatnonzero(abstracts.row >= 0)
    with csv_writer(folder, "patents.csv") as write, db.cursor() as titles, db.cursor() as cursor:
        titles.register("places", pa.table({"rank": np.arange(len(order), dtype=np.int32), "place": place}))
        title_of = _Feed(titles.sql(_TITLES).to_arrow_reader(BLOCK))
        for ranks, abstract in _chosen(cursor, of_row, order, moved):
            known = {**columns(ranks), "title": title_of.take(len(ranks)), "abstract": abstract}
            classes = pc.binary_join(known["subclasses"], ";")
            known["subclasses"] = pc.if_else(pc.equal(classes, ""), pa.scalar(None, pa.string()), classes)
            write(*[known[plain_name(header)] for header in CSVS["patents.csv"]])


def _chosen(
    cursor: duckdb.DuckDBPyConnection, of_row: np.ndarray, order: np.ndarray, moved: Callable[[int], None]
) -> Iterator[tuple[np.ndarray, pa.Array]]:
    """Blocks of ranks (n,), in `order`, and their abstracts (n,): those in the table, then empty ones."""
    done = where = 0
    for batch in cursor.sql("SELECT coalesce(abstract, '') FROM abstract_rows").to_arrow_reader(BLOCK):
        ranks = of_row[where : where + len(batch)]
        yield ranks[ranks >= 0], batch.column(0).filter(pa.array(ranks >= 0))
        where += len(batch)
        done += int((ranks >= 0).sum())
        moved(len(batch))
    for start in range(done, len(order), BLOCK):
        ranks = order[start : start + BLOCK]
        yield ranks, pa.array([""] * len(ranks))


class _Feed:
    """A stream of blocks of texts from which any number is taken."""

    def __init__(self, reader: pa.RecordBatchReader) -> None:
        """Take from `reader`, which has one column."""
        self.reader, self.left = reader, pa.chunked_array([], pa.string())

    def take(self, count: int) -> pa.Array:
        """The next `count` texts."""
        while len(self.left) < count:
            self.left = pa.chunked_array([*self.left.chunks, self.reader.read_next_batch().column(0)])
        taken, self.left = self.left[:count], self.left[count:]
        return taken.combine_chunks()
