"""How the forecasts of candidates are combined: weights by their errors, and the width of bands."""

from collections.abc import Sequence

import numpy as np

# Errors that the weights are fitted on, at most.
_MAX_FITTED_ERRORS = 20_000
# A candidate has a weight if its error is at most so many times the smallest one.
_ERROR_TOLERANCE = 1.05
# Share of equal weights in the mix with the weights that fit best: the best ones overfit.
_EQUAL_SHARE = 0.3
# Windows that the prior weights count as.
_PRIOR_WINDOWS = 16
# Prior weights fall with this power of the error, and with twice that from so many windows on.
_PRIOR_POWER = 2.0
_PRIOR_POWER_WINDOWS = 8
# Windows without which no candidate is clearly behind: the spread of few differences is uncertain.
_LEAST_EVIDENCE = 3
# A smaller weight becomes zero.
_LEAST_WEIGHT = 0.03
# Share of the truths that a band should hold: that of level 80.
_COVERAGE = 0.8
# Windows with which the correction of the bands counts by half.
_HALF_CORRECTION_WINDOWS = 12
# Factors of the bands' width, at least and at most.
NARROWEST = 0.4
WIDEST = 2.5
# Weight of the equation that the weights sum to 1, in units of the largest error.
_SUM_WEIGHT = 1e3
# Steps of the search for weights.
_SEARCH_STEPS = 400

# Points [B, F, 1], NaN where there is none, and quantiles [B, F, 1, Q], NaN for a forecaster that
# gives points only.
Answer = tuple[np.ndarray, np.ndarray]


def completed(answer: Answer, first: Answer) -> Answer:
    """An answer whose missing forecasts are those of the first one."""
    point, bounds = answer
    first_point, first_bounds = first
    missing = np.isnan(point)
    point_or_first = np.where(missing, first_point, point)
    bounds_or_first = np.where(missing[..., None], first_bounds, bounds)
    return point_or_first, bounds_or_first


def combined(answers: Sequence[Answer], weights: np.ndarray) -> Answer:
    """Weighted point, and the distance of the quantiles from it: the weighted mean of the members
    with quantiles, or that of the first one.
    """
    combined_point = np.zeros_like(answers[0][0])
    total = np.zeros_like(answers[0][1])
    shares = np.zeros_like(answers[0][1])
    for weight, (point, bounds) in zip(weights, answers, strict=True):
        combined_point = combined_point + weight * point
        spread = bounds - point[..., None]
        share = weight * ~np.isnan(spread)
        total += share * np.nan_to_num(spread)
        shares += share
    first_point, first_bounds = answers[0]
    first_spread = first_bounds - first_point[..., None]
    mean_spread = total / np.where(shares > 0, shares, 1.0)
    return combined_point, np.where(shares > 0, mean_spread, first_spread)


def candidate_weights(
    errors: np.ndarray,
    evidence: float,
    preferred: np.ndarray | None = None,
    *,
    squared: bool = False,
) -> np.ndarray:
    """Weights of the candidates, ``[M]``, from scaled errors ``[M, W, F]``; preferred candidates
    share the weight where there is little evidence.

    An error is NaN where a forecast or the truth is missing. The first candidate forecasts every
    window and stands in where another has no forecast.

    Args:
        errors: The errors.
        evidence: Number of independent windows that would tell as much.
        preferred: Prior weights ``[M]``, 0 for most; by default the first candidate is preferred.
        squared: Whether squared errors count, as they do for means.
    """
    first_alone = np.eye(len(errors))[0]
    if not errors.shape[1]:
        return first_alone
    means = mean_errors(errors, squared)
    near = means <= _ERROR_TOLERANCE * means.min()
    prior = first_alone
    if preferred is not None:
        # The more windows there are, the more a lead means.
        power = _PRIOR_POWER * (1 + evidence / _PRIOR_POWER_WINDOWS)
        ratios = means / max(means[preferred > 0].min(), np.finfo(np.float64).tiny)
        prior = preferred * np.maximum(ratios, 1.0) ** -power
        prior /= prior.sum()
    errors = np.where(np.isnan(errors), errors[0], errors)
    best = np.zeros(len(errors))
    best[near] = _best_weights(errors[near], squared)
    prior_errors = np.tensordot(prior, errors, axes=1)
    leader_losses = _losses(errors[means.argmin()], squared)
    behind = np.nanmean(_losses(prior_errors, squared) - leader_losses, axis=1)
    # Two standard errors: the preferred ones are clearly worse, so they are no longer preferred.
    if evidence >= _LEAST_EVIDENCE and behind.mean() > 2 * behind.std() / np.sqrt(evidence):
        prior = near / near.sum()
    weights = (evidence * best + _PRIOR_WINDOWS * prior) / (evidence + _PRIOR_WINDOWS)
    weights[weights < _LEAST_WEIGHT] = 0.0
    return np.asarray(weights / weights.sum())


