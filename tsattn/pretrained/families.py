"""Families of synthetic series: each a function (rng, n, length) -> [n, length], not yet scaled,
nothing missing.
"""

import numpy as np

from tsattn.pretrained.draws import (
    MULTIPLE_WEIGHTS,
    MULTIPLES,
    Family,
    chance,
    changes,
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
    smooth,
    spectral,
    uniform,
    unit,
    walk,
)

Rng = np.random.Generator


def _line(rng: Rng, n: int, length: int) -> np.ndarray:
    """A straight line."""
    return rng.standard_normal((n, 1)) * np.linspace(-1.7, 1.7, length)


def _piecewise(rng: Rng, n: int, length: int) -> np.ndarray:
    """Lines with changes of slope: sums of a piecewise constant drift."""
    return unit(np.cumsum(unit(pieces(rng, n, length)) + uniform(rng, n, -1, 1), 1))


def _exponential(rng: Rng, n: int, length: int) -> np.ndarray:
    """exp(c t), c such that the ends differ by a factor of e^.5 to e^4, rising or falling."""
    return unit(
        np.exp(uniform(rng, n, 0.5, 4) * rng.choice([-1, 1], (n, 1)) * np.linspace(0, 1, length))
    )


def _logistic(rng: Rng, n: int, length: int) -> np.ndarray:
    """1 / (1 + exp(-(t - c) / w)) with the middle inside or near the series."""
    t = np.linspace(0, 1, length)
    return unit(
        1
        / (
            1
            + np.exp(
                -np.clip((t - uniform(rng, n, -0.1, 1.1)) / log_uniform(rng, n, 0.02, 0.3), -50, 50)
            )
        )
    )


def _integrated(rng: Rng, n: int, length: int) -> np.ndarray:
    """Sums of a slow first-order autoregression: a walk with momentum."""
    return unit(np.cumsum(autoregression(rng, n, length) + 0.0, 1))


def trend(rng: Rng, n: int, length: int) -> np.ndarray:
    """None, a line, lines, an exponential, a random walk, a logistic curve, an integrated walk, a
    smooth curve.
    """
    none = 1.5, lambda rng, n, length: np.zeros((n, length))
    curves = (
        (2, _line),
        (2, _piecewise),
        (1, _exponential),
        (2, walk),
        (1, _logistic),
        (1, _integrated),
        (1.5, smooth),
    )
    return mix(rng, n, length, none, *curves)


def autoregression(rng: Rng, n: int, length: int) -> np.ndarray:
    """x_t = a x_(t-1) + e_t, 1 - a log-uniform from .002 to 1; a negative in some."""
    a = (1 - log_uniform(rng, n, 0.002, 1)) * np.where(chance(rng, n, 0.08), -0.8, 1)
    return spectral(rng, n, length, lambda w: 1 / (1 + a * a - 2 * a * np.cos(w)))


def oscillation(rng: Rng, n: int, length: int) -> np.ndarray:
    """Second-order autoregression with roots r exp(+-i w0): cycles whose length and
    height wander.
    """
    center = 2 * np.pi / log_uniform(rng, n, 3, max(6, length / 2))
    r = 1 - log_uniform(rng, n, 0.002, 0.3) * np.minimum(1, 4 * center)
    a = 2 * r * np.cos(center)
    b = -r * r

    def density(w: np.ndarray) -> np.ndarray:
        real = 1 - a * np.cos(w) - b * np.cos(2 * w)
        return 1 / (real**2 + (a * np.sin(w) + b * np.sin(2 * w)) ** 2 + 1e-9)

    return spectral(rng, n, length, density)


def heavy(rng: Rng, n: int, length: int) -> np.ndarray:
    """Student noise, 2.5 to 8 degrees of freedom, drawn as a normal over the root of a gamma
    variable.
    """
    half = uniform(rng, n, 1.25, 4)
    return unit(
        normal(rng, n, length)
        / np.sqrt(rng.standard_gamma(np.broadcast_to(half, (n, length))) / half)
    )


