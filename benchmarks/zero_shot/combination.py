"""Compares the combination `auto` with its members and classical models on tables of the pack, the
demo's, and bike rentals.

Each model is fitted once, on the rows before the first of at most three cutoffs, and forecasts
after each of them. Recorded runs are not repeated. Run: PYTHONPATH=benchmarks python
benchmarks/zero_shot/combination.py --pack DIR --bikes FILE
"""

import time
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
import pandas as pd
import records
import render
from records import Record, Records
from zero_shot.pack import Pack, Task, fill, geometric_mean

from tsattn.benchmark import provenance
from tsattn.catalogue import make_forecaster
from tsattn.data.calendar import season_length
from tsattn.data.frames import from_long
from tsattn.data.panel import Panel
from tsattn.data.schema import Schema
from tsattn.demo import load_co2
from tsattn.evaluate.backtest import seasonal_errors
from tsattn.evaluate.rolling import roll
from tsattn.limits import limit_threads

FILE = "combination.jsonl"
KEY = ("table", "model")
MODELS = (
    "auto",
    "zero",
    "least_squares",
    "mlr",
    "dynamic_theta",
    "auto_ets",
    "seasonal_naive",
    "drift",
    "naive",
)
SHOWN = ("auto", "zero", "least_squares", "mlr", "dynamic_theta", "seasonal_naive")
# Tables of the page: the first task of most data sets, the demo's series, and bike rentals.
FIRST = (
    "ett1/H/short",
    "m4_weekly/W/short",
    "us_births/D/short",
    "hospital/M/short",
    "covid_deaths/D/short",
    "monash_m3_yearly",
    "monash_m3_monthly",
    "co2",
    "bikes",
)
# Models without intervals.
POINTS = ("seasonal_naive", "drift", "naive")
# Development tasks that are also in the other suite, under another name.
_REPEATED = ("monash_hospital", "monash_covid_deaths")
# Times in seconds; a trained member gets two fifths of the minute. Absolute errors judge medians.
SETTINGS = {"auto": {"max_time": 60, "point": "median"}, "mlr": {"max_time": 24}}
# Frequencies of tasks by a piece of their names; all others are monthly.
FREQS = {
    "/10T": "10min",
    "/15T": "15min",
    "/H": "h",
    "/D": "D",
    "/W": "W",
    "yearly": "YS",
    "quarterly": "QS",
    "": "MS",
}
# Series of a table at most, and cutoffs.
SERIES = 200
_N_CUTOFFS = 3


class Case(NamedTuple):
    """A table, its cutoffs as steps back from the end, the earliest first, and its horizon."""

    panel: Panel
    cutoffs: list[int]
    horizon: int


