"""Which forecaster does a name stand for, and which settings does it take?"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from tsattn.forecaster import Forecaster


def _attention() -> Callable[..., Forecaster]:
    from tsattn.estimator import AttentionForecaster

    return AttentionForecaster


def _linear() -> Callable[..., Forecaster]:
    from tsattn.estimator import LinearForecaster

    return LinearForecaster


def _naive() -> Callable[..., Forecaster]:
    from tsattn.evaluate.baselines import Naive

    return Naive


def _seasonal_naive() -> Callable[..., Forecaster]:
    from tsattn.evaluate.baselines import SeasonalNaive

    return SeasonalNaive


def _drift() -> Callable[..., Forecaster]:
    from tsattn.evaluate.baselines import Drift

    return Drift


def _window_average() -> Callable[..., Forecaster]:
    from tsattn.evaluate.baselines import WindowAverage

    return WindowAverage


def _statsmodels() -> Callable[..., Forecaster]:
    from tsattn.evaluate.statistical import StatsmodelsForecaster

    return StatsmodelsForecaster


def _sklearn() -> Callable[..., Forecaster]:
    from tsattn.evaluate.regression import SklearnForecaster

    return SklearnForecaster


def _gluonts() -> Callable[..., Forecaster]:
    from tsattn.evaluate.deep import GluonTSForecaster

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
