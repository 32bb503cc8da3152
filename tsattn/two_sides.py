"""Forecasts of stretches of rows from the rows before them, and from the rows after them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsattn.data.calendar import season_length
from tsattn.data.panel import Panel
from tsattn.forecasters.pretrained import PretrainedForecaster, network_of

# Rows that are read on each side of a stretch.
CONTEXT = 512
# Stretches that are forecast together, at most: their contexts stay small in memory.
_BATCH = 4096


@dataclass(frozen=True)
class Stretches:
    """Runs of rows inside the series of a panel.

    Args:
        first: First row of each in the panel, ``[S]``.
        length: Rows of each, ``[S]``.
        owner: Series of each, ``[S]``.
    """

    first: np.ndarray
    length: np.ndarray
    owner: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def take(self, index: np.ndarray | slice) -> "Stretches":
        """Some of them, by a mask, a slice or numbers."""
        first = self.first[index]
        length = self.length[index]
        owner = self.owner[index]
        return Stretches(first, length, owner)

    def rows(self) -> np.ndarray:
        """Rows of stretches of one length L, ``[S, L]``."""
        steps = np.arange(self.length[0])
        return self.first[:, None] + steps

    def by_length(self) -> Iterator["Stretches"]:
        """The stretches of each length, the shortest first."""
        for length in np.unique(self.length):
            has_length = self.length == length
            yield self.take(has_length)

    def batches(self) -> Iterator["Stretches"]:
        """Parts of a few thousand."""
        for start in range(0, len(self), _BATCH):
            part = slice(start, start + _BATCH)
            yield self.take(part)


class TwoSides:
    """Forecasts stretches of a panel in both directions of time.

    Args:
        panel: The panel; NaN is missing.
        weights: Pretrained weights.
        n_threads: Threads of the network.
    """

    def __init__(self, panel: Panel, weights: str | Path, n_threads: int | None) -> None:
        self.panel = panel
        forecaster = PretrainedForecaster(1, weights=weights, n_threads=n_threads)
        season = season_length(panel.freq)
        self._forecaster = forecaster.with_network(network_of(weights), season)

    def forecast(
        self, x: np.ndarray, n_steps: int, quantiles: Sequence[float] = ()
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points ``[S, F]`` and quantiles ``[S, F, Q]`` after contexts ``[S, T]``; NaN after a
        context without a value.
        """
        n_contexts = len(x)
        points = np.full((n_contexts, n_steps), np.nan)
        bounds = np.full((n_contexts, n_steps, len(quantiles)), np.nan)
        is_empty = np.isnan(x).all(axis=1)
        has_value = ~is_empty
        if has_value.any():
            forecaster = self._forecaster.reaching(n_steps)
            windows = x[has_value, :, None]
            answer = forecaster.predict_windows(windows, quantiles=quantiles)
            # The forecaster may reach further ahead than is asked for.
            points[has_value] = answer[0][:, :n_steps, 0]
            bounds[has_value] = answer[1][:, :n_steps, 0]
        return points, bounds

    def before(self, stretches: Stretches) -> np.ndarray:
        """The rows before stretches in the order of time, ``[S, T]``; NaN before a series."""
        steps_back = np.arange(CONTEXT, 0, -1)
        rows = stretches.first[:, None] - steps_back
        first_rows = self.panel.starts[stretches.owner]
        is_inside = rows >= first_rows[:, None]
        return self._values_at(rows, is_inside)

    def after(self, stretches: Stretches) -> np.ndarray:
        """The rows after stretches, the nearest last, ``[S, T]``; NaN after a series."""
        ends = stretches.first + stretches.length
        rows = ends[:, None] + np.arange(CONTEXT)[::-1]
        stop_rows = self.panel.starts[stretches.owner + 1]
        is_inside = rows < stop_rows[:, None]
        return self._values_at(rows, is_inside)

    def _values_at(self, rows: np.ndarray, is_inside: np.ndarray) -> np.ndarray:
        values = self.panel.values[:, 0]
        last_row = len(values) - 1
        clipped = np.clip(rows, 0, last_row)
        at_rows: np.ndarray = np.where(is_inside, values[clipped], np.nan)
        # Leading columns without a value in any row would cost the network time.
        has_value = ~np.isnan(at_rows)
        is_used = has_value.any(axis=0)
        is_used[-1] = True
        first_used = is_used.argmax()
        return at_rows[:, first_used:]
