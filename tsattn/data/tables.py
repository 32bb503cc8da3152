"""Checks of a table, with errors that name the series, the stamp and the value."""

from __future__ import annotations

from calendar import month_name
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NoReturn, cast

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype, is_datetime64_any_dtype

from tsattn.checks import Argument, InputError, InputWarning, InPython, Piece, listed, warn
from tsattn.data.calendar import (
    LARGEST_GROWTH,
    check_kind,
    clock_of,
    closing_grid,
    infer_grid,
    is_even,
    locate,
    more,
    more_of,
    off_hours,
    parse_freq,
    place,
    stamps_at,
    ticks,
)
from tsattn.data.columns import Dialect, plain, whole_numbers
from tsattn.data.covariates import Categories
from tsattn.data.grid import DAY_NANOSECONDS, WEEK_DAYS, WEEKDAYS, Grid, owners_of, rows_of
from tsattn.data.panel import starts_of
from tsattn.data.parts import header_call, header_rows, names_row
from tsattn.data.schema import KnownRows, Rules

# Columns that an error names at most.
_MOST_NAMED = 5
# Rows in which further header rows are looked for.
_SEEN_ROWS = 10
# A day without its year.
_DAY_AND_MONTH = r"\d\d[./-]\d\d[./-]?"
# Days at the end of a series in which a day of the week without a row counts as closed.
_WATCHED_DAYS = 56
# Groups of series with their own hours that a message names, at most.
_NAMED_GROUPS = 3
# Steps of each of two frequencies that a series must have to be told of.
_LEAST_STEPS = 3
# A month without a row is told of in tables that have rows in so many years, over more than two.
_LEAST_YEARS = 3
_YEAR_MONTHS = 12
# So many rows of a series show an order, at least.
_LEAST_ORDERED = 8
_YEARS_SPAN = pd.Timedelta(730, "D")
# Absent rows between a few rows and all others of their series, at least, also as a multiple of
# those in other gaps; and how many these few are at most.
FAR_ROWS = 30
_FAR_RATIO = 10
MOST_FAR_ROWS = 2
# What is open, and how a frequency says so.
_OPEN_HOURS = ("hours", "h[Mon-Fri 07:00-21:00]")
_OPEN_DAYS = ("days", "D[Mon-Sat]")
# What stands for nothing in columns of some kinds, as pandas' infer_dtype calls them; in others 0.
_BLANKS = {"boolean": False, "string": "none", "categorical": "none"}
_SPELLING = "write numbers with a decimal point only, such as 10037.72, and "
_NEGATIVE_SPELLING = "write numbers with the sign - in front, such as -10037.72, and "


@dataclass(frozen=True)
class Table:
    """Columns of a frame as arrays; only their types are checked.

    The C targets come first, the K covariates last.
    """

    codes: np.ndarray  # [rows] which series
    ids: np.ndarray  # [N]
    times: pd.Index  # [rows]
    values: np.ndarray  # float64 [rows, C + K]
    foreign: np.ndarray  # bool [rows, C + K], True where a cell is no number
    cells: list[pd.Series]  # C + K columns as they came
    columns: tuple[Any, ...]  # their names
    dialect: Dialect
    # The stamps as they came, in the order of the whole table.
    time_cells: pd.Series | pd.Index
    n_targets: int
    # Categories of the covariates; empty if all are numbers.
    categories: tuple[Categories, ...] = ()

    @property
    def targets(self) -> np.ndarray:
        """The values without the covariates, [rows, C]."""
        return self.values[:, : self.n_targets]

    @property
    def covariates(self) -> np.ndarray:
        """The values of the covariates, [rows, K]."""
        return self.values[:, self.n_targets :]

    @cached_property
    def starts(self) -> np.ndarray:
        """Rows at which the series start, int64 [N + 1], where the rows are sorted."""
        return starts_of(np.bincount(self.codes, minlength=len(self.ids)))

    def series(self, n: int) -> str:
        """Name of series n in an error."""
        return self.dialect.label(self.ids[n])

    def place(self, n: int, column: int) -> str:
        """Name of the series and the column of a value in an error."""
        name = f"column {self.columns[column]!r}"
        if self.dialect.kind == "wide":
            return name
        return f"{self.series(n)}: {name}"

    def reading_call(self) -> str:
        """The expression of pandas that makes stamps of the time column."""
        from tsattn.data.layouts import reading_call

        return reading_call(self.time_cells, self.times, self.dialect.time_place)

    def missing(self, mask: np.ndarray, first_column: int = 0) -> str:
        """The first missing value of a mask, whose columns begin with some column of the table, and
        how many others there are, for an error.
        """
        row, column = _first_cell(mask)
        name = self.place(self.codes[row], first_column + column)
        return f"{name} is missing (NaN) at {self.times[row]}{self.count(mask)}"

    def count(self, mask: np.ndarray) -> str:
        """The number of further values in a mask [rows, columns], and of their series or columns,
        for an error.
        """
        row, column = np.nonzero(mask)
        if self.dialect.kind == "wide":
            return more_of(column, "columns")
        return more_of(self.codes[row])

    def sorted(self) -> Table:
        """Rows by series and time; equal stamps keep their order."""
        clock = ticks(self.times)
        codes = self.codes
        series_step = np.diff(codes)
        later = (series_step == 0) & (clock[1:] >= clock[:-1])
        if ((series_step > 0) | later).all():
            return self
        return self.at(np.lexsort((clock, codes)))

    def at(self, rows: np.ndarray) -> Table:
        """The rows of some numbers, in their order."""
        return replace(
            self,
            codes=self.codes[rows],
            times=self.times[rows],
            values=self.values[rows],
            foreign=self.foreign[rows],
            cells=[cell.iloc[rows] for cell in self.cells],
        )

    def only(self, rows: np.ndarray) -> Table:
        """As :meth:`at`, with the series that have such a row, numbered anew."""
        remaining = self.at(rows)
        series_codes, codes = np.unique(remaining.codes, return_inverse=True)
        return replace(remaining, codes=codes, ids=self.ids[series_codes])


