"""What a fit does beyond learning: transforms, time limits, early stopping, warm starts, updates,
silence.
"""

import logging
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from side_by_side import ends_of_all
from small_forecasters import attention, linear
from tables import long_frame, wide_frame

from tsattn.catalogue import make_forecaster
from tsattn.data.frames import from_long, from_wide
from tsattn.data.transforms import TRANSFORMS, TargetTransform
from tsattn.evaluate.rolling import roll
from tsattn.forecasters.linear import LinearForecaster
from tsattn.limits import seconds_from
from tsattn.training import loop


def positive_frame():
    df = long_frame()
    df["y"] = np.exp(df["y"] / df.groupby("unique_id")["y"].transform("std"))
    return df


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_are_undone_and_monotone(name):
    transform = TargetTransform(name)
    values = np.array([0.0, 1e-9, 0.3, 7.0, 1e12])
    np.testing.assert_allclose(transform.inverse(transform.forward(values)), values, rtol=1e-12)
    wild = transform.inverse(np.linspace(-5, 5, 50))
    assert (np.diff(wild) >= 0).all()
    assert wild.min() == 0


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("make", [attention, linear])
def test_forecasts_come_back_on_the_original_scale(make, name):
    df = positive_frame()
    model = make(target_transform=name).fit(df)
    frame = model.predict(level=[80, 95])
    numbers = frame.drop(columns=["unique_id", "ds"])
    assert (numbers >= 0).all(axis=None)
    assert (numbers.iloc[:, 1] <= numbers.iloc[:, 2]).all()
    inner = df.groupby("unique_id")["y"].quantile([0, 1]).unstack()
    point = frame.groupby("unique_id")[model.alias_].mean()
    assert ((point > 0.2 * inner[0.0]) & (point < 5 * inner[1.0])).all()
    x = np.stack([df[df["unique_id"] == "s0"]["y"].to_numpy()[-24:, None]])
    # One window or several at once: float32 sums in another order, and the transform stretches the
    # difference.
    ours = frame[frame["unique_id"] == "s0"][model.alias_]
    np.testing.assert_allclose(model.predict_windows(x)[0][0, :, 0], ours, rtol=1e-5)


def test_a_transform_is_a_fit_on_transformed_values():
    df = positive_frame()
    inside = linear(target_transform="sqrt").fit(df).predict()
    outside = linear().fit(df.assign(y=np.sqrt(df["y"]))).predict()
    np.testing.assert_allclose(inside["nlinear"], np.maximum(outside["nlinear"], 0) ** 2, rtol=1e-5)


def test_a_transform_is_learnt_from_nothing_after_the_training_rows():
    df = positive_frame()
    changed = df.copy()
    last = df["ds"] == df["ds"].max()
    changed.loc[last, "y"] *= 2
    first, second = (
        linear(target_transform="log1p", val_size=20).fit(each) for each in (df, changed)
    )
    np.testing.assert_array_equal(first.fitted_.scaler.mean, second.fitted_.scaler.mean)
    np.testing.assert_array_equal(first.training_scales_.values, second.training_scales_.values)


def test_score_is_judged_on_the_original_scale():
    df = positive_frame()
    plain = linear().fit(df)
    mapped = linear(target_transform="log1p").fit(df)
    np.testing.assert_array_equal(plain.training_scales_.values, mapped.training_scales_.values)
    assert 0.3 < mapped.score(df) / plain.score(df) < 3


@pytest.mark.parametrize("name", TRANSFORMS)
def test_negative_values_are_refused_before_training(name, monkeypatch):
    monkeypatch.setattr("tsattn.training.loop.train", lambda *a, **k: pytest.fail("training began"))
    with pytest.raises(
        ValueError, match=rf"'{name}' needs values of at least 0; series 's0' has -.* at 2024-01"
    ):
        linear(target_transform=name).fit(long_frame())
    with pytest.raises(
        ValueError,
        match="target_transform must be one of log1p, sqrt, nonnegative or None; got 'box'",
    ):
        linear(target_transform="box").fit(long_frame())


