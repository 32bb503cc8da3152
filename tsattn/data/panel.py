"""Series of regular stamps as checked arrays: the panel, and what leaves series out of it."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from functools import cached_property
from itertools import pairwise
from numbers import Real
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from tsattn.checks import (
    LEAST_FILL,
    LEAST_OTHERS,
    SENTINEL_RANGES,
    SENTINELS,
    Argument,
    InputError,
    InputWarning,
    InPython,
    listed,
    warn,
)
from tsattn.data.calendar import index_of_ticks, kind_of_times, more, more_of, ticks
from tsattn.data.columns import Dialect, plain
from tsattn.data.covariates import CovariateColumns, Covariates
from tsattn.data.grid import lie_outside, owners_of, rows_of, stacked_rows

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
# Text of a whole number, perhaps with zeros before it, or after a decimal point.
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,15}(\.0*)?")

T = TypeVar("T")


class BadSeriesError(ValueError):
    """Some series cannot be used for a task.

    Args:
        message: The text.
        ids: Their names.
        reason: Why, as the end of a sentence: ``"has too few rows"``.
        n_rows: Rows that the task needs in every series; 0 where more rows are no remedy.
    """

    def __init__(
        self,
        message: str,
        ids: np.ndarray,
        reason: str = "has too few rows",
        n_rows: int = 0,
    ) -> None:
        super().__init__(message)
        self.ids = ids
        self.reason = reason
        self.n_rows = n_rows

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.ids, self.reason, self.n_rows)


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
        fits = n_rows == len(self.values) and n_series == self.n_series
        if not fits:
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
        if len(np.unique(self.lengths)) != 1:
            return False
        clock = ticks(self.times).reshape(self.n_series, -1)
        return bool((clock == clock[0]).all())

    def owners(self, ends: np.ndarray) -> np.ndarray:
        """Series of the windows whose contexts end before rows ``ends [B]``, ``[B]``."""
        # An end is the row after the last one.
        last_rows = ends - 1
        return np.searchsorted(self.starts, last_rows, side="right") - 1

    def series_label(self, n: int) -> str:
        """What to call series n in a message."""
        if not self.dialect.names_series:
            return "the table"
        return f"series {plain(self.ids[n])!r}"

    def column_places(self, rows: np.ndarray) -> str:
        """What to call the rows of a column beside the series, in a message: the stamp of the first
        one, its series in a long table of several, and how many others there are.
        """
        owners = self.owners(rows + 1)
        label = ""
        if self.dialect.kind == "long" and self.n_series > 1:
            label = f" of {self.series_label(int(owners[0]))}"
            return f"{self.times[rows[0]]}{label}{more_of(owners)}"
        return f"{self.times[rows[0]]}{more(len(rows))}"

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
            differs = (moving != moving[0]).any()
            if len(covariates.statics) or differs:
                raise ValueError(
                    "series that look at one another share their covariates; leave out columns"
                    " that differ from series to series, or set channel_mixing=False"
                )
            covariates = covariates.take(slice(n_rows), slice(1))
        values = self.values.reshape(self.n_series, n_rows)
        return replace(
            self,
            values=np.ascontiguousarray(values.T),
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
        """The same panel with only the covariates ``columns``."""
        self.require(columns)
        if self.covariates is None:
            return self
        covariates = None
        if columns.moving or columns.static:
            covariates = self.covariates.only(columns)
        return replace(self, covariates=covariates)

    def heads(self, stops: np.ndarray) -> Iterator[tuple[slice, Panel]]:
        """The first ``stops[n]`` rows of series n, without covariates, in blocks of series, so that
        what is computed of them takes little memory at once.

        Yields:
            The series of a block, and a panel of them.
        """
        # A block ends where the number of its starts changes.
        number = self.starts[:-1] // _BLOCK_ROWS
        is_first = np.diff(number, prepend=-1)
        borders = [*np.flatnonzero(is_first), self.n_series]
        bare_panel = replace(self, covariates=None)
        for first, last in pairwise(borders):
            block = bare_panel.some(first, last)
            series = slice(first, last)
            yield series, block.until(stops[first:last])

    def rows(self, start: int | None, stop: int | None) -> Panel:
        """The same slice ``start:stop`` of every series, counted as Python slices are."""
        bounds = [slice(start, stop).indices(length)[:2] for length in self.lengths.tolist()]
        first_rows, stop_rows = np.array(bounds).reshape(-1, 2).T
        return self._take(first_rows, stop_rows)

    def until(self, stops: np.ndarray | int) -> Panel:
        """The first ``stops[n]`` rows of series n (one number serves all)."""
        first_rows = np.zeros_like(self.lengths)
        stop_rows = np.clip(stops, 0, self.lengths)
        return self._take(first_rows, stop_rows)

    def last(self, n: int | np.ndarray) -> Panel:
        """The last n rows of every series, or ``n[i]`` of series i; all of a shorter one."""
        first_rows = np.maximum(self.lengths - n, 0)
        return self._take(first_rows, self.lengths)

    def some(self, first: int, stop: int) -> Panel:
        """Series ``first:stop`` with all their rows."""
        first_row, stop_row = self.starts[[first, stop]].tolist()
        starts = self.starts[first : stop + 1] - first_row
        part = self._cut(slice(first_row, stop_row), starts, slice(first, stop))
        # Of parts of a panel the last one knows what was left out, so that it is answered once.
        return part if stop == self.n_series else replace(part, skipped=())

    def chosen(self, places: np.ndarray) -> Panel:
        """Some series with all their rows, by their places in ascending order."""
        lengths = self.lengths[places]
        rows = stacked_rows(self.starts[places], lengths)
        return self._cut(rows, starts_of(lengths), places)

    def without(self, ids: np.ndarray, reason: str) -> Panel:
        """The panel without some series, which it then counts among the skipped.

        Args:
            ids: Names of the series.
            reason: Why they are left out.
        """
        is_out = pd.Index(self.ids).isin(ids)
        last_ticks = ticks(self.last_times())
        places = np.flatnonzero(is_out)
        skipped = [Skipped(self.ids[n], int(last_ticks[n]), reason) for n in places]
        others = self.chosen(np.flatnonzero(~is_out))
        return replace(others, skipped=(*self.skipped, *skipped))

    def skipped_times(self) -> pd.Index:
        """The last stamp of each series that is left out."""
        clock = np.array([series.last_tick for series in self.skipped], dtype=np.int64)
        return index_of_ticks(clock, self.times)

    @property
    def zone(self) -> tzinfo | None:
        """Time zone of the stamps; ``None`` where they have none or are integers."""
        return getattr(self.times, "tz", None)

    def last_times(self) -> pd.Index:
        """The last stamp of each series, [N]; every series must have a row."""
        last_rows = self.starts[1:] - 1
        return self.times[last_rows]

    def fingerprint(self) -> str:
        """Sha256 of ids, times, values, frequency and covariates: equal data, equal print."""
        zone = "integer"
        if isinstance(self.times, pd.DatetimeIndex):
            zone = str(self.times.tz)
        words = [zone, self.freq, None, *self.ids.tolist()]
        if self.covariates is not None:
            words += [None, *self.covariates.words()]
        # With the type of each word, so that the number 1 and the text "1" differ.
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
        rows: slice | np.ndarray
        if self.n_series == 1:
            # A slice makes views, an array of rows copies.
            rows = slice(int(lo[0]), int(lo[0] + counts[0]))
        else:
            rows = stacked_rows(self.starts[:-1] + lo, counts)
        return self._cut(rows, starts_of(counts), slice(None))

    def _cut(
        self, rows: slice | np.ndarray, starts: np.ndarray, series: slice | np.ndarray
    ) -> Panel:
        """Some rows, which belong to some of the series and are stacked from ``starts`` on."""
        covariates = self.covariates
        if covariates is not None:
            covariates = covariates.take(rows, series)
        return replace(
            self,
            values=self.values[rows],
            starts=starts,
            ids=self.ids[series],
            times=self.times[rows],
            covariates=covariates,
        )


def starts_of(lengths: np.ndarray) -> np.ndarray:
    """First rows of series of some lengths, and the row after the last one, int64 ``[N + 1]``."""
    stops = np.cumsum(lengths)
    return np.concatenate([[0], stops]).astype(np.int64)


def names_alike(old: Sequence[Any] | np.ndarray, new: Sequence[Any] | np.ndarray) -> np.ndarray:
    """New names, replaced by old ones that read alike: a file may turn ``"1"`` into 1 or 1.0, and
    ``"001"`` into 1, in either table.
    """
    # numpy spells stamps in another way than pandas, and makes whole numbers of them.
    old_names = as_objects(old)
    new_names = as_objects(new)
    is_text = all(isinstance(name, str) for name in old_names)
    old_by_text = {str(name): name for name in old_names}
    # Names that are written out belong to no other one.
    written = {*map(str, new_names)}
    other_texts = [text for text, name in old_by_text.items() if text not in written]
    text_by_number = _text_by_number(other_texts)
    numbers_spelt: dict[str, int] = {}
    if not is_text:
        texts = _text_by_number(name for name in new_names if isinstance(name, str))
        numbers_spelt = {text: n for n, text in texts.items() if str(n) not in written}
    names = np.empty(len(new_names), dtype=object)
    for place, name in enumerate(new_names):
        text = str(name)
        number = numbers_spelt.get(text, _whole_number(name))
        if text not in old_by_text and number is not None:
            text = text_by_number.get(number, str(number))
        default = text if is_text else name
        names[place] = old_by_text.get(text, default)
    return names


def keys_alike(frame: pd.DataFrame, earlier: Panel) -> pd.DataFrame:
    """A table with the values of its keys as an earlier one writes them, where both read alike;
    see :func:`names_alike`.

    Args:
        frame: The table; it stays as it was.
        earlier: The series of the earlier table.
    """
    from tsattn.data.keys import split_ids

    dialect = earlier.dialect
    ids = [*earlier.ids, *(series.name for series in earlier.skipped)]
    old_keys = split_ids(ids, dialect.key_cols, dialect.key_dtypes, dialect.key_values)
    frame = frame.copy(deep=False)
    for key, old_values in old_keys.items():
        if key not in frame.columns:
            continue
        codes, distinct = pd.factorize(frame[key])
        values = np.asarray(distinct, dtype=object)
        names = names_alike(old_values.unique(), values)
        if [*names] != [*values]:
            # The code of a missing value is -1, which reads the last entry.
            cells = pd.Series([*names, None], dtype=object).iloc[codes]
            frame[key] = cells.infer_objects().array
    return frame


def as_objects(names: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Names of series as Python's and pandas' own values."""
    return pd.Series(names).astype(object).to_numpy()


