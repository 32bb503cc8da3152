"""The trained forecasters: scikit-learn's rules, frames in and out, one pass, intervals, saving,
chance.
"""

import json
import pickle
import threading
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from calls import without_hook
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from small_forecasters import NET, TINY, attention, fitted, linear
from tables import long_frame, wide_frame
from tiny_network import tiny_network
from torch.nn.modules.module import register_module_forward_pre_hook

from tsattn.data.frames import from_wide, to_panel
from tsattn.data.schema import Schema
from tsattn.forecasters.attention import AttentionForecaster
from tsattn.forecasters.linear import LinearForecaster
from tsattn.forecasters.pretrained import PretrainedForecaster
from tsattn.forecasts import Forecast
from tsattn.nn.config import ATTENTION_KINDS, Network
from tsattn.training.loop import ForecastModule
from tsattn.training.settings import Training

MAKERS = [attention, linear]
EACH = pytest.mark.parametrize("make", MAKERS, ids=["mlr", "nlinear"])


@EACH
def test_constructor_stores_and_clone_forgets(make):
    model = make(alias="mine", val_size=0.2)
    params = model.get_params()
    fitted = model.fit(long_frame())
    assert fitted is model
    assert model.get_params() == params
    copy = clone(model)
    assert copy.get_params() == params
    with pytest.raises(NotFittedError):
        copy.predict()


def test_settings_are_read_and_changed_by_name():
    model = AttentionForecaster(4, network=Network(d_model=8), schema=Schema(freq="D"))
    params = model.get_params()
    assert (params["network__d_model"], params["training__max_epochs"], params["schema__freq"]) == (
        8,
        None,
        "D",
    )
    assert "network__d_model" not in model.get_params(deep=False)
    copy = clone(model)
    assert (
        model.set_params(
            network__d_model=32, training__max_epochs=3, training__patience=None, context=24
        )
        is model
    )
    assert (model.network, model.context) == (Network(d_model=32), 24)
    assert model.training == Training(max_epochs=3, patience=None)
    assert (copy.network.d_model, copy.training) == (8, Training())
    model.set_params(network=Network(d_ff=64), network__n_heads=4)
    assert model.network == Network(d_ff=64, n_heads=4)
    assert repr(model) == (
        "AttentionForecaster(horizon=4, context=24, network=Network(n_heads=4, d_ff=64),"
        " training=Training(max_epochs=3, patience=None), schema=Schema(freq='D'))"
    )


def test_settings_may_be_numbers_and_rows_of_numpy(tmp_path, monkeypatch):
    monkeypatch.setattr(Network, "__init__", without_hook(Network.__init__))
    plain = {
        "d_model": 12,
        "n_layers": 1,
        "max_epochs": 1,
        "batch_size": 16,
        "patience": 1,
        "max_time": 60,
        "offset": 1,
    }
    random = {name: np.int64(value) for name, value in plain.items()}
    model = attention(**random, ranks=np.array([3, 2, 1]), block_sizes=[np.int64(9), 3, 1]).fit(
        long_frame()
    )
    same = attention(**plain, ranks=(3, 2, 1), block_sizes=(9, 3, 1)).fit(long_frame())
    pd.testing.assert_frame_equal(model.predict(), same.predict())
    assert model.config_ == same.config_
    model.save(tmp_path / "m")
    pd.testing.assert_frame_equal(
        AttentionForecaster.load(tmp_path / "m").predict(), same.predict()
    )
    assert clone(model).network.d_model is model.network.d_model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"context": 12, "network__width": 1},
            "Network has no setting 'width'; it has d_model, n_heads",
        ),
        (
            {"context": 12, "network__d_model": 0},
            "d_model must be a whole number of at least 1; got 0",
        ),
        (
            {"context": 12, "colour": "red"},
            "AttentionForecaster has no parameter 'colour'; it takes horizon, context",
        ),
        ({"context": 12, "d_model": 8}, "AttentionForecaster has no parameter 'd_model'"),
        (
            {"context": 12, "alias__x": 1},
            "alias of AttentionForecaster has no parameters of its own; got alias__x",
        ),
    ],
)
def test_a_bad_change_of_settings_changes_nothing(changes, message):
    model = attention()
    before = model.get_params()
    with pytest.raises(ValueError, match=message):
        model.set_params(**changes)
    assert model.get_params() == before


def test_bare_names_find_their_place_and_unknown_ones_are_refused():
    bare = AttentionForecaster.from_settings(
        horizon=4, d_model=8, max_epochs=2, missing="ffill", context=24
    )
    assert (bare.network, bare.training) == (Network(d_model=8), Training(max_epochs=2))
    assert (bare.schema, bare.context) == (Schema(missing="ffill"), 24)
    base = AttentionForecaster.from_settings(horizon=4, network=Network(d_ff=32), d_model=8)
    assert base.network == Network(d_ff=32, d_model=8)
    with pytest.raises(
        ValueError, match="LinearForecaster has no setting 'd_model'; it has horizon, kind"
    ):
        LinearForecaster.from_settings(horizon=4, d_model=8)


