"""Tables and picture of docs/zero-shot.md, and README's: our pretrained network beside published
models.
"""

from math import log
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import records
import render
from records import Record
from zero_shot.pack import COLUMNS, SPLITS, geometric_mean

FILE = "zero_shot.jsonl"
PUBLISHED = "zero_shot_published.jsonl"
KEY = ("suite", "task", "split", "model", "settings", "weights")
# Published models of README's table, of all kinds.
_README_MODELS = ("chronos-2", "tirex", "ttm-r3", "chronos_bolt_tiny", "auto_ets")
# Millions of parameters, as their authors say, some in the name.
_MILLIONS = {
    "chronos_bolt_tiny": 9,
    "chronos_bolt_small": 48,
    "chronos_bolt_base": 205,
    "chronos-2": 120,
    "tirex": 35,
}
_MILLIONS |= {
    "tempopfn": 38,
    "ttm-r3": 1.4,
    "flowstate-9.1m": 9.1,
    "toto-2-4m": 4,
    "toto-2-22m": 22,
}
_MILLIONS |= {"kairos_10m": 10, "yinglong_6m": 6, "timesfm-2.5": 200, "sundial_base": 128}
_MILLIONS |= {"reverso": 2.6, "flowstate-r1.1": 9}
# Shipped weights by the digits that a record has of their numbers.
NAMES = {"bc64ea": "zero-5h", "85fadf": "zero-5h-small"}
_LEAK_NOTE = "† saw test data or was trained on some tasks."
_README_NOTE = (
    "MASE/WQL relative to seasonal naive, geometric means over the tasks of a suite. Lower is"
    " better."
)
# The long table leaves out published models whose relative MASE on development tasks is higher,
# except those of README's table.
_WORST_SHOWN = 0.76
# Logarithm of the relative MASE of a model without one: higher than any other.
_NO_MASE = 9.0
# Places in COLUMNS: the development tasks of either suite, and the report tasks of either suite.
_DEVELOPMENT = (0, 2)
_REPORT = (4, 1)
# Places of the columns that are not cut to short horizons.
_WHOLE = tuple(number for number, group in enumerate(COLUMNS) if not group.most)
# Numbers of a model in a column: parameters, seconds for 1,000 forecasts (None where nobody
# published them), MASE and WQL.
Point = list[float | None]
_MASE_PLACE = 2
# Axes of the panels of a suite: places in a point, and the label of x.
_AXES = (
    (0, 2, "parameters"),
    (0, 3, "parameters"),
    (1, 2, "seconds for 1,000 forecasts"),
)
# Records of one model by task.
ByTask = dict[str, Record]


class Line(NamedTuple):
    """A line of a table, and the number by which lines are sorted."""

    log_mase: float
    cells: list[str]


def read(folder: Path) -> list[Record]:
    """The records of run.py, and behind them the published rows, from the pack's tasks.json.

    Raises:
        ValueError: If published rows are absent.
    """
    rows = records.read(folder / FILE, KEY)
    published_rows = records.read_rows(folder / PUBLISHED)
    published_tasks = {row["task"] for row in _of_kind(published_rows, "published task")}
    absent = sorted({row["task"] for row in rows} - published_tasks)
    if absent:
        raise ValueError(
            f"{PUBLISHED} lacks the task {absent[0]} of {FILE}; take it from the pack's tasks.json"
        )
    return rows + published_rows


def _of_kind(rows: list[Record], kind: str) -> list[Record]:
    return [row for row in rows if row["kind"] == kind]


def own_records(rows: list[Record]) -> dict[str, ByTask]:
    """Records of our runs by the name of the model or of its weights (:func:`name_of`), then by
    task.
    """
    by_model: dict[str, ByTask] = {}
    for row in sorted(_of_kind(rows, "task"), key=lambda row: records.rank(row["model"])):
        by_model.setdefault(name_of(row), {})[row["task"]] = row
    return by_model


def name_of(row: Record) -> str:
    """The name of a record's weights; without one, its model and some digits of the weights."""
    digits = (row["weights"] or "")[:6]
    return NAMES.get(digits, f"{row['model']} {digits}".strip())


