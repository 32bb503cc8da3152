"""Widths of bands that follow the features of a forecast."""

from dataclasses import replace

import numpy as np
import pytest
from covariate_forecasters import plant_few_trees

from tsattn.evaluate.intervals import factor_needed
from tsattn.forecasters.band_widths import BandErrors, BandWidths, fit_band_widths

N_WINDOWS = 80
STEPS = 24


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    plant_few_trees(monkeypatch)


def errors(seed=0, spread_of_storm=4.0, n_windows=N_WINDOWS):
    """Errors beside a band of two units, those in a storm larger than others."""
    rng = np.random.default_rng(seed)
    n = n_windows * STEPS
    features = rng.normal(size=(n, 3))
    features[:, 0] = rng.random(n) < 0.3
    size = np.where(features[:, 0] == 1, spread_of_storm, 1.0)
    return BandErrors(
        gap=size * rng.normal(size=n),
        below=np.full(n, 1.0),
        above=np.full(n, 1.0),
        windows=np.repeat(np.arange(n_windows), STEPS),
        features=features,
    )


def held(some, width):
    """Share of the truths in a band."""
    below = some.gap >= -width * some.below
    above = some.gap <= width * some.above
    return (below & above).mean()


def test_a_band_is_wider_where_errors_are_larger():
    widths, factor = fit_band_widths(errors())
    later = errors(seed=1)
    in_storm = later.features[:, 0] == 1
    width = factor * widths(later.features)
    # Half of the logarithm is followed.
    ratio = width[in_storm].mean() / width[~in_storm].mean()
    assert 1.6 < ratio < 2.6
    usual = factor_needed(later.gap, later.below, later.above, 0.8)
    assert later.loss(width) < 0.95 * later.loss(np.full(len(width), usual))
    assert abs(held(later, width) - 0.8) < 0.04
    assert held(later.some(in_storm), width[in_storm]) > held(later.some(in_storm), usual)


def test_errors_that_no_feature_explains_teach_nothing():
    taught = [fit_band_widths(errors(seed, spread_of_storm=1.0)) for seed in range(4)]
    assert taught == [None] * 4


@pytest.mark.parametrize(
    "spoil",
    [
        lambda e: e.some(e.windows < 41),
        lambda e: replace(e, gap=np.zeros_like(e.gap)),
        # Many lower ends lie at the point, where no factor helps.
        lambda e: replace(e, below=np.where(e.features[:, 1] < 1, 0.0, 1.0)),
    ],
    ids=["few", "exact", "one-sided"],
)
def test_there_are_no_widths_where_they_cannot_be_learnt(spoil):
    assert fit_band_widths(spoil(errors())) is None


def test_no_window_judges_widths_that_it_taught(monkeypatch):
    taught = []
    learn = BandErrors.widths

    def watched(self):
        taught.append(set(self.windows))
        return learn(self)

    monkeypatch.setattr(BandErrors, "widths", watched)
    fit_band_widths(errors())
    first, second, both = taught
    assert not first & second
    assert first | second == both == set(range(N_WINDOWS))
    assert len(first) == len(second)


def test_widths_are_half_of_the_logarithm_within_bounds():
    widths = BandWidths(lambda features: features[..., 0])
    logarithms = np.array([[0.0], [np.log(4.0)], [-np.log(9.0)], [100.0], [-100.0]])
    np.testing.assert_allclose(widths(logarithms), [1.0, 2.0, 1 / 3, 10.0, 0.1])


def test_the_factor_is_the_one_for_errors_that_taught_nothing():
    own = errors()
    widths, factor = fit_band_widths(own)
    late = own.windows > np.median(own.windows)
    width = np.empty(len(own.gap))
    width[late] = own.some(~late).widths()(own.features[late])
    width[~late] = own.some(late).widths()(own.features[~late])
    assert factor == own.factor(width)
    assert held(own, factor * width) == pytest.approx(0.8, abs=0.001)
    assert held(own, factor * widths(own.features)) > 0.81


def test_the_loss_is_that_of_both_ends():
    own = BandErrors(
        gap=np.array([3.0, -1.0]),
        below=np.array([1.0, 2.0]),
        above=np.array([1.0, 2.0]),
        windows=np.arange(2),
        features=np.zeros((2, 1)),
    )
    # .1 and .9 of what lies on either side of an end.
    first = 0.1 * (3 + 1) + 0.9 * (3 - 1)
    second = 0.1 * (-1 + 2) + 0.1 * (2 + 1)
    assert own.loss(np.ones(2)) == pytest.approx((first + second) / 4)
