"""Columns beside the target that a forecaster may read, and how they travel with the series."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype, is_object_dtype, is_string_dtype

from tsattn.checks import Argument, InputError, InputWarning, InPython, Name, warn
from tsattn.data.calendar import more_of
from tsattn.data.columns import plain, read_numbers, require_column

# Of a column, sorted; None for one of numbers.
Categories: TypeAlias = tuple[str, ...] | None


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
    categories: tuple[Categories, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.past or self.future or self.static or self.calendar)

    @property
    def moving(self) -> tuple[Hashable, ...]:
        """Columns with a value in every row, past ones first."""
        return (*self.past, *self.future)

    @property
    def in_table(self) -> tuple[Hashable, ...]:
        """Columns that the table must have: all but those of the calendar."""
        return (*self.moving, *self.static)

    def lacking_of(self, covariates: Covariates | None) -> list[Hashable]:
        """Those of these columns that a panel's covariates do not hold."""
        if covariates is None:
            return [*self.in_table]
        moving = [column for column in self.moving if column not in covariates.columns]
        static = [column for column in self.static if column not in covariates.statics]
        return moving + static

    @classmethod
    def checked(
        cls, past_cols: Any, future_cols: Any, static_cols: Any, calendar: Any
    ) -> CovariateColumns:
        """Columns as a user names them.

        Raises:
            ValueError: If one of them is no list of names, or a name occurs twice.
        """
        past = _names("past_cols", past_cols)
        future = _names("future_cols", future_cols)
        static = _names("static_cols", static_cols)
        _check_distinct({"past_cols": past, "future_cols": future, "static_cols": static})
        if calendar == "auto":
            return cls(past, future, static, calendar)
        names = _names("calendar", calendar)
        cycles = tuple(str(name) for name in names)
        return cls(past, future, static, cycles)

    def join(self, other: CovariateColumns) -> CovariateColumns:
        """The columns of both, for a table that serves several forecasters; no calendar."""
        # A dict keeps the order and drops what occurs twice.
        past = dict.fromkeys((*self.past, *other.past))
        future = dict.fromkeys((*self.future, *other.future))
        static = dict.fromkeys((*self.static, *other.static))
        future_only = [column for column in future if column not in past]
        return CovariateColumns(tuple(past), tuple(future_only), tuple(static))


def _check_distinct(columns_of: dict[str, tuple[Hashable, ...]]) -> None:
    """Refuse a column that is named twice, in one parameter or in two."""
    places: dict[Hashable, str] = {}
    for parameter, columns in columns_of.items():
        for column in columns:
            if column not in places:
                places[column] = parameter
                continue
            first = places[column]
            hint = ""
            if first != parameter:
                hint = "; a future column is read in the context as well"
            raise InputError(
                f"column {column!r} is named in ",
                Name(first),
                " and in ",
                Name(parameter),
                f", but has one place; leave it in one of them{hint}",
            )


