"""Values of the future columns in the rows after the end of each series."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from tsattn.checks import Argument, InputError, InPython, Piece, listed, warn
from tsattn.data.calendar import future_times, kind_of_times, more, more_of, parse_freq, ticks
from tsattn.data.columns import (
    TableLike,
    check_frame,
    find_time_col,
    has_time_index,
    plain,
    read_numbers,
    read_stamps,
    with_levels,
)
from tsattn.data.covariates import Categories, CovariateColumns, category_codes, label
from tsattn.data.panel import Panel, as_word, keys_alike, names_alike, rows_ahead_call
from tsattn.data.parts import refuse_units

# New categories of a column that a warning names.
_MOST_NAMED = 5
# A number is far from those of the table if it lies so many of their ranges outside.
_FAR_RANGES = 2
_FLOAT32_ROUNDING = 1e-6
_FILL = InPython(", or begin with make_future_frame(), which gives the rows")


def future_frame(panel: Panel, columns: CovariateColumns, steps: int) -> pd.DataFrame:
    """The rows after the end of each series, with the future columns empty.

    Args:
        panel: The series.
        columns: What a forecaster reads.
        steps: Steps ahead F.

    Returns:
        In the dialect of the panel, by series and time: id, time and the future columns of NaN,
        ``N * F`` rows; F of a wide one.
    """
    last_times = _with_rows(panel).last_times()
    times = future_times(last_times, panel.freq, steps)
    categories = _categories_of(columns)
    empty_columns = {}
    for name in columns.future:
        dtype = float if categories.get(name) is None else object
        empty_columns[name] = np.full(len(times), np.nan, dtype)
    return panel.dialect.answer(np.repeat(panel.ids, steps), times, empty_columns)


def _categories_of(columns: CovariateColumns) -> dict[Hashable, Categories]:
    """Categories of each column, None for one of numbers; empty before a fit."""
    return dict(zip(columns.moving, columns.categories, strict=False))


def _with_rows(panel: Panel) -> Panel:
    """The series that have rows of their own in a table of the future: the first one of a wide
    table, whose columns share their rows.
    """
    if panel.dialect.kind == "wide":
        return panel.some(0, 1)
    return panel


def read_future(
    future: TableLike | None,
    panel: Panel,
    columns: CovariateColumns,
    steps: int,
    reach: int = 0,
    is_new: bool = False,
) -> np.ndarray:
    """Values of the future columns after the end of each series; rows may come in any order, others
    are not read.

    Args:
        future: Frame with the id and time columns of the panel and the future columns; for a wide
            panel without ids.
        panel, columns: As in :func:`future_frame`.
        steps: Steps ahead that need a value.
        reach: Steps ahead that may have one, if more: a forecaster may read them for the steps
            before.
        is_new: Whether the panel is not the one of the fit, so that no warning has yet named the
            categories that no training row has.

    Returns:
        float64 ``[N, F, K]``, F the larger of the two, without NaN in the first ``steps``; K = 0
        where nothing is read. A category is its place among those of the columns, -1 if it is none
        of them; one warning names all such, and those of a new panel.

    Raises:
        TypeError: If it is no frame, or its time column holds no stamps.
        ValueError: If nobody reads it, a column is absent, a value is no number, or a row is
            missing or comes twice.
    """
    new_in_table: dict[Hashable, list[str]] = {}
    if is_new:
        new_in_table = _new_in(panel, columns)
    n_series = panel.n_series
    n_steps = max(steps, reach)
    if not columns.future:
        if future is not None:
            raise InputError(
                Argument("future"),
                " was given, but the model reads no future columns; leave it out, or fit with some",
            )
        _warn_of_new(new_in_table, {})
        return np.empty((n_series, n_steps, 0))
    panel = _with_rows(panel)
    is_empty = isinstance(future, pd.DataFrame) and not len(future)
    frame = None if future is None or is_empty else _with_columns(future, panel)
    values, new_in_future = _look_up(frame, panel, columns, n_steps)
    _warn_of_new(new_in_table, new_in_future)
    is_missing = np.isnan(values[:, :steps])
    if is_missing.any():
        _refuse_missing(is_missing, frame, panel, columns, was_given=future is not None)
    # The series of a wide table share their rows.
    n_sharing = n_series // panel.n_series
    return np.repeat(values, n_sharing, axis=0)


def _refuse_missing(
    is_missing: np.ndarray,
    frame: pd.DataFrame | None,
    panel: Panel,
    columns: CovariateColumns,
    *,
    was_given: bool,
) -> None:
    """Refuse a table of the future without some values.

    Args:
        is_missing: Which are missing, ``[N, F, K]``.
        frame: The table; None where it has no rows or was not given.
        panel: The series.
        columns: What a forecaster reads.
        was_given: Whether there is a table.
    """
    n, step, column = np.argwhere(is_missing)[0].tolist()
    n_steps = is_missing.shape[1]
    times = future_times(panel.last_times()[[n]], panel.freq, n_steps)
    name = columns.future[column]
    owner = "the table"
    if panel.dialect.id_col is not None:
        owner = panel.series_label(n)
        _refuse_other_spelling(frame, panel, n)
    others = more_of(np.nonzero(is_missing)[0])
    absent: list[Piece] = []
    if not was_given:
        _refuse_rows_ahead(panel)
        absent = [Argument("future"), " was not given: "]
    raise InputError(
        *absent,
        f"{owner}: column {name!r} of ",
        Argument("future"),
        f" is missing at {times[step]}{others}, but a forecast needs the future columns at all"
        f" {n_steps} steps; fill it in",
        _FILL,
    )


def _refuse_rows_ahead(panel: Panel) -> None:
    """Say where rows belong that stand at the end of the table without a value, as other libraries
    want them.
    """
    values = panel.values[: panel.starts[1]]
    is_missing = np.isnan(values)
    is_empty = is_missing.reshape(len(values), -1).all(axis=1)
    if is_empty.all() or not is_empty[-1]:
        return
    n_ahead = int(is_empty[::-1].argmin())
    is_long = panel.dialect.target_col is not None
    call = [rows_ahead_call(panel)] if is_long else []
    label_of_first = panel.series_label(0)
    raise InputError(
        f"the last {n_ahead} rows of {label_of_first} have no value, and ",
        Argument("future"),
        " was not given; if these rows are to be forecast, take them out of the table and give"
        " them by ",
        Argument("future"),
        *call,
    )


def _look_up(
    frame: pd.DataFrame | None, panel: Panel, columns: CovariateColumns, steps: int
) -> tuple[np.ndarray, dict[Hashable, list[Any]]]:
    """Values ``[N, F, K]``, NaN where the frame has none, and the categories that the fit has not
    seen, by column.
    """
    n_rows = panel.n_series * steps
    values = np.full((n_rows, len(columns.future)), np.nan)
    new_categories: dict[Hashable, list[Any]] = {}
    if frame is None:
        return values.reshape(panel.n_series, steps, -1), new_categories
    rows, slots, times = _rows_ahead(frame, panel, columns, steps)
    categories = _categories_of(columns)
    far_numbers: list[str] = []
    for k, column in enumerate(columns.future):
        cells = frame[column]
        column_categories = categories.get(column)
        if column_categories is None:
            numbers = _numbers(cells, rows, times, panel)
            values[slots, k] = numbers
            far_numbers += _far_from(panel, column, numbers, times[rows])
            continue
        all_codes, _ = category_codes(cells, column_categories)
        codes = all_codes[rows]
        values[slots, k] = codes
        new_rows = rows[codes < 0]
        if len(new_rows):
            new_cells = cells.iloc[new_rows]
            new_categories[column] = new_cells.unique().tolist()
    if far_numbers:
        warn(
            f"future= holds {'; '.join(far_numbers)}, and a forecast so far outside is a guess;"
            " correct them, or see that both have one unit"
        )
    return values.reshape(panel.n_series, steps, -1), new_categories


def _rows_ahead(
    frame: pd.DataFrame, panel: Panel, columns: CovariateColumns, steps: int
) -> tuple[np.ndarray, np.ndarray, pd.Index]:
    """Find the rows of a table of the future that steps ahead read.

    Returns:
        Their numbers ``[R]``; their places among the ``N * F`` steps ahead of all series, ``[R]``;
        and the stamps of all rows of the table.
    """
    times_ahead = future_times(panel.last_times(), panel.freq, steps)
    times = _stamps(frame, panel, times_ahead)
    for column in columns.future:
        _require_column(frame, column, panel)
    id_col = panel.dialect.id_col
    series = np.zeros(len(frame), dtype=np.int64)
    if id_col is not None:
        _require_column(frame, id_col, panel)
        series = _series_of(frame[id_col], panel)
    series_ahead = np.repeat(np.arange(panel.n_series), steps)
    steps_ahead = pd.MultiIndex.from_arrays([series_ahead, ticks(times_ahead)])
    slot_of_row = steps_ahead.get_indexer(pd.MultiIndex.from_arrays([series, ticks(times)]))
    rows = np.flatnonzero(slot_of_row >= 0)
    if not len(rows):
        raise InputError(
            Argument("future"),
            f" has the stamps {times.min()} to {times.max()}, and {panel.series_label(0)} is"
            f" forecast at {times_ahead[0]} and later, at steps of {panel.freq!r}; give rows at"
            " these stamps",
            _FILL,
        )
    slots = slot_of_row[rows]
    _refuse_twice(slots, rows, times, series, panel)
    _refuse_other_statics(frame, rows, series, panel)
    return rows, slots, times


def rows_of_some(future: TableLike, panel: Panel, first: int, stop: int) -> TableLike:
    """The rows of a table of the future that belong to series ``first:stop`` of a panel; all where
    it names none.
    """
    frame = _with_columns(future, panel)
    id_col = panel.dialect.id_col
    if id_col is None or id_col not in frame:
        return future
    series = _series_of(frame[id_col], panel)
    return frame[(series >= first) & (series < stop)]


def _series_of(ids: pd.Series, panel: Panel) -> np.ndarray:
    """The series of each row, -1 for one that the panel does not have.

    Raises:
        ValueError: If no row belongs to a series of the panel.
    """
    codes, distinct = pd.factorize(ids)
    names = names_alike(panel.ids, np.asarray(distinct, dtype=object))
    places = pd.Index(panel.ids).get_indexer(pd.Index(names))
    # The code of a missing id is -1, which reads the last entry.
    places = np.append(places, -1)
    series = places[codes]
    if len(names) and not (series >= 0).any():
        future_id = plain(distinct[0])
        table_id = plain(panel.ids[0])
        raise InputError(
            Argument("future"),
            f" has ids such as {future_id!r:.60}, and the table has others, such as"
            f" {table_id!r:.60}; write them as the table does",
        )
    return series


def _refuse_other_spelling(frame: pd.DataFrame | None, panel: Panel, n: int) -> None:
    """Refuse a table of the future in which an id differs in spaces or capitals only from that of a
    series without a row.
    """
    if frame is None:
        return
    dialect = panel.dialect
    ids = frame[dialect.id_col].unique()
    name = plain(panel.ids[n])
    alike = {str(other): plain(other) for other in ids if as_word(other) == as_word(name)}
    known_texts = {*map(str, panel.ids)}
    others = [other for text, other in alike.items() if text not in known_texts]
    if str(name) in alike or not others:
        return
    call = ""
    if not dialect.key_cols:
        place = f"future[{dialect.id_col!r}]"
        call = f": {place} = {place}.replace({others!r}, {name!r})"
    raise InputError(
        Argument("future"),
        f" has no row of series {name!r}, but rows of {others[0]!r}, which differs in spaces or"
        " capitals only; write ids as the table does",
        InPython(call),
    )


def _require_column(frame: pd.DataFrame, column: Hashable, panel: Panel) -> None:
    """Refuse a table of the future without a column, which must have the same name as in the table
    of the past.
    """
    if column not in frame.columns:
        joined_keys = panel.dialect.id_col if panel.dialect.key_cols else None
        names = [plain(name) for name in frame.columns if name != joined_keys]
        raise InputError(
            f"column {column!r} is missing from ",
            Argument("future"),
            f", which has the columns {names!r:.200}; its columns need the names of those of the"
            " table: rename or add it",
        )


def _with_columns(future: TableLike, panel: Panel) -> pd.DataFrame:
    """The frame with its ids in a column, also where it has them in its index."""
    id_col = panel.dialect.id_col
    frame = check_frame(future)
    refuse_units(frame, "future")
    names_ids = id_col is not None and frame.index.name == id_col and id_col not in frame.columns
    if frame.index.nlevels > 1:
        frame, *_ = with_levels(frame, id_col, panel.dialect.time_col)
    elif names_ids:
        frame = frame.reset_index()
    for key in panel.dialect.key_cols:
        _require_column(frame, key, panel)
    if panel.dialect.key_cols:
        frame = keys_alike(frame, panel)
    return panel.dialect.with_ids(frame)


def _numbers(cells: pd.Series, rows: np.ndarray, times: pd.Index, panel: Panel) -> np.ndarray:
    """Numbers of a column in some rows, which it holds in the panel.

    Raises:
        ValueError: If one of them is infinite or no number.
    """
    numbers, is_foreign = read_numbers(cells, spelt=True)
    is_wrong = is_foreign | np.isinf(numbers)
    wrong_rows = rows[is_wrong[rows]]
    if len(wrong_rows):
        from tsattn.data.spelling import truth_call

        row = wrong_rows[0]
        # A column of the table, of which the future takes the kind.
        kind = "numbers"
        if panel.covariates is not None and cells.name in panel.covariates.truths:
            kind = "booleans"
        cell = plain(cells.iloc[row])
        others = more(len(wrong_rows))
        call = truth_call(cells, f"future[{cells.name!r}]")
        advice = "" if call is None else f": {call}"
        raise InputError(
            f"column {cells.name!r} of ",
            Argument("future"),
            f" holds {cell!r:.60} at {times[row]}{others}, but values must be finite numbers, and"
            f" the table has {kind} there; write such cells as the table does",
            InPython(advice),
        )
    return numbers[rows]


def _far_from(panel: Panel, column: Hashable, numbers: np.ndarray, times: pd.Index) -> list[str]:
    """Words for a warning about numbers far from those of the table; an empty list if there are
    none.
    """
    covariates = panel.covariates
    if covariates is None:
        return []
    place = covariates.columns.index(column)
    past = covariates.values[:, place]
    smallest = np.fmin.reduce(past)
    largest = np.fmax.reduce(past)
    reach = _FAR_RANGES * (largest - smallest)
    is_above = numbers > largest + reach
    is_below = numbers < smallest - reach
    is_far = is_above | is_below
    if not (reach > 0 and is_far.any()):
        return []
    row = int(is_far.argmax())
    others = more(int(is_far.sum()))
    return [
        f"{numbers[row]:g} in column {column!r} at {times[row]}{others}, where the table has"
        f" {smallest:g} to {largest:g}"
    ]


def tell_new_categories(panel: Panel, columns: CovariateColumns) -> None:
    """Warn once of categories in the rows of a panel that the fit of some columns has not seen."""
    _warn_of_new(_new_in(panel, columns), {})


def _new_in(panel: Panel, columns: CovariateColumns) -> dict[Hashable, list[str]]:
    """Categories of a panel that the fit has not seen, by column."""
    if panel.covariates is None:
        return {}
    return panel.covariates.new_categories(columns)


def _warn_of_new(
    in_table: Mapping[Hashable, list[str]],
    in_future: Mapping[Hashable, list[Any]],
) -> None:
    """Warn once of the categories of some columns that the fit has not seen, if there are any."""
    if not (in_table or in_future):
        return
    subject = "future= holds"
    if in_table:
        subject = "the table holds"
        if in_future:
            subject = "the table and future= hold"
    parts = []
    for column in dict.fromkeys([*in_table, *in_future]):
        words = [*in_table.get(column, []), *map(plain, in_future.get(column, []))]
        # Both may hold the same one.
        by_label = {label(word): word for word in words}
        categories = [f"{category!r:.60}" for category in by_label.values()]
        parts.append(f"{listed(categories, _MOST_NAMED)} in column {column!r}")
    text = "; ".join(parts)
    warn(
        f"{subject} categories that no training row has: {text}; each counts as none of those known"
    )


def _refuse_twice(
    slots: np.ndarray, rows: np.ndarray, times: pd.Index, series: np.ndarray, panel: Panel
) -> None:
    """Refuse a table of the future with two rows for one step of a series."""
    is_repeated = pd.Index(slots).duplicated()
    repeated_rows = rows[is_repeated]
    if not len(repeated_rows):
        return
    row = repeated_rows[0]
    owner = ""
    if panel.dialect.id_col is not None:
        series_id = panel.ids[series[row]]
        owner = f" of series {plain(series_id)!r}"
    others = more(len(repeated_rows))
    raise InputError(
        Argument("future"),
        f" has the row at {times[row]}{owner} twice{others}, but each may occur once; drop the"
        " duplicates",
    )


def _refuse_other_statics(
    frame: pd.DataFrame, rows: np.ndarray, series: np.ndarray, panel: Panel
) -> None:
    """Refuse a table of the future in which a series has another static value than in the table."""
    if panel.covariates is None:
        return
    owners = series[rows]
    for s, column in enumerate(panel.covariates.statics):
        if column not in frame.columns:
            continue
        cells = frame[column].iloc[rows]
        known_values = panel.covariates.static[owners, s]
        if isinstance(known_values[0], float):
            numbers = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)
            # Float32 rounds the same number.
            is_equal = np.isclose(numbers, known_values.astype(np.float64), rtol=_FLOAT32_ROUNDING)
        else:
            names = np.array([label(plain(cell)) for cell in cells], dtype=object)
            is_equal = names == known_values
        is_other = cells.notna().to_numpy() & ~is_equal
        if is_other.any():
            place = int(is_other.argmax())
            other_value = plain(cells.iloc[place])
            raise InputError(
                f"{panel.series_label(int(owners[place]))}: static column {column!r} holds"
                f" {known_values[place]!r:.60} in the table and {other_value!r:.60} in ",
                Argument("future"),
                more(int(is_other.sum())),
                ", but must have one value in a series; correct it, or leave the column out of the"
                " future",
            )


def _stamps(future: pd.DataFrame, panel: Panel, times_ahead: pd.Index) -> pd.Index:
    """Read the stamps of a table of the future as the kind that the panel has."""
    time_col = panel.dialect.time_col
    unit = parse_freq(panel.freq).unit
    may_search = has_time_index(future) or panel.dialect.kind == "wide"
    if time_col not in future.columns and may_search:
        time_col = find_time_col(future)
    column: pd.Index | pd.Series
    if time_col is None:
        column = future.index
        where = "the index of the future table"
    else:
        _require_column(future, time_col, panel)
        column = future[time_col]
        where = f"column {time_col!r} of the future table"
    times = read_stamps(column, where, lambda row: "the future table", unit, times_ahead)
    kind = kind_of_times(times)
    panel_kind = kind_of_times(panel.times)
    if kind != panel_kind:
        call: list[InPython] = []
        if isinstance(times, pd.DatetimeIndex) and isinstance(panel.times, pd.DatetimeIndex):
            zone = None if panel.zone is None else str(panel.zone)
            cells = "future.index" if time_col is None else f"future[{time_col!r}]"
            stamps = cells if column.dtype.kind == "M" else f"pd.to_datetime({cells})"
            accessor = "" if time_col is None else ".dt"
            call = [InPython(f": {cells} = {stamps}{accessor}.tz_localize({zone!r})")]
        raise InputError(
            f"{where} holds {kind}, but the series have {panel_kind}; give it the same kind", *call
        )
    return times
