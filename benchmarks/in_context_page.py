"""Which scores learn linear regression inside a prompt? Tables of docs/in_context.md and its pictures, from records."""

import importlib.util
import math
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from statistics import fmean, stdev
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


suite_pictures, tables = _neighbour("suite_pictures"), _neighbour("tables")
drawings = suite_pictures.drawings

FILE = "in_context.jsonl"
MARKS = ("<!-- in_context:begin -->", "<!-- in_context:end -->")
# Errors below the first count as learned, above the second as not learned: of least squares' 0 and zero's 1.
LEARNED, FAILED = 0.1, 0.5
_SETTING = ("layout", "dim", "layers", "heads", "steps", "batch", "curriculum", "cooldown")
_KEY = ("kind", *_SETTING, "variant", "width", "rate", "seed")
_ORDER = ("standard_8", "standard_1", "standard_1_of_8", "mlr", "btt", "monarch", "butterfly", "kronecker", "mlbtc")
_REFERENCES = {"zero": "predicting zero", "least_squares": "least squares"}
_ALL = {"kind", "dim", "variant", "error", "by_point", "commit", "versions", "machine", "finished"}
_FIELDS = {
    "reference": _ALL,
    "run": _ALL
    | set(_KEY)
    | {"validation_error", "curve", "head_features", "parameters", "multiply_adds", "seconds", "rates_tried"},
}
_DOTS = {"zero": "-.", "least_squares": ":"}
_NOTE = """\
Errors are mean squared errors at the last point of a prompt, of the same test prompts for all, divided by d: predicting
zero has 1, least squares 0. ± is the standard deviation over seeds. "Features" is the length of what a head compares;
"rate" is, of those in brackets, the one with the smallest validation error: the mean over the seeds with which all of
them were run, which may be the first seed alone."""


def read_rows(path: Path) -> list[Record]:
    """The records of in_context.py, each whole, of known origin and there once.

    Raises:
        ValueError: If a line is damaged, says nothing of its origin, or is there twice.
    """
    rows: list[Record] = tables.read_kinds(path, _FIELDS, "in_context.py")
    tables.check_once([row for row in rows if row["kind"] == "run"], path.name, *_KEY)
    tables.check_once([row for row in rows if row["kind"] == "reference"], path.name, "dim", "variant")
    return rows


# --- what counts ------------------------------------------------------------------------------------------------


def chosen(rows: Iterable[Record]) -> list[Record]:
    """Runs with the rate that their variant and width chose by validation error: the smallest mean.

    It is taken over the seeds with which all rates were run that were run with the first seed.
    """
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for row in rows:
        if row["kind"] == "run":
            groups.setdefault(tuple(row[name] for name in (*_SETTING, "width", "variant")), []).append(row)
    kept: list[Record] = []
    for key in sorted(groups, key=_place):
        runs = groups[key]
        best = best_rate(runs, *_compared(runs))
        same = [row for row in runs if row["rate"] == best]
        kept += [row | {"rate_chosen": best} for row in sorted(same, key=lambda row: row["seed"])]
    return kept


def _compared(runs: list[Record]) -> tuple[list[float], set[int]]:
    """The rates that were run with the first seed, and the seeds that all of them were run with."""
    first = min(row["seed"] for row in runs)
    rates = [row["rate"] for row in runs if row["seed"] == first]
    return rates, set.intersection(*({row["seed"] for row in runs if row["rate"] == rate} for rate in rates))


def best_rate(runs: Iterable[Record], rates: Collection[float], seeds: Collection[int]) -> float | None:
    """Of some rates the one with the smallest validation error, mean over some seeds; none where nothing was run.

    A rate without a run of each of the seeds, since one of them diverged, is no candidate.
    """
    errors: dict[float, list[float]] = {}
    for row in runs:
        if row["rate"] in rates and row["seed"] in seeds:
            errors.setdefault(row["rate"], []).append(row["validation_error"])
    means = {rate: fmean(found) for rate, found in errors.items() if len(found) == len(seeds)}
    return min(means, key=lambda rate: means[rate]) if means else None


def _place(key: tuple[Any, ...]) -> tuple[Any, ...]:
    return *key[:-1], _ORDER.index(key[-1])


