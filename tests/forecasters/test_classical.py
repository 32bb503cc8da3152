"""The classical models: what statsmodels itself forecasts, and something sensible where
it cannot.
"""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from statsmodels.tools.sm_exceptions import ConvergenceWarning
from statsmodels.tsa.ar_model import AutoReg
from statsmodels.tsa.exponential_smoothing.ets import ETSModel
from statsmodels.tsa.forecasting.stl import STLForecast
from statsmodels.tsa.forecasting.theta import ThetaModel
from statsmodels.tsa.statespace.sarimax import SARIMAX
from tables import series_table

from tsattn.data.frames import to_panel
from tsattn.evaluate.backtest import backtest
from tsattn.forecasters import classical
from tsattn.forecasters.classical import StatsmodelsForecaster

MODELS = ("ets", "theta", "autoreg", "sarimax", "stl_ets")
SEASON = 6
ROWS = 60
H = 8


def series(n_rows=ROWS, seed=0):
    t = np.arange(n_rows)
    noise = np.random.default_rng(seed).normal(size=n_rows)
    return 50 + 10 * np.sin(2 * np.pi * t / SEASON) + 0.2 * t + 2 * noise


def make(model, **settings):
    return StatsmodelsForecaster.from_settings(
        horizon=H, model=model, **{"season_length": SEASON, "context": ROWS, **settings}
    )


def standard(y):
    return (y - y.mean()) / y.std()


def direct(model, y, alpha):
    """Mean and bounds by statsmodels, called as its manual says."""
    z = standard(y)
    n = len(y)
    terms = {
        "error": "add",
        "trend": "add",
        "damped_trend": True,
        "initialization_method": "heuristic",
    }
    if model == "theta":
        result = ThetaModel(z, period=SEASON, method="additive").fit()
        return result.forecast(H), None
    if model == "ets":
        result = ETSModel(pd.Series(z), seasonal="add", seasonal_periods=SEASON, **terms).fit(
            disp=False
        )
        prediction = result.get_prediction(n, n + H - 1)
        return prediction.predicted_mean, prediction.pred_int(alpha)
    if model == "stl_ets":
        result = STLForecast(pd.Series(z), ETSModel, model_kwargs=terms, period=SEASON).fit(
            fit_kwargs={"disp": False}
        )
    elif model == "autoreg":
        result = AutoReg(z, lags=SEASON, trend="c").fit()
    else:
        result = SARIMAX(z, order=(0, 1, 1), seasonal_order=(0, 1, 1, SEASON)).fit(disp=False)
    prediction = result.get_prediction(n, n + H - 1)
    return prediction.predicted_mean, prediction.conf_int(alpha=alpha)


@pytest.mark.parametrize("n_rows", [ROWS, ROWS + 5])  # a whole number of seasons, and not
@pytest.mark.parametrize("model", MODELS)
def test_forecasts_and_intervals_are_statsmodels_own(model, n_rows):
    y = series(n_rows)
    forecaster = make(model, context=n_rows).fit(series_table(y))
    forecasts = forecaster.predict_windows(y[None, :, None], quantiles=(0.05, 0.5, 0.95))[1][
        0, :, 0
    ]
    mean, bounds = direct(model, y, alpha=0.1)
    np.testing.assert_allclose(forecasts[:, 1], y.mean() + y.std() * np.asarray(mean), rtol=1e-6)
    np.testing.assert_array_equal(
        forecasts[:, 1], forecaster.predict_windows(y[None, :, None])[0][0, :, 0]
    )
    if bounds is not None:
        np.testing.assert_allclose(
            forecasts[:, [0, 2]], y.mean() + y.std() * np.asarray(bounds), rtol=1e-6
        )


