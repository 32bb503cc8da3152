"""Columns beside the target that a forecaster may read, and how they travel with the series."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from tsattn.data.calendar import more
from tsattn.data.columns import plain, read_numbers, require_columns


@dataclass(frozen=True)
class CovariateColumns:
    """What a forecaster reads beside its target, by name.

    Attributes:
        past: Columns known up to the cutoff.
        future: Columns known up to the cutoff and through the horizon: prices, promotions, weather
            forecasts.
        static: Columns with one value in a series.
        calendar: Entries as of :func:`tsattn.data.cycles.choose_cycles`, ``"auto"`` before it is
            known what fits.
        categories: For each moving column its categories, sorted, or None for one of numbers; empty
            before a fit.
    """

    past: tuple[Hashable, ...] = ()
    future: tuple[Hashable, ...] = ()
    static: tuple[Hashable, ...] = ()
    calendar: tuple[str, ...] | str = ()
    categories: tuple[tuple[str, ...] | None, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.past or self.future or self.static or self.calendar)

    @property
    def moving(self) -> tuple[Hashable, ...]:
        """Columns with a value in every row, past ones first."""
        return (*self.past, *self.future)

    def lacking_of(self, here: Covariates | None) -> list[Hashable]:
        """Those of these columns that a panel's covariates do not hold."""
        moving, static = (set(), set()) if here is None else (set(here.columns), set(here.statics))
        return [c for c in self.moving if c not in moving] + [
            c for c in self.static if c not in static
        ]

    @classmethod
    def checked(
        cls, past_cols: Any, future_cols: Any, static_cols: Any, calendar: Any
    ) -> CovariateColumns:
        """Columns as a user names them.

        Raises:
            ValueError: If one of them is no list of names, or a name occurs twice.
        """
        given = {"past_cols": past_cols, "future_cols": future_cols, "static_cols": static_cols}
        past, future, static = (_names(parameter, value) for parameter, value in given.items())
        seen: dict[Hashable, str] = {}
        for parameter, columns in zip(given, (past, future, static), strict=True):
            for column in columns:
                if column in seen:
                    hint = (
                        "; a future column is read in the context as well"
                        if seen[column] != parameter
                        else ""
                    )
                    raise ValueError(
                        f"column {column!r} is named in {seen[column]} and in {parameter}, but has"
                        f" one place; leave it in one of them{hint}"
                    )
                seen[column] = parameter
        cycles = calendar if calendar == "auto" else tuple(map(str, _names("calendar", calendar)))
        return cls(past, future, static, cycles)

    def join(self, other: CovariateColumns) -> CovariateColumns:
        """The columns of both, for a table that serves several forecasters; no calendar."""
        past, future, static = (
            tuple(dict.fromkeys((*getattr(self, name), *getattr(other, name))))
            for name in ("past", "future", "static")
        )
        return CovariateColumns(
            past, tuple(column for column in future if column not in past), static
        )


