"""Panels continued by later rows."""

from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd

from tsattn.checks import Argument, InputError, InputWarning, InPython, Piece, warn
from tsattn.data.calendar import future_times, locate, more, parse_freq, ticks
from tsattn.data.columns import Dialect, TableLike, plain
from tsattn.data.covariates import label
from tsattn.data.frames import (
    covariate_series,
    from_long,
    lacks_stamps,
    name_columns,
    read_later_rows,
)
from tsattn.data.panel import (
    Panel,
    as_objects,
    keys_alike,
    names_alike,
    places_of,
    tell_empty_end,
)
from tsattn.data.schema import KnownRows, Schema
from tsattn.data.tables import FAR_ROWS, MOST_FAR_ROWS
from tsattn.data.windows import known_lengths

# Columns of values that only the library or pandas has named.
_NO_NAMES = {"y", "target", "0", 0}
# Share of the known values that later rows without stamps repeat, at least, so that they may be
# the known rows.
_LEAST_REPEATED = 0.5
# Columns that an error names at most.
_MOST_NAMED = 5


def read_later(data: TableLike, schema: Schema, known: KnownRows) -> Panel:
    """Rows that follow known ones, as :func:`tsattn.data.frames.to_panel` reads a table; their
    first values may be missing.

    Rows without stamps follow the last known row, where the known ones have none either. Where they
    begin with all known values, they count from the first known row.

    Args:
        data: The table.
        schema: What its columns are.
        known: The known series, whose frequency, names of columns and time zone count.

    Raises:
        ValueError: As ``to_panel``; if rows have no stamps and the known ones have some, or it is
            not clear where they belong.
    """
    last = known.panel
    frame, schema, is_long = name_columns(data, schema, last.dialect)
    if last.dialect.key_cols:
        frame = keys_alike(frame, last)
    are_numbered = not is_long and lacks_stamps(frame, schema)
    if are_numbered:
        _require_row_numbers(last)
    new = read_later_rows(frame, schema, is_long, known)
    return _numbered_on(last, known_alike(last, new)) if are_numbered else new


def _require_row_numbers(old: Panel) -> None:
    """Refuse new rows without stamps where the old ones have some."""
    dialect = old.dialect
    counts_rows = not isinstance(old.times, pd.DatetimeIndex) and old.freq == 1
    if counts_rows and dialect.kind == "wide" and dialect.time_col is None:
        return
    place = "their index" if dialect.time_col is None else f"a column {dialect.time_col!r}"
    raise ValueError(
        f"the new rows have no stamps, and the rows known end at {old.times.max()}; give the stamps"
        f" of the new ones in {place}"
    )


def _numbered_on(old: Panel, new: Panel) -> Panel:
    """New rows that were numbered from 0, renumbered to follow the old ones; unless they begin with
    all old values.

    Raises:
        ValueError: If they may be either, or the old series end at different numbers.
    """
    ends = ticks(old.last_times())
    if ends.min() < ends.max():
        raise ValueError(
            f"the new rows have no stamps, and the series known end at rows from {ends.min()} to"
            f" {ends.max()}; number the new ones by an index"
        )
    next_row = int(ends[0]) + 1
    n_rows = int(new.lengths[0])
    if n_rows >= next_row:
        old_values, new_values = _values_of_same_rows(old, new)
        n_values = len(old_values)
        n_equal = int((old_values == new_values).sum())
        is_same = n_equal == n_values
        # Equal values alone show no place.
        if n_equal and is_same and old_values.min() < old_values.max():
            return new
        if n_equal >= _LEAST_REPEATED * n_values > 0:
            raise InputError(
                f"the {n_rows} new rows have no stamps, and {n_equal} of {n_values} values at"
                " their start are those known: they may follow the rows known, or begin with them;"
                " number them by an index",
                InPython(
                    f", range({next_row}, {next_row + n_rows}) where they follow, or"
                    f" list(range({n_rows})) where they begin with them"
                ),
            )
    return replace(new, times=new.times + next_row)


def _values_of_same_rows(old: Panel, new: Panel) -> tuple[np.ndarray, np.ndarray]:
    """Old values and the new ones of the same series and row number, where both have one."""
    columns = []
    for panel in (old, new):
        keys = [np.repeat(panel.ids, panel.lengths), ticks(panel.times)]
        columns.append(pd.Series(panel.values[:, 0], index=keys))
    pairs = pd.concat(columns, axis=1, join="inner").dropna()
    return pairs[0].to_numpy(), pairs[1].to_numpy()


