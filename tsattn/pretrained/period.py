"""Detection of seasons: the lag at which a series, its slow movement taken off, is most like
itself, and its cycle.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

# Longest season that is tried, in steps.
MAX_PERIOD = 1440
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
# A season's correlation, chance taken off, is at least this, and this much above the least at a
# shorter lag.
_CONVINCING = 0.1
_PROMINENT = 0.2
# A shorter season is preferred whose correlation is lower by at most this.
_TOLERANCE = 0.05
# Values this many deviations from the slow movement count as much as those at it.
_FARTHEST = 3.0
# What remains is rounding error if it is smaller than this, in deviations of the series.
_ROUNDING = 1e-6
# A season's cycle has so many of them: a week of days, a year of weeks.
_CYCLES = (7, 52)
# Steps of the shortest day that goes before its week.
_SHORTEST_DAY = 4
# A clear cycle repeats so well, chance taken off, or so well in the mean of one, two and three
# cycles.
_CLEAR = 0.3
_CLEAR_THRICE = 0.15
# Steps of a long past, or means of several of them, that are searched.
_LONG_STEPS = 2048
# Seasons of the calendar, which are preferred to a neighbour that is no better by more than the
# tolerance.
_CALENDAR = (4, 7, 12, 24, 48, 52, 60, 96, 120, 144, 168, 288, 336, 360, 365, 672, 720, 1008, 1440)


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
        """Those of all parts, in their order."""
        return cls(
            *(torch.cat(values) for values in zip(*(part.fields() for part in parts), strict=True))
        )

    def fields(self) -> tuple[Tensor, ...]:
        """The five tensors."""
        return self.period, self.cycle, self.strength, self.cycle_strength, self.clear

    def rows(self, rows: Tensor) -> "Seasons":
        """Those of some series, by their numbers or by flags."""
        return Seasons(*(values[rows] for values in self.fields()))

    def where(self, rows: Bool[Tensor, " B"], others: "Seasons") -> "Seasons":
        """The same with others for the series that are flagged."""
        pairs = zip(self.fields(), others.fields(), strict=True)
        return Seasons(
            *(values.masked_scatter(rows, other.to(values.dtype)) for values, other in pairs)
        )

    def longest(self) -> Int[Tensor, " B"]:
        """Steps of the season or of its clear cycle, whichever is longer."""
        return torch.maximum(self.period, self.clear_cycle())

    def clear_cycle(self) -> Int[Tensor, " B"]:
        """The cycle where it is clear, else the season."""
        return torch.where(self.clear, self.cycle, self.period)


def detect_seasons(x: Float[Tensor, "B T"], likely: int = 0) -> Seasons:
    """Season and cycle of each series, as :func:`detect_period` and :func:`detect_cycle` say.

    Args:
        x: Series of T steps; NaN is a missing value, at the left also a history that begins later.
        likely: The season that the frequency of the series usually has, 0 where nothing is known of
            it.
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
        means = block_means(x[rows][:, -step * _LONG_STEPS :], step)
        seasons = seasons.where(rows, _with_coarse_seasons(seasons.rows(rows), means, step))
    return seasons


def coarse_steps(x: Float[Tensor, "B T"]) -> Int[Tensor, " B"]:
    """Steps that are read as one mean: the least power of two that leaves 2,048 means of a series
    at most.
    """
    n_steps = x.shape[1] - first_known(~x.isnan())
    return 2 ** (n_steps / _LONG_STEPS).log2().ceil().clamp_min(0).long()


def block_means(x: Float[Tensor, "B T"], step: int) -> Float[Tensor, "B N"]:
    """Means of blocks of so many steps, the last of which ends with the series; NaN where nothing
    is known.
    """
    padded = torch.nn.functional.pad(x, (-x.shape[1] % step, 0), value=torch.nan)
    return padded.unflatten(1, (-1, step)).nanmean(2)


