"""Closed hours and days, days of the month and months of weeks: stamps go on as those of the past."""

import warnings

import numpy as np
import pandas as pd
import pytest
from tables import NAMES

import tsattn
from tsattn.data.calendar import calendar_cycles, future_times, parse_freq, season_length
from tsattn.data.frames import from_long, to_panel
from tsattn.data.opening import group_by_hours
from tsattn.data.schema import Schema


def one_series(stamps, values=None):
    stamps = pd.DatetimeIndex(stamps)
    y = np.arange(len(stamps), dtype=float) if values is None else values
    return pd.DataFrame(dict(zip(NAMES, ["a", stamps, y], strict=True)))


def hours(first, last, *, freq="h", days=range(5), start=7, end=21):
    """Stamps within opening hours, the last of a day included."""
    stamps = pd.date_range(first, f"{last} 23:59", freq=freq)
    open_days = stamps.dayofweek.isin(days)
    return stamps[open_days & (stamps.hour >= start) & (stamps.hour <= end)]


def days(first, last, open_days):
    stamps = pd.date_range(first, last)
    return stamps[stamps.dayofweek.isin(open_days)]


CALLS = hours("2024-01-01", "2024-03-31")
SHOP = days("2023-01-02", "2024-03-30", range(6))
MONTHS = pd.date_range("2018-01-01", periods=30, freq="MS")
RETAIL = pd.Timestamp("2020-01-25") + pd.to_timedelta(np.cumsum([0, *[28, 28, 35] * 6]), "D")

PATTERNS = {
    "office": (CALLS, "h[Mon-Fri 07:00-21:00]"),
    "shop": (SHOP, "D[Mon-Sat]"),
    "three days": (days("2023-01-02", "2024-03-30", [0, 2, 4]), "D[Mon; Wed; Fri]"),
    "weekends": (days("2023-01-02", "2024-03-31", [5, 6]), "D[Sat-Sun]"),
    "evening": (SHOP + pd.Timedelta(18, "h"), "D[Mon-Sat 18:00-18:00]"),
    "saturday mornings": (
        CALLS.append(hours("2024-01-01", "2024-03-31", days=[5], start=8, end=12)).sort_values(),
        "h[Mon-Fri 07:00-21:00; Sat 08:00-12:00]",
    ),
    "noon": (
        CALLS[CALLS.hour != 12],
        "h[Mon-Fri 07:00-11:00 13:00-21:00]",
    ),
    "half hours": (
        hours("2024-01-01", "2024-02-15", freq="30min", start=9, end=16),
        "30min[Mon-Fri 09:00-16:30]",
    ),
    "eight days": (hours("2024-01-01", "2024-01-10"), "h[Mon-Fri 07:00-21:00]"),
    "fifteenth": (MONTHS + pd.Timedelta(14, "D"), "M[15]"),
    "fifteenth of quarters": (
        pd.date_range("2010-02-01", periods=30, freq="3MS") + pd.Timedelta(14, "D"),
        "Q-FEB[15]",
    ),
    "twice a month": (MONTHS.append(MONTHS + pd.Timedelta(14, "D")).sort_values(), "M[1 15]"),
    "fifteenth and last": (
        (MONTHS + pd.Timedelta(14, "D")).append(MONTHS + pd.offsets.MonthEnd(1)).sort_values(),
        "M[15 31]",
    ),
    "decades": (
        MONTHS.append(
            [MONTHS + pd.Timedelta(10, "D"), MONTHS + pd.Timedelta(20, "D")]
        ).sort_values(),
        "M[1 11 21]",
    ),
    "thirtieth": (
        pd.DatetimeIndex([m + pd.Timedelta(min(29, m.days_in_month - 1), "D") for m in MONTHS]),
        "M[30]",
    ),
    "retail months": (RETAIL, "W[4 4 5 from 2020-01-25]"),
}


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.filterwarnings("ignore:rows are absent")
def test_stamps_go_on_where_the_past_has_rows(name):
    stamps, alias = PATTERNS[name]
    n_left = 13
    panel = from_long(one_series(stamps[:-n_left]))
    assert panel.freq == alias
    assert len(panel.values) == len(stamps) - n_left
    assert not np.isnan(panel.values).any()
    after = future_times(panel.last_times(), panel.freq, n_left)
    assert after.equals(stamps[-n_left:])
    # The alias says all that is known.
    assert parse_freq(alias).alias == alias
    again = from_long(one_series(stamps), Schema(freq=alias))
    assert again.freq == alias
    assert again.times.equals(stamps)


