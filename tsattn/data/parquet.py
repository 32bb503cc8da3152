"""Long Parquet files in batches of whole series, however large the file is."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tsattn.checks import InputError, Name
from tsattn.data.columns import Dialect, find_time_col, long_names, require_columns
from tsattn.data.frames import name_columns
from tsattn.data.schema import Schema
from tsattn.storage import full_disk_names, one_line

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Rows of a batch with more than one series, at most: about 1 GB of memory while it is read.
_BATCH_ROWS = 4_000_000
# Rows that are decoded at a time, and bytes that are read from the disk at a time.
_CHUNK_ROWS = 2**20
_READ_BYTES = 2**20
# Ids that are compared with all before them at a time.
_MERGED_IDS = 2**19
# Rows at the head of a file that tell which columns are ids, stamps and values.
_HEAD_ROWS = 2**16
# Files into which the rows of a file are dealt out, at most: all are open at the same time.
_MOST_GROUPS = 500
# A file that stands beside them when all are whole.
_WHOLE = "rows-are-whole"
# Bytes at both ends of a file that tell it from others. A Parquet file ends with the statistics of
# its columns.
_COMPARED_BYTES = 2**16


@dataclass(frozen=True)
class Batch:
    """Whole series of a long file.

    Args:
        number: Place among the batches, from 0.
        path: The file that holds them.
        start: Their first row in it.
        stop: The row after their last one.
    """

    number: int
    path: Path
    start: int
    stop: int


@dataclass(frozen=True)
class LongFile:
    """A long Parquet file of which the columns and the series are known.

    Args:
        path: The file.
        schema: With the names of its columns.
        n_rows: Its rows.
        n_series: Its series.
        starts: The first row of each series and the number of rows, int64 [N + 1]; ``None`` where
            rows of other series stand between those of one.
        facts: What tells the file from others, for JSON.
    """

    path: Path
    schema: Schema
    n_rows: int
    n_series: int
    starts: np.ndarray | None
    facts: dict[str, Any]

    @classmethod
    def scan(cls, path: Path, schema: Schema, like: Dialect | None = None) -> LongFile:
        """Read the head and the ids of a file.

        Args:
            path: The file.
            schema: As :func:`tsattn.data.frames.to_panel` takes it.
            like: How the table of a fit looked.

        Raises:
            TypeError: If stamps or values are text.
            ValueError: If it is no long table with ids, has no rows or one without an id, or cannot
                be decoded.
        """
        facts = _facts_of(path)
        schema = find_columns(path, schema, like)
        keys = schema.id_cols
        seen_ids = _SeenIds()
        starts: list[np.ndarray] = []
        row = 0
        last_hash = None
        for rows in _chunks(path, keys):
            _refuse_blank_ids(rows, keys, path, row)
            places = _run_starts(rows, keys)
            hashes = _hashes(rows, keys, places)
            next_hash = hashes[-1]
            # The first rows may belong to the last series of the chunk before.
            if hashes[0] == last_hash:
                hashes = hashes[1:]
                places = places[1:]
            last_hash = next_hash
            seen_ids.add(hashes)
            # Where rows are apart there may be as many starts as rows.
            starts = [] if seen_ids.is_apart else [*starts, places + row]
            row += rows.num_rows
        seen_ids.merge()
        all_starts = None
        if not seen_ids.is_apart:
            stop = np.array([row])
            all_starts = np.concatenate([*starts, stop]).astype(np.int64)
        n_series = len(seen_ids.hashes)
        return cls(path, schema, row, n_series, all_starts, facts)

    def batches(self, batch_series: int, folder: Path) -> list[Batch]:
        """The file in batches; rows that are apart are first dealt out into files.

        Args:
            batch_series: Series of a batch, at most; about as many where rows are apart.
            folder: Where those files go. What an earlier call has put there is used.

        Raises:
            OSError: If a file cannot be written.
        """
        if self.starts is None:
            return self._groups(batch_series, folder)
        bounds = [0]
        while bounds[-1] < self.n_series:
            first = bounds[-1]
            last_row = self.starts[first] + _BATCH_ROWS
            fitting = int(np.searchsorted(self.starts, last_row, side="right")) - 1
            # At least one series, however long it is.
            fitting = max(fitting, first + 1)
            bounds.append(min(first + batch_series, fitting, self.n_series))
        rows = self.starts[bounds].tolist()
        spans = enumerate(pairwise(rows))
        return [Batch(number, self.path, start, stop) for number, (start, stop) in spans]

    def _groups(self, batch_series: int, folder: Path) -> list[Batch]:
        """The rows in files of their own, by a hash of their ids."""
        # Division of negative numbers rounds up.
        n_by_series = -(-self.n_series // batch_series)
        n_by_rows = -(-self.n_rows // _BATCH_ROWS)
        n_groups = min(max(n_by_series, n_by_rows), _MOST_GROUPS)
        paths = [folder / f"rows-{group:06}.parquet" for group in range(n_groups)]
        mark = folder / _WHOLE
        if not mark.exists():
            columns = _columns(self.schema)
            with full_disk_names(folder):
                _deal_out(self.path, columns, self.schema.id_cols, paths)
            self.require_same()
            mark.touch()
        batches: list[Batch] = []
        for path in paths:
            size = _open(path).metadata.num_rows
            # A group may have no id.
            if size:
                batches.append(Batch(len(batches), path, 0, size))
        return batches

    def frame(self, batch: Batch) -> pd.DataFrame:
        """The rows of a batch. The ids of a file whose rows are not apart are categories in its
        order, which take less memory than a text a row.

        Raises:
            ValueError: If the file was written anew since it was scanned.
        """
        keys: tuple[Any, ...] = self.schema.id_cols
        columns = _columns(self.schema)
        is_apart = batch.path != self.path
        if not is_apart:
            self.require_same()
        table = _read_rows(batch.path, columns, batch.start, batch.stop)
        if not is_apart:
            self.require_same()
        key = keys[0]
        if is_apart or len(keys) > 1 or table.column(key).null_count:
            return table.to_pandas()
        # Categories, so that no text is made for every row.
        ids = table.column(key).combine_chunks().dictionary_encode()
        frame = table.drop_columns([key]).to_pandas()
        frame.insert(0, key, ids.to_pandas())
        return frame

    def with_id_types(self, frame: pd.DataFrame) -> pa.Table:
        """A frame of forecasts as a table whose ids are of the type that they have in the file;
        categories become their values.
        """
        import pyarrow as pa

        table = pa.Table.from_pandas(frame, preserve_index=False)
        source = _open(self.path).schema_arrow
        for key in self.schema.id_cols:
            place = table.schema.get_field_index(key)
            column = table.column(place)
            if pa.types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
            source_type = source.field(key).type
            column = column.cast(_value_type(source_type))
            table = table.set_column(place, key, column)
        return table

    def require_same(self) -> None:
        """Refuse a file that was written anew since it was scanned.

        Raises:
            ValueError: If it was.
        """
        if _facts_of(self.path) != self.facts:
            raise ValueError(
                f"{self.path} has changed since this run began, so its forecasts would be of two"
                " tables; begin anew once it is whole"
            )


def discard_rows(folder: Path) -> None:
    """Remove the files into which :meth:`LongFile.batches` dealt rows out."""
    (folder / _WHOLE).unlink(missing_ok=True)
    for path in folder.glob("rows-*.parquet"):
        path.unlink()


class _SeenIds:
    """Hashes of the ids of a file, and whether one came again after another.

    Attributes:
        hashes: Different ones, ascending, uint64.
        is_apart: Whether one came twice.
    """

    def __init__(self) -> None:
        self.hashes = np.empty(0, dtype=np.uint64)
        self.is_apart = False
        self._pending: list[np.ndarray] = []

    def add(self, hashes: np.ndarray) -> None:
        """Count the ids of further runs of rows."""
        self._pending.append(hashes)
        # A merge sorts all of them, so that it must be rare.
        if sum(map(len, self._pending)) >= _MERGED_IDS:
            self.merge()

    def merge(self) -> None:
        """Look among the ids before for those that were added since the last call."""
        all_hashes = np.concatenate([self.hashes, *self._pending])
        merged = np.unique(all_hashes)
        # An id that comes twice makes one of them.
        if len(merged) < len(all_hashes):
            self.is_apart = True
        self.hashes = merged
        self._pending = []


# --- columns --------------------------------------------------------------------------------------


def _columns(schema: Schema) -> list[Any]:
    """The columns that are read."""
    names = [*schema.id_cols, schema.time_col, schema.target_col, *schema.columns.in_table]
    return list(dict.fromkeys(names))


def n_rows_of(path: Path) -> int:
    """Rows of a Parquet file.

    Raises:
        ValueError: If it is none.
    """
    return _open(path).metadata.num_rows


def find_columns(path: Path, schema: Schema, like: Dialect | None) -> Schema:
    """The schema with the names of the columns of a long file, by its first rows.

    Args:
        path, schema, like: As :meth:`LongFile.scan` takes them.

    Raises:
        TypeError: If stamps or values are text.
        ValueError: If it is no long table with ids, has no rows, or cannot be decoded.
    """
    import pyarrow as pa

    file = _open(path)
    with _damage_told(path, 0):
        head = next(file.iter_batches(batch_size=_HEAD_ROWS), None)
    if head is None:
        raise ValueError(f"{path} has no rows; name a table with some")
    frame = head.replace_schema_metadata(None).to_pandas()
    frame, schema, is_long = name_columns(frame, schema, like)
    names = (schema.id_col, schema.time_col, schema.target_col)
    id_col, time_col, target_col = long_names(frame, *names)
    if not is_long or id_col is None:
        raise InputError(
            f"{path} is no long table with a column of ids, as batches need it; name the column"
            " by ",
            Name("id_col"),
        )
    keys = [*id_col] if isinstance(id_col, tuple) else [id_col]
    if time_col not in frame.columns:
        codes = frame.groupby(keys, sort=False).ngroup().to_numpy()
        time_col = find_time_col(frame, [*keys, target_col], codes) or time_col
    require_columns(frame, {"id_col": keys, "time_col": time_col, "target_col": target_col})
    for name, kind in ((time_col, "timestamps"), (target_col, "numbers")):
        column_type = file.schema_arrow.field(name).type
        if _is_text(_value_type(column_type)):
            raise TypeError(
                f"column {name!r} of {path} holds text, which batches might read in different"
                f" ways; write it as {kind}"
            )
    for key in keys:
        id_type = file.schema_arrow.field(key).type
        if pa.types.is_nested(id_type) or str(id_type) == "binary_view":
            raise TypeError(
                f"column {key!r} of {path} holds {id_type}, but ids in batches must be text,"
                " numbers or dates; write it as text"
            )
    return schema.changed(id_col=id_col, time_col=time_col, target_col=target_col)


def _value_type(arrow_type: pa.DataType) -> pa.DataType:
    """The type of the values of a column, also where they are categories."""
    import pyarrow as pa

    if pa.types.is_dictionary(arrow_type):
        return arrow_type.value_type
    return arrow_type


def _is_text(arrow_type: pa.DataType) -> bool:
    # Versions of pyarrow that this project allows have no test for views.
    return str(arrow_type) in ("string", "large_string", "string_view")


def _facts_of(path: Path) -> dict[str, Any]:
    """What tells a file from others, for JSON."""
    status = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(_COMPARED_BYTES))
        file.seek(max(status.st_size - _COMPARED_BYTES, 0))
        digest.update(file.read())
    return {
        "path": str(path.resolve()),
        "bytes": status.st_size,
        "modified": status.st_mtime_ns,
        "sha256": digest.hexdigest(),
    }


# --- rows -----------------------------------------------------------------------------------------


def _open(path: Path, text_keys: Sequence[Hashable] = ()) -> pq.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # pandas tells pyarrow of its periods when it first gives it some, which are numbers otherwise.
    pa.array(pd.PeriodIndex(["2000"], freq="D").array)
    try:
        # With a buffer a row group is read piece by piece, however large it is.
        text_names = [*text_keys] or None
        return pq.ParquetFile(path, read_dictionary=text_names, buffer_size=_READ_BYTES)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{path} is no readable Parquet table ({one_line(error)}); write it again"
        ) from None


@contextmanager
def _damage_told(path: Path, row: int) -> Iterator[None]:
    """Let the error of rows that cannot be decoded name the file and the first of these rows."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        # Errors of the system have a number and name the file.
        if getattr(error, "errno", None) is not None:
            raise
        raise ValueError(
            f"{path} cannot be read from row {row} on ({one_line(error)}); write it again"
        ) from None


