"""Tables of series read as panels, and panels as tables again."""

import itertools
import re
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import tzinfo
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype, is_numeric_dtype

from tsattn.checks import (
    Argument,
    InputError,
    InputWarning,
    InPython,
    Name,
    Piece,
    changed_pieces,
    warn,
)
from tsattn.data.calendar import more, parse_freq, ticks
from tsattn.data.columns import (
    Dialect,
    TableLike,
    as_frame,
    check_frame,
    find_time_col,
    has_time_index,
    joined_table,
    long_names,
    numbers_rows,
    plain,
    read_ids,
    read_numbers,
    read_stamps,
    refuse_sideways,
    require_columns,
    require_named,
    value_cols,
    whole_numbers,
    with_levels,
    with_time,
)
from tsattn.data.covariates import (
    Covariates,
    check_covariate_cols,
    read_categories,
    read_static,
)
from tsattn.data.grid import owners_of
from tsattn.data.panel import Panel, Skipped, starts_of, tell_alike, tell_ended
from tsattn.data.parts import (
    part_of,
    refuse_clock,
    refuse_nested_years,
    refuse_parts,
    refuse_units,
)
from tsattn.data.schema import KnownRows, Rules, Schema
from tsattn.data.tables import Table, regular

__all__ = ["from_long", "from_wide", "to_long", "to_panel", "to_wide"]

# Rows from which on a column of one number may name the series; wide tables of more columns hold
# series alone.
_LEAST_KEY_ROWS = 8
_MOST_MEASURES = 20


def from_long(
    df: pd.DataFrame,
    schema: Schema | None = None,
    *,
    freq: Any = None,
    zone: tzinfo | None = None,
) -> Panel:
    """Check a long frame (one row per series and stamp) and stack it; the frame is left as it was.

    Rows may come in any order; the panel's series are sorted by id (categories by their order),
    rows by time. Columns that are not named are ignored. Under the default names the dialect
    ``item_id, timestamp, target`` is understood as well, and a frame without an id column is one
    series.

    Args:
        df: The table.
        schema: What its columns are. Absent rows are inserted as NaN, and the panel has the policy
            of the schema, or ``"mask"``. A missing covariate takes the last value before it under
            every policy but ``"error"``. Where the schema names no policy, a warning tells it, and
            one that is missing in more than half of the rows of a series is refused.
        freq: Frequency where the schema names none.
        zone: Time zone to which stamps with another one are converted; default they keep theirs.

    Returns:
        The panel: N series.

    Raises:
        TypeError: If ``df`` is no DataFrame, or its time column holds no stamps.
        ValueError: If a column is absent or doubled, the table is empty, or a value or stamp breaks
            a rule; the message names the series, the first bad stamp, how many others there are,
            the rule and the remedy.
    """
    schema = schema or Schema()
    rules = _rules(schema, freq, zone)
    return _read_long(check_frame(df), schema, rules)


def _read_long(df: pd.DataFrame, schema: Schema, rules: Rules) -> Panel:
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
    roles = {"id_col": id_col, "time_col": time_col, "target_col": target_col}
    check_covariate_cols(df, roles, moving, statics)
    columns = [target_col, *moving]
    values, foreign = _read_columns(df, columns, n_targets=1)
    # The first column is the target, the others are covariates.
    categories = read_categories(df, moving, values[:, 1:], foreign[:, 1:])
    times = read_stamps(
        df[time_col],
        f"column {time_col!r}",
        lambda row: dialect.label(ids[codes[row]]),
        rules.unit,
        day_first=rules.day_first,
    )
    table = Table(
        codes=codes,
        ids=ids,
        times=times,
        values=values,
        foreign=foreign,
        cells=[df[column] for column in columns],
        columns=(str(target_col), *moving),
        dialect=_with_spelling(dialect, df[time_col], times, rules),
        time_cells=df[time_col],
        n_targets=1,
        categories=categories,
    )
    _refuse_hidden_keys(df, table, schema.columns.in_table)
    skipped: tuple[Skipped, ...] = ()
    empty_rows = _rows_of_empty(table)
    leaves_out = schema.bad != "error" and not rules.later
    if leaves_out and empty_rows.any() and not empty_rows.all():
        table, skipped = _without_rows(table, empty_rows)
        df = df[~empty_rows]
    panel = replace(_panel(df, table, rules, statics), skipped=skipped)
    tell_ended(panel)
    tell_alike(panel)
    from tsattn.data.copies import tell_copies

    tell_copies(panel, schema.columns.future)
    return panel


