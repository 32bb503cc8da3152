"""Backtests: rolling origins, refits, scores over every window, comparisons."""

import copy
import functools
import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd

from tsattn.checks import (
    Argument,
    InputError,
    InPython,
    Name,
    check_switch,
    check_whole_or_none,
    pieces_of,
    warn,
)
from tsattn.data.calendar import more
from tsattn.data.calendar import season_length as season_of
from tsattn.data.covariates import CovariateColumns
from tsattn.data.frames import to_panel
from tsattn.data.panel import (
    BadSeriesError,
    Panel,
    find_sentinels,
    require_length,
    skip_bad,
    starts_of,
    tell_skipped,
    tell_usual_sentinels,
    without_sentinels,
)
from tsattn.data.schema import Schema
from tsattn.data.windows import (
    History,
    Scaler,
    counts_before,
    known_lengths,
    make_scaler,
    tell_interpolated,
)
from tsattn.evaluate import metrics
from tsattn.evaluate.rolling import (
    Rolled,
    judge_windows,
    judged_rows,
    require_starts,
    roll,
    rolling_origins,
    start_rolling,
)
from tsattn.evaluate.room import most_windows
from tsattn.forecaster import Forecaster, check_forecaster
from tsattn.forecasts import Data
from tsattn.levels import Numbers, check_request, interval_columns, points_only, refuse_twice
from tsattn.terminal import NO_LINE, ProgressLine, progress_line

__all__ = [
    "BacktestPlan",
    "BacktestResult",
    "Comparison",
    "backtest",
    "compare",
    "fit_copy",
    "judge_fits",
    "read_by",
    "roll",
    "rolling_origins",
    "seasonal_errors",
]

# One forecaster, several, or several by name.
Forecasters = Forecaster | Sequence[Forecaster] | Mapping[str, Forecaster]

_UNITS = (
    "mse, mae: standardised; mae_original: in units. More: .scores, .by_series, .by_step, .frame"
)
_short = "{:.4g}".format
# A value of the past is far if its distance to the median is so many times the range between the
# quartiles, and so many times the distance of any value that is not.
_FAR_RANGES = 50.0
_FAR_RATIO = 5.0
# Far values of a series are wrong if they are at most this share, or so many.
_WRONG_SHARE = 0.01
_WRONG_COUNT = 3
# Only series whose farthest value is so many deviations from the mean are searched, as a share of
# what is possible.
_SUSPICIOUS_SHARE = 0.8
# Scores of a series that stand before MASE.
_BEFORE_MASE = ("mse", "mae", "mse_original", "mae_original", "rmse_original", "smape")


def seasonal_errors(panel: Panel, stops: np.ndarray, season: int) -> np.ndarray:
    """:func:`tsattn.evaluate.metrics.seasonal_error` of the first ``stops[n]`` rows of each series,
    ``[N, C]``.
    """
    total = np.zeros((panel.n_series, panel.n_channels))
    count = np.zeros_like(total)
    for series, block in panel.heads(stops):
        lengths = block.lengths
        row_of_series = np.arange(len(block.values)) - np.repeat(block.starts[:-1], lengths)
        later = np.flatnonzero(row_of_series >= season)
        earlier = later - season
        gap = np.abs(block.values[later] - block.values[earlier])
        observed = ~np.isnan(gap)
        observed_gap = np.where(observed, gap, 0.0)
        n_gaps = np.maximum(lengths - season, 0)
        some = n_gaps > 0
        if not some.any():
            continue
        # Series without a gap have no row, which reduceat does not allow.
        first = starts_of(n_gaps[some])[:-1]
        total[series][some] = np.add.reduceat(observed_gap, first, axis=0)
        count[series][some] = np.add.reduceat(observed.astype(np.float64), first, axis=0)
    return metrics.ratios(total, count)


