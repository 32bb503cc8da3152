"""Calls that turn spelt numbers into numbers: each is run on the column that it was advised for."""

import re

import numpy as np
import pandas as pd
import pytest
from tables import FRENCH_MONTHS

from tsattn import PretrainedForecaster, Schema, forecast
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
    "a sign before a currency": (["-$5.50", "$1,003.20"], [-5.5, 1003.2]),
    "a currency in brackets": (["(€ 1.234,50)", "€ 3,20"], [-1234.5, 3.2]),
    "a sign behind a currency": (["5,50 €-", "3,20 €"], [-5.5, 3.2]),
    "plus and minus": (["+0.12%", "-3.1%", "0%"], [0.12, -3.1, 0]),
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
        ["12.-", "13.-"],
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


N = 40
DAYS = pd.date_range("2024-01-01", periods=N)
HOURS = pd.date_range("2024-01-01", periods=N, freq="h")
MONTHS = pd.date_range("2015-01-01", periods=N, freq="MS")
QUARTERS = pd.date_range("1995-01-01", periods=N, freq="QS")
HALVES = pd.date_range("1990-01-01", periods=N, freq="6MS")
SINCE_1970 = HOURS.as_unit("ns").asi8
BEFORE = pd.Timedelta("12D")


def spans(layout, between):
    ends = HOURS + pd.Timedelta("1h")
    return HOURS.strftime(layout) + between + ends.strftime(layout)


