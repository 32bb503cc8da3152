"""Classical models that are estimated anew on each window, and those of statsmodels."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tsattn.checks import (
    Argument,
    InputError,
    check_choice,
    check_whole,
    check_whole_or_none,
    is_whole,
    warn,
)
from tsattn.data.calendar import season_length
from tsattn.data.panel import Panel, require_length
from tsattn.data.schema import Schema
from tsattn.forecaster import FitContext, Fitted, Forecaster, learnt
from tsattn.forecasters.pooled import standardise
from tsattn.forecasts import Answer
from tsattn.silence import collected

if TYPE_CHECKING:
    from tsattn.data.encoding import CovariateWindows

# Rows that an estimation needs: statsmodels' starting values for exponential smoothing need ten,
# and a season more where there are seasons.
_LEAST_ROWS = 10
# Rows of history by default, at least. More rows cost time and add little.
_CONTEXT_ROWS = 100
# Seasons of history by default.
_CONTEXT_SEASONS = 10
# Confidence in percent of the bounds that a standard error is computed from.
BOUND_CONFIDENCE = 95


class _Setting(NamedTuple):
    """Settings of the model of one window."""

    steps: int
    season: int
    lags: int
    order: tuple[int, int, int]
    seasonal_order: tuple[int, int, int]


# Mean [F] and standard error [F] of a forecast; the errors may be left out where they are not
# needed.
Estimate = tuple[np.ndarray, np.ndarray | None]


def _ets(y: np.ndarray, setting: _Setting, with_errors: bool) -> Estimate:
    import pandas as pd
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    terms = _ets_terms(setting.season)
    model = ETSModel(pd.Series(y), **terms)
    result = model.fit(disp=False)
    if with_errors:
        return _predicted(result, len(y), setting.steps)
    return np.asarray(result.forecast(setting.steps)), None


def _ets_terms(season: int) -> dict[str, Any]:
    """Additive errors, a damped additive trend, and additive seasons where there are seasons."""
    terms = {
        "error": "add",
        "trend": "add",
        "damped_trend": True,
        "initialization_method": "heuristic",
    }
    if season > 1:
        terms["seasonal"] = "add"
        terms["seasonal_periods"] = season
    return terms


def _theta(y: np.ndarray, setting: _Setting, with_errors: bool) -> Estimate:
    from statsmodels.tsa.forecasting.theta import ThetaModel

    # ThetaModel could subtract the seasons, but its standard error would count them as noise.
    seasons = _seasons(y, setting.season)
    deseasonalised = y - np.resize(seasons, len(y))
    model = ThetaModel(deseasonalised, deseasonalize=False)
    result = model.fit()
    rows_ahead = len(y) + np.arange(setting.steps)
    phase = rows_ahead % len(seasons)
    mean = np.asarray(result.forecast(setting.steps), dtype=np.float64)
    mean = mean + seasons[phase]
    if not with_errors:
        return mean, None
    # Bounds of 95%.
    bounds = result.prediction_intervals(setting.steps, alpha=0.05)
    lower, upper = np.asarray(bounds, dtype=np.float64).T
    return mean, errors_of_bounds(lower, upper)


def errors_of_bounds(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Standard errors from normal bounds at ``BOUND_CONFIDENCE``."""
    # The bounds are z standard errors to either side.
    z = NormalDist().inv_cdf(0.5 + BOUND_CONFIDENCE / 200)
    return (upper - lower) / (2 * z)


def _seasons(y: np.ndarray, season: int) -> np.ndarray:
    """Additive seasons by classical decomposition, from the first row on; one zero where there are
    none.

    A series has seasons where the autocorrelation at the season's lag lies outside its 90% band.
    """
    from statsmodels.tsa.seasonal import seasonal_decompose
    from statsmodels.tsa.stattools import acf

    if season == 1:
        return np.zeros(1)
    r = acf(y, nlags=season)
    # Bartlett's formula: the autocorrelations at shorter lags widen the band.
    sum_of_squares = np.sum(r[1:season] ** 2)
    widening = 1 + 2 * sum_of_squares
    error = math.sqrt(widening / len(y))
    half_band = NormalDist().inv_cdf(0.95) * error
    if abs(r[season]) <= half_band:
        return np.zeros(1)
    decomposition = seasonal_decompose(y, model="additive", period=season)
    return np.asarray(decomposition.seasonal[:season])


