"""How many windows of a backtest a table has room for."""

import copy
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from tsattn.data.panel import BadSeriesError, Panel
from tsattn.forecaster import Forecaster
from tsattn.silence import ignored


def most_windows(
    forecasters: Iterable[Forecaster], panel: Panel, horizon: int, step_size: int, *, every: bool
) -> int:
    """Windows at the end of a series before which all forecasters can be fitted, the most of them;
    0 where none fits.

    What a forecaster needs is found by fits on a few rows, which are refused or take little time.

    Args:
        forecasters: Not fitted.
        panel: The series.
        horizon: Rows of a window.
        step_size: Rows between one window and the next.
        every: Whether the windows must fit into every series, not only into the longest.
    """
    n = int(panel.lengths.argmin() if every else panel.lengths.argmax())
    series = panel.some(n, n + 1)
    needed = max(_least_rows(forecaster, series) for forecaster in forecasters)
    rows_between = int(panel.lengths[n]) - needed - horizon
    if rows_between < 0:
        return 0
    return rows_between // step_size + 1


def _least_rows(forecaster: Forecaster, series: Panel) -> int:
    """First rows of a series that a fit and a forecast need; one more than it has where these are
    too few.
    """
    if series.missing == "mask" and not forecaster.masks:
        series = replace(series, missing="interpolate")
    n_rows = 1
    length = int(series.lengths[0])
    while n_rows <= length:
        fresh = copy.deepcopy(forecaster)
        first_rows = series.until(np.array([n_rows]))
        try:
            with ignored((Warning, "")):
                needed = fresh.fit(first_rows).min_context
        except ValueError as error:
            # Most errors tell the number; others are met by some number that is twice as large.
            told_rows = error.n_rows if isinstance(error, BadSeriesError) else 0
            needed = told_rows if told_rows > n_rows else 2 * n_rows
        if needed <= n_rows:
            return n_rows
        n_rows = needed
    return length + 1
