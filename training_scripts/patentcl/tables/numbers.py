"""Ids of patents → numbers: the ranks of the patents in the table, and numbers for ids that are not there."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import count

import duckdb
import numpy as np
import pyarrow as pa

from ..common.duck import arrow, literal

Reader = Callable[[str, int], Iterator[pa.RecordBatch]]  # SQL, rows at a time → its rows in blocks
PLAIN = 1 << 24  # above all numbers of patents
# For DuckDB: an id as the number that it is, and any other id. The number is written as the id is, so that no two ids
# are one number. Ids of spaces are one. `bare` is an id without what some tables add: zeros, .0, US, the kind, spaces.
ID_MACROS = rf"""
CREATE MACRO plain(id) AS CASE WHEN try_cast(id AS INTEGER)::VARCHAR = id
    AND try_cast(id AS INTEGER) BETWEEN 0 AND {PLAIN - 1} THEN try_cast(id AS INTEGER) END;
CREATE MACRO other(id) AS CASE WHEN plain(id) IS NULL THEN CASE WHEN trim(id) = '' THEN '' ELSE id END END;
CREATE MACRO bare(id) AS regexp_replace(regexp_replace(upper(trim(id)), '\.0+$|[^0-9A-Z]+', '', 'g'),
    '^(US)?([A-Z]*)0*([0-9]+)([A-Z][0-9]?)?$', '\2\3');
"""


class Numbers:
    """The number of each id: of N patents their ranks, of others N + the id where it is plain, and from N + PLAIN on.

    N + PLAIN is that of the empty id. `others` are those of ids that are not plain, outside the table in their order.
    """

    def __init__(self, patents: pa.Table) -> None:
        """Take `patent_id` and `plain` of the patents in order of rank."""
        self.patents = len(patents)
        self.plain = np.arange(self.patents, self.patents + PLAIN, dtype=np.int32)
        self.others: dict[str, int] = defaultdict(count(self.patents + PLAIN).__next__)
        self.others[""]
        is_other = patents["plain"].is_null()
        ranks = np.arange(self.patents, dtype=np.int32)
        self.plain[patents["plain"].drop_null().to_numpy()] = ranks[~is_other.to_numpy()]
        names = patents["patent_id"].filter(is_other).to_pylist()
        self.others |= zip(names, ranks[is_other.to_numpy()].tolist(), strict=True)

    def of(self, plain: pa.Array, other: pa.Array) -> np.ndarray:
        """The numbers of ids, (n,) plain or null and (n,) null or not."""
        numbers = self.plain[plain.fill_null(0).to_numpy()]
        is_other = plain.is_null().to_numpy(zero_copy_only=False)
        numbers[is_other] = [self.others[name] for name in other.drop_null().to_pylist()]
        return numbers


def number(db: duckdb.DuckDBPyConnection, seed: int) -> pa.Table:
    """Number the patents of the table `kept`, whose classes are in `class`; return them in order of rank, (N,) rows.

    The order is: section, class and subclass of the primary symbol, without one last, then a seeded hash of the id.
    `row` is that in `kept`, `plain` the id as a number; `subclasses` are lists, with the primary one first. The
    dictionaries of `date` and `subclass` are sorted; the last subclass is "", of patents without one.
    """
    hashed = f"md5_number_{{}}({literal(f'{seed}:')} || patent_id) AS {{}}"
    halves = ", ".join(hashed.format(half, half) for half in ("upper", "lower"))  # of little-endian numbers
    kept = arrow(
        db,
        f"SELECT patent_id, plain(patent_id) AS plain, date::a_date AS date, type::a_type AS type, {halves} FROM kept",  # noqa: S608
    )
    symbols = arrow(db, "FROM symbols")["symbol"].combine_chunks()
    classes = arrow(
        db, "SELECT patent, enum_code(symbol)::INTEGER AS code FROM class ORDER BY patent, sequence, symbol"
    )
    db.execute("DROP TABLE read_class")  # frees memory
    codes = classes["code"].to_numpy()
    counts = np.bincount(classes["patent"].to_numpy(), minlength=len(kept))
    ends = np.append(0, counts.cumsum())
    primary = np.full(len(kept), len(symbols) - 1, np.int32)
    primary[counts > 0] = codes[ends[:-1][counts > 0]]
    lower, upper = (kept[half].to_numpy().byteswap() for half in ("lower", "upper"))
    rows = np.lexsort((lower, upper, primary)).astype(np.int32)  # the row of each rank

    lists = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(codes)).take(pa.array(rows))
    taken = kept.drop_columns(["lower", "upper"]).combine_chunks().take(pa.array(rows))
    columns = {
        **dict(zip(taken.column_names, taken.columns, strict=True)),
        "rank": np.arange(len(rows), dtype=np.int32),
        "row": rows,
        "subclass": pa.DictionaryArray.from_arrays(primary[rows], symbols),
        "subclasses": pa.ListArray.from_arrays(lists.offsets, pa.DictionaryArray.from_arrays(lists.values, symbols)),
    }
    return pa.table(columns)
