"""The benchmark suite: models judged on every test window, one record a run, resumed where it
stopped.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from tsattn import __version__
from tsattn.catalogue import find_model, make_forecaster, settings_for
from tsattn.data.cards import load_dataset
from tsattn.data.files import read_table
from tsattn.data.frames import Panel, season_length
from tsattn.data.schema import Schema
from tsattn.data.windows import Split, make_scaler
from tsattn.distributed import distributed_map
from tsattn.evaluate.backtest import roll
from tsattn.forecaster import Forecaster
from tsattn.limits import check_threads
from tsattn.storage import add_row, read_rows
from tsattn.suite import Suite
from tsattn.terminal import in_words

# What a record must have to count as one: the place where it belongs, what it says, and where it
# came from.
REQUIRED = (
    *(
        "dataset",
        "data_sha256",
        "split",
        "model",
        "horizon",
        "context",
        "seed",
        "n_windows",
        "mse",
        "mae",
    ),
    *("params", "fit_seconds", "predict_seconds", "peak_mb"),
    *("versions", "machine", "config", "config_hash", "commit", "finished"),
)
# Settings that tell how a table is read or where a run happens, or stand in the record by
# themselves.
_NOT_CONFIG = {
    *("horizon", "alias", "random_state", "val_size", "checkpoint_dir", "n_threads"),
    *Schema().get_params(),
}
# What a linear model has no use for.
_SKIPS = ("linear_skip", "skip_rate", "skip_level")
_COURSE = ("epochs", "best_epoch", "valid_loss", "timed_out")
_PROTOCOL = {"scale": "train", "step": 1, "windows": "all"}
_PACKAGES = ("torch", "numpy", "pandas", "lightning")
_DEFAULT_CONTEXT = 336  # what the cards say, for tables without one


def run_suite(
    suite: Suite,
    *,
    data_dir: str | Path | None = None,
    out: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
    engine: Any = None,
    n_threads: int | None = None,
) -> list[dict[str, Any]]:
    """Run what is asked and not yet recorded; every window of every test span is judged.

    Names, tables and sizes are checked before the first run. A run is fitted on the training rows,
    with the validation rows for early stopping, and forecasts from each cutoff of the test span,
    step 1. Scores are on the scale of the training rows (population deviation, per channel), and in
    original units beside it.

    Several suites may fill one folder at the same time, from several machines too: each run is
    taken by one of them.

    Args:
        suite: The grid.
        data_dir: Folder with the files of carded sets.
        out: Folder of records, one line a run in ``<name of the suite>.jsonl``, added when the run
            is over. A run whose record stands there is not run again. ``None`` writes nothing.
        progress: Called with a line before each run; where it is given, a training also shows its
            progress on stderr if that is a terminal.
        engine: Where runs go, as in :func:`tsattn.distributed.distributed_map`; ``None``: here, one
            after another. Times of runs that share a machine compare with one another only.
        n_threads: Threads of torch for each run; ``None``: one for small networks, as in
            :class:`tsattn.AttentionForecaster`.

    Returns:
        One record a run asked for, run now or found, in the order of the grid.

    Raises:
        ValueError: If a name, a table or a setting is not usable.
        OSError: If a file cannot be read or written.
    """
    path = None if out is None else Path(out).resolve() / f"{suite.name}.jsonl"
    how = {"n_threads": None if n_threads is None else check_threads(n_threads)}
    verbose = (
        progress is not None and engine is None
    )  # lines of several workers would overwrite one another
    runs = [
        run.told(verbose, **how)
        for source in _sources(suite, data_dir)
        for run in _runs(suite, source)
    ]
    say = progress or (lambda line: None)
    known = [] if path is None else read_rows(path)
    records = [find_record(known, run.key) for run in runs]
    if engine is not None:
        return _run_elsewhere(runs, records, path, engine, say)
    started = time.monotonic()
    n_made = 0
    # What another suite is at is left for the end: it will be there by then, or free.
    for wait in (False, True):
        for number, run in enumerate(runs):
            if wait and records[number] is not None:
                continue
            what = "running" if records[number] is None else "found"
            gone = time.monotonic() - started
            n_left = sum(record is None for record in records)
            left = (
                f", {in_words(gone / n_made * n_left)} left" if n_made else ""
            )  # as long a run as those made took
            say(f"[{number + 1}/{len(runs)}] {what}: {run.title}, {in_words(int(gone))} gone{left}")
            if records[number] is None:
                records[number], is_new = _take(run, path, wait=wait)
                n_made += is_new
    return [record for record in records if record is not None]


def _take(run: "_Run", path: Path | None, *, wait: bool) -> tuple[dict[str, Any] | None, bool]:
    """A run's record, ``None`` while another process is at it and ``wait`` is not set, and whether
    it was run now.
    """
    if path is None:
        return run.execute(), True
    path.parent.mkdir(parents=True, exist_ok=True)
    # The system lets go of the lock of a process that dies.
    lock = FileLock(path.with_name(f".{path.name}.{_digest(run.key)[:8]}.lock"))
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        return None, False
    try:
        found = find_record(read_rows(path), run.key)
        record = found or add_row(path, run.execute(), tuple(run.key), again=True)
    finally:
        lock.release()
    # Only now: whoever still waits for the lock, or makes a new one, finds the record.
    with suppress(OSError):
        Path(lock.lock_file).unlink()
    return record, found is None


def _run_elsewhere(
    runs: "list[_Run]",
    records: list[dict[str, Any] | None],
    path: Path | None,
    engine: Any,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    open_ = [number for number, record in enumerate(records) if record is None]
    say(
        f"running {len(open_)} of {len(runs)} on"
        f" {engine if isinstance(engine, int | str) else type(engine).__name__}"
    )
    work: Callable[[_Run], Any] = partial(_take, path=path, wait=True)
    for number, (record, _) in zip(
        open_, distributed_map(work, [runs[n] for n in open_], engine=engine), strict=True
    ):
        # A worker on another machine may have had another folder under this name.
        if path is not None:
            add_row(path, record, tuple(runs[number].key))
        records[number] = record
    return [record for record in records if record is not None]


def find_record(records: list[dict[str, Any]], key: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first whole record of a run, or ``None``.

    Args:
        records: Rows of a file of records; one that lacks a field of ``REQUIRED`` does not count.
        key: Fields that must be equal.
    """
    whole = (record for record in records if record.keys() >= set(REQUIRED))
    return next(
        (record for record in whole if all(record[name] == key[name] for name in key)), None
    )


