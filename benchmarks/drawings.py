"""Which pictures of a page show other numbers than the records? Draws them anew, each whole or not at all.

Each file carries a checksum of the numbers it shows, and is drawn when another one is due; remove a file to have it
drawn anew.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tsattn.storage import write_atomic

Record = dict[str, Any]


class Drawing(NamedTuple):
    """One picture.

    Args:
        numbers: From records, the numbers that are drawn; ``None`` where there is nothing to draw.
        draw: From the numbers, the figure.
        title: What it shows, in a few words, where the page does not say so itself.
        about: What to see in it, in a sentence or two.
    """

    numbers: Callable[[list[Record]], Any]
    draw: Callable[[Any], Any]
    title: str = ""
    about: str = ""


Drawings = Mapping[str, Drawing]


def wanted(drawings: Drawings, rows: list[Record]) -> dict[str, Any]:
    """The numbers of each picture that there is something for, by the name of its file."""
    found = {name: drawing.numbers(rows) for name, drawing in drawings.items()}
    return {name: numbers for name, numbers in found.items() if numbers is not None}


def outdated(folder: Path, drawings: Drawings, rows: list[Record]) -> list[str]:
    """Files of a folder that show other numbers, are missing, or show what is no longer on record."""
    due = wanted(drawings, rows)
    return [name for name in drawings if not _fresh(folder / name, due.get(name))]


def _fresh(path: Path, numbers: Any) -> bool:
    if numbers is None:
        return not path.exists()
    return path.exists() and mark(numbers) in path.read_text("utf-8")


def update(folder: Path, drawings: Drawings, rows: list[Record]) -> None:
    """Draw what is out of date, and remove what shows nothing any more."""
    due = wanted(drawings, rows)
    for name in outdated(folder, drawings, rows):
        if name not in due:
            (folder / name).unlink()
            continue
        folder.mkdir(parents=True, exist_ok=True)
        save(drawings[name].draw, due[name], folder / name)


def mark(numbers: Any) -> str:
    """What is written into a picture, so that it can be told which numbers it shows."""
    return f"numbers sha256 {hashlib.sha256(json.dumps(numbers).encode()).hexdigest()}"


def save(draw: Callable[[Any], Any], numbers: Any, path: Path) -> None:
    """Draw numbers into an SVG file with their mark, whole or not at all."""
    import matplotlib as mpl

    # The same numbers make the same bytes: no date, and names inside the file that are no random ones.
    metadata = {"Date": None, "Creator": None, "Description": mark(numbers)}
    with mpl.rc_context({"svg.hashsalt": "tsattn", "svg.fonttype": "none", "font.size": 8, "axes.titlesize": 9}):
        figure = draw(numbers)
        write_atomic(path, lambda aside: figure.savefig(aside, format="svg", metadata=metadata))
