"""Random building blocks of synthetic series: seasons, trends, coloured noise, levels, all as
batches [N, T].
"""

from collections.abc import Callable

import numpy as np

Family = Callable[[np.random.Generator, int, int], np.ndarray]  # (rng, n, length) -> [n, length]

# Seasons that calendars and clocks make, with their weights: quarters, weeks, months, days and
# hours of several resolutions, years.
PERIODS = np.array(
    [4, 5, 7, 12, 24, 30, 48, 52, 60, 96, 144, 168, 288, 336, 365.25, 3, 6, 8, 10, 13, 26, 360, 720]
)
PERIOD_WEIGHTS = np.array(
    [6, 3, 10, 14, 14, 3, 5, 5, 4, 7, 4, 4, 5, 2, 4, 1, 2, 2, 2, 2, 2, 5, 3], float
)
# What a second season is of the first: weeks of days, years of months, years of weeks in days, and
# so on.
MULTIPLES = np.array([2, 4, 7, 12, 14, 52 / 12, 30.4, 365.25 / 7])
MULTIPLE_WEIGHTS = np.array([2, 2, 8, 3, 1, 2, 2, 2], float)
CELLS = 512  # cells of the table that holds one cycle of a season


def mix(
    rng: np.random.Generator, n: int, length: int, *choices: tuple[float | int, Family]
) -> np.ndarray:
    """n series, each from one of the families, drawn with the weights given; the order
    is random.
    """
    weights = np.array([weight for weight, _ in choices])
    counts = rng.multinomial(n, weights / weights.sum())
    blocks = [
        family(rng, int(k), length) for k, (_, family) in zip(counts, choices, strict=True) if k
    ]
    order = rng.permutation(n)
    x = np.empty((n, length), np.float32)
    for block, rows in zip(
        blocks, np.split(order, np.cumsum([len(block) for block in blocks])), strict=False
    ):
        x[rows] = block
    return x


def uniform(rng: np.random.Generator, n: int, low: float | int, high: float | int) -> np.ndarray:
    """[n, 1] uniform numbers."""
    return rng.uniform(low, high, (n, 1)).astype(np.float32)


def log_uniform(
    rng: np.random.Generator, n: int, low: float | int, high: float | int
) -> np.ndarray:
    """[n, 1] numbers whose logarithm is uniform: every order of magnitude is as likely."""
    return np.exp(rng.uniform(np.log(low), np.log(high), (n, 1))).astype(np.float32)


def chance(rng: np.random.Generator, n: int, probability: float | int) -> np.ndarray:
    """[n, 1] of True with this probability."""
    return rng.random((n, 1)) < probability


def normal(rng: np.random.Generator, n: int, length: int) -> np.ndarray:
    """White Gaussian noise."""
    return rng.standard_normal((n, length), dtype=np.float32)


def unit(x: np.ndarray) -> np.ndarray:
    """Each series with mean 0 and deviation 1; one without variation becomes 0."""
    x = x - x.mean(1, keepdims=True)
    deviation = np.sqrt(np.einsum("nt,nt->n", x, x) / x.shape[1])[:, None]
    return (x / np.where(deviation > 1e-12, deviation, np.inf)).astype(np.float32, copy=False)


