"""What does a forecast look like? Pictures of history, forecast and intervals, drawn and never
shown.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tsattn.data.columns import check_frame
from tsattn.data.frames import Panel, TableLike, from_long, from_wide, to_panel
from tsattn.data.schema import Schema
from tsattn.evaluate.backtest import BacktestResult
from tsattn.evaluate.metrics import check_count
from tsattn.forecaster import Forecast
from tsattn.levels import level_to_quantiles, quantile_to_level
from tsattn.storage import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_SERIES = 12
# How the columns of bounds and quantiles end.
_SUFFIX = re.compile(r"-(?P<side>lo-|hi-|q)(?P<number>\d+(\.\d+)?)$")
# Dark enough for print, and told apart by colour-blind readers.
_HISTORY, _FORECAST, _TRUTH = "#333333", "#0b6aa2", "#b3541e"
_MODELS = ("#0b6aa2", "#b3541e", "#2a7f3e", "#8a5a9e", "#b08a00", "#777777", "#1aa3a3", "#c2477f")


def plot_forecast(
    history: TableLike | Panel,
    forecast: TableLike | Forecast,
    *,
    schema: Schema | None = None,
    series: Any = None,
    n_history: int | None = None,
    truth: TableLike | Panel | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw series, a picture each: the end of the history and, going on from it, the forecast with
    its bands.

    There is a band between any two quantiles at equal distance from the median, the widest one
    lightest. It stops at zero, in the picture only, where no value of the series' history is
    negative, unless the forecast itself is.

    Args:
        history: The series that were forecast, as a table or panel. Rows from the first forecast
            row on are truth.
        forecast: What ``predict``, :func:`tsattn.forecast` or
            :func:`tsattn.forecaster.forecast_panel` returned.
        schema: How tables are read; default :class:`tsattn.Schema`'s.
        series: Ids of a long table or channels of a wide one, one or several; default all, the
            first one with ``ax``. Twelve are drawn at most; the title tells which are left out.
        n_history: Rows of history to show; default five horizons.
        truth: Table or panel that holds the rows after the cutoff, where ``history`` does not.
        title: Default: the name of the series.
        ax: Axes to draw one series into; default new ones on a figure of their own, outside of
            pyplot.

    Returns:
        The axes, of several series those of the first. ``ax.figure.savefig(...)`` or
        :func:`save_plot` writes the whole figure to a file.

    Raises:
        TypeError: If a table is none.
        ValueError: If a table is faulty, the history lacks a series of the forecast, there is no
            such series, nothing of it to show, or one ``ax`` for several.
        ImportError: If matplotlib is missing.
    """
    panel = to_panel(history, schema, missing="mask")
    answer = forecast if isinstance(forecast, Forecast) else _read_forecast(forecast, panel)
    later = panel if truth is None else to_panel(truth, schema, missing="mask")
    chosen, names = _chosen(answer, series, one=ax is not None)
    n_rows = 5 * answer.horizon if n_history is None else check_count("n_history", n_history)
    shown = chosen[:_MOST_SERIES]
    drawn = [(_rows_of(panel, answer, *at), _rows_of(later, answer, *at)) for at in shown]
    if truth is not None:
        for at, (_, after) in zip(shown, drawn, strict=True):
            if not after.n_ahead:
                start = answer.times[at[0] * answer.horizon]
                raise ValueError(
                    f"truth has no row from {start} on; pass the table that reaches further"
                )
    axes = _new_grid(len(shown)) if ax is None else [ax]
    for each, at, (before, after) in zip(axes, shown, drawn, strict=True):
        _draw(each, answer, *at, before, after, n_rows)
        _dress(each, names[at] if title is None or len(shown) > 1 else title, answer.times)
    if len(shown) > 1:
        left_out = [names[at] for at in chosen[_MOST_SERIES:]]
        few = ", ".join(left_out[:5]) + (
            f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        )
        told = f"{len(shown)} of {len(chosen)} series, without {few}" if left_out else ""
        heading = "; ".join(filter(None, (title, told)))
        axes[0].figure.suptitle("\n".join(textwrap.wrap(heading, 90)))
    _add_legend(axes, own=ax is None)
    return axes[0]