def test_negative_windows_are_refused_at_prediction():
    model = linear(target_transform="sqrt").fit(positive_frame())
    with pytest.raises(ValueError, match="needs values of at least 0; windows have -1"):
        model.predict_windows(np.full((1, 24, 1), -1.0))[0]


def test_transforms_are_saved(tmp_path):
    model = linear(target_transform="log1p").fit(positive_frame())
    model.save(tmp_path / "m")
    loaded = LinearForecaster.load(tmp_path / "m")
    pd.testing.assert_frame_equal(loaded.predict(level=80), model.predict(level=80))
    assert loaded.score(positive_frame()) == model.score(positive_frame())


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("1.5h", 5400),
        (30, 30),
        (0.5, 0.5),
        (None, None),
        (" 2 m", 120),
        ("20", 20),
    ],
)
def test_time_limits_are_read(given, seconds):
    assert seconds_from(given) == seconds


@pytest.mark.parametrize("given", ["ten minutes", "m", "", "5d", True, [3]])
def test_other_time_limits_are_refused(given):
    with pytest.raises(
        ValueError, match="max_time must be seconds or a text such as '90s', '10m' or '2h'; got"
    ):
        linear(max_time=given).fit(long_frame())


def test_a_time_limit_must_be_above_zero():
    with pytest.raises(ValueError, match=r"max_time must be above 0; got 0\.0 seconds"):
        linear(max_time=0).fit(long_frame())