class Calls:
    """How often each linear map of a network was called."""

    def __enter__(self):
        self.seen = Counter()
        self.hook = register_module_forward_pre_hook(self.note)
        return self.seen

    def note(self, module, args):
        if isinstance(module, torch.nn.Linear):
            self.seen[id(module)] += 1

    def __exit__(self, *_):
        self.hook.remove()


@pytest.mark.parametrize(
    ("make", "n_passes"),
    [
        (attention, 1),
        (lambda: attention(head="quantile"), 1),
        (lambda: attention(head="student_t"), 1),
        (linear, 1),
        # Values and their changes.
        (lambda: PretrainedForecaster(4, weights=tiny_network()), 2),
    ],
    ids=["attention", "quantile", "student_t", "linear", "pretrained"],
)
def test_intervals_take_no_further_pass_of_the_network(make, n_passes):
    frame = long_frame()
    # Steady changes are forecast too.
    frame["y"] = frame.groupby("unique_id").cumcount() + frame["y"] / 100
    model = make().fit(frame)
    with Calls() as seen:
        model.predict(level=[80, 95], quantiles=[0.3])
    assert set(seen.values()) == {n_passes}
    with Calls() as points:
        model.predict()
    assert points == seen


@EACH
def test_long_in_long_out(make):
    df = long_frame()
    before = df.copy()
    answer = make(alias="m").fit(df).predict(level=[80], quantiles=[0.1, 0.9, 0.5])
    pd.testing.assert_frame_equal(df, before)
    assert answer.columns.tolist() == [
        "unique_id",
        "ds",
        "m",
        "m-lo-80",
        "m-hi-80",
        "m-q0.1",
        "m-q0.5",
        "m-q0.9",
    ]
    assert len(answer) == 3 * 4
    assert answer["ds"].min() == df["ds"].max() + pd.Timedelta(days=1)
    assert (answer["m-lo-80"] == answer["m-q0.1"]).all()
    assert (answer["m-hi-80"] == answer["m-q0.9"]).all()
    assert (answer["m-lo-80"] < answer["m"]).all()
    assert (answer["m"] == answer["m-q0.5"]).all()


@EACH
def test_wide_in_wide_out_and_panel_in_forecast_out(make):
    wide = wide_frame()
    model = fitted(make, wide_frame)
    answer = model.predict(level=80)
    assert answer.columns.tolist() == [
        f"{c}{s}" for c in ("s0", "s1") for s in ("", "-lo-80", "-hi-80")
    ]
    assert isinstance(answer.index, pd.DatetimeIndex)
    forecast = model.predict(from_wide(wide))
    assert isinstance(forecast, Forecast)
    np.testing.assert_array_equal(forecast.point[0], answer["s0"])


def test_other_names_and_dialects():
    df = long_frame().rename(columns={"unique_id": "shop", "ds": "day", "y": "sales"})
    model = linear(id_col="shop", time_col="day", target_col="sales").fit(df)
    assert model.predict().columns.tolist() == ["shop", "day", "nlinear"]
    df = long_frame().rename(columns={"unique_id": "item_id", "ds": "timestamp", "y": "target"})
    assert linear().fit(df).predict().columns.tolist() == ["item_id", "timestamp", "nlinear"]


@EACH
def test_fit_twice_equals_once_and_ignores_global_chance(make):
    df = long_frame()
    first = fitted(make).predict()
    torch.rand(5)
    model = make().fit(long_frame(2))
    second_forecast = model.fit(df).predict()
    pd.testing.assert_frame_equal(first, second_forecast)
    assert not first.equals(make(random_state=1).fit(df).predict())


@EACH
def test_unseen_series_and_new_rows_need_no_refit(make):
    model = fitted(make)
    new = long_frame(1, 60).assign(unique_id="new")
    answer = model.predict(new)
    assert answer["unique_id"].unique().tolist() == ["new"]
    assert answer["ds"].min() == new["ds"].max() + pd.Timedelta(days=1)


def one_value_times(factor):
    """Two series, one of which has a wrong value in row 30."""
    table = long_frame(2, 80)
    row = table.index[table["unique_id"] == table["unique_id"].iloc[-1]][30]
    table.loc[row, "y"] *= factor
    return table, table.loc[row, "y"]


