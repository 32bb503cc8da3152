"""The benchmark suite, which judges models on every test window and keeps one record a run."""

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
from statistics import fmean
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from tsattn import __version__
from tsattn.catalogue import find_model, make_forecaster, settings_for
from tsattn.checks import check_whole
from tsattn.data.calendar import season_length
from tsattn.data.cards import load_dataset
from tsattn.data.files import read_table
from tsattn.data.panel import Panel
from tsattn.data.schema import COVARIATE_FIELDS, Schema
from tsattn.data.training_windows import Split
from tsattn.data.windows import make_scaler
from tsattn.distributed import distributed_map
from tsattn.evaluate.backtest import roll
from tsattn.evaluate.rolling import Rolled
from tsattn.forecaster import Forecaster
from tsattn.storage import add_row, read_rows
from tsattn.suite import Suite
from tsattn.terminal import in_words, progress_line

# Fields that every record has: its place in the grid, the scores, and its origin.
REQUIRED = (
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
    "params",
    "fit_seconds",
    "predict_seconds",
    "peak_mb",
    "versions",
    "machine",
    "config",
    "config_hash",
    "commit",
    "finished",
)
# Settings that are no part of a configuration: they say how a table is read or where a run happens,
# or are fields of the record. Covariates are a part, and so is what a model does about missing
# values.
_NOT_CONFIG = {
    "horizon",
    "alias",
    "random_state",
    "val_size",
    "checkpoint_dir",
    "n_threads",
    *(Schema().get_params().keys() - {"missing", *COVARIATE_FIELDS}),
}
# Settings of a training that have no effect on a linear model.
_SKIPS = ("linear_skip", "skip_rate", "skip_level")
# Facts of a training by steps, on the validation rows.
_TRAINING_FACTS = ("epochs", "best_epoch", "valid_loss", "timed_out")
_PROTOCOL = {"scale": "train", "step": 1, "windows": "all"}
_PACKAGES = ("torch", "numpy", "pandas", "lightning")
_DEFAULT_CONTEXT = 336  # rows; the cards name it, and a table without a card has no other
_GIT_TIMEOUT_SECONDS = 10
_DECIMALS = 6  # of seconds, and of errors by step
# Options that older records lack, and the defaults that stand for what those runs did.
_LATER_DEFAULTS = {"scale": "window"}
_LOCK_DIGITS = 8  # of the digest in the name of a lock file

_Record = dict[str, Any]


def run_suite(
    suite: Suite,
    *,
    data_dir: str | Path | None = None,
    out: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
    engine: Any = None,
    n_threads: int | None = None,
) -> list[dict[str, Any]]:
    """Make the runs of a suite that have no record yet, on every window of every test span.

    Names, tables and sizes are checked before the first run. All models are fitted on the training
    rows; networks have the validation rows for early stopping besides. All forecast from each
    cutoff of the test span, step 1. Scores are on the scale of the training rows (population
    deviation, per channel), and in original units.

    Several suites may fill one folder at the same time, also from several machines. One of them
    makes each run.

    Args:
        suite: The grid.
        data_dir: Folder with the files of carded sets.
        out: Folder of records. Each run adds one line to ``<name of the suite>.jsonl`` at its end,
            and a run with a record is not repeated. ``None`` writes nothing.
        progress: Called with a line before each run. If it is set, a training also shows its
            progress on stderr where that is a terminal.
        engine: Where runs go, as in :func:`tsattn.distributed.distributed_map`. ``None`` makes them
            in this process, one after another. Runs that share a machine slow one another, so that
            their times compare only with one another.
        n_threads: Threads of torch for each run. ``None`` gives small networks one, as in
            :class:`tsattn.AttentionForecaster`.

    Returns:
        One record for each run of the grid, in its order.

    Raises:
        ValueError: If a name, a table or a setting is not usable.
        OSError: If a file cannot be read or written.
    """
    path = None
    if out is not None:
        path = Path(out).resolve() / f"{suite.name}.jsonl"
    if n_threads is not None:
        check_whole("n_threads", n_threads)
    # The lines of several workers would overwrite one another.
    verbose = progress is not None and engine is None
    runs = []
    for source in _sources(suite, data_dir):
        source_runs = _runs(suite, source)
        runs += [run.prepared(verbose, n_threads) for run in source_runs]
    say = progress or (lambda line: None)
    existing = [] if path is None else read_rows(path)
    records = [find_record(existing, run.key) for run in runs]
    if engine is None:
        _run_in_turn(runs, records, path, say)
    else:
        _run_on_engine(runs, records, path, engine, say)
    return [record for record in records if record is not None]


