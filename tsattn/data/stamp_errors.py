"""Errors for stamps that cannot be read, with calls of pandas that mend them."""

import re
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype

from tsattn.checks import Argument, InputError, InPython, Piece
from tsattn.data.calendar import FIRST_YEAR, LAST_YEAR, more
from tsattn.data.spelling import (
    BARE_WEEK,
    FISCAL_MONTH,
    WEEK,
    YEAR_MONTHS,
    even_reading,
    layouts_of,
)

# Hour 24 behind a day.
_MIDNIGHT = "(?<=[ T])24(?=:00|$)"
# Days and hours in ten digits.
_DAY_AND_HOUR = r"\d{8}(?:[01]\d|2[0-4])"
# Times without a day, days without a year, and years of sports or farming such as 05/06.
_CLOCK = r"\d{1,2}:\d\d(?::\d\d)?"
_DAY_OF_MONTH = r"\d{1,2}\.\d{1,2}\."
_SEASON = r"^(\d\d)[-/](\d\d)$"
_YEAR_IN_TEXT = re.compile(r"(?<!\d)\d{4}(?!\d)")
# What stands behind stamps of values that may change.
_NOTE = r"\s*(?:\*+|\(?[a-z]\)?|\(?[A-Z]\)|\[\w+\])$"
# Names of time zones behind stamps. Some are those of several zones, so that they are not read.
_ZONE_NAME = re.compile(r"(?<=\d) ?([A-Z]{2,5})$")
_ZONE_OFFSETS = {
    "WET": "+00:00",
    "WEST": "+01:00",
    "BST": "+01:00",
    "CET": "+01:00",
    "CEST": "+02:00",
    "MEZ": "+01:00",
    "MESZ": "+02:00",
    "EET": "+02:00",
    "EEST": "+03:00",
    "EST": "-05:00",
    "EDT": "-04:00",
    "CST": "-06:00",
    "CDT": "-05:00",
    "MST": "-07:00",
    "MDT": "-06:00",
    "PST": "-08:00",
    "PDT": "-07:00",
    "JST": "+09:00",
    "AEST": "+10:00",
    "AEDT": "+11:00",
}
# Numbers of days from the year 1900 to 2100, with what pandas counts them from: Julian days, those
# of Matlab less the number of 1970-01-01, and those of Excel.
_DAY_COUNTS = (
    (2_415_020, 2_488_070, "", "julian"),
    (693_961, 767_011, " - 719529", "unix"),
    (30_000, 60_000, "", "1899-12-30"),
)
# Modified Julian days are as large as Excel's, and only the name tells them.
_MODIFIED_JULIAN = re.compile("mjd|modified.?julian", re.IGNORECASE)
# Rows whose stamp is none, as a share of all, that may be totals or remarks, at most.
_TOTALS_SHARE = 0.1


def midnight_call(cells: pd.Series, place: str) -> str | None:
    """The call of pandas that reads stamps of which some name the end of a day, as hour 24; None
    where no such call reads all.

    Args:
        cells: The stamps.
        place: How Python writes their column.
    """
    ends_day = cells.str.contains(_MIDNIGHT, regex=True)
    starts = cells.str.replace(_MIDNIGHT, "00", regex=True)
    times = {}
    for layout in ("ISO8601", *layouts_of(starts.iloc[0])):
        read = pd.to_datetime(starts, format=layout, errors="coerce")
        if read.notna().all():
            times[layout] = read + pd.to_timedelta(ends_day.astype(int), "D")
    layouts = list(times)
    # Days that two layouts read may be months. Even steps tell.
    if layouts[:1] != ["ISO8601"] and len(layouts) > 1:
        even = even_reading(list(times.values()))
        layouts = [layout for layout, read in times.items() if read is even]
    if not ends_day.any() or not layouts:
        return None
    is_end = f"{place}.str.contains({_MIDNIGHT!r})"
    texts = f"{place}.str.replace({_MIDNIGHT!r}, '00', regex=True)"
    arguments = texts if layouts[0] == "ISO8601" else f"{texts}, format={layouts[0]!r}"
    return f"{place} = pd.to_datetime({arguments}) + pd.to_timedelta({is_end}.astype(int), 'D')"


