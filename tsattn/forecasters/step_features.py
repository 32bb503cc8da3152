"""Features of one window and one step ahead, from which a single regression forecasts
every step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

# Last values that every step reads.
_LAST_VALUES = 8
# Seasons before the step whose value at the step's phase is read one by one; of all others the
# mean.
_SEASONS = 3
# Steps of the short mean over the future columns, beside that over the shortest season.
_SHORT_MEAN = 3


@dataclass(frozen=True)
class StepFeatures:
    """What is read of a standardised window for one step ahead.

    Of the window: the number of the step, the last values, the values of the last seasons at the
    step's phase and beside it, means. Of the future columns: the step's row, the rows a season
    before, means up to the step. Nothing after the step is read.

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
        known = np.zeros((1, self.context + self.horizon, self.n_future + self.n_calendar))
        parts = {
            "known": known,
            "past": np.zeros((1, self.context, self.n_past)),
            "static": np.zeros((1, self.n_static)),
        }
        return self.rows(
            np.zeros((1, self.context)), parts, np.zeros((1, 1), dtype=np.int64)
        ).shape[1]

    def rows(self, z: np.ndarray, parts: Mapping[str, np.ndarray], steps: np.ndarray) -> np.ndarray:
        """Features of some steps of each window.

        Args:
            z: Standardised windows, ``[n, T]``.
            parts: Covariates of the same windows as
                :meth:`tsattn.data.encoding.CovariateEncoder.parts` gives them; what is not known is
                0.
            steps: Steps of each window, counted from 0, ``[n, r]``.

        Returns:
            float32 ``[n * r, features]``, window by window.
        """
        shape = steps.shape
        columns = [*self._of_window(z, steps), *self._of_seasons(z, steps)]
        if self.n_future + self.n_calendar:
            columns += self._of_known(np.nan_to_num(parts["known"]).astype(np.float64), steps)
        if self.n_past:
            columns += self._of_past(parts["past"], steps)
        if self.n_static:
            columns += list(parts["static"].T[..., None])
        rows = np.empty((*shape, len(columns)), dtype=np.float32)
        for k, column in enumerate(columns):
            rows[..., k] = column
        return rows.reshape(shape[0] * shape[1], len(columns))

    def _phase_rows(self, steps: np.ndarray, cycle: int) -> np.ndarray:
        """The last row of the context at the phase of each step, ``[n, r]``."""
        return self.context + steps - cycle * -(-(steps + 1) // cycle)

    def _horizon_rows(self, steps: np.ndarray) -> np.ndarray:
        """The row one horizon before each step, or the first one, ``[n, r]``."""
        return np.maximum(self.context + steps - self.horizon, 0)

    def _of_window(self, z: np.ndarray, steps: np.ndarray) -> Iterator[np.ndarray]:
        """Number of the step, last values, means over the window and its last seasons."""
        window = np.arange(len(z))[:, None]
        yield steps + 1.0
        for lag in range(1, min(_LAST_VALUES, self.context) + 1):
            yield z[:, [-lag]]
        yield z[window, self._horizon_rows(steps)]
        yield z.mean(axis=1, keepdims=True)
        for cycle in self.cycles:
            yield z[:, -cycle:].mean(axis=1, keepdims=True)
            if self.context >= 2 * cycle:
                yield z[:, -2 * cycle : -cycle].mean(axis=1, keepdims=True)
            if self.context > cycle:  # how far the last value is from that of a season before
                yield z[:, [-1]] - z[:, [-1 - cycle]]

    def _of_seasons(self, z: np.ndarray, steps: np.ndarray) -> Iterator[np.ndarray]:
        """Values of the last seasons at the phase of the step, their mean, and the last ones beside
        it.
        """
        window = np.arange(len(z))[:, None]
        for cycle in self.cycles:
            last = self._phase_rows(steps, cycle)
            n_seasons = self.context // cycle
            for season in range(min(_SEASONS, n_seasons)):
                yield z[window, last - season * cycle]
            if n_seasons > 1:
                yield np.mean(
                    [z[window, last - season * cycle] for season in range(n_seasons)], axis=0
                )
            yield z[window, np.maximum(last - 1, 0)]
            yield z[window, np.minimum(last + 1, self.context - 1)]

    def _of_known(self, known: np.ndarray, steps: np.ndarray) -> Iterator[np.ndarray]:
        """Future columns and calendar at the step; future columns a season before it, and their
        means up to it.
        """
        window = np.arange(len(known))[:, None]
        row = self.context + steps
        for k in range(known.shape[2]):
            yield known[window, row, k]
        columns = known[..., : self.n_future]
        if not self.n_future:
            return
        sums = np.concatenate(
            [np.zeros((len(known), 1, self.n_future)), columns.cumsum(axis=1)], axis=1
        )
        spans = {_SHORT_MEAN, *self.cycles[-1:]}
        for k in range(self.n_future):
            for cycle in self.cycles:
                yield columns[window, self._phase_rows(steps, cycle), k]
            for span in sorted(span for span in spans if span <= self.context):
                yield (sums[window, row + 1, k] - sums[window, row + 1 - span, k]) / span
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
