"""How wide is an interval, given the errors of the past? No forecaster."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tsattn.data.frames import Panel
from tsattn.evaluate.rolling import ratios
from tsattn.levels import check_request, quantile_to_level

# An adaptive width doubles for each so much that its share of misses lies below what the errors can
# hold, and not more often than floats can bear.
_DOUBLING = 0.05
_MOST_DOUBLINGS = 64


@dataclass(frozen=True, eq=False)
class StepIntervals:
    """Split conformal intervals, one width per step ahead and channel.

    Args:
        errors: Absolute calibration errors, ``[n, F, C]``, in any order, NaN where a truth was
            missing. They are kept sorted along n.

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
        if errors.ndim != 3 or (errors < 0).any() or np.isinf(errors).any():
            raise ValueError(
                f"calibration errors are absolute and finite, [n, F, C]; got shape {errors.shape}:"
                " pass |y - forecast|"
            )
        object.__setattr__(self, "errors", np.sort(errors, axis=0))
        object.__setattr__(self, "_counts", np.sum(~np.isnan(errors), axis=0))

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
        n: np.ndarray = vars(self)["_counts"]
        # Rounded, or dust would lift 99.9% of 1000 from the 999th error to the 1000th.
        k = np.ceil(np.round((n + 1) * level / 100, 9)).astype(np.int64)
        if (k > n).any():
            fewest = int(n.min())
            least = math.ceil(round(level / (100 - level), 9))
            raise ValueError(
                f"level {level} needs at least {least} calibration errors at every step; got n ="
                f" {fewest}: use more calibration windows"
                + f", or a level of at most {100 * fewest / (fewest + 1):.4g}"
                * (fewest > 0)
            )
        return np.take_along_axis(self.errors, k[None] - 1, axis=0)[0]

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
            ValueError: If a quantile is out of range or asks for more errors than there are.
        """
        factor = np.asarray(scale, dtype=np.float64)
        factor = factor[:, None, :] if factor.ndim else factor
        bounds = np.empty((*point.shape, len(quantiles)))
        for i, q in enumerate(quantiles):
            if q == 0.5:
                bounds[..., i] = point
                continue
            level = quantile_to_level(float(q))
            bounds[..., i] = point + math.copysign(1.0, q - 0.5) * self._widths(level) * factor
        return bounds


def scale_of(x: np.ndarray) -> np.ndarray:
    """Size of the movements in each window, ``[B, C]`` from ``x [B, T, C]``, always positive.

    The standard deviation over the values that are known along T; for a constant window its
    absolute value; 1 where that is 0 as well.

    Example:
        >>> scale_of(np.array([[[1.0], [3.0]], [[5.0], [5.0]], [[0.0], [0.0]]])).ravel()
        array([1., 5., 1.])
    """
    known = ~np.isnan(x)
    deviation = x.std(axis=1, where=known)
    size = np.abs(x).max(axis=1, where=known, initial=0.0)
    # A constant window leaves rounding dust, not zero.
    return np.where(deviation > 1e-12 * size, deviation, np.where(size > 0, size, 1.0))


def step_of(x: np.ndarray) -> np.ndarray:
    """Median step from one row to the next in each window, ``[B, C]`` from ``x [B, T, C]``, always
    positive.

    Missing values are left out. Where most steps are 0 it is their mean, without any the largest
    absolute value, and 1 where that is 0 as well.

    Example:
        >>> errors = [[[1.0], [3.0], [2.0]], [[0.0], [0.0], [6.0]], [[0.0], [0.0], [0.0]]]
        >>> step_of(np.array(errors)).ravel()
        array([1.5, 3. , 1. ])
    """
    steps = np.abs(np.diff(x, axis=1))
    steps = np.where(
        np.isfinite(steps).any(axis=1, keepdims=True), steps, 0.0
    )  # no median of nothing
    size = np.fmax.reduce(np.abs(x), axis=1, initial=0.0)
    least = 1e-12 * size  # a constant window leaves rounding dust, not zero
    if steps.shape[1]:
        median = np.nanmedian(steps, axis=1)
        mean = np.nanmean(steps, axis=1)
        size = np.where(median > least, median, np.where(mean > least, mean, size))
    return np.where(size > 0, size, 1.0)


@dataclass(frozen=True, eq=False)
class SeriesScales:
    """Size of the errors of each series, so that series of different size may share them.

    The size of a series is its mean absolute error, drawn to what the steps of its history suggest:
    as much as the means would differ from these by the chance of few windows, and not at all where
    they differ far more.

    Attributes:
        scales: Size of each series, ``[N, C]``, positive.
        left_out: The same without each of its windows, ``[N, W, C]``: what a window's own error is
            to be held against, for the error to come is not part of the size either. One series has
            the same size throughout. NaN for a series without errors beside others that have some:
            those of a dead series are no share of theirs.
        per_step: Typical size of an error beside a step of the history, ``[C]``; 1 where no error
            tells.
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
            overlap: Share of each window that its neighbours do not judge as well.
        """
        known = ~np.isnan(errors)
        count = known.sum(axis=2)  # [N, W, C]
        total = np.where(known, errors, 0.0).sum(axis=2)
        mean = ratios(total.sum(axis=1), count.sum(axis=1))
        told = mean > 1e-9 * steps  # without dust
        ratio = np.log(np.where(told, mean / steps, 1.0))
        n_told = np.maximum(told.sum(axis=0), 1)
        centre = ratio.sum(axis=0) / n_told
        spread = np.square(np.where(told, ratio - centre, 0.0)).sum(axis=0) / np.maximum(
            n_told - 1, 1
        )
        noise = _noise(ratios(total, count), np.where(told, mean, np.nan), overlap)
        trust = np.clip(1 - noise / np.maximum(spread, 1e-12), 0.0, 1.0)
        trust[n_told == 1] = 1.0

        def drawn(own: np.ndarray, beside: np.ndarray) -> np.ndarray:
            gap = np.log(np.where(own > 0, own / beside, np.exp(centre))) - centre
            size: np.ndarray = beside * np.exp(centre + trust * gap)
            return size

        scales = drawn(np.where(told, mean, 0.0), steps)
        left_out = np.broadcast_to(scales[:, None], total.shape)
        if len(errors) > 1:
            others = ratios(
                total.sum(axis=1, keepdims=True) - total, count.sum(axis=1, keepdims=True) - count
            )
            others = np.maximum(
                others, mean[:, None] / errors.shape[1]
            )  # a lone error is no outlier without bound
            left_out = drawn(np.where(told[:, None], np.nan_to_num(others), 0.0), steps[:, None])
            left_out = np.where(told[:, None] | ~told.any(axis=0), left_out, np.nan)
        per_step = np.where(told, mean / steps, 0.0).sum(axis=0) / n_told
        return cls(scales, left_out, np.where(per_step > 0, per_step, 1.0))


@dataclass(frozen=True, eq=False)
class KnownScales:
    """Sizes of the errors of series that are known by their ids.

    Args:
        ids: Of the N series.
        scales: Size of each, ``[N, C]``, as in :class:`SeriesScales`.
        per_step: Typical size, ``[C]``, likewise.
    """

    ids: pd.Index
    scales: np.ndarray
    per_step: np.ndarray

    def places(self, panel: Panel, ends: np.ndarray) -> np.ndarray:
        """Which of the N series the windows before rows ``ends [B]`` of a panel are of, ``[B]``; -1
        for another.
        """
        owners = np.searchsorted(panel.starts, ends - 1, side="right") - 1
        known: np.ndarray = self.ids.get_indexer(pd.Index(panel.ids[owners]))
        return known

    def at(self, places: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Sizes of the series at ``places [B]``, ``[B, C]``; ``other``, which may be broadcast, for
        those at -1.
        """
        return np.where(places[:, None] >= 0, self.scales[places], other)


