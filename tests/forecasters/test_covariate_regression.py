"""Columns of forecasters that read none themselves: regressions before and after them, weighed on
held-out windows.
"""

import functools
import json
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from covariate_forecasters import LEARNING_RATE, N_TREES, plant_few_trees
from sklearn.ensemble import HistGradientBoostingRegressor
from tables import wide_covariate_frame
from tiny_network import tiny_network

import tsattn
from tsattn import PretrainedForecaster
from tsattn.adapters.export import export_program
from tsattn.data.covariates import CovariateColumns
from tsattn.data.encoding import CovariateHistory
from tsattn.data.frames import to_panel
from tsattn.data.schema import Schema
from tsattn.data.windows import History
from tsattn.evaluate.backtest import backtest
from tsattn.evaluate.conformal import SplitConformal
from tsattn.evaluate.rolling import roll
from tsattn.forecasters import band_widths, boosted_trees, covariate_weights, deadlines
from tsattn.forecasters.band_widths import BandWidths
from tsattn.forecasters.boosted_trees import BoostedTrees
from tsattn.forecasters.covariate_regression import CovariateRegression, has_ended, make_encoder
from tsattn.forecasters.covariate_weights import (
    Origins,
    PastForecasts,
    _Answer,
    _Opinions,
    fit_covariate_regression,
)
from tsattn.forecasters.deadlines import OutOfTime, time_limit
from tsattn.forecasters.linear import LinearForecaster
from tsattn.forecasters.pooled_regression import (
    NormalEquations,
    PooledRegression,
    WindowFeatures,
    target_features,
)

H = 4
ROWS = 420
TEST = 100
MAKERS = {
    "zero": lambda schema: PretrainedForecaster(H, schema=schema, n_threads=1),
    "least_squares": lambda schema: LinearForecaster(
        H, "rlinear", closed_form=True, context=28, schema=schema
    ),
}
EACH = pytest.mark.parametrize("name", MAKERS)
SCHEMA = Schema(id_col="unique_id", missing="interpolate")


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    plant_few_trees(monkeypatch)


def series(seed=0, effect=lambda rng, n: (0.0, {}), n=ROWS):
    """A week, noise, and an effect of columns; ``effect`` gives both."""
    rng = np.random.default_rng(seed)
    week = np.sin(2 * np.pi * np.arange(n) / 7)
    added, columns = effect(rng, n)
    frame = {
        "unique_id": "a",
        "ds": pd.date_range("2022-01-01", periods=n),
        "y": 20 + week + 0.3 * rng.normal(size=n),
    }
    return pd.DataFrame(frame | columns).assign(y=lambda f: f["y"] + added)


def promotion(rng, n):
    promo = rng.random(n) < 0.3
    return 3.0 * promo, {"promo": promo}


def sky(rng, n):
    told = rng.choice(["clear", "rain", "snow"], n)
    return pd.Series(told).map({"clear": 0.0, "rain": -2.0, "snow": 2.0}).to_numpy(), {"sky": told}


def lagged(rng, n):
    temp = rng.normal(size=n)
    return 2 * np.concatenate([np.zeros(H), temp[:-H]]), {"temp": temp}


def comfort(rng, n):
    heat = rng.normal(size=n)
    return 2 * heat**2, {"heat": heat}


def storm(rng, n):
    heat, wind = rng.normal(size=(2, n))
    return heat + 4.0 * (heat * wind > 0), {"heat": heat, "wind": wind}


def error(name, frame, schema):
    """MAE over all windows of the last rows, fitted on the rows before, and the forecaster."""
    model = MAKERS[name](schema).fit(frame[:-TEST])
    return (
        roll(
            model, model.read(frame), np.arange(ROWS - TEST, ROWS - H + 1, 4), keep=False
        ).mae_original,
        model,
    )


@functools.cache
def promoted():
    """Fitted once on all but the last rows of a series with promotions."""
    schema = SCHEMA.changed(future_cols=["promo"])
    return MAKERS["zero"](schema).fit(series(1, promotion)[:-H])


def regression_of(model):
    if isinstance(model, PretrainedForecaster):
        return model.covariate_regression_
    return model.fitted_.covariate_regression


# --- is it used? ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "effect", "columns"),
    [
        ("zero", promotion, {"future_cols": ["promo"]}),
        ("zero", lagged, {"past_cols": ["temp"]}),
        ("least_squares", promotion, {"future_cols": ["promo"]}),
        ("least_squares", sky, {"future_cols": ["sky"]}),
        ("least_squares", lagged, {"past_cols": ["temp"]}),
        ("least_squares", comfort, {"future_cols": ["heat"]}),
    ],
)
def test_a_column_that_the_base_cannot_know_is_used(name, effect, columns):
    frame = series(1, effect)
    with_columns, model = error(name, frame, SCHEMA.changed(**columns))
    assert with_columns < 0.45 * error(name, frame, SCHEMA)[0]
    assert regression_of(model).active
    assert regression_of(model).error_ratio < 0.6


def test_a_static_column_is_used():
    def kind(own):
        def effect(rng, n):
            return 5.0 * (np.arange(n) % 7 == 2) * (own == "shop"), {"kind": own}

        return effect

    frame = pd.concat(
        [series(i, kind("shop" if i % 2 else "mill")).assign(unique_id=f"s{i}") for i in range(6)]
    )
    past = frame[frame.groupby("unique_id").cumcount() < ROWS - TEST]

    def judged(schema):
        model = LinearForecaster(H, "rlinear", closed_form=True, context=14, schema=schema).fit(
            past
        )
        panel = model.read(frame)
        ends = panel.starts[:-1, None] + np.arange(ROWS - TEST, ROWS - H + 1)
        return roll(model, panel, ends, keep=False).mae_original

    assert judged(SCHEMA.changed(static_cols=["kind"])) < 0.9 * judged(SCHEMA)


def test_a_calendar_alone_is_used():
    frame = series(3).assign(
        y=lambda f: f["y"] + 4.0 * np.sin(2 * np.pi * f["ds"].dt.day / f["ds"].dt.days_in_month)
    )
    assert (
        error("zero", frame, SCHEMA.changed(calendar=["monthday"]))[0]
        < 0.4 * error("zero", frame, SCHEMA)[0]
    )


@EACH
@pytest.mark.parametrize("kind", ["future_cols", "past_cols"])
def test_a_column_of_noise_leaves_the_forecast_to_the_bit(name, kind):
    frame = series(2, n=200).assign(noise=np.random.default_rng(5).normal(size=200))
    past = frame[:-H]
    after = frame[-H:]
    plain = MAKERS[name](SCHEMA).fit(past)
    model = MAKERS[name](SCHEMA.changed(**{kind: ["noise"]})).fit(past)
    future = after[["unique_id", "ds", "noise"]] if kind == "future_cols" else None
    pd.testing.assert_frame_equal(
        model.predict(future=future, level=80), plain.predict(level=80), check_exact=True
    )
    assert not regression_of(model).active


