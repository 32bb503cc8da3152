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
        n_rows = self.context + self.horizon
        parts = {
            "known": np.zeros((1, n_rows, self.n_future + self.n_calendar)),
            "past": np.zeros((1, self.context, self.n_past)),
            "static": np.zeros((1, self.n_static)),
        }
        window = np.zeros((1, self.context))
        step = np.zeros((1, 1), dtype=np.int64)
        return self.rows(window, parts, step).shape[1]

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
        features = [*self._of_window(z, steps), *self._of_seasons(z, steps)]
        if self.n_future + self.n_calendar:
            future = np.nan_to_num(parts["known"]).astype(np.float64)
            features += self._of_future(future, steps)
        if self.n_past:
            features += self._of_past(parts["past"], steps)
        if self.n_static:
            features += list(parts["static"].T[..., None])
        n_windows, n_steps = steps.shape
        # Features of the window alone, [n, 1], are the same for all steps.
        rows = np.empty((n_windows, n_steps, len(features)), dtype=np.float32)
        for k, feature in enumerate(features):
            rows[..., k] = feature
        return rows.reshape(n_windows * n_steps, len(features))

    def _phase_rows(self, steps: np.ndarray, cycle: int) -> np.ndarray:
        """The last row of the context at the phase of each step, ``[n, r]``."""
        n_cycles = -(-(steps + 1) // cycle)  # rounded up: as many as lead back into the context
        return self.context + steps - cycle * n_cycles

    def _horizon_rows(self, steps: np.ndarray) -> np.ndarray:
        """The row one horizon before each step, or the first one, ``[n, r]``."""
        return np.maximum(self.context + steps - self.horizon, 0)

    def _of_window(self, z: np.ndarray, steps: np.ndarray) -> Iterator[np.ndarray]:
        """Number of the step, last values, means over the window and its last seasons."""
        window = np.arange(len(z))[:, None]
        yield steps + 1.0
        for lag in range(1, min(_N_LAST_VALUES, self.context) + 1):
            yield z[:, [-lag]]
        yield z[window, self._horizon_rows(steps)]
        yield z.mean(axis=1, keepdims=True)
        for cycle in self.cycles:
            yield z[:, -cycle:].mean(axis=1, keepdims=True)
            if self.context >= 2 * cycle:
                previous_cycle = z[:, -2 * cycle : -cycle]
                yield previous_cycle.mean(axis=1, keepdims=True)
            if self.context > cycle:
                # Change of the last value since the season before.
                yield z[:, [-1]] - z[:, [-1 - cycle]]

    def _of_seasons(self, z: np.ndarray, steps: np.ndarray) -> Iterator[np.ndarray]:
        """Values of the last seasons at the phase of the step, their mean, and the two values next
        to the last one.
        """
        window = np.arange(len(z))[:, None]
        for cycle in self.cycles:
            last = self._phase_rows(steps, cycle)
            n_seasons = self.context // cycle
            values = [z[window, last - season * cycle] for season in range(n_seasons)]
            yield from values[:_N_SEASONS]
            if n_seasons > 1:
                yield np.mean(values, axis=0)
            yield z[window, np.maximum(last - 1, 0)]
            yield z[window, np.minimum(last + 1, self.context - 1)]

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
        spans = sorted({_SHORT_MEAN_ROWS, *self.cycles[-1:]})
        for k in range(self.n_future):
            for cycle in self.cycles:
                yield columns[window, self._phase_rows(steps, cycle), k]
            for span in spans:
                if span <= self.context:
                    total = sums[window, row + 1, k] - sums[window, row + 1 - span, k]
                    yield total / span
            yield columns[:, : self.context, k].mean(axis=1, keepdims=True)

    def _of_past(self, past: np.ndarray, steps: np.ndarray) -> Iterator[np.ndarray]:
        """Past columns: the last value, the mean, the values one horizon and one season before the
        step.
        """
        window = np.arange(len(past))[:, None]
        for k in range(self.n_past):
            yield past[:, [-1], k]
            yield past[..., k].mean(axis=1, keepdims=True)
            yield past[window, self._horizon_rows(steps), k]
            for cycle in self.cycles:
                yield past[window, self._phase_rows(steps, cycle), k]
