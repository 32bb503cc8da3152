"""Scores against their loops, and where they are undefined."""

import doctest
import math

import loops
import numpy as np
import pytest

from tsattn.evaluate import metrics

SHAPES = [(1,), (7,), (4, 5), (3, 6, 2)]


def draw(shape, seed=0, missing=False):
    rng = np.random.default_rng(seed)
    y = rng.normal(2, 5, shape)
    forecast = rng.normal(2, 5, shape)
    if missing:
        y[rng.random(shape) < 0.3] = np.nan
        y.flat[0] = 1.5
    return y, forecast


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", metrics.POINT_METRICS)
def test_point_scores_equal_their_loops(name, shape, missing, assert_close):
    y, forecast = draw(shape, missing=missing)
    actual = metrics.METRICS[name](y, forecast)
    assert isinstance(actual, float)
    # a bias of signed terms may nearly cancel, hence measured against their size
    assert math.isclose(actual, getattr(loops, name)(y, forecast), rel_tol=1e-12, abs_tol=1e-14)


@pytest.mark.parametrize("name", metrics.POINT_METRICS)
def test_axis_averages_row_by_row(name):
    y, forecast = draw((5, 6), missing=True)
    expected = [getattr(loops, name)(a, f) for a, f in zip(y, forecast, strict=True)]
    np.testing.assert_allclose(metrics.METRICS[name](y, forecast, axis=1), expected, rtol=1e-12)


def test_smape_ends_at_two_and_counts_nothing_over_nothing_as_zero():
    assert metrics.smape([3.0], [-3.0]) == 2.0
    assert metrics.smape([0.0, 0.0], [0.0, 4.0]) == 1.0


@pytest.mark.parametrize("season", [1, 3, 12])
def test_scaled_errors_use_the_training_span(season, assert_close):
    rng = np.random.default_rng(1)
    train = rng.normal(size=(4, 40))
    train[rng.random(train.shape) < 0.1] = np.nan
    y, forecast = draw((4, 8), missing=True)
    rows = list(zip(y, forecast, train, strict=True))
    expected = [loops.mase(a, f, t, season) for a, f, t in rows]
    assert_close(metrics.mase(y, forecast, train, season_length=season), expected, "metric")
    expected = [loops.rmsse(a, f, t, season) for a, f, t in rows]
    assert_close(metrics.rmsse(y, forecast, train, season_length=season), expected, "metric")
    # the judged span must not matter for the scale: doubling all errors doubles the score
    assert_close(
        metrics.mase(y, y + 2 * (forecast - y), train, season_length=season),
        2 * metrics.mase(y, forecast, train, season_length=season),
        "float64",
    )


@pytest.mark.parametrize("name", ["mase", "rmsse"])
@pytest.mark.parametrize("train", [[5.0, 5.0, 5.0, 5.0], [1.0, 2.0], [np.nan, np.nan, np.nan, 1.0]])
def test_scaled_errors_are_nan_with_a_warning_without_a_scale(name, train):
    with pytest.warns(UserWarning, match=rf"{name} is undefined \(nan\) for 1 of 1 series"):
        assert math.isnan(metrics.METRICS[name]([1.0], [2.0], train, season_length=2))


def test_a_series_without_a_scale_leaves_the_others_alone():
    train = np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0]])
    with pytest.warns(UserWarning, match="1 of 2 series"):
        scores = metrics.mase(np.ones((2, 2)), np.zeros((2, 2)), train, season_length=1)
    np.testing.assert_array_equal(scores, [np.nan, 1.0])


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("q", [0.025, 0.5, 0.9])
def test_pinball_has_no_factor_two(q, missing):
    y, forecast = draw((6, 4), missing=missing)
    assert math.isclose(
        metrics.pinball(y, forecast, quantile=q), loops.pinball(y, forecast, q), rel_tol=1e-12
    )
    half = metrics.pinball(y, forecast, quantile=0.5)
    assert math.isclose(2 * half, metrics.mae(y, forecast), rel_tol=1e-12)


@pytest.mark.parametrize("missing", [False, True])
def test_wql_and_quantile_crps(missing):
    y, _ = draw((5, 3), missing=missing)
    rng = np.random.default_rng(2)
    quantiles = (0.1, 0.5, 0.75)
    forecast = np.sort(rng.normal(2, 5, (5, 3, 3)), axis=-1)
    by_quantile = {q: forecast[..., i] for i, q in enumerate(quantiles)}
    expected = loops.wql(y, by_quantile)
    assert math.isclose(metrics.wql(y, forecast, quantiles=quantiles), expected, rel_tol=1e-12)
    expected = loops.average([2 * loops.pinball(y, f, q) for q, f in by_quantile.items()])
    assert math.isclose(metrics.crps(y, forecast, quantiles=quantiles), expected, rel_tol=1e-12)


@pytest.mark.parametrize("n_samples", [1, 2, 9])
def test_sample_crps(n_samples):
    y, _ = draw((4, 3), missing=True)
    samples = np.random.default_rng(3).normal(2, 5, (4, 3, n_samples))
    expected = loops.crps_samples(y, samples.reshape(-1, n_samples).tolist())
    assert math.isclose(metrics.crps(y, samples), expected, rel_tol=1e-12)


