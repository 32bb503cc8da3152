"""Runs models of the catalogue over the zero-shot pack: a record a task in results/zero_shot.jsonl.

What is on record for a task, a model, its settings and its weights is not run again; remove its
line to repeat it.
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

# What is told of a run when it is over.
SHOWN = ("mase", "wql", "rel_mase", "rel_wql", "coverage80", "seconds")


def make(
    model: str, task: Task, season: int | None = None, weights: str | None = None
) -> Forecaster:
    """A forecaster of the catalogue, told season, seed and weights where they mean
    something to it.
    """
    given = settings_for(model, season_length=season, random_state=0, weights=weights)
    return make_forecaster(model, task.horizon, **given)


def forecast(
    model: str, task: Task, instances: Sequence[Instance], weights: str | None = None
) -> np.ndarray:
    """The quantiles ``LEVELS`` ``[n, F, 9]`` of instances.

    - The pretrained network is given the pasts as they are: it reads NaN as missing, and as nothing
      before a series begins. Its ``fit`` learns nothing but the frequency and is shown one row.
    - Others need whole windows, filled as the suites' seasonal naive fills them. One that learns
      weights is fitted once for each cutoff, on all pasts that end there. One that is estimated
      anew on each window is given the last ten seasons, at least 100 rows, together with the pasts
      that have as many.
    """
    bare = make(model, task, weights=weights)
    trained = find_model(model).trained
    if isinstance(bare, PretrainedForecaster):
        return _in_batches(bare.fit(_one_row(task)), task, [each.past for each in instances])
    most = max(100, 10 * task.season)
    groups: dict[int, list[int]] = {}
    for row, each in enumerate(instances):
        groups.setdefault(each.window if trained else min(len(each.past), most), []).append(row)
    found = np.empty((len(instances), task.horizon, len(LEVELS)))
    for key, rows in groups.items():
        pasts = [fill(instances[row].past)[0 if trained else -key :] for row in rows]
        found[rows] = _fitted(model, task, pasts)
    return found


def _in_batches(forecaster: Any, task: Task, pasts: list[np.ndarray]) -> np.ndarray:
    """Batches of pasts of similar length, the longest first, each as wide as its longest."""
    most = forecaster.max_context
    # Rows without any value are filled from those before them.
    pasts = [fill(past)[-most:] if np.isnan(past[-most:]).all() else past[-most:] for past in pasts]
    order = sorted(range(len(pasts)), key=lambda row: -len(pasts[row]))
    found = np.empty((len(pasts), task.horizon, len(LEVELS)))
    while order:
        longest = len(pasts[order[0]])
        size = chunk_size(longest + task.horizon * len(LEVELS))
        rows = order[:size]
        order = order[size:]
        x = np.full((len(rows), longest, 1), np.nan)
        for window, row in zip(x, rows, strict=True):
            window[longest - len(pasts[row]) :, 0] = pasts[row]
        found[rows] = forecaster.predict_windows(x, quantiles=LEVELS)[1][:, :, 0]
    return found


def _panel(pasts: Sequence[np.ndarray]) -> Panel:
    rows = [
        pd.DataFrame({"unique_id": n, "ds": np.arange(len(past)), "y": past})
        for n, past in enumerate(pasts)
    ]
    return from_long(pd.concat(rows), freq=1)


def _one_row(task: Task) -> Panel:
    """A panel of the task's frequency."""
    row = pd.DataFrame(
        {"unique_id": [0], "ds": pd.date_range("2000-01-01", periods=1, freq=task.freq), "y": [0.0]}
    )
    return from_long(row, freq=task.freq)


def _fitted(model: str, task: Task, pasts: Sequence[np.ndarray]) -> np.ndarray:
    """Fit on pasts and forecast after each; a season counts where the shortest past holds it."""
    # Once is the suites' rule; what estimates a season needs it twice, and ten rows.
    enough = min(map(len, pasts)) >= (task.season if model in POINTS else 2 * task.season + 10)
    panel = _panel(pasts)
    with warnings.catch_warnings():
        # Every fit counts its optimisers that stopped early, and there may be hundreds of fits.
        warnings.filterwarnings("ignore", message=f"{model}: of ", category=RuntimeWarning)
        fitted = make(model, task, task.season if enough else 1).fit(panel)
        answer = fitted.predict(panel, quantiles=None if model in POINTS else LEVELS)
    every = (
        [answer.point] * len(LEVELS)
        if model in POINTS
        else [answer.quantiles[level] for level in LEVELS]
    )
    return np.stack(every, axis=2)


def plan(model: str, task: Task, weights: str | None = None) -> Record:
    """What tells a run from others: the fields ``KEY`` of its record; a file of weights is known by
    its numbers.
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
    cost["params"] = sum(
        array.size for array in network(make(model, task, weights=weights)).values()
    )
    sizes = {"horizon": task.horizon, "n_instances": len(instances)}
    return {"kind": "task", **cell, **sizes, **scores, **cost}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not on record; 2 where a name is unknown or the pack is not there."""
    return start(argv, __doc__, _run, FILE)


def _run(options: Any) -> None:
    pack = Pack(options.pack)
    names = chosen(options, pack.tasks.values())
    cells = [
        plan(model, pack.tasks[name], options.weights) for model in options.model for name in names
    ]
    record_missing(
        options.out, KEY, cells, lambda cell: execute(cell, pack, options.weights), SHOWN
    )


if __name__ == "__main__":
    sys.exit(main())
