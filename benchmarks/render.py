"""Tables in Markdown, texts between the marks of a page, and pictures with a digest of their
numbers.
"""

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
# each a list of points [x, y] or [x, y, low, high]. "points" leaves the lines out. "ours" lists
# names to colour; every name then stands beside its points and moves around them until it overlaps
# neither points nor other names. "columns" and "height" (inches of a panel) of the first panel are
# those of the picture, by default at most 3 and 2.9.
Panel = dict[str, Any]

# Colours of panels with "ours", and of all others.
_OWN_COLOUR = "#d55e00"
_OTHER_COLOUR = "#777777"
_COLOURS = ("#0072b2", "#000000", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# Points of a line with marks, at most.
_MOST_MARKS = 24
# Places of a name around its point: offset in points, and the corner or side of the name that lies
# there. Far places are four times as far away.
_AT_CORNERS = (
    (3, 3, "left", "bottom"),
    (3, -3, "left", "top"),
    (-3, 3, "right", "bottom"),
    (-3, -3, "right", "top"),
)
_AT_SIDES = (
    (5, 0, "left", "center"),
    (-5, 0, "right", "center"),
    (0, 4, "center", "bottom"),
    (0, -4, "center", "top"),
)
_NEAR = (*_AT_CORNERS, *_AT_SIDES)
_FAR = tuple((4 * x, 4 * y, across, up) for x, y, across, up in _NEAR)
_PLACES = (*_NEAR, *_FAR)
# Shares of the line between a point and its name at which it must not cross anything.
_LINE_SHARES = (0.5, 0.7, 0.9)
# Times that each name is moved to a better place.
_SWEEPS = 5


def table(
    groups: Iterable[Any], columns: Mapping[str, Callable[[Any], str]], *, left: int = 1
) -> str:
    """A table with a line a group of rows, and a column a function of the group; the first ``left``
    columns are aligned at the left.
    """
    rows = [[cell_text(group) for cell_text in columns.values()] for group in groups]
    return lines(list(columns), rows, left=left)


def lines(head: list[str], rows: Iterable[Iterable[str]], *, left: int = 1) -> str:
    """A table of texts, with columns of one width, so that its raw text can be read as well."""
    table_rows = [head, *map(list, rows)]
    padded_columns = []
    rule = []
    for number, column in enumerate(zip(*table_rows, strict=True)):
        width = max(3, *map(len, column))
        if number < left:
            padded_columns.append([cell.ljust(width) for cell in column])
            rule.append("-" * width)
        else:
            padded_columns.append([cell.rjust(width) for cell in column])
            rule.append("-" * (width - 1) + ":")
    padded_head, *padded_rows = zip(*padded_columns, strict=True)
    return "\n".join(f"| {' | '.join(row)} |" for row in (padded_head, rule, *padded_rows))


def mean(rows: Iterable[Mapping[str, Any]], name: str) -> float:
    """Mean of a field."""
    return fmean(row[name] for row in rows)


def spread(rows: Iterable[Mapping[Any, Any]], name: Any, digits: int = 4) -> str:
    """Mean and, where there are several, standard deviation of a field."""
    values = [row[name] for row in rows]
    text = f"{fmean(values):.{digits}f}"
    if len(values) > 1:
        text += f" ± {stdev(values):.{digits}f}"
    return text


def pair(rows: Iterable[Mapping[str, Any]], *names: str, digits: int = 3) -> str:
    """Means of fields as ``0.370/0.391``; nothing where there are no rows."""
    rows = list(rows)
    if not rows:
        return ""
    return "/".join(f"{mean(rows, name):.{digits}f}" for name in names)


def between(path: Path, page: str, name: str, text: str) -> str:
    """The text of a page with another text between the marks of a name.

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
    """Whether a picture shows these numbers; a picture of no panels must not exist."""
    if not panels:
        return not path.exists()
    return path.exists() and _mark(panels) in path.read_text("utf-8")


def draw(path: Path, panels: list[Panel]) -> None:
    """Draw panels into an SVG file, whole or not at all, or remove it where there are none.

    The same numbers make the same bytes: the file has no date, and its inner names are not random.
    """
    if not panels:
        path.unlink(missing_ok=True)
        return
    import matplotlib as mpl

    metadata = {"Date": None, "Creator": None, "Description": _mark(panels)}
    options = {
        "svg.hashsalt": "tsattn",
        "svg.fonttype": "none",
        "font.size": 8,
        "axes.titlesize": 8,
    }
    with mpl.rc_context(options):
        figure = _figure(panels)
        write_atomic(path, lambda file: figure.savefig(file, format="svg", metadata=metadata))


def _mark(panels: list[Panel]) -> str:
    """A digest of the numbers of panels, rounded: processors differ in the last digits of means."""
    rounded = json.loads(json.dumps(panels), parse_float=lambda number: f"{float(number):.9g}")
    return f"numbers sha256 {hashlib.sha256(json.dumps(rounded).encode()).hexdigest()}"


def _figure(panels: list[Panel]) -> Any:
    from matplotlib.figure import Figure

    n_columns = min(panels[0].get("columns", 3), len(panels))
    n_rows = -(-len(panels) // n_columns)  # rounded up
    width = max(3.1 * n_columns, 4.2) + 1.6  # inches, with room for the legend
    height = panels[0].get("height", 2.9) * n_rows
    figure = Figure(figsize=(width, height), layout="constrained")
    all_axes = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    names = list(dict.fromkeys(chain.from_iterable(panel["lines"] for panel in panels)))
    for axes, panel in zip(all_axes, panels, strict=False):
        _panel(axes, panel, names)
    for unused_axes in all_axes[len(panels) :]:
        unused_axes.set_axis_off()
    if any("ours" in panel for panel in panels):
        _separate_names(figure)
    else:
        _add_legend(figure, names)
    return figure


def _add_legend(figure: Any, names: list[str]) -> None:
    """Add one legend for all panels, with the names in this order."""
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        axes_handles, labels = axes.get_legend_handles_labels()
        handles |= zip(labels, axes_handles, strict=True)
    shown = [name for name in names if name in handles]
    figure.legend(
        [handles[name] for name in shown], shown, loc="outside right center", frameon=False
    )


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
            taken = list(points)
            for other, boxes in covered.items():
                if other is not name:
                    taken += boxes
            costs = []
            for place in _PLACES:
                _move(name, place)
                text, *line = _covered(name, renderer)
                cost = _overlap(text, taken) + _outside(text, axes.bbox)
                line_cost = sum(_overlap(box, taken) for box in line)
                costs.append(cost + line_cost)
            # The first of the best places.
            _move(name, _PLACES[costs.index(min(costs))])
            covered[name] = _covered(name, renderer)


def _move(name: Any, place: tuple[float, float, str, str]) -> None:
    """Put a name at an offset from its point; a line joins the two where they are far apart."""
    x, y, across, up = place
    name.xyann = (x, y)
    name.arrow_patch.set_visible(place in _FAR)
    name.set(ha=across, va=up)


def _covered(name: Any, renderer: Any) -> list[Any]:
    """Boxes of pixels that a name covers, and after it some of the line to its point."""
    from matplotlib.text import Text

    name.update_positions(renderer)
    text = Text.get_window_extent(name, renderer)
    if not name.arrow_patch.get_visible():
        return [text]
    start = name.axes.transData.transform(name.xy)
    end = name.get_transform().transform(name.xyann)
    return [text, *(_box(start + share * (end - start), 1.5) for share in _LINE_SHARES)]


def _box(middle: Any, half: float = 4.0) -> Any:
    """A square of pixels, by default as large as the mark of a point."""
    from matplotlib.transforms import Bbox

    x, y = middle
    return Bbox.from_extents(x - half, y - half, x + half, y + half)


def _overlap(box: Any, taken: list[Any]) -> float:
    """Pixels that a box shares with others."""
    from matplotlib.transforms import Bbox

    intersections = (Bbox.intersection(box, other) for other in taken)
    sizes = [common.width * common.height for common in intersections if common is not None]
    return float(sum(sizes))


def _outside(box: Any, frame: Any) -> float:
    """Pixels of a box that lie outside a frame."""
    return float(box.width * box.height) - _overlap(box, [frame])


def _panel(axes: Any, panel: Panel, names: list[str]) -> None:
    """Draw the lines and the labels of one panel."""
    named_points = "ours" in panel
    for name, points in panel["lines"].items():
        look = _look(name, names.index(name), points, panel)
        _draw_line(axes, name, points, look)
        if named_points:
            _write_name(axes, name, points, look["color"])
    axes.set(title=panel["title"], xlabel=panel["x"], ylabel=panel["y"])
    _set_scales(axes, panel)
    if named_points:
        # Room for the names.
        axes.margins(0.25, 0.12)
    axes.grid(alpha=0.3)


def _draw_line(axes: Any, name: str, points: list[Any], look: dict[str, Any]) -> None:
    """Draw a line, and the band between the low and high values of its points if they have any."""
    x = [point[0] for point in points]
    y = [point[1] for point in points]
    axes.plot(x, y, label=name, **look)
    if len(points[0]) == 4:
        low = [point[2] for point in points]
        high = [point[3] for point in points]
        axes.fill_between(x, low, high, color=look["color"], alpha=0.15, lw=0)


def _write_name(axes: Any, name: str, points: list[Any], colour: str) -> None:
    """Write a name beside each of its points, with a thin line between them."""
    options = {
        "textcoords": "offset points",
        "color": colour,
        "size": 7,
        "arrowprops": {"arrowstyle": "-", "lw": 0.4, "color": colour},
    }
    for x, y, *_ in points:
        axes.annotate(name, (x, y), (3, 3), **options).set_in_layout(False)


def _set_scales(axes: Any, panel: Panel) -> None:
    """Set logarithmic axes, ticks and limits of a panel."""
    from matplotlib.ticker import NullFormatter

    for axis in panel.get("log", ""):
        axes.set(**{f"{axis}scale": "log"})
        # Within two decades the steps between them would be written as well, one over the other.
        getattr(axes, f"{axis}axis").set_minor_formatter(NullFormatter())
    if "ticks" in panel:
        axes.set_xticks(panel["ticks"], [str(tick) for tick in panel["ticks"]])
    if "ylim" in panel:
        axes.set_ylim(panel["ylim"])


def _look(name: str, number: int, points: list[Any], panel: Panel) -> dict[str, Any]:
    """Eight colours and markers, then the same with hollow marks and broken lines; a line of many
    points has no marks.
    """
    if "ours" in panel:
        is_own = name in panel["ours"]
        return {
            "color": _OWN_COLOUR if is_own else _OTHER_COLOUR,
            "marker": "o",
            "ls": "",
            "ms": 5 if is_own else 3,
        }
    round_number, place = divmod(number, len(_COLOURS))
    is_repeated = round_number > 0
    line = "--" if is_repeated else "-"
    look: dict[str, Any] = {
        "color": _COLOURS[place],
        "marker": "" if len(points) > _MOST_MARKS else _MARKERS[place],
        "ls": "" if panel.get("points") else line,
        "ms": 4,
        "lw": 1.1,
    }
    if is_repeated:
        look["mfc"] = "none"
    return look