@dataclass(frozen=True)
class _Source:
    """A panel cut to the rows that are judged or learnt from, and how it is split."""

    name: str
    panel: Panel
    split: Split
    seasonality: int
    context: int
    horizons: tuple[int, ...]

    @cached_property
    def sha256(self) -> str:
        return self.panel.fingerprint()


def _sources(suite: Suite, data_dir: str | Path | None) -> list[_Source]:
    carded = [_carded(name, data_dir) for name in dict.fromkeys(suite.datasets)]
    return carded if suite.table is None else [*carded, _tabled(suite)]


def _carded(name: str, data_dir: str | Path | None) -> _Source:
    data = load_dataset(name, data_dir)
    protocol = data.card.protocol
    if protocol.step != 1 or protocol.drop_last or not protocol.context_reach:
        raise ValueError(
            f"card {data.card.name} asks for step = {protocol.step}, drop_last ="
            f" {protocol.drop_last}, context_reach = {protocol.context_reach}; only all windows, 1,"
            " false and true, make scores comparable"
        )
    panel = data.panel.rows(0, data.split.bounds[2])
    # The published spelling of the name is that of the file: ETTh1.
    title = Path(data.card.file).stem
    return _Source(
        title, panel, data.split, data.card.seasonality, protocol.context, protocol.horizons
    )


def _tabled(suite: Suite) -> _Source:
    path = Path(suite.table or "")
    shares = suite.split or ""
    panel = read_table(path, Schema(**suite.columns))
    if (panel.lengths != panel.lengths[0]).any():
        short = int(np.argmin(panel.lengths))
        raise ValueError(
            f"one split needs series of one length; {panel.ids[short]!r} has {panel.lengths[short]}"
            f" rows of {panel.lengths.max()}: cut all series to the same span"
        )
    split = Split.from_shares(int(panel.lengths[0]), shares)
    name = Path(path.name.removesuffix(".gz")).stem
    return _Source(name, panel, split, season_length(panel.freq), _DEFAULT_CONTEXT, ())


