"""Times in several columns, such as a year and its months, or days and their hours."""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import time
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype, is_numeric_dtype

from tsattn.checks import Argument, InputError, InPython, Piece
from tsattn.data.calendar import more

# Names of columns of stamps, in small letters.
TIME_NAMES = {"date", "ds", "timestamp", "time", "datetime"}
# Parts of times by the names of their columns, and the numbers that these may hold.
PARTS = {
    "year": (1678, 2261),
    "quarter": (1, 4),
    "month": (1, 12),
    "week": (1, 53),
    "weekday": (0, 7),
    "day": (1, 31),
    "hour": (0, 24),
    "minute": (0, 59),
    "dayofyear": (1, 366),
}
# Other names of such columns, in small letters without separators. HE is the hour's end, from 1 to
# 24, in tables of electricity.
_OTHER_NAMES = {
    "he": "hour",
    "hr": "hour",
    "hourending": "hour",
    "hourofday": "hour",
    "yr": "year",
    "fiscalyear": "year",
    "isoyear": "year",
    "qtr": "quarter",
    "monthofyear": "month",
    "monthnumber": "month",
    "wk": "week",
    "isoweek": "week",
    "weekofyear": "week",
    "weeknumber": "week",
    "yearweek": "week",
    "dayofmonth": "day",
    "doy": "dayofyear",
    "yday": "dayofyear",
    "julianday": "dayofyear",
    "dayofweek": "weekday",
    "dow": "weekday",
    "jahr": "year",
    "quartal": "quarter",
    "monat": "month",
    "woche": "week",
    "kalenderwoche": "week",
    "wochentag": "weekday",
    "stunde": "hour",
    "année": "year",
    "annee": "year",
    "trimestre": "quarter",
    "mois": "month",
    "semaine": "week",
    "jour": "day",
    "heure": "hour",
}
# Words that are such names only beside a year: a kW is a unit, and a tag a mark.
_NAMES_BESIDE_YEARS = {"kw": "week", "tag": "day"}
_SEPARATORS = re.compile(r"[\s_.-]")
# Names, in small letters without separators, of the column that pandas, R or a database makes of an
# index in a file.
_INDEX_NAMES = {"unnamed:0", "rownames", "id", "rowid"}
# Usual names of a count of the rows, which a real column may carry too.
_COUNT_NAMES = {
    *("index", "level0", "t", "row", "rownumber", "rownum", "rownr", "rowno", "#", "no", "nr"),
    *("n°", "nº", "sno", "srno", "serialno", "seq", "obs", "record", "recordno"),
    *("lfd", "lfdnr", "laufnr", "laufendenummer", "zeile", "zeilennr", "ligne", "numligne"),
}
_JOINED_PARTS = (
    ("year", "month", "day"),
    ("year", "month"),
    ("year", "week"),
    ("year", "quarter"),
    ("year", "dayofyear"),
)
_CLOCK_UNITS = {"hour": "h", "minute": "min", "second": "s"}
# Kinds of pandas' infer_dtype that pd.to_datetime reads.
_KINDS_OF_DAYS = ("string", "date", "datetime", "datetime64")
# Ways of writing days, besides ISO 8601.
_LAYOUTS_OF_DAYS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d-%b-%Y")
_JOINED_NAMES = "df.columns = [' '.join(map(str, names)).strip() for names in df.columns]"
# Rows below the first line that hold names of columns, at most.
_MOST_HEADER_ROWS = 3
# Rows at the beginning of a table in which units above numbers are looked for.
_SEEN_ROWS = 10
# Columns with units that an error names at most; of more it names the others.
_MOST_UNITS = 9
# Empty cells below merged ones, as a share of a column, at least.
_MERGED_SHARE = 0.5
# Text of a number or a time; units such as m3 have digits at other places.
_VALUE = re.compile(r"\W*\d|.*\d{4}")
# A time of day, with seconds or without.
_CLOCK = re.compile(r"\s*\d{1,2}:\d{2}(:\d{2})?\s*")


