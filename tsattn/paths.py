"""Quantile curves: their means, and sample paths whose steps depend on one another.

A quantile curve is a forecast at K probabilities. Between them, and beyond the first and the last,
the quantile is linear in the quantile of the standard normal distribution, its *score*.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

# Scores of the past are at most this many standard deviations.
_LARGEST_SCORE = 3.5
# Candidates for the dependence of neighbouring steps, and for the part that all steps share.
_DECAYS = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.94, 0.97, 0.99])
_SHARED_PARTS = np.arange(0, 10) / 10
# The dependence that is taken where there is no past window to tell.
_USUAL_DECAY = 0.8
_USUAL_SHARED_PART = 0.1
# Windows that the usual dependence counts as.
_USUAL_WINDOWS = 4
# Windows a step that the fitted form counts as, against the correlations of the whole table.
_FORM_WINDOWS_PER_STEP = 1.0
# Windows that the dependence of the table counts as, against that of one series.
_TABLE_WINDOWS = 8
# Share of independent noise, which keeps a correlation matrix positive definite.
_NUGGET = 1e-6


def mean_weights(levels: Sequence[float]) -> np.ndarray:
    """Weights ``[K]`` with which quantiles at ascending probabilities sum to the mean of their
    curve.

    Each piece of the curve is ``a + b z`` in the score z, whose integral over the normal density is
    known.

    Example:
        >>> mean_weights((0.1, 0.5, 0.9)).round(3)
        array([0.311, 0.377, 0.311])
    """
    from scipy.special import ndtr, ndtri

    scores = ndtri(levels)
    if len(scores) == 1:
        return np.ones(1)
    # The outer pieces reach to infinity.
    inner_scores = scores[1:-1]
    ends = np.concatenate([[-np.inf], inner_scores, [np.inf]])
    # The integrals of the density, and of z times the density, over each piece.
    probability = np.diff(ndtr(ends))
    moment = -np.diff(_normal_density(ends))
    low_scores = scores[:-1]
    high_scores = scores[1:]
    width = np.diff(scores)
    weights = np.zeros(len(scores))
    low_share = high_scores * probability - moment
    high_share = moment - low_scores * probability
    weights[:-1] += low_share / width
    weights[1:] += high_share / width
    return weights


def mean_of(levels: Sequence[float], values: np.ndarray) -> np.ndarray:
    """Mean of quantile curves ``values [..., K]`` at ``levels [K]``, ``[...]``.

    The mean is not below the first quantile nor above the last one.

    Example:
        >>> float(mean_of((0.1, 0.5, 0.9), np.array([0.0, 0.0, 10.0])).round(2))
        3.11
    """
    weights = mean_weights(levels)
    mean = values @ weights
    first = values[..., 0]
    last = values[..., -1]
    return np.clip(mean, first, last)


def values_at(levels: Sequence[float], values: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Values of curves ``[..., K]`` at normal scores ``[..., S]``, ``[..., S]``."""
    from scipy.special import ndtri

    knots = ndtri(levels)
    if len(knots) == 1:
        return np.broadcast_to(values, scores.shape).copy()
    # The outer pieces go on beyond the first and the last quantile.
    piece = np.searchsorted(knots, scores, side="right") - 1
    last_piece = len(knots) - 2
    piece = np.clip(piece, 0, last_piece)
    next_piece = piece + 1
    low = np.take_along_axis(values, piece, axis=-1)
    high = np.take_along_axis(values, next_piece, axis=-1)
    low_knot = knots[piece]
    width = knots[next_piece] - low_knot
    share = (scores - low_knot) / width
    return low + share * (high - low)


