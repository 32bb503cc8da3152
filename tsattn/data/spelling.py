"""Numbers with separators, a currency or a percent sign, numbers that spell dates, periods, and
words for booleans.
"""

import re
from collections.abc import Hashable
from datetime import datetime
from functools import partial
from itertools import chain, product
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype

from tsattn.checks import Argument, InputError, InputWarning, InPython, Piece, warn
from tsattn.data.calendar import (
    FIRST_EPOCH_SECOND,
    FIRST_YEAR,
    LAST_EPOCH_SECOND,
    LAST_YEAR,
    even_positions,
)
from tsattn.data.months import with_english_months, with_marked_years

# Ways to write numbers: a number, characters that mean nothing, the decimal mark. The first that
# fits all cells counts: groups of three digits are more likely than three decimals. Groups stand
# apart by a mark, an apostrophe, or a space, which may be one that does not break.
_SPELLINGS = (
    (r"-?(\d{1,3}([,'\u2019\s]\d{3})+|\d+)(\.\d+)?", "[^0-9.-]", "."),
    # Indian tables group by hundreds above a thousand.
    (r"-?\d{1,2}(,\d\d)+,\d{3}(\.\d+)?", "[^0-9.-]", "."),
    (r"-?(\d{1,3}([.'\u2019\s]\d{3})+|\d+)(,\d+)?", "[^0-9,-]", ","),
)


# What may stand behind numbers: the number, characters of it that mean nothing, patterns of endings
# with what pandas reads in their place, and the share of the cells that must have no ending.
_ENDINGS: tuple[tuple[str, str, dict[str, str], float], ...] = (
    # Thousands and millions. A small m may be metres or minutes.
    (
        r"[^\d-]*-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?",
        r"^[^\d-]+|,",
        {"[kK]": "e3", "M": "e6", "(?:B|bn)": "e9"},
        0.0,
    ),
    # Footnotes and flags, such as (p) for provisional values.
    # Capitals may be units, but for those of approved, estimated, provisional and revised values.
    (
        r"-?\d+(?:\.\d+)?",
        "",
        {
            r"\s*(?:\*+|\u2020|\u2021|\(?[a-z]\)?|\([A-Z]\)|\[\d+\])": "",
            r"\s+[AEPR]": "",
        },
        0.5,
    ),
)


def _period_of_year(words: str, numbers: str) -> re.Pattern[str]:
    """Text of a year and a period of it, which has a word and one of some numbers. Of fiscal years
    the number is that of the year.
    """
    number = (
        rf"(?:(?:{words})[. ]*([{numbers}])|([{numbers}])(?:\.|st|nd|rd|th|er|e)? ?(?:{words}))"
    )
    fiscal = "[FC]Y[- ]?"
    behind = rf"[-:'\u2019/, ]*(?:{fiscal})?(\d{{4}}|\d{{2}})"
    before = rf"(?:{fiscal})?(\d{{4}}|\d{{2}})[-:/, ]*"
    return re.compile(f"{number}{behind}|{before}{number}", re.IGNORECASE)


def _numbered_period(words: str) -> re.Pattern[str]:
    """Text of a year and a period of it, whose number of up to two digits stands behind a word."""
    number = rf"(?:{words})[-:. ]*(\d{{1,2}})"
    year = r"(?:FY[- ]?)?(\d{4}|\d{2})"
    return re.compile(
        rf"{year}[-:/, ]*{number}|{number}[-:'\u2019/, ]+{year}",
        re.IGNORECASE,
    )


