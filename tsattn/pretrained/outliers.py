"""Detection of wrong values, which are few, isolated and far from their neighbours.

Sentinels and slipped decimal points are such values.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tsattn.checks import LEAST_FILL, LEAST_OTHERS, SENTINEL_RANGES, SENTINELS
from tsattn.pretrained.period import lag_products, running_max

# Steps of the running median. It passes over runs of wrong values that are shorter than half of it.
_WINDOW = 9
# A value is far if its distance to the running median is so many times the usual change from step
# to step.
_FAR = 20.0
# The same for the last value, which no later value contradicts: a new level looks alike.
_FAR_AT_THE_END = 200.0
# Share of the largest changes that the usual change leaves out.
_TRIMMED_SHARE = 0.02
# At most this share of the values of a series is wrong, ...
_WRONG_SHARE = 0.01
# ... but so many values may always be, ...
_WRONG_COUNT = 3
# ... and at most this share of the values of a short series.
_WRONG_SHARE_OF_SHORT = 1 / 16
# A larger share may be wrong where far values are scattered, ...
_SCATTERED_SHARE = 0.05
# ... so that at most this share of them has another one at any one distance, ...
_REGULAR_SHARE = 0.3
# ... and at least this share lies in each half of the series: what grows is far at its end.
_HALF_SHARE = 0.25
# So many far values show that they have no rule.
_LEAST_SCATTERED = 4
# Share of the largest changes that the usual change then leaves out, ...
_SCATTERED_TRIMMED_SHARE = 0.12
# ... and of the changes that are not zero, at least: rare sales of all sizes are right.
_LEAST_MOVING_SHARE = 0.5
# Such values make the mean fourth power of distances from the mean so many squared variances.
_SUSPICIOUS_KURTOSIS = 10.0
# Only series whose farthest value is so many deviations from the mean are searched, as a share of
# what is possible.
_SUSPICIOUS_SHARE = 0.5
# Series with fewer values are not searched: a running median needs neighbours.
_LEAST_VALUES = _WINDOW
# Values are of another order if they lie so many ranges of all others away, ...
_ORDER_RANGES = 50.0
# ... and are at most this share of the values.
_ORDER_SHARE = 1 / 8
# More than half of them with another one at one distance follow a rule.
_ORDER_REGULAR_SHARE = 0.51

# Zeros are those of a failing logger if they are at most this share of the values, ...
_ZERO_SHARE = 1 / 6
# ... and at least half of them lie so many usual changes from the values around them, ...
_ZERO_FAR = 3.0
_ZERO_FAR_SHARE = 0.5
# ... all of them so many where they are too few runs to see that they have no rule, ...
_ZERO_VERY_FAR = 8.0
# ... and fewer than half of them have another one at one distance.
_ZERO_REGULAR_SHARE = 0.5


def find_outliers(x: Float[Tensor, "B T"], *, scattered: bool = True) -> Bool[Tensor, "B T"]:
    """Values that are taken for wrong.

    The distance of a value to the running median of nine steps, at the ends that of the first or
    last nine, is compared with the usual change: the mean of the absolute changes from one step to
    the next that are not zero, without the largest fiftieth. A value is far if its distance is more
    than 20 times the usual change and a later value is near again, or if the last value alone is
    farther than 200 times. The far values of a series are wrong if they are few: at most a
    hundredth of its values, or three, and at most a sixteenth. What is far often, as the peaks of a
    season are, is not wrong, unless it is scattered: four values up to a twentieth of all, of which
    at most three tenths have another one at any one number of steps and at least a quarter lies in
    each half of the series, most of whose changes are not zero. The usual change then leaves out
    the largest 12%, and the last value is far as any other.

    Values of another order of size, more than 50 ranges of all others away, are wrong up to an
    eighth of the values, four and more if at most half of them have another one at any one number
    of steps.

    Zeros, one by one or in runs, are wrong where they lie more than three such usual changes from
    the values before and after them, if they are at most a sixth of the values, at least half of
    them do, and at least a quarter of their runs begins in each half of the series. Of fewer than
    four runs all must lie farther than eight. Zeros of which half have another one at one number of
    steps, longer than a run, follow a rule, and are right, as are zeros before the first other
    value, and at the end more of them than before.

    Numbers that stand for a missing value in many tables, such as -9999, are wrong up to half of
    the values, where they lie far outside the range of all others.

    Args:
        x: Series of T steps; NaN is a missing value, at the left also a history that begins later.
        scattered: Whether scattered values may be wrong. Columns beside the series may say why they
            are far.

    Returns:
        True where a value is taken for wrong; never where it is missing.

    Example:
        >>> x = torch.arange(40.0).sin()
        >>> x[20] = 500.0
        >>> find_outliers(x[None]).nonzero()[:, 1].tolist()
        [20]
    """
    if torch.compiler.is_exporting():
        # A program has no shapes that depend on values, so it searches all series.
        sentinels = _find_sentinels(x)
        without_sentinels = torch.where(sentinels, torch.nan, x)
        has_zeros = _rows_of_zeros(without_sentinels) & scattered
        zeros = _find_zeros(without_sentinels) & has_zeros[:, None]
        usable = torch.where(zeros, torch.nan, without_sentinels)
        has_value = ~usable.isnan()
        first = has_value.to(torch.uint8).argmax(1, keepdim=True)
        far = _find(usable, scattered, first)
        is_suspicious = _suspicious_rows(usable)
        return sentinels | zeros | (far & is_suspicious[:, None])
    # Most series have no wrong values: only rows that may have some are searched.
    wrong = torch.zeros_like(x, dtype=torch.bool)
    rows = _numbers_of(_rows_of_sentinels(x))
    if len(rows):
        wrong[rows] = _find_sentinels(x[rows])
        x = torch.where(wrong, torch.nan, x)
    rows = _numbers_of(_rows_of_zeros(x) & scattered)
    if len(rows):
        wrong[rows] |= _find_zeros(x[rows])
        x = torch.where(wrong, torch.nan, x)
    rows = _numbers_of(_suspicious_rows(x))
    if len(rows):
        wrong[rows] |= _find(x[rows], scattered)
    return wrong


def _numbers_of(mask: Bool[Tensor, " B"]) -> Tensor:
    """Numbers of the rows at which a mask is True."""
    places = mask.nonzero()
    return places[:, 0]


def _rows_of_sentinels(x: Tensor) -> Bool[Tensor, " B"]:
    """Series whose least or largest value is a sentinel."""
    observed = x.isfinite()
    smallest = torch.where(observed, x, torch.inf).amin(1)
    largest = torch.where(observed, x, -torch.inf).amax(1)
    return _may_stand_for_none(smallest) | _may_stand_for_none(largest)


def _may_stand_for_none(x: Tensor) -> Tensor:
    """Which values are numbers that often stand for a missing one."""
    sentinels = x.new_tensor(SENTINELS)
    is_listed = (x[..., None] == sentinels).any(-1)
    return is_listed | (x.abs() >= LEAST_FILL)


def _find_sentinels(x: Tensor) -> Bool[Tensor, "B T"]:
    """Sentinels far from all other values of a series; a single peak may be right, but none of
    another order of size.
    """
    observed = x.isfinite()
    is_sentinel = observed & _may_stand_for_none(x)
    is_other = observed & ~is_sentinel
    # The range of all other values of a series.
    largest = torch.where(is_other, x, -torch.inf).amax(1, keepdim=True)
    smallest = torch.where(is_other, x, torch.inf).amin(1, keepdim=True)
    reach = SENTINEL_RANGES * (largest - smallest)
    is_above = is_sentinel & (x > largest + reach)
    n_above = is_above.sum(1, keepdim=True)
    is_above &= (n_above > 1) | (x >= LEAST_FILL)
    is_below = is_sentinel & (x < smallest - reach)
    n_others = is_other.sum(1, keepdim=True)
    n_sentinels = is_sentinel.sum(1, keepdim=True)
    is_usable = n_others >= n_sentinels.clamp_min(LEAST_OTHERS)
    return (is_above | is_below) & is_usable


def _rows_of_zeros(x: Tensor) -> Bool[Tensor, " B"]:
    """Series with zeros behind other values, but not many."""
    is_zero = x == 0
    is_other = x.isfinite() & ~is_zero
    is_inside = is_other.cumsum(1) > 0
    n_inside = is_inside.sum(1)
    n_zeros = (is_zero & is_inside).sum(1)
    return (n_zeros > 0) & (n_zeros <= _ZERO_SHARE * n_inside)


def _find_zeros(x: Tensor) -> Bool[Tensor, "B T"]:
    """Zeros that come without rule among values that are far from zero."""
    others = torch.where(x == 0, torch.nan, x)
    place = _last_places(others)
    before = _at(others, place)
    backwards = others.flip(1)
    after = _at(backwards, _last_places(backwards)).flip(1)
    # Zeros before the first other value are those of a history that begins later, ...
    is_inside = place >= 0
    is_zero = (x == 0) & is_inside
    # ... and behind the last one they may be a new level, if they are more than ever before.
    step = torch.arange(x.shape[1], device=x.device)
    n_in_run = torch.where(is_zero, step - place, 0)
    at_end = is_zero & after.isnan()
    most_inside = torch.where(at_end, 0, n_in_run).amax(1, keepdim=True)
    ends_as_before = n_in_run[:, -1:] <= most_inside
    after = torch.where(at_end & ends_as_before, before, after)
    distance = torch.minimum((x - before).abs(), (x - after).abs())
    count = is_inside.sum(1, keepdim=True)
    usual = _usual_change(others, (_TRIMMED_SHARE * count).ceil())
    is_far = is_zero & (usual > 0) & (distance > _ZERO_FAR * usual)
    is_very_far = is_far & (distance > _ZERO_VERY_FAR * usual)
    n_zeros = is_zero.sum(1, keepdim=True)
    n_far = is_far.sum(1, keepdim=True)
    n_very_far = is_very_far.sum(1, keepdim=True)
    is_start = is_zero & (n_in_run == 1)
    has_runs = is_start.sum(1, keepdim=True) >= _LEAST_SCATTERED
    are_many = has_runs & _are_spread(is_start, is_inside) & (n_far >= _ZERO_FAR_SHARE * n_zeros)
    are_few = ~has_runs & (n_very_far == n_zeros)
    longest = torch.maximum(most_inside, n_in_run[:, -1:])
    follow_rule = _most_pairs(is_zero, is_inside, longest) >= _ZERO_REGULAR_SHARE * n_zeros
    is_moving = _are_moving(others, count - n_zeros)
    return is_far & (are_many | are_few) & is_moving & ~follow_rule


def _last_places(x: Tensor) -> Tensor:
    """The step of the last value that is not missing at or before each step, -1 where there is
    none.
    """
    step = torch.arange(x.shape[1], device=x.device)
    return running_max(torch.where(x.isnan(), -1, step))


def _at(x: Tensor, place: Tensor) -> Tensor:
    """Values at some steps, NaN at -1."""
    return torch.where(place >= 0, x.gather(1, place.clamp_min(0)), torch.nan)


def _suspicious_rows(x: Tensor) -> Bool[Tensor, " B"]:
    """Series with a value so far from the mean, in deviations, as a few wrong ones would be."""
    observed = x.isfinite()
    count = observed.sum(1).clamp_min(1)
    values = torch.where(observed, x, 0.0)
    # In units of the largest value, so that squares stay within range.
    largest = values.abs().amax(1, keepdim=True)
    scaled = values / largest.clamp_min(1e-300)
    total = scaled.sum(1, keepdim=True)
    mean = total / count[:, None]
    centred = torch.where(observed, scaled - mean, 0.0)
    variance = centred.square().sum(1) / count
    deviation = variance.sqrt()
    farthest = centred.abs().amax(1)
    # k equal values out of n lie (n / k)^1/2 deviations away.
    n_most_wrong = _most_wrong(count)
    possible = (count / n_most_wrong).sqrt()
    is_far = farthest > _SUSPICIOUS_SHARE * possible * deviation
    fourth_power = centred.pow(4).sum(1) / count
    has_long_tails = fourth_power > _SUSPICIOUS_KURTOSIS * variance.square()
    is_long = count >= _LEAST_VALUES
    return is_long & (is_far | has_long_tails)


def _most_wrong(count: Tensor) -> Tensor:
    """Wrong values that a series of so many values may have."""
    few_of_long = (_WRONG_SHARE * count).clamp_min(_WRONG_COUNT)
    few_of_short = _WRONG_SHARE_OF_SHORT * count
    most = torch.minimum(few_of_long, few_of_short)
    return most.floor().clamp_min(1)


def _find(x: Tensor, scattered: bool, first: Tensor | int = 0) -> Tensor:
    """Values of suspicious series that are taken for wrong; ``first [B 1]`` steps are padding."""
    another_order = _of_another_order(x, scattered)
    x = torch.where(another_order, torch.nan, x)
    observed = x.isfinite()
    count = observed.sum(1, keepdim=True)
    median = _running_median(x, first)
    to_median = (x - median).abs()
    distance = torch.where(observed, to_median, 0.0)
    # Twice as many changes are left out as values may be wrong, at least: one makes two.
    n_trimmed = (_TRIMMED_SHARE * count).ceil()
    n_trimmed = torch.maximum(n_trimmed, 2 * _most_wrong(count))
    far = _far(distance, _usual_change(x, n_trimmed), observed, _FAR_AT_THE_END)
    # What is far often is not wrong, ...
    n_far = far.sum(1, keepdim=True)
    are_few = n_far <= _most_wrong(count)
    few_far = far & are_few
    if not scattered:
        return another_order | few_far
    # ... unless it comes without any rule.
    n_trimmed = (_SCATTERED_TRIMMED_SHARE * count).ceil()
    # The last value will be near again, as all others were.
    far_of_most = _far(distance, _usual_change(x, n_trimmed), observed, _FAR)
    are_scattered = _are_scattered(far_of_most, observed, count, _SCATTERED_SHARE, _REGULAR_SHARE)
    are_scattered &= _are_moving(x, count)
    return another_order | few_far | (far_of_most & are_scattered)


def _of_another_order(x: Tensor, scattered: bool) -> Tensor:
    """Values of another order of size than all others, which are near again later or at the end
    alone.
    """
    observed = x.isfinite()
    count = observed.sum(1, keepdim=True)
    n_most = (_ORDER_SHARE * count).long().clamp_min(1)
    # The range of what is left without so many values on both sides is not larger than that of all
    # others.
    ordered = torch.where(observed, x, torch.inf).sort(dim=1).values
    last_place = x.shape[1] - 1
    low = ordered.gather(1, n_most.clamp_max(last_place))
    high = ordered.gather(1, (count - 1 - n_most).clamp(0, last_place))
    is_other = observed & (_distance(x, low, high) <= _ORDER_RANGES * (high - low))
    smallest = torch.where(is_other, x, torch.inf).amin(1, keepdim=True)
    largest = torch.where(is_other, x, -torch.inf).amax(1, keepdim=True)
    reach = _ORDER_RANGES * (largest - smallest)
    far = observed & (_distance(x, smallest, largest) > reach) & (reach > 0)
    n_far = far.sum(1, keepdim=True)
    are_usable = n_far <= _WRONG_COUNT
    if scattered:
        are_usable |= _are_scattered(far, observed, count, _ORDER_SHARE, _ORDER_REGULAR_SHARE)
    are_usable &= (n_far <= n_most) & _are_moving(x, count)
    return far & are_usable & (_near_later(observed, far) | _far_end(observed, far, far))


def _distance(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How far values lie outside a range."""
    return torch.maximum(x - high, low - x)


