"""Fitted forecasters in folders: tensors and facts, no pickle, no code, no training frame."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch

from tsattn.data.covariates import CovariateColumns, Covariates
from tsattn.data.cycles import choose_cycles
from tsattn.data.encoding import CovariateEncoder
from tsattn.data.panel import Panel
from tsattn.data.special_days import HolidaysMissing
from tsattn.data.stored import check_panel, exact, panel_arrays, panel_facts, panel_from, require
from tsattn.data.windows import History
from tsattn.settings import Settings
from tsattn.storage import (
    file_digest,
    one_line,
    read_folder,
    read_json,
    read_tensors,
    standing_folder,
    write_folder,
    write_json,
    write_tensors,
)

FORMAT = 3
_TENSORS = "model.safetensors"
_FACTS = "config.json"
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
_AnyT = TypeVar("_AnyT")
# Categories of each column, None for numbers.
_Categories: TypeAlias = tuple[tuple[str, ...] | None, ...]


@dataclass(frozen=True)
class Saved:
    """The files of a saved forecaster.

    Args:
        path: The folder.
        facts: What ``config.json`` says, as the present format has it.
        tensors: Those of ``model.safetensors``, likewise.
    """

    path: Path
    facts: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    def count(self, name: str) -> int:
        """An integer of at least 0 among what was learnt.

        Raises:
            ValueError: If it is none; LookupError if it is not there.
        """
        value = self.facts["learnt"][name]
        is_count = type(value) is int and value >= 0
        require(is_count, f"{name} = {value!r:.40}")
        return int(value)

    def part(self, prefix: str) -> dict[str, torch.Tensor]:
        """The tensors whose names begin with a prefix, by the rest of their names."""
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(prefix)
        }

    def numbers(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A tensor of float64 as an array of that shape; a length of -1 may be any.

        Raises:
            ValueError: If it is of another kind; LookupError if it is not there.
        """
        array: np.ndarray = self.tensors[name].numpy()
        fits = array.dtype == np.float64 and array.ndim == len(shape)
        fits = fits and all(n in (-1, m) for n, m in zip(shape, array.shape, strict=True))
        require(fits, f"{name} holds {array.dtype} of shape {array.shape}")
        return array

    def inner_folder(self, name: str) -> Path:
        """Folder of the forecaster ``name`` that is saved inside of this one.

        Raises:
            ValueError: If it is not what was saved there.
        """
        digest = self.facts["inside"][name]
        require(Path(name).name == name, f"a forecaster in {name!r:.40}")
        folder = standing_folder(self.path) / name
        require(file_digest(folder / _FACTS) == digest, f"{name} is not the one that was saved")
        return folder


def write_forecaster(forecaster: Any, path: Path) -> None:
    """Write what a fitted forecaster learnt, its settings, and the end of each series.

    Args:
        forecaster: A :class:`tsattn.forecaster.Forecaster` that is fitted.
        path: The folder; an older save there is replaced in one step.

    Raises:
        ValueError: If the folder holds something else, or a setting, ids or names are of a kind
            that files cannot hold.
    """
    fitted = forecaster.state_
    kind = type(forecaster).__name__
    if type(fitted) is not forecaster.fitted_class:
        raise ValueError(
            f"{kind} cannot be saved: its fit is a {type(fitted).__name__}, and fitted_class is"
            f" {forecaster.fitted_class.__name__}; set fitted_class = {type(fitted).__name__}, with"
            " tensors, facts and restored of its own"
        )
    parameters = forecaster.get_params(deep=False)
    for name in forecaster.unsaved:
        parameters.pop(name)
    for name, value in parameters.items():
        _refuse_objects(name, value)
    panel = replace(fitted.panel, values=History(fitted.panel).filled)
    panel = panel.last(forecaster.max_context)
    covariate_tensors, covariates = covariate_files(fitted.encoder, panel)
    tensors = {**fitted.tensors(), **covariate_tensors, **tail_tensors(panel)}
    facts = {
        "parameters": plain_value(parameters),
        **fitted.facts(),
        **covariates,
        "panel": panel_facts(panel),
        "panel_in": fitted.from_panel,
    }
    inside = {name: member.save for name, member in fitted.inside().items()}
    write_model(path, kind, tensors, facts, inside)


