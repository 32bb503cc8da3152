"""Forecasts of long Parquet files in batches of series: in bounded memory, and a run that was
killed goes on.
"""

import hashlib
import json
import re
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsattn.catalogue import MODELS
from tsattn.checks import (
    Argument,
    InputError,
    InputWarning,
    InPython,
    Name,
    Piece,
    check_whole,
    warn,
)
from tsattn.data.calendar import more
from tsattn.data.columns import plain
from tsattn.data.files import kind_of
from tsattn.data.frames import to_panel
from tsattn.data.panel import (
    BadSeriesError,
    Panel,
    Skipped,
    require_same_steps,
    skip_bad,
    tell_skipped,
)
from tsattn.data.parquet import Batch, LongFile, discard_rows, find_columns, n_rows_of
from tsattn.distributed import distributed_map
from tsattn.forecaster import Forecaster, check_forecaster
from tsattn.forecasts import Forecast, with_skipped, without_skipped
from tsattn.levels import Numbers, check_request
from tsattn.storage import read_json, write_atomic, write_json
from tsattn.terminal import progress_line

__all__ = ["BatchRun", "forecast_file"]

# Series of a batch where the caller names no number.
BATCH_SERIES = 20_000
# Rows of a file, from which on a command forecasts it in batches without being asked: more would
# take about 5 GB of memory.
_LONG_ROWS = 20_000_000
# Series at the head of a file among which there must be one that can be forecast.
_TRIED_SERIES = 100
_PLAN = "plan.json"
# Key of what a part says beside its forecasts, in its metadata.
_FACTS = b"tsattn"
_PIECES: dict[str, Any] = {piece.__name__: piece for piece in (Name, Argument, InPython)}
# Parts of a warning in which batches differ: names and numbers.
_DETAILS = re.compile(r"'[^']*'|\d+")

# The pieces of a warning, as JSON holds them.
_Remark = list[Any]


@dataclass(frozen=True)
class BatchRun:
    """What :func:`forecast_file` did.

    Attributes:
        n_series: Series of the file, those left out among them.
        n_rows: Rows of the forecast.
        n_batches: Batches.
        n_resumed: Batches that an earlier run had forecast.
        n_skipped: Series that are left out, whose forecasts are NaN.
        freq: Frequency of all series.
    """

    n_series: int
    n_rows: int
    n_batches: int
    n_resumed: int
    n_skipped: int
    freq: str | int


def forecast_file(
    forecaster: Forecaster,
    source: str | Path,
    out: str | Path,
    *,
    level: Numbers | None = None,
    quantiles: Numbers | None = None,
    horizon: int | None = None,
    batch_series: int = BATCH_SERIES,
    engine: Any = None,
    verbose: bool = False,
) -> BatchRun:
    """Forecast a long Parquet file into another one, a batch of series at a time.

    Each batch becomes a file in the folder ``.NAME.batches`` beside ``out``. ``out`` appears at the
    end, whole, and the folder goes. A call that was killed goes on when it is repeated: the batches
    that stand are not forecast again, unless the table has changed meanwhile.

    The names of the columns are found in the first rows, and the frequency in the first batch; both
    hold for all. A forecaster that is not fitted is fitted on each batch, so it must be one that
    learns nothing from other series. Where rows of other series stand between those of one, as in a
    file by date, the rows are first dealt out into files in the same folder, which takes the room
    of a second copy.

    Args:
        forecaster: A fitted forecaster, which is not fitted again, or one such as ``"zero"``, a
            naive or a classical one.
        source: A Parquet file with columns of ids, stamps or integers, and numbers.
        out: The Parquet file to write, with the columns of ``predict``. The series come in the
            order of ``source``, unless rows were dealt out; those of a batch that are left out
            come after its others.
        level, quantiles, horizon: As in ``predict``.
        batch_series: Series of a batch, at most. A batch has fewer where these would have more than
            4,000,000 rows. Numbers differ between sizes of batches only by the rounding of sums.
        engine: As in :func:`tsattn.distributed.distributed_map`; workers must reach both places
            under the same paths. ``None`` works in this process.
        verbose: Show progress on stderr where that is a terminal, without an engine.

    Returns:
        Counts, and the frequency.

    Raises:
        TypeError: If the forecaster is a name or a class, or stamps or values are text.
        ValueError: If the table is faulty; if the forecaster would learn from other series or needs
            future columns; or if the folder belongs to another input, model or options.
        ImportError, OSError: If pyarrow is not installed, or a file cannot be read or written.
    """
    source = Path(source)
    out = Path(out)
    check_forecaster(forecaster)
    check_whole("batch_series", batch_series)
    levels, probabilities, _ = check_request(level, quantiles)
    check_files(source, out)
    check_batchable(forecaster)
    forecaster = _with_network(forecaster)
    like = None if forecaster.state_ is None else forecaster.panel_.dialect
    file = LongFile.scan(source, forecaster.schema, like)
    target = out.resolve()  # a link stays, and the file that it points to is replaced
    folder = target.with_name(f".{target.name}.batches")
    options = {
        "level": levels or None,
        "quantiles": probabilities or None,
        "horizon": horizon,
    }
    # A worker needs no list of all series.
    work = _Work(forecaster, options, replace(file, starts=None), folder)
    with _claimed(folder, work.plan(batch_series)):
        batches = file.batches(batch_series, folder)
        work, remarks = _started(work, batches[0])
        missing = [batch for batch in batches if not _is_whole(work.part(batch))]
        _forecast_missing(work, missing, file.n_rows, engine, verbose)
        parts = _join([work.part(batch) for batch in batches], out)
    _tell_remarks(remarks, [part["remarks"] for part in parts])
    return BatchRun(
        n_series=file.n_series,
        n_rows=sum(part["rows"] for part in parts),
        n_batches=len(batches),
        n_resumed=len(batches) - len(missing),
        n_skipped=_tell_left_out(parts, work),
        freq=work.freq,
    )


