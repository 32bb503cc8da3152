"""Regression on lags: its windows, its regressors, its refusals."""

import doctest
import tracemalloc
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from checkout import GOLDEN
from covariate_forecasters import plant_small_gbm
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures
from tables import seasonal_table, wide_table

from tsattn.data.frames import to_panel
from tsattn.data.schema import Schema
from tsattn.evaluate.rolling import roll
from tsattn.forecasters import deadlines, pooled, regression
from tsattn.forecasters.deadlines import time_limit
from tsattn.forecasters.pooled import choose_context, standardise, training_windows
from tsattn.forecasters.regression import SklearnForecaster
from tsattn.forecasters.step_features import StepFeatures


def long(lengths=(60, 45), freq="D", seed=0):
    return seasonal_table(lengths, rate=0.5, noise=0.2, shift=5, seed=seed, freq=freq)


def wide(n_rows=50, n_channels=3):
    values = np.random.default_rng(1).normal(size=(n_rows, n_channels)).cumsum(axis=0)
    return wide_table(values, list("abc")[:n_channels], freq="D")


def windows_by_hand(panel, context, horizon):
    """All windows of all series and channels, one after the other."""
    out = []
    for n in range(panel.n_series):
        values = panel.values[panel.starts[n] : panel.starts[n + 1]]
        for end in range(context, len(values) - horizon + 1):
            for c in range(panel.n_channels):
                x = values[end - context : end, c]
                y = values[end : end + horizon, c]
                out.append(((x - x[-1]) / x.std(), (y - x[-1]) / x.std()))
    return np.array([x for x, _ in out]), np.array([y for _, y in out])


def weights_by_hand(y):
    """A window whose future is larger than one and a half of its spreads counts as if it were not."""
    return np.array([min(1.0, 1.5**2 / np.mean(future**2)) for future in y])


@pytest.fixture
def few_trees(monkeypatch):
    plant_small_gbm(monkeypatch)


@pytest.mark.parametrize("table", [long(), wide()], ids=["long", "wide"])
def test_training_windows_are_those_of_all_series_and_channels(table, assert_close):
    panel = to_panel(table)
    generator = np.random.default_rng(0)
    *found, _ = training_windows(
        panel, context=7, horizon=3, max_windows=10_000, generator=generator, centre="last"
    )
    for actual, expected in zip(found, windows_by_hand(panel, 7, 3), strict=True):
        assert_close(actual, expected)


def test_a_draw_of_windows_is_a_subset_and_bounds_their_number(monkeypatch):
    monkeypatch.setattr(
        pooled, "chunk_size", lambda n_values: 4
    )  # several chunks, as a large panel has
    panel = to_panel(wide())
    whole = {tuple(np.round(row, 9)) for row in np.hstack(windows_by_hand(panel, 7, 3))}
    drawn = []
    for seed in (0, 0, 1):
        x, y, _ = training_windows(
            panel,
            context=7,
            horizon=3,
            max_windows=40,
            generator=np.random.default_rng(seed),
            centre="last",
        )
        rows = [tuple(row) for row in np.round(np.hstack([x, y]), 9)]
        assert len(rows) == len(set(rows)) == 40
        assert set(rows) <= whole
        drawn.append(rows)
    assert drawn[0] == drawn[1] != drawn[2]


def test_windows_that_teach_nothing_are_left_out():
    values = np.arange(30.0)[:, None] ** 2
    values[:12] = 3.0
    values[20] = np.nan
    panel = to_panel(
        pd.DataFrame(values, index=pd.date_range("2024-01-01", periods=30)), Schema(missing="ffill")
    )
    x, y, _ = training_windows(
        panel,
        context=4,
        horizon=2,
        max_windows=99,
        generator=np.random.default_rng(0),
        centre="last",
    )
    assert np.isfinite(x).all()
    assert np.isfinite(y).all()
    # Contexts end after rows 13 to 28; the two whose future holds row 20 end after rows 19 and 20.
    assert len(x) == len(range(13, 29)) - 2
    constant = panel.until(10)
    x, y, _ = training_windows(
        constant,
        context=4,
        horizon=2,
        max_windows=99,
        generator=np.random.default_rng(0),
        centre="last",
    )
    assert len(x) == 5, "constant windows teach where there are no others"
    assert not x.any()
    assert not y.any()


