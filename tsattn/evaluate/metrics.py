"""Scores of forecasts, each defined once.

Errors are ``y - forecast``. A missing ``y`` (NaN) is left out of every sum; where nothing is left
the score is NaN, never 0. A NaN among the *forecasts* is not forgiven: it makes the score NaN.
Shapes must agree; nothing is broadcast silently. ``axis`` names what is averaged: ``None`` is
everything and gives a float.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tsattn.checks import check_whole, warn
from tsattn.levels import check_request

Axis = int | tuple[int, ...] | None
Score = Any  # a float where everything is averaged, otherwise an array


def mae(y: ArrayLike, forecast: ArrayLike, *, axis: Axis = None) -> Score:
    """Mean absolute error, ``mean |y - f|``.

    Args:
        y: Truth, any shape, NaN where missing.
        forecast: Point forecasts of the same shape.
        axis: Axes averaged.

    Returns:
        In the unit of ``y``.

    Raises:
        ValueError: If the shapes differ.

    Example:
        Errors 1, -2 and 3 after the missing value is left out:

        >>> mae([2.0, 2.0, float("nan"), 7.0], [1.0, 4.0, 9.0, 4.0])
        2.0
    """
    y, forecast = _pair(y, forecast)
    error = y - forecast
    return _mean(np.abs(error), y, axis)


def mse(y: ArrayLike, forecast: ArrayLike, *, axis: Axis = None) -> Score:
    """Mean squared error, ``mean (y - f)^2``; arguments as in :func:`mae`.

    Example:
        (1 + 4 + 9) / 3 with errors 1, -2 and 3:

        >>> round(mse([2.0, 2.0, 7.0], [1.0, 4.0, 4.0]), 4)
        4.6667
    """
    y, forecast = _pair(y, forecast)
    error = y - forecast
    return _mean(np.square(error), y, axis)


def rmse(y: ArrayLike, forecast: ArrayLike, *, axis: Axis = None) -> Score:
    """Root of the mean squared error, ``sqrt(mean (y - f)^2)``; arguments as in :func:`mae`.

    Example:
        sqrt((9 + 16) / 2):

        >>> round(rmse([3.0, 4.0], [0.0, 0.0]), 4)
        3.5355
    """
    mean_square = mse(y, forecast, axis=axis)
    return _plain(np.sqrt(mean_square))


def bias(y: ArrayLike, forecast: ArrayLike, *, axis: Axis = None) -> Score:
    """Mean of ``f - y``: positive where forecasts are too high; arguments as in :func:`mae`.

    Example:
        (2 - 1) and (5 - 2) average to 2:

        >>> bias([1.0, 2.0], [2.0, 5.0])
        2.0
    """
    y, forecast = _pair(y, forecast)
    return _mean(forecast - y, y, axis)


def smape(y: ArrayLike, forecast: ArrayLike, *, axis: Axis = None) -> Score:
    """Symmetric relative error, ``mean 2 |y - f| / (|y| + |f|)``, from 0 to 2, that is 0 to 200%;
    0/0 counts 0.

    Arguments as in :func:`mae`.

    Example:
        2 * 2 / 4 is 1, a zero foretold counts 0, opposite signs count 2:

        >>> smape([1.0, 0.0, 5.0], [3.0, 0.0, -5.0])
        1.0
    """
    y, forecast = _pair(y, forecast)
    return _mean(smape_terms(y, forecast), y, axis)


def smape_terms(y: np.ndarray, forecast: np.ndarray) -> np.ndarray:
    """The terms that :func:`smape` averages, element by element.

    Example:
        >>> smape_terms(np.array([1.0, 0.0]), np.array([3.0, 0.0]))
        array([1., 0.])
    """
    size = np.abs(y) + np.abs(forecast)
    # The error never exceeds the size: where the size is 0, 0 over the least positive float is 0.
    divisor = np.maximum(size, np.finfo(np.float64).tiny)
    error = np.abs(y - forecast)
    return 2 * error / divisor


def seasonal_error(train: ArrayLike, season_length: int, *, power: int = 1) -> Score:
    """In-sample error of the seasonal naive forecast, ``mean |y_t - y_(t-m)|^power``, time on the
    last axis.

    Args:
        train: Training span, ``[..., T]``; pairs with a missing value are left out.
        season_length: m, in rows.
        power: 1 for :func:`mase`, 2 for :func:`rmsse`.

    Returns:
        One number a series, NaN where the span has no pair of rows m apart.

    Raises:
        ValueError: If ``season_length`` is below 1.

    Example:
        ``|3 - 1|``, ``|6 - 2|`` and ``|3 - 3|`` with m = 2:

        >>> seasonal_error([1.0, 2.0, 3.0, 6.0, 3.0], 2)
        2.0
    """
    check_whole("season_length", season_length)
    train = np.asarray(train, dtype=np.float64)
    later = train[..., season_length:]
    earlier = train[..., :-season_length]
    gap = later - earlier
    terms = np.abs(gap) ** power
    return _mean(terms, gap, -1)


def mase(y: ArrayLike, forecast: ArrayLike, train: ArrayLike, *, season_length: int) -> Score:
    """Mean absolute scaled error, ``mean |y - f| / seasonal_error(train, m)``, time on the last
    axis.

    Args:
        y: Truth, ``[..., F]``.
        forecast: Point forecasts, ``[..., F]``.
        train: The training span of the same series, ``[..., T]``: never the span that is judged.
        season_length: m, in rows.

    Returns:
        One number a series; NaN with a warning where the training span is constant or shorter than
        m + 1 rows.

    Raises:
        ValueError: If shapes differ or ``season_length`` is below 1.

    Example:
        Mean absolute error 3 over a seasonal error of 2:

        >>> mase([4.0, 5.0], [1.0, 2.0], [1.0, 2.0, 3.0, 6.0, 3.0], season_length=2)
        1.5
    """
    scale = seasonal_error(train, season_length)
    error = mae(y, forecast, axis=-1)
    return scaled_by(error, scale, "mase")


def rmsse(y: ArrayLike, forecast: ArrayLike, train: ArrayLike, *, season_length: int) -> Score:
    """Root mean squared scaled error, ``sqrt(mean (y - f)^2 / mean (y_t - y_(t-m))^2)``.

    Arguments, shapes and the undefined case are those of :func:`mase`.

    Example:
        Squared errors 9 and 9 over squared seasonal errors 4, 16 and 0, whose mean is 20/3:

        >>> round(rmsse([4.0, 5.0], [1.0, 2.0], [1.0, 2.0, 3.0, 6.0, 3.0], season_length=2), 4)
        1.1619
    """
    scale = seasonal_error(train, season_length, power=2)
    mean_square = mse(y, forecast, axis=-1)
    ratio = scaled_by(mean_square, scale, "rmsse")
    return _plain(np.sqrt(ratio))


def scaled_by(error: ArrayLike, scale: ArrayLike, name: str) -> Score:
    """``error / scale`` series by series, NaN with a warning where the scale is 0 or NaN.

    Args:
        error: Errors, one a series.
        scale: Scales of the same shape.
        name: Metric named in the warning.

    Example:
        >>> scaled_by(3.0, 2.0, "mase")
        1.5
    """
    error, scale = _floats(error, scale)
    if error.shape != scale.shape:
        raise ValueError(
            f"{name} needs a train of each series of y; got {scale.shape} for {error.shape}: repeat"
            " or select"
        )
    undefined = ~(scale > 0)
    n_undefined = int(undefined.sum())
    if n_undefined:
        warn(
            f"{name} is undefined (nan) for {n_undefined} of {undefined.size} series: the"
            " training span is constant from season to season or shorter than season_length + 1"
            " rows"
        )
    divisor = np.where(undefined, np.nan, scale)
    return _plain(error / divisor)


def pinball(y: ArrayLike, forecast: ArrayLike, *, quantile: float, axis: Axis = None) -> Score:
    """Quantile loss without the factor 2, ``mean max(q (y - f), (q - 1) (y - f))``.

    Args:
        y: Truth, any shape.
        forecast: Forecasts of one quantile, same shape.
        quantile: q, between 0 and 1.
        axis: Axes averaged.

    Raises:
        ValueError: If shapes differ or the quantile is out of range.

    Example:
        q = 0.9: 0.9 * 2 for the forecast that is 2 too low, 0.1 * 2 for the one that is 2 too high:

        >>> pinball([3.0, 1.0], [1.0, 3.0], quantile=0.9)
        1.0
    """
    y, forecast = _pair(y, forecast)
    probabilities = _check_quantiles([quantile])
    terms = pinball_terms(y, forecast, probabilities)
    return _mean(terms, y, axis)


def pinball_terms(y: np.ndarray, forecast: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """The terms that :func:`pinball` averages; ``quantiles`` runs along the last axis.

    Example:
        >>> pinball_terms(np.array([[3.0]]), np.array([[1.0, 5.0]]), np.array([0.5, 0.75]))
        array([[1. , 0.5]])
    """
    error = y - forecast
    return np.maximum(quantiles * error, (quantiles - 1) * error)


def wql(y: ArrayLike, forecast: ArrayLike, *, quantiles: Sequence[float]) -> float:
    """Weighted quantile loss, ``mean over q of 2 sum pinball_q / sum |y|``.

    Args:
        y: Truth, any shape.
        forecast: Quantile forecasts, the shape of ``y`` and Q more on a last axis.
        quantiles: The Q quantiles.

    Returns:
        NaN with a warning where all ``y`` are 0, NaN where all are missing.

    Raises:
        ValueError: If shapes differ or a quantile is out of range.

    Example:
        Sums of pinball 2.0 (q = 0.9, as in :func:`pinball`) and 2.0 (q = 0.5), doubled, over 4:

        >>> wql([3.0, 1.0], [[1.0, 1.0], [3.0, 3.0]], quantiles=[0.5, 0.9])
        1.0
    """
    y, forecast, probabilities = _spread(y, forecast, quantiles)
    missing = np.isnan(y)
    terms = pinball_terms(y[..., None], forecast, probabilities)
    total = np.where(missing[..., None], 0.0, terms).sum()
    loss = 2 * total / len(probabilities)
    size = float(np.nansum(np.abs(y)))
    all_missing = bool(missing.all())
    return relative_to(loss, size, all_missing)


def relative_to(total: float, size: float, all_missing: bool = False) -> float:
    """``total / size`` of a sum that is weighed by ``sum |y|``; NaN with a warning where that is 0.

    Example:
        >>> relative_to(3.0, 2.0)
        1.5
    """
    if size == 0:
        if not all_missing:
            warn("wql is undefined (nan): every y is 0")
        return float("nan")
    return float(total / size)


def crps(
    y: ArrayLike,
    forecast: ArrayLike,
    *,
    quantiles: Sequence[float] | None = None,
    axis: Axis = None,
) -> Score:
    """Continuous ranked probability score, from S sample paths or from Q quantiles.

    From samples it is exact for their empirical distribution,
    ``mean |x_s - y| - 1/2 mean |x_s - x_r|`` over all pairs (s, r). From quantiles it is
    ``2 mean_q pinball_q``, which nears the integral as evenly spaced quantiles grow many.

    Args:
        y: Truth, any shape.
        forecast: Samples, or forecasts of the quantiles, on a last axis after the shape of ``y``.
        quantiles: ``None`` where the last axis holds samples.
        axis: Axes of ``y`` averaged.

    Raises:
        ValueError: If shapes differ or a quantile is out of range.

    Example:
        Samples 0 and 2 around y = 1: mean distance 1, half the mean of 0, 2, 2, 0 is 0.5. From the
        quantiles 0.25 and 0.75: pinball 0.25 each, doubled:

        >>> crps([1.0], [[0.0, 2.0]])
        0.5
        >>> crps([1.0], [[0.0, 2.0]], quantiles=[0.25, 0.75])
        0.5
    """
    if quantiles is not None:
        y, forecast, probabilities = _spread(y, forecast, quantiles)
        terms = pinball_terms(y[..., None], forecast, probabilities)
        mean_over_quantiles = terms.mean(axis=-1)
        return _mean(2 * mean_over_quantiles, y, axis)
    y, forecast = _floats(y, forecast)
    # A number alone has no last axis of samples.
    has_samples = forecast.ndim == y.ndim + 1 and forecast.shape[-1] > 0
    if not has_samples or forecast.shape[:-1] != y.shape:
        raise ValueError(
            f"samples must have the shape of y {y.shape} and S >= 1 more; got {forecast.shape}"
        )
    n = forecast.shape[-1]
    # In sorted order the sum of |x_s - x_r| over pairs is linear: the i-th stands above i others.
    weights = 2 * np.arange(n) - n + 1
    weighted = np.sort(forecast, axis=-1) * weights
    spread = weighted.sum(axis=-1) / n**2
    errors = forecast - y[..., None]
    distance = np.abs(errors).mean(axis=-1)
    return _mean(distance - spread, y, axis)


def coverage(y: ArrayLike, lower: ArrayLike, upper: ArrayLike, *, axis: Axis = None) -> Score:
    """Share of truths inside the interval, ``mean [lower <= y <= upper]``: two-sided, bounds
    included.

    Args:
        y: Truth, any shape.
        lower: Lower bounds, same shape.
        upper: Upper bounds, same shape.
        axis: Axes averaged.

    Raises:
        ValueError: If shapes differ.

    Example:
        Inside, on the bound, above, below:

        >>> coverage([1.0, 2.0, 3.0, 4.0], [0.0, 2.0, 0.0, 5.0], [2.0, 9.0, 2.0, 9.0])
        0.5
    """
    y, lower = _pair(y, lower)
    _, upper = _pair(y, upper)
    is_inside = (y >= lower) & (y <= upper)
    has_no_bound = np.isnan(lower) | np.isnan(upper)
    terms = np.where(has_no_bound, np.nan, is_inside.astype(np.float64))
    return _mean(terms, y, axis)


def winkler(
    y: ArrayLike, lower: ArrayLike, upper: ArrayLike, *, level: float, axis: Axis = None
) -> Score:
    """Interval score, ``mean (u - l) + 2/a (l - y)+ + 2/a (y - u)+`` with ``a = 1 - level/100``.

    Args:
        y: Truth, any shape.
        lower: Lower bounds, same shape.
        upper: Upper bounds, same shape.
        level: Central level of the interval in percent.
        axis: Axes averaged.

    Raises:
        ValueError: If shapes differ or the level is not in percent.

    Example:
        Level 80: width 2 inside, and width 2 + 10 * 1 for the truth 1 above:

        >>> winkler([1.0, 3.0], [0.0, 0.0], [2.0, 2.0], level=80)
        7.0
    """
    check_request([level], None)
    y, lower = _pair(y, lower)
    _, upper = _pair(y, upper)
    below = np.maximum(lower - y, 0)
    above = np.maximum(y - upper, 0)
    distance = below + above
    width = upper - lower
    penalty = distance * 200 / (100 - level)  # 2/a, with the level in percent
    return _mean(width + penalty, y, axis)


_SCORES = (
    mae,
    mse,
    rmse,
    bias,
    smape,
    mase,
    rmsse,
    pinball,
    wql,
    crps,
    coverage,
    winkler,
)
METRICS: MappingProxyType[str, Callable[..., Score]] = MappingProxyType(
    {score.__name__: score for score in _SCORES}
)

# Those that need a truth and a point forecast, no more.
POINT_METRICS = tuple(
    name
    for name, metric in METRICS.items()
    if [*inspect.signature(metric).parameters] == ["y", "forecast", "axis"]
)


def _floats(*arrays: ArrayLike) -> Iterator[np.ndarray]:
    return (np.asarray(values, dtype=np.float64) for values in arrays)


def _pair(y: ArrayLike, forecast: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    y, forecast = _floats(y, forecast)
    if y.shape != forecast.shape:
        raise ValueError(
            f"y and forecast must have one shape; got {y.shape} and {forecast.shape}: select or"
            " reshape first"
        )
    return y, forecast


def _spread(
    y: ArrayLike, forecast: ArrayLike, quantiles: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, forecast = _floats(y, forecast)
    probabilities = _check_quantiles(quantiles)
    n_quantiles = len(probabilities)
    shape = (*y.shape, n_quantiles)
    if forecast.shape != shape:
        raise ValueError(
            f"quantile forecasts must have shape {shape}: y, then one for each of"
            f" {n_quantiles} quantiles; got {forecast.shape}"
        )
    return y, forecast, probabilities


def _check_quantiles(quantiles: Sequence[float]) -> np.ndarray:
    probabilities = np.asarray(quantiles, dtype=np.float64)
    in_range = (probabilities > 0) & (probabilities < 1)
    is_list = probabilities.ndim == 1 and probabilities.size > 0
    if not is_list or not in_range.all():
        raise ValueError(f"quantiles lie strictly between 0 and 1, at least one; got {quantiles!r}")
    return probabilities


def _mean(terms: np.ndarray, y: np.ndarray, axis: Axis) -> Score:
    """Mean of the terms whose ``y`` is known."""
    missing = np.isnan(y)
    count = np.sum(~missing, axis=axis)
    observed_terms = np.where(missing, 0.0, terms)
    total = np.sum(observed_terms, axis=axis)
    return _plain(ratios(total, count))


def ratios(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """``total / count`` element by element, NaN where nothing was counted."""
    # The division leaves what is in the array there.
    undefined = np.full(total.shape, np.nan)
    return np.divide(total, count, out=undefined, where=count > 0)


def _plain(value: Any) -> Score:
    """A number as Python's own, anything else as an array."""
    if np.ndim(value) == 0:
        return float(value)
    return np.asarray(value)
