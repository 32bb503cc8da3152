"""Columns that are the months or quarters of a year, the days of a month or a week, or the times
of a day.
"""

import calendar
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype, is_datetime64_any_dtype, is_numeric_dtype

from tsattn.checks import Argument, InputError, InputWarning, InPython, warn
from tsattn.data.months import month_of
from tsattn.data.parts import TIME_NAMES, days_of, names_index, part_of
from tsattn.data.spelling import are_years

# Names of columns that are the quarters of the year of their row, in small letters.
_QUARTERS = ["q1", "q2", "q3", "q4"]
_YEAR_MONTHS = 12
# A time of day, the one that begins a span such as 00:30 - 01:00, or an hour such as HE1, which
# counts from 0 or, where it is named by its end, from 1.
_CLOCK = re.compile(
    r"(\d{1,2})(?::(\d{2}))?(?::00)?\s*([ap]\.?m\.?)|"
    r"(\d{1,2}):(\d{2})(?::00)?(?:\s*[-\u2013]\s*\d{1,2}:\d{2}(?::00)?)?|"
    r"(?:he?|hour[ _])(\d{1,2})"
)
_DAY_MINUTES = 24 * 60
_WEEKDAY_NAMES = [
    [name.lower() for name in names] for names in (calendar.day_abbr, calendar.day_name)
]
# Days of a week that columns must be, at least: weekends may be left out.
_LEAST_WEEKDAYS = 5
_WEEK_DAYS = 7
# Days of the shortest month, and of the longest.
_MONTH_DAYS = (28, 31)
_ISO_WEEK = re.compile(r"\d{4}-W\d{2}")
# Names of columns that number the steps of the series in their rows, such as d_1 or W0.
_STEP = re.compile(
    r"(d|day|w|wk|week|m|month|q|quarter|y|year|t|time|period|step)[ _.-]?(\d+)", re.IGNORECASE
)
# Words in the name of a column that numbers the steps, without an s at the end.
_STEP_WORDS = {
    *("year", "quarter", "month", "week", "day", "hour", "minute", "second"),
    *("period", "step", "timestep", "cycle", "tick", "ob", "observation", "elapsed"),
}
# Words in the name of a column of clocks or dates, of which some write TradeDate, and the least of
# their numbers, of days since 1900.
_WORD = re.compile("[A-Z]?[a-z]+|[A-Z]+")
_CLOCK_WORDS = {
    *("ts", "time", "timestamp", "datetime", "epoch", "unix", "unixtime", "date"),
    *("datum", "zeit", "zeitpunkt", "zeitstempel", "fecha"),
}
_LEAST_CLOCK = 30_000
# A whole number as text; zeros in front are those of a code.
_COUNT = re.compile("0|[1-9][0-9]{0,17}")
# So many such columns there must be, and so many steps of a column of numbers, which are equal but
# for such a share.
_LEAST_STEPS = 12
_STEP_ERROR = 1e-4
# Columns that only number such parts, from 0 or 1, and what they are by how many there are.
_NUMBERED = re.compile(r"(.*?)(\d+)")
_UNITS = {12: "month", 24: "hour", 48: "time", 96: "time", 144: "time", 288: "time"}
# Days of a row, at least and at most.
_ROW_DAYS = {"day": (1, 1), "week": (7, 7), "month": (28, 31), "year": (365, 366)}
# Rows in which their values show whether they run on, at least, and how much less they change from
# one to the next than over half a row.
_LEAST_ROWS = 5
_RUN_ON_SHARE = 0.6


class _Parts(NamedTuple):
    """Columns that are the parts of a year, a month, a week or a day.

    Attributes:
        unit: What they are: ``"month"``, ``"quarter"``, ``"day"``, ``"hour"`` or ``"time"``.
        rows: What a row of the table is: ``"year"``, ``"month"``, ``"week"`` or ``"day"``.
        columns: The columns, in the order of time.
        first: Minutes from the beginning of the day to the first one, or its weekday (Monday 0).
        is_named: Whether their names say so.
    """

    unit: str
    rows: str
    columns: list[Any]
    first: int = 0
    is_named: bool = True


