"""What do the records of speed.py say? Renders docs/speed.md, and tells when the plot beside them is out of date."""

import hashlib
import importlib.util
from pathlib import Path
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


tables = _neighbour("tables")

_FIELDS = {
    *("kind", "case", "shape", "variant", "levels", "way", "causal", "mode", "threads", "ratio", "gate_error"),
    *("commit", "versions", "machine", "finished"),
}
_MORE = {
    "time": {"ratio_low", "ratio_high", "cpu_ratio", "ms", "baseline_ms", "rounds"},
    "memory": {"increase_mb", "baseline_mb"},
}
_VARIANTS = {
    "standard": "this library's attention without levels",
    "sliding_window": "a window of an eighth of the length (to either side where it is not causal)",
    "global_local": "two softmaxes, half of the features over all keys, half in such a window",
    "mlr3": "distance-dependent MLR, ranks K/2, K/4 and the rest",
    "mlr4": "the same, ranks 32, 16, 8, 8",
    "mlr8": "the same, ranks 32, 8, 6, 4, 4, 4, 4, 2",
    "bilinear_mlr": "what a bilinear MLR score comes to: a dot product of Σ r p features, ranks of `mlr3`, p 1, 2, 4",
    "bilinear_btt": "what a bilinear BTT score comes to: a dot product of as many features as the model is wide, H K",
}
_HEAD = """\
<!-- written by benchmarks/report.py from benchmarks/results/speed.jsonl; change the records, not this page -->

# Speed

How much time and memory does attention take here? Every figure is a ratio to the baseline: torch's own
`scaled_dot_product_attention` with as many batches B, heads H, tokens L and features K for queries, keys and values.
Below 1 is faster, or smaller, than that. The baseline has no levels and no window, so it computes something else; the
ratio says what a layer pays for the change.

`python benchmarks/speed.py` measures, and checks before it does: outputs and gradients of each row are compared with
the reference, and a few queries at the full length with formulas in float64. What differs gets no time.

Each side runs in turn with the baseline in one process. A cell holds the median of the ratios of the turns and, in
brackets, their 20% and 80% quantiles; the milliseconds of the baseline stand there for scale alone. "Forward" is the
forward pass of the training step, "step" is forward and backward, float32. One run on one machine says little about
another machine: measure there.

Not measured: CUDA, half precision, several threads, key masks, offsets of the blocks, decoding; bilinear scores beyond
1,024 tokens; beyond 4,096 only level scores, and at 8,192 windows where there is a way that skips what lies outside.
"""


def read_rows(path: Path) -> list[Record]:
    """The records of speed.py, each whole, known once, and all of one machine.

    Raises:
        ValueError: If a line is damaged, says nothing of its origin, is there twice, or is of another machine.
    """
    rows: list[Record] = tables.read_kinds(path, {kind: _FIELDS | more for kind, more in _MORE.items()}, "speed.py")
    for field, pick in (
        ("machine", lambda row: row["machine"]),
        ("threads", lambda row: row["threads"]),
        ("torch", lambda row: row["versions"]["torch"]),
    ):
        tables.check_one(rows, path.name, field, pick)
    tables.check_once(rows, path.name, "kind", "case", "variant", "way", "causal", "mode")
    return rows


def plot_is_outdated(folder: Path) -> bool:
    """Does speed.svg lack the checksum of the records, or is it missing?"""
    records, plot = folder / "speed.jsonl", folder / "speed.svg"
    if not records.exists():
        return plot.exists()
    return not plot.exists() or hashlib.sha256(records.read_bytes()).hexdigest() not in plot.read_text("utf-8")


