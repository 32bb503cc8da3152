"""Synthetic series for pretraining: drawn from families, joined, disturbed and standardised."""

from collections.abc import Callable

import numpy as np

from tsattn.pretrained.draws import (
    Array,
    Rng,
    chance,
    changes,
    hold,
    leak,
    log_uniform,
    normal,
    periods,
    some_rows,
    uniform,
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
        block = _block(rng, n_series, length)
        x[start : start + n_series] = block
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


def _block(rng: Rng, n: int, length: int) -> Array:
    """Draw one block of finished series."""
    n_pairs = round(_JOINED_SHARE * n)
    drawn = _draw(rng, n + n_pairs, length)
    x = drawn[:n]
    partners = drawn[n:]
    joined = _join(rng, x[:n_pairs], partners)
    x[:n_pairs] = joined
    order = rng.permutation(n)
    x = x[order]
    for share, disturb in _DISTURBANCES:
        rows = some_rows(rng, n, share)
        if rows.size:
            disturbed = disturb(rng, x[rows])
            x[rows] = disturbed
    return standardise(x)


def _draw(rng: Rng, n: int, length: int) -> Array:
    """Draw series of all families with deviation 1, in random order."""
    counts = rng.multinomial(n, shares(length))
    blocks = []
    for count, (family, _) in zip(counts, FAMILIES.values(), strict=True):
        if count:
            block = family(rng, int(count), length)
            blocks.append(unit(block))
    drawn = np.concatenate(blocks)
    order = rng.permutation(n)
    return drawn[order]


def _join(rng: Rng, x: Array, other: Array) -> Array:
    """Make one series of two draws.

    It is the sum (70%), the product x (1 + c other) (12%), or the other from a random step on
    (18%).
    """
    n, length = x.shape
    weight = log_uniform(rng, n, 0.1, 1)
    first_late = uniform(rng, n, 0.1, 0.9) * length
    is_late = np.arange(length) >= first_late
    kind = rng.random((n, 1))
    weighted = weight * other
    total = x + weighted
    product = x * (1 + weighted)
    replaced = np.where(is_late, other, x)
    # Sums come up to 0.7, products from there to 0.82.
    joined = np.where(kind < 0.82, product, replaced)
    return np.where(kind < 0.7, total, joined)


# --- disturbances ---------------------------------------------------------------------------------


def _shift(rng: Rng, x: Array) -> Array:
    """Change the level at about one to five random steps; in 40% every second change goes back."""
    n, length = x.shape
    draws = rng.random((n, length), dtype=np.float32)
    mean_count = rng.integers(1, 6, (n, 1))
    is_change = draws < mean_count / length
    size = uniform(rng, n, 0.5, 3)
    n_changes = np.cumsum(is_change, 1)
    sign = rng.choice([-1, 1], (n, 1))
    alternating = n_changes % 2 * sign
    goes_back = chance(rng, n, 0.4)
    steps = is_change * normal(rng, n, length)
    walking = np.cumsum(steps, 1)
    shift = np.where(goes_back, alternating, walking)
    return x + size * shift


def _spikes(rng: Rng, x: Array) -> Array:
    """Add outliers of 2 to 8 deviations at random steps, gone at once or decaying.

    In a tenth of the series they are ten times as far.
    """
    n, length = x.shape
    is_spike = changes(rng, n, length, 20, length)
    both_signs = chance(rng, n, 0.3)
    signs = rng.choice([-1, 1], (n, length))
    one_sign = rng.choice([-1, 1], (n, 1))
    sign = np.where(both_signs, signs, one_sign)
    deviations = rng.uniform(2, 8, (n, length))
    size = is_spike * sign * deviations
    size = size * uniform(rng, n, 0.3, 1)
    is_far = chance(rng, n, 0.1)
    size = size * np.where(is_far, 10, 1)
    decay = uniform(rng, n, 0.3, 0.9)
    # A spike that does not decay is gone at once.
    decay = decay * chance(rng, n, 0.3)
    return x + leak(decay, size)


def _events(rng: Rng, x: Array) -> Array:
    """Add or take a fixed amount during an event of some steps that comes back regularly."""
    n, length = x.shape
    period = np.round(periods(rng, n, length))
    steps_between = np.maximum(4, period)
    first_step = rng.integers(0, 10_000, (n, 1))
    step = (np.arange(length) + first_step) % steps_between
    event_share = uniform(rng, n, 0, 0.15)
    n_steps = np.round(steps_between * event_share)
    n_steps = np.maximum(1, n_steps)
    is_event = step < n_steps
    sign = rng.choice([-1, 1], (n, 1))
    signed = is_event * sign
    return x + signed * uniform(rng, n, 1, 5)


def _floor(rng: Rng, x: Array) -> Array:
    """Raise values below a quantile from .02 to .5 to it; in a third lower those above one."""
    n, length = x.shape
    # A floor of the mirror image is a ceiling.
    is_mirrored = chance(rng, n, 1 / 3)
    x = x * np.where(is_mirrored, -1, 1)
    share = rng.uniform(0.02, 0.5, (n, 1))
    place = (share * length).astype(int)
    ascending = np.sort(x, 1)
    quantile = np.take_along_axis(ascending, place, 1)
    return np.maximum(x, quantile)


def _bend(rng: Rng, x: Array) -> Array:
    """Apply tanh, a square with the sign or without, a hinge, or a soft exponential."""
    n = len(x)
    x = x * uniform(rng, n, 0.5, 2)
    kind = rng.integers(0, 5, (n, 1))
    curves = [
        np.tanh(x),
        x * np.abs(x),
        x * x,
        np.maximum(x, 0) + 0.1 * x,
        np.logaddexp(2 * x, 0),
    ]
    return np.choose(kind, curves)


def _stuck(rng: Rng, x: Array) -> Array:
    """Repeat the last value for stretches on 2 to 30% of the steps."""
    n, length = x.shape
    draws = rng.random((n, length), dtype=np.float32)
    is_change = changes(rng, n, length, 3, length / 3)
    stretches = hold(draws, is_change)
    stuck_share = uniform(rng, n, 0.02, 0.3)
    is_new = stretches >= stuck_share
    return hold(x, is_new)


def _round(rng: Rng, x: Array) -> Array:
    """Round to a step from .02 to 1 deviation."""
    step = log_uniform(rng, len(x), 0.02, 1)
    return np.round(x / step) * step


def _negate(rng: Rng, x: Array) -> Array:
    """Change the sign."""
    return -x


def _reverse(rng: Rng, x: Array) -> Array:
    """Reverse time."""
    return x[:, ::-1]


def _wrong(rng: Rng, x: Array) -> Array:
    """Replace one to three values of a series.

    They are values with a slipped decimal point, or one sentinel of 30 to 10,000 deviations.
    """
    n, length = x.shape
    row = np.repeat(np.arange(n), _N_WRONG)
    step = rng.integers(0, length, _N_WRONG * n)
    # Half of the second and third values fall onto the one before them, so that there are fewer.
    for place in range(1, _N_WRONG):
        is_same = rng.random(n) < 0.5
        previous = step[place - 1 :: _N_WRONG]
        drawn = step[place::_N_WRONG]
        step[place::_N_WRONG] = np.where(is_same, previous, drawn)
    sign = rng.choice([-1, 1], n)
    log_size = rng.uniform(np.log(30), np.log(1e4), n)
    size = np.exp(log_size)
    sentinel = np.repeat(sign * size, _N_WRONG)
    n_places = rng.integers(2, 5, n)
    factor = np.repeat(10.0**n_places, _N_WRONG)
    slipped = x[row, step] * factor
    has_sentinel = rng.random(n) < 0.5
    is_sentinel = np.repeat(has_sentinel, _N_WRONG)
    x = x.copy()
    x[row, step] = np.where(is_sentinel, sentinel, slipped)
    return x


def _missing(rng: Rng, x: Array) -> Array:
    """Remove values at random (1 to 30%), in blocks, or both; the first two stay."""
    n, length = x.shape
    single_draws = rng.random((n, length))
    single_share = log_uniform(rng, n, 0.01, 0.3)
    single = single_draws < single_share
    block_draws = rng.random((n, length))
    is_change = changes(rng, n, length, 3, length / 3)
    block_draws = hold(block_draws, is_change)
    block_share = uniform(rng, n, 0.02, 0.3)
    blocks = block_draws < block_share
    kind = rng.integers(0, 3, (n, 1))
    options = [single, blocks, single | blocks]
    gone = np.choose(kind, options)
    # A series of which too much would be missing is left whole.
    missing_share = gone.mean(1, keepdims=True)
    gone &= missing_share < _MOST_MISSING
    gone[:, :2] = False
    return np.where(gone, np.nan, x)


# Disturbances in the order in which they are applied, with the share of series that get each.
_DISTURBANCES: tuple[tuple[float, Callable[[Rng, Array], Array]], ...] = (
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
