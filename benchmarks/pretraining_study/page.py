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
# Couplings of synthetic groups that have a column in the table: of all groups with columns, and
# some.
COUPLED = ("columns", "linear", "drift", "decoys")
# Variants within chance of "phase", which the text names and the table leaves out.
WITHIN_CHANCE = (
    "phase, near from the origin",
    "phase and cycle",
    "phase, bilinear MLR",
    "phase, bilinear BTT",
    "phase of two seasons, or near",
)
SCALED = ("standard", "phase")  # arms that were trained at several widths


def _rows(folder: Path) -> list[Record]:
    order = list(ARMS)
    rows = records.read(folder / FILE, KEY)
    return sorted(rows, key=lambda row: (row["steps"], order.index(row["arm"]), row["seed"]))


def _percent(ratios: Iterable[float]) -> str:
    """Geometric mean of ratios as a change in percent, with its 95% interval where there are three
    or more.
    """
    logs = [log(ratio) for ratio in ratios]
    middle, *ends = (
        f"{100 * (exp(value) - 1):+.1f}" for value in (fmean(logs), *(interval(logs) or ()))
    )
    return f"{middle} ({ends[0]},{ends[1]})" if ends else middle


def _change(both: list[tuple[Record, Record]], metric: int) -> str:
    """Change of a score over tasks, each the mean over seeds."""
    tasks = both[0][0]["tasks"]
    return _percent(
        exp(fmean(log(a["tasks"][t][metric] / b["tasks"][t][metric]) for a, b in both))
        for t in tasks
    )


def study(folder: Path) -> str:
    """A line an arm: its scores, and how far they are from those of standard attention on the same
    seeds.
    """
    rows = [row for row in _rows(folder) if row["d_model"] == WIDTH]
    if not rows:
        return render.NONE
    parts = []
    for (steps,), of in records.by(rows, "steps").items():
        base = {row["seed"]: row for row in of if row["arm"] == BASE}
        body = []
        for (arm,), some in records.by(of, "arm").items():
            if arm in WITHIN_CHANCE:
                continue
            both = [(row, base[row["seed"]]) for row in some if row["seed"] in base]
            line = [arm, f"{render.mean(some, 'validation'):.4f}"]
            if arm == BASE or not both:
                line += ["", "", ""]
            else:
                line += [_percent(a["validation"] / b["validation"] for a, b in both)]
                line += [_change(both, 0), _change(both, 1)]
            body.append((render.mean(some, "validation"), line))
        head = ["attention", "validation loss"]
        head += ["loss, %", "MASE, %", "WQL, %"]
        parts.append(f"{steps:,} steps\n\n{render.lines(head, (line for _, line in sorted(body)))}")
    return "\n\n".join([*parts, records.commits(rows)])


def long_run(folder: Path) -> str:
    """A line for each step shown that both runs have reached, and for each whose states were judged
    on development tasks; for the last one where there is none.
    """
    ours, standard = long.curves().values()
    if not standard:
        return render.NONE
    # The curve of the recipe lacks some points.
    steps = ours.keys() & standard.keys()
    path = folder / long.FILE
    rows = records.read(path, long.KEY) if path.exists() else []
    judged = {(row["step"], row["attention"]): row for row in rows}
    compared_steps = {row["step"] for row in rows} or {max(steps)}
    shown = {*long.SHOWN, *compared_steps} & steps
    body = []
    for step in sorted(shown):
        change = 100 * (standard[step] / ours[step] - 1)
        line = [f"{step:,}", f"{ours[step]:.4f}", f"{standard[step]:.4f}", f"{change:+.1f}"]
        if (step, BASE) in judged:
            both = [(judged[step, BASE], judged[step, "levels"])]
            line += [_change(both, 0), _change(both, 1)]
        else:
            line += ["", ""]
        body.append(line)
    head = ["steps", "levels", "standard", "loss, %", "MASE, %", "WQL, %"]
    table = render.lines(head, body)
    return f"{table}\n\n{records.commits(rows)}" if rows else table


def scaling(folder: Path) -> list[render.Panel]:
    """Validation loss against multiply-adds at several widths, a panel a number of steps."""
    panels = []
    for (steps,), of in records.by(_rows(folder), "steps").items():
        lines = {}
        for arm in SCALED:
            widths = records.by(
                sorted((r for r in of if r["arm"] == arm), key=lambda r: r["d_model"]), "d_model"
            )
            points = []
            for some in widths.values():
                losses = [row["validation"] for row in some]
                points.append(
                    [
                        some[0]["multiply_adds"] / 1e6,
                        sum(losses) / len(losses),
                        min(losses),
                        max(losses),
                    ]
                )
            lines[arm] = points
        if min(map(len, lines.values())) >= 2:
            labels = {
                "x": "million multiply-adds of a forecast",
                "y": "validation loss",
                "log": "x",
            }
            panels.append({"title": f"{steps:,} steps", **labels, "lines": lines})
    return panels


def bounds(folder: Path) -> str:
    """A line a law: the loss of each set of weights above that of the true quantiles, by length of
    the context.
    """
    path = folder / floor.FILE
    rows = records.read(path, floor.KEY) if path.exists() else []
    if not rows:
        return render.NONE
    sizes = list(dict.fromkeys((row["weights"], row["n_steps"]) for row in rows))
    head = ["law", *(f"{weights}, {n_steps:,} steps" for weights, n_steps in sizes)]
    body = []
    for (law,), some in records.by(rows, "law").items():
        ratios = {(row["weights"], row["n_steps"]): row["ratio"] for row in some}
        body.append(
            [
                law,
                *(f"{100 * (ratios[size] - 1):+.1f}%" if size in ratios else "" for size in sizes),
            ]
        )
    return f"{render.lines(head, body)}\n\n{records.commits(rows)}"


def across(folder: Path) -> str:
    """A line for what is read and taken off the target: its cost, and its loss over that of the
    weights of the start, which read no columns.
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
    compared = []
    for row in rows:
        for way, losses in row["losses"].items():
            ratios = {name: loss / base[name] for name, loss in losses.items()}
            compared.append({**row, **ratios, "way": way})

    return sorted(compared, key=lambda row: (row["seconds"], groups.WAYS.index(row["way"])))


def _across_line(rows: list[Record]) -> list[str]:
    """Cells of a line; of ratios the mean over seeds, of that of all couplings also the least and
    the greatest.
    """
    whole = [row[COUPLED[0]] for row in rows]
    first = rows[0]
    line = [
        first["arm"] if first["seconds"] else "untrained",
        first["way"],
        f"{render.mean(rows, 'multiply_adds') / 1e6:.1f}",
    ]
    line += [
        f"{render.mean(rows, 'core_seconds'):.0f}",
        *(f"{render.mean(rows, name):.3f}" for name in COUPLED),
    ]
    if len(rows) > 1:
        line[4] += f" ({min(whole):.3f},{max(whole):.3f})"
    return line


BLOCKS = {
    ("docs/findings.md", "study"): study,
    ("docs/findings.md", "long"): long_run,
    ("docs/findings.md", "floor"): bounds,
    ("docs/findings.md", "groups"): across,
}
PICTURES = {"pretraining_study.svg": scaling}
