"""What does a forecaster promise, and what does its answer look like as arrays and as a frame?"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd

from tsattn.data.covariates import CovariateColumns
from tsattn.data.encoding import CovariateHistory, CovariateWindows
from tsattn.data.frames import Dialect, Panel, future_times, require_length, to_panel
from tsattn.data.future import read_future
from tsattn.data.windows import History, check_windows, chunk_size
from tsattn.levels import check_request, interval_columns, level_to_quantiles, quantiles_to_level

__all__ = [
    "Forecast",
    "Forecaster",
    "alias_of",
    "answer",
    "call_windows",
    "check_horizon",
    "check_request",
    "check_windows",
    "chunk_size",
    "columns_of",
    "context_of",
    "continued",
    "covariate_history",
    "forecast_panel",
    "interval_columns",
    "level_to_quantiles",
    "panel_for",
    "quantiles_to_level",
    "reach_of",
    "windows_before",
]


class Forecaster(Protocol):
    """Anything that forecasts ``horizon`` rows from the ``context`` rows before them.

    Attributes:
        horizon: Rows forecast ahead.
        context: Rows of history that it needs, at least 1. An estimator whose constructor leaves the choice
            open stores ``None`` here and the choice in ``context_`` when it is fitted; see :func:`context_of`.
        alias: Name of its columns; see :func:`alias_of`.

    One that reads covariates says so by a property ``covariate_columns``, and by ``covariate_columns_`` once it is
    fitted (:func:`columns_of`). Then ``predict_windows`` takes them as ``covariates=``, a
    :class:`tsattn.data.encoding.CovariateWindows`, and ``predict`` takes a frame ``future=``.

    One that reads longer histories where there are some says how long by an attribute ``max_context``
    (:func:`reach_of`). Its windows then begin with NaN where a series is shorter, and series of any lengths are handed
    to it together (:func:`windows_before`).

    One that gives points and quantiles in one pass has a method ``predict_both(x, *, quantiles)``, which returns
    ``[B, F, C]`` and ``[B, F, C, Q]`` (:func:`call_windows`).
    """

    @property
    def horizon(self) -> int: ...

    @property
    def context(self) -> int | None: ...

    @property
    def alias(self) -> str | None: ...

    def fit(self, data: pd.DataFrame | Panel) -> Self:
        """Learn from all rows of ``data``; a second call starts afresh."""
        ...

    def predict(
        self,
        data: pd.DataFrame | Panel | None = None,
        *,
        level: Sequence[float] | float | None = None,
        quantiles: Sequence[float] | float | None = None,
    ) -> "pd.DataFrame | Forecast":
        """Forecast the rows after ``data`` (default: the fitted data) without refitting.

        A frame gives a frame in the same dialect, a ``Panel`` gives a :class:`Forecast`.
        """
        ...

    def predict_windows(self, x: np.ndarray, *, quantiles: Sequence[float] = ()) -> np.ndarray:
        """Forecast from contexts ``x [B, T, C]``, T at least ``context``: ``[B, F, C]`` or ``[B, F, C, Q]``."""
        ...


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
        quantiles: Quantile forecasts, each ``[N, F, C]``, for all that ``levels`` and ``asked_quantiles`` need.
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
            Long: id, time, ``<alias>``, ``<alias>-lo-80``, ``<alias>-hi-80``, ``<alias>-q0.1``, one row a series
            and step in the order of ``ids``. Wide: ``<channel>``, ``<channel>-lo-80``, ... by stamp.

        Raises:
            ValueError: If ``alias`` is also the name of the id or time column.
        """
        dialect = self.dialect
        data: dict[Any, Any] = {}
        if dialect.kind == "wide":
            for c, channel in enumerate(self.channels):
                data |= self._columns(channel, c)
        else:
            if dialect.id_col is not None:
                data[dialect.id_col] = dialect.restore_ids(np.repeat(self.ids, self.horizon))
            if dialect.time_col is not None:
                data[dialect.time_col] = self.times
            if self.alias in data:
                raise ValueError(
                    f"alias {self.alias!r} is already the name of a column of the data; pass another alias="
                )
            data |= self._columns(self.alias, 0)
        if dialect.kind == "wide" and dialect.time_col is not None:
            data = {dialect.time_col: self.times, **data}
        index = None if dialect.time_col is not None else self.times.rename(dialect.index_name)
        return pd.DataFrame(data, index=index)

    def _columns(self, name: str, channel: int) -> dict[str, np.ndarray]:
        columns = {name: self.point[:, :, channel].ravel()}
        for suffix, q in interval_columns(self.levels, self.asked_quantiles):
            columns[f"{name}-{suffix}"] = self.quantiles[q][:, :, channel].ravel()
        return columns


