"""How does a fitted forecaster live on? A folder with tensors and facts, no pickle, no code, no training frame."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
import torch

from tsattn.data.calendar import parse_freq
from tsattn.data.columns import MISSING
from tsattn.data.covariates import CovariateColumns, Covariates
from tsattn.data.cycles import choose_cycles
from tsattn.data.encoding import CovariateEncoder
from tsattn.data.frames import Panel
from tsattn.data.stored import check_panel, exact, panel_arrays, panel_facts, panel_from, require
from tsattn.data.transforms import TargetTransform
from tsattn.data.windows import Scaler
from tsattn.evaluate.conformal import StepIntervals
from tsattn.nn.config import LINEAR_KINDS, ModelConfig
from tsattn.nn.models import build_model
from tsattn.storage import (
    file_digest,
    one_line,
    read_json,
    read_tensors,
    standing_folder,
    write_folder,
    write_json,
    write_tensors,
)

if TYPE_CHECKING:
    from tsattn.forecasters.trained import TrainedForecaster

_FORMAT = 1
_TENSORS, _FACTS = "model.safetensors", "config.json"
_TRIES = 3  # a writer may exchange the folder between two reads
_SIZES = ("d_model", "n_heads", "n_layers", "d_ff", "patch_len", "patch_stride")
_READS = ("n_past", "n_known", "n_static")
_MEASURES = ("mean", "scale", "static_mean", "static_scale")
_GONE = ("compile",)  # options of earlier versions that say nothing about a fitted network
_DAMAGES = (LookupError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError, ImportError)
_ForecasterT = TypeVar("_ForecasterT", bound="TrainedForecaster")
_AnyT = TypeVar("_AnyT")


def save_forecaster(forecaster: "TrainedForecaster", path: Path) -> None:
    """Write ``model.safetensors`` and ``config.json`` into ``path``, in one step.

    Args:
        forecaster: Fitted.
        path: A new folder, an empty one, or an older save.

    Raises:
        ValueError: If ids, column names or a time zone are of a kind that files cannot hold, or the folder holds
            something else.
    """
    tensors = {f"network.{name}": value for name, value in forecaster.network_.state_dict().items()}
    tensors |= {
        "scaler.mean": torch.as_tensor(forecaster.scaler_.mean),
        "scaler.scale": torch.as_tensor(forecaster.scaler_.scale),
        "score.mean": torch.as_tensor(forecaster.score_scaler_.mean),
        "score.scale": torch.as_tensor(forecaster.score_scaler_.scale),
        **tail_tensors(forecaster.panel_),
    }
    encoder = forecaster.covariates_
    if encoder is not None:
        tensors |= {f"covariates.{name}": torch.as_tensor(getattr(encoder, name)) for name in _MEASURES}
    if forecaster.panel_.covariates is not None:
        tensors["tail.covariates"] = torch.as_tensor(forecaster.panel_.covariates.values)
    if forecaster.intervals_ is not None:
        tensors["intervals.errors"] = torch.as_tensor(forecaster.intervals_.errors)
    facts = {
        "parameters": {name: plain_value(value) for name, value in forecaster.get_params().items()},
        "network": forecaster.config_.to_dict(),
        "panel": panel_facts(forecaster.panel_),
        "covariates": None if encoder is None else _covariate_facts(encoder, forecaster.panel_),
        "panel_in": forecaster.panel_in_,
        "summary": plain_value(forecaster.summary_),
        "history": forecaster.history_.to_dict("list"),
    }
    write_model(path, type(forecaster).__name__, tensors, facts)


def write_model(path: Path, kind: str, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
    """Write ``model.safetensors`` and ``config.json`` into a folder, in one step.

    Args:
        path: A new folder, an empty one, or an older save.
        kind: Name of the class that is saved.
        tensors: By name.
        facts: What JSON can hold.

    Raises:
        ValueError: If the folder holds something else.
    """

    def write(folder: Path) -> None:
        write_tensors(folder / _TENSORS, tensors, {"format": _FORMAT})
        known = {"format": _FORMAT, "class": kind, **facts, "sha256": file_digest(folder / _TENSORS)}
        write_json(folder / _FACTS, known)

    write_folder(path, write)


def load_forecaster(cls: type[_ForecasterT], path: Path) -> _ForecasterT:
    """Read what :func:`save_forecaster` wrote.

    Args:
        cls: The class that was saved.
        path: The folder.

    Raises:
        ValueError: If files are missing, damaged, of another class or of a newer format.
    """
    return read_model(path, cls.__name__, lambda facts, tensors: _rebuild(cls, facts, tensors))


def read_model(path: Path, kind: str, rebuild: Callable[[dict[str, Any], dict[str, torch.Tensor]], _AnyT]) -> _AnyT:
    """What ``rebuild`` makes of the facts and tensors that :func:`write_model` wrote.

    Args:
        path: The folder.
        kind: Name of the class that must have been saved.
        rebuild: Whatever it raises because of what stands in the files is told as damage to them.

    Raises:
        ValueError: As :func:`load_forecaster`.
    """
    for attempt in range(_TRIES):
        folder = standing_folder(path)
        try:
            facts = read_json(folder / _FACTS)
            if facts.get("format") != _FORMAT:
                raise ValueError(
                    f"{path} has format {facts.get('format')!r:.40}; this version reads {_FORMAT}: upgrade tsattn"
                )
            # Files of 0.1 before time zones of every kind have no digest.
            tensors, _ = read_tensors(folder / _TENSORS, digest=facts.get("sha256"))
            break
        except ValueError:
            if attempt == _TRIES - 1:
                raise
    if facts.get("class") != kind:
        told = f"{facts.get('class')!r:.60}".strip("'")
        raise ValueError(f"{path} holds a {told}; load it with {told}.load")
    try:
        return rebuild(facts, tensors)
    except _DAMAGES as error:
        told = f"{type(error).__name__}: {one_line(error)}"
        raise ValueError(f"{path} is not what save() wrote ({told}); save it anew") from None


def _rebuild(cls: type[_ForecasterT], facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> _ForecasterT:
    given = {k: v for k, v in facts["parameters"].items() if k not in _GONE}
    forecaster = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})
    config = ModelConfig.from_dict(facts["network"])
    _check_parameters(forecaster, config)
    panel = tail_from(facts["panel"], tensors)
    check_panel(panel, np.full(panel.n_series, config.context))
    # Files of 0.1 before covariates do not speak of them.
    panel, encoder = _covariates(facts.get("covariates"), tensors, panel)
    sizes = dict.fromkeys(_READS, 0) if encoder is None else encoder.sizes
    require(sizes == {name: getattr(config, name) for name in _READS}, "covariates do not fit the network")
    require(config.mixed_channels in (0, panel.n_channels), "channels do not fit the network")
    weights = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
    _check_weights(weights, config, len(panel.values))
    network = build_model(config, generator=torch.Generator().manual_seed(0))
    network.load_state_dict(weights)
    forecaster.config_ = config
    forecaster.network_ = network.to(forecaster.resolve_device()).eval()
    forecaster.scaler_ = _scaler("scaler", tensors, panel)
    forecaster.covariates_ = encoder
    forecaster.context_ = config.context
    forecaster.transform_ = TargetTransform(forecaster.target_transform)
    # Files of 0.1 before target transforms have one scale only.
    forecaster.score_scaler_ = _scaler("score", tensors, panel) if "score.mean" in tensors else forecaster.scaler_
    require(type(facts["panel_in"]) is bool, "panel_in")
    forecaster.panel_, forecaster.panel_in_ = panel, facts["panel_in"]
    forecaster.intervals_ = _intervals(tensors.get("intervals.errors"), config, panel)
    forecaster.summary_ = {k: tuple(v) if isinstance(v, list) else v for k, v in facts["summary"].items()}
    forecaster.history_ = pd.DataFrame(facts["history"])
    return forecaster


def _check_parameters(forecaster: "TrainedForecaster", config: ModelConfig) -> None:
    """Refuse settings that would fail only when a forecast is asked."""
    horizon = forecaster.horizon
    require(type(horizon) is int and 1 <= horizon <= config.horizon, f"horizon = {horizon!r:.40}")
    for name in ("id_col", "time_col", "target_col", "alias"):
        value = getattr(forecaster, name)
        require(value is None or type(value) in (str, int), f"{name} = {value!r:.40}")
    require(forecaster.missing in MISSING, f"missing = {forecaster.missing!r:.40}")
    require(isinstance(forecaster.device, str), f"device = {forecaster.device!r:.40}")
    for name in ("batch_size", "n_threads"):
        value = getattr(forecaster, name)
        whole = type(value) is int and value >= 1
        require(whole or (name == "n_threads" and value is None), f"{name} = {value!r:.40}")
    if forecaster.freq is not None:
        parse_freq(forecaster.freq)


def _check_weights(weights: dict[str, torch.Tensor], config: ModelConfig, n_rows: int) -> None:
    """Refuse weights that are no numbers, and sizes that nothing in the file has, before memory is taken for them."""
    for name, tensor in weights.items():
        require(bool(torch.isfinite(tensor).all()), f"weights {name} are not finite")
    largest = max((n_rows, len(weights), *(n for tensor in weights.values() for n in tensor.shape)))
    for name in ("context", "horizon", *(() if config.backbone in LINEAR_KINDS else (*_SIZES, *_READS))):
        require(getattr(config, name) <= largest, f"{name} = {getattr(config, name)} fits no tensor")


def _scaler(name: str, tensors: dict[str, torch.Tensor], panel: Panel) -> Scaler:
    mean, scale = tensors[f"{name}.mean"].numpy(), tensors[f"{name}.scale"].numpy()
    for part in (mean, scale):
        fits = part.shape == (panel.n_series, panel.n_channels) and part.dtype == np.float64
        require(fits and bool(np.isfinite(part).all()), f"{name} holds {part.dtype} of shape {part.shape}")
    require(bool((scale > 0).all()), f"{name} has a scale that is not above 0")
    return Scaler(mean, scale)


def _intervals(errors: torch.Tensor | None, config: ModelConfig, panel: Panel) -> StepIntervals | None:
    if errors is None:
        return None
    intervals = StepIntervals(errors.numpy())
    require(intervals.errors.shape[1:] == (config.horizon, panel.n_channels), f"errors of shape {tuple(errors.shape)}")
    return intervals


def tail_tensors(panel: Panel) -> dict[str, torch.Tensor]:
    """The end of each series, to be written."""
    return {f"tail.{name}": torch.as_tensor(array) for name, array in panel_arrays(panel).items()}


def tail_from(facts: dict[str, Any], tensors: Mapping[str, torch.Tensor]) -> Panel:
    """The end of each series as it was written; errors as :func:`tsattn.data.stored.panel_from`."""
    return panel_from(facts, {name: tensors[f"tail.{name}"].numpy() for name in ("values", "starts", "times")})


def _covariate_facts(encoder: CovariateEncoder, panel: Panel) -> dict[str, Any]:
    columns, here = encoder.columns, panel.covariates
    return {
        **{name: [exact(c, f"{name}_cols") for c in getattr(columns, name)] for name in ("past", "future", "static")},
        "calendar": list(columns.calendar),
        "categories": [None if each is None else list(each) for each in encoder.categories],
        "series": [] if here is None else here.static.tolist(),
    }


def _covariates(
    facts: dict[str, Any] | None, tensors: dict[str, torch.Tensor], panel: Panel
) -> tuple[Panel, CovariateEncoder | None]:
    """The panel with its covariates, and how they are read."""
    if facts is None:
        return panel, None
    columns = CovariateColumns.checked(facts["past"], facts["future"], facts["static"], facts["calendar"])
    for name in (*columns.moving, *columns.static):
        exact(name, "a covariate's name")
    choose_cycles(columns.calendar, panel.freq, panel.times)
    categories = tuple(None if each is None else tuple(each) for each in facts["categories"])
    require(len(categories) == len(columns.static) and columns.calendar != "auto", "static columns or calendar")
    for each in categories:
        require(each is None or (each == tuple(sorted(set(each))) and len(each) > 0), "categories in disorder")
        require(each is None or all(type(value) is str for value in each), "categories are no text")
    sizes = {name: len(columns.static if name.startswith("static") else columns.moving) for name in _MEASURES}
    measures = {name: tensors[f"covariates.{name}"].numpy() for name in _MEASURES}
    for name, part in measures.items():
        fits = part.shape == (sizes[name],) and part.dtype == np.float64 and bool(np.isfinite(part).all())
        require(fits and ("scale" not in name or bool((part > 0).all())), f"{name} of the covariates")
    encoder = CovariateEncoder(columns, **measures, categories=categories)
    if not columns.moving and not columns.static:
        return panel, encoder
    values = tensors["tail.covariates"].numpy()
    whole = values.dtype == np.float64 and values.shape == (len(panel.values), len(columns.moving))
    require(whole and bool(np.isfinite(values).all()), "covariates do not fit the rows")
    static = np.empty((panel.n_series, len(columns.static)), dtype=object)
    for n, row in enumerate(facts["series"]):
        static[n] = [_static(value) for value in row]
    require(len(facts["series"]) == panel.n_series, "static columns do not fit the series")
    panel = replace(panel, covariates=Covariates(columns.moving, values, columns.static, static))
    encoder.check_static(panel)
    return panel, encoder


def _static(value: Any) -> float | str:
    require(type(value) is str or (type(value) is float and math.isfinite(value)), f"static value {value!r:.40}")
    return value


def plain_value(value: Any) -> Any:
    """What JSON can hold; an object without a plain form (a numpy generator as seed) becomes None."""
    if isinstance(value, dict):
        return {str(k): plain_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else None
