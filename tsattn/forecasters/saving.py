"""Fitted forecasters in folders: tensors and facts, no pickle, no code, no training frame."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch

from tsattn.data.covariates import CovariateColumns, Covariates
from tsattn.data.cycles import choose_cycles
from tsattn.data.encoding import CovariateEncoder
from tsattn.data.frames import Panel
from tsattn.data.special_days import HolidaysMissing
from tsattn.data.stored import check_panel, exact, panel_arrays, panel_facts, panel_from, require
from tsattn.data.transforms import TargetTransform
from tsattn.data.windows import History, Scaler
from tsattn.evaluate.intervals import KnownScales, StepIntervals
from tsattn.forecaster import Forecaster
from tsattn.forecasters.covariate_regression import OUTDATED, PREFIX, CovariateRegression
from tsattn.forecasters.fitted import FittedNetwork
from tsattn.limits import IN_SINGLE
from tsattn.nn.config import LINEAR_KINDS, ModelConfig
from tsattn.nn.models import build_model
from tsattn.settings import Settings
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

_FORMAT = 2
_TENSORS = "model.safetensors"
_FACTS = "config.json"
_TRIES = 10  # a writer may exchange the folder between two reads, and a busy machine several times
_SIZES = ("d_model", "n_heads", "n_layers", "d_ff", "patch_len", "patch_stride")
_READS = ("n_past", "n_known", "n_static")
_MEASURES = ("mean", "scale", "static_mean", "static_scale")
# Options of format 1 that say nothing about a fitted network, or that its description holds.
_GONE = ("compile", "verbose", "warm_start", "learn_scales", "tt_rank", "n_kv_heads", "n_global")
_DAMAGES = (
    LookupError,
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    ArithmeticError,
    ImportError,
)
_ForecasterT = TypeVar("_ForecasterT", bound=Forecaster)
_AnyT = TypeVar("_AnyT")


def fitted_files(
    fitted: FittedNetwork, panel: Panel, score_scaler: Scaler
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and facts of a fitted network, the last context of each series, and a scaler in
    original units.

    Raises:
        ValueError: If ids, column names or a time zone are of a kind that files cannot hold.
    """
    panel = replace(panel, values=History(panel).filled)
    tensors = {f"network.{name}": value for name, value in fitted.network.state_dict().items()}
    tensors |= {
        "scaler.mean": torch.as_tensor(fitted.scaler.mean),
        "scaler.scale": torch.as_tensor(fitted.scaler.scale),
        "score.mean": torch.as_tensor(score_scaler.mean),
        "score.scale": torch.as_tensor(score_scaler.scale),
        **tail_tensors(panel),
    }
    more, told = covariate_files(fitted.encoder, panel)
    if fitted.intervals is not None:
        tensors["intervals.errors"] = torch.as_tensor(fitted.intervals.errors)
    if fitted.sizes is not None:
        places = fitted.sizes.places(panel, panel.starts[1:])
        scales = np.where(places[:, None] >= 0, fitted.sizes.scales[places], np.nan)
        tensors |= {
            "intervals.scales": torch.as_tensor(scales),
            "intervals.per_step": torch.as_tensor(fitted.sizes.per_step),
        }
    facts = told | {
        "network": fitted.config.to_dict(),
        "transform": fitted.transform.name,
        "panel": panel_facts(panel),
    }
    regression_tensors, regression_facts = regression_files(fitted.covariate_regression, panel)
    return tensors | more | regression_tensors, facts | regression_facts


