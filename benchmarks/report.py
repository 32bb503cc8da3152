"""What do the records say? Renders the tables of README, log and docs/benchmarks.md, if the rows compare.

Run it after `tsattn benchmark`; with ``--check`` it writes nothing and fails where a page says something else.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from tsattn.benchmark import REQUIRED, read_record
from tsattn.catalogue import MODELS

Record = dict[str, Any]

# What stands between these marks of README is written here and nowhere else; the log has the same for its levers.
BEGIN = "<!-- results:begin -->"
END = "<!-- results:end -->"
LEVERS = ("<!-- levers:begin -->", "<!-- levers:end -->")
_ALWAYS = ("naive", "seasonal_naive")
_REPEATED = {"config_hash": "model", "data_sha256": "dataset", "split": "dataset"}
_NONE = "No run is recorded yet."


def main(argv: Sequence[str] | None = None) -> int:
    """Render or check; 0 when all is well, 1 when a page differs, 2 when the records are not usable."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page differs")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the checkout")
    options = parser.parse_args(argv)
    try:
        pages = render(options.root)
    except (ValueError, OSError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text("utf-8") != text]
    if options.check:
        for path in stale:
            print(f"report: {path} differs from the records; run `make report`", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages[path], encoding="utf-8")
    return 0


def render(root: Path) -> dict[Path, str]:
    """The pages as the records have them.

    Args:
        root: The checkout: records in ``benchmarks/results``.

    Returns:
        The whole text of README.md, docs/benchmarks.md and docs/log.md, by path.

    Raises:
        ValueError: If a record lacks a field, rows do not compare, or README has no marks.
    """
    folder = root / "benchmarks" / "results"
    records = read_results(folder)
    headline = read_headline(folder / "headline.jsonl", records)
    readme, docs, log = root / "README.md", root / "docs" / "benchmarks.md", root / "docs" / "log.md"
    return {
        readme: _between_marks(readme, headline_table(headline), BEGIN, END),
        docs: benchmarks_page(records),
        log: _between_marks(log, levers_table(folder / "levers.jsonl"), *LEVERS),
    }


def read_results(folder: Path) -> list[Record]:
    """Every record of a folder, sorted, after checking that rows of one model or data set compare.

    Raises:
        ValueError: If a record is damaged, lacks provenance, or does not belong with the others.
    """
    records = []
    for path in sorted(folder.glob("*.json")):
        record = read_record(path)
        if record is None:
            raise ValueError(
                f"{path.name} is no whole record (it needs {', '.join(REQUIRED)}); remove it and run again"
            )
        _check_provenance(record, path.name)
        records.append(record)
    _check_alike(records)
    return sorted(records, key=_place)


def read_headline(path: Path, records: list[Record]) -> list[Record]:
    """The rows behind README's table, each of which must be a record of the folder.

    Raises:
        ValueError: If a line is no record, is not among ``records``, or a table lacks the naive models.
    """
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if not isinstance(row, dict):
            raise ValueError(f"{path.name}, line {number}: not a JSON object; write it with `tsattn benchmark --json`")
        if row not in records:
            raise ValueError(f"{path.name}, line {number}: no record says this; copy rows from benchmarks/results")
        rows.append(row)
    for (dataset, horizon), cell in _cells(rows, "dataset", "horizon"):
        if absent := set(_ALWAYS) - {row["model"] for row in cell}:
            raise ValueError(f"{path.name}: {dataset}, horizon {horizon} lacks {min(absent)}; add its row")
    return sorted(rows, key=_place)


def headline_table(rows: list[Record]) -> str:
    """README's table: a line for each data set and horizon, a column for each model."""
    if not rows:
        return _NONE
    models = sorted({row["model"] for row in rows}, key=_rank)
    lines = [_line("data set", "horizon", "windows", *models), _line(*["---"] * 3, *["---:"] * len(models))]
    for (dataset, horizon), cell in _cells(rows, "dataset", "horizon"):
        by_model = {name: group for (name,), group in _cells(cell, "model")}
        best = min(_mean(group, "mse") for group in by_model.values())
        scores = [_score(by_model.get(name, []), best) for name in models]
        lines.append(_line(dataset, str(horizon), str(cell[0]["n_windows"]), *scores))
    most = max(len(group) for _, group in _cells(rows, "dataset", "horizon", "model"))
    seeds = "one seed" if most == 1 else f"mean over up to {most} seeds"
    note = f"MSE / MAE on the scale of the training rows, every test window, {seeds}; least MSE bold. {_origin(rows)}"
    return "\n".join([*lines, "", note])


