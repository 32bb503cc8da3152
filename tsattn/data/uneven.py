"""What is done about stamps at uneven steps: events are added up, measurements are averaged."""

import math

import numpy as np

from tsattn.checks import InPython, Piece

_MINUTE = 60 * 10**9
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
# Steps by which measurements are averaged, in nanoseconds.
_USUAL_STEPS = {
    "s": 10**9,
    "10s": 10 * 10**9,
    "min": _MINUTE,
    "5min": 5 * _MINUTE,
    "15min": 15 * _MINUTE,
    "30min": 30 * _MINUTE,
    "h": _HOUR,
    "D": _DAY,
    "W": 7 * _DAY,
    "MS": 30 * _DAY,
}


def summing_advice(n_series: int) -> list[Piece]:
    """How events become values at even steps.

    One column is added up, since others may be the numbers of orders or customers.
    """
    call = _resampling("D", "sum()", n_series, "[VALUE_COLUMN]")
    return [
        " add events up by the hour, the day or the like",
        InPython(f", as {call} does"),
        ",",
    ]


def averaging_advice(steps: np.ndarray, n_series: int) -> list[Piece]:
    """How measurements become values at even steps.

    Args:
        steps: Nanoseconds between neighbouring stamps of the series.
        n_series: How many series there are.
    """
    typical = max(float(np.median(steps)), 1.0)
    unit = min(_USUAL_STEPS, key=lambda name: abs(math.log(typical / _USUAL_STEPS[name])))
    call = _resampling(unit, "mean(numeric_only=True)", n_series)
    return [f" average measurements by steps of {unit!r}", InPython(f", as {call} does"), ","]


def has_even_steps(steps: np.ndarray) -> bool:
    """Whether most steps of a series have one length."""
    _, counts = np.unique(steps, return_counts=True)
    return bool(2 * counts.max(initial=0) >= len(steps))


def _resampling(unit: str, method: str, n_series: int, column: str = "") -> str:
    """The call of pandas that aggregates the rows within each step, maybe of one column."""
    if n_series == 1:
        return f"df.resample({unit!r}, on=TIME_COLUMN){column}.{method}"
    grouper = f"pd.Grouper(key=TIME_COLUMN, freq={unit!r})"
    return f"df.groupby([ID_COLUMN, {grouper}]){column}.{method}.reset_index()"