def _text_by_number(texts: Iterable[str]) -> dict[int, str]:
    """The texts that spell a whole number, such as ``"001"``, by this number; none of a number that
    several spell.
    """
    spelt = [(int(float(text)), text) for text in texts if _WHOLE_NUMBER.fullmatch(text)]
    counts = Counter(number for number, _ in spelt)
    return {number: text for number, text in spelt if counts[number] == 1}


def _whole_number(name: Any) -> int | None:
    """The whole number that a name is; None if it is text or something else."""
    is_number = isinstance(name, Real) and not isinstance(name, bool)
    return int(name) if is_number and float(name).is_integer() else None


def as_word(name: Any) -> str:
    """A name without capitals and further spaces.

    Example:
        >>> as_word(" Store  A")
        'store a'
    """
    return " ".join(str(name).split()).casefold()


def tell_ended(panel: Panel) -> None:
    """Warn once of series that end long before half of all or more: forecasts of them begin
    there.
    """
    if not isinstance(panel.times, pd.DatetimeIndex) or panel.n_series < 2:
        return
    ends = panel.last_times()
    latest = ends.max()
    # Series of unlike length are common; one among series that end together has ended.
    n_latest = (ends == latest).sum()
    if 2 * n_latest < panel.n_series:
        return
    first_times = panel.times[panel.starts[:-1]]
    spans: pd.Index = ends - first_times
    # Of the longest series, whose last row lies one step less after the first than it has rows.
    n_steps = max(panel.lengths.max() - 1, 1)
    step = spans.max() / n_steps
    lead = max(pd.Timedelta(_ENDED_DAYS, "D"), _ENDED_ROWS * step)
    ended = np.flatnonzero(ends < latest - lead)
    if not len(ended):
        return
    n = int(ended[0])
    n_days = (latest - ends[n]).days
    warn(
        f"{panel.series_label(n)} ends at {ends[n]}{more(len(ended))},"
        f" {n_days} days before the last stamp of the table, {latest}; a forecast"
        " of it begins there"
    )


