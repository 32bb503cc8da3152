"""Does a table keep the rules, and if not, which series, stamp and value breaks them?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from tsattn.data.calendar import (
    Grid,
    check_kind,
    clock_of,
    infer_grid,
    more,
    parse_freq,
    place,
    stamps_at,
    ticks,
)
from tsattn.data.columns import Dialect, plain

_MOST = 100  # a table may grow this much by inserted rows: beyond that a stamp or the frequency is wrong


@dataclass(frozen=True)
class Table:
    """Columns of a frame as arrays, row for row, before anything but their types was checked."""

    codes: np.ndarray  # [rows] which series
    ids: np.ndarray  # [N]
    times: pd.Index  # [rows]
    values: np.ndarray  # float64 [rows, C]
    foreign: np.ndarray  # bool [rows, C], True where a cell is no number
    cells: list[pd.Series]  # C columns as they came
    channels: tuple[str, ...]
    dialect: Dialect

    def series(self, n: int) -> str:
        """What to call series n in an error."""
        if self.dialect.id_col is not None:
            return f"series {plain(self.ids[n])!r}"
        return "the table" if self.dialect.kind == "wide" else "the series"

    def place(self, n: int, channel: int) -> str:
        """What to call a value's series in an error."""
        wide = self.dialect.kind == "wide"
        return f"column {self.channels[channel]!r}" if wide else f"{self.series(n)}: column {self.channels[0]!r}"

    def count(self, mask: np.ndarray) -> str:
        """How many values a mask [rows, C] holds beyond the first, and of how many series or columns."""
        row, channel = np.nonzero(mask)
        wide = self.dialect.kind == "wide"
        owners = len(np.unique(channel if wide else self.codes[row]))
        return more(len(row), owners, "columns" if wide else "series")

    def sorted(self) -> Table:
        """Rows by series and time; equal stamps keep their order."""
        clock, step = ticks(self.times), np.diff(self.codes)
        if ((step > 0) | ((step == 0) & (np.diff(clock) >= 0))).all():
            return self
        order = np.lexsort((clock, self.codes))
        return replace(
            self,
            codes=self.codes[order],
            times=self.times[order],
            values=self.values[order],
            foreign=self.foreign[order],
            cells=[cell.iloc[order] for cell in self.cells],
        )


def regular(table: Table, freq: Any, missing: str) -> tuple[Table, np.ndarray, str | int]:
    """Sort the rows, check everything, insert absent rows when a policy asks for it.

    Args:
        table: Rows in any order.
        freq: Frequency for :func:`tsattn.data.calendar.parse_freq`, or None to infer it.
        missing: Policy for missing values and absent rows.

    Returns:
        The table by series and time, rows at which series start (int64 [N + 1]), and the frequency's alias.

    Raises:
        ValueError: At the first rule that is broken.
    """
    table = table.sorted()
    starts = np.concatenate([[0], np.cumsum(np.bincount(table.codes))]).astype(np.int64)
    _check_numbers(table)
    _check_duplicates(table)
    grid = infer_grid(table.times, starts, table.series) if freq is None else parse_freq(freq)
    check_kind(table.times, grid)
    position = place(table.times, starts, grid, inferred=freq is None, name=table.series)
    gaps = np.where(np.diff(table.codes) == 0, np.diff(position) - 1, 0)
    if gaps.any():
        if missing == "error":
            _refuse_gap(table, starts, position, gaps, grid)
        table, starts = _insert_rows(table, starts, position, grid)
    _check_missing(table, starts, missing)
    return table, starts, grid.alias


def _refuse_gap(table: Table, starts: np.ndarray, position: np.ndarray, gaps: np.ndarray, grid: Grid) -> NoReturn:
    """Name the first absent stamp; ``gaps`` are the rows absent after each row but the last."""
    row = int(np.flatnonzero(gaps)[0])
    clock = clock_of(table.times, grid)[starts[table.codes[[row]]]]
    absent = stamps_at(clock, position[[row]] + 1, grid, table.times)[0]
    others = more(int(gaps.sum()), len(np.unique(table.codes[1:][gaps > 0])))
    raise ValueError(
        f"{table.series(table.codes[row])}: gap: there is no row at {absent}{others}, but stamps must follow frequency "
        f"{grid.alias!r} without gaps; add the rows, pass another freq=, or have gaps filled by "
        "missing='interpolate' or 'ffill'"
    )


