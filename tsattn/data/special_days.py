"""Special days that are known ahead: the holidays of a country, and dates that a user lists.

Both are entries of a calendar in the form of strings, so that a schema which names them stays
hashable, is saved as JSON, and can be typed at the command line: ``"holidays:DE-BY"`` and
``"days:Black Friday=2023-11-24,2024-11-29"``.
"""

from collections.abc import Mapping
from datetime import date
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from tsattn.checks import InputError, Name
from tsattn.data.calendar import parse_freq, ticks
from tsattn.data.columns import as_frame, find_time_col, plain, read_stamps
from tsattn.data.grid import DAY_NANOSECONDS

# Columns of one entry: the day itself, the day before it, the day after it.
DAY_COLUMNS = 3
_HOLIDAYS = "holidays:"
_DATES = "days:"
_FIRST_DAY = date(1970, 1, 1).toordinal()


class HolidaysMissing(ImportError):
    """The package of the holidays is not installed."""


def special_days(days: Any) -> tuple[str, ...]:
    """Dates, and perhaps their names, as entries of a ``Schema``'s ``calendar``.

    Give dates of the past, so that their effect can be learnt, and those of the time to forecast.

    Args:
        days: A mapping of dates to names; a table with a column of dates and perhaps one of text,
            the names; or dates alone. Dates may be text, such as ``"2024-11-29"``, dates or stamps,
            whose hours do not count.

    Returns:
        One entry for each name, sorted, or a single one of dates without names.

    Raises:
        TypeError: If there are no dates but numbers, say.
        ValueError: If a date cannot be read, a name is missing or has an equals sign, or several
            columns could be the dates or the names.

    Example:
        >>> special_days({"2023-11-24": "Black Friday", "2024-11-29": "Black Friday"})
        ('days:Black Friday=2023-11-24,2024-11-29',)
        >>> special_days(["2024-06-14", "2024-06-15"])
        ('days:2024-06-14,2024-06-15',)
    """
    dates, names = _dates_and_names(days)
    if not len(dates):
        raise ValueError("special_days needs at least one date such as '2024-11-29'; got none")
    stamps = read_stamps(dates, "the column of dates", lambda row: "special_days")
    if not isinstance(stamps, pd.DatetimeIndex):
        raise TypeError(
            f"special_days needs dates such as '2024-11-29'; got {plain(dates.iloc[0])!r:.60}"
        )
    texts = pd.Series(stamps.strftime("%Y-%m-%d"))
    if names is None:
        return (_DATES + ",".join(sorted(set(texts))),)
    bad = [
        plain(name)
        for name in names
        if not isinstance(name, str) or not name.strip() or "=" in name
    ]
    if bad:
        raise ValueError(
            f"a name of special_days must be text without '='; got {bad[0]!r:.60}; rename it"
        )
    by_name = texts.groupby(names.str.strip().to_numpy())
    return tuple(f"{_DATES}{name}={','.join(sorted(set(dates)))}" for name, dates in by_name)


def _dates_and_names(days: Any) -> tuple[pd.Series, pd.Series | None]:
    """The dates of :func:`special_days` and, where there are some, their names, both by row."""
    if isinstance(days, Mapping):
        dates = pd.Series(list(days), dtype=object)
        names = pd.Series(list(days.values()), dtype=object)
        return dates, names
    if isinstance(days, str | date | np.datetime64):
        return pd.Series([days]), None
    if not hasattr(days, "columns"):
        return pd.Series(list(days)), None
    frame = as_frame(days).reset_index(drop=True)
    time_col = frame.columns[0] if len(frame.columns) == 1 else find_time_col(frame)
    if time_col is None:
        raise ValueError(
            f"special_days finds no dates in the columns {list(frame.columns)!r}; call that"
            " column ds"
        )
    others = [column for column in frame.columns if column != time_col]
    text = [
        column
        for column in others
        if pd.api.types.infer_dtype(frame[column]) in ("string", "categorical")
    ]
    if len(text) > 1:
        raise ValueError(
            f"columns {text!r} could all hold the names of special_days; keep one of them"
        )
    return frame[time_col], frame[text[0]].astype(object) if text else None


def marks_days(entry: str) -> bool:
    """Whether an entry of a calendar is special days, not a cycle."""
    return entry.startswith((_HOLIDAYS, _DATES))