@EACH
def test_a_wrong_value_that_may_spoil_a_training_is_told(make):
    table, value = one_value_times(1000)
    message = f"has {value:g} at .*, far from its neighbours; a network learns from such values"
    with pytest.warns(UserWarning, match=message):
        make().fit(table)


def test_values_within_twice_the_range_spoil_no_training():
    table = long_frame(1, 300)
    table["y"] = np.random.default_rng(0).normal(0, 0.1, 300)
    table.loc[100:107, "y"] = 6.0
    table.loc[200, "y"] = 11.5
    with pytest.warns(UserWarning, match="such values are read as missing"):
        PretrainedForecaster(3).fit(table)
    linear().fit(table)


@EACH
def test_long_forecasts_follow_each_series_scale(make):
    """A series times a thousand is forecast times a thousand, seen or not."""
    model = make().fit(long_frame(2))
    new = long_frame(1, 60)
    base = model.predict(new, level=80).drop(columns=["unique_id", "ds"])
    large = model.predict(new.assign(y=new["y"] * 1000 + 5), level=80).drop(
        columns=["unique_id", "ds"]
    )
    np.testing.assert_allclose(large, base * 1000 + 5, rtol=1e-4, atol=1e-2)


def test_wide_and_melted_long_train_alike():
    """The same table in two dialects is the same windows on the same scale."""
    wide = wide_frame()
    long = wide.reset_index().melt(id_vars="ds", var_name="unique_id", value_name="y")
    one = attention(batch_size=10_000, dropout=0.0, max_epochs=1).fit(wide)
    two = attention(batch_size=10_000, dropout=0.0, max_epochs=1).fit(long)
    flat = two.predict().pivot(index="ds", columns="unique_id", values="mlr")
    np.testing.assert_allclose(
        one.predict()[["s0", "s1"]], flat[["s0", "s1"]], rtol=1e-3, atol=1e-3
    )


@EACH
def test_windows_and_panels_agree_in_any_chunk(make):
    df = long_frame()
    model = fitted(make)
    panel = to_panel(df)
    x = np.stack([panel.values[stop - 24 : stop] for stop in panel.starts[1:]])
    point = model.predict(panel).point
    np.testing.assert_allclose(model.predict_windows(x)[0][..., 0], point, rtol=1e-6)
    for i in range(3):
        np.testing.assert_allclose(
            model.predict_windows(x[i : i + 1])[0][0, :, 0], point[i], rtol=1e-5, atol=1e-6
        )
    bounds = model.predict_windows(x, quantiles=(0.1, 0.5, 0.9))[1]
    assert bounds.shape == (3, 4, 1, 3)
    assert (np.diff(bounds, axis=-1) >= 0).all()


def test_shorter_horizon_is_a_prefix_and_a_longer_one_is_refused():
    model = attention(horizon=6).fit(wide_frame())
    whole_forecast = model.predict(level=80)
    pd.testing.assert_frame_equal(model.predict(level=80, horizon=2), whole_forecast.head(2))
    with pytest.raises(ValueError, match="horizon = 7 is longer than the 6 steps"):
        model.predict(horizon=7)
    model.set_params(horizon=2)
    pd.testing.assert_frame_equal(model.predict(level=80), whole_forecast.head(2))
    model.set_params(horizon=9)
    with pytest.raises(ValueError, match="fit again with the longer horizon"):
        model.predict()


