"""Dates as tables write them → days."""

import re
from collections.abc import Sequence
from datetime import date

import numpy as np
import pyarrow as pa

FIRST, LAST = 1700, 2027  # the years that are plausible in any table
_DAY = re.compile(r"(\d{4})(?:([-/.])(\d\d?)\2(\d\d?)|(\d\d)(\d\d))(?:\.0|[T ]\d\d?:.*)?")


def days_of(texts: Sequence[str]) -> list[str]:
    """The day that each text names, as YYYY-MM-DD; "" for what is no plausible day.

    Read are 2012-05-03, 2012-5-3, 2012/05/03, 2012.05.03 and 20120503, with a time or without. Tables write an unknown
    date as 9999-12-31 or 0001-01-01. A year after `LAST` is plausible if the year before it is one of these texts', so
    that newer tables are read, and the same tables give the same days in any year.
    """
    days = [_day(text) for text in texts]
    years = {day.year for day in days if day}
    last = LAST
    while last in years and last + 1 in years:
        last += 1
    return [day.isoformat() if day and FIRST <= day.year <= last else "" for day in days]


def _day(text: str) -> date | None:
    """The day that a text names, if it is one of the calendar."""
    if not (found := _DAY.fullmatch(text.strip())):
        return None
    year, _, month, day, *compact = found.groups()
    try:
        return date(int(year), int(month or compact[0]), int(day or compact[1]))
    except ValueError:
        return None


def read_days(dates: pa.DictionaryArray) -> tuple[pa.DictionaryArray, int, str]:
    """The days of dates, (N,) with a sorted dictionary; how many dates name none; and the last of these as a text."""
    texts, codes = dates.dictionary.to_pylist(), dates.indices.to_numpy()
    days, places = np.unique(np.array(days_of(texts), str), return_inverse=True)
    unknown = np.array([bool(text.strip()) for text in texts]) & (days[places] == "")
    example = max((text for text, no_day in zip(texts, unknown, strict=True) if no_day), default="")
    count = int(np.bincount(codes, minlength=len(texts))[unknown].sum())
    return pa.DictionaryArray.from_arrays(places.astype(np.int32)[codes], days), count, example
