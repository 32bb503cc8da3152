"""Columns of a frame that hold ids, stamps and numbers, found and read."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from difflib import SequenceMatcher
from numbers import Real
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import pandas as pd

from tsattn.data.calendar import infer_grid, more, place

MISSING = ("error", "interpolate", "ffill", "mask")
_TIME_NAMES = {"date", "ds", "timestamp", "time", "datetime"}
_PARTS = {
    "year": (1678, 2261),
    "quarter": (1, 4),
    "month": (1, 12),
    "week": (1, 53),
    "weekday": (0, 7),
    "day": (1, 31),
    "hour": (0, 24),
    "minute": (0, 59),
}
_INDEX_NAMES = (
    "",
    "Unnamed: 0",
    "rownames",
    "index",
    "level_0",
)  # of the column that an index becomes in a file
_NUMBERS = (Real, Decimal, np.bool_)
_REACH = 2**61  # so that differences and future steps of integer time fit into int64
_YEARS = (1678, 2261)  # whole years that nanoseconds in int64 can count
_OFFSET = re.compile(r":\d{2}(?:[.,]\d+)?\s*(Z|[+-]\d{2}(?::?\d{2})?)$")
_DATES = (
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%d.%m.%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%m/%d/%y",
    "%d/%m/%y",
    "%Y-%m-%d",
    "%d-%b-%Y",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%Y-%m",
    "%Y/%m",
    "%YM%m",
    "%m/%Y",
    "%m-%Y",
    "%b %Y",
    "%B %Y",
    "%b-%Y",
    "%b-%y",
    "%Y-%b",
    "%Y %b",
)
_HOURS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
_QUARTER = re.compile(r"(?:(\d{4})[-:/ ]*Q([1-4])|Q([1-4])[-:/ ]*(\d{4}))", re.IGNORECASE)
_WEEK = re.compile(r"(\d{4})-?W(\d{2})", re.IGNORECASE)
_DIGITS = {4: "%Y", 6: "%Y%m", 8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_EPOCH = (10**8, 42 * 10**8)  # seconds since 1970 of the years 1973 to 2103
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_READ = ("integer", "floating", "datetime64", "datetime", "date", "period", "string", "empty")


class _ToPandas(Protocol):
    def to_pandas(self) -> Any: ...


class _Interchange(Protocol):
    def __dataframe__(self, nan_as_null: bool = False, allow_copy: bool = True) -> Any: ...


# What becomes a frame by as_frame; polars, pyarrow and narwhals are among it.
TableLike: TypeAlias = (
    pd.DataFrame | pd.Series | np.ndarray | Sequence[float] | _ToPandas | _Interchange
)


@dataclass(frozen=True)
class Dialect:
    """How the frame that came in looked, so that the answer looks alike.

    Attributes:
        kind: ``"long"`` (one row per series and stamp) or ``"wide"`` (one row per stamp, one column
            per channel).
        id_col: Column of the series' names; None for a wide frame and for a long frame with one
            nameless series.
        time_col: Column of the stamps; None when a wide frame keeps them in its index.
        target_col: Column of the values; None for a wide frame.
        index_name: Name of the index that holds the stamps of a wide frame.
        id_dtype: pandas dtype of the id column, so that categories and strings come back as such.
    """

    kind: Literal["long", "wide"]
    id_col: str | None
    time_col: str | None
    target_col: str | None
    index_name: Hashable | None = None
    id_dtype: Any = None

    def restore_ids(self, ids: np.ndarray) -> pd.Series:
        """Ids as a column of the dtype that came in (categories, strings, integers)."""
        return pd.Series(ids, dtype=self.id_dtype, name=self.id_col)


def as_frame(data: Any) -> pd.DataFrame:
    """A table of any library as a pandas frame.

    Args:
        data: Frame or series of pandas, or of a library whose tables have ``to_pandas`` or speak
            the dataframe interchange protocol, such as polars, pyarrow and narwhals; or a flat list
            or array of numbers. What is one series becomes the column of its name, ``"y"`` without
            one.

    Raises:
        TypeError: If it is of another kind.
        ImportError: If its library needs another one for that.
    """
    flat = isinstance(data, list | tuple) and not any(
        pd.api.types.is_list_like(each) for each in data
    )
    if flat or (isinstance(data, np.ndarray) and data.ndim == 1):
        data = pd.Series(data)
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
        way = next(
            (name for name in ("toPandas", "compute", "collect") if hasattr(data, name)), None
        )
        raise TypeError(
            "data must be a frame, a series, a Panel or a flat list or array of numbers; got"
            f" {kind}; {'make a DataFrame of it' if way is None else f'call its {way}() first'}"
        )
    return data


def check_frame(data: Any, missing: str) -> pd.DataFrame:
    """A table as :func:`as_frame` gives it; refuse one without rows or with doubled names, and
    unknown policies.
    """
    if missing not in MISSING:
        raise ValueError(f"missing must be one of {', '.join(MISSING)}; got {missing!r}")
    df = as_frame(data)
    if df.columns.nlevels > 1:
        raise ValueError(
            f"columns must have one level; got {df.columns.nlevels}; join their names first"
        )
    twice = df.columns[df.columns.duplicated()]
    if len(twice):
        raise ValueError(
            f"column {twice[0]!r} occurs more than once, but names must be unique; rename or"
            " drop one"
        )
    if not len(df):
        raise ValueError(
            f"the table is empty: columns {_listed(df)} and no rows; give at least one row per"
            " series"
        )
    return df


def _listed(df: pd.DataFrame, wanted: str | None = None) -> str:
    """Some column names, those most like a wanted one first."""
    names = [str(column) for column in df.columns]
    if wanted is not None:
        names.sort(
            key=lambda name: -SequenceMatcher(None, name.casefold(), wanted.casefold()).ratio()
        )
    return f"{names[:8]}{' ...' if len(names) > 8 else ''}"


def require_columns(df: pd.DataFrame, wanted: dict[str, Any]) -> None:
    """Refuse a frame without one of the columns, given as parameter and name."""
    for parameter, column in wanted.items():
        if column not in df.columns:
            raise ValueError(
                f"column {column!r} is missing; the table has columns {_listed(df, str(column))};"
                f" name it by {parameter}="
            )


def long_names(
    df: pd.DataFrame, id_col: Any, time_col: Any, target_col: Any
) -> tuple[Any, Any, Any]:
    """The column names to read, the second dialect and a missing id column resolved."""
    columns = set(df.columns)
    if (id_col, time_col, target_col) == ("unique_id", "ds", "y"):
        other = "item_id" in columns or columns >= {"timestamp", "target"}
        if other and "unique_id" not in columns and not columns >= {"ds", "y"}:
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
    """A long frame with its stamps in a column, and the names of its columns; all of them are
    there.

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
        default = time_col in ("ds", "timestamp")
        if df.index.name == time_col or (
            default and isinstance(df.index, pd.DatetimeIndex | pd.PeriodIndex)
        ):
            time_col = time_col if df.index.name is None else df.index.name
            df = _with_level(df.reset_index(drop=True), time_col, df.index)
        elif default:
            codes = (
                np.zeros(len(df), dtype=np.int64)
                if id_col not in df.columns
                else pd.factorize(df[id_col])[0]
            )
            time_col = find_time_col(df, [*taken, id_col, target_col], codes) or time_col
    wanted = {"id_col": id_col, "time_col": time_col, "target_col": target_col}
    given = {key: name for key, name in wanted.items() if name is not None}
    defaults = ("ds", "y", "timestamp", "target")  # what somebody named is missed first
    require_columns(df, dict(sorted(given.items(), key=lambda pair: pair[1] in defaults)))
    if len(set(wanted.values())) < 3:
        raise ValueError(
            f"id_col, time_col and target_col must be three columns; got {list(wanted.values())!r}"
        )
    return df, (id_col, time_col, target_col)


