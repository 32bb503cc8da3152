"""Forecasters that were saved when a wide table was one series of several channels still open."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tsattn.catalogue import load_forecaster

FOLDER = Path(__file__).parents[1] / "golden" / "wide_v2"
NAMES = sorted(path.stem for path in FOLDER.glob("*.csv"))


@pytest.mark.parametrize("name", NAMES)
def test_forecasts_of_models_saved_in_format_2_are_the_same(name):
    expected = pd.read_csv(FOLDER / f"{name}.csv", index_col="day", parse_dates=["day"])
    points = ["north", "east", "south"]
    forecast = load_forecaster(FOLDER / name).predict()
    assert forecast.columns.tolist() == points
    assert forecast.index.tolist() == expected.index.tolist()
    np.testing.assert_allclose(forecast, expected[points], rtol=1e-5)


@pytest.mark.parametrize("name", ["mlr", "nlinear"])
def test_bands_of_models_saved_in_format_2_have_the_same_size(name):
    expected = pd.read_csv(FOLDER / f"{name}.csv", index_col="day")
    frame = load_forecaster(FOLDER / name).predict(level=80)
    for series in ("north", "east", "south"):
        width = (frame[f"{series}-hi-80"] - frame[f"{series}-lo-80"]).mean()
        before = (expected[f"{series}-hi-80"] - expected[f"{series}-lo-80"]).mean()
        assert 0.6 < width / before < 1.7


def test_models_saved_in_format_2_are_saved_again_and_take_new_tables(tmp_path):
    model = load_forecaster(FOLDER / "mlr")
    model.save(tmp_path / "model")
    loaded = load_forecaster(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.predict(level=80), model.predict(level=80))
    days = pd.date_range("2025-01-01", periods=30, name="day")
    table = pd.DataFrame({"west": np.arange(30.0), "north": np.arange(30.0)}, index=days)
    assert loaded.predict(table).columns.tolist() == ["west", "north"]
