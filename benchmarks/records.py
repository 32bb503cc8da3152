"""Records of runs: files of JSON Lines in ``results``, one line a run, each of known origin;
options of the scripts.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
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
    """A file that several processes may fill; its rows are told apart by the fields ``key``."""

    def __init__(self, path: Path, key: tuple[str, ...]) -> None:
        self.path = path
        self.key = key

    def rows(self) -> list[Record]:
        """What is recorded, in the order in which it came."""
        return read_rows(self.path)

    def missing(
        self, cells: Iterable[Mapping[str, Any]], *, again: bool = False
    ) -> Iterator[Record]:
        """Those runs that nobody has recorded yet, asked anew before each; all of them where
        ``again`` is set.
        """
        for cell in cells:
            wanted = _key(cell, self.key)
            if again or all(_key(row, self.key) != wanted for row in self.rows()):
                yield dict(cell)

    def add(self, row: Mapping[str, Any], *, again: bool = False) -> Record:
        """Record a run with its origin, unless it is there already; ``again`` exchanges it."""
        # A row that brings an origin of its own keeps it.
        return add_row(self.path, {**row, **provenance(None), **row}, self.key, again=again)


def read(path: Path, key: tuple[str, ...], *, alike: tuple[str, ...] = ()) -> list[Record]:
    """The rows of a file, after checking that each is of known origin and known once.

    Rows are told apart by the fields ``key``, of which they may lack some; fields ``alike`` must be
    equal in all, ``"torch"`` being its version. Raises ValueError where one of this does not hold.
    """
    rows = read_rows(path)
    seen = set()
    for number, row in enumerate(rows, start=1):
        for field in ORIGIN:
            if not row.get(field):
                raise ValueError(
                    f"{path.name}, line {number}: {field} is {row.get(field)!r}, so its origin is"
                    " unknown"
                )
        if (place := json.dumps(_key(row, key))) in seen:
            raise ValueError(
                f"{path.name}, line {number} is a second row of {place}; remove one of them"
            )
        seen.add(place)
    for field in alike:
        found = {
            json.dumps(row["versions"]["torch"] if field == "torch" else row[field]) for row in rows
        }
        if len(found) > 1:
            raise ValueError(
                f"{path.name} has rows of more than one {field} ({', '.join(sorted(found))})"
            )
    return rows


def _key(row: Mapping[str, Any], names: tuple[str, ...]) -> list[Any]:
    return [json.loads(json.dumps(row.get(name))) for name in names]  # JSON makes lists of tuples


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

    def key(row: Record) -> tuple[Any, ...]:
        return tuple(row[name] for name in names)

    ordered = sorted(sorted(rows, key=place), key=key)
    found = [(k, list(group)) for k, group in groupby(ordered, key=key)]
    return dict(sorted(found, key=lambda cell: place(cell[1][0])))


def place(row: Record) -> tuple[Any, ...]:
    """Where a record of the suite stands among others."""
    return row["dataset"].lower(), row["dataset"], row["horizon"], rank(row["model"]), row["seed"]


def rank(model: str) -> tuple[int, str]:
    """Where a model stands among others: as in the catalogue."""
    return (list(MODELS).index(model) if model in MODELS else len(MODELS)), model


def commits(rows: Iterable[Record]) -> str:
    """Commits of rows, in a sentence."""

    def commit(row: Record) -> str:
        return f"`{row['commit'][:12]}`" + (
            " with uncommitted changes" if row.get("uncommitted") else ""
        )

    return f"Commit {_names(rows, commit)}."


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
    """The options of a script by their defaults: a tuple may be repeated, and ``out`` is the file
    of records.

    ``choices`` has the values that an option may have, ``paper`` what ``--paper`` takes in place of
    the defaults, and ``about`` the docstring of the script.
    """
    choices = more.get("choices", {})
    paper = more.get("paper")
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    for name, value in defaults.items():
        several = isinstance(value, tuple)
        sample = (value[0] if value else "") if several else "" if value is None else value
        how: dict[str, Any] = {
            "type": type(sample),
            "choices": choices.get(name),
            "help": f"default {value}",
        }
        how = (
            {"action": "store_true"}
            if value is False
            else how | {"action": "append" if several else "store"}
        )
        parser.add_argument(f"--{name.replace('_', '-')}", default=None, **how)
    if paper is not None:
        parser.add_argument(
            "--paper",
            action="store_true",
            help="sizes of the paper where none are given: days, months",
        )
    options = parser.parse_args(argv)
    for name, value in {**defaults, **(paper if paper and options.paper else {})}.items():
        given = getattr(options, name)
        once = tuple(dict.fromkeys(given)) if isinstance(given, list) else given
        setattr(options, name, value if given is None else once)
    return options
