"""Series of regular stamps as checked arrays: the panel, and what leaves series out of it."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import tzinfo
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from tsattn.checks import (
    LEAST_OTHERS,
    SENTINEL_RANGES,
    SENTINELS,
    Argument,
    InputError,
    InputWarning,
    InPython,
    Piece,
)
from tsattn.data.calendar import more, ticks
from tsattn.data.columns import Dialect, plain
from tsattn.data.covariates import CovariateColumns, Covariates

__all__ = ["BadSeriesError", "Panel", "Skipped", "require_length"]

# Name of the one series that a group of series becomes.
_GROUP = "group"
# Series that a warning names.
_NAMED_SERIES = 3
# A series that ends so many days and rows before the last one has ended for good.
_ENDED_DAYS = 90
_ENDED_ROWS = 12
# Rows of a block of series, about: 8 MB in float64.
_BLOCK_ROWS = 2**20
# Steps between values, at least, that show a frequency.
_LEAST_GAPS = 3

T = TypeVar("T")


class BadSeriesError(ValueError):
    """Some series cannot be used for a task.

    Args:
        message: The text.
        ids: Their names.
        reason: Why, as the end of a sentence: ``"has too few rows"``.
    """

    def __init__(self, message: str, ids: np.ndarray, reason: str = "has too few rows") -> None:
        super().__init__(message)
        self.ids = ids
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.ids, self.reason)


class Skipped(NamedTuple):
    """A series that is left out of a panel.

    Attributes:
        name: Its name.
        last_tick: Its last stamp, in nanoseconds or integers.
        reason: Why, as the end of a sentence: ``"has no value"``.
    """

    name: Any
    last_tick: int
    reason: str


@dataclass(frozen=True, eq=False)
class Panel:
    """N series of regular stamps, stacked row by row; the one form in which data travel inside the
    library.

    Each id of a long frame, and each value column of a wide one, is a series. Build panels by
    :func:`tsattn.data.frames.to_panel` (or ``from_long`` or ``from_wide`` beside it), which checks
    what this class takes for granted.

    Attributes:
        values: float64 [rows, C] in the units of the table; NaN where missing (only if ``missing``
            is a policy). C is 1, but for a group (:meth:`grouped`).
        starts: int64 [N + 1]; series n owns rows ``starts[n]:starts[n + 1]``, in the order of time.
        ids: [N] names of the series, sorted; a single placeholder when the table named none.
        times: [rows] stamps (time zone kept) or integers.
        freq: pandas alias (``"h"``, ``"15min"``, ``"W-SAT"``, ``"MS"``) or, for integer time, the
            step.
        dialect: How the table looked.
        missing: What is done about missing values, at each cutoff, never here (see
            ``tsattn.data.columns.MISSING``).
        covariates: Columns beside the target, if any were read; those of a wide frame belong to all
            its series.
        skipped: Series of the table that are no part of the panel, since they cannot be forecast.

    Raises:
        ValueError: If there are covariates for other rows or series.
    """

    values: np.ndarray
    starts: np.ndarray
    ids: np.ndarray
    times: pd.Index
    freq: str | int
    dialect: Dialect
    missing: str = "error"
    covariates: Covariates | None = None
    skipped: tuple[Skipped, ...] = ()

    def __post_init__(self) -> None:
        if self.covariates is None:
            return
        n_rows = len(self.covariates.values)
        n_series = len(self.covariates.static)
        if n_rows != len(self.values) or n_series != self.n_series:
            raise ValueError(
                f"covariates must have the panel's {len(self.values)} rows and {self.n_series}"
                f" series; got {n_rows} and {n_series}; cut them together, with Panel.rows, until"
                " or last"
            )

    @property
    def n_series(self) -> int:
        """Number of series N."""
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Rows of each series, int64 [N]."""
        return np.diff(self.starts)

    @property
    def n_channels(self) -> int:
        """Number of channels C: 1, but for a group."""
        return self.values.shape[1]

    @cached_property
    def aligned(self) -> bool:
        """Whether all series share one time axis, as the columns of a wide table do."""
        if self.n_series == 0 or (self.lengths != self.lengths[0]).any():
            return False
        clock = ticks(self.times).reshape(self.n_series, -1)
        return bool((clock == clock[0]).all())

    def owners(self, ends: np.ndarray) -> np.ndarray:
        """Series of the windows whose contexts end before rows ``ends [B]``, ``[B]``."""
        owners: np.ndarray = np.searchsorted(self.starts, ends - 1, side="right") - 1
        return owners

    def series_label(self, n: int) -> str:
        """What to call series n in a message."""
        return f"series {plain(self.ids[n])!r}" if self.dialect.names_series else "the table"

    def grouped(self) -> Panel:
        """The series of an aligned panel as the channels of one, ``values [T, N]``, for networks
        whose series look at one another.

        Raises:
            ValueError: If series begin or end at different times, or have covariates of their own.
        """
        if not self.aligned:
            raise ValueError(
                "series that look at one another must share their stamps; cut the table to the"
                " span that all series have, or set channel_mixing=False"
            )
        covariates = self.covariates
        n_rows = int(self.lengths[0])
        if covariates is not None:
            moving = covariates.values.reshape(self.n_series, n_rows, -1)
            if len(covariates.statics) or (moving != moving[0]).any():
                raise ValueError(
                    "series that look at one another share their covariates; leave out columns"
                    " that differ from series to series, or set channel_mixing=False"
                )
            covariates = replace(covariates.take(slice(n_rows)), static=covariates.static[:1])
        return replace(
            self,
            values=np.ascontiguousarray(self.values.reshape(self.n_series, n_rows).T),
            starts=np.array([0, n_rows]),
            ids=np.array([_GROUP], dtype=object),
            times=self.times[:n_rows],
            covariates=covariates,
        )

    def require(self, columns: CovariateColumns) -> None:
        """Refuse to go on without some covariates.

        Raises:
            ValueError: Naming one that the panel lacks.
        """
        lacking = columns.lacking_of(self.covariates)
        if lacking:
            raise InputError(
                f"the panel has no covariate {lacking[0]!r}",
                InPython(
                    "; make it by to_panel with a schema that names it, such as"
                    f" Schema(past_cols={lacking!r})"
                ),
            )

    def keep(self, columns: CovariateColumns) -> Panel:
        """The same panel with no covariates but ``columns``, which it has: what nobody reads is
        left behind.
        """
        self.require(columns)
        if self.covariates is None:
            return self
        covariates = self.covariates.only(columns) if columns.moving or columns.static else None
        return replace(self, covariates=covariates)

    def heads(self, stops: np.ndarray) -> Iterator[tuple[slice, Panel]]:
        """The first ``stops[n]`` rows of series n, without covariates, in blocks of series, so that
        what is computed of them takes little memory at once.

        Yields:
            The series of a block, and a panel of them.
        """
        number = self.starts[:-1] // _BLOCK_ROWS
        borders = [*np.flatnonzero(np.diff(number, prepend=-1)), self.n_series]
        for first, last in pairwise(borders):
            rows = slice(self.starts[first], self.starts[last])
            block = replace(
                self,
                values=self.values[rows],
                times=self.times[rows],
                starts=self.starts[first : last + 1] - self.starts[first],
                ids=self.ids[first:last],
                covariates=None,
            )
            yield slice(first, last), block.until(stops[first:last])

    def rows(self, start: int | None, stop: int | None) -> Panel:
        """The same slice ``start:stop`` of every series, counted as Python slices are."""

        def bound(value: int | None, default: np.ndarray) -> np.ndarray:
            if value is None:
                return default
            row = self.lengths + value if value < 0 else value
            return np.clip(row, 0, self.lengths)

        first = bound(start, np.zeros_like(self.lengths))
        return self._take(first, bound(stop, self.lengths))

    def until(self, stops: np.ndarray | int) -> Panel:
        """The first ``stops[n]`` rows of series n (one number serves all)."""
        return self._take(np.zeros_like(self.lengths), np.clip(stops, 0, self.lengths))

    def last(self, n: int) -> Panel:
        """The last n rows of every series, or all of a shorter one."""
        return self._take(np.maximum(self.lengths - n, 0), self.lengths)

    def some(self, first: int, stop: int) -> Panel:
        """Series ``first:stop`` with all their rows."""
        rows = slice(*self.starts[[first, stop]].tolist())
        # Of parts of a panel the last one knows what was left out, so that it is answered once.
        skipped = self.skipped if stop == self.n_series else ()
        covariates = self.covariates
        if covariates is not None:
            covariates = replace(covariates.take(rows), static=covariates.static[first:stop])
        return replace(
            self,
            values=self.values[rows],
            starts=self.starts[first : stop + 1] - self.starts[first],
            ids=self.ids[first:stop],
            times=self.times[rows],
            skipped=skipped,
            covariates=covariates,
        )

    def without(self, ids: np.ndarray, reason: str) -> Panel:
        """The panel without some series, which it then counts among the skipped.

        Args:
            ids: Names of the series.
            reason: Why they are left out.
        """
        is_out = pd.Index(self.ids).isin(ids)
        rows = np.flatnonzero(~np.repeat(is_out, self.lengths))
        covariates = self.covariates
        if covariates is not None:
            covariates = replace(covariates.take(rows), static=covariates.static[~is_out])
        last_ticks = ticks(self.last_times())
        skipped = [Skipped(self.ids[n], int(last_ticks[n]), reason) for n in np.flatnonzero(is_out)]
        return replace(
            self,
            values=self.values[rows],
            starts=starts_of(self.lengths[~is_out]),
            ids=self.ids[~is_out],
            times=self.times[rows],
            covariates=covariates,
            skipped=(*self.skipped, *skipped),
        )

    def skipped_times(self) -> pd.Index:
        """The last stamp of each series that is left out."""
        clock = np.array([series.last_tick for series in self.skipped], dtype=np.int64)
        if not isinstance(self.times, pd.DatetimeIndex):
            return pd.Index(clock)
        stamps = pd.DatetimeIndex(clock.view("M8[ns]"))
        if self.zone is not None:
            stamps = stamps.tz_localize("UTC").tz_convert(self.zone)
        return stamps.as_unit(self.times.unit)

    @property
    def zone(self) -> tzinfo | None:
        """Time zone of the stamps; ``None`` where they have none or are integers."""
        zone: tzinfo | None = getattr(self.times, "tz", None)
        return zone

    def last_times(self) -> pd.Index:
        """The last stamp of each series, [N]; every series must have a row."""
        return self.times[self.starts[1:] - 1]

    def fingerprint(self) -> str:
        """Sha256 of ids, times, values, frequency and covariates: equal data, equal print."""
        zone = str(self.times.tz) if isinstance(self.times, pd.DatetimeIndex) else "integer"
        words = [zone, self.freq, None, *self.ids.tolist()]
        if self.covariates is not None:
            words += [None, *self.covariates.words()]
        text = "\x1f".join(f"{type(word).__name__}:{word}" for word in words)
        digest = hashlib.sha256(text.encode())
        # One bit pattern for every NaN.
        values = np.where(np.isnan(self.values), np.nan, self.values)
        arrays = [self.starts, ticks(self.times), values]
        if self.covariates is not None:
            arrays.append(self.covariates.values)
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _take(self, lo: np.ndarray, hi: np.ndarray) -> Panel:
        """Rows ``lo[n]:hi[n]`` of each series; a view when there is one series, and the panel
        itself where these are all of its rows.
        """
        counts = np.maximum(hi - lo, 0)
        if np.array_equal(counts, self.lengths):
            return self
        starts = starts_of(counts)
        pick: slice | np.ndarray
        if self.n_series == 1:
            pick = slice(int(lo[0]), int(lo[0] + counts[0]))
        else:
            shifts = self.starts[:-1] + lo - starts[:-1]
            pick = np.arange(starts[-1]) + np.repeat(shifts, counts)
        covariates = None if self.covariates is None else self.covariates.take(pick)
        return replace(
            self,
            values=self.values[pick],
            starts=starts,
            times=self.times[pick],
            covariates=covariates,
        )


