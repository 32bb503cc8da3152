"""Ridge regressions that all windows of a table share, and the features of windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tsattn.data.cycles import calendar_slices, calendar_width
from tsattn.data.encoding import CovariateEncoder, CovariateWindows
from tsattn.forecasters.ridge import ridge
from tsattn.limits import limit_threads

# Beyond so many features, columns are not multiplied by the phase of the season.
_MOST_FEATURES = 600
# Parts of a cycle.
_BINS = {"hour": 24, "weekday": 7, "month": 12}
# Share of a part of a cycle by which a place is moved on: rounding must not put the begin of a part
# into the part before.
_BIN_ROUNDING = 1e-4
# A deviation below this share of the largest value is rounding error.
_ROUNDING = 1e-12
# A feature does not vary if its variance is below this share of its squared mean.
_CONSTANT = 1e-9
# Steps before a step whose values of future columns trees read.
_TREE_LAGS = (1, 3)
# The first features of trees are the forecast and the effect of the local regression.
_N_FORECAST_FEATURES = 2
# Last values of the window that target trees read.
_N_LAST_VALUES = 8
# Whole seasons before a step, beside the latest, whose values target trees read.
_SEASONS_BEFORE = (1, 2)
# Places beside the step one season before, whose values they read, too.
_NEIGHBOURS = (-1, 1)


class WindowFeatures:
    """Columns of B windows of one channel, in units of the window, as regressions read them.

    Args:
        encoder: How columns are read; the first cycle of its calendar is that of the season.
        x: Contexts ``[B, T]``; NaN is missing.
        covariates: Of the same windows.
        rows: Last rows of a window whose mean and deviation are its location and spread.
        horizon: Steps ahead F, by which past columns are delayed.

    Attributes:
        location: Mean of the last rows, ``[B, 1]``.
        spread: Their deviation, ``[B, 1]``; 0 where they are constant.
        columns: Future columns and cycles of the calendar but that of the season,
            ``[B, T + F, K]``.
        numeric: Which of the future columns are numbers.
    """

    def __init__(
        self,
        encoder: CovariateEncoder,
        x: np.ndarray,
        covariates: CovariateWindows,
        *,
        rows: int,
        horizon: int,
    ) -> None:
        self.context = x.shape[1]
        self.horizon = horizon
        self.x = x
        last_rows = x[:, -rows:]
        self.location, self.spread = _location_and_spread(last_rows)
        ahead, self.past, self.static = encoded_columns(encoder, covariates)
        # Also where a text is missing, whose indicators would be zeros.
        is_missing = np.isnan(covariates.known).any(axis=2)
        ahead[is_missing] = np.nan
        calendar = encoder.columns.calendar
        n_future = ahead.shape[2] - calendar_width(calendar)
        self.future = ahead[..., :n_future]
        self.clock = ahead[..., n_future:]
        self._read_calendar(calendar)
        self.numeric = numeric_columns(encoder)
        self._read_means(rows)

    def _read_means(self, rows: int) -> None:
        """Set means of the columns over the last rows of the window."""
        # Rows before the first value do not count, but lengthen a window among longer ones.
        observed = np.isfinite(self.x)
        begun = np.maximum.accumulate(observed, axis=1)
        recent_begun = begun[:, -rows:, None].astype(np.float64)
        count = recent_begun.sum(axis=1, keepdims=True)
        share = recent_begun / np.maximum(count, 1)
        first = max(self.context - rows, 0)
        recent = slice(first, self.context)
        weighted = self.columns[:, recent] * share
        self.mean = weighted.sum(axis=1, keepdims=True)
        weighted_past = self.past[:, recent] * share
        self.past_mean = weighted_past.sum(axis=1, keepdims=True)

    def _read_calendar(self, calendar: tuple[str, ...] | str) -> None:
        """Set phases of the season and the week of the steps ahead, and columns with the other
        cycles.
        """
        cycles = {}
        for name, place in calendar_slices(calendar).items():
            cycles[str(name)] = self.clock[..., place]
        self.season: np.ndarray | None = None
        self.week: np.ndarray | None = None
        if calendar and calendar[0] in _BINS:
            season = str(calendar[0])
            season_cycle = cycles.pop(season)
            season_ahead = season_cycle[:, self.context :]
            self.season = _indicators(season_ahead, _BINS[season])
        if "weekday" in cycles:
            week_cycle = cycles.pop("weekday")
            week_ahead = week_cycle[:, self.context :]
            self.week = _indicators(week_ahead, _BINS["weekday"])
        parts = [self.future, *cycles.values()]
        self.columns = np.concatenate(parts, axis=2)

    def of_point(self, point: np.ndarray, *, squares: bool) -> np.ndarray:
        """Features of the steps ahead that a forecast ``[B, F]`` has, ``[B, F, n]``."""
        n_steps = point.shape[1]
        ahead = slice(self.context, self.context + n_steps)
        values = self.columns[:, ahead]
        parts = [
            values,
            values - self.mean,
            self._static(point.shape),
            self.recent(n_steps),
        ]
        if squares:
            numbers = values[..., self.numeric]
            parts.append(numbers**2)
        columns = np.concatenate(parts, axis=2)
        scaled = self.scaled(point)
        # Effects grow with what they act on.
        products = columns * scaled
        features = [columns, products, scaled, scaled**2]
        features += self._phases(columns)
        return np.concatenate(features, axis=2)

    def _phases(self, columns: np.ndarray) -> list[np.ndarray]:
        """Phases of the season and of the week, and products of columns ``[B, F, n]`` with those of
        the season.

        Too many products are left out.
        """
        n_steps = columns.shape[1]
        phases = [part[:, :n_steps] for part in (self.season, self.week) if part is not None]
        if self.season is None:
            return phases
        season, *week = phases
        # What is multiplied by the phases of the season.
        factors = week
        n_products = columns.shape[2] * season.shape[2]
        if n_products <= _MOST_FEATURES:
            factors = [columns, *week]
        products = [_products(factor, season) for factor in factors]
        return phases + products

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Values ``[B, F]`` in units of the window, ``[B, F, 1]``."""
        scaled = (values - self.location) / self._unit()
        return scaled[..., None]

    def _unit(self) -> np.ndarray:
        """The spread of each window, 1 of a constant one, ``[B, 1]``."""
        return np.where(self.spread > 0, self.spread, 1.0)

    def recent(self, n_steps: int) -> np.ndarray:
        """Three values of each past column for each step ahead.

        They are its last value, the difference of that to the mean, and the value one horizon
        before the step.
        """
        first_row = self.context - self.horizon
        rows = first_row + np.arange(n_steps)
        rows = np.clip(rows, 0, self.context - 1)
        lagged = self.past[:, rows]
        last_row = self.past[:, -1:]
        last = np.broadcast_to(last_row, lagged.shape)
        difference = last - self.past_mean
        return np.concatenate([last, difference, lagged], axis=2)

    def of_trees(
        self, point: np.ndarray, effect: np.ndarray, seasons: tuple[int, ...]
    ) -> np.ndarray:
        """Features of the steps ahead for trees, ``[B, F, n]`` in float32.

        The first ones are the forecast and the effect.

        Args:
            point: Forecast ``[B, F]``.
            effect: What columns contribute by the local regression, ``[B, F]``.
            seasons: Steps of the season and of its longer cycle, for values one of them before.
        """
        n_steps = point.shape[1]
        steps = np.arange(n_steps)
        ahead = self.context + steps
        numbers = self.columns[..., self.numeric]
        change = effect / self._unit()
        column_shape = (*point.shape, 1)
        step = np.broadcast_to(steps[None, :, None], column_shape)
        number_means = self.mean[..., self.numeric]
        difference = numbers - number_means
        parts = [
            self.scaled(point),
            change[..., None],
            step,
            self.columns[:, ahead],
            self.clock[:, ahead],
            self._static(point.shape),
            self.recent(n_steps),
            difference[:, ahead],
        ]
        for lag in _TREE_LAGS:
            rows = np.maximum(ahead - lag, 0)
            parts.append(numbers[:, rows])
        for season in seasons:
            parts += self._before_seasons(numbers, steps, season)
        scaled_mean = self.scaled(self._last_mean(seasons))
        parts.append(np.broadcast_to(scaled_mean, column_shape))
        features = np.concatenate(parts, axis=2)
        return np.nan_to_num(features).astype(np.float32)

    def of_past(self, n_steps: int, seasons: tuple[int, ...]) -> np.ndarray:
        """Features of the target's past for the steps ahead, ``[B, F, n]`` in float32.

        They are the last values, and of each season the values around the step one season before,
        and those of the two seasons before that one.
        """
        steps = np.arange(n_steps)
        ahead = self.context + steps
        last_rows = self.context - np.arange(1, _N_LAST_VALUES + 1)
        places = [np.full(n_steps, row) for row in last_rows]
        for season in seasons:
            season_before = ahead - season * (steps // season + 1)
            for neighbour in _NEIGHBOURS:
                row = season_before + neighbour
                places.append(np.minimum(row, self.context - 1))
            places += [season_before - season * n for n in _SEASONS_BEFORE]
        rows = np.stack(places, axis=1)
        # Rows before the window are missing ones.
        values = np.where(rows >= 0, self.x[:, np.maximum(rows, 0)], np.nan)
        scaled = (values - self.location[..., None]) / self._unit()[..., None]
        return np.nan_to_num(scaled).astype(np.float32)

    def _before_seasons(
        self, numbers: np.ndarray, steps: np.ndarray, season: int
    ) -> list[np.ndarray]:
        """Values of the target whole seasons before steps ahead, the latest in the window, and
        changes of the numeric columns since then.
        """
        ahead = self.context + steps
        n_seasons = steps // season + 1
        rows = ahead - season * n_seasons
        # Windows that are shorter than a season have as many features, which are zero.
        is_known = (rows >= 0).all()
        rows = np.maximum(rows, 0)
        values = self.scaled(self.x[:, rows])
        change = numbers[:, ahead] - numbers[:, rows]
        return [is_known * values, is_known * change]

    def _last_mean(self, seasons: tuple[int, ...]) -> np.ndarray:
        """Mean of the last season, or the last value where there is no season, ``[B, 1]``."""
        n_last = 1
        if seasons:
            n_last = max(seasons[0], 1)
        last_rows = self.x[:, -n_last:]
        mean, _ = _location_and_spread(last_rows)
        return mean

    def _static(self, shape: tuple[int, ...]) -> np.ndarray:
        """Static columns, repeated for each step."""
        n_static = self.static.shape[1]
        return np.broadcast_to(self.static[:, None], (*shape, n_static))


def target_features(of_trees: np.ndarray, of_past: np.ndarray) -> np.ndarray:
    """What trees read that forecast the target itself, ``[..., n]``.

    Args:
        of_trees: Features as :meth:`WindowFeatures.of_trees` gives them. What they hold of a
            forecast is left out.
        of_past: Features of :meth:`WindowFeatures.of_past`.
    """
    of_columns = of_trees[..., _N_FORECAST_FEATURES:]
    return np.concatenate([of_columns, of_past], axis=-1)


def encoded_columns(
    encoder: CovariateEncoder, covariates: CovariateWindows
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Encoded columns of windows in float64.

    Returns:
        Future columns and the calendar ``[B, T + F, K]``, past columns ``[B, T, P]``, static
        columns ``[B, S]``.
    """
    parts = encoder.parts(covariates)
    # Parts without a feature have no column.
    ahead = parts.get("known", covariates.known[..., :0])
    past = parts.get("past", covariates.past[..., :0])
    static = parts.get("static", covariates.static[..., :0])
    return ahead.astype(np.float64), past.astype(np.float64), static.astype(np.float64)


def numeric_columns(encoder: CovariateEncoder) -> np.ndarray:
    """Which of the encoded future columns are numbers, and no indicators of categories."""
    n_past = len(encoder.columns.past)
    # Those of the past columns come first.
    categories = encoder.columns.categories[n_past:]
    is_number = []
    for names in categories:
        if names is None:
            is_number.append(True)
        else:
            # A category has an indicator for each of its names.
            n_indicators = max(len(names), 1)
            is_number += [False] * n_indicators
    return np.flatnonzero(is_number)


def _location_and_spread(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of the observed values of windows ``[B, T]``, ``[B, 1]`` each."""
    observed = np.isfinite(x)
    values = np.where(observed, x, 0.0)
    count = observed.sum(axis=1, keepdims=True)
    count = np.maximum(count, 1)
    # In units of the largest value, so that squares stay within range.
    sizes = np.abs(values)
    largest = sizes.max(axis=1, keepdims=True, initial=0.0)
    unit = np.where(largest > 0, largest, 1.0)
    values = values / unit
    mean = values.sum(axis=1, keepdims=True) / count
    centred = np.where(observed, values - mean, 0.0)
    sum_of_squares = (centred**2).sum(axis=1, keepdims=True)
    spread = np.sqrt(sum_of_squares / count)
    is_varying = spread > _ROUNDING
    spread = np.where(is_varying, spread, 0.0)
    return mean * largest, spread * largest


def _products(columns: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """Each column by each phase, ``[B, R, n * m]``."""
    products = columns[..., None] * phases[..., None, :]
    n_windows, n_rows, _ = columns.shape
    return products.reshape(n_windows, n_rows, -1)


def _indicators(cycle: np.ndarray, n_bins: int) -> np.ndarray:
    """Part of the cycle that a step lies in, from its sine and cosine, ``[B, R, n_bins]``.

    NaN stays NaN.
    """
    sine = cycle[..., 0]
    cosine = cycle[..., 1]
    angle = np.arctan2(sine, cosine)
    share = angle / (2 * np.pi) % 1
    place = share * n_bins + _BIN_ROUNDING
    # Rounding at the end of the cycle leads to its begin.
    bin_number = np.floor(place) % n_bins
    is_in_bin = bin_number[..., None] == np.arange(n_bins)
    indicators = is_in_bin.astype(np.float64)
    indicators[np.isnan(bin_number)] = np.nan
    return indicators


@dataclass(frozen=True, eq=False)
class PooledRegression:
    """A linear map of features to the error of a forecast, in units of a window's spread.

    Attributes:
        weights: One a feature.
        offset: Added to it.
        squares: Whether squares of the numeric future columns are among the features.
        least, most: Bounds of each feature: squares and products of a column far outside the rows
            that were fitted say nothing. Infinite without bounds.
    """

    weights: np.ndarray
    offset: float
    squares: bool
    least: np.ndarray | float = -np.inf
    most: np.ndarray | float = np.inf

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """``[...]`` of features ``[..., n]``."""
        bounded = np.clip(features, self.least, self.most)
        return bounded @ self.weights + self.offset


class NormalEquations:
    """Sums behind ridge regressions: their size does not depend on the number of rows.

    Args:
        n_features: Features n.
    """

    def __init__(self, n_features: int) -> None:
        # The last feature is a constant 1.
        n_sums = n_features + 1
        self.products = np.zeros((n_sums, n_sums))
        self.targets = np.zeros(n_sums)
        self.least = np.full(n_features, np.inf)
        self.most = np.full(n_features, -np.inf)
        self.count = 0

    def add(self, features: np.ndarray, target: np.ndarray) -> None:
        """Add rows ``[B, R, n]`` and their targets ``[B, R]``, where none is missing."""
        is_complete = np.isfinite(features).all(axis=2)
        usable = np.isfinite(target) & is_complete
        n_rows = int(usable.sum())
        ones = np.ones((n_rows, 1))
        usable_features = features[usable]
        smallest = usable_features.min(axis=0, initial=np.inf)
        largest = usable_features.max(axis=0, initial=-np.inf)
        self.least = np.minimum(self.least, smallest)
        self.most = np.maximum(self.most, largest)
        rows = np.concatenate([usable_features, ones], axis=1)
        self.products += rows.T @ rows
        self.targets += rows.T @ target[usable]
        self.count += len(rows)

    def join(self, other: NormalEquations) -> None:
        """Add the rows of another."""
        self.products += other.products
        self.targets += other.targets
        self.least = np.minimum(self.least, other.least)
        self.most = np.maximum(self.most, other.most)
        self.count += other.count

    # On one thread, as outliers are searched: a forked process waits for ever for others.
    @limit_threads(1)
    def solve(self, penalty: float, *, squares: bool) -> PooledRegression:
        """The ridge regression with standardised features; those that do not vary are left out."""
        # Products with the constant 1 are sums.
        sums = self.products[-1, :-1]
        mean = sums / self.count
        mean_products = self.products[:-1, :-1] / self.count
        scatter = mean_products - np.outer(mean, mean)
        variance = scatter.diagonal().copy()
        rounding_error = _CONSTANT * (1 + mean**2)
        is_varying = variance > rounding_error
        varying = np.flatnonzero(is_varying)
        scale = np.sqrt(variance[varying])
        varying_scatter = scatter[np.ix_(varying, varying)]
        correlations = varying_scatter / np.outer(scale, scale)
        target_mean = self.targets[-1] / self.count
        mean_targets = self.targets[varying] / self.count
        covariances = mean_targets - mean[varying] * target_mean
        scaled_covariances = covariances / scale
        targets = torch.from_numpy(scaled_covariances)[:, None]
        solution = ridge(torch.from_numpy(correlations), targets, penalty)
        scaled_weights = solution[:, 0].numpy()
        weights = np.zeros(len(mean))
        weights[varying] = scaled_weights / scale
        offset = float(target_mean - mean @ weights)
        # One range of the fitted rows beyond each of its ends.
        reach = self.most - self.least
        lowest = self.least - reach
        highest = self.most + reach
        return PooledRegression(weights, offset, squares, lowest, highest)
