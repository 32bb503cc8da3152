"""Tables and pictures of docs/paper.md: the paper's experiments as they were run here."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import records
import render
from paper import etth1, in_context, language_model, width_sweep
from records import Record
from suite.page import interval

# Loss by the logarithm of the rate to base 2; None where training diverged.
Curve = dict[int, float | None]
# Runs by width or horizon, and variant.
Cells = dict[tuple[int, str], list[Record]]
# Losses of a panel reach from the least loss less the first number to the least plus the second.
_LOSS_BELOW = 0.05
_LOSS_ABOVE = 0.6


def read_in_context(folder: Path) -> list[Record]:
    """The runs that count, at the rate that each variant and width chose."""
    return in_context.chosen(records.read(folder / in_context.FILE, in_context.KEY))


def regression(folder: Path) -> str:
    """Mean errors: a line a task and width, a column a variant."""
    runs = read_in_context(folder)
    if not runs:
        return render.NONE
    variants = {row["variant"] for row in runs}
    names = [name for name in in_context.VARIANTS if name in variants]
    lines = []
    for key, rows in records.by(runs, *in_context.SETTING, "width").items():
        by_variant = records.by(rows, "variant")
        width = key[-1]
        line = [_task(rows[0]), str(width)]
        for name in names:
            variant_rows = by_variant.get((name,))
            line.append(render.spread(variant_rows, "error", 3) if variant_rows else "")
        lines.append(line)
    return f"{render.lines(['task', 'width', *names], lines, left=1)}\n\n{records.commits(runs)}"


def _task(row: Record) -> str:
    return f"d {row['dim']} in {row['layout']}, {row['steps']:,} x {row['batch']}"


def by_point(folder: Path) -> list[render.Panel]:
    """By task, at its greatest width: error by the number of points before it, with the least and
    the largest over seeds.
    """
    panels = []
    for task_rows in records.by(read_in_context(folder), *in_context.SETTING).values():
        width = max(row["width"] for row in task_rows)
        widest = [row for row in task_rows if row["width"] == width]
        lines = {}
        for (name,), runs in records.by(widest, "variant").items():
            points = zip(*(row["by_point"] for row in runs), strict=True)
            lines[name] = [[number, *_range(errors)] for number, errors in enumerate(points)]
        panel = {
            "title": f"{_task(task_rows[0])}, width {width}",
            "x": "points seen",
            "y": "error",
            "ylim": [-0.05, 1.3],
            "lines": lines,
        }
        panels.append(panel)
    return panels


def _range(values: Sequence[float]) -> list[float]:
    """Mean, least and largest value."""
    return [fmean(values), min(values), max(values)]


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


def settled(rows: list[Record]) -> Cells:
    """Runs with the rate that was chosen for their variant, by width and variant, in the order of
    the variants.
    """
    rates = {row["variant"]: row["chosen"] for row in rows if row["kind"] == "rate"}
    runs = [row for row in rows if row["kind"] == "run"]
    final = [row for row in runs if row["rate"] == rates.get(row["variant"])]
    return _in_order(records.by(final, "width", "variant"), language_model.VARIANTS)


def _in_order(cells: Cells, variants: Sequence[str]) -> Cells:
    """Cells in the order of their numbers and then of the variants."""
    keys = sorted(cells, key=lambda key: (key[0], variants.index(key[1])))
    return {key: cells[key] for key in keys}


def at_equal_compute(cells: Cells, key: tuple[int, str]) -> float | None:
    """Mean test loss of a cell less that of standard attention at equal compute: on its line over
    the logarithm of multiply-adds; ``None`` beyond the ends of the line.
    """
    line = []
    for (_, variant), rows in cells.items():
        if variant == "standard":
            line.append((math.log(rows[0]["multiply_adds"]), render.mean(rows, "test")))
    line.sort()
    compute = math.log(cells[key][0]["multiply_adds"])
    for (left, left_loss), (right, right_loss) in pairwise(line):
        if left <= compute <= right:
            share = (compute - left) / (right - left)
            standard_loss = left_loss + (right_loss - left_loss) * share
            return float(render.mean(cells[key], "test") - standard_loss)
    return None


def text(folder: Path) -> str:
    """Test losses by width, their differences from standard attention at equal compute, and the
    size of the cache.
    """
    rows = read_language_model(folder)
    cells = settled(rows)
    if not cells:
        return render.NONE
    widths = sorted({width for width, _ in cells})
    caches = {row["variant"]: row for row in rows if row["kind"] == "cache"}
    lines = []
    for name in language_model.VARIANTS:
        losses = [_loss_text(cells, (width, name)) for width in widths]
        differences = [_difference_text(cells, (width, name)) for width in widths]
        lines.append([name, _cache_share(caches.get(name)), *losses, *differences])
    head = ["variant", "cache"]
    head += [f"width {width}" for width in widths]
    head += [f"apart at {width}" for width in widths]
    return f"{render.lines(head, lines)}\n\n{records.commits(rows)}"


def _loss_text(cells: Cells, key: tuple[int, str]) -> str:
    """Test loss of a cell, bold where it is the least of its width; empty without runs."""
    rows = cells.get(key)
    if not rows:
        return ""
    loss = render.spread(rows, "test", 3)
    same_width = [others for (width, _), others in cells.items() if width == key[0]]
    least = min(render.mean(others, "test") for others in same_width)
    return f"**{loss}**" if render.mean(rows, "test") == least else loss


def _difference_text(cells: Cells, key: tuple[int, str]) -> str:
    """Difference of a cell from standard attention at equal compute; empty where there is none."""
    if key not in cells or key[1] == "standard":
        return ""
    difference = at_equal_compute(cells, key)
    return "" if difference is None else f"{difference:+.3f}"


def _cache_share(row: Record | None) -> str:
    """Bytes of a variant's cache over those of a full one."""
    if row is None:
        return ""
    n_bytes = row["key_bytes"] + row["value_bytes"]
    full_bytes = row["full_key_bytes"] + row["full_value_bytes"]
    return f"{n_bytes / full_bytes:.2f}"


