"""Tables in files: CSV, plain or compressed, Parquet, Feather and Excel, by the ending
of the name.
"""

import bz2
import codecs
import csv
import gzip
import io
import lzma
import re
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from tsattn.checks import Argument, InputError, InputWarning, InPython, Name, warn
from tsattn.data.columns import long_names, value_names
from tsattn.data.frames import name_columns, to_panel
from tsattn.data.panel import Panel
from tsattn.data.parts import header_call, header_rows, nested_years_call, unit_cols
from tsattn.data.schema import Schema
from tsattn.data.text_stamps import spelt_stamps
from tsattn.storage import is_special, one_line, write_atomic

# A function that reads a file by options of pandas.
_Reader: TypeAlias = Callable[..., pd.DataFrame]
_KINDS = {
    ".parquet": "Parquet",
    ".pq": "Parquet",
    ".feather": "Feather",
    ".xlsx": "Excel",
    ".xlsm": "Excel",
}
_UNREAD = (".xls", ".xlsb", ".ods")
_JSON = (".json", ".jsonl")
# Cells without a value, as FRED, SAS and statistical offices write them, beside those of pandas.
_NO_VALUE = (".", "..", "...")
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
# What pandas says of a line with more cells than the lines above it.
_LONG_LINE = re.compile(r"fields in line (\d+)")
# Options of pandas that depend on the file, as a call that is advised names them.
_TOLD_OPTIONS = ("sep", "decimal", "encoding", "skiprows")
# A number or a time in a cell.
_CELL = re.compile(r"\W*\d")
# Characters of a line that show whether it is a title.
_MOST_CHARACTERS = 10_000
# A character that parts no cells.
_NO_SEPARATOR = "\x1f"
_CHUNK_BYTES = 2**20
# The encoding of text that is no UTF-8: that of Windows in western Europe, whose Excel writes it.
_OTHER_ENCODING = "cp1252"
# What the text of UTF-16 begins with.
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# What parts words in the bytes of a table.
_WORD_MARKS = re.compile(rb"[;,|\"\s]")
# Whole part, what parts its thousands, what stands before the fraction, and that.
_GROUPED = r"([-+]?(?:\d{1,3}([.,' \u2019\u00a0\u202f])\d{3}(?:\2\d{3})*|\d+))(?:([.,])(\d+))?"
# The line in which Excel names the separator of a CSV file.
_SEPARATOR_LINE = re.compile(r"sep=(.?)")
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
    max_size: int | str | None = None,
    encoding: str | None = None,
) -> Panel:
    """Read a file as :func:`read_frame` does, long or wide, as a panel.

    Args:
        path, schema, max_size, encoding: As in :func:`read_frame`.

    Raises:
        ValueError, ImportError, OSError: As :func:`read_frame`, or if the table is not usable.
    """
    schema = schema or Schema()
    frame = read_frame(path, schema, max_size=max_size, encoding=encoding)
    return to_panel(frame, schema)


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
    endings = (".csv", ".tsv", *_PACKED, *_KINDS)
    if path.suffix.lower() not in ("", *endings):
        listed = ", ".join(endings)
        raise ValueError(f"{path} names no kind of table; end it in one of {listed}")


def read_frame(
    path: str | Path,
    schema: Schema | None = None,
    *,
    max_size: int | str | None = None,
    encoding: str | None = None,
) -> pd.DataFrame:
    """Read a file as it is; of a spreadsheet its first sheet.

    The ids of CSV and spreadsheets are text as it stands there, such as 001 and NA, or integers if
    all are written as such. Static columns are text unless they hold numbers. A first line of
    numbers is read as values: the columns are then called y, or y1, y2 and so on.

    Args:
        path: The file; ``-`` is CSV on standard input. CSV may be compressed, and parted by
            semicolons, tabs, bars or spaces.
        schema: What its columns are; those of ids, stamps and categories need not hold numbers.
        max_size: Bytes that a packed file may hold unpacked, such as ``"2GB"``; default 1 GB, of a
            spreadsheet 50 MB.
        encoding: That of a CSV file, such as ``"cp1250"``. ``None`` reads UTF-8, also UTF-16 that
            begins with its mark, and other text as cp1252, with a warning.

    Raises:
        ValueError: If the file is no table, or unpacks to more than ``max_size``; if an encoding is
            unknown, or the file has none.
        ImportError, OSError: If the package for such files is not installed, or the file cannot be
            read.
    """
    kind = kind_of(path)
    suffix = Path(path).suffix.lower()
    if suffix in _JSON:
        raise ValueError(f"{path}: {suffix} files are not read; save the table as Parquet or CSV")
    schema = schema or Schema()
    limit = _MOST_UNPACKED.get(kind, 0)
    if max_size is not None:
        limit = _parse_size(max_size)
    if encoding is not None:
        _check_encoding(encoding, path, kind)
    try:
        if kind == "Parquet":
            return pd.read_parquet(path, engine="pyarrow")
        if kind == "Feather":
            return pd.read_feather(path)
        id_names = schema.id_cols
        if schema.id_col == "unique_id":
            id_names = ("unique_id", "item_id")
        words = {*schema.static_cols, *id_names}
        as_text: dict[Any, Any] = {name: _text for name in words if isinstance(name, str)}
        if kind == "Excel":
            return _read_excel(path, schema, as_text, limit)
        frame, schema = _read_csv(path, schema, as_text, limit, encoding)
        return _split_cells(frame, schema)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}; check the path") from None
    except InputError:  # of a table that is no damaged file
        raise
    except _DAMAGED as error:  # empty files, ragged rows and broken encodings are all among them
        raise _unreadable(path, kind, error) from None
    except OSError as error:
        # Errors of the system have a number; pyarrow's own, of damaged rows, name no file.
        is_of_pyarrow = kind in ("Parquet", "Feather") and error.errno is None
        if not is_of_pyarrow:
            raise
        raise _unreadable(path, kind, error) from None