def _names(parameter: str, value: Any) -> tuple[Hashable, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        alone = f"; write [{value!r}]" if isinstance(value, str) else ""
        auto = " or 'auto'" if parameter == "calendar" else ""
        raise ValueError(f"{parameter} must be a list of names{auto}; got {value!r:.60}{alone}")
    return tuple(plain(name) for name in value)


@dataclass(frozen=True, eq=False)
class Covariates:
    """Columns beside the target, row for row with a panel's values and series for series with its
    ids.

    Which of them are known ahead is no matter of the table: each forecaster says what it reads, and
    how.

    Attributes:
        columns: Names of the K columns with a value in every row.
        values: float64 [rows, K], finite; of a category its place in ``categories``.
        statics: Names of the S columns with one value in a series.
        static: object [N, S]; a number as float, a category as text.
        categories: For each of the K columns its categories, sorted, or None for one of numbers;
            empty: all of numbers.
    """

    columns: tuple[Hashable, ...]
    values: np.ndarray
    statics: tuple[Hashable, ...]
    static: np.ndarray
    categories: tuple[tuple[str, ...] | None, ...] = ()

    def take(self, pick: slice | np.ndarray) -> Covariates:
        """Some rows of the same series."""
        return replace(self, values=self.values[pick])

    def copy(self) -> Covariates:
        """The same in arrays of its own."""
        return replace(self, values=self.values.copy(), static=self.static.copy())

    def only(self, columns: CovariateColumns) -> Covariates:
        """Nothing but ``columns``, in their order; all of them are here."""
        if (self.columns, self.statics) == (columns.moving, columns.static):
            return self
        kinds = tuple(map(self.kind, columns.moving)) if self.categories else ()
        moving = self.pick(columns.moving)
        static = self.pick_static(columns.static)
        return Covariates(columns.moving, moving, columns.static, static, kinds)

    def kind(self, name: Hashable) -> tuple[str, ...] | None:
        """Categories of a column, or None for one of numbers."""
        return self.categories[self.columns.index(name)] if self.categories else None

    def coded(self, columns: CovariateColumns) -> np.ndarray:
        """Moving columns as a fitted forecaster knows them: categories by their place among its
        own, -1 for a new one.

        Raises:
            ValueError: If a column of numbers holds text now.
        """
        values = self.pick(columns.moving)
        for k, (name, known) in enumerate(zip(columns.moving, columns.categories, strict=False)):
            own = self.kind(name)
            if known is None and own is not None:
                raise ValueError(
                    f"column {name!r} held numbers in training; got text such as {own[0]!r:.60};"
                    " give numbers, or fit again"
                )
            if known is not None and own != known:
                codes, found = pd.factorize(values[:, k])
                names = [
                    label(value) if own is None else own[int(value)] for value in found.tolist()
                ]
                values[:, k] = places_among(names, known)[codes]
        return values

    def pick(self, names: Sequence[Hashable]) -> np.ndarray:
        """Some columns, ``[rows, len(names)]``."""
        return self.values[:, [self.columns.index(name) for name in names]]

    def pick_static(self, names: Sequence[Hashable]) -> np.ndarray:
        """Some static columns, ``[N, len(names)]``."""
        return self.static[:, [self.statics.index(name) for name in names]]

    def words(self) -> list[Any]:
        """What tells these covariates from others beside the numbers of ``values``, for a
        fingerprint.
        """
        categories = (None, *map(repr, self.categories)) if self.categories else ()
        return [
            *self.columns,
            None,
            *self.statics,
            None,
            *self.static.ravel().tolist(),
            *categories,
        ]


def read_static(
    df: pd.DataFrame, columns: Sequence[Hashable], codes: np.ndarray, name: Callable[[int], str]
) -> np.ndarray:
    """The one value of each series in each column, object ``[N, S]``: a number as float, anything
    else as text.

    Args:
        df: The table.
        columns: Its static columns.
        codes: Series of each row, ``[rows]``.
        name: What to call series n in an error.

    Raises:
        ValueError: If a value is missing, not finite, of another kind than numbers and text, or
            changes.
    """
    _, first = np.unique(codes, return_index=True)
    static = np.empty((len(first), len(columns)), dtype=object)
    for s, column in enumerate(columns):
        cells = df[column]
        keys, gone = _static_keys(cells)
        if gone.any():
            row = int(np.flatnonzero(gone)[0])
            raise ValueError(
                f"{name(codes[row])}: static column {column!r} holds {plain(cells.iloc[row])!r:.60}"
                f" in row {row}{more(int(gone.sum()), len(np.unique(codes[gone])))}, but needs a"
                " finite number or a category in every row; fill it in"
            )
        moves = keys != keys[first[codes]]
        if moves.any():
            row = int(np.flatnonzero(moves)[0])
            values = [plain(cells.iloc[at]) for at in (first[codes[row]], row)]
            raise ValueError(
                f"{name(codes[row])}: static column {column!r} holds {values[0]!r:.60} and"
                f" {values[1]!r:.60}{more(int(moves.sum()), len(np.unique(codes[moves])))}, but"
                " must have one value in a series; correct it, or name it in past_cols or"
                " future_cols"
            )
        numeric = keys.dtype == np.float64
        static[:, s] = [
            float(v) if numeric else label(plain(v))
            for v in (keys if numeric else cells.array)[first]
        ]
    return static


def _static_keys(cells: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Numbers, or the number of each category, whichever the column holds; and which rows have
    neither.
    """
    kind = cells.dtype
    if not isinstance(kind, pd.CategoricalDtype):
        numbers, foreign = read_numbers(cells)
        if not foreign.any():
            return numbers, ~np.isfinite(numbers)
        if kind != np.dtype(object) and not pd.api.types.is_string_dtype(kind):
            raise ValueError(
                f"static column {cells.name!r} must hold numbers, text or categories; got {kind};"
                " convert it to text"
            )
    codes, _ = pd.factorize(cells)
    return codes, codes < 0


def read_categories(
    df: pd.DataFrame, columns: Sequence[Hashable], values: np.ndarray, foreign: np.ndarray
) -> tuple[tuple[str, ...] | None, ...]:
    """Give the cells of columns of text or categories their places among the sorted categories.

    Args:
        df: The table.
        columns: Its covariates with a value in every row.
        values: Their numbers ``[rows, K]``; columns of text are written in place.
        foreign: Where a cell is no number, likewise. A column of text and numbers is left as it is.

    Returns:
        For each column its categories, or None for one of numbers; empty where all are.
    """
    found: list[tuple[str, ...] | None] = [None] * len(columns)
    for k in np.flatnonzero(foreign.any(axis=0)).tolist():
        cells = df[columns[k]]
        if pd.api.types.infer_dtype(cells, skipna=True) in ("string", "categorical"):
            values[:, k], found[k] = category_codes(cells)
            foreign[:, k] = False
    return tuple(found) if any(found) else ()


def category_codes(
    cells: pd.Series, known: tuple[str, ...] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The place of each cell among the categories as float64, NaN where it is missing and -1 where
    it is none of them.

    Args:
        cells: Text, categories or numbers.
        known: The categories, sorted; ``None`` takes those of the cells.
    """
    codes, found = pd.factorize(cells)
    names = [label(plain(value)) for value in found]
    known = tuple(sorted(set(names))) if known is None else known
    return np.append(places_among(names, known), np.nan)[codes], known


def places_among(names: Sequence[str], known: tuple[str, ...]) -> np.ndarray:
    """The place of each name among categories as float64, -1 where it is none of them."""
    return pd.Index(known).get_indexer(pd.Index(names, dtype=object)).astype(np.float64)


def label(value: Any) -> str:
    """A category as text; whole numbers read alike whether they come as 1, 1.0 or "1"."""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value)


def check_covariate_cols(
    df: pd.DataFrame,
    taken: dict[str, Any],
    columns: Sequence[Hashable],
    statics: Sequence[Hashable] = (),
) -> None:
    """Refuse covariates that the table does not have, and those that are something else already.

    Args:
        df: The table.
        taken: Parameters and the columns that they name.
        columns, statics: Columns with a value in every row, and those with one value in a series.

    Raises:
        ValueError: Naming the column.
    """
    for column in columns:
        require_columns(df, {"past_cols= or future_cols": column})
    for column in statics:
        require_columns(df, {"static_cols": column})
    for parameter, other in taken.items():
        if other in (*columns, *statics):
            raise ValueError(
                f"column {other!r} is the {parameter} of the table and cannot be a covariate as"
                " well; leave it out"
            )
