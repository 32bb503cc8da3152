"""Random building blocks of synthetic series: seasons, trends, coloured noise and steps.

All are batches ``[N, T]``. Draws are repeatable: the order in which a function draws its numbers is
part of its result.
"""

from collections.abc import Callable, Sequence

import numpy as np

Rng = np.random.Generator
Array = np.ndarray
Family = Callable[[Rng, int, int], Array]  # (rng, n, length) -> [n, length]

# Seasons in steps that calendars and clocks make, with their weights: quarters, weeks, months, days
# and hours of several resolutions, years.
CALENDAR_PERIODS = {
    4: 6.0,
    5: 3.0,
    7: 10.0,
    12: 14.0,
    24: 14.0,
    30: 3.0,
    48: 5.0,
    52: 5.0,
    60: 4.0,
    96: 7.0,
    144: 4.0,
    168: 4.0,
    288: 5.0,
    336: 2.0,
    365.25: 4.0,
    3: 1.0,
    6: 2.0,
    8: 2.0,
    10: 2.0,
    13: 2.0,
    26: 2.0,
    360: 5.0,
    720: 3.0,
}
# Length of a second season in lengths of the first, with weights: weeks of days, years of months,
# years of weeks in days, and so on.
SEASON_RATIOS = {
    2: 2.0,
    4: 2.0,
    7: 8.0,
    12: 3.0,
    14: 1.0,
    52 / 12: 2.0,
    30.4: 2.0,
    365.25 / 7: 2.0,
}
# Steps of a day, with weights: hours and parts of them.
DAY_STEPS = {
    4.0: 1,
    6.0: 1,
    8.0: 1,
    12.0: 3,
    24.0: 44,
    48.0: 20,
    96.0: 16,
    144.0: 9,
    288.0: 5,
}
# Cells of the table that holds one cycle of a season.
CELLS = 512
# Harmonics of a cycle at most.
_N_HARMONICS = 8
# Deviations below this count as no variation.
_CONSTANT = 1e-12
# Exponents beyond this would leave the range of float32.
_EXPONENT_LIMIT = 50


def mix(rng: Rng, n: int, length: int, *choices: tuple[float | int, Family]) -> Array:
    """Draw n series, each from one of the families with the weights given, in random order."""
    weights = np.array([weight for weight, _ in choices])
    counts = rng.multinomial(n, weights / weights.sum())
    blocks = []
    for count, (_, family) in zip(counts, choices, strict=True):
        if count:
            blocks.append(family(rng, int(count), length))
    order = rng.permutation(n)
    x = np.empty((n, length), np.float32)
    first = 0
    for block in blocks:
        rows = order[first : first + len(block)]
        x[rows] = block
        first += len(block)
    return x


def choose(
    rng: Rng,
    size: int | tuple[int, int],
    values: Sequence[float | int] | Array,
    weights: Sequence[float | int] | Array,
) -> Array:
    """Draw values with weights that need not sum to one."""
    options = np.asarray(values)
    shares = np.asarray(weights)
    return np.asarray(rng.choice(options, size, p=shares / shares.sum()))


def uniform(rng: Rng, n: int, low: float | int, high: float | int) -> Array:
    """Draw uniform numbers ``[n, 1]``."""
    return rng.uniform(low, high, (n, 1)).astype(np.float32)


def log_uniform(rng: Rng, n: int, low: float | int, high: float | int) -> Array:
    """Draw numbers ``[n, 1]`` whose logarithm is uniform: every order of magnitude is as likely."""
    logarithm = rng.uniform(np.log(low), np.log(high), (n, 1))
    return np.exp(logarithm).astype(np.float32)


def chance(rng: Rng, n: int, probability: float | int) -> Array:
    """Draw flags ``[n, 1]`` that are True with this probability."""
    return rng.random((n, 1)) < probability


def some_rows(rng: Rng, n: int, probability: float | int) -> Array:
    """Draw the numbers of some of n series, each with this probability."""
    return np.flatnonzero(rng.random(n) < probability)


def normal(rng: Rng, n: int, length: int) -> Array:
    """Draw white Gaussian noise."""
    return rng.standard_normal((n, length), dtype=np.float32)


