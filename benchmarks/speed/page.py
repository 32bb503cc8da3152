"""Tables and the picture of docs/speed.md about attention alone: ratios to torch's own
attention.
"""

from pathlib import Path

import records
import render
from records import Record
from speed.gate import VARIANTS
from speed.run import FILE, KEY

_BETWEEN = (128, 512, 2048, 8192)  # lengths that the picture shows and the tables leave out


def read(folder: Path) -> list[Record]:
    """The records of run.py by length, all of one machine."""
    rows = records.read(folder / FILE, KEY, alike=("machine", "threads", "torch"))
    return sorted(rows, key=lambda row: (row["shape"][2:], row["shape"]))


def _ratios(folder: Path, **wanted: object) -> str:
    """A line a case, a column a variant: medians of the ratios."""
    rows = [
        r
        for r in read(folder)
        if all(r[name] == value for name, value in {"way": "auto", **wanted}.items())
    ]
    rows = [row for row in rows if row["shape"][2] not in _BETWEEN]
    if not rows:
        return render.NONE
    names = [name for name in VARIANTS if any(row["variant"] == name for row in rows)]
    body = []
    for (case,), cell in records.by(rows, "case").items():
        of = {row["variant"]: f"{row['ratio']:.2f}" for row in cell}
        middle = sorted(row["baseline_ms"] for row in cell)[len(cell) // 2]
        body.append([case, f"{middle:.0f}", *(of.get(name, "") for name in names)])
    return render.lines(["case", "torch [ms]", *names], body)


def step(folder: Path) -> str:
    """A training step, causal and not."""
    kinds = {False: "Not causal:", True: "Causal:"}
    return "\n\n".join(
        f"{title}\n\n{_ratios(folder, kind='time', mode='step', causal=causal)}"
        for causal, title in kinds.items()
    )


def memory(folder: Path) -> str:
    """By how much a training step raises the peak of memory, beside the baseline, and where all of
    this comes from.
    """
    rows = read(folder)
    columns = {
        "case": lambda row: row["case"],
        "variant": lambda row: row["variant"],
        "torch [MB]": lambda row: f"{row['baseline_mb']:.0f}",
        "ours [MB]": lambda row: f"{row['increase_mb']:.0f}",
        "ratio": lambda row: f"{row['ratio']:.2f}",
    }
    weighed = [row for row in rows if row["kind"] == "memory" and row["shape"][2] not in _BETWEEN]
    weighed = sorted(weighed, key=lambda row: row["variant"])
    if not rows:
        return render.NONE
    worst = max(row["gate_error"] for row in rows)
    told = (
        f"Largest error that the check saw: {worst:.1e} of the largest number."
        f" {records.origin(rows)}"
    )
    return f"{render.table(weighed, columns, left=2)}\n\n{told}"


def picture(folder: Path) -> list[render.Panel]:
    """Ratio of a training step against length, heads of 64 features, the way that is chosen."""
    rows = [
        r
        for r in read(folder)
        if r["kind"] == "time" and r["way"] == "auto" and r["mode"] == "step"
    ]
    panels = []
    for causal in (False, True):
        mine = [row for row in rows if row["causal"] == causal and row["shape"][3] == 64]
        lines: dict[str, list[list[float]]] = {}
        for row in sorted(mine, key=lambda row: (VARIANTS.index(row["variant"]), row["shape"][2])):
            point = [row["shape"][2], row["ratio"], row["ratio_low"], row["ratio_high"]]
            lines.setdefault(row["variant"], []).append(point)
        labels = {"title": "causal" if causal else "not causal", "x": "length", "log": "xy"}
        panels += (
            [{**labels, "y": "training step / torch's attention", "lines": lines}] if lines else []
        )
    return panels


BLOCKS = {("docs/speed.md", table.__name__): table for table in (step, memory)}
PICTURES = {"speed.svg": picture}