def of_pack(pack: Pack, task: Task) -> Case:
    """Series and cutoffs of a task, both evenly drawn; gaps are filled as its suite fills them."""
    instances = sorted(pack.instances(task), key=lambda instance: len(instance.past))
    # The last instance of a series has the longest past.
    longest = {instance.item: instance for instance in instances}
    items = sorted(longest)
    stride = -(-len(items) // SERIES)  # rounded up
    freq = next(freq for piece, freq in FREQS.items() if piece in task.name)
    frames = []
    for item in items[::stride]:
        values = np.concatenate([fill(longest[item].past), longest[item].future])
        stamps = pd.date_range("1900-01-01", periods=len(values), freq=freq)
        frames.append(pd.DataFrame({"unique_id": item, "ds": stamps, "y": values}))
    panel = from_long(pd.concat(frames), Schema(freq=freq, missing="interpolate"))
    # Series end a horizon after the last cutoff of the task.
    last = max(task.cutoffs)
    steps_back = sorted((last - cutoff + task.horizon for cutoff in task.cutoffs), reverse=True)
    places = np.linspace(0, len(steps_back) - 1, _N_CUTOFFS).round().astype(int)
    cutoffs = [steps_back[place] for place in np.unique(places)]
    return Case(panel, cutoffs, task.horizon)


def of_bikes(file: Path) -> Case:
    """Hourly rentals of a table with the columns day, hr and bikers, of one year."""
    rows = pd.read_csv(file)
    hours = 24 * (rows["day"] - 1) + rows["hr"].astype(int)
    stamps = pd.Timestamp("2011-01-01") + pd.to_timedelta(hours, unit="h")
    frame = pd.DataFrame({"ds": stamps, "y": rows["bikers"].astype(float)})
    panel = from_long(frame, Schema(freq="h", missing="interpolate"))
    # A day ahead, from eight weeks, four weeks and one day before the end.
    return Case(panel, [24 * 56, 24 * 28, 24], 24)


def of_co2() -> Case:
    """The demo's weekly series, a year ahead."""
    horizon = 52
    quarters_back = (19, 10, 0)
    return Case(load_co2(), [horizon + 13 * quarters for quarters in quarters_back], horizon)


def tables(pack: str | None, bikes: str | None) -> dict[str, Case]:
    """All tables by name; a development task that is in both suites has one table."""
    cases = {"co2": of_co2()}
    if bikes is not None:
        cases["bikes"] = of_bikes(Path(bikes))
    if pack is not None:
        task_pack = Pack(Path(pack))
        for name, task in task_pack.tasks.items():
            if task.split == "development" and name not in _REPEATED:
                cases[name] = of_pack(task_pack, task)
    return cases


def judge(name: str, model: str, case: Case) -> Record:
    """MASE, and the share of truths that level 80 holds."""
    panel = case.panel
    past = panel.until(panel.lengths - case.cutoffs[0])
    forecaster = make_forecaster(model, case.horizon, **SETTINGS.get(model, {}))
    started = time.perf_counter()
    forecaster.fit(past)
    fitted = time.perf_counter()
    ends = (panel.starts[1:, None] - np.array(case.cutoffs)).ravel()
    quantiles = () if model in POINTS else (0.1, 0.9)
    rolled = roll(forecaster, panel, ends, quantiles=quantiles)
    predicted = time.perf_counter()
    naive_errors = seasonal_errors(past, past.lengths, season_length(panel.freq))
    row: Record = {
        "table": name,
        "model": model,
        "n_series": panel.n_series,
        "mase": rolled.mase(naive_errors),
        "coverage": rolled.coverage.get(80),
        "fit_seconds": round(fitted - started, 2),
        "predict_seconds": round(predicted - fitted, 2),
    }
    if model == "auto":
        row["weights"] = forecaster.leaderboard_["weight"].round(4).to_dict()
    return row | provenance(forecaster)


def table(folder: Path) -> str:
    """A line for the first task of each data set, and geometric means over the tables on which all
    models were judged.
    """
    rows = records.read(folder / FILE, KEY)
    by_table = records.by(rows, "table").values()
    whole = [table_rows for table_rows in by_table if len(table_rows) == len(MODELS)]
    groups = [{row["model"]: row for row in table_rows} for table_rows in whole]
    if not groups:
        return render.NONE
    shown = [by_model for by_model in groups if by_model["auto"]["table"] in FIRST]
    lines = [_line(by_model) for by_model in (*shown, _means(groups))]
    head = ["table", *SHOWN, "of the best", "80% holds"]
    return f"{render.lines(head, lines)}\n\nMASE; mean: geometric. {records.commits(rows)}"


def _means(groups: list[dict[str, Record]]) -> dict[str, Record]:
    """By model, the geometric mean of MASE over tables, ``None`` where a table has none; and the
    mean coverage of `auto`.
    """
    means: dict[str, Record] = {}
    for model in MODELS:
        errors = [by_model[model]["mase"] for by_model in groups]
        has_all = None not in errors
        means[model] = {"mase": geometric_mean(errors) if has_all else None}
    means["auto"]["table"] = f"mean of {len(groups)}"
    means["auto"]["coverage"] = fmean(by_model["auto"]["coverage"] for by_model in groups)
    return means


def _line(by_model: dict[str, Record]) -> list[str]:
    """Errors of the shown models on a table, that of `auto` over the least one, and its
    coverage.
    """
    auto = by_model["auto"]
    errors = {model: row["mase"] for model, row in by_model.items()}
    cells = [f"{errors[model]:.3f}" if errors[model] else "" for model in SHOWN]
    least = min(errors[model] or np.inf for model in MODELS[1:])
    ratio = f"{auto['mase'] / least:.3f}"
    coverage = f"{100 * auto['coverage']:.0f}%"
    return [auto["table"].removeprefix("monash_"), *cells, ratio, coverage]


def main(argv: list[str] | None = None) -> None:
    """Judge what is not on file; each row is written as soon as it is there."""
    options = records.parse(argv, __doc__, {"pack": None, "bikes": None, "table": ()})
    file = Records(records.RESULTS / FILE, KEY)
    with limit_threads(1):
        for name, case in tables(options.pack, options.bikes).items():
            if options.table and name not in options.table:
                continue
            for cell in file.missing({"table": name, "model": model} for model in MODELS):
                row = file.add(_judged_or_refused(cell, case))
                print(f"{name}, {row['model']}: MASE {row['mase']}", flush=True)


def _judged_or_refused(cell: Record, case: Case) -> Record:
    """The row of a model; without scores where the series are too short for it."""
    try:
        return judge(cell["table"], cell["model"], case)
    except ValueError as error:
        refused = {"mase": None, "coverage": None, "refused": str(error)}
        return {**cell, **refused, **provenance(None)}


BLOCKS = {("docs/choosing.md", "combination"): table}

if __name__ == "__main__":
    main()