def _run_in_turn(
    runs: "list[_Run]",
    records: list[_Record | None],
    path: Path | None,
    say: Callable[[str], None],
) -> None:
    """Make the runs without a record, one after another, and put their records into the list.

    The first round passes by the runs that another suite is making. By the second round they have
    a record, or their lock is free.
    """
    started = time.monotonic()
    seconds_of_model: dict[str, list[float]] = {}
    for wait in (False, True):
        for number, run in enumerate(runs):
            is_open = records[number] is None
            if wait and not is_open:
                continue
            state = "running" if is_open else "found"
            begun = time.monotonic()
            position = f"[{number + 1}/{len(runs)}]"
            line = f"{position} {state}: {run.title}"
            line += f", {in_words(int(begun - started))} gone"
            seconds_left = _seconds_left(runs, records, seconds_of_model)
            if seconds_left is not None:
                line += f", {in_words(seconds_left)} left"
            say(line)
            if is_open:
                records[number], is_new = _take(run, path, wait=wait)
                if is_new:
                    seconds = time.monotonic() - begun
                    seconds_of_model.setdefault(run.model, []).append(seconds)


def _seconds_left(
    runs: "list[_Run]",
    records: list[_Record | None],
    seconds_of_model: Mapping[str, list[float]],
) -> float | None:
    """Seconds of the runs without a record, each as long as earlier ones of its model; ``None``
    where there is none, or no earlier one. Models differ a thousandfold, so that one says nothing
    of another.
    """
    pairs = zip(runs, records, strict=True)
    models_left = [run.model for run, record in pairs if record is None]
    if not models_left or not seconds_of_model.keys() >= set(models_left):
        return None
    return sum(fmean(seconds_of_model[model]) for model in models_left)


def _run_on_engine(
    runs: "list[_Run]",
    records: list[_Record | None],
    path: Path | None,
    engine: Any,
    say: Callable[[str], None],
) -> None:
    """Make the runs without a record on an engine, and put their records into the list."""
    open_numbers = [number for number, record in enumerate(records) if record is None]
    n_open = len(open_numbers)
    engine_name = engine if isinstance(engine, int | str) else type(engine).__name__
    say(f"running {n_open} of {len(runs)} on {engine_name}")
    make_record: Callable[[_Run], Any] = partial(_take, path=path, wait=True)
    open_runs = [runs[number] for number in open_numbers]
    outcomes = distributed_map(make_record, open_runs, engine=engine)
    for number, (record, _) in zip(open_numbers, outcomes, strict=True):
        # On another machine, the path of the records may be another folder.
        if path is not None:
            key_fields = tuple(runs[number].key)
            add_row(path, record, key_fields)
        records[number] = record


def _take(run: "_Run", path: Path | None, *, wait: bool) -> tuple[_Record | None, bool]:
    """Make a run unless it has a record, under a lock that only one process holds.

    Args:
        run: The run.
        path: File of the records; ``None`` has neither records nor a lock.
        wait: Whether to wait for a process that is making the run.

    Returns:
        The record, ``None`` where another process is making the run; and whether the run was made
        by this call.
    """
    if path is None:
        return run.execute(), True
    path.parent.mkdir(parents=True, exist_ok=True)
    # The system releases the lock of a process that dies.
    digits = _digest(run.key)[:_LOCK_DIGITS]
    lock_path = path.with_name(f".{path.name}.{digits}.lock")
    lock = FileLock(lock_path)
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        return None, False
    try:
        record = find_record(read_rows(path), run.key)
        is_new = record is None
        if record is None:
            new_record = run.execute()
            record = add_row(path, new_record, tuple(run.key), again=True)
    finally:
        lock.release()
    # After the record is written: a process that waits for the lock, or makes a new one, finds it.
    with suppress(OSError):
        Path(lock.lock_file).unlink()
    return record, is_new