# Eurostat calls half-years S1 and S2, INSEE quarters T1 to T4.
QUARTER = _period_of_year("F?Q|T|Qtr|Quarter|Quartal|trimestre", "1234")
_HALF = _period_of_year("H|S|half|Halbjahr|semestre", "12")
# German tables number weeks by KW.
WEEK = _numbered_period("W|KW|CW|WK|WEEK")
# Months of a fiscal year are periods.
FISCAL_MONTH = _numbered_period("P|PD|PER|PERIOD")
# Weeks without a word, which may be months unless their column is one of weeks.
BARE_WEEK = re.compile(r"(\d{4})[-/.](\d{1,2})|(\d{1,2})[-/.](\d{4})")
_WEEK_NAME = re.compile("week|woche|semaine|yyyyww|(?<![a-z])[kc]w(?![a-z])")
# First and last day, such as pandas writes weeks.
DAYS = re.compile(r"(\d{4}-\d\d-\d\d)( ?(?:/|-|\u2013|to) ?)(\d{4}-\d\d-\d\d)")
# From one stamp of a day and a time to another, which follows it.
_SPAN_END = r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}[ T,].*\d:\d\d\S*"
_SPAN = re.compile(rf"^({_SPAN_END})\s*(?:-|\u2013|/|to)\s*{_SPAN_END}$")
# Short German ones have two letters, and short French ones may be months.
_WEEKDAY_NAME = re.compile(
    r"^(?:(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs?)?|Fri|Sat(?:ur)?|Sun)(?:day)?\.?,?"
    r"|(?:Mon|Diens|Donners|Frei|Sams|Sonn)tag,?|Mittwoch,?|Sonnabend,?"
    r"|(?:lun|mar|mercre|jeu|vendre|same)di,?|dimanche,?|(?:Mo|Di|Mi|Do|Fr|Sa|So)[.,]{0,2}(?=\s+\d))"
    r"\s+",
    re.IGNORECASE,
)
# What stands behind the number of a day before the name of its month, as in German and French.
_DAY_MARK = re.compile(r"^(\d{1,2})(?:\.|er)\s*(?=[A-Z])")
# A time of day at the end with a dot between hours and minutes, and a comma before one.
_DOTTED_CLOCK = re.compile(r" (\d{1,2})\.(\d\d)$")
_CLOCK_COMMA = re.compile(r",(?=\s+\d{1,2}:\d\d)")
# What stands between the name of a month and a year of two digits.
_YEAR_MARK = re.compile(r"(?<=[^\W\d]) ?['\u2019](?=\d\d$)")
# Years as the World Bank has them.
_DOUBLE_YEAR = re.compile(r"^(\d{4}) \[YR\1\]$")
# A day of a year, as ISO 8601 and satellites number them.
ORDINAL_DAY = re.compile(r"^\d{4}-\d{3}(?=$|[T ])")
# A fiscal year, named by one year or by both.
FISCAL_YEAR = re.compile(r"^(?:FY[ -]?(\d{4}|\d{2})|(?:FY[ -]?)?(\d{4})[-/\u2013](\d{4}|\d{2}))$")
# A day, a time and a zone, as in e-mails, and how ISO 8601 has them.
_MAIL_STAMP = re.compile(r"^(\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d(?::\d\d)?) (GMT|UTC|[+-]\d{4})$")
_LARGEST_INTEGER = str(2**63 - 1)
# Layouts of days that only columns of stamps may have, and their digits.
_OTHER_LAYOUTS = {"%d%m%Y": 8, "%m%d%Y": 8, "%y%m%d": 6, "%Y%j": 7}
# Layouts of days and times without signs, their number of digits, and the period of which several
# must be there: other numbers jump at its end by chance only.
_WHOLE_LAYOUTS = {
    "%Y%j": (7, "Y"),
    "%Y%m%d": (8, "M"),
    "%d%m%Y": (8, "M"),
    "%m%d%Y": (8, "M"),
    "%Y%m%d%H": (10, "D"),
    "%Y%m%d%H%M": (12, "h"),
    "%Y%m%d%H%M%S": (14, "min"),
}
# Numbers that say so, at least.
_LEAST_DATES = 8
# Excel's numbers of days from 1982 to 2064, and the day that has the number 0.
_SERIAL_DAYS = (30_000, 60_000)
_DATE_WORDS = ("date", "datum", "fecha", "day", "week", "month", "monat", "mois", "period")
_TIME_WORDS = ("time", "zeit", "stamp", "hora", "heure")
_SERIAL_ORIGIN = pd.Timestamp("1899-12-30")
_DAY_SECONDS = 86_400
# Rounding of a decimal year to three digits, in years.
_DECIMAL_YEAR_ERROR = 0.002
YEAR_MONTHS = 12
# How far the middle of a month lies from its half, in months at most: months differ in length.
_MIDDLE_OF_MONTH = 0.15
# Years of numbers that no name calls years.
_USUAL_YEARS = (1900, 2100)
# How years and parts of them are spelt anew.
_PERIODS = {"week": r"\1-W\2", "quarter": r"\1Q\2"}
# Numbers that follow one another as weeks or quarters do, at least.
_LEAST_PERIODS = 12
_DATE_LAYOUTS = (
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%d.%m.%Y",
    "%d.%m.%y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%m/%d/%y",
    "%d/%m/%y",
    "%Y-%m-%d",
    "%d-%m-%y",
    "%m-%d-%y",
    "%d-%b-%Y",
    "%d-%b-%y",
    "%d%b%Y",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%Y-%m",
    "%Y/%m",
    "%YM%m",
    "%m/%Y",
    "%m-%Y",
    "%m.%Y",
    "%b %Y",
    "%B %Y",
    "%b-%Y",
    "%b-%y",
    "%b%Y",
    "%Y-%b",
    "%Y %b",
    "%G-W%V-%u",
    "%Y年%m月%d日",
    "%Y年%m月",
)
_CLOCK_LAYOUTS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
# Clocks without a colon. Behind a year and a month they would be days.
_BARE_CLOCK_LAYOUTS = (" %H", " %I %p", " %H.%M", " %I.%M.%S.%f %p")
_DAY_LAYOUTS = tuple(layout for layout in _DATE_LAYOUTS if "%d" in layout)
# Layouts of stamps, other than ISO 8601.
LAYOUTS = [
    date + clock
    for date, clock in chain(
        product(_DATE_LAYOUTS, _CLOCK_LAYOUTS), product(_DAY_LAYOUTS, _BARE_CLOCK_LAYOUTS)
    )
]
# The signs of each layout between its parts, in capitals. A stamp of this layout holds them too.
_SIGNS_OF_LAYOUTS = {layout: set(re.sub(r"%\w|\s", "", layout).upper()) for layout in LAYOUTS}
# Day and month in figures at the start of a stamp, maybe after the name of a weekday.
_TWO_NUMBERS = re.compile(r"\D*(\d{1,2})\D(\d{1,2})\D")
_LEADING_ZERO = re.compile(r"\s*[-+]?0\d")
# Ways to write signs, and what pandas puts in their place. A minus may stand before a currency.
_SIGNS = (
    ("\u2212.*", "\u2212", "-"),
    (r"\(.*\)", r"^\((.*)\)$", r"-\1"),
    (r".*\d[^\d.,]*-", r"^(.*\d[^\d.,]*)-$", r"-\1"),
    (r"-[^\d.,]+\d.*", r"^-([^\d.,]+)", r"\1-"),
    (r"\+.*", r"^\+", ""),
)
# Text before and after a number, such as a currency or a unit. Brackets and a typographic minus
# make a number negative.
_SURROUNDINGS = r"^[^\d(\u2212-]*|[^\d)-]*$"
# Words for booleans, in small letters.
_TRUTHS = {"true": True, "false": False, "yes": True, "no": False, "y": True, "n": False}