def regular(table: Table, rules: Rules) -> tuple[Table, str | int]:
    """Sort the rows, check them, and insert absent rows if the policy allows it.

    Args:
        table: Rows in any order.
        rules: What they must follow.

    Returns:
        The table by series and time, and the frequency's alias.

    Raises:
        ValueError: At the first check that fails.
    """
    table_as_it_came = table
    table = table.sorted()
    if rules.zone is not None and getattr(table.times, "tz", None) is not None:
        stamps = cast(pd.DatetimeIndex, table.times)
        table = replace(table, times=stamps.tz_convert(rules.zone))
    _check_numbers(table)
    _check_duplicates(table, table_as_it_came)
    if rules.freq is None and table is not table_as_it_came:
        _check_order(table_as_it_came)
    grid = _find_grid(table, rules)
    check_kind(table.times, grid)
    table = _without_off_hours(table, grid, rules)
    inferred = rules.freq is None
    position = place(table.times, table.starts, grid, inferred=inferred, name=table.series)
    same_series = np.diff(table.codes) == 0
    n_absent = np.diff(position) - 1
    gaps = np.where(same_series, n_absent, 0)
    own_rows = table
    if rules.fills_covariates and rules.tells and not rules.later:
        _refuse_mostly_blank(own_rows)
    may_miss = np.zeros(len(table.codes), dtype=bool)
    if gaps.any():
        if rules.known is not None:
            gaps = _unknown_gaps(own_rows, position, gaps, grid, rules.known)
        if gaps.any() and rules.missing == "error":
            _refuse_gap(own_rows, *_words_on_gaps(own_rows, position, gaps, grid), grid, rules)
        table, may_miss = _insert_rows(own_rows, position, grid, rules.known)
        if gaps.any():
            _tell_gaps(own_rows, position, gaps, grid, rules)
    _check_missing(table, rules, may_miss)
    if rules.fills_covariates:
        table = _carry_covariates(table, rules, may_miss)
        if rules.tells:
            _tell_carried(own_rows)
    return table, grid.alias


def _tell_gaps(
    table: Table, position: np.ndarray, gaps: np.ndarray, grid: Grid, rules: Rules
) -> None:
    """Warn of absent rows that may be no missing ones; arguments as of :func:`_words_on_gaps`."""
    if rules.tells:
        words, zone = _words_on_gaps(table, position, gaps, grid)
        if zone is not None:
            _tell_skipped_hours(table, words, zone)
    has_far_rows = rules.tells and _tell_far_rows(table, gaps)
    if rules.gaps != "missing" and not has_far_rows:
        _tell_own_hours(table, grid)
    if rules.tells and not has_far_rows:
        _tell_longer_steps(table, gaps, grid)
        _tell_absent_months(table, grid)


def _unknown_gaps(
    table: Table, position: np.ndarray, gaps: np.ndarray, grid: Grid, known: KnownRows
) -> np.ndarray:
    """Absent rows after each row but the last, without those that a fit knows."""
    firsts, _ = known.spans(table.ids)
    lasts = known.last_stamps(table.ids, table.times)
    n_rows = len(position)
    first_rows = np.append(table.starts[table.codes], table.starts[:-1])
    located, _ = locate(table.times.append(lasts), first_rows, grid)
    last_position = located[n_rows:][table.codes]
    is_known = ticks(table.times) >= firsts[table.codes]
    known_position = np.where(is_known, np.maximum(position, last_position), position)
    return np.where(gaps > 0, np.clip(position[1:] - 1 - known_position[:-1], 0, gaps), 0)


def _find_grid(table: Table, rules: Rules) -> Grid:
    """The frequency that is asked for or that the stamps follow, with closed days and hours left
    out unless the rules say that they are missing.
    """
    if rules.freq is None:
        keeps_weekends = rules.gaps == "missing"
        grid = infer_grid(table.times, table.starts, table.series, weekends=keeps_weekends)
    else:
        grid = parse_freq(rules.freq)
    is_fixed = rules.fitted or (grid.closes and rules.freq is not None)
    if rules.gaps == "missing" or is_fixed or not isinstance(table.times, pd.DatetimeIndex):
        return grid
    closing = None
    if not is_even(table.times, table.starts, grid):
        closing = closing_grid(table.times, table.starts, grid)
        _tell_clock_changes(table, grid, closing)
    if closing is None:
        if rules.gaps == "closed" and not grid.closes:
            unit, example = _OPEN_HOURS if grid.unit == "tick" else _OPEN_DAYS
            raise InputError(
                "the table has no days or hours of the week that are without rows again and again,"
                " but ",
                Argument("gaps", "closed"),
                f" needs such; leave it out, or name the {unit} by ",
                Argument("freq", example),
            )
        return grid
    if closing.alias != grid.alias:
        warn(
            InputWarning(
                "rows are absent on the same days or hours of every week, which are read as closed:"
                f" the frequency is {closing.alias!r}, and forecasts leave the others out; ",
                Argument("gaps", "missing"),
                " reads them as missing values",
            )
        )
    return closing


