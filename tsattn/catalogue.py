"""The names of the forecasters, the settings of each, and a forecast in one call."""

import inspect
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from tsattn.checks import Argument, InputError, InPython, Name
from tsattn.data.columns import TableLike, as_frame, find_time_col, numbers_rows
from tsattn.data.frames import name_columns, with_fields
from tsattn.data.panel import Panel, as_word
from tsattn.data.schema import Schema
from tsattn.forecaster import Forecaster
from tsattn.forecasts import Data, Forecast
from tsattn.levels import Numbers, check_request
from tsattn.settings import Settings


@dataclass(frozen=True)
class Entry:
    """The forecaster that a name stands for.

    Args:
        home: Module and name of the class, such as ``"naive.Naive"``, below ``tsattn.forecasters``.
        fixed: Arguments that belong to the name.
        trained: Whether it learns weights, so that context, seed and epochs mean something to it.
    """

    home: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    trained: bool = False

    def find(self) -> type[Forecaster]:
        """The class; its module is loaded by this call."""
        module_name, class_name = self.home.split(".")
        module = import_module(f"tsattn.forecasters.{module_name}")
        return getattr(module, class_name)

    def settings(self) -> tuple[str, ...]:
        """Names of the settings that are left to choose: arguments, and fields of those arguments
        that are groups of settings. The horizon is not among them.
        """
        parameters = inspect.signature(self.find()).parameters
        names = list(parameters)
        for parameter in parameters.values():
            if isinstance(parameter.default, Settings):
                names += parameter.default.get_params()
        return tuple(name for name in names if name != "horizon" and name not in self.fixed)

    def __call__(self, horizon: int, **settings: Any) -> Forecaster:
        """Make the forecaster, as :meth:`tsattn.forecaster.Forecaster.from_settings` does."""
        return self.find().from_settings(horizon=horizon, **self.fixed, **settings)


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
# Name of the catalogue -> name of the model in GluonTS.
_GLUONTS = {"deepar": "deepar", "patchtst_gluonts": "patchtst", "dlinear_gluonts": "dlinear"}

# The first models to try.
_KNOWN_BEST = ("zero", "auto", "mlr", "gbm", "auto_ets", "seasonal_naive")

# Models that share a class, and so may share settings.
GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"attention": _ATTENTIONS, "linear": _LINEAR}
)


def _entries(
    home: str, setting: str, names: Iterable[str], *, trained: bool = False
) -> dict[str, Entry]:
    """Models of one class that differ in one setting, whose values are their names."""
    return {name: Entry(home, {setting: name}, trained) for name in names}


_statsforecast = partial(_entries, "statsforecast.StatsforecastForecaster", "model")
# In the order in which messages list the names.
_ENTRIES = {
    **_entries("attention.AttentionForecaster", "attention", _ATTENTIONS, trained=True),
    **_entries("linear.LinearForecaster", "kind", _LINEAR, trained=True),
    "least_squares": Entry(
        "linear.LinearForecaster", {"kind": "rlinear", "closed_form": True}, trained=True
    ),
    "zero": Entry("pretrained.PretrainedForecaster"),
    "auto": Entry("auto.AutoForecaster", trained=True),
    "naive": Entry("naive.Naive"),
    "seasonal_naive": Entry("naive.SeasonalNaive"),
    "drift": Entry("naive.Drift"),
    "window_average": Entry("naive.WindowAverage"),
    **_statsforecast(("ets", "theta")),
    **_entries("classical.StatsmodelsForecaster", "model", ("autoreg", "sarimax", "stl_ets")),
    **_statsforecast(("auto_ets", "auto_arima", "dynamic_theta", "croston", "tsb", "adida")),
    **_entries("regression.SklearnForecaster", "regressor", ("ridge", "gbm"), trained=True),
    **{
        name: Entry("gluonts.GluonTSForecaster", {"model": model}, trained=True)
        for name, model in _GLUONTS.items()
    },
}
MODELS: Mapping[str, Entry] = MappingProxyType(_ENTRIES)