def conversion(
    cells: pd.Series, values: np.ndarray, place: str, *, empties_words: bool = False
) -> str | None:
    """The call of pandas that turns a column of spelt numbers into numbers, which was tried.

    Args:
        cells: The column. Cells without a value may be among them.
        values: The numbers among the cells, float64; NaN for all other cells, of which there is one
            at least.
        place: How Python writes it, such as ``"df['sales']"``.
        empties_words: Whether cells without a digit, as for missing values, become NaN.

    Returns:
        The call and what it makes of the first text that is no number yet; ``None`` where cells
        hold words, are spelt in unlike ways, or have unlike units.

    Example:
        >>> cells = pd.Series(["1.234,50 €", "980,00 €"])
        >>> conversion(cells, np.full(2, np.nan), "df['y']").partition(" reads ")[2]
        "'1.234,50 €' as 1234.5"
    """
    has_text = cells.map(lambda cell: isinstance(cell, str) and bool(cell.strip()))
    is_text = has_text.to_numpy(dtype=bool)
    is_blank = cells.astype(str).str.strip() == ""
    is_empty = cells.isna() | is_blank
    option = ""
    emptied = ""
    if empties_words:
        is_word = has_text & ~cells.astype(str).str.contains(r"\d")
        words = cells[is_word]
        is_text &= ~is_word.to_numpy(dtype=bool)
        is_empty |= is_word
        # Of more words than numbers, the cells are rather words.
        if not len(words) or 2 * len(words) > (~cells.isna()).sum():
            return None
        option = ", errors='coerce'"
        emptied = f" and empties {words.iloc[0]!r:.60}"
    is_nan = np.isnan(values)
    is_other = ~is_text & ~is_empty.to_numpy() & is_nan
    if is_other.any() or not (is_text & is_nan).any():
        return None
    trial = _without_endings(cells, values, is_text) or _without_marks(cells, values, is_text)
    if trial is None:
        return None
    call, numbers = trial
    row = int((is_text & is_nan).argmax())
    reading = f"reads {cells.iloc[row]!r} as {numbers[row]:g}{emptied}"
    return f"{place} = pd.to_numeric({place}.astype(str){call}{option}) {reading}"


def _without_marks(
    cells: pd.Series, values: np.ndarray, is_text: np.ndarray
) -> tuple[str, np.ndarray] | None:
    """What pandas has to do with the text of numbers that have separators, a currency or signs of
    their own, and the numbers of the cells; None where they are spelt in other or unlike ways.
    """
    signs = ""
    for number, pattern, sign in _SIGNS:
        texts = cells[is_text].astype(str).str.strip()
        if texts.str.fullmatch(number).any():
            cells = cells.astype(str).str.strip().str.replace(pattern, sign, regex=True)
            signs += f".str.strip().str.replace(r'{pattern}', r'{sign}', regex=True)"
    texts = cells[is_text].astype(str).str.strip()
    units = texts.map(lambda text: tuple(re.findall(_SURROUNDINGS, text)))
    if units.nunique() != 1:
        return None
    spelt = texts.str.replace(_SURROUNDINGS, "", regex=True)
    for spelt_number, dropped, mark in _SPELLINGS:
        fits = spelt.str.fullmatch(spelt_number)
        if not fits.all():
            continue
        # The call is tried as it is told, on all cells.
        digits = cells.astype(str).str.replace(dropped, "", regex=True)
        decimals = digits.str.replace(",", ".")
        numbers = pd.to_numeric(decimals, errors="coerce").to_numpy(np.float64)
        other_numbers = numbers[~is_text]
        keeps_others = np.array_equal(other_numbers, values[~is_text], equal_nan=True)
        if np.isnan(numbers[is_text]).any() or not keeps_others:
            return None
        call = f"{signs}.str.replace(r'{dropped}', '', regex=True)"
        if mark == ",":
            call += ".str.replace(',', '.')"
        return call, numbers
    return None


