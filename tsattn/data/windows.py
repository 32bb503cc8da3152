"""Contexts and futures of series, their gaps and chunks, and bounds, grids and scales of values."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from tsattn.checks import Argument, InputError, InputWarning, warn
from tsattn.data.calendar import more, more_of
from tsattn.data.grid import owners_of
from tsattn.data.panel import BadSeriesError, Panel, places_of, rows_after, rows_before

# Values in a chunk of windows at most (32 MB in float64), which limits the memory of one call.
_CHUNK_VALUES = 2**22
_CHUNK_WINDOWS = 512
# Rows that are searched together for a sensor that hangs.
_SEARCHED_ROWS = 2048
# A deviation below this multiple of the mean is rounding of a constant series.
_ROUNDING = 1e-12
# A mean of zero must not make that limit zero, since a constant series has deviation zero.
_LEAST_MAGNITUDE = 1e-300
# Largest range of a grid that forecasts are moved to, in steps.
_GRID = 64
# Fewest values of a window from which bounds and grids are read.
_LEAST_VALUES = 32
# One value in so many equals a bound.
_BOUND_PERIOD = 20
# Quarters of the values of a window, each of which must touch a bound that often.
_N_QUARTERS = 4
# Quarters of a window of counts that hold a zero, at least.
_COUNT_QUARTERS = 2
# A fall to zero is so many mean changes.
_FALL_CHANGES = 4
# A gap below this multiple of the range is rounding, no step between two values.
_EQUAL_VALUES = 1e-9
# Largest distance of a value from its grid, in steps.
_OFF_GRID = 1e-6
# A series may have ended if its last values have been equal for so many seasons, ...
_CONSTANT_SEASONS = 2
# ... and for so many rows at least.
_CONSTANT_ROWS = 28
# Rows of history from which a network forecasts, if its context is not shorter.
_LEAST_ROWS = 8


class History:
    """Contexts and futures of a panel, with missing values filled from values before each cutoff.

    Under ``interpolate`` a missing value lies on the line through the values around it if the later
    one is before the cutoff. Otherwise, and always under ``ffill``, it takes the last value before
    it. So no forecast depends on a row after its cutoff. Under ``mask`` nothing is filled: contexts
    have NaN for missing values, for forecasters that leave them out.

    Args:
        panel: The series; ``panel.missing`` is the policy.
    """

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        # All rows, filled from the values up to the end of each series, [rows, C].
        self.filled = panel.values
        # Under interpolation: the last value up to each row, and the row of the next value. A
        # context whose cutoff lies before that row takes the last value.
        self._neighbours: tuple[np.ndarray, np.ndarray] | None = None
        missing = np.isnan(panel.values)
        if missing.any() and panel.missing != "mask":
            self._fill(missing)

    @cached_property
    def group(self) -> History:
        """The history of the series side by side (:meth:`tsattn.data.panel.Panel.grouped`)."""
        return History(self.panel.grouped())

    def _fill(self, missing: np.ndarray) -> None:
        values = self.panel.values
        starts = self.panel.starts
        n_rows = len(values)
        # First row of the series of each row, and the row after its last one, [rows, 1].
        owner = owners_of(starts)[:, None]
        first = starts[owner]
        stop = starts[owner + 1]
        row = np.arange(n_rows)[:, None]
        row_before = rows_before(missing)
        row_after = rows_after(missing)
        none_before = row_before < first
        none_after = row_after >= stop
        # A slice of a series may begin with missing values, which take its first value.
        first_value = np.where(none_after, row, row_after)
        row_before = np.where(none_before, first_value, row_before)
        previous_value = np.take_along_axis(values, row_before, axis=0)
        self.filled = previous_value
        if self.panel.missing == "interpolate":
            later = np.where(none_after, row_before, row_after)
            gap = np.maximum(later - row_before, 1)
            next_value = np.take_along_axis(values, later, axis=0)
            slope = (next_value - previous_value) / gap
            distance = np.clip(row - row_before, 0, None)
            line = previous_value + slope * distance
            self.filled = np.where(missing, line, values)
            self._neighbours = previous_value, np.where(none_after, n_rows, row_after)

    def contexts(self, ends: np.ndarray, context: int) -> np.ndarray:
        """The ``context`` rows before each end.

        Args:
            ends: Absolute rows just after the last row of each context, ``[B]``.
            context: Rows in each context.

        Returns:
            Filled values, ``[B, T, C]`` in float64.
        """
        offsets = np.arange(-context, 0)
        rows = ends[:, None] + offsets
        return self._at(rows, ends)

    def reaching(self, ends: np.ndarray, reach: int) -> np.ndarray:
        """The rows of the same series before each end, ``reach`` at most.

        Args:
            ends: Absolute rows just after the last row of each context, ``[B]``; each has a row
                before it.
            reach: Most rows in a context, at least 1.

        Returns:
            Filled values, ``[B, T, C]`` in float64, T the rows of the longest of these contexts. A
            shorter one has NaN before the first row of its series.
        """
        owner = self.panel.owners(ends)
        series_starts = self.panel.starts[owner]
        first = np.maximum(series_starts, ends - reach)
        lengths = ends - first
        longest = int(lengths.max(initial=0))
        offsets = np.arange(-longest, 0)
        rows = ends[:, None] + offsets
        # Rows before the series are read as its first one, and then emptied.
        x = self._at(np.maximum(rows, first[:, None]), ends)
        x[rows < first[:, None]] = np.nan
        return x

    def _at(self, rows: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Values of ``rows [B, T]``, filled from values before ``ends [B]``, ``[B, T, C]``."""
        x = self.filled[rows]
        if self._neighbours is not None:
            last, next_row = self._neighbours
            next_is_unknown = next_row[rows] >= ends[:, None, None]
            x = np.where(next_is_unknown, last[rows], x)
        return x

    def futures(self, ends: np.ndarray, horizon: int) -> np.ndarray:
        """The ``horizon`` rows from each end on, ``[B, F, C]``, NaN where the truth is missing."""
        rows = ends[:, None] + np.arange(horizon)
        return self.panel.values[rows]