def _unreadable(path: str | Path, kind: str, error: Exception) -> ValueError:
    """The error for a file that a reader refused, with what to do about it."""
    name = "standard input" if str(path) == "-" else path
    line = one_line(error)
    fact, _, advice = line.partition("; ")
    if fact.startswith("Multiple files"):
        advice = "leave one file in it"
    if fact.startswith("No columns"):
        fact = "it is empty"
        advice = "write the table again"
    elif "EOF inside string" in fact:
        advice = "close the quote that opens in that row (row 0 is the first line), or delete it"
    elif "Expected 1 fields" in fact:
        advice = "delete the lines above the names of the columns, or correct that line"
    elif long_line := _LONG_LINE.search(fact):
        advice = "correct that line, or write cells that hold the separator in quotes"
        # Lines of a title have few cells, and the names of the columns are the first long line.
        number = int(long_line[1])
        if number <= _TITLE_LINES + 1:
            advice += (
                f"; where a title stands above the table, delete the lines above line {number}"
            )
    if not advice:
        advice = "write it again, or as CSV"
        if kind == "CSV":
            advice = "save it as UTF-8 CSV"
    return ValueError(f"{name} is no readable {kind} table ({fact}); {advice}")


def _read_excel(
    path: str | Path, schema: Schema, as_text: dict[Any, Any], limit: int
) -> pd.DataFrame:
    if Path(path).is_file():
        with zipfile.ZipFile(path) as members:
            entries = members.infolist()
            n_bytes = sum(entry.file_size for entry in entries)
        if n_bytes > limit:
            _refuse_size(path, limit)

    options: dict[str, Any] = {
        "engine": "openpyxl",
        "converters": as_text,
        "na_values": _NO_VALUE,
    }

    def read(**more: Any) -> pd.DataFrame:
        return pd.read_excel(path, **(options | more))

    _tell_other_sheets(path)
    n_empty = _count_empty_lines(read)
    options["skiprows"] = n_empty
    if _begins_with_values(read):
        return _without_names(read(header=None), path)
    _refuse_nested_years(read, path, n_empty)
    frame = read()
    _refuse_title(frame, read)
    _refuse_header_rows(read, path, options)
    _refuse_equal_names(read)
    blank_rows = _blank_rows(frame)
    if len(blank_rows):
        # The names stand above the first row.
        options["skiprows"] = [*range(n_empty), *(n_empty + 1 + blank_rows)]
        frame = read()
    frame = _without_empty(frame)
    frame, named = _with_found_keys(frame, schema, read)
    return _read_words(frame, named, as_text)


def _tell_other_sheets(path: str | Path) -> None:
    """Warn of sheets that are not read."""
    with pd.ExcelFile(path, engine="openpyxl") as book:
        first, *others = book.book.worksheets
        # Empty sheets, as old versions of Excel add them, have one row.
        filled = [sheet for sheet in others if (sheet.max_row or 2) > 1]
        names = [sheet.title for sheet in filled]
        if names:
            warn(
                f"{path}: only the first sheet, {first.title!r}, is read, and not {names!r:.100};"
                " move the table there, or save its sheet as a file"
            )


