"""Tables in Markdown, texts between marks, and pictures that know which numbers they show."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from tsattn.storage import write_atomic

NONE = "No run is recorded yet."
# A panel of a picture: title, labels "x" and "y", "log" axes ("x", "y", "xy"), and "lines" by name,
# each a list of points [x, y] or [x, y, low, high]; "points" leaves the lines out; "ours" writes
# each name beside its points, those that it lists in colour. "columns" and "height" (inches of a
# panel) of the first panel are those of the picture, by default at most 3 and 2.9. Names move
# around their points until they overlap neither points nor one another.
Panel = dict[str, Any]

_COLOURS = ("#0072b2", "#000000", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# Where a name may stand beside its point: offset in points, and the corner of the name that lies
# there.
_NEAR = (
    (3, 3, "left", "bottom"),
    (3, -3, "left", "top"),
    (-3, 3, "right", "bottom"),
    (-3, -3, "right", "top"),
)
_BESIDE = (
    (5, 0, "left", "center"),
    (-5, 0, "right", "center"),
    (0, 4, "center", "bottom"),
    (0, -4, "center", "top"),
)
_FAR = tuple((4 * x, 4 * y, across, up) for x, y, across, up in (*_NEAR, *_BESIDE))
_PLACES = (*_NEAR, *_BESIDE, *_FAR)
_ALONG = (0.5, 0.7, 0.9)  # shares of a line at which it must not cross anything
_SWEEPS = 5  # times that each name looks for a better place


def table(
    groups: Iterable[Any], columns: Mapping[str, Callable[[Any], str]], *, left: int = 1
) -> str:
    """A line a group of rows, a column a function of the group; the first ``left`` columns stand at
    the left.
    """
    return lines(
        list(columns), ([pick(group) for pick in columns.values()] for group in groups), left=left
    )


def lines(head: list[str], rows: Iterable[Iterable[str]], *, left: int = 1) -> str:
    """A table of texts, with columns of one width, so that its raw text can be read as well."""
    whole = [head, *map(list, rows)]
    widths = [max(3, *(len(row[column]) for row in whole)) for column in range(len(head))]
    put = [str.ljust if column < left else str.rjust for column in range(len(head))]
    padded = [
        f"| {' | '.join(p(cell, width) for p, cell, width in zip(put, row, widths, strict=True))} |"
        for row in whole
    ]
    rule = [
        "-" * width if column < left else "-" * (width - 1) + ":"
        for column, width in enumerate(widths)
    ]
    return "\n".join([padded[0], f"| {' | '.join(rule)} |", *padded[1:]])


def mean(rows: Iterable[Mapping[str, Any]], name: str) -> float:
    """Mean of a field."""
    return fmean(row[name] for row in rows)


def spread(rows: Iterable[Mapping[Any, Any]], name: Any, digits: int = 4) -> str:
    """Mean and, where there are several, standard deviation of a field."""
    values = [row[name] for row in rows]
    return f"{fmean(values):.{digits}f}" + (
        f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    )


def pair(rows: Iterable[Mapping[str, Any]], *names: str, digits: int = 3) -> str:
    """Means of fields as ``0.370/0.391``; nothing where there are no rows."""
    rows = list(rows)
    return "/".join(f"{mean(rows, name):.{digits}f}" for name in names) if rows else ""


def between(path: Path, page: str, name: str, text: str) -> str:
    """The page of a path with a text between its marks of a name.

    Raises:
        ValueError: If the page lacks a mark.
    """
    begin = f"<!-- {name}:begin -->"
    end = f"<!-- {name}:end -->"
    before, opened, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ValueError(
            f"{path.name} lacks the marks {begin!r} and {end!r}; put them where the table shall"
            " stand"
        )
    return f"{before}{begin}\n{text}\n{end}{after}"


def is_fresh(path: Path, panels: list[Panel]) -> bool:
    """Whether a picture shows these numbers; one of no panels must not exist."""
    return (
        path.exists() and _mark(panels) in path.read_text("utf-8") if panels else not path.exists()
    )


def draw(path: Path, panels: list[Panel]) -> None:
    """Draw panels into an SVG file, whole or not at all, or remove it where there are none.

    The same numbers make the same bytes: no date, and names inside the file that are no random
    ones.
    """
    if not panels:
        path.unlink(missing_ok=True)
        return
    import matplotlib as mpl

    metadata = {"Date": None, "Creator": None, "Description": _mark(panels)}
    with mpl.rc_context(
        {"svg.hashsalt": "tsattn", "svg.fonttype": "none", "font.size": 8, "axes.titlesize": 8}
    ):
        figure = _figure(panels)
        write_atomic(path, lambda aside: figure.savefig(aside, format="svg", metadata=metadata))


def _mark(panels: list[Panel]) -> str:
    """A digest of what panels show; processors differ in the last digits of means."""
    rounded = json.loads(json.dumps(panels), parse_float=lambda number: f"{float(number):.9g}")
    return f"numbers sha256 {hashlib.sha256(json.dumps(rounded).encode()).hexdigest()}"


def _figure(panels: list[Panel]) -> Any:
    from matplotlib.figure import Figure

    columns = min(panels[0].get("columns", 3), len(panels))
    rows = -(-len(panels) // columns)
    size = (max(3.1 * columns, 4.2) + 1.6, panels[0].get("height", 2.9) * rows)
    figure = Figure(figsize=size, layout="constrained")
    every = list(figure.subplots(rows, columns, squeeze=False).flat)
    names = list(dict.fromkeys(chain.from_iterable(panel["lines"] for panel in panels)))
    for axes, panel in zip(every, panels, strict=False):
        _panel(axes, panel, names)
    for unused in every[len(panels) :]:
        unused.set_axis_off()
    if not any("ours" in panel for panel in panels):
        found = {
            label: handle
            for axes in every
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        shown = [name for name in names if name in found]
        figure.legend(
            [found[name] for name in shown], shown, loc="outside right center", frameon=False
        )
    else:
        _separate_names(figure)
    return figure


def _separate_names(figure: Any) -> None:
    """Move the names of points until none overlaps a point, another name or the frame, as far as
    there is room.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    for axes in figure.axes:
        points = [_box(axes.transData.transform(name.xy)) for name in axes.texts]
        covered = {name: _covered(name, renderer) for name in axes.texts}
        for name in list(axes.texts) * _SWEEPS:
            others = [box for other, boxes in covered.items() if other is not name for box in boxes]
            costs = []
            for number, place in enumerate(_PLACES):
                _move(name, place)
                text, *line = _covered(name, renderer)
                cost = _overlap(text, [*points, *others]) + _outside(text, axes.bbox)
                costs.append(
                    (cost + sum(_overlap(box, [*points, *others]) for box in line), number)
                )
            _move(name, _PLACES[min(costs)[1]])
            covered[name] = _covered(name, renderer)


