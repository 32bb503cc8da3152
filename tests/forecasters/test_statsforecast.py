"""The models of statsforecast: its own forecasts, on every series its own rows."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from statsforecast import models as theirs
from tables import series_table

from tsattn.forecasters.classical import StatsmodelsForecaster
from tsattn.forecasters.statsforecast import StatsforecastForecaster

MODELS = ("ets", "theta", "auto_ets", "auto_arima", "dynamic_theta", "croston", "tsb", "adida")
DEMAND = ("croston", "tsb", "adida")
QUICK = tuple(name for name in MODELS if name != "auto_arima")
SEASON = 6
ROWS = 60
H = 8


def series(n_rows=ROWS, seed=0, noise=2.0):
    t = np.arange(n_rows)
    seasons = 10 * np.sin(2 * np.pi * t / SEASON)
    return 100 + seasons + 0.2 * t + noise * np.random.default_rng(seed).normal(size=n_rows)


def demand(n_rows=ROWS, seed=0):
    rng = np.random.default_rng(seed)
    return rng.poisson(4, n_rows) * (rng.random(n_rows) < 0.3) * 1.0


def values(model, n_rows=ROWS, seed=0):
    return (demand if model in DEMAND else series)(n_rows, seed)


def make(model, **settings):
    return StatsforecastForecaster(H, model, **{"season_length": SEASON, **settings})


def direct(model):
    """The library's own object, made as its manual says."""
    return {
        "ets": lambda: theirs.AutoETS(SEASON, model="AAA", damped=True),
        "theta": lambda: theirs.Theta(SEASON),
        "auto_ets": lambda: theirs.AutoETS(SEASON),
        "auto_arima": lambda: theirs.AutoARIMA(season_length=SEASON),
        "dynamic_theta": lambda: theirs.DynamicOptimizedTheta(SEASON),
        "croston": theirs.CrostonOptimized,
        "adida": theirs.ADIDA,
    }[model]()


@pytest.mark.parametrize("model", [name for name in MODELS if name != "tsb"])
def test_forecasts_are_the_librarys_own(model):
    y = values(model)
    actual = make(model).fit(series_table(y)).predict()[model]
    # Its optimisers have absolute tolerances, which the unit of the window moves a little.
    np.testing.assert_allclose(
        actual, direct(model).forecast(y=y, h=H)["mean"], atol=0.02 * y.std()
    )


@pytest.mark.parametrize("model", ["ets", "auto_ets", "auto_arima"])
def test_intervals_are_the_librarys_own(model):
    y = series()
    forecast = make(model).fit(series_table(y)).predict(level=80)
    own = direct(model).forecast(y=y, h=H, level=[80])
    for side in ("lo-80", "hi-80"):
        np.testing.assert_allclose(forecast[f"{model}-{side}"], own[side], atol=0.03 * y.std())


@pytest.mark.parametrize("model", ["theta", "dynamic_theta"])
def test_theta_intervals_are_those_it_draws_without_the_dice(model):
    y = 200 + np.random.default_rng(3).normal(size=ROWS).cumsum()
    width = make(model, season_length=1).fit(series_table(y)).predict(level=80).set_index("ds")
    width = width[f"{model}-hi-80"] - width[f"{model}-lo-80"]
    own = (theirs.Theta if model == "theta" else theirs.DynamicOptimizedTheta)(1).forecast(
        y=y, h=H, level=[80]
    )
    np.testing.assert_allclose(width, own["hi-80"] - own["lo-80"], rtol=0.25)
    assert 0.9 < np.mean(width / (own["hi-80"] - own["lo-80"])) < 1.1


@pytest.mark.parametrize("shift", [0.0, -200.0])  # multiplicative and additive seasons
@pytest.mark.parametrize("model", ["theta", "dynamic_theta"])
def test_seasons_are_no_noise_of_theta(model, shift):
    y = series() + shift
    forecast = make(model).fit(series_table(y)).predict(level=80)
    residual = 2 * 1.28 * 2  # bounds of 80% for noise of standard deviation 2
    assert (
        0.7 * residual
        < forecast[f"{model}-hi-80"][0] - forecast[f"{model}-lo-80"][0]
        < 1.5 * residual
    )