def _far_values(panel: Panel, stops: np.ndarray) -> np.ndarray:
    """Which values among the first ``stops[n]`` rows of each series are few and far from all
    others, such as -9999, bool ``[rows, C]``.
    """
    scaler = make_scaler(panel, stops)
    far = np.zeros(panel.values.shape, dtype=bool)
    for n, stop in enumerate(stops):
        first = panel.starts[n]
        rows = slice(first, first + stop)
        distances = np.abs(panel.values[rows] - scaler.mean[n])
        deviations = distances / scaler.scale[n]
        # k equal values out of n lie (n / k)^1/2 deviations away.
        possible = np.sqrt(stop / _most_wrong(stop))
        largest = np.nan_to_num(deviations).max(axis=0, initial=0.0)
        is_suspicious = largest > _SUSPICIOUS_SHARE * possible
        for c in range(panel.n_channels):
            values = panel.values[rows, c]
            far[rows, c] = find_sentinels(values)
            if is_suspicious[c]:
                far[rows, c] |= _far_of_series(values)
    return far


def _most_wrong(n_values: int) -> float:
    """How many of so many values may be wrong."""
    return max(_WRONG_SHARE * n_values, _WRONG_COUNT)


def _far_of_series(values: np.ndarray) -> np.ndarray:
    """Which values ``[T]`` are few and far from all others."""
    lower, middle, upper = np.nanquantile(values, (0.25, 0.5, 0.75))
    distance = np.nan_to_num(np.abs(values - middle))
    far = distance > _FAR_RANGES * (upper - lower)
    few = far.sum() <= _most_wrong(len(values))
    # A gap between the far values and the others; a long tail has none.
    nearest = distance[far].min(initial=np.inf)
    usual = distance[~far].max(initial=0.0)
    is_apart = nearest > _FAR_RATIO * usual
    if upper > lower and few and is_apart:
        return far
    return np.zeros_like(far)


def _usual_values(panel: Panel, stops: np.ndarray) -> Panel:
    """The panel from which scales are computed: far values among the first ``stops[n]`` rows of
    each series are NaN.
    """
    far = _far_values(panel, stops)
    values = np.where(far, np.nan, panel.values)
    return replace(panel, values=values)


def _tell_far(panel: Panel, stops: np.ndarray) -> None:
    """Warn once of the values that are left out of the scales, and once of those that are judged,
    from row ``stops[n]`` of series n on.
    """
    far_truths = _far_values(panel, panel.lengths)
    rows = np.flatnonzero(far_truths.any(axis=1))
    owners = panel.owners(rows + 1)
    row_of_series = rows - panel.starts[owners]
    # Values of the past have a warning of their own.
    far_truths[rows[row_of_series < stops[owners]]] = False
    far_past = _far_values(panel, stops)
    for far, consequence in (
        (far_past, "is left out of the scales of mse, mae and mase"),
        (far_truths, "is judged as a truth and rules the scores"),
    ):
        if not far.any():
            continue
        row, column = np.argwhere(far)[0]
        n = int(panel.owners(row + 1))
        others = more(int(far.sum()))
        warn(
            f"{panel.series_label(n)}: {panel.values[row, column]:.10g} at {panel.times[row]}"
            f"{others} is far from all other values of its series and"
            f" {consequence}; make it NaN if it is no value"
        )


def _tell_unjudged(panel: Panel, origins: np.ndarray, horizon: int) -> None:
    """Warn once of series without a value in any judged window."""
    first = panel.starts[:-1, None] + origins
    observed = ~np.isnan(panel.values).all(axis=1)
    n_before = counts_before(observed)
    stop = first + horizon
    is_empty = n_before[stop] == n_before[first]
    series = np.flatnonzero(is_empty.all(axis=1))
    if len(series):
        warn(
            f"{panel.series_label(series[0])}{more(len(series))} has no value in the judged rows"
            " and counts in no score"
        )


