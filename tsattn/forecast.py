"""What does a forecaster promise, and what does its answer look like as arrays and as a frame?"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd

from tsattn.data.frames import Dialect, Panel, future_times, require_length, to_panel
from tsattn.data.windows import History

# Levels and quantiles are decimal numbers to their users: 1 - 0.9 must name the quantile 0.1.
_DECIMALS = 12
# A chunk of windows holds at most this many values (32 MB in float64), so memory follows the chunk.
_CHUNK_VALUES = 2**22
_CHUNK_WINDOWS = 512


class Forecaster(Protocol):
    """Anything that forecasts ``horizon`` rows from the ``context`` rows before them.

    Attributes:
        horizon: Rows forecast ahead.
        context: Rows of history that it needs, at least 1. An estimator whose constructor leaves the choice
            open stores ``None`` here and the choice in ``context_`` when it is fitted; see :func:`context_of`.
        alias: Name of its columns; see :func:`alias_of`.
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


def interval_columns(levels: Sequence[float], quantiles: Sequence[float]) -> list[tuple[str, float]]:
    """Column suffixes and the quantile that fills each: ``lo-80``, ``hi-80``, then ``q0.1``.

    Example:
        >>> interval_columns((80,), (0.5,))
        [('lo-80', 0.1), ('hi-80', 0.9), ('q0.5', 0.5)]
    """
    pairs = [(level, level_to_quantiles(level)) for level in levels]
    bounds = [(f"{side}-{level}", q) for level, both in pairs for side, q in zip(("lo", "hi"), both, strict=True)]
    return bounds + [(f"q{q}", q) for q in quantiles]


def level_to_quantiles(level: float | Iterable[float]) -> tuple[float, ...]:
    """Quantiles that bound central levels: 80 is 0.1 and 0.9.

    Args:
        level: One level in percent or several, each strictly between 0 and 100.

    Returns:
        Ascending quantiles, two a level, rounded to decimals so that they equal what a user would type.

    Raises:
        ValueError: If a level is no number or out of range.

    Example:
        >>> level_to_quantiles(80)
        (0.1, 0.9)
        >>> level_to_quantiles([80, 95])
        (0.025, 0.1, 0.9, 0.975)
    """
    lower = [round(0.5 - each / 200, _DECIMALS) for each in _levels(level)]
    return tuple(sorted({*lower, *(round(1 - q, _DECIMALS) for q in lower)}))


def quantiles_to_level(quantiles: float | Iterable[float]) -> tuple[float, ...]:
    """Central levels whose bounds are these quantiles; the median belongs to none.

    Args:
        quantiles: Numbers strictly between 0 and 1; each but 0.5 needs its mirror image, except when one
            number is given alone.

    Returns:
        Ascending levels in percent.

    Raises:
        ValueError: If a quantile is out of range or stands without its mirror image.

    Example:
        >>> quantiles_to_level((0.1, 0.5, 0.9))
        (80,)
        >>> quantiles_to_level(0.025)
        (95,)
    """
    alone = isinstance(quantiles, Real)
    asked = _quantiles(quantiles)
    lonely = [q for q in asked if round(1 - q, _DECIMALS) not in asked]
    if lonely and not alone:
        raise ValueError(
            f"quantile {lonely[0]} has no mirror image among {asked}; add {round(1 - lonely[0], _DECIMALS)}"
            " or ask by quantiles= instead of level="
        )
    return tuple(sorted({_plain(round(abs(1 - 2 * q) * 100, _DECIMALS - 2)) for q in asked if q != 0.5}))


