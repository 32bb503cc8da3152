"""Columns of a frame that hold ids, stamps and numbers, found and read."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from numbers import Real
from typing import Any, Literal

import numpy as np
import pandas as pd

from tsattn.data.calendar import more

MISSING = ("error", "interpolate", "ffill", "mask")
_TIME_NAMES = {"date", "ds", "timestamp", "time", "datetime"}
_REACH = 2**61  # so that differences and future steps of integer time fit into int64
_YEARS = (1678, 2261)  # whole years that nanoseconds in int64 can count
_NUMBERS = (Real, Decimal, np.bool_)
_OFFSET = re.compile(r":\d{2}(?:[.,]\d+)?\s*(Z|[+-]\d{2}(?::?\d{2})?)$")
_DATES = (
    "%Y/%m/%d", "%Y.%m.%d", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%m/%d/%y", "%d/%m/%y",
    "%Y-%m-%d", "%d-%b-%Y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y",
)  # fmt: skip
_HOURS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")


@dataclass(frozen=True)
class Dialect:
    """How the frame that came in looked, so that the answer looks alike.

    Attributes:
        kind: ``"long"`` (one row per series and stamp) or ``"wide"`` (one row per stamp, one column per channel).
        id_col: Column of the series' names; None for a wide frame and for a long frame with one nameless series.
        time_col: Column of the stamps; None when a wide frame keeps them in its index.
        target_col: Column of the values; None for a wide frame.
        index_name: Name of the index that holds the stamps of a wide frame.
        id_dtype: pandas dtype of the id column, so that categories and strings come back as such.
    """

    kind: Literal["long", "wide"]
    id_col: str | None
    time_col: str | None
    target_col: str | None
    index_name: Hashable | None = None
    id_dtype: Any = None

    def restore_ids(self, ids: np.ndarray) -> pd.Series:
        """Ids as a column of the dtype that came in (categories, strings, integers)."""
        return pd.Series(ids, dtype=self.id_dtype, name=self.id_col)


def check_frame(df: Any, missing: str) -> None:
    """Refuse what is no frame, has no rows or doubled column names, and policies that do not exist."""
    if missing not in MISSING:
        raise ValueError(f"missing must be one of {', '.join(MISSING)}; got {missing!r}")
    if not isinstance(df, pd.DataFrame):
        raise TypeError(
            f"expected a pandas DataFrame (or a Panel); got {type(df).__name__}; a Series becomes one by to_frame()"
        )
    if df.columns.nlevels > 1:
        raise ValueError(f"columns must have one level; got {df.columns.nlevels}; join their names first")
    twice = df.columns[df.columns.duplicated()]
    if len(twice):
        raise ValueError(f"column {twice[0]!r} occurs more than once, but names must be unique; rename or drop one")
    if not len(df):
        raise ValueError(f"the table is empty: columns {_listed(df)} and no rows; give at least one row per series")


def _listed(df: pd.DataFrame) -> str:
    names = [str(column) for column in df.columns[:8]]
    return f"{names}{' ...' if df.shape[1] > 8 else ''}"


def require_columns(df: pd.DataFrame, wanted: dict[str, Any]) -> None:
    """Refuse a frame without one of the columns, given as parameter and name."""
    for parameter, column in wanted.items():
        if column not in df.columns:
            fix = "call reset_index() first" if column in df.index.names else f"name it by {parameter}="
            where = "in the index" if column in df.index.names else "missing"
            raise ValueError(f"column {column!r} is {where}; the table has columns {_listed(df)}; {fix}")


def long_names(
    df: pd.DataFrame, id_col: Any, time_col: Any, target_col: Any, *, check: bool = True
) -> tuple[Any, Any, Any]:
    """The column names to read, the second dialect and a missing id column resolved."""
    columns = set(df.columns)
    if (id_col, time_col, target_col) == ("unique_id", "ds", "y"):
        other = "item_id" in columns or columns >= {"timestamp", "target"}
        if other and "unique_id" not in columns and not columns >= {"ds", "y"}:
            id_col, time_col, target_col = "item_id", "timestamp", "target"
        if id_col not in columns:
            id_col = None
    elif id_col == "unique_id" and id_col not in columns:
        id_col = None
    if check:
        wanted = {"id_col": id_col, "time_col": time_col, "target_col": target_col}
        require_columns(df, {key: name for key, name in wanted.items() if name is not None})
        if len({id_col, time_col, target_col}) < 3:
            raise ValueError(f"id_col, time_col and target_col must be three columns; got {list(wanted.values())!r}")
    return id_col, time_col, target_col


def find_time_col(df: pd.DataFrame) -> Any:
    """The column that holds the stamps of a wide frame, or None for its index."""
    if isinstance(df.index, pd.DatetimeIndex):
        return None
    named = [column for column in df.columns if str(column).lower() in _TIME_NAMES]
    dated = [column for column in df.columns if pd.api.types.is_datetime64_any_dtype(df[column].dtype)]
    found = named or dated
    if len(found) > 1:
        raise ValueError(f"columns {found!r} could all hold the stamps, but one must; name it by time_col=")
    return found[0] if found else None


def read_ids(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Series number of each row, and the sorted ids."""
    gone = np.flatnonzero(column.isna())
    if len(gone):
        raise ValueError(
            f"column {column.name!r} has no id in row {gone[0]}{more(len(gone))}, but every row belongs to a "
            "series; fill in or drop these rows"
        )
    try:
        codes, ids = pd.factorize(column, sort=True)
    except TypeError as error:
        raise TypeError(
            f"the ids of column {column.name!r} cannot be sorted ({error}); convert them to text"
        ) from error
    return codes, np.asarray(ids)