def _without_endings(
    cells: pd.Series, values: np.ndarray, is_text: np.ndarray
) -> tuple[str, np.ndarray] | None:
    """As :func:`_without_marks`, for numbers with letters of thousands or footnotes behind them."""
    texts = cells[is_text].astype(str).str.strip()
    is_plain = pd.to_numeric(texts, errors="coerce").notna()
    for number, dropped, meanings, least_plain in _ENDINGS:
        ending = "|".join(meanings)
        has_ending = texts.str.fullmatch(f"{number}(?:{ending})")
        fits = has_ending | texts.str.fullmatch(number)
        if not has_ending.any() or not fits.all() or is_plain.mean() < least_plain:
            continue
        replaced = {rf"(?<=\d){pattern}$": meaning for pattern, meaning in meanings.items()}
        if dropped:
            replaced[dropped] = ""
        spelt = cells.astype(str).str.strip().replace(replaced, regex=True)
        numbers = pd.to_numeric(spelt, errors="coerce").to_numpy(np.float64)
        keeps_others = np.array_equal(numbers[~is_text], values[~is_text], equal_nan=True)
        if keeps_others and np.isfinite(numbers[is_text]).all():
            return f".str.strip().replace({replaced!r}, regex=True)", numbers
    return None


def spelt_numbers(cells: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """The numbers that texts among cells spell, NaN for other cells, and where a text is empty."""
    is_text = cells.map(lambda cell: isinstance(cell, str)).to_numpy(dtype=bool)
    numbers = np.full(len(cells), np.nan)
    is_blank = np.zeros(len(cells), dtype=bool)
    texts = cells[is_text].astype(str)
    is_blank[is_text] = texts.str.strip() == ""
    # Zeros in front are those of a code, such as 007.
    is_code = texts.str.match(_LEADING_ZERO).to_numpy(dtype=bool)
    spelt = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64)
    numbers[is_text] = np.where(is_code, np.nan, spelt)
    return numbers, is_blank


def duration_call(cells: pd.Series, place: str) -> str | None:
    """The call of pandas that makes seconds of durations such as 01:40:20; None for other cells.

    Args:
        cells: The column.
        place: How Python writes it.
    """
    texts = cells.dropna().astype(str).str.strip()
    if not len(texts) or not texts.str.fullmatch(r"\d+:\d\d:\d\d(\.\d+)?").all():
        return None
    return f"{place} = pd.to_timedelta({place}).dt.total_seconds() makes seconds of durations"


def serial_days(column: pd.Series, label: str) -> pd.Series | None:
    """Stamps of the numbers of days that Excel stores, with a warning; None if a column holds other
    numbers, or is not named as one of dates.
    """
    days = column.to_numpy(dtype=np.float64)
    first_day, last_day = _SERIAL_DAYS
    is_whole = bool((days == np.rint(days)).all())
    # Whole numbers of a time may count its steps.
    words_of_dates = _DATE_WORDS if is_whole else (*_DATE_WORDS, *_TIME_WORDS)
    name = str(column.name).casefold()
    is_date = any(word in name for word in words_of_dates) and "julian" not in name
    if not is_date or not ((days > first_day) & (days < last_day)).all():
        return None
    # A fraction of a day has less than a second of error.
    seconds = np.rint(days * _DAY_SECONDS).astype(np.int64)
    stamps = pd.Series(_SERIAL_ORIGIN + pd.to_timedelta(seconds, "s"))
    if label:
        words = (
            f"{label} holds Excel's numbers of days and is read as dates: {column.iloc[0]:.10g} in"
            f" row 0 is {stamps[0]}"
        )
        other: list[Any] = ["; ", Argument("freq", 1), " reads steps of a count"]
        warn(InputWarning(words, *(other if is_whole else [])))
    return stamps