def _chunks(path: Path, columns: Sequence[Hashable]) -> Iterator[pa.RecordBatch]:
    """Columns of a file, some rows at a time; those of text as categories."""
    schema = _open(path).schema_arrow
    text = [name for name in columns if _is_text(schema.field(name).type)]
    file = _open(path, text)
    row = 0
    iterator = file.iter_batches(batch_size=_CHUNK_ROWS, columns=[*columns])
    while True:
        with _damage_told(path, row):
            rows = next(iterator, None)
        if rows is None:
            return
        row += rows.num_rows
        if rows.num_rows:
            yield rows.replace_schema_metadata(None)


def _read_rows(path: Path, columns: Sequence[Hashable], start: int, stop: int) -> pa.Table:
    """Rows ``start:stop`` of a file."""
    import pyarrow as pa

    file = _open(path)
    metadata = file.metadata
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    ends = np.cumsum(sizes)
    first = int(np.searchsorted(ends, start, side="right"))
    last = int(np.searchsorted(ends, stop, side="left"))
    row = int(ends[first]) - sizes[first]
    groups = range(first, last + 1)
    parts = []
    iterator = file.iter_batches(batch_size=_CHUNK_ROWS, row_groups=groups, columns=[*columns])
    while row < stop:
        with _damage_told(path, row):
            rows = next(iterator)
        begin = max(start - row, 0)
        end = min(stop - row, rows.num_rows)
        if begin < end:
            part = rows.slice(begin, end - begin)
            parts.append(part)
        row += rows.num_rows
    return pa.Table.from_batches(parts).replace_schema_metadata(None)


