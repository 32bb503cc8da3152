"""Ridge regressions on columns inside each window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from tsattn.forecasters.ridge import ridge
from tsattn.limits import limit_threads

# Numbers of the features of the windows that are solved together, so that they stay in the caches.
_CHUNK_VALUES = 2**20
# A variance below this share of the squared mean is rounding error.
_ROUNDING = 1e-9
# Features of a future column besides its value and lags: a square and two hinges.
_N_CURVES = 3
# The seasonal differences are used where the memory holds more seasons than this.
_LEAST_SEASONS = 3


@dataclass(frozen=True)
class LocalRegression:
    """Ridge regressions of the target on the columns, fitted anew in every window, in closed form.

    Everything is in units of the window. A future column enters by its value, its square, hinges
    above ``knot`` and below ``-knot``, and its values some steps before; a past column by its value
    one horizon before. Two regressions are fitted: one of levels, beside waves of the season and of
    its longer cycle; and one of the differences to one season before. Only the columns' own part of
    each counts, and the effect is the mean of the two.

    For rows of the past the effect is out of fold: a block of rows is left out of the regression
    that answers for it. The penalty is the one with the least error on blocks left out, where "no
    columns" is one choice. Where there are several columns, further choices are regressions in
    which a column counts less if its part was small in the first one, so that columns that do not
    matter hardly disturb those that do (the adaptive ridge regression of Grandvalet, 1998). The
    effect is multiplied by a slope from 0 to 1: that of the seasonal differences of the target on
    those of the effect, out of fold, drawn towards 0 where it is
    uncertain.

    Args:
        horizon: Steps ahead F.
        season: Steps of a season; 1 for none.
        cycle: Steps of the longer cycle of the season, such as a week of days; 0 for none.
        memories: Rows that a regression reads at most; the effect is the mean over them.
        penalties: Penalties tried, in units of the mean square of a feature.
        n_folds: Regressions that leave out blocks of rows.
        fold_rows: Rows of a block at most; so many rows count as one independent one where a slope
            is judged.
        lags: Steps before a row whose values of a future column are read.
        most_features: Lags, then squares and hinges, are left out where there would be more
            features than this.
        knot: Where hinges begin, in deviations.
        curved_weight: Factor of squares and hinges, whose penalty is larger by its inverse square.
        n_waves: Pairs of waves of the season.
        n_cycle_waves: Pairs of waves of the longer cycle.
        wave_penalty: Penalty of waves.
        clear_part: Part of a column, as a share of the largest one, from which on it counts whole.
        least_factor: Factor of the features of a column that has no part.

    Example:
        A promotion adds two to a week of days:

        >>> rng = np.random.default_rng(0)
        >>> promotion = (rng.random((1, 107, 1)) < 0.3).astype(float)
        >>> week = np.sin(np.arange(100) * 2 * np.pi / 7)
        >>> y = week + 2 * promotion[:, :100, 0] + rng.normal(0, 0.1, 100)
        >>> no_columns = np.empty((1, 100, 0))
        >>> effect = LocalRegression(horizon=7, season=7).effects(y, promotion, no_columns)
        >>> promoted = promotion[..., 0] > 0
        >>> float(np.round(effect[promoted].mean() - effect[~promoted].mean(), 1))
        2.0
    """

    horizon: int
    season: int = 1
    cycle: int = 0
    memories: tuple[int, ...] = (1024, 2048)
    penalties: tuple[float, ...] = (0.003, 0.03, 0.3, 3.0)
    n_folds: int = 8
    fold_rows: int = 24
    lags: tuple[int, ...] = (1, 3)
    most_features: int = 96
    knot: float = 0.7
    curved_weight: float = 0.4
    n_waves: int = 4
    n_cycle_waves: int = 3
    wave_penalty: float = 1e-4
    clear_part: float = 0.2
    least_factor: float = 0.05

    def effects(
        self,
        y: np.ndarray,
        columns: np.ndarray,
        past: np.ndarray,
        numeric: np.ndarray | None = None,
    ) -> np.ndarray:
        """What the columns contribute to the target, around zero.

        Args:
            y: Contexts ``[B, T]``; NaN is missing.
            columns: Future columns ``[B, T + F, K]``; a step ahead may be NaN.
            past: Past columns ``[B, T, P]``.
            numeric: Numbers of the future columns that have squares, hinges and lags; default all.
                Indicators have their value alone.

        Returns:
            ``[B, T + F]`` in units of the target, out of fold for the first T rows; NaN where a
            future column is.
        """
        n_steps = columns.shape[1]
        numbers = np.arange(columns.shape[2])
        if numeric is not None:
            numbers = np.asarray(numeric, dtype=np.int64)
        effect = np.zeros((len(y), n_steps))
        n_columns = columns.shape[2] + past.shape[2]
        n_of_number = _N_CURVES + len(self.lags)
        n_features = n_columns + n_of_number * len(numbers)
        n_window_values = max(n_steps * n_features, 1)
        size = max(1, _CHUNK_VALUES // n_window_values)
        for windows, begun_rows in self._alike(y):
            for first in range(0, len(windows), size):
                part = windows[first : first + size]
                part_columns = columns[part]
                part_past = past[part]
                means = self._means(y[part], part_columns, part_past, numbers, begun_rows)
                effect[part] = means
        return effect

    def _alike(self, y: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
        """Windows whose regressions have the same form, and the rows from the first value on of one
        of them.

        Rows before the first value do not count, but lengthen a window among longer ones.
        """
        observed = np.isfinite(y)
        has_value = observed.any(axis=1)
        first_row = observed.argmax(axis=1)
        begun_rows = np.where(has_value, y.shape[1] - first_row, 0)
        lengths, places = np.unique(begun_rows, return_inverse=True)
        groups: dict[tuple[object, ...], list[int]] = {}
        for place, length in enumerate(lengths.tolist()):
            reaches = [min(memory, length) for memory in self.memories]
            form = tuple(self._form(reach) for reach in reaches)
            group = groups.setdefault(form, [])
            group.append(place)
        for group in groups.values():
            is_in_group = np.isin(places, group)
            windows = np.flatnonzero(is_in_group)
            shortest = lengths[group[0]]
            yield windows, int(shortest)

    def _form(self, n_rows: int) -> tuple[object, ...]:
        """Everything that the form of a regression takes from its number of rows."""
        block_rows = self._block_rows(n_rows)
        has_season = 2 * self.season <= n_rows
        has_cycle = 2 * self.cycle <= n_rows
        return block_rows, has_season, has_cycle, self._has_differences(n_rows)

    def _block_rows(self, n_rows: int) -> int:
        """Rows of a block; each fold has two blocks at least where there are so many rows."""
        most_rows = n_rows // (2 * self.n_folds)
        return max(min(self.fold_rows, most_rows), 1)

    def _has_differences(self, n_rows: int) -> bool:
        """Whether so many rows hold the seasonal differences of a regression."""
        return _LEAST_SEASONS * self.season < n_rows

    def _means(
        self,
        y: np.ndarray,
        columns: np.ndarray,
        past: np.ndarray,
        numeric: np.ndarray,
        begun_rows: int,
    ) -> np.ndarray:
        """Means of the effects over the memories."""
        n_rows = y.shape[1]
        # Memories longer than the window are one and the same.
        reaches = {min(memory, n_rows) for memory in self.memories}
        effects = []
        for reach in sorted(reaches):
            effect_of_memory = self._recent(y, columns, past, numeric, reach, begun_rows)
            effects.append(effect_of_memory)
        effect = np.mean(effects, axis=0)
        is_missing = np.isnan(columns).any(axis=2)
        effect[is_missing] = np.nan
        return effect

    def _recent(
        self,
        y: np.ndarray,
        columns: np.ndarray,
        past: np.ndarray,
        numeric: np.ndarray,
        reach: int,
        begun_rows: int,
    ) -> np.ndarray:
        """Effects in all rows by regressions of the last ``reach`` rows of the context, whose form
        is that of ``begun_rows`` rows.
        """
        n_rows = y.shape[1]
        first_row = n_rows - reach
        observed = np.isfinite(y)
        observed[:, :first_row] = False
        values = np.nan_to_num(y)
        target, spread = _standardised_target(values, observed)
        begun = np.maximum.accumulate(observed, axis=1)
        columns = _standardised(np.nan_to_num(columns), begun)
        past = _standardised(past, begun)
        memory = slice(first_row, n_rows)
        features = self._features(columns, past, numeric, memory)
        features -= _mean(features[:, :n_rows], observed)
        column = _column_of_each(features.shape[2], columns.shape[2], past.shape[2], numeric)
        used_rows = min(reach, begun_rows)
        fold = self._folds(n_rows, reach, used_rows)
        effect_of_levels = self._levels(features, column, target, observed, fold, used_rows)
        parts = [effect_of_levels]
        lag = 1
        if self._has_differences(used_rows):
            lag = self.season
            effect_of_differences = self._differences(features, column, target, observed, fold, lag)
            parts.append(effect_of_differences)
        effect = np.mean(parts, axis=0)
        past_effect = effect[:, :n_rows]
        slope = _slope(past_effect, target, observed, lag, self.fold_rows)
        return effect * slope * spread

    def _folds(self, n_rows: int, reach: int, used_rows: int) -> np.ndarray:
        """Fold that each row of the context is left out of, ``[T]``.

        It is -1 for rows that no regression reads.
        """
        age = np.arange(n_rows)[::-1]
        block = age // self._block_rows(used_rows)
        # Blocks go to the folds in turns, so that each fold has rows of all times.
        fold = block % self.n_folds
        is_read = age < reach
        return np.where(is_read, fold, -1)

    def _features(
        self, columns: np.ndarray, past: np.ndarray, numeric: np.ndarray, memory: slice
    ) -> np.ndarray:
        """Features of all rows ``[B, T + F, n]`` from standardised columns."""
        parts = [columns]
        numbers = columns[..., numeric]
        n_steps = columns.shape[1]
        n_columns = columns.shape[2] + past.shape[2]
        n_with_curves = n_columns + _N_CURVES * len(numeric)
        if n_with_curves <= self.most_features:
            parts += self._curves(numbers, memory)
        n_with_lags = n_with_curves + len(self.lags) * len(numeric)
        if n_with_lags <= self.most_features:
            lags = [lag for lag in self.lags if lag < n_steps]
            parts += [_delayed(numbers, lag) for lag in lags]
        if past.shape[2]:
            n_ahead = n_steps - past.shape[1]
            last = past[:, -1:]
            ahead = np.repeat(last, n_ahead, axis=1)
            continued = np.concatenate([past, ahead], axis=1)
            parts.append(_delayed(continued, self.horizon))
        return np.concatenate(parts, axis=2)

    def _curves(self, numbers: np.ndarray, memory: slice) -> list[np.ndarray]:
        """Squares and hinges of the numeric columns."""
        # Beyond the values of the memory curves would be extrapolated.
        remembered = numbers[:, memory]
        lowest = remembered.min(axis=1, keepdims=True)
        highest = remembered.max(axis=1, keepdims=True)
        bounded = np.clip(numbers, lowest, highest)
        square = bounded**2 - 1
        upper_hinge = np.maximum(bounded - self.knot, 0)
        lower_hinge = np.maximum(-bounded - self.knot, 0)
        curves = (square, upper_hinge, lower_hinge)
        return [self.curved_weight * curve for curve in curves]

    def _waves(self, n_rows: int, used_rows: int) -> np.ndarray:
        """A constant, and waves of the season and of its cycle, ``[T, n]``.

        A season or cycle has waves where the rows that are used hold two.
        """
        waves = [np.ones(n_rows)]
        row = np.arange(n_rows)
        most_pairs_of_length = (
            (self.season, self.n_waves),
            (self.cycle, self.n_cycle_waves),
        )
        for length, most_pairs in most_pairs_of_length:
            if 2 * length > used_rows:
                continue
            # Shorter waves than two rows look like longer ones.
            n_pairs = min(most_pairs, length // 2)
            for k in range(1, n_pairs + 1):
                step = row % length
                angle = 2 * np.pi * k * step / length
                waves.append(np.sin(angle))
                waves.append(np.cos(angle))
        return np.stack(waves, axis=1)

    def _levels(
        self,
        features: np.ndarray,
        column: np.ndarray,
        target: np.ndarray,
        observed: np.ndarray,
        fold: np.ndarray,
        used_rows: int,
    ) -> np.ndarray:
        """Effects by the regression of levels, beside waves."""
        n_rows = target.shape[1]
        waves = self._waves(n_rows, used_rows)
        past_features = features[:, :n_rows]
        weights = self._cross_validated(waves, past_features, column, target, observed, fold)
        return _answers(features, weights, fold)

    def _differences(
        self,
        features: np.ndarray,
        column: np.ndarray,
        target: np.ndarray,
        observed: np.ndarray,
        fold: np.ndarray,
        lag: int,
    ) -> np.ndarray:
        """Effects by the regression of differences to ``lag`` rows before."""
        n_rows = target.shape[1]
        both_observed = _both_observed(observed, lag)
        change = _change(target, lag)
        past_features = features[:, :n_rows]
        rows = _change(past_features, lag)
        fold_of_change = fold[lag:]
        no_waves = np.empty((len(fold_of_change), 0))
        weights = self._cross_validated(
            no_waves, rows, column, change, both_observed, fold_of_change
        )
        return _answers(features, weights, fold)

    def _cross_validated(
        self,
        waves: np.ndarray,
        features: np.ndarray,
        column: np.ndarray,
        target: np.ndarray,
        observed: np.ndarray,
        fold: np.ndarray,
    ) -> np.ndarray:
        """Weights of the features ``[B, folds + 1, n]`` in the regressions without each fold and of
        all rows, those with the least error on rows left out.

        Args:
            waves: ``[T, w]``, which the regressions hold beside the features.
            features: ``[B, T, n]``
            column: Number of the column of each feature.
            target: ``[B, T]``
            observed: ``[B, T]``; other rows do not count.
            fold: ``[T]``
        """
        learnt, left_out = self._beside_waves(waves, features, target, observed, fold)
        weights = self._solutions(learnt)
        errors = _errors(weights, left_out)
        # The last choice is "no columns".
        no_weights = np.zeros_like(weights[..., :1])
        all_weights = np.concatenate([weights, no_weights], axis=3)
        all_errors = np.concatenate([errors, _errors(no_weights, left_out)], axis=1)
        best_weights = _best(all_weights, all_errors)
        if not len(column):
            return best_weights
        first = _best(weights, errors)
        factor = self._factors(first, column)
        # Where no column is faint a second regression is the first one.
        faint = np.flatnonzero((factor < 1).any(axis=(1, 2, 3)))
        if not len(faint):
            return best_weights
        factor = factor[faint]
        scaled = _Products(
            learnt.scatter[faint] * factor * factor.swapaxes(2, 3),
            learnt.with_target[faint] * factor,
            learnt.squares[faint],
        )
        more_weights = factor * self._solutions(scaled)
        more_errors = _errors(more_weights, left_out.of(faint))
        all_weights = np.concatenate([all_weights[faint], more_weights], axis=3)
        all_errors = np.concatenate([all_errors[faint], more_errors], axis=1)
        best_weights[faint] = _best(all_weights, all_errors)
        return best_weights

    def _factors(self, weights: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Factors ``[B, folds + 1, n, 1]`` of features by the parts that columns have in a
        regression with weights ``[B, folds + 1, n]``.
        """
        is_of_column = column[:, None] == np.arange(column.max() + 1)
        # Features have a variance of about 1.
        parts = weights**2 @ is_of_column.astype(np.float64)
        clear = self.clear_part * parts.max(axis=2, keepdims=True)
        divisor = np.where(clear > 0, clear, 1.0)
        share = np.where(clear > 0, parts / divisor, 1.0)
        factor_of_column = np.clip(share, self.least_factor, 1.0)
        factor = factor_of_column[..., column]
        return factor[..., None]

    # On one thread, as outliers are searched: a forked process waits for ever for others.
    @limit_threads(1)
    def _beside_waves(
        self,
        waves: np.ndarray,
        features: np.ndarray,
        target: np.ndarray,
        observed: np.ndarray,
        fold: np.ndarray,
    ) -> tuple[_Products, _Products]:
        """Products of what waves do not explain of the features and the target.

        A regression on waves and features has the weights of features that one on these remainders
        has (Frisch and Waugh, 1933), for which the waves are solved once instead of at each
        penalty.

        Returns:
            Means over the rows that each regression learns from, and sums over those that it leaves
            out.
        """
        of_folds, counts = _products_of_folds(waves, features, target, observed, fold, self.n_folds)
        count = np.maximum(_without_each(counts), 1)
        learnt = _without_each(of_folds) / count[..., None, None]
        n_waves = waves.shape[1]
        if n_waves:
            wave_squares = torch.from_numpy(learnt[..., :n_waves, :n_waves])
            wave_products = torch.from_numpy(learnt[..., :n_waves, n_waves:])
            wave_weights = ridge(wave_squares, wave_products, self.wave_penalty).numpy()
            learnt = learnt[..., n_waves:, n_waves:] - (
                learnt[..., n_waves:, :n_waves] @ wave_weights
            )
            of_folds = _remaining(of_folds, wave_weights[:, :-1])
        return _Products.parts_of(learnt), _Products.parts_of(of_folds)

    @limit_threads(1)
    def _solutions(self, products: _Products) -> np.ndarray:
        """Weights ``[B, folds + 1, n, penalties]`` at every penalty."""
        scatter = torch.from_numpy(products.scatter)[:, :, None]
        with_target = torch.from_numpy(products.with_target)[:, :, None]
        penalties = torch.from_numpy(np.array(self.penalties))[:, None]
        repeated = with_target.expand(-1, -1, len(penalties), -1, -1)
        solutions = ridge(scatter, repeated, penalties)
        return solutions[..., 0].movedim(2, 3).numpy()