def decoy(kind, rng, n):
    """A column that has nothing to do with the target, and moves as some do."""
    t = np.arange(n)
    if kind == "noise":
        return rng.normal(size=n)
    if kind == "walk":
        return rng.normal(size=n).cumsum()
    if kind == "other season":
        return np.sin(2 * np.pi * t / 11) + 0.1 * rng.normal(size=n)
    if kind == "same season":
        return np.cos(2 * np.pi * t / 7) + 0.3 * rng.normal(size=n)
    if kind == "trend":
        return t + 5 * rng.normal(size=n)
    if kind == "rare days":
        return (rng.random(n) < 0.03).astype(float)
    return rng.choice(["a", "b", "c", "d"], n)


DECOYS = ("noise", "walk", "other season", "same season", "trend", "rare days", "text")


def drifting():
    """Three series that drift a little."""
    rng = np.random.default_rng(8)
    parts = []
    for i in range(3):
        own = series(10 + i).assign(unique_id=f"s{i}")
        parts.append(own.assign(y=own["y"] + 0.1 * rng.normal(size=ROWS).cumsum()))
    return pd.concat(parts)


def error_on_drifting(name, schema, frame):
    past = frame[frame.groupby("unique_id").cumcount() < ROWS - TEST]
    model = MAKERS[name](schema).fit(past)
    panel = model.read(frame)
    ends = panel.starts[:-1, None] + np.arange(ROWS - TEST, ROWS - H + 1, 3)
    return roll(model, panel, ends.ravel(), keep=False).mae_original


@functools.cache
def error_without_decoys(name):
    return error_on_drifting(name, SCHEMA, drifting())


# What is weighed are forecasts of any base: the slow one has a column of numbers and one of text.
@pytest.mark.parametrize(
    ("name", "kind"),
    [*(("least_squares", kind) for kind in DECOYS), ("zero", "walk"), ("zero", "text")],
)
def test_columns_that_do_not_matter_do_not_hurt(name, kind):
    frame = drifting()
    rng = np.random.default_rng(9)
    frame["a"] = np.concatenate([decoy(kind, rng, ROWS) for _ in range(3)])
    frame["b"] = frame["a"].sample(frac=1, random_state=0).to_numpy()
    schema = SCHEMA.changed(future_cols=["a"], past_cols=["b"])
    assert error_on_drifting(name, schema, frame) <= 1.02 * error_without_decoys(name)


def test_texts_that_do_not_matter_hardly_hurt_beside_a_column_that_does():
    """The column that matters makes columns worth their while, so only their weights are left."""
    rng = np.random.default_rng(9)
    frame = drifting()
    promo = rng.random(len(frame)) < 0.3
    texts = rng.choice([*"abcdefgh"], (4, len(frame)))
    decoys = dict(zip("abcd", texts, strict=True))
    frame = frame.assign(y=frame["y"] + 3.0 * promo, promo=promo, **decoys)
    helpful = SCHEMA.changed(future_cols=["promo"])
    every = SCHEMA.changed(future_cols=["promo", "a", "b"], past_cols=["c", "d"])
    least = error_on_drifting("least_squares", helpful, frame)
    assert error_on_drifting("least_squares", every, frame) <= 1.3 * least


def rare(size):
    """An event every 120 days, with an effect of some size."""

    def effect(rng, n):
        event = np.zeros(n)
        event[45::120] = 1.0
        return size * event, {"event": event}

    return effect


