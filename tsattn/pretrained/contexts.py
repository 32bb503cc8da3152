"""How the pretrained network reads a context: which part of it, by which mean and deviation, and
whether its changes are forecast beside its values.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# Deviations of a window below this, in units of its largest value, are rounding errors.
_ROUNDING = 1e-14
# Smallest ratio of deviations whose logarithm is taken.
_LEAST_RATIO = 1e-3


@dataclass(frozen=True)
class RecentPart:
    """Rule that decides how much of a context is read.

    Args:
        most_changes: A part whose deviation is at most so many mean changes from step to step is
            read whole: its recent changes can be seen beside its deviation.
        lengths: Steps of the parts that are tried, descending.
        n_seasons: Seasons that a part holds at least.
        n_horizons: Horizons that a part holds at least.
    """

    most_changes: float = 24.0
    lengths: tuple[int, ...] = (1024, 512, 256)
    n_seasons: int = 4
    n_horizons: int = 16


@dataclass(frozen=True)
class RecentMeasure:
    """The recent part of a window, by whose mean and deviation the window is measured.

    Args:
        n_steps: Steps of the part at least.
        n_cycles: Cycles that it holds at least; it holds whole ones.
        least_values: A window with fewer observed values in the part is measured by all of it.
        least_share: The deviation counts as this share of that of the whole window at least, so
            that a recent part without changes does not set the scale.
    """

    n_steps: int = 64
    n_cycles: int = 2
    least_values: int = 8
    least_share: float = 0.1

    def length(self, cycle: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Steps of the part, for windows of these cycles; 0 is none."""
        cycle = cycle.clamp_min(1)
        n_cycles = -floor(torch.full_like(cycle, -self.n_steps), cycle)
        return cycle * n_cycles.clamp_min(self.n_cycles)


@dataclass(frozen=True)
class SteadyChanges:
    """Rule that decides how much the forecast of changes counts beside that of values.

    A change is the difference to the value one cycle before, or to the last value. The network
    cannot tell values apart that differ by a few hundredths of the deviation of a window. Where
    changes are as steady as that, as in a population or in the mean temperature of every hour of a
    year, they are forecast and added up.

    Unsteadiness is the mean distance of changes to their mean, in units of the deviation of the
    values, both in the recent part of a window, times the root of the number of changes that are
    added up. Of noise around a season, one change takes back the one before, to a correlation of
    -1/2: then differences only add noise, and unsteadiness counts several times.

    Args:
        all_below: Where unsteadiness is less, the forecast of changes is the forecast.
        none_above: Where it is more, the forecast of changes does not count. Between the two its
            share falls with the logarithm.
        noise_factor: Factor of the unsteadiness at a correlation of -1/2; its logarithm is
            proportional to the correlation, and at 0 or more it is 1.
        least_share: A smaller share is none: it would cost a second pass for little.
        least_values: Changes that the recent part must hold.
        power: Distances of quantiles to the median add up as ``(a^power + b^power)^(1/power)``:
            between 1, as if changes erred all alike, and 2, as if they were independent.
    """

    all_below: float = 0.06
    none_above: float = 1.2
    noise_factor: float = 8.0
    least_share: float = 0.15
    least_values: int = 8
    power: float = 1.5

    def share(
        self, unsteadiness: Float[Tensor, "B 1"], correlation: Float[Tensor, "B 1"]
    ) -> Float[Tensor, "B 1"]:
        """Share of the forecast of changes, from 0 to 1.

        Args:
            unsteadiness: That of the changes of each window.
            correlation: Of a change with the one before.
        """
        taken_back = (-2 * correlation).clamp(0.0, 1.0)
        logarithm = unsteadiness.clamp_min(_ROUNDING).log()
        logarithm = logarithm + taken_back * math.log(self.noise_factor)
        extent = math.log(self.none_above / self.all_below)
        share = ((math.log(self.none_above) - logarithm) / extent).clamp_max(1.0)
        return torch.where(share >= self.least_share, share, 0.0)