def compute(folder: Path) -> list[render.Panel]:
    """Test loss against multiply-adds of a sequence, with the least and the largest over seeds."""
    lines: dict[str, list[list[float]]] = {}
    for (_, name), rows in settled(read_language_model(folder)).items():
        losses = [row["test"] for row in rows]
        lines.setdefault(name, []).append([rows[0]["multiply_adds"], *_range(losses)])
    panel = {
        "title": "",
        "x": "multiply-adds of a sequence",
        "y": "test loss [nats a character]",
        "log": "x",
        "lines": lines,
    }
    return [panel] if lines else []


def read_width_sweep(folder: Path) -> list[Record]:
    """The records of width_sweep.py, all of one task."""
    alike = ("steps", "batch", "length", "n_layers", "n_heads", "text", "torch")
    return records.read(folder / width_sweep.FILE, width_sweep.KEY, alike=alike)


def curve(rows: Iterable[Record], structure: str, rule: str, width: int) -> Curve:
    """Loss by rate, mean over seeds, for the rates that were run with the most seeds; ``None``
    where one of the seeds diverged.
    """
    by_network = records.by(rows, "structure", "rule", "width")
    runs = by_network.get((structure, rule, width), [])
    by_rate = records.by(sorted(runs, key=lambda row: row["log2_rate"]), "log2_rate")
    most_seeds = max((len(rate_runs) for rate_runs in by_rate.values()), default=0)
    losses: Curve = {}
    for (rate,), rate_runs in by_rate.items():
        if len(rate_runs) == most_seeds:
            diverged = any(row["loss"] is None for row in rate_runs)
            losses[rate] = None if diverged else render.mean(rate_runs, "loss")
    return losses


def optimum(points: Curve) -> tuple[float, int] | None:
    """The rate at which a curve is lowest: by the parabola through three points, and on
    the grid.
    """
    losses = {rate: loss for rate, loss in points.items() if loss is not None}
    if not losses:
        return None
    best = min(losses, key=lambda rate: losses[rate])
    middle = losses[best]
    low = losses.get(best - 1)
    high = losses.get(best + 1)
    if low is None or high is None or low + high <= 2 * middle:
        return float(best), best
    return best + 0.5 * (low - high) / (low - 2 * middle + high), best


def price(narrow: Curve, wide: Curve) -> float | None:
    """Loss of the wide network at the narrow one's best rate less its least loss; ``None`` where
    that rate diverged or was not run.
    """
    narrow_best = optimum(narrow)
    wide_best = optimum(wide)
    if narrow_best is None or wide_best is None:
        return None
    loss = wide.get(narrow_best[1])
    least_loss = wide[wide_best[1]]
    if loss is None or least_loss is None:
        return None
    return loss - least_loss


