"""Tables and pictures of docs/paper.md: the paper's experiments as they were run here."""

import math
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import records
import render
from paper import etth1, in_context, language_model, width_sweep
from records import Record
from suite.page import interval

Curve = dict[int, float | None]


def read_in_context(folder: Path) -> list[Record]:
    """The runs that count, at the rate that each variant and width chose."""
    return in_context.chosen(records.read(folder / in_context.FILE, in_context.KEY))


def regression(folder: Path) -> str:
    """Mean errors: a line a task and width, a column a variant."""
    runs = read_in_context(folder)
    if not runs:
        return render.NONE
    names = [name for name in in_context.VARIANTS if any(row["variant"] == name for row in runs)]
    body = []
    for key, some in records.by(runs, *in_context.SETTING, "width").items():
        of = records.by(some, "variant")
        errors = [render.spread(of[name,], "error", 3) if (name,) in of else "" for name in names]
        body.append([_task(some[0]), str(key[-1]), *errors])
    return f"{render.lines(['task', 'width', *names], body, left=1)}\n\n{records.commits(runs)}"


def _task(row: Record) -> str:
    return f"d {row['dim']} in {row['layout']}, {row['steps']:,} x {row['batch']}"


def by_point(folder: Path) -> list[render.Panel]:
    """By task, at its greatest width: error by the number of points seen, with the least and the
    most over seeds.
    """
    panels = []
    for some in records.by(read_in_context(folder), *in_context.SETTING).values():
        width = max(row["width"] for row in some)
        lines = {}
        for (name,), runs in records.by(
            (row for row in some if row["width"] == width), "variant"
        ).items():
            points = zip(*(row["by_point"] for row in runs), strict=True)
            lines[name] = [[n, fmean(each), min(each), max(each)] for n, each in enumerate(points)]
        labels = {
            "title": f"{_task(some[0])}, width {width}",
            "x": "points seen",
            "y": "error",
            "ylim": [-0.05, 1.3],
        }
        panels.append({**labels, "lines": lines})
    return panels


def read_language_model(folder: Path) -> list[Record]:
    """All records of language_model.py."""
    key = (
        "kind",
        "variant",
        "width",
        *language_model.SIZES,
        "rate",
        "seed",
        "rates",
        "text_sha256",
    )
    return records.read(folder / language_model.FILE, key)


def settled(rows: list[Record]) -> dict[tuple[int, str], list[Record]]:
    """Runs with the rate that was chosen for their variant, by width and variant, in the order of
    the variants.
    """
    rate = {row["variant"]: row["chosen"] for row in rows if row["kind"] == "rate"}
    final = [
        row for row in rows if row["kind"] == "run" and row["rate"] == rate.get(row["variant"])
    ]
    order = language_model.VARIANTS.index
    return dict(
        sorted(
            records.by(final, "width", "variant").items(),
            key=lambda item: (item[0][0], order(item[0][1])),
        )
    )


def at_equal_compute(
    cells: dict[tuple[int, str], list[Record]], at: tuple[int, str]
) -> float | None:
    """Mean test loss less that of standard attention on its line over the logarithm of
    multiply-adds.
    """
    line = sorted(
        (math.log(some[0]["multiply_adds"]), render.mean(some, "test"))
        for (_, variant), some in cells.items()
        if variant == "standard"
    )
    here = math.log(cells[at][0]["multiply_adds"])
    for (left, low), (right, high) in pairwise(line):
        if left <= here <= right:
            return float(
                render.mean(cells[at], "test")
                - (low + (high - low) * (here - left) / (right - left))
            )
    return None