@dataclass(frozen=True)
class _Run:
    """One cell of the grid."""

    source: _Source
    horizon: int
    model: str
    seed: int
    settings: Mapping[str, Any]
    config: Mapping[str, Any]
    verbose: bool = False

    def told(self, verbose: bool, **how: Any) -> "_Run":
        """The same run with settings that say how it is made, as far as they are given and the
        model has them.
        """
        return replace(
            self, verbose=verbose, settings={**self.settings, **settings_for(self.model, **how)}
        )

    @property
    def key(self) -> dict[str, Any]:
        """What tells this run from every other; the commit and the versions do not."""
        split = self.source.split
        return {
            "dataset": self.source.name,
            "data_sha256": self.source.sha256,
            "split": [split.train, split.valid, split.test],
            "model": self.model,
            "horizon": self.horizon,
            "seed": self.seed,
            "season_length": self.settings.get("season_length"),
            "config_hash": _digest(asked(self.config)),
        }

    @property
    def title(self) -> str:
        """The run in words."""
        return f"{self.source.name} horizon {self.horizon} {self.model} seed {self.seed}"

    def execute(self) -> dict[str, Any]:
        """Fit, forecast every window, and say what came of it."""
        panel, (first, valid, stop) = self.source.panel, self.source.split.bounds
        forecaster = make_forecaster(self.model, self.horizon, **self.settings)
        ends = (panel.starts[:-1, None] + np.arange(valid, stop - self.horizon + 1)).ravel()
        _reset_peak()
        started = time.perf_counter()
        forecaster.fit(panel.rows(0, valid), verbose=self.verbose)
        fitted = time.perf_counter()
        rolled = roll(forecaster, panel, ends, scaler=make_scaler(panel, first), keep=False)
        predicted = time.perf_counter()
        summary = getattr(forecaster, "summary_", {})
        if rolled.n_windows != len(ends):
            raise ValueError(
                f"{self.model} was judged on {rolled.n_windows} of {len(ends)} windows; all of them"
                " must count"
            )
        return {
            **self.key,
            "context": forecaster.max_context,
            "n_windows": rolled.n_windows,
            "mse": rolled.mse,
            "mae": rolled.mae,
            "mse_original": rolled.mse_original,
            "mae_original": rolled.mae_original,
            "mse_by_step": [round(float(error), 6) for error in rolled.by_step["mse"]],
            "mae_by_step": [round(float(error), 6) for error in rolled.by_step["mae"]],
            # How a training by steps went, on the validation rows.
            **{name: summary[name] for name in _COURSE if name in summary},
            "params": summary.get("parameters", 0),
            "fit_seconds": round(fitted - started, 6),
            "predict_seconds": round(predicted - fitted, 6),
            "peak_mb": _peak_mb(),
            "config": dict(self.config),
            **provenance(forecaster),
        }


def _runs(suite: Suite, source: _Source) -> Iterator[_Run]:
    for horizon in dict.fromkeys(suite.horizons or source.horizons):
        if horizon > source.split.test:
            raise ValueError(
                f"{source.name} has {source.split.test} test rows, too few for horizon {horizon};"
                " shorten the horizon or enlarge the test share"
            )
        for model in dict.fromkeys(suite.models):
            trained = _is_trained(model, suite.settings_of(model))
            for seed in dict.fromkeys(suite.seeds if trained else suite.seeds[:1]):
                yield _plan(suite, source, horizon, model, seed)


def _is_trained(model: str, settings: Mapping[str, Any]) -> bool:
    """Whether seed and validation rows mean something to a model."""
    return find_model(model).trained or settings.get("fine_tune") is True