def decimal_years(numbers: np.ndarray) -> pd.Series | None:
    """Months of years such as 1949.083, if all numbers are years and months: at the beginning of
    these, as R has them, or in their middle.
    """
    months = 12 * (numbers - 1970)
    if not ((numbers > FIRST_YEAR) & (numbers < LAST_YEAR + 1)).all():
        return None
    nearest = np.rint(months)
    whole_months = np.floor(months)
    part = months - whole_months
    is_middle = (part > 0.5 - _MIDDLE_OF_MONTH) & (part < 0.5 + _MIDDLE_OF_MONTH)
    if (np.abs(months - nearest) < 12 * _DECIMAL_YEAR_ERROR).all():
        whole_months = nearest
    elif not is_middle.all():
        return None
    return pd.Series(whole_months.astype("M8[M]").astype("M8[ns]"))


def numbers_call(
    cells: pd.Series, values: np.ndarray, foreign: np.ndarray, place: str, cell: Any
) -> str | None:
    """A call that makes numbers of a column in which a cell is none; ``None`` if there is none.

    Args:
        cells: The column.
        values: Its numbers, NaN where a cell is none.
        foreign: bool, where a cell is neither a number nor empty.
        place: The column as Python writes it, such as ``df['y']``.
        cell: The one that is named.
    """
    call = (
        _times_call(cells, place)
        or conversion(cells, values, place)
        or truth_call(cells, place)
        or duration_call(cells, place)
        or conversion(cells, values, place, empties_words=True)
    )
    if call is not None or not np.isfinite(values).any():
        return call
    call = f"{place} = pd.to_numeric({place}, errors='coerce') empties such cells"
    # The cell that is named is perhaps a word, and others have numbers in them.
    texts = cells.astype(str)
    has_digits = texts.str.contains(r"\d") & (texts != str(cell))
    with_numbers = texts[foreign & has_digits.to_numpy()]
    if len(with_numbers):
        call += f", also {with_numbers.iloc[0]!r:.60}"
    return call


def static_call(cells: pd.Series) -> str:
    """The call of pandas that makes numbers or text of a column that holds neither.

    Args:
        cells: The column.
    """
    place = f"df[{cells.name!r}]"
    as_text = f"{place} = {place}.astype(str) makes text of it"
    return _times_call(cells, place) or as_text


def _times_call(cells: pd.Series, place: str) -> str | None:
    """The call of pandas that makes numbers of durations or dates; ``None`` for other columns."""
    if pd.api.types.is_timedelta64_dtype(cells.dtype):
        return f"{place} = {place}.dt.total_seconds() makes seconds of durations"
    if infer_dtype(cells, skipna=True) in ("date", "datetime", "datetime64"):
        start = "pd.Timestamp(0, tz='UTC')"
        stamps = f"pd.to_datetime({place}, utc=True)"
        return f"{place} = ({stamps} - {start}) / pd.Timedelta('1D') makes days since 1970 of dates"
    return None


def truth_call(cells: pd.Series, place: str) -> str | None:
    """The call of pandas that turns the words of a column into True and False.

    Args:
        cells: The column. Booleans and missing cells may be among them.
        place: How Python writes it, such as ``"df['promo']"``.

    Returns:
        The call; ``None`` where a cell is another word.

    Example:
        >>> truth_call(pd.Series(["yes", "no", "yes"]), "df['promo']")
        "df['promo'] = df['promo'].map({'yes': True, 'no': False})"
    """
    if not cells.map(lambda cell: isinstance(cell, Hashable)).all():
        return None
    truths = {}
    distinct = cells.dropna().unique()
    for cell in distinct.tolist():
        word = str(cell).strip().casefold()
        if word not in _TRUTHS:
            return None
        truths[cell] = _TRUTHS[word]
    return f"{place} = {place}.map({truths!r})"


def refuse_other_dates(column: Hashable, numbers: np.ndarray, label: str, *, is_read: bool) -> None:
    """Refuse whole numbers that spell days, weeks or quarters in an unsupported way: they would be
    read as steps of a count, in another order.

    Numbers that follow one another at equal steps may be a count; others are dates if all of them
    can be, or if the column is called so.

    Args:
        column: Name of the column.
        numbers: Its numbers.
        label: What an error calls it.
        is_read: Whether they are read as stamps, such as 20240131.

    Raises:
        InputError: With the spelling that is read.
    """
    distinct = np.unique(numbers)
    is_week = names_weeks(column)
    names_dates = is_week or "date" in str(column).casefold()
    distances = np.unique(np.diff(distinct))
    is_count = len(distances) <= 1
    is_known = is_read and not is_week
    if is_known or (is_count and not names_dates):
        return
    layouts = [layout for layout in _OTHER_LAYOUTS if _all_read(distinct, layout)]
    period = spelt_period(numbers, weeks=is_week)
    place = "df.index" if label == "the index" else f"df[{column!r}]"
    if layouts and not is_week:
        kind = "day"
        layout = layouts[0]
        texts = f"{place}.astype(str).str.zfill({_OTHER_LAYOUTS[layout]})"
        call = f", as pd.to_datetime({texts}, format={layout!r}) does"
        # Of several layouts none is known to be the right one.
        advice = InPython(call if len(layouts) == 1 else "")
        remedy: list[Piece] = ["write the days as 20240131", advice]
    elif period is not None:
        kind, spelt = period
        texts = f"{place}.astype(int).astype(str)"
        call = f"{texts}.str.replace(r'(.{{4}})(.+)', r'{_PERIODS[kind]}', regex=True)"
        remedy = [f"write it as {spelt!r}"]
        last_digits = numbers % 100
        if kind == "week" and last_digits.max() <= 12:
            remedy.append(", rename the column if it holds months")
        remedy.append(InPython(f", as {place} = {call} does"))
    else:
        return
    raise InputError(
        f"{label} holds {numbers[0]} in row 0, which spells a {kind}, as all of its numbers do, in"
        " a way that is not read; ",
        *remedy,
        ", or pass ",
        Argument("freq", 1),
        " for steps of a count",
    )


