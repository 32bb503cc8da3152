"""The page of zero-shot forecasts: what stands between the marks of docs/zero-shot.md, and its picture."""

import json
from math import log
from pathlib import Path
from statistics import fmean
from typing import Any

import drawings
import tables

from zero_shot.pack import COLUMNS, SPLITS, geometric_mean

Record = dict[str, Any]
Model = tuple[str, str | None]  # name and weights

FILE, PUBLISHED, PICTURE = "zero_shot.jsonl", "zero_shot_published.json", "zero_shot.svg"
MARKS = ("<!-- zero_shot:begin -->", "<!-- zero_shot:end -->")
README_MARKS = ("<!-- zero:begin -->", "<!-- zero:end -->")
# What README shows of it: our model, and some published ones of all kinds.
_BESIDE = ("chronos-2", "tirex", "tempopfn", "ttm-r3", "chronos_bolt_base", "chronos_bolt_tiny", "patchtst", "auto_ets")
_FIELDS = {
    *("suite", "task", "split", "model", "settings", "weights", "horizon", "n_instances", "mase", "wql"),
    *(
        "rel_mase",
        "rel_wql",
        "coverage80",
        "seconds",
        "cpu_seconds",
        "params",
        "peak_mb",
        "commit",
        "versions",
        "machine",
    ),
}
# Millions of parameters, as their authors say, some in the name.
_MILLIONS = {
    "chronos_bolt_tiny": 9,
    "chronos_bolt_small": 48,
    "chronos_bolt_base": 205,
    "chronos-2": 120,
    "tirex": 35,
    "tempopfn": 38,
    "ttm-r3": 1.4,
    "flowstate-9.1m": 9.1,
    "toto-2-4m": 4,
    "toto-2-22m": 22,
    "kairos_10m": 10,
    "yinglong_6m": 6,
}
_SHOWN = (0, 2)  # columns of the picture: the development tasks of either suite


def read_rows(path: Path) -> list[Record]:
    """The records of run.py that took all instances, and behind them the published rows that it wrote beside them.

    Raises:
        ValueError: If a line is damaged, says nothing of its origin, is there twice, or published rows are absent.
    """
    every = tables.read_kinds(path, {"task": _FIELDS}, "zero_shot/run.py")
    rows: list[Record] = [row for row in every if "max_instances" not in row["settings"]]
    tables.check_once(rows, path.name, "task", "model", "weights")
    known = path.with_name(PUBLISHED)
    others = json.loads(known.read_text(encoding="utf-8")) if known.exists() else []
    names = {row["task"] for row in _of(others, "published task")}
    if absent := sorted({row["task"] for row in rows} - names):
        raise ValueError(f"{PUBLISHED} lacks the task {absent[0]} of {FILE}; run zero_shot/run.py, which writes it")
    return rows + others


def _of(rows: list[Record], kind: str) -> list[Record]:
    return [row for row in rows if row["kind"] == kind]


def ours(rows: list[Record]) -> dict[Model, dict[str, Record]]:
    """Records by model and weights, and then by task."""
    found: dict[Model, dict[str, Record]] = {}
    for row in sorted(_of(rows, "task"), key=lambda row: tables.rank(row["model"])):
        found.setdefault((row["model"], row["weights"]), {})[row["task"]] = row
    return found


def column(rows: list[Record], mine: dict[str, Record], number: int) -> tuple[list[Record], int]:
    """Records of the tasks of a column, and how many it has."""
    tasks = _of(rows, "published task")
    names = [t["task"] for t in tasks if COLUMNS[number].holds(t["suite"], t["split"], t["horizon"])]
    return [mine[name] for name in names if name in mine], len(names)


def aggregates(rows: list[Record], mine: dict[str, Record]) -> list[list[float] | int]:
    """For each column geometric means of relative MASE and WQL; where tasks are missing, the number of those run."""
    found: list[list[float] | int] = []
    for number in range(len(COLUMNS)):
        have, count = column(rows, mine, number)
        means = [geometric_mean([row[f"rel_{name}"] for row in have]) for name in ("mase", "wql")] if have else []
        found.append(means if have and len(have) == count else len(have))
    return found


def table(rows: list[Record]) -> str:
    """What stands between the marks: the picture, aggregates of all models, and each task by itself."""
    if not (mine := ours(rows)):
        return str(tables.NONE)
    sources = [f"{row['repository']} at `{row['commit'][:12]}`" for row in _of(rows, "suite")]
    parts = [f"![Scores against parameters and seconds](pictures/{PICTURE})", "\n".join(_models(rows, mine))]
    for suite, split in dict.fromkeys(each[:2] for each in COLUMNS):
        tasks = [
            row for row in rows if row["kind"] == "published task" and (row["suite"], row["split"]) == (suite, split)
        ]
        if any(task["task"] in by for task in tasks for by in mine.values()):
            parts += [f"### {suite}, {split}", "\n".join(_tasks(tasks, mine))]
    return "\n\n".join([*parts, f"Published scores: {'; '.join(sources)}. {tables.origin(_of(rows, 'task'))}"])