def _read_csv(
    path: str | Path, schema: Schema, as_text: dict[Any, Any], limit: int, encoding: str | None
) -> tuple[pd.DataFrame, Schema]:
    """The table of a file, and the schema with the ids that were found in it."""
    source = _source_of(path)
    suffix = Path(path).suffix.lower()
    options: dict[str, Any] = {
        "encoding": _check_content(source, path, limit, encoding),
        "float_precision": "round_trip",
        "low_memory": False,
        "converters": as_text,
        "na_values": _NO_VALUE,
        "compression": _PACKED.get(suffix, "infer"),
    }

    def read(**more: Any) -> pd.DataFrame:
        if isinstance(source, io.BytesIO):
            source.seek(0)
        return pd.read_csv(source, **(options | more))

    _refuse_lines_above_names(read)
    options |= _separator_options(read)
    if _begins_with_values(read):
        return _without_names(read(header=None), path), schema
    # Lines of other lengths are named where the table is read.
    read_equal_lines = partial(read, on_bad_lines="skip")
    _refuse_header_rows(read_equal_lines, path, options)
    _refuse_equal_names(read)
    frame = read()
    _refuse_title(frame, read)
    _refuse_date_name(frame)
    if not isinstance(frame.index, pd.RangeIndex):
        frame = _without_index(frame, read)
    frame = _without_empty(frame)
    if isinstance(frame.index, pd.RangeIndex):
        again = partial(read, index_col=False)
        frame, schema = _with_found_keys(frame, schema, again)
        frame = _with_thousands(frame, again)
    return _read_words(frame, schema, as_text, options.get("decimal", ".")), schema


def _source_of(path: str | Path) -> str | Path | io.BytesIO:
    """What pandas reads: the file, or the content of a pipe, which can be read once only."""
    if str(path) == "-":
        if sys.stdin is None:
            raise OSError("standard input is closed; name a file, or pipe a table in")
        return io.BytesIO(sys.stdin.buffer.read())
    if is_special(Path(path)):
        return io.BytesIO(Path(path).read_bytes())
    return path


# --- the first line -------------------------------------------------------------------------------


def _refuse_lines_above_names(read: _Reader) -> None:
    """Refuse lines of a title or of remarks above the names of the columns, which have another
    number of cells, and remarks below the names.
    """
    head = read(
        header=None,
        nrows=_TITLE_LINES,
        sep=_NO_SEPARATOR,
        quoting=csv.QUOTE_NONE,
        dtype=str,
        keep_default_na=False,
        skip_blank_lines=False,
    )
    first, *others = head.iloc[:, 0].fillna("").tolist()
    remarks = [number for number, line in enumerate(others, 2) if line.startswith("#")]
    if not first.startswith("#") and 0 < 2 * len(remarks) < len(others):
        raise ValueError(f"line {remarks[0]} begins with # and is a remark; delete it")
    if _SEPARATOR_LINE.fullmatch(first):
        return
    for number, (line, next_line) in enumerate(pairwise(others), 2):
        mark = max(";\t|,", key=line.count)
        title, names, values = (_cells_of(text, mark) for text in (first, line, next_line))
        are_words = all(re.search(r"[^\W\d]", name) and not _CELL.match(name) for name in names)
        has_values = len(values) == len(names) and any(map(_CELL.match, values))
        if len(names) < 2 or not are_words or not has_values:
            continue
        n_cells = sum(map(bool, title))
        if len(title) == len(names) and n_cells > 1:
            return
        content = f"is a title, {first.strip(mark)!r:.60}" if n_cells else "is empty"
        if first.startswith("#"):
            content = "begins with # and is a remark"
        raise ValueError(
            f"its first line {content}, and its columns are named below it, {names[0]!r:.40} first;"
            f" delete the lines above line {number}"
        )


def _cells_of(line: str, mark: str) -> list[str]:
    """The cells of a line, of which the beginning tells."""
    beginning = line[:_MOST_CHARACTERS]
    return next(csv.reader([beginning], delimiter=mark), [])


