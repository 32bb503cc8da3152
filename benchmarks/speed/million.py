"""Measures forecasts of very many series from Parquet to Parquet, also killed and resumed, and
compares one process, two processes, Dask, Ray and Spark on the same table.

The table is made of random walks with a week's season, outside of the repository. The command runs
in a process of its own and is killed when half of the batches are written. Run:
PYTHONPATH=benchmarks python benchmarks/speed/million.py --folder DIR [--series N] [--kind KIND]
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from records import RESULTS, Record, Records, parse

FILE = "million.jsonl"
# Fields that identify a measurement.
KEY = ("kind", "series", "rows", "horizon", "model", "engine", "batch_series")
ROWS = 200
HORIZON = 7
WEIGHTS = "zero-5h-small"
# Series of a batch of the command, and of one row group of the table.
_BATCH = 20_000
_GROUP_SERIES = 5_000
_PIECES = 8  # batches of the table that the engines share
_KB_OF_MB = 1024
_WATCH_SECONDS = 0.2


def make_table(path: Path, n_series: int) -> Path:
    """A table of daily series with ids of text, unless it exists."""
    if path.exists():
        return path
    days = np.datetime64("2024-01-01") + np.arange(ROWS)
    season = np.sin(2 * np.pi * np.arange(ROWS) / 7)
    schema = pa.schema(
        [("unique_id", pa.string()), ("ds", pa.timestamp("ms")), ("y", pa.float32())]
    )
    temporary = path.with_suffix(".part")
    with pq.ParquetWriter(temporary, schema) as writer:
        for first in range(0, n_series, _GROUP_SERIES):
            n = min(_GROUP_SERIES, n_series - first)
            rng = np.random.default_rng(first)
            walks = rng.normal(size=(n, ROWS)).cumsum(axis=1)
            values = 50 + walks + rng.uniform(0, 10, size=(n, 1)) * season
            names = pa.array([f"series-{number:07}" for number in range(first, first + n)])
            owners = pa.array(np.repeat(np.arange(n), ROWS))
            stamps = pa.array(np.tile(days.astype("M8[ms]"), n))
            arrays = [names.take(owners), stamps, pa.array(values.ravel().astype(np.float32))]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
    temporary.replace(path)
    return path


def make_model(folder: Path) -> Path:
    """A folder with the small weights of the pretrained forecaster."""
    from tsattn import PretrainedForecaster

    if not folder.exists():
        days = pd.date_range("2024-01-01", periods=ROWS, freq="D")
        table = pd.DataFrame({"unique_id": "a", "ds": days, "y": np.arange(ROWS) % 7.0})
        PretrainedForecaster(HORIZON, weights=WEIGHTS).fit(table).save(folder)
    return folder


def command(table: Path, model: Path, out: Path) -> list[str]:
    """The command line that is measured."""
    words = [sys.executable, "-m", "tsattn", "forecast", str(table), "--from", str(model)]
    return [*words, "--out", str(out), "--batch-series", str(_BATCH)]


def measure(words: list[str], *, kill_at: tuple[Path, int] | None = None) -> dict[str, Any]:
    """Seconds and peak resident memory of a command, which is killed once a folder holds so many
    batches.
    """
    began = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    has_ended = threading.Event()

    def watch() -> None:
        assert kill_at is not None
        folder, n_parts = kill_at
        while not has_ended.wait(_WATCH_SECONDS):
            if len(list(folder.glob("[0-9]*.parquet"))) >= n_parts:
                os.kill(process.pid, signal.SIGKILL)
                return

    if kill_at is not None:
        threading.Thread(target=watch, daemon=True).start()
    assert process.stdout is not None
    text = process.stdout.read()
    has_ended.set()
    pairs = [line.split(maxsplit=1) for line in text.splitlines()]
    printed = dict(pair for pair in pairs if len(pair) == 2)
    printed.pop("saved", None)  # the path of the machine
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}")
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(usage.ru_maxrss / _KB_OF_MB),
        "killed": process.returncode != 0,
        "printed": printed,
    }


def same_rows(first: Path, second: Path) -> bool:
    """Whether two files hold the same rows bit for bit."""
    files = [pq.ParquetFile(path) for path in (first, second)]
    pairs = zip(*(file.iter_batches(batch_size=2**16) for file in files), strict=True)
    return all(first_batch.equals(second_batch) for first_batch, second_batch in pairs)


def run_whole(folder: Path, records: Records, cell: Record) -> None:
    """One run from the beginning to the end."""
    n_series = cell["series"]
    table = make_table(folder / f"table-{n_series}.parquet", n_series)
    whole = folder / f"whole-{n_series}.parquet"
    facts = measure(command(table, make_model(folder / "model"), whole))
    sizes = {"table_mb": _size(table), "out_mb": _size(whole)}
    records.add({**cell, **facts, **sizes})


def run_killed(folder: Path, records: Records, cell: Record) -> None:
    """One run that is killed half way, and the same command again."""
    n_series = cell["series"]
    table = make_table(folder / f"table-{n_series}.parquet", n_series)
    out = folder / f"killed-{n_series}.parquet"
    whole = folder / f"whole-{n_series}.parquet"
    parts = out.with_name(f".{out.name}.batches")
    shutil.rmtree(parts, ignore_errors=True)
    words = command(table, make_model(folder / "model"), out)
    first = measure(words, kill_at=(parts, max(1, n_series // _BATCH // 2)))
    second = measure(words)
    facts = {
        "killed": first["killed"],
        "seconds": round(first["seconds"] + second["seconds"], 1),
        "seconds_to_kill": first["seconds"],
        "cpu_seconds": round(first["cpu_seconds"] + second["cpu_seconds"], 1),
        "peak_mb": max(first["peak_mb"], second["peak_mb"]),
        "printed": second["printed"],
        "rows_out": pq.ParquetFile(out).metadata.num_rows,
        "series_out": _count_series(out),
        # Without a whole run there is nothing to compare with.
        "equal": same_rows(whole, out) if whole.exists() else None,
        "table_mb": _size(table),
        "out_mb": _size(out),
    }
    records.add({**cell, **facts})


def _count_series(path: Path) -> int:
    """Different ids of a file."""
    ids = pq.ParquetFile(path, read_dictionary=["unique_id"]).read(columns=["unique_id"])
    return len(ids.column(0).unique())


def _size(path: Path) -> int:
    return round(path.stat().st_size / 2**20)


def run_engines(folder: Path, records: Records, cell: Record, engines: Sequence[str]) -> None:
    """The same table by each engine, in a process each; the first one works alone."""
    n_series = cell["series"]
    make_table(folder / f"table-{n_series}.parquet", n_series)
    make_model(folder / "model")
    serial = folder / f"engine-serial-{n_series}.parquet"
    for engine in ("serial", *engines):
        out = folder / f"engine-{engine}-{n_series}.parquet"
        words = [sys.executable, __file__, "--kind", "one engine", "--engine", engine]
        words += ["--folder", str(folder), "--series", str(n_series)]
        facts = measure(words)
        printed = facts.pop("printed")  # an engine may print lines of its own among these
        facts |= {name: float(printed[name]) for name in ("start_seconds", "forecast_seconds")}
        facts["equal"] = same_rows(serial, out)
        row = {**cell, "kind": "engine", "engine": engine, "batch_series": n_series // _PIECES}
        records.add({**row, **facts}, again=True)


def run_one_engine(folder: Path, n_series: int, name: str) -> None:
    """Print the seconds until an engine has started, and those of the forecasts after that."""
    from tsattn.batches import forecast_file
    from tsattn.catalogue import load_forecaster
    from tsattn.distributed import distributed_map

    engine = None if name == "serial" else name
    began = time.perf_counter()
    distributed_map(abs, [-1, 1], engine=engine)
    print(f"start_seconds {time.perf_counter() - began:.1f}")
    began = time.perf_counter()
    forecast_file(
        load_forecaster(folder / "model"),
        folder / f"table-{n_series}.parquet",
        folder / f"engine-{name}-{n_series}.parquet",
        batch_series=n_series // _PIECES,
        engine=engine,
    )
    print(f"forecast_seconds {time.perf_counter() - began:.1f}")


def main(argv: list[str] | None = None) -> None:
    """Measure what is not recorded yet."""
    defaults = {
        "folder": "",
        "series": 1_000_000,
        "kind": ("whole", "killed"),
        "engine": ("2", "dask", "ray", "spark"),
        "out": str(RESULTS / FILE),
    }
    options = parse(argv, __doc__, defaults)
    if not options.folder:
        sys.exit(
            "--folder is missing; name a folder with room for the table, such as --folder million"
        )
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    records = Records(Path(options.out), KEY)
    cell = {"series": options.series, "rows": options.series * ROWS, "horizon": HORIZON}
    cell |= {"model": WEIGHTS, "engine": None, "batch_series": _BATCH}
    if "one engine" in options.kind:
        run_one_engine(folder, options.series, *options.engine)
    if "engine" in options.kind:
        run_engines(folder, records, cell, options.engine)
    for kind, measure_kind in (("whole", run_whole), ("killed", run_killed)):
        if kind in options.kind:
            for missing in records.missing([{"kind": kind, **cell}]):
                measure_kind(folder, records, missing)


if __name__ == "__main__":
    main()
