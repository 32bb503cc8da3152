"""Backtests: rolling origins, refits, scores over every window, comparisons."""

import copy
import functools
import itertools
import math
import statistics
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd

from tsattn.checks import InputError, Name, check_whole, pieces_of
from tsattn.data.calendar import more
from tsattn.data.calendar import season_length as season_of
from tsattn.data.covariates import CovariateColumns
from tsattn.data.frames import (
    BadSeriesError,
    Panel,
    TableLike,
    require_length,
    skip_bad,
    tell_skipped,
    to_panel,
)
from tsattn.data.schema import Schema
from tsattn.data.windows import History, Scaler, make_scaler
from tsattn.evaluate import metrics
from tsattn.evaluate.rolling import (
    Rolled,
    judge_windows,
    judged_rows,
    ratios,
    roll,
    rolling_origins,
    start_rolling,
)
from tsattn.forecaster import Forecaster, check_forecaster
from tsattn.levels import check_request, interval_columns, refuse_twice
from tsattn.terminal import ProgressLine, progress_line

__all__ = [
    "BacktestPlan",
    "BacktestResult",
    "Comparison",
    "backtest",
    "compare",
    "fit_copy",
    "judge_fits",
    "roll",
    "rolling_origins",
    "seasonal_errors",
]

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
    gap = (
        panel.values[season:] - panel.values[:-season]
        if season < len(panel.values)
        else panel.values[:0]
    )
    row = np.arange(len(gap)) + season
    owner = np.searchsorted(panel.starts, row, side="right") - 1
    inside = (row - season >= panel.starts[owner]) & (row < panel.starts[owner] + stops[owner])
    gap = np.abs(gap[inside])
    owner = owner[inside]
    total, count = (np.zeros((panel.n_series, panel.n_channels)) for _ in range(2))
    if len(owner):
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        known = ~np.isnan(gap)
        total[owner[first]] = np.add.reduceat(np.where(known, gap, 0.0), first, axis=0)
        count[owner[first]] = np.add.reduceat(known.astype(np.float64), first, axis=0)
    return ratios(total, count)


def _far_values(panel: Panel, stops: np.ndarray) -> np.ndarray:
    """Values such as -9999 among the first ``stops[n]`` rows of each series, which are few and far
    from all others, bool ``[rows, C]``.
    """
    scaler = make_scaler(panel, stops)
    far = np.zeros(panel.values.shape, dtype=bool)
    for n, stop in enumerate(stops):
        rows = slice(panel.starts[n], panel.starts[n] + stop)
        deviations = np.abs(panel.values[rows] - scaler.mean[n]) / scaler.scale[n]
        # k equal values out of n lie (n / k)^1/2 deviations away.
        possible = np.sqrt(stop / max(_WRONG_SHARE * stop, _WRONG_COUNT))
        largest = np.nan_to_num(deviations).max(axis=0, initial=0.0)
        for c in np.flatnonzero(largest > _SUSPICIOUS_SHARE * possible):
            far[rows, c] = _far_of_series(panel.values[rows, c])
    return far


def _far_of_series(values: np.ndarray) -> np.ndarray:
    """Which values ``[T]`` are few and far from all others."""
    lower, middle, upper = np.nanquantile(values, (0.25, 0.5, 0.75))
    distance = np.nan_to_num(np.abs(values - middle))
    far = distance > _FAR_RANGES * (upper - lower)
    few = far.sum() <= max(_WRONG_SHARE * len(values), _WRONG_COUNT)
    nearest = distance[far].min(initial=np.inf)
    usual = distance[~far].max(initial=0.0)
    if upper > lower and few and nearest > _FAR_RATIO * usual:
        return far
    return np.zeros_like(far)


def _without_far(panel: Panel, far: np.ndarray) -> Panel:
    """The panel with NaN in place of far values, of which scales are computed."""
    return replace(panel, values=np.where(far, np.nan, panel.values)) if far.any() else panel


