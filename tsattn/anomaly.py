"""Values of the past that fit neither the rows before them nor those after them."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from tsattn.checks import InputWarning, listed, warn
from tsattn.data.columns import TableLike
from tsattn.data.frames import to_long, to_target_panel, with_fields
from tsattn.data.panel import Panel, tell_skipped, tell_usual_sentinels
from tsattn.data.schema import Schema
from tsattn.data.windows import blocks_of
from tsattn.forecasters.pretrained import without_stuck
from tsattn.levels import check_request, refuse_twice
from tsattn.pretrained.weights import SHIPPED
from tsattn.two_sides import Stretches, TwoSides

__all__ = ["anomalies"]

# Rows that are forecast together from each side. Shorter blocks find more and take more time.
_BLOCK = 6
# Values that a series must have. On shorter ones half of the past, which is what a side has, says
# less than a decomposition of the whole series.
_LEAST_VALUES = 200
# A half of an interval is at least this share of the usual one of its series: after a few equal
# values the network is too sure that they go on.
_LEAST_SHARE = 0.3
# Distances up to this share of the largest value of a series are those of rounding.
_ROUNDING = 1e-9
# The widest interval that the network knows, in percent.
_WIDEST_LEVEL = 98.0
# Rows that are searched together for values of a sensor that hangs.
_SEARCHED_ROWS = 2048
# Series that a warning names.
_NAMED_SERIES = 3
# Columns beside those of the table.
_ANSWER = ("expected", "lo", "hi", "score", "anomaly")


def anomalies(
    data: TableLike | Panel,
    *,
    level: float = 99,
    schema: Schema = Schema(),
    weights: str | Path = SHIPPED,
    n_threads: int | None = None,
    **fields: Any,
) -> pd.DataFrame:
    """Compare each value of a table with forecasts from both sides, and flag those that do not fit.

    The pretrained network forecasts blocks of six rows from the rows before them, and from the rows
    after them in the opposite direction of time. Median and interval are means of both forecasts,
    with weights inverse to the widths of the intervals. If the medians are farther apart than
    either interval is wide, or one side has only seen one value, the interval covers both. The
    first block, the last one, and the median next to rows that do not change have a forecast from
    one side only. Half of an interval is at least 0.3 of the median half of its series. Long runs
    of one value are not read in a series that moves otherwise.

    Args:
        data: A table, as :func:`tsattn.forecast` takes it; missing values are left out.
        level: Central interval in percent; values outside are flagged. The network knows levels up
            to 98; for higher ones its intervals are widened as those of a normal distribution.
        schema: How the table is read.
        weights: Name or file of pretrained weights.
        n_threads: Threads, as for :class:`tsattn.PretrainedForecaster`.
        **fields: Fields of the schema, which they override, such as ``id_col`` or ``freq``.

    Returns:
        A long frame of the observed values in order of id and time, with an index of its own: id
        (of more than one series), time and value under the names of the table, or ``unique_id``,
        ``ds`` and ``y`` of a wide one; ``expected``, the median; ``lo`` and ``hi``, the interval;
        ``score``, the distance from the median in halves of the interval, negative below it; and
        ``anomaly``, True where the score is beyond 1 or -1.
        A series of fewer than 200 values has NaN and no anomaly, and a warning says so. Series
        without a value are left out, with a warning.

    Raises:
        TypeError: If ``data`` is no table.
        ValueError: If the table is faulty, a column of it has the name of one of these, or
            ``level`` is not between 0 and 100.

    Example:
        >>> table = anomalies([*range(100), 900.0, *range(101, 200)])
        >>> table.loc[table["anomaly"], "y"].tolist()
        [900.0]
    """
    levels, _, _ = check_request(level, None)
    if len(levels) != 1:
        raise ValueError(f"level must be one number, such as 99; got {level!r}")
    (asked_level,) = levels
    widest = min(asked_level, _WIDEST_LEVEL)
    _, _, probabilities = check_request(widest, None)
    # Factor from the widest interval that the network knows to the one that is asked for.
    beyond = _normal_half(asked_level) / _normal_half(widest)
    data, schema = with_fields(data, schema, fields)
    panel = to_target_panel(data, schema)
    values = panel.values[:, 0]
    without_covariates = replace(panel, covariates=None)
    frame = to_long(without_covariates)
    refuse_twice([*frame.columns, *_ANSWER], has_alias=False)
    tell_skipped(panel, "they have no rows in the answer")
    tell_usual_sentinels(panel)
    # Forecasts from the values of a sensor that hangs would agree with them.
    moving_values = panel.values.copy()
    for rows in blocks_of(panel, _SEARCHED_ROWS):
        moving_values[rows] = without_stuck(moving_values[rows])
    sides = TwoSides(replace(panel, values=moving_values), weights, n_threads)
    lower, median, upper = _both_sides(panel, sides, probabilities)
    half_below = median - lower
    half_above = upper - median
    below = beyond * _at_least_usual(panel, half_below)
    above = beyond * _at_least_usual(panel, half_above)
    distance = _beyond_rounding(panel, values - median)
    half = np.where(distance < 0, below, above)
    # A constant series has intervals of no width.
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.where(distance == 0, 0.0, distance / half)
    is_anomaly = np.abs(score) > 1
    answer = (median, median - below, median + above, score, is_anomaly)
    columns = dict(zip(_ANSWER, answer, strict=True))
    frame = frame.assign(**columns)
    is_observed = ~np.isnan(values)
    return frame[is_observed].reset_index(drop=True)


def _blocks(panel: Panel) -> Stretches:
    """The blocks of all series that have enough values; the last of a series may reach beyond its
    end.
    """
    first_rows = []
    owners = []
    too_short = []
    bounds = itertools.pairwise(panel.starts.tolist())
    for n, (start, stop) in enumerate(bounds):
        is_observed = np.isfinite(panel.values[start:stop, 0])
        if is_observed.sum() < _LEAST_VALUES:
            too_short.append(panel.series_label(n))
            continue
        begins = np.arange(start, stop, _BLOCK)
        first_rows.append(begins)
        owners.append(np.full(len(begins), n))
    if too_short:
        names = listed(too_short, _NAMED_SERIES)
        warn(
            f"series of fewer than {_LEAST_VALUES} values are not judged: {names}",
            InputWarning,
        )
    # Nothing is joined where all series are too short.
    no_rows = np.empty(0, dtype=np.int64)
    all_first = np.concatenate([no_rows, *first_rows])
    all_owners = np.concatenate([no_rows, *owners])
    length = np.full(len(all_first), _BLOCK)
    return Stretches(all_first, length, all_owners)


def _both_sides(
    panel: Panel, sides: TwoSides, probabilities: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower bound, median and upper bound of each row of a panel, ``[rows]`` each; NaN for series
    that are not judged.
    """
    n_rows = len(panel.values)
    answer = np.full((3, n_rows), np.nan)
    for blocks in _blocks(panel).batches():
        rows_before = sides.before(blocks)
        rows_after = sides.after(blocks)
        forwards = _quantiles(sides, rows_before, probabilities)
        # The first step back is the last row of the block.
        backwards = _quantiles(sides, rows_after, probabilities)[:, :, ::-1]
        bounds = _weighted_mean(forwards, backwards)
        rows = blocks.rows()
        stop_rows = panel.starts[blocks.owner + 1]
        is_inside = rows < stop_rows[:, None]
        rows_inside = rows[is_inside]
        answer[:, rows_inside] = bounds[:, is_inside]
    lower, median, upper = answer
    return lower, median, upper


