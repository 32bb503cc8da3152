"""Tables in files: CSV, plain or compressed, Parquet, Feather and Excel, by the ending
of the name.
"""

import bz2
import csv
import gzip
import io
import lzma
import re
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from tsattn.checks import Argument, InputError, InPython, Name
from tsattn.data.columns import long_names, spelt_stamps
from tsattn.data.frames import name_columns, to_panel
from tsattn.data.panel import Panel
from tsattn.data.parts import header_call, header_rows, unit_cols
from tsattn.data.schema import Schema
from tsattn.storage import is_special, one_line, write_atomic

_KINDS = {
    ".parquet": "Parquet",
    ".pq": "Parquet",
    ".feather": "Feather",
    ".xlsx": "Excel",
    ".xlsm": "Excel",
}
_UNREAD = (".xls", ".xlsb", ".ods")
_JSON = (".json", ".jsonl")
_PACKAGES = {"Parquet": "pyarrow", "Feather": "pyarrow", "Excel": "openpyxl"}
_PACKED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd", ".zip": "zip"}
_INTEGER = re.compile(r" *(0|-?[1-9][0-9]{0,17}) *")  # as it is written, within int64
_MARK = "'"
_DATE = re.compile(
    r"\d{4}([-/.])\d\d?\1\d|\d\d?([-/.])\d\d?\2\d{4}|\d{4}([-/]\d\d|-?Q[1-4]|-?W\d\d)$"
    r"|(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]* \d{4}$"
)
# Bytes that a packed file may hold unpacked. A cell of a spreadsheet takes about 20 bytes and a
# microsecond each.
_MOST_UNPACKED = {"CSV": 10**9, "Excel": 50 * 10**6}
# What pandas calls a column without a name, before its number.
_UNNAMED = "Unnamed: "
# Lines in which the names of columns are looked for below a title.
_TITLE_LINES = 10
_SIZE = re.compile(r"(\d+(?:\.\d+)?) *([kMGT]?)B?", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_CHUNK_BYTES = 2**20
# Whole part, what parts its thousands, what stands before the fraction, and that.
_GROUPED = r"([-+]?(?:\d{1,3}([.,' \u2019\u00a0\u202f])\d{3}(?:\2\d{3})*|\d+))(?:([.,])(\d+))?"
_DAMAGED = (
    ValueError,
    KeyError,
    EOFError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)


def read_table(
    path: str | Path,
    schema: Schema | None = None,
    *,
    missing: str | None = None,
    max_size: int | str | None = None,
) -> Panel:
    """Read a file as :func:`read_frame` does, long or wide, as a panel.

    Args:
        path, schema, max_size: As in :func:`read_frame`.
        missing: Policy where the schema names none.

    Raises:
        ValueError, ImportError, OSError: As :func:`read_frame`, or if the table is not usable.
    """
    schema = Schema() if schema is None else schema
    return to_panel(read_frame(path, schema, max_size=max_size), schema, missing=missing)


def kind_of(path: str | Path) -> str:
    """What a file of this name holds: ``"Parquet"``, ``"Feather"``, ``"Excel"``, else ``"CSV"``.

    Raises:
        ValueError: If it is a kind of spreadsheet that is not read.
        ImportError: If the package for such files is not installed.
    """
    suffix = Path(path).suffix.lower()
    if suffix in _UNREAD:
        raise ValueError(
            f"{path}: {suffix} files are neither read nor written; save the table as .xlsx or CSV"
        )
    kind = _KINDS.get(suffix, "CSV")
    package = "zstandard" if suffix == ".zst" else _PACKAGES.get(kind)
    if package is not None and find_spec(package) is None:
        requirement = "zstandard" if suffix == ".zst" else "'tsattn[files]'"
        raise ImportError(
            f"{path}: {suffix} files need {package}; install it with: pip install {requirement}"
        )
    return kind


def check_ending(path: Path) -> None:
    """Refuse a name for a table before the work, as :func:`kind_of` does, or if its ending says
    nothing.

    Raises:
        ValueError, ImportError: If no such file is written.
    """
    kind_of(path)
    endings = (".csv", *_PACKED, *_KINDS)
    if path.suffix.lower() not in ("", *endings):
        raise ValueError(f"{path} names no kind of table; end it in one of {', '.join(endings)}")


def read_frame(
    path: str | Path, schema: Schema | None = None, *, max_size: int | str | None = None
) -> pd.DataFrame:
    """Read a file as it is; of a spreadsheet its first sheet.

    The ids of CSV and spreadsheets are text as it stands there, such as 001 and NA, or integers if
    all are written as such. Static columns are text unless they hold numbers. A first line of
    numbers is read as values: the columns are then called y, or y1, y2 and so on.

    Args:
        path: The file; ``-`` is CSV on standard input. CSV may be compressed, and parted by
            semicolons, tabs or bars.
        schema: What its columns are; those of ids, stamps and categories need not hold numbers.
        max_size: Bytes that a packed file may hold unpacked, such as ``"2GB"``; default 1 GB, of a
            spreadsheet 50 MB.

    Raises:
        ValueError: If the file is no table, or unpacks to more than ``max_size``.
        ImportError, OSError: If the package for such files is not installed, or the file cannot be
            read.
    """
    kind = kind_of(path)
    suffix = Path(path).suffix.lower()
    if suffix in _JSON:
        raise ValueError(f"{path}: {suffix} files are not read; save the table as Parquet or CSV")
    schema = Schema() if schema is None else schema
    limit = _MOST_UNPACKED.get(kind, 0) if max_size is None else _parse_size(max_size)
    try:
        if kind == "Parquet":
            return pd.read_parquet(path, engine="pyarrow")
        if kind == "Feather":
            return pd.read_feather(path)
        words = {
            *schema.static_cols,
            *(("unique_id", "item_id") if schema.id_col == "unique_id" else _id_names(schema)),
        }
        as_text: dict[Any, Any] = {name: _text for name in words if isinstance(name, str)}
        if kind == "Excel":
            return _read_excel(path, schema, as_text, limit)
        return _split_cells(*_read_csv(path, schema, as_text, limit))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}; check the path") from None
    except InputError:  # of a table that is no damaged file
        raise
    except _DAMAGED as error:  # empty files, ragged rows and broken encodings are all among them
        name = "standard input" if str(path) == "-" else path
        fact, _, advice = one_line(error).partition("; ")
        if fact.startswith("Multiple files"):
            advice = "leave one file in it"
        if fact.startswith("No columns"):
            fact = "it is empty"
            advice = "write the table again"
        elif "Expected 1 fields" in fact:
            advice = "delete the lines above the names of the columns, or correct that line"
        elif "fields in line" in fact:
            advice = "correct that line, or write cells that hold the separator in quotes"
        advice = advice or (
            "save it as UTF-8 CSV" if kind == "CSV" else "write it again, or as CSV"
        )
        raise ValueError(f"{name} is no readable {kind} table ({fact}); {advice}") from None