def read_numbers(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """A copy as float64 with NaN where missing, and where a cell is no number."""
    kind = column.dtype
    if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_complex_dtype(kind):
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
        return numbers, np.zeros(len(column), dtype=bool)
    numbers, present = np.full(len(column), np.nan), column.notna().to_numpy()
    if kind != np.dtype(object):
        return numbers, present
    number = np.fromiter((isinstance(cell, _NUMBERS) for cell in column), dtype=bool, count=len(column)) & present
    numbers[number] = [_float(cell) for cell in column[number]]
    return numbers, present & ~number


def plain(name: Any) -> Any:
    """A numpy scalar as the Python value that people typed."""
    if isinstance(name, np.datetime64):
        return str(pd.Timestamp(name))
    return name.item() if isinstance(name, np.generic) else name


def _float(number: Any) -> float:
    try:
        return float(number)
    except OverflowError:  # an integer beyond float64
        return np.inf


def read_stamps(column: pd.Series | pd.Index, label: str, name: Callable[[int], str]) -> pd.Index:
    """A time column as a DatetimeIndex (time zone and unit kept) or an integer index.

    Text is read as ISO 8601, or by one common layout that fits the whole column. Text or objects with different UTC
    offsets become UTC.

    Args:
        column: The stamps as they came.
        label: What to call the column in an error.
        name: What to call the series of a row in an error.

    Raises:
        TypeError: If the column holds neither stamps, text nor integers.
        ValueError: If a stamp is missing, cannot be read, or could be read day first or month first.
    """
    series = pd.Series(column.array, copy=False)  # rows by number; nothing is written to it
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind in ("integer", "floating", "datetime64", "datetime", "date", "string", "empty"):
        gone = np.flatnonzero(series.isna())
        if len(gone):
            raise ValueError(
                f"{name(gone[0])}: {label} has no stamp in row {gone[0]}{more(len(gone))}, but every row needs one; "
                "fill in or drop these rows"
            )
        if kind == "integer":
            far = np.flatnonzero((series < -_REACH) | (series > _REACH))
            if len(far):
                raise ValueError(
                    f"{name(far[0])}: {label} holds {series[far[0]]} in row {far[0]}{more(len(far))}, but integer "
                    f"time must stay within ±{_REACH}; correct it"
                )
            return pd.Index(series.to_numpy(dtype=np.int64, copy=True))
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        stamps = series if series.dt.unit == "ns" else series.where(series.dt.year.between(*_YEARS))
    elif kind in ("datetime", "date", "datetime64"):
        zones = {getattr(cell, "tzinfo", None) for cell in series}
        stamps = pd.to_datetime(series, errors="coerce", utc=len(zones) > 1)
    elif kind == "string":
        stamps = _read_text(series.astype(object), label)
    else:
        raise TypeError(
            f"{label} must hold stamps, text that reads as stamps, or integers; got {kind}; convert it with "
            "pd.to_datetime, or a PeriodIndex with to_timestamp()"
        )
    bad = np.flatnonzero(stamps.isna())
    if len(bad):
        raise ValueError(
            f"{name(bad[0])}: {label} holds {series[bad[0]]!r:.60} in row {bad[0]}{more(len(bad))}, which cannot "
            f"be read as a stamp of the years {_YEARS[0]} to {_YEARS[1]}; correct it, or pass datetimes, as from "
            "pd.to_datetime(..., format=...)"
        )
    return pd.DatetimeIndex(stamps, copy=True).rename(None)


def _read_text(text: pd.Series, label: str) -> pd.Series:
    """Stamps of a column of text, NaT where one cannot be read."""
    offsets = text.str.extract(_OFFSET, expand=False)
    zoned = offsets.notna()
    if zoned.any() and not zoned.all():
        row = int(np.flatnonzero(~zoned if zoned.iloc[0] else zoned)[0])
        raise ValueError(
            f"{label}: {text[row]!r} in row {row} and {text[0]!r} in row 0 cannot be compared, since only some stamps "
            "carry a UTC offset; give all of them one or none"
        )
    utc = offsets.nunique() > 1
    stamps = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=utc)
    if not stamps.isna().iloc[0]:
        return stamps
    layouts = [date + hour for date in _DATES for hour in _HOURS if _fits(text.iloc[0], date + hour)]
    readings = [pd.to_datetime(text, format=layout, errors="coerce") for layout in layouts]
    whole = [reading for reading in readings if reading.notna().all()]
    if len(whole) > 1 and not whole[0].equals(whole[1]):
        raise ValueError(
            f"{label}: {text[0]!r} in row 0 and all other stamps can be read day first or month first; pass "
            "datetimes, as from pd.to_datetime(..., dayfirst=True)"
        )
    return max(readings, key=lambda reading: int(reading.notna().sum()), default=stamps)


def _fits(text: str, layout: str) -> bool:
    try:
        datetime.strptime(text, layout)
    except ValueError:
        return False
    return True