def _names(parameter: str, value: Any) -> tuple[Hashable, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        hint = ""
        if isinstance(value, str):
            hint = f"; write [{value!r}]"
        auto = ""
        if parameter == "calendar":
            auto = " or 'auto'"
        raise ValueError(f"{parameter} must be a list of names{auto}; got {value!r:.60}{hint}")
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
        truths: Names of columns of the table that held booleans, which are numbers here.
    """

    columns: tuple[Hashable, ...]
    values: np.ndarray
    statics: tuple[Hashable, ...]
    static: np.ndarray
    categories: tuple[Categories, ...] = ()
    truths: tuple[Hashable, ...] = ()

    def take(self, rows: slice | np.ndarray, series: slice | np.ndarray) -> Covariates:
        """Some rows, which belong to some of the series."""
        return replace(self, values=self.values[rows], static=self.static[series])

    def copy(self) -> Covariates:
        """The same in arrays of its own."""
        return replace(self, values=self.values.copy(), static=self.static.copy())

    def only(self, columns: CovariateColumns) -> Covariates:
        """Nothing but ``columns``, in their order; all of them are here."""
        if self.columns == columns.moving and self.statics == columns.static:
            return self
        kinds: tuple[Categories, ...] = ()
        if self.categories:
            kinds = tuple(self.kind(name) for name in columns.moving)
        moving = self.pick(columns.moving)
        static = self.pick_static(columns.static)
        return Covariates(columns.moving, moving, columns.static, static, kinds, self.truths)

    def kind(self, name: Hashable) -> Categories:
        """Categories of a column, or None for one of numbers."""
        if not self.categories:
            return None
        return self.categories[self.columns.index(name)]

    def coded(self, columns: CovariateColumns) -> np.ndarray:
        """Moving columns as a fitted forecaster knows them: categories by their place among its
        own, -1 for a new one, and text that spells numbers as these where it knows numbers.

        Raises:
            ValueError: If a column of numbers holds text now.
        """
        values = self.pick(columns.moving)
        # There are no categories before a fit.
        fitted_categories = zip(columns.moving, columns.categories, strict=False)
        for k, (name, fitted) in enumerate(fitted_categories):
            categories = self.kind(name)
            if fitted is None and categories is not None:
                words = pd.Series(categories)
                numbers, is_foreign = read_numbers(words, spelt=True)
                if is_foreign.any():
                    place = int(is_foreign.argmax())
                    word = categories[place]
                    from tsattn.data.spelling import truth_call

                    call = truth_call(words, f"df[{name!r}]")
                    advice = "" if call is None else f", as by {call}"
                    raise InputError(
                        f"column {name!r} held numbers in training; got text such as"
                        f" {word!r:.60}; give numbers",
                        InPython(advice),
                        ", or fit again",
                    )
                # The code of a missing cell is NaN, and stays so.
                has_code = ~np.isnan(values[:, k])
                code_places = values[has_code, k].astype(int)
                values[has_code, k] = numbers[code_places]
            if fitted is None or categories == fitted:
                continue
            values[:, k], _ = category_codes(self.cells(name), fitted)
        return values

    def new_categories(self, columns: CovariateColumns) -> dict[Hashable, list[str]]:
        """Categories of these rows that a fit has not seen, by column, without columns that have
        none.

        Args:
            columns: As the fit knows them.
        """
        new_by_column: dict[Hashable, list[str]] = {}
        # There are no categories before a fit.
        for name, fitted in zip(columns.moving, columns.categories, strict=False):
            categories = self.kind(name)
            if fitted is None or categories == fitted:
                continue
            names = map(label, self.cells(name).dropna().unique())
            new_names = [word for word in names if word not in fitted]
            if new_names:
                new_by_column[name] = new_names
        return new_by_column

    def cells(self, name: Hashable) -> pd.Series:
        """A column of numbers, or of categories as text."""
        numbers = self.pick([name])[:, 0]
        categories = self.kind(name)
        if categories is None:
            return pd.Series(numbers)
        # The place of a missing cell reads the last entry.
        places = np.nan_to_num(numbers, nan=-1).astype(np.int64)
        entries = np.array([*categories, np.nan], dtype=object)
        return pd.Series(entries[places])

    def pick(self, names: Sequence[Hashable]) -> np.ndarray:
        """Some columns, ``[rows, len(names)]``."""
        places = [self.columns.index(name) for name in names]
        return self.values[:, places]

    def pick_static(self, names: Sequence[Hashable]) -> np.ndarray:
        """Some static columns, ``[N, len(names)]``."""
        places = [self.statics.index(name) for name in names]
        return self.static[:, places]

    def words(self) -> list[Any]:
        """What tells these covariates from others beside the numbers of ``values``, for a
        fingerprint.
        """
        categories: list[str | None] = []
        if self.categories:
            categories = [None, *map(repr, self.categories)]
        static = self.static.ravel().tolist()
        return [
            *self.columns,
            None,
            *self.statics,
            None,
            *static,
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
        keys, is_missing = _static_keys(cells)
        if is_missing.any():
            row = int(is_missing.argmax())
            value = plain(cells.iloc[row])
            others = more_of(codes[is_missing])
            raise ValueError(
                f"{name(codes[row])}: static column {column!r} holds {value!r:.60} in row"
                f" {row}{others}, but needs a finite number or a category in every row; fill it in"
            )
        first_rows = first[codes]
        is_changed = keys != keys[first_rows]
        if is_changed.any():
            row = int(is_changed.argmax())
            first_row = first_rows[row]
            first_value = plain(cells.iloc[first_row])
            value = plain(cells.iloc[row])
            others = more_of(codes[is_changed])
            raise InputError(
                f"{name(codes[row])}: static column {column!r} holds {first_value!r:.60} and"
                f" {value!r:.60}{others}, but"
                " must have one value in a series; correct it, or name it in ",
                Name("past_cols"),
                " or ",
                Name("future_cols"),
            )
        if keys.dtype == np.float64:
            static[:, s] = keys[first].tolist()
        else:
            first_cells = cells.array[first]
            static[:, s] = [label(plain(value)) for value in first_cells]
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
        if not is_object_dtype(kind) and not is_string_dtype(kind):
            from tsattn.data.spelling import static_call

            raise InputError(
                f"static column {cells.name!r} must hold numbers, text or categories; got {kind};"
                " convert it",
                InPython(f": {static_call(cells)}"),
            )
    codes, _ = pd.factorize(cells)
    return codes, codes < 0


def read_categories(
    df: pd.DataFrame, columns: Sequence[Hashable], values: np.ndarray, foreign: np.ndarray
) -> tuple[Categories, ...]:
    """Give the cells of columns of text or categories their places among the sorted categories.

    Args:
        df: The table.
        columns: Its covariates with a value in every row.
        values: Their numbers ``[rows, K]``; columns of text are written in place.
        foreign: Where a cell is no number, likewise. A column of text and numbers is left as it is.

    Returns:
        For each column its categories, or None for one of numbers; empty where all are.
    """
    categories: list[Categories] = [None] * len(columns)
    has_text = foreign.any(axis=0)
    for k in np.flatnonzero(has_text).tolist():
        cells = df[columns[k]]
        kind = infer_dtype(cells, skipna=True)
        if kind not in ("string", "categorical"):
            continue
        numbers = _spelt_decimals(cells) if kind == "string" else None
        if numbers is None:
            numbers, categories[k] = category_codes(cells)
            if kind == "string":
                _tell_spelt_numbers(cells)
        values[:, k] = numbers
        foreign[:, k] = False
    if not any(categories):
        return ()
    return tuple(categories)


def _tell_spelt_numbers(cells: pd.Series) -> None:
    """Warn of numbers with a decimal comma, a currency or the like, each of which is a category
    that says nothing of its size.
    """
    from tsattn.data.spelling import conversion

    texts = cells.dropna().astype(str)
    has_letters = texts.str.contains(r"[^\W\d_]").any()
    # Digits alone may be codes.
    are_digits = texts.str.fullmatch(r"\d+").all()
    if has_letters or are_digits:
        return
    call = conversion(cells, np.full(len(cells), np.nan), f"df[{cells.name!r}]")
    if call is None:
        return
    warn(
        InputWarning(
            f"column {cells.name!r} holds text such as {texts.iloc[0]!r:.40}, which is read as"
            " categories; write numbers with a decimal point only, in each table",
            InPython(f": {call}"),
        )
    )


def _spelt_decimals(cells: pd.Series) -> np.ndarray | None:
    """The numbers that a column of text spells, some with decimals; None if it spells others, which
    may be codes such as 001.
    """
    numbers, is_foreign = read_numbers(cells, spelt=True)
    if is_foreign.any():
        return None
    has_point = cells.astype(str).str.contains(".", regex=False)
    if not has_point.any():
        return None
    return numbers


def category_codes(
    cells: pd.Series, categories: Categories = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The place of each cell among the categories as float64, NaN where it is missing and -1 where
    it is none of them.

    Args:
        cells: Text, categories or numbers.
        categories: The categories, sorted; ``None`` takes those of the cells.
    """
    codes, distinct = pd.factorize(cells)
    names = [label(plain(value)) for value in distinct]
    if categories is None:
        categories = tuple(sorted(set(names)))
    places = places_among(names, categories)
    # The code of a missing cell is -1, which reads the last entry.
    places = np.append(places, np.nan)
    return places[codes], categories


def places_among(names: Sequence[str], categories: tuple[str, ...]) -> np.ndarray:
    """The place of each name among categories as float64, -1 where it is none of them."""
    sought: pd.Index = pd.Index(names, dtype=object)
    places = pd.Index(categories).get_indexer(sought)
    return places.astype(np.float64)


def label(value: Any) -> str:
    """A category as text; whole numbers read alike whether they come as 1, 1.0 or "1"."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


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
        parameters = Argument("past_cols"), " or ", Argument("future_cols")
        require_column(df, column, "add it, or correct ", *parameters)
    for column in statics:
        require_column(df, column, "add it, or correct ", Argument("static_cols"))
    covariates = (*columns, *statics)
    for parameter, other in taken.items():
        if other in covariates:
            raise ValueError(
                f"column {other!r} is the {parameter} of the table and cannot be a covariate as"
                " well; leave it out"
            )