@dataclass(frozen=True, eq=False)
class BacktestPlan:
    """What a backtest is to do, checked before anything is fitted.

    Attributes:
        named: The forecasters by name; they are copied before they are fitted.
        panel: The series.
        origins: Rows of history before each forecast, ``[N, W]``.
        fits: Windows before which the forecasters are fitted, ascending, the first one 0.
        scaler: Scale of the scores.
        quantiles: All that are asked, ascending.
        keep: Whether forecasts are kept.
        verbose: Whether progress is shown.
    """

    named: Mapping[str, Forecaster]
    panel: Panel
    origins: np.ndarray
    fits: tuple[int, ...]
    scaler: Scaler
    quantiles: tuple[float, ...]
    keep: bool
    verbose: bool = False

    def blank(self, name: str, windows: slice = slice(None)) -> Rolled:
        """A result of some windows of each series, by default all, in which none is judged yet."""
        first_rows = self.panel.starts[:-1, None]
        ends = first_rows + self.origins[:, windows]
        forecaster = self.named[name]
        return start_rolling(
            name,
            self.panel,
            ends.ravel(),
            self.scaler.scale,
            horizon=forecaster.horizon,
            quantiles=self.quantiles,
            keep=self.keep,
        )


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """The forecasts and scores of a backtest: ``scores``, ``by_series``, ``by_step``, ``frame``.

    Attributes:
        panel: The series that were forecast.
        origins: Rows of history before each forecast, ``[N, W]``: N series, W windows.
        rolled: Forecasts and sums of errors of each model, by name.
        levels: Central levels in percent that were asked for.
        asked_quantiles: Quantiles that were asked for.
        season_length: Season of MASE in rows.
        horizon: Steps ahead.
        step_size: Rows between cutoffs.
    """

    panel: Panel
    origins: np.ndarray
    rolled: Mapping[str, Rolled]
    levels: tuple[float, ...]
    asked_quantiles: tuple[float, ...]
    season_length: int
    horizon: int
    step_size: int

    @cached_property
    def scores(self) -> pd.DataFrame:
        """The scores of all windows, one row for each model.

        ``mse`` and ``mae`` are standardised by the rows before the first cutoff; ``mse_original``,
        ``mae_original`` and ``rmse_original`` are in the units of the data. ``smape`` is from 0 to
        2. ``mase`` is relative to the seasonal naive forecast of the rows before the first cutoff.
        ``wql`` is there with levels or quantiles, ``coverage-80`` with ``level=80``. ``n_windows``
        counts the cutoffs of each series.
        """
        seasonal = self._seasonal_errors()
        rows = []
        for rolled in self.rolled.values():
            row = {name: getattr(rolled, name) for name in _BEFORE_MASE}
            row["mase"] = rolled.mase(seasonal)
            if rolled.quantiles:
                row["wql"] = rolled.wql
            for level, share in rolled.coverage.items():
                row[f"coverage-{level}"] = share
            row["n_windows"] = self.origins.shape[1]
            rows.append(row)
        models = pd.Index([*self.rolled], name="model")
        return pd.DataFrame(rows, index=models)

    @cached_property
    def by_step(self) -> pd.DataFrame:
        """The scores of each step ahead except MASE, one row for each model and step.

        A score is NaN if no value of the step was observed.
        """
        steps = pd.RangeIndex(1, self.horizon + 1, name="step")
        tables = {
            name: pd.DataFrame(rolled.by_step, index=steps) for name, rolled in self.rolled.items()
        }
        return pd.concat(tables, names=["model"])

    @cached_property
    def by_series(self) -> pd.DataFrame:
        """The scores of each series, one row for each model and series, in the order of ids.

        The scores of a series without an observed value are NaN, and so is the MASE of a series
        whose rows before the first cutoff are constant or shorter than a season.
        """
        seasonal = self._seasonal_errors()
        id_name = _columns(self.panel)[0]
        ids = self._ids(self.panel.ids)
        series = pd.Index(ids, name=id_name)
        tables = {}
        for model, rolled in self.rolled.items():
            scores = rolled.by_series
            mase = metrics.ratios(scores["mae_original"], seasonal)
            # These scores come first, and are taken out of the others.
            columns = {name: scores.pop(name).ravel() for name in _BEFORE_MASE}
            columns["mase"] = mase.ravel()
            for name, values in scores.items():
                columns[name] = values.ravel()
            tables[model] = pd.DataFrame(columns, index=series)
        return pd.concat(tables, names=["model"])

    def _seasonal_errors(self) -> np.ndarray:
        stops = self.origins[:, 0]
        usual = _usual_values(self.panel, stops)
        return seasonal_errors(usual, stops, self.season_length)

    def __repr__(self) -> str:
        table = self._summary().to_string(float_format=_short)
        return f"{self._heading()}\n{table}\n{_UNITS}"

    def _repr_html_(self) -> str:
        table = self._summary().to_html(float_format=_short, border=0)
        return f"<p>{self._heading()}</p>\n{table}\n<p>{_UNITS}</p>"

    def _heading(self) -> str:
        n_windows = self.origins.shape[1]
        windows = _counted(n_windows, "window")
        rows = _counted(self.horizon, "row")
        distance = _counted(self.step_size, "row")
        apart = f", {distance} apart" if n_windows > 1 else ""
        return f"{self.panel.n_series} series, each judged on {windows} of {rows}{apart}"

    def _summary(self) -> pd.DataFrame:
        """The most telling scores, one row a model."""
        left_out = ["mse_original", "rmse_original", "n_windows"]
        scores = self.scores.drop(columns=left_out)
        return scores.rename_axis(None)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """All forecasts with the observed values, in long form: id, time, ``cutoff`` (the last
        stamp that was read), observed value, and the columns of each model.

        The column names of a long table stay; of a wide one they are ``unique_id``, ``ds`` and
        ``y``. Rows are sorted by id, cutoff and time. Missing values stay missing.

        Raises:
            ValueError: If forecasts were not kept.
        """
        panel = self.panel
        # All models have the same windows.
        first_rolled = next(iter(self.rolled.values()))
        ends = first_rolled.ends
        rows = (ends[:, None] + np.arange(self.horizon)).ravel()
        rows_per_series = len(rows) // panel.n_series
        last_rows = np.repeat(ends - 1, self.horizon)
        ids = np.repeat(panel.ids, rows_per_series)
        id_name, time_name, cutoff_name, target_name = _columns(panel)
        times = panel.dialect.restore_times(panel.times)
        data = {
            id_name: self._ids(ids),
            time_name: times[rows],
            cutoff_name: times[last_rows],
            target_name: panel.values[rows, 0],
        }
        for name, rolled in self.rolled.items():
            forecasts = self._forecasts(name, rolled)
            for column, values in forecasts.items():
                data[column] = values.ravel()
        frame = pd.DataFrame(data)
        return panel.dialect.with_keys(frame)

    def _ids(self, ids: np.ndarray) -> Any:
        """Names of series as the table has them."""
        dialect = self.panel.dialect
        if dialect.id_col is None:
            return ids
        return dialect.restore_ids(ids)

    def _forecasts(self, name: str, rolled: Rolled) -> dict[str, np.ndarray]:
        if rolled.point is None or rolled.bounds is None:
            raise ValueError(
                "the forecasts were not kept; run the backtest with keep=True to have its frame"
            )
        forecasts = {name: rolled.point}
        for suffix, quantile in interval_columns(self.levels, self.asked_quantiles):
            place = rolled.quantiles.index(quantile)
            forecasts[f"{name}-{suffix}"] = rolled.bounds[..., place]
        return forecasts

    def window_errors(self, model: str, metric: str = "mae") -> np.ndarray:
        """The standardised error of each window, ``[N, W]``, without missing values.

        Args:
            model: Name of a model.
            metric: One of ``tsattn.evaluate.metrics.POINT_METRICS``, such as ``"mae"``.

        Raises:
            ValueError: If the model or metric is unknown or forecasts were not kept.
        """
        if model not in self.rolled or metric not in metrics.POINT_METRICS:
            metric_names = ", ".join(metrics.POINT_METRICS)
            choices = f"models are {sorted(self.rolled)} and metrics {metric_names}"
            raise ValueError(f"{choices}; got {model!r}, {metric!r}")
        rolled = self.rolled[model]
        point = self._forecasts(model, rolled)[model]
        n_windows = self.origins.shape[1]
        # One scale for each window, in the order of its series.
        scale = np.repeat(rolled.tally.scale, n_windows, axis=0)[:, None, :]
        history = History(self.panel)
        y = history.futures(rolled.ends, self.horizon)
        score = metrics.METRICS[metric]
        errors = score(y / scale, point / scale, axis=(1, 2))
        return errors.reshape(self.origins.shape)