def _tell_clock_changes(table: Table, grid: Grid, hours: Grid | None) -> None:
    """Warn of opening hours that move by an hour where clocks change, since stamps are in UTC."""
    from tsattn.data.opening import zone_of_hours

    local_hours = zone_of_hours(pd.DatetimeIndex(table.times), table.starts, grid, hours)
    if local_hours is None:
        return
    zone, alias = local_hours
    accessor = "" if table.dialect.time_col is None else ".dt"
    read = f"{table.reading_call()[:-1]}, utc=True)"
    warn(
        InputWarning(
            f"opening hours move by an hour where clocks change: by the clock of a zone such as"
            f" {zone} they are {alias!r} all year, but the stamps are in UTC, and the forecast has"
            " the hours of summer and winter; give the local times with their zone",
            InPython(f": {table.dialect.time_place} = {read}{accessor}.tz_convert({zone!r})"),
        )
    )


def _without_off_hours(table: Table, grid: Grid, rules: Rules) -> Table:
    """The table without the few rows on closed days or hours that were found by its own stamps or
    by those of a fit, with a warning.
    """
    is_named = rules.freq is not None and not rules.fitted
    if not grid.closes or (is_named and parse_freq(rules.freq).alias == grid.alias):
        return table
    closed = off_hours(table.times, grid)
    left = np.bincount(table.codes[~closed], minlength=len(table.ids))
    # A series may have no new row, but each one of a fit needs a row.
    keeps_series = rules.later or (left > 0).all()
    if not closed.any():
        return table
    if closed.all() or not keeps_series:
        _refuse_closed(table, left, grid, rules)
    row = int(closed.argmax())
    others = more(int(closed.sum()))
    warn(
        InputWarning(
            f"{table.series(table.codes[row])}: the row at {table.times[row]}{others} is off the"
            f" days and hours of {grid.alias!r} and is left out; ",
            Argument("gaps", "missing"),
            " keeps it",
        )
    )
    return table.only(np.flatnonzero(~closed))


def _refuse_closed(table: Table, n_open: np.ndarray, grid: Grid, rules: Rules) -> None:
    """Refuse a table with a series whose rows all lie on closed days or hours.

    Args:
        table: The rows, ascending within each series.
        n_open: Rows of each series at other times, ``[N]``.
        grid: The frequency.
        rules: What the rows follow.
    """
    codes = np.unique(table.codes)
    (code, *_) = codes[n_open[codes] == 0]
    stamps = table.times[table.codes == code]
    remedy = "read closed days and hours as missing values by "
    if rules.fitted:
        remedy = "give rows at other times as well, or fit again with "
    raise InputError(
        f"{table.series(code)}: the row at {stamps[0]}{more(len(stamps))} is off the days and hours"
        f" of {grid.alias!r}, which leaves no row; {remedy}",
        Argument("gaps", "missing"),
    )


def _own_closed_days(table: Table, grid: Grid) -> np.ndarray:
    """Series and weekday, ``[n, 2]``, where a series has had no row on a day of the week for weeks
    although the frequency has such days: others have them, or it had them before.
    """
    is_daily = grid.unit == "day" and grid.step == 1
    has_days = grid.closes or is_daily or grid.unit == "tick"
    if not has_days:
        return np.empty((0, 2), dtype=np.int64)
    times = pd.DatetimeIndex(table.times)
    last = times[table.starts[1:] - 1]
    age = last[table.codes] - times
    age_in_days = np.asarray(age / pd.Timedelta(1, "D"))
    is_recent = age_in_days < _WATCHED_DAYS
    n_series = len(table.ids)
    # Numbers of the pairs of a series and a day of the week.
    pairs = table.codes * WEEK_DAYS + times.dayofweek
    counts = np.bincount(pairs[is_recent], minlength=n_series * WEEK_DAYS)
    counts = counts.reshape(n_series, WEEK_DAYS)
    is_open = np.ones(WEEK_DAYS, dtype=bool)
    if grid.unit == "business":
        is_open[5:] = False
    elif grid.slots:
        open_days = np.array(grid.slots) // DAY_NANOSECONDS
        is_open = np.isin(np.arange(WEEK_DAYS), open_days)
    is_long = age_in_days[table.starts[:-1]] >= _WATCHED_DAYS
    # Fewer rows than weeks show no rule.
    is_long &= counts.sum(axis=1) >= _WATCHED_DAYS // WEEK_DAYS
    return np.argwhere((counts == 0) & is_open & is_long[:, None])


def _words_on_own_hours(table: Table, grid: Grid) -> list[Piece]:
    """What series are open at other hours than others, and the call that forecasts them apart; no
    piece if all share their hours.
    """
    times = table.times
    if table.dialect.id_col is None or not isinstance(times, pd.DatetimeIndex):
        return []
    from tsattn.data.opening import own_hours

    aliases = own_hours(times, table.starts, grid)
    groups = Counter(aliases).most_common()
    if len(groups) < 2:
        return []
    texts = []
    for alias, n_series in groups:
        first = aliases.index(alias)
        texts.append(f"{alias!r} for {table.series(first)}{more(n_series)}")
    dialect = table.dialect
    keys = list(dialect.key_cols) or dialect.id_col
    columns = {"id_col": keys, "time_col": dialect.time_col, "target_col": dialect.target_col}
    named = ""
    if [*columns.values()] != ["unique_id", "ds", "y"]:
        named = "".join(f", {name}={column!r}" for name, column in columns.items())
    return [
        f"series are open on different days or hours: {listed(texts, _NAMED_GROUPS)}; a table has"
        f" one frequency, here {grid.alias!r}; forecast each group in a table of its own",
        InPython(
            ": from tsattn.data.opening import group_by_hours; pd.concat(tsattn.forecast(part,"
            f" horizon{named}) for part in group_by_hours(df, {keys!r}, {dialect.time_col!r}))"
        ),
    ]