def _read_excel(
    path: str | Path, schema: Schema, as_text: dict[Any, Any], limit: int
) -> pd.DataFrame:
    if Path(path).is_file():
        with zipfile.ZipFile(path) as members:
            n_bytes = sum(member.file_size for member in members.infolist())
        if n_bytes > limit:
            _refuse_size(path, limit)

    def read(converters: dict[Any, Any] = as_text, **more: Any) -> pd.DataFrame:
        return pd.read_excel(path, engine="openpyxl", converters=converters, **more)

    _tell_other_sheets(path)
    if _begins_with_values(read):
        return _without_names(read(header=None), path)
    _refuse_header_rows(read, path)
    _refuse_equal_names(read)
    frame = read()
    _refuse_title(frame, read)
    frame, named = _with_found_keys(frame, schema, read)
    return _read_words(frame, named, as_text)


def _tell_other_sheets(path: str | Path) -> None:
    """Warn of sheets that are not read."""
    with pd.ExcelFile(path, engine="openpyxl") as book:
        first, *others = book.book.worksheets
        # Empty sheets, as old versions of Excel add them, have one row.
        names = [sheet.title for sheet in others if (sheet.max_row or 2) > 1]
        if names:
            warnings.warn(
                f"{path}: only the first sheet, {first.title!r}, is read, and not {names!r:.100};"
                " move the table there, or save its sheet as a file",
                stacklevel=2,
            )


