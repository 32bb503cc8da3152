"""Weights of regressions on columns, learnt from forecasts of the past of a table."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from tsattn.data.calendar import calendar_cycles, season_length
from tsattn.data.encoding import CovariateEncoder, CovariateHistory, CovariateWindows
from tsattn.data.panel import Panel
from tsattn.data.windows import History, find_stuck_cells, spread_places
from tsattn.evaluate.intervals import factor_needed
from tsattn.forecasters.band_widths import (
    BAND,
    COVERAGE,
    BandErrors,
    BandWidths,
    fit_band_widths,
)
from tsattn.forecasters.boosted_trees import BoostedTrees
from tsattn.forecasters.covariate_regression import CHUNK_VALUES, Base, CovariateRegression
from tsattn.forecasters.deadlines import (
    OutOfTime,
    require_seconds,
    seconds_left,
    spread_order,
    time_limit,
)
from tsattn.forecasters.pooled_regression import (
    NormalEquations,
    PooledRegression,
    target_features,
)

# Contexts before ends, as a forecaster cuts them.
Windows = Callable[[History, np.ndarray], np.ndarray]

# Penalties of the pooled regression that are tried, as shares of the variance of a feature.
_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
# Weights of the pooled regression and the trees that are tried are multiples of this.
_WEIGHT_STEP = 0.25
# Largest weight of the target trees. They know nothing of what the base has learnt elsewhere.
_MOST_TARGET_WEIGHT = 0.5
# Most steps of windows that trees learn from.
_MOST_ROWS = 2**16
# Most windows that are forecast.
_MOST_WINDOWS = 1024
# Most windows that are forecast in one pass.
_WINDOWS_A_PASS = 512
# Most series that windows are taken from.
_MOST_SERIES = 128
# Share of the time for the forecasts of the past. Learning from them takes the rest.
_FORECAST_SHARE = 0.5
# A share of the local regression is tried with trees if its loss is at most so many times the least
# loss of all shares.
_NEAR_LOSS = 1.1
# Share of the time for the first trees, which are only checked. The trees of all rows take the
# rest.
_FIRST_TREES_SHARE = 0.5
# Factor of the time that the next trees are expected to take.
_FIT_MARGIN = 1.2
# Fewest windows from which something is learnt.
_LEAST_WINDOWS = 32
# One in so many windows of a series, the last ones, checks what the others taught.
_HELD_OUT = 4
# A gain counts if it is so many standard errors above zero, ...
_SURE = 2.0
# ... and such a share of the error.
_WORTH = 0.01
# Least and largest factor of the distance of the band to the points.
_NARROWEST = 0.1
_WIDEST = 3.0


def fit_covariate_regression(
    base: Base,
    windows: Windows,
    panel: Panel,
    encoder: CovariateEncoder,
    *,
    horizon: int,
    min_rows: int,
    without_doubtful: Panel | None = None,
) -> CovariateRegression:
    """Learn what covariates add to a base, from forecasts of the panel's own past.

    The base forecasts from rolling origins, with and without the effect of the local regression.
    The pooled regression and all trees learn from the earlier origins, and the last quarter of each
    series chooses shares and weights, those of "no columns" among them: others are taken if the
    base's error falls by 1% and by two standard errors, and the target trees and the pooled
    regression have a weight if the error falls by as much once more. The pooled regression and all
    trees are then learnt from all windows. Otherwise the local regression alone may have a share,
    by the same rule, where it lowers the error of all windows: rare events are in few of them.
    Under a :func:`tsattn.forecasters.deadlines.time_limit` there are as many windows, spread
    evenly, as can be forecast in half of the time.

    Args:
        base: Forecasts without covariates.
        windows: Contexts before ends, as :meth:`tsattn.forecaster.Forecaster.windows` cuts them.
        panel: The series.
        encoder: How covariates are read.
        horizon: Steps F.
        min_rows: Rows that the base needs before an end.
        without_doubtful: The panel without further values that may be wrong, if it has some. They
            are left out if the windows held out are then forecast clearly better, and if there is
            time to see it.

    Raises:
        OutOfTime: If the forecasts of the past do not end in time.
    """
    require_seconds()
    season = season_length(panel.freq)
    cycles = calendar_cycles(panel.freq)
    longer = [length for length in cycles if length > season]
    cycle = max(longer, default=0)
    regression = CovariateRegression(encoder, horizon, season, cycle)
    origins = Origins.of(panel, horizon, min_rows, regression.rows)
    all_windows = np.ones(len(origins.ends), dtype=bool)
    if not origins.suffice(all_windows):
        return regression
    n_panels = 1 if without_doubtful is None else 2
    seconds = _FORECAST_SHARE * seconds_left() / n_panels
    begun = time.monotonic()
    past = PastForecasts.of(regression, base, windows, panel, origins, seconds)
    if not origins.suffice(past.usable):
        return regression
    choice = past.best()
    if without_doubtful is None:
        return choice.regression
    try:
        # The second choice takes as long as the first.
        require_seconds(time.monotonic() - begun)
        leaving_out = replace(regression, leaves_out=True)
        past_without = PastForecasts.of(
            leaving_out, base, windows, without_doubtful, origins, seconds
        )
        choice_without = past_without.best()
    except OutOfTime:
        return choice.regression
    # The values that are left out count as truths, since they may be right. If they are wrong, most
    # of each loss is theirs, so that no gain is a large share of it.
    truth = past.truth
    unit = past_without.spread
    errors = (truth - choice.point) / unit
    errors_without = (truth - choice_without.point) / unit
    both_known = np.isfinite(errors) & np.isfinite(errors_without)
    judged = both_known.any(axis=(1, 2))
    losses = _mean_losses(errors[judged])
    if past.clearly_lower(_mean_losses(errors_without[judged]), losses, worth=0.0):
        return choice_without.regression
    return choice.regression


def _mean_losses(errors: np.ndarray) -> np.ndarray:
    """Mean absolute error of windows ``[W, F, C]`` that each have one, ``[W]``; NaN is missing."""
    return np.nanmean(np.abs(errors), axis=(1, 2))


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

    def suffice(self, usable: np.ndarray) -> bool:
        """Whether enough of the usable windows ``[W]`` learn and check."""
        checks = self.held_out & usable
        learners = ~self.held_out & usable
        n_checks = int(checks.sum())
        n_learners = int(learners.sum())
        # One of four windows is expected to check.
        n_windows = min(n_learners, _HELD_OUT * n_checks)
        return n_windows >= _LEAST_WINDOWS

    @classmethod
    def of(cls, panel: Panel, horizon: int, min_rows: int, usual_rows: int) -> Origins:
        """Choose origins of some series, at most a horizon apart.

        No training window shares a row with a window that checks.

        Args:
            panel: The series.
            horizon: Steps ahead.
            min_rows: Rows that stand before an end at least.
            usual_rows: Rows that stand before it where a quarter of the series is as long.
        """
        most_affordable = _MOST_WINDOWS // panel.n_channels
        most_windows = max(most_affordable, 2 * _LEAST_WINDOWS)
        series = spread_places(panel.n_series, _MOST_SERIES)
        most_ends = most_windows // len(series)
        lengths = panel.lengths[series]
        rows_before_first = np.minimum(lengths // _HELD_OUT, usual_rows)
        rows_before_first = np.maximum(rows_before_first, min_rows)
        # Rows between the first end and the last one; -1 where there is no end.
        rooms = lengths - horizon - rows_before_first
        rooms = np.maximum(rooms, -1)
        affordable_step = rooms.sum() // (2 * _LEAST_WINDOWS)
        step = int(np.clip(affordable_step, 1, horizon))
        ends = []
        held_out = []
        for n, room in zip(series, rooms, strict=True):
            last_end = panel.starts[n + 1] - horizon
            before_first = last_end - room - 1
            latest_first = np.arange(last_end, before_first, -step)
            series_ends = latest_first[:most_ends][::-1]
            usable, is_check = _held_out_last(series_ends, horizon)
            ends.append(series_ends[usable])
            held_out.append(is_check[usable])
        overlap = horizon / step
        return cls(np.concatenate(ends), np.concatenate(held_out), overlap)


def _held_out_last(ends: np.ndarray, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Which windows of one series are used, and which of them check: the last quarter.

    A window whose horizon reaches into those that check is not used.

    Args:
        ends: Ends of the contexts, ascending, ``[n]``.
        horizon: Steps ahead.
    """
    n_ends = len(ends)
    n_checks = n_ends // _HELD_OUT
    is_check = np.arange(n_ends) >= n_ends - n_checks
    if not n_checks:
        return np.ones(n_ends, dtype=bool), is_check
    first_check = ends[-n_checks]
    is_before_checks = ends + horizon <= first_check
    return is_check | is_before_checks, is_check


