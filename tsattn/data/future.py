"""Values of the future columns in the rows after the end of each series."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from tsattn.checks import Argument, InputError, InPython, Piece
from tsattn.data.calendar import future_times, more, parse_freq, ticks
from tsattn.data.columns import (
    TableLike,
    check_frame,
    find_time_col,
    plain,
    read_numbers,
    read_stamps,
    require_columns,
    with_levels,
)
from tsattn.data.covariates import CovariateColumns, category_codes
from tsattn.data.frames import Panel

# New categories of a column that a warning names.
_NAMED = 5
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
    dialect = panel.dialect
    times = future_times(_with_rows(panel).last_times(), panel.freq, steps)
    text = [
        name
        for name, known in zip(columns.moving, columns.categories, strict=False)
        if known is not None
    ]
    data: dict[Any, Any] = {}
    if dialect.id_col is not None:
        data[dialect.id_col] = dialect.restore_ids(np.repeat(panel.ids, steps))
    if dialect.time_col is not None:
        data[dialect.time_col] = times
    data |= {
        name: np.full(len(times), np.nan, object if name in text else float)
        for name in columns.future
    }
    index = None if dialect.time_col is not None else times.rename(dialect.index_name)
    return dialect.with_keys(pd.DataFrame(data, index=index))


def _with_rows(panel: Panel) -> Panel:
    """The series that have rows of their own in a table of the future: the first one of a wide
    table, whose columns share their rows.
    """
    return panel.some(0, 1) if panel.dialect.kind == "wide" else panel


def read_future(
    future: TableLike | None, panel: Panel, columns: CovariateColumns, steps: int, reach: int = 0
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

    Returns:
        float64 ``[N, F, K]``, F the larger of the two, without NaN in the first ``steps``; K = 0
        where nothing is read. A category is its place among those of the columns, -1 if it is none
        of them; one warning names all such.

    Raises:
        TypeError: If it is no frame, or its time column holds no stamps.
        ValueError: If nobody reads it, a column is absent, a value is no number, or a row is
            missing or comes twice.
    """
    if not columns.future:
        if future is not None:
            raise InputError(
                Argument("future"),
                " was given, but the model reads no future columns; leave it out, or fit with some",
            )
        return np.empty((panel.n_series, max(steps, reach), 0))
    n_series = panel.n_series
    panel = _with_rows(panel)
    values = _look_up(future, panel, columns, max(steps, reach))
    gone = np.isnan(values[:, :steps])
    if gone.any():
        n, step, column = (int(i) for i in np.argwhere(gone)[0])
        times = future_times(panel.last_times()[[n]], panel.freq, steps)
        who = "the table" if panel.dialect.id_col is None else panel.series_label(n)
        others = more(int(gone.sum()), int(gone.any(axis=(1, 2)).sum()))
        absent: list[Piece] = []
        if future is None:
            absent = [Argument("future"), " was not given: "]
        raise InputError(
            *absent,
            f"{who}: column {columns.future[column]!r} of ",
            Argument("future"),
            f" is missing at {times[step]}{others}, but a forecast needs the future columns at all"
            f" {steps} steps; fill it in",
            _FILL,
        )
    return np.repeat(values, n_series // panel.n_series, axis=0)


def _look_up(
    future: TableLike | None, panel: Panel, columns: CovariateColumns, steps: int
) -> np.ndarray:
    """Values ``[N, F, K]``, NaN where the frame has none."""
    values = np.full((panel.n_series * steps, len(columns.future)), np.nan)
    if future is None or (isinstance(future, pd.DataFrame) and not len(future)):
        return values.reshape(panel.n_series, steps, -1)
    frame = check_frame(future, "error")
    if frame.index.nlevels > 2:
        frame = frame.reset_index()
    elif frame.index.nlevels > 1:
        frame = with_levels(frame, panel.dialect.id_col, panel.dialect.time_col)[0]
    elif frame.index.name in {panel.dialect.id_col} - {None, *frame.columns}:
        frame = frame.reset_index()
    frame = panel.dialect.with_ids(frame)
    after = future_times(panel.last_times(), panel.freq, steps)
    times = _stamps(frame, panel, after)
    for column in columns.future:
        require_columns(frame, {"future_cols": column})
    series = np.zeros(len(frame), dtype=np.int64)
    if panel.dialect.id_col is not None:
        require_columns(frame, {"id_col": panel.dialect.id_col})
        series = pd.Index(panel.ids).get_indexer(pd.Index(np.asarray(frame[panel.dialect.id_col])))
    stamps, clock = np.unique(ticks(after), return_inverse=True)
    slots = np.repeat(np.arange(panel.n_series), steps) * len(stamps) + clock  # ascending
    place = pd.Index(stamps).get_indexer(pd.Index(ticks(times)))
    keys = np.where((series >= 0) & (place >= 0), series * len(stamps) + place, -1)
    slot = pd.Index(slots).get_indexer(pd.Index(keys))
    rows = np.flatnonzero(slot >= 0)
    _refuse_twice(slot[rows], rows, times, series, panel)
    new: dict[Hashable, list[Any]] = {}
    for k, column in enumerate(columns.future):
        known = dict(zip(columns.moving, columns.categories, strict=False)).get(column)
        if known is not None:
            codes = category_codes(frame[column], known)[0][rows]
            values[slot[rows], k] = codes
            if (codes < 0).any():
                new[column] = frame[column].iloc[rows[codes < 0]].unique().tolist()
            continue
        numbers, foreign = read_numbers(frame[column])
        bad = rows[(foreign | np.isinf(numbers))[rows]]
        if len(bad):
            raise InputError(
                f"column {column!r} of ",
                Argument("future"),
                f" holds {plain(frame[column].iloc[bad[0]])!r:.60} at"
                f" {times[bad[0]]}{more(len(bad))}, but values must be finite numbers; correct it",
            )
        values[slot[rows], k] = numbers[rows]
    if new:
        _tell_new(new)
    return values.reshape(panel.n_series, steps, -1)


def _tell_new(new: dict[Hashable, list[Any]]) -> None:
    """Warn once of the categories of some columns that the fit has not seen."""
    parts = []
    for column, categories in new.items():
        shown = ", ".join(f"{plain(category)!r:.60}" for category in categories[:_NAMED])
        others = f" and {len(categories) - _NAMED} more" if len(categories) > _NAMED else ""
        parts.append(f"{shown}{others} in column {column!r}")
    warnings.warn(
        f"future= holds categories that no training row has: {'; '.join(parts)}; each counts as"
        " none of those known",
        stacklevel=9,
    )


def _refuse_twice(
    slot: np.ndarray, rows: np.ndarray, times: pd.Index, series: np.ndarray, panel: Panel
) -> None:
    if len(again := rows[pd.Index(slot).duplicated()]):
        who = (
            ""
            if panel.dialect.id_col is None
            else f" of series {plain(panel.ids[series[again[0]]])!r}"
        )
        raise InputError(
            Argument("future"),
            f" has the row at {times[again[0]]}{who} twice{more(len(again))}, but each may"
            " occur once; drop the duplicates",
        )


def _stamps(future: pd.DataFrame, panel: Panel, after: pd.Index) -> pd.Index:
    """The stamps of a future frame, of the kind that the panel has; those ``after`` its series are
    what it is for.
    """
    time_col = panel.dialect.time_col
    unit = parse_freq(panel.freq).unit
    indexed = isinstance(future.index, pd.DatetimeIndex | pd.PeriodIndex)
    if time_col not in future.columns and (indexed or panel.dialect.kind == "wide"):
        time_col = find_time_col(future)
    if time_col is not None:
        require_columns(future, {"time_col": time_col})
    column = future.index if time_col is None else future[time_col]
    where = (
        "the index of the future table"
        if time_col is None
        else f"column {time_col!r} of the future table"
    )
    times = read_stamps(column, where, lambda row: "the future table", unit, after)
    zones = [getattr(each, "tz", None) is not None for each in (times, panel.times)]
    if (
        isinstance(times, pd.DatetimeIndex) != isinstance(panel.times, pd.DatetimeIndex)
        or zones[0] != zones[1]
    ):
        kinds = [
            (
                f"stamps {'in' if zoned else 'without'} a time zone"
                if isinstance(each, pd.DatetimeIndex)
                else "integers"
            )
            for each, zoned in zip((times, panel.times), zones, strict=True)
        ]
        raise ValueError(
            f"{where} holds {kinds[0]}, but the series have {kinds[1]}; give it the same kind"
        )
    return times
