"""Forecasts by a rule, which cost nothing and must therefore be beaten."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tsattn.data.frames import Panel, require_length, season_length
from tsattn.data.schema import Schema
from tsattn.forecaster import check_horizon
from tsattn.forecasters.stored import StoredForecaster

if TYPE_CHECKING:
    from tsattn.data.encoding import CovariateWindows


class PointForecaster(StoredForecaster):
    """A forecaster that gives points only and refuses quantiles."""

    def _learn(self, panel: Panel) -> None:
        require_length(panel, self.min_context, f"the context of {self.alias_}")

    @abstractmethod
    def _points(self, x: np.ndarray) -> np.ndarray:
        """``[B, F, C]`` from checked contexts ``x [B, T, C]``."""

    def _forecast(
        self, x: np.ndarray, quantiles: Sequence[float], covariates: "CovariateWindows | None"
    ) -> tuple[np.ndarray, np.ndarray]:
        self._refuse_quantiles(quantiles)
        point = self._points(x)
        return point, np.empty((*point.shape, 0))

    def _refuse_quantiles(self, quantiles: Sequence[float]) -> None:
        if len(quantiles):
            raise ValueError(
                f"{self.alias_} gives points only, no level or quantiles; wrap it for intervals:"
                f" SplitConformal({type(self).__name__}(...), n_windows=...)"
            )


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

    def __init__(
        self, horizon: int, *, alias: str | None = None, schema: Schema = Schema()
    ) -> None:
        check_horizon(horizon)
        self.horizon = horizon
        self.alias = alias
        self.schema = schema

    def _points(self, x: np.ndarray) -> np.ndarray:
        return np.repeat(x[:, -1:], self.horizon, axis=1)


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
    learnt = ("context_",)

    def __init__(
        self,
        horizon: int,
        season_length: int | None = None,
        *,
        alias: str | None = None,
        schema: Schema = Schema(),
    ) -> None:
        check_horizon(horizon)
        self.horizon = horizon
        self.season_length = (
            None if season_length is None else check_rows("season_length", season_length, 1)
        )
        self.alias = alias
        self.schema = schema

    @property
    def context(self) -> int:
        """One season.

        Raises:
            ValueError: If the season is to follow from the frequency and none was seen yet.
        """
        if self.season_length is None:
            raise ValueError(
                "SeasonalNaive takes its season from the data; call fit first or pass"
                " season_length="
            )
        return self.season_length

    def _learn(self, panel: Panel) -> None:
        self.context_ = self.season_length or season_length(panel.freq)
        require_length(panel, self.context_, f"the context of {self.alias_}")

    def _points(self, x: np.ndarray) -> np.ndarray:
        season = self.min_context
        return x[:, x.shape[1] - season + np.arange(self.horizon) % season]


class Drift(PointForecaster):
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

    def __init__(
        self,
        horizon: int,
        context: int | None = None,
        *,
        alias: str | None = None,
        schema: Schema = Schema(),
    ) -> None:
        check_horizon(horizon)
        self.horizon = horizon
        self.context = None if context is None else check_rows("context", context, 2)
        self.alias = alias
        self.schema = schema

    @property
    def min_context(self) -> int:
        """Rows between which the slope is taken."""
        return self.context or 2 * self.horizon

    def _points(self, x: np.ndarray) -> np.ndarray:
        first = x[:, -self.min_context, None]
        last = x[:, -1:]
        ahead = np.arange(1, self.horizon + 1)[:, None]
        return last + (last - first) * ahead / (self.min_context - 1)


class WindowAverage(PointForecaster):
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

    def __init__(
        self,
        horizon: int,
        context: int | None = None,
        *,
        alias: str | None = None,
        schema: Schema = Schema(),
    ) -> None:
        check_horizon(horizon)
        self.horizon = horizon
        self.context = None if context is None else check_rows("context", context, 1)
        self.alias = alias
        self.schema = schema

    @property
    def min_context(self) -> int:
        """Rows averaged."""
        return self.context or self.horizon

    def _points(self, x: np.ndarray) -> np.ndarray:
        return np.repeat(x.mean(axis=1, keepdims=True), self.horizon, axis=1)


def check_rows(name: str, value: object, least: int) -> int:
    """Return a number of rows as an int.

    Args:
        name: The argument, for the message.
        value: What was given.
        least: The smallest number that serves.

    Raises:
        ValueError: If it is not an integer of at least ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(
            f"{name} must be an integer number of rows, at least {least}; got {value!r}"
        )
    return int(value)