def _tell_far(panel: Panel, far: np.ndarray) -> None:
    """Warn once of the values that are left out of the scales."""
    if not far.any():
        return
    row, column = np.argwhere(far)[0]
    n = int(np.searchsorted(panel.starts, row, side="right")) - 1
    warnings.warn(
        f"{panel.series_label(n)}: {panel.values[row, column]:.10g} at {panel.times[row]}"
        f"{more(int(far.sum()))} is far from all other values of its series and is left out of the"
        " scales of mse, mae and mase; make it NaN if it is no value",
        stacklevel=3,
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
        ends = (self.panel.starts[:-1, None] + self.origins)[:, windows].ravel()
        how: dict[str, Any] = {
            "horizon": self.named[name].horizon,
            "quantiles": self.quantiles,
            "keep": self.keep,
        }
        return start_rolling(name, self.panel, ends, self.scaler.scale, **how)


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """What a backtest found.

    Attributes:
        panel: The series judged.
        origins: Rows of history before each forecast, ``[N, W]``.
        rolled: Windows and sums of each model by name.
        levels: Central levels asked.
        asked_quantiles: Quantiles asked.
        season_length: Season of MASE in rows.
        horizon: Steps ahead.
        step_size: Rows between origins.
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
        """One row a model.

        ``mse``, ``mae``: on the scale of the rows before the first cutoff. ``mse_original``,
        ``mae_original``, ``rmse_original``: in units. ``smape``, ``mase``; ``wql`` and
        ``coverage-80`` where asked. ``n_windows``: cutoffs judged in each series.
        """
        seasonal = self._seasonal_errors()
        rows = []
        for rolled in self.rolled.values():
            row: dict[str, float] = {name: getattr(rolled, name) for name in _BEFORE_MASE}
            row["mase"] = rolled.mase(seasonal)
            if rolled.quantiles:
                row["wql"] = rolled.wql
            row |= {f"coverage-{level}": share for level, share in rolled.coverage.items()}
            rows.append(row | {"n_windows": self.origins.shape[1]})
        return pd.DataFrame(rows, index=pd.Index(list(self.rolled), name="model"))

    @cached_property
    def by_step(self) -> pd.DataFrame:
        """The scores but MASE of each step ahead, one row a model and step, NaN where no truth is
        known.
        """
        steps = pd.RangeIndex(1, self.horizon + 1, name="step")
        tables = {
            name: pd.DataFrame(rolled.by_step, index=steps) for name, rolled in self.rolled.items()
        }
        return pd.concat(tables, names=["model"])

    @cached_property
    def by_series(self) -> pd.DataFrame:
        """The scores of each series, one row a model and series in the order of ids.

        A score that a series leaves undefined is NaN: all of one without a known truth, MASE of one
        without a scale.
        """
        seasonal = self._seasonal_errors()
        tables = {}
        names = pd.Index(self._ids(self.panel.ids), name=_columns(self.panel)[0])
        for model, rolled in self.rolled.items():
            scores = rolled.by_series
            scores["mase"] = ratios(scores["mae_original"], seasonal)
            table = pd.DataFrame({name: scores[name].ravel() for name in scores}, index=names)
            tables[model] = table[[*_BEFORE_MASE, "mase", *table.columns[len(_BEFORE_MASE) : -1]]]
        return pd.concat(tables, names=["model"])

    def _seasonal_errors(self) -> np.ndarray:
        stops = self.origins[:, 0]
        usual = _without_far(self.panel, _far_values(self.panel, stops))
        return seasonal_errors(usual, stops, self.season_length)

    def __repr__(self) -> str:
        return f"{self._heading()}\n{self._summary().to_string(float_format=_short)}\n{_UNITS}"

    def _repr_html_(self) -> str:
        table = self._summary().to_html(float_format=_short, border=0)
        return f"<p>{self._heading()}</p>\n{table}\n<p>{_UNITS}</p>"

    def _heading(self) -> str:
        n_windows = self.origins.shape[1]
        n_series = self.panel.n_series
        apart = f", {_counted(self.step_size, 'row')} apart" if n_windows > 1 else ""
        windows = f"{_counted(n_windows, 'window')} of {_counted(self.horizon, 'row')}"
        return f"{n_series} series, each judged on {windows}{apart}"

    def _summary(self) -> pd.DataFrame:
        """The scores that tell most, one row a model."""
        left_out = ["mse_original", "rmse_original", "n_windows"]
        return self.scores.drop(columns=left_out).rename_axis(None)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Every forecast beside the truth, always long: id, time, ``cutoff`` (last stamp used), y,
        models.

        The names of a long frame stay; a wide frame becomes ``unique_id`` (its columns), ``ds``
        and ``y``. Rows are sorted by id, cutoff and time. Truths that were missing stay missing.

        Raises:
            ValueError: If forecasts were not kept.
        """
        panel = self.panel
        ends = next(iter(self.rolled.values())).ends
        rows = ends[:, None] + np.arange(self.horizon)
        ids = self._ids(np.repeat(panel.ids, rows.size // panel.n_series))
        stamps = panel.times[rows.ravel()]
        cutoffs = panel.times[np.repeat(ends - 1, self.horizon)]
        truth = panel.values[rows.ravel(), 0]
        data: dict[str, object] = dict(
            zip(_columns(panel), (ids, stamps, cutoffs, truth), strict=True)
        )
        for name, rolled in self.rolled.items():
            for column, values in self._forecasts(name, rolled).items():
                data[column] = values.ravel()
        return panel.dialect.with_keys(pd.DataFrame(data))

    def _ids(self, ids: np.ndarray) -> Any:
        """Names of series as the table has them."""
        dialect = self.panel.dialect
        return ids if dialect.id_col is None else dialect.restore_ids(ids)

    def _forecasts(self, name: str, rolled: Rolled) -> dict[str, np.ndarray]:
        if rolled.point is None or rolled.bounds is None:
            raise ValueError(
                "the forecasts were not kept; run the backtest with keep=True to have its frame"
            )
        place = {q: i for i, q in enumerate(rolled.quantiles)}
        columns = interval_columns(self.levels, self.asked_quantiles)
        return {name: rolled.point} | {
            f"{name}-{s}": rolled.bounds[..., place[q]] for s, q in columns
        }

    def window_errors(self, model: str, metric: str = "mae") -> np.ndarray:
        """Error of each window on the standardised scale, ``[N, W]``; missing truths are left out.

        Args:
            model: Name of a model.
            metric: One of ``tsattn.evaluate.metrics.POINT_METRICS``, such as ``"mae"``.

        Raises:
            ValueError: If the model or metric is unknown or forecasts were not kept.
        """
        if model not in self.rolled or metric not in metrics.POINT_METRICS:
            known = (
                f"models are {sorted(self.rolled)} and metrics {', '.join(metrics.POINT_METRICS)}"
            )
            raise ValueError(f"{known}; got {model!r}, {metric!r}")
        rolled = self.rolled[model]
        point = self._forecasts(model, rolled)[model]
        series = np.repeat(np.arange(self.panel.n_series), self.origins.shape[1])
        scale = rolled.tally.scale[series][:, None, :]
        y = History(self.panel).futures(rolled.ends, self.horizon)
        score = metrics.METRICS[metric](y / scale, point / scale, axis=(1, 2))
        return score.reshape(self.origins.shape)


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def backtest(
    forecasters: Forecaster | Sequence[Forecaster] | Mapping[str, Forecaster],
    data: TableLike | Panel,
    *,
    n_windows: int | None = None,
    step_size: int = 1,
    refit: bool | int = False,
    level: float | Iterable[float] | None = None,
    quantiles: float | Iterable[float] | None = None,
    schema: Schema | None = None,
    season_length: int | None = None,
    keep: bool = True,
    verbose: bool = False,
    judge: Callable[[BacktestPlan], Mapping[str, Rolled]] | None = None,
) -> BacktestResult:
    """Judge forecasters on the last windows of every series.

    Each is copied before it is fitted, so the caller's stay as they were; it is given a copy of the
    rows before a cutoff and nothing else. Windows without a refit are answered by
    ``predict_windows`` in chunks.

    Standardised errors are in units of the deviation of the rows before the first cutoff, MASE in
    seasonal differences of these. A few values far from all others, such as -9999, are left out of
    both, with a warning.

    Args:
        forecasters: One, several (named by alias), or a mapping from names. All have one horizon;
            each reads the covariates that it declares, if any.
        data: Long or wide frame, or a ``Panel``. Covariates of one forecaster are no series of a
            wide frame for any.
        n_windows: Windows a series; default 1.
        step_size: Rows between cutoffs.
        refit: ``False`` fits once, on the rows before the first cutoff; ``True`` before every
            cutoff; an integer k before every k-th.
        level: Central levels in percent.
        quantiles: Quantiles.
        schema: How the table is read. ``None`` reads it as the forecasters do: what their schemas
            name, which must not contradict one another.
        season_length: Season of MASE in rows; ``None`` takes the frequency's.
        keep: Keep forecasts for ``frame``; without them memory does not grow with the windows.
        verbose: Show progress on stderr where that is a terminal.
        judge: Carries the plan out; ``None`` fits and judges here, one after another. See
            :func:`tsattn.distributed.backtest_many`.

    Raises:
        TypeError: If a forecaster is a name or a class.
        ValueError: If names repeat, horizons or schemas differ, a series is too short, or a
            forecaster refuses.
    """
    named = _by_name(forecasters)
    horizons = {name: each.horizon for name, each in named.items()}
    if len(set(horizons.values())) > 1:
        raise ValueError(f"forecasters judged together need one horizon; got {horizons}")
    horizon = next(iter(horizons.values()))
    levels, asked, every = check_request(level, quantiles)
    schema = _joint_schema(named) if schema is None else schema
    panel = to_panel(data, schema, missing=_joint_missing(named))
    for forecaster in named.values():
        panel.require(forecaster.covariate_columns)
    # Whatever can be refused is refused before anything is fitted.
    suffixes = [f"-{suffix}" for suffix, _ in interval_columns(levels, asked)]
    refuse_twice(
        [*_columns(panel), *(name + suffix for name in named for suffix in ("", *suffixes))]
    )
    season = (
        season_of(panel.freq)
        if season_length is None
        else check_whole("season_length", season_length)
    )
    count, judged = judged_rows(horizon, n_windows=n_windows, step_size=step_size)
    fits = _fit_windows(refit, count)

    def judged_plan(panel: Panel) -> tuple[np.ndarray, Mapping[str, Rolled]]:
        require_length(panel, judged + 1, f"a judged span of {judged} rows with one before it")
        origins = rolling_origins(panel.lengths, horizon, n_windows=count, step_size=step_size)
        far = _far_values(panel, origins[:, 0])
        scaler = make_scaler(_without_far(panel, far), origins[:, 0])
        plan = BacktestPlan(named, panel, origins, tuple(fits), scaler, every, keep, verbose)
        return origins, _judge_here(plan) if judge is None else judge(plan)

    bad = "error" if isinstance(data, Panel) else schema.bad
    (origins, rolled), panel = skip_bad(panel, judged_plan, bad)
    tell_skipped(panel)
    _tell_far(panel, _far_values(panel, origins[:, 0]))
    return BacktestResult(panel, origins, dict(rolled), levels, asked, season, horizon, step_size)


def _judge_here(plan: BacktestPlan) -> dict[str, Rolled]:
    history = History(plan.panel)
    n_models = len(plan.named)
    with progress_line(
        "backtest" if plan.verbose else None, n_steps=n_models * plan.origins.size
    ) as line:
        found = {name: judge_fits(plan, name, history, line=line) for name in plan.named}
        if line is not None:
            line.show(None, _counted(n_models, "model"))
            line.finish("done")
    return found


def judge_fits(
    plan: BacktestPlan,
    name: str,
    history: History,
    first: int = 0,
    last: int | None = None,
    *,
    line: ProgressLine | None = None,
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
    panel = plan.panel
    n_windows = plan.origins.shape[1]
    edges = [*plan.fits, n_windows][first : (len(plan.fits) if last is None else last) + 1]
    rolled = plan.blank(name, slice(edges[0], edges[-1]))
    slots = np.arange(rolled.ends.size).reshape(panel.n_series, -1)
    for start, stop in itertools.pairwise(edges):
        judged = int(panel.lengths[0] - plan.origins[0, start])
        if line is not None:
            line.show(None, f"fitting {name}")
        fitted = fit_copy(
            name, forecaster, panel.until(plan.origins[:, start]), judged, verbose=plan.verbose
        )
        context = fitted.min_context
        require_length(
            panel, context + judged, f"a judged span of {judged} rows after the context of {name}"
        )
        tell = None if line is None else functools.partial(line.advance, text=f"judging {name}")
        judge_windows(
            rolled, fitted, history, slots[:, start - edges[0] : stop - edges[0]].ravel(), tell=tell
        )
    return rolled


def fit_copy(
    name: str, forecaster: Forecaster, known: Panel, judged: int, *, verbose: bool = False
) -> Forecaster:
    """Fit a copy on a copy: what was cut off cannot be reached, and nothing of the caller's is
    changed.
    """
    try:
        beside = None if known.covariates is None else known.covariates.copy()
        known = replace(known, values=known.values.copy(), covariates=beside)
        return copy.deepcopy(forecaster).fit(known, verbose=verbose)
    except ValueError as error:
        where = f"{name}, fitted on the rows before the {judged} judged ones: "
        if isinstance(error, BadSeriesError):
            raise BadSeriesError(f"{where}{error}", error.ids, error.reason) from error
        raise InputError(where, *pieces_of(error)) from error


def _by_name(
    forecasters: Forecaster | Sequence[Forecaster] | Mapping[str, Forecaster],
) -> dict[str, Forecaster]:
    alone = isinstance(forecasters, str) or not isinstance(forecasters, Sequence | Mapping)
    given: Any = [forecasters] if alone else forecasters
    several: list[Any] = list(given.values() if isinstance(given, Mapping) else given)
    for each in several:
        check_forecaster(each)
    names = (
        [str(name) for name in given]
        if isinstance(given, Mapping)
        else [each.alias_ for each in several]
    )
    named = dict(zip(names, several, strict=True))
    if len(named) < len(several):
        raise ValueError(
            f"forecasters need names of their own; got {names}: set alias=, or pass a dict from"
            " names, which are text"
        )
    if not named:
        raise ValueError("there is no forecaster to judge; pass at least one")
    return named


def _joint_schema(named: Mapping[str, Forecaster]) -> Schema:
    """What the schemas of all forecasters say together, of which no two may contradict
    each other.
    """
    default = Schema()
    found: dict[str, Any] = {}
    for field in ("id_col", "time_col", "target_col", "freq", "missing", "gaps", "bad"):
        said = {name: getattr(each.schema, field) for name, each in named.items()}
        said = {name: value for name, value in said.items() if value != getattr(default, field)}
        if len(set(said.values())) > 1:
            raise ValueError(
                f"forecasters judged together must read one table alike; got {field} = {said}; give"
                " them one schema, or pass schema="
            )
        if said:
            found[field] = next(iter(said.values()))
    columns = functools.reduce(
        CovariateColumns.join, (each.schema.columns for each in named.values()), CovariateColumns()
    )
    return Schema(
        **found, past_cols=columns.past, future_cols=columns.future, static_cols=columns.static
    )


def _joint_missing(named: Mapping[str, Forecaster]) -> str:
    """The policy where no schema names one: that of all forecasters, or else to refuse missing
    values.
    """
    own = {each.default_missing for each in named.values()}
    return own.pop() if len(own) == 1 else "error"


def _fit_windows(refit: bool | int, n_windows: int) -> list[int]:
    """Windows before which the forecasters are fitted."""
    if isinstance(refit, bool):
        return list(range(n_windows)) if refit else [0]
    if not isinstance(refit, Integral) or refit < 1:
        raise ValueError(
            f"refit is False (once), True (every window) or every how many windows; got {refit!r}"
        )
    return list(range(0, n_windows, int(refit)))


def _columns(panel: Panel) -> tuple[Any, ...]:
    """Id, time, cutoff and target of the long frame; a wide table has no names for them."""
    dialect = panel.dialect
    given = (
        dialect.id_col,
        dialect.time_col if dialect.kind == "long" else None,
        "cutoff",
        dialect.target_col,
    )
    return tuple(
        b if a is None else a
        for a, b in zip(given, ("unique_id", "ds", "cutoff", "y"), strict=True)
    )


@dataclass(frozen=True)
class Comparison:
    """Mean difference of two models' errors, ``a - b``: negative where a is better.

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
    """Paired differences of two models' errors over the same windows, with a normal interval.

    Differences are averaged over series at each cutoff. Windows closer than the horizon overlap and
    share truths, so their differences are correlated: the variance of the mean adds
    Bartlett-weighted covariances up to ``ceil(horizon / step_size) - 1`` cutoffs apart (Newey and
    West, 1987). With few windows the interval is still too narrow; treat it as a yardstick, not as
    a test.

    Args:
        result: Forecasts must have been kept.
        a: A model.
        b: Another.
        metric: As :meth:`BacktestResult.window_errors` takes it.
        level: Of the interval, in percent.

    Raises:
        ValueError: If a name is unknown or there are fewer than two cutoffs.
    """
    check_request([level], None)
    gaps = result.window_errors(a, metric) - result.window_errors(b, metric)
    known = ~np.isnan(gaps)
    by_cutoff = ratios(np.where(known, gaps, 0.0).sum(axis=0), known.sum(axis=0))
    by_cutoff = by_cutoff[~np.isnan(by_cutoff)]
    n = len(by_cutoff)
    if n < 2:
        raise InputError(
            f"a comparison needs at least 2 judged windows; got {n}: raise ", Name("n_windows")
        )
    mean = float(by_cutoff.mean())
    centred = by_cutoff - mean
    lags = min(-(-result.horizon // result.step_size) - 1, n - 1)
    weights = [(1 - k / (lags + 1)) * (1 if k == 0 else 2) for k in range(lags + 1)]
    variance = sum(w * float(centred[k:] @ centred[: n - k]) / n for k, w in enumerate(weights))
    half = statistics.NormalDist().inv_cdf(0.5 + level / 200) * math.sqrt(max(variance, 0.0) / n)
    return Comparison(
        a, b, metric, mean, mean - half, mean + half, n, float((by_cutoff < 0).mean())
    )