def _tell_own_hours(table: Table, grid: Grid) -> None:
    """Warn of series that are forecast at hours at which they are closed, but others are not."""
    words = _words_on_own_hours(table, grid)
    if not words:
        _tell_own_closed_days(table, grid)
        return
    warn(InputWarning(*words, "; else the forecast of each has the hours of all"))


def _tell_own_closed_days(table: Table, grid: Grid) -> None:
    """Warn of series that are forecast on days of the week on which they no longer have rows."""
    closed = _own_closed_days(table, grid)
    if not len(closed):
        return
    n, day = closed[0].tolist()
    n_series = len(np.unique(closed[:, 0]))
    others = more(n_series)
    day_name = WEEKDAYS[day].capitalize()
    n_weeks = _WATCHED_DAYS // WEEK_DAYS
    warn(
        InputWarning(
            f"{table.series(n)}{others} has had no rows on {day_name} for {n_weeks} weeks, but the"
            f" frequency {grid.alias!r} has them, as other rows of the table or the fit do: the"
            " forecast has them too; forecast such series apart, or cut older rows off"
        )
    )


def _refuse_gap(table: Table, words: str, zone: str | None, grid: Grid, rules: Rules) -> NoReturn:
    """Refuse absent rows; ``words`` and ``zone`` are what :func:`_words_on_gaps` says of them."""
    groups = [] if rules.gaps == "missing" else _words_on_own_hours(table, grid)
    if groups:
        raise InputError(*groups, "; or have the rows filled by ", Argument("missing", "ffill"))
    advice: list[Piece] = ["add the rows, pass another ", Argument("freq"), ", or "]
    call = ""
    if rules.fitted:
        advice = ["add the rows, or "]
        call = ", as set_params(schema__missing='interpolate') of the fitted forecaster says"
    if zone is not None:
        from tsattn.data.clock_changes import advice_on_zone

        advice = [
            f"clocks skip this hour in zones such as {zone}, so the stamps look like local times"
            " without their zone; ",
            *advice_on_zone(table.times, table.codes, table.dialect, zone, table.reading_call()),
        ]
    raise InputError(
        f"{words}, but stamps must follow frequency {grid.alias!r} without gaps; ",
        *advice,
        "have gaps filled by ",
        Argument("missing", "interpolate"),
        " or 'ffill'",
        InPython(call),
    )


def _tell_longer_steps(table: Table, gaps: np.ndarray, grid: Grid) -> None:
    """Warn of a series that begins or ends with rows that are all the same several steps apart, as
    where another frequency was recorded before.
    """
    is_long = gaps > 0
    is_change = np.diff(is_long)
    # A change lies between two steps of one series.
    is_change &= table.codes[2:] == table.codes[:-2]
    changes = np.flatnonzero(is_change) + 1
    n_changes = np.bincount(table.codes[changes], minlength=len(table.ids))
    for row in changes[n_changes[table.codes[changes]] == 1]:
        n = table.codes[row]
        before = gaps[table.starts[n] : row]
        after = gaps[row : table.starts[n + 1] - 1]
        long_steps = before if before[0] else after
        is_even = (long_steps == long_steps[0]).all()
        if is_even and min(len(before), len(after)) >= _LEAST_STEPS:
            side = "up to" if before[0] else "from"
            warn(
                f"{table.series(n)}: rows {side} {table.times[row]} are {long_steps[0] + 1} steps"
                f" of {grid.alias!r} apart, all others one, and the steps between them count as"
                " missing; leave those rows out, or resample all to the longer step"
            )
            return


def _tell_absent_months(table: Table, grid: Grid) -> None:
    """Warn of months of the year that have no row in several years, as of a school or a ski lift:
    forecasts go through them.
    """
    is_fine = grid.unit in ("day", "tick", "business") or (grid.unit == "month" and grid.step == 1)
    if not is_fine:
        return
    times = pd.DatetimeIndex(table.times)
    months = times.month
    absent = [name for number, name in enumerate(month_name) if number and number not in months]
    n_years = times.year.nunique()
    if absent and n_years >= _LEAST_YEARS and times.max() - times.min() > _YEARS_SPAN:
        warn(
            InputWarning(
                f"no year has a row in {' or '.join(absent)}, and forecasts go through such months"
                " as missing ones; numbers in place of the times read rows one after another",
                InPython(f": {_numbering(table.dialect)}"),
            )
        )


def _numbering(dialect: Dialect) -> str:
    """The call of pandas that numbers the rows of each series in place of the times."""
    if dialect.time_col is None:
        return "df = df.reset_index(drop=True)"
    numbers = "range(len(df))"
    if dialect.id_col is not None:
        numbers = f"df.groupby({dialect.id_cols!r}).cumcount()"
    return f"df[{dialect.time_col!r}] = {numbers}"


def _tell_skipped_hours(table: Table, words: str, zone: str) -> None:
    """Warn where all gaps are hours that clocks skip, since the stamps may be local times."""
    from tsattn.data.clock_changes import advice_on_zone

    warn(
        InputWarning(
            f"{words}, an hour that clocks skip in zones such as {zone}: the stamps look like local"
            " times without their zone, and the hour counts as missing; ",
            *advice_on_zone(table.times, table.codes, table.dialect, zone, table.reading_call()),
            "if that is right, a policy by ",
            Argument("missing"),
            " says so",
        )
    )


