"""Columns for forecasters that read none: regressions before and after them, weighed on the table's own past."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from tsattn.data.calendar import calendar_cycles
from tsattn.data.covariates import CovariateColumns
from tsattn.data.cycles import season_cycle
from tsattn.data.encoding import CovariateEncoder, CovariateHistory, CovariateWindows
from tsattn.data.frames import Panel, season_length
from tsattn.data.stored import require
from tsattn.data.windows import History
from tsattn.forecasters.boosted_trees import BoostedTrees
from tsattn.forecasters.local_regression import LocalRegression
from tsattn.forecasters.pooled_regression import NormalEquations, PooledRegression, WindowFeatures, numeric_columns

# Points [B, F, C] and quantiles [B, F, C, Q] of contexts [B, T, C], without covariates.
Base = Callable[[np.ndarray, Sequence[float]], tuple[np.ndarray, np.ndarray]]
# Contexts before ends, as a forecaster cuts them.
Windows = Callable[[History, np.ndarray], np.ndarray]

# Penalties of the pooled regression that are tried, as shares of the variance of a feature.
_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
# Shares of the local regression that are tried.
_SHARES = (0.0, 0.5, 1.0)
# Weights of the pooled regression and the trees that are tried are multiples of this.
_WEIGHT_STEP = 0.25
# A mean and a spread are those of so many seasons, and of so many rows at least.
_SEASONS, _LEAST_ROWS = 7, 32
# Steps of windows that trees learn from at most.
_MOST_ROWS = 2**16
# Windows that are forecast, series that they are taken from, and windows without which nothing is learnt.
_MOST_WINDOWS, _MOST_SERIES, _LEAST_WINDOWS = 1024, 128, 32
# The last windows of a series check: one of so many.
_HELD_OUT = 4
# A gain counts if it is so many standard errors above zero, and such a share of the error.
_SURE, _WORTH = 2.0, 0.01
# Quantiles whose band is corrected, the share of truths that it shall hold, and the limits of the correction.
_BAND, _COVERAGE, _NARROWEST, _WIDEST = (0.1, 0.9), 0.8, 0.1, 3.0
_CHUNK_VALUES = 2**23
# Steps of a season, a cycle or a horizon at most in a saved model, so that no file asks for much memory.
_LONGEST = 2**16


@dataclass(frozen=True, eq=False)
class CovariateRegression:
    """What columns add to the forecasts of a base that reads none.

    Three regressions have an opinion. The local one is fitted inside each window
    (:class:`tsattn.forecasters.local_regression.LocalRegression`): the base forecasts what its effect leaves of the
    target, and the effect is added. The pooled one, a ridge regression, and the trees forecast the error that is left,
    from the columns, the calendar and the forecast, in units of a window's spread, so that all series and channels
    share them. All weights are 0 where "no columns" forecast as well on windows held out.

    Attributes:
        encoder: How columns are read.
        horizon: Steps of the windows that were learnt from.
        season: Steps of the season; 1 for none.
        cycle: Steps of its longer cycle; 0 for none.
        share: Share of the forecast of what the local regression leaves, 0, 0.5 or 1; the rest is the base's own.
        pooled: Regression of the error that is left, if it has a weight.
        trees: Trees for the same error, if they have a weight.
        pooled_weight: Factor of the pooled regression.
        trees_weight: Factor of the trees; the sum of both is at most 1.
        band_factor: Factor of the distance of quantiles to the point.
        error_ratio: Error on the windows held out, as a share of the base's.
    """

    encoder: CovariateEncoder
    horizon: int
    season: int = 1
    cycle: int = 0
    share: float = 0.0
    pooled: PooledRegression | None = None
    trees: BoostedTrees | None = None
    pooled_weight: float = 0.0
    trees_weight: float = 0.0
    band_factor: float = 1.0
    error_ratio: float = 1.0

    @property
    def rows(self) -> int:
        """Last rows of a window that its level and spread are of."""
        return max(_SEASONS * self.season, _LEAST_ROWS)

    @property
    def local(self) -> LocalRegression:
        """The regression inside each window."""
        return LocalRegression(self.horizon, self.season, self.cycle)

    @property
    def active(self) -> bool:
        """Whether a forecast differs from the base's."""
        return self.share > 0 or self.pooled is not None or self.trees is not None

    @property
    def reads_rows(self) -> bool:
        """Whether there are columns for the local regression: past or future ones, no calendar."""
        sizes = self.encoder.sizes
        return sizes["n_past"] + sizes["n_known"] > 2 * len(self.encoder.columns.calendar)

    def forecast(
        self, base: Base, x: np.ndarray, quantiles: Sequence[float], covariates: CovariateWindows
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points ``[B, F, C]`` and quantiles ``[B, F, C, Q]`` of contexts ``[B, T, C]``.

        They are the base's own where no regression has a weight. A step whose future columns are NaN is NaN otherwise.
        """
        if not self.active:
            return base(x, quantiles)
        effect = self.effects(x, covariates)
        point, bounds = self.blended(base, x, quantiles, effect)
        completed = point + self.corrections(point, x, covariates, effect)
        return completed, completed[..., None] + self.band_factor * (bounds - point[..., None])

    def effects(self, x: np.ndarray, covariates: CovariateWindows) -> np.ndarray:
        """What columns contribute to all rows by the local regression, ``[B, T + F, C]``."""
        unknown = np.isnan(covariates.known).any(axis=2)
        effect = np.zeros((*unknown.shape, x.shape[2]))
        if self.reads_rows:
            parts = self.encoder.parts(covariates)
            n_future = self.encoder.sizes["n_known"] - 2 * len(self.encoder.columns.calendar)
            columns = parts.get("known", np.empty((*unknown.shape, 0)))[..., :n_future].astype(np.float64)
            past = parts.get("past", np.empty((*x.shape[:2], 0))).astype(np.float64)
            numeric, local = numeric_columns(self.encoder), self.local
            for c in range(x.shape[2]):
                effect[..., c] = local.effects(x[..., c], columns, past, numeric)
        effect[unknown] = np.nan
        return effect

    def blended(
        self, base: Base, x: np.ndarray, quantiles: Sequence[float], effect: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Forecasts before the correction: the base's own and those of what the effect leaves, by their shares."""
        n_rows, answers, shares = x.shape[1], [], []
        if self.share < 1:
            answers.append(base(x, quantiles))
            shares.append(1 - self.share)
        if self.share > 0:
            point, bounds = base(x - effect[:, :n_rows], quantiles)
            ahead = effect[:, n_rows : n_rows + point.shape[1]]
            answers.append((point + ahead, bounds + ahead[..., None]))
            shares.append(self.share)
        point, bounds = (
            sum(share * part for share, part in zip(shares, parts, strict=True)) for parts in zip(*answers, strict=True)
        )
        return np.asarray(point), np.asarray(bounds)

    def corrections(
        self, point: np.ndarray, x: np.ndarray, covariates: CovariateWindows, effect: np.ndarray
    ) -> np.ndarray:
        """What the pooled regression and the trees add to points ``[B, F, C]``; NaN where a column is not known."""
        found = np.zeros(point.shape)
        width = (point.shape[1] + x.shape[1]) * max(self.encoder.sizes["n_known"], 1) + point.shape[1] * 64
        size = max(1, _CHUNK_VALUES // width)
        for first in range(0, len(x), size):
            part = slice(first, first + size)
            for c in range(x.shape[2]):
                features = self.features(x[part, :, c], covariates.of(part))
                ahead = effect[part, x.shape[1] :][:, : point.shape[1], c]
                found[part, :, c] = features.spread * self._errors(features, point[part, :, c], ahead)
        unknown = np.isnan(covariates.known[:, x.shape[1] :]).any(axis=2)[:, : point.shape[1]]
        found[:, : unknown.shape[1]][unknown] = np.nan
        return found

    def features(self, x: np.ndarray, covariates: CovariateWindows) -> WindowFeatures:
        """Contexts ``[B, T]`` of one channel and their columns as the regressions read them."""
        return WindowFeatures(self.encoder, x, covariates, rows=self.rows, horizon=self.horizon)

    @property
    def seasons(self) -> tuple[int, ...]:
        """The season and its cycle in steps, those that there are."""
        return tuple(length for length in (self.season, self.cycle) if length > 1)

    def _errors(self, features: WindowFeatures, point: np.ndarray, effect: np.ndarray) -> np.ndarray:
        """The expected error of points ``[B, F]`` in units of the window."""
        error = np.zeros(point.shape)
        if self.pooled is not None:
            error += self.pooled_weight * np.nan_to_num(self.pooled(features.of_point(point, self.pooled.squares)))
        if self.trees is not None:
            error += self.trees_weight * self.trees(features.of_trees(point, effect, self.seasons))
        return error

    def n_features(self, squares: bool) -> int:
        """Features that the pooled regression reads."""
        return int(self._example().of_point(np.zeros((1, 1)), squares).shape[2])

    def n_tree_features(self) -> int:
        """Features that the trees read."""
        zero = np.zeros((1, 1))
        return int(self._example().of_trees(zero, zero, self.seasons).shape[2])

    def _example(self) -> WindowFeatures:
        columns, n_rows = self.encoder.columns, max((*self.seasons, 1))
        nothing = CovariateWindows(
            np.zeros((1, n_rows, len(columns.past))),
            np.zeros((1, n_rows + 1, len(columns.future) + 2 * len(columns.calendar))),
            np.array([[0.0 if known is None else known[0] for known in self.encoder.categories]], dtype=object),
        )
        return self.features(np.ones((1, n_rows)), nothing)

    # --- saved folders ----------------------------------------------------------------------------------------------

    _NUMBERS = ("share", "pooled_weight", "trees_weight", "band_factor", "error_ratio")

    def facts(self) -> dict[str, Any]:
        """What JSON holds of it; the encoder is no part of it."""
        pooled = None if self.pooled is None else {"offset": self.pooled.offset, "squares": self.pooled.squares}
        sizes = {name: getattr(self, name) for name in ("horizon", "season", "cycle")}
        return {**sizes, **{name: getattr(self, name) for name in self._NUMBERS}, "pooled": pooled}

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights of the pooled regression and the trees, by names that begin with ``covariate_regression.``."""
        arrays = {} if self.trees is None else {f"trees.{name}": a for name, a in self.trees.arrays.items()}
        if self.pooled is not None:
            arrays["pooled"] = self.pooled.weights
        return {f"{PREFIX}{name}": array for name, array in arrays.items()}

    @classmethod
    def rebuilt(
        cls, encoder: CovariateEncoder, facts: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> CovariateRegression:
        """Undo :meth:`facts` and :meth:`arrays`.

        Raises:
            ValueError: If something is not what they gave; also LookupError or TypeError.
        """
        sizes: dict[str, Any] = {name: facts[name] for name in ("horizon", "season", "cycle")}
        for name, size in sizes.items():
            require(type(size) is int and 0 <= size <= _LONGEST, f"{name} = {size!r:.40}")
        require(sizes["horizon"] >= 1 and sizes["season"] >= 1, f"sizes {sizes}")
        numbers: dict[str, Any] = {name: float(facts[name]) for name in cls._NUMBERS}
        for name, number in numbers.items():
            require(0 <= number < np.inf, f"{name} = {number}")
        require(numbers["share"] in _SHARES and numbers["band_factor"] > 0, f"numbers {numbers}")
        own = cls(encoder, **sizes, **numbers)
        trees = {n.removeprefix(f"{PREFIX}trees."): a for n, a in arrays.items() if n.startswith(f"{PREFIX}trees.")}
        if trees:
            own = replace(own, trees=BoostedTrees(**trees))
            assert own.trees is not None
            own.trees.check(own.n_tree_features())
        if facts["pooled"] is None:
            return own
        weights, offset, squares = arrays[f"{PREFIX}pooled"], facts["pooled"]["offset"], facts["pooled"]["squares"]
        require(type(squares) is bool and bool(np.isfinite(offset)), "a pooled regression without numbers")
        fits = weights.shape == (own.n_features(squares),) and weights.dtype == np.float64
        require(fits and bool(np.isfinite(weights).all()), f"weights of shape {weights.shape}")
        return replace(own, pooled=PooledRegression(weights, float(offset), squares))


# How names of saved arrays begin, and what is wrong with files of the development version before.
PREFIX = "covariate_regression."
OUTDATED = "it holds another regression on columns, of a version before 0.1; fit and save the model again"


def make_encoder(columns: CovariateColumns, panel: Panel) -> CovariateEncoder:
    """How covariates are read; the calendar begins with the season's own cycle, and has the weekday of hours and less.

    Args:
        columns: What is to be read.
        panel: All rows.

    Raises:
        ValueError: As :meth:`tsattn.data.encoding.CovariateEncoder.fit`.
    """
    encoder = CovariateEncoder.fit(columns, panel, panel.lengths)
    season = season_cycle(panel.freq)
    first = () if season is None else (season, "weekday") if season == "hour" else (season,)
    cycles = tuple(dict.fromkeys((*first, *encoder.columns.calendar)))
    return replace(encoder, columns=replace(encoder.columns, calendar=cycles))


def fit_covariate_regression(
    base: Base, windows: Windows, panel: Panel, encoder: CovariateEncoder, *, horizon: int, least: int
) -> CovariateRegression:
    """Learn what covariates add to a base, from forecasts of the panel's own past.

    The base forecasts from rolling origins, with and without the effect of the local regression. The pooled regression
    and the trees learn from the earlier origins, and the last quarter of each series chooses shares and weights, those
    of "no columns" among them: others are taken if the base's error falls by 1% and by two standard errors. The pooled
    regression and the trees are then learnt from all windows.

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
    own = CovariateRegression(encoder, horizon, season, cycle)
    origins = Origins.of(panel, horizon, least, own.rows)
    if not origins.enough(np.ones(len(origins.ends), dtype=bool)):
        return own
    past = PastForecasts.of(own, base, windows, panel, origins)
    if not origins.enough(past.usable):
        return own
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
        n_checks, n_learners = int((self.held_out & usable).sum()), int((~self.held_out & usable).sum())
        return min(n_learners, _HELD_OUT * n_checks) >= _LEAST_WINDOWS

    @classmethod
    def of(cls, panel: Panel, horizon: int, least: int, rows: int) -> Origins:
        """Origins of some series, at most a horizon apart; a window that learns has no row of one that checks.

        Args:
            panel: The series.
            horizon: Steps ahead.
            least: Rows that stand before an end at least.
            rows: Rows that stand before it where a quarter of the series is as long.
        """
        most = max(_MOST_WINDOWS // panel.n_channels, 2 * _LEAST_WINDOWS)
        series = np.unique(np.linspace(0, panel.n_series - 1, min(panel.n_series, _MOST_SERIES)).astype(np.int64))
        first = np.maximum(np.minimum(panel.lengths[series] // _HELD_OUT, rows), least)
        rooms = np.maximum(panel.lengths[series] - horizon - first, -1)
        step = int(np.clip(rooms.sum() // (2 * _LEAST_WINDOWS), 1, horizon))
        ends, held_out = [], []
        for n, room in zip(series, rooms, strict=True):
            stop = panel.starts[n + 1] - horizon
            own = np.arange(stop, stop - room - 1, -step)[: most // len(series)][::-1]
            last = len(own) // _HELD_OUT
            checks = np.arange(len(own)) >= len(own) - last
            clear = checks | (own + horizon <= own[len(own) - last] if last else ~checks)
            ends.append(own[clear])
            held_out.append(checks[clear])
        return cls(np.concatenate(ends), np.concatenate(held_out), horizon / step)


class _Answer(NamedTuple):
    """Forecasts of windows: points ``[W, F, C]`` and the bounds of a band ``[W, F, C, 2]``, or none."""

    point: np.ndarray
    bounds: np.ndarray


@dataclass(frozen=True, eq=False)
class PastForecasts:
    """Forecasts of windows of a panel's own past, with and without the effect of the local regression.

    Attributes:
        own: The regression without any weight.
        windows: As for :func:`fit_covariate_regression`.
        history: Of the panel.
        columns: Of the panel.
        origins: Where the windows end.
        truth: Values that came, ``[W, F, C]``; NaN where one is missing.
        level, spread: Of each window, ``[W, 1, C]``; the spread is NaN where a window is constant.
        effect: What columns contribute to the steps ahead by the local regression, ``[W, F, C]``.
        answers: Forecasts by the share of the local regression.
    """

    own: CovariateRegression
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
        cls, own: CovariateRegression, base: Base, windows: Windows, panel: Panel, origins: Origins
    ) -> PastForecasts:
        """Let the base forecast the windows before all origins."""
        n_windows, horizon, n_channels = len(origins.ends), own.horizon, panel.n_channels
        history, columns = History(panel), CovariateHistory(panel, own.encoder.columns)
        truth = history.futures(origins.ends, horizon)
        level, spread = (np.empty((n_windows, 1, n_channels)) for _ in range(2))
        effect = np.empty(truth.shape)
        answers: dict[float, _Answer] = {}
        past = cls(own, windows, history, columns, origins, truth, level, spread, effect, answers)
        batches: dict[float, list[_Answer]] = {share: [] for share in ((0.0, 1.0) if own.reads_rows else (0.0,))}
        for part, x, covariates in past.parts(np.arange(n_windows)):
            effects = own.effects(x, covariates)
            effect[part] = effects[:, x.shape[1] :]
            for share, parts in batches.items():
                parts.append(_Answer(*replace(own, share=share).blended(base, x, _BAND, effects)))
            for c in range(n_channels):
                features = own.features(x[..., c], covariates)
                level[part, :, c], spread[part, :, c] = features.level, features.spread
        spread[spread == 0] = np.nan
        for share, parts in batches.items():
            answers[share] = _Answer(*(np.concatenate(each) for each in zip(*parts, strict=True)))
        if own.reads_rows:
            answers[0.5] = _Answer(*((a + b) / 2 for a, b in zip(answers[0.0], answers[1.0], strict=True)))
        return past

    @property
    def usable(self) -> np.ndarray:
        """Windows that are not constant and whose future shows a value, ``[W]``."""
        return np.isfinite(self.truth / self.spread).any(axis=(1, 2))

    def parts(self, pick: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, CovariateWindows]]:
        """Some windows, few at a time: which, their contexts and covariates."""
        width = self.own.n_features(True) * self.own.horizon
        longest = int(self.history.panel.lengths.max())
        step = min(max(1, _CHUNK_VALUES // (width + self.columns.width(longest, self.own.horizon))), 512)
        for first in range(0, len(pick), step):
            part = pick[first : first + step]
            x = self.windows(self.history, self.origins.ends[part])
            yield part, x, self.columns.windows(self.origins.ends[part], x.shape[1], self.own.horizon)

    def best(self) -> CovariateRegression:
        """The share and weights with the least error on the windows held out, learnt from all windows."""
        learn, check = (np.flatnonzero(self.usable & part) for part in (~self.origins.held_out, self.origins.held_out))
        rows, check_rows = self._tree_rows(learn), self._tree_rows(check)
        options = [self._with_trees(share, rows, check_rows) for share in self.answers]
        # Of two that are alike, the mean of both forecasts is the safer one.
        share, trees_errors, _ = min(options, key=lambda option: option.loss * (1 + _WORTH * (option.share != 0.5)))
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
            return self.own
        rows = rows.join(check_rows)
        return replace(
            self.own,
            share=share,
            pooled=pooled if pooled_weight else None,
            trees=self._trees(share, rows) if trees_weight else None,
            pooled_weight=float(pooled_weight),
            trees_weight=float(trees_weight),
            band_factor=self._band_factor(share, expected[k], check),
            error_ratio=float(losses[k].mean() / plain.mean()),
        )

    def _with_trees(self, share: float, learn: _TreeRows, check: _TreeRows) -> _Opinion:
        """The least error on the windows held out with a share of the local regression and trees of any weight."""
        point = self.answers[share].point
        trees = self._trees(share, learn)
        errors = np.full(point.shape, np.nan)
        errors[check.places] = trees(self._tree_features(share, check))
        held_out = np.unique(check.places[0])
        weights = np.arange(0, 1 + _WEIGHT_STEP / 2, _WEIGHT_STEP)
        losses = [self.losses(share, weight * errors[held_out], held_out).mean() for weight in weights]
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

    def _tree_rows(self, pick: np.ndarray) -> _TreeRows:
        """Features of steps of some windows, drawn where there are many."""
        shape = self.truth.shape
        share = _MOST_ROWS / max(len(pick) * shape[1] * shape[2], 1)
        drawn = np.random.default_rng(0).random(shape) < share
        features, places = [], []
        for part, x, covariates in self.parts(pick):
            for c in range(shape[2]):
                own = self.own.features(x[..., c], covariates)
                table = own.of_trees(self.answers[0.0].point[part, :, c], self.effect[part, :, c], self.own.seasons)
                chosen = drawn[part, :, c]
                features.append(table[chosen])
                window, step = np.nonzero(chosen)
                places.append((part[window], step, np.full(len(step), c)))
        return _TreeRows(np.concatenate(features), tuple(np.concatenate(each) for each in zip(*places, strict=True)))

    def _pooled(self, share: float, learn: np.ndarray, check: np.ndarray) -> tuple[np.ndarray, PooledRegression]:
        """Errors expected of the windows that check by the windows that learn, ``[B, F, C]``; a regression of both."""
        sums, more = (NormalEquations(self.own.n_features(True)) for _ in range(2))
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

    def _pooled_rows(self, share: float, pick: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, int]]:
        """Features ``[B, F, n]`` and targets ``[B, F]`` of the pooled regression, of which windows and channel."""
        point = self.answers[share].point
        for part, x, covariates in self.parts(pick):
            target = (self.truth[part] - point[part]) / self.spread[part]
            for c in range(x.shape[2]):
                own = self.own.features(x[..., c], covariates)
                yield own.of_point(point[part, :, c], True), target[..., c], part, c

    def losses(self, share: float, errors: np.ndarray | float, pick: np.ndarray) -> np.ndarray:
        """Mean absolute error of some windows, whose forecasts have errors taken off, in units of their spread."""
        missed = (self.truth[pick] - self.answers[share].point[pick]) / self.spread[pick] - errors
        return np.asarray(np.nanmean(np.abs(missed).reshape(len(pick), -1), axis=1))

    def _band_factor(self, share: float, errors: np.ndarray, pick: np.ndarray) -> float:
        """What the distance of the bounds to the points must be multiplied by for a band to hold 80% of the truths."""
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
    """Steps of windows for trees: features ``[R, n]``, and the window, step and channel of each ``[R]``."""

    features: np.ndarray
    places: tuple[np.ndarray, ...]

    def join(self, other: _TreeRows) -> _TreeRows:
        """The rows of both."""
        places = tuple(np.concatenate(each) for each in zip(self.places, other.places, strict=True))
        return _TreeRows(np.concatenate([self.features, other.features]), places)


class _Opinion(NamedTuple):
    """A share of the local regression, the errors that trees then expect of windows held out, and the least loss."""

    share: float
    errors: np.ndarray
    loss: float
