"""Classical models of statsforecast, which are compiled, and models for intermittent demand."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from tsattn.data.panel import Panel
from tsattn.data.schema import Schema
from tsattn.forecasters.classical import (
    BOUND_CONFIDENCE,
    Estimate,
    LocalForecaster,
    errors_of_bounds,
)
from tsattn.forecasters.pooled import standardise
from tsattn.forecasts import Answer

if TYPE_CHECKING:
    from tsattn.data.encoding import CovariateWindows

# Largest value of a scaled window. Some bounds and tolerances of the optimisers are absolute.
_LARGEST_VALUE = 1000.0
# Smoothing constants that TSB chooses from, for the demand and for its probability.
_TSB_CONSTANTS = (0.05, 0.1, 0.2, 0.3)
# First residuals of the theta models, which depend on the starting value.
_STARTING_RESIDUALS = 3
# Models, and the rows that a window needs at least.
_MODELS = MappingProxyType(
    {
        "ets": 10,
        "theta": 4,
        "auto_ets": 7,
        "auto_arima": 4,
        "dynamic_theta": 4,
        "croston": 1,
        "tsb": 1,
        "adida": 1,
    }
)
_INTERMITTENT = ("croston", "tsb", "adida")


def _with_bounds(model: Any, y: np.ndarray, steps: int, with_errors: bool) -> Estimate:
    """Mean, and the standard error that follows from normal bounds."""
    if not with_errors:
        return model.forecast(y=y, h=steps)["mean"], None
    forecast = model.forecast(y=y, h=steps, level=[BOUND_CONFIDENCE])
    lower = np.asarray(forecast[f"lo-{BOUND_CONFIDENCE}"], dtype=np.float64)
    upper = np.asarray(forecast[f"hi-{BOUND_CONFIDENCE}"], dtype=np.float64)
    return forecast["mean"], errors_of_bounds(lower, upper)


def _of_theta(model: Any, y: np.ndarray, steps: int, with_errors: bool) -> Estimate:
    """Mean, and the standard error of its exponential smoothing.

    The bounds of the library are not used: they come from 200 random paths, and count additive
    seasons as noise.
    """
    fitted = model.fit(y)
    mean = fitted.predict(steps)["mean"]
    if not with_errors:
        return mean, None
    facts = fitted.model_
    residuals = facts["residuals"]
    factor = np.ones(steps)
    if facts.get("decompose", False):
        seasons = np.asarray(facts["seas_forecast"]["mean"])
        past_seasons = seasons[np.arange(-len(y), 0) % len(seasons)]
        if facts["decomposition_type"] == "additive":
            residuals = residuals - past_seasons
        else:
            residuals = residuals / past_seasons
            factor = seasons[np.arange(steps) % len(seasons)]
    # Two residuals at least are needed for a deviation.
    if len(residuals) > _STARTING_RESIDUALS + 1:
        residuals = residuals[_STARTING_RESIDUALS:]
    spread = np.std(residuals, ddof=1)
    # The variance of simple exponential smoothing grows by alpha squared a step.
    alpha = facts["par"]["alpha"]
    growth = np.sqrt(1 + np.arange(steps) * alpha**2)
    return mean, spread * factor * growth


def _of_demand(forecast: dict[str, np.ndarray], y: np.ndarray) -> Estimate:
    """Mean, and the root mean squared error of the one-step forecasts of the window, if there are
    some.
    """
    mean = forecast["mean"]
    if "fitted" not in forecast:
        return mean, None
    errors = y - forecast["fitted"]
    errors = errors[np.isfinite(errors)]
    error = y.std()
    if len(errors):
        error = np.sqrt(np.mean(errors**2))
    return mean, np.full(len(mean), error)


def _of_tsb(y: np.ndarray, steps: int) -> Estimate:
    """The forecast of TSB with the constants that fit the window best."""
    from statsforecast import models

    forecasts = []
    for demand in _TSB_CONSTANTS:
        for probability in _TSB_CONSTANTS:
            model = models.TSB(demand, probability)
            forecasts.append(model.forecast(y=y, h=steps, fitted=True))

    def loss(forecast: Any) -> float:
        return float(np.nansum((y - forecast["fitted"]) ** 2))

    return _of_demand(min(forecasts, key=loss), y)


def _estimated(name: str, y: np.ndarray, steps: int, season: int, with_errors: bool) -> Estimate:
    """The forecast of a model, by its name, for the steps after values ``[T]``."""
    from statsforecast import models

    if name == "ets":
        form = "AAA" if season > 1 else "AAN"
        ets = models.AutoETS(season, form, damped=True)
        return _with_bounds(ets, y, steps, with_errors)
    if name == "auto_ets":
        return _with_bounds(models.AutoETS(season), y, steps, with_errors)
    if name == "auto_arima":
        return _with_bounds(models.AutoARIMA(season_length=season), y, steps, with_errors)
    if name == "theta":
        return _of_theta(models.Theta(season), y, steps, with_errors)
    if name == "dynamic_theta":
        return _of_theta(models.DynamicOptimizedTheta(season), y, steps, with_errors)
    if name == "tsb":
        return _of_tsb(y, steps)
    model = models.ADIDA() if name == "adida" else models.CrostonOptimized()
    return _of_demand(model.forecast(y=y, h=steps, fitted=with_errors), y)


class StatsforecastForecaster(LocalForecaster):
    """A classical model of statsforecast, estimated anew on each window.

    A window comes without the name of its series, so no parameters are carried over: every
    forecast, of ``predict`` too, estimates the model on the last ``context`` rows of that series
    and channel, and on nothing else. A series with fewer rows is read from its beginning. Windows
    are read in units of their largest value, so that forecasts follow the scale; most models are
    not those of a shifted series, since they may multiply.

    A window costs one estimation: a tenth of a millisecond (``croston``, ``adida``) to some
    milliseconds (``theta``, ``dynamic_theta``, ``tsb``, ``ets``), a tenth of a second
    (``auto_ets``) and seconds (``auto_arima`` with seasons).

    - ``"ets"``: exponential smoothing, additive errors, damped additive trend, additive seasons.
    - ``"theta"``: the theta method (Assimakopoulos and Nikolopoulos, 2000) after seasons are taken
      off, multiplicative ones where all values are positive, and only where the autocorrelation one
      season apart shows any at 90%.
    - ``"dynamic_theta"``: the dynamic optimised theta model (Fiorucci et al., 2016), seasons
      likewise.
    - ``"auto_ets"``: the exponential smoothing of all kinds that has the least corrected AIC.
    - ``"auto_arima"``: the (seasonal) ARIMA that the stepwise search of Hyndman and Khandakar
      (2008) finds.
    - ``"croston"``: intermittent demand by its size and its intervals (Croston, 1972), constants
      optimised.
    - ``"tsb"``: by its size and its probability (Teunter, Syntetos and Babai, 2011), with the
      constants among .05, .1, .2 and .3 whose one-step errors in the window have the least squares.
    - ``"adida"``: demand summed over the mean interval, smoothed, and divided again (Nikolopoulos
      et al., 2011).

    Quantiles are normal around the mean. Their standard error is the model's own; of the theta
    models that of their exponential smoothing; of those for intermittent demand the root mean
    squared one-step error in the window, at all steps, and quantiles below 0 are 0. The point is
    the mean. A constant window forecasts its value with no spread. Where a window has too few rows
    or the result is not finite, the last value holds, with the spread of a random walk; one
    ``RuntimeWarning`` a call counts such windows.

    Args:
        horizon: Rows forecast ahead.
        model: One of the names above.
        season_length: Rows in a season, 1 for none; the models for intermittent demand know none.
            ``None`` takes the frequency's. A window that does not show two seasons is forecast
            without.
        context: Most rows of history, at least 10. ``None`` takes ten seasons, at least 100 rows;
            ``"auto_ets"`` takes all that the longest series has in ``fit``.
        alias: Name of the column; default ``model``.
        schema: How tables are read.

    Attributes:
        context_: Most rows of history read, set by ``fit``.
        season_length_: Rows in a season, set by ``fit``.

    Raises:
        ValueError: If a setting is out of range; in ``fit``, if no series is long enough for the
            model, or for a ``season_length`` that was given, or if there is negative intermittent
            demand.
    """

    models = _MODELS
    # The module that an estimation imports.
    package = "statsforecast.models"

    def __init__(
        self,
        horizon: int,
        model: str = "auto_ets",
        *,
        season_length: int | None = None,
        context: int | None = None,
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

    @property
    def reads_all(self) -> bool:
        """Whether it reads the whole history by default: ``"auto_ets"`` does."""
        return self.model == "auto_ets"

    def _seasonal_rows(self, season: int) -> int:
        if self.model in _INTERMITTENT:
            return 1
        if self.model == "ets":
            # The seasons of exponential smoothing are parameters; two rows more than parameters
            # are needed.
            return max(2 * season, season + 8, 12)
        return 2 * season

    def _least_rows(self, season: int) -> int:
        return _MODELS[self.model]

    def _scaled(self, y: np.ndarray) -> tuple[np.ndarray, float, float]:
        spread = standardise(y[None], centre="last")[2].item()
        size = np.abs(y).max() / _LARGEST_VALUE if spread > 0 else 0.0
        if size == 0:
            return y, 0.0, 0.0
        # The mean stays: models may multiply, and demand must not become negative.
        return y / size, 0.0, size

    def _answer(self, y: np.ndarray, season: int, with_errors: bool) -> Estimate:
        mean, errors = _estimated(self.model, y, self.horizon, season, with_errors)
        return np.asarray(mean, dtype=np.float64), errors

    def read(self, data: Any, *, fitted: bool = False, later: bool = False) -> Panel:
        """A table as it is read, without negative values where the model forecasts demand.

        Raises:
            ValueError: If the table is faulty, or demand is negative.
        """
        panel = super().read(data, fitted=fitted, later=later)
        if self.model in _INTERMITTENT and (panel.values < 0).any():
            rows = np.flatnonzero(panel.values[:, 0] < 0)
            label = panel.series_label(int(panel.owners(rows + 1)[0]))
            raise ValueError(
                f"{self.alias_} forecasts demand, which is at least 0; {label} has"
                f" {panel.values[rows[0], 0]:g}: take another model, such as 'theta'"
            )
        return panel

    def _forecast(
        self, x: np.ndarray, quantiles: Sequence[float], covariates: "CovariateWindows | None"
    ) -> Answer:
        point, bounds = super()._forecast(x, quantiles, covariates)
        if self.model in _INTERMITTENT:
            bounds = np.maximum(bounds, 0.0)
        return point, bounds
