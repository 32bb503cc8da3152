"""Values of a sensor that hangs, and spikes: which are found, and which only look alike."""

import numpy as np
import pytest

from tsattn.data.sensor_faults import explained, find_spikes, find_stuck

RUN = slice(100, 140)


def sensor(seed=0, length=400):
    rng = np.random.default_rng(seed)
    return np.sin(np.arange(length) / 4) + 0.1 * rng.normal(size=length)


def hanging(*runs, seed=0):
    """A sensor whose values in some runs of rows are those of the first row."""
    x = sensor(seed)
    for run in runs:
        x[run] = x[run.start]
    return x


def stuck_rows(x):
    return np.flatnonzero(find_stuck(x[None, :, None])[0, :, 0]).tolist()


def test_all_but_the_first_value_of_a_run_are_stuck():
    assert stuck_rows(hanging(RUN)) == [*range(101, 140)]
    assert stuck_rows(hanging(RUN, slice(300, 330))) == [*range(101, 140), *range(301, 330)]


def test_each_channel_of_a_window_is_searched_alone():
    x = np.stack([sensor(1), hanging(RUN)], axis=1)
    stuck = find_stuck(np.stack([x, x[:, ::-1]]))
    assert stuck.sum(axis=1).tolist() == [[0, 39], [39, 0]]


def test_missing_values_around_a_run_change_nothing():
    x = hanging(RUN)
    x[:20] = np.nan
    x[138] = np.nan
    x[140:150] = np.nan
    assert stuck_rows(x) == [*range(101, 138)]
    assert stuck_rows(np.full(50, np.nan)) == []


def steps(x):
    """A price that stays for days."""
    return np.repeat(x[::5], 5)


def twice_at_one_level():
    x = hanging(RUN)
    x[300:340] = x[100]
    return x


@pytest.mark.parametrize(
    "x",
    [
        pytest.param(hanging(slice(360, 400)), id="the last run may be an end"),
        pytest.param(hanging(slice(100, 127)), id="short"),
        pytest.param(hanging(slice(100, 240)), id="more than a third"),
        pytest.param(hanging(*[slice(first, first + 28) for first in range(20, 320, 60)]), id="5"),
        pytest.param(twice_at_one_level(), id="a level that comes back"),
        pytest.param(np.maximum(hanging(RUN), hanging(RUN)[100]), id="the least value"),
        pytest.param(np.minimum(hanging(RUN), hanging(RUN)[100]), id="the largest value"),
        pytest.param(steps(hanging(RUN)), id="it often stands still"),
        pytest.param(np.sort(hanging(RUN)), id="a counter that rests"),
    ],
)
def test_what_only_looks_alike_is_not_stuck(x):
    assert stuck_rows(x) == []


def test_a_run_is_found_beside_the_end_of_a_series():
    assert stuck_rows(hanging(RUN, slice(370, 400))) == [*range(101, 140)]


def spiked(**rows):
    """A sensor with other values in some rows, such as r50=99."""
    x = sensor()
    for name, value in rows.items():
        x[int(name[1:])] = value
    return x


@pytest.mark.parametrize("rows", [["r0"], ["r50", "r51", "r300"], ["r50", "r398"]])
@pytest.mark.parametrize("value", [99.0, -99.0, 14.0])
def test_a_few_values_far_from_all_others_are_spikes(rows, value):
    spikes = find_spikes(spiked(**dict.fromkeys(rows, value)))
    assert np.flatnonzero(spikes).tolist() == [int(row[1:]) for row in rows]


def test_spikes_lie_on_both_sides_and_beside_missing_values():
    x = spiked(r50=99.0, r60=-99.0, r61=np.nan, r399=np.nan)
    assert np.flatnonzero(find_spikes(x)).tolist() == [50, 60]


def rare(value):
    """A column of campaigns, which is 0 in most rows."""
    x = np.zeros(400)
    x[::40] = value
    x[20] = 3 * value
    return x


@pytest.mark.parametrize(
    "x",
    [
        pytest.param(spiked(r50=8.0), id="not so far"),
        pytest.param(spiked(r10=99.0, r50=99.0, r51=99.0, r90=99.0), id="four"),
        pytest.param(spiked(r300=99.0, r399=99.0), id="the last value"),
        pytest.param((np.arange(400) == 50).astype(float), id="a rare event"),
        pytest.param(rare(500.0), id="campaigns"),
        pytest.param(sensor()[:35] + 99 * (np.arange(35) == 9), id="a short series"),
        pytest.param(np.full(50, np.nan), id="no values"),
    ],
)
def test_what_may_be_right_is_no_spike(x):
    assert not find_spikes(x).any()


FAIR = np.arange(40) % 10 == 4


def explained_rows(is_outlier, column):
    answer = explained(is_outlier[None, :, None], column[None, :, None].astype(float))
    return np.flatnonzero(answer[0, :, 0]).tolist()


def test_outliers_on_the_days_of_an_event_are_explained():
    assert explained_rows(FAIR, FAIR) == [4, 14, 24, 34]
    # One of four fairs was as quiet as any day, and one outlier lies elsewhere.
    is_outlier = FAIR.copy()
    is_outlier[[14, 20]] = [False, True]
    assert explained_rows(is_outlier, FAIR) == [4, 24, 34]


@pytest.mark.parametrize("sign", [1, -1])
def test_outliers_where_an_amount_is_large_or_small_are_explained(sign):
    budget = np.random.default_rng(0).random(40) + FAIR * np.arange(50, 90)
    assert explained_rows(FAIR, sign * budget) == [4, 14, 24, 34]


@pytest.mark.parametrize(
    "column",
    [
        pytest.param(np.arange(40), id="each value is in one row"),
        pytest.param(np.arange(40) % 2 == 0, id="most of such rows are no outliers"),
        pytest.param(np.full(40, np.nan), id="missing"),
    ],
)
def test_other_columns_explain_nothing(column):
    assert explained_rows(FAIR, column) == []
