"""Names of months in English, German and French."""

import re

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
_NAME = re.compile(rf"\b({'|'.join(_LONGEST_FIRST)})\b\.?", re.IGNORECASE)


def with_english_months(text: pd.Series) -> pd.Series:
    """Text with the short English name in place of each name of a month.

    Example:
        >>> with_english_months(pd.Series(["2024 März", "3 janv. 2024"])).tolist()
        ['2024 Mar', '3 Jan 2024']
    """
    return text.str.replace(_NAME, _short_english, regex=True)


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


def _short_english(name: re.Match[str]) -> str:
    return _ENGLISH[name[1].lower()]
