"""Zeros of a logger that fails: which are found, and which are right."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from tsattn import forecast
from tsattn.pretrained.outliers import find_outliers

DOUBLE = torch.float64


def waves(n=8, length=400, seed=0):
    """Series in which single zeros are nearer than what other rules find."""
    generator = torch.Generator().manual_seed(seed)
    step = torch.arange(length, dtype=DOUBLE)
    noise = torch.randn(n, length, generator=generator, dtype=DOUBLE)
    return 10 + torch.sin(2 * torch.pi * step / 24) + 0.9 * noise


def by_loops(series):
    """Steps of wrong zeros, number by number."""
    others = [t for t, value in enumerate(series) if value != 0 and not math.isnan(value)]
    first, last = others[0], others[-1]
    steps = range(first, len(series))
    before = {t: max(other for other in others if other <= t) for t in steps}
    zeros = [t for t in steps if series[t] == 0]
    if len(zeros) > len(steps) / 6 or follow_rule(zeros, before, last, len(steps)):
        return []
    changes = [
        abs(series[t] - series[t - 1])
        for t in steps[1:]
        if t - 1 in others and t in others and series[t] != series[t - 1]
    ]
    if len(changes) <= 0.5 * (len(steps) - len(zeros)):
        return []
    usual = sorted(changes, reverse=True)[math.ceil(0.02 * len(steps)) :]
    unit = sum(usual) / len(usual)
    distance = {}
    for t in zeros:
        distance[t] = abs(series[before[t]])
        later = [other for other in others if other > t]
        if later:
            distance[t] = min(distance[t], abs(series[later[0]]))
        elif length_of_end(zeros, before, last) > longest_inside(zeros, before, last):
            distance[t] = 0.0
    far = [t for t in zeros if distance[t] > 3 * unit]
    starts = [t for t in zeros if t - 1 in others]
    if len(starts) < 4:
        very_far = [t for t in far if distance[t] > 8 * unit]
        return zeros if very_far == zeros else []
    n_early = sum(t - first + 1 <= len(steps) / 2 for t in starts)
    is_spread = min(n_early, len(starts) - n_early) >= 0.25 * len(starts)
    return far if is_spread and len(far) >= 0.5 * len(zeros) else []


def longest_inside(zeros, before, last):
    return max([t - before[t] for t in zeros if t < last], default=0)


def length_of_end(zeros, before, last):
    return max([t - before[t] for t in zeros if t > last], default=0)


def follow_rule(zeros, before, last, n_steps):
    """Whether half of the zeros have another one at one distance, longer than a run of them."""
    longest = max(longest_inside(zeros, before, last), length_of_end(zeros, before, last))
    lags = range(longest + 1, n_steps // 2 + 1)
    most = max([sum(t + lag in zeros for t in zeros) for lag in lags], default=0)
    return most >= 0.5 * len(zeros)


@pytest.mark.parametrize("length", [12, 30, 90, 400])
def test_the_rule_against_loops(length):
    x = waves(48, length)
    generator = torch.Generator().manual_seed(1)
    for row in range(48):
        share = (0.03, 0.08, 0.15)[row % 3]
        is_zero = torch.rand(length, generator=generator) < share
        if row % 4 == 1:
            # Runs of three.
            is_zero = is_zero[torch.arange(length) // 3 * 3] & is_zero
            is_zero = torch.nn.functional.max_pool1d(is_zero[None].float(), 3, 1, 1)[0] > 0
        if row % 4 == 2:
            is_zero[-2:] = True
        if row % 5 == 3:
            is_zero[: length // 5] = True
        if row % 7 == 5:
            is_zero |= torch.arange(length) % 7 == 6
        x[row] = torch.where(is_zero, 0.0, x[row] - 4 * (row % 3))
    x[5, length // 2] = torch.nan
    flags = find_outliers(x)
    found = [row.nonzero()[:, 0].tolist() for row in flags]
    assert found == [by_loops(row.tolist()) for row in x]
    assert flags.any()
    assert not find_outliers(x, scattered=False)[flags].all()
    padding = torch.full((48, 7), torch.nan, dtype=DOUBLE)
    assert torch.equal(find_outliers(torch.cat([padding, x], dim=1))[:, 7:], flags)


def test_zeros_of_a_season_are_right():
    """Closed Sundays with a few feast days, three weeks in each summer, and rare sales."""
    day = torch.arange(728)
    x = waves(3, 728, seed=2)
    x[0, day % 7 == 6] = 0.0
    x[0, [100, 230, 431, 600]] = 0.0
    week = waves(1, 208, seed=3)[0]
    week[torch.tensor([[27, 79, 132, 183]]).T + torch.arange(3)] = 0.0
    x[1] = torch.where(torch.rand(728, generator=torch.Generator().manual_seed(4)) < 0.4, x[1], 0.0)
    x[2, 700:] = 0.0
    assert not find_outliers(x).any()
    assert not find_outliers(week[None]).any()


def test_missing_rows_before_a_series_change_nothing():
    x = waves(1, 60, seed=6)
    x[0, [4, 50]] = 0.0
    alone = find_outliers(x)
    assert alone.nonzero()[:, 1].tolist() == [4, 50]
    padding = torch.full((1, 60), torch.nan, dtype=DOUBLE)
    assert torch.equal(find_outliers(torch.cat([padding, x], dim=1))[:, 60:], alone)


def test_small_numbers_near_zero_are_right():
    generator = torch.Generator().manual_seed(5)
    counts = torch.poisson(torch.full((4, 600), 3.0, dtype=DOUBLE), generator=generator)
    assert (counts == 0).sum() > 80
    assert not find_outliers(counts).any()


def test_a_forecast_does_not_follow_the_zeros_and_says_so():
    n = 600
    rng = np.random.default_rng(0)
    values = 100 + 20 * np.sin(2 * np.pi * np.arange(n) / 24) + 3 * rng.normal(size=n)
    failed = rng.random(n) < 0.1
    hours = pd.date_range("2024-01-01", periods=n, freq="h")
    clean = forecast(pd.DataFrame({"ds": hours, "y": values}), 24)
    dirty = pd.DataFrame({"ds": hours, "y": np.where(failed, 0.0, values)})
    with pytest.warns(UserWarning, match=rf"far from its neighbours \(and {failed.sum() - 1} more"):
        answer = forecast(dirty, 24)
    assert np.abs(answer["zero"] - clean["zero"]).max() < 6
