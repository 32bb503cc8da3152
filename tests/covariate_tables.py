"""Tables with covariates, and a small forecaster for them."""

import numpy as np
import pandas as pd

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
EVERY = {
    "past_cols": ("temp",),
    "future_cols": ("promo", "price"),
    "static_cols": ("kind", "size"),
    "calendar": ("weekday",),
}
H = 4


def attention(horizon=H, **kwargs):
    return AttentionForecaster.from_settings(horizon=horizon, **{**TINY, **NET, **kwargs})


def long_frame(lengths=(70, 60, 66), *, freq="D", seed=0):
    """Series of unlike length, start and size that end together; integers, booleans, text among the
    covariates.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for i, n in enumerate(lengths):
        parts.append(
            pd.DataFrame(
                {
                    "unique_id": f"s{i}",
                    "ds": pd.date_range(end="2024-06-30", periods=n, freq=freq),
                    "y": 10.0**i * (np.sin(np.arange(n) / 2) + 0.1 * rng.normal(size=n)),
                    "temp": rng.normal(size=n),
                    "promo": rng.random(n) < 0.2,
                    "price": 50 + rng.integers(0, 9, n),
                    "kind": "ab"[i % 2],
                    "size": 1 + i,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def wide_frame(n=70):
    """Two channels, two covariates."""
    frame = (
        long_frame((n, n))
        .pivot(index="ds", columns="unique_id", values="y")
        .rename_axis(None, axis=1)
    )
    rng = np.random.default_rng(1)
    return frame.assign(temp=rng.normal(size=n), promo=rng.integers(0, 2, n))


def filled(future, seed=2):
    """A future frame with values."""
    rng = np.random.default_rng(seed)
    own = [c for c in future.columns if c in ("temp", "promo", "price")]
    return future.assign(**{c: rng.integers(0, 2, len(future)).astype(float) for c in own})


def parts_of(frame, cut):
    """The rows before the last ``cut`` of each series, and what ``predict`` would be
    told of those.
    """
    last = frame.groupby("unique_id").cumcount(ascending=False) < cut
    return frame[~last].reset_index(drop=True), frame[last].reset_index(drop=True)
