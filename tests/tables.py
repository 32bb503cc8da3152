"""Tables that several test files read: what assembles a table, and series with a season."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

NAMES = ("unique_id", "ds", "y")

FRENCH_MONTHS = [
    "janv.",
    "févr.",
    "mars",
    "avr.",
    "mai",
    "juin",
    "juil.",
    "août",
    "sept.",
    "oct.",
    "nov.",
    "déc.",
]


def long_table(
    values: Iterable[Any],
    ids: Sequence[Any] | None = None,
    *,
    start: Any = "2024-01-01",
    end: Any = None,
    freq: str = "D",
    tz: str | None = None,
    names: Sequence[Any] = NAMES,
) -> pd.DataFrame:
    """A long table of series that begin together, or end together where ``end`` is given.

    Args:
        values: The values of each series.
        ids: Name of each series, default s0, s1, ...
        start: First stamp of each series.
        end: Last stamp of each series, instead of the first.
        freq: Step between two stamps.
        tz: Time zone of the stamps.
        names: Names of the columns: id, time, target.
    """
    parts = []
    for i, y in enumerate(values):
        border = {"start": start} if end is None else {"end": end}
        stamps = pd.date_range(periods=len(y), freq=freq, tz=tz, **border)
        columns = (f"s{i}" if ids is None else ids[i], stamps, y)
        parts.append(pd.DataFrame(dict(zip(names, columns, strict=True))))
    return pd.concat(parts, ignore_index=True)


def series_table(values: Any, name: Any = "a", **index: Any) -> pd.DataFrame:
    """A long table of one series; ``index`` as for :func:`long_table`."""
    return long_table([values], [name], **index)


def wide_table(
    values: np.ndarray, columns: Sequence[Any], *, freq: str = "h", **index: Any
) -> pd.DataFrame:
    """A wide table of values ``[T, C]`` with stamps in its index; ``index`` as for pandas."""
    stamps = pd.date_range("2024-01-01", periods=len(values), freq=freq, **index)
    return pd.DataFrame(values, index=stamps, columns=columns)


def wide_of(frame: pd.DataFrame) -> pd.DataFrame:
    """The series of a long table as the columns of a wide one."""
    return frame.pivot(index="ds", columns="unique_id", values="y").rename_axis(None, axis=1)


# --- series with a season -------------------------------------------------------------------------


def seasonal_table(
    lengths: Iterable[int],
    *,
    rate: float,
    noise: float,
    lag: float = 0.0,
    level: float = 0.0,
    slope: float = 0.0,
    scale: float = 10.0,
    shift: float = 0.0,
    seed: int = 0,
    **index: Any,
) -> pd.DataFrame:
    """A long table of sines with noise, each ``scale`` times as large as the one before.

    Args:
        lengths: Rows of each series.
        rate: Angle of one step in radians.
        noise: Standard deviation of the noise before scaling.
        lag: Angle by which a series is ahead of the one before.
        level: Mean before scaling.
        slope: Trend of one step before scaling.
        scale: Size of a series against the one before.
        shift: What is added after scaling.
        seed: Of the noise.
        index: As for :func:`long_table`.
    """
    rng = np.random.default_rng(seed)
    values = []
    for i, n in enumerate(lengths):
        t = np.arange(n)
        y = level + np.sin(rate * t + lag * i) + noise * rng.normal(size=n) + slope * t
        values.append(scale**i * y + shift)
    return long_table(values, **index)


def long_frame(n_series=3, n=160, *, scale=10.0, freq="D"):
    """Yearly seasons of 12 steps in series of equal length."""
    return seasonal_table(
        [n] * n_series, rate=2 * np.pi / 12, noise=0.1, lag=1.0, scale=scale, freq=freq
    )


def wide_frame(n=160):
    """Two channels of the same kind."""
    return wide_of(long_frame(2, n))


def weekly_values(n, seed=0, period=7):
    """A trend, a season and noise, ``[n]``."""
    t = np.arange(n)
    noise = np.random.default_rng(seed).normal(size=n)
    return 10 + 0.02 * t + 2 * np.sin(2 * np.pi * t / period) + noise / 2


def daily_table(*lengths, values=None):
    """Daily series of these lengths that end on one day, named s00, s01, ..."""
    if values is None:
        values = [weekly_values(n, i) for i, n in enumerate(lengths)]
    ids = [f"s{i:02}" for i in range(len(lengths))]
    return long_table(values, ids, end="2024-06-30")


# --- columns beside the target --------------------------------------------------------------------


def covariate_frame(lengths=(70, 60, 66), *, freq="D", seed=0):
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


def wide_covariate_frame(n=70):
    """Two channels, two covariates."""
    rng = np.random.default_rng(1)
    channels = wide_of(covariate_frame((n, n)))
    return channels.assign(temp=rng.normal(size=n), promo=rng.integers(0, 2, n))


def fill_future(future, seed=2):
    """A future frame with values, which lie among those of :func:`covariate_frame`."""
    rng = np.random.default_rng(seed)
    columns = [name for name in future.columns if name in ("temp", "promo", "price")]
    cells = {name: rng.integers(0, 2, len(future)).astype(float) for name in columns}
    if "price" in cells:
        cells["price"] += 50
    return future.assign(**cells)


def parts_of(frame, cut):
    """The rows before the last ``cut`` of each series, and what ``predict`` would be told of
    those.
    """
    last = frame.groupby("unique_id").cumcount(ascending=False) < cut
    return frame[~last].reset_index(drop=True), frame[last].reset_index(drop=True)


def hourly_wave(seed=0):
    """Twelve days of hours: a day's wave with noise."""
    n_rows = 24 * 12
    rng = np.random.default_rng(seed)
    values = 100 + 20 * np.sin(2 * np.pi * np.arange(n_rows) / 24) + rng.normal(size=n_rows)
    return pd.Series(values, index=pd.date_range("2024-01-01", periods=n_rows, freq="h"))
