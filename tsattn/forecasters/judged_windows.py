"""Windows at the end of a table on which the default forecaster judges its candidates."""

import math

import numpy as np

from tsattn.data.calendar import season_length
from tsattn.data.panel import Panel
from tsattn.data.windows import is_intermittent
from tsattn.evaluate.backtest import seasonal_errors
from tsattn.pretrained.weights import load_network

# Judged windows of a series, a horizon apart: at least so many where the series is long enough.
_MIN_SERIES_WINDOWS = 4
# Judged windows of a series, at most.
_MAX_SERIES_WINDOWS = 12
# Judged windows of all series that a table of few series aims at.
_AIMED_WINDOWS = 240
# Judged windows of all series, at most; more would cost time and hardly change the weights.
_MAX_JUDGED_WINDOWS = 400
# Share of a series' rows before its judged windows. The last window is judged in any case.
_HISTORY_SHARE = 0.6
# A table of one series with fewer windows a horizon apart has overlapping windows instead.
_LEAST_SINGLE_WINDOWS = 3
# Overlapping windows in the rows of a horizon, at most.
_STEPS_A_HORIZON = 4
# Share of its rows before its overlapping windows.
_OVERLAPPED_HISTORY_SHARE = 0.45


def judged_windows(panel: Panel, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Absolute rows just after the contexts of the judged windows ``[W]``, ascending, and the rows
    of each series before its first judged window, ``[N]``: all its rows where it has none.
    """
    lengths = panel.lengths
    aimed = _AIMED_WINDOWS // panel.n_series
    most = min(max(aimed, _MIN_SERIES_WINDOWS), _MAX_SERIES_WINDOWS)
    judged_rows = (1 - _HISTORY_SHARE) * lengths
    room = (judged_rows / horizon).astype(np.int64)
    counts = np.clip(room, 1, most)
    counts[lengths <= horizon] = 0
    step = horizon
    if panel.n_series == 1 and 0 < counts[0] < _LEAST_SINGLE_WINDOWS:
        count, step = _overlapping(int(lengths[0]), horizon, most)
        counts[0] = count
    owner = np.repeat(np.arange(panel.n_series), counts)  # series of each window
    first = np.cumsum(counts) - counts
    number = np.arange(len(owner))
    n_after = number - np.repeat(first, counts)  # windows after it, of its series
    last_end = panel.starts[owner + 1] - horizon
    ends = last_end - step * n_after
    has_history = _has_history(panel, ends, owner)
    chosen = np.flatnonzero(has_history)
    if len(chosen) > _MAX_JUDGED_WINDOWS:
        # The last windows of all series come first, so that short series count as long ones do.
        draw = np.random.default_rng(0).random(len(chosen))
        order = np.lexsort((draw, n_after[chosen]))
        chosen = chosen[order[:_MAX_JUDGED_WINDOWS]]
    ends = ends[chosen]
    owner = owner[chosen]
    rows_before = ends - panel.starts[owner]
    stops = lengths.copy()
    np.minimum.at(stops, owner, rows_before)
    return np.sort(ends), stops


def _has_history(panel: Panel, ends: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Whether the pretrained network has a value to read before each end, ``[W]``.

    It stands in for all others, so that it must answer every judged window.
    """
    observed = ~np.isnan(panel.values[:, 0])
    # Values before each row of the panel, and before its end.
    values_before = np.zeros(len(observed) + 1, dtype=np.int64)
    np.cumsum(observed, out=values_before[1:])
    reach = load_network().config.token_context
    read_from = np.maximum(ends - reach, panel.starts[owner])
    return values_before[ends] > values_before[read_from]


def _overlapping(length: int, horizon: int, most: int) -> tuple[int, int]:
    """The number of windows of a short series, which may overlap, and the rows between them."""
    history_rows = int(_OVERLAPPED_HISTORY_SHARE * length)
    rows = max(length - horizon - history_rows, 0)
    least_step = max(horizon // _STEPS_A_HORIZON, 1)
    wished_step = math.ceil(rows / (most - 1))
    step = min(max(wished_step, least_step), horizon)
    return rows // step + 1, step


def independent_windows(ends: np.ndarray, owners: np.ndarray, horizon: int) -> float:
    """How many independent windows are as much evidence as the windows of series ``owners`` before
    rows ``ends``, which may overlap.

    Overlapping windows of a series count as those that fit side by side. Windows of different
    series end at the same time, so together they are less evidence than as many of one series.
    """
    total = 0.0
    series = np.unique(owners)
    for number in series:
        series_ends = ends[owners == number]
        side_by_side = np.ptp(series_ends) / horizon + 1
        total += min(side_by_side, len(series_ends))
    n_series = max(len(series), 1)
    return float(total / np.sqrt(n_series))


def mean_series(panel: Panel, point: str) -> np.ndarray:
    """Whether the points of each series are means, ``[N]``, for a setting of the point."""
    if point != "auto":
        return np.full(panel.n_series, point == "mean")
    inner_starts = panel.starts[1:-1]
    are_means = []
    for values in np.split(panel.values, inner_starts):
        # Of one window of one channel.
        intermittent = is_intermittent(values[None])
        are_means.append(intermittent[0, 0, 0])
    return np.array(are_means, dtype=bool)


def series_scales(panel: Panel) -> np.ndarray:
    """Mean absolute seasonal difference of each series, ``[N, 1]``; that of neighbouring rows where
    the seasonal one is zero or missing, NaN where both are.
    """
    season = season_length(panel.freq)
    scale = seasonal_errors(panel, panel.lengths, season)
    if season > 1:
        step_scale = seasonal_errors(panel, panel.lengths, 1)
        scale = np.where(scale > 0, scale, step_scale)
    return np.where(scale > 0, scale, np.nan)
