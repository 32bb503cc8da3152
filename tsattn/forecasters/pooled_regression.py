"""Ridge regressions that all windows of a table share, and the features of windows that
they read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tsattn.data.cycles import calendar_slices, calendar_width
from tsattn.data.encoding import CovariateEncoder, CovariateWindows
from tsattn.forecasters.ridge import ridge

# Beyond so many features, columns are not multiplied by the phase of the season.
_MOST_FEATURES = 600
# Parts of a cycle.
_BINS = {"hour": 24, "weekday": 7, "month": 12}
# A deviation below this share of the largest value is rounding error.
_ROUNDING = 1e-12


class WindowFeatures:
    """Columns of B windows of one channel, in units of the window, as regressions read them.

    Args:
        encoder: How columns are read; the first cycle of its calendar is that of the season.
        x: Contexts ``[B, T]``; NaN is missing.
        covariates: Of the same windows.
        rows: Last rows of a window whose mean and deviation are its level and spread.
        horizon: Steps ahead F, by which past columns are delayed.

    Attributes:
        level: Mean of the last rows, ``[B, 1]``.
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
        self.level, self.spread = _level_and_spread(x[:, -rows:])
        parts = encoder.parts(covariates)
        n_steps = covariates.known.shape[1]
        empty = np.empty((len(x), n_steps, 0))
        known = parts.get("known", empty).astype(np.float64)
        known[np.isnan(covariates.known).any(axis=2)] = (
            np.nan
        )  # also of text, whose indicators would be zeros
        n_future = known.shape[2] - calendar_width(encoder.columns.calendar)
        self.future, self.clock = known[..., :n_future], known[..., n_future:]
        self._read_calendar(encoder.columns.calendar)
        # Rows before the first value stand for none, but lengthen a window beside longer ones.
        begun = np.maximum.accumulate(np.isfinite(x), axis=1)[:, -rows:, None].astype(np.float64)
        share = begun / np.maximum(begun.sum(axis=1, keepdims=True), 1)
        recent = slice(max(self.context - rows, 0), self.context)
        self.mean = (self.columns[:, recent] * share).sum(axis=1, keepdims=True)
        self.numeric = numeric_columns(encoder)
        self.past = parts.get("past", empty[:, : self.context]).astype(np.float64)
        self.past_mean = (self.past[:, recent] * share).sum(axis=1, keepdims=True)
        self.static = parts.get("static", empty[:, 0]).astype(np.float64)

    def _read_calendar(self, calendar: tuple[str, ...] | str) -> None:
        cycles = {
            str(name): self.clock[..., place] for name, place in calendar_slices(calendar).items()
        }
        self.season: np.ndarray | None = None
        self.week: np.ndarray | None = None
        if calendar and calendar[0] in _BINS:
            name = str(calendar[0])
            self.season = _indicators(cycles.pop(name), _BINS[name])
        if "weekday" in cycles:
            self.week = _indicators(cycles.pop("weekday"), _BINS["weekday"])
        self.columns = np.concatenate([self.future, *cycles.values()], axis=2)

    def of_point(self, point: np.ndarray, squares: bool) -> np.ndarray:
        """Features of the steps ahead that a forecast ``[B, F]`` has, ``[B, F, n]``."""
        at = slice(self.context, self.context + point.shape[1])
        now = self.columns[:, at]
        parts = [now, now - self.mean, self._static(point.shape), self.recent(point.shape[1])]
        if squares:
            parts.append(now[..., self.numeric] ** 2)
        columns = np.concatenate(parts, axis=2)
        scaled = self.scaled(point)
        # Effects grow with what they act on.
        features = [columns, columns * scaled, scaled, scaled**2]
        features += [phases[:, at] for phases in (self.season, self.week) if phases is not None]
        if self.season is not None:
            season = self.season[:, at]
            if columns.shape[2] * season.shape[2] <= _MOST_FEATURES:
                features.append(_products(columns, season))
            if self.week is not None:
                features.append(_products(self.week[:, at], season))
        return np.concatenate(features, axis=2)

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Values ``[B, F]`` in units of the window, ``[B, F, 1]``."""
        return ((values - self.level) / np.where(self.spread > 0, self.spread, 1.0))[..., None]

    def recent(self, n_steps: int) -> np.ndarray:
        """Of each past column the last value, its difference to the mean, and the value one horizon
        before the step.
        """
        rows = self.context - self.horizon + np.arange(n_steps)
        lagged = self.past[:, np.clip(rows, 0, self.context - 1)]
        last = np.broadcast_to(self.past[:, -1:], lagged.shape)
        return np.concatenate([last, last - self.past_mean, lagged], axis=2)

    def of_trees(
        self, point: np.ndarray, effect: np.ndarray, seasons: tuple[int, ...]
    ) -> np.ndarray:
        """Features of the steps ahead for trees, ``[B, F, n]`` in float32.

        Args:
            point: Forecast ``[B, F]``.
            effect: What columns contribute by the local regression, ``[B, F]``.
            seasons: Steps of the season and of its longer cycle, for values one of them before.
        """
        n_steps = point.shape[1]
        steps = np.arange(n_steps)
        at = self.context + steps
        now = self.columns[:, at]
        numbers = self.columns[..., self.numeric]
        change = effect / np.where(self.spread > 0, self.spread, 1.0)
        ahead = np.broadcast_to(steps[None, :, None], (*point.shape, 1))
        parts = [self.scaled(point), change[..., None], ahead, now, self.clock[:, at]]
        parts += [self._static(point.shape), self.recent(n_steps)]
        parts += [(numbers - self.mean[..., self.numeric])[:, at]]
        parts += [numbers[:, np.maximum(at - lag, 0)] for lag in (1, 3)]
        for season in seasons:
            rows = at - season * (steps // season + 1)
            if rows[0] >= 0:
                parts += [self.scaled(self.x[:, rows]), numbers[:, at] - numbers[:, rows]]
        last = self.x[:, -max(seasons[0] if seasons else 1, 1) :]
        level = _level_and_spread(last)[0]
        parts.append(np.broadcast_to(self.scaled(level), (*point.shape, 1)))
        return np.nan_to_num(np.concatenate(parts, axis=2)).astype(np.float32)

    def _static(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(self.static[:, None], (*shape, self.static.shape[1]))


def numeric_columns(encoder: CovariateEncoder) -> np.ndarray:
    """Which of the encoded future columns are numbers, and no indicators of categories."""
    kinds = encoder.columns.categories[len(encoder.columns.past) :]
    return np.flatnonzero(
        np.repeat([each is None for each in kinds], [len(each or (0,)) for each in kinds])
    )


def _level_and_spread(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of the known values of windows ``[B, T]``, ``[B, 1]`` each."""
    known = np.isfinite(x)
    values = np.where(known, x, 0.0)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    # In units of the largest value, so that squares stay within range.
    size = np.abs(values).max(axis=1, keepdims=True, initial=0.0)
    values = values / np.where(size > 0, size, 1.0)
    level = values.sum(axis=1, keepdims=True) / count
    spread = np.sqrt((np.where(known, values - level, 0.0) ** 2).sum(axis=1, keepdims=True) / count)
    return level * size, np.where(spread > _ROUNDING, spread, 0.0) * size


