"""Times in several columns, or named by columns: each call that is advised is run."""

import calendar
import re

import numpy as np
import pandas as pd
import pytest
from tables import FRENCH_MONTHS

from tsattn import forecast
from tsattn.data.frames import to_panel

DAYS = pd.date_range("2024-01-01", periods=20)
HOURS = pd.date_range("2024-01-01 01:00", periods=480, freq="h")
LOAD = np.arange(480.0)


def days_and_hours(hours, name="HE"):
    """The hours of twenty days, each under the day in which it begins."""
    days = DAYS.repeat(24).strftime("%Y-%m-%d")
    return pd.DataFrame({"date": days, name: [*hours] * 20, "load": LOAD})


def advised(df, pattern):
    """The table after the call that an error advises."""
    with pytest.raises(ValueError, match=pattern) as caught:
        forecast(df, 1, model="naive")
    (call,) = re.findall(pattern, str(caught.value))
    names = {"pd": pd, "df": df.copy()}
    exec(call if call.startswith(("df[", "parts = ")) else f"df = {call}", names)
    return names["df"]


@pytest.mark.parametrize("name", ["HE", "hour ending", "Hour_Ending", "hr", "hour"])
def test_hours_that_are_named_by_their_end_are_joined_to_their_days(name):
    df = days_and_hours(range(1, 25), name)
    joined = advised(df, r"join them by (df\.drop.*)")
    assert joined["ds"].tolist() == HOURS.tolist()
    answer = forecast(joined, 1, model="naive")
    assert answer["ds"].tolist() == [HOURS[-1] + pd.Timedelta("1h")]


def test_hour_24_is_the_first_of_the_next_day():
    df = days_and_hours([f"{hour:02}:00" for hour in range(1, 25)])
    stamps = df["date"] + " " + df["HE"]
    df = pd.DataFrame({"date": stamps, "load": LOAD})
    read = advised(df, r"hour 24 is 00:00 of the next day: (df.*)")
    assert read["date"].tolist() == HOURS.tolist()


@pytest.mark.parametrize("layout", ["%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d"])
def test_hour_24_is_read_in_other_layouts(layout):
    days = DAYS.repeat(24).strftime(layout)
    hours = [f"{hour:02}:00" for hour in range(1, 25)] * 20
    df = pd.DataFrame({"date": days + " " + hours, "load": LOAD})
    read = advised(df, r"hour 24 is 00:00 of the next day: (df.*)")
    assert read["date"].tolist() == HOURS.tolist()
    # Days up to the twelfth may be months, but their steps would not be even.
    early = advised(df[: 12 * 24], r"hour 24 is 00:00 of the next day: (df.*)")
    assert early["date"].tolist() == HOURS[: 12 * 24].tolist()


@pytest.mark.parametrize("kind", [int, str])
def test_hour_24_is_read_in_ten_digits(kind):
    days = DAYS.repeat(24).strftime("%Y%m%d")
    hours = [f"{hour:02}" for hour in range(1, 25)] * 20
    df = pd.DataFrame({"date": (days + hours).astype(kind), "load": LOAD})
    read = advised(df, r"hour 24 is 00:00 of the next day: (df.*)")
    assert read["date"].tolist() == HOURS.tolist()


def test_hour_24_is_read_without_minutes():
    days = DAYS.repeat(24).strftime("%Y-%m-%d")
    hours = [str(hour) for hour in range(1, 25)] * 20
    df = pd.DataFrame({"date": days + " " + hours, "load": LOAD})
    read = advised(df, r"hour 24 is 00:00 of the next day: (df.*)")
    assert read["date"].tolist() == HOURS.tolist()


def test_hour_24_of_days_that_may_be_months_is_not_read():
    hours = ["01/02/2024 06:00", "01/02/2024 24:00", "03/04/2024 06:00"]
    df = pd.DataFrame({"date": hours, "load": LOAD[:3]})
    with pytest.raises(ValueError, match="cannot be read as a stamp") as caught:
        forecast(df, 1)
    assert "hour 24" not in str(caught.value)


@pytest.mark.parametrize("name", ["doy", "day_of_year", "yday"])
def test_days_of_years_are_joined_to_them(name):
    days = pd.date_range("2023-12-01", periods=40)
    df = pd.DataFrame({"year": days.year, name: days.dayofyear, "v": np.arange(40.0)})
    joined = advised(df, r"join them by (df\.drop.*)")
    assert joined["ds"].tolist() == days.tolist()