def test_theta_has_statsmodels_intervals_of_the_series_without_its_seasons():
    """ThetaModel itself takes its error from the seasonal series; without seasons both agree, with
    them ours hold.
    """
    y = np.random.default_rng(3).normal(size=ROWS).cumsum()
    bounds = ThetaModel(standard(y), deseasonalize=False).fit().prediction_intervals(H, alpha=0.1)
    actual = (
        make("theta", season_length=1)
        .fit(series_table(y))
        .predict_windows(y[None, :, None], quantiles=(0.05, 0.95))[1]
    )
    np.testing.assert_allclose(actual[0, :, 0], y.mean() + y.std() * np.asarray(bounds), rtol=1e-6)
    y = series()
    z = standard(y)
    theirs = np.asarray(
        ThetaModel(z, period=SEASON, method="additive").fit().prediction_intervals(1, alpha=0.2)
    )
    ours = (
        make("theta")
        .fit(series_table(y))
        .predict_windows(y[None, :, None], quantiles=(0.1, 0.9))[1]
    )
    assert np.ptp(ours[0, 0, 0]) < 0.5 * y.std() * np.ptp(theirs)
    residual = 2 * 1.28 * 2  # bounds of 80% for noise of standard deviation 2
    assert residual / 2 < np.ptp(ours[0, 0, 0]) < 2 * residual


@pytest.mark.parametrize("model", MODELS)
def test_models_with_seasons_beat_models_without(model):
    x = np.stack([series(ROWS + H, seed) for seed in range(4)])
    y = x[:, ROWS:]
    error = np.abs(
        make(model).fit(series_table(series())).predict_windows(x[:, :ROWS, None])[0][..., 0] - y
    ).mean()
    blind = np.abs(
        make(model, season_length=1, lags=1, order=(0, 1, 1))
        .fit(series_table(series()))
        .predict_windows(x[:, :ROWS, None])[0][..., 0]
        - y
    ).mean()
    assert error < 0.5 * blind
    assert error < 4


@pytest.mark.parametrize("model", MODELS)
def test_forecasts_follow_shift_and_scale(model):
    y = series()
    x = np.stack([y, 1e6 + 1e3 * y, -1e-6 * y])[..., None]
    plain, moved, small = make(model).fit(series_table(y)).predict_windows(x)[0][..., 0]
    np.testing.assert_allclose(moved, 1e6 + 1e3 * plain, rtol=1e-5)
    np.testing.assert_allclose(small, -1e-6 * plain, rtol=1e-2)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.filterwarnings("ignore:.*optimiser that stopped before it converged:RuntimeWarning")
def test_no_window_gives_a_missing_forecast(model):
    t = np.arange(ROWS)
    rng = np.random.default_rng(0)
    hard = [
        t * 1.0,
        np.sin(2 * np.pi * t / SEASON),
        (t > 30) * 1.0,
        (t == ROWS - 1) * 1.0,
        1e-200 * np.sin(t),
    ]
    hard += [
        1e200 * rng.normal(size=ROWS),
        np.exp(t / 3),
        rng.poisson(0.1, ROWS) * 1.0,
        5 + 1e-9 * t,
        (-1.0) ** t,
    ]
    x = np.stack(hard)[..., None]
    forecasts = (
        make(model).fit(series_table(series())).predict_windows(x, quantiles=(0.1, 0.5, 0.9))[1]
    )
    assert np.isfinite(forecasts).all()
    assert (np.diff(forecasts, axis=-1) >= 0).all()
    ramp = forecasts[0, :, 0, 1]
    sine = forecasts[1, :, 0, 1]
    assert ((ramp > ROWS - 2) & (ramp < ROWS + H + 1)).all()
    np.testing.assert_allclose(sine, np.sin(2 * np.pi * (ROWS + np.arange(H)) / SEASON), atol=0.1)


@pytest.mark.parametrize("model", MODELS)
def test_a_constant_window_forecasts_its_value_with_no_spread(model):
    x = np.array([0.0, 0.1, -7e9])[:, None, None] * np.ones((1, ROWS, 1))
    forecasts = (
        make(model).fit(series_table(series())).predict_windows(x, quantiles=(0.1, 0.5, 0.9))[1]
    )
    np.testing.assert_array_equal(forecasts, np.broadcast_to(x[:, :1, :, None], forecasts.shape))


def test_an_optimiser_that_stops_early_is_told_once_and_filters_stay():
    x = np.stack([np.sin(2 * np.pi * np.arange(ROWS) / SEASON), series()])[..., None]
    forecaster = make("ets").fit(series_table(series()))
    before = list(warnings.filters)
    with pytest.warns(
        RuntimeWarning,
        match=(
            "ets: of 2 windows, 1 had an optimiser that stopped.*and 0 too few rows and 0 a model"
        ),
    ) as caught:
        forecaster.predict_windows(x)[0]
    assert len(caught) == 1
    assert warnings.filters == before