# The larger effect is that of an outlier, which the column explains.
@pytest.mark.parametrize("size", [8.0, 80.0])
def test_rare_events_have_their_effect(size):
    """The last quarter of the windows holds two of six."""
    frame = series(1, rare(size), n=680)
    schema = SCHEMA.changed(future_cols=["event"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = MAKERS["zero"](schema).fit(frame)
        future = model.make_future_frame().assign(event=[0.0, 1.0, 0.0, 0.0])
        point = model.predict(future=future)["zero"].to_numpy()
    assert regression_of(model).share == 1
    assert point[1] - np.delete(point, 1).max() > 0.7 * size


def test_columns_of_the_past_explain_no_outliers():
    """They do not say when the next one comes."""
    frame = series(1, rare(80.0), n=680)
    schema = SCHEMA.changed(past_cols=["event"])
    with pytest.warns(UserWarning, match="far from its neighbours .and 5 more"):
        MAKERS["zero"](schema).fit(frame)


def hung(frame):
    """A table whose sensor hangs three times for a month."""
    frame = frame.copy()
    step = frame.groupby("unique_id").cumcount()
    for first in (62, 152, 252):
        is_first = step.between(first, first + 29)
        frame.loc[is_first & (step > first), "y"] = np.nan
        frame["y"] = frame["y"].ffill()
    return frame


def test_a_sensor_that_hangs_hardly_hurts_and_is_told():
    """Its values say that columns have no effect."""
    frame = series(1, promotion)
    past = hung(frame[:-TEST])
    schema = Schema(id_col="unique_id", future_cols=["promo"])
    with pytest.warns(UserWarning, match=r"'a' repeats .* \(and 86 more\), though"):
        model = MAKERS["zero"](schema).fit(past)
    panel = to_panel(pd.concat([past, frame[-TEST:]]), schema)
    ends = np.arange(ROWS - TEST, ROWS - H + 1, 4)
    error_of_hung = roll(model, panel, ends, keep=False).mae_original
    assert error_of_hung <= 1.1 * error("zero", frame, schema)[0]


def weather(rng, n):
    """A temperature that drifts, and its effect."""
    drift = np.zeros(n)
    for step in range(1, n):
        drift[step] = 0.9 * drift[step - 1] + rng.normal()
    return drift, {"temp": drift.round(3)}


def with_hung_column(frame):
    """A table whose column hangs twice."""
    frame = frame.copy()
    for first, last in ((62, 120), (152, 182)):
        frame.loc[first:last, "temp"] = frame.loc[first, "temp"]
    return frame


def test_a_column_that_hangs_hardly_hurts():
    """Its rows say that the column has no effect."""
    frame = series(2, weather)
    schema = SCHEMA.changed(future_cols=["temp"])
    with pytest.warns(UserWarning, match="column 'temp' repeats"):
        error_of_spoilt, _ = error("zero", with_hung_column(frame), schema)
    assert error_of_spoilt <= 1.15 * error("zero", frame, schema)[0]


@EACH
def test_a_column_that_hangs_is_told(name):
    frame = with_hung_column(series(2, weather))
    model = MAKERS[name](SCHEMA.changed(future_cols=["temp"]))
    with pytest.warns(UserWarning, match=r"column 'temp' repeats .* \(and 87 more\), though"):
        model.read(frame)


def test_the_local_regression_learns_nothing_beside_a_column_that_hangs():
    frame = series(1, weather)
    model = MAKERS["zero"](SCHEMA.changed(future_cols=["temp"])).fit(frame)
    regression = regression_of(model)
    panel = model.panel_
    ends = np.array([ROWS - H])
    x = model.windows(History(panel), ends)
    covariates = model.covariate_history(panel).windows(ends, x.shape[1], H)
    first = x.shape[1] - 80
    hung = covariates.known.copy()
    hung[:, first : first + 40, 0] = hung[:, first, None, 0]
    spoilt = replace(covariates, known=hung)
    rows = np.arange(first + 1, first + 40)
    other = x.copy()
    other[:, rows] += 100
    effect = regression.effects(x, spoilt)
    assert np.isnan(effect[0, rows]).all()
    assert np.isfinite(np.delete(effect[0], rows, axis=0)).all()
    # Whatever the target is in these rows.
    np.testing.assert_array_equal(effect, regression.effects(other, spoilt))


def with_wrong_values(frame, share):
    """A table of which a share of the values, drawn at random, is ten times as large."""
    frame = frame.copy()
    is_wrong = np.random.default_rng(5).random(len(frame)) < share
    frame.loc[is_wrong, "y"] *= 10
    return frame


def test_scattered_wrong_values_hardly_hurt_beside_columns_and_are_told(tmp_path):
    """With them the effect of the columns is lost."""
    frame = series(1, promotion)
    past = with_wrong_values(frame[:-TEST], 0.03)
    schema = Schema(id_col="unique_id", future_cols=["promo"])
    with pytest.warns(UserWarning, match="far from its neighbours .and 13 more"):
        model = MAKERS["zero"](schema).fit(past)
    assert regression_of(model).leaves_out
    table = pd.concat([past, frame[-TEST:]])
    ends = np.arange(ROWS - TEST, ROWS - H + 1, 4)
    error_of_spoilt = roll(model, to_panel(table, schema), ends, keep=False).mae_original
    assert error_of_spoilt <= 1.1 * error("zero", frame, schema)[0]
    model.save(tmp_path / "m")
    loaded = PretrainedForecaster.load(tmp_path / "m")
    with pytest.warns(UserWarning, match="far from its neighbours"):
        answer = loaded.predict(future=frame[-TEST:][:H].drop(columns="y"), data=past)
    with pytest.warns(UserWarning, match="far from its neighbours"):
        expected = model.predict(future=frame[-TEST:][:H].drop(columns="y"), data=past)
    pd.testing.assert_frame_equal(answer, expected)


def test_values_are_left_out_only_where_there_is_time_to_see_what_it_brings(monkeypatch):
    past = with_wrong_values(series(1, promotion)[:-TEST], 0.03)
    of = PastForecasts.of
    left_out = []

    def of_first(regression, *arguments):
        left_out.append(regression.leaves_out)
        if regression.leaves_out:
            raise OutOfTime
        return of(regression, *arguments)

    monkeypatch.setattr(PastForecasts, "of", of_first)
    schema = Schema(id_col="unique_id", future_cols=["promo"])
    model = MAKERS["zero"](schema).fit(past)
    assert left_out == [False, True]
    assert not regression_of(model).leaves_out


def out_of_time(*_, **__):
    raise OutOfTime


@pytest.mark.parametrize("missing", [(), ("trees",), ("last trees",), ("trees", "pooled")])
def test_what_there_is_no_time_for_is_left_out_and_the_rest_stays(monkeypatch, missing):
    """Trees that would not end used to cost the pooled regression, and that one all columns."""
    fitted = []
    trees = PastForecasts._trees

    def last_is_late(self, share, rows):
        fitted.append(rows)
        # The last fit reads the windows that learn and those that check.
        is_last = len(rows.features) > len(fitted[0].features)
        if is_last and missing == ("last trees",):
            raise OutOfTime
        return trees(self, share, rows)

    monkeypatch.setattr(PastForecasts, "_trees", last_is_late)
    if "trees" in missing:
        monkeypatch.setattr(PastForecasts, "_tree_rows", out_of_time)
    if "pooled" in missing:
        monkeypatch.setattr(PastForecasts, "_pooled", out_of_time)
    schema = SCHEMA.changed(future_cols=["heat", "wind"])
    past = series(1, storm)[:-TEST]
    with time_limit(1000):
        model = MAKERS["zero"](schema).fit(past)
    regression = regression_of(model)
    assert regression.active
    assert regression.share > 0
    assert (regression.trees is None) == bool(missing)
    assert (regression.trees_weight == 0) == bool(missing)
    if "pooled" in missing:
        assert regression.pooled is None


def test_trees_are_tried_at_the_best_share_first_and_not_at_those_far_behind(monkeypatch):
    tried = []
    with_trees = PastForecasts._with_trees

    def watched(self, share, learn, check):
        tried.append(share)
        return with_trees(self, share, learn, check)

    monkeypatch.setattr(PastForecasts, "_with_trees", watched)
    schema = SCHEMA.changed(future_cols=["promo"])
    MAKERS["zero"](schema).fit(series(1, promotion)[:-TEST])
    # Without the promotion the error is more than twice as large.
    assert tried == [1.0]
    tried.clear()
    noise = series(1, lambda rng, n: (0.0, {"promo": rng.random(n) < 0.3}))
    MAKERS["zero"](schema).fit(noise[:-TEST])
    assert set(tried) == {0.0, 0.5, 1.0}
    assert tried[0] == 0.5


def test_trees_of_one_share_stay_where_those_of_the_next_do_not_end(monkeypatch):
    tried = []
    with_trees = PastForecasts._with_trees
    kept = []
    chosen = PastForecasts._chosen

    def first_alone(self, share, learn, check):
        tried.append(share)
        if len(tried) > 1:
            raise OutOfTime
        return with_trees(self, share, learn, check)

    def watched(self, learn, check, options, rows, target):
        kept.extend(option.share for option in options)
        assert rows is not None
        return chosen(self, learn, check, options, rows, target)

    monkeypatch.setattr(PastForecasts, "_with_trees", first_alone)
    monkeypatch.setattr(PastForecasts, "_chosen", watched)
    noise = series(1, lambda rng, n: (0.0, {"promo": rng.random(n) < 0.3}))
    MAKERS["zero"](SCHEMA.changed(future_cols=["promo"])).fit(noise[:-TEST])
    assert tried[:1] == kept
    assert len(tried) == 2


def mixer(truth):
    """Windows whose truths [B, F, C] were forecast as 0, in units of 1."""
    zeros = np.zeros_like(truth)
    numbers = np.arange(len(truth))
    return PastForecasts(
        regression=None,
        windows=None,
        origins=Origins(numbers, numbers >= 0, 1.0),
        truth=truth,
        location=None,
        spread=np.ones((len(truth), 1, 1)),
        effect=zeros,
        answers={0.0: _Answer(zeros, zeros)},
    )


@pytest.mark.parametrize(("effect_seen", "weight"), [(0.84, 1.0), (0.801, 0.0)])
def test_the_pooled_regression_counts_only_where_it_is_clearly_better_with_it(effect_seen, weight):
    truth = np.random.default_rng(0).normal(size=(40, 3, 1))
    no_effect = np.zeros_like(truth)
    numbers = np.arange(len(truth))
    past = mixer(truth)
    # Trees see four fifths of what came. The pooled regression leaves a fifth less of the rest in the
    # first case and half a percent less in the second.
    opinions = _Opinions(effect_seen * truth, 0.8 * truth, no_effect)
    mix = past._best_mix(0.0, opinions, numbers)
    assert mix.pooled_weight == weight
    assert mix.trees_weight == 1 - weight
    assert mix.target_weight == 0


@pytest.mark.parametrize(("effect_seen", "weight"), [(0.9, 0.5), (0.802, 0.0)])
def test_target_trees_count_only_where_it_is_clearly_better_with_them(effect_seen, weight):
    truth = np.random.default_rng(0).normal(size=(40, 3, 1))
    opinions = _Opinions(np.zeros_like(truth), 0.8 * truth, effect_seen * truth)
    mix = mixer(truth)._best_mix(0.0, opinions, np.arange(len(truth)))
    assert mix.target_weight == weight
    assert mix.trees_weight == 1 - weight


def test_a_declined_pooled_regression_does_not_come_back_with_target_trees():
    """It is half a percent better than the trees, and target trees leave half as much."""
    truth = np.random.default_rng(0).normal(size=(40, 3, 1))
    opinions = _Opinions(0.801 * truth, 0.8 * truth, 0.9 * truth)
    mix = mixer(truth)._best_mix(0.0, opinions, np.arange(len(truth)))
    assert mix[:3] == (0.0, 0.5, 0.5)


def fitted_to_noise(monkeypatch):
    """Of a table with promotions and a base that forecasts noise, without the pooled regression,
    which would take the noise back.
    """
    panel = to_panel(series(2, promotion), SCHEMA.changed(future_cols=["promo"]))
    encoder = make_encoder(CovariateColumns(future=("promo",)), panel)
    monkeypatch.setattr(PastForecasts, "_pooled", out_of_time)
    rng = np.random.default_rng(0)

    def noise(x, quantiles):
        point = 5.0 * rng.normal(size=(len(x), H, 1))
        return point, point[..., None] + np.array(quantiles)

    def windows(history, ends):
        return history.reaching(ends, 28)

    return fit_covariate_regression(noise, windows, panel, encoder, horizon=H, min_rows=28)


def test_target_trees_count_where_the_base_forecasts_nothing(monkeypatch):
    regression = fitted_to_noise(monkeypatch)
    assert regression.target_weight == 0.5
    monkeypatch.setattr(covariate_weights, "_MOST_TARGET_WEIGHT", 0.0)
    without = fitted_to_noise(monkeypatch)
    assert without.target_trees is None
    assert regression.error_ratio < 0.9 * without.error_ratio


@pytest.mark.parametrize("n_in_time", [0, 1])
def test_target_trees_that_would_not_end_are_left_out_and_the_others_stay(monkeypatch, n_in_time):
    target_trees = PastForecasts._target_trees
    fitted = []

    def late(self, rows):
        fitted.append(rows)
        if len(fitted) > n_in_time:
            raise OutOfTime
        return target_trees(self, rows)

    monkeypatch.setattr(PastForecasts, "_target_trees", late)
    regression = fitted_to_noise(monkeypatch)
    assert len(fitted) == n_in_time + 1
    assert regression.target_trees is None
    assert regression.target_weight == 0
    assert regression.trees is not None
    assert regression.trees_weight > 0


def test_target_trees_have_half_of_the_weight_at_most():
    truth = np.random.default_rng(0).normal(size=(40, 3, 1))
    none = np.zeros_like(truth)
    mix = mixer(truth)._best_mix(0.0, _Opinions(none, 0.8 * truth, truth), np.arange(len(truth)))
    assert mix[:3] == (0.0, 0.5, 0.5)
    np.testing.assert_allclose(mix.losses, 0.1 * np.abs(truth).mean(axis=(1, 2)))


def test_few_rows_teach_nothing():
    frame = series(2, promotion)[:30]
    plain = PretrainedForecaster(H, weights=tiny_network(), schema=SCHEMA).fit(frame)
    model = PretrainedForecaster(
        H, weights=tiny_network(), schema=SCHEMA.changed(future_cols=["promo"])
    ).fit(frame)
    answer = model.predict(future=model.make_future_frame().assign(promo=True))
    pd.testing.assert_frame_equal(answer, plain.predict(), check_exact=True)


@pytest.mark.parametrize("scale", [0.0, 1e-150, 1e150])
def test_constants_and_values_of_any_size_are_forecast(scale):
    frame = series(1, promotion, n=200).assign(y=lambda f: scale * f["y"] + (scale == 0))
    model = MAKERS["zero"](SCHEMA.changed(future_cols=["promo"])).fit(frame[:-H])
    point = model.predict(future=frame[-H:])["zero"].to_numpy()
    np.testing.assert_allclose(point, frame["y"][-H:], rtol=0.1)
    assert regression_of(model).active == (scale != 0)


def test_one_call_reads_the_columns_of_the_future():
    frame = series(1, promotion)[["ds", "y", "promo"]]
    future = frame[-H:].drop(columns="y")
    answer = tsattn.forecast(frame[:-H], H, future=future)
    expected = promoted().predict(future=future.assign(unique_id="a"))
    pd.testing.assert_series_equal(answer["zero"], expected["zero"])
    assert np.abs(answer["zero"] - frame["y"][-H:].to_numpy()).mean() < 1


# --- what exactly is done? ------------------------------------------------------------------------


def test_future_columns_that_the_table_lacks_are_refused():
    days = pd.date_range("2024-01-01", periods=60)
    df = pd.DataFrame({"unique_id": "a", "ds": days, "y": np.arange(60.0), "promo": 0})
    future = pd.DataFrame({"unique_id": "a", "ds": days[-1:] + pd.Timedelta("1D"), "promo": 1})
    with pytest.raises(
        ValueError, match=r"column 'temp' of future= is not in the table, .*; leave"
    ):
        tsattn.forecast(df, 1, future=future.assign(temp=3.0))
    assert len(tsattn.forecast(df, 1, future=future)) == 1


def test_a_ridge_regression_is_that_of_standardised_features(assert_close):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 9, 5)) * [1, 10, 0.1, 1, 1] + 3
    y = rng.normal(size=(6, 9))
    x[..., 4] = 7.0
    y[2, 3] = np.nan
    sums = NormalEquations(5)
    rest = NormalEquations(5)
    sums.add(x[:4], y[:4])
    rest.add(x[4:], y[4:])
    sums.join(rest)
    regression = sums.solve(0.3, squares=False)
    observed = np.isfinite(y)
    a = x[observed][:, :4]
    t = y[observed]
    z = (a - a.mean(0)) / a.std(0)
    weights = np.linalg.solve(z.T @ z / len(z) + 0.3 * np.eye(4), z.T @ (t - t.mean()) / len(z))
    assert_close(regression(x)[observed], z @ weights + t.mean())
    assert regression.weights[4] == 0
    # Beyond the features of the fit and once their range, it goes no further.
    reach = np.ptp(a, axis=0)
    far = np.append(a.max(0) + reach, 7.0)
    assert_close(regression(far * 1e6), regression(far))
    assert abs(regression(far + 1e-3 * reach.max()) - regression(far)) < 1e-12


