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

# In this suite a score is a mean over the values of all windows and targets, in the others a mean
# over the scores of each window and target.
POOLED = "gift-eval"


class Task(NamedTuple):
    """One task: columns by their role, cutoffs as steps back from the end of each series, and
    scores by model.

    ``season`` belongs to the metrics, ``naive_season`` to the seasonal naive forecast. A series
    takes part if it has at least ``min_past`` rows before a cutoff. ``measured`` are the scores of
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
    future_cols: tuple[str, ...]
    past_cols: tuple[str, ...]
    data: Mapping[str, Any]
    published: Mapping[str, Mapping[str, Any]]
    measured: Mapping[str, Mapping[str, float]]

    @property
    def base(self) -> Mapping[str, float]:
        """Scores of the suite's seasonal naive forecast."""
        return (self.published or self.measured)["seasonal_naive"]


class Case(NamedTuple):
    """One series before one cutoff; any value may be missing.

    ``past [T]`` has targets, future and past covariates, ``future [F]`` the future covariates,
    ``truth`` is ``[F, C]``.
    """

    item: str
    window: int
    past: pd.DataFrame
    future: pd.DataFrame
    truth: np.ndarray


class Pack:
    """The tasks of a folder by name, as ``tasks``, the whole ``contents`` of its list, and the
    series of the tasks.

    Raises:
        ValueError: If the folder holds no ``tasks.json``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.contents = read_contents(folder, "covariates")
        self.tasks = {row["name"]: _task(row) for row in self.contents["tasks"]}

    def cases(self, task: Task) -> list[Case]:
        """The forecasts to make, series by series; a series too short for a window is left out of
        it.
        """
        cases = []
        columns = (*task.targets, *task.future_cols, *task.past_cols)
        frames = _frames(str(self.folder), json.dumps(task.data), columns)
        for item, frame in frames.items():
            for window, cutoff in enumerate(task.cutoffs):
                end = len(frame) + cutoff
                if end < task.min_past or end + task.horizon > len(frame):
                    continue
                ahead = frame.iloc[end : end + task.horizon]
                truth = ahead[list(task.targets)].to_numpy()
                future = ahead[list(task.future_cols)]
                cases.append(Case(item, window, frame.iloc[:end], future, truth))
        return cases


def _task(row: Mapping[str, Any]) -> Task:
    return Task(
        name=row["name"],
        suite=row["suite"],
        split=row["split"],
        horizon=row["horizon"],
        season=row["seasonality"],
        naive_season=row["naive_seasonality"],
        cutoffs=tuple(row["cutoffs"]),
        min_past=row["min_past"],
        n_instances=row["instances"],
        targets=tuple(row["targets"]),
        future_cols=tuple(row["known"]),
        past_cols=tuple(row["past"]),
        data=row["data"],
        published=row["published"],
        measured=row["measured"],
    )


# Tasks of one data set follow one another in the list, and models of a task.
@lru_cache(maxsize=2)
def _frames(folder: str, data: str, columns: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    """The series of a task in file order: some columns on their time stamps."""
    options = json.loads(data)
    rule = options["resample"]
    frames = {}
    for file in options["files"]:
        for item, frame in _read(Path(folder) / file, options, columns):
            if rule:
                aggregates = options["aggregate"]
                methods = {name: aggregates.get(name, aggregates["*"]) for name in columns}
                frame = frame.resample(rule).agg(methods)[list(columns)]
            stop = len(frame) - options["drop_last"]
            frames[item] = frame.iloc[options["drop_first"] : stop]
    return frames


def _read(
    path: Path, options: Mapping[str, Any], columns: tuple[str, ...]
) -> Iterator[tuple[str, pd.DataFrame]]:
    """The series of one file: several of a long table, one of a wide table, named after the
    file.
    """
    if options["layout"] == "wide":
        stem = path.name.partition(".")[0]
        yield stem, wide_table(str(path), options["time"], options["grid"], columns)
        return
    dtypes = {"item_id": str, **dict.fromkeys(columns, float)}
    rows = pd.read_csv(
        path, usecols=["item_id", "timestamp", *columns], dtype=dtypes, parse_dates=["timestamp"]
    )
    for item, series in rows.groupby("item_id", sort=False):
        yield str(item), series.set_index("timestamp")[list(columns)]


def score(task: Task, cases: Sequence[Case], forecasts: np.ndarray) -> dict[str, float]:
    """Scores of the suites for the quantiles ``LEVELS`` ``[n, F, C, 9]`` of cases, and the coverage
    of 80% intervals.

    The scale of a target of a case is the mean ``|y[t] - y[t - season]|`` of its past. Missing
    truths are left out, as are targets without a scale or with a scale of zero.

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
    scale = _scales(task, cases)
    errors = np.abs(y - forecasts[..., LEVELS.index(0.5)])
    losses = quantile_losses(y[..., None], forecasts)
    inside = (forecasts[..., 0] <= y) & (y <= forecasts[..., -1])
    coverage = float(inside[~np.isnan(y)].mean())
    if task.suite == POOLED:
        wql = np.nansum(losses, axis=(0, 1, 2)).mean() / np.nansum(np.abs(y))
        mase = np.nanmean(errors / scale)
        return {"mase": float(mase), "wql": float(wql), "coverage80": coverage}
    windows = np.array([case.window for case in cases])
    scores = []
    for window in np.unique(windows):
        rows = windows == window
        scores.append(_window_scores(y[rows], scale[rows], errors[rows], losses[rows]))
    mase, sql, wql = np.mean(scores, axis=0).tolist()
    return {"mase": mase, "sql": sql, "wql": wql, "coverage80": coverage}


def _scales(task: Task, cases: Sequence[Case]) -> np.ndarray:
    """Seasonal errors of the pasts, ``[n, 1, C]``; NaN where there is none, or zero."""
    scales = []
    for case in cases:
        targets = case.past[list(task.targets)].to_numpy().T  # [C, T]
        scales.append([seasonal_error(past, task.season, STRICT) for past in targets])
    scale = np.array(scales)
    return np.where(scale > 0, scale, np.nan)[:, None]


def _window_scores(
    y: np.ndarray, scale: np.ndarray, errors: np.ndarray, losses: np.ndarray
) -> list[float]:
    """MASE, SQL and WQL of one window, means over its targets.

    Args:
        y: Truths ``[n, F, C]``.
        scale: Their scale ``[n, 1, C]``.
        errors: Absolute errors of the medians ``[n, F, C]``.
        losses: Of the quantiles ``[n, F, C, 9]``.
    """
    size = np.maximum(np.nanmean(np.abs(y), axis=(0, 1)), 1.0)  # [C]
    mase = np.nanmean(errors / scale, axis=(0, 1)).mean()
    sql = np.nanmean(losses / scale[..., None], axis=(0, 1)).mean()
    wql = (np.nanmean(losses, axis=(0, 1)) / size[:, None]).mean()
    return [mase, sql, wql]
