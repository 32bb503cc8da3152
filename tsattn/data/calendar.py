"""The frequency that stamps follow, and the stamps that come next.

A frequency is a :class:`Grid`: stamps become whole positions on it (:func:`locate`) and positions
become stamps (:func:`stamps_at`), both for whole arrays. Days and longer steps are counted on the
wall clock, so that a daily series in a time zone keeps its hour when clocks change; steps below a
day are counted in elapsed time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import numpy as np
import pandas as pd

_DAY = 86_400_000_000_000  # nanoseconds
_LAST = 2**63 - 86_400_000_000_000  # so that no rounding of a float and no time zone leaves int64
_CLOCK = {
    "D": _DAY,
    "h": _DAY // 24,
    "min": _DAY // 1440,
    "s": 10**9,
    "ms": 10**6,
    "us": 10**3,
    "ns": 1,
}
_OLD = {  # spellings of older pandas
    "H": "h",
    "T": "min",
    "S": "s",
    "L": "ms",
    "U": "us",
    "N": "ns",
    "d": "D",
    "b": "B",
    "w": "W",
    "M": "ME",
    "Q": "QE",
    "A": "YE",
    "Y": "YE",
    "AS": "YS",
    "BM": "BME",
    "BQ": "BQE",
    "BA": "BYE",
    "BY": "BYE",
    "BAS": "BYS",
}
_WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_SPAN = {"M": 1, "Q": 3, "Y": 12}  # months
_RULES = ("S", "E", "BS", "BE")  # first day, last day, first and last business day of the month
_PIECE = re.compile(r"(\d*)([A-Za-z]+)(?:-([A-Za-z]{3}))?")


@dataclass(frozen=True)
class Grid:
    """A frequency in the form that arithmetic needs.

    Attributes:
        alias: Canonical pandas alias (``"60min"`` and ``"H"`` are both ``"h"``; quarters are named
            by the first month that fits, ``"QS-OCT"`` is ``"QS-JAN"``), or the step of integer
            time.
        unit: ``"integer"``, ``"tick"`` (elapsed time), ``"day"``, ``"business"`` or ``"month"``.
        step: Units per step: integers, nanoseconds, days, business days or months.
        modulus: Anchor's period: 7 for weeks, 3 for quarters, 12 for years, otherwise 1.
        anchor: Weekday (Monday 0) or month (January 0) modulo ``modulus``.
        rule: Which day of the month: ``"S"``, ``"E"``, ``"BS"``, ``"BE"``.
    """

    alias: str | int
    unit: str
    step: int
    modulus: int = 1
    anchor: int = 0
    rule: str = ""


def _named(count: int, name: str) -> str:
    return name if count == 1 else f"{count}{name}"


def _tick_grid(nanoseconds: int) -> Grid:
    if nanoseconds % _DAY == 0:
        return Grid(_named(nanoseconds // _DAY, "D"), "day", nanoseconds // _DAY)
    unit, size = next((u, s) for u, s in _CLOCK.items() if nanoseconds % s == 0)
    return Grid(_named(nanoseconds // size, unit), "tick", nanoseconds)


def _week_grid(count: int, weekday: int) -> Grid:
    return Grid(_named(count, f"W-{_WEEKDAYS[weekday]}"), "day", 7 * count, 7, weekday)


def _month_grid(count: int, unit: str, rule: str, month: int) -> Grid:
    """Months, quarters or years; ``month`` (January 0) is one of those that carry a stamp."""
    span = _SPAN[unit]
    name = rule[:-1] + unit + rule[-1]
    anchor = month % span
    if unit == "Q":  # the default quarters of pandas start in January and end in December
        name += f"-{_MONTHS[11 if rule.endswith('E') and anchor == 2 else anchor]}"
    if unit == "Y":
        name += f"-{_MONTHS[anchor]}"
    return Grid(_named(count, name), "month", span * count, span, anchor, rule)


def _anchored_grid(count: int, name: str, anchor: str) -> Grid | None:
    """Grid of one alias that is no clock time, or None when there is no such alias."""
    if name == "B" and not anchor:
        return Grid(_named(count, "B"), "business", count)
    if name == "W" and (anchor or "SUN") in _WEEKDAYS:
        return _week_grid(count, _WEEKDAYS.index(anchor or "SUN"))
    unit = name.removeprefix("B")[:-1]
    rule = ("B" if name.startswith("B") else "") + name[-1]
    if unit not in _SPAN or rule not in _RULES or (unit == "M" and anchor):
        return None
    month = anchor or ("DEC" if rule.endswith("E") else "JAN")
    return _month_grid(count, unit, rule, _MONTHS.index(month)) if month in _MONTHS else None


def parse_freq(freq: Any) -> Grid:
    """Read a frequency as people write it, in old and new spellings, without warnings.

    Args:
        freq: Positive integer (integer time), pandas alias with an optional whole multiple (``"h"``
            or ``"H"``, ``"15min"`` or ``"15T"``, ``"D"``, ``"B"``, ``"W-MON"``, ``"MS"``, ``"M"``,
            ``"QS-FEB"``, ``"YE"``), a pandas offset or a time difference.

    Returns:
        The grid; its ``alias`` is canonical, so that equal frequencies compare equal.

    Raises:
        ValueError: If the frequency is unknown or not positive.

    Example:
        >>> parse_freq("60T").alias, parse_freq("QS").alias, parse_freq("M").alias
        ('h', 'QS-JAN', 'ME')
    """
    text = freq
    if isinstance(freq, timedelta | np.timedelta64):
        text = f"{pd.Timedelta(freq).value}ns"
    elif isinstance(freq, pd.DateOffset | pd.offsets.BaseOffset):
        text = freq.freqstr
    if isinstance(text, str) and text.strip().isdigit():
        text = int(text)
    grid = None
    if isinstance(text, int | np.integer) and not isinstance(text, bool):
        grid = Grid(int(text), "integer", int(text))
    elif isinstance(text, str):
        text = text.strip()
        found = list(_PIECE.finditer(text))
        pieces = [(int(m[1] or 1), _OLD.get(m[2], m[2]), (m[3] or "").upper()) for m in found]
        if "".join(m[0] for m in found) == text and pieces:
            if all(name in _CLOCK and not anchor for _, name, anchor in pieces):
                total = sum(count * _CLOCK[name] for count, name, _ in pieces)
                grid = _tick_grid(total) if total > 0 else None
            elif len(pieces) == 1:
                grid = _anchored_grid(*pieces[0])
    if grid is None or not 0 < grid.step < 2**63 // (_DAY if grid.unit == "day" else 1):
        raise ValueError(
            "freq must be a positive integer or a pandas alias such as 'h', '15min', 'D', 'B',"
            f" 'W-MON', 'MS', 'ME', 'QS-FEB', 'YS', with an optional whole multiple; got {freq!r};"
            " number rows of other rules as integer time"
        )
    return grid


def season_length(freq: str | int) -> int:
    """Steps of the season that a frequency usually has: a day of hours, a week of days, a year of
    months.

    Args:
        freq: As for :func:`parse_freq`.

    Returns:
        For example ``h`` 24, ``15min`` 96, ``D`` 7, ``B`` 5, ``W`` 52, ``MS`` 12, ``QE`` 4, ``YS``
        1; 1 where no whole number of steps makes a season, below a minute, and for integer time.
    """
    grid = parse_freq(freq)
    if grid.unit == "tick":
        return _DAY // grid.step if grid.step >= _CLOCK["min"] and _DAY % grid.step == 0 else 1
    season = {"day": 364 if grid.modulus == 7 else 7, "business": 5, "month": 12}.get(grid.unit, 1)
    return max(1, season // grid.step) if season % grid.step == 0 else 1


def calendar_cycles(freq: str | int) -> tuple[int, ...]:
    """Rows of a week and of a day, as far as a frequency has whole numbers of them above one.

    Args:
        freq: As for :func:`parse_freq`.

    Returns:
        Descending, for example ``h`` (168, 24), ``D`` (7,), ``B`` (5,), and nothing from weeks on
        and for integers.

    Example:
        >>> calendar_cycles("15min")
        (672, 96)
    """
    grid = parse_freq(freq)
    week = {"tick": 7 * _DAY, "day": 7 if grid.modulus == 1 else 0, "business": 5}.get(grid.unit, 0)
    day = _DAY if grid.unit == "tick" else 0
    return tuple(
        cycle // grid.step for cycle in (week, day) if cycle > grid.step and cycle % grid.step == 0
    )


def ticks(times: pd.Index) -> np.ndarray:
    """Stamps as nanoseconds since 1970 in UTC, integers as they are; int64, to be read only."""
    if not isinstance(times, pd.DatetimeIndex):
        return times.to_numpy(dtype=np.int64)
    times = times if times.unit == "ns" else times.as_unit("ns")  # which would make a copy
    return times.to_numpy(dtype="datetime64[ns]").view(np.int64)


def clock_of(times: pd.Index, grid: Grid) -> np.ndarray:
    """The int64 coordinate on which the grid is even: integers, elapsed or wall-clock
    nanoseconds.
    """
    if not isinstance(times, pd.DatetimeIndex) or grid.unit == "tick":
        return ticks(times)
    return _wall(times.as_unit("ns"))


def _wall(times: pd.DatetimeIndex) -> np.ndarray:
    """Wall-clock nanoseconds; the first instant of a day counts as its midnight.

    Where clocks jump at midnight a daily stamp of that date reads 01:00, but it still means the
    day.
    """
    if times.tz is None:
        return ticks(times)
    wall = ticks(times.tz_localize(None))
    before = ticks((times - pd.Timedelta(1, "ns")).tz_localize(None))
    opens_day = before // _DAY != wall // _DAY
    return np.where(opens_day, wall // _DAY * _DAY, wall)


def _rule_day(month: np.ndarray, rule: str) -> np.ndarray:
    """Days since 1970 of the rule's day in months since 1970-01."""
    if rule.endswith("S"):
        day = month.astype("M8[M]").astype("M8[D]")
    else:
        day = (month + 1).astype("M8[M]").astype("M8[D]") - 1
    if rule.startswith("B"):
        day = np.busday_offset(day, 0, roll="forward" if rule == "BS" else "backward")
    return day.astype(np.int64)