def _known_times(panel: Panel, n: int) -> pd.Index:
    """The times of series n that have a value; a row without one may only fill a gap."""
    rows = rows_of(panel.starts, n)
    has_value = ~np.isnan(panel.values[rows]).all(axis=1)
    return panel.times[rows][has_value]


def tell_alike(panel: Panel) -> None:
    """Warn of two series without a common stamp whose ids differ in spaces or capitals only, such
    as one series that was written in two ways.
    """
    if panel.ids.dtype.kind in "iuf":
        return
    words: dict[str, int] = {}
    for n, name in enumerate(panel.ids.tolist()):
        word = as_word(name)
        first = words.setdefault(word, n)
        if first == n:
            continue
        times = [_known_times(panel, k) for k in (first, n)]
        if not times[0].isin(times[1]).any():
            warn(
                f"{panel.series_label(first)} and {panel.series_label(n)} differ in spaces or"
                " capitals only and have no stamp in common, but are read as two series; if they"
                " are one, write its id in one way"
            )
            return


def without_sentinels(panel: Panel, *, n_judged: int = 0, keeps: bool = False) -> Panel:
    """A table just read without the numbers that :func:`find_sentinels` finds in its series and in
    the columns beside them, and without spikes of these columns.

    They count as missing, of which one warning tells. In columns they take the value before them.

    Args:
        panel: The series.
        n_judged: Last rows of each series by which no number before them is judged.
        keeps: Whether such numbers stay, with a warning that says so.
    """
    panel = _with_usual_columns(panel, n_judged, keeps)
    rows = _sentinel_rows(panel, panel.values[:, 0], n_judged)
    if not len(rows):
        return panel
    if keeps:
        _tell_sentinels(panel, rows)
        return panel
    _tell_left_out(panel, rows)
    values = panel.values.copy()
    values[rows] = np.nan
    if panel.missing == "mask":
        return replace(panel, values=values)
    # Nothing stands before the first row, so that it takes the first value.
    for n in np.flatnonzero(np.isin(panel.starts[:-1], rows)).tolist():
        own_values = values[rows_of(panel.starts, n), 0]
        first = int(np.isfinite(own_values).argmax())
        own_values[:first] = own_values[first]
    return replace(panel, values=values)