def _refuse_blank_ids(
    rows: pa.RecordBatch, keys: Sequence[Hashable], path: Path, first_row: int
) -> None:
    for key in keys:
        ids = rows.column(key)
        if ids.null_count:
            is_blank = ids.is_null().to_numpy(zero_copy_only=False)
            row = first_row + int(is_blank.argmax())
            raise ValueError(
                f"column {key!r} of {path} has no id in row {row}, but every row belongs to a"
                " series; fill in or drop such rows"
            )


def _run_starts(rows: pa.RecordBatch, keys: Sequence[Hashable]) -> np.ndarray:
    """The rows at which another id begins, the first among them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    changes = np.zeros(rows.num_rows, dtype=bool)
    changes[:1] = True
    for key in keys:
        ids = rows.column(key)
        if isinstance(ids, pa.DictionaryArray):
            ids = ids.indices
        n_pairs = len(ids) - 1
        differs = pc.not_equal(ids.slice(1), ids.slice(0, n_pairs))
        # A missing id differs from all; reading the batch refuses it.
        differs = pc.fill_null(differs, True)
        changes[1:] |= differs.to_numpy(zero_copy_only=False)
    return np.flatnonzero(changes)


def _hashes(
    rows: pa.RecordBatch, keys: Sequence[Hashable], places: np.ndarray | None = None
) -> np.ndarray:
    """A number for each id in some rows or all, uint64: the same for the same ids."""
    import pyarrow as pa

    columns = {}
    for key in keys:
        ids = rows.column(key)
        if places is not None:
            ids = ids.take(pa.array(places))
            ids = ids.cast(_value_type(ids.type))
        # Text may be categories.
        columns[key] = ids.to_pandas()
    hashes = pd.util.hash_pandas_object(pd.DataFrame(columns), index=False)
    return hashes.to_numpy()


def _deal_out(
    source: Path, columns: Sequence[Any], keys: Sequence[Hashable], paths: Sequence[Path]
) -> None:
    """Write each row into the file that the hash of its id chooses."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writers: list[pq.ParquetWriter] = []
    n_groups = len(paths)
    with ExitStack() as stack:
        for rows in _chunks(source, columns):
            if not writers:
                # Categories are written as their values.
                fields = [field.with_type(_value_type(field.type)) for field in rows.schema]
                schema = pa.schema(fields)
                writers = [stack.enter_context(pq.ParquetWriter(path, schema)) for path in paths]
            # All rows of an id have the same hash, and so the same group.
            hashes = _hashes(rows, keys)
            groups = (hashes % np.uint64(n_groups)).astype(np.int64)
            order = np.argsort(groups, kind="stable")
            table = pa.Table.from_batches([rows])
            table = table.take(pa.array(order)).cast(schema)
            sizes = np.bincount(groups, minlength=n_groups).tolist()
            begin = 0
            for writer, size in zip(writers, sizes, strict=True):
                if size:
                    writer.write_table(table.slice(begin, size))
                begin += size
