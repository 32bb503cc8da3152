"""Forecasts of every forecaster are those on record, and the same for a long and a wide table where
a fit takes less than a second.
"""

import golden_forecasts as golden
import numpy as np
import pytest

# Training adds up rounding errors, which differ from processor to processor.
TRAINED_TOLERANCE = 2e-3
TOLERANCE = 1e-6
# Of the forecasters whose fits take longest; others of their classes, and auto with few candidates,
# are fitted on tables of both kinds.
LONG_ONLY = ("auto", "auto_arima", "gbm", "sarimax")
# The search for the largest likelihood ends elsewhere on another processor.
SEARCHED_TOLERANCES = {"auto_arima": 1e-4, "sarimax": 0.1}


@pytest.fixture(scope="module")
def recorded():
    with np.load(golden.FILE) as arrays:
        return dict(arrays)


def test_all_forecasters_are_on_record(recorded):
    assert set(recorded) == set(golden.FORECASTERS)


def gap(forecasts, expected):
    """Largest difference beside the size of the series."""
    size = np.maximum(np.abs(expected).max(axis=(1, 2), keepdims=True), 1.0)
    return (np.abs(forecasts - expected) / size).max()


@pytest.mark.parametrize("name", list(golden.FORECASTERS))
def test_forecasts_are_those_on_record(recorded, name):
    long = golden.forecast(name, "long")
    trained = name in golden.MODELS and golden.MODELS[name].trained
    usual = TRAINED_TOLERANCE if trained else TOLERANCE
    assert gap(long, recorded[name]) <= SEARCHED_TOLERANCES.get(name, usual)
    if name not in LONG_ONLY:
        assert gap(golden.forecast(name, "wide"), long) <= 1e-5
