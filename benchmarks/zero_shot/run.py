"""Runs models of the catalogue over the zero-shot pack: a record a task in benchmarks/results/zero_shot.jsonl.

What is on record for a task, a model, its settings and its weights is not run again; remove its line to repeat it.
"""

import argparse
import hashlib
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from experiment import RESULTS, Records

from tsattn.benchmark import _peak_mb, _reset_peak, asked
from tsattn.catalogue import find_model, make_forecaster, settings_for
from tsattn.data.frames import Panel, from_long
from tsattn.forecaster import Forecaster, chunk_size
from tsattn.limits import limit_threads
from tsattn.storage import one_line, write_atomic
from zero_shot.pack import COLUMNS, LEVELS, SPLITS, Instance, Pack, Task, fill, geometric_mean, score, seasonal_naive
from zero_shot.page import FILE, PUBLISHED

KEY = ("suite", "task", "split", "model", "settings", "weights")
METRICS = ("mase", "wql")
# Models whose forecast is one number, which then stands for all nine quantiles.
POINTS = ("naive", "seasonal_naive", "drift", "window_average", "ridge", "gbm")
# Settings that say how a table is read or who is told, and the file of weights, which a record knows by its numbers.
_LEFT_OUT = {"alias", "id_col", "time_col", "target_col", "freq", "missing", "verbose", "weights"}
_REPORT = "report tasks are run once for a release: the number stands, whatever it is, and nothing is chosen by it"
Done = Callable[[int], None]

# --- forecasts --------------------------------------------------------------------------------------------------


def make(model: str, task: Task, season: int | None = None, weights: str | None = None) -> Forecaster:
    """A forecaster of the catalogue, told season, seed and weights where they mean something to it."""
    given = settings_for(model, season_length=season, random_state=0, weights=weights)
    return make_forecaster(model, task.horizon, **given)


def forecast(
    model: str, task: Task, instances: Sequence[Instance], done: Done = lambda count: None, weights: str | None = None
) -> np.ndarray:
    """The quantiles ``LEVELS`` ``[n, F, 9]`` of instances; ``done`` hears how many were forecast after each piece.

    - A model that has an attribute ``max_context`` (most rows that it reads, or None for all) is given the pasts as
      they are: its ``predict_windows(x [B, T, 1], quantiles=LEVELS)`` reads NaN as missing, and as nothing before a
      series begins. Its ``fit`` may read weights (``network_``), but learns nothing, and is shown one row.
    - Others need whole windows, filled as the suites' seasonal naive fills them. One that learns weights is fitted
      once for each cutoff, on all pasts that end there. One that is estimated anew on each window is given the last
      ten seasons, at least 100 rows, together with the pasts that have as many.
    """
    bare, trained = make(model, task, weights=weights), find_model(model).trained
    if hasattr(bare, "max_context"):
        return _in_batches(bare.fit(_panel([np.zeros(1)])), task, [each.past for each in instances], done)
    most = max(100, 10 * task.season)
    groups: dict[int, list[int]] = {}
    for row, each in enumerate(instances):
        groups.setdefault(each.window if trained else min(len(each.past), most), []).append(row)
    found = np.empty((len(instances), task.horizon, len(LEVELS)))
    for key, rows in groups.items():
        pasts = [fill(instances[row].past)[0 if trained else -key :] for row in rows]
        found[rows] = _fitted(model, task, pasts)
        done(len(rows))
    return found


def _in_batches(forecaster: Any, task: Task, pasts: list[np.ndarray], done: Done) -> np.ndarray:
    """Batches of pasts of similar length, the longest first, each as wide as its longest."""
    most = forecaster.max_context or max(len(past) for past in pasts)
    # Rows without any value are filled from those before them.
    pasts = [fill(past)[-most:] if np.isnan(past[-most:]).all() else past[-most:] for past in pasts]
    order = sorted(range(len(pasts)), key=lambda row: -len(pasts[row]))
    found = np.empty((len(pasts), task.horizon, len(LEVELS)))
    while order:
        longest = len(pasts[order[0]])
        size = chunk_size(longest + task.horizon * len(LEVELS))
        rows, order = order[:size], order[size:]
        x = np.full((len(rows), longest, 1), np.nan)
        for window, row in zip(x, rows, strict=True):
            window[longest - len(pasts[row]) :, 0] = pasts[row]
        found[rows] = forecaster.predict_windows(x, quantiles=LEVELS)[:, :, 0]
        done(len(rows))
    return found