def text(folder: Path) -> str:
    """Test losses by width, beside those of standard attention at equal compute, and the cache."""
    rows = read_language_model(folder)
    cells = settled(rows)
    if not cells:
        return render.NONE
    widths = sorted({width for width, _ in cells})
    best = {
        w: min(render.mean(some, "test") for (at, _), some in cells.items() if at == w)
        for w in widths
    }
    cache = {row["variant"]: row for row in rows if row["kind"] == "cache"}
    body = []
    for name in language_model.VARIANTS:
        losses = []
        apart = []
        for at in ((width, name) for width in widths):
            some = cells.get(at, [])
            told = render.spread(some, "test", 3) if some else ""
            losses.append(
                f"**{told}**" if some and render.mean(some, "test") == best[at[0]] else told
            )
            equal = at_equal_compute(cells, at) if some and name != "standard" else None
            apart.append("" if equal is None else f"{equal:+.3f}")
        body.append([name, _share(cache.get(name)), *losses, *apart])
    head = ["variant", "cache", *(f"width {w}" for w in widths), *(f"apart at {w}" for w in widths)]
    return f"{render.lines(head, body)}\n\n{records.commits(rows)}"


def _share(row: Record | None) -> str:
    if row is None:
        return ""
    kept_bytes = row["key_bytes"] + row["value_bytes"]
    full_bytes = row["full_key_bytes"] + row["full_value_bytes"]
    return f"{kept_bytes / full_bytes:.2f}"


def compute(folder: Path) -> list[render.Panel]:
    """Test loss against multiply-adds of a sequence, with the least and the largest over seeds."""
    lines: dict[str, list[list[float]]] = {}
    for (_, name), some in settled(read_language_model(folder)).items():
        losses = [row["test"] for row in some]
        lines.setdefault(name, []).append(
            [some[0]["multiply_adds"], fmean(losses), min(losses), max(losses)]
        )
    labels = {
        "title": "",
        "x": "multiply-adds of a sequence",
        "y": "test loss [nats a character]",
        "log": "x",
    }
    return [{**labels, "lines": lines}] if lines else []


def read_width_sweep(folder: Path) -> list[Record]:
    """The records of width_sweep.py, all of one task."""
    alike = ("steps", "batch", "length", "n_layers", "n_heads", "text", "torch")
    return records.read(folder / width_sweep.FILE, width_sweep.KEY, alike=alike)


def curve(rows: Iterable[Record], structure: str, rule: str, width: int) -> Curve:
    """Loss by rate, means over the seeds that every rate has; ``None`` where one of them ended in
    no number.
    """
    mine = [
        row
        for row in rows
        if (row["structure"], row["rule"], row["width"]) == (structure, rule, width)
    ]
    groups = records.by(sorted(mine, key=lambda row: row["log2_rate"]), "log2_rate")
    most = max((len(some) for some in groups.values()), default=0)
    found: Curve = {}
    for (rate,), some in groups.items():
        if len(some) == most:
            found[rate] = (
                None if any(row["loss"] is None for row in some) else render.mean(some, "loss")
            )
    return found


def optimum(points: Curve) -> tuple[float, int] | None:
    """The rate at which a curve is lowest: by the parabola through three points, and on
    the grid.
    """
    known = {rate: loss for rate, loss in points.items() if loss is not None}
    if not known:
        return None
    best = min(known, key=lambda rate: known[rate])
    middle = known[best]
    low = known.get(best - 1)
    high = known.get(best + 1)
    if low is None or high is None or low + high <= 2 * middle:
        return float(best), best
    return best + 0.5 * (low - high) / (low - 2 * middle + high), best


def price(narrow: Curve, wide: Curve) -> float | None:
    """What the wide network loses by the narrow one's best rate; ``None`` where that gave no number
    or was not run.
    """
    there = optimum(narrow)
    here = optimum(wide)
    if there is None or here is None:
        return None
    loss = wide.get(there[1])
    least = wide[here[1]]
    return None if loss is None or least is None else loss - least