# --- what can be forecast in batches --------------------------------------------------------------


def check_files(source: Path, out: Path) -> None:
    """Refuse files that are not Parquet by their names, and one that is read and written.

    Raises:
        ValueError: If one is of another kind, both are one file, or a folder is to be written.
        ImportError: If pyarrow is not installed.
        FileNotFoundError: If there is no file to read.
    """
    for path, use in ((source, "read"), (out, "written")):
        if kind_of(path) != "Parquet":
            raise ValueError(
                f"{path}: only Parquet is {use} in batches; name a file that ends in .parquet"
            )
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}; check the path")
    if out.is_dir():
        raise ValueError(f"{out} is a folder; name a file to write to")
    if out.exists() and out.samefile(source):
        raise ValueError(f"{out} is the table that is read; name another file to write to")


def is_long(source: Path, forecaster: Forecaster) -> bool:
    """Whether a Parquet file should be forecast in batches, and can be.

    Args:
        source: The file.
        forecaster: The forecaster.
    """
    if n_rows_of(source) <= _LONG_ROWS:
        return False
    like = None if forecaster.state_ is None else forecaster.panel_.dialect
    try:
        check_batchable(forecaster)
        with _recorded():
            find_columns(source, forecaster.schema, like)
    except (ValueError, TypeError):
        return False
    return True


def check_batchable(forecaster: Forecaster) -> None:
    """Refuse a forecaster whose forecast of a series would depend on the others of its batch.

    Raises:
        ValueError: With the forecaster to take instead.
    """
    name = forecaster.alias_
    is_fitted = forecaster.state_ is not None
    columns = forecaster.covariate_columns_ if is_fitted else forecaster.covariate_columns
    if columns.future:
        raise ValueError(
            f"{name} reads the future column {columns.future[0]!r}, but a forecast in batches has"
            " no table of future columns; take a model without them, or forecast parts of the table"
        )
    if is_fitted and forecaster.looks_across:
        raise ValueError(
            f"the series of {name} look at one another, so they cannot be forecast in batches; take"
            " a model without channel_mixing"
        )
    local_models = [entry for entry in MODELS.values() if not entry.trained]
    local_classes = {entry.home.partition(".")[2] for entry in local_models}
    is_local = type(forecaster).__name__ in local_classes
    is_tuned = getattr(forecaster, "fine_tune", False)
    learns = not is_local or bool(columns) or is_tuned
    if learns and not is_fitted:
        raise ValueError(
            f"{name} would learn from all series of a table, but a batch has only some of them; fit"
            " it on a part of the table, save it, and forecast with the fitted model, or take"
            " 'zero' without columns beside the target"
        )


