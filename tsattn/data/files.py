"""Tables in files: CSV, plain or compressed, long or wide."""

from pathlib import Path
from typing import Any

import pandas as pd

from tsattn.data.frames import Panel, to_panel
from tsattn.data.schema import Schema
from tsattn.storage import one_line


def read_table(path: str | Path, schema: Schema | None = None, *, missing: str | None = None) -> Panel:
    """Read a CSV file, long or wide, plain or compressed.

    Args:
        path: The file.
        schema: What its columns are.
        missing: Policy where the schema names none.

    Raises:
        ValueError: If the file is no table, or the table is not usable.
        OSError: If the file cannot be read.
    """
    schema = Schema() if schema is None else schema
    text = {schema.id_col, schema.time_col, *schema.static_cols}
    return to_panel(read_csv(path, text), schema, missing=missing)


def read_csv(path: str | Path, text: set[Any]) -> pd.DataFrame:
    """Read a CSV file, plain or compressed, as it is.

    Args:
        path: The file.
        text: Columns that need not hold numbers.

    Raises:
        ValueError: If the file is no table.
        OSError: If the file cannot be read.
    """
    try:
        frame = pd.read_csv(path, float_precision="round_trip", low_memory=False)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}; check the path") from None
    except ValueError as error:  # empty files, ragged rows and broken encodings are all among them
        raise ValueError(f"{path} is no readable CSV table ({one_line(error)}); save it as UTF-8 CSV") from None
    return _split_cells(frame, text)


def _split_cells(frame: pd.DataFrame, names: set[Any]) -> pd.DataFrame:
    """Numbers as numbers in columns that one stray word turned into text, so that an error names the word."""
    for name in frame.select_dtypes(object).columns:
        if name in names | {"unique_id", "ds", "item_id", "timestamp"}:
            continue
        numbers = pd.to_numeric(frame[name], errors="coerce")
        if numbers.notna().any():
            frame[name] = numbers.astype(object).where(numbers.notna(), frame[name])
    return frame
