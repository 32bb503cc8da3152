"""Fitted forecasters in folders: tensors and facts, no pickle, no code, no training frame."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch

from tsattn.data.covariates import CovariateColumns, Covariates
from tsattn.data.cycles import choose_cycles
from tsattn.data.encoding import CovariateEncoder
from tsattn.data.panel import Panel
from tsattn.data.special_days import HolidaysMissing
from tsattn.data.stored import check_panel, exact, panel_arrays, panel_facts, panel_from, require
from tsattn.data.windows import History, TrainingScales
from tsattn.limits import limit_threads, plain_torch
from tsattn.settings import Settings, arranged
from tsattn.storage import (
    file_digest,
    one_line,
    part_of,
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
# Tensor of the scales of the training rows.
_SCALES = "score.scale"
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
# What a file can hold as it is.
_PLAIN_TYPES = str | int | float | bool | Settings | np.generic | np.ndarray | None
# The values of a file of JSON by name.
Facts: TypeAlias = dict[str, Any]
# Tensors of a file by name.
Tensors: TypeAlias = dict[str, torch.Tensor]
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
    facts: Facts
    tensors: Tensors

    def count(self, name: str) -> int:
        """An integer of at least 0 among what was learnt.

        Raises:
            ValueError: If it is none; LookupError if it is not there.
        """
        value = self.facts["learnt"][name]
        is_count = type(value) is int and value >= 0
        require(is_count, f"{name} = {value!r:.40}")
        return int(value)

    def part(self, prefix: str) -> Tensors:
        """The tensors whose names begin with a prefix, by the rest of their names."""
        return part_of(self.tensors, prefix)

    def numbers(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A tensor of float64 as an array of that shape; a length of -1 may be any.

        Raises:
            ValueError: If it is of another kind; LookupError if it is not there.
        """
        array = self.tensors[name].numpy()
        # -1 stands for any length.
        fits = array.dtype == np.float64 and array.ndim == len(shape)
        if fits:
            pairs = zip(shape, array.shape, strict=True)
            fits = all(n in (-1, m) for n, m in pairs)
        require(fits, f"{name} holds {array.dtype} of shape {array.shape}")
        return array

    def inner_folder(self, name: str) -> Path:
        """Folder of the forecaster ``name`` that is saved inside of this one.

        Raises:
            ValueError: If it is not what was saved there.
        """
        digest = self.facts["inside"][name]
        # A name with a slash in it could lead out of the folder.
        require(Path(name).name == name, f"a forecaster in {name!r:.40}")
        folder = standing_folder(self.path) / name
        present_digest = file_digest(folder / _FACTS)
        require(present_digest == digest, f"{name} is not the one that was saved")
        return folder


class ClassMissing(ValueError):
    """A saved forecaster of a class that this process does not know."""


# On one thread: work on several would let a process that is forked later wait for ever.
@limit_threads(1)
@plain_torch()
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
        fitted_name = type(fitted).__name__
        class_name = forecaster.fitted_class.__name__
        raise ValueError(
            f"{kind} cannot be saved: its fit is a {fitted_name}, and fitted_class is"
            f" {class_name}; set fitted_class = {fitted_name}, with"
            " tensors, facts and restored of its own"
        )
    parameters = forecaster.get_params(deep=False)
    for name in forecaster.unsaved:
        parameters.pop(name)
    for name, value in parameters.items():
        _refuse_objects(name, value)
    alias = plain_value(forecaster.alias)
    if not _is_name(alias):
        raise ValueError(
            f"alias must be text or a whole number to be saved; got {alias!r}; first call"
            " set_params(alias='...')"
        )
    panel = replace(fitted.panel, values=History(fitted.panel).filled)
    panel = panel.last(forecaster.max_context)
    covariate_tensors, covariates = covariate_files(fitted.encoder, panel)
    tensors = {**fitted.tensors(), **covariate_tensors, **tail_tensors(panel)}
    if fitted.training_scales is not None:
        tensors[_SCALES] = torch.as_tensor(fitted.training_scales.at(panel.ids))
    facts = {
        "own": is_own(type(forecaster)),
        "parameters": plain_value(parameters),
        **fitted.facts(),
        **covariates,
        "panel": panel_facts(panel),
        "panel_in": fitted.from_panel,
    }
    inside = {name: member.save for name, member in fitted.inside().items()}
    write_model(path, kind, tensors, facts, inside)


