"""Classical models that are estimated anew on each window, and those of statsmodels."""

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from statistics import NormalDist
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tsattn.data.frames import Panel, require_length, season_length
from tsattn.data.schema import Schema
from tsattn.forecaster import check_horizon
from tsattn.forecasters.naive import check_rows
from tsattn.forecasters.pooled import standardise
from tsattn.forecasters.stored import StoredForecaster
from tsattn.silence import collected

if TYPE_CHECKING:
    from tsattn.data.encoding import CovariateWindows

# statsmodels' starting values for exponential smoothing need ten rows, and a season more where
# there are seasons; its decompositions need two seasons.
_LEAST_ROWS = 10
# How much history a model reads when nobody says: more costs time and tells little about the next
# rows.
_CONTEXT_ROWS = 100
_CONTEXT_SEASONS = 10


class _Setting(NamedTuple):
    """What a model of one window needs to know beside its values."""

    steps: int
    season: int
    lags: int
    order: tuple[int, int, int]
    seasonal_order: tuple[int, int, int]


# Values [T] -> mean [F] and standard error [F] of the forecast; the errors only where they are
# asked.
Answer = tuple[np.ndarray, np.ndarray | None]
_Model = Callable[[np.ndarray, _Setting, bool], Answer]


def _ets(y: np.ndarray, setting: _Setting, with_errors: bool) -> Answer:
    import pandas as pd
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    result = ETSModel(pd.Series(y), **_ets_terms(setting.season)).fit(disp=False)
    return (
        _predicted(result, len(y), setting.steps)
        if with_errors
        else (np.asarray(result.forecast(setting.steps)), None)
    )


def _ets_terms(season: int) -> dict[str, Any]:
    """Additive errors, a damped additive trend, and additive seasons where there are seasons."""
    seasonal = {"seasonal": "add", "seasonal_periods": season} if season > 1 else {}
    return {
        "error": "add",
        "trend": "add",
        "damped_trend": True,
        "initialization_method": "heuristic",
        **seasonal,
    }


def _theta(y: np.ndarray, setting: _Setting, with_errors: bool) -> Answer:
    from statsmodels.tsa.forecasting.theta import ThetaModel

    # Taken off here and not by ThetaModel, whose standard error would count the seasons as noise.
    seasonal = _seasons(y, setting.season)
    result = ThetaModel(y - np.resize(seasonal, len(y)), deseasonalize=False).fit()
    ahead = seasonal[(len(y) + np.arange(setting.steps)) % len(seasonal)]
    mean = np.asarray(result.forecast(setting.steps), dtype=np.float64) + ahead
    if not with_errors:
        return mean, None
    bounds = np.asarray(result.prediction_intervals(setting.steps, alpha=0.05), dtype=np.float64)
    return mean, (bounds[:, 1] - bounds[:, 0]) / (2 * NormalDist().inv_cdf(0.975))


def _seasons(y: np.ndarray, season: int) -> np.ndarray:
    """Additive seasons by classical decomposition, from the first row on; a single zero where there
    are none.

    There are some where the autocorrelation one season apart is outside its 90% band under those
    before it.
    """
    from statsmodels.tsa.seasonal import seasonal_decompose
    from statsmodels.tsa.stattools import acf

    if season == 1:
        return np.zeros(1)
    r = acf(y, nlags=season)
    if abs(r[season]) <= NormalDist().inv_cdf(0.95) * math.sqrt(
        (1 + 2 * np.sum(r[1:season] ** 2)) / len(y)
    ):
        return np.zeros(1)
    return np.asarray(seasonal_decompose(y, model="additive", period=season).seasonal[:season])


def _autoreg(y: np.ndarray, setting: _Setting, with_errors: bool) -> Answer:
    from statsmodels.tsa.ar_model import AutoReg

    return _predicted(AutoReg(y, lags=setting.lags, trend="c").fit(), len(y), setting.steps)


def _sarimax(y: np.ndarray, setting: _Setting, with_errors: bool) -> Answer:
    from statsmodels.tsa.statespace.sarimax import SARIMAX

    seasonal = (*setting.seasonal_order, setting.season) if setting.season > 1 else (0, 0, 0, 0)
    result = SARIMAX(y, order=setting.order, seasonal_order=seasonal).fit(disp=False)
    return _predicted(result, len(y), setting.steps)


def _stl_ets(y: np.ndarray, setting: _Setting, with_errors: bool) -> Answer:
    import pandas as pd
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel
    from statsmodels.tsa.forecasting.stl import STLForecast

    if setting.season == 1:
        return _ets(y, setting, with_errors)
    stl = STLForecast(pd.Series(y), ETSModel, model_kwargs=_ets_terms(1), period=setting.season)
    return _predicted(stl.fit(fit_kwargs={"disp": False}), len(y), setting.steps)