def part_of(name: Any) -> str:
    """The part of times that a column is named like, one of ``PARTS``; empty for other names.

    Example:
        >>> part_of("Hour Ending"), part_of("day_of_year"), part_of("sales")
        ('hour', 'dayofyear', '')
    """
    word = _word(name)
    part = _OTHER_NAMES.get(word, word)
    return part if part in PARTS else ""


def names_index(name: Any) -> bool:
    """Whether a column is named like an index in a file."""
    return name in (None, "") or _word(name) in _INDEX_NAMES


def names_rows(name: Any) -> bool:
    """Whether a column is named like an index or another count of rows.

    Example:
        >>> names_rows("lfd. Nr."), names_rows("Unnamed: 0"), names_rows("sales")
        (True, True, False)
    """
    return names_index(name) or _word(name) in _COUNT_NAMES


def _word(name: Any) -> str:
    """A name in small letters without separators."""
    return _SEPARATORS.sub("", str(name).lower())


def refuse_parts(
    df: pd.DataFrame, time_col: Any, keys: Sequence[Any], *, in_index: bool = False
) -> None:
    """Refuse a table whose series would be the months or hours of the times that another column
    begins.

    Args:
        df: The table.
        time_col: Column of the times.
        keys: Columns that were found to tell series apart.
        in_index: Whether all of them are levels of the index of the user's table.

    Raises:
        ValueError: With the call that joins the columns, if they can be joined.
    """
    parts = [key for key in keys if part_of(key)]
    if not parts or time_col not in df.columns:
        return
    call = joined_parts(df, [time_col, *parts]) or _joined_clock(df, time_col, parts)
    if call:
        id_cols: Any = [*keys]
        if len(keys) == 1:
            id_cols = keys[0]
        if in_index:
            call = call.replace("by df", "by df = df.reset_index(); df = df")
        raise InputError(
            f"column {parts[0]!r} holds parts of the times of column {time_col!r}, but one column"
            " must hold the times; join them, or, where its values name series, pass ",
            Argument("id_col", id_cols),
            InPython(call),
        )


def turning_call(df: pd.DataFrame, dated: Collection[Any]) -> str:
    """The call of pandas that makes rows of the columns of a table that are named by times.

    Args:
        df: The table. Where words name its rows, numbers beside the dated columns, such as totals
            or latitudes, are left out.
        dated: Columns that are named by times.
    """
    if df.index.nlevels > 1:
        melted = "df.melt(ignore_index=False, var_name='time', value_name='value')"
        return f"{melted}.reset_index()"
    others = [column for column in df.columns if column not in dated]
    words = [name for name in others if not is_numeric_dtype(df[name].dtype)]
    keys = words or others
    unread = [column for column in others if column not in keys]
    table = f"df.drop(columns={unread!r})" if unread else "df"
    if not keys:
        return f"{table}.T"
    if len(keys) == 1:
        return f"{table}.set_index({keys[0]!r}).T"
    return f"{table}.melt({keys!r}, var_name='time', value_name='value')"


def flattening_call(df: pd.DataFrame) -> str:
    """Advice on how a table whose columns have several levels gets one of them."""
    names = df.columns.to_frame().T.reset_index(drop=True)
    # Of merged cells the first one alone.
    names.iloc[0] = names.iloc[0].mask(names.iloc[0] == names.iloc[0].shift())
    # A sheet read without index_col has a first column, which names its series.
    has_ids = not is_numeric_dtype(df.dtypes.iloc[0])
    lines = names if has_ids else pd.concat([pd.Series([None, None]), names], axis=1)
    table = f"df.set_index([{df.columns[0]!r}])" if has_ids else "df"
    turning = nested_years_call(lines, table) if len(names) == 2 else ""
    if turning:
        return f"turn the table: {turning}"
    if df.index.nlevels > 1:
        # Their names are keys of series, as those of its rows.
        levels = [*range(1, df.columns.nlevels)]
        return f"stack the others: df = df.stack({levels!r}, future_stack=True).dropna(how='all')"
    return f"join their names: {_JOINED_NAMES}"