def test_a_table_without_a_whole_future_is_refused():
    values = np.arange(30.0)
    values[10::2] = np.nan
    frame = pd.DataFrame({"a": values}, index=pd.date_range("2024-01-01", periods=30))
    with pytest.raises(ValueError, match="no window has 2 rows in a row that are all known"):
        SklearnForecaster.from_settings(horizon=2, context=10, missing="ffill").fit(frame)


@pytest.mark.parametrize("centre", ["last", "mean"])
@pytest.mark.parametrize("size", [1.0, 1e-200, 1e200])
def test_windows_of_any_size_are_standardised(centre, size):
    x = size * np.random.default_rng(0).normal(size=(5, 8, 2))
    z, level, spread = standardise(x, centre=centre)
    np.testing.assert_allclose(z * spread + level, x, rtol=1e-9)
    np.testing.assert_allclose(z.std(axis=1), 1, rtol=1e-9)
    np.testing.assert_allclose(z[:, -1] if centre == "last" else z.mean(axis=1), 0, atol=1e-9)


@pytest.mark.parametrize("centre", ["last", "mean"])
def test_rounding_dust_is_no_movement(centre):
    x = np.array([0.3, 0.1 + 0.2, 0.3, 0.3]).reshape(1, 4, 1)
    assert x.std() > 0
    z, level, spread = standardise(x, centre=centre)
    assert spread.item() == 0
    assert np.abs(z).max() < 1e-12
    assert level.item() == pytest.approx(0.3)


def test_ridge_is_one_ridge_regression_on_the_lags(assert_close):
    panel = to_panel(long())
    forecaster = SklearnForecaster(3, context=7).fit(panel)
    assert isinstance(forecaster.regressor_, Ridge)
    x, y = windows_by_hand(panel, 7, 3)
    assert forecaster.n_windows_ == len(x)
    # Normal equations by hand; the intercept is not shrunk.
    window_weights = weights_by_hand(y)
    assert window_weights.min() < 1 == window_weights.max()
    means = np.average(x, axis=0, weights=window_weights)
    target_means = np.average(y, axis=0, weights=window_weights)
    centred = x - means
    weighted = centred * window_weights[:, None]
    weights = np.linalg.solve(weighted.T @ centred + np.eye(7), weighted.T @ (y - target_means))
    new = np.random.default_rng(9).normal(size=(4, 7, 2))
    last = new[:, -1:]
    spread = new.std(axis=1, keepdims=True)
    scaled = (new - last) / spread
    answer = (
        np.einsum("btc,tf->bfc", scaled - means[None, :, None], weights)
        + target_means[None, :, None]
    )
    assert_close(forecaster.predict_windows(new)[0], last + spread * answer, "golden")


def sine_of_a_week(n_rows=700):
    noise = np.random.default_rng(0).normal(0, 0.5, n_rows)
    return 5 * np.sin(np.arange(n_rows) * 2 * np.pi / 7) + noise


@pytest.mark.parametrize(
    ("regressor", "noise", "largest"),
    [
        pytest.param("ridge", 0.2, 0.7, id="ridge-weighs"),
        pytest.param("ridge", 1e-3, 0.7, id="ridge"),
        pytest.param("gbm", 1e-3, 0.75, id="gbm"),
        # It has no weights, so that the windows of the hung sensor must not reach it.
        pytest.param(LinearRegression(), 1e-3, 0.9, id="without-weights"),
    ],
)
def test_a_sensor_that_hung_does_not_decide_the_forecasts_of_other_windows(
    regressor, noise, largest
):
    values = sine_of_a_week()
    for first in (100, 300):
        hung = slice(first, first + 21)
        values[hung] = values[first] + noise * np.random.default_rng(1).normal(size=21)
    frame = wide_table(values[:, None], ["y"], freq="D")
    settings = {"context": 14, "max_windows": 150, "random_state": 0}
    forecaster = SklearnForecaster(7, regressor, **settings).fit(frame[:500])
    panel = forecaster.read(frame)
    assert roll(forecaster, panel, np.arange(500, 693), keep=False).mae_original < largest


def test_a_linear_recurrence_is_learnt_exactly():
    t = np.arange(200)
    y = 3 + np.sin(t / 3) + 0.5 * np.cos(t / 5)
    frame = pd.DataFrame({"y": y}, index=pd.date_range("2024-01-01", periods=200))
    forecaster = SklearnForecaster(10, LinearRegression(), context=12).fit(frame[:150])
    np.testing.assert_allclose(
        forecaster.predict_windows(y[None, 150:190, None])[0][0, :, 0], y[190:], atol=1e-6
    )


