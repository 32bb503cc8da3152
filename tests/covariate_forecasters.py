"""A small forecaster of tables with covariates, and what it gains from them."""

import numpy as np

from tsattn.evaluate.rolling import roll
from tsattn.forecasters import boosted_trees, regression
from tsattn.forecasters.attention import AttentionForecaster

TINY = {"context": 12, "max_epochs": 1, "batch_size": 64, "random_state": 0}
NET = {
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 1,
    "d_ff": 8,
    "patch_len": 4,
    "patch_stride": 2,
    "dropout": 0.1,
}
# Settings under which it learns what a column does.
LEARN = {
    "context": 24,
    "d_model": 16,
    "d_ff": 32,
    "patch_stride": 4,
    "dropout": 0.0,
    "learning_rate": 1e-2,
    "batch_size": 32,
    "max_epochs": 8,
    "patience": None,
}
EVERY = {
    "past_cols": ("temp",),
    "future_cols": ("promo", "price"),
    "static_cols": ("kind", "size"),
    "calendar": ("weekday",),
}
H = 4
N_TREES = boosted_trees._N_TREES
LEARNING_RATE = boosted_trees._LEARNING_RATE


def attention(horizon=H, **kwargs):
    return AttentionForecaster.from_settings(horizon=horizon, **{**TINY, **NET, **kwargs})


def rolling_error(frame, **kwargs):
    """MAE over every window of the last quarter of one series, learnt from the rows before."""
    model = attention(H, **{**LEARN, **kwargs})
    cut = len(frame) * 3 // 4
    model.fit(frame[:cut])
    panel = model.read(frame)
    return roll(model, panel, np.arange(cut, len(frame) - H + 1), keep=False).mae_original


def plant_few_trees(patch):
    """A quarter of the boosted trees that read columns, each of which counts more."""
    patch.setattr(boosted_trees, "_N_TREES", N_TREES // 4)
    patch.setattr(boosted_trees, "_LEARNING_RATE", 3 * LEARNING_RATE)


def plant_small_gbm(patch):
    """A gbm of a fifth of the trees, each of which counts more."""
    make = regression._REGRESSORS
    small = {**make, "gbm": lambda: make["gbm"]().set_params(max_iter=60, learning_rate=0.2)}
    patch.setattr(regression, "_REGRESSORS", small)