def _noise(windows: np.ndarray, mean: np.ndarray, overlap: float) -> np.ndarray:
    """Variance of the logarithm of a series' mean error ``[N, C]`` by the chance of its few
    windows, ``[C]``.

    The mean errors of these are ``windows [N, W, C]``; ``overlap`` is that of
    :meth:`SeriesScales.of`.
    """
    gaps = np.square(windows / mean[:, None] - 1)
    seen = ~np.isnan(gaps)
    free = np.maximum(seen.sum(axis=1) - 1, 0)  # [N, C]
    each = ratios(np.where(seen, gaps, 0.0).sum(axis=1), free) / (np.maximum(free, 1) * overlap)
    told = ~np.isnan(each)
    return np.where(
        told.any(axis=0), ratios(np.where(told, each, 0.0).sum(axis=0), told.sum(axis=0)), np.inf
    )


class AdaptiveIntervals:
    """Half widths that follow the misses seen so far, one level a step ahead and channel (Gibbs and
    Candès, 2021).

    The share of misses aimed at starts from ``alpha = 1 - level / 100`` and moves with what
    happened, ``alpha_t+1 = alpha_t + gamma * (alpha - missed_t)``: too many misses lower it and so
    widen the intervals. The width is the ``ceil((n + 1) (1 - alpha_t))``-th smallest of the n
    calibration errors, 0 where that is below the first. Where it is beyond the last, theory asks
    for an unbounded interval; here the largest error known so far is doubled for each 0.05 that
    ``alpha_t`` lies below ``1 / (n + 1)``. That grows without bound as well, so on a stream of
    bounded errors the share of misses over T updates is within a constant over ``gamma * T`` of the
    one aimed at, whatever the stream does.

    Args:
        intervals: Calibration errors.
        levels: Central levels in percent, ascending.
        gamma: How fast the levels follow, above 0.

    Attributes:
        alphas: Shares of misses aimed at now, ``[L, F, C]``.

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
            intervals.widths(level)  # refuses what the errors do not suffice for
        self.levels = tuple(levels)
        self.gamma = gamma
        self._errors = intervals.errors
        self._count = np.sum(~np.isnan(intervals.errors), axis=0)
        self._largest = np.nanmax(intervals.errors, axis=0)
        self._aims = 1 - np.array(self.levels)[:, None, None] / 100
        self.alphas = np.broadcast_to(self._aims, (len(self.levels), *self._count.shape)).copy()

    def widths(self) -> np.ndarray:
        """Half widths now, ``[L, F, C]``, in the unit of the errors; a higher level is never
        narrower.
        """
        n = self._count
        # Rounded as in StepIntervals.widths, so that both give the same rank.
        k = np.ceil(np.round((n + 1) * (1 - self.alphas), 9)).astype(np.int64)
        found = np.take_along_axis(self._errors, np.clip(k, 1, n) - 1, axis=0)
        beyond = np.clip((1 / (n + 1) - self.alphas) / _DOUBLING, 0.0, _MOST_DOUBLINGS)
        widths = np.where(k > n, self._largest * 2.0**beyond, np.where(k < 1, 0.0, found))
        return np.maximum.accumulate(widths, axis=0)

    def update(self, errors: np.ndarray, widths: np.ndarray | None = None) -> None:
        """Follow the errors of one moment.

        Args:
            errors: Absolute errors of the B windows (series) of one moment, ``[B, F, C]``, NaN
                where the truth is not known (yet); together they count as one miss in part.
            widths: Half widths that these forecasts were given, ``[L, F, C]``; ``None`` takes
                today's.
        """
        self.follow(*tally_misses(errors, self.widths() if widths is None else widths))

    def follow(self, missed: np.ndarray, largest: np.ndarray) -> None:
        """Follow shares of misses ``[L, F, C]`` and the largest errors ``[F, C]``, NaN where
        nothing is known.
        """
        known = ~np.isnan(missed)
        self.alphas = self.alphas + self.gamma * np.where(known, self._aims - missed, 0.0)
        self._largest = np.fmax(self._largest, largest)


def tally_misses(errors: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of misses ``[L, F, C]`` and largest error ``[F, C]`` of ``errors [B, F, C]``, NaN where
    all are NaN.
    """
    known = ~np.isnan(errors)
    count = known.sum(axis=0)
    missed = (errors > widths[:, None]).sum(axis=1)  # NaN is no miss
    return ratios(missed, count), np.where(
        count > 0, np.where(known, errors, 0.0).max(axis=0), np.nan
    )


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
    sides = [
        point if level is None else point + side * widths[level] * scale[:, None, :]
        for level, side in places
    ]
    return np.stack(sides, axis=-1)
