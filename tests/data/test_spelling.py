"""Calls that turn spelt numbers into numbers: each is run on the column that it was advised for."""

import numpy as np
import pandas as pd
import pytest

from tsattn.data.spelling import conversion


def advised(cells):
    """The advice on a column of objects, of which a table has read the numbers."""
    values = [cell if isinstance(cell, int | float) else np.nan for cell in cells]
    column = pd.Series(cells, dtype=object)
    return conversion(column, np.array(values, dtype=np.float64), "df['y']")


COLUMNS = {
    "point": (["1,234.50", "980.25"], [1234.5, 980.25]),
    "comma": (["1.234,50", "980,25"], [1234.5, 980.25]),
    "spaces": (["1 234,5", "-0,5"], [1234.5, -0.5]),
    "thousands without decimals": (["1,234", "12,345,678"], [1234, 12345678]),
    "apostrophes": (["1'234.50", "1\u2019234"], [1234.5, 1234]),
    "narrow spaces": (["1\u202f234,5", "2,5"], [1234.5, 2.5]),
    "empty text": (["1,5", "", " "], [1.5, np.nan, np.nan]),
    "currency before": (["$1,234.50", "$5"], [1234.5, 5]),
    "currency after": (["12,5 €", "7 €"], [12.5, 7]),
    "percent": (["12%", "-7.5%"], [12, -7.5]),
    "a unit": (["12 kg", "13 kg"], [12, 13]),
    "empty cells": (["1,5", None, np.nan, pd.NA, "2"], [1.5, *[np.nan] * 3, 2]),
    "brackets": (["(1,234.50)", "5.00"], [-1234.5, 5]),
    "brackets among numbers": ([" (5.5)", 3.25, None], [-5.5, 3.25, np.nan]),
    "a sign behind": (["1.234,50-", "980,25", ""], [-1234.5, 980.25, np.nan]),
    "a typographic minus": (["\u22125", "7.5"], [-5, 7.5]),
    "several signs": (["\u22125", "(6)", "7-", "8"], [-5, -6, -7, 8]),
    "Indian groups": (["1,20,000.50", "12,34,567"], [120000.5, 1234567]),
    "thousands": (["100.3K", "98k", None], [100300, 98000, np.nan]),
    "thousands and millions": (["$1.5M", "$2bn", "$950K", "$1,200"], [1.5e6, 2e9, 950e3, 1200]),
    "footnotes": (["1.5*", "2.5", "3", "4 (p)"], [1.5, 2.5, 3, 4]),
    "a flag among numbers": (["1.5p", "2.5", 3.25], [1.5, 2.5, 3.25]),
    "numbers among texts": (["1,234.5", 3.25, 4], [1234.5, 3.25, 4]),
}


@pytest.mark.parametrize(("cells", "numbers"), COLUMNS.values(), ids=COLUMNS)
def test_the_call_turns_the_column_into_numbers(cells, numbers):
    df = pd.DataFrame({"y": pd.Series(cells, dtype=object)})
    call, reading = advised(cells).split(" reads ")
    exec(call, {"pd": pd, "df": df})
    np.testing.assert_array_equal(df["y"].astype(float), numbers)
    assert reading == f"{cells[0]!r} as {numbers[0]:g}"


@pytest.mark.parametrize(
    "cells",
    [
        ["12 kg", "900 g"],
        ["12", "12%"],
        ["(5.00", "6.00)"],
        ["5h", "30m"],
        ["<0.5", "7.5", "8"],
        ["1,5K", "2,5M"],
        ["5-6", "6-7"],
        ["(5.00 kg)", "3.00"],
        ["1.234,50", "1,234.50"],
        ["Fr. 5.00", "Fr. 6.00"],
        ["2024-01", "2024-02"],
        ["n/a", "-"],
        ["1,5", 1e-7],
        [None, np.nan],
        [1.0, 2j],
        ["1,5", 2j],
        ["1,5", pd.Timestamp("2024-01-01")],
        ["1,5", [1]],
        ["1,5", True],
    ],
)
def test_no_call_is_advised_that_would_change_a_value(cells):
    assert advised(cells) is None
