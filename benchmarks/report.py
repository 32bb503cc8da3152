"""What do the records say? Renders the tables of README and log, the pages in docs that hold figures, and pictures.

Run it after `tsattn benchmark`; with ``--check`` it writes nothing and fails where a page or a picture says something
else.
"""

import argparse
import hashlib
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zero_shot import arms
from zero_shot import page as zero_shot_page

from tsattn.benchmark import REQUIRED, asked, read_record

Record = dict[str, Any]


# Its own folder is not searched for modules (PYTHONSAFEPATH), so neighbours are loaded by their paths.
def _neighbour(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


conformance, intervals, levers, scale = (_neighbour(name) for name in ("conformance", "intervals", "levers", "scale"))
peers_page, published, speed_page = (_neighbour(name) for name in ("peers_page", "published", "speed_page"))
suite_page, suite_pictures, tables = (_neighbour(name) for name in ("suite_page", "suite_pictures", "tables"))
drawings = suite_pictures.drawings
# The page of a name is docs/<name>.md, with pictures of its own: experiments of the paper, and zero-shot forecasts.
_NAMES = ("in_context", "language_model", "paper_etth1", "width_sweep")
experiments = {name: _neighbour(f"{name}_page") for name in _NAMES} | {"zero-shot": zero_shot_page}

# What stands between these marks of README is written here and nowhere else; the log has the same for its levers.
BEGIN = "<!-- results:begin -->"
END = "<!-- results:end -->"
_ALWAYS = ("naive", "seasonal_naive")
# Errors of each step stand in the records alone; a line of the headline may leave them out.
_BY_STEP = ("mse_by_step", "mae_by_step")
_REPEATED = {"config_hash": "model", "data_sha256": "dataset", "split": "dataset"}


def main(argv: Sequence[str] | None = None) -> int:
    """Render or check; 0 when all is well, 1 when a page differs, 2 when the records are not usable."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page differs")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the checkout")
    options = parser.parse_args(argv)
    results, pictures = options.root / "benchmarks" / "results", options.root / "docs" / "pictures"
    try:
        records = read_results(results)
        pages = render(options.root, records)
        rows = {name: page.read_rows(results / page.FILE) for name, page in experiments.items()}
        drawn = [
            (suite_pictures.PICTURES, records),
            *((page.PICTURES, rows[name]) for name, page in experiments.items()),
        ]
        undrawn = [picture for each in drawn for picture in drawings.outdated(pictures, *each)]
    except (ValueError, OSError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text("utf-8") != text]
    outdated = speed_page.plot_is_outdated(results)
    if outdated:
        print("report: speed.svg shows other records; run `benchmarks/speed.py --plot`", file=sys.stderr)
    if options.check:
        for path in [*stale, *(pictures / name for name in undrawn)]:
            print(f"report: {path} differs from the records; run `make report`", file=sys.stderr)
        return 1 if stale or undrawn or outdated else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages[path], encoding="utf-8")
    for each in drawn:
        drawings.update(pictures, *each)
    return 1 if outdated else 0


def render(root: Path, records: list[Record]) -> dict[Path, str]:
    """The pages as the records have them.

    Args:
        root: The checkout: records in ``benchmarks/results``.
        records: Those of the suite, from :func:`read_results`.

    Returns:
        The whole text of README.md and of the pages in docs that hold figures, by path.

    Raises:
        ValueError: If a record lacks a field, rows do not compare, or README has no marks.
    """
    folder, docs = root / "benchmarks" / "results", root / "docs"
    suites = conformance.read_complete(folder / conformance.FILE)
    known = published.read(root / "benchmarks" / published.FILE)
    return {
        root / "README.md": _readme(root / "README.md", read_headline(folder / "headline.jsonl", records), suites),
        docs / "benchmarks.md": suite_page.page(
            records,
            known,
            best_pass=read_results(folder / suite_page.BEST_PASS),
            findings=(docs / "findings.md").exists(),
        ),
        docs / "speed.md": speed_page.page(speed_page.read_rows(folder / "speed.jsonl")),
        docs / "peers.md": peers_page.page(peers_page.read_rows(folder / peers_page.FILE)),
        docs / "conformance.md": conformance.page(suites),
        docs / "intervals.md": intervals.page(intervals.read_rows(folder / intervals.FILE)),
        docs / "scale.md": _scale(docs / "scale.md", scale.read_record(folder / scale.FILE)),
        docs / "log.md": _log(docs / "log.md", folder),
        **{docs / f"{name}.md": _experiment(docs / f"{name}.md", page, folder) for name, page in experiments.items()},
    }


def _experiment(path: Path, page: Any, folder: Path) -> str:
    """A page that is written whole, or by hand around what stands between its marks."""
    rows = page.read_rows(folder / page.FILE)
    if not hasattr(page, "MARKS"):
        return str(page.page(rows))
    text = str(tables.between_marks(path, _text(path), page.table(rows), *page.MARKS))
    if page is not zero_shot_page:
        return text
    return str(tables.between_marks(path, text, arms.table(arms.read_rows(folder / arms.FILE)), *arms.MARKS))


def _readme(path: Path, headline: list[Record], suites: Record) -> str:
    rows = zero_shot_page.read_rows(path.parent / "benchmarks" / "results" / zero_shot_page.FILE)
    front: str = tables.between_marks(path, _text(path), zero_shot_page.summary(rows), *zero_shot_page.README_MARKS)
    front = tables.between_marks(path, front, headline_table(headline), BEGIN, END)
    return tables.between_marks(path, front, conformance.table(suites), *conformance.MARKS)


def _scale(path: Path, times: Record | None) -> str:
    return tables.between_marks(path, _text(path), scale.table(times), *scale.MARKS)


def _log(path: Path, folder: Path) -> str:
    told = _text(path)
    for name, marks in levers.MARKS.items():
        rows = levers.read_rows(folder / name)
        text = "\n".join([levers.table(name, rows), "", tables.origin(rows)]) if rows else tables.NONE
        told = tables.between_marks(path, told, text, *marks)
    return told


def read_results(folder: Path) -> list[Record]:
    """Every record of a folder, sorted, after checking that rows of one model or data set compare.

    Raises:
        ValueError: If a record is damaged, lacks provenance, or does not belong with the others.
    """
    records = []
    for path in sorted(folder.glob("*.json")):
        if path.name in (conformance.FILE, intervals.FILE, scale.FILE, zero_shot_page.PUBLISHED):
            continue
        record = read_record(path)
        if record is None:
            raise ValueError(
                f"{path.name} is no whole record (it needs {', '.join(REQUIRED)}); remove it and run again"
            )
        _check_provenance(record, path.name)
        records.append(record)
    _check_alike(records)
    return sorted(records, key=tables.place)


def read_headline(path: Path, records: list[Record]) -> list[Record]:
    """The rows behind README's table, each of which must be a record of the folder.

    Raises:
        ValueError: If a line is no record, is not among ``records``, or a table lacks the naive models.
    """
    if not path.exists():
        return []
    rows, known = [], [_in_short(record) for record in records]
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if not isinstance(row, dict):
            raise ValueError(f"{path.name}, line {number}: not a JSON object; write it with `tsattn benchmark --json`")
        if row not in records and row not in known:
            raise ValueError(f"{path.name}, line {number}: no record says this; copy rows from benchmarks/results")
        rows.append(row)
    for (dataset, horizon), cell in tables.cells(rows, "dataset", "horizon"):
        if absent := set(_ALWAYS) - {row["model"] for row in cell}:
            raise ValueError(f"{path.name}: {dataset}, horizon {horizon} lacks {min(absent)}; add its row")
    return sorted(rows, key=tables.place)


def _in_short(record: Record) -> Record:
    return {name: value for name, value in record.items() if name not in _BY_STEP}


def headline_table(rows: list[Record]) -> str:
    """README's table: a line for each data set and horizon, a column for each model."""
    if not rows:
        return tables.NONE
    models = sorted({row["model"] for row in rows}, key=tables.rank)
    lines = [["data set", "horizon", "windows", *models]]
    for (dataset, horizon), cell in tables.cells(rows, "dataset", "horizon"):
        by_model = {name: group for (name,), group in tables.cells(cell, "model")}
        best = min(tables.level(group) for group in by_model.values())
        scores = [_score(by_model.get(name, []), best) for name in models]
        lines.append([dataset, str(horizon), str(cell[0]["n_windows"]), *scores])
    most = max(len(group) for _, group in tables.cells(rows, "dataset", "horizon", "model"))
    seeds = "one seed" if most == 1 else f"mean over up to {most} seeds"
    note = f"MSE / MAE on the scale of the training rows, every test window, {seeds}; least MSE bold."
    return "\n".join([*tables.aligned(3, lines), "", f"{note} {tables.origin(rows)}"])


def _score(rows: list[Record], best: float) -> str:
    if not rows:
        return ""
    text = f"{tables.mean(rows, 'mse'):.3f} / {tables.mean(rows, 'mae'):.3f}"
    return f"**{text}**" if tables.level(rows) == best else text


# --- what is refused --------------------------------------------------------------------------------------------


def _check_provenance(record: Record, name: str) -> None:
    for field in ("commit", "config_hash", "data_sha256", "versions", "machine"):
        if not record[field]:
            raise ValueError(f"{name} does not say where it comes from: {field} is {record[field]!r}; run it again")
    for field in _BY_STEP:
        if field in record and len(record[field]) != record["horizon"]:
            raise ValueError(f"{name}: {field} has {len(record[field])} steps of {record['horizon']}; run it again")
    if _hash_of(record["config"]) != record["config_hash"]:
        raise ValueError(f"{name}: its config_hash is not that of its config; it was changed by hand, so run it again")


def _hash_of(config: Record) -> str:
    """What the suite makes of a configuration (tsattn.benchmark)."""
    return hashlib.sha256(json.dumps(asked(config), sort_keys=True).encode()).hexdigest()


def _check_alike(records: list[Record]) -> None:
    for field, owner in _REPEATED.items():
        for (name,), rows in tables.cells(records, owner):
            found = {json.dumps(row[field]): row for row in rows}
            if len(found) > 1:
                both = " and ".join(f"{row['dataset']} {row['horizon']}" for row in list(found.values())[:2])
                raise ValueError(f"{owner} {name} has rows of more than one {field} ({both}); run all of them anew")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
