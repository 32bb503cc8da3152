"""How does a fitted forecaster live on? A folder with tensors and facts, no pickle, no code, no training frame."""

import math
import re
from dataclasses import replace
from datetime import timedelta, timezone, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import torch

from tsattn.data.calendar import locate, parse_freq, ticks
from tsattn.data.columns import MISSING
from tsattn.data.covariates import CovariateColumns, Covariates
from tsattn.data.cycles import choose_cycles
from tsattn.data.encoding import CovariateEncoder
from tsattn.data.frames import Dialect, Panel
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
    from tsattn.trained import TrainedForecaster

_FORMAT = 1
_TENSORS, _FACTS = "model.safetensors", "config.json"
_TRIES = 3  # a writer may exchange the folder between two reads
_ID_TYPES = re.compile(r"object|bool|u?int(8|16|32|64)|float(32|64)|datetime64\[(s|ms|us|ns)\]")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
_OFFSET = re.compile(r"UTC([+-])(\d\d):(\d\d)(?::(\d\d))?")
_SIZES = ("d_model", "n_heads", "n_layers", "d_ff", "patch_len", "patch_stride")
_READS = ("n_past", "n_known", "n_static")
_MEASURES = ("mean", "scale", "static_mean", "static_scale")
_GONE = ("compile",)  # options of earlier versions that say nothing about a fitted network
_DAMAGES = (LookupError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError, ImportError)
_ForecasterT = TypeVar("_ForecasterT", bound="TrainedForecaster")


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
        "tail.values": torch.as_tensor(forecaster.panel_.values),
        "tail.starts": torch.as_tensor(forecaster.panel_.starts),
        "tail.times": torch.as_tensor(ticks(forecaster.panel_.times).copy()),
    }
    encoder = forecaster.covariates_
    if encoder is not None:
        tensors |= {f"covariates.{name}": torch.as_tensor(getattr(encoder, name)) for name in _MEASURES}
    if forecaster.panel_.covariates is not None:
        tensors["tail.covariates"] = torch.as_tensor(forecaster.panel_.covariates.values)
    if forecaster.intervals_ is not None:
        tensors["intervals.errors"] = torch.as_tensor(forecaster.intervals_.errors)
    facts = {
        "format": _FORMAT,
        "class": type(forecaster).__name__,
        "parameters": {name: _plain(value) for name, value in forecaster.get_params().items()},
        "network": forecaster.config_.to_dict(),
        "panel": _panel_facts(forecaster.panel_),
        "covariates": None if encoder is None else _covariate_facts(encoder, forecaster.panel_),
        "panel_in": forecaster.panel_in_,
        "summary": _plain(forecaster.summary_),
        "history": forecaster.history_.to_dict("list"),
    }

    def write(folder: Path) -> None:
        write_tensors(folder / _TENSORS, tensors, {"format": _FORMAT})
        write_json(folder / _FACTS, facts | {"sha256": file_digest(folder / _TENSORS)})

    write_folder(path, write)


