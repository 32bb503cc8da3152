"""Widths of bands that follow what a forecast is made of, learnt from errors of the past."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tsattn.evaluate.intervals import factor_needed
from tsattn.evaluate.metrics import pinball_terms
from tsattn.forecasters.boosted_trees import BoostedTrees

# The quantiles at the ends of a band, and the share of truths that it shall hold.
BAND = (0.1, 0.9)
COVERAGE = 0.8
# Share of the logarithm of the expected size of an error that a width follows. Trees learn from
# hundreds of windows only, and would make too much of what they see.
_FOLLOWED = 0.5
# An error of zero has no logarithm: sizes count from this share of their median on.
_LEAST_SIZE = 1e-3
# Largest and, inverted, smallest width in units of the base's.
_WIDEST = 10.0
# Fewest errors from which widths are learnt.
_LEAST_ERRORS = 1000


@dataclass(frozen=True, eq=False)
class BandWidths:
    """Widths in units of those of another band, by the features of a forecast.

    Attributes:
        trees: Trees for the logarithm of the size of an error in units of the other band.
    """

    trees: BoostedTrees

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """The widths ``[...]`` for features ``[..., n]``."""
        logarithm = _FOLLOWED * self.trees(features)
        most = np.log(_WIDEST)
        return np.exp(np.clip(logarithm, -most, most))


@dataclass(frozen=True, eq=False)
class BandErrors:
    """Errors of the past beside the band that was forecast with them.

    Attributes:
        gap: Truths less points, ``[n]``.
        below: Distance of the band's lower end to each point, ``[n]``.
        above: Distance of the upper end, ``[n]``.
        windows: Window of each error, ``[n]``, ascending.
        features: Of the forecasts, ``[n, K]``.
    """

    gap: np.ndarray
    below: np.ndarray
    above: np.ndarray
    windows: np.ndarray
    features: np.ndarray

    def some(self, chosen: np.ndarray) -> BandErrors:
        """The errors of a choice ``[n]``, true where one is taken."""
        return BandErrors(
            gap=self.gap[chosen],
            below=self.below[chosen],
            above=self.above[chosen],
            windows=self.windows[chosen],
            features=self.features[chosen],
        )

    def widths(self) -> BandWidths:
        """Learn widths from the sizes of all errors."""
        sizes = np.abs(self.gap)
        least = _LEAST_SIZE * np.median(sizes)
        usual = (self.below + self.above) / 2
        logarithm = np.log(np.maximum(sizes, least) / usual)
        return BandWidths(BoostedTrees.fit(self.features, logarithm))

    def factor(self, width: np.ndarray) -> float:
        """Factor with which a band of these widths holds the share of the truths."""
        return factor_needed(self.gap, width * self.below, width * self.above, COVERAGE)

    def loss(self, width: np.ndarray) -> float:
        """Mean quantile loss of both ends of a band of these widths."""
        ends = np.stack([-width * self.below, width * self.above], axis=-1)
        terms = pinball_terms(self.gap[:, None], ends, np.array(BAND))
        return float(terms.mean())


def fit_band_widths(errors: BandErrors) -> tuple[BandWidths, float] | None:
    """Learn widths of a band from the errors of windows that no forecast has learnt from.

    Widths of each half of the windows are also learnt from the other half. If these have no lower
    quantile loss than the band itself, each times the factor that it needs, there is nothing to
    learn. Their factor counts: the one for widths that have learnt from the same errors is too
    small.

    Args:
        errors: In units of their window's spread, with a band that has a width.

    Returns:
        The widths, and the factor with which 80% of the truths lie inside; ``None`` where widths
        that follow the features are no better, or where there are fewer than 1,000 errors.

    Raises:
        OutOfTime: If the trees would not end in time.
    """
    n_errors = len(errors.gap)
    sizes = np.abs(errors.gap)
    if n_errors < _LEAST_ERRORS or not np.median(sizes) > 0:
        return None
    is_late = errors.windows > np.median(errors.windows)
    width_of_others = np.ones(n_errors)
    for half in (is_late, ~is_late):
        other_half = errors.some(~half)
        width_of_others[half] = other_half.widths()(errors.features[half])
    usual_width = np.ones(n_errors)
    usual_factor = errors.factor(usual_width)
    factor_of_others = errors.factor(width_of_others)
    # No factor will do where many ends are at the point itself.
    if not np.isfinite([usual_factor, factor_of_others]).all():
        return None
    usual_loss = errors.loss(usual_factor * usual_width)
    if errors.loss(factor_of_others * width_of_others) >= usual_loss:
        return None
    return errors.widths(), factor_of_others
