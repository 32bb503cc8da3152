"""Tables in files: CSV, plain or compressed, Parquet, Feather and Excel, by the ending of the name."""

import gzip
import io
import lzma
import re
import sys
import zipfile
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from tsattn.data.frames import Panel, to_panel
from tsattn.data.schema import Schema
from tsattn.storage import one_line, write_atomic

_KINDS = {".parquet": "Parquet", ".pq": "Parquet", ".feather": "Feather", ".xlsx": "Excel", ".xlsm": "Excel"}
_UNREAD = (".xls", ".xlsb", ".ods")
_PACKAGES = {"Parquet": "pyarrow", "Feather": "pyarrow", "Excel": "openpyxl"}
_PACKED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd", ".zip": "zip"}
_DATE = re.compile(r"\d{4}([-/.])\d\d?\1\d|\d\d?([-/.])\d\d?\2\d{4}")
_DAMAGED = (ValueError, KeyError, EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zipfile.BadZipFile)


def read_table(path: str | Path, schema: Schema | None = None, *, missing: str | None = None) -> Panel:
    """Read a file as :func:`read_frame` does, long or wide, as a panel.

    Args:
        path: The file.
        schema: What its columns are.
        missing: Policy where the schema names none.

    Raises:
        ValueError: If the file is no table, or the table is not usable.
        ImportError: If the package for such files is not installed.
        OSError: If the file cannot be read.
    """
    schema = Schema() if schema is None else schema
    text = {schema.id_col, schema.time_col, *schema.static_cols}
    return to_panel(read_frame(path, text), schema, missing=missing)


def kind_of(path: str | Path) -> str:
    """What a file of this name holds: ``"Parquet"``, ``"Feather"``, ``"Excel"``, else ``"CSV"``.

    Raises:
        ValueError: If it is a kind of spreadsheet that is not read.
        ImportError: If the package for such files is not installed.
    """
    suffix = Path(path).suffix.lower()
    if suffix in _UNREAD:
        raise ValueError(f"{path}: {suffix} files are neither read nor written; save the table as .xlsx or CSV")
    kind = _KINDS.get(suffix, "CSV")
    package = "zstandard" if suffix == ".zst" else _PACKAGES.get(kind)
    if package is not None and find_spec(package) is None:
        wanted = "zstandard" if suffix == ".zst" else "'tsattn[files]'"
        raise ImportError(f"{path}: {suffix} files need {package}; install it with: pip install {wanted}")
    return kind


def check_ending(path: Path) -> None:
    """Refuse a name for a table before the work, as :func:`kind_of` does, or if its ending says nothing.

    Raises:
        ValueError, ImportError: If no such file is written.
    """
    kind_of(path)
    known = (".csv", *_PACKED, *_KINDS)
    if path.suffix.lower() not in ("", *known):
        raise ValueError(f"{path} names no kind of table; end it in one of {', '.join(known)}")


def read_frame(path: str | Path, text: set[Any]) -> pd.DataFrame:
    """Read a file as it is; of a spreadsheet its first sheet.

    Args:
        path: The file; ``-`` is CSV on standard input. CSV may be compressed, and parted by semicolons or tabs.
        text: Columns that need not hold numbers.

    Raises:
        ValueError: If the file is no table.
        ImportError: If the package for such files is not installed.
        OSError: If the file cannot be read.
    """
    kind = kind_of(path)
    try:
        if kind == "Parquet":
            return pd.read_parquet(path, engine="pyarrow")
        if kind == "Feather":
            return pd.read_feather(path)
        if kind == "Excel":
            return pd.read_excel(path, engine="openpyxl")
        return _split_cells(_read_csv(path), text)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}; check the path") from None
    except _DAMAGED as error:  # empty files, ragged rows and broken encodings are all among them
        name = "standard input" if str(path) == "-" else path
        advice = "save it as UTF-8 CSV" if kind == "CSV" else "write it again, or as CSV"
        raise ValueError(f"{name} is no readable {kind} table ({one_line(error)}); {advice}") from None


def _read_csv(path: str | Path) -> pd.DataFrame:
    source = io.BytesIO(sys.stdin.buffer.read()) if str(path) == "-" else path
    options: dict[str, Any] = {"float_precision": "round_trip", "low_memory": False}
    frame = pd.read_csv(source, **options)
    head = str(frame.columns[0])
    for mark in ";\t":
        if frame.shape[1] == 1 and mark in head:
            if isinstance(source, io.BytesIO):
                source.seek(0)
            # Where semicolons part the cells, commas may be decimal points.
            frame = pd.read_csv(source, sep=mark, decimal="," if mark == ";" else ".", **options)
    first = str(frame.columns[0])
    if _DATE.match(first):
        raise ValueError(f"its first line holds {first!r}, not the names of the columns, such as ds and y")
    return frame


def _split_cells(frame: pd.DataFrame, names: set[Any]) -> pd.DataFrame:
    """Numbers as numbers in columns that one stray word turned into text, so that an error names the word."""
    for name in frame.select_dtypes(object).columns:
        if name in names | {"unique_id", "ds", "item_id", "timestamp"}:
            continue
        numbers = pd.to_numeric(frame[name], errors="coerce")
        if numbers.notna().any():
            frame[name] = numbers.astype(object).where(numbers.notna(), frame[name])
    return frame


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
    kind, packed = kind_of(path), {"method": _PACKED.get(path.suffix.lower())}
    if packed["method"] == "zip":
        packed["archive_name"] = path.stem
    if index and kind in ("Feather", "Excel"):
        frame, index = frame.reset_index(names=frame.index.name or "ds"), False
    if kind == "Excel":  # which knows no time zones
        zoned = frame.select_dtypes("datetimetz").columns
        frame = frame.assign(**{name: frame[name].astype(str) for name in zoned})

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
