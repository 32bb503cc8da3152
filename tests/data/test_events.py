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
    exec(str(caught.value).split("each day: ")[1], scope)
    counts = scope["df"]
    assert counts["y"].tolist() == [5] * 40
    answer = forecast(counts, 1, model="naive")
    assert answer.iloc[0, 0] == pd.Timestamp("2024-02-22")


def test_days_without_an_event_count_as_zero_and_short_logs_are_counted_by_hour():
    times = events(2)
    df = pd.DataFrame({"at": times, "who": ["a", "b"] * 5})
    with pytest.raises(ValueError, match="of each hour: ") as caught:
        forecast(df, 1)
    scope = {"pd": pd, "df": df}
    exec(str(caught.value).split("each hour: ")[1], scope)
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
