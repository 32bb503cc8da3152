"""Every name of the catalogue makes its forecaster, or is refused in words."""

import re

import numpy as np
import pandas as pd
import pytest

from tsattn import catalogue
from tsattn.catalogue import (
    MODELS,
    find_model,
    forecast,
    load_forecaster,
    make_forecaster,
    settings_for,
)
from tsattn.data.frames import to_panel
from tsattn.data.schema import Schema
from tsattn.evaluate.conformal import SplitConformal
from tsattn.forecasters.naive import Naive

PROMISED = """mlr standard sliding_window global_local bilinear_mlr bilinear_btt mlbtc nlinear dlinear rlinear
    least_squares zero naive seasonal_naive drift window_average ets theta autoreg sarimax stl_ets ridge gbm
    auto_ets auto_arima dynamic_theta croston tsb adida deepar patchtst_gluonts dlinear_gluonts"""


def test_every_promised_name_is_built():
    assert set(MODELS) >= set(PROMISED.split())


@pytest.mark.parametrize("name", MODELS)
def test_each_name_makes_a_forecaster_that_bears_it(name):
    forecaster = make_forecaster(name, 7)
    assert all(
        callable(getattr(forecaster, method)) for method in ("fit", "predict", "predict_windows")
    )
    assert (forecaster.horizon, forecaster.alias) == (7, name)
    assert make_forecaster(name, 7, alias="other").alias == "other"


def test_names_reach_the_right_class_and_kind():
    assert make_forecaster("standard", 3).attention == "standard"
    assert make_forecaster("mlr", 3).attention == "mlr"
    assert make_forecaster("rlinear", 3).kind == "rlinear"
    assert make_forecaster("seasonal_naive", 3, season_length=5).season_length == 5
    assert make_forecaster("mlr", 3, max_epochs=2, context=32).training.max_epochs == 2


def test_unknown_names_and_settings_are_refused_with_those_that_exist():
    with pytest.raises(ValueError, match="'arima' is unknown; did you mean sarimax or auto_arima"):
        find_model("arima")
    # Not all names, but where they are, and a few that exist.
    with pytest.raises(ValueError, match="'prophet' is unknown; use one such as") as refusal:
        find_model("prophet")
    told = re.search("such as (.*); `tsattn models` lists all 33$", str(refusal.value))[1]
    few = told.split(", ")
    assert set(few) < set(MODELS)
    assert len(few) < 8
    with pytest.raises(ValueError, match="'naive' takes no max_epochs; leave it out, or take"):
        make_forecaster("naive", 3, max_epochs=2)
    # What the name itself fixes is not a setting: "mlr" with another attention would lie.
    with pytest.raises(ValueError, match="'mlr' takes no attention; leave it out"):
        make_forecaster("mlr", 3, attention="standard")


def test_shared_settings_go_to_those_they_mean_something_to():
    shared = {"context": 48, "max_epochs": 3, "season_length": 24, "random_state": None}
    assert settings_for("mlr", **shared) == {"context": 48, "max_epochs": 3}
    assert settings_for("seasonal_naive", **shared) == {"season_length": 24}
    assert settings_for("naive", **shared) == {}
    assert settings_for("drift", **shared) == {}


def test_a_level_that_is_none_is_refused_before_anything_is_fitted(monkeypatch):
    monkeypatch.setattr(Naive, "fit", lambda *_: pytest.fail("it was fitted"))
    with pytest.raises(ValueError, match="80 means 80%"):
        forecast([1.0, 2.0, 3.0], 2, level=0.8, model="naive")


def sold():
    """Two shops of nine months each, and a month without a value."""
    months = pd.date_range("2024-01-01", periods=9, freq="MS")
    frame = pd.DataFrame({"shop": ["a"] * 9 + ["b"] * 9, "month": [*months, *months]})
    frame["sold"] = [*range(4), np.nan, *range(5, 18)]
    return frame


