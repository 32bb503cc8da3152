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
_SHOWN_MODELS = (
    "chronos-2",
    "tirex-2",
    "tabpfn-ts-3",
    "ts-icl",
    "citras-fm",
    "tft",
    "patchtst",
    "tirex",
    "timesfm-2.5",
    "chronos_bolt_base",
    "lightgbm",
    "auto_arima",
)
_RIVALS = ("lightgbm",)
# fev-bench counts the score of the first model where a model was trained on the data set, and the
# score of the second where it failed.
_FOR_LEAKED = "chronos_bolt_base"
_FOR_MISSING = "seasonal_naive"
_OWN_RUN = " ‡"  # marks rivals that were run on our own tasks
# MASE and SQL over those of the seasonal naive forecast; WQL takes the place of SQL in a suite
# without one.
Pair = tuple[float, float]
Scores = Mapping[str, Pair]
# Records of a forecaster by whether it reads covariates, then by task.
Variants = dict[bool, dict[str, Record]]


class Group(NamedTuple):
    """Tasks over which scores are averaged, and the title of their column."""

    title: str
    suite: str
    covariates: bool | None  # whether the tasks have some; None for both kinds

    def tasks(self, rows: list[Record], split: str) -> list[str]:
        """Names of its tasks in a split."""
        names = []
        for row in _of_kind(rows, "published task"):
            is_in_split = row["suite"] == self.suite and row["split"] == split
            if is_in_split and self.covariates in (None, _has_covariates(row)):
                names.append(row["task"])
        return names


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
    published_rows = records.read_rows(folder / PUBLISHED)
    published_tasks = {row["task"] for row in _of_kind(published_rows, "published task")}
    absent = sorted({row["task"] for row in rows} - published_tasks)
    if absent:
        raise ValueError(
            f"{PUBLISHED} lacks the task {absent[0]} of {FILE}; run"
            " benchmarks/covariates/published.py"
        )
    return rows + published_rows


def _of_kind(rows: list[Record], kind: str) -> list[Record]:
    return [row for row in rows if row["kind"] == kind]


def _by_name(rows: list[Record], kind: str) -> dict[str, Record]:
    """Published rows of a kind, ``"task"`` or ``"model"``, by the name of the task or model."""
    return {row[kind]: row for row in _of_kind(rows, f"published {kind}")}


def _has_covariates(task: Record) -> bool:
    return bool(task["known"] + task["past"])


def own_records(rows: list[Record]) -> dict[str, Variants]:
    """Records of our runs by the name of a forecaster, then by whether it reads covariates, then by
    task.

    A task without covariates counts as both. A forecaster that cannot read any has no records with
    them.
    """
    own_rows = sorted(_of_kind(rows, "task"), key=lambda row: records.rank(row["model"]))
    readers = {name_of(row) for row in own_rows if row["columns"]}
    tasks = _of_kind(rows, "published task")
    tasks_without = {task["task"] for task in tasks if not _has_covariates(task)}
    by_name: dict[str, Variants] = {}
    for row in own_rows:
        name = name_of(row)
        task = row["task"]
        if name not in by_name:
            by_name[name] = {True: {}, False: {}} if name in readers else {False: {}}
        by_name[name][row["columns"]][task] = row
        if name in readers and task in tasks_without:
            by_name[name][True][task] = row
    return by_name


def relative(by_task: Mapping[str, Record]) -> Scores:
    """Relative scores of records."""
    scores = {}
    for task, row in by_task.items():
        scores[task] = (row["rel_mase"], row.get("rel_sql", row["rel_wql"]))
    return scores


def published(rows: list[Record]) -> dict[str, Scores]:
    """Relative scores of published models by task.

    As fev-bench counts them: other models replace a score of leaked data, and a missing one.
    """
    tasks = _by_name(rows, "task")
    models = _by_name(rows, "model")
    relative_scores: dict[str, Scores] = {}
    for name, model in models.items():
        suites = {tasks[task]["suite"] for task in model["scores"]}
        stand_ins = {task: models[_FOR_LEAKED]["scores"][task] for task in model["leaked"]}
        scores = {**models[_FOR_MISSING]["scores"], **model["scores"], **stand_ins}
        relative_scores[name] = {
            task: _relative_pair(values, tasks[task])
            for task, values in scores.items()
            if tasks[task]["suite"] in suites
        }
    return relative_scores


