"""Frequencies in the form that arithmetic needs, and those that are lists: opening hours of a week,
days of the month, weeks of a quarter.

The aliases of lists name them in brackets: ``"h[Mon-Fri 07:00-21:00]"`` and ``"D[Mon-Sat]"`` are
steps of an hour and of a day within a week, the last stamp of each span included; ``"M[1 15]"`` is
the first and the fifteenth of each month, 31 its last day; ``"W[4 4 5 from 2023-02-25]"`` is
quarters of months of four, four and five weeks, one of which begins on that day.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

DAY_NANOSECONDS = 86_400_000_000_000
WEEK_DAYS = 7
WEEK_NANOSECONDS = WEEK_DAYS * DAY_NANOSECONDS
# Weekday (Monday 0) of 1970-01-01, a Thursday.
FIRST_WEEKDAY = 3
WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
UNIT_MONTHS = {"M": 1, "Q": 3, "Y": 12}
_MINUTE_NANOSECONDS = 60 * 10**9
_DAY_NAMES = tuple(name.capitalize() for name in WEEKDAYS)
# Nanoseconds since 1970 of a Monday, so that weeks begin on Mondays.
_FIRST_MONDAY = -FIRST_WEEKDAY * DAY_NANOSECONDS
_PATTERN = re.compile(r"(.+)\[(.+)\]")
_WEEKS = re.compile(r"([\d ]+) from (\d{4}-\d{2}-\d{2})")
_SPAN = re.compile(r"(\d{2}):(\d{2})-(\d{2}):(\d{2})")
_MONTH_NAME = re.compile(r"([QY])-([A-Z]{3})")
# Days of the month that a pattern may have at most; more are no rule.
_MOST_MONTH_DAYS = 4
# The last day of the shortest month.
_SHORTEST_MONTH_DAYS = 28
_LAST_MONTH_DAY = 31
# Retail calendars have quarters of three months in one of these orders, in weeks.
_QUARTERS_OF_WEEKS = ((4, 4, 5), (4, 5, 4), (5, 4, 4))
_QUARTER_WEEKS = 13

# A time of the week is open if at least this share of its weeks has a row.
_OPEN_SHARE = 0.25
# Rows at closed times, as a share of all rows and of the closed times, at most.
_STRAY_SHARE = 0.02
_STRAY_SLOT_SHARE = 0.05
# Open times without a row, as a share of all open times, at most: holidays and single gaps.
_ABSENT_SHARE = 0.2
# Share of the absent rows that the closed times must explain.
_LEAST_EXPLAINED = 0.5
# Days that the times of a day must be seen on before they count as opening hours.
_LEAST_DAYS = 5
# Cells of a table of series and times of the week, above which series are counted together.
_MOST_CELLS = 2 * 10**7


@dataclass(frozen=True)
class Grid:
    """A frequency: stamps become whole positions on it, and positions become stamps.

    Attributes:
        alias: Canonical pandas alias (``"60min"`` and ``"H"`` are both ``"h"``; quarters are named
            by the first month that fits, ``"QS-OCT"`` is ``"QS-JAN"``), or the step of integer
            time; for a pattern in brackets.
        unit: ``"integer"``, ``"tick"`` (elapsed time), ``"day"``, ``"business"``, ``"month"``, or
            of a pattern ``"cycle"`` (times that come again after some days) or ``"monthday"`` (days
            of the month).
        step: Units per step: integers, nanoseconds, days, business days or months. Of a cycle the
            nanoseconds after which it begins again.
        modulus: Anchor's period: 7 for weeks, 3 for quarters, 12 for years, otherwise 1.
        anchor: Weekday (Monday 0) or month (January 0) modulo ``modulus``; of a cycle the
            nanoseconds since 1970 at which one begins.
        rule: Which day of the month: ``"S"``, ``"E"``, ``"BS"``, ``"BE"``.
        slots: Of a pattern the times of a cycle, ascending: nanoseconds since it began, or days of
            the month from 1 to 31, the last of which stands for the last day of every month.
        fine_step: Nanoseconds between neighbouring times of a cycle of a week; 0 for all others.
    """

    alias: str | int
    unit: str
    step: int
    modulus: int = 1
    anchor: int = 0
    rule: str = ""
    slots: tuple[int, ...] = ()
    fine_step: int = 0

    @property
    def is_weekly(self) -> bool:
        """Whether it is a list of the times of a week, such as opening hours."""
        return self.fine_step > 0

    @property
    def closes(self) -> bool:
        """Whether it leaves out days or hours of the week, as business days and opening hours
        do.
        """
        return self.unit == "business" or self.is_weekly


# --- reading and writing -----------------------------------------------------------------------


def parse_pattern(text: str, fine_step: int | None) -> Grid | None:
    """Grid of the alias of a pattern; None if it is none.

    Args:
        text: Such as ``"h[Mon-Fri 07:00-21:00]"``.
        fine_step: Nanoseconds of the part before the bracket, if it is a clock time or a day.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        return None
    name = match[1]
    entries = match[2]
    if name == "W":
        return _parse_weeks(entries)
    if name == "M" or _MONTH_NAME.fullmatch(name):
        return _parse_month_days(name, entries)
    if fine_step is None or DAY_NANOSECONDS % fine_step:
        return None
    slots = _parse_week(entries, fine_step)
    if not slots:
        return None
    return week_grid(slots, fine_step, name)