def noise(rng: Rng, n: int, length: int) -> np.ndarray:
    """White, first or second order, heavy-tailed; in a fifth of the series with a deviation that
    changes.
    """
    x = mix(
        rng,
        n,
        length,
        (4, normal),
        (2.5, autoregression),
        (1, oscillation),
        (0.5, rough),
        (2, heavy),
    )
    rows = np.flatnonzero(rng.random(n) < 0.2)
    volatility = mix(
        rng,
        rows.size,
        length,
        (1, smooth),
        (1, lambda rng, n, length: unit(pieces(rng, n, length))),
    )
    x[rows] *= np.exp(uniform(rng, rows.size, 0.3, 1) * volatility)
    return unit(x)


def seasons(rng: Rng, n: int, length: int, *, none: float | int = 0.18) -> np.ndarray:
    """Sum of up to three seasons; later ones are mostly multiples of the first as calendars have;
    some scale it.
    """
    first = periods(rng, n, length)
    x = season(rng, first, length)
    for share in (0.45, 0.12):
        rows = np.flatnonzero(rng.random(n) < share)
        ratio = rng.choice(MULTIPLES, (rows.size, 1), p=MULTIPLE_WEIGHTS / MULTIPLE_WEIGHTS.sum())
        second = np.where(
            chance(rng, rows.size, 0.8), first[rows] * ratio, periods(rng, rows.size, length)
        )
        fits = np.where(second > 4 * length, first[rows] / 2, second)
        more = season(rng, np.maximum(fits, 2), length) * log_uniform(rng, rows.size, 0.2, 2)
        scaled = x[rows] * np.exp(0.5 * np.clip(more, -3, 3))
        x[rows] = np.where(chance(rng, rows.size, 0.3), scaled, x[rows] + more)
    return x * ~chance(rng, n, none)


