"""Shared parts of the scripts that run over a pack of tasks: options, fields that identify a run,
its cost, and resuming.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from records import RESULTS, Record, Records, parse

from tsattn.benchmark import _peak_mb, _reset_peak, chosen_settings, config_of
from tsattn.catalogue import find_model
from tsattn.data.frames import from_long
from tsattn.data.schema import Schema
from tsattn.forecaster import Forecaster
from tsattn.forecasters.pretrained import PretrainedForecaster
from tsattn.limits import limit_threads
from tsattn.storage import one_line

SPLITS = ("development", "report")
# Models whose forecast is one number, which then stands for all nine quantiles.
POINTS = ("naive", "seasonal_naive", "drift", "window_average", "ridge", "gbm")
# Settings that do not identify a forecaster: how a table is read, the name in a forecast, and the
# file of weights, for which a record has a digest of the numbers.
_LEFT_OUT = {"horizon", "alias", "weights", *Schema().get_params()}
_REPORT = (
    "report tasks are run once for a release: the number stands, whatever it is, and nothing is"
    " chosen by it"
)


def read_contents(folder: Path, name: str) -> dict[str, Any]:
    """The tasks, suites and published scores of a pack, from its ``tasks.json``.

    Args:
        folder: Of the pack.
        name: What to call it in an error.

    Raises:
        ValueError: If the folder holds no ``tasks.json``.
    """
    path = Path(folder) / "tasks.json"
    if not path.is_file():
        raise ValueError(f"--pack {folder} holds no tasks.json; name the folder of the {name} pack")
    contents: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return contents


def start(
    argv: Sequence[str] | None,
    about: str | None,
    run: Callable[[Any], None],
    file: str,
    **more: Any,
) -> int:
    """Run a script with the options of all packs, and ``more`` of its own.

    Args:
        argv: The command line; ``None`` takes that of the process.
        about: Docstring of the script.
        run: The work, a function of the options.
        file: Name of the records.
        **more: Further options by their defaults.

    Returns:
        0, or 2 where a name is unknown or the pack is not there.
    """
    out = RESULTS / file
    defaults = {
        "pack": "",
        "split": SPLITS[0],
        "model": ("zero",),
        "task": (),
        "weights": None,
        **more,
        "threads": 1,
        "out": out,
    }
    options = parse(argv, about, defaults, choices={"split": SPLITS})
    try:
        with limit_threads(options.threads):
            run(options)
    except (ValueError, OSError) as error:
        print(f"{out.stem}: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


def chosen(options: Any, tasks: Iterable[Any]) -> list[str]:
    """Names of the tasks that the options name, or of all tasks of the split; a note is printed for
    the report split.

    Raises:
        ValueError: If a named task is not in the split.
    """
    names = [task.name for task in tasks if task.split == options.split]
    for name in options.task:
        if name not in names:
            raise ValueError(
                f"--task {name} is no task of --split {options.split}; use one of"
                f" {', '.join(names)}"
            )
    if options.split != SPLITS[0]:
        print(f"{Path(options.out).stem}: {_REPORT}", file=sys.stderr)
    return list(dict.fromkeys(options.task or names))


def record_missing(
    out: Path,
    key: tuple[str, ...],
    cells: Iterable[Mapping[str, Any]],
    execute: Callable[[Record], Record],
    shown: Collection[str],
) -> None:
    """Execute the runs that are not on record, one after the other, and print some numbers of
    each.
    """
    records = Records(out, key)
    for cell in records.missing(cells):
        row = records.add(execute(cell))
        numbers = ", ".join(f"{name} {row[name]:.3f}" for name in shown if name in row)
        print(f"{row['model']} {row['task']}: {numbers}", flush=True)


def identity(model: str, forecaster: Forecaster) -> Record:
    """The settings of a forecaster and a digest of its pretrained numbers, which together identify
    it among those of its name.
    """
    left_out = {*find_model(model).fixed, *_LEFT_OUT}
    if isinstance(forecaster, PretrainedForecaster):
        # The scripts do not fine-tune.
        left_out |= {"fine_tune", "val_size", "random_state"}
        # Older records lack the option, and all of them are of medians.
        if forecaster.point == "median":
            left_out.add("point")
    config = config_of(forecaster)
    settings = {name: value for name, value in config.items() if name not in left_out}
    # As they are after reading a record.
    plain_settings = json.loads(json.dumps(chosen_settings(settings), default=str))
    return {"settings": plain_settings, "weights": digest(network(forecaster))}


def network(forecaster: Any) -> dict[str, np.ndarray]:
    """The numbers that a forecaster has learnt before it sees a series; empty unless it is
    pretrained.
    """
    if not isinstance(forecaster, PretrainedForecaster):
        return {}
    one_row = from_long(pd.DataFrame({"unique_id": 0, "ds": [0], "y": 0.0}), freq=1)
    tensors = forecaster.fit(one_row).network_.state_dict()
    return {name: tensors[name].numpy() for name in sorted(tensors)}


def digest(arrays: Mapping[str, np.ndarray]) -> str | None:
    """A checksum of arrays and their names; ``None`` of none."""
    if not arrays:
        return None
    checksum = hashlib.sha256()
    for name, array in arrays.items():
        checksum.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return checksum.hexdigest()


def measured(work: Callable[[], np.ndarray]) -> tuple[np.ndarray, Record]:
    """An answer, and its cost in seconds of the clock and of the processor, and in memory."""
    _reset_peak()
    clock_start = time.perf_counter()
    cpu_start = time.process_time()
    answer = work()
    seconds = time.perf_counter() - clock_start
    cpu_seconds = time.process_time() - cpu_start
    cost = {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "peak_mb": _peak_mb(),
    }
    return answer, cost


def relative(scores: Mapping[str, float], base: Mapping[str, float]) -> dict[str, float]:
    """Scores, and their ratios to those of the seasonal naive forecast where it has them; nine
    digits of each.
    """
    naive_scores = {name.lower(): value for name, value in base.items()}
    all_scores = dict(scores)
    for name, value in scores.items():
        if name in naive_scores:
            all_scores[f"rel_{name}"] = value / naive_scores[name]
    return {name: float(f"{value:.9g}") for name, value in all_scores.items()}
