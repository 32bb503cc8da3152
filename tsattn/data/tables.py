"""Rules that a table must keep, and refusals that name the series, stamp and value that
break them.
"""

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

# a table may grow this much by inserted rows: beyond that a stamp or the frequency is wrong
_MOST = 100


@dataclass(frozen=True)
class Table:
    """Columns of a frame as arrays, row for row, before anything but their types was checked.

    The C channels come first, the K covariates last.
    """

    codes: np.ndarray  # [rows] which series
    ids: np.ndarray  # [N]
    times: pd.Index  # [rows]
    values: np.ndarray  # float64 [rows, C + K]
    foreign: np.ndarray  # bool [rows, C + K], True where a cell is no number
    cells: list[pd.Series]  # C + K columns as they came
    columns: tuple[Any, ...]  # their names
    dialect: Dialect
    n_covariates: int = 0
    categories: tuple[
        tuple[str, ...] | None, ...
    ] = ()  # of the covariates, empty where all are numbers

    @property
    def targets(self) -> np.ndarray:
        """The values without the covariates, [rows, C]."""
        return (
            self.values[:, : len(self.columns) - self.n_covariates]
            if self.n_covariates
            else self.values
        )

    def series(self, n: int) -> str:
        """What to call series n in an error."""
        if self.dialect.id_col is not None:
            return f"series {plain(self.ids[n])!r}"
        return "the table" if self.dialect.kind == "wide" else "the series"

    def place(self, n: int, column: int) -> str:
        """What to call a value's series in an error."""
        wide = self.dialect.kind == "wide"
        return (
            f"column {self.columns[column]!r}"
            if wide
            else f"{self.series(n)}: column {self.columns[column]!r}"
        )

    def count(self, mask: np.ndarray) -> str:
        """How many values a mask [rows, columns] holds beyond the first, and of how many series or
        columns.
        """
        row, column = np.nonzero(mask)
        wide = self.dialect.kind == "wide"
        owners = len(np.unique(column if wide else self.codes[row]))
        return more(len(row), owners, "columns" if wide else "series")

    def sorted(self) -> Table:
        """Rows by series and time; equal stamps keep their order."""
        clock = ticks(self.times)
        codes = self.codes
        if (
            (codes[1:] > codes[:-1]) | ((codes[1:] == codes[:-1]) & (clock[1:] >= clock[:-1]))
        ).all():
            return self
        order = np.lexsort((clock, codes))
        return replace(
            self,
            codes=codes[order],
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
        The table by series and time, rows at which series start (int64 [N + 1]), and the
        frequency's alias.

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
    absent = (table.codes[1:] == table.codes[:-1]) & (position[1:] != position[:-1] + 1)
    if absent.any():
        gaps = np.where(absent, np.diff(position) - 1, 0)
        if missing == "error":
            _refuse_gap(table, starts, position, gaps, grid)
        table, starts = _insert_rows(table, starts, position, grid)
    _check_missing(table, starts, missing)
    return _carry_covariates(table, starts, missing), starts, grid.alias


def _refuse_gap(
    table: Table, starts: np.ndarray, position: np.ndarray, gaps: np.ndarray, grid: Grid
) -> NoReturn:
    """Name the first absent stamp; ``gaps`` are the rows absent after each row but the last."""
    row = int(np.flatnonzero(gaps)[0])
    clock = clock_of(table.times, grid)[starts[table.codes[[row]]]]
    absent = stamps_at(clock, position[[row]] + 1, grid, table.times)[0]
    others = more(int(gaps.sum()), len(np.unique(table.codes[1:][gaps > 0])))
    raise ValueError(
        f"{table.series(table.codes[row])}: gap: there is no row at {absent}{others}, but stamps"
        f" must follow frequency {grid.alias!r} without gaps; add the rows, pass another freq=, or"
        " have gaps filled by missing='interpolate' or 'ffill'"
    )


def _insert_rows(
    table: Table, starts: np.ndarray, position: np.ndarray, grid: Grid
) -> tuple[Table, np.ndarray]:
    """Put a row of NaN at every absent stamp; positions count the steps since each series began."""
    lengths = position[starts[1:] - 1] + 1
    if lengths.sum() > _MOST * len(position):
        n = int(np.argmax(lengths))
        first = table.times[starts[n]]
        last = table.times[starts[n + 1] - 1]
        raise ValueError(
            f"{table.series(n)}: {lengths[n]} rows would lie from {first} to {last} at frequency"
            f" {grid.alias!r}, but a table may grow {_MOST} times at most by inserted rows; correct"
            " the stamps or pass another freq="
        )
    begins = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    codes = np.repeat(np.arange(len(lengths)), lengths)
    values = np.full((begins[-1], len(table.columns)), np.nan)
    values[begins[table.codes] + position] = table.values
    clock = clock_of(table.times, grid)[starts[codes]]
    times = stamps_at(clock, np.arange(begins[-1]) - begins[codes], grid, table.times)
    return replace(table, codes=codes, values=values, times=times), begins


def _check_numbers(table: Table) -> None:
    convert = "convert it with pd.to_numeric or drop it"
    if table.dialect.kind == "wide":
        convert += (
            "; a time column is named by time_col=, the columns of a long table also by id_col= and"
            " target_col="
        )
    for mask, rule, remedy in (
        (table.foreign, "values must be numbers", convert),
        (
            np.isinf(table.values),
            "values must be finite",
            "correct it, or make it NaN and choose a policy by missing=",
        ),
    ):
        if mask.any():
            row, column = (int(i) for i in np.argwhere(mask)[0])
            cell = plain(table.cells[column].iloc[row])
            if isinstance(cell, str) and not any(
                map(str.isalpha, cell)
            ):  # 1,5 and $10.04, or - where nothing is known
                remedy = (
                    "write numbers as 10037.72, without separators or signs, and - as an empty"
                    f" cell, or {remedy}"
                )
            raise ValueError(
                f"{table.place(table.codes[row], column)} holds {cell!r:.60} at {table.times[row]}"
                f"{table.count(mask)}, but {rule}; {remedy}"
            )


def _check_duplicates(table: Table) -> None:
    clock = ticks(table.times)
    codes = table.codes
    same = (clock[1:] == clock[:-1]) & (codes[1:] == codes[:-1])
    if same.any():
        row = int(np.flatnonzero(same)[0])
        others = more(int(same.sum()), len(np.unique(table.codes[1:][same])))
        remedy = "drop the duplicates"
        if table.dialect.id_col is None:
            remedy += ", or name the id column by id_col= if the table holds several series"
        raise ValueError(
            f"{table.series(table.codes[row])}: duplicate stamp {table.times[row]}{others}, but a"
            f" stamp may occur once in a series; {remedy}"
        )


def _check_missing(table: Table, starts: np.ndarray, missing: str) -> None:
    gone = np.isnan(table.targets)
    if not gone.any():
        return
    row, channel = (int(i) for i in np.argwhere(gone)[0])
    if missing == "error":
        raise ValueError(
            f"{table.place(table.codes[row], channel)} is missing (NaN) at"
            f" {table.times[row]}{table.count(gone)}, but missing='error' allows no missing values;"
            " fill them in, or pass missing='interpolate' or 'ffill'"
        )
    leading = gone[starts[:-1]]
    if missing == "mask":
        leading = np.logical_and.reduceat(
            gone, starts[:-1], axis=0
        )  # only a series without any value
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
        rule = "needs some value" if missing == "mask" else "fills only from values known before"
        raise ValueError(
            f"{table.place(n, channel)} {what} {table.times[starts[n]]}{table.count(mask)}, but"
            f" missing={missing!r} {rule}; {remedy}"
        )


def _carry_covariates(table: Table, starts: np.ndarray, missing: str) -> Table:
    """Covariates that are missing take the last value before them, if a policy for missing values
    was chosen.
    """
    n_targets = len(table.columns) - table.n_covariates
    covariates = table.values[:, n_targets:]
    gone = np.isnan(covariates)
    if not gone.any():
        return table
    row, column = (int(i) for i in np.argwhere(gone)[0])
    where = (
        f"{table.place(table.codes[row], n_targets + column)} is missing (NaN) at"
        f" {table.times[row]}"
    )
    where += table.count(gone)
    if missing == "error":
        raise ValueError(
            f"{where}, but a covariate needs a value in every row; fill it in, or have the last"
            " value carried forward by missing='ffill', 'interpolate' or 'mask'"
        )
    known = np.where(gone, -1, np.arange(len(gone))[:, None])
    before = np.maximum.accumulate(known, axis=0)
    early = before < starts[table.codes][:, None]
    if early.any():
        row, column = (int(i) for i in np.argwhere(early)[0])
        raise ValueError(
            f"{table.place(table.codes[row], n_targets + column)} is missing (NaN) at"
            f" {table.times[row]}{table.count(early)}, but nothing stands before it that could be"
            " carried forward; fill it in, or drop the rows before its first value"
        )
    carried = np.take_along_axis(covariates, before, axis=0)
    return replace(table, values=np.concatenate([table.targets, carried], axis=1))