def tell_sentinels(panel: Panel, effect: str) -> np.ndarray:
    """Warn of the numbers that :func:`find_sentinels` finds in the series of a table just read.

    Args:
        panel: The series.
        effect: What such numbers do, as a relative clause.

    Returns:
        Their rows.
    """
    rows = _sentinel_rows(panel, panel.values[:, 0])
    if len(rows):
        _tell_sentinels(panel, rows, effect)
    return rows


def tell_usual_sentinels(panel: Panel) -> None:
    """Warn once if most values of a series are one number such as -9999, far from 0 and from the
    other values: a dead sensor, or correct.

    Args:
        panel: A table just read, without the numbers that :func:`find_sentinels` finds.
    """
    values = panel.values[:, 0]
    told_rows = []
    for n in _series_of_sentinels(panel, values):
        own_values = values[rows_of(panel.starts, n)]
        # What more than half of the values are is their median.
        usual = np.nanmedian(own_values)
        is_usual = own_values == usual
        is_other = ~np.isnan(own_values) & ~is_usual
        others = np.append(own_values[is_other], 0.0)
        is_below, is_above = lie_outside(usual, others, SENTINEL_RANGES)
        # Most values may be 999, as prices are, and all may be large.
        is_far = is_below or (is_above and usual >= LEAST_FILL and is_other.any())
        if is_far and is_usual.sum() > is_other.sum() and _may_stand_for_none(usual):
            told_rows.append(panel.starts[n] + np.flatnonzero(is_usual))
    if not told_rows:
        return
    rows = told_rows[0]
    (n,) = panel.owners(rows[:1] + 1)
    warn(
        InputWarning(
            f"{panel.series_label(n)}{more(len(told_rows))} has {values[rows[0]]:g} in {len(rows)}"
            f" of {panel.lengths[n]} rows, and it is read as that number; if it stands for a"
            " missing value, leave its cells empty",
            _emptying_call(panel, rows),
        )
    )