def _are_moving(x: Tensor, count: Tensor) -> Tensor:
    """Whether most values of series differ from the ones before them."""
    n_moving = (x.diff(dim=1).abs() > 0).sum(1, keepdim=True)
    return n_moving > _LEAST_MOVING_SHARE * count


def _far(distance: Tensor, usual: Tensor, observed: Tensor, far_at_the_end: float) -> Tensor:
    """Values that are far from the running median, in usual changes, and near again later or at the
    end alone.
    """
    # Where nothing but the largest changes differs from zero, no change is usual.
    unit = torch.where(usual > 0, usual, torch.inf)
    far = distance > _FAR * unit
    very_far = distance > far_at_the_end * unit
    return far & (_near_later(observed, far) | _far_end(observed, far, very_far))


def _are_scattered(
    far: Tensor, observed: Tensor, count: Tensor, most_share: float, regular_share: float
) -> Tensor:
    """Whether the far values of series are few enough, and follow one another without rule."""
    n_far = far.sum(1, keepdim=True)
    has_number = (n_far >= _LEAST_SCATTERED) & (n_far <= most_share * count)
    follow_no_rule = _most_pairs(far, observed) < regular_share * n_far
    return has_number & _are_spread(far, observed) & follow_no_rule


def _most_pairs(mask: Tensor, observed: Tensor, longest: Tensor | int = 0) -> Tensor:
    """The most pairs of steps at which a mask is True, at one distance longer than ``longest``
    ``[B 1]`` and at most half of a series, which begins with its first value.
    """
    n_lags = mask.shape[1] // 2
    # They are counts but for rounding errors.
    n_pairs = lag_products(mask.to(torch.float32), n_lags).round()
    lag = torch.arange(n_lags + 1, device=mask.device)
    has_begun = observed.cumsum(1) > 0
    n_steps = has_begun.sum(1, keepdim=True)
    is_counted = (lag > 0) & (lag > longest) & (2 * lag <= n_steps)
    return torch.where(is_counted, n_pairs, 0.0).amax(1, keepdim=True)