def _with_level(df: pd.DataFrame, name: Any, level: pd.Index) -> pd.DataFrame:
    if name in df.columns:
        raise ValueError(
            f"column {name!r} stands in the index as well, but names must be unique; drop one of"
            " them"
        )
    df.insert(0, name, level)
    return df


def with_levels(df: pd.DataFrame, id_col: Any, time_col: Any) -> tuple[pd.DataFrame, Any, Any]:
    """A frame whose index has the levels id and time, in any order, with both as columns; it and
    their names.

    Raises:
        ValueError: If there are other levels.
    """
    levels = [df.index.get_level_values(i) for i in range(df.index.nlevels)]
    dated = [
        i for i, level in enumerate(levels) if level.name is not None and level.name == time_col
    ]
    dated = dated or [i for i, level in enumerate(levels) if _is_time(level)]
    if not dated and len(levels) == 2:
        owner = pd.factorize(levels[0])[0]
        dated = (
            [1]
            if _reads_as_times(levels[1].to_series(), owner) or levels[1].dtype.kind in "iu"
            else []
        )
    if len(levels) != 2 or len(dated) != 1:
        raise ValueError(
            f"an index of several levels must hold ids and times; got {len(levels)} levels"
            f" {list(df.index.names)!r}, {len(dated) or 'none'} of times; make columns of them by"
            " reset_index, and name these by id_col= and time_col="
        )
    time = levels[dated[0]]
    ids = levels[1 - dated[0]]
    time_col = time.name if time.name is not None and time_col == "ds" else time_col
    id_col = (
        ids.name
        if ids.name is not None and id_col in (None, "unique_id")
        else id_col or "unique_id"
    )
    flat = _with_level(df.reset_index(drop=True), time_col, time)
    return _with_level(flat, id_col, ids), id_col, time_col