def check_days(entry: str, freq: str | int) -> None:
    """Refuse unknown special days, and those that the stamps of a frequency cannot show.

    Args:
        entry: One for which :func:`marks_days` holds.
        freq: Frequency of the rows.

    Raises:
        ValueError: If steps are longer than a day, the country or its part is unknown, or a date
            cannot be read.
        HolidaysMissing: If the package of the holidays is missing.
    """
    grid = parse_freq(freq)
    daily = grid.unit in ("day", "business") and grid.step == 1
    within_days = grid.is_weekly or (grid.unit == "tick" and grid.step <= DAY_NANOSECONDS)
    if grid.unit == "integer":
        raise ValueError(
            f"calendar {entry!r:.60} marks days, but integer time has none; leave it out, or give"
            " stamps"
        )
    if not daily and not within_days:
        raise InputError(
            f"calendar {entry!r:.60} marks days, but stamps of frequency {freq!r} are further"
            " apart; leave it out, or give the number of such days in each step as a column of ",
            Name("future_cols"),
        )
    if entry.startswith(_HOLIDAYS):
        _check_place(entry)
    else:
        _listed_days(entry)


def day_features(times: pd.DatetimeIndex, entry: str) -> np.ndarray:
    """Whether each stamp lies on a special day, on the day before one, on the day after one.

    Args:
        times: [rows] stamps; a day is that of the clock in their time zone.
        entry: One that :func:`check_days` lets pass.

    Returns:
        Zeros and ones, float64 [rows, 3].

    Example:
        >>> day_features(pd.date_range("2024-12-23", periods=4), "days:2024-12-25").tolist()
        [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if not len(times):
        return np.empty((0, DAY_COLUMNS))
    days = ticks(times.tz_localize(None)) // DAY_NANOSECONDS
    if entry.startswith(_HOLIDAYS):
        # A year more at both ends: the day after New Year's Eve is one of the next year.
        first_year = int(times.year.min()) - 1
        last_year = int(times.year.max()) + 1
        special = _holiday_days(entry, first_year, last_year)
    else:
        special = _listed_days(entry)
    # The day itself, the day before a special one and the day after it.
    marks = [np.isin(days + shift, special) for shift in (0, 1, -1)]
    return np.column_stack(marks).astype(np.float64)


def _listed_days(entry: str) -> np.ndarray:
    """Days since 1970 of ``"days:NAME=DATE,DATE"``, int64."""
    dates = entry.removeprefix(_DATES).rpartition("=")[2].split(",")
    days = []
    for text in dates:
        try:
            days.append(date.fromisoformat(text.strip()).toordinal() - _FIRST_DAY)
        except ValueError as error:
            raise ValueError(
                f"calendar {entry!r:.60} holds {text!r:.40}, but dates are written 2024-12-31, with"
                " commas between them; correct it, or make the entry by tsattn.special_days"
            ) from error
    return np.array(days, dtype=np.int64)


def _place(entry: str) -> tuple[str, str | None]:
    """Country and, after a hyphen, its part, as ``"holidays:DE-BY"`` names them."""
    country, _, part = entry.removeprefix(_HOLIDAYS).partition("-")
    return country.strip().upper(), part.strip() or None


def _package(entry: str) -> Any:
    try:
        import holidays
    except ImportError as error:
        raise HolidaysMissing(
            f"calendar {entry!r:.60} needs the package holidays; install it with: pip install"
            " 'tsattn[holidays]'"
        ) from error
    return holidays


def _check_place(entry: str) -> None:
    """Refuse a country that the package of the holidays does not know, or a part that the country
    does not have.
    """
    package = _package(entry)
    country, part = _place(entry)
    parts_of = package.list_supported_countries()
    if country not in parts_of:
        # Its modules are called by the countries' English names.
        names = {name: codes[1] for name, codes in package.registry.COUNTRIES.items()}
        module_name = country.lower().replace(" ", "_")
        near = [names[name] for name in get_close_matches(module_name, names)]
        near += get_close_matches(country, parts_of, cutoff=0.5)
        near = [*dict.fromkeys(near)]
        raise ValueError(
            f"calendar {entry!r:.60}: no country {country!r:.40} is known; {_near(near)}write its"
            " two letters, such as 'holidays:DE', and a part of it as 'holidays:DE-BY'"
        )
    if part is not None and part not in parts_of[country]:
        near = get_close_matches(part, parts_of[country], cutoff=0.5)
        part_names = ", ".join(parts_of[country][:20]) or "none"
        raise ValueError(
            f"calendar {entry!r:.60}: {country} has no part {part!r:.40}; {_near(near)}its parts"
            f" are {part_names}"
        )


def _near(names: list[str]) -> str:
    return f"did you mean {' or '.join(names[:3])}? " if names else ""


@lru_cache(maxsize=64)
def _holiday_days(entry: str, first_year: int, last_year: int) -> np.ndarray:
    """Days since 1970 of the holidays of those years, int64, to be read only."""
    country, part = _place(entry)
    holidays = _package(entry).country_holidays(
        country, subdiv=part, years=range(first_year, last_year + 1)
    )
    days = np.array(sorted(holidays), dtype="datetime64[D]").astype(np.int64)
    days.flags.writeable = False
    return days