def page(rows: list[Record]) -> str:
    """docs/speed.md: ratios by length and variant, by way, and of memory."""
    if not rows:
        return f"{_HEAD}\n{tables.NONE}\n"
    rows = sorted(rows, key=lambda row: (row["shape"][2:], row["shape"]))
    timed = [row for row in rows if row["kind"] == "time"]
    plot = "![Ratio of a training step against length](../benchmarks/results/speed.svg)"
    lines = [_HEAD, *(f"- `{name}`: {about}." for name, about in _VARIANTS.items()), "", plot, ""]
    for causal in (False, True):
        for mode, title in (("step", "Training step"), ("forward", "Forward pass")):
            chosen = [r for r in timed if r["way"] == "auto" and (r["causal"], r["mode"]) == (causal, mode)]
            if chosen:
                lines += [f"## {title}{', causal' if causal else ''}", "", *_ratio_table(chosen), ""]
    if forced := [r for r in timed if r["mode"] == "step" and not r["causal"]]:
        lines += ["## Ways of a training step", "", _WAYS_NOTE, "", *_way_table(forced), ""]
    if weighed := [r for r in rows if r["kind"] == "memory"]:
        lines += ["## Memory", "", _MEMORY_NOTE, "", *_memory_table(weighed), ""]
    worst = max(row["gate_error"] for row in rows)
    lines += [f"Largest error that the check saw in what is shown here: {worst:.1e}, of 1 or of the largest number."]
    return "\n".join([*lines, "", tables.origin(rows), ""])


_WAYS_NOTE = """\
Each way forced, not causal, against the same baseline; `auto` is what is taken when nothing is asked. Ways that do not
serve a variant stay empty, and longer sequences have the chosen way only."""
_MEMORY_NOTE = """\
By how much one training step, not causal, raises the peak of resident memory, in a fresh process whose inputs stand
already, after a short step that loads the code: the ratio to what the baseline adds, megabytes in brackets, and the
ratio to the variant's own at half the length."""


def _ratio_table(rows: list[Record]) -> list[str]:
    variants = [name for name in _VARIANTS if any(row["variant"] == name for row in rows)]
    lines = tables.head(1, "(B, H, L, K)", "baseline [ms]", *variants)
    for shape, cell in _by_shape(rows):
        of = {row["variant"]: row for row in cell}
        middle = sorted(row["baseline_ms"] for row in cell)[len(cell) // 2]
        lines.append(tables.line(shape, f"{middle:.0f}", *(_ratio(of.get(name)) for name in variants)))
    return lines


def _way_table(rows: list[Record]) -> list[str]:
    """Variants of which more than one way was timed, at the lengths where that was so."""
    cells = [(shape, name, [row for row in cell if row["variant"] == name])
             for shape, cell in _by_shape(rows) for name in _VARIANTS]  # fmt: skip
    cells = [cell for cell in cells if len(cell[2]) > 1]
    ways = ["auto", *sorted({row["way"] for _, _, cell in cells for row in cell} - {"auto"})]
    lines = tables.head(2, "(B, H, L, K)", "variant", *ways)
    for shape, name, cell in cells:
        of = {row["way"]: row for row in cell}
        lines.append(tables.line(shape, name, *(_ratio(of.get(way)) for way in ways)))
    return lines


def _memory_table(rows: list[Record]) -> list[str]:
    variants = [name for name in _VARIANTS if any(row["variant"] == name for row in rows)]
    header = [text for name in variants for text in (name, f"{name}, to half the length")]
    lines = tables.head(1, "(B, H, L, K)", "baseline [MB]", *header)
    known = {(row["variant"], *row["shape"]): row["increase_mb"] for row in rows}
    for shape, cell in _by_shape(rows):
        of = {row["variant"]: row for row in cell}
        texts = []
        for name in variants:
            row = of.get(name)
            texts.append(f"{row['ratio']:.2f} ({row['increase_mb']:.0f})" if row else "")
            batch, heads, length, features = cell[0]["shape"]
            half = known.get((name, batch, heads, length // 2, features))
            texts.append(f"{row['increase_mb'] / half:.2f}" if row and half else "")
        lines.append(tables.line(shape, " / ".join(sorted({f"{row['baseline_mb']:.0f}" for row in cell})), *texts))
    return lines


def _by_shape(rows: list[Record]) -> list[tuple[str, list[Record]]]:
    """Rows of one case, in the order in which they come."""
    groups: dict[str, list[Record]] = {}
    for row in rows:
        groups.setdefault(f"({', '.join(map(str, row['shape']))})", []).append(row)
    return list(groups.items())


def _ratio(row: Record | None) -> str:
    return f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})" if row else ""