def header_rows(rows: pd.DataFrame) -> int:
    """How many of the first rows of a table below its first line hold names of columns too, as in
    files of tables whose columns have several levels, or with units below the names; 0 where they
    hold values.

    Example:
        >>> header_rows(pd.DataFrame([["Ticker", "AAPL"], ["Date", None], ["2024-01-01", "7"]]))
        1
    """
    # Excel files of pandas have an empty row below the names.
    rows = rows.dropna(how="all")
    others = rows.iloc[:, 1:]
    if others.empty:
        return 0
    first_column = rows.iloc[:, 0]
    first_cells = first_column.astype(str).where(first_column.notna(), "")
    is_word = ~first_cells.str.contains(r"\d").to_numpy()
    n_words = int(np.append(is_word, False).argmin())
    # Where more rows begin with words, these name series.
    if n_words > min(_MOST_HEADER_ROWS, len(rows) - 1) or is_word[n_words:].any():
        return 0
    texts = others.astype(str).apply(lambda cells: cells.str.replace(",", "."))
    is_number = texts.apply(pd.to_numeric, errors="coerce").notna()
    # The name of the first column stands alone, below the names of the others.
    is_alone = others.iloc[:n_words].isna().all(axis=1).to_numpy()
    if is_alone[1:].any():
        return 1 + int(is_alone[1:].argmax())
    is_name = others.notna() & ~is_number
    has_names = is_name.iloc[:n_words].all(axis=None)
    is_value = is_number | others.isna()
    has_values = is_value.iloc[n_words:].all(axis=None)
    if not (has_names and has_values):
        return 0
    return n_words


def header_call(n_lines: int, path: str, options: Mapping[str, Any] | None = None) -> str:
    """The calls of pandas that read a file whose columns are named in several lines, and join the
    names.

    Args:
        n_lines: How many there are.
        path: How Python writes the file.
        options: What else pandas must be told to read it.
    """
    reader = "read_excel" if "xls" in path else "read_csv"
    arguments = "".join(f", {name}={value!r}" for name, value in (options or {}).items())
    header = [*range(n_lines)]
    return f"df = pd.{reader}({path}{arguments}, header={header!r}, index_col=0); {_JOINED_NAMES}"


def refuse_nested_years(df: pd.DataFrame) -> None:
    """Refuse a table whose columns are years in merged cells of a sheet, with their months or
    quarters in the first row.

    Raises:
        ValueError: With the call that reads and turns the sheet.
    """
    lines = df.iloc[:2]
    if df.index.nlevels == 1 and not isinstance(df.index, pd.RangeIndex):
        lines = lines.reset_index(allow_duplicates=True)
    names = pd.Series(lines.columns, dtype=object)
    is_unnamed = names.astype(str).str.startswith("Unnamed: ")
    if is_unnamed.any():
        top = names.where(~is_unnamed)
        lines = pd.DataFrame([top.tolist(), *lines.to_numpy().tolist()])
    call = nested_years_call(lines, "pd.read_excel(path, header=[0, 1], index_col=0)")
    if call:
        year, part = lines.iloc[:2, 1].tolist()
        raise InputError(
            f"columns are named by years above parts of them, {year!r} above {part!r}, but a row"
            " must be a time and a column a series; turn the table",
            InPython(f": {call}"),
        )


def nested_years_call(lines: pd.DataFrame, table: str) -> str:
    """The calls of pandas that turn a sheet whose columns are named by years in merged cells above
    their months or quarters, so that it has a row for each of these; empty for other sheets.

    Args:
        lines: The first lines of the sheet; the first column names its series.
        table: How Python writes the sheet as a frame whose columns have two levels.
    """
    if len(lines) < 2 or lines.shape[1] < 3:
        return ""
    top = lines.iloc[0, 1:]
    years = pd.to_numeric(top, errors="coerce")
    low, high = PARTS["year"]
    are_years = years[top.notna()].between(low, high).all()
    if not are_years or pd.isna(top.iloc[0]) or top.notna().all():
        return ""
    from tsattn.data.months import month_of

    names = lines.iloc[1, 1:].astype(str)
    numbers = pd.to_numeric(names, errors="coerce")
    if names.map(month_of).all():
        stamp = "f'{part} {year}'"
    elif numbers.isin(range(1, 13)).all():
        stamp = "f'{year}-{int(part):02}'"
    elif names.str.fullmatch("Q[1-4]").all():
        stamp = "f'{year}{part}'"
    else:
        return ""
    return f"df = {table}.T; df.index = [{stamp} for year, part in df.index]"


