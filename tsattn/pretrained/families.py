"""Families of synthetic series: functions (rng, n, length) -> [n, length].

Their series are not yet scaled, and no value is missing.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from tsattn.pretrained.draws import (
    SEASON_RATIOS,
    Array,
    Family,
    Rng,
    chance,
    changes,
    choose,
    days,
    hold,
    leak,
    log_uniform,
    mix,
    normal,
    periods,
    pieces,
    profile,
    read,
    rough,
    season,
    sigmoid,
    smooth,
    some_rows,
    spectral,
    uniform,
    unit,
    walk,
)

# Series of up to so many steps are yearly to monthly more often than others.
SHORT = 170
# Days of a year.
_YEAR = 365.25
# Steps of a year of daily to monthly means, with weights.
_YEAR_STEPS = {
    _YEAR: 8,
    _YEAR / 2: 1,
    _YEAR / 5: 1,
    _YEAR / 7: 3,
    _YEAR / 10: 1,
    12: 1,
}
# Holidays of a year at most, and days of the longest.
_MOST_HOLIDAYS = 12
_LONGEST_HOLIDAY = 10
# Poisson rates beyond these need more memory for no other shape.
_HIGHEST_RATE = 1e6
_HIGHEST_EXCITED_RATE = 1e5


# --- trends and noise -----------------------------------------------------------------------------


def _line(rng: Rng, n: int, length: int) -> Array:
    """Draw a straight line."""
    slope = rng.standard_normal((n, 1))
    # A line between these has deviation 1.
    t = np.linspace(-1.7, 1.7, length)
    return slope * t


def _piecewise(rng: Rng, n: int, length: int) -> Array:
    """Draw lines with changes of slope: sums of a piecewise constant drift."""
    changing_drift = unit(pieces(rng, n, length))
    constant_drift = uniform(rng, n, -1, 1)
    drift = changing_drift + constant_drift
    return unit(np.cumsum(drift, 1))


def _exponential(rng: Rng, n: int, length: int) -> Array:
    """Draw exp(c t), rising or falling; its ends differ by a factor of e^.5 to e^4."""
    size = uniform(rng, n, 0.5, 4)
    sign = rng.choice([-1, 1], (n, 1))
    rate = size * sign
    t = np.linspace(0, 1, length)
    return unit(np.exp(rate * t))


def _logistic(rng: Rng, n: int, length: int) -> Array:
    """Draw 1 / (1 + exp(-(t - c) / w)) with the middle inside or near the series."""
    t = np.linspace(0, 1, length)
    center = uniform(rng, n, -0.1, 1.1)
    width = log_uniform(rng, n, 0.02, 0.3)
    distance = (t - center) / width
    return unit(sigmoid(distance))


def _integrated(rng: Rng, n: int, length: int) -> Array:
    """Draw sums of a slow first-order autoregression: a walk with momentum."""
    steps = autoregression(rng, n, length)
    return unit(np.cumsum(steps, 1))


def _no_trend(rng: Rng, n: int, length: int) -> Array:
    """Give zeros."""
    return np.zeros((n, length))


def trend(rng: Rng, n: int, length: int) -> Array:
    """Draw no trend, lines, exponential, logistic or smooth curves, or walks."""
    shapes = (
        (1.5, _no_trend),
        (2, _line),
        (2, _piecewise),
        (1, _exponential),
        (2, walk),
        (1, _logistic),
        (1, _integrated),
        (1.5, smooth),
    )
    return mix(rng, n, length, *shapes)


def autoregression(rng: Rng, n: int, length: int) -> Array:
    """Draw x_t = a x_(t-1) + e_t, 1 - a log-uniform from .002 to 1; a is negative in some."""
    size = 1 - log_uniform(rng, n, 0.002, 1)
    is_negative = chance(rng, n, 0.08)
    factor = np.where(is_negative, -0.8, 1)
    a = size * factor
    return spectral(rng, n, length, partial(_autoregression_density, a))


# As in draws.py, the densities stand outside of what draws them.
def _autoregression_density(a: Array, w: Array) -> Array:
    return 1 / _inverse_density(a, np.cos(w))


def _inverse_density(a: Array, cosine: Array) -> Array:
    """1 / density of a first-order autoregression."""
    return 1 + a * a - 2 * a * cosine


def oscillation(rng: Rng, n: int, length: int) -> Array:
    """Draw a second-order autoregression with roots r exp(+-i w0).

    Its cycles have a length and a height that wander.
    """
    longest = max(6, length / 2)
    period = log_uniform(rng, n, 3, longest)
    center = 2 * np.pi / period
    damping = log_uniform(rng, n, 0.002, 0.3)
    # Long cycles are damped less, or they would not come back.
    most_damping = np.minimum(1, 4 * center)
    damping = damping * most_damping
    r = 1 - damping
    a = 2 * r * np.cos(center)
    b = -r * r
    return spectral(rng, n, length, partial(_oscillation_density, a, b))


def _oscillation_density(a: Array, b: Array, w: Array) -> Array:
    real = 1 - a * np.cos(w) - b * np.cos(2 * w)
    imaginary = a * np.sin(w) + b * np.sin(2 * w)
    power = real**2 + imaginary**2
    return 1 / (power + 1e-9)


def heavy(rng: Rng, n: int, length: int) -> Array:
    """Draw Student noise of 2.5 to 8 degrees of freedom.

    It is drawn as a normal variable over the root of a gamma variable.
    """
    half_freedom = uniform(rng, n, 1.25, 4)
    numerator = normal(rng, n, length)
    shape = np.broadcast_to(half_freedom, (n, length))
    gamma = rng.standard_gamma(shape)
    denominator = np.sqrt(gamma / half_freedom)
    return unit(numerator / denominator)


def noise(rng: Rng, n: int, length: int) -> Array:
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
    x = mix(rng, n, length, *kinds)
    rows = some_rows(rng, n, 0.2)
    k = rows.size
    log_volatility = mix(rng, k, length, (1, smooth), (1, _unit_pieces))
    log_volatility = log_volatility * uniform(rng, k, 0.3, 1)
    x[rows] *= np.exp(log_volatility)
    return unit(x)


def _unit_pieces(rng: Rng, n: int, length: int) -> Array:
    """Draw piecewise constant series with deviation 1."""
    return unit(pieces(rng, n, length))


def seasons(rng: Rng, n: int, length: int, *, none: float | int = 0.18) -> Array:
    """Draw sums or products of up to three seasons.

    A later season is mostly a multiple of the first, as calendars have them.

    Args:
        rng: Source of randomness.
        n: Series.
        length: Steps.
        none: Share of the series that are 0.
    """
    first_period = periods(rng, n, length)
    x = season(rng, first_period, length)
    ratios = list(SEASON_RATIOS)
    ratio_weights = list(SEASON_RATIOS.values())
    for share in (0.45, 0.12):
        rows = some_rows(rng, n, share)
        k = rows.size
        ratio = choose(rng, (k, 1), ratios, ratio_weights)
        of_calendar = chance(rng, k, 0.8)
        shorter_period = first_period[rows]
        multiple = shorter_period * ratio
        independent = periods(rng, k, length)
        period = np.where(of_calendar, multiple, independent)
        # A quarter of such a season would not be in the series.
        too_long = period > 4 * length
        period = np.where(too_long, shorter_period / 2, period)
        period = np.maximum(period, 2)
        other = season(rng, period, length)
        other = other * log_uniform(rng, k, 0.2, 2)
        log_factor = 0.5 * np.clip(other, -3, 3)
        total = x[rows] + other
        product = x[rows] * np.exp(log_factor)
        multiplies = chance(rng, k, 0.3)
        x[rows] = np.where(multiplies, product, total)
    return x * ~chance(rng, n, none)


def _growing(x: Array, spread: Array) -> Array:
    """exp(x), where x is stretched so that its largest value is e^spread times its smallest."""
    low = x.min(1, keepdims=True)
    high = x.max(1, keepdims=True)
    extent = np.maximum(high - low, 1e-6)
    exponent = spread * (x - low) / extent
    return np.exp(exponent)


# --- families -------------------------------------------------------------------------------------


def structural(rng: Rng, n: int, length: int) -> Array:
    """Draw trend + seasons + noise, or in 30% exp(trend) (1 + seasons) with proportional noise."""
    level = trend(rng, n, length)
    level = level * log_uniform(rng, n, 0.1, 3)
    cycle = seasons(rng, n, length)
    cycle = cycle * log_uniform(rng, n, 0.5, 3)
    rest = noise(rng, n, length)
    rest = rest * log_uniform(rng, n, 0.02, 1)
    x = level + cycle + rest
    rows = some_rows(rng, n, 0.3)
    k = rows.size
    spread = log_uniform(rng, k, 0.1, 4)
    grown = _growing(level[rows], spread)
    depth = uniform(rng, k, 0.05, 0.9)
    season_factor = _season_factor(cycle[rows], depth)
    error = unit(rest[rows])
    error = error * log_uniform(rng, k, 0.005, 0.3)
    noise_factor = 1 + error
    x[rows] = grown * season_factor * noise_factor
    return x


def _season_factor(cycle: Array, depth: Array) -> Array:
    """1 + a season that is scaled so that its largest size is ``depth``."""
    highest = np.abs(cycle).max(1, keepdims=True)
    scale = depth / np.maximum(highest, 1e-6)
    return 1 + scale * cycle


def _periodic(rng: Rng, n: int, length: int) -> Array:
    """Draw exact repetitions, with a period log-uniform from 4 to 730 or the length."""
    longest = max(8, min(730, length))
    period = log_uniform(rng, n, 4, longest)
    return season(rng, period, length)


def _kernel_draws(rng: Rng, n: int, length: int) -> Array:
    """Draw from one kernel: squared exponential, rough, periodic, resonant, linear or white."""
    kernels = (
        (3, smooth),
        (2, rough),
        (5, _periodic),
        (1, oscillation),
        (1, _line),
        (0.6, normal),
    )
    return mix(rng, n, length, *kernels)


def gaussian_process(rng: Rng, n: int, length: int) -> Array:
    """Draw sums and products of one to four draws from kernels, and noise."""
    x = _kernel_draws(rng, n, length)
    for share in (0.75, 0.5, 0.3):
        rows = some_rows(rng, n, share)
        k = rows.size
        other = _kernel_draws(rng, k, length)
        other = other * log_uniform(rng, k, 0.1, 1.5)
        total = x[rows] + other
        product = x[rows] * (0.5 + other)
        multiplies = chance(rng, k, 0.35)
        x[rows] = np.where(multiplies, product, total)
    white = normal(rng, n, length)
    white = white * log_uniform(rng, n, 0.003, 0.3)
    return x + white


@dataclass(frozen=True, eq=False)
class _Smoothing:
    """Parameters of exponential smoothing, ``[n]`` each.

    Args:
        alpha: Share of an error that the level takes.
        beta: Share that the drift takes.
        gamma: Share that the season takes.
        phi: What is left of the drift after a step.
        period: Steps of the season.
    """

    alpha: Array
    beta: Array
    gamma: Array
    phi: Array
    period: Array

    @classmethod
    def draw(cls, rng: Rng, n: int, length: int) -> "_Smoothing":
        """Draw the parameters; beta and gamma are 0 in some series, phi is 1 in half of them."""
        alpha = log_uniform(rng, n, 0.002, 0.8)[:, 0]
        beta_share = log_uniform(rng, n, 0.001, 0.3)[:, 0]
        has_drift = rng.random(n) < 0.55
        beta = alpha * beta_share * has_drift
        is_damped = rng.random(n) < 0.5
        damping = log_uniform(rng, n, 0.005, 0.2)[:, 0]
        phi = np.where(is_damped, 1 - damping, 1)
        is_seasonal = rng.random(n) < 0.65
        gamma_share = log_uniform(rng, n, 0.001, 0.5)[:, 0]
        gamma = (1 - alpha) * gamma_share * is_seasonal
        drawn_period = periods(rng, n, length)[:, 0]
        whole_period = np.round(drawn_period)
        period = np.clip(whole_period, 2, 400).astype(np.intp)
        return cls(alpha, beta, gamma, phi, period)

    def run(self, errors: Array, cycles: Array, drift: Array) -> Array:
        """Values [n, T] from errors [T, n], first seasons [n, cells] and the first drift [n]."""
        length, n = errors.shape
        # Reading from a flat table is faster than from rows and columns.
        states = cycles.ravel()
        n_cells = cycles.shape[1]
        offset = np.arange(n) * n_cells
        level = np.zeros(n)
        y = np.empty((length, n), np.float32)
        for t in range(length):
            error = errors[t]
            place = offset + t % self.period
            damped_drift = self.phi * drift
            seasonal = states[place]
            y[t] = level + damped_drift + seasonal + error
            level = level + damped_drift + self.alpha * error
            drift = damped_drift + self.beta * error
            states[place] = seasonal + self.gamma * error
        return y.T.copy()


def exponential_smoothing(rng: Rng, n: int, length: int) -> Array:
    """Draw the innovations form of exponential smoothing with additive errors.

    y_t = l + phi b + s_(t-m) + e_t, then l += phi b + alpha e_t, b = phi b + beta e_t, s_(t-m) +=
    gamma e_t; alpha, beta / alpha and gamma log-uniform, beta = 0 in 45%, no season in 35%, phi
    from .8 to 1; exp(y) in 30%.
    """
    smoothing = _Smoothing.draw(rng, n, length)
    period = smoothing.period
    size = log_uniform(rng, n, 0.5, 15)
    is_seasonal = smoothing.gamma > 0
    size = size * is_seasonal[:, None]
    float_period = period[:, None].astype(float)
    longest = int(period.max())
    cycles = season(rng, float_period, longest)
    cycles = unit(cycles) * size
    errors = mix(rng, n, length, (4, normal), (1, heavy))
    drift = rng.standard_normal(n)
    drift = drift * log_uniform(rng, n, 0.005, 0.3)[:, 0]
    drift = drift * (smoothing.beta > 0)
    errors_by_step = np.ascontiguousarray(errors.T)
    x = smoothing.run(errors_by_step, cycles, drift)
    rows = some_rows(rng, n, 0.3)
    spread = log_uniform(rng, rows.size, 0.3, 4)
    x[rows] = _growing(x[rows], spread)
    return x


def seasonal_autoregression(rng: Rng, n: int, length: int) -> Array:
    """Draw (1 - a B)(1 - b B^m) x_t = e_t from its spectral density; integrated in 25%."""
    a = 1 - log_uniform(rng, n, 0.01, 1)
    b = 1 - log_uniform(rng, n, 0.01, 0.7)
    period = np.round(periods(rng, n, length))
    x = spectral(rng, n, length, partial(_seasonal_density, a, b, period))
    is_integrated = chance(rng, n, 0.25)
    integral = unit(np.cumsum(x, 1))
    return np.where(is_integrated, integral, x)


def _seasonal_density(a: Array, b: Array, period: Array, w: Array) -> Array:
    direct = _inverse_density(a, np.cos(w))
    seasonal = _inverse_density(b, np.cos(w * period))
    return 1 / (direct * seasonal)


def _rates(rng: Rng, n: int, length: int) -> Array:
    """Draw logarithms of rates around 0: a season, a drift, changes of level."""
    cycle = seasons(rng, n, length, none=0.25)
    cycle = cycle * uniform(rng, n, 0.2, 1.3)
    drift = mix(rng, n, length, (2, smooth), (1, walk), (1, pieces))
    drift = drift * uniform(rng, n, 0, 0.6)
    return np.clip(cycle + drift, -4, 4)


def _poisson(rng: Rng, n: int, length: int) -> Array:
    """Draw Poisson counts of mean .1 to 100.

    In half of the series rates are mixed by a gamma variable (negative binomial counts).
    """
    rate = np.exp(_rates(rng, n, length))
    rate = rate * log_uniform(rng, n, 0.1, 100)
    rows = some_rows(rng, n, 0.5)
    k = rows.size
    shape = log_uniform(rng, k, 0.5, 20)
    shape_by_step = np.broadcast_to(shape, (k, length))
    gamma = rng.standard_gamma(shape_by_step)
    rate[rows] *= gamma / shape
    rate = np.minimum(rate, _HIGHEST_RATE)
    return rng.poisson(rate).astype(np.float32)


def _intermittent(rng: Rng, n: int, length: int) -> Array:
    """Draw demand in some steps only, with log-normal sizes, whole in most series."""
    rate = np.exp(_rates(rng, n, length))
    rate = rate * log_uniform(rng, n, 0.03, 0.7)
    probability = np.clip(rate, 0, 1)
    mean = uniform(rng, n, 0, 3)
    deviation = normal(rng, n, length)
    deviation = deviation * uniform(rng, n, 0.1, 0.9)
    size = np.exp(mean + deviation)
    is_whole = chance(rng, n, 0.8)
    size = np.where(is_whole, np.ceil(size), size)
    draws = rng.random((n, length), dtype=np.float32)
    is_sold = draws < probability
    return size * is_sold


def counts(rng: Rng, n: int, length: int) -> Array:
    """Draw counts with seasonal drifting rates, or intermittent demand."""
    return mix(rng, n, length, (3, _poisson), (2, _intermittent))


def regimes(rng: Rng, n: int, length: int) -> Array:
    """Draw Ornstein-Uhlenbeck series x += k (mu - x) + sigma e.

    k, mu and sigma are those of one of two to four regimes at a time.
    """
    n_states = rng.integers(2, 5, (n, 1))
    # The remainder of a large number is nearly uniform for any number of states.
    draws = rng.integers(0, 1 << 16, (n, length))
    states = draws % n_states
    is_change = changes(rng, n, length, 10, length)
    state = hold(states, is_change)

    def of_state(values: Array) -> Array:
        return np.take_along_axis(values, state, 1)

    log_k = rng.uniform(np.log(0.005), 0, (n, 4))
    k = of_state(np.exp(log_k))
    state_means = rng.standard_normal((n, 4))
    state_means = state_means * uniform(rng, n, 0.2, 4)
    mean = of_state(state_means)
    log_sigma = rng.normal(0, 0.8, (n, 4))
    sigma = of_state(np.exp(log_sigma))
    # So the deviation of the series does not depend on k.
    sigma = sigma * np.sqrt(k)
    shocks = sigma * normal(rng, n, length)
    inputs = k * mean + shocks
    x = leak(1 - k, inputs)
    return x + seasons(rng, n, length, none=0.7)


def _bursts(rng: Rng, n: int, length: int) -> Array:
    """Draw events with heavy-tailed sizes that decay at once or over some hundred steps."""
    at_events = changes(rng, n, length, 5, 300)
    log_sizes = normal(rng, n, length)
    log_sizes = log_sizes * uniform(rng, n, 0.3, 1)
    sizes = np.exp(log_sizes)
    decay = 1 - log_uniform(rng, n, 0.01, 1)
    x = leak(decay, at_events * sizes)
    ground = normal(rng, n, length)
    ground = ground * log_uniform(rng, n, 0.01, 0.5)
    return unit(x) + ground


def _usage(rng: Rng, n: int, length: int) -> Array:
    """Draw usage of a processor in percent: idle and busy times with noise, cut at 0 and 100."""
    mean = uniform(rng, n, 5, 60)
    load_size = uniform(rng, n, 10, 50)
    times = _unit_pieces(rng, n, length)
    load = mean + load_size * times
    wander = mix(rng, n, length, (1, autoregression), (1, heavy), (1, oscillation))
    wander = wander * uniform(rng, n, 1, 20)
    log_volatility = _unit_pieces(rng, n, length)
    volatility = np.exp(0.3 * log_volatility)
    usage = load + wander * volatility
    return np.clip(usage, 0, 100)


def _latency(rng: Rng, n: int, length: int) -> Array:
    """Draw response times: log-normal around a drifting mean, with a tail."""
    mean = mix(rng, n, length, (1, autoregression), (1, pieces), (1, smooth))
    mean = mean * uniform(rng, n, 0.1, 0.6)
    rest = heavy(rng, n, length)
    rest = rest * uniform(rng, n, 0.05, 0.5)
    log_time = np.clip(mean + rest, -4, 4)
    return np.exp(log_time)


def _leakage(rng: Rng, n: int, length: int) -> Array:
    """Draw memory that fills at a changing rate and is freed at irregular times."""
    is_freed = changes(rng, n, length, 10, length / 2)
    rate_error = normal(rng, n, length)
    rate_error = rate_error * uniform(rng, n, 0.1, 2)
    rate = np.abs(1 + rate_error)
    filled = np.cumsum(rate, 1)
    freed = hold(filled, is_freed)
    freed = freed * uniform(rng, n, 0.7, 1)
    return filled - freed


def telemetry(rng: Rng, n: int, length: int) -> Array:
    """Draw measures of machines: bursts, usage, response times or memory.

    Half of them have a season.
    """
    kinds = (
        (1, _bursts),
        (1.5, _usage),
        (1, _latency),
        (0.5, _leakage),
    )
    measures = mix(rng, n, length, *kinds)
    cycle = seasons(rng, n, length, none=0.5)
    cycle = cycle * log_uniform(rng, n, 0.1, 5)
    return unit(measures) + cycle


def bounded(rng: Rng, n: int, length: int) -> Array:
    """Draw shares: a latent series through a logistic curve, or cut at 0 and 1.

    Some stay at a bound for long times.
    """
    latent = mix(rng, n, length, (2, structural), (1, gaussian_process), (1, autoregression))
    x = unit(latent)
    center = uniform(rng, n, -1.5, 1.5)
    spread = log_uniform(rng, n, 0.3, 3)
    soft = sigmoid(center + spread * x, 30)
    share = 0.5 + 0.3 * center + 0.2 * spread * x
    hard = np.clip(share, 0, 1)
    is_soft = chance(rng, n, 0.5)
    return np.where(is_soft, soft, hard)


def audio(rng: Rng, n: int, length: int) -> Array:
    """Draw up to four chirping oscillations a(t) sin(f(t)).

    Their envelopes decay from one stroke to the next.
    """
    x = normal(rng, n, length)
    x = x * log_uniform(rng, n, 0.003, 0.2)
    for share in (1.0, 0.7, 0.4, 0.2):
        rows = some_rows(rng, n, share)
        k = rows.size
        wave = _chirp(rng, k, length)
        wave = wave * _strokes(rng, k, length)
        x[rows] += wave * log_uniform(rng, k, 0.3, 1)
    return x


def _chirp(rng: Rng, n: int, length: int) -> Array:
    """Draw sines whose frequency rises or falls, in half of them."""
    t = np.arange(length, dtype=np.float32)
    longest = max(8, length / 4)
    period = log_uniform(rng, n, 4, longest)
    rate = 2 * np.pi / period
    chirp = uniform(rng, n, -0.4, 0.8)
    chirp = chirp * chance(rng, n, 0.5)
    change = 1 + chirp * t / length
    angle = rate * t * change
    angle = angle + uniform(rng, n, 0, 6.3)
    return np.sin(angle.astype(np.float32))


def _strokes(rng: Rng, n: int, length: int) -> Array:
    """Draw envelopes that are 1 at each stroke and decay until the next one, in most series."""
    t = np.arange(length, dtype=np.float32)
    longest = max(32, 2 * length)
    steps_between = log_uniform(rng, n, 16, longest)
    first_stroke = steps_between * uniform(rng, n, 0, 1)
    since_stroke = (t + first_stroke) % steps_between
    decays = chance(rng, n, 0.6)
    decay = uniform(rng, n, 0.5, 6)
    decay = np.where(decays, decay, 0)
    exponent = -since_stroke / steps_between * decay
    return np.exp(exponent)


def self_exciting(rng: Rng, n: int, length: int) -> Array:
    """Draw Hawkes counts: rate_t = base_t + a (1 - d) sum_k d^(k-1) count_(t-k).

    The branching ratio a is from .2 to .95.
    """
    decay = 1 - log_uniform(rng, n, 0.01, 0.7)[:, 0]
    ratio = rng.uniform(0.2, 0.95, n)
    base = np.exp(_rates(rng, n, length))
    base = base * log_uniform(rng, n, 0.02, 5)
    base = base * (1 - ratio[:, None])
    base = np.ascontiguousarray(base.T)
    weight = ratio * (1 - decay)
    excitement = np.zeros(n)
    y = np.empty((length, n), np.float32)
    for t in range(length):
        rate = base[t] + weight * excitement
        rate = np.minimum(rate, _HIGHEST_EXCITED_RATE)
        y[t] = rng.poisson(rate)
        excitement = decay * excitement + y[t]
    return y.T.copy()


def random_walks(rng: Rng, n: int, length: int) -> Array:
    """Draw sums of steps, normal or heavy-tailed, in most without a drift.

    The volatility changes in 40%; 25% are pulled back to a mean, 40% are read with noise, 30% are
    exponentials.
    """
    log_volatility = mix(rng, n, length, (1, autoregression), (1, pieces))
    log_volatility = log_volatility * uniform(rng, n, 0.1, 1)
    log_volatility = log_volatility * chance(rng, n, 0.4)
    steps = mix(rng, n, length, (2, normal), (1, heavy))
    steps = steps * _volatility(log_volatility)
    drift = normal(rng, n, 1)
    drift = drift * log_uniform(rng, n, 0.003, 0.2)
    steps += drift * chance(rng, n, 0.4)
    pull = log_uniform(rng, n, 0.002, 0.2)
    pull = pull * chance(rng, n, 0.25)
    x = leak(1 - pull, steps)
    error = normal(rng, n, length)
    error = error * log_uniform(rng, n, 0.1, 3)
    x += error * chance(rng, n, 0.4)
    is_exponential = chance(rng, n, 0.3)
    spread = log_uniform(rng, n, 0.05, 2)
    return np.where(is_exponential, _growing(x, spread), x)


def _volatility(logarithm: Array) -> Array:
    """Factors of steps, bounded so that a few do not hide all others."""
    bounded_logarithm = np.clip(logarithm, -4, 3)
    return np.exp(bounded_logarithm)


def finance(rng: Rng, n: int, length: int) -> Array:
    """Draw prices, some pulled back to a mean, or returns, of stochastic volatility.

    Log prices add up exp(h_t) e_t with persistent h.
    """
    log_volatility = mix(rng, n, length, (2, autoregression), (1, rough), (1, pieces))
    log_volatility = log_volatility * uniform(rng, n, 0.1, 1)
    shocks = mix(rng, n, length, (1, normal), (1, heavy))
    returns = _volatility(log_volatility) * shocks
    drift = normal(rng, n, 1)
    returns += drift * log_uniform(rng, n, 0.003, 0.1)
    pull = log_uniform(rng, n, 0.001, 0.1)
    pull = pull * chance(rng, n, 0.3)
    log_price = leak(1 - pull, returns)
    spread = log_uniform(rng, n, 0.05, 3)
    price = _growing(log_price, spread)
    size = np.abs(returns)
    # A size of 0 has no logarithm.
    log_size = np.log(size + 0.05)
    is_signed = chance(rng, n, 0.5)
    movements = np.where(is_signed, returns, log_size)
    is_price = chance(rng, n, 0.85)
    return np.where(is_price, price, movements)


def cumulative(rng: Rng, n: int, length: int) -> Array:
    """Draw totals, or increments, of up to eight waves that rise fast and fall slower.

    They are reported with noise and a week.
    """
    t = np.arange(length)
    x = np.full((n, length), 1e-3)
    for share in (1.0, 0.7, 0.6, 0.5, 0.5, 0.4, 0.4, 0.3):
        peak = uniform(rng, n, -0.1, 1.1) * length
        narrowest = max(2, length / 200)
        rising_width = log_uniform(rng, n, narrowest, length / 6)
        falling_width = rising_width * log_uniform(rng, n, 1, 3)
        width = np.where(t < peak, rising_width, falling_width)
        is_present = chance(rng, n, share)
        height = is_present * log_uniform(rng, n, 0.1, 1)
        # The hyperbolic cosine overflows far away.
        distance = (t - peak) / width
        distance = np.clip(distance, -20, 20)
        x += height / np.cosh(distance)
    period = np.full((n, 1), 7.0)
    week = season(rng, period, length)
    week = week * uniform(rng, n, 0, 0.25)
    week = week * chance(rng, n, 0.6)
    error = normal(rng, n, length)
    error = error * log_uniform(rng, n, 0.01, 0.4)
    log_factor = np.clip(week + error, -3, 3)
    x *= np.exp(log_factor)
    is_total = chance(rng, n, 0.5)
    return np.where(is_total, np.cumsum(x, 1), x)


def _drifts(rng: Rng, n: int, length: int) -> Array:
    """Draw drifts a step: constant, piecewise constant, or damped towards 0 after shocks.

    Their deviation is about 1.
    """
    constant = rng.standard_normal((n, 1))
    constant = constant * uniform(rng, n, 0.05, 1)
    is_constant = chance(rng, n, 0.3)
    changing = pieces(rng, n, length)
    changing = changing + uniform(rng, n, -1, 1)
    piecewise = np.where(is_constant, constant, changing)
    is_shock = changes(rng, n, length, 15, length)
    shocks = is_shock * normal(rng, n, length) * 2
    is_damped = chance(rng, n, 0.3)
    decay = uniform(rng, n, 0.7, 0.995)
    damped = leak(decay, shocks)
    return np.where(is_damped, damped, piecewise)


def low_frequency(rng: Rng, n: int, length: int) -> Array:
    """Draw yearly to monthly series; half of them are exponentials.

    They have a walking level, a strong, at times damped drift, and a weak season of 4 or 12.
    """
    drift = _drifts(rng, n, length)
    drift = drift * log_uniform(rng, n, 0.05, 2)
    steps = drift + normal(rng, n, length)
    level = np.cumsum(steps, 1)
    options = [4.0, 12.0, 6.0, 3.0]
    option_shares = [0.45, 0.45, 0.05, 0.05]
    period = rng.choice(options, (n, 1), p=option_shares)
    cycle = season(rng, period, length)
    cycle = cycle * log_uniform(rng, n, 0.2, 5)
    cycle = cycle * chance(rng, n, 0.5)
    error = normal(rng, n, length)
    error = error * log_uniform(rng, n, 0.05, 2)
    x = level + cycle + error
    is_exponential = chance(rng, n, 0.5)
    spread = log_uniform(rng, n, 0.3, 4)
    return np.where(is_exponential, _growing(x, spread), x)


def _swings(rng: Rng, n: int, length: int) -> Array:
    """Draw smooth rises and falls of some 24 steps to the whole length, on a line."""
    curve = smooth(rng, n, length, shortest=24)
    line = _line(rng, n, length)
    return curve + line * uniform(rng, n, 0, 1)


def _damped(rng: Rng, n: int, length: int) -> Array:
    """Draw a rise that slows down: 1 - exp(-t / w), w from a tenth of the length to all of it."""
    width = log_uniform(rng, n, 0.1, 1)
    t = np.linspace(0, 1, length)
    rest = np.exp(-t / width)
    return unit(1 - rest)


def _changing(rng: Rng, cycle: Array, other: Array) -> Array:
    """Turn a season into another along a logistic curve and let it grow or shrink, in 40%."""
    n, length = cycle.shape
    curve = _logistic(rng, n, length)
    # Most of a curve of deviation 1 lies between -2 and 2.
    share = (curve + 2) / 4
    share = np.clip(share, 0, 1)
    size_change = uniform(rng, n, -1, 1)
    log_size = size_change * np.linspace(-0.7, 0.7, length)
    turned = cycle + share * (other - cycle)
    changed = turned * np.exp(log_size)
    is_changed = chance(rng, n, 0.4)
    return np.where(is_changed, changed, cycle)


def growth(rng: Rng, n: int, length: int) -> Array:
    """Draw growth with a season, exp(trend) (1 + depth season).

    A fifth has a new level from some step on. The period is mostly 12 or 4; the season changes in
    some series.
    """
    shapes = (
        (2, _line),
        (2, _piecewise),
        (1.5, _damped),
        (1, _integrated),
        (1, walk),
        (1, _logistic),
        (2, _swings),
    )
    curve = mix(rng, n, length, *shapes)
    options = [12.0, 4.0, 7.0, 52.0, 24.0, 6.0]
    option_shares = [0.5, 0.25, 0.1, 0.06, 0.05, 0.04]
    period = rng.choice(options, (n, 1), p=option_shares)
    first_cycle = season(rng, period, length)
    last_cycle = season(rng, period, length)
    cycle = _changing(rng, first_cycle, last_cycle)
    depth = uniform(rng, n, 0.05, 0.95)
    season_factor = _season_factor(cycle, depth)
    error = noise(rng, n, length)
    error = np.clip(error, -6, 6)
    error = error * log_uniform(rng, n, 0.005, 0.15)
    first_shifted = uniform(rng, n, 0.1, 1) * length
    is_shifted = np.arange(length) >= first_shifted
    is_shifted = is_shifted * chance(rng, n, 0.2)
    shift = is_shifted * uniform(rng, n, -0.5, 0.5)
    spread = log_uniform(rng, n, 0.3, 4)
    grown = _growing(curve, spread)
    error_factor = np.exp(error)
    shift_factor = np.exp(shift)
    return grown * season_factor * error_factor * shift_factor


def _year_wave(rng: Rng, n: int, day: Array) -> Array:
    """Draw a sine of one year, of times in days."""
    first_phase = uniform(rng, n, 0, 1)
    phase = day / _YEAR + first_phase
    angle = 2 * np.pi * phase.astype(np.float32)
    return np.sin(angle)


def solar(rng: Rng, n: int, length: int) -> Array:
    """Draw power of the sun: max(0, cos(day) - c(t)) times the share that clouds let through.

    It is 0 at night.
    """
    day_steps = days(rng, n, length)
    day = np.arange(length) / day_steps
    first_phase = uniform(rng, n, 0, 1)
    phase = (day + first_phase) % 1
    angle = 2 * np.pi * phase.astype(np.float32)
    height = np.cos(angle)
    year = _year_wave(rng, n, day)
    mean_night = uniform(rng, n, -0.2, 0.2)
    night_size = uniform(rng, n, 0, 0.4)
    night = mean_night + night_size * year
    cloud_steps = day_steps * log_uniform(rng, n, 0.05, 2)
    cloud_steps = np.maximum(2, cloud_steps)
    shocks = normal(rng, n, length)
    decay = 1 - 1 / cloud_steps
    clouds = unit(leak(decay, shocks))
    clearness = uniform(rng, n, 0, 3)
    cloud_size = uniform(rng, n, 0.3, 2)
    share = sigmoid(clearness + cloud_size * clouds, 30)
    clear_power = np.maximum(0, height - night)
    return clear_power * share


def weather(rng: Rng, n: int, length: int) -> Array:
    """Draw fronts that last from half a day to twenty days, a day and a year.

    The height of the day follows the fronts. Some series are cut from below.
    """
    day_steps = days(rng, n, length)
    front_steps = day_steps * log_uniform(rng, n, 0.5, 20)
    decay = np.exp(-1 / front_steps)
    second_decay = decay * chance(rng, n, 0.5)
    shocks = mix(rng, n, length, (3, normal), (1, heavy))
    shocks = leak(second_decay, shocks)
    fronts = unit(leak(decay, shocks))
    log_height = fronts * uniform(rng, n, -0.8, 0.8)
    log_height = np.clip(log_height, -3, 3)
    height = np.exp(log_height)
    height = height * log_uniform(rng, n, 0.05, 3)
    day = np.arange(length) / day_steps
    year = _year_wave(rng, n, day)
    daily = season(rng, day_steps, length) * height
    yearly = year * log_uniform(rng, n, 0.1, 4)
    x = fronts + daily + yearly
    error = noise(rng, n, length)
    x += error * log_uniform(rng, n, 0.01, 0.5)
    is_cut = chance(rng, n, 0.25)
    bound = uniform(rng, n, -1, 1)
    return np.where(is_cut, np.maximum(x, bound), x)


def climate(rng: Rng, n: int, length: int) -> Array:
    """Draw daily to monthly means of the weather: a year, fronts of some days, slow anomalies.

    Often less than a year is seen. The fronts are larger in one half of the year. Some series are
    exponentials, some have a bound, and some are the flow of a river, which rises at once and falls
    slowly.
    """
    options = list(_YEAR_STEPS)
    option_weights = list(_YEAR_STEPS.values())
    year_steps = choose(rng, (n, 1), options, option_weights)
    step_days = _YEAR / year_steps
    day = np.arange(length) * step_days
    year = _year_wave(rng, n, day)
    # A harmonic makes one half of the year sharper than the other.
    harmonic_size = 0.3 * uniform(rng, n, -1, 1)
    year = year + harmonic_size * (year * year - 0.5)
    front_days = log_uniform(rng, n, 0.7, 12)
    anomaly_days = log_uniform(rng, n, 20, 200)
    fronts = _faded(normal(rng, n, length), step_days, front_days)
    anomalies = _faded(normal(rng, n, length), step_days, anomaly_days)
    log_front_size = year * uniform(rng, n, -0.5, 0.5)
    fronts = fronts * np.exp(log_front_size)
    fronts = fronts + anomalies * log_uniform(rng, n, 0.03, 1)
    x = fronts + year * log_uniform(rng, n, 0.2, 5)
    is_exponential = chance(rng, n, 0.25)
    spread = log_uniform(rng, n, 0.5, 4)
    x = np.where(is_exponential, _growing(x, spread), x)
    rows = some_rows(rng, n, 0.15)
    x[rows] = _flow(rng, x[rows], step_days[rows])
    is_cut = chance(rng, n, 0.15)
    bound = uniform(rng, n, -1, 1)
    scaled = unit(x)
    return np.where(is_cut, np.maximum(scaled, bound), scaled)


def _faded(shocks: Array, step_days: Array, fading_days: Array) -> Array:
    """Sums of shocks that fade to 1/e in so many days, with deviation 1."""
    decay = np.exp(-step_days / fading_days)
    return unit(leak(decay, shocks))


def _flow(rng: Rng, wetness: Array, step_days: Array) -> Array:
    """Draw the flow of rivers whose rain is heavier where ``wetness`` is high."""
    n, length = wetness.shape
    shocks = normal(rng, n, length)
    log_rain = unit(wetness) + 1.5 * shocks
    rain = np.exp(np.clip(log_rain, -4, 5))
    fast_days = log_uniform(rng, n, 1, 10)
    slow_days = log_uniform(rng, n, 20, 150)
    fast = _faded(rain, step_days, fast_days)
    slow = _faded(rain, step_days, slow_days)
    return fast + slow * log_uniform(rng, n, 0.2, 3)


def workdays(rng: Rng, n: int, length: int) -> Array:
    """Draw a day's profile on workdays, another on days off, and a walking level.

    Days have 24 to 288 steps.
    """
    day_steps = days(rng, n, length)
    first_day = rng.uniform(0, 7, (n, 1))
    first_step = np.floor(first_day * day_steps)
    step = np.arange(length) + 0.5 + first_step
    day = step / day_steps
    workday, smoothly = profile(rng, day_steps)
    difference = uniform(rng, n, 0, 1)
    day_off = workday * uniform(rng, n, 0.2, 1)
    other_profile, _ = profile(rng, day_steps)
    profile_change = other_profile * 0.5 * difference
    day_off = day_off + profile_change - difference
    draws = rng.random((n, length), dtype=np.float32)
    is_first_step = day % 1 < 1.0001 / day_steps
    is_holiday = hold(draws, is_first_step) < 0.02
    has_five_workdays = chance(rng, n, 0.8)
    n_workdays = np.where(has_five_workdays, 5, 6)
    is_weekend = np.floor(day) % 7 >= n_workdays
    on_days_off = read(day_off, day, smoothly)
    on_workdays = read(workday, day, smoothly)
    x = np.where(is_weekend | is_holiday, on_days_off, on_workdays)
    level = mix(rng, n, length, (1, smooth), (1, walk), (1, autoregression))
    x += level * log_uniform(rng, n, 0.03, 0.8)
    error = noise(rng, n, length)
    x += error * log_uniform(rng, n, 0.03, 1.2)
    is_exponential = chance(rng, n, 0.3)
    exponent = np.clip(0.5 * x, -4, 3)
    return np.where(is_exponential, np.exp(exponent), x)


def daily(rng: Rng, n: int, length: int) -> Array:
    """Draw a business by the day: a week, a year, holidays, ends of months, a walking level.

    In half of the series a holiday that falls on one of two days of the week has no effect.
    """
    first_day = rng.integers(0, 10_000, (n, 1))
    day = np.arange(length) + first_day
    week = _cycle(rng, n, length, 7.0)
    year = _cycle(rng, n, length, _YEAR)
    month = _cycle(rng, n, length, _YEAR / 12)
    level = trend(rng, n, length)
    x = week * log_uniform(rng, n, 0.2, 3)
    year = year * log_uniform(rng, n, 0.05, 2)
    x += year * chance(rng, n, 0.8)
    month = month * log_uniform(rng, n, 0.05, 0.7)
    x += month * chance(rng, n, 0.3)
    x += level * log_uniform(rng, n, 0.05, 3)
    effect = _holidays(rng, day)
    first_weekday = rng.integers(0, 7, (n, 1))
    weekday = (day + first_weekday) % 7
    is_weekend = weekday < 2
    has_no_effect = is_weekend & chance(rng, n, 0.5)
    x += np.where(has_no_effect, 0, effect)
    error = noise(rng, n, length)
    x += error * log_uniform(rng, n, 0.05, 1)
    is_exponential = chance(rng, n, 0.4)
    spread = log_uniform(rng, n, 0.3, 4)
    return np.where(is_exponential, _growing(x, spread), x)


def _cycle(rng: Rng, n: int, length: int, n_days: float) -> Array:
    """Draw seasons of so many days."""
    period = np.full((n, 1), n_days)
    return season(rng, period, length)


def _holidays(rng: Rng, day: Array) -> Array:
    """Draw effects of up to twelve holidays a year at these days [N, T], most of one sign."""
    n = len(day)
    year_days = round(_YEAR)
    n_holidays = rng.integers(0, _MOST_HOLIDAYS + 1, n)
    year_day = (day % _YEAR).astype(np.intp)
    table = np.zeros((n, year_days + 1), np.float32)
    rows = np.arange(n)
    sign = rng.choice([-1, 1], n, p=[0.75, 0.25])
    for number in range(_MOST_HOLIDAYS):
        date = rng.integers(0, year_days, n)
        n_days = rng.choice([1, 1, 1, 2, 4, _LONGEST_HOLIDAY], n)
        # One of four has the other sign and half the size.
        relative_sign = rng.choice([1, 1, 1, -0.5], n)
        log_size = rng.normal(0.5, 0.6, n)
        size = sign * relative_sign * np.exp(log_size)
        size = size * (number < n_holidays)
        for day_number in range(_LONGEST_HOLIDAY):
            holiday = (date + day_number) % year_days
            is_holiday = day_number < n_days
            effect = size * is_holiday * 0.8**day_number
            table[rows, holiday] += effect
    return np.take_along_axis(table, year_day, 1)


# --- shares ---------------------------------------------------------------------------------------

FAMILIES: dict[str, tuple[Family, float]] = {
    "structural": (structural, 0.21),
    "gaussian_process": (gaussian_process, 0.09),
    "exponential_smoothing": (exponential_smoothing, 0.1),
    "seasonal_autoregression": (seasonal_autoregression, 0.06),
    "counts": (counts, 0.04),
    "low_frequency": (low_frequency, 0.05),
    "growth": (growth, 0.05),
    "workdays": (workdays, 0.07),
    "telemetry": (telemetry, 0.05),
    "random_walks": (random_walks, 0.06),
    "regimes": (regimes, 0.02),
    "weather": (weather, 0.04),
    "climate": (climate, 0.03),
    "daily": (daily, 0.03),
    "bounded": (bounded, 0.02),
    "finance": (finance, 0.02),
    "solar": (solar, 0.015),
    "audio": (audio, 0.015),
    "self_exciting": (self_exciting, 0.01),
    "cumulative": (cumulative, 0.02),
}
# Factors of the shares of families among short series.
_FACTORS_IN_SHORT = {
    "low_frequency": 5.0,
    "growth": 4.0,
    "random_walks": 2.0,
    "exponential_smoothing": 1.2,
}


def shares(length: int) -> Array:
    """Shares of the families, in their order, among series of so many steps."""
    factors = _FACTORS_IN_SHORT if length <= SHORT else {}
    weights = []
    for name, (_, weight) in FAMILIES.items():
        factor = factors.get(name, 1)
        weights.append(weight * factor)
    return np.array(weights) / np.sum(weights)
