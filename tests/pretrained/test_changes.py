"""The forecast of changes that the pretrained network adds up where they are steady."""

import math

import numpy as np
import pytest
import torch
from tiny_network import tiny_network

from tsattn.pretrained.contexts import (
    SteadyChanges,
    changes_since,
    share_of_changes,
    sum_by_lag,
)
from tsattn.pretrained.weights import load_network

RULE = SteadyChanges()


def season_and_rise(noise=0.0, n_steps=480, seed=0):
    """Hours of one day, again and again, on a slow rise: contexts [1 T], float64."""
    step = np.arange(n_steps)
    x = 10 * np.sin(2 * np.pi * step / 24) + 0.01 * step
    x = x + noise * np.random.default_rng(seed).normal(size=n_steps)
    return torch.tensor(x)[None]


def share_by_loops(x, lag, horizon):
    """Share of the forecast of changes for one context, value by value."""
    n_steps = len(x)
    n_recent = max(2 * lag, lag * math.ceil(64 / lag))
    recent = range(max(n_steps - n_recent, 0), n_steps)
    values = [x[t] for t in recent if not math.isnan(x[t])]
    changes = [x[t] - x[t - lag] for t in recent if t >= lag]
    changes = [change for change in changes if not math.isnan(change)]
    last = range(n_steps - lag, n_steps)
    if any(math.isnan(x[t]) and math.isnan(x[t - lag]) for t in last) or len(changes) < 8:
        return 0.0
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    if spread == 0:
        return 0.0
    mean_change = sum(changes) / len(changes)
    distance = sum(abs(change - mean_change) for change in changes) / len(changes)
    unsteadiness = distance / spread * math.sqrt(math.ceil(horizon / lag))
    late = [t for t in recent if t >= 2 * lag]
    pairs = [(x[t] - x[t - lag], x[t - lag] - x[t - 2 * lag]) for t in late]
    later, earlier = np.array([pair for pair in pairs if not any(map(math.isnan, pair))]).T
    correlation = 0.0
    if len(later) >= 8 and later.std() > 0 and earlier.std() > 0:
        correlation = np.corrcoef(later, earlier)[0, 1]
    factor = 8.0 ** min(max(-2 * correlation, 0.0), 1.0)
    share = math.log(1.2 / max(factor * unsteadiness, 0.06)) / math.log(1.2 / 0.06)
    return share if share >= 0.15 else 0.0


@pytest.mark.parametrize("lag", [1, 3, 24])
@pytest.mark.parametrize("horizon", [1, 24, 100])
def test_the_share_is_that_of_the_rule(lag, horizon):
    rng = np.random.default_rng(lag)
    step = np.arange(200)
    gaps = np.sin(step / 7) + 0.001 * rng.normal(size=200)
    gaps[[30, 150, 160]] = np.nan
    late_gap = gaps.copy()
    late_gap[-1] = np.nan
    long_gap = gaps.copy()
    long_gap[[-1, -1 - lag]] = np.nan
    rows = [
        np.sin(2 * np.pi * step / 24) + 0.05 * rng.normal(size=200),
        rng.normal(size=200).cumsum(),
        rng.normal(size=200),
        1e9 + 0.5 * step + 0.01 * rng.normal(size=200),
        np.full(200, 4.0),
        np.where(step < 195, np.nan, step),
        gaps,
        late_gap,
        long_gap,
        np.exp(step / 20),
    ]
    x = torch.tensor(np.stack(rows))
    shares = share_of_changes(x, torch.full((len(rows),), lag), horizon)
    right = [share_by_loops(row, lag, horizon) for row in rows]
    assert shares.tolist() == pytest.approx(right, abs=1e-6)
    moved = share_of_changes(-1e-7 * x + 3, torch.full((len(rows),), lag), horizon)
    assert moved[:3].tolist() == pytest.approx(right[:3], abs=1e-6)


def test_changes_are_differences_to_the_value_before():
    x = torch.tensor([[1.0, 2.0, 4.0, torch.nan, 16.0, 32.0]])
    changes = changes_since(x, torch.tensor([2]))[0]
    assert changes.isnan().tolist() == [True, True, False, True, False, True]
    assert changes[[2, 4]].tolist() == [3.0, 12.0]