class _Answer(NamedTuple):
    """Forecasts of windows.

    Attributes:
        point: ``[W, F, C]``.
        bounds: Of a band, ``[W, F, C, 2]``, or none, ``[W, F, C, 0]``.
    """

    point: np.ndarray
    bounds: np.ndarray

    def mean_with(self, other: _Answer) -> _Answer:
        """The mean of these forecasts and others."""
        point = (self.point + other.point) / 2
        bounds = (self.bounds + other.bounds) / 2
        return _Answer(point, bounds)


def _in_places(arrays: Sequence[np.ndarray], places: np.ndarray, n_windows: int) -> np.ndarray:
    """Rows of the windows at some places, which are joined; NaN for all other windows."""
    rows_at_places = np.concatenate(arrays)
    row_shape = rows_at_places.shape[1:]
    all_rows = np.full((n_windows, *row_shape), np.nan)
    all_rows[places] = rows_at_places
    return all_rows


@dataclass(frozen=True, eq=False)
class PastWindows:
    """Windows of the past of a panel, cut a few at a time.

    Attributes:
        cut: As ``windows`` of :func:`fit_covariate_regression`.
        history: Of the panel.
        columns: Of the panel.
        ends: Where the contexts end, ``[W]``.
        horizon: Steps ahead.
        size: Most windows that are cut at a time.
    """

    cut: Windows
    history: History
    columns: CovariateHistory
    ends: np.ndarray
    horizon: int
    size: int

    @classmethod
    def of(
        cls, regression: CovariateRegression, cut: Windows, panel: Panel, ends: np.ndarray
    ) -> PastWindows:
        """The windows before some ends, as many at a time as a regression has memory for."""
        horizon = regression.horizon
        columns = CovariateHistory(panel, regression.encoder.columns)
        longest = int(panel.lengths.max())
        n_features = regression.n_features(squares=True) * horizon
        n_values = n_features + columns.width(longest, horizon)
        most_windows = max(1, CHUNK_VALUES // n_values)
        size = min(most_windows, _WINDOWS_A_PASS)
        return cls(cut, History(panel), columns, ends, horizon, size)

    def parts(self, pick: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, CovariateWindows]]:
        """Some windows, few at a time: their numbers, contexts and covariates.

        Raises:
            OutOfTime: If the next part would not end in time if it took as long as the one before.
        """
        seconds = 0.0
        for first in range(0, len(pick), self.size):
            require_seconds(seconds)
            begun = time.monotonic()
            part = pick[first : first + self.size]
            ends = self.ends[part]
            x = self.cut(self.history, ends)
            n_rows = x.shape[1]
            covariates = self.columns.windows(ends, n_rows, self.horizon)
            yield part, x, covariates
            seconds = time.monotonic() - begun