def _compact_call(cells: pd.Series, place: str) -> str | None:
    """The call of pandas that reads days and hours up to 24 in ten digits, as numbers or text; None
    for other cells.

    Example:
        >>> _compact_call(pd.Series([2024013123, 2024013124]), "df['ds']").partition(" + ")[0]
        "df['ds'] = pd.to_datetime(df['ds'].astype(str).str[:8])"
    """
    texts = cells.astype(str)
    if not texts.str.fullmatch(_DAY_AND_HOUR).all():
        return None
    if pd.to_datetime(texts.str[:8], format="%Y%m%d", errors="coerce").isna().any():
        return None
    text = f"{place}.astype(str).str"
    hours = f"pd.to_timedelta({text}[8:].astype(int), 'h')"
    return f"{place} = pd.to_datetime({text}[:8]) + {hours}"


def zone_call(cells: pd.Series, place: str) -> str | None:
    """The call of pandas that writes offsets from UTC in the place of names of time zones; None
    where a cell has no such name, or would not be read then.

    Args:
        cells: The stamps.
        place: How Python writes their column.

    Example:
        >>> zone_call(pd.Series(["2024-01-31 12:00 EST"]), "df['ds']")
        "df['ds'] = df['ds'].replace({' ?EST$': '-05:00'}, regex=True)"
    """
    names = cells.str.extract(_ZONE_NAME, expand=False)
    if not names.isin([*_ZONE_OFFSETS]).all():
        return None
    offsets = {f" ?{name}$": _ZONE_OFFSETS[name] for name in names.unique()}
    with_offsets = cells.replace(offsets, regex=True)
    stamps = pd.to_datetime(with_offsets, format="ISO8601", errors="coerce", utc=True)
    if stamps.isna().any():
        return None
    return f"{place} = {place}.replace({offsets!r}, regex=True)"


def _differ_in_notes(unread: pd.Series, read: pd.Series) -> bool:
    """Whether unread stamps differ from those that are read only in their digits and in a mark such
    as (p) behind them.
    """
    shapes = [cells.replace({_NOTE: "", r"\d": "0"}, regex=True) for cells in (unread, read)]
    return bool(shapes[0].isin(shapes[1]).all() and unread.str.contains(_NOTE).all())


def several_times(columns: list[Any], *, are_whole: bool) -> InputError:
    """The error for a table in which several columns may hold the stamps.

    Args:
        columns: Their names.
        are_whole: Whether each alone tells the rows of a series apart; else they may be parts, such
            as days and hours.
    """
    remedy: list[Piece] = [", or join them"]
    if are_whole:
        first, *others = columns
        call = f", as df = df.drop(columns={others!r}) does if it is {first!r}"
        remedy = [" and drop the others", InPython(call)]
    return InputError(
        f"columns {columns!r} could all hold the stamps, but one must; name it by ",
        Argument("time_col"),
        *remedy,
    )


def times_as_values(cells: pd.Series, joining_call: str, *, has_times: bool) -> InputError:
    """The error for a column of times, or of parts of them, that would be forecast.

    Args:
        cells: The column.
        joining_call: Advice on how it is joined with others to stamps; empty where it cannot be.
        has_times: Whether the table has its stamps in another place.
    """
    words = (
        f"column {cells.name!r} holds times, {cells.iloc[:1].tolist()[0]!r:.60} in row 0, which"
        " cannot be forecast; "
    )
    if has_times and not joining_call:
        return InputError(
            words,
            "drop the column",
            InPython(f", as df.drop(columns={[cells.name]!r}) does"),
            ", or name the time column by ",
            Argument("time_col"),
            " and the one that is forecast by ",
            Argument("target_col"),
        )
    return InputError(
        words,
        "name the time column by ",
        Argument("time_col"),
        " (join year, month and day into one column first), of a long table also ",
        Argument("id_col"),
        " and ",
        Argument("target_col"),
        "; or drop the column",
        InPython(joining_call),
    )


