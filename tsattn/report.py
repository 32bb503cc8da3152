"""One self-contained HTML page of a forecast: its series drawn, scores, and what was chosen."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsattn.checks import listed
from tsattn.data.grid import owners_of, rows_of
from tsattn.data.panel import Panel
from tsattn.evaluate.backtest import backtest
from tsattn.forecaster import Forecaster, forecast_panel
from tsattn.forecasters.naive import SeasonalNaive
from tsattn.forecasts import Forecast, without_skipped
from tsattn.levels import level_to_quantiles
from tsattn.notebook import number_text
from tsattn.storage import write_bytes

# Level, lower and upper bounds of each band.
_Bands = list[tuple[float, np.ndarray, np.ndarray]]
# Level of the bands that are drawn where the forecast has none.
_USUAL_LEVEL = 80
# Rows of history that are drawn, in horizons.
_HISTORY_HORIZONS = 5
# Rows of history that are drawn of a series, at least where it has so many, and at most.
_LEAST_HISTORY = 24
_MOST_HISTORY = 1000
# Values of all series in a page, about, which makes some megabytes.
_PAGE_VALUES = 600_000
# Series without a forecast that are named.
_NAMED_SERIES = 10
# Digits of the range of a series that its values in a page have, and significant digits of a
# number at most.
_DIGITS = 6
_MOST_DIGITS = 15
# Significant digits of errors.
_ERROR_DIGITS = 4
# Characters that would end a script, or break it in old browsers, and what JSON writes instead.
_ESCAPES = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


def write_report(
    path: str | Path,
    forecaster: Forecaster,
    panel: Panel,
    forecast: Forecast | None = None,
    *,
    judge: bool = True,
    title: str | None = None,
) -> None:
    """Write a page with the forecasts of a fitted forecaster, whole or not at all.

    The page needs no network and no other file. It has a table of the series, which can be searched
    and sorted, and draws the series that is chosen or in view. It shows the scores of the
    forecaster and of the seasonal naive rule on the last window of each series, and what the
    forecaster chose.

    Args:
        path: File such as ``page.html``; its folder is made if need be.
        forecaster: Fitted.
        panel: The series that are forecast.
        forecast: Their forecast; ``None`` makes one. One without bands gets those of level 80 in
            the page where the forecaster gives them and reads no future columns.
        judge: Fit a copy of the forecaster to the rows before the last window of each series, and
            judge it there.
        title: Heading of the page.

    Raises:
        ValueError: If the forecaster is not fitted, or a series too short.
        OSError: If the file cannot be written.
    """
    forecaster.check_fitted()
    if forecast is None:
        forecast = forecast_panel(forecaster, panel)
    page = report_page(forecaster, panel, forecast, judge=judge, title=title)
    write_bytes(Path(path), page.encode())


def report_page(
    forecaster: Forecaster,
    panel: Panel,
    forecast: Forecast,
    *,
    judge: bool = True,
    title: str | None = None,
) -> str:
    """The page of :func:`write_report`, whose arguments these are."""
    forecast = without_skipped(forecast, panel.n_series)
    scores = None
    series_scores = None
    note = ""
    if judge:
        scores, series_scores, note = _judged(forecaster, panel)
    bands = _bands(forecaster, panel, forecast)
    tables = _tables(forecaster, scores)
    heading = title or f"Forecast by {forecast.alias}"
    summary = _summary(panel, forecast)
    data = _data(panel, forecast, bands, series_scores)
    parts = {
        "@TITLE@": escape(heading),
        "@SUMMARY@": escape(summary),
        "@NOTE@": escape(note),
        "@TABLES@": tables,
        "@DATA@": _script_json(data),
    }
    template = resources.files("tsattn").joinpath("report.html")
    page = template.read_text(encoding="utf-8")
    # Each mark is replaced where the template has it, never inside of a text put in before.
    for piece, text in parts.items():
        page = page.replace(piece, text.replace("@", _MARK))
    return page.replace(_MARK, "@")


# Stands for "@" in texts that were put in, until all marks are replaced.
_MARK = "\ue000"


def _summary(panel: Panel, forecast: Forecast) -> str:
    last_times = panel.dialect.restore_times(panel.last_times())
    last = _stamp(last_times.max())
    kind = "" if forecast.is_mean is None else _point_kind(forecast.is_mean)
    left_out = _left_out(panel)
    return (
        f"{panel.n_series} series, {forecast.horizon} rows ahead, frequency {panel.freq}, last row"
        f" {last}.{kind}{left_out}"
    )


def _left_out(panel: Panel) -> str:
    """The series that are not forecast, as a sentence."""
    if not panel.skipped:
        return ""
    reasons = [f"{series.name} {series.reason}" for series in panel.skipped]
    return f" Left out: {listed(reasons, _NAMED_SERIES, '; ')}."


def _point_kind(is_mean: np.ndarray) -> str:
    n_means = int(is_mean.sum())
    if n_means == 0:
        return " The points are medians."
    if n_means == len(is_mean):
        return " The points are means."
    return f" The points of {n_means} series are means, those of the others medians."


def _judged(
    forecaster: Forecaster, panel: Panel
) -> tuple[pd.DataFrame | None, pd.DataFrame | None, str]:
    """Scores of the forecaster and of the seasonal naive rule, those of each series, and a note."""
    # The rule cannot leave missing values out.
    schema = forecaster.schema.changed(missing="interpolate")
    rule = SeasonalNaive(forecaster.horizon, schema=schema, alias="seasonal naive")
    judged = {forecaster.alias_: forecaster, rule.alias_: rule}
    judged_panel = replace(panel, skipped=())
    try:
        result = backtest(judged, judged_panel, schema=forecaster.schema)
    except ValueError as error:
        return None, None, f"The forecaster was not judged: {error}."
    note = f"Judged on the last {forecaster.horizon} rows of each series, fitted on those before."
    n_short = panel.n_series - result.panel.n_series
    if n_short:
        note += f" {n_short} of {panel.n_series} series are too short for that."
    scores_by_series = result.by_series.loc[[forecaster.alias_]].set_axis(result.panel.ids)
    return result.scores, scores_by_series.reindex(panel.ids), note


def _bands(forecaster: Forecaster, panel: Panel, forecast: Forecast) -> _Bands:
    """Level and bounds ``[N, F]`` of the bands, the widest first."""
    levels = forecast.levels
    source = forecast
    if not levels and forecaster.gives_quantiles and not forecaster.covariate_columns_.future:
        quantiles = level_to_quantiles(_USUAL_LEVEL)
        has_quantiles = set(quantiles) <= {*forecaster.sampled_quantiles}
        if has_quantiles and forecast.source is not None:
            levels = (_USUAL_LEVEL,)
            source = forecast_panel(forecaster, panel, level=_USUAL_LEVEL, horizon=forecast.horizon)
    bands = []
    for level in sorted(levels, reverse=True):
        lower, upper = level_to_quantiles(level)
        bands.append((level, source.quantiles[lower], source.quantiles[upper]))
    return bands


def _tables(forecaster: Forecaster, scores: pd.DataFrame | None) -> str:
    """The scores, and what the forecaster chose, as HTML."""
    parts = []
    if scores is not None:
        shown_scores = scores[["mae_original", "smape", "mase"]]
        parts.append(_table("Backtest", shown_scores))
    board = getattr(forecaster, "leaderboard_", None)
    if isinstance(board, pd.DataFrame):
        parts.append(_table("What was chosen", board))
    else:
        settings = escape(repr(forecaster))
        parts.append(f"<h2>What was chosen</h2>\n<p><code>{settings}</code></p>")
    return "\n".join(parts)


def _table(heading: str, frame: pd.DataFrame) -> str:
    """A small table with a heading."""
    heads = [frame.index.name or "", *frame.columns]
    head_cells = [f'<th scope="col">{escape(str(head))}</th>' for head in heads]
    lines = [_table_row(head_cells)]
    for name, *values in frame.itertuples():
        name_text = escape(str(name))
        cells = [f"<td>{name_text}</td>", *map(_cell, values)]
        lines.append(_table_row(cells))
    body = "\n".join(lines)
    heading_text = escape(heading)
    return f'<h2>{heading_text}</h2>\n<div class="scroll"><table>\n{body}\n</table></div>'


def _table_row(cells: list[str]) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        number = "" if math.isnan(value) else number_text(value)
        return f"<td>{number}</td>"
    text = escape(str(value))
    return f'<td class="text">{text}</td>'


def _data(
    panel: Panel,
    forecast: Forecast,
    bands: _Bands,
    scores: pd.DataFrame | None,
) -> dict[str, Any]:
    """What the page draws."""
    n_rows = _history_rows(panel, forecast, len(bands))
    past = panel.last(n_rows)
    # Series with the same stamps share their texts.
    stamps: dict[tuple[Any, int], int] = {}
    stamp_texts = []
    stamps_of = []
    digits: list[int] = []
    past_numbers = []
    points = []
    bounds_of = []
    for n, cutoff in enumerate(forecast.cutoffs):
        past_times = past.times[rows_of(past.starts, n)]
        key = (cutoff, len(past_times))
        if key not in stamps:
            stamps[key] = len(stamps)
            first_ahead = n * forecast.horizon
            times_ahead = forecast.times[first_ahead : first_ahead + forecast.horizon]
            all_times = panel.dialect.restore_times(past_times.append(times_ahead))
            stamp_texts.append([_stamp(stamp) for stamp in all_times])
        stamps_of.append(stamps[key])
        values = np.concatenate([past.values[rows_of(past.starts, n), 0], forecast.point[n]])
        digits.append(_digits(values))
        past_numbers.append(_numbers(values[: len(past_times)], digits[n]))
        points.append(_numbers(forecast.point[n], digits[n]))
        bounds = []
        for _, lower, upper in bands:
            bounds += [_numbers(lower[n], digits[n]), _numbers(upper[n], digits[n])]
        bounds_of.append(bounds)
    id_name = panel.dialect.id_col or "series"
    return {
        "idName": str(id_name),
        "ids": [str(name) for name in forecast.ids],
        "past": past_numbers,
        "point": points,
        "bands": bounds_of,
        "stamps": stamp_texts,
        "stampsOf": stamps_of,
        "columns": _columns(panel, forecast, scores, digits),
        "legend": _legend(forecast, bands),
    }


def _history_rows(panel: Panel, forecast: Forecast, n_bands: int) -> int:
    """Rows of history in the page of each series."""
    # The points, and both bounds of each band.
    n_forecast_values = forecast.horizon * (1 + 2 * n_bands)
    n_series_values = _PAGE_VALUES // panel.n_series
    room = n_series_values - n_forecast_values
    wished = max(_HISTORY_HORIZONS * forecast.horizon, _LEAST_HISTORY)
    n_rows = min(wished, room)
    return int(np.clip(n_rows, _LEAST_HISTORY, _MOST_HISTORY))


def _digits(values: np.ndarray) -> int:
    """Significant digits of the values of a series that tell them apart."""
    finite = values[np.isfinite(values)]
    span = np.ptp(finite) if len(finite) else 0.0
    if not 0 < span < math.inf:
        return _MOST_DIGITS
    n_equal = math.floor(math.log10(np.abs(finite).max())) - math.floor(math.log10(span))
    return min(_DIGITS + max(n_equal, 0), _MOST_DIGITS)


def _columns(
    panel: Panel, forecast: Forecast, scores: pd.DataFrame | None, digits: Sequence[int]
) -> list[dict[str, Any]]:
    """Columns of the table of series, whose values have so many digits."""
    cells = pd.Series(panel.values[:, 0])
    # The last one that is not missing.
    last_values = cells.groupby(owners_of(panel.starts)).last().to_numpy()
    last_and_mean = np.column_stack([last_values, forecast.point.mean(axis=1)])
    rounded = [_numbers(pair, n) for pair, n in zip(last_and_mean, digits, strict=True)]
    last_stamps = [_stamp(cutoff) for cutoff in panel.dialect.restore_times(forecast.cutoffs)]
    columns: list[tuple[str, list[Any]]] = [
        ("rows", panel.lengths.tolist()),
        ("last row", last_stamps),
        ("last value", [last for last, _ in rounded]),
        ("mean forecast", [mean for _, mean in rounded]),
    ]
    if scores is not None:
        absolute_errors = scores["mae_original"].to_numpy()
        scaled_errors = scores["mase"].to_numpy()
        columns.append(("MAE", _numbers(absolute_errors, _ERROR_DIGITS)))
        columns.append(("MASE", _numbers(scaled_errors, _ERROR_DIGITS)))
    return [{"name": name, "values": values} for name, values in columns]


def _legend(forecast: Forecast, bands: _Bands) -> str:
    levels = ", ".join(f"{level}%" for level, _, _ in bands)
    band_text = f"; bands hold {levels}" if bands else ""
    return f"Dark: the last rows. Blue: {forecast.horizon} rows forecast{band_text}."


def _stamp(stamp: Any) -> str:
    return str(stamp).removesuffix(" 00:00:00")


def _numbers(values: np.ndarray, digits: int) -> list[float | None]:
    """Numbers with so many significant digits, ``None`` where one is missing."""
    return [
        float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in values.tolist()
    ]


def _script_json(data: dict[str, Any]) -> str:
    """JSON that no text in it can end."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character, escaped in _ESCAPES.items():
        text = text.replace(character, escaped)
    return text