def _read_csv(
    path: str | Path, schema: Schema, as_text: dict[Any, Any], limit: int
) -> tuple[pd.DataFrame, Schema]:
    """The table of a file, and the schema with the ids that were found in it."""
    source: Any = path
    if str(path) == "-":
        if sys.stdin is None:
            raise OSError("standard input is closed; name a file, or pipe a table in")
        source = io.BytesIO(sys.stdin.buffer.read())
    elif is_special(Path(path)):  # a pipe can be read once only
        source = io.BytesIO(Path(path).read_bytes())
    _check_content(source, path, limit)
    options: dict[str, Any] = {
        "float_precision": "round_trip",
        "low_memory": False,
        "converters": as_text,
    }
    options["compression"] = _PACKED.get(Path(path).suffix.lower(), "infer")

    def read(**more: Any) -> pd.DataFrame:
        if isinstance(source, io.BytesIO):
            source.seek(0)
        return pd.read_csv(source, **(options | more))

    head = read(nrows=1)
    first = str(head.columns[0])
    rows = head if isinstance(head.index, pd.RangeIndex) else head.reset_index()
    if first.startswith("sep="):
        raise ValueError(f"its first line, {first}, is no part of a table; delete this line")
    if first.startswith("#") and " " in first and head.shape[1] == 1:
        raise ValueError(
            "its first line begins with # and is a remark; delete the lines above the names of the"
            " columns"
        )
    for mark in ";\t|":
        # A comma may stand in a later name, as in "ds;sales, EUR".
        if mark in first and (head.shape[1] == 1 or mark in "".join(map(str, rows.iloc[:1, 0]))):
            # Where semicolons part the cells, commas may be decimal points.
            options |= {"sep": mark, "decimal": "," if mark == ";" else "."}
    if _begins_with_values(read):
        return _without_names(read(header=None), path), schema
    # Lines of other lengths are named where the table is read.
    _refuse_header_rows(partial(read, on_bad_lines="skip"), path)
    _refuse_equal_names(read)
    frame = read()
    _refuse_title(frame, read)
    dates = [name for name in map(str, frame.columns) if _DATE.match(name)]
    # Several dates are names of the columns of a table whose rows are series.
    if len(dates) == 1:
        raise ValueError(
            f"its first line holds {dates[0]!r}, not the names of the columns, such as ds and y;"
            " add these"
        )
    if not isinstance(frame.index, pd.RangeIndex):
        frame = _without_index(frame, read)
    if isinstance(frame.index, pd.RangeIndex):
        again = partial(read, index_col=False)
        frame, schema = _with_found_keys(frame, schema, again)
        frame = _with_thousands(frame, again)
    return _read_words(frame, schema, as_text, options.get("decimal", ".")), schema


# --- the first line -------------------------------------------------------------------------------


