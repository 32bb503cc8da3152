"""Tables and the picture of docs/speed.md about attention alone: ratios to torch's own
attention.
"""

from pathlib import Path

import records
import render
from records import Record
from speed.gate import VARIANTS
from speed.run import FILE, KEY

# Lengths that the picture shows and the tables leave out.
_PICTURE_LENGTHS = (128, 512, 2048, 8192)


def read(folder: Path) -> list[Record]:
    """The records of run.py by length, all of one machine."""
    rows = records.read(folder / FILE, KEY, alike=("machine", "threads", "torch"))
    return sorted(rows, key=lambda row: (row["shape"][2:], row["shape"]))


def _is_in_tables(row: Record) -> bool:
    return row["shape"][2] not in _PICTURE_LENGTHS


def _step_rows(folder: Path) -> list[Record]:
    """Times of a training step by the default way."""
    rows = [row for row in read(folder) if row["kind"] == "time"]
    return [row for row in rows if row["way"] == "auto" and row["mode"] == "step"]


def step(folder: Path) -> str:
    """Ratios of a training step, causal and not: a line a case, a column a variant."""
    rows = [row for row in _step_rows(folder) if _is_in_tables(row)]
    parts = []
    for causal, title in {False: "Not causal:", True: "Causal:"}.items():
        table = _ratios([row for row in rows if row["causal"] == causal])
        parts.append(f"{title}\n\n{table}")
    return "\n\n".join(parts)


def _ratios(rows: list[Record]) -> str:
    if not rows:
        return render.NONE
    variants = {row["variant"] for row in rows}
    names = [name for name in VARIANTS if name in variants]
    lines = []
    for (case,), case_rows in records.by(rows, "case").items():
        ratios = {row["variant"]: f"{row['ratio']:.2f}" for row in case_rows}
        baselines = sorted(row["baseline_ms"] for row in case_rows)
        middle = baselines[len(baselines) // 2]
        lines.append([case, f"{middle:.0f}", *(ratios.get(name, "") for name in names)])
    return render.lines(["case", "torch [ms]", *names], lines)


def memory(folder: Path) -> str:
    """The rise of the peak of memory by a training step and that of the baseline, and the origin of
    all records.
    """
    rows = read(folder)
    if not rows:
        return render.NONE
    columns = {
        "case": lambda row: row["case"],
        "variant": lambda row: row["variant"],
        "torch [MB]": lambda row: f"{row['baseline_mb']:.0f}",
        "ours [MB]": lambda row: f"{row['increase_mb']:.0f}",
        "ratio": lambda row: f"{row['ratio']:.2f}",
    }
    memory_rows = [row for row in rows if row["kind"] == "memory" and _is_in_tables(row)]
    memory_rows.sort(key=lambda row: row["variant"])
    worst = max(row["gate_error"] for row in rows)
    text = (
        f"Largest error that the check saw: {worst:.1e} of the largest number."
        f" {records.origin(rows)}"
    )
    return f"{render.table(memory_rows, columns, left=2)}\n\n{text}"


def picture(folder: Path) -> list[render.Panel]:
    """Ratio of a training step against length, heads of 64 features, the default way."""
    rows = [row for row in _step_rows(folder) if row["shape"][3] == 64]
    rows.sort(key=lambda row: (VARIANTS.index(row["variant"]), row["shape"][2]))
    panels = []
    for causal in (False, True):
        lines: dict[str, list[list[float]]] = {}
        for row in rows:
            if row["causal"] == causal:
                point = [row["shape"][2], row["ratio"], row["ratio_low"], row["ratio_high"]]
                lines.setdefault(row["variant"], []).append(point)
        panel = {
            "title": "causal" if causal else "not causal",
            "x": "length",
            "log": "xy",
            "y": "training step / torch's attention",
            "lines": lines,
        }
        if lines:
            panels.append(panel)
    return panels


BLOCKS = {("docs/speed.md", table.__name__): table for table in (step, memory)}
PICTURES = {"speed.svg": picture}