def _by(rows: list[Record], *names: str) -> dict[tuple[Any, ...], list[Record]]:
    """Rows that share fields, in the order in which they come."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


# --- the text ---------------------------------------------------------------------------------------------------


def table(rows: list[Record]) -> str:
    """What stands between the marks: for each setting the runs, and each claim beside what the runs say."""
    kept = chosen(rows)
    if not kept:
        return str(tables.NONE)
    lines = [_NOTE, ""]
    for name, about in (("points", "Error by the number of points seen"), ("cost", "Error against size and cost")):
        lines += [f"![{about}](pictures/in_context_{name}.svg)", ""]
    for setting, runs in _by(kept, *_SETTING).items():
        lines += [f"### {_title(setting)}", "", *_runs(runs, rows), "", *_verdicts(runs), "", *_rates(setting, rows)]
    return "\n".join([*lines, tables.origin(kept)])


def _title(setting: tuple[Any, ...]) -> str:
    layout, dim, layers, _, steps, batch, curriculum, _ = setting
    sizes = f"d = {dim}, points in {layout}, {layers} layers"
    return f"{sizes}, {steps:,} steps of {batch} prompts, growing for {100 * curriculum:.0f}%"


def _runs(runs: list[Record], rows: list[Record]) -> list[str]:
    names = ("variant", "width", "features", "rate", "error", "at d points", "parameters", "multiply-adds", "seconds")
    lines = tables.head(1, *names, "seeds")
    dim = runs[0]["dim"]
    for (_, width), some in _by(runs, "variant", "width").items():
        row = some[0]
        tried = sorted({r["rate"] for r in rows if all(r.get(n) == row[n] for n in (*_SETTING, "variant", "width"))})
        rate = f"{row['rate']:g} ({', '.join(f'{each:g}' for each in tried)})"
        halfway = fmean(r["by_point"][dim] for r in some)
        counts = (f"{row['parameters']:,}", f"{row['multiply_adds']:,}", f"{fmean(r['seconds'] for r in some):.0f}")
        first = (f"`{row['variant']}`", str(width), str(row["head_features"]), rate, spread(some))
        lines.append(tables.line(*first, f"{halfway:.3f}", *counts, str(len(some))))
    for row in rows:
        if row["kind"] == "reference" and row["dim"] == dim:
            blank = ["-"] * 3
            errors = (f"{row['error']:.3f}", f"{row['by_point'][dim]:.3f}")
            lines.append(tables.line(_REFERENCES[row["variant"]], *blank, *errors, *blank, "-"))
    errors = (f"{one_step(dim, 2 * dim - 1):.3f}", f"{one_step(dim, dim):.3f}")
    return [*lines, tables.line("one gradient step", *["-"] * 3, *errors, *["-"] * 4)]


def _rates(setting: tuple[Any, ...], rows: list[Record]) -> list[str]:
    """The errors of every run by rate and seed, where a variant has runs with rates that it did not choose."""
    runs = [row for row in rows if row["kind"] == "run" and tuple(row[name] for name in _SETTING) == setting]
    runs.sort(key=lambda row: (_ORDER.index(row["variant"]), row["width"], row["rate"], row["seed"]))
    several = [some for some in _by(runs, "variant", "width").values() if len({row["rate"] for row in some}) > 1]
    if not several:
        return []
    seeds = sorted({row["seed"] for some in several for row in some})
    lines = ["All rates that were run, with the error of each seed:", ""]
    lines += tables.head(1, "variant", "width", "rate", *(f"seed {seed}" for seed in seeds))
    for (name, width, rate), same in _by([row for some in several for row in some], "variant", "width", "rate").items():
        errors = {row["seed"]: f"{row['error']:.3f}" for row in same}
        lines.append(tables.line(f"`{name}`", str(width), f"{rate:g}", *(errors.get(seed, "") for seed in seeds)))
    return [*lines, ""]


def one_step(dim: int, n_points: int) -> float:
    """Mean error of one step of gradient descent from zero on the squared errors of the points, at its best rate.

    For standard normal x, ``S = sum x x^T`` has ``E S = n I`` and ``E S^2 = n (n + d + 1) I``, so ``c S w`` misses a
    random w by ``1 - 2 c n + c^2 n (n + d + 1)`` of its size, least at ``c = 1 / (n + d + 1)``.
    """
    return (dim + 1) / (n_points + dim + 1)


def spread(runs: list[Record]) -> str:
    """Mean error and, where there are several seeds, its standard deviation."""
    values = [row["error"] for row in runs]
    return f"{fmean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def _verdicts(runs: list[Record]) -> list[str]:
    """Which heads are narrow, and the paper's claims one by one, each said to hold or not by the numbers."""
    dim, heads = runs[0]["dim"], runs[0]["heads"]
    means = {key: fmean(row["error"] for row in some) for key, some in _by(runs, "variant", "width").items()}
    widths = sorted({width for _, width in means})
    narrow = [width for width in widths if width // heads < dim]
    said = f"A head of `standard_8` has D / {heads} features: fewer than d = {dim} at {_widths(narrow)}"
    lines = [f"- {said}." if narrow else f"- No width here gives a head of `standard_8` fewer than d = {dim} features."]
    plain = {width: means["standard_8", width] for width in widths if ("standard_8", width) in means}
    for name in _ORDER[3:]:
        pairs = [(width, means[name, width], plain[width]) for width in plain if (name, width) in means]
        if pairs:
            lines.append(f"- {_against(name, pairs)}")
    if low := [width for width in narrow if width in plain]:
        lines.append(f"- {_failing(low, plain)}")
    ends = [f"{_names(names)} at {_widths([width])}" for width in widths if (names := _below(means, width))]
    lines.append(f"- Learned (error below {LEARNED:g}): {'; '.join(ends) if ends else 'nobody'}.")
    return lines


def _against(name: str, pairs: list[tuple[int, float, float]]) -> str:
    better = [width for width, ours, theirs in pairs if ours < theirs]
    ratios = "; ".join(f"{ours:.3f} against {theirs:.3f}, {theirs / ours:.1f} times" for _, ours, theirs in pairs)
    if len(better) == len(pairs):
        told = "smaller mean error than `standard_8` at every width"
    elif better:
        told = f"smaller mean error than `standard_8` at {_widths(better)} only"
    else:
        told = "no smaller mean error than `standard_8` at any width"
    return f"`{name}`: {told} ({ratios})."


def _failing(narrow: list[int], plain: dict[int, float]) -> str:
    failed = [width for width in narrow if plain[width] > FAILED]
    claim = f"With heads narrower than d, `standard_8` stays above {FAILED:g}"
    if len(failed) == len(narrow):
        return f"{claim}, as the paper says, at {_widths(narrow)}."
    if failed:
        return f"{claim} at {_widths(failed)}, as the paper says, and not at the other widths."
    return f"The paper says that `standard_8` fails with heads narrower than d; here it does not stay above {FAILED:g}."


def _below(means: dict[tuple[Any, ...], float], width: int) -> list[str]:
    return [name for name in _ORDER if means.get((name, width), math.inf) < LEARNED]


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _widths(widths: list[int]) -> str:
    return f"width{'s' if len(widths) > 1 else ''} {', '.join(map(str, widths))}"


# --- pictures ---------------------------------------------------------------------------------------------------


def _spans(runs: list[Record], value: Callable[[Record], Any]) -> list[float]:
    """Mean, least and most over seeds."""
    values = [float(value(row)) for row in runs]
    return [fmean(values), min(values), max(values)]


def _cost(rows: list[Record]) -> Any:
    """By setting and variant: width, multiply-adds, seconds, and mean, least and most error, one entry a width."""
    found: dict[str, dict[str, Any]] = {}
    for setting, runs in _by(chosen(rows), *_SETTING).items():
        of = found.setdefault(_title(setting), {})
        for (name, width), some in _by(runs, "variant", "width").items():
            seconds = fmean(row["seconds"] for row in some)
            point = [width, some[0]["multiply_adds"], seconds, *_spans(some, lambda row: row["error"])]
            of.setdefault(name, []).append(point)
    return found or None


def _points(rows: list[Record]) -> Any:
    """By setting, at its greatest width: by variant errors by point and by step, and the references' by point."""
    found: dict[str, Any] = {}
    for setting, runs in _by(chosen(rows), *_SETTING).items():
        width = max(row["width"] for row in runs)
        of: dict[str, Any] = {}
        for (name,), some in _by([row for row in runs if row["width"] == width], "variant").items():
            points = [list(each) for each in zip(*(row["by_point"] for row in some), strict=True)]
            curves = [list(each) for each in zip(*(row["curve"] for row in some), strict=True)]
            steps = [at[0][0] for at in curves]
            of[name] = {
                "points": [[fmean(each), min(each), max(each)] for each in points],
                "steps": steps,
                "curve": [_spans([{"at": pair[1]} for pair in at], lambda row: row["at"]) for at in curves],
            }
        same = [row for row in rows if row["kind"] == "reference" and row["dim"] == runs[0]["dim"]]
        references = {row["variant"]: row["by_point"] for row in same}
        found[_title(setting)] = {"width": width, "variants": of, "references": references}
    return found or None


def _figure(n_rows: int, n_columns: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.9 * n_columns + 1.3, 2.8 * n_rows), layout="constrained")
    return figure, figure.subplots(n_rows, n_columns, squeeze=False)