def _autoreg(y: np.ndarray, setting: _Setting, with_errors: bool) -> Estimate:
    from statsmodels.tsa.ar_model import AutoReg

    model = AutoReg(y, lags=setting.lags, trend="c")
    result = model.fit()
    return _predicted(result, len(y), setting.steps)


def _sarimax(y: np.ndarray, setting: _Setting, with_errors: bool) -> Estimate:
    from statsmodels.tsa.statespace.sarimax import SARIMAX

    seasonal = (0, 0, 0, 0)
    if setting.season > 1:
        seasonal = (*setting.seasonal_order, setting.season)
    model = SARIMAX(y, order=setting.order, seasonal_order=seasonal)
    result = model.fit(disp=False)
    return _predicted(result, len(y), setting.steps)


def _stl_ets(y: np.ndarray, setting: _Setting, with_errors: bool) -> Estimate:
    import pandas as pd
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel
    from statsmodels.tsa.forecasting.stl import STLForecast

    if setting.season == 1:
        return _ets(y, setting, with_errors)
    # The rest has no seasons.
    terms = _ets_terms(1)
    model = STLForecast(pd.Series(y), ETSModel, model_kwargs=terms, period=setting.season)
    result = model.fit(fit_kwargs={"disp": False})
    return _predicted(result, len(y), setting.steps)


def _predicted(result: Any, n_rows: int, steps: int) -> Estimate:
    """Mean and standard error of a forecast, from which statsmodels computes its intervals."""
    last_row = n_rows + steps - 1
    prediction = result.get_prediction(start=n_rows, end=last_row)
    mean = np.asarray(prediction.predicted_mean, dtype=np.float64)
    # Only exponential smoothing gives a variance.
    variance = getattr(prediction, "forecast_variance", None)
    errors = prediction.se_mean if variance is None else np.sqrt(variance)
    return mean, np.asarray(errors, dtype=np.float64)


_MODELS = MappingProxyType(
    {"ets": _ets, "theta": _theta, "autoreg": _autoreg, "sarimax": _sarimax, "stl_ets": _stl_ets}
)


@dataclass(frozen=True, eq=False, kw_only=True)
class LocalFitted(Fitted):
    """Season, and how many rows of history are read at most.

    Args:
        season_length: Rows in a season.
    """

    saved_counts = MappingProxyType({"context": "context_", "season_length": "season_length_"})

    season_length: int


