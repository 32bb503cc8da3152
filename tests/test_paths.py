"""Means of quantile curves, normal scores and the dependence of steps, against distributions whose
answers are known.
"""

import numpy as np
import pytest
from scipy import stats

from tsattn.paths import Dependence, mean_of, mean_weights, scores_of, values_at

LEVELS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


@pytest.mark.parametrize("levels", [LEVELS, (0.1, 0.5, 0.9), (0.2, 0.3), (0.5,)])
def test_mean_of_a_normal_distribution_is_exact(levels):
    curve = stats.norm.ppf(levels, loc=7.0, scale=2.0)
    if levels == (0.2, 0.3):
        # Both lie below the mean, which is then bounded by the last one.
        assert mean_of(levels, curve) == curve[-1]
    else:
        assert mean_of(levels, curve) == pytest.approx(7.0, abs=1e-12)
    assert mean_weights(levels).sum() == pytest.approx(1.0)


def test_mean_of_a_skewed_distribution_is_near():
    curve = stats.lognorm.ppf(LEVELS, 0.8)
    assert mean_of(LEVELS, curve) == pytest.approx(stats.lognorm.mean(0.8), rel=0.03)
    numeric = values_at(LEVELS, curve, stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000))
    assert mean_of(LEVELS, curve) == pytest.approx(numeric.mean(), rel=1e-4)


def test_values_pass_through_the_levels_and_go_on_in_the_tails():
    curve = stats.norm.ppf(LEVELS, loc=1.0, scale=3.0)
    scores = np.array([-3.0, -1.2, 0.0, 0.4, 3.0])
    np.testing.assert_allclose(values_at(LEVELS, curve, scores), 1 + 3 * scores)
    np.testing.assert_allclose(values_at(LEVELS, curve, stats.norm.ppf(LEVELS)), curve)
    np.testing.assert_array_equal(values_at((0.5,), np.array([4.0]), scores), np.full(5, 4.0))


def test_scores_undo_values():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(6, 20))
    curve = stats.norm.ppf(LEVELS, loc=-2.0, scale=0.5)
    truth = values_at(LEVELS, np.tile(curve, (6, 1)), scores)
    curves = np.broadcast_to(curve, (6, 20, len(LEVELS)))
    np.testing.assert_allclose(scores_of(LEVELS, curves, truth, rng), np.clip(scores, -3.5, 3.5))
    truth[2, 3] = np.nan
    assert np.argwhere(np.isnan(scores_of(LEVELS, curves, truth, rng))).tolist() == [[2, 3]]


def test_score_of_a_truth_that_several_quantiles_equal_is_drawn_among_them():
    rng = np.random.default_rng(0)
    curve = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 3.0, 8.0, 9.0])
    curves = np.broadcast_to(curve, (4000, 9))
    zeros = stats.norm.cdf(scores_of(LEVELS, curves, np.zeros(4000), rng))
    assert zeros.max() < 0.5
    assert np.quantile(zeros, [0.1, 0.5, 0.9]) == pytest.approx([0.05, 0.25, 0.45], abs=0.02)
    threes = stats.norm.cdf(scores_of(LEVELS, curves, np.full(4000, 3.0), rng))
    assert threes.min() >= 0.75
    assert threes.max() <= 0.9


def correlated(decay, n_windows, n_steps, seed=0):
    rng = np.random.default_rng(seed)
    lag = np.abs(np.subtract.outer(np.arange(n_steps), np.arange(n_steps)))
    return rng.multivariate_normal(np.zeros(n_steps), decay**lag, size=n_windows)


@pytest.mark.parametrize("decay", [0.0, 0.6, 0.97])
def test_variance_of_a_sum_is_learnt_from_many_windows(decay):
    n_steps = 12
    dependence = Dependence(correlated(decay, 200, n_steps), np.zeros(200, dtype=int))
    lag = np.abs(np.subtract.outer(np.arange(n_steps), np.arange(n_steps)))
    truth = np.sqrt((decay**lag).sum())
    assert np.sqrt(dependence.correlation(0).sum()) == pytest.approx(truth, rel=0.12)
    draws = dependence.draw(0, 4000, np.random.default_rng(1))
    assert draws.shape == (n_steps, 4000)
    assert draws.std(axis=1) == pytest.approx(np.ones(n_steps), rel=0.06)
    assert draws.sum(axis=0).std() == pytest.approx(truth, rel=0.14)


def test_series_differ_where_their_windows_do_and_a_new_one_follows_the_table():
    scores = np.concatenate([correlated(0.0, 40, 8), correlated(0.98, 40, 8, seed=1)])
    dependence = Dependence(scores, np.repeat([0, 1], 40))
    loose, tight, other = (dependence.correlation(n).sum() for n in range(3))
    assert loose < other < tight
    np.testing.assert_array_equal(dependence.correlation(2), dependence.correlation(5))


def test_without_windows_neighbouring_steps_are_alike():
    dependence = Dependence(np.empty((0, 6)), np.empty(0, dtype=int))
    correlation = dependence.correlation(0)
    np.testing.assert_allclose(np.diag(correlation), 1.0)
    assert (np.diff(correlation[0]) < 0).all()
    assert 0.5 < correlation[0, 1] < 1
