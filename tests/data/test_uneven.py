"""Stamps at uneven steps: what is advised is done, and its result is forecast."""

import re

import numpy as np
import pandas as pd
import pytest

from tsattn import forecast

DRAWS = np.random.default_rng(0)


def series(times, **more):
    times = pd.DatetimeIndex(times)
    return pd.DataFrame({"ds": times, "y": np.arange(float(len(times))), **more})


def shifted(freq, n, days, start="2018-01-01"):
    """Regular stamps, each some days later."""
    times = pd.date_range(start, periods=n, freq=freq)
    return times + pd.to_timedelta(DRAWS.integers(0, days, n), "D")


MINUTES = pd.date_range("2024-01-01", periods=300, freq="min")
UNEVEN = {
    "seconds around minutes": (MINUTES + pd.to_timedelta(DRAWS.integers(-3, 4, 300), "s"), "min"),
    "milliseconds": (MINUTES + pd.to_timedelta(DRAWS.integers(0, 40, 300), "ms"), "min"),
    "a lost minute": (
        (MINUTES + pd.to_timedelta(DRAWS.integers(1, 4, 300), "s")).delete(9),
        "min",
    ),
    "minutes around hours": (
        pd.date_range("2024-01-01 01:00", periods=99, freq="h")
        + pd.to_timedelta(DRAWS.integers(-5, 6, 99), "min"),
        "h",
    ),
    "days of invoices": (shifted("MS", 60, 5), "MS"),
    "third Fridays": (pd.date_range("2020-01-01", periods=48, freq="WOM-3FRI"), "MS"),
    "days of years": (shifted("YS", 40, 9, "1980-01-01"), "YS"),
}


@pytest.mark.parametrize("times", UNEVEN)
def test_stamps_that_jitter_get_the_call_that_makes_them_even(times):
    stamps, freq = UNEVEN[times]
    df = series(stamps)
    with pytest.raises(ValueError, match=r"cannot be inferred|inferred frequency") as caught:
        forecast(df, 1)
    (call,) = re.findall(r", as (\.dt\.\S+) does,", str(caught.value))
    even = df.assign(ds=eval(f"df['ds']{call}", {"df": df}))
    last = even["ds"].max()
    answer = forecast(even, 1)
    assert answer["ds"].tolist() == [last + pd.tseries.frequencies.to_offset(freq)]


def test_steps_that_double_are_not_rounded():
    """Two stamps would become one."""
    jitter = pd.to_timedelta(DRAWS.integers(-3, 4, 300), "s")
    twice = (MINUTES + jitter).append(MINUTES[9:10] + pd.Timedelta("10s"))
    with pytest.raises(ValueError, match="cannot be inferred") as caught:
        forecast(series(twice.sort_values()), 1)
    assert "round" not in str(caught.value)


def test_events_are_to_be_added_up_also_where_a_frequency_is_named():
    seconds = np.sort(DRAWS.choice(86_400 * 60, 800, replace=False))
    events = series(pd.Timestamp("2024-01-01") + pd.to_timedelta(seconds, "s"))
    for freq in (None, "D"):
        with pytest.raises(ValueError, match="add events up") as caught:
            forecast(events, 1, freq=freq)
        (call,) = re.findall(r", as (df\.resample.*\)) does", str(caught.value))
        # Numbers of orders are no values.
        daily = eval(named(call), {"df": events.assign(order=range(800))})
        answer = forecast(daily, 1)
        assert answer.index.tolist() == [pd.Timestamp("2024-03-01")]
        assert answer.columns.tolist() == ["y"]


def named(call):
    """A call that is advised, with the names of this table's columns."""
    names = {"TIME_COLUMN": "'ds'", "ID_COLUMN": "'unique_id'", "VALUE_COLUMN": "'y'"}
    for placeholder, name in names.items():
        call = call.replace(placeholder, name)
    return call


def sensors(n_series, seed=0):
    """Measurements at about every minute, which drift."""
    seconds = np.random.default_rng(seed).integers(50, 70, (n_series, 500)).cumsum(axis=1)
    start = pd.Timestamp("2024-01-01")
    tables = [
        series(start + pd.to_timedelta(second, "s"), unique_id=str(second[0])) for second in seconds
    ]
    df = pd.concat(tables, ignore_index=True)
    return df if n_series > 1 else df.drop(columns="unique_id")


