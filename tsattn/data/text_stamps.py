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

# A day of which two digits are the year, maybe with a clock, and layouts of the clock by length.
_THREE_PAIRS = re.compile(r"(\d\d)([-/.])(\d\d)\2(\d\d)( \d\d:\d\d(:\d\d)?)?")
_CLOCKS_BY_LENGTH = {8: "", 14: " %H:%M", 17: " %H:%M:%S"}
# Steps of so many days or more are months and years, which begin or end on their stamps.
_LEAST_MONTH_DAYS = 28
# A reading is the likelier one where its stamps lie within a third of the time.
_LIKELY_SPAN = 1 / 3
# Characters of a day, at least; a year or a month has fewer.
_LEAST_DAY_CHARACTERS = 8
# So many stamps show no order.
_FEW_STAMPS = 2
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
            first, or with the year first or last.
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
    if stamps.notna().all():
        return _without_totals(stamps, text)
    readings = _readings_by_layout(text, day_first)
    complete_readings = [reading for reading in readings if reading.notna().all()]
    # Hours without a zero before them are in none.
    if not stamps.isna().iloc[0] and not complete_readings:
        return _without_totals(stamps, text)
    year_first = _year_first_reading(text) if day_first is None else None
    if year_first is not None and _comes_year_first(
        text, year_first, complete_readings, candidates, label
    ):
        return year_first
    if len(complete_readings) > 1 and not complete_readings[0].equals(complete_readings[1]):
        likely = _likely_reading(complete_readings, candidates, day_first)
        if likely is not None:
            return likely
        raise AmbiguousStampsError(
            f"{label}: {text[0]!r} in row 0 and all other stamps can be read day first or month"
            " first; write them as 2024-01-31",
            InPython(", or pass datetimes, as from pd.to_datetime(..., dayfirst=True)"),
        )
    return max(readings, key=lambda reading: int(reading.notna().sum()), default=stamps)


def _without_totals(stamps: pd.Series, text: pd.Series) -> pd.Series:
    """Stamps without years and months among days, which are those of totals."""
    n_characters = text.str.len().clip(upper=_LEAST_DAY_CHARACTERS)
    return stamps.where(n_characters == n_characters.mode()[0])


def _readings_by_layout(text: pd.Series, day_first: bool | None) -> list[pd.Series]:
    """The stamps of text in each layout that the first cell may have; the order of day and month of
    earlier rows is tried first.
    """
    layouts = layouts_of(text.iloc[0])
    if day_first is not None:
        layouts.sort(key=lambda layout: layout.startswith("%d") != day_first)
    return [pd.to_datetime(text, format=layout, errors="coerce") for layout in layouts]


def _year_first_reading(text: pd.Series) -> pd.Series | None:
    """The stamps of text such as 24/01/31; None of other text."""
    if not text.str.fullmatch(_THREE_PAIRS).all():
        return None
    clock = _CLOCKS_BY_LENGTH[len(text.iloc[0])]
    days = text.str.replace(r"^(\d\d)\D(\d\d)\D", r"\1-\2-", regex=True)
    stamps = pd.to_datetime(days, format=f"%y-%m-%d{clock}", errors="coerce")
    return stamps if stamps.notna().all() else None


def _comes_year_first(
    text: pd.Series,
    year_first: pd.Series,
    others: list[pd.Series],
    candidates: pd.Index | None,
    label: str,
) -> bool:
    """Whether years of two digits come first in stamps, not last.

    The stamps that are expected decide, then the order that leaves none out, then the one that has
    them closer together.

    Args:
        text: The stamps.
        year_first: The reading with the year first.
        others: Readings with the year last.
        candidates: Stamps that are expected.
        label: Name of the column in an error.

    Raises:
        ValueError: If both may be, unless dots stand between, after which the year is the last, or
            slashes of few stamps.
    """
    if not others:
        return _is_even(year_first)
    expected: Any = [] if candidates is None else candidates
    n_matches = max(other.isin(expected).sum() for other in others)
    n_matches_first = year_first.isin(expected).sum()
    if n_matches_first != n_matches:
        return bool(n_matches_first > n_matches)
    is_likely = _is_likely_step(year_first)
    are_likely = any(map(_is_likely_step, others))
    if is_likely != are_likely:
        return is_likely
    if not is_likely:
        span = np.ptp(year_first.to_numpy())
        other_span = min(np.ptp(other.to_numpy()) for other in others)
        if span < _LIKELY_SPAN * other_span:
            return True
        if other_span < _LIKELY_SPAN * span:
            return False
    # Few stamps show no order.
    is_short = year_first.nunique() <= _FEW_STAMPS
    if "." in text[0] or ("/" in text[0] and is_short):
        return False
    raise AmbiguousStampsError(
        f"{label}: {text[0]!r} in row 0 and all other stamps can be read with the year first or"
        " last; write them as 2024-01-31",
        InPython(", or pass datetimes, as from pd.to_datetime(..., format='%y-%m-%d')"),
    )


def _is_likely_step(stamps: pd.Series) -> bool:
    """Whether stamps leave none out, and stand at the beginning or the end of their months if their
    steps are as long.
    """
    if not _is_even(stamps):
        return False
    times = pd.DatetimeIndex(stamps.unique()).sort_values()
    if times.to_series().diff().median() < pd.Timedelta(_LEAST_MONTH_DAYS, "D"):
        return True
    return bool(times.is_month_start.all() or times.is_month_end.all())


def _is_even(stamps: pd.Series) -> bool:
    """Whether at least three different stamps leave none out between the first and the last."""
    return stamps.nunique() > _FEW_STAMPS and even_reading([stamps]) is not None


def _likely_reading(
    readings: list[pd.Series], candidates: pd.Index | None, day_first: bool | None
) -> pd.Series | None:
    """The likeliest of several readings of all cells: the one with more of the expected stamps,
    with those of earlier rows, or without gaps; None if none is likelier.
    """
    expected: Any = [] if candidates is None else candidates
    n_matches = [reading.isin(expected).sum() for reading in readings]
    if n_matches[0] != n_matches[1]:
        return readings[int(np.argmax(n_matches))]
    return even_reading(readings) if day_first is None else readings[0]


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
