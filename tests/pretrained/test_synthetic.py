"""Synthetic series: repeatable, scaled, finite, and what their families promise."""

import numpy as np
import pytest

from tsattn.pretrained import calendar_families, components, draws, families, synthetic
from tsattn.pretrained.draws import Source
from tsattn.pretrained.families import FAMILIES, SHORT, shares
from tsattn.pretrained.synthetic import make, standardise


def rng(seed=0):
    return np.random.default_rng(seed)


def source(seed, n, length):
    return Source(rng(seed), n, length)


def correlation(x, lag):
    """Of each series with itself ``lag`` steps before."""
    early = x[:, :-lag]
    late = x[:, lag:]
    early = early - early.mean(1, keepdims=True)
    late = late - late.mean(1, keepdims=True)
    return (early * late).sum(1) / np.sqrt((early**2).sum(1) * (late**2).sum(1))


# --- make -----------------------------------------------------------------------------------------


def test_the_seed_decides_and_nothing_else():
    np.random.seed(7)  # noqa: NPY002 - the global state must neither matter nor move
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = make(60, 200, seed=3)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    np.random.seed(8)  # noqa: NPY002
    assert np.array_equal(first, make(60, 200, seed=3), equal_nan=True)
    assert not np.array_equal(first, make(60, 200, seed=4), equal_nan=True)


def test_a_generator_moves_on():
    generator = rng(3)
    first = make(20, 64, seed=generator)
    second = make(20, 64, seed=generator)
    assert np.array_equal(first, make(20, 64, seed=3), equal_nan=True)
    assert not np.array_equal(first, second, equal_nan=True)


@pytest.mark.parametrize("length", [16, 17, 100, 1000, 4096])
def test_series_of_every_length_are_scaled(length):
    x = make(100, length, seed=length)
    assert x.shape == (100, length)
    assert x.dtype == np.float32
    assert not np.isinf(x).any()
    mean = np.nanmean(x, 1, dtype=float)
    deviation = np.nanstd(x, 1, dtype=float)
    constant = deviation == 0
    assert constant.mean() <= 0.03
    assert (x[constant] == 0).all(where=~np.isnan(x[constant]))
    assert np.allclose(mean, 0, atol=1e-4)
    assert np.allclose(deviation[~constant], 1, atol=1e-3)
    assert len(np.unique(np.nan_to_num(x[~constant]), axis=0)) == (~constant).sum()


def test_few_values_are_missing_and_few_are_far_out():
    x = make(1000, 128, seed=0)
    gone = np.isnan(x)
    assert 0.05 < gone.any(1).mean() < 0.1
    assert gone.mean() < 0.03
    assert gone.mean(1).max() < 0.65
    assert (np.nanmax(np.abs(x), 1) > 10).mean() < 0.05


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_series(n):
    assert make(n, 50, seed=0).shape == (n, 50)


def test_blocks_have_their_own_draws(monkeypatch):
    monkeypatch.setattr(synthetic, "_BLOCK_SERIES", 8)
    x = make(20, 40, seed=0)
    assert len(np.unique(np.nan_to_num(x), axis=0)) == 20


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="n must be at least 0; got -1"):
        make(-1, 64, seed=0)
    for length in (15, 8193):
        with pytest.raises(ValueError, match=f"length must be from 16 to 8192; got {length}"):
            make(1, length, seed=0)


def test_standardise_leaves_what_is_missing_out():
    x = np.array(
        [[1, np.nan, 3, np.nan], [5, 5, 5, np.nan], [np.nan] * 4, [1e5, 1e5 + 1, 1e5, 1e5 + 1]],
        np.float32,
    )
    nan = np.nan
    expected = [[-1, nan, 1, nan], [0, 0, 0, nan], [nan] * 4, [-1, 1, -1, 1]]
    assert np.allclose(standardise(x), expected, equal_nan=True)


# --- families -------------------------------------------------------------------------------------