def spectral(
    rng: np.random.Generator, n: int, length: int, density: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Stationary Gaussian series of a spectral density, deviation 1.

    Independent complex normals at the Fourier frequencies times the root of the density,
    transformed back; the circle is at least a quarter longer than the series, so that its ends do
    not meet.

    Args:
        rng: Source of randomness.
        n: Series.
        length: Steps.
        density: Maps angular frequencies [F] to densities [n, F] up to a factor.
    """
    size = min(2**k * odd for k in range(3, 16) for odd in (1, 3) if 2**k * odd >= 1.25 * length)
    omega = 2 * np.pi * np.arange(1, size // 2 + 1, dtype=np.float32) / size
    parts = rng.standard_normal((n, 2, omega.size), dtype=np.float32)
    root = np.sqrt(density(omega)).astype(np.float32, copy=False)
    root = root / np.maximum(root.max(1, keepdims=True), 1e-30)
    waves = np.zeros((n, size // 2 + 1), np.complex64)
    waves.real[:, 1:] = parts[:, 0] * root
    waves.imag[:, 1:] = parts[:, 1] * root
    return unit(np.fft.irfft(waves, size)[:, :length])


def smooth(
    rng: np.random.Generator, n: int, length: int, *, shortest: float | int = 4
) -> np.ndarray:
    """Gaussian process with kernel exp(-(d / s)^2 / 2), s log-uniform from ``shortest`` to the
    length.
    """
    scale = log_uniform(rng, n, shortest, max(2 * shortest, length))
    return spectral(
        rng, n, length, lambda w: np.exp(-0.5 * np.minimum((w * scale) ** 2, 150)) + 1e-12
    )


def rough(rng: np.random.Generator, n: int, length: int) -> np.ndarray:
    """Gaussian process of density (1 + (w s)^2)^-a, a from .6 to 2.5: between noise of long memory
    and smooth.
    """
    scale = log_uniform(rng, n, 2, max(4, length))
    power = uniform(rng, n, 0.6, 2.5)
    return spectral(rng, n, length, lambda w: np.exp(-power * np.log1p((w * scale) ** 2)))


def walk(rng: np.random.Generator, n: int, length: int) -> np.ndarray:
    """Random walk: cumulative sums of white noise, deviation 1."""
    return unit(np.cumsum(normal(rng, n, length), 1))


def leak(decay: np.ndarray, x: np.ndarray) -> np.ndarray:
    """y_t = d_t y_(t-1) + x_t from y = 0, for decays [N, 1] or [N, T] and inputs [N, T]."""
    y = np.ascontiguousarray(x.T, dtype=np.float32)
    by_time = np.broadcast_to(np.asarray(decay, np.float32).T, y.shape)
    by_time = np.ascontiguousarray(by_time) if decay.shape[1] > 1 else by_time
    last = np.zeros(y.shape[1], np.float32)
    step = np.empty(y.shape[1], np.float32)
    for now, d in zip(y, by_time, strict=True):
        np.multiply(last, d, out=step)
        now += step
        last = now
    return np.ascontiguousarray(y.T)


def hold(values: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Values [N, T] held since the last step that changes [N, T]: piecewise constant series."""
    last = np.maximum.accumulate(np.where(change, np.arange(values.shape[1]), 0), axis=1)
    return np.take_along_axis(values, last, 1)


def changes(
    rng: np.random.Generator, n: int, length: int, shortest: float | int, longest: float | int
) -> np.ndarray:
    """[N, T] of True at random steps, on average once in a time that is log-uniform between the
    two.
    """
    return rng.random((n, length), dtype=np.float32) < 1 / log_uniform(
        rng, n, shortest, max(shortest * 1.5, longest)
    )


def pieces(rng: np.random.Generator, n: int, length: int) -> np.ndarray:
    """Piecewise constant levels, independent or as a walk, that last from 8 steps to the whole
    length on average.
    """
    change = changes(rng, n, length, 8, length)
    levels = normal(rng, n, length)
    return np.where(
        chance(rng, n, 0.5), np.cumsum(levels * change, 1), hold(levels, change)
    ).astype(np.float32)


def periods(rng: np.random.Generator, n: int, length: int) -> np.ndarray:
    """[n, 1] season lengths in steps.

    Four in five from the calendar's list, one in five log-uniform from 3 to 400 (half of them whole
    numbers). Those that do not fit twice are mostly drawn again from what does; 3% are log-uniform
    from half the length to three times.
    """
    drawn = rng.choice(PERIODS, n, p=PERIOD_WEIGHTS / PERIOD_WEIGHTS.sum())
    free = np.exp(rng.uniform(np.log(3), np.log(400), n))
    free = np.where(rng.random(n) < 0.5, np.maximum(3, np.round(free)), free)
    drawn = np.where(rng.random(n) < 0.2, free, drawn)
    fits = max(4, length / 2) >= PERIODS
    again = rng.choice(PERIODS[fits], n, p=PERIOD_WEIGHTS[fits] / PERIOD_WEIGHTS[fits].sum())
    drawn = np.where((drawn > length / 2) & (rng.random(n) < 0.8), again, drawn)
    long = length * np.exp(rng.uniform(np.log(0.5), np.log(3), n))
    return np.where(rng.random(n) < 0.03, long, drawn)[:, None]


def days(rng: np.random.Generator, n: int, length: int) -> np.ndarray:
    """[n, 1] steps of a day: hours and parts of them, or a few hours where the series is short."""
    steps = np.array([4.0, 6.0, 8.0, 12.0, 24.0, 48.0, 96.0, 144.0, 288.0])
    weights = np.array([1, 1, 1, 3, 44, 20, 16, 9, 5]) * (steps <= max(4, length / 2))
    return rng.choice(steps, (n, 1), p=weights / weights.sum())


def _harmonics(rng: np.random.Generator, n: int, length: int) -> np.ndarray:
    """Up to 8 random harmonics with amplitudes k^-a, a from .3 to 2.5."""
    k = np.arange(1, 9)
    size = k ** -uniform(rng, n, 0.3, 2.5) * (k <= rng.integers(1, 9, (n, 1)))
    angle = 2 * np.pi * np.outer(k, (np.arange(length) + 0.5) / length)
    return (size * rng.standard_normal((n, 8))) @ np.sin(angle) + (
        size * rng.standard_normal((n, 8))
    ) @ np.cos(angle)


def _bumps(rng: np.random.Generator, n: int, length: int) -> np.ndarray:
    """One to three bumps exp(c (cos(a) - 1)), c from 1 to 100."""
    angle = 2 * np.pi * np.arange(length) / length
    total = np.zeros((n, length))
    for more in (1.0, 0.5, 0.3):
        height = rng.normal(1, 0.4, (n, 1)) * chance(rng, n, more)
        at = uniform(rng, n, 0, 2 * np.pi)
        total += height * np.exp(log_uniform(rng, n, 1, 100) * (np.cos(angle - at) - 1))
    return total


def _plateau(rng: np.random.Generator, n: int, length: int) -> np.ndarray:
    """Day and night: 1 for a share of the cycle, 0 otherwise, with edges from sharp to soft."""
    angle = 2 * np.pi * np.arange(length) / length - uniform(rng, n, 0, 2 * np.pi)
    threshold = np.cos(np.pi * uniform(rng, n, 0.15, 0.85))
    return 1 / (
        1 + np.exp(-np.clip(log_uniform(rng, n, 3, 100) * (np.cos(angle) - threshold), -50, 50))
    )


def _sawtooth(rng: np.random.Generator, n: int, length: int) -> np.ndarray:
    """Rise phase^a, then a fall at once; a from 1/3 to 3."""
    phase = ((np.arange(length) + 0.5) / length + uniform(rng, n, 0, 1)) % 1
    return phase ** log_uniform(rng, n, 1 / 3, 3)


def _cut(rng: np.random.Generator, n: int, length: int) -> np.ndarray:
    """Harmonics cut from below at a level, as light over a day."""
    x = unit(_harmonics(rng, n, length))
    return np.maximum(x, uniform(rng, n, -0.5, 0.7))


def steps_of_cycle(rng: np.random.Generator, period: np.ndarray) -> np.ndarray:
    """Tables [N, CELLS] of independent levels for each step, or of one level for most steps,
    another for the last.
    """
    n = len(period)
    step = (np.arange(CELLS) / CELLS * np.clip(period, 2, CELLS)).astype(int)
    free = np.take_along_axis(normal(rng, n, CELLS), step, 1)
    apart = step >= np.round(
        np.clip(period, 2, CELLS) * rng.choice([5 / 7, 0.5, 6 / 7, 0.8], (n, 1))
    )
    blocks = np.where(apart, rng.normal(0, 1, (n, 1)), rng.normal(2, 1, (n, 1))) + free * uniform(
        rng, n, 0, 0.5
    )
    return np.where(chance(rng, n, 0.3), blocks, free)


def profile(rng: np.random.Generator, period: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tables [N, CELLS] of one cycle, mean 0 and deviation 1, and [N, 1] whether they are read with
    interpolation.
    """
    n = len(period)
    curves = mix(
        rng, n, CELLS, (4, _harmonics), (2, _bumps), (1.5, _plateau), (0.7, _sawtooth), (1, _cut)
    )
    stepped = chance(rng, n, 0.25)
    return unit(np.where(stepped, steps_of_cycle(rng, period), curves)), ~stepped


def read(table: np.ndarray, phase: np.ndarray, smoothly: np.ndarray | bool = True) -> np.ndarray:
    """Values [N, T] of tables [N, CELLS] of one cycle at phases [N, T] in cycles, interpolated
    linearly where asked.
    """
    place = (phase - np.floor(phase)) * table.shape[1]
    cell = np.minimum(place.astype(np.intp), table.shape[1] - 1)
    rest = (place - cell) * smoothly
    wide = np.concatenate([table, table[:, :1]], 1)
    cell += np.arange(len(table))[:, None] * wide.shape[1]
    flat = wide.ravel()
    low = flat.take(cell)
    return (low + rest.astype(np.float32) * (flat.take(cell + 1) - low)).astype(
        np.float32, copy=False
    )


def season(rng: np.random.Generator, period: np.ndarray, length: int) -> np.ndarray:
    """Seasons of these periods [N, 1], random profiles and phases; in 30% the amplitude drifts, in
    5% the period.
    """
    n = len(period)
    table, smoothly = profile(rng, period)
    phase = (np.arange(length) + 0.5 + rng.integers(0, 10_000, (n, 1))) / period
    rows = np.flatnonzero(rng.random(n) < 0.05)
    phase[rows] += 0.3 * smooth(rng, rows.size, length, shortest=max(8, length // 8))
    x = read(table, phase, smoothly)
    rows = np.flatnonzero(rng.random(n) < 0.3)
    change = smooth(rng, rows.size, length, shortest=max(8, length // 16))
    x[rows] *= np.exp(uniform(rng, rows.size, 0.1, 0.8) * change)
    return x
