"""How fast are we beside other libraries? Renders docs/peers.md from the records of peers.py."""

import importlib.util
from pathlib import Path
from typing import Any

Record = dict[str, Any]


# Its own folder is not searched for modules (PYTHONSAFEPATH), so neighbours are loaded by their paths.
def _neighbour(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tables = _neighbour("tables")

FILE = "peers.jsonl"
_ALL = {*("kind", "setting", "model", "threads"), *("commit", "versions", "machine", "finished")}
_BOTH = _ALL | {"peer", "peer_version", "ratio", "turns"}
_FIELDS = {
    "training": _BOTH
    | {"ratio_low", "ratio_high", "cpu_ratio", "steps", "windows_per_second", "peer_windows_per_second"}
    | {"parameters", "peer_parameters", "differs"},
    "rolling": _BOTH | {"windows", "seconds", "peer_seconds"},
    "profile": _ALL | {"steps", "shares"},
}
_SETTINGS = {
    "width16": "the published sizes for ETTh1: width 16, 4 heads, feed-forward 128, 128 windows a step",
    "width128": "the published sizes for ETTm1: width 128, 16 heads, feed-forward 256, 32 windows a step",
}
_HEAD = """\
<!-- written by benchmarks/report.py from benchmarks/results/peers.jsonl; change the records, not this page -->

# Beside other libraries

How fast do we train and roll beside the PatchTST of other libraries, each through its own front door? All sides get the
same rows of ETTh1, context 336, horizon 96, sizes, dropout and number of windows in a step. Where a peer's network
cannot be made the same, the table says what differs. Speed only: nothing here says which model forecasts better.

`pip install ".[peers]"`, then `python benchmarks/peers.py --data-dir DIR` measures. No environment of its own is
needed: neuralforecast 3.3 and transformers 5.24 agree with what this library asks for.
"""
_TRAINING_NOTE = """\
Ours and the peer train in turns in one process; the time between one step of the optimiser and the next is taken, so
that start-up does not count. A ratio above 1 says that we are so many times as fast, in windows a second: the median of
the turns and, in brackets, their 20% and 80% quantiles; "processor" is the same by processor time."""
_ROLLING_NOTE = """\
Forecasts of all test windows of ETTh1, with their scores on our side. "One bare pass" is our network alone over windows
that stand ready: what a rolling evaluation cannot go below. A ratio above 1 says how many times as long the other side
took."""

_PROFILE_NOTE = """\
What is left of a training step of ours: shares of the time by the clock, from torch's profiler (which itself takes a
little). Matrix products are the network's own arithmetic; attention scores are among them."""


def read_rows(path: Path) -> list[Record]:
    """The records of peers.py, each whole, known once, and those of one number of threads of one machine.

    Raises:
        ValueError: If a line is damaged, says nothing of its origin, is there twice, or is of another machine.
    """
    rows: list[Record] = tables.read_kinds(path, _FIELDS, "peers.py")
    for threads in {row["threads"] for row in rows}:
        some = [row for row in rows if row["threads"] == threads]
        tables.check_one(some, path.name, "machine", lambda row: row["machine"])
        tables.check_one(some, path.name, "torch", lambda row: row["versions"]["torch"])
    for kind, names in (("training", ("peer",)), ("rolling", ("peer",)), ("profile", ())):
        some = [row for row in rows if row["kind"] == kind]
        tables.check_once(some, path.name, "kind", "setting", *names, "model", "threads")
    return rows


def page(rows: list[Record]) -> str:
    """docs/peers.md: training, then rolling forecasts."""
    if not rows:
        return f"{_HEAD}\n{tables.NONE}\n"
    lines = [_HEAD]
    trained = [row for row in rows if row["kind"] == "training"]
    if trained:
        lines += ["## Training", "", _TRAINING_NOTE, ""]
        named = dict.fromkeys(row["setting"] for row in trained)
        lines += [*(f"- `{name}`: {_SETTINGS.get(name, name)}." for name in named), "", *_training(trained), ""]
        lines += ["What differs:", "", *_different(trained), ""]
    if rolled := [row for row in rows if row["kind"] == "rolling"]:
        lines += ["## Rolling forecasts", "", _ROLLING_NOTE, "", *_rolling(rolled), ""]
    if shares := [row for row in rows if row["kind"] == "profile"]:
        lines += ["## Where our time goes", "", _PROFILE_NOTE, "", *_shares(shares), ""]
    return "\n".join([*lines, tables.origin(rows), ""])


def _training(rows: list[Record]) -> list[str]:
    names = ("setting", "peer", "our model", "ratio", "processor", "ours [windows/s]", "theirs [windows/s]")
    lines = tables.head(3, *names, "our parameters", "their parameters", "turns", "steps", "threads")
    for row in rows:
        ratio = f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
        speeds = (f"{row['windows_per_second']:.0f}", f"{row['peer_windows_per_second']:.0f}")
        counts = (str(row[name]) for name in ("parameters", "peer_parameters", "turns", "steps", "threads"))
        first = (row["setting"], _peer(row), row["model"])
        lines.append(tables.line(*first, ratio, f"{row['cpu_ratio']:.2f}", *speeds, *counts))
    return lines


def _different(rows: list[Record]) -> list[str]:
    return [f"- {peer}: {differs}." for peer, differs in dict.fromkeys((row["peer"], row["differs"]) for row in rows)]


def _rolling(rows: list[Record]) -> list[str]:
    names = ("against", "setting", "our model", "windows", "ours [s]", "theirs [s]", "ratio", "turns", "threads")
    lines = tables.head(3, *names)
    for row in rows:
        seconds = (f"{row[name]:.2f}" for name in ("seconds", "peer_seconds", "ratio"))
        counts = (str(row[name]) for name in ("turns", "threads"))
        against = "one bare pass" if row["peer"] == "bare" else f"{_peer(row)}, `cross_validation`"
        lines.append(tables.line(against, row["setting"], row["model"], str(row["windows"]), *seconds, *counts))
    return [*lines, *_bounds(rows)]


def _bounds(rows: list[Record]) -> list[str]:
    """How fast an evaluation could be at best beside each peer, since it runs the network at least once."""
    bare = {(row["setting"], row["model"], row["threads"]): row for row in rows if row["peer"] == "bare"}
    said = []
    for row in rows:
        ours = bare.get((row["setting"], row["model"], row["threads"]))
        if ours is not None and row is not ours:
            most = row["ratio"] / ours["ratio"]
            said.append(
                f"- `{row['setting']}`, {row['model']}: no evaluation that runs this network can be more than"
                f" {most:.2f} times as fast as {_peer(row)}, for the bare pass is no faster."
            )
    return ["", *said] if said else []


def _shares(rows: list[Record]) -> list[str]:
    kinds = dict.fromkeys(kind for row in rows for kind in row["shares"])
    lines = tables.head(1, "work", *(f"`{row['setting']}`, {row['model']}" for row in rows))
    for kind in kinds:
        lines.append(tables.line(kind, *(f"{100 * row['shares'].get(kind, 0.0):.0f}%" for row in rows)))
    return lines


def _peer(row: Record) -> str:
    return f"{row['peer']} {row['peer_version']}"