@dataclass(frozen=True, eq=False)
class PastForecasts:
    """Forecasts of windows of the past of a panel, with and without the local regression.

    Attributes:
        regression: The one without any weight.
        windows: The windows.
        origins: Where they end, and which of them check.
        truth: Values that came, ``[W, F, C]``; NaN where one is missing.
        effect: What columns contribute to the steps ahead by the local regression, ``[W, F, C]``.
        location, spread: Of each window, ``[W, 1, C]``; the spread of a constant window is NaN.
        answers: Forecasts by the share of the local regression.
    """

    regression: CovariateRegression
    windows: PastWindows
    origins: Origins
    truth: np.ndarray
    effect: np.ndarray
    location: np.ndarray
    spread: np.ndarray
    answers: dict[float, _Answer]

    @classmethod
    def of(
        cls,
        regression: CovariateRegression,
        base: Base,
        cut: Windows,
        panel: Panel,
        origins: Origins,
        seconds: float,
    ) -> PastForecasts:
        """Let the base forecast the windows before all origins, or before as many as ``seconds``
        allow, which are spread evenly over all of them.
        """
        end = time.monotonic() + seconds
        windows = PastWindows.of(regression, cut, panel, origins.ends)
        n_windows = len(origins.ends)
        order = np.arange(n_windows)
        if math.isfinite(seconds):
            order = spread_order(n_windows)
        forecasts = []
        n_done = 0
        for part, x, covariates in windows.parts(order):
            forecasts.append(_forecast(regression, base, x, covariates))
            n_done += len(part)
            # These seconds are a share of the limit that the parts must keep.
            if time.monotonic() > end:
                break
        columns = zip(*forecasts, strict=True)
        places = order[:n_done]
        arrays = [_in_places(column, places, n_windows) for column in columns]
        effect, location, spread, point, bounds, *with_effect = arrays
        answers = {0.0: _Answer(point, bounds)}
        if regression.reads_rows:
            answers[1.0] = _Answer(*with_effect)
            answers[0.5] = answers[0.0].mean_with(answers[1.0])
        past = cls(
            regression=regression,
            windows=windows,
            origins=origins,
            truth=windows.history.futures(origins.ends, regression.horizon),
            effect=effect,
            location=location,
            # No error is measured in units of a constant window.
            spread=np.where(spread == 0, np.nan, spread),
            answers=answers,
        )
        # Truths at rows where a column is stuck would suggest that the column has no effect.
        beside_stuck = find_stuck_cells(panel).any(axis=1, keepdims=True)
        values = np.where(beside_stuck, np.nan, panel.values)
        trusted_history = History(replace(panel, values=values))
        trusted = trusted_history.futures(origins.ends, regression.horizon)
        judged = replace(past, truth=trusted)
        return judged if origins.suffice(judged.usable) else past

    @property
    def usable(self) -> np.ndarray:
        """Windows that are not constant and whose future shows a value, ``[W]``."""
        is_usable = np.isfinite(self.truth / self.spread)
        return is_usable.any(axis=(1, 2))

    def best(self) -> Choice:
        """Choose the share and weights with the least error on the windows held out.

        The pooled regression and all trees are then learnt from all windows. Trees that would not
        end in time are left out, the target trees first, and so is the pooled regression.
        """
        usable = self.usable
        held_out = self.origins.held_out
        learn = np.flatnonzero(usable & ~held_out)
        check = np.flatnonzero(usable & held_out)
        plain_options = [self._without_trees(share, check) for share in self.answers]
        try:
            rows = self._tree_rows(learn, _MOST_ROWS)
            check_rows = self._tree_rows(check, None)
            options = self._options(plain_options, rows, check_rows)
        except OutOfTime:
            return self._chosen(learn, check, plain_options, None)
        target = None
        with suppress(OutOfTime), time_limit(_FIRST_TREES_SHARE * seconds_left()):
            target = self._target_of_trees(rows, check_rows)
        all_rows = rows.join(check_rows)
        return self._chosen(learn, check, options, all_rows, target)

    def _options(
        self, plain_options: list[_TreesOption], learn: _TreeRows, check: _TreeRows
    ) -> list[_TreesOption]:
        """The shares that are nearly as good as the best one, with trees: all of them, or those
        that the time allows, which may then also be too short for all rows.

        Args:
            plain_options: The shares without trees.
            learn: Steps of the windows that learn.
            check: Steps of those that check.
        """
        ranked = sorted(plain_options, key=_cautious_loss)
        highest_loss = _NEAR_LOSS * min(option.loss for option in ranked)
        shares = [option.share for option in ranked if option.loss <= highest_loss]
        options: list[_TreesOption] = []
        seconds = 0.0
        for share in shares:
            # This one, and the one of all rows.
            if options and seconds_left() < 2 * _FIT_MARGIN * seconds:
                break
            begun = time.monotonic()
            try:
                with time_limit(_FIRST_TREES_SHARE * seconds_left()):
                    option = self._with_trees(share, learn, check)
            except OutOfTime:
                if not options:
                    raise
                break
            options.append(option)
            seconds = time.monotonic() - begun
        return options

    def _chosen(
        self,
        learn: np.ndarray,
        check: np.ndarray,
        options: list[_TreesOption],
        rows: _TreeRows | None,
        target: np.ndarray | None = None,
    ) -> Choice:
        """The regression with the best of the shares.

        Args:
            learn: Windows that learn.
            check: Windows that check.
            options: The shares.
            rows: Steps that the trees learn from.
            target: What target trees forecast for the windows that check, in units of the window,
                ``[B, F, C]``.
        """
        share, trees_errors, _ = min(options, key=_cautious_loss)
        opinions, pooled = self._opinions(share, trees_errors, target, learn, check)
        plain = self.losses(0.0, 0.0, check)
        mix, trees, target_trees = self._affordable_mix(share, opinions, rows, check, plain)
        point = np.full(self.truth.shape, np.nan)
        if not self.clearly_lower(mix.losses, plain):
            regression = self._with_local_alone(np.union1d(learn, check))
            point[check] = self.answers[regression.share].point[check]
            return Choice(regression, point)
        correction = self.spread[check] * mix.errors
        point[check] = self.answers[share].point[check] + correction
        widths = None
        band_factor = self._band_factor(share, mix.errors, check)
        if rows is not None:
            with suppress(OutOfTime):
                widths, band_factor = self._band_widths(share, point, rows, band_factor)
        regression = replace(
            self.regression,
            share=share,
            pooled=pooled if mix.pooled_weight else None,
            trees=trees,
            target_trees=target_trees,
            widths=widths,
            pooled_weight=mix.pooled_weight,
            trees_weight=mix.trees_weight,
            target_weight=mix.target_weight,
            band_factor=band_factor,
            error_ratio=float(mix.losses.mean() / plain.mean()),
        )
        return Choice(regression, point)

    def _opinions(
        self,
        share: float,
        trees_errors: np.ndarray,
        target: np.ndarray | None,
        learn: np.ndarray,
        check: np.ndarray,
    ) -> tuple[_Opinions, PooledRegression | None]:
        """The errors that each regression expects of the windows that check, zeros of one for which
        there is no time, and the pooled regression.
        """
        no_errors = np.zeros_like(trees_errors)
        pooled_errors = no_errors
        pooled = None
        with suppress(OutOfTime):
            pooled_errors, pooled = self._pooled(share, learn, check)
        target_errors = no_errors
        if target is not None:
            target_errors = target - self._scaled(share)[check]
        return _Opinions(pooled_errors, trees_errors, target_errors), pooled

    def _affordable_mix(
        self,
        share: float,
        opinions: _Opinions,
        rows: _TreeRows | None,
        check: np.ndarray,
        plain: np.ndarray,
    ) -> tuple[_Mix, BoostedTrees | None, BoostedTrees | None]:
        """The best mix whose trees can be learnt from the rows in time: first the target trees are
        left out, then the others. The trees and the target trees come with it.

        No trees are learnt where the losses of the mix are not clearly below the ``plain`` ones.
        """
        no_errors = np.zeros_like(opinions.trees)
        without_target = opinions._replace(target=no_errors)
        without_trees = without_target._replace(trees=no_errors)
        for affordable in (opinions, without_target, without_trees):
            mix = self._best_mix(share, affordable, check)
            if rows is None or not self.clearly_lower(mix.losses, plain):
                break
            trees = target_trees = None
            with suppress(OutOfTime):
                if mix.target_weight:
                    with time_limit(_FIRST_TREES_SHARE * seconds_left()):
                        target_trees = self._target_trees(rows)
                if mix.trees_weight:
                    trees = self._trees(share, rows)
                return mix, trees, target_trees
        return mix, None, None

    def _best_mix(self, share: float, opinions: _Opinions, check: np.ndarray) -> _Mix:
        """The weights of the pooled regression and of all trees with the least loss on the windows
        held out; of those that are alike the smallest.

        The pooled regression counts only where the error is clearly lower with it. It learns from
        all rows as if they were of one time, and misleads where the table has changed since. The
        target trees count only where the error is then clearly lower once more. They do not know
        what the base does.
        """
        mixes = []
        for weights in _sets_of_weights():
            pairs = zip(weights, opinions, strict=True)
            weighted = [weight * errors for weight, errors in pairs]
            errors = np.sum(weighted, axis=0)
            losses = self.losses(share, errors, check)
            mix = _Mix(*weights, errors, losses)
            mixes.append(mix)
        without_target = [mix for mix in mixes if not mix.target_weight]
        trees_alone = [mix for mix in without_target if not mix.pooled_weight]
        best = min(trees_alone, key=_mean_loss)
        with_pooled = min(without_target, key=_mean_loss)
        if self.clearly_lower(with_pooled.losses, best.losses):
            best = with_pooled
        # With target trees, the pooled regression is not tried anew.
        further = [mix for mix in mixes if best.pooled_weight or not mix.pooled_weight]
        with_target = min(further, key=_mean_loss)
        if self.clearly_lower(with_target.losses, best.losses):
            best = with_target
        return best

    def _with_local_alone(self, pick: np.ndarray) -> CovariateRegression:
        """The best share of the local regression, where it is clearly better than none.

        It is fitted inside each window, so that all windows ``pick`` check it, of which few hold
        rare events.
        """
        losses = {share: self.losses(share, 0.0, pick) for share in self.answers}
        share = min(losses, key=lambda share: losses[share].mean())
        plain = losses[0.0]
        if not self.clearly_lower(losses[share], plain):
            return self.regression
        return replace(
            self.regression,
            share=share,
            band_factor=self._band_factor(share, np.zeros(1), pick),
            error_ratio=float(losses[share].mean() / plain.mean()),
        )

    def clearly_lower(self, losses: np.ndarray, plain: np.ndarray, worth: float = _WORTH) -> bool:
        """Whether losses of windows are lower than plain ones by more than chance, and by a share
        ``worth`` of the plain ones.
        """
        gain = plain - losses
        # Windows that share rows count as fewer ones.
        share_of_variance = self.origins.overlap / len(gain)
        standard_error = gain.std() * np.sqrt(share_of_variance)
        sure_gain = _SURE * standard_error
        worthy_gain = worth * plain.mean()
        return bool(gain.mean() > max(sure_gain, worthy_gain))

    def _with_trees(self, share: float, learn: _TreeRows, check: _TreeRows) -> _TreesOption:
        """The least loss on the windows held out with a share and trees of any weight."""
        point = self.answers[share].point
        trees = self._trees(share, learn)
        features = self._tree_features(share, check)
        errors = np.full(point.shape, np.nan)
        errors[check.places] = trees(features)
        held_out = np.unique(check.places[0])
        errors = errors[held_out]
        mean_losses = []
        for weight in _tried_weights():
            losses = self.losses(share, weight * errors, held_out)
            mean_losses.append(losses.mean())
        least_loss = float(min(mean_losses))
        return _TreesOption(share, errors, least_loss)

    def _without_trees(self, share: float, check: np.ndarray) -> _TreesOption:
        """The loss on the windows held out with a share alone."""
        window_shape = self.truth.shape[1:]
        errors = np.zeros((len(check), *window_shape))
        losses = self.losses(share, errors, check)
        return _TreesOption(share, errors, float(losses.mean()))

    def _trees(self, share: float, rows: _TreeRows) -> BoostedTrees:
        """Trees for the error that a share of the local regression leaves."""
        point = self.answers[share].point
        errors = (self.truth - point) / self.spread
        target = errors[rows.places]
        usable = np.isfinite(target)
        features = self._tree_features(share, rows)
        return BoostedTrees.fit(features[usable], target[usable])

    def _target_trees(self, rows: _TreeRows) -> BoostedTrees:
        """Trees for the target itself, in units of the window."""
        scaled_truth = (self.truth - self.location) / self.spread
        target = scaled_truth[rows.places]
        usable = np.isfinite(target)
        features = target_features(rows.features, rows.past)
        return BoostedTrees.fit(features[usable], target[usable])

    def _target_of_trees(self, learn: _TreeRows, check: _TreeRows) -> np.ndarray:
        """What target trees of the rows that learn forecast for the windows that check, in units of
        the window, ``[B, F, C]``.
        """
        trees = self._target_trees(learn)
        features = target_features(check.features, check.past)
        target = np.full(self.truth.shape, np.nan)
        target[check.places] = trees(features)
        held_out = np.unique(check.places[0])
        return target[held_out]

    def _scaled(self, share: float) -> np.ndarray:
        """Forecasts with a share of the local regression in units of the window, ``[W, F, C]``."""
        point = self.answers[share].point
        return (point - self.location) / self.spread

    def _tree_features(self, share: float, rows: _TreeRows) -> np.ndarray:
        """Features of rows, of which the first is the forecast with this share."""
        scaled_of_rows = self._scaled(share)[rows.places]
        features = rows.features.copy()
        features[:, 0] = np.nan_to_num(scaled_of_rows)
        return features

    def _tree_rows(self, pick: np.ndarray, n_drawn: int | None) -> _TreeRows:
        """Features of all steps of some windows, or of about ``n_drawn`` steps that are drawn."""
        shape = self.truth.shape
        _, horizon, n_channels = shape
        share = 1.0
        if n_drawn is not None:
            n_rows = len(pick) * horizon * n_channels
            share = n_drawn / max(n_rows, 1)
        generator = np.random.default_rng(0)
        drawn = generator.random(shape) < share
        tables = []
        pasts = []
        places = []
        for part, x, covariates in self.windows.parts(pick):
            for c in range(n_channels):
                features = self.regression.features(x[..., c], covariates)
                point = self.answers[0.0].point[part, :, c]
                effect = self.effect[part, :, c]
                table = features.of_trees(point, effect, self.regression.seasons)
                past = features.of_past(horizon, self.regression.seasons)
                chosen = drawn[part, :, c]
                tables.append(table[chosen])
                pasts.append(past[chosen])
                window, step = np.nonzero(chosen)
                channel = np.full(len(step), c)
                places.append((part[window], step, channel))
        columns = zip(*places, strict=True)
        windows, steps, channels = map(np.concatenate, columns)
        return _TreeRows(np.concatenate(tables), np.concatenate(pasts), (windows, steps, channels))

    def _pooled(
        self, share: float, learn: np.ndarray, check: np.ndarray
    ) -> tuple[np.ndarray, PooledRegression]:
        """Fit the pooled regression.

        Returns:
            Errors of the windows that check, as expected by those that learn, ``[B, F, C]``; and
            the regression of both.
        """
        n_features = self.regression.n_features(squares=True)
        learn_sums = NormalEquations(n_features)
        check_sums = NormalEquations(n_features)
        for features, target, *_ in self._pooled_rows(share, learn):
            learn_sums.add(features, target)
        options = [learn_sums.solve(penalty, squares=True) for penalty in _PENALTIES]
        window_shape = self.truth.shape[1:]
        errors = np.zeros((len(options), len(check), *window_shape))
        for features, target, part, c in self._pooled_rows(share, check):
            check_sums.add(features, target)
            place = np.searchsorted(check, part)
            filled = np.nan_to_num(features)
            for option, option_errors in zip(options, errors, strict=True):
                option_errors[place, :, c] = option(filled)
        mean_losses = []
        for expected in errors:
            losses = self.losses(share, expected, check)
            mean_losses.append(losses.mean())
        best = int(np.argmin(mean_losses))
        learn_sums.join(check_sums)
        regression = learn_sums.solve(_PENALTIES[best], squares=True)
        return errors[best], regression

    def _pooled_rows(
        self, share: float, pick: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, int]]:
        """Rows of the pooled regression.

        Yields:
            Features ``[B, F, n]``, targets ``[B, F]``, and the windows and the channel of both.
        """
        point = self.answers[share].point
        for part, x, covariates in self.windows.parts(pick):
            part_point = point[part]
            error = self.truth[part] - part_point
            target = error / self.spread[part]
            for c in range(x.shape[2]):
                features = self.regression.features(x[..., c], covariates)
                of_point = features.of_point(part_point[..., c], squares=True)
                yield of_point, target[..., c], part, c

    def losses(self, share: float, errors: np.ndarray | float, pick: np.ndarray) -> np.ndarray:
        """Mean absolute error of some windows in units of their spread, ``[B]``.

        Args:
            share: Of the local regression.
            errors: Expected ones, which are added to the forecasts.
            pick: Windows.
        """
        point = self.answers[share].point
        missed = self.truth[pick] - point[pick]
        return _mean_losses(missed / self.spread[pick] - errors)

    def _band_widths(
        self, share: float, point: np.ndarray, rows: _TreeRows, band_factor: float
    ) -> tuple[BandWidths | None, float]:
        """Widths of the band that follow the features of the trees, if they fit the errors of the
        windows held out better, and the factor of the band.

        Args:
            share: Of the local regression.
            point: Forecasts of the windows held out, ``[W, F, C]``; NaN for the others.
            rows: Steps of all windows.
            band_factor: Of a band that follows the base's alone.
        """
        answer = self.answers[share]
        if not answer.bounds.shape[3]:
            return None, band_factor
        has_forecast = np.isfinite(point[rows.places])
        rows = rows.some(has_forecast)
        places = rows.places
        spread = np.broadcast_to(self.spread, point.shape)[places]
        base_point = answer.point[places]
        below = base_point - answer.bounds[..., 0][places]
        above = answer.bounds[..., 1][places] - base_point
        gap = self.truth[places] - point[places]
        errors = BandErrors(
            gap=gap / spread,
            below=below / spread,
            above=above / spread,
            windows=places[0],
            features=self._tree_features(share, rows),
        )
        has_error = np.isfinite(errors.gap)
        has_width = errors.below + errors.above > 0
        fitted = fit_band_widths(errors.some(has_error & has_width))
        if fitted is None:
            return None, band_factor
        widths, factor = fitted
        return widths, float(np.clip(factor, _NARROWEST, _WIDEST))

    def _band_factor(self, share: float, errors: np.ndarray, pick: np.ndarray) -> float:
        """Factor of the distance of bounds to points with which 80% of the truths lie inside."""
        point = self.answers[share].point[pick]
        bounds = self.answers[share].bounds[pick]
        if not bounds.shape[3]:
            return 1.0
        spread = self.spread[pick]
        correction = spread * errors
        gap = self.truth[pick] - point - correction
        above = bounds[..., 1] - point
        below = point - bounds[..., 0]
        usable = np.isfinite(gap) & np.isfinite(spread)
        usual_gap = np.quantile(np.abs(gap[usable]), COVERAGE)
        if not usual_gap > 0:
            return 1.0
        factor = factor_needed(gap[usable], below[usable], above[usable], COVERAGE)
        return float(np.clip(factor, _NARROWEST, _WIDEST))