def _with_usual_columns(panel: Panel, n_judged: int, keeps: bool) -> Panel:
    """The panel with the value before them in place of sentinels and spikes of its columns of
    numbers; arguments as of :func:`without_sentinels`.
    """
    covariates = panel.covariates
    if covariates is None:
        return panel
    values = covariates.values.copy()
    sentinel_rows = {}
    for number, name in enumerate(covariates.columns):
        if covariates.kind(name) is not None:
            continue
        column = values[:, number]
        rows = _sentinel_rows(panel, column, n_judged)
        rows = np.union1d(rows, _spike_rows(panel, column, n_judged))
        if not len(rows):
            continue
        sentinel_rows[name] = rows
        column[rows] = np.nan
        column[rows] = _carried(column, panel.starts)[rows]
    if sentinel_rows:
        _tell_sentinels_of_columns(panel, sentinel_rows, keeps)
    if keeps or not sentinel_rows:
        return panel
    return replace(panel, covariates=replace(covariates, values=values))


def _tell_sentinels_of_columns(
    panel: Panel, sentinel_rows: Mapping[Hashable, np.ndarray], keeps: bool
) -> None:
    """Warn once of the sentinels of columns, and of what they are read as.

    Args:
        panel: The series.
        sentinel_rows: Rows of the sentinels of each column.
        keeps: Whether they stay.
    """
    assert panel.covariates is not None
    name = next(iter(sentinel_rows))
    rows = sentinel_rows[name]
    first = rows[0]
    number = float(panel.covariates.cells(name).iloc[first])
    number_text = f"{number:g}"
    exact_text = number_text if float(number_text) == number else repr(number)
    call = InPython(f": df[{name!r}] = df[{name!r}].replace({exact_text}, float('nan'))")
    others = f" (of {len(sentinel_rows)} such columns)" if len(sentinel_rows) > 1 else ""
    place = (
        f"column {name!r}{others} holds {number_text} at"
        f" {panel.column_places(rows)}, far from all other values"
    )
    if keeps:
        remark = InputWarning(
            f"{place}, and it is read as that number; if it stands for a missing value, leave its"
            " cells empty",
            call,
        )
    else:
        remark = InputWarning(
            f"{place}; such numbers are read as missing, and take the value before them; leave"
            " their cells empty",
            call,
            ", or, if they are right, pass ",
            Argument("missing", "error"),
        )
    warn(remark)