def no_stamps(cells: pd.Series, kind: str, label: str) -> Exception:
    """The error for a column whose cells are of a type that stamps do not have, or of several, or
    are decimals that are not read.

    Args:
        cells: The column; its rows are numbered.
        kind: What pandas' infer_dtype calls it.
        label: What the error calls it.
    """
    if kind == "floating":
        return InputError(
            f"{label} must hold stamps, text that reads as stamps, or whole numbers, but holds"
            f" {float(cells[0])} in row 0; convert it to stamps",
            InPython(f": {_decimals_call(cells, label)}"),
        )
    types = cells.map(type)
    odd = np.flatnonzero(types != types.iloc[0])
    if not kind.startswith("mixed") or not len(odd):
        return TypeError(
            f"{label} must hold stamps, text that reads as stamps, or integers; got {kind}; convert"
            " it to stamps, or number the rows 0, 1, 2 and so on in its place"
        )
    row = odd[0]
    exchange_call = _exchange_call(cells, f"df[{cells.name!r}]")
    remedy: list[Piece] = ["correct it, or leave such rows out, as those of totals"]
    are_words = not cells.iloc[odd].astype(str).str.contains(r"\d").any()
    if len(odd) > _TOTALS_SHARE * len(cells) and not are_words:
        by_format = "datetimes, as from pd.to_datetime(..., format=...), or text alone"
        remedy = ["write all of them in one way", InPython(f": {by_format}")]
    if exchange_call:
        remedy = [
            "day and month of the stamps up to day 12 have changed places, as where a sheet reads"
            " 05/01 as May 1; exchange them",
            InPython(f": {exchange_call}"),
        ]
    return InputError(
        f"{label} holds {cells[row]!r:.60} in row {row}{more(len(odd))} and {cells[0]!r:.60} in row"
        " 0, but stamps must be of one type; ",
        *remedy,
    )


def _decimals_call(cells: pd.Series, label: str) -> str:
    """The call of pandas that makes stamps of numbers of days, or of seconds, hours or days that
    passed since the first row.
    """
    place = f"df[{cells.name!r}]"
    rounded = ".dt.round('s')"
    if label == "the index":
        place = "df.index"
        rounded = ".round('s')"
    numbers = cells.to_numpy(dtype=np.float64)
    if _MODIFIED_JULIAN.search(str(cells.name)):
        return f"{place} = pd.to_datetime({place}, unit='D', origin='1858-11-17'){rounded}"
    for smallest, largest, less, origin in _DAY_COUNTS:
        if ((numbers > smallest) & (numbers < largest)).all():
            stamps = f"pd.to_datetime({place}{less}, unit='D', origin='{origin}')"
            return f"{place} = {stamps}{rounded}"
    elapsed = f"pd.to_timedelta({place}, unit='s')"
    return (
        f"{place} = pd.Timestamp('2000-01-01') + {elapsed} counts seconds from a day, unit='h'"
        " hours and unit='D' days"
    )


def _exchange_call(cells: pd.Series, place: str) -> str:
    """The call of pandas that reads text of days beyond the twelfth among stamps up to it, of which
    day and month have changed places; empty for other cells.
    """
    is_text = cells.map(lambda cell: isinstance(cell, str))
    others = cells[~is_text]
    if not is_text.any() or infer_dtype(others) not in ("datetime", "date", "datetime64"):
        return ""
    if not (pd.to_datetime(others).dt.day <= YEAR_MONTHS).all():
        return ""
    texts = cells[is_text]
    for layout in layouts_of(texts.iloc[0]):
        days = pd.to_datetime(texts, format=layout, errors="coerce").dt.day
        if (days > YEAR_MONTHS).all():
            exchanged = _exchanged(layout)
            text = f"day if isinstance(day, str) else day.strftime({exchanged!r})"
            return f"{place} = pd.to_datetime({place}.map(lambda day: {text}), format={layout!r})"
    return ""


def _exchanged(layout: str) -> str:
    """A layout in which day and month have changed places."""
    return layout.translate(str.maketrans("dm", "md"))


def _change_places(bad: pd.Series, read: pd.Series) -> bool:
    """Whether stamps that are not read are so with day and month in the other order than others."""
    return any(
        pd.to_datetime(bad, format=_exchanged(layout), errors="coerce").notna().all()
        for layout in layouts_of(read.iloc[0])
        if layout.startswith(("%d", "%m"))
    )