def _forecast(
    regression: CovariateRegression, base: Base, x: np.ndarray, covariates: CovariateWindows
) -> list[np.ndarray]:
    """Forecasts of windows ``[B, T, C]``.

    Returns:
        The effect of columns on the steps ahead, location and spread of the windows, points and
        bounds without the local regression, and those with it if it reads rows.
    """
    n_rows = x.shape[1]
    effects = regression.effects(x, covariates)
    location = np.empty((len(x), 1, x.shape[2]))
    spread = np.empty_like(location)
    for c in range(x.shape[2]):
        features = regression.features(x[..., c], covariates)
        location[..., c] = features.location
        spread[..., c] = features.spread
    arrays = [effects[:, n_rows:], location, spread]
    shares = (0.0, 1.0) if regression.reads_rows else (0.0,)
    for share in shares:
        shared = replace(regression, share=share)
        arrays += shared.blended(base, x, BAND, effects)
    return arrays


def _tried_weights() -> np.ndarray:
    """Weights from 0 to 1 that are tried."""
    # Half a step beyond 1, so that rounding does not leave 1 out.
    end = 1 + _WEIGHT_STEP / 2
    return np.arange(0, end, _WEIGHT_STEP)


def _sets_of_weights() -> list[tuple[float, float, float]]:
    """Weights of the pooled regression, the trees and the target trees whose sum is at most 1."""
    tried = _tried_weights().tolist()
    sets = []
    for weights in itertools.product(tried, repeat=3):
        target_weight = weights[-1]
        if sum(weights) <= 1 and target_weight <= _MOST_TARGET_WEIGHT:
            sets.append(weights)
    return sets


