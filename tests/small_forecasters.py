"""Forecasters that are trained in a second."""

import copy
import functools

from tables import long_frame

from tsattn.forecasters.attention import AttentionForecaster
from tsattn.forecasters.linear import LinearForecaster

TINY = {"context": 24, "max_epochs": 2, "batch_size": 256, "random_state": 0}
NET = {
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 1,
    "d_ff": 16,
    "patch_len": 6,
    "patch_stride": 3,
    "dropout": 0.1,
}


def attention(horizon=4, **kwargs):
    return AttentionForecaster.from_settings(horizon=horizon, **{**TINY, **NET, **kwargs})


def linear(horizon=4, kind="nlinear", **kwargs):
    return LinearForecaster.from_settings(horizon=horizon, kind=kind, **{**TINY, **kwargs})


@functools.cache
def _fitted(make, frame):
    return make().fit(frame())


def fitted(make, frame=long_frame):
    """A forecaster that is fitted once for all tests of a process, as a copy that may be changed.

    Args:
        make: Of a new forecaster.
        frame: Of the table.
    """
    return copy.copy(_fitted(make, frame))
