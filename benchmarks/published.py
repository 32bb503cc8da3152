"""How do our scores stand beside published ones? Reads published.json; tables for docs/benchmarks.md."""

import importlib.util
import json
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

FILE = "published.json"
GRADES = {
    "clean": "the evaluation keeps every test window, as ours does; read from a log, a table or a leaderboard.",
    "drop_last": "the last, incomplete batch of test windows was dropped, which flatters, most on ETTh1 and ETTh2.",
    "unknown": "the code of the evaluation was not read.",
}
RIVAL = "PatchTST/42 re-run, bug fixed"
_FIELDS = ("model", "look_back", "grade", "source", "note", "scores")
_LEVEL = 0.0005  # most of these numbers were printed with three decimals


def read(path: Path) -> Record | None:
    """Published scores; ``None`` where there is no file.

    Raises:
        ValueError: If a row lacks a field or its source, or has a grade that nobody explains.
    """
    if not path.exists():
        return None
    try:
        found: Record = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        found = {}
    if not isinstance(found, dict) or not found.get("rows") or "best" not in found:
        raise ValueError(f"{path.name} is no list of published scores; it needs rows and best")
    for row in found["rows"]:
        name = row.get("model", "a row")
        if absent := [field for field in _FIELDS if field not in row]:
            raise ValueError(f"{path.name}: {name} lacks {', '.join(absent)}; add what is missing")
        if row["grade"] not in GRADES:
            raise ValueError(f"{path.name}: {name} has the grade {row['grade']!r}; use one of {', '.join(GRADES)}")
        if not row["source"]:
            raise ValueError(f"{path.name}: {name} does not say where its numbers come from; name the source")
    if RIVAL not in {row["model"] for row in found["rows"]}:
        raise ValueError(f"{path.name} lacks {RIVAL}, which mlr is compared with; add its row")
    return found


def _of(scores: Record, dataset: str) -> Record:
    """What there is for a data set, however its name is spelt, by horizon."""
    return next((by for name, by in scores.items() if name.lower() == dataset.lower()), {})


def table(found: Record, dataset: str) -> list[str]:
    """Published scores for a data set, a line for each model; nothing where none is known."""
    best = _of(found["best"]["scores"], dataset)
    if not best:
        return []
    horizons = list(best)
    lines = tables.head(3, "published model", "look-back", "grade", *horizons)
    for row in found["rows"]:
        scores = _of(row["scores"], dataset)
        if scores:
            shown = [f"{scores[h][0]:.3f} / {scores[h][1]:.3f}" if h in scores else "" for h in horizons]
            lines.append(tables.line(row["model"], row["look_back"], row["grade"], *shown))
    shown = [f"{best[h]['mse']:.3f} / {best[h]['mae']:.3f}" for h in horizons]
    lines.append(tables.line("C: best channel-independent", "one for all", "clean", *shown))
    whose = [f"{h}: {best[h]['mse_from']} / {best[h]['mae_from']}" for h in horizons]
    return [*lines, "", f"Whose C is, MSE / MAE: {'; '.join(whose)}."]


def rivals(found: Record, dataset: str, horizon: int) -> dict[str, Record]:
    """The two rows that mlr is compared with, each MSE and MAE; those that are known."""
    (row,) = [row for row in found["rows"] if row["model"] == RIVAL]
    named: dict[str, Record] = {}
    if pair := _of(row["scores"], dataset).get(str(horizon)):
        named["PatchTST/42"] = {"mse": pair[0], "mae": pair[1]}
    if cell := _of(found["best"]["scores"], dataset).get(str(horizon)):
        named["C"] = cell
    return named


def verdict(ours: float, theirs: float) -> str:
    """Below, level or above, and by how much."""
    difference = ours - theirs
    word = "level" if abs(difference) < _LEVEL else "below" if difference < 0 else "above"
    return f"{word} ({difference:+z.4f})"


def beside(found: Record, rows: list[Record], model: str = "mlr") -> list[str]:
    """A model's scores on one data set beside the two rows; nothing where there is nothing to compare."""
    lines = []
    for (dataset, horizon), cell in tables.cells([r for r in rows if r["model"] == model], "dataset", "horizon"):
        known = rivals(found, dataset, horizon)
        if known:
            scores = {name: tables.mean(cell, name) for name in ("mse", "mae")}
            words = [verdict(scores[s], known[who][s]) if who in known else "" for who in _WHO for s in scores]
            lines.append(tables.line(str(horizon), str(len(cell)), *(f"{v:.4f}" for v in scores.values()), *words))
    names = [f"{score} and {who}" for who in _WHO for score in ("MSE", "MAE")]
    return [*tables.head(1, "horizon", "seeds", f"{model} MSE", "MAE", *names), *lines] if lines else []


_WHO = ("PatchTST/42", "C")


def tally(found: Record, records: list[Record], model: str = "mlr") -> list[str]:
    """In how many cells a model is below the two rows, in sentences; nothing where nothing compares."""
    said = []
    for who in _WHO:
        counts: dict[str, dict[str, int]] = {"mse": {}, "mae": {}}
        for (dataset, horizon), cell in tables.cells([r for r in records if r["model"] == model], "dataset", "horizon"):
            if row := rivals(found, dataset, horizon).get(who):
                for score, words in counts.items():
                    word = verdict(tables.mean(cell, score), row[score]).split()[0]
                    words[word] = words.get(word, 0) + 1
        if n := sum(counts["mse"].values()):
            told = [
                f"{score.upper()} below in {words.get('below', 0)}, level in {words.get('level', 0)} and above in"
                f" {words.get('above', 0)} of {n}"
                for score, words in counts.items()
            ]
            said.append(
                f"- `{model}` and {'PatchTST/42, bug fixed' if who == 'PatchTST/42' else who}: {'; '.join(told)}."
            )
    return said


def sources(found: Record) -> list[str]:
    """Where each row comes from, and what the grades mean."""
    grades = [name for name in GRADES if any(row["grade"] == name for row in found["rows"])]
    lines = [*(f"- `{name}`: {GRADES[name]}" for name in grades), ""]
    lines += [*tables.head(5, "published model", "look-back", "grade", "source", "remark")]
    lines += [tables.line(*(row[name] for name in _FIELDS[:5])) for row in found["rows"]]
    return [*lines, "", f"C takes, cell by cell, the least score of {found['best']['about']}."]
