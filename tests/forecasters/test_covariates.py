"""Forecasts by covariates: the columns named are read, help where they can, and are never seen too
early.
"""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from covariate_forecasters import EVERY, LEARN, H, attention, rolling_error
from sklearn.base import clone
from tables import covariate_frame, fill_future, parts_of, wide_covariate_frame

from tsattn import make_forecaster
from tsattn.checks import InputWarning
from tsattn.data.encoding import CovariateHistory
from tsattn.data.frames import to_panel
from tsattn.data.schema import Schema
from tsattn.evaluate.backtest import backtest
from tsattn.evaluate.conformal import SplitConformal
from tsattn.forecasters.attention import AttentionForecaster
from tsattn.forecasters.naive import Naive

KINDS = {
    "past": {"past_cols": ["temp"]},
    "future": {"future_cols": ["promo", "price"]},
    "static": {"static_cols": ["kind", "size"]},
    "calendar": {"calendar": ["weekday"]},
    "all": EVERY,
}
EACH = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def model():
    """Reads everything; for tests that only ask it."""
    return attention(**EVERY).fit(covariate_frame())


def future_of(model, **changes):
    """A complete future for models that need one."""
    return (
        fill_future(model.make_future_frame(**changes)) if model.covariate_columns_.future else None
    )


# --- is it used? ----------------------------------------------------------------------------------


def one_series(seed, **columns):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"unique_id": "a", "ds": pd.date_range("2020-01-01", periods=500, freq="D")}
    )
    drawn = {name: rng.normal(size=500) for name in columns}
    y = sum(make(drawn[name], rng) for name, make in columns.items())
    return frame.assign(y=y + 0.05 * rng.normal(size=500), **drawn)


def test_a_future_column_that_drives_the_target_is_used():
    frame = one_series(0, price=lambda price, rng: 3 * price)
    assert rolling_error(frame, future_cols=["price"]) < rolling_error(frame, max_epochs=2) / 3


def test_a_past_column_that_drives_the_target_is_used():
    frame = one_series(1, temp=lambda temp, rng: np.concatenate([rng.normal(size=H), temp[:-H]]))
    assert rolling_error(frame, past_cols=["temp"]) < rolling_error(frame, max_epochs=2) / 3


def unseen_error(effect, **kwargs):
    """MAE over new series; each has one window, whose context is noise and whose future is the
    effect.
    """
    rng = np.random.default_rng(0)
    n = 240
    length = 12 + H
    kind = rng.integers(0, 3, n)
    stamps = np.datetime64("2024-01-01") + rng.integers(0, 365, n)[:, None] + np.arange(length)
    y = 0.3 * rng.normal(size=(n, length))
    y[:, 12:] += effect(
        kind[:, None], pd.DatetimeIndex(stamps[:, 12:].ravel()).dayofweek.to_numpy().reshape(n, -1)
    )
    columns = {"unique_id": np.arange(n), "kind": np.array(["mill", "shop", "farm"])[kind]}
    frame = pd.DataFrame({name: np.repeat(values, length) for name, values in columns.items()})
    frame = frame.assign(ds=stamps.ravel(), y=y.ravel())
    model = attention(H, **{**LEARN, "context": 12, "val_size": 0, "max_epochs": 12, **kwargs})
    model.fit(frame[frame["unique_id"] < 180])
    known, truth = parts_of(frame[frame["unique_id"] >= 180], H)
    return float(np.abs(model.predict(known)["mlr"].to_numpy() - truth["y"].to_numpy()).mean())


def test_a_static_column_that_sets_the_level_is_used():
    def level(kind, weekday):
        return np.array([-2.0, 0.0, 2.0])[kind] + 0 * weekday

    assert unseen_error(level, static_cols=["kind"]) < unseen_error(level, max_epochs=2) / 3


def test_a_calendar_that_drives_the_target_is_used():
    def weekly(kind, weekday):
        return 3 * np.sin(2 * np.pi * weekday / 7)

    assert unseen_error(weekly, calendar=["weekday"]) < unseen_error(weekly, max_epochs=2) / 3


# --- when is it seen? -----------------------------------------------------------------------------

N_WINDOWS = 3
STEP = 3


def judge(frame, make):
    """Forecasts of a backtest, and the number of each row's window."""
    result = backtest(make(), frame, n_windows=N_WINDOWS, step_size=STEP).frame
    window = result.groupby("unique_id")["cutoff"].rank(method="dense").astype(int) - 1
    return result["mlr"].to_numpy(), window.to_numpy()