@limit_threads(1)
@plain_torch()
def read_forecaster(cls: Any, path: Path) -> Any:
    """Read what :func:`write_forecaster` wrote.

    Args:
        cls: The class of the forecaster that was saved.
        path: The folder.

    Raises:
        ValueError: If files are missing, damaged or of another class.
    """

    def rebuild(facts: Facts, tensors: Tensors) -> Any:
        saved = Saved(path, facts, tensors)
        arguments = made_of(cls, facts["parameters"])
        forecaster = cls._remade(arguments, saved)
        alias = forecaster.alias
        require(_is_name(alias), f"alias = {alias!r:.40}")
        panel = tail_from(facts["panel"], tensors)
        check_panel(panel)
        panel, encoder = covariates_from(facts, tensors, panel)
        require(type(facts["panel_in"]) is bool, "panel_in")
        bound = {name: getattr(forecaster, name) for name in cls.bound}
        fitted = cls.fitted_class.restored(
            forecaster,
            saved,
            panel=panel,
            from_panel=facts["panel_in"],
            bound=bound,
            encoder=encoder,
            training_scales=_scales_from(tensors, panel),
        )
        forecaster.state_ = fitted
        are_long = panel.lengths >= forecaster.min_context
        # Those that an update has brought may still be short.
        require(bool(are_long.any()), "all series are shorter than the context")
        return forecaster

    return read_model(path, cls, rebuild)


def _scales_from(tensors: Tensors, panel: Panel) -> TrainingScales:
    """The scales of the training rows; early files have those of networks only."""
    if _SCALES not in tensors:
        return TrainingScales.of(panel)
    values = tensors[_SCALES].numpy()
    fits = values.dtype == np.float64 and values.shape == (panel.n_series, 1)
    require(fits, f"scales of {values.dtype} and shape {values.shape}")
    # Series that an update has brought have none.
    has_scale = ~np.isnan(values[:, 0])
    require(bool((values[has_scale] > 0).all()), "a scale that is not above 0")
    return TrainingScales(panel.ids[has_scale], values[has_scale])


def _is_name(alias: Any) -> bool:
    return alias is None or type(alias) in (str, int)


def _refuse_objects(name: str, value: Any) -> None:
    """Refuse a setting that JSON cannot hold."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_objects(f"{name}[{key!r}]", inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_objects(name, inner)
    elif name != "random_state" and not isinstance(value, _PLAIN_TYPES):
        raise ValueError(
            f"{name} of type {type(value).__name__} cannot be saved without running code at load;"
            " give it by a name or numbers"
        )


def covariate_files(encoder: CovariateEncoder | None, panel: Panel) -> tuple[Tensors, Facts]:
    """Tensors and facts of how covariates are read, and of those of the end of each series."""
    if encoder is None:
        return {}, {"covariates": None}
    tensors = {}
    for name in _MEASURES:
        measure = getattr(encoder, name)
        tensors[f"covariates.{name}"] = torch.as_tensor(measure)
    if panel.covariates is not None:
        tensors["tail.covariates"] = torch.as_tensor(panel.covariates.values)
    facts = _covariate_facts(encoder, panel)
    return tensors, {"covariates": facts}


def write_model(
    path: Path,
    kind: str,
    tensors: Mapping[str, torch.Tensor],
    facts: Mapping[str, Any],
    inside: Mapping[str, Callable[[Path], None]],
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
        digest = file_digest(folder / _TENSORS)
        contents = {"format": FORMAT, "class": kind, **facts, "sha256": digest}
        for name, save in inside.items():
            save(folder / name)
        if inside:
            contents["inside"] = {name: file_digest(folder / name / _FACTS) for name in inside}
        write_json(folder / _FACTS, contents)

    write_folder(path, write)


def is_own(kind: type[Any]) -> bool:
    """Whether a class is a user's own, which may have the name of one of this package."""
    return not kind.__module__.startswith("tsattn.")


def saved_class(path: Path) -> tuple[str, bool]:
    """Name of the class that :func:`write_model` was told, and whether it is a user's own; files of
    earlier versions do not say so.

    Raises:
        ValueError: If the folder holds no saved forecaster.
    """
    facts = read_folder(path, lambda folder: read_json(folder / _FACTS))
    return str(facts.get("class")), facts.get("own") is True