def regression_files(
    regression: CovariateRegression | None, panel: Panel
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and facts of what covariates add to a forecaster, and of the covariates of the end of
    each series.
    """
    if regression is None:
        return {}, {}
    tensors = {name: torch.as_tensor(array) for name, array in regression.arrays().items()}
    more, facts = covariate_files(regression.encoder, panel)
    return tensors | more, {"covariate_regression": regression.facts(), **facts}


def regression_from(
    facts: dict[str, Any], tensors: dict[str, torch.Tensor], panel: Panel
) -> tuple[Panel, CovariateRegression | None]:
    """Undo :func:`regression_files`: the panel with its covariates, and what they add.

    Raises:
        ValueError: If something is not what it gave; also LookupError or TypeError.
    """
    require("leftovers" not in facts, OUTDATED)
    regression = facts.get("covariate_regression")
    panel, encoder = covariates_from(facts, tensors, panel)
    require((regression is None) == (encoder is None), "covariates that are not read")
    if regression is None or encoder is None:
        return panel, None
    arrays = {name: tensor.numpy() for name, tensor in tensors.items() if name.startswith(PREFIX)}
    return panel, CovariateRegression.rebuilt(encoder, regression, arrays)


def covariate_files(
    encoder: CovariateEncoder | None, panel: Panel
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and facts of how covariates are read, and of those of the end of each series."""
    if encoder is None:
        return {}, {"covariates": None}
    tensors = {f"covariates.{name}": torch.as_tensor(getattr(encoder, name)) for name in _MEASURES}
    if panel.covariates is not None:
        tensors["tail.covariates"] = torch.as_tensor(panel.covariates.values)
    return tensors, {"covariates": _covariate_facts(encoder, panel)}


def write_model(
    path: Path,
    kind: str,
    tensors: Mapping[str, torch.Tensor],
    facts: Mapping[str, Any],
    inside: Mapping[str, Callable[[Path], None]] = MappingProxyType({}),
) -> None:
    """Write ``model.safetensors`` and ``config.json`` into a folder, in one step.

    Args:
        path: A new folder, an empty one, or an older save.
        kind: Name of the class that is saved.
        tensors: By name.
        facts: What JSON can hold.
        inside: Other forecasters by name, each by what saves it into a folder:
            :func:`inner_folder`.

    Raises:
        ValueError: If the folder holds something else.
    """

    def write(folder: Path) -> None:
        write_tensors(folder / _TENSORS, tensors, {"format": _FORMAT})
        known = {
            "format": _FORMAT,
            "class": kind,
            **facts,
            "sha256": file_digest(folder / _TENSORS),
        }
        for name, save in inside.items():
            save(folder / name)
        if inside:
            known["inside"] = {name: file_digest(folder / name / _FACTS) for name in inside}
        write_json(folder / _FACTS, known)

    write_folder(path, write)


def inner_folder(path: Path, facts: Mapping[str, Any], name: str) -> Path:
    """Folder of the forecaster ``name`` that :func:`write_model` put inside of another one, in
    ``path``.

    Raises:
        ValueError: If it is not what was saved there.
    """
    digest = facts["inside"][name]
    require(Path(name).name == name, f"a forecaster in {name!r:.40}")
    folder = standing_folder(path) / name
    require(file_digest(folder / _FACTS) == digest, f"{name} is not the one that was saved")
    return folder


def saved_class(path: Path) -> str:
    """Name of the class that :func:`write_model` was told.

    Raises:
        ValueError: If the folder holds no saved forecaster.
    """
    return str(read_json(standing_folder(path) / _FACTS).get("class"))


def read_model(
    path: Path, kind: str, rebuild: Callable[[dict[str, Any], dict[str, torch.Tensor]], _AnyT]
) -> _AnyT:
    """What ``rebuild`` makes of the facts and tensors that :func:`write_model` wrote.

    Args:
        path: The folder.
        kind: Name of the class that must have been saved.
        rebuild: Whatever it raises because of what stands in the files is told as damage to them.

    Raises:
        ValueError: If files are missing, damaged, of another class or of a newer format.
    """
    for attempt in range(_TRIES):
        folder = standing_folder(path)
        try:
            facts = read_json(folder / _FACTS)
            if facts.get("format") not in range(1, _FORMAT + 1):
                raise ValueError(
                    f"{path} has format {facts.get('format')!r:.40}; this version reads up to"
                    f" {_FORMAT}: upgrade tsattn"
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
    except HolidaysMissing:  # no damage, and its message says what to do
        raise
    except _DAMAGES as error:
        told = f"{type(error).__name__}: {one_line(error)}"
        raise ValueError(f"{path} is not what save() wrote ({told}); save it anew") from None


def made_of(cls: type[Forecaster], parameters: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the constructor from saved parameters; files of format 1 have them flat, with
    some that are gone.

    Raises:
        ValueError: If a value is out of its range; also LookupError or TypeError.
    """
    given = {name: _tupled(value) for name, value in parameters.items()}
    groups = {
        n: p.default
        for n, p in inspect.signature(cls).parameters.items()
        if isinstance(p.default, Settings)
    }
    if not groups.keys() & given.keys():
        return cls.arranged({name: value for name, value in given.items() if name not in _GONE})
    for name, default in groups.items():
        if name in given:
            given[name] = type(default)(
                **{key: _tupled(value) for key, value in given[name].items()}
            )
    return given


def _tupled(value: Any) -> Any:
    return tuple(_tupled(each) for each in value) if isinstance(value, list) else value


def check_trained(horizon: Any, alias: Any, config: ModelConfig) -> None:
    """Refuse settings that would fail only when a forecast is asked."""
    require(type(horizon) is int and 1 <= horizon <= config.horizon, f"horizon = {horizon!r:.40}")
    require(alias is None or type(alias) in (str, int), f"alias = {alias!r:.40}")


def fitted_from(
    facts: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> tuple[FittedNetwork, Panel, Scaler]:
    """Undo :func:`fitted_files`: the network, the end of each series, and the scaler in original
    units.

    Raises:
        ValueError: If something is not what they gave; also LookupError or TypeError.
    """
    config = ModelConfig.from_dict(facts["network"])
    panel = tail_from(facts["panel"], tensors)
    check_panel(panel)
    require(int(panel.lengths.max()) <= config.context, "series are longer than the context")
    # Files of 0.1 before covariates do not speak of them.
    regression = None
    if config.backbone in LINEAR_KINDS:
        panel, regression = regression_from(facts, tensors, panel)
        encoder = None
    else:
        panel, encoder = covariates_from(facts, tensors, panel)
    sizes = dict.fromkeys(_READS, 0) if encoder is None else encoder.sizes
    require(
        sizes == {name: getattr(config, name) for name in _READS},
        "covariates do not fit the network",
    )
    require(config.mixed_channels in (0, panel.n_channels), "channels do not fit the network")
    weights = {
        k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")
    }
    _check_weights(weights, config, len(panel.values))
    with IN_SINGLE:
        network = build_model(config, generator=torch.Generator().manual_seed(0))
    network.load_state_dict(weights)
    transform = (
        facts["transform"] if "transform" in facts else facts["parameters"].get("target_transform")
    )
    scaler = _scaler("scaler", tensors, panel)
    mapped = TargetTransform(transform)
    intervals = _intervals(tensors.get("intervals.errors"), config, panel)
    scales = _sizes(tensors, panel)
    n_channels = panel.n_channels if panel.dialect.kind == "wide" else None
    fitted = FittedNetwork(
        network, config, scaler, mapped, encoder, intervals, n_channels, regression, scales
    )
    # Files of 0.1 before target transforms have one scale only.
    return (
        fitted,
        panel,
        _scaler("score", tensors, panel) if "score.mean" in tensors else fitted.scaler,
    )


def _check_weights(weights: dict[str, torch.Tensor], config: ModelConfig, n_rows: int) -> None:
    """Refuse weights that are no numbers, and sizes that nothing in the file has, before memory is
    taken for them.
    """
    for name, tensor in weights.items():
        require(bool(torch.isfinite(tensor).all()), f"weights {name} are not finite")
    largest = max((n_rows, len(weights), *(n for tensor in weights.values() for n in tensor.shape)))
    for name in (
        "context",
        "horizon",
        *(() if config.backbone in LINEAR_KINDS else (*_SIZES, *_READS)),
    ):
        require(
            getattr(config, name) <= largest, f"{name} = {getattr(config, name)} fits no tensor"
        )


def _scaler(name: str, tensors: dict[str, torch.Tensor], panel: Panel) -> Scaler:
    mean = tensors[f"{name}.mean"].numpy()
    scale = tensors[f"{name}.scale"].numpy()
    for part in (mean, scale):
        fits = part.shape == (panel.n_series, panel.n_channels) and part.dtype == np.float64
        require(
            fits and bool(np.isfinite(part).all()),
            f"{name} holds {part.dtype} of shape {part.shape}",
        )
    require(bool((scale > 0).all()), f"{name} has a scale that is not above 0")
    return Scaler(mean, scale)


def _intervals(
    errors: torch.Tensor | None, config: ModelConfig, panel: Panel
) -> StepIntervals | None:
    if errors is None:
        return None
    intervals = StepIntervals(errors.numpy())
    require(
        intervals.errors.shape[1:] == (config.horizon, panel.n_channels),
        f"errors of shape {tuple(errors.shape)}",
    )
    return intervals


def _sizes(tensors: Mapping[str, torch.Tensor], panel: Panel) -> KnownScales | None:
    """Size of the errors of each series; NaN where it was not calibrated."""
    if "intervals.scales" not in tensors:
        return None
    scales, per_step = (tensors[f"intervals.{name}"].numpy() for name in ("scales", "per_step"))
    for part, shape in (
        (scales, (panel.n_series, panel.n_channels)),
        (per_step, (panel.n_channels,)),
    ):
        fits = part.shape == shape and part.dtype == np.float64
        require(fits, f"scales of errors hold {part.dtype} of shape {part.shape}")
    known = ~np.isnan(scales).any(axis=1)
    require(bool(known.any()), "no series has a scale of errors")
    for part in (scales[known], per_step):
        require(
            bool(((part > 0) & np.isfinite(part)).all()),
            "scales of errors are not above 0 and finite",
        )
    return KnownScales(pd.Index(panel.ids)[known], scales[known], per_step)


def tail_tensors(panel: Panel) -> dict[str, torch.Tensor]:
    """The end of each series, to be written."""
    return {f"tail.{name}": torch.as_tensor(array) for name, array in panel_arrays(panel).items()}


def tail_from(facts: dict[str, Any], tensors: Mapping[str, torch.Tensor]) -> Panel:
    """The end of each series as it was written; errors as :func:`tsattn.data.stored.panel_from`."""
    return panel_from(
        facts, {name: tensors[f"tail.{name}"].numpy() for name in ("values", "starts", "times")}
    )


def _covariate_facts(encoder: CovariateEncoder, panel: Panel) -> dict[str, Any]:
    columns = encoder.columns
    here = panel.covariates
    return {
        **{
            name: [exact(c, f"{name}_cols") for c in getattr(columns, name)]
            for name in ("past", "future", "static")
        },
        "calendar": list(columns.calendar),
        "categories": [None if each is None else list(each) for each in encoder.categories],
        "moving": columns.categories,
        "rows": () if here is None else here.categories,
        "series": [] if here is None else here.static.tolist(),
    }


def covariates_from(
    saved: dict[str, Any], tensors: dict[str, torch.Tensor], panel: Panel
) -> tuple[Panel, CovariateEncoder | None]:
    """Undo :func:`covariate_files`: the panel with its covariates, and how they are read.

    Raises:
        ValueError: If something is not what it gave; also LookupError or TypeError.
    """
    facts = saved.get("covariates")
    if facts is None:
        return panel, None
    columns = CovariateColumns.checked(
        facts["past"], facts["future"], facts["static"], facts["calendar"]
    )
    for name in (*columns.moving, *columns.static):
        exact(name, "a covariate's name")
    choose_cycles(columns.calendar, panel.freq, panel.times)
    n_moving = len(columns.moving)
    # Files of 0.1 before columns of text do not speak of them.
    moving, rows = (_kinds(facts.get(name, ())) for name in ("moving", "rows"))
    columns = replace(columns, categories=moving or (None,) * n_moving)
    categories = _kinds(facts["categories"])
    require(
        len(categories) == len(columns.static) and "auto" not in columns.calendar,
        "static columns or calendar",
    )
    require(
        len(columns.categories) == n_moving and len(rows) in (0, n_moving),
        "categories do not fit the columns",
    )
    for each in (*categories, *moving, *rows):
        require(
            each is None or (each == tuple(sorted(set(each))) and len(each) > 0),
            "categories in disorder",
        )
        require(each is None or all(type(value) is str for value in each), "categories are no text")
    sizes = {
        name: len(columns.static if name.startswith("static") else columns.moving)
        for name in _MEASURES
    }
    measures = {name: tensors[f"covariates.{name}"].numpy() for name in _MEASURES}
    for name, part in measures.items():
        fits = (
            part.shape == (sizes[name],)
            and part.dtype == np.float64
            and bool(np.isfinite(part).all())
        )
        require(
            fits and ("scale" not in name or bool((part > 0).all())), f"{name} of the covariates"
        )
    encoder = CovariateEncoder(columns, **measures, categories=categories)
    if not columns.moving and not columns.static:
        return panel, encoder
    values = tensors["tail.covariates"].numpy()
    whole = values.dtype == np.float64 and values.shape == (len(panel.values), len(columns.moving))
    require(whole and bool(np.isfinite(values).all()), "covariates do not fit the rows")
    for k, known in enumerate(rows):
        require(
            known is None or bool(np.isin(values[:, k], range(len(known))).all()),
            "categories do not fit the rows",
        )
    static = np.empty((panel.n_series, len(columns.static)), dtype=object)
    for n, row in enumerate(facts["series"]):
        static[n] = [_static(value) for value in row]
    require(len(facts["series"]) == panel.n_series, "static columns do not fit the series")
    panel = replace(
        panel, covariates=Covariates(columns.moving, values, columns.static, static, rows)
    )
    encoder.check(panel)
    return panel, encoder


def _kinds(told: Any) -> tuple[tuple[str, ...] | None, ...]:
    return tuple(None if each is None else tuple(each) for each in told)


def _static(value: Any) -> float | str:
    require(
        type(value) is str or (type(value) is float and math.isfinite(value)),
        f"static value {value!r:.40}",
    )
    return value


def plain_value(value: Any) -> Any:
    """What JSON can hold; an object without a plain form (a numpy generator as seed)
    becomes None.
    """
    if isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Settings):
        return plain_value(value.get_params())
    if isinstance(value, dict):
        return {str(k): plain_value(v) for k, v in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Iterable):  # an index of names or an array of quantiles, too
        return [plain_value(v) for v in value]
    return str(value) if isinstance(value, Path) else None
