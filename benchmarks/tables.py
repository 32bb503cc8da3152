"""How is a table written? Rows, cells and origins of records, for all pages that report.py renders."""

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from tsattn.catalogue import MODELS

Record = dict[str, Any]

NONE = "No run is recorded yet."


def line(*cells: str) -> str:
    """One row of a table."""
    return f"| {' | '.join(cells)} |"


def head(left: int, *names: str) -> list[str]:
    """The first two rows of a table: names, of which the first ``left`` stand at the left, and the rule."""
    return [line(*names), line(*["---"] * left, *["---:"] * (len(names) - left))]


def aligned(left: int, rows: list[list[str]]) -> list[str]:
    """A table, names first, with columns of one width, so that its raw text can be read as well."""
    widths = [max(3, *(len(row[column]) for row in rows)) for column in range(len(rows[0]))]
    fill = [str.ljust if column < left else str.rjust for column in range(len(widths))]
    padded = [line(*(put(cell, width) for put, cell, width in zip(fill, row, widths, strict=True))) for row in rows]
    rule = ["-" * width if column < left else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return [padded[0], line(*rule), *padded[1:]]


def between_marks(path: Path, page: str, text: str, begin: str, end: str) -> str:
    """The page of a path with a text between two marks.

    Raises:
        ValueError: If the page lacks a mark.
    """
    head, opened, rest = page.partition(begin)
    _, closed, tail = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"{path.name} lacks the marks {begin!r} and {end!r}; put them where the table shall stand")
    return f"{head}{begin}\n{text}\n{end}{tail}"


# --- records ----------------------------------------------------------------------------------------------------


def origin(rows: list[Record]) -> str:
    """Commits, versions and machines of records, in a sentence."""

    def names(pick: Callable[[Record], str]) -> str:
        return ", ".join(sorted({pick(row) for row in rows}))

    commits = names(lambda row: f"`{row['commit'][:12]}`")
    torch = names(lambda row: row["versions"]["torch"])
    machine = "; ".join(sorted({row["machine"] for row in rows}))
    return f"Commit {commits}; torch {torch}; {machine}."


def place(row: Record) -> tuple[Any, ...]:
    """Where a record stands among others."""
    return row["dataset"].lower(), row["dataset"], row["horizon"], rank(row["model"]), row["seed"]


def rank(model: str) -> tuple[int, str]:
    """Where a model stands among others: as in the catalogue."""
    return (list(MODELS).index(model) if model in MODELS else len(MODELS)), model


def is_trained(model: str) -> bool:
    """Does the catalogue say that the model learns weights?"""
    return model in MODELS and MODELS[model].trained


def cells(rows: Iterable[Record], *names: str) -> list[tuple[tuple[Any, ...], list[Record]]]:
    """Rows that share the fields ``names``, in the order of the tables."""

    def key(row: Record) -> tuple[Any, ...]:
        return tuple(row[name] for name in names)

    ordered = sorted(sorted(rows, key=place), key=key)
    found = [(k, list(group)) for k, group in groupby(ordered, key=key)]
    return sorted(found, key=lambda cell: place(cell[1][0]))


def mean(rows: list[Record], name: str) -> float:
    """Mean of a field."""
    return fmean(row[name] for row in rows)


def level(rows: list[Record]) -> float:
    """Mean MSE to five decimals: a model that is another one under its own name differs from it in the last bits."""
    return round(mean(rows, "mse"), 5)


def spread(rows: list[Record], name: str) -> str:
    """Mean and, where there are several, standard deviation of a field."""
    values = [row[name] for row in rows]
    return f"{fmean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


# --- records of which one line is one ---------------------------------------------------------------------------


def read_kinds(path: Path, fields: Mapping[str, set[str]], script: str) -> list[Record]:
    """The records of a file, each whole and of known origin.

    Args:
        path: The file; none holds no records.
        fields: What a record of each kind must have.
        script: Who writes the file.

    Raises:
        ValueError: If a line is damaged or says nothing of its origin.
    """
    if not path.exists():
        return []
    rows: list[Record] = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        where = f"{path.name}, line {number}"
        try:
            row = json.loads(text)
        except json.JSONDecodeError:
            row = None
        kind = str(row.get("kind")) if isinstance(row, dict) else ""
        if kind not in fields:
            raise ValueError(f"{where}: not a record of {' or '.join(fields)}; remove it and run {script} again")
        if absent := fields[kind] - set(row):
            raise ValueError(f"{where} lacks {', '.join(sorted(absent))}; remove it and run {script} again")
        for field in ("commit", "versions", "machine"):
            if not row[field]:
                raise ValueError(f"{where} does not say where it comes from: {field} is {row[field]!r}; run it again")
        rows.append(row)
    return rows


def check_one(rows: list[Record], name: str, field: str, pick: Callable[[Record], Any]) -> None:
    """Refuse records that do not agree about something."""
    if len(found := {pick(row) for row in rows}) > 1:
        raise ValueError(f"{name} has rows of more than one {field} ({sorted(found)}); run all of them anew")


def check_once(rows: list[Record], name: str, *fields: str) -> None:
    """Refuse two records of one thing."""
    places = [tuple(row[field] for field in fields) for row in rows]
    if twice := [at for at in places if places.count(at) > 1]:
        raise ValueError(f"{name} says two things of {twice[0]}; remove one")
