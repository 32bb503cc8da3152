"""Wrong values of sensors, and values that only seem to be wrong because columns explain them."""

import numpy as np

from tsattn.data.grid import lie_outside

# Equal values in a row of which all but the first are stuck, at least.
_LEAST_EQUAL = 28
# Such runs that a window may have: what stands still more often does so by its nature.
_MOST_RUNS = 4
# Share of the other values that may repeat the one before them.
_REPEAT_SHARE = 0.05
# Share of a window's values in such runs, at most.
_STUCK_SHARE = 1 / 3
# Share of the changes that go up, and of those that go down, at least: counters only rise.
_LEAST_WAY_SHARE = 0.1
# Values above, and values below all others that are spikes, at most.
_MOST_SPIKES = 3
# Their least distance to all others, in ranges of the others.
_SPIKE_RANGES = 5
# Other values that there must be.
_LEAST_OTHERS = 30
# Rows of an event, at least: a single one may be chance.
_LEAST_EVENTS = 2


def find_stuck(x: np.ndarray) -> np.ndarray:
    """Values that repeat the one before them for an unusually long time, as a stuck sensor does.

    These are runs of 28 equal values or more, without the first one, in a window that moves again
    after them. There are four such runs at most, of different values, which hold a third of the
    window at most; at most a twentieth of all other values repeats the one before; and the window
    rises and falls. Runs of the least or largest value are not stuck: no sales, a closed valve and
    a full tank look alike.

    Args:
        x: Windows ``[B, T, C]``; NaN is missing, and ends a run.

    Returns:
        True where a value is stuck, ``[B, T, C]``.

    Example:
        >>> x = np.sin(np.arange(200.0))
        >>> x[100:140] = x[100]
        >>> int(find_stuck(x[None, :, None]).sum())
        39
    """
    stuck = np.zeros(x.shape, dtype=bool)
    repeats = np.zeros(x.shape, dtype=bool)
    repeats[:, 1:] = x[:, 1:] == x[:, :-1]
    observed = np.isfinite(x)
    smallest = np.where(observed, x, np.inf).min(axis=1, keepdims=True)
    largest = np.where(observed, x, -np.inf).max(axis=1, keepdims=True)
    is_inside = (x > smallest) & (x < largest)
    n_inside = (repeats & is_inside).sum(axis=1)
    for window, channel in np.argwhere(n_inside >= _LEAST_EQUAL - 1):
        place = (window, slice(None), channel)
        stuck[place] = _stuck_of(x[place], repeats[place], is_inside[place])
    return stuck


def _stuck_of(x: np.ndarray, repeats: np.ndarray, is_inside: np.ndarray) -> np.ndarray:
    """Stuck values of one series ``[T]``."""
    observed = np.isfinite(x)
    begins = observed & ~repeats
    run = np.cumsum(begins) - 1
    n_equal = np.bincount(run[observed])
    if not _hangs(x[begins], n_equal):
        return np.zeros(len(x), dtype=bool)
    is_long = n_equal >= _LEAST_EQUAL
    # What no later value follows may be a new level, or an end.
    is_long[-1] = False
    return is_long[run] & repeats & is_inside


def _hangs(values: np.ndarray, n_equal: np.ndarray) -> bool:
    """Whether a series stands still by mistake, from the value and the length of its runs ``[R]``
    of equal values.
    """
    is_long = n_equal >= _LEAST_EQUAL
    long_values = values[is_long]
    n_long = n_equal[is_long].sum()
    are_few = len(long_values) <= _MOST_RUNS and n_long <= _STUCK_SHARE * n_equal.sum()
    has_one_level = len(np.unique(long_values)) < len(long_values)
    others = n_equal[~is_long]
    n_repeats = (others - 1).sum()
    repeats_often = n_repeats > _REPEAT_SHARE * others.sum()
    changes = np.diff(values)
    n_of_rarer_way = min((changes > 0).sum(), (changes < 0).sum())
    only_counts = n_of_rarer_way < _LEAST_WAY_SHARE * len(changes)
    return bool(are_few and not (has_one_level or repeats_often or only_counts))


def find_spikes(values: np.ndarray) -> np.ndarray:
    """Values five ranges above or below all others, such as those with a slipped decimal point.

    The range is that of all values but the three least and the three largest, so that there are
    three spikes on each side at most. There are none where the last value is one, since it may
    begin a new level, and where all others are equal.

    Args:
        values: At least 36 values of a series, ``[T]``; NaN is missing.

    Returns:
        True where a value is a spike, ``[T]``; nowhere if there are fewer values.

    Example:
        >>> find_spikes(np.append(np.sin(np.arange(50.0)), [99.0, 0.5])).nonzero()[0].tolist()
        [50]
    """
    none = np.zeros(len(values), dtype=bool)
    observed = np.isfinite(values)
    if observed.sum() < _LEAST_OTHERS + 2 * _MOST_SPIKES:
        return none
    others = np.sort(values[observed])[_MOST_SPIKES:-_MOST_SPIKES]
    is_below, is_above = lie_outside(values, others, _SPIKE_RANGES)
    is_spike = is_below | is_above
    is_new_level = is_spike[observed][-1]
    return none if is_new_level or others[0] == others[-1] else is_spike


def explained(is_outlier: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Outliers in rows of rare events, such as sales on the day of a fair.

    A column has a value there that stands in two rows at least, over half of which hold outliers;
    or there are so many rows with this value or a larger one, or with this value or a smaller one.

    Args:
        is_outlier: Whether values of windows are outliers, ``[B, T, C]``.
        columns: The columns beside them, ``[B, T, K]``.

    Returns:
        Which outliers are explained, ``[B, T, C]``.

    Example:
        >>> fair = np.arange(9.0) % 4 == 3
        >>> explained(fair[None, :, None], fair[None, :, None].astype(float)).sum()
        np.int64(2)
    """
    answer = np.zeros_like(is_outlier)
    for window, channel in np.argwhere(is_outlier.any(axis=1)):
        outliers = is_outlier[window, :, channel]
        for column in columns[window].T:
            for value in np.unique(column[outliers]):
                for is_event in (column == value, column >= value, column <= value):
                    n_outliers = (outliers & is_event).sum()
                    if is_event.sum() >= _LEAST_EVENTS and 2 * n_outliers > is_event.sum():
                        answer[window, :, channel] |= outliers & is_event
    return answer