def read_recent(
    x: Float[Tensor, "B T"], period: Int[Tensor, " B"], horizon: Tensor | int
) -> tuple[Float[Tensor, "B T"], Bool[Tensor, " B"]]:
    """Remove the old part of contexts that makes their recent changes too small to be seen.

    A context is read whole where its deviation is at most 24 times the mean absolute change from
    one observed step to the next. Of others the last 1,024, 512 or 256 steps are read, the most of
    which that holds, else the fewest of which something varies; a part holds four seasons and
    sixteen horizons at least. A window is measured by its deviation, beside which the last steps of
    a price, or of a concentration that rises for decades, would hardly be seen.

    Args:
        x: Contexts; NaN is missing, at the left also a history that begins later.
        period: The season of each in steps, 0 for none.
        horizon: Steps ahead, one number or ``[B]``.

    Returns:
        Contexts, NaN before the part that is read; whether there is less of one than before.

    Example:
        >>> walk = torch.arange(2048.0)[None]
        >>> read_recent(walk, torch.tensor([0]), 12)[0].isfinite().sum()
        tensor(256)
    """
    rule = RecentPart()
    n_steps = x.shape[1]
    values = x - x.nanmean(1, keepdim=True)
    # In units of the largest value, so that squares stay within range.
    largest = values.abs().nan_to_num(0.0).amax(1, keepdim=True)
    values = values / largest.clamp_min(1e-300)
    changes = values.diff(dim=1).abs()
    least_steps = (rule.n_seasons * period).clamp_min(rule.n_horizons * horizon)
    n_read = torch.full_like(period, n_steps)
    settled = torch.zeros_like(period, dtype=torch.bool)
    for length in (n_steps, *(part for part in rule.lengths if part < n_steps)):
        part = values[:, -length:]
        change = changes[:, n_steps - length :].nanmean(1).nan_to_num(torch.inf)
        spread = (part - part.nanmean(1, keepdim=True)).square().nanmean(1).sqrt()
        long_enough = (least_steps <= length) | (length == n_steps)
        usable = (spread > 0) & long_enough
        n_read = torch.where(usable & ~settled, length, n_read)
        settled |= usable & (spread <= rule.most_changes * change)
    age = torch.arange(n_steps, 0, -1, device=x.device)
    is_old = age > n_read[:, None]
    return torch.where(is_old, torch.nan, x), (is_old & ~x.isnan()).any(1)