def rates(folder: Path) -> str:
    """Best rates by structure, rule and width, and what the narrow network's rate costs
    the widest.
    """
    rows = read_width_sweep(folder)
    if not rows:
        return render.NONE
    found = sorted({row["width"] for row in rows})
    widths = [found[0], found[-1]]
    body = []
    for structure in [
        name for name in width_sweep.STRUCTURES if any(row["structure"] == name for row in rows)
    ]:
        line = [structure]
        for rule in width_sweep.RULES:
            curves = [curve(rows, structure, rule, width) for width in widths]
            line += [_rate(points) for points in curves]
            cost = price(curves[0], curves[-1])
            line.append("" if cost is None else f"{cost:.3f}")
        body.append(line)
    head = [
        f"{rule}, {name}" for rule in width_sweep.RULES for name in (*map(str, widths), "price")
    ]
    minutes = sum(row["cpu_seconds"] for row in rows) / 60
    table = render.lines(["structure", *head], body)
    return (
        f"{table}\n\n{len(rows)} runs, {minutes:.0f} minutes of processor time."
        f" {records.commits(rows)}"
    )


def _rate(points: Curve) -> str:
    found = optimum(points)
    if found is None:
        return "no number" if points else ""
    return f"{found[0]:.1f}" + ("*" if found[1] in (min(points), max(points)) else "")


def valleys(folder: Path) -> list[render.Panel]:
    """By structure and rule: loss against rate, a line a width; what lies far above the least is
    cut off.
    """
    rows = read_width_sweep(folder)
    panels = []
    for structure, rule in dict.fromkeys((row["structure"], row["rule"]) for row in rows):
        lines = {}
        for width in sorted({row["width"] for row in rows}):
            points = curve(rows, structure, rule, width)
            lines[f"width {width}"] = [
                [rate, loss] for rate, loss in points.items() if loss is not None
            ]
        lines = {name: points for name, points in lines.items() if points}
        least = min((loss for points in lines.values() for _, loss in points), default=0.0)
        labels = {
            "title": f"{structure}, {rule} the rule",
            "x": "log2 of the rate",
            "y": "loss [nats]",
            "columns": 4,
        }
        panels.append({**labels, "ylim": [least - 0.05, least + 0.6], "lines": lines})
    return panels


def chosen(rows: list[Record]) -> dict[tuple[int, str], list[Record]]:
    """By horizon and variant, the runs at the rate that validation chose, one a seed."""
    found = {}
    for key, mine in records.by(rows, "horizon", "variant").items():
        rate = etth1.best_rate(mine)
        found[key] = sorted(
            (row for row in mine if row["learning_rate"] == rate), key=lambda row: row["seed"]
        )
    return {
        key: found[key]
        for key in sorted(found, key=lambda key: (key[0], list(etth1.VARIANTS).index(key[1])))
    }


def change(cells: dict[tuple[int, str], list[Record]], at: tuple[int, str]) -> list[float]:
    """Change of the test MAE from standard attention in percent, seed by seed, over the seeds that
    both have.
    """
    ours, theirs = (
        {row["seed"]: row["test_mae"] for row in cells.get(key, [])}
        for key in (at, (at[0], etth1.STANDARD))
    )
    seeds = [seed for seed in ours if seed in theirs]
    return [100 * (ours[seed] - theirs[seed]) / fmean(theirs[s] for s in seeds) for seed in seeds]


def forecasting(folder: Path) -> str:
    """Errors by horizon and variant, and their change from standard attention."""
    rows = records.read(folder / etth1.FILE, etth1.KEY, alike=("settings", "torch"))
    cells = chosen(rows)
    body = []
    for at, some in cells.items():
        percents = change(cells, at) if at[1] != etth1.STANDARD else []
        span = interval(percents)
        told = [
            f"{fmean(percents):+.2f}" if percents else "",
            f"{span[0]:+.2f} to {span[1]:+.2f}" if span else "",
        ]
        body.append([str(at[0]), etth1.VARIANTS[at[1]], render.spread(some, "test_mae"), *told])
    head = ["horizon", "variant", "test MAE", "change in %", "95% interval"]
    return f"{render.lines(head, body, left=2)}\n\n{records.commits(rows)}" if body else render.NONE


_TABLES = {
    "in_context": regression,
    "language_model": text,
    "width_sweep": rates,
    "etth1": forecasting,
}
BLOCKS = {("docs/paper.md", mark): table for mark, table in _TABLES.items()}
PICTURES = {
    "in_context_points.svg": by_point,
    "language_model.svg": compute,
    "width_sweep.svg": valleys,
}