def _with_coarse_seasons(seasons: Seasons, means: Tensor, step: int) -> Seasons:
    """Seasons, with those that means of so many steps show where they are clearer."""
    coarse = detect_seasons(means)
    period = coarse.period * step
    too_long = 2 * torch.maximum(period, coarse.cycle * step) > _LONG_STEPS
    convincing = coarse.strength >= _CLEAR
    # What the recent part can show twice it has judged better: weeks of weather are chance.
    clearer = coarse.clear & ~seasons.clear & too_long
    clearer |= convincing & (seasons.period == 0)
    clearer |= convincing & (2 * period > _LONG_STEPS) & (coarse.strength > seasons.strength)
    return Seasons(
        torch.where(clearer, period, seasons.period),
        torch.where(clearer, coarse.cycle * step, seasons.cycle),
        torch.where(clearer, coarse.strength, seasons.strength),
        torch.where(clearer, coarse.cycle_strength, seasons.cycle_strength),
        torch.where(clearer, coarse.clear, seasons.clear),
    )


def detect_period(
    x: Float[Tensor, "B T"], likely: int = 0
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
        likely: The season that the frequency of the series usually has, 0 where nothing is known of
            it.

    Returns:
        The season of each series in steps, 0 where none convinces; and its correlation less chance,
        0 where there is no season.

    Example:
        >>> detect_period(torch.arange(60.0).remainder(7)[None])[0].tolist()
        [7]
    """
    n_lags = min(int((x.shape[1] - 1) / 1.5), MAX_PERIOD)
    if n_lags < 2:
        return x.new_zeros(len(x), dtype=torch.long), x.new_zeros(len(x))
    likeness, chance, tried = _likeness(x, n_lags)
    convincing = torch.full_like(chance, _CONVINCING)
    if 2 <= likely <= n_lags:
        chance[:, likely - 1] *= _LIKELY_CHANCE / _CALENDAR_CHANCE
        convincing[:, likely - 1] = _LIKELY_CONVINCING
    beside = torch.nn.functional.pad(likeness, (1, 1), value=-1.0)
    peak = (likeness >= beside[:, :-2]) & (likeness >= beside[:, 2:])
    least = torch.nn.functional.pad(
        torch.where(tried, likeness, 1.0).cummin(1).values, (1, 0), value=1.0
    )[:, :-1]
    score = likeness - chance
    good = tried & peak & (score >= convincing) & (likeness - least >= _PROMINENT)
    good[:, 0] = False
    score = torch.where(good, score, -1.0)
    near_best = good & (score >= score.amax(1, keepdim=True) - _TOLERANCE)
    shortest = near_best.to(torch.int8).argmax(1)
    found = good.any(1)
    period = _by_calendar(shortest + 1, likeness - chance)
    period = _day_of_week(period, good)
    strength = (likeness - chance).gather(1, period[:, None] - 1)[:, 0]
    return torch.where(found, period, 0), torch.where(found, strength, 0.0).to(x.dtype)


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
    cycle = period.clone()
    start = first_known(~x.isnan())
    strength = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    is_clear = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    rows = ((period > 0) & (3 * _CYCLES[0] * period <= 2 * (x.shape[1] - start))).nonzero()[:, 0]
    if not len(rows):
        return cycle, strength, is_clear
    season = period[rows, None]
    length = (x.shape[1] - start[rows])[:, None]
    n_lags = min(int((x.shape[1] - 1) / 1.5), MAX_PERIOD)
    likeness, chance, tried = _likeness(_without_season(x[rows], season), n_lags)
    lag = season * torch.tensor(_CYCLES, device=x.device)

    def at(lags: Tensor) -> Tensor:
        return likeness.gather(1, lags.clamp(1, n_lags) - 1)

    low = torch.where(tried, likeness, 1.0).cummin(1).values.gather(1, lag.clamp(1, n_lags) - 1)
    surplus = at(lag) - chance.gather(1, lag.clamp(1, n_lags) - 1)
    judged = (lag <= n_lags) & tried.gather(1, lag.clamp(1, n_lags) - 1)
    # Weeks of weather that are chance do not come back after two and three weeks.
    later = [at(k * lag) - chance.gather(1, (k * lag).clamp(1, n_lags) - 1) for k in (2, 3)]
    repeated = (3 * lag <= n_lags) & (surplus + later[0] + later[1] >= 3 * _CLEAR_THRICE)
    clear = (
        judged
        & (2 * lag <= length)
        & ((surplus >= _CLEAR) | repeated)
        & (at(lag) - low >= _PROMINENT)
    )
    clear &= (at(lag) >= at(lag - season)) & (
        at(lag) >= torch.where(lag + season <= n_lags, at(lag + season), -1.0)
    )
    # A clear cycle goes before all others: correlations are at most 1.
    rank = torch.where(judged, surplus, -torch.inf) + 4.0 * clear
    best = rank.argmax(1, keepdim=True)
    some = judged.any(1)
    cycle[rows] = torch.where(some, lag.gather(1, best)[:, 0], period[rows])
    strength[rows] = torch.where(some, surplus.gather(1, best)[:, 0], 0.0).to(x.dtype)
    is_clear[rows] = clear.any(1)
    return cycle, strength, is_clear


def first_known(known: Shaped[Tensor, "B T"]) -> Int[Tensor, " B"]:
    """Steps before the first known one of each series; 0 where there is none."""
    return known.to(torch.uint8).argmax(1)


def _without_season(x: Tensor, season: Tensor) -> Tensor:
    """Series less a straight line and the mean of each phase of the season [B 1], NaN where
    missing.
    """
    values, known = _detrended(x)
    phase = torch.arange(x.shape[1] - 1, -1, -1, device=x.device) % season
    sums, counts = (
        values.new_zeros(len(x), int(season.max())).scatter_add(1, phase, part)
        for part in (values, known)
    )
    return torch.where(known > 0, values - (sums / counts.clamp_min(1)).gather(1, phase), torch.nan)


def _day_of_week(period: Tensor, good: Bool[Tensor, "B M"]) -> Tensor:
    """A seventh of the period, where that is a season by itself."""
    seventh = period // _CYCLES[0]
    whole = (period % _CYCLES[0] == 0) & (seventh >= _SHORTEST_DAY)
    is_season = good.gather(1, seventh.clamp_min(1)[:, None] - 1)[:, 0]
    return torch.where(whole & is_season, seventh, period)


def _by_calendar(period: Tensor, score: Tensor) -> Tensor:
    """The season of the calendar beside a period, by one step or 2 percent, where it is as good."""
    known = torch.tensor(
        [season for season in _CALENDAR if season <= score.shape[1]], device=period.device
    )
    if not len(known):
        return period
    own = score.gather(1, period[:, None] - 1)
    there = score[:, known - 1]
    beside = (period[:, None] - known).abs() <= (0.02 * known).round().clamp_min(1)
    # 360 and 365 are both beside 362: the better one is taken.
    fit, best = torch.where(beside & (there >= own - _TOLERANCE), there, -torch.inf).max(1)
    return torch.where(fit.isfinite(), known[best], period)


def _likeness(
    x: Tensor, n_lags: int
) -> tuple[Float[Tensor, "B M"], Float[Tensor, "B M"], Bool[Tensor, "B M"]]:
    """Correlation at lags 1 to n_lags, what it is charged for chance, and whether a lag can be
    judged.
    """
    values, known = _detrended(x)
    pairs = _products(known, n_lags).round_()
    judged = pairs.clamp_min(1)
    likeness = torch.zeros_like(pairs[:, 1:])
    extent = torch.ones_like(pairs[:, 1:])
    # Sums over two steps, later over each window, from those over its halves; steps on either side
    # for windows that reach beyond.
    reach = 2 ** max((n_lags - 1).bit_length() - 1, 1)
    padded = [torch.nn.functional.pad(part, (reach, reach)) for part in (values, known)]
    sums = [part[:, 1:] + part[:, :-1] for part in padded]
    half = 2
    first = 1
    while first <= n_lags:
        last = min(2 * half, n_lags)
        sums = [part[:, half:] + part[:, :-half] for part in sums]
        slow = [part[:, reach - half :][:, : x.shape[1]] for part in sums]
        alike = _products(_without_slow(values, known, *slow), last).div_(judged[:, : last + 1])
        alike = alike[:, 1:].div_(alike[:, :1].clamp_min(1e-9)).clamp_(-1, 1)
        likeness[:, first - 1 : last] = alike[:, first - 1 :]
        # Bartlett: neighbours that are alike bring less news.
        extent[:, first - 1 : last] = 1 + 2 * alike[:, : first // 2].square().sum(1, keepdim=True)
        half = 2 * half
        first = last + 1
    lags = torch.arange(1, n_lags + 1, device=x.device)
    tried = (pairs[:, 1:] >= _MIN_PAIRS) & (1.5 * lags <= x.shape[1] - first_known(known)[:, None])
    charge = torch.full((n_lags,), _CHANCE, dtype=pairs.dtype, device=x.device)
    charge[[season - 1 for season in _CALENDAR if season <= n_lags]] = _CALENDAR_CHANCE
    chance = charge * (extent / judged[:, 1:]).sqrt()
    return torch.where(tried, likeness, -1.0), chance, tried


def _products(x: Tensor, n_lags: int) -> Tensor:
    """Sums of products of steps m apart, m = 0 .. n_lags, through Fourier transforms of a length
    with small factors.
    """
    least = x.shape[1] + n_lags
    unit = 2 ** max(least.bit_length() - 4, 0)
    size = next(count * unit for count in (8, 9, 10, 12, 15, 16) if count * unit >= least)
    spectrum = torch.fft.rfft(x, size)
    return torch.fft.irfft(spectrum * spectrum.conj(), size)[:, : n_lags + 1]


def _detrended(x: Tensor) -> tuple[Tensor, Tensor]:
    """Values less their straight line, in units of what remains, 0 where missing; and 1 where
    known. In float32.
    """
    missing = x.isnan()
    known = (~missing).to(torch.float32)
    values = x.to(torch.float64).masked_fill(missing, 0.0)
    count = known.sum(1, keepdim=True).clamp_min_(1)
    # Large levels leave in float64.
    values = values.sub_(values.sum(1, keepdim=True) / count).masked_fill_(missing, 0.0)
    scale = values.abs().amax(1, keepdim=True)
    values = values.div_(torch.where(scale > 0, scale, 1.0)).to(torch.float32)
    time = torch.arange(x.shape[1], dtype=torch.float32, device=x.device)
    time = (time - (time * known).sum(1, keepdim=True) / count).mul_(known)
    slope = (time * values).sum(1, keepdim=True) / time.square().sum(1, keepdim=True).clamp_min_(1)
    values = values.sub_(time.mul_(slope))
    spread = (values.square().sum(1, keepdim=True) / count).sqrt_()
    return values.div_(torch.where(spread > _ROUNDING, spread, torch.inf)), known


def _without_slow(values: Tensor, known: Tensor, total: Tensor, count: Tensor) -> Tensor:
    """Values less their centred moving average of known ones, in units of what remains and bounded;
    0 where missing.
    """
    rest = torch.addcdiv(values, total, count.clamp_min(1), value=-1).mul_(known)
    spread = (rest.square().sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp_min(1)).sqrt()
    return rest.div_(torch.where(spread > _ROUNDING, spread, torch.inf)).clamp_(
        -_FARTHEST, _FARTHEST
    )