def unread_stamp(cells: pd.Series, bad: np.ndarray, place: str, *, is_named: bool) -> InputError:
    """The error for cells of a column of stamps that are none.

    Args:
        cells: The column.
        bad: Rows of these cells.
        place: The series of the first one, and the column.
        is_named: Whether the column was named as one of stamps.
    """
    words = f"{place} holds {cells[bad[:1]].tolist()[0]!r:.60} in row {bad[0]}{more(len(bad))}"
    by_format = InPython(", or pass datetimes, as from pd.to_datetime(..., format=...)")
    read_cells = cells.drop(index=cells.index[bad])
    column = f"df[{cells.name!r}]"
    are_text = cells.map(lambda cell: isinstance(cell, str)).all()
    are_words = not cells.iloc[bad].astype(str).str.contains(r"\d").any()
    midnight = _compact_call(cells, column)
    if midnight is None and are_text:
        midnight = midnight_call(cells, column)
    zones = zone_call(cells, column) if are_text else None
    remedy: list[Piece]
    if midnight is not None:
        remedy = ["hour 24 is 00:00 of the next day", InPython(f": {midnight}")]
    elif zones is not None:
        remedy = ["write the offset from UTC in place of the zone", InPython(f": {zones}")]
    elif are_text and _differ_in_notes(cells.iloc[bad], read_cells):
        call = f"{column} = {column}.str.replace(r'{_NOTE}', '', regex=True)"
        remedy = ["remove the mark behind it", InPython(f": {call}")]
    elif are_text and (incomplete := _remedy_of_incomplete(cells, column)):
        remedy = incomplete
    elif are_text and len(read_cells) and _change_places(cells.iloc[bad], read_cells):
        first = f"{read_cells.iloc[0]!r:.60} in row {read_cells.index[0]}"
        remedy = [f"day and month are in the other order than in {first}; write all as 2024-01-31"]
    elif are_text and cells.str.fullmatch(FISCAL_MONTH).all():
        remedy = ["more than 12 periods of a year are no months; number the rows 0, 1, 2 and so on"]
    elif are_text and cells.str.fullmatch(WEEK).all():
        remedy = ["years of ISO 8601 have 52 weeks, some 53; write days in place of weeks"]
    elif are_text and not len(read_cells) and _is_year_with_word(cells):
        call = rf": {column} = {column}.str.extract(r'(\d{{4}})', expand=False)"
        remedy = ["if these are years, write them alone", InPython(call)]
    elif len(bad) <= _TOTALS_SHARE * len(cells) or (len(read_cells) and are_words):
        remedy = ["correct it, or leave such rows out, as those of totals"]
    elif cells.iloc[bad].map(_is_other_year).all():
        remedy = ["write whole numbers, such as those of years, and pass ", Argument("freq", 1)]
    elif len(read_cells):
        first = f"{read_cells.iloc[0]!r:.60} in row {read_cells.index[0]}"
        remedy = [f"write all in one way, as {first}", by_format]
    else:
        numbering = "" if is_named else "; or number the rows 0, 1, 2 and so on"
        remedy = ["correct it", by_format, numbering]
    rule = f", which cannot be read as a stamp of the years {FIRST_YEAR} to {LAST_YEAR}; "
    return InputError(words, rule, *remedy)


def _remedy_of_incomplete(cells: pd.Series, column: str) -> list[Piece]:
    """What is to be added to text that says too little of its time, all of which is of one kind;
    nothing for other text.
    """
    if cells.str.fullmatch(BARE_WEEK).all():
        call = f"df = df.rename(columns={{{cells.name!r}: 'week'}})"
        return ["if these are weeks, name the column 'week'", InPython(f": {call}")]
    if cells.str.fullmatch(_CLOCK).all():
        call = f"{column} = '2024-01-31 ' + {column}"
        return ["times need their day before them", InPython(f": {call}")]
    if cells.str.fullmatch(_DAY_OF_MONTH).all():
        call = f"{column} = {column} + '2024'"
        return ["days need their year behind them", InPython(f": {call}")]
    years = cells.str.extract(_SEASON).dropna().astype(int)
    if len(years) == len(cells) and ((years[0] + 1) % 100 == years[1]).all():
        call = f"{column} = pd.to_datetime({column}.str[:2], format='%y').dt.year"
        return ["if these are years, write the first of each pair in full", InPython(f": {call}")]
    return []


def _is_other_year(cell: Any) -> bool:
    """Whether a stamp lies in a year that nanoseconds do not reach."""
    if isinstance(cell, str):
        match = _YEAR_IN_TEXT.search(cell)
        year = int(match[0]) if match and len(cell) > len(match[0]) else FIRST_YEAR
    else:
        year = getattr(cell, "year", FIRST_YEAR)
    return not FIRST_YEAR <= year <= LAST_YEAR


def _is_year_with_word(cells: pd.Series) -> bool:
    """Whether the cells are years with the same word, such as ``GJ 2005`` or ``2005A``."""
    years = cells.str.extract(r"(\d{4})", expand=False)
    words = cells.str.replace(r"\d{4}", "", n=1, regex=True)
    has_further_digits = words.str.contains(r"\d").any()
    return bool(years.notna().all() and not has_further_digits and words.nunique() == 1)