def test_both_crps_near_the_integral():
    """For a standard normal forecast and y = 0 the score is (sqrt(2) - 1) / sqrt(pi)."""
    from statistics import NormalDist

    exact = (math.sqrt(2) - 1) / math.sqrt(math.pi)
    probabilities = (np.arange(2000) + 0.5) / 2000
    values = np.array([[NormalDist().inv_cdf(q) for q in probabilities]])
    assert math.isclose(metrics.crps([0.0], values, quantiles=probabilities), exact, rel_tol=1e-3)
    assert math.isclose(metrics.crps([0.0], values), exact, rel_tol=1e-3)


@pytest.mark.parametrize("level", [50, 80, 97.5])
def test_interval_scores(level):
    y, centre = draw((6, 5), missing=True)
    lower = centre - 3
    upper = centre + 2.5
    expected = loops.coverage(y, lower, upper)
    assert math.isclose(metrics.coverage(y, lower, upper), expected, rel_tol=1e-12)
    expected = loops.winkler(y, lower, upper, level)
    assert math.isclose(metrics.winkler(y, lower, upper, level=level), expected, rel_tol=1e-12)


def test_coverage_is_two_sided_with_its_bounds():
    assert metrics.coverage([1.0, 1.0, 1.0], [1.0, 0.0, 2.0], [2.0, 1.0, 3.0]) == pytest.approx(
        2 / 3
    )
    # one-sided, the third would count as covered
    assert metrics.coverage([1.0], [2.0], [3.0]) == 0.0
    assert metrics.coverage([1.0, 2.0], [-np.inf, -np.inf], [np.inf, 1.0]) == 0.5  # without a bound


def test_nothing_known_is_nan_and_never_zero():
    y = np.full(4, np.nan)
    f = np.ones(4)
    for name in metrics.POINT_METRICS:
        assert math.isnan(metrics.METRICS[name](y, f)), name
    assert math.isnan(metrics.mase(y, f, np.arange(9.0), season_length=1))
    assert math.isnan(metrics.rmsse(y, f, np.arange(9.0), season_length=1))
    assert math.isnan(metrics.pinball(y, f, quantile=0.1))
    assert math.isnan(metrics.wql(y, f[:, None], quantiles=[0.1]))
    assert math.isnan(metrics.crps(y, f[:, None], quantiles=[0.1]))
    assert math.isnan(metrics.crps(y, f[:, None]))
    assert math.isnan(metrics.coverage(y, f, f))
    assert math.isnan(metrics.winkler(y, f, f, level=80))
    np.testing.assert_array_equal(
        metrics.mae([[np.nan], [1.0]], [[1.0], [1.0]], axis=1), [np.nan, 0.0]
    )


@pytest.mark.parametrize("name", metrics.POINT_METRICS)
def test_a_missing_forecast_is_not_forgiven(name):
    assert math.isnan(metrics.METRICS[name]([1.0, 2.0], [np.nan, 2.0]))
    assert math.isnan(metrics.coverage([1.0, 2.0], [np.nan, 2.0], [3.0, 3.0]))
    assert math.isnan(metrics.coverage([1.0, 2.0], [0.0, 2.0], [np.nan, 3.0]))


def test_wql_of_zeros_warns():
    with pytest.warns(UserWarning, match="every y is 0"):
        assert math.isnan(metrics.wql([0.0], [[1.0]], quantiles=[0.5]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.mae([1.0, 2.0], [1.0]), r"one shape; got \(2,\) and \(1,\)"),
        (lambda: metrics.coverage([1.0], [1.0], [1.0, 2.0]), "one shape"),
        (lambda: metrics.pinball([1.0], [1.0], quantile=1.0), "strictly between 0 and 1"),
        (lambda: metrics.wql([1.0], [[1.0]], quantiles=[0.1, 0.9]), r"must have shape \(1, 2\)"),
        (lambda: metrics.wql([1.0], [[1.0]], quantiles=[]), "at least one"),
        (lambda: metrics.crps([1.0], [1.0]), "S >= 1"),
        (
            lambda: metrics.crps(1.0, 1.0),
            r"samples must have the shape of y \(\) and S >= 1 more; got \(\)",
        ),
        (lambda: metrics.winkler([1.0], [1.0], [1.0], level=0.8 * 125), "between 0 and 100"),
        (
            lambda: metrics.winkler([1.0], [1.0], [1.0], level=[80, 95]),
            "80 means 80%.*got \\[80, 95\\]",
        ),
        (
            lambda: metrics.mase([1.0], [1.0], [1.0, 2.0], season_length=0),
            "season_length must be a whole number of at least 1; got 0",
        ),
        (lambda: metrics.seasonal_error([1.0, 2.0], 1.0), "a whole number of at least 1; got 1.0"),
        (
            lambda: metrics.mase(np.ones((2, 3)), np.ones((2, 3)), np.arange(9.0), season_length=1),
            "mase needs a train of",
        ),
        (
            lambda: metrics.rmsse(np.ones(3), np.ones(3), np.ones((2, 9)), season_length=1),
            r"got \(2,\) for \(\)",
        ),
    ],
)
def test_errors_name_the_rule(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_examples_in_the_docstrings_are_true():
    outcome = doctest.testmod(metrics)
    assert outcome.attempted >= len(metrics.METRICS)
    assert outcome.failed == 0


def test_the_register_cannot_be_changed():
    assert set(metrics.METRICS) >= {
        "mae",
        "mse",
        "rmse",
        "bias",
        "smape",
        "mase",
        "rmsse",
        "pinball",
        "wql",
        "crps",
        "coverage",
        "winkler",
    }
    assert metrics.POINT_METRICS[:5] == ("mae", "mse", "rmse", "bias", "smape")
    with pytest.raises(TypeError):
        metrics.METRICS["mae"] = None