def continued_panel(
    old: Panel, new: Panel, context: float = np.inf, *, policy: str = "mask", tells: bool = False
) -> Panel:
    """The rows of both panels, series by series; where both have a stamp, the new one counts if it
    has a value.

    Args:
        old: Earlier rows.
        new: Later rows of the same or other series as :func:`known_alike` gives them, on the same
            frequency and with the same covariates.
        context: Rows that are read: where the old panel has so many of a series, new ones before
            them do not count.
        policy: What is done about missing values later.
        tells: Whether warnings name series that are absent from a wide new panel, and rows that are
            absent and will be filled.

    Raises:
        ValueError: If rows between them are missing and the policy of ``new`` is to refuse that, or
            a static value is another one now.
    """
    _object_to_rows(old, new, policy, tells)
    if tells:
        _tell_rows_before(old, new, context)
    table, schema = _joined_table(old, new)
    id_col, time_col, target_col = table.columns[:3]
    keys = [id_col, time_col]
    # Without a value a row stands for one that was not given.
    is_empty = table[target_col].isna() & table.duplicated(keys)
    is_left_out = is_empty | _early_rows(old, new, context)
    all_rows = table[~is_left_out]
    table = all_rows.drop_duplicates(keys, keep="last")
    if new.dialect.kind == "wide":
        table = _to_one_end(table, id_col, time_col)
    joined = from_long(table, schema)
    if tells and policy == "mask" and np.isnan(new.values).all():
        tell_empty_end(joined)
    left_out = {series.name: series for series in (*old.skipped, *new.skipped, *joined.skipped)}
    for name in joined.ids:
        left_out.pop(name, None)
    dialect = _joined_dialect(old, new, joined)
    return replace(joined, dialect=dialect, skipped=tuple(left_out.values()))


def _object_to_rows(old: Panel, new: Panel, policy: str, tells: bool) -> None:
    """Object to later rows that cannot follow; arguments as of :func:`continued_panel`."""
    is_refused = new.missing == "error"
    if is_refused or tells:
        _object_to_absent_columns(old, new)
    # What is left out needs no word.
    if is_refused or (tells and policy == "interpolate"):
        _object_to_empty(old, new)
        _tell_blank_start(old, new)
        _object_to_gap_between(old, new)
    elif tells:
        # Single rows may be absent anywhere, but a stamp far from all others may be wrong.
        _object_to_gap_between(old, new, far=True)


def _joined_table(old: Panel, new: Panel) -> tuple[pd.DataFrame, Schema]:
    """All rows of both panels as a long table, and how it is read.

    Its first columns are the ids, the stamps and the values, which keep their own names: a
    covariate may be called y, or ds.
    """
    covariates = new.covariates
    columns = () if covariates is None else covariates.columns
    statics = () if covariates is None else covariates.statics
    id_col = new.dialect.id_col or "unique_id"
    time_col = new.dialect.time_col or "ds"
    target_col = new.dialect.target_col or "y"
    row_ids = [np.repeat(as_objects(panel.ids), panel.lengths) for panel in (old, new)]
    ids: Any = np.concatenate(row_ids)
    # Categories order the series.
    if isinstance(new.dialect.id_dtype, pd.CategoricalDtype):
        ids = new.dialect.restore_ids(ids)
    values = np.concatenate([old.values[:, 0], new.values[:, 0]])
    table = pd.DataFrame(
        {
            id_col: ids,
            time_col: old.times.append(new.times),
            target_col: values,
            **_joined_covariates(old, new, columns, statics),
        }
    )
    schema = Schema(
        id_col,
        time_col,
        target_col,
        freq=new.freq,
        missing=new.missing,
        past_cols=columns,
        static_cols=statics,
    )
    return table, schema


def _joined_dialect(old: Panel, new: Panel, joined: Panel) -> Dialect:
    """The dialect of a panel that joins two others."""
    dialect = _joined_types(old.dialect, new.dialect, joined.ids)
    if dialect.key_cols:
        dialect = replace(dialect, id_dtype=joined.dialect.id_dtype)
    if dialect.columns:
        series_cols = dict.fromkeys(old.dialect.columns + dialect.columns)
        known_left_out = old.dialect.left_out
        dialect = replace(dialect, columns=tuple(series_cols), left_out=known_left_out)
    return dialect