def broken(how):
    def model(y, setting, with_errors):
        if how == "raises":
            raise np.linalg.LinAlgError("singular")
        return np.full(setting.steps, np.nan), np.zeros(setting.steps)

    return model


@pytest.mark.parametrize("how", ["raises", "nan"])
def test_a_model_that_breaks_down_leaves_a_random_walk_and_says_so(how, monkeypatch):
    monkeypatch.setattr(classical, "_MODELS", {**classical._MODELS, "ets": broken(how)})
    y = series()
    forecaster = make("ets").fit(series_table(y))
    with pytest.warns(
        RuntimeWarning, match="of 1 windows, 0 had .* and 0 too few rows and 1 a model that broke"
    ):
        forecasts = forecaster.predict_windows(y[None, :, None], quantiles=(0.1, 0.5, 0.9))[1][
            0, :, 0
        ]
    np.testing.assert_allclose(forecasts[:, 1], y[-1], rtol=1e-12)
    step = np.sqrt(np.mean(np.diff(y) ** 2))
    np.testing.assert_allclose(
        forecasts[:, 2] - y[-1], 1.2815515655446004 * step * np.sqrt(np.arange(1, H + 1)), rtol=1e-9
    )


def test_other_warnings_and_errors_are_the_users(monkeypatch):
    def loud(y, setting, with_errors):
        warnings.warn("look at me", UserWarning, stacklevel=1)
        warnings.warn("did not converge", ConvergenceWarning, stacklevel=1)
        return np.zeros(setting.steps), None

    monkeypatch.setattr(classical, "_MODELS", {**classical._MODELS, "ets": loud})
    forecaster = make("ets").fit(series_table(series()))
    with (
        pytest.warns(UserWarning, match="look at me"),
        pytest.warns(RuntimeWarning, match="1 had an optimiser"),
    ):
        forecaster.predict_windows(series()[None, :, None])[0]

    def wrong(y, setting, with_errors):
        raise KeyError("a bug")

    monkeypatch.setattr(classical, "_MODELS", {**classical._MODELS, "ets": wrong})
    with pytest.raises(KeyError, match="a bug"):
        forecaster.predict_windows(series()[None, :, None])[0]


def test_context_and_season_follow_the_data():
    daily = StatsmodelsForecaster(2).fit(series_table(series(300)))
    assert (daily.context, daily.context_, daily.season_length_) == (None, 100, 7)
    assert StatsmodelsForecaster(2).fit(series_table(series(300), freq="h")).context_ == 240
    assert (daily.min_context, daily.max_context) == (1, 100)
    # Ten rows and a week do not fit into fifteen: no season.
    for n_rows, same in ((15, True), (16, False)):
        plain = (
            StatsmodelsForecaster(2, season_length=1)
            .fit(series_table(series(n_rows)))
            .predict()["ets"]
        )
        weekly = StatsmodelsForecaster(2).fit(series_table(series(n_rows))).predict()["ets"]
        assert np.array_equal(plain, weekly) == same


@pytest.mark.parametrize("model", MODELS)
def test_a_short_series_does_not_cut_the_others(model):
    parts = {
        "a": series_table(series(150)),
        "b": series_table(series(20, seed=1)),
        "c": series_table(series(60, seed=2)),
    }
    both_series = pd.concat([part.assign(unique_id=name) for name, part in parts.items()])
    actual = (
        StatsmodelsForecaster(3, model)
        .fit(both_series)
        .predict(level=80)
        .set_index("unique_id")
        .iloc[:, 1:]
    )
    for name, part in parts.items():
        own_forecast = StatsmodelsForecaster(3, model).fit(part).predict(level=80).iloc[:, 2:]
        np.testing.assert_array_equal(actual.loc[name], own_forecast)


def test_windows_with_too_few_rows_hold_their_last_value_and_are_counted():
    x = np.full((3, 30, 1), np.nan)
    x[0, :, 0] = series(30)
    x[1, -4:, 0] = [3.0, 5.0, 1.0, 2.0]
    x[2, -1:, 0] = 7.0
    forecaster = StatsmodelsForecaster(2, season_length=1).fit(series_table(series(30)))
    with pytest.warns(
        RuntimeWarning,
        match="ets: of 3 windows, 0 had .* and 1 too few rows and 0 a model that broke",
    ):
        forecasts = forecaster.predict_windows(x, quantiles=(0.5,))[1][..., 0, 0]
    np.testing.assert_array_equal(forecasts[0], forecaster.predict()["ets"])
    np.testing.assert_allclose(forecasts[1:], [[2.0, 2.0], [7.0, 7.0]], rtol=1e-12)


