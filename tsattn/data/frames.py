"""Tables of series as checked arrays (panels), and panels as tables again."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from tsattn.checks import Argument, InputError, InputWarning, InPython, Name
from tsattn.data.calendar import future_times, more, parse_freq, season_length, ticks
from tsattn.data.columns import (
    MISSING,
    Dialect,
    TableLike,
    check_frame,
    find_time_col,
    index_time_col,
    joined_table,
    long_names,
    plain,
    read_ids,
    read_numbers,
    read_stamps,
    refuse_sideways,
    require_columns,
    value_cols,
    with_levels,
    with_time,
)
from tsattn.data.covariates import (
    CovariateColumns,
    Covariates,
    check_covariate_cols,
    read_categories,
    read_static,
)
from tsattn.data.schema import Schema
from tsattn.data.tables import Rules, Table, regular

__all__ = [
    "MISSING",
    "BadSeriesError",
    "Dialect",
    "Panel",
    "Skipped",
    "TableLike",
    "from_long",
    "from_wide",
    "future_times",
    "require_length",
    "season_length",
    "to_long",
    "to_panel",
    "to_wide",
]

# Name of the one series that a group of series becomes.
_GROUP = "group"


# Series that a warning names.
_NAMED_SERIES = 3
# A series that ends so many days and rows before the last one has ended for good.
_ENDED_DAYS = 730
_ENDED_ROWS = 12

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
    :func:`from_long`, :func:`from_wide` or :func:`to_panel`: they check what this class takes for
    granted.

    Attributes:
        values: float64 [rows, C] in the units of the table; NaN where missing (only if ``missing``
            is a policy). C is 1, but for a group (:meth:`grouped`).
        starts: int64 [N + 1]; series n owns rows ``starts[n]:starts[n + 1]``, in the order of time.
        ids: [N] names of the series, sorted; a single placeholder when the table named none.
        times: [rows] stamps (time zone kept) or integers.
        freq: pandas alias (``"h"``, ``"15min"``, ``"W-SAT"``, ``"MS"``) or, for integer time, the
            step.
        dialect: How the table looked.
        missing: What is done about missing values (see :data:`MISSING`), at each cutoff, never
            here.
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
        if self.covariates is not None:
            got = (len(self.covariates.values), len(self.covariates.static))
            if got != (len(self.values), self.n_series):
                raise ValueError(
                    f"covariates must have the panel's {len(self.values)} rows and {self.n_series}"
                    f" series; got {got[0]} and {got[1]}; cut them together, with Panel.rows, until"
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
        kept = self.covariates.only(columns) if columns.moving or columns.static else None
        return replace(self, covariates=kept)

    def rows(self, start: int | None, stop: int | None) -> Panel:
        """The same slice ``start:stop`` of every series, counted as Python slices are."""

        def bound(value: int | None, default: np.ndarray) -> np.ndarray:
            if value is None:
                return default
            return np.clip(self.lengths + value if value < 0 else value, 0, self.lengths)

        return self._take(bound(start, np.zeros_like(self.lengths)), bound(stop, self.lengths))

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
        beside = self.covariates
        return replace(
            self,
            values=self.values[rows],
            starts=self.starts[first : stop + 1] - self.starts[first],
            ids=self.ids[first:stop],
            times=self.times[rows],
            skipped=skipped,
            covariates=(
                None
                if beside is None
                else replace(beside.take(rows), static=beside.static[first:stop])
            ),
        )

    def without(self, ids: np.ndarray, reason: str) -> Panel:
        """The panel without some series, which it then counts among the skipped.

        Args:
            ids: Names of the series.
            reason: Why they are left out.
        """
        out = pd.Index(self.ids).isin(ids)
        owners = np.repeat(np.arange(self.n_series), self.lengths)
        rows = np.flatnonzero(~out[owners])
        beside = self.covariates
        last_ticks = ticks(self.last_times())
        skipped = [Skipped(self.ids[n], int(last_ticks[n]), reason) for n in np.flatnonzero(out)]
        return replace(
            self,
            values=self.values[rows],
            starts=np.concatenate([[0], np.cumsum(self.lengths[~out])]).astype(np.int64),
            ids=self.ids[~out],
            times=self.times[rows],
            covariates=(
                None if beside is None else replace(beside.take(rows), static=beside.static[~out])
            ),
            skipped=(*self.skipped, *skipped),
        )

    def skipped_times(self) -> pd.Index:
        """The last stamp of each series that is left out."""
        clock = np.array([series.last_tick for series in self.skipped], dtype=np.int64)
        if not isinstance(self.times, pd.DatetimeIndex):
            return pd.Index(clock)
        stamps = pd.DatetimeIndex(clock.view("M8[ns]"))
        if self.times.tz is not None:
            stamps = stamps.tz_localize("UTC").tz_convert(self.times.tz)
        return stamps.as_unit(self.times.unit)

    def last_times(self) -> pd.Index:
        """The last stamp of each series, [N]; every series must have a row."""
        return self.times[self.starts[1:] - 1]

    def fingerprint(self) -> str:
        """Sha256 of ids, times, values, frequency and covariates: equal data, equal print."""
        zone = str(self.times.tz) if isinstance(self.times, pd.DatetimeIndex) else "integer"
        words = [zone, self.freq, None, *self.ids.tolist()]
        if self.covariates is not None:
            words += [None, *self.covariates.words()]
        digest = hashlib.sha256("\x1f".join(f"{type(w).__name__}:{w}" for w in words).encode())
        values = np.where(
            np.isnan(self.values), np.nan, self.values
        )  # one bit pattern for every NaN
        more = () if self.covariates is None else (self.covariates.values,)
        for array in (self.starts, ticks(self.times), values, *more):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _take(self, lo: np.ndarray, hi: np.ndarray) -> Panel:
        """Rows ``lo[n]:hi[n]`` of each series; a view when there is one series."""
        counts = np.maximum(hi - lo, 0)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        pick: slice | np.ndarray
        if self.n_series == 1:
            pick = slice(int(lo[0]), int(lo[0] + counts[0]))
        else:
            pick = np.arange(starts[-1]) + np.repeat(self.starts[:-1] + lo - starts[:-1], counts)
        covariates = None if self.covariates is None else self.covariates.take(pick)
        return replace(
            self,
            values=self.values[pick],
            starts=starts,
            times=self.times[pick],
            covariates=covariates,
        )


def from_long(
    df: pd.DataFrame, schema: Schema | None = None, *, freq: Any = None, missing: str | None = None
) -> Panel:
    """Check a long frame (one row per series and stamp) and stack it; the frame is left as it was.

    Rows may come in any order; the panel's series are sorted by id (categories by their order),
    rows by time. Columns that are not named are ignored. Under the default names the dialect
    ``item_id, timestamp, target`` is understood as well, and a frame without an id column is one
    series.

    Args:
        df: The table.
        schema: What its columns are. A missing covariate takes the last value before it under every
            policy but ``"error"``.
        freq: Frequency where the schema names none.
        missing: Policy where the schema names none; ``None`` is ``"error"``. Absent rows are
            inserted as NaN.

    Returns:
        The panel: N series.

    Raises:
        TypeError: If ``df`` is no DataFrame, or its time column holds no stamps.
        ValueError: If a column is absent or doubled, the table is empty, or a value or stamp breaks
            a rule; the message names the series, the first bad stamp, how many others there are,
            the rule and the remedy.
    """
    schema = Schema() if schema is None else schema
    rules = _rules(schema, freq, missing)
    unit = None if rules.freq is None else parse_freq(rules.freq).unit
    df = check_frame(df, rules.missing)
    moving = schema.columns.moving
    statics = schema.columns.static
    df, dialect = _long_dialect(df, schema)
    id_col = dialect.id_col
    time_col = dialect.time_col
    target_col = dialect.target_col
    codes = np.zeros(len(df), dtype=np.int64)
    ids = np.array(["series"], dtype=object)
    if id_col is not None:
        codes, ids = read_ids(df[id_col])
    taken = {"id_col": id_col, "time_col": time_col, "target_col": target_col}
    check_covariate_cols(df, taken, moving, statics)
    columns = [target_col, *moving]
    values, foreign = _read_columns(df, columns, n_targets=1)
    cells = [df[column] for column in columns]
    titles = (str(target_col), *moving)
    categories = read_categories(df, moving, values[:, 1:], foreign[:, 1:])
    table = Table(
        codes, ids, pd.Index([]), values, foreign, cells, titles, dialect, len(moving), categories
    )
    times = read_stamps(
        df[time_col], f"column {time_col!r}", lambda row: table.series(codes[row]), unit
    )
    table = replace(table, times=times)
    _refuse_hidden_keys(df, table, times, [*moving, *statics])
    skipped: tuple[Skipped, ...] = ()
    empty_rows = _rows_of_empty(table)
    if schema.bad != "error" and empty_rows.any() and not empty_rows.all():
        table, skipped = _without_rows(table, empty_rows)
        df = df[~empty_rows]
    static = np.empty((len(table.ids), 0), dtype=object)
    if statics:
        static = read_static(df, statics, table.codes, table.series)
    panel = replace(_panel(table, rules, statics, static), skipped=skipped)
    tell_ended(panel)
    return panel


def _long_dialect(df: pd.DataFrame, schema: Schema) -> tuple[pd.DataFrame, Dialect]:
    """The frame with its ids and stamps in one column each, and the names of its columns."""
    beside = [*schema.columns.moving, *schema.columns.static]
    key_cols: tuple[Hashable, ...] = ()
    if isinstance(schema.id_col, tuple):
        key_cols = schema.id_col
        require_columns(df, {"target_col": schema.target_col})
        df, joined_name = joined_table(df, key_cols)
        schema = schema.changed(id_col=joined_name)
    names = long_names(df, schema.id_col, schema.time_col, schema.target_col)
    df, (id_col, time_col, target_col) = with_time(df, names, beside)
    if {time_col, target_col} & {*key_cols}:
        raise InputError(
            Name("id_col"),
            f" must name other columns than those of stamps, {time_col!r}, and values,"
            f" {target_col!r}; got {[*key_cols]!r}",
        )
    dialect = Dialect(
        "long",
        id_col,
        time_col,
        target_col,
        id_dtype=None if id_col is None else df[id_col].dtype,
        key_cols=key_cols,
        key_dtypes=tuple(df[key].dtype for key in key_cols),
    )
    return df, dialect


def _rows_of_empty(table: Table) -> np.ndarray:
    """Which rows belong to series that have no value at all, bool [rows]."""
    has_value = ~np.isnan(table.targets).all(axis=1) | table.foreign.any(axis=1)
    n_values = np.bincount(table.codes, weights=has_value, minlength=len(table.ids))
    empty: np.ndarray = n_values[table.codes] == 0
    return empty


def _without_rows(table: Table, dropped: np.ndarray) -> tuple[Table, tuple[Skipped, ...]]:
    """A table without whole series, and what they were."""
    names = np.unique(table.codes[dropped])
    clock = ticks(table.times)
    skipped = tuple(
        Skipped(table.ids[n], int(clock[table.codes == n].max()), "has no value") for n in names
    )
    left = table.at(np.flatnonzero(~dropped))
    kept, codes = np.unique(left.codes, return_inverse=True)
    return replace(left, codes=codes, ids=table.ids[kept]), skipped


def tell_ended(panel: Panel) -> None:
    """Warn once of series that end long before the others, which are forecast from there."""
    if not isinstance(panel.times, pd.DatetimeIndex) or panel.n_series < 2:
        return
    last = panel.last_times()
    # Series of unlike length are common; one among series that end together has ended.
    if 2 * (last == last.max()).sum() <= panel.n_series:
        return
    step = (last - panel.times[panel.starts[:-1]]).max() / max(panel.lengths.max() - 1, 1)
    lead = max(pd.Timedelta(_ENDED_DAYS, "D"), _ENDED_ROWS * step)
    ended = np.flatnonzero(last < last.max() - lead)
    if not len(ended):
        return
    n = int(ended[0])
    warnings.warn(
        f"{panel.series_label(n)} ends at {last[n]}{more(len(ended))}, years before the last"
        f" stamp of the table, {last.max()}, and is forecast from its own end",
        stacklevel=4,
    )


def _refuse_hidden_keys(
    df: pd.DataFrame, table: Table, times: pd.Index, covariates: Sequence[Hashable]
) -> None:
    """Name the columns that would tell rows of the same series and stamp apart, if there are
    any.
    """
    rows = pd.DataFrame({"series": table.codes, "time": ticks(times)})
    if not rows.duplicated().any():
        return
    from tsattn.data.keys import find_keys

    dialect = table.dialect
    known = [] if dialect.id_col is None else [dialect.id_col]
    excluded = {*known, *dialect.key_cols, dialect.time_col, dialect.target_col, *covariates}
    others = [column for column in df.columns if column not in excluded]
    present = rows["series"] if known else pd.Series(np.zeros(len(df), dtype=np.int64))
    stamps = pd.Series(present.to_numpy() * (len(df) + 1) + pd.factorize(times)[0])
    more_keys = find_keys(df, stamps, others)
    if not more_keys:
        return
    row = int(np.flatnonzero(rows.duplicated())[0])
    keys = [*(dialect.key_cols or known), *more_keys]
    raise InputError(
        f"{table.series(table.codes[row])}: stamp {times[row]} occurs more than once, but a stamp"
        f" may occur once in a series; {keys!r} tell the rows apart: pass ",
        Argument("id_col", keys[0] if len(keys) == 1 else keys),
    )


def from_wide(
    df: pd.DataFrame, schema: Schema | None = None, *, freq: Any = None, missing: str | None = None
) -> Panel:
    """Check a wide frame (one row per stamp, one column per series) and stack it; the frame is
    left as it was.

    Args:
        df: The table; its stamps stand in the index or in one column: the one that the schema
            names, where it is there; else an index of stamps or periods; else the column that is
            called date, ds, timestamp, time or datetime, the only one of datetimes, or the only one
            whose text or numbers read as stamps; else the index, as integers or text. A column of
            numbers that an index became in a file is left out, with a warning.
        schema: What its columns are; covariates are no series.
        freq, missing: As in :func:`from_long`.

    Returns:
        The panel: a series for each value column, aligned.

    Raises:
        TypeError: As :func:`from_long`.
        ValueError: As :func:`from_long`; if several columns could be the time column, one beside it
            holds times too, or there are static columns.
    """
    schema = Schema() if schema is None else schema
    rules = _rules(schema, freq, missing)
    unit = None if rules.freq is None else parse_freq(rules.freq).unit
    df = check_frame(df, rules.missing)
    if schema.columns.static:
        raise InputError(
            Name("static_cols"),
            " need a long table, with rows of several series; got"
            f" {list(schema.columns.static)!r} for a wide one; melt it, or leave them out",
        )
    named = schema.time_col in df.columns or schema.time_col not in ("ds", df.index.name)
    covariates = schema.columns.moving
    time_col: Any = schema.time_col if named else find_time_col(df, covariates)
    if time_col is not None:
        require_columns(df, {"time_col": time_col})
    elif rules.freq is None and isinstance(df.index, pd.RangeIndex):
        rules = replace(rules, freq=abs(df.index.step))
        unit = "integer"
    check_covariate_cols(df, {"time_col": time_col}, covariates)
    apart = {*covariates, *([] if time_col is None else [time_col])}
    columns = value_cols(df, [column for column in df.columns if column not in apart])
    if time_col is None and not isinstance(df.index, pd.DatetimeIndex | pd.PeriodIndex):
        refuse_sideways(df, columns)
    names = tuple(str(column) for column in columns)
    if not names or len(set(names)) < len(names):
        raise ValueError(
            "a wide frame needs at least one value column, each with its own name; got"
            f" {list(names)!r}"
        )
    columns += covariates
    values, foreign = _read_columns(df, columns, n_targets=len(names))
    empty = (np.isnan(values) & ~foreign).all(axis=0)
    empty[len(names) :] = False
    skips_empty = schema.bad != "error" and empty.any() and not empty[: len(names)].all()
    if not skips_empty:
        empty[:] = False
    values = values[:, ~empty]
    foreign = foreign[:, ~empty]
    all_names = names
    names = tuple(name for name, out in zip(names, empty, strict=False) if not out)
    columns = [column for column, out in zip(columns, empty, strict=True) if not out]
    source, where = (
        (df.index, "the index") if time_col is None else (df[time_col], f"column {time_col!r}")
    )
    times = read_stamps(source, where, lambda row: "the table", unit)
    codes = np.zeros(len(df), dtype=np.int64)
    ids = np.array(["series"], dtype=object)
    cells = [df[column] for column in columns]
    titles = (*names, *covariates)
    n = len(names)
    index_name = df.index.name if time_col is None else None
    dialect = Dialect("wide", None, time_col, None, index_name, columns=all_names)
    categories = read_categories(df, covariates, values[:, n:], foreign[:, n:])
    table = Table(
        codes, ids, times, values, foreign, cells, titles, dialect, len(covariates), categories
    )
    panel = _unstacked(_panel(table, rules), names)
    last_tick = int(ticks(times).max())
    gone = [name for name in all_names if name not in names]
    return replace(panel, skipped=tuple(Skipped(name, last_tick, "has no value") for name in gone))


def to_panel(
    data: TableLike | Panel,
    schema: Schema | None = None,
    *,
    freq: Any = None,
    missing: str | None = None,
    like: Dialect | None = None,
) -> Panel:
    """Recognise a table as long or wide and check it; a panel passes through as it is.

    Long are frames that have the id column, or both the time and the target column (by the names
    given or, under the default names, as ``item_id, timestamp, target``), those with ids and times
    in the levels of their index, those of one column of text, one of times that occur more than
    once and one of numbers, whatever their names, and those of times that occur more than once and
    up to three columns of text or whole numbers that tell their rows apart. A name other than the
    default must be in the frame.

    Args:
        data: Panel, or whatever :func:`tsattn.data.columns.as_frame` takes: a frame, a series,
            numbers.
        schema: What its columns are; default :class:`tsattn.Schema`'s. A panel must have its
            covariates.
        freq: Frequency where the schema names none.
        missing: Policy where the schema names none; ``None`` is ``"error"``.
        like: How the table of a fit looked: the columns that were found there count where the frame
            has them.

    Returns:
        The panel.

    Raises:
        TypeError: If ``data`` is of another kind.
        ValueError: As :func:`from_long` and :func:`from_wide`; or if a panel lacks a covariate.
    """
    schema = Schema() if schema is None else schema
    if isinstance(data, Panel):
        data.require(schema.columns)
        return data
    frame, schema, is_long = name_columns(data, schema, like)
    return (from_long if is_long else from_wide)(frame, schema, freq=freq, missing=missing)


def name_columns(
    data: TableLike,
    schema: Schema,
    like: Dialect | None = None,
    no_values: Collection[Hashable] = (),
) -> tuple[pd.DataFrame, Schema, bool]:
    """A table as a frame, the schema with the columns that were found in it, and whether it is
    long.

    Args:
        data, schema, like: As :func:`to_panel` takes them.
        no_values: Columns that are not forecast, such as those of a future table.
    """
    frame = check_frame(data, "error")
    if frame.index.nlevels > 1:
        frame, schema = _levelled(frame, schema)
    elif frame.index.name in {schema.id_col, "item_id"} - {None, *frame.columns}:
        frame = frame.reset_index()
    if like is not None:
        schema = _named_alike(frame, schema, like)
    names = long_names(frame, schema.id_col, schema.time_col, schema.target_col)
    have = [
        name is not None and name in frame.columns for name in names
    ]  # None may be the name of a column
    asked = schema.id_col not in (None, "unique_id") or schema.target_col != "y"
    long = have[0] or (have[1] and have[2]) or asked
    told = None
    if isinstance(schema.id_col, tuple) and not have[2] and schema.target_col == "y":
        schema = _with_target(frame, schema)
    elif not have[2] and schema.target_col == "y":
        told = _told_apart(frame, schema, names[0] if have[0] else None)
    if told is None and not have[0] and schema.id_col == "unique_id":
        told = _with_keys(frame, schema, no_values)
    if told is not None:
        long = True
        schema = told
    return frame, schema, long


def _named_alike(frame: pd.DataFrame, schema: Schema, like: Dialect) -> Schema:
    """The schema with the names of the columns of an earlier long table, if the frame has them."""
    if like.kind != "long":
        return schema
    ids = like.key_cols or (() if like.id_col is None else (like.id_col,))
    names = {*ids, like.time_col, like.target_col}
    if not names <= {*frame.columns}:
        return schema
    return schema.changed(id_col=like.id_names, time_col=like.time_col, target_col=like.target_col)


def _with_target(frame: pd.DataFrame, schema: Schema) -> Schema:
    """The schema of several keys with the only column of numbers as target."""
    from tsattn.data.keys import value_col

    keys: tuple[Hashable, ...] = schema.id_col  # type: ignore[assignment]
    for key in keys:
        require_columns(frame, {"id_col": key})
    beside = {*schema.columns.moving, *schema.columns.static, *keys}
    time_col = schema.time_col
    if time_col not in frame.columns and not isinstance(
        frame.index, pd.DatetimeIndex | pd.PeriodIndex
    ):
        time_col = find_time_col(frame, [*beside])
    columns = [column for column in frame.columns if column not in {*beside, time_col}]
    target_col = "target" if "target" in columns else value_col(frame, keys, columns)
    return schema.changed(target_col=target_col)


def _with_keys(
    frame: pd.DataFrame, schema: Schema, no_values: Collection[Hashable]
) -> Schema | None:
    """The schema with the columns that tell rows of one stamp apart, which a warning names; None if
    no stamp comes more than once, or there are no such columns.
    """
    beside = (*schema.columns.moving, *schema.columns.static)
    columns = [column for column in frame.columns if column not in beside]
    time_col = schema.time_col
    is_dated = isinstance(frame.index, pd.DatetimeIndex | pd.PeriodIndex)
    if time_col not in columns and not is_dated:
        time_col = find_time_col(frame, [*beside, schema.target_col])
    if time_col not in columns and not is_dated:
        return None
    times = frame[time_col] if time_col in columns else frame.index
    if not times.duplicated().any():
        return None
    target_col = schema.target_col
    others = [column for column in columns if column not in (time_col, target_col)]
    from tsattn.data.keys import find_keys, value_col

    keys = find_keys(frame, times, others)
    if not keys:
        return None
    if target_col not in columns and target_col == "y":
        target_col = (
            "target"
            if "target" in columns
            else value_col(frame, keys, [name for name in others if name not in no_values])
        )
    named = " and ".join(map(repr, keys))
    warnings.warn(
        InputWarning(
            f"the values of {named} tell series apart, and {target_col!r} is forecast; name other"
            " columns by ",
            Name("id_col"),
            " and ",
            Name("target_col"),
        ),
        stacklevel=2,
    )
    return schema.changed(
        id_col=keys[0] if len(keys) == 1 else keys, time_col=time_col, target_col=target_col
    )


def _told_apart(frame: pd.DataFrame, schema: Schema, known: Any) -> Schema | None:
    """How a long table of other names is read: ids, known or text that parts rows of one time,
    times, and numbers.
    """
    beside = (*schema.columns.moving, *schema.columns.static)
    dated = isinstance(frame.index, pd.DatetimeIndex)
    columns = [column for column in frame.columns if column not in beside]
    for id_col in (columns if known is None else [known]) if len(columns) == 3 - dated else ():
        if known is None and pd.api.types.infer_dtype(frame[id_col]) not in (
            "string",
            "categorical",
        ):
            continue
        codes = pd.factorize(frame[id_col])[0]
        time_col = schema.time_col
        if not dated and time_col not in columns:
            time_col = find_time_col(frame, [*beside, id_col], codes)
        times = frame[time_col] if time_col in columns else frame.index
        rest = [column for column in columns if column not in (id_col, time_col)]
        parted = known is not None or times.duplicated().any() or not codes.any()
        if parted and len(rest) == 1 and pd.api.types.is_numeric_dtype(frame[rest[0]]):
            return schema.changed(id_col=id_col, time_col=time_col, target_col=rest[0])
    return None


def _levelled(frame: pd.DataFrame, schema: Schema) -> tuple[pd.DataFrame, Schema]:
    """A long frame of one with ids and times in its index, and how it is read; its one value column
    needs no name.
    """
    beside = (*schema.columns.moving, *schema.columns.static)
    target_col = schema.target_col
    columns = [column for column in frame.columns if column not in beside]
    if target_col == "y" and "y" not in columns and ("target" in columns or len(columns) == 1):
        target_col = "target" if "target" in columns else columns[0]
    if frame.index.nlevels > 2:
        return _of_many_levels(frame, schema.changed(target_col=target_col))
    frame, id_col, time_col = with_levels(frame, schema.id_col, schema.time_col)
    return frame, schema.changed(id_col=id_col, time_col=time_col, target_col=target_col)


def _of_many_levels(frame: pd.DataFrame, schema: Schema) -> tuple[pd.DataFrame, Schema]:
    """A long frame of one with several keys and the times in its index, and how it is read."""
    time_col = index_time_col(frame, schema.time_col)
    keys = [name for name in frame.index.names if name != time_col]
    return frame.reset_index(), schema.changed(id_col=keys, time_col=time_col)


def _rules(schema: Schema, freq: Any, missing: str | None) -> Rules:
    """What stamps must follow and what is done about absent values: the schema decides, then a
    fit, then the forecaster.
    """
    fitted = schema.freq is None and freq is not None
    return Rules(
        freq=freq if schema.freq is None else schema.freq,
        missing=schema.missing or missing or "error",
        gaps=schema.gaps,
        fitted=fitted,
        fills_holidays=schema.missing is None,
    )


def to_long(panel: Panel) -> pd.DataFrame:
    """The panel as a long frame, by series and time.

    Args:
        panel: Long panels come back under their own column names and id dtype; the columns of a
            wide one are named ``unique_id``, ``ds`` and ``y``. Covariates follow under their names.

    Returns:
        Frame with a RangeIndex.
    """
    dialect = panel.dialect
    wide = dialect.kind == "wide"
    names = np.repeat(panel.ids, panel.lengths)
    frame: dict[Any, Any] = {}
    if wide:
        frame["unique_id"] = names
    elif dialect.id_col is not None:
        frame[dialect.id_col] = dialect.restore_ids(names)
    frame["ds" if wide else dialect.time_col] = panel.times
    frame["y" if wide else dialect.target_col] = panel.values[:, 0]
    return dialect.with_keys(pd.DataFrame(frame | covariate_series(panel)))


def covariate_series(panel: Panel) -> dict[Any, pd.Series]:
    """Covariates as columns of a frame by their names, static ones repeated row by row."""
    here = panel.covariates
    if here is None:
        return {}
    owners = np.repeat(np.arange(panel.n_series), panel.lengths)
    found = {}
    for name, values in zip(here.columns, here.values.T, strict=True):
        known = here.kind(name)
        named = values if known is None else np.array(known, dtype=object)[values.astype(np.int64)]
        found[name] = pd.Series(named)
    for s, name in enumerate(here.statics):
        found[name] = (
            pd.Series(here.static[:, s]).infer_objects().take(owners).reset_index(drop=True)
        )
    return found


def to_wide(panel: Panel) -> pd.DataFrame:
    """The panel as a wide frame, one column per series.

    Args:
        panel: Wide panels come back as they came, the stamps in their column (first) or in the
            index, covariates after the series; a long one is pivoted on an index of all its stamps,
            NaN where a series has none, and without its covariates, which belong to single series.

    Returns:
        Frame in the order of time.
    """
    dialect = panel.dialect
    row, stamps = pd.factorize(panel.times, sort=True)
    values = np.full((len(stamps), panel.n_series), np.nan)
    values[row, np.repeat(np.arange(panel.n_series), panel.lengths)] = panel.values[:, 0]
    index = pd.Index(stamps, name=dialect.time_col)
    frame = pd.DataFrame(values, index=index, columns=pd.Index(panel.ids))
    if dialect.kind == "long":
        return frame
    frame = frame.reindex(columns=list(dialect.columns))
    for name, column in covariate_series(panel.some(0, 1)).items():
        frame[name] = column.to_numpy()
    if dialect.time_col is not None:
        return frame.reset_index()
    frame.index.name = dialect.index_name
    return frame


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
    shown = []
    for n in short[:3]:
        rows = panel.times[panel.starts[n] : panel.starts[n + 1]]
        span = f", {rows[0]} to {rows[-1]}" if len(rows) else ""
        shown.append(f"{panel.series_label(n)} ({len(rows)} rows{span})")
    others = f" and {len(short) - 3} more" if len(short) > 3 else ""
    raise BadSeriesError(
        f"too short: {'; '.join(shown)}{others}, but {reason} needs at least {n_rows} rows in every"
        " series; give more rows, leave these series out, or ask for less",
        panel.ids[short],
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
            if bad == "error" or len(error.ids) >= panel.n_series:
                raise
            panel = panel.without(error.ids, error.reason)


def tell_skipped(panel: Panel) -> None:
    """Warn once of the series that are left out."""
    if not panel.skipped:
        return
    named = "; ".join(
        f"{plain(series.name)!r} {series.reason}" for series in panel.skipped[:_NAMED_SERIES]
    )
    n_more = len(panel.skipped) - _NAMED_SERIES
    others = f" and {n_more} more" if n_more > 0 else ""
    warnings.warn(
        InputWarning(
            f"left out: series {named}{others}; their forecasts are NaN; ",
            Argument("bad", "error"),
            " refuses such a table",
        ),
        stacklevel=3,
    )


def _read_columns(
    df: pd.DataFrame, columns: Sequence[Any], n_targets: int
) -> tuple[np.ndarray, np.ndarray]:
    """Columns of numbers side by side, and where a cell is no number.

    Text that spells numbers counts as numbers in the targets, which come first. Of covariates it
    is categories.
    """
    if len(columns) == 1:
        values, foreign = read_numbers(df[columns[0]], spelt=n_targets > 0)
        return values[:, None], foreign[:, None]
    values = np.empty((len(df), len(columns)))
    foreign = np.empty((len(df), len(columns)), dtype=bool)
    for c, column in enumerate(columns):
        values[:, c], foreign[:, c] = read_numbers(df[column], spelt=c < n_targets)
    return values, foreign


def _panel(
    table: Table,
    rules: Rules,
    statics: tuple[Hashable, ...] = (),
    static: np.ndarray | None = None,
) -> Panel:
    table, starts, alias, missing = regular(table, rules)
    n = len(table.columns) - table.n_covariates
    covariates = None
    if table.n_covariates or statics:
        static = np.empty((len(table.ids), 0), dtype=object) if static is None else static
        moving = np.ascontiguousarray(table.values[:, n:])
        covariates = Covariates(table.columns[n:], moving, statics, static, table.categories)
    values = np.ascontiguousarray(table.targets)
    return Panel(values, starts, table.ids, table.times, alias, table.dialect, missing, covariates)


def _unstacked(group: Panel, columns: Sequence[str]) -> Panel:
    """The columns of a wide table, read side by side, as series below one another in the order of
    their names.
    """
    names = np.array(columns, dtype=object)
    order = np.argsort(names, kind="stable")
    n_series = len(names)
    n_rows = len(group.values)
    covariates = group.covariates
    if covariates is not None:
        moving = np.tile(covariates.values, (n_series, 1))
        static = np.repeat(covariates.static, n_series, axis=0)
        covariates = replace(covariates, values=moving, static=static)
    return replace(
        group,
        values=np.ascontiguousarray(group.values[:, order].T).reshape(-1, 1),
        starts=n_rows * np.arange(n_series + 1),
        ids=names[order],
        times=group.times[np.tile(np.arange(n_rows), n_series)],
        covariates=covariates,
    )
