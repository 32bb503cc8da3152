"""Columns for forecasters that read none: regressions before and after them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tsattn.data.covariates import CovariateColumns
from tsattn.data.cycles import calendar_width, season_cycle
from tsattn.data.encoding import CovariateEncoder, CovariateWindows
from tsattn.data.frames import Panel
from tsattn.data.stored import require
from tsattn.forecasters.boosted_trees import BoostedTrees
from tsattn.forecasters.local_regression import LocalRegression
from tsattn.forecasters.pooled_regression import PooledRegression, WindowFeatures, numeric_columns

# Points [B, F, C] and quantiles [B, F, C, Q] of contexts [B, T, C], without covariates.
Base = Callable[[np.ndarray, Sequence[float]], tuple[np.ndarray, np.ndarray]]

# Shares of the local regression that are tried.
SHARES = (0.0, 0.5, 1.0)
# A mean and a spread are those of so many seasons, and of so many rows at least.
_SEASONS = 7
_LEAST_ROWS = 32
# Numbers of the features of windows that are read together.
CHUNK_VALUES = 2**23
# Steps of a season, a cycle or a horizon at most in a saved model, so that no file asks for much
# memory.
_LONGEST = 2**16


@dataclass(frozen=True, eq=False)
class CovariateRegression:
    """What columns add to the forecasts of a base that reads none.

    Three regressions have an opinion. The local one is fitted inside each window
    (:class:`tsattn.forecasters.local_regression.LocalRegression`): the base forecasts what its
    effect leaves of the target, and the effect is added. The pooled one, a ridge regression, and
    the trees forecast the error that is left, from the columns, the calendar and the forecast, in
    units of a window's spread, so that all series and channels share them. All weights are 0 where
    "no columns" forecast as well on windows held out.

    Attributes:
        encoder: How columns are read.
        horizon: Steps of the windows that were learnt from.
        season: Steps of the season; 1 for none.
        cycle: Steps of its longer cycle; 0 for none.
        share: Share of the forecast of what the local regression leaves, 0, 0.5 or 1; the rest is
            the base's own.
        pooled: Regression of the error that is left, if it has a weight.
        trees: Trees for the same error, if they have a weight.
        pooled_weight: Factor of the pooled regression.
        trees_weight: Factor of the trees; the sum of both is at most 1.
        band_factor: Factor of the distance of quantiles to the point.
        error_ratio: Error on the windows held out, as a share of the base's.
    """

    encoder: CovariateEncoder
    horizon: int
    season: int = 1
    cycle: int = 0
    share: float = 0.0
    pooled: PooledRegression | None = None
    trees: BoostedTrees | None = None
    pooled_weight: float = 0.0
    trees_weight: float = 0.0
    band_factor: float = 1.0
    error_ratio: float = 1.0

    @property
    def rows(self) -> int:
        """Last rows of a window that its level and spread are of."""
        return max(_SEASONS * self.season, _LEAST_ROWS)

    @property
    def local(self) -> LocalRegression:
        """The regression inside each window."""
        return LocalRegression(self.horizon, self.season, self.cycle)

    @property
    def active(self) -> bool:
        """Whether a forecast differs from the base's."""
        return self.share > 0 or self.pooled is not None or self.trees is not None

    @property
    def reads_rows(self) -> bool:
        """Whether there are columns for the local regression: past or future ones, no calendar."""
        sizes = self.encoder.sizes
        return sizes["n_past"] + sizes["n_known"] > calendar_width(self.encoder.columns.calendar)

    def forecast(
        self, base: Base, x: np.ndarray, quantiles: Sequence[float], covariates: CovariateWindows
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points ``[B, F, C]`` and quantiles ``[B, F, C, Q]`` of contexts ``[B, T, C]``.

        They are the base's own where no regression has a weight. A step whose future columns are
        NaN is NaN otherwise.
        """
        if not self.active:
            return base(x, quantiles)
        effect = self.effects(x, covariates)
        point, bounds = self.blended(base, x, quantiles, effect)
        completed = point + self.corrections(point, x, covariates, effect)
        return completed, completed[..., None] + self.band_factor * (bounds - point[..., None])

    def effects(self, x: np.ndarray, covariates: CovariateWindows) -> np.ndarray:
        """What columns contribute to all rows by the local regression, ``[B, T + F, C]``."""
        unknown = np.isnan(covariates.known).any(axis=2)
        effect = np.zeros((*unknown.shape, x.shape[2]))
        if self.reads_rows:
            parts = self.encoder.parts(covariates)
            n_future = self.encoder.sizes["n_known"] - calendar_width(self.encoder.columns.calendar)
            columns = parts.get("known", np.empty((*unknown.shape, 0)))[..., :n_future].astype(
                np.float64
            )
            past = parts.get("past", np.empty((*x.shape[:2], 0))).astype(np.float64)
            numeric = numeric_columns(self.encoder)
            local = self.local
            for c in range(x.shape[2]):
                effect[..., c] = local.effects(x[..., c], columns, past, numeric)
        effect[unknown] = np.nan
        return effect

    def blended(
        self, base: Base, x: np.ndarray, quantiles: Sequence[float], effect: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Forecasts before the correction: the base's own and those of what the effect leaves, by
        their shares.
        """
        n_rows = x.shape[1]
        answers = []
        shares = []
        if self.share < 1:
            answers.append(base(x, quantiles))
            shares.append(1 - self.share)
        if self.share > 0:
            point, bounds = base(x - effect[:, :n_rows], quantiles)
            ahead = effect[:, n_rows : n_rows + point.shape[1]]
            answers.append((point + ahead, bounds + ahead[..., None]))
            shares.append(self.share)
        point, bounds = (
            sum(share * part for share, part in zip(shares, parts, strict=True))
            for parts in zip(*answers, strict=True)
        )
        return np.asarray(point), np.asarray(bounds)

    def corrections(
        self, point: np.ndarray, x: np.ndarray, covariates: CovariateWindows, effect: np.ndarray
    ) -> np.ndarray:
        """What the pooled regression and the trees add to points ``[B, F, C]``; NaN where a column
        is not known.
        """
        correction = np.zeros(point.shape)
        width = (point.shape[1] + x.shape[1]) * max(self.encoder.sizes["n_known"], 1) + point.shape[
            1
        ] * 64
        size = max(1, CHUNK_VALUES // width)
        for first in range(0, len(x), size):
            part = slice(first, first + size)
            for c in range(x.shape[2]):
                features = self.features(x[part, :, c], covariates.of(part))
                ahead = effect[part, x.shape[1] :][:, : point.shape[1], c]
                correction[part, :, c] = features.spread * self._errors(
                    features, point[part, :, c], ahead
                )
        unknown = np.isnan(covariates.known[:, x.shape[1] :]).any(axis=2)[:, : point.shape[1]]
        correction[:, : unknown.shape[1]][unknown] = np.nan
        return correction

    def features(self, x: np.ndarray, covariates: CovariateWindows) -> WindowFeatures:
        """Contexts ``[B, T]`` of one channel and their columns as the regressions read them."""
        return WindowFeatures(self.encoder, x, covariates, rows=self.rows, horizon=self.horizon)

    @property
    def seasons(self) -> tuple[int, ...]:
        """The season and its cycle in steps, those that there are."""
        return tuple(length for length in (self.season, self.cycle) if length > 1)

    def _errors(
        self, features: WindowFeatures, point: np.ndarray, effect: np.ndarray
    ) -> np.ndarray:
        """The expected error of points ``[B, F]`` in units of the window."""
        error = np.zeros(point.shape)
        if self.pooled is not None:
            error += self.pooled_weight * np.nan_to_num(
                self.pooled(features.of_point(point, self.pooled.squares))
            )
        if self.trees is not None:
            error += self.trees_weight * self.trees(features.of_trees(point, effect, self.seasons))
        return error

    def n_features(self, squares: bool) -> int:
        """Features that the pooled regression reads."""
        return int(self._example().of_point(np.zeros((1, 1)), squares).shape[2])

    def n_tree_features(self) -> int:
        """Features that the trees read."""
        zero = np.zeros((1, 1))
        return int(self._example().of_trees(zero, zero, self.seasons).shape[2])

    def _example(self) -> WindowFeatures:
        columns = self.encoder.columns
        n_rows = max((*self.seasons, 1))
        nothing = CovariateWindows(
            np.zeros((1, n_rows, len(columns.past))),
            np.zeros((1, n_rows + 1, len(columns.future) + calendar_width(columns.calendar))),
            np.array(
                [[0.0 if known is None else known[0] for known in self.encoder.categories]],
                dtype=object,
            ),
        )
        return self.features(np.ones((1, n_rows)), nothing)

    # --- saved folders ----------------------------------------------------------------------------

    _NUMBERS = ("share", "pooled_weight", "trees_weight", "band_factor", "error_ratio")

    def facts(self) -> dict[str, Any]:
        """What JSON holds of it; the encoder is no part of it."""
        pooled = (
            None
            if self.pooled is None
            else {"offset": self.pooled.offset, "squares": self.pooled.squares}
        )
        sizes = {name: getattr(self, name) for name in ("horizon", "season", "cycle")}
        return {**sizes, **{name: getattr(self, name) for name in self._NUMBERS}, "pooled": pooled}

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights of the pooled regression and the trees, by names that begin with
        ``covariate_regression.``.
        """
        arrays = (
            {}
            if self.trees is None
            else {f"trees.{name}": a for name, a in self.trees.arrays.items()}
        )
        if self.pooled is not None:
            arrays["pooled"] = self.pooled.weights
        return {f"{PREFIX}{name}": array for name, array in arrays.items()}

    @classmethod
    def rebuilt(
        cls, encoder: CovariateEncoder, facts: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> CovariateRegression:
        """Undo :meth:`facts` and :meth:`arrays`.

        Raises:
            ValueError: If something is not what they gave; also LookupError or TypeError.
        """
        sizes: dict[str, Any] = {name: facts[name] for name in ("horizon", "season", "cycle")}
        for name, size in sizes.items():
            require(type(size) is int and 0 <= size <= _LONGEST, f"{name} = {size!r:.40}")
        require(sizes["horizon"] >= 1 and sizes["season"] >= 1, f"sizes {sizes}")
        numbers: dict[str, Any] = {name: float(facts[name]) for name in cls._NUMBERS}
        for name, number in numbers.items():
            require(0 <= number < np.inf, f"{name} = {number}")
        require(numbers["share"] in SHARES and numbers["band_factor"] > 0, f"numbers {numbers}")
        own = cls(encoder, **sizes, **numbers)
        trees = {
            n.removeprefix(f"{PREFIX}trees."): a
            for n, a in arrays.items()
            if n.startswith(f"{PREFIX}trees.")
        }
        if trees:
            own = replace(own, trees=BoostedTrees(**trees))
            assert own.trees is not None
            own.trees.check(own.n_tree_features())
        if facts["pooled"] is None:
            return own
        weights = arrays[f"{PREFIX}pooled"]
        offset = facts["pooled"]["offset"]
        squares = facts["pooled"]["squares"]
        require(
            type(squares) is bool and bool(np.isfinite(offset)),
            "a pooled regression without numbers",
        )
        fits = weights.shape == (own.n_features(squares),) and weights.dtype == np.float64
        require(fits and bool(np.isfinite(weights).all()), f"weights of shape {weights.shape}")
        return replace(own, pooled=PooledRegression(weights, float(offset), squares))


# How names of saved arrays begin, and what is wrong with files of the development version before.
PREFIX = "covariate_regression."
OUTDATED = (
    "it holds another regression on columns, of a version before 0.1; fit and save the model again"
)


def make_encoder(columns: CovariateColumns, panel: Panel) -> CovariateEncoder:
    """How covariates are read; the calendar begins with the season's own cycle, and has the weekday
    of hours and less.

    Args:
        columns: What is to be read.
        panel: All rows.

    Raises:
        ValueError: As :meth:`tsattn.data.encoding.CovariateEncoder.fit`.
    """
    encoder = CovariateEncoder.fit(columns, panel, panel.lengths)
    season = season_cycle(panel.freq)
    first = () if season is None else (season, "weekday") if season == "hour" else (season,)
    cycles = tuple(dict.fromkeys((*first, *encoder.columns.calendar)))
    return replace(encoder, columns=replace(encoder.columns, calendar=cycles))