def find_record(records: list[_Record], key: Mapping[str, Any]) -> _Record | None:
    """The first complete record of a run, or ``None``.

    Args:
        records: Rows of a file of records. A row that lacks a field of ``REQUIRED`` does not count.
        key: Fields that must be equal.
    """
    for record in records:
        if record.keys() >= set(REQUIRED) and all(record[name] == key[name] for name in key):
            return record
    return None


@dataclass(frozen=True)
class _Source:
    """A panel that ends with its test rows, and its split."""

    name: str
    panel: Panel
    split: Split
    seasonality: int
    context: int
    horizons: tuple[int, ...]

    @cached_property
    def sha256(self) -> str:
        return self.panel.fingerprint()

    @cached_property
    def protocol(self) -> _Record:
        """The part of each configuration that says how values are read and judged."""
        # The policy has an effect on missing values only.
        is_complete = not np.isnan(self.panel.values).any()
        return _PROTOCOL if is_complete else {**_PROTOCOL, "missing": self.panel.missing}


def _sources(suite: Suite, data_dir: str | Path | None) -> list[_Source]:
    sources = [_source_of_card(name, data_dir) for name in dict.fromkeys(suite.datasets)]
    if suite.table is not None:
        sources.append(_source_of_table(suite))
    return sources


def _source_of_card(name: str, data_dir: str | Path | None) -> _Source:
    data = load_dataset(name, data_dir)
    card = data.card
    protocol = card.protocol
    if protocol.step != 1 or protocol.drop_last or not protocol.context_reach:
        raise ValueError(
            f"card {card.name} asks for step = {protocol.step}, drop_last ="
            f" {protocol.drop_last}, context_reach = {protocol.context_reach}; only all windows, 1,"
            " false and true, make scores comparable"
        )
    n_rows = data.split.bounds[2]
    return _Source(
        name=Path(card.file).stem,  # spelt as published: ETTh1
        panel=data.panel.rows(0, n_rows),
        split=data.split,
        seasonality=card.seasonality,
        context=protocol.context,
        horizons=protocol.horizons,
    )


def _source_of_table(suite: Suite) -> _Source:
    path = Path(suite.table or "")
    # Scores of filled values compare nothing, unless the suite asks for them.
    panel = read_table(path, Schema(**{"missing": "error", **suite.columns}))
    lengths = panel.lengths
    n_rows = int(lengths[0])
    if (lengths != n_rows).any():
        shortest = int(np.argmin(lengths))
        raise ValueError(
            f"one split needs series of one length; {panel.series_label(shortest)} has"
            f" {lengths[shortest]} rows of {lengths.max()}: cut all series to the same"
            " span"
        )
    return _Source(
        name=Path(path.name.removesuffix(".gz")).stem,
        panel=panel,
        split=Split.from_shares(n_rows, suite.split or ""),
        seasonality=season_length(panel.freq),
        context=_DEFAULT_CONTEXT,
        horizons=(),
    )


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

    def prepared(self, verbose: bool, n_threads: int | None) -> "_Run":
        """The same run with the settings that have no effect on its record."""
        thread_settings = settings_for(self.model, n_threads=n_threads)
        settings = {**self.settings, **thread_settings}
        return replace(self, verbose=verbose, settings=settings)

    @property
    def key(self) -> dict[str, Any]:
        """Fields that identify the run. The commit and the versions are not among them."""
        split = self.source.split
        configuration = chosen_settings(self.config)
        return {
            "dataset": self.source.name,
            "data_sha256": self.source.sha256,
            "split": [split.train, split.valid, split.test],
            "model": self.model,
            "horizon": self.horizon,
            "seed": self.seed,
            "season_length": self.settings.get("season_length"),
            "config_hash": _digest(configuration),
        }

    @property
    def title(self) -> str:
        """The run in words."""
        return f"{self.source.name} horizon {self.horizon} {self.model} seed {self.seed}"

    def execute(self) -> _Record:
        """Fit, forecast every window, and return the record."""
        panel = self.source.panel
        n_train, n_before_test, n_rows = self.source.split.bounds
        # Networks hold the validation rows out themselves.
        n_fit = n_before_test if "val_size" in self.settings else n_train
        forecaster = make_forecaster(self.model, self.horizon, **self.settings)
        cutoffs = np.arange(n_before_test, n_rows - self.horizon + 1)
        first_rows = panel.starts[:-1, None]  # of each series
        ends = (first_rows + cutoffs).ravel()
        scaler = make_scaler(panel, n_train)
        _reset_peak()
        started = time.perf_counter()
        forecaster.fit(panel.rows(0, n_fit), verbose=self.verbose)
        fitted = time.perf_counter()
        title = self.model if self.verbose else None
        with progress_line(title, n_steps=len(ends)) as line:
            tell = partial(line.advance, text="judging")
            rolled = roll(forecaster, panel, ends, scaler=scaler, keep=False, tell=tell)
            line.show(len(ends), f"{len(ends):,} windows")
            line.finish("done")
        predicted = time.perf_counter()
        if rolled.n_windows != len(ends):
            raise ValueError(
                f"{self.model} was judged on {rolled.n_windows} of {len(ends)} windows; all of them"
                " must count"
            )
        summary = getattr(forecaster, "summary_", {})
        training_facts = {name: summary[name] for name in _TRAINING_FACTS if name in summary}
        return {
            **self.key,
            "context": forecaster.max_context,
            **_scores(rolled),
            **training_facts,
            "params": _n_parameters(forecaster),
            "fit_seconds": round(fitted - started, _DECIMALS),
            "predict_seconds": round(predicted - fitted, _DECIMALS),
            "peak_mb": _peak_mb(),
            "config": dict(self.config),
            **provenance(forecaster),
        }


