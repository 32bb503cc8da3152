"""Tables of docs/speed.md about other libraries: training and rolling forecasts."""

from pathlib import Path
from statistics import median

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
    """How many times as many series a second the pretrained forecaster forecasts, by processor."""
    rows = [row for row in _read(folder, "pretrained") if row["peer"] not in _LEFT_OUT]
    if not rows:
        return render.NONE
    models = sorted({row["model"] for row in rows})
    # The name of the first processor was not written down.
    processors = list(dict.fromkeys(row.get("processor") for row in rows))
    body = []
    for (peer, setting), cell in records.by(rows, "peer", "setting").items():
        for letter, processor in zip(_LETTERS, processors, strict=False):
            paces = {row["model"]: row for row in cell if row.get("processor") == processor}
            if not paces:
                continue
            theirs = median(row["peer_series_per_second"] for row in paces.values())
            sizes = setting.replace(" rows, ", "/").removesuffix(" ahead")
            line = [peer, sizes, letter, f"{theirs:.0f}"]
            for name in models:
                row = paces.get(name)
                line += (
                    [f"{row['series_per_second']:.0f}", f"{row['ratio']:.3g}"] if row else ["", ""]
                )
            body.append(line)
    head = ["against", "rows/ahead", "on", "theirs"]
    for name in models:
        head += [name, "ratio"]
    named = [
        f"{letter}: {processor or 'not recorded'}"
        for letter, processor in zip(_LETTERS, processors, strict=False)
    ]
    versions = ", ".join(dict.fromkeys(row["peer_version"] for row in rows))
    table = render.lines(head, body, left=3)
    return f"{table}\n\n{'; '.join(named)}. {versions}. {records.origin(rows)}"


BLOCKS = {
    ("docs/speed.md", "peers"): training,
    ("docs/speed.md", "rolling"): rolling,
    ("docs/speed.md", "pretrained"): pretrained,
}
