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
from packs import SPLITS, read_contents

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
    """A forecast to make after ``past [T]``; NaN is missing, in ``future [F]`` too."""

    item: str
    window: int
    past: np.ndarray
    future: np.ndarray


class Column(NamedTuple):
    """Tasks over which scores are averaged: those of a suite and a split, with a horizon of at most
    ``most`` steps.
    """

    suite: str
    split: str
    most: int | None = None

    def holds(self, suite: str, split: str, horizon: int) -> bool:
        """Whether a task is among them."""
        is_short = self.most is None or horizon <= self.most
        return suite == self.suite and split == self.split and is_short


COLUMNS = (
    *(Column(STRICT, split) for split in SPLITS),
    Column("gift-eval", SPLITS[0]),
    Column("gift-eval", SPLITS[0], 64),
    Column("gift-eval", SPLITS[1]),
)


class Pack:
    """The tasks of a folder by name, as ``tasks``, and their series.

    Raises:
        ValueError: If the folder holds no ``tasks.json``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        rows = read_contents(folder, "zero-shot")["tasks"]
        self.tasks = {row["name"]: _task(row) for row in rows}

    def instances(self, task: Task) -> list[Instance]:
        """The forecasts to make, series by series."""
        instances = []
        for item, values in _series(str(self.folder), json.dumps(task.data)).items():
            for window, cutoff in enumerate(task.cutoffs):
                end = len(values) + cutoff
                future = values[end : end + task.horizon]
                instances.append(Instance(item, window, values[:end], future))
        return instances


def _task(row: Mapping[str, Any]) -> Task:
    cutoffs = tuple(row["cutoffs"])
    return Task(
        name=row["name"],
        suite=row["suite"],
        split=row["split"],
        horizon=row["horizon"],
        season=row["seasonality"],
        freq=row["freq"],
        cutoffs=cutoffs,
        n_instances=row["series"] * len(cutoffs),
        data=row["data"],
        published=row["published"],
    )


# Tasks of one data set follow one another in the list, so it is enough to remember the last tables
# and series.
@lru_cache(maxsize=2)
def _series(folder: str, data: str) -> dict[str, np.ndarray]:
    """The series of a task in file order; read-only, since several tasks share them."""
    options = json.loads(data)
    rule = options["resample"]
    series = {}
    for file in options["files"]:
        for item, rows in _file_series(Path(folder) / file, options).items():
            if rule:
                rows = rows.resample(rule).agg(options["aggregate"])
            n_rows = len(rows) - options["drop_last"]
            values = rows.to_numpy(dtype=float, copy=True)[:n_rows]
            values.flags.writeable = False
            series[item] = values
    return series


def _file_series(path: Path, options: Mapping[str, Any]) -> dict[str, pd.Series]:
    """The series of one file by item; those of a wide table are named after file and column."""
    if options["layout"] == "long":
        return _long(str(path), bool(options["resample"]))
    table = wide_table(str(path), options["time"], options["grid"])
    stem = path.name.partition(".")[0]
    return {f"{stem}:{column}": table[column] for column in table.columns}


@lru_cache(maxsize=2)
def _long(path: str, stamped: bool) -> dict[str, pd.Series]:
    """Series of a table ``item_id, timestamp, target``; stamps are read only if ``stamped``, as
    resampling needs them.
    """
    columns = ["item_id", "target"]
    if stamped:
        columns.append("timestamp")
    rows = pd.read_csv(path, usecols=columns, dtype={"item_id": str, "target": float})
    if stamped:
        rows.index = pd.DatetimeIndex(rows["timestamp"])
    return dict(iter(rows.groupby("item_id", sort=False)["target"]))


@lru_cache(maxsize=2)
def wide_table(
    path: str, time: str, grid: str | None, columns: tuple[str, ...] | None = None
) -> pd.DataFrame:
    """A table with a column a series, or some of its columns; with a ``grid``, a row for every
    stamp, of missing values where the file has none.
    """
    rows = pd.read_csv(path, encoding_errors="replace", index_col=time, parse_dates=True)
    if columns is not None:
        rows = rows[list(columns)]
    rows = rows.astype(float)
    if grid is None:
        return rows
    rows = rows[~rows.index.duplicated()]
    stamps = pd.date_range(rows.index[0], rows.index[-1], freq=grid)
    return rows.reindex(stamps)


def fill(values: np.ndarray) -> np.ndarray:
    """Replace missing values by the last one before them, at the beginning by the first one after;
    by zeros where there is none.
    """
    observed = np.flatnonzero(~np.isnan(values))
    if not len(observed):
        return np.zeros_like(values)
    before = np.searchsorted(observed, np.arange(len(values)), side="right") - 1
    sources = observed[np.maximum(before, 0)]
    return values[sources]


def seasonal_error(past: np.ndarray, season: int, suite: str) -> float:
    """Mean of ``|y[t] - y[t - season]|`` over the observed pairs of a past ``[T]``; NaN where there
    is none.

    A past shorter than a season has none in chronos-zs, and takes a lag of 1 in gift-eval.
    """
    lag = 1 if season > len(past) and suite != STRICT else season
    n_pairs = max(len(past) - lag, 0)
    differences = np.abs(past[lag:] - past[:n_pairs])
    differences = differences[~np.isnan(differences)]
    return float(differences.mean()) if len(differences) else np.nan


def quantile_losses(y: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Twice the pinball loss of the quantiles ``LEVELS`` ``[..., 9]`` of values ``[..., 1]``; NaN
    stays NaN.
    """
    below = y <= quantiles
    return np.asarray(2 * np.abs((y - quantiles) * (below - np.array(LEVELS))))


