"""What a forecaster answers: points, quantiles, sample paths and sums."""

import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tsattn.checks import check_whole
from tsattn.data.calendar import future_times
from tsattn.data.columns import Dialect, TableLike
from tsattn.data.panel import Panel, as_objects
from tsattn.levels import Numbers, interval_columns, refuse_twice

if TYPE_CHECKING:
    from tsattn.sampling import PathSource

# What is forecast: a table, or the panel that one becomes.
Data = TableLike | Panel
# Points [B, F, C] and quantiles [B, F, C, Q] of windows.
Answer = tuple[np.ndarray, np.ndarray]

# Crossings of quantiles up to this share of the largest one are due to rounding.
_ROUNDING = 1e-6


def unbounded(point: np.ndarray) -> Answer:
    """Points ``[B, F, C]`` with no quantiles."""
    return point, np.empty((*point.shape, 0))


def checked_answer(
    answer: object, shape: tuple[int, ...], quantiles: Sequence[float], alias: str
) -> Answer:
    """What a forecaster returned, as arrays of float64.

    Args:
        answer: Points ``[B, F, C]`` and quantiles ``[B, F, C, Q]``.
        shape: B, F and C.
        quantiles: Q probabilities, ascending.
        alias: Name of the forecaster, for messages.

    Raises:
        TypeError: If these are not two, or no numbers.
        ValueError: If their shapes are others, or quantiles cross.
    """
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise TypeError(
            f"_forecast of {alias} must return points and quantiles, two arrays; got a"
            f" {type(answer).__name__}: where there are points only, set gives_quantiles = False"
            " and return tsattn.forecasts.unbounded(points)"
        )
    point = _shaped(answer[0], shape, alias, "return points of this shape from _forecast")
    remedy = (
        f"return from _forecast the {len(quantiles)} quantiles that it is asked for, or set"
        " gives_quantiles = False and return tsattn.forecasts.unbounded(points)"
    )
    bounds = _shaped(answer[1], (*shape, len(quantiles)), alias, remedy)
    _check_rising(bounds, quantiles, alias)
    return point, bounds


def _shaped(values: Any, shape: tuple[int, ...], alias: str, remedy: str) -> np.ndarray:
    axes = ", ".join(("windows", "steps", "channels", "quantiles")[: len(shape)])
    try:
        array = np.asarray(values, dtype=np.float64)
    # The last one is that of a tensor which cannot be an array.
    except (ValueError, TypeError, RuntimeError) as error:
        from tsattn.storage import one_line

        raise TypeError(
            f"{alias} must answer {axes} as an array of numbers; got a {type(values).__name__}"
            f" ({one_line(error)}); {remedy}"
        ) from None
    if array.shape != shape:
        actual = None if values is None else array.shape
        raise ValueError(f"{alias} must answer {axes} as {shape}; got {actual}; {remedy}")
    return array


def _check_rising(bounds: np.ndarray, quantiles: Sequence[float], alias: str) -> None:
    lower_bounds = bounds[..., :-1]
    upper_bounds = bounds[..., 1:]
    if not (lower_bounds > upper_bounds).any():
        return
    largest = np.abs(bounds).max(axis=-1, keepdims=True)
    crosses = lower_bounds > upper_bounds + _ROUNDING * largest
    if not crosses.any():
        return
    window, step, channel, n = np.argwhere(crosses)[0].tolist()
    lower, upper = bounds[window, step, channel, n : n + 2]
    raise ValueError(
        f"the quantiles of {alias} must not cross; got {lower:g} for {quantiles[n]:g} and"
        f" {upper:g} for {quantiles[n + 1]:g} at step {step + 1}: sort them by"
        " np.sort(bounds, axis=-1) in _forecast"
    )