def test_days_of_a_year_behind_it_are_no_count():
    days = pd.date_range("2023-12-01", periods=40)
    numbers = days.strftime("%Y%j").astype(int)
    df = pd.DataFrame({"date": numbers, "v": np.arange(40.0)})
    with pytest.raises(ValueError, match="holds 2023335 in row 0, which spells a day") as caught:
        forecast(df, 1)
    (call,) = re.findall(r"as (pd\.to_datetime.*) does", str(caught.value))
    assert eval(call, {"pd": pd, "df": df}).tolist() == days.tolist()


def part_columns(unit, dated, named):
    """Tables with one row for each year or day, in the order of time when they are read by rows."""
    if unit == "hour":
        names = [f"H{hour}" for hour in range(1, 25)]
        rows = DAYS
    else:
        months = calendar.month_name if dated else calendar.month_abbr
        names = {"quarter": ["Q1", "Q2", "Q3", "Q4"], "month": list(months)[1:]}[unit]
        rows = pd.date_range("2010-01-01", periods=9, freq="YS")
        rows = rows if dated else rows.year
    values = np.arange(float(len(rows) * len(names))).reshape(len(rows), -1)
    df = pd.DataFrame(values, index=rows, columns=names)
    return df.rename_axis("Year").reset_index() if named else df


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(
    ("unit", "dated", "after"),
    [
        ("month", True, "2019-01-01"),
        ("month", False, "2019-01-01"),
        ("quarter", True, "2019-01-01"),
        ("quarter", False, "2019-01-01"),
        ("hour", True, "2024-01-21 01:00"),
    ],
)
def test_columns_that_are_parts_of_a_time_are_told_with_the_call_that_joins_them(
    unit, dated, named, after
):
    df = part_columns(unit, dated, named)
    with pytest.warns(UserWarning, match=f"one series of {unit}s") as caught:
        apart = forecast(df, 1, model="naive")
    assert apart[df.columns[-1]].iloc[0] == df.iloc[-1, -1]
    (call,) = re.findall(r"one another: (parts = .*)", str(caught[0].message))
    names = {"pd": pd, "df": df}
    exec(call, names)
    answer = forecast(names["df"], 1, model="naive")
    assert answer["ds"].tolist() == [pd.Timestamp(after)]
    assert answer["naive"].tolist() == [df.iloc[-1, -1]]


GERMAN = [
    "Januar",
    "Februar",
    "März",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
]


@pytest.mark.parametrize(("year", "names"), [("Jahr", GERMAN), ("Année", FRENCH_MONTHS)])
def test_columns_that_are_german_or_french_months_are_joined(year, names):
    values = np.arange(108.0).reshape(9, 12)
    df = pd.DataFrame(values, columns=names)
    df.insert(0, year, range(2010, 2019))
    with pytest.warns(UserWarning, match="one series of months") as caught:
        forecast(df, 1, model="naive")
    (call,) = re.findall(r"one another: (parts = .*)", str(caught[0].message))
    tables = {"pd": pd, "df": df}
    exec(call, tables)
    answer = forecast(tables["df"], 1, model="naive")
    assert answer["ds"].tolist() == [pd.Timestamp("2019-01-01")]
    assert answer["naive"].tolist() == [107.0]


@pytest.mark.parametrize(
    ("year", "month", "names"), [("Jahr", "Monat", GERMAN), ("Année", "Mois", FRENCH_MONTHS)]
)
def test_german_and_french_months_beside_years_are_joined(year, month, names):
    years = np.repeat(range(2018, 2022), 12)
    df = pd.DataFrame({year: years, month: names * 4, "y": np.arange(48.0)})
    joined = advised(df, r"join them by (df\.drop.*)")
    assert forecast(joined, 1, model="naive")["ds"].tolist() == [pd.Timestamp("2022-01-01")]