def monthly(first, day, n_rows):
    """Stamps on a day of each month, or on the last one of shorter months."""
    months = pd.date_range(first, periods=n_rows, freq="MS")
    days = np.minimum(day, months.days_in_month)
    return months + pd.to_timedelta(days - 1, "D")


@pytest.mark.parametrize("n_rows", [3, 4, 5, 7, 13, 26, 48])
@pytest.mark.parametrize("day", [28, 29, 30, 31])
def test_days_at_the_end_of_months_are_seen_from_any_month_on(day, n_rows):
    for first in pd.date_range("2019-01-01", "2020-12-01", freq="MS"):
        stamps = monthly(first, day, n_rows)
        expected = f"M[{day}]"
        # Three stamps may follow a simpler rule as well.
        if stamps.is_month_end.all():
            expected = "ME"
        elif (stamps + pd.offsets.BMonthEnd(0) == stamps).all():
            expected = "BME"
        assert n_rows == 3 or expected in ("ME", f"M[{day}]")
        assert from_long(one_series(stamps)).freq == expected, stamps


@pytest.mark.parametrize(
    ("stamps", "alias", "following"),
    [
        (["2024-07-30", "2024-08-30", "2024-09-30"], "M[30]", "2024-10-30"),
        (["2024-07-15", "2024-08-15"], "M[15]", "2024-09-15"),
        (["2024-07-15", "2024-10-15", "2025-01-15"], "Q-JAN[15]", "2025-04-15"),
        (["2021-07-15", "2022-07-15", "2023-07-15"], "Y-JUL[15]", "2024-07-15"),
        (["2024-07-15", "2024-08-14", "2024-09-13"], "30D", "2024-10-13"),
    ],
)
def test_few_stamps_on_a_day_of_the_month_are_months_though_these_have_as_many_days(
    stamps, alias, following
):
    panel = from_long(one_series(pd.DatetimeIndex(stamps)))
    assert panel.freq == alias
    assert future_times(panel.last_times(), panel.freq, 1)[0] == pd.Timestamp(following)


def test_two_days_of_the_month_are_seen_in_leap_years():
    stamps = monthly("2019-01-01", 15, 26).append(monthly("2019-01-01", 30, 26)).sort_values()
    assert from_long(one_series(stamps)).freq == "M[15 30]"


def test_stamps_off_the_ends_of_months_are_told():
    stamps = monthly("2019-01-01", 31, 24)
    wrong = stamps[5] - pd.Timedelta(3, "D")
    with pytest.raises(ValueError, match=f"the stamp {wrong} is off the inferred frequency 'ME'"):
        from_long(one_series(stamps.where(stamps != stamps[5], wrong)))


@pytest.mark.parametrize(
    ("freq", "season", "cycles"),
    [
        ("h[Mon-Fri 07:00-21:00]", 15, (75, 15)),
        ("h[Mon-Fri 07:00-21:00; Sat 08:00-12:00]", 80, (80,)),
        ("D[Mon-Sat]", 6, (6,)),
        ("M[1 15]", 24, ()),
        ("M[15]", 12, ()),
        ("Q-FEB[15]", 4, ()),
        ("W[4 4 5 from 2020-01-25]", 12, ()),
    ],
)
def test_patterns_have_their_seasons(freq, season, cycles):
    assert season_length(freq) == season
    assert calendar_cycles(freq) == cycles


@pytest.mark.parametrize(
    "freq",
    [
        "h[Mon-Fri 7-21]",
        "h[Mo-Fr 07:00-21:00]",
        "h[]",
        "7h[Mon 07:00-21:00]",
        "M[0 15]",
        "M[32]",
        "W[4 x 5 from 2020-01-25]",
        "W[4 4 5 from 2020-13-25]",
        "Q-FOO[15]",
        "B[Mon]",
    ],
)
def test_faulty_patterns_are_refused(freq):
    with pytest.raises(ValueError, match="freq must be a positive integer or a pandas alias"):
        parse_freq(freq)


def test_closed_hours_are_told_in_one_line():
    with pytest.warns(UserWarning, match="read as closed") as caught:
        forecast = tsattn.forecast(one_series(CALLS), 168)
    assert [str(warning.message) for warning in caught] == [
        "rows are absent on the same days or hours of every week, which are read as closed: the"
        " frequency is 'h[Mon-Fri 07:00-21:00]', and forecasts leave the others out;"
        " gaps='missing' reads them as missing values"
    ]
    stamps = pd.DatetimeIndex(forecast["ds"])
    assert len(stamps) == 168
    assert (stamps.dayofweek < 5).all()
    assert ((stamps.hour >= 7) & (stamps.hour <= 21)).all()