def benchmarks_page(records: list[Record]) -> str:
    """docs/benchmarks.md: every record, a table for each data set."""
    lines = [
        "<!-- written by benchmarks/report.py from benchmarks/results; change the records, not this page -->",
        "",
        "# Benchmarks",
        "",
        "Protocol: fitted on the published training rows, stopped early on the validation rows, judged on every",
        "window of the test rows, one step apart. Scores are on the scale of the training rows. Several seeds are",
        "given as mean ± standard deviation.",
        "",
    ]
    for (dataset,), rows in _cells(records, "dataset"):
        train, valid, test = rows[0]["split"]
        lines += [f"## {dataset}", "", f"{train} training, {valid} validation and {test} test rows.", ""]
        lines += [_line(*_HEADER), _line(*["---"] * 2, *["---:"] * (len(_HEADER) - 2))]
        lines += [_line(*_full(cell)) for _, cell in _cells(rows, "horizon", "model")]
        lines += ["", _origin(rows), ""]
    return "\n".join(lines if records else [*lines, _NONE, ""])


def levers_table(path: Path) -> str:
    """The log's table of settings tried on validation rows, in the order in which they were run."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    if not rows:
        return _NONE
    names = ("data set", "horizon", "setting", "validation MSE", "MAE", "best epoch", "parameters", "fit [s]")
    lines = [_line(*names), _line(*["---"] * 3, *["---:"] * 5)]
    for row in rows:
        scores = (f"{row['valid_mse']:.4f}", f"{row['valid_mae']:.4f}", str(row["best_epoch"]), str(row["parameters"]))
        lines.append(_line(row["dataset"], str(row["horizon"]), row["setting"], *scores, f"{row['fit_seconds']:.0f}"))
    return "\n".join([*lines, "", _origin(rows)])


_HEADER = (
    *("horizon", "model", "context", "seeds", "windows", "MSE", "MAE"),
    *("parameters", "fit [s]", "predict [s]", "peak [MB]"),
)


def _full(rows: list[Record]) -> list[str]:
    first = rows[0]
    peaks = [row["peak_mb"] for row in rows if row["peak_mb"] is not None]
    return [
        *(str(first[name]) for name in ("horizon", "model", "context")),
        *(str(len(rows)), str(first["n_windows"])),
        *(_spread(rows, name) for name in ("mse", "mae")),
        str(first["params"]),
        *(f"{_mean(rows, name):.1f}" for name in ("fit_seconds", "predict_seconds")),
        f"{fmean(peaks):.0f}" if peaks else "",
    ]


def _check_provenance(record: Record, name: str) -> None:
    for field in ("commit", "config_hash", "data_sha256", "versions", "machine"):
        if not record[field]:
            raise ValueError(f"{name} does not say where it comes from: {field} is {record[field]!r}; run it again")


def _check_alike(records: list[Record]) -> None:
    for field, owner in _REPEATED.items():
        for (name,), rows in _cells(records, owner):
            found = {json.dumps(row[field]): row for row in rows}
            if len(found) > 1:
                both = " and ".join(f"{row['dataset']} {row['horizon']}" for row in list(found.values())[:2])
                raise ValueError(f"{owner} {name} has rows of more than one {field} ({both}); run all of them anew")


def _between_marks(path: Path, text: str, begin: str, end: str) -> str:
    page = path.read_text(encoding="utf-8") if path.exists() else ""
    head, opened, rest = page.partition(begin)
    _, closed, tail = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"{path.name} lacks the marks {begin!r} and {end!r}; put them where the table shall stand")
    return f"{head}{begin}\n{text}\n{end}{tail}"


def _origin(rows: list[Record]) -> str:
    def names(pick: Callable[[Record], str]) -> str:
        return ", ".join(sorted({pick(row) for row in rows}))

    commits = names(lambda row: f"`{row['commit'][:12]}`")
    torch = names(lambda row: row["versions"]["torch"])
    machine = "; ".join(sorted({row["machine"] for row in rows}))
    return f"Commit {commits}; torch {torch}; {machine}."


def _place(row: Record) -> tuple[Any, ...]:
    return row["dataset"].lower(), row["dataset"], row["horizon"], _rank(row["model"]), row["seed"]


def _rank(model: str) -> tuple[int, str]:
    return (list(MODELS).index(model) if model in MODELS else len(MODELS)), model


def _cells(rows: Iterable[Record], *names: str) -> list[tuple[tuple[Any, ...], list[Record]]]:
    """Rows that share the fields ``names``, in the order of the tables."""

    def key(row: Record) -> tuple[Any, ...]:
        return tuple(row[name] for name in names)

    ordered = sorted(sorted(rows, key=_place), key=key)
    cells = [(k, list(group)) for k, group in groupby(ordered, key=key)]
    return sorted(cells, key=lambda cell: _place(cell[1][0]))


def _score(rows: list[Record], best: float) -> str:
    if not rows:
        return ""
    text = f"{_mean(rows, 'mse'):.3f} / {_mean(rows, 'mae'):.3f}"
    return f"**{text}**" if _mean(rows, "mse") == best else text


def _spread(rows: list[Record], name: str) -> str:
    values = [row[name] for row in rows]
    return f"{fmean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


def _mean(rows: list[Record], name: str) -> float:
    return fmean(row[name] for row in rows)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