@pytest.mark.parametrize(
    ("names", "parts", "after"),
    [
        (["Jahr", "Monat"], ["year", "month"], "2024-12-01"),
        (["Jahr", "Monat", "Tag"], ["year", "month", "day"], "2024-12-01"),
        (["année", "mois"], ["year", "month"], "2024-12-01"),
    ],
)
def test_german_and_french_parts_of_times_are_joined(names, parts, after):
    freq = "D" if "day" in parts else "MS"
    times = pd.date_range(end=after, periods=31, freq=freq)[:-1]
    columns = {name: getattr(times, part) for name, part in zip(names, parts, strict=True)}
    df = pd.DataFrame({**columns, "y": np.arange(30.0)})
    joined = advised(df, r"join them by (df\.drop.*)")
    assert forecast(joined, 1, model="naive")["ds"].tolist() == [pd.Timestamp(after)]


def test_weeks_in_german_beside_years_are_joined_and_power_is_none():
    weeks = pd.date_range("2023-01-02", periods=60, freq="W-MON").isocalendar()
    df = pd.DataFrame({"Jahr": weeks.year.array, "KW": weeks.week.array, "y": np.arange(60.0)})
    joined = advised(df, r"join them by (df\.drop.*)")
    assert forecast(joined, 1, model="naive")["ds"].tolist() == [pd.Timestamp("2024-02-26")]
    power = pd.DataFrame({"ds": DAYS, "kW": np.arange(20) % 7 + 3, "Tag": np.arange(20) % 5})
    assert forecast(power, 1, model="naive")["kW"].tolist() == [8.0]


HALF_HOURS = pd.date_range("2024-01-01", periods=48, freq="30min")
TIMES_OF_DAY = {
    "half-hours": (HALF_HOURS.strftime("%H:%M"), 0),
    "hours with seconds": ([f"{hour:02}:00:00" for hour in range(24)], 0),
    "spans": ([f"{hour:02}:00 - {hour + 1:02}:00" for hour in range(24)], 0),
    "ends of quarters": (
        pd.date_range("2024-01-01 00:15", periods=96, freq="15min").strftime("%H:%M"),
        15,
    ),
}


@pytest.mark.parametrize("layout", ["%Y-%m-%d", "%d/%m/%Y", "%d.%m.%Y", "%d-%b-%Y", "number"])
@pytest.mark.parametrize("names", TIMES_OF_DAY)
def test_columns_that_are_times_of_a_day_are_all_joined(names, layout):
    columns, first_minute = TIMES_OF_DAY[names]
    values = np.arange(float(20 * len(columns))).reshape(20, -1)
    df = pd.DataFrame(values, columns=columns)
    days = DAYS.strftime("%Y%m%d").astype(int) if layout == "number" else DAYS.strftime(layout)
    df.insert(0, "Date", days)
    with pytest.warns(UserWarning, match="below one another") as caught:
        forecast(df, 1, model="naive")
    (call,) = re.findall(r"one another: (parts = .*)", str(caught[0].message))
    names = {"pd": pd, "df": df}
    exec(call, names)
    joined = names["df"].sort_values("ds")
    step = pd.Timedelta(1, "D") / len(columns)
    first = DAYS[0] + pd.Timedelta(first_minute, "min")
    assert joined["y"].tolist() == [*range(values.size)]
    assert joined["ds"].tolist() == [first + step * k for k in range(values.size)]


def test_days_that_no_call_is_known_to_read_get_none():
    columns, _ = TIMES_OF_DAY["half-hours"]
    df = pd.DataFrame(np.ones((20, 48)), columns=columns)
    df.insert(0, "Date", DAYS.strftime("%B %d, %Y"))
    with pytest.warns(UserWarning, match="below one another$"):
        forecast(df, 1, model="naive")


STORES = {"one key": [("A",), ("B",)], "two keys": [("A", 1), ("A", 2), ("B", 1)]}


@pytest.mark.parametrize("unit", ["month", "quarter", "hour"])
@pytest.mark.parametrize("stores", STORES.values(), ids=STORES)
@pytest.mark.filterwarnings("ignore:the values of 'Store' and 'Item' tell series apart")
def test_columns_that_are_parts_of_the_times_of_several_series_are_joined(unit, stores):
    table = part_columns(unit, dated=unit == "hour", named=True)
    table = table.rename(columns={"Year": "Date"}) if unit == "hour" else table
    names = ["Store", "Item"]
    parts = [table.assign(**dict(zip(names, store, strict=False))) for store in stores]
    df = advised(pd.concat(parts, ignore_index=True), r"below one another: (parts = .*)")
    answer = forecast(df, 1, model="naive")
    assert answer["naive"].tolist() == [table.iloc[-1, -1]] * len(stores)
    assert answer["ds"].nunique() == 1