def _are_spread(mask: Tensor, observed: Tensor) -> Tensor:
    """Whether enough of the steps at which a mask is True lie in each half of the values."""
    n_true = mask.sum(1, keepdim=True)
    n_observed = observed.cumsum(1)
    is_early = n_observed <= n_observed[:, -1:] / 2
    n_early = (mask & is_early).sum(1, keepdim=True)
    n_of_rarer_half = torch.minimum(n_early, n_true - n_early)
    return n_of_rarer_half >= _HALF_SHARE * n_true


def _running_median(x: Tensor, first: Tensor | int) -> Tensor:
    """Median of the nine steps around each step, those before the first one not counted."""
    windows = x.unfold(1, _WINDOW, 1)
    inner = _median(windows) if torch.compiler.is_exporting() else windows.nanmedian(2).values
    # At the ends the nearest whole window serves: half a window would take a new level for the
    # usual one.
    steps = torch.arange(x.shape[1], device=x.device)
    place = steps - _WINDOW // 2
    last_place = inner.shape[1] - 1
    nearest = place.clamp_max(last_place)
    if isinstance(first, int):
        return inner[:, nearest.clamp_min(first)]
    not_padded = torch.maximum(nearest, first)
    return inner.gather(1, not_padded.clamp_max(last_place))


