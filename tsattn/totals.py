"""Sums of a forecast over calendar spans, with bands from sample paths."""

import re
from typing import Any

import numpy as np
import pandas as pd

from tsattn.checks import check_whole, warn
from tsattn.data.grid import MONTHS
from tsattn.levels import check_request, interval_columns, refuse_twice

# Name of the column with the number of rows in a span.
ROWS = "rows"
# The span that holds all rows.
ALL = "all"
# An offset of pandas, which names the first or the last day of spans, maybe with its month.
_OFFSET = re.compile(r"([MQY])([SE])(?:-([A-Z]{3}))?")
# One calendar span, maybe with the month or weekday of its end. Periods of several units, such as
# "2W", are counted by single units, and business days have none for a weekend.
_SPAN = re.compile(r"(s|min|h|D|W|M|Q|Y)(-[A-Z]{3})?")


def total_frame(
    forecast: Any, span: str | int, level: Any, quantiles: Any, n_samples: int, random_state: Any
) -> pd.DataFrame:
    """The table of :meth:`tsattn.Forecast.total`, whose arguments these are.

    Raises:
        ValueError: As there.
    """
    levels, asked_quantiles, probabilities = check_request(level, quantiles)
    starts, counts = _spans(forecast, span)
    point = np.add.reduceat(forecast.point.ravel(), starts)
    sums_of_points = forecast.sums_of_points()
    _tell_medians(forecast)
    # Series that were left out of the forecast have no paths.
    n_spans = len(point)
    bounds = np.full((n_spans, len(probabilities)), np.nan)
    if probabilities or not sums_of_points.all():
        owners = starts // forecast.horizon
        # Medians do not add up: their sums are medians of summed paths.
        is_median = ~sums_of_points[owners]
        for part, paths in forecast.draws(n_samples, random_state):
            # Spans of the series of this part, which follow one another as the series do.
            first, stop = np.searchsorted(owners, (part.start, part.stop))
            spans = slice(first, stop)
            # The rows of the part follow one another, step by step.
            n_paths = paths.shape[2]
            rows = paths.reshape(-1, n_paths)
            first_row = part.start * forecast.horizon
            starts_in_part = starts[spans] - first_row
            sums = np.add.reduceat(rows, starts_in_part, axis=0)
            span_quantiles = np.quantile(sums, probabilities, axis=1)
            bounds[spans] = span_quantiles.T
            medians = np.median(sums, axis=1)
            point[spans] = np.where(is_median[spans], medians, point[spans])
    columns = [("", point)]
    suffixes = interval_columns(levels, asked_quantiles)
    for suffix, probability in suffixes:
        place = probabilities.index(probability)
        columns.append((f"-{suffix}", bounds[:, place]))
    return _frame(forecast, starts, counts, columns)


def _tell_medians(forecast: Any) -> None:
    """Warn if medians are summed, since the forecast has no paths."""
    if forecast.source is not None or forecast.is_mean is None:
        return
    left_out = np.isnan(forecast.point).all(axis=1)
    if not (forecast.is_mean | left_out).all():
        warn(
            f"totals of {forecast.alias}: the points are medians without quantiles, whose sum is"
            " not the median of the sum; take a forecaster with intervals for the whole horizon,"
            " such as one inside SplitConformal"
        )


def _spans(forecast: Any, span: str | int) -> tuple[np.ndarray, np.ndarray]:
    """First row of each span among the flat rows of a forecast, and its number of rows."""
    n_series, horizon = forecast.point.shape
    steps_ahead = np.arange(horizon)
    step = np.tile(steps_ahead, n_series)
    n_rows = len(step)
    if span == ALL:
        number = np.zeros(n_rows, dtype=np.int64)
    elif isinstance(span, str):
        number = _period_numbers(forecast.times, span)
    else:
        n_span_rows = check_whole("span", span)
        number = step // n_span_rows
    # A span begins where the number changes, and with each series.
    before_first = number[:1] - 1
    changes = np.diff(number, prepend=before_first)
    is_first = changes != 0
    is_first |= step == 0
    starts = np.flatnonzero(is_first)
    counts = np.diff(starts, append=n_rows)
    return starts, counts


def _period_numbers(times: pd.Index, span: str) -> np.ndarray:
    """Number of the calendar span in which each stamp lies."""
    if not isinstance(times, pd.DatetimeIndex):
        raise ValueError(
            f"span must be {ALL!r} or a number of rows where time has no calendar; got {span!r};"
            " write span=7 for sums of seven rows"
        )
    name = _period_name(span)
    message = (
        f"span must be {ALL!r}, a number of rows, or one calendar span such as 'W', 'M' or 'Q'; got"
        f" {span!r}; write span=14 for sums of fourteen rows"
    )
    if not _SPAN.fullmatch(name):
        raise ValueError(message)
    try:
        wall_times = times.tz_localize(None)
        periods = wall_times.to_period(name)
    except ValueError:
        raise ValueError(message) from None
    return periods.astype(np.int64).to_numpy()


def _period_name(span: str) -> str:
    """The period of an offset, which also names a side: ``"Q-FEB"`` of ``"QE-FEB"``."""
    offset = _OFFSET.fullmatch(span)
    if offset is None:
        return span
    unit, side, month = offset.groups()
    if month is None:
        return unit
    if side == "S" and month in MONTHS:
        # A period is named by its last month, which is the one before the first.
        month = MONTHS[MONTHS.index(month) - 1]
    return f"{unit}-{month}"


def _frame(
    forecast: Any,
    starts: np.ndarray,
    counts: np.ndarray,
    columns: list[tuple[str, np.ndarray]],
) -> pd.DataFrame:
    """The sums in the dialect of the forecast."""
    dialect = forecast.dialect
    owners = starts // forecast.horizon
    times = forecast.times[starts]
    names = [(forecast.alias, slice(None))]
    if dialect.kind == "wide":
        # All series share their stamps, and so their spans.
        is_of_first = owners == 0
        n_spans = int(is_of_first.sum())
        times = times[:n_spans]
        counts = counts[:n_spans]
        ids = pd.Index(forecast.ids)
        places = ids.get_indexer(pd.Index(dialect.columns))
        names = []
        for name, place in zip(dialect.columns, places, strict=True):
            first = place * n_spans
            names.append((name, slice(first, first + n_spans)))
    cells = [(ROWS, counts)]
    taken = [*dialect.row_cols, ROWS]
    refuse_twice(taken, has_alias=False)
    for name, rows in names:
        for suffix, values in columns:
            # A name without a suffix stays what it is, also where it is no text.
            column = f"{name}{suffix}" if suffix else name
            cells.append((column, values[rows]))
            taken.append(column)
    refuse_twice(taken, has_alias=dialect.kind == "long")
    return dialect.answer(forecast.ids[owners], times, dict(cells))