def numbered(layout, times, months):
    return [
        layout.format(y4=time.year, y2=f"{time.year % 100:02}", q=(time.month - 1) // months + 1)
        for time in times
    ]


GERMAN = ["Jan", "Feb", "Mär", "Apr", "Mai", "Jun", "Jul", "Aug", "Sep", "Okt", "Nov", "Dez"]


def named(layout, names, times):
    """Stamps with other names of months than English ones."""
    return [
        layout.format(time=time, month=names[time.month - 1], weekday=WEEKDAYS[time.dayofweek])
        for time in times
    ]


WEEKDAYS = ["Mo", "Di", "Mi", "Do", "Fr", "Sa", "So"]
STAMPS = {
    "German months": (named("{month} {time:%Y}", GERMAN, MONTHS), MONTHS),
    "German months of short years": (named("{month}-{time:%y}", GERMAN, MONTHS), MONTHS),
    "months before marks of years": (MONTHS.strftime("%b'%y"), MONTHS),
    "months before slanted marks of years": (MONTHS.strftime("%B \u2019%y"), MONTHS),
    "months before short years": (MONTHS.strftime("%b %y"), MONTHS),
    "long months before short years": (MONTHS.strftime("%B %y"), MONTHS),
    "Japanese months": (named("{time.year}年{time.month}月", GERMAN, MONTHS), MONTHS),
    "Japanese days": (DAYS.strftime("%Y年%m月%d日"), DAYS),
    "years before German months": (named("{time:%Y} {month}", GERMAN, MONTHS), MONTHS),
    "French months": (named("{month} {time:%Y}", FRENCH_MONTHS, MONTHS), MONTHS),
    "German days": (named("{weekday}, {time.day}. {month} {time:%Y}", GERMAN, DAYS), DAYS),
    "French days": (named("{time:%d} {month} {time:%Y}", FRENCH_MONTHS, DAYS), DAYS),
    "short years first": (DAYS.strftime("%y/%m/%d"), DAYS),
    "months of short years first": (MONTHS.strftime("%y.%m.%d"), MONTHS),
    "short years first, with hyphens": (DAYS.strftime("%y-%m-%d"), DAYS),
    "short years last, with hyphens": (DAYS.strftime("%d-%m-%y"), DAYS),
    "short years last after months, with hyphens": (DAYS.strftime("%m-%d-%y"), DAYS),
    "months of short years last, with hyphens": (MONTHS.strftime("%m-%d-%y"), MONTHS),
    "hours of short years first": (HOURS.strftime("%y/%m/%d %H:%M"), HOURS),
    "hours of short years last": (HOURS.strftime("%d-%m-%y %H:%M"), HOURS),
    "names of months between days and short years": (DAYS.strftime("%d-%b-%y"), DAYS),
    "spaces behind": (DAYS.strftime("%Y-%m-%d "), DAYS),
    "a space that does not break": (DAYS.strftime("\u00a0%d.%m.%Y"), DAYS),
    "long dates of Excel": (DAYS.strftime("%A, %B %d, %Y"), DAYS),
    "weekdays": (DAYS.strftime("%a %d/%m/%Y"), DAYS),
    "Sept": ([f"{month:%b %Y}".replace("Sep", "Sept") for month in MONTHS], MONTHS),
    "months with dots": (
        [f"{month:%B %Y}".replace("January", "Jan.") for month in MONTHS],
        MONTHS,
    ),
    "a comma before the time": ((HOURS + BEFORE).strftime("%d/%m/%Y, %H:%M:%S"), HOURS + BEFORE),
    "hours and minutes with a dot": ((HOURS + BEFORE).strftime("%d.%m.%Y %H.%M"), HOURS + BEFORE),
    "spans": (spans("%d.%m.%Y %H:%M", " - "), HOURS),
    "spans of ISO": (spans("%Y-%m-%dT%H:%MZ", "/"), HOURS.tz_localize("UTC")),
    "months of digits": (MONTHS.strftime("%Y%m"), MONTHS),
    "hours of digits": (HOURS.strftime("%Y%m%d%H"), HOURS),
    "seconds": ((SINCE_1970 // 10**9).astype(str), HOURS),
    "milliseconds": ((SINCE_1970 // 10**6).astype(str), HOURS),
    "nanoseconds": (SINCE_1970.astype(str), HOURS),
    "seconds with decimals": (
        SINCE_1970 / 10**9 + 0.125,
        HOURS + pd.Timedelta(125, "ms"),
    ),
    "seconds with zeros": ((SINCE_1970 // 10**9).astype(str) + ".000", HOURS),
    "e-mails": (HOURS.strftime("%a, %d %b %Y %H:%M:%S GMT"), HOURS.tz_localize("UTC")),
    "e-mails with offsets": (
        HOURS.strftime("%d %b %Y %H:%M:%S +0000"),
        HOURS.tz_localize("UTC"),
    ),
    "years of the World Bank": (
        [f"{year} [YR{year}]" for year in range(1970, 1970 + N)],
        pd.date_range("1970", periods=N, freq="YS"),
    ),
    "quarters first": (numbered("{q}Q{y2}", QUARTERS, 3), QUARTERS),
    "quarters of short years": (numbered("Q{q}-{y2}", QUARTERS, 3), QUARTERS),
    "quarters before years": (numbered("{q}Q{y4}", QUARTERS, 3), QUARTERS),
    "half-years": (numbered("{y4}-S{q}", HALVES, 6), HALVES),
    "half-years first": (numbered("H{q} {y4}", HALVES, 6), HALVES),
}


@pytest.mark.parametrize("name", STAMPS)
def test_stamps_are_read_as_they_are_written(name):
    cells, times = STAMPS[name]
    df = pd.DataFrame({"ds": list(cells)[:-1], "y": np.arange(N - 1.0)})
    answer = forecast(df, 1, model="naive")
    assert pd.DatetimeIndex(answer["ds"]).tolist() == [times[-1]]


ONE_YEAR = {"D": 20, "MS": 11, "B": 60}


@pytest.mark.parametrize("freq", ONE_YEAR)
@pytest.mark.parametrize("between", "-/.")
@pytest.mark.parametrize("layout", ["%y{0}%m{0}%d", "%d{0}%m{0}%y"])
def test_short_years_are_found_in_few_rows(layout, between, freq):
    """Twenty days of 24-01-01 were the 24th of January of twenty years, or the other way around."""
    days = pd.date_range("2024-01-01", periods=ONE_YEAR[freq] + 1, freq=freq)
    cells = days.strftime(layout.format(between))
    df = pd.DataFrame({"ds": cells[:-1], "y": np.arange(float(ONE_YEAR[freq]))})
    if layout.startswith("%d") and freq == "MS" and between != ".":
        with pytest.raises(ValueError, match="can be read day first or month first; write"):
            forecast(df, 1, model="naive")
        return
    assert forecast(df, 1, model="naive")["ds"].tolist() == [days[-1]]


@pytest.mark.parametrize("between", "-/")
@pytest.mark.parametrize("layout", ["%y{0}%m{0}%d", "%d{0}%m{0}%y"])
def test_short_years_that_may_be_days_are_refused(layout, between):
    years = pd.date_range("2015-01-01", periods=9, freq="YS")
    df = pd.DataFrame({"ds": years.strftime(layout.format(between)), "y": np.arange(9.0)})
    message = (
        "can be read with the year first or last; write them as 2024-01-31, or pass datetimes,"
        r" as from pd\.to_datetime\(\.\.\., format='%y-%m-%d'\)"
    )
    with pytest.raises(ValueError, match=message):
        forecast(df, 1, model="naive")


def test_months_of_short_years_may_have_gaps():
    months = pd.date_range("2022-01-01", periods=27, freq="MS")
    cells = months.strftime("%b %y").delete(14)
    df = pd.DataFrame({"when": cells[:-1], "y": np.arange(25.0)})
    with pytest.warns(UserWarning, match="no value at 2023-03-01"):
        answer = forecast(df, 1, model="naive")
    assert answer["when"].tolist() == [months[-1]]


YEAR_OF_DAYS = pd.date_range("2024-01-01", "2024-12-31")


@pytest.mark.parametrize(
    "days", [DAYS, MONTHS[:9], MONTHS[[0, 1, 3]], YEAR_OF_DAYS, YEAR_OF_DAYS[::7]]
)
def test_numbers_behind_months_that_may_be_days_are_no_years(days):
    df = pd.DataFrame({"when": days.strftime("%b %d"), "y": 1.0})
    with pytest.raises(ValueError, match="write times with their year, as 2024-01-31"):
        forecast(df, 1, model="naive")


@pytest.mark.parametrize("layout", ["%y-%m-%d", "%d-%m-%y", "%y/%m/%d", "%d/%m/%y"])
def test_short_years_with_gaps_lie_close_together(layout):
    days = pd.date_range("2024-01-01", periods=80).delete([11, 12, 30])
    df = pd.DataFrame({"ds": days.strftime(layout), "y": np.arange(77.0)})
    answer = forecast(df, 1, model="naive", missing="ffill")
    assert answer["ds"].tolist() == [days[-1] + pd.Timedelta("1D")]


def test_expected_stamps_tell_where_short_years_stand():
    days = pd.date_range("2024-01-01", periods=40)
    cells = days.strftime("%y/%m/%d")
    known = pd.DataFrame({"ds": cells[:38], "y": 1.0, "promo": np.arange(38) % 3 == 0})
    model = PretrainedForecaster(2, schema=Schema(future_cols=["promo"])).fit(known)
    future = pd.DataFrame({"ds": cells[38:], "promo": True})
    answer = model.predict(future=future)
    assert pd.DatetimeIndex(answer["ds"]).tolist() == days[38:].tolist()


@pytest.mark.parametrize("name", ["month", "Monat"])
def test_months_as_digits_of_text_are_the_times_of_values(name):
    months = MONTHS.strftime("%Y%m")
    df = pd.DataFrame({name: months[:-1], "sold": np.arange(N - 1.0)})
    answer = forecast(df, 1, model="naive")
    assert answer.to_dict("list") == {name: [MONTHS[-1]], "sold": [N - 2.0]}


def test_offsets_of_hours_are_no_spans():
    df = pd.DataFrame({"ds": HOURS.strftime("%Y-%m-%dT%H:%M-05:00"), "y": np.arange(float(N))})
    last = pd.Timestamp(df["ds"].iloc[-1])
    assert forecast(df, 1, model="naive")["ds"].tolist() == [last + pd.Timedelta("1h")]


def test_digits_that_count_the_rows_are_no_stamps_beside_times():
    codes = [str(200_101 + number) for number in range(12)]
    days = pd.date_range("2024-01-01", periods=12)
    df = pd.DataFrame({"zip": codes, "when": days.strftime("%d.%m.%Y"), "y": np.arange(12.0)})
    answer = forecast(df, 1, model="naive")
    assert answer["when"].tolist() == [pd.Timestamp("2024-01-13")]


def test_digits_of_ids_are_no_stamps():
    codes = [str(1_700_000_000 + number) for number in range(2)]
    df = pd.concat([pd.DataFrame({"day": DAYS.astype(str), "n": 1.0, "who": who}) for who in codes])
    answer = forecast(df, 1, model="naive")
    assert answer["who"].tolist() == codes


def test_integers_beyond_64_bits_are_no_stamps():
    df = pd.DataFrame({"ds": [f"{9 * 10**18 + 10**17 * 3 + k}" for k in range(9)], "y": 1.0})
    with pytest.raises(ValueError, match="cannot be read as a stamp"):
        forecast(df, 1)


WITH_WORDS = {
    "a flag and a word": (["n.d.", "1.5", "2.5 e", "3"], [np.nan, 1.5, 2.5, 3]),
    "approved and provisional": (["1 P", "2", "3", "Ice", "5 (R)"], [1, 2, 3, np.nan, 5]),
    "a comma and a word": (["1.234,5", "k.A.", "2", "3,5"], [1234.5, np.nan, 2, 3.5]),
    "a limit and a word": (["<0.5", "<1.5", "dry"], [0.5, 1.5, np.nan]),
}


@pytest.mark.parametrize(("cells", "numbers"), WITH_WORDS.values(), ids=WITH_WORDS)
def test_words_among_spelt_numbers_are_emptied_and_no_number_is(cells, numbers):
    months = pd.date_range("2020-01-01", periods=len(cells), freq="MS")
    df = pd.DataFrame({"month": months, "flow": pd.Series(cells, dtype=object)})
    with pytest.raises(ValueError, match=r" reads .* and empties '") as caught:
        forecast(df, 1)
    call = re.search(r"numbers; (df\['flow'\] = .*) reads ", str(caught.value))[1]
    exec(call, {"pd": pd, "df": df})
    np.testing.assert_array_equal(df["flow"], numbers)


def test_numbers_that_a_call_would_empty_are_named():
    cells = ["dry", *map(str, range(20)), "5 cm"]
    months = pd.date_range("2020-01-01", periods=22, freq="MS")
    df = pd.DataFrame({"month": months, "level": cells})
    with pytest.raises(ValueError, match="empties such cells, also '5 cm'; or"):
        forecast(df, 1)


@pytest.mark.parametrize("names", [["CET", "CEST"], ["EST", "EDT"], ["MEZ"]])
@pytest.mark.parametrize("freq", ["D", "h"])
def test_names_of_time_zones_are_replaced_by_offsets(names, freq):
    clock = pd.date_range("2024-03-01", periods=40, freq=freq)
    zones = [names[0] if row < 20 else names[-1] for row in range(40)]
    cells = [f"{time} {zone}" for time, zone in zip(clock, zones, strict=True)]
    # In summer the clocks go ahead, so that an hour is left out.
    if freq == "h" and len(names) > 1:
        clock = clock[:20].append(clock[20:] + pd.Timedelta("1h"))
        cells = [f"{time} {zone}" for time, zone in zip(clock, zones, strict=True)]
    df = pd.DataFrame({"ds": cells, "y": np.arange(40.0)})
    with pytest.raises(
        ValueError, match="write the offset from UTC in place of the zone"
    ) as caught:
        forecast(df, 1)
    exec(str(caught.value).split("zone: ")[1], {"df": df})
    answer = forecast(df, 1, model="naive")
    last = pd.Timestamp(df["ds"].iloc[-1])
    following = pd.Timestamp(answer["ds"].iloc[0])
    step = pd.Timedelta(1, freq)
    wall = following.tzinfo is None
    assert following == (last.tz_localize(None) if wall else last) + step


def test_stamps_with_other_words_behind_are_no_zones():
    df = pd.DataFrame({"ds": [f"2024-01-{day:02} 00:00 XYZ" for day in range(1, 30)], "y": 1.0})
    with pytest.raises(ValueError, match="correct it, or pass datetimes"):
        forecast(df, 1)


@pytest.mark.parametrize("mark", ["(p)", " *", "p", " [r]", "(R)"])
@pytest.mark.parametrize("layout", ["%YM%m", "%Y-%m", "%b %Y"])
def test_marks_behind_stamps_are_removed_and_no_row_is(mark, layout):
    cells = [*MONTHS.strftime(layout)]
    cells[-2:] = [f"{cell}{mark}" for cell in cells[-2:]]
    df = pd.DataFrame({"time": cells, "y": np.arange(float(N))})
    with pytest.raises(ValueError, match=r"in row 38 .* remove the mark behind it: ") as caught:
        forecast(df, 1)
    exec(str(caught.value).split("behind it: ")[1], {"df": df})
    assert df["time"].tolist() == MONTHS.strftime(layout).tolist()
    assert forecast(df, 1, model="naive")["y"].tolist() == [N - 1.0]