class _Products(NamedTuple):
    """Sums or means of products over rows, for each of K sets of rows.

    Attributes:
        scatter: Of the features with one another, ``[B, K, n, n]``.
        with_target: Of the features with the target, ``[B, K, n, 1]``.
        squares: Of the target with itself, ``[B, K, 1, 1]``.
    """

    scatter: np.ndarray
    with_target: np.ndarray
    squares: np.ndarray

    @classmethod
    def parts_of(cls, products: np.ndarray) -> _Products:
        """The parts of products ``[B, K, n + 1, n + 1]`` of the features and the target, the
        last.
        """
        scatter = products[..., :-1, :-1]
        return cls(scatter, products[..., :-1, -1:], products[..., -1:, -1:])

    def of(self, windows: np.ndarray) -> _Products:
        """The products of some windows."""
        return _Products(*(values[windows] for values in self))


def _mean(values: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Means of ``[B, T, n]`` over the observed rows ``[B, T]``, ``[B, 1, n]``."""
    count = np.maximum(observed.sum(axis=1), 1)
    weights = observed[:, None].astype(np.float64)
    total = weights @ values
    return total / count[:, None, None]


def _standardised_target(y: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The target with mean 0 and deviation 1 over the observed rows, and its deviation.

    Returns:
        ``[B, T]``, 0 in other rows; ``[B, 1]``.
    """
    count = observed.sum(axis=1, keepdims=True)
    count = np.maximum(count, 1)
    # In units of the largest value, so that squares stay within range.
    sizes = np.abs(y * observed)
    largest = sizes.max(axis=1, keepdims=True, initial=0.0)
    unit = np.where(largest > 0, largest, 1.0)
    scaled = y / unit
    mean = _mean(scaled[..., None], observed)[..., 0]
    centred = (scaled - mean) * observed
    sum_of_squares = (centred**2).sum(axis=1, keepdims=True)
    deviation = np.sqrt(sum_of_squares / count)
    moving = deviation > _ROUNDING
    divisor = np.where(moving, deviation, 1.0)
    target = centred / divisor
    target = np.where(moving, target, 0.0)
    deviation = np.where(moving, deviation, 0.0)
    return target, deviation * largest


def _standardised(columns: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Columns ``[B, T + F, K]`` with mean 0 and deviation 1 over observed rows ``[B, T]``.

    A constant column is 0.
    """
    recent = columns[:, : observed.shape[1]]
    mean = _mean(recent, observed)
    mean_square = _mean(recent**2, observed)
    variance = mean_square - mean**2
    rounding_error = _ROUNDING * (1 + mean**2)
    moving = variance > rounding_error
    divisor = np.where(moving, variance, 1.0)
    deviation = np.sqrt(divisor)
    scaled = (columns - mean) / deviation
    return np.where(moving, scaled, 0.0)


def _delayed(columns: np.ndarray, lag: int) -> np.ndarray:
    """The values ``lag`` rows before; the first row stands for those before it."""
    values_before = np.repeat(columns[:, :1], lag, axis=1)
    earlier = columns[:, :-lag]
    return np.concatenate([values_before, earlier], axis=1)


def _change(values: np.ndarray, lag: int) -> np.ndarray:
    """Differences of rows to those ``lag`` rows before, ``[B, T - lag, ...]``."""
    return values[:, lag:] - values[:, :-lag]


def _both_observed(observed: np.ndarray, lag: int) -> np.ndarray:
    """Whether a row and the one ``lag`` rows before are observed, ``[B, T - lag]``."""
    return observed[:, lag:] & observed[:, :-lag]


def _column_of_each(
    n_features: int, n_columns: int, n_past: int, numeric: np.ndarray
) -> np.ndarray:
    """Number of the column of each feature, as they are ordered: values of the future columns, then
    curves and lags of the numeric ones, then past columns.
    """
    n_of_numeric = n_features - n_columns - n_past
    n_forms = n_of_numeric // max(len(numeric), 1)
    values = np.arange(n_columns)
    past = n_columns + np.arange(n_past)
    return np.concatenate([values, np.tile(numeric, n_forms), past])


def _products_of_folds(
    waves: np.ndarray,
    features: np.ndarray,
    target: np.ndarray,
    observed: np.ndarray,
    fold: np.ndarray,
    n_folds: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the products of waves, features and target, ``m`` together, with one another over the
    observed rows of each fold, ``[B, folds, m, m]``; and the numbers of these rows, ``[B, folds]``.
    """
    n_windows, _, n_features = features.shape
    n_waves = waves.shape[1]
    n_together = n_waves + n_features + 1
    sums = np.empty((n_windows, n_folds, n_together, n_together))
    counts = np.empty((n_windows, n_folds))
    for k in range(n_folds):
        fold_rows = np.flatnonzero(fold == k)
        together = np.empty((n_windows, len(fold_rows), n_together))
        together[..., :n_waves] = waves[fold_rows]
        together[..., n_waves:-1] = features[:, fold_rows]
        together[..., -1] = target[:, fold_rows]
        counted = observed[:, fold_rows]
        together *= counted[..., None]
        np.matmul(together.swapaxes(1, 2), together, out=sums[:, k])
        counts[:, k] = counted.sum(axis=1)
    return sums, counts


def _remaining(products: np.ndarray, wave_weights: np.ndarray) -> np.ndarray:
    """Products ``[B, K, n + 1, n + 1]`` of what waves leave of features and target.

    Args:
        products: Of waves, features and target with one another, ``[B, K, m, m]``.
        wave_weights: By which waves explain features and target, ``[B, K, w, n + 1]``.
    """
    n_waves = wave_weights.shape[2]
    of_waves = products[..., :n_waves, :n_waves]
    crossed = products[..., :n_waves, n_waves:]
    explained = of_waves @ wave_weights - crossed
    transposed = wave_weights.swapaxes(2, 3)
    both = crossed.swapaxes(2, 3) @ wave_weights
    return products[..., n_waves:, n_waves:] - both + transposed @ explained


def _errors(weights: np.ndarray, left_out: _Products) -> np.ndarray:
    """Sums of squared errors ``[B, P]`` of P regressions on the rows that each leaves out.

    Args:
        weights: ``[B, folds + 1, n, P]``; the last regression leaves out none.
        left_out: Sums of products over the rows of each fold.
    """
    of_folds = weights[:, :-1]
    twice_linear = left_out.scatter @ of_folds - 2 * left_out.with_target
    explained = (of_folds * twice_linear).sum(axis=2)
    squares = left_out.squares[..., 0]
    return np.asarray((squares + explained).sum(axis=1))


def _best(weights: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """The weights ``[B, folds + 1, n]`` of the penalty with the least error ``[B, P]`` in each
    window, out of ``[B, folds + 1, n, P]``.
    """
    best = errors.argmin(axis=1)
    best_weights = np.take_along_axis(weights, best[:, None, None, None], axis=3)
    return best_weights[..., 0]


def _without_each(of_folds: np.ndarray) -> np.ndarray:
    """Sums without each fold, and over all folds, ``[B, folds + 1, ...]``, from the sums of each
    fold ``[B, folds, ...]``.
    """
    total = of_folds.sum(axis=1, keepdims=True)
    return np.concatenate([total - of_folds, total], axis=1)


def _answers(features: np.ndarray, weights: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Answers ``[B, T + F]`` of all rows.

    A row of a fold is answered by the weights without that fold, any other by those of all rows.
    """
    n_folds = weights.shape[1] - 1
    columns = weights[..., None]
    answers = features @ columns[:, -1]
    answers = answers[..., 0]
    for k in range(n_folds):
        rows = np.flatnonzero(fold == k)
        fold_answers = features[:, rows] @ columns[:, k]
        answers[:, rows] = fold_answers[..., 0]
    return answers


def _slope(
    effect: np.ndarray, target: np.ndarray, observed: np.ndarray, lag: int, dependent_rows: int
) -> np.ndarray:
    """Slope ``[B, 1]`` from 0 to 1 of the target's differences on those of the effect.

    Differences are those to ``lag`` rows before. The slope is drawn towards 0 by its uncertainty,
    where ``dependent_rows`` count as one.
    """
    both_observed = _both_observed(observed, lag)
    change = _change(effect, lag) * both_observed
    truth = _change(target, lag) * both_observed
    size = (change**2).sum(axis=1, keepdims=True)
    moving = size > _ROUNDING
    divisor = np.where(moving, size, 1.0)
    product = (change * truth).sum(axis=1, keepdims=True)
    slope = product / divisor
    errors = truth - slope * change
    missed = (errors**2).sum(axis=1, keepdims=True)
    explained = slope**2 * size
    # One minus the inverse of the F statistic, as of so many independent rows.
    n_independent = both_observed.sum(axis=1, keepdims=True) / dependent_rows
    least_explained = np.maximum(n_independent * explained, _ROUNDING)
    doubt = missed / least_explained
    certainty = np.maximum(1 - doubt, 0.0)
    bounded_slope = np.clip(slope, 0.0, 1.0)
    certain_slope = bounded_slope * certainty
    return np.where(moving, certain_slope, 0.0)
