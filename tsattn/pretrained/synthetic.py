"""Synthetic series for pretraining: drawn from families, mixed, disturbed, standardised; random
numbers alone.
"""

import numpy as np

from tsattn.pretrained.draws import (
    chance,
    changes,
    hold,
    leak,
    log_uniform,
    normal,
    periods,
    uniform,
    unit,
)
from tsattn.pretrained.families import FAMILIES, shares

MAX_LENGTH = 8192
# Values made at once: enough for loops over time, little enough for memory.
_BLOCK_VALUES = 2**22
_BLOCK_SERIES = 1024


def make(n: int, length: int, *, seed: int | np.random.Generator) -> np.ndarray:
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
    if not 16 <= length <= MAX_LENGTH:
        raise ValueError(
            f"length must be from 16 to {MAX_LENGTH}; got {length}: cut longer series into pieces"
        )
    rng = np.random.default_rng(seed)
    out = np.empty((n, length), np.float32)
    size = min(_BLOCK_SERIES, max(_BLOCK_VALUES // length, 1))
    for start in range(0, n, size):
        out[start : start + size] = _block(rng, min(size, n - start), length)
    return out


def standardise(x: np.ndarray) -> np.ndarray:
    """Mean 0 and deviation 1 of what is observed [N, T]; series that do not vary become 0, missing
    values stay.
    """
    seen = ~np.isnan(x)
    count = np.maximum(seen.sum(1, keepdims=True), 1)
    filled = np.where(seen, x, 0)
    mean = filled.sum(1, keepdims=True, dtype=float) / count
    filled = np.where(seen, (filled - mean).astype(np.float32), np.float32(0))
    deviation = np.sqrt(np.einsum("nt,nt->n", filled, filled)[:, None] / count)
    constant = deviation <= 1e-6 * np.maximum(np.abs(mean), 1)
    filled *= np.where(constant, 0, 1 / np.where(constant, 1, deviation)).astype(np.float32)
    return np.where(seen, filled, np.float32(np.nan))


def _block(rng: np.random.Generator, n: int, length: int) -> np.ndarray:
    """One block of finished series."""
    n_pairs = round(0.15 * n)
    x = _draw(rng, n + n_pairs, length)
    x, other = x[:n], x[n:]
    x[:n_pairs] = _join(rng, x[:n_pairs], other)
    x = x[rng.permutation(n)]
    for share, change in _ON_TOP:
        rows = np.flatnonzero(rng.random(n) < share)
        if rows.size:
            x[rows] = change(rng, x[rows])
    return standardise(x)


def _draw(rng: np.random.Generator, n: int, length: int) -> np.ndarray:
    """Series of all families with deviation 1, in random order."""
    counts = rng.multinomial(n, shares(length))
    blocks = [
        unit(family(rng, int(k), length))
        for k, (family, _) in zip(counts, FAMILIES.values(), strict=True)
        if k
    ]
    return np.concatenate(blocks)[rng.permutation(n)]


def _join(rng: np.random.Generator, x: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Two draws as one: the sum (70%), the product x (1 + c other) (12%), or the other from a
    random step on (18%).
    """
    n, length = x.shape
    weight = log_uniform(rng, n, 0.1, 1)
    late = np.arange(length) >= uniform(rng, n, 0.1, 0.9) * length
    kind = rng.random((n, 1))
    joined = np.where(kind < 0.82, x * (1 + weight * other), np.where(late, other, x))
    return np.where(kind < 0.7, x + weight * other, joined)


def _shift(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """The level changes at about one to five random steps; in 40% every second change goes back."""
    n, length = x.shape
    at = rng.random((n, length), dtype=np.float32) < rng.integers(1, 6, (n, 1)) / length
    size = uniform(rng, n, 0.5, 3)
    back = np.cumsum(at, 1) % 2 * rng.choice([-1, 1], (n, 1))
    return x + size * np.where(chance(rng, n, 0.4), back, np.cumsum(at * normal(rng, n, length), 1))


def _spikes(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Outliers of 2 to 8 deviations, in a tenth ten times as far, at random steps; gone at once or
    decaying.
    """
    n, length = x.shape
    at = changes(rng, n, length, 20, length)
    sign = np.where(
        chance(rng, n, 0.3), rng.choice([-1, 1], (n, length)), rng.choice([-1, 1], (n, 1))
    )
    size = (
        at
        * sign
        * rng.uniform(2, 8, (n, length))
        * uniform(rng, n, 0.3, 1)
        * np.where(chance(rng, n, 0.1), 10, 1)
    )
    return x + leak(uniform(rng, n, 0.3, 0.9) * chance(rng, n, 0.3), size)


def _events(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """An event of some steps that comes back regularly and adds or takes a fixed amount."""
    n, length = x.shape
    every = np.maximum(4, np.round(periods(rng, n, length)))
    place = (np.arange(length) + rng.integers(0, 10_000, (n, 1))) % every
    lasting = np.maximum(1, np.round(every * uniform(rng, n, 0, 0.15)))
    return x + (place < lasting) * rng.choice([-1, 1], (n, 1)) * uniform(rng, n, 1, 5)


def _floor(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Values below a quantile from .02 to .5 become that quantile; those above it in a third of the
    series.
    """
    x = x * np.where(chance(rng, len(x), 1 / 3), -1, 1)
    place = (rng.uniform(0.02, 0.5, (len(x), 1)) * x.shape[1]).astype(int)
    return np.maximum(x, np.take_along_axis(np.sort(x, 1), place, 1))


def _bend(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """A function of the values: tanh, a square with the sign or without, a hinge, a soft
    exponential.
    """
    x, kind = x * uniform(rng, len(x), 0.5, 2), rng.integers(0, 5, (len(x), 1))
    bent = [np.tanh(x), x * np.abs(x), x * x, np.maximum(x, 0) + 0.1 * x, np.logaddexp(2 * x, 0)]
    return np.choose(kind, bent)


def _stuck(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Stretches in which the last value stays, on 2 to 30% of the steps."""
    n, length = x.shape
    stuck = hold(rng.random((n, length), dtype=np.float32), changes(rng, n, length, 3, length / 3))
    return hold(x, stuck >= uniform(rng, n, 0.02, 0.3))


def _round(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Rounded to a step from .02 to 1 deviation."""
    step = log_uniform(rng, len(x), 0.02, 1)
    return np.round(x / step) * step


def _negate(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """The other sign."""
    return -x


def _reverse(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Time runs backwards."""
    return x[:, ::-1]


def _wrong(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """One to three values of a series replaced: a slipped decimal point, or one sentinel of 30 to
    10,000 deviations.
    """
    n, length = x.shape
    row = np.repeat(np.arange(n), 3)
    step = rng.integers(0, length, 3 * n)
    step[1::3] = np.where(rng.random(n) < 0.5, step[0::3], step[1::3])
    step[2::3] = np.where(rng.random(n) < 0.5, step[1::3], step[2::3])
    sentinel = np.repeat(
        rng.choice([-1, 1], n) * np.exp(rng.uniform(np.log(30), np.log(1e4), n)), 3
    )
    slipped = x[row, step] * np.repeat(10.0 ** rng.integers(2, 5, n), 3)
    x = x.copy()
    x[row, step] = np.where(np.repeat(rng.random(n) < 0.5, 3), sentinel, slipped)
    return x


def _missing(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Values missing at random (1 to 30%), in blocks, or both; two values at least stay."""
    n, length = x.shape
    single = rng.random((n, length)) < log_uniform(rng, n, 0.01, 0.3)
    blocks = hold(rng.random((n, length)), changes(rng, n, length, 3, length / 3)) < uniform(
        rng, n, 0.02, 0.3
    )
    kind = rng.integers(0, 3, (n, 1))
    gone = np.where(kind == 0, single, np.where(kind == 1, blocks, single | blocks))
    gone &= gone.mean(1, keepdims=True) < 0.6
    gone[:, :2] = False
    return np.where(gone, np.nan, x)


_ON_TOP = (
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