def tell_part_cols(
    df: pd.DataFrame, time_col: Any, columns: Sequence[Any], times: pd.Index
) -> None:
    """Warn of a wide table whose columns are the months or quarters of a year, the days of a month
    or a week, or the times of a day, each of which is forecast as a series by itself, with the call
    that makes one series of them. Columns that are only numbered may be such parts if their values
    run on from row to row.

    Args:
        df: The table.
        time_col: Column of its stamps; None is the index.
        columns: Columns that are series.
        times: Its stamps as they were read, ``[rows]``.
    """
    parts = (
        _find_parts(columns)
        or _find_weekdays(df, time_col, columns, times)
        or _find_month_days(df, columns, times)
        or _find_numbered(df, columns, times)
    )
    if parts is None:
        return
    call = _one_series_call(df, time_col, parts, ())
    remedy = f"; one series of {parts.unit}s has them below one another"
    if not parts.is_named:
        remedy = (
            ", but their values run on from row to row; if they are the"
            f" {parts.unit}s of a {parts.rows}, have them below one another"
        )
    warn(
        InputWarning(
            f"columns {parts.columns[0]!r} to {parts.columns[-1]!r} are each forecast as a"
            f" series by itself{remedy}",
            InPython(f": {call}" if call else ""),
        )
    )


def refuse_part_cols(df: pd.DataFrame, roles: Collection[Any]) -> None:
    """Refuse a table of several series whose columns are the months or quarters of a year, the days
    of a week or the times of a day: their rows have stamps in common, and no single column holds
    the values.

    Args:
        df: The table.
        roles: Columns that are named as ids or covariates.

    Raises:
        ValueError: With the call that makes a long table of it.
    """
    columns = [*df.columns]
    parts = _find_parts(columns) or _find_weekday_names(columns)
    if parts is None:
        return
    taken = {*parts.columns}
    others = [column for column in df.columns if column not in taken]
    time_cols = [column for column in others if _holds_times(df[column], parts)]
    if len(time_cols) != 1:
        return
    time_col = time_cols[0]
    if not df[time_col].duplicated().any():
        return
    if parts.rows == "week" and not _holds_weeks(df[time_col]):
        return
    from tsattn.data.keys import find_keys

    candidates = [column for column in others if column != time_col]
    named = [column for column in candidates if column in roles]
    keys = named or find_keys(df, df[time_col], candidates)
    call = _one_series_call(df, time_col, parts, keys)
    if keys and call:
        raise InputError(
            f"columns {parts.columns[0]!r} to {parts.columns[-1]!r} hold the {parts.unit}s of each"
            f" {parts.rows} of column {time_col!r}, but one column must hold all values; have them"
            " below one another",
            InPython(f": {call}"),
        )


def refuse_steps(df: pd.DataFrame) -> None:
    """Refuse a table without times whose columns number the steps of the series in its rows, which
    a column of words names.

    Raises:
        ValueError: With the call that turns the table.
    """
    steps = {}
    for column in df.columns:
        match = _STEP.fullmatch(str(column))
        if match is not None and is_numeric_dtype(df[column].dtype):
            steps[column] = (match[1], int(match[2]))
    columns = [*steps]
    prefixes = {prefix for prefix, _ in steps.values()}
    numbers = [number for _, number in steps.values()]
    if len(columns) < _LEAST_STEPS or len(prefixes) > 1:
        return
    if not (np.diff(numbers) == 1).all():
        return
    others = df.columns.drop(columns)
    names = [
        column for column in others if infer_dtype(df[column]) == "string" and df[column].is_unique
    ]
    if not names:
        return
    table = "df"
    dropped = [column for column in others if column != names[0]]
    if dropped:
        table = f"df.drop(columns={dropped!r})"
    raise InputError(
        f"columns {columns[0]!r} to {columns[-1]!r} number the steps of the series that column"
        f" {names[0]!r} names, but a row must be a time and a column a series; turn the table",
        InPython(
            f", as {table}.set_index({names[0]!r}).T.reset_index(drop=True) does, which counts the"
            " steps"
        ),
    )


