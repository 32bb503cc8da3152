"""What do the records say? Renders the tables of README and log, and the pages of benchmarks, speed and conformance.

Run it after `tsattn benchmark`; with ``--check`` it writes nothing and fails where a page says something else.
"""

import argparse
import hashlib
import importlib.util
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from tsattn.benchmark import REQUIRED, read_record
from tsattn.catalogue import MODELS


# Its own folder is not searched for modules (PYTHONSAFEPATH), so neighbours are loaded by their paths.
def _neighbour(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


conformance, intervals, levers, scale = (_neighbour(name) for name in ("conformance", "intervals", "levers", "scale"))

Record = dict[str, Any]

# What stands between these marks of README is written here and nowhere else; the log has the same for its levers.
BEGIN = "<!-- results:begin -->"
END = "<!-- results:end -->"
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
    outdated = plot_is_outdated(options.root / "benchmarks" / "results")
    if outdated:
        print("report: speed.svg shows other records; run `benchmarks/speed.py --plot`", file=sys.stderr)
    if options.check:
        for path in stale:
            print(f"report: {path} differs from the records; run `make report`", file=sys.stderr)
        return 1 if stale or outdated else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages[path], encoding="utf-8")
    return 1 if outdated else 0


def render(root: Path) -> dict[Path, str]:
    """The pages as the records have them.

    Args:
        root: The checkout: records in ``benchmarks/results``.

    Returns:
        The whole text of README.md and of the pages in docs that hold figures, by path.

    Raises:
        ValueError: If a record lacks a field, rows do not compare, or README has no marks.
    """
    folder = root / "benchmarks" / "results"
    records = read_results(folder)
    headline = read_headline(folder / "headline.jsonl", records)
    suites = conformance.read_complete(folder / conformance.FILE)
    times = scale.read_record(folder / scale.FILE)
    readme, docs, log = root / "README.md", root / "docs", root / "docs" / "log.md"
    page = docs / "scale.md"
    told = _text(log)
    for name, marks in levers.MARKS.items():
        rows = levers.read_rows(folder / name)
        told = _between_marks(
            log, told, "\n".join([levers.table(name, rows), "", _origin(rows)]) if rows else _NONE, *marks
        )
    front = _between_marks(readme, _text(readme), headline_table(headline), BEGIN, END)
    return {
        readme: _between_marks(readme, front, conformance.table(suites), *conformance.MARKS),
        docs / "benchmarks.md": benchmarks_page(records),
        docs / "speed.md": speed_page(read_speed(folder / "speed.jsonl")),
        docs / "conformance.md": conformance.page(suites),
        docs / "intervals.md": intervals.page(intervals.read_rows(folder / intervals.FILE)),
        page: _between_marks(page, _text(page), scale.table(times), *scale.MARKS),
        log: told,
    }


def read_results(folder: Path) -> list[Record]:
    """Every record of a folder, sorted, after checking that rows of one model or data set compare.

    Raises:
        ValueError: If a record is damaged, lacks provenance, or does not belong with the others.
    """
    records = []
    for path in sorted(folder.glob("*.json")):
        if path.name in (conformance.FILE, intervals.FILE, scale.FILE):
            continue
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


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _between_marks(path: Path, page: str, text: str, begin: str, end: str) -> str:
    """The page of a path with a text between two marks."""
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


# --- speed ------------------------------------------------------------------------------------------------------

