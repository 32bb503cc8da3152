"""What do the records of language_model.py say? Renders the tables of docs/language_model.md and the figure beside."""

import importlib.util
import math
from collections.abc import Callable
from itertools import pairwise
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


suite_pictures, tables = (_neighbour(name) for name in ("suite_pictures", "tables"))
drawings = suite_pictures.drawings

FILE = "language_model.jsonl"
PICTURE = "language_model.svg"
# What stands between these marks of docs/language_model.md is rendered from the records.
MARKS = ("<!-- language_model:begin -->", "<!-- language_model:end -->")
REFERENCE = "standard"
# Besides, the two whose features are turned by positions.
_TURNED = ("mlr_rotary", "standard_rotary")
# In the order of the tables.
VARIANTS = {
    "standard": "every earlier token, all features",
    "standard_rotary": "the same, features turned by the positions of their tokens (Su et al. 2021)",
    "sliding_window": "the last tokens, half of the length",
    "global_local": "the paper's sum of two softmaxes: half of the features over all, half over such a window",
    "global_local_one": "the same halves under one softmax: local scores count only inside the window",
    "mlr_paper": "MLR over positions with the paper's ranks, in the same proportions where heads are narrower",
    "mlr_equal": "the same with eight equal ranks",
    "mlr_two": "the same with two equal ranks: blocks of the length and of half of it",
    "mlr_shifted": "`mlr_paper` with the block grid shifted in every second layer",
    "mlr_rotary": "MLR of five levels with even ranks, features turned by the positions of their tokens",
}
_SETTING = ("text", "text_sha256", "length", "layers", "steps", "batch", "head")
_ORIGIN = {"commit", "versions", "machine", "finished"}
_FIELDS = {
    "run": {"kind", "variant", "width", *_SETTING[1:], "rate", "seed", *_ORIGIN}
    | {"text", "ranks", "validation", "test", "curve", "parameters", "multiply_adds", "seconds"}
    | {"vocabulary", "characters"},
    "rate": {"kind", "variant", "width", *_SETTING[1:], "rates", "chosen", "losses", *_ORIGIN},
    "cache": {"kind", "variant", "width", "layers", "length", "head", "ranks", *_ORIGIN}
    | {"key_bytes", "value_bytes", "full_key_bytes", "full_value_bytes"},
}
_TITLE = "Test loss against compute"
_RUNS_NOTE = """\
Losses in nats a character, mean and standard deviation over seeds, least test loss of a width in bold. Multiply-adds of
one pass over one sequence, without the maps that read and write characters; beside them, what share of `standard`'s
they are. "From `standard`": test loss less that of `standard` with the same seed, mean and, in brackets, least and
largest. "At equal compute": test loss less what `standard` has at as many multiply-adds, on straight lines between its
widths over the logarithm; empty where `standard` was not run on either side."""
_RATES_NOTE = """\
Validation loss at the smallest width with seed 0 for each learning rate; the least, in bold, serves all widths."""
_CACHE_NOTE = """\
Keys and values that one sequence of {length} tokens needs while it is generated, at the paper's width {width},
{layers} layers and heads of {head}: bytes as allocated, beside those of `standard`."""


def read_rows(path: Path) -> list[Record]:
    """The records of language_model.py, each whole and known once.

    Raises:
        ValueError: If a line is damaged, says nothing of its origin, is there twice, or names no variant.
    """
    rows: list[Record] = tables.read_kinds(path, _FIELDS, "language_model.py")
    if strange := sorted({row["variant"] for row in rows} - set(VARIANTS)):
        raise ValueError(f"{path.name} has a variant {strange[0]}, which has no name here; remove its rows")
    for kind, more in (("run", ("rate", "seed")), ("rate", ("rates",)), ("cache", ())):
        some = [{**row, "rates": str(row.get("rates"))} for row in rows if row["kind"] == kind]
        setting = ("layers", "length", "head") if kind == "cache" else _SETTING[1:]
        tables.check_once(some, path.name, "kind", "variant", "width", *setting, *more)
    return rows


def table(rows: list[Record]) -> str:
    """What stands between the marks: results by setting, the figure, rates, and the cache."""
    if not rows:
        return str(tables.NONE)
    lines = [*(f"- `{name}`: {about}." for name, about in VARIANTS.items()), ""]
    settled = _settled(rows)
    if settled:
        lines += [_RUNS_NOTE, "", f"![{_TITLE}](pictures/{PICTURE})", ""]
    for title, some in settled.items():
        lines += [f"### {title}", "", *_verdicts(some), "", *_runs(some), ""]
    if rates := [row for row in rows if row["kind"] == "rate"]:
        lines += ["### Learning rates", "", f"{_RATES_NOTE} {_edges(rates)}", "", *_rates(rates), ""]
    if caches := [row for row in rows if row["kind"] == "cache"]:
        note = _CACHE_NOTE.format(**caches[0])
        lines += ["### Cache", "", note, "", *_caches(caches), ""]
    return "\n".join([*lines, tables.origin(rows)])


