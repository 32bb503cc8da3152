"""The weights of regressions on columns, from forecasts of a table's own past."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from tsattn.data.calendar import calendar_cycles
from tsattn.data.encoding import CovariateEncoder, CovariateHistory, CovariateWindows
from tsattn.data.frames import Panel, season_length
from tsattn.data.windows import History
from tsattn.forecasters.boosted_trees import BoostedTrees
from tsattn.forecasters.covariate_regression import CHUNK_VALUES, Base, CovariateRegression
from tsattn.forecasters.pooled_regression import NormalEquations, PooledRegression

# Contexts before ends, as a forecaster cuts them.
Windows = Callable[[History, np.ndarray], np.ndarray]

# Penalties of the pooled regression that are tried, as shares of the variance of a feature.
_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
# Weights of the pooled regression and the trees that are tried are multiples of this.
_WEIGHT_STEP = 0.25
# Steps of windows that trees learn from at most.
_MOST_ROWS = 2**16
# Windows that are forecast, series that they are taken from, and windows without which nothing is
# learnt.
_MOST_WINDOWS = 1024
_MOST_SERIES = 128
_LEAST_WINDOWS = 32
# The last windows of a series check: one of so many.
_HELD_OUT = 4
# A gain counts if it is so many standard errors above zero, and such a share of the error.
_SURE = 2.0
_WORTH = 0.01
# Quantiles whose band is corrected, the share of truths that it shall hold, and the limits of the
# correction.
_BAND = (0.1, 0.9)
_COVERAGE = 0.8
_NARROWEST = 0.1
_WIDEST = 3.0


def fit_covariate_regression(
    base: Base,
    windows: Windows,
    panel: Panel,
    encoder: CovariateEncoder,
    *,
    horizon: int,
    least: int,
) -> CovariateRegression:
    """Learn what covariates add to a base, from forecasts of the panel's own past.

    The base forecasts from rolling origins, with and without the effect of the local regression.
    The pooled regression and the trees learn from the earlier origins, and the last quarter of each
    series chooses shares and weights, those of "no columns" among them: others are taken if the
    base's error falls by 1% and by two standard errors. The pooled regression and the trees are
    then learnt from all windows.

    Args:
        base: Forecasts without covariates.
        windows: Contexts before ends, as :meth:`tsattn.forecaster.Forecaster.windows` cuts them.
        panel: The series.
        encoder: How covariates are read.
        horizon: Steps F.
        least: Rows that the base needs before an end.
    """
    season = season_length(panel.freq)
    cycle = max((length for length in calendar_cycles(panel.freq) if length > season), default=0)
    regression = CovariateRegression(encoder, horizon, season, cycle)
    origins = Origins.of(panel, horizon, least, regression.rows)
    if not origins.enough(np.ones(len(origins.ends), dtype=bool)):
        return regression
    past = PastForecasts.of(regression, base, windows, panel, origins)
    if not origins.enough(past.usable):
        return regression
    return past.best()


class Origins(NamedTuple):
    """Ends of contexts in a panel's own past.

    Attributes:
        ends: Absolute rows just after each context, ``[W]``.
        held_out: Which of them check, ``[W]``.
        overlap: Windows that share a row.
    """

    ends: np.ndarray
    held_out: np.ndarray
    overlap: float

    def enough(self, usable: np.ndarray) -> bool:
        """Whether enough of the windows ``[W]`` that are usable learn and check."""
        n_checks = int((self.held_out & usable).sum())
        n_learners = int((~self.held_out & usable).sum())
        return min(n_learners, _HELD_OUT * n_checks) >= _LEAST_WINDOWS

    @classmethod
    def of(cls, panel: Panel, horizon: int, least: int, rows: int) -> Origins:
        """Origins of some series, at most a horizon apart; a window that learns has no row of one
        that checks.

        Args:
            panel: The series.
            horizon: Steps ahead.
            least: Rows that stand before an end at least.
            rows: Rows that stand before it where a quarter of the series is as long.
        """
        most = max(_MOST_WINDOWS // panel.n_channels, 2 * _LEAST_WINDOWS)
        series = np.unique(
            np.linspace(0, panel.n_series - 1, min(panel.n_series, _MOST_SERIES)).astype(np.int64)
        )
        first = np.maximum(np.minimum(panel.lengths[series] // _HELD_OUT, rows), least)
        rooms = np.maximum(panel.lengths[series] - horizon - first, -1)
        step = int(np.clip(rooms.sum() // (2 * _LEAST_WINDOWS), 1, horizon))
        ends = []
        held_out = []
        for n, room in zip(series, rooms, strict=True):
            stop = panel.starts[n + 1] - horizon
            series_ends = np.arange(stop, stop - room - 1, -step)[: most // len(series)][::-1]
            n_checks = len(series_ends) // _HELD_OUT
            checks = np.arange(len(series_ends)) >= len(series_ends) - n_checks
            clear = checks | (
                series_ends + horizon <= series_ends[-n_checks] if n_checks else ~checks
            )
            ends.append(series_ends[clear])
            held_out.append(checks[clear])
        return cls(np.concatenate(ends), np.concatenate(held_out), horizon / step)


class _Answer(NamedTuple):
    """Forecasts of windows: points ``[W, F, C]`` and the bounds of a band ``[W, F, C, 2]``, or
    none.
    """

    point: np.ndarray
    bounds: np.ndarray


@dataclass(frozen=True, eq=False)
class PastForecasts:
    """Forecasts of windows of a panel's own past, with and without the effect of the local
    regression.

    Attributes:
        regression: The one without any weight.
        windows: As for :func:`fit_covariate_regression`.
        history: Of the panel.
        columns: Of the panel.
        origins: Where the windows end.
        truth: Values that came, ``[W, F, C]``; NaN where one is missing.
        level, spread: Of each window, ``[W, 1, C]``; the spread is NaN where a window is constant.
        effect: What columns contribute to the steps ahead by the local regression, ``[W, F, C]``.
        answers: Forecasts by the share of the local regression.
    """

    regression: CovariateRegression
    windows: Windows
    history: History
    columns: CovariateHistory
    origins: Origins
    truth: np.ndarray
    level: np.ndarray
    spread: np.ndarray
    effect: np.ndarray
    answers: dict[float, _Answer]

    @classmethod
    def of(
        cls,
        regression: CovariateRegression,
        base: Base,
        windows: Windows,
        panel: Panel,
        origins: Origins,
    ) -> PastForecasts:
        """Let the base forecast the windows before all origins."""
        n_windows = len(origins.ends)
        horizon = regression.horizon
        n_channels = panel.n_channels
        history = History(panel)
        columns = CovariateHistory(panel, regression.encoder.columns)
        truth = history.futures(origins.ends, horizon)
        level, spread = (np.empty((n_windows, 1, n_channels)) for _ in range(2))
        effect = np.empty(truth.shape)
        answers: dict[float, _Answer] = {}
        past = cls(
            regression, windows, history, columns, origins, truth, level, spread, effect, answers
        )
        batches: dict[float, list[_Answer]] = {
            share: [] for share in ((0.0, 1.0) if regression.reads_rows else (0.0,))
        }
        for part, x, covariates in past.parts(np.arange(n_windows)):
            effects = regression.effects(x, covariates)
            effect[part] = effects[:, x.shape[1] :]
            for share, answered in batches.items():
                answered.append(
                    _Answer(*replace(regression, share=share).blended(base, x, _BAND, effects))
                )
            for c in range(n_channels):
                features = regression.features(x[..., c], covariates)
                level[part, :, c], spread[part, :, c] = features.level, features.spread
        spread[spread == 0] = np.nan
        for share, answered in batches.items():
            answers[share] = _Answer(
                *(np.concatenate(each) for each in zip(*answered, strict=True))
            )
        if regression.reads_rows:
            answers[0.5] = _Answer(
                *((a + b) / 2 for a, b in zip(answers[0.0], answers[1.0], strict=True))
            )
        return past

    @property
    def usable(self) -> np.ndarray:
        """Windows that are not constant and whose future shows a value, ``[W]``."""
        return np.isfinite(self.truth / self.spread).any(axis=(1, 2))

    def parts(self, pick: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, CovariateWindows]]:
        """Some windows, few at a time: which, their contexts and covariates."""
        width = self.regression.n_features(True) * self.regression.horizon
        longest = int(self.history.panel.lengths.max())
        step = min(
            max(1, CHUNK_VALUES // (width + self.columns.width(longest, self.regression.horizon))),
            512,
        )
        for first in range(0, len(pick), step):
            part = pick[first : first + step]
            x = self.windows(self.history, self.origins.ends[part])
            yield (
                part,
                x,
                self.columns.windows(self.origins.ends[part], x.shape[1], self.regression.horizon),
            )

    def best(self) -> CovariateRegression:
        """The share and weights with the least error on the windows held out, learnt from all
        windows.
        """
        learn, check = (
            np.flatnonzero(self.usable & part)
            for part in (~self.origins.held_out, self.origins.held_out)
        )
        rows = self._tree_rows(learn, _MOST_ROWS)
        check_rows = self._tree_rows(check, None)
        options = [self._with_trees(share, rows, check_rows) for share in self.answers]
        # Of two that are alike, the mean of both forecasts is the safer one.
        share, trees_errors, _ = min(
            options, key=lambda option: option.loss * (1 + _WORTH * (option.share != 0.5))
        )
        pooled_errors, pooled = self._pooled(share, learn, check)
        grid = np.arange(0, 1 + _WEIGHT_STEP / 2, _WEIGHT_STEP)
        weights = [(a, b) for a in grid for b in grid if a + b <= 1]
        expected = [a * pooled_errors + b * trees_errors for a, b in weights]
        losses = [self.losses(share, errors, check) for errors in expected]
        k = int(np.argmin([each.mean() for each in losses]))
        plain = self.losses(0.0, 0.0, check)
        gain, (pooled_weight, trees_weight) = plain - losses[k], weights[k]
        error = gain.std() * np.sqrt(self.origins.overlap / len(gain))
        if not gain.mean() > max(_SURE * error, _WORTH * plain.mean()):
            return self.regression
        rows = rows.join(check_rows)
        return replace(
            self.regression,
            share=share,
            pooled=pooled if pooled_weight else None,
            trees=self._trees(share, rows) if trees_weight else None,
            pooled_weight=float(pooled_weight),
            trees_weight=float(trees_weight),
            band_factor=self._band_factor(share, expected[k], check),
            error_ratio=float(losses[k].mean() / plain.mean()),
        )

    def _with_trees(self, share: float, learn: _TreeRows, check: _TreeRows) -> _Opinion:
        """The least error on the windows held out with a share of the local regression and trees of
        any weight.
        """
        point = self.answers[share].point
        trees = self._trees(share, learn)
        errors = np.full(point.shape, np.nan)
        errors[check.places] = trees(self._tree_features(share, check))
        held_out = np.unique(check.places[0])
        weights = np.arange(0, 1 + _WEIGHT_STEP / 2, _WEIGHT_STEP)
        losses = [
            self.losses(share, weight * errors[held_out], held_out).mean() for weight in weights
        ]
        return _Opinion(share, errors[held_out], float(min(losses)))

    def _trees(self, share: float, rows: _TreeRows) -> BoostedTrees:
        target = ((self.truth - self.answers[share].point) / self.spread)[rows.places]
        known = np.isfinite(target)
        return BoostedTrees.fit(self._tree_features(share, rows)[known], target[known])

    def _tree_features(self, share: float, rows: _TreeRows) -> np.ndarray:
        """Features of rows beside a forecast: the first feature is the forecast itself."""
        scaled = (self.answers[share].point - self.level) / self.spread
        features = rows.features.copy()
        features[:, 0] = np.nan_to_num(scaled[rows.places])
        return features

    def _tree_rows(self, pick: np.ndarray, most: int | None) -> _TreeRows:
        """Features of all steps of some windows, or of about ``most`` that are drawn."""
        shape = self.truth.shape
        share = 1.0 if most is None else most / max(len(pick) * shape[1] * shape[2], 1)
        drawn = np.random.default_rng(0).random(shape) < share
        tables = []
        places = []
        for part, x, covariates in self.parts(pick):
            for c in range(shape[2]):
                features = self.regression.features(x[..., c], covariates)
                point = self.answers[0.0].point[part, :, c]
                effect = self.effect[part, :, c]
                table = features.of_trees(point, effect, self.regression.seasons)
                chosen = drawn[part, :, c]
                tables.append(table[chosen])
                window, step = np.nonzero(chosen)
                places.append((part[window], step, np.full(len(step), c)))
        return _TreeRows(
            np.concatenate(tables),
            tuple(np.concatenate(each) for each in zip(*places, strict=True)),
        )

    def _pooled(
        self, share: float, learn: np.ndarray, check: np.ndarray
    ) -> tuple[np.ndarray, PooledRegression]:
        """Errors expected of the windows that check by the windows that learn, ``[B, F, C]``; a
        regression of both.
        """
        sums, more = (NormalEquations(self.regression.n_features(True)) for _ in range(2))
        for features, target, *_ in self._pooled_rows(share, learn):
            sums.add(features, target)
        options = [sums.solve(penalty, True) for penalty in _PENALTIES]
        errors = np.zeros((len(options), len(check), *self.truth.shape[1:]))
        for features, target, part, c in self._pooled_rows(share, check):
            more.add(features, target)
            place = np.searchsorted(check, part)
            for k, option in enumerate(options):
                errors[k, place, :, c] = option(np.nan_to_num(features))
        best = int(np.argmin([self.losses(share, each, check).mean() for each in errors]))
        sums.join(more)
        return errors[best], sums.solve(_PENALTIES[best], True)

    def _pooled_rows(
        self, share: float, pick: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, int]]:
        """Features ``[B, F, n]`` and targets ``[B, F]`` of the pooled regression, of which windows
        and channel.
        """
        point = self.answers[share].point
        for part, x, covariates in self.parts(pick):
            target = (self.truth[part] - point[part]) / self.spread[part]
            for c in range(x.shape[2]):
                features = self.regression.features(x[..., c], covariates)
                yield features.of_point(point[part, :, c], True), target[..., c], part, c

    def losses(self, share: float, errors: np.ndarray | float, pick: np.ndarray) -> np.ndarray:
        """Mean absolute error of some windows, whose forecasts have errors taken off, in units of
        their spread.
        """
        missed = (self.truth[pick] - self.answers[share].point[pick]) / self.spread[pick] - errors
        return np.asarray(np.nanmean(np.abs(missed).reshape(len(pick), -1), axis=1))

    def _band_factor(self, share: float, errors: np.ndarray, pick: np.ndarray) -> float:
        """What the distance of the bounds to the points must be multiplied by for a band to hold
        80% of the truths.
        """
        point, bounds = (part[pick] for part in self.answers[share])
        if not bounds.shape[3]:
            return 1.0
        gap = self.truth[pick] - point - self.spread[pick] * errors
        room = np.where(gap > 0, bounds[..., 1] - point, point - bounds[..., 0])
        known = np.isfinite(gap) & np.isfinite(self.spread[pick])
        with np.errstate(divide="ignore", invalid="ignore"):
            needed = np.where(gap == 0, 0.0, np.abs(gap) / room)[known]
        if not np.quantile(np.abs(gap[known]), _COVERAGE) > 0:
            return 1.0
        return float(np.clip(np.quantile(needed, _COVERAGE, method="higher"), _NARROWEST, _WIDEST))


class _TreeRows(NamedTuple):
    """Steps of windows for trees: features ``[R, n]``, and the window, step and channel of each
    ``[R]``.
    """

    features: np.ndarray
    places: tuple[np.ndarray, ...]

    def join(self, other: _TreeRows) -> _TreeRows:
        """The rows of both."""
        places = tuple(np.concatenate(each) for each in zip(self.places, other.places, strict=True))
        return _TreeRows(np.concatenate([self.features, other.features]), places)


class _Opinion(NamedTuple):
    """A share of the local regression, the errors that trees then expect of windows held out, and
    the least loss.
    """

    share: float
    errors: np.ndarray
    loss: float