def _tell_far_rows(table: Table, gaps: np.ndarray) -> bool:
    """Warn of a few rows, such as those of a wrong year, that lie far from all other rows of their
    series, and return whether there are such.

    Args:
        table: The rows.
        gaps: Absent rows after each row but the last.
    """
    # No row is absent after the last one of a series.
    after = np.append(gaps, 0)
    longest = np.maximum.reduceat(after, table.starts[:-1])
    for n in np.flatnonzero(longest >= FAR_ROWS).tolist():
        own_gaps = after[rows_of(table.starts, n)]
        row = int(own_gaps.argmax())
        n_rows = len(own_gaps)
        other_gaps = np.delete(own_gaps, row)
        n_far = min(row + 1, n_rows - row - 1)
        is_far = n_far <= MOST_FAR_ROWS or longest[n] > n_rows
        if longest[n] < _FAR_RATIO * other_gaps.max(initial=1) or not is_far:
            continue
        before = table.starts[n] + row
        warn(
            InputWarning(
                f"{table.series(n)}: {longest[n]} rows are absent between {table.times[before]} and"
                f" {table.times[before + 1]}, and at most {other_gaps.max(initial=0)} elsewhere;"
                " if a stamp is wrong, correct it; if none is, a policy by ",
                Argument("missing"),
                " says so",
            )
        )
        return True
    return False


def _words_on_gaps(
    table: Table, position: np.ndarray, gaps: np.ndarray, grid: Grid
) -> tuple[str, str | None]:
    """The first absent stamp with the number of others, and a zone whose clocks skip the hours of
    all gaps; None if there is none.
    """
    rows = np.flatnonzero(gaps)
    codes = table.codes[rows]
    clock = clock_of(table.times[table.starts[codes]], grid)
    # The first row of each gap.
    absent = stamps_at(clock, position[rows + 1] - gaps[rows], grid, table.times)
    others = more(int(gaps.sum()), len(np.unique(codes)))
    words = f"{table.series(codes[0])}: gap: there is no row at {absent[0]}{others}"
    # Clocks skip one hour.
    are_hours = (gaps[rows] * grid.step * 24 == DAY_NANOSECONDS).all()
    if grid.unit != "tick" or not are_hours:
        return words, None
    from tsattn.data.clock_changes import skipped, zone_where

    return words, zone_where(skipped, absent)


def _insert_rows(
    table: Table, position: np.ndarray, grid: Grid, known: KnownRows | None
) -> tuple[Table, np.ndarray]:
    """Insert a row of NaN at every absent stamp.

    Args:
        table: The rows that the table has.
        position: Steps since the first stamp of the series.
        grid: The frequency.
        known: Rows that a fit knows.

    Returns:
        All rows, and whether a row was inserted that the fit knows, bool [rows].
    """
    starts = table.starts
    lengths = position[starts[1:] - 1] + 1
    n_rows = len(position) + (0 if known is None else len(known.panel.values))
    if lengths.sum() > LARGEST_GROWTH * n_rows:
        n = int(np.argmax(lengths))
        first = table.times[starts[n]]
        last = table.times[starts[n + 1] - 1]
        # Where the most rows are absent, perhaps beside a stamp that is wrong.
        steps = np.diff(position[rows_of(starts, n)])
        before = starts[n] + int(np.argmax(steps))
        widest = f"{table.times[before]} and {table.times[before + 1]}"
        raise InputError(
            f"{table.series(n)}: {lengths[n]} rows would lie from {first} to {last} at frequency"
            f" {grid.alias!r}, the most between {widest}, but a table may grow {LARGEST_GROWTH}"
            " times at most by inserted rows; correct the stamps or pass another ",
            Argument("freq"),
        )
    new_starts = starts_of(lengths)
    n_rows = new_starts[-1]
    codes = owners_of(new_starts)
    values = np.full((n_rows, len(table.columns)), np.nan)
    is_known = np.zeros(n_rows, dtype=bool)
    # Where the rows of the table are among all rows.
    new_rows = new_starts[table.codes] + position
    values[new_rows] = table.values
    first_rows = starts[codes]
    first_clock = clock_of(table.times, grid)[first_rows]
    new_position = np.arange(n_rows) - new_starts[codes]
    times = stamps_at(first_clock, new_position, grid, table.times)
    if known is not None:
        is_known = known.contain(table.ids, codes, times)
        is_known[new_rows] = False
    return replace(table, codes=codes, values=values, times=times), is_known


def _check_numbers(table: Table) -> None:
    """Refuse cells that are no number, and infinite values."""
    is_foreign = bool(table.foreign.any())
    mask = table.foreign if is_foreign else np.isinf(table.values)
    if not mask.any():
        return
    row, column = _first_cell(mask)
    cell = plain(table.cells[column].iloc[row])
    rule = "finite"
    remedy: list[Piece] = [
        "correct it, or make it NaN and choose a policy by ",
        Argument("missing"),
    ]
    if is_foreign:
        rule = "numbers"
        remedy = _advice_on_cell(table, column, cell)
    where = table.place(table.codes[row], column)
    others = table.count(mask)
    raise InputError(
        f"{where} holds {cell!r:.60} at {table.times[row]}{others}, but values must be {rule}; ",
        *remedy,
    )


def _advice_on_cell(table: Table, column: int, cell: Any) -> list[Piece]:
    """What to do about a cell that is no number."""
    advice = _advice_on_layout(table, column)
    if advice is not None:
        return advice
    advice = _advice_on_words(table, column, cell)
    if advice is None:
        advice = _advice_on_spelling(table, column, cell)
    if table.dialect.kind == "wide":
        advice += [
            "; a time column is named by ",
            Argument("time_col"),
            ", the columns of a long table also by ",
            Argument("id_col"),
            " and ",
            Argument("target_col"),
        ]
    return advice


