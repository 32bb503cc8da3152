"""How wide must an interval be to hold its level, whoever made the forecast?"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from tsattn.data.frames import Panel, require_length
from tsattn.data.windows import History
from tsattn.evaluate.rolling import judged_rows, rolling_origins
from tsattn.forecast import (
    Forecast,
    Forecaster,
    alias_of,
    answer,
    call_windows,
    check_request,
    check_windows,
    chunk_size,
    context_of,
    panel_for,
    quantiles_to_level,
)

# Rows from which a long panel's series take their scale, where so many stand before the calibration span.
_SCALE_ROWS = 32


@dataclass(frozen=True, eq=False)
class StepIntervals:
    """Split conformal intervals, one width per step ahead and channel.

    Args:
        errors: Absolute calibration errors, ``[n, F, C]``, in any order, NaN where a truth was missing. They are
            kept sorted along n.

    Raises:
        ValueError: If the shape is not ``[n, F, C]``, or an error is negative or infinite.

    Example:
        Nine errors 1 to 9; level 80 takes the ceil(10 * 0.8) = 8th:

        >>> intervals = StepIntervals(np.arange(1.0, 10.0).reshape(9, 1, 1))
        >>> intervals.widths(80)
        array([[8.]])
        >>> intervals.apply(np.full((1, 1, 1), 100.0), (0.1, 0.5, 0.9)).ravel()
        array([ 92., 100., 108.])
    """

    errors: np.ndarray

    def __post_init__(self) -> None:
        errors = np.asarray(self.errors, dtype=np.float64)
        if errors.ndim != 3 or (errors < 0).any() or np.isinf(errors).any():
            raise ValueError(
                f"calibration errors are absolute and finite, [n, F, C]; got shape {errors.shape}: pass |y - forecast|"
            )
        object.__setattr__(self, "errors", np.sort(errors, axis=0))

    def widths(self, level: float) -> np.ndarray:
        """Half the width of the interval of one central level, ``[F, C]``.

        The ``ceil((n + 1) level / 100)``-th smallest of n errors; n counts the errors of that step and channel.

        Raises:
            ValueError: If n is too small for the level.
        """
        check_request(level, None)
        n = np.sum(~np.isnan(self.errors), axis=0)
        # Rounded, or dust would lift 99.9% of 1000 from the 999th error to the 1000th.
        k = np.ceil(np.round((n + 1) * level / 100, 9)).astype(np.int64)
        if (k > n).any():
            fewest, least = int(n.min()), math.ceil(round(level / (100 - level), 9))
            raise ValueError(
                f"level {level} needs at least {least} calibration errors at every step; got n = {fewest}: use more"
                f" calibration windows, or a level of at most {100 * fewest / (fewest + 1):.4g}"
            )
        return np.take_along_axis(self.errors, k[None] - 1, axis=0)[0]

    def apply(self, point: np.ndarray, quantiles: Sequence[float], scale: np.ndarray | float = 1.0) -> np.ndarray:
        """Quantiles around point forecasts, symmetric and monotone.

        Args:
            point: ``[B, F, C]``.
            quantiles: 0.1 and 0.9 are the bounds of level 80, 0.5 is the point.
            scale: Factor of the widths, one number or ``[B, C]``.

        Returns:
            ``[B, F, C, Q]``.

        Raises:
            ValueError: If a quantile is out of range or asks for more errors than there are.
        """
        factor = np.asarray(scale, dtype=np.float64)
        factor = factor[:, None, :] if factor.ndim else factor
        bounds = np.empty((*point.shape, len(quantiles)))
        for i, q in enumerate(quantiles):
            if q == 0.5:
                bounds[..., i] = point
                continue
            (level,) = quantiles_to_level(float(q))
            bounds[..., i] = point + math.copysign(1.0, q - 0.5) * self.widths(level) * factor
        return bounds


def scale_of(x: np.ndarray) -> np.ndarray:
    """Size of the movements in each window, ``[B, C]`` from ``x [B, T, C]``, always positive.

    The standard deviation over T; for a constant window its absolute value; 1 where that is 0 as well.

    Example:
        >>> scale_of(np.array([[[1.0], [3.0]], [[5.0], [5.0]], [[0.0], [0.0]]])).ravel()
        array([1., 5., 1.])
    """
    deviation, size = x.std(axis=1), np.abs(x).max(axis=1)
    # A constant window leaves rounding dust, not zero.
    return np.where(deviation > 1e-12 * size, deviation, np.where(size > 0, size, 1.0))


class SplitConformal:
    """A forecaster with calibrated intervals around the points of another.

    ``fit`` fits a copy of the forecaster on the rows before the calibration span, the last ``horizon + step_size *
    (n_windows - 1)`` rows of each series, and collects its absolute errors on rolling windows of that span, step
    by step. It is not fitted again on the calibration rows: the errors would then be another model's. If errors
    before and after the last row are exchangeable, an interval holds its level; overlapping windows and drift weaken
    that to a good approximation, which a backtest's coverage shows.

    A wide table is calibrated channel by channel, with n = ``n_windows`` errors a step. The series of a long one
    share their errors, n = N * ``n_windows``, each relative to the standard deviation of the last rows before the
    forecast (as many as the forecaster's context, 32 where that is shorter and so many are there), so that series
    of different size may share.

    Args:
        forecaster: Any forecaster; it stays as it is.
        n_windows: Calibration windows a series. Level 80 needs n >= 4, level 95 n >= 19.
        step_size: Rows between them.

    Attributes:
        forecaster_: The fitted copy, set by ``fit``.
        intervals_: The calibration errors, a :class:`StepIntervals`, set by ``fit``.

    Raises:
        ValueError: In ``fit``, if the windows do not fit into a series.
    """

    def __init__(self, forecaster: Forecaster, *, n_windows: int, step_size: int = 1) -> None:
        self.forecaster = forecaster
        self.n_windows = n_windows
        self.step_size = step_size
        self._panel: Panel | None = None
        self._data_was_panel = False
        self._scale_rows: int | None = None  # None: widths are in the units of the data

    @property
    def horizon(self) -> int:
        """Rows forecast ahead."""
        return self.forecaster.horizon

    @property
    def alias(self) -> str:
        """Name of the columns: the forecaster's."""
        return alias_of(self.forecaster)

    @property
    def context(self) -> int:
        """Rows of history needed, for the point and for the scale."""
        inner = context_of(getattr(self, "forecaster_", self.forecaster))
        return max(inner, self._scale_rows or 1)

    def fit(self, data: pd.DataFrame | Panel) -> Self:
        """Fit before the calibration span and calibrate on it.

        Raises:
            ValueError: If the table is faulty or a series too short.
        """
        panel = panel_for(self.forecaster, data)
        _, judged = judged_rows(self.horizon, n_windows=self.n_windows, step_size=self.step_size)
        require_length(panel, judged + 1, f"a calibration span of {judged} rows with one before it")
        origins = rolling_origins(panel.lengths, self.horizon, n_windows=self.n_windows, step_size=self.step_size)
        self.forecaster_ = copy.deepcopy(self.forecaster).fit(panel.until(origins[:, 0]))
        inner = context_of(self.forecaster_)
        require_length(
            panel, judged + inner, f"a calibration span of {judged} rows with the context of {self.alias} before it"
        )
        self._scale_rows = None
        if panel.dialect.kind == "long":
            self._scale_rows = max(inner, min(_SCALE_ROWS, int(origins.min())))
        ends = (panel.starts[:-1, None] + origins).ravel()
        self.intervals_ = StepIntervals(self._errors(History(panel), ends))
        self._panel, self._data_was_panel = panel, isinstance(data, Panel)
        return self

    def _errors(self, history: History, ends: np.ndarray) -> np.ndarray:
        errors = np.empty((len(ends), self.horizon, history.panel.n_channels))
        chunk = chunk_size((self.context + self.horizon) * history.panel.n_channels)
        for first in range(0, len(ends), chunk):
            part = slice(first, first + chunk)
            x = history.contexts(ends[part], self.context)
            gap = np.abs(history.futures(ends[part], self.horizon) - self._point(x))
            errors[part] = gap / self._scale(x)[:, None, :]
        return errors

    def _point(self, x: np.ndarray) -> np.ndarray:
        return call_windows(self.forecaster_, x[:, -context_of(self.forecaster_) :])[0]

    def _scale(self, x: np.ndarray) -> np.ndarray:
        if self._scale_rows is None:
            return np.ones((x.shape[0], x.shape[2]))
        return scale_of(x[:, -self._scale_rows :])

    def predict(
        self,
        data: pd.DataFrame | Panel | None = None,
        *,
        level: Sequence[float] | float | None = None,
        quantiles: Sequence[float] | float | None = None,
    ) -> pd.DataFrame | Forecast:
        """Forecast the rows after ``data``, or after the fitted data, without fitting again; series may be new.

        Raises:
            ValueError: If not fitted, if there are too few calibration errors for a level, or if the table is
                faulty or too short.
        """
        panel = self._fitted()
        if data is None:
            kind = panel if self._data_was_panel else None
            return answer(self, kind, panel, level=level, quantiles=quantiles)
        return answer(self, data, panel_for(self.forecaster, data, panel.freq), level=level, quantiles=quantiles)

    def predict_windows(self, x: np.ndarray, *, quantiles: Sequence[float] = ()) -> np.ndarray:
        """Forecast from contexts.

        Args:
            x: ``[B, T, C]`` with T at least ``context``.
            quantiles: Any whose level the calibration errors suffice for.

        Returns:
            ``[B, F, C]``, or ``[B, F, C, Q]`` where quantiles are asked.

        Raises:
            ValueError: If not fitted, ``x`` is unfit, or there are too few calibration errors.
        """
        self._fitted()
        x = check_windows(x, self.context)
        point = self._point(x)
        if not len(quantiles):
            return point
        return self.intervals_.apply(point, quantiles, self._scale(x))

    def _fitted(self) -> Panel:
        if self._panel is None:
            raise ValueError("SplitConformal is not fitted; call fit(data) before predict")
        return self._panel