@pytest.mark.parametrize("frame", [long_frame, wide_frame])
@EACH
def test_save_and_load_without_the_training_frame(make, frame, tmp_path):
    model = fitted(make, frame)
    model.save(tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    loaded = type(model).load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.predict(level=[80]), model.predict(level=[80]))
    assert loaded.get_params() == model.get_params()
    assert loaded.summary_ == model.summary_
    assert loaded.score(frame()) == model.score(frame())
    pd.testing.assert_frame_equal(loaded.history_, model.history_)
    model.save(tmp_path / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_saved_model_keeps_settings_that_are_an_index_or_an_array(tmp_path):
    df = long_frame().assign(price=1.0, promo=0.0)
    levels = np.array([0.1, 0.5])
    model = AttentionForecaster.from_settings(
        horizon=4,
        **TINY,
        **NET,
        future_cols=df.columns[3:],
        calendar=np.array(["weekday"]),
        head="quantile",
    )
    model.quantiles = levels
    model.fit(df).save(tmp_path / "m")
    loaded = AttentionForecaster.load(tmp_path / "m")
    assert loaded.covariate_columns == model.covariate_columns
    assert loaded.quantiles == (0.1, 0.5)


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_save_and_load_keep_zone_and_category(tmp_path, zone):
    df = long_frame(freq="h").astype({"unique_id": "category"})
    df["ds"] = df["ds"].dt.tz_localize(zone)
    model = linear().fit(df)
    model.save(tmp_path / "model")
    pd.testing.assert_frame_equal(
        LinearForecaster.load(tmp_path / "model").predict(), model.predict()
    )


def tamper_json(change):
    def apply(folder):
        facts = json.loads((folder / "config.json").read_text())
        change(facts)
        (folder / "config.json").write_text(json.dumps(facts))

    return apply


def tamper_bytes(name, content):
    return lambda folder: (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
        (tamper_bytes("config.json", b"{"), "no valid JSON"),
        (tamper_bytes("config.json", b"[1]"), "must hold a JSON object"),
        (tamper_bytes("config.json", b"\xff\xfe"), "no valid JSON"),
        (tamper_bytes("model.safetensors", b"garbage"), "is damaged"),
        (tamper_bytes("model.safetensors", pickle.dumps({})), "is damaged"),
        (tamper_json(lambda f: f.update(format=99)), "this version reads up to 3"),
        (tamper_json(lambda f: f.pop("panel")), "not what save"),
        (tamper_json(lambda f: f["network"].update(d_model=12)), "not what save"),
        (
            tamper_json(lambda f: f["network"].update(backbone="evil")),
            "backbone must be one of .*; got 'evil'",
        ),
        (tamper_json(lambda f: f["parameters"].update(colour="red")), "not what save"),
        (tamper_json(lambda f: f.update({"class": "LinearForecaster"})), "LinearForecaster.load"),
    ],
)
def test_tampered_files_are_refused(tmp_path, tamper, message):
    fitted(attention, wide_frame).save(tmp_path / "model")
    tamper(tmp_path / "model")
    with pytest.raises(ValueError, match=message):
        AttentionForecaster.load(tmp_path / "model")


def test_saving_never_overwrites_a_strangers_folder(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="is no saved model"):
        fitted(linear, wide_frame).save(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("config", ["{}", '{"format": 2, "class": "LinearForecaster"}', "no JSON"])
def test_a_folder_with_more_than_a_saved_model_is_a_strangers(tmp_path, config):
    model = fitted(linear, wide_frame)
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="is no saved model"):
        model.save(tmp_path)
    (tmp_path / "thesis.txt").unlink()
    if "class" in config:
        model.save(tmp_path)
        model.save(tmp_path)
        pd.testing.assert_frame_equal(LinearForecaster.load(tmp_path).predict(), model.predict())
    else:
        with pytest.raises(ValueError, match="is no saved model"):
            model.save(tmp_path)


def test_cross_validation_leaves_the_estimator_alone():
    df = long_frame()
    model = fitted(attention)
    before = model.predict()
    frame = model.cross_validation(df, n_windows=3, step_size=2, level=80)
    assert frame.columns.tolist() == [
        "unique_id",
        "ds",
        "cutoff",
        "y",
        "mlr",
        "mlr-lo-80",
        "mlr-hi-80",
    ]
    assert len(frame) == 3 * 3 * 4
    pd.testing.assert_frame_equal(model.predict(), before)


def test_score_is_minus_the_standardised_mae():
    df = wide_frame()
    model = fitted(linear, wide_frame)
    values = df.to_numpy()
    stop = len(df) - 16
    scale = values[:stop].std(0)
    errors = []
    for end in range(24, len(df) - 4 + 1):
        forecast = model.predict_windows(values[None, end - 24 : end])[0][0]
        errors.append(np.abs(forecast - values[end : end + 4]) / scale)
    assert model.score(df) == pytest.approx(-np.mean(errors), rel=1e-6)


def test_score_scales_unseen_series_by_themselves():
    model = linear().fit(long_frame(2))
    seen = long_frame(1)
    other = long_frame(1).assign(unique_id="other")
    assert model.score(other) == pytest.approx(model.score(seen), rel=0.05)
    assert model.score(other.assign(y=other["y"] * 1e6)) == pytest.approx(
        model.score(other), rel=1e-4
    )


def test_summary_and_history_tell_what_was_fitted():
    model = attention(val_size=0.25).fit(wide_frame())
    summary = model.summary_
    assert summary["parameters"] == sum(p.numel() for p in model.network_.parameters())
    assert (summary["context"], summary["patches"], summary["ranks"]) == (24, 8, (2, 1, 1))
    assert summary["block_sizes"] == (8, 4, 2)
    assert summary["train_windows"] == 2 * (120 - 28 + 1)
    assert summary["valid_windows"] == 2 * (40 - 4 + 1)
    assert model.history_["epoch"].tolist() == [1, 2]
    assert summary["valid_loss"] == model.history_["valid_loss"].min()


