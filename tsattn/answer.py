"""Forecasts as arrays and as a frame, with their sample paths and sums."""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from tsattn.checks import check_whole
from tsattn.data.frames import Dialect, Panel
from tsattn.levels import interval_columns, refuse_twice


def check_point(point: object) -> None:
    """Refuse a point that is none.

    Args:
        point: The setting.

    Raises:
        ValueError: If it is another value than "median", "mean" and "auto".
    """
    if point not in ("median", "mean", "auto"):
        raise ValueError(
            f"point must be 'median', 'mean' or 'auto'; got {point!r}; take point='mean' for"
            " forecasts that are to be summed"
        )


def chosen_points(
    point: np.ndarray,
    levels: Sequence[float],
    curves: np.ndarray,
    is_mean: np.ndarray,
    own_point: str,
) -> np.ndarray:
    """Points ``[B, F, C]``: means where ``is_mean [B, 1, C]``, and medians elsewhere.

    Args:
        point: The forecaster's own points.
        levels: Probabilities of the curves, the median among them.
        curves: Quantiles, ``[B, F, C, Q]``.
        is_mean: Where a mean is wanted.
        own_point: What the forecaster's own points are.
    """
    from tsattn.paths import mean_of

    means = point
    medians = point
    if own_point == "median":
        means = mean_of(levels, curves)
    else:
        medians = curves[..., levels.index(0.5)]
    return np.where(is_mean, means, medians)


@dataclass(frozen=True, eq=False)
class Forecast:
    """An immutable answer: N series, F steps.

    The point is what the forecaster gives: a median for ``"zero"`` and heads of quantiles, a mean
    for the classical models. Medians do not sum to the median of a sum, and the median of rare
    sales is 0: :meth:`total` sums, and ``point="mean"`` of a forecaster gives means.

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
        source: The forecaster, the series and the future columns, from which sample paths are
            drawn; ``None`` where there are none.
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
    source: tuple[Any, Panel, Any] | None = None
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
        from tsattn.sampling import PathSource

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
        forecaster, panel, future = self.source
        return PathSource(forecaster, panel, self.horizon, future).draws(n_samples, seed)

    def sample(self, n_samples: int = 100, *, random_state: Any = None) -> np.ndarray:
        """Sample paths, ``[N, F, n_samples]``, whose steps depend on one another as the errors of
        past forecasts of the same series did.

        At each step the paths have the quantiles of the forecast.

        Args:
            n_samples: Paths of each series.
            random_state: Seed; ``None`` draws a new one from the operating system.

        Raises:
            ValueError: If the forecaster has no quantiles to draw from.
        """
        return np.concatenate([paths for _, paths in self.draws(n_samples, random_state)])

    def total(
        self,
        span: str | int = "all",
        *,
        level: float | Iterable[float] | None = None,
        quantiles: float | Iterable[float] | None = None,
        n_samples: int = 1000,
        random_state: Any = 0,
    ) -> pd.DataFrame:
        """Sums over calendar spans, with bands from sample paths (:meth:`sample`).

        The sum of a series whose points are medians is the median of the sums of its paths, and the
        sum of its points where these are means. A forecaster without quantiles sums its points.

        Args:
            span: ``"all"`` rows, a number of rows, or a calendar span as pandas names it, such as
                ``"W"``, ``"M"`` or ``"Q"``. A row belongs to the span of its stamp.
            level: Central intervals of the sums in percent.
            quantiles: Quantiles of the sums.
            n_samples: Paths of each series.
            random_state: Seed; ``None`` draws a new one from the operating system.

        Returns:
            One row a series and span, in the dialect of the data: the first stamp of the span that
            was forecast, ``rows`` (their number), and the columns of :meth:`to_frame`.

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
        if dialect.id_col is not None:
            ids = np.repeat(self.ids, self.horizon)
            columns.append((dialect.id_col, dialect.restore_ids(ids)))
        times = self.times[: self.horizon] if dialect.kind == "wide" else self.times
        if dialect.time_col is not None:
            columns.append((dialect.time_col, times))
        if dialect.kind == "wide":
            places = pd.Index(self.ids).get_indexer(pd.Index(dialect.columns))
            shown: list[tuple[str, Any]] = list(zip(dialect.columns, places, strict=True))
        else:
            shown = [(self.alias, slice(None))]
        for name, rows in shown:
            columns.append((name, self.point[rows].ravel()))
            for suffix, q in suffixes:
                columns.append((f"{name}-{suffix}", self.quantiles[q][rows].ravel()))
        refuse_twice([name for name, _ in columns])
        index = None if dialect.time_col is not None else times.rename(dialect.index_name)
        return pd.DataFrame(dict(columns), index=index)