def _insert_rows(table: Table, starts: np.ndarray, position: np.ndarray, grid: Grid) -> tuple[Table, np.ndarray]:
    """Put a row of NaN at every absent stamp; positions count the steps since each series began."""
    lengths = position[starts[1:] - 1] + 1
    if lengths.sum() > _MOST * len(position):
        n = int(np.argmax(lengths))
        first, last = table.times[starts[n]], table.times[starts[n + 1] - 1]
        raise ValueError(
            f"{table.series(n)}: {lengths[n]} rows would lie from {first} to {last} at frequency {grid.alias!r}, "
            f"but a table may grow {_MOST} times at most by inserted rows; correct the stamps or "
            "pass another freq="
        )
    begins = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    codes = np.repeat(np.arange(len(lengths)), lengths)
    values = np.full((begins[-1], len(table.channels)), np.nan)
    values[begins[table.codes] + position] = table.values
    clock = clock_of(table.times, grid)[starts[codes]]
    times = stamps_at(clock, np.arange(begins[-1]) - begins[codes], grid, table.times)
    return replace(table, codes=codes, values=values, times=times), begins


def _check_numbers(table: Table) -> None:
    convert = "convert it with pd.to_numeric or drop it"
    if table.dialect.kind == "wide":
        convert += "; a time column is named by time_col=, the columns of a long table also by id_col= and target_col="
    for mask, rule, remedy in (
        (table.foreign, "values must be numbers", convert),
        (np.isinf(table.values), "values must be finite", "correct it, or make it NaN and choose a policy by missing="),
    ):
        if mask.any():
            row, channel = (int(i) for i in np.argwhere(mask)[0])
            cell = plain(table.cells[channel].iloc[row])
            raise ValueError(
                f"{table.place(table.codes[row], channel)} holds {cell!r:.60} at {table.times[row]}"
                f"{table.count(mask)}, but {rule}; {remedy}"
            )


def _check_duplicates(table: Table) -> None:
    same = (table.times[1:] == table.times[:-1]) & (np.diff(table.codes) == 0)
    if same.any():
        row = int(np.flatnonzero(same)[0])
        others = more(int(same.sum()), len(np.unique(table.codes[1:][same])))
        remedy = "drop the duplicates"
        if table.dialect.id_col is None:
            remedy += ", or name the id column by id_col= if the table holds several series"
        raise ValueError(
            f"{table.series(table.codes[row])}: duplicate stamp {table.times[row]}{others}, but a stamp may occur "
            f"once in a series; {remedy}"
        )


def _check_missing(table: Table, starts: np.ndarray, missing: str) -> None:
    gone = np.isnan(table.values)
    if not gone.any():
        return
    row, channel = (int(i) for i in np.argwhere(gone)[0])
    if missing == "error":
        raise ValueError(
            f"{table.place(table.codes[row], channel)} is missing (NaN) at {table.times[row]}{table.count(gone)}, but "
            "missing='error' allows no missing values; fill them in, or pass missing='interpolate' or 'ffill'"
        )
    leading = gone[starts[:-1]]
    if missing == "mask":
        leading = np.logical_and.reduceat(gone, starts[:-1], axis=0)  # only a series without any value
    if leading.any():
        n, channel = (int(i) for i in np.argwhere(leading)[0])
        empty = bool(gone[starts[n] : starts[n + 1], channel].all())
        mask = np.zeros_like(gone)
        mask[starts[:-1]] = leading
        what, remedy = (
            ("has no value at all from", "leave it out")
            if empty
            else ("is missing (NaN) at its first stamp", "drop the rows before its first value")
        )
        raise ValueError(
            f"{table.place(n, channel)} {what} {table.times[starts[n]]}{table.count(mask)}, but missing={missing!r} "
            f"{'needs some value' if missing == 'mask' else 'fills only from values known before'}; {remedy}"
        )
