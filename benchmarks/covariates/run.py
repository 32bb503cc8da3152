"""Runs models of the catalogue over the covariates pack: a record a task in
results/covariates.jsonl.

A model is fitted once for each task, on the rows before its first cutoff, and then forecasts at
each cutoff from the rows before it, by ``predict(data=..., future=...)``. So every model learns
from a table (weights, the choices of ``auto``, the covariate regression of ``zero``) only once, and
no fit sees a row that is judged.

A run on record for a task, a model, with columns or without, its settings and its weights is not
repeated; remove its line to run it again. A task without columns has one run, which counts as both.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from covariates.pack import Case, Pack, Task, score
from covariates.page import FILE, KEY
from packs import POINTS, chosen, identity, measured, network, record_missing, relative, start
from records import Record
from zero_shot.pack import LEVELS, fill

from tsattn.catalogue import find_model, make_forecaster, settings_for
from tsattn.data.schema import Schema
from tsattn.forecaster import Forecaster
from tsattn.forecasters.pretrained import PretrainedForecaster

SHOWN = ("mase", "sql", "rel_mase", "rel_sql", "rel_wql", "coverage80", "seconds")


def make(model: str, task: Task, columns: bool, weights: str | None = None) -> Forecaster:
    """A forecaster of the catalogue for a task; it reads the covariates if ``columns`` is set."""
    schema = Schema()
    if columns:
        schema = Schema(future_cols=task.future_cols, past_cols=task.past_cols)
    settings = settings_for(model, season_length=task.naive_season, random_state=0, weights=weights)
    return make_forecaster(model, task.horizon, schema=schema, **settings)


def forecast(
    model: str, task: Task, cases: Sequence[Case], columns: bool, weights: str | None = None
) -> np.ndarray:
    """The quantiles ``LEVELS`` ``[n, F, C, 9]`` of cases, all equal for a model that forecasts
    points only.

    One table holds all series that share a window. Several targets are series of their own in it,
    with the same covariates. A model that neither learns nor is pretrained estimates on the last
    ten seasons, at least 100 rows.
    """
    forecaster = make(model, task, columns, weights)
    is_local = not find_model(model).trained and not isinstance(forecaster, PretrainedForecaster)
    if is_local:
        fit_rows = max(100, 10 * task.naive_season)
    else:
        fit_rows = max(len(case.past) for case in cases)
    levels = () if model in POINTS else LEVELS
    answer_columns = [f"{model}-q{level:g}" for level in levels] or [model]
    forecasts = np.empty((len(cases), task.horizon, len(task.targets), len(LEVELS)))
    for number, rows in enumerate(_windows(cases)):
        tables = Tables(task, [cases[row] for row in rows], columns=columns, gaps=forecaster.masks)
        if number == 0:
            forecaster.fit(tables.past(fit_rows))
        past = tables.past(forecaster.max_context)
        answer = forecaster.predict(past, quantiles=levels, future=tables.future())
        values = answer.set_index("unique_id").loc[tables.names, answer_columns].to_numpy()
        shape = (len(rows), len(task.targets), task.horizon, len(answer_columns))
        forecasts[rows] = values.reshape(shape).swapaxes(1, 2)
    return forecasts


def _windows(cases: Sequence[Case]) -> list[list[int]]:
    """Rows of the cases that share a window, in the order of time."""
    rows: dict[int, list[int]] = {}
    for row, case in enumerate(cases):
        rows.setdefault(case.window, []).append(row)
    return [rows[window] for window in sorted(rows)]


class Tables:
    """The long tables of cases that share a window, as a user would have them.

    Gaps of covariates are filled with the last value before them, since forecasters do not read
    gaps there. Gaps of targets stay if ``gaps`` is set, for forecasters that leave missing values
    out of account, and are filled for all others.
    """

    def __init__(self, task: Task, cases: Sequence[Case], *, columns: bool, gaps: bool) -> None:
        self.cases = cases
        self.gaps = gaps
        self.targets = task.targets
        self.future_cols = task.future_cols if columns else ()
        self.past_cols = task.past_cols if columns else ()
        self.names = [self._name(case, target) for case in cases for target in self.targets]
        self.covariates = [self._covariates(case) for case in cases]

    def _covariates(self, case: Case) -> dict[str, np.ndarray]:
        """Filled covariates of a case by name; future ones go on over the horizon."""
        covariates = {}
        for name in self.future_cols:
            covariates[name] = fill(np.concatenate([case.past[name], case.future[name]]))
        for name in self.past_cols:
            covariates[name] = fill(case.past[name].to_numpy())
        return covariates

    def _name(self, case: Case, target: str) -> str:
        return case.item if len(self.targets) == 1 else f"{case.item} {target}"

    def past(self, most_rows: int) -> pd.DataFrame:
        """The last rows before the cutoff, ``most_rows`` of each series."""
        frames = []
        for case, covariates in zip(self.cases, self.covariates, strict=True):
            n_past = len(case.past)
            columns = {name: values[:n_past][-most_rows:] for name, values in covariates.items()}
            stamps = case.past.index[-most_rows:]
            for target in self.targets:
                y = case.past[target].to_numpy()
                # A value is needed among the rows that are read.
                if not self.gaps or np.isnan(y[-most_rows:]).all():
                    y = fill(y)
                all_columns = {"y": y[-most_rows:], **columns}
                frames.append(self._rows(case, target, stamps, all_columns))
        return pd.concat(frames, ignore_index=True)

    def future(self) -> pd.DataFrame | None:
        """The future covariates over the horizon; ``None`` where there are none."""
        if not self.future_cols:
            return None
        frames = []
        for case, covariates in zip(self.cases, self.covariates, strict=True):
            n_past = len(case.past)
            columns = {name: covariates[name][n_past:] for name in self.future_cols}
            stamps = case.future.index
            frames += [self._rows(case, target, stamps, columns) for target in self.targets]
        return pd.concat(frames, ignore_index=True)

    def _rows(
        self, case: Case, target: str, stamps: pd.Index, columns: dict[str, np.ndarray]
    ) -> pd.DataFrame:
        return pd.DataFrame({"unique_id": self._name(case, target), "ds": stamps, **columns})


def plan(model: str, task: Task, columns: bool, weights: str | None = None) -> Record:
    """The fields ``KEY`` of a run's record, in which no other run agrees; a digest of the numbers
    stands for a file of weights.
    """
    # A task without columns, and a model that reads none, have one run with and without.
    reads_columns = bool(make(model, task, columns, weights).covariate_columns)
    place = {
        "suite": task.suite,
        "task": task.name,
        "split": task.split,
        "model": model,
        "columns": reads_columns,
    }
    return place | identity(model, make(model, task, False, weights))


def execute(cell: Record, pack: Pack, weights: str | None = None) -> Record:
    """The record of a run; relative scores are over the suite's seasonal naive."""
    task = pack.tasks[cell["task"]]
    model = cell["model"]
    columns = cell["columns"]
    cases = pack.cases(task)
    answer, cost = measured(lambda: forecast(model, task, cases, columns, weights))
    scores = relative(score(task, cases, answer), task.base)
    arrays = network(make(model, task, False, weights)).values()
    cost["params"] = sum(array.size for array in arrays)
    sizes = {"horizon": task.horizon, "n_instances": len(cases)}
    return {"kind": "task", **cell, **sizes, **scores, **cost}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not on record; 2 where a name is unknown or the pack is not there."""
    return start(argv, __doc__, _run, FILE, without_columns=False)


def _run(options: Any) -> None:
    pack = Pack(options.pack)
    tasks = [pack.tasks[name] for name in chosen(options, pack.tasks.values())]
    columns = not options.without_columns
    cells = [
        plan(model, task, columns, options.weights) for model in options.model for task in tasks
    ]

    def work(cell: Record) -> Record:
        return execute(cell, pack, options.weights)

    record_missing(options.out, KEY, cells, work, SHOWN)


if __name__ == "__main__":
    sys.exit(main())