def test_trees_answer_as_those_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(boosted_trees, "_N_TREES", N_TREES)
    monkeypatch.setattr(boosted_trees, "_LEARNING_RATE", LEARNING_RATE)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(900, 4)).astype(np.float32)
    y = np.where(x[:, 0] > 0.3, 2.0, x[:, 1] * x[:, 2])
    trees = BoostedTrees.fit(x, y)
    learner = HistGradientBoostingRegressor(
        loss="absolute_error",
        max_iter=200,
        learning_rate=0.05,
        max_features=0.5,
        min_samples_leaf=40,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=0,
    )
    expected = learner.fit(x, y).predict(x)
    np.testing.assert_allclose(
        trees(x.reshape(30, 30, 4)).ravel(), expected, rtol=1e-12, atol=1e-12
    )
    assert np.abs(trees(x) - y).mean() < 0.3 * np.abs(y).mean()


def by_hand():
    """A regression without weights, and two windows of a daily series with one future column."""
    frame = series(4, promotion, n=60)
    panel = to_panel(frame, SCHEMA.changed(future_cols=["promo"]))
    encoder = make_encoder(CovariateColumns(future=("promo",)), panel)
    own = CovariateRegression(encoder, H, season=7)
    ends = np.array([30, 50])
    x = History(panel).contexts(ends, 24)
    return own, x, CovariateHistory(panel, encoder.columns).windows(ends, 24, H), frame, ends


