"""Every table that a data scientist may hold is read rightly, or refused in one clear line."""

import calendar
import copy
import datetime
import re

import narwhals
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from side_by_side import columns_of
from sklearn.base import clone

from tsattn import Schema, forecast
from tsattn.catalogue import load_forecaster, make_forecaster
from tsattn.data.frames import to_panel
from tsattn.distributed import predict_many
from tsattn.evaluate.backtest import backtest
from tsattn.forecaster import Fitted, Forecaster

N = 12
Y = np.arange(N) / 4  # the last is 2.75
DAYS = pd.date_range("2024-01-01", periods=N)
# Seconds since 1970, every five minutes but for a second or two.
UNEVEN = 1_700_000_000 + 300 * np.arange(N) + np.resize([0, 2, 1], N) - 1
NEW_YEAR = pd.date_range("2023-12-25", periods=N)
HALF_DAY = pd.date_range("2024-01-01", periods=N, freq="h")
MONTHS = pd.date_range("2012-01-01", periods=N, freq="MS")
HALVES = [*DAYS[:6], *DAYS[:6]]
HALVED = ["a"] * 6 + ["b"] * 6


class Interchange:
    """A frame that only speaks the dataframe interchange protocol."""

    def __init__(self, frame):
        self.__dataframe__ = frame.__dataframe__


class WithoutArrow:
    """A frame of polars where pyarrow is not installed."""

    def to_pandas(self):
        raise ModuleNotFoundError("pyarrow is required")


WEEKS = pd.date_range("2024-11-04", periods=12, freq="W-MON")


def long(**changed):
    """Two series of six days: a ends with 1.25, b with 2.75."""
    return pd.DataFrame({"unique_id": ["a"] * 6 + ["b"] * 6, "ds": HALVES, "y": Y} | changed)


def timed(times, name="when", **more):
    """One series with its times in a column, which has no telling name."""
    return pd.DataFrame({name: times, "y": Y} | more)


def text(layout, times=DAYS):
    return timed(times.strftime(layout))


def one_of_hours(day, clock, value):
    hours = pd.date_range("2024-01-01", periods=48, freq="h")
    cells = {day: hours.strftime("%d.%m.%Y"), clock: hours.strftime("%H:%M")}
    return pd.DataFrame(cells | {value: np.arange(48.0)})


def whole(layout, times=DAYS, name="when"):
    return timed(times.strftime(layout).astype(int), name)


def since_1970(unit, **more):
    return timed(DAYS.astype(f"M8[{unit}]").astype(int), **more)


def wide(**more):
    return pd.DataFrame({"u": Y, "v": -Y} | more, index=DAYS)


def levels(*columns, **changed):
    return long(k="x", **changed).set_index([*columns])[["y"]]


def quarters(layout):
    return timed([layout.format(year, q) for year in (2000, 2001, 2002) for q in (1, 2, 3, 4)])


SPANISH_MONTHS = [
    "ene",
    "feb",
    "mar",
    "abr",
    "may",
    "jun",
    "jul",
    "ago",
    "sep",
    "oct",
    "nov",
    "dic",
]


def first_and_last(between, freq):
    """Periods from 2024 on as their first and last day."""
    periods = pd.period_range("2024-01-01", periods=N, freq=freq)
    return timed([f"{one.start_time:%F}{between}{one.end_time:%F}" for one in periods])


def fiscal(layout, first):
    return timed([layout.format(year, (year + 1) % 100) for year in range(first, first + N)])


def weeks(layout):
    return timed([layout.format(2024, week) for week in range(1, N + 1)])


LONG = {"unique_id": ["a", "b"], "ds": ["2024-01-07"] * 2, "naive": [1.25, 2.75]}
DAY = {"when": ["2024-01-13"], "y": [2.75]}
HOUR = {"when": ["2024-01-01 12:00"], "y": [2.75]}
MONTH = {"when": ["2013-01-01"], "y": [2.75]}
FIRST_DAYS = pd.date_range("2000-01-01", periods=N, freq="QS")
QUARTER = {"when": ["2003-01-01"], "y": [2.75]}
WIDE = {"index": ["2024-01-13"], "u": [2.75], "v": [-2.75]}
ONE = {"index": ["2024-01-13"], "y": [2.75]}
COUNTED = {"index": [12], "y": [2.75]}
PARTS = (
    r"column '{}' holds times, .* in row 0, which cannot be forecast; name the time column by"
    r" time_col= \(join year, month and day into one column first\)"
)
BESIDE = (
    r"column '{}' holds times, .* in row 0, which cannot be forecast; drop the column, as .* does,"
    " or name the time column by time_col= and the one that is forecast by target_col="
)
KIND = (
    "data must be a frame, a series, a dict of columns, a Panel, or a list or array of numbers;"
    " got {}; "
)


def pattern(stamps, **more):
    """One series on stamps of a rule; the last value is the number of rows before."""
    stamps = pd.DatetimeIndex(stamps)
    return pd.DataFrame({"when": stamps, "y": np.arange(len(stamps), dtype=float)} | more)


def open_days(first, last, days):
    stamps = pd.date_range(first, last)
    return stamps[stamps.dayofweek.isin(days)]


def open_hours(first, last, *, days=range(5), start=7, end=21, freq="h", zone=None):
    stamps = pd.date_range(first, f"{last} 23:59", freq=freq, tz=zone)
    return stamps[stamps.dayofweek.isin(days) & (stamps.hour >= start) & (stamps.hour <= end)]


def shops(stores=(1, 2), items=("A", "B"), **more):
    """Sales by store and item, each from 0 to 2.75."""
    rows = [
        (store, item, day, sales)
        for store in stores
        for item in items
        for day, sales in zip(DAYS, Y, strict=True)
    ]
    return pd.DataFrame(rows, columns=["store", "item", "date", "sales"]).assign(**more)


def one_store(**more):
    return shops(items=["A"]).drop(columns="item").assign(**more)


COUNTS = [1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 13, 15]
SHOP = open_days("2023-01-02", "2024-03-30", range(6))
OFFICE = open_hours("2024-01-01", "2024-02-02")
STARTS = pd.date_range("2012-01-01", periods=N, freq="MS")
FIFTEENTHS = STARTS + pd.Timedelta(14, "D")
DECADES = STARTS.append([STARTS + pd.Timedelta(days, "D") for days in (10, 20)]).sort_values()
RETAIL = pd.Timestamp("2020-01-25") + pd.to_timedelta(np.cumsum([0, *[28, 28, 35] * 4]), "D")
HOLIDAYS = pd.to_datetime(["2023-05-01", "2023-12-25", "2024-01-01"])
NIGHTS = pd.date_range("2024-01-01", "2024-02-29 23:00", freq="h")
SOME_NIGHTS = NIGHTS[~((NIGHTS.hour < 6) & (NIGHTS.dayofyear % 17 == 0))]
KEYS = {
    "store": [1, 1, 2, 2],
    "item": ["A", "B", "A", "B"],
    "date": ["2024-01-13"] * 4,
    "naive": [2.75] * 4,
}
STORE = {"store": [1, 2], "date": ["2024-01-13"] * 2, "naive": [2.75] * 2}
TWO_NUMBERS = (
    r"'store' and 'item' tell series apart, and \['sales', 'promo'\] hold numbers, .*; name it by"
    r" target_col=, such as Schema\(target_col='sales'\)"
)