@pytest.mark.parametrize("hole", [np.nan, np.inf])
def test_a_window_with_a_hole_is_refused(hole):
    x = series(30)[None, :, None].copy()
    x[0, 20] = hole
    with pytest.raises(
        ValueError,
        match="windows must be finite from their first value on; got NaN or inf after it",
    ):
        StatsmodelsForecaster(2).fit(series_table(series(30))).predict_windows(x)


@pytest.mark.parametrize(("n_rows", "season"), [(10, 1), (12, 2), (14, 4), (28, 12), (66, 31)])
@pytest.mark.parametrize("model", MODELS)
def test_the_shortest_history_that_is_taken_is_forecast(model, n_rows, season):
    """A warning that the last value holds would be an error here."""
    forecaster = StatsmodelsForecaster(3, model, season_length=season).fit(
        series_table(series(n_rows))
    )
    assert forecaster.season_length_ == season
    assert np.isfinite(forecaster.predict(level=80).iloc[:, 2:].to_numpy()).all()


def test_a_backtest_judges_their_intervals():
    result = backtest(make("autoreg"), series_table(series(200)), n_windows=60, level=[80])
    assert list(result.frame.columns[-3:]) == ["autoreg", "autoreg-lo-80", "autoreg-hi-80"]
    assert 0.6 < result.scores.loc["autoreg", "coverage-80"] < 0.95


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"model": "prophet"},
            r"model must be one of ets, theta, autoreg, sarimax, stl_ets; got 'prophet'",
        ),
        ({"context": 9}, "context must be a whole number of at least 10; got 9"),
        (
            {"season_length": 0},
            "season_length must be a whole number of at least 1; got 0",
        ),
        ({"lags": True}, "lags must be a whole number"),
        (
            {"order": (1, 0)},
            r"order must be three integers of at least 0, such as \(0, 1, 1\); got \(1, 0\)",
        ),
        ({"seasonal_order": (1, 0, -1)}, "seasonal_order must be three integers"),
        ({"order": "011"}, "order must be three integers"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        StatsmodelsForecaster.from_settings(horizon=2, **settings)


@pytest.mark.parametrize(
    ("settings", "n_rows", "message"),
    [
        ({}, 9, "too short.*but ets needs at least 10 rows"),
        (
            {"season_length": 12},
            23,
            "season_length = 12 needs a context of at least 24 rows; got 23",
        ),
        ({"season_length": 4}, 13, "season_length = 4 needs a context of at least 14 rows; got 13"),
        (
            {"model": "sarimax", "season_length": 12},
            27,
            "season_length = 12 needs a context of at least 28 rows; got 27",
        ),
        (
            {"model": "autoreg", "lags": 10},
            21,
            "lags = 10 need a context of at least 22 rows; got 21",
        ),
        (
            {"model": "sarimax", "order": (9, 1, 1), "season_length": 1},
            12,
            "needs a context of at least 13 rows; got 12",
        ),
    ],
)
def test_a_history_that_is_too_short_is_one_clear_error(settings, n_rows, message):
    with pytest.raises(ValueError, match=message):
        StatsmodelsForecaster.from_settings(horizon=2, **settings).fit(series_table(series(n_rows)))


def test_a_classical_model_must_be_fitted():
    with pytest.raises(ValueError, match="StatsmodelsForecaster is not fitted; call fit"):
        StatsmodelsForecaster(2).predict_windows(np.zeros((1, 60, 1)))[0]
    with pytest.raises(ValueError, match="StatsmodelsForecaster is not fitted"):
        StatsmodelsForecaster(2, context=20).predict(to_panel(series_table(series())))


@pytest.mark.parametrize("model", ["sarimax", "autoreg", "ets", "theta", "stl_ets"])
def test_scikit_learn_clones_classical_models(model):
    forecaster = StatsmodelsForecaster(3, model, order=[1, 0, 0])
    assert clone(forecaster).get_params() == forecaster.get_params()