def measured(rows: list[Record]) -> dict[str, Scores]:
    """Relative scores of the rivals that were run on our own tasks."""
    tasks = _by_name(rows, "task")
    relative_scores: dict[str, Scores] = {}
    for row in _of_kind(rows, "measured model"):
        scores = row["scores"]
        relative_scores[row["model"]] = {
            task: _relative_pair(values, tasks[task]) for task, values in scores.items()
        }
    return relative_scores


def _relative_pair(scores: list[float], task: Record) -> Pair:
    """MASE, and SQL or else WQL, over those of the seasonal naive forecast."""
    base = task["seasonal_naive"]
    second = 2 if base[1] is None else 1
    return scores[0] / base[0], scores[second] / base[second]


def means(split: str) -> Callable[[Path], str]:
    """The table of geometric means over the groups of tasks of a split."""

    def table(folder: Path) -> str:
        rows = read(folder)
        groups = [group.tasks(rows, split) for group in GROUPS[split]]
        all_tasks = {task for tasks in groups for task in tasks}
        ordered = []
        for line in _lines(rows, all_tasks):
            pairs = [_mean(line.scores, tasks) for tasks in groups]
            if any(pairs):
                # By SQL, in the first column that has one.
                order = next((number, pair[1]) for number, pair in enumerate(pairs) if pair)
                ordered.append((order, [line.name, line.reads, *map(_pair_text, pairs)]))
        ordered.sort(key=lambda item: item[0])
        head = ["model", "reads"]
        for group, tasks in zip(GROUPS[split], groups, strict=True):
            head.append(f"{group.title} ({len(tasks)})")
        lines = [cells for _, cells in ordered]
        return f"{render.lines(head, lines, left=2)}\n\n{_sources(rows)}"

    return table


class Line(NamedTuple):
    """A line of a table of means: a model, the covariates that it reads, and its scores by task."""

    name: str
    reads: str
    scores: Scores


def _lines(rows: list[Record], tasks: set[str]) -> list[Line]:
    """All that a table of means over some tasks may show: our forecasters in bold, published
    models, and rivals on our own tasks.
    """
    lines = []
    for name, variants in own_records(rows).items():
        for covariates, by_task in variants.items():
            title = f"**{name}**{_suffix(variants, covariates)}"
            reads = "future+past" if covariates else "none"
            lines.append(Line(title, reads, relative(by_task)))
    scores = published(rows)
    suites = {row["suite"] for row in _of_kind(rows, "published task") if row["task"] in tasks}
    for model in _of_kind(rows, "published model"):
        if model["model"] in _SHOWN_MODELS:
            has_leak = tasks.intersection(model["leaked"]) or (
                "gift-eval" in suites and model["saw_test_data"]
            )
            title = f"{model['model']} †" if has_leak else model["model"]
            lines.append(Line(title, _reads(model), scores[model["model"]]))
    for run, by_task in measured(rows).items():
        name, _, without = run.partition("_without")
        title = f"{name}{_OWN_RUN}"
        if without:
            title += ", without"
        lines.append(Line(title, "none" if without else "future", by_task))
    return lines


def _reads(model: Record) -> str:
    """The covariates that a published model reads, as ``future+past``."""
    text = model["covariates"] or ""
    return text.removeprefix("reads ").replace("known", "future").replace(", ", "+")


def _suffix(variants: Mapping[bool, object], covariates: bool) -> str:
    """Marks the runs without covariates of a forecaster that has others too."""
    return ", without" if len(variants) == 2 and not covariates else ""


def _mean(scores: Scores, tasks: list[str]) -> Pair | None:
    """Geometric means over tasks; ``None`` unless all of them have scores."""
    if not tasks or not all(task in scores for task in tasks):
        return None
    first = geometric_mean([scores[task][0] for task in tasks])
    second = geometric_mean([scores[task][1] for task in tasks])
    return first, second


def _pair_text(pair: Pair | None) -> str:
    return f"{pair[0]:.3f}/{pair[1]:.3f}" if pair else ""


def _sources(rows: list[Record]) -> str:
    """The repositories of the published scores, and the commits of our records."""
    suites = _of_kind(rows, "suite")
    sources = "; ".join(f"{row['repository']} at `{row['commit'][:12]}`" for row in suites)
    text = f"Published scores: {sources}."
    own_rows = _of_kind(rows, "task")
    if own_rows:
        text += f" {records.commits(own_rows)}"
    return text


