"""Series that several columns name together, such as a store and an item."""

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype, is_bool_dtype, is_numeric_dtype, is_object_dtype

from tsattn.checks import Argument, InputError, InPython
from tsattn.data.parts import names_rows, part_of, refuse_blank_ids

# Joins the values of several columns to one name; a value that holds it is escaped.
_SEPARATOR = "/"
_ESCAPE = "\\"
_PART = re.compile(r"((?:[^/\\]|\\.)*)/", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
# Floats hold all whole numbers up to this one.
_LARGEST_WHOLE = 2.0**53
# Columns that are looked at, and joined, at most.
_MOST_CANDIDATES = 12
_MOST_KEYS = 3
# Rows that a series must have on average before columns count as its names.
_LEAST_ROWS = 3
# Share of the stamps that each series must have on average.
_LEAST_OVERLAP = 0.3
# A number of text, maybe with groups of digits and a currency; zeros in front are those of a code.
_SPELT_NUMBER = r"\W*(?!0\d)(?:\d{1,3}(?:[.,'\u2019\s]\d{3})+|\d+)(?:[.,]\d+)?\W*"
# Share of the filled cells that must be numbers in a column that may hold the values.
_MEASURED_SHARE = 0.5
# Words in the names of columns that name series, by preference, before all others.
_KEY_WORD = re.compile(
    "id|key|code|name|store|shop|item|sku|product|article|series|region|country|state|city|site"
    "|station|sensor|meter|customer|family|dept|department|category|warehouse|branch|group|nbr"
)


def join_keys(frame: pd.DataFrame, keys: Sequence[Hashable]) -> tuple[pd.DataFrame, str]:
    """A frame with one more column, which names the series by the values of several.

    Args:
        frame: The table; it stays as it was.
        keys: Columns that name series together, all of them in the frame.

    Returns:
        The frame, and the name of its new column, of categories in the order of the keys.

    Raises:
        ValueError: If a key has no value in some row, or two that are the same text.
    """
    for key in keys:
        refuse_blank_ids(frame[key])
    name = joined_name(keys)
    key_frame = frame[[*keys]]
    distinct = key_frame.drop_duplicates()
    # The last of these sorts first.
    ranks = [_ranks(distinct[key]) for key in reversed(keys)]
    order = np.lexsort(ranks)
    distinct = distinct.iloc[order]
    ids = joined_ids(distinct, keys)
    n_names = len({*ids})
    if n_names < len(ids):
        _refuse_alike(distinct, keys)
    distinct_keys = pd.MultiIndex.from_frame(distinct)
    row_keys = pd.MultiIndex.from_frame(key_frame)
    place = distinct_keys.get_indexer(row_keys)
    categories = pd.Index(ids, dtype=object)
    column = pd.Categorical.from_codes(place.tolist(), categories=categories)
    return frame.assign(**{name: column}), name


def _refuse_alike(distinct: pd.DataFrame, keys: Sequence[Hashable]) -> None:
    """Name two values of a key that are the same text, such as 1 and "1"."""
    for key in keys:
        values = distinct[key].drop_duplicates()
        first_spelling: dict[str, Any] = {}
        for value in values:
            text = _key_text(value)
            earlier_value = first_spelling.setdefault(text, value)
            if earlier_value is not value:
                raise InputError(
                    f"column {key!r} holds {earlier_value!r:.60} and {value!r:.60}, which are the"
                    " same text, but keys must differ as text; write them alike if they are one, or"
                    " rename one of them"
                )


def key_values(column: pd.Series) -> dict[str, Any]:
    """The values of a key by their texts, if they are of several types or of a type that no dtype
    represents; empty otherwise.
    """
    values: Any = column
    if isinstance(column.dtype, pd.CategoricalDtype):
        values = column.cat.categories
    has_dtype = not is_object_dtype(values.dtype)
    if has_dtype or infer_dtype(values) == "string":
        return {}
    return {_plain_text(value): value for value in pd.unique(values)}


def _ranks(column: pd.Series) -> np.ndarray:
    """Places of values in their order, or in that of their text where they are of several types."""
    kind = infer_dtype(column)
    if kind.startswith("mixed"):
        column = column.astype(str)
    codes, _ = pd.factorize(column, sort=True)
    return codes


def joined_name(keys: Sequence[Hashable]) -> str:
    """Name of the column that stands for several."""
    return _SEPARATOR.join(map(str, keys))


def joined_ids(frame: pd.DataFrame, keys: Sequence[Hashable]) -> list[str]:
    """Names of series by the values of their keys, one a row."""
    parts = [map(_key_text, frame[key]) for key in keys]
    return [_SEPARATOR.join(values) for values in zip(*parts, strict=True)]


def _key_text(value: Any) -> str:
    """A value as a part of a name."""
    text = _plain_text(value).replace(_ESCAPE, _ESCAPE + _ESCAPE)
    return text.replace(_SEPARATOR, _ESCAPE + _SEPARATOR)


def _plain_text(value: Any) -> str:
    """A value as text. Whole numbers are alike in columns of integers and of floats."""
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_WHOLE
    if is_whole:
        value = int(value)
    return str(value)


def split_ids(
    ids: Sequence[str],
    keys: Sequence[Hashable],
    dtypes: Sequence[Any],
    values_by_text: Sequence[Mapping[str, Any]],
) -> dict[Hashable, pd.Series]:
    """The columns of the keys from names that :func:`joined_ids` gave.

    Args:
        ids: Names of series, ``[rows]``.
        keys: The columns.
        dtypes: Their dtypes.
        values_by_text: What :func:`key_values` gave of each.
    """
    names = np.asarray(ids, dtype=object).astype(str)
    distinct, row = np.unique(names, return_inverse=True)
    parts = [_split(text) for text in distinct]
    columns: dict[Hashable, pd.Series] = {}
    key_kinds = zip(keys, dtypes, values_by_text, strict=True)
    for k, (key, dtype, by_text) in enumerate(key_kinds):
        words_of_key = [words[k] for words in parts]
        texts = pd.Series(words_of_key, dtype=object)
        values = _values_of(texts, dtype, by_text)
        of_rows = values.iloc[row]
        columns[key] = of_rows.reset_index(drop=True)
    return columns


def _values_of(texts: pd.Series, dtype: Any, by_text: Mapping[str, Any]) -> pd.Series:
    """The values of a key from their texts."""
    if by_text:
        # Values that came later have no other form than their text.
        values = [by_text.get(text, text) for text in texts]
        return pd.Series(values, dtype=object).astype(dtype)
    if is_bool_dtype(dtype):
        # Every text that is not empty would be True.
        return texts == "True"
    if isinstance(dtype, pd.CategoricalDtype):
        return texts.astype(dtype.categories.dtype).astype(dtype)
    return texts.astype(dtype)


def _split(text: str) -> list[str]:
    # Each part is followed by a separator, and what stands behind an escape is plain text.
    parts = _PART.findall(text + _SEPARATOR)
    return [_ESCAPED.sub(r"\1", part) for part in parts]


def find_keys(
    frame: pd.DataFrame, times: pd.Series | pd.Index, columns: Sequence[Hashable]
) -> tuple[Hashable, ...]:
    """The fewest columns whose values, with the stamp, occur once; none if there are no such.

    Among as many columns those count that are named like ids, then those that make the fewest
    series. Rows that are alike in all cells count once.

    Args:
        frame: A long table.
        times: Its stamps.
        columns: Columns that may name series; those of text, categories and whole numbers count
            whose values come again and again.

    Raises:
        ValueError: If only columns tell series apart that miss a value in some row.
    """
    n_rows = len(frame)
    most_values = n_rows / _LEAST_ROWS
    stamp, _ = pd.factorize(times)
    codes: dict[Hashable, np.ndarray] = {}
    for column in columns:
        values = _key_codes(frame[column])
        if values is None:
            continue
        n_values = len(np.unique(values))
        if 1 < n_values <= most_values:
            codes[column] = values
    complete_codes = {column: values for column, values in codes.items() if (values >= 0).all()}
    keys = _fewest_keys(complete_codes, stamp) or _keys_of_distinct(frame, complete_codes, stamp)
    if keys or len(complete_codes) == len(codes):
        return keys
    # A row without an id is one of a further series.
    filled = {
        column: np.where(values < 0, values.max() + 1, values) for column, values in codes.items()
    }
    keys = _fewest_keys(filled, stamp)
    for key in keys:
        refuse_blank_ids(frame[key], ", or name other columns by ", Argument("id_col"))
    return keys


def find_blocks(
    frame: pd.DataFrame, columns: Sequence[Hashable], read_clock: Callable[[], np.ndarray]
) -> tuple[Hashable, ...]:
    """The column whose values name blocks of rows, one below another, that lie in the same time;
    none if there is no such column, or more than one.

    Args:
        frame: A table of which no stamp occurs twice.
        columns: Columns that may name series; those of text and categories count.
        read_clock: Function that reads the stamps as integers, or raises ValueError or TypeError.
    """
    blocks: dict[Hashable, np.ndarray] = {}
    for column in columns:
        values = frame[column]
        if infer_dtype(values, skipna=False) not in ("string", "categorical"):
            continue
        codes, names = pd.factorize(values)
        n_blocks = len(names)
        # A name that came again after another one would be a further change.
        n_changes = np.count_nonzero(np.diff(codes))
        is_in_blocks = n_changes == n_blocks - 1
        is_long = len(frame) >= _LEAST_ROWS * n_blocks
        if n_blocks > 1 and is_in_blocks and is_long and codes.min() >= 0:
            blocks[column] = codes
    if len(blocks) != 1:
        return ()
    try:
        clock = pd.Series(read_clock())
    except (ValueError, TypeError):
        return ()
    ((block_col, codes),) = blocks.items()
    spans = clock.groupby(codes).agg(["min", "max"]).sort_values("min")
    begins = spans["min"].to_numpy()
    latest_ends = spans["max"].cummax().to_numpy()
    # A block overlaps if it begins before one of those that began earlier has ended.
    overlaps = begins[1:] < latest_ends[:-1]
    return (block_col,) if overlaps.any() else ()


def _fewest_keys(codes: dict[Hashable, np.ndarray], stamp: np.ndarray) -> tuple[Hashable, ...]:
    """The fewest columns that tell rows of the same stamp apart.

    Args:
        codes: Numbers of the values of each column.
        stamp: Numbers of the stamps.
    """
    n_rows = len(stamp)
    n_stamps = int(stamp.max(initial=-1)) + 1
    least_rows = max(_LEAST_ROWS, _LEAST_OVERLAP * n_stamps)  # of a series, on average
    candidates = sorted(codes, key=unlike_ids)[:_MOST_CANDIDATES]
    for n_keys in range(1, _MOST_KEYS + 1):
        options = []
        for keys in combinations(candidates, n_keys):
            parts = [codes[key] for key in keys]
            series = _joint_codes(parts)
            n_series = int(series.max()) + 1
            if n_rows < least_rows * n_series:
                continue
            cells = series * n_stamps + stamp
            if len(np.unique(cells)) == n_rows:
                n_unlike_ids = sum(map(unlike_ids, keys))
                options.append((n_unlike_ids, n_series, keys))
        if options:
            _, _, best_keys = min(options, key=lambda option: option[:2])
            return best_keys
    return ()


def _keys_of_distinct(
    frame: pd.DataFrame, codes: dict[Hashable, np.ndarray], stamp: np.ndarray
) -> tuple[Hashable, ...]:
    """As :func:`_fewest_keys`, of a table in which some rows occur twice; none of another one."""
    rows = frame.reset_index(drop=True)
    try:
        is_distinct = ~pd.concat([rows, pd.Series(stamp)], axis=1).duplicated().to_numpy()
    except TypeError:
        # Cells that are lists have no hash.
        return ()
    stamps = stamp[is_distinct]
    has_repeated_stamps = len(np.unique(stamps)) < len(stamps)
    if is_distinct.all() or not has_repeated_stamps:
        return ()
    return _fewest_keys({key: values[is_distinct] for key, values in codes.items()}, stamps)


def _key_codes(column: pd.Series) -> np.ndarray | None:
    """Numbers of the distinct values of a column that may name series, -1 where one is missing, or
    None. Whole numbers are floats where a cell of the column is empty.
    """
    values = column.dropna()
    kind = infer_dtype(values, skipna=False)
    is_whole = kind == "floating" and (values.astype(float) % 1 == 0).all()
    if kind not in ("string", "integer", "categorical") and not is_whole:
        return None
    codes, _ = pd.factorize(column)
    return codes


def unlike_ids(column: Hashable) -> bool:
    """Whether no word of the name of a column says that it names series."""
    return _KEY_WORD.search(str(column).casefold()) is None


def _joint_codes(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Numbers of the distinct pairs, triples and so on."""
    joint = parts[0].astype(np.int64)
    for part in parts[1:]:
        n_values = int(part.max()) + 1
        pairs = joint * n_values + part
        _, joint = np.unique(pairs, return_inverse=True)
    return joint


def value_col(frame: pd.DataFrame, keys: Sequence[Hashable], columns: Sequence[Hashable]) -> Any:
    """The only column of numbers beside the keys.

    Args:
        frame: A long table.
        keys: Columns that name its series.
        columns: Columns that are neither stamps nor covariates.

    Raises:
        ValueError: If there is none or more than one.
    """
    from tsattn.data.spelling import spelt_numbers

    numbers = []
    spelt = []
    for column in columns:
        if column in keys:
            continue
        dtype = frame[column].dtype
        # pandas counts booleans among the numbers.
        is_bool = is_bool_dtype(dtype)
        if is_numeric_dtype(dtype) and not is_bool:
            numbers.append(column)
        elif np.isfinite(spelt_numbers(frame[column])[0]).any():
            spelt.append(column)
    if len(numbers) == 1:
        # A few words among numbers, as on closed days, make no column of text.
        found = numbers[0]
        others = [name for name in columns if name not in keys]
        numbers = [name for name in others if name == found or _is_measured(frame, keys, name)]
    if len(numbers) == 1:
        return numbers[0]
    key_names = " and ".join(map(repr, keys))
    candidates = "none of the others holds numbers"
    example = ""
    if spelt:
        candidates = f"{spelt!r} hold numbers and other text"
        example = f", such as Schema(target_col={spelt[0]!r})"
    if numbers:
        candidates = f"{numbers!r} hold numbers"
        measured = [name for name in numbers if not _is_mark(frame[name])]
        likely = [name for name in measured if unlike_ids(name)]
        likeliest = [*likely, *measured, *numbers][0]
        example = f", such as Schema(target_col={likeliest!r})"
    verb = "tell" if len(keys) > 1 else "tells"
    raise InputError(
        f"{key_names} {verb} series apart, and {candidates}, but one column must hold the values;"
        " name it by ",
        Argument("target_col"),
        InPython(example),
    )


def _is_measured(frame: pd.DataFrame, keys: Sequence[Hashable], name: Hashable) -> bool:
    """Whether most cells of a column with text are numbers, and change within a series."""
    column = frame[name]
    texts = column.astype(str).str.strip()
    is_number = column.notna() & texts.str.fullmatch(_SPELT_NUMBER)
    if is_number.sum() <= _MEASURED_SHARE * column.notna().sum() or not unlike_ids(name):
        return False
    ids = [frame[key] for key in keys]
    n_values = texts.where(is_number).groupby(ids, observed=True).nunique()
    return bool((n_values > 1).any())


def _is_mark(column: pd.Series) -> bool:
    """Whether a column of numbers holds parts of times, counts rows, or holds 0 and 1 only, as for
    open and closed.
    """
    is_count = bool(part_of(column.name)) or names_rows(column.name)
    return is_count or bool(column.dropna().isin((0, 1)).all())