def tail_of(panel: Panel, context: int) -> Panel:
    """The last ``context`` rows of every series, or all its rows, without a gap in the first row
    where earlier ones are left out.

    Other gaps stay, since later rows may decide how they are filled.
    """
    tail = panel.last(context)
    if tail is panel:
        return panel
    values = tail.values.copy()
    first_rows = panel.starts[1:] - tail.lengths
    values[tail.starts[:-1]] = History(panel).filled[first_rows]
    return replace(tail, values=values)


def least_rows(context: int) -> int:
    """Rows of history without which a series is too short for a network that reads ``context``."""
    return min(_LEAST_ROWS, context)


def known_rows(x: np.ndarray) -> np.ndarray:
    """Rows of each window ``[B, T, C]`` from the first one with a value on, ``[B]``.

    Example:
        >>> known_rows(np.array([[[np.nan], [2.0], [np.nan]]]))
        array([2])
    """
    n_rows = x.shape[1]
    if not n_rows:
        return np.zeros(len(x), int)
    observed = ~np.isnan(x).all(axis=2)
    has_value = observed.any(axis=1)
    first = observed.argmax(axis=1)
    return np.where(has_value, n_rows - first, 0)


def known_lengths(panel: Panel) -> np.ndarray:
    """Rows of each series from the first one with a value on, ``[N]``."""
    has_value = ~np.isnan(panel.values).all(axis=1)
    if has_value.all():
        return panel.lengths
    observed = np.flatnonzero(has_value)
    places = np.searchsorted(observed, panel.starts[:-1])
    # The entry after the last one is for series without a value.
    observed = np.append(observed, len(panel.values))
    first = observed[places]
    lengths = panel.starts[1:] - first
    return np.maximum(lengths, 0)


def counts_before(flags: np.ndarray) -> np.ndarray:
    """Number of True flags ``[rows, ...]`` before each row and before the end,
    ``[rows + 1, ...]``; two of them show whether there is one between their rows.
    """
    n_rows, *other_sizes = flags.shape
    shape = (n_rows + 1, *other_sizes)
    counts = np.zeros(shape, dtype=np.int64)
    np.cumsum(flags, axis=0, out=counts[1:])
    return counts