def test_the_default_context_adapts_to_what_there_is():
    assert attention(context=None).fit(long_frame(1, 160)).context_ == (160 - 16 - 4) // 2
    assert attention(context=None).fit(long_frame(1, 1000)).context_ == 96
    with pytest.raises(ValueError, match="s0"):
        attention(context=None).fit(long_frame(1, 12))


def test_val_size_in_rows_gives_the_published_windows():
    model = linear(horizon=4, val_size=40).fit(wide_frame(200))
    assert model.summary_["train_windows"] == 2 * (160 - 24 - 4 + 1)
    assert model.summary_["valid_windows"] == 2 * (40 - 4 + 1)
    none = linear(val_size=0).fit(wide_frame())
    assert none.summary_["valid_windows"] == 0
    with pytest.raises(ValueError, match="val_size = 0 leaves nothing to calibrate"):
        none.predict(level=80)


def test_the_scaler_and_the_gradients_see_no_validation_row():
    """Values of the validation span steer only the choice among epochs, not weights or scales."""
    df = wide_frame()
    changed = df.copy()
    changed.iloc[-16:] *= 3
    one = linear(patience=None, max_epochs=1).fit(df)
    two = linear(patience=None, max_epochs=1).fit(changed)
    np.testing.assert_array_equal(one.fitted_.scaler.mean, two.fitted_.scaler.mean)
    for a, b in zip(one.network_.parameters(), two.network_.parameters(), strict=True):
        assert torch.equal(a, b)


def test_gaps_at_the_border_are_filled_without_a_look_at_validation_rows():
    df = wide_frame()
    df.iloc[140:147] = np.nan
    changed = df.copy()
    changed.iloc[147:] *= 3
    one, two = (
        linear(patience=None, max_epochs=1, missing="interpolate").fit(each)
        for each in (df, changed)
    )
    for a, b in zip(one.network_.parameters(), two.network_.parameters(), strict=True):
        assert torch.equal(a, b)


def test_intervals_are_errors_on_the_validation_rows():
    values = wide_frame()[["s0"]].to_numpy()
    stop = 144
    model = linear(val_size=16).fit(wide_frame()[["s0"]])
    contexts = [values[end - 24 : end] for end in range(stop, 157)]
    points = [model.predict_windows(x[None])[0][0] for x in contexts]
    # Errors count in deviations of their windows.
    errors = [
        np.abs(values[stop + i : stop + i + 4] - point) / x.std()
        for i, (x, point) in enumerate(zip(contexts, points, strict=True))
    ]
    expected = np.sort(errors, axis=0)
    np.testing.assert_allclose(model.fitted_.intervals.errors, expected, rtol=1e-4, atol=1e-6)


def test_gaps_are_filled_with_a_word_unless_asked():
    df = wide_frame()
    df.iloc[50:53, 0] = np.nan
    df.iloc[-1, 1] = np.nan
    with pytest.raises(ValueError, match="missing"):
        linear(missing="error").fit(df)
    answer = linear(missing="interpolate").fit(df).predict(level=80)
    assert np.isfinite(answer.to_numpy()).all()
    with pytest.warns(
        UserWarning, match=r"'s0' has no value at .* \(and 3 more.*\); .* interpolated"
    ):
        unasked = linear().fit(df).predict(level=80)
    pd.testing.assert_frame_equal(unasked, answer)


def test_a_warm_start_goes_on_although_the_fit_before_left_a_checkpoint(tmp_path):
    df = long_frame()
    plain = fitted(linear)
    kept_fit = linear(checkpoint_dir=tmp_path).fit(df)
    cold = kept_fit.predict()
    for model in (plain, kept_fit):
        model.fit(df, warm_start=True)
    pd.testing.assert_frame_equal(kept_fit.predict(), plain.predict())
    assert not cold.equals(kept_fit.predict())


def test_checkpoints_resume_and_leave_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    df = wide_frame()
    plain = fitted(attention, wide_frame)
    assert not list(tmp_path.iterdir())
    kept_fit = attention(checkpoint_dir=tmp_path / "c").fit(df)
    refitted = attention(checkpoint_dir=tmp_path / "c").fit(df)
    pd.testing.assert_frame_equal(plain.predict(), kept_fit.predict())
    pd.testing.assert_frame_equal(plain.predict(), refitted.predict())
    other = attention(checkpoint_dir=tmp_path / "c", learning_rate=1e-4).fit(df)
    assert not other.predict().equals(plain.predict())
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_a_checkpoint_of_a_numpy_generator_is_found_by_its_seed_alone(tmp_path, monkeypatch):
    df = long_frame()
    steps = []
    step = ForecastModule.on_train_batch_start
    monkeypatch.setattr(
        ForecastModule, "on_train_batch_start", lambda *a: steps.append(1) or step(*a)
    )

    def forecast(random):
        steps.clear()
        return linear(checkpoint_dir=tmp_path, random_state=random).fit(df).predict()

    first = forecast(np.random.default_rng(0))
    gone = np.random.default_rng(0)
    assert steps
    pd.testing.assert_frame_equal(forecast(gone), first)
    assert not steps
    assert not forecast(gone).equals(first)  # the same object, but another seed
    assert steps