def _long_dialect(df: pd.DataFrame, schema: Schema) -> tuple[pd.DataFrame, Dialect]:
    """The frame with its ids and stamps in one column each, and the names of its columns."""
    key_cols: tuple[Hashable, ...] = ()
    values_by_text: tuple[dict[str, Any], ...] = ()
    if isinstance(schema.id_col, tuple):
        key_cols = schema.id_col
        require_columns(df, {"target_col": schema.target_col})
        df, joined_name = joined_table(df, key_cols)
        from tsattn.data.keys import key_values

        # Numbers in a column of objects come back as numbers.
        values_by_text = tuple(key_values(df[key].infer_objects()) for key in key_cols)
        schema = schema.changed(id_col=joined_name)
    names = long_names(df, schema.id_col, schema.time_col, schema.target_col)
    df, (id_col, time_col, target_col) = with_time(df, names, schema.columns.in_table)
    key_roles = {time_col, target_col} & {*key_cols}
    if key_roles:
        raise InputError(
            Name("id_col"),
            f" must name other columns than those of stamps, {time_col!r}, and values,"
            f" {target_col!r}; got {[*key_cols]!r}",
        )
    id_dtype = None if id_col is None else df[id_col].dtype
    key_dtypes = tuple(df[key].infer_objects().dtype for key in key_cols)
    dialect = Dialect(
        "long",
        id_col,
        time_col,
        target_col,
        id_dtype=id_dtype,
        key_cols=key_cols,
        key_dtypes=key_dtypes,
        key_values=values_by_text,
    )
    return df, dialect


def _with_spelling(
    dialect: Dialect, cells: pd.Series | pd.Index, times: pd.Index, rules: Rules
) -> Dialect:
    """The dialect with the type of periods, or with the order of day and month in stamps of
    text, by which later rows are read that leave it open.
    """
    day_first = None
    if isinstance(times, pd.DatetimeIndex) and isinstance(cells.array[0], str):
        from tsattn.data.spelling import comes_day_first

        day_first = comes_day_first(cells, times)
    period = cells.dtype if isinstance(cells.dtype, pd.PeriodDtype) else None
    day_first = rules.day_first if day_first is None else day_first
    return replace(dialect, day_first=day_first, period=period)


def _rows_of_empty(table: Table) -> np.ndarray:
    """Which rows belong to series that have no value at all, bool [rows]."""
    has_number = ~np.isnan(table.targets).all(axis=1)
    # Text that is no number is a value too, which is refused later.
    has_value = has_number | table.foreign.any(axis=1)
    if has_value.all():
        return np.zeros(len(has_value), dtype=bool)
    return ~pd.Series(has_value).groupby(table.codes).transform("any").to_numpy()


def _without_rows(table: Table, dropped: np.ndarray) -> tuple[Table, tuple[Skipped, ...]]:
    """A table without whole series, and what they were."""
    clock = pd.Series(ticks(table.times))[dropped]
    last_ticks = clock.groupby(table.codes[dropped]).max()
    pairs = zip(table.ids[last_ticks.index], last_ticks, strict=True)
    skipped = [Skipped(name, int(last), "has no value") for name, last in pairs]
    rows = np.flatnonzero(~dropped)
    return table.only(rows), tuple(skipped)


def _refuse_hidden_keys(df: pd.DataFrame, table: Table, covariates: Sequence[Hashable]) -> None:
    """Name the columns that would tell rows of the same series and stamp apart, if there are
    any.
    """
    clock = ticks(table.times)
    next_series = np.diff(table.codes)
    later = np.diff(clock) > 0
    # Rows in the order of series and times, as most tables have them, differ at little cost.
    if ((next_series > 0) | ((next_series == 0) & later)).all():
        return
    rows = pd.DataFrame({"series": table.codes, "time": clock})
    is_repeated = rows.duplicated()
    if not is_repeated.any():
        return
    from tsattn.data.keys import find_keys

    dialect = table.dialect
    roles = {dialect.id_col, *dialect.id_cols, dialect.time_col, dialect.target_col, *covariates}
    others = [column for column in df.columns if column not in roles]
    # One number for each pair of a series and a stamp.
    stamps = rows.groupby(["series", "time"]).ngroup()
    more_keys = find_keys(df, stamps, others)
    if not more_keys:
        return
    row = int(is_repeated.argmax())
    keys = [*dialect.id_cols, *more_keys]
    id_value = keys[0] if len(keys) == 1 else keys
    raise InputError(
        f"{table.series(table.codes[row])}: stamp {table.times[row]} occurs more than once, but a"
        f" stamp may occur once in a series; {keys!r} tell the rows apart: pass ",
        Argument("id_col", id_value),
    )