def _advice_on_layout(table: Table, column: int) -> list[Piece] | None:
    """What to do about first rows that hold names, or a column of times among the series."""
    is_wide = table.dialect.kind == "wide"
    first_cells = [cells.iloc[:_SEEN_ROWS] for cells in table.cells]
    rows = pd.concat(first_cells, axis=1)
    row_of_names = None
    if is_wide:
        row_of_names = names_row(rows)
    if row_of_names is not None:
        return [
            f"the columns are named in row {row_of_names}, below a title; drop the lines above",
            InPython(f", as pd.read_excel(path, header={row_of_names + 1}) does"),
        ]
    n_headers = header_rows(rows)
    if n_headers:
        return [
            "its first rows hold names of columns, as those of a file whose first"
            f" {n_headers + 1} lines do; join these names",
            InPython(f": {header_call(n_headers + 1, 'path')}"),
        ]
    if is_wide and is_datetime64_any_dtype(table.cells[column].dtype):
        name = table.cells[column].name
        return [
            "a further column of times is no series; drop it",
            InPython(f", as df.drop(columns={[name]!r}) does"),
        ]
    return None


def _advice_on_words(table: Table, column: int, cell: Any) -> list[Piece] | None:
    """What to do about a column of words in a wide table of which one column may be meant."""
    from tsattn.data.months import names_months
    from tsattn.data.spelling import conversion

    if table.dialect.kind != "wide":
        return None
    texts = table.cells[column].astype(str)
    # As 05.01 for a day of an unknown year, although some of these read as numbers, or Jan 24.
    is_day = texts.str.fullmatch(_DAY_AND_MONTH)
    are_days = (texts.is_unique and is_day.all()) or names_months(texts)
    # Cells that differ, each with a digit, may be times in a spelling that is not read.
    may_be_times = are_days or bool(texts.is_unique and texts.str.contains(r"\d").all())
    is_empty = np.isnan(table.values[:, column]).all()
    if not is_empty and not are_days:
        return None
    spelt_call = None
    if not are_days:
        spelt_call = conversion(table.cells[column], table.values[:, column], "")
    of_numbers = [k for k in _columns_of_numbers(table) if k != column]
    is_word = _has_letters(cell) or (may_be_times and spelt_call is None)
    if not is_word or not of_numbers:
        return None
    names = ", ".join(repr(table.columns[k]) for k in of_numbers[:_MOST_NAMED])
    has_stamps = isinstance(table.times, pd.DatetimeIndex)
    times = ""
    if may_be_times and not has_stamps:
        year = "with their year, " if are_days else ""
        times = f"write times {year}as 2024-01-31, or "
    return [
        f"{times}drop the column, or name the one that is forecast ({names}) by ",
        Argument("target_col"),
    ]


def _advice_on_spelling(table: Table, column: int, cell: Any) -> list[Piece]:
    """What to do about a cell that spells a number in its own way, or holds none."""
    from tsattn.data.spelling import numbers_call, truth_call

    place = f"df[{table.columns[column]!r}]"
    cells = table.cells[column]
    foreign = table.foreign[:, column]
    call = numbers_call(cells, table.values[:, column], foreign, place, cell)
    correction = "correct the cell, or "
    if isinstance(cell, str) and not _has_letters(cell):
        # A number with separators or signs, or - for a missing one.
        correction = _SPELLING
        if cell.startswith(("(", "\u2212")) or cell[1:].endswith("-"):
            correction = _NEGATIVE_SPELLING
    elif truth_call(cells, place) is not None:
        correction = "write the words as 1 and 0, or "
    in_python = "" if call is None else f"{call}; or "
    advice: list[Piece] = [
        InPython(in_python),
        correction,
        "leave a cell without a value empty, with a policy by ",
        Argument("missing"),
    ]
    # Without its only value column a table is of no use.
    if table.n_targets > 1 or column >= table.n_targets:
        advice.append("; or drop the column")
    return advice


def _has_letters(cell: Any) -> bool:
    return isinstance(cell, str) and any(map(str.isalpha, cell))


def _columns_of_numbers(table: Table) -> list[int]:
    """Places of the targets that hold numbers, or text that spells some without a letter."""
    from tsattn.data.spelling import conversion

    places = []
    for k in range(table.n_targets):
        values = table.values[:, k]
        cells = table.cells[k]
        has_numbers = bool(np.isfinite(values).any())
        if not has_numbers and table.foreign[:, k].any():
            has_letters = cells.dropna().astype(str).str.contains(r"[^\W\d_]").any()
            has_numbers = not has_letters and conversion(cells, values, "") is not None
        if has_numbers:
            places.append(k)
    return places


def _first_cell(mask: np.ndarray) -> tuple[int, int]:
    """Row and column of the first True of a mask, row by row."""
    row, column = np.argwhere(mask)[0]
    return int(row), int(column)