# Forecasters that hold another one and have no name of their own.
_WRAPPERS = ("evaluate.conformal.SplitConformal", "evaluate.conformal.AdaptiveConformal")


def find_model(name: str) -> Entry:
    """The entry of a name.

    Args:
        name: One of ``MODELS``.

    Raises:
        ValueError: If the name is unknown.
    """
    if isinstance(name, str) and name in MODELS:
        return MODELS[name]
    matches = _similar(str(name), MODELS)
    advice = f"use one such as {', '.join(_KNOWN_BEST)};"
    if matches:
        advice = f"did you mean {' or '.join(matches)}?"
    raise ValueError(f"model {name!r} is unknown; {advice} `tsattn models` lists all {len(MODELS)}")


def _similar(name: str, names: Collection[str]) -> list[str]:
    """The names that resemble one, at most three, the most similar first; capitals and separators
    do not count.
    """
    plain_names = {_plain_name(known_name): known_name for known_name in names}
    matches = get_close_matches(_plain_name(name), plain_names, n=3, cutoff=0.6)
    return [plain_names[match] for match in matches]


def _plain_name(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "").replace(" ", "")


def make_forecaster(name: str, horizon: int, **params: Any) -> Forecaster:
    """Make a forecaster by its name in the catalogue.

    Args:
        name: One of ``MODELS``, such as ``"mlr"`` or ``"seasonal_naive"``.
        horizon: Rows to forecast, at least 1.
        **params: Settings of its class by name, including the fields of ``network``, ``training``
            and ``schema``: ``d_model=32, max_epochs=5, time_col="date"``. ``alias`` defaults to
            ``name``.

    Returns:
        A forecaster that is not fitted yet.

    Raises:
        ValueError: If the name is unknown or has no such setting.

    Example:
        >>> make_forecaster("naive", 12).alias
        'naive'
    """
    for setting in params:
        _require_setting(name, setting)
    return find_model(name)(horizon, **{"alias": name, **params})


def load_forecaster(path: str | Path) -> Forecaster:
    """Read a saved forecaster of any class. Import the module of a class of your own first.

    Args:
        path: The folder that ``save`` wrote.

    Raises:
        ValueError: If files are missing or damaged, or no imported module has the class.
    """
    from tsattn.store import ClassMissing, saved_class

    class_name, is_own = saved_class(Path(path))
    homes = [f"forecasters.{entry.home}" for entry in MODELS.values()]
    for home in (*_WRAPPERS, *homes):
        module, _, name = home.rpartition(".")
        if name == class_name and not is_own:
            forecaster_class = getattr(import_module(f"tsattn.{module}"), name)
            return forecaster_class.load(path)
    # A notebook may define a class again: the last one counts.
    for own_class in reversed(_own_classes(Forecaster)):
        if own_class.__name__ == class_name:
            return own_class.load(path)
    raise ClassMissing(
        f"{path} holds a {class_name:.60}, which no imported module defines; import your class of"
        " that name first, or upgrade tsattn"
    )


def _own_classes(parent: type[Any]) -> list[type[Any]]:
    """The subclasses of a class, and theirs, that are defined outside of this package."""
    from tsattn.store import is_own

    classes = []
    for child in parent.__subclasses__():
        if is_own(child):
            classes.append(child)
        classes += _own_classes(child)
    return classes


def settings_for(name: str, **params: Any) -> dict[str, Any]:
    """Select the settings that are not ``None`` and mean something to a model.

    A list of models shares one command line: ``context`` and ``max_epochs`` are for the trained
    ones, ``season_length`` for the seasonal ones.

    Args:
        name: One of ``MODELS``.
        **params: Settings by name; ``None`` leaves the model's default.
    """
    entry = find_model(name)
    setting_names = set(entry.settings())
    if not entry.trained:
        setting_names.discard("context")
    return {
        setting: value
        for setting, value in params.items()
        if value is not None and setting in setting_names
    }


