"""Long tables whose series are open on different days and hours of the week."""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd

from tsattn.data.calendar import closing_grid, infer_grid, off_hours, parse_freq, ticks
from tsattn.data.columns import read_stamps, require_columns
from tsattn.data.grid import Grid, rows_of
from tsattn.data.panel import starts_of

# Days that a series must last before its own hours count; fewer show no rule.
_LEAST_DAYS = 28
# A zone for each rule by which clocks change.
_CHANGING_ZONES = ("Europe/Berlin", "America/New_York", "Australia/Sydney")
# Series of which hours are looked for, at most; it bounds the time.
_MOST_SERIES = 2000


def group_by_hours(
    df: pd.DataFrame, id_col: Hashable | Sequence[Hashable], time_col: Hashable
) -> list[pd.DataFrame]:
    """Split a long table into one table for each of the opening hours that its series have.

    A frequency is one of all series of a table, so series that are open at other hours than others
    are forecast, judged and fitted in a table of their own.

    Args:
        df: The table.
        id_col: Column of the ids, or several columns that name a series together.
        time_col: Column of the stamps.

    Returns:
        The rows of each group in their order, the group of the most series first; the table itself
        if all series share their hours.

    Raises:
        ValueError: If a column is absent, or its stamps cannot be read.

    Example:
        >>> parts = group_by_hours(df, "unique_id", "ds")  # doctest: +SKIP
        >>> pd.concat(tsattn.forecast(part, 24) for part in parts)  # doctest: +SKIP
    """
    keys = list(id_col) if isinstance(id_col, list | tuple) else [id_col]
    require_columns(df, {"id_col": keys, "time_col": time_col})
    by_series = df.groupby(keys, sort=False, observed=True, dropna=False)
    codes = by_series.ngroup().to_numpy()
    times = read_stamps(df[time_col], f"column {time_col!r}", lambda row: f"row {row}")
    if not isinstance(times, pd.DatetimeIndex):
        return [df]
    # Series by series, in the order of time.
    order = np.lexsort((ticks(times), codes))
    starts = starts_of(np.bincount(codes))
    times = times[order]
    step = infer_grid(times, starts, lambda n: f"series {n}")
    common_hours = closing_grid(times, starts, step)
    aliases = own_hours(times, starts, common_hours or step)
    alias_of_row = np.array(aliases)[codes]
    return [df[alias_of_row == alias] for alias, _ in Counter(aliases).most_common()]


def own_hours(times: pd.DatetimeIndex, starts: np.ndarray, grid: Grid) -> list[str]:
    """The alias of the frequency that each series alone has: the grid's, or its own opening hours.

    Args:
        times: [rows] stamps, ascending within each series.
        starts: [N + 1] rows at which series start.
        grid: The frequency of all series together.
    """
    n_series = len(starts) - 1
    grid_alias = str(grid.alias)
    may_close = grid.closes or grid.unit in ("day", "tick")
    if n_series < 2 or n_series > _MOST_SERIES or not may_close:
        return [grid_alias] * n_series
    # The step alone, without the hours of all series.
    step_alias, _, _ = grid_alias.partition("[")
    step = parse_freq("D" if grid.unit == "business" else step_alias)
    series_times = [times[rows_of(starts, n)] for n in range(n_series)]
    grids = [_hours_of(stamps, step) for stamps in series_times]
    common = Counter(series_grid for series_grid in grids if series_grid is not None)
    options = [option for option, _ in common.most_common() if option.closes]
    aliases = []
    for stamps, series_grid in zip(series_times, grids, strict=True):
        if series_grid is None:
            # The first hours that a short or irregular series keeps.
            fitting = (option for option in options if not off_hours(stamps, option).any())
            series_grid = next(fitting, grid)
        aliases.append(str(series_grid.alias))
    return aliases


def _hours_of(times: pd.DatetimeIndex, step: Grid) -> Grid | None:
    """The hours of one series; the step where no row is absent, None where there is no rule."""
    duration = times[-1] - times[0]
    if duration < pd.Timedelta(_LEAST_DAYS, "D"):
        return None
    # The series as a table of its own.
    starts = np.array([0, len(times)])
    hours = closing_grid(times, starts, step)
    width = pd.Timedelta(step.step, "D" if step.unit == "day" else "ns")
    has_gaps = (np.diff(times) > width).any()
    return hours if hours is not None or has_gaps else step


def zone_of_hours(
    times: pd.DatetimeIndex, starts: np.ndarray, step: Grid, hours: Grid | None
) -> tuple[str, str] | None:
    """A time zone in which opening hours are fewer than in UTC, since they follow its clocks, and
    the alias of its hours; None if there is no such zone.

    Args:
        times: [rows] stamps in UTC, with or without the zone.
        starts: [N + 1] rows at which series start.
        step: The step between neighbouring rows.
        hours: The opening hours in UTC, if there are any.
    """
    has_zone = times.tz is not None
    is_elsewhere = has_zone and str(times.tz) != "UTC"
    if step.unit != "tick" or is_elsewhere:
        return None
    utc = times if has_zone else times.tz_localize("UTC")
    best = None
    fewest = _irregular(times, hours)
    for zone in _CHANGING_ZONES:
        local_times = utc.tz_convert(zone)
        local_hours = closing_grid(local_times, starts, step)
        counts = _irregular(local_times, local_hours)
        if local_hours is not None and counts < fewest:
            fewest = counts
            best = zone, str(local_hours.alias)
    return best


def _irregular(times: pd.DatetimeIndex, hours: Grid | None) -> tuple[float, int]:
    """Open hours of a week, and rows at other hours; infinitely many where there is no rule."""
    if hours is None:
        return np.inf, 0
    n_open = len(hours.slots)
    is_off = off_hours(times, hours)
    return n_open, int(is_off.sum())