def _refuse_header_rows(read: Callable[..., pd.DataFrame], path: str | Path) -> None:
    """Refuse a file whose columns are named in several lines."""
    lines = read(header=None, nrows=_TITLE_LINES, dtype=str)
    n_lines = 1 + header_rows(lines.iloc[1:])
    if n_lines > 1:
        names = lines.iloc[:n_lines, 1].fillna("").tolist()
        # Names that occur twice need the lines below them.
        may_be_units = n_lines == 2 and lines.iloc[0].dropna().is_unique
        raise InputError(
            f"the first {n_lines} lines of {path} name its columns, as {names!r:.80}, but one line"
            f" must hold their names, as {' '.join(names)!r:.80}; write that line in their place"
            f"{', or delete line 2 where it holds units' if may_be_units else ''}",
            InPython(f", or read the file by {header_call(n_lines, repr(str(path)))}"),
        )
    rows = lines.iloc[1:].set_axis(lines.iloc[0], axis=1)
    units = unit_cols(rows) if rows.columns.is_unique else []
    if units:
        raise InputError(
            f"line 2 of {path} holds words above numbers, {rows[units[0]].iloc[0]!r:.40} in column"
            f" {units[0]!r}, as units below the names of columns are; delete this line"
        )


def _refuse_equal_names(read: Callable[..., pd.DataFrame]) -> None:
    """Refuse a first line that holds a name twice, of which pandas would number the second."""
    line = read(header=None, nrows=1)
    names = line.iloc[0].dropna().astype(str) if len(line) else pd.Series(dtype=str)
    repeated = names[names.duplicated()]
    if len(repeated):
        raise ValueError(
            f"its first line names {repeated.iloc[0]!r} twice, but each column must have a name of"
            " its own; rename or delete one of them"
        )


def _refuse_title(frame: pd.DataFrame, read: Callable[..., pd.DataFrame]) -> None:
    """Refuse a first line that names at most one of several columns, where the names of all follow
    in a later line.
    """
    named = [name for name in frame.columns if not str(name).startswith(_UNNAMED)]
    if len(named) > 1 or frame.shape[1] < 2:
        return
    content = f"is a title, {named[0]!r:.60}" if named else "is empty"
    lines = read(header=None, nrows=_TITLE_LINES)
    for _, line in lines[lines.notna().sum(axis=1) > 1].iterrows():
        names = line.dropna()
        if pd.to_numeric(names, errors="coerce").isna().all():
            raise ValueError(
                f"its first line {content}, and its columns are named below it,"
                f" {names.iloc[0]!r:.40} first; delete the lines above these names"
            )
        return


def _begins_with_values(read: Callable[..., pd.DataFrame]) -> bool:
    """Whether the first line holds numbers, and these are no names of columns."""
    line = read(header=None, nrows=1)
    is_numeric = line.select_dtypes("number").shape == line.shape and len(line) == 1
    if not is_numeric or line.isna().any(axis=None):
        return False
    return not _are_names(line.iloc[0].tolist())


def _are_names(numbers: Sequence[float]) -> bool:
    """Whether numbers in the first line are names of columns: 0, 1, 2 as pandas writes them, or
    times, as in a table whose rows are series.
    """
    if len(numbers) < 2 or any(number != int(number) for number in numbers):
        return False
    if [*numbers] == [*range(len(numbers))]:
        return True
    whole = np.array(numbers, dtype=np.int64)
    rising = len(whole) > 2 and len({*np.diff(whole)}) == 1
    return rising and spelt_stamps(whole, years=True) is not None


