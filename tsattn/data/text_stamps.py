"""Stamps that text or whole numbers spell."""

import re
from typing import Any

import numpy as np
import pandas as pd

from tsattn.checks import InputError, InPython
from tsattn.data.calendar import FIRST_EPOCH_SECOND, LAST_EPOCH_SECOND
from tsattn.data.spelling import (
    counts_in_text,
    even_reading,
    first_days,
    layouts_of,
    plain_stamps,
    refuse_other_dates,
)

# Four digits are a year from here on; smaller numbers are no stamps.
LEAST_STAMP = 1000
# Share of the distinct numbers that must read as dates, so that one typing error is named as such.
DATE_SHARE = 0.9
_UTC_OFFSET = re.compile(r"(:\d{2}(?:[.,]\d+)?)\s*(Z|[+-]\d{2}(?::?\d{2})?)$")
# Layout of an integer that spells a date, by its number of digits.
DIGIT_LAYOUTS = {
    4: "%Y",
    6: "%Y%m",
    8: "%Y%m%d",
    10: "%Y%m%d%H",
    12: "%Y%m%d%H%M",
    14: "%Y%m%d%H%M%S",
}

# A day of which two digits are the year.
_THREE_PAIRS = re.compile(r"\d\d([-/.])\d\d\1\d\d")
_UNITS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


class AmbiguousStampsError(InputError):
    """All stamps of a column can be read day first or month first."""


def spelt_stamps(numbers: np.ndarray, *, years: bool = False) -> pd.Series | None:
    """Stamps of integers such as 20240131 and 202401, or of seconds or finer units since 1970.

    Args:
        numbers: Integers, ``[rows]``.
        years: Whether four digits are years.

    Returns:
        ``[rows]``, NaT where a few do not fit; None if the numbers are no stamps.

    Example:
        >>> spelt_stamps(np.array([202401, 202402])).dt.month.tolist()
        [1, 2]
    """
    if numbers.min() < LEAST_STAMP:
        return None
    distinct, row = np.unique(numbers, return_inverse=True)
    low = int(distinct[0])
    high = int(distinct[-1])
    n_digits = len(str(low))
    same_length = n_digits == len(str(high))
    if same_length and n_digits in DIGIT_LAYOUTS and (years or n_digits > 4):
        text = pd.Series(distinct).astype(str)
        stamps = pd.to_datetime(text, format=DIGIT_LAYOUTS[n_digits], errors="coerce")
        if stamps.notna().mean() > DATE_SHARE:
            return stamps.iloc[row].reset_index(drop=True)
    for unit, size in _UNITS_PER_SECOND.items():
        if FIRST_EPOCH_SECOND * size <= low and high < LAST_EPOCH_SECOND * size:
            return pd.Series(numbers.astype(f"M8[{unit}]").astype("M8[ns]"))
    return None


def refuse_half_zoned(cells: pd.Series, zoned: pd.Series, label: str) -> None:
    """Refuse a column in which only some stamps carry a UTC offset.

    Args:
        cells: The stamps, ``[rows]``.
        zoned: Which of them do.
        label: Name of the column in an error.
    """
    if zoned.any() and not zoned.all():
        differs = zoned != zoned.iloc[0]
        row = int(differs.argmax())
        raise ValueError(
            f"{label}: {str(cells[row])!r} in row {row} and {str(cells[0])!r} in row 0 cannot be"
            " compared, since only some stamps carry a UTC offset; give all of them one or none"
        )