def _growing(x: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """exp(x), where x is stretched so that its largest value is e^spread times its smallest."""
    low = x.min(1, keepdims=True)
    high = x.max(1, keepdims=True)
    return np.exp(spread * (x - low) / np.maximum(high - low, 1e-6))


def structural(rng: Rng, n: int, length: int) -> np.ndarray:
    """Trend + seasons + noise, or (70 : 30) exp(trend) (1 + seasons) with noise in proportion to
    the level.
    """
    level = trend(rng, n, length) * log_uniform(rng, n, 0.1, 3)
    cycle = seasons(rng, n, length) * log_uniform(rng, n, 0.5, 3)
    rest = noise(rng, n, length) * log_uniform(rng, n, 0.02, 1)
    x = level + cycle + rest
    rows = np.flatnonzero(rng.random(n) < 0.3)
    k = rows.size
    level = _growing(level[rows], log_uniform(rng, k, 0.1, 4))
    depth = uniform(rng, k, 0.05, 0.9) / np.maximum(np.abs(cycle[rows]).max(1, keepdims=True), 1e-6)
    x[rows] = (
        level * (1 + depth * cycle[rows]) * (1 + log_uniform(rng, k, 0.005, 0.3) * unit(rest[rows]))
    )
    return x


def _periodic(rng: Rng, n: int, length: int) -> np.ndarray:
    """Exact repetitions, period log-uniform from 4 to 730 or the length."""
    return season(rng, log_uniform(rng, n, 4, max(8, min(730, length))), length)


def gaussian_process(rng: Rng, n: int, length: int) -> np.ndarray:
    """Sums and products of one to four draws: squared exponential, rational, periodic, resonant,
    linear, white.
    """
    kernels = (3, smooth), (2, rough), (5, _periodic), (1, oscillation), (1, _line), (0.6, normal)
    x = mix(rng, n, length, *kernels)
    for share in (0.75, 0.5, 0.3):
        rows = np.flatnonzero(rng.random(n) < share)
        other = mix(rng, rows.size, length, *kernels) * log_uniform(rng, rows.size, 0.1, 1.5)
        x[rows] = np.where(chance(rng, rows.size, 0.35), x[rows] * (0.5 + other), x[rows] + other)
    return x + normal(rng, n, length) * log_uniform(rng, n, 0.003, 0.3)


def exponential_smoothing(rng: Rng, n: int, length: int) -> np.ndarray:
    """Innovations form of exponential smoothing with additive errors.

    y_t = l + phi b + s_(t-m) + e_t, then l += phi b + alpha e_t, b = phi b + beta e_t, s_(t-m) +=
    gamma e_t; alpha, beta / alpha and gamma log-uniform, beta = 0 in 45%, no season in 35%, phi
    from .8 to 1; exp(y) in 30%.
    """
    alpha = log_uniform(rng, n, 0.002, 0.8)[:, 0]
    beta = alpha * log_uniform(rng, n, 0.001, 0.3)[:, 0] * (rng.random(n) < 0.55)
    phi = np.where(rng.random(n) < 0.5, 1 - log_uniform(rng, n, 0.005, 0.2)[:, 0], 1)
    seasonal = rng.random(n) < 0.65
    gamma = (1 - alpha) * log_uniform(rng, n, 0.001, 0.5)[:, 0] * seasonal
    m = np.clip(np.round(periods(rng, n, length)[:, 0]), 2, 400).astype(np.intp)
    size = log_uniform(rng, n, 0.5, 15) * seasonal[:, None]
    table = unit(season(rng, m[:, None].astype(float), int(m.max()))) * size
    states = table.ravel()
    offset = np.arange(n) * table.shape[1]
    errors = np.ascontiguousarray(mix(rng, n, length, (4, normal), (1, heavy)).T)
    level = np.zeros(n)
    b = rng.standard_normal(n) * log_uniform(rng, n, 0.005, 0.3)[:, 0] * (beta > 0)
    y = np.empty((length, n), np.float32)
    for t in range(length):
        e = errors[t]
        place = offset + t % m
        drift = phi * b
        s = states[place]
        y[t] = level + drift + s + e
        level = level + drift + alpha * e
        b = drift + beta * e
        states[place] = s + gamma * e
    x = y.T.copy()
    rows = np.flatnonzero(rng.random(n) < 0.3)
    x[rows] = _growing(x[rows], log_uniform(rng, rows.size, 0.3, 4))
    return x


def seasonal_autoregression(rng: Rng, n: int, length: int) -> np.ndarray:
    """(1 - a B)(1 - b B^m) x_t = e_t, drawn from its spectral density; integrated in 25%."""
    a = 1 - log_uniform(rng, n, 0.01, 1)
    b = 1 - log_uniform(rng, n, 0.01, 0.7)
    m = np.round(periods(rng, n, length))

    def density(w: np.ndarray) -> np.ndarray:
        return 1 / ((1 + a * a - 2 * a * np.cos(w)) * (1 + b * b - 2 * b * np.cos(w * m)))

    x = spectral(rng, n, length, density)
    return np.where(chance(rng, n, 0.25), unit(np.cumsum(x, 1)), x)


def _rates(rng: Rng, n: int, length: int) -> np.ndarray:
    """Logarithms of rates around 0: a season, a drift, changes of level."""
    x = seasons(rng, n, length, none=0.25) * uniform(rng, n, 0.2, 1.3)
    x += mix(rng, n, length, (2, smooth), (1, walk), (1, pieces)) * uniform(rng, n, 0, 0.6)
    return np.clip(x, -4, 4)


def _poisson(rng: Rng, n: int, length: int) -> np.ndarray:
    """Poisson counts of mean .1 to 100, in half of the series with gamma mixed rates (negative
    binomial).
    """
    rate = np.exp(_rates(rng, n, length)) * log_uniform(rng, n, 0.1, 100)
    rows = np.flatnonzero(rng.random(n) < 0.5)
    shape = log_uniform(rng, rows.size, 0.5, 20)
    rate[rows] *= rng.standard_gamma(np.broadcast_to(shape, (rows.size, length))) / shape
    return rng.poisson(np.minimum(rate, 1e6)).astype(np.float32)


def _intermittent(rng: Rng, n: int, length: int) -> np.ndarray:
    """Demand in some steps only, with log-normal sizes, whole in most."""
    probability = np.clip(np.exp(_rates(rng, n, length)) * log_uniform(rng, n, 0.03, 0.7), 0, 1)
    size = np.exp(uniform(rng, n, 0, 3) + normal(rng, n, length) * uniform(rng, n, 0.1, 0.9))
    size = np.where(chance(rng, n, 0.8), np.ceil(size), size)
    return size * (rng.random((n, length), dtype=np.float32) < probability)


def counts(rng: Rng, n: int, length: int) -> np.ndarray:
    """Poisson and negative binomial counts with seasonal drifting rates; intermittent demand."""
    return mix(rng, n, length, (3, _poisson), (2, _intermittent))


def regimes(rng: Rng, n: int, length: int) -> np.ndarray:
    """Ornstein-Uhlenbeck x += k (mu - x) + sigma e; k, mu, sigma are those of one of two to four
    regimes at a time.
    """
    n_states = rng.integers(2, 5, (n, 1))
    state = hold(
        rng.integers(0, 1 << 16, (n, length)) % n_states, changes(rng, n, length, 10, length)
    )

    def of_state(values: np.ndarray) -> np.ndarray:
        return np.take_along_axis(values, state, 1)

    k = of_state(np.exp(rng.uniform(np.log(0.005), 0, (n, 4))))
    mean = of_state(rng.standard_normal((n, 4)) * uniform(rng, n, 0.2, 4))
    sigma = of_state(np.exp(rng.normal(0, 0.8, (n, 4)))) * np.sqrt(k)
    return leak(1 - k, k * mean + sigma * normal(rng, n, length)) + seasons(
        rng, n, length, none=0.7
    )


def _bursts(rng: Rng, n: int, length: int) -> np.ndarray:
    """Events with heavy-tailed sizes that decay at once or over some hundred steps, over
    a floor.
    """
    events = changes(rng, n, length, 5, 300) * np.exp(
        normal(rng, n, length) * uniform(rng, n, 0.3, 1)
    )
    x = leak(1 - log_uniform(rng, n, 0.01, 1), events)
    return unit(x) + normal(rng, n, length) * log_uniform(rng, n, 0.01, 0.5)


def _usage(rng: Rng, n: int, length: int) -> np.ndarray:
    """Usage of a processor in percent: idle and busy levels with noise, cut at 0 and 100."""
    load = uniform(rng, n, 5, 60) + uniform(rng, n, 10, 50) * unit(pieces(rng, n, length))
    wander = mix(rng, n, length, (1, autoregression), (1, heavy), (1, oscillation)) * uniform(
        rng, n, 1, 20
    )
    return np.clip(load + wander * np.exp(0.3 * unit(pieces(rng, n, length))), 0, 100)


def _latency(rng: Rng, n: int, length: int) -> np.ndarray:
    """Response times: log-normal around a drifting level, with a tail."""
    level = mix(rng, n, length, (1, autoregression), (1, pieces), (1, smooth)) * uniform(
        rng, n, 0.1, 0.6
    )
    return np.exp(np.clip(level + heavy(rng, n, length) * uniform(rng, n, 0.05, 0.5), -4, 4))


def _leakage(rng: Rng, n: int, length: int) -> np.ndarray:
    """Memory that fills at a changing rate and is freed at irregular times."""
    freed = changes(rng, n, length, 10, length / 2)
    total = np.cumsum(np.abs(1 + normal(rng, n, length) * uniform(rng, n, 0.1, 2)), 1)
    return total - hold(total, freed) * uniform(rng, n, 0.7, 1)


def telemetry(rng: Rng, n: int, length: int) -> np.ndarray:
    """Measures of machines in seconds: bursts, usage in percent, response times, memory; a season
    in half of them.
    """
    x = unit(mix(rng, n, length, (1, _bursts), (1.5, _usage), (1, _latency), (0.5, _leakage)))
    return x + seasons(rng, n, length, none=0.5) * log_uniform(rng, n, 0.1, 5)


def bounded(rng: Rng, n: int, length: int) -> np.ndarray:
    """Shares: a latent series through a logistic curve, or cut at 0 and 1, some with long times at
    the bounds.
    """
    x = unit(mix(rng, n, length, (2, structural), (1, gaussian_process), (1, autoregression)))
    center = uniform(rng, n, -1.5, 1.5)
    spread = log_uniform(rng, n, 0.3, 3)
    soft = 1 / (1 + np.exp(-np.clip(center + spread * x, -30, 30)))
    hard = np.clip(0.5 + 0.3 * center + 0.2 * spread * x, 0, 1)
    return np.where(chance(rng, n, 0.5), soft, hard)


def audio(rng: Rng, n: int, length: int) -> np.ndarray:
    """Up to four oscillations a(t) sin(f(t)), chirping, with envelopes that decay from one stroke
    to the next.
    """
    x = normal(rng, n, length) * log_uniform(rng, n, 0.003, 0.2)
    t = np.arange(length, dtype=np.float32)
    for share in (1.0, 0.7, 0.4, 0.2):
        rows = np.flatnonzero(rng.random(n) < share)
        k = rows.size
        rate = 2 * np.pi / log_uniform(rng, k, 4, max(8, length / 4))
        angle = rate * t * (
            1 + uniform(rng, k, -0.4, 0.8) * chance(rng, k, 0.5) * t / length
        ) + uniform(rng, k, 0, 6.3)
        every = log_uniform(rng, k, 16, max(32, 2 * length))
        since = (t + every * uniform(rng, k, 0, 1)) % every
        envelope = np.exp(
            -since / every * np.where(chance(rng, k, 0.6), uniform(rng, k, 0.5, 6), 0)
        )
        x[rows] += np.sin(angle.astype(np.float32)) * envelope * log_uniform(rng, k, 0.3, 1)
    return x


def self_exciting(rng: Rng, n: int, length: int) -> np.ndarray:
    """Hawkes counts: rate_t = base_t + a (1 - d) sum_k d^(k-1) count_(t-k), branching ratio a from
    .2 to .95.
    """
    d = 1 - log_uniform(rng, n, 0.01, 0.7)[:, 0]
    a = rng.uniform(0.2, 0.95, n)
    base = np.exp(_rates(rng, n, length)) * log_uniform(rng, n, 0.02, 5) * (1 - a[:, None])
    base = np.ascontiguousarray(base.T)
    heat = np.zeros(n)
    y = np.empty((length, n), np.float32)
    for t in range(length):
        y[t] = rng.poisson(np.minimum(base[t] + a * (1 - d) * heat, 1e5))
        heat = d * heat + y[t]
    return y.T.copy()


def random_walks(rng: Rng, n: int, length: int) -> np.ndarray:
    """Levels that add up steps, normal or heavy-tailed, of changing volatility in 40%; in most
    without a drift.

    25% are pulled back to a level, 40% read with noise, 30% exponentials.
    """
    volatility = (
        mix(rng, n, length, (1, autoregression), (1, pieces))
        * uniform(rng, n, 0.1, 1)
        * chance(rng, n, 0.4)
    )
    steps = mix(rng, n, length, (2, normal), (1, heavy)) * np.exp(np.clip(volatility, -4, 3))
    steps += normal(rng, n, 1) * log_uniform(rng, n, 0.003, 0.2) * chance(rng, n, 0.4)
    x = leak(1 - log_uniform(rng, n, 0.002, 0.2) * chance(rng, n, 0.25), steps)
    x += normal(rng, n, length) * log_uniform(rng, n, 0.1, 3) * chance(rng, n, 0.4)
    return np.where(chance(rng, n, 0.3), _growing(x, log_uniform(rng, n, 0.05, 2)), x)


def finance(rng: Rng, n: int, length: int) -> np.ndarray:
    """Stochastic volatility: log prices add up exp(h_t) e_t, h persistent; prices, some pulled
    back, or returns.
    """
    volatility = mix(rng, n, length, (2, autoregression), (1, rough), (1, pieces)) * uniform(
        rng, n, 0.1, 1
    )
    returns = np.exp(np.clip(volatility, -4, 3)) * mix(rng, n, length, (1, normal), (1, heavy))
    returns += normal(rng, n, 1) * log_uniform(rng, n, 0.003, 0.1)
    pull = log_uniform(rng, n, 0.001, 0.1) * chance(rng, n, 0.3)
    log_price = leak(1 - pull, returns)
    price = _growing(log_price, log_uniform(rng, n, 0.05, 3))
    moved = np.where(chance(rng, n, 0.5), returns, np.log(np.abs(returns) + 0.05))
    return np.where(chance(rng, n, 0.85), price, moved)


def cumulative(rng: Rng, n: int, length: int) -> np.ndarray:
    """Totals, or increments, of up to eight waves that rise fast and fall slower, reported with
    noise and a week.
    """
    t = np.arange(length)
    x = np.full((n, length), 1e-3)
    for share in (1.0, 0.7, 0.6, 0.5, 0.5, 0.4, 0.4, 0.3):
        at = uniform(rng, n, -0.1, 1.1) * length
        width = log_uniform(rng, n, max(2, length / 200), length / 6)
        side = np.where(t < at, width, width * log_uniform(rng, n, 1, 3))
        x += (
            chance(rng, n, share)
            * log_uniform(rng, n, 0.1, 1)
            / np.cosh(np.clip((t - at) / side, -20, 20))
        )
    week = (
        season(rng, np.full((n, 1), 7.0), length) * uniform(rng, n, 0, 0.25) * chance(rng, n, 0.6)
    )
    x *= np.exp(np.clip(week + normal(rng, n, length) * log_uniform(rng, n, 0.01, 0.4), -3, 3))
    return np.where(chance(rng, n, 0.5), np.cumsum(x, 1), x)


def _drifts(rng: Rng, n: int, length: int) -> np.ndarray:
    """Drift a step: constant, piecewise constant, or damped towards 0 from shocks; deviation about
    1.
    """
    constant = rng.standard_normal((n, 1)) * uniform(rng, n, 0.05, 1)
    piecewise = np.where(
        chance(rng, n, 0.3), constant, pieces(rng, n, length) + uniform(rng, n, -1, 1)
    )
    shocks = changes(rng, n, length, 15, length) * normal(rng, n, length) * 2
    return np.where(chance(rng, n, 0.3), leak(uniform(rng, n, 0.7, 0.995), shocks), piecewise)


def low_frequency(rng: Rng, n: int, length: int) -> np.ndarray:
    """Yearly to monthly series: a walking level, strong, at times damped drift, a weak season of 4
    or 12; half exp.
    """
    level = np.cumsum(
        _drifts(rng, n, length) * log_uniform(rng, n, 0.05, 2) + normal(rng, n, length), 1
    )
    m = rng.choice([4.0, 12.0, 6.0, 3.0], (n, 1), p=[0.45, 0.45, 0.05, 0.05])
    weak = season(rng, m, length) * log_uniform(rng, n, 0.2, 5) * chance(rng, n, 0.5)
    x = level + weak + normal(rng, n, length) * log_uniform(rng, n, 0.05, 2)
    return np.where(chance(rng, n, 0.5), _growing(x, log_uniform(rng, n, 0.3, 4)), x)


def _swings(rng: Rng, n: int, length: int) -> np.ndarray:
    """Smooth rises and falls that take from some 24 steps to the whole length, on a line."""
    return smooth(rng, n, length, shortest=24) + _line(rng, n, length) * uniform(rng, n, 0, 1)


def _damped(rng: Rng, n: int, length: int) -> np.ndarray:
    """A rise that slows down: 1 - exp(-t / w), w from a tenth of the length to all of it."""
    return unit(1 - np.exp(-np.linspace(0, 1, length) / log_uniform(rng, n, 0.1, 1)))


def _changing(rng: Rng, cycle: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A season that turns into another, along a logistic curve, and grows or shrinks; in two fifths
    of the series.
    """
    n, length = cycle.shape
    share = (_logistic(rng, n, length) + 2) / 4
    size = np.exp(uniform(rng, n, -1, 1) * np.linspace(-0.7, 0.7, length))
    changed = (cycle + np.clip(share, 0, 1) * (other - cycle)) * size
    return np.where(chance(rng, n, 0.4), changed, cycle)


def growth(rng: Rng, n: int, length: int) -> np.ndarray:
    """Growth with a season on top, exp(trend) (1 + depth season), and in a fifth a new level from
    some step on.

    The period is mostly 12 or 4; the season changes in some.
    """
    curves = (
        (2, _line),
        (2, _piecewise),
        (1.5, _damped),
        (1, _integrated),
        (1, walk),
        (1, _logistic),
        (2, _swings),
    )
    curve = mix(rng, n, length, *curves)
    m = rng.choice([12.0, 4.0, 7.0, 52.0, 24.0, 6.0], (n, 1), p=[0.5, 0.25, 0.1, 0.06, 0.05, 0.04])
    cycle = _changing(rng, season(rng, m, length), season(rng, m, length))
    depth = uniform(rng, n, 0.05, 0.95) / np.maximum(np.abs(cycle).max(1, keepdims=True), 1e-6)
    rest = np.exp(np.clip(noise(rng, n, length), -6, 6) * log_uniform(rng, n, 0.005, 0.15))
    late = np.arange(length) >= uniform(rng, n, 0.1, 1) * length
    level = np.exp(late * chance(rng, n, 0.2) * uniform(rng, n, -0.5, 0.5))
    return _growing(curve, log_uniform(rng, n, 0.3, 4)) * (1 + depth * cycle) * rest * level


def solar(rng: Rng, n: int, length: int) -> np.ndarray:
    """Power of the sun: max(0, cos(day) - c(t)) times the share that clouds let through; 0 at
    night.
    """
    m = days(rng, n, length)
    t = np.arange(length)
    day = np.cos(2 * np.pi * ((t / m + uniform(rng, n, 0, 1)) % 1).astype(np.float32))
    year = np.sin(2 * np.pi * (t / m / 365.25 + uniform(rng, n, 0, 1)).astype(np.float32))
    night = uniform(rng, n, -0.2, 0.2) + uniform(rng, n, 0, 0.4) * year
    clouds = unit(
        leak(1 - 1 / np.maximum(2, m * log_uniform(rng, n, 0.05, 2)), normal(rng, n, length))
    )
    through = 1 / (
        1 + np.exp(-np.clip(uniform(rng, n, 0, 3) + uniform(rng, n, 0.3, 2) * clouds, -30, 30))
    )
    return np.maximum(0, day - night) * through


def weather(rng: Rng, n: int, length: int) -> np.ndarray:
    """Fronts that last from half a day to twenty days, a day whose height follows them, and a year;
    cut off in some.
    """
    m = days(rng, n, length)
    t = np.arange(length)
    decay = np.exp(-1 / (m * log_uniform(rng, n, 0.5, 20)))
    fronts = unit(
        leak(decay, leak(decay * chance(rng, n, 0.5), mix(rng, n, length, (3, normal), (1, heavy))))
    )
    height = np.exp(np.clip(fronts * uniform(rng, n, -0.8, 0.8), -3, 3)) * log_uniform(
        rng, n, 0.05, 3
    )
    year = np.sin(2 * np.pi * (t / m / 365.25 + uniform(rng, n, 0, 1)).astype(np.float32))
    x = fronts + season(rng, m, length) * height + year * log_uniform(rng, n, 0.1, 4)
    x += noise(rng, n, length) * log_uniform(rng, n, 0.01, 0.5)
    return np.where(chance(rng, n, 0.25), np.maximum(x, uniform(rng, n, -1, 1)), x)


def workdays(rng: Rng, n: int, length: int) -> np.ndarray:
    """A day's profile on workdays, another on days off, a walking level; days of 24 to
    288 steps.
    """
    m = days(rng, n, length)
    day = (np.arange(length) + 0.5 + np.floor(rng.uniform(0, 7, (n, 1)) * m)) / m
    work, smoothly = profile(rng, m)
    apart = uniform(rng, n, 0, 1)
    rest = work * uniform(rng, n, 0.2, 1) + profile(rng, m)[0] * 0.5 * apart - apart
    holiday = hold(rng.random((n, length), dtype=np.float32), day % 1 < 1.0001 / m) < 0.02
    off = (np.floor(day) % 7 >= np.where(chance(rng, n, 0.8), 5, 6)) | holiday
    x = np.where(off, read(rest, day, smoothly), read(work, day, smoothly))
    x += mix(rng, n, length, (1, smooth), (1, walk), (1, autoregression)) * log_uniform(
        rng, n, 0.03, 0.8
    )
    x += noise(rng, n, length) * log_uniform(rng, n, 0.03, 1.2)
    return np.where(chance(rng, n, 0.3), np.exp(np.clip(0.5 * x, -4, 3)), x)


FAMILIES: dict[str, tuple[Family, float]] = {
    "structural": (structural, 0.26),
    "gaussian_process": (gaussian_process, 0.1),
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
    "bounded": (bounded, 0.02),
    "finance": (finance, 0.02),
    "solar": (solar, 0.015),
    "audio": (audio, 0.015),
    "self_exciting": (self_exciting, 0.01),
    "cumulative": (cumulative, 0.02),
}

# Series of up to so many steps are yearly to monthly more often than others.
SHORT = 170
_IN_SHORT = {"low_frequency": 5.0, "growth": 4.0, "random_walks": 2.0, "exponential_smoothing": 1.2}


def shares(length: int) -> np.ndarray:
    """Shares of the families, in their order, among series of so many steps; some are larger in
    short ones.
    """
    more = _IN_SHORT if length <= SHORT else {}
    weights = np.array([weight * more.get(name, 1) for name, (_, weight) in FAMILIES.items()])
    return weights / weights.sum()
