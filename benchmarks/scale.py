"""From which size on do two processes pay? Training, forecasts, backtests and a grid, beside one process in one run.

The answers of both sides are compared first; what differs gets no time. Then they run in turns, each on one thread a
process. The record is benchmarks/results/scale.json, rendered into docs/scale.md by report.py.
Run: python benchmarks/scale.py [--kind training ...] [--quick] [--patience SECONDS]
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from tsattn.benchmark import Suite, provenance, run_suite
from tsattn.distributed import backtest_many, ddp_settings, distributed_map, predict_many
from tsattn.forecasters.classical import StatsmodelsForecaster
from tsattn.forecasters.naive import Naive
from tsattn.storage import write_json

FILE = "scale.json"
RESULTS = Path(__file__).resolve().parent / "results"
# What stands between these marks of docs/scale.md is rendered from the record.
MARKS = ("<!-- scale:begin -->", "<!-- scale:end -->")
PROCESSES = 2
RTOL = 1e-3  # of answers: float32 sums in another order, over whole fits
LONG = 30.0  # seconds of a turn after which two turns must do
_FIELDS = {"kind", "size", "one_seconds", "two_seconds", "ratio", "ratio_low", "ratio_high", "rounds", "busy"}
_ORIGIN = ("versions", "commit", "machine", "finished", "start_seconds")
_BORDER = 0.9  # a ratio below it pays; above, the next run may say otherwise
_QUIET = 0.1  # of the processors' time: less is nobody
_CROWDED = 0.25  # more, and two processes were not given what they are said to use
Run = Callable[[int | None], np.ndarray]


class Task(NamedTuple):
    """One kind of work at one size.

    Args:
        kind: What is done.
        size: How much of it, in words.
        prepare: Makes the data; what it gives runs on a number of processes, or here, and answers with numbers.
    """

    kind: str
    size: str
    prepare: Callable[[], Run]


def table_of(n_series: int, n_rows: int) -> pd.DataFrame:
    """Seasonal series with noise, on integer stamps."""
    chance, steps = np.random.default_rng(0), np.arange(n_rows)
    y = np.sin(steps * np.pi / 12 + chance.uniform(0, 6, (n_series, 1))) + 0.3 * chance.normal(size=(n_series, n_rows))
    ids = np.repeat(np.arange(n_series), n_rows)
    return pd.DataFrame({"unique_id": ids, "ds": np.tile(steps, n_series), "y": y.ravel()})


def network(**settings: Any) -> Any:
    """The attention forecaster of these measurements; without dropout, so that both sides learn the same."""
    # Here, since report.py reads this file for its table only.
    from tsattn.forecasters.attention import AttentionForecaster

    given = {"context": 96, "dropout": 0.0, "max_epochs": 1, "patience": None, "freq": 1, "random_state": 0}
    return AttentionForecaster(24, **given | settings)


def training(n_series: int, **settings: Any) -> Run:
    """A fit, the start of its processes included."""
    df = table_of(n_series, 1000)

    def run(engine: int | None) -> np.ndarray:
        model = network(**settings, trainer=None if engine is None else ddp_settings(engine)).fit(df)
        return model.history_["valid_loss"].to_numpy()

    return run


def forecasts(n_series: int, **settings: Any) -> Run:
    """Forecasts of many series by a fitted network."""
    model, df = network(**settings).fit(table_of(10, 500)), table_of(n_series, 200)
    return lambda engine: predict_many(model, df, engine=engine)["mlr"].to_numpy()


def by_series(n_series: int) -> Run:
    """Rolling evaluation of exponential smoothing, which is estimated anew on each window."""
    df, model = table_of(n_series, 200), StatsmodelsForecaster(12, "ets", season_length=24, freq=1)
    options = {"n_windows": 4, "step_size": 12, "freq": 1, "season_length": 24}
    return lambda engine: backtest_many(model, df, by="series", engine=engine, **options).frame["ets"].to_numpy()


def by_fold(n_series: int) -> Run:
    """Rolling evaluation of a linear network that is fitted before each of eight cutoffs."""
    from tsattn.forecasters.attention import LinearForecaster

    df, model = table_of(n_series, 600), LinearForecaster(24, context=96, max_epochs=3, freq=1, random_state=0)
    options = {"n_windows": 8, "step_size": 24, "refit": True, "freq": 1, "season_length": 24}
    return lambda engine: backtest_many(model, df, engine=engine, **options).frame["nlinear"].to_numpy()


def grid(n_rows: int) -> Run:
    """Eight runs of the benchmark suite: two linear networks, four seeds each."""
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "table.csv"
    table_of(1, n_rows)[["ds", "y"]].rename(columns={"ds": "date"}).assign(z=lambda t: t["y"] ** 2).to_csv(
        path, index=False
    )
    suite = Suite(
        table=path, split="0.7,0.1,0.2", horizons=(24,), models=("nlinear", "dlinear"), seeds=(0, 1, 2, 3), context=96,
        max_epochs=3, columns={"freq": 1},
    )  # fmt: skip

    def run(engine: int | None) -> np.ndarray:
        assert folder.name, "the table must outlive the runs"
        return np.array([record["mse"] for record in run_suite(suite, engine=engine)])

    return run


_WIDE = {"d_model": 64, "n_heads": 4, "d_ff": 256, "batch_size": 512}
TASKS = (
    Task("training", "default network, 7,810 windows, batches of 128", lambda: training(10)),
    Task("training", "width 64, 7,810 windows, batches of 512", lambda: training(10, **_WIDE)),
    Task("training", "width 64, 31,240 windows, batches of 512", lambda: training(40, **_WIDE)),
    Task("forecasts", "default network, 1,000 series", lambda: forecasts(1000)),
    Task("forecasts", "default network, 20,000 series", lambda: forecasts(20_000)),
    Task("forecasts", "width 64, 20,000 series", lambda: forecasts(20_000, **_WIDE)),
    Task("backtest by series", "exponential smoothing, 20 series, 4 windows", lambda: by_series(20)),
    Task("backtest by series", "exponential smoothing, 200 series, 4 windows", lambda: by_series(200)),
    Task("backtest by fold", "linear network, 8 fits on 5 series", lambda: by_fold(5)),
    Task("backtest by fold", "linear network, 8 fits on 100 series", lambda: by_fold(100)),
    Task("grid", "8 runs on 1,000 rows", lambda: grid(1000)),
    Task("grid", "8 runs on 20,000 rows", lambda: grid(20_000)),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is asked; 0 when all was recorded, 1 when answers differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = list(dict.fromkeys(task.kind for task in TASKS))
    parser.add_argument("--kind", action="append", choices=kinds, help="only these; nothing is written then")
    parser.add_argument("--quick", action="store_true", help="the smallest size of each, once; nothing is written")
    parser.add_argument("--patience", type=float, default=0, help="seconds to wait for a quiet machine before a turn")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    tasks = [task for task in TASKS if task.kind in (options.kind or kinds)]
    if options.quick:
        tasks = [next(task for task in tasks if task.kind == kind) for kind in dict.fromkeys(t.kind for t in tasks)]
    start = start_seconds()
    rows = []
    for task in tasks:
        row = measure(task, rounds=1 if options.quick else 3, patience=options.patience)
        if row is None:
            print(f"scale: one process and {PROCESSES} answer {task.kind}, {task.size} differently", file=sys.stderr)
            return 1
        rows.append(row)
        print(line_of(row), flush=True)
    if not options.kind and not options.quick:
        write_json(RESULTS / FILE, {"rows": rows, "start_seconds": start, **provenance(Naive(1))})
    return 0


def start_seconds() -> float:
    """Seconds until worker processes have started and loaded the library."""
    began = time.perf_counter()
    distributed_map(_load, range(PROCESSES), engine=PROCESSES)
    return round(time.perf_counter() - began, 2)


def _load(_: int) -> str:
    import tsattn.forecasters.attention

    return tsattn.forecasters.attention.__name__


def measure(task: Task, *, rounds: int, patience: float) -> dict[str, Any] | None:
    """Time one process and several in turns; ``None`` where their answers differ."""
    run, busy = task.prepare(), []
    # The first turns warm up, and show what both sides say.
    if not np.allclose(run(None), run(PROCESSES), rtol=RTOL, atol=RTOL):
        return None
    pairs: list[tuple[float, float]] = []
    while len(pairs) < (min(rounds, 2) if pairs and sum(pairs[0]) > LONG else rounds):
        busy.append(wait_for_quiet(patience))
        pairs.append((_seconds(run, None), _seconds(run, PROCESSES)))
    ratios = sorted(two / one for one, two in pairs)
    return {
        "kind": task.kind,
        "size": task.size,
        "one_seconds": round(median(one for one, _ in pairs), 4),
        "two_seconds": round(median(two for _, two in pairs), 4),
        "ratio": round(median(ratios), 4),
        "ratio_low": round(ratios[0], 4),
        "ratio_high": round(ratios[-1], 4),
        "rounds": len(pairs),
        "busy": round(max(busy), 2),
    }


def wait_for_quiet(patience: float) -> float:
    """Wait until other programs leave the processors alone, but not for ever; the share of time that they take.

    Where the system does not tell (it is Linux that does), nobody is waited for, and the share is 0.
    """
    end = time.monotonic() + patience
    while True:
        before, total = _ticks()
        time.sleep(1)
        after, later = _ticks()
        share = (after - before) / max(later - total, 1)
        if share < _QUIET or time.monotonic() > end:
            return share


def _ticks() -> tuple[int, int]:
    """Time in which the processors worked for programs that do not give way (``nice``), and all of it."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    except OSError:
        return 0, 1
    ticks = [int(each) for each in first.split()[1:]]
    _, nice, _, idle, waiting, *_ = ticks
    return sum(ticks) - nice - idle - waiting, sum(ticks)


