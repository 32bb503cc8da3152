"""The forecaster that scores candidates on the table's own past and averages the best."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import torch

from tsattn.catalogue import load_forecaster
from tsattn.checks import Argument, InputError, InputWarning, Name, warn
from tsattn.data.calendar import season_length
from tsattn.data.covariates import CovariateColumns
from tsattn.data.cycles import calendar_slices
from tsattn.data.panel import Panel
from tsattn.data.schema import Schema
from tsattn.data.stored import require
from tsattn.data.windows import History, Values, last_of_ended
from tsattn.evaluate.intervals import can_be_count
from tsattn.forecaster import FitContext, Fitted, Forecaster, learnt
from tsattn.forecasters.candidates import Candidate, answer_windows, candidates
from tsattn.forecasters.combination import (
    NARROWEST,
    WIDEST,
    band_factor,
    candidate_weights,
    combined,
    completed,
    mean_errors,
)
from tsattn.forecasters.judged_windows import (
    independent_windows,
    judged_windows,
    mean_series,
    series_scales,
)
from tsattn.forecasters.pretrained import (
    GapForecaster,
    PretrainedForecaster,
    clean_panel,
    columns_beside,
    tell_outliers,
    tell_stuck,
    tell_stuck_columns,
    tell_unmoving,
    without_wrong_values,
)
from tsattn.forecasters.trials import Limit, Trial, refitted, try_candidate
from tsattn.forecasts import Answer
from tsattn.limits import seconds_from
from tsattn.pretrained.weights import load_network
from tsattn.store import Facts, Saved, Tensors, saved_class
from tsattn.terminal import ProgressLine, progress_line

if TYPE_CHECKING:
    from tsattn.data.encoding import CovariateWindows

# Prior weights. On short series this mean is better than the one that is best on few windows.
_PREFERRED = {"zero": 4.0, "dynamic_theta": 1.0, "auto_ets": 1.0, "theta": 1.0, "ets": 1.0}
# Share of ``max_time`` that is kept for ``predict``, and for work that takes longer than expected.
_RESERVED_SHARE = 0.1
# Number of candidates, for the progress line.
_N_CANDIDATES = 10
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

    members: tuple[Candidate, ...]
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
) -> Candidate:
    """A member from the files of a combination."""
    folder = saved.inner_folder(name)
    kind, is_own = saved_class(folder)
    is_member = kind in _MEMBER_CLASSES and not is_own
    require(is_member, f"a member of class {kind:.40}")
    forecaster = load_forecaster(folder)
    require(forecaster.horizon == horizon, f"horizon of {name}")
    return Candidate(
        name,
        forecaster,
        by_row=by_row is True,
        banded=banded is True,
        least=int(least),
        in_logs=in_logs is True,
    )


class AutoForecaster(GapForecaster):
    """A weighted mean of the models that score best on the end of the table's own past, found in a
    given time.

    The candidates are the pretrained network, a linear map solved by least squares, theta,
    exponential smoothing, and the seasonal naive, drift and naive forecasts. Covariates add boosted
    trees; positive months, quarters and years add the pretrained network on a log scale
    (``zero_log``); an attention network takes part if rows and time suffice. Each candidate
    forecasts windows at the end of every series, a horizon apart (closer in a table of one short
    series), and learns from the rows before them. Errors are in units of the seasonal differences
    of each series.

    The point is a weighted mean of the candidates whose error is at most 5% above the smallest. The
    weights minimise the error on the windows. They are shrunk towards equal weights and, if windows
    are few, towards a mean of the pretrained network, theta and exponential smoothing, in which
    candidates with larger errors weigh less. Intervals are those of the members around the point,
    scaled until level 80 holds 80% of the observed values in the windows; with few windows they are
    scaled less. The pretrained network takes the place of a member for which a series is too short.
    Counts (whole numbers, none negative) get no forecast below zero.

    Each candidate may take a part of the remaining ``max_time``: the less time, the fewer rows it
    learns from and the fewer windows it forecasts. Candidates that would need more than half of it
    are left out. Under a tight limit the forecast depends on the machine.

    Args:
        horizon: Rows forecast ahead, 1 to 1,024.
        max_time: Time limit of ``fit`` and one ``predict``, such as ``"1m"`` or seconds.
        alias: Name of the columns; default ``"auto"``.
        point: ``"median"``, ``"mean"``, or ``"auto"``: the mean for intermittent series, at least
            half of whose values are 0, and the median for others. Candidates are compared by
            absolute errors for medians and by squared errors for means. If a table has series of
            both kinds, the kind with more windows decides, and only its windows count.
        schema: How tables are read. Missing values are left out unless it says otherwise.
        random_state: Seed of the trained network.

    Attributes:
        leaderboard_: One row for each candidate, the best first: ``error`` (the mean absolute
            error, or for means the root mean squared error; seasonal differences are 1),
            ``weight``, ``seconds``, and ``note``, the reason if it takes no part.
        n_windows_: Windows that were forecast, of all series together.
        band_factor_: Factor by which the widths of the members' intervals are multiplied.
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
    _members: tuple[Candidate, ...] = learnt("members", "Forecasters that are combined.")
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
        """One line of text: which models forecast with which weights, on how many windows they were
        judged, and which models took no part and why.
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
        """The quantiles of the pretrained network."""
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
        """As in every forecaster; also warns of values that are taken for wrong."""
        panel = super().without_doubtful(panel, fitted)
        config = load_network().config
        n_rows = config.token_context
        tell_outliers(panel, n_rows, self.covariate_columns.future)
        tell_stuck(panel, n_rows)
        tell_unmoving(panel, config.max_context)
        tell_stuck_columns(panel)
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
        ends, stops = judged_windows(panel, self.horizon)
        trials, notes = self._trials(panel, ends, stops, until, line)
        owners = panel.owners(ends)  # series of each window
        truth = History(panel).futures(ends, self.horizon)
        scale = series_scales(panel)[owners]
        errors = _scaled_errors(trials, truth, scale[:, None])
        is_mean = mean_series(panel, str(self.point))[owners]
        # The larger kind of windows decides, since absolute and squared errors have no common unit.
        n_means = is_mean.sum()
        squared = bool(2 * n_means > len(is_mean))
        # Those of the pretrained network, which answers all windows.
        is_missing = np.isnan(errors[0]).all(axis=1)
        scored = ~is_missing & (is_mean == squared)
        errors = errors[:, scored]
        evidence = independent_windows(ends[scored], owners[scored], self.horizon)
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
        members = tuple(refitted(trials[m], panel, until) for m in chosen)
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

    def _tell_of_columns(self, pretrained: Trial, members: Sequence[Candidate]) -> None:
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
    ) -> tuple[list[Trial], dict[str, str]]:
        """The trials of the candidates on the windows of :func:`judged_windows`, and notes on those
        that take no part.
        """
        past = panel.until(stops)
        trials = []
        notes = {}
        limit = Limit(until, self.max_time)
        for number, candidate in enumerate(self._candidates(panel, until)):
            line.show(number, f"judging {candidate.name}")
            trial = try_candidate(candidate, past, panel, ends, limit)
            if isinstance(trial, str):
                notes[candidate.name] = trial
            else:
                trials.append(trial)
                limit = limit.less(trial.later_seconds)
            if not len(ends):
                break
        return trials, notes

    def _candidates(self, panel: Panel, until: float) -> Iterator[Candidate]:
        """The candidates of :func:`tsattn.forecasters.candidates.candidates`."""
        return candidates(
            panel,
            self.horizon,
            point=str(self.point),
            schema=self.schema,
            random_state=self.random_state,
            until=until,
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
            answers.append(answer_windows(member, x, quantiles, columns))
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


def _scaled_errors(trials: Sequence[Trial], truth: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Errors ``[M, W, F]`` in units of each series' seasonal differences; NaN where the truth, the
    unit or a forecast is missing.
    """
    points = np.stack([trial.answer[0] for trial in trials])
    errors = np.asarray((points - truth) / scale)
    return errors[..., 0]


def _preferences(trials: Sequence[Trial]) -> np.ndarray:
    """Prior weights of the candidates, ``[M]``."""
    names = [trial.candidate.name for trial in trials]
    return np.array([_PREFERRED.get(name, 0.0) for name in names])


def _joined(members: Sequence[Candidate]) -> CovariateColumns:
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
    covariates: "CovariateWindows", columns: CovariateColumns, member: Candidate
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


def _leaderboard(
    trials: Sequence[Trial],
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
