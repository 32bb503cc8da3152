"""Do fifteen standing complaints about forecasting libraries hold here? Those about tables, devices and use, 8 to 15.

See test_complaints.py for how they are told.
"""

import subprocess
import sys
import tomllib

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from test_complaints import TESTS, processor_seconds, stands
from test_estimator import attention, linear, long_frame, wide_frame

import tsattn.training.loop
from tsattn.adapters.export import export_onnx
from tsattn.data.encoding import CovariateEncoder
from tsattn.data.frames import from_long, from_wide
from tsattn.evaluate.backtest import roll
from tsattn.forecasters.attention import LinearForecaster
from tsattn.nn.models import PatchEncoder

# --- 8: no way to forecast the real future, or series that training has not seen --------------------------------


def check_08(freq, zone):
    def table(name, begin, rows):
        stamps = pd.date_range(begin, periods=rows, freq=freq, tz=zone)
        return pd.DataFrame({"unique_id": name, "ds": stamps, "y": np.sin(np.arange(rows))})

    model = linear(3, context=6, max_epochs=1).fit(table("known", "2020-01-01", 40))
    new = table("new", "2024-02-07", 20)
    answer = model.predict(new)
    assert answer["unique_id"].tolist() == ["new"] * 3
    expected = pd.date_range(new["ds"].iloc[-1], periods=4, freq=freq)[1:]
    assert answer["ds"].tolist() == expected.tolist()
    assert answer["ds"].dtype == new["ds"].dtype
    assert np.isfinite(answer["nlinear"]).all()


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize("freq", ["15min", "h", "D", "B", "W-MON", "MS", "QS"])
def test_08_unseen_series_are_forecast_after_their_last_stamp(freq, zone):
    check_08(freq, zone)


def test_08_twin_the_last_stamp_again(monkeypatch):
    monkeypatch.setattr("tsattn.forecaster.future_times", lambda last, freq, n_steps: last.repeat(n_steps))
    with pytest.raises(AssertionError):
        check_08("h", None)


# --- 9: NaN goes in silently and comes out ----------------------------------------------------------------------


def holed():
    df = long_frame(2)
    df.loc[[30, 200, 201, 319], "y"] = np.nan
    return df