def test_weights_are_shares():
    assert sum(weight for _, weight in FAMILIES.values()) == pytest.approx(1)
    names = list(FAMILIES)
    assert shares(SHORT + 1)[names.index("growth")] == pytest.approx(FAMILIES["growth"][1])
    assert shares(SHORT)[names.index("growth")] == pytest.approx(
        4 * 0.05 / (1 + 4 * 0.05 + 3 * 0.05 + 0.06 + 0.02)
    )


@pytest.mark.parametrize("length", [SHORT, SHORT + 1])
def test_short_series_are_of_low_frequency_more_often(monkeypatch, length):
    request = {}

    def counting(name):
        def family(source):
            request[name] = request.get(name, 0) + source.n
            return source.rng.standard_normal(source.shape)

        return family

    for name, (_, weight) in list(FAMILIES.items()):
        monkeypatch.setitem(FAMILIES, name, (counting(name), weight))
    make(2000, length, seed=0)
    assert request["low_frequency"] / sum(request.values()) == pytest.approx(
        0.175 if length == SHORT else 0.05, abs=0.03
    )


@pytest.mark.parametrize("length", [16, 1000])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_alone(name, length):
    x = FAMILIES[name][0](source(1, 40, length))
    assert x.shape == (40, length)
    assert np.isfinite(x).all()
    x = standardise(np.asarray(x, np.float32))
    varied = x.std(1) > 0.5
    assert varied.mean() >= (
        0.7 if length == 16 else 0.95
    )  # rare events may all miss sixteen steps
    assert len(np.unique(x[varied], axis=0)) >= varied.sum() * (0.8 if length == 16 else 1)
    assert np.array_equal(
        FAMILIES[name][0](source(1, 40, length)), FAMILIES[name][0](source(1, 40, length))
    )


@pytest.mark.parametrize("name", ["counts", "self_exciting"])
def test_counts_are_counts(name):
    x = FAMILIES[name][0](source(2, 80, 400))
    assert x.min() >= 0
    assert (x == np.round(x)).all(
        1
    ).mean() > 0.85  # a fifth of the intermittent sizes are not whole


def test_bounds_hold():
    shares = families.bounded(source(2, 60, 500))
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert ((shares == 0) | (shares == 1)).any(1).mean() > 0.1
    usage = families._usage(source(2, 60, 500))
    assert usage.min() >= 0
    assert usage.max() <= 100


def test_the_sun_sets():
    power = calendar_families.solar(source(2, 40, 600))
    assert power.min() == 0
    dark = (power == 0).mean(1)
    assert ((dark > 0.2) & (dark < 0.8)).all()


def test_growth_stays_in_range():
    x = families.growth(source(2, 100, 2816))
    assert x.min() >= 0
    assert np.abs(standardise(np.asarray(x, np.float32))).max() < 25


def test_cumulative_curves_rise():
    x = families.cumulative(source(2, 100, 300))
    assert 0.3 < (np.diff(x) >= 0).all(1).mean() < 0.7


def test_workdays_differ_from_days_off(monkeypatch):
    monkeypatch.setattr(calendar_families, "days", lambda source: np.full(source.column, 24.0))
    x = calendar_families.workdays(source(2, 100, 168 * 6))
    week = correlation(x, 168)
    day = correlation(x, 24)
    assert (week > day - 0.05).mean() > 0.75
    assert (week > day + 0.1).mean() > 0.15


def test_the_climate_has_a_year(monkeypatch):
    monkeypatch.setattr(calendar_families, "_YEAR_STEPS", {365.25: 1})
    x = calendar_families.climate(source(2, 200, 1461))
    assert np.median(correlation(x, 365) - correlation(x, 183)) > 0.3


def test_a_river_rises_faster_than_it_falls():
    step_days = np.ones((60, 1))
    flow = calendar_families._flow(source(2, 60, 700), draws.normal(source(1, 60, 700)), step_days)
    steps = np.diff(flow, axis=1)
    assert ((steps < 0).mean(1) > 0.6).all()
    assert (steps.max(1) > -2 * steps.min(1)).mean() > 0.9