def step_col(columns: Iterable[Any]) -> Any:
    """The column whose name is that of a count of steps, such as day; None if there is none, or
    another one that is named like a time or a part of it.
    """
    named = [
        column
        for column in columns
        if _names_steps(column) or part_of(column) or str(column).lower() in TIME_NAMES
    ]
    return named[0] if len(named) == 1 and _names_steps(named[0]) else None


def _names_steps(name: Any) -> bool:
    words = re.findall("[a-z]+", str(name).lower())
    return any(word.removesuffix("s") in _STEP_WORDS for word in words)


def names_time(name: Any) -> bool:
    """Whether a column is named by nothing but a word of times, such as day, step or month.

    Example:
        >>> names_time("Period"), names_time("Monat"), names_time("sales_per_day")
        (True, True, False)
    """
    word = str(name).strip().lower()
    return word.removesuffix("s") in _STEP_WORDS or bool(part_of(name)) or word in _CLOCK_WORDS


def counts_steps(column: pd.Series, codes: np.ndarray | None = None) -> bool:
    """Whether the whole numbers of a column, which may be text, count the steps of each series by
    one. In a column that is named by a word of times some may be absent.

    Args:
        column: The column, ``[rows]``, in any order.
        codes: Series of each row; None for one series.
    """
    numbers = as_counts(column).to_numpy(dtype=np.float64, na_value=np.nan)
    if codes is None:
        codes = np.zeros(len(numbers), dtype=np.int64)
    order = np.lexsort((numbers, codes))
    is_same_series = np.diff(codes[order]) == 0
    steps = np.diff(numbers[order])[is_same_series]
    is_next = steps == 1
    if names_time(column.name):
        is_next = steps > 0
    are_whole = (numbers % 1 == 0).all()
    return bool(len(steps) and are_whole and is_next.all())


def as_counts(column: pd.Series) -> pd.Series:
    """The numbers of a column; NaN for a column of other cells than numbers, but for text that
    spells whole numbers in each cell.
    """
    if is_numeric_dtype(column.dtype):
        return column
    if infer_dtype(column) == "string":
        texts = column.astype(object)
        if texts.str.fullmatch(_COUNT).all():
            return pd.Series(texts.astype(np.int64), name=column.name)
    return pd.Series(np.nan, index=column.index, name=column.name)


def tell_row_numbers(column: pd.Series) -> None:
    """Warn of a column that only numbers the rows, perhaps with gaps."""
    numbers = column.astype(np.int64)
    if names_index(column.name) or np.ptp(numbers) == len(numbers) - 1:
        warn(f"column {column.name!r} numbers the rows and is left out")
        return
    warn(
        InputWarning(
            f"column {column.name!r} numbers the rows, of which some are absent, and is left out;"
            " if values are missing there, name it by ",
            Argument("time_col", column.name),
        )
    )


def tell_equal_steps(df: pd.DataFrame, columns: Sequence[Any]) -> None:
    """Warn of a column that rises or falls by equal steps beside ones that do not, in a wide table
    without times: it may say when or where a row was measured.

    Args:
        df: The table.
        columns: Its columns that are forecast.
    """
    numeric = [column for column in columns if is_numeric_dtype(df[column].dtype)]
    even = [column for column in numeric if _rises_by_equal_steps(df[column])]
    if len(even) == len(numeric):
        return
    for column in even:
        first, second = df[column].iloc[:2]
        warn(
            InputWarning(
                f"column {column!r}, which is {first:.10g}, {second:.10g} and so on in equal steps,"
                " is forecast as a series; if it tells when or where a row was measured, name it"
                " by ",
                Argument("time_col", column),
                ", or drop it",
            )
        )


def _rises_by_equal_steps(column: pd.Series) -> bool:
    numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    steps = np.diff(numbers)
    if len(steps) < _LEAST_STEPS or not steps[0]:
        return False
    error = np.abs(steps - steps[0]).max()
    return bool(error < _STEP_ERROR * abs(steps[0]))