def scores_of(
    levels: Sequence[float], values: np.ndarray, truth: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Normal scores of truths ``[...]`` under curves ``[..., K]``, NaN for a missing truth.

    Where several quantiles equal the truth, such as zeros, the score is drawn among theirs.

    Args:
        levels: Ascending probabilities, ``[K]``.
        values: The curves, ascending along K.
        truth: The truths.
        rng: Draws where quantiles are equal.
    """
    from scipy.special import ndtr, ndtri

    knots = ndtri(levels)
    last = len(knots) - 1
    truth_column = truth[..., None]
    n_below = (values < truth_column).sum(axis=-1)
    n_not_above = (values <= truth_column).sum(axis=-1)
    # Places of the two quantiles around the truth.
    last_left = max(last - 1, 0)
    left = np.clip(n_below - 1, 0, last_left)
    right = np.minimum(left + 1, last)
    low = _at_places(values, left)
    high = _at_places(values, right)
    width = high - low
    has_width = width > 0
    share = (truth - low) / np.where(has_width, width, 1.0)
    left_knot = knots[left]
    between = left_knot + share * (knots[right] - left_knot)
    # Equal quantiles on the same side of the truth tell only on which side it lies.
    beyond = np.where(n_below > last, _LARGEST_SCORE, -_LARGEST_SCORE)
    between = np.where(has_width, between, beyond)
    # Quantiles that equal the truth: from the first of them, or from nothing, to the last.
    is_tied = n_not_above > n_below + 1
    padded = np.array([0.0, *levels, 1.0])
    bottom = np.where(n_below == 0, 0.0, padded[n_below + 1])
    top = np.where(n_not_above > last, 1.0, padded[n_not_above])
    shares_drawn = rng.random(truth.shape)
    drawn = bottom + shares_drawn * (top - bottom)
    least = ndtr(-_LARGEST_SCORE)
    within_reach = np.clip(drawn, least, 1 - least)
    tied = ndtri(within_reach)
    between = np.clip(between, -_LARGEST_SCORE, _LARGEST_SCORE)
    scores = np.where(is_tied, tied, between)
    is_missing = np.isnan(truth)
    return np.where(is_missing, np.nan, scores)


def _at_places(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The quantile of each curve ``[..., K]`` at a place of its own, ``[...]``."""
    columns = np.take_along_axis(values, places[..., None], axis=-1)
    return columns[..., 0]


class Dependence:
    """How the steps of a forecast depend on one another.

    The correlations of the windows of a series are drawn towards those of all windows, and these
    towards the form ``c + (1 - c) d^|i - j|``: neighbouring steps are alike, and all steps share a
    part. The fewer windows there are, the stronger is the pull.

    Args:
        scores: Normal scores of the truths of past forecasts, ``[W, F]``, NaN where one is missing.
        owners: Series of each window, ``[W]``.
    """

    def __init__(self, scores: np.ndarray, owners: np.ndarray) -> None:
        self._observed = np.isfinite(scores)
        self._scores = np.where(self._observed, scores, 0.0)
        self._owners = owners
        form = _fitted_form(self._scores, self._observed)
        n_form = _FORM_WINDOWS_PER_STEP * scores.shape[1]
        self._table = self._mixed(form, slice(None), n_form)
        self._table_factor = _factor(self._table)

    def correlation(self, series: int) -> np.ndarray:
        """Correlations of the steps of a series, ``[F, F]``."""
        rows = self._owners == series
        return self._mixed(self._table, rows, _TABLE_WINDOWS)

    def draw(self, series: int, n_samples: int, rng: np.random.Generator) -> np.ndarray:
        """Normal scores of paths of a series, ``[F, S]``.

        Args:
            series: Number of the series.
            n_samples: Number of paths S.
            rng: Source of the draws.
        """
        # A series without windows depends as the whole table does.
        factor = self._table_factor
        has_windows = (self._owners == series).any()
        if has_windows:
            correlation = self.correlation(series)
            factor = _factor(correlation)
        n_steps = len(factor)
        noise = rng.standard_normal((n_steps, n_samples))
        return factor @ noise

    def _mixed(self, prior: np.ndarray, rows: Any, n_prior: float) -> np.ndarray:
        """A correlation matrix between a prior one, which counts as ``n_prior`` windows, and that
        of the windows ``rows``.
        """
        scores = self._scores[rows]
        n_observed = self._observed[rows].sum()
        size = np.square(scores).sum()
        if not size > 0:
            return prior
        products = scores.T @ scores
        # In these units the diagonal counts windows, as that of the prior does.
        to_unit = n_observed / size
        covariance = products * to_unit + n_prior * prior
        variances = np.diag(covariance)
        deviation = np.sqrt(variances)
        return covariance / np.outer(deviation, deviation)


def _factor(correlation: np.ndarray) -> np.ndarray:
    """A matrix whose product with independent normal draws has the correlations."""
    n_steps = len(correlation)
    independent = np.eye(n_steps)
    positive = (1 - _NUGGET) * correlation + _NUGGET * independent
    return np.linalg.cholesky(positive)


def _fitted_form(filled: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """The matrix ``c + (1 - c) d^|i - j|`` that is nearest to the correlations by lag."""
    n_steps = filled.shape[1]
    lags = np.arange(n_steps)
    # All forms that are tried, [parts, decays, lags].
    shared_parts = _SHARED_PARTS[:, None, None]
    powers = _DECAYS[:, None] ** lags
    forms = shared_parts + (1 - shared_parts) * powers
    usual_powers = _USUAL_DECAY**lags
    usual = _USUAL_SHARED_PART + (1 - _USUAL_SHARED_PART) * usual_powers
    products = np.empty(n_steps)
    counts = np.empty(n_steps)
    for lag in lags:
        later = slice(lag, None)
        earlier = slice(n_steps - lag)
        lagged = filled[:, later] * filled[:, earlier]
        are_observed = observed[:, later] & observed[:, earlier]
        products[lag] = lagged.sum()
        counts[lag] = are_observed.sum()
    n_pairs = n_steps - lags
    # The mean square of the scores.
    n_scores = max(counts[0], 1)
    size = products[0] / n_scores
    lag_correlation = usual
    if size > 0:
        n_usual = _USUAL_WINDOWS * n_pairs
        total = products / size + n_usual * usual
        lag_correlation = total / (counts + n_usual)
    misses = forms - lag_correlation
    squares = n_pairs * np.square(misses)
    # Lag 0 says nothing: all forms have the correlation 1 there.
    losses = squares[..., 1:].sum(axis=-1)
    nearest = losses.argmin()
    shared, decay = np.unravel_index(nearest, losses.shape)
    by_lag = forms[shared, decay]
    distances = np.abs(lags[:, None] - lags)
    return by_lag[distances]


def _normal_density(scores: np.ndarray) -> np.ndarray:
    heights = np.exp(-np.square(scores) / 2)
    return heights / np.sqrt(2 * np.pi)


def chosen_points(
    point: np.ndarray,
    levels: Sequence[float],
    curves: np.ndarray,
    is_mean: np.ndarray,
    own_point: str,
) -> np.ndarray:
    """Points ``[B, F, C]``: means where ``is_mean [B, 1, C]``, and medians elsewhere.

    Args:
        point: The forecaster's own points.
        levels: Probabilities of the curves, the median among them.
        curves: Quantiles, ``[B, F, C, Q]``.
        is_mean: Where a mean is wanted.
        own_point: What the forecaster's own points are.
    """
    means = point
    medians = point
    if own_point == "median":
        means = mean_of(levels, curves)
    else:
        place = levels.index(0.5)
        medians = curves[..., place]
    return np.where(is_mean, means, medians)
