"""Weights of candidates against a solver, and the width of bands."""

import numpy as np
import pytest
from scipy.optimize import linprog

from tsattn.forecasters import combination as module

H = 6


def test_least_absolute_weights_are_those_of_linear_programming():
    rng = np.random.default_rng(0)
    errors = rng.normal(size=(4, 300)) * [[1.0], [1.1], [1.3], [2.0]] + rng.normal(size=300) / 2
    weights = module._least_absolute(errors)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    # min sum(u), u >= w e, u >= -w e, w on the simplex
    n = errors.shape[1]
    bounds = np.block([[errors.T, -np.eye(n)], [-errors.T, -np.eye(n)]])
    cost = np.r_[np.zeros(4), np.ones(n)]
    simplex = np.r_[np.ones(4), np.zeros(n)][None]
    best = linprog(cost, A_ub=bounds, b_ub=np.zeros(2 * n), A_eq=simplex, b_eq=[1.0])
    assert np.abs(weights @ errors).sum() < 1.005 * best.fun
    np.testing.assert_allclose(weights, best.x[:4], atol=0.06)


def errors_of(*sizes, n=30, seed=0):
    """Scaled errors ``[M, n, H]`` of candidates with these mean absolute errors, independent of one
    another.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(len(sizes), n, H))
    return drawn * np.reshape(sizes, (-1, 1, 1)) / np.abs(drawn).mean(axis=(1, 2), keepdims=True)


def test_the_fewer_windows_the_nearer_to_the_first_candidate():
    errors = errors_of(1.0, 0.97)
    firsts = [module.candidate_weights(errors, evidence)[0] for evidence in (0.5, 4, 30, 300)]
    assert firsts == sorted(firsts, reverse=True)
    assert firsts[0] > 0.95
    assert 0.3 < firsts[-1] < 0.6
    np.testing.assert_array_equal(module.candidate_weights(errors[:, :0], 0.0), [1, 0])


def test_a_first_candidate_that_is_clearly_behind_loses_its_place():
    weights = module.candidate_weights(errors_of(2.0, 1.0, 1.02), 30)
    assert weights[0] == 0
    assert weights[1:].sum() == pytest.approx(1)
    assert weights[1:].min() > 0.3


def test_with_few_windows_the_preferred_ones_share_the_weight():
    errors = errors_of(1.0, 1.02, 1.04, 0.98, n=4)
    preferred = np.array([1.0, 1.0, 1.0, 0.0])
    weights = module.candidate_weights(errors, 1, preferred)
    np.testing.assert_allclose(weights[:3], 1 / 3, atol=0.08)
    unequal = module.candidate_weights(errors, 1, np.array([4.0, 1.0, 1.0, 0.0]))
    np.testing.assert_allclose(unequal[:3], [2 / 3, 1 / 6, 1 / 6], atol=0.08)
    assert weights[3] < 0.06
    far = errors_of(1.0, 1.02, 4.0, 0.98, n=4)
    assert module.candidate_weights(far, 1, preferred)[2] == 0
    many = module.candidate_weights(errors_of(1.0, 1.3, 1.3, 1.3), 60, preferred)
    assert many[0] > 0.97


def test_two_windows_do_not_show_that_the_preferred_ones_are_behind():
    errors = np.ones((2, 2, H))
    errors[1] = 0.9
    np.testing.assert_allclose(
        module.candidate_weights(errors, 2, np.array([1.0, 0.0]))[0], 0.9, atol=0.05
    )
    for n in (4, 20):
        more = np.repeat(errors, n // 2, axis=1)
        assert module.candidate_weights(more, n, np.array([1.0, 0.0]))[0] < 0.1


def test_a_candidate_far_behind_has_no_weight():
    weights = module.candidate_weights(errors_of(1.0, 1.0, 1.1), 30)
    assert weights[2] == 0
    assert weights.sum() == pytest.approx(1)


def test_a_weight_too_small_to_matter_is_none():
    errors = errors_of(*[1.0] * 8)
    few = module.candidate_weights(errors, 1)
    more = module.candidate_weights(errors, 30)
    np.testing.assert_allclose(
        few, np.eye(8)[0], atol=1e-12, err_msg="each of the others would have two percent"
    )
    assert (more >= module._LEAST_WEIGHT).sum() > 4
    np.testing.assert_allclose([few.sum(), more.sum()], 1)


def test_a_lead_on_few_windows_is_little_evidence():
    """Two candidates that were better on 11 and 6 of 209 windows took the first one's place."""
    errors = errors_of(1.0, 0.75, 0.75, n=209)
    errors[1, 11:] = np.nan
    errors[2, 6:] = np.nan
    preferred = np.array([4.0, 1.0, 0.0])
    few = module.candidate_weights(errors, 48, preferred)
    assert few[0] > 0.63
    all_windows = module.candidate_weights(errors_of(1.0, 0.75, 0.75, n=209), 48, preferred)
    assert all_windows[0] < 0.1
    errors[0] = 0.0
    assert module.candidate_weights(errors, 48, preferred)[0] > 0.5


def test_missing_truths_are_left_out_of_weights():
    errors = errors_of(1.0, 1.0, 1.04)
    gaps = np.random.default_rng(1).random(errors.shape[1:]) < 0.2
    weights = module.candidate_weights(np.where(gaps, np.nan, errors), 30)
    np.testing.assert_allclose(weights, module.candidate_weights(errors, 30), atol=0.1)
    assert weights[2] < weights[:2].min()


def test_bands_are_made_to_hold_four_in_five():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(400, H, 1))
    spread = np.stack([np.full_like(truth, -4.0), np.full_like(truth, 4.0)], axis=-1)
    factor = module.band_factor(np.zeros_like(truth), spread, truth, 1e6)
    assert (np.abs(truth) <= 4 * factor).mean() == pytest.approx(
        0.8, abs=1e-3
    ) or factor == module.NARROWEST
    spread /= 4
    factor = module.band_factor(np.zeros_like(truth), spread, truth, 1e6)
    assert (np.abs(truth) <= factor).mean() == pytest.approx(0.8, abs=1e-3)
    few = module.band_factor(np.zeros_like(truth), spread, truth, 2)
    assert 1 < few < factor
    assert module.band_factor(np.zeros_like(truth), spread, np.full_like(truth, np.nan), 0) == 1
    rare = np.where(np.arange(400) % 10 == 0, 3.0, 0.0)[:, None, None] * np.ones_like(truth)
    assert module.band_factor(np.zeros_like(truth), spread, rare, 1e6) == 1