def is_clock(
    column: pd.Series, codes: np.ndarray | None, read: Callable[[pd.Series, str, Any], pd.Index]
) -> bool:
    """Whether a column of numbers is named like a clock or a date, and they read as stamps that
    rise or fall in each series, by even steps or not.

    Args:
        column: The column, ``[rows]``.
        codes: Series of each row; None for one series.
        read: Function that reads stamps, given a column, its label and a name of each series.
    """
    words = {word.lower() for word in _WORD.findall(str(column.name))}
    if not words & _CLOCK_WORDS or not is_numeric_dtype(column.dtype):
        return False
    numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    if not (numbers > _LEAST_CLOCK).all():
        return False
    if codes is None:
        codes = np.zeros(len(numbers), dtype=np.int64)
    order = np.argsort(codes, kind="stable")
    is_same_series = np.diff(codes[order]) == 0
    steps = np.diff(numbers[order])[is_same_series]
    if not len(steps) or not ((steps > 0).all() or (steps < 0).all()):
        return False
    try:
        return isinstance(read(column, "", str), pd.DatetimeIndex)
    except ValueError:
        return False


def _find_parts(columns: Sequence[Any]) -> _Parts | None:
    """The columns that are all parts of a year or of a day, if there are such."""
    words = [str(column).strip().lower() for column in columns]
    months = {month_of(word): column for column, word in zip(columns, words, strict=True)}
    months.pop(0, None)
    if len(months) == _YEAR_MONTHS:
        return _Parts("month", "year", [months[number] for number in sorted(months)])
    places = [words.index(name) for name in _QUARTERS if name in words]
    if len(places) == len(_QUARTERS):
        return _Parts("quarter", "year", [columns[place] for place in places])
    return _times_of_day(columns, words)


def _find_weekdays(
    df: pd.DataFrame, time_col: Any, columns: Sequence[Any], times: pd.Index
) -> _Parts | None:
    """The columns that are named by the days of a week that follow one another, if rows are
    weeks.
    """
    counts_weeks = part_of(time_col) == "week"
    if time_col is None:
        counts_weeks = isinstance(df.index, pd.RangeIndex)
    if isinstance(times, pd.DatetimeIndex):
        counts_weeks = _rows_of(times) == "week"
    return _find_weekday_names(columns) if counts_weeks else None


def _find_weekday_names(columns: Sequence[Any]) -> _Parts | None:
    """The columns that are named by the days of a week that follow one another."""
    words = [str(column).strip().lower() for column in columns]
    for names in _WEEKDAY_NAMES:
        places = [place for place, word in enumerate(words) if word in names]
        days = [names.index(words[place]) for place in places]
        if len(days) >= _LEAST_WEEKDAYS and (np.diff(days) % _WEEK_DAYS == 1).all():
            return _Parts("day", "week", [columns[place] for place in places], days[0])
    return None


def _find_month_days(df: pd.DataFrame, columns: Sequence[Any], times: pd.Index) -> _Parts | None:
    """The columns that are numbered as the days of a month, if rows are months and lack the days
    that their month does not have.
    """
    if _rows_of(times) != "month":
        return None
    numbers = {}
    for column in columns:
        match = _NUMBERED.fullmatch(str(column).strip())
        if match is not None:
            numbers[column] = int(match[2])
    days = [*numbers.values()]
    shortest, longest = _MONTH_DAYS
    if not shortest < len(days) <= longest or days != [*range(1, len(days) + 1)]:
        return None
    cells = df[[*numbers]].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    is_absent = np.array(days) > pd.DatetimeIndex(times).days_in_month.to_numpy()[:, None]
    are_blank = np.isnan(cells[is_absent]) | (cells[is_absent] == 0)
    if not is_absent.any() or not are_blank.all():
        return None
    return _Parts("day", "month", [*numbers])


