"""Tables of the errors of filled gaps, and of anomalies that were found."""

from pathlib import Path

import records
import render
from past import anomalies, filling
from past.tables import SPLITS
from records import Record

DEVELOPMENT, JUDGMENT = SPLITS


def filled(folder: Path) -> str:
    """A line a length of gap: errors over those of lines, geometric means over the judgment's
    tables.
    """
    rows = records.read(folder / filling.FILE, filling.KEY)
    if not rows:
        return render.NONE
    body = []
    for gap in filling.GAPS:
        alike = [row for row in rows if row["split"] == JUDGMENT and row["gap"] == gap]
        means = [f"{filling.mean_error(alike, method):.3f}" for method in filling.METHODS]
        body.append([gap, str(len(alike)), *means])
    head = ["gap", "tables", *filling.METHODS]
    return f"{render.lines(head, body)}\n\n{records.commits(rows)}"


def flagged(folder: Path) -> str:
    """A line a method and rule: means over the judgment's tables. Other methods have two lines: the
    usual rule, and the rule with the best F1 on development tables.
    """
    rows = records.read(folder / anomalies.FILE, anomalies.KEY)
    if not rows:
        return render.NONE
    body = []
    for method in ("anomalies", *anomalies.METHODS):
        rules = anomalies.rules_of(method)
        best_rule = max(rules, key=lambda rule: _f1(rows, method, rule))
        for rule in dict.fromkeys((rules[0], best_rule)):
            scores = anomalies.mean_scores(rows, JUDGMENT, method, rule)
            if scores:
                precision, f1, elsewhere = scores
                shown = [f"{precision:.3f}", f"{f1:.3f}", f"{100 * elsewhere:.2f}"]
                body.append([method, f"{rule:g}", *shown])
    n_tables = len([row for row in rows if row["split"] == JUDGMENT])
    head = ["method", "flags beyond", "average precision", "F1", "other rows flagged, %"]
    table = render.lines(head, body)
    return f"{n_tables} tables\n\n{table}\n\n{records.commits(rows)}"


def _f1(rows: list[Record], method: str, rule: float) -> float:
    """On the development tables."""
    scores = anomalies.mean_scores(rows, DEVELOPMENT, method, rule)
    return scores[1] if scores else 0.0


BLOCKS = {("docs/guide.md", "filling"): filled, ("docs/guide.md", "anomalies"): flagged}