def test_gbm_is_one_model_of_all_steps_and_learns_what_is_not_linear():
    rng = np.random.default_rng(0)
    y = np.zeros(700)
    for t in range(1, 700):
        y[t] = 1 - 1.5 * y[t - 1] ** 2 / (1 + 0.02 * rng.normal())  # a chaotic map: no line fits it
    frame = pd.DataFrame({"y": y}, index=pd.date_range("2024-01-01", periods=700))
    x = np.lib.stride_tricks.sliding_window_view(y[600:], 10)[:, :8, None]
    truth = np.lib.stride_tricks.sliding_window_view(y[600:], 10)[:, 8:, None]
    errors = {}
    for name in ("ridge", "gbm"):
        forecaster = SklearnForecaster(2, name, context=8, random_state=0).fit(frame[:600])
        errors[name] = np.abs(forecaster.predict_windows(x)[0] - truth).mean()
        assert forecaster.alias_ == name
    assert isinstance(forecaster.regressor_, HistGradientBoostingRegressor)
    assert errors["gbm"] < 0.6 * errors["ridge"]


def test_any_regressor_serves_and_stays_as_it_was():
    mine = make_pipeline(PolynomialFeatures(2), Ridge())
    forecaster = SklearnForecaster(3, mine, context=4).fit(long())
    assert forecaster.alias_ == "Pipeline"
    assert not hasattr(mine[-1], "coef_")
    assert np.isfinite(forecaster.predict()["Pipeline"]).all()
    one = SklearnForecaster(1, GradientBoostingRegressor(n_estimators=3), context=4).fit(long())
    assert one.predict_windows(np.random.default_rng(0).normal(size=(2, 4, 3)))[0].shape == (
        2,
        1,
        3,
    )


def test_seeds_are_explicit():
    def forecast(seed, **settings):
        forest = RandomForestRegressor(n_estimators=3, **settings)
        return (
            SklearnForecaster(2, forest, context=5, random_state=seed)
            .fit(long())
            .predict()
            .iloc[:, 2]
            .to_numpy()
        )

    np.testing.assert_array_equal(forecast(0), forecast(0))
    assert not np.array_equal(forecast(0), forecast(1))
    np.testing.assert_array_equal(forecast(0, random_state=7), forecast(1, random_state=7))


def test_forecasts_follow_shift_and_scale():
    forecaster = SklearnForecaster(3, "ridge", context=7).fit(long())
    x = np.random.default_rng(0).normal(size=(2, 7, 1))
    np.testing.assert_allclose(
        forecaster.predict_windows(1e4 + 1e3 * x)[0],
        1e4 + 1e3 * forecaster.predict_windows(x)[0],
        rtol=1e-9,
    )


def test_a_constant_window_forecasts_its_value_whatever_was_learnt():
    forecaster = SklearnForecaster(
        3, DummyRegressor(strategy="constant", constant=[9.0] * 3), context=7
    ).fit(long())
    np.testing.assert_array_equal(
        forecaster.predict_windows(np.full((1, 7, 1), 0.1))[0].ravel(), [0.1] * 3
    )


def windows_of(n_rows, context, horizon=2):
    """All training windows of a series."""
    panel = to_panel(long((n_rows,), "min"))
    return training_windows(
        panel,
        context=context,
        horizon=horizon,
        max_windows=10_000,
        generator=np.random.default_rng(0),
        centre="mean",
    )