def base(x, quantiles):
    """The last value, with a width of two a side."""
    point = np.repeat(x[:, -1:], H, axis=1)
    return point, point[..., None] + 5 * (np.array(quantiles) - 0.5)


def test_features_are_those_of_a_loop():
    own, x, covariates, frame, ends = by_hand()
    point = base(x, ())[0][..., 0] + np.arange(H)
    effect = np.arange(2.0 * H).reshape(2, H)
    features = WindowFeatures(own.encoder, x[..., 0], covariates, rows=10, horizon=H)
    pooled = features.of_point(point, squares=False)
    trees = features.of_trees(point, effect, (7,))
    past = features.of_past(H, (7, 3))
    promo = (frame["promo"] - frame["promo"].mean()) / frame["promo"].std(ddof=0)
    day = frame["ds"].dt.dayofweek
    for b, end in enumerate(ends):
        recent = frame["y"][end - 10 : end]
        level = recent.mean()
        spread = recent.std(ddof=0)
        for h in range(H):
            now = promo[end + h]
            usual = promo[end - 10 : end].mean()
            scaled = (point[b, h] - level) / spread
            columns = np.array([now, now - usual])
            phase = (day[end + h] == np.arange(7)).astype(float)
            expected = [
                columns,
                columns * scaled,
                [scaled, scaled**2],
                phase,
                np.outer(columns, phase).ravel(),
            ]
            np.testing.assert_allclose(pooled[b, h], np.concatenate(expected), atol=1e-6)
            angle = 2 * np.pi * day[end + h] / 7
            last_week = end + h - 7
            week = frame["y"][end - 7 : end].mean()
            expected = [
                scaled,
                effect[b, h] / spread,
                h,
                now,
                np.sin(angle),
                np.cos(angle),
                now - usual,
            ]
            expected += [
                promo[end + h - 1],
                promo[end + h - 3],
                (frame["y"][last_week] - level) / spread,
            ]
            expected += [now - promo[last_week], (week - level) / spread]
            np.testing.assert_allclose(trees[b, h], expected, rtol=1e-4, atol=1e-4)
            rows = [end - lag for lag in range(1, 9)]
            for season in (7, 3):
                before = end + h - season
                while before >= end:
                    before -= season
                after = min(before + 1, end - 1)
                rows += [before - 1, after, before - season, before - 2 * season]
            expected = [
                (frame["y"][row] - level) / spread if row >= end - 24 else 0.0 for row in rows
            ]
            np.testing.assert_allclose(past[b, h], expected, rtol=1e-4, atol=1e-4)


def test_target_trees_read_no_forecast():
    own, x, covariates, *_ = by_hand()
    features = WindowFeatures(own.encoder, x[..., 0], covariates, rows=10, horizon=H)
    past = features.of_past(H, (7,))
    effect = np.zeros((2, H))
    tables = []
    for level in (0.0, 5.0):
        point = np.full((2, H), level)
        of_trees = features.of_trees(point, effect + level, (7,))
        tables.append(target_features(of_trees, past))
    np.testing.assert_array_equal(*tables)
    assert tables[0].shape[2] == own.n_target_features()


def test_opinions_stand_before_and_after_the_base():
    own, x, covariates, *_ = by_hand()
    rng = np.random.default_rng(0)
    pooled = PooledRegression(rng.normal(size=own.n_features(squares=False)), 0.5, False)
    table = rng.normal(size=(500, own.n_tree_features()))
    trees = BoostedTrees.fit(table, table[:, 0] + table[:, 3])
    target_table = rng.normal(size=(500, own.n_target_features()))
    target_trees = BoostedTrees.fit(target_table, target_table[:, 0] - target_table[:, -1])
    effect = own.effects(x, covariates)
    plain = base(x, ())[0]
    left = base(x - effect[:, :24], ())[0] + effect[:, 24:]
    assert np.abs(left - plain).max() > 0.1
    for share, blend in ((0.0, plain), (0.5, (plain + left) / 2), (1.0, left)):
        features = own.features(x[..., 0], covariates)
        errors = 0.25 * pooled(features.of_point(blend[..., 0], squares=False))
        errors += 0.5 * trees(features.of_trees(blend[..., 0], effect[:, 24:, 0], (7,)))
        expected = blend[..., 0] + features.spread * errors
        weights = {"pooled_weight": 0.25, "trees_weight": 0.5, "band_factor": 0.25}
        made = replace(own, share=share, pooled=pooled, trees=trees, **weights)
        point, bounds = made.forecast(base, x, (0.1, 0.9), covariates)
        np.testing.assert_allclose(point[..., 0], expected, rtol=1e-9)
        np.testing.assert_allclose(
            bounds[..., 0, :] - point, [-0.5, 0.5] * np.ones(point.shape), rtol=1e-9
        )
        of_trees = features.of_trees(blend[..., 0], effect[:, 24:, 0], (7,))
        target = target_trees(target_features(of_trees, features.of_past(H, (7,))))
        with_target = replace(made, target_trees=target_trees, target_weight=0.25)
        target_point, _ = with_target.forecast(base, x, (), covariates)
        in_units = features.location + features.spread * target
        expected_target = expected + 0.25 * (in_units - blend[..., 0])
        np.testing.assert_allclose(target_point[..., 0], expected_target, rtol=1e-9)
        half_width = 0.5 * np.exp(trees(of_trees) / 2)
        with_widths = replace(made, widths=BandWidths(trees))
        same_point, bounds = with_widths.forecast(base, x, (0.1, 0.9), covariates)
        np.testing.assert_array_equal(same_point, point)
        np.testing.assert_allclose(bounds[..., 0, 0], expected - half_width, rtol=1e-9)
        np.testing.assert_allclose(bounds[..., 0, 1], expected + half_width, rtol=1e-9)


