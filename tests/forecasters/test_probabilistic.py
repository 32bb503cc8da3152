"""Heads that know more than points, in a forecaster: quantiles, samples, supports,
saving, scales.
"""

import copy
import functools

import numpy as np
import pandas as pd
import pytest
import torch
from small_forecasters import attention, linear
from tables import long_frame, wide_frame

from tsattn.evaluate.backtest import backtest
from tsattn.forecasters.attention import AttentionForecaster
from tsattn.nn.heads import HEADS, POINT_LOSSES
from tsattn.training.settings import LOSSES, Training

FAMILIES = tuple(head for head in HEADS if head != "point")
LEVELS = [80, 95]


def data_for(head, frame=long_frame):
    """Values that the head can forecast."""
    df = frame()
    columns = ["y"] if "y" in df else list(df.columns)
    unit = df.groupby("unique_id")["y"].transform("std") if "y" in df else df.std()
    values = df[columns].div(unit, axis=0) if "y" in df else df / unit
    if head == "negative_binomial":
        df[columns] = np.round(np.exp(values + 2))
    elif head == "log_normal":
        df[columns] = np.exp(values + 1)
    return df


def model(head, **kwargs):
    return attention(head=head, **kwargs)


@functools.cache
def trained_once(head, frame):
    return model(head).fit(data_for(head, frame))


def trained(head, frame=long_frame):
    """Fitted once for all tests, as a copy that may be changed."""
    return copy.copy(trained_once(head, frame))


@pytest.mark.parametrize("frame", [long_frame, wide_frame])
@pytest.mark.parametrize("head", FAMILIES)
def test_every_head_answers_with_point_and_bounds(head, frame):
    df = data_for(head, frame)
    fitted = trained(head, frame)
    answer = fitted.predict(level=LEVELS)
    numbers = answer.select_dtypes("number")
    assert np.isfinite(numbers.to_numpy()).all()
    names = [fitted.alias_] if frame is long_frame else list(df.columns)
    for name in names:
        ordered = numbers[
            [f"{name}-lo-95", f"{name}-lo-80", f"{name}-hi-80", f"{name}-hi-95"]
        ].to_numpy()
        assert (np.diff(ordered) >= 0).all()
        assert (ordered[:, 3] > ordered[:, 0]).any()
    if head == "negative_binomial":
        bounds = numbers.filter(regex="-(lo|hi)-").to_numpy()
        assert (bounds == bounds.round()).all()
        assert bounds.min() >= 0
    if head == "log_normal":
        assert numbers.to_numpy().min() > 0


@pytest.mark.parametrize("head", FAMILIES)
def test_levels_and_quantiles_are_two_spellings_and_the_point_stays(head):
    fitted = trained(head)
    plain = fitted.predict()
    levels = fitted.predict(level=80)
    quantiles = fitted.predict(quantiles=[0.1, 0.9])
    np.testing.assert_array_equal(levels["mlr-lo-80"], quantiles["mlr-q0.1"])
    np.testing.assert_array_equal(levels["mlr-hi-80"], quantiles["mlr-q0.9"])
    np.testing.assert_array_equal(plain["mlr"], levels["mlr"])
    if head == "quantile":
        np.testing.assert_allclose(
            plain["mlr"], fitted.predict(quantiles=0.5)["mlr-q0.5"], rtol=1e-12
        )


