"""Pictures of forecasts, backtests, scores and attention, drawn by matplotlib without pyplot."""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tsattn.checks import InputWarning, check_choice, check_whole, listed
from tsattn.data.calendar import kind_of_times
from tsattn.data.columns import TableLike, check_frame
from tsattn.data.frames import from_long, from_wide, to_target_panel
from tsattn.data.grid import rows_of
from tsattn.data.panel import Panel, without_sentinels
from tsattn.data.schema import Schema
from tsattn.evaluate.backtest import BacktestResult
from tsattn.forecasts import Forecast, with_skipped
from tsattn.levels import central_bounds, level_to_quantiles
from tsattn.silence import ignored
from tsattn.storage import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_SERIES = 12  # on one figure
_MOST_NAMES = 5  # of series in a title or an error
_HISTORY_HORIZONS = 5  # of history, by default
_TITLE_CHARACTERS = 90  # of a line
_PICTURE_DPI = 130
# The end of the name of a column with bounds or quantiles.
_SUFFIX = re.compile(r"-(?P<side>lo-|hi-|q)(?P<number>\d+(\.\d+)?)$")
# Dark enough for print, and distinct for colour-blind readers.
_HISTORY_COLOUR = "#333333"
_FORECAST_COLOUR = "#0b6aa2"
_TRUTH_COLOUR = "#b3541e"
_CUTOFF_COLOUR = "#bbbbbb"
_MODEL_COLOURS = (
    "#0b6aa2",
    "#b3541e",
    "#2a7f3e",
    "#8a5a9e",
    "#b08a00",
    "#777777",
    "#1aa3a3",
    "#c2477f",
)


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
    """Draw the end of the history and the forecast with its bands, one picture a series.

    A band lies between two quantiles at equal distance from the median; the widest band is the
    lightest. Where no value of the history is negative, bands stop at zero, or at the point
    forecast if that is negative. The forecast itself does not change.

    Args:
        history: The series that were forecast, as a table or panel. Rows from the first forecast
            row on are truth.
        forecast: What ``predict``, :func:`tsattn.forecast` or
            :func:`tsattn.forecaster.forecast_panel` returned.
        schema: How tables are read; default :class:`tsattn.Schema`'s.
        series: Ids of a long table or columns of a wide one, one or a list of several, each a tuple
            of values where several columns name series; default all, or the first one with ``ax``,
            without those that were left out of the forecast. At most twelve are drawn, and the
            title of the figure names the others.
        n_history: Rows of history to show; default five horizons.
        truth: Table or panel that holds the rows after the cutoff, where ``history`` does not.
        title: Default: the name of the series.
        ax: Axes for one series; default those of a new figure outside of pyplot.

    Returns:
        The axes; of several series those of the first. ``ax.figure.savefig(...)`` or
        :func:`save_plot` writes the whole figure to a file.

    Raises:
        TypeError: If ``history`` or ``truth`` is no table.
        ValueError: If a table is faulty, the history lacks a series of the forecast or all its
            rows, a name is unknown, or several series are to be drawn on one ``ax``.
    """
    schema = Schema() if schema is None else schema
    panel = to_target_panel(history, schema)
    if not isinstance(history, Panel):
        # The forecast has told of numbers such as -9999. A picture down to them shows little else.
        with ignored((InputWarning, "")):
            panel = without_sentinels(panel, keeps=schema.missing == "error")
    if not isinstance(forecast, Forecast):
        forecast = _read_forecast(forecast, panel)
    truth_panel = panel if truth is None else to_target_panel(truth, schema)
    names = [_plain_text(name) for name in forecast.ids]
    drawn, others = _chosen_series(forecast, series, only_one=ax is not None)
    if n_history is None:
        n_history = _HISTORY_HORIZONS * forecast.horizon
    else:
        check_whole("n_history", n_history)
    histories = [_rows_of(panel, forecast, n) for n in drawn]
    truths = [_rows_of(truth_panel, forecast, n) for n in drawn]
    if truth is not None:
        for n, rows in zip(drawn, truths, strict=True):
            _check_reach(rows, _first_time(forecast, n))
    n_drawn = len(drawn)
    several = n_drawn + len(others) > 1
    axes = _new_grid(n_drawn) if ax is None else [ax]
    for i, n in enumerate(drawn):
        _draw_forecast(axes[i], forecast, n, histories[i], truths[i], n_history)
        # One title is that of the only picture, or of all of them.
        own_title = names[n] if several or title is None else title
        _dress(axes[i], own_title, forecast.times)
    if several:
        left_out = [names[n] for n in others]
        heading = _heading(title, n_drawn, left_out)
        axes[0].figure.suptitle(heading)
    _add_legend(axes, is_new_figure=ax is None)
    return axes[0]


