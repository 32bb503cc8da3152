"""Times as stamps: read from text, numbers, periods and objects, or refused in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

import numpy as np
import pandas as pd

from tsattn.data.calendar import more

_REACH = 2**61  # so that differences and future steps of integer time fit into int64
_YEARS = (1678, 2261)  # whole years that nanoseconds in int64 can count
_OFFSET = re.compile(r":\d{2}(?:[.,]\d+)?\s*(Z|[+-]\d{2}(?::?\d{2})?)$")
_DATES = (
    "%Y/%m/%d", "%Y.%m.%d", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%m/%d/%y", "%d/%m/%y",
    "%Y-%m-%d", "%d-%b-%Y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%Y-%m", "%Y/%m", "%YM%m", "%m/%Y",
    "%m-%Y", "%b %Y", "%B %Y", "%b-%Y", "%b-%y", "%Y-%b", "%Y %b",
)  # fmt: skip
_HOURS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
_QUARTER = re.compile(r"(?:(\d{4})[-:/ ]*Q([1-4])|Q([1-4])[-:/ ]*(\d{4}))", re.IGNORECASE)
_WEEK = re.compile(r"(\d{4})-?W(\d{2})", re.IGNORECASE)
_DIGITS = {4: "%Y", 6: "%Y%m", 8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_EPOCH = (10**8, 42 * 10**8)  # seconds since 1970 of the years 1973 to 2103
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_READ = ("integer", "floating", "datetime64", "datetime", "date", "period", "string", "empty")


def read_stamps(
    column: pd.Series | pd.Index, label: str, name: Callable[[int], str], unit: str | None = None
) -> pd.Index:
    """A time column as a DatetimeIndex (time zone and unit kept) or an integer index.

    Text is read as ISO 8601, or by one common layout that fits the whole column. Text or objects with different UTC
    offsets become UTC. Periods, quarters and weeks become their first instant, years and months in decimals (1949.083)
    too. Integers are read as :func:`spelt_stamps` does.

    Args:
        column: The stamps as they came.
        label: What to call the column in an error.
        name: What to call the series of a row in an error.
        unit: Unit of the frequency (see :class:`tsattn.data.calendar.Grid`) if it is known: ``"integer"`` leaves
            integers as they are, any other takes years for stamps as well.

    Raises:
        TypeError: If the column holds neither stamps, text nor integers.
        ValueError: If a stamp is missing, cannot be read, or could be read day first or month first.
    """
    series = pd.Series(column.array, copy=False)  # rows by number; nothing is written to it
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(series.cat.categories.dtype)
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind in _READ:
        gone = np.flatnonzero(series.isna())
        if len(gone):
            raise ValueError(
                f"{name(gone[0])}: {label} has no stamp in row {gone[0]}{more(len(gone))}, but every row needs one; "
                "fill in or drop these rows"
            )
    if kind == "integer":
        _refuse_far(series, label, name)
        series = series.astype(np.int64)
    numbers = whole_numbers(series) if kind in ("integer", "floating") else None
    stamps = None if numbers is None or unit == "integer" else spelt_stamps(numbers, years=unit is not None)
    if numbers is not None and stamps is None:
        return pd.Index(numbers.copy())
    stamps = _stamps(series, kind, label) if stamps is None else stamps
    bad = np.flatnonzero(stamps.isna())
    if len(bad):
        raise ValueError(
            f"{name(bad[0])}: {label} holds {series[bad[:1]].tolist()[0]!r:.60} in row {bad[0]}{more(len(bad))}, which "
            f"cannot be read as a stamp of the years {_YEARS[0]} to {_YEARS[1]}; correct it, or pass datetimes, as "
            "from pd.to_datetime(..., format=...)"
        )
    return pd.DatetimeIndex(stamps, copy=True).rename(None)


def _refuse_far(series: pd.Series, label: str, name: Callable[[int], str]) -> None:
    far = np.flatnonzero((series < -_REACH) | (series > _REACH))
    if len(far):
        raise ValueError(
            f"{name(far[0])}: {label} holds {series[far[0]]} in row {far[0]}{more(len(far))}, but integer "
            f"time must stay within ±{_REACH}; correct it"
        )


def _stamps(series: pd.Series, kind: str, label: str) -> pd.Series:
    """Stamps of a column that holds no whole numbers, NaT where one cannot be read."""
    years = decimal_years(series.to_numpy(dtype=np.float64)) if kind == "floating" else None
    if years is not None:
        return years
    if kind == "string":
        return _read_text(series.astype(object), label)
    if kind == "period":
        return pd.Series(pd.PeriodIndex(series).to_timestamp())
    if kind == "date":  # those of pyarrow have no unit
        series = series.astype(object)
    elif pd.api.types.is_datetime64_any_dtype(series.dtype):
        return series if series.dt.unit == "ns" else series.where(series.dt.year.between(*_YEARS))
    if kind in ("datetime", "date", "datetime64"):
        zones = series.map(lambda cell: getattr(cell, "tzinfo", None))
        _refuse_half_zoned(series, zones.notna(), label)
        return pd.to_datetime(series, errors="coerce", utc=len(set(zones)) > 1)
    raise TypeError(
        f"{label} must hold stamps, text that reads as stamps, or integers; got {kind}; convert it with pd.to_datetime"
    )


def whole_numbers(column: pd.Series) -> np.ndarray | None:
    """Numbers as int64 if all are whole."""
    if not pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_complex_dtype(column.dtype):
        return None
    numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    whole = bool((np.isfinite(numbers) & (np.abs(numbers) <= _REACH) & (numbers == np.rint(numbers))).all())
    return column.to_numpy(dtype=np.int64) if whole else None


def spelt_stamps(numbers: np.ndarray, *, years: bool = False) -> pd.Series | None:
    """Stamps that integers spell: 20240131, 202401 and the like, or seconds or finer units since 1970.

    Args:
        numbers: Integers, ``[rows]``.
        years: Whether four digits are years.

    Returns:
        ``[rows]``, NaT where a few do not fit; None if the numbers are nothing of the kind.

    Example:
        >>> spelt_stamps(np.array([202401, 202402])).dt.month.tolist()
        [1, 2]
    """
    if not len(numbers) or numbers.min() < 1000:
        return None
    distinct, row = np.unique(numbers, return_inverse=True)
    digits, low, high = len(str(distinct[0])), int(distinct[0]), int(distinct[-1])
    if digits == len(str(high)) and digits in _DIGITS and (years or digits > 4):
        stamps = pd.to_datetime(pd.Series(distinct).astype(str), format=_DIGITS[digits], errors="coerce")
        if stamps.notna().mean() > 0.9:
            return stamps.iloc[row].reset_index(drop=True)
    for unit, size in _UNITS.items():
        if _EPOCH[0] * size <= low and high < _EPOCH[1] * size:
            return pd.Series(numbers.astype(f"M8[{unit}]").astype("M8[ns]"))
    return None


def decimal_years(numbers: np.ndarray) -> pd.Series | None:
    """Months of years such as 1949.083, if all numbers are years and months."""
    months = np.rint((numbers - 1970) * 12)
    near = np.abs(numbers - 1970 - months / 12) < 0.002
    inside = (numbers > _YEARS[0]) & (numbers < _YEARS[1] + 1)
    return pd.Series(months.astype("M8[M]").astype("M8[ns]")) if (near & inside).all() else None


def _refuse_half_zoned(cells: pd.Series, zoned: pd.Series, label: str) -> None:
    if zoned.any() and not zoned.all():
        row = int(np.flatnonzero(~zoned if zoned.iloc[0] else zoned)[0])
        raise ValueError(
            f"{label}: {str(cells[row])!r} in row {row} and {str(cells[0])!r} in row 0 cannot be compared, since only"
            " some stamps carry a UTC offset; give all of them one or none"
        )


def _read_text(text: pd.Series, label: str) -> pd.Series:
    """Stamps of a column of text, NaT where one cannot be read."""
    if text.iloc[0].endswith(("UTC", "GMT")):
        text = text.str.replace(r"\s*(?:UTC|GMT)$", "Z", regex=True)
    offsets = text.str.extract(_OFFSET, expand=False)
    _refuse_half_zoned(text, offsets.notna(), label)
    if _QUARTER.fullmatch(text.iloc[0]):
        text = text.str.replace(_QUARTER, lambda m: f"{m[1] or m[4]}-{3 * int(m[2] or m[3]) - 2:02}", regex=True)
    if _WEEK.fullmatch(text.iloc[0]):
        return pd.to_datetime(text.str.replace(_WEEK, r"\1-\2-1", regex=True), format="%G-%V-%u", errors="coerce")
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