def read_model(
    path: Path,
    kind: type[Any],
    rebuild: Callable[[Facts, Tensors], _AnyT],
) -> _AnyT:
    """What ``rebuild`` makes of the facts and tensors that :func:`write_model` wrote.

    Args:
        path: The folder.
        kind: The class that must have been saved.
        rebuild: Whatever it raises because of what stands in the files is told as damage to them.

    Raises:
        ValueError: If files are missing, damaged, of another class or of a newer format.
    """

    def read(folder: Path) -> _AnyT:
        facts = read_json(folder / _FACTS)
        saved_format = facts.get("format")
        if saved_format not in range(1, FORMAT + 1):
            raise ValueError(
                f"{path} has format {saved_format!r:.40}; this version reads up to"
                f" {FORMAT}: upgrade tsattn"
            )
        # Files of 0.1 before time zones of every kind have no digest.
        digest = facts.get("sha256")
        tensors, _ = read_tensors(folder / _TENSORS, digest=digest)
        saved_kind = f"{facts.get('class')!r:.60}".strip("'")
        if facts.get("class") != kind.__name__:
            raise ValueError(f"{path} holds a {saved_kind}; load it with {saved_kind}.load")
        is_saved_own = facts.get("own", is_own(kind))
        if is_saved_own != is_own(kind):
            owner = "an imported module of your own" if is_saved_own else "tsattn"
            raise ValueError(
                f"{path} holds a {saved_kind} of {owner}; load it with load of that class"
            )
        try:
            present_facts, present_tensors = of_present_format(facts, tensors)
            return rebuild(present_facts, present_tensors)
        except (ClassMissing, HolidaysMissing):  # no damage, and its message says what to do
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
    # A list of weights may be as long as there are tensors.
    largest = max([n_rows, len(weights), *tensor_sizes])
    for name, size in sizes.items():
        require(size <= largest, f"{name} = {size} fits no tensor")


def of_present_format(facts: Facts, tensors: Tensors) -> tuple[Facts, Tensors]:
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
    columns = names if wide else []
    dialect = {**panel["dialect"], "columns": columns}
    panel = {**panel, "dialect": dialect}
    facts = {**facts, "panel": panel}
    if "scaler.mean" in tensors:
        # Files of 0.1 before target transforms have one scale only.
        tensors = {_SCALES: tensors["scaler.scale"], **tensors}
    if not wide:
        return facts, tensors
    n_series = len(names)
    # The channels of one table become series, one after another.
    values = tensors["tail.values"]
    times = tensors["tail.times"]
    n_rows = len(times)
    require(values.shape == (n_rows, n_series), "values do not fit")
    facts["panel"] |= {"ids": names, "ids_dtype": "object"}
    tensors = {
        **tensors,
        "tail.values": values.T.reshape(-1, 1),
        "tail.starts": n_rows * torch.arange(n_series + 1),
        "tail.times": times.repeat(n_series),
    }
    if "tail.covariates" in tensors:
        covariate_values = tensors["tail.covariates"]
        tensors["tail.covariates"] = covariate_values.repeat(n_series, 1)
    if facts.get("covariates") is not None:
        covariates = facts["covariates"]
        series = covariates["series"] * n_series
        facts["covariates"] = {**covariates, "series": series}
    if "scaler.mean" in tensors:
        mixed = facts["network"].get("mixed_channels", 0) > 0
        tensors |= _scales_of_series(tensors, mixed=mixed)
    return facts, tensors


