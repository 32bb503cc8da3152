"""Tables and pictures of the study of the pretrained network's attention."""

from collections.abc import Iterable
from math import exp, log
from pathlib import Path
from statistics import fmean

import records
import render
from pretraining_study import floor, groups, long
from pretraining_study.run import ARMS, FILE, KEY
from records import Record
from suite.page import interval

BASE = "standard"
WIDTH = 96
# Columns of the table across series: all groups with columns, and those of some couplings.
COUPLED = ("columns", "linear", "drift", "decoys")
# Variants within chance of "phase", which the text names and the table leaves out.
WITHIN_CHANCE = (
    "phase, near from the origin",
    "phase and cycle",
    "phase, bilinear MLR",
    "phase, bilinear BTT",
    "phase of two seasons, or near",
)
# Arms that were trained at several widths.
SCALED = ("standard", "phase")
# A record, and the one that it is compared with.
Pair = tuple[Record, Record]


def _rows(folder: Path) -> list[Record]:
    order = list(ARMS)
    rows = records.read(folder / FILE, KEY)
    return sorted(rows, key=lambda row: (row["steps"], order.index(row["arm"]), row["seed"]))


def _percent(ratios: Iterable[float]) -> str:
    """Geometric mean of ratios as a change in percent, with its 95% interval where there are three
    or more.
    """
    logs = [log(ratio) for ratio in ratios]
    text = _log_percent(fmean(logs))
    span = interval(logs)
    if span is not None:
        low, high = span
        text += f" ({_log_percent(low)},{_log_percent(high)})"
    return text


def _log_percent(value: float) -> str:
    """The logarithm of a ratio as a change in percent."""
    return f"{100 * (exp(value) - 1):+.1f}"


def _change(pairs: list[Pair], metric: int) -> str:
    """Change of a score over tasks, each the mean over seeds."""
    ratios = []
    for task in pairs[0][0]["tasks"]:
        scores = [(row["tasks"][task], base["tasks"][task]) for row, base in pairs]
        logs = [log(score[metric] / base_score[metric]) for score, base_score in scores]
        ratios.append(exp(fmean(logs)))
    return _percent(ratios)


def study(folder: Path) -> str:
    """A line an arm: its validation loss, and the changes of loss, MASE and WQL from standard
    attention on the same seeds.
    """
    rows = [row for row in _rows(folder) if row["d_model"] == WIDTH]
    if not rows:
        return render.NONE
    head = ["attention", "validation loss", "loss, %", "MASE, %", "WQL, %"]
    parts = []
    for (steps,), step_rows in records.by(rows, "steps").items():
        base = {row["seed"]: row for row in step_rows if row["arm"] == BASE}
        lines = []
        for (arm,), arm_rows in records.by(step_rows, "arm").items():
            if arm not in WITHIN_CHANCE:
                loss = render.mean(arm_rows, "validation")
                lines.append((loss, [arm, f"{loss:.4f}", *_arm_changes(arm_rows, base)]))
        lines.sort()
        table = render.lines(head, (line for _, line in lines))
        parts.append(f"{steps:,} steps\n\n{table}")
    return "\n\n".join([*parts, records.commits(rows)])


def _arm_changes(rows: list[Record], base: dict[int, Record]) -> list[str]:
    """Changes of an arm from standard attention; empty for standard attention itself."""
    pairs = [(row, base[row["seed"]]) for row in rows if row["seed"] in base]
    if rows[0]["arm"] == BASE or not pairs:
        return ["", "", ""]
    loss = _percent(row["validation"] / base_row["validation"] for row, base_row in pairs)
    return [loss, _change(pairs, 0), _change(pairs, 1)]


def long_run(folder: Path) -> str:
    """Losses of both runs at the steps of ``long.SHOWN`` that both have reached, and at those whose
    states were judged on development tasks; at the last step where none was judged.
    """
    seasonal, standard = long.curves().values()
    if not standard:
        return render.NONE
    # The curve of the recipe lacks some points.
    steps = seasonal.keys() & standard.keys()
    path = folder / long.FILE
    rows = records.read(path, long.KEY) if path.exists() else []
    judged = {(row["step"], row["attention"]): row for row in rows}
    compared_steps = {row["step"] for row in rows} or {max(steps)}
    shown = {*long.SHOWN, *compared_steps} & steps
    lines = []
    for step in sorted(shown):
        change = 100 * (standard[step] / seasonal[step] - 1)
        line = [f"{step:,}", f"{seasonal[step]:.4f}", f"{standard[step]:.4f}", f"{change:+.1f}"]
        if (step, BASE) in judged:
            pairs = [(judged[step, BASE], judged[step, "levels"])]
            line += [_change(pairs, 0), _change(pairs, 1)]
        else:
            line += ["", ""]
        lines.append(line)
    head = ["steps", "levels", "standard", "loss, %", "MASE, %", "WQL, %"]
    table = render.lines(head, lines)
    return f"{table}\n\n{records.commits(rows)}" if rows else table


