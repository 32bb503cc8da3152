"""Values of a sensor that hangs: which are found, and which only look alike."""

import numpy as np
import pytest

from tsattn.data.stuck import find_stuck

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