def test_holidays_fall_on_the_same_days_of_every_year():
    day = np.arange(4 * 1461).reshape(1, -1) + np.zeros((80, 1), int)
    effect = calendar_families._holidays(source(2, *day.shape), day)
    by_four_years = effect.reshape(80, 4, 1461)
    assert np.array_equal(by_four_years[:, 0], by_four_years[:, 3])
    n_days = (effect[:, :365] != 0).sum(1)
    assert n_days.min() == 0
    assert 5 < np.median(n_days) < 60
    assert ((effect < 0).sum(1) > (effect > 0).sum(1)).mean() > 0.5


def test_business_by_the_day_has_a_week():
    x = calendar_families.daily(source(2, 200, 700))
    steps = np.diff(x, axis=1)
    assert np.mean(correlation(steps, 7) > correlation(steps, 5) + 0.1) > 0.8


def test_smoothing_follows_its_equations(monkeypatch):
    """Without errors a season repeats and a level stays; with a trend only, the slope is
    phi-damped.
    """
    monkeypatch.setattr(
        families, "mix", lambda source, *choices: np.zeros(source.shape, np.float32)
    )
    monkeypatch.setattr(families, "periods", lambda source: np.full(source.column, 6.0))
    monkeypatch.setattr(families, "growing", lambda x, spread: x)
    x = families.exponential_smoothing(source(2, 80, 60)).astype(float)
    change = x[:, 6:] - x[:, :-6]  # the season cancels: six steps of drift remain
    still = np.abs(change).max(1) < 1e-4
    assert 0.2 < still.mean() < 0.8
    drift = change[~still]
    phi = drift[:, 1:2] / drift[:, :1]
    assert ((phi > 0.79) & (phi < 1.001)).all()
    assert 0.3 < (phi < 0.999).mean() < 0.7
    assert np.allclose(drift, drift[:, :1] * phi ** np.arange(drift.shape[1]), atol=1e-3)


def test_self_excitement_has_its_mean(monkeypatch):
    """A Hawkes process of constant base and branching ratio a has the mean base / (1 - a)."""
    monkeypatch.setattr(families, "_rates", lambda source: np.zeros(source.shape))
    monkeypatch.setattr(
        Source,
        "log_uniform",
        lambda source, low, high: np.full(source.column, 0.5 if high < 1 else 4.0),
    )
    x = families.self_exciting(source(2, 200, 400))
    assert x[:, 50:].mean() == pytest.approx(4, rel=0.1)


# --- building blocks ------------------------------------------------------------------------------


