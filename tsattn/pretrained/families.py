"""Families of synthetic series: functions of a source ``[n, length]``.

Their series are not yet scaled, and no value is missing.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from tsattn.pretrained.calendar_families import (
    calendar_cycle,
    climate,
    daily,
    solar,
    weather,
    workdays,
)
from tsattn.pretrained.components import (
    autoregression,
    growing,
    heavy,
    integrated,
    inverse_density,
    line,
    logistic,
    noise,
    oscillation,
    piecewise,
    seasons,
    trend,
    unit_pieces,
)
from tsattn.pretrained.draws import (
    Array,
    Family,
    Source,
    changes,
    hold,
    leak,
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

# Series of up to so many steps are yearly to monthly more often than others.
SHORT = 170
# Poisson rates beyond these need more memory for no other shape.
_HIGHEST_RATE = 1e6
_HIGHEST_EXCITED_RATE = 1e5


def structural(source: Source) -> Array:
    """Draw trend + seasons + noise, or in 30% exp(trend) (1 + seasons) with proportional noise."""
    level = trend(source)
    level *= source.log_uniform(0.1, 3)
    cycle = seasons(source)
    cycle *= source.log_uniform(0.5, 3)
    noise_part = noise(source)
    noise_part *= source.log_uniform(0.02, 1)
    x = level + cycle + noise_part
    rows = source.some_rows(0.3)
    part = source.part(rows)
    spread = part.log_uniform(0.1, 4)
    grown = growing(level[rows], spread)
    depth = part.uniform(0.05, 0.9)
    season_factor = _season_factor(cycle[rows], depth)
    error = unit(noise_part[rows])
    error *= part.log_uniform(0.005, 0.3)
    noise_factor = 1 + error
    x[rows] = grown * season_factor * noise_factor
    return x


def _season_factor(cycle: Array, depth: Array) -> Array:
    """1 + a season that is scaled so that its largest size is ``depth``."""
    highest = np.abs(cycle).max(1, keepdims=True)
    scale = depth / np.maximum(highest, 1e-6)
    return 1 + scale * cycle


def _periodic(source: Source) -> Array:
    """Draw exact repetitions, with a period log-uniform from 4 to 730 or the length."""
    longest = max(8, min(730, source.length))
    period = source.log_uniform(4, longest)
    return season(source, period)


def _kernel_draws(source: Source) -> Array:
    """Draw from one kernel: squared exponential, rough, periodic, resonant, linear or white."""
    kernels = (
        (3, smooth),
        (2, rough),
        (5, _periodic),
        (1, oscillation),
        (1, line),
        (0.6, normal),
    )
    return mix(source, *kernels)


def gaussian_process(source: Source) -> Array:
    """Draw sums and products of one to four draws from kernels, and noise."""
    x = _kernel_draws(source)
    for share in (0.75, 0.5, 0.3):
        rows = source.some_rows(share)
        part = source.part(rows)
        other = _kernel_draws(part)
        other *= part.log_uniform(0.1, 1.5)
        total = x[rows] + other
        product = x[rows] * (0.5 + other)
        multiplies = part.chance(0.35)
        x[rows] = np.where(multiplies, product, total)
    white = normal(source)
    white *= source.log_uniform(0.003, 0.3)
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
    def draw(cls, source: Source) -> "_Smoothing":
        """Draw the parameters; beta and gamma are 0 in some series, phi is 1 in half of them."""
        alpha = source.log_uniform(0.002, 0.8)[:, 0]
        beta_share = source.log_uniform(0.001, 0.3)[:, 0]
        has_drift = source.rng.random(source.n) < 0.55
        beta = alpha * beta_share * has_drift
        is_damped = source.rng.random(source.n) < 0.5
        damping = source.log_uniform(0.005, 0.2)[:, 0]
        phi = np.where(is_damped, 1 - damping, 1)
        is_seasonal = source.rng.random(source.n) < 0.65
        gamma_share = source.log_uniform(0.001, 0.5)[:, 0]
        gamma = (1 - alpha) * gamma_share * is_seasonal
        drawn_period = periods(source)[:, 0]
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


def exponential_smoothing(source: Source) -> Array:
    """Draw the innovations form of exponential smoothing with additive errors.

    y_t = l + phi b + s_(t-m) + e_t, then l += phi b + alpha e_t, b = phi b + beta e_t, s_(t-m) +=
    gamma e_t; alpha, beta / alpha and gamma log-uniform, beta = 0 in 45%, no season in 35%, phi
    from .8 to 1; exp(y) in 30%.
    """
    smoothing = _Smoothing.draw(source)
    period = smoothing.period
    size = source.log_uniform(0.5, 15)
    is_seasonal = smoothing.gamma > 0
    size = size * is_seasonal[:, None]
    float_period = period[:, None].astype(float)
    longest = int(period.max())
    cycles = season(replace(source, length=longest), float_period)
    cycles = unit(cycles) * size
    errors = mix(source, (4, normal), (1, heavy))
    drift = source.rng.standard_normal(source.n)
    drift = drift * source.log_uniform(0.005, 0.3)[:, 0]
    drift *= smoothing.beta > 0
    errors_by_step = np.ascontiguousarray(errors.T)
    x = smoothing.run(errors_by_step, cycles, drift)
    rows = source.some_rows(0.3)
    spread = source.part(rows).log_uniform(0.3, 4)
    x[rows] = growing(x[rows], spread)
    return x


def seasonal_autoregression(source: Source) -> Array:
    """Draw (1 - a B)(1 - b B^m) x_t = e_t from its spectral density; integrated in 25%."""
    a = 1 - source.log_uniform(0.01, 1)
    b = 1 - source.log_uniform(0.01, 0.7)
    period = np.round(periods(source))
    x = spectral(source, partial(_seasonal_density, a, b, period))
    is_integrated = source.chance(0.25)
    integral = unit(np.cumsum(x, 1))
    return np.where(is_integrated, integral, x)


def _seasonal_density(a: Array, b: Array, period: Array, w: Array) -> Array:
    direct = inverse_density(a, np.cos(w))
    seasonal = inverse_density(b, np.cos(w * period))
    return 1 / (direct * seasonal)


def _rates(source: Source) -> Array:
    """Draw logarithms of rates around 0: a season, a drift, changes of level."""
    cycle = seasons(source, none=0.25)
    cycle *= source.uniform(0.2, 1.3)
    drift = mix(source, (2, smooth), (1, walk), (1, pieces))
    drift *= source.uniform(0, 0.6)
    return np.clip(cycle + drift, -4, 4)


def _poisson(source: Source) -> Array:
    """Draw Poisson counts of mean .1 to 100.

    In half of the series rates are mixed by a gamma variable (negative binomial counts).
    """
    rate = np.exp(_rates(source))
    rate *= source.log_uniform(0.1, 100)
    rows = source.some_rows(0.5)
    part = source.part(rows)
    shape = part.log_uniform(0.5, 20)
    shape_by_step = np.broadcast_to(shape, part.shape)
    gamma = source.rng.standard_gamma(shape_by_step)
    rate[rows] *= gamma / shape
    rate = np.minimum(rate, _HIGHEST_RATE)
    return source.rng.poisson(rate).astype(np.float32)


def _intermittent(source: Source) -> Array:
    """Draw demand in some steps only, with log-normal sizes, whole in most series."""
    rate = np.exp(_rates(source))
    rate *= source.log_uniform(0.03, 0.7)
    probability = np.clip(rate, 0, 1)
    mean = source.uniform(0, 3)
    deviation = normal(source)
    deviation *= source.uniform(0.1, 0.9)
    size = np.exp(mean + deviation)
    is_whole = source.chance(0.8)
    size = np.where(is_whole, np.ceil(size), size)
    draws = source.random()
    is_sold = draws < probability
    return size * is_sold


def counts(source: Source) -> Array:
    """Draw counts with seasonal drifting rates, or intermittent demand."""
    return mix(source, (3, _poisson), (2, _intermittent))


def regimes(source: Source) -> Array:
    """Draw Ornstein-Uhlenbeck series x += k (mu - x) + sigma e.

    k, mu and sigma are those of one of two to four regimes at a time.
    """
    n_states = source.integers(2, 5)
    # The remainder of a large number is nearly uniform for any number of states.
    draws = source.rng.integers(0, 1 << 16, source.shape)
    states = draws % n_states
    is_change = changes(source, 10, source.length)
    state = hold(states, is_change)

    def of_state(values: Array) -> Array:
        return np.take_along_axis(values, state, 1)

    log_k = source.rng.uniform(np.log(0.005), 0, (source.n, 4))
    k = of_state(np.exp(log_k))
    state_means = source.rng.standard_normal((source.n, 4))
    state_means *= source.uniform(0.2, 4)
    mean = of_state(state_means)
    log_sigma = source.rng.normal(0, 0.8, (source.n, 4))
    sigma = of_state(np.exp(log_sigma))
    # So the deviation of the series does not depend on k.
    sigma *= np.sqrt(k)
    shocks = sigma * normal(source)
    inputs = k * mean + shocks
    x = leak(1 - k, inputs)
    return x + seasons(source, none=0.7)


def _bursts(source: Source) -> Array:
    """Draw events with heavy-tailed sizes that decay at once or over some hundred steps."""
    at_events = changes(source, 5, 300)
    log_sizes = normal(source)
    log_sizes *= source.uniform(0.3, 1)
    sizes = np.exp(log_sizes)
    decay = 1 - source.log_uniform(0.01, 1)
    x = leak(decay, at_events * sizes)
    ground = normal(source)
    ground *= source.log_uniform(0.01, 0.5)
    return unit(x) + ground


def _usage(source: Source) -> Array:
    """Draw usage of a processor in percent: idle and busy times with noise, cut at 0 and 100."""
    mean = source.uniform(5, 60)
    load_size = source.uniform(10, 50)
    times = unit_pieces(source)
    load = mean + load_size * times
    wander = mix(source, (1, autoregression), (1, heavy), (1, oscillation))
    wander *= source.uniform(1, 20)
    log_volatility = unit_pieces(source)
    volatility = np.exp(0.3 * log_volatility)
    usage = load + wander * volatility
    return np.clip(usage, 0, 100)


def _latency(source: Source) -> Array:
    """Draw response times: log-normal around a drifting mean, with a tail."""
    mean = mix(source, (1, autoregression), (1, pieces), (1, smooth))
    mean *= source.uniform(0.1, 0.6)
    rest = heavy(source)
    rest *= source.uniform(0.05, 0.5)
    log_time = np.clip(mean + rest, -4, 4)
    return np.exp(log_time)


def _leakage(source: Source) -> Array:
    """Draw memory that fills at a changing rate and is freed at irregular times."""
    is_freed = changes(source, 10, source.length / 2)
    rate_error = normal(source)
    rate_error *= source.uniform(0.1, 2)
    rate = np.abs(1 + rate_error)
    filled = np.cumsum(rate, 1)
    freed = hold(filled, is_freed)
    freed *= source.uniform(0.7, 1)
    return filled - freed


def telemetry(source: Source) -> Array:
    """Draw measures of machines: bursts, usage, response times or memory.

    Half of them have a season.
    """
    kinds = (
        (1, _bursts),
        (1.5, _usage),
        (1, _latency),
        (0.5, _leakage),
    )
    measures = mix(source, *kinds)
    cycle = seasons(source, none=0.5)
    cycle *= source.log_uniform(0.1, 5)
    return unit(measures) + cycle


def bounded(source: Source) -> Array:
    """Draw shares: a latent series through a logistic curve, or cut at 0 and 1.

    Some stay at a bound for long times.
    """
    latent = mix(source, (2, structural), (1, gaussian_process), (1, autoregression))
    x = unit(latent)
    center = source.uniform(-1.5, 1.5)
    spread = source.log_uniform(0.3, 3)
    soft = sigmoid(center + spread * x, 30)
    share = 0.5 + 0.3 * center + 0.2 * spread * x
    hard = np.clip(share, 0, 1)
    is_soft = source.chance(0.5)
    return np.where(is_soft, soft, hard)


def audio(source: Source) -> Array:
    """Draw up to four chirping oscillations a(t) sin(f(t)).

    Their envelopes decay from one stroke to the next.
    """
    x = normal(source)
    x *= source.log_uniform(0.003, 0.2)
    for share in (1.0, 0.7, 0.4, 0.2):
        rows = source.some_rows(share)
        part = source.part(rows)
        wave = _chirp(part)
        wave = wave * _strokes(part)
        x[rows] += wave * part.log_uniform(0.3, 1)
    return x


def _chirp(source: Source) -> Array:
    """Draw sines whose frequency rises or falls, in half of them."""
    t = source.steps.astype(np.float32)
    longest = max(8, source.length / 4)
    period = source.log_uniform(4, longest)
    rate = 2 * np.pi / period
    chirp = source.uniform(-0.4, 0.8)
    chirp *= source.chance(0.5)
    change = 1 + chirp * t / source.length
    angle = rate * t * change
    angle += source.uniform(0, 6.3)
    return np.sin(angle.astype(np.float32))


def _strokes(source: Source) -> Array:
    """Draw envelopes that are 1 at each stroke and decay until the next one, in most series."""
    t = source.steps.astype(np.float32)
    longest = max(32, 2 * source.length)
    steps_between = source.log_uniform(16, longest)
    first_stroke = steps_between * source.uniform(0, 1)
    since_stroke = (t + first_stroke) % steps_between
    decays = source.chance(0.6)
    decay = source.uniform(0.5, 6)
    decay = np.where(decays, decay, 0)
    exponent = -since_stroke / steps_between * decay
    return np.exp(exponent)


def self_exciting(source: Source) -> Array:
    """Draw Hawkes counts: rate_t = base_t + a (1 - d) sum_k d^(k-1) count_(t-k).

    The branching ratio a is from .2 to .95.
    """
    decay = 1 - source.log_uniform(0.01, 0.7)[:, 0]
    ratio = source.rng.uniform(0.2, 0.95, source.n)
    base = np.exp(_rates(source))
    base *= source.log_uniform(0.02, 5)
    base *= 1 - ratio[:, None]
    base = np.ascontiguousarray(base.T)
    weight = ratio * (1 - decay)
    excitement = np.zeros(source.n)
    y = np.empty(base.shape, np.float32)
    for t in range(source.length):
        rate = base[t] + weight * excitement
        rate = np.minimum(rate, _HIGHEST_EXCITED_RATE)
        y[t] = source.rng.poisson(rate)
        excitement = decay * excitement + y[t]
    return y.T.copy()


def random_walks(source: Source) -> Array:
    """Draw sums of steps, normal or heavy-tailed, in most without a drift.

    The volatility changes in 40%; 25% are pulled back to a mean, 40% are read with noise, 30% are
    exponentials.
    """
    log_volatility = mix(source, (1, autoregression), (1, pieces))
    log_volatility *= source.uniform(0.1, 1)
    log_volatility *= source.chance(0.4)
    steps = mix(source, (2, normal), (1, heavy))
    steps = steps * _volatility(log_volatility)
    drift = normal(replace(source, length=1))
    drift *= source.log_uniform(0.003, 0.2)
    steps += drift * source.chance(0.4)
    pull = source.log_uniform(0.002, 0.2)
    pull *= source.chance(0.25)
    x = leak(1 - pull, steps)
    error = normal(source)
    error *= source.log_uniform(0.1, 3)
    x += error * source.chance(0.4)
    is_exponential = source.chance(0.3)
    spread = source.log_uniform(0.05, 2)
    return np.where(is_exponential, growing(x, spread), x)


def _volatility(logarithm: Array) -> Array:
    """Factors of steps, bounded so that a few do not hide all others."""
    bounded_logarithm = np.clip(logarithm, -4, 3)
    return np.exp(bounded_logarithm)


def finance(source: Source) -> Array:
    """Draw prices, some pulled back to a mean, or returns, of stochastic volatility.

    Log prices add up exp(h_t) e_t with persistent h.
    """
    log_volatility = mix(source, (2, autoregression), (1, rough), (1, pieces))
    log_volatility *= source.uniform(0.1, 1)
    shocks = mix(source, (1, normal), (1, heavy))
    returns = _volatility(log_volatility) * shocks
    drift = normal(replace(source, length=1))
    returns += drift * source.log_uniform(0.003, 0.1)
    pull = source.log_uniform(0.001, 0.1)
    pull *= source.chance(0.3)
    log_price = leak(1 - pull, returns)
    spread = source.log_uniform(0.05, 3)
    price = growing(log_price, spread)
    size = np.abs(returns)
    # A size of 0 has no logarithm.
    log_size = np.log(size + 0.05)
    is_signed = source.chance(0.5)
    movements = np.where(is_signed, returns, log_size)
    is_price = source.chance(0.85)
    return np.where(is_price, price, movements)


def cumulative(source: Source) -> Array:
    """Draw totals, or increments, of up to eight waves that rise fast and fall slower.

    They are reported with noise and a week.
    """
    t = source.steps
    x = np.full(source.shape, 1e-3)
    for share in (1.0, 0.7, 0.6, 0.5, 0.5, 0.4, 0.4, 0.3):
        peak = source.uniform(-0.1, 1.1) * source.length
        narrowest = max(2, source.length / 200)
        rising_width = source.log_uniform(narrowest, source.length / 6)
        falling_width = rising_width * source.log_uniform(1, 3)
        width = np.where(t < peak, rising_width, falling_width)
        is_present = source.chance(share)
        height = is_present * source.log_uniform(0.1, 1)
        # The hyperbolic cosine overflows far away.
        distance = (t - peak) / width
        distance = np.clip(distance, -20, 20)
        x += height / np.cosh(distance)
    week = calendar_cycle(source, 7.0)
    week *= source.uniform(0, 0.25)
    week *= source.chance(0.6)
    error = normal(source)
    error *= source.log_uniform(0.01, 0.4)
    log_factor = np.clip(week + error, -3, 3)
    x *= np.exp(log_factor)
    is_total = source.chance(0.5)
    return np.where(is_total, np.cumsum(x, 1), x)


def _drifts(source: Source) -> Array:
    """Draw drifts a step: constant, piecewise constant, or damped towards 0 after shocks.

    Their deviation is about 1.
    """
    constant = source.rng.standard_normal(source.column)
    constant *= source.uniform(0.05, 1)
    is_constant = source.chance(0.3)
    changing = pieces(source)
    changing += source.uniform(-1, 1)
    piecewise = np.where(is_constant, constant, changing)
    is_shock = changes(source, 15, source.length)
    shocks = is_shock * normal(source) * 2
    is_damped = source.chance(0.3)
    decay = source.uniform(0.7, 0.995)
    damped = leak(decay, shocks)
    return np.where(is_damped, damped, piecewise)


def low_frequency(source: Source) -> Array:
    """Draw yearly to monthly series; half of them are exponentials.

    They have a walking level, a strong, at times damped drift, and a weak season of 4 or 12.
    """
    drift = _drifts(source)
    drift *= source.log_uniform(0.05, 2)
    steps = drift + normal(source)
    level = np.cumsum(steps, 1)
    period = source.choose({4.0: 0.45, 12.0: 0.45, 6.0: 0.05, 3.0: 0.05})
    cycle = season(source, period)
    cycle *= source.log_uniform(0.2, 5)
    cycle *= source.chance(0.5)
    error = normal(source)
    error *= source.log_uniform(0.05, 2)
    x = level + cycle + error
    is_exponential = source.chance(0.5)
    spread = source.log_uniform(0.3, 4)
    return np.where(is_exponential, growing(x, spread), x)


def _swings(source: Source) -> Array:
    """Draw smooth rises and falls of some 24 steps to the whole length, on a line."""
    curve = smooth(source, shortest=24)
    slope = line(source)
    return curve + slope * source.uniform(0, 1)


def _damped(source: Source) -> Array:
    """Draw a rise that slows down: 1 - exp(-t / w), w from a tenth of the length to all of it."""
    width = source.log_uniform(0.1, 1)
    t = np.linspace(0, 1, source.length)
    rest = np.exp(-t / width)
    return unit(1 - rest)


def _changing(source: Source, cycle: Array, other: Array) -> Array:
    """Turn a season into another along a logistic curve and let it grow or shrink, in 40%."""
    curve = logistic(source)
    # Most of a curve of deviation 1 lies between -2 and 2.
    share = (curve + 2) / 4
    share = np.clip(share, 0, 1)
    size_change = source.uniform(-1, 1)
    log_size = size_change * np.linspace(-0.7, 0.7, source.length)
    turned = cycle + share * (other - cycle)
    changed = turned * np.exp(log_size)
    is_changed = source.chance(0.4)
    return np.where(is_changed, changed, cycle)


def growth(source: Source) -> Array:
    """Draw growth with a season, exp(trend) (1 + depth season).

    A fifth has a new level from some step on. The period is mostly 12 or 4; the season changes in
    some series.
    """
    shapes = (
        (2, line),
        (2, piecewise),
        (1.5, _damped),
        (1, integrated),
        (1, walk),
        (1, logistic),
        (2, _swings),
    )
    curve = mix(source, *shapes)
    period = source.choose({12.0: 0.5, 4.0: 0.25, 7.0: 0.1, 52.0: 0.06, 24.0: 0.05, 6.0: 0.04})
    first_cycle = season(source, period)
    last_cycle = season(source, period)
    cycle = _changing(source, first_cycle, last_cycle)
    depth = source.uniform(0.05, 0.95)
    season_factor = _season_factor(cycle, depth)
    error = noise(source)
    error = np.clip(error, -6, 6)
    error *= source.log_uniform(0.005, 0.15)
    first_shifted = source.uniform(0.1, 1) * source.length
    is_shifted = source.steps >= first_shifted
    is_shifted *= source.chance(0.2)
    shift = is_shifted * source.uniform(-0.5, 0.5)
    spread = source.log_uniform(0.3, 4)
    grown = growing(curve, spread)
    error_factor = np.exp(error)
    shift_factor = np.exp(shift)
    return grown * season_factor * error_factor * shift_factor


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
