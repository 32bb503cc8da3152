"""Every forecaster of the catalogue is saved and loaded, and forecasts the same numbers then."""

import functools
import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import Ridge
from tables import seasonal_table

from tsattn.catalogue import MODELS, load_forecaster, make_forecaster, settings_for
from tsattn.data.frames import to_panel
from tsattn.forecasters.classical import StatsmodelsForecaster
from tsattn.forecasters.naive import Naive
from tsattn.forecasters.regression import SklearnForecaster
from tsattn.storage import file_digest

H = 3
SMALL = {"d_model": 8, "n_heads": 2, "n_layers": 1, "d_ff": 8, "patch_len": 4, "patch_stride": 2}
ASKED = {
    "context": 12,
    "max_epochs": 1,
    "random_state": 0,
    "season_length": 6,
    "max_windows": 60,
    "n_paths": 20,
}
FEW = {"num_batches_per_epoch": 2, "batch_size": 8}
DEMAND = ("croston", "tsb", "adida")


def frame(lengths=(60, 50), shift=0.0):
    return seasonal_table(lengths, rate=2 * np.pi / 6, noise=0.3, level=5 + shift, seed=7)


def lengths(name):
    """Rows of the series that a model is fitted on, and of others: it searches anew in each
    forecast of each series.
    """
    return ((30,), (25,)) if name == "auto_arima" else ((60, 50), (40, 70))


@functools.cache
def fitted(name):
    """Quickly, by the settings that the model has, and once for all tests, which only ask it."""
    asked = settings_for(name, **ASKED, **SMALL, estimator_args=FEW)
    if name == "auto_arima":  # would search among seasons, too
        asked["season_length"] = 1
    return make_forecaster(name, H, **asked).fit(frame(lengths(name)[0]))


def asked(name):
    """What it can be asked: points, and where it gives them, intervals."""
    points_only = ("naive", "seasonal_naive", "drift", "window_average", "ridge", "gbm")
    return {} if name in points_only else {"level": [80]}


@pytest.mark.parametrize("name", MODELS)
def test_a_loaded_forecaster_gives_the_same_numbers(name, tmp_path):
    forecaster = fitted(name)
    other = frame(lengths(name)[1], shift=1.0)
    forecaster.save(tmp_path / "model")
    state = torch.random.get_rng_state()
    loaded = load_forecaster(tmp_path / "model")
    torch.testing.assert_close(torch.random.get_rng_state(), state, rtol=0, atol=0)
    assert type(loaded) is type(forecaster)
    assert (loaded.min_context, loaded.max_context) == (
        forecaster.min_context,
        forecaster.max_context,
    )
    if name != "zero":  # its weights come out of the file, not by their name
        assert repr(loaded) == repr(forecaster)
    ask = asked(name)
    expected = forecaster.predict(**ask)
    pd.testing.assert_frame_equal(loaded.predict(**ask), expected, check_exact=True)
    pd.testing.assert_frame_equal(
        loaded.predict(other, **ask), forecaster.predict(other, **ask), check_exact=True
    )
    loaded.save(tmp_path / "again")
    second_forecast = load_forecaster(tmp_path / "again").predict(**ask)
    pd.testing.assert_frame_equal(second_forecast, expected, check_exact=True)


@pytest.mark.parametrize("name", ["naive", "theta", "ridge"])
def test_wide_tables_panels_and_gaps_come_back(name, tmp_path):
    wide = (
        frame((50, 50)).pivot(index="ds", columns="unique_id", values="y").rename_axis(None, axis=1)
    )
    wide.iloc[[-1, 20], 0] = np.nan
    forecaster = make_forecaster(name, H, missing="interpolate").fit(wide)
    forecaster.save(tmp_path / "model")
    pd.testing.assert_frame_equal(
        load_forecaster(tmp_path / "model").predict(), forecaster.predict(), check_exact=True
    )
    forecaster.fit(to_panel(frame())).save(tmp_path / "model")
    np.testing.assert_array_equal(
        load_forecaster(tmp_path / "model").predict().point, forecaster.predict().point
    )