def _object_to_empty(old: Panel, new: Panel) -> None:
    """Object to later rows of a known series that hold no value: still later ones could not follow
    them.

    A series without any value is left out of a panel, so that it does not stop the others, unless
    none has one.
    """
    old_names = {*map(str, old.ids)}
    is_empty = known_lengths(new) == 0
    names = [*new.ids[is_empty], *(series.name for series in new.skipped)]
    empty = [name for name in names if str(name) in old_names]
    if empty:
        label = "the table"
        if new.dialect.names_series:
            label = f"series {plain(empty[0])!r}{more(len(empty))}"
        _object(
            new.missing,
            f"{label} has no value in the new rows",
            "fill them in",
            InPython(", or first call set_params(schema__missing='ffill')"),
        )


def _tell_blank_start(old: Panel, new: Panel) -> None:
    """Warn of known series whose first new rows follow the known ones and hold no value, though
    later ones do.
    """
    n_known = known_lengths(new)
    starts_blank = (n_known > 0) & (n_known < new.lengths)
    places = places_of(old.ids, new.ids)
    first_ticks = ticks(new.times[new.starts[:-1]])
    follows = (places >= 0) & (first_ticks > ticks(old.last_times())[places])
    blank = np.flatnonzero(starts_blank & follows)
    if len(blank):
        n = int(blank[0])
        first_time = new.times[new.starts[n]]
        warn(
            InputWarning(
                f"{new.series_label(n)}{more(len(blank))} has no value at {first_time}, the first"
                " of the new rows; such rows count as missing"
            )
        )


def _object(missing: str, fault: str, *remedy: str | Piece) -> None:
    """Warn of rows or columns that are absent, or refuse them where the policy is ``"error"``."""
    if missing != "error":
        warn(InputWarning(f"{fault}; they count as missing"))
        return
    raise InputError(
        f"{fault}, but ", Argument("missing", "error"), " allows no missing values; ", *remedy
    )


def _object_to_absent_columns(old: Panel, new: Panel) -> None:
    """Object to new rows of a wide table without the column of some series, which are missing at
    their stamps.
    """
    new_names = {*new.dialect.columns}
    absent = [plain(name) for name in old.dialect.columns if name not in new_names]
    if absent:
        _object(
            new.missing,
            f"the new rows have no column {absent[0]!r}{more(len(absent))}, which the earlier rows"
            " have",
            "add it",
            InPython(", or first call set_params(schema__missing='interpolate')"),
        )


def _object_to_gap_between(old: Panel, new: Panel, *, far: bool = False) -> None:
    """Object to new rows of a series that do not follow its old ones, or only to those ``far`` from
    them.
    """
    places = places_of(old.ids, new.ids)
    series = np.flatnonzero(places >= 0)
    if not len(series):
        return
    last = old.last_times()[places[series]]
    first = new.times[new.starts[:-1][series]]
    steps = _steps_between(last, first, new.freq)
    n_absent = steps - 1
    is_gap = n_absent > 0
    if far:
        few_new = new.lengths[series] <= MOST_FAR_ROWS
        exceeds_old = n_absent > old.lengths[places[series]]
        is_gap = (n_absent >= FAR_ROWS) & (few_new | exceeds_old)
    gaps = np.flatnonzero(is_gap)
    if not len(gaps):
        return
    n = int(gaps[0])
    absent = future_times(last[[n]], new.freq, int(steps[n]) - 1)
    listed = f"the row at {absent[0]}"
    if len(absent) > 1:
        listed = f"the rows from {absent[0]} to {absent[-1]}"
    _object(
        new.missing,
        f"{new.series_label(series[n])}{more(len(gaps))}: gap: the rows known end at {last[n]}, and"
        f" those of update begin at {first[n]}",
        f"give {listed} too, or have gaps filled: first call"
        " set_params(schema__missing='interpolate')",
    )


def _steps_between(times: pd.Index, later: pd.Index, freq: Any) -> np.ndarray:
    """Steps from each time to the later one."""
    series = np.tile(np.arange(len(times)), 2)
    steps, _ = locate(times.append(later), series, parse_freq(freq))
    return steps[len(times) :]