def test_tsb_takes_the_constants_of_the_least_squared_error():
    y = demand(seed=4)
    tried = [theirs.TSB(d, p) for d, p in itertools.product((0.05, 0.1, 0.2, 0.3), repeat=2)]
    errors = [
        np.nansum((y - each.forecast(y=y, h=1, fitted=True)["fitted"]) ** 2) for each in tried
    ]
    best = tried[int(np.argmin(errors))].forecast(y=y, h=H)["mean"]
    np.testing.assert_allclose(make("tsb").fit(series_table(y)).predict()["tsb"], best, rtol=1e-9)
    assert len({round(each.forecast(y=y, h=1)["mean"][0], 6) for each in tried}) == len(tried)


@pytest.mark.parametrize("model", DEMAND)
def test_intervals_of_demand_are_as_wide_as_its_errors_and_not_negative(model):
    y = demand(400, seed=1)
    forecast = make(model, context=400).fit(series_table(y)).predict(level=[50, 90])
    assert (forecast[f"{model}-lo-90"] == 0).all()
    z = 1.6448536269514722
    np.testing.assert_allclose(forecast[f"{model}-hi-90"] - forecast[model], z * y.std(), rtol=0.15)
    assert (forecast[f"{model}-hi-50"] < forecast[f"{model}-hi-90"]).all()


@pytest.mark.parametrize("model", ["theta", "ets"])
def test_both_libraries_forecast_alike(model):
    gaps = []
    spread = []
    for seed in range(6):
        y = series(ROWS + H, seed)
        forecasts = [
            kind(H, model, season_length=SEASON).fit(series_table(y[:ROWS])).predict(level=80)
            for kind in (StatsforecastForecaster, StatsmodelsForecaster)
        ]
        gaps.append(np.abs(forecasts[0][model] - forecasts[1][model]).mean())
        # One step ahead: further on, theta of statsmodels takes the level to wander more than it
        # does.
        spread.append(
            [(forecast[f"{model}-hi-80"] - forecast[f"{model}-lo-80"])[0] for forecast in forecasts]
        )
    assert 0 < np.mean(gaps) < 1.0  # half the standard deviation of the noise
    ours, twin = np.mean(spread, axis=0)
    assert 0.75 < ours / twin < 1.33


@pytest.mark.parametrize("model", QUICK)
def test_each_series_is_read_to_its_beginning_and_cuts_no_other(model):
    parts = {
        name: values(model, n, i)
        for i, (name, n) in enumerate({"a": 150, "b": 20, "c": 60}.items())
    }
    both_series = pd.concat([series_table(y, name) for name, y in parts.items()])
    forecaster = StatsforecastForecaster(3, model, context=80).fit(both_series)
    actual = forecaster.predict(level=80).set_index("unique_id").iloc[:, 1:]
    assert (forecaster.min_context, forecaster.max_context) == (1, 80)
    for name, y in parts.items():
        own_forecast = (
            StatsforecastForecaster(3, model)
            .fit(series_table(y[-80:]))
            .predict(level=80)
            .iloc[:, 2:]
        )
        np.testing.assert_array_equal(actual.loc[name], own_forecast)


