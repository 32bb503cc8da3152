"""Numbers that a table spells with separators, a currency, or a percent sign."""

import re
from typing import NamedTuple

import numpy as np
import pandas as pd


class _Spelling(NamedTuple):
    """One way to write numbers.

    Attributes:
        number: A number in it.
        dropped: Characters that mean nothing.
        mark: Decimal mark.
    """

    number: str
    dropped: str
    mark: str


# The first that fits all cells counts: groups of three digits are more likely than three decimals.
# Groups stand apart by a mark, an apostrophe, or a space, which may be one that does not break.
_SPELLINGS = (
    _Spelling(r"-?(\d{1,3}([,'\u2019\s]\d{3})+|\d+)(\.\d+)?", "[^0-9.-]", "."),
    _Spelling(r"-?(\d{1,3}([.'\u2019\s]\d{3})+|\d+)(,\d+)?", "[^0-9,-]", ","),
)
# Text before and after a number, such as a currency or a unit. Brackets and a typographic minus
# make a number negative.
_SURROUNDINGS = r"^[^\d(\u2212-]*|[^\d)-]*$"


def conversion(cells: pd.Series, values: np.ndarray, place: str) -> str | None:
    """The call of pandas that turns a column of spelt numbers into numbers, which was tried.

    Args:
        cells: The column. Cells without a value may be among them.
        values: The numbers among the cells, float64; NaN for all other cells, of which there is one
            at least.
        place: How Python writes it, such as ``"df['sales']"``.

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
    is_empty = cells.isna() | (cells.astype(str).str.strip() == "")
    is_other = ~is_text & ~is_empty.to_numpy() & np.isnan(values)
    texts = cells[is_text].astype(str).str.strip()
    units = texts.map(lambda text: tuple(re.findall(_SURROUNDINGS, text)))
    if is_other.any() or units.nunique() != 1:
        return None
    spelt = texts.str.replace(_SURROUNDINGS, "", regex=True)
    for spelling in _SPELLINGS:
        if not spelt.str.fullmatch(spelling.number).all():
            continue
        digits = cells.astype(str).str.replace(spelling.dropped, "", regex=True)
        numbers = pd.to_numeric(digits.str.replace(",", "."), errors="coerce").to_numpy(np.float64)
        keeps_others = np.array_equal(numbers[~is_text], values[~is_text], equal_nan=True)
        if np.isnan(numbers[is_text]).any() or not keeps_others:
            return None
        call = f"{place}.astype(str).str.replace(r'{spelling.dropped}', '', regex=True)"
        if spelling.mark == ",":
            call += ".str.replace(',', '.')"
        row = np.flatnonzero(is_text & np.isnan(values))[0]
        return f"{place} = pd.to_numeric({call}) reads {cells.iloc[row]!r} as {numbers[row]:g}"
    return None