def _heading(title: str | None, n_drawn: int, left_out: Sequence[str]) -> str:
    """The title of a figure of several series, which names the series that are not drawn."""
    parts = [] if title is None else [title]
    if left_out:
        n_series = n_drawn + len(left_out)
        parts.append(f"{n_drawn} of {n_series} series, without {listed(left_out, _MOST_NAMES)}")
    text = "; ".join(parts)
    lines = textwrap.wrap(text, _TITLE_CHARACTERS)
    return "\n".join(lines)


def plot_backtest(
    result: BacktestResult,
    *,
    series: Any = None,
    models: Sequence[str] | None = None,
    n_cutoffs: int = 4,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one series over the judged rows, and the forecasts of each model from some cutoffs.

    Args:
        result: What :func:`tsattn.backtest` returned, with its forecasts (``keep=True``).
        series: An id of a long table, a tuple of values where several columns name series, or a
            column of a wide one; default the first.
        models: Names of models, drawn in this order; default all.
        n_cutoffs: Number of cutoffs to show. They are spread evenly and include the last one. A
            vertical line marks each.
        title: Default: the name of the series.
        ax: Axes to draw on; default those of a new figure outside of pyplot.

    Returns:
        The axes.

    Raises:
        ValueError: If a name is unknown, ``n_cutoffs`` is below 1, or forecasts were not kept.
    """
    panel = result.panel
    names = list(result.rolled) if models is None else list(models)
    if isinstance(models, str):
        names = [models]
    for name in names:
        if name not in result.rolled:
            models_text = ", ".join(result.rolled)
            raise ValueError(f"the result has no model {name!r}; it has {models_text}")
        if result.rolled[name].point is None:
            raise ValueError(
                "the forecasts were not kept; run the backtest with keep=True to draw them"
            )
    check_whole("n_cutoffs", n_cutoffs)
    n = 0 if series is None else _index_of(panel.ids, series, "the result")
    is_new_figure = ax is None
    if ax is None:
        ax = _new_axes()
    windows = _spread_windows(result, n_cutoffs)
    _draw_backtest(ax, result, n, names, windows)
    if title is None:
        title = _plain_text(panel.ids[n])
    _dress(ax, title, panel.times)
    _add_legend([ax], is_new_figure=is_new_figure)
    return ax


def _spread_windows(result: BacktestResult, n_cutoffs: int) -> np.ndarray:
    """Indices of windows, spread evenly and with the last one."""
    n_windows = result.origins.shape[1]
    n_drawn = min(n_cutoffs, n_windows)
    # From the last window back, which is drawn even if it is the only one.
    spread = np.linspace(n_windows - 1, 0, n_drawn)
    return np.unique(spread.round().astype(int))


def _draw_backtest(
    ax: Axes, result: BacktestResult, n: int, names: Sequence[str], windows: np.ndarray
) -> None:
    """Draw the judged rows of a series, and the cutoffs and forecasts of some windows."""
    panel = result.panel
    horizon = result.horizon
    start = panel.starts[n]
    cutoffs = start + result.origins[n, windows]  # rows at which forecasts begin
    # One horizon of history before the first forecast.
    first_row = max(cutoffs[0] - horizon, start)
    rows = slice(first_row, cutoffs[-1] + horizon)
    times = _plain_stamps(panel.times[rows])
    values = panel.values[rows, 0]
    ax.plot(times, values, color=_HISTORY_COLOUR, linewidth=1.2, label="truth")
    colours = _colours(result)
    n_windows = result.origins.shape[1]
    for window, row in zip(windows, cutoffs, strict=True):
        cutoff_stamps = panel.times[row - 1 : row]
        (cutoff_time,) = _plain_stamps(cutoff_stamps)
        ax.axvline(cutoff_time, color=_CUTOFF_COLOUR, linewidth=0.8, linestyle=":")
        times_ahead = _plain_stamps(panel.times[row : row + horizon])
        for name in names:
            # Windows of one series follow one another.
            all_points = np.asarray(result.rolled[name].point)
            place = n * n_windows + window
            points = all_points[place, :, 0]
            # One label a model in the legend.
            label = _plain_text(name) if window == windows[0] else None
            ax.plot(times_ahead, points, color=colours[name], linewidth=1.4, label=label)


def plot_scores(
    result: BacktestResult,
    *,
    metric: str = "mae",
    by_step: bool = False,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the scores of all models as bars, the best on top, or as lines over the steps ahead.

    Args:
        result: What :func:`tsattn.backtest` returned.
        metric: A column of ``result.scores`` in which less is better. With ``by_step`` it must be
            ``"mae"``.
        by_step: Whether to draw the mean absolute error of each step ahead, one line a model.
        title: Default: the metric.
        ax: Axes to draw on; default those of a new figure outside of pyplot.

    Returns:
        The axes.

    Raises:
        ValueError: If there is no such metric.
    """
    allowed = ["mae"] if by_step else _drawable_metrics(result)
    check_choice("metric", metric, allowed)
    # Bars are drawn from the bottom, so that the best model comes last.
    scores = result.scores[metric].sort_values(ascending=False)
    if by_step:
        best_first = [*scores.index[::-1]]
        return _draw_errors_by_step(result, best_first, title or "error by steps ahead", ax)
    if ax is None:
        height = 0.8 + 0.4 * len(scores)
        ax = _new_axes((7, height))
    colours = _colours(result)
    labels = [_plain_text(name) for name in scores.index]
    bar_colours = [colours[name] for name in scores.index]
    bars = ax.barh(labels, scores.to_numpy(), color=bar_colours)
    ax.bar_label(bars, fmt="%.3g", padding=3)
    # The bound is not zero where all scores are, and leaves room for the labels.
    largest = np.nanmax([*scores, 1e-12])
    ax.set_title(metric if title is None else title)
    ax.set_xlim(0, 1.12 * largest)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _drawable_metrics(result: BacktestResult) -> list[str]:
    """Columns of the scores in which less is better."""
    columns = [*result.scores.columns]
    return [name for name in columns if name != "n_windows" and not name.startswith("coverage")]


def _draw_errors_by_step(
    result: BacktestResult, names: Sequence[Any], title: str, ax: Axes | None
) -> Axes:
    is_new_figure = ax is None
    if ax is None:
        ax = _new_axes()
    steps = pd.RangeIndex(1, result.horizon + 1)
    colours = _colours(result)
    for name in names:
        errors = result.by_step.loc[name, "mae"]
        label = _plain_text(name)
        ax.plot(steps, errors, color=colours[name], linewidth=1.5, label=label)
    _dress(ax, title, steps)
    _add_legend([ax], is_new_figure=is_new_figure)
    ax.set(xlabel="steps ahead", ylabel="MAE, standardised", ylim=(0, None))
    return ax


def plot_attention(
    weights: np.ndarray,
    *,
    block_sizes: Sequence[int] = (),
    offset: int = 0,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one attention map and the outlines of the blocks of its levels.

    Args:
        weights: Weight of each key patch for each query patch, ``[L, L]``: one layer, series
            and head of :meth:`tsattn.AttentionForecaster.attention_maps`.
        block_sizes: Patches per block at each level, coarse to fine, as in
            ``summary_["block_sizes"]``. The finest blocks have the thinnest outlines.
        offset: Shift of the block grid in patches.
        title: Default none.
        ax: Axes to draw on; default those of a new figure.

    Returns:
        The axes: queries down, keys across, the oldest patch first.

    Raises:
        ValueError: If ``weights`` is no square map, or a size or the offset is no whole number.
    """
    weights = np.asarray(weights)
    check_whole("offset", offset, 0)
    all_sizes = np.array(block_sizes, dtype=object, ndmin=1)
    sizes = [check_whole("a size of block_sizes", size) for size in all_sizes]
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1]:
        raise ValueError(
            f"one map has the shape [patches, patches]; got {weights.shape}; pick a layer, series"
            " and head"
        )
    if ax is None:
        ax = _new_axes((6.2, 5.4))
    image = ax.imshow(weights, cmap="viridis", vmin=0, interpolation="nearest")
    n_patches = len(weights)
    # The first level is one block, and so is a level whose block holds all patches.
    finer_sizes = [size for size in sizes[1:] if size < n_patches + offset]
    for depth, size in enumerate(finer_sizes):
        # The deeper a level, the finer its lines.
        linewidth = 2.2 / (depth + 1)
        _outline_blocks(ax, size, offset, n_patches, linewidth=linewidth)
    ax.locator_params(integer=True)
    ax.set(xlabel="patch looked at", ylabel="looking patch", title=title or "")
    ax.figure.colorbar(image, ax=ax, label="weight")
    return ax


def _outline_blocks(ax: Axes, size: int, offset: int, n_patches: int, linewidth: float) -> None:
    """Draw white squares around the blocks of one level."""
    # Blocks are shifted back by the offset, so that the first one may be cut.
    first_start = -(offset % size)
    for start in range(first_start, n_patches, size):
        # A patch reaches half a unit to both sides of its number.
        low = max(start, 0) - 0.5
        high = min(start + size, n_patches) - 0.5
        across = [low, high, high, low, low]
        down = [low, low, high, high, low]
        ax.plot(across, down, color="white", linewidth=linewidth)


def save_plot(ax: Axes, path: str | Path) -> None:
    """Write the figure of ``ax`` in the format of the file's ending, whole or not at all.

    Args:
        ax: Axes of a figure.
        path: File such as ``forecast.png``; its folder is made if need be.

    Raises:
        ValueError: If the format is unknown.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    format_name = check_format(path)
    figure = ax.figure.canvas.figure  # the whole figure, also of axes on a part of one

    def write(temporary: Path) -> None:
        figure.savefig(temporary, format=format_name, dpi=_PICTURE_DPI)

    write_atomic(path, write)


def check_format(path: str | Path) -> str:
    """The picture format of a file's ending.

    Args:
        path: File such as ``forecast.png``.

    Raises:
        ValueError: If matplotlib cannot write such a file.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    formats = sorted(FigureCanvasBase.get_supported_filetypes())
    format_name = Path(path).suffix.removeprefix(".").lower()
    if format_name not in formats:
        endings = ", ".join(formats)
        raise ValueError(f"{path} names no picture format; end it in one of {endings}")
    return format_name


def _new_figure(size: tuple[float, float]) -> Any:
    # A Figure draws without pyplot, which would keep every figure in a global list.
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def _new_axes(size: tuple[float, float] = (10, 4.5)) -> Axes:
    return _new_figure(size).subplots()


def _new_grid(n_pictures: int) -> list[Axes]:
    """Axes of several small pictures on one figure, or of one large picture."""
    if n_pictures == 1:
        return [_new_axes()]
    n_columns = 2 if n_pictures <= 4 else 3
    n_rows = math.ceil(n_pictures / n_columns)
    width = 4.5 * n_columns
    height = 2.6 * n_rows + 0.8
    figure = _new_figure((width, height))
    axes = [*figure.subplots(n_rows, n_columns).flat]
    for spare in axes[n_pictures:]:
        spare.remove()
    return axes[:n_pictures]


# --- the frame of a forecast ----------------------------------------------------------------------


@dataclass(frozen=True)
class _ForecastTable:
    """The columns of a frame that ``predict`` returned.

    Args:
        columns: Name of each column of numbers -> its values.
        names: Names of the columns of points: of a wide table one a series, of a long table one.
        ids: Names of the series.
        rows: The rows, series after series; skipped are the series without a forecast.
        n_steps: Rows of a series.
    """

    columns: Mapping[str | int, np.ndarray]
    names: Sequence[str | int]
    ids: np.ndarray
    rows: Panel
    n_steps: int

    def array(self, suffix: str = "") -> np.ndarray:
        """The columns of points, or of bounds with one suffix, ``[N, F]``."""
        # A name without a suffix may be a number.
        columns = [f"{name}{suffix}" if suffix else name for name in self.names]
        arrays = [self.columns[column] for column in columns]
        values = np.stack(arrays)
        return values.reshape(-1, self.n_steps)

    def suffixes(self) -> dict[float, str]:
        """Quantiles, and the suffixes of the columns that hold them."""
        suffixes = {}
        first_name = self.names[0]
        for column in self.columns:
            match = _SUFFIX.search(str(column))
            if match is None:
                continue
            suffix = match[0]
            if column != f"{first_name}{suffix}":
                continue
            if all(f"{name}{suffix}" in self.columns for name in self.names):
                suffixes[_quantile_of(match)] = suffix
        return suffixes


def _quantile_of(suffix: re.Match[str]) -> float:
    number = float(suffix["number"])
    if suffix["side"] == "q":
        return number
    lower, upper = level_to_quantiles(number)
    return upper if suffix["side"] == "hi-" else lower


def _read_forecast(table: TableLike, panel: Panel) -> Forecast:
    """Read a frame that ``predict`` returned for the series of ``panel``."""
    frame = check_frame(table)
    is_wide = panel.dialect.kind == "wide"
    parsed = _read_wide(frame, panel) if is_wide else _read_long(frame, panel)
    for name in parsed.names:
        if name not in parsed.columns:
            raise ValueError(
                f"the forecast has no column {name!r}, which the history has; pass the frames of"
                " one table"
            )
    # The rows of a wide table repeat for the columns with bounds.
    n_rows = len(parsed.ids) * parsed.n_steps
    times = parsed.rows.times[:n_rows]
    suffixes = parsed.suffixes()
    quantiles = {quantile: parsed.array(suffix) for quantile, suffix in suffixes.items()}
    forecast = Forecast(
        point=parsed.array(),
        ids=parsed.ids,
        times=times,
        cutoffs=times[:: parsed.n_steps],
        alias="forecast" if is_wide else str(parsed.names[0]),
        dialect=panel.dialect,
        quantiles=quantiles,
    )
    return with_skipped(forecast, parsed.rows)


def _read_wide(frame: pd.DataFrame, panel: Panel) -> _ForecastTable:
    schema = Schema(time_col=_time_col(panel))
    rows = from_wide(frame, schema, freq=panel.freq)
    n_steps = _steps_of(rows)
    values = rows.values.reshape(-1, n_steps)
    columns = dict(zip(rows.ids, values, strict=True))
    series_cols = panel.dialect.columns
    skipped = tuple(series for series in rows.skipped if series.name in series_cols)
    empty = {series.name for series in skipped}
    names = [name for name in panel.ids if name not in empty]
    rows = replace(rows, skipped=skipped)
    return _ForecastTable(columns, names, np.array(names, dtype=object), rows, n_steps)


def _read_long(frame: pd.DataFrame, panel: Panel) -> _ForecastTable:
    frame = panel.dialect.with_ids(frame)
    id_col = "unique_id" if panel.dialect.id_col is None else panel.dialect.id_col
    time_col = _time_col(panel)
    key_columns = [id_col, time_col, *panel.dialect.key_cols]
    name = _point_column(frame, key_columns)
    other_roles = {*key_columns, name}
    others = tuple(str(column) for column in frame.columns if column not in other_roles)
    schema = Schema(id_col, time_col, name, past_cols=others)
    rows = from_long(frame, schema, freq=panel.freq)
    points = rows.values[:, 0]
    columns: dict[str | int, np.ndarray] = {name: points}
    if rows.covariates is not None:
        covariate_values = rows.covariates.values.T
        columns |= dict(zip(others, covariate_values, strict=True))
    n_steps = _steps_of(rows)
    return _ForecastTable(columns, (name,), rows.ids, rows, n_steps)


def _steps_of(rows: Panel) -> int:
    """The number of rows of each series."""
    n_steps = int(rows.lengths[0])
    differs = rows.lengths != n_steps
    if differs.any():
        other = int(np.argmax(differs))
        raise ValueError(
            f"a forecast has as many rows for every series; got {n_steps} for"
            f" {rows.series_label(0)} and {rows.lengths[other]} for {rows.series_label(other)}:"
            " pass the frame that predict returned"
        )
    return n_steps


def _time_col(panel: Panel) -> Any:
    time_col = panel.dialect.time_col
    return "ds" if time_col is None else time_col


def _point_column(frame: pd.DataFrame, key_columns: Sequence[Any]) -> str:
    """The one column of points; the others end like a bound of it."""
    numbers = [str(column) for column in frame.columns if column not in key_columns]
    points = []
    for column in numbers:
        name = _SUFFIX.sub("", column)
        # A column that ends like a bound is one only if the frame has a column of its name.
        if name == column or name not in numbers:
            points.append(column)
    if len(points) != 1:
        key_names = " and ".join(map(str, key_columns))
        point_names = ", ".join(points) or "none"
        raise ValueError(
            f"a forecast has one column of points beside {key_names}; got"
            f" {point_names}: pass the frame that predict returned, of one model"
        )
    return points[0]


# --- the choice of series -------------------------------------------------------------------------


def _chosen_series(
    forecast: Forecast, series: Any, *, only_one: bool
) -> tuple[list[int], list[int]]:
    """Indices of the series to draw, and of the others that are asked for."""
    if series is None:
        indices, n_forecast = _series_in_order(forecast)
        if only_one:
            return indices[:1], []
        n_drawn = min(_MOST_SERIES, max(1, n_forecast))
        return indices[:n_drawn], indices[n_drawn:]
    # A tuple of key values names one series.
    is_key = isinstance(series, tuple) and len(forecast.dialect.key_cols) > 0
    is_list = isinstance(series, list | tuple | np.ndarray | pd.Index | pd.Series)
    names = series if is_list and not is_key else [series]
    indices = [_index_of(forecast.ids, name, "the forecast") for name in names]
    if not indices or (only_one and len(indices) > 1):
        rule = "one for one ax" if only_one else "at least one"
        raise ValueError(f"series must name {rule}; got {series!r}")
    return indices[:_MOST_SERIES], indices[_MOST_SERIES:]


def _series_in_order(forecast: Forecast) -> tuple[list[int], int]:
    """Indices of all series, those without a forecast last, and the number of the others."""
    # A wide table is drawn in the order of its columns.
    all_ids = pd.Index(forecast.ids)
    names = pd.Index(forecast.dialect.columns or forecast.ids)
    places = all_ids.get_indexer(names.intersection(all_ids, sort=False))
    # Series that were left out of the forecast have NaN for points.
    is_empty = np.isnan(forecast.point[places]).all(axis=1)
    order = np.argsort(is_empty, kind="stable")
    return places[order].tolist(), int((~is_empty).sum())


def _index_of(ids: np.ndarray, series: Any, owner: str) -> int:
    """Index of a series, by its name as text, or by the values of the columns that name it."""
    names = [str(name) for name in ids]
    name = str(series)
    if name not in names and isinstance(series, tuple):
        from tsattn.data.keys import joined_ids

        (name,) = joined_ids(pd.DataFrame([series]), range(len(series)))
    if name not in names:
        raise ValueError(f"{owner} has no series {series!r}; it has {listed(names, _MOST_NAMES)}")
    return names.index(name)


@dataclass(frozen=True)
class _Rows:
    """The rows of one series, and how many of them lie before the first row of its forecast."""

    times: np.ndarray
    values: np.ndarray
    n_before: int

    @property
    def n_ahead(self) -> int:
        return len(self.values) - self.n_before


def _rows_of(panel: Panel, forecast: Forecast, n: int) -> _Rows:
    name = forecast.ids[n]
    names = [*panel.ids]
    reasons = {series.name: series.reason for series in panel.skipped}
    if np.isnan(forecast.point[n]).all():
        reason = reasons.get(name, "has no value in the forecast")
        raise ValueError(
            f"series {_plain_text(name)!r} {reason} and was left out of the forecast; name"
            " other series"
        )
    if name not in names or panel.dialect.kind != forecast.dialect.kind:
        raise ValueError(
            f"the history has no series {name!r}, which the forecast has; pass the table that was"
            " forecast"
        )
    panel_kind = kind_of_times(panel.times)
    forecast_kind = kind_of_times(forecast.times)
    if panel_kind != forecast_kind:
        raise ValueError(
            f"the forecast has {forecast_kind}, and what is to be drawn with it {panel_kind}; pass"
            " tables alike in time"
        )
    rows = rows_of(panel.starts, names.index(name))
    times = panel.times[rows]
    is_before = times < _first_time(forecast, n)
    n_before = int(is_before.sum())
    return _Rows(_plain_stamps(times), panel.values[rows, 0], n_before)


def _first_time(forecast: Forecast, n: int) -> Any:
    """The stamp of the first forecast row of a series."""
    return forecast.times[n * forecast.horizon]


def _check_reach(truth: _Rows, start: Any) -> None:
    if not truth.n_ahead:
        raise ValueError(f"truth has no row from {start} on; pass the table that reaches further")


# --- drawing --------------------------------------------------------------------------------------


def _draw_forecast(
    ax: Axes, forecast: Forecast, n: int, history: _Rows, truth: _Rows, n_history: int
) -> None:
    """Draw the last rows of the history, the bands, the truth and the points of one series."""
    if not history.n_before:
        raise ValueError(
            f"the history has no row before {_first_time(forecast, n)}, where the forecast"
            " begins; pass what was forecast"
        )
    first_row = max(history.n_before - n_history, 0)
    past = slice(first_row, history.n_before)
    past_times = history.times[past]
    past_values = history.values[past]
    ax.plot(past_times, past_values, color=_HISTORY_COLOUR, linewidth=1.2, label="history")
    # Forecast and truth begin at the last observed value, if there is one.
    observed_rows = np.flatnonzero(np.isfinite(past_values))
    last_observed = observed_rows[-1:]
    horizon = forecast.horizon
    first_step = n * horizon
    steps = _plain_stamps(forecast.times[first_step : first_step + horizon])

    def joined(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        times_ahead = steps[: len(values)]
        times = np.concatenate([past_times[last_observed], times_ahead])
        joined_values = np.concatenate([past_values[last_observed], values])
        return times, joined_values

    smallest = np.fmin.reduce(history.values[: history.n_before], initial=np.inf)
    for level, lower, upper in _bands(forecast, n, nonnegative=smallest >= 0):
        times, low = joined(lower)
        _, high = joined(upper)
        # From 0.12 for the widest band to 0.6 for narrow ones.
        uncovered = 1 - level / 100
        opacity = min(0.12 + 1.5 * uncovered, 0.6)
        label = f"{level:g}% interval"
        ax.fill_between(
            times, low, high, color=_FORECAST_COLOUR, alpha=opacity, linewidth=0, label=label
        )
    if truth.n_ahead:
        values_ahead = truth.values[truth.n_before :][:horizon]
        times, values = joined(values_ahead)
        ax.plot(times, values, color=_TRUTH_COLOUR, linewidth=1.2, label="truth")
    label = _plain_text(forecast.alias)
    points = forecast.point[n]
    times, values = joined(points)
    ax.plot(times, values, color=_FORECAST_COLOUR, linewidth=1.6, label=label)


def _bands(
    forecast: Forecast, n: int, *, nonnegative: bool
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Level, lower and upper bound of each band of a series, the widest first."""
    quantiles = sorted(forecast.quantiles)
    for level, (lower_place, upper_place) in reversed(central_bounds(quantiles).items()):
        lower = forecast.quantiles[quantiles[lower_place]][n]
        upper = forecast.quantiles[quantiles[upper_place]][n]
        if nonnegative:
            floor = np.minimum(forecast.point[n], 0)
            lower = np.maximum(lower, floor)
            upper = np.maximum(upper, floor)
        yield level, lower, upper


def _plain_text(name: Any) -> str:
    """A name that matplotlib draws as it is.

    matplotlib reads text between two $ as mathematics, and hides labels that begin with _.
    """
    text = str(name).replace("$", r"\$")
    # matplotlib leaves names with an underscore in front out of the legend.
    if text.startswith("_"):
        return f" {text}"
    return text


def _colours(result: BacktestResult) -> dict[str, str]:
    """One colour a model, the same in all pictures of a result."""
    # The colours begin again where there are more models.
    colours = itertools.cycle(_MODEL_COLOURS)
    return dict(zip(result.rolled, colours, strict=False))


def _plain_stamps(times: pd.Index) -> np.ndarray:
    """Local wall time, or integers, which matplotlib reads without the converters of pandas."""
    if isinstance(times, pd.DatetimeIndex):
        return times.tz_localize(None).to_numpy()
    return times.to_numpy()


def _dress(ax: Axes, title: str, times: pd.Index) -> None:
    """Set the title, the grid and the ticks of the time axis."""
    ax.set_title(title)
    ax.margins(x=0.01)
    ax.grid(visible=True, alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    if not isinstance(times, pd.DatetimeIndex):
        ax.locator_params(axis="x", integer=True, nbins=6)
        return
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    inches = ax.bbox.width / ax.figure.dpi
    # With fewer ticks than five, the locator finds no interval.
    most_ticks = max(5, int(1.2 * inches))
    locator = AutoDateLocator(minticks=2, maxticks=most_ticks)
    formatter = ConciseDateFormatter(locator)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(formatter)
    if times.tz is not None:
        ax.set_xlabel(f"time ({times.tz})")


def _add_legend(axes: Sequence[Axes], *, is_new_figure: bool) -> None:
    """Add one legend for all axes: below the pictures of a new figure, on the axes of a user's."""
    lines: dict[str, Any] = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        lines |= zip(labels, handles, strict=True)
    all_handles = [*lines.values()]
    all_labels = [*lines]
    if is_new_figure:
        figure = axes[0].figure
        n_columns = min(len(lines), 6)
        figure.legend(
            all_handles, all_labels, loc="outside lower center", ncols=n_columns, frameon=False
        )
    else:
        axes[0].legend(all_handles, all_labels, frameon=False, loc="best")