def has_value_before(panel: Panel, ends: np.ndarray, n_rows: int) -> np.ndarray:
    """Whether there is a value among the last ``n_rows`` rows of the same series before each of
    some ends, ``[B]``.
    """
    observed = ~np.isnan(panel.values[:, 0])
    n_values = counts_before(observed)
    first_rows = panel.starts[panel.owners(ends)]
    read_from = np.maximum(ends - n_rows, first_rows)
    return n_values[ends] > n_values[read_from]


def require_known(panel: Panel, reach: int) -> None:
    """Refuse a panel with a series that has no value among the rows that a forecast reads.

    Args:
        panel: The panel.
        reach: Rows at the end of each series that are read.

    Raises:
        BadSeriesError: Naming the first such series, how many others, and the remedy.
    """
    missing = np.isnan(panel.values)
    if not missing.any():
        return
    n_values = counts_before(~missing)
    starts = panel.starts[:-1]
    stops = panel.starts[1:]
    first = np.maximum(stops - reach, starts)
    empty = n_values[stops] == n_values[first]
    if empty.any():
        n = int(np.argwhere(empty)[0, 0])
        n_rows = min(reach, int(panel.lengths[n]))
        others = more(int(empty.sum()))
        raise BadSeriesError(
            f"{panel.series_label(n)}{others} has no value among its last"
            f" {n_rows} rows, but a forecast needs one; fill one in, or"
            " leave it out",
            panel.ids[empty.any(axis=1)],
            f"has no value among its last {reach} rows",
        )


def tell_interpolated(panel: Panel, names: str) -> None:
    """Warn once of missing values of a table just read that a forecaster interpolates: those after
    the first value of a series.

    Args:
        panel: The series.
        names: Name of the forecaster, or of several.
    """
    missing = np.isnan(panel.values)
    if not missing.any():
        return
    has_before = rows_before(missing)[:, 0] >= np.repeat(panel.starts[:-1], panel.lengths)
    rows = np.flatnonzero(missing[:, 0] & has_before)
    if not len(rows):
        return
    owners = panel.owners(rows + 1)
    first = rows[0]
    others = more_of(owners)
    # Of several series one may end before the others.
    has_end = panel.n_series > 1 and missing[panel.starts[1:] - 1, 0].any()
    at_ends = ", and the last value is repeated at ends" if has_end else ""
    warn(
        InputWarning(
            f"{panel.series_label(int(owners[0]))} has no value at {panel.times[first]}{others};"
            f" such values are interpolated for {names}{at_ends}; ",
            Argument("missing", "interpolate"),
            " says so, ",
            Argument("missing", "error"),
            " refuses them",
        )
    )


def check_windows(x: np.ndarray, context: int, *, padded: bool = False) -> np.ndarray:
    """Return contexts as float64.

    Args:
        x: Contexts, ``[B, T, C]``.
        context: Least T.
        padded: Allow rows without a value at the front, which stand for a history that is shorter.

    Raises:
        ValueError: If the shape is wrong, T too short, or a value missing or infinite.
    """
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 3 or x.shape[1] < context:
        raise ValueError(
            f"windows must have shape [B, T, C] with T >= {context} rows of history; got {x.shape}:"
            " give longer windows, or a forecaster with a smaller context"
        )
    valid = np.isfinite(x)
    if padded and not valid.all():
        empty_rows = np.isnan(x).all(axis=2, keepdims=True)
        front = np.logical_and.accumulate(empty_rows, axis=1)
        # A window without any value is never valid.
        front[:, -1] = False
        valid |= front
    if not valid.all():
        raise InputError(
            "windows must be finite; got NaN or inf: fill missing values first, or pass a frame and"
            " ",
            Argument("missing", "interpolate"),
            " or 'ffill'",
        )
    return x