def by_task(folder: Path) -> str:
    """A line for each task with covariates that we ran: our forecasters that read them, a rival,
    and the best published model.
    """
    rows = read(folder)
    own_scores = {}
    for name, variants in own_records(rows).items():
        if True in variants:
            own_scores[name] = relative(variants[True])
    scores = published(rows)
    own_runs = measured(rows)
    rivals = {}
    for model in _RIVALS:
        rival_scores = {**scores.get(model, {}), **own_runs.get(model, {})}
        if rival_scores:
            rivals[model] = rival_scores
    lines = []
    for task in _of_kind(rows, "published task"):
        name = task["task"]
        has_runs = any(name in by_name for by_name in own_scores.values())
        if _has_covariates(task) and has_runs:
            columns = (*own_scores.values(), *rivals.values())
            cells = [_pair_text(by_name.get(name)) for by_name in columns]
            lines.append([name, *cells, _best(rows, scores, task)])
    head = ["task", *(f"**{name}**" for name in own_scores), *rivals, "best published"]
    return render.lines(head, lines)


def _best(rows: list[Record], scores: Mapping[str, Scores], task: Record) -> str:
    """The published model with the least SQL of those that have not seen the data, with both of its
    scores.
    """
    name = task["task"]
    is_pooled = task["suite"] == "gift-eval"
    errors = {}
    for model in _of_kind(rows, "published model"):
        has_leak = name in model["leaked"] or (is_pooled and model["saw_test_data"])
        by_name = scores[model["model"]]
        if name in by_name and not has_leak:
            errors[model["model"]] = by_name[name][1]
    if not errors:
        return ""
    best = min(errors, key=lambda model: (errors[model], model))
    return f"{best} {_pair_text(scores[best][name])}"


def gains(folder: Path) -> str:
    """Scores with covariates over those without, for the forecasters and tasks that have both."""
    rows = read(folder)
    ratios = {}
    for name, variants in own_records(rows).items():
        if len(variants) == 2:
            forecaster_ratios = _ratios(variants)
            if forecaster_ratios:
                ratios[name] = forecaster_ratios
    if not ratios:
        return render.NONE
    judged = {task for by_name in ratios.values() for task in by_name}
    tasks = [row["task"] for row in _of_kind(rows, "published task") if row["task"] in judged]
    columns = list(ratios.values())
    lines = [[task, *(_pair_text(by_name.get(task)) for by_name in columns)] for task in tasks]
    mean_cells = [_pair_text(_mean(by_name, tasks)) for by_name in columns]
    lines.append([f"geometric mean of {len(tasks)}", *mean_cells])
    return render.lines(["task", *(f"**{name}**" for name in ratios)], lines)


def _ratios(variants: Variants) -> Scores:
    """Scores with covariates over those without, on the tasks that have both."""
    with_columns = relative(variants[True])
    without_columns = relative(variants[False])
    ratios = {}
    for task, row in variants[True].items():
        if row["columns"] and task in variants[False]:
            mase, second = with_columns[task]
            plain_mase, plain_second = without_columns[task]
            ratios[task] = (mase / plain_mase, second / plain_second)
    return ratios


def costs(folder: Path) -> str:
    """Coverage of 80% bands, and seconds of the processor, on the development tasks that have
    covariates.
    """
    rows = read(folder)
    tasks = set()
    for row in _of_kind(rows, "published task"):
        if _has_covariates(row) and row["split"] == SPLITS[0]:
            tasks.add(row["task"])
    lines = []
    for name, variants in own_records(rows).items():
        for covariates, by_name in variants.items():
            judged = [row for task, row in by_name.items() if task in tasks]
            if judged and judged[0]["model"] not in _POINTS:
                coverage = f"{100 * render.mean(judged, 'coverage80'):.0f}%"
                seconds = f"{sum(row['cpu_seconds'] for row in judged):.0f}"
                title = name + _suffix(variants, covariates)
                lines.append([title, str(len(judged)), coverage, seconds])
    return render.lines(["ours", "tasks", "80% holds", "seconds"], lines) if lines else render.NONE


_PAGE = "docs/covariates.md"
BLOCKS = {
    (_PAGE, "covariates"): means(SPLITS[0]),
    (_PAGE, "covariates_report"): means(SPLITS[1]),
    (_PAGE, "covariates_gains"): gains,
    (_PAGE, "covariates_costs"): costs,
    (_PAGE, "covariates_tasks"): by_task,
}
