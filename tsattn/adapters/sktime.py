"""Our forecasters behind sktime's interface: the horizon comes from ``fh``."""

import warnings
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.base import clone
from sktime.forecasting.base import BaseForecaster, ForecastingHorizon

from tsattn.data.frames import Panel, from_wide
from tsattn.data.windows import History
from tsattn.forecaster import refuse_covariates
from tsattn.forecasters.attention import AttentionForecaster
from tsattn.forecasters.linear import LinearForecaster
from tsattn.forecasters.network import NetworkForecaster
from tsattn.nn.config import Network
from tsattn.training.settings import Training


class TsattnForecaster(BaseForecaster):
    """A trained forecaster of tsattn behind sktime's interface.

    The horizon is the largest step of ``fh``. A series that is too short for the forecaster's
    context, patches or validation rows shrinks them; the copy that was fitted shows what became of
    them. Rows are counted, whatever their index: stamps, periods and numbers give the same
    forecasts. ``update`` adds rows to the history and fits again unless ``update_params=False``.

    Quantiles are those of a quantile or distribution head. Without one they come from the absolute
    errors on the validation rows. n errors at a step bound levels up to 100 n / (n + 1) percent.
    Beyond that, the bounds of that level are stretched as a normal distribution's would be, and a
    warning says so.

    Parameters
    ----------
    forecaster : AttentionForecaster or LinearForecaster, default None
        What forecasts; its horizon counts for nothing, and it stays as it is. None is an attention
        forecaster with its defaults.
    random_state : int or None, default None
        Seed that takes the place of the forecaster's own where it is given.

    Attributes
    ----------
    ``forecaster_`` : AttentionForecaster or LinearForecaster
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
        "capability:missing_values": False,
        "capability:update": True,
        "capability:random_state": True,
        "property:randomness": "derandomized",
        "requires-fh-in-fit": True,
    }
    # sktime 1.2 says at every construction that 1.3 will remember less; this class remembers by
    # itself.
    _config: ClassVar[dict[str, Any]] = {"warnings": "off"}

    def __init__(
        self, forecaster: NetworkForecaster | None = None, random_state: int | None = None
    ) -> None:
        self.forecaster = forecaster
        self.random_state = random_state
        super().__init__()
        if isinstance(forecaster, NetworkForecaster) and forecaster.schema.missing not in (
            None,
            "error",
        ):
            self.set_tags(**{"capability:missing_values": True})

    def _fit(
        self, y: pd.DataFrame, X: pd.DataFrame | None, fh: ForecastingHorizon
    ) -> "TsattnForecaster":
        given = AttentionForecaster(1) if self.forecaster is None else self.forecaster
        _check(given, "forecaster must be")
        steps = max(int(np.max(fh.to_relative(self.cutoff).to_numpy())), 1)
        model = clone(given).set_params(**shrunk(given, len(y), steps))
        if self.random_state is not None:
            model.set_params(random_state=self.random_state)
        self.forecaster_ = model.fit(_panel(y, given.schema.missing or "error"))
        self._history = y.copy()
        return self

    def _predict(self, fh: ForecastingHorizon, X: pd.DataFrame | None) -> pd.DataFrame:
        point = self.forecaster_.predict_windows(self._window())[0][0]
        return pd.DataFrame(point[self._rows(fh)], self._index(fh), self._history.columns)

    def _predict_quantiles(
        self, fh: ForecastingHorizon, X: pd.DataFrame | None, alpha: Sequence[float]
    ) -> pd.DataFrame:
        bounds = quantiles_of(self.forecaster_, self._window(), alpha)[0][self._rows(fh)]
        columns = pd.MultiIndex.from_product([self._get_varnames(), list(alpha)])
        return pd.DataFrame(bounds.reshape(len(bounds), -1), self._index(fh), columns)

    def _update(
        self, y: pd.DataFrame, X: pd.DataFrame | None = None, update_params: bool = True
    ) -> "TsattnForecaster":
        history = y.combine_first(self._history)[self._history.columns]
        if update_params:
            return self._fit(history, X, self.fh)
        self._history = history
        return self

    def _window(self) -> np.ndarray:
        """The rows that the forecast reads, ``[1, T, C]``: none after the cutoff, wherever that was
        set.
        """
        rows = self._history[self._history.index <= self.cutoff[0]]
        need = self.forecaster_.min_context
        if len(rows) < need:
            raise ValueError(
                f"a forecast from {self.cutoff[0]} needs {need} rows up to there; got {len(rows)}:"
                " update with more, or fit a forecaster with a smaller context"
            )
        rows = rows.iloc[-self.forecaster_.max_context :]
        return _panel(rows, self.forecaster_.schema.missing or "error", filled=True).values[None]

    def _rows(self, fh: ForecastingHorizon) -> np.ndarray:
        return np.asarray(fh.to_relative(self.cutoff).to_numpy(), dtype=np.int64) - 1

    def _index(self, fh: ForecastingHorizon) -> pd.Index:
        return fh.to_absolute_index(self.cutoff)

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Settings for sktime's tests: small enough to fit in a moment."""
        small = Network(d_model=4, n_heads=2, n_layers=1, d_ff=8, patch_len=4, patch_stride=4)
        attention = AttentionForecaster(
            1, context=8, network=small, training=Training(max_epochs=1)
        )
        return [
            {"forecaster": LinearForecaster(1, training=Training(max_epochs=1)), "random_state": 0},
            {"forecaster": attention, "random_state": 1},
        ]