def _with_network(forecaster: Forecaster) -> Forecaster:
    """The forecaster with its network loaded. An unfitted one would read the network again for each
    batch, from a file that may have changed by then.
    """
    weights = getattr(forecaster, "weights", None)
    if weights is None or forecaster.state_ is not None:
        return forecaster
    from tsattn.forecasters.pretrained import network_of

    settled: Any = forecaster.with_state(None)
    settled.weights = network_of(weights)
    return settled


# --- a batch --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Work:
    """What is done with each batch; a worker gets a copy.

    Args:
        forecaster: Fitted, or one that is fitted on each batch.
        options: Arguments of ``predict``.
        file: The table.
        folder: Where the parts go.
        freq: Frequency of all series; ``None`` until the first batch has told it.
        sample: A forecast of no series, which gives a batch its columns where no series can be
            forecast.
    """

    forecaster: Forecaster
    options: dict[str, Any]
    file: LongFile
    folder: Path
    freq: Any = None
    sample: Forecast | None = field(default=None, repr=False)

    def part(self, batch: Batch) -> Path:
        """The file with the forecasts of a batch."""
        return self.folder / f"{batch.number:06}.parquet"

    def plan(self, batch_series: int) -> dict[str, Any]:
        """What must be the same for a run to go on, as JSON holds it."""
        plan = {
            "version of tsattn": metadata.version("tsattn"),
            "table": self.file.facts,
            "model": _digest(self.forecaster).hexdigest(),
            "options": {**self.options, "batch_series": batch_series},
        }
        return json.loads(json.dumps(plan, default=list))

    def panel(self, batch: Batch) -> Panel:
        """The series of a batch.

        Raises:
            ValueError: If they are faulty. Rows in the message are counted from the batch's first.
        """
        try:
            return self._panel(batch)
        except InputError as error:
            is_head = batch.path == self.file.path and batch.start == 0
            if is_head or " row " not in str(error):
                raise
            first = f" (row 0 is row {batch.start} of {batch.path})"
            raise InputError(*error.args, first) from None

    def _panel(self, batch: Batch) -> Panel:
        frame = self.file.frame(batch)
        schema = self.file.schema
        if self.freq is not None:
            # Closed hours that the first batch has shown count, not those of this one.
            schema = schema.changed(freq=None)
        is_empty = schema.bad != "error" and frame[schema.target_col].isna().all()
        if is_empty:
            # No table without any value is read, but a batch may be one.
            frame[schema.target_col] = 0.0
            schema = schema.changed(missing="mask")
        is_fitted = self.forecaster.state_ is not None
        zone = self.forecaster.panel_.zone if is_fitted else None
        panel = to_panel(frame, schema, freq=self.freq, zone=zone)
        if is_empty:
            no_values = np.full_like(panel.values, np.nan)
            return replace(panel, values=no_values)
        panel = self.forecaster.without_doubtful(panel, is_fitted)
        return self.forecaster.with_own_policy(panel, is_fitted)

    def answer(self, panel: Panel) -> Forecast:
        """The forecast of a panel."""
        if np.isnan(panel.values).all():
            raise BadSeriesError(
                f"no series has a value: {panel.series_label(0)}{more(panel.n_series)}; give"
                " values, or leave these series out",
                panel.ids,
                "has no value",
            )
        forecaster = self.forecaster
        if forecaster.state_ is None:
            forecaster = forecaster.with_state(None).fit(panel)
        forecast = forecaster.predict(panel, **self.options)
        assert isinstance(forecast, Forecast)  # the answer to a panel
        return forecast

    def forecast(self, panel: Panel) -> tuple[Forecast, tuple[Skipped, ...]]:
        """The forecast of a batch, and the series that are left out."""
        try:
            forecast, panel = skip_bad(panel, self.answer, self.file.schema.bad)
        except BadSeriesError as error:
            if self.file.schema.bad == "error" or self.sample is None:
                raise
            panel = panel.without(panel.ids, error.reason)
            empty = replace(self.sample, dialect=panel.dialect)
            forecast = with_skipped(empty, panel)
        return forecast, panel.skipped