def _separator_options(read: _Reader) -> dict[str, Any]:
    """What pandas must know to part the cells of a file, from its first lines.

    Raises:
        ValueError: If the first line is a remark.
    """
    options: dict[str, Any] = {}
    head = read(nrows=1)
    named_separator = _SEPARATOR_LINE.fullmatch(str(head.columns[0]))
    if named_separator:
        # A comma has parted its line already.
        options = {"skiprows": 1, **_parted_by(named_separator[1] or ",")}
        head = read(nrows=1, **options)
    first = str(head.columns[0])
    has_one_name = head.shape[1] == 1
    rows = head
    # Of cells that no name stands above, pandas makes an index.
    if not isinstance(head.index, pd.RangeIndex):
        rows = head.reset_index()
    # A table without rows has no such cell.
    first_cells = map(str, rows.iloc[:1, 0])
    first_cell = "".join(first_cells)
    has_words = " " in first and has_one_name
    # Databases write several remarks, of as many cells as the table has.
    if first.startswith("#") and (has_words or first_cell.startswith("#")):
        raise ValueError(
            "its first line begins with # and is a remark; delete the lines above the names of the"
            " columns"
        )
    # Eurostat has commas in its first name, and tabs between the others. A single name may end in a
    # tab.
    lines = [head.columns, *rows.to_numpy()]
    has_tabs = all(any("\t" in str(cell) for cell in line) for line in lines)
    for mark in ";\t|":
        # A comma may stand in a later name, as in "ds;sales, EUR".
        is_separator = has_one_name or mark in first_cell
        if (mark in first and is_separator) or (mark == "\t" and has_tabs):
            options |= _parted_by(mark)
    if has_one_name and not options and _are_parted_by_spaces(read):
        return _parted_by(r"\s+")
    return options


def _are_parted_by_spaces(read: _Reader) -> bool:
    """Whether a file of one column is a table whose cells are separated by spaces: its first lines
    have several words each, equally many, and two words with digits below the first line; numbers
    with spaces between their thousands are not meant.
    """
    lines = read(header=None, nrows=_TITLE_LINES, dtype=str, on_bad_lines="skip").iloc[:, 0]
    n_words = lines.dropna().str.split().str.len()
    if len(n_words) < 2 or n_words.iloc[0] < 2 or n_words.nunique() > 1:
        return False
    cells = lines.iloc[1:].dropna()
    # The number of 12 kg has a unit behind it.
    n_values = cells.str.count(r"\S*\d\S*")
    return bool(n_values.min() > 1) and not cells.str.fullmatch(_GROUPED).any()


def _parted_by(mark: str) -> dict[str, str]:
    """Options of pandas for cells that a mark parts."""
    # Where semicolons part the cells, commas may be decimal points.
    return {"sep": mark, "decimal": "," if mark == ";" else "."}


def _refuse_date_name(frame: pd.DataFrame) -> None:
    """Refuse a single date among the names; several are columns of a table whose rows are
    series.
    """
    names = map(str, frame.columns)
    dates = [name for name in names if _DATE.match(name)]
    if len(dates) == 1:
        raise ValueError(
            f"its first line holds {dates[0]!r}, not the names of the columns, such as ds and y;"
            " add these"
        )


def _count_empty_lines(read: _Reader) -> int:
    """Lines without a cell above the first one of a spreadsheet; none where all are empty."""
    lines = read(header=None, nrows=_TITLE_LINES)
    if lines.empty:
        raise pd.errors.EmptyDataError("No columns")
    filled_lines = np.flatnonzero(lines.notna().any(axis=1))
    return int(filled_lines[0]) if len(filled_lines) else 0


def _refuse_nested_years(read: _Reader, path: str | Path, n_skipped: int) -> None:
    """Refuse a sheet whose columns are named by merged years above their months or quarters."""
    lines = read(header=None, nrows=_TITLE_LINES, dtype=str)
    skipped = f", skiprows={n_skipped}" if n_skipped else ""
    table = f"pd.read_excel({str(path)!r}{skipped}, header=[0, 1], index_col=0)"
    call = nested_years_call(lines, table)
    if call:
        year, part = lines.iloc[:2, 1].tolist()
        raise InputError(
            f"the first 2 lines of {path} name its columns by years above parts of them,"
            f" {year!r} above {part!r}, but a row must be a time and a column a series; turn the"
            " table",
            InPython(f": {call}"),
        )