def test_wide_windows_are_in_memory_once():
    tracemalloc.start()
    try:
        z, *_ = windows_of(6000, 2000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert z.shape == (3999, 2000)
    assert peak < 2 * z.nbytes


def test_windows_are_read_only_while_there_is_time():
    with time_limit(0.0), pytest.raises(deadlines.OutOfTime):
        windows_of(400, 20)


@pytest.mark.filterwarnings("ignore:series .* ends at")
def test_context_follows_the_data():
    assert SklearnForecaster(4).fit(long((200, 90))).context_ == 8
    assert SklearnForecaster(4).fit(long((200, 90), "h")).context_ == 24, (
        "a season is longer than two horizons"
    )
    assert SklearnForecaster(4).fit(long((14, 14, 200))).context_ == 5, (
        "half of what the median series leaves"
    )
    assert SklearnForecaster(4).fit(long((200, 5))).context_ == 8
    assert SklearnForecaster(4).fit(long((5, 5))).context_ == 1
    assert choose_context(to_panel(long((9, 9))), 4, None, min_rows=5) == 5
    assert SklearnForecaster(4).context is None


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"regressor": "lasso"},
            ValueError,
            "regressor must be one of ridge, gbm or a regressor.*got 'lasso'",
        ),
        ({"regressor": 3}, TypeError, "regressor must have fit, predict and get_params.*got int"),
        (
            {"context": 0},
            ValueError,
            "context must be a whole number of at least 1; got 0",
        ),
        ({"max_windows": 0}, ValueError, "max_windows must be a whole number"),
    ],
)
def test_bad_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        SklearnForecaster.from_settings(horizon=2, **settings)


@pytest.mark.parametrize("seed", [-1, True, "zero"])
def test_a_bad_seed_is_refused_before_anything_is_learnt(seed):
    model = SklearnForecaster(3, context=7, random_state=seed)
    with pytest.raises(
        ValueError,
        match=r"random_state must be an int of at least 0, a numpy generator or None; got",
    ):
        model.fit(driven())
    drawn = [
        SklearnForecaster(3, context=7, max_windows=50, random_state=np.random.default_rng(k))
        for k in (0, 0, 1)
    ]
    points = [each.fit(driven()).predict()["ridge"].to_numpy() for each in drawn]
    assert (points[0] == points[1]).all()
    assert (points[0] != points[2]).any()


def test_errors_say_what_to_do():
    with pytest.raises(
        ValueError, match="one window of 20 rows of context and 4 of horizon needs at least 24 rows"
    ):
        SklearnForecaster(4, context=20).fit(long((23, 22)))
    fitted = SklearnForecaster(2, context=5).fit(long())
    with pytest.raises(
        ValueError, match=r"ridge gives points only.*SplitConformal\(SklearnForecaster"
    ):
        fitted.predict(level=80)
    with pytest.raises(ValueError, match="SklearnForecaster is not fitted; call fit"):
        SklearnForecaster(2).predict_windows(np.zeros((1, 9, 1)))[0]


def test_the_examples_in_the_docstrings_are_true():
    outcome = doctest.testmod(pooled)
    assert outcome.attempted >= 2
    assert outcome.failed == 0


# --- covariates -----------------------------------------------------------------------------------


def driven(seed=0, n=400):
    """A series that three columns drive: text and a boolean at once, numbers after three rows."""
    rng = np.random.default_rng(seed)
    sky = rng.choice(["clear", "rain", "snow"], n)
    promo = rng.random(n) < 0.3
    temp = rng.normal(size=n)
    drive = pd.Series(sky).map({"clear": 0.0, "rain": -2.0, "snow": 2.0}) + 2.0 * promo
    drive += 2.0 * np.concatenate([np.zeros(3), temp[:-3]])
    frame = {
        "unique_id": "a",
        "ds": pd.date_range("2022-01-01", periods=n),
        "y": 9 + drive + 0.1 * rng.normal(size=n),
    }
    return pd.DataFrame(frame | {"sky": sky, "promo": promo, "temp": temp, "kind": "shop"})


EVERY = Schema(
    past_cols=["temp"], future_cols=["sky", "promo"], static_cols=["kind"], calendar=["weekday"]
)


@pytest.mark.usefixtures("few_trees")
@pytest.mark.parametrize(("name", "share"), [("ridge", 0.45), ("gbm", 0.45)])
def test_covariates_that_drive_the_target_are_used(name, share):
    frame = driven()
    errors = []
    for schema in (EVERY, Schema()):
        model = SklearnForecaster(3, name, context=7, random_state=0, schema=schema).fit(
            frame[:300]
        )
        errors.append(roll(model, model.read(frame), np.arange(300, 398), keep=False).mae_original)
    assert errors[0] < share * errors[1]


def test_a_calendar_that_drives_the_target_is_used():
    frame = driven().assign(y=lambda f: np.where(f["ds"].dt.dayofweek == 2, 5.0, 0.0) + f["temp"])
    errors = []
    for schema in (Schema(calendar="auto"), Schema()):
        model = SklearnForecaster(3, "gbm", context=5, random_state=0, schema=schema).fit(
            frame[:300]
        )
        errors.append(roll(model, model.read(frame), np.arange(300, 398), keep=False).mae_original)
    assert errors[0] < 0.75 * errors[1]