def week_grid(slots: Sequence[int], fine_step: int, name: str) -> Grid:
    """Grid of some times of the week.

    Args:
        slots: Nanoseconds since Monday 00:00, ascending.
        fine_step: Nanoseconds between neighbouring times.
        name: Alias of that step.
    """
    alias = f"{name}[{_week_text(slots, fine_step)}]"
    return Grid(
        alias,
        "cycle",
        WEEK_NANOSECONDS,
        anchor=_FIRST_MONDAY,
        slots=tuple(slots),
        fine_step=fine_step,
    )


def _week_text(slots: Sequence[int], fine_step: int) -> str:
    """``"Mon-Fri 07:00-21:00; Sat 08:00-12:00"``, days of equal times joined."""
    spans = []
    for day in range(WEEK_DAYS):
        begin = day * DAY_NANOSECONDS
        stop = begin + DAY_NANOSECONDS
        times = [slot - begin for slot in slots if begin <= slot < stop]
        spans.append(_span_text(times, fine_step))
    parts = []
    for span, days in groupby(range(WEEK_DAYS), key=spans.__getitem__):
        if span is not None:
            first, *others = [_DAY_NAMES[day] for day in days]
            last = f"-{others[-1]}" if others else ""
            # Days without times of the day end in no blank.
            parts.append(f"{first}{last} {span}".rstrip())
    return "; ".join(parts)


def _span_text(times: Sequence[int], fine_step: int) -> str | None:
    """``"08:00-12:00 14:00-18:00"``; nothing for the midnight of days, None for a closed day."""
    if not times:
        return None
    if fine_step == DAY_NANOSECONDS and times[0] == 0:
        return ""
    # A span ends where the next time is not one step later.
    ends = np.flatnonzero(np.diff(times) != fine_step) + 1
    spans = np.split(np.array(times), ends)
    return " ".join(f"{_clock_text(span[0])}-{_clock_text(span[-1])}" for span in spans)