def _draw_cost(numbers: Any) -> Any:
    figure, panels = _figure(len(numbers), 3)
    looks = suite_pictures.looks_of(list(_ORDER))
    for line, (title, variants) in zip(panels, numbers.items(), strict=True):
        for column, (axes, label) in enumerate(zip(line, ("width", "multiply-adds", "seconds"), strict=True)):
            for name, entries in variants.items():
                at = [entry[column] for entry in entries]
                mean = [entry[3] for entry in entries]
                arms = [[e[3] - e[4] for e in entries], [e[5] - e[3] for e in entries]]
                axes.errorbar(at, mean, yerr=arms, label=name, ms=4, lw=1, capsize=2, **looks[name])
            axes.set(xscale="log", yscale="log", xlabel=label)
            axes.grid(alpha=0.3)
        line[0].set(ylabel="error at the last point")
        line[1].set_title(title.replace("layers, ", "layers,\n"))
        widths = sorted({entry[0] for entries in variants.values() for entry in entries})
        line[0].set_xticks(widths, [str(width) for width in widths])
        for axes in line:
            axes.xaxis.set_minor_formatter("")
    _legend(figure, panels)
    return figure


def _draw_points(numbers: Any) -> Any:
    figure, panels = _figure(len(numbers), 2)
    looks = suite_pictures.looks_of(list(_ORDER))
    for (left, right), (title, of) in zip(panels, numbers.items(), strict=True):
        for name, lines in of["variants"].items():
            look = {"color": looks[name]["color"], "ls": looks[name]["ls"], "lw": 1}
            for axes, at, key in ((left, range(len(lines["points"])), "points"), (right, lines["steps"], "curve")):
                mean, least, most = zip(*lines[key], strict=True)
                axes.plot(at, mean, label=name, **look)
                axes.fill_between(at, least, most, color=look["color"], alpha=0.15, lw=0)
        for name, points in of["references"].items():
            left.plot(points, color="black", ls=_DOTS[name], lw=1, label=_REFERENCES[name])
        sizes, training = title.split(" layers, ")
        sizes = f"{sizes} layers, width {of['width']}".replace("pairs, ", "pairs,\n").replace("turns, ", "turns,\n")
        training = training.replace(", growing", ",\ngrowing")
        left.set(xlabel="points seen", ylabel="error", title=sizes, ylim=(-0.05, 1.3))
        right.set(xlabel="steps of training", ylabel="error at the last point", yscale="log", title=training)
        for axes in (left, right):
            axes.grid(alpha=0.3)
    _legend(figure, panels)
    return figure


def _legend(figure: Any, panels: Any) -> None:
    named: dict[str, Any] = {}
    for axes in panels.flat:
        handles, labels = axes.get_legend_handles_labels()
        named = {label: handle for handle, label in zip(handles, labels, strict=True)} | named
    order = [*_ORDER, *_REFERENCES.values()]
    shown = [name for name in order if name in named]
    figure.legend([named[name] for name in shown], shown, loc="outside right center", frameon=False)


PICTURES = {
    "in_context_cost.svg": drawings.Drawing(_cost, _draw_cost),
    "in_context_points.svg": drawings.Drawing(_points, _draw_points),
}
