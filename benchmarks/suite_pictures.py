"""What do the records of the suite look like? Says what docs/pictures/suite_*.svg show and how they are drawn."""

import importlib.util
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

Record = dict[str, Any]


# Its own folder is not searched for modules (PYTHONSAFEPATH), so neighbours are loaded by their paths.
def _neighbour(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


comparisons, drawings, tables = (_neighbour(name) for name in ("comparisons", "drawings", "tables"))

REFERENCE = "standard"
_POINTS = 48  # of a curve: more would be a large file and look the same
_COLUMNS = 3
_COLOURS = ("#0072b2", "#000000", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


# --- parts of figures -------------------------------------------------------------------------------------------


def grid(count: int, height: float, rows_each: int = 1) -> tuple[Any, list[list[Any]]]:
    """A figure and, for each of a number of panels, its axes from top to bottom."""
    from matplotlib.figure import Figure

    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(3.1 * columns, 4.2) + 1.6, height * rows), layout="constrained")
    axes = figure.subplots(rows * rows_each, columns, squeeze=False)
    panels = [[axes[row * rows_each + n, column] for n in range(rows_each)]
              for row in range(rows) for column in range(columns)]  # fmt: skip
    for unused in chain.from_iterable(panels[count:]):
        unused.set_axis_off()
    return figure, panels[:count]