def _refuse_header_rows(read: _Reader, path: str | Path, options: dict[str, Any]) -> None:
    """Refuse a file whose columns are named in several lines, with the call that reads it, which
    needs some of the options of pandas.
    """
    lines = read(header=None, nrows=_TITLE_LINES, dtype=str)
    first_line = lines.iloc[0]
    other_lines = lines.iloc[1:]
    n_lines = 1 + header_rows(other_lines)
    # The first column may hold the names of the levels.
    names = lines.iloc[:n_lines, 1:2].fillna("").to_numpy().ravel().tolist()
    joined = " ".join(names)
    # A title stands alone above an empty line.
    if n_lines > 1 and joined.strip():
        advice = ""
        # Names that occur twice need the lines below them.
        if n_lines == 2 and first_line.dropna().is_unique:
            advice = ", or delete line 2 where it holds units"
        file_options = {name: options[name] for name in _TOLD_OPTIONS if options.get(name)}
        call = header_call(n_lines, repr(str(path)), file_options)
        raise InputError(
            f"the first {n_lines} lines of {path} name its columns, as {names!r:.80}, but one line"
            f" must hold their names, as {joined!r:.80}; write that line in their place{advice}",
            InPython(f", or read the file by {call}"),
        )
    rows = other_lines.set_axis(first_line, axis=1)
    units = unit_cols(rows) if rows.columns.is_unique else []
    if units:
        column = units[0]
        unit = rows[column].iloc[0]
        raise InputError(
            f"line 2 of {path} holds words above numbers, {unit!r:.40} in column {column!r}, as"
            " units below the names of columns are; delete this line"
        )


def _refuse_equal_names(read: _Reader) -> None:
    """Refuse a first line that holds a name twice; pandas would number the second one."""
    line = read(header=None, nrows=1)
    if not len(line):
        return
    names = line.iloc[0].dropna().astype(str)
    repeated = names[names.duplicated()]
    if len(repeated):
        raise ValueError(
            f"its first line names {repeated.iloc[0]!r} twice, but each column must have a name of"
            " its own; rename or delete one of them"
        )


def _refuse_title(frame: pd.DataFrame, read: _Reader) -> None:
    """Refuse a first line that names at most one of several columns, where the names of all follow
    in a later line.
    """
    named = [name for name in frame.columns if not str(name).startswith(_UNNAMED)]
    if len(named) > 1 or frame.shape[1] < 2:
        return
    content = "is empty"
    if named:
        content = f"is a title, {named[0]!r:.60}"
    lines = read(header=None, nrows=_TITLE_LINES)
    n_cells = lines.notna().sum(axis=1)
    several_cells = lines[n_cells > 1]
    if several_cells.empty:
        return
    names = several_cells.iloc[0].dropna()
    if pd.to_numeric(names, errors="coerce").isna().all():
        raise ValueError(
            f"its first line {content}, and its columns are named below it,"
            f" {names.iloc[0]!r:.40} first; delete the lines above these names"
        )


def _begins_with_values(read: _Reader) -> bool:
    """Whether the first line holds numbers, and these are no names of columns."""
    line = read(header=None, nrows=1)
    numeric_cells = line.select_dtypes("number")
    is_numeric = numeric_cells.shape == line.shape and len(line) == 1
    if not is_numeric or line.isna().any(axis=None):
        return False
    numbers = line.iloc[0].tolist()
    return not _are_names(numbers)


def _are_names(numbers: Sequence[float]) -> bool:
    """Whether numbers in the first line are names of columns: 0, 1, 2 as pandas writes them, or
    times, as in a table whose rows are series.
    """
    if len(numbers) < 2:
        return False
    if any(number != int(number) for number in numbers):
        return False
    if [*numbers] == [*range(len(numbers))]:
        return True
    whole_numbers = np.array(numbers, dtype=np.int64)
    steps = {*np.diff(whole_numbers)}
    rising = len(whole_numbers) > 2 and len(steps) == 1
    return rising and spelt_stamps(whole_numbers, years=True) is not None


def _without_names(frame: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """A table whose first line holds values, with names for its columns."""
    names = value_names(frame.shape[1])
    listed = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    warn(
        f"the first line of {path} holds numbers, which are read as values of {listed}; if they"
        " are the names of the columns, write them with a letter"
    )
    return frame.set_axis(names, axis=1)


# --- packed files ---------------------------------------------------------------------------------


def _parse_size(size: int | str) -> int:
    """Bytes of a number or of a text such as "2GB"."""
    text = str(size).strip()
    match = _SIZE.fullmatch(text)
    if match is None or isinstance(size, bool):
        raise InputError(
            Name("max_size"), f" must be bytes or a text such as '500MB' or '2GB'; got {size!r}"
        )
    number = float(match[1])
    unit = match[2].lower()
    return int(number * _SIZE_UNITS[unit])


def _refuse_size(path: str | Path, limit: int) -> NoReturn:
    gigabytes = 4 * limit // 10**9
    larger = f"{max(4, gigabytes)}GB"
    raise InputError(
        f"{path} unpacks to more than {limit:,} bytes, which would take long to read or fill the"
        " memory; allow more by ",
        Argument("max_size", larger),
        ", or write it as Parquet",
    )


def _check_content(source: Any, path: str | Path, limit: int, encoding: str | None) -> str | None:
    """The encoding of CSV, where it is not the usual one.

    Refuses CSV that unpacks to more than the limit, and text with NUL characters, at which readers
    cut cells.
    """
    suffix = Path(path).suffix.lower()
    packing = _PACKED.get(suffix)
    is_local = isinstance(source, io.BytesIO) or Path(path).is_file()
    if suffix == ".tar" or not is_local:
        return encoding
    detected = encoding
    n_bytes = 0
    decoder = codecs.getincrementaldecoder("utf-8")()
    with _unpacked(source, packing) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            if n_bytes == 0 and encoding is None and chunk.startswith(_UTF16_MARKS):
                detected = "utf-16"
            if b"\0" in chunk and not _is_wide(detected):
                place = n_bytes + chunk.index(b"\0")
                raise ValueError(
                    f"byte {place} is NUL, which would cut a cell in silence; write it again as"
                    " UTF-8 CSV without such characters"
                )
            n_bytes += len(chunk)
            if packing is not None and n_bytes > limit:
                _refuse_size(path, limit)
            if detected is None:
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError as error:
                    detected = _OTHER_ENCODING
                    _tell_encoding(path, error)
    return detected


def _is_wide(encoding: str | None) -> bool:
    """Whether the characters of an encoding are of two bytes or four, of which some are NUL."""
    return encoding is not None and codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))


