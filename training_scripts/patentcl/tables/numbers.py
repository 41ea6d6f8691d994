"""Patents of one id each → ranks, and their classes in order of rank."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..common.duck import arrow, literal

NO_CLASS = -1


@dataclass(frozen=True)
class Numbered:
    """The N patents in order of rank, and S subclasses in the order of their symbols."""

    ids: pa.Array  # (N,) texts
    dates: pa.DictionaryArray  # (N,) texts, whose dictionary is sorted
    types: pa.DictionaryArray  # (N,) texts
    symbols: pa.Array  # (S,) texts
    codes: np.ndarray  # (C,) numbers of subclasses: the classes of all patents, the primary one of each first
    ends: np.ndarray  # (N + 1,): the classes of a patent are codes[ends[rank]:ends[rank + 1]]

    def __len__(self) -> int:
        """The number of patents."""
        return len(self.ids)

    @cached_property
    def primary(self) -> np.ndarray:
        """The number of each patent's primary subclass, (N,), or `NO_CLASS`."""
        return _first(self.ends, self.codes)

    def columns(self, ranks: np.ndarray) -> dict[str, Any]:
        """What is known of some patents, (n,) ranks → (n,) values by the names of the import CSV."""
        ends, classes = _rows(self.ends, self.codes, ranks)
        rows, codes = pa.array(ranks), pa.array(self.primary[ranks], mask=self.primary[ranks] == NO_CLASS)
        return {
            "rank": rows,
            "patent_id": self.ids.take(rows),
            "date": self.dates.take(rows).cast(pa.string()),
            "type": self.types.take(rows).cast(pa.string()),
            "subclass": pc.fill_null(self.symbols.take(codes), ""),
            "subclasses": pa.ListArray.from_arrays(pa.array(ends, pa.int32()), self.symbols.take(pa.array(classes))),
        }


def number(db: duckdb.DuckDBPyConnection, seed: int) -> Numbered:
    """Number the patents of the table `kept`, whose subclasses are in `symbol` and `class`; make the table `number`.

    The order is: section, class and subclass of the primary symbol, without one last, then a seeded hash of the id.
    """
    hashed = f"md5_number_{{}}({literal(f'{seed}:')} || patent_id) AS {{}}"
    halves = ", ".join(hashed.format(half, half) for half in ("upper", "lower"))  # of little-endian numbers
    kept = arrow(db, f"SELECT patent_id, date, type, {halves} FROM kept")  # noqa: S608
    order = "section_of(subclass), class_of(subclass), subclass"
    symbols = arrow(db, f"SELECT subclass, rank() OVER (ORDER BY {order}) AS place FROM symbol ORDER BY code")  # noqa: S608
    classes = arrow(db, "SELECT patent, code FROM class ORDER BY patent, sequence, code")
    patents, codes = (classes[name].to_numpy() for name in ("patent", "code"))
    ends = np.concatenate([[0], np.cumsum(np.bincount(patents, minlength=len(kept)))])
    place = np.append(symbols["place"].to_numpy(), np.iinfo(np.int64).max)  # its last is that of NO_CLASS
    lower, upper = (kept[half].to_numpy().byteswap() for half in ("lower", "upper"))
    rows = np.lexsort((lower, upper, place[_first(ends, codes)]))  # the row of each rank

    taken = pa.array(rows)
    ids = kept["patent_id"].combine_chunks().take(taken)
    ends, codes = _rows(ends, codes, rows)
    ranks = pa.table({"patent_id": ids, "rank": np.arange(len(rows), dtype=np.int32)})
    with db.cursor() as cursor:
        cursor.register("ranks", ranks)
        cursor.execute("CREATE TABLE number AS FROM ranks")
    dates, types = (_sorted_codes(kept[name], taken) for name in ("date", "type"))
    return Numbered(ids, dates, types, symbols["subclass"].combine_chunks(), codes, ends)


def _first(ends: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The first value of each ragged row values[ends[i]:ends[i + 1]], or `NO_CLASS`, (N,)."""
    first, has = np.full(len(ends) - 1, NO_CLASS, np.int32), np.diff(ends) > 0
    first[has] = values[ends[:-1][has]]
    return first


def _rows(ends: np.ndarray, values: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Some rows, in their order, of ragged rows values[ends[i]:ends[i + 1]], as such `ends` and `values`."""
    counts = np.diff(ends)[rows]
    taken = np.concatenate([[0], np.cumsum(counts)])
    return taken, values[np.arange(taken[-1]) + np.repeat(ends[:-1][rows] - taken[:-1], counts)]


def _sorted_codes(texts: pa.ChunkedArray, rows: pa.Array) -> pa.DictionaryArray:
    """Texts in the order of `rows`, with a sorted dictionary."""
    coded = texts.dictionary_encode().combine_chunks()
    if isinstance(coded, pa.ChunkedArray):  # of no chunk
        coded = pa.array([], pa.string()).dictionary_encode()
    order = pc.sort_indices(coded.dictionary)
    codes = np.argsort(order.to_numpy()).astype(np.int32)[coded.indices.to_numpy()]
    return pa.DictionaryArray.from_arrays(pa.array(codes).take(rows), coded.dictionary.take(order))