def looks_of(models: list[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each model: eight colours, then the same with hollow marks and broken lines."""
    looks = {}
    for number, name in enumerate(models):
        again, place = divmod(number, len(_COLOURS))
        colour = _COLOURS[place]
        looks[name] = {
            "color": colour,
            "marker": _MARKERS[place],
            "ls": "--" if again else "-",
            "mfc": "none" if again else colour,
        }
    return looks


def _legend(figure: Any, panels: list[list[Any]]) -> None:
    """One legend at the right for the names of all panels."""
    named: dict[str, Any] = {}
    for axes in chain.from_iterable(panels):
        handles, labels = axes.get_legend_handles_labels()
        named |= {label: handle for handle, label in zip(handles, labels, strict=True) if label not in named}
    order = sorted(named, key=tables.rank)
    figure.legend([named[name] for name in order], order, loc="outside right center", frameon=False)


# --- accuracy against cost --------------------------------------------------------------------------------------


def _cost(records: list[Record]) -> Any:
    """By data set: horizons, and by model its MSE and seconds of training, means over those horizons."""
    found = {}
    for (dataset,), rows in tables.cells([r for r in records if tables.is_trained(r["model"])], "dataset"):
        models, shared = comparisons.block(rows, 2, 1)
        groups = dict(tables.cells(rows, "horizon", "model"))
        points = {
            name: [fmean(tables.mean(groups[h, name], field) for _, h in shared) for field in ("mse", "fit_seconds")]
            for name in models
        }
        if points:
            found[dataset] = {"horizons": [h for _, h in shared], "models": points}
    return found or None


def _draw_cost(numbers: Any) -> Any:
    from matplotlib.ticker import NullFormatter

    figure, panels = grid(len(numbers), 2.8)
    looks = looks_of(sorted({name for of in numbers.values() for name in of["models"]}, key=tables.rank))
    for (axes,), (dataset, of) in zip(panels, numbers.items(), strict=True):
        for name, (mse, seconds) in of["models"].items():
            axes.plot([seconds], [mse], label=name, ms=6, **looks[name] | {"ls": ""})
        horizons = ", ".join(map(str, of["horizons"]))
        axes.set(xscale="log", xlabel="seconds of training", ylabel="MSE", title=f"{dataset} ({horizons})")
        # Within two decades the steps between them would be written as well, one over the other.
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
    _legend(figure, panels)
    return figure


# --- error by step ----------------------------------------------------------------------------------------------


def _steps(records: list[Record]) -> Any:
    """By data set: the longest horizon that all of its models share, the steps, and by model the MSE there."""
    told = [row for row in records if row.get("mse_by_step") and tables.is_trained(row["model"])]
    found = {}
    for (dataset,), rows in tables.cells(told, "dataset"):
        models, shared = comparisons.block(rows, 2, 1)
        if not models:
            continue
        horizon = max(h for _, h in shared)
        groups = dict(tables.cells(rows, "horizon", "model"))
        curves = {name: [row["mse_by_step"] for row in groups[horizon, name]] for name in models}
        width = -(-horizon // _POINTS)
        found[dataset] = {
            "horizon": horizon,
            "steps": _thinned([float(step) for step in range(1, horizon + 1)], width),
            "models": {
                name: _thinned([fmean(at) for at in zip(*each, strict=True)], width) for name, each in curves.items()
            },
        }
    return found or None


def _thinned(values: list[float], width: int) -> list[float]:
    """Means over runs of neighbours."""
    return [fmean(values[start : start + width]) for start in range(0, len(values), width)]


def _draw_steps(numbers: Any) -> Any:
    figure, panels = grid(len(numbers), 4.6, rows_each=2)
    looks = looks_of(sorted({name for of in numbers.values() for name in of["models"]}, key=tables.rank))
    for (above, below), (dataset, of) in zip(panels, numbers.items(), strict=True):
        base = of["models"].get(REFERENCE)
        for name, curve in of["models"].items():
            look = looks[name] | {"marker": "", "lw": 1.1}
            above.plot(of["steps"], curve, label=name, **look)
            if base:
                below.plot(of["steps"], [100 * (a / b - 1) for a, b in zip(curve, base, strict=True)], **look)
        above.set(ylabel="MSE", title=f"{dataset}, horizon {of['horizon']}")
        below.set(xlabel="step ahead", ylabel=f"% from {REFERENCE}")
        if not base:
            below.set_axis_off()
            above.set_xlabel("step ahead")
        for axes in (above, below):
            axes.grid(alpha=0.3)
    _legend(figure, panels)
    return figure


# --- spread of seeds --------------------------------------------------------------------------------------------


def _seeds(records: list[Record]) -> Any:
    """By data set, model and horizon: each seed's MSE in percent from their mean; where two models have seeds."""
    found: Record = {}
    for (dataset, model, horizon), rows in tables.cells(records, "dataset", "model", "horizon"):
        if len(rows) > 1:
            mean = tables.mean(rows, "mse")
            percents = [round(100 * (row["mse"] / mean - 1), 6) for row in rows]
            found.setdefault(dataset, {}).setdefault(model, {})[str(horizon)] = percents
    return {dataset: of for dataset, of in found.items() if len(of) > 1} or None


def _draw_seeds(numbers: Any) -> Any:
    models = sorted({name for of in numbers.values() for name in of}, key=tables.rank)
    horizons = sorted({h for of in numbers.values() for by in of.values() for h in by}, key=int)
    figure, panels = grid(len(numbers), max(2.4, 0.9 + 0.32 * len(models)))
    for (axes,), (dataset, of) in zip(panels, numbers.items(), strict=True):
        for row, name in enumerate(models):
            for number, horizon in enumerate(horizons):
                percents = of.get(name, {}).get(horizon, [])
                height = row + 0.7 * ((number + 0.5) / len(horizons) - 0.5)
                colour = _COLOURS[number % len(_COLOURS)]
                axes.plot(percents, [height] * len(percents), "o", ms=3, color=colour, label=horizon)
        axes.axvline(0, color="grey", lw=0.8)
        axes.set(title=dataset, xlabel="MSE of a seed, % from the mean", ylim=(len(models) - 0.5, -0.5))
        axes.set_yticks(range(len(models)), models)
        axes.grid(axis="x", alpha=0.3)
    handles, labels = panels[0][0].get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    figure.legend([named[h] for h in horizons], horizons, title="horizon", loc="outside right center", frameon=False)
    return figure


# --- mean ranks -------------------------------------------------------------------------------------------------


def _ranks(records: list[Record]) -> Any:
    found = comparisons.ranks(records)
    if found is None:
        return None
    return {
        "models": found.models,
        "critical": found.critical,
        "cells": len(found.cells),
        "ties": comparisons.ties(found),
    }


def _draw_ranks(numbers: Any) -> Any:
    from matplotlib.figure import Figure

    models, n = numbers["models"], len(numbers["models"])
    left, bars = -(-n // 2), len(numbers["ties"])
    floor = -(0.5 + 0.22 * bars)
    figure = Figure(figsize=(7.5, 1.3 + 0.25 * (left + bars)), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    line = {"color": "black", "lw": 1, "clip_on": False}
    axes.plot([1, n], [0, 0], **line)
    for rank in range(1, n + 1):
        axes.plot([rank, rank], [0, 0.12], **line)
        axes.text(rank, 0.2, str(rank), ha="center", va="bottom")
    for number, (first, last) in enumerate(numbers["ties"]):
        axes.plot([models[first], models[last]], [-0.25 - 0.22 * number] * 2, color=_COLOURS[0], lw=3)
    for place, (name, rank) in enumerate(models.items()):
        best = place < left  # the better half is named at the left, from the outside in
        height = floor - 0.35 * (place if best else n - 1 - place)
        end = 0.7 if best else n + 0.3
        axes.plot([rank, rank, end], [0, height, height], color="black", lw=0.7)
        text = f"{name} {rank:.2f}" if best else f"{rank:.2f} {name}"
        axes.text(end, height, f" {text} ", ha="right" if best else "left", va="center")
    axes.plot([1, 1 + numbers["critical"]], [0.85, 0.85], **line)
    axes.text(1, 0.95, f"critical difference {numbers['critical']:.2f}, {numbers['cells']} cells", va="bottom")
    axes.set(xlim=(-0.6, max(n + 1.6, 1 + numbers["critical"])), ylim=(floor - 0.35 * left, 1.4))
    return figure


PICTURES = {
    "suite_cost.svg": drawings.Drawing(
        _cost,
        _draw_cost,
        "Accuracy against cost",
        "Accuracy against cost of the trained models: means over the horizons in brackets. Lower and further left is"
        " better; seconds compare only where the machine is the same.",
    ),
    "suite_steps.svg": drawings.Drawing(
        _steps,
        _draw_steps,
        "Error by step ahead",
        f"Error by step ahead at the longest horizon that its models share, means over seeds (and over a few"
        f" neighbouring steps where it is long); below, the same in percent from `{REFERENCE}`.",
    ),
    "suite_seeds.svg": drawings.Drawing(
        _seeds, _draw_seeds, "Spread of seeds", "How far each seed's MSE lies from the mean of its model and horizon."
    ),
    "suite_ranks.svg": drawings.Drawing(
        _ranks,
        _draw_ranks,
        "Mean ranks",
        "Mean ranks; a bar joins models whose ranks differ by less than the critical difference.",
    ),
}
