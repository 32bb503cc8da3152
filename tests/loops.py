"""The scores once more, one number at a time, sharing no code with tsattn."""

import math


def flat(values):
    """All numbers of nested lists or arrays, in order."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, list | tuple):
        return [number for each in values for number in flat(each)]
    return [float(values)]


def pairs(y, forecast):
    return [(a, f) for a, f in zip(flat(y), flat(forecast), strict=True) if not math.isnan(a)]


def average(terms):
    return math.fsum(terms) / len(terms) if terms else math.nan


def mae(y, forecast):
    return average([abs(a - f) for a, f in pairs(y, forecast)])


def mse(y, forecast):
    return average([(a - f) * (a - f) for a, f in pairs(y, forecast)])


def rmse(y, forecast):
    return math.sqrt(mse(y, forecast))


def bias(y, forecast):
    return average([f - a for a, f in pairs(y, forecast)])


def smape(y, forecast):
    terms = []
    for a, f in pairs(y, forecast):
        both = abs(a) + abs(f)
        terms.append(0.0 if both == 0 else 2 * abs(a - f) / both)
    return average(terms)


def seasonal(train, season, power):
    train = flat(train)
    gaps = [train[t] - train[t - season] for t in range(season, len(train))]
    return average([abs(gap) ** power for gap in gaps if not math.isnan(gap)])


def mase(y, forecast, train, season):
    scale = seasonal(train, season, 1)
    return mae(y, forecast) / scale if scale > 0 else math.nan


def rmsse(y, forecast, train, season):
    scale = seasonal(train, season, 2)
    return math.sqrt(mse(y, forecast) / scale) if scale > 0 else math.nan


def one_pinball(a, f, q):
    return q * (a - f) if a >= f else (1 - q) * (f - a)


def pinball(y, forecast, q):
    return average([one_pinball(a, f, q) for a, f in pairs(y, forecast)])


def wql(y, by_quantile):
    """``by_quantile``: quantile -> forecasts of the shape of y."""
    size = math.fsum(abs(a) for a in flat(y) if not math.isnan(a))
    if size == 0:
        return math.nan
    sums = [
        math.fsum(one_pinball(a, f, q) for a, f in pairs(y, forecast))
        for q, forecast in by_quantile.items()
    ]
    return average([2 * total / size for total in sums])


def crps_samples(y, samples):
    """``samples``: a list of draws for each number of y."""
    terms = []
    for a, draws in zip(flat(y), samples, strict=True):
        if math.isnan(a):
            continue
        near = average([abs(x - a) for x in draws])
        spread = average([abs(x - z) for x in draws for z in draws])
        terms.append(near - spread / 2)
    return average(terms)


def coverage(y, lower, upper):
    inside = [
        1.0 if low <= a <= high else 0.0
        for a, low, high in zip(flat(y), flat(lower), flat(upper), strict=True)
        if not math.isnan(a)
    ]
    return average(inside)


def winkler(y, lower, upper, level):
    alpha = 1 - level / 100
    terms = []
    for a, low, high in zip(flat(y), flat(lower), flat(upper), strict=True):
        if math.isnan(a):
            continue
        term = high - low
        if a < low:
            term += 2 / alpha * (low - a)
        if a > high:
            term += 2 / alpha * (a - high)
        terms.append(term)
    return average(terms)