def unit_cols(df: pd.DataFrame) -> list[Any]:
    """Columns of numbers with a word in their first row, such as a unit below their name; none
    where that row has a number, a time or an id, as rows of values do.

    Example:
        >>> unit_cols(pd.DataFrame({"ds": ["", "2024-01", "2024-02"], "y": ["kWh", 7, 8]}))
        ['y']
    """
    rows = df.iloc[:_SEEN_ROWS]
    others = rows.select_dtypes(exclude="number")
    if len(rows) < 3 or not len(others.columns):
        return []
    columns = [rows[name] for name in rows.columns]
    if not is_numeric_dtype(rows.index.dtype):
        columns.append(rows.index.to_series())
    units = []
    has_times = False
    for column in columns:
        first = column.iloc[0]
        is_blank = pd.isna(first)
        if not is_blank and (not isinstance(first, str) or _VALUE.match(first)):
            return []
        other_cells = column.iloc[1:].dropna().astype(str)
        is_blank = is_blank or not first.strip()
        if not is_blank and other_cells.eq(first).any():
            return []
        numbers = pd.to_numeric(other_cells, errors="coerce")
        are_numbers = len(other_cells) > 0 and bool(numbers.notna().all())
        if are_numbers and not is_blank:
            units.append(column.name)
        else:
            has_times = has_times or bool(other_cells.str.match(_VALUE).all())
    return units if has_times else []


def refuse_units(df: pd.DataFrame, name: str = "df") -> None:
    """Refuse a table whose first row holds the units of its columns.

    Args:
        df: The table.
        name: Name of its variable in the call.

    Raises:
        ValueError: With the call that drops the row.
    """
    units = unit_cols(df)
    bases = [str(column).rpartition(".") for column in df.columns]
    # Where pandas numbers equal names, further names stand below them.
    has_equal_names = any(end.isdigit() and base in df.columns for base, _, end in bases)
    unnamed_cols = [str(column) for column in df.columns if str(column).startswith("Unnamed: ")]
    # A title names the first column alone.
    has_title = list(map(str, df.columns[1:])) == unnamed_cols
    if not has_title and set(unnamed_cols).intersection(map(str, units)):
        call = header_call(2, "'FILE.xlsx'")
        raise InputError(
            f"row 0 holds words above numbers, {df[units[0]].iloc[0]!r:.40} in column"
            f" {units[0]!r}, and some columns have no name, as below merged cells of a sheet; join"
            " the names of both lines",
            InPython(f": {call}"),
        )
    if units and not has_equal_names and names_row(df.iloc[:_SEEN_ROWS]) is None:
        column = units[0]
        others = df.columns.drop(units, errors="ignore").tolist()
        listed = f"{name}.columns.drop({others!r})"
        if len(units) <= _MOST_UNITS:
            listed = f"{units!r}"
        unit = df[column].iloc[0]
        raise InputError(
            f"row 0 holds words above numbers, {unit!r:.40} in column {column!r}, as units below"
            " the names of columns are, but each row must hold values; drop this row",
            InPython(
                f": {name} = {name}.iloc[1:].copy();"
                f" {name}[{listed}] = {name}[{listed}].apply(pd.to_numeric)"
            ),
        )


def advice_on_blanks(column: pd.Series | pd.Index) -> list[Piece]:
    """What to do about empty cells of a column of ids or times. Where most are empty, as below
    merged cells of a sheet, a value stands for the rows below it as well.

    Example:
        >>> advice_on_blanks(pd.Series(["a", None, None], name="shop"))[0]
        'have each value repeated in the rows below it'
    """
    is_blank = np.asarray(column.isna())
    # Merged cells have no value right below an equal one.
    is_other = isinstance(column, pd.Index) or bool((column == column.shift()).any())
    if is_other or is_blank[0] or is_blank.mean() < _MERGED_SHARE:
        return ["fill in or drop these rows"]
    place = f"df[{column.name!r}]"
    call = f"{place} = {place}.ffill()"
    return ["have each value repeated in the rows below it", InPython(f": {call}")]