def measure_whole(values: Tensor, observed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values of a window in the space of the arcsinh, and the mean and deviation of the window.

    Args:
        values: ``[B, L, P]``, 0 where none is observed.
        observed: Of the same shape.

    Returns:
        Values, ``[B, L, P]``; mean and deviation, ``[B, 1]`` each, float64.
    """
    part, unit = _in_largest(values)
    mean, spread = _moments(part, observed)
    mean = unit * mean
    spread = unit * spread
    return scale(values, observed, mean, spread), mean, spread


def measure_recent(
    values: Tensor, observed: Tensor, is_recent: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Measure a window by its recent part, as :class:`RecentMeasure` says.

    Args:
        values: ``[B, L, P]``, 0 where none is observed.
        observed: Of the same shape.
        is_recent: Which values belong to the recent part, of the same shape.

    Returns:
        Values in the space of the arcsinh, ``[B, L, P]``; mean and deviation of the recent part,
        ``[B, 1]`` each, float64; how far the mean of the whole window lies from that one, and how
        much larger its deviation is, ``[B, 2]``, float32.
    """
    rule = RecentMeasure()
    part, unit = _in_largest(values)
    whole_mean, whole_spread = _moments(part, observed)
    recent = observed & is_recent
    has_few = recent.sum((1, 2)) < rule.least_values
    recent = recent | (observed & has_few[:, None, None])
    mean, spread = _moments(part, recent)
    spread = torch.maximum(spread, rule.least_share * whole_spread)
    divisor = torch.where(spread > 0, spread, 1.0)
    # Runtimes of programs have no arcsinh of float64.
    distance = ((whole_mean - mean) / divisor).to(torch.float32).asinh()
    ratio = torch.where(spread > 0, whole_spread / divisor, 1.0).to(torch.float32)
    facts = torch.cat([distance, ratio.clamp_min(_LEAST_RATIO).log() / 2], dim=1)
    mean = unit * mean
    spread = unit * spread
    return scale(values, observed, mean, spread), mean, spread, facts


def scale(values: Tensor, observed: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """Values in the space of the arcsinh, 0 where none is observed, float32."""
    scaled = in_deviations(values, mean, spread).to(torch.float32).asinh_()
    return torch.where(observed, scaled, 0.0)


def in_deviations(values: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """Distances of values ``[B, L, P]`` to the mean in deviations; a deviation of 0 counts as 1."""
    unit = torch.where(spread > 0, spread, 1.0)
    return (values - mean[..., None]) / unit[..., None]


def _in_largest(values: Tensor) -> tuple[Tensor, Tensor]:
    """Values [B L P] in units of the largest of each window, float64, and these units [B 1].

    Squares of very large or small values leave the range of floats.
    """
    values = values.to(torch.float64)
    largest = values.abs().amax((1, 2))
    largest = torch.where(largest > 0, largest, 1.0)
    return values / largest[:, None, None], largest[:, None]


def _moments(values: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation [B 1] of the values [B L P] that are counted, of 1 at most in size."""
    count = counted.sum((1, 2)).clamp_min(1)
    mean = torch.where(counted, values, 0.0).sum((1, 2)) / count
    centred = torch.where(counted, values - mean[:, None, None], 0.0)
    spread = centred.square().sum((1, 2)).div(count).sqrt()
    # A constant series has a deviation of rounding errors.
    spread = torch.where(spread > _ROUNDING, spread, 0.0)
    return mean[:, None], spread[:, None]


def changes_since(x: Float[Tensor, "B T"], lag: Int[Tensor, " B"]) -> Float[Tensor, "B T"]:
    """Differences to the value ``lag`` steps before, NaN where one of the two is missing.

    Example:
        >>> changes_since(torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([2]))
        tensor([[nan, nan, 3.]])
    """
    return x - values_before(x, lag)


def values_before(x: Float[Tensor, "B T"], lag: Int[Tensor, " B"]) -> Float[Tensor, "B T"]:
    """The value ``lag`` steps before each, NaN where there is none."""
    place = torch.arange(x.shape[1], device=x.device) - lag[:, None]
    return torch.where(place >= 0, x.gather(1, place.clamp_min(0)), torch.nan)


def filled_by_changes(x: Float[Tensor, "B T"], lag: Int[Tensor, " B"]) -> Float[Tensor, "B T"]:
    """Contexts with missing values taken from ``lag`` steps before, the mean change added.

    Example:
        >>> x = torch.tensor([[1.0, 5.0, 2.0, 6.0, 3.0, torch.nan]])
        >>> filled_by_changes(x, torch.tensor([2]))
        tensor([[1., 5., 2., 6., 3., 7.]])
    """
    mean_change = changes_since(x, lag).nanmean(1, keepdim=True)
    return torch.where(x.isnan(), values_before(x, lag) + mean_change, x)


def share_of_changes(
    x: Float[Tensor, "B T"], lag: Int[Tensor, " B"], horizon: Tensor | int
) -> Float[Tensor, " B"]:
    """Share of the forecast of changes in that of contexts, as :class:`SteadyChanges` says.

    It is 0 where few changes are seen, or where one of the last ``lag`` values is missing and so is
    the one ``lag`` steps before.

    Args:
        x: Contexts; NaN is missing.
        lag: Steps between the two values of a change.
        horizon: Steps ahead, one number or ``[B]``.
    """
    age = torch.arange(x.shape[1], 0, -1, device=x.device)
    is_recent = age <= RecentMeasure().length(lag)[:, None]
    observed = ~x.isnan()
    has_last = (~filled_by_changes(x, lag).isnan() | (age > lag[:, None])).all(1)
    # In units of the largest value, so that squares stay within range.
    values = torch.where(is_recent & observed, x, 0.0)
    largest = values.abs().amax(1, keepdim=True)
    unit = torch.where(largest > 0, largest, 1.0)
    _, spread = _moments((values / unit)[:, None], (is_recent & observed)[:, None])
    changes = changes_since(x / unit, lag)
    is_seen = is_recent & ~changes.isnan()
    distances = _centred(changes, is_seen)
    n_seen = is_seen.sum(1, keepdim=True)
    n_added = floor(horizon + lag - 1, lag)[:, None]
    varies = spread > 0
    unsteadiness = distances.abs().sum(1, keepdim=True) / n_seen.clamp_min(1)
    unsteadiness = unsteadiness / torch.where(varies, spread, 1.0)
    unsteadiness = unsteadiness * n_added.to(unsteadiness).sqrt()
    rule = SteadyChanges()
    share = rule.share(unsteadiness, _correlation(changes, is_seen, lag))
    usable = has_last[:, None] & varies & (n_seen >= rule.least_values)
    return torch.where(usable, share, 0.0)[:, 0]


def _centred(values: Tensor, counted: Tensor) -> Tensor:
    """Distances of the values [B T] that are counted to their mean; 0 for others."""
    count = counted.sum(1, keepdim=True).clamp_min(1)
    mean = torch.where(counted, values, 0.0).sum(1, keepdim=True) / count
    return torch.where(counted, values - mean, 0.0)


def _correlation(changes: Tensor, is_seen: Tensor, lag: Tensor) -> Tensor:
    """Correlation [B 1] of the changes [B T] that are seen with those ``lag`` steps before.

    It is 0 where there are few pairs.
    """
    before = values_before(changes, lag)
    is_pair = is_seen & ~before.isnan()
    later = _centred(changes, is_pair)
    earlier = _centred(before, is_pair)
    squares = later.square().sum(1, keepdim=True) * earlier.square().sum(1, keepdim=True)
    product = (later * earlier).sum(1, keepdim=True)
    correlation = product / torch.where(squares > 0, squares, 1.0).sqrt()
    has_pairs = is_pair.sum(1, keepdim=True) >= SteadyChanges().least_values
    return torch.where(has_pairs, correlation, 0.0)


def sum_by_lag(
    values: Float[Tensor, "B F Q"], lag: Int[Tensor, " B"], most: int
) -> Float[Tensor, "B F Q"]:
    """Sums of every lag-th value up to each: s_h = v_h + s_(h - lag).

    Partial sums of one, two, four and so on values are added, each to the one before.

    Args:
        values: Of F steps.
        lag: Of each row.
        most: Steps at most, F or more.

    Example:
        >>> values = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
        >>> sum_by_lag(values[None, :, None], torch.tensor([2]), 5).flatten()
        tensor([1., 2., 4., 6., 9.])
    """
    step = torch.arange(values.shape[1], device=values.device)
    reach = lag[:, None]
    for _ in range(most.bit_length()):
        place = step - reach
        before = values.gather(1, place.clamp_min(0)[..., None].expand_as(values))
        values = values + torch.where((place >= 0)[..., None], before, 0.0)
        reach = 2 * reach
    return values


def floor(numerator: Tensor, denominator: Tensor | int) -> Tensor:
    """Whole quotients, rounded down."""
    return torch.div(numerator, denominator, rounding_mode="floor")
