"""Forecasters of tsattn with the interface of sktime, which sets the horizon by ``fh``."""

from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.base import clone
from sktime.forecasting.base import BaseForecaster, ForecastingHorizon

from tsattn.adapters.reading import read_panel
from tsattn.adapters.refusals import refuse_covariates
from tsattn.checks import warn
from tsattn.data.frames import from_wide
from tsattn.data.panel import Panel, find_sentinels, require_length
from tsattn.data.schema import Schema
from tsattn.data.windows import History
from tsattn.forecasters.attention import AttentionForecaster
from tsattn.forecasters.linear import LinearForecaster
from tsattn.forecasters.network import NetworkForecaster
from tsattn.forecasters.pretrained import PretrainedForecaster
from tsattn.forecasts import Answer
from tsattn.nn.config import Network
from tsattn.training.settings import Training

_DECIMALS = 12  # of probabilities
# Share of steps that are the usual one where a longer one is a gap, and usual steps that are one. A
# day has 23 to 25 hours.
_ALIKE_SHARE = 0.97
_GAP_STEPS = 1.5

_Wrapped = NetworkForecaster | PretrainedForecaster


class TsattnForecaster(BaseForecaster):
    """A forecaster of tsattn with sktime's interface.

    The horizon is the largest step of ``fh``. Where a series is too short for the context, patches
    or validation rows of a network, the fitted copy has smaller ones. Forecasts do not depend on
    the index: stamps, periods and numbers give the same. An index with gaps is refused: missing
    rows are NaN. ``update`` adds rows to the history and fits again unless
    ``update_params=False``.

    Quantiles are those of the pretrained network, or of a quantile or distribution head. Without
    one they come from the absolute errors on the validation rows. n errors at a step bound levels
    up to 100 n / (n + 1) percent. The bounds of higher levels are those of that level, stretched as
    for a normal distribution, and a warning says so.

    Parameters
    ----------
    forecaster : AttentionForecaster, LinearForecaster or PretrainedForecaster, default None
        The forecaster. Each fit takes a copy with another horizon. None is an attention forecaster
        with its defaults.
    random_state : int or None, default None
        Seed that replaces the forecaster's own unless it is None.

    Attributes
    ----------
    ``forecaster_`` : of the same class
        The fitted copy.

    Examples
    --------
    >>> import pandas as pd
    >>> from tsattn.adapters.sktime import TsattnForecaster
    >>> from tsattn import LinearForecaster, Training
    >>> months = pd.period_range("2020-01", periods=60, freq="M")
    >>> y = pd.Series(range(60), index=months, dtype=float)
    >>> linear = LinearForecaster(1, context=12, training=Training(max_epochs=2))
    >>> model = TsattnForecaster(linear, random_state=0)
    >>> model.fit(y, fh=[1, 3]).predict().index.astype(str).tolist()
    ['2025-01', '2025-03']
    """

    _tags: ClassVar[dict[str, Any]] = {
        "authors": ["tsattn"],
        "python_dependencies": ["tsattn"],
        "y_inner_mtype": "pd.DataFrame",
        "X_inner_mtype": "pd.DataFrame",
        "capability:multivariate": True,
        "capability:exogenous": False,
        "capability:insample": False,
        "capability:pred_int": True,
        "capability:pred_int:insample": False,
        "capability:missing_values": True,
        "capability:update": True,
        "capability:random_state": True,
        "property:randomness": "derandomized",
        "requires-fh-in-fit": True,
    }
    # sktime 1.2 warns at every construction that 1.3 will store less data. This class stores what
    # it needs.
    _config: ClassVar[dict[str, Any]] = {"warnings": "off"}

    def __init__(self, forecaster: _Wrapped | None = None, random_state: int | None = None) -> None:
        self.forecaster = forecaster
        self.random_state = random_state
        super().__init__()
        if isinstance(forecaster, _Wrapped) and forecaster.schema.missing == "error":
            self.set_tags(**{"capability:missing_values": False})

    def _fit(
        self, y: pd.DataFrame, X: pd.DataFrame | None, fh: ForecastingHorizon
    ) -> "TsattnForecaster":
        _check_index(y.index)
        template = AttentionForecaster(1) if self.forecaster is None else self.forecaster
        _check(template, "forecaster must be")
        last_step = int(self._steps(fh).max())
        steps = max(last_step + 1, 1)
        model = clone(template)
        if isinstance(template, NetworkForecaster):
            model.set_params(**shrunk(template, len(y), steps))
        else:
            model.set_params(horizon=steps)
        if self.random_state is not None:
            model.set_params(random_state=self.random_state)
        panel = _panel(y, model, fitted=False)
        self.forecaster_ = model.fit(panel)
        self._history = y.copy()
        return self

    def _predict(self, fh: ForecastingHorizon, X: pd.DataFrame | None) -> pd.DataFrame:
        points, _ = self._forecast(())
        points = points[self._steps(fh)]
        return pd.DataFrame(points, self._index(fh), self._history.columns)

    def _predict_quantiles(
        self, fh: ForecastingHorizon, X: pd.DataFrame | None, alpha: Sequence[float]
    ) -> pd.DataFrame:
        all_bounds = quantiles_of(self.forecaster_, self._forecast, alpha)
        bounds = all_bounds[self._steps(fh)]
        columns = pd.MultiIndex.from_product([self._get_varnames(), list(alpha)])
        # One column for each series and probability.
        values = bounds.reshape(len(bounds), -1)
        return pd.DataFrame(values, self._index(fh), columns)

    def _update(
        self, y: pd.DataFrame, X: pd.DataFrame | None = None, update_params: bool = True
    ) -> "TsattnForecaster":
        columns = self._history.columns
        if len(columns) == len(y.columns) == 1:
            # A single series is the same one under any name.
            y = y.set_axis(columns, axis=1)
        elif set(columns) != set(y.columns):
            raise ValueError(
                f"columns must be those of fit, {[*columns]}; got {[*y.columns]}: rename them"
            )
        history = y.combine_first(self._history)[columns]
        _check_index(history.index)
        if update_params:
            return self._fit(history, X, self.fh)
        self._history = history
        return self

    def _forecast(self, quantiles: Sequence[float]) -> Answer:
        """Points ``[F, N]`` and quantiles ``[F, N, Q]`` of the columns after the cutoff.

        A user may set the cutoff before the last row.
        """
        cutoff = self.cutoff[0]
        is_past = self._history.index <= cutoff
        rows = self._history[is_past]
        n_needed = self.forecaster_.min_context
        if len(rows) < n_needed:
            raise ValueError(
                f"a forecast from {cutoff} needs {n_needed} rows up to there; got"
                f" {len(rows)}: update with more, or fit a forecaster with a smaller context"
            )
        if _is_whole(rows):
            rows = rows.iloc[-self.forecaster_.max_context :]
        panel = _panel(rows, self.forecaster_, fitted=True)
        require_length(panel, n_needed, f"the context of {self.forecaster_.alias_}")
        points, bounds = self.forecaster_.predict_before(
            History(panel), panel.starts[1:], quantiles=quantiles
        )
        # A series has one channel.
        points = points[:, :, 0]
        bounds = bounds[:, :, 0]
        return points.T, bounds.swapaxes(0, 1)

    def _steps(self, fh: ForecastingHorizon) -> np.ndarray:
        """Steps after the cutoff, counted from 0."""
        steps = fh.to_relative(self.cutoff).to_numpy()
        return np.asarray(steps, dtype=np.int64) - 1

    def _index(self, fh: ForecastingHorizon) -> pd.Index:
        return fh.to_absolute_index(self.cutoff)

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Settings for sktime's tests, small enough for a fast fit."""
        small = Network(d_model=4, n_heads=2, n_layers=1, d_ff=8, patch_len=4, patch_stride=4)
        training = Training(max_epochs=1)
        linear = LinearForecaster(1, training=training)
        attention = AttentionForecaster(1, context=8, network=small, training=training)
        pretrained = PretrainedForecaster(1)
        return [
            {"forecaster": linear, "random_state": 0},
            {"forecaster": attention, "random_state": 1},
            {"forecaster": pretrained, "random_state": 2},
        ]