def _scales_of_series(tensors: Tensors, *, mixed: bool) -> Tensors:
    """Scales and errors ``[n, F, C]`` of the channels of a wide table as those of series."""
    scales = {_SCALES: tensors[_SCALES].T}
    if mixed:
        return scales
    scales |= {name: tensors[name].T for name in ("scaler.mean", "scaler.scale")}
    errors = tensors.get("intervals.errors")
    if errors is None:
        return scales
    sizes = errors.nanmean(dim=(0, 1))
    # Errors of zero have no scale to be divided by.
    sizes = torch.where(sizes > 0, sizes, torch.ones_like(sizes))
    n_steps = errors.shape[1]
    shares = (errors / sizes).permute(2, 0, 1)
    return scales | {
        "intervals.errors": shares.reshape(-1, n_steps, 1),
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
    signature = inspect.signature(cls)
    defaults = {name: parameter.default for name, parameter in signature.parameters.items()}
    groups = {name: value for name, value in defaults.items() if isinstance(value, Settings)}
    if not groups.keys() & arguments.keys():
        # Files from before the groups have their settings one by one.
        present = {name: value for name, value in arguments.items() if name not in _GONE}
        return arranged(cls, present)
    for name, default in groups.items():
        if name in arguments:
            settings = {key: _tupled(value) for key, value in arguments[name].items()}
            kind = type(default)
            arguments[name] = kind(**settings)
    return arguments


def _tupled(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tupled(item) for item in value)
    return value


def tail_tensors(panel: Panel) -> Tensors:
    """The end of each series, to be written."""
    arrays = panel_arrays(panel)
    return {f"tail.{name}": torch.as_tensor(array) for name, array in arrays.items()}


def tail_from(facts: Facts, tensors: Mapping[str, torch.Tensor]) -> Panel:
    """The end of each series as it was written; errors as :func:`tsattn.data.stored.panel_from`."""
    names = ("values", "starts", "times")
    arrays = {name: tensors[f"tail.{name}"].numpy() for name in names}
    return panel_from(facts, arrays)


def _covariate_facts(encoder: CovariateEncoder, panel: Panel) -> Facts:
    columns = encoder.columns
    covariates = panel.covariates
    row_categories: Any = ()
    static_values = []
    if covariates is not None:
        row_categories = covariates.categories
        static_values = covariates.static.tolist()
    return {
        "past": [exact(column, "past_cols") for column in columns.past],
        "future": [exact(column, "future_cols") for column in columns.future],
        "static": [exact(column, "static_cols") for column in columns.static],
        "calendar": list(columns.calendar),
        "categories": [None if names is None else list(names) for names in encoder.categories],
        "moving": columns.categories,
        "rows": row_categories,
        "series": static_values,
    }


def covariates_from(
    saved: Facts, tensors: Tensors, panel: Panel
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
    n_moving = len(columns.moving)
    n_static = len(columns.static)
    fits = values.shape == (len(panel.values), n_moving)
    is_finite = values.dtype == np.float64 and bool(np.isfinite(values).all())
    require(fits and is_finite, "covariates do not fit the rows")
    for k, names in enumerate(row_categories):
        if names is not None:
            # The values of such a column are the places of its categories.
            places = range(len(names))
            is_place = np.isin(values[:, k], places)
            require(bool(is_place.all()), "categories do not fit the rows")
    require(len(facts["series"]) == panel.n_series, "static columns do not fit the series")
    static = np.empty((panel.n_series, n_static), dtype=object)
    for n, row in enumerate(facts["series"]):
        static[n] = [_static(value) for value in row]
    covariates = Covariates(columns.moving, values, columns.static, static, row_categories)
    panel = replace(panel, covariates=covariates)
    encoder.check(panel)
    return panel, encoder


def _saved_columns(facts: Facts, panel: Panel) -> tuple[CovariateColumns, _Categories]:
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
    categories = _categories(facts.get("moving", ()))
    if not categories:
        categories = (None,) * n_moving
    row_categories = _categories(facts.get("rows", ()))
    fits = len(categories) == n_moving and len(row_categories) in (0, n_moving)
    require(fits, "categories do not fit the columns")
    columns = replace(columns, categories=categories)
    return columns, row_categories


def _saved_encoder(columns: CovariateColumns, facts: Facts, tensors: Tensors) -> CovariateEncoder:
    """How a saved forecaster reads its covariates."""
    categories = _categories(facts["categories"])
    require(len(categories) == len(columns.static), "static columns")
    measures = {}
    for name in _MEASURES:
        names = columns.static if name.startswith("static") else columns.moving
        size = len(names)
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
        if names is None:
            continue
        distinct = tuple(sorted(set(names)))
        is_sorted = names == distinct and len(names) > 0
        require(is_sorted, "categories in disorder")
        are_text = all(type(name) is str for name in names)
        require(are_text, "categories are no text")
    return categories


def _static(value: Any) -> float | str:
    is_number = type(value) is float and math.isfinite(value)
    require(type(value) is str or is_number, f"static value {value!r:.40}")
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
    return str(value) if isinstance(value, Path | torch.device) else None
