"""Families of synthetic series that follow the sun or the calendar: functions of a source
``[n, length]``.
"""

import numpy as np

from tsattn.pretrained.components import (
    autoregression,
    growing,
    heavy,
    noise,
    trend,
)
from tsattn.pretrained.draws import (
    Array,
    Source,
    days,
    hold,
    leak,
    mix,
    normal,
    profile,
    read,
    season,
    sigmoid,
    smooth,
    unit,
    walk,
)

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


def _year_wave(source: Source, day: Array) -> Array:
    """Draw a sine of one year, of times in days."""
    first_phase = source.uniform(0, 1)
    phase = day / _YEAR + first_phase
    angle = 2 * np.pi * phase.astype(np.float32)
    return np.sin(angle)


def solar(source: Source) -> Array:
    """Draw power of the sun: max(0, cos(day) - c(t)) times the share that clouds let through.

    It is 0 at night.
    """
    day_steps = days(source)
    day = source.steps / day_steps
    first_phase = source.uniform(0, 1)
    phase = (day + first_phase) % 1
    angle = 2 * np.pi * phase.astype(np.float32)
    height = np.cos(angle)
    year = _year_wave(source, day)
    mean_night = source.uniform(-0.2, 0.2)
    night_size = source.uniform(0, 0.4)
    night = mean_night + night_size * year
    cloud_steps = day_steps * source.log_uniform(0.05, 2)
    cloud_steps = np.maximum(2, cloud_steps)
    shocks = normal(source)
    decay = 1 - 1 / cloud_steps
    clouds = unit(leak(decay, shocks))
    clearness = source.uniform(0, 3)
    cloud_size = source.uniform(0.3, 2)
    share = sigmoid(clearness + cloud_size * clouds, 30)
    clear_power = np.maximum(0, height - night)
    return clear_power * share


def weather(source: Source) -> Array:
    """Draw fronts that last from half a day to twenty days, a day and a year.

    The height of the day follows the fronts. Some series are cut from below.
    """
    day_steps = days(source)
    front_steps = day_steps * source.log_uniform(0.5, 20)
    decay = np.exp(-1 / front_steps)
    second_decay = decay * source.chance(0.5)
    shocks = mix(source, (3, normal), (1, heavy))
    shocks = leak(second_decay, shocks)
    fronts = unit(leak(decay, shocks))
    log_height = fronts * source.uniform(-0.8, 0.8)
    log_height = np.clip(log_height, -3, 3)
    height = np.exp(log_height)
    height *= source.log_uniform(0.05, 3)
    day = source.steps / day_steps
    year = _year_wave(source, day)
    daily = season(source, day_steps) * height
    yearly = year * source.log_uniform(0.1, 4)
    x = fronts + daily + yearly
    error = noise(source)
    x += error * source.log_uniform(0.01, 0.5)
    is_cut = source.chance(0.25)
    bound = source.uniform(-1, 1)
    return np.where(is_cut, np.maximum(x, bound), x)


def climate(source: Source) -> Array:
    """Draw daily to monthly means of the weather: a year, fronts of some days, slow anomalies.

    Often less than a year is seen. The fronts are larger in one half of the year. Some series are
    exponentials, some have a bound, and some are the flow of a river, which rises at once and falls
    slowly.
    """
    year_steps = source.choose(_YEAR_STEPS)
    step_days = _YEAR / year_steps
    day = source.steps * step_days
    year = _year_wave(source, day)
    # A harmonic makes one half of the year sharper than the other.
    harmonic_size = 0.3 * source.uniform(-1, 1)
    year += harmonic_size * (year * year - 0.5)
    front_days = source.log_uniform(0.7, 12)
    anomaly_days = source.log_uniform(20, 200)
    fronts = _faded(normal(source), step_days, front_days)
    anomalies = _faded(normal(source), step_days, anomaly_days)
    log_front_size = year * source.uniform(-0.5, 0.5)
    fronts *= np.exp(log_front_size)
    fronts += anomalies * source.log_uniform(0.03, 1)
    x = fronts + year * source.log_uniform(0.2, 5)
    is_exponential = source.chance(0.25)
    spread = source.log_uniform(0.5, 4)
    x = np.where(is_exponential, growing(x, spread), x)
    rows = source.some_rows(0.15)
    x[rows] = _flow(source.part(rows), x[rows], step_days[rows])
    is_cut = source.chance(0.15)
    bound = source.uniform(-1, 1)
    scaled = unit(x)
    return np.where(is_cut, np.maximum(scaled, bound), scaled)


def _faded(shocks: Array, step_days: Array, fading_days: Array) -> Array:
    """Sums of shocks that fade to 1/e in so many days, with deviation 1."""
    decay = np.exp(-step_days / fading_days)
    return unit(leak(decay, shocks))


