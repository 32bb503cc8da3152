"""Levels and quantiles, two spellings of the bounds of intervals, and the columns they fill."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tsattn.checks import Argument, InputError, InPython, check_choice, is_number

# One level or quantile, or several.
Numbers = float | Iterable[float]
# Levels and quantiles are rounded to this many decimals, so that 1 - 0.9 names the quantile 0.1.
_DECIMALS = 12


def interval_columns(
    levels: Sequence[float], quantiles: Sequence[float]
) -> list[tuple[str, float]]:
    """Suffixes of columns, and the quantile of each: ``lo-80``, ``hi-80``, then ``q0.1``.

    Example:
        >>> interval_columns((80,), (0.5,))
        [('lo-80', 0.1), ('hi-80', 0.9), ('q0.5', 0.5)]
    """
    columns = []
    for level in levels:
        lower, upper = level_to_quantiles(level)
        columns.append((f"lo-{level}", lower))
        columns.append((f"hi-{level}", upper))
    columns += [(f"q{quantile}", quantile) for quantile in quantiles]
    return columns


def level_to_quantiles(level: Numbers) -> tuple[float, ...]:
    """Quantiles that bound central levels: 80 is 0.1 and 0.9.

    Args:
        level: One level in percent or several, each at least 1 and below 100. A level of 0.8 is
            refused as a mistake.

    Returns:
        Ascending quantiles, two a level, rounded to the decimals that a user would type.

    Raises:
        ValueError: If a level is no number or out of range.

    Example:
        >>> level_to_quantiles(80)
        (0.1, 0.9)
        >>> level_to_quantiles([80, 95])
        (0.025, 0.1, 0.9, 0.975)
    """
    levels = _levels(level)
    # Half of what a central interval leaves out lies below it.
    lower = {round(0.5 - number / 200, _DECIMALS) for number in levels}
    upper = {round(1 - quantile, _DECIMALS) for quantile in lower}
    bounds = sorted(lower | upper)
    return tuple(bounds)


def refuse_twice(columns: Sequence[Any], *, has_alias: bool = True) -> None:
    """Refuse a table in which two columns would have one name.

    Args:
        columns: Names of the columns.
        has_alias: Whether another alias would change one of them.

    Raises:
        ValueError: Naming it.
    """
    ((name, count),) = Counter(columns).most_common(1)
    if count > 1:
        remedy = ", or give another alias=" if has_alias else ""
        raise InputError(
            f"two columns of the answer would be called {name!r}; rename it", InPython(remedy)
        )


def quantile_to_level(quantile: float) -> float:
    """Central level in percent of which a quantile is a bound; 0 for the median.

    Raises:
        ValueError: If it is not strictly between 0 and 1.

    Example:
        >>> quantile_to_level(0.025)
        95
    """
    (probability,) = _quantiles(quantile)
    share = abs(1 - 2 * probability)
    # Two decimals fewer, because a level is a hundred times a probability.
    level = round(share * 100, _DECIMALS - 2)
    return _plain(level)


def central_bounds(quantiles: Sequence[float]) -> dict[float, tuple[int, int]]:
    """Places of the two bounds of each central level among quantiles, the narrowest level first.

    Args:
        quantiles: Ascending; those without a counterpart on the other side bound no level.

    Example:
        >>> central_bounds((0.025, 0.1, 0.5, 0.9, 0.975))
        {80: (1, 3), 95: (0, 4)}
    """
    places = {}
    for lower, quantile in reversed([*enumerate(quantiles)]):
        # Rounded, since 1 - 0.9 is not exactly 0.1.
        mirrored = round(1 - quantile, _DECIMALS)
        if quantile < 0.5 and mirrored in quantiles:
            level = quantile_to_level(quantile)
            places[level] = (lower, quantiles.index(mirrored))
    return places


def check_request(
    level: Numbers | None, quantiles: Numbers | None
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Check the levels and the quantiles of a forecast.

    Returns:
        The levels, the quantiles, and the quantiles of both, each ascending without repeats.

    Raises:
        ValueError: If a level or a quantile is no number or out of range.

    Example:
        >>> check_request(80, [0.5])
        ((80,), (0.5,), (0.1, 0.5, 0.9))
    """
    levels = () if level is None else _levels(level)
    probabilities = () if quantiles is None else _quantiles(quantiles)
    bounds = level_to_quantiles(levels)
    # A quantile may also be the bound of a level.
    all_quantiles = {*bounds, *probabilities}
    ascending = sorted(all_quantiles)
    return levels, probabilities, tuple(ascending)


def check_point(point: object) -> None:
    """Refuse a point that is none.

    Args:
        point: The setting.

    Raises:
        ValueError: If it is another value than "median", "mean" and "auto".
    """
    advice = "; take point='mean' for forecasts that are to be summed"
    check_choice("point", point, ("median", "mean", "auto"), advice)


def points_only(forecaster: Any) -> InputError:
    """The refusal of quantiles by a forecaster that knows none."""
    kind = type(forecaster).__name__
    return InputError(
        f"{forecaster.alias_} gives points only, no level or quantiles; leave them out, or take"
        " another model",
        InPython(f"; or wrap it for intervals: SplitConformal({kind}(...), n_windows=...)"),
    )


def check_ascending(quantiles: Iterable[float]) -> tuple[float, ...]:
    """Check quantiles whose forecasts stand in their order.

    Raises:
        ValueError: If one is no number or out of range, or they do not ascend.

    Example:
        >>> check_ascending([0.1, 1 - 0.1])
        (0.1, 0.9)
    """
    probabilities = tuple(quantiles)
    ascending = _quantiles(probabilities)
    in_order = tuple(_quantiles(quantile)[0] for quantile in probabilities)
    if in_order != ascending:
        raise ValueError(
            f"quantiles must ascend, each once, as their forecasts do; got {in_order}: write"
            f" {ascending}"
        )
    return ascending


def _levels(level: Numbers) -> tuple[float, ...]:
    rule = "level is in percent, strictly between 0 and 100: 80 means 80%"
    levels = _numbers(level, upper=100, rule=rule)
    if levels and levels[0] < 1:
        share = levels[0]
        in_percent = _plain(100 * share)
        raise InputError(f"{rule}; got {share}: write ", Argument("level", in_percent))
    return levels


def _quantiles(quantiles: Numbers) -> tuple[float, ...]:
    rule = "quantiles lie strictly between 0 and 1, such as quantiles=[0.1, 0.9]"
    return _numbers(quantiles, upper=1, rule=rule)


def _numbers(numbers: Numbers, *, upper: int, rule: str) -> tuple[float, ...]:
    """One number or several as ascending decimals without repeats, each above 0 and below upper."""
    if isinstance(numbers, np.ndarray):
        numbers = numbers.tolist()
    is_several = isinstance(numbers, Iterable) and not isinstance(numbers, str)
    values: list[Any] = list(numbers) if is_several else [numbers]  # type: ignore[arg-type]
    for value in values:
        is_within = is_number(value) and 0 < float(value) < upper
        if not is_within:
            hint = ": write it without quotes" if isinstance(value, str) else ""
            raise ValueError(f"{rule}; got {value!r}{hint}")
    distinct = set()
    for value in values:
        rounded = round(float(value), _DECIMALS)
        distinct.add(_plain(rounded))
    return tuple(sorted(distinct))


def _plain(value: float) -> float:
    """80.0 becomes 80, so that column names read ``lo-80``."""
    integer = int(value)
    return integer if value == integer else value
