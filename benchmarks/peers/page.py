"""Tables of docs/speed.md about other libraries: training and rolling forecasts."""

from pathlib import Path

import records
import render
from peers.run import FILE, KEY
from records import Record


def _read(folder: Path, kind: str) -> list[Record]:
    """Records of one kind, after checking that rows of as many threads are of one machine."""
    rows = records.read(folder / FILE, KEY)
    for thread_rows in records.by(rows, "threads").values():
        origins = {(row["machine"], row["versions"]["torch"]) for row in thread_rows}
        if len(origins) > 1:
            raise ValueError(
                f"{FILE} has rows of more than one machine or torch; run all of them anew"
            )
    return [row for row in rows if row["kind"] == kind]


def training(folder: Path) -> str:
    """Speed of our training over that of others, by setting, peer and model of ours."""
    rows = _read(folder, "training")
    if not rows:
        return render.NONE
    models = list(dict.fromkeys(row["model"] for row in rows))
    lines = []
    groups = records.by(rows, "setting", "peer", "peer_version")
    for (setting, peer, version), cell in groups.items():
        ratios = {row["model"]: f"{row['ratio']:.2f}" for row in cell}
        speed = f"{cell[0]['peer_windows_per_second']:.0f}"
        cells = [ratios.get(name, "") for name in models]
        lines.append([setting, f"{peer} {version}", speed, *cells])
    head = ["setting", "peer", "theirs [windows/s]", *(f"ours, {name}" for name in models)]
    table = render.lines(head, lines, left=2)
    differences = [f"- {peer}: {text}." for peer, text in records.by(rows, "peer", "differs")]
    notes = "\n".join(differences)
    return f"{table}\n\nWhat differs:\n\n{notes}\n\n{records.origin(rows)}"


def rolling(folder: Path) -> str:
    """Time of others for rolling forecasts over ours."""
    columns = {
        "against": _rolling_peer,
        "windows": lambda row: str(row["windows"]),
        "ours [s]": lambda row: f"{row['seconds']:.2f}",
        "theirs [s]": lambda row: f"{row['peer_seconds']:.2f}",
        "ratio": lambda row: f"{row['ratio']:.2f}",
    }
    rows = _read(folder, "rolling")
    return render.table(rows, columns) if rows else render.NONE


def _rolling_peer(row: Record) -> str:
    if row["peer"] == "bare":
        return "one bare pass"
    return f"{row['peer']} {row['peer_version']}"


# Names of processors in the head of a table.
_LETTERS = "ABCDEFGH"
# Forecasters that are slower than all others.
_LEFT_OUT = ("Theta", "DynamicOptimizedTheta")


def pretrained(folder: Path) -> str:
    """Series a second of the pretrained forecaster over those of others, by size and processor.

    Weights of one size forecast equally fast.
    """
    rows = [row for row in _read(folder, "pretrained") if row["peer"] not in _LEFT_OUT]
    if not rows:
        return render.NONE
    processors = list(dict.fromkeys(row["processor"] for row in rows))
    letters = dict(zip(processors, _LETTERS, strict=False))
    sizes = sorted({_size(row) for row in rows}, reverse=True)
    columns = [(size, processor) for size in sizes for processor in processors]
    lines = []
    for (peer, setting), cell in records.by(rows, "peer", "setting").items():
        ratios = {(_size(row), row["processor"]): f"{row['ratio']:.3g}" for row in cell}
        lengths = setting.replace(" rows, ", "/").removesuffix(" ahead")
        lines.append([peer, lengths, *(ratios.get(column, "") for column in columns)])
    head = ["against", "rows/ahead"]
    head += [f"{size}, {letters[processor]}" for size, processor in columns]
    table = render.lines(head, lines, left=2)
    names = "; ".join(f"{letter}: {processor}" for processor, letter in letters.items())
    versions = ", ".join(dict.fromkeys(row["peer_version"] for row in rows))
    return f"{table}\n\n{names}. {versions}. {records.origin(rows)}"


def _size(row: Record) -> str:
    return "small" if row["model"].endswith("-small") else "base"


BLOCKS = {
    ("docs/speed.md", "peers"): training,
    ("docs/speed.md", "rolling"): rolling,
    ("docs/speed.md", "pretrained"): pretrained,
}