def forecast(
    data: Data,
    horizon: int,
    *,
    level: Numbers | None = None,
    quantiles: Numbers | None = None,
    future: TableLike | None = None,
    schema: Schema | None = None,
    model: str = "zero",
    **settings: Any,
) -> pd.DataFrame | Forecast:
    """Forecast the rows after a table in one call; the default model needs no training.

    Args:
        data: Long frame (id, time, value), wide frame (one column a series), one series with
            stamps, periods or integers in its index, a dict of columns, a bare list or array of
            values, or a ``Panel``. Frames and series may be those of pandas, polars, pyarrow, or
            any library with ``to_pandas`` or the dataframe interchange protocol.
        horizon: Rows to forecast.
        level: Central intervals in percent, such as 80 or ``[80, 95]``.
        quantiles: Quantiles as probabilities, such as ``[0.1, 0.9]``.
        future: Id, time and covariates of the rows to forecast, for a model that reads covariates.
            The columns must be in ``data`` as well.
        schema: How a table is read: names of columns, frequency, missing values; default
            ``Schema()``.
        model: Name in the catalogue, such as ``"zero"``, ``"auto"``, ``"mlr"`` or
            ``"seasonal_naive"``; it is fitted on ``data``.
        **settings: Fields of the schema, such as ``freq``, ``missing`` or ``time_col``, which
            override those of ``schema``, and settings of the model, such as ``season_length``,
            ``point`` or ``max_time``.

    Returns:
        A frame in the layout of ``data``. A long one has ids, stamps, the forecast in a column
        named after the model, two columns for each level (``zero-lo-80``, ``zero-hi-80``) and one
        for each quantile (``zero-q0.1``). A wide one has such columns for each series. A ``Panel``
        gives a :class:`tsattn.Forecast`.

    Raises:
        TypeError: If ``data`` is not a table.
        ValueError: If the table is faulty, the model or a setting is unknown, or the model has no
            such quantiles.

    Example:
        >>> forecast([3.0, 1.0, 2.0], 2, model="naive")["y"].tolist()
        [2.0, 2.0]
    """
    levels, probabilities, _ = check_request(level, quantiles)
    if schema is None:
        schema = Schema()
    settings = {name: value for name, value in settings.items() if value is not None}
    schema_fields = {name: settings.pop(name) for name in schema.get_params() if name in settings}
    data, schema = with_fields(data, schema, schema_fields)
    if future is not None:
        data, schema = with_future_columns(data, future, schema)
    forecaster = make_forecaster(model, horizon, schema=schema, **settings)
    if future is not None and not forecaster.covariate_columns:
        raise InputError(
            f"model {model!r} reads no future columns; leave ",
            Argument("future"),
            " out, or take one such as 'zero'",
        )
    return forecaster.fit(data).predict(level=levels, quantiles=probabilities, future=future)


def with_future_columns(data: Any, future: Any, schema: Schema) -> tuple[Any, Schema]:
    """The table, and a schema that names the columns of a table of the rows after it.

    Args:
        data: The table.
        future: The rows after it.
        schema: How the table is read; it stays where it names future columns.

    Raises:
        ValueError: If there are no such columns, or the table lacks one.
    """
    if schema.columns.future:
        return data, schema
    is_long = True
    if not isinstance(data, Panel):
        # Columns that name series are no covariates.
        no_values = [*as_frame(future).columns]
        data, schema, is_long = name_columns(data, schema, no_values=no_values)
    future_cols = _future_cols(future, schema)
    if not is_long:
        future_cols = _without_series(data, future, future_cols, schema)
    if not future_cols:
        raise InputError(
            Argument("future"),
            " holds no column beside ids and stamps whose values are known ahead; leave ",
            Argument("future"),
            " out, or add such columns to both tables",
        )
    lacking = [] if isinstance(data, Panel) else [n for n in future_cols if n not in data]
    if lacking:
        _refuse_other_name(lacking[0], [*data.columns])
        raise InputError(
            f"column {lacking[0]!r} of ",
            Argument("future"),
            " is not in the table, whose rows must show its effect; leave it out of ",
            Argument("future"),
            ", or add it to the table",
        )
    return data, schema.changed(future_cols=future_cols)