def names_weeks(column: Hashable) -> bool:
    """Whether a column is named like one of weeks, in English, German or French.

    Example:
        >>> names_weeks("yearweek"), names_weeks("KW"), names_weeks("sales")
        (True, True, False)
    """
    return _WEEK_NAME.search(str(column).casefold()) is not None


def spelt_period(numbers: np.ndarray, *, weeks: bool) -> tuple[str, str] | None:
    """Whether numbers are years with weeks or with quarters, such as 202401 and 20241, and how the
    first of them is read; ``None`` where they are neither.

    Args:
        numbers: Whole numbers.
        weeks: Whether numbers that may also be years with months are weeks.
    """
    for base, kind, last in ((100, "week", 53), (10, "quarter", 4)):
        years, parts = np.divmod(numbers, base)
        are_parts = (parts >= 1) & (parts <= last)
        are_periods = are_years(years) & are_parts
        if not are_periods.all():
            continue
        year = years[0]
        part = parts[0]
        if kind == "quarter":
            return kind, f"{year}Q{part}"
        # Up to 12 they may be months.
        if parts.max() > 12 or weeks:
            return kind, f"{year}-W{part:02}"
    return None


def follow_periods(numbers: np.ndarray) -> bool:
    """Whether whole numbers spell weeks or quarters that follow one another, such as 202401; of a
    few numbers this may be chance.

    Example:
        >>> follow_periods(np.arange(202452, 202400, -1)), follow_periods(np.arange(1000, 1052))
        (True, False)
    """
    steps = np.diff(numbers)
    is_ordered = bool((steps > 0).all() or (steps < 0).all())
    is_chance = len(numbers) < _LEAST_PERIODS
    return is_ordered and not is_chance and spelt_period(numbers, weeks=False) is not None


def spell_dates(numbers: np.ndarray) -> bool:
    """Whether different whole numbers are days, such as 20240131, 31012024 and 2024031, or hours,
    minutes or seconds of days, written without signs. Hour 24 ends a day.

    Example:
        >>> hours = np.arange(17, 25)
        >>> spell_dates(np.concatenate([2024013100 + hours, 2024020100 + hours]))
        True
    """
    if len(np.unique(numbers)) < max(len(numbers), _LEAST_DATES):
        return False
    texts = pd.Series(numbers).astype(str)
    most_digits = texts.str.len().max()
    for layout, (n_digits, period) in _WHOLE_LAYOUTS.items():
        if n_digits != most_digits:
            continue
        padded = texts.str.zfill(n_digits)
        if layout == "%Y%m%d%H":
            padded = padded.str.replace(r"24$", "23", regex=True)
        stamps = pd.to_datetime(padded, format=layout, errors="coerce")
        if stamps.notna().all() and stamps.dt.to_period(period).nunique() > 1:
            return True
    return False


def _all_read(numbers: np.ndarray, layout: str) -> bool:
    """Whether all numbers are days in a layout that leaves zeros in front out."""
    n_digits = _OTHER_LAYOUTS[layout]
    texts = pd.Series(numbers).astype(str).str.zfill(n_digits)
    days = pd.to_datetime(texts, format=layout, errors="coerce")
    return bool(days.notna().all())


def are_years(numbers: np.ndarray) -> np.ndarray:
    """Which whole numbers are usual years."""
    first, last = _USUAL_YEARS
    return (numbers >= first) & (numbers <= last)