def _flow(source: Source, wetness: Array, step_days: Array) -> Array:
    """Draw the flow of rivers whose rain is heavier where ``wetness`` is high."""
    shocks = normal(source)
    log_rain = unit(wetness) + 1.5 * shocks
    rain = np.exp(np.clip(log_rain, -4, 5))
    fast_days = source.log_uniform(1, 10)
    slow_days = source.log_uniform(20, 150)
    fast = _faded(rain, step_days, fast_days)
    slow = _faded(rain, step_days, slow_days)
    return fast + slow * source.log_uniform(0.2, 3)


def workdays(source: Source) -> Array:
    """Draw a day's profile on workdays, another on days off, and a walking level.

    Days have 24 to 288 steps.
    """
    day_steps = days(source)
    first_day = source.rng.uniform(0, 7, source.column)
    first_step = np.floor(first_day * day_steps)
    step = source.steps + 0.5 + first_step
    day = step / day_steps
    workday, smoothly = profile(source, day_steps)
    difference = source.uniform(0, 1)
    day_off = workday * source.uniform(0.2, 1)
    other_profile, _ = profile(source, day_steps)
    profile_change = other_profile * 0.5 * difference
    day_off = day_off + profile_change - difference
    draws = source.random()
    is_first_step = day % 1 < 1.0001 / day_steps
    is_holiday = hold(draws, is_first_step) < 0.02
    has_five_workdays = source.chance(0.8)
    n_workdays = np.where(has_five_workdays, 5, 6)
    is_weekend = np.floor(day) % 7 >= n_workdays
    on_days_off = read(day_off, day, smoothly)
    on_workdays = read(workday, day, smoothly)
    x = np.where(is_weekend | is_holiday, on_days_off, on_workdays)
    level = mix(source, (1, smooth), (1, walk), (1, autoregression))
    x += level * source.log_uniform(0.03, 0.8)
    error = noise(source)
    x += error * source.log_uniform(0.03, 1.2)
    is_exponential = source.chance(0.3)
    exponent = np.clip(0.5 * x, -4, 3)
    return np.where(is_exponential, np.exp(exponent), x)


def daily(source: Source) -> Array:
    """Draw a business by the day: a week, a year, holidays, ends of months, a walking level.

    In half of the series a holiday that falls on one of two days of the week has no effect.
    """
    first_day = source.integers(0, 10_000)
    day = source.steps + first_day
    week = calendar_cycle(source, 7.0)
    year = calendar_cycle(source, _YEAR)
    month = calendar_cycle(source, _YEAR / 12)
    level = trend(source)
    x = week * source.log_uniform(0.2, 3)
    year *= source.log_uniform(0.05, 2)
    x += year * source.chance(0.8)
    month *= source.log_uniform(0.05, 0.7)
    x += month * source.chance(0.3)
    x += level * source.log_uniform(0.05, 3)
    effect = _holidays(source, day)
    first_weekday = source.integers(0, 7)
    weekday = (day + first_weekday) % 7
    is_weekend = weekday < 2
    has_no_effect = is_weekend & source.chance(0.5)
    x += np.where(has_no_effect, 0, effect)
    error = noise(source)
    x += error * source.log_uniform(0.05, 1)
    is_exponential = source.chance(0.4)
    spread = source.log_uniform(0.3, 4)
    return np.where(is_exponential, growing(x, spread), x)


def calendar_cycle(source: Source, n_days: float) -> Array:
    """Draw seasons of so many days."""
    period = np.full(source.column, n_days)
    return season(source, period)


def _holidays(source: Source, day: Array) -> Array:
    """Draw effects of up to twelve holidays a year at these days [N, T], most of one sign."""
    year_days = round(_YEAR)
    n_holidays = source.rng.integers(0, _MOST_HOLIDAYS + 1, source.n)
    year_day = (day % _YEAR).astype(np.intp)
    table = np.zeros((source.n, year_days + 1), np.float32)
    rows = np.arange(source.n)
    sign = source.rng.choice([-1, 1], source.n, p=[0.75, 0.25])
    for number in range(_MOST_HOLIDAYS):
        date = source.rng.integers(0, year_days, source.n)
        n_days = source.rng.choice([1, 1, 1, 2, 4, _LONGEST_HOLIDAY], source.n)
        # One of four has the other sign and half the size.
        relative_sign = source.rng.choice([1, 1, 1, -0.5], source.n)
        log_size = source.rng.normal(0.5, 0.6, source.n)
        size = sign * relative_sign * np.exp(log_size)
        size *= number < n_holidays
        for day_number in range(_LONGEST_HOLIDAY):
            holiday = (date + day_number) % year_days
            is_holiday = day_number < n_days
            effect = size * is_holiday * 0.8**day_number
            table[rows, holiday] += effect
    return np.take_along_axis(table, year_day, 1)