def read_forecaster(cls: Any, path: Path) -> Any:
    """What :func:`write_forecaster` wrote.

    Args:
        cls: The class of the forecaster that was saved.
        path: The folder.

    Raises:
        ValueError: If files are missing, damaged or of another class.
    """

    def rebuild(facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
        saved = Saved(path, facts, tensors)
        forecaster = cls._remade(made_of(cls, facts["parameters"]), saved)
        alias = forecaster.alias
        is_name = alias is None or type(alias) in (str, int)
        require(is_name, f"alias = {alias!r:.40}")
        panel = tail_from(facts["panel"], tensors)
        check_panel(panel)
        panel, encoder = covariates_from(facts, tensors, panel)
        require(type(facts["panel_in"]) is bool, "panel_in")
        fitted = cls.fitted_class.restored(
            forecaster,
            saved,
            panel=panel,
            from_panel=facts["panel_in"],
            bound={name: getattr(forecaster, name) for name in cls.bound},
            encoder=encoder,
        )
        forecaster.state_ = fitted
        require(
            bool((panel.lengths >= forecaster.min_context).all()),
            "series are shorter than the context",
        )
        return forecaster

    return read_model(path, cls.__name__, rebuild)


def _refuse_objects(name: str, value: Any) -> None:
    """Refuse a setting that JSON cannot hold."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_objects(f"{name}[{key!r}]", inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_objects(name, inner)
    elif name != "random_state" and not isinstance(
        value, str | int | float | bool | Settings | np.generic | np.ndarray | None
    ):
        raise ValueError(
            f"{name} of type {type(value).__name__} cannot be saved without running code at load;"
            " give it by a name or numbers"
        )


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
            :meth:`Saved.inner_folder`.

    Raises:
        ValueError: If the folder holds something else.
    """

    def write(folder: Path) -> None:
        write_tensors(folder / _TENSORS, tensors, {"format": FORMAT})
        contents = {
            "format": FORMAT,
            "class": kind,
            **facts,
            "sha256": file_digest(folder / _TENSORS),
        }
        for name, save in inside.items():
            save(folder / name)
        if inside:
            contents["inside"] = {name: file_digest(folder / name / _FACTS) for name in inside}
        write_json(folder / _FACTS, contents)

    write_folder(path, write)


def saved_class(path: Path) -> str:
    """Name of the class that :func:`write_model` was told.

    Raises:
        ValueError: If the folder holds no saved forecaster.
    """
    return str(read_folder(path, lambda folder: read_json(folder / _FACTS)).get("class"))


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

    def read(folder: Path) -> _AnyT:
        facts = read_json(folder / _FACTS)
        if facts.get("format") not in range(1, FORMAT + 1):
            raise ValueError(
                f"{path} has format {facts.get('format')!r:.40}; this version reads up to"
                f" {FORMAT}: upgrade tsattn"
            )
        # Files of 0.1 before time zones of every kind have no digest.
        tensors, _ = read_tensors(folder / _TENSORS, digest=facts.get("sha256"))
        if facts.get("class") != kind:
            saved_kind = f"{facts.get('class')!r:.60}".strip("'")
            raise ValueError(f"{path} holds a {saved_kind}; load it with {saved_kind}.load")
        try:
            return rebuild(*of_present_format(facts, tensors))
        except HolidaysMissing:  # no damage, and its message says what to do
            raise
        except _DAMAGES as error:
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise ValueError(f"{path} is not what save() wrote ({reason}); save it anew") from None

    return read_folder(path, read)


def check_weights(
    weights: Mapping[str, torch.Tensor], sizes: Mapping[str, int], n_rows: int = 0
) -> None:
    """Refuse weights that are not finite, and sizes that nothing in a file has, before memory is
    taken for a network.

    Args:
        weights: The tensors of the network.
        sizes: Sizes of the network by name. None exceeds the number of tensors (its layers), their
            own sizes and ``n_rows``.
        n_rows: Rows of the saved series.

    Raises:
        ValueError: Naming what is wrong.
    """
    for name, tensor in weights.items():
        require(bool(torch.isfinite(tensor).all()), f"weights {name} are not finite")
    tensor_sizes = [size for tensor in weights.values() for size in tensor.shape]
    largest = max([n_rows, len(weights), *tensor_sizes])
    for name, size in sizes.items():
        require(size <= largest, f"{name} = {size} fits no tensor")


def of_present_format(
    facts: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Facts and tensors of formats 1 and 2 as format 3 has them.

    There a wide table was one series of C channels. Its columns become series in their old order;
    the errors of each column become shares of its own size, as those of a long table are.

    Raises:
        ValueError: If something is not what they held; also LookupError or TypeError.
    """
    panel = facts.get("panel")
    if facts["format"] >= FORMAT or panel is None:
        return facts, tensors
    names = panel["channels"]
    wide = panel["dialect"]["kind"] == "wide"
    dialect = {**panel["dialect"], "columns": names if wide else []}
    facts = {**facts, "panel": {**panel, "dialect": dialect}}
    if "scaler.mean" in tensors:
        # Files of 0.1 before target transforms have one scale only.
        scores = {f"score.{name}": tensors[f"scaler.{name}"] for name in ("mean", "scale")}
        tensors = {**scores, **tensors}
    if not wide:
        return facts, tensors
    n_series = len(names)
    values, times = (tensors[f"tail.{name}"] for name in ("values", "times"))
    require(values.shape == (len(times), n_series), "values do not fit")
    facts["panel"] |= {"ids": names, "ids_dtype": "object"}
    tensors = {
        **tensors,
        "tail.values": values.T.reshape(-1, 1),
        "tail.starts": len(times) * torch.arange(n_series + 1),
        "tail.times": times.repeat(n_series),
    }
    if "tail.covariates" in tensors:
        tensors["tail.covariates"] = tensors["tail.covariates"].repeat(n_series, 1)
    if facts.get("covariates") is not None:
        covariates = facts["covariates"]
        facts["covariates"] = {**covariates, "series": covariates["series"] * n_series}
    if "scaler.mean" in tensors:
        mixed = facts["network"].get("mixed_channels", 0) > 0
        tensors |= _scales_of_series(tensors, mixed=mixed)
    return facts, tensors


def _scales_of_series(tensors: dict[str, torch.Tensor], *, mixed: bool) -> dict[str, torch.Tensor]:
    """Scales and errors ``[n, F, C]`` of the channels of a wide table as those of series."""
    scales = {f"score.{name}": tensors[f"score.{name}"].T for name in ("mean", "scale")}
    if mixed:
        return scales
    scales |= {f"scaler.{name}": tensors[f"scaler.{name}"].T for name in ("mean", "scale")}
    errors = tensors.get("intervals.errors")
    if errors is None:
        return scales
    sizes = errors.nanmean(dim=(0, 1))
    sizes = torch.where(sizes > 0, sizes, torch.ones_like(sizes))
    shares = (errors / sizes).permute(2, 0, 1).reshape(-1, errors.shape[1], 1)
    return scales | {
        "intervals.errors": shares,
        "intervals.scales": sizes[:, None],
        "intervals.per_step": sizes.mean().reshape(1),
    }


def made_of(cls: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the constructor from saved parameters; files of format 1 have them flat, with
    some that are gone.

    Raises:
        ValueError: If a value is out of its range; also LookupError or TypeError.
    """
    arguments = {name: _tupled(value) for name, value in parameters.items()}
    defaults = {
        name: parameter.default for name, parameter in inspect.signature(cls).parameters.items()
    }
    groups = {name: value for name, value in defaults.items() if isinstance(value, Settings)}
    if not groups.keys() & arguments.keys():
        return cls.arranged({name: value for name, value in arguments.items() if name not in _GONE})
    for name, default in groups.items():
        if name in arguments:
            settings = {key: _tupled(value) for key, value in arguments[name].items()}
            arguments[name] = type(default)(**settings)
    return arguments


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value


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
    covariates = panel.covariates
    return {
        "past": [exact(column, "past_cols") for column in columns.past],
        "future": [exact(column, "future_cols") for column in columns.future],
        "static": [exact(column, "static_cols") for column in columns.static],
        "calendar": list(columns.calendar),
        "categories": [None if names is None else list(names) for names in encoder.categories],
        "moving": columns.categories,
        "rows": () if covariates is None else covariates.categories,
        "series": [] if covariates is None else covariates.static.tolist(),
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
    columns, row_categories = _saved_columns(facts, panel)
    encoder = _saved_encoder(columns, facts, tensors)
    if not columns.moving and not columns.static:
        return panel, encoder
    values = tensors["tail.covariates"].numpy()
    fits = values.shape == (len(panel.values), len(columns.moving))
    is_finite = values.dtype == np.float64 and bool(np.isfinite(values).all())
    require(fits and is_finite, "covariates do not fit the rows")
    for k, names in enumerate(row_categories):
        if names is not None:
            fits = bool(np.isin(values[:, k], range(len(names))).all())
            require(fits, "categories do not fit the rows")
    require(len(facts["series"]) == panel.n_series, "static columns do not fit the series")
    static = np.empty((panel.n_series, len(columns.static)), dtype=object)
    for n, row in enumerate(facts["series"]):
        static[n] = [_static(value) for value in row]
    covariates = Covariates(columns.moving, values, columns.static, static, row_categories)
    panel = replace(panel, covariates=covariates)
    encoder.check(panel)
    return panel, encoder


def _saved_columns(facts: dict[str, Any], panel: Panel) -> tuple[CovariateColumns, _Categories]:
    """The columns that a saved forecaster reads, and the categories of the rows saved with it."""
    columns = CovariateColumns.checked(
        facts["past"], facts["future"], facts["static"], facts["calendar"]
    )
    for name in (*columns.moving, *columns.static):
        exact(name, "a covariate's name")
    choose_cycles(columns.calendar, panel.freq, panel.times)
    require("auto" not in columns.calendar, "calendar")
    n_moving = len(columns.moving)
    # Files of 0.1 before columns of text do not speak of them.
    categories = _categories(facts.get("moving", ())) or (None,) * n_moving
    row_categories = _categories(facts.get("rows", ()))
    fits = len(categories) == n_moving and len(row_categories) in (0, n_moving)
    require(fits, "categories do not fit the columns")
    return replace(columns, categories=categories), row_categories


def _saved_encoder(
    columns: CovariateColumns, facts: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> CovariateEncoder:
    """How a saved forecaster reads its covariates."""
    categories = _categories(facts["categories"])
    require(len(categories) == len(columns.static), "static columns")
    measures = {}
    for name in _MEASURES:
        size = len(columns.static if name.startswith("static") else columns.moving)
        measure = tensors[f"covariates.{name}"].numpy()
        fits = measure.shape == (size,) and measure.dtype == np.float64
        is_valid = fits and bool(np.isfinite(measure).all())
        if "scale" in name:
            is_valid = is_valid and bool((measure > 0).all())
        require(is_valid, f"{name} of the covariates")
        measures[name] = measure
    return CovariateEncoder(columns, **measures, categories=categories)


def _categories(saved: Any) -> _Categories:
    """Categories out of a file, checked."""
    categories = tuple(None if names is None else tuple(names) for names in saved)
    for names in categories:
        if names is not None:
            is_sorted = names == tuple(sorted(set(names))) and len(names) > 0
            require(is_sorted, "categories in disorder")
            require(all(type(name) is str for name in names), "categories are no text")
    return categories


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