def test_ridge_with_covariates_is_one_regression_on_lags_and_on_the_columns_of_all_steps():
    frame = driven()
    context = 5
    horizon = 3
    model = SklearnForecaster(horizon, context=context, schema=EVERY.changed(calendar=())).fit(
        frame
    )
    temp = ((frame["temp"] - frame["temp"].mean()) / frame["temp"].std(ddof=0)).to_numpy()
    promo = ((frame["promo"] - frame["promo"].mean()) / frame["promo"].std(ddof=0)).to_numpy()
    known = np.column_stack(
        [(frame["sky"] == sky).astype(float) for sky in ("clear", "rain", "snow")] + [promo]
    )
    x, y = windows_by_hand(to_panel(frame), context, horizon)
    rows = np.arange(context, len(frame) - horizon + 1)
    more = [
        np.concatenate(
            [
                temp[r - context : r],
                known[r - context : r].mean(0),
                [1.0],
                known[r : r + horizon].ravel(),
            ]
        )
        for r in rows
    ]
    whole_fit = Ridge(alpha=1.0).fit(
        np.concatenate([x, more], axis=1), y, sample_weight=weights_by_hand(y)
    )
    np.testing.assert_allclose(model.regressor_.coef_, whole_fit.coef_, atol=1e-5)


def test_a_step_of_gbm_reads_no_column_after_it():
    frame = driven()
    model = SklearnForecaster(3, "gbm", context=7, random_state=0, schema=EVERY).fit(frame[:-3])
    future = frame[-3:]
    whole_forecast = model.predict(future=future)["gbm"].to_numpy()
    other = model.predict(future=future.assign(promo=future["promo"] ^ (future.index == 398)))[
        "gbm"
    ].to_numpy()
    assert other[0] == whole_forecast[0]
    assert other[1] != whole_forecast[1]
    np.testing.assert_array_equal(
        model.predict(future=future[:2], horizon=2)["gbm"], whole_forecast[:2]
    )