def _median(windows: Tensor) -> Tensor:
    """What ``nanmedian`` gives along the last axis, in operators that programs have."""
    missing = windows.isnan()
    # Missing values come last.
    filled = torch.where(missing, torch.inf, windows)
    ordered = filled.sort(dim=2).values
    count = (~missing).sum(2, keepdim=True)
    # The lower one of two in the middle.
    middle_place = (count - 1).clamp_min(0) // 2
    middle = ordered.gather(2, middle_place)[..., 0]
    has_value = count[..., 0] > 0
    return torch.where(has_value, middle, torch.nan)


def _near_later(observed: Tensor, far: Tensor) -> Tensor:
    """Steps at which, or after which, a value is not far."""
    near = observed & ~far
    n_near_later = _counts_from(near)
    return n_near_later > 0


def _counts_from(mask: Tensor) -> Tensor:
    """Steps at which a mask is True, from each step on."""
    backwards = mask.flip(1)
    counts = backwards.cumsum(1)
    return counts.flip(1)


def _far_end(observed: Tensor, far: Tensor, very_far: Tensor) -> Tensor:
    """The last value of a series where it is very far and the step before is not far."""
    near = ~far
    # The first step comes after none.
    after_near = torch.nn.functional.pad(near, (1, 0))[:, :-1]
    is_last = observed & (_counts_from(observed) == 1)
    return is_last & after_near & very_far


def _usual_change(x: Tensor, n_trimmed: Tensor) -> Tensor:
    """Mean of the absolute changes that are not zero, without the largest of all, [B 1]."""
    changes = x.diff(dim=1).abs().nan_to_num(0.0)
    ordered = changes.sort(dim=1, descending=True).values
    rank = torch.arange(changes.shape[1], device=changes.device)
    usual = (rank >= n_trimmed.long()) & (ordered > 0)
    usual_changes = torch.where(usual, ordered, 0.0)
    total = usual_changes.sum(1, keepdim=True)
    n_usual = usual.sum(1, keepdim=True)
    return total / n_usual.clamp_min(1)