def score(task: Task, instances: Sequence[Instance], forecasts: np.ndarray) -> dict[str, float]:
    """Scores of the suites for the quantiles ``LEVELS`` ``[n, F, 9]`` of instances, and the
    coverage of 80% intervals.

    - ``mase``: mean over all observed values of ``|y - q.5|`` over the seasonal error of its own
      past; series whose seasonal error is zero or undefined are left out.
    - ``wql``: mean over the nine levels p of ``sum 2 |(y - q_p) (1[y <= q_p] - p)| / sum |y|`` over
      observed values.
    - ``coverage80``: share of observed values from ``q.1`` to ``q.9``, bounds included.

    Raises:
        ValueError: If the shape is another one, or a number is not finite.
    """
    shape = (len(instances), task.horizon, len(LEVELS))
    if forecasts.shape != shape or not np.isfinite(forecasts).all():
        raise ValueError(
            f"{task.name}: forecasts must be finite, of shape {shape}; got {forecasts.shape},"
            " or NaN"
        )
    truth = np.stack([instance.future for instance in instances])
    pasts = [instance.past for instance in instances]
    scale = np.array([seasonal_error(past, task.season, task.suite) for past in pasts])
    scale[scale == 0] = np.nan
    medians = forecasts[..., LEVELS.index(0.5)]
    errors = np.abs(truth - medians) / scale[:, None]
    observed = ~np.isnan(truth)
    y = truth[observed][:, None]
    quantiles = forecasts[observed]
    losses = quantile_losses(y, quantiles)
    inside = (quantiles[:, :1] <= y) & (y <= quantiles[:, -1:])
    return {
        "mase": float(errors[~np.isnan(errors)].mean()),
        "wql": float((losses.sum(axis=0) / np.abs(y).sum()).mean()),
        "coverage80": float(inside.mean()),
    }


def seasonal_naive(task: Task, instances: Sequence[Instance]) -> np.ndarray:
    """The suites' seasonal naive, ``[n, F, 9]``: the last season repeated, or the last value of a
    shorter past.

    In gift-eval its quantiles are normal; their deviation is the root mean square of the seasonal
    differences times the root of the number of seasons ahead.
    """
    z = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
    steps = np.arange(task.horizon)
    forecasts = np.empty((len(instances), task.horizon, len(LEVELS)))
    for forecast, instance in zip(forecasts, instances, strict=True):
        past = fill(instance.past)
        lag = task.season if len(past) >= task.season else 1
        forecast[:] = past[len(past) - lag + steps % lag, None]
        if task.suite != STRICT and len(past) > lag:
            variance = np.mean((past[lag:] - past[:-lag]) ** 2)
            n_seasons = 1 + steps // lag
            deviations = np.sqrt(variance * n_seasons)
            forecast += deviations[:, None] * z
    return forecasts


def geometric_mean(ratios: Sequence[float]) -> float:
    """Mean of ratios in which twice as much and half as much cancel."""
    return float(np.exp(np.mean(np.log(ratios))))
