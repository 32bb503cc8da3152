"""Components of synthetic series: trends, noise and seasons, each drawn from a source
``[n, length]``.
"""

from functools import partial

import numpy as np

from tsattn.pretrained.draws import (
    SEASON_RATIOS,
    Array,
    Source,
    mix,
    normal,
    periods,
    pieces,
    rough,
    season,
    sigmoid,
    smooth,
    spectral,
    unit,
    walk,
)


def line(source: Source) -> Array:
    """Draw a straight line."""
    slope = source.rng.standard_normal(source.column)
    # A line between these has deviation 1.
    t = np.linspace(-1.7, 1.7, source.length)
    return slope * t


def piecewise(source: Source) -> Array:
    """Draw lines with changes of slope: sums of a piecewise constant drift."""
    changing_drift = unit(pieces(source))
    constant_drift = source.uniform(-1, 1)
    drift = changing_drift + constant_drift
    return unit(np.cumsum(drift, 1))


def _exponential(source: Source) -> Array:
    """Draw exp(c t), rising or falling; its ends differ by a factor of e^.5 to e^4."""
    size = source.uniform(0.5, 4)
    sign = source.signs()
    rate = size * sign
    t = np.linspace(0, 1, source.length)
    return unit(np.exp(rate * t))


def logistic(source: Source) -> Array:
    """Draw 1 / (1 + exp(-(t - c) / w)) with the middle inside or near the series."""
    t = np.linspace(0, 1, source.length)
    center = source.uniform(-0.1, 1.1)
    width = source.log_uniform(0.02, 0.3)
    distance = (t - center) / width
    return unit(sigmoid(distance))


def integrated(source: Source) -> Array:
    """Draw sums of a slow first-order autoregression: a walk with momentum."""
    steps = autoregression(source)
    return unit(np.cumsum(steps, 1))


def _no_trend(source: Source) -> Array:
    """Give zeros."""
    return np.zeros(source.shape)


def trend(source: Source) -> Array:
    """Draw no trend, lines, exponential, logistic or smooth curves, or walks."""
    shapes = (
        (1.5, _no_trend),
        (2, line),
        (2, piecewise),
        (1, _exponential),
        (2, walk),
        (1, logistic),
        (1, integrated),
        (1.5, smooth),
    )
    return mix(source, *shapes)


def autoregression(source: Source) -> Array:
    """Draw x_t = a x_(t-1) + e_t, 1 - a log-uniform from .002 to 1; a is negative in some."""
    size = 1 - source.log_uniform(0.002, 1)
    is_negative = source.chance(0.08)
    factor = np.where(is_negative, -0.8, 1)
    a = size * factor
    return spectral(source, partial(_autoregression_density, a))


# As in draws.py, the densities stand outside of what draws them.
def _autoregression_density(a: Array, w: Array) -> Array:
    return 1 / inverse_density(a, np.cos(w))


def inverse_density(a: Array, cosine: Array) -> Array:
    """1 / density of a first-order autoregression."""
    return 1 + a * a - 2 * a * cosine


def oscillation(source: Source) -> Array:
    """Draw a second-order autoregression with roots r exp(+-i w0).

    Its cycles have a length and a height that wander.
    """
    longest = max(6, source.length / 2)
    period = source.log_uniform(3, longest)
    center = 2 * np.pi / period
    damping = source.log_uniform(0.002, 0.3)
    # Long cycles are damped less, or they would not come back.
    most_damping = np.minimum(1, 4 * center)
    damping = damping * most_damping
    r = 1 - damping
    a = 2 * r * np.cos(center)
    b = -r * r
    return spectral(source, partial(_oscillation_density, a, b))


def _oscillation_density(a: Array, b: Array, w: Array) -> Array:
    real = 1 - a * np.cos(w) - b * np.cos(2 * w)
    imaginary = a * np.sin(w) + b * np.sin(2 * w)
    power = real**2 + imaginary**2
    return 1 / (power + 1e-9)


def heavy(source: Source) -> Array:
    """Draw Student noise of 2.5 to 8 degrees of freedom.

    It is drawn as a normal variable over the root of a gamma variable.
    """
    half_freedom = source.uniform(1.25, 4)
    numerator = normal(source)
    shape = np.broadcast_to(half_freedom, source.shape)
    gamma = source.rng.standard_gamma(shape)
    denominator = np.sqrt(gamma / half_freedom)
    return unit(numerator / denominator)


def noise(source: Source) -> Array:
    """Draw white, autoregressive, rough or heavy-tailed noise.

    The deviation changes in a fifth of the series.
    """
    kinds = (
        (4, normal),
        (2.5, autoregression),
        (1, oscillation),
        (0.5, rough),
        (2, heavy),
    )
    x = mix(source, *kinds)
    rows = source.some_rows(0.2)
    part = source.part(rows)
    log_volatility = mix(part, (1, smooth), (1, unit_pieces))
    log_volatility *= part.uniform(0.3, 1)
    x[rows] *= np.exp(log_volatility)
    return unit(x)


def unit_pieces(source: Source) -> Array:
    """Draw piecewise constant series with deviation 1."""
    return unit(pieces(source))


def seasons(source: Source, *, none: float | int = 0.18) -> Array:
    """Draw sums or products of up to three seasons.

    A later season is mostly a multiple of the first, as calendars have them.

    Args:
        source: Number and length of the series.
        none: Share of the series that are 0.
    """
    first_period = periods(source)
    x = season(source, first_period)
    for share in (0.45, 0.12):
        rows = source.some_rows(share)
        part = source.part(rows)
        ratio = part.choose(SEASON_RATIOS)
        of_calendar = part.chance(0.8)
        shorter_period = first_period[rows]
        multiple = shorter_period * ratio
        independent = periods(part)
        period = np.where(of_calendar, multiple, independent)
        # A quarter of such a season would not be in the series.
        too_long = period > 4 * source.length
        period = np.where(too_long, shorter_period / 2, period)
        period = np.maximum(period, 2)
        season_part = season(part, period)
        season_part *= part.log_uniform(0.2, 2)
        log_factor = 0.5 * np.clip(season_part, -3, 3)
        total = x[rows] + season_part
        product = x[rows] * np.exp(log_factor)
        multiplies = part.chance(0.3)
        x[rows] = np.where(multiplies, product, total)
    return x * ~source.chance(none)


def growing(x: Array, spread: Array) -> Array:
    """exp(x), where x is stretched so that its largest value is e^spread times its smallest."""
    low = x.min(1, keepdims=True)
    high = x.max(1, keepdims=True)
    extent = np.maximum(high - low, 1e-6)
    exponent = spread * (x - low) / extent
    return np.exp(exponent)