def _models(rows: list[Record], mine: dict[Model, dict[str, Record]]) -> list[str]:
    titles = [f"{c.suite} {c.split}" + (f", at most {c.most} ahead" if c.most else "") for c in COLUMNS]
    head = tables.head(1, "model", *titles, "80% holds", "parameters", "seconds", "note")
    lines = []
    for model, by in mine.items():
        means, judged = aggregates(rows, by), [row for row in by.values() if row["split"] == SPLITS[0]]
        whole = judged and all(isinstance(means[number], list) for number in _SHOWN)
        costs = [f"{100 * fmean(row['coverage80'] for row in judged):.1f}%" if whole else ""]
        costs += [f"{max(row['params'] for row in by.values()):,}"]
        costs += [f"{sum(row['cpu_seconds'] for row in judged):.1f}" if whole else ""]
        counts = [column(rows, by, number)[1] for number in range(len(COLUMNS))]
        shown = [_pair(mean) or f"{mean} of {n} tasks" if mean else "" for mean, n in zip(means, counts, strict=True)]
        bold = [f"**{cell}**" if cell else "" for cell in (_name(model), *shown, *costs)]
        lines.append((_place(means), tables.line(*bold, "ours")))
    for row in _of(rows, "published model"):
        size = f"{1e6 * _MILLIONS[row['model']]:,.0f}" if row["model"] in _MILLIONS else ""
        cells = (row["model"], *map(_pair, row["columns"]), "", size, "", row["note"])
        lines.append((_place(row["columns"]), tables.line(*cells)))
    return head + [line for _, line in sorted(lines)]


def summary(rows: list[Record]) -> str:
    """README's table: our pretrained model beside published ones, all tasks of either suite and split."""
    wanted = [number for number, each in enumerate(COLUMNS) if not each.most]
    lines = []
    for model, by in ours(rows).items():
        means = aggregates(rows, by)
        if model[1] is not None and all(isinstance(means[number], list) for number in _SHOWN):
            params = max(row["params"] for row in by.values())
            lines.append(
                (
                    _place(means),
                    f"**{model[0]}**",
                    f"{params / 1e6:.1f} M",
                    means,
                    "synthetic series only, in the wheel",
                )
            )
    if not lines:
        return str(tables.NONE)
    for row in _of(rows, "published model"):
        if row["model"] in _BESIDE:
            size = f"{_MILLIONS[row['model']]:g} M" if row["model"] in _MILLIONS else ""
            lines.append((_place(row["columns"]), row["model"], size, row["columns"], row["note"]))
    head = tables.head(1, "model", "parameters", *(f"{COLUMNS[n].suite} {COLUMNS[n].split}" for n in wanted), "note")
    body = [
        tables.line(name, size, *(_pair(means[n]) for n in wanted), note)
        for _, name, size, means, note in sorted(lines, key=lambda each: each[0])
    ]
    told = (
        "MASE / WQL over those of seasonal naive, geometric mean over the tasks of two public suites; less is better."
    )
    return "\n".join([*head, *body, "", f"{told} {tables.origin(_of(rows, 'task'))}"])


def _place(means: list[Any]) -> float:
    """The mean over both suites of the relative MASE on development tasks; last where there is none."""
    logs = [log(means[number][0]) for number in _SHOWN if isinstance(means[number], list) and means[number]]
    return fmean(logs) if logs else 9.0


def _pair(mean: Any) -> str:
    return f"{mean[0]:.3f} / {mean[1]:.3f}" if isinstance(mean, list) and mean else ""


def _name(model: Model) -> str:
    return model[0] if model[1] is None else f"{model[0]} {model[1][:6]}"


def _tasks(tasks: list[Record], mine: dict[Model, dict[str, Record]]) -> list[str]:
    names = ("task", "ahead", "instances", "seasonal naive", "best MASE", "best WQL")
    lines = tables.head(1, *names, *map(_name, mine))
    for task in tasks:
        best = [f"{value:.3f} {model}" for value, model in task["best"]]
        found = [by.get(task["task"]) for by in mine.values()]
        cells = [
            _pair([r["mase"], r["wql"]]) + f" ({_pair([r['rel_mase'], r['rel_wql']])})" if r else "" for r in found
        ]
        sizes = (str(task["horizon"]), str(task["n_instances"]))
        lines.append(tables.line(task["task"], *sizes, _pair(task["seasonal_naive"]), *best, *cells))
    return lines


# --- the picture ------------------------------------------------------------------------------------------------


def numbers(rows: list[Record]) -> Any:
    """For each shown column the points ``[name, ours, parameters, seconds a 1,000 forecasts, MASE, WQL]``."""
    found: list[list[list[Any]]] = []
    for number in _SHOWN:
        others = [
            r for r in rows if r["kind"] == "published model" and r["model"] in _MILLIONS and r["columns"][number]
        ]
        points = [[r["model"], False, 1e6 * _MILLIONS[r["model"]], None, *r["columns"][number]] for r in others]
        for model, by in ours(rows).items():
            have, count = column(rows, by, number)
            if have and len(have) == count:
                pace = 1e3 * sum(row["cpu_seconds"] for row in have) / sum(row["n_instances"] for row in have)
                points.append([_name(model), True, have[0]["params"], pace, *aggregates(rows, by)[number]])
        found.append(points)
    return found if any(point[1] for points in found for point in points) else None


def _draw(due: Any) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 6.4), layout="constrained")
    grid = figure.subplots(2, 3)
    for row, number, points in zip(grid, _SHOWN, due, strict=True):
        for axes, x, y in zip(row, (2, 2, 3), (4, 5, 4), strict=True):
            # Rules of thumb have no parameters, and nobody publishes seconds.
            for point in (point for point in points if point[x]):
                colour, size = ("#d55e00", 5) if point[1] else ("#777777", 3)
                axes.plot(point[x], point[y], "o", color=colour, markersize=size)
                axes.annotate(point[0], (point[x], point[y]), (3, 3), textcoords="offset points", color=colour, size=6)
            axes.set(xscale="log", xlabel="parameters" if x == 2 else "seconds for 1,000 forecasts")
            axes.set(ylabel=f"{'MASE' if y == 4 else 'WQL'} / seasonal naive", title=" ".join(COLUMNS[number][:2]))
            axes.margins(0.25, 0.12)
            axes.grid(alpha=0.3)
    return figure


PICTURES = {PICTURE: drawings.Drawing(numbers, _draw)}
