"""Random building blocks of synthetic series: seasons, trends, coloured noise and steps.

All are batches ``[N, T]``. Draws are repeatable: the order in which a function draws its numbers is
part of its result.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

Rng = np.random.Generator
Array = np.ndarray

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
# Least divisor of roots of densities, which may all be 0.
_LEAST_ROOT = 1e-30


@dataclass(frozen=True, eq=False)
class Source:
    """What draws series: a generator, which moves on, and the shape of the series.

    Args:
        rng: Source of randomness.
        n: Series.
        length: Steps.
    """

    rng: Rng
    n: int
    length: int

    @property
    def shape(self) -> tuple[int, int]:
        """That of the series."""
        return self.n, self.length

    @property
    def column(self) -> tuple[int, int]:
        """That of one number a series."""
        return self.n, 1

    @property
    def steps(self) -> Array:
        """The numbers of the steps."""
        return np.arange(self.length)

    def part(self, rows: Array) -> "Source":
        """What draws as many series as there are rows."""
        return replace(self, n=rows.size)

    def random(self) -> Array:
        """Draw uniform numbers ``[n, length]`` between 0 and 1."""
        return self.rng.random(self.shape, dtype=np.float32)

    def uniform(self, low: float | int, high: float | int) -> Array:
        """Draw uniform numbers ``[n, 1]``."""
        numbers = self.rng.uniform(low, high, self.column)
        return numbers.astype(np.float32)

    def log_uniform(self, low: float | int, high: float | int) -> Array:
        """Draw numbers ``[n, 1]`` whose logarithm is uniform: each magnitude is as likely."""
        log_low = np.log(low)
        log_high = np.log(high)
        logarithm = self.rng.uniform(log_low, log_high, self.column)
        numbers = np.exp(logarithm)
        return numbers.astype(np.float32)

    def integers(self, low: int, high: int) -> Array:
        """Draw whole numbers ``[n, 1]`` below ``high``."""
        return self.rng.integers(low, high, self.column)

    def signs(self) -> Array:
        """Draw -1 or 1, ``[n, 1]``."""
        return self.rng.choice([-1, 1], self.column)

    def choose(self, weights: Mapping[Any, float | int]) -> Array:
        """Draw keys ``[n, 1]`` with weights that need not sum to one."""
        options = np.array(list(weights))
        shares = np.array(list(weights.values()))
        return self.rng.choice(options, self.column, p=shares / shares.sum())

    def chance(self, probability: float | int) -> Array:
        """Draw flags ``[n, 1]`` that are True with this probability."""
        draws = self.rng.random(self.column)
        return draws < probability

    def some_rows(self, probability: float | int) -> Array:
        """Draw the numbers of some of the series, each with this probability."""
        is_drawn = self.rng.random(self.n) < probability
        return np.flatnonzero(is_drawn)


Family = Callable[[Source], Array]


def mix(source: Source, *choices: tuple[float | int, Family]) -> Array:
    """Draw series, each from one of the families with the weights given, in random order."""
    weights = np.array([weight for weight, _ in choices])
    shares = weights / weights.sum()
    counts = source.rng.multinomial(source.n, shares)
    blocks = []
    for count, (_, family) in zip(counts, choices, strict=True):
        if count:
            part = replace(source, n=int(count))
            blocks.append(family(part))
    order = source.rng.permutation(source.n)
    x = np.empty(source.shape, np.float32)
    first = 0
    for block in blocks:
        end = first + len(block)
        rows = order[first:end]
        x[rows] = block
        first = end
    return x


def normal(source: Source) -> Array:
    """Draw white Gaussian noise."""
    return source.rng.standard_normal(source.shape, dtype=np.float32)


def unit(x: Array) -> Array:
    """Scale each series to mean 0 and deviation 1; one without variation becomes 0."""
    mean = x.mean(1, keepdims=True)
    centred = x - mean
    sums_of_squares = np.einsum("nt,nt->n", centred, centred)
    variance = sums_of_squares / x.shape[1]
    deviation = np.sqrt(variance)[:, None]
    is_varying = deviation > _CONSTANT
    # A division by infinity leaves 0.
    divisor = np.where(is_varying, deviation, np.inf)
    scaled = centred / divisor
    return scaled.astype(np.float32, copy=False)


def sigmoid(x: Array, limit: float | int = _EXPONENT_LIMIT) -> Array:
    """The logistic function 1 / (1 + exp(-x)), with x cut at plus and minus the limit."""
    bounded = np.clip(x, -limit, limit)
    odds_against = np.exp(-bounded)
    return 1 / (1 + odds_against)


def spectral(source: Source, density: Callable[[Array], Array]) -> Array:
    """Draw stationary Gaussian series of a spectral density, with deviation 1.

    Independent complex normals at the Fourier frequencies are multiplied by the root of the density
    and transformed back. The circle is at least a quarter longer than the series, so that its ends
    do not meet.

    Args:
        source: Number and length of the series.
        density: Maps angular frequencies [F] to densities [n, F] up to a factor.
    """
    size = _circle_steps(1.25 * source.length)
    n_frequencies = size // 2
    frequencies = np.arange(1, n_frequencies + 1, dtype=np.float32)
    omega = 2 * np.pi * frequencies / size
    # Real and imaginary parts of the waves.
    parts = source.rng.standard_normal((source.n, 2, omega.size), dtype=np.float32)
    power = density(omega)
    root = np.sqrt(power).astype(np.float32, copy=False)
    # The factor of a density is free, so the largest root is made 1: no square overflows.
    largest = root.max(1, keepdims=True)
    root = root / np.maximum(largest, _LEAST_ROOT)
    # The mean, at frequency 0, stays 0.
    waves = np.zeros((source.n, n_frequencies + 1), np.complex64)
    real = parts[:, 0] * root
    imaginary = parts[:, 1] * root
    waves.real[:, 1:] = real
    waves.imag[:, 1:] = imaginary
    circles = np.fft.irfft(waves, size)
    return unit(circles[:, : source.length])


def _circle_steps(least: float) -> int:
    """The smallest length of at least so many steps whose Fourier transform is fast."""
    sizes = []
    for exponent in range(3, 16):
        power_of_two = 2**exponent
        sizes.append(power_of_two)
        sizes.append(3 * power_of_two)
    return min(size for size in sizes if size >= least)


def smooth(source: Source, *, shortest: float | int = 4) -> Array:
    """Draw a Gaussian process with kernel exp(-(d / s)^2 / 2).

    The scale s is log-uniform from ``shortest`` to the length.
    """
    longest = max(2 * shortest, source.length)
    scale = source.log_uniform(shortest, longest)
    return spectral(source, partial(_smooth_density, scale))


# The densities stand outside of what draws them: where the tests check types, a function that is
# made in each call would be compiled anew in each call.
def _smooth_density(scale: Array, w: Array) -> Array:
    squares = (w * scale) ** 2
    # exp(-75) is nothing beside 1e-12; less comes near the least numbers of float32.
    bounded = np.minimum(squares, 150)
    return np.exp(-0.5 * bounded) + 1e-12


def rough(source: Source) -> Array:
    """Draw a Gaussian process of density (1 + (w s)^2)^-a, a from .6 to 2.5.

    It lies between noise of long memory and a smooth curve.
    """
    longest = max(4, source.length)
    scale = source.log_uniform(2, longest)
    power = source.uniform(0.6, 2.5)
    return spectral(source, partial(_rough_density, scale, power))


def _rough_density(scale: Array, power: Array, w: Array) -> Array:
    squares = (w * scale) ** 2
    return np.exp(-power * np.log1p(squares))


def walk(source: Source) -> Array:
    """Draw random walks: cumulative sums of white noise, deviation 1."""
    steps = normal(source)
    return unit(np.cumsum(steps, 1))


def leak(decay: Array, x: Array) -> Array:
    """y_t = d_t y_(t-1) + x_t from y = 0, for decays [N, 1] or [N, T] and inputs [N, T]."""
    # One step of all series lies together in memory, as the loop over time reads it.
    y = np.ascontiguousarray(x.T, dtype=np.float32)
    n = y.shape[1]
    decays = np.asarray(decay, np.float32)
    decay_by_time = np.broadcast_to(decays.T, y.shape)
    if decay.shape[1] > 1:
        decay_by_time = np.ascontiguousarray(decay_by_time)
    previous = np.zeros(n, np.float32)
    carried = np.empty(n, np.float32)
    for current, step_decay in zip(y, decay_by_time, strict=True):
        np.multiply(previous, step_decay, out=carried)
        current += carried
        previous = current
    return np.ascontiguousarray(y.T)


def hold(values: Array, change: Array) -> Array:
    """Repeat values [N, T] since the last step that changes [N, T]: piecewise constant series."""
    step = np.arange(values.shape[1])
    change_steps = np.where(change, step, 0)
    last_change = np.maximum.accumulate(change_steps, axis=1)
    return np.take_along_axis(values, last_change, 1)


def changes(source: Source, shortest: float | int, longest: float | int) -> Array:
    """Draw flags [N, T] that are True at random steps.

    The mean time between two of them is log-uniform from the shortest to the longest.
    """
    draws = source.random()
    most_steps = max(shortest * 1.5, longest)
    steps_between = source.log_uniform(shortest, most_steps)
    probability = 1 / steps_between
    return draws < probability


def pieces(source: Source) -> Array:
    """Draw piecewise constant series, of independent values or as a walk.

    A value lasts from 8 steps to the whole length on average.
    """
    change = changes(source, 8, source.length)
    values = normal(source)
    is_walk = source.chance(0.5)
    walks = np.cumsum(values * change, 1)
    independent = hold(values, change)
    x = np.where(is_walk, walks, independent)
    return x.astype(np.float32)


def periods(source: Source) -> Array:
    """Draw season lengths in steps, ``[n, 1]``.

    Four in five are from the calendar's list, one in five is log-uniform from 3 to 400 (half of
    these are whole numbers). Those that do not fit twice are mostly drawn again from what does; 3%
    are log-uniform from half the length to three times.
    """
    period = source.choose(CALENDAR_PERIODS)
    log_free = source.rng.uniform(np.log(3), np.log(400), source.column)
    free = np.exp(log_free)
    is_whole = source.chance(0.5)
    whole = np.maximum(3, np.round(free))
    free = np.where(is_whole, whole, free)
    is_free = source.chance(0.2)
    period = np.where(is_free, free, period)
    redrawn = source.choose(_fitting(CALENDAR_PERIODS, source.length))
    may_be_redrawn = source.chance(0.8)
    is_redrawn = (period > source.length / 2) & may_be_redrawn
    period = np.where(is_redrawn, redrawn, period)
    log_ratio = source.rng.uniform(np.log(0.5), np.log(3), source.column)
    very_long = source.length * np.exp(log_ratio)
    is_very_long = source.chance(0.03)
    return np.where(is_very_long, very_long, period)


def _fitting(weights: Mapping[Any, float | int], length: int) -> dict[Any, float | int]:
    """The seasons that are in a series of so many steps twice, or have at most 4 steps."""
    longest = max(4, length / 2)
    return {steps: weight for steps, weight in weights.items() if steps <= longest}


def days(source: Source) -> Array:
    """Draw steps of a day, ``[n, 1]``: hours and parts of them, fewer where the series is short."""
    return source.choose(_fitting(DAY_STEPS, source.length))


def _angles(source: Source) -> Array:
    """Angles of the steps of one cycle, from 0 on."""
    return 2 * np.pi * source.steps / source.length


def _harmonics(source: Source) -> Array:
    """Draw up to 8 random harmonics with amplitudes k^-a, a from .3 to 2.5."""
    k = np.arange(1, _N_HARMONICS + 1)
    decay = source.uniform(0.3, 2.5)
    n_harmonics = source.integers(1, _N_HARMONICS + 1)
    is_present = k <= n_harmonics
    size = k**-decay * is_present
    phase = (source.steps + 0.5) / source.length
    angle = 2 * np.pi * np.outer(k, phase)
    sine_sizes = size * source.rng.standard_normal((source.n, _N_HARMONICS))
    cosine_sizes = size * source.rng.standard_normal((source.n, _N_HARMONICS))
    sines = sine_sizes @ np.sin(angle)
    cosines = cosine_sizes @ np.cos(angle)
    return sines + cosines


def _bumps(source: Source) -> Array:
    """Draw one to three bumps exp(c (cos(a) - 1)), c from 1 to 100."""
    angle = _angles(source)
    total = np.zeros(source.shape)
    for share in (1.0, 0.5, 0.3):
        height = source.rng.normal(1, 0.4, source.column)
        height *= source.chance(share)
        center = source.uniform(0, 2 * np.pi)
        sharpness = source.log_uniform(1, 100)
        # 0 at the centre and below it elsewhere, so that the bump is 1 there.
        wave = np.cos(angle - center) - 1
        total += height * np.exp(sharpness * wave)
    return total


def _plateau(source: Source) -> Array:
    """Draw day and night: 1 for a share of the cycle, 0 otherwise, with sharp to soft edges."""
    angle = _angles(source)
    noon = source.uniform(0, 2 * np.pi)
    angle = angle - noon
    day_share = source.uniform(0.15, 0.85)
    # The cosine is above it for this share of the cycle.
    threshold = np.cos(np.pi * day_share)
    sharpness = source.log_uniform(3, 100)
    height = np.cos(angle) - threshold
    return sigmoid(sharpness * height)


def _sawtooth(source: Source) -> Array:
    """Draw a rise phase^a, then a fall at once; a from 1/3 to 3."""
    phase = (source.steps + 0.5) / source.length
    shift = source.uniform(0, 1)
    phase = (phase + shift) % 1
    power = source.log_uniform(1 / 3, 3)
    return phase**power


def _cut(source: Source) -> Array:
    """Draw harmonics and cut them from below, as light over a day."""
    waves = unit(_harmonics(source))
    bound = source.uniform(-0.5, 0.7)
    return np.maximum(waves, bound)


def steps_of_cycle(source: Source, period: Array) -> Array:
    """Draw tables [N, CELLS] of cycles that are constant within a step.

    Steps have independent values, or most steps of a cycle have one value and the last another.
    """
    cells = replace(source, length=CELLS)
    n_steps = np.clip(period, 2, CELLS)
    phase = np.arange(CELLS) / CELLS
    step = (phase * n_steps).astype(int)
    draws = normal(cells)
    values = np.take_along_axis(draws, step, 1)
    # Five or six of seven days, half a cycle, four of five steps.
    shares = [5 / 7, 0.5, 6 / 7, 0.8]
    first_share = source.rng.choice(shares, source.column)
    n_first = np.round(n_steps * first_share)
    is_last = step >= n_first
    last_value = source.rng.normal(0, 1, source.column)
    first_value = source.rng.normal(2, 1, source.column)
    blocks = np.where(is_last, last_value, first_value)
    blocks += values * source.uniform(0, 0.5)
    has_blocks = source.chance(0.3)
    return np.where(has_blocks, blocks, values)


def profile(source: Source, period: Array) -> tuple[Array, Array]:
    """Draw tables [N, CELLS] of one cycle, with mean 0 and deviation 1.

    Returns:
        The tables, and whether each is read with interpolation, ``[N, 1]``.
    """
    shapes = (
        (4, _harmonics),
        (2, _bumps),
        (1.5, _plateau),
        (0.7, _sawtooth),
        (1, _cut),
    )
    cells = replace(source, length=CELLS)
    curves = mix(cells, *shapes)
    is_stepped = source.chance(0.25)
    steps = steps_of_cycle(source, period)
    cycles = np.where(is_stepped, steps, curves)
    return unit(cycles), ~is_stepped


def read(table: Array, phase: Array, smoothly: Array | bool = True) -> Array:
    """Read values [N, T] from tables [N, CELLS] of one cycle at phases [N, T] in cycles.

    Args:
        table: One cycle of each series.
        phase: Where to read.
        smoothly: Whether to interpolate linearly between cells, for all series or ``[N, 1]``.
    """
    n_cells = table.shape[1]
    phase_in_cycle = phase - np.floor(phase)
    place = phase_in_cycle * n_cells
    # Rounding may put a phase just below 1 behind the last cell.
    cell = np.minimum(place.astype(np.intp), n_cells - 1)
    rest = (place - cell) * smoothly
    # The first cell follows the last one.
    closed = np.concatenate([table, table[:, :1]], 1)
    row = np.arange(len(table))[:, None]
    cell += row * closed.shape[1]
    # Reading from the flat table is faster than from rows and columns.
    flat = closed.ravel()
    low = flat.take(cell)
    high = flat.take(cell + 1)
    weight = rest.astype(np.float32)
    values = low + weight * (high - low)
    return values.astype(np.float32, copy=False)


def season(source: Source, period: Array) -> Array:
    """Draw seasons of these periods [N, 1], with random profiles and phases.

    In 5% of them the period drifts, in 30% the amplitude.
    """
    table, smoothly = profile(source, period)
    first_step = source.integers(0, 10_000)
    step = source.steps + 0.5 + first_step
    phase = step / period
    rows = source.some_rows(0.05)
    shortest = max(8, source.length // 8)
    phase_drift = smooth(source.part(rows), shortest=shortest)
    phase[rows] += 0.3 * phase_drift
    x = read(table, phase, smoothly)
    rows = source.some_rows(0.3)
    part = source.part(rows)
    shortest = max(8, source.length // 16)
    drift = smooth(part, shortest=shortest)
    strength = part.uniform(0.1, 0.8)
    x[rows] *= np.exp(strength * drift)
    return x
