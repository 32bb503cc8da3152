"""Faults that hide what a series would have been."""

import numpy as np
import pytest

from tsattn.pretrained.faults import add_faults


def waves(n=400, length=300):
    """Series of mean 5 and deviation 2 with some values missing."""
    rng = np.random.default_rng(1)
    step = np.arange(length)
    x = 5 + 2 * np.sqrt(2) * np.sin(step / 4 + rng.uniform(0, 6, (n, 1)))
    x[rng.random(x.shape) < 0.02] = np.nan
    return x.astype(np.float32)


def with_faults(x, share=1.0, seed=0):
    return add_faults(x, np.random.default_rng(seed), share)


def differs(faulty, x):
    return (faulty != x) & ~np.isnan(x)


def test_the_generator_decides_and_the_series_stay():
    x = waves()
    before = x.copy()
    faulty = with_faults(x)
    assert np.array_equal(x, before, equal_nan=True)
    assert np.array_equal(faulty, with_faults(x), equal_nan=True)
    assert not np.array_equal(faulty, with_faults(x, seed=1), equal_nan=True)
    assert faulty.dtype == np.float32
    assert np.array_equal(np.isnan(faulty), np.isnan(x))


def test_the_share_is_that_of_the_series():
    x = waves()
    assert not differs(with_faults(x, 0.0), x).any()
    of_all = differs(with_faults(x, 1.0), x).any(1).mean()
    of_some = differs(with_faults(x, 0.25), x).any(1).mean()
    # Low shares of long blocks leave some series without any.
    assert of_all > 0.85
    assert of_some == pytest.approx(0.25 * of_all, abs=0.06)


def test_wrong_values_lie_two_to_thirty_deviations_from_the_mean():
    x = waves()
    faulty = with_faults(x)
    is_far = differs(faulty, x) & (np.abs(faulty - 5) > 3.5)
    distance = np.abs(faulty[is_far] - 5) / 2
    assert distance.min() > 1.8
    assert 25 < distance.max() < 35


def test_four_kinds():
    x = waves()
    faulty = with_faults(x)
    is_faulty = differs(faulty, x)
    in_blocks = (is_faulty[:, 1:] & is_faulty[:, :-1]).sum(1) > 0.3 * is_faulty.sum(1)
    held = np.zeros(len(x), bool)
    one_number = np.zeros(len(x), bool)
    for row in range(len(x)):
        values = faulty[row, is_faulty[row]]
        has_several = len(values) > 2
        one_number[row] = has_several and np.ptp(values) < 1e-4
        held[row] = has_several and in_blocks[row] and (np.abs(values - 5) < 3).all()
    scattered = (is_faulty.sum(1) > 2) & ~one_number & ~held & ~in_blocks
    for kind in (one_number & ~in_blocks, one_number & in_blocks, held & ~one_number, scattered):
        assert 0.08 < kind.mean() < 0.4
    # Wrong values lie on both sides of a series.
    row = np.flatnonzero(scattered)[0]
    values = faulty[row, is_faulty[row]]
    assert values.min() < 1
    assert values.max() > 9


def test_the_last_tenth_has_no_block():
    x = waves()
    faulty = with_faults(x)
    is_faulty = differs(faulty, x)
    runs = is_faulty[:, 2:] & is_faulty[:, 1:-1] & is_faulty[:, :-2]
    late_runs = runs[:, 270:].mean()
    assert runs[:, :260].mean() > 10 * late_runs