def _losses(errors: np.ndarray, squared: bool) -> np.ndarray:
    return np.asarray(np.square(errors) if squared else np.abs(errors))


def _best_weights(errors: np.ndarray, squared: bool) -> np.ndarray:
    """The weights that fit errors ``[M, W, F]`` best, mixed with equal ones."""
    n_candidates = len(errors)
    flat = errors.reshape(n_candidates, -1)
    flat = flat[:, ~np.isnan(flat[0])]
    stride = -(-flat.shape[1] // _MAX_FITTED_ERRORS)  # rounded up
    fit = _least_squared if squared else _least_absolute
    fitted = fit(flat[:, ::stride])
    return (1 - _EQUAL_SHARE) * fitted + _EQUAL_SHARE / n_candidates


def mean_errors(errors: np.ndarray, squared: bool = False) -> np.ndarray:
    """Mean absolute error of each candidate, ``[M]``, or the root of its mean squared error;
    infinite where it forecast no window.

    A candidate is compared with the first one on the windows that it forecast; the ratio of both
    errors is then taken to hold on all windows.
    """
    losses = _losses(errors, squared)
    first_losses = np.where(np.isnan(errors), np.nan, losses[0])
    candidate_sums = np.nansum(losses, axis=(1, 2))
    first_sums = np.nansum(first_losses, axis=(1, 2))
    ratio = candidate_sums / np.where(first_sums > 0, first_sums, 1.0)
    has_forecast = (~np.isnan(errors)).any(axis=(1, 2))
    ratio = np.where(has_forecast, ratio, np.inf)
    first_mean = np.nanmean(np.nanmean(losses[0], axis=1))
    means = np.asarray(ratio * first_mean)
    return np.sqrt(means) if squared else means


def _least_squared(errors: np.ndarray) -> np.ndarray:
    """Weights on the simplex ``[M]`` for which the mean squared weighted error is smallest, errors
    being ``[M, n]``.
    """
    from scipy.optimize import nnls

    largest = np.abs(errors).max(initial=0.0)
    # The heavy last row keeps the sum of the weights at 1. Errors may all be zero.
    heavy = _SUM_WEIGHT * (largest if largest > 0 else 1.0) * np.sqrt(errors.shape[1])
    rows = np.vstack([errors.T, np.full(len(errors), heavy)])
    weights, _ = nnls(rows, np.append(np.zeros(errors.shape[1]), heavy))
    return np.asarray(weights / weights.sum())


def _least_absolute(errors: np.ndarray) -> np.ndarray:
    """Weights on the simplex ``[M]`` for which the mean absolute weighted error is smallest, errors
    being ``[M, n]``.

    Exponentiated subgradients (Kivinen and Warmuth, 1997), the mean of the second half of the
    steps.
    """
    log = np.zeros(len(errors))
    total = np.zeros(len(errors))
    unit = max(np.abs(errors).mean(), 1e-300)  # errors may all be zero
    for step in range(_SEARCH_STEPS):
        weights = np.exp(log - log.max())
        weights /= weights.sum()
        if step >= _SEARCH_STEPS // 2:
            total += weights
        gradient = errors @ np.sign(weights @ errors) / errors.shape[1]
        log -= gradient / unit / np.sqrt(1 + step)
    return total / total.sum()


def band_factor(point: np.ndarray, spread: np.ndarray, truth: np.ndarray, evidence: float) -> float:
    """The factor of the spread ``[W, F, 1, 2]`` with which the bounds hold 80% of the truths, drawn
    towards 1 where evidence is little.
    """
    observed = ~np.isnan(truth)
    gap = (truth - point)[observed]
    # Any width holds the truths where most are equal to the points, as zeros often are.
    if not gap.size or np.quantile(np.abs(gap), _COVERAGE, method="higher") == 0:
        return 1.0
    lower_spread = spread[observed][:, 0]
    upper_spread = spread[observed][:, 1]
    room = np.where(gap > 0, upper_spread, -lower_spread)
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.where(gap == 0, 0.0, np.abs(gap) / room)
    factor = float(np.quantile(needed, _COVERAGE, method="higher"))
    trust = evidence / (evidence + _HALF_CORRECTION_WINDOWS)
    return float(np.clip(factor**trust, NARROWEST, WIDEST))