def scaling(folder: Path) -> list[render.Panel]:
    """Validation loss against multiply-adds at several widths, a panel a number of steps."""
    panels = []
    for (steps,), step_rows in records.by(_rows(folder), "steps").items():
        lines = {}
        for arm in SCALED:
            arm_rows = [row for row in step_rows if row["arm"] == arm]
            lines[arm] = _loss_by_compute(arm_rows)
        panel = {
            "title": f"{steps:,} steps",
            "x": "million multiply-adds of a forecast",
            "y": "validation loss",
            "log": "x",
            "lines": lines,
        }
        # A line needs two widths.
        if min(map(len, lines.values())) >= 2:
            panels.append(panel)
    return panels


def _loss_by_compute(rows: list[Record]) -> list[list[float]]:
    """A point a width: million multiply-adds, and the mean, least and largest loss over seeds."""
    points = []
    by_width = records.by(sorted(rows, key=lambda row: row["d_model"]), "d_model")
    for width_rows in by_width.values():
        losses = [row["validation"] for row in width_rows]
        mean = sum(losses) / len(losses)
        compute = width_rows[0]["multiply_adds"] / 1e6
        points.append([compute, mean, min(losses), max(losses)])
    return points


def bounds(folder: Path) -> str:
    """A line a law: the excess of the loss of each set of weights over that of the true quantiles,
    by length of the context.
    """
    path = folder / floor.FILE
    rows = records.read(path, floor.KEY) if path.exists() else []
    if not rows:
        return render.NONE
    sizes = list(dict.fromkeys((row["weights"], row["n_steps"]) for row in rows))
    head = ["law", *(f"{weights}, {n_steps:,} steps" for weights, n_steps in sizes)]
    lines = []
    for (law,), law_rows in records.by(rows, "law").items():
        excesses = {}
        for row in law_rows:
            excess = 100 * (row["ratio"] - 1)
            excesses[row["weights"], row["n_steps"]] = f"{excess:+.1f}%"
        lines.append([law, *(excesses.get(size, "") for size in sizes)])
    return f"{render.lines(head, lines)}\n\n{records.commits(rows)}"


def across(folder: Path) -> str:
    """A line for each arm and way: the cost, and the loss over that of the weights of the start,
    which read no columns.
    """
    rows = records.read(folder / groups.FILE, groups.KEY)
    if not rows:
        return render.NONE
    cells = records.by(compared(rows), "seconds", "way", "arm").values()
    lines = [_across_line(cell) for cell in cells]
    head = ["reads", "taken off", "multiply-adds [M]", "core s", *COUPLED]
    return f"{render.lines(head, lines, left=2)}\n\n{records.commits(rows)}"


def compared(rows: list[Record]) -> list[Record]:
    """Rows with ratios of losses in place of losses, one for each way in which a network was
    validated.
    """
    (start,) = (row for row in rows if row["seconds"] == 0)
    base = start["losses"][groups.WAYS[0]]
    ratio_rows = []
    for row in rows:
        for way, losses in row["losses"].items():
            ratios = {name: loss / base[name] for name, loss in losses.items()}
            ratio_rows.append({**row, **ratios, "way": way})
    return sorted(ratio_rows, key=lambda row: (row["seconds"], groups.WAYS.index(row["way"])))


def _across_line(rows: list[Record]) -> list[str]:
    """Cells of a line: ratios are means over seeds, that of all couplings with the least and the
    greatest.
    """
    first = rows[0]
    arm = first["arm"] if first["seconds"] else "untrained"
    compute = render.mean(rows, "multiply_adds") / 1e6
    seconds = render.mean(rows, "core_seconds")
    all_couplings, *couplings = (f"{render.mean(rows, name):.3f}" for name in COUPLED)
    if len(rows) > 1:
        ratios = [row[COUPLED[0]] for row in rows]
        all_couplings += f" ({min(ratios):.3f},{max(ratios):.3f})"
    return [arm, first["way"], f"{compute:.1f}", f"{seconds:.0f}", all_couplings, *couplings]


BLOCKS = {
    ("docs/findings.md", "study"): study,
    ("docs/findings.md", "long"): long_run,
    ("docs/findings.md", "floor"): bounds,
    ("docs/findings.md", "groups"): across,
}
PICTURES = {"pretraining_study.svg": scaling}
