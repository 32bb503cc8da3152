"""Names of months in English, German and French."""

import re

import numpy as np
import pandas as pd

# Full and short names of each month by its short English one, in small letters.
NAMES = {
    "Jan": ("january", "januar", "jänner", "janvier", "jan", "jän", "janv"),
    "Feb": ("february", "februar", "feber", "février", "fevrier", "feb", "févr", "fevr", "fév"),
    "Mar": ("march", "märz", "maerz", "mars", "mar", "mär", "mrz"),
    "Apr": ("april", "avril", "apr", "avr"),
    "May": ("may", "mai"),
    "Jun": ("june", "juni", "juin", "jun"),
    "Jul": ("july", "juli", "juillet", "jul", "juil"),
    "Aug": ("august", "août", "aout", "aug"),
    "Sep": ("september", "septembre", "sep", "sept"),
    "Oct": ("october", "oktober", "octobre", "oct", "okt"),
    "Nov": ("november", "novembre", "nov"),
    "Dec": ("december", "dezember", "décembre", "decembre", "dec", "dez", "déc"),
}
_ENGLISH = {name: english for english, names in NAMES.items() for name in names}
_LONGEST_FIRST = sorted(_ENGLISH, key=len, reverse=True)
# Days of the longest months, and the share of months from the first to the last one that must occur
# where their years have two digits.
_MONTH_DAYS = 31
_LEAST_MONTHS_SHARE = 0.9
_MONTH_AND_NUMBER = re.compile(r"[A-Z][a-z]{2} \d\d")
_NAME = re.compile(rf"\b({'|'.join(_LONGEST_FIRST)})\b\.?", re.IGNORECASE)


def with_english_months(text: pd.Series) -> pd.Series:
    """Text with the short English name in place of each name of a month.

    Example:
        >>> with_english_months(pd.Series(["2024 März", "3 janv. 2024"])).tolist()
        ['2024 Mar', '3 Jan 2024']
    """
    return text.str.replace(_NAME, _short_english, regex=True)


def with_marked_years(text: pd.Series) -> pd.Series:
    """Months before years of two digits with a hyphen between them, if all are such and few are
    absent between the first and the last. Numbers that stay the same over several months may be
    days, and so may those of 31 years.

    Args:
        text: Stamps with short English names of months.

    Example:
        >>> with_marked_years(pd.Series(["Dec 23", "Jan 24", "Feb 24"])).tolist()
        ['Dec-23', 'Jan-24', 'Feb-24']
        >>> with_marked_years(pd.Series(["Jan 01", "Jan 02", "Jan 03"])).tolist()
        ['Jan 01', 'Jan 02', 'Jan 03']
    """
    # The first cell excludes most columns at little cost.
    is_first_one = _MONTH_AND_NUMBER.fullmatch(text.iloc[0])
    if not is_first_one or not text.str.fullmatch(_MONTH_AND_NUMBER).all():
        return text
    stamps = pd.to_datetime(text, format="%b %y", errors="coerce")
    if stamps.isna().any():
        return text
    distinct = stamps.drop_duplicates().dt
    months = 12 * distinct.year + distinct.month
    n_years = distinct.year.nunique()
    n_months = len(months)
    are_years = n_months == 1 or 1 < n_years < _MONTH_DAYS
    is_dense = n_months >= _LEAST_MONTHS_SHARE * (np.ptp(months) + 1)
    return text.str.replace(" ", "-") if are_years and is_dense else text


def name_patterns(text: pd.Series) -> dict[str, str]:
    """Patterns of the names of months that text holds, with the short English ones.

    Example:
        >>> name_patterns(pd.Series(["1. Mai 2024", "2. Mai 2024"]))
        {'\\\\bMai\\\\b\\\\.?': 'May'}
    """
    names = text.str.extractall(_NAME)[0].drop_duplicates()
    return {rf"\b{name}\b\.?": _ENGLISH[name.lower()] for name in names}


def month_of(word: str) -> int:
    """The number of a month by its name, 0 for another word.

    Example:
        >>> month_of("Dez"), month_of("août"), month_of("total")
        (12, 8, 0)
    """
    english = _ENGLISH.get(word.strip().rstrip(".").lower())
    return [*NAMES].index(english) + 1 if english else 0


def names_months(text: pd.Series) -> bool:
    """Whether all texts are a month and a number, of a day or a year.

    Example:
        >>> names_months(pd.Series(["Jan 24", "Dez 3"])), names_months(pd.Series(["Shop 3"]))
        (True, False)
    """
    words = text.str.extract(r"^(\w+)\.? \d\d?$")[0].drop_duplicates()
    return bool(words.notna().all() and words.map(month_of).all())


def _short_english(name: re.Match[str]) -> str:
    return _ENGLISH[name[1].lower()]
