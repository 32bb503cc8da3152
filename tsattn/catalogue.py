"""The names of the forecasters, which settings they take, and a forecast in one call."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from tsattn.data.columns import find_time_col
from tsattn.data.frames import Panel
from tsattn.forecaster import Forecast, Forecaster


def _attention() -> Callable[..., Forecaster]:
    from tsattn.forecasters.attention import AttentionForecaster

    return AttentionForecaster


def _linear() -> Callable[..., Forecaster]:
    from tsattn.forecasters.attention import LinearForecaster

    return LinearForecaster


def _pretrained() -> Callable[..., Forecaster]:
    from tsattn.forecasters.pretrained import PretrainedForecaster

    return PretrainedForecaster


def _naive() -> Callable[..., Forecaster]:
    from tsattn.forecasters.naive import Naive

    return Naive


def _seasonal_naive() -> Callable[..., Forecaster]:
    from tsattn.forecasters.naive import SeasonalNaive

    return SeasonalNaive


def _drift() -> Callable[..., Forecaster]:
    from tsattn.forecasters.naive import Drift

    return Drift


def _window_average() -> Callable[..., Forecaster]:
    from tsattn.forecasters.naive import WindowAverage

    return WindowAverage


def _statsmodels() -> Callable[..., Forecaster]:
    from tsattn.forecasters.classical import StatsmodelsForecaster

    return StatsmodelsForecaster


def _sklearn() -> Callable[..., Forecaster]:
    from tsattn.forecasters.regression import SklearnForecaster

    return SklearnForecaster


def _gluonts() -> Callable[..., Forecaster]:
    from tsattn.forecasters.gluonts import GluonTSForecaster

    return GluonTSForecaster


@dataclass(frozen=True)
class Entry:
    """One name's forecaster: where its class is found and what the name fixes.

    Args:
        find: Imports and returns the class; only then is its module loaded.
        fixed: Arguments that belong to the name.
        trained: Whether it learns weights, so that context, seed and epochs mean something to it.
    """

    find: Callable[[], Callable[..., Forecaster]]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    trained: bool = False

    def settings(self) -> tuple[str, ...]:
        """Names of the arguments that are left to choose, the horizon aside."""
        names = inspect.signature(self.find()).parameters
        return tuple(name for name in names if name != "horizon" and name not in self.fixed)

    def __call__(self, horizon: int, **params: Any) -> Forecaster:
        """Make the forecaster."""
        return self.find()(horizon, **self.fixed, **params)


_ATTENTIONS = (
    "mlr",
    "standard",
    "sliding_window",
    "global_local",
    "bilinear_mlr",
    "bilinear_btt",
    "mlbtc",
)

_LINEAR = ("nlinear", "dlinear", "rlinear")

# Models that share a class, and so may share settings.
GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType({"attention": _ATTENTIONS, "linear": _LINEAR})

MODELS: Mapping[str, Entry] = MappingProxyType(
    {
        **{name: Entry(_attention, {"attention": name}, trained=True) for name in _ATTENTIONS},
        **{name: Entry(_linear, {"kind": name}, trained=True) for name in _LINEAR},
        "least_squares": Entry(_linear, {"kind": "rlinear", "closed_form": True}, trained=True),
        "zero": Entry(_pretrained),
        "naive": Entry(_naive),
        "seasonal_naive": Entry(_seasonal_naive),
        "drift": Entry(_drift),
        "window_average": Entry(_window_average),
        **{name: Entry(_statsmodels, {"model": name}) for name in ("ets", "theta", "autoreg", "sarimax", "stl_ets")},
        **{name: Entry(_sklearn, {"regressor": name}, trained=True) for name in ("ridge", "gbm")},
        "deepar": Entry(_gluonts, {"model": "deepar"}, trained=True),
        "patchtst_gluonts": Entry(_gluonts, {"model": "patchtst"}, trained=True),
        "dlinear_gluonts": Entry(_gluonts, {"model": "dlinear"}, trained=True),
    }
)


def find_model(name: str) -> Entry:
    """The entry of a name.

    Args:
        name: One of ``MODELS``.

    Raises:
        ValueError: If the name is unknown.
    """
    if name in MODELS:
        return MODELS[name]
    raise ValueError(f"model {name!r} is unknown; use one of {', '.join(MODELS)}")


def make_forecaster(name: str, horizon: int, **params: Any) -> Forecaster:
    """Make the forecaster that a name of the catalogue stands for.

    Args:
        name: One of ``MODELS``, such as ``"mlr"`` or ``"seasonal_naive"``.
        horizon: Rows to forecast, at least 1.
        **params: Further arguments of its class; ``alias`` defaults to ``name``.

    Returns:
        A forecaster that is not fitted yet.

    Raises:
        ValueError: If the name is unknown or has no such setting.

    Example:
        >>> make_forecaster("naive", 12).alias
        'naive'
    """
    entry = find_model(name)
    known = entry.settings()
    for given in params:
        if given not in known:
            raise ValueError(f"model {name!r} has no setting {given!r}; it takes {', '.join(known)}")
    return entry(horizon, **{"alias": name, **params})


def settings_for(name: str, **params: Any) -> dict[str, Any]:
    """Those of ``params`` that are given (not None) and mean something to a model.

    A list of models shares one command line: ``context`` and ``max_epochs`` are for the trained ones,
    ``season_length`` for the seasonal ones.

    Args:
        name: One of ``MODELS``.
        **params: Settings, ``None`` where nothing was asked.
    """
    entry = find_model(name)
    known = set(entry.settings()) - (set() if entry.trained else {"context"})
    return {key: value for key, value in params.items() if value is not None and key in known}


def forecast(
    data: pd.DataFrame | pd.Series | Panel | np.ndarray | Sequence[float],
    horizon: int,
    *,
    level: float | Iterable[float] | None = None,
    quantiles: float | Iterable[float] | None = None,
    future: pd.DataFrame | None = None,
    model: str = "zero",
    id_col: str = "unique_id",
    time_col: str = "ds",
    target_col: str = "y",
    freq: str | int | None = None,
    missing: str | None = None,
) -> pd.DataFrame | Forecast:
    """Forecast the rows after a table: one call, and with the default model no training.

    Args:
        data: Long frame (id, time, value), wide frame (one column a series), one series with stamps or integers in its
            index, a bare list or array of values, or a ``Panel``.
        horizon: Rows to forecast.
        level: Central intervals in percent, such as 80 or ``[80, 95]``.
        quantiles: The same by probability, such as ``[0.1, 0.9]``.
        future: Columns whose values are known after the last row, for models that read some: their id, time and values
            in the rows to forecast. The columns must be in ``data`` as well.
        model: Name in the catalogue, such as ``"zero"``, ``"mlr"`` or ``"seasonal_naive"``; what must be fitted is.
        id_col: Column of ids; a frame without is one series.
        time_col: Column of stamps.
        target_col: Column of values.
        freq: Frequency; ``None`` infers it.
        missing: ``"mask"``, ``"interpolate"``, ``"ffill"`` or ``"error"``; ``None`` is the model's own choice: to leave
            missing values out of account for ``"zero"``, to refuse them for others.

    Returns:
        A frame in the dialect of ``data``: its ids and stamps, or its index; the forecast, a column named after the
        model (of a wide table, one a channel); and two a level and one a quantile. A ``Panel`` gives a
        :class:`tsattn.Forecast`.

    Raises:
        TypeError: If ``data`` is of another kind.
        ValueError: If the table is faulty, the model is unknown, or cannot give what is asked.

    Example:
        >>> forecast([3.0, 1.0, 2.0], 2, model="naive")["y"].tolist()
        [2.0, 2.0]
    """
    table, freq = _as_table(data, freq)
    settings: dict[str, Any] = {"id_col": id_col, "time_col": time_col, "target_col": target_col, "freq": freq}
    if missing is not None:
        settings["missing"] = missing
    asked: dict[str, Any] = {"level": level, "quantiles": quantiles}
    if future is not None:
        settings["future_cols"] = _future_cols(future, (id_col, time_col, target_col))
        asked["future"] = future
        if "future_cols" not in find_model(model).settings():
            raise ValueError(f"model {model!r} reads no future columns; leave future= out, or take one such as 'mlr'")
    return make_forecaster(model, horizon, **settings).fit(table).predict(**asked)


def _as_table(data: Any, freq: str | int | None) -> tuple[pd.DataFrame | Panel, str | int | None]:
    """One series as a wide table of one column; counted rows have steps of their own."""
    if isinstance(data, pd.DataFrame | Panel):
        return data, freq
    if isinstance(data, list | tuple | np.ndarray) and np.ndim(data) == 1:
        data = pd.Series(data)
    if not isinstance(data, pd.Series):
        raise TypeError(
            "data must be a frame, a series, a Panel or a flat list or array of numbers; got"
            f" {type(data).__name__}; make a DataFrame of it"
        )
    frame = data.to_frame("y" if data.name is None else data.name)
    if isinstance(frame.index, pd.PeriodIndex):
        frame.index = frame.index.to_timestamp()
    if freq is None and isinstance(frame.index, pd.RangeIndex):
        freq = frame.index.step
    return frame, freq


def _future_cols(future: pd.DataFrame, names: tuple[str, ...]) -> list[Any]:
    """The columns of a future frame that are neither id nor time."""
    known = {*names, "item_id", "timestamp", "target"}
    if not known & {*future.columns}:
        known.add(find_time_col(future))
    return [column for column in future.columns if column not in known]
