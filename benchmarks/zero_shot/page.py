"""Tables and picture of docs/zero-shot.md, and README's: our pretrained network beside published
models.
"""

from math import log
from pathlib import Path
from statistics import fmean
from typing import Any

import records
import render
from records import Record
from zero_shot.pack import COLUMNS, SPLITS, geometric_mean

FILE = "zero_shot.jsonl"
PUBLISHED = "zero_shot_published.jsonl"
KEY = ("suite", "task", "split", "model", "settings", "weights")
# What README shows of it: our model, and some published ones of all kinds.
_BESIDE = ("chronos-2", "tirex", "ttm-r3", "chronos_bolt_tiny", "auto_ets")
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
NAMES = {"332aec": "zero-5b", "ea3190": "zero-5b-small"}
_SAW = "† saw test data or was trained on some tasks."
# published models behind this MASE on development tasks are left out of the long table, but for
# README's
_LAST = 0.76
_SHOWN = (0, 2)  # columns of the picture: the development tasks of either suite
_REPORT = (4, 1)  # columns of README's picture: the report tasks of either suite
_WHOLE = tuple(number for number, each in enumerate(COLUMNS) if not each.most)


def read(folder: Path) -> list[Record]:
    """The records of run.py, and behind them the published rows, from the pack's tasks.json.

    Raises:
        ValueError: If published rows are absent.
    """
    rows = records.read(folder / FILE, KEY)
    others = records.read_rows(folder / PUBLISHED)
    if absent := sorted(
        {row["task"] for row in rows} - {row["task"] for row in _of(others, "published task")}
    ):
        raise ValueError(
            f"{PUBLISHED} lacks the task {absent[0]} of {FILE}; take it from the pack's tasks.json"
        )
    return rows + others


def _of(rows: list[Record], kind: str) -> list[Record]:
    return [row for row in rows if row["kind"] == kind]


def ours(rows: list[Record]) -> dict[str, dict[str, Record]]:
    """Records by the name of a model, or of its weights or a few digits of these, and
    then by task.
    """
    found: dict[str, dict[str, Record]] = {}
    for row in sorted(_of(rows, "task"), key=lambda row: records.rank(row["model"])):
        found.setdefault(name_of(row), {})[row["task"]] = row
    return found


def name_of(row: Record) -> str:
    """The name of a record's model, or of its weights, or a few digits of these."""
    digits = (row["weights"] or "")[:6]
    return NAMES.get(digits, f"{row['model']} {digits}".strip())


def column(rows: list[Record], mine: dict[str, Record], number: int) -> list[Record]:
    """Records of the tasks of a column, where all of them were run."""
    tasks = [
        t
        for t in _of(rows, "published task")
        if COLUMNS[number].holds(t["suite"], t["split"], t["horizon"])
    ]
    return [mine[t["task"]] for t in tasks] if all(t["task"] in mine for t in tasks) else []


def aggregates(rows: list[Record], mine: dict[str, Record]) -> list[list[float]]:
    """For each column geometric means of relative MASE and WQL; nothing where tasks are missing."""
    have = (column(rows, mine, number) for number in range(len(COLUMNS)))
    return [
        [geometric_mean([row[f"rel_{name}"] for row in some]) for name in ("mase", "wql") if some]
        for some in have
    ]


def models(folder: Path) -> str:
    """Aggregates of all models over whole columns, ours in bold, by MASE on the development tasks;
    what ours cost.
    """
    rows = read(folder)
    lines = []
    costs = []
    for name, by in ours(rows).items():
        means = aggregates(rows, by)
        if all(means[number] for number in _SHOWN):
            judged = [row for row in by.values() if row["split"] == SPLITS[0]]
            shown = [name, *(_pair(means[n]) for n in _WHOLE)]
            lines.append(
                (
                    _place(means),
                    [
                        *(f"**{cell}**" if cell else "" for cell in shown),
                        _params(by).removesuffix(" M"),
                    ],
                )
            )
            seconds = sum(row["cpu_seconds"] for row in judged)
            costs.append(
                [name, f"{100 * render.mean(judged, 'coverage80'):.0f}%", f"{seconds:.0f}"]
            )
    lines += [
        (
            _place(row["columns"]),
            [
                _name(row),
                *(_pair(row["columns"][n]) for n in _WHOLE),
                _size(row).removesuffix(" M"),
            ],
        )
        for row in _of(rows, "published model")
        if _place(row["columns"]) < log(_LAST) or row["model"] in _BESIDE
    ]
    models = _table(["model"], ["million parameters"], lines)
    table = f"{models}\n\n{render.lines(['ours', '80% holds', 'seconds'], costs)}"
    sources = "; ".join(
        f"{row['repository']} at `{row['commit'][:12]}`" for row in _of(rows, "suite")
    )
    return (
        f"{table}\n\nPublished scores: {sources}. {records.commits(_of(rows, 'task'))}"
        if ours(rows)
        else render.NONE
    )


