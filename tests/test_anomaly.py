"""Values of the past that forecasts from both sides do not expect are flagged."""

import numpy as np
import pandas as pd
import pytest
from tables import hourly_wave as hourly
from tables import wide_table
from tiny_network import tiny_network

from tsattn import Schema, anomalies
from tsattn.checks import InputError, InputWarning

ROWS = 24 * 12


@pytest.fixture(scope="module")
def judged():
    """A wave with a wrong value inside the usual range of the series, a wrong last value, and a
    missing one.
    """
    series = hourly()
    series.iloc[156] += 12.0
    series.iloc[-1] -= 12.0
    series.iloc[60] = np.nan
    return series, anomalies(series)


def test_wrong_values_are_flagged(judged):
    series, table = judged
    assert series.iloc[156] < series.max()
    flagged = table.loc[table["anomaly"], "ds"].tolist()
    assert series.index[156] in flagged
    assert series.index[-1] in flagged
    assert len(flagged) <= 4


def test_a_sensor_that_hangs_is_flagged_where_the_wave_goes_on():
    series = hourly()
    hung = slice(120, 156)
    series.iloc[hung] = series.iloc[120]
    table = anomalies(series)
    assert table["anomaly"][hung].sum() >= 20
    assert table["anomaly"].sum() <= table["anomaly"][hung].sum() + 6


def test_each_observed_value_has_a_row(judged):
    series, table = judged
    assert table["ds"].tolist() == series.dropna().index.tolist()
    assert table["y"].tolist() == series.dropna().tolist()


def test_scores_are_distances_in_halves(judged):
    _, table = judged
    above = table["y"] >= table["expected"]
    half = np.where(above, table["hi"] - table["expected"], table["expected"] - table["lo"])
    np.testing.assert_allclose(table["score"], (table["y"] - table["expected"]) / half)
    is_outside = (table["y"] < table["lo"]) | (table["y"] > table["hi"])
    assert (is_outside == table["anomaly"]).all()


def test_wider_intervals_flag_less(judged):
    series, table = judged
    narrow = anomalies(series, level=80)
    wide = anomalies(series, level=99.9)
    assert narrow["anomaly"].sum() > table["anomaly"].sum() >= wide["anomaly"].sum()
    # The halves grow as those of a normal distribution beyond the levels of the network.
    ratio = (wide["hi"] - wide["expected"]) / (table["hi"] - table["expected"])
    np.testing.assert_allclose(ratio, 3.2905 / 2.5758, rtol=1e-3)


def test_long_tables_keep_their_names():
    table = pd.concat(
        [
            pd.DataFrame({"shop": name, "when": hourly().index, "sold": hourly(seed)})
            for seed, name in enumerate(["a", "b"])
        ]
    )
    names = {"id_col": "shop", "time_col": "when", "target_col": "sold"}
    # How a value is judged is not the point.
    somehow = {"weights": tiny_network()}
    answer = anomalies(table, schema=Schema(**names), **somehow)
    pd.testing.assert_frame_equal(anomalies(table, **names, **somehow), answer)
    assert answer.columns.tolist() == [
        *("shop", "when", "sold", "expected", "lo", "hi", "score", "anomaly")
    ]
    assert len(answer) == 2 * ROWS


def test_series_are_judged_by_themselves():
    alone = anomalies(hourly())
    wide = anomalies(pd.DataFrame({"a": hourly(), "b": 100 * hourly(1)}))
    np.testing.assert_allclose(
        wide.loc[wide["unique_id"] == "a", "score"].to_numpy(), alone["score"], rtol=1e-4, atol=1e-5
    )
    assert wide["anomaly"].mean() < 0.02


def test_short_series_are_not_judged_and_told():
    # The last block of the first series reaches beyond its end.
    table = pd.DataFrame({"a": hourly(), "b": hourly(1)}).iloc[:-1]
    table.iloc[10:, 1] = np.nan
    with pytest.warns(InputWarning, match="fewer than 200 values are not judged: series 'b'"):
        answer = anomalies(table, weights=tiny_network())
    short = answer[answer["unique_id"] == "b"]
    assert len(short) == 10
    assert short["score"].isna().all()
    assert not short["anomaly"].any()


def flagged(values):
    """Rows of each column that are flagged; the columns are series of one wide table."""
    table = anomalies(wide_table(values, range(values.shape[1])))
    flags = table["anomaly"].to_numpy().reshape(values.shape[::-1])
    return [np.flatnonzero(flags_of_one).tolist() for flags_of_one in flags]


def test_values_beside_a_constant_stretch_are_not_flagged():
    """In either order of time."""
    rng = np.random.default_rng(0)
    moving = 50 + 5 * np.sin(2 * np.pi * np.arange(300) / 7) + rng.normal(size=300)
    values = np.r_[moving, np.full(100, 52.0)]
    after, before = flagged(np.stack([values, values[::-1]], axis=1))
    assert not set(after) & set(range(288, 300))
    assert not set(before) & set(range(100, 112))


def test_a_change_in_a_constant_series_is_flagged():
    answer = anomalies([5.0] * 120 + [6.0] + [5.0] * 120)
    assert answer.loc[answer["anomaly"], "y"].tolist() == [6.0]


@pytest.mark.parametrize("level", [0, 100, [80, 95], "x"])
def test_level_is_one_number_in_percent(level):
    with pytest.raises((ValueError, TypeError, InputError), match="level"):
        anomalies(hourly(), level=level)


def test_rounding_is_no_anomaly():
    """Its intervals are of no width but that of rounding, in series of every size."""
    scale = np.array([1e-3, 1.0, 1e3])
    waves = scale * (10 + np.sin(np.arange(400) * 2 * np.pi / 12))[:, None]
    assert flagged(waves) == [[], [], []]
    waves[200] += 0.01 * scale
    assert all(200 in rows for rows in flagged(waves))


def test_a_constant_series_may_take_another_value():
    """At the first row of a block of six, in its middle, and at its last row."""
    rows = np.arange(240)
    values = np.where(rows[:, None] < [114, 117, 119], 5.0, 6.0)
    assert flagged(values) == [[], [], []]
    values[60] = 8.0
    assert flagged(values) == [[60], [60], [60]]
    truths = anomalies(rows % 24 < 13)
    assert not np.isinf(truths["score"]).any()


def test_a_machine_that_is_switched_by_the_clock_is_right():
    """At the first and the last rows one side has few values, all of them while it is off."""
    rows = np.arange(240)
    is_on = (rows % 24 >= 8) & (rows % 24 < 18)
    noise = np.random.default_rng(0).normal(0, 0.3, 240)
    power = 100.0 * is_on + noise
    ends = set(range(24)) | set(range(216, 240))
    assert not ends & set(flagged(power[:, None])[0])
    power[132] = 40.0
    assert 132 in flagged(power[:, None])[0]