def _counted(n: int, noun: str) -> str:
    if n == 1:
        return f"{n} {noun}"
    return f"{n} {noun}s"


def backtest(
    forecasters: Forecasters,
    data: Data,
    *,
    n_windows: int | None = None,
    step_size: int = 1,
    refit: bool | int = False,
    level: Numbers | None = None,
    quantiles: Numbers | None = None,
    schema: Schema | None = None,
    season_length: int | None = None,
    keep: bool = True,
    verbose: bool = False,
    judge: Callable[[BacktestPlan], Mapping[str, Rolled]] | None = None,
) -> BacktestResult:
    """Score forecasters on the last windows of every series.

    A copy of each forecaster is fitted on the rows before a cutoff only, so the forecasters
    themselves stay as they are. Missing values among the observed ones are not scored.

    Standardised errors are in units of the standard deviation of the rows before the first cutoff,
    and MASE in units of their seasonal differences. A few values far from all others, such as
    -9999, are left out of both, with a warning. Another warning names such values in the windows,
    which are scored.

    If some of several forecasters can leave missing values out, the others read them interpolated
    at each cutoff, as under ``missing="interpolate"``.

    Args:
        forecasters: One, several (named by alias), or a mapping from names. All must have the same
            horizon. Each reads the covariates that its schema names, if any.
        data: Long or wide frame, or a ``Panel``. Covariates of one forecaster are not series of a
            wide frame for any other.
        n_windows: Windows of each series; default 1. The last one ends at the last row.
        step_size: Rows between cutoffs.
        refit: ``False`` fits once, on the rows before the first cutoff; ``True`` before every
            cutoff; an integer k before every k-th.
        level: Central intervals in percent; adds their coverage and WQL to the scores.
        quantiles: Quantiles as probabilities; adds WQL to the scores.
        schema: How the table is read, and the policy for short series; without a schema a
            ``Panel`` with a short series raises an error. ``None`` joins the schemas of the
            forecasters, which must not contradict one another.
        season_length: Season of MASE in rows; ``None`` takes that of the frequency.
        keep: Keep the forecasts for ``frame``. Without them memory does not grow with the windows.
        verbose: Show progress on stderr, if that is a terminal.
        judge: Function that carries out the plan; ``None`` fits and scores here, one model after
            another. See :func:`tsattn.distributed.backtest_many`.

    Raises:
        TypeError: If a forecaster is a name or a class.
        ValueError: If names repeat, horizons or schemas differ, a series is too short for the
            windows, intervals are asked of a model that has none, or a fit raises one.
    """
    check_switch("keep", keep)
    check_switch("verbose", verbose)
    named = _by_name(forecasters)
    horizon = _joint_horizon(named)
    levels, asked_quantiles, all_quantiles = check_request(level, quantiles)
    is_strict = schema is None and isinstance(data, Panel)
    schema = _joint_schema(named) if schema is None else schema
    count, judged = judged_rows(horizon, n_windows=n_windows, step_size=step_size)
    panel = _read(data, schema, named, judged)
    # Whatever can be refused is refused before anything is fitted.
    for forecaster in named.values():
        if all_quantiles and not forecaster.gives_quantiles:
            raise points_only(forecaster)
    suffixes = [suffix for suffix, _ in interval_columns(levels, asked_quantiles)]
    _refuse_equal_columns(panel, named, suffixes)
    season = check_whole_or_none("season_length", season_length) or season_of(panel.freq)
    fits = tuple(_fit_windows(refit, count))
    judge_plan = _judge_here if judge is None else judge

    def judge_panel(panel: Panel) -> tuple[np.ndarray, Mapping[str, Rolled]]:
        require_length(panel, judged + 1, f"a judged span of {judged} rows with one before it")
        origins = rolling_origins(panel.lengths, horizon, n_windows=count, step_size=step_size)
        first = origins[:, 0]
        scaler = make_scaler(_usual_values(panel, first), first)
        plan = BacktestPlan(named, panel, origins, fits, scaler, all_quantiles, keep, verbose)
        return origins, judge_plan(plan)

    bad = "error" if is_strict else schema.bad
    try:
        (origins, rolled), panel = skip_bad(panel, judge_panel, bad)
    except BadSeriesError as error:
        if not error.n_rows:
            raise
        every = bad == "error"
        most = most_windows(named.values(), panel, horizon, step_size, every=every)
        raise _with_room(error, count, most) from error
    tell_skipped(panel, "they are not judged")
    _tell_far(panel, origins[:, 0])
    _tell_unjudged(panel, origins, horizon)
    return BacktestResult(
        panel, origins, dict(rolled), levels, asked_quantiles, season, horizon, step_size
    )


