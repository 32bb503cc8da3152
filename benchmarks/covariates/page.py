"""Tables of docs/covariates.md: our forecasters with and without covariates, beside published
models.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import records
import render
from packs import SPLITS
from records import Record
from zero_shot.pack import geometric_mean
from zero_shot.page import name_of

FILE = "covariates.jsonl"
PUBLISHED = "covariates_published.jsonl"
KEY = ("suite", "task", "split", "model", "columns", "settings", "weights")
_POINTS = {"ridge", "gbm", "seasonal_naive", "naive"}  # forecasters without intervals
# Published models of the tables of means, of all kinds, and those of the table by task.
_BESIDE = ("chronos-2", "tirex-2", "tabpfn-ts-3", "ts-icl", "citras-fm", "tft", "patchtst", "tirex")
_BESIDE += ("timesfm-2.5", "chronos_bolt_base", "lightgbm", "auto_arima")
_RIVALS = ("lightgbm",)
# fev-bench counts the score of the first where a model was trained on the data set, of the second
# where it failed.
_FOR_LEAKED = "chronos_bolt_base"
_FOR_MISSING = "seasonal_naive"
_OWN_RUN = " ‡"  # marks rivals that were run on our own tasks
# MASE and SQL over those of the seasonal naive forecast; WQL takes the place of SQL in a suite
# without one.
Pair = tuple[float, float]
Scores = Mapping[str, Pair]


class Group(NamedTuple):
    """Tasks over which scores are averaged, and the title of their column."""

    title: str
    suite: str
    covariates: bool | None  # whether the tasks have some; None for both kinds

    def tasks(self, rows: list[Record], split: str) -> list[str]:
        """Names of its tasks in a split."""
        candidates = [
            row
            for row in _of(rows, "published task")
            if (row["suite"], row["split"]) == (self.suite, split)
        ]
        return [
            row["task"] for row in candidates if self.covariates in (None, _has_covariates(row))
        ]


_FEV = (
    Group("with covariates", "fev-bench", True),
    Group("without", "fev-bench", False),
    Group("all", "fev-bench", None),
)
GROUPS = {
    SPLITS[0]: (*_FEV, Group("own tasks", "own", None)),
    SPLITS[1]: (*_FEV, Group("GIFT-Eval", "gift-eval", None)),
}


def read(folder: Path) -> list[Record]:
    """The records of run.py, and behind them the published rows that published.py took from the
    pack.

    Raises:
        ValueError: If published rows are absent.
    """
    rows = records.read(folder / FILE, KEY)
    others = records.read_rows(folder / PUBLISHED)
    if absent := sorted(
        {row["task"] for row in rows} - {row["task"] for row in _of(others, "published task")}
    ):
        raise ValueError(
            f"{PUBLISHED} lacks the task {absent[0]} of {FILE}; run"
            " benchmarks/covariates/published.py"
        )
    return rows + others


def _of(rows: list[Record], kind: str) -> list[Record]:
    return [row for row in rows if row["kind"] == kind]


def _has_covariates(task: Record) -> bool:
    return bool(task["known"] + task["past"])


def ours(rows: list[Record]) -> dict[str, dict[bool, dict[str, Record]]]:
    """Records by the name of a forecaster, then by whether it reads covariates, then by task.

    A task without covariates counts as both. A forecaster that cannot read any has no records with
    them.
    """
    own_rows = sorted(_of(rows, "task"), key=lambda row: records.rank(row["model"]))
    readers = {name_of(row) for row in own_rows if row["columns"]}
    bare = {task["task"] for task in _of(rows, "published task") if not _has_covariates(task)}
    found: dict[str, dict[bool, dict[str, Record]]] = {}
    for row in own_rows:
        name = name_of(row)
        task = row["task"]
        variants = found.setdefault(name, {True: {}, False: {}} if name in readers else {False: {}})
        variants[row["columns"]][task] = row
        if name in readers and task in bare:
            variants[True][task] = row
    return found


def relative(by_task: Mapping[str, Record]) -> Scores:
    """Relative scores of records."""
    return {
        task: (row["rel_mase"], row.get("rel_sql", row["rel_wql"])) for task, row in by_task.items()
    }


def published(rows: list[Record]) -> dict[str, Scores]:
    """Relative scores of published models by task, as fev-bench counts what is leaked or
    missing.
    """
    tasks = {row["task"]: row for row in _of(rows, "published task")}
    models = {row["model"]: row for row in _of(rows, "published model")}
    found: dict[str, Scores] = {}
    for name, model in models.items():
        suites = {tasks[task]["suite"] for task in model["scores"]}
        stand_ins = {task: models[_FOR_LEAKED]["scores"][task] for task in model["leaked"]}
        scores = {**models[_FOR_MISSING]["scores"], **model["scores"], **stand_ins}
        found[name] = {
            task: _over(values, tasks[task])
            for task, values in scores.items()
            if tasks[task]["suite"] in suites
        }
    return found


def measured(rows: list[Record]) -> dict[str, Scores]:
    """Relative scores of the rivals that were run on our own tasks."""
    tasks = {row["task"]: row for row in _of(rows, "published task")}
    models = {row["model"]: row["scores"] for row in _of(rows, "measured model")}
    return {
        name: {task: _over(scores[task], tasks[task]) for task in scores}
        for name, scores in models.items()
    }


def _over(scores: list[float], task: Record) -> Pair:
    base = task["seasonal_naive"]
    second = 2 if base[1] is None else 1
    return scores[0] / base[0], scores[second] / base[second]


def means(split: str) -> Callable[[Path], str]:
    """The table of geometric means over the groups of tasks of a split."""

    def table(folder: Path) -> str:
        rows = read(folder)
        groups = [group.tasks(rows, split) for group in GROUPS[split]]
        lines = []
        for name, reads, scores in _lines(rows, {task for tasks in groups for task in tasks}):
            pairs = [_mean(scores, tasks) for tasks in groups]
            if any(pairs):
                # By SQL, in the first column that has some.
                place = next((number, pair[1]) for number, pair in enumerate(pairs) if pair)
                lines.append((place, [name, reads, *map(_shown, pairs)]))
        ordered = [line for _, line in sorted(lines, key=lambda line: line[0])]
        titles = [
            f"{group.title} ({len(tasks)})"
            for group, tasks in zip(GROUPS[split], groups, strict=True)
        ]
        return f"{render.lines(['model', 'reads', *titles], ordered, left=2)}\n\n{_sources(rows)}"

    return table


def _lines(rows: list[Record], tasks: set[str]) -> list[tuple[str, str, Scores]]:
    """Name, what it reads and scores of all that a table of means over some tasks may show; ours in
    bold.
    """
    lines = [
        (
            f"**{name}**{_suffix(variants, covariates)}",
            "future+past" if covariates else "none",
            relative(by_task),
        )
        for name, variants in ours(rows).items()
        for covariates, by_task in variants.items()
    ]
    scores = published(rows)
    pooled = any(
        row["task"] in tasks and row["suite"] == "gift-eval" for row in _of(rows, "published task")
    )
    for model in _of(rows, "published model"):
        if model["model"] in _BESIDE:
            saw = tasks.intersection(model["leaked"]) or (pooled and model["saw_test_data"])
            reads = (
                (model["covariates"] or "")
                .removeprefix("reads ")
                .replace("known", "future")
                .replace(", ", "+")
            )
            lines.append((model["model"] + (" †" if saw else ""), reads, scores[model["model"]]))
    for run, by_name in measured(rows).items():
        model, _, without = run.partition("_without")
        name = f"{model}{_OWN_RUN}" + (", without" if without else "")
        lines.append((name, "none" if without else "future", by_name))
    return lines


def _suffix(variants: Mapping[bool, object], covariates: bool) -> str:
    """Tells the runs without covariates of a forecaster that has others too."""
    return ", without" if len(variants) == 2 and not covariates else ""


def _mean(scores: Scores, tasks: list[str]) -> Pair | None:
    """Geometric means over tasks, where all of them are there."""
    if not tasks or not all(task in scores for task in tasks):
        return None
    mase, second = (geometric_mean([scores[task][k] for task in tasks]) for k in (0, 1))
    return mase, second


def _shown(pair: Pair | None) -> str:
    return f"{pair[0]:.3f}/{pair[1]:.3f}" if pair else ""


def _sources(rows: list[Record]) -> str:
    sources = "; ".join(
        f"{row['repository']} at `{row['commit'][:12]}`" for row in _of(rows, "suite")
    )
    own_rows = _of(rows, "task")
    return f"Published scores: {sources}." + (f" {records.commits(own_rows)}" if own_rows else "")


def by_task(folder: Path) -> str:
    """A line for each task with covariates that we ran: our forecasters that read them, a rival,
    and the best published model.
    """
    rows = read(folder)
    own_scores = {
        name: relative(variants[True]) for name, variants in ours(rows).items() if True in variants
    }
    scores = published(rows)
    own_runs = measured(rows)
    others = {model: {**scores.get(model, {}), **own_runs.get(model, {})} for model in _RIVALS}
    others = {model: by_name for model, by_name in others.items() if by_name}
    lines = []
    for task in _of(rows, "published task"):
        name = task["task"]
        if _has_covariates(task) and any(name in by_name for by_name in own_scores.values()):
            pairs = [by_name.get(name) for by_name in (*own_scores.values(), *others.values())]
            lines.append([name, *map(_shown, pairs), _best(rows, scores, task)])
    head = ["task", *(f"**{name}**" for name in own_scores), *others, "best published"]
    return render.lines(head, lines)


def _best(rows: list[Record], scores: Mapping[str, Scores], task: Record) -> str:
    """The published model with the least SQL of those that have not seen the data, with both of its
    scores.
    """
    name = task["task"]
    pooled = task["suite"] == "gift-eval"
    saw = {
        row["model"]
        for row in _of(rows, "published model")
        if name in row["leaked"] or (pooled and row["saw_test_data"])
    }
    rivals = [
        (by_name[name][1], model)
        for model, by_name in scores.items()
        if name in by_name and model not in saw
    ]
    if not rivals:
        return ""
    model = min(rivals)[1]
    return f"{model} {_shown(scores[model][name])}"


def gains(folder: Path) -> str:
    """Scores with covariates over those without, for the forecasters and tasks that have both."""
    rows = read(folder)
    both = {name: _ratios(variants) for name, variants in ours(rows).items() if len(variants) == 2}
    ratios = {name: by_task for name, by_task in both.items() if by_task}
    if not ratios:
        return render.NONE
    judged = {task for by_task in ratios.values() for task in by_task}
    tasks = [row["task"] for row in _of(rows, "published task") if row["task"] in judged]
    lines = [[task, *(_shown(by_task.get(task)) for by_task in ratios.values())] for task in tasks]
    lines.append(
        [
            f"geometric mean of {len(tasks)}",
            *(_shown(_mean(by_task, tasks)) for by_task in ratios.values()),
        ]
    )
    return render.lines(["task", *(f"**{name}**" for name in ratios)], lines)


def _ratios(variants: Mapping[bool, Mapping[str, Record]]) -> Scores:
    tasks = [
        task for task, row in variants[True].items() if row["columns"] and task in variants[False]
    ]
    found = relative(variants[True])
    plain = relative(variants[False])
    return {
        task: (found[task][0] / plain[task][0], found[task][1] / plain[task][1]) for task in tasks
    }


def costs(folder: Path) -> str:
    """How often 80% bands held, and seconds of the processor, on the development tasks that have
    covariates.
    """
    rows = read(folder)
    tasks = {
        row["task"]
        for row in _of(rows, "published task")
        if _has_covariates(row) and row["split"] == SPLITS[0]
    }
    lines = []
    for name, variants in ours(rows).items():
        for covariates, by_task in variants.items():
            judged = [row for task, row in by_task.items() if task in tasks]
            if judged and judged[0]["model"] not in _POINTS:
                held = f"{100 * render.mean(judged, 'coverage80'):.0f}%"
                seconds = f"{sum(row['cpu_seconds'] for row in judged):.0f}"
                lines.append(
                    [name + _suffix(variants, covariates), str(len(judged)), held, seconds]
                )
    return render.lines(["ours", "tasks", "80% holds", "seconds"], lines) if lines else render.NONE


_PAGE = "docs/covariates.md"
BLOCKS = {
    (_PAGE, "covariates"): means(SPLITS[0]),
    (_PAGE, "covariates_report"): means(SPLITS[1]),
    (_PAGE, "covariates_gains"): gains,
    (_PAGE, "covariates_costs"): costs,
    (_PAGE, "covariates_tasks"): by_task,
}