# --- which runs count -------------------------------------------------------------------------------------------


def _group(rows: list[Record], pick: Callable[[Record], Any]) -> dict[Any, list[Record]]:
    groups: dict[Any, list[Record]] = {}
    for row in rows:
        groups.setdefault(pick(row), []).append(row)
    return groups


def _setting(row: Record) -> tuple[Any, ...]:
    return tuple(row[name] for name in _SETTING[1:])


def _settled(rows: list[Record]) -> dict[str, list[Record]]:
    """By setting, the runs with the rate that was chosen there; the last choice counts."""
    chosen = {(_setting(row), row["variant"]): row["chosen"] for row in rows if row["kind"] == "rate"}
    final = [r for r in rows if r["kind"] == "run" and r["rate"] == chosen.get((_setting(r), r["variant"]))]
    return {_name(some[0]): some for some in _group(final, _setting).values()}


def _name(row: Record) -> str:
    parts = " / ".join(str(count) for count in row["characters"])
    return (
        f"{row['text']} ({row['text_sha256'][:8]}; {parts} characters, {row['vocabulary']} symbols), length"
        f" {row['length']}, {row['layers']} layers, heads of {row['head']}, {row['steps']} steps of"
        f" {row['batch']} sequences"
    )


def _cells(rows: list[Record]) -> dict[tuple[int, str], list[Record]]:
    """Seeds of each width and variant, in the order of the tables."""
    groups = _group(rows, lambda row: (row["width"], row["variant"]))
    order = list(VARIANTS)
    return {at: groups[at] for at in sorted(groups, key=lambda at: (at[0], order.index(at[1])))}


def _lost(rows: list[Record]) -> bool:
    return any(row["test"] is None or row["validation"] is None for row in rows)


# --- results ----------------------------------------------------------------------------------------------------


def _apart(rows: list[Record], reference: list[Record]) -> list[float]:
    """Test losses less those of the reference with the same seeds."""
    of = {row["seed"]: row["test"] for row in reference if row["test"] is not None}
    return [row["test"] - of[row["seed"]] for row in rows if row["seed"] in of and row["test"] is not None]


def _at_equal_compute(rows: list[Record], cells: dict[tuple[int, str], list[Record]]) -> float | None:
    """Mean test loss less that of the reference on its line over the logarithm of multiply-adds."""
    line = sorted(
        (math.log(some[0]["multiply_adds"]), tables.mean(some, "test"))
        for (_, variant), some in cells.items()
        if variant == REFERENCE and not _lost(some)
    )
    here = math.log(rows[0]["multiply_adds"])
    for (left, low), (right, high) in pairwise(line):
        if left <= here <= right:
            return float(tables.mean(rows, "test") - (low + (high - low) * (here - left) / (right - left)))
    return None


def _verdicts(rows: list[Record]) -> list[str]:
    """In words, how each variant stands to the reference."""
    cells, lines = _cells(rows), []
    for name in VARIANTS:
        mine = {at: some for at, some in cells.items() if at[1] == name and not _lost(some)}
        apart = [each for (w, _), some in mine.items() for each in _apart(some, cells.get((w, REFERENCE), []))]
        if name == REFERENCE or not apart:
            continue
        equal = [each for some in mine.values() if (each := _at_equal_compute(some, cells)) is not None]
        text = f"- `{name}` against `{REFERENCE}`: lower in {sum(d < 0 for d in apart)} of {len(apart)} pairs of runs"
        if equal:
            text += f", and at equal compute at {sum(d < 0 for d in equal)} of {len(equal)} widths"
        lines.append(f"{text}.")
    pairs = [
        each
        for (width, name), some in cells.items()
        if name == _TURNED[0]
        for each in _apart(some, cells.get((width, _TURNED[1]), []))
    ]
    if pairs:
        ours, theirs = _TURNED
        told = f"lower in {sum(d < 0 for d in pairs)} of {len(pairs)} pairs of runs, by {-fmean(pairs):.4f} in the mean"
        lines.append(f"- `{ours}` against `{theirs}`, both of which know positions from the start: {told}.")
    return lines


