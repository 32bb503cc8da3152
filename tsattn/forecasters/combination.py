"""How the forecasts of candidates are combined: weights by their errors, and the width of bands."""

from collections.abc import Sequence

import numpy as np

from tsattn.evaluate.intervals import factor_needed
from tsattn.forecasts import Answer

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


# The answers of candidates have one channel. Points are NaN where there is none, quantiles NaN for
# a forecaster that gives points only.


def completed(answer: Answer, first: Answer) -> Answer:
    """An answer whose missing forecasts are those of the first one."""
    point, bounds = answer
    first_point, first_bounds = first
    missing = np.isnan(point)
    # The bounds belong to the point, also where they alone are missing.
    missing_bounds = missing[..., None]
    point_or_first = np.where(missing, first_point, point)
    bounds_or_first = np.where(missing_bounds, first_bounds, bounds)
    return point_or_first, bounds_or_first


def combined(answers: Sequence[Answer], weights: np.ndarray) -> Answer:
    """Weighted point, and the distance of the quantiles from it: the weighted mean of the members
    with quantiles, or that of the first one.
    """
    first_point, first_bounds = answers[0]
    combined_point = np.zeros_like(first_point)
    total = np.zeros_like(first_bounds)
    shares = np.zeros_like(first_bounds)
    for weight, (point, bounds) in zip(weights, answers, strict=True):
        combined_point = combined_point + weight * point
        spread = bounds - point[..., None]
        # A member without quantiles has no share of the spread.
        has_spread = ~np.isnan(spread)
        share = weight * has_spread
        total += share * np.nan_to_num(spread)
        shares += share
    first_spread = first_bounds - first_point[..., None]
    has_share = shares > 0
    mean_spread = total / np.where(has_share, shares, 1.0)
    combined_spread = np.where(has_share, mean_spread, first_spread)
    return combined_point, combined_spread


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
    n_candidates, n_windows = errors.shape[:2]
    first_alone = np.eye(n_candidates)[0]
    if not n_windows:
        return first_alone
    own_evidence = evidence * _answered_share(errors)
    means = _trusted(mean_errors(errors, squared), own_evidence, evidence)
    near = means <= _ERROR_TOLERANCE * means.min()
    prior = first_alone
    if preferred is not None:
        prior = _preferred_prior(preferred, means, own_evidence)
    errors = np.where(np.isnan(errors), errors[0], errors)
    best = np.zeros(n_candidates)
    best[near] = _best_weights(errors[near], squared)
    leader = means.argmin()
    if _is_clearly_behind(prior, errors, leader, evidence, squared):
        prior = near / near.sum()
    # Where a candidate forecast few windows, its weight rests on them.
    best_evidence = best @ own_evidence
    n_all_windows = best_evidence + _PRIOR_WINDOWS
    weights = (best_evidence * best + _PRIOR_WINDOWS * prior) / n_all_windows
    weights[weights < _LEAST_WEIGHT] = 0.0
    return weights / weights.sum()


def _answered_share(errors: np.ndarray) -> np.ndarray:
    """Share of the first candidate's windows that each candidate forecast too, ``[M]``, from errors
    ``[M, W, F]``.
    """
    answered = ~np.isnan(errors).all(axis=2)
    n_answered = answered.sum(axis=1)
    return np.asarray(n_answered / max(n_answered[0], 1))


def _trusted(means: np.ndarray, own_evidence: np.ndarray, evidence: float) -> np.ndarray:
    """Mean errors ``[M]``; one that is smaller than that of the first candidate is drawn towards it
    where the windows that were forecast are so few that they are little evidence of a lead.
    """
    first = means[0]
    if first == 0:
        return means
    own_trust = own_evidence / (own_evidence + _PRIOR_POWER_WINDOWS)
    trust = own_trust * (evidence + _PRIOR_POWER_WINDOWS) / evidence
    ratio = means / first
    drawn = first * ratio**trust
    return np.maximum(means, np.minimum(drawn, first))


def _preferred_prior(
    preferred: np.ndarray, means: np.ndarray, own_evidence: np.ndarray
) -> np.ndarray:
    """Prior weights of preferred candidates, smaller for those with larger errors than the best of
    them.
    """
    preferred_means = np.where(preferred > 0, means, np.inf)
    leader = preferred_means.argmin()
    # The more windows both forecast, the more a lead means.
    common_evidence = np.minimum(own_evidence, own_evidence[leader])
    power = _PRIOR_POWER * (1 + common_evidence / _PRIOR_POWER_WINDOWS)
    # Errors may all be zero.
    tiny = np.finfo(np.float64).tiny
    ratios = means / max(means[leader], tiny)
    prior = preferred * np.maximum(ratios, 1.0) ** -power
    prior /= prior.sum()
    return prior


