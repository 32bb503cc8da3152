"""Covariates of forecasters that read none themselves: a regression before or after them, kept where it helps."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from covariate_tables import wide_frame
from tiny_network import tiny_network

import tsattn
from tsattn import PretrainedForecaster, make_forecaster
from tsattn.adapters.export import export_program
from tsattn.data.covariates import CovariateColumns
from tsattn.data.encoding import CovariateHistory
from tsattn.data.frames import to_panel
from tsattn.data.schema import Schema
from tsattn.data.windows import History
from tsattn.evaluate.backtest import backtest
from tsattn.evaluate.conformal import SplitConformal
from tsattn.evaluate.rolling import roll
from tsattn.forecasters.leftovers import Leftovers, Ridge, _origins, _Read, _Sums, make_encoder
from tsattn.forecasters.linear import LinearForecaster

H, ROWS, TEST = 4, 420, 100
MAKERS = {
    "zero": lambda schema: PretrainedForecaster(H, schema=schema, n_threads=1),
    "least_squares": lambda schema: LinearForecaster(H, "rlinear", closed_form=True, context=28, schema=schema),
}
EACH = pytest.mark.parametrize("name", MAKERS)
SCHEMA = Schema(id_col="unique_id", missing="interpolate")


def series(seed=0, effect=lambda rng, n: (0.0, {}), n=ROWS):
    """A week, noise, and an effect of columns; ``effect`` gives both."""
    rng = np.random.default_rng(seed)
    week = np.sin(2 * np.pi * np.arange(n) / 7)
    added, columns = effect(rng, n)
    frame = {"unique_id": "a", "ds": pd.date_range("2022-01-01", periods=n), "y": 20 + week + 0.3 * rng.normal(size=n)}
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


def error(name, frame, schema):
    """MAE over all windows of the last rows, fitted on the rows before, and the forecaster."""
    model = MAKERS[name](schema).fit(frame[:-TEST])
    return roll(model, model.read(frame), np.arange(ROWS - TEST, ROWS - H + 1, 2), keep=False).mae_original, model


def left(model):
    return model.leftovers_ if isinstance(model, PretrainedForecaster) else model.fitted_.leftovers


# --- is it used? ------------------------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize(
    ("effect", "columns", "share"),
    [
        (promotion, {"future_cols": ["promo"]}, 0.45),
        (sky, {"future_cols": ["sky"]}, 0.45),
        (lagged, {"past_cols": ["temp"]}, 0.45),
        (comfort, {"future_cols": ["heat"]}, 0.45),
    ],
)
def test_a_column_that_the_base_cannot_know_is_used(name, effect, columns, share):
    frame = series(1, effect)
    with_columns, model = error(name, frame, SCHEMA.changed(**columns))
    assert with_columns < share * error(name, frame, SCHEMA)[0]
    kept = left(model)
    assert kept.after is not None or kept.before is not None
    assert kept.ratio < 0.6


def test_a_static_column_is_used():
    def kind(own):
        def effect(rng, n):
            return 5.0 * (np.arange(n) % 7 == 2) * (own == "shop"), {"kind": own}

        return effect

    frame = pd.concat([series(i, kind("shop" if i % 2 else "mill")).assign(unique_id=f"s{i}") for i in range(6)])
    known = frame[frame.groupby("unique_id").cumcount() < ROWS - TEST]

    def judged(schema):
        model = LinearForecaster(H, "rlinear", closed_form=True, context=14, schema=schema).fit(known)
        panel = model.read(frame)
        ends = panel.starts[:-1, None] + np.arange(ROWS - TEST, ROWS - H + 1)
        return roll(model, panel, ends, keep=False).mae_original

    assert judged(SCHEMA.changed(static_cols=["kind"])) < 0.9 * judged(SCHEMA)


def test_a_calendar_alone_is_used():
    frame = series(3).assign(y=lambda f: f["y"] + 4.0 * np.sin(2 * np.pi * f["ds"].dt.day / f["ds"].dt.days_in_month))
    assert error("zero", frame, SCHEMA.changed(calendar=["monthday"]))[0] < 0.4 * error("zero", frame, SCHEMA)[0]


@EACH
@pytest.mark.parametrize("kind", ["future_cols", "past_cols"])
def test_a_column_of_noise_leaves_the_forecast_to_the_bit(name, kind):
    frame = series(2).assign(noise=np.random.default_rng(5).normal(size=ROWS))
    known, after = frame[:-H], frame[-H:]
    plain = MAKERS[name](SCHEMA).fit(known)
    model = MAKERS[name](SCHEMA.changed(**{kind: ["noise"]})).fit(known)
    future = after[["unique_id", "ds", "noise"]] if kind == "future_cols" else None
    pd.testing.assert_frame_equal(model.predict(future=future, level=80), plain.predict(level=80), check_exact=True)
    assert (left(model).after, left(model).before, left(model).ratio) == (None, None, 1.0)


def test_few_rows_teach_nothing():
    frame = series(2, promotion)[:30]
    plain = PretrainedForecaster(H, weights=tiny_network(), schema=SCHEMA).fit(frame)
    model = PretrainedForecaster(H, weights=tiny_network(), schema=SCHEMA.changed(future_cols=["promo"])).fit(frame)
    answer = model.predict(future=model.make_future_frame().assign(promo=True))
    pd.testing.assert_frame_equal(answer, plain.predict(), check_exact=True)


@pytest.mark.parametrize("scale", [0.0, 1e-150, 1e150])
def test_constants_and_values_of_any_size_are_forecast(scale):
    frame = series(1, promotion).assign(y=lambda f: scale * f["y"] + (scale == 0))
    model = MAKERS["zero"](SCHEMA.changed(future_cols=["promo"])).fit(frame[:-H])
    point = model.predict(future=frame[-H:])["zero"].to_numpy()
    np.testing.assert_allclose(point, frame["y"][-H:], rtol=0.1)
    assert (left(model).ratio == 1) == (scale == 0)


def test_one_call_reads_the_columns_of_the_future():
    frame = series(1, promotion)[["ds", "y", "promo"]]
    future = frame[-H:].drop(columns="y")
    answer = tsattn.forecast(frame[:-H], H, future=future)
    expected = make_forecaster("zero", H, schema=Schema(future_cols=["promo"])).fit(frame[:-H]).predict(future=future)
    pd.testing.assert_frame_equal(answer, expected)
    assert np.abs(answer["zero"] - frame["y"][-H:].to_numpy()).mean() < 1


# --- what exactly is done? --------------------------------------------------------------------------------------


def test_a_ridge_regression_is_that_of_standardised_features(assert_close):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 9, 5)) * [1, 10, 0.1, 1, 1] + 3, rng.normal(size=(6, 9))
    x[..., 4] = 7.0
    y[2, 3] = np.nan
    sums, rest = _Sums(5), _Sums(5)
    sums.add(x[:4], y[:4])
    rest.add(x[4:], y[4:])
    sums.join(rest)
    found = sums.solve(0.3, False)
    known = np.isfinite(y)
    a, t = x[known][:, :4], y[known]
    z = (a - a.mean(0)) / a.std(0)
    weights = np.linalg.solve(z.T @ z / len(z) + 0.3 * np.eye(4), z.T @ (t - t.mean()) / len(z))
    assert_close(found(x)[known], z @ weights + t.mean())
    assert found.weights[4] == 0


def by_hand(**kept):
    """Regressions with weights that are set, of a daily series with one future column."""
    frame = series(4, promotion, n=60)
    panel = to_panel(frame, SCHEMA.changed(future_cols=["promo"]))
    encoder = make_encoder(CovariateColumns(future=("promo",)), panel)
    own = Leftovers(encoder, 10, H)
    ends = np.array([30, 50])
    x = History(panel).contexts(ends, 14)
    return own, x, CovariateHistory(panel, encoder.columns).windows(ends, 14, H), frame, ends


def base(x, quantiles):
    """The last value, with a width of two a side."""
    point = np.repeat(x[:, -1:], H, axis=1)
    return point, point[..., None] + 5 * (np.array(quantiles) - 0.5)


def test_features_are_those_of_a_loop():
    own, x, covariates, frame, ends = by_hand()
    point = base(x, ())[0][..., 0] + np.arange(H)
    read = _Read(own, x[..., 0], covariates)
    found = read.features(slice(14, None), False, point)
    promo = (frame["promo"] - frame["promo"].mean()) / frame["promo"].std(ddof=0)
    for b, end in enumerate(ends):
        recent = frame["y"][end - 10 : end]
        for h in range(H):
            now, usual = promo[end + h], promo[end - 10 : end].mean()
            scaled = (point[b, h] - recent.mean()) / recent.std(ddof=0)
            columns = np.array([now, now - usual])
            day = (frame["ds"].dt.dayofweek[end + h] == np.arange(7)).astype(float)
            expected = [columns, columns * scaled, [scaled, scaled**2], day, np.outer(columns, day).ravel()]
            np.testing.assert_allclose(found[b, h], np.concatenate(expected), atol=1e-6)
    assert own.n_features(False, based=True) == found.shape[2]


def test_regressions_stand_before_and_after_the_base():
    own, x, covariates, *_ = by_hand()
    rng = np.random.default_rng(0)
    after = Ridge(rng.normal(size=own.n_features(False, based=True)), 0.5, False)
    before = Ridge(rng.normal(size=own.n_features(False, based=False)), -0.5, False)
    read, plain = _Read(own, x[..., 0], covariates), base(x, ())[0]
    corrected = plain[..., 0] + read.spread * after(read.features(slice(14, None), False, plain[..., 0]))
    said = read.spread * before(read.features(slice(None), False))
    restored = base((x[..., 0] - said[:, :14])[..., None], ())[0][..., 0] + said[:, 14:]
    for kept, expected in (
        ({"after": after}, corrected),
        ({"before": before}, restored),
        ({"after": after, "before": before}, (corrected + restored) / 2),
    ):
        point, bounds = own.keeping(kept, 0.25).forecast(base, x, (0.1, 0.9), covariates)
        np.testing.assert_allclose(point[..., 0], expected, rtol=1e-9)
        np.testing.assert_allclose(bounds[..., 0, :] - point, [-0.5, 0.5] * np.ones(point.shape), rtol=1e-9)


def test_origins_are_apart_and_none_that_teaches_ends_in_rows_that_check():
    panel = to_panel(pd.concat([series(i, n=100 + i).assign(unique_id=f"s{i}") for i in range(3)]), SCHEMA)
    ends, held, overlap = _origins(panel, H, 5, 32)
    assert overlap == H / 3
    for n in range(3):
        own = (ends > panel.starts[n]) & (ends <= panel.starts[n + 1])
        rows, checks = ends[own] - panel.starts[n], held[own]
        assert (np.diff(rows) >= 3).all()
        assert rows.min() >= 100 // 4
        assert rows.max() == 100 + n - H
        assert rows[~checks].max() + H <= rows[checks].min()
        assert abs(checks.mean() - 0.25) < 0.05


# --- everywhere -------------------------------------------------------------------------------------------------


@EACH
def test_no_forecast_knows_what_comes_after_it(name):
    both = series(1, lambda rng, n: tuple(a | b if isinstance(a, dict) else a + b for a, b in zip(
        promotion(rng, n), lagged(rng, n), strict=True)))  # fmt: skip
    model = MAKERS[name](SCHEMA.changed(future_cols=["promo"], past_cols=["temp"])).fit(both[:-TEST])
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
    frame = series(1, sky)
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
        lambda f: f.update(leftovers=None),
        lambda f: f["leftovers"].update(rows=0),
        lambda f: f["leftovers"].update(ratio=-1.0),
        lambda f: f["covariates"]["moving"][0].append("zebra"),
    ):
        changed = json.loads(json.dumps(facts))
        spoil(changed)
        (tmp_path / "m" / "config.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match="is not what save") as caught:
            type(model).load(tmp_path / "m")
        assert "\n" not in str(caught.value)


def test_intervals_stand_around_the_points_and_follow_the_errors():
    frame = series(1, promotion)
    schema = SCHEMA.changed(future_cols=["promo"])
    model, plain = MAKERS["zero"](schema).fit(frame[:-H]), MAKERS["zero"](SCHEMA).fit(frame[:-H])
    asked = {"quantiles": (0.1, 0.5, 0.9)}
    answer, before = model.predict(future=frame[-H:], **asked), plain.predict(**asked)
    widths = [f["zero-q0.9"] - f["zero-q0.1"] for f in (answer, before)]
    np.testing.assert_allclose(widths[0], left(model).ratio * widths[1], rtol=1e-6)
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


def test_series_of_unlike_length_longer_horizons_and_missing_values():
    parts = [series(i, promotion, n).assign(unique_id=f"s{i}") for i, n in enumerate((420, 200, 9))]
    frame = pd.concat([part.assign(y=part["y"].mask(part.index % 11 == 5)) for part in parts])
    model = MAKERS["zero"](Schema(future_cols=["promo"])).fit(frame)
    assert left(model).before is not None or left(model).after is not None
    future = model.make_future_frame(horizon=9).assign(promo=True)
    whole = model.predict(future=future, horizon=9)
    assert np.isfinite(whole["zero"]).all()
    alone = model.predict(frame[frame["unique_id"] == "s2"], future=future[future["unique_id"] == "s2"], horizon=9)
    np.testing.assert_allclose(alone["zero"], whole["zero"][18:], rtol=1e-6)


def test_judges_wrappers_and_wide_tables_hand_it_its_columns():
    frame = series(1, promotion)
    schema = SCHEMA.changed(future_cols=["promo"])
    model = MAKERS["zero"](schema)
    judged = backtest(model, frame, n_windows=2, step_size=H).frame
    fitted = MAKERS["zero"](schema).fit(frame[: -2 * H])
    pd.testing.assert_frame_equal(
        judged[["zero"]][:H], fitted.predict(future=frame[-2 * H : -H])[["zero"]], check_exact=False, rtol=1e-6
    )
    calibrated = SplitConformal(MAKERS["zero"](schema), n_windows=10).fit(frame[:-H]).predict(future=frame, level=80)
    assert (calibrated["zero-hi-80"] > calibrated["zero-lo-80"]).all()
    wide = wide_frame(ROWS)
    own = MAKERS["zero"](Schema(past_cols=["temp"], future_cols=["promo"])).fit(wide)
    assert np.isfinite(own.predict(future=own.make_future_frame().assign(promo=1)).to_numpy(float)).all()


def test_what_is_not_there_is_refused_and_what_cannot_carry_it_says_so():
    frame = series(1, promotion)
    schema = SCHEMA.changed(future_cols=["promo"])
    model = MAKERS["least_squares"](schema).fit(frame)
    with pytest.raises(ValueError, match="future= was not given: series 'a': column 'promo' of future= is missing"):
        model.predict()
    with pytest.raises(ValueError, match="an exported program has no place for covariates"):
        export_program(model)
    with pytest.raises(ValueError, match="column 'rain' is missing"):
        MAKERS["zero"](SCHEMA.changed(future_cols=["rain"])).fit(frame)
    assert replace(left(model), after=None).horizon == H
    plain = MAKERS["zero"](SCHEMA).fit(frame)
    assert plain.leftovers_ is None
    assert not plain.covariate_columns_