def column(rows: list[Record], by_task: ByTask, number: int) -> list[Record]:
    """A model's records of the tasks of a column; empty unless all of the tasks were run."""
    group = COLUMNS[number]
    all_tasks = _of_kind(rows, "published task")
    tasks = [
        task for task in all_tasks if group.holds(task["suite"], task["split"], task["horizon"])
    ]
    names = [task["task"] for task in tasks]
    if not by_task.keys() >= set(names):
        return []
    return [by_task[name] for name in names]


def aggregates(rows: list[Record], by_task: ByTask) -> list[list[float]]:
    """For each column geometric means of relative MASE and WQL; empty where tasks are missing."""
    means = []
    for number in range(len(COLUMNS)):
        column_rows = column(rows, by_task, number)
        pair = []
        if column_rows:
            pair = [
                geometric_mean([row["rel_mase"] for row in column_rows]),
                geometric_mean([row["rel_wql"] for row in column_rows]),
            ]
        means.append(pair)
    return means


def models(folder: Path) -> str:
    """All models by MASE on the development tasks: aggregates over whole columns, ours in bold; and
    what ours cost.
    """
    rows = read(folder)
    by_model = own_records(rows)
    if not by_model:
        return render.NONE
    lines = []
    costs = []
    for name, by_task in by_model.items():
        means = aggregates(rows, by_task)
        if not _covers_development(means):
            continue
        cells = [name, *_pairs(means)]
        bold = [f"**{cell}**" if cell else "" for cell in cells]
        lines.append(Line(_mean_log_mase(means), [*bold, _millions(by_task)]))
        costs.append(_cost_line(name, by_task))
    for row in _of_kind(rows, "published model"):
        means = row["columns"]
        if _mean_log_mase(means) < log(_WORST_SHOWN) or row["model"] in _README_MODELS:
            size = _published_millions(row)
            lines.append(Line(_mean_log_mase(means), [_published_name(row), *_pairs(means), size]))
    table = _table(["model"], ["million parameters"], lines)
    cost_table = render.lines(["ours", "80% holds", "seconds"], costs)
    suites = _of_kind(rows, "suite")
    sources = "; ".join(f"{row['repository']} at `{row['commit'][:12]}`" for row in suites)
    commits = records.commits(_of_kind(rows, "task"))
    return f"{table}\n\n{cost_table}\n\nPublished scores: {sources}. {commits}"


def _cost_line(name: str, by_task: ByTask) -> list[str]:
    """How many truths the 80% intervals of a model hold on development tasks, and its seconds."""
    development_rows = [row for row in by_task.values() if row["split"] == SPLITS[0]]
    coverage = 100 * render.mean(development_rows, "coverage80")
    seconds = sum(row["cpu_seconds"] for row in development_rows)
    return [name, f"{coverage:.0f}%", f"{seconds:.0f}"]


def summary(folder: Path) -> str:
    """README's table: our pretrained model beside published ones, all tasks of either suite and
    split.
    """
    rows = read(folder)
    lines = []
    for name, by_task in own_records(rows).items():
        means = aggregates(rows, by_task)
        if name in NAMES.values() and _covers_development(means):
            cells = [f"**{name}**", f"{_millions(by_task)} M", *_pairs(means)]
            lines.append(Line(_mean_log_mase(means), cells))
    if not lines:
        return render.NONE
    for row in _of_kind(rows, "published model"):
        if row["model"] in _README_MODELS:
            millions = _published_millions(row)
            size = f"{millions} M" if millions else ""
            cells = [_published_name(row), size, *_pairs(row["columns"])]
            lines.append(Line(_mean_log_mase(row["columns"]), cells))
    return f"{_table(['model', 'parameters'], [], lines)}\n\n{_README_NOTE} {_LEAK_NOTE}"


def _table(first: list[str], last: list[str], lines: list[Line]) -> str:
    """A table with a column for each whole group of tasks between the first and last columns."""
    titles = [f"{COLUMNS[number].suite}, {COLUMNS[number].split}" for number in _WHOLE]
    ordered = sorted(lines, key=lambda line: line.log_mase)
    return render.lines([*first, *titles, *last], (line.cells for line in ordered))


def _covers_development(means: list[Any]) -> bool:
    """Whether a model ran all development tasks of both suites."""
    return all(means[number] for number in _DEVELOPMENT)


def _mean_log_mase(means: list[Any]) -> float:
    """The mean over both suites of the logarithm of the relative MASE on development tasks; large
    where there is none, so that the model comes last.
    """
    logs = [log(means[number][0]) for number in _DEVELOPMENT if means[number]]
    return fmean(logs) if logs else _NO_MASE