def _quantiles(sides: TwoSides, x: np.ndarray, probabilities: Sequence[float]) -> np.ndarray:
    """Lower bound, median and upper bound after contexts, ``[3, S, F]``."""
    points, bounds = sides.forecast(x, _BLOCK, probabilities)
    lower = bounds[..., 0]
    upper = bounds[..., 1]
    return np.stack([lower, points, upper])


def _weighted_mean(forwards: np.ndarray, backwards: np.ndarray) -> np.ndarray:
    """The mean of two forecasts ``[3, S, F]``, weighted by the inverse of the widths of their
    intervals; the other one where one is NaN, or alone has no width. Where one or both have no
    width, or the medians are farther apart than either interval is wide, it covers both.
    """
    width_ahead = forwards[2] - forwards[0]
    width_back = backwards[2] - backwards[0]
    total = width_ahead + width_back
    has_width = total > 0
    share_ahead = width_back / np.where(has_width, total, 1.0)
    # Two intervals without a width count alike.
    share = np.where(has_width, share_ahead, 0.5)
    # Next to rows that never change, that side knows nothing of the rows that do.
    is_one_constant = (width_ahead == 0) != (width_back == 0)
    share = np.where(is_one_constant, 1 - share, share)
    mean = share * forwards + (1 - share) * backwards
    # Where a constant series takes another value, or a machine is switched on after the few rows of
    # one side, either side is sure of its own.
    widest = np.fmax(width_ahead, width_back)
    is_apart = np.abs(forwards[1] - backwards[1]) > widest
    is_apart |= ~has_width
    # The constant may go on.
    is_apart |= is_one_constant
    mean[0] = np.where(is_apart, np.fmin(forwards[0], backwards[0]), mean[0])
    mean[2] = np.where(is_apart, np.fmax(forwards[2], backwards[2]), mean[2])
    one_side = np.where(np.isnan(forwards), backwards, forwards)
    return np.where(np.isnan(mean), one_side, mean)


def _at_least_usual(panel: Panel, halves: np.ndarray) -> np.ndarray:
    """Halves of intervals, each at least a share of the median half of its series, ``[rows]``."""
    answer = halves.copy()
    for start, stop in itertools.pairwise(panel.starts.tolist()):
        rows = slice(start, stop)
        series_halves = halves[rows]
        # Series that are not judged have none.
        if np.isfinite(series_halves).any():
            least_half = _LEAST_SHARE * np.nanmedian(series_halves)
            answer[rows] = np.maximum(series_halves, least_half)
    return answer


def _beyond_rounding(panel: Panel, distance: np.ndarray) -> np.ndarray:
    """Distances of values from others, 0 where the rounding of numbers may be all there is."""
    magnitude = np.abs(panel.values[:, 0])
    of_series = np.fmax.reduceat(magnitude, panel.starts[:-1])
    rounding = np.repeat(_ROUNDING * of_series, panel.lengths)
    return np.where(np.abs(distance) <= rounding, 0.0, distance)


def _normal_half(level: float) -> float:
    """Half of a central interval of the standard normal distribution."""
    # Half of what the interval holds lies above the median.
    probability = 0.5 + level / 200
    return NormalDist().inv_cdf(probability)