def first_days(text: pd.Series) -> pd.Series | None:
    """First days of quarters, of weeks, of months of a fiscal year, or of periods that are written
    as their first and last day; of fiscal years, the first day of the year that names them first.

    Args:
        text: The cells.

    Returns:
        Stamps, NaT where a cell is written in another way than the first one; ``None`` where that
        is no such period.

    Example:
        >>> first_days(pd.Series(["2020-01-06/2020-01-12", "2020-01-13/2020-01-19"])).tolist()
        [Timestamp('2020-01-06 00:00:00'), Timestamp('2020-01-13 00:00:00')]
        >>> first_days(pd.Series(["2024Q2"])).tolist()
        [Timestamp('2024-04-01 00:00:00')]
    """
    readings: list[tuple[re.Pattern[str], Any, str]] = [
        (QUARTER, partial(_first_month, n_months=3), "%Y-%m"),
        (_HALF, partial(_first_month, n_months=6), "%Y-%m"),
        (WEEK, _monday, "%G-%V-%u"),
        (FISCAL_MONTH, _numbered, "%Y-%m"),
        (DAYS, r"\1", "%Y-%m-%d"),
    ]
    if names_weeks(text.name):
        readings.append((BARE_WEEK, _monday, "%G-%V-%u"))
    first_cell = text.iloc[0]
    for pattern, first_day, layout in readings:
        if pattern.fullmatch(first_cell):
            days = text.str.replace(pattern, first_day, regex=True)
            stamps = pd.to_datetime(days, format=layout, errors="coerce")
            if first_day is not _monday:
                return stamps
            # A week 53 that its year does not have is read as the first week of the next year.
            is_read_back = stamps.dt.isocalendar().week.eq(1) & days.str.endswith("-53-1")
            return stamps.mask(is_read_back)
    if FISCAL_YEAR.fullmatch(first_cell):
        years = text.str.replace(FISCAL_YEAR, _first_year, regex=True)
        month = pd.to_datetime(first_cell, format="ISO8601", errors="coerce")
        # A month such as 2011-12 may look like one, but the next one does not.
        is_month = len(text) == 1 and not pd.isna(month)
        if not is_month and years.str.fullmatch(r"\d{4}").all():
            return pd.to_datetime(years, format="%Y")
    return None


def _first_year(fiscal_year: re.Match[str]) -> str:
    """The year of FY24, and the first one of 2023/24; the text itself if they do not follow."""
    alone, first, second = fiscal_year.groups()
    if alone:
        return _whole_year(alone)
    next_year = str(int(first) + 1)
    return first if next_year.endswith(second) else fiscal_year[0]


def _first_month(period: re.Match[str], n_months: int) -> str:
    """The first month of a quarter such as 1Q24, as ``2024-01``, or of a half-year."""
    number, year = sorted(filter(None, period.groups()), key=len)
    first_month = n_months * (int(number) - 1) + 1
    return f"{_whole_year(year)}-{first_month:02}"


def _numbered(period: re.Match[str]) -> str:
    """The year and the number of a period such as P02-24, as ``2024-02``."""
    first_year, number, first_number, year = period.groups()
    return f"{_whole_year(first_year or year)}-{int(number or first_number):02}"


def _whole_year(digits: str) -> str:
    """A year of two digits with its century, as Python reads it."""
    if len(digits) == 4:
        return digits
    century = "20" if digits < "69" else "19"
    return century + digits


def even_reading(readings: list[pd.Series]) -> pd.Series | None:
    """The only one of several readings of the same stamps that leaves none out between its first
    and its last; None where none or several do. The first days of months are days of January alone
    if day and month change places.
    """
    even = []
    for reading in readings:
        times = pd.DatetimeIndex(reading.unique()).sort_values()
        starts = np.array([0, len(times)])
        position = even_positions(times, starts)
        if position is not None and (np.diff(position) == 1).all():
            even.append(reading)
    return even[0] if len(even) == 1 else None


def comes_day_first(cells: pd.Series | pd.Index, stamps: pd.DatetimeIndex) -> bool | None:
    """Whether stamps of text begin with the day, not the month; None where none tells.

    Args:
        cells: The stamps as they came, ``[rows]``.
        stamps: What they were read as.

    Example:
        >>> comes_day_first(pd.Index(["13/02/2024"]), pd.DatetimeIndex(["2024-02-13"]))
        True
    """
    differs = stamps.day != stamps.month
    if not differs.any():
        return None
    row = int(differs.argmax())
    text = str(cells.array[row])
    numbers = _TWO_NUMBERS.match(text)
    if numbers is None:
        return None
    parts = [int(number) for number in numbers.groups()]
    stamp = stamps[row]
    if parts == [stamp.day, stamp.month]:
        return True
    return False if parts == [stamp.month, stamp.day] else None