def _products(columns: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """Each column by each phase, ``[B, R, n * m]``."""
    return (columns[..., None] * phases[..., None, :]).reshape(*columns.shape[:2], -1)


def _indicators(cycle: np.ndarray, n_bins: int) -> np.ndarray:
    """Which part of a cycle a step lies in, from its sine and cosine, ``[B, R, n_bins]``; NaN stays
    NaN.
    """
    share = np.arctan2(cycle[..., 0], cycle[..., 1]) / (2 * np.pi) % 1
    place = np.floor(share * n_bins + 1e-4) % n_bins
    indicators = (place[..., None] == np.arange(n_bins)).astype(np.float64)
    indicators[np.isnan(place)] = np.nan
    return indicators


@dataclass(frozen=True, eq=False)
class PooledRegression:
    """A linear map of features to the error of a forecast, in units of a window's spread.

    Attributes:
        weights: One a feature.
        offset: Added to it.
        squares: Whether squares of the numeric future columns are among the features.
    """

    weights: np.ndarray
    offset: float
    squares: bool

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """``[...]`` of features ``[..., n]``."""
        return np.asarray(features @ self.weights + self.offset)


class NormalEquations:
    """Sums behind ridge regressions: their size does not depend on the number of rows.

    Args:
        n_features: Features n.
    """

    def __init__(self, n_features: int) -> None:
        self.products, self.targets, self.count = (
            np.zeros((n_features + 1,) * 2),
            np.zeros(n_features + 1),
            0,
        )

    def add(self, features: np.ndarray, target: np.ndarray) -> None:
        """Add rows ``[B, R, n]`` and their targets ``[B, R]``, those that are known."""
        known = np.isfinite(target) & np.isfinite(features).all(axis=2)
        rows = np.concatenate([features[known], np.ones((int(known.sum()), 1))], axis=1)
        self.products += rows.T @ rows
        self.targets += rows.T @ target[known]
        self.count += len(rows)

    def join(self, other: NormalEquations) -> None:
        """Add the rows of another."""
        self.products += other.products
        self.targets += other.targets
        self.count += other.count

    def solve(self, penalty: float, squares: bool) -> PooledRegression:
        """The ridge regression with standardised features; those that do not vary are left out."""
        mean = self.products[-1, :-1] / self.count
        scatter = self.products[:-1, :-1] / self.count - np.outer(mean, mean)
        variance = scatter.diagonal().copy()
        live = np.flatnonzero(variance > 1e-9 * (1 + mean**2))
        scale = np.sqrt(variance[live])
        middle = self.targets[-1] / self.count
        matrix = scatter[np.ix_(live, live)] / np.outer(scale, scale)
        products = (self.targets[live] / self.count - mean[live] * middle) / scale
        weights = np.zeros(len(mean))
        solution = ridge(torch.from_numpy(matrix), torch.from_numpy(products)[:, None], penalty)
        weights[live] = solution[:, 0].numpy() / scale
        return PooledRegression(weights, float(middle - mean @ weights), squares)
