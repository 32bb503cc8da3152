"""Tables of docs/speed.md about other libraries: training and rolling forecasts."""

from pathlib import Path

import records
import render
from peers.run import FILE, KEY
from records import Record


def _read(folder: Path, kind: str) -> list[Record]:
    rows = records.read(folder / FILE, KEY)
    for some in records.by(rows, "threads").values():
        if len({(row["machine"], row["versions"]["torch"]) for row in some}) > 1:
            raise ValueError(
                f"{FILE} has rows of more than one machine or torch; run all of them anew"
            )
    return [row for row in rows if row["kind"] == kind]


def training(folder: Path) -> str:
    """How many times as fast we train, by setting, peer and model of ours."""
    rows = _read(folder, "training")
    if not rows:
        return render.NONE
    models = list(dict.fromkeys(row["model"] for row in rows))
    body = []
    for (setting, peer, version), cell in records.by(
        rows, "setting", "peer", "peer_version"
    ).items():
        ratios = {row["model"]: f"{row['ratio']:.2f}" for row in cell}
        speed = f"{cell[0]['peer_windows_per_second']:.0f}"
        body.append(
            [setting, f"{peer} {version}", speed, *(ratios.get(name, "") for name in models)]
        )
    told = [
        f"- {peer}: {differs}."
        for peer, differs in dict.fromkeys((row["peer"], row["differs"]) for row in rows)
    ]
    head = ["setting", "peer", "theirs [windows/s]", *(f"ours, {name}" for name in models)]
    return "\n".join(
        [render.lines(head, body, left=2), "", "What differs:", "", *told, "", records.origin(rows)]
    )


def rolling(folder: Path) -> str:
    """How many times as long others take for rolling forecasts."""
    columns = {
        "against": lambda row: (
            "one bare pass" if row["peer"] == "bare" else f"{row['peer']} {row['peer_version']}"
        ),
        "windows": lambda row: str(row["windows"]),
        "ours [s]": lambda row: f"{row['seconds']:.2f}",
        "theirs [s]": lambda row: f"{row['peer_seconds']:.2f}",
        "ratio": lambda row: f"{row['ratio']:.2f}",
    }
    rows = _read(folder, "rolling")
    return render.table(rows, columns) if rows else render.NONE


_LETTERS = "ABCDEFGH"
# Slower than all others.
_LEFT_OUT = ("Theta", "DynamicOptimizedTheta")


def pretrained(folder: Path) -> str:
    """How many times as many series a second the pretrained forecaster forecasts, by processor.

    Weights of one size forecast as fast as one another.
    """
    rows = [row for row in _read(folder, "pretrained") if row["peer"] not in _LEFT_OUT]
    if not rows:
        return render.NONE
    processors = list(dict.fromkeys(row["processor"] for row in rows))
    letters = dict(zip(processors, _LETTERS, strict=False))
    sizes_shown = sorted({_size(row) for row in rows}, reverse=True)
    columns = [(size, processor) for size in sizes_shown for processor in processors]
    body = []
    for (peer, setting), cell in records.by(rows, "peer", "setting").items():
        ratios = {(_size(row), row["processor"]): row["ratio"] for row in cell}
        sizes = setting.replace(" rows, ", "/").removesuffix(" ahead")
        cells = [f"{ratios[column]:.3g}" if column in ratios else "" for column in columns]
        body.append([peer, sizes, *cells])
    head = ["against", "rows/ahead"]
    head += [f"{size}, {letters[processor]}" for size, processor in columns]
    named = [f"{letter}: {processor}" for processor, letter in letters.items()]
    versions = ", ".join(dict.fromkeys(row["peer_version"] for row in rows))
    table = render.lines(head, body, left=2)
    return f"{table}\n\n{'; '.join(named)}. {versions}. {records.origin(rows)}"


def _size(row: Record) -> str:
    return "small" if row["model"].endswith("-small") else "base"


BLOCKS = {
    ("docs/speed.md", "peers"): training,
    ("docs/speed.md", "rolling"): rolling,
    ("docs/speed.md", "pretrained"): pretrained,
}