def context_of(forecaster: Forecaster) -> int:
    """Rows of history that a forecaster needs: ``context_`` once fitted, otherwise ``context``.

    Raises:
        ValueError: If neither is a positive integer.
    """
    fitted = getattr(forecaster, "context_", None)
    context = forecaster.context if fitted is None else fitted
    if isinstance(context, bool) or not isinstance(context, Integral) or context < 1:
        raise ValueError(
            f"{type(forecaster).__name__} must say how many rows of history it needs, at least 1; got"
            f" context = {context!r}: fit it first, or set context="
        )
    return int(context)


def reach_of(forecaster: Forecaster) -> int:
    """Rows of history that a forecaster reads where there are so many: its ``max_context``, or else its context.

    Raises:
        ValueError: As :func:`context_of`.
    """
    most = getattr(forecaster, "max_context", None)
    return max(context_of(forecaster), most or 0)


def windows_before(forecaster: Forecaster, history: History, ends: np.ndarray) -> np.ndarray:
    """The rows before each end that a forecaster reads, as its ``predict_windows`` takes them.

    Args:
        forecaster: Fitted.
        history: Of the panel in which the ends lie, each with at least the forecaster's context before it.
        ends: Absolute rows just after the last row of each window, ``[B]``.

    Returns:
        ``[B, T, C]``: T is the context, or up to ``max_context`` where a forecaster reads so far; then shorter
        histories have NaN before their first row.
    """
    context, reach = context_of(forecaster), reach_of(forecaster)
    return history.contexts(ends, context) if reach == context else history.reaching(ends, reach)


def alias_of(forecaster: Forecaster) -> str:
    """Name of a forecaster's columns: its ``alias``, else ``alias_``, else the name of its class."""
    return str(forecaster.alias or getattr(forecaster, "alias_", None) or type(forecaster).__name__)


def columns_of(forecaster: Forecaster, *, fitted: bool = True) -> CovariateColumns:
    """What a forecaster reads beside its target; nothing, if it does not speak of covariates.

    Args:
        forecaster: Any.
        fitted: What it learnt to read at the last ``fit``, if there was one; otherwise what it would read at the next.
    """
    known = getattr(forecaster, "covariate_columns_", None) if fitted else None
    columns: CovariateColumns = getattr(forecaster, "covariate_columns", CovariateColumns()) if known is None else known
    return columns


def covariate_history(forecaster: Forecaster, panel: Panel, ahead: np.ndarray | None = None) -> CovariateHistory | None:
    """Where a fitted forecaster's covariates are cut from, as :class:`CovariateHistory`; ``None`` if it reads none.

    Raises:
        ValueError: If the panel lacks one of them.
    """
    columns = columns_of(forecaster)
    to_panel(panel, covariate_cols=columns.moving, static_cols=columns.static)
    return CovariateHistory(panel, columns, ahead) if columns else None


def check_horizon(horizon: object) -> int:
    """Return ``horizon`` as an int.

    Raises:
        ValueError: If it is not an integer of at least 1.
    """
    if isinstance(horizon, bool) or not isinstance(horizon, Integral) or horizon < 1:
        raise ValueError(f"horizon must be an integer, at least 1; got {horizon!r}")
    return int(horizon)


def panel_for(
    forecaster: Forecaster, data: pd.DataFrame | Panel, freq: str | int | None = None, *, fitted: bool = False
) -> Panel:
    """Read ``data`` with the column names, frequency and missing policy that the forecaster was given.

    Args:
        forecaster: Its ``id_col``, ``time_col``, ``target_col``, ``freq`` and ``missing`` count where it has them.
        data: A frame; a ``Panel`` passes through, if it has the covariates, without those that nobody reads.
        freq: Used where the forecaster names none: new data may be too short to infer it from.
        fitted: Read the covariates of the last fit, not those of the next one.
    """
    names = {"id_col": "unique_id", "time_col": "ds", "target_col": "y", "missing": "error"}
    given = {name: getattr(forecaster, name, default) for name, default in names.items()}
    own = getattr(forecaster, "freq", None)
    columns = columns_of(forecaster, fitted=fitted)
    given |= {"covariate_cols": columns.moving, "static_cols": columns.static}
    panel = to_panel(data, freq=freq if own is None else own, **given)
    if panel.covariates is None:
        return panel
    # What nobody reads is left behind: it would travel, be kept and be told apart for nothing.
    kept = panel.covariates.only(columns) if columns.moving or columns.static else None
    return replace(panel, covariates=kept)


