"""The table of errors of filled gaps."""

from pathlib import Path

import records
import render
from past import filling
from past.tables import SPLITS


def filled(folder: Path) -> str:
    """A line a split and length of gap: geometric means of errors over those of lines."""
    rows = records.read(folder / filling.FILE, filling.KEY)
    if not rows:
        return render.NONE
    body = []
    for split in reversed(SPLITS):
        for gap in filling.GAPS:
            alike = [row for row in rows if row["split"] == split and row["gap"] == gap]
            n_tables = len({row["table"] for row in alike})
            means = [f"{filling.mean_error(alike, method):.3f}" for method in filling.METHODS]
            body.append([split, gap, str(n_tables), *means])
    head = ["tables", "gap", "number", *filling.METHODS]
    return f"{render.lines(head, body, left=2)}\n\n{records.commits(rows)}"


BLOCKS = {("docs/guide.md", "filling"): filled}
