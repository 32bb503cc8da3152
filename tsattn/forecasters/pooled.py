"""Windows that teach one model for all series and channels, and their scale."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from tsattn.data.frames import Panel, require_length, season_length
from tsattn.data.windows import (
    History,
    WindowSpec,
    check_windows,
    chunk_size,
    least_rows,
    pad_front,
)
from tsattn.forecasters.stored import StoredForecaster


class PooledForecaster(StoredForecaster):
    """A forecaster that learns one model from windows of all series; what a window lacks is padded
    by its mean.
    """

    min_context = 1
    bound: ClassVar[tuple[str, ...]] = ("horizon",)

    @property
    def max_context(self) -> int:
        """``context_`` once fitted, otherwise ``context``."""
        return super().min_context

    def _checked(self, x: np.ndarray) -> np.ndarray:
        self.check_fitted()
        context = self.max_context
        return pad_front(check_windows(x, 1, padded=True)[:, -context:], context, fill=True)


def choose_context(
    panel: Panel, horizon: int, given: int | None, *, least: int = 1, season: int | None = None
) -> int:
    """Rows of history for a pooled model.

    Args:
        panel: The series.
        horizon: Rows forecast ahead.
        given: The user's choice; ``None`` takes the longer of two horizons and one season, at most
            half of what the median series leaves beside one horizon.
        least: Rows that the model reads at least.
        season: Rows of the season; ``None`` is that of the frequency.

    Raises:
        ValueError: If no series has room for one whole window.
    """
    context = least if given is None else given
    rooms = panel.lengths - horizon
    if rooms.max() < context:
        require_length(
            panel,
            context + horizon,
            f"one window of {context} rows of context and {horizon} of horizon",
        )
    if given is not None:
        return given
    typical = int(np.median(rooms[rooms >= least]))
    season = season_length(panel.freq) if season is None else season
    return max(least, min(max(2 * horizon, season), typical // 2))


def standardise(x: np.ndarray, *, centre: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Put each window on its own scale, so that series of any size, seen or not, share one model.

    Args:
        x: ``[B, T, C]``.
        centre: ``"last"`` takes the last value off, ``"mean"`` the mean.

    Returns:
        ``(x - level) / spread``, level and spread ``[B, 1, C]``. The spread is the standard
        deviation, and 0 of a constant window, which is divided by 1: forecasts multiplied by it are
        then the level itself.

    Example:
        >>> x = np.array([[[1.0], [3.0]], [[5.0], [5.0]]])
        >>> z, level, spread = standardise(x, centre="last")
        >>> z[0].ravel(), level.ravel(), spread.ravel()
        (array([-2.,  0.]), array([3., 5.]), array([1., 0.]))
    """
    # In units of the largest value, so that the squares of tiny and huge values stay within range.
    size = np.abs(x).max(axis=1, keepdims=True, initial=0.0)
    size = np.where(size > 0, size, 1.0)
    u = x / size
    level = x[:, -1:] if centre == "last" else u.mean(axis=1, keepdims=True) * size
    deviation = u.std(axis=1, keepdims=True)
    # A constant window leaves rounding dust, not zero.
    spread = np.where(deviation > 1e-12, deviation, 0.0) * size
    return (x - level) / np.where(spread > 0, spread, 1.0), level, spread


def training_windows(
    panel: Panel,
    *,
    context: int,
    horizon: int,
    max_windows: int,
    generator: np.random.Generator,
    centre: str,
    beside: Callable[[np.ndarray], np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`drawn_windows` without their ends, covariates beside the contexts.

    Args:
        panel, context, horizon, max_windows, generator, centre: As there.
        beside: More features ``[n, K]`` of the windows that end before n rows.

    Returns:
        ``[n, T + K]`` and ``[n, F]``, in the order of series, time and channel.

    Raises:
        ValueError: As there.
    """
    how: dict[str, Any] = {"context": context, "horizon": horizon, "max_windows": max_windows}
    z, future, ends = drawn_windows(panel, **how, generator=generator, centre=centre)
    if beside is not None:
        z = np.concatenate([z, beside(ends)], axis=1)
    return z, future


def drawn_windows(
    panel: Panel,
    *,
    context: int,
    horizon: int,
    max_windows: int,
    generator: np.random.Generator,
    centre: str,
    gaps: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardised contexts and futures of all series and channels, at most ``max_windows`` of
    them.

    Windows whose future misses a value, and constant ones while there are others, teach nothing and
    are left out. Where a series has no room for a whole window, the windows of each begin at half
    of what it has, and what they lack at the front is the mean of the window. Memory follows
    ``max_windows``, not the panel.

    Args:
        panel: The series.
        context: Rows before each cutoff.
        horizon: Rows after it.
        max_windows: Most windows; where there are more, so many are drawn without replacement.
        generator: Draws them.
        centre: As in :func:`standardise`.
        gaps: Whether a future that misses some of its values teaches, with NaN there.

    Returns:
        ``[n, T]``, ``[n, F]`` and the rows before which the windows end, ``[n]``, in the order of
        series, time and channel.

    Raises:
        ValueError: If no series has room for a window, or no future is complete.
    """
    history = History(panel)
    n_channels = panel.n_channels
    whole = int(panel.lengths.min()) >= context + horizon
    spec = WindowSpec(context, horizon, None if whole else least_rows(context))
    ends = spec.ends(panel.starts, np.zeros_like(panel.lengths), panel.lengths)
    if not len(ends):
        require_length(
            panel, spec.length, f"one window of {context} rows of context and {horizon} of horizon"
        )
    total = len(ends) * n_channels
    drawn = total > max_windows
    picked = (
        generator.choice(total, max_windows, replace=False, shuffle=False)
        if drawn
        else np.arange(total)
    )
    picked.sort()
    window, channel = np.divmod(picked, n_channels)
    x = np.empty((len(picked), context))
    y = np.empty((len(picked), horizon))
    used = np.unique(window)
    step = chunk_size((context + horizon) * n_channels)
    for first in range(0, len(used), step):
        part = used[first : first + step]
        rows = slice(*np.searchsorted(window, [part[0], part[-1] + 1]))
        at = np.searchsorted(part, window[rows]), slice(None), channel[rows]
        contexts = pad_front(history.reaching(ends[part], context), context, fill=True)
        x[rows], y[rows] = contexts[at], history.futures(ends[part], horizon)[at]
    z, level, spread = standardise(x[..., None], centre=centre)
    complete = ~(np.isnan(y).all(axis=1) if gaps else np.isnan(y).any(axis=1))
    if not complete.any():
        raise ValueError(
            f"no window has {horizon} rows in a row that are all known after its cutoff; give a"
            " table with fewer missing values, or a shorter horizon"
        )
    moving = complete & (spread[:, 0, 0] > 0)
    keep = moving if moving.any() else complete
    scale = np.where(spread > 0, spread, 1.0)[:, 0]
    return z[keep, :, 0], ((y - level[:, 0]) / scale)[keep], ends[window[keep]]