def _started(work: _Work, batch: Batch) -> tuple[_Work, list[_Remark]]:
    """The work with the frequency of the first batch and a forecast of one of its series, and what
    reading it warned of.
    """
    if work.forecaster.state_ is not None:
        work = replace(work, freq=work.forecaster.panel_.freq)
    with _recorded() as remarks:
        panel = work.panel(batch)
    if work.forecaster.state_ is not None:
        require_same_steps(work.forecaster.panel_, panel)
    work = replace(work, freq=panel.freq)
    n_tried = 1
    if work.file.schema.bad != "error":
        n_tried = min(_TRIED_SERIES, panel.n_series)
    for n in range(n_tried):
        try:
            with _recorded():
                one_series = panel.some(n, n + 1)
                forecast = work.answer(replace(one_series, skipped=()))
            break
        except BadSeriesError:
            if n == n_tried - 1:
                raise
    no_series = without_skipped(forecast, 0)
    sample = replace(no_series, source=None)
    return replace(work, sample=sample), remarks


def _forecast_missing(
    work: _Work, batches: Sequence[Batch], n_rows: int, engine: Any, verbose: bool
) -> None:
    """Forecast batches in this process, with a progress line, or by an engine."""
    if engine is not None:
        distributed_map(partial(_forecast_batch, work), batches, engine=engine)
        return
    title = f"{work.forecaster.alias_} {work.freq}" if verbose else None
    n_left = sum(batch.stop - batch.start for batch in batches)
    n_made = n_rows - n_left
    with progress_line(title, n_steps=n_rows) as line:
        line.show(n_made, f"{n_made:,} of {n_rows:,} rows")
        for batch in batches:
            _forecast_batch(work, batch)
            n_made += batch.stop - batch.start
            line.show(n_made, f"{n_made:,} of {n_rows:,} rows")


def _forecast_batch(work: _Work, batch: Batch) -> None:
    """Write the forecasts of a batch, whole or not at all."""
    import pyarrow.parquet as pq

    with _recorded() as remarks:
        forecast, skipped = work.forecast(work.panel(batch))
    frame = forecast.to_frame()
    left_out = [[plain(series.name), series.reason] for series in skipped]
    facts = {"rows": len(frame), "skipped": left_out, "remarks": remarks}
    table = work.file.with_id_types(frame)
    text = json.dumps(facts, default=str).encode()
    table_metadata = table.schema.metadata or {}
    table = table.replace_schema_metadata({**table_metadata, _FACTS: text})
    write_atomic(work.part(batch), lambda temporary: pq.write_table(table, temporary))


def _is_whole(part: Path) -> bool:
    """Whether a batch was forecast. Half a file stands where the power failed meanwhile."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(part).metadata
    except (FileNotFoundError, pa.ArrowInvalid):
        return False
    return _FACTS in (metadata or {})


def _join(parts: Sequence[Path], out: Path) -> list[dict[str, Any]]:
    """Put the forecasts of all batches into one file, and return the facts stored in their
    metadata.
    """
    import pyarrow.parquet as pq

    facts = []

    def write(temporary: Path) -> None:
        schema = pq.read_schema(parts[0])
        shared_metadata = {**schema.metadata}
        del shared_metadata[_FACTS]
        with pq.ParquetWriter(temporary, schema.with_metadata(shared_metadata)) as writer:
            for path in parts:
                table = pq.ParquetFile(path).read()
                text = table.schema.metadata[_FACTS]
                facts.append(json.loads(text))
                table = table.replace_schema_metadata(shared_metadata)
                writer.write_table(table)

    write_atomic(out, write)
    return facts


# --- a run ----------------------------------------------------------------------------------------


@contextmanager
def _claimed(folder: Path, plan: dict[str, Any]) -> Iterator[None]:
    """Claim the folder of a run for this process. The folder is removed afterwards if no part in it
    is needed.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"another run is writing to {folder}; wait for its end, or name another file to write"
            " to"
        ) from None
    is_done = False
    try:
        _check_plan(folder, plan)
        yield
        is_done = True
    finally:
        if is_done or not _parts_in(folder):
            shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _parts_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.parquet"))