def _carried(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Values ``[rows]`` with the value before them in place of NaN, the first one of their series
    before that, and the median of all in a series that has none.
    """
    owners = owners_of(starts)
    cells = pd.Series(values)
    filled = cells.groupby(owners).ffill().groupby(owners).bfill()
    return filled.fillna(cells.median()).to_numpy()


def rows_before(missing: np.ndarray) -> np.ndarray:
    """Row of the last value up to each row, -1 where there is none, ``[rows, C]``."""
    row = np.arange(len(missing))[:, None]
    observed_rows = np.where(missing, -1, row)
    return np.maximum.accumulate(observed_rows, axis=0)


def rows_after(missing: np.ndarray) -> np.ndarray:
    """Row of the next value from each row on, the number of rows where there is none."""
    # From the last row to the first one, the next value is the last one before.
    return len(missing) - 1 - rows_before(missing[::-1])[::-1]


def _sentinel_rows(panel: Panel, values: np.ndarray, n_judged: int = 0) -> np.ndarray:
    """Rows of ``values [rows]`` that :func:`find_sentinels` finds in each series, whose last
    ``n_judged`` are later ones; and those of the same numbers in series of little else, such as
    that of a dead sensor.
    """
    is_sentinel = np.zeros(len(values), dtype=bool)
    parts = []
    for n in _series_of_sentinels(panel, values):
        part = rows_of(panel.starts, n)
        n_known = max(int(panel.lengths[n]) - n_judged, 0)
        is_sentinel[part] = find_sentinels(values[part], n_known)
        parts.append((part, n_known))
    if not is_sentinel.any():
        return np.flatnonzero(is_sentinel)
    numbers = np.unique(values[is_sentinel])
    for part, n_known in parts:
        is_such = np.isin(values[part], numbers)
        n_values = np.count_nonzero(~np.isnan(values[part][:n_known]))
        if 2 * is_such[:n_known].sum() > n_values:
            is_sentinel[part] |= is_such
    return np.flatnonzero(is_sentinel)


def _spike_rows(panel: Panel, values: np.ndarray, n_judged: int) -> np.ndarray:
    """Rows of ``values [rows]`` that are spikes of their series, before the last ``n_judged``."""
    from tsattn.data.sensor_faults import find_spikes

    is_spike = np.zeros(len(values), dtype=bool)
    for n, first in enumerate(panel.starts[:-1]):
        known_rows = slice(first, max(int(panel.starts[n + 1]) - n_judged, first))
        is_spike[known_rows] = find_spikes(values[known_rows])
    return np.flatnonzero(is_spike)


def _series_of_sentinels(panel: Panel, values: np.ndarray) -> list[int]:
    """Series whose least or largest of ``values [rows]`` is a number such as -9999; one that stands
    for a missing value lies far outside.
    """
    first_rows = panel.starts[:-1]
    smallest = np.fmin.reduceat(values, first_rows)
    largest = np.fmax.reduceat(values, first_rows)
    may_have = _may_stand_for_none(smallest) | _may_stand_for_none(largest)
    return np.flatnonzero(may_have).tolist()


def find_sentinels(values: np.ndarray, n_known: int | None = None) -> np.ndarray:
    """Numbers such as -9999, which stand for a missing value in many tables, far from all other
    values ``[T]`` of a series.

    Args:
        values: The series.
        n_known: Rows that say what is far, since later ones are not known yet; default all.

    Returns:
        bool ``[T]``.

    Example:
        >>> find_sentinels(np.array([3.0, -999.0, 4.0, 5.0, 4.0, 3.0])).nonzero()[0].tolist()
        [1]
    """
    is_sentinel = _may_stand_for_none(values)
    is_other = ~np.isnan(values) & ~is_sentinel
    others = values[:n_known][is_other[:n_known]]
    # What most values are stands for a value.
    if len(others) < max(LEAST_OTHERS, is_sentinel[:n_known].sum()):
        return np.zeros_like(is_sentinel)
    is_below, is_above = lie_outside(values, others, SENTINEL_RANGES)
    is_above &= is_sentinel
    known_above = is_above[:n_known]
    # A single peak may be right, but none of another order of size.
    is_usual = known_above.sum() > 1 or known_above[-1]
    if not is_usual:
        is_above &= values >= LEAST_FILL
    return is_above | (is_sentinel & is_below)


def _may_stand_for_none(values: np.ndarray) -> np.ndarray:
    """Which values are numbers that often stand for a missing one."""
    return np.isin(values, SENTINELS) | (np.abs(values) >= LEAST_FILL)


def _words_on_sentinels(panel: Panel, rows: np.ndarray) -> str:
    """Where the numbers of some rows are."""
    owners = panel.owners(rows + 1)
    return (
        f"{panel.series_label(int(owners[0]))} has {panel.values[rows[0], 0]:g} at"
        f" {panel.times[rows[0]]}{more_of(owners)}, far from all other values"
    )


def _tell_left_out(panel: Panel, rows: np.ndarray) -> None:
    """Warn once of rows that are read as missing."""
    warn(
        InputWarning(
            f"{_words_on_sentinels(panel, rows)}; such numbers are read as missing; leave their"
            " cells empty",
            _emptying_call(panel, rows),
            "; or, if they are right, pass ",
            Argument("missing", "error"),
        )
    )


def _emptying_call(panel: Panel, rows: np.ndarray) -> InPython:
    """The call that empties cells with the numbers of some rows."""
    numbers = [
        int(number) if number.is_integer() and abs(number) < LEAST_FILL else number
        for number in np.unique(panel.values[rows, 0]).tolist()
    ]
    sentinels = numbers[0] if len(numbers) == 1 else numbers
    target = panel.dialect.target_col
    column = "df" if target is None else f"df[{target!r}]"
    return InPython(f": {column} = {column}.replace({sentinels!r}, float('nan'))")


def _tell_sentinels(panel: Panel, rows: np.ndarray, effect: str = "") -> None:
    """Warn once of rows that stay as they are, first of those at the end of series, at which
    forecasts may go on; ``effect`` as in :func:`tell_sentinels`.
    """
    place = (
        f"{_words_on_sentinels(panel, rows)}, {effect or 'which forecasts may follow or leave out'}"
    )
    ends_series = np.isin(panel.starts[1:] - 1, rows)
    if ends_series.any():
        n = int(ends_series.argmax())
        own_values = panel.values[rows_of(panel.starts, n), 0]
        is_other = own_values != own_values[-1]
        begin = panel.starts[n] + np.flatnonzero(is_other).max(initial=-1) + 1
        place = (
            f"{panel.series_label(n)} ends with {own_values[-1]:g} from {panel.times[begin]}"
            f" on{more(int(ends_series.sum()))}, far from all values before,"
            f" {effect or 'where forecasts may go on'}"
        )
    warn(
        InputWarning(
            f"{place}; if such a number stands for a missing value, leave its cells empty",
            _emptying_call(panel, rows),
        )
    )


def tell_empty_end(panel: Panel) -> None:
    """Warn once of last rows in which no series, or only some have a value: forecasts begin after
    them.
    """
    has_value = ~np.isnan(panel.values).all(axis=1)
    # Other policies fill these rows, as the user wants.
    if panel.missing != "mask" or has_value.all() or not has_value.any():
        return
    last_time = panel.times[has_value].max()
    is_after = panel.times > last_time
    empty = panel.times[is_after].unique()
    if not len(empty):
        _tell_silent_series(panel, has_value)
        return
    place = f"last row, {empty[0]}; a forecast begins after it, unless it is"
    if len(empty) > 1:
        span = f"{empty.min()} to {empty.max()}"
        place = f"last {len(empty)} rows, {span}; a forecast begins after them, unless they are"
    words = f"no series has a value in the {place} left out of the table"
    if panel.dialect.target_col is None:
        warn(words)
        return
    # Rows to forecast stand below the others where columns are known ahead.
    remedy = (
        ", and given by ",
        Argument("future"),
        " where they hold columns that are known ahead",
    )
    warn(InputWarning(words, *remedy, rows_ahead_call(panel)))


def rows_ahead_call(panel: Panel) -> InPython:
    """The call that parts rows without a value, which are to be forecast, from the others."""
    target = f"df[{panel.dialect.target_col!r}]"
    return InPython(f": future = df[{target}.isna()] and df = df[{target}.notna()]")


def _tell_silent_series(panel: Panel, has_value: np.ndarray) -> None:
    """Warn once of series without a value in their last rows, where most others have some there."""
    row_of_value = np.where(has_value, np.arange(len(has_value)), -1)
    first_rows = panel.starts[:-1]
    last = np.maximum.reduceat(row_of_value, first_rows)
    n_after = panel.starts[1:] - 1 - last
    # A series that never has a value is told as such.
    is_known = last >= first_rows
    is_silent = is_known & (n_after >= _ENDED_ROWS)
    silent = np.flatnonzero(is_silent)
    goes_on = is_known & ~is_silent
    if not len(silent) or 2 * goes_on.sum() <= panel.n_series:
        return
    n = int(silent[0])
    warn(
        f"{panel.series_label(n)} has no value after {panel.times[last[n]]}, in its last"
        f" {n_after[n]} rows{more(len(silent))}, while others go on; a forecast of it begins after"
        " these rows, unless they are left out"
    )


def require_filled(panel: Panel, name: str) -> None:
    """Refuse a panel whose missing values are to be left out, for a forecaster that cannot do so.

    Args:
        panel: The panel.
        name: Name of the forecaster.

    Raises:
        ValueError: If a value is missing.
    """
    if panel.missing == "mask" and np.isnan(panel.values).any():
        raise InputError(
            f"{name} cannot leave missing values out (",
            Argument("missing", "mask"),
            "); fill them in by ",
            Argument("missing", "interpolate"),
            " or 'ffill', or take a forecaster that can, such as 'zero'",
        )


def require_same_steps(
    fitted: Panel, panel: Panel, *, is_part: bool = False, is_later: bool = False
) -> None:
    """Refuse series of another frequency than those of a fit, of values that lie farther apart than
    those of each series of the fit, or with stamps in a time zone where those of the fit have none,
    or without one.

    Args:
        fitted: Those of the fit.
        panel: New rows of the same or other series.
        is_part: Whether other series of the same table perhaps have nearer values.
        is_later: Whether the rows are joined to those of the fit. Late and corrected rows, which
            lie before its last ones, may then lie apart.

    Raises:
        ValueError: With the steps or stamps of both.
    """
    if panel.freq != fitted.freq:
        raise _other_steps(fitted, f"got {panel.freq!r}")
    if (fitted.zone is None) != (panel.zone is None):
        zone = None if fitted.zone is None else str(fitted.zone)
        place = panel.dialect.time_place
        accessor = "" if panel.dialect.time_col is None else ".dt"
        raise InputError(
            f"the model was fitted on {kind_of_times(fitted.times)}; got"
            f" {kind_of_times(panel.times)}; give both the same",
            InPython(f": {place} = pd.to_datetime({place}){accessor}.tz_localize({zone!r})"),
        )
    # Rows that all have a value lie one step apart, of which no row need be looked at.
    if is_part or not np.isnan(panel.values).all(axis=1).any():
        return
    known_ends = _known_ends(fitted, panel) if is_later else None
    gaps, _ = _gaps(panel, known_ends)
    if len(gaps) < _LEAST_GAPS or gaps.min() == 1:
        return
    fitted_gaps, owners = _gaps(fitted)
    _, firsts, counts = np.unique(owners, return_index=True, return_counts=True)
    least_of_series = np.minimum.reduceat(fitted_gaps, firsts)
    if gaps.min() > least_of_series[counts >= _LEAST_GAPS].max(initial=1):
        problem = f"the new values lie {gaps.min()} or more of its steps apart"
        raise _other_steps(fitted, problem)


def _other_steps(fitted: Panel, problem: str) -> ValueError:
    """The refusal of rows at other steps than those of a fit."""
    return ValueError(
        f"the model was fitted on frequency {fitted.freq!r}; {problem}; resample, or fit anew"
    )


def _known_ends(fitted: Panel, panel: Panel) -> np.ndarray:
    """The tick of the last row that a fit knows of each series of a panel, int64; the lowest number
    for a new series.
    """
    places = places_of(fitted.ids, panel.ids)
    ends = ticks(fitted.last_times())[places]
    return np.where(places < 0, np.iinfo(np.int64).min, ends)


def _gaps(panel: Panel, first_ticks: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The steps from each value of a series to its next one, and the numbers of the series.

    Args:
        panel: The series.
        first_ticks: Where the first steps of each series begin at the earliest; anywhere without
            them.
    """
    rows = np.flatnonzero(~np.isnan(panel.values).all(axis=1))
    owners = owners_of(panel.starts)[rows]
    counts = np.diff(owners) == 0
    if first_ticks is not None:
        counts &= (ticks(panel.times[rows]) >= first_ticks[owners])[:-1]
    return np.diff(rows)[counts], owners[1:][counts]


def places_of(ids: np.ndarray, other_ids: np.ndarray) -> np.ndarray:
    """Where other ids stand among some, -1 where they do not."""
    return pd.Index(ids).get_indexer(pd.Index(other_ids))


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
        times = panel.times[rows_of(panel.starts, n)]
        span = ""
        if len(times):
            span = f", {times[0]} to {times[-1]}"
        label = panel.series_label(n)
        labels.append(f"{label} ({len(times)} rows{span})")
    n_others = len(short) - len(labels)
    others = f" and {n_others} more" if n_others else ""
    raise BadSeriesError(
        f"too short: {'; '.join(labels)}{others}, but {reason} needs at least {n_rows} rows in"
        " every series; give more rows, leave these series out, or ask for less",
        panel.ids[short],
        n_rows=n_rows,
    )


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
            none_is_left = len(error.ids) >= panel.n_series
            if bad == "error" or none_is_left:
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
    reasons = [f"{plain(series.name)!r} {series.reason}" for series in panel.skipped]
    warn(
        InputWarning(
            f"left out: series {listed(reasons, _NAMED_SERIES, '; ')}; {consequence}; ",
            Argument("bad", "error"),
            " refuses such a table",
        )
    )