def _is_time(column: pd.Series | pd.Index) -> bool:
    return pd.api.types.is_datetime64_any_dtype(column.dtype) or isinstance(
        column.dtype, pd.PeriodDtype
    )


def find_time_col(
    df: pd.DataFrame, taken: Sequence[Any] = (), codes: np.ndarray | None = None
) -> Any:
    """The column that holds the stamps, or None.

    It is the one called so (date, ds, timestamp, time, datetime), else the one of datetimes; else,
    if the index only counts the rows, the one of text that reads as stamps, or of numbers that do
    and rise evenly.

    Args:
        df: The frame.
        taken: Columns that are something else.
        codes: Series of each row; None for a wide frame, which keeps a column of values.

    Raises:
        ValueError: If several columns could be it.
    """
    columns = [column for column in df.columns if column not in taken]
    if isinstance(df.index, pd.DatetimeIndex | pd.PeriodIndex) or (
        codes is None and len(columns) < 2
    ):
        return None
    found = [column for column in columns if str(column).lower() in _TIME_NAMES]
    found = found or [column for column in columns if _is_time(df[column])]
    if not found and df.index.name is None and df.index.dtype.kind in "iu":
        found = [c for c in columns if _reads_as_times(df[c], codes)]
    if len(found) > 1:
        # A day beside the stamps of its hours repeats.
        series = np.zeros(len(df)) if codes is None else codes
        once = [
            c
            for c in found
            if not pd.DataFrame({"series": series, "time": df[c].to_numpy()}).duplicated().any()
        ]
        found = once or found
    if len(found) > 1:
        raise ValueError(
            f"columns {found!r} could all hold the stamps, but one must; name it by time_col=, or"
            " join them"
        )
    return found[0] if found else None


def _reads_as_times(column: pd.Series, codes: np.ndarray | None, *, years: bool = True) -> bool:
    """Whether text reads as stamps, or numbers do and rise evenly, or are called so and occur once
    in a series.
    """
    if not pd.api.types.is_numeric_dtype(column.dtype):
        if pd.api.types.infer_dtype(column.iloc[:9], skipna=True) != "string":
            return False
        try:
            return all(
                len(read_stamps(rows, "", lambda row: "")) for rows in (column.iloc[:1], column)
            )
        except (ValueError, TypeError):
            return False
    first = column.iloc[0]
    if not isinstance(first, Real) or not float(first) >= 1000:  # most columns, told fast
        return False
    called = str(column.name).lower() in _PARTS
    stamps = None
    numbers = whole_numbers(column)
    if numbers is not None:
        stamps = spelt_stamps(numbers, years=years and (called or column.dtype.kind in "iu"))
    elif called and column.dtype.kind == "f":
        stamps = decimal_years(column.to_numpy(dtype=np.float64, na_value=np.nan))
    if stamps is None or stamps.isna().any():
        return False
    clock = stamps.astype(np.int64).to_numpy()
    owner = np.zeros(len(column), dtype=np.int64) if codes is None else codes
    order = np.lexsort((clock, owner))
    inner = owner[order][1:] == owner[order][:-1]
    once = bool((np.diff(clock[order])[inner] > 0).all())
    rising = np.array_equal(order, np.argsort(owner, kind="stable"))
    return once and (called or (rising and _is_even(stamps.iloc[order], owner[order])))


def _is_even(stamps: pd.Series, codes: np.ndarray) -> bool:
    times = pd.DatetimeIndex(stamps)
    starts = np.append(np.flatnonzero(np.diff(codes, prepend=-1)), len(codes))
    try:
        place(times, starts, infer_grid(times, starts, str), inferred=True, name=str)
    except ValueError:
        return False
    return True