def to_sktime(forecaster: _Wrapped, *, random_state: int | None = None) -> TsattnForecaster:
    """Give a forecaster the interface of sktime.

    Args:
        forecaster: An attention, linear or pretrained forecaster. Each fit takes a copy.
        random_state: Seed that replaces the forecaster's own.

    Returns:
        A forecaster that sktime's pipelines, tuners and evaluators take, not fitted.

    Raises:
        TypeError: If it is another object.
        ValueError: If it reads covariates.

    Example:
        >>> to_sktime(LinearForecaster(1)).get_tag("capability:pred_int")
        True
    """
    _check(forecaster, "to_sktime takes")
    return TsattnForecaster(forecaster, random_state=random_state)


def _check(forecaster: object, rule: str) -> None:
    if not isinstance(forecaster, _Wrapped):
        raise TypeError(
            f"{rule} an AttentionForecaster, a LinearForecaster or a PretrainedForecaster; got"
            f" {type(forecaster).__name__}; call predict of the others, or give to_sktime one of"
            " those"
        )
    refuse_covariates(forecaster, "the sktime adapter")


def shrunk(forecaster: NetworkForecaster, n_rows: int, steps: int) -> dict[str, Any]:
    """Settings for a fit on few rows: a shorter context, shorter patches, fewer validation rows.

    Args:
        forecaster: The forecaster with the largest settings.
        n_rows: Rows of the series.
        steps: Horizon.

    Returns:
        Parameters to set, with the horizon.

    Raises:
        ValueError: If there is no room for a window of one row.
    """
    params = forecaster.get_params(deep=False)
    val_size = params["val_size"]
    # A share of the rows, or their number.
    is_share = isinstance(val_size, float)
    n_valid = int(n_rows * val_size) if is_share else int(val_size)
    if val_size:
        n_valid = max(n_valid, steps)
    # One row of context and one window in training are the least.
    if n_rows - n_valid - steps < 2:
        n_valid = 0
    room = n_rows - n_valid - steps
    if room < 1:
        raise ValueError(
            f"{n_rows} rows hold no window of one row before {steps} steps; give at least"
            f" {steps + 1} rows, or ask for fewer steps"
        )
    changes: dict[str, Any] = {"horizon": steps, "val_size": n_valid}
    context = params["context"]
    if context is not None:
        changes["context"] = min(context, room)
    elif room < 2:
        changes["context"] = room
    network = params.get("network")
    if isinstance(network, Network):
        context = changes.get("context", room)
        patch_len = min(network.patch_len, context)
        patch_stride = min(network.patch_stride, patch_len)
        changes["network"] = network.changed(patch_len=patch_len, patch_stride=patch_stride)
    return changes


