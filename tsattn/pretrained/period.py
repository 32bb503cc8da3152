"""Detection of a season: the lag whose repetition would have forecast a series best."""

import functools

import torch
from jaxtyping import Float, Int
from torch import Tensor

# A season counts if repeating it has at most this share of the error of repeating the last value.
CONVINCING = 0.8
# A divisor of the best lag is preferred if its error is larger by at most this share, chance aside.
DIVISOR_TOLERANCE = 0.05
# Divisors that are tried.
_DIVISORS = range(12, 1, -1)
# Longest lag that is tried, in steps, and least number of pairs of values that judge a lag.
MAX_PERIOD = 1440
_MIN_PAIRS = 4


def detect_period(x: Float[Tensor, "B T"], horizon: int) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"]]:
    """The season of each series, in steps, and how well it repeats.

    With ``E(m)`` the mean of ``(x_t - x_(t-m))^2`` over the pairs of which both values are known, taken off a straight
    line, the error of repeating the last m values over the horizon is ``R(m)``, the mean of ``E(m ceil(i / m))`` over
    ``i = 1 .. horizon``. A lag that n pairs of values judge is charged for its chance, ``R(m) (1 + n^-0.5)``. The
    answer is the lag m of at least 2 that is least then, or a divisor of it that is as good within ``5% + n^-0.5``; it
    is a season if it is below ``0.8 R(1)``. A lag is tried if one and a half of its cycles are in the context and four pairs
    judge it. ``E`` comes from correlations by fast Fourier transform: T log T operations a series.

    Args:
        x: Series of T steps; NaN is a missing value, at the left also a history that begins later.
        horizon: Steps to be forecast, at least 1.

    Returns:
        The season of each series in steps, 0 where none convinces; and the ratio that was compared with 0.8, 1 where
        no lag could be tried.

    Example:
        >>> detect_period(torch.arange(60.0).remainder(7)[None], 7)[0].tolist()
        [7]
    """
    errors, pairs, tried = _lag_errors(x)
    n_lags = errors.shape[1]
    if n_lags < 2:
        return x.new_zeros(len(x), dtype=torch.long), x.new_ones(len(x))
    weights = _repetition(n_lags, horizon).to(errors)
    known = tried.to(errors)
    repeated = (errors * known) @ weights / (known @ weights).clamp_min(1e-12)  # [B n_lags]
    naive = repeated[:, 0]
    candidates = torch.where(tried, repeated * (1 + pairs.clamp_min(1).rsqrt()), torch.inf)
    candidates[:, 0] = torch.inf
    least, best = candidates.min(1)
    chance = pairs.gather(1, best[:, None])[:, 0].clamp_min(1).rsqrt()
    best = _prefer_divisors(candidates, best + 1, least * (1 + DIVISOR_TOLERANCE + chance))
    least = candidates.gather(1, best[:, None] - 1)[:, 0]
    ratio = torch.where(naive > 0, least / naive, 1.0)
    found = ratio < CONVINCING
    return torch.where(found, best, 0), torch.where(ratio.isfinite(), ratio, 1.0).to(x.dtype)


def _lag_errors(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean squared difference at lags 1, 2, ..., of how many pairs, and whether that will do; [B n_lags] each."""
    values, known = _detrended(x)
    n_steps = x.shape[1]
    first = (known.cumsum(1) == 0).sum(1)  # steps before the first known value
    n_lags = min(int((n_steps - 1) / 1.5), MAX_PERIOD)
    size = 2 ** (n_steps + n_lags).bit_length()
    seen, level, power = (torch.fft.rfft(part, size) for part in (known, values, values.square()))
    both = torch.fft.irfft(seen * seen.conj(), size)[:, 1 : n_lags + 1]
    # Sum over t of x_t^2 + x_(t-m)^2 - 2 x_t x_(t-m), where both are known.
    spectrum = power * seen.conj() + seen * power.conj() - 2 * level * level.conj()
    sums = torch.fft.irfft(spectrum, size)[:, 1 : n_lags + 1]
    pairs = both.round()
    lags = torch.arange(1, n_lags + 1, device=x.device)
    tried = (pairs >= _MIN_PAIRS) & (1.5 * lags <= (n_steps - first)[:, None])
    return (sums / pairs.clamp_min(1)).clamp_min(0), pairs, tried


def _detrended(x: Tensor) -> tuple[Tensor, Tensor]:
    """Values less their straight line, in units of what remains, 0 where missing; and 1 where known. In float64."""
    known = x.isfinite()
    weight = known.to(torch.float64)
    values = torch.where(known, x, 0.0).to(torch.float64)
    count = weight.sum(1, keepdim=True).clamp_min(1)
    time = torch.arange(x.shape[1], dtype=torch.float64, device=x.device).expand_as(values)
    values = (values - values.sum(1, keepdim=True) / count) * weight
    time = (time - (time * weight).sum(1, keepdim=True) / count) * weight
    slope = (time * values).sum(1, keepdim=True) / time.square().sum(1, keepdim=True).clamp_min(1)
    values = values - slope * time
    size = (values.square().sum(1, keepdim=True) / count).sqrt()
    return values / torch.where(size > 0, size, 1.0), weight


@functools.lru_cache(maxsize=32)
def _repetition(n_lags: int, horizon: int) -> Tensor:
    """Weights [n_lags n_lags] of ``E(j)`` in ``R(m)``: the share of the horizon whose value is j = k m steps old."""
    with torch.inference_mode(False):
        weights = torch.zeros(n_lags, n_lags)
        lags = torch.arange(1, n_lags + 1)
        for repeat in range(1, horizon + 1):
            # Steps (repeat - 1) m + 1 .. repeat m of the horizon look back repeat m steps.
            steps = (horizon - (repeat - 1) * lags).clamp(min=0).minimum(lags)
            inside = (steps > 0) & (repeat * lags <= n_lags)
            if not bool(inside.any()):
                break
            weights[repeat * lags[inside] - 1, lags[inside] - 1] += steps[inside].to(weights)
        return weights / horizon


def _prefer_divisors(candidates: Tensor, best: Tensor, most: Tensor) -> Tensor:
    """The smallest divisor of each best lag whose error is at most ``most``, or the lag itself."""
    chosen, done = best.clone(), torch.zeros_like(best, dtype=torch.bool)
    for divisor in _DIVISORS:
        part = torch.div(best + divisor // 2, divisor, rounding_mode="floor")
        whole = part >= 2
        error = candidates.gather(1, (part.clamp_min(1) - 1)[:, None])[:, 0]
        better = whole & ~done & (error <= most)
        chosen, done = torch.where(better, part, chosen), done | better
    return chosen