def rates(folder: Path) -> str:
    """Best rates by structure, rule and width, and what the narrow network's rate costs
    the widest.
    """
    rows = read_width_sweep(folder)
    if not rows:
        return render.NONE
    all_widths = {row["width"] for row in rows}
    widths = [min(all_widths), max(all_widths)]
    structures = {row["structure"] for row in rows}
    lines = []
    for structure in width_sweep.STRUCTURES:
        if structure not in structures:
            continue
        line = [structure]
        for rule in width_sweep.RULES:
            narrow, wide = (curve(rows, structure, rule, width) for width in widths)
            cost = price(narrow, wide)
            line += [_rate(narrow), _rate(wide), "" if cost is None else f"{cost:.3f}"]
        lines.append(line)
    columns = (*map(str, widths), "price")
    head = [f"{rule}, {column}" for rule in width_sweep.RULES for column in columns]
    minutes = sum(row["cpu_seconds"] for row in rows) / 60
    table = render.lines(["structure", *head], lines)
    return (
        f"{table}\n\n{len(rows)} runs, {minutes:.0f} minutes of processor time."
        f" {records.commits(rows)}"
    )


def _rate(points: Curve) -> str:
    """The best rate of a curve, with a star where it is the first or the last one."""
    best = optimum(points)
    if best is None:
        return "no number" if points else ""
    exact_rate, grid_rate = best
    is_at_end = grid_rate in (min(points), max(points))
    return f"{exact_rate:.1f}" + ("*" if is_at_end else "")


def valleys(folder: Path) -> list[render.Panel]:
    """By structure and rule: loss against rate, a line a width; losses far above the least are cut
    off.
    """
    rows = read_width_sweep(folder)
    widths = sorted({row["width"] for row in rows})
    panels = []
    for structure, rule in records.by(rows, "structure", "rule"):
        lines = {}
        for width in widths:
            points = curve(rows, structure, rule, width)
            line = [[rate, loss] for rate, loss in points.items() if loss is not None]
            if line:
                lines[f"width {width}"] = line
        least = min((loss for line in lines.values() for _, loss in line), default=0.0)
        panel = {
            "title": f"{structure}, {rule} the rule",
            "x": "log2 of the rate",
            "y": "loss [nats]",
            "columns": 4,
            "ylim": [least - _LOSS_BELOW, least + _LOSS_ABOVE],
            "lines": lines,
        }
        panels.append(panel)
    return panels


def chosen(rows: list[Record]) -> Cells:
    """By horizon and variant, the runs at the rate that validation chose, one a seed."""
    cells = {}
    for key, runs in records.by(rows, "horizon", "variant").items():
        rate = etth1.best_rate(runs)
        best_runs = [row for row in runs if row["learning_rate"] == rate]
        cells[key] = sorted(best_runs, key=lambda row: row["seed"])
    return _in_order(cells, list(etth1.VARIANTS))


def change(cells: Cells, key: tuple[int, str]) -> list[float]:
    """Change of the test MAE from standard attention in percent, seed by seed, over the seeds that
    both have.
    """
    horizon, _ = key
    errors = _errors_by_seed(cells.get(key, []))
    standard_errors = _errors_by_seed(cells.get((horizon, etth1.STANDARD), []))
    seeds = [seed for seed in errors if seed in standard_errors]
    if not seeds:
        return []
    mean_error = fmean(standard_errors[seed] for seed in seeds)
    return [100 * (errors[seed] - standard_errors[seed]) / mean_error for seed in seeds]


def _errors_by_seed(runs: list[Record]) -> dict[int, float]:
    return {row["seed"]: row["test_mae"] for row in runs}


def forecasting(folder: Path) -> str:
    """Errors by horizon and variant, and their change from standard attention."""
    rows = records.read(folder / etth1.FILE, etth1.KEY, alike=("settings", "torch"))
    cells = chosen(rows)
    if not cells:
        return render.NONE
    lines = []
    for key, runs in cells.items():
        horizon, variant = key
        percents = change(cells, key) if variant != etth1.STANDARD else []
        mean_text = f"{fmean(percents):+.2f}" if percents else ""
        span = interval(percents)
        span_text = f"{span[0]:+.2f} to {span[1]:+.2f}" if span else ""
        error = render.spread(runs, "test_mae")
        lines.append([str(horizon), etth1.VARIANTS[variant], error, mean_text, span_text])
    head = ["horizon", "variant", "test MAE", "change in %", "95% interval"]
    return f"{render.lines(head, lines, left=2)}\n\n{records.commits(rows)}"


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
