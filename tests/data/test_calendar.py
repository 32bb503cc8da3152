"""Frequencies are read, inferred and continued as pandas would, in every time zone and spelling."""

import re

import numpy as np
import pandas as pd
import pytest

from tsattn.data.calendar import calendar_cycles, future_times, parse_freq, season_length
from tsattn.data.frames import from_long, from_wide, to_panel

FREQS = [
    "15min",
    "h",
    "D",
    "B",
    "W-SUN",
    "W-MON",
    "MS",
    "ME",
    "QS-FEB",
    "QE-DEC",
    "YS-JAN",
    "YE-JUN",
    "BMS",
    "BQE-DEC",
    "2h",
    "3D",
    "2W-WED",
    "2MS",
    "36h",
]


@pytest.mark.parametrize("tz", [None, "Europe/Berlin", "America/Sao_Paulo"])
@pytest.mark.parametrize("freq", FREQS)
def test_frequencies_are_inferred_and_continued_as_pandas_does(freq, tz):
    stamps = pd.date_range("2016-01-01 05:00", periods=60, freq=freq, tz=tz)
    df = pd.DataFrame({"ds": stamps[:30], "y": 1.0})
    panel = from_long(df)
    assert panel.freq == freq
    assert from_long(df, freq=freq).fingerprint() == panel.fingerprint()
    ahead = future_times(panel.last_times(), panel.freq, 30)
    assert ahead.equals(stamps[30:].rename(None))
    both = future_times(stamps[[4, 20, 4]], freq, 3)
    assert both.equals(stamps[[5, 6, 7, 21, 22, 23, 5, 6, 7]])
    assert future_times(stamps[:2], freq, 0).empty


@pytest.mark.parametrize(
    ("written", "alias"),
    [
        ("H", "h"),
        ("T", "min"),
        ("15T", "15min"),
        ("60min", "h"),
        ("1h30min", "90min"),
        ("S", "s"),
        ("L", "ms"),
        ("d", "D"),
        ("24h", "D"),
        ("M", "ME"),
        ("Q", "QE-DEC"),
        ("QS", "QS-JAN"),
        ("QS-OCT", "QS-JAN"),
        ("QE-MAR", "QE-DEC"),
        ("A", "YE-DEC"),
        ("A-JUN", "YE-JUN"),
        ("AS", "YS-JAN"),
        ("YS", "YS-JAN"),
        ("W", "W-SUN"),
        ("w-mon", "W-MON"),
        ("BM", "BME"),
        ("BAS", "BYS-JAN"),
        (pd.offsets.Hour(2), "2h"),
        (pd.offsets.MonthEnd(), "ME"),
        (pd.Timedelta("15min"), "15min"),
        (np.timedelta64(1, "D"), "D"),
        (7, 7),
        ("7", 7),
    ],
)
def test_old_and_new_spellings_are_one_frequency(written, alias):
    assert parse_freq(written).alias == alias


@pytest.mark.parametrize(
    "freq",
    [
        "x",
        "",
        "0h",
        "-1h",
        "1.5h",
        "W-XXX",
        "MS-JAN",
        "bh",
        "m",
        "9999999999D",
        "9999999999h",
        2**63,
        0,
        -2,
        True,
        1.5,
    ],
)
def test_unknown_frequencies_are_refused(freq):
    with pytest.raises(
        ValueError, match=r"freq must be a positive integer or a pandas alias .*; got "
    ):
        parse_freq(freq)


@pytest.mark.parametrize(
    ("freq", "season"),
    [
        ("h", 24),
        ("2h", 12),
        ("15min", 96),
        ("30min", 48),
        ("10min", 144),
        ("min", 1440),
        ("s", 1),
        ("36h", 1),
        ("D", 7),
        ("2D", 1),
        ("B", 5),
        ("W-SAT", 52),
        ("2W-SAT", 26),
        ("MS", 12),
        ("ME", 12),
        ("2MS", 6),
        ("QS-FEB", 4),
        ("QE", 4),
        ("YS", 1),
        ("YE", 1),
        (1, 1),
        (24, 1),
        ("5h", 1),
    ],
)
def test_season_lengths(freq, season):
    assert season_length(freq) == season