def test_sums_agree_with_a_loop():
    values = torch.tensor(np.random.default_rng(0).normal(size=(4, 37, 2)))
    lag = torch.tensor([1, 5, 36, 40])
    right = values.clone()
    for row, steps in enumerate(lag.tolist()):
        for step in range(steps, 37):
            right[row, step] = values[row, step] + right[row, step - steps]
    assert torch.allclose(sum_by_lag(values, lag, 37), right)
    # More rounds than are needed change nothing.
    assert torch.equal(sum_by_lag(values, lag, 1024), sum_by_lag(values, lag, 37))


def test_quantiles_of_changes_are_added_up_as_a_loop_would():
    network = tiny_network()
    middle = network.quantile_levels.index(0.5)
    rng = np.random.default_rng(1)
    x = torch.tensor(rng.normal(size=(2, 30)))
    ahead = torch.tensor(np.sort(rng.normal(size=(2, 11, len(network.quantile_levels)))))
    lag = torch.tensor([1, 4])
    added = network.added_up(x, ahead, lag, 11)
    for row, steps in enumerate(lag.tolist()):
        point = x[row].tolist()
        sizes = []
        for step in range(11):
            change = ahead[row, step]
            distance = change - change[middle]
            size = distance.abs() ** RULE.power
            if step >= steps:
                size = size + sizes[step - steps]
            sizes.append(size)
            point.append(point[-steps] + float(change[middle]))
            right = point[-1] + distance.sign() * size ** (1 / RULE.power)
            assert torch.allclose(added[row, step], right)
    assert (added.diff(dim=2) >= 0).all()


def test_the_forecast_of_changes_counts_by_its_share(monkeypatch):
    """Steady changes are the forecast, changes like noise none of it, others a part."""
    network = tiny_network()
    x = torch.cat([season_and_rise(noise, 60) for noise in (0.001, 1.5, 20.0)])
    given = {}

    def recorded(answer, *rest):
        given["values"] = answer.clone()
        return added_up(answer, *rest)

    added_up = network.added_up
    monkeypatch.setattr(type(network), "added_up", lambda self, *rest: recorded(*rest))
    context, seasons = network.look(x, 6)
    lag = seasons.clear_cycle().clamp_min(1)
    share = share_of_changes(context, lag, 6)
    assert share[0] == 1
    assert 0 < share[1] < 1
    assert share[2] == 0
    values = network._forecast_read(context, seasons, 6)
    changes, their_seasons = network.look(changes_since(context[:2], lag[:2]), 6)
    ahead = network._forecast_read(changes, their_seasons, 6)
    added = added_up(context[:2], ahead, lag[:2], 6)
    answer = network.forecast(x, 6)
    assert torch.allclose(answer[0], added[0])
    assert torch.allclose(answer[1], values[1] + share[1] * (added[1] - values[1]))
    assert torch.equal(answer[2], values[2])
    assert len(given["values"]) == 2, "the third is not read again"


def test_a_missing_or_wrong_value_in_the_last_cycle_costs_little():
    """It is taken from the cycle before."""
    network = load_network()
    middle = network.quantile_levels.index(0.5)
    x = season_and_rise(0.03, 504)
    truth = season_and_rise(0.0, 504)[0, 480:]
    error = (network.forecast(x[:, :480], 24)[0, :, middle] - truth).abs().mean()
    for value in (torch.nan, 1e6):
        spoilt = x[:, :480].clone()
        spoilt[0, 474] = value
        point = network.forecast(spoilt, 24)[0, :, middle]
        assert (point - truth).abs().mean() < 1.5 * error


@pytest.mark.parametrize("weights", ["zero-5h", "zero-5h-small"])
def test_what_repeats_exactly_is_forecast_nearly_exactly(weights):
    """The mean temperature of every hour of a year, a population, a line."""
    network = load_network(weights)
    middle = network.quantile_levels.index(0.5)
    x = season_and_rise(n_steps=504)
    point = network.forecast(x[:, :480], 24)[0, :, middle]
    assert (point - x[0, 480:]).abs().max() < 0.01
    step = torch.arange(120.0, dtype=torch.float64)[None]
    population = 1e6 * torch.exp(0.004 * step)
    point = network.forecast(population[:, :108], 12)[0, :, middle]
    rise = population[0, 119] - population[0, 107]
    assert (point - population[0, 108:]).abs().max() < 0.02 * rise
    line = 7 + 0.3 * step
    assert torch.allclose(network.forecast(line[:, :108], 12)[0, :, middle], line[0, 108:])