def _clock_text(nanoseconds: int) -> str:
    hours, minutes = divmod(nanoseconds // _MINUTE_NANOSECONDS, 60)
    return f"{hours:02}:{minutes:02}"


def _parse_week(text: str, fine_step: int) -> list[int]:
    """Times of the week of a text as :func:`_week_text` writes it; none if it is none."""
    slots: set[int] = set()
    for part in text.split(";"):
        # Names of days, then spans of hours.
        words = part.split()
        n_names = sum(not word[0].isdigit() for word in words)
        times = _parse_spans(words[n_names:], fine_step)
        days = _parse_days(words[:n_names])
        if not times or not days:
            return []
        for day in days:
            first = day * DAY_NANOSECONDS
            slots |= {first + time for time in times}
    return sorted(slots)


def _parse_days(words: Sequence[str]) -> list[int]:
    days: list[int] = []
    for word in words:
        ends = [name.strip().upper() for name in word.split("-")]
        are_days = set(ends) <= set(WEEKDAYS)
        if len(ends) > 2 or not are_days:
            return []
        first = WEEKDAYS.index(ends[0])
        last = WEEKDAYS.index(ends[-1])
        days += range(first, last + 1)
    return days


def _parse_spans(words: Sequence[str], fine_step: int) -> list[int]:
    if not words:
        return list(range(0, DAY_NANOSECONDS, fine_step))
    times: list[int] = []
    for word in words:
        match = _SPAN.fullmatch(word)
        if match is None:
            return []
        first_hour, first_minute, last_hour, last_minute = map(int, match.groups())
        first = (60 * first_hour + first_minute) * _MINUTE_NANOSECONDS
        last = (60 * last_hour + last_minute) * _MINUTE_NANOSECONDS
        stop = min(last + 1, DAY_NANOSECONDS)
        times += range(first, stop, fine_step)
    return times


def _parse_month_days(name: str, text: str) -> Grid | None:
    words = text.split()
    if not all(word.isdigit() for word in words):
        return None
    days = sorted({int(word) for word in words})
    if not days or days[0] < 1 or days[-1] > _LAST_MONTH_DAY:
        return None
    unit = name[0]
    month = 0
    if unit != "M":
        short = name[2:]
        if short not in MONTHS:
            return None
        month = MONTHS.index(short)
    return month_day_grid(unit, month, days)


def month_day_grid(unit: str, month: int, days: Sequence[int]) -> Grid:
    """Grid of some days of the month.

    Args:
        unit: ``"M"``, ``"Q"`` or ``"Y"``.
        month: One of the months that have stamps, January 0.
        days: Days from 1 to 31, ascending; those after the last day of a month mean that day.
    """
    span = UNIT_MONTHS[unit]
    anchor = month % span
    name = unit
    if unit != "M":
        name = f"{unit}-{MONTHS[anchor]}"
    day_text = " ".join(map(str, days))
    alias = f"{name}[{day_text}]"
    return Grid(alias, "monthday", span, span, anchor, slots=tuple(days))


def _parse_weeks(text: str) -> Grid | None:
    match = _WEEKS.fullmatch(text)
    if match is None:
        return None
    weeks = [int(word) for word in match[1].split()]
    try:
        first = np.datetime64(match[2])
    except ValueError:
        return None
    if not weeks or min(weeks) <= 0:
        return None
    return quarter_grid(weeks, int(first.astype(np.int64)))


def quarter_grid(weeks: Sequence[int], first_day: int) -> Grid:
    """Grid of months of whole weeks.

    Args:
        weeks: Weeks of each month until they come again, such as ``(4, 4, 5)``.
        first_day: Days since 1970 of the first day of such a round.
    """
    weeks_before = np.cumsum([0, *weeks[:-1]])
    slots = tuple((weeks_before * WEEK_NANOSECONDS).tolist())
    start = np.datetime64(first_day, "D")
    week_text = " ".join(map(str, weeks))
    alias = f"W[{week_text} from {start}]"
    step = int(sum(weeks)) * WEEK_NANOSECONDS
    anchor = first_day * DAY_NANOSECONDS
    return Grid(alias, "cycle", step, anchor=anchor, slots=slots)


# --- positions ------------------------------------------------------------------------------------


def pattern_count(clock: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Stamps of a pattern before some times, since 1970.

    Args:
        clock: Wall-clock nanoseconds since 1970.
        grid: Of the unit ``"cycle"`` or ``"monthday"``.

    Returns:
        The counts, int64, and whether each time is a stamp of the pattern.
    """
    slots = np.array(grid.slots)
    n_slots = len(slots)
    if grid.unit == "cycle":
        elapsed = clock - grid.anchor
        rounds, time = np.divmod(elapsed, grid.step)
        place = np.searchsorted(slots, time)
        # A time after the last slot of a round has no slot at its place.
        slot = slots[np.minimum(place, n_slots - 1)]
        exact = slot == time
        return rounds * n_slots + place, exact
    day = clock // DAY_NANOSECONDS
    month = month_of(day)
    stamps = _month_stamps(month, grid)
    day_column = day[:, None]
    place = (stamps < day_column).sum(axis=1)
    months_since_anchor = month - grid.anchor
    rounds, remainder = np.divmod(months_since_anchor, grid.step)
    is_stamp = (stamps == day_column).any(axis=1)
    exact = is_stamp & (remainder == 0)
    return rounds * n_slots + place, exact


def pattern_clock(count: np.ndarray, grid: Grid) -> np.ndarray:
    """Wall-clock nanoseconds of the stamps that :func:`pattern_count` counts, the time of day of
    days of the month not included.
    """
    slots = np.array(grid.slots)
    rounds, place = np.divmod(count, len(slots))
    first = grid.anchor + rounds * grid.step
    if grid.unit == "cycle":
        return first + slots[place]
    stamps = _month_stamps(first, grid)
    day = np.take_along_axis(stamps, place[:, None], axis=1)[:, 0]
    return day * DAY_NANOSECONDS


def month_of(day: np.ndarray) -> np.ndarray:
    """Months since 1970 of days since 1970."""
    return day.astype("M8[D]").astype("M8[M]").astype(np.int64)


def owners_of(starts: np.ndarray) -> np.ndarray:
    """Number of the series of each row, from the rows at which series start, ``[N + 1]``."""
    series = np.arange(len(starts) - 1)
    return np.repeat(series, np.diff(starts))


def rows_of(starts: np.ndarray, n: int) -> slice:
    """The rows of series n."""
    return slice(starts[n], starts[n + 1])


def inner_steps(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Differences between neighbouring rows of the same series; each series has a row."""
    return np.delete(np.diff(values), starts[1:-1] - 1)


def stacked_rows(first_rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Rows of runs of some lengths that begin at some rows, one run after another.

    Example:
        >>> stacked_rows(np.array([4, 9]), np.array([2, 1]))
        array([4, 5, 9])
    """
    n_before = np.cumsum(lengths) - lengths
    rows = np.repeat(first_rows - n_before, lengths)
    rows += np.arange(len(rows))
    return rows


def lie_outside(values: Any, others: np.ndarray, n_ranges: float) -> tuple[np.ndarray, np.ndarray]:
    """Which values lie so many ranges of others below all of them, and which above, bool ``[T]``
    each.
    """
    smallest = others.min()
    largest = others.max()
    reach = n_ranges * (largest - smallest)
    return values < smallest - reach, values > largest + reach


def _month_stamps(month: np.ndarray, grid: Grid) -> np.ndarray:
    """Days since 1970 of the stamps of each month, ``[rows, slots]``."""
    first = _first_day(month)
    next_first = _first_day(month + 1)
    last_offset = next_first - first - 1
    # Slots count from 1; a day that a month does not have is its last one.
    slot_offsets = np.array(grid.slots) - 1
    offsets = np.minimum(slot_offsets, last_offset[:, None])
    return first[:, None] + offsets


def _first_day(month: np.ndarray) -> np.ndarray:
    """Days since 1970 of the first day of months since 1970-01."""
    return month.astype("M8[M]").astype("M8[D]").astype(np.int64)


def pattern_season(grid: Grid) -> int:
    """Steps of the season: the day where all open days have as many hours, else the week; the
    year of months.
    """
    n_slots = len(grid.slots)
    if grid.unit == "monthday":
        return 12 // grid.step * n_slots
    if not grid.is_weekly:
        # Quarters of weeks have a year of 52 of them.
        year = 4 * _QUARTER_WEEKS * WEEK_NANOSECONDS
        return round(year / grid.step * n_slots)
    n_daily = _daily_slots(grid)
    return n_daily if n_daily > 1 else n_slots


def pattern_cycles(grid: Grid) -> tuple[int, ...]:
    """Rows of a week and of a day, as far as they are above one."""
    if not grid.is_weekly:
        return ()
    # A dictionary keeps the order and drops a second equal length.
    lengths = dict.fromkeys([len(grid.slots), _daily_slots(grid)])
    return tuple(length for length in lengths if length > 1)


def _daily_slots(grid: Grid) -> int:
    """Times of each open day; 0 if days differ."""
    day = np.array(grid.slots) // DAY_NANOSECONDS
    counts = np.bincount(day)
    distinct = np.unique(counts[counts > 0])
    if len(distinct) != 1:
        return 0
    return int(distinct[0])


# --- inference ------------------------------------------------------------------------------------


def find_opening_hours(
    wall: np.ndarray, starts: np.ndarray, fine_step: int, name: str
) -> Grid | None:
    """The times of the week at which series have rows, if the others have none week after week.

    A time of the week is open if a quarter of the weeks of some series has a row there. The closed
    ones must explain half of the absent rows; few rows may lie on closed times, and few open times
    may be without a row, such as those of holidays.

    Args:
        wall: Wall-clock nanoseconds of the rows, ascending within each series.
        starts: [N + 1] rows at which series start; each has a row.
        fine_step: Nanoseconds between neighbouring rows, a divisor of a day.
        name: Alias of that step.
    """
    time = wall % fine_step
    if (time != time[0]).any():
        return None
    offset = int(time[0])
    number = (wall - offset - _FIRST_MONDAY) // fine_step
    n_slots = WEEK_NANOSECONDS // fine_step
    slot = number % n_slots
    owner = owners_of(starts)
    if len(starts) * n_slots > _MOST_CELLS:
        owner = np.zeros_like(owner)
    n_owners = int(owner[-1]) + 1
    # Rows of each series at each time of the week, [owners, slots].
    cell = owner * n_slots + slot
    present = np.bincount(cell, minlength=n_owners * n_slots)
    present = present.reshape(n_owners, n_slots)
    first_rows = starts[:-1]
    first = number[first_rows]
    last = number[starts[1:] - 1]
    possible = _count_slots(first, last, owner[first_rows], n_owners, n_slots)
    is_open = _open_slots(present, possible)
    if is_open is None or is_open.all() or is_open.sum() < 2:
        return None
    if not _rows_follow(present, possible, is_open, len(wall)):
        return None
    slots = np.flatnonzero(is_open) * fine_step + offset
    return week_grid(slots.tolist(), fine_step, name)


def _rows_follow(
    present: np.ndarray, possible: np.ndarray, is_open: np.ndarray, n_rows: int
) -> bool:
    """Whether closed times explain the absent rows, and few rows lie outside of the open times."""
    # Hours at which others are open are no absent rows of a series.
    is_own = is_open & (present >= _OPEN_SHARE * possible)
    # A series of less than two weeks shows too little for hours of its own.
    is_short = possible.min(axis=1) < 2
    is_own[is_short] = is_open
    absent = possible - present
    n_absent = absent[is_own].sum()
    n_closed = possible[:, ~is_open].sum()
    n_stray = present[:, ~is_open].sum()
    # Absent rows at closed times, as a share of all absent rows.
    n_explained = n_closed - n_stray
    explained = n_explained >= _LEAST_EXPLAINED * absent.sum()
    n_own = possible[is_own].sum()
    regular = n_absent <= _ABSENT_SHARE * n_own
    few_strays = n_stray <= min(_STRAY_SHARE * n_rows, _STRAY_SLOT_SHARE * n_closed)
    return bool(explained and regular and few_strays)


def _count_slots(
    first: np.ndarray, last: np.ndarray, owner: np.ndarray, n_owners: int, n_slots: int
) -> np.ndarray:
    """How often each time of the week occurs from the first to the last row of the series of each
    owner, ``[owners, slots]``.
    """
    n_rounds, remainder = np.divmod(last - first + 1, n_slots)
    begin = first % n_slots
    # A rest that runs into the next round is a whole one without the times between its ends.
    n_into_next, stop = np.divmod(begin + remainder, n_slots)
    changes = np.zeros((n_owners, n_slots), dtype=np.int64)
    np.add.at(changes, (owner, begin), 1)
    np.add.at(changes, (owner, stop), -1)
    whole_rounds = np.bincount(owner, weights=n_rounds + n_into_next, minlength=n_owners)
    return np.cumsum(changes, axis=1) + whole_rounds.astype(np.int64)[:, None]


def _open_slots(present: np.ndarray, possible: np.ndarray) -> np.ndarray | None:
    """Which times of the week are open in some series; None if too few days are seen."""
    long = possible.min(axis=1) >= 2
    if long.any():
        share = present[long] / possible[long]
        return (share >= _OPEN_SHARE).any(axis=0)
    # Less than two weeks: times of a day, and weekends if one lies between two rows.
    present = present.sum(axis=0).reshape(WEEK_DAYS, -1)
    possible = possible.sum(axis=0).reshape(WEEK_DAYS, -1)
    by_day = present.sum(axis=1)
    is_present = by_day > 0
    n_times = present.shape[1]
    if is_present.sum() < _LEAST_DAYS or n_times == 1:
        return None
    # A weekend counts as closed only if a whole one lies between two rows.
    unseen = possible.min(axis=1) == 0
    is_weekday = np.arange(WEEK_DAYS) < 5
    open_days = is_present | is_weekday | unseen
    n_seen = possible[is_present].sum(axis=0)
    least = _OPEN_SHARE * np.maximum(n_seen, 1)
    open_times = present.sum(axis=0) >= least
    return np.outer(open_days, open_times).ravel()


def find_month_days(day: np.ndarray, months: int) -> Grid | None:
    """Days of the month that all stamps have; None if they have more than a few.

    Args:
        day: Days since 1970.
        months: Months between neighbouring stamps of the same day of the month.
    """
    dates = pd.DatetimeIndex(day.astype("M8[D]").astype("M8[ns]"))
    numbers = dates.day.to_numpy()
    is_last = numbers == dates.days_in_month.to_numpy()
    days = np.unique(numbers)
    # The last day of February may stand for a later day of the month.
    clipped = is_last & (dates.month == 2)
    if (clipped | (numbers == days[-1]) | (numbers < _SHORTEST_MONTH_DAYS)).all():
        in_all_months = days < _SHORTEST_MONTH_DAYS
        days = days[in_all_months | (days == days[-1])]
    else:
        # The shorter list of days, with the last day of any month as one of them or not.
        ends = np.where(is_last, _LAST_MONTH_DAY, numbers)
        end_days = np.unique(ends)
        days = min((days, end_days), key=len)
    if len(days) > _MOST_MONTH_DAYS:
        return None
    units = {span: name for name, span in UNIT_MONTHS.items()}
    unit = units.get(months)
    if unit is None:
        return None
    first_month = int(dates.month[0]) - 1
    return month_day_grid(unit, first_month, days.tolist())


def find_quarters(day: np.ndarray) -> Grid | None:
    """Months of four or five weeks that all steps have, or None.

    Args:
        day: Days since 1970 of the stamps of one series, ascending.
    """
    steps = np.diff(day)
    weeks, remainder = np.divmod(steps, WEEK_DAYS)
    if len(weeks) < 3 or remainder.any():
        return None
    for first_month in range(3):
        for order in _QUARTERS_OF_WEEKS:
            # The order of a year from its month number `first` on, as often as it takes.
            rolled = np.roll(order, -first_month)
            expected = np.resize(rolled, len(weeks))
            if np.array_equal(expected, weeks):
                days_before = sum(order[:first_month]) * WEEK_DAYS
                first_day = int(day[0]) - days_before
                return quarter_grid(order, first_day)
    return None
