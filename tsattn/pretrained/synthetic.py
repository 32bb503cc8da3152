"""Synthetic series for pretraining: drawn from families, joined, disturbed and standardised."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tsattn.pretrained.draws import (
    Array,
    Rng,
    Source,
    changes,
    hold,
    leak,
    normal,
    periods,
    unit,
)
from tsattn.pretrained.families import FAMILIES, shares

MAX_LENGTH = 8192
MIN_LENGTH = 16
# Values made at once: enough for loops over time, little enough for memory.
_BLOCK_VALUES = 2**22
_BLOCK_SERIES = 1024
# Share of the series that join two draws.
_JOINED_SHARE = 0.15
# A deviation below this share of the mean is rounding error.
_ROUNDING = 1e-6
# At most this share of a series is missing.
_MOST_MISSING = 0.6
# Wrong values of a series at most.
_N_WRONG = 3


def make(n: int, length: int, *, seed: int | Rng) -> Array:
    """Draw n synthetic series.

    Families are drawn with the shares that their module gives to the length. 15% of the series join
    two draws. Then level shifts (12%), spikes (15%), regular events (5%), floors (5%), bends (5%),
    stuck values (3%), rounding (6%), a change of sign (20%), a reversal of time (3%), wrong values
    (3%) and missing values (8%) are laid on top.

    Args:
        n: Series, at least 0.
        length: Steps of each, from 16 to 8,192.
        seed: A number, or a generator, which moves on.

    Returns:
        [n, length] float32, NaN where missing. What is observed of a series has mean 0 and
        deviation 1, or is 0 where it does not vary.

    Raises:
        ValueError: If n is negative or length is not from 16 to 8,192.

    Example:
        >>> make(2, 64, seed=0).shape
        (2, 64)
    """
    if n < 0:
        raise ValueError(f"n must be at least 0; got {n}")
    if not MIN_LENGTH <= length <= MAX_LENGTH:
        raise ValueError(
            f"length must be from {MIN_LENGTH} to {MAX_LENGTH}; got {length}: cut longer series"
            " into pieces"
        )
    rng = np.random.default_rng(seed)
    x = np.empty((n, length), np.float32)
    most_series = max(_BLOCK_VALUES // length, 1)
    size = min(_BLOCK_SERIES, most_series)
    for start in range(0, n, size):
        n_series = min(size, n - start)
        source = Source(rng, n_series, length)
        x[start : start + n_series] = _block(source)
    return x


def standardise(x: Array) -> Array:
    """Scale the observed values of series [N, T] to mean 0 and deviation 1.

    Series that do not vary become 0; missing values stay.
    """
    observed = ~np.isnan(x)
    count = np.maximum(observed.sum(1, keepdims=True), 1)
    filled = np.where(observed, x, 0)
    mean = filled.sum(1, keepdims=True, dtype=float) / count
    centred = (filled - mean).astype(np.float32)
    filled = np.where(observed, centred, np.float32(0))
    sums_of_squares = np.einsum("nt,nt->n", filled, filled)[:, None]
    deviation = np.sqrt(sums_of_squares / count)
    size = np.maximum(np.abs(mean), 1)
    constant = deviation <= _ROUNDING * size
    divisor = np.where(constant, 1, deviation)
    factor = np.where(constant, 0, 1 / divisor)
    filled *= factor.astype(np.float32)
    return np.where(observed, filled, np.float32(np.nan))


def _block(source: Source) -> Array:
    """Draw one block of finished series."""
    n = source.n
    n_pairs = round(_JOINED_SHARE * n)
    drawn = _draw(replace(source, n=n + n_pairs))
    x = drawn[:n]
    partners = drawn[n:]
    x[:n_pairs] = _join(replace(source, n=n_pairs), x[:n_pairs], partners)
    order = source.rng.permutation(n)
    x = x[order]
    for share, disturb in _DISTURBANCES:
        rows = source.some_rows(share)
        if rows.size:
            x[rows] = disturb(source.part(rows), x[rows])
    return standardise(x)


def _draw(source: Source) -> Array:
    """Draw series of all families with deviation 1, in random order."""
    counts = source.rng.multinomial(source.n, shares(source.length))
    blocks = []
    for count, (family, _) in zip(counts, FAMILIES.values(), strict=True):
        if count:
            part = replace(source, n=int(count))
            blocks.append(unit(family(part)))
    drawn = np.concatenate(blocks)
    order = source.rng.permutation(source.n)
    return drawn[order]


def _join(source: Source, x: Array, other: Array) -> Array:
    """Make one series of two draws.

    It is the sum (70%), the product x (1 + c other) (12%), or the other from a random step on
    (18%).
    """
    weight = source.log_uniform(0.1, 1)
    first_late = source.uniform(0.1, 0.9) * source.length
    is_late = source.steps >= first_late
    kind = source.rng.random(source.column)
    weighted = weight * other
    total = x + weighted
    product = x * (1 + weighted)
    replaced = np.where(is_late, other, x)
    # Sums come up to 0.7, products from there to 0.82.
    joined = np.where(kind < 0.82, product, replaced)
    return np.where(kind < 0.7, total, joined)


# --- disturbances ---------------------------------------------------------------------------------


def _shift(source: Source, x: Array) -> Array:
    """Change the level at about one to five random steps; in 40% every second change goes back."""
    draws = source.random()
    mean_count = source.integers(1, 6)
    is_change = draws < mean_count / source.length
    size = source.uniform(0.5, 3)
    n_changes = np.cumsum(is_change, 1)
    sign = source.signs()
    alternating = n_changes % 2 * sign
    goes_back = source.chance(0.4)
    steps = is_change * normal(source)
    walking = np.cumsum(steps, 1)
    shift = np.where(goes_back, alternating, walking)
    return x + size * shift


def _spikes(source: Source, x: Array) -> Array:
    """Add outliers of 2 to 8 deviations at random steps, gone at once or decaying.

    In a tenth of the series they are ten times as far.
    """
    is_spike = changes(source, 20, source.length)
    both_signs = source.chance(0.3)
    signs = source.rng.choice([-1, 1], source.shape)
    one_sign = source.signs()
    sign = np.where(both_signs, signs, one_sign)
    deviations = source.rng.uniform(2, 8, source.shape)
    size = is_spike * sign * deviations
    size *= source.uniform(0.3, 1)
    is_far = source.chance(0.1)
    size *= np.where(is_far, 10, 1)
    decay = source.uniform(0.3, 0.9)
    # A spike that does not decay is gone at once.
    decay *= source.chance(0.3)
    return x + leak(decay, size)


def _events(source: Source, x: Array) -> Array:
    """Add or take a fixed amount during an event of some steps that comes back regularly."""
    period = np.round(periods(source))
    steps_between = np.maximum(4, period)
    first_step = source.integers(0, 10_000)
    step = (source.steps + first_step) % steps_between
    event_share = source.uniform(0, 0.15)
    n_steps = np.round(steps_between * event_share)
    n_steps = np.maximum(1, n_steps)
    is_event = step < n_steps
    sign = source.signs()
    signed = is_event * sign
    return x + signed * source.uniform(1, 5)


def _floor(source: Source, x: Array) -> Array:
    """Raise values below a quantile from .02 to .5 to it; in a third lower those above one."""
    # A floor of the mirror image is a ceiling.
    is_mirrored = source.chance(1 / 3)
    x = x * np.where(is_mirrored, -1, 1)
    share = source.rng.uniform(0.02, 0.5, source.column)
    place = (share * source.length).astype(int)
    ascending = np.sort(x, 1)
    quantile = np.take_along_axis(ascending, place, 1)
    return np.maximum(x, quantile)


def _bend(source: Source, x: Array) -> Array:
    """Apply tanh, a square with the sign or without, a hinge, or a soft exponential."""
    x = x * source.uniform(0.5, 2)
    kind = source.integers(0, 5)
    curves = [
        np.tanh(x),
        x * np.abs(x),
        x * x,
        np.maximum(x, 0) + 0.1 * x,
        np.logaddexp(2 * x, 0),
    ]
    return np.choose(kind, curves)


def _stuck(source: Source, x: Array) -> Array:
    """Repeat the last value for stretches on 2 to 30% of the steps."""
    draws = source.random()
    is_change = changes(source, 3, source.length / 3)
    stretches = hold(draws, is_change)
    stuck_share = source.uniform(0.02, 0.3)
    is_new = stretches >= stuck_share
    return hold(x, is_new)


def _round(source: Source, x: Array) -> Array:
    """Round to a step from .02 to 1 deviation."""
    step = source.log_uniform(0.02, 1)
    return np.round(x / step) * step


def _negate(source: Source, x: Array) -> Array:
    """Change the sign."""
    return -x


def _reverse(source: Source, x: Array) -> Array:
    """Reverse time."""
    return x[:, ::-1]


def _wrong(source: Source, x: Array) -> Array:
    """Replace one to three values of a series.

    They are values with a slipped decimal point, or one sentinel of 30 to 10,000 deviations.
    """
    n = source.n
    row = np.repeat(np.arange(n), _N_WRONG)
    step = source.rng.integers(0, source.length, _N_WRONG * n)
    # Half of the second and third values fall onto the one before them, so that there are fewer.
    for place in range(1, _N_WRONG):
        is_same = source.rng.random(n) < 0.5
        previous = step[place - 1 :: _N_WRONG]
        drawn = step[place::_N_WRONG]
        step[place::_N_WRONG] = np.where(is_same, previous, drawn)
    sign = source.rng.choice([-1, 1], n)
    log_size = source.rng.uniform(np.log(30), np.log(1e4), n)
    size = np.exp(log_size)
    sentinel = np.repeat(sign * size, _N_WRONG)
    n_places = source.rng.integers(2, 5, n)
    factor = np.repeat(10.0**n_places, _N_WRONG)
    slipped = x[row, step] * factor
    has_sentinel = source.rng.random(n) < 0.5
    is_sentinel = np.repeat(has_sentinel, _N_WRONG)
    x = x.copy()
    x[row, step] = np.where(is_sentinel, sentinel, slipped)
    return x


def _missing(source: Source, x: Array) -> Array:
    """Remove values at random (1 to 30%), in blocks, or both; the first two stay."""
    single_draws = source.rng.random(source.shape)
    single_share = source.log_uniform(0.01, 0.3)
    single = single_draws < single_share
    block_draws = source.rng.random(source.shape)
    is_change = changes(source, 3, source.length / 3)
    block_draws = hold(block_draws, is_change)
    block_share = source.uniform(0.02, 0.3)
    blocks = block_draws < block_share
    kind = source.integers(0, 3)
    options = [single, blocks, single | blocks]
    is_missing = np.choose(kind, options)
    # A series of which too much would be missing is left whole.
    missing_share = is_missing.mean(1, keepdims=True)
    is_missing &= missing_share < _MOST_MISSING
    is_missing[:, :2] = False
    return np.where(is_missing, np.nan, x)


# Disturbances in the order in which they are applied, with the share of series that get each.
_DISTURBANCES: tuple[tuple[float, Callable[[Source, Array], Array]], ...] = (
    (0.12, _shift),
    (0.15, _spikes),
    (0.05, _events),
    (0.05, _floor),
    (0.05, _bend),
    (0.03, _stuck),
    (0.06, _round),
    (0.2, _negate),
    (0.03, _reverse),
    (0.03, _wrong),
    (0.08, _missing),
)
