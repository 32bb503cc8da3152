"""Forecasts and forecasters as HTML for notebooks: small, escaped, without scripts."""

from html import escape
from typing import Any

# Rows of a forecast that are shown.
_MOST_ROWS = 10
# Columns of one that are shown, the first and the last.
_MOST_COLUMNS = 20
# Characters of a setting that are shown.
_MOST_CHARACTERS = 120
# Digits of a number that are shown, at least and at most.
_LEAST_DIGITS = 4
_MOST_DIGITS = 15


def number_text(value: float) -> str:
    """A number with one digit after the point, or more where there are few before it."""
    digits = len(f"{abs(value):.0f}") + 1
    shown = min(max(digits, _LEAST_DIGITS), _MOST_DIGITS)
    return f"{value:.{shown}g}"


def forecast_html(forecast: Any) -> str:
    """A :class:`tsattn.Forecast`: what it is, its first rows, and the outer ones of its columns."""
    n_series = len(forecast.ids)
    heading = f"Forecast by {forecast.alias}: {n_series} series, {forecast.horizon} rows ahead"
    frame = forecast.to_frame()
    has_index = forecast.dialect.time_col is None
    table = frame.head(_MOST_ROWS).to_html(
        border=0, index=has_index, max_cols=_MOST_COLUMNS, float_format=number_text
    )
    cuts = []
    for shown, count, unit in zip(
        (_MOST_ROWS, _MOST_COLUMNS), frame.shape, ("rows", "columns"), strict=True
    ):
        if shown < count:
            cuts.append(f"{shown} of {count} {unit}")
    more = f"\n<p>{' and '.join(cuts)}; .to_frame() has all</p>" if cuts else ""
    return f"<p>{escape(heading)}</p>\n{table}{more}"


def forecaster_html(forecaster: Any) -> str:
    """A :class:`tsattn.forecaster.Forecaster`: its name, whether it is fitted, its settings."""
    kind = type(forecaster).__name__
    state = "not fitted"
    if forecaster.state_ is not None:
        panel = forecaster.state_.panel
        state = f"fitted to {panel.n_series} series, frequency {panel.freq}"
    lines = []
    for name, value in forecaster.get_params(deep=False).items():
        text = repr(value)
        if len(text) > _MOST_CHARACTERS:
            text = f"{text[:_MOST_CHARACTERS]}..."
        lines.append(f"<tr><th>{escape(name)}</th><td><code>{escape(text)}</code></td></tr>")
    rows = "\n".join(lines)
    heading = f"<p><strong>{escape(kind)}</strong>, {escape(state)}</p>"
    return f"{heading}\n<table>\n{rows}\n</table>"