def test_gaps_may_be_called_missing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        panel = from_long(one_series(CALLS), Schema(gaps="missing", missing="mask"))
        weekdays = from_long(
            one_series(days("2023-01-02", "2023-02-28", range(5))),
            Schema(gaps="missing", missing="mask"),
        )
    assert panel.freq == "h"
    assert np.isnan(panel.values).any()
    assert weekdays.freq == "D"


def test_gaps_must_repeat_to_be_called_closed():
    stamps = pd.date_range("2024-01-01", periods=60).delete([5, 20])
    with pytest.raises(ValueError, match=r"no days or hours of the week .* gaps='closed' needs"):
        from_long(one_series(stamps), Schema(gaps="closed"))
    with pytest.raises(ValueError, match="gaps must be one of closed, missing; got 'shut'"):
        Schema(gaps="shut")


@pytest.mark.parametrize("seed", range(5))
def test_gaps_at_random_are_missing(seed):
    rng = np.random.default_rng(seed)
    daily = pd.date_range("2024-01-01", periods=120)
    hourly = pd.date_range("2024-01-01", periods=800, freq="h")
    for stamps, freq in ((daily, "D"), (hourly, "h")):
        stamps = stamps[rng.random(len(stamps)) > 0.2]
        panel = from_long(one_series(stamps))
        assert panel.freq == freq


@pytest.mark.filterwarnings("ignore:rows are absent")
def test_holidays_do_not_spoil_the_rule():
    holidays = pd.to_datetime(["2024-02-08", "2024-03-22"])
    frame = one_series(CALLS[~CALLS.normalize().isin(holidays)])
    panel = from_long(frame)
    assert panel.freq == "h[Mon-Fri 07:00-21:00]"
    assert np.isnan(panel.values).sum() == 2 * 15
    message = (
        r"no value at 2024-02-08 07:00:00 \(and 29 more\); such values are interpolated for naive"
    )
    with pytest.warns(UserWarning, match=message):
        fitted = tsattn.make_forecaster("naive", 5).fit(frame)
    assert fitted.panel_.freq == panel.freq
    with pytest.raises(ValueError, match="gap: there is no row at 2024-02-08 07:00:00"):
        from_long(frame, Schema(missing="error"))


@pytest.mark.filterwarnings("ignore:rows are absent")
def test_a_row_off_the_hours_is_left_out_and_named():
    extra = pd.DatetimeIndex(["2024-02-03 10:00"])
    stamps = CALLS.append(extra).sort_values()
    with pytest.warns(UserWarning, match=r"series 'a': the row at 2024-02-03 10:00:00 is off"):
        panel = from_long(one_series(stamps))
    assert panel.times.equals(CALLS)
    # Too many such rows are no exception.
    many = hours("2024-01-01", "2024-03-31", days=[5], start=8, end=12)[::3]
    panel = from_long(one_series(CALLS.append(many).sort_values()))
    assert "Sat" in str(panel.freq)


