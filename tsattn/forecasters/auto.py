"""The default forecaster judges candidates on the table's own past and combines the best."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pandas as pd
import torch

from tsattn.catalogue import load_forecaster
from tsattn.checks import Argument, InputError, InputWarning, Name, warn
from tsattn.data.calendar import parse_freq, season_length
from tsattn.data.covariates import CovariateColumns
from tsattn.data.cycles import calendar_slices
from tsattn.data.panel import Panel
from tsattn.data.schema import Schema
from tsattn.data.stored import require
from tsattn.data.windows import History, Values, is_intermittent, known_rows, last_of_ended
from tsattn.evaluate.backtest import seasonal_errors
from tsattn.evaluate.intervals import can_be_count
from tsattn.forecaster import FitContext, Fitted, Forecaster, learnt
from tsattn.forecasters.classical import LocalForecaster
from tsattn.forecasters.combination import (
    NARROWEST,
    WIDEST,
    band_factor,
    candidate_weights,
    combined,
    completed,
    mean_errors,
)
from tsattn.forecasters.deadlines import (
    OutOfTime,
    Progress,
    TimedFit,
    fit_in_time,
    load_in_time,
    time_limit,
    work_at_once,
    work_in_time,
)
from tsattn.forecasters.linear import LinearForecaster
from tsattn.forecasters.naive import Drift, Naive, SeasonalNaive
from tsattn.forecasters.pretrained import (
    GapForecaster,
    PretrainedForecaster,
    clean_panel,
    columns_beside,
    fit_without_columns,
    tell_outliers,
    tell_stuck,
    without_wrong_values,
)
from tsattn.forecasters.regression import SklearnForecaster
from tsattn.forecasters.statsforecast import StatsforecastForecaster
from tsattn.forecasts import Answer
from tsattn.limits import seconds_from
from tsattn.pretrained.weights import load_network
from tsattn.silence import ignored
from tsattn.store import Facts, Saved, Tensors, saved_class
from tsattn.terminal import ProgressLine, progress_line

if TYPE_CHECKING:
    from tsattn.data.encoding import CovariateWindows

# Judged windows of a series, a horizon apart: at least so many where the series is long enough.
_MIN_SERIES_WINDOWS = 4
# Judged windows of a series, at most.
_MAX_SERIES_WINDOWS = 12
# Judged windows of all series that a table of few series aims at.
_AIMED_WINDOWS = 240
# Judged windows of all series, at most; more would cost time and hardly change the weights.
_MAX_JUDGED_WINDOWS = 400
# Share of a series' rows before its judged windows. The last window is judged in any case.
_HISTORY_SHARE = 0.6
# A table of one series with fewer windows a horizon apart has overlapping windows instead.
_LEAST_SINGLE_WINDOWS = 3
# Overlapping windows in the rows of a horizon, at most.
_STEPS_A_HORIZON = 4
# Share of its rows before its overlapping windows.
_OVERLAPPED_HISTORY_SHARE = 0.45
# Quantiles whose band is corrected.
_BAND_QUANTILES = (0.1, 0.9)
# Prior weights. On short series this mean is better than the one that is best on few windows.
_PREFERRED = {"zero": 4.0, "dynamic_theta": 1.0, "auto_ets": 1.0, "theta": 1.0, "ets": 1.0}
# Name of the candidate that stands in for the others and is therefore never left out.
_FALLBACK = "zero"
# Share of the remaining time that one candidate may take.
_CANDIDATE_SHARE = 0.5
# Rows and horizons of a series from which on a fit takes its usual time. Regressions on covariates
# learn nothing from less.
_LEAST_FIT_ROWS = 256
_FIT_HORIZONS = 8
# Share of the remaining time that its first fit may take, and that is kept for the second one.
_FIT_SHARE = 0.35
_REFIT_SHARE = 0.25
# A slow fit stays where the judged windows have less than this share of the rows that it read.
_NEW_ROWS_SHARE = 0.05
# Candidates that learn most from columns beside the target, on as many windows as the time allows,
# and the share of the remaining time that they have for it.
_LEARNERS = ("zero", "gbm")
_LEARNERS_SHARE = 0.6
# Share of the time that is left in the end, which the last fit on columns may take.
_LAST_SHARE = 0.9
# Share of ``max_time`` that is kept for ``predict``, and for work that takes longer than expected.
_RESERVED_SHARE = 0.1
# Seconds that must be left for a classical model; one estimation may take as long as a second.
_LEAST_CLASSICAL_SECONDS = 3.0
# Seconds that a candidate may take under any limit.
_FREE_SECONDS = 1.0
# Share of positive values from which on logarithms are tried.
_POSITIVE_SHARE = 0.5
# Rows of a season, at most, that exponential smoothing estimates.
_LONGEST_SMOOTHED_SEASON = 24
# Rows that exponential smoothing reads at most.
_SMOOTHED_ROWS = 500
# Rows and seasons that the theta method reads of a series with a longer season.
_THETA_ROWS = 520
_THETA_SEASONS = 3
# Rows that it reads at most; a season that is longer than a third of them is left out.
_MOST_THETA_ROWS = 1000
# Rows that a series needs for a classical model.
_CLASSICAL_ROWS = 12
# Training windows from which on a network is trained.
_LEAST_TRAINING_WINDOWS = 1000
# Seconds that the training of a network needs.
_LEAST_TRAINING_SECONDS = 10.0
# Share of the remaining time that the training of a network may take.
_TRAINING_SHARE = 0.4
# Rows of history that a trained network reads, at least and at most.
_MIN_NETWORK_CONTEXT = 96
_MAX_NETWORK_CONTEXT = 512
# Number of candidates, for the progress line.
_N_CANDIDATES = 10
# Modules that take seconds to load.
_PACKAGES = MappingProxyType({"gbm": "sklearn.ensemble", "mlr": "tsattn.training.loop"})
# Classes that a saved combination may hold.
_MEMBER_CLASSES = (
    "Naive",
    "SeasonalNaive",
    "Drift",
    "PretrainedForecaster",
    "LinearForecaster",
    "AttentionForecaster",
    "StatsmodelsForecaster",
    "StatsforecastForecaster",
    "SklearnForecaster",
)
# Columns of the leaderboard.
_COLUMNS = ("error", "weight", "seconds", "note")


class _Candidate(NamedTuple):
    """A forecaster that may take part."""

    name: str  # as in the catalogue
    forecaster: Forecaster
    # Whether it forecasts each window from its own rows and learns nothing but the season, so that
    # its speed can be measured on a few windows.
    by_row: bool = False
    # Whether its quantiles count. Those of a network are calibrated on few windows of a short
    # table, and refused where there are too few.
    banded: bool = False
    # Rows that a series needs; 0 stands for half of the rows that the forecaster reads.
    least: int = 1
    # Whether it forecasts the logarithms of the values, of positive windows alone.
    in_logs: bool = False


class _Trial(NamedTuple):
    """A candidate fitted on the rows before the judged windows, its forecasts, and its seconds."""

    candidate: _Candidate
    answer: Answer
    seconds: float
    # The last fit, and the seconds that are kept for another one and one ``predict``.
    fit: TimedFit = TimedFit(0.0, 0)
    later_seconds: float = 0.0
    # Whether there was no time for the regressions on its columns.
    without_columns: bool = False
    # Whether it is fitted again, on all rows.
    refits: bool = True


class _Limit(NamedTuple):
    """The time at which all must be done."""

    until: float
    max_time: str | float  # as the user set it

    def words(self, left: float) -> str:
        """How much time is left, for a note."""
        amount = f"{left:.0f} seconds are left"
        if left < 1.5:
            amount = "hardly any time is left"
        return f"{amount} of max_time={self.max_time!r}"

    def less(self, seconds: float) -> "_Limit":
        """The limit of others, where so many seconds are needed afterwards."""
        return self._replace(until=self.until - seconds)


@dataclass(frozen=True, eq=False, kw_only=True)
class AutoFitted(Fitted):
    """The members of a combination and their weights.

    Args:
        members: Those with a weight, and the pretrained network, which stands in for them.
        weights: Their weights.
        leaderboard: One row a candidate.
        n_windows: Windows that were judged.
        band_factor: What the width of the members' bands is multiplied by.
    """

    members: tuple[_Candidate, ...]
    weights: np.ndarray
    leaderboard: pd.DataFrame
    n_windows: int
    band_factor: float

    @property
    def columns(self) -> CovariateColumns:
        """The covariates that the members read, with the cycles of all members."""
        return _joined(self.members)

    def tensors(self) -> Tensors:
        """The weights, and the factor of the bands."""
        factor = torch.tensor([self.band_factor], dtype=torch.float64)
        return {
            "learnt.weights": torch.as_tensor(self.weights),
            "learnt.band_factor": factor,
        }

    def facts(self) -> Facts:
        """The members and the leaderboard."""
        # JSON has no NaN.
        board = self.leaderboard.reset_index().replace({np.nan: None})
        return {
            "learnt": {"n_windows_": self.n_windows},
            "members": [[member.name, *member[2:]] for member in self.members],
            "leaderboard": board.to_numpy().tolist(),
        }

    def inside(self) -> dict[str, Forecaster]:
        """The members."""
        return {member.name: member.forecaster for member in self.members}

    @classmethod
    def restored(cls, forecaster: "AutoForecaster", saved: Saved, **common: Any) -> Self:
        """As :meth:`tsattn.forecaster.Fitted.restored`."""
        facts = saved.facts
        horizon = forecaster.horizon
        members = tuple(_member_from(saved, horizon, *row) for row in facts["members"])
        pretrained = members[0].forecaster
        panel = common["panel"]
        tail = pretrained.panel_
        require(len(tail.values) == len(panel.values), "series")
        # Early files have the covariates with the members alone.
        common["panel"] = replace(panel, covariates=tail.covariates)
        common["encoder"] = pretrained.encoder_
        board = _board(facts["leaderboard"])
        weights = saved.tensors["learnt.weights"].numpy()
        factor = float(saved.tensors["learnt.band_factor"])
        fits = weights.shape == (len(members),) and weights.dtype == np.float64
        require(fits, "weights")
        is_positive = bool((weights >= 0).all())
        distance_to_one = abs(weights.sum() - 1)
        require(is_positive and distance_to_one < 1e-6, "weights")
        in_range = NARROWEST <= factor <= WIDEST
        require(in_range, f"band_factor = {factor}")
        return cls(
            **common,
            members=members,
            weights=weights,
            leaderboard=board.astype(dict.fromkeys(_COLUMNS[:3], float)),
            n_windows=saved.count("n_windows_"),
            band_factor=factor,
        )


def _member_from(
    saved: Saved,
    horizon: int,
    name: str,
    by_row: bool,
    banded: bool,
    least: int,
    in_logs: bool = False,  # files of earlier versions have none
) -> _Candidate:
    """A member from the files of a combination."""
    folder = saved.inner_folder(name)
    kind, is_own = saved_class(folder)
    is_member = kind in _MEMBER_CLASSES and not is_own
    require(is_member, f"a member of class {kind:.40}")
    forecaster = load_forecaster(folder)
    require(forecaster.horizon == horizon, f"horizon of {name}")
    return _Candidate(
        name,
        forecaster,
        by_row=by_row is True,
        banded=banded is True,
        least=int(least),
        in_logs=in_logs is True,
    )


class AutoForecaster(GapForecaster):
    """The best forecast in a given time: candidates are judged on the table's own past, and the
    good ones combined.

    Candidates are the pretrained network, a map solved by least squares, the theta method and
    exponential smoothing, the seasonal naive, drift and naive rules, boosted trees where columns
    are named, the pretrained network on a log scale (``zero_log``) for positive months, quarters
    and years, and an attention network where rows and time suffice. ``fit`` lets each learn from
    the rows before some windows at the end of every series, a horizon apart (closer ones in a table
    of one short series), and forecast these; absolute errors count in units of each series'
    seasonal differences.

    The point is a weighted mean of the candidates whose error is within a twentieth of the
    smallest. The weights are those with the smallest error on the windows, drawn towards equal
    ones, and, the fewer windows there are, towards the mean of the pretrained network, the theta
    method and exponential smoothing, each the less the larger its error is. Bands are the members'
    own around the point, made wider or narrower until those of level 80 hold 80% of the windows'
    truths, as far as there are windows enough to tell. The pretrained network stands in where a
    series is too short for a member. Counts (whole numbers, none negative) have no forecast below
    zero.

    Each candidate may take a part of what is left of ``max_time``: it learns from as much of the
    past, and is judged on as many of the windows, as that allows. One that would take more than
    half of it is left out. Under a tight limit the forecast depends on the machine.

    Args:
        horizon: Rows forecast ahead, 1 to 1,024.
        max_time: Time limit of ``fit`` and one ``predict``, such as ``"1m"`` or seconds.
        alias: Name of the columns; default ``"auto"``.
        point: ``"median"``, ``"mean"``, or ``"auto"``: the mean for intermittent series, at least
            half of whose values are 0, and the median for others. The candidates are judged by
            their absolute errors for a median and by their squared errors for a mean.
        schema: How tables are read. Missing values are left out of account unless it says
            otherwise.
        random_state: Seed of the trained network.

    Attributes:
        leaderboard_: One row a candidate, the best first: ``error`` (mean absolute error, or the
            root of the mean squared one for means; seasonal differences are 1), ``weight``,
            ``seconds``, and ``note``, which tells why it takes no part.
        n_windows_: Windows that were judged, of all series together.
        band_factor_: What the width of the members' bands is multiplied by.
        chosen_: One line that says which models forecast, with which weights, and which took no
            part.

    Raises:
        ValueError: If ``horizon`` or ``max_time`` is out of its range.

    Example:
        >>> days = pd.date_range("2024-01-01", periods=120)
        >>> df = pd.DataFrame({"ds": days, "y": np.arange(120) % 7 + np.sin(np.arange(120))})
        >>> AutoForecaster(7).fit(df).predict(level=80).columns.tolist()
        ['ds', 'auto', 'auto-lo-80', 'auto-hi-80']
    """

    name = "auto"
    fitted_class = AutoFitted
    bound = ("horizon", "point")
    # The members do so.
    derives_point = False
    own_point = "median"

    leaderboard_: pd.DataFrame = learnt("leaderboard", "One row a candidate, the best first.")
    n_windows_: int = learnt("n_windows", "Windows that were judged.")
    band_factor_: float = learnt("band_factor", "Factor of the width of the members' bands.")
    _members: tuple[_Candidate, ...] = learnt("members", "Forecasters that are combined.")
    _weights: np.ndarray = learnt("weights", "Weights of the members.")

    def __init__(
        self,
        horizon: int,
        *,
        max_time: str | float = "1m",
        alias: str | None = None,
        point: str = "auto",
        schema: Schema = Schema(),
        random_state: Any = 0,
    ) -> None:
        PretrainedForecaster(horizon, point=point)
        seconds = seconds_from(max_time)
        is_positive = seconds is not None and seconds > 0
        if not is_positive:
            raise InputError(
                Name("max_time"), f" must be above 0, such as '1m' or 60 seconds; got {max_time!r}"
            )
        self.horizon = horizon
        self.max_time = max_time
        self.alias = alias
        self.point = point
        self.schema = schema
        self.random_state = random_state

    @property
    def chosen_(self) -> str:
        """One line that says which models forecast with which weight, on how many windows they were
        judged, and which took no part and why.
        """
        board = self.leaderboard_
        has_weight = board["weight"] > 0
        members = board[has_weight].sort_values("weight", ascending=False)
        weights = members["weight"]
        shares = [f"{weight:.0%} {name}" for name, weight in weights.items()]
        sum_of_shares = " + ".join(shares)
        line = f"{sum_of_shares}, judged on {self.n_windows_} windows of the past"
        if not self.n_windows_:
            line = f"{sum_of_shares}, since no series is long enough for a judgement"
        has_note = board["note"] != ""
        notes = board.loc[has_note, "note"]
        reasons = [f"{name} {note}" for name, note in notes.items()]
        if reasons:
            line = f"{line}; without {', '.join(reasons)}"
        return line

    @property
    def max_context(self) -> int:
        """Rows of history that are read at most; 1 before the fit."""
        if self.state_ is None:
            return 1
        return max(member.forecaster.max_context for member in self._members)

    @property
    def sampled_quantiles(self) -> tuple[float, ...]:
        """Those of the pretrained network."""
        return self._members[0].forecaster.sampled_quantiles

    @property
    def for_dependence(self) -> Forecaster:
        """The pretrained network, whose forecasts of many windows take little time."""
        return self._members[0].forecaster

    @property
    def least_context(self) -> int:
        """Rows at the end of a series among which it must have a value."""
        if self.state_ is None:
            return 1
        forecasters = [member.forecaster for member in self._members]
        return max(
            member.least_context if isinstance(member, GapForecaster) else member.max_context
            for member in forecasters
        )

    def without_doubtful(self, panel: Panel, fitted: bool) -> Panel:
        """As in every forecaster; other values that are taken for wrong are told."""
        panel = super().without_doubtful(panel, fitted)
        n_rows = load_network().config.token_context
        tell_outliers(panel, n_rows, self.covariate_columns.future)
        tell_stuck(panel, n_rows)
        return panel

    def _fit(self, panel: Panel, context: FitContext) -> AutoFitted:
        title = self.alias_ if context.verbose else None
        seconds = seconds_from(self.max_time)
        with progress_line(title, n_steps=_N_CANDIDATES, seconds=seconds) as line:
            # One wrong value would ruin most candidates, and decide which seem best.
            n_rows = load_network().config.token_context
            clean = clean_panel(panel, n_rows, self.covariate_columns.future)
            fitted = self._judge(clean, context.started, line)
            return replace(fitted, panel=panel)

    def _continued(self, panel: Panel) -> Self:
        """As in every forecaster; the pretrained network keeps the rows for all members."""
        pretrained, *others = self._members
        forecaster = pretrained.forecaster
        tail = panel.keep(forecaster.covariate_columns_)
        pretrained = pretrained._replace(forecaster=forecaster.revised(panel=tail))
        return self.revised(panel=panel, members=(pretrained, *others))

    def _judge(self, panel: Panel, started: float, line: ProgressLine) -> AutoFitted:
        """Judge the candidates and combine the best; ``line`` shows the progress."""
        all_seconds = seconds_from(self.max_time) or 0.0
        seconds = (1 - _RESERVED_SHARE) * all_seconds
        until = started + seconds
        ends, stops = _judged(panel, self.horizon)
        trials, notes = self._trials(panel, ends, stops, until, line)
        owners = panel.owners(ends)  # series of each window
        truth = History(panel).futures(ends, self.horizon)
        scale = _scale(panel)[owners]
        errors = _scaled_errors(trials, truth, scale[:, None])
        is_mean = _mean_series(panel, str(self.point))[owners]
        # The larger kind of windows decides, since absolute and squared errors have no common unit.
        n_means = is_mean.sum()
        squared = bool(2 * n_means > len(is_mean))
        # Those of the pretrained network, which answers all windows.
        is_missing = np.isnan(errors[0]).all(axis=1)
        scored = ~is_missing & (is_mean == squared)
        errors = errors[:, scored]
        evidence = _evidence(ends[scored], owners[scored], self.horizon)
        weights = candidate_weights(errors, evidence, _preferences(trials), squared=squared)
        first = trials[0].answer
        answers = [completed(trial.answer, first) for trial in trials]
        point, spread = combined(answers, weights)
        has_weight = weights > 0
        # The pretrained network stays a member, since it stands in for the others.
        has_weight[0] = True
        chosen = np.flatnonzero(has_weight)
        # Before the members are fitted again, which changes their forecasters.
        board = _leaderboard(trials, notes, errors, weights, squared)
        factor = band_factor(point, spread, truth, evidence)
        members = tuple(_refitted(trials[m], panel, until) for m in chosen)
        self._tell_of_columns(trials[0], members)
        return AutoFitted(
            panel=panel,
            encoder=members[0].forecaster.encoder_,
            members=members,
            weights=weights[chosen],
            leaderboard=board,
            n_windows=int(np.count_nonzero(~is_missing)),
            band_factor=factor,
        )

    def _tell_of_columns(self, pretrained: _Trial, members: Sequence[_Candidate]) -> None:
        """Warn where the time was too short for all members that read columns."""
        others = members[1:]
        has_reader = any(member.forecaster.covariate_columns_ for member in others)
        if pretrained.without_columns and not has_reader:
            words = "the columns beside the target take no part; give it more time than "
            limit = Argument("max_time", self.max_time)
            warning = InputWarning(f"{self.alias_}: {words}", limit)
            warn(warning)

    def _trials(
        self,
        panel: Panel,
        ends: np.ndarray,
        stops: np.ndarray,
        until: float,
        line: ProgressLine,
    ) -> tuple[list[_Trial], dict[str, str]]:
        """The trials of the candidates on the windows of :func:`_judged`, and notes on those that
        take no part.
        """
        past = panel.until(stops)
        trials = []
        notes = {}
        limit = _Limit(until, self.max_time)
        for number, candidate in enumerate(self._candidates(panel, until)):
            line.show(number, f"judging {candidate.name}")
            trial = _try(candidate, past, panel, ends, limit)
            if isinstance(trial, str):
                notes[candidate.name] = trial
            else:
                trials.append(trial)
                limit = limit.less(trial.later_seconds)
            if not len(ends):
                break
        return trials, notes

    def _candidates(self, panel: Panel, until: float) -> Iterator[_Candidate]:
        """The candidates, the pretrained network first, the others from fast to slow."""
        steps = self.horizon
        schema = self.schema
        pretrained = PretrainedForecaster(steps, point=str(self.point), schema=schema)
        yield _Candidate("zero", pretrained, banded=True)
        if not schema.columns and _grows_by_shares(panel):
            in_logs = PretrainedForecaster(steps, schema=schema)
            yield _Candidate("zero_log", in_logs, banded=True, in_logs=True)
        yield _Candidate("naive", Naive(steps), by_row=True)
        if season_length(panel.freq) > 1:
            yield _Candidate("seasonal_naive", SeasonalNaive(steps), by_row=True)
        yield _Candidate("drift", Drift(steps), by_row=True)
        least_squares = LinearForecaster(steps, "rlinear", closed_form=True, schema=schema)
        yield _Candidate("least_squares", least_squares, least=0)
        if schema.columns:
            trees = SklearnForecaster(steps, "gbm", schema=schema, random_state=self.random_state)
            yield _Candidate("gbm", trees, least=0)
        for forecaster in _classical(steps, season_length(panel.freq)):
            yield _Candidate(
                forecaster.name, forecaster, by_row=True, banded=True, least=_CLASSICAL_ROWS
            )
        network = self._network(panel, until)
        if network is not None:
            yield _Candidate("mlr", network, least=0)

    def _network(self, panel: Panel, until: float) -> Forecaster | None:
        """A network to be trained in a part of the remaining time; ``None`` where windows or time
        are too few.
        """
        from tsattn.forecasters.attention import AttentionForecaster
        from tsattn.training.settings import Training

        seconds_left = until - time.monotonic()
        seconds = _TRAINING_SHARE * seconds_left
        # Three and a half horizons.
        wished_context = max(_MIN_NETWORK_CONTEXT, 7 * self.horizon // 2)
        context = min(_MAX_NETWORK_CONTEXT, wished_context)
        window_rows = context + self.horizon
        windows = np.maximum(panel.lengths - window_rows + 1, 0)
        has_few_windows = windows.sum() < _LEAST_TRAINING_WINDOWS
        if has_few_windows or seconds < _LEAST_TRAINING_SECONDS:
            return None
        training = Training(max_time=seconds, linear_skip="least_squares")
        return AttentionForecaster(
            self.horizon, training=training, schema=self.schema, random_state=self.random_state
        )

    def _forecast(
        self, x: np.ndarray, quantiles: Sequence[float], covariates: "CovariateWindows | None"
    ) -> Answer:
        n_windows, n_rows, n_channels = x.shape
        columns = columns_beside(x, covariates, self.covariate_columns_.future)
        x = without_wrong_values(x, columns)
        # Channels are independent: every member forecasts windows of one channel, [B C, T, 1].
        by_channel = np.moveaxis(x, 2, 1)
        series = by_channel.reshape(n_windows * n_channels, n_rows, 1)
        if covariates is not None:
            window_of_series = np.repeat(np.arange(n_windows), n_channels)
            covariates = covariates.of(window_of_series)
        point, bounds = self._forecast_series(series, quantiles, covariates)
        shape = (n_windows, n_channels, self.horizon)
        point = point.reshape(shape)
        bounds = bounds.reshape(*shape, len(quantiles))
        return np.moveaxis(point, 1, 2), np.moveaxis(bounds, 1, 2)

    def _forecast_series(
        self, x: np.ndarray, quantiles: Sequence[float], covariates: "CovariateWindows | None"
    ) -> Answer:
        """The combined forecasts of windows of one channel, ``[B, T, 1]``."""
        answers = []
        for member in self._members:
            columns = covariates and _share(covariates, self.covariate_columns_, member)
            answers.append(_answer(member, x, quantiles, columns))
        answers = [completed(answer, answers[0]) for answer in answers]
        point, spread = combined(answers, self._weights)
        # Members that fit a curve would go on with what was before the end of a series.
        season = season_length(self.panel_.freq)
        last = last_of_ended(x, season)[:, None]
        point = np.where(np.isnan(last), point, last)
        distance = self.band_factor_ * spread
        bounds = np.sort(point[..., None] + distance, axis=-1)
        # A history of counts allows no forecast below zero.
        are_counts = np.all(can_be_count(x), axis=1, keepdims=True)
        values = Values.after(x).above_zero(are_counts)
        # The mean of counts is no count.
        step = np.where(self.mean_windows(x), 0.0, values.step)
        point_values = values._replace(step=step)
        return point_values.nearest(point), values.nearest(bounds)


def _classical(horizon: int, season: int) -> tuple[LocalForecaster, ...]:
    """The theta method and exponential smoothing, whose form is chosen."""
    theta_settings: dict[str, Any] = {}
    smoothing_settings: dict[str, Any] = {"context": _SMOOTHED_ROWS}
    if season > _LONGEST_SMOOTHED_SEASON:
        # Each value of a season is a state: an estimation takes seconds and follows the noise.
        smoothing_settings = {"season_length": 1}
        theta_settings["context"] = max(_THETA_ROWS, _THETA_SEASONS * season)
    if _THETA_SEASONS * season > _MOST_THETA_ROWS:
        theta_settings = {"season_length": 1}
    theta = StatsforecastForecaster(horizon, "dynamic_theta", **theta_settings)
    smoothing = StatsforecastForecaster(horizon, "auto_ets", **smoothing_settings)
    return theta, smoothing


def _grows_by_shares(panel: Panel) -> bool:
    """Whether the series may grow by percentages: months, quarters or years of positive values."""
    if parse_freq(panel.freq).unit != "month":
        return False
    values = panel.values[:, 0]
    # A missing value is not at most 0.
    missing_or_positive = ~(values <= 0)
    return bool(missing_or_positive.mean() > _POSITIVE_SHARE)


def _judged(panel: Panel, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Absolute rows just after the contexts of the judged windows ``[W]``, ascending, and the rows
    of each series before its first judged window, ``[N]``: all its rows where it has none.
    """
    lengths = panel.lengths
    aimed = _AIMED_WINDOWS // panel.n_series
    most = min(max(aimed, _MIN_SERIES_WINDOWS), _MAX_SERIES_WINDOWS)
    judged_rows = (1 - _HISTORY_SHARE) * lengths
    room = (judged_rows / horizon).astype(np.int64)
    counts = np.clip(room, 1, most)
    counts[lengths <= horizon] = 0
    step = horizon
    if panel.n_series == 1 and 0 < counts[0] < _LEAST_SINGLE_WINDOWS:
        count, step = _overlapping(int(lengths[0]), horizon, most)
        counts[0] = count
    owner = np.repeat(np.arange(panel.n_series), counts)  # series of each window
    first = np.cumsum(counts) - counts
    number = np.arange(len(owner))
    back = number - np.repeat(first, counts)  # windows after it, of its series
    last_end = panel.starts[owner + 1] - horizon
    ends = last_end - step * back
    has_history = _has_history(panel, ends, owner)
    chosen = np.flatnonzero(has_history)
    if len(chosen) > _MAX_JUDGED_WINDOWS:
        # The last windows of all series come first, so that short series count as long ones do.
        draw = np.random.default_rng(0).random(len(chosen))
        order = np.lexsort((draw, back[chosen]))
        chosen = chosen[order[:_MAX_JUDGED_WINDOWS]]
    ends = ends[chosen]
    owner = owner[chosen]
    rows_before = ends - panel.starts[owner]
    stops = lengths.copy()
    np.minimum.at(stops, owner, rows_before)
    return np.sort(ends), stops