# From ascending probabilities to points [F, N] and quantiles [F, N, Q].
_Forecast = Callable[[Sequence[float]], Answer]


def quantiles_of(forecaster: _Wrapped, forecast: _Forecast, alpha: Sequence[float]) -> np.ndarray:
    """Quantiles of forecasts, from weights that know them or from calibration errors.

    Args:
        forecaster: A fitted forecaster, whose weights know quantiles, or with calibration errors.
        forecast: Gives points ``[F, N]`` and quantiles ``[F, N, Q]`` for Q ascending probabilities.
        alpha: Probabilities.

    Returns:
        ``[F, N, Q]``, in the order of ``alpha``.

    Raises:
        ValueError: If there are no calibration errors, or a head was trained for no such quantiles.
    """
    # predict_windows compares rounded probabilities.
    probabilities = [round(float(probability), _DECIMALS) for probability in alpha]
    if isinstance(forecaster, PretrainedForecaster) or forecaster.fitted_.head is not None:
        _, bounds = _bounds_of(forecast, probabilities)
        return bounds
    n_errors = _least_errors(forecaster)
    top_level = n_errors / (n_errors + 1)
    levels = [abs(1 - 2 * probability) for probability in probabilities]
    # Bounds are stretched on their own side, since a transform makes the sides unequal.
    reachable = []
    for probability, level in zip(probabilities, levels, strict=True):
        side = np.sign(probability - 0.5)
        reachable_level = min(level, top_level)
        reachable.append(round(0.5 + reachable_level * side / 2, _DECIMALS))
    points, bounds = _bounds_of(forecast, reachable)
    highest_level = max(levels)
    if highest_level > top_level:
        warn(
            f"level {100 * highest_level:.4g} needs more than n = {n_errors} calibration errors;"
            f" its bounds are those of level {100 * top_level:.4g}, stretched as a normal"
            " distribution's; give more rows or a larger val_size"
        )
    stretch = [_stretch(level, top_level) for level in levels]
    centre = points[..., None]
    quantiles = centre + (bounds - centre) * stretch
    return np.maximum(quantiles, 0) if forecaster.nonnegative else quantiles