def _runs(rows: list[Record]) -> list[str]:
    cells = _cells(rows)
    best = {w: min((tables.mean(s, "test") for (v, _), s in cells.items() if v == w and not _lost(s)), default=None)
            for w, _ in cells}  # fmt: skip
    names = ("multiply-adds [M]", "of `standard`", "parameters", "rate", "validation", "test", "from `standard`")
    lines = tables.head(3, "width", "variant", "ranks", *names, "at equal compute", "seeds", "seconds")
    for (width, variant), some in cells.items():
        first, reference = some[0], cells.get((width, REFERENCE), [])
        share = f"{100 * first['multiply_adds'] / reference[0]['multiply_adds']:.1f}%" if reference else ""
        sizes = (f"{first['multiply_adds'] / 1e6:.1f}", share, str(first["parameters"]), f"{first['rate']:g}")
        seconds = f"{fmean(row['seconds'] for row in some):.0f}"
        losses = ("diverged", "diverged", "", "")
        if not _lost(some):
            test = tables.spread(some, "test")
            bold = f"**{test}**" if tables.mean(some, "test") == best[width] else test
            apart = "" if variant == REFERENCE else _brackets(_apart(some, reference))
            equal = None if variant == REFERENCE else _at_equal_compute(some, cells)
            losses = (tables.spread(some, "validation"), bold, apart, "" if equal is None else f"{equal:+.4f}")
        lines.append(tables.line(str(width), variant, _ranks(first), *sizes, *losses, str(len(some)), seconds))
    return lines


def _brackets(values: list[float]) -> str:
    return f"{fmean(values):+.4f} ({min(values):+.4f} to {max(values):+.4f})" if values else ""


def _ranks(row: Record) -> str:
    return ", ".join(map(str, row["ranks"] or ()))


# --- rates and caches -------------------------------------------------------------------------------------------


def _rates(rows: list[Record]) -> list[str]:
    every = sorted({rate for row in rows for rate in row["rates"]})
    lines = tables.head(3, "steps of sequences", "width", "variant", *(f"{rate:g}" for rate in every))
    for row in sorted(rows, key=lambda row: (_setting(row), row["width"], list(VARIANTS).index(row["variant"]))):
        of = dict(zip(row["rates"], row["losses"], strict=True))
        texts = []
        for rate in every:
            loss = of.get(rate)
            text = "" if rate not in of else "diverged" if loss is None else f"{loss:.4f}"
            texts.append(f"**{text}**" if rate == row["chosen"] else text)
        lines.append(tables.line(f"{row['steps']} of {row['batch']}", str(row["width"]), row["variant"], *texts))
    return lines


def _edges(rows: list[Record]) -> str:
    """How often the best rate has no neighbour to one side, where a better one may lie."""
    ends = sum(row["chosen"] in (min(row["rates"]), max(row["rates"])) for row in rows)
    return f"In {ends} of {len(rows)} choices it is the lowest or the highest that was tried."


def _caches(rows: list[Record]) -> list[str]:
    names = ("keys [MB]", "values [MB]", "keys, of `standard`", "values", "both")
    lines = tables.head(2, "variant", "ranks", *names)
    for row in sorted(rows, key=lambda row: list(VARIANTS).index(row["variant"])):
        keys, values, full_keys, full_values = (
            row[name] for name in ("key_bytes", "value_bytes", "full_key_bytes", "full_value_bytes")
        )
        shares = (keys / full_keys, values / full_values, (keys + values) / (full_keys + full_values))
        sizes = (f"{keys / 1e6:.2f}", f"{values / 1e6:.2f}")
        lines.append(tables.line(row["variant"], _ranks(row), *sizes, *(f"{share:.2f}" for share in shares)))
    return lines


# --- the figure -------------------------------------------------------------------------------------------------


def _numbers(rows: list[Record]) -> Record | None:
    """By setting and variant: multiply-adds, and mean, least and largest test loss, width by width."""
    found: Record = {}
    for title, some in _settled(rows).items():
        for (_, variant), seeds in _cells(some).items():
            if not _lost(seeds):
                losses = [row["test"] for row in seeds]
                point = [seeds[0]["multiply_adds"], fmean(losses), min(losses), max(losses)]
                found.setdefault(title, {}).setdefault(variant, []).append(point)
    return found or None


def _draw(numbers: Record) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 3.6 * len(numbers)), layout="constrained")
    panels = figure.subplots(len(numbers), 1, squeeze=False)[:, 0]
    looks = suite_pictures.looks_of(list(VARIANTS))
    for axes, (title, of) in zip(panels, numbers.items(), strict=True):
        for name in (name for name in VARIANTS if name in of):
            compute, mean, low, high = (list(column) for column in zip(*of[name], strict=True))
            bars = [[m - b for m, b in zip(mean, low, strict=True)], [t - m for m, t in zip(mean, high, strict=True)]]
            axes.errorbar(compute, mean, yerr=bars, label=name, ms=4, lw=1.1, capsize=2, **looks[name])
        where, _, how = title.partition("), ")
        axes.set(xscale="log", xlabel="multiply-adds of a sequence", ylabel="test loss [nats a character]")
        axes.set_title(f"{where.partition(' (')[0]},\n{how}")
        axes.grid(alpha=0.3, which="both")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


PICTURES = {PICTURE: drawings.Drawing(_numbers, _draw)}
