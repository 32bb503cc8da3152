"""Records of runs: files of JSON Lines in ``results``, one line a run, each with its origin; and
options of the scripts.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tsattn.benchmark import provenance
from tsattn.catalogue import MODELS
from tsattn.storage import add_row, read_rows

Record = dict[str, Any]
Grouped = dict[tuple[Any, ...], list[Record]]

RESULTS = Path(__file__).resolve().parent / "results"
ORIGIN = ("commit", "versions", "machine")


class Records:
    """A file that several processes may fill; no two of its rows agree in all fields ``key``."""

    def __init__(self, path: Path, key: tuple[str, ...]) -> None:
        self.path = path
        self.key = key

    def rows(self) -> list[Record]:
        """The recorded rows, in the order of their arrival."""
        return read_rows(self.path)

    def missing(
        self, cells: Iterable[Mapping[str, Any]], *, again: bool = False
    ) -> Iterator[Record]:
        """The runs that are not recorded yet, or all of them where ``again`` is set.

        The file is read anew before each run, since other processes may have recorded it.
        """
        for cell in cells:
            key_values = _key_values(cell, self.key)
            recorded = [_key_values(row, self.key) for row in self.rows()]
            if again or key_values not in recorded:
                yield dict(cell)

    def add(self, row: Mapping[str, Any], *, again: bool = False) -> Record:
        """Record a run with its origin, unless it is there already; ``again`` replaces it."""
        # A row that brings an origin of its own keeps it.
        return add_row(self.path, {**row, **provenance(None), **row}, self.key, again=again)


def read(path: Path, key: tuple[str, ...], *, alike: tuple[str, ...] = ()) -> list[Record]:
    """The rows of a file, after checks.

    Args:
        path: The file.
        key: Fields in which no two rows agree; a row may lack some of them.
        alike: Fields that are equal in all rows; ``"torch"`` is its version.

    Raises:
        ValueError: If a row has no origin, two rows agree in ``key``, or rows differ in ``alike``.
    """
    rows = read_rows(path)
    row_keys = set()
    for number, row in enumerate(rows, start=1):
        for field in ORIGIN:
            if not row.get(field):
                raise ValueError(
                    f"{path.name}, line {number}: {field} is {row.get(field)!r}, so its origin is"
                    " unknown"
                )
        row_key = json.dumps(_key_values(row, key))
        if row_key in row_keys:
            raise ValueError(
                f"{path.name}, line {number} is a second row of {row_key}; remove one of them"
            )
        row_keys.add(row_key)
    for field in alike:
        values = {json.dumps(_value(row, field)) for row in rows}
        if len(values) > 1:
            raise ValueError(
                f"{path.name} has rows of more than one {field} ({', '.join(sorted(values))})"
            )
    return rows


def _value(row: Record, field: str) -> Any:
    return row["versions"]["torch"] if field == "torch" else row[field]


def _key_values(row: Mapping[str, Any], names: tuple[str, ...]) -> list[Any]:
    # As they are read from a file: JSON makes lists of tuples.
    return [json.loads(json.dumps(row.get(name))) for name in names]


def by(rows: Iterable[Record], *names: str) -> Grouped:
    """Rows that share fields, in the order in which they come."""
    groups: Grouped = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


def cells(rows: Iterable[Record], *names: str) -> Grouped:
    """Rows of the suite that share fields, in the order of its tables: data set, horizon, model,
    seed.
    """

    # The first row of a group has the group's place.
    return by(sorted(rows, key=place), *names)


def place(row: Record) -> tuple[Any, ...]:
    """The place of a record in the order of the suite."""
    return row["dataset"].lower(), row["dataset"], row["horizon"], rank(row["model"]), row["seed"]


def rank(model: str) -> tuple[int, str]:
    """The place of a model in the order of the catalogue; unknown ones come last, by name."""
    names = list(MODELS)
    place = names.index(model) if model in MODELS else len(names)
    return place, model


def commits(rows: Iterable[Record]) -> str:
    """Commits of rows, in a sentence."""
    return f"Commit {_names(rows, _commit)}."


def _commit(row: Record) -> str:
    name = f"`{row['commit'][:12]}`"
    return f"{name} with uncommitted changes" if row.get("uncommitted") else name


def origin(rows: Iterable[Record]) -> str:
    """Commits, versions and machines of rows, in a sentence."""
    rows = list(rows)
    torch = _names(rows, lambda row: row["versions"]["torch"])
    machines = _names(rows, lambda row: row["machine"])
    return f"{commits(rows).removesuffix('.')}; torch {torch}; {machines}."


def _names(rows: Iterable[Record], pick: Callable[[Record], str]) -> str:
    return ", ".join(sorted({pick(row) for row in rows}))


def parse(
    argv: Sequence[str] | None, about: str | None, defaults: Mapping[str, Any], **more: Any
) -> Any:
    """The options of a script by their defaults: a tuple stands for one or more values, and ``out``
    is the file of records.

    Args:
        argv: The command line; ``None`` takes that of the process.
        about: Docstring of the script, whose first line becomes the help text.
        defaults: Options by name.
        **more: ``choices``, the values that an option may have, and ``paper``, the values that
            replace the defaults with ``--paper``.
    """
    choices = more.get("choices", {})
    paper = more.get("paper")
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    for name, value in defaults.items():
        settings = _option_settings(value, choices.get(name))
        parser.add_argument(f"--{name.replace('_', '-')}", default=None, **settings)
    if paper is not None:
        parser.add_argument(
            "--paper",
            action="store_true",
            help="sizes of the paper where none are given: days, months",
        )
    options = parser.parse_args(argv)
    values = dict(defaults)
    if paper and options.paper:
        values |= paper
    for name, default in values.items():
        value = getattr(options, name)
        if value is None:
            value = default
        elif isinstance(value, list):
            # Each value of a repeated option counts once.
            value = tuple(dict.fromkeys(value))
        setattr(options, name, value)
    return options


def _option_settings(default: Any, choices: Iterable[Any] | None) -> dict[str, Any]:
    """What argparse needs for an option with a default: a flag for False, one or more values for a
    tuple, and positive whole numbers for such a one.
    """
    if default is False:
        return {"action": "store_true"}
    settings = {"choices": choices, "help": f"default {default}"}
    sample = default
    if isinstance(default, tuple):
        settings |= {"action": "extend", "nargs": "+"}
        sample = default[0] if default else ""
    if sample is None:
        sample = ""
    is_count = type(sample) is int and sample > 0
    return {"type": _count if is_count else type(sample), **settings}


def _count(text: str) -> int:
    """The whole number of a text, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1; got {text!r}")
    return int(text)