@pytest.mark.parametrize("kind", ["days", "text", "last days", "ISO weeks", "numbers"])
@pytest.mark.filterwarnings("ignore:the values of 'Store' and 'Item' tell series apart")
@pytest.mark.parametrize("stores", STORES.values(), ids=STORES)
def test_columns_that_are_days_of_the_weeks_of_several_series_are_joined(kind, stores):
    weeks = pd.date_range("2023-01-02", periods=12, freq="7D")
    written = {
        "days": weeks,
        "text": weeks.strftime("%Y-%m-%d"),
        "last days": weeks + pd.Timedelta(6, "D"),
        "ISO weeks": weeks.strftime("%G-W%V"),
        "numbers": range(1, 13),
    }
    days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    table = pd.DataFrame(np.arange(84.0).reshape(12, 7), columns=days)
    table.insert(0, "Week", written[kind])
    names = ["Store", "Item"]
    parts = [table.assign(**dict(zip(names, store, strict=False))) for store in stores]
    df = advised(pd.concat(parts, ignore_index=True), r"below one another: (parts = .*)")
    answer = forecast(df, 1, model="naive")
    assert answer["naive"].tolist() == [83.0] * len(stores)
    expected = 91 if kind == "numbers" else pd.Timestamp("2023-03-27")
    assert answer["ds"].tolist() == [expected] * len(stores)