def _move(name: Any, place: tuple[float, float, str, str]) -> None:
    """Put a name at an offset from its point; a line joins the two where they are far apart."""
    x, y, across, up = place
    name.xyann = (x, y)
    name.arrow_patch.set_visible(place in _FAR)
    name.set(ha=across, va=up)


def _covered(name: Any, renderer: Any) -> list[Any]:
    """The pixels of a name, and behind them some of the line to its point."""
    from matplotlib.text import Text

    name.update_positions(renderer)
    text = Text.get_window_extent(name, renderer)
    if not name.arrow_patch.get_visible():
        return [text]
    start = name.axes.transData.transform(name.xy)
    end = name.get_transform().transform(name.xyann)
    return [text, *(_box(start + share * (end - start), 1.5) for share in _ALONG)]


def _box(middle: Any, half: float = 4.0) -> Any:
    """A square of pixels, by default as large as the mark of a point."""
    from matplotlib.transforms import Bbox

    x, y = middle
    return Bbox.from_extents(x - half, y - half, x + half, y + half)


def _overlap(box: Any, taken: list[Any]) -> float:
    """Pixels that a box shares with others."""
    from matplotlib.transforms import Bbox

    shared = (Bbox.intersection(box, other) for other in taken)
    return float(sum(both.width * both.height for both in shared if both is not None))


def _outside(box: Any, frame: Any) -> float:
    """Pixels of a box that lie outside a frame."""
    return float(box.width * box.height) - _overlap(box, [frame])


def _panel(axes: Any, panel: Panel, names: list[str]) -> None:
    from matplotlib.ticker import NullFormatter

    for name, points in panel["lines"].items():
        look = _look(name, names.index(name), points, panel)
        x = [point[0] for point in points]
        y = [point[1] for point in points]
        axes.plot(x, y, label=name, **look)
        if len(points[0]) == 4:
            low = [point[2] for point in points]
            high = [point[3] for point in points]
            axes.fill_between(x, low, high, color=look["color"], alpha=0.15, lw=0)
        for place in zip(x, y, strict=True) if "ours" in panel else ():
            colour = look["color"]
            line = {"arrowstyle": "-", "lw": 0.4, "color": look["color"]}
            options = {
                "textcoords": "offset points",
                "color": colour,
                "size": 7,
                "arrowprops": line,
            }
            axes.annotate(name, place, (3, 3), **options).set_in_layout(False)
    axes.set(title=panel["title"], xlabel=panel["x"], ylabel=panel["y"])
    for axis in panel.get("log", ""):
        axes.set(**{f"{axis}scale": "log"})
        # Within two decades the steps between them would be written as well, one over the other.
        getattr(axes, f"{axis}axis").set_minor_formatter(NullFormatter())
    if "ticks" in panel:
        axes.set_xticks(panel["ticks"], [str(tick) for tick in panel["ticks"]])
    if "ylim" in panel:
        axes.set_ylim(panel["ylim"])
    if "ours" in panel:
        axes.margins(0.25, 0.12)
    axes.grid(alpha=0.3)


def _look(name: str, number: int, points: list[Any], panel: Panel) -> dict[str, Any]:
    """Eight colours and markers, then the same with hollow marks and broken lines; many points are
    a bare line.
    """
    if "ours" in panel:
        mine = name in panel["ours"]
        return {
            "color": "#d55e00" if mine else "#777777",
            "marker": "o",
            "ls": "",
            "ms": 5 if mine else 3,
        }
    again, place = divmod(number, len(_COLOURS))
    colour = _COLOURS[place]
    line = "--" if again else "-"
    marker = "" if len(points) > 24 else _MARKERS[place]
    hollow = {"mfc": "none"} if again else {}
    return {
        "color": colour,
        "marker": marker,
        "ls": "" if panel.get("points") else line,
        "ms": 4,
        "lw": 1.1,
        **hollow,
    }