@dataclass(frozen=True, eq=False)
class Forecast:
    """An immutable forecast of N series and F steps, as arrays.

    The point is a median for ``"zero"`` and quantile heads, and a mean for the classical models.
    The sum of medians is not the median of the sum, and the median of rare sales is 0:
    :meth:`total` gives sums, and the setting ``point="mean"`` of a forecaster means.

    Args:
        point: Point forecasts, ``[N, F]``.
        ids: Series, ``[N]``.
        times: Stamps of the forecast rows, flattened ``[N * F]``.
        cutoffs: Last stamp used of each series, ``[N]``.
        alias: Name of the point column.
        dialect: How the frame looked that the forecast answers.
        quantiles: Quantile forecasts, each ``[N, F]``, for all that ``levels`` and
            ``asked_quantiles`` need.
        levels: Central levels in percent that the frame shows as ``-lo-80`` and ``-hi-80``.
        asked_quantiles: Quantiles that the frame shows as ``-q0.1``.
        source: Where sample paths come from; ``None`` where the forecaster has none.
        is_mean: Whether the points of a series are means, ``[N]``; ``None`` is not known.
    """

    point: np.ndarray
    ids: np.ndarray
    times: pd.Index
    cutoffs: pd.Index
    alias: str
    dialect: Dialect
    quantiles: Mapping[float, np.ndarray] = field(default_factory=dict)
    levels: tuple[float, ...] = ()
    asked_quantiles: tuple[float, ...] = ()
    source: "PathSource | None" = None
    is_mean: np.ndarray | None = None

    @property
    def horizon(self) -> int:
        """Steps ahead."""
        return self.point.shape[1]

    def draws(self, n_samples: int, random_state: Any) -> Iterator[tuple[slice, np.ndarray]]:
        """As :meth:`sample`, part by part: the series of a part and their paths, ``[n, F, S]``.

        Args:
            n_samples: Paths of each series.
            random_state: Seed; ``None`` draws a new one from the operating system.

        Raises:
            ValueError: If the forecaster has no quantiles to draw from.
        """
        from tsattn.random import seed_from

        check_whole("n_samples", n_samples)
        if self.source is None:
            raise ValueError(
                f"{self.alias} gives points without quantiles here, so there are no sample paths;"
                " leave level and quantiles out, or take a forecaster with intervals, such as"
                " 'zero'"
            )
        seed = seed_from(random_state)
        if seed is None:
            seed = secrets.randbits(63)
        return self.source.draws(n_samples, seed)

    def sample(self, n_samples: int = 100, *, random_state: Any = None) -> np.ndarray:
        """Sample paths, ``[N, F, n_samples]``, whose steps depend on one another as the errors of
        past forecasts of the same series did.

        At each step the paths have the quantiles of the forecast. Those of a series that was left
        out are NaN.

        Args:
            n_samples: Paths of each series.
            random_state: Seed; ``None`` draws a new one from the operating system.

        Raises:
            ValueError: If the forecaster has no quantiles to draw from.
        """
        parts = [part for _, part in self.draws(n_samples, random_state)]
        n_skipped = len(self.ids) - sum(map(len, parts))
        parts.append(np.full((n_skipped, *parts[0].shape[1:]), np.nan))
        return np.concatenate(parts)

    def total(
        self,
        span: str | int = "all",
        *,
        level: Numbers | None = None,
        quantiles: Numbers | None = None,
        n_samples: int = 1000,
        random_state: Any = 0,
    ) -> pd.DataFrame:
        """Sums over spans of rows or of the calendar, with intervals from sample paths
        (:meth:`sample`).

        If the points of a series are medians, its sum is the median of the sums of its paths; if
        they are means, it is the sum of the points. A forecaster without quantiles sums its points,
        with a warning if they are medians.

        Args:
            span: ``"all"`` rows, a number of rows, or a calendar span as pandas names it, such as
                ``"W"``, ``"M"`` or ``"Q"``. A row belongs to the span of its stamp.
            level: Central intervals of the sums in percent.
            quantiles: Quantiles of the sums.
            n_samples: Paths of each series.
            random_state: Seed; ``None`` draws a new one from the operating system.

        Returns:
            One row for each series and span, in the layout of the data: the first stamp of the span
            that was forecast, ``rows`` (the number of rows forecast in it), the sum and its bounds,
            in the columns of :meth:`to_frame`.

        Raises:
            ValueError: If a span is unknown, or levels are asked of points without quantiles.
        """
        from tsattn.totals import total_frame

        return total_frame(self, span, level, quantiles, n_samples, random_state)

    def _repr_html_(self) -> str:
        from tsattn.notebook import forecast_html

        return forecast_html(self)

    def sums_of_points(self) -> np.ndarray:
        """Whether the total of a series is the sum of its points, ``[N]``."""
        if self.source is None or self.is_mean is None:
            return np.full(len(self.ids), True)
        return self.is_mean

    def to_frame(self) -> pd.DataFrame:
        """The forecast in the dialect of the data.

        Returns:
            Long: id, time, ``<alias>``, ``<alias>-lo-80``, ``<alias>-hi-80``, ``<alias>-q0.1``, one
            row a series and step in the order of ``ids``. Wide: ``<series>``, ``<series>-lo-80``,
            ... by stamp.

        Raises:
            ValueError: If a column would have the name of another one.
        """
        dialect = self.dialect
        suffixes = interval_columns(self.levels, self.asked_quantiles)
        columns: list[tuple[Any, Any]] = []
        times = self.times
        # Series behind one name: all of a long table, one of a wide one.
        series_of_names: list[tuple[str | int, Any]] = [(self.alias, slice(None))]
        if dialect.kind == "wide":
            times = times[: self.horizon]
            places = pd.Index(self.ids).get_indexer(pd.Index(dialect.columns))
            series_of_names = [*zip(dialect.columns, places, strict=True)]
        for name, series in series_of_names:
            columns.append((name, self.point[series].ravel()))
            for suffix, quantile in suffixes:
                bounds = self.quantiles[quantile][series]
                columns.append((f"{name}-{suffix}", bounds.ravel()))
        names = [*dialect.row_cols, *(name for name, _ in columns)]
        refuse_twice(names, has_alias=dialect.kind == "long")
        return dialect.answer(np.repeat(self.ids, self.horizon), times, dict(columns))