def test_fit_and_predict_are_silent_and_leave_global_state(capfd):
    before = torch.random.get_rng_state()
    attention().fit(wide_frame()).predict(level=80)
    out = capfd.readouterr()
    assert (out.out, out.err) == ("", "")
    assert torch.equal(before, torch.random.get_rng_state())


# Filters belong to the process: a library that leaves ``catch_warnings`` in one thread may take away
# the filter that the fit in the other one has set.
@pytest.mark.filterwarnings(
    r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"
)
def test_concurrent_fits_equal_serial_ones():
    df = long_frame()
    serial = [fitted(attention).predict(), attention(random_state=1).fit(df).predict()]
    together: dict[int, pd.DataFrame] = {}
    threads = [
        threading.Thread(
            target=lambda s=s: together.__setitem__(s, attention(random_state=s).fit(df).predict())
        )
        for s in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for s in range(2):
        pd.testing.assert_frame_equal(serial[s], together[s])


def test_a_numpy_generator_as_seed_is_drawn_from():
    df = long_frame()
    a = linear(random_state=np.random.default_rng(1)).fit(df).predict()
    b = linear(random_state=np.random.default_rng(1)).fit(df).predict()
    pd.testing.assert_frame_equal(a, b)
    linear(random_state=None).fit(df)


def test_pickle_keeps_the_forecast():
    model = fitted(attention)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(model)).predict(), model.predict())


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_attention_maps_of_the_last_contexts(kind):
    df = long_frame()
    model = attention(attention=kind, n_layers=2, max_epochs=1).fit(df)
    maps = model.attention_maps()
    patches = model.summary_["patches"]
    assert maps.shape == (2, 3, 2, patches, patches)
    np.testing.assert_allclose(maps.sum(-1), 2 if kind == "global_local" else 1, rtol=1e-5)
    np.testing.assert_array_equal(model.attention_maps(df), maps)
    np.testing.assert_allclose(
        model.attention_maps(df[df["unique_id"] == "s1"])[:, 0], maps[:, 1], rtol=1e-4
    )
    with pytest.raises(ValueError, match="needs at least 8 rows"):
        model.attention_maps(df.groupby("unique_id").tail(5))


def test_the_next_fit_decides_whether_missing_values_are_left_out():
    frame = long_frame()
    holed = frame.assign(y=frame["y"].where(frame.index % 17 != 3))
    model = attention(max_epochs=1).fit(frame).set_params(schema__missing="mask").fit(holed)
    fresh = attention(max_epochs=1, missing="mask").fit(holed)
    pd.testing.assert_frame_equal(model.predict(), fresh.predict())


def test_attention_maps_are_of_transformed_values():
    frame = long_frame(1).assign(y=lambda f: np.exp(f["y"]))
    curved = attention(target_transform="log1p").fit(frame)
    plain = attention().fit(frame.assign(y=np.log1p(frame["y"])))
    np.testing.assert_allclose(np.log1p(curved.predict()["mlr"]), plain.predict()["mlr"], rtol=1e-5)
    np.testing.assert_allclose(curved.attention_maps(), plain.attention_maps(), atol=1e-6)


def test_an_update_keeps_categories_and_the_sizes_of_their_series():
    names = ["s2", "s0", "s1"]
    frame = long_frame().assign(
        unique_id=lambda f: pd.Categorical(f["unique_id"], categories=names)
    )
    first = frame.groupby("unique_id", observed=True).head(150)
    rest = frame.drop(first.index)
    model = linear().fit(first)
    whole_forecast = model.predict(frame)
    score = model.score(frame)
    for part in (
        rest,
        rest.assign(unique_id=pd.Categorical(rest["unique_id"], categories=["s0", "s1", "s2"])),
    ):
        later = pickle.loads(pickle.dumps(model)).update(part)
        pd.testing.assert_frame_equal(later.predict(), whole_forecast)
        assert later.score(frame) == pytest.approx(score)
    one_series = rest[rest["unique_id"] == "s0"].assign(unique_id=pd.Categorical(["s0"] * 10))
    new = one_series.assign(unique_id=pd.Categorical(["fresh"] * 10))
    assert (
        pickle.loads(pickle.dumps(model)).update(one_series).predict()["unique_id"].tolist()
        == whole_forecast["unique_id"].tolist()
    )
    assert set(model.update(pd.concat([rest, new])).predict()["unique_id"]) == {*names, "fresh"}


