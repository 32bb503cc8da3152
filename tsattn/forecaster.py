"""What every forecaster does, and what its answer looks like as arrays and as a frame."""

import copy
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd

from tsattn.data.covariates import CovariateColumns
from tsattn.data.frames import Dialect, Panel, TableLike, future_times, require_length, to_panel
from tsattn.data.schema import Schema
from tsattn.data.windows import History, check_windows, chunk_size
from tsattn.levels import check_request, interval_columns, refuse_twice
from tsattn.settings import Settings, check_settings

if TYPE_CHECKING:  # what only covariates need is imported by the forecasters that read some
    from tsattn.data.encoding import CovariateHistory, CovariateWindows


class Forecaster(ABC):
    """Anything that forecasts ``horizon`` rows from the rows before them.

    A forecaster of one's own is a subclass with a constructor that stores its arguments under their
    names, ``horizon``, ``alias`` and ``schema`` among them, and these two methods: :meth:`_learn`,
    which learns from a panel, and :meth:`_forecast`, which answers windows. Tables, covariates,
    chunks, intervals, frames and errors are done here.

    Attributes:
        horizon: Rows forecast ahead.
        alias: Name of the forecast columns; ``None`` is the forecaster's own name.
        context: Rows of history that it needs, at least 1; ``None`` where ``fit`` chooses them and
            puts them into ``context_``.
        schema: How tables are read.
        nonnegative: Whether forecasts below 0 are raised to 0 for series without a negative value;
            networks, for all.
        panel_: The series of the last ``fit``, or as much of them as a forecast needs.
        panel_in_: Whether they were given as a ``Panel``.
    """

    # What is done about missing values where the schema says nothing.
    default_missing: ClassVar[str] = "error"
    # Settings that a fit is bound to: after a change it has to be made anew.
    bound: ClassVar[tuple[str, ...]] = ()

    horizon: int
    alias: str | None
    context: Any
    schema: Schema
    nonnegative: bool = False
    panel_: Panel
    panel_in_: bool
    bound_: Mapping[str, Any]

    # --- what a subclass says ---------------------------------------------------------------------

    @abstractmethod
    def _learn(self, panel: Panel) -> None:
        """Learn from all rows, or refuse them; attributes that are learnt end with an
        underscore.
        """

    @abstractmethod
    def _forecast(
        self, x: np.ndarray, quantiles: Sequence[float], covariates: "CovariateWindows | None"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points ``[B, F, C]`` and quantiles ``[B, F, C, Q]`` of checked contexts ``x [B, T, C]``,
        in one pass.
        """

    @property
    def name(self) -> str:
        """Its own name: what its columns are called without an alias."""
        return type(self).__name__

    @property
    def covariate_columns(self) -> CovariateColumns:
        """What the next ``fit`` reads beside the target; nothing, if a forecaster does not say
        otherwise.
        """
        return CovariateColumns()

    @property
    def covariate_columns_(self) -> CovariateColumns:
        """What the last ``fit`` read beside the target."""
        return self.covariate_columns

    @property
    def masks(self) -> bool:
        """Whether missing values are left out of account."""
        return False

    # --- settings ---------------------------------------------------------------------------------

    @classmethod
    def from_settings(cls, **settings: Any) -> Self:
        """Make one of settings by their bare names: ``d_model`` goes into ``network``, ``freq``
        into ``schema``.

        Args:
            **settings: Arguments of the constructor, or fields of the objects among them.

        Raises:
            ValueError: If a name is unknown or a value out of its range.
        """
        return cls(**cls.arranged(settings))

    @classmethod
    def arranged(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of the constructor from settings by their bare names.

        Args:
            settings: As :meth:`from_settings` takes them.

        Raises:
            ValueError: If a name is unknown or a value out of its range.
        """
        parameters = inspect.signature(cls).parameters
        groups = {
            name: p.default for name, p in parameters.items() if isinstance(p.default, Settings)
        }
        homes = {key: name for name, group in groups.items() for key in group.get_params()}
        given = {name: value for name, value in settings.items() if name in parameters}
        inside: dict[str, dict[str, Any]] = {}
        for name, value in settings.items():
            if name not in parameters and name not in homes:
                raise ValueError(
                    f"{cls.__name__} has no setting {name!r}; it has"
                    f" {', '.join((*parameters, *homes))}"
                )
            if name not in parameters:
                inside.setdefault(homes[name], {})[name] = value
        for name, values in inside.items():
            given[name] = given.get(name, groups[name]).changed(**values)
        return given

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor and their values.

        Args:
            deep: Also those inside of settings, as ``network__d_model``.
        """
        found = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        inside: dict[str, Any] = {}
        for name, value in found.items():
            if deep and isinstance(value, Settings | Forecaster):
                inside |= {f"{name}__{key}": each for key, each in value.get_params().items()}
        return found | inside

    def set_params(self, **params: Any) -> Self:
        """Change arguments of the constructor; they count from the next ``fit`` or ``predict`` on.

        Args:
            **params: New values by name; ``network__d_model`` changes ``d_model`` inside of
                ``network``.

        Raises:
            ValueError: If a name is unknown or a value out of its range; nothing is changed then.
        """
        known = self.get_params(deep=False)
        inside: dict[str, dict[str, Any]] = {}
        plain = {}
        held = []
        for name, value in params.items():
            group, _, key = name.partition("__")
            if group not in known:
                raise ValueError(
                    f"{type(self).__name__} has no parameter {group!r}; it takes {', '.join(known)}"
                )
            if key:
                inside.setdefault(group, {})[key] = value
            else:
                plain[name] = value
        for group, values in inside.items():
            given = plain.get(group, known[group])
            if isinstance(given, Forecaster):
                held.append((given, values))
            elif isinstance(given, Settings):
                plain[group] = given.changed(**values)
            else:
                told = f"{group}__{next(iter(values))}"
                raise ValueError(
                    f"{group} of {type(self).__name__} has no parameters of its own; got {told}"
                )
        type(self)(**{**known, **plain})  # refuses what a constructor refuses
        for forecaster, values in held:
            forecaster.set_params(**values)
        for name, value in plain.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        told = [
            f"{n}={v!r}"
            for n, v in self.get_params(deep=False).items()
            if not _same(v, defaults[n].default)
        ]
        return f"{type(self).__name__}({', '.join(told)})"

    # --- what everybody may ask -------------------------------------------------------------------

    @property
    def alias_(self) -> str:
        """Name of the forecast columns: the alias, else the forecaster's own name."""
        return self.name if self.alias is None else str(self.alias)

    @property
    def min_context(self) -> int:
        """Rows of history that a forecast needs: ``context_`` once fitted, otherwise ``context``.

        Raises:
            ValueError: If neither is a positive integer.
        """
        fitted = vars(self).get("context_")
        context = self.context if fitted is None else fitted
        if isinstance(context, bool) or not isinstance(context, Integral) or context < 1:
            raise ValueError(
                f"{type(self).__name__} must say how many rows of history it needs, at least 1; got"
                f" context = {context!r}: fit it first, or set context="
            )
        return int(context)

    @property
    def max_context(self) -> int:
        """Rows of history that are read where there are so many; windows of shorter series begin
        with NaN.
        """
        return self.min_context

    def fit(self, data: TableLike | Panel, y: None = None, *, verbose: bool = False) -> Self:
        """Learn from all rows of a table; what was learnt before is forgotten.

        Args:
            data: A long or wide frame or a series, as :func:`tsattn.forecast` takes them, or a
                panel.
            y: Ignored; scikit-learn passes it.
            verbose: Show progress on stderr where that is a terminal and learning takes time.

        Raises:
            ValueError: If the table is faulty, a series too short, or a setting not usable; nothing
                is changed then.
        """
        fresh = copy.copy(self)  # what was learnt before has no say, and stays where this fit fails
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(fresh, name)
        fresh._learn(panel := fresh.read(data))
        fresh.panel_, fresh.panel_in_ = panel, isinstance(data, Panel)
        fresh.bound_ = {name: getattr(fresh, name) for name in self.bound}
        self.__dict__ = vars(fresh)
        return self

    def predict(
        self,
        data: TableLike | Panel | None = None,
        *,
        level: float | Iterable[float] | None = None,
        quantiles: float | Iterable[float] | None = None,
        horizon: int | None = None,
        future: TableLike | None = None,
        recursive: bool = False,
    ) -> "pd.DataFrame | Forecast":
        """Forecast the rows after the end of each series, without fitting again; series may be new.

        Args:
            data: Series to continue; ``None`` continues those of ``fit``.
            level: Central intervals in percent, such as 80 or ``[80, 95]``.
            quantiles: The same numbers by probability, such as ``[0.1, 0.9]``.
            horizon: Steps to give: up to the forecaster's own (the default) the first of them;
                ``zero`` gives more.
            future: Id, time and future columns of the rows after each series' end
                (:meth:`make_future_frame`), in any order, for a forecaster that reads some. A wide
                table's has no ids.
            recursive: For more steps than the forecaster's, take the forecast for the history and
                go on, again and again. Errors add up and nobody measured them, so there are points
                only.

        Returns:
            A frame in the dialect of ``data``, or a :class:`tsattn.Forecast` for a panel.

        Raises:
            ValueError: If not fitted, a table is faulty, a series too short, ``future`` not
                complete, or more is asked than the forecaster can give.
        """
        self.check_fitted()
        asked: dict[str, Any] = {"level": level, "quantiles": quantiles, "horizon": horizon}
        forecast = forecast_panel(
            self, self.series(data), **asked, future=future, recursive=recursive
        )
        as_panel = self.panel_in_ if data is None else isinstance(data, Panel)
        return forecast if as_panel else forecast.to_frame()

    def reaching(self, steps: int) -> Self:
        """Itself, or what gives so many steps without feeding forecasts back."""
        return self

    def predict_windows(
        self,
        x: np.ndarray,
        *,
        quantiles: Sequence[float] = (),
        covariates: "CovariateWindows | None" = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Forecast each window by itself; points and quantiles come from one pass.

        Args:
            x: Histories in original units, ``[B, T, C]`` with T at least ``min_context``; the last
                ``max_context`` rows are read.
            quantiles: Q probabilities, ascending, strictly between 0 and 1.
            covariates: Those of the same windows, for a forecaster that reads some, as
                :class:`tsattn.data.encoding.CovariateHistory` cuts them.

        Returns:
            Points ``[B, F, C]`` and quantiles ``[B, F, C, Q]``, in float64.

        Raises:
            ValueError: If the shape does not fit, a value is not finite, covariates are missing or
                nobody reads them, or quantiles are asked of a forecaster that gives points only.
        """
        return self._answer_windows(x, quantiles, covariates)

    def _answer_windows(
        self,
        x: np.ndarray,
        quantiles: Sequence[float],
        covariates: "CovariateWindows | None",
        **known: Any,
    ) -> tuple[np.ndarray, np.ndarray]:
        """What :meth:`predict_windows` answers; ``known`` of the windows goes on to
        :meth:`_forecast`.
        """
        asked = check_request(None, tuple(quantiles))[2]
        columns = self.covariate_columns_
        shape = np.shape(x)
        x = self._checked(x)
        if columns:
            from tsattn.data.encoding import check_windows_of

            covariates = check_windows_of(covariates, columns, shape, self.horizon).cut(
                x.shape[1], self.horizon
            )
        elif covariates is not None:
            raise ValueError(
                f"covariates= was given, but {self.alias_} reads none; leave it out, or fit with"
                " some"
            )
        point, bounds = self._forecast(x, asked, covariates, **known)
        shape = (x.shape[0], self.horizon, x.shape[2])
        return self._shaped(point, shape), self._shaped(bounds, (*shape, len(asked)))

    def predict_before(
        self,
        history: History,
        ends: np.ndarray,
        *,
        quantiles: Sequence[float] = (),
        covariates: "CovariateWindows | None" = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Forecast from rows of a panel: what :meth:`predict_windows` answers to the windows before
        them.

        A forecaster that knows its series by their ids may make use of that here, where it sees
        whose windows they are.

        Args:
            history: Of the panel.
            ends: Absolute rows just after the last row of each window, ``[B]``.
            quantiles: As in :meth:`predict_windows`.
            covariates: Those of the same windows, with as many rows of history or more.

        Returns:
            As :meth:`predict_windows`.

        Raises:
            ValueError: As :meth:`predict_windows`.
        """
        x = self.windows(history, ends)
        given = covariates and covariates.cut(x.shape[1], self.horizon)
        return self.predict_windows(x, quantiles=quantiles, covariates=given)

    def _checked(self, x: np.ndarray) -> np.ndarray:
        """Windows as :meth:`_forecast` takes them."""
        context = self.min_context
        most = self.max_context
        if most == context:
            return check_windows(x, context)[:, -context:]
        x = np.asarray(x, dtype=np.float64)
        # What lies before the rows that are needed may be missing.
        check_windows(x[:, -context:] if x.ndim == 3 else x, context)
        return x[:, -most:]

    def _shaped(self, answer: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        answer = np.asarray(answer, dtype=np.float64)
        if answer.shape != shape:
            raise ValueError(
                f"{self.alias_} must answer windows, steps, channels as {shape}; got {answer.shape}"
            )
        return answer

    def make_future_frame(
        self, data: TableLike | Panel | None = None, *, horizon: int | None = None
    ) -> pd.DataFrame:
        """The rows that ``predict`` needs as ``future``, with the future columns empty, to be
        filled in.

        Args:
            data: Series to continue; ``None`` continues those of ``fit``.
            horizon: Steps; default the forecaster's.

        Returns:
            Id, time and future columns, in the dialect of the table.
        """
        from tsattn.data.future import future_frame

        self.check_fitted()
        steps = self.horizon if horizon is None else check_horizon(horizon)
        return future_frame(self.series(data), self.covariate_columns_, steps)

    # --- tables and windows -----------------------------------------------------------------------

    def check_fitted(self) -> None:
        """Refuse to go on before ``fit``, or after a change of what it is bound to.

        Raises:
            ValueError: If it has not run, or has run with another ``horizon``, say.
        """
        if vars(self).get("panel_") is None:
            raise ValueError(f"{type(self).__name__} is not fitted; call fit(data) before predict")
        for name, fitted in vars(self).get("bound_", {}).items():
            if (value := getattr(self, name)) != fitted:
                raise ValueError(
                    f"{name} = {value!r} is not that of the fit, {fitted!r}; fit again, or set it"
                    " back"
                )

    def series(self, data: TableLike | Panel | None = None) -> Panel:
        """The series that ``predict(data)`` continues.

        Raises:
            ValueError: If the table is faulty, or not one that the fitted forecaster can read.
        """
        return self.panel_ if data is None else self.read(data, fitted=True)

    def read(self, data: TableLike | Panel, *, fitted: bool = False) -> Panel:
        """A table as this forecaster reads it; a panel passes through, without covariates that
        nobody reads.

        Args:
            data: Frame or panel.
            fitted: Read what the last fit read, not what the next one would; its frequency counts
                where the schema names none, for new data may be too short to infer it from.

        Raises:
            TypeError: If settings are not of their class.
            ValueError: If the table is faulty, or misses values that the forecaster cannot leave
                out.
        """
        check_settings(self, "schema", "network", "training")
        columns = self.covariate_columns_ if fitted else self.covariate_columns
        if not isinstance(data, Panel):
            freq = self.panel_.freq if fitted else None
            data = to_panel(data, self.schema, freq=freq, missing=self.default_missing)
        panel = data.keep(columns)
        if fitted and panel.freq != self.panel_.freq:
            raise ValueError(
                f"the model was fitted on frequency {self.panel_.freq!r}; got {panel.freq!r};"
                " resample, or fit anew"
            )
        if panel.missing == "mask" and not self.masks and np.isnan(panel.values).any():
            raise ValueError(
                f"{self.alias_} cannot leave missing values out (missing='mask'); fill them in by"
                " missing='interpolate' or 'ffill', or take a forecaster that can, such as 'zero'"
                " or 'mlr'"
            )
        return panel

    def windows(self, history: History, ends: np.ndarray) -> np.ndarray:
        """The rows before each end that :meth:`predict_windows` reads.

        Args:
            history: Of the panel in which the ends lie, each with at least ``min_context`` rows
                before it.
            ends: Absolute rows just after the last row of each window, ``[B]``.

        Returns:
            ``[B, T, C]``: T is ``min_context``, or up to ``max_context`` where a forecaster reads
            so far; then shorter histories have NaN before their first row.
        """
        context = self.min_context
        most = self.max_context
        return history.contexts(ends, context) if most == context else history.reaching(ends, most)

    def covariate_history(
        self, panel: Panel, ahead: np.ndarray | None = None
    ) -> "CovariateHistory | None":
        """Where the covariates of windows are cut from; ``None`` if the fitted forecaster reads
        none.

        Args:
            panel: The series.
            ahead: Future columns after the last row of each series, ``[N, F, K]``; ``None`` for
                windows inside.

        Raises:
            ValueError: If the panel lacks one of them.
        """
        columns = self.covariate_columns_
        panel.require(columns)
        if not columns:
            return None
        from tsattn.data.encoding import CovariateHistory

        return CovariateHistory(panel, columns, ahead)


def _same(value: Any, default: Any) -> bool:
    plain = isinstance(value, Settings | str | int | float | tuple) and type(value) is type(default)
    return value is default or (plain and value == default)


@dataclass(frozen=True, eq=False)
class Forecast:
    """An immutable answer: N series, F steps, C channels.

    Args:
        point: Point forecasts, ``[N, F, C]``.
        ids: Series, ``[N]``.
        channels: Names of the C channels.
        times: Stamps of the forecast rows, flattened ``[N * F]``.
        cutoffs: Last stamp used of each series, ``[N]``.
        alias: Name of the point column.
        dialect: How the frame looked that the forecast answers.
        quantiles: Quantile forecasts, each ``[N, F, C]``, for all that ``levels`` and
            ``asked_quantiles`` need.
        levels: Central levels in percent that the frame shows as ``-lo-80`` and ``-hi-80``.
        asked_quantiles: Quantiles that the frame shows as ``-q0.1``.
    """

    point: np.ndarray
    ids: np.ndarray
    channels: tuple[str, ...]
    times: pd.Index
    cutoffs: pd.Index
    alias: str
    dialect: Dialect
    quantiles: Mapping[float, np.ndarray] = field(default_factory=dict)
    levels: tuple[float, ...] = ()
    asked_quantiles: tuple[float, ...] = ()

    @property
    def horizon(self) -> int:
        """Steps ahead."""
        return self.point.shape[1]

    def to_frame(self) -> pd.DataFrame:
        """The forecast in the dialect of the data.

        Returns:
            Long: id, time, ``<alias>``, ``<alias>-lo-80``, ``<alias>-hi-80``, ``<alias>-q0.1``, one
            row a series and step in the order of ``ids``. Wide: ``<channel>``, ``<channel>-lo-80``,
            ... by stamp.

        Raises:
            ValueError: If a column would have the name of another one.
        """
        dialect = self.dialect
        columns: list[tuple[Any, Any]] = []
        if dialect.id_col is not None:
            columns.append((dialect.id_col, dialect.restore_ids(np.repeat(self.ids, self.horizon))))
        if dialect.time_col is not None:
            columns.append((dialect.time_col, self.times))
        asked = interval_columns(self.levels, self.asked_quantiles)
        for c, name in enumerate(self.channels if dialect.kind == "wide" else (self.alias,)):
            columns.append((name, self.point[:, :, c].ravel()))
            columns += [
                (f"{name}-{suffix}", self.quantiles[q][:, :, c].ravel()) for suffix, q in asked
            ]
        refuse_twice([name for name, _ in columns])
        index = None if dialect.time_col is not None else self.times.rename(dialect.index_name)
        return pd.DataFrame(dict(columns), index=index)


def check_forecaster(given: object) -> None:
    """Refuse what is not a forecaster, such as a name or a class.

    Args:
        given: What stands where a forecaster is asked.

    Raises:
        TypeError: Saying how to make one.
    """
    if isinstance(given, Forecaster):
        return
    if isinstance(given, str):
        kind = repr(given)
        how = f"make_forecaster({given!r}, horizon)"
    elif isinstance(given, type):
        kind = f"the class {given.__name__}"
        how = f"{given.__name__}(...)"
    else:
        kind = f"a {type(given).__name__}"
        how = "make_forecaster(name, horizon)"
    raise TypeError(
        f"a forecaster is needed, made by its class or by make_forecaster; got {kind}: write {how}"
    )


def check_horizon(horizon: object) -> int:
    """Return ``horizon`` as an int.

    Raises:
        ValueError: If it is not an integer of at least 1.
    """
    if isinstance(horizon, bool) or not isinstance(horizon, Integral) or horizon < 1:
        raise ValueError(f"horizon must be an integer, at least 1; got {horizon!r}")
    return int(horizon)


def refuse_covariates(forecaster: Forecaster, where: str) -> None:
    """Refuse a forecaster that reads covariates where none can be handed to it.

    Args:
        forecaster: Any.
        where: The place, as the subject of a sentence.

    Raises:
        TypeError: If it is none.
        ValueError: Naming what it reads.
    """
    check_forecaster(forecaster)
    for each in (forecaster.covariate_columns, forecaster.covariate_columns_):
        if each:
            reads = [
                f"{name} {getattr(each, name)!r}"
                for name in ("past", "future", "static", "calendar")
            ]
            told = ", ".join(text for text in reads if not text.endswith(" ()"))
            raise ValueError(
                f"{where} has no place for covariates, and {forecaster.alias_} reads some ({told});"
                " use one that was made without, or call it directly"
            )


def forecast_panel(
    forecaster: Forecaster,
    panel: Panel,
    *,
    level: float | Iterable[float] | None = None,
    quantiles: float | Iterable[float] | None = None,
    horizon: int | None = None,
    future: TableLike | None = None,
    recursive: bool = False,
) -> Forecast:
    """Forecast the rows after each series of a panel from its last context, in chunks.

    Args:
        forecaster: Fitted; it is not fitted again.
        panel: Series, known to the forecaster or not.
        level: Central levels in percent.
        quantiles: Quantiles; ``(0.1, 0.9)`` are the bounds of level 80, bit for bit.
        horizon: Steps wanted; fewer than the forecaster's are the first of its steps. ``None``
            takes all.
        future: Values of the future columns after each series' end, as
            :func:`tsattn.data.future.read_future` takes them, for a forecaster that reads some.
        recursive: For more steps than the forecaster's, feed its points back and go on. Points
            only.

    Raises:
        ValueError: If the request is bad, a series is shorter than the context, the horizon is
            longer than the forecaster's and ``recursive`` is not set, ``future`` is not complete,
            or a forecast is not finite.
    """
    levels, asked, every = check_request(level, quantiles)
    steps = forecaster.horizon if horizon is None else check_horizon(horizon)
    forecaster = forecaster.reaching(steps)
    if steps > forecaster.horizon:
        _check_recursive(forecaster, steps, recursive, every)
    require_length(panel, forecaster.min_context, f"the context of {forecaster.alias_}")
    history = History(panel)
    ends = panel.starts[1:]
    reach = -(-steps // forecaster.horizon) * forecaster.horizon
    ahead = None
    if future is not None or forecaster.covariate_columns_:
        from tsattn.data.future import read_future

        ahead = read_future(future, panel, forecaster.covariate_columns_, steps, reach)
    beside = forecaster.covariate_history(panel, ahead)
    point = np.empty((panel.n_series, steps, panel.n_channels))
    bounds = np.empty((*point.shape, len(every)))
    read = min(forecaster.max_context, int(panel.lengths.max(initial=0)))
    width = (read + reach * (1 + len(every))) * panel.n_channels
    chunk = chunk_size(width if beside is None else width + beside.width(read, reach))
    for first in range(0, panel.n_series, chunk):
        part = slice(first, first + chunk)
        covariates = None if beside is None else beside.windows(ends[part], read, reach)
        if steps > forecaster.horizon:
            x = forecaster.windows(history, ends[part])
            point[part] = _fed_back(
                forecaster, x, covariates and covariates.cut(x.shape[1], reach), steps
            )
        else:
            given, spread = forecaster.predict_before(
                history, ends[part], quantiles=every, covariates=covariates
            )
            point[part], bounds[part] = given[:, :steps], spread[:, :steps]
    if (n := first_not_finite(point, bounds)) is not None:
        raise ValueError(
            f"{forecaster.alias_} gave a forecast that is not finite for series {panel.ids[n]!r};"
            " look at the scale of its values and fit again"
        )
    return Forecast(
        point=point,
        ids=panel.ids,
        channels=panel.channels,
        times=future_times(panel.last_times(), panel.freq, steps),
        cutoffs=panel.last_times(),
        alias=forecaster.alias_,
        dialect=panel.dialect,
        quantiles={q: bounds[..., i] for i, q in enumerate(every)},
        levels=levels,
        asked_quantiles=asked,
    )


def _check_recursive(
    forecaster: Forecaster, steps: int, recursive: bool, quantiles: Sequence[float]
) -> None:
    """Refuse more steps than a forecaster's where feeding forecasts back was not asked for, or is
    not honest.
    """
    name = forecaster.alias_
    own = forecaster.horizon
    if not recursive:
        raise ValueError(
            f"horizon = {steps} is longer than the {own} steps that {name} was made for; make and"
            f" fit one with horizon={steps}, or let its points be fed back by recursive=True"
        )
    if len(quantiles):
        raise ValueError(
            f"intervals reach {own} steps ahead, as far as {name} was trained, and horizon ="
            f" {steps} is beyond: what is fed back brings errors that nobody measured; ask for"
            f" points, or make and fit one with horizon={steps}"
        )
    if past := forecaster.covariate_columns_.past:
        raise ValueError(
            f"{name} reads the past column {past[0]!r}, whose values after the cutoff a recursive"
            f" forecast would need; make and fit one with horizon={steps}, or with that column"
            " among the future ones"
        )


def _fed_back(
    forecaster: Forecaster, x: np.ndarray, covariates: "CovariateWindows | None", steps: int
) -> np.ndarray:
    """Points ``[B, steps, C]``: each stretch is forecast from the context ``x [B, T, C]`` and the
    stretches before.
    """
    own = forecaster.horizon
    context = x.shape[1]
    for first in range(0, steps, own):
        rows = context + first
        past = np.empty((len(x), rows, 0))
        beside = covariates and replace(
            covariates, past=past, known=covariates.known[:, : rows + own]
        )
        point = forecaster.predict_windows(x, covariates=beside)[0]
        x = np.concatenate([x, point], axis=1)
    return x[:, context : context + steps]


def first_not_finite(point: np.ndarray, bounds: np.ndarray) -> int | None:
    """The first of forecasts ``[B, F, C]`` with quantiles ``[B, F, C, Q]`` that is not finite, if
    there is one.
    """
    if math.isfinite(point.sum()) and math.isfinite(bounds.sum()):  # told fast
        return None
    bad = ~(np.isfinite(point).all(axis=(1, 2)) & np.isfinite(bounds).all(axis=(1, 2, 3)))
    return int(np.argmax(bad)) if bad.any() else None