def check_request(
    level: float | Iterable[float] | None, quantiles: float | Iterable[float] | None
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Validate a request for intervals; levels and quantiles may be asked together.

    Returns:
        The levels, the quantiles, and all quantiles that serve both, each ascending without repeats.

    Raises:
        ValueError: If a level or a quantile is no number or out of range.

    Example:
        >>> check_request(80, [0.5])
        ((80,), (0.5,), (0.1, 0.5, 0.9))
    """
    levels = () if level is None else _levels(level)
    asked = () if quantiles is None else _quantiles(quantiles)
    return levels, asked, tuple(sorted({*level_to_quantiles(levels), *asked}))


def _levels(level: float | Iterable[float]) -> tuple[float, ...]:
    rule = "level is in percent, strictly between 0 and 100, such as level=[80, 95]"
    return _numbers(level, upper=100, rule=rule)


def _quantiles(quantiles: float | Iterable[float]) -> tuple[float, ...]:
    rule = "quantiles lie strictly between 0 and 1, such as quantiles=[0.1, 0.9]"
    return _numbers(quantiles, upper=1, rule=rule)


def _numbers(given: float | Iterable[float], *, upper: int, rule: str) -> tuple[float, ...]:
    values: list[Any] = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < upper:
            raise ValueError(f"{rule}; got {value!r}")
    return tuple(sorted({_plain(round(float(value), _DECIMALS)) for value in values}))


def _plain(value: float) -> float:
    """80.0 becomes 80, so that column names read ``lo-80``."""
    return int(value) if value == int(value) else value


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


def alias_of(forecaster: Forecaster) -> str:
    """Name of a forecaster's columns: its ``alias``, else ``alias_``, else the name of its class."""
    return str(forecaster.alias or getattr(forecaster, "alias_", None) or type(forecaster).__name__)


def check_horizon(horizon: object) -> int:
    """Return ``horizon`` as an int.

    Raises:
        ValueError: If it is not an integer of at least 1.
    """
    if isinstance(horizon, bool) or not isinstance(horizon, Integral) or horizon < 1:
        raise ValueError(f"horizon must be an integer, at least 1; got {horizon!r}")
    return int(horizon)


def panel_for(forecaster: Forecaster, data: pd.DataFrame | Panel, freq: str | int | None = None) -> Panel:
    """Read ``data`` with the column names, frequency and missing policy that the forecaster was given.

    Args:
        forecaster: Its ``id_col``, ``time_col``, ``target_col``, ``freq`` and ``missing`` count where it has them.
        data: A frame; a ``Panel`` passes through.
        freq: Used where the forecaster names none: new data may be too short to infer it from.
    """
    names = {"id_col": "unique_id", "time_col": "ds", "target_col": "y", "missing": "error"}
    given = {name: getattr(forecaster, name, default) for name, default in names.items()}
    own = getattr(forecaster, "freq", None)
    return to_panel(data, freq=freq if own is None else own, **given)


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
    return data, panel_for(forecaster if reader is None else reader, data, fitted.freq)


def check_windows(x: np.ndarray, context: int) -> np.ndarray:
    """Return contexts as float64.

    Args:
        x: Contexts, ``[B, T, C]``.
        context: Least T.

    Raises:
        ValueError: If the shape is wrong, T too short, or a value missing or infinite.
    """
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 3 or x.shape[1] < context:
        raise ValueError(
            f"windows must have shape [B, T, C] with T >= {context} rows of history; got {x.shape}: give longer"
            " windows, or a forecaster with a smaller context"
        )
    if not np.isfinite(x).all():
        raise ValueError(
            "windows must be finite; got NaN or inf: fill missing values first, or pass a frame and missing="
            "'interpolate' or 'ffill'"
        )
    return x


def chunk_size(n_values: int) -> int:
    """Windows in one call when each holds ``n_values`` values: bounded in number and in memory.

    Example:
        >>> chunk_size(100), chunk_size(2**20), chunk_size(2**30)
        (512, 4, 1)
    """
    return max(1, min(_CHUNK_WINDOWS, _CHUNK_VALUES // max(1, n_values)))


def call_windows(
    forecaster: Forecaster, x: np.ndarray, quantiles: Sequence[float] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Point and quantile forecasts of one chunk, with their shapes checked.

    Args:
        forecaster: Fitted.
        x: Contexts, ``[B, T, C]``.
        quantiles: Ascending; none asks for none.

    Returns:
        ``[B, F, C]`` and ``[B, F, C, Q]``.

    Raises:
        ValueError: If the forecaster returns another shape.
    """
    shape = (x.shape[0], forecaster.horizon, x.shape[2])
    point = _shaped(forecaster, forecaster.predict_windows(x), shape)
    if not len(quantiles):
        return point, np.empty((*shape, 0))
    asked = tuple(quantiles)
    return point, _shaped(forecaster, forecaster.predict_windows(x, quantiles=asked), (*shape, len(asked)))


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
) -> Forecast:
    """Forecast the rows after each series of a panel from its last context, in chunks.

    Args:
        forecaster: Fitted; it is not fitted again.
        panel: Series, known to the forecaster or not.
        level: Central levels in percent.
        quantiles: Quantiles; ``(0.1, 0.9)`` are the bounds of level 80, bit for bit.
        horizon: Steps wanted; fewer than the forecaster's are the first of its steps. ``None`` takes all.

    Raises:
        ValueError: If the request is bad, a series is shorter than the context, the horizon is longer than the
            forecaster's, or a forecast is not finite.
    """
    levels, asked, every = check_request(level, quantiles)
    steps = forecaster.horizon if horizon is None else check_horizon(horizon)
    if steps > forecaster.horizon:
        raise ValueError(
            f"horizon = {steps} is longer than the {forecaster.horizon} steps that {alias_of(forecaster)} was"
            f" made for; make and fit one with horizon={steps}"
        )
    context = context_of(forecaster)
    require_length(panel, context, f"the context of {alias_of(forecaster)}")
    history, ends = History(panel), panel.starts[1:]
    point = np.empty((panel.n_series, steps, panel.n_channels))
    bounds = np.empty((*point.shape, len(every)))
    chunk = chunk_size((context + forecaster.horizon * (1 + len(every))) * panel.n_channels)
    for first in range(0, panel.n_series, chunk):
        part = slice(first, first + chunk)
        given, spread = call_windows(forecaster, history.contexts(ends[part], context), every)
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
) -> pd.DataFrame | Forecast:
    """Forecast after ``panel`` and answer in kind: a ``Panel`` gives a :class:`Forecast`, a frame a frame.

    Args:
        forecaster: Fitted.
        data: What the user gave, then or at ``fit``; only its type counts, and ``None`` counts as a frame.
        panel: The same as a panel.
        level: As in :func:`forecast_panel`.
        quantiles: As in :func:`forecast_panel`.
        horizon: As in :func:`forecast_panel`.
    """
    forecast = forecast_panel(forecaster, panel, level=level, quantiles=quantiles, horizon=horizon)
    return forecast if isinstance(data, Panel) else forecast.to_frame()