def _check_order(table: Table) -> None:
    """Refuse rows that are not in the order of time, where they would be if day and month changed
    places, or if their numbers, such as weeks, did not begin again.

    Args:
        table: Rows as they came.
    """
    times = table.times
    codes = table.codes
    n_rows = np.bincount(codes)
    if isinstance(times, pd.DatetimeIndex):
        is_short = n_rows.max() < _LEAST_ORDERED
        if is_short or _are_ordered(codes, ticks(times)) or not times.equals(times.normalize()):
            return
        is_exchangeable = times.day <= _YEAR_MONTHS
        months = np.where(is_exchangeable, times.day, times.month)
        days = np.where(is_exchangeable, times.month, times.day)
        parts = pd.DataFrame({"year": times.year, "month": months, "day": days})
        # Nanoseconds may not reach the other day.
        exchanged = pd.DatetimeIndex(pd.to_datetime(parts, errors="coerce"))
        if exchanged.hasnans or not _are_ordered(codes, ticks(exchanged)):
            return
        row = int((is_exchangeable & (times.day != times.month)).argmax())
        place = table.dialect.time_place
        exchange = "lambda day: day.replace(month=day.day, day=day.month) if day.day < 13 else day"
        raise InputError(
            f"rows are in the order of time only if day and month of stamps change places, as of"
            f" {times[row]:%Y-%m-%d} in row {row}, where both are at most 12; exchange them",
            InPython(f": {place} = {table.reading_call()}.map({exchange})"),
            "; or, if the stamps are right, sort the rows by time",
        )
    numbers = pd.Series(times).groupby(codes)
    n_falls = (numbers.diff() < 0).groupby(codes).sum()
    begins_again = (n_falls == 1) & (numbers.last() < numbers.first()) & (numbers.size() > 2)
    if begins_again.any():
        n = int(begins_again.argmax())
        rows = np.flatnonzero(codes == n)
        after = int(rows[1:][np.diff(times[rows]) < 0][0])
        raise InputError(
            f"{table.series(n)}: numbers of time begin again with {times[after]} in row {after},"
            " as weeks or months of the next year do, but larger ones must be later; join them with"
            " their year, or number the rows",
            InPython(f": {_numbering(table.dialect)}"),
            "; or sort the rows by time if they count it",
        )


def _are_ordered(codes: np.ndarray, clock: np.ndarray) -> bool:
    """Whether the times of all series rise, or those of all fall."""
    steps = pd.Series(clock).groupby(codes).diff().dropna()
    return bool((steps > 0).all() or (steps < 0).all())


def _check_duplicates(table: Table, table_as_it_came: Table) -> None:
    """Refuse a series with the same stamp twice; two equal ones keep their order only in the table
    as it came.
    """
    clock = ticks(table.times)
    is_repeated = (np.diff(clock) == 0) & (np.diff(table.codes) == 0)
    rows = np.flatnonzero(is_repeated)
    if len(rows):
        row = int(rows[0])
        others = more_of(table.codes[rows])
        raise InputError(
            f"{table.series(table.codes[row])}: duplicate stamp {table.times[row]}{others}, but a"
            " stamp may occur once in a series; ",
            *_advice_on_duplicates(table_as_it_came, table.times[rows]),
        )


def _advice_on_duplicates(table: Table, stamps: pd.Index) -> list[Piece]:
    """What to do about stamps that occur twice."""
    from tsattn.data.clock_changes import advice_on_zone, repeated, zone_where

    dialect = table.dialect
    zone = zone_where(repeated, stamps)
    if zone is not None:
        call = "df[~df.index.duplicated()]"
        if dialect.time_col is not None:
            call = f"df.drop_duplicates({[*dialect.id_cols, dialect.time_col]!r})"
        return [
            f"clocks show this hour twice in zones such as {zone}, so the stamps look like local"
            " times without their zone; ",
            *advice_on_zone(table.times, table.codes, dialect, zone, table.reading_call()),
            "keep one row of each such hour",
            InPython(f": df = {call}"),
        ]
    naming = "if its rows are of several series, name the column that tells them by "
    if dialect.id_col is not None:
        naming = "if ids repeat, join a further column to the id, and name the joined column by "
    call, are_equal = _call_on_duplicates(table)
    example = InPython(f", as {call} does")
    if are_equal:
        remedy = "drop the further rows, whose values are equal"
        return [remedy, example, f"; or, {naming}", Argument("id_col")]
    remedy = "; else add up, average or drop the further rows"
    return [naming, Argument("id_col"), remedy, example]


def _call_on_duplicates(table: Table) -> tuple[str, bool]:
    """The call of pandas for repeated rows, and whether it drops equal ones: it adds up others."""
    from tsattn.data.keys import unlike_ids

    dialect = table.dialect
    columns = [*dialect.id_cols, dialect.time_col]
    rows = pd.DataFrame(table.values).assign(series=table.codes, time=ticks(table.times))
    is_repeated = rows.duplicated(["series", "time"])
    is_equal = is_repeated == rows.duplicated()
    has_index = dialect.time_col is None
    if is_equal.all():
        call = "df[~df.index.duplicated()]" if has_index else f"df.drop_duplicates({columns!r})"
        return call, True
    groups = "level=0" if has_index else f"{columns!r}, as_index=False"
    # Numbers of orders or customers make no sum.
    is_whole = [whole_numbers(cells) is not None for cells in table.cells]
    named = zip(table.columns, is_whole, strict=True)
    summed = [name for name, whole in named if unlike_ids(name) or not whole]
    if 0 < len(summed) < len(table.columns):
        return f"df.groupby({groups})[{summed!r}].sum()", False
    return f"df.groupby({groups}).sum(numeric_only=True)", False