def pad_front(x: np.ndarray, context: int, *, fill: bool) -> np.ndarray:
    """Windows ``[B, T, C]`` with ``context`` rows; absent rows are added at the front.

    Args:
        x: Windows with a value in each channel, T at most ``context``.
        context: Rows of the result.
        fill: Give the mean of the window and channel for missing values; otherwise the rows at the
            front are NaN.

    Example:
        >>> pad_front(np.array([[[1.0], [3.0]]]), 3, fill=True).ravel()
        array([2., 1., 3.])
    """
    n_absent = context - x.shape[1]
    if n_absent:
        x = np.pad(x, ((0, 0), (n_absent, 0), (0, 0)), constant_values=np.nan)
    is_missing = np.isnan(x)
    if not fill or not is_missing.any():
        return x
    mean = x.mean(axis=1, keepdims=True, where=~is_missing)
    return np.where(is_missing, mean, x)


def chunk_size(n_values: int) -> int:
    """Windows in one call if a window has ``n_values`` values, limited in number and in memory.

    Example:
        >>> chunk_size(100), chunk_size(2**20), chunk_size(2**30)
        (512, 4, 1)
    """
    n_windows = _CHUNK_VALUES // max(1, n_values)
    return max(1, min(_CHUNK_WINDOWS, n_windows))


class Covariates(Protocol):
    """What else a window holds."""

    def width(self, context: int, horizon: int) -> int:
        """Count of numbers in one window."""


def window_sizes(
    panel: Panel, covariates: Covariates | None, *, context: int, n_steps: int, n_answers: int
) -> tuple[int, int]:
    """Rows that a forecast reads before each end, and the values of one window for
    :func:`chunk_size`: those that are read and those of the forecast.

    Args:
        panel: The series.
        covariates: Of the panel, if they are read.
        context: Rows that are read at most.
        n_steps: Steps ahead.
        n_answers: Points and quantiles of a step.
    """
    longest = int(panel.lengths.max(initial=0))
    n_rows = min(context, longest)
    n_values = n_rows + n_steps * n_answers
    if covariates is not None:
        n_values += covariates.width(n_rows, n_steps)
    return n_rows, n_values


def spread_places(n_items: int, most: int) -> np.ndarray:
    """Numbers of at most ``most`` of so many items, evenly spread, ascending.

    Example:
        >>> spread_places(9, 3)
        array([0, 4, 8])
    """
    n_places = min(n_items, most)
    places = np.linspace(0, n_items - 1, n_places)
    return np.unique(places.astype(np.int64))


def blocks_of(panel: Panel, n_rows: int) -> Iterator[np.ndarray]:
    """The rows of each series in blocks of ``n_rows`` from its end, several blocks of one length at
    a time, ``[B, rows]``.
    """
    firsts_by_length: dict[int, list[int]] = {}
    for start, stop in itertools.pairwise(panel.starts.tolist()):
        for block_stop in range(stop, start, -n_rows):
            first = max(block_stop - n_rows, start)
            firsts_by_length.setdefault(block_stop - first, []).append(first)
    for length, firsts in firsts_by_length.items():
        blocks = np.array(firsts)[:, None] + np.arange(length)
        size = chunk_size(length)
        for place in range(0, len(blocks), size):
            yield blocks[place : place + size]


def find_stuck_cells(panel: Panel) -> np.ndarray:
    """Cells of the columns of numbers that are stuck as those of a sensor that hangs, among blocks
    of 2,048 rows from the end of each series.

    Returns:
        ``[rows, K]``.
    """
    from tsattn.data.sensor_faults import find_stuck

    covariates = panel.covariates
    if covariates is None:
        return np.zeros((len(panel.values), 0), dtype=bool)
    are_numbers = [covariates.kind(name) is None for name in covariates.columns]
    cells = np.where(are_numbers, covariates.values, np.nan)
    stuck = np.zeros(cells.shape, dtype=bool)
    for rows in blocks_of(panel, _SEARCHED_ROWS):
        stuck[rows] = find_stuck(cells[rows])
    return stuck