def unit(x: Array) -> Array:
    """Scale each series to mean 0 and deviation 1; one without variation becomes 0."""
    x = x - x.mean(1, keepdims=True)
    squares = np.einsum("nt,nt->n", x, x)
    deviation = np.sqrt(squares / x.shape[1])[:, None]
    scaled = x / np.where(deviation > _CONSTANT, deviation, np.inf)
    return scaled.astype(np.float32, copy=False)


def sigmoid(x: Array, limit: float | int = _EXPONENT_LIMIT) -> Array:
    """The logistic function 1 / (1 + exp(-x)), with x cut at plus and minus the limit."""
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -limit, limit))))


def spectral(rng: Rng, n: int, length: int, density: Callable[[Array], Array]) -> Array:
    """Draw stationary Gaussian series of a spectral density, with deviation 1.

    Independent complex normals at the Fourier frequencies are multiplied by the root of the density
    and transformed back. The circle is at least a quarter longer than the series, so that its ends
    do not meet.

    Args:
        rng: Source of randomness.
        n: Series.
        length: Steps.
        density: Maps angular frequencies [F] to densities [n, F] up to a factor.
    """
    size = _circle_steps(1.25 * length)
    n_frequencies = size // 2
    frequencies = np.arange(1, n_frequencies + 1, dtype=np.float32)
    omega = 2 * np.pi * frequencies / size
    parts = rng.standard_normal((n, 2, omega.size), dtype=np.float32)
    root = np.sqrt(density(omega)).astype(np.float32, copy=False)
    root = root / np.maximum(root.max(1, keepdims=True), 1e-30)
    # The mean, at frequency 0, stays 0.
    waves = np.zeros((n, n_frequencies + 1), np.complex64)
    waves.real[:, 1:] = parts[:, 0] * root
    waves.imag[:, 1:] = parts[:, 1] * root
    return unit(np.fft.irfft(waves, size)[:, :length])


def _circle_steps(least: float) -> int:
    """The smallest length of at least so many steps whose Fourier transform is fast."""
    sizes = [2**k * odd for k in range(3, 16) for odd in (1, 3)]
    return min(size for size in sizes if size >= least)


def smooth(rng: Rng, n: int, length: int, *, shortest: float | int = 4) -> Array:
    """Draw a Gaussian process with kernel exp(-(d / s)^2 / 2).

    The scale s is log-uniform from ``shortest`` to the length.
    """
    scale = log_uniform(rng, n, shortest, max(2 * shortest, length))

    def density(w: Array) -> Array:
        exponent = np.minimum((w * scale) ** 2, 150)
        return np.exp(-0.5 * exponent) + 1e-12

    return spectral(rng, n, length, density)


def rough(rng: Rng, n: int, length: int) -> Array:
    """Draw a Gaussian process of density (1 + (w s)^2)^-a, a from .6 to 2.5.

    It lies between noise of long memory and a smooth curve.
    """
    scale = log_uniform(rng, n, 2, max(4, length))
    power = uniform(rng, n, 0.6, 2.5)

    def density(w: Array) -> Array:
        return np.exp(-power * np.log1p((w * scale) ** 2))

    return spectral(rng, n, length, density)


def walk(rng: Rng, n: int, length: int) -> Array:
    """Draw random walks: cumulative sums of white noise, deviation 1."""
    return unit(np.cumsum(normal(rng, n, length), 1))


def leak(decay: Array, x: Array) -> Array:
    """y_t = d_t y_(t-1) + x_t from y = 0, for decays [N, 1] or [N, T] and inputs [N, T]."""
    y = np.ascontiguousarray(x.T, dtype=np.float32)
    decay_by_time = np.broadcast_to(np.asarray(decay, np.float32).T, y.shape)
    if decay.shape[1] > 1:
        decay_by_time = np.ascontiguousarray(decay_by_time)
    previous = np.zeros(y.shape[1], np.float32)
    carried = np.empty(y.shape[1], np.float32)
    for current, step_decay in zip(y, decay_by_time, strict=True):
        np.multiply(previous, step_decay, out=carried)
        current += carried
        previous = current
    return np.ascontiguousarray(y.T)


