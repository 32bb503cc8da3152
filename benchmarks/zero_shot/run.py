"""Runs models of the catalogue over the zero-shot pack: a record a task in results/zero_shot.jsonl.

A run on record for a task, a model, its settings and its weights is not repeated; remove its line
to run it again.
"""

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from packs import POINTS, chosen, identity, measured, network, record_missing, relative, start
from records import Record
from zero_shot.pack import LEVELS, Instance, Pack, Task, fill, score
from zero_shot.page import FILE, KEY

from tsattn.catalogue import find_model, make_forecaster, settings_for
from tsattn.data.frames import from_long
from tsattn.data.panel import Panel
from tsattn.data.windows import chunk_size
from tsattn.forecaster import Forecaster
from tsattn.forecasters.pretrained import PretrainedForecaster

# Numbers that are printed when a run is over.
SHOWN = ("mase", "wql", "rel_mase", "rel_wql", "coverage80", "seconds")


def make(
    model: str, task: Task, season: int | None = None, weights: str | None = None
) -> Forecaster:
    """A forecaster of the catalogue, with those of season, seed and weights that it takes."""
    settings = settings_for(model, season_length=season, random_state=0, weights=weights)
    return make_forecaster(model, task.horizon, **settings)


def forecast(
    model: str, task: Task, instances: Sequence[Instance], weights: str | None = None
) -> np.ndarray:
    """The quantiles ``LEVELS`` ``[n, F, 9]`` of instances.

    - The pretrained network reads the pasts as they are, with NaN for missing values and before a
      series begins. Its ``fit`` learns nothing but the frequency, for which one row is enough.
    - Others need whole windows, filled as the suites' seasonal naive fills them. One that learns
      weights is fitted once for each cutoff, on all pasts that end there. One that is estimated
      anew on each window reads the last ten seasons, at least 100 rows; pasts of one length are
      forecast together.
    """
    forecaster = make(model, task, weights=weights)
    if isinstance(forecaster, PretrainedForecaster):
        pasts = [instance.past for instance in instances]
        return _in_batches(forecaster.fit(_one_row(task)), task, pasts)
    forecasts = np.empty((len(instances), task.horizon, len(LEVELS)))
    if find_model(model).trained:
        windows = [instance.window for instance in instances]
        for rows in _groups(windows):
            pasts = [fill(instances[row].past) for row in rows]
            forecasts[rows] = _fitted(model, task, pasts)
        return forecasts
    most_rows = max(100, 10 * task.season)
    lengths = [min(len(instance.past), most_rows) for instance in instances]
    for rows in _groups(lengths):
        length = lengths[rows[0]]
        pasts = [fill(instances[row].past)[-length:] for row in rows]
        forecasts[rows] = _fitted(model, task, pasts)
    return forecasts


def _groups(keys: Sequence[int]) -> list[list[int]]:
    """Places of equal keys, in the order in which the keys first occur."""
    places: dict[int, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    return list(places.values())


def _in_batches(forecaster: Any, task: Task, pasts: list[np.ndarray]) -> np.ndarray:
    """Quantiles of pasts, in batches of similar length, the longest first, each as wide as its
    longest.
    """
    pasts = [_last_rows(past, forecaster.max_context) for past in pasts]
    order = sorted(range(len(pasts)), key=lambda row: -len(pasts[row]))
    forecasts = np.empty((len(pasts), task.horizon, len(LEVELS)))
    while order:
        longest = len(pasts[order[0]])
        size = chunk_size(longest + task.horizon * len(LEVELS))
        rows = order[:size]
        order = order[size:]
        x = np.full((len(rows), longest, 1), np.nan)
        for window, row in zip(x, rows, strict=True):
            first = longest - len(pasts[row])
            window[first:, 0] = pasts[row]
        _, quantiles = forecaster.predict_windows(x, quantiles=LEVELS)
        forecasts[rows] = quantiles[:, :, 0]
    return forecasts


def _last_rows(past: np.ndarray, n_rows: int) -> np.ndarray:
    """The last rows of a past; filled from earlier rows where they hold no value."""
    last = past[-n_rows:]
    if np.isnan(last).all():
        last = fill(past)[-n_rows:]
    return last


def _panel(pasts: Sequence[np.ndarray]) -> Panel:
    frames = []
    for number, past in enumerate(pasts):
        columns = {"unique_id": number, "ds": np.arange(len(past)), "y": past}
        frames.append(pd.DataFrame(columns))
    return from_long(pd.concat(frames), freq=1)


def _one_row(task: Task) -> Panel:
    """A panel of the task's frequency."""
    stamp = pd.date_range("2000-01-01", periods=1, freq=task.freq)
    row = pd.DataFrame({"unique_id": [0], "ds": stamp, "y": [0.0]})
    return from_long(row, freq=task.freq)


def _fitted(model: str, task: Task, pasts: Sequence[np.ndarray]) -> np.ndarray:
    """Fit on pasts and forecast after each of them; without a season where the shortest past is too
    short for it.
    """
    is_point = model in POINTS
    # One season is the suites' rule; models that estimate a season need two, and ten rows more.
    least_rows = task.season if is_point else 2 * task.season + 10
    season = task.season
    if min(map(len, pasts)) < least_rows:
        season = 1
    panel = _panel(pasts)
    with warnings.catch_warnings():
        # Every fit counts its optimisers that stopped early, and there may be hundreds of fits.
        warnings.filterwarnings("ignore", message=f"{model}: of ", category=RuntimeWarning)
        forecaster = make(model, task, season).fit(panel)
        answer = forecaster.predict(panel, quantiles=None if is_point else LEVELS)
    if is_point:
        quantiles = [answer.point] * len(LEVELS)
    else:
        quantiles = [answer.quantiles[level] for level in LEVELS]
    return np.stack(quantiles, axis=2)


def plan(model: str, task: Task, weights: str | None = None) -> Record:
    """The fields ``KEY`` of a run's record, in which no other run agrees; a digest of the numbers
    stands for a file of weights.
    """
    place = {"suite": task.suite, "task": task.name, "split": task.split, "model": model}
    return place | identity(model, make(model, task, task.season, weights))


def execute(cell: Record, pack: Pack, weights: str | None = None) -> Record:
    """The record of a run; relative scores are over the published seasonal naive."""
    task = pack.tasks[cell["task"]]
    model = cell["model"]
    instances = pack.instances(task)
    answer, cost = measured(lambda: forecast(model, task, instances, weights))
    scores = relative(score(task, instances, answer), task.published["seasonal_naive"])
    arrays = network(make(model, task, weights=weights)).values()
    cost["params"] = sum(array.size for array in arrays)
    sizes = {"horizon": task.horizon, "n_instances": len(instances)}
    return {"kind": "task", **cell, **sizes, **scores, **cost}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not on record; 2 where a name is unknown or the pack is not there."""
    return start(argv, __doc__, _run, FILE)


def _run(options: Any) -> None:
    pack = Pack(options.pack)
    tasks = [pack.tasks[name] for name in chosen(options, pack.tasks.values())]
    cells = [plan(model, task, options.weights) for model in options.model for task in tasks]

    def work(cell: Record) -> Record:
        return execute(cell, pack, options.weights)

    record_missing(options.out, KEY, cells, work, SHOWN)


if __name__ == "__main__":
    sys.exit(main())
