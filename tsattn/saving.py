"""How does a fitted forecaster live on? A folder with tensors and facts, no pickle, no code, no training frame."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
import torch

from tsattn.data.calendar import ticks
from tsattn.data.frames import Dialect, Panel
from tsattn.data.transforms import TargetTransform
from tsattn.data.windows import Scaler
from tsattn.evaluate.conformal import StepIntervals
from tsattn.nn.config import ModelConfig
from tsattn.nn.models import build_model
from tsattn.storage import read_json, read_tensors, write_folder, write_json, write_tensors

if TYPE_CHECKING:
    from tsattn.trained import TrainedForecaster

_FORMAT = 1
_ForecasterT = TypeVar("_ForecasterT", bound="TrainedForecaster")


def save_forecaster(forecaster: "TrainedForecaster", path: Path) -> None:
    """Write ``model.safetensors`` and ``config.json`` into ``path``, in one step.

    Args:
        forecaster: Fitted.
        path: A new folder, an empty one, or an older save.
    """
    tensors = {f"network.{name}": value for name, value in forecaster.network_.state_dict().items()}
    tensors |= {
        "scaler.mean": torch.as_tensor(forecaster.scaler_.mean),
        "scaler.scale": torch.as_tensor(forecaster.scaler_.scale),
        "score.mean": torch.as_tensor(forecaster.score_scaler_.mean),
        "score.scale": torch.as_tensor(forecaster.score_scaler_.scale),
        "tail.values": torch.as_tensor(forecaster.panel_.values),
        "tail.starts": torch.as_tensor(forecaster.panel_.starts),
        "tail.times": torch.as_tensor(ticks(forecaster.panel_.times).copy()),
    }
    if forecaster.intervals_ is not None:
        tensors["intervals.errors"] = torch.as_tensor(forecaster.intervals_.errors)
    facts = {
        "format": _FORMAT,
        "class": type(forecaster).__name__,
        "parameters": {name: _plain(value) for name, value in forecaster.get_params().items()},
        "network": forecaster.config_.to_dict(),
        "panel": _panel_facts(forecaster.panel_),
        "panel_in": forecaster.panel_in_,
        "summary": _plain(forecaster.summary_),
        "history": forecaster.history_.to_dict("list"),
    }

    def write(folder: Path) -> None:
        write_tensors(folder / "model.safetensors", tensors, {"format": _FORMAT})
        write_json(folder / "config.json", facts)

    write_folder(path, write)


def load_forecaster(cls: type[_ForecasterT], path: Path) -> _ForecasterT:
    """Read what :func:`save_forecaster` wrote.

    Args:
        cls: The class that was saved.
        path: The folder.

    Raises:
        ValueError: If files are missing, damaged, of another class or of a newer format.
    """
    facts = read_json(path / "config.json")
    tensors, _ = read_tensors(path / "model.safetensors")
    if facts.get("format") != _FORMAT:
        raise ValueError(f"{path} has format {facts.get('format')!r}; this version reads {_FORMAT}: upgrade tsattn")
    if facts.get("class") != cls.__name__:
        raise ValueError(f"{path} holds a {facts.get('class')}; load it with {facts.get('class')}.load")
    try:
        return _rebuild(cls, facts, tensors)
    except (KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{path} is not what save() wrote ({type(error).__name__}: {error}); save it anew") from None


def _rebuild(cls: type[_ForecasterT], facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> _ForecasterT:
    forecaster = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in facts["parameters"].items()})
    network = build_model(ModelConfig.from_dict(facts["network"]), generator=torch.Generator().manual_seed(0))
    weights = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
    network.load_state_dict(weights)
    forecaster.config_ = ModelConfig.from_dict(facts["network"])
    forecaster.network_ = network.to(forecaster.resolve_device()).eval()
    forecaster.scaler_ = Scaler(tensors["scaler.mean"].numpy(), tensors["scaler.scale"].numpy())
    forecaster.context_ = forecaster.config_.context
    forecaster.transform_ = TargetTransform(forecaster.target_transform)
    forecaster.score_scaler_ = forecaster.scaler_
    if "score.mean" in tensors:  # files of 0.1 before target transforms have one scale only
        forecaster.score_scaler_ = Scaler(tensors["score.mean"].numpy(), tensors["score.scale"].numpy())
    forecaster.panel_, forecaster.panel_in_ = _panel(facts["panel"], tensors), bool(facts["panel_in"])
    errors = tensors.get("intervals.errors")
    forecaster.intervals_ = None if errors is None else StepIntervals(errors.numpy())
    forecaster.summary_ = {k: tuple(v) if isinstance(v, list) else v for k, v in facts["summary"].items()}
    forecaster.history_ = pd.DataFrame(facts["history"])
    return forecaster


def _panel_facts(panel: Panel) -> dict[str, Any]:
    dialect = panel.dialect
    kind = "integer"
    if isinstance(panel.times, pd.DatetimeIndex):
        kind = "stamps" if panel.times.tz is None else f"stamps in {panel.times.tz}"
    categories = getattr(dialect.id_dtype, "categories", None)
    return {
        "ids": [_plain(value) for value in panel.ids.tolist()],
        "ids_dtype": str(panel.ids.dtype),
        "times": kind,
        "freq": panel.freq,
        "channels": list(panel.channels),
        "missing": panel.missing,
        "dialect": {
            "kind": dialect.kind,
            "id_col": dialect.id_col,
            "time_col": dialect.time_col,
            "target_col": dialect.target_col,
            "index_name": dialect.index_name,
            "id_dtype": None if dialect.id_dtype is None else str(dialect.id_dtype),
            "id_categories": None if categories is None else [_plain(v) for v in categories.tolist()],
        },
    }


def _panel(facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Panel:
    ticks = tensors["tail.times"].numpy()
    times: pd.Index = pd.Index(ticks)
    if facts["times"] != "integer":
        stamps = pd.DatetimeIndex(ticks.view("datetime64[ns]"))
        zone = facts["times"].removeprefix("stamps").removeprefix(" in ")
        times = stamps.tz_localize("UTC").tz_convert(zone) if zone else stamps
    told = dict(facts["dialect"])
    categories = told.pop("id_categories")
    if categories is not None:
        told["id_dtype"] = pd.CategoricalDtype(categories)
    return Panel(
        values=tensors["tail.values"].numpy(),
        starts=tensors["tail.starts"].numpy(),
        ids=np.array(facts["ids"], dtype=facts["ids_dtype"]),
        times=times,
        freq=facts["freq"],
        channels=tuple(facts["channels"]),
        dialect=Dialect(**told),
        missing=facts["missing"],
    )


def _plain(value: Any) -> Any:
    """What JSON can hold; an object without a plain form (a numpy generator as seed) becomes None."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else None
