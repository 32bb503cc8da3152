"""What the calendar says of a stamp: where it lies in the day, the week, the month, the year, and
beside which days.

An entry of a calendar is a string: the name of a cycle, or special days (see
:mod:`tsattn.data.special_days`). How many columns each has is said here and nowhere else
(:func:`calendar_slices`).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tsattn.checks import Argument, InputError
from tsattn.data.calendar import parse_freq, ticks
from tsattn.data.grid import DAY_NANOSECONDS
from tsattn.data.special_days import DAY_COLUMNS, check_days, day_features, marks_days

# Shortest cycle first, with its length in days.
_LENGTHS = {"hour": 1.0, "weekday": 7.0, "monthday": 30.5, "month": 365.25, "yearday": 365.25}
CYCLES = tuple(_LENGTHS)
# What "auto" chooses from: month is a coarser yearday.
_AUTO = {
    "tick": ("hour", "weekday", "yearday"),
    "day": ("weekday", "monthday", "yearday"),
    "business": ("weekday", "monthday", "yearday"),
    "week": ("yearday",),
    "month": ("month",),
}
_FITTING = {
    "tick": CYCLES,
    "day": ("weekday", "monthday", "month", "yearday"),
    "business": ("weekday", "monthday", "month", "yearday"),
    "week": ("monthday", "month", "yearday"),
    "month": ("month", "yearday"),
}


def choose_cycles(
    calendar: Sequence[str] | str, freq: str | int, times: pd.Index
) -> tuple[str, ...]:
    """The entries of the calendar that a forecaster will read.

    Args:
        calendar: Names of :data:`CYCLES`, special days such as ``"holidays:DE"``, or ``"auto"``,
            also among others: the cycles that fit the frequency and that ``times`` show whole, the
            hour, the weekday and the day of the month and year for days and less, the day of the
            year for weeks, the month for months.
        freq: Frequency of the rows.
        times: Stamps of the rows to learn from.

    Raises:
        ValueError: If an entry is unknown, its feature would be the same at every stamp, or nothing
            fits.
        ImportError: If the package of the holidays is missing.

    Example:
        >>> days = pd.date_range("2024-01-01", periods=100, freq="D")
        >>> choose_cycles("auto", "D", days)
        ('weekday', 'monthday')
    """
    entries = ("auto",) if calendar == "auto" else tuple(calendar)
    if len(set(entries)) < len(entries):
        raise ValueError(f"calendar must name each cycle once; got {list(entries)!r}")
    shown = _shown_whole(freq, times) if "auto" in entries else ()
    if entries == ("auto",) and not shown:
        raise InputError(
            Argument("calendar", "auto"),
            f" finds no cycle that {len(times)} rows of frequency {freq!r} show"
            " whole; leave it out, or name cycles",
        )
    for entry in entries:
        if marks_days(entry):
            check_days(entry, freq)
        elif entry != "auto":
            _check_cycle(entry, freq)
    chosen: list[str] = []
    for entry in entries:
        chosen += shown if entry == "auto" else [entry]
    # A cycle that is named and among those of "auto" counts once.
    return tuple(dict.fromkeys(chosen))


def _shown_whole(freq: str | int, times: pd.Index) -> tuple[str, ...]:
    """The cycles of ``"auto"`` that are no longer than the span of the stamps."""
    clock = ticks(times)
    span = (int(clock.max()) - int(clock.min())) / DAY_NANOSECONDS
    return tuple(name for name in _of_freq(_AUTO, freq) if _LENGTHS[name] <= span)


def _check_cycle(name: str, freq: str | int) -> None:
    """Refuse a cycle that there is not, or that says nothing about stamps of a frequency."""
    fitting = _of_freq(_FITTING, freq)
    if name not in CYCLES:
        raise ValueError(
            f"calendar must be 'auto' or some of {', '.join(CYCLES)}, or special days such as"
            f" 'holidays:DE'; got {name!r:.60}"
        )
    if name not in fitting:
        reason = "integer time has no calendar"
        if fitting:
            reason = f"it fits with {', '.join(fitting)}"
        raise ValueError(
            f"calendar {name!r} says nothing about stamps of frequency {freq!r}; leave it out:"
            f" {reason}"
        )


def calendar_slices(entries: Sequence[str]) -> dict[str, slice]:
    """Which columns of :func:`cycle_features` belong to each entry of a calendar.

    Args:
        entries: The calendar, ``"auto"`` resolved.

    Example:
        >>> calendar_slices(["weekday", "holidays:DE"])
        {'weekday': slice(0, 2, None), 'holidays:DE': slice(2, 5, None)}
    """
    slices = {}
    first = 0
    for entry in entries:
        stop = first + (DAY_COLUMNS if marks_days(entry) else 2)
        slices[entry] = slice(first, stop)
        first = stop
    return slices


def calendar_width(entries: Sequence[str]) -> int:
    """Columns of a whole calendar."""
    places = [*calendar_slices(entries).values()]
    return places[-1].stop if places else 0


def season_cycle(freq: str | int) -> str | None:
    """The cycle of a season: the day for hours and less, the week for days, the year for months;
    else none.

    Example:
        >>> season_cycle("h"), season_cycle("W-SUN")
        ('hour', None)
    """
    first = next(iter(_of_freq(_AUTO, freq)), None)
    return None if first == "yearday" else first


def _of_freq(table: dict[str, tuple[str, ...]], freq: str | int) -> tuple[str, ...]:
    """The entry of a table for the unit of a frequency."""
    grid = parse_freq(freq)
    unit = grid.unit
    if grid.is_weekly:
        unit = "day" if grid.fine_step == DAY_NANOSECONDS else "tick"
    elif grid.slots:
        unit = "month"
    elif unit == "day" and grid.step % 7 == 0:
        unit = "week"
    if unit == "month" and grid.step % 12 == 0:
        return ()
    return table.get(unit, ())


def cycle_features(times: pd.Index, cycles: Sequence[str]) -> np.ndarray:
    """The columns of a calendar at some stamps, on the clock of their time zone.

    Args:
        times: [rows] stamps; anything where ``cycles`` is empty.
        cycles: Entries of a calendar. A cycle has the sine and the cosine of where the stamp lies
            in it: ``"hour"`` counts minutes and seconds as well, ``"monthday"`` the share of the
            month that is over, ``"yearday"`` that of the year. Special days have the columns of
            :func:`tsattn.data.special_days.day_features`.

    Returns:
        float64 [rows, columns], as :func:`calendar_slices` places them.

    Example:
        >>> cycle_features(pd.DatetimeIndex(["2024-01-01 06:00"]), ["hour"]).round(6).tolist()
        [[1.0, 0.0]]
    """
    features = np.empty((len(times), calendar_width(cycles)))
    for entry, place in calendar_slices(cycles).items():
        stamps = pd.DatetimeIndex(times)
        if marks_days(entry):
            features[:, place] = day_features(stamps, entry)
            continue
        angle = 2 * np.pi * _share(stamps, entry)
        features[:, place] = np.column_stack([np.sin(angle), np.cos(angle)])
    return features


def _share(times: pd.DatetimeIndex, name: str) -> np.ndarray:
    """How much of the cycle is over, in [0, 1)."""
    if name == "hour":
        minutes = times.hour * 60 + times.minute
        seconds = minutes * 60 + times.second
        return seconds.to_numpy() / 86_400
    if name == "weekday":
        return times.dayofweek.to_numpy() / 7
    if name == "monthday":
        return (times.day.to_numpy() - 1) / times.days_in_month.to_numpy()
    if name == "month":
        return (times.month.to_numpy() - 1) / 12
    days_in_year = np.where(times.is_leap_year, 366, 365)
    return (times.dayofyear.to_numpy() - 1) / days_in_year