def _read(data: Data, schema: Schema, named: Mapping[str, Forecaster], n_judged: int) -> Panel:
    """The table as all forecasters read it. Its last ``n_judged`` rows are judged."""
    panel = to_panel(data, schema)
    for forecaster in named.values():
        panel.require(forecaster.covariate_columns)
    if isinstance(data, Panel):
        return panel
    if panel.missing == "mask":
        names = [name for name, forecaster in named.items() if not forecaster.masks]
        if names:
            tell_interpolated(panel, ", ".join(names))
        needs_stamps = any(forecaster.shares_stamps for forecaster in named.values())
        if names or not needs_stamps:
            panel = panel.last(known_lengths(panel))
    panel = without_sentinels(panel, n_judged=n_judged, keeps=schema.missing == "error")
    tell_usual_sentinels(panel)
    return panel


def _with_room(error: BadSeriesError, n_windows: int, most: int) -> InputError:
    """The refusal of too many windows, with the number of those that fit."""
    if most == 0:
        return InputError(f"{error}: a shorter horizon, since not one window fits")
    if most >= n_windows:
        return InputError(str(error))
    return InputError(f"{error}: ", Argument("n_windows", most), " fits")


def _joint_horizon(named: Mapping[str, Forecaster]) -> int:
    """The horizon that all forecasters share."""
    horizons = {name: forecaster.horizon for name, forecaster in named.items()}
    distinct = set(horizons.values())
    if len(distinct) > 1:
        raise ValueError(f"forecasters judged together need one horizon; got {horizons}")
    return next(iter(horizons.values()))


