"""Forecasts of every forecaster of the catalogue for one table, which may be long or wide.

``python tests/golden_forecasts.py`` writes them to ``tests/golden/forecasts.npz``. A change of a
number there is a decision, with a line in docs/log.md.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from tsattn.catalogue import MODELS, make_forecaster
from tsattn.evaluate.conformal import AdaptiveConformal, SplitConformal
from tsattn.forecaster import Forecaster

FILE = Path(__file__).parent / "golden" / "forecasts.npz"
HORIZON = 6
_ROWS = 240
# Of the forecasters whose fits take longest.
_FEW_ROWS = {"auto": 120, "sarimax": 120}
_NETWORK = {"d_model": 8, "n_heads": 2, "n_layers": 1, "d_ff": 8, "max_epochs": 2}
_SHORT_TRAINING = {"context": 24, "random_state": 0}
_GLUONTS = {
    "max_epochs": 1,
    "n_paths": 20,
    "estimator_args": {"num_batches_per_epoch": 2, "batch_size": 8},
}
_SETTINGS: dict[str, dict[str, Any]] = {
    "auto": {"max_time": "10m", "random_state": 0},
    # A season of 24 would take a minute to search.
    "auto_arima": {"season_length": 1},
    "ridge": _SHORT_TRAINING,
    "gbm": _SHORT_TRAINING,
}
_LINEAR = ("nlinear", "dlinear", "rlinear", "least_squares")


def settings_of(name: str) -> dict[str, Any]:
    """Settings under which a model of the catalogue is fitted in seconds."""
    if name in _SETTINGS:
        return _SETTINGS[name]
    entry = MODELS[name]
    if not entry.trained:
        return {}
    if name in _LINEAR:
        return {**_SHORT_TRAINING, "max_epochs": 2}
    return {**_SHORT_TRAINING, **(_GLUONTS if entry.home.startswith("gluonts") else _NETWORK)}


def catalogue_forecaster(name: str) -> Callable[[], Forecaster]:
    """How a model of the catalogue is made for these forecasts."""
    return lambda: make_forecaster(name, HORIZON, **settings_of(name))


FORECASTERS: dict[str, Callable[[], Forecaster]] = {
    **{name: catalogue_forecaster(name) for name in MODELS},
    "split_conformal": lambda: SplitConformal(make_forecaster("naive", HORIZON), n_windows=12),
    "adaptive_conformal": lambda: AdaptiveConformal(
        make_forecaster("naive", HORIZON), n_windows=24
    ),
}


def wide_table(n_rows: int) -> pd.DataFrame:
    """Three hourly series of unlike size: a daily wave with a trend, a random walk, and counts."""
    rng = np.random.default_rng(11)
    hour = np.arange(n_rows)
    wave = 50 + 10 * np.sin(2 * np.pi * hour / 24) + 0.05 * hour + rng.normal(0, 1, n_rows)
    walk = 1000 + rng.normal(0, 5, n_rows).cumsum()
    counts = rng.poisson(1.5 + np.sin(2 * np.pi * hour / 24)).astype(float)
    stamps = pd.date_range("2024-03-01", periods=n_rows, freq="h", name="ds")
    return pd.DataFrame({"counts": counts, "walk": walk, "wave": wave}, index=stamps)


def long_table(n_rows: int) -> pd.DataFrame:
    """The same series below one another."""
    table = wide_table(n_rows).reset_index().melt("ds", var_name="unique_id", value_name="y")
    return table[["unique_id", "ds", "y"]]


def forecast(name: str, layout: str) -> np.ndarray:
    """Point, and the bounds of level 80 where the forecaster has some: ``[series, step, 1 or 3]``.

    Args:
        name: One of ``FORECASTERS``.
        layout: ``"long"`` or ``"wide"``.
    """
    n_rows = _FEW_ROWS.get(name, _ROWS)
    table = long_table(n_rows) if layout == "long" else wide_table(n_rows)
    forecaster = FORECASTERS[name]().fit(table)
    try:
        frame = forecaster.predict(level=80)
    except ValueError:  # a forecaster of points only refuses intervals
        frame = forecaster.predict()
    numbers = frame.select_dtypes("number").to_numpy(np.float64)
    if layout == "long":
        return numbers.reshape(3, HORIZON, -1)
    return numbers.reshape(HORIZON, 3, -1).swapaxes(0, 1)


def main() -> int:
    """Write the forecasts of all forecasters."""
    torch.set_num_threads(1)
    forecasts = {}
    for name in FORECASTERS:
        forecasts[name] = forecast(name, "long")
        print(name, flush=True)
    np.savez_compressed(FILE, **forecasts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
