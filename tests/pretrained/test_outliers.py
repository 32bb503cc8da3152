"""Wrong values of a past: which are found, which are not, and what they do to a forecast."""

import functools
import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch

from tsattn import PretrainedForecaster, Schema
from tsattn.data.encoding import CovariateWindows
from tsattn.data.panel import find_sentinels
from tsattn.forecasters.pretrained import columns_beside, without_outliers
from tsattn.pretrained.outliers import find_outliers
from tsattn.pretrained.synthetic import make
from tsattn.pretrained.weights import load_network

DOUBLE = torch.float64


def waves(n=8, length=400, seed=0):
    generator = torch.Generator().manual_seed(seed)
    step = torch.arange(length, dtype=DOUBLE)
    noise = torch.randn(n, length, generator=generator, dtype=DOUBLE)
    return 10 + torch.sin(2 * torch.pi * step / 24) + 0.3 * noise


def by_loops(series):
    """The rule number by number, for a series without missing values."""
    other_order = another_order_by_loops(series)
    others = [math.nan if t in other_order else value for t, value in enumerate(series)]
    return sorted(other_order + near_others_by_loops(others))


def another_order_by_loops(series):
    """Steps of values that lie more than 50 ranges of all others away."""
    n = len(series)
    n_most = max(n // 8, 1)
    inner = sorted(series)[n_most : n - n_most]
    inner_far = far_from(series, inner)
    others = [value for t, value in enumerate(series) if t not in inner_far]
    far = far_from(series, others)
    if len(far) > n_most or not is_moving(series):
        return []
    if len(far) > 3 and (not is_spread(series, far) or pairs(series, far) > 0.5 * len(far)):
        return []
    last_near = max(t for t in range(n) if t not in far)
    return [t for t in far if t < last_near or (t == n - 1 and n - 2 not in far)]


def far_from(series, others):
    """Steps of values that lie more than 50 ranges of others away from them."""
    low, high = min(others), max(others)
    reach = 50 * (high - low)
    return [t for t, value in enumerate(series) if max(value - high, low - value) > reach]


def is_moving(series):
    """Whether more than half of the values differ from the one before."""
    n_moving = sum(abs(after - before) > 0 for before, after in itertools.pairwise(series))
    return n_moving > 0.5 * len(without_missing(series))


def is_spread(series, steps):
    """Whether a quarter of some steps lies in each half of the values."""
    n_early = sum(
        len(without_missing(series[: t + 1])) <= len(without_missing(series)) / 2 for t in steps
    )
    return min(n_early, len(steps) - n_early) >= 0.25 * len(steps)


def pairs(series, steps):
    """Steps at most that have another one at one distance."""
    return max(sum(t + lag in steps for t in steps) for lag in range(1, len(series) // 2 + 1))


def without_missing(values):
    return [value for value in values if not math.isnan(value)]


def near_others_by_loops(series):
    """Steps of values that lie far from their neighbours."""
    n = len(without_missing(series))
    most = max(int(min(max(0.01 * n, 3), n / 16)), 1)
    few = far_by_loops(series, max(math.ceil(0.02 * n), 2 * most), 200)
    if len(few) > most:
        few = []
    scattered = far_by_loops(series, math.ceil(0.12 * n), 20)
    is_regular = pairs(series, scattered) >= 0.3 * len(scattered)
    are_some = 4 <= len(scattered) <= 0.05 * n
    if not are_some or is_regular or not is_spread(series, scattered) or not is_moving(series):
        scattered = []
    return sorted({*few, *scattered})


def far_by_loops(series, n_trimmed, far_at_the_end):
    """Steps that are far from the median around them, where the usual change leaves out the largest
    changes.
    """
    n = len(series)
    distance = []
    for t in range(n):
        first = min(max(t - 4, 0), n - 9)
        around = sorted(without_missing(series[first : first + 9]))
        distance.append(abs(series[t] - around[(len(around) - 1) // 2]))
    changes = [abs(after - before) for before, after in itertools.pairwise(series)]
    changes = sorted(without_missing(changes), reverse=True)
    usual = [value for value in changes[n_trimmed:] if value > 0]
    if not usual:
        return []
    unit = sum(usual) / len(usual)
    far = [value > 20 * unit for value in distance]
    near = [t for t in range(n) if not far[t] and not math.isnan(series[t])]
    last_near = max(near, default=-1)
    last_alone = far[-1] and not far[-2] and distance[-1] > far_at_the_end * unit
    return [t for t in range(n) if far[t] and (t < last_near or (t == n - 1 and last_alone))]


@pytest.mark.parametrize("length", [12, 30, 90, 400])
def test_the_rule_against_loops(length):
    x = waves(18, length)
    generator = torch.Generator().manual_seed(1)
    for row in range(18):
        n_wrong = row % 6
        if row >= 12:
            # Up to more than a twentieth.
            n_wrong = n_wrong * length // 80
        at = torch.randint(0, length, (n_wrong,), generator=generator)
        x[row, at] += 10.0 ** torch.randint(1, 6, (len(at),), generator=generator)
    x[3, -1] = 40.0
    x[4, -1] = 4000.0
    flags = find_outliers(x)
    assert [row.nonzero()[:, 0].tolist() for row in flags] == [by_loops(row.tolist()) for row in x]
    assert flags.any()


def scattered(share, seed=0, length=800):
    """Waves of which some share are ten times as large, in random rows."""
    x = waves(4, length, seed)
    wrong = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < share
    return torch.where(wrong, 10 * x, x), wrong


def test_scattered_values_are_found_up_to_a_twentieth():
    x, wrong = scattered(0.03)
    wrong[:, -2:] = torch.tensor([False, True])
    x[:, -2:] = torch.tensor([10.0, 100.0], dtype=DOUBLE)
    assert torch.equal(find_outliers(x), wrong)
    x, _ = scattered(0.1)
    assert not find_outliers(x).any()


def test_scattered_values_stay_beside_columns_that_may_be_their_reason():
    x, wrong = scattered(0.03)
    windows = x.numpy()[..., None]
    none = np.empty((*x.shape, 0))
    np.testing.assert_array_equal(np.isnan(without_outliers(windows, none))[..., 0], wrong)
    prices = np.zeros((*x.shape, 1))
    np.testing.assert_array_equal(without_outliers(windows, prices), windows)


def test_the_calendar_is_no_reason_for_an_outlier():
    """Its columns stand after those that are known ahead."""
    x = np.zeros((2, 30, 1))
    known = np.arange(2 * 35 * 3.0).reshape(2, 35, 3)
    windows = CovariateWindows(np.zeros((2, 30, 1)), known, np.empty((2, 0), dtype=object))
    np.testing.assert_array_equal(columns_beside(x, windows, ["price"]), known[:, :30, :1])
    assert columns_beside(x, windows, []).shape == (2, 30, 0)
    assert columns_beside(x, None, []) is None


def test_frequent_values_that_follow_a_rule_are_right():
    x = waves(4, 800)
    x[0, ::25] += 500
    x[1, 7::50] += 500
    x[1, 9::50] += 500  # two of each 50 rows
    burst, _ = scattered(0.02)
    x[2] = torch.maximum(burst[0], burst[0].roll(1))  # each lasts for two rows
    x[3] = torch.where(torch.rand(800, generator=torch.Generator().manual_seed(3)) < 0.2, x[3], 0.0)
    x[3, torch.randperm(800, generator=torch.Generator().manual_seed(4))[:20]] += 500  # rare sales
    assert not find_outliers(x).any()


@pytest.mark.filterwarnings("ignore:.* are read as missing")
def test_scattered_values_cost_little():
    """The error was two to four times as large."""
    x, _ = scattered(0.02, length=448)
    clean = waves(4, 448, seed=0).numpy()
    errors = [
        np.abs(
            PretrainedForecaster(48).fit(long_table(table[:, :400])).predict()["zero"].to_numpy()
            - clean[:, 400:].ravel()
        ).mean()
        for table in (clean, x.numpy())
    ]
    assert errors[1] < 1.1 * errors[0]


@pytest.mark.parametrize("size", [100.0, 1e6, -1e3])
def test_one_value_is_found_anywhere(size):
    for at in (0, 5, 200, 394, 399):
        x = waves()
        x[:, at] *= size
        flags = find_outliers(x)
        assert flags[:, at].all()
        assert flags.sum() == len(x)


@pytest.mark.parametrize("length", [9, 12, 16, 24, 40])
def test_values_of_another_order_are_found_in_short_series(length):
    """Up to an eighth of the values; a series of 16 values was not searched."""
    x = waves(6, length)
    wrong = torch.zeros_like(x, dtype=torch.bool)
    places = [length // 3, length - 5, 2, 7, length // 2][: max(length // 8, 1)]
    wrong[:, places] = True
    flags = find_outliers(torch.where(wrong, 100 * x, x))
    assert torch.equal(flags, wrong)
    one_more = wrong.clone()
    one_more[:, [0, 1]] = True
    assert not find_outliers(torch.where(one_more, 100 * x, x))[:, 0].any()


def test_values_of_another_order_on_both_sides_are_counted_together():
    x = waves(6, 12)
    x[:, 3] *= 100
    assert find_outliers(x)[:, 3].all()
    x[:, 7] *= -100
    assert not find_outliers(x).any()


def test_values_of_another_order_that_follow_a_rule_or_come_late_are_right():
    x = waves(3, 80)
    x[0, 3::10] *= 100
    x[1, [50, 57, 61, 70]] *= 100
    x[2, -2:] *= 100
    assert not find_outliers(x).any()
    assert not find_outliers(x, scattered=False).any()


def test_sentinels_are_found_side_by_side():
    x = waves()
    x[:, [100, 101, 250]] = -9999.0
    assert find_outliers(x).nonzero()[:, 1].reshape(-1, 3).unique(dim=0).tolist() == [
        [100, 101, 250]
    ]


def test_many_sentinels_are_found_as_number_by_number():
    """They may be any share of the values up to a half."""
    generator = torch.Generator().manual_seed(2)
    x = waves(12)
    for row, number in enumerate([-99.0, -999.0, 999.0, 1e20, -32768.0, 99.0] * 2):
        share = (0.03, 0.4)[row // 6]
        x[row, torch.rand(400, generator=generator) < share] = number
    x[0, 7] += 40  # another wrong value, which they do not hide
    x[1, -30:] = -999.0
    x[2, torch.rand(400, generator=generator) < 0.2] = torch.nan
    by_number = torch.from_numpy(np.stack([find_sentinels(row) for row in x.numpy()]))
    flags = find_outliers(x)
    assert not by_number[[5, 11]].any(), "99 is a value of many tables"
    assert by_number[[0, 1, 2, 3, 4, 6, 7, 8, 9, 10]].any(1).all()
    assert flags[0, 7]
    flags[0, 7] = False
    assert torch.equal(flags[5], x[5] == 99), "a few are wrong as any other number is"
    by_number[5] = flags[5]
    assert torch.equal(flags, by_number)
    near = 800 + 60 * (waves(1) - 10)
    near[:, ::40] = 999.0
    assert not find_outliers(near).any(), "a limit of the values beside it"
    most = waves(1)
    most[:, 150:] = -999.0
    assert not find_outliers(most).any(), "what most values are stands for a value"


@pytest.mark.filterwarnings("ignore:.* are read as missing")
def test_a_tenth_of_sentinels_costs_little():
    """The forecast was flat."""
    x = waves(4, 448).numpy()
    clean = PretrainedForecaster(48).fit(long_table(x[:, :400]))
    wrong = np.random.default_rng(0).random((4, 400)) < 0.1
    dirty = PretrainedForecaster(48).fit(long_table(np.where(wrong, -999.0, x[:, :400])))
    errors = [
        np.abs(model.predict()["zero"].to_numpy() - x[:, 400:].ravel()).mean()
        for model in (clean, dirty)
    ]
    assert errors[1] < 1.2 * errors[0]


@pytest.mark.parametrize("n_known", [None, 40])
def test_a_number_is_judged_by_the_rows_that_are_known(n_known):
    values = np.tile([3.0, 4.0, 5.0, 4.0], 15)
    values[[9, 50]] = -999.0
    values[55] = 999.0
    expected = [9, 50]
    # A single peak may be right, as long as it is the only one.
    assert find_sentinels(values, n_known).nonzero()[0].tolist() == expected
    values[20] = 9999.0
    if n_known is None:
        expected = [9, 20, 50, 55]
    assert find_sentinels(values, n_known).nonzero()[0].tolist() == expected
    values[21] = 9999.0
    assert find_sentinels(values, n_known).nonzero()[0].tolist() == [9, 20, 21, 50, 55]


def long_table(x):
    hours = pd.date_range("2024-01-01", periods=x.shape[1], freq="h")
    return pd.concat(
        pd.DataFrame({"unique_id": f"s{n}", "ds": hours, "y": row}) for n, row in enumerate(x)
    )


def test_what_comes_often_or_stays_is_not_wrong():
    x = waves(4)
    x[0, ::24] += 500  # the peak of a season
    x[1, 398:] += 3e4  # a new level
    x[2] = 0.0
    x[2, ::10] = torch.arange(40, dtype=DOUBLE)  # rare demand
    x[3, 200:] += 1e5  # another level in mid-history
    assert not find_outliers(x).any()
    jump = waves(1)
    jump[:, 396:] += 500  # a new level with some values in it
    assert not find_outliers(jump).any()
    alone = waves(1)
    alone[:, -1] += 30
    assert not find_outliers(alone).any(), "it may be a new level"
    alone[:, 10] += 30
    assert find_outliers(alone).nonzero().tolist() == [[0, 10]]
    risen, _ = scattered(0.04)
    risen[:, :500] = waves(4, 500)  # all of them come late
    assert not find_outliers(risen).any()
    growth = torch.exp(torch.arange(90, dtype=DOUBLE) / 10).round()
    assert not find_outliers(growth[None]).any()
    assert not find_outliers(torch.full((2, 50), 3.0, dtype=DOUBLE)).any()
    assert not find_outliers(torch.full((1, 50), torch.nan, dtype=DOUBLE)).any()
    assert not find_outliers(torch.tensor([[1.0, 2.0, 1e9]], dtype=DOUBLE)).any()


def test_few_values_of_synthetic_series_are_taken_for_wrong():
    x = torch.from_numpy(make(300, 512, seed=5))
    assert find_outliers(x).float().mean() < 5e-4
    assert find_outliers(x).any(1).float().mean() < 0.1


def test_rows_padding_scale_and_missing_values_change_nothing():
    x = waves(6)
    x[:, 200] = 1e4
    x[2, 150:160] = torch.nan
    flags = find_outliers(x)
    assert flags.sum(1).tolist() == [1] * 6
    assert torch.equal(torch.cat([find_outliers(row[None]) for row in x]), flags)
    assert torch.equal(find_outliers(1e-9 * x - 5.0), flags)
    assert torch.equal(find_outliers(1e200 * x), flags)
    padded = torch.nn.functional.pad(x, (30, 0), value=torch.nan)
    assert torch.equal(find_outliers(padded)[:, 30:], flags)
    assert not find_outliers(padded)[:, :30].any()


@pytest.mark.parametrize(
    "damage", ["times 100", "times a million", "six steps before the end", "sentinels"]
)
def test_a_wrong_value_costs_little(damage):
    """The error is at most twice that of the clean series; it was 15 to 16,000 times."""
    x = waves(6, 448)
    context = x[:, :400].clone()
    truth = x[:, 400:]
    network = load_network()
    middle = network.quantile_levels.index(0.5)
    clean = (network.forecast(context, 48)[..., middle] - truth).abs().mean()
    if damage == "sentinels":
        context[:, [50, 200, 201]] = -9999.0
    else:
        at = 394 if damage.startswith("six") else 200
        context[:, at] *= 100 if damage == "times 100" else 1e6
    wrong = (network.forecast(context, 48)[..., middle] - truth).abs().mean()
    assert wrong < 1.2 * clean
    assert np.isfinite(float(wrong))


@pytest.mark.filterwarnings("ignore:.* are read as missing")
@pytest.mark.filterwarnings("ignore:.* far from its neighbours")
# The first is read as missing, the second is a value like others.
@pytest.mark.parametrize("wrong", [-9999, -1250.5])
def test_a_wrong_value_hides_neither_whole_numbers_nor_the_bound_at_zero(wrong):
    rng = np.random.default_rng(0)
    sales = rng.poisson(0.5, 300) * 1.0
    days = pd.date_range("2024-01-01", periods=300)
    clean = PretrainedForecaster(14).fit(pd.DataFrame({"ds": days, "y": sales})).predict(level=98)
    sales[100] = wrong
    dirty = PretrainedForecaster(14).fit(pd.DataFrame({"ds": days, "y": sales})).predict(level=98)
    numbers = dirty.drop(columns="ds").to_numpy()
    assert (numbers == np.round(numbers)).all()
    assert numbers.min() >= 0
    assert np.abs(numbers - clean.drop(columns="ds").to_numpy()).max() <= 1


@functools.cache
def error_beside_columns(row=None, size=1.0):
    """Mean error a day ahead where the value of a row is so many times what it was."""
    rng = np.random.default_rng(0)
    n = 500
    step = np.arange(n)
    price = rng.normal(size=n)
    y = 10 + np.sin(2 * np.pi * step / 24) + 1.5 * price + rng.normal(0, 0.2, n)
    frame = pd.DataFrame(
        {"ds": pd.date_range("2024-01-01", periods=n, freq="h"), "y": y, "price": price}
    )
    past = frame[:-24].copy()
    ahead = frame[-24:]
    if row is not None:
        past.loc[row, "y"] *= size
    model = PretrainedForecaster(24, schema=Schema(future_cols=("price",))).fit(past)
    assert model.covariate_regression_.active
    answer = model.predict(future=ahead[["ds", "price"]])
    return np.abs(answer["zero"].to_numpy() - ahead["y"].to_numpy()).mean()


@pytest.mark.filterwarnings("ignore:.* far from its neighbours")
@pytest.mark.parametrize(("row", "size"), [(300, 1e6), (470, 100.0)])
def test_a_wrong_value_costs_little_beside_columns(row, size):
    """A regression on columns would follow it, in the fit and in a forecast."""
    assert error_beside_columns(row, size) < 1.5 * error_beside_columns()