@pytest.mark.parametrize("model", QUICK)
def test_forecasts_follow_the_scale(model):
    y = values(model)
    x = np.stack([y, 1e9 * y, 1e-9 * y, 1e200 * y])[..., None]
    forecasts = (
        make(model).fit(series_table(y)).predict_windows(x, quantiles=(0.1, 0.9))[1][:, :, 0]
    )
    for scaled, size in zip(forecasts[1:], (1e9, 1e-9, 1e200), strict=True):
        np.testing.assert_allclose(scaled, size * forecasts[0], rtol=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_a_constant_window_forecasts_its_value_with_no_spread(model):
    x = np.array([0.0, 0.1, 7e9])[:, None, None] * np.ones((1, ROWS, 1))
    actual = (
        make(model)
        .fit(series_table(values(model)))
        .predict_windows(x, quantiles=(0.1, 0.5, 0.9))[1]
    )
    np.testing.assert_array_equal(actual, np.broadcast_to(x[:, :1, :, None], actual.shape))


@pytest.mark.parametrize("n_rows", [1, 2, 3, 5, 9, 12, 25])
@pytest.mark.parametrize("model", MODELS)
def test_no_window_gives_a_missing_forecast(model, n_rows):
    t = np.arange(n_rows)
    rng = np.random.default_rng(0)
    hard = [
        t * 1.0,
        1 + np.sin(2 * np.pi * t / SEASON),
        (t > n_rows // 2) * 1.0,
        (t == n_rows - 1) * 1.0,
        np.exp(t),
    ]
    hard += [
        rng.poisson(0.1, n_rows) * 1.0,
        5 + 1e-9 * t,
        1 + (-1.0) ** t,
        np.abs(rng.normal(size=n_rows)),
    ]
    hard += [] if model in DEMAND else [rng.normal(size=n_rows), -np.exp(t)]
    # A search takes a second: a third of the windows for each length, all thirds for some length.
    if model == "auto_arima" and n_rows >= 5:
        hard = hard[n_rows % 3 :: 3]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        actual = (
            make(model)
            .fit(series_table(values(model)))
            .predict_windows(np.stack(hard)[..., None], quantiles=(0.1, 0.5, 0.9))[1]
        )
    assert np.isfinite(actual).all()
    assert (np.diff(actual, axis=-1) >= 0).all()
    assert [warning.category for warning in caught] in ([], [RuntimeWarning])


def test_windows_with_too_few_rows_hold_their_last_value_and_are_counted():
    x = np.full((2, 30, 1), np.nan)
    x[0, :, 0] = series(30)
    x[1, -4:, 0] = [3.0, 5.0, 1.0, 2.0]
    with pytest.warns(
        RuntimeWarning, match="auto_ets: of 2 windows, 0 had .* and 1 too few rows and 0 a model"
    ) as caught:
        forecasts = make("auto_ets").fit(series_table(series())).predict_windows(x)[0]
    assert len(caught) == 1
    np.testing.assert_array_equal(forecasts[1, :, 0], 2.0)


def test_the_library_leaves_random_state_and_filters_alone():
    state, filters = np.random.get_state()[1].copy(), list(warnings.filters)  # noqa: NPY002
    for model in QUICK:
        make(model).fit(series_table(values(model))).predict(level=80)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert warnings.filters == filters


@pytest.mark.parametrize("model", DEMAND)
def test_negative_demand_is_refused_by_name(model):
    y = demand()
    y[7] = -3.0
    with pytest.raises(
        ValueError, match=f"{model} forecasts demand, which is at least 0; series 'a' has -3"
    ):
        make(model).fit(series_table(y))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"model": "prophet"},
            "model must be one of ets, theta, auto_ets, auto_arima, .*; got 'prophet'",
        ),
        ({"context": 9}, "context must be a whole number of at least 10; got 9"),
        (
            {"season_length": 0},
            "season_length must be a whole number of at least 1; got 0",
        ),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        StatsforecastForecaster(2, **settings)


def test_a_history_that_is_too_short_is_one_clear_error():
    with pytest.raises(ValueError, match=r"too short.*auto_ets needs at least 7 rows"):
        StatsforecastForecaster(2, "auto_ets").fit(series_table(series(6)))
    with pytest.raises(
        ValueError, match="season_length = 12 needs a context of at least 24 rows; got 23"
    ):
        StatsforecastForecaster(2, "theta", season_length=12).fit(series_table(series(23)))
    with pytest.raises(ValueError, match="StatsforecastForecaster is not fitted"):
        StatsforecastForecaster(2, context=20).predict_windows(np.zeros((1, 20, 1)))


def test_auto_ets_reads_the_whole_history():
    """The first years have another level of noise: ten seasons of the end would not show it."""
    y = np.concatenate([series(90, noise=20.0), series(90, seed=1)])
    actual = make("auto_ets").fit(series_table(y)).predict()["auto_ets"]
    whole = theirs.AutoETS(SEASON).forecast(y=y / (np.abs(y).max() / 1000), h=H)["mean"]
    np.testing.assert_allclose(actual, whole * np.abs(y).max() / 1000, rtol=1e-6)
    assert make("auto_ets", context=60).fit(series_table(y)).context_ == 60
    assert make("theta").fit(series_table(y)).context_ == 100