def _without_names(frame: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """A table whose first line holds values, with names for its columns."""
    n_columns = frame.shape[1]
    names = ["y"] if n_columns == 1 else [f"y{k}" for k in range(1, n_columns + 1)]
    listed = names[0] if n_columns == 1 else f"{names[0]} to {names[-1]}"
    warnings.warn(
        f"the first line of {path} holds numbers, which are read as values of {listed}; if they"
        " are the names of the columns, write them with a letter",
        stacklevel=2,
    )
    return frame.set_axis(names, axis=1)


# --- packed files ---------------------------------------------------------------------------------


def _parse_size(size: int | str) -> int:
    """Bytes of a number or of a text such as "2GB"."""
    match = _SIZE.fullmatch(str(size).strip())
    if match is None or isinstance(size, bool):
        raise InputError(
            Name("max_size"), f" must be bytes or a text such as '500MB' or '2GB'; got {size!r}"
        )
    return int(float(match[1]) * _SIZE_UNITS[match[2].lower()])


def _refuse_size(path: str | Path, limit: int) -> NoReturn:
    larger = f"{max(4, 4 * limit // 10**9)}GB"
    raise InputError(
        f"{path} unpacks to more than {limit:,} bytes, which would take long to read or fill the"
        " memory; allow more by ",
        Argument("max_size", larger),
        ", or write it as Parquet",
    )


def _check_content(source: Any, path: str | Path, limit: int) -> None:
    """Refuse CSV that unpacks to more than the limit, and text with NUL characters, at which
    readers cut cells.
    """
    suffix = Path(path).suffix.lower()
    packing = _PACKED.get(suffix)
    is_local = isinstance(source, io.BytesIO) or Path(path).is_file()
    if suffix == ".tar" or not is_local:
        return
    n_bytes = 0
    with _unpacked(source, packing) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            if b"\0" in chunk:
                place = n_bytes + chunk.index(b"\0")
                raise ValueError(
                    f"byte {place} is NUL, which would cut a cell in silence; write it again as"
                    " UTF-8 CSV without such characters"
                )
            n_bytes += len(chunk)
            if packing is not None and n_bytes > limit:
                _refuse_size(path, limit)


@contextmanager
def _unpacked(source: Any, packing: str | None) -> Iterator[Any]:
    """The bytes of a file, or of its content, as they are unpacked."""
    with ExitStack() as stack:
        if packing == "zip":
            archive = stack.enter_context(zipfile.ZipFile(source))
            names = archive.namelist()
            # pandas refuses an archive with another number of files.
            yield stack.enter_context(archive.open(names[0])) if len(names) == 1 else io.BytesIO()
        elif packing == "zstd":
            yield stack.enter_context(import_module("zstandard").open(source, "rb"))
        elif packing is not None:
            openers: dict[str, Any] = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open}
            yield stack.enter_context(openers[packing](source, "rb"))
        elif isinstance(source, io.BytesIO):
            source.seek(0)
            yield source
        else:
            yield stack.enter_context(open(source, "rb"))


# --- cells ----------------------------------------------------------------------------------------


def _without_index(frame: pd.DataFrame, read: Any) -> pd.DataFrame:
    """A table whose rows have more cells than there are names, of the first of which pandas made an
    index.
    """
    more = frame.index.nlevels
    last = frame.iloc[:, -more:]
    if (last.isna() | (last == _MARK)).all(axis=None):  # each row ends with a mark
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", pd.errors.ParserWarning
            )  # of what is lost, which is nothing
            return read(index_col=False)
    first = read(header=None, skiprows=1, nrows=1, quoting=csv.QUOTE_NONE).iloc[0, 0]
    if first == '"1"' and np.array_equal(
        frame.index, np.arange(1, len(frame) + 1)
    ):  # as R writes them
        warnings.warn(
            "the first cell of each row, which no name stands above, numbers the rows", stacklevel=2
        )
        return frame
    n = frame.shape[1]
    raise ValueError(
        f"a line holds {n + more} cells, but the first line names {n} columns; name all, drop the"
        " rest, or delete a title above the names"
    )


def _text(cell: Any) -> str:
    """Text behind a mark, for of a spreadsheet pandas makes NaN and numbers of what a converter
    returns.
    """
    return _MARK if cell != cell else f"{_MARK}{cell}"  # NaN is an error in a spreadsheet


