"""Detection of seasons and their cycles by the likeness of a series to itself at a lag."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import interpolate, pad

# Longest season that is tried, in steps.
MAX_PERIOD = 1440
# Cycles of a season that must be in the context for its lag to be tried.
_LEAST_CYCLES = 1.5
# Least number of pairs of values that judge a lag.
_MIN_PAIRS = 4
# What a correlation is charged for chance, in standard errors of n pairs, n^-1/2.
_CHANCE = 2.0
# The same for seasons of the calendar, which are expected.
_CALENDAR_CHANCE = 1.2
# The same for the season that the frequency of the series usually has.
_LIKELY_CHANCE = 0.6
# The least correlation of that season, chance taken off.
_LIKELY_CONVINCING = 0.05
# The least correlation of any other season, chance taken off.
_CONVINCING = 0.1
# The correlation of a season is at least this much above the least at a shorter lag.
_PROMINENT = 0.2
# A shorter season is preferred whose correlation is lower by at most this.
_TOLERANCE = 0.05
# A season of the calendar is near a lag within this share of it, and within one step.
_CALENDAR_WIDTH = 0.02
# Values this many deviations from the slow movement count as much as those at it.
_FARTHEST = 3.0
# What remains is rounding error if it is smaller than this, in deviations of the series.
_ROUNDING = 1e-6
# Days of a week, of which a season is also the cycle.
_WEEK = 7
# A season's cycle has so many of them: a week of days, a year of weeks.
_CYCLES = (_WEEK, 52)
# Steps of the shortest day that goes before its week.
_SHORTEST_DAY = 4
# A clear cycle has at least this correlation, chance taken off, ...
_CLEAR = 0.3
# ... or this one in the mean of one, two and three cycles.
_CLEAR_THRICE = 0.15
# Steps of a long past, or means of several of them, that are searched.
_LONG_STEPS = 2048
# Seasons of the calendar, which are preferred to a neighbour that is no better by more than the
# tolerance.
_CALENDAR = (
    4,  # quarters of a year
    7,  # days of a week
    12,  # months of a year
    24,  # hours of a day
    48,  # half hours of a day
    52,  # weeks of a year
    60,  # minutes of an hour
    96,  # quarters of an hour of a day
    120,  # hours of five days
    144,  # ten minutes of a day
    168,  # hours of a week
    288,  # five minutes of a day
    336,  # half hours of a week
    360,  # ten seconds of an hour
    365,  # days of a year
    672,  # quarters of an hour of a week
    720,  # two minutes of a day
    1008,  # ten minutes of a week
    1440,  # minutes of a day
)


@dataclass(frozen=True, eq=False)
class Seasons:
    """The seasons of B series.

    Args:
        period: Steps of the season of each series, 0 where there is none.
        cycle: Steps of the longer cycle in which the season comes back changed, such as the week of
            days; the period where none is long enough to be judged.
        strength: How well the season repeats: the correlation at its lag less what chance gives.
        cycle_strength: The same of the cycle, the mean season taken off; 0 where there is no cycle.
        clear: Whether the cycle is clear.
    """

    period: Int[Tensor, " B"]
    cycle: Int[Tensor, " B"]
    strength: Float[Tensor, " B"]
    cycle_strength: Float[Tensor, " B"]
    clear: Bool[Tensor, " B"]

    @classmethod
    def joined(cls, parts: Sequence["Seasons"]) -> "Seasons":
        """The seasons of all parts, in their order."""
        fields = [part.fields() for part in parts]
        columns = zip(*fields, strict=True)
        joined = [torch.cat(values) for values in columns]
        return cls(*joined)

    def fields(self) -> tuple[Tensor, ...]:
        """The five tensors."""
        return self.period, self.cycle, self.strength, self.cycle_strength, self.clear

    def rows(self, rows: Tensor) -> "Seasons":
        """The seasons of some series, by their numbers or by flags."""
        selected = [values[rows] for values in self.fields()]
        return Seasons(*selected)

    def where(self, rows: Bool[Tensor, " B"], others: "Seasons") -> "Seasons":
        """The same seasons, with others for the series that are flagged."""
        merged = []
        pairs = zip(self.fields(), others.fields(), strict=True)
        for values, other_values in pairs:
            replacements = other_values.to(values.dtype)
            merged.append(values.masked_scatter(rows, replacements))
        return Seasons(*merged)

    def longest(self) -> Int[Tensor, " B"]:
        """Steps of the season or of its clear cycle, whichever is longer."""
        cycle = self.clear_cycle()
        return torch.maximum(self.period, cycle)

    def clear_cycle(self) -> Int[Tensor, " B"]:
        """The cycle where it is clear, else the season."""
        return torch.where(self.clear, self.cycle, self.period)


def detect_seasons(x: Float[Tensor, "B T"], likely: Tensor | int = 0) -> Seasons:
    """Season and cycle of each series, as :func:`detect_period` and :func:`detect_cycle` say.

    Args:
        x: Series of T steps; NaN is a missing value, at the left also a history that begins later.
        likely: The season that the frequency of the series usually has, one number or ``[B, 1]``; 0
            where nothing is known of it.
    """
    period, strength = detect_period(x, likely)
    cycle, cycle_strength, clear = detect_cycle(x, period)
    return Seasons(period, cycle, strength, cycle_strength, clear)


def detect_long_seasons(x: Float[Tensor, "B T"], seasons: Seasons) -> Seasons:
    """Seasons of series whose past is longer than the recent part in which ``seasons`` were
    detected.

    The past of a series is read as means of s steps, s the least power of two that leaves 2,048
    means at most. Season and cycle are taken from them where one of the two is too long to be in
    the recent part twice and is clearer than what the recent part shows, or where the recent part
    has no season at all.

    Args:
        x: Series of T steps; NaN is a missing value, at the left also a history that begins later.
        seasons: Those of the recent part.
    """
    # Each series has means of its own length, whatever others stand beside it.
    steps = coarse_steps(x)
    for step in steps.unique().tolist():
        rows = steps == step
        n_read = step * _LONG_STEPS
        past = x[rows][:, -n_read:]
        means = block_means(past, step)
        recent_seasons = seasons.rows(rows)
        merged = _with_coarse_seasons(recent_seasons, means, step)
        seasons = seasons.where(rows, merged)
    return seasons


def coarse_steps(x: Float[Tensor, "B T"]) -> Int[Tensor, " B"]:
    """Steps that are read as one mean.

    It is the least power of two that leaves 2,048 means of a series at most.
    """
    observed = ~x.isnan()
    n_steps = x.shape[1] - first_known(observed)
    steps = torch.ones_like(n_steps)
    n_read = _LONG_STEPS
    while n_read < x.shape[1]:
        is_longer = n_steps > n_read
        steps = torch.where(is_longer, 2 * steps, steps)
        n_read = 2 * n_read
    return steps


def block_means(x: Float[Tensor, "B T"], step: int) -> Float[Tensor, "B N"]:
    """Means of blocks of so many steps, NaN where nothing is observed.

    The last block ends with the series.
    """
    n_missing = -x.shape[1] % step
    padded = pad(x, (n_missing, 0), value=torch.nan)
    blocks = padded.unflatten(1, (-1, step))
    return blocks.nanmean(2)


def between_blocks(means: Float[Tensor, "B N"], step: int) -> Float[Tensor, "B S"]:
    """Values of every step on straight lines between the middles of blocks of so many steps."""
    lines = interpolate(means[:, None], scale_factor=step, mode="linear", align_corners=False)
    return lines[:, 0]


def _with_coarse_seasons(seasons: Seasons, means: Tensor, step: int) -> Seasons:
    """Seasons, replaced by those of means of so many steps where these are clearer."""
    coarse = detect_seasons(means)
    period = coarse.period * step
    cycle = coarse.cycle * step
    longer = torch.maximum(period, cycle)
    # What the recent part can show twice it has judged better: weeks of weather are chance.
    is_long = 2 * longer > _LONG_STEPS
    is_long_period = 2 * period > _LONG_STEPS
    convincing = coarse.strength >= _CLEAR
    stronger = coarse.strength > seasons.strength
    had_no_season = seasons.period == 0
    has_clear_cycle = coarse.clear & ~seasons.clear & is_long
    has_only_season = convincing & had_no_season
    has_long_season = convincing & is_long_period & stronger
    clearer = has_clear_cycle | has_only_season | has_long_season
    in_steps = replace(coarse, period=period, cycle=cycle)
    return seasons.where(clearer, in_steps.rows(clearer))


def detect_period(
    x: Float[Tensor, "B T"], likely: Tensor | int = 0
) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"]]:
    """The season of each series, in steps, and how strong it is.

    From the series, less a straight line, a centred moving average of w steps is taken off, w the
    least power of two that is at least the lag m; ``r(m)`` is the correlation of what remains with
    itself m steps before, over the n pairs of which both are known. From it ``2 (e / n)^1/2`` is
    taken off for chance, with Bartlett's ``e = 1 + 2 (r(1)^2 + ... + r(w / 2)^2)``; 1.2 in place of
    2 for a season of the calendar, 0.6 for the one that the frequency usually has. A season is a
    lag of at least 2 whose ``r(m)`` is not below that of its neighbours, is 0.2 above the least at
    a shorter lag, and is at least 0.1 less chance, 0.05 for the usual one. Of those the best is
    taken, or the shortest that is worse by at most 0.05, or a season of the calendar within 2
    percent that is. Where a seventh of it, of at least 4 steps, is a season too, the seventh is
    taken: the day goes before the week, which :func:`detect_cycle` finds. A lag is tried if one and
    a half of its cycles are in the context and four pairs judge it. Correlations come from fast
    Fourier transforms in float32: T log^2 T operations a series.

    Args:
        x: Series of T steps; NaN is a missing value, at the left also a history that begins later.
        likely: The season that the frequency of the series usually has, one number or ``[B, 1]``; 0
            where nothing is known of it.

    Returns:
        The season of each series in steps, 0 where none convinces; and its correlation less chance,
        0 where there is no season.

    Example:
        >>> detect_period(torch.arange(60.0).remainder(7)[None])[0].tolist()
        [7]
    """
    n_lags = _longest_lag(x)
    if n_lags < 2:
        return x.new_zeros(len(x), dtype=torch.long), x.new_zeros(len(x))
    likeness = _likeness(x, n_lags)
    lag = torch.arange(1, n_lags + 1, device=x.device)
    is_likely = (lag == likely) & (lag >= 2)
    # The usual season is mostly one of the calendar, and was charged as such.
    discount = _LIKELY_CHANCE / _CALENDAR_CHANCE
    likely_chance = likeness.chance * discount
    chance = torch.where(is_likely, likely_chance, likeness.chance)
    least_chance = torch.where(is_likely, _LIKELY_CONVINCING, _CONVINCING)
    least_chance = least_chance.to(chance)
    surplus = likeness.correlation - chance
    convincing = surplus >= least_chance
    is_season = likeness.tried & _peaks(likeness) & convincing
    # A lag of one step is no season.
    is_season[:, 0] = False
    score = torch.where(is_season, surplus, -1.0)
    best_score = score.amax(1, keepdim=True)
    least_score = best_score - _TOLERANCE
    near_best = is_season & (score >= least_score)
    # The first of equal ones is the shortest.
    place = near_best.to(torch.int8).argmax(1)
    shortest = place + 1
    period = _by_calendar(shortest, surplus)
    period = _day_of_week(period, is_season)
    strength = _at_lag(surplus, period)
    has_season = is_season.any(1)
    period = torch.where(has_season, period, 0)
    strength = torch.where(has_season, strength, 0.0)
    return period, strength.to(x.dtype)


def _at_lag(values: Shaped[Tensor, "B M"], lag: Int[Tensor, " B"]) -> Shaped[Tensor, " B"]:
    """Of values at lags 1 to M, those at one lag a series."""
    place = lag[:, None] - 1
    return values.gather(1, place)[:, 0]


def _peaks(likeness: "Likeness") -> Bool[Tensor, "B M"]:
    """Lags whose correlation is not below that of its neighbours, and above the least before it."""
    correlation = likeness.correlation
    padded = pad(correlation, (1, 1), value=-1.0)
    above_shorter = correlation >= padded[:, :-2]
    above_longer = correlation >= padded[:, 2:]
    # Before the first lag there is none: the correlation at lag 0 is 1.
    lowest = pad(likeness.lowest(), (1, 0), value=1.0)
    lowest_before = lowest[:, :-1]
    height = correlation - lowest_before
    prominent = height >= _PROMINENT
    return above_shorter & above_longer & prominent


def detect_cycle(
    x: Float[Tensor, "B T"], period: Int[Tensor, " B"]
) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"], Bool[Tensor, " B"]]:
    """The longer cycle in which a season comes back changed: the week of days, the year of weeks.

    From the series, less a straight line, the mean of each phase of the season m is taken off; what
    remains has correlations as :func:`detect_period` says. The cycle is 7 m or 52 m, that of the
    greater correlation less chance, if one and a half of it are in the context. It is clear if two
    of it are in the context and its correlation is at least 0.3 less chance, or 0.15 in the mean of
    one, two and three cycles where these can be judged; if the correlation is not below that one
    season before and after; and if it is 0.2 above the least at a shorter lag. A clear one goes
    before one that is not.

    Args:
        x: Series of T steps; NaN is a missing value, at the left also a history that begins later.
        period: The season of each series, 0 for none.

    Returns:
        The cycle of each series in steps, its season where no cycle can be judged; its correlation
        less chance, 0 where there is none; whether it is clear.

    Example:
        >>> step = torch.arange(120.0)
        >>> x = (step % 2 + (step % 14 < 2))[None]
        >>> cycle, strength, clear = detect_cycle(x, torch.tensor([2]))
        >>> cycle.tolist(), clear.tolist()
        ([14], [True])
    """
    observed = ~x.isnan()
    length = x.shape[1] - first_known(observed)
    shortest_cycle = _CYCLES[0] * period
    # One and a half of it are in the context.
    long_enough = 2 * length >= 3 * shortest_cycle
    can_be_judged = (period > 0) & long_enough
    if torch.compiler.is_exporting():
        # A program has no shapes that depend on values, so it judges all series.
        season = period.clamp_min(1)
        cycle, strength, is_clear = _judge_cycles(x, season, length, x.shape[1])
        cycle = torch.where(can_be_judged, cycle, period)
        strength = torch.where(can_be_judged, strength, 0.0)
        return cycle, strength, can_be_judged & is_clear
    cycle = period.clone()
    strength = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    is_clear = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    rows = can_be_judged.nonzero()[:, 0]
    if len(rows):
        season = period[rows]
        longest = int(season.max())
        judged = _judge_cycles(x[rows], season, length[rows], longest)
        cycle[rows], strength[rows], is_clear[rows] = judged
    return cycle, strength, is_clear


def _judge_cycles(
    x: Tensor, period: Int[Tensor, " B"], length: Int[Tensor, " B"], longest: int
) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"], Bool[Tensor, " B"]]:
    """The answer of :func:`detect_cycle` for series of ``length`` steps and a season, at most the
    ``longest``.
    """
    season = period[:, None]
    n_lags = _longest_lag(x)
    without_season = _without_season(x, season, longest)
    likeness = _likeness(without_season, n_lags)
    n_seasons = torch.tensor(_CYCLES, device=x.device)
    lag = season * n_seasons
    tried = likeness.at(lag, likeness.tried)
    judged = (lag <= n_lags) & tried
    surplus = likeness.surplus(lag)
    clear_lags = _clear_cycles(likeness, lag, season, length[:, None])
    clear = judged & clear_lags
    rank = torch.where(judged, surplus, -torch.inf)
    # A clear cycle goes before all others: correlations are at most 1.
    rank = rank + 4.0 * clear
    best = rank.argmax(1, keepdim=True)
    best_lag = lag.gather(1, best)[:, 0]
    best_surplus = surplus.gather(1, best)[:, 0]
    any_judged = judged.any(1)
    cycle = torch.where(any_judged, best_lag, period)
    strength = torch.where(any_judged, best_surplus, 0.0)
    any_clear = clear.any(1)
    return cycle, strength.to(x.dtype), any_clear


def _clear_cycles(
    likeness: "Likeness", lag: Tensor, season: Tensor, length: Tensor
) -> Bool[Tensor, "B K"]:
    """Whether each of K cycles of ``lag [B K]`` steps is clear, of those that can be judged."""
    n_lags = likeness.correlation.shape[1]
    correlation = likeness.at(lag)
    surplus = likeness.surplus(lag)
    # Weeks of weather that are chance do not come back after two and three weeks.
    second_surplus = likeness.surplus(2 * lag)
    third_surplus = likeness.surplus(3 * lag)
    sum_of_three = surplus + second_surplus + third_surplus
    is_clear_thrice = sum_of_three >= 3 * _CLEAR_THRICE
    repeated = (3 * lag <= n_lags) & is_clear_thrice
    convincing = (surplus >= _CLEAR) | repeated
    lowest = likeness.at(lag, likeness.lowest())
    height = correlation - lowest
    prominent = height >= _PROMINENT
    earlier = likeness.at(lag - season)
    next_lag = lag + season
    # A lag that is too long for a judgement counts as unlike.
    later = likeness.at(next_lag)
    later = torch.where(next_lag <= n_lags, later, -1.0)
    highest = (correlation >= earlier) & (correlation >= later)
    is_repeated = 2 * lag <= length
    return is_repeated & convincing & prominent & highest


def first_known(observed: Shaped[Tensor, "B T"]) -> Int[Tensor, " B"]:
    """Steps before the first observed one of each series; 0 where there is none."""
    return observed.to(torch.uint8).argmax(1)


def _longest_lag(x: Tensor) -> int:
    """The longest lag that is tried."""
    longest = int((x.shape[1] - 1) / _LEAST_CYCLES)
    return min(longest, MAX_PERIOD)


def _without_season(x: Tensor, season: Tensor, longest: int) -> Tensor:
    """Series less a straight line and the mean of each phase of the season [B 1].

    Missing values are NaN.
    """
    values, weights = _detrended(x)
    # Phases are counted from the end, which all series have in common.
    last_step = x.shape[1] - 1
    steps_to_end = torch.arange(last_step, -1, -1, device=x.device)
    phase = steps_to_end % season
    empty = values.new_zeros(x.shape[0], longest)
    sums = empty.scatter_add(1, phase, values)
    counts = empty.scatter_add(1, phase, weights)
    phase_means = sums / counts.clamp_min(1)
    mean = phase_means.gather(1, phase)
    residual = values - mean
    return torch.where(weights > 0, residual, torch.nan)


def _day_of_week(period: Tensor, is_season: Bool[Tensor, "B M"]) -> Tensor:
    """A seventh of the period, where that is a season by itself."""
    seventh = period // _WEEK
    is_multiple = period % _WEEK == 0
    is_whole = is_multiple & (seventh >= _SHORTEST_DAY)
    lag = seventh.clamp_min(1)
    is_day = _at_lag(is_season, lag)
    return torch.where(is_whole & is_day, seventh, period)


def _by_calendar(period: Tensor, score: Tensor) -> Tensor:
    """The season of the calendar near a period, by one step or 2 percent, where it is as good."""
    n_lags = score.shape[1]
    fitting = [season for season in _CALENDAR if season <= n_lags]
    if not fitting:
        return period
    calendar = torch.tensor(fitting, device=period.device)
    period_score = _at_lag(score, period)
    calendar_score = score[:, calendar - 1]
    width = (_CALENDAR_WIDTH * calendar).round().clamp_min(1)
    distance = (period[:, None] - calendar).abs()
    near = distance <= width
    least_score = period_score[:, None] - _TOLERANCE
    as_good = calendar_score >= least_score
    candidate_score = torch.where(near & as_good, calendar_score, -torch.inf)
    # 360 and 365 are both near 362: the better one is taken.
    best_score, best = candidate_score.max(1)
    has_candidate = best_score.isfinite()
    return torch.where(has_candidate, calendar[best], period)


class Likeness(NamedTuple):
    """How much B series are like themselves at lags 1 to M.

    Attributes:
        correlation: At each lag; -1 where it was not tried.
        chance: What a correlation is charged for chance.
        tried: Whether a lag can be judged.
    """

    correlation: Float[Tensor, "B M"]
    chance: Float[Tensor, "B M"]
    tried: Bool[Tensor, "B M"]

    def at(self, lags: Tensor, values: Tensor | None = None) -> Tensor:
        """Values, by default correlations, at lags [B K]; those out of range are the nearest."""
        table = self.correlation if values is None else values
        n_lags = table.shape[1]
        nearest = lags.clamp(1, n_lags)
        return table.gather(1, nearest - 1)

    def surplus(self, lags: Tensor) -> Tensor:
        """Correlations less chance at lags [B K]."""
        correlation = self.at(lags)
        chance = self.at(lags, self.chance)
        return correlation - chance

    def lowest(self) -> Float[Tensor, "B M"]:
        """The least correlation up to each lag."""
        correlation = torch.where(self.tried, self.correlation, 1.0)
        if torch.compiler.is_exporting():
            return -running_max(-correlation)
        return correlation.cummin(1).values


def running_max(x: Shaped[Tensor, "B M"]) -> Shaped[Tensor, "B M"]:
    """What ``cummax`` gives along the rows, in operators that programs have."""
    n_steps = 1
    while n_steps < x.shape[1]:
        # The first steps have no earlier ones and stay as they are.
        first = x[:, :n_steps]
        earlier = torch.cat([first, x[:, :-n_steps]], dim=1)
        x = torch.maximum(x, earlier)
        n_steps = 2 * n_steps
    return x


def _likeness(x: Tensor, n_lags: int) -> Likeness:
    """Likeness of series to themselves at lags 1 to ``n_lags``."""
    values, weights = _detrended(x)
    if torch.compiler.is_exporting():
        correlation, extent, pairs = _correlations_at_once(values, weights, n_lags)
    else:
        correlation, extent, pairs = _correlations_in_turn(values, weights, n_lags)
    n_pairs = pairs.clamp_min(1)
    lag = torch.arange(1, n_lags + 1, device=pairs.device)
    length = weights.shape[1] - first_known(weights)[:, None]
    # The longest lag of a series alone, so that missing steps before it change nothing.
    fits = _LEAST_CYCLES * lag <= length - 1
    has_pairs = pairs[:, 1:] >= _MIN_PAIRS
    tried = has_pairs & fits
    squared_error = extent / n_pairs[:, 1:]
    standard_error = squared_error.sqrt()
    chance = _charges(n_lags, pairs) * standard_error
    correlation = torch.where(tried, correlation, -1.0)
    return Likeness(correlation, chance, tried)


def _correlations_in_turn(
    values: Tensor, weights: Tensor, n_lags: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Correlations of detrended series, from one moving average after the other.

    Each serves some of the lags. No more than one is in memory.

    Returns:
        Correlations and Bartlett's extents at lags 1 to M, and counts of pairs at lags 0 to M.
    """
    n_steps = values.shape[1]
    # Where no value is missing, the counts of one series are those of all.
    if bool(weights.all()):
        weights = weights[:1]
    pairs = lag_products(weights, n_lags).round_()
    n_pairs = pairs.clamp_min(1)
    correlation = values.new_zeros(len(values), n_lags)
    extent = torch.ones_like(correlation)
    halves = _half_windows(n_lags)
    # Zeros on either side, for windows that reach beyond the series.
    reach = halves[-1]
    padded_values = pad(values, (reach, reach))
    padded_weights = pad(weights, (reach, reach))
    # Sums over two steps, later over each window, from those over its halves.
    sums = _with_earlier(padded_values, 1)
    counts = _with_earlier(padded_weights, 1)
    first = 1
    for half in halves:
        last = min(2 * half, n_lags)
        sums = _with_earlier(sums, half)
        counts = _with_earlier(counts, half)
        begin = reach - half
        steps = slice(begin, begin + n_steps)
        window_sum = sums[:, steps]
        window_count = counts[:, steps]
        residual = _without_slow(values, weights, window_sum, window_count)
        products = lag_products(residual, last)
        alike = _correlations(products, n_pairs[:, : last + 1])
        lags = slice(first - 1, last)
        correlation[:, lags] = alike[:, lags]
        # Bartlett: neighbours that are alike bring less news.
        squares = alike[:, : first // 2].square()
        sum_of_squares = squares.sum(1, keepdim=True)
        extent[:, lags] = 1 + 2 * sum_of_squares
        first = last + 1
    return correlation, extent, pairs


def _with_earlier(sums: Tensor, n_steps: int) -> Tensor:
    """Sums of windows and those of the windows so many steps before: of windows twice as long."""
    return sums[:, n_steps:] + sums[:, :-n_steps]


def _correlations_at_once(
    values: Tensor, weights: Tensor, n_lags: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What :func:`_correlations_in_turn` returns, from all moving averages at once.

    An exported program repeats the operators of a loop for each round; these are few.
    """
    n_series, n_steps = values.shape
    halves = _half_windows(n_lags)
    n_windows = len(halves)
    half = torch.tensor(halves)[:, None]
    step = torch.arange(n_steps)
    begin = (step - half).clamp_min(0)
    end = (step + half).clamp_max(n_steps)
    values_and_weights = torch.stack([values, weights], 1)
    # Sums before each step, in float64, so that differences of them keep the digits.
    sums = values_and_weights.to(torch.float64).cumsum(2)
    sums_before = pad(sums, (1, 0))
    totals = sums_before[:, :, end] - sums_before[:, :, begin]
    totals = totals.to(torch.float32).flatten(2)
    repeated = values_and_weights.repeat(1, 1, n_windows)
    # Values, weights, sums and counts, [B W T] as [B W, T], of W moving averages.
    parts = (*repeated.unbind(1), *totals.unbind(1))
    rows_of_windows = [part.reshape(-1, n_steps) for part in parts]
    residual = _without_slow(*rows_of_windows)
    # Counts of pairs are the products of the weights.
    rows = torch.cat([weights, residual], dim=0)
    products = lag_products(rows, n_lags)
    pairs = products[:n_series].round()
    n_pairs = pairs.clamp_min(1).repeat(1, n_windows)
    n_pairs = n_pairs.reshape(-1, n_lags + 1)
    alike = _correlations(products[n_series:], n_pairs)
    alike = alike.unflatten(0, (-1, n_windows))
    lag = torch.arange(1, n_lags + 1)
    # Lags of one moving average: 1 to 4, 5 to 8, 9 to 16 and so on.
    first = torch.where(half > 2, half + 1, 1)
    last = 2 * half
    served = (first <= lag) & (lag <= last)
    correlation = torch.where(served, alike, 0.0).sum(1)
    is_shorter = lag <= first // 2
    squares = torch.where(is_shorter, alike.square(), 0.0)
    sum_of_squares = squares.sum(2, keepdim=True)
    extents = 1 + 2 * sum_of_squares
    extent = torch.where(served, extents, 0.0).sum(1)
    return correlation, extent, pairs


def _half_windows(n_lags: int) -> list[int]:
    """Half the steps of each moving average that lags up to ``n_lags`` need: powers of two."""
    halves = [2]
    while 2 * halves[-1] < n_lags:
        next_half = 2 * halves[-1]
        halves.append(next_half)
    return halves


def _correlations(products: Tensor, n_pairs: Tensor) -> Tensor:
    """Correlations at lags 1 to M, from sums of products and counts of pairs at lags 0 to M."""
    covariance = products.div_(n_pairs)
    variance = covariance[:, :1].clamp_min(1e-9)
    correlation = covariance[:, 1:].div_(variance)
    return correlation.clamp_(-1, 1)


def _charges(n_lags: int, like: Tensor) -> Tensor:
    """What the correlation at each lag is charged for chance, in standard errors, [M]."""
    charge = torch.full((n_lags,), _CHANCE, dtype=like.dtype, device=like.device)
    of_calendar = [season - 1 for season in _CALENDAR if season <= n_lags]
    charge[of_calendar] = _CALENDAR_CHANCE
    return charge


def lag_products(x: Tensor, n_lags: int) -> Tensor:
    """Sums of products of steps m apart, m = 0 .. n_lags, through Fourier transforms.

    The length of the transforms has small factors.
    """
    least = x.shape[1] + n_lags
    if torch.compiler.is_exporting():
        size = 2 ** (least - 1).bit_length()
        padded = pad(x, (0, size - x.shape[1]))
        real, imaginary = _transform(padded)
        power = real.square() + imaginary.square()
        # The power is real and even, so that the transform is its own inverse.
        products, _ = _transform(power)
        return products[:, : n_lags + 1] / size
    # Small factors times a power of two: transforms of such lengths are fast.
    exponent = max(least.bit_length() - 4, 0)
    unit = 2**exponent
    sizes = [count * unit for count in (8, 9, 10, 12, 15, 16)]
    size = min(size for size in sizes if size >= least)
    spectrum = torch.fft.rfft(x, size)
    power = spectrum * spectrum.conj()
    products = torch.fft.irfft(power, size)
    return products[:, : n_lags + 1]


def _transform(x: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts of the Fourier transforms of rows, in products of small matrices.

    Runtimes of programs are slow with their operator for it. With ``n = Q p + q`` and
    ``k = P j + i`` the transform of ``P Q`` numbers is one of P numbers for each q, a turn by
    ``q i / (P Q)``, and one of Q numbers for each i (Cooley and Tukey 1965).
    """
    size = x.shape[1]
    n_columns = 2 ** (size.bit_length() // 2)
    n_rows = size // n_columns
    rows = np.arange(n_rows)
    columns = np.arange(n_columns)
    row_cosine, row_sine = _waves(rows, rows, n_rows)
    turn_cosine, turn_sine = _waves(rows, columns, size)
    cosine, sine = _waves(columns, columns, n_columns)
    grid = x.unflatten(1, (n_rows, n_columns))
    real = row_cosine @ grid
    imaginary = -(row_sine @ grid)
    turned_real = real * turn_cosine + imaginary * turn_sine
    turned_imaginary = imaginary * turn_cosine - real * turn_sine
    real = turned_real @ cosine + turned_imaginary @ sine
    imaginary = turned_imaginary @ cosine - turned_real @ sine
    # Frequency k = P j + i is in row i and column j.
    real_by_frequency = real.transpose(1, 2).flatten(1)
    imaginary_by_frequency = imaginary.transpose(1, 2).flatten(1)
    return real_by_frequency, imaginary_by_frequency


def _waves(rows: np.ndarray, columns: np.ndarray, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the products of two numbers, as shares of a turn, float32."""
    # The remainder keeps the digits of large products.
    turns = rows[:, None] * columns % length
    angles = 2 * np.pi * turns / length
    cosine = np.cos(angles).astype(np.float32)
    sine = np.sin(angles).astype(np.float32)
    return torch.from_numpy(cosine), torch.from_numpy(sine)


def _detrended(x: Tensor) -> tuple[Tensor, Tensor]:
    """Values less their straight line, and weights, in float32.

    Returns:
        Values in units of what remains, 0 where missing; 1 where a value is observed, else 0.
    """
    missing = x.isnan()
    weights = (~missing).to(torch.float32)
    count = weights.sum(1, keepdim=True).clamp_min_(1)
    values = x.to(torch.float64).masked_fill(missing, 0.0)
    # A large mean is taken off in float64.
    mean = values.sum(1, keepdim=True) / count
    values = values.sub_(mean).masked_fill_(missing, 0.0)
    largest = values.abs().amax(1, keepdim=True)
    largest = torch.where(largest > 0, largest, 1.0)
    values = values.div_(largest).to(torch.float32)
    time = torch.arange(x.shape[1], dtype=torch.float32, device=x.device)
    sum_of_times = (time * weights).sum(1, keepdim=True)
    mean_time = sum_of_times / count
    time = (time - mean_time).mul_(weights)
    sum_of_squares = time.square().sum(1, keepdim=True)
    extent = sum_of_squares.clamp_min_(1)
    covariance = (time * values).sum(1, keepdim=True)
    slope = covariance / extent
    values = values.sub_(time.mul_(slope))
    return _in_deviations(values, count), weights


def _without_slow(values: Tensor, weights: Tensor, total: Tensor, count: Tensor) -> Tensor:
    """Values less their centred moving average, in units of what remains and bounded.

    Args:
        values: 0 where missing.
        weights: 1 where a value is observed.
        total: Sum of the values in the window around each step.
        count: Observed values in it.
    """
    n_in_window = count.clamp_min(1)
    # values - total / n_in_window, in one pass over the memory.
    residual = torch.addcdiv(values, total, n_in_window, value=-1)
    residual = residual.mul_(weights)
    n_values = weights.sum(1, keepdim=True).clamp_min(1)
    scaled = _in_deviations(residual, n_values)
    return scaled.clamp_(-_FARTHEST, _FARTHEST)


def _in_deviations(values: Tensor, count: Tensor) -> Tensor:
    """Values in units of their deviation, changed in place; 0 where only rounding errors are."""
    sum_of_squares = values.square().sum(1, keepdim=True)
    variance = sum_of_squares / count
    deviation = variance.sqrt_()
    is_varying = deviation > _ROUNDING
    # A division by infinity leaves 0.
    scale = torch.where(is_varying, deviation, torch.inf)
    return values.div_(scale)