@pytest.mark.parametrize("model", ["ets", "theta"])
def test_the_models_of_statsmodels_open_although_their_names_stand_for_others(model, tmp_path):
    forecaster = StatsmodelsForecaster(H, model, season_length=6).fit(frame())
    forecaster.save(tmp_path / "model")
    loaded = load_forecaster(tmp_path / "model")
    assert type(loaded) is StatsmodelsForecaster
    pd.testing.assert_frame_equal(
        loaded.predict(level=80), forecaster.predict(level=80), check_exact=True
    )


@pytest.mark.parametrize("horizon", [1, 4])
def test_trees_out_of_a_file_answer_as_scikit_learns(horizon, tmp_path):
    forecaster = make_forecaster("gbm", horizon, context=8, random_state=0).fit(frame((90, 70)))
    forecaster.save(tmp_path / "model")
    loaded = load_forecaster(tmp_path / "model")
    x = np.random.default_rng(0).normal(size=(300, 8, 2)) * [1.0, 1e6]
    np.testing.assert_array_equal(loaded.predict_windows(x)[0], forecaster.predict_windows(x)[0])
    assert "sklearn" not in type(loaded.regressor_).__module__


def test_settings_that_files_cannot_hold_are_refused(tmp_path):
    forecaster = SklearnForecaster(H, Ridge()).fit(frame())
    with pytest.raises(
        ValueError, match="regressor of type Ridge cannot be saved without running code at load"
    ):
        forecaster.save(tmp_path / "model")
    deep = make_forecaster("dlinear_gluonts", H, context=12, max_epochs=1, estimator_args=FEW).fit(
        frame()
    )
    deep.estimator_args = deep.state_.bound["estimator_args"] = {**FEW, "distr_output": object()}
    with pytest.raises(
        ValueError, match=r"estimator_args\['distr_output'\] of type object cannot be saved"
    ):
        deep.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="Naive is not fitted"):
        Naive(H).save(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("naive", ("parameters", "alias"), 1.5),
        ("naive", ("parameters", "horizon"), "3"),
        ("naive", ("panel_in",), "yes"),
        ("seasonal_naive", ("panel", "freq"), "h"),
        ("seasonal_naive", ("learnt", "context_"), 10**9),
        ("seasonal_naive", ("learnt", "context_"), 0),
        ("seasonal_naive", ("learnt",), {}),
        ("theta", ("parameters", "model"), "prophet"),
        ("ridge", ("learnt", "context_"), 11),
        ("gbm", ("parameters", "horizon"), 2),
        ("gbm", ("learnt", "context_"), 3),
        ("dlinear_gluonts", ("learnt", "context_"), 13),
        ("deepar", ("parameters", "estimator_args"), {"num_layers": 10**9}),
    ],
)
def test_facts_that_do_not_fit_are_refused(name, path, value, tmp_path):
    fitted(name).save(tmp_path)
    facts = json.loads((tmp_path / "config.json").read_text())
    inner = facts
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    (tmp_path / "config.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="is not what save"):
        load_forecaster(tmp_path)


@pytest.mark.parametrize(
    ("name", "tensor", "damage"),
    [
        ("ridge", "learnt.coef", lambda a: a.index_fill(0, torch.tensor([0]), float("nan"))),
        ("ridge", "learnt.intercept", lambda a: a[:-1]),
        ("gbm", "learnt.left", torch.zeros_like),
        ("gbm", "learnt.feature", lambda a: a + 100),
        ("gbm", "learnt.value", lambda a: a[:-1]),
        ("gbm", "learnt.roots", lambda a: a - 1),
        ("gbm", "learnt.start", lambda a: a.float()),
        ("dlinear_gluonts", None, lambda a: a.fill_(float("inf"))),
        ("naive", "tail.values", lambda a: a.float()),
    ],
)
def test_tensors_that_do_not_fit_are_refused(name, tensor, damage, tmp_path):
    fitted(name).save(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    tensor = tensor or next(each for each in tensors if each.startswith("learnt."))
    tensors[tensor] = damage(tensors[tensor]).contiguous()
    save_file(tensors, file)
    facts = json.loads((tmp_path / "config.json").read_text()) | {"sha256": file_digest(file)}
    (tmp_path / "config.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="is not what save"):
        load_forecaster(tmp_path)