def check_09_refused(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("tsattn.forecasters.trained.train", lambda *args, **kwargs: pytest.fail("training began"))
        with pytest.raises(
            ValueError, match=r"series 's0': column 'y' is missing \(NaN\) at 2024-01-31 .*\(and 3 more"
        ):
            linear().fit(holed())


def test_09_missing_values_are_named_or_masked_and_never_forecast(monkeypatch):
    check_09_refused(monkeypatch)
    model = attention(missing="mask").fit(holed())
    assert np.isfinite(model.history_[["train_loss", "valid_loss"]].to_numpy()).all()
    assert all(value.isfinite().all() for value in model.network_.state_dict().values())
    answer = model.predict(level=80)
    assert np.isfinite(answer.drop(columns=["unique_id", "ds"]).to_numpy()).all()
    assert stands("test_mask.py", "test_what_stands_under_a_hole_cannot_matter")


def test_09_a_loss_that_is_no_number_stops_with_a_message():
    with pytest.raises(ValueError, match=r"the loss became \S+ in epoch 1; lower learning_rate"):
        linear(learning_rate=1e35).fit(wide_frame())


def test_09_twin_nobody_looks(monkeypatch):
    monkeypatch.setattr("tsattn.data.tables._check_missing", lambda *args: None)
    with pytest.raises(pytest.fail.Exception, match="training began"):
        check_09_refused(monkeypatch)


# --- 10: gaps, duplicates, frequencies --------------------------------------------------------------------------

FAULTS = {
    "duplicate": "series 5000: duplicate stamp 2024-01-02",
    "gap": "series 5000: gap: there is no row at 2024-01-04",
    "mixed": "series 5000: mixed frequencies: 2024-01-01 00:00:00 is followed by 2024-01-01 01:00:00",
    "stray": "series 5000: the stamp 2024-01-04 00:20:00 is off",
    "zone": "only some stamps carry a UTC offset",
}


def ten_thousand(fault=None):
    """A shuffled table of 10,000 series of 8 days, of which one, at place 5,000, has a fault."""
    days = pd.date_range("2024-01-01", periods=8, freq="D")
    df = pd.DataFrame({"unique_id": np.repeat(np.arange(10_000), 8), "ds": np.tile(days, 10_000), "y": 1.0})
    row, mine = 5_000 * 8 + 3, df["unique_id"] == 5_000
    if fault in ("duplicate", "stray"):
        df.loc[row, "ds"] = days[1] if fault == "duplicate" else days[3] + pd.Timedelta("20min")
    if fault == "mixed":
        df.loc[mine, "ds"] = pd.date_range("2024-01-01", periods=8, freq="h")
    if fault == "gap":
        df = df.drop(index=row)
    if fault == "zone":
        df["ds"] = df["ds"].dt.strftime("%Y-%m-%d")
        df.loc[row, "ds"] = "2024-01-04T00:00:00+01:00"
    return df.sample(frac=1, random_state=0)


def check_10(fault):
    with pytest.raises(ValueError, match=FAULTS[fault]):
        from_long(ten_thousand(fault))


@pytest.mark.parametrize("fault", FAULTS)
def test_10_one_bad_series_among_ten_thousand_is_named(fault):
    check_10(fault)


def test_10_the_look_takes_less_than_a_second_and_anchors_stay():
    df = ten_thousand()
    assert from_long(df).fingerprint() == from_long(df.sort_index()).fingerprint()
    assert min(processor_seconds(lambda: from_long(df)) for _ in range(3)) < 1
    for freq in ("W-WED", "MS", "QS-FEB"):
        stamps = pd.date_range("2020-01-01", periods=40, freq=freq)
        model = linear(2, context=6, max_epochs=1).fit(pd.DataFrame({"ds": stamps, "y": np.arange(40.0)}))
        assert model.predict()["ds"].tolist() == pd.date_range(stamps[-1], periods=3, freq=freq)[1:].tolist()


def test_10_twin_duplicates_pass(monkeypatch):
    monkeypatch.setattr("tsattn.data.tables._check_duplicates", lambda table: None)
    with pytest.raises(AssertionError, match="Regex pattern did not match"):
        check_10("duplicate")


# --- 11: a model trained on a GPU does not open without one -----------------------------------------------------


def check_11(folder, monkeypatch):
    model = linear(max_epochs=1).fit(wide_frame())
    model.set_params(device="cuda:63").save(folder / "model")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    loaded = LinearForecaster.load(folder / "model")
    pd.testing.assert_frame_equal(loaded.predict(), model.predict())
    assert {value.device.type for value in loaded.network_.state_dict().values()} == {"cpu"}
    assert loaded.device == "cuda:63", "what was chosen is kept"
    with pytest.raises(ValueError, match="device 'cuda:63' is not available here"):
        loaded.fit(wide_frame())


def test_11_models_open_without_the_device_they_were_made_on(tmp_path, monkeypatch):
    check_11(tmp_path, monkeypatch)
    assert stands("test_safety_saved.py", "test_models_answer_alike_in_a_fresh_process_without_the_table")


def test_11_twin_the_device_of_then(tmp_path, monkeypatch):
    monkeypatch.setattr(LinearForecaster, "resolve_device", lambda self, strict=False: torch.device(self.device))
    with pytest.raises((AssertionError, RuntimeError), match=r"CUDA|device"):
        check_11(tmp_path, monkeypatch)


# --- 12 and 14: noise, files, races; warnings of pandas, numpy and Lightning ------------------------------------

WORK = """
import random, threading
import numpy as np, pandas as pd
from tsattn import AttentionForecaster

def work(freq):
    stamps = pd.date_range("2024-01-01", periods=120, freq="h")
    df = pd.DataFrame({"unique_id": "a", "ds": stamps, "y": np.sin(np.arange(120.0))})
    model = AttentionForecaster(4, context=24, n_layers=1, d_ff=8, max_epochs=2, freq=freq, random_state=0)
    answers[freq] = model.fit(df).predict(level=80)

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


def strictly(code, folder):
    """Run code in a fresh process in an empty folder, with warnings of what will break as errors."""
    flags = ("-W", "error::FutureWarning", "-W", "error::DeprecationWarning")
    return subprocess.run([sys.executable, *flags, "-c", code], cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """How the work went, with an empty folder as working directory."""
    folder = tmp_path_factory.mktemp("strict")
    return strictly(WORK, folder), folder


@pytest.fixture(scope="module")
def unguarded(tmp_path_factory):
    """How it goes where neither loggers nor warnings are filtered."""
    spoilt = f"import contextlib, tsattn.training.loop as t; t._quiet = contextlib.nullcontext\n{WORK}"
    return strictly(spoilt, tmp_path_factory.mktemp("unguarded"))


def test_12_fits_are_silent_write_nothing_and_do_not_meet(strict):
    done, folder = strict
    assert (done.stdout, done.stderr) == ("", "")
    assert list(folder.iterdir()) == []
    assert stands("test_safety_kills.py", "test_crowds_of_processes_equal_the_lonely_ones")


def test_12_twin_lightning_speaks(unguarded):
    assert "GPU available" in unguarded.stderr


def test_14_fits_are_clean_under_warnings_as_errors_and_read_old_spellings(strict):
    assert strict[0].returncode == 0


def test_14_twin_a_deprecated_call_is_an_error(unguarded):
    assert unguarded.returncode != 0
    assert "FutureWarning" in unguarded.stderr


def test_12_the_users_own_loggers_are_left_alone():
    names = ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero")
    before = [(list(log.filters), log.level, list(log.handlers)) for log in map(tsattn.training.loop.getLogger, names)]
    during = []
    model = attention(max_epochs=1)
    with pytest.MonkeyPatch.context() as patched:
        fit = tsattn.training.loop.lightning.Trainer.fit

        def listening(self, *args, **kwargs):
            during.extend(len(tsattn.training.loop.getLogger(name).filters) for name in names)
            return fit(self, *args, **kwargs)

        patched.setattr(tsattn.training.loop.lightning.Trainer, "fit", listening)
        model.fit(wide_frame())
    assert during == [len(filters) + 1 for filters, _, _ in before], "silence is a filter of the loggers"
    assert before == [
        (list(log.filters), log.level, list(log.handlers)) for log in map(tsattn.training.loop.getLogger, names)
    ]


def test_14_importing_loads_neither_ray_nor_lightning(tmp_path):
    shown = "print([name for name in ('ray', 'lightning', 'torch') if name in sys.modules])"
    assert strictly(f"import sys, tsattn; {shown}", tmp_path).stdout == "[]\n"
    loaded = "import sys, types; sys.modules['ray'] = types.ModuleType('ray')"
    assert strictly(f"{loaded}; import tsattn; {shown}", tmp_path).stdout == "['ray']\n"
    project = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["project"]
    assert not [name for name in project["dependencies"] if name.startswith("ray")]


# --- 13: early stopping is cryptic ------------------------------------------------------------------------------


def check_13():
    df = wide_frame()
    model = attention(max_epochs=40, patience=2, learning_rate=0.1).fit(df)
    summary, losses = model.summary_, model.history_["valid_loss"]
    assert summary["valid_windows"] == 16 - 4 + 1, "a tenth of the rows"
    assert summary["epochs"] == summary["best_epoch"] + 2 < 40
    assert summary["valid_loss"] == losses.min()
    assert losses.iloc[-1] > losses.min()
    ends = np.arange(len(df) - 16, len(df) - 4 + 1)
    judged = roll(model, from_wide(df), ends, scaler=model.scaler_)
    assert judged.mse == pytest.approx(losses.min(), rel=1e-4)
    last = df.copy()
    last.iloc[-16:] *= 3
    np.testing.assert_array_equal(attention(max_epochs=1).fit(last).scaler_.mean, model.scaler_.mean)


def test_13_validation_is_the_end_patience_counts_epochs_and_the_best_stays():
    check_13()
    assert stands("test_contract.py", "test_no_forecast_knows_its_future")


def test_13_twin_the_last_weights_stay(monkeypatch):
    right = tsattn.training.loop.ForecastModule.on_train_epoch_end

    def forgetful(self):
        right(self)
        self.best = {name: value.clone() for name, value in self.model.state_dict().items()}

    monkeypatch.setattr(tsattn.training.loop.ForecastModule, "on_train_epoch_end", forgetful)
    with pytest.raises(AssertionError):
        check_13()


# --- 15: attention maps, export, many series, covariates --------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    return attention(max_epochs=1).fit(long_frame(2))


def check_15_maps(model):
    np.testing.assert_allclose(model.attention_maps(long_frame(2)).sum(axis=-1), 1, rtol=1e-5)


def test_15_attention_maps_have_rows_that_sum_to_one(fitted):
    check_15_maps(fitted)


def test_15_twin_rows_that_do_not(fitted, monkeypatch):
    maps = PatchEncoder.attention_maps
    monkeypatch.setattr(PatchEncoder, "attention_maps", lambda self, x: 0.9 * maps(self, x))
    with pytest.raises(AssertionError):
        check_15_maps(fitted)


def check_15_covariates(monkeypatch):
    df = long_frame(2)
    df = df.assign(promo=df["ds"].dt.dayofweek == 4, heat=np.cos(np.arange(len(df))))
    model = attention(past_cols=["heat"], future_cols=["promo"], calendar=["weekday"]).fit(df)
    ahead = model.make_future_frame()
    quiet, loud = (model.predict(future=ahead.assign(promo=value)) for value in (0.0, 1.0))
    assert not np.allclose(quiet["mlr"], loud["mlr"], rtol=1e-6)
    other = model.predict(df.assign(heat=-df["heat"]), future=ahead.assign(promo=0.0))
    assert not np.allclose(quiet["mlr"], other["mlr"], rtol=1e-6)
    monkeypatch.setattr("tsattn.forecasters.trained.train", lambda *args, **kwargs: pytest.fail("training began"))
    with pytest.raises(TypeError, match="future_cols"):
        linear(future_cols=["promo"])
    with pytest.raises(ValueError, match="a decoder network reads no covariates"):
        attention(architecture="decoder", patch_stride=6, linear_skip=False, future_cols=["promo"]).fit(df)
    with pytest.raises(ValueError, match="future= was not given"):
        model.predict()


def test_15_covariates_are_declared_used_and_refused_elsewhere(monkeypatch):
    check_15_covariates(monkeypatch)
    page = (TESTS.parent / "docs" / "covariates.md").read_text()
    for kind, answer in {"encoder": "yes", "decoder": "no", "linear": "no"}.items():
        assert f"| `{kind}` |{f' {answer} |' * 5}" in page


def test_15_twin_columns_are_read_and_ignored(monkeypatch):
    right = CovariateEncoder.encode

    def nothing(self, *args):
        return {name: np.zeros_like(values) for name, values in right(self, *args).items()}

    monkeypatch.setattr(CovariateEncoder, "encode", nothing)
    with pytest.raises(AssertionError):
        check_15_covariates(monkeypatch)


def test_15_onnx_gives_the_same_numbers(fitted, tmp_path):
    export_onnx(fitted, tmp_path / "model.onnx")
    x = np.random.default_rng(0).normal(size=(5, 24, 1)).cumsum(axis=1).astype(np.float32)
    (found,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(["points"], {"windows": x})
    np.testing.assert_allclose(found, fitted.predict_windows(x), atol=1e-5)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(found, attention(max_epochs=2).fit(long_frame(2)).predict_windows(x), atol=1e-5)


def test_15_ten_thousand_series_are_forecast_in_seconds(fitted):
    df = pd.DataFrame(
        {
            "unique_id": np.repeat(np.arange(10_000), 60),
            "ds": np.tile(pd.date_range("2024-01-01", periods=60, freq="D"), 10_000),
            "y": np.random.default_rng(0).normal(size=600_000),
        }
    )
    passes = []
    handle = fitted.network_.register_forward_hook(lambda *_: passes.append(1))
    try:
        assert processor_seconds(lambda: fitted.predict(df)) < 10
        assert len(passes) <= 10_000 // 256
        passes.clear()
        for name in range(3):
            fitted.predict(df[df["unique_id"] == name])
        assert len(passes) == 3, "series by series would be seen"
    finally:
        handle.remove()
    assert stands("test_safety_size.py", "test_very_many_series_are_forecast_in_little_more_than_a_bare_pass")