def _pairs(means: list[Any]) -> list[str]:
    """MASE and WQL of all whole columns."""
    return [_pair(means[number]) for number in _WHOLE]


def _pair(mean: list[float]) -> str:
    return f"{mean[0]:.3f}/{mean[1]:.3f}" if mean else ""


def _published_name(row: Record) -> str:
    """The name of a published model, marked where it may know the test data."""
    note = row["note"]
    has_leak = "saw test data" in note or "trained on" in note
    return f"{row['model']} †" if has_leak else row["model"]


def _millions(by_task: ByTask) -> str:
    """Millions of parameters of our model."""
    n_params = max(row["params"] for row in by_task.values())
    return f"{n_params / 1e6:.1f}"


def _published_millions(row: Record) -> str:
    """Millions of parameters of a published model; empty where its authors name no number."""
    return f"{_MILLIONS[row['model']]:g}" if row["model"] in _MILLIONS else ""


def picture(folder: Path) -> list[render.Panel]:
    """By suite: MASE and WQL against parameters, and MASE against seconds, which nobody
    publishes.
    """
    rows = read(folder)
    by_model = own_records(rows)
    if not by_model:
        return []
    panels = []
    for number in _DEVELOPMENT:
        points = _published_points(rows, number) | _own_points(rows, by_model, number)
        for x, y, x_label in _AXES:
            # Rules of thumb have no parameters.
            lines = {name: [[point[x], point[y]]] for name, point in points.items() if point[x]}
            metric = "MASE" if y == _MASE_PLACE else "WQL"
            panel = {
                "title": " ".join(COLUMNS[number][:2]),
                "x": x_label,
                "log": "x",
                "height": 3.5,
                "ours": list(by_model),
                "y": f"{metric} / seasonal naive",
                "lines": lines,
            }
            panels.append(panel)
    return panels


def _published_points(rows: list[Record], number: int) -> dict[str, Point]:
    """Points of the published models of known size in a column; their seconds are not known."""
    points: dict[str, Point] = {}
    for row in _of_kind(rows, "published model"):
        if row["model"] in _MILLIONS and row["columns"][number]:
            n_params = 1e6 * _MILLIONS[row["model"]]
            points[row["model"]] = [n_params, None, *row["columns"][number]]
    return points


def _own_points(rows: list[Record], by_model: dict[str, ByTask], number: int) -> dict[str, Point]:
    """Points of our models that ran all tasks of a column."""
    points: dict[str, Point] = {}
    for name, by_task in by_model.items():
        column_rows = column(rows, by_task, number)
        if column_rows:
            seconds = sum(row["cpu_seconds"] for row in column_rows)
            n_forecasts = sum(row["n_instances"] for row in column_rows)
            seconds_of_thousand = 1e3 * seconds / n_forecasts
            means = aggregates(rows, by_task)[number]
            points[name] = [column_rows[0]["params"], seconds_of_thousand, *means]
    return points


def sizes(folder: Path) -> list[render.Panel]:
    """README's picture: MASE on the report tasks of either suite against parameters, for models of
    known size.
    """
    rows = read(folder)
    by_model = own_records(rows)
    shipped = {name: by_task for name, by_task in by_model.items() if name in NAMES.values()}
    if not shipped:
        return []
    panels = []
    for number in _REPORT:
        lines: dict[str, list[list[float]]] = {}
        for row in _of_kind(rows, "published model"):
            if row["model"] in _MILLIONS and row["columns"][number]:
                n_params = 1e6 * _MILLIONS[row["model"]]
                lines[_published_name(row)] = [[n_params, row["columns"][number][0]]]
        for name, by_task in shipped.items():
            column_rows = column(rows, by_task, number)
            if column_rows:
                mase = aggregates(rows, by_task)[number][0]
                lines[name] = [[column_rows[0]["params"], mase]]
        panel = {
            "title": f"{COLUMNS[number].suite}, report tasks",
            "x": "parameters",
            "log": "x",
            "height": 3.8,
            "y": "MASE / seasonal naive",
            "ours": list(shipped),
            "lines": lines,
        }
        panels.append(panel)
    return panels


BLOCKS = {("README.md", "zero"): summary, ("docs/zero-shot.md", "zero_shot"): models}
PICTURES = {"zero_shot.svg": picture, "sizes.svg": sizes}