@pytest.mark.parametrize(
    ("freq", "cycles"),
    [
        ("h", (168, 24)),
        ("15min", (672, 96)),
        ("10min", (1008, 144)),
        ("D", (7,)),
        ("B", (5,)),
        ("2D", ()),
        ("W", ()),
        ("MS", ()),
        (3, ()),
        ("7h", (24,)),
        ("12h", (14, 2)),
    ],
)
def test_rows_of_a_week_and_a_day(freq, cycles):
    assert calendar_cycles(freq) == cycles


def test_days_follow_the_wall_clock_and_hours_the_elapsed_time():
    spring = pd.date_range("2024-03-28 09:30", periods=8, freq="D", tz="Europe/Berlin")
    assert set(np.diff(spring.asi8)) == {24 * 3600 * 10**9, 23 * 3600 * 10**9}
    assert from_wide(pd.DataFrame({"x": 1.0}, index=spring)).freq == "D"
    hours = pd.date_range(
        "2024-10-27 00:00", periods=6, freq="h", tz="Europe/Berlin"
    )  # 02:00 comes twice
    assert from_wide(pd.DataFrame({"x": 1.0}, index=hours)).freq == "h"
    assert future_times(hours[1:2], "h", 4).equals(hours[2:])
    assert future_times(spring[:1], "D", 7).equals(spring[1:])


def test_a_midnight_that_the_clock_skips_is_still_a_day():
    days = pd.date_range("2017-10-12", periods=8, freq="D")
    local = days.tz_localize("America/Sao_Paulo", nonexistent="shift_forward")
    assert local[3].hour == 1
    for stamps in (local, local[3:]):
        panel = from_wide(pd.DataFrame({"x": 1.0}, index=stamps))
        assert panel.freq == "D"
    assert future_times(local[1:2], "D", 4).equals(local[2:6])
    assert future_times(local[3:4], "D", 4).equals(local[4:])


def test_an_hour_that_the_clock_skips_or_repeats():
    days = pd.date_range("2024-03-29 02:30", periods=5, freq="D")
    spring = days.tz_localize("Europe/Berlin", nonexistent="shift_forward")
    assert (spring[2].hour, spring[2].minute) == (3, 0)
    assert from_wide(pd.DataFrame({"x": 1.0}, index=spring)).freq == "D"
    assert future_times(spring[:1], "D", 4).equals(spring[1:])
    autumn = pd.date_range("2024-10-26 02:30", periods=4, freq="D")
    first, second = (
        autumn.tz_localize("Europe/Berlin", ambiguous=np.full(4, dst)) for dst in (True, False)
    )
    for stamps in (first, second):
        assert from_wide(pd.DataFrame({"x": 1.0}, index=stamps)).freq == "D"
    with pytest.raises(
        ValueError, match=r"the stamp 2024-10-27 02:30:00\+01:00 is off the frequency 'D'"
    ):
        from_wide(pd.DataFrame({"x": 1.0}, index=first.union(second)), freq="D")


def test_anchors_of_quarters_and_years_are_held():
    quarters = pd.DataFrame({"x": 1.0}, index=pd.date_range("2020-01-01", periods=6, freq="QS-JAN"))
    with pytest.raises(
        ValueError,
        match=r"the stamp 2020-01-01 00:00:00 \(and 5 more\) is off the frequency 'QS-FEB'",
    ):
        from_wide(quarters, freq="QS-FEB")
    years = pd.DataFrame({"x": 1.0}, index=pd.date_range("2020-06-30", periods=6, freq="YE-JUN"))
    with pytest.raises(
        ValueError,
        match=r"the stamp 2020-06-30 00:00:00 \(and 5 more\) is off the frequency 'YE-DEC'",
    ):
        from_wide(years, freq="Y")


def test_future_times_refuses_what_has_no_future():
    with pytest.raises(ValueError, match=r"2024-01-15 00:00:00 does not lie on frequency 'MS'"):
        future_times(pd.DatetimeIndex(["2024-01-01", "2024-01-15"]), "MS", 2)
    with pytest.raises(ValueError, match=r"n_steps must be at least 0; got -1"):
        future_times(pd.Index([3]), 1, -1)
    with pytest.raises(
        ValueError, match=r"freq 'h' does not fit a time column of integers; pass the integer step"
    ):
        future_times(pd.Index([3]), "h", 1)


def at_ends(times):
    """Whether all stamps are the first or second, or the last two, days of a month or its business
    days."""
    offsets = (pd.offsets.MonthBegin(), pd.offsets.MonthEnd())
    offsets += (pd.offsets.BMonthBegin(), pd.offsets.BMonthEnd())
    day = pd.Timedelta(1, "D")
    moves = (-day, 0 * day, day)
    return any(
        np.logical_or.reduce([(times + move).map(offset.is_on_offset) for move in moves]).all()
        for offset in offsets
    )