def _panel(pasts: Sequence[np.ndarray]) -> Panel:
    rows = [pd.DataFrame({"unique_id": n, "ds": np.arange(len(past)), "y": past}) for n, past in enumerate(pasts)]
    return from_long(pd.concat(rows), freq=1)


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
    every = [answer.point] * len(LEVELS) if model in POINTS else [answer.quantiles[level] for level in LEVELS]
    return np.concatenate(every, axis=2)


# --- records ----------------------------------------------------------------------------------------------------


def plan(model: str, task: Task, at_most: int | None = None, weights: str | None = None) -> dict[str, Any]:
    """What tells a run from others: the fields ``KEY`` of its record; a file of weights is known by its numbers."""
    forecaster = make(model, task, task.season, weights)
    settings = {name: getattr(forecaster, name) for name in find_model(model).settings() if name not in _LEFT_OUT}
    told = json.loads(json.dumps(asked(settings | {"max_instances": at_most}), default=str))
    place = {"suite": task.suite, "task": task.name, "split": task.split, "model": model}
    return place | {"settings": told, "weights": _digest(_network(forecaster))}


def _network(forecaster: Any) -> dict[str, np.ndarray]:
    """The numbers that a forecaster has learnt before it sees a series; none where it begins with nothing."""
    if not hasattr(forecaster, "max_context"):
        return {}
    tensors = forecaster.fit(_panel([np.zeros(1)])).network_.state_dict()
    return {name: tensors[name].numpy() for name in sorted(tensors)}


def _digest(arrays: dict[str, np.ndarray]) -> str | None:
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest() if arrays else None


def execute(
    cell: dict[str, Any], pack: Pack, done: Done = lambda count: None, weights: str | None = None
) -> dict[str, Any]:
    """The record of a run.

    Relative scores are over the published seasonal naive; where only some instances were asked, over the suite's
    seasonal naive on the same ones.
    """
    task, model, at_most = pack.tasks[cell["task"]], cell["model"], cell["settings"].get("max_instances")
    instances = pack.instances(task, at_most)
    _reset_peak()
    started = time.perf_counter(), time.process_time()
    answer = forecast(model, task, instances, done, weights)
    seconds, cpu_seconds = time.perf_counter() - started[0], time.process_time() - started[1]
    cost: dict[str, Any] = {"seconds": round(seconds, 3), "cpu_seconds": round(cpu_seconds, 3), "peak_mb": _peak_mb()}
    scores = score(task, instances, answer)
    base = {name.lower(): value for name, value in task.published["seasonal_naive"].items()}
    if at_most is not None:
        base = score(task, instances, seasonal_naive(task, instances))
    scores |= {f"rel_{name}": scores[name] / base[name] for name in METRICS}
    cost["params"] = sum(array.size for array in _network(make(model, task, weights=weights)).values())
    sizes = {"horizon": task.horizon, "n_instances": len(instances)}
    return {"kind": "task", **cell, **sizes, **{name: float(f"{value:.9g}") for name, value in scores.items()}, **cost}


def published(pack: Pack) -> list[dict[str, Any]]:
    """What the page shows of others: sources, tasks with their best, and models by column, over seasonal naive."""
    suites = pack.told["suites"].items()
    rows = [
        {"kind": "suite", "suite": suite, **{n: told[n] for n in ("repository", "commit")}} for suite, told in suites
    ]
    for task in pack.tasks.values():
        rivals = {name: each for name, each in task.published.items() if name != "seasonal_naive"}
        best = [min((each[metric], name) for name, each in rivals.items()) for metric in ("MASE", "WQL")]
        of = {name: getattr(task, name) for name in ("suite", "split", "horizon", "n_instances")}
        base = [task.published["seasonal_naive"][metric] for metric in ("MASE", "WQL")]
        rows.append({"kind": "published task", "task": task.name, **of, "seasonal_naive": base, "best": best})
    return rows + [_model(pack, model, about) for model, about in pack.told["models"].items()]


