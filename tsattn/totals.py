"""Sums of a forecast over calendar spans, with bands from sample paths."""

import re
from typing import Any

import numpy as np
import pandas as pd

from tsattn.checks import check_whole
from tsattn.levels import check_request, interval_columns, refuse_twice

# Name of the column with the number of rows in a span.
ROWS = "rows"
# The span that holds all rows.
ALL = "all"
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
    # Series that were left out of the forecast have no paths.
    bounds = np.full((len(point), len(probabilities)), np.nan)
    if probabilities or not sums_of_points.all():
        owners = starts // forecast.horizon
        is_median = ~sums_of_points[owners]
        for part, paths in forecast.draws(n_samples, random_state):
            # Spans of the series of this part, which follow one another as the series do.
            first, stop = np.searchsorted(owners, (part.start, part.stop))
            spans = slice(first, stop)
            # The rows of the part follow one another, step by step.
            rows = paths.reshape(-1, paths.shape[2])
            first_row = part.start * forecast.horizon
            sums = np.add.reduceat(rows, starts[spans] - first_row, axis=0)
            bounds[spans] = np.quantile(sums, probabilities, axis=1).T
            medians = np.median(sums, axis=1)
            point[spans] = np.where(is_median[spans], medians, point[spans])
    columns = [("", point)]
    for suffix, probability in interval_columns(levels, asked_quantiles):
        place = probabilities.index(probability)
        columns.append((f"-{suffix}", bounds[:, place]))
    return _frame(forecast, starts, counts, columns)


def _spans(forecast: Any, span: str | int) -> tuple[np.ndarray, np.ndarray]:
    """First row of each span among the flat rows of a forecast, and its number of rows."""
    n_series, horizon = forecast.point.shape
    step = np.tile(np.arange(horizon), n_series)
    if span == ALL:
        number = np.zeros(len(step), dtype=np.int64)
    elif isinstance(span, str):
        number = _period_numbers(forecast.times, span)
    else:
        number = step // check_whole("span", span)
    is_first = np.diff(number, prepend=number[:1] - 1) != 0
    is_first |= step == 0
    starts = np.flatnonzero(is_first)
    counts = np.diff(starts, append=len(step))
    return starts, counts


def _period_numbers(times: pd.Index, span: str) -> np.ndarray:
    """Number of the calendar span in which each stamp lies."""
    if not isinstance(times, pd.DatetimeIndex):
        raise ValueError(
            f"span must be {ALL!r} or a number of rows where time has no calendar; got {span!r};"
            " write span=7 for sums of seven rows"
        )
    # Offsets name the ends of a span too, and periods do not.
    name = span
    if span[:-1] in ("M", "Q", "Y"):
        name = span.removesuffix("S").removesuffix("E")
    message = (
        f"span must be {ALL!r}, a number of rows, or one calendar span such as 'W', 'M' or 'Q'; got"
        f" {span!r}; write span=14 for sums of fourteen rows"
    )
    if not _SPAN.fullmatch(name):
        raise ValueError(message)
    try:
        periods = times.tz_localize(None).to_period(name)
    except ValueError:
        raise ValueError(message) from None
    numbers: np.ndarray = periods.astype(np.int64).to_numpy()
    return numbers


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
    cells: list[tuple[Any, Any]] = []
    names = [(forecast.alias, slice(None))]
    if dialect.kind == "wide":
        # All series share their stamps, and so their spans.
        n_spans = int((owners == 0).sum())
        times = times[:n_spans]
        counts = counts[:n_spans]
        places = pd.Index(forecast.ids).get_indexer(pd.Index(dialect.columns))
        names = []
        for name, place in zip(dialect.columns, places, strict=True):
            first = place * n_spans
            names.append((name, slice(first, first + n_spans)))
    elif dialect.id_col is not None:
        cells.append((dialect.id_col, dialect.restore_ids(forecast.ids[owners])))
    if dialect.time_col is not None:
        cells.append((dialect.time_col, times))
    cells.append((ROWS, counts))
    taken = [*dialect.key_cols, *(name for name, _ in cells)]
    refuse_twice(taken, has_alias=False)
    for name, rows in names:
        for suffix, values in columns:
            # A name without a suffix stays what it is, also where it is no text.
            column = f"{name}{suffix}" if suffix else name
            cells.append((column, values[rows]))
            taken.append(column)
    refuse_twice(taken, has_alias=dialect.kind == "long")
    index = None if dialect.time_col is not None else times.rename(dialect.index_name)
    return dialect.with_keys(pd.DataFrame(dict(cells), index=index))