def _with_found_keys(
    frame: pd.DataFrame, schema: Schema, read: Callable[..., pd.DataFrame]
) -> tuple[pd.DataFrame, Schema]:
    """A table with the ids that stand in columns that nobody named as they are written, and the
    schema with the names of these columns.

    Args:
        frame: The table.
        schema: What its columns are.
        read: Function that reads some columns of the file again.
    """
    if schema.id_col != "unique_id" or not {"unique_id", "item_id"}.isdisjoint(frame.columns):
        return frame, schema
    found_schema = _named(frame, schema)
    gaps = [name for name in frame.select_dtypes(object) if frame[name].isna().any()]
    if found_schema is None and gaps:
        # An id may be NA, which pandas takes for a missing one.
        cells = read(usecols=gaps, converters=dict.fromkeys(gaps, _text))
        texts = cells.apply(lambda column: column.str.removeprefix(_MARK))
        found_schema = _named(frame.assign(**texts.where(texts != "")), schema)
    if found_schema is None:
        return frame, schema
    keys = [key for key in _id_names(found_schema) if key in frame.columns]
    if not keys:
        return frame, schema
    named = schema.changed(id_col=keys)
    # Numbers may be written as 001, and gaps as NA.
    changed = [key for key in keys if frame[key].dtype != object or frame[key].isna().any()]
    if changed:
        cells = read(usecols=changed, converters=dict.fromkeys(changed, _text))
        frame = frame.assign(**_read_words(cells, named, changed))
    return frame, named