# What came in -> the first row forecast of each series, or what the error says.
TABLES = {
    # frames of other libraries
    "polars, long": (lambda: pl.from_pandas(long()), LONG),
    "polars, wide": (lambda: pl.from_pandas(text("%Y-%m-%d")), DAY),
    "polars, dates": (lambda: pl.from_pandas(timed(DAYS)).cast({"when": pl.Date}), DAY),
    "polars, a series": (lambda: pl.Series("y", Y), COUNTED),
    "polars, lazy": (
        lambda: pl.from_pandas(long()).lazy(),
        KIND.format("LazyFrame") + r"call its collect\(\) first",
    ),
    "pyarrow": (lambda: pa.Table.from_pandas(long()), LONG),
    "narwhals": (lambda: narwhals.from_native(pl.from_pandas(long())), LONG),
    "interchange protocol": (lambda: Interchange(long()), LONG),
    "columns of pyarrow": (lambda: long().convert_dtypes(dtype_backend="pyarrow"), LONG),
    "dates of pyarrow": (lambda: timed(pd.array(DAYS.date, dtype=pd.ArrowDtype(pa.date32()))), DAY),
    "no pyarrow": (
        WithoutArrow,
        r"by pyarrow \(pyarrow is required\); install it with: pip install 'tsattn\[files\]'",
    ),
    "records of numpy": (
        lambda: long().to_records(index=False),
        KIND.format("recarray") + "make a DataFrame of it",
    ),
    # series, lists, and what is none
    "series by day": (lambda: pd.Series(Y, index=DAYS), ONE),
    "series by quarter": (
        lambda: pd.Series(Y, index=pd.period_range("2000Q1", periods=N, freq="Q")),
        {"index": [pd.Period("2003Q1")], "y": [2.75]},
    ),
    "series that is called time": (
        lambda: pd.Series(Y, DAYS, name="time"),
        {"index": ["2024-01-13"], "time": [2.75]},
    ),
    "series of ids and times": (
        lambda: long().set_index(["unique_id", "ds"])["y"].rename("sold"),
        LONG,
    ),
    "list": (lambda: Y.tolist(), COUNTED),
    "array": (lambda: Y, COUNTED),
    "one number": (lambda: [2.75], {"index": [1], "y": [2.75]}),
    "empty list": (list, "the table is empty"),
    "list of lists": (lambda: [[1.0, 2.0]], KIND.format("list") + "make a DataFrame of it"),
    "cubic array": (lambda: np.ones((3, 3, 3)), KIND.format("ndarray")),
    "array of two columns": (
        lambda: np.column_stack([Y, -Y]),
        {"index": [12], "y1": [2.75], "y2": [-2.75]},
    ),
    "array of one column": (lambda: Y[:, None], COUNTED),
    "dict of columns": (lambda: {"when": DAYS, "y": Y.tolist()}, DAY),
    "dict of one value": (lambda: {"y": [2.75]}, {"index": [1], "y": [2.75]}),
    "dict of a number": (lambda: {"y": 2.75}, "a dict must hold columns of one length"),
    "dict of columns of two lengths": (
        lambda: {"ds": DAYS, "y": [1.0]},
        "a dict must hold columns of one length .*; give a list or an array a column",
    ),
    "numbers as text": (lambda: timed(DAYS, "when", y=Y.astype(str).astype(object)), DAY),
    "numbers as text of pandas": (
        lambda: timed(DAYS, "when", y=pd.array(Y.astype(str), dtype="string")),
        DAY,
    ),
    "numbers as text among gaps": (
        lambda: timed(DAYS, "when", y=["1", None, *Y[2:].astype(str)]),
        DAY,
    ),
    "codes as text": (
        lambda: timed(DAYS, "when", y=["007"] * N),
        r"column 'y' holds '007' .*, but values must be numbers; df\['y'\] = .* reads '007' as 7;",
    ),
    "a row of totals": (
        lambda: timed([*DAYS.strftime("%Y-%m-%d"), "Total"], "ds", y=[*Y, Y.sum()]),
        r"column 'ds' holds 'Total' in row 12, .*; correct it, or leave such rows out, as those of",
    ),
    "euros": (
        lambda: timed(DAYS, "when", y=["1.250,50 €"] * N),
        r"column 'y' holds '1.250,50 €' .* reads '1.250,50 €' as 1250.5; or write numbers",
    ),
    "thousands": (
        lambda: timed(DAYS, "when", y=["$1,250.50", *["$980"] * (N - 1)]),
        r"column 'y' holds '\$1,250.50' .* reads '\$1,250.50' as 1250.5; or write numbers",
    ),
    "units": (
        lambda: timed(DAYS, "when", y=["12 kg"] * N),
        r"column 'y' holds '12 kg' .* reads '12 kg' as 12; or correct the cell",
    ),
    "texts and dates": (
        lambda: timed(DAYS, "when", y=["1,5", *DAYS[1:]]),
        r"column 'y' holds '1,5' .*values must be numbers; write numbers with a decimal point",
    ),
    "unlike units": (
        lambda: timed(DAYS, "when", y=["12 kg", *["900 g"] * (N - 1)]),
        r"column 'y' holds '12 kg' .*values must be numbers; correct the cell",
    ),
    "events": (
        lambda: timed(
            pd.to_datetime("2024-01-01") + pd.to_timedelta(np.arange(N) ** 3 * 977, unit="s"),
            "when",
            y=Y,
        ),
        r"irregular stamps: .*; add events up by the hour, the day or the like, as df.resample",
    ),
    "array of numbers like times": (
        lambda: 1_700_000_000 + 60 * np.arange(N),
        {"index": [12], "y": [1_700_000_660]},
    ),
    "list of numbers like days": (lambda: [20240101] * N, {"index": [12], "y": [20240101]}),
    "an id with NUL": (
        lambda: long(unique_id=["a\0"] * 6 + ["a"] * 6),
        r"column 'unique_id' holds the id 'a.x00' with a NUL character",
    ),
    "path": (lambda: "data.csv", KIND.format("str")),
    "list of words": (
        lambda: ["a", "b"],
        "column 'y' holds 'a' at 0 .*, but values must be numbers",
    ),
    # indexes
    "index of ids and times": (lambda: levels("unique_id", "ds"), LONG),
    "index of times and ids": (lambda: levels("ds", "unique_id"), LONG),
    "index of times as text and ids": (
        lambda: levels("ds", "unique_id", ds=DAYS[[*range(6)] * 2].strftime("%Y-%m-%d")),
        LONG,
    ),
    "index of dates and ids": (
        lambda: levels("when", "shop", when=DAYS[[*range(6)] * 2].date, shop=HALVED),
        {"shop": ["a", "b"], "when": ["2024-01-07"] * 2, "naive": [1.25, 2.75]},
    ),
    "index of years and numbered ids": (
        lambda: levels("year", "shop", year=[*range(2001, 2007)] * 2, shop=[7] * 6 + [9] * 6),
        {"shop": [7, 9], "year": [2007] * 2, "naive": [1.25, 2.75]},
    ),
    "nameless levels": (lambda: levels("unique_id", "ds").rename_axis([None, None]), LONG),
    "levels of other names": (
        lambda: levels("unique_id", "ds").rename_axis(["shop", "day"]),
        {"shop": ["a", "b"], "day": ["2024-01-07"] * 2, "naive": [1.25, 2.75]},
    ),
    "stacked": (
        lambda: wide().rename_axis("day").stack(),
        {"unique_id": ["u", "v"], "day": ["2024-01-13"] * 2, "naive": [2.75, -2.75]},
    ),
    "levels of ids and numbers": (
        lambda: levels("unique_id", "ds", ds=[*range(6)] * 2),
        LONG | {"ds": [6, 6]},
    ),
    "ids in the index": (lambda: long().set_index("unique_id"), LONG),
    "times in the index": (lambda: long().set_index("ds"), LONG),
    "periods in the index": (
        lambda: wide().to_period("D"),
        WIDE | {"index": [pd.Period("2024-01-13", "D")]},
    ),
    "three levels": (
        lambda: levels("k", "unique_id", "ds"),
        {"k": ["x", "x"]} | LONG,
    ),
    "levels without times": (
        lambda: levels("k", "unique_id"),
        r"got 2 levels \['k', 'unique_id'\], none of times",
    ),
    "levels of times only": (
        lambda: levels("now", "then", now=HALVES, then=HALVES),
        r"\['now', 'then'\], 2 of times",
    ),
    "columns of two levels": (
        lambda: pd.concat({"x": wide()}, axis=1),
        r"columns must have one level; got 2; join their names: df.columns = ",
    ),
    "columns of years": (
        lambda: pd.DataFrame(np.ones((3, 4)), columns=range(2000, 2004)).assign(
            country=list("abc")
        ),
        r"columns 2000 to 2003 .* a row must be a time .*; turn the table, as df.set_index\('country'\).T",
    ),
    "columns of years, by two names": (
        lambda: pd.DataFrame(np.ones((3, 4)), columns=range(2000, 2004)).assign(
            country=list("abc"), code=list("xyz")
        ),
        r"turn the table, as df.melt\(\['country', 'code'\], var_name='time', value_name='value'\)",
    ),
    "columns of months": (
        lambda: pd.DataFrame(np.ones((2, N)), columns=MONTHS.strftime("%Y-%m"), index=["a", "b"]),
        "columns '2012-01' to '2012-12' are named by times, .*; turn the table, as df.T does",
    ),
    "columns of days, ids in the index": (
        lambda: pd.DataFrame(
            np.ones((2, N)), columns=DAYS, index=pd.Index(["a", "b"], name="item_id")
        ),
        "columns '2024-01-01 00:00:00' to '2024-01-12 00:00:00' are named by times, but a row must",
    ),
    "columns of years, in time": (
        lambda: pd.DataFrame({"2000": Y, "2001": Y, "2002": Y}, index=DAYS),
        {"index": ["2024-01-13"], "2002": [2.75]},
    ),
    # times
    "years": (lambda: timed(range(2000, 2012), "year"), {"year": [2012], "y": [2.75]}),
    "years by value": (lambda: timed(range(2000, 2012)), {"when": [2012], "y": [2.75]}),
    "years as floats": (
        lambda: timed(np.arange(2000.0, 2012), "Year"),
        {"Year": [2012], "y": [2.75]},
    ),
    "years and quarters in decimals": (
        lambda: timed(2000 + Y, "year"),
        {"year": ["2003-01-01"], "y": [2.75]},
    ),
    "years and months in decimals": (
        lambda: timed(np.round(2012 + np.arange(N) / 12, 3), "time"),
        {"time": ["2013-01-01"], "y": [2.75]},
    ),
    "hours without minutes": (lambda: text("%d.%m.%Y %H", HALF_DAY), HOUR),
    "hours without minutes or a zero": (
        lambda: timed([f"2024-01-01 {hour}" for hour in range(N)]),
        HOUR,
    ),
    "hours of half a day": (lambda: text("%m/%d/%Y %I %p", HALF_DAY), HOUR),
    "hours with a point": (lambda: text("%d/%m/%Y %H.%M", HALF_DAY), HOUR),
    "times of Oracle": (lambda: text("%d-%b-%y %I.%M.%S.%f %p", HALF_DAY), HOUR),
    "hours in ten digits of text": (lambda: text("%Y%m%d%H", HALF_DAY), HOUR),
    "minutes in twelve digits of text": (lambda: text("%Y%m%d%H%M", HALF_DAY), HOUR),
    "months in six digits of text": (lambda: text("%Y%m", MONTHS), MONTH),
    "seconds in text": (
        lambda: timed((HALF_DAY.astype("M8[s]").astype(int)).astype(str)),
        HOUR,
    ),
    "days of years in seven digits": (lambda: whole("%Y%j", NEW_YEAR), PARTS.format("when")),
    "days of years in seven digits of text": (
        lambda: text("%Y%j", NEW_YEAR),
        PARTS.format("when"),
    ),
    "hours up to 24 in ten digits": (
        lambda: timed([*range(2024010119, 2024010125), *range(2024010201, 2024010207)]),
        PARTS.format("when"),
    ),
    "days in eight digits, newest first": (
        lambda: whole("%Y%m%d", NEW_YEAR[::-1]),
        PARTS.format("when"),
    ),
    "days in eight digits, day first": (lambda: whole("%d%m%Y", NEW_YEAR), PARTS.format("when")),
    "values like days of one month": (
        lambda: pd.DataFrame({"u": 20240101 + np.arange(N) ** 2 // 8, "v": 2 * Y}),
        {"u": [20240116.0], "v": [5.5]},
    ),
    "days of years as the index": (
        lambda: pd.DataFrame({"u": Y}, index=NEW_YEAR.strftime("%Y%j").astype(int)),
        r"as pd.to_datetime\(df.index.astype\(str\).str.zfill\(7\), format='%Y%j'\) does",
    ),
    "years in odd decimals": (lambda: timed(2000 + Y / 7, "year"), PARTS.format("year")),
    "weeks in decimals": (
        lambda: timed(np.round(2012 + np.arange(N) / 52, 3), "time"),
        "column 'time' must hold stamps.* but holds 2012.0 in row 0; convert it",
    ),
    "years of a country": (
        lambda: pd.DataFrame(
            {"country": list("aabb"), "year": [2000, 2001] * 2, "y": [1.0, 2, 3, 4]}
        ),
        PARTS.format("year") + ", of a long table also id_col= and target_col=; or drop the column",
    ),
    "years and months": (
        lambda: timed([2000] * N, "year", month=range(1, 13)),
        PARTS.format("year"),
    ),
    "month beside times": (lambda: wide(month=1), BESIDE.format("month")),
    "epoch beside times": (lambda: since_1970("s", date=DAYS), BESIDE.format("when")),
    "text beside times": (lambda: timed(DAYS.astype(str), date=DAYS), BESIDE.format("when")),
    "quarters": (lambda: quarters("{}Q{}"), QUARTER),
    "quarters with a dash": (lambda: quarters("{}-Q{}"), QUARTER),
    "quarters first": (lambda: quarters("Q{1} {0}"), QUARTER),
    "months": (lambda: text("%Y-%m", MONTHS), MONTH),
    "months by name": (lambda: text("%b %Y", MONTHS), MONTH),
    "months of statistics": (lambda: text("%YM%m", MONTHS), MONTH),
    "weeks": (
        lambda: text("%G-W%V", pd.date_range("2024-01-01", periods=N, freq="W-MON")),
        {"when": ["2024-03-25"]},
    ),
    "weeks of one digit": (lambda: weeks("{}-W{}"), {"when": ["2024-03-25"]}),
    "weeks of a German table": (lambda: weeks("KW {1}/{0}"), {"when": ["2024-03-25"]}),
    "days of weeks": (lambda: text("%G-W%V-%u"), {"when": ["2024-01-13"]}),
    "days of years": (lambda: text("%Y-%j"), {"when": ["2024-01-13"]}),
    "fiscal years": (lambda: fiscal("FY{}/{:02}", 1995), {"when": ["2007-01-01"]}),
    "fiscal years by one year": (lambda: fiscal("FY {1:02}", 1989), {"when": ["2002-01-01"]}),
    "fiscal years like months": (lambda: fiscal("{}-{:02}", 2000), {"when": ["2012-01-01"]}),
    "months like fiscal years": (
        lambda: text("%Y-%m", pd.date_range("2010-11-01", periods=N, freq="MS")),
        {"when": ["2011-11-01"]},
    ),
    "weeks in words": (lambda: weeks("{} week {}"), {"when": ["2024-03-25"]}),
    "weeks as pandas writes them": (lambda: first_and_last("/", "W-SUN"), {"when": ["2024-03-25"]}),
    "months by first and last day": (lambda: first_and_last(" to ", "M"), {"when": ["2025-01-01"]}),
    "months in another language": (
        lambda: timed([f"{name} 2024" for name in SPANISH_MONTHS]),
        "holds 'ene 2024' .* write times as 2024-01-31, or drop the column, or name the one",
    ),
    "weeks as numbers": (
        lambda: whole("%G%V", pd.date_range("2024-01-01", periods=N, freq="W-MON"), "week"),
        "column 'week' holds 202401 in row 0, which spells a week.*'2024-W01', rename the column",
    ),
    "weeks as numbers, unnamed": (
        lambda: whole("%G%V", WEEKS, "ds"),
        r"holds 202445 in row 0, which spells a week.*; write it as '2024-W45', as df\['ds'\] = .*, or",
    ),
    "weeks as numbers, beside values": (
        lambda: whole("%G%V", WEEKS, "week").rename(columns={"y": "sold"}),
        "column 'week' holds 202445 in row 0, which spells a week",
    ),
    "weeks as numbers, newest first and called otherwise": (
        lambda: whole("%G%V", WEEKS, "period").rename(columns={"y": "sold"}).iloc[::-1],
        "column 'period' holds 2025.. in row 0, which spells a week",
    ),
    "few weeks as numbers, in German": (
        lambda: whole("%G%V", pd.date_range("2024-01-01", periods=N, freq="W-MON"), "KW"),
        "column 'KW' holds 202401 in row 0, which spells a week.*'2024-W01', rename the column",
    ),
    "weeks as digits of text, beside values": (
        lambda: timed(WEEKS.strftime("%G%V"), "week").rename(columns={"y": "sold"}),
        "column 'week' holds 202445 in row 0, which spells a week",
    ),
    "weeks as digits of text": (
        lambda: timed(WEEKS.strftime("%G%V"), "ds"),
        r"holds 202445 in row 0, which spells a week.*; write it as '2024-W45', as df\['ds'\] = ",
    ),
    "numbers of weeks beside times": (lambda: wide(wk=range(1, 13)), BESIDE.format("wk")),
    "quarters as numbers": (
        lambda: timed([10 * y + q for y in (2022, 2023, 2024) for q in range(1, 5)], "ds"),
        "column 'ds' holds 20221 in row 0, which spells a quarter.*; write it as '2022Q1', as",
    ),
    "days first, as numbers": (
        lambda: whole("%d%m%Y", pd.date_range("2024-01-26", periods=N), "ds"),
        r"holds 26012024 in row 0, which spells a day.*zfill.8., format='%d%m%Y'. does, or pass",
    ),
    "years in another language": (
        lambda: pd.DataFrame({"Jahr": [2023] * 4 + [2024], "Monat": [9, 10, 11, 12, 1], "y": 1.0}),
        "column 'Jahr' holds times, 2023 in row 0",
    ),
    "totals in the last row": (
        lambda: pd.DataFrame({"Tag": [*DAYS.strftime("%d.%m.%Y"), "Summe"], "y": [*Y, 9.0]}),
        "column 'Tag' holds 'Summe' in row 12, which cannot be read .* as those of totals",
    ),
    "totals below datetimes": (
        lambda: pd.DataFrame({"Tag": [*DAYS, "Summe"], "y": [*Y, 9.0]}),
        "column 'Tag' holds 'Summe' in row 12 and Timestamp.* in row 0, .* as those of totals",
    ),
    "several orders of a day": (
        lambda: pd.DataFrame(
            {"date": DAYS.repeat(2), "order_id": range(100, 124), "paid": np.arange(24) / 4}
        ),
        r"else add up, .* as df.groupby\(\['date'\], as_index=False\)\[\['paid'\]\].sum\(\) does",
    ),
    "days that a sheet keeps as text": (
        lambda: timed([*DAYS[:6], *DAYS[6:].strftime("%d.%m.%Y")], "date"),
        r"holds '07.01.2024' in row 6 \(and 5 more\) and Timestamp.* in row 0.* all of them in one",
    ),
    "days and times of day": (
        lambda: one_of_hours("Tag", "Uhrzeit", "Last"),
        "column 'Uhrzeit' holds times of the days of column 'Tag'.*join them by df.drop",
    ),
    "days and times of day under common names": (
        lambda: one_of_hours("date", "time", "y"),
        "column 'time' holds times of the days of column 'date'.*join them by df.drop",
    ),
    "text of numbers, one bad": (
        lambda: timed(DAYS).assign(y=[*map(str, range(N - 1)), "n/a"]),
        "column 'y' holds 'n/a' at 2024-01-12 00:00:00, but values must be numbers; .*coerce",
    ),
    "text of numbers, one empty": (
        lambda: timed(DAYS).assign(y=[*map(str, range(N - 1)), ""]),
        DAY | {"y": [10.0]},
    ),
    "days in words": (lambda: text("%d %B %Y"), DAY),
    "days in zone Z": (
        lambda: text("%Y-%m-%d 00:00:00 UTC"),
        {"when": ["2024-01-13 00:00:00+00:00"]},
    ),
    "newest first": (lambda: timed(DAYS.astype(str)).iloc[::-1], DAY | {"y": [2.75]}),
    "categories of text": (
        lambda: timed(pd.Categorical(DAYS.astype(str)), "ds"),
        {"ds": ["2024-01-13"]},
    ),
    "periods": (
        lambda: timed(DAYS.to_period("D")),
        DAY | {"when": [pd.Period("2024-01-13", "D")]},
    ),
    "date objects": (lambda: timed(DAYS.date, "ds"), {"ds": ["2024-01-13"]}),
    "years of countries, with codes": (
        lambda: pd.DataFrame(
            {
                "Entity": HALVED,
                "Code": ["A"] * 6 + ["B"] * 6,
                "Year": [*range(2000, 2006)] * 2,
                "Cases": Y,
            }
        ),
        {"Code": ["A", "B"], "Year": [2006, 2006], "naive": [1.25, 2.75]},
    ),
    "years and days of these": (
        lambda: pd.DataFrame({"year": [2000] * 6 + [2001] * 6, "day": [*range(1, 7)] * 2, "y": Y}),
        "column 'year' holds times, 2000 in row 0, which cannot be forecast",
    ),
    "days from a start": (lambda: timed(range(N), "Nth day"), {"Nth day": [12], "y": [2.75]}),
    "numbers of observations": (lambda: timed(range(1, 1 + N), "obs"), {"obs": [13], "y": [2.75]}),
    "a day that is left out": (
        lambda: timed([*range(5), *range(6, N + 1)], "day"),
        {"day": [13], "y": [2.75]},
    ),
    "weeks of shops": (
        lambda: pd.DataFrame({"shop": [*"ab"] * 6, "week": np.repeat(range(1, 7), 2), "sold": Y}),
        {"shop": [*"ab"], "week": [7, 7], "naive": [2.5, 2.75]},
    ),
    "weeks of shops, with prices": (
        lambda: pd.DataFrame(
            {"shop": [*"ab"] * 6, "week": np.repeat(range(1, 7), 2), "sold": Y, "price": Y}
        ),
        r"'shop' tells series apart, and \['sold', 'price'\] hold numbers.*name it by target_col=",
    ),
    "months of columns that are years": (
        lambda: pd.DataFrame({"month": range(1, 13), "2019": Y, "2020": Y + 1, "2021": Y + 2}),
        r"columns 2019 to 2021 are named by times, .*; turn the table, as df.set_index\('month'\).T does",
    ),
    "seconds since 1970 beside numbered sensors": (
        lambda: since_1970("s").rename(columns={"y": "2001"}).assign(**{"2002": Y, "2003": Y}),
        {"2001": [2.75], "2003": [2.75]},
    ),
    "halves of elapsed steps": (
        lambda: timed(np.arange(N) + 0.5, "elapsed"),
        PARTS.format("elapsed"),
    ),
    "years before stamps": (
        lambda: timed(range(1672, 1672 + N), "year"),
        {"year": [1684], "y": [2.75]},
    ),
    "years from 1": (lambda: timed(range(1, 1 + N), "year"), {"year": [13], "y": [2.75]}),
    "datetimes of other years": (
        lambda: timed(pd.date_range("1400-01-01", periods=N, freq="YS", unit="s"), "ds"),
        r"holds Timestamp\('1400-01-01 00:00:00'\) in row 0 .*of the years 1678 to 2261; write whole numbers, such as those of years, and pass freq=1",
    ),
    "text of other years": (
        lambda: timed([f"{year}-01-01" for year in range(1400, 1400 + N)], "ds"),
        "holds '1400-01-01' in row 0 .*; write whole numbers, such as those of years, and pass freq=1",
    ),
    "periods of other years": (
        lambda: pd.Series(Y, index=pd.period_range("1400", periods=N, freq="Y")),
        r"holds Period\('1400', 'Y-DEC'\) in row 0 .*; write whole numbers",
    ),
    "YYYYMMDD": (lambda: whole("%Y%m%d"), DAY),
    "YYYYMM": (lambda: whole("%Y%m", MONTHS), MONTH),
    "YYYYMMDDHHMM": (lambda: whole("%Y%m%d%H%M"), DAY),
    "YYYYMMDD, one bad": (
        lambda: timed([*DAYS.strftime("%Y%m%d").astype(int)[:-1], 20240230], "ds"),
        "column 'ds' holds 20240230 in row 11, which cannot be read as a stamp",
    ),
    "epoch, seconds": (lambda: since_1970("s"), DAY),
    "epoch, milliseconds": (lambda: since_1970("ms"), DAY),
    "epoch, floats": (lambda: since_1970("ms").astype({"when": float}), DAY),
    "epoch, nanoseconds": (lambda: since_1970("ns"), DAY),
    "totals among text": (
        lambda: timed([*DAYS.strftime("%Y-%m-%d")[:-4], *["Week total"] * 4], "date"),
        "holds 'Week total' .* correct it, or leave such rows out, as those of totals",
    ),
    "totals among datetimes": (
        lambda: timed([*DAYS.to_pydatetime()[:-4], *["Week total"] * 4], "date"),
        "holds 'Week total' .* correct it, or leave such rows out, as those of totals",
    ),
    "epoch, uneven": (
        lambda: timed(UNEVEN, "ts"),
        "irregular stamps: .* so the frequency cannot be inferred; round the stamps",
    ),
    "epoch, uneven, newest first": (
        lambda: timed(1000 * UNEVEN[::-1], "EventTime_ms"),
        "irregular stamps: .* so the frequency cannot be inferred; round the stamps",
    ),
    "epoch, uneven, in decimals": (
        lambda: timed(UNEVEN + 0.25, "Zeit"),
        "irregular stamps: .* so the frequency cannot be inferred; round the stamps",
    ),
    "large counts that rise unevenly": (
        lambda: timed(UNEVEN, "lifetime_views"),
        {"index": [12], "lifetime_views": [1_700_003_300], "y": [2.75]},
    ),
    "rising counts stay channels": (lambda: wide(w=range(2000, 2012)), WIDE | {"w": [2011]}),
    "counts that rise unevenly": (
        lambda: timed(2000 + np.arange(N) ** 2, "u"),
        {"index": [12], "u": [2121], "y": [2.75]},
    ),
    "times of two columns": (
        lambda: timed(DAYS, "date", time=DAYS),
        r"columns \['date', 'time'\] could all hold",
    ),
    "hours beside their day": (
        lambda: timed(
            pd.date_range("2024-01-01", periods=N, freq="6h"), "time", date=DAYS[:3].repeat(4)
        ),
        "column 'date' holds Timestamp.* but values must be numbers",
    ),
    "half of the objects in a zone": (
        lambda: timed([pd.Timestamp("2024-01-01"), *DAYS[1:].tz_localize("UTC")], "ds"),
        (
            r"'2024-01-02 00:00:00\+00:00' in row 1 and .* in row 0 cannot be compared, since only"
            r" some stamps carry"
        ),
    ),
    "half of the text in a zone": (
        lambda: timed(["2024-01-01T00:00", *DAYS[1:].strftime("%Y-%m-%dT%H:%MZ")], "ds"),
        "in row 1 and '2024-01-01T00:00' in row 0 cannot be compared, since only some stamps carry",
    ),
    "day or month first": (
        lambda: text("%d/%m/%Y").rename(columns={"when": "ds"}),
        "read day first or month first",
    ),
    "first days of quarters, day first": (lambda: text("%d/%m/%Y", FIRST_DAYS), QUARTER),
    "first days of quarters, month first": (lambda: text("%m/%d/%y", FIRST_DAYS), QUARTER),
    "times of the day": (
        lambda: timed([datetime.time(h) for h in range(N)], "ds"),
        "must hold stamps.*; got time",
    ),
    "two layouts of dates": (
        lambda: timed([*DAYS[:6].astype(str), *DAYS[6:].strftime("%d.%m.%Y")], "ds"),
        (
            r"in row 6 \(and 5 more\), which cannot be read as a stamp of the years 1678 to 2261;"
            r" write all in one way, as '2024-01-01' in row 0"
        ),
    ),
    "words": (
        lambda: timed(["soon"] * N, "ds"),
        "holds 'soon' in row 0 .*, which cannot be read as a stamp",
    ),
    # names
    "no names": (
        lambda: long().rename(columns={"unique_id": "shop", "ds": "day", "y": "sales"}),
        {"shop": ["a", "b"], "day": ["2024-01-07"] * 2, "naive": [1.25, 2.75]},
    ),
    "no target": (
        lambda: long(price=1.0).rename(columns={"y": "sales"}),
        r"column 'y' is missing; the table has columns \[.*'sales'.*\]; name it by target_col=",
    ),
    "complex": (
        lambda: wide(w=Y.astype(complex)),
        "column 'w' holds 0j at .*, but values must be numbers",
    ),
    "nothing known at first": (
        lambda: wide(w=pd.array([None, *range(1, N)], dtype="Int64")),
        {"w": [11.0]},
    ),
    "infinite": (
        lambda: long(y=[np.inf, *Y[1:]]),
        "series 'a': column 'y' holds inf at 2024-01-01",
    ),
    "duplicates": (
        lambda: long(unique_id="a"),
        "series 'a': duplicate stamp 2024-01-01 .*join a further column to the id",
    ),
    "duplicates without ids": (
        lambda: long().drop(columns="unique_id"),
        "name the column that tells them by id_col=; else add up, average or drop",
    ),
    # opening hours and closed days
    "a shop closed on Sundays": (lambda: pattern(SHOP), {"when": ["2024-04-01"], "y": [389]}),
    "a shop closed on Mondays": (
        lambda: pattern(open_days("2023-01-03", "2024-03-31", range(1, 7))),
        {"when": ["2024-04-02"]},
    ),
    "a market on two days": (
        lambda: pattern(open_days("2023-01-04", "2024-03-30", [2, 5])),
        {"when": ["2024-04-03"]},
    ),
    "weekends only": (
        lambda: pattern(open_days("2023-01-07", "2024-03-31", [5, 6])),
        {"when": ["2024-04-06"]},
    ),
    "workdays": (
        lambda: pattern(open_days("2024-01-01", "2024-02-02", range(5))),
        {"when": ["2024-02-05"], "y": [24]},
    ),
    "a shop with holidays": (
        lambda: pattern(SHOP[~SHOP.isin(HOLIDAYS)]),
        {"when": ["2024-04-01"], "y": [386]},
    ),
    "a shop once open on a Sunday": (
        lambda: pattern(SHOP.append(pd.DatetimeIndex(["2023-12-17"]))),
        {"when": ["2024-04-01"], "y": [389]},
    ),
    "a last row on a closed day": (
        lambda: pattern(SHOP.append(pd.DatetimeIndex(["2024-03-31"]))),
        {"when": ["2024-04-01"], "y": [389]},
    ),
    "a first row on a closed day": (
        lambda: pattern(pd.DatetimeIndex(["2023-01-01"]).append(SHOP)),
        {"when": ["2024-04-01"], "y": [390]},
    ),
    "a shop, newest first": (lambda: pattern(SHOP).iloc[::-1], {"when": ["2024-04-01"]}),
    "a shop, as text": (lambda: pattern(SHOP).astype({"when": str}), {"when": ["2024-04-01"]}),
    "a shop, in the index": (
        lambda: pd.Series(np.arange(float(len(SHOP))), index=SHOP),
        {"index": ["2024-04-01"], "y": [389]},
    ),
    "a shop, wide": (
        lambda: pattern(SHOP, z=1.0),
        {"when": ["2024-04-01"], "y": [389], "z": [1.0]},
    ),
    "an office": (lambda: pattern(OFFICE), {"when": ["2024-02-05 07:00"], "y": [374]}),
    "an office, cut at noon": (lambda: pattern(OFFICE[:-9]), {"when": ["2024-02-02 13:00"]}),
    "an office by the half hour": (
        lambda: pattern(open_hours("2024-01-01", "2024-02-02", freq="30min", start=9, end=16)),
        {"when": ["2024-02-05 09:00"]},
    ),
    "an office with a holiday": (
        lambda: pattern(OFFICE[OFFICE.day != 9]),
        {"when": ["2024-02-05 07:00"]},
    ),
    "an office in a zone": (
        lambda: pattern(open_hours("2024-03-01", "2024-04-19", zone="Europe/Berlin")),
        {"when": ["2024-04-22 07:00+02:00"]},
    ),
    "an office in a zone, as instants": (
        lambda: pattern(
            open_hours("2024-03-01", "2024-04-19", zone="Europe/Berlin").tz_convert("UTC")
        ),
        {"when": ["2024-04-19 20:00+00:00"]},
    ),
    "open every day from eight": (
        lambda: pattern(open_hours("2024-01-01", "2024-02-02", days=range(7), start=8, end=20)),
        {"when": ["2024-02-03 08:00"]},
    ),
    "a few nights without rows": (
        lambda: pattern(SOME_NIGHTS),
        {"when": [SOME_NIGHTS[-1] + pd.Timedelta("1h")]},
    ),
    "closed on Sundays at first": (
        lambda: pattern(SHOP.append(pd.date_range("2024-03-31", "2025-04-30"))),
        {"when": ["2025-05-01"]},
    ),
    "shops of other days off": (
        lambda: pd.concat(
            [
                pattern(open_days("2023-01-02", "2024-03-31", days)).assign(unique_id=name)
                for name, days in {"a": range(1, 7), "b": range(6)}.items()
            ]
        ).rename(columns={"when": "ds"}),
        {"ds": ["2024-04-01", "2024-03-31"]},
    ),
    # days of the month and months of weeks
    "monthly on the 15th": (lambda: timed(FIFTEENTHS), {"when": ["2013-01-15"], "y": [2.75]}),
    "monthly on the 15th, as text": (
        lambda: text("%Y-%m-%d", FIFTEENTHS),
        {"when": ["2013-01-15"], "y": [2.75]},
    ),
    "monthly on the 15th, YYYYMMDD": (
        lambda: whole("%Y%m%d", FIFTEENTHS),
        {"when": ["2013-01-15"], "y": [2.75]},
    ),
    "quarterly on the 15th": (
        lambda: timed(pd.date_range("2010-02-01", periods=N, freq="3MS") + pd.Timedelta(14, "D")),
        {"when": ["2013-02-15"]},
    ),
    "monthly on the 30th": (
        lambda: timed([m + pd.Timedelta(min(30, m.days_in_month) - 1, "D") for m in STARTS]),
        {"when": ["2013-01-30"]},
    ),
    "twice a month": (
        lambda: pattern(STARTS.append(FIFTEENTHS).sort_values()),
        {"when": ["2013-01-01"], "y": [23]},
    ),
    "twice a month, to the first": (
        lambda: pattern(STARTS.append(FIFTEENTHS).sort_values()[:-1]),
        {"when": ["2012-12-15"]},
    ),
    "on the 15th and the last": (
        lambda: pattern(FIFTEENTHS.append(STARTS + pd.offsets.MonthEnd(1)).sort_values()),
        {"when": ["2013-01-15"]},
    ),
    "decades of days": (lambda: pattern(DECADES), {"when": ["2013-01-01"], "y": [35]}),
    "decades of days, cut": (lambda: pattern(DECADES[:-1]), {"when": ["2012-12-21"]}),
    "months of 4-4-5 weeks": (lambda: pattern(RETAIL), {"when": ["2021-02-20"], "y": [12]}),
    "months of 4-4-5 weeks, cut": (lambda: pattern(RETAIL[:-1]), {"when": ["2021-01-23"]}),
    # several keys
    "store and item": (shops, KEYS),
    "store and item, shuffled": (lambda: shops().sample(frac=1, random_state=0), KEYS),
    "a store by number": (one_store, STORE),
    "a store by text": (lambda: one_store().astype({"store": str}), STORE | {"store": ["1", "2"]}),
    "store and item, dates in the index": (
        lambda: shops().set_index("date"),
        KEYS,
    ),
    "store and item, as levels": (lambda: shops().set_index(["store", "item", "date"]), KEYS),
    "store and item of polars": (lambda: pl.from_pandas(shops()), KEYS),
    "store and item, with promo": (lambda: shops(promo=1), TWO_NUMBERS),
    "a store, with promo": (lambda: one_store(promo=0), "name it by target_col="),
    "store and item with values called y": (
        lambda: shops(promo=1).rename(columns={"sales": "y"}),
        KEYS,
    ),
    "an id and a store": (
        lambda: shops().rename(columns={"item": "unique_id", "sales": "y", "date": "ds"}),
        r"\['unique_id', 'store'\] tell the rows apart: pass id_col=\['unique_id', 'store'\]",
    ),
    "a row twice": (
        lambda: pd.concat([one_store(), one_store().iloc[[3]]]),
        r"series 1: duplicate stamp 2024-01-04 .*; drop the further rows, whose values are equal,"
        r" as df.drop_duplicates\(\['store', 'date'\]\) does; or, if ids repeat, join a further",
    ),
    "a row twice in one series": (
        lambda: pd.concat([timed(DAYS), timed(DAYS).iloc[[3]]]),
        "duplicate stamp 2024-01-04 00:00:00, .*; drop the further rows, whose values are equal",
    ),
    "an id that is missing": (
        lambda: long(unique_id=["a"] * 6 + [None] * 6),
        "column 'unique_id' has no id in row 6 .and 5 more.",
    ),
    "ids of text and numbers": (
        lambda: long(unique_id=["a"] * 6 + [1] * 6),
        LONG | {"unique_id": [1, "a"], "naive": [2.75, 1.25]},
    ),
    "ids that differ by a space": (
        lambda: long(unique_id=["a"] * 6 + ["a "] * 6),
        LONG | {"unique_id": ["a", "a "]},
    ),
    # series that cannot be forecast
    "a series of ten years ago": (
        lambda: long(ds=[*(DAYS[:6] - pd.Timedelta(3652, "D")), *DAYS[:6]]),
        LONG | {"ds": ["2014-01-07", "2024-01-07"]},
    ),
    "a column without values": (lambda: wide(u=np.nan), WIDE | {"v": [-2.75]} | {"u": [np.nan]}),
    "a series of one row": (
        lambda: long().iloc[5:],
        LONG,
    ),
    "no values at all": (
        lambda: timed(DAYS, y=np.nan),
        "column 'y' has no value at all from 2024-01-01 00:00:00",
    ),
    "one row": (lambda: timed(DAYS).iloc[:1], "one stamp only .*; pass freq="),
    "a stamp that is missing": (
        lambda: timed([*DAYS[:-1], pd.NaT]),
        "column 'when' has no stamp in row 11",
    ),
    # values
    "whole numbers near 2 to the 60th": (
        lambda: long(y=2**60 + 1024 * np.arange(N)),
        LONG | {"naive": [2**60 + 5120, 2**60 + 11264]},
    ),
    "unsigned numbers": (
        lambda: timed(DAYS, y=np.full(N, 2**63, dtype="uint64")),
        DAY | {"y": [2.0**63]},
    ),
    "yes and no": (lambda: timed(DAYS, y=[False, True] * 6), DAY | {"y": [1]}),
    "half precision": (lambda: timed(DAYS, y=Y.astype("float16")), DAY),
    "a sparse column": (lambda: timed(DAYS, y=pd.arrays.SparseArray(Y)), DAY),
    "a sentinel as text": (
        lambda: timed(DAYS, y=["n/a", *Y[1:].astype(str)]),
        "column 'y' holds 'n/a' at 2024-01-01 .*leave a cell without a value empty",
    ),
    "a decimal comma": (
        lambda: timed(DAYS, y=[f"{value:.2f}".replace(".", ",") for value in Y]),
        "column 'y' holds '0,00' .*write numbers with a decimal point only",
    ),
    "per cent": (
        lambda: timed(DAYS, y=[f"{value}%" for value in Y]),
        "column 'y' holds '0.0%' .*write numbers with a decimal point only",
    ),
    "durations": (
        lambda: timed(DAYS, y=pd.to_timedelta(Y, "h")),
        r"column 'y' holds Timedelta.* but values must be numbers; df\['y'\] = "
        r"df\['y'\].dt.total_seconds\(\) makes seconds of durations",
    ),
    "words for booleans": (
        lambda: timed(DAYS, y=["True", "False"] * 6),
        r"holds 'True' .*; df\['y'\] = df\['y'\].map\({'True': True, 'False': False}\); or "
        "write the words as 1 and 0, or leave a cell without a value empty",
    ),
    "brackets": (
        lambda: timed(DAYS, y=[f"({value})" for value in Y]),
        r"holds '\(0.0\)' .* reads '\(0.0\)' as -0; or write numbers with the sign - in front",
    ),
    "editions": (
        lambda: timed([f"No. {year}" for year in range(2000, 2000 + N)], "ds"),
        r"'No. 2000' in row 0 .*; if these are years, write them alone: df\['ds'\] = ",
    ),
    "days with two digits of the year": (lambda: text("%d.%m.%y"), DAY),
    "no value in the only column": (
        lambda: timed(DAYS, y=np.nan),
        "has no value at all from .*; fill in values, or name the column that is forecast by",
    ),
    # serial numbers, decimals and other spellings of times
    "serial numbers of days": (
        lambda: timed(45292 + np.arange(N), "date"),
        {"date": ["2024-01-13"], "y": [2.75]},
    ),
    "serial numbers of hours": (
        lambda: timed(45292 + np.arange(N) / 24, "Date"),
        {"Date": ["2024-01-01 12:00"], "y": [2.75]},
    ),
    "serial numbers of months": (
        lambda: timed((MONTHS - pd.Timestamp("1899-12-30")).days, "date"),
        {"date": ["2013-01-01"], "y": [2.75]},
    ),
    "numbers like those of days": (
        lambda: timed(45292 + np.arange(N), "ds"),
        {"ds": [45304], "naive": [2.75]},
    ),
    "months in four decimals": (
        lambda: timed(np.round(1960 + np.arange(N) / 12, 4), "time"),
        {"time": [pd.Timestamp("1961-01-01")], "y": [2.75]},
    ),
    "quarters as a decimal digit": (
        lambda: timed([y + q / 10 for y in (2000, 2001, 2002) for q in (1, 2, 3, 4)]),
        QUARTER,
    ),
    "months behind the point of a year": (
        lambda: timed(
            [2012 + m / 100 for m in range(6, 13)] + [2013 + m / 100 for m in range(1, 6)]
        ),
        {"when": ["2013-06-01"], "y": [2.75]},
    ),
    "months before the point of a year, of which a file has 1.2013 where it says 01.2013": (
        lambda: timed([m + 0.2012 for m in range(6, 13)] + [m + 0.2013 for m in range(1, 6)]),
        {"when": ["2013-06-01"], "y": [2.75]},
    ),
    "months with a point as text": (lambda: text("%m.%Y", MONTHS), MONTH),
    "months of two stores with a point": (
        lambda: one_store(month=np.resize(np.arange(1, 13) + 0.202, 24)).drop(columns="date"),
        PARTS.format("month"),
    ),
    "numbers that may be months of one year": (
        lambda: timed(2012 + np.arange(1, N + 1) / 100),
        {"index": [12], "when": [2012.12], "y": [2.75]},
    ),
    "counts as text": (
        lambda: timed([*map(str, range(1, N + 1))], "ds"),
        {"ds": [13], "naive": [2.75]},
    ),
    "counts of series as text": (
        lambda: long(ds=[*map(str, range(1, 7))] * 2),
        {"ds": [7, 7], "naive": [1.25, 2.75]},
    ),
    "counts as text in a column of steps": (
        lambda: timed([*map(str, range(1, N + 1))], "step"),
        {"step": [13], "y": [2.75]},
    ),
    "counts with gaps": (lambda: timed(COUNTS, "step"), {"step": [16], "y": [2.75]}),
    "counts of two series with gaps": (
        lambda: pd.DataFrame({"sku": [1] * 6 + [2] * 6, "week": [1, 2, 4, 5, 6, 8] * 2, "y": Y}),
        {"sku": [1, 2], "week": [9, 9], "naive": [1.25, 2.75]},
    ),
    "counts with gaps beside sales": (
        lambda: timed(COUNTS, "period", sales=Y),
        {"period": [16], "y": [2.75], "sales": [2.75]},
    ),
    "Excel's numbers of months": (
        lambda: timed((MONTHS - pd.Timestamp("1899-12-30")).days, "month"),
        {"month": ["2013-01-01"], "y": [2.75]},
    ),
    "Excel's numbers of days as text": (
        lambda: timed([str(45_292 + n) for n in range(N)], "date"),
        {"date": ["2024-01-13"], "y": [2.75]},
    ),
    "years among their months": (
        lambda: timed([*MONTHS.strftime("%Y-%m"), "2012"], "month", y=[*Y, Y.sum()]),
        r"column 'month' holds '2012' in row 12, .*; correct it, or leave such rows out, as those",
    ),
    "a year above its months": (
        lambda: timed(["2012", *MONTHS.strftime("%Y-%m")], "month", y=[Y.sum(), *Y]),
        r"column 'month' holds '2012' in row 0, .*; correct it, or leave such rows out, as those",
    ),
    "quarters of fiscal years": (lambda: quarters("FY{} Q{}"), QUARTER),
    "quarters of short fiscal years": (
        lambda: timed([f"FY0{year} Q{q}" for year in (0, 1, 2) for q in (1, 2, 3, 4)]),
        QUARTER,
    ),
    "quarters of short years": (
        lambda: timed([f"0{year}Q{q}" for year in (0, 1, 2) for q in (1, 2, 3, 4)]),
        QUARTER,
    ),
    "weeks of short years": (
        lambda: timed([f"W{week:02}-24" for week in range(1, N + 1)]),
        {"when": ["2024-03-25"], "y": [2.75]},
    ),
    "weeks behind short years": (
        lambda: timed([f"24W{week:02}" for week in range(1, N + 1)]),
        {"when": ["2024-03-25"], "y": [2.75]},
    ),
    "weeks without a word": (
        lambda: timed([f"{week:02}/2024" for week in range(1, N + 1)], "KW"),
        {"KW": ["2024-03-25"], "y": [2.75]},
    ),
    "months as periods": (
        lambda: timed([f"FY2012-P{number:02}" for number in range(1, N + 1)]),
        MONTH,
    ),
    "thirteen periods of a year": (
        lambda: timed([f"P{number:02}/23" for number in range(2, N + 2)], "period"),
        r"column 'period' holds 'P13/23' in row 11, .*; more than 12 periods of a year are no"
        r" months; number the rows 0, 1, 2 and so on",
    ),
    "quarters before fiscal years": (lambda: quarters("Q{1} FY{0}"), QUARTER),
    "quarters in words": (lambda: quarters("Quarter {1}, {0}"), QUARTER),
    "quarters of INSEE": (lambda: quarters("{}-T{}"), QUARTER),
    "German quarters": (lambda: quarters("{1}. Quartal {0}"), QUARTER),
    "French quarters": (lambda: quarters("{1}e trimestre {0}"), QUARTER),
    "German half-years": (
        lambda: timed([f"{half}. Halbjahr {2000 + n}" for n in range(6) for half in (1, 2)]),
        {"when": ["2006-01-01"], "y": [2.75]},
    ),
    "days of SAS": (lambda: text("%d%b%Y"), DAY),
    "months without a space": (lambda: text("%b%Y", MONTHS), MONTH),
    "quarters with a space": (lambda: quarters("{} Q{}"), QUARTER),
    "days with a T": (lambda: text("%Y-%m-%dT%H:%M:%S"), DAY),
    "a stamp of the year 9999": (
        lambda: timed([*DAYS[:-1].astype(str), "9999-12-31"], "ds"),
        "'9999-12-31' in row 11, which cannot be read as a stamp of the years 1678 to 2261",
    ),
    "a row off the hour": (
        lambda: timed([*pd.date_range("2024-01-01", periods=N - 1, freq="h"), DAYS[1]]).assign(
            when=lambda frame: frame["when"].where(
                frame.index < N - 1, DAYS[0] + pd.Timedelta("667min")
            )
        ),
        "the stamp 2024-01-01 11:07:00 is off the inferred frequency 'h'",
    ),
    "an hour twice without a zone": (
        lambda: pattern(
            pd.date_range("2024-10-26", periods=48, freq="h", tz="Europe/Berlin").tz_localize(None)
        ),
        "duplicate stamp 2024-10-27 02:00:00, .* in zones such as Europe/Berlin",
    ),
    # dicts, arrays and lists
    "a dict of series": (
        lambda: {"u": pd.Series(Y, DAYS), "v": pd.Series(-Y, DAYS)},
        WIDE,
    ),
    "a dict of shops": (lambda: shops().to_dict(orient="list"), KEYS),
    "an empty dict": (dict, "the table is empty"),
    "a list of records": (
        lambda: timed(DAYS).to_dict(orient="records"),
        KIND.format("list") + "make a DataFrame of it",
    ),
    "a set": (lambda: {1.0, 2.0}, KIND.format("set")),
    "an array of words": (
        lambda: np.array([["a", "b"]] * 3, dtype=object),
        "column 'y1' holds 'a' at 0 .*, but values must be numbers",
    ),
    "a list with a gap": (lambda: [1.0, None, 2.0], {"index": [3], "y": [2.0]}),
    "an array of whole numbers": (
        lambda: np.arange(24).reshape(12, 2),
        {"index": [12], "y1": [22], "y2": [23]},
    ),
}


def refused(message, call):
    with pytest.raises((ValueError, TypeError, ImportError)) as caught:
        call()
    assert re.search(message, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


def check(frame, wanted):
    """Compare the columns that are wanted, the index by that name."""
    assert type(frame) is pd.DataFrame
    for name, cells in wanted.items():
        actual = (frame.index if name == "index" else frame[name]).tolist()
        expected = [
            pd.Timestamp(cell) if isinstance(cell, str) and cell[:2] == "20" else cell
            for cell in cells
        ]
        # A series without a forecast has NaN, which equals nothing.
        assert [cell for cell in actual if cell == cell] == [c for c in expected if c == c]
        assert pd.isna(actual).tolist() == pd.isna(expected).tolist()


@pytest.mark.filterwarnings("ignore:rows are absent")
@pytest.mark.filterwarnings("ignore:.* such values are interpolated for naive")
@pytest.mark.filterwarnings("ignore:no series has a value in the last row")
@pytest.mark.filterwarnings("ignore:series are open on different days or hours")
@pytest.mark.filterwarnings("ignore:.*off the days and hours")
@pytest.mark.filterwarnings("ignore:.*series apart")
@pytest.mark.filterwarnings("ignore:left out")
@pytest.mark.filterwarnings("ignore:column .* numbers the rows")
@pytest.mark.filterwarnings("ignore:.*years before the last")
@pytest.mark.filterwarnings("ignore:series .* ends at")
@pytest.mark.filterwarnings("ignore:column 'y' holds .* rounds")
@pytest.mark.filterwarnings("ignore:column .* holds Excel's numbers of days")
@pytest.mark.filterwarnings("ignore:opening hours move by an hour")
@pytest.mark.parametrize(("make", "wanted"), TABLES.values(), ids=TABLES)
def test_a_table_is_forecast_or_refused(make, wanted):
    table = make()
    before = copy.deepcopy(table)
    if isinstance(wanted, str):
        refused(wanted, lambda: forecast(table, 1, model="naive"))
    else:
        check(forecast(table, 1, model="naive"), wanted)
    if isinstance(table, pd.DataFrame):
        pd.testing.assert_frame_equal(table, before)


ASKED = {
    "target, nearly": (
        {"target_col": "sale"},
        r"column 'sale' is missing .did you mean 'sales'.*; the table has columns \['sales', .*\]; name it by target_col=",
    ),
    "target, other case": ({"target_col": "Sales"}, r"columns \['sales', "),
    "time": (
        {"time_col": "dates", "target_col": "sales"},
        r"column 'dates' is missing .did you mean 'date'.*; the table has columns \['date",
    ),
    "id": (
        {"id_col": "shops", "target_col": "sales"},
        r"column 'shops' is missing .did you mean 'shop'.*; the table has columns \['shop'",
    ),
    "seconds that are counted": (
        {"time_col": "s", "freq": 60, "id_col": None, "target_col": "sales"},
        "1700000720",
    ),
    "years as stamps": (
        {"time_col": "year", "freq": "YS", "id_col": None, "target_col": "sales"},
        "2024-01-01 00:00:00",
    ),
    "time by its kind": ({"id_col": "shop", "target_col": "sales"}, "2024-01-13 00:00"),
}


@pytest.mark.parametrize(("names", "wanted"), ASKED.values(), ids=ASKED)
def test_names_that_are_asked_for(names, wanted):
    frame = pd.DataFrame(
        {"shop": "a", "date": DAYS.astype(str), "sales": Y, "year": range(2012, 2024)}
    )
    frame["s"] = 1_700_000_000 + 60 * np.arange(N)
    if wanted[0] in "12":
        assert str(
            forecast(frame, 1, model="naive", schema=Schema(**names)).iloc[0, -2]
        ).startswith(wanted)
    else:
        refused(wanted, lambda: forecast(frame, 1, model="naive", schema=Schema(**names)))


def test_new_rows_are_read_as_those_of_the_fit():
    """Also where the frequency of the fit is the step of integers."""
    model = make_forecaster("naive", 1).fit(timed(range(2000, 2012), "year"))
    check(model.predict(timed(range(2001, 2013), "year")), {"year": [2013], "y": [2.75]})
    check(model.predict(timed([2020] * N, "year").iloc[:1]), {"year": [2021], "y": [0.0]})


@pytest.mark.filterwarnings("error::FutureWarning")
def test_a_refusal_repeats_no_warning_of_pandas():
    """The first column holds numbers as objects, which pandas would change into numbers."""
    frame = pd.DataFrame(
        {"a": np.arange(float(N)), "b": ["7", "8", *["x"] * (N - 2)]}, dtype=object
    )
    refused("column 'b' holds 'x' at 2 .*, but values must be numbers", lambda: to_panel(frame))


@pytest.mark.parametrize(
    "name",
    [
        *("Unnamed: 0", "", "index", "rownames", "t", "id", "ID", "row_id", "row", "#", "No"),
        *("lfd. Nr.", "Nr.", "N°", "Zeile", "Row No."),
    ],
)
def test_the_index_of_a_file_is_left_out_with_a_word(name):
    frame = pd.DataFrame({name: range(N), "date": DAYS, "y": Y})
    with pytest.warns(
        UserWarning, match=f"column '{re.escape(name)}' numbers the rows and is left out"
    ):
        assert to_panel(frame).dialect.columns == ("y",)
    kept = to_panel(frame.assign(**{name: [7, 7, *range(10)]}))
    assert kept.dialect.columns == (name, "y"), "numbers that occur twice are no index"
    dated = to_panel(frame.assign(**{name: DAYS.astype(str)}).drop(columns="date"))
    assert (dated.dialect.time_col, dated.freq) == (name, "D")


def test_later_rows_have_the_columns_of_the_fit():
    """One row does not show what numbers the rows, or which shop it is that all rows name."""
    frame = pd.DataFrame({"row": range(N), "date": DAYS, "store": 4, "t": Y})
    left_out = "'row' numbers the rows|'store' is 4 in every row .* target_col='t'"
    with pytest.warns(UserWarning, match=left_out):
        model = make_forecaster("naive", 2).fit(frame.iloc[:-1])
    assert model.panel_.dialect.columns == ("t",)
    assert list(model.update(frame.iloc[-1:]).predict().columns) == ["date", "t"]
    assert list(model.predict(frame.iloc[-3:]).columns) == ["date", "t"]


@pytest.mark.parametrize(
    ("number", "other"), [(0, "web"), (4, "shop"), (4.5, "web")], ids=["dead", "alike", "measured"]
)
def test_a_column_of_one_number_may_be_a_series(number, other):
    frame = pd.DataFrame({"date": DAYS, "store": number, other: Y})
    assert to_panel(frame).dialect.columns == ("store", other)


@pytest.mark.parametrize(
    "convert", [str, lambda text: pd.Timestamp(text).to_pydatetime()], ids=["text", "objects"]
)
def test_days_whose_offset_changes_are_read_by_the_clock_on_the_wall(convert):
    def read(stamps):
        cells = [convert(str(stamp)) for stamp in stamps]
        return to_panel(
            pd.DataFrame({"ds": pd.Series(cells, dtype=object), "y": range(len(cells))})
        )

    for start, freq in (("2024-03-25", "D"), ("2024-01-31 07:30", "ME"), ("2024-03-24", "W-SUN")):
        stamps = pd.date_range(start, periods=20, freq=freq, tz="Europe/Berlin")
        panel = read(stamps)
        assert panel.times.tolist() == stamps.tz_localize(None).tolist()
        assert panel.freq == freq
    for start, periods, freq in (
        ("2024-10-26", 48, "h"),
        ("2024-10-27", 2, "h"),
        ("2024-03-30", 192, "15min"),
    ):
        stamps = pd.date_range(start, periods=periods, freq=freq, tz="UTC")
        panel = read(stamps.tz_convert("Europe/Berlin"))
        assert panel.times.tolist() == stamps.tolist(), "hours are read as instants"
        assert str(panel.times.tz) == "UTC"


def test_a_column_called_none_is_a_column_like_any_other():
    frame = pd.DataFrame({None: Y, "b": Y + 1}, index=DAYS)
    assert to_panel(frame).dialect.columns == ("None", "b")
    assert columns_of(to_panel(frame, Schema(id_col=None)))[-1].tolist() == [2.75, 3.75]


class Promoted(Forecaster):
    """The last value, and ten more where the future column is one."""

    horizon = 1
    context = 1
    alias = "promoted"
    schema = Schema(future_cols=["promo"])
    covariate_columns = schema.columns

    def _fit(self, panel, context):
        return Fitted(panel=panel)

    def _forecast(self, x, quantiles, covariates):
        return x[:, -1:] + 10 * covariates.known[:, -1:], np.empty((*x[:, -1:].shape, 0))


@pytest.mark.parametrize(
    "convert",
    [
        pl.from_pandas,
        Interchange,
        lambda df: df.set_index(["unique_id", "ds"]),
        lambda df: df.set_index("ds"),
        lambda df: df.set_index("unique_id"),
        lambda df: df.assign(ds=(df["ds"].astype("M8[s]").astype(int))),
    ],
    ids=["polars", "interchange", "levels", "index", "ids", "epoch"],
)
def test_every_door_leads_to_the_same_forecaster(convert):
    data = long(promo=[0.0, 1.0] * 6)
    ahead = pd.DataFrame({"unique_id": ["a", "b"], "ds": [DAYS[6]] * 2, "promo": [1.0, 0.0]})
    model = Promoted().fit(convert(data))
    expected = pd.DataFrame(
        {"unique_id": ["a", "b"], "ds": [DAYS[6]] * 2, "promoted": [11.25, 2.75]}
    )
    pd.testing.assert_frame_equal(model.predict(future=convert(ahead)), expected)
    pd.testing.assert_frame_equal(model.predict(convert(data), future=convert(ahead)), expected)
    pd.testing.assert_frame_equal(
        predict_many(model, convert(data), n_chunks=2, future=convert(ahead)), expected
    )
    with pytest.raises(ValueError, match="series 'b': column 'promo' of future= is missing"):
        model.predict(future=convert(ahead.iloc[:1]))
    scores = backtest(
        {"naive": make_forecaster("naive", 1)}, convert(data), n_windows=2, season_length=1
    ).scores
    assert scores["mae_original"].tolist() == [0.25]


@pytest.mark.parametrize(
    "names", [pd.Index, np.array, iter, lambda each: dict.fromkeys(each).keys()]
)
def test_any_list_of_names_is_kept_saved_and_cloned(names, tmp_path):
    schema = Schema(
        past_cols=names(["promo"]), calendar=names(["weekday"]), freq=pd.Timedelta("1D")
    )
    expected = "Schema(freq='D', past_cols=['promo'], calendar=['weekday'])"
    assert repr(schema) == repr(clone(schema)) == expected
    data = long(promo=[0.0, 1.0] * 6)
    model = make_forecaster("ridge", 1, context=2, schema=schema).fit(data)
    assert model.covariate_columns_.past == ("promo",)
    model.save(tmp_path / "m")
    loaded = load_forecaster(tmp_path / "m")
    assert loaded.schema.to_dict() == {
        "freq": "D",
        "past_cols": ("promo",),
        "calendar": ("weekday",),
    }
    pd.testing.assert_frame_equal(loaded.predict(data), model.predict())


# --- the command line -----------------------------------------------------------------------------

NAIVE = "--horizon 1 --model naive"
KNOWN = "--horizon 1 --model mlr --future-col p --future t.csv"
EMPTY = "leave a cell without a value empty, with a policy by --missing"
WRITE = f"write numbers with a decimal point only, such as 10037.72, and {EMPTY}"
# CSV, options of forecast -> the last line, or the whole error.
LINES = {
    "years": (lambda: timed(range(2000, 2012), "year"), NAIVE, "2012,2.75"),
    "quarters": (lambda: quarters("{}Q{}"), NAIVE, "2003Q1,2.75"),
    "YYYYMMDD": (lambda: whole("%Y%m%d"), NAIVE, "20240113,2.75"),
    "months": (lambda: text("%Y-%m", MONTHS), NAIVE, "2013-01,2.75"),
    "months in words": (lambda: text("%b %Y", MONTHS), NAIVE, "Jan 2013,2.75"),
    "days of points": (lambda: text("%d.%m.%Y"), NAIVE, "13.01.2024,2.75"),
    "days and an hour": (lambda: text("%d.%m.%Y %H:%M"), NAIVE, "13.01.2024 00:00,2.75"),
    "weeks": (
        lambda: text("%G-W%V", pd.date_range("2024-01-01", periods=N, freq="W-MON")),
        NAIVE,
        "2024-W13,2.75",
    ),
    "weeks of one digit": (lambda: weeks("{}-W{}"), NAIVE, "2024-W13,2.75"),
    "the first week of a year": (
        lambda: text("%G-W%V", pd.date_range(end="2024-12-23", periods=N, freq="W-MON")),
        NAIVE,
        "2025-W01,2.75",
    ),
    "weeks of a German table": (lambda: weeks("KW {1}/{0}"), NAIVE, "KW 13/2024,2.75"),
    "days of weeks": (lambda: text("%G-W%V-%u"), NAIVE, "2024-W02-6,2.75"),
    "days of years": (lambda: text("%Y-%jT%H:%M"), NAIVE, "2024-013T00:00,2.75"),
    "fiscal years": (lambda: fiscal("FY{}/{:02}", 1995), NAIVE, "FY2007/08,2.75"),
    "fiscal years by one year": (lambda: fiscal("FY {1:02}", 1989), NAIVE, "FY 02,2.75"),
    "months like fiscal years": (
        lambda: text("%Y-%m", pd.date_range("2010-11-01", periods=N, freq="MS")),
        NAIVE,
        "2011-11,2.75",
    ),
    "weeks as pandas writes them": (
        lambda: first_and_last("/", "W-SUN"),
        NAIVE,
        "2024-03-25/2024-03-31,2.75",
    ),
    "months by first and last day": (
        lambda: first_and_last(" to ", "M"),
        NAIVE,
        "2025-01-01 to 2025-01-31,2.75",
    ),
    "a target that is not there": (
        lambda: timed(DAYS, "ds", sold=Y, y=None).drop(columns="y"),
        f"{NAIVE} --target-col y",
        "column 'y' is missing; the table has columns ['ds', 'sold']; name it by --target-col",
    ),
    "ids that are not there": (
        lambda: timed(DAYS, "ds"),
        f"{NAIVE} --id-col unique_id",
        "column 'unique_id' is missing; the table has columns ['ds', 'y']; name it by --id-col",
    ),
    "index beside times": (
        lambda: text("%Y-%m-%d").reset_index(names="Unnamed: 0"),
        NAIVE,
        "2024-01-13,2.75",
    ),
    "wrong target": (
        lambda: long().rename(columns={"y": "sales"}),
        f"{NAIVE} --target-col sale",
        (
            "column 'sale' is missing (did you mean 'sales'?); the table has columns ['sales', 'ds', 'unique_id']; name it"
            " by --target-col"
        ),
    ),
    "two time columns": (
        lambda: timed(DAYS, "date", time=DAYS),
        NAIVE,
        (
            "columns ['date', 'time'] could all hold the stamps, but one must; name it by"
            " --time-col and drop the others"
        ),
    ),
    "a gap": (
        lambda: long().drop(index=3),
        f"{NAIVE} --missing error",
        (
            "series 'a': gap: there is no row at 2024-01-04 00:00:00, but stamps must follow"
            " frequency 'D' without gaps; add the rows, pass another --freq, or have gaps filled by"
            " --missing interpolate or 'ffill'"
        ),
    ),
    "no number": (
        lambda: wide(v="pd.f(x=1; y)"),
        NAIVE,
        (
            "column 'v' holds 'pd.f(x=1; y)' at 0 (and 11 more), but values must be numbers;"
            " drop the column, or name the one that is forecast ('u') by --target-col; a time"
            " column is named by --time-col, the columns of a long table also by --id-col and"
            " --target-col"
        ),
    ),
    "two kinds of points": (
        lambda: long(y=["10.037,72", *["1.5"] * 11]),
        NAIVE,
        (
            "series 'a': column 'y' holds '10.037,72' at 2024-01-01 00:00:00, but values must be"
            f" numbers; {WRITE}"
        ),
    ),
    "a currency": (
        lambda: wide(v="$10.04"),
        NAIVE,
        (
            f"column 'v' holds '$10.04' at 0 (and 11 more), but values must be numbers; {WRITE};"
            " or drop the column; a time column is named by --time-col, the columns of a long table also by --id-col and"
            " --target-col"
        ),
    ),
    "a dash": (
        lambda: long(y=[*Y[:11].astype(str), "-"]),
        NAIVE,
        (
            "series 'b': column 'y' holds '-' at 2024-01-06 00:00:00, but values must be numbers;"
            f" {WRITE}"
        ),
    ),
    "no stamp": (
        lambda: timed(["soon"] * N, "ds"),
        NAIVE,
        (
            "the series: column 'ds' holds 'soon' in row 0 (and 11 more), which cannot be read as a"
            " stamp of the years 1678 to 2261; correct it; or number the rows 0, 1, 2 and so on"
        ),
    ),
    "integers by the hour": (
        lambda: timed(range(N), "ds"),
        f"{NAIVE} --freq h",
        "freq 'h' does not fit a time column of integers; pass the integer step",
    ),
    "three columns": (
        long,
        f"{NAIVE} --target-col ds",
        (
            "--id-col, --time-col and --target-col must be three columns; got ['unique_id', 'ds',"
            " 'ds']"
        ),
    ),
    "no such covariate": (
        long,
        KNOWN,
        (
            "column 'p' is missing; the table has columns ['unique_id', 'ds', 'y']; add it,"
            " or correct --past-col or --future-col"
        ),
    ),
    "future of other rows": (
        lambda: long(p=1.0),
        KNOWN,
        (
            "--future has the stamps 2024-01-01 00:00:00 to 2024-01-06 00:00:00, and series 'a' is"
            " forecast at 2024-01-07 00:00:00 and later, at steps of 'D'; give rows at these stamps"
        ),
    ),
    "opening days that are named": (
        lambda: pattern(SHOP, y=2.75),
        f"{NAIVE} --freq D[Mon-Sat]",
        "2024-04-01,2.75",
    ),
    "opening hours in the file": (
        lambda: pattern(OFFICE, y=2.75),
        f"{NAIVE} --quiet",
        "2024-02-05 07:00:00,2.75",
    ),
    "closed days that are missing": (
        lambda: pattern(SHOP, y=2.75),
        f"{NAIVE} --gaps missing --missing ffill",
        "2024-03-31,2.75",
    ),
    "closed days that are missing, and refused": (
        lambda: pattern(SHOP),
        f"{NAIVE} --gaps missing --missing error",
        (
            "the table: gap: there is no row at 2023-01-08 00:00:00 (and 63 more), but stamps must"
            " follow frequency 'D' without gaps; add the rows, pass another --freq, or have gaps"
            " filled by --missing interpolate or 'ffill'"
        ),
    ),
    "closed days where there are none": (
        lambda: timed(DAYS),
        f"{NAIVE} --gaps closed",
        (
            "the table has no days or hours of the week that are without rows again and again, but"
            " --gaps closed needs such; leave it out, or name the days by --freq D[Mon-Sat]"
        ),
    ),
    "monthly on the 15th": (lambda: timed(FIFTEENTHS), NAIVE, "2013-01-15,2.75"),
    "two id columns": (
        shops,
        f"{NAIVE} --id-col store --id-col item --target-col sales",
        "2,B,2024-01-13,2.75",
    ),
    "two id columns without a target": (
        shops,
        f"{NAIVE} --id-col store --id-col item",
        "2,B,2024-01-13,2.75",
    ),
    "ids with leading zeros": (
        lambda: shops(items=["7", "007"]),
        f"{NAIVE} --id-col store --id-col item --target-col sales",
        "2,7,2024-01-13,2.75",
    ),
    "one id column of two": (
        shops,
        f"{NAIVE} --id-col store --target-col sales",
        (
            "series 1: stamp 2024-01-01 00:00:00 occurs more than once, but a stamp may occur once"
            " in a series; ['store', 'item'] tell the rows apart: pass --id-col store --id-col item"
        ),
    ),
    "an id column twice": (
        shops,
        f"{NAIVE} --id-col store --id-col store --target-col sales",
        "--id-col must name each column once; got ['store', 'store']",
    ),
    "times among the ids": (
        shops,
        f"{NAIVE} --id-col store --id-col date --target-col sales",
        (
            "--id-col must name other columns than those of stamps, 'date', and values, 'sales';"
            " got ['store', 'date']"
        ),
    ),
    "two columns of numbers": (
        lambda: shops(promo=1),
        NAIVE,
        (
            "'store' and 'item' tell series apart, and ['sales', 'promo'] hold numbers, but one"
            " column must hold the values; name it by --target-col"
        ),
    ),
    "a series without values": (
        lambda: long(y=[np.nan] * 6 + [*Y[6:]]),
        f"{NAIVE} --bad error",
        (
            "series 'a': column 'y' has no value at all from 2024-01-01 00:00:00, but each"
            " series needs a value; leave the series out"
        ),
    ),
    "a short series": (
        lambda: long().iloc[4:],
        "--horizon 1 --model seasonal_naive --season-length 6 --bad error",
        (
            "too short: series 'a' (2 rows, 2024-01-05 00:00:00 to 2024-01-06 00:00:00), but the"
            " context of seasonal_naive needs at least 6 rows in every series; give more rows,"
            " leave these series out, or ask for less"
        ),
    ),
}


@pytest.mark.parametrize(("make", "options", "wanted"), LINES.values(), ids=LINES)
def test_a_file_is_forecast_or_refused(tmp_path, monkeypatch, run, make, options, wanted):
    monkeypatch.chdir(tmp_path)
    frame = make()
    frame.to_csv("t.csv", index=False)
    code, out, err = run("forecast", "t.csv", *options.split())
    if wanted.endswith(",2.75"):
        left_out = "tsattn: warning: column 'Unnamed: 0' numbers the rows and is left out\n"
        assert (code, out.splitlines()[-1], err) == (
            0,
            wanted,
            left_out if "Unnamed: 0" in frame else "",
        )
    else:
        assert (code, out, err) == (2, "", f"tsattn: {wanted}\n")


WARNED = {
    "a closed day": (
        lambda: pattern(SHOP),
        "--horizon 1 --model naive",
        (
            "rows are absent on the same days or hours of every week, which are read as closed: the"
            " frequency is 'D[Mon-Sat]', and forecasts leave the others out; --gaps missing reads"
            " them as missing values"
        ),
        "2024-04-01,389.0",
    ),
    "keys": (
        shops,
        "--horizon 1 --model naive",
        (
            "the values of 'store' and 'item' tell series apart, and 'sales' is forecast; name other"
            " columns by --id-col and --target-col"
        ),
        "2,B,2024-01-13,2.75",
    ),
    "a short series": (
        lambda: long().iloc[4:],
        "--horizon 1 --model seasonal_naive --season-length 6",
        (
            "left out: series 'a' has too few rows; their forecasts are NaN; --bad error refuses"
            " such a table"
        ),
        "a,2024-01-07,",
    ),
}


@pytest.mark.parametrize(("make", "options", "warning", "last"), WARNED.values(), ids=WARNED)
def test_warnings_advise_options(tmp_path, monkeypatch, run, make, options, warning, last):
    monkeypatch.chdir(tmp_path)
    make().to_csv("t.csv", index=False)
    code, out, err = run("forecast", "t.csv", *options.split())
    assert (code, err) == (0, f"tsattn: warning: {warning}\n")
    assert out.splitlines()[-1] == last


def test_a_warning_is_shown_before_the_error_that_it_may_explain(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    with pd.ExcelWriter("t.xlsx") as book:
        pd.DataFrame({"a": ["x"] * N, "b": ["z"] * N}).to_excel(
            book, sheet_name="notes", index=False
        )
        timed(DAYS, "ds").to_excel(book, sheet_name="sales", index=False)
    code, out, err = run("forecast", "t.xlsx", "--horizon", "1")
    warning, error = err.splitlines()
    assert (code, out) == (2, "")
    assert warning.startswith("tsattn: warning: t.xlsx: only the first sheet, 'notes', is read")
    assert error.startswith("tsattn: column 'a' holds 'x'")
    assert run("forecast", "t.xlsx", "--horizon", "1", "--quiet")[2] == error + "\n"


@pytest.mark.parametrize("name", ["target_col", "time_col"])
def test_a_column_called_unique_id_may_be_something_else(name):
    frame = timed(DAYS, "ds").rename(columns={"y": "unique_id"})
    expected = {"ds": ["2024-01-13"], "naive": [2.75]}
    if name == "time_col":
        frame = timed(DAYS, "unique_id")
        expected = {"unique_id": ["2024-01-13"], "naive": [2.75]}
    made = forecast(frame, 1, model="naive", **{name: "unique_id"})
    assert made.columns.tolist() == [*expected]
    check(made, expected)


def test_numbers_of_days_are_told():
    frame = timed(45292 + np.arange(N), "date")
    with pytest.warns(UserWarning, match=r"45292 in row 0 is 2024-01-01 .*; freq=1 reads steps"):
        assert to_panel(frame).freq == "D"
    assert to_panel(frame, freq=1).freq == 1
    with pytest.warns(UserWarning, match=r"'Datum' holds Excel's numbers of days"):
        assert to_panel(frame.rename(columns={"date": "Datum"})).freq == "D"
    with pytest.warns(UserWarning, match=r"Excel's numbers of days .* 2024-01-01 00:00:00$"):
        assert to_panel(frame.assign(date=45292 + np.arange(N) / 24)).freq == "h"


def test_days_and_hours_of_excel_may_be_named_times():
    hours = timed(45292 + np.arange(N) / 24, "Excel time")
    with pytest.warns(UserWarning, match="45292 in row 0 is 2024-01-01 00:00:00$"):
        assert to_panel(hours, Schema(time_col="Excel time")).freq == "h"
    # Whole numbers of a time are steps.
    assert to_panel(timed(45292 + np.arange(N), "up time"), Schema(time_col="up time")).freq == 1
    # Times of another kind are values.
    values = pd.DataFrame({"run time": 70_292.5 + np.arange(N) ** 2, "load": Y})
    assert to_panel(values).ids.tolist() == ["load", "run time"]


@pytest.mark.parametrize(
    ("numbers", "name", "first"),
    [
        (2_460_310.5 + np.arange(N) / 24, "JD", "2024-01-01 00:00"),
        (60_310 + np.arange(N) / 24, "MJD", "2024-01-01 00:00"),
        (58_849 + np.arange(N) / 24, "modified_julian_date", "2020-01-01 00:00"),
        (739_252 + np.arange(N) / 24, "datenum", "2024-01-01 00:00"),
        (45_292 + np.arange(N) / 24, "x", "2024-01-01 00:00"),
        (np.arange(N) / 2, "seconds", "2000-01-01 00:00"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("in_index", [False, True])
def test_the_call_that_makes_stamps_of_decimals_works(numbers, name, first, in_index):
    df = timed(numbers, name)
    time_col = name
    if in_index:
        df = df.set_index(name)
        time_col = "ds"
    with pytest.raises(ValueError, match="must hold stamps, text that reads as stamps") as error:
        to_panel(df, Schema(time_col=name))
    call = str(error.value).partition("convert it to stamps: ")[2].partition(" counts ")[0]
    exec(call, {"df": df, "pd": pd})
    panel = to_panel(df, Schema(time_col=time_col))
    assert panel.times[0] == pd.Timestamp(first)
    assert panel.freq == ("500ms" if name == "seconds" else "h")


def test_a_column_of_equal_steps_is_told():
    df = pd.DataFrame({"depth": np.arange(0, 100, 5), "y": np.arange(20) % 7})
    with pytest.warns(UserWarning, match=r"'depth', which is 0, 5 and so on .* time_col='depth'"):
        to_panel(df)
    to_panel(df, Schema(time_col="depth"))
    to_panel(df[["depth"]])
    to_panel(df.assign(ds=pd.date_range("2024-01-01", periods=20)))
    to_panel(df.assign(depth=[*df["depth"][:-1], 96]))


@pytest.mark.parametrize(
    ("parts", "first"),
    [
        ({"year": [2023] * 12, "week": range(1, 13)}, "2023-03-27"),
        ({"iso_year": [2023] * 12, "iso_week": range(1, 13)}, "2023-03-27"),
        ({"Year": [2023] * 12, "Month": range(1, 13)}, "2024-01-01"),
        ({"year": [2023.0] * 12, "month": [1.0] * 12, "day": range(1, 13)}, "2023-01-13"),
        ({"year": np.repeat([2021, 2022, 2023], 4), "quarter": [1, 2, 3, 4] * 3}, "2024-01-01"),
        ({"year": [2023] * 12, "month": list(calendar.month_abbr)[1:]}, "2024-01-01"),
        ({"year": [2023] * 12, "month": [f"{m:02}" for m in range(1, 13)]}, "2024-01-01"),
        ({"year": [2023] * 12, "week": [f"W{w:02}" for w in range(1, 13)]}, "2023-03-27"),
        (
            {"year": np.repeat([2021, 2022, 2023], 4), "quarter": ["Q1", "Q2", "Q3", "Q4"] * 3},
            "2024-01-01",
        ),
        (
            {"year": [2023] * 12, "month": [1] * 12, "day": [5] * 12, "Hour": range(12)},
            "2023-01-05 12:00",
        ),
    ],
    ids=[
        *("weeks", "weeks of ISO years", "months", "days", "quarters"),
        *("names of months", "text of months", "text of weeks", "text of quarters", "hours"),
    ],
)
def test_the_call_that_joins_parts_of_stamps_works(parts, first):
    df = pd.DataFrame(parts | {"sales": np.arange(12) + 0.5})
    with pytest.raises(ValueError, match=r"join them by df\.drop") as error:
        forecast(df, 1)
    call = str(error.value).split("join them by ", 1)[1]
    answer = forecast(eval(call, {"df": df, "pd": pd}), 1)
    assert answer["ds"].iloc[0] == pd.Timestamp(first)


HOURS = pd.date_range("2024-01-01", periods=72, freq="h")


@pytest.mark.parametrize("clock", ["%H:%M", "%H:%M:%S", "cells of Excel"])
@pytest.mark.parametrize("day", [None, "%Y-%m-%d", "%d.%m.%Y"])
@pytest.mark.parametrize("names", [("ds", "time"), ("Tag", "Uhrzeit")])
def test_the_call_that_joins_days_and_times_of_day_works(names, day, clock):
    days = HOURS.normalize() if day is None else HOURS.strftime(day)
    times = HOURS.strftime(clock) if clock.startswith("%") else HOURS.time
    cells = dict(zip(names, (days, times), strict=True))
    df = pd.DataFrame(cells | {"sales": np.arange(72) + 0.5})
    with pytest.raises(ValueError, match=rf"'{names[1]}' holds times of the days of") as error:
        forecast(df, 1)
    call = str(error.value).split("join them by ", 1)[1]
    answer = forecast(eval(call, {"df": df, "pd": pd}), 1)
    assert answer["ds"].iloc[0] == pd.Timestamp("2024-01-04 00:00")


@pytest.mark.parametrize(
    ("columns", "part", "first"),
    [
        ({"date": HOURS.normalize(), "hour": HOURS.hour}, "hour", "2024-01-04 00:00"),
        ({"date": HOURS.strftime("%Y-%m-%d"), "Hour": 1 + HOURS.hour}, "Hour", "2024-01-04 01:00"),
        ({"date": HOURS.strftime("%d.%m.%Y"), "hour": HOURS.hour}, "hour", "2024-01-04 00:00"),
        (
            {"year": np.repeat(range(2018, 2024), 12), "month": [*calendar.month_abbr[1:]] * 6},
            "month",
            "2024-01-01",
        ),
    ],
    ids=["hours", "hours of text", "hours of days before months", "months"],
)
def test_parts_of_times_name_no_series(columns, part, first):
    df = pd.DataFrame(columns | {"sales": np.arange(72) + 0.5})
    with pytest.raises(ValueError, match=rf"'{part}' holds parts .* pass id_col='{part}'; join"):
        forecast(df, 1)
    shops = pd.concat([df, df], keys=["a", "b"], names=["shop"]).reset_index("shop")
    for table in (df, shops):
        with pytest.raises(ValueError, match="join them by") as error:
            forecast(table, 1)
        call = str(error.value).split("join them by ", 1)[1]
        joined = eval(call, {"df": table, "pd": pd})
        schema = Schema(id_col="shop" if "shop" in table else None, target_col="sales")
        assert forecast(joined, 1, schema=schema)["ds"].iloc[0] == pd.Timestamp(first)


@pytest.mark.filterwarnings("ignore:the values of 'store' and 'item' tell series apart")
@pytest.mark.parametrize(
    ("layout", "call"),
    [
        ("columns of keys", r"df\.columns = .*"),
        ("columns of keys and one of times", r"df\.columns = .*"),
        ("rows and columns of keys", r"df = .*"),
        ("rows of keys and columns of times", r"df\.melt.*reset_index\(\)"),
    ],
)
def test_the_call_that_flattens_keys_works(layout, call):
    rows = shops()
    whole = rows.set_index(["date", "store", "item"])[["sales"]]
    df = {
        "columns of keys": whole["sales"].unstack(["store", "item"]),
        "columns of keys and one of times": whole.unstack(["store", "item"]).reset_index(),
        "rows and columns of keys": whole.unstack("item"),
        "rows of keys and columns of times": whole["sales"].unstack("date"),
    }[layout]
    with pytest.raises(ValueError, match=r"one level|turn the table") as caught:
        forecast(df, 1, model="naive")
    (call_found,) = re.findall(call, str(caught.value).partition(" does, or")[0])
    names = {"df": df}
    exec(call_found if " = " in call_found else f"df = {call_found}", names)
    answer = forecast(names["df"], 1, model="naive")
    last = rows.groupby(["store", "item"])["sales"].last().tolist()
    if layout.startswith("columns"):
        assert answer.select_dtypes(float).iloc[0].tolist() == last
        assert answer.columns[-1].endswith(" ".join(map(str, rows.iloc[-1][["store", "item"]])))
    else:
        assert answer["naive"].tolist() == last
        assert {"store", "item"} <= {*answer}


def test_hours_name_series_where_they_are_said_to():
    df = pd.DataFrame({"date": DAYS.repeat(2), "hour": [8, 9] * N, "sales": np.arange(2.0 * N)})
    answer = forecast(df, 1, id_col="hour", time_col="date", target_col="sales")
    assert answer["hour"].tolist() == [8, 9]
    text = df.assign(hour=df["hour"].map({8: "eight", 9: "nine"}))
    assert forecast(text, 1)["hour"].tolist() == ["eight", "nine"]


@pytest.mark.parametrize(
    "parts", [{"month": ["enero"] * 12}, {"month": [1] * 12, "day": ["first"] * 12}]
)
def test_parts_of_stamps_that_cannot_be_joined_get_no_call(parts):
    df = pd.DataFrame({"year": [2023] * 12, **parts, "sales": np.arange(12) + 0.5})
    with pytest.raises(ValueError, match="holds times, 2023 in row 0") as error:
        forecast(df, 1)
    assert "join them by" not in str(error.value)


def test_years_of_two_digits_are_refused():
    days = pd.date_range("2020-01-20", periods=30).strftime("%y%m%d").astype(int)
    frame = pd.DataFrame({"date": days, "y": np.arange(30.0)})
    with pytest.raises(ValueError, match=r"holds 200120 in row 0, .* or pass freq=1 for steps"):
        forecast(frame, 1)
    answer = forecast(frame.assign(date=frame["date"] + 20_000_000), 1)
    assert answer["date"].tolist() == [pd.Timestamp("2020-02-19")]
    with pytest.warns(UserWarning, match="69 rows are absent between 200131 and 200201"):
        assert forecast(frame, 1, freq=1)["date"].tolist() == [200219]
    # Without a telling name they are a count where they follow one another.
    renamed = frame.rename(columns={"date": "ds"})
    with pytest.raises(ValueError, match="'ds' holds 200120 in row 0, which spells a day"):
        forecast(renamed, 1)
    assert forecast(renamed[:10], 1)["ds"].tolist() == [200130]
    months = pd.date_range("2020-01-01", periods=30, freq="MS").strftime("%Y%m").astype(int)
    assert to_panel(frame.assign(date=months)).freq == "MS"


@pytest.mark.parametrize("spelt", [False, True])
def test_gaps_among_the_numbers_of_rows_are_told(spelt):
    counts = [*map(str, COUNTS)] if spelt else COUNTS
    table = pd.DataFrame({"t": counts, "y": Y})
    told = "numbers the rows, of which some are absent, and is left out; .* by time_col='t'"
    with pytest.warns(UserWarning, match=told):
        assert forecast(table, 1, model="naive").columns.tolist() == ["y"]
    with pytest.warns(UserWarning, match="such values are interpolated for naive"):
        answer = forecast(table, 1, model="naive", time_col="t")
    assert answer["t"].tolist() == [16]


JANUARY = pd.date_range("2024-01-05", periods=60)


def exchanged(day):
    return day.replace(month=day.day, day=day.month) if day.day < 13 else day


@pytest.mark.parametrize(
    "make",
    [
        lambda days: pd.DataFrame({"date": days, "y": range(60)}),
        lambda days: pd.DataFrame({"date": days.astype(str), "y": range(60)}),
        lambda days: pd.DataFrame({"date": days[::-1], "y": range(59, -1, -1)}),
        lambda days: pd.DataFrame({"y": range(60)}, index=days.rename("date")),
    ],
    ids=["days", "text", "falling", "index"],
)
def test_days_and_months_that_changed_places_are_told_by_the_order_of_rows(make):
    table = make(JANUARY.map(exchanged))
    with pytest.raises(ValueError, match="only if day and month of stamps change place") as caught:
        forecast(table, 1, model="naive")
    names = {"df": table.copy(), "pd": pd}
    exec(re.search("exchange them: (.*); or, if", str(caught.value))[1], names)
    answer = forecast(names["df"], 1, model="naive")
    if "date" not in answer:
        answer = answer.reset_index(names="date")
    assert answer.to_numpy().tolist() == [[pd.Timestamp("2024-03-05"), 59]]


def test_rows_in_no_order_of_time_are_read():
    table = pd.DataFrame({"date": JANUARY, "y": range(60)}).sample(frac=1, random_state=0)
    assert forecast(table, 1, model="naive")["y"].tolist() == [59]


@pytest.mark.parametrize("name", ["week", "period", "ds"])
def test_weeks_that_begin_again_are_refused(name):
    table = pd.DataFrame({name: [*range(45, 53), *range(1, 9)], "y": range(16)})
    with pytest.raises(ValueError, match="numbers of time begin again with 1 in row 8") as caught:
        forecast(table, 1, model="naive")
    names = {"df": table.copy()}
    exec(re.search("number the rows: (.*); or sort", str(caught.value))[1], names)
    answer = forecast(names["df"], 1, model="naive")
    assert answer.to_numpy().tolist() == [[16, 15]]


def test_a_late_row_among_counts_is_read():
    table = pd.DataFrame({"ds": [1, 2, 4, 5, 3], "y": [1.0, 2, 4, 5, 3]})
    assert forecast(table, 1, model="naive").to_numpy().tolist() == [[6, 5]]


@pytest.mark.parametrize("label", ["{year}-W{week:02}", "W{week}-{year}"])
def test_a_week_that_its_year_does_not_have_is_refused(label):
    # 2020 has 53 weeks, 2021 only 52.
    weeks = [(2020, 52), (2020, 53), (2021, 1)]
    later = [(2021, week) for week in range(2, 54)]
    labels = [label.format(year=year, week=week) for year, week in weeks + later]
    frame = pd.DataFrame({"ds": labels, "y": np.arange(55.0) % 5})
    read = to_panel(frame[:-1])
    assert read.last_times()[0] == pd.Timestamp("2021-12-27")
    rule = f"'{labels[-1]}' in row 54, which cannot be read .*; years of ISO 8601 have 52 weeks"
    with pytest.raises(ValueError, match=rule):
        to_panel(frame)


@pytest.mark.parametrize(
    ("label", "call", "last"),
    [
        ("GJ {}", r"df\['ds'\] = .*expand=False\)", "2019-01-01"),
        ("{}A", r"df\['ds'\] = .*expand=False\)", "2019-01-01"),
        ("{1}-2020", r"df = df\.rename.*", "2020-07-20"),
    ],
)
def test_years_with_words_and_weeks_get_a_call_that_works(label, call, last):
    labels = [label.format(year, week) for week, year in enumerate(range(1990, 2020), start=1)]
    names = {"df": pd.DataFrame({"ds": labels, "y": np.arange(30.0) % 5})}
    with pytest.raises(ValueError, match="cannot be read as a stamp") as caught:
        to_panel(names["df"])
    exec(re.search(call, str(caught.value))[0], names)
    assert to_panel(names["df"]).last_times()[0] == pd.Timestamp(last)


@pytest.mark.parametrize(
    ("labels", "last"),
    [
        ([f"{year % 100:02}/{(year + 1) % 100:02}" for year in range(1985, 2015)], "2014"),
        ([f"{half // 2:02}:{half % 2 * 30:02}" for half in range(30)], "2024-01-31 14:30"),
        ([f"{day:02}.03." for day in range(1, 31)], "2024-03-30"),
    ],
)
def test_text_that_lacks_a_part_of_its_time_gets_a_call_that_works(labels, last):
    names = {"df": pd.DataFrame({"ds": labels, "y": np.arange(30.0) % 5}), "pd": pd}
    with pytest.raises(ValueError, match="cannot be read as a stamp") as caught:
        to_panel(names["df"])
    exec(re.search(r": (df\['ds'\] = .*)", str(caught.value))[1], names)
    assert str(to_panel(names["df"]).last_times()[0]).startswith(last)


def test_of_columns_of_one_name_the_call_keeps_the_first():
    columns = np.c_[np.arange(30.0), np.ones(30)]
    days = pd.date_range("2024-01-01", periods=30)
    names = {"df": pd.DataFrame(columns, index=days, columns=["a", "a"])}
    with pytest.raises(ValueError, match="column 'a' occurs more than once") as caught:
        to_panel(names["df"])
    exec(re.search(r"as (df = .*) does", str(caught.value))[1], names)
    assert to_panel(names["df"]).values.ravel().tolist() == list(range(30))


def test_pairs_of_numbers_that_do_not_follow_are_not_called_years():
    labels = [f"{month:02}/{day:02}" for month in (1, 2, 3) for day in range(1, 11)]
    table = pd.DataFrame({"ds": labels, "y": np.arange(30.0) % 5})
    with pytest.raises(ValueError, match=r"'01/01' in row 0.*cannot be read as a stamp") as caught:
        to_panel(table)
    assert "if these are years" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*tell series apart")
@pytest.mark.parametrize("ids", [["a"] * 12 + ["b"] * 12, [1] * 12 + [2] * 12, ["a", "b"] * 12])
def test_numbers_of_weeks_of_several_series_are_refused_with_a_call_that_works(ids):
    weeks = [*range(202345, 202353), *range(202401, 202405)]
    order = np.repeat(weeks, 2) if ids[1] == "b" else weeks * 2
    table = pd.DataFrame({"sku": ids, "week": order, "units": np.arange(24.0)})
    with pytest.raises(ValueError, match="202345 in row 0, which spells a week") as caught:
        forecast(table, 1, model="naive")
    names = {"df": table.copy()}
    exec(re.search(", as (df.*) does, or pass", str(caught.value))[1], names)
    answer = forecast(names["df"], 1, model="naive")
    assert answer["week"].tolist() == [pd.Timestamp("2024-01-29")] * 2


def test_days_and_months_in_two_orders_are_told():
    halves = [JANUARY[:30].strftime("%m/%d/%Y"), JANUARY[30:].strftime("%d/%m/%Y")]
    table = pd.DataFrame({"date": np.concatenate(halves), "y": range(60)})
    told = "'13/02/2024' in row 39 .*; day and month are in the other order than in '01/05/2024'"
    with pytest.raises(ValueError, match=told):
        forecast(table, 1, model="naive")


@pytest.mark.parametrize("layout", ["%d/%m/%Y", "%d.%m.%y"])
def test_days_that_a_sheet_read_as_months_among_text_are_exchanged(layout):
    cells = [exchanged(day) if day.day < 13 else day.strftime(layout) for day in JANUARY]
    table = pd.DataFrame({"Date": cells, "y": range(60)})
    with pytest.raises(ValueError, match="as where a sheet reads 05/01 as May 1") as caught:
        forecast(table, 1, model="naive")
    names = {"df": table.copy(), "pd": pd}
    exec(re.search("exchange them: (.*)", str(caught.value))[1], names)
    assert names["df"]["Date"].tolist() == JANUARY.tolist()


def test_mixed_rows_at_the_end_of_nanoseconds_are_sorted():
    # With day and month exchanged, the 4th of May would be beyond.
    days = pd.date_range("2262-02-11", "2262-04-11")
    df = pd.DataFrame({"ds": days, "y": np.arange(60.0)}).sample(frac=1, random_state=0)
    assert to_panel(df).values[:, 0].tolist() == list(range(60))


def test_an_infinite_number_in_a_wide_table_is_named():
    days = pd.date_range("2024-01-01", periods=40)
    df = pd.DataFrame({"ds": days, "c0": np.arange(40) + 2.5}).set_index("ds")
    df.iloc[3, 0] = np.inf
    with pytest.raises(ValueError, match="holds inf at 2024-01-04"):
        forecast(df, 1)


@pytest.mark.parametrize("layout", ["%d.%m.", "%d.%m", "%m/%d", "%d-%m", "%b %d", "%B %d"])
def test_days_without_a_year_are_no_numbers(layout):
    days = pd.date_range("2024-01-05", periods=100)
    df = pd.DataFrame({"day": days.strftime(layout), "y": np.arange(100) % 7})
    told = r"write times with their year, as 2024-01-31, or drop the column, or name .* \('y'\)"
    with pytest.raises(ValueError, match=told):
        forecast(df, 3)
    assert len(forecast(df.assign(day=days.strftime("%Y-%m-%d")), 3)) == 3