def test_an_update_in_another_time_zone_tells_the_same_hours():
    stamps = pd.date_range("2024-03-01", periods=300, freq="h", tz="America/New_York")
    frame = pd.DataFrame(
        {"unique_id": "a", "ds": stamps, "y": np.sin(2 * np.pi * stamps.hour / 24)}
    )
    first = frame[:276]
    rest = frame[276:]
    model = attention(calendar=["hour"]).fit(first)
    same = pickle.loads(pickle.dumps(model)).update(rest).predict()
    other = model.update(rest.assign(ds=rest["ds"].dt.tz_convert("UTC"))).predict()
    pd.testing.assert_frame_equal(other, same)
    assert str(other["ds"].dt.tz) == "America/New_York"


def test_attention_maps_are_for_models_with_attention():
    with pytest.raises(NotFittedError):
        attention().attention_maps()
    assert not hasattr(linear(), "attention_maps")


def test_a_decoder_forecasts_patch_by_patch():
    model = attention(architecture="decoder", patch_stride=6, linear_skip=False, horizon=15).fit(
        long_frame()
    )
    frame = model.predict(level=80)
    assert len(frame) == 3 * 15
    assert np.isfinite(frame.drop(columns=["unique_id", "ds"]).to_numpy()).all()
    assert model.summary_["patches"] == 4 + 2


@pytest.mark.parametrize(
    ("freq", "stride", "context", "blocks"),
    [
        ("h", 8, 400, (50, 21, 3)),
        ("h", 8, 160, (20, 3)),
        ("D", 1, 50, (44, 7)),
        ("15min", 12, 200, (16, 8)),
    ],
)
def test_blocks_follow_the_calendar(freq, stride, context, blocks):
    days = pd.date_range("2024-01-01", periods=600, freq=freq)
    df = pd.DataFrame({"unique_id": "a", "ds": days, "y": np.sin(np.arange(600) / 5)})
    length = 8 if stride == 1 else 2 * stride
    model = attention(
        block_sizes="calendar", context=context, patch_len=length, patch_stride=stride, max_epochs=1
    )
    assert model.fit(df).summary_["block_sizes"] == blocks
    assert sum(model.summary_["ranks"]) == model.network.d_model // model.network.n_heads
    assert len(model.summary_["ranks"]) == len(blocks)


def test_a_calendar_needs_days_or_weeks_and_a_context_longer_than_one():
    df = long_frame(1)
    with pytest.raises(
        ValueError,
        match="finds no cycle between one patch and the context of 3 patches for frequency",
    ):
        attention(block_sizes="calendar", context=16, patch_len=7, patch_stride=7).fit(df)
    df["ds"] = pd.date_range("1960-01-01", periods=len(df), freq="MS")
    with pytest.raises(ValueError, match="needs a frequency with whole days or weeks; got 'MS'"):
        attention(block_sizes="calendar").fit(df)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: attention(horizon=0), "horizon must be a whole number"),
        (lambda: attention(horizon=2.5), "horizon must be a whole number"),
        (lambda: attention(context=-3), "context must be a whole number"),
        (
            lambda: attention(block_sizes="lunar"),
            "block_sizes must be numbers or 'calendar'; got 'lunar'",
        ),
        (
            lambda: attention(block_sizes="calendar", patch_stride=3),
            "patch_stride that divides a cycle of 7 rows",
        ),
        (
            lambda: attention(attention="bilinear_mlr", block_sizes="calendar", patch_stride=1),
            "does not take block_sizes",
        ),
        (
            lambda: attention(attention="nlinear"),
            "attention must be one of standard, sliding_window",
        ),
        (lambda: attention(attention="standard", ranks=(2, 2)), "'standard' does not take ranks"),
        (lambda: attention(ranks=(2, 1)), "ranks must sum to d_head"),
        (lambda: linear(kind="mlr"), "kind must be one of nlinear, dlinear, rlinear; got 'mlr'"),
        (lambda: linear(loss="mape"), "loss must be one of"),
        (lambda: linear(val_size=1.5), "val_size must be a number of rows or a share"),
        (lambda: linear(val_size=2), "val_size must hold at least one horizon"),
        (lambda: linear(missing="drop"), "missing"),
        (lambda: linear(device="tpu9"), "device"),
        (lambda: linear(random_state="x"), "random_state must be"),
        (lambda: linear(context=500), "s0"),
    ],
)
def test_bad_parameters_stop_before_training(make, message, monkeypatch):
    monkeypatch.setattr("tsattn.training.loop.train", lambda *a, **k: pytest.fail("training began"))
    with pytest.raises(ValueError, match=message):
        make().fit(long_frame(1))