def test_columns_of_later_steps_that_ridge_misses_are_told():
    frame = driven()
    model = SklearnForecaster(3, "ridge", context=7, schema=EVERY).fit(frame[:-3])
    with pytest.warns(UserWarning, match="ridge reads the columns of all 3 steps together"):
        model.predict(future=frame[-3:-1], horizon=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(future=frame[-3:], horizon=2)


def test_gbm_learns_from_the_known_steps_of_futures_with_gaps():
    values = np.sin(np.arange(200) / 3)
    values[10::2] = np.nan  # no two steps in a row are known
    frame = pd.DataFrame({"a": values}, index=pd.date_range("2024-01-01", periods=200))
    model = SklearnForecaster(
        3, "gbm", context=10, random_state=0, schema=Schema(missing="interpolate")
    ).fit(frame)
    truth = np.sin(np.arange(200, 203) / 3)
    assert np.abs(model.predict()["a"].to_numpy() - truth).mean() < 0.25


def test_pairs_of_gbm_are_bounded_and_drawn_from_all_windows(monkeypatch):
    monkeypatch.setattr(regression, "_TREE_ROWS", 200)
    model = SklearnForecaster(6, "gbm", context=8, random_state=0)
    panel = model.read(long((120, 90)))
    features = StepFeatures(8, 6, (7,))
    x, y, n_windows = model._pairs(panel, features, None, np.random.default_rng(0))
    assert n_windows == 120 + 90 - 2 * 13
    assert x.shape == (n_windows, features.width)
    assert y.shape == (n_windows,)
    assert set(x[:, 0]) == set(range(1, 7)), "each step is drawn"


def test_files_with_one_model_a_step_still_open():
    model = SklearnForecaster.load(GOLDEN / "gbm_per_step")
    future = model.make_future_frame().assign(promo=[1.0, 0.0])
    expected = pd.read_csv(GOLDEN / "gbm_per_step_forecast.csv", parse_dates=["ds"])
    pd.testing.assert_frame_equal(model.predict(future=future), expected, check_dtype=False)


@pytest.mark.usefixtures("few_trees")
@pytest.mark.parametrize("name", ["ridge", "gbm"])
def test_saved_regressions_keep_their_covariates(name, tmp_path):
    frame = driven()
    model = SklearnForecaster(3, name, context=7, random_state=0, schema=EVERY).fit(frame[:-3])
    model.save(tmp_path / "m")
    loaded = SklearnForecaster.load(tmp_path / "m")
    assert loaded.covariate_columns_ == model.covariate_columns_
    pd.testing.assert_frame_equal(
        loaded.predict(future=frame[-3:]), model.predict(future=frame[-3:])
    )
    foggy = frame[-3:].assign(sky="fog")
    with pytest.warns(UserWarning, match="'fog' in column 'sky'"):
        pd.testing.assert_frame_equal(loaded.predict(future=foggy), model.predict(future=foggy))
    loaded.save(tmp_path / "again")
    reloaded = SklearnForecaster.load(tmp_path / "again")
    pd.testing.assert_frame_equal(
        reloaded.predict(future=frame[-3:]), model.predict(future=frame[-3:])
    )
    with pytest.raises(ValueError, match="column 'sky' of future= is missing"):
        loaded.predict(future=frame[-2:])


def test_a_fit_without_covariates_forgets_those_of_the_fit_before():
    frame = driven()
    model = SklearnForecaster(3, context=7, random_state=0, schema=EVERY).fit(frame)
    model.set_params(schema=Schema()).fit(frame)
    expected = SklearnForecaster(3, context=7, random_state=0).fit(frame).predict()
    pd.testing.assert_frame_equal(model.predict(), expected)


@pytest.mark.usefixtures("few_trees")
@pytest.mark.parametrize("name", ["ridge", "gbm"])
@pytest.mark.parametrize(
    "schema", [Schema(past_cols=["temp"]), Schema(future_cols=["sky", "promo"]), EVERY]
)
def test_covariates_of_a_short_series_are_lengthened_as_its_values_are(name, schema):
    frame = driven()
    few = driven(1, 20)
    model = SklearnForecaster(3, name, context=30, random_state=0, schema=schema).fit(frame)
    future = few[:3].assign(ds=few["ds"].iloc[-1] + pd.to_timedelta([1, 2, 3], unit="D"))
    beside = frame[-60:].assign(
        unique_id="b", ds=few["ds"].iloc[-1] - pd.to_timedelta(np.arange(60)[::-1], unit="D")
    )
    told = (
        [future, pd.concat([future, future.assign(unique_id="b")])]
        if schema.future_cols
        else [None, None]
    )
    own_forecast = model.predict(few, future=told[0])
    both_forecasts = model.predict(pd.concat([few, beside]), future=told[1])
    np.testing.assert_allclose(
        both_forecasts[both_forecasts["unique_id"] == "a"][name], own_forecast[name], rtol=1e-9
    )


@pytest.mark.usefixtures("few_trees")
def test_a_limited_time_reads_windows_that_are_spread_evenly(monkeypatch):
    """Ten windows take a second. Of 20 seconds, 8 are for windows, and one pass has begun then."""
    clock = SimpleNamespace(seconds=0.0)
    clock.monotonic = lambda: clock.seconds
    for each in (regression, deadlines):
        monkeypatch.setattr(each, "time", clock)
    monkeypatch.setattr(regression, "chunk_size", lambda width: 10)
    monkeypatch.setattr(regression, "fit_boosted", lambda learner, x, y: learner.fit(x, y))
    rows = StepFeatures.rows
    seen = []

    def slow(self, z, parts, steps):
        clock.seconds += 1
        seen.extend(parts["known"][:, 0, 0].tolist())
        return rows(self, z, parts, steps)

    monkeypatch.setattr(StepFeatures, "rows", slow)
    n = 600
    value = np.random.default_rng(0).normal(size=n)
    frame = pd.DataFrame({"ds": np.arange(n), "y": value, "row": np.arange(n) / n})
    n_windows = {}
    for seconds in (20.0, np.inf):
        seen.clear()
        model = SklearnForecaster(4, "gbm", context=8, schema=Schema(future_cols=["row"]))
        with time_limit(seconds):
            model.fit(frame)
        n_windows[seconds] = model.n_windows_
        assert len(seen) == model.n_windows_
        assert np.ptp(seen) > 0.95 * np.ptp(
            (frame["row"] - frame["row"].mean()) / frame["row"].std()
        )
    assert n_windows == {20.0: 90, np.inf: n - 8 - 4 + 1}