def read_text(
    text: pd.Series, label: str, candidates: pd.Index | None, day_first: bool | None
) -> pd.Series:
    """Stamps of a column of text, NaT where one cannot be read.

    Args:
        text: The cells, ``[rows]``, under the name of their column.
        label, candidates, day_first: As :func:`tsattn.data.columns.read_stamps` takes them.

    Raises:
        ValueError: If only some stamps carry a UTC offset, or all could be read day first or month
            first.
    """
    is_iso = pd.notna(pd.to_datetime(text.iloc[0], format="ISO8601", errors="coerce"))
    if not is_iso:
        text = plain_stamps(text)
    periods = first_days(text)
    if periods is not None:
        return periods
    counts = None if is_iso else counts_in_text(text)
    spelt = None if counts is None else spelt_stamps(counts)
    if counts is not None:
        refuse_other_dates(text.name, counts, label, is_read=spelt is not None)
    if spelt is not None:
        return spelt
    if text.iloc[0].endswith(("UTC", "GMT")):
        text = text.str.replace(r"\s*(?:UTC|GMT)$", "Z", regex=True)
    offsets = text.str.extract(_UTC_OFFSET)[1]
    refuse_half_zoned(text, offsets.notna(), label)
    if offsets.nunique() > 1:
        local = text.str.replace(_UTC_OFFSET, r"\1", regex=True)
        return local_or_utc(text, local)
    stamps = pd.to_datetime(text, format="ISO8601", errors="coerce")
    if not stamps.isna().iloc[0]:
        return stamps
    readings = _readings_by_layout(text, day_first)
    whole = [reading for reading in readings if reading.notna().all()]
    if day_first is None:
        year_first = _year_first_reading(text)
        if year_first is not None and not any(map(_is_even, whole)):
            return year_first
    if len(whole) > 1 and not whole[0].equals(whole[1]):
        likely = _likely_reading(whole, candidates, day_first)
        if likely is not None:
            return likely
        raise AmbiguousStampsError(
            f"{label}: {text[0]!r} in row 0 and all other stamps can be read day first or month"
            " first; write them as 2024-01-31",
            InPython(", or pass datetimes, as from pd.to_datetime(..., dayfirst=True)"),
        )
    return max(readings, key=lambda reading: int(reading.notna().sum()), default=stamps)


def _readings_by_layout(text: pd.Series, day_first: bool | None) -> list[pd.Series]:
    """The stamps of text in each layout that the first cell may have; the order of day and month of
    earlier rows is tried first.
    """
    layouts = layouts_of(text.iloc[0])
    if day_first is not None:
        layouts.sort(key=lambda layout: layout.startswith("%d") != day_first)
    return [pd.to_datetime(text, format=layout, errors="coerce") for layout in layouts]


def _year_first_reading(text: pd.Series) -> pd.Series | None:
    """The days of text such as 24/01/31, which leave none out; None of other text, also of such as
    may be read with the day or the month first.
    """
    if not text.str.fullmatch(_THREE_PAIRS).all():
        return None
    stamps = pd.to_datetime(
        text.str.replace(r"\D", "-", regex=True), format="%y-%m-%d", errors="coerce"
    )
    return stamps if stamps.notna().all() and _is_even(stamps) else None


def _is_even(stamps: pd.Series) -> bool:
    """Whether at least three different stamps leave none out between the first and the last."""
    return stamps.nunique() > 2 and even_reading([stamps]) is not None


def _likely_reading(
    whole: list[pd.Series], candidates: pd.Index | None, day_first: bool | None
) -> pd.Series | None:
    """The one of several readings of all cells that has more of the stamps that are expected, that
    earlier rows had, or that leaves none out; None where none is likelier than the others.
    """
    expected: Any = [] if candidates is None else candidates
    n_matches = [reading.isin(expected).sum() for reading in whole]
    if n_matches[0] != n_matches[1]:
        return whole[int(np.argmax(n_matches))]
    return even_reading(whole) if day_first is None else whole[0]


def local_or_utc(stamps: pd.Series, local: pd.Series) -> pd.Series:
    """Local times of days and longer steps, which are even where the offset changes; all others in
    UTC.
    """
    wall = pd.to_datetime(local, format="ISO8601", errors="coerce")
    utc = pd.to_datetime(stamps, format="ISO8601", errors="coerce", utc=True)
    hours = wall - wall.dt.normalize()
    # Local times are ambiguous if an hour occurs twice.
    unique = wall.nunique() == utc.nunique()
    return wall if unique and hours.nunique() == 1 else utc
