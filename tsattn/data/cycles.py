"""Where in the day, the week, the month and the year does a stamp lie? Features that are known for every future row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tsattn.data.calendar import parse_freq, ticks

# Shortest cycle first, with its length in days.
_LENGTHS = {"hour": 1.0, "weekday": 7.0, "monthday": 30.5, "month": 365.25, "yearday": 365.25}
CYCLES = tuple(_LENGTHS)
_DAY = 86_400_000_000_000  # nanoseconds
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


def choose_cycles(asked: Sequence[str] | str, freq: str | int, times: pd.Index) -> tuple[str, ...]:
    """The cycles that a forecaster will read.

    Args:
        asked: Names of :data:`CYCLES`, or ``"auto"``: those that fit the frequency and that ``times`` show whole, the
            hour, the weekday and the day of the month and year for days and less, the day of the year for weeks,
            the month for months.
        freq: Frequency of the rows.
        times: Stamps of the rows to learn from.

    Raises:
        ValueError: If a name is unknown, its feature would be the same at every stamp, or nothing fits.

    Example:
        >>> days = pd.date_range("2024-01-01", periods=100, freq="D")
        >>> choose_cycles("auto", "D", days)
        ('weekday', 'monthday')
    """
    fitting = _of_freq(_FITTING, freq)
    if asked == "auto":
        clock = ticks(times)
        span = (int(clock.max()) - int(clock.min())) / _DAY
        found = tuple(name for name in _of_freq(_AUTO, freq) if _LENGTHS[name] <= span)
        if not found:
            raise ValueError(
                f"calendar='auto' finds no cycle that {len(clock)} rows of frequency {freq!r} show whole; leave it out,"
                " or name cycles"
            )
        return found
    for name in asked:
        if name not in CYCLES:
            raise ValueError(f"calendar must be 'auto' or some of {', '.join(CYCLES)}; got {name!r}")
        if name not in fitting:
            why = "integer time has no calendar" if not fitting else f"it fits with {', '.join(fitting)}"
            raise ValueError(f"calendar {name!r} says nothing about stamps of frequency {freq!r}; leave it out: {why}")
    if len(set(asked)) < len(asked):
        raise ValueError(f"calendar must name each cycle once; got {list(asked)!r}")
    return tuple(asked)


def season_cycle(freq: str | int) -> str | None:
    """The cycle of a season: the day for hours and less, the week for days, the year for months; else none.

    Example:
        >>> season_cycle("h"), season_cycle("W-SUN")
        ('hour', None)
    """
    first = next(iter(_of_freq(_AUTO, freq)), None)
    return None if first == "yearday" else first


def _of_freq(table: dict[str, tuple[str, ...]], freq: str | int) -> tuple[str, ...]:
    grid = parse_freq(freq)
    unit = "week" if grid.unit == "day" and grid.step % 7 == 0 else grid.unit
    if grid.unit == "month" and grid.step % 12 == 0:
        return ()
    return table.get(unit, ())


def cycle_features(times: pd.Index, cycles: Sequence[str]) -> np.ndarray:
    """Sine and cosine of where each stamp lies in each cycle, on the clock of its time zone.

    Args:
        times: [rows] stamps; anything where ``cycles`` is empty.
        cycles: Some of :data:`CYCLES`. ``"hour"`` counts minutes and seconds as well, ``"monthday"`` the share of
            the month that is over, ``"yearday"`` that of the year.

    Returns:
        float64 [rows, 2 * len(cycles)], sine and cosine side by side.

    Example:
        >>> cycle_features(pd.DatetimeIndex(["2024-01-01 06:00"]), ["hour"]).round(6).tolist()
        [[1.0, 0.0]]
    """
    features = np.empty((len(times), 2 * len(cycles)))
    for i, name in enumerate(cycles):
        angle = 2 * np.pi * _share(pd.DatetimeIndex(times), name)
        features[:, 2 * i], features[:, 2 * i + 1] = np.sin(angle), np.cos(angle)
    return features


def _share(times: pd.DatetimeIndex, name: str) -> np.ndarray:
    """How much of the cycle is over, in [0, 1)."""
    if name == "hour":
        return ((times.hour * 60 + times.minute) * 60 + times.second).to_numpy() / 86_400
    if name == "weekday":
        return times.dayofweek.to_numpy() / 7
    if name == "monthday":
        return (times.day.to_numpy() - 1) / times.days_in_month.to_numpy()
    if name == "month":
        return (times.month.to_numpy() - 1) / 12
    return (times.dayofyear.to_numpy() - 1) / np.where(times.is_leap_year, 366, 365)
