"""Values and output of the command line: lines, tables, JSON, files, a line for each mistake."""

import itertools
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from tsattn.checks import InputWarning
from tsattn.storage import FULL, check_writable, is_special, printable

if TYPE_CHECKING:
    import pandas as pd

# Seconds between the rows of tables that an example names.
_EXAMPLES = (("daily", 86_400), ("hourly", 3_600))
# Exit code of a mistake that the user can mend; usage errors of other programs have it too.
BAD_INPUT = 2


def row_count(text: str) -> int:
    """A number of rows as an option names it.

    Args:
        text: Such as ``"24"``.

    Raises:
        typer.BadParameter: If it is no whole number, such as a span of time.
    """
    try:
        return int(text)
    except ValueError:
        rule = "a horizon is a number of rows, such as 24"
        raise typer.BadParameter(f"{rule}{_span_in_rows(text)}") from None


def _span_in_rows(text: str) -> str:
    """How many rows a span of time is, as the end of a sentence; empty for other text."""
    import pandas as pd

    try:
        seconds = pd.Timedelta(text).total_seconds()
    except ValueError:
        return ""
    examples = []
    for name, step in _EXAMPLES:
        if seconds > 0 and seconds % step == 0:
            examples.append(f"{seconds / step:.0f} rows of {name} data")
    return f"; {text} are {' or '.join(examples)}" if examples else ""


def levels(text: str) -> list[float]:
    """Levels in percent as one option names them.

    Args:
        text: Such as ``"80"`` or ``"80,95"``.

    Raises:
        typer.BadParameter: If one is no number.
    """
    try:
        return [float(part.strip().removesuffix("%")) for part in text.split(",")]
    except ValueError:
        rule = "a level is a number in percent, such as 80, or several, such as 80,95"
        raise typer.BadParameter(rule) from None


def all_levels(parts: list[list[float]] | None) -> list[float] | None:
    """The levels that several options name, one after the other."""
    return [level for part in parts for level in part] if parts else None


def progress(quiet: bool) -> Callable[[str], None] | None:
    """A function that prints a line of progress on stderr; ``None`` where that is no terminal."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        return None
    return lambda line: typer.echo(line, err=True)


def is_stdout(path: Path | None) -> bool:
    """Whether ``--out`` names standard output.

    Such a path is not opened: where the shell sends standard output to a file, opening the device
    would write from the beginning of that file.
    """
    return path is not None and str(path) in ("-", "/dev/stdout")


def check_target(path: Path, *, folder: bool = False, as_json: bool = False) -> None:
    """Refuse a path that cannot be written to, before minutes of work.

    Args:
        path: File or folder to write.
        folder: Whether it is a folder.
        as_json: Whether JSON is printed on standard output.

    Raises:
        ValueError: If the path cannot be written to.
        OSError: If links point at one another.
    """
    if is_stdout(path):
        if folder:
            raise ValueError(f"--out {path} is standard output; name a folder to write to")
        if as_json:
            raise ValueError(
                f"--out {path} and --json both take standard output; leave out one of them"
            )
        return
    if is_special(path) and not folder:
        if not os.access(path, os.W_OK):
            raise ValueError(f"{path} may not be written to; name another place")
        return
    if path.exists() and path.is_dir() != folder:
        actual_kind = "a file" if folder else "a folder"
        needed_kind = "a folder" if folder else "a file"
        raise ValueError(f"{path} is {actual_kind}; name {needed_kind} to write to")
    _check_parent(path, folder)


def _check_parent(path: Path, folder: bool) -> None:
    """Refuse a path below a file, and one below a folder in which nothing can be made."""
    # A writer replaces the file that a link points to, so that file's folder counts.
    target = path.resolve()
    missing = list(itertools.takewhile(lambda place: not place.exists(), (target, *target.parents)))
    first = missing[-1] if missing else target
    nearest = target if folder and not missing else first.parent
    if not nearest.is_dir():
        raise ValueError(
            f"{nearest} is a file, so nothing can be written below it; name another place for"
            f" {path.name}"
        )
    try:
        check_writable(nearest, first.name)
    except OSError as error:
        raise ValueError(
            f"{nearest} cannot be written to: {error.strerror}; choose another path than {path}"
        ) from None


def write_table(frame: "pd.DataFrame", path: Path, *, index: bool) -> None:
    """Write a table in the format of the file's ending, or as CSV to standard output."""
    if is_stdout(path):
        typer.echo(frame.to_csv(index=index), nl=False)
        return
    from tsattn.data.files import write_frame

    write_frame(frame, path, index=index)


