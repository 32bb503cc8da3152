"""Which quantiles do levels name, and which columns do they fill? Two spellings of the same
numbers.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np

# Levels and quantiles are decimal numbers to their users: 1 - 0.9 must name the quantile 0.1.
_DECIMALS = 12


def interval_columns(
    levels: Sequence[float], quantiles: Sequence[float]
) -> list[tuple[str, float]]:
    """Column suffixes and the quantile that fills each: ``lo-80``, ``hi-80``, then ``q0.1``.

    Example:
        >>> interval_columns((80,), (0.5,))
        [('lo-80', 0.1), ('hi-80', 0.9), ('q0.5', 0.5)]
    """
    pairs = [(level, level_to_quantiles(level)) for level in levels]
    bounds = [
        (f"{side}-{level}", q)
        for level, both in pairs
        for side, q in zip(("lo", "hi"), both, strict=True)
    ]
    return bounds + [(f"q{q}", q) for q in quantiles]


def level_to_quantiles(level: float | Iterable[float]) -> tuple[float, ...]:
    """Quantiles that bound central levels: 80 is 0.1 and 0.9.

    Args:
        level: One level in percent or several, each at least 1 and below 100: 0.8 is taken for a
            mistake.

    Returns:
        Ascending quantiles, two a level, rounded to decimals so that they equal what a user would
        type.

    Raises:
        ValueError: If a level is no number or out of range.

    Example:
        >>> level_to_quantiles(80)
        (0.1, 0.9)
        >>> level_to_quantiles([80, 95])
        (0.025, 0.1, 0.9, 0.975)
    """
    lower = [round(0.5 - each / 200, _DECIMALS) for each in _levels(level)]
    return tuple(sorted({*lower, *(round(1 - q, _DECIMALS) for q in lower)}))


def refuse_twice(columns: Sequence[Any]) -> None:
    """Refuse an answer in which two columns would have one name.

    Raises:
        ValueError: Naming it.
    """
    name, count = max(
        Counter(columns).items(), key=lambda each: each[1]
    )  # a wide table may have thousands
    if count > 1:
        raise ValueError(
            f"two columns of the answer would be called {name!r}; rename it, or give another alias="
        )


def quantile_to_level(quantile: float) -> float:
    """Central level in percent of which a quantile is a bound; 0 for the median.

    Raises:
        ValueError: If it is not strictly between 0 and 1.

    Example:
        >>> quantile_to_level(0.025)
        95
    """
    (q,) = _quantiles(quantile)
    return _plain(round(abs(1 - 2 * q) * 100, _DECIMALS - 2))


def check_request(
    level: float | Iterable[float] | None, quantiles: float | Iterable[float] | None
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Validate a request for intervals; levels and quantiles may be asked together.

    Returns:
        The levels, the quantiles, and all quantiles that serve both, each ascending without
        repeats.

    Raises:
        ValueError: If a level or a quantile is no number or out of range.

    Example:
        >>> check_request(80, [0.5])
        ((80,), (0.5,), (0.1, 0.5, 0.9))
    """
    levels = () if level is None else _levels(level)
    asked = () if quantiles is None else _quantiles(quantiles)
    return levels, asked, tuple(sorted({*level_to_quantiles(levels), *asked}))


def _levels(level: float | Iterable[float]) -> tuple[float, ...]:
    rule = "level is in percent, strictly between 0 and 100: 80 means 80%, such as level=[80, 95]"
    levels = _numbers(level, upper=100, rule=rule)
    if levels and levels[0] < 1:
        raise ValueError(f"{rule}; got {levels[0]}: write level={100 * levels[0]:g}")
    return levels


def _quantiles(quantiles: float | Iterable[float]) -> tuple[float, ...]:
    rule = "quantiles lie strictly between 0 and 1, such as quantiles=[0.1, 0.9]"
    return _numbers(quantiles, upper=1, rule=rule)


def _numbers(given: float | Iterable[float], *, upper: int, rule: str) -> tuple[float, ...]:
    given = given.tolist() if isinstance(given, np.ndarray) else given
    values: list[Any] = (
        list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    )
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < upper:
            raise ValueError(f"{rule}; got {value!r}")
    return tuple(sorted({_plain(round(float(value), _DECIMALS)) for value in values}))


def _plain(value: float) -> float:
    """80.0 becomes 80, so that column names read ``lo-80``."""
    return int(value) if value == int(value) else value