@pytest.mark.filterwarnings("ignore:rows are absent")
@pytest.mark.filterwarnings("ignore:.* the row at")
@pytest.mark.filterwarnings("ignore:.* has had no rows on")
@pytest.mark.parametrize(
    ("stamps", "n_most", "n_more", "closed", "open_freq"),
    [
        # A fiftieth of all rows is less than a twentieth of the closed hours.
        (CALLS, 19, 20, "h[Mon-Fri 07:00-21:00]", "h"),
        # A twentieth of the Sundays is less than a fiftieth of all rows.
        (SHOP, 3, 4, "D[Mon-Sat]", "D"),
    ],
)
def test_rows_at_closed_times_are_few_of_all_rows_and_of_these_times(
    stamps, n_most, n_more, closed, open_freq
):
    every_stamp = pd.date_range(stamps[0], stamps[-1], freq=open_freq)
    others = every_stamp.difference(stamps)
    for n_stray, freq in ((n_most, closed), (n_more, open_freq)):
        strays = others[:: len(others) // n_stray][:n_stray]
        panel = from_long(one_series(stamps.append(strays).sort_values()))
        assert panel.freq == freq


@pytest.mark.filterwarnings("ignore:rows are absent")
def test_wide_tables_close_too():
    frame = pd.DataFrame({"a": 1.0, "b": 2.0}, index=SHOP)
    assert to_panel(frame).freq == "D[Mon-Sat]"


@pytest.mark.filterwarnings("ignore:rows are absent")
def test_opening_hours_in_a_time_zone_follow_its_clock():
    stamps = hours("2024-02-01", "2024-04-30").tz_localize("Europe/Berlin")
    panel = from_long(one_series(stamps[:-30]))
    assert panel.freq == "h[Mon-Fri 07:00-21:00]"
    assert future_times(panel.last_times(), panel.freq, 30).equals(stamps[-30:])


@pytest.mark.filterwarnings("ignore:rows are absent")
@pytest.mark.parametrize("schema", [Schema(), Schema(freq="h")])
def test_a_fit_fixes_the_hours_of_new_rows(schema, tmp_path):
    forecaster = tsattn.make_forecaster("seasonal_naive", 20, schema=schema).fit(one_series(CALLS))
    forecaster.save(tmp_path / "model")
    loaded = type(forecaster).load(tmp_path / "model")
    # These rows alone would show neither weekends nor nights.
    recent = hours("2024-04-01", "2024-04-03")
    answer = loaded.predict(one_series(recent))
    expected = hours("2024-04-04", "2024-04-05")[:20]
    assert pd.DatetimeIndex(answer["ds"]).equals(expected)


def test_new_rows_close_no_days_that_a_fit_has():
    schema = Schema(missing="interpolate")
    forecaster = tsattn.make_forecaster("naive", 2, schema=schema)
    forecaster.fit(one_series(pd.date_range("2024-01-01", periods=60)))
    # These rows alone would be those of a shop that is closed on Sundays.
    recent = days("2024-03-01", "2024-04-27", range(6))
    with pytest.warns(UserWarning, match="no rows on Sun for 8 weeks, but the frequency 'D' has"):
        answer = forecaster.predict(one_series(recent))
    assert answer["ds"].tolist() == [pd.Timestamp("2024-04-28"), pd.Timestamp("2024-04-29")]


@pytest.mark.filterwarnings("ignore:rows are absent")
def test_backtests_and_future_columns_follow_the_hours():
    forecaster = tsattn.make_forecaster("seasonal_naive", 15)
    scores = tsattn.backtest(forecaster, one_series(CALLS), n_windows=2)
    assert np.isfinite(scores.scores["mae"]).all()
    frame = one_series(CALLS).assign(staff=np.arange(len(CALLS)) % 7)
    ridge = tsattn.make_forecaster("ridge", 15, schema=Schema(future_cols=["staff"])).fit(frame)
    rows = ridge.make_future_frame()
    assert pd.DatetimeIndex(rows["ds"]).equals(hours("2024-04-01", "2024-04-01"))


@pytest.mark.filterwarnings("ignore:rows are absent")
def test_an_update_takes_series_beside_one_with_rows_on_closed_days_only():
    names = ["a", "b"]
    frame = pd.concat(one_series(SHOP).assign(unique_id=name, kind=name) for name in names)
    schema = Schema(static_cols=["kind"])
    forecaster = tsattn.make_forecaster("ridge", 2, schema=schema).fit(frame)
    stamps = pd.to_datetime(["2024-03-31", "2024-04-01"])
    rows = pd.DataFrame({"unique_id": names, "ds": stamps, "y": 5.0, "kind": names})
    with pytest.warns(UserWarning, match="'a': the row at 2024-03-31 .* is left out"):
        forecaster.update(rows)
    first = forecaster.predict().groupby("unique_id")["ds"].min()
    assert first.tolist() == [pd.Timestamp("2024-04-01"), pd.Timestamp("2024-04-02")]
    refusal = r"'a': the row at 2024-03-31 .* which leaves no row; .* fit again with gaps='missing'"
    with pytest.raises(ValueError, match=refusal):
        forecaster.update(rows[:1])
    with pytest.raises(ValueError, match=refusal):
        forecaster.predict(rows)
    sundays = pd.concat([frame, rows[:1].assign(unique_id="c")])
    with pytest.raises(ValueError, match=r"'c': .* which leaves no row; read .*gaps='missing'$"):
        tsattn.make_forecaster("naive", 2).fit(sundays)
    filled = Schema(gaps="missing", missing="interpolate")
    keeping = tsattn.make_forecaster("naive", 2, schema=filled).fit(sundays)
    assert keeping.update(rows[:1]).predict()["ds"].iloc[0] == pd.Timestamp("2024-04-01")


def test_business_days_need_no_policy_in_a_backtest():
    stamps = days("2023-01-02", "2023-06-30", range(5)).delete([30])
    with pytest.warns(UserWarning, match="no value at 2023-02-13 .* interpolated for naive"):
        scores = tsattn.backtest(
            tsattn.make_forecaster("naive", 5), one_series(stamps), n_windows=2
        )
    assert np.isfinite(scores.scores["mae"]).all()


@pytest.mark.filterwarnings("ignore:rows are absent")
@pytest.mark.filterwarnings("ignore:.*off the days and hours")
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize(
    ("first", "last", "aware"),
    [
        ("2023-01-02", "2023-12-29", False),
        ("2023-01-02", "2023-12-29", True),
        # Rows of two weeks after a change would be taken for single ones off the hours.
        ("2023-12-01", "2024-04-12", False),
    ],
)
def test_local_hours_in_utc_are_told(first, last, aware, zone):
    local = hours(first, last, start=9, end=16).tz_localize(zone)
    stamps = local.tz_convert("UTC")
    df = one_series(stamps if aware else stamps.tz_localize(None))
    text_expected = f"clock of a zone such as {zone} they are 'h.Mon-Fri 09:00-16:00.' all year"
    with pytest.warns(UserWarning, match=text_expected) as record:
        from_long(df)
    message = next(str(w.message) for w in record if "clocks change" in str(w.message))
    names = {"df": df, "pd": pd}
    exec(message.rsplit("zone: ", 1)[1], names)
    panel = from_long(names["df"])
    assert panel.freq == "h[Mon-Fri 09:00-16:00]"
    expected = hours(last, "2024-05-01", start=9, end=16).tz_localize(zone)[8:48]
    assert future_times(panel.last_times(), panel.freq, 40).equals(expected)


@pytest.mark.filterwarnings("ignore:rows are absent")
def test_the_call_of_a_warning_makes_columns_of_an_index():
    local = hours("2023-01-02", "2023-12-29", start=9, end=16).tz_localize("Europe/Berlin")
    df = one_series(local.tz_convert("UTC")).set_index(["unique_id", "ds"])
    with pytest.warns(UserWarning, match="clock of a zone such as Europe/Berlin") as record:
        to_panel(df)
    message = next(str(w.message) for w in record if "clocks change" in str(w.message))
    names = {"df": df, "pd": pd}
    exec(message.rsplit("zone: ", 1)[1], names)
    assert to_panel(names["df"]).freq == "h[Mon-Fri 09:00-16:00]"


@pytest.mark.filterwarnings("ignore:rows are absent")
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_hours_that_do_not_move_are_not_told(zone):
    stamps = hours("2023-01-02", "2023-12-29", start=9, end=16).tz_localize(zone)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        assert from_long(one_series(stamps)).freq == "h[Mon-Fri 09:00-16:00]"
    assert not any("clocks change" in str(w.message) for w in record)


def shops():
    """Two shops that are open on five days from nine to five, and one on six from eight to eight."""
    early = hours("2024-01-01", "2024-02-16", start=9, end=16)
    late = hours("2024-01-01", "2024-02-16", days=range(6), start=8, end=19)
    parts = []
    for name, stamps in {"a": early, "b": late, "c": early}.items():
        parts.append(pd.DataFrame({"shop": name, "date": stamps, "sales": stamps.hour + 0.5}))
    return pd.concat(parts, ignore_index=True)


def printed_call(message):
    """The imports and the expression of an advice."""
    advice = message.split("of its own: ", 1)[1].split("; else the forecast")[0]
    imports, _, expression = advice.partition("; ")
    return imports, expression.split("; or have")[0]


@pytest.mark.filterwarnings("ignore:rows are absent")
@pytest.mark.parametrize("id_col", ["shop", ["town", "shop"]])
def test_the_call_that_forecasts_groups_of_hours_works(id_col):
    df = shops().assign(town="x")
    columns = {"id_col": id_col, "time_col": "date", "target_col": "sales"}
    if id_col == "shop":
        df = df.drop(columns="town")
    with pytest.warns(UserWarning, match="open on different days or hours") as record:
        tsattn.forecast(df, 40, **columns)
    message = next(str(w.message) for w in record if "of its own" in str(w.message))
    assert "'h[Mon-Fri 09:00-16:00]' for series " in message
    assert "(and 1 more), 'h[Mon-Sat 08:00-19:00]' for series " in message
    imports, expression = printed_call(message)
    names = {"df": df, "horizon": 40, "pd": pd, "tsattn": tsattn}
    exec(imports, names)
    answer = eval(expression, names)
    assert sorted(answer["shop"].unique()) == ["a", "b", "c"]
    for name, part in answer.groupby("shop"):
        stamps = df.loc[df["shop"] == name, "date"]
        start, end, last_day = (8, 19, 6) if name == "b" else (9, 16, 5)
        expected = hours("2024-02-17", "2024-03-31", days=range(last_day), start=start, end=end)
        assert pd.DatetimeIndex(part["date"]).equals(expected[:40]), name
        assert stamps.max() < part["date"].min()


@pytest.mark.filterwarnings("ignore:rows are absent")
def test_series_with_other_hours_are_refused_where_gaps_are():
    df = shops()
    schema = Schema(id_col="shop", time_col="date", target_col="sales")
    with pytest.raises(ValueError, match=r"open on different days or hours: .* of its own"):
        from_long(df, schema.changed(missing="error"))
    with pytest.warns(UserWarning, match="the forecast of each has the hours of all"):
        panel = from_long(df, schema)
    assert panel.freq == "h[Mon-Sat 08:00-19:00]"


@pytest.mark.filterwarnings("ignore:rows are absent")
def test_groups_of_hours_need_a_rule():
    """A series of a week belongs to the group that it fits, one that is always open to its own."""
    df = shops()
    always = pd.date_range("2024-01-01", "2024-02-16", freq="h")
    week = hours("2024-02-12", "2024-02-16", start=8, end=12)
    parts = [df]
    for name, stamps in {"d": always, "e": week}.items():
        parts.append(pd.DataFrame({"shop": name, "date": stamps, "sales": 1.0}))
    groups = group_by_hours(pd.concat(parts), "shop", "date")
    names = [sorted(part["shop"].unique()) for part in groups]
    assert names == [["a", "c"], ["b", "e"], ["d"]]
    alike = df[df["shop"] != "b"]
    assert len(group_by_hours(alike, "shop", "date")) == 1
    assert len(group_by_hours(alike.assign(date=np.arange(len(alike))), "shop", "date")) == 1
    with pytest.raises(ValueError, match="'branch'"):
        group_by_hours(df, "branch", "date")


def test_series_with_other_closed_days_are_told():
    monday_to_friday = one_series(days("2023-01-02", "2023-12-29", range(5)))
    every_day = one_series(pd.date_range("2023-01-02", "2023-12-31")).assign(unique_id="b")
    frame = pd.concat([monday_to_friday, every_day])
    with pytest.warns(UserWarning, match="'B' for series 'a', 'D' for series 'b'"):
        panel = from_long(frame)
    assert panel.freq == "D"
    saturdays = one_series(SHOP[:300]).assign(unique_id="b")
    frame = pd.concat([one_series(days("2023-01-02", "2023-12-16", range(5))), saturdays])
    with (
        pytest.warns(UserWarning, match="read as closed"),
        pytest.warns(UserWarning, match=r"'B' for series 'a', 'D\[Mon-Sat\]' for series 'b'"),
    ):
        from_long(frame)


def test_days_that_closed_during_the_past_are_told():
    stamps = pd.date_range("2022-01-03", "2022-12-31").append(SHOP)
    with pytest.warns(UserWarning, match="has had no rows on Sun for 8 weeks"):
        assert from_long(one_series(stamps)).freq == "D"


@pytest.mark.filterwarnings("ignore:rows are absent")
@pytest.mark.parametrize("time_col", [None, "day"])
def test_closed_days_of_one_column_of_a_wide_table_are_told(time_col):
    days = pd.date_range("2023-01-02", periods=140, name=time_col)
    df = pd.DataFrame({"a": np.arange(140.0), "b": 1.0}, index=days)
    df.loc[days.dayofweek == 6, "a"] = np.nan
    df = df if time_col is None else df.reset_index()
    with pytest.warns(UserWarning, match=r"series 'a' has values on 'D\[Mon-Sat\]' only") as caught:
        assert to_panel(df).freq == "D"
    call = str(caught[0].message).split("as by ")[1]
    answer = eval(call, {"tsattn": tsattn, "df": df, "horizon": 9})
    stamps = answer.index if time_col is None else pd.DatetimeIndex(answer[time_col])
    assert set(stamps.dayofweek) == {0, 1, 2, 3, 4, 5}
    # Neither are told if nobody closes, nor if values are missing at any time.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_panel(df, Schema(gaps="missing"))
        to_panel(df.assign(a=df["b"].where(df.index != df.index[9])))
