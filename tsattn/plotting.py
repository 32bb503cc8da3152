"""What does a forecast look like? Pictures of history, forecast and intervals, drawn and never shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tsattn.data.frames import Panel
from tsattn.evaluate.backtest import BacktestResult
from tsattn.forecaster import Forecast
from tsattn.levels import level_to_quantiles
from tsattn.storage import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Dark enough for print, and told apart by colour-blind readers.
_HISTORY, _FORECAST, _TRUTH = "#333333", "#0b6aa2", "#b3541e"
_MODELS = ("#0b6aa2", "#b3541e", "#2a7f3e", "#8a5a9e", "#b08a00", "#777777", "#1aa3a3", "#c2477f")


def plot_forecast(
    history: Panel,
    forecast: Forecast,
    *,
    series: Any = None,
    n_history: int | None = None,
    truth: Panel | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one series: the end of its history, its forecast, and a band for each level, the widest lightest.

    Args:
        history: The series that were forecast.
        forecast: What :func:`tsattn.forecaster.forecast_panel` or ``predict(panel)`` returned for them.
        series: Which one: an id of a long table, a channel of a wide one; default the first.
        n_history: Rows of history to show; default five horizons.
        truth: Panel that holds the rows after the cutoff, drawn beside the forecast.
        title: Default: the name of the series.
        ax: Axes to draw into; default new ones on a figure of their own, outside of pyplot.

    Returns:
        The axes. ``ax.figure.savefig(...)`` or :func:`save_plot` writes them to a file.

    Raises:
        ValueError: If there is no such series, or nothing of it to show.
        ImportError: If matplotlib is missing.
    """
    n, c = _find(forecast, series)
    shown = n_history if n_history is not None else 5 * forecast.horizon
    if shown < 1:
        raise ValueError(f"n_history must be at least 1 row; got {shown}")
    ax = _new_axes() if ax is None else ax
    past, values = _tail(history, n, c, shown)
    steps = _stamps(forecast.times[n * forecast.horizon : (n + 1) * forecast.horizon])
    ax.plot(past, values, color=_HISTORY, linewidth=1.2, label="history")
    for level in sorted(forecast.levels, reverse=True):
        lower, upper = (forecast.quantiles[q][n, :, c] for q in level_to_quantiles(level))
        opacity = min(0.12 + 1.5 * (1 - level / 100), 0.6)
        ax.fill_between(steps, lower, upper, color=_FORECAST, alpha=opacity, linewidth=0, label=f"{level:g}% interval")
    if truth is not None:
        actual = _after(truth, n, c, forecast)
        ax.plot(steps[: len(actual)], actual, color=_TRUTH, linewidth=1.2, label="truth")
    ax.plot(steps, forecast.point[n, :, c], color=_FORECAST, linewidth=1.6, label=forecast.alias)
    _dress(ax, title if title is not None else _name(forecast, n, c), forecast.times)
    return ax


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
        n_cutoffs: Cutoffs to show, spread evenly and with the last one, each marked by a vertical line.
        title: Default: the name of the series.
        ax: Axes to draw into; default new ones on a figure of their own, outside of pyplot.

    Returns:
        The axes.

    Raises:
        ValueError: If a name is unknown, ``n_cutoffs`` is below 1, or forecasts were not kept.
        ImportError: If matplotlib is missing.
    """
    panel, names = result.panel, list(result.rolled) if models is None else list(models)
    for name in names:
        if name not in result.rolled:
            raise ValueError(f"the result has no model {name!r}; it has {', '.join(result.rolled)}")
        if result.rolled[name].point is None:
            raise ValueError("the forecasts were not kept; run the backtest with keep=True to draw them")
    if n_cutoffs < 1:
        raise ValueError(f"n_cutoffs must be at least 1; got {n_cutoffs}")
    n, c = _place(panel.series_names, panel.dialect.kind == "long", series, "the result")
    ax = _new_axes() if ax is None else ax
    n_windows = result.origins.shape[1]
    shown = np.unique(np.linspace(n_windows - 1, 0, min(n_cutoffs, n_windows)).round().astype(int))
    first = panel.starts[n] + max(result.origins[n, shown[0]] - result.horizon, 0)
    rows = slice(first, panel.starts[n] + result.origins[n, shown[-1]] + result.horizon)
    ax.plot(_stamps(panel.times[rows]), panel.values[rows, c], color=_HISTORY, linewidth=1.2, label="truth")
    for w in shown:
        end = panel.starts[n] + result.origins[n, w]
        ahead = _stamps(panel.times[end : end + result.horizon])
        ax.axvline(_stamps(panel.times[end - 1 : end])[0], color="#bbbbbb", linewidth=0.8, linestyle=":")
        for name in names:
            point = np.asarray(result.rolled[name].point)[n * n_windows + w, :, c]
            ax.plot(ahead, point, color=_colours(result)[name], linewidth=1.4, label=name if w == shown[0] else None)
    _dress(ax, title if title is not None else str(panel.series_names[max(n, c)]), panel.times)
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
        metric: A column of ``result.scores``, of those in which less is better. With ``by_step`` always ``"mae"``.
        by_step: Draw the mean absolute error by steps ahead instead, one line a model.
        title: Default: what is drawn.
        ax: Axes to draw into; default new ones on a figure of their own, outside of pyplot.

    Returns:
        The axes.

    Raises:
        ValueError: If there is no such metric.
        ImportError: If matplotlib is missing.
    """
    known = [name for name in result.scores.columns if name != "n_windows" and not name.startswith("coverage")]
    if metric not in known or (by_step and metric != "mae"):
        allowed = ["mae"] if by_step else known
        raise ValueError(f"metric must be one of {', '.join(allowed)}; got {metric!r}")
    scores = result.scores[metric].sort_values(ascending=False)
    colours = _colours(result)
    if by_step:
        ax, steps = _new_axes() if ax is None else ax, pd.RangeIndex(1, result.horizon + 1)
        for name in scores.index[::-1]:
            ax.plot(steps, result.by_step.loc[name, "mae"], color=colours[name], linewidth=1.5, label=name)
        _dress(ax, title if title is not None else "error by steps ahead", steps)
        ax.set(xlabel="steps ahead", ylabel="MAE, standardised", ylim=(0, None))
        return ax
    ax = _new_axes((7, 0.8 + 0.4 * len(scores))) if ax is None else ax
    bars = ax.barh(
        [str(name) for name in scores.index], scores.to_numpy(), color=[colours[name] for name in scores.index]
    )
    ax.bar_label(bars, fmt="%.3g", padding=3)
    ax.set(title=title if title is not None else metric, xlim=(0, 1.12 * np.nanmax([*scores, 1e-12])))
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
        weights: How much each patch looks at each other one, ``[L, L]``: one layer, series, channel and head of
            :meth:`tsattn.AttentionForecaster.attention_maps`.
        block_sizes: Patches per block at each level, coarse to fine, as in ``summary_["block_sizes"]``; the finest
            blocks are outlined thinnest.
        offset: Shift of the block grid in patches.
        title: Default none.
        ax: Axes to draw into; default new ones on a figure of their own.

    Returns:
        The axes: looking patch down, patch looked at across, oldest first.

    Raises:
        ValueError: If ``weights`` is no square map.
        ImportError: If matplotlib is missing.
    """
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1]:
        raise ValueError(
            f"one map has the shape [patches, patches]; got {weights.shape}; pick a layer, series and head"
        )
    ax = _new_axes((6.2, 5.4)) if ax is None else ax
    image = ax.imshow(weights, cmap="viridis", vmin=0, interpolation="nearest")
    length = len(weights)
    finer = [size for size in block_sizes[1:] if size < length + offset]
    for depth, size in enumerate(finer):
        for start in range(-(offset % size), length, size):
            low, high = max(start, 0) - 0.5, min(start + size, length) - 0.5
            width = 2.2 / (depth + 1)
            ax.plot([low, high, high, low, low], [low, low, high, high, low], color="white", linewidth=width)
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
    # A Figure by itself draws through Agg or the format's own backend; pyplot would keep global state.
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("pictures need matplotlib; run `pip install matplotlib`") from None
    return Figure


def _new_axes(size: tuple[float, float] = (10, 4.5)) -> Axes:
    return _figure_class()(figsize=size, layout="constrained").subplots()


def _find(forecast: Forecast, series: Any) -> tuple[int, int]:
    """Position (series, channel) of a name; long tables name series, wide ones channels."""
    long = forecast.dialect.kind == "long"
    return _place(forecast.ids if long else forecast.channels, long, series, "the forecast")


def _place(known: Sequence[Any] | np.ndarray, long: bool, series: Any, owner: str) -> tuple[int, int]:
    names = [str(name) for name in known]
    if series is None:
        return 0, 0
    if str(series) not in names:
        few = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise ValueError(f"{owner} has no series {series!r}; it has {few}")
    at = names.index(str(series))
    return (at, 0) if long else (0, at)


def _colours(result: BacktestResult) -> dict[str, str]:
    """One colour a model, the same in every picture of a result."""
    return {name: _MODELS[i % len(_MODELS)] for i, name in enumerate(result.rolled)}


def _name(forecast: Forecast, n: int, c: int) -> str:
    return str(forecast.ids[n] if forecast.dialect.kind == "long" else forecast.channels[c])


def _tail(panel: Panel, n: int, c: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    last = slice(max(panel.starts[n], panel.starts[n + 1] - rows), panel.starts[n + 1])
    return _stamps(panel.times[last]), panel.values[last, c]


def _after(truth: Panel, n: int, c: int, forecast: Forecast) -> np.ndarray:
    own = slice(truth.starts[n], truth.starts[n + 1])
    later = truth.times[own] > forecast.cutoffs[n]
    if not later.any():
        raise ValueError(f"truth has no row after {forecast.cutoffs[n]}; pass the panel that reaches further")
    return truth.values[own, c][later][: forecast.horizon]


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
    ax.legend(frameon=False, loc="upper left")
    if isinstance(times, pd.DatetimeIndex) and times.tz is not None:
        ax.set_xlabel(f"time ({times.tz})")
