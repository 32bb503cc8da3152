"""Stamps as text in the layout of the table that they continue."""

import os
import re
from collections.abc import Callable
from itertools import product
from typing import Any

import pandas as pd
from pandas.api.types import infer_dtype
from pandas.tseries.offsets import MonthEnd, QuarterEnd

from tsattn.data.columns import read_stamps
from tsattn.data.months import name_patterns
from tsattn.data.spelling import (
    DAYS,
    FISCAL_YEAR,
    LAYOUTS,
    ORDINAL_DAY,
    QUARTER,
    WEEK,
    layouts_of,
    plain_stamps,
)
from tsattn.data.text_stamps import DIGIT_LAYOUTS

# ISO 8601 is read as such; this is how it may be written.
_ISO_DATES = ("%Y-%m-%d", "%Y%m%d", "%Y")
_ISO_CLOCKS = ("", " %H:%M", " %H:%M:%S", "T%H:%M", "T%H:%M:%S")

# Rows at the end of a column that show its layout.
_N_ROWS_SHOWN = 500
# Windows knows no layout of days and months without zeros in front.
_PADDINGS = (True, False) if os.name == "posix" else (True,)

Writer = Callable[[pd.Series], pd.Series]


def find_layout(column: pd.Series, times: pd.Index) -> Writer | None:
    """How the stamps of a column are written.

    Args:
        column: The time column as it came.
        times: The stamps that it was read as. They decide whether the day or the month comes first.

    Returns:
        A function that writes stamps in the same way, and leaves them as they are where that would
        lose something; None for a column of other values than text and spelt integers, and for
        layouts that the library does not write.

    Example:
        >>> months = pd.to_datetime(["1960-11-01", "1960-12-01"])
        >>> write = find_layout(pd.Series(["1960-11", "1960-12"]), months)
        >>> write(pd.Series(pd.to_datetime(["1961-01-01"]))).tolist()
        ['1961-01']
    """
    column = column.tail(_N_ROWS_SHOWN)
    kind = infer_dtype(column)
    is_integer = kind == "integer"
    if kind not in ("string", "integer"):
        return None
    try:
        tail = _read(column, times)
    except (ValueError, TypeError):
        return None
    if not isinstance(tail, pd.DatetimeIndex) or tail.tz is not None:
        return None
    stamps = pd.Series(tail)
    text = column.astype(str).reset_index(drop=True)
    first_stamp = stamps[:1]
    first_text = text[:1]
    for layout in _writers(text.iloc[0], is_integer=is_integer):
        # The first row excludes most layouts at little cost.
        if not layout(first_stamp).equals(first_text):
            continue
        if layout(stamps).equals(text):
            return _exact(layout, is_integer=is_integer)
    return None


def reading_call(cells: pd.Series | pd.Index, times: pd.Index, place: str) -> str:
    """The expression of pandas that makes stamps of a column.

    Args:
        cells: The column as it came.
        times: The stamps that it was read as, in any order.
        place: How Python writes the column.

    Example:
        >>> days = pd.to_datetime(["2024-02-13", "2024-02-14"])
        >>> reading_call(pd.Series(["13.02.2024", "14.02.2024"]), days, "df['day']")
        "pd.to_datetime(df['day'], format='%d.%m.%Y')"
    """
    plain_call = f"pd.to_datetime({place})"
    if infer_dtype(cells) != "string":
        return plain_call
    text = pd.Series(cells.astype(object).to_numpy())
    if pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True).notna().all():
        return plain_call
    begins = plain_stamps(text)
    n_characters = len(begins.iloc[0])
    # Of spans the beginning alone.
    if not begins.equals(text) and begins.equals(text.str[:n_characters]):
        text = begins
        place = f"{place}.str[:{n_characters}]"
    # The dot behind a day is that of German.
    patterns = name_patterns(text) | {r"^(\d+)\.\s*": r"\1 "}
    replaced = f".replace({patterns!r}, regex=True)"
    of_names = f"{place}{replaced}"
    if isinstance(cells, pd.Index):
        of_names = f"pd.Index({place}.to_series(){replaced})"
    for spelt, column in ((text, place), (text.replace(patterns, regex=True), of_names)):
        for layout in layouts_of(spelt.iloc[0]):
            stamps = pd.to_datetime(spelt, format=layout, errors="coerce")
            if stamps.isin(times).all():
                return f"pd.to_datetime({column}, format={layout!r})"
    return plain_call


