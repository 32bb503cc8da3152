"""The names of the forecasters, which settings they take, and a forecast in one call."""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from tsattn.data.columns import as_frame, find_time_col
from tsattn.data.frames import Panel, TableLike
from tsattn.data.schema import Schema
from tsattn.forecaster import Forecast, Forecaster
from tsattn.levels import check_request
from tsattn.settings import Settings


@dataclass(frozen=True)
class Entry:
    """One name's forecaster: where its class is found and what the name fixes.

    Args:
        home: Module and name of the class, such as ``"naive.Naive"``, below ``tsattn.forecasters``.
        fixed: Arguments that belong to the name.
        trained: Whether it learns weights, so that context, seed and epochs mean something to it.
        twin: The class that has the same model where the package after which the module is named is
            not installed.
    """

    home: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    trained: bool = False
    twin: str | None = None

    def find(self) -> type[Forecaster]:
        """The class; only now is its module loaded."""
        module, name = self.home.split(".")
        if self.twin is not None and find_spec(module) is None:
            module, name = self.twin.split(".")
        found: type[Forecaster] = getattr(import_module(f"tsattn.forecasters.{module}"), name)
        return found

    def settings(self) -> tuple[str, ...]:
        """Names of the settings that are left to choose, the horizon aside: arguments, and fields
        of those objects.
        """
        parameters = inspect.signature(self.find()).parameters
        inside = [
            n
            for p in parameters.values()
            if isinstance(p.default, Settings)
            for n in p.default.get_params()
        ]
        return tuple(
            name for name in (*parameters, *inside) if name != "horizon" and name not in self.fixed
        )

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
_COMPILED = "statsforecast.StatsforecastForecaster"
_STATSMODELS = "classical.StatsmodelsForecaster"
_NETWORKS = {"deepar": "deepar", "patchtst_gluonts": "patchtst", "dlinear_gluonts": "dlinear"}
_LINEAR = ("nlinear", "dlinear", "rlinear")

# Models that share a class, and so may share settings.
GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"attention": _ATTENTIONS, "linear": _LINEAR}
)

