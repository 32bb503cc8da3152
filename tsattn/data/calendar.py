"""Functions that read or infer a frequency, check stamps against it and continue them.

A frequency is a :class:`tsattn.data.grid.Grid`: stamps become whole positions on it
(:func:`locate`) and positions become stamps (:func:`stamps_at`), both for whole arrays. Days,
longer steps and opening hours are counted on the wall clock, so that a daily series in a time zone
keeps its hour when clocks change; other steps below a day are counted in elapsed time.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal, cast

import numpy as np
import pandas as pd

from tsattn.checks import Argument, InputError, InPython, Name, Piece
from tsattn.data.grid import (
    DAY_NANOSECONDS,
    FIRST_WEEKDAY,
    MONTHS,
    UNIT_MONTHS,
    WEEKDAYS,
    Grid,
    find_month_days,
    find_opening_hours,
    find_quarters,
    inner_steps,
    month_of,
    owners_of,
    parse_pattern,
    pattern_clock,
    pattern_count,
    pattern_cycles,
    pattern_season,
    rows_of,
    stacked_rows,
)

# Rows after inserting the absent ones, as a multiple of those before, at most. A larger multiple
# means that a stamp or the frequency is wrong.
LARGEST_GROWTH = 100
# Whole years that nanoseconds in int64 can count.
FIRST_YEAR = 1678
LAST_YEAR = 2261
# Numbers that count from 1970 are read as stamps of the years 1973 to 2103, in seconds.
FIRST_EPOCH_SECOND = 10**8
LAST_EPOCH_SECOND = 42 * 10**8
_HOUR_NANOSECONDS = 3600 * 10**9
# Last stamp in nanoseconds since 1970: neither a rounded float nor a time zone leaves int64 then.
_LAST_TICK = 2**63 - DAY_NANOSECONDS
# The shortest day of a time zone, in hours: clocks go forward by one hour.
_SHORTEST_DAY_HOURS = 23
# The shortest month is 28 days; its last business day can come two days earlier.
_SHORTEST_MONTH_DAYS = 26
# Least share of stamps on the same day of the month, for steps of unequal length in days.
_MONTH_SHARE = 0.5
# Days of the longest month and quarter, which nobody counts in.
_LONGEST_MONTHS = (31, 92)
# Days between stamps that lie on several days of the month, such as the first and the fifteenth.
_MONTH_PART_DAYS = range(7, 17)
# Clocks change before this time of the day, in nanoseconds.
_CLOCK_CHANGE_END = 4 * _HOUR_NANOSECONDS
# The shortest step for which opening hours are looked for: their aliases have minutes.
_SHORTEST_OPENING_STEP = 60 * 10**9
# Steps to which stamps that jitter are rounded, how much of a step they may jitter on average, and
# how many must then follow one another.
_ROUND_UNITS = (
    "1s",
    "5s",
    "10s",
    "15s",
    "30s",
    "1min",
    "5min",
    "10min",
    "15min",
    "30min",
    "1h",
    "1D",
)
# Periods of which each has one stamp, on unlike days, and what is done about it.
_ROUND_PERIODS = {
    "M": " move them to the beginning of their month",
    "Y": " move them to the beginning of their year",
    **{f"W-{day}": " give all weeks one day" for day in WEEKDAYS},
}
_JITTER_OF_STEP = 0.1
_LEAST_ROUNDED = 0.9
_UNIT_NANOSECONDS = {
    "D": DAY_NANOSECONDS,
    "h": DAY_NANOSECONDS // 24,
    "min": DAY_NANOSECONDS // 1440,
    "s": 10**9,
    "ms": 10**6,
    "us": 10**3,
    "ns": 1,
}
# Spellings of older pandas.
_OLD_ALIASES = {
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
# First day, last day, first business day and last business day of the month.
_RULES = ("S", "E", "BS", "BE")
_MONTHLY = re.compile("(B?)([MQY])([SE])")
_ALIAS = re.compile(r"(\d*)([A-Za-z]+)(?:-([A-Za-z]{3}))?")


def _multiple(count: int, alias: str) -> str:
    return alias if count == 1 else f"{count}{alias}"


def _tick_grid(nanoseconds: int) -> Grid:
    """Grid of whole days, or of elapsed time in the largest unit that divides the step."""
    days, remainder = divmod(nanoseconds, DAY_NANOSECONDS)
    if remainder == 0:
        return Grid(_multiple(days, "D"), "day", days)
    # The units begin with the largest one, and a nanosecond divides every step.
    dividing = [unit for unit, size in _UNIT_NANOSECONDS.items() if nanoseconds % size == 0]
    unit = dividing[0]
    count = nanoseconds // _UNIT_NANOSECONDS[unit]
    alias = _multiple(count, unit)
    return Grid(alias, "tick", nanoseconds)


def _week_grid(count: int, weekday: int) -> Grid:
    alias = _multiple(count, f"W-{WEEKDAYS[weekday]}")
    return Grid(alias, "day", 7 * count, 7, weekday)


def _month_grid(count: int, unit: str, rule: str, month: int) -> Grid:
    """Grid of months, quarters or years; ``month`` (January 0) is one of those with a stamp."""
    span = UNIT_MONTHS[unit]
    # As in QS, BQE and YS: the letter of the unit comes before the last one of the rule.
    side = rule[-1]
    alias = rule.removesuffix(side) + unit + side
    anchor = month % span
    if unit != "M":
        named_month = anchor
        # The default quarters of pandas end in December, not in March.
        if unit == "Q" and anchor == 2 and rule.endswith("E"):
            named_month = 11
        alias += f"-{MONTHS[named_month]}"
    alias = _multiple(count, alias)
    return Grid(alias, "month", span * count, span, anchor, rule)


def _anchored_grid(count: int, name: str, anchor: str) -> Grid | None:
    """Grid of an alias that is no clock time; None if there is no such alias."""
    if name == "B" and not anchor:
        return Grid(_multiple(count, "B"), "business", count)
    if name == "W":
        weekday = anchor or "SUN"
        if weekday in WEEKDAYS:
            return _week_grid(count, WEEKDAYS.index(weekday))
    match = _MONTHLY.fullmatch(name)
    if match is None or (match[2] == "M" and anchor):
        return None
    business, unit, side = match.groups()
    default = "DEC" if side == "E" else "JAN"
    month = anchor or default
    if month not in MONTHS:
        return None
    return _month_grid(count, unit, business + side, MONTHS.index(month))


def parse_freq(freq: Any) -> Grid:
    """Read a frequency in old or new spelling, without warnings.

    Args:
        freq: Positive integer (integer time), pandas alias with an optional whole multiple (``"h"``
            or ``"H"``, ``"15min"`` or ``"15T"``, ``"D"``, ``"B"``, ``"W-MON"``, ``"MS"``, ``"M"``,
            ``"QS-FEB"``, ``"YE"``), a pandas offset, a time difference, or a list of times as
            :mod:`tsattn.data.grid` writes it (``"h[Mon-Fri 07:00-21:00]"``, ``"M[1 15]"``).

    Returns:
        The grid; its ``alias`` is canonical, so that equal frequencies compare equal.

    Raises:
        ValueError: If the frequency is unknown or not positive.

    Example:
        >>> parse_freq("60T").alias, parse_freq("QS").alias, parse_freq("M").alias
        ('h', 'QS-JAN', 'ME')
    """
    value = freq
    if isinstance(freq, timedelta | np.timedelta64):
        nanoseconds = pd.Timedelta(freq).value
        value = f"{nanoseconds}ns"
    elif isinstance(freq, pd.DateOffset | pd.offsets.BaseOffset):
        value = freq.freqstr
    if isinstance(value, str) and value.strip().isdigit():
        value = int(value)
    grid = None
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        step = int(value)
        grid = Grid(step, "integer", step)
    elif isinstance(value, str):
        grid = _alias_grid(value.strip())
    # A step of days is counted in nanoseconds too, which must fit into int64.
    step_nanoseconds = DAY_NANOSECONDS if grid is not None and grid.unit == "day" else 1
    most_steps = 2**63 // step_nanoseconds
    if grid is None or not 0 < grid.step < most_steps:
        raise InputError(
            Name("freq"),
            " must be a positive integer or a pandas alias such as 'h', '15min', 'D', 'B',"
            " 'W-MON', 'MS', 'ME', 'QS-FEB', 'YS', with an optional whole multiple, or list times"
            f" as in 'h[Mon-Fri 07:00-21:00]', 'D[Mon-Sat]', 'M[1 15]'; got {freq!r}; number rows"
            " of other rules as integer time",
        )
    return grid


def _alias_grid(text: str) -> Grid | None:
    """Grid of a pandas alias, or of clock times in a row such as ``1h30min``; None for others."""
    if text.endswith("]"):
        base_text = text.partition("[")[0]
        base = _alias_grid(base_text)
        fine_step = None
        if base is not None and base.step == 1 and base.unit == "day":
            fine_step = DAY_NANOSECONDS
        elif base is not None and base.unit == "tick":
            fine_step = base.step
        return parse_pattern(text, fine_step)
    matches = list(_ALIAS.finditer(text))
    matched_text = "".join(match[0] for match in matches)
    if not matches or matched_text != text:
        return None
    parts = []
    for match in matches:
        count = int(match[1] or 1)
        name = _OLD_ALIASES.get(match[2], match[2])
        anchor = (match[3] or "").upper()
        parts.append((count, name, anchor))
    are_clock_times = all(name in _UNIT_NANOSECONDS and not anchor for _, name, anchor in parts)
    if are_clock_times:
        total = sum(count * _UNIT_NANOSECONDS[name] for count, name, _ in parts)
        return _tick_grid(total) if total > 0 else None
    if len(parts) > 1:
        return None
    return _anchored_grid(*parts[0])


def season_length(freq: str | int) -> int:
    """Steps of the season that a frequency usually has: a day of hours, a week of days, a year of
    months.

    Args:
        freq: As for :func:`parse_freq`.

    Returns:
        For example ``h`` 24, ``15min`` 96, ``D`` 7, ``B`` 5, ``W`` 52, ``MS`` 12, ``QE`` 4, ``YS``
        1; 1 where no whole number of steps makes a season, below a minute, and for integer time.
        Opening hours have those of a day where all open days have as many, else those of a week.
    """
    grid = parse_freq(freq)
    if grid.slots:
        return pattern_season(grid)
    if grid.unit == "tick" and grid.step < _UNIT_NANOSECONDS["min"]:
        return 1
    seasons = {"tick": DAY_NANOSECONDS, "day": 7, "business": 5, "month": 12}
    season = seasons.get(grid.unit, 1)
    if grid.modulus == 7:
        # The season of weeks is a year of 52 of them.
        season = 364
    if season % grid.step != 0:
        return 1
    return season // grid.step


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
    if grid.slots:
        return pattern_cycles(grid)
    lengths: tuple[int, ...] = ()
    if grid.unit == "tick":
        lengths = (7 * DAY_NANOSECONDS, DAY_NANOSECONDS)
    elif grid.unit == "day" and grid.modulus == 1:
        lengths = (7,)
    elif grid.unit == "business":
        lengths = (5,)
    step = grid.step
    return tuple(length // step for length in lengths if length > step and length % step == 0)


def ticks(times: pd.Index) -> np.ndarray:
    """Stamps as nanoseconds since 1970 in UTC, integers as they are; int64, to be read only."""
    if not isinstance(times, pd.DatetimeIndex):
        return times.to_numpy(dtype=np.int64)
    if times.unit != "ns":
        # as_unit copies even where the unit is the same.
        times = times.as_unit("ns")
    return times.to_numpy(dtype="datetime64[ns]").view(np.int64)


def clock_of(times: pd.Index, grid: Grid) -> np.ndarray:
    """Integers, elapsed or wall-clock nanoseconds, in which the grid has equal steps."""
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
    instants_before = times - pd.Timedelta(1, "ns")
    wall_before = ticks(instants_before.tz_localize(None))
    day = wall // DAY_NANOSECONDS
    day_before = wall_before // DAY_NANOSECONDS
    opens_day = day_before != day
    return np.where(opens_day, day * DAY_NANOSECONDS, wall)


def _rule_day(month: np.ndarray, rule: str) -> np.ndarray:
    """Days since 1970 of the day that the rule names, in months since 1970-01."""
    roll: Literal["forward", "backward"] = "forward"
    if rule.endswith("S"):
        day = month.astype("M8[M]").astype("M8[D]")
    else:
        next_month = (month + 1).astype("M8[M]")
        day = next_month.astype("M8[D]") - 1
        roll = "backward"
    if rule.startswith("B"):
        day = np.busday_offset(day, 0, roll=roll)
    return day.astype(np.int64)


def _weekday(day: np.ndarray) -> np.ndarray:
    """Weekday (Monday 0) of days since 1970."""
    return (day + FIRST_WEEKDAY) % 7


def _count(day: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Convert days since 1970 to units of the grid since 1970.

    Returns:
        The units, and whether the calendar allows a stamp on the day.
    """
    if grid.unit == "day":
        if grid.modulus == 7:
            return day, _weekday(day) == grid.anchor
        return day, np.ones(len(day), dtype=bool)
    date = day.astype("M8[D]")
    if grid.unit == "business":
        epoch = np.datetime64(0, "D")
        return np.busday_count(epoch, date), np.is_busday(date)
    month = date.astype("M8[M]").astype(np.int64)
    allowed = month % grid.modulus == grid.anchor
    allowed &= _rule_day(month, grid.rule) == day
    return month, allowed