def _named(frame: pd.DataFrame, schema: Schema) -> Schema | None:
    """The schema with the columns that are found in a table; ``None`` if it is faulty, which the
    reading of the table tells.
    """
    # Where several columns hold numbers, a table of future rows may tell which one is forecast.
    for table in (frame, frame.assign(y=0.0)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of keys that are found again
                return name_columns(table, schema)[1]
        except (ValueError, TypeError):
            continue
    return None


def _id_names(schema: Schema) -> tuple[Any, ...]:
    """Columns that name series, one or several."""
    return schema.id_col if isinstance(schema.id_col, tuple) else (schema.id_col,)


def _read_words(
    frame: pd.DataFrame, schema: Schema, words: Iterable[str], decimal: str = "."
) -> pd.DataFrame:
    """Columns that came as text: ids as integers where nothing of them is lost, others as they
    would be read.
    """
    id_cols = _id_names(schema)
    if len(id_cols) < 2:
        id_cols = long_names(frame, schema.id_col, schema.time_col, schema.target_col)[:1]
    for name in frame.columns.intersection([*words]):
        text = frame[name].str.removeprefix(_MARK)
        if name not in id_cols:
            point = decimal if text.str.contains(decimal, regex=False).any() else "."
            cells = io.StringIO(text.to_csv(index=False))
            plain = pd.read_csv(cells, decimal=point, float_precision="round_trip")[name].array
            frame[name] = (
                text.where(text != "") if plain.dtype == object or plain.isna().all() else plain
            )
        elif text.str.fullmatch(_INTEGER, na=False).all():
            frame[name] = text.astype(np.int64)
        else:
            frame[name] = text.where(text != "")
    return frame


def _split_cells(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Numbers as numbers in columns that one stray word turned into text, so that an error names
    the word.
    """
    names = {
        *_id_names(schema),
        schema.time_col,
        *schema.static_cols,
        "unique_id",
        "ds",
        "item_id",
        "timestamp",
    }
    for name in {*frame.select_dtypes(object)} - names:
        frame[name] = _ungrouped(frame[name])
        numbers = pd.to_numeric(frame[name], errors="coerce")
        # Of categories, such as the holidays 0, a, b, c, more are words.
        stray = (
            frame[name][numbers.isna()].nunique() <= numbers.nunique()
            or name not in schema.columns.moving
        )
        if numbers.notna().any() and stray:
            frame[name] = numbers.astype(object).where(numbers.notna(), frame[name])
    return frame


def _with_thousands(frame: pd.DataFrame, read: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """A table with 1000 where a file has 1,000 or 1.000 beside 980, which pandas reads as 1.

    Only numbers of three decimals may be such, in a column with others that have none.

    Args:
        frame: The table.
        read: Function that reads some columns of the file again.
    """
    suspects = []
    for name in frame.select_dtypes(float):
        thousandths = 1000 * frame[name].dropna()
        if len(thousandths) and np.allclose(thousandths, thousandths.round(), rtol=0, atol=1e-6):
            suspects.append(name)
    if not suspects:
        return frame
    cells = read(usecols=suspects, converters=dict.fromkeys(suspects, _text))
    for name in suspects:
        text = cells[name].str.removeprefix(_MARK).str.strip()
        has_mark = text.str.fullmatch(r"-?[1-9]\d{0,2}[.,]\d{3}").astype(bool)
        others = text[~has_mark & (text != "")]
        are_whole = others.str.fullmatch(r"-?\d{1,3}").astype(bool).all()
        if not has_mark.any() or not len(others) or not are_whole:
            continue
        marked = frame[name][has_mark].abs().median()
        unmarked = frame[name][others.index].abs().median()
        # Nearer to the thousands of the others than to their ones.
        if unmarked**2 > 1000 * marked**2:
            frame[name] = frame[name].where(~has_mark, (1000 * frame[name]).round())
            warnings.warn(
                f"column {name!r} holds {text[has_mark].iloc[0]} beside {others.iloc[0]}, and its"
                " mark is read as one of thousands; if it is a decimal one, write all numbers with"
                " decimals",
                stacklevel=2,
            )
    return frame


def _ungrouped(column: pd.Series) -> pd.Series:
    """Cells such as 1.029,62 as 1029.62, where all of them together tell what parts thousands."""
    cells = column.dropna().astype(str).str.strip()
    if not len(cells) or not re.fullmatch(_GROUPED, cells.iloc[0]):
        return column
    parts = cells.str.extract(f"^{_GROUPED}$")
    marks, points = ({*parts[k].dropna()} for k in (1, 2))
    twice = cells.str.contains(r"[.,].*[.,]").any()
    if marks == points and not twice:  # one that parts 1,5 parts no thousands
        return cells.str.replace(",", ".").reindex(column.index)
    small = cells.str.match(r"[-+]?0\D").any()
    is_clear = twice or points or marks - {*".,"} or (parts[1].isna().any() and not small)
    if not (is_clear or small) and marks == {"."} and parts[0].notna().all():
        example = f"column {column.name!r} holds numbers such as {cells.iloc[0]}"
        warnings.warn(
            f"{example}, read with a decimal point; if it parts thousands, write them without",
            stacklevel=2,
        )
    if parts[0].isna().any() or not is_clear or len(marks) > 1 or len(points) > 1 or marks & points:
        return column
    return (parts[0].str.replace(r"[^-+\d]", "", regex=True) + "." + parts[3].fillna("0")).reindex(
        column.index
    )


def write_frame(frame: pd.DataFrame, path: Path, *, index: bool) -> None:
    """Write a file whole or not at all, in the kind that its ending says.

    Args:
        frame: The table.
        path: The file.
        index: Whether the index belongs to it.

    Raises:
        ValueError, ImportError: As :func:`kind_of`.
        OSError: If it cannot be written.
    """
    kind = kind_of(path)
    packed = {"method": _PACKED.get(path.suffix.lower())}
    if packed["method"] == "zip":
        packed["archive_name"] = path.stem
    if index and kind in ("Feather", "Excel"):
        frame = frame.reset_index(names=frame.index.name or "ds")
        index = False
    if kind == "Excel":  # which knows no time zones
        frame = frame.astype(dict.fromkeys(frame.select_dtypes("datetimetz"), str))

    def write(aside: Path) -> None:
        with aside.open("wb") as file:
            if kind == "Parquet":
                frame.to_parquet(file, engine="pyarrow", index=index)
            elif kind == "Feather":
                frame.to_feather(file)
            elif kind == "Excel":
                frame.to_excel(file, engine="openpyxl", index=index)
            else:
                frame.to_csv(file, index=index, compression=packed)

    write_atomic(path, write)