def _tell_encoding(path: str | Path, error: UnicodeDecodeError) -> None:
    """Warn that a file is not UTF-8, with a word of it as it is read."""
    words_before = _WORD_MARKS.split(error.object[: error.start])
    words_after = _WORD_MARKS.split(error.object[error.start :])
    word = (words_before[-1] + words_after[0]).decode(_OTHER_ENCODING, errors="replace")
    warn(
        InputWarning(
            f"{path} is not UTF-8 and is read as {_OTHER_ENCODING}, as in {word!r:.60}; if such"
            " words are wrong, name the encoding, as by ",
            Argument("encoding", "cp1250"),
        )
    )


def _check_encoding(encoding: str, path: str | Path, kind: str) -> None:
    """Refuse an unknown encoding, and an encoding for a file that has none."""
    if kind != "CSV":
        raise InputError(Name("encoding"), f" is for CSV files, and {path} is none; leave it out")
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise InputError(
            Name("encoding"), f" must be one of Python's, such as cp1250; got {encoding!r}"
        ) from None


def _unpacked(source: Any, packing: str | None) -> Any:
    """A stream of the bytes of a file, or of its content, as they are unpacked."""
    if packing == "zip":
        # What was opened inside of an archive can be read when the archive is closed.
        with zipfile.ZipFile(source) as archive:
            names = archive.namelist()
            # pandas refuses an archive with another number of files.
            return archive.open(names[0]) if len(names) == 1 else io.BytesIO()
    if packing == "zstd":
        return import_module("zstandard").open(source, "rb")
    if packing is not None:
        openers: dict[str, Any] = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open}
        return openers[packing](source, "rb")
    # A stream of its own, which can be closed.
    return io.BytesIO(source.getvalue()) if isinstance(source, io.BytesIO) else open(source, "rb")


# --- cells ----------------------------------------------------------------------------------------


def _without_index(frame: pd.DataFrame, read: Any) -> pd.DataFrame:
    """A table whose rows have more cells than names: pandas made an index of the first cells."""
    more = frame.index.nlevels
    last = frame.iloc[:, -more:]
    is_empty = last.isna() | (last == _MARK)
    # Each row ends with a mark.
    if is_empty.all(axis=None):
        with warnings.catch_warnings():
            # Of what is lost, which is nothing.
            warnings.simplefilter("ignore", pd.errors.ParserWarning)
            return read(index_col=False)
    first_row = read(header=None, skiprows=1, nrows=1, quoting=csv.QUOTE_NONE)
    first = first_row.iloc[0, 0]
    row_numbers = np.arange(1, len(frame) + 1)
    # As R writes them, in quotes.
    if first == '"1"' and np.array_equal(frame.index, row_numbers):
        warn("the first cell of each row, which no name stands above, numbers the rows")
        return frame
    n_names = frame.shape[1]
    n_cells = n_names + more
    raise ValueError(
        f"a line holds {n_cells} cells, but the first line names {n_names} columns; name all, drop"
        " the rest, or delete a title above the names"
    )


def _without_empty(frame: pd.DataFrame) -> pd.DataFrame:
    """A table without the columns that have neither a name nor a cell: each line ends with a mark,
    or a sheet is wider than its table.
    """
    is_named = ~frame.columns.astype(str).str.startswith(_UNNAMED)
    has_cells = frame.notna().any().to_numpy()
    return frame.loc[:, is_named | has_cells]