def plain_stamps(text: pd.Series) -> pd.Series:
    """Stamps that no layout fits, as layouts have them: without spaces around them, the name of a
    day of the week, or a comma before the time of day, with short English names of months, and the
    beginning of spans alone.

    Example:
        >>> cells = ["Monday, January 1, 2024", " Tuesday, Sept. 3, 2024"]
        >>> plain_stamps(pd.Series(cells)).tolist()
        ['Jan 1, 2024', 'Sep 3, 2024']
    """
    text = text.str.strip()
    first = text.iloc[0]
    rules: list[tuple[re.Pattern[str], Any]] = [
        (_SPAN, r"\1"),
        (_DOTTED_CLOCK, r" \1:\2"),
        (_CLOCK_COMMA, ""),
        (_YEAR_MARK, "-"),
        (_DOUBLE_YEAR, r"\1"),
        (ORDINAL_DAY, _iso_day),
    ]
    # The first cell excludes most rules at little cost, but its month may have a short name only.
    rules = [(pattern, plain) for pattern, plain in rules if pattern.search(first)]
    if any(map(str.isalpha, first)):
        text = with_english_months(text.str.replace(_WEEKDAY_NAME, "", regex=True))
        rules += [(_DAY_MARK, r"\1 "), (_MAIL_STAMP, _iso_stamp)]
    for pattern, plain in rules:
        text = text.str.replace(pattern, plain, regex=True)
    return with_marked_years(text)


def _iso_day(ordinal_day: re.Match[str]) -> str:
    """A day such as 2024-032 in months."""
    try:
        day = datetime.strptime(ordinal_day[0], "%Y-%j")
    except ValueError:
        return ordinal_day[0]
    return f"{day:%Y-%m-%d}"


def _iso_stamp(mail_stamp: re.Match[str]) -> str:
    """A stamp such as 31 Jan 2024 12:00 GMT in ISO 8601."""
    clock, zone = mail_stamp.groups()
    layout = "%d %b %Y %H:%M:%S" if clock.count(":") == 2 else "%d %b %Y %H:%M"
    try:
        stamp = datetime.strptime(clock, layout)
    except ValueError:
        return mail_stamp[0]
    return f"{stamp}{'Z' if zone.isalpha() else zone}"


def counts_in_text(text: pd.Series) -> np.ndarray | None:
    """Whole numbers that all texts spell with as many digits, such as milliseconds since 1970; None
    for other texts. Zeros may stand behind a decimal point.
    """
    text = text.str.replace(r"\.0+$", "", regex=True)
    n_digits = len(text.iloc[0])
    if n_digits > len(_LARGEST_INTEGER) or not text.str.fullmatch(rf"\d{{{n_digits}}}").all():
        return None
    if n_digits == len(_LARGEST_INTEGER) and text.max() > _LARGEST_INTEGER:
        return None
    return text.astype(np.int64).to_numpy()


def decimal_periods(numbers: np.ndarray) -> pd.Series | None:
    """First days of years with months or quarters behind a point, such as 2024.01 and 2024.1, or of
    months with their years, such as 1.2024, if all numbers may be such.

    Example:
        >>> decimal_periods(np.array([12.2023, 1.2024])).dt.month.tolist()
        [12, 1]
        >>> decimal_periods(np.array([2023.4, 2024.1])).dt.month.tolist()
        [10, 1]
    """
    if not np.isfinite(numbers).all():
        return None
    whole = np.floor(numbers)
    decimals = numbers - whole
    for years, parts, n_months in (
        (whole, 100 * decimals, 1),
        (10_000 * decimals, whole, 1),
        (whole, 10 * decimals, 3),
    ):
        are_whole = np.isclose([years, parts], np.rint([years, parts]), rtol=0, atol=1e-6).all()
        parts = np.rint(parts)
        are_parts = (parts >= 1) & (parts <= YEAR_MONTHS / n_months)
        if are_whole and are_parts.all() and are_years(years).all():
            months = YEAR_MONTHS * (np.rint(years) - 1970) + n_months * (parts - 1)
            return pd.Series(months.astype("M8[M]").astype("M8[ns]"))
    return None


def decimal_stamps(numbers: np.ndarray) -> pd.Series | None:
    """Stamps of numbers with decimals: of years, as :func:`decimal_years` reads them, of years with
    months or quarters, as :func:`decimal_periods` does, or of seconds since 1970, to the
    millisecond, if all may be such.
    """
    for read in (decimal_years, decimal_periods):
        stamps = read(numbers)
        if stamps is not None:
            return stamps
    if not ((numbers >= FIRST_EPOCH_SECOND) & (numbers < LAST_EPOCH_SECOND)).all():
        return None
    milliseconds = np.rint(1000 * numbers).astype(np.int64)
    return pd.Series(milliseconds.astype("M8[ms]").astype("M8[ns]"))


def _monday(week: re.Match[str]) -> str:
    """The first day of a week as ``2024-07-1``: the year, the week and the day of the week."""
    return f"{_numbered(week)}-1"


def layouts_of(text: str) -> list[str]:
    """The layouts, other than ISO 8601, that a stamp may have."""
    characters = set(text.upper())
    # Reading by one layout takes long, since Python compiles it.
    return [
        layout
        for layout, signs in _SIGNS_OF_LAYOUTS.items()
        if signs <= characters and _fits(text, layout)
    ]


def _fits(text: str, layout: str) -> bool:
    """Whether the text has that layout."""
    try:
        datetime.strptime(text, layout)
    except ValueError:
        return False
    return True
