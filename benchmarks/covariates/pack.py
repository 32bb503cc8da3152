"""The covariates pack: its tasks, the series with the columns beside them, and the scores of its
suites.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from packs import read_contents
from zero_shot.pack import LEVELS, STRICT, quantile_losses, seasonal_error, wide_table

# In this suite all windows and targets are one pool, in the others each window and target counts
# alike.
POOLED = "gift-eval"


class Task(NamedTuple):
    """One task: columns by what they are, cutoffs as steps back from the end of each series, scores
    by model.

    ``season`` is that of the metrics, ``naive_season`` that of the seasonal naive forecast; a
    series takes part where ``min_past`` rows stand before a cutoff. ``measured`` are the scores of
    rivals that the pack's makers ran.
    """

    name: str
    suite: str
    split: str
    horizon: int
    season: int
    naive_season: int
    cutoffs: tuple[int, ...]
    min_past: int
    n_instances: int
    targets: tuple[str, ...]
    known: tuple[str, ...]
    past: tuple[str, ...]
    data: Mapping[str, Any]
    published: Mapping[str, Mapping[str, Any]]
    measured: Mapping[str, Mapping[str, float]]

    @property
    def base(self) -> Mapping[str, float]:
        """Scores of the suite's seasonal naive forecast."""
        return (self.published or self.measured)["seasonal_naive"]


class Case(NamedTuple):
    """One series before one cutoff; any value may be missing.

    ``past [T]`` has targets, known and past covariates, ``future [F]`` the known ones, ``truth`` is
    ``[F, C]``.
    """

    item: str
    window: int
    past: pd.DataFrame
    future: pd.DataFrame
    truth: np.ndarray


class Pack:
    """The tasks of a folder by name, as ``tasks``, its whole list as ``told``, and the series
    behind them.

    Raises:
        ValueError: If the folder holds no ``tasks.json``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.told = Path(folder), read_contents(folder, "covariates")
        self.tasks = {row["name"]: _task(row) for row in self.told["tasks"]}

    def cases(self, task: Task) -> list[Case]:
        """What is asked, series by series; a series too short for a window is left out of it."""
        cases = []
        columns = (*task.targets, *task.known, *task.past)
        for item, frame in _frames(str(self.folder), json.dumps(task.data), columns).items():
            for window, cutoff in enumerate(task.cutoffs):
                end = len(frame) + cutoff
                if end >= task.min_past and end + task.horizon <= len(frame):
                    ahead = frame.iloc[end : end + task.horizon]
                    truth = ahead[list(task.targets)].to_numpy()
                    cases.append(
                        Case(item, window, frame.iloc[:end], ahead[list(task.known)], truth)
                    )
        return cases


def _task(row: Mapping[str, Any]) -> Task:
    same = ("name", "suite", "split", "horizon", "min_past", "data", "published", "measured")
    lists = {name: tuple(row[name]) for name in ("cutoffs", "targets", "known", "past")}
    seasons = {"season": row["seasonality"], "naive_season": row["naive_seasonality"]}
    return Task(
        **{name: row[name] for name in same}, **lists, **seasons, n_instances=row["instances"]
    )


# Tasks of one data set follow one another in the list, and models of a task.
@lru_cache(maxsize=2)
def _frames(folder: str, data: str, columns: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    """The series of a task in file order: some columns on their time stamps."""
    how = json.loads(data)
    frames = {
        item: frame
        for file in how["files"]
        for item, frame in _read(Path(folder) / file, how, columns)
    }
    for item, frame in frames.items():
        if how["resample"]:
            ways = {name: how["aggregate"].get(name, how["aggregate"]["*"]) for name in columns}
            frame = frame.resample(how["resample"]).agg(ways)[list(columns)]
        frames[item] = frame.iloc[how["drop_first"] : len(frame) - how["drop_last"]]
    return frames


def _read(
    path: Path, how: Mapping[str, Any], columns: tuple[str, ...]
) -> Iterator[tuple[str, pd.DataFrame]]:
    """The series of one file: a long table has several, a wide one is one, named after the file."""
    if how["layout"] == "wide":
        yield path.name.partition(".")[0], wide_table(str(path), how["time"], how["grid"], columns)
        return
    kinds = {"item_id": str, **dict.fromkeys(columns, float)}
    rows = pd.read_csv(
        path, usecols=["item_id", "timestamp", *columns], dtype=kinds, parse_dates=["timestamp"]
    )
    for item, series in rows.groupby("item_id", sort=False):
        yield str(item), series.set_index("timestamp")[list(columns)]


def score(task: Task, cases: Sequence[Case], forecasts: np.ndarray) -> dict[str, float]:
    """What the suites say of the quantiles ``LEVELS`` ``[n, F, C, 9]`` of cases, and how often 80%
    intervals held.

    The scale of a target of a case is the mean ``|y[t] - y[t - season]|`` of its past. Missing
    truth is left out, and what has no scale, or a scale of zero.

    - fev-bench and own tasks: each window and target counts alike. In it, ``mase`` is the mean of
      ``|y - q.5|`` over the scale, ``sql`` that of ``2 |(y - q_p) (1[y <= q_p] - p)|`` over the
      scale, for the nine levels p too, and ``wql`` the mean of the same without a scale over mean
      ``|y|``, which counts as 1 at least.
    - gift-eval: ``mase`` is the mean over all cases, steps and targets, ``wql`` the sum over the
      sum of ``|y|``.
    - ``coverage80``: share of observed values from ``q.1`` to ``q.9``, bounds included.

    Raises:
        ValueError: If the shape is another one, or a number is not finite.
    """
    shape = (len(cases), task.horizon, len(task.targets), len(LEVELS))
    if forecasts.shape != shape or not np.isfinite(forecasts).all():
        raise ValueError(
            f"{task.name}: forecasts must be finite, of shape {shape}; got {forecasts.shape},"
            " or NaN"
        )
    y = np.stack([case.truth for case in cases])
    scale = np.array(
        [[seasonal_error(y, task.season, STRICT) for y in _targets(task, case)] for case in cases]
    )
    scale = np.where(scale > 0, scale, np.nan)[:, None]  # [n, 1, C]
    errors = np.abs(y - forecasts[..., LEVELS.index(0.5)])
    losses = quantile_losses(y[..., None], forecasts)
    held = ((forecasts[..., 0] <= y) & (y <= forecasts[..., -1]))[~np.isnan(y)].mean()
    if task.suite == POOLED:
        wql = np.nansum(losses, axis=(0, 1, 2)).mean() / np.nansum(np.abs(y))
        return {
            "mase": float(np.nanmean(errors / scale)),
            "wql": float(wql),
            "coverage80": float(held),
        }
    parts = []
    windows = np.array([case.window for case in cases])
    for window in np.unique(windows):
        of = windows == window
        size = np.maximum(np.nanmean(np.abs(y[of]), axis=(0, 1)), 1.0)  # [C]
        parts.append(
            [
                np.nanmean(errors[of] / scale[of], axis=(0, 1)).mean(),
                np.nanmean(losses[of] / scale[of][..., None], axis=(0, 1)).mean(),
                (np.nanmean(losses[of], axis=(0, 1)) / size[:, None]).mean(),
            ]
        )
    mase, sql, wql = np.mean(parts, axis=0).tolist()
    return {"mase": mase, "sql": sql, "wql": wql, "coverage80": float(held)}


def _targets(task: Task, case: Case) -> np.ndarray:
    """Past targets of a case, ``[C, T]``."""
    return case.past[list(task.targets)].to_numpy().T