def score_rows(scores: "pd.DataFrame") -> list[dict[str, Any]]:
    """Scores as rows to print."""
    return cast(list[dict[str, Any]], scores.reset_index().to_dict("records"))


def frame_rows(frame: "pd.DataFrame", index: bool) -> list[dict[str, Any]]:
    """A forecast as rows to print.

    Args:
        frame: The forecast.
        index: Whether its stamps are in the index; each row has them as a value.
    """
    if index:
        frame = frame.reset_index(names=frame.index.name or "ds")
    return cast(list[dict[str, Any]], frame.to_dict("records"))


def print_json(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print one object a line."""
    lines = [json.dumps(_jsonable(row), ensure_ascii=False, allow_nan=False) for row in rows]
    typer.echo("\n".join(lines))


def _jsonable(value: Any) -> Any:
    """A value as JSON has it: null for NaN, ISO text for stamps, numbers of Python for numpy's."""
    if isinstance(value, Mapping):
        return {str(name): _jsonable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(inner) for inner in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value)


def print_table(table: "pd.DataFrame") -> None:
    """Print a table with the names of its columns."""
    typer.echo(table.reset_index().to_string(index=False, float_format="{:.4f}".format))


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print names and values, one a line."""
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        typer.echo(f"{name:<{width}}  {text}")


def print_checked(report: Mapping[str, Any], as_json: bool) -> None:
    """Print the report on the file of a data set."""
    if as_json:
        print_json([report])
    else:
        typer.echo(
            f"{report['name']}: {report['rows']} rows, checked by {report['checked_by']},"
            f" {report['path']}"
        )


def complain(message: str) -> int:
    """Print a mistake in one line on stderr, and return the exit code."""
    typer.echo(f"tsattn: {printable(message)}", err=True)
    return BAD_INPUT


def os_error(error: OSError) -> str:
    """The message of the system about a file, with a remedy."""
    if error.errno in FULL and error.strerror is not None:
        # The disk is full under standard output; writers of files have a message of their own.
        place = error.filename or "standard output"
        return f"{place}: {error.strerror}; make room, or name another place"
    if error.filename is None or error.strerror is None:
        # The library wrote this message, with its remedy.
        return str(error)
    return f"{error.filename}: {error.strerror}; check the path and its permissions"


def other_error(error: Exception) -> str:
    """The message of an error, with a remedy where Python says what standard output cannot hold."""
    if not isinstance(error, UnicodeEncodeError):
        return str(error)
    letter = error.object[error.start]
    return (
        f"standard output is {error.encoding}, which cannot hold {letter!a}; name a file by --out,"
        " or set PYTHONIOENCODING=utf-8"
    )


def mention(caught: Iterable[warnings.WarningMessage], options: Mapping[str, str]) -> None:
    """Print the warnings of the library, a line each.

    Other packages warn programmers by other categories, which are not printed.

    Args:
        caught: All warnings.
        options: Parameters of the library and the options that set them.
    """
    texts = []
    for warning in caught:
        message = warning.message
        if isinstance(message, InputWarning):
            texts.append(message.for_command_line(options))
        elif warning.category in (UserWarning, RuntimeWarning):
            texts.append(str(message))
    for text in dict.fromkeys(map(printable, texts)):
        typer.echo(f"tsattn: warning: {text}", err=True)