@pytest.mark.parametrize("days", [28, 30, 31, 91, 92, 365])
def test_short_series_of_equal_days_are_no_months(days):
    for first in pd.date_range("2013-01-01", periods=60, freq="D"):
        times = pd.DatetimeIndex([first + k * pd.Timedelta(days=days) for k in range(4)])
        if days in (31, 92) and at_ends(times):
            continue
        freq = to_panel(pd.Series(np.arange(4.0), index=times)).freq
        assert future_times(times[:1], freq, 3).equals(times[1:])
    for freq in ("MS", "ME", "QS", "YE"):
        times = pd.date_range("2013-01-01", periods=3, freq=freq)
        assert to_panel(pd.Series(np.arange(3.0), index=times)).freq == freq or freq in ("QS", "YE")


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-30 2024-06-30 2024-07-31",
        "2024-05-30 2024-06-30 2024-07-31 2024-08-31",
        "2024-03-01 2024-04-01 2024-05-02",
        "2024-01-30 2024-02-28 2024-03-30 2024-04-29 2024-05-30",
    ],
)
def test_stamps_beside_the_end_of_the_month_are_no_steps_of_days(text):
    df = pd.DataFrame({"ds": pd.to_datetime(text.split()), "y": np.arange(len(text.split()))})
    with pytest.raises(ValueError, match=r"move them to the .* of their month") as refused:
        from_long(df)
    call = re.search(", as (.*?) does,", str(refused.value))[1]
    names = {"df": df, "pd": pd}
    exec(f"df['ds'] = df['ds'] {call}", names)
    assert from_long(names["df"]).freq in ("MS", "ME")


WEEKS = pd.date_range("2024-01-07", periods=40, freq="W-SUN")
MONTH_ENDS = pd.date_range("2022-01-31", periods=30, freq="ME")
MONTH_STARTS = pd.date_range("2022-01-01", periods=30, freq="MS")


def moved(times, rows):
    return times.where(~np.isin(np.arange(len(times)), rows), times + pd.Timedelta(1, "D"))


@pytest.mark.parametrize(
    "parts",
    [
        [moved(WEEKS, [20])],
        [moved(WEEKS, range(20, 40))],
        [WEEKS, moved(WEEKS, range(40))],
        [MONTH_ENDS - pd.Timedelta(1, "D") * (np.arange(30) == 6)],
        [moved(MONTH_STARTS, [6])],
    ],
)
def test_one_stamp_for_each_week_or_month_is_told_how_to_be_even(parts):
    df = pd.concat(
        pd.DataFrame({"unique_id": n, "ds": part, "y": np.arange(float(len(part)))})
        for n, part in enumerate(parts)
    )
    with pytest.raises(ValueError, match=r", as .* does, ") as refused:
        from_long(df)
    call = re.search(", as (.*?) does,", str(refused.value))[1]
    names = {"df": df, "pd": pd}
    exec(f"df['ds'] = df['ds'] {call}", names)
    panel = from_long(names["df"])
    assert panel.n_series == len(parts)
    assert panel.lengths.tolist() == [len(part) for part in parts]


@pytest.mark.parametrize(
    ("freq", "stamp", "has_call"),
    [
        ("D[Mon-Sat]", "2024-03-03", False),
        ("W-MON", "2024-03-05", False),
        ("QS", "2024-02-01", False),
        ("YS", "2024-03-31", False),
        ("MS", "2024-03-31", True),
        ("ME", "2024-03-01", True),
    ],
)
def test_a_single_stamp_gets_such_a_call_of_its_frequency_only(freq, stamp, has_call):
    df = pd.DataFrame({"ds": [pd.Timestamp(stamp)], "y": 1.0})
    with pytest.raises(ValueError, match=r"is off the (frequency|days and hours)") as refused:
        from_long(df, freq=freq)
    assert (" of their month, as " in str(refused.value)) == has_call


def test_stamps_with_gaps_get_no_such_call():
    df = pd.DataFrame({"ds": moved(WEEKS, [20]).delete(30), "y": 1.0})
    with pytest.raises(ValueError, match="is off the inferred") as refused:
        from_long(df)
    assert "to_period" not in str(refused.value)
