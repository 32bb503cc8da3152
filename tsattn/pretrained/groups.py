"""Synthetic groups for training: a target and columns beside it, which act on it in ways that are
known, or do not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tsattn.pretrained.draws import (
    chance,
    changes,
    hold,
    log_uniform,
    normal,
    periods,
    rough,
    season,
    smooth,
    uniform,
    unit,
)
from tsattn.pretrained.synthetic import make

MAX_COLUMNS = 6
# Weights of 1, 2, ... columns.
_COUNT_WEIGHTS = np.array([6, 5, 4, 3, 2, 1], float)
# How the active columns of a group act, with the share of groups that have columns.
COUPLINGS = {
    "decoys": 0.10,
    "linear": 0.20,
    "bent": 0.14,
    "lags": 0.10,
    "season": 0.10,
    "drift": 0.10,
    "product": 0.06,
    "events": 0.06,
    "leading": 0.06,
    "all": 0.08,
}
UNIVARIATE = "none"
_UNIVARIATE_SHARE = 0.30
_ACTIVE_SHARE = 0.70
_PAST_ONLY_SHARE = 0.08
_WEAKEST = 0.15
_STRONGEST = 6.0
# Rows before a row whose values act at most, apart from leading columns and a season.
_LONGEST_LAG = 6
# Steps before and after an event in which it acts at most.
_BEFORE = 2
_AFTER = 3
# Values of a column beyond so many deviations are cut: a slipped decimal point would be all of its
# effect.
_FAR = 5.0
# Groups drawn at once.
_BLOCK_GROUPS = 512


@dataclass(frozen=True, eq=False)
class Groups:
    """N targets of T steps of the past and F of the future, each with up to K columns.

    Args:
        target: ``[N, T + F]``; NaN is missing. It is something that knows no column, and the
            effect.
        columns: ``[N, K, T + F]``, 0 beyond the columns that a group has; NaN over the horizon
            where a column is known for the past only.
        n_columns: ``[N]``, 0 where the target is alone.
        known_ahead: ``[N, K]``, whether a column is known over the horizon.
        coupling: ``[N]`` names: ``"none"`` of a target alone, else one of ``COUPLINGS``.
        effect: ``[N, T + F]``, what the columns contribute to the target; 0 where none is active.
    """

    target: np.ndarray
    columns: np.ndarray
    n_columns: np.ndarray
    known_ahead: np.ndarray
    coupling: np.ndarray
    effect: np.ndarray

    def rows(self, rows: np.ndarray) -> "Groups":
        """Those groups."""
        return Groups(**{name: values[rows] for name, values in vars(self).items()})


def make_groups(
    n: int,
    length: int,
    horizon: int,
    *,
    seed: int | np.random.Generator,
    couplings: Mapping[str, float] = COUPLINGS,
) -> Groups:
    """Draw n synthetic groups.

    30% of the targets are alone. Others have 1 to 6 columns, fewer more often, 70% of which act on
    the target, one at least; in 10% of these groups none does (decoys). The deviation of the effect
    is .15 to 6 times that of the rest of the target, log-uniform. Columns are series as those of
    :func:`tsattn.pretrained.synthetic.make` (40%), waves of one season that the group shares (30%),
    coloured noise (12%), levels that hold (8%), and 0 or 1: rare events (5%), calendars of the
    season (5%). Half of the targets have the shared season, too, so that decoys look like causes.

    Active columns act ``linear`` (20%), ``bent`` (14%: square, hinge, tanh, threshold, exponential,
    sigmoid, size, signed square), after ``lags`` (10%: 1 to 6 steps, three in ten times a season),
    with a gain that depends on the phase of the ``season`` (10%), with coefficients that ``drift``
    (10%: smoothly, or switch), as a ``product`` of two columns (6%; of one column, its square), as
    rare ``events`` with effects before and after (6%), ``leading`` the target (6%: known for the
    past only, half of them with at least one horizon of lead), or each column in a way of its own
    (``all``, 8%). 8% of other columns are known for the past only, too.

    Args:
        n: Groups, at least 0.
        length: Steps T of the past, at least 16.
        horizon: Steps F ahead, at least 1.
        seed: A number, or a generator, which moves on.
        couplings: Weights of the couplings of groups with columns.

    Raises:
        ValueError: If a number is out of its range, or a coupling is unknown.

    Example:
        >>> groups = make_groups(4, 96, 24, seed=0)
        >>> groups.target.shape, groups.columns.shape
        ((4, 120), (4, 6, 120))
    """
    if n < 0 or length < 16 or horizon < 1:
        raise ValueError(
            f"n must be at least 0, length 16 and horizon 1; got {n}, {length} and {horizon}; raise"
            " what is too small"
        )
    if unknown := sorted(set(couplings) - set(COUPLINGS)):
        raise ValueError(f"there is no coupling {unknown[0]!r}; choose from {', '.join(COUPLINGS)}")
    rng = np.random.default_rng(seed)
    sizes = [min(_BLOCK_GROUPS, n - first) for first in range(0, n, _BLOCK_GROUPS)] or [0]
    blocks = [_block(rng, size, length, horizon, couplings) for size in sizes]
    return Groups(
        **{
            name: np.concatenate([vars(block)[name] for block in blocks])
            for name in vars(blocks[0])
        }
    )


def _block(
    rng: np.random.Generator, n: int, length: int, horizon: int, couplings: Mapping[str, float]
) -> Groups:
    n_steps = length + horizon
    weights = np.array(list(couplings.values()), float)
    coupling = rng.choice(np.array(list(couplings), dtype="U8"), n, p=weights / weights.sum())
    alone = rng.random(n) < _UNIVARIATE_SHARE
    coupling[alone] = UNIVARIATE
    n_columns = rng.choice(MAX_COLUMNS, n, p=_COUNT_WEIGHTS / _COUNT_WEIGHTS.sum()) + 1
    n_columns[alone] = 0
    group, place = np.nonzero(np.arange(MAX_COLUMNS) < n_columns[:, None])
    # A season that the group shares; whole numbers, as clocks make them.
    period = np.clip(np.round(periods(rng, n, length)), 2, length // 2).astype(int)

    way = _ways(rng, coupling[group])
    values = _columns(rng, period[group], n_steps, way)
    known_ahead = (way != "leading") & (rng.random(len(group)) >= _PAST_ONLY_SHARE)
    partner = _partners(group, n_columns)
    acting = np.zeros_like(values)
    for name, act in _WAYS.items():
        rows = np.flatnonzero(way == name)
        if rows.size:
            acting[rows] = act(
                rng, values[rows], _Beside(values[partner[rows]], period[group[rows]], horizon)
            )
    acting = unit(acting) * _coefficients(rng, group, place, coupling)

    rest = _rest(rng, n, n_steps, period)
    effect = np.zeros((n, n_steps), np.float32)
    np.add.at(effect, group, acting)
    effect = unit(effect) * _deviation(rest) * log_uniform(rng, n, _WEAKEST, _STRONGEST)
    columns = np.zeros((n, MAX_COLUMNS, n_steps), np.float32)
    columns[group, place] = values * log_uniform(rng, len(group), 0.1, 100) + 3 * normal(
        rng, len(group), 1
    )
    ahead = np.ones((n, MAX_COLUMNS), bool)
    ahead[group, place] = known_ahead
    columns[..., length:][~ahead] = np.nan
    return Groups(rest + effect, columns, n_columns, ahead, coupling, effect)


def _deviation(x: np.ndarray) -> np.ndarray:
    """Deviations [N, 1] of what is observed."""
    return np.asarray(np.nanstd(x, axis=1, keepdims=True, dtype=float), dtype=np.float32)


def _rest(rng: np.random.Generator, n: int, n_steps: int, period: np.ndarray) -> np.ndarray:
    """What the target is without columns; in half of the groups with the shared season."""
    x = make(n, n_steps, seed=rng)
    rows = np.flatnonzero(rng.random(n) < 0.5)
    x[rows] += uniform(rng, rows.size, 0.3, 2) * unit(
        season(rng, period[rows].astype(float), n_steps)
    )
    # Of a constant rest the target would be a copy of its effect.
    still = np.flatnonzero(_deviation(x)[:, 0] < 1e-3)
    x[still] += normal(rng, still.size, n_steps)
    return x


def _coefficients(
    rng: np.random.Generator, group: np.ndarray, place: np.ndarray, coupling: np.ndarray
) -> np.ndarray:
    """Weights [M, 1] of the columns; 0 of those that do not act."""
    active = rng.random(len(group)) < _ACTIVE_SHARE
    # The first is active where no other one is.
    any_active = np.zeros(len(coupling), bool)
    np.logical_or.at(any_active, group, active)
    active |= (place == 0) & ~any_active[group]
    active &= coupling[group] != "decoys"
    size = log_uniform(rng, len(group), 0.2, 1) * rng.choice([-1.0, 1.0], (len(group), 1))
    return np.asarray(size * active[:, None], dtype=np.float32)


def _ways(rng: np.random.Generator, coupling: np.ndarray) -> np.ndarray:
    """How each column acts: as its group does, or where that says ``all`` in a way of its own."""
    way = np.where(coupling == "decoys", "linear", coupling)
    own = np.flatnonzero(coupling == "all")
    way[own] = rng.choice(np.array(list(_WAYS), dtype="U8"), own.size)
    return np.asarray(way)


def _partners(group: np.ndarray, n_columns: np.ndarray) -> np.ndarray:
    """For each column the next one of its group, after the last one the first."""
    index = np.arange(len(group))
    first = np.searchsorted(group, group)
    return np.asarray(np.where(index + 1 < first + n_columns[group], index + 1, first))


def _columns(
    rng: np.random.Generator, period: np.ndarray, n_steps: int, way: np.ndarray
) -> np.ndarray:
    """Columns [M, T + F] with mean 0 and deviation 1, none missing."""
    n = len(period)
    kind = rng.choice(6, n, p=[0.40, 0.30, 0.12, 0.08, 0.05, 0.05])
    kind[way == "events"] = 4
    x = np.empty((n, n_steps), np.float32)
    for number, draw in enumerate((_any, _seasonal, _coloured, _levels, _events, _calendar)):
        rows = np.flatnonzero(kind == number)
        if rows.size:
            x[rows] = draw(rng, period[rows], n_steps)
    x = unit(np.clip(unit(x), -_FAR, _FAR))
    # What does not vary would have no effect.
    still = np.flatnonzero(np.abs(x).max(axis=1, initial=0) < 1e-6)
    x[still] = rough(rng, still.size, n_steps)
    return x


def _any(rng: np.random.Generator, period: np.ndarray, n_steps: int) -> np.ndarray:
    x = make(len(period), n_steps, seed=rng)
    return np.nan_to_num(hold(x, ~np.isnan(x)))


def _seasonal(rng: np.random.Generator, period: np.ndarray, n_steps: int) -> np.ndarray:
    """The shared season and what deviates from it, such as demand and temperature."""
    waves = unit(season(rng, period.astype(float), n_steps))
    return waves + log_uniform(rng, len(period), 0.2, 2) * rough(rng, len(period), n_steps)


def _coloured(rng: np.random.Generator, period: np.ndarray, n_steps: int) -> np.ndarray:
    return rough(rng, len(period), n_steps)


def _levels(rng: np.random.Generator, period: np.ndarray, n_steps: int) -> np.ndarray:
    """Levels that hold for a time, such as prices."""
    change = changes(rng, len(period), n_steps, 8, n_steps / 4)
    return hold(normal(rng, len(period), n_steps), change)


def _events(rng: np.random.Generator, period: np.ndarray, n_steps: int) -> np.ndarray:
    """0 or 1: 2 to 10% of the steps, alone or in runs."""
    n = len(period)
    single = rng.random((n, n_steps)) < log_uniform(rng, n, 0.02, 0.1)
    runs = hold(single, changes(rng, n, n_steps, 3, 24))
    return np.where(chance(rng, n, 0.5), single, runs).astype(np.float32)


def _calendar(rng: np.random.Generator, period: np.ndarray, n_steps: int) -> np.ndarray:
    """0 or 1: a part of each season, or whole seasons of five, six or seven, such as weekends."""
    n = len(period)
    step = np.arange(n_steps) + rng.integers(0, 1000, (len(period), 1))
    part = step % period < np.maximum(np.round(uniform(rng, n, 0.1, 0.6) * period), 1)
    rest_days = step // period % rng.integers(5, 8, (n, 1)) < rng.integers(1, 3, (n, 1))
    return np.where(chance(rng, n, 0.5), part, rest_days).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Beside:
    """What a way of acting may read beside the column: a partner, the season [M, 1], the
    horizon.
    """

    partner: np.ndarray
    period: np.ndarray
    horizon: int


def _linear(rng: np.random.Generator, x: np.ndarray, beside: _Beside) -> np.ndarray:
    return x


def _bent(rng: np.random.Generator, x: np.ndarray, beside: _Beside) -> np.ndarray:
    n = len(x)
    at = uniform(rng, n, -0.7, 0.7)
    slope = uniform(rng, n, 0.7, 2)
    curves = [
        x**2,
        np.maximum(x - at, 0),
        np.tanh(slope * x),
        (x > at).astype(np.float32),
        np.exp(np.minimum(0.7 * slope * x, 4)),
        _sigmoid(4 * slope * (x - at)),
        np.abs(x - at),
        x * np.abs(x),
    ]
    return np.asarray(np.choose(rng.integers(0, len(curves), (n, 1)), curves))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -40, 40))))


def _delayed(x: np.ndarray, lag: np.ndarray) -> np.ndarray:
    """Values ``lag`` [M, 1] steps before; the first value stands for those before it."""
    return np.take_along_axis(x, np.maximum(np.arange(x.shape[1]) - lag, 0), axis=1)


def _lagged(rng: np.random.Generator, x: np.ndarray, beside: _Beside) -> np.ndarray:
    lag = rng.integers(1, _LONGEST_LAG + 1, (len(x), 1))
    return _delayed(x, np.where(chance(rng, len(x), 0.3), beside.period, lag))


def _by_season(rng: np.random.Generator, x: np.ndarray, beside: _Beside) -> np.ndarray:
    """A gain of 1 in one part of the season and less, or the other sign, in the other; with sharp
    or soft ends.
    """
    n = len(x)
    angle = 2 * np.pi * np.arange(x.shape[1]) / beside.period
    wave = np.cos(angle - uniform(rng, n, 0, 2 * np.pi)) - uniform(rng, n, -0.6, 0.6)
    day = _sigmoid(log_uniform(rng, n, 2, 50) * wave)
    other = uniform(rng, n, -0.6, 0.3)
    return np.asarray(x * (other + (1 - other) * day))


def _drifting(rng: np.random.Generator, x: np.ndarray, beside: _Beside) -> np.ndarray:
    """A coefficient that moves smoothly, or switches between two or three values."""
    n, n_steps = x.shape
    smoothly = smooth(rng, n, n_steps, shortest=n_steps / 8)
    switching = hold(normal(rng, n, n_steps), changes(rng, n, n_steps, n_steps / 4, n_steps))
    coefficient = np.where(chance(rng, n, 0.6), smoothly, switching)
    return np.asarray(x * (uniform(rng, n, 0, 1) + coefficient))


def _product(rng: np.random.Generator, x: np.ndarray, beside: _Beside) -> np.ndarray:
    return x * beside.partner


def _around(rng: np.random.Generator, x: np.ndarray, beside: _Beside) -> np.ndarray:
    """Effects of own size in each of the steps before, at and after an event, most of
    them small.
    """
    n, n_steps = x.shape
    total = np.zeros_like(x)
    for offset in range(-_BEFORE, _AFTER + 1):
        size = rng.normal(0, 1, (n, 1)) * (1.0 if offset == 0 else chance(rng, n, 0.4))
        at = np.clip(np.arange(n_steps) - offset, 0, n_steps - 1)
        total += size.astype(np.float32) * x[:, at]
    return total


def _leading(rng: np.random.Generator, x: np.ndarray, beside: _Beside) -> np.ndarray:
    n = len(x)
    horizon = beside.horizon
    far = horizon + rng.integers(0, _LONGEST_LAG + 1, (n, 1))
    near = np.ceil(log_uniform(rng, n, 1, max(horizon, 2))).astype(int)
    return _delayed(x, np.where(chance(rng, n, 0.5), far, near))


_WAYS: dict[str, Callable[[np.random.Generator, np.ndarray, _Beside], np.ndarray]] = {
    "linear": _linear,
    "bent": _bent,
    "lags": _lagged,
    "season": _by_season,
    "drift": _drifting,
    "product": _product,
    "events": _around,
    "leading": _leading,
}