def is_intermittent(x: np.ndarray) -> np.ndarray:
    """Whether windows ``[B, T, C]`` hold rare sales, ``[B, 1, C]``: none is negative, and at least
    half of the known values are 0, but not all.

    Example:
        >>> is_intermittent(np.array([[[0.0], [0.0], [5.0]], [[0.0], [4.0], [5.0]]])).ravel()
        array([ True, False])
    """
    observed = ~np.isnan(x)
    n_known = observed.sum(axis=1, keepdims=True)
    n_zeros = (x == 0).sum(axis=1, keepdims=True)
    smallest = np.fmin.reduce(x, axis=1, keepdims=True, initial=np.inf)
    some_are_positive = n_zeros < n_known
    most_are_zero = (2 * n_zeros >= n_known) & some_are_positive
    return most_are_zero & (smallest >= 0)


@dataclass(frozen=True)
class Scaler:
    """Mean and population standard deviation per series and channel, ``[N, C]`` each.

    Series that were constant in the training span have scale 1.
    """

    mean: np.ndarray
    scale: np.ndarray

    def transform(self, values: np.ndarray, series: np.ndarray | int = 0) -> np.ndarray:
        """Standardise ``[B, T, C]`` windows whose b-th comes from series ``series[b]``."""
        # One more axis for the rows of a window.
        mean = self.mean[series][..., None, :]
        scale = self.scale[series][..., None, :]
        return (values - mean) / scale

    def at(self, places: np.ndarray, others: Scaler) -> Scaler:
        """Statistics of the series at ``places [N]``; where a place is -1, those of ``others``."""
        has_place = (places >= 0)[:, None]
        mean = np.where(has_place, self.mean[places], others.mean)
        scale = np.where(has_place, self.scale[places], others.scale)
        return Scaler(mean, scale)


def make_scaler(panel: Panel, stops: int | np.ndarray | None = None) -> Scaler:
    """Statistics of the first ``stops`` rows of every series, missing values left out.

    Args:
        panel: The series.
        stops: Number of rows, the same or one per series ``[N]``; ``None`` takes all rows.

    Raises:
        ValueError: If values are so large that their squares leave float64.
    """
    scaler = unchecked_scaler(panel, stops)
    is_finite = np.isfinite(scaler.scale)
    if not is_finite.all():
        n = int(np.argwhere(~is_finite)[0, 0])
        values = (panel if stops is None else panel.until(stops)).values
        largest = np.nanmax(np.abs(values))
        raise ValueError(
            f"{panel.series_label(n)}: values must have squares within float64; got up to"
            f" {largest:.3g}; give them in a larger unit"
        )
    return scaler


def unchecked_scaler(panel: Panel, stops: int | np.ndarray | None = None) -> Scaler:
    """As :func:`make_scaler`, but infinite where squares leave float64."""
    ends = panel.lengths if stops is None else np.broadcast_to(stops, (panel.n_series,))
    mean = np.empty((panel.n_series, panel.n_channels))
    scale = np.empty_like(mean)
    for series, block in panel.heads(ends):
        mean[series], scale[series] = _moments(block.values, block.starts)
    return Scaler(mean, safe_scale(mean, scale))


@dataclass(frozen=True, eq=False)
class TrainingScales:
    """Standard deviations of the training rows of series, 1 of constant ones.

    Args:
        ids: Ids of the N series.
        values: Deviations, ``[N, 1]``; infinite where squares leave float64.
    """

    ids: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, panel: Panel, stops: int | np.ndarray | None = None) -> Self:
        """The scales of the first ``stops`` rows of each series, the same number or one per series;
        ``None`` takes all rows.
        """
        return cls(panel.ids, unchecked_scaler(panel, stops).scale)

    def at(self, ids: np.ndarray) -> np.ndarray:
        """The scales of the series with some ids, ``[N, 1]``; NaN for others."""
        places = places_of(self.ids, ids)
        has_place = places[:, None] >= 0
        return np.where(has_place, self.values[places], np.nan)

    def of_series(self, panel: Panel) -> np.ndarray:
        """The scales of the series of a panel, ``[N, 1]``; those without have that of all their
        rows.

        Raises:
            ValueError: If values are so large that their squares leave float64.
        """
        scales = self.at(panel.ids)
        scales = np.where(np.isnan(scales), make_scaler(panel).scale, scales)
        if not np.isfinite(scales).all():
            raise ValueError(
                "the training rows hold values whose squares leave float64, so that no error has a"
                " scale; give them in a larger unit"
            )
        return scales