def _seconds(run: Run, engine: int | None) -> float:
    began = time.perf_counter()
    run(engine)
    return time.perf_counter() - began


# --- the record and its table -----------------------------------------------------------------------------------


def read_record(path: Path) -> dict[str, Any] | None:
    """The record, or ``None`` where nothing was measured yet.

    Raises:
        ValueError: If the file is damaged, or does not say where it comes from.
    """
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        record = None
    rows = record.get("rows") if isinstance(record, dict) else None
    if not isinstance(rows, list) or any(not isinstance(row, dict) or _FIELDS - set(row) for row in rows):
        raise ValueError(f"{path.name} is no record of times; remove it and run benchmarks/scale.py")
    assert isinstance(record, dict)
    if absent := [field for field in _ORIGIN if not record.get(field)]:
        raise ValueError(f"{path.name} does not say where it comes from: {absent[0]}; run benchmarks/scale.py again")
    return record


def table(record: dict[str, Any] | None) -> str:
    """The lines between the marks of docs/scale.md."""
    if record is None:
        return "No run is recorded yet."
    head = ("work", "size", "one process [s]", f"{PROCESSES} processes [s]", "ratio")
    lines = [f"| {' | '.join(head)} |", "| --- | --- | ---: | ---: | ---: |"]
    lines += [line_of(row) for row in record["rows"]]
    kinds = dict.fromkeys(row["kind"] for row in record["rows"])
    lines += ["", *(f"- {kind}: {verdict([r for r in record['rows'] if r['kind'] == kind])}." for kind in kinds)]
    busy = max(row["busy"] for row in record["rows"])
    lines += [
        "",
        f"Starting workers took {record['start_seconds']:.0f} s, once. Before the turns, other programs took at most"
        f" {busy:.0%} of the processors. Commit `{record['commit'][:12]}`; torch {record['versions']['torch']};"
        f" {record['machine']}.",
    ]
    return "\n".join(lines)


def line_of(row: dict[str, Any]) -> str:
    """One row of the table."""
    ratio = f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
    cells = (row["kind"], row["size"], f"{row['one_seconds']:.2f}", f"{row['two_seconds']:.2f}", ratio)
    return f"| {' | '.join(cells)} |"


def verdict(rows: Sequence[dict[str, Any]]) -> str:
    """From which of the sizes on several processes pay."""
    if max(row["busy"] for row in rows) > _CROWDED:
        return "not known, since other programs took the processors meanwhile"
    paying = [row["ratio"] < _BORDER for row in rows]
    first = next((n for n in range(len(rows)) if all(paying[n:])), None)
    if first is None:
        return f"not at {rows[-1]['size']} or below"
    return f"from {rows[first]['size']} on" if first else f"at {rows[0]['size']} already"


if __name__ == "__main__":
    sys.exit(main())