MODELS: Mapping[str, Entry] = MappingProxyType(
    {
        **{
            name: Entry("attention.AttentionForecaster", {"attention": name}, trained=True)
            for name in _ATTENTIONS
        },
        **{
            name: Entry("linear.LinearForecaster", {"kind": name}, trained=True) for name in _LINEAR
        },
        "least_squares": Entry(
            "linear.LinearForecaster", {"kind": "rlinear", "closed_form": True}, trained=True
        ),
        "zero": Entry("pretrained.PretrainedForecaster"),
        "auto": Entry("auto.AutoForecaster", trained=True),
        "naive": Entry("naive.Naive"),
        "seasonal_naive": Entry("naive.SeasonalNaive"),
        "drift": Entry("naive.Drift"),
        "window_average": Entry("naive.WindowAverage"),
        **{name: Entry(_COMPILED, {"model": name}, twin=_STATSMODELS) for name in ("ets", "theta")},
        **{
            name: Entry(_STATSMODELS, {"model": name}) for name in ("autoreg", "sarimax", "stl_ets")
        },
        **{
            name: Entry(_COMPILED, {"model": name})
            for name in ("auto_ets", "auto_arima", "dynamic_theta", "croston", "tsb", "adida")
        },
        **{
            name: Entry("regression.SklearnForecaster", {"regressor": name}, trained=True)
            for name in ("ridge", "gbm")
        },
        **{
            name: Entry("gluonts.GluonTSForecaster", {"model": m}, trained=True)
            for name, m in _NETWORKS.items()
        },
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
        **params: Settings of its class by their bare names, those of ``network``, ``training`` and
            ``schema`` among them: ``d_model=32, max_epochs=5, time_col="date"``. ``alias`` defaults
            to ``name``.

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
            raise ValueError(
                f"model {name!r} has no setting {given!r}; it takes {', '.join(known)}"
            )
    return entry(horizon, **{"alias": name, **params})


def load_forecaster(path: str | Path) -> Forecaster:
    """Read what a forecaster's ``save`` wrote, whichever class it has.

    Args:
        path: The folder.

    Raises:
        ValueError: If files are missing, damaged, or of a class that the catalogue does not know.
    """
    from tsattn.forecasters.saving import saved_class

    kind = saved_class(Path(path))
    for home in dict.fromkeys(entry.home for entry in MODELS.values()):
        if home.split(".")[1] == kind:
            cls: Any = Entry(home).find()
            found: Forecaster = cls.load(path)
            return found
    raise ValueError(f"{path} holds a {kind}, which this version does not know; upgrade tsattn")


def settings_for(name: str, **params: Any) -> dict[str, Any]:
    """Those of ``params`` that are given (not None) and mean something to a model.

    A list of models shares one command line: ``context`` and ``max_epochs`` are for the trained
    ones, ``season_length`` for the seasonal ones.

    Args:
        name: One of ``MODELS``.
        **params: Settings, ``None`` where nothing was asked.
    """
    entry = find_model(name)
    known = set(entry.settings()) - (set() if entry.trained else {"context"})
    return {key: value for key, value in params.items() if value is not None and key in known}


def forecast(
    data: TableLike | Panel,
    horizon: int,
    *,
    level: float | Iterable[float] | None = None,
    quantiles: float | Iterable[float] | None = None,
    future: TableLike | None = None,
    schema: Schema | None = None,
    model: str = "zero",
) -> pd.DataFrame | Forecast:
    """Forecast the rows after a table: one call, and with the default model no training.

    Args:
        data: Long frame (id, time, value), wide frame (one column a series), one series with
            stamps, periods or integers in its index, a bare list or array of values, or a
            ``Panel``. Frames and series may be those of pandas, polars, pyarrow, or any library
            with ``to_pandas`` or the dataframe interchange protocol.
        horizon: Rows to forecast.
        level: Central intervals in percent, such as 80 or ``[80, 95]``.
        quantiles: The same by probability, such as ``[0.1, 0.9]``.
        future: Columns whose values are known after the last row, for models that read some: their
            id, time and values in the rows to forecast. The columns must be in ``data`` as well.
        schema: How a frame is read: names of columns, frequency, missing values; default
            :class:`tsattn.Schema`'s.
        model: Name in the catalogue, such as ``"zero"``, ``"mlr"`` or ``"seasonal_naive"``; what
            must be fitted is.

    Returns:
        A frame in the dialect of ``data``: its ids and stamps, or its index; the forecast, a column
        named after the model (of a wide table, one a channel); and two a level and one a quantile.
        A ``Panel`` gives a :class:`tsattn.Forecast`.

    Raises:
        TypeError: If ``data`` is of another kind.
        ValueError: If the table is faulty, the model is unknown, or cannot give what is asked.

    Example:
        >>> forecast([3.0, 1.0, 2.0], 2, model="naive")["y"].tolist()
        [2.0, 2.0]
    """
    levels, asked, _ = check_request(level, quantiles)
    schema = Schema() if schema is None else schema
    if future is not None and not schema.columns.future:
        schema = schema.changed(future_cols=_future_cols(future, schema))
    forecaster = make_forecaster(model, horizon, schema=schema)
    if future is not None and not forecaster.covariate_columns:
        raise ValueError(
            f"model {model!r} reads no future columns; leave future= out, or take one such as 'mlr'"
        )
    return forecaster.fit(data).predict(level=levels, quantiles=asked, future=future)


def _future_cols(future: Any, schema: Schema) -> list[Any]:
    """The columns of a future frame that are neither id nor time."""
    frame = as_frame(future)
    known = {schema.id_col, schema.time_col, schema.target_col, "item_id", "timestamp", "target"}
    if frame.index.nlevels == 1 and not {schema.time_col, "timestamp"} & {*frame.columns}:
        known.add(find_time_col(frame, [*known]))
    return [column for column in frame.columns if column not in known]