def _read(column: pd.Series, candidates: pd.Index) -> pd.Index:
    return read_stamps(column, "", str, candidates=candidates)


def _exact(write: Writer, *, is_integer: bool) -> Writer:
    """The writer, which leaves stamps alone that it would write with a loss."""

    def write_exactly(stamps: pd.Series) -> pd.Series:
        text = write(stamps).set_axis(stamps.index)
        if is_integer:
            text = text.astype("int64")
        expected = pd.DatetimeIndex(stamps)
        try:
            read_again = _read(text, expected)
            is_exact = (read_again == expected).all()
        except (ValueError, TypeError):
            return stamps
        return text if is_exact else stamps

    return write_exactly


def _writers(first: str, *, is_integer: bool) -> list[Writer]:
    """Writers that may fit the first cell."""
    if is_integer:
        n_digits = len(first)
        layouts = [DIGIT_LAYOUTS[n_digits]] if n_digits in DIGIT_LAYOUTS else []
    elif QUARTER.fullmatch(first):
        return [_periods_like(first, lambda day: (day.year, day.quarter), width=1)]
    elif WEEK.fullmatch(first):
        # Years of ISO 8601 have whole weeks.
        widths = (2, 1)
        return [_periods_like(first, lambda day: day.isocalendar()[:2], width) for width in widths]
    elif days := DAYS.fullmatch(first):
        first_day = pd.Timestamp(days[1])
        last_day = pd.Timestamp(days[3])
        length = last_day - first_day
        between = days[2]
        return [_days_like(between, step) for step in (length, MonthEnd(0), QuarterEnd(0))]
    elif ORDINAL_DAY.match(first):
        layouts = ["%Y-%j" + clock for clock in _ISO_CLOCKS]
    else:
        iso_layouts = [date + clock for date, clock in product(_ISO_DATES, _ISO_CLOCKS)]
        # Some are in both lists.
        layouts = list(dict.fromkeys([*iso_layouts, *LAYOUTS]))
    # 05/01/2024 is padded, 5/1/2024 is not.
    writers = [_writer(layout, is_padded) for layout in layouts for is_padded in _PADDINGS]
    # Months such as 2010-11 may look like fiscal years.
    if FISCAL_YEAR.fullmatch(first):
        # The last two digits are those of the next year, or of the year itself.
        writers.append(_periods_like(first, lambda day: (day.year, (day.year + 1) % 100), width=2))
        writers.append(_periods_like(first, lambda day: (day.year, day.year % 100), width=2))
    return writers


def _writer(layout: str, is_padded: bool) -> Writer:
    if not is_padded:
        for code in "mdI":
            layout = layout.replace(f"%{code}", f"%-{code}")

    def write(stamps: pd.Series) -> pd.Series:
        return pd.Series(stamps.dt.strftime(layout).to_numpy(), dtype=object)

    return write


def _periods_like(
    first: str, numbers_of: Callable[[pd.Timestamp], tuple[int, int]], width: int
) -> Writer:
    """A writer of periods such as ``2000Q1``, ``Q1 2000`` or ``2000-W05``.

    Args:
        first: One of them: four digits are the year, others the period.
        numbers_of: The year and the number of the period of a stamp.
        width: Digits of the number, at least.
    """

    def write(stamps: pd.Series) -> pd.Series:
        cells = []
        for stamp in stamps:
            year, number = numbers_of(stamp)
            padded_number = f"{number:0{width}}"
            of_year = re.sub(r"\d{4}", str(year), first)
            # A digit that has no digits beside it belongs to no year.
            cell = re.sub(r"(?<!\d)\d{1,2}(?!\d)", padded_number, of_year)
            cells.append(cell)
        return pd.Series(cells, dtype=object)

    return write


def _days_like(between: str, length: Any) -> Writer:
    """A writer of first and last days, such as ``2020-01-06/2020-01-12``."""

    def write(stamps: pd.Series) -> pd.Series:
        ends = pd.DatetimeIndex(stamps) + length
        first_days = stamps.dt.strftime("%Y-%m-%d")
        last_days = ends.strftime("%Y-%m-%d")
        texts = first_days + between + last_days
        return pd.Series(texts.to_numpy(), dtype=object)

    return write