def _refuse_equal_columns(panel: Panel, names: Iterable[str], suffixes: Sequence[str]) -> None:
    """Refuse names with which two columns of the frame of a result would have one name."""
    columns = [*panel.dialect.key_cols, *_columns(panel)]
    refuse_twice(columns, has_alias=False)
    for name in names:
        columns.append(name)
        columns += [f"{name}-{suffix}" for suffix in suffixes]
    refuse_twice(columns)


def _judge_here(plan: BacktestPlan) -> dict[str, Rolled]:
    """Fit and judge the forecasters one after another."""
    history = History(plan.panel)
    n_models = len(plan.named)
    title = "backtest" if plan.verbose else None
    n_steps = n_models * plan.origins.size
    with progress_line(title, n_steps=n_steps) as line:
        results = {name: judge_fits(plan, name, history, line=line) for name in plan.named}
        line.show(None, _counted(n_models, "model"))
        line.finish("done")
    return results


def judge_fits(
    plan: BacktestPlan,
    name: str,
    history: History,
    first: int = 0,
    last: int | None = None,
    *,
    line: ProgressLine = NO_LINE,
) -> Rolled:
    """Fit and judge one forecaster on the windows of some of its fits.

    Args:
        plan: The backtest.
        name: The forecaster.
        history: Of the plan's panel.
        first: Number of the first fit.
        last: Number of the fit after the last; ``None`` goes to the end.
        line: Where progress is shown.

    Returns:
        The windows of these fits, series by series.
    """
    forecaster = plan.named[name]
    panel = read_by(forecaster.masks, plan.panel)
    if panel is not plan.panel:
        history = History(panel)
    n_windows = plan.origins.shape[1]
    last = len(plan.fits) if last is None else last
    # Windows before which the forecaster is fitted, and the window after the last one.
    edges = [*plan.fits, n_windows][first : last + 1]
    first_window = edges[0]
    rolled = plan.blank(name, slice(first_window, edges[-1]))
    # The numbers of the windows, series by series.
    slots = np.arange(rolled.ends.size).reshape(panel.n_series, -1)
    tell = functools.partial(line.advance, text=f"judging {name}")
    for start, stop in itertools.pairwise(edges):
        stops = plan.origins[:, start]
        # The same for all series, which are judged on their last rows.
        n_judged = int(panel.lengths[0] - stops[0])
        line.show(None, f"fitting {name}")
        fitted = fit_copy(name, forecaster, panel.until(stops), n_judged, verbose=plan.verbose)
        reason = f"a judged span of {n_judged} rows after the context of {name}"
        require_length(panel, fitted.min_context + n_judged, reason)
        require_starts(fitted, panel, plan.origins[:, start:stop])
        # A network fitted on rows without a gap cannot leave out later ones.
        own_panel = read_by(fitted.masks_, panel)
        own_history = history if own_panel is panel else History(own_panel)
        slots_of_fit = slots[:, start - first_window : stop - first_window]
        judge_windows(rolled, fitted, own_history, slots_of_fit.ravel(), tell=tell)
    return rolled