def _check_plan(folder: Path, plan: dict[str, Any]) -> None:
    """Refuse to go on with the parts of another run."""
    path = folder / _PLAN
    try:
        earlier = read_json(path)
    except ValueError:
        # Nobody knows of what the parts beside it are.
        earlier = {}
    if earlier == plan:
        return
    n_parts = len(_parts_in(folder))
    if n_parts and _is_outdated(earlier, plan):
        table = plan["table"]["path"]
        warn(
            f"{table} has changed since an earlier run, so the {n_parts} batches of that run are"
            " forecast again"
        )
    elif n_parts and earlier:
        raise ValueError(
            f"{folder} holds {n_parts} batches of an earlier run with"
            f" {_other_parts(earlier, plan)}; repeat that run to go on with it, or remove this"
            " folder to begin anew"
        )
    discard_rows(folder)
    for part in _parts_in(folder):
        part.unlink()
    write_json(path, plan)


def _is_outdated(earlier: Mapping[str, Any], plan: Mapping[str, Any]) -> bool:
    """Whether an earlier run cannot go on, since its table was written anew."""
    table = plan["table"]
    old_table = earlier.get("table") or {}
    return old_table != table and old_table.get("path") == table["path"]


def _other_parts(earlier: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    """What differs between two plans, in words."""
    parts = [
        f"another {name}" for name in plan if name != "options" and earlier.get(name) != plan[name]
    ]
    old_options = earlier.get("options") or {}
    options = plan["options"]
    changed = [name for name in options if old_options.get(name) != options[name]]
    if changed:
        changed_names = ", ".join(changed)
        parts.append(f"other options ({changed_names})")
    return " and ".join(parts)


def _digest(forecaster: Any) -> Any:
    """Sha256 of the settings of a forecaster, of its network and of what it has learnt."""
    digest = hashlib.sha256(repr(forecaster).encode())
    state = forecaster.state_
    if state is None and hasattr(forecaster, "weights"):
        state = forecaster.with_network(forecaster.weights).state_
    if state is None:
        return digest
    digest.update(state.panel.fingerprint().encode())
    for name, tensor in sorted(state.tensors().items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(name.encode())
        digest.update(array.tobytes())
    for _, inner in sorted(state.inside().items()):
        digest.update(_digest(inner).digest())
    return digest


# --- warnings -------------------------------------------------------------------------------------


@contextmanager
def _recorded() -> Iterator[list[_Remark]]:
    """Collect the warnings of the library in a block, as JSON holds them."""
    remarks: list[_Remark] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield remarks
    for warning in caught:
        message = warning.message
        if isinstance(message, InputWarning):
            pieces = [_stored(piece) for piece in message.args]
            remarks.append(pieces)
        elif warning.category in (UserWarning, RuntimeWarning):
            remarks.append([str(message)])


def _stored(piece: Piece) -> Any:
    return piece if isinstance(piece, str) else [type(piece).__name__, *vars(piece).values()]


def _restored(stored: Any) -> Piece:
    if isinstance(stored, str):
        return stored
    kind, *values = stored
    return _PIECES[kind](*values)


def _tell_remarks(first: Sequence[_Remark], by_batch: Sequence[Sequence[_Remark]]) -> None:
    """Warn once of what several batches warned of alike.

    Args:
        first: What reading the first batch for the frequency warned of.
        by_batch: What the forecasts of each batch warned of.
    """
    examples: dict[str, _Remark] = {}
    n_batches: Counter[str] = Counter()
    for remarks in by_batch:
        alike = {_DETAILS.sub("", json.dumps(remark)): remark for remark in remarks}
        examples = alike | examples
        n_batches.update(alike.keys())
    for remark in first:
        key = _DETAILS.sub("", json.dumps(remark))
        examples.setdefault(key, remark)
    for key, remark in examples.items():
        pieces = [_restored(piece) for piece in remark]
        n_alike = n_batches[key]
        if n_alike > 1:
            pieces.append(f" (such in {n_alike} of {len(by_batch)} batches)")
        warn(InputWarning(*pieces))


def _tell_left_out(parts: Sequence[dict[str, Any]], work: _Work) -> int:
    """Warn once of all series that are left out, and return their number."""
    skipped = []
    for part in parts:
        part_series = part["skipped"]
        skipped += [Skipped(name, 0, reason) for name, reason in part_series]
    assert work.sample is not None
    panel = Panel(
        values=np.empty((0, 1)),
        starts=np.zeros(1, dtype=np.int64),
        ids=np.empty(0, dtype=object),
        times=pd.Index([]),
        freq=work.freq,
        dialect=work.sample.dialect,
        skipped=tuple(skipped),
    )
    tell_skipped(panel)
    return len(skipped)