def continued(
    forecaster: Forecaster,
    data: pd.DataFrame | Panel | None,
    fitted: Panel | None,
    *,
    as_panel: bool,
    reader: Forecaster | None = None,
) -> tuple[pd.DataFrame | Panel | None, Panel]:
    """The data after which ``predict(data)`` forecasts, as :func:`answer` takes them.

    Args:
        forecaster: Whose ``predict`` it is.
        data: What the user gave; ``None`` stands for the fitted data.
        fitted: Panel of the last ``fit``; ``None`` before it.
        as_panel: Whether ``fit`` was given a ``Panel`` rather than a frame.
        reader: Whose column names read ``data``; ``None`` takes the forecaster's own.

    Returns:
        What tells the kind of the answer, and the panel.

    Raises:
        ValueError: If the forecaster is not fitted or the table is faulty.
    """
    if fitted is None:
        raise ValueError(f"{type(forecaster).__name__} is not fitted; call fit(data) before predict")
    if data is None:
        return (fitted if as_panel else None), fitted
    return data, panel_for(forecaster if reader is None else reader, data, fitted.freq, fitted=True)


def call_windows(
    forecaster: Forecaster,
    x: np.ndarray,
    quantiles: Sequence[float] = (),
    covariates: CovariateWindows | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Point and quantile forecasts of one chunk, with their shapes checked; in one pass of a forecaster that can.

    Args:
        forecaster: Fitted.
        x: Contexts, ``[B, T, C]``.
        quantiles: Ascending; none asks for none.
        covariates: Of the same windows, for a forecaster that reads some; others are not told of them.

    Returns:
        ``[B, F, C]`` and ``[B, F, C, Q]``.

    Raises:
        ValueError: If the forecaster returns another shape.
    """
    shape, asked = (x.shape[0], forecaster.horizon, x.shape[2]), tuple(quantiles)
    beside: dict[str, Any] = {} if covariates is None else {"covariates": covariates}
    if (predict_both := getattr(forecaster, "predict_both", None)) is not None:
        point, bounds = predict_both(x, quantiles=asked, **beside)
        return _shaped(forecaster, point, shape), _shaped(forecaster, bounds, (*shape, len(asked)))
    point = _shaped(forecaster, forecaster.predict_windows(x, **beside), shape)
    if not asked:
        return point, np.empty((*shape, 0))
    bounds = forecaster.predict_windows(x, quantiles=asked, **beside)
    return point, _shaped(forecaster, bounds, (*shape, len(asked)))


def _shaped(forecaster: Forecaster, answer: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    answer = np.asarray(answer, dtype=np.float64)
    if answer.shape != shape:
        raise ValueError(
            f"{alias_of(forecaster)}.predict_windows must return shape {shape}; got {answer.shape}: keep the"
            " windows, steps and channels in that order"
        )
    return answer


def forecast_panel(
    forecaster: Forecaster,
    panel: Panel,
    *,
    level: float | Iterable[float] | None = None,
    quantiles: float | Iterable[float] | None = None,
    horizon: int | None = None,
    future: pd.DataFrame | None = None,
    recursive: bool = False,
) -> Forecast:
    """Forecast the rows after each series of a panel from its last context, in chunks.

    Args:
        forecaster: Fitted; it is not fitted again.
        panel: Series, known to the forecaster or not.
        level: Central levels in percent.
        quantiles: Quantiles; ``(0.1, 0.9)`` are the bounds of level 80, bit for bit.
        horizon: Steps wanted; fewer than the forecaster's are the first of its steps. ``None`` takes all.
        future: Values of the future columns after each series' end, as :func:`tsattn.data.future.read_future` takes
            them, for a forecaster that reads some.
        recursive: For more steps than the forecaster's, feed its points back and go on. Points only.

    Raises:
        ValueError: If the request is bad, a series is shorter than the context, the horizon is longer than the
            forecaster's and ``recursive`` is not set, ``future`` is not complete, or a forecast is not finite.
    """
    levels, asked, every = check_request(level, quantiles)
    steps = forecaster.horizon if horizon is None else check_horizon(horizon)
    if steps > forecaster.horizon:
        _check_recursive(forecaster, steps, recursive, every)
    context = context_of(forecaster)
    require_length(panel, context, f"the context of {alias_of(forecaster)}")
    history, ends = History(panel), panel.starts[1:]
    ahead = read_future(future, panel, columns_of(forecaster), steps)
    beside = covariate_history(forecaster, panel, ahead)
    point = np.empty((panel.n_series, steps, panel.n_channels))
    bounds = np.empty((*point.shape, len(every)))
    reach = -(-steps // forecaster.horizon) * forecaster.horizon
    read = min(reach_of(forecaster), int(panel.lengths.max(initial=0)))
    width = (read + reach * (1 + len(every))) * panel.n_channels
    chunk = chunk_size(width if beside is None else width + beside.width(context, reach))
    for first in range(0, panel.n_series, chunk):
        part = slice(first, first + chunk)
        x = windows_before(forecaster, history, ends[part])
        covariates = None if beside is None else beside.windows(ends[part], context, reach)
        if steps > forecaster.horizon:
            point[part] = _fed_back(forecaster, x, covariates, steps)
        else:
            given, spread = call_windows(forecaster, x, every, covariates)
            point[part], bounds[part] = given[:, :steps], spread[:, :steps]
    if not (math.isfinite(point.sum()) and math.isfinite(bounds.sum())):
        _refuse_not_finite(forecaster, panel, point, bounds)
    return Forecast(
        point=point,
        ids=panel.ids,
        channels=panel.channels,
        times=future_times(panel.last_times(), panel.freq, steps),
        cutoffs=panel.last_times(),
        alias=alias_of(forecaster),
        dialect=panel.dialect,
        quantiles={q: bounds[..., i] for i, q in enumerate(every)},
        levels=levels,
        asked_quantiles=asked,
    )


def _check_recursive(forecaster: Forecaster, steps: int, recursive: bool, quantiles: Sequence[float]) -> None:
    """Refuse more steps than a forecaster's where feeding forecasts back was not asked for, or is not honest."""
    name, own = alias_of(forecaster), forecaster.horizon
    if not recursive:
        raise ValueError(
            f"horizon = {steps} is longer than the {own} steps that {name} was made for; make and fit one with"
            f" horizon={steps}, or let its points be fed back by recursive=True"
        )
    if len(quantiles):
        raise ValueError(
            f"intervals reach {own} steps ahead, as far as {name} was trained, and horizon = {steps} is beyond: what is"
            " fed back brings errors that nobody measured; ask for points, or make and fit one with"
            f" horizon={steps}"
        )
    if past := columns_of(forecaster).past:
        raise ValueError(
            f"{name} reads the past column {past[0]!r}, whose values after the cutoff a recursive forecast would need;"
            f" make and fit one with horizon={steps}, or with that column among the future ones"
        )


def _fed_back(forecaster: Forecaster, x: np.ndarray, covariates: CovariateWindows | None, steps: int) -> np.ndarray:
    """Points of ``steps`` steps ``[B, steps, C]``: each stretch is forecast from the context and the stretches before.

    Args:
        forecaster: Fitted.
        x: Contexts, ``[B, T, C]``.
        covariates: Of the same windows, their known columns for whole stretches.
        steps: Steps wanted.
    """
    own, context = forecaster.horizon, x.shape[1]
    for first in range(0, steps, own):
        beside = covariates
        if covariates is not None:
            beside = replace(covariates, known=covariates.known[:, first : first + context + own])
        point = call_windows(forecaster, x[:, first:], covariates=beside)[0]
        x = np.concatenate([x, point], axis=1)
    return x[:, context : context + steps]


def _refuse_not_finite(forecaster: Forecaster, panel: Panel, point: np.ndarray, bounds: np.ndarray) -> None:
    bad = ~(np.isfinite(point).all(axis=(1, 2)) & np.isfinite(bounds).all(axis=(1, 2, 3)))
    if bad.any():
        raise ValueError(
            f"{alias_of(forecaster)} gave a forecast that is not finite for series"
            f" {panel.ids[int(np.argmax(bad))]!r}; look at the scale of its values and fit again"
        )


def answer(
    forecaster: Forecaster,
    data: pd.DataFrame | Panel | None,
    panel: Panel,
    *,
    level: float | Iterable[float] | None = None,
    quantiles: float | Iterable[float] | None = None,
    horizon: int | None = None,
    future: pd.DataFrame | None = None,
    recursive: bool = False,
) -> pd.DataFrame | Forecast:
    """Forecast after ``panel`` and answer in kind: a ``Panel`` gives a :class:`Forecast`, a frame a frame.

    Args:
        forecaster: Fitted.
        data: What the user gave, then or at ``fit``; only its type counts, and ``None`` counts as a frame.
        panel: The same as a panel.
        level: As in :func:`forecast_panel`.
        quantiles: As in :func:`forecast_panel`.
        horizon: As in :func:`forecast_panel`.
        future: As in :func:`forecast_panel`.
        recursive: As in :func:`forecast_panel`.
    """
    forecast = forecast_panel(
        forecaster,
        panel,
        level=level,
        quantiles=quantiles,
        horizon=horizon,
        future=future,
        recursive=recursive,
    )
    return forecast if isinstance(data, Panel) else forecast.to_frame()