def _blank_rows(frame: pd.DataFrame) -> np.ndarray:
    """Rows without a cell; where all columns are numbers, they may be missing values and count as
    none.
    """
    if all(map(is_numeric_dtype, frame.dtypes)):
        return np.empty(0, dtype=np.int64)
    is_blank = frame.isna() | (frame == _MARK)
    return np.flatnonzero(is_blank.all(axis=1))


def _text(cell: Any) -> str:
    """Text behind a mark: in a spreadsheet pandas turns what a converter returns into NaN and
    numbers.
    """
    # NaN is an error in a spreadsheet.
    if cell != cell:
        return _MARK
    return f"{_MARK}{cell}"


def _with_found_keys(
    frame: pd.DataFrame, schema: Schema, read: _Reader
) -> tuple[pd.DataFrame, Schema]:
    """A table whose id columns, which the schema did not name, are read as they are written; and
    the schema with the names of these columns.

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
        converters = dict.fromkeys(gaps, _text)
        cells = read(usecols=gaps, converters=converters)
        texts = cells.apply(lambda column: column.str.removeprefix(_MARK))
        ids = texts.where(texts != "")
        found_schema = _named(frame.assign(**ids), schema)
    if found_schema is None:
        return frame, schema
    keys = [key for key in found_schema.id_cols if key in frame.columns]
    if not keys:
        return frame, schema
    named = schema.changed(id_col=keys)
    # Numbers may be written as 001, and gaps as NA.
    changed = [key for key in keys if frame[key].dtype != object or frame[key].isna().any()]
    if changed:
        converters = dict.fromkeys(changed, _text)
        cells = read(usecols=changed, converters=converters)
        words = _read_words(cells, named, changed)
        frame = frame.assign(**words)
    return frame, named


def _named(frame: pd.DataFrame, schema: Schema) -> Schema | None:
    """The schema with the columns that are found in a table; ``None`` if the table is faulty, which
    is reported when it is read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of keys that are found again
        frame = _with_grouped_numbers(frame)
        # Where several columns hold numbers, a table of future rows may tell which one is forecast.
        for table in (frame, frame.assign(y=0.0)):
            try:
                return name_columns(table, schema)[1]
            except (ValueError, TypeError):
                continue
    return None


def _with_grouped_numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """A table with numbers in the columns of text in which each cell is one, such as 1.029,62."""
    table = frame.copy()
    for name in frame.select_dtypes(object):
        numbers = pd.to_numeric(_ungrouped(frame[name]), errors="coerce")
        if numbers.any() and numbers.notna().equals(frame[name].notna()):
            table[name] = numbers
    return table


def _read_words(
    frame: pd.DataFrame, schema: Schema, words: Iterable[Any], decimal: str = "."
) -> pd.DataFrame:
    """Columns that came as text: ids as integers where nothing of them is lost, others as they
    would be read.
    """
    id_cols = schema.id_cols
    if len(id_cols) < 2:
        names = long_names(frame, schema.id_col, schema.time_col, schema.target_col)
        id_cols = names[:1]
    text_columns = frame.columns.intersection([*words])
    for name in text_columns:
        text = frame[name].str.removeprefix(_MARK)
        if name not in id_cols:
            point = "."
            if text.str.contains(decimal, regex=False).any():
                point = decimal
            content = text.to_csv(index=False)
            table = pd.read_csv(
                io.StringIO(content),
                decimal=point,
                na_values=_NO_VALUE,
                float_precision="round_trip",
            )
            cells = table[name]
            has_words = cells.dtype == object or cells.isna().all()
            frame[name] = text.where(text != "") if has_words else cells.array
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
        *schema.id_cols,
        schema.time_col,
        *schema.static_cols,
        "unique_id",
        "ds",
        "item_id",
        "timestamp",
    }
    text_columns = {*frame.select_dtypes(object)}
    for name in text_columns - names:
        frame[name] = _ungrouped(frame[name])
        cells = frame[name]
        numbers = pd.to_numeric(cells, errors="coerce")
        is_number = numbers.notna()
        if is_number.any() and is_number.equals(cells.notna()):
            frame[name] = numbers
            continue
        n_words = cells[~is_number].nunique()
        # Of categories, such as the holidays 0, a, b, c, more are words.
        has_few_words = n_words <= numbers.nunique()
        are_stray = has_few_words or name not in schema.columns.moving
        if is_number.any() and are_stray:
            frame[name] = numbers.astype(object).where(is_number, cells)
    return frame


