"""Which forecasts cost nothing, and must therefore be beaten?"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
import pandas as pd

from tsattn.data.frames import Panel, require_length, season_length
from tsattn.forecaster import (
    Forecast,
    alias_of,
    answer,
    check_horizon,
    check_request,
    check_windows,
    context_of,
    continued,
    panel_for,
)


class Baseline(ABC):
    """What all baselines do alike: read a table, remember it, forecast after it, refuse what they cannot give.

    Args:
        horizon: Rows forecast ahead.
        alias: Name of the column.
        id_col: Column of ids, for frames.
        time_col: Column of stamps.
        target_col: Column of values.
        freq: Frequency; ``None`` infers it.
        missing: What to do about missing values: ``"error"``, ``"interpolate"`` or ``"ffill"``.

    Raises:
        ValueError: If ``horizon`` is not a positive integer.
    """

    _context: int | None = None
    _gives_quantiles: ClassVar[bool] = False

    def __init__(
        self,
        horizon: int,
        *,
        alias: str,
        id_col: str,
        time_col: str,
        target_col: str,
        freq: str | int | None,
        missing: str,
    ) -> None:
        self.horizon = check_horizon(horizon)
        self.alias = alias
        self.id_col = id_col
        self.time_col = time_col
        self.target_col = target_col
        self.freq = freq
        self.missing = missing
        self._panel: Panel | None = None
        self._data_was_panel = False

    @abstractmethod
    def _learn(self, panel: Panel) -> None:
        """Learn from all rows, or refuse them."""

    @abstractmethod
    def _forecast(self, x: np.ndarray) -> np.ndarray:
        """``[B, F, C]`` from checked contexts ``x [B, T, C]``."""

    def _bounds(self, x: np.ndarray, quantiles: Sequence[float]) -> np.ndarray:
        """``[B, F, C, Q]`` from checked contexts; only called of a class with ``_gives_quantiles``."""
        raise NotImplementedError

    @property
    def context(self) -> int | None:
        """Rows of history that it needs; ``None`` where ``fit`` chooses them and puts them into ``context_``."""
        return self._context

    def fit(self, data: pd.DataFrame | Panel) -> Self:
        """Check the data, learn from all their rows and remember them for ``predict()``; a second call starts afresh.

        Raises:
            ValueError: If the table is faulty or a series too short.
        """
        panel = panel_for(self, data)
        self._learn(panel)
        self._panel, self._data_was_panel = panel, isinstance(data, Panel)
        return self

    def predict(
        self,
        data: pd.DataFrame | Panel | None = None,
        *,
        level: Sequence[float] | float | None = None,
        quantiles: Sequence[float] | float | None = None,
    ) -> pd.DataFrame | Forecast:
        """Forecast the rows after ``data``, or after the fitted data; series may be new.

        Raises:
            ValueError: If not fitted, if intervals are asked of a forecaster that has none, or if the table is
                faulty or too short.
        """
        given, panel = continued(self, data, self._panel, as_panel=self._data_was_panel)
        return answer(self, given, panel, level=level, quantiles=quantiles)

    def predict_windows(self, x: np.ndarray, *, quantiles: Sequence[float] = ()) -> np.ndarray:
        """Forecast from contexts.

        Args:
            x: ``[B, T, C]`` with T at least ``context``; the last ``context`` rows count.
            quantiles: Ascending, strictly between 0 and 1; must be empty where the forecaster gives points only.

        Returns:
            ``[B, F, C]`` in float64, or ``[B, F, C, Q]`` where quantiles are asked.

        Raises:
            ValueError: If ``x`` is unfit, or quantiles are asked of a forecaster that has none.
        """
        if len(quantiles) and not self._gives_quantiles:
            raise ValueError(
                f"{alias_of(self)} gives points only, no level or quantiles; wrap it for intervals:"
                f" SplitConformal({type(self).__name__}(...), n_windows=...)"
            )
        context = context_of(self)
        x = check_windows(x, context)[:, -context:]
        return self._bounds(x, check_request(None, quantiles)[2]) if len(quantiles) else self._forecast(x)


class _Rule(Baseline):
    """A forecaster that learns nothing but reads its last ``context`` rows by a rule."""

    name: ClassVar[str]

    def __init__(
        self,
        horizon: int,
        *,
        alias: str | None,
        id_col: str,
        time_col: str,
        target_col: str,
        freq: str | int | None,
        missing: str,
    ) -> None:
        super().__init__(
            horizon,
            alias=alias or self.name,
            id_col=id_col,
            time_col=time_col,
            target_col=target_col,
            freq=freq,
            missing=missing,
        )

    @property
    @abstractmethod
    def context(self) -> int:
        """Rows of history that the rule reads."""

    def _learn(self, panel: Panel) -> None:
        self._choose_context(panel)
        require_length(panel, self.context, f"the context of {self.alias}")

    def _choose_context(self, panel: Panel) -> None:
        """A rule that reads a season takes it from the frequency here; the others know their rows."""
        return


class Naive(_Rule):
    """The last value, repeated.

    Args:
        horizon: Rows forecast ahead.
        alias: Name of the column; default ``"naive"``.
        id_col: Column of ids, for frames.
        time_col: Column of stamps.
        target_col: Column of values.
        freq: Frequency; ``None`` infers it.
        missing: What to do about missing values: ``"error"``, ``"interpolate"`` or ``"ffill"``.

    Raises:
        ValueError: If ``horizon`` is not a positive integer.

    Example:
        >>> Naive(2).predict_windows(np.array([[[1.0], [4.0]]])).ravel()
        array([4., 4.])
    """

    name = "naive"

    def __init__(
        self,
        horizon: int,
        *,
        alias: str | None = None,
        id_col: str = "unique_id",
        time_col: str = "ds",
        target_col: str = "y",
        freq: str | int | None = None,
        missing: str = "error",
    ) -> None:
        super().__init__(
            horizon,
            alias=alias,
            id_col=id_col,
            time_col=time_col,
            target_col=target_col,
            freq=freq,
            missing=missing,
        )

    @property
    def context(self) -> int:
        """One row."""
        return 1

    def _forecast(self, x: np.ndarray) -> np.ndarray:
        return np.repeat(x[:, -1:], self.horizon, axis=1)


class SeasonalNaive(_Rule):
    """The value one season ago, the last season repeated where the horizon is longer.

    Args:
        horizon: Rows forecast ahead.
        season_length: Rows in a season; ``None`` takes the frequency's at ``fit`` (24 for ``"h"``, 1 where none is
            known, which makes it :class:`Naive`).
        alias: Name of the column; default ``"seasonal_naive"``.
        id_col: Column of ids, for frames.
        time_col: Column of stamps.
        target_col: Column of values.
        freq: Frequency; ``None`` infers it.
        missing: What to do about missing values: ``"error"``, ``"interpolate"`` or ``"ffill"``.

    Attributes:
        season_length_: Season used, set by ``fit``.

    Raises:
        ValueError: If ``horizon`` or ``season_length`` is not a positive integer.

    Example:
        >>> rule = SeasonalNaive(3, season_length=2)
        >>> rule.predict_windows(np.array([[[9.0], [1.0], [4.0]]])).ravel()
        array([1., 4., 1.])
    """

    name = "seasonal_naive"

    def __init__(
        self,
        horizon: int,
        season_length: int | None = None,
        *,
        alias: str | None = None,
        id_col: str = "unique_id",
        time_col: str = "ds",
        target_col: str = "y",
        freq: str | int | None = None,
        missing: str = "error",
    ) -> None:
        super().__init__(
            horizon,
            alias=alias,
            id_col=id_col,
            time_col=time_col,
            target_col=target_col,
            freq=freq,
            missing=missing,
        )
        self.season_length = None if season_length is None else check_rows("season_length", season_length, 1)

    @property
    def context(self) -> int:
        """One season.

        Raises:
            ValueError: If the season is to follow from the frequency and none was seen yet.
        """
        season = self.season_length or getattr(self, "season_length_", None)
        if season is None:
            raise ValueError("SeasonalNaive takes its season from the data; call fit first or pass season_length=")
        return season

    def _choose_context(self, panel: Panel) -> None:
        self.season_length_ = self.season_length or season_length(panel.freq)

    def _forecast(self, x: np.ndarray) -> np.ndarray:
        season = self.context
        return x[:, x.shape[1] - season + np.arange(self.horizon) % season]


class Drift(_Rule):
    """The line through the first and the last of the last ``context`` rows, drawn on.

    Args:
        horizon: Rows forecast ahead.
        context: Rows of history between which the slope is taken, at least 2. ``None`` is twice the horizon, so
            that the line is drawn on by about half the length that it was seen for. The textbook rule takes the
            whole history: a context of all rows.
        alias: Name of the column; default ``"drift"``.
        id_col: Column of ids, for frames.
        time_col: Column of stamps.
        target_col: Column of values.
        freq: Frequency; ``None`` infers it.
        missing: What to do about missing values: ``"error"``, ``"interpolate"`` or ``"ffill"``.

    Raises:
        ValueError: If ``horizon`` is not a positive integer or ``context`` is below 2.

    Example:
        >>> Drift(2, context=3).predict_windows(np.array([[[1.0], [9.0], [5.0]]])).ravel()
        array([7., 9.])
    """

    name = "drift"

    def __init__(
        self,
        horizon: int,
        context: int | None = None,
        *,
        alias: str | None = None,
        id_col: str = "unique_id",
        time_col: str = "ds",
        target_col: str = "y",
        freq: str | int | None = None,
        missing: str = "error",
    ) -> None:
        super().__init__(
            horizon,
            alias=alias,
            id_col=id_col,
            time_col=time_col,
            target_col=target_col,
            freq=freq,
            missing=missing,
        )
        self._rows = 2 * self.horizon if context is None else check_rows("context", context, 2)

    @property
    def context(self) -> int:
        """Rows between which the slope is taken."""
        return self._rows

    def _forecast(self, x: np.ndarray) -> np.ndarray:
        first, last = x[:, -self.context, None], x[:, -1:]
        ahead = np.arange(1, self.horizon + 1)[:, None]
        return last + (last - first) * ahead / (self.context - 1)


class WindowAverage(_Rule):
    """The mean of the last ``context`` rows, repeated.

    Args:
        horizon: Rows forecast ahead.
        context: Rows averaged, at least 1. ``None`` is the horizon: as many rows as are forecast.
        alias: Name of the column; default ``"window_average"``.
        id_col: Column of ids, for frames.
        time_col: Column of stamps.
        target_col: Column of values.
        freq: Frequency; ``None`` infers it.
        missing: What to do about missing values: ``"error"``, ``"interpolate"`` or ``"ffill"``.

    Raises:
        ValueError: If ``horizon`` or ``context`` is not a positive integer.

    Example:
        >>> WindowAverage(2, context=2).predict_windows(np.array([[[9.0], [1.0], [4.0]]])).ravel()
        array([2.5, 2.5])
    """

    name = "window_average"

    def __init__(
        self,
        horizon: int,
        context: int | None = None,
        *,
        alias: str | None = None,
        id_col: str = "unique_id",
        time_col: str = "ds",
        target_col: str = "y",
        freq: str | int | None = None,
        missing: str = "error",
    ) -> None:
        super().__init__(
            horizon,
            alias=alias,
            id_col=id_col,
            time_col=time_col,
            target_col=target_col,
            freq=freq,
            missing=missing,
        )
        self._rows = self.horizon if context is None else check_rows("context", context, 1)

    @property
    def context(self) -> int:
        """Rows averaged."""
        return self._rows

    def _forecast(self, x: np.ndarray) -> np.ndarray:
        return np.repeat(x[:, -self.context :].mean(axis=1, keepdims=True), self.horizon, axis=1)


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
        raise ValueError(f"{name} must be an integer number of rows, at least {least}; got {value!r}")
    return int(value)