def summary(folder: Path) -> str:
    """README's table: our pretrained model beside published ones, all tasks of either suite and
    split.
    """
    rows = read(folder)
    lines = []
    for name, by in ours(rows).items():
        means = aggregates(rows, by)
        if name in NAMES.values() and all(means[number] for number in _SHOWN):
            told = [f"**{name}**", _params(by), *(_pair(means[n]) for n in _WHOLE)]
            lines.append((_place(means), told))
    if not lines:
        return render.NONE
    lines += [
        (
            _place(row["columns"]),
            [_name(row), _size(row), *(_pair(row["columns"][n]) for n in _WHOLE)],
        )
        for row in _of(rows, "published model")
        if row["model"] in _BESIDE
    ]
    what = (
        "MASE/WQL relative to seasonal naive, geometric means over the tasks of a suite. Lower is"
        " better."
    )
    return f"{_table(['model', 'parameters'], [], lines)}\n\n{what} {_SAW}"


def _table(first: list[str], last: list[str], lines: list[tuple[float, list[str]]]) -> str:
    titles = [f"{COLUMNS[n].suite}, {COLUMNS[n].split}" for n in _WHOLE]
    return render.lines(
        [*first, *titles, *last], (told for _, told in sorted(lines, key=lambda each: each[0]))
    )


def _name(row: Record) -> str:
    return row["model"] + (
        " †" if "saw test data" in row["note"] or "trained on" in row["note"] else ""
    )


def _params(by: dict[str, Record]) -> str:
    return f"{max(row['params'] for row in by.values()) / 1e6:.1f} M"


def _place(means: list[Any]) -> float:
    """The mean over both suites of the relative MASE on development tasks; last where there is
    none.
    """
    logs = [log(means[number][0]) for number in _SHOWN if means[number]]
    return fmean(logs) if logs else 9.0


def _pair(mean: list[float]) -> str:
    return f"{mean[0]:.3f}/{mean[1]:.3f}" if mean else ""


def _size(row: Record) -> str:
    return f"{_MILLIONS[row['model']]:g} M" if row["model"] in _MILLIONS else ""


def picture(folder: Path) -> list[render.Panel]:
    """By suite: MASE and WQL against parameters, and MASE against seconds, which nobody
    publishes.
    """
    rows = read(folder)
    panels = []
    known = ours(rows)
    for number in _SHOWN:
        found: dict[str, list[float | None]] = {}
        for row in _of(rows, "published model"):
            if row["model"] in _MILLIONS and row["columns"][number]:
                found[row["model"]] = [1e6 * _MILLIONS[row["model"]], None, *row["columns"][number]]
        for name, by in known.items():
            if have := column(rows, by, number):
                pace = (
                    1e3
                    * sum(row["cpu_seconds"] for row in have)
                    / sum(row["n_instances"] for row in have)
                )
                found[name] = [have[0]["params"], pace, *aggregates(rows, by)[number]]
        for x, y, told in (
            (0, 2, "parameters"),
            (0, 3, "parameters"),
            (1, 2, "seconds for 1,000 forecasts"),
        ):
            # Rules of thumb have no parameters.
            lines = {name: [[point[x], point[y]]] for name, point in found.items() if point[x]}
            labels = {"title": " ".join(COLUMNS[number][:2]), "x": told, "log": "x", "height": 3.5}
            labels |= {"ours": list(known), "y": f"{'MASE' if y == 2 else 'WQL'} / seasonal naive"}
            panels.append({**labels, "lines": lines})
    return panels if known else []


def sizes(folder: Path) -> list[render.Panel]:
    """README's picture: MASE on the report tasks of either suite against parameters, for models of
    known size.
    """
    rows = read(folder)
    shipped = {name: by for name, by in ours(rows).items() if name in NAMES.values()}
    panels = []
    for number in _REPORT:
        lines: dict[str, list[list[float]]] = {}
        for row in _of(rows, "published model"):
            if row["model"] in _MILLIONS and row["columns"][number]:
                lines[_name(row)] = [[1e6 * _MILLIONS[row["model"]], row["columns"][number][0]]]
        for name, by in shipped.items():
            if have := column(rows, by, number):
                lines[name] = [[have[0]["params"], aggregates(rows, by)[number][0]]]
        labels = {"title": f"{COLUMNS[number].suite}, report tasks", "x": "parameters", "log": "x"}
        panels.append(
            {
                **labels,
                "height": 3.8,
                "y": "MASE / seasonal naive",
                "ours": list(shipped),
                "lines": lines,
            }
        )
    return panels if shipped else []


BLOCKS = {("README.md", "zero"): summary, ("docs/zero-shot.md", "zero_shot"): models}
PICTURES = {"zero_shot.svg": picture, "sizes.svg": sizes}
