"""Features of one window and one step ahead, for a regression that forecasts every step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

# Last values of the window that every step reads.
_N_LAST_VALUES = 8
# Seasons before the step of which the value at the step's phase is a feature of its own. Earlier
# seasons count in the mean over all.
_N_SEASONS = 3
# Rows of the short mean over the future columns.
_SHORT_MEAN_ROWS = 3


@dataclass(frozen=True)
class StepFeatures:
    """The features of a standardised window for one step ahead.

    The target gives the last values, the values of the last seasons at the step's phase and next to
    it, and means. The future columns give the step's row, the rows a season before, and means up to
    the step. Nothing after the step is read.

    Attributes:
        context: Rows of history T.
        horizon: Steps ahead F.
        cycles: Rows of each season, none longer than the context; the longest first.
        n_future: Features of the future columns in a row.
        n_calendar: Features of the calendar in a row, which follow them.
        n_past: Features of the past columns in a row.
        n_static: Features of the static columns.
    """

    context: int
    horizon: int
    cycles: tuple[int, ...] = ()
    n_future: int = 0
    n_calendar: int = 0
    n_past: int = 0
    n_static: int = 0

    @property
    def width(self) -> int:
        """Number of features."""
        # Counted on one window of zeros.
        n_rows = self.context + self.horizon
        n_ahead = self.n_future + self.n_calendar
        parts = {
            "known": np.zeros((1, n_rows, n_ahead)),
            "past": np.zeros((1, self.context, self.n_past)),
            "static": np.zeros((1, self.n_static)),
        }
        window = np.zeros((1, self.context))
        step = np.zeros((1, 1), dtype=np.int64)
        rows = self.rows(window, parts, step)
        return rows.shape[1]

    def rows(self, z: np.ndarray, parts: Mapping[str, np.ndarray], steps: np.ndarray) -> np.ndarray:
        """Features of some steps of each window.

        Args:
            z: Standardised windows, ``[n, T]``.
            parts: Covariates of the same windows as
                :meth:`tsattn.data.encoding.CovariateEncoder.parts` gives them; missing values
                become 0.
            steps: Steps of each window, counted from 0, ``[n, r]``.

        Returns:
            float32 ``[n * r, features]``, window by window.
        """
        features = [*self._of_window(z, steps)]
        features += self._of_seasons(z, steps)
        if self.n_future + self.n_calendar:
            filled = np.nan_to_num(parts["known"])
            future = filled.astype(np.float64)
            features += self._of_future(future, steps)
        if self.n_past:
            features += self._of_past(parts["past"], steps)
        if self.n_static:
            # One column [n, 1] a feature.
            static_columns = parts["static"].T[..., None]
            features += list(static_columns)
        n_windows, n_steps = steps.shape
        n_features = len(features)
        # Features of the window alone, [n, 1], are the same for all steps.
        rows = np.empty((n_windows, n_steps, n_features), dtype=np.float32)
        for k, feature in enumerate(features):
            rows[..., k] = feature
        n_rows = n_windows * n_steps
        return rows.reshape(n_rows, n_features)

    def _phase_rows(self, steps: np.ndarray, cycle: int) -> np.ndarray:
        """The last row of the context at the phase of each step, ``[n, r]``."""
        n_cycles = -(-(steps + 1) // cycle)  # rounded up: as many as lead back into the context
        return self.context + steps - cycle * n_cycles

    def _horizon_rows(self, steps: np.ndarray) -> np.ndarray:
        """The row one horizon before each step, or the first one, ``[n, r]``."""
        rows = self.context + steps - self.horizon
        return np.maximum(rows, 0)

    def _of_window(self, z: np.ndarray, steps: np.ndarray) -> Iterator[np.ndarray]:
        """Number of the step, last values, means over the window and its last seasons."""
        window = np.arange(len(z))[:, None]
        last_value = z[:, [-1]]
        yield steps + 1.0
        longest_lag = min(_N_LAST_VALUES, self.context)
        for lag in range(1, longest_lag + 1):
            yield z[:, [-lag]]
        horizon_rows = self._horizon_rows(steps)
        yield z[window, horizon_rows]
        yield z.mean(axis=1, keepdims=True)
        for cycle in self.cycles:
            last_cycle = z[:, -cycle:]
            yield last_cycle.mean(axis=1, keepdims=True)
            if self.context >= 2 * cycle:
                previous_cycle = z[:, -2 * cycle : -cycle]
                yield previous_cycle.mean(axis=1, keepdims=True)
            if self.context > cycle:
                # Change of the last value since the season before.
                season_before = z[:, [-1 - cycle]]
                yield last_value - season_before

    def _of_seasons(self, z: np.ndarray, steps: np.ndarray) -> Iterator[np.ndarray]:
        """Values of the last seasons at the phase of the step, their mean, and the two values next
        to the last one.
        """
        window = np.arange(len(z))[:, None]
        last_row = self.context - 1
        for cycle in self.cycles:
            last = self._phase_rows(steps, cycle)
            n_seasons = self.context // cycle
            values = []
            for season in range(n_seasons):
                rows = last - season * cycle
                values.append(z[window, rows])
            yield from values[:_N_SEASONS]
            if n_seasons > 1:
                yield np.mean(values, axis=0)
            # The rows around it, within the context.
            row_before = np.maximum(last - 1, 0)
            row_after = np.minimum(last + 1, last_row)
            yield z[window, row_before]
            yield z[window, row_after]

    def _of_future(self, future: np.ndarray, steps: np.ndarray) -> Iterator[np.ndarray]:
        """Future columns and calendar at the step; future columns a season before it, and their
        means up to it.
        """
        n_windows, n_rows, n_columns = future.shape
        window = np.arange(n_windows)[:, None]
        row = self.context + steps
        for k in range(n_columns):
            yield future[window, row, k]
        if not self.n_future:
            return
        columns = future[..., : self.n_future]  # without the calendar
        # Differences of sums give the means over any rows.
        sums = np.zeros((n_windows, n_rows + 1, self.n_future))
        sums[:, 1:] = columns.cumsum(axis=1)
        # The last cycle is the shortest.
        shortest_cycle = self.cycles[-1:]
        spans = sorted({_SHORT_MEAN_ROWS, *shortest_cycle})
        next_row = row + 1
        for k in range(self.n_future):
            for cycle in self.cycles:
                phase_rows = self._phase_rows(steps, cycle)
                yield columns[window, phase_rows, k]
            for span in spans:
                if span > self.context:
                    continue
                sum_to_step = sums[window, next_row, k]
                sum_before_span = sums[window, next_row - span, k]
                total = sum_to_step - sum_before_span
                yield total / span
            past_values = columns[:, : self.context, k]
            yield past_values.mean(axis=1, keepdims=True)

    def _of_past(self, past: np.ndarray, steps: np.ndarray) -> Iterator[np.ndarray]:
        """Past columns: the last value, the mean, the values one horizon and one season before the
        step.
        """
        window = np.arange(len(past))[:, None]
        horizon_rows = self._horizon_rows(steps)
        phase_rows = [self._phase_rows(steps, cycle) for cycle in self.cycles]
        for k in range(self.n_past):
            yield past[:, [-1], k]
            column = past[..., k]
            yield column.mean(axis=1, keepdims=True)
            yield past[window, horizon_rows, k]
            for rows in phase_rows:
                yield past[window, rows, k]
