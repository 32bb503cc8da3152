"""The zero-shot pack: its tasks and series, the scores of its two suites, and their seasonal naive
forecast.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from packs import SPLITS, read_told

LEVELS = tuple(tenths / 10 for tenths in range(1, 10))
# In this suite a series shorter than a season is left out of MASE, and the seasonal naive has no
# spread.
STRICT = "chronos-zs"


class Task(NamedTuple):
    """One task of a suite; cutoffs are steps back from the end of each series, published scores are
    by model.
    """

    name: str
    suite: str
    split: str
    horizon: int
    season: int
    freq: str
    cutoffs: tuple[int, ...]
    n_instances: int
    data: Mapping[str, Any]
    published: Mapping[str, Mapping[str, float]]


class Instance(NamedTuple):
    """One forecast that is asked after ``past [T]``; NaN is missing, in ``future [F]`` too."""

    item: str
    window: int
    past: np.ndarray
    future: np.ndarray


class Column(NamedTuple):
    """Tasks over which scores are averaged: those of a suite and a split, at most so many steps
    ahead.
    """

    suite: str
    split: str
    most: int | None = None

    def holds(self, suite: str, split: str, horizon: int) -> bool:
        """Whether a task is among them."""
        return (suite, split) == self[:2] and (self.most is None or horizon <= self.most)


COLUMNS = (
    *(Column(STRICT, split) for split in SPLITS),
    Column("gift-eval", SPLITS[0]),
    Column("gift-eval", SPLITS[0], 64),
    Column("gift-eval", SPLITS[1]),
)


class Pack:
    """The tasks of a folder by name, as ``tasks``, its whole list as ``told``, and the series
    behind them.

    Raises:
        ValueError: If the folder holds no ``tasks.json``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.told = Path(folder), read_told(folder, "zero-shot")
        self.tasks = {row["name"]: _task(row) for row in self.told["tasks"]}

    def instances(self, task: Task) -> list[Instance]:
        """What is asked, series by series."""
        found = []
        for item, values in _series(str(self.folder), json.dumps(task.data)).items():
            for window, cutoff in enumerate(task.cutoffs):
                end = len(values) + cutoff
                found.append(Instance(item, window, values[:end], values[end : end + task.horizon]))
        return found


def _task(row: Mapping[str, Any]) -> Task:
    same = {
        name: row[name]
        for name in ("name", "suite", "split", "horizon", "freq", "data", "published")
    }
    cutoffs = tuple(row["cutoffs"])
    return Task(
        **same, season=row["seasonality"], cutoffs=cutoffs, n_instances=row["series"] * len(cutoffs)
    )


# Tasks of one data set follow one another in the list, so it is enough to remember the last tables
# and series.
@lru_cache(maxsize=2)
def _series(folder: str, data: str) -> dict[str, np.ndarray]:
    """The series of a task in file order; read-only, since several tasks share them."""
    how = json.loads(data)
    found = {}
    for file in how["files"]:
        path = Path(folder) / file
        if how["layout"] == "long":
            tables = _long(str(path), bool(how["resample"]))
        else:
            table = wide_table(str(path), how["time"], how["grid"])
            stem = path.name.partition(".")[0]
            tables = {f"{stem}:{column}": table[column] for column in table.columns}
        if how["resample"]:
            tables = {
                item: rows.resample(how["resample"]).agg(how["aggregate"])
                for item, rows in tables.items()
            }
        for item, rows in tables.items():
            found[item] = rows.to_numpy(dtype=float, copy=True)[: len(rows) - how["drop_last"]]
            found[item].flags.writeable = False
    return found


@lru_cache(maxsize=2)
def _long(path: str, stamped: bool) -> dict[str, pd.Series]:
    """Series of a table ``item_id, timestamp, target``; stamps are only read where steps are put
    together.
    """
    columns = ["item_id", "target", *(["timestamp"] if stamped else [])]
    rows = pd.read_csv(path, usecols=columns, dtype={"item_id": str, "target": float})
    if stamped:
        rows.index = pd.DatetimeIndex(rows["timestamp"])
    return dict(iter(rows.groupby("item_id", sort=False)["target"]))