def with_skipped(forecast: Forecast, panel: Panel) -> Forecast:
    """The forecast with rows of NaN for the series that the panel leaves out, after the others."""
    names = [series.name for series in panel.skipped]
    # numpy makes whole numbers of stamps among objects.
    ids = np.concatenate([as_objects(forecast.ids), as_objects(names)])
    steps = forecast.horizon
    nothing = np.full((len(names), steps), np.nan)
    last = panel.skipped_times()
    is_mean = forecast.is_mean
    if is_mean is not None:
        is_mean = np.concatenate([is_mean, np.zeros(len(names), dtype=bool)])
    return replace(
        forecast,
        point=np.concatenate([forecast.point, nothing]),
        ids=ids,
        times=forecast.times.append(future_times(last, panel.freq, steps)),
        cutoffs=forecast.cutoffs.append(last),
        quantiles={q: np.concatenate([bound, nothing]) for q, bound in forecast.quantiles.items()},
        is_mean=is_mean,
    )


def without_skipped(forecast: Forecast, n_series: int) -> Forecast:
    """The forecast without the rows of NaN that :func:`with_skipped` adds.

    Args:
        forecast: Of a panel.
        n_series: Series of the panel.
    """
    is_mean = forecast.is_mean
    return replace(
        forecast,
        point=forecast.point[:n_series],
        ids=forecast.ids[:n_series],
        times=forecast.times[: n_series * forecast.horizon],
        cutoffs=forecast.cutoffs[:n_series],
        quantiles={q: bound[:n_series] for q, bound in forecast.quantiles.items()},
        is_mean=None if is_mean is None else is_mean[:n_series],
    )


def first_not_finite(point: np.ndarray, bounds: np.ndarray) -> int | None:
    """The first of forecasts ``[B, F, C]``, bounds ``[B, F, C, Q]``, that is not finite, if any."""
    # A finite sum is the fast proof that all values are finite.
    if math.isfinite(point.sum()) and math.isfinite(bounds.sum()):
        return None
    finite = np.isfinite(point).all(axis=(1, 2))
    finite &= np.isfinite(bounds).all(axis=(1, 2, 3))
    return None if finite.all() else int(np.argmin(finite))
