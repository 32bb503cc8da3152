"""Tables of events, a row each, without a column of values."""

import re
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from tsattn.checks import InputError, InPython
from tsattn.data.columns import is_even, read_stamps
from tsattn.data.keys import find_keys
from tsattn.data.layouts import reading_call
from tsattn.data.spelling import conversion

# Kinds of pandas' infer_dtype that times may have.
_KINDS_OF_TIMES = ("string", "date", "datetime", "datetime64")
# A code such as P-17.
_CODE = re.compile(r"[^\W\d_]+[-_]?\d")
_LEAST_STAMPS = 3
# Kinds of events that are counted by themselves at most, and events of each at least, on average.
_MOST_KINDS = 50
_LEAST_EVENTS = 10
# Events over so many days are counted by day, others by hour.
_LEAST_DAYS = 14


def refuse_events(df: pd.DataFrame, roles: Collection[Any]) -> None:
    """Refuse a table of times without values.

    Times at even steps beside words are no events, if each is that of one row or the words tell its
    rows apart: other words may be values in another spelling.

    Args:
        df: A table without a column of numbers.
        roles: Columns that are named as ids or covariates.

    Raises:
        ValueError: With the call that counts the rows of each day or hour.
    """
    columns = [column for column in df.columns if column not in roles]
    cells_by_name: dict[Any, Any] = {column: df[column] for column in columns}
    if isinstance(df.index, pd.DatetimeIndex):
        cells_by_name[None] = df.index.to_series()
    times_by_name = {}
    for name, cells in cells_by_name.items():
        times = _times(cells)
        if times is not None:
            times_by_name[name] = times
    words = [name for name in columns if name not in times_by_name]
    if len(times_by_name) != 1 or any(_may_be_values(df[name]) for name in words):
        return
    ((time_col, times),) = times_by_name.items()
    distinct = times.unique().sort_values()
    # Of fewer stamps nobody knows whether they are even.
    if len(distinct) < _LEAST_STAMPS:
        return
    one_series = np.zeros(len(distinct), dtype=np.int64)
    has_even_times = is_even(distinct.to_series(), one_series)
    # Two events of one kind at one time are rows that are alike.
    is_once = not df.duplicated().any()
    tells_apart = times.is_unique or (is_once and bool(find_keys(df, pd.Series(times), words)))
    if (words or time_col is None) and has_even_times and tells_apart:
        return
    first = distinct[0]
    last = distinct[-1]
    span = last - first
    unit, step = ("D", "day") if span >= pd.Timedelta(_LEAST_DAYS, "D") else ("h", "hour")
    place = "df.index" if time_col is None else f"df[{time_col!r}]"
    where = "the index" if time_col is None else f"column {time_col!r}"
    stamps = reading_call(cells_by_name[time_col], times, place)
    index = place if time_col is None else f"pd.DatetimeIndex({stamps})"
    counting = f": df = pd.Series(1, {index}, name='y').resample({unit!r}).sum().reset_index()"
    kind_cols = [name for name in words if _names_kinds(df[name])]
    if kind_cols:
        kinds = f"df[{kind_cols[0]!r}].to_numpy()"
        table = f"pd.crosstab({index}.floor({unit!r}), {kinds})"
        counting += f"; or those of each {kind_cols[0]!r}"
        counting += f": df = {table}.asfreq({unit!r}, fill_value=0)"
    raise InputError(
        f"{where} holds times, {first} to {last}, and no column holds numbers, but one must"
        f" hold the values; add it, or, where each row is an event, count those of each {step}",
        InPython(counting),
    )


def _times(cells: pd.Series) -> pd.DatetimeIndex | None:
    """The stamps that all cells of a column hold; None for other columns."""
    if pd.api.types.infer_dtype(cells, skipna=False) not in _KINDS_OF_TIMES:
        return None
    try:
        times = read_stamps(cells, "", str)
    except (ValueError, TypeError):
        return None
    return times if isinstance(times, pd.DatetimeIndex) else None


def _names_kinds(cells: pd.Series) -> bool:
    """Whether the words of a column part events into a few kinds of many each."""
    n_kinds = cells.nunique()
    return 1 < n_kinds <= min(_MOST_KINDS, len(cells) / _LEAST_EVENTS)


def _may_be_values(cells: pd.Series) -> bool:
    """Whether cells spell numbers in some way, and are no codes."""
    if cells.astype(str).str.match(_CODE).all():
        return False
    if pd.to_numeric(cells.astype(str), errors="coerce").notna().any():
        return True
    return conversion(cells, np.full(len(cells), np.nan), "") is not None