def hold(values: Array, change: Array) -> Array:
    """Repeat values [N, T] since the last step that changes [N, T]: piecewise constant series."""
    steps = np.where(change, np.arange(values.shape[1]), 0)
    last_change = np.maximum.accumulate(steps, axis=1)
    return np.take_along_axis(values, last_change, 1)


def changes(
    rng: Rng,
    n: int,
    length: int,
    shortest: float | int,
    longest: float | int,
) -> Array:
    """Draw flags [N, T] that are True at random steps.

    The mean time between two of them is log-uniform from the shortest to the longest.
    """
    draws = rng.random((n, length), dtype=np.float32)
    steps_between = log_uniform(rng, n, shortest, max(shortest * 1.5, longest))
    return draws < 1 / steps_between


def pieces(rng: Rng, n: int, length: int) -> Array:
    """Draw piecewise constant series, of independent values or as a walk.

    A value lasts from 8 steps to the whole length on average.
    """
    change = changes(rng, n, length, 8, length)
    values = normal(rng, n, length)
    walks = chance(rng, n, 0.5)
    x = np.where(walks, np.cumsum(values * change, 1), hold(values, change))
    return x.astype(np.float32)


def periods(rng: Rng, n: int, length: int) -> Array:
    """Draw season lengths in steps, ``[n, 1]``.

    Four in five are from the calendar's list, one in five is log-uniform from 3 to 400 (half of
    these are whole numbers). Those that do not fit twice are mostly drawn again from what does; 3%
    are log-uniform from half the length to three times.
    """
    calendar = np.array(list(CALENDAR_PERIODS))
    weights = np.array(list(CALENDAR_PERIODS.values()))
    period = choose(rng, n, calendar, weights)
    free = np.exp(rng.uniform(np.log(3), np.log(400), n))
    whole = rng.random(n) < 0.5
    free = np.where(whole, np.maximum(3, np.round(free)), free)
    period = np.where(rng.random(n) < 0.2, free, period)
    fits = max(4, length / 2) >= calendar
    redrawn = choose(rng, n, calendar[fits], weights[fits])
    too_long = (period > length / 2) & (rng.random(n) < 0.8)
    period = np.where(too_long, redrawn, period)
    very_long = length * np.exp(rng.uniform(np.log(0.5), np.log(3), n))
    return np.where(rng.random(n) < 0.03, very_long, period)[:, None]


def days(rng: Rng, n: int, length: int) -> Array:
    """Draw steps of a day, ``[n, 1]``: hours and parts of them, fewer where the series is short."""
    steps = np.array(list(DAY_STEPS))
    fits = steps <= max(4, length / 2)
    return choose(rng, (n, 1), steps, np.array(list(DAY_STEPS.values())) * fits)


def _harmonics(rng: Rng, n: int, length: int) -> Array:
    """Draw up to 8 random harmonics with amplitudes k^-a, a from .3 to 2.5."""
    k = np.arange(1, _N_HARMONICS + 1)
    decay = uniform(rng, n, 0.3, 2.5)
    n_harmonics = rng.integers(1, _N_HARMONICS + 1, (n, 1))
    size = k**-decay * (k <= n_harmonics)
    angle = 2 * np.pi * np.outer(k, (np.arange(length) + 0.5) / length)
    sine_sizes = size * rng.standard_normal((n, _N_HARMONICS))
    cosine_sizes = size * rng.standard_normal((n, _N_HARMONICS))
    return sine_sizes @ np.sin(angle) + cosine_sizes @ np.cos(angle)


def _bumps(rng: Rng, n: int, length: int) -> Array:
    """Draw one to three bumps exp(c (cos(a) - 1)), c from 1 to 100."""
    angle = 2 * np.pi * np.arange(length) / length
    total = np.zeros((n, length))
    for share in (1.0, 0.5, 0.3):
        height = rng.normal(1, 0.4, (n, 1)) * chance(rng, n, share)
        center = uniform(rng, n, 0, 2 * np.pi)
        sharpness = log_uniform(rng, n, 1, 100)
        total += height * np.exp(sharpness * (np.cos(angle - center) - 1))
    return total