def changed_after(frame, columns, rows_from_end):
    """The same columns as before, but for the last rows of each series."""
    after = frame.groupby("unique_id").cumcount(ascending=False) < rows_from_end
    other = frame.copy()
    for column in columns:
        other[column] = (
            frame[column].astype(float).where(~after, 1000 - 30 * frame[column].astype(float))
        )
    assert not other.equals(frame)
    return other


MAKERS = {
    "forecaster": lambda: attention(missing="interpolate", **EVERY),
    "conformal": lambda: SplitConformal(attention(missing="interpolate", **EVERY), n_windows=5),
}


@pytest.mark.parametrize("make", MAKERS)
def test_nothing_is_seen_before_its_time(make):
    """Targets and past columns after the cutoff, future columns after the last step: none of them
    may matter.
    """
    frame = covariate_frame()
    frame.loc[frame.groupby("unique_id").cumcount(ascending=False).isin([5, 8, 11]), "y"] = np.nan
    honest, window = judge(frame, MAKERS[make])
    assert np.isfinite(honest).all()
    for w in range(N_WINDOWS):
        left = H + STEP * (N_WINDOWS - 1 - w)
        for columns, rows in ((["y", "temp"], left), (["promo", "price"], left - H)):
            if rows:
                actual, _ = judge(changed_after(frame, columns, rows), MAKERS[make])
                np.testing.assert_allclose(actual[window <= w], honest[window <= w], rtol=1e-6)
        # A future column inside the horizon is seen, a step at a time.
        actual, _ = judge(changed_after(frame, ["price"], left - 2), MAKERS[make])
        step = np.tile(np.arange(H), len(window) // H)
        same = np.isclose(actual, honest, rtol=1e-6)
        assert same[(window == w) & (step < 2)].all()
        assert not same[(window == w) & (step >= 2)].any()


def test_a_past_column_that_is_read_as_a_future_one_would_be_caught():
    frame = covariate_frame()

    def make():
        return attention(future_cols=["temp"])

    honest, window = judge(frame, make)
    actual, _ = judge(changed_after(frame, ["temp"], H), make)
    assert not np.allclose(actual[window == N_WINDOWS - 1], honest[window == N_WINDOWS - 1])


def test_scales_and_weights_see_no_validation_row():
    frame = covariate_frame()
    changed = changed_after(frame, ["temp", "price"], 7)
    one, two = (
        attention(val_size=7, patience=None, **EVERY).fit(each) for each in (frame, changed)
    )
    np.testing.assert_array_equal(one.fitted_.encoder.mean, two.fitted_.encoder.mean)
    for a, b in zip(one.network_.parameters(), two.network_.parameters(), strict=True):
        assert (a == b).all()


# --- the life of a forecaster ---------------------------------------------------------------------


@EACH
def test_constructors_store_and_copies_forecast_alike(kind):
    model = attention(**KINDS[kind])
    for name, value in KINDS[kind].items():
        assert getattr(model.schema, name) is value
        assert clone(model).get_params()[f"schema__{name}"] == value
    model.fit(covariate_frame())
    future = future_of(model)
    expected = model.predict(future=future, level=50)
    pd.testing.assert_frame_equal(
        pickle.loads(pickle.dumps(model)).predict(future=future, level=50), expected
    )
    again = attention(**KINDS[kind]).fit(covariate_frame().sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(again.predict(future=future, level=50), expected)


@EACH
def test_fitted_and_given_series_are_forecast_alike_and_may_be_new(kind):
    model = attention(**KINDS[kind]).fit(covariate_frame())
    frame = covariate_frame((40, 13), seed=5)
    pd.testing.assert_frame_equal(
        model.predict(covariate_frame(), future=future_of(model)),
        model.predict(future=future_of(model)),
    )
    new = frame.assign(unique_id="n" + frame["unique_id"])
    answer = model.predict(new, future=future_of(model, data=new))
    assert answer["unique_id"].unique().tolist() == ["ns0", "ns1"]
    one_series = new[new["unique_id"] == "ns1"]
    future = future_of(model, data=new)
    future = None if future is None else future[future["unique_id"] == "ns1"]
    own_forecast = model.predict(one_series, future=future)
    np.testing.assert_allclose(own_forecast["mlr"], answer["mlr"][H:], rtol=1e-5)


@EACH
def test_save_and_load_without_the_training_frame(kind, tmp_path):
    frame = covariate_frame().astype({"kind": "category"})
    model = attention(**KINDS[kind]).fit(frame)
    model.save(tmp_path / "m")
    loaded = AttentionForecaster.load(tmp_path / "m")
    future = future_of(loaded)
    pd.testing.assert_frame_equal(
        loaded.predict(future=future, level=50), model.predict(future=future, level=50)
    )
    pd.testing.assert_frame_equal(
        loaded.predict(frame, future=future), model.predict(frame, future=future)
    )
    assert loaded.covariate_columns_ == model.covariate_columns_
    assert loaded.score(frame) == model.score(frame)


TAMPERINGS = {
    "another column": lambda f: f["covariates"].update(past=["temp", "rain"]),
    "no columns": lambda f: f.update(covariates=None),
    "columns that are lists": lambda f: f["covariates"].update(past=[["temp"]]),
    "a category more": lambda f: f["covariates"].update(categories=[["a", "b", "c"], None]),
    "a category that is a number": lambda f: f["covariates"].update(categories=[[1, 2], None]),
    "a series of another category": lambda f: f["covariates"]["series"].__setitem__(0, ["z", 1.0]),
    "a series too few": lambda f: f["covariates"]["series"].pop(),
    "a value that is a list": lambda f: f["covariates"]["series"].__setitem__(0, [["a"], 1.0]),
    "a cycle that does not fit": lambda f: f["covariates"].update(calendar=["hour"]),
    "an open calendar": lambda f: f["covariates"].update(calendar="auto"),
    "a network of other sizes": lambda f: f["network"].update(n_known=2**40),
    "mixed channels": lambda f: f["network"].update(mixed_channels=7),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampered_covariates_are_refused_in_one_line(name, model, tmp_path):
    model.save(tmp_path / "m")
    facts = json.loads((tmp_path / "m" / "config.json").read_text())
    TAMPERINGS[name](facts)
    (tmp_path / "m" / "config.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="is not what save") as caught:
        AttentionForecaster.load(tmp_path / "m")
    assert "\n" not in str(caught.value)


@EACH
def test_update_moves_on_with_covariates(kind):
    frame = covariate_frame()
    before, after = parts_of(frame, 9)
    model = attention(**KINDS[kind]).fit(before)
    future = fill_future(attention(**KINDS[kind]).fit(frame).make_future_frame())
    future = future if model.covariate_columns_.future else None
    expected = model.predict(frame, future=future)
    for part in (after[after["ds"] < "2024-06-26"], after[after["ds"] >= "2024-06-25"]):
        model.update(part)
    pd.testing.assert_frame_equal(model.predict(future=future), expected)


def test_an_update_with_another_static_value_changes_nothing(model):
    before, after = parts_of(covariate_frame(), 9)
    forecaster = attention(**EVERY).fit(before)
    forecast_before = forecaster.predict(future=fill_future(forecaster.make_future_frame()))
    with pytest.raises(ValueError, match=r"static column 'size' holds 1\.0 and 5\.0"):
        forecaster.update(after.assign(size=5))
    with pytest.raises(
        ValueError, match="series 's0': static column 'kind' was 'a', 'b' in training; got 'z'"
    ):
        forecaster.update(after.assign(kind="z"))
    pd.testing.assert_frame_equal(
        forecaster.predict(future=fill_future(forecaster.make_future_frame())), forecast_before
    )


@pytest.mark.filterwarnings("ignore:future= holds")
def test_checkpoints_know_covariates_and_a_warm_start_needs_the_same(tmp_path):
    frame = covariate_frame()
    kept_fit = attention(checkpoint_dir=tmp_path, **EVERY).fit(frame)
    refitted = attention(checkpoint_dir=tmp_path, **EVERY).fit(frame)
    future = fill_future(kept_fit.make_future_frame())
    pd.testing.assert_frame_equal(refitted.predict(future=future), kept_fit.predict(future=future))
    other = attention(checkpoint_dir=tmp_path, **EVERY).fit(frame.assign(price=frame["price"] ** 2))
    assert not other.predict(future=future).equals(kept_fit.predict(future=future))
    assert len(list(tmp_path.iterdir())) == 2  # one for each table
    warm = attention(past_cols=["temp"]).fit(frame)
    warm.set_params(schema__past_cols=["price"])
    with pytest.raises(
        ValueError,
        match=r"warm_start needs the covariates of the last fit; they were .*'temp'.*'price'",
    ):
        warm.fit(frame, warm_start=True)
    warm.set_params(schema__past_cols=["temp"], training__learning_rate=1e-9).fit(
        frame, warm_start=True
    )


def test_judges_hand_each_forecaster_its_own_columns():
    frame = covariate_frame()
    models = {
        "nothing": attention(),
        "temp": attention(past_cols=["temp"]),
        "price": attention(future_cols=["price"], calendar="auto"),
        "switched": attention(past_cols=["price"], future_cols=["temp"], static_cols=["kind"]),
        "naive": Naive(H),
    }
    whole_result = backtest(models, frame, n_windows=3, step_size=2).frame
    for name, each in models.items():
        own_result = backtest({name: each}, frame, n_windows=3, step_size=2).frame
        np.testing.assert_allclose(whole_result[name], own_result[name], rtol=1e-6)
    wide = backtest(
        [attention(past_cols=["temp"], future_cols=["promo"]), Naive(H)],
        wide_covariate_frame(),
        n_windows=2,
    )
    assert wide.frame["unique_id"].unique().tolist() == ["s0", "s1"]
    panel = to_panel(wide_covariate_frame())
    with pytest.raises(ValueError, match="the panel has no covariate 'temp'"):
        attention(past_cols=["temp"]).fit(panel)


@pytest.mark.parametrize("head", [None, "quantile", "student_t"])
def test_cross_validation_score_and_predict_windows_are_one(head):
    frame = covariate_frame()
    model = attention(head=head, val_size=14, **EVERY)
    frame_of_windows = model.cross_validation(frame, n_windows=1, level=50)
    known, last = parts_of(frame, H)
    model.fit(known)
    future = last[["unique_id", "ds", "promo", "price"]]
    expected = model.predict(future=future, level=50)
    np.testing.assert_allclose(frame_of_windows["mlr"], expected["mlr"], rtol=1e-5)
    np.testing.assert_allclose(frame_of_windows["mlr-lo-50"], expected["mlr-lo-50"], rtol=1e-5)
    panel = model.read(frame)
    ends = panel.starts[1:] - H
    windows = CovariateHistory(panel, model.covariate_columns_).windows(ends, 12, H)
    x = np.stack([panel.values[end - 12 : end] for end in ends])
    np.testing.assert_allclose(
        model.predict_windows(x, covariates=windows)[0].ravel(), expected["mlr"], rtol=1e-5
    )
    assert np.isfinite(model.score(frame))
    if head is not None:
        draws = model.sample(n_samples=3, future=future, random_state=0)
        assert draws.shape == (3, H, 3)
        moved = model.sample(
            n_samples=3, future=future.assign(price=future["price"] + 9), random_state=0
        )
        assert not np.allclose(moved, draws)


def test_intervals_are_calibrated_with_covariates():
    """The errors behind the intervals are those that ``predict_windows`` makes on the validation
    rows.
    """
    frame = covariate_frame((70,))
    model = attention(
        val_size=14, past_cols=["temp"], future_cols=["price"], calendar=["weekday"]
    ).fit(frame)
    panel = model.read(frame)
    ends = np.arange(56, 67)
    windows = CovariateHistory(panel, model.covariate_columns_).windows(ends, 12, H)
    x, y = (
        np.stack([panel.values[end + lo : end + hi] for end in ends])
        for lo, hi in ((-12, 0), (0, H))
    )
    errors = np.abs(y - model.predict_windows(x, covariates=windows)[0]) / x.std(
        axis=1, keepdims=True
    )
    np.testing.assert_allclose(model.fitted_.intervals.errors, np.sort(errors, axis=0), rtol=1e-5)


def test_forecasters_say_once_which_covariates_they_carry_forward():
    frame = covariate_frame((70,))
    frame.loc[[30, 31], "temp"] = np.nan
    schema = Schema(past_cols=["temp"])
    with pytest.warns(InputWarning, match="value before them; if a blank means 0") as caught:
        told = make_forecaster("zero", H, schema=schema).fit(frame)
    assert len(caught) == 1
    silent = make_forecaster("zero", H, schema=schema.changed(missing="mask")).fit(frame)
    pd.testing.assert_frame_equal(told.predict(), silent.predict())
    with pytest.raises(ValueError, match=r"column 'temp' is missing .* needs a value in every row"):
        make_forecaster("gbm", H, schema=schema.changed(missing="error")).fit(frame)