def refuse_blank_ids(column: pd.Series, *advice: Piece) -> None:
    """Refuse a column of ids with empty cells; the advice ends the message."""
    blank_rows = np.flatnonzero(column.isna())
    if len(blank_rows):
        raise InputError(
            f"column {column.name!r} has no id in row {blank_rows[0]}{more(len(blank_rows))}, but"
            " every row belongs to a series; ",
            *advice_on_blanks(column),
            *advice,
        )


def refuse_blank_parts(column: pd.Series) -> None:
    """Refuse a column of years, months or the like with empty cells, which would be a series."""
    part = part_of(column.name)
    if not part or not is_numeric_dtype(column.dtype):
        return
    low, high = PARTS[part]
    blank_rows = np.flatnonzero(column.isna())
    values = column.dropna()
    if not len(blank_rows) or not len(values) or not values.between(low, high).all():
        return
    raise InputError(
        f"column {column.name!r} holds parts of times and is empty in row"
        f" {blank_rows[0]}{more(len(blank_rows))}; ",
        *advice_on_blanks(column),
    )


def names_row(rows: pd.DataFrame) -> int | None:
    """The first row of text only in a table whose first line was a title, since it names at most
    one of several columns; None in other tables.
    """
    named = [name for name in rows.columns if not str(name).startswith("Unnamed: ")]
    is_text = rows.map(lambda cell: isinstance(cell, str)).all(axis=1).to_numpy()
    if len(named) > 1 or rows.shape[1] < 2 or not is_text.any():
        return None
    return int(is_text.argmax())


def joined_parts(df: pd.DataFrame, columns: Sequence[Any]) -> str:
    """Advice on how the columns of a year and its months, weeks, quarters or days become stamps."""
    names = {part_of(column) or str(column).lower(): column for column in columns}
    if "year" in names:
        for word, part in _NAMES_BESIDE_YEARS.items():
            if word in names:
                names.setdefault(part, names[word])
    for parts in _JOINED_PARTS:
        present = [names[part] for part in parts if part in names]
        if len(present) < len(parts):
            continue
        units = [*parts]
        if parts[-1] == "day":
            units += [part for part in _CLOCK_UNITS if part in names]
            present = [names[part] for part in units]
        stamps = _joined_stamps(df, units, present)
        call = f"; join them by df.drop(columns={present!r}).assign(ds={stamps})"
        return call if stamps else ""
    return ""


def refuse_clock(df: pd.DataFrame, roles: Collection[Any]) -> None:
    """Refuse a table with days in one column and times of day, such as 13:30, in another: they
    would count as ids, or as the stamps.

    Args:
        df: The table.
        roles: Columns that are named as ids or covariates.

    Raises:
        ValueError: With the call that joins the columns.
    """
    columns = [column for column in df.columns if column not in roles]
    for column in columns:
        if not _is_clock(df[column]):
            continue
        for other in columns:
            if other == column:
                continue
            days = days_of(df[other], f"df[{other!r}]")
            if not days:
                continue
            clock = f"df[{column!r}]"
            first = df[column].iloc[0]
            # pandas reads text of hours with minutes and seconds.
            if not isinstance(first, str):
                clock += ".astype(str)"
            elif first.count(":") == 1:
                clock += " + ':00'"
            others = [df[name].iloc[0] for name in columns if name not in (column, other)]
            if not any(_VALUE.match(str(cell)) for cell in others):
                # Joined, the table would be left without values.
                raise InputError(
                    f"column {column!r} holds times, {str(first)!r} in row 0, but values must be"
                    " numbers; make seconds of durations",
                    InPython(f": df[{column!r}] = pd.to_timedelta({clock}).dt.total_seconds()"),
                )
            joined = [other, column]
            raise InputError(
                f"column {column!r} holds times of the days of column {other!r}, but one column"
                " must hold the times; join them, or, where its values name series, pass ",
                Argument("id_col", column),
                InPython(
                    f"; join them by df.drop(columns={joined!r})"
                    f".assign(ds={days} + pd.to_timedelta({clock}))"
                ),
            )


