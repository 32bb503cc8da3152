"""What the shell gets: lines, tables, JSON and files, and one line for every mistake."""

import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from tsattn.storage import FULL, is_special

if TYPE_CHECKING:
    import pandas as pd

# What the user can mend ends with 2, like every usage error.
BAD_INPUT = 2


def progress(quiet: bool) -> Callable[[str], None] | None:
    """Where lines of progress go: a terminal's stderr, or nowhere."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        return None
    return lambda line: typer.echo(line, err=True)


def is_stdout(path: Path | None) -> bool:
    """Whether ``--out`` names standard output; to open the device anew would begin at the head of a
    file behind it.
    """
    return path is not None and str(path) in ("-", "/dev/stdout")


def check_target(path: Path, *, folder: bool = False, as_json: bool = False) -> None:
    """Refuse at once what could not be written after minutes of work.

    Args:
        path: Where to write.
        folder: Whether that is to be a folder.
        as_json: Whether standard output is taken by JSON.

    Raises:
        ValueError: If it cannot be written to.
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
        kinds = ("a file", "a folder") if folder else ("a folder", "a file")
        raise ValueError(f"{path} is {kinds[0]}; name {kinds[1]} to write to")
    target = path.resolve()  # what a link points to is exchanged, there
    nearest = next(parent for parent in (target, *target.parents) if parent.exists())
    if not folder and nearest == target:
        nearest = target.parent
    if not nearest.is_dir():
        raise ValueError(
            f"{nearest} is a file, so nothing can be written below it; name another place for"
            f" {path.name}"
        )
    if not os.access(nearest, os.W_OK):
        raise ValueError(f"{nearest} may not be written to; name another place for {path.name}")


def write_table(frame: "pd.DataFrame", path: Path, *, index: bool) -> None:
    """Write a table in the kind that its ending says; CSV to standard output where the path says
    so.
    """
    if is_stdout(path):
        typer.echo(frame.to_csv(index=index), nl=False)
        return
    from tsattn.data.files import write_frame

    write_frame(frame, path, index=index)


def score_rows(scores: "pd.DataFrame") -> list[dict[str, Any]]:
    """Scores as rows to print."""
    return cast(list[dict[str, Any]], scores.reset_index().to_dict("records"))


def frame_rows(frame: "pd.DataFrame", index: bool) -> list[dict[str, Any]]:
    """A forecast as rows to print, its stamps among them."""
    named = frame.reset_index(names=frame.index.name or "ds") if index else frame
    return cast(list[dict[str, Any]], named.to_dict("records"))


def print_json(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print one object a line."""
    lines = [json.dumps(_jsonable(row), ensure_ascii=False, allow_nan=False) for row in rows]
    typer.echo("\n".join(lines))


def _jsonable(value: Any) -> Any:
    """JSON has no NaN, no stamps and no numpy: null, ISO text and plain numbers instead."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(each) for each in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)


def print_table(table: "pd.DataFrame") -> None:
    """Print a table under its names."""
    typer.echo(table.reset_index().to_string(index=False, float_format="{:.4f}".format))


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print names and values, one a line."""
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        typer.echo(f"{name:<{width}}  {f'{value:.4g}' if isinstance(value, float) else value}")


def print_checked(report: Mapping[str, Any], as_json: bool) -> None:
    """Print what was found out about the file of a data set."""
    if as_json:
        print_json([report])
    else:
        typer.echo(
            f"{report['name']}: {report['rows']} rows, checked by {report['checked_by']},"
            f" {report['path']}"
        )


def complain(message: str) -> int:
    """Say in one line on stderr what is wrong; the exit code."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(message.split()))
    typer.echo(f"tsattn: {line}", err=True)
    return BAD_INPUT


def os_error(error: OSError) -> str:
    """What the system says of a file, with a remedy."""
    if (
        error.errno in FULL and error.strerror is not None
    ):  # not told by what writes files: the command's own output
        return (
            f"{error.filename or 'standard output'}: {error.strerror}; make room, or name another"
            " place"
        )
    if error.filename is None or error.strerror is None:
        return str(error)  # written by hand, with its remedy
    return f"{error.filename}: {error.strerror}; check the path and its permissions"


def mention(caught: Iterable[warnings.WarningMessage]) -> None:
    """Show what the library warns of, a line each; what other packages say to programmers is not
    for users.
    """
    texts = [str(each.message) for each in caught if each.category in (UserWarning, RuntimeWarning)]
    for text in dict.fromkeys(texts):
        typer.echo(f"tsattn: warning: {' '.join(text.split())}", err=True)