def _tell_rows_before(old: Panel, new: Panel, context: float) -> None:
    """Warn once of known series whose new rows all lie far before the known ones, of which none is
    forgotten: fewer than ``context`` rows are known.
    """
    places = places_of(old.ids, new.ids)
    series = np.flatnonzero((places >= 0) & (old.lengths[places] < context))
    ends = new.last_times()[series]
    first_known = old.times[old.starts[:-1][places[series]]]
    early = np.flatnonzero(ends < first_known)
    steps = _steps_between(ends[early], first_known[early], new.freq)
    early = early[steps > FAR_ROWS]
    if not len(early):
        return
    n = int(early[0])
    warn(
        f"{new.series_label(series[n])}{more(len(early))}: the new rows end at {ends[n]}, before"
        f" the first row known, {first_known[n]}; update takes later rows, so correct their stamps,"
        " or call fit with all rows"
    )


def _to_one_end(table: pd.DataFrame, id_col: str, time_col: str) -> pd.DataFrame:
    """The table with rows without a value where a series ends before others: the series of a wide
    table end together.
    """
    by_series = table.groupby(id_col, sort=False, observed=True)
    ends = by_series[time_col].max()
    times = table[time_col].drop_duplicates()
    late = [
        pd.DataFrame({id_col: name, time_col: times[times > end]})
        for name, end in ends[ends < ends.max()].items()
    ]
    return pd.concat([table, *late], ignore_index=True)


def _joined_types(old: Dialect, new: Dialect, ids: np.ndarray) -> Dialect:
    """The dialect of the new table, with types that hold the names of the series of both."""
    if not isinstance(new.id_dtype, pd.CategoricalDtype):
        id_dtype = _joined_type(old.id_dtype, new.id_dtype, ids)
        new = replace(new, id_dtype=id_dtype)
    pairs = zip(old.key_values, new.key_values, strict=True)
    key_values = [{**of_new, **of_old} for of_old, of_new in pairs]
    values = [[*of_key.values()] for of_key in key_values]
    key_dtypes = map(_joined_type, old.key_dtypes, new.key_dtypes, values)
    return replace(new, key_dtypes=tuple(key_dtypes), key_values=tuple(key_values))


def _joined_type(old: Any, new: Any, values: Sequence[Any] | np.ndarray) -> Any:
    """The type of the old values of a column if it holds those of both tables, so that later rows
    turn no 1 into 1.0; else one that holds both.
    """
    if old is None or isinstance(new, pd.CategoricalDtype):
        return _common_type(old, new)
    cells = pd.Index(values, dtype=object)
    with suppress(ValueError, TypeError, OverflowError):
        if (cells.astype(old) == cells).all():
            return old
    return _common_type(old, new)


def _common_type(old: Any, new: Any) -> Any:
    """The type of a column that holds the values of two others."""
    if old is None or old == new:
        return new
    are_categories = [isinstance(kind, pd.CategoricalDtype) for kind in (old, new)]
    if all(are_categories):
        new_names = new.categories.difference(old.categories, sort=False)
        names = old.categories.append(new_names)
        return pd.CategoricalDtype(names, old.ordered)
    # pandas says which type holds both when it joins columns of them.
    old_kind = old.categories.dtype if are_categories[0] else old
    new_kind = new.categories.dtype if are_categories[1] else new
    return pd.Index([], dtype=old_kind).append(pd.Index([], dtype=new_kind)).dtype


def _early_rows(old: Panel, new: Panel, context: float) -> np.ndarray:
    """Rows of both panels, the old ones first, that lie before ``context`` known ones."""
    places = places_of(old.ids, new.ids)
    clock = ticks(new.times)
    is_old = places >= 0
    complete = is_old & (old.lengths[places] >= context)
    old_clock = ticks(old.times)
    old_first = old_clock[old.starts[:-1]]
    # A series that is not complete has no early rows.
    first = np.where(complete, old_first[places], clock.min())
    early = clock < np.repeat(first, new.lengths)
    old_rows = np.zeros(len(old.values), dtype=bool)
    return np.append(old_rows, early)