def to_sktime(
    forecaster: NetworkForecaster, *, random_state: int | None = None
) -> TsattnForecaster:
    """Put a trained forecaster behind sktime's interface.

    Args:
        forecaster: An attention or a linear forecaster; it is copied at every fit and stays as it
            is.
        random_state: Seed in the place of the forecaster's own.

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


def _check(given: object, rule: str) -> None:
    if not isinstance(given, NetworkForecaster):
        raise TypeError(
            f"{rule} an AttentionForecaster or a LinearForecaster; got {type(given).__name__};"
            " sktime has its own rules for baselines"
        )
    refuse_covariates(given, "the sktime adapter")


def shrunk(forecaster: NetworkForecaster, n_rows: int, steps: int) -> dict[str, Any]:
    """Settings under which a forecaster can be fitted on few rows: shorter context, patches and
    validation span.

    Args:
        forecaster: Its settings are the wish.
        n_rows: Rows of the series.
        steps: Horizon.

    Returns:
        Parameters to set, the horizon among them.

    Raises:
        ValueError: If there is no room for a window of one row.
    """
    wish = forecaster.get_params(deep=False)
    size = wish["val_size"]
    held = int(n_rows * size) if isinstance(size, float) else int(size)
    held = max(held, steps) if size else 0
    if n_rows - held - steps < 2:
        held = 0  # too little to hold anything back
    room = n_rows - held - steps
    if room < 1:
        raise ValueError(
            f"{n_rows} rows hold no window of one row before {steps} steps; give at least"
            f" {steps + 1} rows, or ask for fewer steps"
        )
    change: dict[str, Any] = {"horizon": steps, "val_size": held}
    if wish["context"] is not None or room < 2:
        change["context"] = room if wish["context"] is None else min(wish["context"], room)
    if isinstance(network := wish.get("network"), Network):
        patch_len = min(network.patch_len, change.get("context", room))
        change["network"] = network.changed(
            patch_len=patch_len, patch_stride=min(network.patch_stride, patch_len)
        )
    return change


def quantiles_of(
    forecaster: NetworkForecaster, x: np.ndarray, alpha: Sequence[float]
) -> np.ndarray:
    """Quantiles of the forecasts after windows: a head's own, or stretched where calibration errors
    do not reach.

    Args:
        forecaster: Fitted, with a head that knows quantiles or with calibration errors.
        x: Windows, ``[B, T, C]``.
        alpha: Probabilities.

    Returns:
        ``[B, F, C, Q]``, in the order of ``alpha``.

    Raises:
        ValueError: If there are no calibration errors, or a head was trained for no such quantiles.
    """
    alpha = [round(float(a), 12) for a in alpha]  # as predict_windows tells them apart
    if forecaster.fitted_.head is not None:
        asked = sorted(set(alpha))
        bounds: np.ndarray = forecaster.predict_windows(x, quantiles=asked)[1]
        return bounds[..., np.searchsorted(asked, alpha)]
    known = forecaster.fitted_.intervals
    n = 0 if known is None else int((~np.isnan(known.errors)).sum(0).min())
    if n < 1:
        raise ValueError(
            "no rows were held back, so nothing is known about errors; give more rows, or"
            " val_size > 0"
        )
    top = n / (n + 1)
    levels = [abs(1 - 2 * a) for a in alpha]
    # Each from its own side of the point: under a transform the two are not alike.
    reached = [
        round(0.5 + min(level, top) * np.sign(a - 0.5) / 2, 12)
        for a, level in zip(alpha, levels, strict=True)
    ]
    point, bounds = forecaster.predict_windows(x, quantiles=(asked := sorted(set(reached))))
    if max(levels) > top:
        warnings.warn(
            f"level {100 * max(levels):.4g} needs more than n = {n} calibration errors; its bounds"
            f" are those of level {100 * top:.4g}, stretched as a normal distribution's; give more"
            " rows or a larger val_size",
            stacklevel=2,
        )
    z = NormalDist().inv_cdf
    # How much wider a normal distribution's central level is than its top one.
    stretch = [1.0 if level <= top else z(0.5 + level / 2) / z(0.5 + top / 2) for level in levels]
    answer = (
        point[..., None]
        + (bounds[..., np.searchsorted(asked, reached)] - point[..., None]) * stretch
    )
    return np.maximum(answer, 0) if forecaster.nonnegative else answer


def _panel(y: pd.DataFrame, missing: str, *, filled: bool = False) -> Panel:
    """Rows counted from 0, columns by number; ``filled`` puts in what is known at the end for
    missing values.
    """
    frame = pd.DataFrame(y.to_numpy(dtype=np.float64), columns=[f"c{i}" for i in range(y.shape[1])])
    panel = from_wide(frame, freq=1, missing=missing)
    if not filled:
        return panel
    return Panel(**{**vars(panel), "values": History(panel).filled})