def locate(times: pd.Index, firsts: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Positions of stamps on a grid that starts at the first stamp of their series.

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
        elapsed = clock - clock[firsts]
        position, remainder = np.divmod(elapsed, grid.step)
        return position, remainder == 0
    day, hour = np.divmod(clock, DAY_NANOSECONDS)
    same_hour = hour == hour[firsts]
    if grid.slots:
        count, allowed = pattern_count(clock, grid)
        # Slots of a cycle have their own times of the day.
        if grid.unit == "monthday":
            allowed &= same_hour
        return count - count[firsts], allowed
    count, allowed = _count(day, grid)
    position, remainder = np.divmod(count - count[firsts], grid.step)
    allowed &= remainder == 0
    exact = allowed & same_hour
    # A stamp in an hour that clocks skip is moved to the moment at which they resume.
    retry = np.flatnonzero(allowed & ~exact)
    stamps = cast(pd.DatetimeIndex, times)
    if len(retry) and stamps.tz is not None:
        first_clock = clock[firsts[retry]]
        built = stamps_at(first_clock, position[retry], grid, stamps)
        exact[retry] = built == stamps[retry]
    return position, exact


def _check_reach(last: float, limit: int, grid: Grid) -> None:
    """Refuse stamps after the last one that int64 can count; sums beyond it become negative."""
    if last > limit:
        end = "2262-04-10"
        kind = "stamps in nanoseconds"
        if grid.unit == "integer":
            end = str(limit)
            kind = "integer time"
        raise ValueError(
            f"the rows asked for reach beyond {end}, where {kind} must end; shorten the horizon, or"
            f" correct the last stamp or the frequency {grid.alias!r}"
        )


def stamps_at(clock: np.ndarray, position: np.ndarray, grid: Grid, like: pd.Index) -> pd.Index:
    """Stamps ``position`` steps after ``clock`` (see :func:`clock_of`), in the time zone and unit
    of ``like``.

    Raises:
        ValueError: If a stamp lies after the last one that int64 can count.
    """
    if grid.unit in ("integer", "tick"):
        if len(clock):
            # A float does not overflow.
            reach = clock + position * float(grid.step)
            _check_reach(reach.max(), _LAST_TICK, grid)
        return index_of_ticks(clock + position * grid.step, like)
    like = cast(pd.DatetimeIndex, like)
    nanoseconds = _wall_at(clock, position, grid)
    built = pd.DatetimeIndex(nanoseconds.view("M8[ns]"))
    if like.tz is not None:
        # A repeated hour means its first occurrence, a skipped hour the moment clocks resume.
        first = np.ones(len(built), dtype=bool)
        built = built.tz_localize(like.tz, ambiguous=first, nonexistent="shift_forward")
    return built.as_unit(like.unit)


def index_of_ticks(clock: np.ndarray, like: pd.Index) -> pd.Index:
    """Undo :func:`ticks`: integers, or stamps in the time zone and unit of ``like``."""
    if not isinstance(like, pd.DatetimeIndex):
        return pd.Index(clock)
    stamps = pd.DatetimeIndex(clock.view("M8[ns]"))
    if like.tz is not None:
        stamps = stamps.tz_localize("UTC").tz_convert(like.tz)
    return stamps.as_unit(like.unit)


def _wall_at(clock: np.ndarray, position: np.ndarray, grid: Grid) -> np.ndarray:
    """Wall-clock nanoseconds ``position`` steps after ``clock``, for steps that are no elapsed
    time.
    """
    start_day, hour = np.divmod(clock, DAY_NANOSECONDS)
    if grid.slots:
        start_count, _ = pattern_count(clock, grid)
        # Slots of a cycle have their own times of the day.
        hour = hour if grid.unit == "monthday" else np.zeros_like(hour)
        nanoseconds = pattern_clock(start_count + position, grid) + hour
        _check_reach(nanoseconds.max(initial=0), _LAST_TICK, grid)
        return nanoseconds
    start_count, _ = _count(start_day, grid)
    count = start_count + position * grid.step
    day = count
    if grid.unit == "business":
        epoch = np.datetime64(0, "D")
        date = np.busday_offset(epoch, count, roll="forward")
        day = date.astype(np.int64)
    elif grid.unit == "month":
        day = _rule_day(count, grid.rule)
    last_day = _LAST_TICK // DAY_NANOSECONDS
    _check_reach(day.max(initial=0), last_day, grid)
    return day * DAY_NANOSECONDS + hour


def check_kind(times: pd.Index, grid: Grid) -> None:
    """Refuse a calendar frequency on integer time, and the reverse."""
    has_stamps = isinstance(times, pd.DatetimeIndex)
    counts_integers = grid.unit == "integer"
    if has_stamps == counts_integers:
        kind = "stamps" if counts_integers else "integers"
        fix = "an alias such as 'h'" if counts_integers else "the integer step"
        raise InputError(
            f"freq {grid.alias!r} does not fit a time column of {kind}; pass {fix}",
            InPython(", or freq=None to infer"),
        )


def kind_of_times(times: pd.Index) -> str:
    """Stamps with or without a zone, or integers, in words."""
    if not isinstance(times, pd.DatetimeIndex):
        return "integers"
    if times.tz is None:
        return "stamps without a time zone"
    return "stamps in a time zone"


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
    # Each stamp is the first one of a series.
    first_rows = np.arange(len(distinct))
    _, exact = locate(distinct, first_rows, grid)
    if not exact.all():
        stamp = distinct[~exact][0]
        raise ValueError(
            f"the stamp {stamp} does not lie on frequency {grid.alias!r}, so nothing"
            " follows it there; pass the frequency of the data"
        )
    # Many series end at the same stamp, so the steps after a distinct one are computed once.
    steps_ahead = np.arange(1, n_steps + 1)
    steps = np.tile(steps_ahead, len(distinct))
    clock = np.repeat(clock_of(distinct, grid), n_steps)
    built = stamps_at(clock, steps, grid, distinct)
    first_rows = codes * n_steps
    rows = first_rows[:, None] + np.arange(n_steps)  # [N F]
    return built[rows.ravel()]


def off_hours(times: pd.Index, grid: Grid) -> np.ndarray:
    """Which stamps lie on closed days or hours of a grid that has such, at whole steps, bool
    [rows].
    """
    clock = clock_of(times, grid)
    if grid.unit == "business":
        return _weekday(clock // DAY_NANOSECONDS) > 4
    _, exact = pattern_count(clock, grid)
    # Whole steps of the opening hours away from one of them.
    elapsed = clock - grid.slots[0]
    on_step = elapsed % grid.fine_step == 0
    return ~exact & on_step


def _typical(steps: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Series that have steps, and the lower median of their steps, which gaps and single wrong
    stamps do not change.
    """
    counts = np.bincount(owner)
    series = np.flatnonzero(counts)
    # By series, and within each one by size.
    order = np.lexsort((steps, owner))
    ordered = steps[order]
    first = np.cumsum(counts) - counts
    middle = first + (counts - 1) // 2
    medians = ordered[middle[series]]
    return series, medians


def _commonest(values: np.ndarray) -> int:
    """The most frequent value; the smallest of several equally frequent ones."""
    return int(pd.Series(values).mode().iloc[0])


def infer_grid(
    times: pd.Index, starts: np.ndarray, name: Callable[[int], str], *, weekends: bool = False
) -> Grid:
    """The frequency that most series follow; :func:`place` then checks all of them.

    Args:
        times: [rows] stamps, ascending within each series and without duplicates.
        starts: [N + 1] rows at which series start.
        name: Function that names series n in an error.
        weekends: Whether weekends without rows are missing, not closed.

    Raises:
        ValueError: If no series has two stamps.
    """
    owner = owners_of(starts)
    inner = np.diff(owner) == 0
    if not inner.any():
        raise InputError(
            f"{name(0)}: one stamp only ({times[0]}), and no other series has two, so the frequency"
            " cannot be inferred; pass ",
            Argument("freq"),
        )

    step_owner = owner[1:][inner]

    def common(clock: np.ndarray) -> int:
        _, medians = _typical(inner_steps(clock, starts), step_owner)
        return _commonest(medians)

    if not isinstance(times, pd.DatetimeIndex):
        step = common(times.to_numpy(dtype=np.int64))
        return Grid(step, "integer", step)
    elapsed = common(ticks(times))
    if elapsed < _SHORTEST_DAY_HOURS * _UNIT_NANOSECONDS["h"]:
        return _tick_grid(elapsed)
    wall = _wall(times.as_unit("ns"))
    days, remainder = divmod(common(wall), DAY_NANOSECONDS)
    if remainder:
        return _tick_grid(elapsed)
    day = wall // DAY_NANOSECONDS
    if days >= _SHORTEST_MONTH_DAYS:
        months = _infer_months(day, common, inner_steps(day, starts))
        if months is not None:
            return months
    if days >= _MONTH_PART_DAYS.start:
        pattern = _infer_pattern(day, starts)
        if pattern is not None:
            return pattern
    if days % 7 == 0:
        weekday = _commonest(_weekday(day))
        return _week_grid(days // 7, weekday)
    if days == 1 and not weekends and _is_business(day, owner, inner):
        return Grid("B", "business", 1)
    return _tick_grid(days * DAY_NANOSECONDS)


def _infer_pattern(day: np.ndarray, starts: np.ndarray) -> Grid | None:
    """Days of the month or months of whole weeks that the longest series follows; None if its steps
    are equal, or follow neither.
    """
    lengths = np.diff(starts)
    longest = int(np.argmax(lengths))
    stamps = day[rows_of(starts, longest)]
    steps = np.diff(stamps)
    if (steps == steps[0]).all():
        return None
    quarters = find_quarters(stamps)
    if quarters is not None:
        return quarters
    monthly = float(np.median(steps)) >= _SHORTEST_MONTH_DAYS
    n_months = 1
    if monthly:
        month = month_of(stamps)
        median_step = int(np.median(np.diff(month)))
        n_months = max(1, median_step)
    pattern = find_month_days(stamps, n_months)
    if pattern is None:
        return None
    n_slots = len(pattern.slots)
    if (n_slots > 1) == monthly:
        return None
    # Each day must have come twice before it counts as a rule.
    return pattern if len(stamps) >= 2 * n_slots else None


def closing_grid(times: pd.Index, starts: np.ndarray, grid: Grid) -> Grid | None:
    """The days or hours of the week on which series have rows, where rows are absent on others
    week after week; None if there is no such rule.

    Args:
        times: [rows] stamps, ascending within each series and without duplicates.
        starts: [N + 1] rows at which series start.
        grid: The step between neighbouring rows, as :func:`infer_grid` finds it.
    """
    daily = grid.unit == "business" or (grid.unit == "day" and grid.step < 7)
    within_day = (
        grid.unit == "tick"
        and grid.step >= _SHORTEST_OPENING_STEP
        and DAY_NANOSECONDS % grid.step == 0
    )
    if not daily and not within_day:
        return None
    if is_even(times, starts, grid):
        return None
    wall = _wall(cast(pd.DatetimeIndex, times).as_unit("ns"))
    if (wall % _SHORTEST_OPENING_STEP).any():
        return None
    # On the wall clock an hour that occurs twice goes back.
    if not (inner_steps(wall, starts) > 0).all():
        return None
    fine_step = DAY_NANOSECONDS if daily else grid.step
    name = "D" if daily else str(grid.alias)
    pattern = find_opening_hours(wall, starts, fine_step, name)
    if pattern is None:
        return None
    open_days = [slot // DAY_NANOSECONDS for slot in pattern.slots]
    if daily and open_days == [0, 1, 2, 3, 4]:
        return Grid("B", "business", 1)
    zone = getattr(times, "tz", None)
    hours = [slot % DAY_NANOSECONDS for slot in pattern.slots]
    opens_at_night = min(hours) < _CLOCK_CHANGE_END
    # Hours that clocks skip or repeat have no place among the hours of a week.
    if zone is not None and within_day and opens_at_night:
        return None
    return pattern


def _infer_months(
    day: np.ndarray, common: Callable[[np.ndarray], int], steps: np.ndarray
) -> Grid | None:
    """Grid of months, quarters or years that fits most days; None if none does."""
    month = month_of(day)
    fits = []
    for rule in _RULES:
        distance = np.abs(_rule_day(month, rule) - day)
        is_on_rule = distance == 0
        fits.append((is_on_rule.mean(), -distance.max(), rule))
    # The rule of most stamps; of equals the one whose farthest stamp is nearest.
    share, nearness, rule = max(fits, key=lambda fit: fit[:2])
    step = max(1, common(month))
    # Equal steps are those of days, unless they fit months without exception: in a few rows all
    # months may have as many days.
    equal_steps = (steps == steps[0]).all()
    # Stamps beside the end or the beginning of a month are months with wrong days.
    are_near = nearness >= -1 and (not equal_steps or steps[0] in _LONGEST_MONTHS)
    # A day such as the 30th is the last one of many months.
    if share < 1:
        pattern = find_month_days(day, step)
        if pattern is not None and len(pattern.slots) == 1:
            return pattern
    least_share = 1.0 if equal_steps else _MONTH_SHARE
    if share < least_share and not are_near:
        return None
    unit = "M"
    if step % 12 == 0:
        unit = "Y"
    elif step % 3 == 0:
        unit = "Q"
    span = UNIT_MONTHS[unit]
    anchor = _commonest(month % span)
    return _month_grid(step // span, unit, rule, anchor)


def _is_business(day: np.ndarray, owner: np.ndarray, inner: np.ndarray) -> bool:
    """Whether more series skip all weekends than have stamps on one.

    A series skips weekends if it has none and steps from a Friday to a Monday.
    """
    weekday = _weekday(day)
    is_three_days = np.diff(day) == 3
    is_monday = weekday[1:] == 0
    open_series = np.unique(owner[weekday > 4])
    jumping_series = owner[1:][inner & is_three_days & is_monday]
    skipping_series = np.setdiff1d(jumping_series, open_series)
    return len(skipping_series) > len(open_series)


def place(
    times: pd.Index, starts: np.ndarray, grid: Grid, *, inferred: bool, name: Callable[[int], str]
) -> np.ndarray:
    """Check that every stamp lies on the grid.

    Args:
        times: [rows] stamps, ascending within each series and without duplicates.
        starts: [N + 1] rows at which series start.
        grid: The frequency.
        inferred: Whether the grid was read off the stamps, so that a series may follow another
            frequency.
        name: Function that names series n in an error.

    Returns:
        Whole steps since the first stamp of the series, int64 [rows].

    Raises:
        ValueError: If series follow other frequencies, or a stamp does not lie on the grid.
    """
    if is_even(times, starts, grid):
        begins = np.zeros(len(starts) - 1, dtype=np.int64)
        return stacked_rows(begins, np.diff(starts))
    owner = owners_of(starts)
    first_rows = starts[owner]
    position, exact = locate(times, first_rows, grid)
    inner = np.diff(owner) == 0
    # Both occurrences of a repeated hour have the same position; only the first is allowed.
    moves_on = np.diff(position) > 0
    exact[1:] &= ~inner | moves_on
    if inferred:
        _check_inferred(times, starts, grid, position, exact, name)
    if not exact.all():
        bad = np.flatnonzero(~exact)
        n = owner[bad[0]]
        others = more_of(owner[bad])
        adjective = "inferred " if inferred else ""
        doubt = " (mixed frequencies or anchors?)" if inferred else ""
        fits_without = inferred or _fits_without_zone(times, first_rows, grid)
        first_stamp = times[starts[n]]
        rounding = _rounding(times, starts, grid)
        resampling = [] if inferred or rounding else _resampling(times, starts)
        raise InputError(
            f"{name(n)}: the stamp {times[bad[0]]}{others} is off the"
            f" {adjective}frequency {grid.alias!r} that starts at"
            f" {first_stamp}, but all stamps must lie on it{doubt};"
            f"{_zone(times, fits_without)}",
            *rounding,
            *resampling,
            " correct or resample them, or pass another ",
            Argument("freq"),
        )
    return position


def even_positions(times: pd.Index, starts: np.ndarray) -> np.ndarray | None:
    """Steps since the first stamp of the series, as :func:`place` gives them, on the frequency that
    the stamps follow; None if they follow none.
    """
    try:
        grid = infer_grid(times, starts, str)
        return place(times, starts, grid, inferred=True, name=str)
    except ValueError:
        return None


def is_even(times: pd.Index, starts: np.ndarray, grid: Grid) -> bool:
    """Whether every step is the same on the clock, the common case, for which :func:`locate` is
    slower.
    """
    step = grid.step
    has_zone = getattr(times, "tz", None) is not None
    if grid.unit == "day" and grid.modulus == 1 and not has_zone:
        step *= DAY_NANOSECONDS
    elif grid.unit not in ("integer", "tick"):
        return False
    is_step = np.diff(ticks(times)) == step
    # From one series to the next one.
    is_step[starts[1:-1] - 1] = True
    return bool(is_step.all())


def _check_inferred(
    times: pd.Index,
    starts: np.ndarray,
    grid: Grid,
    position: np.ndarray,
    exact: np.ndarray,
    name: Callable[[int], str],
) -> None:
    """Refuse series that follow another frequency than most, and stamps that follow none."""
    from tsattn.data.uneven import has_even_steps

    n_series = len(starts) - 1
    owner = owners_of(starts)
    inner = np.diff(owner) == 0
    steps = np.diff(position)
    step_owner = owner[1:][inner]
    series, typical = _typical(steps[inner], step_owner)
    other_series = series[typical != 1]
    if len(other_series) and n_series > 1:
        n = int(other_series[0])
        other_times = times[rows_of(starts, n)]
        if has_even_steps(np.diff(ticks(other_times))):
            raise InputError(
                f"{name(n)}: mixed frequencies: {other_times[0]} is followed by {other_times[1]}"
                f"{more(len(other_series))}, while most follow {grid.alias!r}, but all must share"
                " one frequency; resample, pass ",
                Argument("freq"),
                ", or part them",
            )
    # A step is regular where both of its stamps lie on the grid, one position apart.
    both_exact = exact[1:] & exact[:-1]
    regular = (steps == 1) & both_exact
    n_regular = (inner & regular).sum()
    if n_regular < inner.sum() / 2:
        irregular = np.flatnonzero(inner & ~regular)
        row = int(irregular[0]) + 1
        rounding = _rounding(times, starts, grid)
        remedy: list[Piece] = [_zone(times), *rounding]
        if not rounding:
            remedy += _resampling(times, starts) or [" pass ", Argument("freq"), ", resample,"]
        raise InputError(
            f"{name(owner[row])}: irregular stamps: {times[row - 1]} is followed by {times[row]},"
            " so the frequency cannot be inferred;",
            *remedy,
            " or number the rows as integer time",
        )


def _resampling(times: pd.Index, starts: np.ndarray) -> list[Piece]:
    """What is done about stamps that follow no frequency; nothing for counts and for stamps in a
    time zone, which may be even in another one.
    """
    if not isinstance(times, pd.DatetimeIndex):
        return []
    from tsattn.data.uneven import averaging_advice, has_even_steps, summing_advice

    n_series = len(starts) - 1
    if _are_events(times, starts):
        return summing_advice(n_series)
    steps = inner_steps(ticks(times), starts)
    if times.tz is not None or has_even_steps(steps):
        return []
    return averaging_advice(steps, n_series)


def _are_events(times: pd.Index, starts: np.ndarray) -> bool:
    """Whether no frequency has all stamps without far more rows than there are; days of another
    time zone are whole hours apart and no events.
    """
    steps = inner_steps(ticks(times), starts)
    divisor = int(np.gcd.reduce(steps))
    finest = max(divisor, 1)
    most_nanoseconds = LARGEST_GROWTH * finest * len(times)
    is_sparse = steps.sum() > most_nanoseconds
    return bool(is_sparse and finest < _HOUR_NANOSECONDS)


def _rounding(times: pd.Index, starts: np.ndarray, grid: Grid) -> list[Piece]:
    """Remedy of an error where each week, month, year or shorter step has one stamp, on unlike days
    or seconds; else nothing.
    """
    if not isinstance(times, pd.DatetimeIndex) or times.tz is not None:
        return []
    # One row a series, as in an update, shows no step.
    has_steps = len(times) >= len(starts)
    if not has_steps and grid.alias not in ("MS", "ME"):
        return []
    for period, advice in _ROUND_PERIODS.items():
        numbers = times.to_period(period).astype(np.int64).to_numpy()
        if not (inner_steps(numbers, starts) == 1).all():
            continue
        call = f".dt.to_period({period!r}).dt.start_time"
        if period == "M" and grid.unit == "month" and grid.rule.endswith("E"):
            advice = " move them to the end of their month"
            call = "+ pd.offsets.MonthEnd(0)"
        return [advice, InPython(f", as {call} does"), ","]
    unit = _unit_of_jitter(ticks(times), starts)
    if unit is not None:
        return [" round the stamps", InPython(f", as .dt.round({unit!r}) does"), ","]
    return []


def _unit_of_jitter(clock: np.ndarray, starts: np.ndarray) -> str | None:
    """The step to which uneven stamps can be rounded, so that few are absent and none occurs twice;
    None if there is none.

    Args:
        clock: Stamps in nanoseconds, ``[rows]``.
        starts: [N + 1] rows at which series start.
    """
    typical = np.median(inner_steps(clock, starts))
    for unit in _ROUND_UNITS:
        step = pd.Timedelta(unit).value
        is_round = not (clock % step).any()
        if is_round or abs(typical - step) > _JITTER_OF_STEP * step:
            continue
        steps = inner_steps((clock + step // 2) // step, starts)
        if (steps > 0).all() and (steps == 1).mean() > _LEAST_ROUNDED:
            return unit
    return None


def _fits_without_zone(times: pd.Index, first_rows: np.ndarray, grid: Grid) -> bool:
    """Whether stamps that lie off a frequency lie on it without their zone."""
    local = pd.DatetimeIndex(times).tz_localize(None)
    _, exact = locate(local, first_rows, grid)
    return bool(exact.all())


def _zone(times: pd.Index, fits_without: bool = True) -> str:
    """Remedy of an error where the stamps have a time zone, perhaps UTC for local days; even local
    times are only named where they fit.
    """
    if getattr(times, "tz", None) is None:
        return ""
    local = pd.DatetimeIndex(times).tz_localize(None)
    distinct = local.unique().sort_values()
    steps = np.diff(distinct.to_numpy())
    if len(np.unique(steps)) == 1:
        # Steps of several hours are longer or shorter where the clocks change.
        remedy = " drop their zone, as .dt.tz_localize(None) does, for local times are even,"
        return remedy if fits_without else ""
    return " convert them to the zone of their days,"


def more_of(owners: np.ndarray, unit: str = "series") -> str:
    """As :func:`more`, of bad places with the number of the series (or other unit) of each."""
    return more(len(owners), len(np.unique(owners)), unit)


def more(count: int, n_owners: int = 1, unit: str = "series") -> str:
    """The number of further bad places as `` (and 3 more, 2 series in all)``, or nothing."""
    if count <= 1:
        return ""
    where = f", {n_owners} {unit} in all" if n_owners > 1 else ""
    return f" (and {count - 1} more{where})"
