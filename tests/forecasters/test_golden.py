"""Forecasts of every forecaster are those on record."""

import golden_forecasts as golden
import numpy as np
import pytest

# Training adds up rounding errors, which differ from processor to processor.
TRAINED_TOLERANCE = 2e-3
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def recorded():
    with np.load(golden.FILE) as arrays:
        return dict(arrays)


def test_all_forecasters_are_on_record(recorded):
    names = {f"{name}-{layout}" for name in golden.FORECASTERS for layout in golden.LAYOUTS}
    assert set(recorded) == names


@pytest.mark.parametrize("layout", golden.LAYOUTS)
@pytest.mark.parametrize("name", list(golden.FORECASTERS))
def test_forecasts_are_those_on_record(recorded, name, layout):
    expected = recorded[f"{name}-{layout}"]
    trained = name in golden.MODELS and golden.MODELS[name].trained
    tolerance = TRAINED_TOLERANCE if trained else TOLERANCE
    size = np.maximum(np.abs(expected).max(axis=(1, 2), keepdims=True), 1.0)
    gap = np.abs(golden.forecast(name, layout) - expected) / size
    assert gap.max() <= tolerance