def read_by(masks: bool, panel: Panel) -> Panel:
    """The panel of a backtest as a forecaster reads it, which leaves missing values out
    (``masks``) or has them interpolated.
    """
    if panel.missing == "mask" and not masks:
        return replace(panel, missing="interpolate")
    return panel


def fit_copy(
    name: str, forecaster: Forecaster, past: Panel, judged: int, *, verbose: bool = False
) -> Forecaster:
    """Fit a copy on a copy: what was cut off cannot be reached, and nothing of the caller's is
    changed.
    """
    try:
        # A copy, since a forecaster of a user may change what it is fitted on.
        covariates = None if past.covariates is None else past.covariates.copy()
        past = replace(past, values=past.values.copy(), covariates=covariates)
        fresh = copy.deepcopy(forecaster)
        return fresh.fit(past, verbose=verbose)
    except ValueError as error:
        where = f"{name}, fitted on the rows before the {judged} judged ones: "
        if isinstance(error, BadSeriesError):
            message = f"{where}{error}"
            raise BadSeriesError(message, error.ids, error.reason, error.n_rows) from error
        raise InputError(where, *pieces_of(error)) from error


def _by_name(
    forecasters: Forecasters,
) -> dict[str, Forecaster]:
    """The forecasters by their names, which differ."""
    several: list[Any] = [forecasters]
    if isinstance(forecasters, Mapping):
        several = [*forecasters.values()]
    elif isinstance(forecasters, Sequence) and not isinstance(forecasters, str):
        several = [*forecasters]
    for forecaster in several:
        check_forecaster(forecaster)
    names = [forecaster.alias_ for forecaster in several]
    if isinstance(forecasters, Mapping):
        names = [str(name) for name in forecasters]
    named = dict(zip(names, several, strict=True))
    if len(named) < len(several):
        raise ValueError(
            f"forecasters need names of their own; got {names}: pass a dict, such as"
            " {'first': ..., 'second': ...}, whose names are text"
        )
    if not named:
        raise ValueError("there is no forecaster to judge; pass at least one")
    return named


def _joint_schema(named: Mapping[str, Forecaster]) -> Schema:
    """The schemas of all forecasters merged into one. No two of them may contradict each other."""
    default = Schema()
    settings = {}
    for field in ("id_col", "time_col", "target_col", "freq", "missing", "gaps", "bad"):
        usual = getattr(default, field)
        values = {}
        for name, forecaster in named.items():
            value = getattr(forecaster.schema, field)
            if value != usual:
                values[name] = value
        distinct = set(values.values())
        if len(distinct) > 1:
            raise ValueError(
                f"forecasters judged together must read one table alike; got {field} = {values};"
                " give them one schema, or pass schema="
            )
        if values:
            settings[field] = next(iter(values.values()))
    columns = CovariateColumns()
    for forecaster in named.values():
        columns = columns.join(forecaster.schema.columns)
    return Schema(
        **settings, past_cols=columns.past, future_cols=columns.future, static_cols=columns.static
    )