def safe_scale(mean: Any, scale: Any) -> np.ndarray:
    """Deviations from some means, 1 where they are rounding errors, as of constant values, which
    would amplify noise.
    """
    magnitude = np.maximum(np.abs(mean), _LEAST_MAGNITUDE)
    return np.where(scale <= _ROUNDING * magnitude, 1.0, scale)


def _moments(values: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population standard deviation of the rows of each series, ``[N, C]``; they may be
    infinite, and are 0 of a series without rows.
    """
    observed = ~np.isnan(values)
    zeroed = np.where(observed, values, 0.0)
    lengths = np.diff(starts)
    has_rows = lengths > 0
    # Sums over no rows would be the next value.
    first_rows = starts[:-1][has_rows]
    count = np.add.reduceat(observed.astype(float), first_rows, axis=0)
    count = np.maximum(count, 1.0)
    moments = np.zeros((2, len(lengths), values.shape[1]))
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.add.reduceat(zeroed, first_rows, axis=0) / count
        row_mean = np.repeat(mean, lengths[has_rows], axis=0)
        centred = np.where(observed, zeroed - row_mean, 0.0)
        np.square(centred, out=centred)
        variance = np.add.reduceat(centred, first_rows, axis=0) / count
        moments[:, has_rows] = mean, np.sqrt(variance)
    mean_of_all, deviation_of_all = moments
    return mean_of_all, deviation_of_all


class EqualRuns(NamedTuple):
    """How long the last values of windows have been equal.

    Attributes:
        in_last: Rows from the last change on, ``[B, T, C]``; none where nothing ever changed.
        n_last: Number of values since the last change, ``[B, C]``.
        is_longest: Whether no values before that were equal for as long between two changes,
            ``[B, C]``.
        last: The last value, ``[B, C]``; NaN where there is none.
    """

    in_last: np.ndarray
    n_last: np.ndarray
    is_longest: np.ndarray
    last: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray) -> Self:
        """Those of windows ``[B, T, C]``; NaN is missing and does not count as a row."""
        observed = np.isfinite(x)
        row = np.arange(x.shape[1])[:, None]
        last_observed = np.maximum.accumulate(np.where(observed, row, -1), axis=1)
        filled = np.take_along_axis(x, np.maximum(last_observed, 0), axis=1)
        changed = np.zeros_like(observed)
        # The comparison with NaN, before the first value, is no change.
        changed[:, 1:] = np.abs(np.diff(filled, axis=1)) > 0
        n_observed = np.cumsum(observed, axis=1)
        # Observed rows until the last change: the same number for all rows of a run of equal
        # values, 0 before the first change.
        start = np.maximum.accumulate(np.where(changed, n_observed, 0), axis=1)
        has_changed = start > 0
        n_equal = np.where(has_changed, n_observed - start + 1, 0)
        last_start = start[:, -1:]
        in_last = (start == last_start) & has_changed
        n_last = n_equal[:, -1]
        n_longest_before = np.where(in_last, 0, n_equal).max(axis=1)
        is_longest = n_last > n_longest_before
        return cls(in_last, n_last, is_longest, filled[:, -1])

    def is_long(self, season: int) -> np.ndarray:
        """Whether the last values have been equal for long, ``[B, C]``.

        Args:
            season: Steps of the season; 1 for none.
        """
        least = max(_CONSTANT_SEASONS * season, _CONSTANT_ROWS)
        return self.n_last >= least


def last_of_ended(x: np.ndarray, season: int) -> np.ndarray:
    """The last value of windows that no longer move, NaN of all others, ``[B, C]``.

    A window has ended where its last values are equal, for two seasons and 28 rows at least, and
    for longer than any values before that were equal between two changes.

    Args:
        x: Windows ``[B, T, C]``; NaN is missing and does not count as a row.
        season: Steps of the season; 1 for none.

    Example:
        >>> sales = np.append(np.arange(60.0) % 7, np.zeros(40))[None, :, None]
        >>> last_of_ended(sales, 7).tolist()
        [[0.0]]
    """
    runs = EqualRuns.of(x)
    has_ended = runs.is_long(season) & runs.is_longest
    return np.where(has_ended, runs.last, np.nan)


class Values(NamedTuple):
    """Bounds and grid of the values that may follow windows, ``[B, 1, C]`` each.

    A bound is the least or the largest value if it often repeats: at least 32 values are known, and
    in each quarter of them one in twenty equals it. Sales, rain and sunshine have a lower bound of
    zero, relative humidity an upper bound of 100. Zero is also a lower bound after a fall to it, as
    where a shop has closed: no value is negative, the last two are 0, and the one before them is
    at least four times the mean change between positive values. Without a bound ``lower`` and
    ``upper`` are infinite. A grid has equal steps, such as the whole numbers of small counts. All
    values must lie on it, at least 32; their range is at most 64 steps, and at most half as many as
    there are values. Without a grid ``step`` is 0. A grid that begins at zero has its lower bound
    there if two quarters touch it: temperatures that fall to zero for the first time may go on.
    """

    lower: np.ndarray
    upper: np.ndarray
    origin: np.ndarray
    step: np.ndarray

    @classmethod
    def after(cls, x: np.ndarray) -> Self:
        """Bounds and grid of windows ``[B, T, C]``; NaN is missing."""
        smallest = np.fmin.reduce(x, axis=1, keepdims=True)
        largest = np.fmax.reduce(x, axis=1, keepdims=True)
        values = cls(
            lower=np.full_like(smallest, -np.inf),
            upper=np.full_like(largest, np.inf),
            origin=smallest,
            step=np.zeros_like(smallest),
        )
        is_candidate = _may_have_some(x, smallest, largest)
        if is_candidate.any():
            parts = cls._among(x[is_candidate], smallest[is_candidate], largest[is_candidate])
            for array, part in zip(values, parts, strict=True):
                array[is_candidate] = part
        return values

    @classmethod
    def _among(cls, x: np.ndarray, smallest: np.ndarray, largest: np.ndarray) -> Self:
        """Bounds and grid of windows that may have some, with their least and largest values."""
        observed = np.isfinite(x)
        n_values = observed.sum(axis=1, keepdims=True)
        n_before = observed.cumsum(axis=1) - 1
        quarter = _N_QUARTERS * n_before // np.maximum(n_values, 1)
        is_in_quarter = quarter == np.arange(_N_QUARTERS)[:, None, None, None]
        n_smallest = ((x == smallest) & is_in_quarter).sum(axis=2, keepdims=True)
        n_largest = ((x == largest) & is_in_quarter).sum(axis=2, keepdims=True)
        step = _grid_step(x, n_values, smallest, largest)
        n_quarters_touching = (n_smallest > 0).sum(axis=0)
        are_counts = (step > 0) & (smallest == 0) & (n_quarters_touching >= _COUNT_QUARTERS)
        is_lower_bound = _repeat(n_smallest, n_values) | are_counts | _have_fallen(x, smallest)
        is_upper_bound = _repeat(n_largest, n_values)
        lower = np.where(is_lower_bound, smallest, -np.inf)
        upper = np.where(is_upper_bound, largest, np.inf)
        return cls(lower, upper, smallest, step)

    def above_zero(self, where: np.ndarray) -> Self:
        """The same without values below 0 for the windows and channels ``where [B, 1, C]``."""
        raised = np.maximum(self.lower, 0.0)
        lower = np.where(where, raised, self.lower)
        return self._replace(lower=lower)

    def nearest(self, forecast: np.ndarray) -> np.ndarray:
        """Forecasts ``[B, F, C, ...]``, each moved to the nearest of these values."""
        # Axes after the channels, such as quantiles, share the values.
        n_inner = forecast.ndim - 3
        index = (..., *[None] * n_inner)
        lower, upper, origin, step = (array[index] for array in self)
        has_grid = step > 0
        # Without a grid any origin and unit will do: their numbers are not taken.
        origin = np.where(has_grid, origin, 0.0)
        unit = np.where(has_grid, step, 1.0)
        n_steps = np.rint((forecast - origin) / unit)
        on_grid = origin + unit * n_steps
        values = np.where(has_grid, on_grid, forecast)
        return np.clip(values, lower, upper)


def _may_have_some(x: np.ndarray, smallest: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Windows that may have bounds or a grid, ``[B]``.

    Most have neither. These cheap tests exclude them: the last values are many different ones, and
    few values equal the least or the largest one.
    """
    n_last = 2 * _GRID + 2
    last_values = x[:, -n_last:]
    ordered = np.sort(last_values, axis=1)
    # Differences of very large values overflow, which the comparisons allow.
    with np.errstate(over="ignore", invalid="ignore"):
        least_gap = _EQUAL_VALUES * (largest - smallest)
        is_apart = np.diff(ordered, axis=1) > least_gap
    may_have_some = is_apart.sum(axis=1) <= _GRID
    n_missing = np.isnan(x).sum(axis=1)
    n_values = x.shape[1] - n_missing
    for end in (smallest, largest):
        n_equal = (x == end).sum(axis=1)
        may_have_some |= _BOUND_PERIOD * n_equal >= n_values
    smallest_is_zero = smallest[:, 0] == 0
    last_is_zero = x[:, -1] == 0
    may_have_some |= smallest_is_zero & last_is_zero
    return may_have_some.any(axis=1)


def _repeat(n_equal: np.ndarray, n_values: np.ndarray) -> np.ndarray:
    """Whether a bound often repeats, ``[B, 1, C]``.

    Args:
        n_equal: How many values of each quarter equal it, ``[4, B, 1, C]``.
        n_values: How many values are known.
    """
    # The quarter that touches the bound least often decides.
    fewest = n_equal.min(axis=0)
    is_often = _BOUND_PERIOD * _N_QUARTERS * fewest >= n_values
    return is_often & (n_values >= _LEAST_VALUES)


def _grid_step(
    x: np.ndarray, n_values: np.ndarray, smallest: np.ndarray, largest: np.ndarray
) -> np.ndarray:
    """Step of the grid that holds all values of a window, ``[B, 1, C]``; 0 where there is none."""
    # Differences of very large values overflow, which the comparisons allow.
    with np.errstate(over="ignore", invalid="ignore"):
        gaps = np.diff(np.sort(x, axis=1), axis=1)
        value_range = largest - smallest
        # Negated, since a gap to a missing value is NaN and must not count either.
        is_step = gaps > _EQUAL_VALUES * value_range
        gaps[~is_step] = np.inf
        step = gaps.min(axis=1, keepdims=True, initial=np.inf)
        position = (x - smallest) / step
        distance = np.abs(position - np.rint(position))
        off_grid = (distance > _OFF_GRID).any(axis=1, keepdims=True)
        most_steps = np.minimum(_GRID, n_values / 2)
        is_small = value_range <= step * most_steps
    has_step = (step < np.inf) & (n_values >= _LEAST_VALUES)
    has_grid = has_step & is_small & ~off_grid
    return np.where(has_grid, step, 0.0)


def _have_fallen(x: np.ndarray, smallest: np.ndarray) -> np.ndarray:
    """Whether windows have fallen to zero, ``[B, 1, C]``."""
    last_two = x[:, -2:]
    are_zero = (last_two == 0).all(axis=1, keepdims=True)
    ends_at_zero = (smallest == 0) & are_zero
    is_positive = x > 0
    # Pairs of neighbours that are both positive.
    previous_is_positive = is_positive[:, :-1]
    is_pair = is_positive[:, 1:] & previous_is_positive
    n_pairs = is_pair.sum(axis=1, keepdims=True)
    # Differences of very large values overflow, which the comparison allows.
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.abs(np.diff(x, axis=1))
        changes = np.where(is_pair, steps, 0.0)
        total = changes.sum(axis=1, keepdims=True)
        change = total / np.maximum(n_pairs, 1)
    # argmax is the place of the first True, from the end on.
    from_the_end = is_positive[:, ::-1]
    rows_after = from_the_end.argmax(axis=1, keepdims=True)
    place = x.shape[1] - 1 - rows_after
    last_positive = np.take_along_axis(x, place, axis=1)
    has_fallen = ends_at_zero & (n_pairs > 0)
    return has_fallen & (last_positive >= _FALL_CHANGES * change)