def _count(day: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Days since 1970 as the grid's own units since 1970, and whether the calendar allows a stamp
    there.
    """
    if grid.unit == "day":
        return day, (
            (day + 3) % 7 == grid.anchor if grid.modulus == 7 else np.ones(len(day), dtype=bool)
        )
    date = day.astype("M8[D]")
    if grid.unit == "business":
        return np.busday_count(np.datetime64(0, "D"), date), np.is_busday(date)
    month = date.astype("M8[M]").astype(np.int64)
    return month, (month % grid.modulus == grid.anchor) & (_rule_day(month, grid.rule) == day)


def locate(times: pd.Index, firsts: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Where stamps lie on a grid that starts at the first stamp of their series.

    Args:
        times: [rows] stamps.
        firsts: [rows] row of the first stamp of the series that each row belongs to.
        grid: The frequency.

    Returns:
        Whole steps since the first stamp, int64 [rows], and whether the stamp lies on the grid,
        bool [rows].
    """
    clock = clock_of(times, grid)
    if grid.unit in ("integer", "tick"):
        position, rest = np.divmod(clock - clock[firsts], grid.step)
        return position, rest == 0
    day, hour = np.divmod(clock, _DAY)
    count, allowed = _count(day, grid)
    position, rest = np.divmod(count - count[firsts], grid.step)
    allowed &= rest == 0
    exact = allowed & (hour == hour[firsts])
    retry = np.flatnonzero(allowed & ~exact)
    stamps = cast(pd.DatetimeIndex, times)
    if (
        len(retry) and stamps.tz is not None
    ):  # an hour that the clock skipped stands where the clock resumed
        built = stamps_at(clock[firsts[retry]], position[retry], grid, stamps)
        exact[retry] = built == stamps[retry]
    return position, exact


def _check_reach(last: float, limit: int, grid: Grid) -> None:
    """Refuse stamps after the last one that int64 can count: sums would come out as stamps of the
    past.
    """
    if last > limit:
        end, kind = (
            (limit, "integer time")
            if grid.unit == "integer"
            else ("2262-04-10", "stamps in nanoseconds")
        )
        raise ValueError(
            f"the rows asked for reach beyond {end}, where {kind} must end; shorten the horizon, or"
            f" correct the last stamp or the frequency {grid.alias!r}"
        )


def stamps_at(clock: np.ndarray, position: np.ndarray, grid: Grid, like: pd.Index) -> pd.Index:
    """Stamps ``position`` steps after ``clock`` (see :func:`clock_of`), in the time zone and unit
    of ``like``.

    Raises:
        ValueError: If they reach beyond the last stamp that there is.
    """
    if grid.unit in ("integer", "tick") and len(clock):
        _check_reach((clock + position * float(grid.step)).max(), _LAST, grid)
    if grid.unit == "integer":
        return pd.Index(clock + position * grid.step)
    like = cast(pd.DatetimeIndex, like)
    if grid.unit == "tick":
        built = pd.DatetimeIndex((clock + position * grid.step).view("M8[ns]"))
        built = built if like.tz is None else built.tz_localize("UTC").tz_convert(like.tz)
        return built.as_unit(like.unit)
    day, hour = np.divmod(clock, _DAY)
    count = _count(day, grid)[0] + position * grid.step
    if grid.unit == "business":
        day = np.busday_offset(np.datetime64(0, "D"), count, roll="forward").astype(np.int64)
    else:
        day = _rule_day(count, grid.rule) if grid.unit == "month" else count
    _check_reach(day.max(initial=0), _LAST // _DAY, grid)
    built = pd.DatetimeIndex((day * _DAY + hour).view("M8[ns]"))
    if (
        like.tz is not None
    ):  # an hour that comes twice means the first, a skipped one the moment clocks resume
        first = np.ones(len(built), dtype=bool)
        built = built.tz_localize(like.tz, ambiguous=first, nonexistent="shift_forward")
    return built.as_unit(like.unit)


def check_kind(times: pd.Index, grid: Grid) -> None:
    """Refuse a calendar frequency on integer time, and the reverse."""
    if isinstance(times, pd.DatetimeIndex) == (grid.unit == "integer"):
        kind, fix = (
            ("stamps", "an alias such as 'h'")
            if grid.unit == "integer"
            else ("integers", "the integer step")
        )
        raise ValueError(
            f"freq {grid.alias!r} does not fit a time column of {kind}; pass {fix}, or freq=None to"
            " infer"
        )


def future_times(last: pd.Index, freq: str | int, n_steps: int) -> pd.Index:
    """The stamps that follow the last ones, with anchors and time zone kept.

    Args:
        last: [N] last stamp of each series.
        freq: As for :func:`parse_freq`.
        n_steps: Steps ahead F, at least 0.

    Returns:
        [N * F] stamps, series by series.

    Raises:
        ValueError: If the frequency is of the wrong kind, or a last stamp does not lie on it
            (2024-01-15 on ``MS``).

    Example:
        >>> future_times(pd.DatetimeIndex(["2024-01-31"]), "ME", 2).strftime("%m-%d").tolist()
        ['02-29', '03-31']
    """
    grid = parse_freq(freq)
    check_kind(last, grid)
    if n_steps < 0:
        raise ValueError(f"n_steps must be at least 0; got {n_steps}")
    codes, distinct = pd.factorize(last)
    distinct = pd.Index(distinct)
    _, exact = locate(distinct, np.arange(len(distinct)), grid)
    if not exact.all():
        raise ValueError(
            f"the stamp {distinct[~exact][0]} does not lie on frequency {grid.alias!r}, so nothing"
            " follows it there; pass the frequency of the data"
        )
    ahead = np.tile(np.arange(1, n_steps + 1), len(distinct))
    built = stamps_at(np.repeat(clock_of(distinct, grid), n_steps), ahead, grid, distinct)
    return built[(codes[:, None] * n_steps + np.arange(n_steps)).ravel()]


def _typical(steps: np.ndarray, owner: np.ndarray, n_series: int) -> tuple[np.ndarray, np.ndarray]:
    """Series that have steps, and the lower median step of each: neither gaps nor strays
    move it.
    """
    counts = np.bincount(owner, minlength=n_series)
    has = np.flatnonzero(counts)
    ordered = steps[np.lexsort((steps, owner))]
    first = np.cumsum(counts) - counts
    return has, ordered[first[has] + (counts[has] - 1) // 2]


def _commonest(values: np.ndarray) -> int:
    """The most frequent value, the least of equals."""
    distinct, counts = np.unique(values, return_counts=True)
    return int(distinct[np.argmax(counts)])


def infer_grid(times: pd.Index, starts: np.ndarray, name: Callable[[int], str]) -> Grid:
    """The frequency that most series follow; :func:`place` then holds all of them to it.

    Args:
        times: [rows] stamps, ascending within each series and without duplicates.
        starts: [N + 1] rows at which series start.
        name: What to call series n in an error.

    Raises:
        ValueError: If no series has two stamps.
    """
    n_series = len(starts) - 1
    owner = np.repeat(np.arange(n_series), np.diff(starts))
    inner = owner[1:] == owner[:-1]
    if not inner.any():
        raise ValueError(
            f"{name(0)}: one stamp only ({times[0]}), and no other series has two, so the frequency"
            " cannot be inferred; pass freq="
        )

    def common(clock: np.ndarray) -> int:
        return _commonest(_typical(np.diff(clock)[inner], owner[1:][inner], n_series)[1])

    if not isinstance(times, pd.DatetimeIndex):
        step = common(times.to_numpy(dtype=np.int64))
        return Grid(step, "integer", step)
    elapsed = common(ticks(times))
    if elapsed < 23 * _CLOCK["h"]:  # the shortest day of a time zone
        return _tick_grid(elapsed)
    wall = _wall(times.as_unit("ns"))
    days, rest = divmod(common(wall), _DAY)
    if rest:
        return _tick_grid(elapsed)
    day = wall // _DAY
    months = _infer_months(day, common, np.diff(day)[inner]) if days >= 26 else None
    if months is not None:
        return months
    if days % 7 == 0:
        return _week_grid(days // 7, _commonest((day + 3) % 7))
    if days == 1 and _is_business(day, starts, inner):
        return Grid("B", "business", 1)
    return _tick_grid(days * _DAY)


def _infer_months(
    day: np.ndarray, common: Callable[[np.ndarray], int], steps: np.ndarray
) -> Grid | None:
    month = day.astype("M8[D]").astype("M8[M]").astype(np.int64)
    shares = [(_rule_day(month, rule) == day).mean() for rule in _RULES]
    best = int(np.argmax(shares))
    # Equal steps are those of days, unless they fit months without exception.
    if shares[best] < (1 if (steps == steps[0]).all() else 0.5):
        return None
    step = max(1, common(month))
    unit = "Y" if step % 12 == 0 else "Q" if step % 3 == 0 else "M"
    anchor = _commonest(month % _SPAN[unit])
    return _month_grid(step // _SPAN[unit], unit, _RULES[best], anchor)


def _is_business(day: np.ndarray, starts: np.ndarray, inner: np.ndarray) -> bool:
    """Whether more series step from Friday to Monday and know no weekend than have one."""
    weekday = (day + 3) % 7
    weekend = np.add.reduceat(weekday > 4, starts[:-1], dtype=np.int64) > 0
    jumps = np.zeros(len(day), dtype=bool)
    jumps[1:] = inner & (np.diff(day) == 3) & (weekday[1:] == 0)
    jumping = np.add.reduceat(jumps, starts[:-1], dtype=np.int64) > 0
    return int((jumping & ~weekend).sum()) > int(weekend.sum())


def place(
    times: pd.Index, starts: np.ndarray, grid: Grid, *, inferred: bool, name: Callable[[int], str]
) -> np.ndarray:
    """Hold every stamp to the grid and return its whole steps since the series began, int64 [rows].

    Args:
        times: [rows] stamps, ascending within each series and without duplicates.
        starts: [N + 1] rows at which series start.
        grid: The frequency.
        inferred: Whether the grid was read off the stamps, so that a series may follow another
            frequency.
        name: What to call series n in an error.

    Raises:
        ValueError: If series follow other frequencies, or a stamp does not lie on the grid.
    """
    if _is_even(times, starts, grid):
        position = np.arange(len(times))
        position -= np.repeat(starts[:-1], np.diff(starts))
        return position
    owner = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    position, exact = locate(times, starts[owner], grid)
    inner = owner[1:] == owner[:-1]
    exact[1:] &= ~inner | (np.diff(position) > 0)  # an hour that comes twice holds one step only
    if inferred and inner.any():
        _check_inferred(times, starts, grid, position, exact, name)
    if not exact.all():
        bad = np.flatnonzero(~exact)
        n = owner[bad[0]]
        others = more(len(bad), len(np.unique(owner[bad])))
        doubt = " (mixed frequencies or anchors?)" if inferred else ""
        raise ValueError(
            f"{name(n)}: the stamp {times[bad[0]]}{others} is off the"
            f" {'inferred ' if inferred else ''}frequency {grid.alias!r} that starts at"
            f" {times[starts[n]]}, but all stamps must lie on it{doubt};{_zone(times)} correct or"
            " resample them, or pass another freq="
        )
    return position


def _is_even(times: pd.Index, starts: np.ndarray, grid: Grid) -> bool:
    """Whether every step is the same on the clock: the common case, told faster than by
    :func:`locate`.
    """
    day = grid.unit == "day" and grid.modulus == 1 and getattr(times, "tz", None) is None
    if not day and grid.unit not in ("integer", "tick"):
        return False
    steps = np.diff(ticks(times))
    step = grid.step * (_DAY if day else 1)
    steps[starts[1:-1] - 1] = step  # from one series to the next
    return bool((steps == step).all())


def _check_inferred(
    times: pd.Index,
    starts: np.ndarray,
    grid: Grid,
    position: np.ndarray,
    exact: np.ndarray,
    name: Callable[[int], str],
) -> None:
    """Refuse series that follow another frequency than most, and stamps that follow none."""
    owner = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    inner = owner[1:] == owner[:-1]
    steps = np.diff(position)
    has, typical = _typical(steps[inner], owner[1:][inner], len(starts) - 1)
    other = has[typical != 1]
    if len(other) and len(starts) > 2:
        row = starts[other[0]]
        raise ValueError(
            f"{name(other[0])}: mixed frequencies: {times[row]} is followed by"
            f" {times[row + 1]}{more(len(other))}, while most follow {grid.alias!r}, but all must"
            " share one frequency; resample, pass freq=, or part them"
        )
    regular = (steps == 1) & exact[1:] & exact[:-1]
    if (inner & regular).sum() * 2 < inner.sum():
        row = int(np.flatnonzero(inner & ~regular)[0]) + 1
        raise ValueError(
            f"{name(owner[row])}: irregular stamps: {times[row - 1]} is followed by {times[row]},"
            f" so the frequency cannot be inferred;{_zone(times)} pass freq=, resample, or number"
            " the rows as integer time"
        )


def _zone(times: pd.Index) -> str:
    return (
        "" if getattr(times, "tz", None) is None else " tz_convert them to the zone of their days,"
    )


def more(count: int, n_owners: int = 1, unit: str = "series") -> str:
    """How many other bad places there are: `` (and 3 more, 2 series in all)``, or nothing."""
    where = f", {n_owners} {unit} in all" if n_owners > 1 else ""
    return f" (and {count - 1} more{where})" if count > 1 else ""