def known_alike(old: Panel, new: Panel) -> Panel:
    """The new panel with the time zone, the series names and the categories of ids of the old
    panel.

    Where both have one series without an id, it is the same one, whatever its column is called.

    Args:
        old: Earlier rows.
        new: Later rows.

    Raises:
        ValueError: If the panels are of different kinds, or no column of a wide one is a series of
            the other.
    """
    if _has_one_column(old) and _has_one_column(new):
        new = _of_known_series(old, new)
    if old.dialect.kind != new.dialect.kind:
        raise ValueError(
            f"a {old.dialect.kind} table cannot be continued by a {new.dialect.kind} one; give the"
            " same kind"
        )
    if old.dialect.id_col is not None and new.dialect.id_col is None and new.dialect.kind == "long":
        # A series without a name would stand beside those of the fit.
        raise ValueError(
            f"the new rows have no column {old.dialect.id_names!r}, by which the earlier rows name"
            " their series; add it"
        )
    new = _with_known_names(old, new)
    _refuse_other_columns(old, new)
    kinds = old.dialect.id_dtype
    new_kinds = new.dialect.id_dtype
    # The new categories perhaps lack some of the old ids.
    if isinstance(new_kinds, pd.CategoricalDtype) and not isinstance(kinds, pd.CategoricalDtype):
        kinds = pd.CategoricalDtype(pd.Index(old.ids), new_kinds.ordered)
    if old.zone is not None and new.zone is not None:
        stamps = cast(pd.DatetimeIndex, new.times)
        new = replace(new, times=stamps.tz_convert(old.zone))
    if isinstance(kinds, pd.CategoricalDtype):
        names = kinds.categories
        new_names = pd.Index(new.ids).difference(names, sort=False)
        # pandas warns where an index is joined to an empty one.
        if len(new_names):
            names = names.append(new_names)
        id_dtype = pd.CategoricalDtype(names, kinds.ordered)
        dialect = replace(new.dialect, id_dtype=id_dtype)
        new = replace(new, dialect=dialect)
    return new


def _with_known_names(old: Panel, new: Panel) -> Panel:
    """The new panel with the names that the old one gives its series, those left out included."""
    left_out = [series.name for series in old.skipped]
    old_names = [*as_objects(old.ids), *left_out, *old.dialect.columns]
    new_names = [*as_objects(new.ids), *(series.name for series in new.skipped)]
    names = names_alike(old_names, new_names)
    skipped_names = names[new.n_series :]
    pairs = zip(new.skipped, skipped_names, strict=True)
    skipped = tuple(series._replace(name=name) for series, name in pairs)
    columns = names_alike(old_names, new.dialect.columns)
    dialect = replace(new.dialect, columns=tuple(columns))
    return replace(new, ids=names[: new.n_series], skipped=skipped, dialect=dialect)


def _has_one_column(panel: Panel) -> bool:
    """Whether a table had a single series, which it named by its column of values alone."""
    if panel.dialect.kind == "wide":
        return len(panel.dialect.columns) == 1
    return panel.dialect.id_col is None


def _of_known_series(old: Panel, new: Panel) -> Panel:
    """The single series of the new panel as that of the old one, with a warning where both have
    names and these differ.
    """
    old_name = _value_column(old)
    new_name = _value_column(new)
    are_names = not {old_name, new_name} & _NO_NAMES
    if are_names and str(old_name) != str(new_name):
        warn(
            InputWarning(
                f"the new rows have the values {new_name!r}, and continue the only series of the"
                f" fit, {old_name!r}; if they are of another series, fit a forecaster for it"
            )
        )
    dialect = old.dialect
    if old.dialect.kind == new.dialect.kind:
        dialect = replace(new.dialect, columns=old.dialect.columns)
    return replace(new, ids=old.ids, dialect=dialect)


def _value_column(panel: Panel) -> Any:
    """Name of the only column of values."""
    dialect = panel.dialect
    return dialect.columns[0] if dialect.kind == "wide" else dialect.target_col


def _refuse_other_columns(old: Panel, new: Panel) -> None:
    """Refuse a wide table none of whose columns is a series of the fit."""
    old_columns = old.dialect.columns
    new_columns = new.dialect.columns
    if new.dialect.kind == "long" or {*old_columns} & {*new_columns}:
        return
    old_text, new_text = (
        f"{[*map(plain, columns[:_MOST_NAMED])]!r}{more(len(columns) - _MOST_NAMED + 1)}"
        for columns in (old_columns, new_columns)
    )
    raise ValueError(
        f"the new rows have the columns {new_text}, none of which is among the series of the fit,"
        f" {old_text}; give them the names of the fit, or fit anew for other series"
    )


def _joined_covariates(
    old: Panel, new: Panel, columns: tuple[Hashable, ...], statics: tuple[Hashable, ...]
) -> dict[Any, pd.Series]:
    """Columns of both, the old rows first."""
    parts = [covariate_series(panel) for panel in (old, new)]
    joined = {}
    for name in (*columns, *statics):
        column = pd.concat([part[name] for part in parts], ignore_index=True)
        # Objects are perhaps numbers in one table and categories in the other.
        if column.dtype == object:
            column = column.map(label, na_action="ignore")
        joined[name] = column
    return joined