def _model(pack: Pack, model: str, about: dict[str, Any]) -> dict[str, Any]:
    """A published model: its aggregates by column, where it has all tasks, and what is said of it."""
    columns = []
    for column in COLUMNS:
        tasks = [task.published for task in pack.tasks.values() if column.holds(task.suite, task.split, task.horizon)]
        whole = bool(tasks) and all(model in each for each in tasks)
        of = [[each[model][m] / each["seasonal_naive"][m] for each in tasks] for m in ("MASE", "WQL")] if whole else []
        columns.append([round(geometric_mean(ratios), 5) for ratios in of])
    told = about.get("gift-eval", {})
    seen = [name for name in about.get("chronos-zs", {}).get("trained_on", ()) if name in pack.tasks]
    notes = [told.get("type"), told.get("test_data_leakage") == "Yes" and "saw test data by its own statement"]
    notes.append(bool(seen) and f"trained on {len(seen)} of the chronos-zs tasks")
    row = {"kind": "published model", "model": model, "columns": columns, "note": ", ".join(filter(None, notes))}
    return row | {"files": [each["file"] for each in about.values()]}


# --- the script -------------------------------------------------------------------------------------------------


def meter(total: int) -> Callable[..., None]:
    """Writes over a line on a terminal's stderr: what runs, how much is done, the time left; nothing elsewhere."""
    done, started, shown = 0, time.monotonic(), sys.stderr is not None and sys.stderr.isatty()

    def count(text: str, horizon: int = 0, forecasts: int = 0) -> None:
        nonlocal done
        done += horizon * forecasts
        if shown:
            left = (time.monotonic() - started) * (total / max(done, 1) - 1)
            told = f"{text}: {100 * done / total:.0f}% of all, {left:.0f} s left" if text else ""
            print(f"\r{told}\x1b[K", end="", file=sys.stderr, flush=True)

    return count


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not on record; 2 where a name is unknown or the pack is not there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", type=Path, required=True, help="folder of the zero-shot pack")
    parser.add_argument("--split", choices=SPLITS, default=SPLITS[0], help=f"{_REPORT}; default {SPLITS[0]}")
    parser.add_argument("--model", action="append", help="of the catalogue, as often as wanted; default zero")
    parser.add_argument("--task", action="append", help="as often as wanted; default all of the split")
    parser.add_argument("--max-instances", type=int, help="so many a task, for a quick look that no page shows")
    parser.add_argument("--weights", help="file of weights, for a model that takes one; default those shipped")
    parser.add_argument("--threads", type=int, default=1, help="of torch; default 1")
    parser.add_argument("--out", type=Path, default=RESULTS / FILE, help=f"records; {PUBLISHED} is written beside them")
    options = parser.parse_args(argv)
    try:
        with limit_threads(options.threads):
            _run(options)
    except (ValueError, OSError) as error:
        print(f"zero_shot: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _run(options: argparse.Namespace) -> None:
    pack, at_most = Pack(options.pack), options.max_instances
    if at_most is not None and at_most < 1:
        raise ValueError(f"--max-instances must be at least 1; got {at_most}")
    of_split = [task.name for task in pack.tasks.values() if task.split == options.split]
    for name in options.task or ():
        if name not in of_split:
            raise ValueError(f"--task {name} is no task of --split {options.split}; use one of {', '.join(of_split)}")
    names = dict.fromkeys(options.task or of_split)
    models = dict.fromkeys(options.model or ["zero"])
    cells = [plan(model, pack.tasks[name], at_most, options.weights) for model in models for name in names]
    if options.split != SPLITS[0]:
        print(f"zero_shot: {_REPORT}", file=sys.stderr)
    lines = ",\n".join(json.dumps(row) for row in published(pack))
    write_atomic(options.out.with_name(PUBLISHED), lambda aside: aside.write_text(f"[\n{lines}\n]\n", encoding="utf-8"))
    records = Records(options.out, KEY)
    asked_for = [pack.tasks[cell["task"]] for cell in records.missing(cells)]
    count = meter(sum(min(task.n_instances, at_most or task.n_instances) * task.horizon for task in asked_for))
    for cell in records.missing(cells):
        said = partial(count, f"{cell['model']} {cell['task']}", pack.tasks[cell["task"]].horizon)
        row = records.add(execute(cell, pack, said, options.weights))
        count("")
        told = (f"{name} {row[name]:.3f}" for name in ("mase", "wql", "rel_mase", "rel_wql", "coverage80", "seconds"))
        print(f"{row['model']} {row['task']}: {', '.join(told)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