def _predicted(result: Any, n_rows: int, steps: int) -> Answer:
    """Mean and standard error out of sample, as statsmodels' own intervals are made of."""
    prediction = result.get_prediction(start=n_rows, end=n_rows + steps - 1)
    mean = np.asarray(prediction.predicted_mean, dtype=np.float64)
    variance = getattr(prediction, "forecast_variance", None)
    errors = prediction.se_mean if variance is None else np.sqrt(variance)
    return mean, np.asarray(errors, dtype=np.float64)


_MODELS: MappingProxyType[str, _Model] = MappingProxyType(
    {"ets": _ets, "theta": _theta, "autoreg": _autoreg, "sarimax": _sarimax, "stl_ets": _stl_ets}
)


class LocalForecaster(StoredForecaster):
    """A classical model, estimated anew on each window; a subclass says which."""

    learnt = ("context_", "season_length_")

    model: str
    season_length: int | None

    min_context = 1

    @property
    def name(self) -> str:
        """The model."""
        return self.model

    @property
    def max_context(self) -> int:
        """Rows of history read where there are so many; known once it is fitted, one before."""
        return int(vars(self).get("context_", 1))

    @abstractmethod
    def _seasonal_rows(self, season: int) -> int:
        """Rows from which seasons can be told."""

    @abstractmethod
    def _least_rows(self, season: int) -> int:
        """Rows that an estimation needs; with fewer, the last value holds."""

    @abstractmethod
    def _answer(self, y: np.ndarray, season: int, with_errors: bool) -> Answer:
        """The model's answer to values ``[T]``, at least so many as it needs, not all alike."""

    def _scaled(self, y: np.ndarray) -> tuple[np.ndarray, float, float]:
        """Values as the model reads them, and the level and spread that undo it; no spread of a
        constant window.
        """
        values, level, spread = standardise(y[None, :, None], centre="mean")
        return values[0, :, 0], float(level[0, 0, 0]), float(spread[0, 0, 0])

    def _learn(self, panel: Panel) -> None:
        season = self.season_length or season_length(panel.freq)
        context = self.context or max(_CONTEXT_ROWS, _CONTEXT_SEASONS * season)
        longest = min(context, int(panel.lengths.max()))
        if longest < self._least_rows(1):
            require_length(panel, self._least_rows(1), self.alias_)
        least = self._seasonal_rows(season)
        if self.season_length is not None and season > 1 and longest < least:
            raise ValueError(
                f"season_length = {season} needs a context of at least {least} rows; got {longest}:"
                " give longer series or context, or season_length=1"
            )
        self.context_ = context
        self.season_length_ = season

    def _checked(self, x: np.ndarray) -> np.ndarray:
        """The last rows of windows of which shorter ones begin with NaN."""
        self.check_fitted()
        x = super()._checked(x)
        known = np.isfinite(x)
        if (known[:, :-1] & ~known[:, 1:]).any() or np.isinf(x).any():
            raise ValueError(
                "windows must be finite from their first value on; got NaN or inf after it: fill"
                " missing values first"
            )
        return x

    def _forecast(
        self, x: np.ndarray, quantiles: Sequence[float], covariates: "CovariateWindows | None"
    ) -> tuple[np.ndarray, np.ndarray]:
        mean, errors = self._each(x, with_errors=len(quantiles) > 0)
        z = np.array([0.0 if q == 0.5 else NormalDist().inv_cdf(q) for q in quantiles])
        return mean, mean[..., None] + errors[..., None] * z

    def _each(self, x: np.ndarray, *, with_errors: bool) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard error, ``[B, F, C]`` each, one window and channel after the other."""
        mean, errors = (np.zeros((x.shape[0], self.horizon, x.shape[2])) for _ in range(2))
        counts = dict.fromkeys(("stopped", "short", "broken"), 0)
        for b, c in np.ndindex(x.shape[0], x.shape[2]):
            y = x[b, np.isnan(x[b, :, c]).sum() :, c]
            values, level, spread = self._scaled(y)
            if spread == 0:
                mean[b, :, c] = y[-1]
                continue
            season = (
                self.season_length_ if len(y) >= self._seasonal_rows(self.season_length_) else 1
            )
            found = None
            if len(y) < self._least_rows(season):
                counts["short"] += 1
            else:
                found, stopped = self._estimated(values, season, with_errors)
                counts["stopped"] += stopped
                counts["broken"] += found is None
            centre, error = _random_walk(values, self.horizon) if found is None else found
            mean[b, :, c] = level + spread * centre
            errors[b, :, c] = spread * error
        self._warn(x.shape[0] * x.shape[2], **counts)
        return mean, errors

    def _estimated(
        self, y: np.ndarray, season: int, with_errors: bool
    ) -> tuple[tuple[np.ndarray, np.ndarray] | None, bool]:
        """The model's answer, ``None`` where it broke down, and whether its optimiser stopped
        early.
        """
        from statsmodels.tools.sm_exceptions import ConvergenceWarning

        rules = (
            (ConvergenceWarning, ""),
            # Where the optimiser starts, and that lags of a regular window tell the same, is no
            # matter of the user's.
            (
                UserWarning,
                (
                    "Non-(stationary|invertible) (starting|seasonal)|Too few observations to"
                    " estimate starting"
                ),
            ),
            (UserWarning, "The design matrix is rank-deficient"),
            (UserWarning, "Computing fitted values for CrostonOptimized is very expensive"),
        )
        try:
            with collected(*rules) as texts, np.errstate(all="ignore"):
                mean, errors = self._answer(y, season, with_errors)
        except np.linalg.LinAlgError:
            return None, False
        errors = np.zeros_like(mean) if errors is None else errors
        stopped = any("converge" in text for text in texts)
        if not (np.isfinite(mean).all() and np.isfinite(errors).all()):
            return None, stopped
        return (mean, errors), stopped

    def _warn(self, total: int, *, stopped: int, short: int, broken: int) -> None:
        if stopped or short or broken:
            warnings.warn(
                f"{self.alias_}: of {total} windows, {stopped} had an optimiser that stopped before"
                f" it converged (forecast from where it stopped), and {short} too few rows and"
                f" {broken} a model that broke down (the last value holds)",
                RuntimeWarning,
                stacklevel=4,
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
        if model not in _MODELS:
            raise ValueError(f"model must be one of {', '.join(_MODELS)}; got {model!r}")
        check_horizon(horizon)
        self.horizon = horizon
        self.alias = alias
        self.schema = schema
        self.model = model
        self.season_length = (
            None if season_length is None else check_rows("season_length", season_length, 1)
        )
        self.context = None if context is None else check_rows("context", context, _LEAST_ROWS)
        self.lags = None if lags is None else check_rows("lags", lags, 1)
        self.order = _check_order("order", order)
        self.seasonal_order = _check_order("seasonal_order", seasonal_order)

    def _learn(self, panel: Panel) -> None:
        least = self._least_rows(1)
        rows = int(panel.lengths.max())
        rows = rows if self.context is None else min(rows, self.context)
        if rows < least and least > _LEAST_ROWS:
            what = (
                f"lags = {self.lags} need"
                if self.model == "autoreg"
                else f"order {self.order} needs"
            )
            raise ValueError(
                f"{what} a context of at least {least} rows; got {rows}: ask for less, or give a"
                " longer context or longer series"
            )
        super()._learn(panel)

    def _seasonal_rows(self, season: int) -> int:
        least = max(2 * season, _LEAST_ROWS + 2 * (season // 2))
        return max(least, self._degrees(season)) if self.model == "sarimax" else least

    def _least_rows(self, season: int) -> int:
        if self.model == "autoreg" and self.lags is not None:
            return max(_LEAST_ROWS, 2 * self.lags + 2)
        return max(_LEAST_ROWS, self._degrees(season)) if self.model == "sarimax" else _LEAST_ROWS

    def _degrees(self, season: int) -> int:
        """Rows that SARIMAX loses or spends on parameters, and two more to tell the spread from."""
        return sum(self.order) + (sum(self.seasonal_order) * season if season > 1 else 0) + 2

    def _answer(self, y: np.ndarray, season: int, with_errors: bool) -> Answer:
        lags = self.lags or min(max(season, 3), len(y) // 4)
        setting = _Setting(self.horizon, season, lags, self.order, self.seasonal_order)
        return _MODELS[self.model](y, setting, with_errors)


def _random_walk(y: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The last value, and how far a walk with steps as large as the window's strays from it."""
    return np.full(steps, y[-1]), math.sqrt(np.mean(np.diff(y) ** 2)) * np.sqrt(
        np.arange(1, steps + 1)
    )


def _check_order(name: str, order: object) -> tuple[int, int, int]:
    if (
        not isinstance(order, Sequence)
        or len(order) != 3
        or any(isinstance(each, bool) or not isinstance(each, int) or each < 0 for each in order)
    ):
        raise ValueError(
            f"{name} must be three integers of at least 0, such as (0, 1, 1); got {order!r}"
        )
    # A tuple stays the one that it is, or scikit-learn could not clone its owner.
    return order if isinstance(order, tuple) else (order[0], order[1], order[2])