def value_cols(df: pd.DataFrame, columns: Sequence[Any]) -> list[Any]:
    """Those columns of a wide frame that can be forecast; the numbers of an index are left out,
    with a warning.

    Raises:
        ValueError: If a column holds times, or a part of them such as the month.
    """
    kept = []
    for column, cells in ((column, df[column]) for column in columns):
        if _numbers_rows(cells):
            warnings.warn(f"column {column!r} numbers the rows and is left out", stacklevel=2)
            continue
        if _is_part(cells) or _reads_as_times(cells, None, years=False):
            raise ValueError(
                f"column {column!r} holds times, {plain(cells.iloc[0])!r:.60} in row 0, which"
                " cannot be forecast; name the time column by time_col=, one that joins year,"
                " month and the like, those of a long table by id_col= and target_col= as well, or"
                " drop it"
            )
        kept.append(column)
    return kept


def refuse_sideways(df: pd.DataFrame, columns: Sequence[Any]) -> None:
    """Refuse a wide frame without times whose columns of numbers are named by times: its rows are
    the series.
    """
    named = [column for column in columns if pd.api.types.is_numeric_dtype(df[column].dtype)]
    names = [int(text) if text.isdigit() else text for text in map(str, named)]
    if len(names) > 2 and _reads_as_times(pd.Series(names), None):
        raise ValueError(
            f"columns {names[0]!r} to {names[-1]!r} are named by times, but a row must be a time"
            " and a column a series; transpose the table, or give the columns other names"
        )


def _numbers_rows(column: pd.Series) -> bool:
    """Whether it is the index that a file was written with."""
    name = "" if column.name is None else column.name
    if name not in _INDEX_NAMES or (numbers := whole_numbers(column)) is None:
        return False
    return (
        pd.Index(numbers).is_unique
        if name in _INDEX_NAMES[:3]
        else np.array_equal(numbers, np.arange(len(numbers)))
    )


def _is_part(column: pd.Series) -> bool:
    """Whether it holds the year, the month or another part of a time, by its name and
    its numbers.
    """
    bounds = _PARTS.get(str(column.name).lower())
    if bounds is None or not pd.api.types.is_numeric_dtype(column.dtype):
        return False
    inside = bool(column.between(*bounds).all())
    return inside and (bounds == _PARTS["year"] or whole_numbers(column) is not None)


