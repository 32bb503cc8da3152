"""Widths of prediction intervals from past errors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from tsattn.data.panel import Panel
from tsattn.evaluate.metrics import ratios
from tsattn.levels import check_request, quantile_to_level

# An adaptive width beyond the largest error doubles each time its share of misses falls by this.
_DOUBLING_SHARE = 0.05
# More doublings could overflow.
_MOST_DOUBLINGS = 64
# Decimals of a rank or of a share of errors that are no rounding errors.
_RANK_DECIMALS = 9
# A movement below this multiple of the largest value is a rounding error.
_ROUNDING = 1e-12
# An error below this multiple of the steps of the history is a rounding error.
_ERROR_ROUNDING = 1e-9
# Least variance between series by which the noise is divided.
_LEAST_SPREAD = 1e-12


@dataclass(frozen=True, eq=False)
class StepIntervals:
    """Split conformal intervals, one width per step ahead and channel.

    Args:
        errors: Absolute calibration errors, ``[n, F, C]``, in any order, NaN for a missing truth.
            The attribute is sorted along n.

    Raises:
        ValueError: If the shape is not ``[n, F, C]``, or an error is negative or infinite.

    Example:
        Nine errors 1 to 9; level 80 takes the ceil(10 * 0.8) = 8th:

        >>> intervals = StepIntervals(np.arange(1.0, 10.0).reshape(9, 1, 1))
        >>> intervals.widths(80)
        array([[8.]])
        >>> intervals.apply(np.full((1, 1, 1), 100.0), (0.1, 0.5, 0.9)).ravel()
        array([ 92., 100., 108.])
    """

    errors: np.ndarray

    def __post_init__(self) -> None:
        errors = np.asarray(self.errors, dtype=np.float64)
        has_wrong_values = (errors < 0).any() or np.isinf(errors).any()
        if errors.ndim != 3 or has_wrong_values:
            raise ValueError(
                f"calibration errors are absolute and finite, [n, F, C]; got shape {errors.shape}:"
                " pass |y - forecast|"
            )
        # The class is frozen.
        object.__setattr__(self, "errors", np.sort(errors, axis=0))

    @cached_property
    def counts(self) -> np.ndarray:
        """Number of errors of each step and channel, ``[F, C]``."""
        return np.sum(~np.isnan(self.errors), axis=0)

    def widths(self, level: float) -> np.ndarray:
        """Half the width of the interval of one central level, ``[F, C]``.

        The ``ceil((n + 1) level / 100)``-th smallest of n errors; n counts the errors of that step
        and channel.

        Raises:
            ValueError: If n is too small for the level.
        """
        check_request([level], None)
        return self._widths(level)

    def _widths(self, level: float) -> np.ndarray:
        n = self.counts
        # The rank of split conformal prediction: the least that covers the level among n + 1.
        k = _round_up((n + 1) * level / 100)
        if (k > n).any():
            fewest = int(n.min())
            odds = level / (100 - level)
            least = math.ceil(round(odds, _RANK_DECIMALS))
            remedy = "use more calibration windows"
            if fewest > 0:
                # Two decimals, rounded down: a higher level would be refused again.
                highest = 10_000 * fewest // (fewest + 1) / 100
                remedy += f", or a level of at most {highest:g}"
            raise ValueError(
                f"level {level} needs at least {least} calibration errors at every step; got n ="
                f" {fewest}: {remedy}"
            )
        # The k-th least error of each step.
        errors_of_rank = np.take_along_axis(self.errors, k[None] - 1, axis=0)
        return errors_of_rank[0]

    def supported(self, quantiles: Sequence[float]) -> tuple[float, ...]:
        """The quantiles for which there are enough errors."""
        n = int(self.counts.min())
        most = n / (n + 1) + 10.0**-_RANK_DECIMALS
        # The interval between the quantiles q and 1 - q holds this share.
        return tuple(q for q in quantiles if abs(2 * q - 1) <= most)

    def apply(
        self, point: np.ndarray, quantiles: Sequence[float], scale: np.ndarray | float = 1.0
    ) -> np.ndarray:
        """Quantiles around point forecasts, symmetric and monotone.

        Args:
            point: ``[B, F, C]``.
            quantiles: 0.1 and 0.9 are the bounds of level 80, 0.5 is the point.
            scale: Factor of the widths, one number or ``[B, C]``.

        Returns:
            ``[B, F, C, Q]``.

        Raises:
            ValueError: If a quantile is out of range or needs more errors than there are.
        """
        factor = np.asarray(scale, dtype=np.float64)
        if factor.ndim:
            factor = factor[:, None, :]
        bounds = np.empty((*point.shape, len(quantiles)))
        for i, q in enumerate(quantiles):
            if q == 0.5:
                bounds[..., i] = point
                continue
            level = quantile_to_level(float(q))
            width = math.copysign(1.0, q - 0.5) * self._widths(level)
            distance = width * factor
            bounds[..., i] = point + distance
        return bounds


def _round_up(ranks: np.ndarray) -> np.ndarray:
    """Ranks as whole numbers, none below what it was."""
    # Without the decimals, 99.9% of 1000 could be the 1000th error instead of the 999th.
    return np.ceil(np.round(ranks, _RANK_DECIMALS)).astype(np.int64)


def scale_of(x: np.ndarray) -> np.ndarray:
    """Size of the movements in each window, ``[B, C]`` from ``x [B, T, C]``, always positive.

    The standard deviation along T without missing values; the absolute value of a constant window;
    1 if that is 0.

    Example:
        >>> scale_of(np.array([[[1.0], [3.0]], [[5.0], [5.0]], [[0.0], [0.0]]])).ravel()
        array([1., 5., 1.])
    """
    observed = ~np.isnan(x)
    deviation = x.std(axis=1, where=observed)
    magnitude = np.abs(x)
    size = magnitude.max(axis=1, where=observed, initial=0.0)
    fallback = np.where(size > 0, size, 1.0)
    # A constant window may have a rounding error as deviation.
    varies = deviation > _ROUNDING * size
    return np.where(varies, deviation, fallback)


def step_of(x: np.ndarray) -> np.ndarray:
    """Median step from one row to the next in each window, ``[B, C]`` from ``x [B, T, C]``, always
    positive.

    Missing values are left out. If most steps are 0, the result is their mean; if all are, the
    largest absolute value; if that is 0, 1.

    Example:
        >>> errors = [[[1.0], [3.0], [2.0]], [[0.0], [0.0], [6.0]], [[0.0], [0.0], [0.0]]]
        >>> step_of(np.array(errors)).ravel()
        array([1.5, 3. , 1. ])
    """
    steps = np.abs(np.diff(x, axis=1))
    # The median of NaN alone would warn.
    has_step = np.isfinite(steps).any(axis=1, keepdims=True)
    steps = np.where(has_step, steps, 0.0)
    magnitude = np.abs(x)
    size = np.fmax.reduce(magnitude, axis=1, initial=0.0)
    least = _ROUNDING * size
    if steps.shape[1]:
        # The median of a series that rarely moves is zero, its mean is not.
        median = np.nanmedian(steps, axis=1)
        mean = np.nanmean(steps, axis=1)
        fallback = np.where(mean > least, mean, size)
        size = np.where(median > least, median, fallback)
    return np.where(size > 0, size, 1.0)


@dataclass(frozen=True, eq=False)
class SeriesScales:
    """Size of the errors of each series, so that large and small series can share their errors.

    The size of a series is its mean absolute error. It is shrunk towards the median absolute change
    from row to row of its history, times a factor that all series share. The fewer the windows, and
    the less the series differ from this rule, the stronger is the shrinkage.

    Attributes:
        scales: Size of each series, ``[N, C]``, positive.
        left_out: Size without the errors of one window, ``[N, W, C]``. The errors of the window are
            divided by it, because the size does not contain a future error either. A single series
            has the same size for all windows. NaN for a series without errors if others have some.
        per_step: Typical ratio of an error to a change of the history, ``[C]``; 1 without errors.
    """

    scales: np.ndarray
    left_out: np.ndarray
    per_step: np.ndarray

    @classmethod
    def of(cls, errors: np.ndarray, steps: np.ndarray, overlap: float = 1.0) -> "SeriesScales":
        """Sizes from calibration errors.

        Args:
            errors: Absolute errors, ``[N, W, F, C]``, NaN where a truth was missing.
            steps: Steps in the history of each series, as :func:`step_of` gives them, ``[N, C]``.
            overlap: Share of the rows of a window that are in no neighbouring window.
        """
        observed = ~np.isnan(errors)
        count = observed.sum(axis=2)  # [N, W, C]
        total = np.where(observed, errors, 0.0).sum(axis=2)  # [N, W, C]
        # Mean error of each series, [N, C].
        series_total = total.sum(axis=1)
        series_count = count.sum(axis=1)
        mean = ratios(series_total, series_count)
        has_errors = mean > _ERROR_ROUNDING * steps
        step_ratio = mean / steps
        known_mean = np.where(has_errors, mean, np.nan)
        window_means = ratios(total, count)
        noise = _noise(window_means, known_mean, overlap)
        centre, weight = _shrinkage(step_ratio, has_errors, noise)
        size = np.where(has_errors, mean, 0.0)
        scales = steps * _shrunk(size / steps, centre, weight)
        left_out = np.broadcast_to(scales[:, None], total.shape)
        if len(errors) > 1:
            other_mean = _means_without_window(total, count, mean)
            other_mean = np.where(has_errors[:, None], other_mean, 0.0)
            window_steps = steps[:, None]
            left_out = window_steps * _shrunk(other_mean / window_steps, centre, weight)
            # A series without errors counts only where no series has any.
            none_has_errors = ~has_errors.any(axis=0)
            valid = has_errors[:, None] | none_has_errors
            left_out = np.where(valid, left_out, np.nan)
        step_ratios = np.where(has_errors, step_ratio, 0.0)
        n_series = np.maximum(has_errors.sum(axis=0), 1)
        per_step = step_ratios.sum(axis=0) / n_series
        per_step = np.where(per_step > 0, per_step, 1.0)
        return cls(scales, left_out, per_step)


@dataclass(frozen=True, eq=False)
class KnownScales:
    """Sizes of the errors of series, found by the ids of the series.

    Args:
        ids: Ids of the N series.
        scales: Sizes, ``[N, C]``, as in :class:`SeriesScales`.
        per_step: Typical size, ``[C]``, as in :class:`SeriesScales`.
    """

    ids: pd.Index
    scales: np.ndarray
    per_step: np.ndarray

    def places(self, panel: Panel, ends: np.ndarray) -> np.ndarray:
        """The number of the series that each window before rows ``ends [B]`` of a panel belongs to,
        ``[B]``; -1 for other series.
        """
        owners = panel.owners(ends)
        window_ids = pd.Index(panel.ids[owners])
        return self.ids.get_indexer(window_ids)

    def at(self, places: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Sizes of the series at ``places [B]``, ``[B, C]``; ``other``, which may be broadcast, at
        place -1.
        """
        has_place = places[:, None] >= 0
        return np.where(has_place, self.scales[places], other)

    def of(self, ids: pd.Index | None, n_windows: int) -> np.ndarray:
        """Sizes of the series with ``ids [B]``, ``[B, C]``; the typical size for other series and
        without ids.
        """
        if ids is None:
            shape = (n_windows, len(self.per_step))
            return np.broadcast_to(self.per_step, shape)
        places = self.ids.get_indexer(ids)
        return self.at(places, self.per_step)