def test_a_forecast_takes_the_common_settings_as_keywords():
    names = {"id_col": "shop", "time_col": "month", "target_col": "sold"}
    schema = Schema(**names, missing="ffill", freq="MS")
    expected = forecast(sold(), 3, model="naive", schema=schema)
    answer = forecast(sold(), 3, model="naive", **names, missing="ffill", freq="MS")
    pd.testing.assert_frame_equal(answer, expected)
    overridden = schema.changed(missing="error")
    answer = forecast(sold(), 3, model="naive", schema=overridden, missing="ffill")
    pd.testing.assert_frame_equal(answer, expected)
    seasonal = forecast(np.arange(6.0), 3, model="seasonal_naive", season_length=3)
    assert seasonal["y"].tolist() == [3, 4, 5]
    assert len(forecast(np.arange(40.0), 2, model="rlinear", max_time="20s")) == 2
    rare = 12.0 * np.random.default_rng(0).binomial(1, 0.2, 200)
    means = forecast(rare, 1, point="mean")["y"].tolist()
    assert means > forecast(rare, 1, point="median")["y"].tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"season_length": 3}, "'naive' takes no season_length; .* such as 'seasonal_naive'"),
        ({"max_time": "1m"}, "'naive' takes no max_time; .* such as 'auto'"),
        ({"target_col": "y"}, r"column 'y' is missing; the table has columns \['shop', 'month'"),
        ({"id_col": "unique_id"}, "column 'unique_id' is missing"),
        ({"time_col": "mont"}, r"column 'mont' is missing \(did you mean 'month'\?\)"),
        ({"freq": "fortnight"}, "fortnight"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        forecast(sold(), 3, model="naive", **settings)


def test_a_panel_has_been_read_already():
    panel = to_panel(np.arange(9.0))
    with pytest.raises(ValueError, match="give freq to to_panel, or leave it out"):
        forecast(panel, 3, model="naive", freq="D")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("seasonalnaive", "seasonal_naive"),
        ("Zero", "zero"),
        ("nlinaer", "nlinear"),
        ("AutoETS", "auto_ets"),
    ],
)
def test_similar_names_are_proposed(typed, meant):
    with pytest.raises(ValueError, match=f"'{typed}' is unknown; did you mean {meant}") as refusal:
        find_model(typed)
    assert len(str(refusal.value)) < 150
    with pytest.raises(ValueError, match=r"takes no max_epoch; did you mean max_epochs"):
        make_forecaster("mlr", 3, max_epoch=2)


class Weekly(Naive):
    """A forecaster of one's own."""

    def __init__(self, horizon, *, rows=7):
        super().__init__(horizon)
        self.rows = rows


@pytest.mark.parametrize("wrap", [lambda own: own, lambda own: SplitConformal(own, n_windows=5)])
def test_forecasters_of_ones_own_are_loaded_where_their_class_is_imported(
    wrap, tmp_path, monkeypatch
):
    fitted = wrap(Weekly(3, rows=5)).fit(np.arange(40.0))
    fitted.save(tmp_path / "model")
    loaded = load_forecaster(tmp_path / "model")
    assert repr(loaded) == repr(fitted)
    pd.testing.assert_frame_equal(loaded.predict(), fitted.predict())
    # As in a process that has not imported it.
    monkeypatch.setattr(catalogue, "_own_classes", lambda parent: [])
    with pytest.raises(ValueError, match=r"holds a Weekly, .* import your class.*, or upgrade"):
        load_forecaster(tmp_path / "model")


@pytest.mark.parametrize("wrap", [lambda own: own, lambda own: SplitConformal(own, n_windows=5)])
def test_a_class_of_ones_own_is_not_taken_for_one_of_its_name_here(wrap, tmp_path, monkeypatch):
    class SeasonalNaive(Weekly):
        def _points(self, x):
            return np.zeros((len(x), self.horizon, x.shape[2]))

    fitted = wrap(SeasonalNaive(3)).fit(np.arange(40.0))
    fitted.save(tmp_path / "model")
    pd.testing.assert_frame_equal(load_forecaster(tmp_path / "model").predict(), fitted.predict())
    monkeypatch.setattr(catalogue, "_own_classes", lambda parent: [])
    with pytest.raises(ValueError, match=r"holds a SeasonalNaive, .* import your class"):
        load_forecaster(tmp_path / "model")


def test_one_class_does_not_load_what_another_of_its_name_saved(tmp_path):
    own = type("Naive", (Weekly,), {"__module__": "own"})
    for kind, other, owner in ((Naive, own, "tsattn"), (own, Naive, "an imported module of your")):
        kind(3).fit(np.arange(40.0)).save(tmp_path / kind.__module__)
        with pytest.raises(ValueError, match=f"holds a Naive of {owner}"):
            other.load(tmp_path / kind.__module__)