def _find_numbered(df: pd.DataFrame, columns: Sequence[Any], times: pd.Index) -> _Parts | None:
    """The columns that number the parts of their row, if their values say that they are such."""
    numbers_by_prefix: dict[str, dict[Any, int]] = {}
    for column in columns:
        match = _NUMBERED.fullmatch(str(column).strip())
        if match is not None:
            numbers_by_prefix.setdefault(match[1], {})[column] = int(match[2])
    for numbers in numbers_by_prefix.values():
        part_cols = [*numbers]
        n_parts = len(part_cols)
        first = numbers[part_cols[0]]
        if n_parts not in _UNITS or first > 1:
            continue
        if [*numbers.values()] != [*range(first, first + n_parts)]:
            continue
        # Parts that are numbered from 1 are named by their end, as hours are.
        first_minute = first * (_DAY_MINUTES // n_parts)
        rows = "year" if n_parts == 12 else "day"
        parts = _Parts(_UNITS[n_parts], rows, part_cols, first_minute, is_named=False)
        if rows == _rows_of(times) and _run_on(df[part_cols].iloc[times.argsort()]):
            return parts
    return None


def _rows_of(times: pd.Index) -> str:
    """Whether each row is a ``"year"``, ``"month"``, ``"week"`` or ``"day"``; empty for other
    tables.
    """
    if not isinstance(times, pd.DatetimeIndex):
        return "year" if are_years(times.to_numpy()).all() else ""
    # Clocks may skip a midnight.
    wall_times = times.tz_localize(None)
    if len(times) < 2 or (wall_times != wall_times.normalize()).any():
        return ""
    step = wall_times.sort_values().to_series().diff().median()
    for rows, (least, most) in _ROW_DAYS.items():
        if pd.Timedelta(least, "D") <= step <= pd.Timedelta(most, "D"):
            return rows
    return ""


def _run_on(table: pd.DataFrame) -> bool:
    """Whether the last value of each row and the first one of the next are as close to each other
    as neighbours in a row are, and both closer than values half a row apart.
    """
    values = table.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    half = values.shape[1] // 2
    far = values[:, half:] - values[:, :-half]
    between_rows = values[1:, 0] - values[:-1, -1]
    changes = []
    for differences in (far, np.diff(values), between_rows):
        sizes = np.abs(differences[np.isfinite(differences)])
        if len(sizes) < _LEAST_ROWS - 1:
            return False
        changes.append(sizes.mean())
    return max(changes[1:]) < _RUN_ON_SHARE * changes[0]


def _times_of_day(columns: Sequence[Any], words: Sequence[str]) -> _Parts | None:
    """The columns that are named by times at equal steps through the whole day, if there are
    such.
    """
    part_cols = []
    clock = []
    for column, word in zip(columns, words, strict=True):
        match = _CLOCK.fullmatch(word)
        if match is not None:
            part_cols.append(column)
            clock.append(_minutes(match))
    if len(clock) < 2:
        return None
    minutes = np.array(clock)
    step, remainder = divmod(_DAY_MINUTES, len(minutes))
    even = minutes[0] + step * np.arange(len(minutes))
    # The last one may begin the next day, as 00:00 or 24:00.
    is_even = (even % _DAY_MINUTES == minutes % _DAY_MINUTES).all()
    if remainder or minutes[0] > step or not is_even:
        return None
    unit = "hour" if step == 60 else "time"
    return _Parts(unit, "day", part_cols, int(minutes[0]))


def _minutes(clock: re.Match[str]) -> int:
    """Minutes from midnight to a time of day; 12 AM is midnight, and 12 PM is noon."""
    hour, minute, half, hour_of_24, minute_of_24, hour_alone = clock.groups()
    if half is None:
        return 60 * int(hour_of_24 or hour_alone) + int(minute_of_24 or 0)
    noon = 12 if half.startswith("p") else 0
    return 60 * (int(hour) % 12 + noon) + int(minute or 0)


def _holds_times(cells: pd.Series, parts: _Parts) -> bool:
    """Whether a column holds the years, weeks or days of which other columns are parts."""
    if parts.rows == "year":
        return part_of(cells.name) == "year"
    is_named = str(cells.name).strip().lower() in TIME_NAMES
    if parts.rows == "week":
        # A year beside a week is another time column: they have to be joined first.
        is_named = is_named or bool(part_of(cells.name))
    return is_named or is_datetime64_any_dtype(cells.dtype)


def _holds_weeks(cells: pd.Series) -> bool:
    """Whether the values of a column of times are weeks, and no days beside indicators of
    weekdays.
    """
    values = cells.drop_duplicates()
    if infer_dtype(values) == "string":
        if values.str.fullmatch(_ISO_WEEK).all():
            return True
        days = pd.to_datetime(values, format="ISO8601", errors="coerce")
        values = days if days.notna().all() else values
    if is_datetime64_any_dtype(values.dtype):
        return _rows_of(pd.DatetimeIndex(values)) == "week"
    return part_of(cells.name) == "week"


def _one_series_call(
    df: pd.DataFrame, time_col: Any, parts: _Parts, keys: Sequence[Hashable]
) -> str:
    """The calls of pandas that make one column of those that are parts of the time of a row; empty
    where its days can be read in two ways.
    """
    times = df.index.to_series() if time_col is None else df[time_col]
    source = "df"
    if time_col is None:
        time_col = "time"
        source = "df.reset_index(names='time')"
    time = f"parts[{time_col!r}]"
    chosen = ""
    if parts.unit == "day":
        number = "parts.index // len(df)"
        stamps = _days_call(times, time, parts, number)
        if not stamps:
            return ""
        if parts.rows == "month":
            # Cells of days that a month does not have.
            chosen = f".loc[lambda rows: rows['ds'].dt.day == {number} + 1]"
    elif parts.rows == "day":
        days = days_of(times, time)
        if not days:
            return ""
        step = _DAY_MINUTES // len(parts.columns)
        # The cells of each column follow those of the column before it.
        stamps = (
            f"{days} + pd.to_timedelta({parts.first} + {step} * (parts.index // len(df)), 'min')"
        )
    else:
        year = f"{time}.astype(int).astype(str)"
        if is_datetime64_any_dtype(times.dtype):
            year = f"{time}.dt.year.astype(str)"
        stamps = f"{year} + parts['part'].str.strip()"
        if not parts.is_named or not _are_english(parts):
            months = "(parts.index // len(df) + 1).astype(str)"
            stamps = f"pd.to_datetime({year} + {months}, format='%Y%m')"
        elif parts.unit == "month":
            month = "parts['part'].str.strip().str[:3]"
            stamps = f"pd.to_datetime({year} + {month}, format='%Y%b')"
    id_names: Any = time_col
    ids = ""
    if keys:
        id_names = [*keys, time_col]
        ids = "".join(f"{key!r}: parts[{key!r}], " for key in keys)
        if len(keys) == 1:
            ids = f"'unique_id': parts[{keys[0]!r}], "
    return (
        f"parts = {source}.melt({id_names!r}, {parts.columns!r}, 'part', 'y');"
        f" df = pd.DataFrame({{{ids}'ds': {stamps}, 'y': parts['y']}}){chosen}"
    )


def _are_english(parts: _Parts) -> bool:
    """Whether pandas reads the first three letters of the names of months, if parts are such."""
    names = pd.Series(parts.columns).astype(str).str.strip().str[:3]
    months = pd.to_datetime(names, format="%b", errors="coerce")
    return parts.unit != "month" or bool(months.notna().all())


def _days_call(times: pd.Series, time: str, parts: _Parts, number: str) -> str:
    """The expression that makes days of the weeks or months of rows and the numbers of their
    columns; empty where they can be read in two ways.

    Args:
        times: Weeks or months.
        time: How Python writes them.
        parts: The columns.
        number: How Python writes the number of the column of each cell.
    """
    later = f" + pd.to_timedelta({number}, 'D')"
    first = days_of(times, time)
    if parts.rows == "month":
        return first and f"{first}.dt.to_period('M').dt.start_time{later}"
    if infer_dtype(times) == "string" and times.str.fullmatch(_ISO_WEEK).all():
        first = f"pd.to_datetime({time} + '-1', format='%G-W%V-%u')"
    if first:
        # Rows may have any day of their week.
        early = f"({first}.dt.dayofweek - {parts.first}) % {_WEEK_DAYS}"
        return f"{first} - pd.to_timedelta({early}, 'D'){later}"
    is_count = is_numeric_dtype(times.dtype)
    return f"{time} * {len(parts.columns)} + {number}" if is_count else ""