@lru_cache(maxsize=2)
def wide_table(
    path: str, time: str, grid: str | None, columns: tuple[str, ...] | None = None
) -> pd.DataFrame:
    """A table with a column a series, or some of its columns; on a grid, each stamp stands once,
    and what the file lacks is missing.
    """
    rows = pd.read_csv(path, encoding_errors="replace", index_col=time, parse_dates=True)
    rows = (rows if columns is None else rows[list(columns)]).astype(float)
    if grid is None:
        return rows
    rows = rows[~rows.index.duplicated()]
    return rows.reindex(pd.date_range(rows.index[0], rows.index[-1], freq=grid))


def fill(values: np.ndarray) -> np.ndarray:
    """Missing values become the last one before them, at the beginning the first one after; zero
    without any.
    """
    seen = np.flatnonzero(~np.isnan(values))
    if not len(seen):
        return np.zeros_like(values)
    before = np.searchsorted(seen, np.arange(len(values)), side="right") - 1
    return values[seen[np.maximum(before, 0)]]


def seasonal_error(past: np.ndarray, season: int, suite: str) -> float:
    """Mean of ``|y[t] - y[t - season]|`` over the observed pairs of a past ``[T]``; NaN where there
    is none.

    A past shorter than a season has none in chronos-zs, and takes a lag of 1 in gift-eval.
    """
    lag = 1 if season > len(past) and suite != STRICT else season
    steps = np.abs(past[lag:] - past[: max(len(past) - lag, 0)])
    steps = steps[~np.isnan(steps)]
    return float(steps.mean()) if len(steps) else np.nan


def quantile_losses(y: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Twice the pinball loss of the quantiles ``LEVELS`` ``[..., 9]`` of values ``[..., 1]``; NaN
    stays NaN.
    """
    return np.asarray(2 * np.abs((y - quantiles) * ((y <= quantiles) - np.array(LEVELS))))


def score(task: Task, instances: Sequence[Instance], forecasts: np.ndarray) -> dict[str, float]:
    """What the suites say of the quantiles ``LEVELS`` ``[n, F, 9]`` of instances, and how often 80%
    intervals held.

    - ``mase``: mean over all observed values of ``|y - q.5|`` over the seasonal error of its own
      past; series whose seasonal error is zero or undefined are left out.
    - ``wql``: mean over the nine levels p of ``sum 2 |(y - q_p) (1[y <= q_p] - p)| / sum |y|`` over
      observed values.
    - ``coverage80``: share of observed values from ``q.1`` to ``q.9``, bounds included.

    Raises:
        ValueError: If the shape is another one, or a number is not finite.
    """
    wanted = (len(instances), task.horizon, len(LEVELS))
    if forecasts.shape != wanted or not np.isfinite(forecasts).all():
        raise ValueError(
            f"{task.name}: forecasts must be finite, of shape {wanted}; got {forecasts.shape},"
            " or NaN"
        )
    y = np.stack([each.future for each in instances])
    scale = np.array([seasonal_error(each.past, task.season, task.suite) for each in instances])
    scale[scale == 0] = np.nan
    seen = ~np.isnan(y)
    errors = np.abs(y - forecasts[..., LEVELS.index(0.5)]) / scale[:, None]
    y = y[seen][:, None]
    quantiles = forecasts[seen]
    losses = quantile_losses(y, quantiles)
    inside = (quantiles[:, :1] <= y) & (y <= quantiles[:, -1:])
    return {
        "mase": float(errors[~np.isnan(errors)].mean()),
        "wql": float((losses.sum(axis=0) / np.abs(y).sum()).mean()),
        "coverage80": float(inside.mean()),
    }


def seasonal_naive(task: Task, instances: Sequence[Instance]) -> np.ndarray:
    """The suites' seasonal naive, ``[n, F, 9]``: the last season again and again, or the last value
    of a shorter past.

    In gift-eval its quantiles are normal; their deviation is the root mean square of the seasonal
    differences times the root of the number of seasons ahead.
    """
    z = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
    steps = np.arange(task.horizon)
    found = np.empty((len(instances), task.horizon, len(LEVELS)))
    for row, each in zip(found, instances, strict=True):
        past = fill(each.past)
        lag = task.season if len(past) >= task.season else 1
        row[:] = past[len(past) - lag + steps % lag, None]
        if task.suite != STRICT and len(past) > lag:
            row += (
                np.sqrt(np.mean((past[lag:] - past[:-lag]) ** 2) * (1 + steps // lag))[:, None] * z
            )
    return found


def geometric_mean(ratios: Sequence[float]) -> float:
    """Mean of ratios in which twice as much and half as much cancel."""
    return float(np.exp(np.mean(np.log(ratios))))