def _is_clearly_behind(
    prior: np.ndarray, errors: np.ndarray, leader: np.intp, evidence: float, squared: bool
) -> bool:
    """Whether the prior weights do worse than the candidate with the smallest error, by more than
    two standard errors.
    """
    prior_errors = np.tensordot(prior, errors, axes=1)
    prior_losses = _losses(prior_errors, squared)
    leader_losses = _losses(errors[leader], squared)
    behind = np.nanmean(prior_losses - leader_losses, axis=1)
    if evidence < _LEAST_EVIDENCE:
        return False
    two_standard_errors = 2 * behind.std() / np.sqrt(evidence)
    return bool(behind.mean() > two_standard_errors)


def _losses(errors: np.ndarray, squared: bool) -> np.ndarray:
    return np.square(errors) if squared else np.abs(errors)


def _best_weights(errors: np.ndarray, squared: bool) -> np.ndarray:
    """The weights that fit errors ``[M, W, F]`` best, mixed with equal ones."""
    n_candidates = len(errors)
    all_errors = errors.reshape(n_candidates, -1)
    # A truth that is missing is so for all candidates.
    observed = ~np.isnan(all_errors[0])
    flat = all_errors[:, observed]
    stride = -(-flat.shape[1] // _MAX_FITTED_ERRORS)  # rounded up
    fit = _least_squared if squared else _least_absolute
    fitted = fit(flat[:, ::stride])
    equal = _EQUAL_SHARE / n_candidates
    return (1 - _EQUAL_SHARE) * fitted + equal


def mean_errors(errors: np.ndarray, squared: bool) -> np.ndarray:
    """Mean absolute error of each candidate, ``[M]``, or the root of its mean squared error;
    infinite where it forecast no window.

    A candidate is compared with the first one on the windows that it forecast; the ratio of both
    errors is then taken to hold on all windows.
    """
    losses = _losses(errors, squared)
    first_losses = np.where(np.isnan(errors), np.nan, losses[0])
    candidate_sums = np.nansum(losses, axis=(1, 2))
    first_sums = np.nansum(first_losses, axis=(1, 2))
    positive_sums = np.where(first_sums > 0, first_sums, 1.0)
    ratio = candidate_sums / positive_sums
    is_error = ~np.isnan(errors)
    has_forecast = is_error.any(axis=(1, 2))
    ratio = np.where(has_forecast, ratio, np.inf)
    # Each window counts alike, however many truths it has.
    window_means = np.nanmean(losses[0], axis=1)
    first_mean = np.nanmean(window_means)
    means = np.asarray(ratio * first_mean)
    return np.sqrt(means) if squared else means


def _least_squared(errors: np.ndarray) -> np.ndarray:
    """Weights on the simplex ``[M]`` for which the mean squared weighted error is smallest, errors
    being ``[M, n]``.
    """
    from scipy.optimize import nnls

    n_candidates, n_errors = errors.shape
    largest = np.abs(errors).max(initial=0.0)
    unit = largest if largest > 0 else 1.0  # errors may all be zero
    # The heavy last row keeps the sum of the weights at 1.
    heavy = _SUM_WEIGHT * unit * np.sqrt(n_errors)
    heavy_row = np.full(n_candidates, heavy)
    rows = np.vstack([errors.T, heavy_row])
    targets = np.append(np.zeros(n_errors), heavy)
    weights, _ = nnls(rows, targets)
    return weights / weights.sum()


def _least_absolute(errors: np.ndarray) -> np.ndarray:
    """Weights on the simplex ``[M]`` for which the mean absolute weighted error is smallest, errors
    being ``[M, n]``.

    Exponentiated subgradients (Kivinen and Warmuth, 1997), the mean of the second half of the
    steps.
    """
    n_candidates, n_errors = errors.shape
    log = np.zeros(n_candidates)
    total = np.zeros(n_candidates)
    unit = max(np.abs(errors).mean(), 1e-300)  # errors may all be zero
    first_counted = _SEARCH_STEPS // 2
    for step in range(_SEARCH_STEPS):
        weights = np.exp(log - log.max())
        weights /= weights.sum()
        if step >= first_counted:
            total += weights
        signs = np.sign(weights @ errors)
        gradient = errors @ signs / n_errors
        # Steps grow shorter, so that the search settles.
        log -= gradient / unit / np.sqrt(1 + step)
    return total / total.sum()


def band_factor(point: np.ndarray, spread: np.ndarray, truth: np.ndarray, evidence: float) -> float:
    """The factor of the spread ``[W, F, 1, 2]`` with which the bounds hold 80% of the truths, drawn
    towards 1 where there is little evidence. Windows without any forecast have NaN as points.
    """
    all_gaps = truth - point
    observed = ~np.isnan(all_gaps)
    gap = all_gaps[observed]
    if not gap.size:
        return 1.0
    distance = np.abs(gap)
    usual_distance = np.quantile(distance, _COVERAGE, method="higher")
    # Any width holds the truths where most are equal to the points, as zeros often are.
    if usual_distance == 0:
        return 1.0
    observed_spread = spread[observed]
    factor = factor_needed(gap, -observed_spread[:, 0], observed_spread[:, 1], _COVERAGE)
    trust = evidence / (evidence + _HALF_CORRECTION_WINDOWS)
    corrected = factor**trust
    return float(np.clip(corrected, NARROWEST, WIDEST))