def plot_backtest(
    result: BacktestResult,
    *,
    series: Any = None,
    models: Sequence[str] | None = None,
    n_cutoffs: int = 4,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one series over the judged rows, and what each model forecast from some of the cutoffs.

    Args:
        result: What :func:`tsattn.backtest` returned, forecasts kept.
        series: An id of a long table, a channel of a wide one; default the first.
        models: Names of models, drawn in this order; default all.
        n_cutoffs: Cutoffs to show, spread evenly and with the last one, each marked by a vertical
            line.
        title: Default: the name of the series.
        ax: Axes to draw into; default new ones on a figure of their own, outside of pyplot.

    Returns:
        The axes.

    Raises:
        ValueError: If a name is unknown, ``n_cutoffs`` is below 1, or forecasts were not kept.
        ImportError: If matplotlib is missing.
    """
    panel = result.panel
    given = result.rolled if models is None else models
    names = [given] if isinstance(given, str) else list(given)
    for name in names:
        if name not in result.rolled:
            raise ValueError(f"the result has no model {name!r}; it has {', '.join(result.rolled)}")
        if result.rolled[name].point is None:
            raise ValueError(
                "the forecasts were not kept; run the backtest with keep=True to draw them"
            )
    n_cutoffs = check_count("n_cutoffs", n_cutoffs)
    n, c = _place(panel.series_names, panel.dialect.kind == "long", series, "the result")
    own = ax is None
    ax = _new_axes() if ax is None else ax
    n_windows = result.origins.shape[1]
    shown = np.unique(np.linspace(n_windows - 1, 0, min(n_cutoffs, n_windows)).round().astype(int))
    first = panel.starts[n] + max(result.origins[n, shown[0]] - result.horizon, 0)
    rows = slice(first, panel.starts[n] + result.origins[n, shown[-1]] + result.horizon)
    ax.plot(
        _stamps(panel.times[rows]),
        panel.values[rows, c],
        color=_HISTORY,
        linewidth=1.2,
        label="truth",
    )
    for w in shown:
        end = panel.starts[n] + result.origins[n, w]
        ahead = _stamps(panel.times[end : end + result.horizon])
        ax.axvline(
            _stamps(panel.times[end - 1 : end])[0], color="#bbbbbb", linewidth=0.8, linestyle=":"
        )
        for name in names:
            point = np.asarray(result.rolled[name].point)[n * n_windows + w, :, c]
            label = _shown(name) if w == shown[0] else None
            ax.plot(ahead, point, color=_colours(result)[name], linewidth=1.4, label=label)
    _dress(ax, title if title is not None else _shown(panel.series_names[max(n, c)]), panel.times)
    _add_legend([ax], own=own)
    return ax


def plot_scores(
    result: BacktestResult,
    *,
    metric: str = "mae",
    by_step: bool = False,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the scores of all models: a bar each, the best on top, or the error of each step ahead.

    Args:
        result: What :func:`tsattn.backtest` returned.
        metric: A column of ``result.scores``, of those in which less is better. With ``by_step``
            always ``"mae"``.
        by_step: Draw the mean absolute error by steps ahead instead, one line a model.
        title: Default: what is drawn.
        ax: Axes to draw into; default new ones on a figure of their own, outside of pyplot.

    Returns:
        The axes.

    Raises:
        ValueError: If there is no such metric.
        ImportError: If matplotlib is missing.
    """
    known = [
        name
        for name in result.scores.columns
        if name != "n_windows" and not name.startswith("coverage")
    ]
    if metric not in known or (by_step and metric != "mae"):
        allowed = ["mae"] if by_step else known
        raise ValueError(f"metric must be one of {', '.join(allowed)}; got {metric!r}")
    scores = result.scores[metric].sort_values(ascending=False)
    colours = _colours(result)
    if by_step:
        own = ax is None
        steps = pd.RangeIndex(1, result.horizon + 1)
        ax = _new_axes() if ax is None else ax
        for name in scores.index[::-1]:
            ax.plot(
                steps,
                result.by_step.loc[name, "mae"],
                color=colours[name],
                linewidth=1.5,
                label=_shown(name),
            )
        _dress(ax, title if title is not None else "error by steps ahead", steps)
        _add_legend([ax], own=own)
        ax.set(xlabel="steps ahead", ylabel="MAE, standardised", ylim=(0, None))
        return ax
    ax = _new_axes((7, 0.8 + 0.4 * len(scores))) if ax is None else ax
    bars = ax.barh(
        [_shown(name) for name in scores.index],
        scores.to_numpy(),
        color=[colours[name] for name in scores.index],
    )
    ax.bar_label(bars, fmt="%.3g", padding=3)
    ax.set(
        title=title if title is not None else metric, xlim=(0, 1.12 * np.nanmax([*scores, 1e-12]))
    )
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_attention(
    weights: np.ndarray,
    *,
    block_sizes: Sequence[int] = (),
    offset: int = 0,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one attention map, with the blocks of its levels outlined.

    Args:
        weights: How much each patch looks at each other one, ``[L, L]``: one layer, series, channel
            and head of :meth:`tsattn.AttentionForecaster.attention_maps`.
        block_sizes: Patches per block at each level, coarse to fine, as in
            ``summary_["block_sizes"]``; the finest blocks are outlined thinnest.
        offset: Shift of the block grid in patches.
        title: Default none.
        ax: Axes to draw into; default new ones on a figure of their own.

    Returns:
        The axes: looking patch down, patch looked at across, oldest first.

    Raises:
        ValueError: If ``weights`` is no square map, or a size or the offset no whole number.
        ImportError: If matplotlib is missing.
    """
    weights = np.asarray(weights)
    offset = check_count("offset", offset, 0)
    sizes = [
        check_count("a size of block_sizes", each)
        for each in np.array(block_sizes, dtype=object, ndmin=1)
    ]
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1]:
        raise ValueError(
            f"one map has the shape [patches, patches]; got {weights.shape}; pick a layer, series"
            " and head"
        )
    ax = _new_axes((6.2, 5.4)) if ax is None else ax
    image = ax.imshow(weights, cmap="viridis", vmin=0, interpolation="nearest")
    length = len(weights)
    finer = [size for size in sizes[1:] if size < len(weights) + offset]
    for depth, size in enumerate(finer):
        for start in range(-(offset % size), length, size):
            low = max(start, 0) - 0.5
            high = min(start + size, length) - 0.5
            width = 2.2 / (depth + 1)
            ax.plot(
                [low, high, high, low, low],
                [low, low, high, high, low],
                color="white",
                linewidth=width,
            )
    ax.locator_params(integer=True)
    ax.set(xlabel="patch looked at", ylabel="looking patch", title=title or "")
    ax.figure.colorbar(image, ax=ax, label="weight")
    return ax


def save_plot(ax: Axes, path: str | Path) -> None:
    """Write the figure of ``ax`` in one step, in the format that the file's name asks for.

    Args:
        ax: Axes of a figure.
        path: File such as ``forecast.png``; its folder is made if need be.

    Raises:
        ValueError: If the format is unknown.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    kind = check_format(path)
    figure: Any = ax.figure.canvas.figure  # the whole figure, also of axes in a part of one
    write_atomic(path, lambda aside: figure.savefig(aside, format=kind, dpi=130))


def check_format(path: str | Path) -> str:
    """The picture format that a file's name asks for.

    Args:
        path: File such as ``forecast.png``.

    Raises:
        ValueError: If matplotlib cannot write such a file.
    """
    known = sorted(_figure_class()().canvas.get_supported_filetypes())
    kind = Path(path).suffix.removeprefix(".").lower()
    if kind not in known:
        raise ValueError(f"{path} names no picture format; end it in one of {', '.join(known)}")
    return kind


def _figure_class() -> Any:
    # A Figure by itself draws through Agg or the format's own backend; pyplot would keep global
    # state.
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("pictures need matplotlib; run `pip install matplotlib`") from None
    return Figure


def _new_axes(size: tuple[float, float] = (10, 4.5)) -> Axes:
    return _figure_class()(figsize=size, layout="constrained").subplots()


def _new_grid(n: int) -> list[Axes]:
    """Axes of ``n`` small pictures on one figure, a large one where there is one."""
    if n == 1:
        return [_new_axes()]
    n_columns = 2 if n <= 4 else 3
    n_rows = -(-n // n_columns)
    figure = _figure_class()(figsize=(4.5 * n_columns, 2.6 * n_rows + 0.8), layout="constrained")
    axes: list[Axes] = [*figure.subplots(n_rows, n_columns).flat]
    for spare in axes[n:]:
        spare.remove()
    return axes[:n]


def _read_forecast(table: TableLike, panel: Panel) -> Forecast:
    """The frame of a forecast of ``panel`` as arrays again."""
    dialect = panel.dialect
    frame = check_frame(table, "error")
    time_col = "ds" if dialect.time_col is None else dialect.time_col
    if dialect.kind == "wide":
        read = from_wide(frame, Schema(time_col=time_col), freq=panel.freq)
        columns = dict(zip(read.channels, read.values.T, strict=True))
        names = panel.channels
    else:
        id_col = "unique_id" if dialect.id_col is None else dialect.id_col
        stamps = {id_col, time_col}
        numbers = [str(column) for column in frame.columns if column not in stamps]
        # What ends like a bound is one if the rest is a column too.
        points = [
            each
            for each in numbers
            if (name := _SUFFIX.sub("", each)) == each or name not in numbers
        ]
        if len(points) != 1:
            raise ValueError(
                f"a forecast has one column of points beside {' and '.join(map(str, stamps))}; got"
                f" {', '.join(points) or 'none'}: pass the frame that predict returned, of one"
                " model"
            )
        others = tuple(column for column in numbers if column not in points)
        read = from_long(
            frame, Schema(id_col, time_col, points[0], past_cols=others), freq=panel.freq
        )
        columns = {points[0]: read.values[:, 0]}
        names = (points[0],)
        if read.covariates is not None:
            columns |= dict(zip(others, read.covariates.values.T, strict=True))
    n_steps = int(read.lengths[0])
    if (read.lengths != n_steps).any():
        n = int(np.argmax(read.lengths != n_steps))
        raise ValueError(
            f"a forecast has as many rows for every series; got {n_steps} for {read.ids[0]!r} and"
            f" {read.lengths[n]} for {read.ids[n]!r}: pass the frame that predict returned"
        )
    for name in names:
        if name not in columns:
            raise ValueError(
                f"the forecast has no column {name!r}, which the history has; pass the frames of"
                " one table"
            )

    def of(suffix: str) -> np.ndarray:
        shape = (read.n_series, n_steps)
        return np.stack([columns[f"{name}{suffix}"].reshape(shape) for name in names], axis=-1)

    quantiles = {}
    for column in columns:
        found = _SUFFIX.search(column)
        if (
            found
            and column == f"{names[0]}{found[0]}"
            and all(f"{name}{found[0]}" in columns for name in names)
        ):
            side = found["side"]
            number = float(found["number"])
            lower, upper = (number, 0.0) if side == "q" else level_to_quantiles(number)
            quantiles[upper if side == "hi-" else lower] = of(found[0])
    return Forecast(
        point=of(""),
        ids=read.ids,
        channels=panel.channels,
        times=read.times,
        cutoffs=read.times[read.starts[:-1]],
        alias="forecast" if dialect.kind == "wide" else names[0],
        dialect=dialect,
        quantiles=quantiles,
    )


def _chosen(
    forecast: Forecast, series: Any, *, one: bool
) -> tuple[list[tuple[int, int]], dict[tuple[int, int], str]]:
    """Places (series, channel) to draw, and the names of all there are; long tables name series,
    wide ones channels.
    """
    long = forecast.dialect.kind == "long"
    known = list(forecast.ids if long else forecast.channels)
    names = {(n, 0) if long else (0, n): _shown(name) for n, name in enumerate(known)}
    several = (
        series if isinstance(series, list | tuple | np.ndarray | pd.Index | pd.Series) else [series]
    )
    if series is None:
        chosen = [*names][:1] if one else [*names]
    else:
        chosen = [_place(known, long, each, "the forecast") for each in several]
    if not chosen or (one and len(chosen) > 1):
        raise ValueError(
            f"series must name {'one for one ax' if one else 'at least one'}; got {series!r}"
        )
    return chosen, names


@dataclass(frozen=True)
class _Rows:
    """The rows of one series in a panel, before the first row of its forecast and from there on."""

    times: np.ndarray
    values: np.ndarray
    n_before: int

    @property
    def n_ahead(self) -> int:
        return len(self.values) - self.n_before


def _rows_of(panel: Panel, forecast: Forecast, n: int, c: int) -> _Rows:
    long = forecast.dialect.kind == "long"
    name = forecast.ids[n] if long else forecast.channels[c]
    places = {each: place for place, each in enumerate(panel.series_names)}
    if name not in places or (panel.dialect.kind == "long") != long:
        raise ValueError(
            f"the history has no series {name!r}, which the forecast has; pass the table that was"
            " forecast"
        )
    if (kind := _kind(panel.times)) != (asked := _kind(forecast.times)):
        raise ValueError(
            f"the forecast has {asked}, and what is to be drawn with it {kind}; pass tables alike"
            " in time"
        )
    m, k = (places[name], 0) if long else (0, places[name])
    own = slice(panel.starts[m], panel.starts[m + 1])
    n_before = int((panel.times[own] < forecast.times[n * forecast.horizon]).sum())
    return _Rows(_stamps(panel.times[own]), panel.values[own, k], n_before)


def _draw(
    ax: Axes, forecast: Forecast, n: int, c: int, before: _Rows, after: _Rows, n_rows: int
) -> None:
    if not before.n_before:
        start = forecast.times[n * forecast.horizon]
        raise ValueError(
            f"the history has no row before {start}, where the forecast begins; pass what was"
            " forecast"
        )
    past = slice(max(before.n_before - n_rows, 0), before.n_before)
    ax.plot(before.times[past], before.values[past], color=_HISTORY, linewidth=1.2, label="history")
    # Forecast and truth go on from the last value that is known.
    known = np.flatnonzero(np.isfinite(before.values[past]))[-1:] + past.start
    steps = _stamps(forecast.times[n * forecast.horizon : (n + 1) * forecast.horizon])

    def joined(ahead: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        times = np.concatenate([before.times[known], steps[: len(ahead)]])
        return times, np.concatenate([before.values[known], ahead])

    point = forecast.point[n, :, c]
    never = np.fmin.reduce(before.values[: before.n_before], initial=np.inf) >= 0
    for q in sorted(
        q for q in forecast.quantiles if q < 0.5 and round(1 - q, 12) in forecast.quantiles
    ):
        lower, upper = (forecast.quantiles[each][n, :, c] for each in (q, round(1 - q, 12)))
        if never:
            lower, upper = (np.maximum(each, np.minimum(point, 0)) for each in (lower, upper))
        level = quantile_to_level(q)
        opacity = min(0.12 + 1.5 * (1 - level / 100), 0.6)
        times, low = joined(lower)
        label = f"{level:g}% interval"
        ax.fill_between(
            times, low, joined(upper)[1], color=_FORECAST, alpha=opacity, linewidth=0, label=label
        )
    if after.n_ahead:
        ahead = after.values[after.n_before :][: forecast.horizon]
        ax.plot(*joined(ahead), color=_TRUTH, linewidth=1.2, label="truth")
    ax.plot(*joined(point), color=_FORECAST, linewidth=1.6, label=_shown(forecast.alias))


def _place(
    known: Sequence[Any] | np.ndarray, long: bool, series: Any, owner: str
) -> tuple[int, int]:
    names = [str(name) for name in known]
    if series is None:
        return 0, 0
    if str(series) not in names:
        few = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise ValueError(f"{owner} has no series {series!r}; it has {few}")
    at = names.index(str(series))
    return (at, 0) if long else (0, at)


def _shown(name: Any) -> str:
    """A name that matplotlib draws as it is: it takes what stands between two $ for mathematics,
    and hides _names.
    """
    text = str(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _colours(result: BacktestResult) -> dict[str, str]:
    """One colour a model, the same in every picture of a result."""
    return {name: _MODELS[i % len(_MODELS)] for i, name in enumerate(result.rolled)}


def _kind(times: pd.Index) -> str:
    return {None: "stamps without a zone", "none": "row numbers"}.get(
        getattr(times, "tz", "none"), "stamps of a zone"
    )


def _stamps(times: pd.Index) -> np.ndarray:
    """Stamps as matplotlib reads them without pandas' converters: local wall time, or integers."""
    if isinstance(times, pd.DatetimeIndex):
        return times.tz_localize(None).to_numpy()
    return times.to_numpy()


def _dress(ax: Axes, title: str, times: pd.Index) -> None:
    ax.set_title(title)
    ax.margins(x=0.01)
    ax.grid(visible=True, alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    if isinstance(times, pd.DatetimeIndex):
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        inches = ax.bbox.width / ax.figure.dpi
        locator = AutoDateLocator(
            minticks=2, maxticks=max(5, int(1.2 * inches))
        )  # with fewer it finds no interval
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        if times.tz is not None:
            ax.set_xlabel(f"time ({times.tz})")
    else:
        ax.locator_params(axis="x", integer=True, nbins=6)


def _add_legend(axes: Sequence[Axes], *, own: bool) -> None:
    """One legend for all axes: below those of a figure of our own, where there is room inside of
    somebody's.
    """
    found = {
        label: line
        for ax in axes
        for line, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    if own:
        figure: Any = axes[0].figure
        options = {"loc": "outside lower center", "ncols": min(len(found), 6), "frameon": False}
        figure.legend([*found.values()], [*found], **options)
    else:
        axes[0].legend([*found.values()], [*found], frameon=False, loc="best")