def test_a_season_repeats_with_its_period():
    period = np.repeat([4.0, 7.0, 24.0, 60.0], 50)[:, None]
    x = draws.season(source(0, 200, 720), period)
    for rows, m in zip(np.split(x, 4), (4, 7, 24, 60), strict=True):
        assert np.median(correlation(rows, m)) > 0.999
        assert np.mean(correlation(rows, m) > 0.6) > 0.9
        assert np.median(correlation(rows, m // 2 + 1)) < 0.8


def test_series_with_seasons_show_them(monkeypatch):
    for module in (components, families):
        monkeypatch.setattr(module, "periods", lambda source: np.full(source.column, 12.0))
    for family in (families.structural, families.seasonal_autoregression, families.growth):
        x = np.diff(family(source(5, 120, 600)))
        assert np.mean(correlation(x, 12) > correlation(x, 5) + 0.1) > 0.6, family


def test_periods_fit_the_length():
    for length in (16, 100, 2816):
        m = draws.periods(source(0, 2000, length))
        assert m.shape == (2000, 1)
        assert m.min() >= 3
        assert (m <= max(4, length / 2)).mean() > 0.8
        assert (m > length / 2).mean() > 0.01  # some seasons are longer than what is seen


def test_leak_and_hold_agree_with_loops():
    x = rng().standard_normal((3, 40)).astype(np.float32)
    change = rng(1).random((3, 40)) < 0.2
    for decay in (np.array([[0.1], [0.5], [0.99]]), rng(2).random((3, 40))):
        y = np.empty((3, 40))
        last = np.zeros(3)
        for t in range(40):
            last = np.broadcast_to(decay, (3, 40))[:, t] * last + x[:, t]
            y[:, t] = last
        assert np.allclose(draws.leak(decay, x), y, atol=1e-5)
    held = x.copy()
    for t in range(1, 40):
        held[:, t] = np.where(change[:, t], x[:, t], held[:, t - 1])
    assert np.array_equal(draws.hold(x, change), held)


def test_drawn_spectrally_an_autoregression_has_its_correlation():
    a = 0.8
    x = draws.spectral(
        source(0, 200, 1000),
        lambda w: np.broadcast_to(1 / (1 + a * a - 2 * a * np.cos(w)), (200, w.size)),
    )
    assert correlation(x, 1).mean() == pytest.approx(a, abs=0.02)
    assert correlation(x, 3).mean() == pytest.approx(a**3, abs=0.03)


def test_mix_keeps_the_shares():
    choices = [
        (weight, lambda source, k=k: np.full(source.shape, k)) for k, weight in enumerate((1, 3, 0))
    ]
    x = draws.mix(source(0, 4000, 16), *choices)
    assert (x == x[:, :1]).all()
    assert np.bincount(x[:, 0].astype(int), minlength=3) / 4000 == pytest.approx(
        [0.25, 0.75, 0], abs=0.03
    )


def test_most_random_walks_are_best_continued_by_their_last_value():
    x = families.random_walks(source(1, 400, 300))
    steps = np.diff(x, axis=1)
    apart = steps - steps.mean(1, keepdims=True)
    alike = (apart[:, 1:] * apart[:, :-1]).mean(1) / np.square(apart).mean(1)
    assert 0.4 < (np.abs(alike) < 0.12).mean() < 0.8, (
        "the others are read with noise, or hardly move by themselves"
    )
    drifting = np.abs(steps.mean(1)) > 3 * steps.std(1) / np.sqrt(steps.shape[1])
    assert drifting.mean() < 0.1


# --- on top ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [change for _, change in synthetic._DISTURBANCES], ids=lambda change: change.__name__
)
def test_what_is_laid_on_top_changes_series(change):
    x = draws.smooth(source(0, 60, 300))
    before = x.copy()
    y = change(source(1, *x.shape), x)
    assert y.shape == x.shape
    assert np.array_equal(x, before)  # the input is not overwritten
    assert np.isnan(y).any() == (change is synthetic._missing)
    assert not np.isinf(y).any()
    assert (np.nan_to_num(y, nan=99) != x).any(1).mean() > 0.8


def test_some_outliers_are_far_away():
    farthest = np.abs(synthetic._spikes(source(1, 400, 200), np.zeros((400, 200)))).max(1)
    assert 0.02 < (farthest > 9).mean() < 0.2, "ten times as far in a tenth of the series"
    assert farthest.max() > 30


def test_weather_repeats_daily_and_drifts_over_many_days(monkeypatch):
    monkeypatch.setattr(calendar_families, "days", lambda source: np.full(source.column, 24.0))
    x = FAMILIES["weather"][0](source(1, 200, 480))
    x = x[x.std(1) > 0.1]  # some are cut off nearly everywhere
    steps = np.diff(x, axis=1)
    assert np.median(correlation(steps, 24)) > np.median(correlation(steps, 36)) + 0.2
    by_day = x.reshape(-1, 20, 24).mean(2)
    assert np.median(correlation(by_day, 1)) > 0.3


def test_floors_hold_their_share():
    x = synthetic._floor(source(1, 60, 400), draws.normal(source(0, 60, 400)))
    at_the_floor = (x == x.min(1, keepdims=True)).mean(1)
    assert (at_the_floor > 0.015).all()
    assert (at_the_floor < 0.51).all()


def test_stuck_values_stay():
    x = draws.normal(source(0, 100, 400))
    same = (np.diff(synthetic._stuck(source(1, 100, 400), x)) == 0).mean(1)
    assert 0.02 < same.mean() < 0.35


def test_two_values_of_every_series_stay():
    x = synthetic._missing(source(0, 500, 16), np.ones((500, 16)))
    assert np.isnan(x).any()
    assert np.isfinite(x[:, :2]).all()
