"""What the scripts that run over a pack of tasks share: options, what tells runs apart, their cost,
and resuming.
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
# Settings that say how a table is read or who is told, and the file of weights, which a record
# knows by its numbers.
_LEFT_OUT = {"horizon", "alias", "weights", *Schema().get_params()}
_REPORT = (
    "report tasks are run once for a release: the number stands, whatever it is, and nothing is"
    " chosen by it"
)


def read_told(folder: Path, name: str) -> dict[str, Any]:
    """The list of a pack's tasks, suites and published scores.

    Args:
        folder: Of the pack.
        name: What to call it in an error.

    Raises:
        ValueError: If the folder holds no ``tasks.json``.
    """
    path = Path(folder) / "tasks.json"
    if not path.is_file():
        raise ValueError(f"--pack {folder} holds no tasks.json; name the folder of the {name} pack")
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return told


def start(
    argv: Sequence[str] | None,
    about: str | None,
    run: Callable[[Any], None],
    file: str,
    **more: Any,
) -> int:
    """Run a script with the options of all packs, and ``more`` of its own; 2 where a name or the
    pack is not there.

    Args:
        argv: The command line; ``None`` takes that of the process.
        about: Docstring of the script.
        run: The work, given the options.
        file: Name of the records.
        **more: Further options by their defaults.
    """
    defaults = {
        "pack": "",
        "split": SPLITS[0],
        "model": ("zero",),
        "task": (),
        "weights": None,
        **more,
    }
    out = RESULTS / file
    options = parse(argv, about, {**defaults, "threads": 1, "out": out}, choices={"split": SPLITS})
    try:
        with limit_threads(options.threads):
            run(options)
    except (ValueError, OSError) as error:
        print(f"{out.stem}: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


def chosen(options: Any, tasks: Iterable[Any]) -> list[str]:
    """Names of the tasks that the options ask for; running those of the report split is remarked
    upon.

    Raises:
        ValueError: If one of them is not in the split.
    """
    of_split = [task.name for task in tasks if task.split == options.split]
    for name in options.task:
        if name not in of_split:
            raise ValueError(
                f"--task {name} is no task of --split {options.split}; use one of"
                f" {', '.join(of_split)}"
            )
    if options.split != SPLITS[0]:
        print(f"{Path(options.out).stem}: {_REPORT}", file=sys.stderr)
    return list(dict.fromkeys(options.task or of_split))


def record_missing(
    out: Path,
    key: tuple[str, ...],
    cells: Iterable[Mapping[str, Any]],
    execute: Callable[[Record], Record],
    shown: Collection[str],
) -> None:
    """Execute the runs that are not on record, one after the other, and tell some
    numbers of each.
    """
    records = Records(out, key)
    for cell in records.missing(cells):
        row = records.add(execute(cell))
        told = ", ".join(f"{name} {row[name]:.3f}" for name in shown if name in row)
        print(f"{row['model']} {row['task']}: {told}", flush=True)


def identity(model: str, forecaster: Forecaster) -> Record:
    """What tells a forecaster from others of its name: its settings, and a digest of the numbers it
    begins with.
    """
    fixed = {*find_model(model).fixed, *_LEFT_OUT}
    if isinstance(forecaster, PretrainedForecaster):  # nothing is learnt here
        fixed |= {"fine_tune", "val_size", "random_state"}
        # Older records lack the option, and all of them are of medians.
        fixed |= {"point"} if forecaster.point == "median" else set()
    settings = {name: value for name, value in config_of(forecaster).items() if name not in fixed}
    told = json.loads(json.dumps(chosen_settings(settings), default=str))
    return {"settings": told, "weights": digest(network(forecaster))}


def network(forecaster: Any) -> dict[str, np.ndarray]:
    """The numbers that a forecaster has learnt before it sees a series; none where it begins with
    nothing.
    """
    if not isinstance(forecaster, PretrainedForecaster):
        return {}
    one_row = from_long(pd.DataFrame({"unique_id": 0, "ds": [0], "y": 0.0}), freq=1)
    tensors = forecaster.fit(one_row).network_.state_dict()
    return {name: tensors[name].numpy() for name in sorted(tensors)}


def digest(arrays: Mapping[str, np.ndarray]) -> str | None:
    """A checksum of arrays and their names; ``None`` of none."""
    found = hashlib.sha256()
    for name, array in arrays.items():
        found.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest() if arrays else None


def measured(work: Callable[[], np.ndarray]) -> tuple[np.ndarray, Record]:
    """An answer, and what it cost in seconds of the clock and of the processor, and in memory."""
    _reset_peak()
    started = time.perf_counter(), time.process_time()
    answer = work()
    seconds = time.perf_counter() - started[0]
    cpu_seconds = time.process_time() - started[1]
    return answer, {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "peak_mb": _peak_mb(),
    }


def relative(scores: Mapping[str, float], base: Mapping[str, float]) -> dict[str, float]:
    """Scores, and behind them those that the seasonal naive forecast has too, over its own; nine
    digits of each.
    """
    over = {name.lower(): value for name, value in base.items()}
    found = dict(scores) | {
        f"rel_{name}": value / over[name] for name, value in scores.items() if name in over
    }
    return {name: float(f"{value:.9g}") for name, value in found.items()}