def _shrinkage(
    step_ratio: np.ndarray, has_errors: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where sizes of errors are shrunk to, and how much of them remains.

    Args:
        step_ratio: Mean error of each series by its step, ``[N, C]``.
        has_errors: Whether a series has errors at all, ``[N, C]``.
        noise: Variance of the estimates, ``[C]``.

    Returns:
        The mean logarithm of the ratios and the share of their variance that is no noise, ``[C]``.
    """
    log_ratio = np.log(np.where(has_errors, step_ratio, 1.0))
    n_series = np.maximum(has_errors.sum(axis=0), 1)
    centre = log_ratio.sum(axis=0) / n_series
    # Variance between the series.
    deviation = np.where(has_errors, log_ratio - centre, 0.0)
    squares = np.square(deviation).sum(axis=0)
    n_degrees = np.maximum(n_series - 1, 1)
    spread = squares / n_degrees
    divisor = np.maximum(spread, _LEAST_SPREAD)
    weight = np.clip(1 - noise / divisor, 0.0, 1.0)
    # One series has no others towards which its size could be shrunk.
    weight[n_series == 1] = 1.0
    return centre, weight


def _shrunk(step_ratio: np.ndarray, centre: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Ratios of errors to steps, ``[N, ..., C]``, moved to the centre; 0 stands for the centre."""
    log_ratio = np.log(np.where(step_ratio > 0, step_ratio, np.exp(centre)))
    return np.exp(centre + weight * (log_ratio - centre))


def _means_without_window(total: np.ndarray, count: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Mean error of each series without one window, ``[N, W, C]``; 0 where no other has errors.

    Args:
        total: Sum of the errors of each window, ``[N, W, C]``.
        count: Their number, ``[N, W, C]``.
        mean: Mean error of each series, ``[N, C]``.
    """
    other_total = total.sum(axis=1, keepdims=True) - total
    other_count = count.sum(axis=1, keepdims=True) - count
    # A single error would otherwise be divided by almost nothing.
    least_mean = mean[:, None] / total.shape[1]
    return np.nan_to_num(np.maximum(ratios(other_total, other_count), least_mean))


def _noise(windows: np.ndarray, mean: np.ndarray, overlap: float) -> np.ndarray:
    """Sampling variance of the logarithm of the mean error of a series, ``[C]``.

    Args:
        windows: Mean error of each window, ``[N, W, C]``.
        mean: Mean error of each series, ``[N, C]``.
        overlap: As for :meth:`SeriesScales.of`.
    """
    # Relative deviations of the windows from the mean of their series.
    deviations = windows / mean[:, None] - 1
    squares = np.square(deviations)
    observed = ~np.isnan(squares)
    known_squares = np.where(observed, squares, 0.0)
    n_observed = observed.sum(axis=1)
    degrees = np.maximum(n_observed - 1, 0)  # of freedom, [N, C]
    variance = ratios(known_squares.sum(axis=1), degrees)
    # Overlapping windows count as fewer independent ones.
    n_independent = np.maximum(degrees, 1) * overlap
    variance = variance / n_independent
    has_variance = ~np.isnan(variance)
    known_variance = np.where(has_variance, variance, 0.0)
    total = known_variance.sum(axis=0)
    n_series = has_variance.sum(axis=0)
    mean_variance = ratios(total, n_series)
    # Without any estimate all of the variance may be noise.
    return np.where(has_variance.any(axis=0), mean_variance, np.inf)


class AdaptiveIntervals:
    """Half widths that adapt to the share of misses (Gibbs and Candès, 2021).

    Every level, step ahead and channel has a target share of misses. It starts from
    ``alpha = 1 - level / 100`` and moves by ``alpha_t+1 = alpha_t + gamma * (alpha - missed_t)``:
    too many misses lower it, which widens the intervals. The width is the
    ``ceil((n + 1) (1 - alpha_t))``-th smallest of the n calibration errors, or 0 if that rank is
    below the first. If the rank is beyond the last, the theory has an unbounded interval; here the
    largest error so far is doubled for each 0.05 that ``alpha_t`` lies below ``1 / (n + 1)``. The
    width is then not bounded either. For any stream of bounded errors, the share of misses over T
    updates therefore differs from the target by at most a constant over ``gamma * T``.

    Args:
        intervals: Calibration errors.
        levels: Central levels in percent, ascending.
        gamma: Step size of the target shares, above 0.

    Attributes:
        alphas: Current target shares of misses, ``[L, F, C]``.

    Raises:
        ValueError: If there are too few calibration errors for a level at the start.

    Example:
        Aiming at 20% misses, a miss lowers the share by 0.1 * 0.8 and a hit raises it by 0.1 * 0.2:

        >>> errors = np.arange(1.0, 10.0).reshape(9, 1, 1)
        >>> adaptive = AdaptiveIntervals(StepIntervals(errors), (80,), 0.1)
        >>> adaptive.widths().item()
        8.0
        >>> adaptive.update(np.array([[[8.5]]]))
        >>> round(adaptive.alphas.item(), 6), adaptive.widths().item()
        (0.12, 9.0)
        >>> adaptive.update(np.array([[[1.0]]]))
        >>> round(adaptive.alphas.item(), 6)
        0.14
    """

    def __init__(self, intervals: StepIntervals, levels: Sequence[float], gamma: float) -> None:
        for level in levels:
            # Raises the error if there are too few.
            intervals.widths(level)
        self.levels = tuple(levels)
        self.gamma = gamma
        errors = intervals.errors
        self._errors = errors
        self._count = intervals.counts
        self._largest = np.nanmax(errors, axis=0)
        shares = np.array(self.levels)[:, None, None] / 100
        self._aims = 1 - shares
        shape = (len(self.levels), *self._count.shape)
        self.alphas = np.broadcast_to(self._aims, shape).copy()

    def widths(self) -> np.ndarray:
        """Current half widths, ``[L, F, C]``, in the unit of the errors; a higher level is never
        narrower.
        """
        n = self._count
        k = _round_up((n + 1) * (1 - self.alphas))
        places = np.clip(k, 1, n) - 1
        widths = np.take_along_axis(self._errors, places, axis=0)
        widths = np.where(k < 1, 0.0, widths)
        # Beyond the largest error the width doubles with every further 5% of the level.
        excess = 1 / (n + 1) - self.alphas
        n_doublings = np.clip(excess / _DOUBLING_SHARE, 0.0, _MOST_DOUBLINGS)
        doubled = self._largest * 2.0**n_doublings
        widths = np.where(k > n, doubled, widths)
        # A wider level is never narrower.
        return np.maximum.accumulate(widths, axis=0)

    def update(self, errors: np.ndarray, widths: np.ndarray | None = None) -> None:
        """Update the target shares by the errors at one stamp.

        Args:
            errors: Absolute errors of the B windows (series) at one stamp, ``[B, F, C]``, NaN for a
                truth that is missing (so far). Their share of misses counts as one observation.
            widths: Half widths of these forecasts, ``[L, F, C]``; ``None`` takes the current ones.
        """
        if widths is None:
            widths = self.widths()
        missed, largest = tally_misses(errors, widths)
        self.follow(missed, largest)

    def follow(self, missed: np.ndarray, largest: np.ndarray) -> None:
        """Update by shares of misses ``[L, F, C]`` and the largest errors ``[F, C]``, NaN without
        errors.
        """
        observed = ~np.isnan(missed)
        excess = np.where(observed, self._aims - missed, 0.0)
        self.alphas = self.alphas + self.gamma * excess
        self._largest = np.fmax(self._largest, largest)


def can_be_count(values: np.ndarray) -> np.ndarray:
    """Where values are whole and not negative, or missing."""
    is_whole = values == np.rint(values)
    is_count = (values >= 0) & is_whole
    return is_count | np.isnan(values)


def factor_needed(gap: np.ndarray, below: np.ndarray, above: np.ndarray, coverage: float) -> float:
    """Least factor of the width of a band around points with which it holds a share of the truths.

    Args:
        gap: Truths less points, ``[n]``, all of them known.
        below: Distance of the lower bound of each point, ``[n]``.
        above: Distance of the upper bound, ``[n]``.
        coverage: The share.

    Example:
        >>> gap = np.array([1.0, -3.0, 0.0, 2.0])
        >>> factor_needed(gap, below=np.ones(4), above=2 * np.ones(4), coverage=0.5)
        1.0
    """
    room = np.where(gap > 0, above, below)
    # A band without a width on one side holds a truth there by no factor.
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = np.abs(gap) / room
    # A truth at the point needs no width, even if the band has none.
    needed = np.where(gap == 0, 0.0, factors)
    return float(np.quantile(needed, coverage, method="higher"))


def tally_misses(errors: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of misses ``[L, F, C]`` and largest error ``[F, C]`` of ``errors [B, F, C]``, NaN where
    all are NaN.
    """
    observed = ~np.isnan(errors)
    count = observed.sum(axis=0)
    # A comparison with NaN is false, so a missing error is no miss.
    is_missed = errors > widths[:, None]
    n_missed = is_missed.sum(axis=1)
    largest = np.where(observed, errors, 0.0).max(axis=0)
    largest = np.where(count > 0, largest, np.nan)
    return ratios(n_missed, count), largest


def bounds_around(
    point: np.ndarray,
    widths: np.ndarray,
    places: Sequence[tuple[int | None, float]],
    scale: np.ndarray,
) -> np.ndarray:
    """Quantiles ``[B, F, C, Q]`` around points ``[B, F, C]`` by half widths ``[L, F, C]`` times
    ``scale [B, C]``.

    ``places`` are the level and side of each quantile, as :meth:`AdaptiveConformal.places` gives
    them.
    """
    bounds = []
    for level, side in places:
        bound = point
        if level is not None:
            width = side * widths[level] * scale[:, None, :]
            bound = point + width
        bounds.append(bound)
    return np.stack(bounds, axis=-1)
