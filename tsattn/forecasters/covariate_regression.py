"""Regressions that add covariates to a forecaster which reads none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tsattn.data.covariates import CovariateColumns
from tsattn.data.cycles import calendar_width, season_cycle
from tsattn.data.encoding import CovariateEncoder, CovariateWindows
from tsattn.data.panel import Panel
from tsattn.data.sensor_faults import find_stuck
from tsattn.data.stored import require
from tsattn.data.windows import EqualRuns
from tsattn.forecasters.band_widths import BandWidths
from tsattn.forecasters.boosted_trees import BoostedTrees
from tsattn.forecasters.local_regression import LocalRegression
from tsattn.forecasters.pooled_regression import (
    PooledRegression,
    WindowFeatures,
    encoded_columns,
    numeric_columns,
    target_features,
)
from tsattn.forecasts import Answer
from tsattn.storage import part_of

# Points [B, F, C] and quantiles [B, F, C, Q] of contexts [B, T, C], without covariates.
Base = Callable[[np.ndarray, Sequence[float]], Answer]

# How names of saved arrays begin.
PREFIX = "covariate_regression."
# What is wrong with files of the development version before.
OUTDATED = (
    "it holds another regression on columns, of a version before 0.1; fit and save the model again"
)
# Shares of the local regression that are tried.
SHARES = (0.0, 0.5, 1.0)
# A mean and a spread are those of so many seasons, ...
_SEASONS = 7
# ... and of so many rows at least.
_LEAST_ROWS = 32
# The effect has moved if its range in some rows is such a share of its range in the window.
_MOVED_SHARE = 0.5
# Numbers of the features of windows that are read together.
CHUNK_VALUES = 2**23
# Features of a row beside columns and phases, about, for the size of such parts.
_OTHER_FEATURES = 64
# Steps of a season, a cycle or a horizon at most in a saved model, so that no file asks for much
# memory.
_LONGEST = 2**16


@dataclass(frozen=True, eq=False)
class CovariateRegression:
    """What columns add to the forecasts of a base that reads none.

    Three regressions contribute. The local one is fitted inside each window
    (:class:`tsattn.forecasters.local_regression.LocalRegression`): the base forecasts what its
    effect leaves of the target, and the effect is added. The pooled one, a ridge regression, and
    the trees forecast the error that is left, from the columns, the calendar and the forecast, in
    units of a window's spread, so that all series and channels share them. Target trees forecast
    the target itself and know no other forecast: they err elsewhere than the network does. Further
    trees may say how wide the bands are (:class:`tsattn.forecasters.band_widths.BandWidths`). All
    weights are 0 where "no columns" forecast as well on windows held out. A series that has ended
    has no effect of columns (:func:`has_ended`).

    Attributes:
        encoder: How columns are read.
        horizon: Steps of the windows that were learnt from.
        season: Steps of the season; 1 for none.
        cycle: Steps of its longer cycle; 0 for none.
        share: Share of the forecast of what the local regression leaves, 0, 0.5 or 1; the rest is
            the base's own.
        pooled: Regression of the error that is left, if it has a weight.
        trees: Trees for the same error, if they have a weight.
        target_trees: Trees for the target, in units of the window, if they have a weight.
        pooled_weight: Factor of the pooled regression.
        trees_weight: Factor of the trees.
        target_weight: Share of the forecast of the target trees. The sum of the three weights is at
            most 1.
        widths: Further factors of that distance, one for each step of a forecast, by the features
            of the trees; ``None`` where the band follows the base's alone.
        band_factor: Factor of the distance of quantiles to the point.
        error_ratio: Error on the windows held out, as a share of the base's.
        leaves_out: Whether scattered values that are far from their neighbours are read as missing
            (:func:`tsattn.pretrained.outliers.find_outliers`), as they are without columns.
    """

    encoder: CovariateEncoder
    horizon: int
    season: int = 1
    cycle: int = 0
    share: float = 0.0
    pooled: PooledRegression | None = None
    trees: BoostedTrees | None = None
    target_trees: BoostedTrees | None = None
    widths: BandWidths | None = None
    pooled_weight: float = 0.0
    trees_weight: float = 0.0
    target_weight: float = 0.0
    band_factor: float = 1.0
    error_ratio: float = 1.0
    leaves_out: bool = False

    @property
    def rows(self) -> int:
        """Last rows of a window, of which mean and spread are computed."""
        return max(_SEASONS * self.season, _LEAST_ROWS)

    @property
    def local(self) -> LocalRegression:
        """The regression inside each window."""
        return LocalRegression(self.horizon, self.season, self.cycle)

    @property
    def active(self) -> bool:
        """Whether a forecast differs from the base's."""
        opinions = (self.pooled, self.trees, self.target_trees)
        has_correction = any(opinion is not None for opinion in opinions)
        return self.share > 0 or has_correction

    @property
    def reads_rows(self) -> bool:
        """Whether there are columns for the local regression: past or future ones, no calendar."""
        sizes = self.encoder.sizes
        n_columns = sizes["n_past"] + sizes["n_known"]
        return n_columns > self._n_calendar()

    def _n_calendar(self) -> int:
        """Columns of the calendar, which are the last of those that are known ahead."""
        return calendar_width(self.encoder.columns.calendar)

    def forecast(
        self, base: Base, x: np.ndarray, quantiles: Sequence[float], covariates: CovariateWindows
    ) -> Answer:
        """Points ``[B, F, C]`` and quantiles ``[B, F, C, Q]`` of contexts ``[B, T, C]``.

        They are the base's own where no regression has a weight. A step whose future columns are
        NaN is NaN otherwise.
        """
        if not self.active:
            return base(x, quantiles)
        effect = self.effects(x, covariates)
        n_rows = x.shape[1]
        past_effect = effect[:, :n_rows]
        ended = has_ended(x, past_effect, self.season)[:, None]
        # Products with 0 keep NaN where a column is missing.
        effect = np.where(ended, 0.0 * effect, effect)
        point, bounds = self.blended(base, x, quantiles, effect)
        correction, width = self.corrections(point, x, covariates, effect)
        correction = np.where(ended, 0.0 * correction, correction)
        corrected = point + correction
        distance = bounds - point[..., None]
        distance = self.band_factor * width[..., None] * distance
        return corrected, corrected[..., None] + distance

    def effects(self, x: np.ndarray, covariates: CovariateWindows) -> np.ndarray:
        """What columns contribute to all rows by the local regression, ``[B, T + F, C]``; NaN where
        a column is missing or hangs.
        """
        missing = np.isnan(covariates.known).any(axis=2)
        n_channels = x.shape[2]
        effect = np.zeros((*missing.shape, n_channels))
        if self.reads_rows:
            ahead, past, _ = encoded_columns(self.encoder, covariates)
            n_future = ahead.shape[2] - self._n_calendar()
            future = ahead[..., :n_future]
            numeric = numeric_columns(self.encoder)
            local = self.local
            beside_stuck = self._are_beside_stuck(x, covariates)
            for c in range(n_channels):
                learnable = np.where(beside_stuck, np.nan, x[..., c])
                channel_effect = local.effects(learnable, future, past, numeric)
                effect[..., c] = channel_effect
            n_rows = x.shape[1]
            missing[:, :n_rows] |= beside_stuck
        effect[missing] = np.nan
        return effect

    def _are_beside_stuck(self, x: np.ndarray, covariates: CovariateWindows) -> np.ndarray:
        """Rows of contexts ``[B, T, C]`` in which a column of numbers hangs, ``[B, T]``.

        They would say that the column has no effect.
        """
        n_rows = x.shape[1]
        n_future = covariates.known.shape[2] - self._n_calendar()
        future = covariates.known[:, :n_rows, :n_future]
        columns = np.concatenate([covariates.past, future], axis=2)
        n_columns = columns.shape[2]
        categories = self.encoder.columns.categories[:n_columns]
        are_numbers = [names is None for names in categories]
        numbers = columns[..., are_numbers]
        # Rows before the first value of a series repeat the columns of its first row.
        has_value = np.isfinite(x).any(axis=2)
        has_begun = np.logical_or.accumulate(has_value, axis=1)[..., None]
        stuck = find_stuck(np.where(has_begun, numbers, np.nan))
        return np.asarray(stuck.any(axis=2))

    def blended(
        self, base: Base, x: np.ndarray, quantiles: Sequence[float], effect: np.ndarray
    ) -> Answer:
        """Forecasts before the correction.

        They are the mean of the base's own forecast and of that of what the effect leaves, weighted
        by the share.
        """
        if self.share == 0:
            return base(x, quantiles)
        n_rows = x.shape[1]
        without_effect = x - effect[:, :n_rows]
        point, bounds = base(without_effect, quantiles)
        ahead = slice(n_rows, n_rows + point.shape[1])
        effect_ahead = effect[:, ahead]
        point = point + effect_ahead
        bounds = bounds + effect_ahead[..., None]
        if self.share == 1:
            return point, bounds
        base_point, base_bounds = base(x, quantiles)
        base_share = 1 - self.share
        point = base_share * base_point + self.share * point
        bounds = base_share * base_bounds + self.share * bounds
        return point, bounds

    def corrections(
        self, point: np.ndarray, x: np.ndarray, covariates: CovariateWindows, effect: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the pooled regression and all trees add to points ``[B, F, C]``, NaN where a column
        is missing; and the widths of the bands in units of the base's.
        """
        correction = np.zeros(point.shape)
        width = np.ones(point.shape)
        n_rows = x.shape[1]
        n_steps = point.shape[1]
        ahead = slice(n_rows, n_rows + n_steps)
        n_columns = max(self.encoder.sizes["n_known"], 1)
        n_column_values = (n_steps + n_rows) * n_columns
        n_other_values = n_steps * _OTHER_FEATURES
        n_window_values = n_column_values + n_other_values
        size = max(1, CHUNK_VALUES // n_window_values)
        for first in range(0, len(x), size):
            part = slice(first, first + size)
            part_covariates = covariates.of(part)
            for c in range(x.shape[2]):
                features = self.features(x[part, :, c], part_covariates)
                channel_point = point[part, :, c]
                channel_effect = effect[part, ahead, c]
                errors, widths = self._errors_and_widths(features, channel_point, channel_effect)
                correction[part, :, c] = features.spread * errors
                width[part, :, c] = widths
        future = covariates.known[:, ahead]
        missing = np.isnan(future).any(axis=2)
        n_future_steps = missing.shape[1]
        # A view, so that what is set is set in the correction.
        correction_of_future = correction[:, :n_future_steps]
        correction_of_future[missing] = np.nan
        return correction, width

    def features(self, x: np.ndarray, covariates: CovariateWindows) -> WindowFeatures:
        """Contexts ``[B, T]`` of one channel and their columns as the regressions read them."""
        return WindowFeatures(self.encoder, x, covariates, rows=self.rows, horizon=self.horizon)

    @property
    def seasons(self) -> tuple[int, ...]:
        """The season and its cycle in steps, those that there are."""
        lengths = (self.season, self.cycle)
        return tuple(length for length in lengths if length > 1)

    def _errors_and_widths(
        self, features: WindowFeatures, point: np.ndarray, effect: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The expected error of points ``[B, F]`` in units of the window, and the widths of their
        bands in units of the base's.
        """
        error = np.zeros(point.shape)
        width = np.ones(point.shape)
        if self.pooled is not None:
            of_point = features.of_point(point, squares=self.pooled.squares)
            pooled_error = np.nan_to_num(self.pooled(of_point))
            error += self.pooled_weight * pooled_error
        readers = (self.trees, self.target_trees, self.widths)
        if all(reader is None for reader in readers):
            return error, width
        of_trees = features.of_trees(point, effect, self.seasons)
        if self.trees is not None:
            trees_error = self.trees(of_trees)
            error += self.trees_weight * trees_error
        if self.target_trees is not None:
            of_past = features.of_past(point.shape[1], self.seasons)
            target = self.target_trees(target_features(of_trees, of_past))
            target_error = target - features.scaled(point)[..., 0]
            error += self.target_weight * target_error
        if self.widths is not None:
            width = self.widths(of_trees)
        return error, width

    def n_features(self, *, squares: bool) -> int:
        """Features that the pooled regression reads."""
        zero = np.zeros((1, 1))
        features = self._example().of_point(zero, squares=squares)
        return int(features.shape[2])

    def n_tree_features(self) -> int:
        """Features that the trees read."""
        zero = np.zeros((1, 1))
        features = self._example().of_trees(zero, zero, self.seasons)
        return int(features.shape[2])

    def n_target_features(self) -> int:
        """Features that the target trees read."""
        zero = np.zeros((1, 1))
        example = self._example()
        of_trees = example.of_trees(zero, zero, self.seasons)
        of_past = example.of_past(1, self.seasons)
        features = target_features(of_trees, of_past)
        return int(features.shape[2])

    def _example(self) -> WindowFeatures:
        """Features of one short window, to count them."""
        columns = self.encoder.columns
        n_rows = max((*self.seasons, 1))
        n_known = len(columns.future) + self._n_calendar()
        # Numbers, and the first names of categories.
        categories = self.encoder.categories
        static = [0.0 if names is None else names[0] for names in categories]
        covariates = CovariateWindows(
            np.zeros((1, n_rows, len(columns.past))),
            np.zeros((1, n_rows + 1, n_known)),
            np.array([static], dtype=object),
        )
        x = np.ones((1, n_rows))
        return self.features(x, covariates)

    # --- saved folders ----------------------------------------------------------------------------

    _SIZES = ("horizon", "season", "cycle")
    _BOUNDS = ("least", "most")
    _NUMBERS = (
        "share",
        "pooled_weight",
        "trees_weight",
        "target_weight",
        "band_factor",
        "error_ratio",
    )

    def facts(self) -> dict[str, Any]:
        """Facts for JSON, without the encoder."""
        facts = {}
        for name in self._SIZES + self._NUMBERS:
            facts[name] = getattr(self, name)
        facts["leaves_out"] = self.leaves_out
        facts["pooled"] = None
        if self.pooled is not None:
            facts["pooled"] = {
                "offset": self.pooled.offset,
                "squares": self.pooled.squares,
            }
        return facts

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights of the pooled regression and all trees, by names that begin with PREFIX."""
        arrays = {}
        width_trees = None if self.widths is None else self.widths.trees
        all_trees = {"trees": self.trees, "target_trees": self.target_trees, "widths": width_trees}
        for kind, trees in all_trees.items():
            if trees is not None:
                for name, array in trees.arrays.items():
                    arrays[f"{PREFIX}{kind}.{name}"] = array
        if self.pooled is not None:
            weights = self.pooled.weights
            arrays[f"{PREFIX}pooled"] = weights
            for name in self._BOUNDS:
                bound = getattr(self.pooled, name)
                bounds = np.broadcast_to(bound, weights.shape)
                arrays[f"{PREFIX}pooled.{name}"] = bounds.copy()
        return arrays

    @classmethod
    def rebuilt(
        cls, encoder: CovariateEncoder, facts: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> CovariateRegression:
        """Undo :meth:`facts` and :meth:`arrays`.

        Raises:
            ValueError: If something is not what they gave; also LookupError or TypeError.
        """
        leaves_out = facts["leaves_out"]
        require(type(leaves_out) is bool, f"leaves_out = {leaves_out!r:.40}")
        sizes = cls._checked_sizes(facts)
        numbers = cls._checked_numbers(facts)
        regression = cls(encoder, **sizes, **numbers, leaves_out=leaves_out)
        n_features = regression.n_tree_features()
        trees = _rebuilt_trees(arrays, "trees", n_features)
        target_trees = _rebuilt_trees(arrays, "target_trees", regression.n_target_features())
        width_trees = _rebuilt_trees(arrays, "widths", n_features)
        widths = None if width_trees is None else BandWidths(width_trees)
        regression = replace(regression, trees=trees, target_trees=target_trees, widths=widths)
        if facts["pooled"] is None:
            return regression
        pooled = regression._rebuilt_pooled(facts["pooled"], arrays)
        return replace(regression, pooled=pooled)

    @classmethod
    def _checked_sizes(cls, facts: dict[str, Any]) -> dict[str, Any]:
        """The numbers of steps of saved facts."""
        sizes = {name: facts[name] for name in cls._SIZES}
        for name, size in sizes.items():
            in_range = type(size) is int and 0 <= size <= _LONGEST
            require(in_range, f"{name} = {size!r:.40}")
        # There may be no cycle, but a season of one step stands for none.
        in_range = sizes["horizon"] >= 1 and sizes["season"] >= 1
        require(in_range, f"sizes {sizes}")
        return sizes

    @classmethod
    def _checked_numbers(cls, facts: dict[str, Any]) -> dict[str, Any]:
        """The share, weights and factors of saved facts."""
        numbers = {name: float(facts[name]) for name in cls._NUMBERS}
        for name, number in numbers.items():
            in_range = 0 <= number < np.inf
            require(in_range, f"{name} = {number}")
        in_range = numbers["share"] in SHARES and numbers["band_factor"] > 0
        require(in_range, f"numbers {numbers}")
        return numbers

    def _rebuilt_pooled(
        self, facts: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> PooledRegression:
        """The pooled regression of saved facts and weights, checked."""
        weights = arrays[f"{PREFIX}pooled"]
        offset = facts["offset"]
        squares = facts["squares"]
        are_numbers = type(squares) is bool and bool(np.isfinite(offset))
        require(are_numbers, "a pooled regression without numbers")
        n_features = self.n_features(squares=squares)
        fits = weights.shape == (n_features,)
        is_finite = bool(np.isfinite(weights).all())
        is_valid = weights.dtype == np.float64 and is_finite
        require(fits and is_valid, f"weights of shape {weights.shape}")
        bounds = {}
        for name in self._BOUNDS:
            bound = arrays[f"{PREFIX}pooled.{name}"]
            fits = bound.shape == weights.shape
            is_bound = fits and bound.dtype == np.float64
            # Infinite bounds stand for none.
            is_valid = is_bound and not np.isnan(bound).any()
            require(is_valid, f"bounds of shape {bound.shape}")
            bounds[name] = bound
        return PooledRegression(weights, float(offset), squares, **bounds)


def _rebuilt_trees(
    arrays: dict[str, np.ndarray], kind: str, n_features: int
) -> BoostedTrees | None:
    """Trees of one kind of saved arrays, checked; ``None`` where there are none."""
    tree_arrays = part_of(arrays, f"{PREFIX}{kind}.")
    if not tree_arrays:
        return None
    trees = BoostedTrees(**tree_arrays)
    trees.check(n_features)
    return trees


def has_ended(x: np.ndarray, effect: np.ndarray, season: int) -> np.ndarray:
    """Whether columns have lost their effect on a series, because it no longer moves.

    That is so where the last values of a window are equal, for two seasons and 28 rows at least,
    and for longer than any values before that were equal between two changes; or where the effect
    of the columns has moved in the meantime. A product that is sold during rare promotions alone
    has not ended as long as there is none.

    Args:
        x: Contexts ``[B, T, C]``; NaN is missing and does not count as a row.
        effect: What columns contribute to these rows, ``[B, T, C]``.
        season: Steps of the season; 1 for none.

    Returns:
        ``[B, C]``.

    Example:
        >>> sales = np.append(np.arange(60.0) % 7, np.zeros(40))[None, :, None]
        >>> has_ended(sales, np.zeros_like(sales), 7).tolist()
        [[True]]
    """
    runs = EqualRuns.of(x)
    recent_range = _range(effect, runs.in_last)
    observed = np.isfinite(x)
    begun = np.logical_or.accumulate(observed, axis=1)
    whole_range = _range(effect, begun)
    has_moved = recent_range > _MOVED_SHARE * whole_range
    has_reason = runs.is_longest | has_moved
    return runs.is_long(season) & has_reason


def _range(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Largest minus smallest of the values ``[B, T, C]`` in some rows, ``[B, C]``; at least 0."""
    usable = rows & np.isfinite(values)
    filled_below = np.where(usable, values, -np.inf)
    filled_above = np.where(usable, values, np.inf)
    highest = filled_below.max(axis=1)
    lowest = filled_above.min(axis=1)
    return np.maximum(highest - lowest, 0.0)


def make_encoder(columns: CovariateColumns, panel: Panel) -> CovariateEncoder:
    """Decide how covariates are read.

    The calendar begins with the cycle of the season, and has the weekday for hours and less.

    Args:
        columns: What is to be read.
        panel: All rows.

    Raises:
        ValueError: As :meth:`tsattn.data.encoding.CovariateEncoder.fit`.
    """
    encoder = CovariateEncoder.fit(columns, panel, panel.lengths)
    season = season_cycle(panel.freq)
    first: tuple[str, ...] = ()
    if season is not None:
        first = (season,)
    if season == "hour":
        first = (season, "weekday")
    # Without repetitions, in this order.
    cycles = dict.fromkeys((*first, *encoder.columns.calendar))
    columns_with_cycles = replace(encoder.columns, calendar=tuple(cycles))
    return replace(encoder, columns=columns_with_cycles)