@pytest.mark.parametrize("head", FAMILIES)
def test_samples_have_the_quantiles_of_the_forecast(head):
    fitted = trained(head)
    draws = fitted.sample(n_samples=4000, random_state=3)
    assert draws.shape == (3, 4, 4000)
    np.testing.assert_array_equal(draws, fitted.sample(n_samples=4000, random_state=3))
    assert not np.array_equal(draws, fitted.sample(n_samples=4000, random_state=4))
    for wrong in (-1, 2.5, "5"):
        with pytest.raises(
            ValueError,
            match=f"n_samples must be a whole number of at least 1; got {wrong!r}",
        ):
            fitted.sample(n_samples=wrong)
    frame = fitted.predict(quantiles=[0.2, 0.8])
    for column, q in (("mlr-q0.2", 0.2), ("mlr-q0.8", 0.8)):
        bound = frame[column].to_numpy().reshape(3, 4)
        below = (draws <= bound[..., None]).mean(-1)
        slack = 0.35 if head == "negative_binomial" else 0.04  # counts jump over a probability
        assert (below > q - 0.04).all()
        assert (below < q + slack).all()


def test_sampling_touches_no_global_state_and_needs_a_distribution():
    fitted = model("student_t").fit(long_frame())
    state = torch.random.get_rng_state()
    fitted.sample(3, long_frame())
    assert torch.equal(state, torch.random.get_rng_state())
    for other in (attention(), linear()):
        with pytest.raises(ValueError, match="samples need a head that knows a distribution"):
            other.fit(long_frame()).sample()


@pytest.mark.parametrize("head", FAMILIES)
def test_saved_heads_forecast_the_same(head, tmp_path):
    fitted = trained(head)
    fitted.save(tmp_path / "m")
    loaded = AttentionForecaster.load(tmp_path / "m")
    pd.testing.assert_frame_equal(loaded.predict(level=LEVELS), fitted.predict(level=LEVELS))
    np.testing.assert_array_equal(
        loaded.sample(n_samples=2, random_state=0), fitted.sample(n_samples=2, random_state=0)
    )


@pytest.mark.parametrize("head", ["quantile", "student_t", "normal"])
def test_forecasts_follow_shift_and_scale_of_an_unseen_series(head):
    df = long_frame()
    fitted = model(head).fit(df)
    one_series = df[df["unique_id"] == "s1"]
    moved = one_series.assign(unique_id="new", y=one_series["y"] * 250 - 1e4)
    first, second = (
        fitted.predict(each, level=80).select_dtypes("number") for each in (one_series, moved)
    )
    np.testing.assert_allclose(second, first * 250 - 1e4, rtol=1e-4)


@pytest.mark.parametrize("head", ["negative_binomial", "log_normal"])
def test_heads_that_begin_at_zero_see_the_data_as_they_are(head):
    df = data_for(head)
    fitted = trained(head)
    assert (fitted.fitted_.scaler.mean == 0).all()
    assert (fitted.fitted_.scaler.scale == 1).all()
    assert (fitted.training_scales_.values != 1).any()
    level = df.groupby("unique_id")["y"].mean()
    point = fitted.predict().groupby("unique_id")["mlr"].mean()
    assert ((point > level / 10) & (point < level * 10)).all()


