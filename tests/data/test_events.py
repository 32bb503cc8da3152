"""Tables of events without values: what is advised is done, and its counts are forecast."""

import numpy as np
import pandas as pd
import pytest

from tsattn import forecast

DRAWS = np.random.default_rng(0)


def events(days):
    """Five times of each day, in no order."""
    minutes = np.concatenate([DRAWS.choice(1440, 5, replace=False) + 1440 * d for d in range(days)])
    return pd.Timestamp("2024-01-13") + pd.to_timedelta(DRAWS.permutation(minutes), "min")


def call_in(error, words):
    """The call that an error gives behind some words."""
    return str(error).split(words)[1].split("; or ")[0]


LOGS = {
    "datetimes": lambda times: pd.DataFrame({"admitted": times}),
    "text": lambda times: pd.DataFrame({"admitted": times.astype(str)}),
    "days first": lambda times: pd.DataFrame({"at": times.strftime("%d.%m.%Y %H:%M")}),
    "words": lambda times: pd.DataFrame({"at": times, "ward": ["A", "B", "C", "A", "A"] * 40}),
    "codes": lambda times: pd.DataFrame({"case": [f"c-{k}" for k in range(200)], "at": times}),
    "whole days": lambda times: pd.DataFrame({"on": times.normalize(), "ward": "A"}),
    "the index": lambda times: pd.DataFrame({"ward": ["A", "B"] * 100}, index=times),
}


@pytest.mark.parametrize("log", LOGS)
def test_the_rows_of_each_day_are_counted(log):
    df = LOGS[log](events(40))
    with pytest.raises(ValueError, match="count those of each day: ") as caught:
        forecast(df, 1)
    scope = {"pd": pd, "df": df}
    exec(call_in(caught.value, "each day: "), scope)
    counts = scope["df"]
    assert counts["y"].tolist() == [5] * 40
    answer = forecast(counts, 1, model="naive")
    assert answer.iloc[0, 0] == pd.Timestamp("2024-02-22")


@pytest.mark.parametrize("log", ["words", "the index", "text"])
def test_kinds_of_events_are_counted_by_themselves(log):
    times = events(40)
    wards = ["A", "B", "C", "A", "A"] * 40
    df = LOGS[log](times).assign(ward=wards)
    # A day without an event of one kind, and one without any.
    days = df.index if log == "the index" else pd.to_datetime(df.iloc[:, 0])
    days = pd.DatetimeIndex(days).normalize()
    df = df[~((df["ward"] == "B") & (days.day == 20)).to_numpy() & (days.day != 3)]
    with pytest.raises(ValueError, match="each 'ward': ") as caught:
        forecast(df, 1)
    scope = {"pd": pd, "df": df}
    exec(call_in(caught.value, "each 'ward': "), scope)
    counts = scope["df"]
    assert counts.to_numpy().sum() == len(df)
    assert len(counts) == 40
    assert counts.loc["2024-01-20", "B"] == 0
    assert counts.loc["2024-02-03"].tolist() == [0, 0, 0]
    answer = forecast(counts, 1, model="naive")
    assert answer.index.tolist() == [pd.Timestamp("2024-02-22")]
    assert answer.columns.tolist() == ["A", "B", "C"]


def test_days_without_an_event_count_as_zero_and_short_logs_are_counted_by_hour():
    times = events(2)
    df = pd.DataFrame({"at": times, "who": ["a", "b"] * 5})
    with pytest.raises(ValueError, match="of each hour: ") as caught:
        forecast(df, 1)
    scope = {"pd": pd, "df": df}
    exec(call_in(caught.value, "each hour: "), scope)
    counts = scope["df"].set_index("at")["y"]
    hours = pd.date_range(times.min().floor("h"), times.max(), freq="h")
    assert counts.index.tolist() == hours.tolist()
    assert counts.tolist() == [(times.floor("h") == hour).sum() for hour in hours]


@pytest.mark.parametrize("words", [["on", "off"], ["1,5", "2,5"], ["5 kg", "7 kg"]])
def test_values_in_another_spelling_are_no_events(words):
    days = pd.date_range("2024-01-01", periods=40)
    uneven = [*days[:20], *days[25:45]]
    for times in (days, uneven) if words[0] != "on" else (days,):
        df = pd.DataFrame({"day": times, "state": (words * 20)[: len(times)]})
        with pytest.raises(ValueError, match="column 'state' holds"):
            forecast(df, 1)


def test_words_of_several_series_are_no_events():
    days = pd.date_range("2024-01-01", periods=40)
    one_series = pd.DataFrame({"day": days, "sold": ["many", "few"] * 20})
    table = pd.concat([one_series.assign(shop=name) for name in ("north", "south")])
    with pytest.raises(ValueError, match="none of the others holds numbers"):
        forecast(table, 1)