_SPEED_FIELDS = {
    *("kind", "case", "shape", "variant", "levels", "way", "causal", "mode", "threads", "ratio", "gate_error"),
    *("commit", "versions", "machine", "finished"),
}
_SPEED_MORE = {
    "time": {"ratio_low", "ratio_high", "cpu_ratio", "ms", "baseline_ms", "rounds"},
    "memory": {"increase_mb", "baseline_mb"},
}
_SPEED_VARIANTS = {
    "standard": "this library's attention without levels",
    "sliding_window": "a window of an eighth of the length (to either side where it is not causal)",
    "global_local": "two softmaxes, half of the features over all keys, half in such a window",
    "mlr3": "distance-dependent MLR, ranks K/2, K/4 and the rest",
    "mlr4": "the same, ranks 32, 16, 8, 8",
    "mlr8": "the same, ranks 32, 8, 6, 4, 4, 4, 4, 2",
    "bilinear_mlr": "what a bilinear MLR score comes to: a dot product of Σ r p features, ranks of `mlr3`, p 1, 2, 4",
    "bilinear_btt": "what a bilinear BTT score comes to: a dot product of as many features as the model is wide, H K",
}
_SPEED_HEAD = """\
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


def read_speed(path: Path) -> list[Record]:
    """The records of speed.py, each whole, known once, and all of one machine.

    Raises:
        ValueError: If a line is damaged, says nothing of its origin, is there twice, or is of another machine.
    """
    if not path.exists():
        return []
    rows: list[Record] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        where = f"{path.name}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        kind = str(row.get("kind")) if isinstance(row, dict) else ""
        if kind not in _SPEED_MORE:
            raise ValueError(f"{where}: not a record of {' or '.join(_SPEED_MORE)}; remove it and run speed.py again")
        if absent := (_SPEED_FIELDS | _SPEED_MORE[kind]) - set(row):
            raise ValueError(f"{where} lacks {', '.join(sorted(absent))}; remove it and run speed.py again")
        for field in ("commit", "versions", "machine"):
            if not row[field]:
                raise ValueError(f"{where} does not say where it comes from: {field} is {row[field]!r}; run it again")
        rows.append(row)
    _check_one_run(rows, path.name)
    return rows


def _check_one_run(rows: list[Record], name: str) -> None:
    for field, pick in (
        ("machine", lambda row: row["machine"]),
        ("threads", lambda row: row["threads"]),
        ("torch", lambda row: row["versions"]["torch"]),
    ):
        if len(found := {pick(row) for row in rows}) > 1:
            raise ValueError(f"{name} has rows of more than one {field} ({sorted(found)}); run all of them anew")
    places = [_speed_place(row) for row in rows]
    if twice := [place for place in places if places.count(place) > 1]:
        raise ValueError(f"{name} says two things of {twice[0]}; remove one")


def _speed_place(row: Record) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("kind", "case", "variant", "way", "causal", "mode"))


def plot_is_outdated(folder: Path) -> bool:
    """Does speed.svg lack the checksum of the records, or is it missing?"""
    records, plot = folder / "speed.jsonl", folder / "speed.svg"
    if not records.exists():
        return plot.exists()
    return not plot.exists() or hashlib.sha256(records.read_bytes()).hexdigest() not in plot.read_text("utf-8")


def speed_page(rows: list[Record]) -> str:
    """docs/speed.md: ratios by length and variant, by way, and of memory."""
    if not rows:
        return f"{_SPEED_HEAD}\n{_NONE}\n"
    rows = sorted(rows, key=lambda row: (row["shape"][2:], row["shape"]))
    timed = [row for row in rows if row["kind"] == "time"]
    plot = "![Ratio of a training step against length](../benchmarks/results/speed.svg)"
    lines = [_SPEED_HEAD, *(f"- `{name}`: {about}." for name, about in _SPEED_VARIANTS.items()), "", plot, ""]
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
    return "\n".join([*lines, "", _origin(rows), ""])


_WAYS_NOTE = """\
Each way forced, not causal, against the same baseline; `auto` is what is taken when nothing is asked. Ways that do not
serve a variant stay empty, and longer sequences have the chosen way only."""
_MEMORY_NOTE = """\
By how much one training step, not causal, raises the peak of resident memory, in a fresh process whose inputs stand
already, after a short step that loads the code: the ratio to what the baseline adds, megabytes in brackets, and the
ratio to the variant's own at half the length."""


def _ratio_table(rows: list[Record]) -> list[str]:
    variants = [name for name in _SPEED_VARIANTS if any(row["variant"] == name for row in rows)]
    lines = [_line("(B, H, L, K)", "baseline [ms]", *variants), _line("---", *["---:"] * (1 + len(variants)))]
    for shape, cell in _by_shape(rows):
        of = {row["variant"]: row for row in cell}
        middle = sorted(row["baseline_ms"] for row in cell)[len(cell) // 2]
        lines.append(_line(shape, f"{middle:.0f}", *(_ratio(of.get(name)) for name in variants)))
    return lines


def _way_table(rows: list[Record]) -> list[str]:
    """Variants of which more than one way was timed, at the lengths where that was so."""
    cells = [(shape, name, [row for row in cell if row["variant"] == name])
             for shape, cell in _by_shape(rows) for name in _SPEED_VARIANTS]  # fmt: skip
    cells = [cell for cell in cells if len(cell[2]) > 1]
    ways = ["auto", *sorted({row["way"] for _, _, cell in cells for row in cell} - {"auto"})]
    lines = [_line("(B, H, L, K)", "variant", *ways), _line("---", "---", *["---:"] * len(ways))]
    for shape, name, cell in cells:
        of = {row["way"]: row for row in cell}
        lines.append(_line(shape, name, *(_ratio(of.get(way)) for way in ways)))
    return lines


def _memory_table(rows: list[Record]) -> list[str]:
    variants = [name for name in _SPEED_VARIANTS if any(row["variant"] == name for row in rows)]
    header = [text for name in variants for text in (name, f"{name}, to half the length")]
    lines = [_line("(B, H, L, K)", "baseline [MB]", *header), _line("---", *["---:"] * (1 + len(header)))]
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
        lines.append(_line(shape, " / ".join(sorted({f"{row['baseline_mb']:.0f}" for row in cell})), *texts))
    return lines


def _by_shape(rows: list[Record]) -> list[tuple[str, list[Record]]]:
    """Rows of one case, in the order in which they come."""
    groups: dict[str, list[Record]] = {}
    for row in rows:
        groups.setdefault(f"({', '.join(map(str, row['shape']))})", []).append(row)
    return list(groups.items())


def _ratio(row: Record | None) -> str:
    return f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})" if row else ""


if __name__ == "__main__":
    sys.exit(main())