def _n_parameters(forecaster: Forecaster) -> int:
    """Numbers of a forecaster's network; 0 where it has none."""
    network = getattr(forecaster, "network_", None)
    return 0 if network is None else sum(numbers.numel() for numbers in network.parameters())


def _scores(rolled: Rolled) -> _Record:
    """Scores of all windows, and the errors of each step ahead."""
    n_series = len(rolled.tally.scale)
    return {
        "n_windows": rolled.n_windows // n_series,
        "mse": rolled.mse,
        "mae": rolled.mae,
        "mse_original": rolled.mse_original,
        "mae_original": rolled.mae_original,
        "mse_by_step": [round(float(error), _DECIMALS) for error in rolled.by_step["mse"]],
        "mae_by_step": [round(float(error), _DECIMALS) for error in rolled.by_step["mae"]],
    }


def _runs(suite: Suite, source: _Source) -> Iterator[_Run]:
    for horizon in dict.fromkeys(suite.horizons or source.horizons):
        if horizon > source.split.test:
            raise ValueError(
                f"{source.name} has {source.split.test} test rows, too few for horizon {horizon};"
                " shorten the horizon or enlarge the test share"
            )
        for model in dict.fromkeys(suite.models):
            settings = suite.settings_of(model)
            all_settings = {**settings, **find_model(model).fixed}
            is_solved = all_settings.get("closed_form") is True
            draws = _is_trained(model, settings) and not is_solved
            # Other models are the same whatever the seed.
            seeds = suite.seeds if draws else suite.seeds[:1]
            for seed in dict.fromkeys(seeds):
                yield _plan(suite, source, horizon, model, seed)


def _is_trained(model: str, settings: Mapping[str, Any]) -> bool:
    """Whether a model learns weights, so that seed and validation rows have an effect on it."""
    return find_model(model).trained or settings.get("fine_tune") is True


def _plan(suite: Suite, source: _Source, horizon: int, model: str, seed: int) -> _Run:
    settings = settings_for(
        model,
        context=suite.context or source.context,
        max_epochs=suite.max_epochs,
        max_time=suite.max_time,
        season_length=suite.season_length or source.seasonality,
    )
    settings |= suite.settings_of(model)
    if _is_trained(model, settings):
        settings |= settings_for(model, random_state=seed, val_size=source.split.valid)
    forecaster = make_forecaster(model, horizon, **settings)
    context = int(settings.get("context") or 1)
    _check_rows(source, forecaster, model, context)
    excluded = _NOT_CONFIG | find_model(model).fixed.keys()
    # The season of a data set belongs to the data set. One that the suite sets belongs to the
    # configuration.
    if not suite.season_length:
        excluded |= {"season_length"}
    own_settings = config_of(forecaster)
    config = {"model": model, "protocol": source.protocol}
    config |= {name: value for name, value in own_settings.items() if name not in excluded}
    return _Run(source, horizon, model, seed, settings, config)


