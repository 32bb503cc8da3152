"""Detection of a season: known periods, noise, trends, missing values, short series, and no season as an answer."""

import numpy as np
import pytest
import torch

from tsattn.pretrained.period import MAX_PERIOD, detect_period

DOUBLE = torch.float64


def seasonal(period, length, *, noise=0.3, n=48, seed=0):
    """Random profiles of a period, repeated, with white noise; [n, length]."""
    generator = torch.Generator().manual_seed(seed)
    profile = torch.randn(n, period, generator=generator, dtype=DOUBLE)
    time = torch.arange(length)
    return profile[:, time % period] + noise * torch.randn(n, length, generator=generator, dtype=DOUBLE)


def found(x, period, horizon=24):
    """Share of series whose answer is the period or a multiple of it, and share with the period itself."""
    answer = detect_period(x, horizon)[0]
    return float(((answer % period == 0) & (answer > 0)).double().mean()), float((answer == period).double().mean())


@pytest.mark.parametrize(("period", "length"), [(4, 48), (7, 140), (12, 120), (24, 400), (96, 960), (365, 2000)])
def test_known_periods_are_found(period, length):
    whole, exact = found(seasonal(period, length), period)
    assert whole > 0.95
    assert exact > 0.7


def test_a_sine_with_noise_and_drift_is_found():
    time = torch.arange(480, dtype=DOUBLE)
    x = torch.sin(2 * torch.pi * time / 24) + 0.3 * seasonal(1, 480, noise=1.0) + 0.02 * time
    answer = detect_period(x, 24)[0]
    assert ((answer % 24 <= 1) | (answer % 24 == 23)).double().mean() > 0.9


@pytest.mark.parametrize("slope", [0.0, 0.5, -3.0])
def test_a_trend_does_not_hide_it(slope):
    x = seasonal(12, 144) + slope * torch.arange(144)
    assert found(x, 12)[0] > 0.95


def test_missing_values_are_no_values():
    x = seasonal(24, 480)
    generator = torch.Generator().manual_seed(5)
    x[torch.rand(x.shape, generator=generator) < 0.3] = torch.nan
    x[:, 200:240] = torch.nan
    assert found(x, 24)[0] > 0.95


def test_no_season_is_an_answer():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200, 300, generator=generator, dtype=DOUBLE)
    assert float((detect_period(noise, 24)[0] > 0).double().mean()) < 0.1
    assert float((detect_period(noise.cumsum(1), 24)[0] > 0).double().mean()) < 0.05
    line = torch.arange(60.0, dtype=DOUBLE)[None]
    period, ratio = detect_period(torch.cat([line, line * 0 + 3]), 12)
    assert period.tolist() == [0, 0]
    assert torch.isfinite(ratio).all()


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8])
def test_short_series_have_no_season(length):
    period, ratio = detect_period(torch.arange(float(length), dtype=DOUBLE)[None].sin(), 12)
    assert period.tolist() == [0]
    assert torch.isfinite(ratio).all()


def test_two_cycles_are_enough_where_they_repeat():
    assert found(seasonal(12, 24, noise=0.05), 12)[0] > 0.9


def test_an_all_missing_series_has_none():
    assert detect_period(torch.full((2, 50), torch.nan, dtype=DOUBLE), 8)[0].tolist() == [0, 0]


def test_the_season_follows_scale_and_level():
    x = seasonal(7, 90)
    before = detect_period(x, 14)[0]
    assert detect_period(1e9 * x - 5e11, 14)[0].tolist() == before.tolist()
    assert detect_period(1e-9 * x, 14)[0].tolist() == before.tolist()


def test_a_history_that_begins_later_is_a_shorter_one():
    x = seasonal(7, 90)
    padded = torch.cat([torch.full((len(x), 400), torch.nan, dtype=DOUBLE), x], 1)
    for alone, beside in zip(detect_period(x, 14), detect_period(padded, 14), strict=True):
        assert torch.allclose(alone.double(), beside.double())


def test_rows_do_not_disturb_one_another():
    x = torch.cat([seasonal(7, 90, n=3), seasonal(12, 90, n=3), seasonal(1, 90, n=3)])
    together = detect_period(x, 10)[0]
    assert [int(detect_period(row[None], 10)[0]) for row in x] == together.tolist()


def test_the_formula_against_loops():
    """R(m) and the charge for chance, number by number, on a short series with a gap."""
    x = seasonal(5, 40, n=1, noise=0.5)
    x[0, 11] = torch.nan
    values = x[0].numpy()
    known = ~np.isnan(values)
    time = np.arange(40.0)
    line = np.polyval(np.polyfit(time[known], values[known], 1), time)
    values = values - line

    def pairs(lag):
        return [(values[t] - values[t - lag]) ** 2 for t in range(lag, 40) if known[t] and known[t - lag]]

    lags = [m for m in range(1, 27) if len(pairs(m)) >= 4 and 1.5 * m <= 40]
    horizon = 8
    repeated = {}
    for m in lags:
        used = [m * -(-i // m) for i in range(1, horizon + 1)]
        errors = [np.mean(pairs(lag)) for lag in used if lag in lags]
        repeated[m] = np.mean(errors)
    charged = {m: repeated[m] * (1 + len(pairs(m)) ** -0.5) for m in lags if m > 1}
    best = min(charged, key=charged.get)
    period, ratio = detect_period(x, horizon)
    most = charged[best] * (1.05 + len(pairs(best)) ** -0.5)
    divisors = [(best + d // 2) // d for d in range(12, 1, -1) if (best + d // 2) // d >= 2]
    chosen = next((m for m in divisors if charged.get(m, np.inf) <= most), best)
    assert int(period) == chosen == 5
    assert float(ratio) == pytest.approx(charged[chosen] / repeated[1], rel=1e-9)


def test_the_longest_lag_is_bounded():
    x = seasonal(1000, 2 * MAX_PERIOD, n=4)
    assert detect_period(x, 48)[0].tolist() == [1000] * 4