def load_forecaster(cls: type[_ForecasterT], path: Path) -> _ForecasterT:
    """Read what :func:`save_forecaster` wrote.

    Args:
        cls: The class that was saved.
        path: The folder.

    Raises:
        ValueError: If files are missing, damaged, of another class or of a newer format.
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
    if facts.get("class") != cls.__name__:
        told = f"{facts.get('class')!r:.60}".strip("'")
        raise ValueError(f"{path} holds a {told}; load it with {told}.load")
    try:
        return _rebuild(cls, facts, tensors)
    except _DAMAGES as error:
        told = f"{type(error).__name__}: {one_line(error)}"
        raise ValueError(f"{path} is not what save() wrote ({told}); save it anew") from None


def _rebuild(cls: type[_ForecasterT], facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> _ForecasterT:
    given = {k: v for k, v in facts["parameters"].items() if k not in _GONE}
    forecaster = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})
    config = ModelConfig.from_dict(facts["network"])
    _check_parameters(forecaster, config)
    panel = _panel(facts["panel"], tensors)
    _check_panel(panel, config.context)
    # Files of 0.1 before covariates do not speak of them.
    panel, encoder = _covariates(facts.get("covariates"), tensors, panel)
    sizes = dict.fromkeys(_READS, 0) if encoder is None else encoder.sizes
    _require(sizes == {name: getattr(config, name) for name in _READS}, "covariates do not fit the network")
    _require(config.mixed_channels in (0, panel.n_channels), "channels do not fit the network")
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
    _require(type(facts["panel_in"]) is bool, "panel_in")
    forecaster.panel_, forecaster.panel_in_ = panel, facts["panel_in"]
    forecaster.intervals_ = _intervals(tensors.get("intervals.errors"), config, panel)
    forecaster.summary_ = {k: tuple(v) if isinstance(v, list) else v for k, v in facts["summary"].items()}
    forecaster.history_ = pd.DataFrame(facts["history"])
    return forecaster


def _check_parameters(forecaster: "TrainedForecaster", config: ModelConfig) -> None:
    """Refuse settings that would fail only when a forecast is asked."""
    horizon = forecaster.horizon
    _require(type(horizon) is int and 1 <= horizon <= config.horizon, f"horizon = {horizon!r:.40}")
    for name in ("id_col", "time_col", "target_col", "alias"):
        value = getattr(forecaster, name)
        _require(value is None or type(value) in (str, int), f"{name} = {value!r:.40}")
    _require(forecaster.missing in MISSING, f"missing = {forecaster.missing!r:.40}")
    _require(isinstance(forecaster.device, str), f"device = {forecaster.device!r:.40}")
    for name in ("batch_size", "n_threads"):
        value = getattr(forecaster, name)
        whole = type(value) is int and value >= 1
        _require(whole or (name == "n_threads" and value is None), f"{name} = {value!r:.40}")
    if forecaster.freq is not None:
        parse_freq(forecaster.freq)


def _check_weights(weights: dict[str, torch.Tensor], config: ModelConfig, n_rows: int) -> None:
    """Refuse weights that are no numbers, and sizes that nothing in the file has, before memory is taken for them."""
    for name, tensor in weights.items():
        _require(bool(torch.isfinite(tensor).all()), f"weights {name} are not finite")
    largest = max((n_rows, len(weights), *(n for tensor in weights.values() for n in tensor.shape)))
    for name in ("context", "horizon", *(() if config.backbone in LINEAR_KINDS else (*_SIZES, *_READS))):
        _require(getattr(config, name) <= largest, f"{name} = {getattr(config, name)} fits no tensor")


def _scaler(name: str, tensors: dict[str, torch.Tensor], panel: Panel) -> Scaler:
    mean, scale = tensors[f"{name}.mean"].numpy(), tensors[f"{name}.scale"].numpy()
    for part in (mean, scale):
        fits = part.shape == (panel.n_series, panel.n_channels) and part.dtype == np.float64
        _require(fits and bool(np.isfinite(part).all()), f"{name} holds {part.dtype} of shape {part.shape}")
    _require(bool((scale > 0).all()), f"{name} has a scale that is not above 0")
    return Scaler(mean, scale)


def _intervals(errors: torch.Tensor | None, config: ModelConfig, panel: Panel) -> StepIntervals | None:
    if errors is None:
        return None
    intervals = StepIntervals(errors.numpy())
    _require(intervals.errors.shape[1:] == (config.horizon, panel.n_channels), f"errors of shape {tuple(errors.shape)}")
    return intervals


def _covariate_facts(encoder: CovariateEncoder, panel: Panel) -> dict[str, Any]:
    columns, here = encoder.columns, panel.covariates
    return {
        **{name: [_exact(c, f"{name}_cols") for c in getattr(columns, name)] for name in ("past", "future", "static")},
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
        _exact(name, "a covariate's name")
    choose_cycles(columns.calendar, panel.freq, panel.times)
    categories = tuple(None if each is None else tuple(each) for each in facts["categories"])
    _require(len(categories) == len(columns.static) and columns.calendar != "auto", "static columns or calendar")
    for each in categories:
        _require(each is None or (each == tuple(sorted(set(each))) and len(each) > 0), "categories in disorder")
        _require(each is None or all(type(value) is str for value in each), "categories are no text")
    sizes = {name: len(columns.static if name.startswith("static") else columns.moving) for name in _MEASURES}
    measures = {name: tensors[f"covariates.{name}"].numpy() for name in _MEASURES}
    for name, part in measures.items():
        fits = part.shape == (sizes[name],) and part.dtype == np.float64 and bool(np.isfinite(part).all())
        _require(fits and ("scale" not in name or bool((part > 0).all())), f"{name} of the covariates")
    encoder = CovariateEncoder(columns, **measures, categories=categories)
    if not columns.moving and not columns.static:
        return panel, encoder
    values = tensors["tail.covariates"].numpy()
    whole = values.dtype == np.float64 and values.shape == (len(panel.values), len(columns.moving))
    _require(whole and bool(np.isfinite(values).all()), "covariates do not fit the rows")
    static = np.empty((panel.n_series, len(columns.static)), dtype=object)
    for n, row in enumerate(facts["series"]):
        static[n] = [_static(value) for value in row]
    _require(len(facts["series"]) == panel.n_series, "static columns do not fit the series")
    panel = replace(panel, covariates=Covariates(columns.moving, values, columns.static, static))
    encoder.check_static(panel)
    return panel, encoder


def _static(value: Any) -> float | str:
    _require(type(value) is str or (type(value) is float and math.isfinite(value)), f"static value {value!r:.40}")
    return value


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _panel_facts(panel: Panel) -> dict[str, Any]:
    dialect, ids = panel.dialect, panel.ids
    categories = getattr(dialect.id_dtype, "categories", None)
    names = {name: _exact(getattr(dialect, name), name) for name in ("id_col", "time_col", "target_col", "index_name")}
    return {
        "ids": [_exact(value, "ids") for value in (ids.view(np.int64) if ids.dtype.kind == "M" else ids).tolist()],
        "ids_dtype": str(ids.dtype),
        **_time_facts(panel.times),
        "freq": panel.freq,
        "channels": list(panel.channels),
        "missing": panel.missing,
        "dialect": {
            "kind": dialect.kind,
            **names,
            "id_dtype": None if dialect.id_dtype is None else str(dialect.id_dtype),
            "id_categories": None if categories is None else [_exact(v, "ids") for v in categories.tolist()],
            "id_categories_dtype": None if categories is None else str(categories.dtype),
            "id_ordered": bool(getattr(dialect.id_dtype, "ordered", False)),
        },
    }


def _panel(facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Panel:
    clock = tensors["tail.times"].numpy()
    _require(clock.dtype == np.int64 and clock.ndim == 1, f"times of {clock.dtype}")
    times: pd.Index = pd.Index(clock)
    if facts["times"] != "integer":
        stamps = pd.DatetimeIndex(clock.view("datetime64[ns]"))
        zone = facts["times"].removeprefix("stamps").removeprefix(" in ")
        if zone:
            stamps = stamps.tz_localize("UTC").tz_convert(_zone(zone, bool(facts.get("zoneinfo"))))
        times = stamps.as_unit(facts.get("unit") or "ns")
    _require(bool(_ID_TYPES.fullmatch(facts["ids_dtype"])), f"ids of {facts['ids_dtype']!r:.40}")
    ids = np.array([_exact(value, "ids") for value in facts["ids"]], dtype=facts["ids_dtype"])
    return Panel(
        values=tensors["tail.values"].numpy(),
        starts=tensors["tail.starts"].numpy(),
        ids=ids,
        times=times,
        freq=facts["freq"],
        channels=tuple(facts["channels"]),
        dialect=_dialect(dict(facts["dialect"])),
        missing=facts["missing"],
    )


def _dialect(told: dict[str, Any]) -> Dialect:
    categories, dtype = told.pop("id_categories"), told.pop("id_categories_dtype", "object")
    ordered = told.pop("id_ordered", False)
    if categories is not None:
        told["id_dtype"] = pd.CategoricalDtype(pd.Index(categories, dtype=dtype), ordered=ordered)
    elif told["id_dtype"] is not None:
        told["id_dtype"] = pd.api.types.pandas_dtype(told["id_dtype"])
    for name in ("id_col", "time_col", "target_col", "index_name"):
        _exact(told[name], name)
    return Dialect(**told)


def _check_panel(panel: Panel, context: int) -> None:
    """Refuse a panel that no table could have become: loading skips the checks that reading a frame makes."""
    values, starts, dialect = panel.values, panel.starts, panel.dialect
    _require(all(isinstance(name, str) for name in panel.channels), "channels are no names")
    _require(values.dtype == np.float64 and values.shape == (len(panel.times), panel.n_channels), "values do not fit")
    _require(panel.missing in MISSING and not np.isinf(values).any(), "values or their policy are wrong")
    _require(panel.missing == "mask" or not np.isnan(values).any(), "values are missing")
    whole = starts.dtype == np.int64 and np.array_equal(starts, np.arange(len(panel.ids) + 1) * context)
    _require(whole and len(panel.ids) > 0 and starts[-1] == len(values), "series do not fit the rows")
    _require(pd.Index(panel.ids).is_unique, "ids occur twice")
    grid = parse_freq(panel.freq)
    _require(grid.alias == panel.freq and isinstance(panel.times, pd.DatetimeIndex) == (grid.unit != "integer"), "freq")
    position, exact = locate(panel.times, np.repeat(starts[:-1], context), grid)
    steps = np.tile(np.arange(context), panel.n_series)
    _require(bool(exact.all()) and np.array_equal(position, steps), f"stamps are off frequency {panel.freq!r:.40}")
    long = dialect.kind == "long" and panel.n_channels == 1 and None not in (dialect.time_col, dialect.target_col)
    wide = dialect.kind == "wide" and panel.n_series == 1 and dialect.id_col is None
    _require(long or wide, f"a table of kind {dialect.kind!r:.40} does not look like this")
    if dialect.id_col is not None:
        _require(not dialect.restore_ids(panel.ids).isna().any(), "ids do not fit their type")


def _time_facts(times: pd.Index) -> dict[str, Any]:
    """How ticks are to be read: their unit, and their zone by a name or an offset that every machine knows.

    Raises:
        ValueError: If the zone has neither, such as a machine's own local time.
    """
    if not isinstance(times, pd.DatetimeIndex):
        return {"times": "integer"}
    if times.tz is None:
        return {"times": "stamps", "unit": times.unit}
    known = isinstance(times.tz, ZoneInfo)
    # A zone with summer time has no offset at no time.
    for name in (str(times.tz), _offset_name(times.tz.utcoffset(None))):
        try:
            same = times.tz_convert(_zone(name, known)).tz_localize(None).equals(times.tz_localize(None))
        except ValueError:
            continue
        if same:
            return {"times": f"stamps in {name}", "zoneinfo": known, "unit": times.unit}
    raise ValueError(
        f"the time zone {times.tz!r:.60} has no name that a file could hold; convert the stamps to one that has"
        " a name, such as tz_convert('UTC'), before fit"
    )


def _offset_name(offset: timedelta | None) -> str:
    if offset is None:
        return ""
    seconds = int(offset.total_seconds())
    hours, rest = divmod(abs(seconds), 3600)
    return f"UTC{'-' if seconds < 0 else '+'}{hours:02}:{rest // 60:02}:{rest % 60:02}"


def _zone(name: str, known: bool) -> str | tzinfo:
    """What pandas takes for a zone; only names and offsets, since it would also read any file as one.

    Raises:
        ValueError: If it is neither.
    """
    if fixed := _OFFSET.fullmatch(name):
        sign = -1 if fixed[1] == "-" else 1
        return timezone(sign * timedelta(hours=int(fixed[2]), minutes=int(fixed[3]), seconds=int(fixed[4] or 0)))
    if not _ZONE.fullmatch(name) or name.startswith("dateutil/"):
        raise ValueError(f"{name!r:.60} names no time zone")
    try:
        return ZoneInfo(name) if known else str(pd.Timestamp(0, tz=name).tz)
    except LookupError:
        raise ValueError(f"{name!r:.60} names no time zone") from None


def _exact(value: Any, what: str) -> Any:
    """A value that JSON gives back as it was.

    Raises:
        ValueError: If it is none.
    """
    value = value.item() if isinstance(value, np.generic) and not isinstance(value, np.datetime64) else value
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise ValueError(
        f"{what} of type {type(value).__name__} cannot be saved, only text and numbers; convert them to text before fit"
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