def read_ids(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Series number of each row, and the sorted ids."""
    gone = np.flatnonzero(column.isna())
    if len(gone):
        raise ValueError(
            f"column {column.name!r} has no id in row {gone[0]}{more(len(gone))}, but every row"
            " belongs to a series; fill in or drop these rows"
        )
    try:
        codes, ids = pd.factorize(column, sort=True)
    except TypeError as error:
        raise TypeError(
            f"the ids of column {column.name!r} cannot be sorted ({error}); convert them to text"
        ) from error
    return codes, np.asarray(ids)


def read_numbers(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """A copy as float64 with NaN where missing, and where a cell is no number."""
    kind = column.dtype
    if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_complex_dtype(kind):
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
        return numbers, np.zeros(len(column), dtype=bool)
    numbers = np.full(len(column), np.nan)
    present = column.notna().to_numpy()
    if kind != np.dtype(object):
        return numbers, present
    number = (
        np.fromiter((isinstance(cell, _NUMBERS) for cell in column), dtype=bool, count=len(column))
        & present
    )
    numbers[number] = [_float(cell) for cell in column[number]]
    return numbers, present & ~number


def plain(name: Any) -> Any:
    """A numpy scalar as the Python value that people typed."""
    if isinstance(name, np.datetime64):
        return str(pd.Timestamp(name))
    return name.item() if isinstance(name, np.generic) else name


def _float(number: Any) -> float:
    try:
        return float(number)
    except OverflowError:  # an integer beyond float64
        return np.inf


def read_stamps(
    column: pd.Series | pd.Index,
    label: str,
    name: Callable[[int], str],
    unit: str | None = None,
    wanted: pd.Index | None = None,
) -> pd.Index:
    """A time column as a DatetimeIndex (time zone and unit kept) or an integer index.

    Text is read as ISO 8601, or by one common layout that fits the whole column. Text or objects
    with different UTC offsets become UTC, or local times without an offset where these are all of
    one time of the day, as days are where the clocks change. Periods, quarters and weeks become
    their first instant, years and months in decimals (1949.083) too. Integers are read as
    :func:`spelt_stamps` does.

    Args:
        column: The stamps as they came.
        label: What to call the column in an error.
        name: What to call the series of a row in an error.
        unit: Unit of the frequency (see :class:`tsattn.data.calendar.Grid`) if it is known:
            ``"integer"`` leaves integers as they are, any other takes years for stamps as well.
        wanted: Stamps of which those that are meant are some; they tell days from months.

    Raises:
        TypeError: If the column holds neither stamps, text nor integers.
        ValueError: If a stamp is missing, cannot be read, or could be read day first or month
            first.
    """
    series = pd.Series(column.array, copy=False)  # rows by number; nothing is written to it
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(series.cat.categories.dtype)
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind in _READ:
        gone = np.flatnonzero(series.isna())
        if len(gone):
            raise ValueError(
                f"{name(gone[0])}: {label} has no stamp in row {gone[0]}{more(len(gone))}, but"
                " every row needs one; fill in or drop these rows"
            )
    if kind == "integer":
        far = np.flatnonzero((series < -_REACH) | (series > _REACH))
        if len(far):
            raise ValueError(
                f"{name(far[0])}: {label} holds {series[far[0]]} in row {far[0]}{more(len(far))},"
                f" but integer time must stay within ±{_REACH}; correct it"
            )
        series = series.astype(np.int64)
    numbers = whole_numbers(series) if kind in ("integer", "floating") else None
    stamps = (
        None
        if numbers is None or unit == "integer"
        else spelt_stamps(numbers, years=unit is not None)
    )
    if numbers is not None and stamps is None:
        return pd.Index(numbers.copy())
    stamps = _stamps(series, kind, label, wanted) if stamps is None else stamps
    bad = np.flatnonzero(stamps.isna())
    if len(bad):
        raise ValueError(
            f"{name(bad[0])}: {label} holds {series[bad[:1]].tolist()[0]!r:.60} in row"
            f" {bad[0]}{more(len(bad))}, which cannot be read as a stamp of the years {_YEARS[0]}"
            f" to {_YEARS[1]}; correct it, or pass datetimes, as from pd.to_datetime(...,"
            " format=...)"
        )
    return pd.DatetimeIndex(stamps, copy=True).rename(None)


def _stamps(series: pd.Series, kind: str, label: str, wanted: pd.Index | None) -> pd.Series:
    """Stamps of a column that holds no whole numbers, NaT where one cannot be read."""
    years = decimal_years(series.to_numpy(dtype=np.float64)) if kind == "floating" else None
    if years is not None:
        return years
    if kind == "string":
        return _read_text(series.astype(object), label, wanted)
    if kind == "period":
        return pd.Series(pd.PeriodIndex(series).to_timestamp())
    if kind == "date":  # those of pyarrow have no unit
        series = series.astype(object)
    elif pd.api.types.is_datetime64_any_dtype(series.dtype):
        return series if series.dt.unit == "ns" else series.where(series.dt.year.between(*_YEARS))
    if kind in ("datetime", "date", "datetime64"):
        zones = series.map(lambda cell: getattr(cell, "tzinfo", None))
        _refuse_half_zoned(series, zones.notna(), label)
        if len(set(zones)) > 1:
            return _of_changing_offsets(series, series.map(lambda cell: cell.replace(tzinfo=None)))
        return pd.to_datetime(series, errors="coerce")
    raise TypeError(
        f"{label} must hold stamps, text that reads as stamps, or integers; got {kind}; convert it"
        " with pd.to_datetime"
    )


def whole_numbers(column: pd.Series) -> np.ndarray | None:
    """Numbers as int64 if all are whole."""
    if not pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_complex_dtype(
        column.dtype
    ):
        return None
    numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    whole = bool(
        (np.isfinite(numbers) & (np.abs(numbers) <= _REACH) & (numbers == np.rint(numbers))).all()
    )
    return column.to_numpy(dtype=np.int64) if whole else None


def spelt_stamps(numbers: np.ndarray, *, years: bool = False) -> pd.Series | None:
    """Stamps that integers spell: 20240131, 202401 and the like, or seconds or finer units since
    1970.

    Args:
        numbers: Integers, ``[rows]``.
        years: Whether four digits are years.

    Returns:
        ``[rows]``, NaT where a few do not fit; None if the numbers are nothing of the kind.

    Example:
        >>> spelt_stamps(np.array([202401, 202402])).dt.month.tolist()
        [1, 2]
    """
    if not len(numbers) or numbers.min() < 1000:
        return None
    distinct, row = np.unique(numbers, return_inverse=True)
    digits = len(str(distinct[0]))
    low = int(distinct[0])
    high = int(distinct[-1])
    if digits == len(str(high)) and digits in _DIGITS and (years or digits > 4):
        stamps = pd.to_datetime(
            pd.Series(distinct).astype(str), format=_DIGITS[digits], errors="coerce"
        )
        if stamps.notna().mean() > 0.9:
            return stamps.iloc[row].reset_index(drop=True)
    for unit, size in _UNITS.items():
        if _EPOCH[0] * size <= low and high < _EPOCH[1] * size:
            return pd.Series(numbers.astype(f"M8[{unit}]").astype("M8[ns]"))
    return None


def decimal_years(numbers: np.ndarray) -> pd.Series | None:
    """Months of years such as 1949.083, if all numbers are years and months."""
    months = np.rint((numbers - 1970) * 12)
    near = np.abs(numbers - 1970 - months / 12) < 0.002
    inside = (numbers > _YEARS[0]) & (numbers < _YEARS[1] + 1)
    return pd.Series(months.astype("M8[M]").astype("M8[ns]")) if (near & inside).all() else None


def _refuse_half_zoned(cells: pd.Series, zoned: pd.Series, label: str) -> None:
    if zoned.any() and not zoned.all():
        row = int(np.flatnonzero(~zoned if zoned.iloc[0] else zoned)[0])
        raise ValueError(
            f"{label}: {str(cells[row])!r} in row {row} and {str(cells[0])!r} in row 0 cannot be"
            " compared, since only some stamps carry a UTC offset; give all of them one or none"
        )


def _read_text(text: pd.Series, label: str, wanted: pd.Index | None) -> pd.Series:
    """Stamps of a column of text, NaT where one cannot be read."""
    if text.iloc[0].endswith(("UTC", "GMT")):
        text = text.str.replace(r"\s*(?:UTC|GMT)$", "Z", regex=True)
    offsets = text.str.extract(_OFFSET, expand=False)
    _refuse_half_zoned(text, offsets.notna(), label)
    if _QUARTER.fullmatch(text.iloc[0]):
        text = text.str.replace(
            _QUARTER, lambda m: f"{m[1] or m[4]}-{3 * int(m[2] or m[3]) - 2:02}", regex=True
        )
    if _WEEK.fullmatch(text.iloc[0]):
        return pd.to_datetime(
            text.str.replace(_WEEK, r"\1-\2-1", regex=True), format="%G-%V-%u", errors="coerce"
        )
    if offsets.nunique() > 1:
        local = text.str.replace(_OFFSET, lambda m: m[0].removesuffix(m[1]).rstrip(), regex=True)
        return _of_changing_offsets(text, local)
    stamps = pd.to_datetime(text, format="ISO8601", errors="coerce")
    if not stamps.isna().iloc[0]:
        return stamps
    layouts = [
        date + hour for date in _DATES for hour in _HOURS if _fits(text.iloc[0], date + hour)
    ]
    readings = [pd.to_datetime(text, format=layout, errors="coerce") for layout in layouts]
    whole = [reading for reading in readings if reading.notna().all()]
    if len(whole) > 1 and not whole[0].equals(whole[1]):
        found = [reading.isin([] if wanted is None else wanted).sum() for reading in whole]
        if found[0] != found[1]:
            return whole[int(np.argmax(found))]
        raise ValueError(
            f"{label}: {text[0]!r} in row 0 and all other stamps can be read day first or month"
            " first; pass datetimes, as from pd.to_datetime(..., dayfirst=True)"
        )
    return max(readings, key=lambda reading: int(reading.notna().sum()), default=stamps)


def _of_changing_offsets(stamps: pd.Series, local: pd.Series) -> pd.Series:
    """Days and longer steps by the clock on the wall, which is even where the offset changes; all
    others in UTC.
    """
    wall = pd.to_datetime(local, format="ISO8601", errors="coerce")
    utc = pd.to_datetime(stamps, format="ISO8601", errors="coerce", utc=True)
    days = (
        wall - wall.dt.normalize()
    ).nunique() == 1 and wall.nunique() == utc.nunique()  # no hour that occurs twice
    return wall if days else utc


def _fits(text: str, layout: str) -> bool:
    try:
        datetime.strptime(text, layout)
    except ValueError:
        return False
    return True