def _fit_windows(refit: bool | int, n_windows: int) -> list[int]:
    """Windows before which the forecasters are fitted."""
    if isinstance(refit, bool):
        if not refit:
            return [0]
        return list(range(n_windows))
    if not isinstance(refit, Integral) or refit < 1:
        raise InputError(
            Name("refit"),
            " must be ",
            InPython("False (once), True (every window) or "),
            f"a whole number of windows of at least 1; got {refit!r}",
        )
    return list(range(0, n_windows, int(refit)))


def _columns(panel: Panel) -> tuple[Any, ...]:
    """Id, time, cutoff and target of the long frame; a wide table has no names for them."""
    dialect = panel.dialect
    time_col = dialect.time_col if dialect.kind == "long" else None
    return (
        "unique_id" if dialect.id_col is None else dialect.id_col,
        "ds" if time_col is None else time_col,
        "cutoff",
        "y" if dialect.target_col is None else dialect.target_col,
    )


@dataclass(frozen=True)
class Comparison:
    """Mean difference of the errors of two models, ``a - b``: negative if a is better.

    Attributes:
        a: First model.
        b: Second model.
        metric: Name of the metric, on the standardised scale.
        difference: Mean over windows.
        low: Lower bound of the interval.
        high: Upper bound of the interval.
        n_windows: Cutoffs compared.
        share_better: Share of cutoffs at which a has the smaller error.
    """

    a: str
    b: str
    metric: str
    difference: float
    low: float
    high: float
    n_windows: int
    share_better: float


def compare(
    result: BacktestResult, a: str, b: str, *, metric: str = "mae", level: float = 95
) -> Comparison:
    """Compare two models by the difference of their errors on the same windows, with an interval.

    Differences are averaged over the series at each cutoff. Windows closer than the horizon share
    observed values, so their differences are correlated. The variance of the mean therefore adds
    Bartlett-weighted covariances up to ``ceil(horizon / step_size) - 1`` cutoffs apart (Newey and
    West, 1987), and the interval is that of a normal distribution. With few windows it is too
    narrow to serve as a test.

    Args:
        result: A backtest that kept its forecasts (``keep=True``).
        a: Name of a model.
        b: Name of another model.
        metric: A point metric, such as ``"mae"`` (:meth:`BacktestResult.window_errors`).
        level: Level of the interval in percent.

    Raises:
        ValueError: If a name is unknown or there are fewer than two cutoffs.
    """
    check_request([level], None)
    errors_a = result.window_errors(a, metric)
    errors_b = result.window_errors(b, metric)
    gaps = errors_a - errors_b
    observed = ~np.isnan(gaps)
    # One mean over the series for each cutoff.
    totals = np.where(observed, gaps, 0.0).sum(axis=0)
    by_cutoff = metrics.ratios(totals, observed.sum(axis=0))
    by_cutoff = by_cutoff[~np.isnan(by_cutoff)]
    n = len(by_cutoff)
    if n < 2:
        raise InputError(
            f"a comparison needs at least 2 judged windows; got {n}: raise ", Name("n_windows")
        )
    mean = float(by_cutoff.mean())
    centred = by_cutoff - mean
    n_overlapping = math.ceil(result.horizon / result.step_size)
    n_lags = min(n_overlapping, n)
    # Bartlett's weights fall with the lag, so that the variance is not negative but by rounding.
    variance = 0.0
    for lag in range(n_lags):
        # Of a lag other than 0 there are two covariances, one on either side.
        n_sides = 1 if lag == 0 else 2
        weight = (1 - lag / n_lags) * n_sides
        product = float(centred[lag:] @ centred[: n - lag])
        variance += weight * product / n
    deviation = math.sqrt(max(variance, 0.0) / n)
    confidence_point = 0.5 + level / 200
    half = statistics.NormalDist().inv_cdf(confidence_point) * deviation
    share_better = float((by_cutoff < 0).mean())
    return Comparison(
        a=a,
        b=b,
        metric=metric,
        difference=mean,
        low=mean - half,
        high=mean + half,
        n_windows=n,
        share_better=share_better,
    )