def test_origins_are_apart_and_none_that_teaches_ends_in_rows_that_check():
    panel = to_panel(
        pd.concat([series(i, n=100 + i).assign(unique_id=f"s{i}") for i in range(3)]), SCHEMA
    )
    ends, held, overlap = Origins.of(panel, H, 5, 32)
    assert overlap == H / 3
    for n in range(3):
        own = (ends > panel.starts[n]) & (ends <= panel.starts[n + 1])
        rows = ends[own] - panel.starts[n]
        checks = held[own]
        assert (np.diff(rows) >= 3).all()
        assert rows.min() >= 100 // 4
        assert rows.max() == 100 + n - H
        assert rows[~checks].max() + H <= rows[checks].min()
        assert abs(checks.mean() - 0.25) < 0.05


def test_a_limited_time_forecasts_some_windows_that_are_spread_evenly(monkeypatch):
    """A pass takes a second, so that 10 seconds allow ten passes, and one that has begun."""
    clock = SimpleNamespace(seconds=0.0)
    clock.monotonic = lambda: clock.seconds
    for module in (covariate_weights, deadlines):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(covariate_weights, "CHUNK_VALUES", 1)  # a window a pass
    panel = to_panel(series(0, promotion), SCHEMA.changed(future_cols=["promo"]))
    encoder = make_encoder(CovariateColumns(future=("promo",)), panel)
    regression = CovariateRegression(encoder, H, season=7)
    origins = Origins.of(panel, H, 5, regression.rows)

    def slow(x, quantiles):
        clock.seconds += 0.5  # with the effect of the columns, and without
        return base(x, quantiles)

    def windows(history, ends):
        return history.reaching(ends, 28)

    known = {}
    for seconds in (10.0, np.inf):
        with time_limit(2 * seconds):
            past = PastForecasts.of(regression, slow, windows, panel, origins, seconds)
        known[seconds] = past
    some, every = known.values()
    is_done = some.usable
    assert is_done.sum() == 11
    assert every.usable.all()
    gaps = np.diff([0, *np.flatnonzero(is_done), len(is_done)])
    assert gaps.max() <= 2 * len(is_done) / 11
    for share, answer in some.answers.items():
        assert np.isnan(answer.point[~is_done]).all()
        for made, whole in zip(answer, every.answers[share], strict=True):
            np.testing.assert_array_equal(made[is_done], whole[is_done])


# --- everywhere -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:series .* has 99 in each")
@EACH
def test_no_forecast_knows_what_comes_after_it(name):
    both = series(
        1,
        lambda rng, n: tuple(
            a | b if isinstance(a, dict) else a + b
            for a, b in zip(promotion(rng, n), lagged(rng, n), strict=True)
        ),
    )
    model = MAKERS[name](SCHEMA.changed(future_cols=["promo"], past_cols=["temp"])).fit(
        both[:-TEST]
    )
    end = np.array([ROWS - 50])
    changed = both.assign(
        y=both["y"].where(both.index < end[0], 99.0),
        temp=both["temp"].where(both.index < end[0], 9.0),
        promo=both["promo"].where(both.index < end[0] + H, True),
    )
    answers = [roll(model, model.read(frame), end, quantiles=(0.2,)) for frame in (both, changed)]
    np.testing.assert_array_equal(answers[0].point, answers[1].point)
    np.testing.assert_array_equal(answers[0].bounds, answers[1].bounds)
    seen = changed.assign(promo=both["promo"] ^ (both.index == end[0] + 1))
    assert not np.array_equal(roll(model, model.read(seen), end).point, answers[0].point)