def config_of(forecaster: Forecaster) -> dict[str, Any]:
    """The settings of a forecaster by their bare names, which all records have used."""
    from tsattn.forecasters.linear import LinearForecaster
    from tsattn.forecasters.network import NetworkForecaster

    params = forecaster.get_params()
    # A group of settings stands beside its fields.
    groups = set()
    for name in params:
        group, _, _ = name.rpartition("__")
        # A name without a group has an empty text before it.
        groups.add(group)
    config = {}
    for name, value in params.items():
        if name not in groups:
            _, _, field = name.rpartition("__")
            config[field] = _plain(value)
    if not isinstance(forecaster, NetworkForecaster):
        return config
    config["max_epochs"] = forecaster.training.n_epochs
    if config["learning_rate"] is None:
        config["learning_rate"] = forecaster.rate
    if isinstance(forecaster, LinearForecaster):
        return {name: value for name, value in config.items() if name not in _SKIPS}
    # The option has left the estimator, and the hashes of older records include it.
    config["n_global"] = 0
    return config


def _check_rows(source: _Source, forecaster: Forecaster, model: str, context: int) -> None:
    """Refuse a split that a model would refuse in the middle of the suite."""
    split = source.split
    horizon = forecaster.horizon
    n_needed = context + horizon
    if split.train < n_needed:
        raise ValueError(
            f"{source.name} has {split.train} training rows; {model} needs {n_needed}"
            " (context + horizon): shorten context or horizon, or enlarge the training share"
        )
    params = forecaster.get_params()
    if _is_trained(model, params) and 0 < split.valid < horizon:
        raise ValueError(
            f"{source.name} has {split.valid} validation rows, too few for horizon {horizon};"
            " enlarge the validation share, or make it 0 to train without"
        )
    patch_len = params.get("network__patch_len", 1)
    if context < patch_len:
        raise ValueError(
            f"context must be at least {model}'s patch_len = {patch_len}; got {context}; lengthen"
            " it"
        )


def provenance(forecaster: Forecaster | None) -> dict[str, Any]:
    """The origin of a record: versions, machine, commit and time."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        versions[package] = metadata.version(package)
    versions["tsattn"] = __version__
    return {
        "versions": versions,
        "machine": _machine(forecaster),
        "commit": current_commit(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def current_commit() -> str | None:
    """The commit of the checkout with this package.

    ``None`` for an installed package, or without git.
    """
    root = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(root), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        process = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_GIT_TIMEOUT_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = process.stdout.splitlines()
    if len(lines) != 2:
        return None
    checkout, commit = lines
    # An installed package may lie below a checkout of another project.
    is_own = Path(checkout).resolve() == root
    return commit if is_own else None


def _machine(forecaster: Forecaster | None) -> str:
    import torch

    summary = getattr(forecaster, "summary_", {})
    # Forecasters without a summary run on one thread of torch.
    n_threads = summary.get("threads", 1)
    if forecaster is None:
        n_threads = torch.get_num_threads()
    device = summary.get("device", "cpu")
    name = platform.machine()
    if device.startswith("cuda"):
        name = torch.cuda.get_device_name(device)
    return (
        f"{platform.system()} {name}, {os.cpu_count()} cores, {n_threads} torch threads, {device}"
    )


def _reset_peak() -> None:
    """Reset the highest memory use of the process, which only Linux can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_mb() -> float | None:
    """Highest resident memory in MB: of this run on Linux, elsewhere of the whole process."""
    try:
        import resource
    except ImportError:  # Windows has none
        return None
    usage = resource.getrusage(resource.RUSAGE_SELF)
    units_per_mb = 2**10  # KiB
    if sys.platform == "darwin":
        units_per_mb = 2**20  # bytes
    return round(usage.ru_maxrss / units_per_mb, 1)


def chosen_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a configuration but for those that are ``None``, ``False`` or empty.

    The defaults of options that were added later are left out too. The hash of a configuration
    without such an option therefore stays.
    """
    return {
        name: value
        for name, value in config.items()
        if value is not None
        and value is not False
        and value not in ((), [])
        and _LATER_DEFAULTS.get(name) != value
    }


def _digest(value: Any) -> str:
    """Sha256 of a value as JSON has it."""
    text = json.dumps(_plain(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A value as JSON has it, so that a hash does not depend on tuple or list, numpy or not."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return value.item()
    in_json = value is None or isinstance(value, str | int | float)
    return value if in_json else str(value)