def _check_missing(table: Table, rules: Rules, may_miss: np.ndarray) -> None:
    """Refuse missing values that the policy does not allow or cannot fill, but for some rows."""
    starts = table.starts
    missing = rules.missing
    is_missing = np.isnan(table.targets) & ~may_miss[:, None]
    if not is_missing.any():
        return
    is_empty = np.logical_and.reduceat(is_missing, starts[:-1], axis=0)
    # Advice to fill a series leads nowhere where it has no value.
    if missing == "error" and (rules.later or not is_empty.any()):
        raise InputError(
            f"{table.missing(is_missing)}, but ",
            Argument("missing", "error"),
            " allows no missing values; fill them in, or pass ",
            Argument("missing", "interpolate"),
            " or 'ffill'",
        )
    if rules.later:
        return
    # Masked values need no fill, so only a series without any value is refused.
    leading = is_empty
    rule: list[Piece] = ["each series needs a value"]
    if missing in ("interpolate", "ffill"):
        leading = is_missing[starts[:-1]]
        rule = [Argument("missing", missing), " fills only from values known before"]
    if leading.any():
        n, column = _first_cell(leading)
        problem = "is missing (NaN) at its first stamp"
        end: list[Piece] = []
        remedy = "drop the rows before its first value"
        if table.dialect.kind == "wide" and len(table.columns) > 1:
            remedy += ", or melt the table to a long one and drop only its own rows there"
        if is_empty[n, column]:
            problem = "has no value at all from"
            remedy = "leave the series out"
            if is_empty.size == 1:
                remedy = "fill in values, or name the column that is forecast by "
                end = [Argument("target_col")]
        mask = np.zeros_like(is_missing)
        mask[starts[:-1]] = leading
        raise InputError(
            f"{table.place(n, column)} {problem} {table.times[starts[n]]}{table.count(mask)}, but ",
            *rule,
            f"; {remedy}",
            *end,
        )


def _carry_covariates(table: Table, rules: Rules, may_miss: np.ndarray) -> Table:
    """Fill missing covariates with the last value before them, unless the policy is ``"error"``,
    but for some rows.
    """
    covariates = table.covariates
    is_missing = np.isnan(covariates) & ~may_miss[:, None]
    if not is_missing.any():
        return table
    carried = pd.DataFrame(covariates).groupby(table.codes).ffill().to_numpy()
    early = np.isnan(carried)
    if early.any() and not rules.later:
        columns = np.flatnonzero(early.any(axis=0)).tolist()
        columns = columns[:_MOST_NAMED]
        raise InputError(
            f"{table.missing(early, table.n_targets)}, but nothing stands before it that could be"
            " carried forward; ",
            *_advice_on_blanks(table, columns),
            "; or drop the rows before its first value",
            _dropping_call(table, columns),
        )
    if rules.missing == "error":
        raise InputError(
            f"{table.missing(is_missing, table.n_targets)}, but a covariate needs a value in every"
            " row; fill it in, or have the last value carried forward by ",
            Argument("missing", "ffill"),
            ", 'interpolate' or 'mask'",
        )
    values = np.concatenate([table.targets, carried], axis=1)
    return replace(table, values=values)


def _tell_carried(table: Table) -> None:
    """Warn once of missing covariates that take the value before them by a default policy."""
    is_missing = np.isnan(table.covariates)
    columns = np.flatnonzero(is_missing.any(axis=0)).tolist()
    if not columns:
        return
    places = [
        table.missing(is_missing[:, [column]], table.n_targets + column) for column in columns
    ]
    warn(
        InputWarning(
            f"{listed(places, _MOST_NAMED, '; ')}; such cells take the value before them; ",
            *_advice_on_blanks(table, columns[:_MOST_NAMED]),
            "; if the value before holds on, a policy by ",
            Argument("missing"),
            " says so",
        )
    )


def _refuse_mostly_blank(table: Table) -> None:
    """Refuse a covariate without a value in most rows of a series: the few that it has would stand
    in for all.
    """
    is_missing = np.isnan(table.covariates)
    if not is_missing.any():
        return
    shares = pd.DataFrame(is_missing).groupby(table.codes).mean()
    is_blank = shares.to_numpy() > 0.5
    if not is_blank.any():
        return
    n, column = _first_cell(is_blank)
    series_gone = is_missing[rows_of(table.starts, n), column]
    row = table.starts[n] + int(series_gone.argmax())
    columns = np.flatnonzero(is_blank.any(axis=0)).tolist()
    columns = columns[:_MOST_NAMED]
    first_value: list[Piece] = []
    first_gone = is_missing[table.starts[:-1]]
    if first_gone[:, columns].any():
        drop = _dropping_call(table, columns)
        first_value = ["drop the rows before the first value", drop, " and "]
    name = table.place(n, table.n_targets + column)
    others = more(int(is_blank.sum()))
    raise InputError(
        f"{name}{others} is missing (NaN) in {series_gone.sum()} of {len(series_gone)} rows, the"
        f" first at {table.times[row]}, but a covariate needs a value in at least half of the rows"
        " of a series; ",
        *_advice_on_blanks(table, columns),
        "; if the value before holds on, ",
        *first_value,
        "pass ",
        Argument("missing", "ffill"),
    )


def _advice_on_blanks(table: Table, columns: list[int]) -> list[Piece]:
    """What to do about covariates whose empty cells stand for nothing."""
    calls = []
    words = []
    for column in columns:
        cells = table.cells[table.n_targets + column]
        kind = infer_dtype(cells, skipna=True)
        blank = _BLANKS.get(kind, 0)
        place = f"df[{table.columns[table.n_targets + column]!r}]"
        # A categorical column takes no new category.
        objects = ".astype(object)" if kind == "categorical" else ""
        calls.append(f"{place} = {place}{objects}.fillna({blank!r})")
        words.append(str(blank))
    meanings = " or ".join(dict.fromkeys(words))
    return [f"if a blank means {meanings}, write it there", InPython(f": {'; '.join(calls)}")]


def _dropping_call(table: Table, columns: list[int]) -> InPython:
    """The call that drops the rows of each series before the first value of some covariates."""
    names = [table.columns[table.n_targets + column] for column in columns]
    dialect = table.dialect
    keys = [*dialect.key_cols] or dialect.id_col
    series = "" if dialect.id_col is None else f".groupby({keys!r})"
    return InPython(f": df = df[df{series}[{names!r}].ffill().notna().all(axis=1)]")
