"""Did the best learning rate stay put? Renders docs/width_sweep.md and its picture from width_sweep.py's records."""

import importlib.util
from itertools import product
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

Record = dict[str, Any]


# Its own folder is not searched for modules (PYTHONSAFEPATH), so neighbours are loaded by their paths.
def _neighbour(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pictures, tables = _neighbour("suite_pictures"), _neighbour("tables")
drawings = pictures.drawings

FILE = "width_sweep.jsonl"
PICTURE = "width_sweep.svg"
_SIZES = ("steps", "batch", "length", "n_layers", "n_heads")
_CELL = ("structure", "rule", "width", "log2_rate", "seed")
_FIELDS = {
    *("kind", *_CELL, *_SIZES, "text", "loss", "steps_done", "parameters", "seconds", "cpu_seconds"),
    *("commit", "versions", "machine", "finished"),
}
_RULES = ("with", "without")
# As the script lists them; what it runs by another name comes behind.
_ABOUT = {
    "standard": "dot products of K features a head",
    "mlr": "distance-dependent MLR over positions",
    "mlr_matrix": "bilinear, a multi-level low-rank matrix a head",
    "btt": "bilinear, a block tensor train of rank one a head, which is a Monarch matrix",
    "monarch": "bilinear, a Monarch matrix a head",
    "butterfly": "bilinear, a butterfly matrix a head",
    "kronecker": "bilinear, a Kronecker product a head",
    "mlbtc": "bilinear, several levels of block tensor trains a head",
}
_COLOURS = ("#56b4e9", "#e69f00", "#d55e00", "#000000")
_SHOWN = 1.0  # nats above the least loss that a panel shows
_HEAD = """\
<!-- written by benchmarks/report.py from benchmarks/results/width_sweep.jsonl; change the records, not this page -->

# Rates and widths

Does the best learning rate stay put when a network grows wider? By the maximal-update rule it should (Yang et al. 2022,
Tensor Programs V): a dense map of n inputs learns at a rate proportional to 1 / n, and scores are divided by the number
of their features, so that a step changes what a layer says by as much at any width. Structured matrices need a rate for
each core, by the fan-in of that core (Qiu et al. 2024). Expected is therefore: with the rule the valleys of the curves
below stand above one another, and the rate of a narrow network serves a wide one; without it the best rate falls as the
width grows, at most in proportion to it.

"With the rule" means the rates of `tsattn.nn.rates.maximal_update_groups` and scores divided by their features.
"Without" means one rate for all parameters and scores divided by the square root of their features. Start values are
the same on both sides, so this is a test of rates and scales alone. Scores of `mlr` divide each level by its rank on
both sides; there, only the rates differ.

The task is to guess the next letter of Python's own help texts. The score is the loss in nats a letter, a mean over the
last tenth of the steps, each of which brings text drawn anew. These are short trainings: they say where the best rate
lies early on, not which structure learns best in the end.

`python benchmarks/width_sweep.py` runs what is not recorded yet; `--structure`, `--rule`, `--width`, `--rate`, `--seed`
and `--steps` choose, and `--width 256` and more seeds are to be asked for.
"""
_TABLE_NOTE = """\
A cell holds the best rate as a power of two and, in brackets, the least loss. Means over seeds; the rate is that of the
parabola through the best rate and its two neighbours. A star marks a best rate at the end of the grid, beyond which it
may lie. "Shift" is the best rate of the widest network less that of the narrowest, in powers of two. "Price" is what
the widest network loses, in nats, by taking the rate on the grid that was best for the narrowest."""
_PICTURE_NOTE = """\
Loss against rate, a line a width; a cross at the upper edge is a run that ended in no number, and what lies more than a
nat above the least loss of its structure is not shown."""


class Optimum(NamedTuple):
    """Where a curve is lowest.

    Args:
        log2_rate: Of the vertex of the parabola through three points, or of the lowest point where there are no three.
        on_grid: Of the lowest point.
        loss: At the lowest point.
        at_edge: Is there no rate to one side of it?
    """

    log2_rate: float
    on_grid: int
    loss: float
    at_edge: bool


Curve = dict[int, float | None]


def read_rows(path: Path) -> list[Record]:
    """The records of width_sweep.py, each whole, known once, and all of one task.

    Raises:
        ValueError: If a line is damaged, says nothing of its origin, is there twice, or is of another task.
    """
    rows: list[Record] = tables.read_kinds(path, {"run": _FIELDS}, "width_sweep.py")
    for name in (*_SIZES, "text"):
        tables.check_one(rows, path.name, name, lambda row, name=name: row[name])
    tables.check_one(rows, path.name, "torch", lambda row: row["versions"]["torch"])
    tables.check_once(rows, path.name, *_CELL)
    return rows


# --- numbers ----------------------------------------------------------------------------------------------------


def curve(rows: list[Record], structure: str, rule: str, width: int) -> Curve:
    """Loss by rate, means over the seeds that every rate has; ``None`` where one of them ended in no number."""
    mine = [row for row in rows if (row["structure"], row["rule"], row["width"]) == (structure, rule, width)]
    by_rate: dict[int, dict[int, float | None]] = {}
    for row in mine:
        by_rate.setdefault(row["log2_rate"], {})[row["seed"]] = row["loss"]
    if not by_rate:
        return {}
    most = max(len(of) for of in by_rate.values())
    whole = {rate: of for rate, of in by_rate.items() if len(of) == most}
    found: Curve = {}
    for rate in sorted(whole):
        losses = [loss for loss in whole[rate].values() if loss is not None]
        found[rate] = fmean(losses) if len(losses) == most else None
    return found


def optimum(points: Curve) -> Optimum | None:
    """Where a curve is lowest; ``None`` where no run ended in a number."""
    known = {rate: loss for rate, loss in points.items() if loss is not None}
    if not known:
        return None
    best = min(known, key=lambda rate: known[rate])
    middle, low, high = known[best], known.get(best - 1), known.get(best + 1)
    shift = 0.0
    if low is not None and high is not None and low + high > 2 * middle:
        shift = 0.5 * (low - high) / (low - 2 * middle + high)
    return Optimum(best + shift, best, middle, best in (min(points), max(points)))


def price(narrow: Curve, wide: Curve) -> float | None:
    """What the wide network loses by the narrow one's best rate; ``None`` where that gave no number or was not run."""
    there, here = optimum(narrow), optimum(wide)
    if there is None or here is None:
        return None
    loss = wide.get(there.on_grid)
    return None if loss is None else loss - here.loss


def _named(rows: list[Record], field: str) -> list[Any]:
    found = {row[field] for row in rows}
    if field == "width":
        return sorted(found)
    order = list(_ABOUT) if field == "structure" else list(_RULES)
    return sorted(found, key=order.index)


def _ends(rows: list[Record], structure: str, rule: str) -> tuple[Curve, Curve] | None:
    """The curves of the narrowest and the widest network, if there are two."""
    widths = _named(rows, "width")
    curves = [curve(rows, structure, rule, width) for width in widths]
    told = [points for points in curves if points]
    return (told[0], told[-1]) if len(told) > 1 and curves[0] and curves[-1] else None


def shifts(rows: list[Record], rule: str) -> dict[str, float]:
    """By structure, the best rate of the widest network less that of the narrowest, in powers of two."""
    found = {}
    for structure in _named(rows, "structure"):
        ends = _ends(rows, structure, rule)
        if ends and (narrow := optimum(ends[0])) and (wide := optimum(ends[1])):
            found[structure] = wide.log2_rate - narrow.log2_rate
    return found


# --- the page ---------------------------------------------------------------------------------------------------


def page(rows: list[Record]) -> str:
    """docs/width_sweep.md: what is seen, the best rates, and the picture."""
    if not rows:
        return f"{_HEAD}\n{tables.NONE}\n"
    sizes = rows[0]
    about = (
        f"{sizes['n_layers']} blocks, {sizes['n_heads']} heads, {sizes['length']} letters, {sizes['batch']} pieces a"
        f" step, {sizes['steps']} steps; seeds {', '.join(map(str, sorted({row['seed'] for row in rows})))}."
    )
    lines = [_HEAD, about, "", *(f"- `{name}`: {_ABOUT[name]}." for name in _named(rows, "structure")), ""]
    lines += ["## What is seen", "", *_seen(rows), ""]
    lines += ["## Best rates", "", _TABLE_NOTE, "", *_table(rows), "", *_diverged(rows), ""]
    lines += ["## Curves", "", _PICTURE_NOTE, "", f"![Loss against rate](pictures/{PICTURE})", ""]
    minutes = sum(row["cpu_seconds"] for row in rows) / 60
    return "\n".join([*lines, f"All runs took {minutes:.0f} minutes of processor time. {tables.origin(rows)}", ""])


def _seen(rows: list[Record]) -> list[str]:
    found = {rule: shifts(rows, rule) for rule in _RULES}
    widths = _named(rows, "width")
    lines = []
    for rule, of in found.items():
        if not of:
            continue
        values = sorted(of.values())
        costs = [price(*ends) for name in of if (ends := _ends(rows, name, rule))]
        told = [cost for cost in costs if cost is not None]
        text = (
            f"- {rule.capitalize()} the rule, from width {widths[0]} to {widths[-1]} the best rate moves by"
            f" {values[0]:+.1f} to {values[-1]:+.1f} powers of two, median {median(values):+.1f}, over {len(values)}"
            " structures"
        )
        lines.append(f"{text}; the median price is {median(told):.3f} nats." if told else f"{text}.")
    if both := [name for name in found["with"] if name in found["without"]]:
        steadier = [name for name in both if abs(found["with"][name]) < abs(found["without"][name])]
        others = [f"`{name}`" for name in both if name not in steadier]
        text = f"- The best rate moves less with the rule than without for {len(steadier)} of {len(both)} structures"
        lines.append(f"{text}, not for {_and(others)}." if others else f"{text}.")
    return lines or ["Too few runs are recorded to compare widths."]


def _and(names: list[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _table(rows: list[Record]) -> list[str]:
    widths = _named(rows, "width")
    lines = tables.head(2, "structure", "rule", *(f"width {width}" for width in widths), "shift", "price")
    for structure, rule in product(_named(rows, "structure"), _named(rows, "rule")):
        curves = [curve(rows, structure, rule, width) for width in widths]
        if not any(curves):
            continue
        moved = shifts(rows, rule).get(structure)
        ends = _ends(rows, structure, rule)
        cost = price(*ends) if ends else None
        last = ("" if moved is None else f"{moved:+.1f}", "" if cost is None else f"{cost:.3f}")
        lines.append(tables.line(structure, rule, *(_cell(points) for points in curves), *last))
    return lines


def _cell(points: Curve) -> str:
    found = optimum(points)
    if found is None:
        return "no number" if points else ""
    return f"{found.log2_rate:.1f}{'*' if found.at_edge else ''} ({found.loss:.3f})"


def _diverged(rows: list[Record]) -> list[str]:
    lost = [row for row in rows if row["loss"] is None]
    if not lost:
        return [f"All of {len(rows)} runs ended in a number."]
    places = sorted({(row["structure"], row["rule"], row["width"]) for row in lost})
    named = []
    for at in places:
        rates = sorted({row["log2_rate"] for row in lost if (row["structure"], row["rule"], row["width"]) == at})
        named.append(f"`{at[0]}` {at[1]} the rule, width {at[2]}, rates {', '.join(map(str, rates))}")
    return [f"{len(lost)} of {len(rows)} runs ended in no number: {'; '.join(named)}."]


# --- the picture ------------------------------------------------------------------------------------------------


def numbers(rows: list[Record]) -> Any:
    """By structure, rule and width, losses by rate; ``None`` where there is nothing to draw."""
    found: Record = {}
    for structure, rule, width in product(_named(rows, "structure"), _named(rows, "rule"), _named(rows, "width")):
        if points := curve(rows, structure, rule, width):
            of = [[rate, None if loss is None else round(loss, 6)] for rate, loss in points.items()]
            found.setdefault(structure, {}).setdefault(rule, {})[str(width)] = of
    return found or None


def _draw(due: Any) -> Any:
    figure, panels = pictures.grid(len(due), 4.2, rows_each=2)
    widths = sorted({width for of in due.values() for by in of.values() for width in by}, key=int)
    colours = {width: _COLOURS[number % len(_COLOURS)] for number, width in enumerate(widths)}
    for pair, (structure, of) in zip(panels, due.items(), strict=True):
        losses = [loss for by in of.values() for points in by.values() for _, loss in points if loss is not None]
        for axes, rule in zip(pair, _RULES, strict=True):
            for width, points in of.get(rule, {}).items():
                _line(axes, points, colours[width], width)
            if losses:
                low = min(losses)
                axes.set_ylim(low - 0.05, min(max(losses), low + _SHOWN) + 0.05)
            axes.set(title=f"{structure}, {rule}", ylabel="loss [nats]", xlabel="log2 of the rate")
            axes.grid(alpha=0.3)
    named: dict[str, Any] = {}
    for axes in (axes for pair in panels for axes in pair):
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    order = [width for width in widths if width in named]
    figure.legend([named[w] for w in order], order, title="width", loc="outside right center", frameon=False)
    return figure


def _line(axes: Any, points: list[list[Any]], colour: str, width: str) -> None:
    """One width: its curve, the lowest point larger, and crosses for what has no number."""
    nan = float("nan")
    axes.plot(
        [r for r, _ in points], [nan if y is None else y for _, y in points], "o-", ms=3, color=colour, label=width
    )
    known = [point for point in points if point[1] is not None]
    if known:
        rate, loss = min(known, key=lambda point: point[1])
        axes.plot([rate], [loss], "o", ms=7, mfc="none", color=colour)
    if lost := [rate for rate, loss in points if loss is None]:
        axes.plot(lost, [1.0] * len(lost), "x", color=colour, transform=axes.get_xaxis_transform(), clip_on=False)


PICTURES = {PICTURE: drawings.Drawing(numbers, _draw)}
