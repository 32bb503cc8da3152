"""Runs models of the catalogue over the covariates pack: a record a task in
results/covariates.jsonl.

A model is fitted once for each task, on the rows before its first cutoff, and then forecasts at
each cutoff from the rows before it, by ``predict(data=..., future=...)``. So what is learnt from a
table (weights, the choices of ``auto``, the covariate regression of ``zero``) is learnt once, by
all alike, and no fit sees a row that is judged.

What is on record for a task, a model, with columns or without, its settings and its weights is not
run again; remove its line to repeat it. A task without columns has one run, which counts as both.
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
    """A forecaster of the catalogue that is told the covariates of a task, or none of them."""
    beside = {"future_cols": task.known, "past_cols": task.past} if columns else {}
    given = settings_for(model, season_length=task.naive_season, random_state=0, weights=weights)
    return make_forecaster(model, task.horizon, schema=Schema(**beside), **given)


def forecast(
    model: str, task: Task, cases: Sequence[Case], columns: bool, weights: str | None = None
) -> np.ndarray:
    """The quantiles ``LEVELS`` ``[n, F, C, 9]`` of cases; a point stands for all of them.

    One table holds all series that share a window. Several targets are series of their own in it,
    with the same covariates. A model that neither learns nor is pretrained estimates on the last
    ten seasons, at least 100 rows.
    """
    forecaster = make(model, task, columns, weights)
    local = not find_model(model).trained and not isinstance(forecaster, PretrainedForecaster)
    reach = max(100, 10 * task.naive_season) if local else max(len(case.past) for case in cases)
    asked = () if model in POINTS else LEVELS
    found = np.empty((len(cases), task.horizon, len(task.targets), len(LEVELS)))
    for number, rows in enumerate(_windows(cases)):
        tables = Tables(task, [cases[row] for row in rows], columns=columns, gaps=forecaster.masks)
        if number == 0:
            forecaster.fit(tables.past(reach))
        answer = forecaster.predict(
            tables.past(forecaster.max_context), quantiles=asked, future=tables.future()
        )
        shown = [f"{model}-q{q:g}" for q in asked] or [model]
        values = answer.set_index("unique_id").loc[tables.names, shown].to_numpy()
        found[rows] = values.reshape(
            len(rows), len(task.targets), task.horizon, len(shown)
        ).swapaxes(1, 2)
    return found


def _windows(cases: Sequence[Case]) -> list[list[int]]:
    """Rows of the cases that share a window, in the order of time."""
    rows: dict[int, list[int]] = {}
    for row, case in enumerate(cases):
        rows.setdefault(case.window, []).append(row)
    return [rows[window] for window in sorted(rows)]


class Tables:
    """The long tables of cases that share a window, as a user would have them.

    Covariates without a value have the last one before, since forecasters do not read gaps in them.
    Targets keep their gaps where a forecaster leaves these out of account, and are filled for all
    others.
    """

    def __init__(self, task: Task, cases: Sequence[Case], *, columns: bool, gaps: bool) -> None:
        self.cases = cases
        self.gaps = gaps
        self.targets, self.known = task.targets, task.known if columns else ()
        self.names = [self._name(case, target) for case in cases for target in self.targets]
        self.covariates = [
            {
                name: fill(np.concatenate([case.past[name], case.future[name]]))
                for name in self.known
            }
            | {name: fill(case.past[name].to_numpy()) for name in (task.past if columns else ())}
            for case in cases
        ]

    def _name(self, case: Case, target: str) -> str:
        return case.item if len(self.targets) == 1 else f"{case.item} {target}"

    def past(self, most: int) -> pd.DataFrame:
        """The last rows before the cutoff, ``most`` of each series."""
        parts = []
        for case, covariates in zip(self.cases, self.covariates, strict=True):
            beside = {name: values[: len(case.past)][-most:] for name, values in covariates.items()}
            stamps = case.past.index[-most:]
            for target in self.targets:
                y = case.past[target].to_numpy()
                # A value is needed among the rows that are read.
                if not self.gaps or np.isnan(y[-most:]).all():
                    y = fill(y)
                parts.append(self._rows(case, target, stamps, {"y": y[-most:], **beside}))
        return pd.concat(parts, ignore_index=True)

    def future(self) -> pd.DataFrame | None:
        """The known covariates over the horizon; ``None`` where there are none."""
        parts = []
        for case, covariates in zip(self.cases, self.covariates, strict=True):
            ahead = {name: covariates[name][len(case.past) :] for name in self.known}
            parts += [self._rows(case, target, case.future.index, ahead) for target in self.targets]
        return pd.concat(parts, ignore_index=True) if self.known else None

    def _rows(
        self, case: Case, target: str, stamps: pd.Index, columns: dict[str, np.ndarray]
    ) -> pd.DataFrame:
        return pd.DataFrame({"unique_id": self._name(case, target), "ds": stamps, **columns})


def plan(model: str, task: Task, columns: bool, weights: str | None = None) -> Record:
    """What tells a run from others: the fields ``KEY`` of its record; a file of weights is known by
    its numbers.
    """
    # What has no columns, or reads none, has one run with and without.
    read = bool(make(model, task, columns, weights).covariate_columns)
    place = {
        "suite": task.suite,
        "task": task.name,
        "split": task.split,
        "model": model,
        "columns": read,
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
    cost["params"] = sum(
        array.size for array in network(make(model, task, False, weights)).values()
    )
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
    record_missing(
        options.out, KEY, cells, lambda cell: execute(cell, pack, options.weights), SHOWN
    )


if __name__ == "__main__":
    sys.exit(main())
