"""Functions that find and read the id, time and value columns of a table."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from difflib import SequenceMatcher, get_close_matches
from numbers import Integral, Real
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import pandas as pd
from pandas.api.types import (
    infer_dtype,
    is_bool_dtype,
    is_complex_dtype,
    is_datetime64_any_dtype,
    is_integer_dtype,
    is_list_like,
    is_numeric_dtype,
    is_object_dtype,
)

from tsattn.checks import Argument, InputError, InPython, Name, Piece, warn
from tsattn.data.calendar import (
    FIRST_YEAR,
    LAST_YEAR,
    even_positions,
    more,
)
from tsattn.data.parts import (
    PARTS,
    TIME_NAMES,
    advice_on_blanks,
    flattening_call,
    joined_parts,
    names_index,
    names_rows,
    part_of,
    refuse_blank_ids,
    refuse_blank_parts,
    turning_call,
)

MISSING = ("error", "interpolate", "ffill", "mask")
GAPS = ("closed", "missing")
BAD = ("error", "skip")

_NUMBER_TYPES = (Real, Decimal, np.bool_)
# Attribute of a frame made of bare numbers, none of which is a time.
_NO_TIMES = "tsattn: no times"
# Whole numbers up to this one are float64 numbers, too.
_LARGEST_EXACT_INTEGER = 2**53
# Differences and future steps of integer time up to this one fit into int64.
_LARGEST_INTEGER_TIME = 2**61
# Rows of a column of years that no name calls so, at least.
_LEAST_YEARS = 4


class _ToPandas(Protocol):
    def to_pandas(self) -> Any: ...


class _Interchange(Protocol):
    def __dataframe__(self, nan_as_null: bool = False, allow_copy: bool = True) -> Any: ...


# Tables that as_frame converts, among them those of polars, pyarrow and narwhals.
TableLike: TypeAlias = (
    pd.DataFrame | pd.Series | np.ndarray | Sequence[float] | _ToPandas | _Interchange
)


@dataclass(frozen=True)
class Dialect:
    """Layout of the table that the user passed, so that forecasts have the same layout.

    Attributes:
        kind: ``"long"`` (one row per series and stamp) or ``"wide"`` (one row per stamp, one column
            per series).
        id_col: Column of the series' names; None for a wide frame, and for one nameless series.
        time_col: Column of the stamps; None when a wide frame keeps them in its index.
        target_col: Column of the values; None for a wide frame.
        index_name: Name of the index that holds the stamps of a wide frame.
        id_dtype: pandas dtype of the id column, so that categories and strings come back as such.
        columns: Names of the series of a wide frame in its order; empty for a long one.
        left_out: Columns of a wide frame that only number its rows or name its one series.
        key_cols: Columns that name series together; ``id_col`` then names one that joins them.
        key_dtypes: Their dtypes.
        key_values: For each its values by their texts, if no dtype makes them of text.
        day_first: Whether stamps of text begin with the day, not the month; None if none tells.
        period: Dtype of the periods that stand for stamps; None where none do.
    """

    kind: Literal["long", "wide"]
    id_col: str | None
    time_col: str | None
    target_col: str | None
    index_name: Hashable | None = None
    id_dtype: Any = None
    columns: tuple[str | int, ...] = ()
    left_out: tuple[str, ...] = ()
    key_cols: tuple[Hashable, ...] = ()
    key_dtypes: tuple[Any, ...] = ()
    key_values: tuple[Mapping[str, Any], ...] = ()
    day_first: bool | None = None
    period: pd.PeriodDtype | None = None

    @property
    def time_place(self) -> str:
        """How Python writes the stamps of the user's table."""
        return "df.index" if self.time_col is None else f"df[{self.time_col!r}]"

    @property
    def id_names(self) -> Any:
        """What names the series in the user's table: a column, several, or nothing."""
        return self.key_cols or self.id_col

    @property
    def id_cols(self) -> list[Hashable]:
        """The columns that name the series in the user's table, if there are any."""
        return [] if self.id_col is None else [*(self.key_cols or [self.id_col])]

    def with_ids(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A table of the user's with the column that joins its keys, where there are several."""
        if not self.key_cols:
            return frame
        return joined_table(frame, self.key_cols)[0]

    @property
    def row_cols(self) -> list[Any]:
        """The columns of an answer that name the series and the stamp of a row."""
        names = [*self.key_cols, self.id_col, self.time_col]
        return [name for name in names if name is not None]

    def answer(self, ids: np.ndarray, times: pd.Index, columns: Mapping[Any, Any]) -> pd.DataFrame:
        """A table in this layout, with stamps or periods in their column or in the index.

        Args:
            ids: Name of the series of each row; not read where no column holds it.
            times: Stamp of each row.
            columns: What follows the columns of series and stamps.
        """
        cells: dict[Any, Any] = {}
        if self.id_col is not None:
            cells[self.id_col] = self.restore_ids(ids)
        index = None
        if self.time_col is None:
            index = self.restore_times(times).rename(self.index_name)
        else:
            cells[self.time_col] = self.restore_times(times)
        return self.with_keys(pd.DataFrame({**cells, **columns}, index=index))

    def with_keys(self, frame: pd.DataFrame) -> pd.DataFrame:
        """An answer with the columns of the keys in the place of the one that joins them."""
        if not self.key_cols:
            return frame
        from tsattn.data.keys import split_ids

        ids = frame[self.id_col].tolist()
        keys = split_ids(ids, self.key_cols, self.key_dtypes, self.key_values)
        columns: dict[Any, Any] = {}
        for name in frame.columns:
            columns |= keys if name == self.id_col else {name: frame[name]}
        return pd.DataFrame(columns, index=frame.index)

    def label(self, name: Any) -> str:
        """What an error calls a series."""
        if self.id_col is not None:
            return f"series {plain(name)!r}"
        return "the table" if self.kind == "wide" else "the series"

    @property
    def names_series(self) -> bool:
        """Whether the table names its series, by an id column or by the names of its columns."""
        return self.id_col is not None or bool(self.columns)

    def restore_times(self, times: pd.Index) -> pd.Index:
        """Stamps as periods, if the user's table has such."""
        if self.period is None:
            return times
        return pd.PeriodIndex(times, dtype=self.period)

    def restore_ids(self, ids: np.ndarray) -> pd.Series:
        """Ids as a column of the user's dtype (categories, strings, integers)."""
        return pd.Series(ids, dtype=self.id_dtype, name=self.id_col)


def joined_table(frame: pd.DataFrame, keys: tuple[Hashable, ...]) -> tuple[pd.DataFrame, str]:
    """A table with a column that joins several keys, and its name.

    Raises:
        ValueError: If a key is absent or has no value in some row.
    """
    from tsattn.data.keys import join_keys

    for key in keys:
        require_column(frame, key, "add it, or correct ", Argument("id_col"))
    if len(set(keys)) < len(keys):
        raise InputError(Name("id_col"), f" must name each column once; got {[*keys]!r}")
    return join_keys(frame, keys)


def as_frame(data: Any) -> pd.DataFrame:
    """A table of any library as a pandas frame.

    Args:
        data: Frame or series of pandas, or of a library whose tables have ``to_pandas`` or speak
            the dataframe interchange protocol, such as polars, pyarrow and narwhals; a dict of
            columns; a flat list or array of numbers; or an array of rows and columns, named
            ``y1``, ``y2`` and so on. A single series becomes a column of its name, or ``"y"``.

    Raises:
        TypeError: If it is of another kind.
        ValueError: If the columns of a dict are no columns of one length.
        ImportError: If its library needs another library to convert it.
    """
    if _is_flat(data):
        frame = pd.Series(data).to_frame("y")
        frame.attrs[_NO_TIMES] = True
        return frame
    if isinstance(data, np.ndarray) and data.ndim == 2:
        return pd.DataFrame(data, columns=value_names(data.shape[1]))
    if isinstance(data, dict):
        try:
            return pd.DataFrame(data)
        except ValueError as error:
            raise ValueError(
                f"a dict must hold columns of one length ({error}); give a list or an array a"
                " column"
            ) from None
    kind = type(data).__name__
    if not isinstance(data, pd.DataFrame | pd.Series | type):
        try:
            if hasattr(data, "to_pandas"):
                data = data.to_pandas()
            elif hasattr(data, "__dataframe__"):
                data = pd.api.interchange.from_dataframe(data)
        except ImportError as error:
            raise ImportError(
                f"a {kind} becomes a table of pandas by pyarrow ({error}); install it with: pip"
                " install 'tsattn[files]'"
            ) from error
    if isinstance(data, pd.Series):
        data = data.to_frame("y" if data.name in (None, "") else data.name)
    if not isinstance(data, pd.DataFrame):
        remedy = "make a DataFrame of it"
        for method in ("collect", "compute", "toPandas"):
            if hasattr(data, method):
                remedy = f"call its {method}() first"
        raise TypeError(
            "data must be a frame, a series, a dict of columns, a Panel, or a list or array of"
            f" numbers; got {kind}; {remedy}"
        )
    return data


def value_names(n_columns: int) -> list[str]:
    """Names of columns of values that have none."""
    return ["y"] if n_columns == 1 else [f"y{k + 1}" for k in range(n_columns)]


def _is_flat(data: Any) -> bool:
    """Whether data is a list or an array of single values."""
    if isinstance(data, list | tuple):
        return not any(is_list_like(value) for value in data)
    return isinstance(data, np.ndarray) and data.ndim == 1 and data.dtype.names is None


def check_frame(data: Any) -> pd.DataFrame:
    """Convert a table by :func:`as_frame`, and refuse tables without rows and column names that
    occur twice.
    """
    df = as_frame(data)
    if df.columns.nlevels > 1:
        raise ValueError(
            f"columns must have one level; got {df.columns.nlevels}; {flattening_call(df)}"
        )
    twice = df.columns[df.columns.duplicated()]
    if len(twice):
        raise InputError(
            f"column {twice[0]!r} occurs more than once, but names must be unique; rename or"
            " drop one",
            InPython(", as df = df.loc[:, ~df.columns.duplicated()] does"),
        )
    if not len(df):
        raise ValueError(
            f"the table is empty: columns {_listed(df)} and no rows; give at least one row per"
            " series"
        )
    return _without_blank_end(_without_signals(df))


def _without_blank_end(df: pd.DataFrame) -> pd.DataFrame:
    """The table without empty rows at its end, as spreadsheets write them; where all columns are
    numbers, an empty row may be one of missing values.
    """
    has_stamps = not isinstance(df.index, pd.RangeIndex)
    if has_stamps or df.iloc[-1].notna().any():
        return df
    if all(map(is_numeric_dtype, df.dtypes)):
        return df
    filled_rows = np.flatnonzero(df.notna().any(axis=1))
    n_rows = int(filled_rows.max(initial=0)) + 1
    return df.iloc[:n_rows]


def _without_signals(df: pd.DataFrame) -> pd.DataFrame:
    """The table with NaN for each signalling NaN of Decimal, which pandas cannot look at."""
    for column in df.select_dtypes(object):
        kind = infer_dtype(df[column], skipna=False)
        if kind in ("decimal", "mixed", "mixed-integer"):
            signals = df[column].map(lambda cell: isinstance(cell, Decimal) and cell.is_snan())
            if signals.any():
                df = df.copy(deep=False)
                df[column] = df[column].mask(signals, np.nan)
    return df


def _listed(df: pd.DataFrame, missing_name: str | None = None) -> str:
    """The first eight column names, those most similar to the missing one first."""
    names = [str(column) for column in df.columns]
    if missing_name is not None:
        pattern = missing_name.casefold()
        names.sort(
            key=lambda name: SequenceMatcher(None, name.casefold(), pattern).ratio(), reverse=True
        )
    ellipsis = " ..." if len(names) > 8 else ""
    return f"{names[:8]}{ellipsis}"


def require_columns(df: pd.DataFrame, names: dict[str, Any]) -> None:
    """Refuse a frame without one of the columns.

    Args:
        df: The frame.
        names: Names of the columns, one or several, by the parameter that passes them.
    """
    for parameter, columns in names.items():
        for column in columns if isinstance(columns, list | tuple) else [columns]:
            if parameter == "time_col" and column not in df.columns:
                refuse_sideways(df, [*df.columns])
            require_column(df, column, "name it by ", Argument(parameter))


def require_named(df: pd.DataFrame, fields: Mapping[str, Any]) -> None:
    """Refuse a frame without a column that a user named; levels of its index count as columns.

    Args:
        df: The frame.
        fields: Fields of a schema by name.
    """
    for parameter, columns in fields.items():
        if parameter.endswith("_col"):
            names = columns if isinstance(columns, list | tuple) else [columns]
            others = [name for name in names if name not in df.index.names]
            require_columns(df, {parameter: others})


class MissingColumn(InputError):
    """A table lacks a column.

    Args:
        fault: What is missing.
        *remedy: What is done about it in a table that is read for the first time.
    """

    def __init__(self, fault: str, *remedy: Piece) -> None:
        super().__init__(fault, "; ", *remedy)
        self.fault = fault


@contextmanager
def columns_of_fit() -> Iterator[None]:
    """Let errors on missing columns advise what can be done after a fit, which has named them."""
    try:
        yield
    except MissingColumn as error:
        remedy = "; the fit had it, so rename a column to it, or add it"
        raise InputError(f"{error.fault}{remedy}") from None


def require_column(df: pd.DataFrame, column: Any, *remedy: Piece) -> None:
    """Refuse a frame without a column, with what is done about it.

    Raises:
        MissingColumn: If it is absent.
    """
    if column not in df.columns:
        table_columns = [str(name) for name in df.columns]
        matches = get_close_matches(str(column), table_columns, n=1, cutoff=0.6)
        question = f" (did you mean {matches[0]!r}?)" if matches else ""
        columns = _listed(df, str(column))
        fault = f"column {column!r} is missing{question}; the table has columns {columns}"
        raise MissingColumn(fault, *remedy)


def long_names(
    df: pd.DataFrame, id_col: Any, time_col: Any, target_col: Any
) -> tuple[Any, Any, Any]:
    """Id, time and target column; defaults that are absent become those of the second dialect.

    The id column is None if the table has one nameless series, as where it is something else.
    """
    columns = set(df.columns)
    if id_col == "unique_id" and id_col in (time_col, target_col):
        return None, time_col, target_col
    if (id_col, time_col, target_col) == ("unique_id", "ds", "y"):
        has_other_names = "item_id" in columns or columns >= {"timestamp", "target"}
        if has_other_names and "unique_id" not in columns and not columns >= {"ds", "y"}:
            id_col = "item_id"
            time_col = "timestamp"
            target_col = "target"
        if id_col not in columns:
            id_col = None
    elif id_col == "unique_id" and id_col not in columns:
        id_col = None
    return id_col, time_col, target_col


def with_time(
    df: pd.DataFrame, names: tuple[Any, Any, Any], taken: Sequence[Any]
) -> tuple[pd.DataFrame, tuple[Any, Any, Any]]:
    """A long frame with its stamps in a column, and the names of its columns, which all exist.

    Args:
        df: The frame; its stamps may stand in the index, or in a column of another name than the
            default.
        names: Id, time and target column as :func:`long_names` gives them.
        taken: Covariates.

    Raises:
        ValueError: If a column is absent, or one stands for two.
    """
    id_col, time_col, target_col = names
    if time_col not in df.columns:
        is_default = time_col in ("ds", "timestamp")
        if df.index.name == time_col or (is_default and has_time_index(df)):
            if df.index.name is not None:
                time_col = df.index.name
            df = _with_level(df.reset_index(drop=True), time_col, df.index)
        elif is_default:
            codes = np.zeros(len(df), dtype=np.int64)
            if id_col in df.columns:
                codes, _ = pd.factorize(df[id_col])
            time_col = find_time_col(df, [*taken, id_col, target_col], codes) or time_col
    roles = {"id_col": id_col, "time_col": time_col, "target_col": target_col}
    named_roles = [(role, name) for role, name in roles.items() if name is not None]
    # An error names a column that the user passed before one that is a default.
    defaults = ("ds", "y", "timestamp", "target")
    named_roles.sort(key=lambda pair: pair[1] in defaults)
    require_columns(df, dict(named_roles))
    if len(set(roles.values())) < 3:
        raise InputError(
            Name("id_col"),
            ", ",
            Name("time_col"),
            " and ",
            Name("target_col"),
            f" must be three columns; got {list(roles.values())!r}",
        )
    return df, (id_col, time_col, target_col)


def _with_level(df: pd.DataFrame, name: Any, level: pd.Index) -> pd.DataFrame:
    """The frame with a level of its former index as first column."""
    if name in df.columns:
        raise ValueError(
            f"column {name!r} stands in the index as well, but names must be unique; drop one of"
            " them"
        )
    df.insert(0, name, level)
    return df


def with_levels(
    df: pd.DataFrame, id_col: Any, time_col: Any
) -> tuple[pd.DataFrame, list[Any], Any]:
    """A frame whose index has levels of ids and one of times, in any order, with all as columns.

    Returns:
        The frame, and the names of its id columns and of its time column.

    Raises:
        ValueError: If no level or several hold times, or one of more than two has no name.
    """
    time_levels = _time_levels(df.index, time_col)
    n_times = len(time_levels)
    names = [*df.index.names]
    has_one_id = len(names) == 2
    if n_times != 1 or (None in names and not has_one_id):
        if not n_times:
            refuse_sideways(df, [*df.columns])
        raise InputError(
            f"an index of several levels must hold ids and times; got {len(names)} levels"
            f" {names!r}, {n_times or 'none'} of times; make columns of them by reset_index, and"
            " name these by ",
            Argument("id_col"),
            " and ",
            Argument("time_col"),
        )
    (place,) = time_levels
    if names[place] is None or time_col != "ds":
        names[place] = time_col
    if has_one_id and (names[1 - place] is None or id_col not in (None, "unique_id")):
        names[1 - place] = id_col or "unique_id"
    flat = df.reset_index(drop=True)
    for number, name in enumerate(names):
        flat = _with_level(flat, name, df.index.get_level_values(number))
    time_name = names.pop(place)
    return flat, names, time_name


def _time_levels(index: pd.Index, time_col: Any) -> list[int]:
    """Numbers of the levels that hold times: by the name given, by type, by a usual name, or by
    their values.
    """
    levels = [index.get_level_values(i) for i in range(index.nlevels)]
    numbered = list(enumerate(levels))
    ways = [
        [i for i, level in numbered if time_col is not None and level.name == time_col],
        [i for i, level in numbered if _is_time(level)],
        [i for i, level in numbered if str(level.name).lower() in TIME_NAMES],
    ]
    time_levels = next(filter(None, ways), [])
    if time_levels:
        return time_levels
    codes = [pd.factorize(index.droplevel(i))[0] for i in range(len(levels))]
    time_levels = [i for i, level in numbered if _reads_as_times(level.to_series(), codes[i])]
    if len(levels) != 2 or len(time_levels) == 1:
        return time_levels
    # Ids may read as times too, and counts need not.
    return [1] if time_levels or levels[1].dtype.kind in "iu" else []


def has_time_index(df: pd.DataFrame) -> bool:
    """Whether the index holds stamps or periods."""
    return isinstance(df.index, pd.DatetimeIndex | pd.PeriodIndex)


def _is_time(column: pd.Series | pd.Index) -> bool:
    kind = column.dtype
    if is_object_dtype(kind):
        return infer_dtype(column[:9], skipna=True) in ("date", "datetime")
    return is_datetime64_any_dtype(kind) or isinstance(kind, pd.PeriodDtype)


def find_time_col(
    df: pd.DataFrame, taken: Sequence[Any] = (), codes: np.ndarray | None = None
) -> Any:
    """The column that holds the stamps, or None.

    The name decides first (date, ds, timestamp, time, datetime), then the type of datetimes. If the
    index only counts the rows, a column of text that reads as stamps counts too, and a column of
    numbers that do and rise evenly; at last one that numbers the steps, such as one called day.

    Args:
        df: The frame.
        taken: Columns that are something else.
        codes: Series of each row; None for a wide frame, which keeps a column of values.

    Raises:
        ValueError: If several columns could be it.
    """
    columns = [column for column in df.columns if column not in taken]
    if has_time_index(df):
        return None
    if codes is None and len(columns) < 2:
        return None
    matches: list[Any] = []
    for holds_stamps in _signs_of_time(df, codes):
        matches = [column for column in columns if holds_stamps(column)]
        if matches:
            break
    if len(matches) > 1:
        # A column of days repeats if another column holds the hours.
        series = np.zeros(len(df)) if codes is None else codes
        unique = [column for column in matches if _occur_once(df[column], series)]
        matches = unique or matches
        if len(matches) > 1:
            from tsattn.data.stamp_errors import several_times

            raise several_times(matches, are_whole=bool(unique))
    return matches[0] if matches else None


def _signs_of_time(df: pd.DataFrame, codes: np.ndarray | None) -> Iterator[Callable[[Any], bool]]:
    """What tells by its name that a column of a frame holds the stamps, the surest sign first."""
    yield lambda name: str(name).lower() in TIME_NAMES
    yield lambda name: _is_time(df[name])
    if df.index.name is not None or df.index.dtype.kind not in "iu":
        return
    yield lambda name: _reads_as_times(df[name], codes)
    # Some rows may be those of totals, which the reading of the stamps tells.
    yield lambda name: _text_mostly_reads(df[name])
    from tsattn.data.part_columns import counts_steps, is_clock, step_col

    yield lambda name: is_clock(df[name], codes, read_stamps)
    count_col = step_col(df.columns)
    if count_col is not None:
        yield lambda name: name == count_col and counts_steps(df[name], codes)
    # Beside ids and other times, digits are codes.
    if codes is None:
        yield lambda name: _may_be_code(df[name].iloc[0]) and _digits_read_as_times(df[name], None)


def _occur_once(column: pd.Series, series: np.ndarray) -> bool:
    """Whether no series has a stamp twice."""
    return not pd.DataFrame({"series": series, "time": column.to_numpy()}).duplicated().any()


def _reads_as_times(column: pd.Series, codes: np.ndarray | None, *, years: bool = True) -> bool:
    """Whether a column reads as stamps.

    Text must read as stamps in every row. Numbers must occur once in a series; unless the column
    is named like a part of a time, they must rise evenly too.
    """
    if not is_numeric_dtype(column.dtype):
        return _text_reads_as_times(column, codes)
    from tsattn.data.spelling import decimal_stamps, follow_periods
    from tsattn.data.text_stamps import LEAST_STAMP, spelt_stamps

    # The first value excludes most columns at little cost.
    first = column.iloc[0]
    # The first of a year may be 1.2024.
    is_month = isinstance(first, float) and 1 < first < 13
    if not isinstance(first, Real) or not (is_month or float(first) >= LEAST_STAMP):
        return False
    named_as_part = bool(part_of(column.name))
    stamps = None
    numbers = whole_numbers(column)
    if numbers is not None:
        years = years and (named_as_part or column.dtype.kind in "iu")
        stamps = spelt_stamps(numbers, years=years)
    else:
        decimals = column.to_numpy(dtype=np.float64, na_value=np.nan)
        stamps = decimal_stamps(decimals)
        # Numbers of one year may be other ones.
        if stamps is not None and not named_as_part and stamps.dt.year.nunique() < 2:
            return False
    if stamps is None or stamps.isna().any():
        # The first series shows what they are.
        is_first = slice(None) if codes is None else codes == codes[0]
        return numbers is not None and follow_periods(numbers[is_first])
    if codes is None:
        codes = np.zeros(len(column), dtype=np.int64)
    return _occur_once(stamps, codes) if named_as_part else _rise_evenly(stamps, codes)


def _rise_evenly(stamps: pd.Series, codes: np.ndarray) -> bool:
    """Whether the stamps of each series rise in the order of its rows, all by one frequency."""
    order = np.argsort(codes, kind="stable")
    sorted_codes = codes[order]
    sorted_stamps = stamps.iloc[order]
    steps = sorted_stamps.diff().iloc[1:]
    is_later = steps > pd.Timedelta(0)
    rises = is_later.to_numpy() | (np.diff(sorted_codes) > 0)
    return bool(rises.all()) and is_even(sorted_stamps, sorted_codes)


def _text_reads_as_times(column: pd.Series, codes: np.ndarray | None = None) -> bool:
    """Whether every row of a column is text that reads as a stamp, if it were known which of two
    numbers is the month.
    """
    if infer_dtype(column.iloc[:9], skipna=True) != "string":
        return False
    if _may_be_code(column.iloc[0]):
        from tsattn.data.spelling import names_weeks

        # Other codes come last.
        is_named = bool(part_of(column.name)) or names_weeks(column.name)
        return is_named and _digits_read_as_times(column, codes)
    from tsattn.data.text_stamps import AmbiguousStampsError

    # The first row alone excludes most columns of text at little cost.
    for rows in (column.iloc[:1], column):
        try:
            read_stamps(rows, "", lambda row: "")
        except AmbiguousStampsError:
            continue
        except (ValueError, TypeError):
            return False
    return True


def _may_be_code(cell: Any) -> bool:
    """Whether text is a number that is neither a year nor a day."""
    return isinstance(cell, str) and cell.isdigit() and len(cell) not in (4, 8)


def _digits_read_as_times(column: pd.Series, codes: np.ndarray | None) -> bool:
    """Whether all cells are numbers in text that are stamps, as numbers are judged."""
    from tsattn.data.spelling import counts_in_text

    counts = counts_in_text(column) if infer_dtype(column) == "string" else None
    return counts is not None and _reads_as_times(pd.Series(counts, name=column.name), codes)


def _text_mostly_reads(column: pd.Series) -> bool:
    """Whether text reads as stamps but for the last row, or for a few rows."""
    if _text_reads_as_times(column.iloc[:-1]):
        return True
    # A code alone rises evenly.
    if _may_be_code(column.iloc[0]) or not _text_reads_as_times(column.iloc[:1]):
        return False
    from tsattn.data.text_stamps import DATE_SHARE, read_text

    texts = column[column.map(lambda cell: isinstance(cell, str))]
    try:
        return bool(read_text(texts, "", None, None).notna().mean() > DATE_SHARE)
    except ValueError:
        return False


def is_even(stamps: pd.Series, codes: np.ndarray) -> bool:
    """Whether the sorted stamps of all series follow one frequency without exception."""
    times = pd.DatetimeIndex(stamps)
    starts = np.append(np.flatnonzero(np.diff(codes, prepend=-1)), len(codes))
    return even_positions(times, starts) is not None


def value_cols(df: pd.DataFrame, columns: Sequence[Any], *, has_times: bool) -> list[Any]:
    """The columns of a wide frame that can be forecast.

    A column that only numbers the rows is left out with a warning.

    Args:
        df: The table.
        columns: Its columns that have no other role.
        has_times: Whether its stamps are in the index or in another column. If not, years in their
            order are times, whatever they are called.

    Raises:
        ValueError: If a column holds times, or a part of them such as the month.
    """
    names = []
    for column in columns:
        cells = df[column]
        if numbers_rows(cells):
            from tsattn.data.part_columns import tell_row_numbers

            tell_row_numbers(cells)
            continue
        if _NO_TIMES in df.attrs:
            names.append(column)
            continue
        refuse_blank_parts(cells)
        may_be_time = not has_times and len(columns) > 1
        is_time = may_be_time and (_counts_years(cells) or _rises_as_time(cells))
        if is_time or _is_part(cells) or _reads_as_times(cells, None, years=False):
            from tsattn.data.stamp_errors import times_as_values

            raise times_as_values(cells, joined_parts(df, columns), has_times=has_times)
        names.append(column)
    if not has_times and df.index.dtype.kind in "iu" and _NO_TIMES not in df.attrs:
        from tsattn.data.part_columns import tell_equal_steps

        tell_equal_steps(df, names)
    return names


def refuse_sideways(df: pd.DataFrame, columns: Sequence[Any]) -> None:
    """Refuse a wide frame without times whose columns are named by times, apart from columns of
    words and those without a digit in their name.

    The rows of such a table are its series.
    """
    dated = [column for column in columns if any(map(str.isdigit, str(column)))]
    numeric = [name for name in columns if is_numeric_dtype(df[name].dtype)]
    for named in (dated, numeric):
        names = [int(text) if text.isdigit() else text for text in map(str, named)]
        if len(names) > 2 and _reads_as_times(pd.Series(names), None):
            raise InputError(
                f"columns {names[0]!r} to {names[-1]!r} are named by times, but a row must be a"
                " time and a column a series; turn the table",
                InPython(f", as {turning_call(df, named)} does"),
                ", or give the columns other names",
            )
    from tsattn.data.part_columns import refuse_steps

    refuse_steps(df)


def numbers_rows(column: pd.Series) -> bool:
    """Whether the column is the index that a file was written with, or another count of rows."""
    if not names_rows(column.name):
        return False
    from tsattn.data.part_columns import as_counts

    numbers = whole_numbers(as_counts(column))
    if numbers is None or not pd.Index(numbers).is_unique:
        return False
    if names_index(column.name):
        return True
    # Rows may have been sorted since they were counted, or some may be absent.
    steps = np.diff(numbers)
    is_whole_count = len(numbers) > 1 and np.ptp(numbers) == len(numbers) - 1
    rises = len(numbers) > 1 and numbers[0] in (0, 1) and steps.min() > 0
    return bool(is_whole_count or (rises and np.median(steps) == 1))


def _counts_years(column: pd.Series) -> bool:
    """Whether a column holds years in their order, each once or several times."""
    from tsattn.data.spelling import are_years

    numbers = whole_numbers(column)
    if numbers is None or len(numbers) < _LEAST_YEARS:
        return False
    steps = np.diff(numbers)
    return bool(are_years(numbers).all() and np.isin(steps, (0, 1)).all() and steps.any())


def _rises_as_time(column: pd.Series) -> bool:
    """Whether numbers spell days, or are named by a word of times and rise or fall in all rows."""
    from tsattn.data.part_columns import as_counts, names_time
    from tsattn.data.spelling import spell_dates

    counts = as_counts(column)
    numbers = whole_numbers(counts)
    if numbers is not None and spell_dates(numbers):
        return True
    is_ordered = counts.is_monotonic_increasing or counts.is_monotonic_decreasing
    return bool(names_time(column.name) and is_ordered and counts.is_unique and len(counts) > 1)


def _is_part(column: pd.Series) -> bool:
    """Whether a column holds a year, a month or another part of a time, by its name and its
    numbers.
    """
    part = part_of(column.name)
    if not part or not is_numeric_dtype(column.dtype):
        return False
    low, high = PARTS[part]
    numbers = whole_numbers(column)
    if column.between(low, high).all():
        # Years may have decimals (1949.083).
        return part == "year" or numbers is not None
    from tsattn.data.spelling import decimal_periods, spelt_period

    # With a year before it, as 2024.01 and 202401.
    if numbers is None:
        return decimal_periods(column.to_numpy(dtype=np.float64, na_value=np.nan)) is not None
    if part not in ("week", "quarter"):
        return False
    return spelt_period(numbers, weeks=part == "week") is not None


def read_ids(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Series number of each row, and the sorted ids."""
    refuse_blank_ids(column)
    _refuse_nul(column)
    try:
        codes, ids = pd.factorize(column, sort=True)
    except TypeError as error:
        raise TypeError(
            f"the ids of column {column.name!r} cannot be sorted ({error}); convert them to text"
        ) from error
    return codes, np.asarray(ids)


def _refuse_nul(column: pd.Series) -> None:
    """Refuse ids with a NUL character, at which pandas ends a text when it compares two."""
    if is_numeric_dtype(column.dtype):
        return
    for name in column.unique():
        if isinstance(name, str) and "\0" in name:
            raise ValueError(
                f"column {column.name!r} holds the id {name!r:.60} with a NUL character, at which"
                " ids would be cut; remove such characters"
            )


def read_numbers(column: pd.Series, *, spelt: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A copy as float64 with NaN for missing cells, and a mask of the cells that are no number.

    Args:
        column: The cells. Whole numbers that float64 rounds are named in a warning.
        spelt: Whether text that spells a number counts as one, empty text as a missing cell, and
            categories as what they stand for.
    """
    kind = column.dtype
    is_number = is_numeric_dtype(kind) or is_bool_dtype(kind)
    if is_number and not is_complex_dtype(kind):
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
        if is_integer_dtype(kind):
            _warn_of_rounding(column, numbers)
        return numbers, np.zeros(len(column), dtype=bool)
    numbers = np.full(len(column), np.nan)
    present = column.notna().to_numpy()
    if spelt and isinstance(kind, pd.CategoricalDtype | pd.StringDtype | pd.ArrowDtype):
        column = column.astype(object)
        kind = column.dtype
    if not is_object_dtype(kind):
        return numbers, present
    numeric = np.array([isinstance(cell, _NUMBER_TYPES) for cell in column], dtype=bool)
    numeric &= present
    numbers[numeric] = [_float(cell) for cell in column[numeric]]
    _warn_of_rounding(column, numbers)
    if spelt:
        from tsattn.data.spelling import spelt_numbers

        text, is_blank = spelt_numbers(column)
        present &= ~is_blank
        is_spelt = ~np.isnan(text)
        numbers[is_spelt] = text[is_spelt]
        numeric |= is_spelt
    return numbers, present & ~numeric


def _warn_of_rounding(integers: pd.Series, numbers: np.ndarray) -> None:
    """Name the first whole number that float64 does not hold."""
    large = np.isfinite(numbers) & (np.abs(numbers) > _LARGEST_EXACT_INTEGER)
    for row in np.flatnonzero(large).tolist():
        integer = integers.iloc[row]
        if isinstance(integer, Integral) and int(numbers[row]) != int(integer):
            warn(
                f"column {integers.name!r} holds {integer} in row {row}, which float64 rounds to"
                f" {int(numbers[row])}; subtract a constant from the column if the difference"
                " matters"
            )
            return


def plain(name: Any) -> Any:
    """A numpy scalar as a Python value, which reads better in an error."""
    if isinstance(name, np.datetime64):
        return str(pd.Timestamp(name))
    return name.item() if isinstance(name, np.generic) else name


def _float(number: Any) -> float:
    """The number as a float; an integer beyond float64 becomes infinite."""
    try:
        return float(number)
    except OverflowError:
        return np.inf


def read_stamps(
    column: pd.Series | pd.Index,
    label: str,
    name: Callable[[int], str],
    unit: str | None = None,
    candidates: pd.Index | None = None,
    day_first: bool | None = None,
) -> pd.Index:
    """A time column as a DatetimeIndex (time zone and unit kept) or an integer index.

    Text is read as ISO 8601, or by one common layout that fits the whole column. Text or objects
    with different UTC offsets become UTC, or local times without an offset where these are all of
    one time of the day, as days are where the clocks change. Periods, quarters and weeks become
    their first instant, years and months in decimals (1949.083) too. Integers are read as
    :func:`tsattn.data.text_stamps.spelt_stamps` does.

    Args:
        column: The stamps as they came.
        label: Name of the column in an error.
        name: Function that names the series of a row in an error.
        unit: Unit of the frequency (see :class:`tsattn.data.grid.Grid`) if it is known:
            ``"integer"`` leaves integers as they are, any other takes years for stamps as well.
        candidates: Stamps among which those of the column are expected. They decide whether the
            day or the month comes first where both are possible.
        day_first: Whether the day comes first where both are possible; None refuses such stamps.

    Raises:
        TypeError: If the column holds neither stamps, text nor integers.
        ValueError: If a stamp is missing, cannot be read, or could be read day first or month
            first.
    """
    # A new index numbers the rows; nothing is written to the shared values.
    series = pd.Series(column.array, copy=False, name=column.name)
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(series.cat.categories.dtype)
    kind = infer_dtype(series, skipna=True)
    missing_rows = np.flatnonzero(series.isna())
    if len(missing_rows):
        row = missing_rows[0]
        raise InputError(
            f"{name(row)}: {label} has no stamp in row {row}{more(len(missing_rows))}, but every"
            " row needs one; ",
            *advice_on_blanks(column),
        )
    if kind == "string" and _spells_count(series):
        series = series.astype(np.int64)
        kind = "integer"
    if kind == "integer":
        _refuse_far_integers(series, label, name)
        series = series.astype(np.int64)
    stamps = None
    if kind in ("integer", "floating"):
        numbers = whole_numbers(series)
        if unit != "integer":
            stamps = _stamps_of_numbers(series, numbers, label, years=unit is not None)
        if stamps is None and numbers is not None:
            return pd.Index(numbers.copy())
    if stamps is None:
        stamps = _stamps(series, kind, label, candidates, day_first)
    bad = np.flatnonzero(stamps.isna())
    if len(bad):
        from tsattn.data.stamp_errors import unread_stamp

        place_of_first = f"{name(bad[0])}: {label}"
        cells = pd.Series(series.array, name=column.name)
        raise unread_stamp(cells, bad, place_of_first, is_named=candidates is not None)
    return pd.DatetimeIndex(stamps, copy=True).rename(None)


def _refuse_far_integers(series: pd.Series, label: str, name: Callable[[int], str]) -> None:
    """Refuse integer time beyond :data:`_LARGEST_INTEGER_TIME`."""
    limit = _LARGEST_INTEGER_TIME
    far = np.flatnonzero((series < -limit) | (series > limit))
    if len(far):
        row = far[0]
        raise ValueError(
            f"{name(row)}: {label} holds {series[row]} in row {row}{more(len(far))}, but integer"
            f" time must stay within ±{limit}; correct it"
        )


def _stamps_of_numbers(
    series: pd.Series, numbers: np.ndarray | None, label: str, *, years: bool
) -> pd.Series | None:
    """Days of Excel, or stamps that whole ``numbers`` spell; None if they are a count of steps.

    Raises:
        ValueError: If they are dates spelt in a way that is not read.
    """
    from tsattn.data.spelling import refuse_other_dates, serial_days
    from tsattn.data.text_stamps import spelt_stamps

    stamps = serial_days(series, label)
    if stamps is not None or numbers is None:
        return stamps
    is_read = spelt_stamps(numbers) is not None
    refuse_other_dates(series.name, numbers, label, is_read=is_read)
    return spelt_stamps(numbers, years=years)


def _spells_count(column: pd.Series) -> bool:
    """Whether text spells whole numbers that are no stamps, but for the days of Excel."""
    from tsattn.data.part_columns import as_counts
    from tsattn.data.text_stamps import spelt_stamps

    # Most text is told by its first cell.
    if not str(column.iloc[0]).isdigit():
        return False
    numbers = whole_numbers(as_counts(column))
    return numbers is not None and spelt_stamps(numbers, years=True) is None


def _stamps(
    series: pd.Series, kind: str, label: str, candidates: pd.Index | None, day_first: bool | None
) -> pd.Series:
    """Stamps of a column that holds no whole numbers, NaT where one cannot be read."""
    from tsattn.data.text_stamps import local_or_utc, read_text, refuse_half_zoned

    if kind == "floating":
        from tsattn.data.spelling import decimal_stamps

        decimals = series.to_numpy(dtype=np.float64)
        stamps = decimal_stamps(decimals)
        if stamps is not None:
            return stamps
    if kind == "string":
        return read_text(series.astype(object), label, candidates, day_first)
    if kind == "period":
        periods = series.where(series.dt.year.between(FIRST_YEAR, LAST_YEAR))
        return pd.Series(pd.PeriodIndex(periods).to_timestamp())
    if kind == "date":
        # Dates of pyarrow have no unit, which to_datetime needs.
        series = series.astype(object)
    elif is_datetime64_any_dtype(series.dtype):
        if series.dt.unit == "ns":
            return series
        # Coarser units reach years that nanoseconds do not.
        return series.where(series.dt.year.between(FIRST_YEAR, LAST_YEAR))
    if kind in ("datetime", "date", "datetime64"):
        zones = series.map(lambda cell: getattr(cell, "tzinfo", None))
        refuse_half_zoned(series, zones.notna(), label)
        if len(set(zones)) > 1:
            local = series.map(lambda cell: cell.replace(tzinfo=None))
            return local_or_utc(series, local)
        return pd.to_datetime(series, errors="coerce")
    from tsattn.data.stamp_errors import no_stamps

    raise no_stamps(series, kind, label)


def whole_numbers(column: pd.Series) -> np.ndarray | None:
    """Numbers as int64 if all are whole."""
    kind = column.dtype
    if not is_numeric_dtype(kind) or is_complex_dtype(kind):
        return None
    numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    is_whole = np.isfinite(numbers)
    is_whole &= np.abs(numbers) <= _LARGEST_INTEGER_TIME
    is_whole &= numbers == np.rint(numbers)
    if not is_whole.all():
        return None
    return column.to_numpy(dtype=np.int64)