def _is_clock(cells: pd.Series) -> bool:
    """Whether all cells are times of day of one length."""
    first = cells.iloc[0]
    # Most columns are told by their first cell.
    if not isinstance(first, str | time) or not _CLOCK.fullmatch(str(first)):
        return False
    texts = cells.astype(str)
    is_clock = texts.str.fullmatch(_CLOCK)
    n_colons = texts.str.count(":")
    return bool(is_clock.all()) and n_colons.nunique() == 1


def days_of(days: pd.Series, place: str) -> str:
    """The expression that makes stamps of a column of days; empty where it holds none, or days that
    two layouts read: they may be the first to the twelfth of a month, or months.

    Args:
        days: The column.
        place: How Python writes it.
    """
    kind = infer_dtype(days)
    layouts_of_kind: tuple[str, ...] = ("ISO8601", *_LAYOUTS_OF_DAYS)
    if kind == "integer":
        layouts_of_kind = ("%Y%m%d",)
    elif kind not in _KINDS_OF_DAYS:
        return ""
    layouts = []
    for layout in layouts_of_kind:
        stamps = pd.to_datetime(days, format=layout, errors="coerce")
        if stamps.notna().all() and (stamps == stamps.dt.normalize()).all():
            layouts.append(layout)
    if len(layouts) != 1 and layouts[:1] != ["ISO8601"]:
        return ""
    layout = "" if layouts[0] == "ISO8601" else f", format={layouts[0]!r}"
    return f"pd.to_datetime({place}{layout})"


def _joined_clock(df: pd.DataFrame, time_col: Any, parts: Sequence[Any]) -> str:
    """Advice on how a column of days and those of hours and minutes become stamps."""
    columns = {part_of(part): part for part in parts}
    days = days_of(df[time_col], f"df[{time_col!r}]")
    if not {*columns} <= _CLOCK_UNITS.keys() or not days:
        return ""
    sums = [days]
    for name, column in columns.items():
        if not is_numeric_dtype(df[column].dtype):
            return ""
        sums.append(f"pd.to_timedelta(df[{column!r}], {_CLOCK_UNITS[name]!r})")
    joined = [time_col, *columns.values()]
    stamps = " + ".join(sums)
    return f"; join them by df.drop(columns={joined!r}).assign(ds={stamps})"


def _joined_stamps(df: pd.DataFrame, units: Sequence[str], present: Sequence[Any]) -> str:
    """The expression that joins columns to stamps, where their cells can be joined.

    Args:
        df: The table.
        units: Parts that they hold, the year first; after a day may come those of a clock.
        present: The columns.
    """
    last_unit = "day" if "day" in units else units[-1]
    are_numbers = [pd.to_numeric(df[name], errors="coerce").notna().all() for name in present]
    year = f"df[{present[0]!r}].astype(int).astype(str)"
    other = f"df[{present[1]!r}].astype(int).astype(str)"
    columns = f"df[{present!r}]"
    # pandas knows a column by the name of its part alone.
    if [str(name).lower() for name in present] != [*units]:
        columns += f".set_axis({[*units]!r}, axis=1)"
    if all(are_numbers):
        return {
            "day": f"pd.to_datetime({columns})",
            "month": f"pd.to_datetime({columns}.assign(day=1))",
            "week": f"{year} + '-W' + {other}.str.zfill(2)",
            "quarter": f"{year} + 'Q' + {other}",
            "dayofyear": f"pd.to_datetime({year} + {other}.str.zfill(3), format='%Y%j')",
        }[last_unit]
    if last_unit in ("day", "dayofyear") or not are_numbers[0]:
        return ""
    cells = df[present[1]].astype(str)
    other = f"df[{present[1]!r}].astype(str)"
    if last_unit == "month":
        from tsattn.data.months import month_of

        return f"{other} + ' ' + {year}" if cells.map(month_of).all() else ""
    if last_unit == "week":
        are_weeks = cells.str.fullmatch(r"W\d\d").all()
        return f"{year} + '-' + {other}" if are_weeks else ""
    are_quarters = cells.str.fullmatch("Q[1-4]").all()
    return f"{year} + {other}" if are_quarters else ""