def test_a_failed_fit_keeps_the_old_one(monkeypatch):
    model = fitted(linear)
    before = model.predict()
    with pytest.raises(ValueError, match="ds"):
        model.fit(pd.DataFrame({"unique_id": ["a"], "y": [1.0]}))
    pd.testing.assert_frame_equal(model.predict(), before)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("tsattn.training.loop.train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(long_frame(2))
    pd.testing.assert_frame_equal(model.predict(), before)


def test_strange_data_are_refused_at_predict():
    model = fitted(linear, wide_frame)
    turned = model.predict(wide_frame()[["s1", "s0"]])
    pd.testing.assert_frame_equal(turned, model.predict()[["s1", "s0"]])
    with pytest.raises(ValueError, match="needs at least 8 rows"):
        model.predict(wide_frame().tail(3))
    hourly = wide_frame()
    hourly.index = pd.date_range("2024-01-01", periods=len(hourly), freq="h", name="ds")
    with pytest.raises(ValueError, match="off the frequency 'D'"):
        model.predict(hourly)
    with pytest.raises(ValueError, match="fitted on frequency 'D'; got 'h'"):
        model.predict(from_wide(hourly))


def test_the_default_dtype_of_torch_changes_nothing_and_stays(tmp_path):
    df = long_frame()
    fitted(attention).save(tmp_path / "m")

    def answers(fits):
        return [
            model.predict(level=80) for model in (*fits, AttentionForecaster.load(tmp_path / "m"))
        ]

    single = answers([fitted(make) for make in MAKERS])
    torch.set_default_dtype(torch.float64)
    try:
        double = answers([make().fit(df) for make in MAKERS])
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(single, double, strict=True):
        pd.testing.assert_frame_equal(one, other)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@EACH
def test_fits_where_torch_keeps_no_gradients(make, mode):
    with mode():
        answer = make().fit(long_frame()).predict(level=80)
        assert not torch.is_grad_enabled()
    pd.testing.assert_frame_equal(answer, fitted(make).predict(level=80))


@pytest.mark.parametrize(("make", "name"), [(attention, "attention"), (linear, "kind")])
def test_a_network_is_not_given_out_for_another(make, name, tmp_path):
    model = fitted(make)
    known = getattr(model, name)
    model.set_params(**{name: "other"})
    for ask in (model.predict, lambda: model.save(tmp_path / "m")):
        with pytest.raises(
            ValueError,
            match=f"the network was fitted as '{known}', not as 'other'; fit again, or set",
        ):
            ask()
    assert model.set_params(**{name: known}).predict().columns[-1] == known


@pytest.mark.parametrize(
    ("missing", "wide"), [("ffill", True), ("interpolate", False), ("mask", False), ("mask", True)]
)
def test_a_late_correction_beside_new_rows_leaves_the_rows_between_as_they_were(missing, wide):
    frame = long_frame(2)
    days = np.sort(frame["ds"].unique())
    frame = (
        frame.pivot(index="ds", columns="unique_id", values="y").reset_index() if wide else frame
    )
    names = frame.columns.difference(["unique_id", "ds"])
    model = attention(missing=missing).fit(frame[frame["ds"] < days[150]])
    late, mended, new = (
        frame[frame["ds"].isin(some)].copy() for some in (days[[20]], days[[145]], days[150:])
    )
    late[names], mended[names] = late[names] + 90, mended[names] + 1
    whole_frame = pd.concat([frame[~frame["ds"].isin(days[[20, 145]])], late, mended])
    assert model.context_ < 120
    expected = model.predict(whole_frame)
    np.testing.assert_array_equal(model.update(pd.concat([late, mended, new])).predict(), expected)


def test_a_correction_older_than_the_context_is_no_gap():
    frame = long_frame(2)
    model = attention().fit(frame)
    expected = model.predict()
    pd.testing.assert_frame_equal(
        model.update(frame.groupby("unique_id").head(1).assign(y=99.0)).predict(), expected
    )


@pytest.mark.filterwarnings("ignore:no series has a value in the last")
@pytest.mark.parametrize("missing", ["ffill", "interpolate", "mask"])
def test_what_an_update_left_missing_is_filled_as_in_one_table(missing, tmp_path):
    frame = long_frame(2)
    day = frame["ds"].unique()[-3]
    frame["y"] = frame["y"].where(frame["ds"] != day)
    model = attention(missing=missing).fit(frame[frame["ds"] <= day])
    model.save(tmp_path / "m")
    pd.testing.assert_frame_equal(
        AttentionForecaster.load(tmp_path / "m").predict(), model.predict()
    )
    expected = model.predict(frame)
    pd.testing.assert_frame_equal(model.update(frame[frame["ds"] > day]).predict(), expected)