@pytest.mark.parametrize("freq", [None, "min"])
@pytest.mark.parametrize("n_series", [1, 2])
def test_measurements_at_uneven_times_are_to_be_averaged(n_series, freq):
    df = sensors(n_series)
    with pytest.raises(ValueError, match="average measurements by steps of 'min'") as caught:
        forecast(df, 1, freq=freq)
    (call,) = re.findall(r", as (df\..*\)) does", str(caught.value))
    even = eval(named(call), {"df": df, "pd": pd})
    answer = forecast(even, 1)
    assert len(answer) == n_series
    assert (answer["zero"] if n_series > 1 else answer["y"]).notna().all()


def test_events_of_several_series_have_no_frequency_in_common():
    draws = np.random.default_rng(1)
    seconds = np.sort(draws.choice(86_400 * 60, 600, replace=False))
    times = pd.Timestamp("2024-01-01") + pd.to_timedelta(seconds, "s")
    events = series(times, unique_id=draws.choice([*"abcdef"], 600), note="x")
    with pytest.raises(ValueError, match=r"irregular stamps: .* add events up") as caught:
        forecast(events, 1)
    (call,) = re.findall(r", as (df\..*\)) does", str(caught.value))
    daily = eval(named(call), {"df": events, "pd": pd})
    assert forecast(daily, 1)["ds"].max() == pd.Timestamp("2024-03-01")


def test_even_stamps_of_another_frequency_are_not_to_be_averaged():
    with pytest.raises(ValueError, match="is off the frequency '7D'") as caught:
        forecast(series(pd.date_range("2024-01-01", periods=60)), 1, freq="7D")
    assert "average" not in str(caught.value)
    # Rounding would change none of them.
    assert "round" not in str(caught.value)


def test_a_change_of_frequency_is_told():
    days = pd.date_range("2023-01-01", periods=100)
    hours = pd.date_range("2023-04-11", periods=200, freq="h")
    message = r"rows up to 2023-04-11 00:00:00 are 24 steps of 'h' apart, all others one"
    with pytest.warns(UserWarning, match=message):
        forecast(series(days.append(hours)), 1)
    other = series(hours, unique_id="b")
    first = series(days.append(hours), unique_id="a")
    with pytest.warns(UserWarning, match=f"series 'a': {message}"):
        forecast(pd.concat([first, other]), 1)
    later = hours[-1] + pd.to_timedelta(np.arange(1, 100), "D")
    with pytest.warns(UserWarning, match="rows from 2023-04-19 07:00:00 are 24 steps"):
        forecast(series(hours.append(later)), 1)


@pytest.mark.filterwarnings("error")
def test_single_gaps_are_no_change_of_frequency():
    hours = pd.date_range("2023-04-11", periods=200, freq="h")
    forecast(series(hours.delete([0 + 1, 100, 101])), 1)
    forecast(series(hours.delete(range(1, 9))), 1)


YEARS = pd.date_range("2015-01-01", periods=120, freq="MS")
SCHOOL = YEARS[~YEARS.month.isin([7, 8])]


@pytest.mark.parametrize("layout", ["one", "long", "keys", "wide", "dated"])
def test_months_without_rows_are_told_with_a_call_that_works(layout):
    one_series = series(SCHOOL)
    both_series = pd.concat([one_series.assign(unique_id="a"), one_series.assign(unique_id="b")])
    df = {
        "one": one_series,
        "long": both_series,
        "keys": both_series.assign(town="x").rename(columns={"unique_id": "school"}),
        "wide": one_series.rename(columns={"ds": "month"}),
        "dated": one_series.set_index("ds"),
    }[layout]
    schema = {"id_col": ["town", "school"]} if layout == "keys" else {}
    with pytest.warns(UserWarning, match="no year has a row in July or August") as caught:
        forecast(df, 1, **schema)
    message = next(str(warning.message) for warning in caught if "no year" in str(warning.message))
    (call,) = re.findall(r"one after another: (.*)", message)
    names = {"df": df.copy()}
    exec(call, names)
    answer = forecast(names["df"], 1, **schema)
    times = answer.index if layout == "dated" else answer[answer.filter(["ds", "month"]).columns[0]]
    assert {*times} == {100}


@pytest.mark.filterwarnings("error")
def test_quarters_and_single_gaps_leave_no_month_out():
    quarters = pd.date_range("2010-01-01", periods=40, freq="QS").delete([5, 6])
    forecast(series(quarters), 1)
    forecast(series(YEARS.delete([30, 31])), 1)
    # One summer alone says nothing.
    forecast(series(YEARS[:17].delete([6, 7])), 1)