def from_wide(
    df: pd.DataFrame,
    schema: Schema | None = None,
    *,
    freq: Any = None,
    zone: tzinfo | None = None,
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
        freq, zone: As in :func:`from_long`.

    Returns:
        The panel: a series for each value column, aligned.

    Raises:
        TypeError: As :func:`from_long`.
        ValueError: As :func:`from_long`; if several columns could be the time column, one beside it
            holds times too, or there are static columns.
    """
    schema = schema or Schema()
    rules = _rules(schema, freq, zone)
    return _read_wide(check_frame(df), schema, rules)


def _read_wide(df: pd.DataFrame, schema: Schema, rules: Rules) -> Panel:
    _refuse_static_cols(schema)
    time_col = _wide_time_col(df, schema)
    lacks_steps = time_col is None and rules.freq is None
    if lacks_steps and isinstance(df.index, pd.RangeIndex):
        rules = replace(rules, freq=abs(df.index.step))
    series_cols = _series_cols(df, time_col, schema.columns.moving)
    keeps_empty = schema.bad == "error" or rules.later
    table, empty_names = _wide_table(
        df, time_col, series_cols, schema.columns.moving, rules, keeps_empty=keeps_empty
    )
    names = table.columns[: table.n_targets]
    panel = _unstacked(_panel(df, table, rules), names)
    if rules.gaps != "missing":
        _tell_own_hours(panel)
    from tsattn.data.copies import tell_copies

    tell_copies(panel, schema.columns.future)
    last_tick = int(ticks(table.times).max())
    skipped = tuple(Skipped(name, last_tick, "has no value") for name in empty_names)
    return replace(panel, skipped=skipped)


def _refuse_static_cols(schema: Schema) -> None:
    """Refuse columns with one value in a series, which a wide table cannot have."""
    if schema.columns.static:
        raise InputError(
            Name("static_cols"),
            " need a long table, with rows of several series; got"
            f" {list(schema.columns.static)!r} for a wide one; melt it, or leave them out",
        )


def _wide_table(
    df: pd.DataFrame,
    time_col: Any,
    series_cols: Sequence[Any],
    covariates: tuple[Hashable, ...],
    rules: Rules,
    *,
    keeps_empty: bool,
) -> tuple[Table, list[str | int]]:
    """The cells of a wide frame, and the names of series without a value that are left out.

    Args:
        df: The frame.
        time_col: Column of the stamps; None is the index.
        series_cols: Columns that are series.
        covariates: Columns of covariates.
        rules: What the table must follow.
        keeps_empty: Whether series without a value are read; they are if all are such.
    """
    all_names = tuple(map(_series_name, series_cols))
    columns = [*series_cols, *covariates]
    values, foreign = _read_columns(df, columns, n_targets=len(all_names))
    has_cell = (~np.isnan(values) | foreign).any(axis=0)
    has_value = has_cell[: len(all_names)]
    is_kept = np.ones(len(columns), dtype=bool)
    if not keeps_empty and has_value.any():
        is_kept[: len(all_names)] = has_value
    values = values[:, is_kept]
    foreign = foreign[:, is_kept]
    names = tuple(itertools.compress(all_names, is_kept))
    n_series = len(names)
    time_cells, times = _wide_stamps(df, time_col, series_cols, rules)
    index_name = df.index.name if time_col is None else None
    read_cols = {time_col, *columns}
    left_out = tuple(str(column) for column in df.columns if column not in read_cols)
    dialect = Dialect(
        "wide", None, time_col, None, index_name, columns=all_names, left_out=left_out
    )
    table = Table(
        codes=np.zeros(len(df), dtype=np.int64),
        ids=np.array(["series"], dtype=object),
        times=times,
        values=values,
        foreign=foreign,
        cells=[df[column] for column in itertools.compress(columns, is_kept)],
        columns=(*names, *covariates),
        dialect=_with_spelling(dialect, time_cells, times, rules),
        time_cells=time_cells,
        n_targets=n_series,
        categories=read_categories(df, covariates, values[:, n_series:], foreign[:, n_series:]),
    )
    return table, [name for name in all_names if name not in names]


def _wide_stamps(
    df: pd.DataFrame, time_col: Any, series_cols: Sequence[Any], rules: Rules
) -> tuple[pd.Series | pd.Index, pd.Index]:
    """The stamps of a wide frame as they came, and as they are read; arguments as of
    :func:`_wide_table`.
    """
    time_cells = df.index if time_col is None else df[time_col]
    place = "the index" if time_col is None else f"column {time_col!r}"
    times = read_stamps(
        time_cells, place, lambda row: "the table", rules.unit, day_first=rules.day_first
    )
    from tsattn.data.part_columns import tell_part_cols

    tell_part_cols(df, time_col, series_cols, times)
    return time_cells, times


def _tell_own_hours(panel: Panel) -> None:
    """Warn of series of a wide table that have no values on days or hours of the week on which
    others have some, and are forecast there too.
    """
    observed = ~np.isnan(panel.values[:, 0])
    if observed.all() or not isinstance(panel.times, pd.DatetimeIndex):
        return
    from tsattn.data.opening import own_hours

    n_observed = np.add.reduceat(observed, panel.starts[:-1], dtype=np.int64)
    if not n_observed.all():
        return
    starts = starts_of(n_observed)
    times = panel.times[observed]
    grid = parse_freq(panel.freq)
    aliases = own_hours(times, starts, grid)
    others = [n for n, alias in enumerate(aliases) if alias != panel.freq]
    if not others or len(others) == len(aliases):
        return
    n = others[0]
    time_col = panel.dialect.time_col
    columns = [panel.ids[n]]
    if time_col is not None:
        columns.insert(0, time_col)
    warn(
        InputWarning(
            f"{panel.series_label(n)}{more(len(others))} has values on {aliases[n]!r} only, but the"
            f" table has the frequency {panel.freq!r}, and so has the forecast; forecast such"
            " series apart",
            InPython(f", as by tsattn.forecast(df[{columns!r}].dropna(), horizon)"),
        )
    )


def _wide_time_col(df: pd.DataFrame, schema: Schema) -> Any:
    """The column of stamps of a wide frame, which must be there; None is the index."""
    covariates = schema.columns.moving
    is_default = schema.time_col in ("ds", df.index.name)
    is_named = schema.time_col in df.columns or not is_default
    time_col: Any = schema.time_col if is_named else find_time_col(df, covariates)
    if time_col is not None:
        require_columns(df, {"time_col": time_col})
    return time_col


def _series_cols(df: pd.DataFrame, time_col: Any, covariates: Sequence[Hashable]) -> list[Any]:
    """The columns of a wide frame that are series.

    Raises:
        ValueError: If there are none, two have one name, or the frame lies on its side.
    """
    check_covariate_cols(df, {"time_col": time_col}, covariates)
    other_roles = {*covariates}
    if time_col is not None:
        other_roles.add(time_col)
    columns = [column for column in df.columns if column not in other_roles]
    has_times = has_time_index(df) or time_col is not None
    columns = value_cols(df, columns, has_times=has_times)
    columns = _without_key(df, columns)
    # Months or weeks may be the rows of columns that are years.
    has_parts = part_of(time_col) not in ("", "year")
    if has_parts or not has_times:
        refuse_sideways(df, columns)
    names = [str(column) for column in columns]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"a wide frame needs at least one value column, each with its own name; got {names!r}"
        )
    return columns


def _without_key(df: pd.DataFrame, columns: list[Any]) -> list[Any]:
    """The columns without those that name the one series of the table, such as the number of a
    shop.

    There are none if a column of such a name varies, or is 0 as in a series that has ended.
    """
    if len(df) < _LEAST_KEY_ROWS or not 1 < len(columns) <= _MOST_MEASURES:
        return columns
    from tsattn.data.keys import unlike_ids

    values = [column for column in columns if unlike_ids(column)]
    keys = [column for column in columns if column not in values]
    if not keys or not values:
        return columns
    for column in keys:
        numbers = whole_numbers(df[column])
        if numbers is None or numbers[0] == 0 or (numbers != numbers[0]).any():
            return columns
    key = keys[0]
    call = f"Schema(id_col={key!r}, target_col={values[0]!r})"
    warn(
        InputWarning(
            f"column {key!r} is {df[key].iloc[0]} in every row and is left out; name it by ",
            Argument("id_col"),
            InPython(f", such as {call}"),
            ", if it names the series",
        )
    )
    return values


def _series_name(column: Hashable) -> str | int:
    """Name of the series in a column: whole numbers and texts stay, others become text, which files
    can hold.
    """
    name = plain(column)
    return name if type(name) is int else str(column)


def with_fields(
    data: TableLike | Panel, schema: Schema, fields: Mapping[str, Any]
) -> tuple[TableLike | Panel, Schema]:
    """A table, which must have the columns that are named, and its schema with other fields.

    Args:
        data: The table.
        schema: How it is read.
        fields: Fields of the schema by name, such as ``id_col`` or ``freq``; ``None`` is left out.

    Raises:
        ValueError: If a name is no field, a column is missing, or the table is a panel, which has
            been read.
    """
    fields = {name: value for name, value in fields.items() if value is not None}
    if not fields:
        return data, schema
    schema = schema.changed(**fields)
    if isinstance(data, Panel):
        first_name = next(iter(fields))
        raise InputError(
            "a Panel is a table that has been read; give ",
            Name(first_name),
            " to to_panel, or leave it out",
        )
    frame = as_frame(data)
    require_named(frame, fields)
    return frame, schema


def to_panel(
    data: TableLike | Panel,
    schema: Schema | None = None,
    *,
    freq: Any = None,
    like: Dialect | None = None,
    zone: tzinfo | None = None,
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
        like: How the table of a fit looked: the columns that were found there count where the frame
            has them, and its order of day and month where both are possible.
        zone: As in :func:`from_long`.

    Returns:
        The panel.

    Raises:
        TypeError: If ``data`` is of another kind.
        ValueError: As :func:`from_long` and :func:`from_wide`; or if a panel lacks a covariate.
    """
    schema = schema or Schema()
    if isinstance(data, Panel):
        data.require(schema.columns)
        return data
    day_first = None if like is None else like.day_first
    with calls_for_index(data, schema):
        frame, schema, is_long = name_columns(data, schema, like)
        rules = replace(_rules(schema, freq, zone), day_first=day_first)
        read = _read_long if is_long else _read_wide
        return read(frame, schema, rules)


def to_target_panel(data: TableLike | Panel, schema: Schema) -> Panel:
    """As :func:`to_panel`, for a reader of the target alone: missing values may be left out, and
    missing covariates stay missing.
    """
    if isinstance(data, Panel):
        return to_panel(data, schema)
    with calls_for_index(data, schema):
        frame, schema, is_long = name_columns(data, schema)
        rules = replace(_rules(schema, None), fills_covariates=False)
        read = _read_long if is_long else _read_wide
        return read(frame, schema, rules)


@contextmanager
def calls_for_index(data: Any, schema: Schema) -> Iterator[None]:
    """Let the calls in messages begin with ``reset_index`` where the levels of an index are read as
    columns.
    """
    if isinstance(data, pd.DataFrame) and _has_ids_in_index(data, schema):
        with changed_pieces(_after_reset):
            yield
    else:
        yield


def _has_ids_in_index(frame: pd.DataFrame, schema: Schema) -> bool:
    """Whether the index of a frame holds ids, so that it is read as columns."""
    id_names = {schema.id_col, "item_id"} - {None, *frame.columns}
    return frame.index.nlevels > 1 or frame.index.name in id_names


def _after_reset(piece: Piece) -> Piece:
    """A call of pandas on the columns of ``df`` as one that makes columns of the index first."""
    if not isinstance(piece, InPython) or "reset_index" in piece.advice:
        return piece
    call = re.sub(r"\bdf(\[[^]]+\])? = ", r"df = df.reset_index(); \g<0>", piece.advice, count=1)
    if call == piece.advice:
        call = re.sub(r"\bdf\b", "df.reset_index()", call)
    return InPython(call)


def read_later_rows(frame: pd.DataFrame, schema: Schema, is_long: bool, known: KnownRows) -> Panel:
    """A table of rows that follow known ones: their first values may be missing, and stay so,
    unless missing values are refused.

    Args:
        frame, schema, is_long: As :func:`name_columns` gives them.
        known: The series that it continues, whose frequency, time zone and order of day and month
            count.
    """
    last = known.panel
    day_first = last.dialect.day_first
    rules = _rules(schema, last.freq, last.zone)
    rules = replace(rules, known=known, day_first=day_first)
    read = _read_long if is_long else _read_wide
    return read(frame, schema, rules)


def lacks_stamps(frame: pd.DataFrame, schema: Schema) -> bool:
    """Whether a wide table has neither a column of times nor an index, but for numbers from 0 on.

    Args:
        frame, schema: As :func:`name_columns` gives them.
    """
    index = frame.index
    if not isinstance(index, pd.RangeIndex) or index.name is not None:
        return False
    counts_rows = index.start == 0 and index.step == 1
    return counts_rows and _wide_time_col(frame, schema) is None


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
    frame = check_frame(data)
    if like is not None and like.left_out:
        # Few rows do not show what such a column is.
        is_read = [str(column) not in like.left_out for column in frame.columns]
        frame = frame.loc[:, is_read]
    refuse_nested_years(frame)
    refuse_units(frame)
    if frame.index.nlevels > 1:
        frame, schema = _levelled(frame, schema)
    elif _has_ids_in_index(frame, schema):
        frame = frame.reset_index()
    other_roles = {*schema.id_cols, *schema.columns.in_table}
    refuse_clock(frame, other_roles)
    from tsattn.data.part_columns import refuse_part_cols

    refuse_part_cols(frame, other_roles)
    if like is not None:
        schema = _named_alike(frame, schema, like)
    names = long_names(frame, schema.id_col, schema.time_col, schema.target_col)
    # None may be the name of a column.
    has_column = [name is not None and name in frame.columns for name in names]
    has_ids, has_times, has_targets = has_column
    is_named = schema.id_col not in (None, "unique_id") or schema.target_col != "y"
    long = has_ids or (has_times and has_targets) or is_named
    new_schema = None
    lacks_target = not has_targets and schema.target_col == "y"
    has_numbers = any(map(is_numeric_dtype, frame.dtypes))
    if lacks_target and not has_ids and not no_values and not has_numbers:
        from tsattn.data.events import refuse_events

        refuse_events(frame, other_roles)
    if lacks_target and isinstance(schema.id_col, tuple):
        schema = _with_target(frame, schema)
    elif lacks_target:
        id_name = names[0] if has_ids else None
        new_schema = _of_three_columns(frame, schema, id_name)
    if new_schema is None and not has_ids and schema.id_col == "unique_id":
        new_schema = _with_keys(frame, schema, no_values)
    if new_schema is not None:
        long = True
        schema = new_schema
    # Few rows do not show which column of numbers holds the times of a wide table.
    time_col = None if like is None else like.time_col
    if not long and time_col is not None and time_col in frame.columns:
        schema = schema.changed(time_col=time_col)
    return frame, schema, long


def _named_alike(frame: pd.DataFrame, schema: Schema, like: Dialect) -> Schema:
    """The schema with the names of the columns of an earlier long table, if the frame has them."""
    if like.kind != "long":
        return schema
    names = {*like.id_cols, like.time_col, like.target_col}
    if not names <= {*frame.columns}:
        return schema
    return schema.changed(id_col=like.id_names, time_col=like.time_col, target_col=like.target_col)


def _found_time_col(
    frame: pd.DataFrame, schema: Schema, taken: Sequence[Any], codes: np.ndarray | None = None
) -> Any:
    """The time column that is named, if its stamps are in the table or its index, or the one that
    is found; arguments as of :func:`tsattn.data.columns.find_time_col`.
    """
    if schema.time_col in frame.columns or has_time_index(frame):
        return schema.time_col
    return find_time_col(frame, taken, codes)


def _with_target(frame: pd.DataFrame, schema: Schema) -> Schema:
    """The schema of several keys with the only column of numbers as target."""
    from tsattn.data.keys import value_col

    keys = schema.id_cols
    require_columns(frame, {"id_col": keys})
    other_roles = {*schema.columns.in_table, *keys}
    time_col = _found_time_col(frame, schema, [*other_roles])
    other_roles.add(time_col)
    columns = [column for column in frame.columns if column not in other_roles]
    columns = [column for column in columns if not numbers_rows(frame[column])]
    target_col = "target" if "target" in columns else value_col(frame, keys, columns)
    return schema.changed(target_col=target_col)


def _with_keys(
    frame: pd.DataFrame, schema: Schema, no_values: Collection[Hashable]
) -> Schema | None:
    """The schema with the columns that tell rows of one stamp apart, or of series below one another
    whose stamps differ, which a warning names; None if there are no such rows or columns.
    """
    covariate_cols = schema.columns.in_table
    columns = [column for column in frame.columns if column not in covariate_cols]
    time_col = _found_time_col(frame, schema, [*covariate_cols, schema.target_col])
    from tsattn.data.part_columns import counts_steps, step_col

    counts = time_col is None and not has_time_index(frame)
    if counts:
        # Years or steps that each series repeats do not rise, as stamps of one series do.
        time_col = step_col(columns)
    if time_col is None:
        return None
    times = frame[time_col] if time_col in columns else frame.index
    target_col = schema.target_col
    others = [column for column in columns if column not in (time_col, target_col)]
    from tsattn.data.keys import find_blocks, find_keys, value_col

    if times.duplicated().any():
        keys = find_keys(frame, times, others)
    else:
        keys = find_blocks(frame, others, lambda: ticks(read_stamps(times, "", str)))
    if not keys:
        return None
    refuse_parts(frame, time_col, keys)
    if counts:
        codes = frame.groupby([*keys]).ngroup().to_numpy()
        if any(map(part_of, keys)) or not counts_steps(frame[time_col], codes):
            return None
    if target_col == "y" and "y" not in columns:
        target_col = "target"
        if "target" not in columns:
            candidates = [
                column
                for column in others
                if column not in no_values and not numbers_rows(frame[column])
            ]
            target_col = value_col(frame, keys, candidates)
    key_names = " and ".join(map(repr, keys))
    warn(
        InputWarning(
            f"the values of {key_names} tell series apart, and {target_col!r} is forecast; name"
            " other columns by ",
            Name("id_col"),
            " and ",
            Name("target_col"),
        )
    )
    return schema.changed(id_col=keys, time_col=time_col, target_col=target_col)


def _of_three_columns(frame: pd.DataFrame, schema: Schema, id_name: Any) -> Schema | None:
    """The schema of a long table of ids, times and numbers under other names, None if it is none.

    Args:
        frame: The table; its times may stand in the index.
        schema: What is known of its columns.
        id_name: The column of ids; ``None`` looks for text that parts rows of one time.
    """
    covariate_cols = schema.columns.in_table
    columns = [column for column in frame.columns if column not in covariate_cols]
    n_columns = 2 if has_time_index(frame) else 3
    if len(columns) != n_columns:
        return None
    id_cols = [id_name]
    if id_name is None:
        # Names of series are text.
        text_kinds = ("string", "categorical")
        id_cols = [column for column in columns if infer_dtype(frame[column]) in text_kinds]
    for id_col in id_cols:
        codes = pd.factorize(frame[id_col])[0]
        time_col = _found_time_col(frame, schema, [*covariate_cols, id_col], codes)
        times = frame[time_col] if time_col in columns else frame.index
        others = [column for column in columns if column not in (id_col, time_col)]
        parts_rows = id_name is not None or times.duplicated().any() or not codes.any()
        if not parts_rows or len(others) != 1:
            continue
        target_col = others[0]
        if is_numeric_dtype(frame[target_col]):
            if id_name is None:
                refuse_parts(frame, time_col, [id_col])
            return schema.changed(id_col=id_col, time_col=time_col, target_col=target_col)
    return None


def _levelled(frame: pd.DataFrame, schema: Schema) -> tuple[pd.DataFrame, Schema]:
    """A long frame of one with ids and times in its index, and how it is read; its one value column
    needs no name.
    """
    target_col = schema.target_col
    columns = [column for column in frame.columns if column not in schema.columns.in_table]
    has_target = "target" in columns
    is_unnamed = target_col == "y" and "y" not in columns
    if is_unnamed and (has_target or len(columns) == 1):
        target_col = "target" if has_target else columns[0]
    has_default_ids = schema.id_col == "unique_id"
    frame, id_cols, time_col = with_levels(frame, schema.id_col, schema.time_col)
    if has_default_ids:
        refuse_parts(frame, time_col, id_cols, in_index=True)
    return frame, schema.changed(id_col=id_cols, time_col=time_col, target_col=target_col)


def _rules(schema: Schema, freq: Any, zone: tzinfo | None = None) -> Rules:
    """What stamps must follow and what is done about absent values: the schema decides, then a
    fit.
    """
    fitted = schema.freq is None and freq is not None
    return Rules(
        freq=freq if schema.freq is None else schema.freq,
        missing=schema.missing or "mask",
        gaps=schema.gaps,
        fitted=fitted,
        tells=schema.missing is None,
        zone=zone,
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
    names = np.repeat(panel.ids, panel.lengths)
    values = panel.values[:, 0]
    covariates = _restored_covariates(panel)
    if dialect.kind == "wide":
        times = dialect.restore_times(panel.times)
        return pd.DataFrame({"unique_id": names, "ds": times, "y": values, **covariates})
    return dialect.answer(names, panel.times, {dialect.target_col: values, **covariates})


def covariate_series(panel: Panel) -> dict[Any, pd.Series]:
    """Covariates as columns of a frame by their names, static ones repeated row by row."""
    covariates = panel.covariates
    if covariates is None:
        return {}
    owners = owners_of(panel.starts)
    columns = {name: covariates.cells(name) for name in covariates.columns}
    for name, static_values in zip(covariates.statics, covariates.static.T, strict=True):
        of_series = pd.Series(static_values).infer_objects()
        columns[name] = of_series.take(owners).reset_index(drop=True)
    return columns


def _truth_cols(df: pd.DataFrame, columns: Sequence[Hashable]) -> tuple[Hashable, ...]:
    """The columns that hold booleans."""
    return tuple(name for name in columns if infer_dtype(df[name], skipna=True) == "boolean")


def _restored_covariates(panel: Panel) -> dict[Any, pd.Series]:
    """As :func:`covariate_series`, with booleans where the table had them."""
    columns = covariate_series(panel)
    truths = () if panel.covariates is None else panel.covariates.truths
    boolean_cols = columns.keys() & {*truths}
    for name in boolean_cols:
        numbers = columns[name]
        columns[name] = numbers.map({0.0: False, 1.0: True})
    return columns


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
    row_ids = np.repeat(panel.ids, panel.lengths)
    times = dialect.restore_times(panel.times)
    cells = pd.Series(panel.values[:, 0], index=[times, row_ids])
    frame = cells.unstack().rename_axis(index=dialect.time_col)
    if dialect.kind == "long":
        return frame.reindex(columns=panel.ids)
    frame = frame.reindex(columns=list(dialect.columns))
    # The covariates are the same for all series, so those of the first one will do.
    covariates = _restored_covariates(panel.some(0, 1))
    for name, covariate in covariates.items():
        frame[name] = covariate.to_numpy()
    if dialect.time_col is not None:
        return frame.reset_index()
    frame.index.name = dialect.index_name
    return frame


def _read_columns(
    df: pd.DataFrame, columns: Sequence[Any], n_targets: int
) -> tuple[np.ndarray, np.ndarray]:
    """Columns of numbers side by side, and where a cell is no number.

    Text that spells numbers counts as numbers in the targets, which come first. Of covariates it
    is categories.
    """
    shape = (len(df), len(columns))
    values = np.empty(shape)
    foreign = np.empty(shape, dtype=bool)
    for c, column in enumerate(columns):
        is_target = c < n_targets
        values[:, c], foreign[:, c] = read_numbers(df[column], spelt=is_target)
    return values, foreign


def _panel(
    df: pd.DataFrame, table: Table, rules: Rules, statics: tuple[Hashable, ...] = ()
) -> Panel:
    """The panel of a table whose stamps and values are made regular by the rules.

    Args:
        df: The frame, row by row with the table.
        table: The table.
        rules: What it must follow.
        statics: Columns of the frame with one value in a series.
    """
    static = np.empty((len(table.ids), 0), dtype=object)
    if statics:
        static = read_static(df, statics, table.codes, table.series)
    names = table.columns[table.n_targets :]
    truths = _truth_cols(df, [*names, *statics])
    all_ids = pd.Index(table.ids)
    table, alias = regular(table, rules)
    # Rows on closed days may be all that a series has.
    static = static[all_ids.get_indexer(pd.Index(table.ids))]
    covariates = None
    if names or statics:
        moving = np.ascontiguousarray(table.covariates)
        covariates = Covariates(names, moving, statics, static, table.categories, truths)
    return Panel(
        values=np.ascontiguousarray(table.targets),
        starts=table.starts,
        ids=table.ids,
        times=table.times,
        freq=alias,
        dialect=table.dialect,
        missing=rules.missing,
        covariates=covariates,
    )


def _unstacked(group: Panel, columns: Sequence[str | int]) -> Panel:
    """The columns of a wide table, read side by side, as series below one another in the order of
    their names, whole numbers first.
    """
    names = np.array(columns, dtype=object)
    n_series = len(names)
    order = sorted(range(n_series), key=lambda n: (isinstance(names[n], str), names[n]))
    n_rows = len(group.values)
    covariates = group.covariates
    if covariates is not None:
        moving = np.tile(covariates.values, (n_series, 1))
        static = np.repeat(covariates.static, n_series, axis=0)
        covariates = replace(covariates, values=moving, static=static)
    # The series one after another, where the group has them side by side.
    values = np.ascontiguousarray(group.values[:, order].T)
    copies = [group.times] * (n_series - 1)
    times = group.times.append(copies)
    return replace(
        group,
        values=values.reshape(-1, 1),
        starts=n_rows * np.arange(n_series + 1),
        ids=names[order],
        times=times,
        covariates=covariates,
    )
