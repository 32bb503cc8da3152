"""The public names of the library, each imported on first use and not before."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsattn.anomaly import anomalies
    from tsattn.catalogue import forecast, make_forecaster
    from tsattn.data.cards import load_dataset
    from tsattn.data.panel import Panel
    from tsattn.data.schema import Schema
    from tsattn.data.special_days import special_days
    from tsattn.evaluate.backtest import backtest
    from tsattn.evaluate.conformal import AdaptiveConformal, SplitConformal
    from tsattn.filling import fill
    from tsattn.forecasters.attention import AttentionForecaster
    from tsattn.forecasters.auto import AutoForecaster
    from tsattn.forecasters.linear import LinearForecaster
    from tsattn.forecasters.pretrained import PretrainedForecaster
    from tsattn.forecasters.regressor import AttentionRegressor
    from tsattn.forecasts import Forecast
    from tsattn.kernels import attention, mlr_attention
    from tsattn.matrices import make_matrix
    from tsattn.nn.attention import Attention
    from tsattn.nn.config import ModelConfig, Network
    from tsattn.nn.models import build_model
    from tsattn.training.settings import Training

__all__ = [
    "AdaptiveConformal",
    "Attention",
    "AttentionForecaster",
    "AttentionRegressor",
    "AutoForecaster",
    "Forecast",
    "LinearForecaster",
    "ModelConfig",
    "Network",
    "Panel",
    "PretrainedForecaster",
    "Schema",
    "SplitConformal",
    "Training",
    "anomalies",
    "attention",
    "backtest",
    "build_model",
    "fill",
    "forecast",
    "load_dataset",
    "make_forecaster",
    "make_matrix",
    "mlr_attention",
    "special_days",
]

# A public name must not be the name of a room directly below tsattn (attention, backtest: none is):
# importing that room would put the module where the name belongs.
_HOMES = {
    "AdaptiveConformal": "tsattn.evaluate.conformal",
    "Attention": "tsattn.nn.attention",
    "AttentionForecaster": "tsattn.forecasters.attention",
    "AttentionRegressor": "tsattn.forecasters.regressor",
    "AutoForecaster": "tsattn.forecasters.auto",
    "Forecast": "tsattn.forecasts",
    "LinearForecaster": "tsattn.forecasters.linear",
    "ModelConfig": "tsattn.nn.config",
    "Network": "tsattn.nn.config",
    "Panel": "tsattn.data.panel",
    "PretrainedForecaster": "tsattn.forecasters.pretrained",
    "Schema": "tsattn.data.schema",
    "SplitConformal": "tsattn.evaluate.conformal",
    "Training": "tsattn.training.settings",
    "anomalies": "tsattn.anomaly",
    "attention": "tsattn.kernels",
    "backtest": "tsattn.evaluate.backtest",
    "build_model": "tsattn.nn.models",
    "fill": "tsattn.filling",
    "forecast": "tsattn.catalogue",
    "load_dataset": "tsattn.data.cards",
    "make_forecaster": "tsattn.catalogue",
    "make_matrix": "tsattn.matrices",
    "mlr_attention": "tsattn.kernels",
    "special_days": "tsattn.data.special_days",
}

# Rooms that the guide names, which need no import of their own.
_ROOMS = ("adapters", "catalogue", "distributed", "evaluate", "plotting", "tuning")

# Looked up on first use, as reading it takes eight times as long as the rest of this module.
__version__: str


def __getattr__(name: str) -> Any:
    """Import a room, or the home of a public name; Python calls this where the module has no such
    attribute yet.
    """
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name == "__version__":
        attribute = _installed_version()
    elif name in _HOMES:
        attribute = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'tsattn' has no attribute {name!r}")
    globals()[name] = attribute
    return attribute


def __dir__() -> list[str]:
    """Names for completion, those not imported yet included."""
    return sorted({*globals(), *__all__, *_ROOMS, "__version__"})


def _installed_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("tsattn")
    except PackageNotFoundError:  # the sources stand on the path without having been installed
        return "0+unknown"