class LocalForecaster(Forecaster):
    """A classical model, estimated anew on each window; a subclass defines it."""

    fitted_class = LocalFitted

    context_: int = learnt("context", "Most rows of history read.")
    season_length_: int = learnt("season_length", "Rows in a season.")

    # The models by name.
    models: Mapping[str, Any]

    min_context = 1

    def __init__(
        self,
        horizon: int,
        model: str,
        *,
        season_length: int | None,
        context: int | None,
        alias: str | None,
        schema: Schema,
    ) -> None:
        check_choice("model", model, self.models)
        check_whole("horizon", horizon)
        self.horizon = horizon
        self.alias = alias
        self.schema = schema
        self.model = model
        self.season_length = check_whole_or_none("season_length", season_length)
        self.context = check_whole_or_none("context", context, _LEAST_ROWS)

    @property
    def reads_all(self) -> bool:
        """Whether it reads the whole history of the longest series by default."""
        return False

    @property
    def name(self) -> str:
        """The model."""
        return self.model

    @property
    def max_context(self) -> int:
        """Rows of history that are read where there are so many; 1 before ``fit``."""
        return 1 if self.state_ is None else self.context_

    @abstractmethod
    def _seasonal_rows(self, season: int) -> int:
        """Rows that a window needs for a model with seasons."""

    @abstractmethod
    def _least_rows(self, season: int) -> int:
        """Rows that an estimation needs; a shorter window is forecast by its last value."""

    @abstractmethod
    def _answer(self, y: np.ndarray, season: int, with_errors: bool) -> Estimate:
        """The forecast after values ``[T]``, which are enough for the model and not constant."""

    def _scaled(self, y: np.ndarray) -> tuple[np.ndarray, float, float]:
        """Values as the model reads them, and the location and spread that undo the scaling; the
        spread of a constant window is 0.
        """
        values, location, spread = standardise(y[None], centre="mean")
        return values[0], location.item(), spread.item()

    def _fit(self, panel: Panel, context: FitContext) -> LocalFitted:
        season = self.season_length or season_length(panel.freq)
        default_rows = max(_CONTEXT_ROWS, _CONTEXT_SEASONS * season)
        most_rows = self.context or default_rows
        longest_series = int(panel.lengths.max())
        if self.reads_all and self.context is None:
            most_rows = max(most_rows, longest_series)
        longest = min(most_rows, longest_series)
        least_of_all = self._least_rows(1)
        if longest < least_of_all:
            require_length(panel, least_of_all, self.alias_)
        least = self._seasonal_rows(season)
        asks_for_seasons = self.season_length is not None and season > 1
        if asks_for_seasons and longest < least:
            raise InputError(
                f"season_length = {season} needs a context of at least {least} rows; got {longest}:"
                " give longer series or context, or ",
                Argument("season_length", 1),
            )
        return LocalFitted(panel=panel, context=most_rows, season_length=season)

    def _checked(self, x: np.ndarray) -> np.ndarray:
        """The last rows of windows of which shorter ones begin with NaN."""
        self.check_fitted()
        x = super()._checked(x)
        finite = np.isfinite(x)
        previous = finite[:, :-1]
        following = finite[:, 1:]
        ends_early = previous & ~following
        is_infinite = np.isinf(x)
        if ends_early.any() or is_infinite.any():
            raise ValueError(
                "windows must be finite from their first value on; got NaN or inf after it: fill"
                " missing values first"
            )
        return x

    def _forecast(
        self, x: np.ndarray, quantiles: Sequence[float], covariates: "CovariateWindows | None"
    ) -> Answer:
        has_quantiles = len(quantiles) > 0
        mean, errors = self._estimates(x, with_errors=has_quantiles)
        z = np.array([_normal_quantile(q) for q in quantiles])
        distance = errors[..., None] * z
        return mean, mean[..., None] + distance

    def _estimates(self, x: np.ndarray, *, with_errors: bool) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard error, ``[B, F, C]`` each, one window and channel after the other."""
        n_windows, _, n_channels = x.shape
        mean = np.zeros((n_windows, self.horizon, n_channels))
        errors = np.zeros_like(mean)
        counts = {"stopped": 0, "short": 0, "broken": 0}
        for b, c in np.ndindex(n_windows, n_channels):
            window = x[b, :, c]
            n_missing = np.isnan(window).sum()
            y = window[n_missing:]
            values, location, spread = self._scaled(y)
            if spread == 0:
                mean[b, :, c] = y[-1]
                continue
            season = self.season_length_
            is_short = len(y) < self._seasonal_rows(season)
            if is_short:
                season = 1
            forecast = None
            if len(y) < self._least_rows(season):
                counts["short"] += 1
            else:
                forecast, stopped = self._estimated(values, season, with_errors)
                counts["stopped"] += stopped
                counts["broken"] += forecast is None
            if forecast is None:
                forecast = _random_walk(values, self.horizon)
            window_mean, window_errors = forecast
            mean[b, :, c] = location + spread * window_mean
            errors[b, :, c] = spread * window_errors
        self._warn(n_windows * n_channels, **counts)
        return mean, errors

    def _estimated(
        self, y: np.ndarray, season: int, with_errors: bool
    ) -> tuple[tuple[np.ndarray, np.ndarray] | None, bool]:
        """The forecast, ``None`` where the model broke down, and whether its optimiser stopped
        early.
        """
        from statsmodels.tools.sm_exceptions import ConvergenceWarning

        # Warnings about starting values and equal lags would not help the user.
        rules = (
            (ConvergenceWarning, ""),
            (UserWarning, "Non-(stationary|invertible) (starting|seasonal)"),
            (UserWarning, "Too few observations to estimate starting"),
            (UserWarning, "The design matrix is rank-deficient"),
            (UserWarning, "Computing fitted values for CrostonOptimized is very expensive"),
        )
        try:
            with collected(*rules) as texts, np.errstate(all="ignore"):
                mean, errors = self._answer(y, season, with_errors)
        except np.linalg.LinAlgError:
            return None, False
        if errors is None:
            errors = np.zeros_like(mean)
        stopped = any("converge" in text for text in texts)
        finite = np.isfinite(mean).all() and np.isfinite(errors).all()
        if not finite:
            return None, stopped
        return (mean, errors), stopped

    def _warn(self, total: int, *, stopped: int, short: int, broken: int) -> None:
        if stopped or short or broken:
            warn(
                f"{self.alias_}: of {total} windows, {stopped} had an optimiser that stopped before"
                f" it converged (forecast from where it stopped), and {short} too few rows and"
                f" {broken} a model that broke down (the last value holds)",
                RuntimeWarning,
            )


class StatsmodelsForecaster(LocalForecaster):
    """A classical model of statsmodels, estimated anew on each window.

    A window comes without the name of its series, so no parameters are carried over: every
    forecast, of ``predict`` too, estimates the model on the last ``context`` rows of that series
    and channel, standardised, and on nothing else. ``fit`` chooses context and season and checks
    the data. A series with fewer rows is read from its beginning. A window costs one estimation,
    and as much again where intervals are asked: some milliseconds (``autoreg``, ``ets``, ``theta``,
    ``stl_ets``) or a second and more (``sarimax`` with a season of 24); over thousands of windows,
    raise ``step_size``.

    - ``"ets"``: exponential smoothing, additive errors, damped additive trend, additive seasons;
      starting values by heuristic, smoothing parameters by likelihood.
    - ``"theta"``: the theta method (Assimakopoulos and Nikolopoulos, 2000) after additive seasons
      are taken off, where the autocorrelation one season apart shows any at 90%.
    - ``"autoreg"``: autoregression with a constant, by least squares.
    - ``"sarimax"``: seasonal ARIMA by the Kalman filter.
    - ``"stl_ets"``: STL takes the seasons off, ``"ets"`` forecasts the rest, the last season is
      added again.

    Quantiles are the model's own: normal, around its mean, with statsmodels' standard error of a
    prediction. The point is the mean. A constant window forecasts its value with no spread. Where a
    window has too few rows or the estimation breaks down (a singular matrix, a result that is not
    finite), the last value holds, with the spread of a random walk; one ``RuntimeWarning`` a call
    counts such windows, and those whose optimiser stopped early.

    Args:
        horizon: Rows forecast ahead.
        model: ``"ets"``, ``"theta"``, ``"autoreg"``, ``"sarimax"`` or ``"stl_ets"``.
        season_length: Rows in a season, 1 for none. ``None`` takes the frequency's. A window of
            fewer than two seasons, or one season and ten rows, is forecast without seasons.
        context: Most rows of history, at least 10. ``None`` takes ten seasons, at least 100 rows.
        lags: Lags of ``"autoreg"``; ``None`` takes one season, at least 3, at most a quarter of the
            window.
        order: (p, d, q) of ``"sarimax"``.
        seasonal_order: Its seasonal (P, D, Q); with the default order it is the airline model of
            Box and Jenkins.
        alias: Name of the column; default ``model``.
        schema: How tables are read.

    Attributes:
        context_: Most rows of history read, set by ``fit``.
        season_length_: Rows in a season, set by ``fit``.

    Raises:
        ValueError: If a setting is out of range; in ``fit``, if no series is long enough for the
            model, or for a ``season_length`` that was given.
    """

    models = _MODELS
    # The module that an estimation imports.
    package = "statsmodels.tsa.api"

    def __init__(
        self,
        horizon: int,
        model: str = "ets",
        *,
        season_length: int | None = None,
        context: int | None = None,
        lags: int | None = None,
        order: tuple[int, int, int] = (0, 1, 1),
        seasonal_order: tuple[int, int, int] = (0, 1, 1),
        alias: str | None = None,
        schema: Schema = Schema(),
    ) -> None:
        super().__init__(
            horizon,
            model,
            season_length=season_length,
            context=context,
            alias=alias,
            schema=schema,
        )
        self.lags = check_whole_or_none("lags", lags)
        self.order = _check_order("order", order)
        self.seasonal_order = _check_order("seasonal_order", seasonal_order)

    def _fit(self, panel: Panel, context: FitContext) -> LocalFitted:
        least = self._least_rows(1)
        rows = int(panel.lengths.max())
        if self.context is not None:
            rows = min(rows, self.context)
        if rows < least and least > _LEAST_ROWS:
            subject = f"order {self.order} needs"
            if self.model == "autoreg":
                subject = f"lags = {self.lags} need"
            raise ValueError(
                f"{subject} a context of at least {least} rows; got {rows}: ask for less, or give a"
                " longer context or longer series"
            )
        return super()._fit(panel, context)

    def _seasonal_rows(self, season: int) -> int:
        # Decompositions need two seasons; the starting values of "ets" need the other number.
        starting_rows = _LEAST_ROWS + 2 * (season // 2)
        least = max(2 * season, starting_rows)
        if self.model == "sarimax":
            return max(least, self._degrees(season))
        return least

    def _least_rows(self, season: int) -> int:
        if self.model == "autoreg" and self.lags is not None:
            regression_rows = 2 * self.lags + 2
            return max(_LEAST_ROWS, regression_rows)
        if self.model == "sarimax":
            return max(_LEAST_ROWS, self._degrees(season))
        return _LEAST_ROWS

    def _degrees(self, season: int) -> int:
        """Rows lost by differences or needed for parameters of SARIMAX, and two for the spread."""
        degrees = sum(self.order)
        if season > 1:
            degrees += sum(self.seasonal_order) * season
        return degrees + 2

    def _answer(self, y: np.ndarray, season: int, with_errors: bool) -> Estimate:
        default_lags = min(max(season, 3), len(y) // 4)
        lags = self.lags or default_lags
        setting = _Setting(self.horizon, season, lags, self.order, self.seasonal_order)
        estimate = _MODELS[self.model]
        return estimate(y, setting, with_errors)


def _normal_quantile(q: float) -> float:
    """The quantile of the standard normal distribution, exactly 0 for a median.

    So the median of a forecast is its mean to the bit.
    """
    if q == 0.5:
        return 0.0
    return NormalDist().inv_cdf(q)


def _random_walk(y: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The last value, and the standard error of a random walk with steps like the window's."""
    changes = np.diff(y)
    step_error = math.sqrt(np.mean(changes**2))
    mean = np.full(steps, y[-1])
    step = np.arange(1, steps + 1)
    # The variances of independent steps add up.
    return mean, step_error * np.sqrt(step)


def _check_order(name: str, order: Any) -> tuple[int, int, int]:
    is_triple = isinstance(order, Sequence) and len(order) == 3
    if not is_triple or not all(is_whole(number) and number >= 0 for number in order):
        raise ValueError(
            f"{name} must be three integers of at least 0, such as (0, 1, 1); got {order!r}"
        )
    # scikit-learn's clone needs the same object back, so a tuple is not copied.
    if isinstance(order, tuple):
        return order
    return order[0], order[1], order[2]