def test_indicators_of_weekdays_beside_days_are_no_parts():
    days = pd.date_range("2023-01-02", periods=28)
    table = pd.get_dummies(days.strftime("%a"), dtype=float)
    table = table[["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]].assign(date=days, y=1.0)
    df = pd.concat([table.assign(Store=store) for store in "AB"])
    answer = forecast(df, 1, id_col="Store", time_col="date", target_col="y", model="naive")
    assert answer["naive"].tolist() == [1.0, 1.0]


def joined_days(df):
    """The table after the call that a warning gives, in the order of time."""
    with pytest.warns(UserWarning, match="one series of days has them below one another") as caught:
        forecast(df, 1, model="naive", missing="ffill")
    names = {"pd": pd, "df": df}
    exec(str(caught[0].message).split("below one another: ")[1], names)
    return names["df"].sort_values("ds")


WEEK_DAYS = pd.date_range("2023-01-02", periods=7 * 12)
WEEKS = WEEK_DAYS[::7]
WEEK_ROWS = {
    "Mondays": WEEKS,
    "Sundays": WEEKS + pd.Timedelta(6, "D"),
    "text": WEEKS.strftime("%d.%m.%Y"),
    "ISO weeks": WEEKS.strftime("%G-W%V"),
    "numbers of days": WEEKS.strftime("%Y%m%d").astype(int),
    "numbers of weeks": np.arange(1, 13),
    "nothing": None,
}


@pytest.mark.parametrize("names", [calendar.day_abbr, calendar.day_name])
@pytest.mark.parametrize("rows", WEEK_ROWS)
def test_columns_that_are_the_days_of_a_week_are_joined(rows, names):
    values = np.arange(84.0)
    df = pd.DataFrame(values.reshape(12, 7), columns=[*names])
    if WEEK_ROWS[rows] is not None:
        df.insert(0, "week", WEEK_ROWS[rows])
    joined = joined_days(df)
    assert joined["y"].tolist() == [*range(84)]
    if rows in ("numbers of weeks", "nothing"):
        assert (np.diff(joined["ds"]) == 1).all()
    else:
        assert joined["ds"].tolist() == [*WEEK_DAYS]


def test_weeks_that_begin_on_sundays_or_have_no_weekend_are_joined():
    sundays = pd.DataFrame(np.arange(84.0).reshape(12, 7), WEEKS - pd.Timedelta(1, "D"))
    sundays.columns = [*calendar.day_abbr[6:], *calendar.day_abbr[:6]]
    assert joined_days(sundays)["ds"].tolist() == [*(WEEK_DAYS - pd.Timedelta(1, "D"))]
    fridays = pd.DataFrame(np.arange(60.0).reshape(12, 5), WEEKS + pd.Timedelta(4, "D"))
    fridays.columns = [*calendar.day_abbr[:5]]
    assert joined_days(fridays)["ds"].tolist() == [*WEEK_DAYS[WEEK_DAYS.dayofweek < 5]]


MONTHS = pd.date_range("2023-01-01", periods=12, freq="MS")


def month_days(blank):
    """Days of the months of a year, each with its number in the year, and what others hold."""
    values = np.full((12, 31), blank)
    days = pd.date_range("2023-01-01", "2023-12-31")
    values[days.month - 1, days.day - 1] = days.dayofyear
    return pd.DataFrame(values, MONTHS, range(1, 32))


@pytest.mark.parametrize("blank", [np.nan, 0.0])
@pytest.mark.parametrize("rows", ["first days", "last days", "text"])
def test_columns_that_are_the_days_of_a_month_are_joined(rows, blank):
    df = month_days(blank).rename(columns=str)
    if rows == "last days":
        df.index += pd.offsets.MonthEnd(0)
    if rows == "text":
        df = df.set_axis(df.index.strftime("%Y-%m")).reset_index(names="month")
    joined = joined_days(df)
    assert joined["ds"].tolist() == [*pd.date_range("2023-01-01", "2023-12-31")]
    assert joined["y"].tolist() == [*range(1, 366)]


@pytest.mark.parametrize(
    "df",
    [
        month_days(1.0),
        pd.DataFrame(np.ones((12, 7)), MONTHS, [*calendar.day_abbr]),
        pd.DataFrame(np.ones((12, 7)), range(12), [*calendar.day_abbr]).rename_axis("hour"),
        pd.DataFrame(np.ones((12, 4)), WEEKS, [*calendar.day_abbr[:4]]),
    ],
    ids=["31 shops", "months", "hours", "few days"],
)
def test_columns_that_are_no_days_of_their_rows_are_series_without_a_word(df):
    answer = forecast(df.reset_index(names=df.index.name or "ds"), 1, model="naive")
    assert answer.shape[1] == 1 + df.shape[1]


@pytest.mark.parametrize(
    "columns",
    [["Jan", "Feb", "Mar"], [*range(24)], ["Q1", "Q2", "Q3"], ["08:00", "16:00"]],
)
def test_other_columns_are_series_without_a_word(columns):
    df = pd.DataFrame(np.ones((9, len(columns))), index=range(2010, 2019), columns=columns)
    assert [*forecast(df, 1, model="naive").columns] == columns


def numbered(n_parts, first, prefix, shape):
    """A row for each day or year, of parts that are only numbered."""
    parts = np.arange(9 * n_parts)
    values = {"waves": np.sin(2 * np.pi * parts / n_parts), "noise": parts * 7919 % 1009}[shape]
    rows = pd.date_range("2010-01-01", periods=9, freq="YS").year if n_parts == 12 else DAYS[:9]
    columns = [f"{prefix}{first + n}" if prefix else first + n for n in range(n_parts)]
    return pd.DataFrame(values.reshape(9, -1), index=rows, columns=columns)


@pytest.mark.parametrize(
    ("n_parts", "first", "prefix", "begin"),
    [
        (24, 0, "", "2024-01-01"),
        (96, 1, "V", "2024-01-01 00:15"),
        (12, 1, "", "2010-01-01"),
        (12, 0, "m", "2010-01-01"),
    ],
)
def test_numbered_columns_whose_values_run_on_are_told(n_parts, first, prefix, begin):
    df = numbered(n_parts, first, prefix, "waves")
    with pytest.warns(UserWarning, match="run on from row to row") as caught:
        forecast(df, 1, model="naive")
    names = {"pd": pd, "df": df}
    exec(str(caught[0].message).split("below one another: ")[1], names)
    joined = names["df"].sort_values("ds")
    assert joined["y"].tolist() == df.to_numpy().ravel().tolist()
    freq = {24: "h", 96: "15min", 12: "MS"}[n_parts]
    expected = pd.date_range(begin, periods=len(joined), freq=freq)
    assert joined["ds"].tolist() == expected.tolist()


@pytest.mark.parametrize("kind", ["noise", "half a day", "hourly rows", "sorted"])
def test_numbered_columns_of_other_values_are_series_without_a_word(kind):
    df = numbered(24, 1, "store_", "noise" if kind == "noise" else "waves")
    if kind == "half a day":
        df = df.drop(columns="store_7")
    elif kind == "hourly rows":
        df.index = HOURS[:9]
    elif kind == "sorted":
        df[:] = np.arange(24.0)
    assert [*forecast(df, 1, model="naive").columns] == [*df.columns]


@pytest.mark.parametrize("month", ["%b", "%m"])
def test_years_of_merged_cells_are_repeated(month):
    months = pd.date_range("2015-01-01", periods=48, freq="MS")
    cells = months.strftime(month) if month == "%b" else months.month
    df = pd.DataFrame({"Year": months.year, "Month": cells, "sold": np.arange(48.0)})
    df["Year"] = df["Year"].where(months.month == 1)
    with pytest.raises(ValueError, match=r"'Year' .* is empty in row 1 \(and 43 more\)") as caught:
        forecast(df, 1)
    names = {"df": df}
    exec(str(caught.value).split("below it: ")[1], names)
    joined = advised(names["df"], r"join them by (df\.drop.*)")
    answer = forecast(joined, 1, model="naive")
    assert pd.DatetimeIndex(answer["ds"]).tolist() == [pd.Timestamp("2019-01-01")]


def test_missing_counts_are_no_merged_cells():
    days = pd.date_range("2024-01-01", periods=9)
    df = pd.DataFrame({"when": days, "minute": [900.0, None, *range(7)]})
    assert forecast(df, 1)["minute"].notna().all()


@pytest.mark.parametrize("layout", ["%d/%m/%Y", "%m/%d/%Y %I:%M %p"])
def test_a_first_day_that_may_be_a_month_leaves_a_column_of_times(layout):
    days = pd.date_range("2024-02-01", periods=28)
    df = pd.DataFrame({"when": days.strftime(layout), "v": np.arange(28.0)})
    answer = forecast(df, 1, model="naive")
    assert pd.to_datetime(answer["when"], format=layout).tolist() == [pd.Timestamp("2024-02-29")]
    with pytest.raises(ValueError, match="can be read day first or month first"):
        forecast(df[:12], 1, model="naive")


@pytest.mark.parametrize("digits", [3, 4])
def test_middles_of_months_in_decimals_of_years_are_months(digits):
    months = pd.date_range("1958-03-01", periods=50, freq="MS")
    year_days = 365 + months.is_leap_year
    middles = months.dayofyear - 1 + months.days_in_month / 2
    df = pd.DataFrame({"year": np.round(months.year + middles / year_days, digits)})
    df["co2"] = np.arange(50.0)
    answer = forecast(df, 1, model="naive")
    assert answer["year"].tolist() == [pd.Timestamp("1962-05-01")]


def test_durations_are_no_times_of_day():
    days = DAYS.strftime("%Y-%m-%d")
    df = pd.DataFrame({"day": days, "wait": [f"00:0{number % 9}:30" for number in range(20)]})
    read = advised(df, r"make seconds of durations: (df.*)")
    assert read["wait"].tolist()[:2] == [30.0, 90.0]
    dated = df.set_index(DAYS)[["wait"]]
    read = advised(dated, r"; (df\['wait'\] = .*) makes seconds of durations")
    assert read["wait"].tolist()[:2] == [30.0, 90.0]
    # Of two agents.
    both_series = pd.concat([df.assign(agent="a"), df.assign(agent="b")])
    with pytest.raises(ValueError, match="make seconds of durations"):
        forecast(both_series, 1)


def test_empty_rows_at_the_end_of_a_table_are_none():
    whole = pd.DataFrame({"ds": DAYS.astype(str), "y": np.arange(20.0)})
    empty = pd.DataFrame({"ds": [None, None], "y": [np.nan, np.nan]})
    table = pd.concat([whole, empty], ignore_index=True)
    pd.testing.assert_frame_equal(
        forecast(table, 1, model="naive"), forecast(whole, 1, model="naive")
    )
    between = pd.concat([whole[:9], empty, whole[9:]], ignore_index=True)
    with pytest.raises(ValueError, match=r"no stamp in row 9 \(and 1 more\)"):
        forecast(between, 1, model="naive")
    # Without stamps an empty row is one of missing values.
    numbers = pd.DataFrame({"a": [1.0, 2.0, np.nan], "b": [3.0, 4.0, np.nan]})
    assert forecast(numbers, 1, model="naive", missing="ffill").index.tolist() == [3]


def test_cells_that_hold_lists_are_named():
    df = pd.DataFrame({"ds": DAYS, "y": [[value] for value in range(20)]})
    with pytest.raises(ValueError, match=r"holds \[0\] at 2024-01-01 00:00:00 \(and 19 more\)"):
        forecast(df, 1)


@pytest.mark.parametrize("layout", ["%I:%M %p", "%I %p", "%I:%M%p"])
def test_hours_of_half_days_are_joined(layout):
    names = HOURS[23:47].strftime(layout).str.lstrip("0")
    df = pd.DataFrame(np.arange(480.0).reshape(20, 24), columns=names)
    df.insert(0, "date", DAYS)
    with pytest.warns(match="one series of hours has them below one another") as caught:
        forecast(df, 1, model="naive")
    names = {"pd": pd, "df": df}
    exec(str(caught[0].message).split("one another: ")[1], names)
    joined = names["df"].sort_values("ds")
    assert joined["ds"].tolist() == (HOURS - pd.Timedelta("1h")).tolist()
    assert joined["y"].tolist() == LOAD.tolist()


@pytest.mark.parametrize("name", ["d_{}", "W{}", "Month {}"])
@pytest.mark.parametrize("id_col", ["id", "item_id", "Product"])
def test_columns_that_number_steps_are_turned(name, id_col):
    steps = pd.DataFrame([np.arange(20.0), np.arange(20.0) + 7]).set_axis(
        [name.format(step) for step in range(20)], axis=1
    )
    df = pd.concat([pd.DataFrame({"dept": ["x", "x"], id_col: ["p1", "p2"]}), steps], axis=1)
    turned = advised(df, r"turn the table, as (df\.drop.*) does, which counts the steps")
    answer = forecast(turned, 1, model="naive")
    assert answer.to_dict("records") == [{"p1": 19.0, "p2": 26.0}]
    assert answer.index.tolist() == [20]
    # Words that occur twice name no rows, and other names are those of series.
    for other in (df.assign(**{id_col: "p1"}), df.rename(columns=lambda column: f"{column}a")):
        with pytest.raises(ValueError, match="column") as caught:
            forecast(other, 1)
        assert "number the steps" not in str(caught.value)


@pytest.mark.parametrize("months", [[*range(1, 13)], ["Jan", "Feb", "Mar", "Apr"]])
def test_years_and_months_in_levels_of_the_index_are_joined(months):
    levels = pd.MultiIndex.from_product([(2021, 2022), months], names=["Year", "Month"])
    df = pd.DataFrame({"sales": np.arange(len(levels), dtype=float)}, index=levels)
    joined = advised(df, r"join them by (df = .*)")
    first, *_, last = to_panel(joined).times
    assert (first, last) == (pd.Timestamp("2021-01-01"), pd.Timestamp(2022, len(months), 1))
    answer = forecast(df, 1, model="naive", id_col="Month")
    assert sorted(answer["Month"], key=months.index) == months


def test_calls_on_levels_of_an_index_make_columns_of_them_first():
    weeks = [number for year in (202300, 202400) for number in range(year + 1, year + 53)]
    levels = pd.MultiIndex.from_product([("a", "b"), weeks], names=["shop", "week"])
    df = pd.DataFrame({"sales": np.arange(208.0)}, index=levels)
    read = to_panel(advised(df, r"as (df = df\.reset_index\(\); df\['week'\] = .*) does"))
    assert read.times[0] == pd.Timestamp("2023-01-02")
    days = pd.date_range("2024-01-01", periods=104)
    levels = pd.MultiIndex.from_product([("a", "b"), days], names=["unique_id", "ds"])
    twice = pd.concat([pd.DataFrame({"y": np.arange(208.0)}, index=levels)] * 2)
    # The ids alone may be in the index as well.
    for table in (twice, twice.reset_index("ds")):
        kept = advised(table, r"as (df\.reset_index\(\)\.drop_duplicates\(.*\)) does")
        assert to_panel(kept).lengths.tolist() == [104, 104]
