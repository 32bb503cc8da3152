"""The combination `auto` beside its members and classical models: tables of the pack, the demo's,
and bike rentals.

Each is fitted once, on the rows before the first of at most three cutoffs, and asked after each.
What is on file is not run again. Run: PYTHONPATH=benchmarks python
benchmarks/zero_shot/combination.py --pack DIR --bikes FILE
"""

import time
from pathlib import Path
from statistics import fmean
from typing import Any

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
FIRST = ("ett1/H/short", "m4_weekly/W/short", "us_births/D/short", "hospital/M/short")
FIRST += ("covid_deaths/D/short", "monash_m3_yearly", "monash_m3_monthly")
FIRST += ("co2", "bikes")
POINTS = ("seasonal_naive", "drift", "naive")
# Seconds; a trained member gets two fifths of the minute. Absolute errors judge medians.
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
SERIES = 200
# Panel, cutoffs as steps back from the end, and horizon of a table.
Case = tuple[Panel, list[int], int]


def of_pack(pack: Pack, task: Task) -> Case:
    """At most so many series of a task, and three of its cutoffs, both evenly drawn; gaps as its
    suite fills them.
    """
    longest = {
        each.item: each for each in sorted(pack.instances(task), key=lambda each: len(each.past))
    }
    items = sorted(longest)
    parts = []
    freq = next(freq for piece, freq in FREQS.items() if piece in task.name)
    for item in items[:: -(-len(items) // SERIES)]:
        values = np.concatenate([fill(longest[item].past), longest[item].future])
        stamps = pd.date_range("1900-01-01", periods=len(values), freq=freq)
        parts.append(pd.DataFrame({"unique_id": item, "ds": stamps, "y": values}))
    back = sorted(
        (max(task.cutoffs) - cutoff + task.horizon for cutoff in task.cutoffs), reverse=True
    )
    chosen = np.unique(np.linspace(0, len(back) - 1, 3).round().astype(int))
    return (
        from_long(pd.concat(parts), Schema(freq=freq, missing="interpolate")),
        [back[k] for k in chosen],
        task.horizon,
    )


def of_bikes(file: Path) -> Case:
    """Hourly rentals of a table with the columns day, hr and bikers, of one year."""
    rows = pd.read_csv(file)
    stamps = pd.Timestamp("2011-01-01") + pd.to_timedelta(
        24 * (rows["day"] - 1) + rows["hr"].astype(int), unit="h"
    )
    frame = pd.DataFrame({"ds": stamps, "y": rows["bikers"].astype(float)})
    return from_long(frame, Schema(freq="h", missing="interpolate")), [24 * 56, 24 * 28, 24], 24


def tables(pack: str | None, bikes: str | None) -> dict[str, Case]:
    """All tables by name; those of development tasks that stand in both suites once."""
    found: dict[str, Case] = {"co2": (load_co2(), [52 + 13 * k for k in (19, 10, 0)], 52)}
    if bikes is not None:
        found["bikes"] = of_bikes(Path(bikes))
    if pack is not None:
        opened = Pack(Path(pack))
        for name, task in opened.tasks.items():
            if task.split == "development" and name not in (
                "monash_hospital",
                "monash_covid_deaths",
            ):
                found[name] = of_pack(opened, task)
    return found


def judge(name: str, model: str, case: Case) -> Record:
    """MASE, and the share of truths that level 80 holds."""
    panel, back, horizon = case
    past = panel.until(panel.lengths - back[0])
    forecaster = make_forecaster(model, horizon, **SETTINGS.get(model, {}))
    started = time.perf_counter()
    forecaster.fit(past)
    fitted = time.perf_counter()
    ends = (panel.starts[1:, None] - np.array(back)).ravel()
    rolled = roll(forecaster, panel, ends, quantiles=() if model in POINTS else (0.1, 0.9))
    seconds = {"fit_seconds": fitted - started, "predict_seconds": time.perf_counter() - fitted}
    scores = {"mase": rolled.mase(seasonal_errors(past, past.lengths, season_length(panel.freq)))}
    more: dict[str, Any] = (
        {"weights": forecaster.leaderboard_["weight"].round(4).to_dict()} if model == "auto" else {}
    )
    row = {
        "table": name,
        "model": model,
        "n_series": panel.n_series,
        **scores,
        "coverage": rolled.coverage.get(80),
    }
    return (
        row
        | {key: round(value, 2) for key, value in seconds.items()}
        | more
        | provenance(forecaster)
    )


def table(folder: Path) -> str:
    """A line for the first task of each data set, and the geometric mean of all tables on which all
    were judged.
    """
    rows = records.read(folder / FILE, KEY)
    found = [
        {row["model"]: row for row in of}
        for of in records.by(rows, "table").values()
        if len(of) == len(MODELS)
    ]
    if not found:
        return render.NONE
    scores = {model: [of[model]["mase"] for of in found] for model in MODELS}
    last = {
        m: {"table": "geometric mean", "mase": None if None in s else geometric_mean(s)}
        for m, s in scores.items()
    }
    last["auto"] |= {
        "table": f"mean of {len(found)}",
        "coverage": fmean(of["auto"]["coverage"] for of in found),
    }
    columns = {
        "table": lambda of: of["auto"]["table"].removeprefix("monash_"),
        **{
            model: lambda of, m=model: f"{of[m]['mase']:.3f}" if of[m]["mase"] else ""
            for model in SHOWN
        },
        "of the best": lambda of: (
            f"{of['auto']['mase'] / min(of[m]['mase'] or np.inf for m in MODELS[1:]):.3f}"
        ),
        "80% holds": lambda of: f"{100 * of['auto']['coverage']:.0f}%",
    }
    shown = [of for of in found if of["auto"]["table"] in FIRST]
    return (
        f"{render.table([*shown, last], columns)}\n\nMASE; mean: geometric. {records.commits(rows)}"
    )


def main(argv: list[str] | None = None) -> None:
    """Judge what is not on file; each row is kept as it comes."""
    options = records.parse(argv, __doc__, {"pack": None, "bikes": None, "table": ()})
    file = Records(records.RESULTS / FILE, KEY)
    with limit_threads(1):
        for name, case in tables(options.pack, options.bikes).items():
            wanted = () if options.table and name not in options.table else MODELS
            for cell in file.missing({"table": name, "model": model} for model in wanted):
                try:
                    row = file.add(judge(name, cell["model"], case))
                except ValueError as error:  # series are too short for it
                    row = file.add(
                        {
                            **cell,
                            "mase": None,
                            "coverage": None,
                            "refused": str(error),
                            **provenance(None),
                        }
                    )
                print(f"{name}, {row['model']}: MASE {row['mase']}", flush=True)


BLOCKS = {("docs/choosing.md", "combination"): table}

if __name__ == "__main__":
    main()