@EACH
def test_saved_models_answer_alike(name, tmp_path):
    frame = series(1, sky, n=200)
    model = MAKERS[name](SCHEMA.changed(future_cols=["sky"], calendar=["monthday"])).fit(frame)
    model.save(tmp_path / "m")
    loaded = type(model).load(tmp_path / "m")
    assert loaded.covariate_columns_ == model.covariate_columns_
    assert loaded.covariate_columns_.calendar == ("weekday", "monthday")
    future = model.make_future_frame().assign(sky=["rain", "clear", "snow", "rain"])
    expected = model.predict(future=future, level=50)
    pd.testing.assert_frame_equal(loaded.predict(future=future, level=50), expected)
    facts = json.loads((tmp_path / "m" / "config.json").read_text())
    for spoil in (
        lambda f: f.update(covariate_regression=None),
        lambda f: f.update(leftovers={"rows": 32}),
        lambda f: f["covariate_regression"].update(season=0),
        lambda f: f["covariate_regression"].update(cycle=10**9),
        lambda f: f["covariate_regression"].update(share=0.3),
        lambda f: f["covariate_regression"].update(band_factor=-1.0),
        lambda f: f["covariate_regression"].update(leaves_out=1),
    ):
        changed = json.loads(json.dumps(facts))
        spoil(changed)
        (tmp_path / "m" / "config.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match="is not what save") as caught:
            type(model).load(tmp_path / "m")
        assert "\n" not in str(caught.value)


def with_all_opinions(own):
    """The same with every regression, whose weights are drawn."""
    rng = np.random.default_rng(0)
    pooled = PooledRegression(0.1 * rng.normal(size=own.n_features(squares=True)), 0.5, True)
    table = rng.normal(size=(300, own.n_tree_features()))
    trees = BoostedTrees.fit(table, table[:, 0])
    target_table = rng.normal(size=(300, own.n_target_features()))
    return replace(
        own,
        share=0.5,
        pooled=pooled,
        trees=trees,
        target_trees=BoostedTrees.fit(target_table, target_table[:, -1]),
        widths=BandWidths(BoostedTrees.fit(table, table[:, 1])),
        pooled_weight=0.25,
        trees_weight=0.25,
        target_weight=0.25,
        band_factor=1.5,
        leaves_out=True,
    )


@EACH
def test_every_opinion_is_saved(name, tmp_path):
    frame = series(1, sky, n=200).assign(temp=np.arange(200) % 5)
    model = MAKERS[name](SCHEMA.changed(future_cols=["sky"], past_cols=["temp"])).fit(frame)
    changed = with_all_opinions(regression_of(model))
    if name == "zero":
        model = model.revised(covariate_regression=changed)
    else:
        network = replace(model.fitted_, covariate_regression=changed)
        model = model.revised(model=network)
    model.save(tmp_path / "m")
    loaded = type(model).load(tmp_path / "m")
    future = model.make_future_frame().assign(sky=["rain", "clear", "snow", "rain"])
    expected = model.predict(future=future, level=50)
    pd.testing.assert_frame_equal(loaded.predict(future=future, level=50), expected)
    assert regression_of(loaded).trees is not None
    assert regression_of(loaded).target_trees is not None
    assert regression_of(loaded).widths is not None


def test_regressions_over_other_features_are_refused():
    own = with_all_opinions(by_hand()[0])
    facts = own.facts()
    arrays = own.arrays()
    assert CovariateRegression.rebuilt(own.encoder, facts, arrays).facts() == facts
    feature, left = (arrays[f"covariate_regression.trees.{name}"] for name in ("feature", "left"))
    target_feature = arrays["covariate_regression.target_trees.feature"]
    for changes, reason in (
        ({"pooled": np.zeros(3)}, "weights of shape"),
        ({"trees.feature": feature + 100}, "over other features"),
        ({"target_trees.feature": target_feature + 100}, "over other features"),
        ({"trees.left": np.zeros_like(left)}, "with loops"),
        ({"trees.value": arrays["covariate_regression.trees.value"] * np.nan}, "without values"),
        ({"trees.start": np.zeros(2)}, "of other sizes"),
        ({"trees.threshold": left}, "with other numbers"),
        ({"trees.roots": -np.ones(1, dtype=np.int64)}, "without roots"),
        ({"trees.more": left}, "lack arrays"),
    ):
        spoilt = arrays | {f"covariate_regression.{name}": array for name, array in changes.items()}
        with pytest.raises(ValueError, match=reason):
            CovariateRegression.rebuilt(own.encoder, facts, spoilt)


def test_intervals_stand_around_the_points_and_follow_the_errors():
    frame = series(1, promotion)
    model = promoted()
    plain = MAKERS["zero"](SCHEMA).fit(frame[:-H])
    request = {"quantiles": (0.1, 0.5, 0.9)}
    answer = model.predict(future=frame[-H:], **request)
    before = plain.predict(**request)
    widths = [f["zero-q0.9"] - f["zero-q0.1"] for f in (answer, before)]
    assert (0.05 * widths[1] < widths[0]).all()
    assert (widths[0] < 0.5 * widths[1]).all()
    np.testing.assert_allclose(answer["zero-q0.5"], answer["zero"])


def test_as_many_truths_lie_below_intervals_as_above_where_the_columns_tell_of_rare_events():
    def rare(rng, n):
        promo = rng.random(n) < 0.2
        return 5.0 * promo, {"promo": promo}

    model = MAKERS["zero"](SCHEMA.changed(future_cols=["promo"]))
    frame = pd.concat([series(seed, rare).assign(unique_id=f"s{seed}") for seed in (1, 2)])
    judged = backtest(model, frame, n_windows=TEST // H, step_size=H, level=80).frame
    assert (judged["y"] < judged["zero-lo-80"]).mean() < 0.2
    assert (judged["y"] > judged["zero-hi-80"]).mean() < 0.2


def gusts(rng, n):
    """Wind that only makes a series uncertain, beside a column that explains it."""
    heat = rng.normal(size=n)
    wind = rng.random(n) < 0.3
    noise = np.where(wind, 2.0, 0.2) * rng.normal(size=n)
    return 3 * heat + noise, {"heat": heat, "wind": wind * 1.0}


def test_bands_are_wider_where_a_column_tells_of_larger_errors(monkeypatch):
    # So few are noisy, but enough for one column that matters much.
    monkeypatch.setattr(band_widths, "_LEAST_ERRORS", 200)
    schema = SCHEMA.changed(future_cols=["heat", "wind"])
    frame = pd.concat([series(i, gusts).assign(unique_id=f"s{i}") for i in range(4)])
    is_ahead = frame["ds"] > frame["ds"].max() - pd.Timedelta(days=H)
    past, future = frame[~is_ahead], frame[is_ahead].drop(columns="y")
    expected = []
    taught = []
    band_widths_of = PastForecasts._band_widths
    fit_band_widths = covariate_weights.fit_band_widths

    def watched(self, share, point, rows, band_factor):
        expected.append((self.truth - point) / self.spread)
        return band_widths_of(self, share, point, rows, band_factor)

    def watched_fit(errors):
        taught.append(errors.gap)
        return fit_band_widths(errors)

    monkeypatch.setattr(PastForecasts, "_band_widths", watched)
    monkeypatch.setattr(covariate_weights, "fit_band_widths", watched_fit)
    model = MAKERS["zero"](schema).fit(past)
    # They learn from the errors that the trees leave, in the windows held out.
    known = expected[-1][np.isfinite(expected[-1])]
    np.testing.assert_allclose(np.sort(taught[-1]), np.sort(known), rtol=1e-9, atol=1e-12)
    answers = []
    for wind in (0.0, 1.0):
        answer = model.predict(future=future.assign(wind=wind), level=80)
        answers.append((answer["zero-hi-80"] - answer["zero-lo-80"]).mean())
    calm_width, windy_width = answers
    assert windy_width > 1.5 * calm_width
    # Without the time for it, all bands have one factor.
    monkeypatch.setattr(PastForecasts, "_band_widths", out_of_time)
    with time_limit(1000):
        plain = MAKERS["zero"](schema).fit(past)
    assert regression_of(plain).widths is None
    assert regression_of(plain).band_factor != regression_of(model).band_factor
    forecasts = [m.predict(future=future)["zero"] for m in (plain, model)]
    pd.testing.assert_series_equal(*forecasts)


def test_series_of_unlike_length_longer_horizons_and_missing_values():
    parts = [series(i, promotion, n).assign(unique_id=f"s{i}") for i, n in enumerate((420, 200, 9))]
    frame = pd.concat([part.assign(y=part["y"].mask(part.index % 11 == 5)) for part in parts])
    model = MAKERS["zero"](Schema(future_cols=["promo"])).fit(frame)
    assert regression_of(model).active
    future = model.make_future_frame(horizon=9).assign(promo=True)
    whole_forecast = model.predict(future=future, horizon=9)
    assert np.isfinite(whole_forecast["zero"]).all()
    for name in ("s1", "s2"):
        own_forecast = model.predict(
            frame[frame["unique_id"] == name], future=future[future["unique_id"] == name], horizon=9
        )
        among_longer = whole_forecast[whole_forecast["unique_id"] == name]
        np.testing.assert_allclose(own_forecast["zero"], among_longer["zero"], rtol=1e-6)


def test_judges_wrappers_and_wide_tables_hand_it_its_columns():
    frame = series(1, promotion, n=200)
    schema = SCHEMA.changed(future_cols=["promo"])
    model = MAKERS["zero"](schema)
    judged = backtest(model, frame, n_windows=2, step_size=H).frame
    fitted = MAKERS["zero"](schema).fit(frame[: -2 * H])
    pd.testing.assert_frame_equal(
        judged[["zero"]][:H],
        fitted.predict(future=frame[-2 * H : -H])[["zero"]],
        check_exact=False,
        rtol=1e-6,
    )
    calibrated = (
        SplitConformal(MAKERS["zero"](schema), n_windows=5)
        .fit(frame[:-H])
        .predict(future=frame, level=80)
    )
    assert (calibrated["zero-hi-80"] > calibrated["zero-lo-80"]).all()
    wide = wide_covariate_frame(150)
    forecaster = MAKERS["zero"](Schema(past_cols=["temp"], future_cols=["promo"])).fit(wide)
    assert np.isfinite(
        forecaster.predict(future=forecaster.make_future_frame().assign(promo=1)).to_numpy(float)
    ).all()


def test_missing_columns_and_exports_that_have_no_place_for_columns_are_refused():
    frame = series(1, promotion)
    schema = SCHEMA.changed(future_cols=["promo"])
    model = MAKERS["least_squares"](schema).fit(frame)
    with pytest.raises(
        ValueError, match="future= was not given: series 'a': column 'promo' of future= is missing"
    ):
        model.predict()
    with pytest.raises(ValueError, match="an exported program has no place for covariates"):
        export_program(model)
    with pytest.raises(ValueError, match="column 'rain' is missing"):
        MAKERS["zero"](SCHEMA.changed(future_cols=["rain"])).fit(frame)
    assert replace(regression_of(model), trees=None).horizon == H
    plain = MAKERS["zero"](SCHEMA).fit(frame)
    assert plain.covariate_regression_ is None
    assert not plain.covariate_columns_


# --- series that have ended -----------------------------------------------------------------------


def sold(rng, n_dead, n=260):
    """Sales that fall with the price and end some days before the forecast."""
    days = pd.date_range("2023-01-02", periods=n + H, freq="D")
    price = np.repeat(rng.choice([1.0, 1.3, 0.7, 1.6], (n + H) // 4 + 1), 4)[: n + H]
    promo = (rng.random(n + H) < 0.2).astype(float)
    y = 20 - 8 * price + 5 * promo + rng.normal(0, 0.3, n + H)
    y[n - n_dead :] = 0.0
    return pd.DataFrame({"ds": days, "y": y, "price": price, "promo": promo})


@pytest.mark.filterwarnings("ignore:series .* has 0 in each")
def test_columns_have_no_effect_on_series_that_have_ended(monkeypatch):
    rng = np.random.default_rng(0)
    series = {f"live{k}": sold(rng, 0) for k in range(3)} | {"dead": sold(rng, 160)}
    frame = pd.concat(
        [part.assign(unique_id=name) for name, part in series.items()], ignore_index=True
    )
    past = frame[frame["ds"] < frame["ds"].max() - pd.Timedelta(days=H - 1)]
    future = frame[frame["ds"] > past["ds"].max()].drop(columns="y")
    schema = Schema(future_cols=("price", "promo"))
    model = PretrainedForecaster(H, weights="zero-5h-small", schema=schema).fit(past)
    own_model = PretrainedForecaster(H, weights="zero-5h-small").fit(past[["unique_id", "ds", "y"]])

    def points(forecaster, **columns):
        forecasts = forecaster.predict(**columns)
        return {name: part["zero"].to_numpy() for name, part in forecasts.groupby("unique_id")}

    own = points(own_model)
    forecasts = points(model, future=future)
    np.testing.assert_allclose(forecasts["dead"], own["dead"], rtol=0, atol=1e-6)
    assert all(np.abs(forecasts[name] - own[name]).max() > 1 for name in series if name != "dead")
    # Without the rule the effects of the living past go on, and the others are what they were.
    monkeypatch.setattr(
        "tsattn.forecasters.covariate_regression.has_ended",
        lambda x, effect, season: np.zeros((len(x), x.shape[2]), dtype=bool),
    )
    followed = points(model, future=future)
    assert np.abs(followed["dead"] - own["dead"]).max() > 0.01
    for name in series:
        assert np.array_equal(followed[name], forecasts[name]) == (name != "dead")


@pytest.mark.parametrize(
    ("sizes", "moves", "expected"),
    [
        pytest.param([60 * [1, 2], 40 * [0]], False, True, id="longer than ever"),
        pytest.param([60 * [1, 2], 27 * [0]], False, False, id="fewer than 28 rows"),
        pytest.param([60 * [0], [1, 2], 40 * [0]], False, True, id="began late"),
        pytest.param([[1], 50 * [0], [2], 40 * [0]], False, False, id="a rare promotion"),
        pytest.param([[1], 50 * [0], [2], 40 * [0]], True, True, id="in spite of promotions"),
        pytest.param([[1], 30 * [0, np.nan], [2], 40 * [0]], False, True, id="missing rows"),
        pytest.param([80 * [3]], True, False, id="a constant"),
    ],
)
def test_a_series_has_ended_where_it_is_constant_for_longer_than_ever(sizes, moves, expected):
    x = np.concatenate(sizes)[None, :, None].astype(float)
    effect = np.zeros_like(x)
    effect[:, 0] = 1.0
    if moves:
        effect[:, -3] = 1.0
    assert has_ended(x, effect, 7).tolist() == [[expected]]
    assert not has_ended(x, effect, 60).any()


def test_future_numbers_far_from_those_of_the_table_are_told():
    rng = np.random.default_rng(0)
    days = pd.date_range("2024-01-01", periods=150)
    price = rng.uniform(5, 15, 150).round(2)
    sold = 300 - 12 * price + rng.normal(0, 3, 150)
    df = pd.DataFrame({"unique_id": "a", "ds": days, "y": sold, "price": price})
    model = PretrainedForecaster(2, schema=Schema(future_cols=["price"])).fit(df)
    ahead = model.make_future_frame().assign(price=[10.0, 1099.0])
    with pytest.warns(UserWarning, match="1099 in column 'price' at 2024-05-31 00:00:00, where"):
        far = model.predict(future=ahead)["zero"]
    near = model.predict(future=ahead.assign(price=[10.0, 25.0]))["zero"]
    assert far[0] == pytest.approx(near[0])
    # Squares and products would make it positive, and millions.
    assert -20_000 < far[1] < near[1]


def test_a_column_that_hangs_in_one_series_is_told_with_it():
    frame = pd.concat([series(1, weather), with_hung_column(series(1, weather))])
    frame["unique_id"] = np.repeat(["calm", "hung"], len(frame) // 2)
    model = MAKERS["zero"](SCHEMA.changed(future_cols=["temp"]))
    with pytest.warns(UserWarning, match=r"'temp' repeats .* of series 'hung' \(and 87 more\),"):
        model.read(frame)