def _refuse_other_name(lacking: Hashable, columns: Sequence[Hashable]) -> None:
    """Refuse a column of the future whose name differs in spaces or capitals only from one of the
    table.
    """
    alike = [column for column in columns if as_word(column) == as_word(lacking)]
    if alike:
        call = f": future = future.rename(columns={{{lacking!r}: {alike[0]!r}}})"
        raise InputError(
            f"column {lacking!r} of ",
            Argument("future"),
            f" is called {alike[0]!r} in the table, but both need one name; rename it",
            InPython(call),
        )


def _require_setting(model: str, setting: str) -> None:
    """Refuse a setting that neither the schema nor the model has."""
    setting_names = find_model(model).settings()
    if setting in setting_names:
        return
    matches = _similar(setting, [*setting_names, *Schema().get_params()])
    names = ("zero", "auto", *MODELS)
    takers = [name for name in names if setting in MODELS[name].settings()]
    advice = "leave it out"
    if takers:
        advice += f", or take another model, such as {takers[0]!r}"
    elif matches:
        advice = f"did you mean {' or '.join(matches)}?"
    raise InputError(f"model {model!r} takes no ", Name(setting), f"; {advice}")


def _without_series(
    data: pd.DataFrame, future: Any, future_cols: list[Any], schema: Schema
) -> list[Any]:
    """The future columns of a wide table but for those without a value, which are forecast.

    Raises:
        ValueError: If no column is left to forecast, or several are, so that those of numbers may
            be series as well.
    """
    frame = as_frame(future)
    future_cols = [column for column in future_cols if frame[column].notna().any()]
    time_col = schema.time_col if schema.time_col in data else find_time_col(data)
    others = {time_col, *future_cols, *schema.columns.past}
    left = [
        column for column in data.columns if column not in others and not numbers_rows(data[column])
    ]
    if future_cols and not left:
        raise InputError(
            Argument("future"),
            f" holds values of every column of the table, {future_cols!r}, so none is left to"
            " forecast; name those that are known ahead by ",
            Argument("future_cols", future_cols[-1:]),
            ", or leave the others out of ",
            Argument("future"),
        )
    # One column of numbers among others alike may be a series whose later values are known.
    like_series = [name for name in future_cols if name in data and _is_of_numbers(data[name])]
    if like_series and len(left) > 1:
        raise InputError(
            Argument("future"),
            f" holds values of some columns of a wide table, {like_series!r:.100}, and others are"
            f" left to forecast, {left!r:.100}, so all may be series; name those that are known"
            " ahead by ",
            Argument("future_cols", future_cols),
            ", or leave them out of ",
            Argument("future"),
        )
    return future_cols


def _is_of_numbers(cells: pd.Series) -> bool:
    """Whether a column holds numbers, booleans aside."""
    kind = cells.dtype
    return pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)


def _future_cols(future: Any, schema: Schema) -> list[Any]:
    """The columns of a future frame that are neither id, time nor target, and not named as past or
    static ones.
    """
    frame = as_frame(future)
    named_columns = {*schema.id_cols, schema.time_col, schema.target_col}
    # The other long dialect is read without being named.
    other_dialect = {"item_id", "timestamp", "target"}
    excluded = {*named_columns, *other_dialect, *schema.columns.past, *schema.columns.static}
    time_columns = {schema.time_col, "timestamp"} & {*frame.columns}
    # The stamps of a frame without such a column are in a column of another name, unless they are
    # in an index of several levels.
    if frame.index.nlevels == 1 and not time_columns:
        excluded.add(find_time_col(frame, [*excluded]))
    return [column for column in frame.columns if column not in excluded]
