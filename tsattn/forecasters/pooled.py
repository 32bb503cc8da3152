"""Training windows of one model for all series, and their scale."""

from typing import ClassVar

import numpy as np
import pandas as pd

from tsattn.data.calendar import season_length
from tsattn.data.panel import Panel, require_length
from tsattn.data.training_windows import WindowSpec
from tsattn.data.windows import History, check_windows, chunk_size, least_rows, pad_front
from tsattn.forecaster import Forecaster, learnt
from tsattn.forecasters.deadlines import require_seconds

# Deviation of a window, in units of its largest value, that counts as none.
_ROUNDING_DEVIATION = 1e-12
# A window does not move if its spread is below this share of the usual one of its series. What
# follows a sensor that hung would be thousands of spreads away.
_STILL_SHARE = 0.01


class PooledForecaster(Forecaster):
    """A forecaster that learns one model from windows of all series; short windows are padded with
    their mean.
    """

    min_context = 1
    bound: ClassVar[tuple[str, ...]] = ("horizon",)

    context_: int = learnt("context", "Rows of history read.")
    n_windows_: int = learnt("n_windows", "Training windows used.")

    @property
    def max_context(self) -> int:
        """``context_`` once fitted, otherwise ``context``."""
        return super().min_context

    def _checked(self, x: np.ndarray) -> np.ndarray:
        self.check_fitted()
        context = self.max_context
        x = check_windows(x, 1, padded=True)
        return pad_front(x[:, -context:], context, fill=True)


def choose_context(
    panel: Panel,
    horizon: int,
    context: int | None,
    *,
    min_rows: int = 1,
    season: int | None = None,
) -> int:
    """Rows of history for a pooled model.

    Args:
        panel: The series.
        horizon: Rows forecast ahead.
        context: The user's choice; ``None`` takes the longer of two horizons and one season, at
            most half of the median series without one horizon.
        min_rows: Rows that the model reads at least.
        season: Rows of the season; ``None`` is that of the frequency.

    Raises:
        ValueError: If no series has room for one whole window.
    """
    needed = min_rows if context is None else context
    rooms = panel.lengths - horizon
    if rooms.max() < needed:
        require_length(
            panel,
            needed + horizon,
            f"one window of {needed} rows of context and {horizon} of horizon",
        )
    if context is not None:
        return context
    median_room = int(np.median(rooms[rooms >= min_rows]))
    if season is None:
        season = season_length(panel.freq)
    wished_context = max(2 * horizon, season)
    return max(min_rows, min(wished_context, median_room // 2))


def standardise(x: np.ndarray, *, centre: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Put each window on its own scale, so that series of any size share one model.

    Args:
        x: Windows ``[B, T]`` or ``[B, T, C]``.
        centre: ``"last"`` subtracts the last value, ``"mean"`` the mean.

    Returns:
        ``(x - location) / spread``, and location and spread ``[B, 1]`` or ``[B, 1, C]``. The spread
        is the standard deviation. It is 0 for a constant window, which is divided by 1: a forecast
        multiplied by the spread is then the location.

    Example:
        >>> x = np.array([[[1.0], [3.0]], [[5.0], [5.0]]])
        >>> z, location, spread = standardise(x, centre="last")
        >>> z[0].ravel(), location.ravel(), spread.ravel()
        (array([-2.,  0.]), array([3., 5.]), array([1., 0.]))
    """
    # In units of the largest value, the squares of tiny and huge values stay within range.
    size = np.abs(x).max(axis=1, keepdims=True, initial=0.0)
    size = np.where(size > 0, size, 1.0)
    u = x / size
    location = x[:, -1:]
    if centre != "last":
        location = u.mean(axis=1, keepdims=True) * size
    deviation = u.std(axis=1, keepdims=True)
    # Rounding leaves a tiny deviation of a constant window.
    spread = np.where(deviation > _ROUNDING_DEVIATION, deviation, 0.0) * size
    z = (x - location) / np.where(spread > 0, spread, 1.0)
    return z, location, spread


def training_windows(
    panel: Panel,
    *,
    context: int,
    horizon: int,
    max_windows: int,
    generator: np.random.Generator,
    centre: str,
    gaps: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardised contexts and futures of all series, at most ``max_windows`` of them.

    Windows with a missing value in the future are left out, and so are those that hardly move,
    compared with others of their series, while there are others. Where a series has no room for a
    whole window, the first windows of every series are shorter, from half of its rows on; their
    mean stands for the missing rows. Memory follows ``max_windows``, not the panel.

    Args:
        panel: The series.
        context: Rows before each cutoff.
        horizon: Rows after it.
        max_windows: Most windows; where there are more, so many are drawn without replacement.
        generator: Draws them.
        centre: As in :func:`standardise`.
        gaps: Whether a future with some missing values, which stay NaN, is a training window too.

    Returns:
        ``[n, T]``, ``[n, F]`` and the rows before which the windows end, ``[n]``, in the order of
        series and time.

    Raises:
        ValueError: If no series has room for a window, or no future is complete.
        OutOfTime: If the time limit of the caller ends before.
    """
    ends = _window_ends(panel, context, horizon)
    if len(ends) > max_windows:
        picked = generator.choice(len(ends), max_windows, replace=False, shuffle=False)
        picked.sort()
        ends = ends[picked]
    history = History(panel)
    z = np.empty((len(ends), context))
    y = np.empty((len(ends), horizon))
    location = np.empty((len(ends), 1))
    spread = np.empty((len(ends), 1))
    size = chunk_size(context + horizon)
    for first in range(0, len(ends), size):
        require_seconds()
        part = slice(first, first + size)
        contexts = history.reaching(ends[part], context)
        x = pad_front(contexts, context, fill=True)[..., 0]
        z[part], location[part], spread[part] = standardise(x, centre=centre)
        y[part] = history.futures(ends[part], horizon)[..., 0]
    missing = np.isnan(y)
    complete = ~(missing.all(axis=1) if gaps else missing.any(axis=1))
    if not complete.any():
        raise ValueError(
            f"no window has {horizon} rows in a row that are all known after its cutoff; give a"
            " table with fewer missing values, or a shorter horizon"
        )
    spreads = pd.Series(spread[:, 0])
    usual_spreads = spreads.groupby(panel.owners(ends)).transform("median")
    moving = complete & (spreads > _STILL_SHARE * usual_spreads).to_numpy()
    used = moving if moving.any() else complete
    future = (y - location) / np.where(spread > 0, spread, 1.0)
    if used.all():
        return z, future, ends
    return z[used], future[used], ends[used]


def _window_ends(panel: Panel, context: int, horizon: int) -> np.ndarray:
    """Absolute rows just after the contexts of all windows, ascending."""
    has_short_series = int(panel.lengths.min()) < context + horizon
    least = least_rows(context) if has_short_series else None
    spec = WindowSpec(context, horizon, least)
    ends = spec.ends(panel.starts, np.zeros_like(panel.lengths), panel.lengths)
    if not len(ends):
        require_length(
            panel, spec.length, f"one window of {context} rows of context and {horizon} of horizon"
        )
    return ends