def test_a_time_limit_ends_training_and_keeps_the_best_weights(monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr("tsattn.training.loop.time.monotonic", lambda: next(clock))
    model = attention(max_epochs=500, patience=None, max_time=7.5, batch_size=64).fit(long_frame())
    steps = -(-model.summary_["train_windows"] // 64)
    assert model.summary_["timed_out"]
    assert model.summary_["epochs"] == -(-8 // steps)
    assert len(model.history_) == model.summary_["epochs"]
    assert model.history_["valid_loss"].notna().all()
    best = model.history_.set_index("epoch")["valid_loss"].idxmin()
    assert model.summary_["best_epoch"] == best
    unhurried = attention(max_epochs=2, max_time="1h").fit(long_frame())
    assert not unhurried.summary_["timed_out"]


def test_a_fit_out_of_time_goes_on_from_its_checkpoint_under_any_limit(tmp_path):
    limited = attention(max_epochs=3, patience=None, max_time=1e-9, checkpoint_dir=tmp_path)
    assert [limited.fit(long_frame()).summary_["epochs"] for _ in range(2)] == [1, 2]
    assert limited.summary_["timed_out"]
    longer = limited.set_params(training__max_time=None).fit(long_frame())
    assert (longer.summary_["epochs"], longer.summary_["timed_out"]) == (3, False)
    assert longer.history_["epoch"].tolist() == [1, 2, 3]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("make", [attention, linear])
def test_a_warm_start_goes_on_and_a_cold_one_begins_anew(make):
    df = long_frame()
    cold = make(max_epochs=2).fit(df)
    again = {k: v.clone() for k, v in cold.network_.state_dict().items()}
    cold.fit(df)
    assert all(torch.equal(v, again[k]) for k, v in cold.network_.state_dict().items())
    warm = make(max_epochs=2, learning_rate=1e-9).fit(
        df, warm_start=True
    )  # nothing to go on from yet
    begun = {k: v.clone() for k, v in warm.network_.state_dict().items()}
    warm.random_state = 99
    warm.fit(df, warm_start=True)
    for name, value in warm.network_.state_dict().items():
        torch.testing.assert_close(value, begun[name], atol=1e-6, rtol=1e-5)


def test_a_warm_start_needs_the_same_network():
    model = linear().fit(long_frame()).set_params(context=30)
    with pytest.raises(
        ValueError,
        match="warm_start needs the network of the last fit; context was 24 and is 30 now",
    ):
        model.fit(long_frame(), warm_start=True)
    assert model.context_ == 24
    model.set_params(context=24, training__scale="series")
    with pytest.raises(ValueError, match="undo the change of settings behind it, or begin anew by"):
        model.fit(long_frame(), warm_start=True)


def test_a_group_of_settings_that_is_none_is_refused_beside_its_fields():
    with pytest.raises(
        TypeError, match=r"training must be a tsattn.Training, .*got \{'patience': 1"
    ):
        make_forecaster("mlr", 5, training={"patience": 1}, max_epochs=2)


@pytest.mark.parametrize("make", [attention, linear])
def test_update_moves_the_forecast_on_without_learning(make):
    df = long_frame()
    cut = df["ds"].max() - pd.Timedelta(days=10)
    model = make().fit(df[df["ds"] <= cut])
    weights = {k: v.clone() for k, v in model.network_.state_dict().items()}
    expected = model.predict(df)
    assert model.update(df[df["ds"] > cut]) is model
    pd.testing.assert_frame_equal(model.predict(), expected)
    assert all(torch.equal(v, weights[k]) for k, v in model.network_.state_dict().items())


def test_update_reads_wide_tables_and_panels_and_overlapping_rows():
    df = wide_frame()
    model = linear().fit(df[:-10])
    expected = model.predict(df)
    model.update(df[-14:-5])
    model.update(from_wide(df[-5:]))
    pd.testing.assert_frame_equal(model.predict(), expected)
    corrected = df[-3:] + 1
    model.update(corrected)
    pd.testing.assert_frame_equal(model.predict(), model.predict(pd.concat([df[:-3], corrected])))


def test_update_takes_in_one_series_and_new_ones():
    df = long_frame()
    cut = df["ds"].max() - pd.Timedelta(days=3)
    model = linear().fit(df[(df["ds"] <= cut) & (df["unique_id"] != "s2")])
    model.update(df[(df["unique_id"] == "s1") & (df["ds"] > cut)])
    ends = model.predict().groupby("unique_id")["ds"].min()
    assert ends["s1"] - ends["s0"] == pd.Timedelta(days=3)
    model.update(df[df["unique_id"] == "s2"])
    assert sorted(model.predict()["unique_id"].unique()) == ["s0", "s1", "s2"]


def test_a_bad_update_changes_nothing():
    df = long_frame()
    cut = df["ds"].max() - pd.Timedelta(days=10)
    model = linear(missing="error").fit(df[df["ds"] <= cut])
    before = model.predict()
    with pytest.raises(ValueError, match=r"s0.*2024"):
        model.update(df[df["ds"] > cut + pd.Timedelta(days=2)])
    with pytest.raises(ValueError, match="a long table cannot be continued by a wide one"):
        model.update(wide_frame())
    pd.testing.assert_frame_equal(model.predict(), before)
    model.update(from_long(df[df["ds"] > cut]))


def test_bfloat16_training_is_near_float32():
    df = long_frame()
    plain = attention(dropout=0.0).fit(df)
    fast = attention(dropout=0.0, precision="bf16").fit(df)
    assert next(fast.network_.parameters()).dtype == torch.float32
    assert fast.history_["valid_loss"].iloc[-1] == pytest.approx(
        plain.history_["valid_loss"].iloc[-1], rel=0.05
    )
    assert fast.history_["valid_loss"].iloc[-1] != plain.history_["valid_loss"].iloc[-1]
    with pytest.raises(ValueError, match="precision must be one of None, bf16; got '16'"):
        attention(precision="16").fit(df)


def test_validation_is_the_end_patience_counts_epochs_and_the_best_stays():
    df = wide_frame()
    model = attention(max_epochs=40, patience=2, learning_rate=0.1).fit(df)
    summary = model.summary_
    losses = model.history_["valid_loss"]
    assert summary["valid_windows"] == 2 * (16 - 4 + 1), "a tenth of the rows"
    assert summary["epochs"] == summary["best_epoch"] + 2 < 40
    assert summary["valid_loss"] == losses.min() < losses.iloc[-1]
    panel = from_wide(df)
    ends = ends_of_all(panel, np.arange(len(df) - 16, len(df) - 4 + 1))
    assert roll(model, panel, ends, scaler=model.fitted_.scaler).mse == pytest.approx(
        losses.min(), rel=1e-4
    )
    last = df.copy()
    last.iloc[-16:] *= 3
    changed = attention(max_epochs=1).fit(last)
    np.testing.assert_array_equal(changed.fitted_.scaler.mean, model.fitted_.scaler.mean)


def test_cross_validation_fits_copies_as_often_as_asked(monkeypatch):
    fits = []
    df = long_frame(2, 120)
    train = loop.train

    def counted(*args, **kwargs):
        fits.append(1)
        return train(*args, **kwargs)

    model = linear(max_epochs=1).fit(df.groupby("unique_id").head(60))
    before = model.predict()
    monkeypatch.setattr(loop, "train", counted)
    for refit, times in ((False, 1), (True, 5), (2, 3)):
        fits.clear()
        model.cross_validation(df, n_windows=5, refit=refit)
        assert len(fits) == times
    pd.testing.assert_frame_equal(model.predict(), before)


# --- what a fit does to the process around it -----------------------------------------------------

WORK = """
import random, threading
import numpy as np, pandas as pd
from tsattn import AttentionForecaster, Network, Schema, Training

def work(freq):
    stamps = pd.date_range("2024-01-01", periods=120, freq="h")
    df = pd.DataFrame({"unique_id": "a", "ds": stamps, "y": np.sin(np.arange(120.0))})
    network = Network(d_model=8, n_heads=2, n_layers=1, d_ff=8)
    small = {"network": network, "training": Training(max_epochs=1), "schema": Schema(freq=freq)}
    answers[freq] = AttentionForecaster(4, context=24, random_state=0, **small).fit(df).predict(level=80)

answers, state = {}, random.getstate()
threads = [threading.Thread(target=work, args=(freq,)) for freq in ("H", "h")]
for thread in threads: thread.start()
for thread in threads: thread.join()
first = answers["h"]
work("h")
pd.testing.assert_frame_equal(first, answers["h"])
pd.testing.assert_frame_equal(first, answers["H"])
assert random.getstate() == state  # checks of shapes in the tests draw from it, the library does not
"""


def test_fits_in_threads_are_alike_silent_and_clean_where_warnings_of_change_are_errors(tmp_path):
    flags = ("-W", "error::FutureWarning", "-W", "error::DeprecationWarning")
    done = subprocess.run(
        [sys.executable, *flags, "-c", WORK], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_loggers_of_lightning_are_left_as_they_were(monkeypatch):
    loggers = [
        logging.getLogger(name)
        for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero")
    ]

    def state():
        return [(list(logger.filters), logger.level, list(logger.handlers)) for logger in loggers]

    before = state()
    during = []
    fit = loop.lightning.Trainer.fit

    def listening(self, *args, **kwargs):
        during.extend(len(logger.filters) for logger in loggers)
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(loop.lightning.Trainer, "fit", listening)
    linear(max_epochs=1).fit(wide_frame())
    assert during == [len(filters) + 1 for filters, _, _ in before], (
        "silence is a filter of the loggers"
    )
    assert state() == before


def test_rows_of_attention_maps_sum_to_one():
    maps = attention(max_epochs=1).fit(long_frame(2)).attention_maps(long_frame(2))
    np.testing.assert_allclose(maps.sum(axis=-1), 1, rtol=1e-5)