def _with_thousands(frame: pd.DataFrame, read: _Reader) -> pd.DataFrame:
    """A table with 1000 where a file has 1,000 or 1.000 beside 980, which pandas reads as 1.

    Only numbers of three decimals may be such, in a column with others that have none.

    Args:
        frame: The table.
        read: Function that reads some columns of the file again.
    """
    suspects = []
    for name in frame.select_dtypes(float):
        numbers = frame[name].dropna()
        thousandths = 1000 * numbers
        rounded = thousandths.round()
        if len(numbers) and np.allclose(thousandths, rounded, rtol=0, atol=1e-6):
            suspects.append(name)
    if not suspects:
        return frame
    converters = dict.fromkeys(suspects, _text)
    cells = read(usecols=suspects, converters=converters)
    for name in suspects:
        text = cells[name].str.removeprefix(_MARK).str.strip()
        has_mark = text.str.fullmatch(r"-?[1-9]\d{0,2}[.,]\d{3}").astype(bool)
        is_other = ~has_mark & (text != "")
        others = text[is_other]
        are_whole = others.str.fullmatch(r"-?\d{1,3}").astype(bool).all()
        if not has_mark.any() or not len(others) or not are_whole:
            continue
        column = frame[name]
        marked = column[has_mark].abs().median()
        unmarked = column[others.index].abs().median()
        # Nearer to the thousands of the others than to their ones.
        if unmarked**2 > 1000 * marked**2:
            thousands = (1000 * column).round()
            frame[name] = column.where(~has_mark, thousands)
            marked_text = text[has_mark].iloc[0]
            other_text = others.iloc[0]
            warn(
                f"column {name!r} holds {marked_text} beside {other_text}, and its mark is read as"
                " one of thousands; if it is a decimal one, write all numbers with decimals"
            )
    return frame


def _ungrouped(column: pd.Series) -> pd.Series:
    """Cells such as 1.029,62 as 1029.62, if all cells show which mark parts thousands."""
    cells = column.dropna().astype(str).str.strip()
    if not len(cells) or not re.fullmatch(_GROUPED, cells.iloc[0]):
        return column
    parts = cells.str.extract(f"^{_GROUPED}$")
    marks = {*parts[1].dropna()}
    points = {*parts[2].dropna()}
    twice = cells.str.contains(r"[.,].*[.,]").any()
    if marks == points and not twice:  # one that parts 1,5 parts no thousands
        return cells.str.replace(",", ".").reindex(column.index)
    small = cells.str.match(r"[-+]?0\D").any()
    other_marks = marks - {*".,"}
    is_clear = twice or points or other_marks or (parts[1].isna().any() and not small)
    if not (is_clear or small) and marks == {"."} and parts[0].notna().all():
        example = f"column {column.name!r} holds numbers such as {cells.iloc[0]}"
        warn(f"{example}, read with a decimal point; if it parts thousands, write them without")
    is_mixed = len(marks) > 1 or len(points) > 1 or marks & points
    if parts[0].isna().any() or not is_clear or is_mixed:
        return column
    whole = parts[0].str.replace(r"[^-+\d]", "", regex=True)
    fraction = parts[3].fillna("0")
    numbers = whole + "." + fraction
    return numbers.reindex(column.index)


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
    suffix = path.suffix.lower()
    packed = {"method": _PACKED.get(suffix)}
    text_name = path.stem if suffix in _PACKED else path.name
    separator = "\t" if text_name.lower().endswith(".tsv") else ","
    # Otherwise the file that programs unpack has the name of the temporary one.
    name_setting = {".zip": "archive_name", ".gz": "filename"}.get(suffix)
    if name_setting:
        packed[name_setting] = path.stem if Path(path.stem).suffix else f"{path.stem}.csv"
    if index and kind in ("Feather", "Excel"):
        index_name = frame.index.name or "ds"
        frame = frame.reset_index(names=index_name)
        index = False
    if kind == "Excel":
        # Excel knows no time zones.
        zoned = frame.select_dtypes("datetimetz")
        frame = frame.astype(dict.fromkeys(zoned, str))

    def write(aside: Path) -> None:
        with aside.open("wb") as file:
            if kind == "Parquet":
                frame.to_parquet(file, engine="pyarrow", index=index)
            elif kind == "Feather":
                frame.to_feather(file)
            elif kind == "Excel":
                frame.to_excel(file, engine="openpyxl", index=index)
            else:
                frame.to_csv(file, sep=separator, index=index, compression=packed)

    write_atomic(path, write)