def starts_of(lengths: np.ndarray) -> np.ndarray:
    """First rows of series of some lengths, and the row after the last one, int64 ``[N + 1]``."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def names_alike(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """New names, as the old ones where both read alike: a file may turn ``"1"`` into 1."""
    is_text = all(isinstance(name, str) for name in old)
    old_by_text = {str(name): name for name in old}
    names = np.empty(len(new), dtype=object)
    for place, name in enumerate(new):
        names[place] = old_by_text.get(str(name), str(name) if is_text else name)
    return names


def tell_ended(panel: Panel) -> None:
    """Warn once of series that end long before most others: forecasts of them begin there."""
    if not isinstance(panel.times, pd.DatetimeIndex) or panel.n_series < 2:
        return
    ends = panel.last_times()
    latest = ends.max()
    # Series of unlike length are common; one among series that end together has ended.
    if 2 * (ends == latest).sum() <= panel.n_series:
        return
    spans: pd.Index = ends - panel.times[panel.starts[:-1]]
    step = spans.max() / max(panel.lengths.max() - 1, 1)
    lead = max(pd.Timedelta(_ENDED_DAYS, "D"), _ENDED_ROWS * step)
    ended = np.flatnonzero(ends < latest - lead)
    if not len(ended):
        return
    n = int(ended[0])
    warnings.warn(
        f"{panel.series_label(n)} ends at {ends[n]}{more(len(ended))},"
        f" {(latest - ends[n]).days} days before the last stamp of the table, {latest}; a forecast"
        " of it begins there",
        stacklevel=4,
    )


def tell_doubtful_rows(
    panel: Panel, *, has_future: bool, told_rows: np.ndarray | None = None
) -> None:
    """Warn of rows that may not mean what they say: empty ones at the end, and those of numbers
    that often stand for a missing value.

    Args:
        panel: The series of a table that was just read.
        has_future: Whether a forecaster reads columns of the future, whose rows may stand there.
        told_rows: Those that a warning has named already.
    """
    if not has_future:
        _tell_empty_end(panel)
    rows = _sentinel_rows(panel)
    rows = rows if told_rows is None else np.setdiff1d(rows, told_rows)
    if len(rows):
        _tell_sentinels(panel, rows)


def _sentinel_rows(panel: Panel) -> np.ndarray:
    """Rows that :func:`find_sentinels` finds in each series."""
    values = panel.values[:, 0]
    first_rows = panel.starts[:-1]
    least = np.fmin.reduceat(values, first_rows)
    most = np.fmax.reduceat(values, first_rows)
    row_parts = [np.empty(0, dtype=np.int64)]
    for n in np.flatnonzero(np.isin(least, SENTINELS) | np.isin(most, SENTINELS)).tolist():
        start = panel.starts[n]
        is_sentinel = find_sentinels(values[start : panel.starts[n + 1]])
        row_parts.append(start + np.flatnonzero(is_sentinel))
    return np.concatenate(row_parts)


def find_sentinels(values: np.ndarray) -> np.ndarray:
    """Numbers such as -9999, which stand for a missing value in many tables, far from all other
    values ``[T]`` of a series.

    Returns:
        bool ``[T]``.

    Example:
        >>> find_sentinels(np.array([3.0, -999.0, 4.0, 5.0, 4.0, 3.0])).nonzero()[0].tolist()
        [1]
    """
    is_sentinel = np.isin(values, SENTINELS)
    others = values[~np.isnan(values) & ~is_sentinel]
    # What most values are stands for a value.
    if len(others) < max(LEAST_OTHERS, is_sentinel.sum()):
        return np.zeros_like(is_sentinel)
    reach = SENTINEL_RANGES * (others.max() - others.min())
    is_above = is_sentinel & (values > others.max() + reach)
    # A single peak may be right.
    if is_above.sum() == 1 and not is_above[-1]:
        is_above[:] = False
    is_below = is_sentinel & (values < others.min() - reach)
    return is_above | is_below


def _tell_sentinels(panel: Panel, rows: np.ndarray) -> None:
    """Warn once of rows that :func:`_sentinel_rows` finds, first of those at the end of series, at
    which forecasts may go on.
    """
    values = panel.values[:, 0]
    owners = panel.owners(rows + 1)
    last_rows = rows[np.isin(rows, panel.starts[1:] - 1)]
    n_series = len(np.unique(owners))
    first = rows[0]
    place = (
        f"{panel.series_label(int(owners[0]))} has {values[first]:g} at"
        f" {panel.times[first]}{more(len(rows), n_series)}, far from all other values, which"
        " forecasts may follow"
    )
    if len(last_rows):
        n = int(panel.owners(last_rows[:1] + 1)[0])
        own_values = values[panel.starts[n] : panel.starts[n + 1]]
        begin = (
            panel.starts[n] + len(own_values) - int((own_values[::-1] == own_values[-1]).argmin())
        )
        place = (
            f"{panel.series_label(n)} ends with {own_values[-1]:g} from {panel.times[begin]}"
            f" on{more(len(last_rows))}, far from all values before, where forecasts may go on"
        )
    numbers = [int(number) for number in np.unique(values[rows])]
    target = panel.dialect.target_col
    column = "df" if target is None else f"df[{target!r}]"
    policy: list[Piece] = []
    if panel.missing == "error":
        policy = [", with a policy such as ", Argument("missing", "interpolate")]
    warnings.warn(
        InputWarning(
            f"{place}; if such a number stands for a missing value, leave its cells empty",
            InPython(
                f": {column} = {column}.replace({numbers[0] if len(numbers) == 1 else numbers!r},"
                " float('nan'))"
            ),
            *policy,
        ),
        stacklevel=6,
    )


def _tell_empty_end(panel: Panel) -> None:
    """Warn once of last rows in which no series has a value: forecasts begin after them."""
    has_value = ~np.isnan(panel.values).all(axis=1)
    # Other policies fill these rows, as the user wants.
    if panel.missing != "mask" or not has_value.any():
        return
    last_time = panel.times[has_value].max()
    empty = panel.times[panel.times > last_time].unique()
    if not len(empty):
        return
    place = f"last row, {empty[0]}; a forecast begins after it, unless it is"
    if len(empty) > 1:
        span = f"{empty.min()} to {empty.max()}"
        place = f"last {len(empty)} rows, {span}; a forecast begins after them, unless they are"
    warnings.warn(f"no series has a value in the {place} left out of the table", stacklevel=5)


def require_same_steps(fitted: Panel, panel: Panel) -> None:
    """Refuse series of another frequency than those of a fit, of values that lie farther apart, or
    with stamps in a time zone where those of the fit have none, or without one.

    Args:
        fitted: Those of the fit.
        panel: New rows of the same or other series.

    Raises:
        ValueError: With the steps or stamps of both.
    """
    if panel.freq == fitted.freq and (fitted.zone is None) != (panel.zone is None):
        raise ValueError(
            f"the model was fitted on stamps in the time zone {fitted.zone}; got the time zone"
            f" {panel.zone}; give both the same: .dt.tz_localize('Europe/Berlin') names the zone of"
            " stamps without one, .dt.tz_localize(None) drops it"
        )
    problem = f"got {panel.freq!r}"
    if panel.freq == fitted.freq:
        gap, n_gaps = _least_gap(panel)
        if n_gaps < _LEAST_GAPS or gap <= _least_gap(fitted)[0]:
            return
        problem = f"the new values lie {gap} or more of its steps apart"
    raise ValueError(
        f"the model was fitted on frequency {fitted.freq!r}; {problem}; resample, or fit anew"
    )


def _least_gap(panel: Panel) -> tuple[int, int]:
    """The fewest steps from one value of a series to the next one, 1 where there are no two, and
    how many gaps there are, of one step alone where there are some.
    """
    has_value = ~np.isnan(panel.values).all(axis=1)
    is_next = has_value[1:] & has_value[:-1]
    first_rows = panel.starts[1:-1]
    is_next[first_rows[(first_rows > 0) & (first_rows < len(has_value))] - 1] = False
    # Most tables have neighbours, which tell it at little cost.
    if is_next.any():
        return 1, int(is_next.sum())
    rows = np.flatnonzero(has_value)
    is_inner = np.diff(panel.owners(rows + 1)) == 0
    gaps = np.diff(rows)[is_inner]
    return int(gaps.min(initial=len(panel.values))) if len(gaps) else 1, len(gaps)


def require_length(panel: Panel, n_rows: int, reason: str) -> None:
    """Refuse a panel with series of fewer rows than a task needs.

    Args:
        panel: The panel.
        n_rows: Rows that each series must have.
        reason: Who needs them, as the subject of a sentence:
            ``"a context of 96 and a horizon of 24"``.

    Raises:
        BadSeriesError: Naming the first short series, where it begins and ends, how many others,
            and the remedy.
    """
    short = np.flatnonzero(panel.lengths < n_rows)
    if not len(short):
        return
    labels = []
    for n in short[:_NAMED_SERIES]:
        times = panel.times[panel.starts[n] : panel.starts[n + 1]]
        span = f", {times[0]} to {times[-1]}" if len(times) else ""
        labels.append(f"{panel.series_label(n)} ({len(times)} rows{span})")
    listed = "; ".join(labels) + _others(len(short))
    raise BadSeriesError(
        f"too short: {listed}, but {reason} needs at least {n_rows} rows in every series; give more"
        " rows, leave these series out, or ask for less",
        panel.ids[short],
    )


def _others(n_series: int) -> str:
    """How many series a list of the first ones leaves out."""
    n_others = n_series - _NAMED_SERIES
    return f" and {n_others} more" if n_others > 0 else ""


def skip_bad(panel: Panel, work: Callable[[Panel], T], bad: str | None) -> tuple[T, Panel]:
    """Do some work, without the series that are no use for it if others are left.

    Args:
        panel: The series.
        work: Function of a panel, which refuses series by a :class:`BadSeriesError`, as
            :func:`require_length` does.
        bad: ``"error"`` leaves no series out.

    Returns:
        Its answer, and the panel of which it is.

    Raises:
        ValueError: If all series are too short, or one is and none may be left out.
    """
    while True:
        try:
            return work(panel), panel
        except BadSeriesError as error:
            if bad == "error" or len(error.ids) >= panel.n_series:
                raise
            panel = panel.without(error.ids, error.reason)


def tell_skipped(panel: Panel, consequence: str = "their forecasts are NaN") -> None:
    """Warn once of the series that are left out.

    Args:
        panel: The panel.
        consequence: What the answer has of them.
    """
    if not panel.skipped:
        return
    reasons = "; ".join(
        f"{plain(series.name)!r} {series.reason}" for series in panel.skipped[:_NAMED_SERIES]
    )
    others = _others(len(panel.skipped))
    warnings.warn(
        InputWarning(
            f"left out: series {reasons}{others}; {consequence}; ",
            Argument("bad", "error"),
            " refuses such a table",
        ),
        stacklevel=3,
    )