def _plateau(rng: Rng, n: int, length: int) -> Array:
    """Draw day and night: 1 for a share of the cycle, 0 otherwise, with sharp to soft edges."""
    angle = 2 * np.pi * np.arange(length) / length - uniform(rng, n, 0, 2 * np.pi)
    threshold = np.cos(np.pi * uniform(rng, n, 0.15, 0.85))
    sharpness = log_uniform(rng, n, 3, 100)
    return sigmoid(sharpness * (np.cos(angle) - threshold))


def _sawtooth(rng: Rng, n: int, length: int) -> Array:
    """Draw a rise phase^a, then a fall at once; a from 1/3 to 3."""
    phase = ((np.arange(length) + 0.5) / length + uniform(rng, n, 0, 1)) % 1
    return phase ** log_uniform(rng, n, 1 / 3, 3)


def _cut(rng: Rng, n: int, length: int) -> Array:
    """Draw harmonics and cut them from below, as light over a day."""
    x = unit(_harmonics(rng, n, length))
    return np.maximum(x, uniform(rng, n, -0.5, 0.7))


def steps_of_cycle(rng: Rng, period: Array) -> Array:
    """Draw tables [N, CELLS] of cycles that are constant within a step.

    Steps have independent values, or most steps of a cycle have one value and the last another.
    """
    n = len(period)
    n_steps = np.clip(period, 2, CELLS)
    step = (np.arange(CELLS) / CELLS * n_steps).astype(int)
    values = np.take_along_axis(normal(rng, n, CELLS), step, 1)
    first_share = rng.choice([5 / 7, 0.5, 6 / 7, 0.8], (n, 1))
    is_last = step >= np.round(n_steps * first_share)
    last_value = rng.normal(0, 1, (n, 1))
    first_value = rng.normal(2, 1, (n, 1))
    blocks = np.where(is_last, last_value, first_value) + values * uniform(rng, n, 0, 0.5)
    return np.where(chance(rng, n, 0.3), blocks, values)


def profile(rng: Rng, period: Array) -> tuple[Array, Array]:
    """Draw tables [N, CELLS] of one cycle, with mean 0 and deviation 1.

    Returns:
        The tables, and whether each is read with interpolation, ``[N, 1]``.
    """
    n = len(period)
    curves = mix(
        rng,
        n,
        CELLS,
        (4, _harmonics),
        (2, _bumps),
        (1.5, _plateau),
        (0.7, _sawtooth),
        (1, _cut),
    )
    stepped = chance(rng, n, 0.25)
    cycles = np.where(stepped, steps_of_cycle(rng, period), curves)
    return unit(cycles), ~stepped


def read(table: Array, phase: Array, smoothly: Array | bool = True) -> Array:
    """Read values [N, T] from tables [N, CELLS] of one cycle at phases [N, T] in cycles.

    Args:
        table: One cycle of each series.
        phase: Where to read.
        smoothly: Whether to interpolate linearly between cells, for all series or ``[N, 1]``.
    """
    n_cells = table.shape[1]
    place = (phase - np.floor(phase)) * n_cells
    cell = np.minimum(place.astype(np.intp), n_cells - 1)
    rest = (place - cell) * smoothly
    # The first cell follows the last one.
    closed = np.concatenate([table, table[:, :1]], 1)
    cell += np.arange(len(table))[:, None] * closed.shape[1]
    # Reading from the flat table is faster than from rows and columns.
    flat = closed.ravel()
    low = flat.take(cell)
    high = flat.take(cell + 1)
    values = low + rest.astype(np.float32) * (high - low)
    return values.astype(np.float32, copy=False)


def season(rng: Rng, period: Array, length: int) -> Array:
    """Draw seasons of these periods [N, 1], with random profiles and phases.

    In 5% of them the period drifts, in 30% the amplitude.
    """
    n = len(period)
    table, smoothly = profile(rng, period)
    shift = rng.integers(0, 10_000, (n, 1))
    phase = (np.arange(length) + 0.5 + shift) / period
    rows = some_rows(rng, n, 0.05)
    phase[rows] += 0.3 * smooth(rng, rows.size, length, shortest=max(8, length // 8))
    x = read(table, phase, smoothly)
    rows = some_rows(rng, n, 0.3)
    drift = smooth(rng, rows.size, length, shortest=max(8, length // 16))
    strength = uniform(rng, rows.size, 0.1, 0.8)
    x[rows] *= np.exp(strength * drift)
    return x
