"""Synthetic groups for training: a target, and columns that act on it in a recorded way or not."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from tsattn.pretrained.draws import (
    Array,
    Rng,
    Source,
    changes,
    hold,
    normal,
    periods,
    rough,
    season,
    sigmoid,
    smooth,
    unit,
)
from tsattn.pretrained.synthetic import MIN_LENGTH, make

MAX_COLUMNS = 6
# Weights of 1, 2, ... columns: small groups come more often.
_COUNT_WEIGHTS = {1: 6.0, 2: 5.0, 3: 4.0, 4: 3.0, 5: 2.0, 6: 1.0}
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
# Share of the targets without columns.
_UNIVARIATE_SHARE = 0.30
# Share of the columns that act.
_ACTIVE_SHARE = 0.70
# Share of the columns that are not known ahead, apart from leading ones.
_PAST_ONLY_SHARE = 0.08
# Share of the targets that have the season which the columns share.
_SEASONAL_SHARE = 0.5
# Deviation of the effect, in deviations of the rest of the target.
_WEAKEST = 0.15
_STRONGEST = 6.0
# Rows before a row whose values act at most, apart from leading columns and a season.
_LONGEST_LAG = 6
# Steps before and after an event in which it acts at most.
_STEPS_BEFORE_EVENT = 2
_STEPS_AFTER_EVENT = 3
# Values of a column beyond so many deviations are cut: a slipped decimal point would be all of its
# effect.
_FARTHEST = 5.0
# Groups drawn at once.
_BLOCK_GROUPS = 512
# A rest of a target, and a column, that vary less than this count as constant.
_CONSTANT_REST = 1e-3
_CONSTANT_COLUMN = 1e-6


@dataclass(frozen=True, eq=False)
class Groups:
    """N targets of T steps of the past and F of the future, each with up to K columns.

    Args:
        target: ``[N, T + F]``; NaN is missing. It is the sum of a series that depends on no column,
            and the effect.
        columns: ``[N, K, T + F]``, 0 beyond the columns that a group has; NaN over the horizon
            where a column is known for the past only.
        n_columns: ``[N]``, 0 where the target is alone.
        known_ahead: ``[N, K]``, whether a column is known over the horizon.
        coupling: ``[N]`` names: ``"none"`` of a target alone, else one of ``COUPLINGS``.
        effect: ``[N, T + F]``, what the columns contribute to the target; 0 where none is active.
    """

    target: Array
    columns: Array
    n_columns: Array
    known_ahead: Array
    coupling: Array
    effect: Array

    def rows(self, rows: Array) -> "Groups":
        """Some of the groups, by their numbers or by flags."""
        selected = [values[rows] for values in vars(self).values()]
        return Groups(*selected)


def make_groups(
    n: int,
    length: int,
    horizon: int,
    *,
    seed: int | Rng,
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
    if n < 0 or length < MIN_LENGTH or horizon < 1:
        raise ValueError(
            f"n must be at least 0, length {MIN_LENGTH} and horizon 1; got {n}, {length} and"
            f" {horizon}; raise what is too small"
        )
    unknown = sorted(set(couplings) - set(COUPLINGS))
    if unknown:
        names = ", ".join(COUPLINGS)
        raise ValueError(f"there is no coupling {unknown[0]!r}; choose from {names}")
    rng = np.random.default_rng(seed)
    sizes = []
    for first in range(0, n, _BLOCK_GROUPS):
        n_left = n - first
        sizes.append(min(_BLOCK_GROUPS, n_left))
    if not sizes:
        # One block without groups has arrays of the right shapes.
        sizes = [0]
    blocks = [_block(Source(rng, size, length), horizon, couplings) for size in sizes]
    joined = {}
    for field in fields(Groups):
        parts = [getattr(block, field.name) for block in blocks]
        joined[field.name] = np.concatenate(parts)
    return Groups(**joined)


def _block(source: Source, horizon: int, couplings: Mapping[str, float]) -> Groups:
    """Draw one block of groups; in loops over columns, M is the number of columns in all groups."""
    n = source.n
    length = source.length
    # Names of couplings and of ways have at most eight letters.
    coupling = source.choose(couplings)[:, 0].astype("U8")
    alone = source.rng.random(n) < _UNIVARIATE_SHARE
    coupling[alone] = UNIVARIATE
    n_columns = source.choose(_COUNT_WEIGHTS)[:, 0]
    n_columns[alone] = 0
    # The group of each column, and its place there, [M] each.
    has_column = np.arange(MAX_COLUMNS) < n_columns[:, None]
    group, place = np.nonzero(has_column)
    # A season that the group shares, [n, 1]; whole numbers, as clocks make them.
    period = np.round(periods(source))
    period = np.clip(period, 2, length // 2).astype(int)

    of_groups = replace(source, length=length + horizon)
    of_columns = of_groups.part(group)
    way = _ways(source.rng, coupling[group])
    column_period = period[group]
    values = _columns(of_columns, column_period, way)
    past_only = source.rng.random(len(group)) < _PAST_ONLY_SHARE
    is_known_ahead = (way != "leading") & ~past_only
    partner = _partners(group, n_columns)
    acting = _acting(of_columns, way, values, values[partner], column_period, horizon)
    coefficients = _coefficients(of_columns, group, place, coupling)
    acting = unit(acting) * coefficients

    rest = _rest(of_groups, period)
    effect = np.zeros(of_groups.shape, np.float32)
    np.add.at(effect, group, acting)
    effect = unit(effect) * _deviation(rest)
    effect *= source.log_uniform(_WEAKEST, _STRONGEST)
    columns = np.zeros((n, MAX_COLUMNS, of_groups.length), np.float32)
    columns[group, place] = _in_any_unit(of_columns, values)
    known_ahead = np.ones((n, MAX_COLUMNS), bool)
    known_ahead[group, place] = is_known_ahead
    ahead = columns[..., length:]
    ahead[~known_ahead] = np.nan
    target = rest + effect
    return Groups(target, columns, n_columns, known_ahead, coupling, effect)


def _in_any_unit(source: Source, values: Array) -> Array:
    """Columns [M, T + F] in any unit and around any level, as tables have them."""
    scaled = values * source.log_uniform(0.1, 100)
    level = 3 * normal(replace(source, length=1))
    return scaled + level


def _acting(
    source: Source,
    way: Array,
    values: Array,
    partners: Array,
    period: Array,
    horizon: int,
) -> Array:
    """What columns [M, T + F] contribute, each in its way, before they are scaled."""
    acting = np.zeros_like(values)
    for name, act in _WAYS.items():
        rows = np.flatnonzero(way == name)
        if rows.size:
            facts = _GroupFacts(partners[rows], period[rows], horizon)
            acting[rows] = act(source.part(rows), values[rows], facts)
    return acting


def _deviation(x: Array) -> Array:
    """Deviations [N, 1] of what is observed."""
    deviation = np.nanstd(x, axis=1, keepdims=True, dtype=float)
    return np.asarray(deviation, dtype=np.float32)


def _rest(source: Source, period: Array) -> Array:
    """Draw targets without columns; half of them have the shared season."""
    x = make(source.n, source.length, seed=source.rng)
    rows = source.some_rows(_SEASONAL_SHARE)
    part = source.part(rows)
    size = part.uniform(0.3, 2)
    seasonal_period = period[rows].astype(float)
    cycle = season(part, seasonal_period)
    x[rows] += size * unit(cycle)
    # Of a constant rest the target would be a copy of its effect.
    is_constant = _deviation(x)[:, 0] < _CONSTANT_REST
    constant = np.flatnonzero(is_constant)
    x[constant] += normal(source.part(constant))
    return x


def _coefficients(source: Source, group: Array, place: Array, coupling: Array) -> Array:
    """Draw weights [M, 1] of the columns; 0 of those that do not act."""
    active = source.rng.random(source.n) < _ACTIVE_SHARE
    # The first is active where no other one is.
    any_active = np.zeros(len(coupling), bool)
    np.logical_or.at(any_active, group, active)
    is_first = place == 0
    active |= is_first & ~any_active[group]
    is_decoy = coupling[group] == "decoys"
    active &= ~is_decoy
    size = source.log_uniform(0.2, 1)
    sign = source.signs()
    weights = size * sign * active[:, None]
    return np.asarray(weights, dtype=np.float32)


def _ways(rng: Rng, coupling: Array) -> Array:
    """Draw how each column acts: as its group does, or for ``all`` in a way of its own."""
    way = np.where(coupling == "decoys", "linear", coupling)
    mixed = np.flatnonzero(coupling == "all")
    names = np.array(list(_WAYS), dtype="U8")
    way[mixed] = rng.choice(names, mixed.size)
    return way


def _partners(group: Array, n_columns: Array) -> Array:
    """Number of the next column of the same group for each column; the last one has the first."""
    index = np.arange(len(group))
    # The numbers of groups ascend, so that the columns of each stand side by side.
    first = np.searchsorted(group, group)
    end = first + n_columns[group]
    following = index + 1
    has_next = following < end
    return np.where(has_next, following, first)


# --- columns --------------------------------------------------------------------------------------


def _columns(source: Source, period: Array, way: Array) -> Array:
    """Draw columns [M, T + F] with mean 0 and deviation 1, none missing."""
    draws = list(_KINDS)
    shares = list(_KINDS.values())
    kind = source.rng.choice(len(draws), source.n, p=shares)
    kind[way == "events"] = draws.index(_events)
    x = np.empty(source.shape, np.float32)
    for number, draw in enumerate(draws):
        rows = np.flatnonzero(kind == number)
        if rows.size:
            x[rows] = draw(source.part(rows), period[rows])
    scaled = unit(x)
    bounded = np.clip(scaled, -_FARTHEST, _FARTHEST)
    x = unit(bounded)
    # What does not vary would have no effect.
    largest = np.abs(x).max(axis=1, initial=0)
    constant = np.flatnonzero(largest < _CONSTANT_COLUMN)
    x[constant] = rough(source.part(constant))
    return x


def _any(source: Source, period: Array) -> Array:
    """Draw series as targets have them; missing values repeat the last one."""
    x = make(source.n, source.length, seed=source.rng)
    is_observed = ~np.isnan(x)
    # A series without a first value begins at 0.
    filled = hold(x, is_observed)
    return np.nan_to_num(filled)


def _seasonal(source: Source, period: Array) -> Array:
    """Draw the shared season and deviations from it, as demand and temperature have them."""
    cycle = season(source, period.astype(float))
    waves = unit(cycle)
    size = source.log_uniform(0.2, 2)
    deviations = size * rough(source)
    return waves + deviations


def _coloured(source: Source, period: Array) -> Array:
    """Draw noise of long memory."""
    return rough(source)


def _levels(source: Source, period: Array) -> Array:
    """Draw levels that hold for a time, such as prices."""
    change = changes(source, 8, source.length / 4)
    levels = normal(source)
    return hold(levels, change)


def _events(source: Source, period: Array) -> Array:
    """Draw 0 or 1: events on 2 to 10% of the steps, alone or in runs."""
    draws = source.rng.random(source.shape)
    probability = source.log_uniform(0.02, 0.1)
    single = draws < probability
    change = changes(source, 3, 24)
    runs = hold(single, change)
    is_single = source.chance(0.5)
    events = np.where(is_single, single, runs)
    return events.astype(np.float32)


def _calendar(source: Source, period: Array) -> Array:
    """Draw 0 or 1: a part of each season, or whole seasons of five, six or seven, as weekends."""
    first_step = source.integers(0, 1000)
    step = source.steps + first_step
    part_share = source.uniform(0.1, 0.6)
    n_part_steps = np.round(part_share * period)
    n_part_steps = np.maximum(n_part_steps, 1)
    in_part = step % period < n_part_steps
    n_seasons = source.integers(5, 8)
    n_rest_days = source.integers(1, 3)
    day = step // period % n_seasons
    is_rest_day = day < n_rest_days
    of_parts = source.chance(0.5)
    events = np.where(of_parts, in_part, is_rest_day)
    return events.astype(np.float32)


# Kinds of columns with their shares.
_KINDS: dict[Callable[[Source, Array], Array], float] = {
    _any: 0.40,
    _seasonal: 0.30,
    _coloured: 0.12,
    _levels: 0.08,
    _events: 0.05,
    _calendar: 0.05,
}


# --- ways of acting -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _GroupFacts:
    """What a way of acting may read besides the column.

    Args:
        partners: Another column of the same group, ``[M, T + F]``.
        period: Steps of the season, ``[M, 1]``.
        horizon: Steps ahead.
    """

    partners: Array
    period: Array
    horizon: int


def _linear(source: Source, x: Array, facts: _GroupFacts) -> Array:
    """Act by the value itself."""
    return x


def _bent(source: Source, x: Array, facts: _GroupFacts) -> Array:
    """Act by one of eight curves of the value."""
    knot = source.uniform(-0.7, 0.7)
    slope = source.uniform(0.7, 2)
    above_knot = x - knot
    is_above = x > knot
    # Bounded, so that one large value is not all of the effect.
    exponent = np.minimum(0.7 * slope * x, 4)
    curves = [
        x**2,
        np.maximum(above_knot, 0),
        np.tanh(slope * x),
        is_above.astype(np.float32),
        np.exp(exponent),
        sigmoid(4 * slope * above_knot, 40),
        np.abs(above_knot),
        x * np.abs(x),
    ]
    curve = source.integers(0, len(curves))
    return np.choose(curve, curves)


def _delayed(x: Array, lag: Array) -> Array:
    """Values ``lag`` [M, 1] steps before; the first value stands for those before it."""
    earlier = np.arange(x.shape[1]) - lag
    source = np.maximum(earlier, 0)
    return np.take_along_axis(x, source, axis=1)


def _lagged(source: Source, x: Array, facts: _GroupFacts) -> Array:
    """Act some steps, or one season, later."""
    steps = source.integers(1, _LONGEST_LAG + 1)
    is_seasonal = source.chance(0.3)
    lag = np.where(is_seasonal, facts.period, steps)
    return _delayed(x, lag)


def _by_season(source: Source, x: Array, facts: _GroupFacts) -> Array:
    """Act with a gain of 1 in one part of the season, and less or the other sign in the other.

    The gain changes at once or smoothly.
    """
    angle = 2 * np.pi * source.steps / facts.period
    phase = source.uniform(0, 2 * np.pi)
    threshold = source.uniform(-0.6, 0.6)
    wave = np.cos(angle - phase) - threshold
    sharpness = source.log_uniform(2, 50)
    share = sigmoid(sharpness * wave, 40)
    other_gain = source.uniform(-0.6, 0.3)
    gain = other_gain + (1 - other_gain) * share
    return x * gain


def _drifting(source: Source, x: Array, facts: _GroupFacts) -> Array:
    """Act with a coefficient that moves smoothly, or switches between two or three values."""
    n_steps = source.length
    moving = smooth(source, shortest=n_steps / 8)
    values = normal(source)
    change = changes(source, n_steps / 4, n_steps)
    switching = hold(values, change)
    is_moving = source.chance(0.6)
    coefficient = np.where(is_moving, moving, switching)
    mean = source.uniform(0, 1)
    coefficient = mean + coefficient
    return x * coefficient


def _product(source: Source, x: Array, facts: _GroupFacts) -> Array:
    """Act by the product with the partner."""
    return x * facts.partners


def _around(source: Source, x: Array, facts: _GroupFacts) -> Array:
    """Act with a size for each of the steps before, at and after an event; most are small."""
    total = np.zeros_like(x)
    for offset in range(-_STEPS_BEFORE_EVENT, _STEPS_AFTER_EVENT + 1):
        size = source.rng.normal(0, 1, source.column)
        if offset:
            size *= source.chance(0.4)
        place = np.clip(source.steps - offset, 0, source.length - 1)
        total += size.astype(np.float32) * x[:, place]
    return total


def _leading(source: Source, x: Array, facts: _GroupFacts) -> Array:
    """Act after a lead of at least one horizon, or of any length up to one."""
    horizon = facts.horizon
    steps_beyond = source.integers(0, _LONGEST_LAG + 1)
    long_lead = horizon + steps_beyond
    longest = max(horizon, 2)
    steps = source.log_uniform(1, longest)
    short_lead = np.ceil(steps).astype(int)
    is_long = source.chance(0.5)
    lead = np.where(is_long, long_lead, short_lead)
    return _delayed(x, lead)


_WAYS: dict[str, Callable[[Source, Array, _GroupFacts], Array]] = {
    "linear": _linear,
    "bent": _bent,
    "lags": _lagged,
    "season": _by_season,
    "drift": _drifting,
    "product": _product,
    "events": _around,
    "leading": _leading,
}