def _plan(suite: Suite, source: _Source, horizon: int, model: str, seed: int) -> _Run:
    entry = find_model(model)
    shared = {
        "context": suite.context or source.context,
        "max_epochs": suite.max_epochs,
        "max_time": suite.max_time,
        "season_length": suite.season_length or source.seasonality,
    }
    settings = settings_for(model, **shared) | suite.settings_of(model)
    if _is_trained(model, settings):
        settings |= settings_for(model, random_state=seed, val_size=source.split.valid)
    forecaster = make_forecaster(model, horizon, **settings)
    _check_rows(source, forecaster, model, int(settings.get("context") or 1))
    # The season of a data set belongs to the data set; one that was asked for belongs to the
    # configuration.
    left_out = _NOT_CONFIG if suite.season_length else _NOT_CONFIG | {"season_length"}
    left_out = {*left_out, *entry.fixed}
    config = {name: value for name, value in config_of(forecaster).items() if name not in left_out}
    return _Run(
        source, horizon, model, seed, settings, {"model": model, "protocol": _PROTOCOL, **config}
    )


def config_of(forecaster: Forecaster) -> dict[str, Any]:
    """The settings of a forecaster by their bare names, as records have them since the
    first one.
    """
    from tsattn.forecasters.linear import LinearForecaster
    from tsattn.forecasters.network import NetworkForecaster

    params = forecaster.get_params()
    groups = {name for name in params if any(other.startswith(f"{name}__") for other in params)}
    found = {
        name.split("__")[-1]: _plain(value) for name, value in params.items() if name not in groups
    }
    if isinstance(forecaster, NetworkForecaster):
        found["max_epochs"] = forecaster.training.n_epochs
        if found["learning_rate"] is None:
            found["learning_rate"] = forecaster.rate
        if isinstance(forecaster, LinearForecaster):
            found = {name: value for name, value in found.items() if name not in _SKIPS}
        else:
            found["n_global"] = 0  # an option until it left the estimator
    return found


def _check_rows(source: _Source, forecaster: Forecaster, model: str, context: int) -> None:
    """Refuse before the first run what a model would refuse in the middle of the suite."""
    split = source.split
    horizon = forecaster.horizon
    if split.train < context + horizon:
        raise ValueError(
            f"{source.name} has {split.train} training rows; {model} needs {context + horizon}"
            " (context + horizon): shorten context or horizon, or enlarge the training share"
        )
    if _is_trained(model, forecaster.get_params()) and 0 < split.valid < horizon:
        raise ValueError(
            f"{source.name} has {split.valid} validation rows, too few for horizon {horizon};"
            " enlarge the validation share, or make it 0 to train without"
        )
    if context < (patch := forecaster.get_params().get("network__patch_len", 1)):
        raise ValueError(
            f"context must be at least {model}'s patch_len = {patch}; got {context}; lengthen it"
        )


def provenance(forecaster: Forecaster | None) -> dict[str, Any]:
    """Where a record comes from: versions, machine, commit and the time it was finished."""
    versions = {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _PACKAGES},
    }
    return {
        "versions": {**versions, "tsattn": __version__},
        "machine": _machine(forecaster),
        "commit": current_commit(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def current_commit() -> str | None:
    """The commit of the checkout that this package lies in; ``None`` for an installed package or
    without git.
    """
    root = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(root), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        said = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    # A package installed below somebody else's checkout must not borrow that checkout's commit.
    return said[1] if len(said) == 2 and Path(said[0]).resolve() == root else None


def _machine(forecaster: Forecaster | None) -> str:
    import torch

    summary = getattr(forecaster, "summary_", {})
    # Without a forecaster, what torch would use; forecasters that do not say run on one thread of
    # torch.
    n_threads = torch.get_num_threads() if forecaster is None else summary.get("threads", 1)
    device = summary.get("device", "cpu")
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    return (
        f"{platform.system()} {name}, {os.cpu_count()} cores, {n_threads} torch threads, {device}"
    )


def _reset_peak() -> None:
    """Let the kernel forget the highest memory use so far, where it can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_mb() -> float | None:
    """Highest resident memory of the process in MB: of this run on Linux, elsewhere of its whole
    life.
    """
    try:
        import resource
    except ImportError:  # Windows has none
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def asked(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that ask for something; ``None``, ``False`` and empty lists ask for nothing.

    An option that is added later, and left out, therefore leaves the hash of a configuration as it
    was.
    """
    return {
        k: v for k, v in config.items() if v is not None and v is not False and v != () and v != []
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(_plain(value), sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Values as JSON has them, so that a hash does not depend on tuple or list, numpy or not."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if value is None or isinstance(value, str | int | float) else str(value)