def _has_history(panel: Panel, ends: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Whether the pretrained network has a value to read before each end, ``[W]``.

    It stands in for all others, so that it must answer every judged window.
    """
    observed = ~np.isnan(panel.values[:, 0])
    # Values before each row of the panel, and before its end.
    values_before = np.zeros(len(observed) + 1, dtype=np.int64)
    np.cumsum(observed, out=values_before[1:])
    reach = load_network().config.token_context
    read_from = np.maximum(ends - reach, panel.starts[owner])
    return values_before[ends] > values_before[read_from]


def _overlapping(length: int, horizon: int, most: int) -> tuple[int, int]:
    """The number of windows of a short series, which may overlap, and the rows between them."""
    history_rows = int(_OVERLAPPED_HISTORY_SHARE * length)
    rows = max(length - horizon - history_rows, 0)
    least_step = max(horizon // _STEPS_A_HORIZON, 1)
    wished_step = math.ceil(rows / (most - 1))
    step = min(max(wished_step, least_step), horizon)
    return rows // step + 1, step


def _evidence(ends: np.ndarray, owners: np.ndarray, horizon: int) -> float:
    """The number of independent windows that tell as much as windows of the series ``owners``
    before the rows ``ends``.

    Overlapping windows of a series count as those that fit side by side. Windows of different
    series end at the same time, so together they are less evidence than as many of one series.
    """
    total = 0.0
    series = np.unique(owners)
    for number in series:
        series_ends = ends[owners == number]
        side_by_side = np.ptp(series_ends) / horizon + 1
        total += min(side_by_side, len(series_ends))
    n_series = max(len(series), 1)
    return float(total / np.sqrt(n_series))


def _mean_series(panel: Panel, point: str) -> np.ndarray:
    """Whether the points of each series are means, ``[N]``, for a setting of the point."""
    if point != "auto":
        return np.full(panel.n_series, point == "mean")
    inner_starts = panel.starts[1:-1]
    are_means = []
    for values in np.split(panel.values, inner_starts):
        # Of one window of one channel.
        intermittent = is_intermittent(values[None])
        are_means.append(intermittent[0, 0, 0])
    return np.array(are_means, dtype=bool)


def _scaled_errors(trials: Sequence[_Trial], truth: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Errors ``[M, W, F]`` in units of each series' seasonal differences; NaN where the truth, the
    unit or a forecast is missing.
    """
    points = np.stack([trial.answer[0] for trial in trials])
    errors = np.asarray((points - truth) / scale)
    return errors[..., 0]


def _preferences(trials: Sequence[_Trial]) -> np.ndarray:
    """Prior weights of the candidates, ``[M]``."""
    names = [trial.candidate.name for trial in trials]
    return np.array([_PREFERRED.get(name, 0.0) for name in names])


def _scale(panel: Panel) -> np.ndarray:
    """Mean absolute seasonal difference of each series, ``[N, 1]``; that of neighbouring rows where
    the seasonal one is zero or missing, NaN where both are.
    """
    season = season_length(panel.freq)
    scale = seasonal_errors(panel, panel.lengths, season)
    if season > 1:
        step_scale = seasonal_errors(panel, panel.lengths, 1)
        scale = np.where(scale > 0, scale, step_scale)
    return np.where(scale > 0, scale, np.nan)


def _try(
    candidate: _Candidate, past: Panel, panel: Panel, ends: np.ndarray, limit: _Limit
) -> _Trial | str:
    """Fit a candidate on ``past`` and forecast the windows of ``panel`` before ``ends``; the reason
    where it is left out.
    """
    started = time.monotonic()
    left = limit.until - started
    is_fallback = candidate.name == _FALLBACK
    if not is_fallback and not _can_begin(candidate, left):
        left = limit.until - time.monotonic()
        return f"was left out: {limit.words(left)}"
    without_columns = False
    share = _LEARNERS_SHARE if candidate.name in _LEARNERS else _FIT_SHARE
    fit = TimedFit(0.0, 0)
    try:
        fit = _fit_until(candidate, past, left * share)
    except ValueError as error:
        # No candidate could stand in for the pretrained network.
        if is_fallback:
            raise
        return str(error)
    except OutOfTime:
        if not is_fallback:
            words = limit.words(limit.until - time.monotonic())
            share_seconds = max(left * share, 0)
            return f"takes longer to fit than its share of {share_seconds:.0f} seconds; {words}"
        fit_without_columns(candidate.forecaster, past)
        without_columns = True
    left -= time.monotonic() - started
    answer_seconds = left * _CANDIDATE_SHARE
    answer, progress = _answer_in_time(candidate, panel, ends, answer_seconds)
    predict_seconds = progress.seconds_per_item * panel.n_series
    if not is_fallback:
        is_slow = predict_seconds > max(answer_seconds, _FREE_SECONDS)
        if is_slow or not progress.enough:
            needed = math.ceil(progress.needed_seconds)
            return f"would take {needed} seconds; {limit.words(left)}"
    if candidate.by_row:
        fit = TimedFit(0.0, 0)
    # Other candidates are worth more than a second fit on some more rows.
    is_slow_fit = fit.seconds > _FREE_SECONDS
    n_new_rows = len(panel.values) - len(past.values)
    few_new_rows = n_new_rows < _NEW_ROWS_SHARE * fit.n_rows
    refits = candidate.name != "mlr" and not (is_slow_fit and few_new_rows)
    later_seconds = predict_seconds
    if refits:
        later_seconds += min(fit.seconds, left * _REFIT_SHARE)
    seconds = time.monotonic() - started
    return _Trial(candidate, answer, seconds, fit, later_seconds, without_columns, refits)


def _can_begin(candidate: _Candidate, left: float) -> bool:
    """Whether so many seconds are enough to begin with a candidate, whose package is loaded."""
    own_package = getattr(candidate.forecaster, "package", None)
    package = _PACKAGES.get(candidate.name, own_package)
    if package is None:
        return left > 0
    if left <= _LEAST_CLASSICAL_SECONDS:
        return False
    seconds = left * _CANDIDATE_SHARE
    return load_in_time(package, seconds)


def _answer_in_time(
    candidate: _Candidate, panel: Panel, ends: np.ndarray, seconds: float
) -> tuple[Answer, Progress]:
    """The forecasts of a fitted candidate for the windows before ``ends``; where the seconds are
    too few, for some of them that are spread evenly, and NaN for the others.
    """
    forecaster = candidate.forecaster
    x = np.empty((0, 1, 1))
    if len(ends):
        x = History(panel).reaching(ends, forecaster.max_context)
    member_panel = panel.keep(forecaster.covariate_columns_)
    history = forecaster.covariate_history(member_panel)
    n_rows = x.shape[1]
    horizon = forecaster.horizon
    point, bounds = _no_answer(len(ends), horizon, len(_BAND_QUANTILES))

    def forecast(places: np.ndarray) -> None:
        covariates = None
        if history is not None:
            covariates = history.windows(ends[places], n_rows, horizon)
        answer = _answer(candidate, x[places], _BAND_QUANTILES, covariates)
        point[places], bounds[places] = answer

    if candidate.by_row and not math.isinf(seconds):
        progress = work_in_time(forecast, len(ends), seconds, n_later=panel.n_series)
    else:
        progress = work_at_once(forecast, len(ends), seconds)
    return (point, bounds), progress


def _fit_until(candidate: _Candidate, panel: Panel, seconds: float, n_rows: int = 0) -> TimedFit:
    """Fit a candidate on a panel, or on the last rows of it that can be fitted in time."""
    if candidate.name in _LEARNERS:
        # It reads as many windows as the time allows.
        begun = time.monotonic()
        with time_limit(seconds):
            _fit(candidate, panel)
        fit_seconds = time.monotonic() - begun
        return TimedFit(fit_seconds, len(panel.values))
    # A trained network has a time limit of its own; the others of these learn from one series.
    if candidate.by_row or candidate.name == "mlr":
        seconds = math.inf
    rows_of_horizons = _FIT_HORIZONS * candidate.forecaster.horizon
    least = max(_LEAST_FIT_ROWS, rows_of_horizons)
    fit = partial(_fit, candidate)
    return fit_in_time(fit, panel, seconds, series_rows=least, n_rows=n_rows)


def _fit(candidate: _Candidate, panel: Panel) -> None:
    forecaster = candidate.forecaster
    if candidate.by_row:
        longest = int(panel.lengths.argmax())
        panel = panel.some(longest, longest + 1)
    if panel.missing == "mask" and not forecaster.masks:
        panel = replace(panel, missing="interpolate")
    # Series too short for a network are forecast as they would be without it.
    with ignored((UserWarning, r"\d+ of \d+ series have fewer than")):
        forecaster.fit(panel.keep(forecaster.covariate_columns))


def _refitted(trial: _Trial, panel: Panel, until: float) -> _Candidate:
    """The candidate fitted on all rows, unless that is not worth the time or takes more of it than
    is left.
    """
    candidate = trial.candidate
    forecaster = candidate.forecaster
    share = _LAST_SHARE if forecaster.covariate_columns_ else _CANDIDATE_SHARE
    seconds = share * (until - time.monotonic())
    in_time = candidate.by_row or trial.fit.seconds < seconds
    if trial.without_columns:
        fit_without_columns(forecaster, panel)
    elif trial.refits and in_time:
        # The fit before it counts where this one does not end.
        with suppress(OutOfTime):
            _fit_until(candidate, panel, seconds, trial.fit.n_rows)
    # The rows of the series are stored once, with the pretrained network.
    if candidate.name == "zero":
        tail = panel.keep(forecaster.covariate_columns_)
    else:
        tail = forecaster.panel_.last(forecaster.min_context)
    return candidate._replace(forecaster=forecaster.revised(panel=tail))


def _answer(
    candidate: _Candidate,
    x: np.ndarray,
    quantiles: Sequence[float],
    covariates: "CovariateWindows | None",
) -> Answer:
    """The forecasts of a member for windows ``x [B, T, 1]`` that may begin with NaN and miss
    values.
    """
    forecaster = candidate.forecaster
    if not forecaster.masks_:
        # Rows before the first value stay NaN: they stand for a shorter history.
        begun = np.logical_or.accumulate(~np.isnan(x), axis=1)
        x = np.where(begun, _filled(x), np.nan)
    if candidate.in_logs:
        x = _logarithms(x)
    least = candidate.least or forecaster.max_context // 2
    least_rows = max(forecaster.min_context, least)
    able = known_rows(x) >= least_rows
    point, bounds = _no_answer(len(x), forecaster.horizon, len(quantiles))
    if not able.any():
        return point, bounds
    member_quantiles = tuple(quantiles) if candidate.banded else ()
    rows = x[able][:, -forecaster.max_context :]
    columns = None
    if covariates is not None:
        able_covariates = covariates.of(able)
        columns = able_covariates.cut(rows.shape[1], forecaster.horizon)
    # The user did not choose this model, so a warning about its windows would not help.
    with ignored((RuntimeWarning, f"{forecaster.alias_}: of ")):
        member_point, member_bounds = forecaster.predict_windows(
            rows, quantiles=member_quantiles, covariates=columns
        )
    point[able] = member_point
    if member_quantiles:
        bounds[able] = member_bounds
    if candidate.in_logs:
        return _exponential(point), _exponential(bounds)
    return point, bounds


def _no_answer(n_windows: int, horizon: int, n_quantiles: int) -> Answer:
    """Forecasts of windows of one channel that are all missing."""
    point = np.full((n_windows, horizon, 1), np.nan)
    bounds = np.full((n_windows, horizon, 1, n_quantiles), np.nan)
    return point, bounds


def _logarithms(x: np.ndarray) -> np.ndarray:
    """Logarithms of windows; NaN in those that are not positive."""
    is_positive = x > 0
    has_others = (x <= 0).any(axis=1, keepdims=True)
    usable = is_positive & ~has_others
    positive = np.where(usable, x, np.nan)
    return np.log(positive)


def _exponential(logarithm: np.ndarray) -> np.ndarray:
    """The exponential, bounded: one far beyond the past may be too large for a number."""
    largest = np.log(np.finfo(np.float64).max) - 1
    bounded = np.minimum(logarithm, largest)
    return np.exp(bounded)


def _joined(members: Sequence[_Candidate]) -> CovariateColumns:
    """The columns that members read, with the categories of the first, which was fitted on all
    rows, and the cycles of all.
    """
    columns = [member.forecaster.covariate_columns_ for member in members]
    columns = [member_columns for member_columns in columns if member_columns]
    if not columns:
        return CovariateColumns()
    # Each cycle once, in the order of the members.
    cycles: dict[str, None] = {}
    for member_columns in columns:
        cycles |= dict.fromkeys(member_columns.calendar)
    return replace(columns[0], calendar=tuple(cycles))


def _share(
    covariates: "CovariateWindows", columns: CovariateColumns, member: _Candidate
) -> "CovariateWindows | None":
    """The part of the covariates, which hold ``columns``, that a member reads."""
    member_columns = member.forecaster.covariate_columns_
    if not member_columns:
        return None
    n_future = len(columns.future)
    places = list(range(n_future))
    # The calendar follows the future columns, some places to a cycle.
    slices = calendar_slices(columns.calendar)
    for name in member_columns.calendar:
        first = n_future + slices[name].start
        end = n_future + slices[name].stop
        places.extend(range(first, end))
    covariates = covariates.recoded(columns, member_columns)
    return replace(covariates, known=covariates.known[..., places])


def _filled(x: np.ndarray) -> np.ndarray:
    """Windows ``[B, T, 1]`` without gaps: a line between the values at both sides, and the last
    value up to the end.
    """
    series = x[..., 0].T  # pandas interpolates down the rows
    missing = np.isnan(series)
    # Rows before the first value are no gap.
    begins_gap = missing[1:] > missing[:-1]
    if not begins_gap.any():
        return x
    interpolated = pd.DataFrame(series).interpolate(limit_direction="forward")
    whole = interpolated.to_numpy()
    return whole.T[..., None]


def _leaderboard(
    trials: Sequence[_Trial],
    notes: dict[str, str],
    errors: np.ndarray,
    weights: np.ndarray,
    squared: bool,
) -> pd.DataFrame:
    means = np.full(len(trials), np.nan)
    if errors.shape[1]:
        means = mean_errors(errors, squared)
    means[np.isinf(means)] = np.nan
    rows = []
    for trial, mean, weight in zip(trials, means, weights, strict=True):
        name = trial.candidate.name
        rows.append((name, mean, weight, trial.seconds, ""))
    for name, note in notes.items():
        rows.append((name, np.nan, 0.0, np.nan, note))
    board = _board(rows)
    return board.sort_values("error", kind="stable")


def _board(rows: Sequence[Sequence[Any]]) -> pd.DataFrame:
    """A leaderboard of rows that begin with the name of a candidate."""
    board = pd.DataFrame(rows, columns=["model", *_COLUMNS])
    return board.set_index("model")