def _mean_loss(mix: _Mix) -> float:
    return float(mix.losses.mean())


def _cautious_loss(option: _TreesOption) -> float:
    """The loss of an option; of two that are alike the mean of both forecasts is the safer one."""
    is_mean = option.share == 0.5
    if is_mean:
        return option.loss
    return option.loss * (1 + _WORTH)


class Choice(NamedTuple):
    """A regression and how it forecasts.

    Attributes:
        regression: The regression.
        point: Its forecasts of the windows held out, as learnt from the others, ``[W, F, C]``; NaN
            for the others.
    """

    regression: CovariateRegression
    point: np.ndarray


class _Opinions(NamedTuple):
    """Errors of forecasts of the windows held out in units of the window, ``[B, F, C]``, as
    regressions expect them.

    Attributes:
        pooled: By the pooled regression.
        trees: By the trees.
        target: By the target trees: the difference of the target that they expect to the forecast.
    """

    pooled: np.ndarray
    trees: np.ndarray
    target: np.ndarray


class _Mix(NamedTuple):
    """What is added to forecasts.

    Attributes:
        pooled_weight, trees_weight, target_weight: Weights of the opinions.
        errors: Expected in the windows held out, by all.
        losses: Of these windows.
    """

    pooled_weight: float
    trees_weight: float
    target_weight: float
    errors: np.ndarray
    losses: np.ndarray


class _TreeRows(NamedTuple):
    """Steps of windows for trees.

    Attributes:
        features: Of trees for the error, ``[R, n]``.
        past: Further ones of target trees, ``[R, m]``.
        places: Window, step and channel of each, ``[R]``.
    """

    features: np.ndarray
    past: np.ndarray
    places: tuple[np.ndarray, ...]

    def some(self, chosen: np.ndarray) -> _TreeRows:
        """The rows of a choice ``[R]``, true where one is taken."""
        places = tuple(part[chosen] for part in self.places)
        return _TreeRows(self.features[chosen], self.past[chosen], places)

    def join(self, other: _TreeRows) -> _TreeRows:
        """The rows of both."""
        features = np.concatenate([self.features, other.features])
        past = np.concatenate([self.past, other.past])
        pairs = zip(self.places, other.places, strict=True)
        places = tuple(np.concatenate(parts) for parts in pairs)
        return _TreeRows(features, past, places)


class _TreesOption(NamedTuple):
    """A share of the local regression, and what trees make of it on windows held out.

    Attributes:
        share: Of the local regression.
        errors: That the trees expect.
        loss: The least one with trees of any weight.
    """

    share: float
    errors: np.ndarray
    loss: float