def _bounds_of(forecast: _Forecast, probabilities: Sequence[float]) -> Answer:
    """Points ``[F, N]`` and quantiles ``[F, N, Q]`` for probabilities in any order."""
    ascending = sorted(set(probabilities))
    points, bounds = forecast(ascending)
    places = np.searchsorted(ascending, probabilities)
    return points, bounds[..., places]


def _least_errors(forecaster: NetworkForecaster) -> int:
    """The number of calibration errors at the step and channel with the fewest."""
    intervals = forecaster.fitted_.intervals
    n_errors = 0 if intervals is None else int(intervals.counts.min())
    if n_errors < 1:
        raise ValueError(
            "no rows were held back, so nothing is known about errors; give more rows, or"
            " val_size > 0"
        )
    return n_errors


def _stretch(level: float, top_level: float) -> float:
    """Width of a central level of a normal distribution, as a multiple of that of the top level."""
    if level <= top_level:
        return 1.0
    inverse = NormalDist().inv_cdf
    width = inverse(0.5 + level / 2)
    top_width = inverse(0.5 + top_level / 2)
    return width / top_width


def _is_whole(y: pd.DataFrame) -> bool:
    """Whether no value is missing, which may be filled from rows before the context."""
    values = y.to_numpy(dtype=np.float64)
    return not any((np.isnan(column) | find_sentinels(column)).any() for column in values.T)


def _panel(y: pd.DataFrame, forecaster: _Wrapped, *, fitted: bool) -> Panel:
    """Rows counted from 0, and columns by number, so that series keep their order; other arguments
    as of :func:`tsattn.adapters.reading.read_panel`.

    Raises:
        ValueError: If a column has no value, or an infinite one.
    """
    values = y.to_numpy(dtype=np.float64)
    has_no_value = np.isnan(values).all(axis=0)
    has_infinite = np.isinf(values).any(axis=0)
    for fault, is_faulty in (("no value", has_no_value), ("an infinite value", has_infinite)):
        if is_faulty.any():
            name = y.columns[is_faulty.argmax()]
            raise ValueError(
                f"column {name!r} of y has {fault} in {len(y)} rows; give numbers, or leave the"
                " column out"
            )
    _, n_columns = values.shape
    columns = [f"c{i:06}" for i in range(n_columns)]
    frame = pd.DataFrame(values, columns=columns)
    panel = from_wide(frame, Schema(missing=forecaster.schema.missing), freq=1)
    return read_panel(forecaster, panel, [*y.columns], fitted=fitted)


def _check_index(index: pd.Index) -> None:
    """Refuse rows that do not follow one another, since they are counted.

    Days and hours that are always closed and months of unlike length are no gaps: stamps have one
    only where nearly all steps are alike.

    Raises:
        ValueError: Naming the rows beside the widest gap.
    """
    if len(index) < 3:
        return
    numbers = index.astype("int64")
    steps = np.diff(numbers.to_numpy())
    widest = int(np.argmax(steps))
    usual_step = np.median(steps)
    share = (steps == usual_step).mean()
    if isinstance(index, pd.DatetimeIndex) and share < _ALIKE_SHARE:
        return
    if steps[widest] >= _GAP_STEPS * usual_step:
        raise ValueError(
            f"rows of y must follow one another; got {index[widest + 1]} after {index[widest]};"
            " reindex y with the rows between, whose values may be NaN"
        )