@pytest.mark.parametrize(
    ("head", "value", "message"),
    [
        ("negative_binomial", 1.5, "negative_binomial needs whole numbers of at least 0; got 1.5"),
        ("negative_binomial", -1.0, "negative_binomial needs whole numbers of at least 0; got -1"),
        ("log_normal", 0.0, "log_normal needs numbers above 0; got 0"),
    ],
)
def test_values_outside_the_support_stop_before_training(head, value, message, monkeypatch):
    monkeypatch.setattr("tsattn.training.loop.train", lambda *a, **k: pytest.fail("training began"))
    df = data_for(head)
    df.loc[40, "y"] = value
    with pytest.raises(ValueError, match=message):
        model(head).fit(df)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: model("cauchy"), "head must be one of point, quantile, .*; got 'cauchy'"),
        (
            lambda: model("student_t", loss="mae"),
            "loss is for points; got loss = 'mae' with head = 'student_t'",
        ),
        (lambda: model("normal", quantiles=(0.1, 0.9)), "head 'normal' trains no quantiles"),
        (lambda: model("quantile", quantiles=(0.9, 0.1)), "quantiles must rise"),
        (
            lambda: model("log_normal", target_transform="sqrt"),
            "target_transform = 'sqrt', .*; take head='normal'",
        ),
        (lambda: model("log_normal", missing="mask"), "missing='mask' and head='log_normal'"),
        (
            lambda: model("normal", architecture="decoder", patch_stride=6, linear_skip=False),
            "a decoder feeds on points .* got head = 'normal'",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(make, message, monkeypatch):
    monkeypatch.setattr("tsattn.training.loop.train", lambda *a, **k: pytest.fail("training began"))
    with pytest.raises(ValueError, match=message):
        make().fit(data_for("log_normal"))


def test_a_quantile_head_answers_within_its_range_only():
    fitted = model("quantile", quantiles=(0.2, 0.5, 0.8)).fit(long_frame())
    fitted.predict(quantiles=[0.2, 0.35, 0.8])
    with pytest.raises(ValueError, match=r"trained for quantiles from 0\.2 to 0\.8; got 0\.1"):
        fitted.predict(level=80)


@pytest.mark.parametrize("head", ["quantile", "student_t"])
def test_intervals_hold_their_level_on_a_process_that_is_learnt(head):
    rng = np.random.default_rng(0)
    n = 900
    values = np.sin(np.arange(n) * 2 * np.pi / 12) + 0.3 * rng.normal(size=n)
    df = pd.DataFrame(
        {"unique_id": "a", "ds": pd.date_range("2020-01-01", periods=n, freq="D"), "y": values}
    )
    fitted = model(head, max_epochs=8, learning_rate=1e-2, context=36)
    result = backtest(fitted, df, n_windows=200, level=80)
    frame = result.frame
    name = fitted.alias_
    covered = (
        (frame["y"] >= frame[f"{name}-lo-80"]) & (frame["y"] <= frame[f"{name}-hi-80"])
    ).mean()
    assert 0.72 < covered < 0.88


@pytest.mark.parametrize("head", ["quantile", "student_t"])
def test_masked_values_stay_out_of_the_likelihood(head):
    df = long_frame()
    df.loc[np.random.default_rng(0).random(len(df)) < 0.2, "y"] = np.nan
    fitted = model(head, missing="mask").fit(df)
    assert np.isfinite(fitted.predict(level=80).select_dtypes("number").to_numpy()).all()
    assert np.isfinite(fitted.history_["valid_loss"]).all()


def test_a_target_transform_goes_around_the_head():
    df = data_for("log_normal")
    frame = model("quantile", target_transform="log1p").fit(df).predict(level=80)
    assert (frame["mlr-lo-80"] >= 0).all()
    assert (frame["mlr-hi-80"] >= frame["mlr-lo-80"]).all()


@pytest.mark.parametrize("transform", ["log1p", "sqrt"])
def test_a_mean_is_one_of_the_target_and_not_of_its_image(transform):
    noise = np.random.default_rng(0).normal(size=400)
    df = pd.DataFrame({"unique_id": "a", "ds": np.arange(400), "y": np.exp(2 + noise)})
    fitted = model("normal", target_transform=transform, point="mean").fit(df)
    mean = fitted.predict()["mlr"].to_numpy()
    sampled = fitted.sample(n_samples=20_000, random_state=0)[0].mean(axis=1)
    # The mean of an image lies a quarter to a third lower.
    np.testing.assert_allclose(mean, sampled, rtol=0.1)
    total = fitted.total(data=df)["mlr"].item()
    assert total == pytest.approx(sampled.sum(), rel=0.1)
    median = fitted.set_params(point="median").predict(quantiles=[0.5])
    np.testing.assert_allclose(median["mlr"], median["mlr-q0.5"], rtol=1e-5)


def test_the_loss_names_of_training_are_those_of_the_point_head():
    assert tuple(LOSSES) == tuple(POINT_LOSSES)
    with pytest.raises(ValueError, match="loss must be one of mse, mae, huber; got 'nll'"):
        Training(loss="nll")
