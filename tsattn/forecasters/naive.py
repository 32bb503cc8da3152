"""Forecasts by a rule, which cost nothing and must therefore be beaten."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from tsattn.checks import Argument, InputError, check_whole, check_whole_or_none
from tsattn.data.calendar import season_length
from tsattn.data.panel import Panel, require_length
from tsattn.data.schema import Schema
from tsattn.forecaster import FitContext, Fitted, Forecaster, learnt
from tsattn.forecasts import Answer, unbounded

if TYPE_CHECKING:
    from tsattn.data.encoding import CovariateWindows


class PointForecaster(Forecaster):
    """A forecaster that gives points only and refuses quantiles."""

    gives_quantiles = False

    def __init__(
        self, horizon: int, *, alias: str | None = None, schema: Schema = Schema()
    ) -> None:
        check_whole("horizon", horizon)
        self.horizon = horizon
        self.alias = alias
        self.schema = schema

    def _fit(self, panel: Panel, context: FitContext) -> Fitted:
        require_length(panel, self.min_context, f"the context of {self.alias_}")
        return Fitted(panel=panel)

    @abstractmethod
    def _points(self, x: np.ndarray) -> np.ndarray:
        """``[B, F, C]`` from checked contexts ``x [B, T, C]``."""

    def _forecast(
        self, x: np.ndarray, quantiles: Sequence[float], covariates: "CovariateWindows | None"
    ) -> Answer:
        point = self._points(x)
        return unbounded(point)


class Naive(PointForecaster):
    """The last value, repeated.

    Args:
        horizon: Rows forecast ahead.
        alias: Name of the column; default ``"naive"``.
        schema: How tables are read.

    Raises:
        ValueError: If ``horizon`` is not a positive integer.

    Example:
        >>> Naive(2).predict_windows(np.array([[[1.0], [4.0]]]))[0].ravel()
        array([4., 4.])
    """

    name = "naive"
    context = 1

    def _points(self, x: np.ndarray) -> np.ndarray:
        last_row = x[:, -1:]
        return np.repeat(last_row, self.horizon, axis=1)


@dataclass(frozen=True, eq=False, kw_only=True)
class SeasonalFitted(Fitted):
    """The season, which is the context."""

    saved_counts = MappingProxyType({"context": "context_"})


class SeasonalNaive(PointForecaster):
    """The value one season ago, the last season repeated where the horizon is longer.

    Args:
        horizon: Rows forecast ahead.
        season_length: Rows in a season; ``None`` takes the frequency's at ``fit`` (24 for ``"h"``,
            1 where none is known, which makes it :class:`Naive`).
        alias: Name of the column; default ``"seasonal_naive"``.
        schema: How tables are read.

    Attributes:
        context_: Season used, set by ``fit``.

    Raises:
        ValueError: If ``horizon`` or ``season_length`` is not a positive integer.

    Example:
        >>> rule = SeasonalNaive(3, season_length=2)
        >>> rule.predict_windows(np.array([[[9.0], [1.0], [4.0]]]))[0].ravel()
        array([1., 4., 1.])
    """

    name = "seasonal_naive"
    fitted_class = SeasonalFitted

    context_: int = learnt("context", "Season used.")

    def __init__(
        self,
        horizon: int,
        season_length: int | None = None,
        *,
        alias: str | None = None,
        schema: Schema = Schema(),
    ) -> None:
        super().__init__(horizon, alias=alias, schema=schema)
        self.season_length = check_whole_or_none("season_length", season_length)

    @property
    def context(self) -> int:
        """One season.

        Raises:
            ValueError: If the season is to follow from the frequency and none was seen yet.
        """
        if self.season_length is None:
            raise InputError(
                "SeasonalNaive takes its season from the data; call fit first or pass ",
                Argument("season_length"),
            )
        return self.season_length

    def _fit(self, panel: Panel, context: FitContext) -> SeasonalFitted:
        season = self.season_length or season_length(panel.freq)
        require_length(panel, season, f"the context of {self.alias_}")
        return SeasonalFitted(panel=panel, context=season)

    def _points(self, x: np.ndarray) -> np.ndarray:
        season = self.min_context
        first_row = x.shape[1] - season  # of the last season
        phases = np.arange(self.horizon) % season
        return x[:, first_row + phases]


class RowsForecaster(PointForecaster):
    """A rule that reads the last ``context`` rows."""

    least_rows = 1

    def __init__(
        self,
        horizon: int,
        context: int | None = None,
        *,
        alias: str | None = None,
        schema: Schema = Schema(),
    ) -> None:
        super().__init__(horizon, alias=alias, schema=schema)
        self.context = check_whole_or_none("context", context, self.least_rows)


class Drift(RowsForecaster):
    """The line through the first and the last of the last ``context`` rows, drawn on.

    Args:
        horizon: Rows forecast ahead.
        context: Rows of history between which the slope is taken, at least 2. ``None`` is twice the
            horizon, so that the line is drawn on by about half the length that it was seen for. The
            textbook rule takes the whole history: a context of all rows.
        alias: Name of the column; default ``"drift"``.
        schema: How tables are read.

    Raises:
        ValueError: If ``horizon`` is not a positive integer or ``context`` is below 2.

    Example:
        >>> Drift(2, context=3).predict_windows(np.array([[[1.0], [9.0], [5.0]]]))[0].ravel()
        array([7., 9.])
    """

    name = "drift"
    least_rows = 2

    @property
    def min_context(self) -> int:
        """Rows between which the slope is taken."""
        return self.context or 2 * self.horizon

    def _points(self, x: np.ndarray) -> np.ndarray:
        first = x[:, -self.min_context, None]
        last = x[:, -1:]
        ahead = np.arange(1, self.horizon + 1)[:, None]
        rise = last - first  # over the context
        n_steps = self.min_context - 1
        return last + rise * ahead / n_steps


class WindowAverage(RowsForecaster):
    """The mean of the last ``context`` rows, repeated.

    Args:
        horizon: Rows forecast ahead.
        context: Rows averaged, at least 1. ``None`` is the horizon: as many rows as are forecast.
        alias: Name of the column; default ``"window_average"``.
        schema: How tables are read.

    Raises:
        ValueError: If ``horizon`` or ``context`` is not a positive integer.

    Example:
        >>> x = np.array([[[9.0], [1.0], [4.0]]])
        >>> WindowAverage(2, context=2).predict_windows(x)[0].ravel()
        array([2.5, 2.5])
    """

    name = "window_average"

    @property
    def min_context(self) -> int:
        """Rows averaged."""
        return self.context or self.horizon

    def _points(self, x: np.ndarray) -> np.ndarray:
        mean = x.mean(axis=1, keepdims=True)
        return np.repeat(mean, self.horizon, axis=1)
