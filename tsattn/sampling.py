"""Sample paths of a fitted forecaster, whose steps depend on one another as its past errors did."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tsattn.data.panel import Panel
from tsattn.data.windows import History, Values, chunk_size, counts_before, spread_places
from tsattn.paths import Dependence, scores_of, values_at

# Past windows of a series whose errors are scored, at most.
_MOST_SERIES_WINDOWS = 12
# Past windows of all series together, at most. More would cost time and change little.
_MOST_WINDOWS = 256
# Rows before a past window, at least.
_LEAST_ROWS = 8
# Values of the paths that are drawn at once, at most (64 MB).
_CHUNK_VALUES = 2**23


@dataclass(frozen=True, eq=False)
class PathSource:
    """Where the paths of a forecast come from.

    A path takes the quantile of each step at a probability of its own. The probabilities of
    neighbouring steps are alike: they follow a Gaussian copula, whose correlations are those of the
    errors of past forecasts (``tsattn.paths.Dependence``), a horizon apart, each expressed as
    the normal score of the truth under the quantiles of its forecast.

    Args:
        forecaster: A fitted :class:`tsattn.forecaster.Forecaster` that gives quantiles.
        panel: The series.
        steps: Steps ahead F.
        future: Future columns, as ``predict`` takes them.
    """

    forecaster: Any
    panel: Panel
    steps: int
    future: Any = None

    def draws(self, n_samples: int, seed: int) -> Iterator[tuple[slice, np.ndarray]]:
        """The series of each part and their paths, ``[n, F, S]``.

        A path depends on the seed, on its series and on the place of the series among the others.

        Args:
            n_samples: Paths S of a series.
            seed: Seed of the draws.

        Raises:
            ValueError: If the forecaster gives no quantiles.
        """
        levels = self.forecaster.sampled_quantiles
        forecast = self.forecaster.predict(
            self.panel, quantiles=levels, horizon=self.steps, future=self.future
        )
        curves = np.stack([forecast.quantiles[q] for q in levels], axis=-1)
        dependence = self._dependence(np.random.default_rng(seed))
        n_series = self.panel.n_series
        size = max(_CHUNK_VALUES // (self.steps * n_samples), 1)
        for first in range(0, n_series, size):
            part = slice(first, min(first + size, n_series))
            scores = [
                dependence.draw(n, n_samples, np.random.default_rng((seed, n)))
                for n in range(part.start, part.stop)
            ]
            paths = values_at(levels, curves[part], np.stack(scores))
            yield part, self._possible(paths, curves[part], part)

    def _possible(self, paths: np.ndarray, curves: np.ndarray, part: slice) -> np.ndarray:
        """Paths without values that the series cannot take: those beyond the bounds and off the
        grid of its history, and those below 0 where neither history nor quantiles are.
        """
        ends = self.panel.starts[1:][part]
        x = History(self.panel).reaching(ends, self.forecaster.max_context)
        history_least = np.fmin.reduce(x, axis=(1, 2))
        least_quantile = curves.min(axis=(1, 2))
        never_below = (history_least >= 0) & (least_quantile >= 0)
        values = Values.after(x).above_zero(never_below[:, None, None])
        return values.nearest(paths[:, :, None])[:, :, 0]

    def _dependence(self, rng: np.random.Generator) -> Dependence:
        """How the steps of a forecast depend on one another, from past windows."""
        forecaster = self.forecaster.for_dependence.reaching(self.steps)
        levels = forecaster.sampled_quantiles
        panel = self.panel.keep(forecaster.covariate_columns_)
        ends = self._past_ends(forecaster)
        self._tell_cut(len(ends))
        owners = panel.owners(ends)
        history = History(panel)
        truth = history.futures(ends, self.steps)[..., 0]
        scores = np.empty(truth.shape)
        covariate_history = forecaster.covariate_history(panel)
        n_read = min(forecaster.max_context, int(panel.lengths.max(initial=0)))
        width = n_read + forecaster.horizon * (1 + len(levels))
        chunk = chunk_size(width)
        for first in range(0, len(ends), chunk):
            part = slice(first, first + chunk)
            covariates = None
            if covariate_history is not None:
                covariates = covariate_history.windows(ends[part], n_read, forecaster.horizon)
            _, bounds = forecaster.predict_before(
                history, ends[part], quantiles=levels, covariates=covariates
            )
            curves = bounds[:, : self.steps, 0]
            scores[part] = scores_of(levels, curves, truth[part], rng)
        return Dependence(scores, owners)

    def _tell_cut(self, n_windows: int) -> None:
        """Warn if the rows of a fit, which keeps no more than are read, have few past windows."""
        longest = int(self.panel.lengths.max())
        n_wanted = min(_MOST_WINDOWS, self.panel.n_series * _MOST_SERIES_WINDOWS)
        if longest == self.forecaster.max_context and n_windows < n_wanted:
            warnings.warn(
                f"paths and totals of {self.forecaster.alias_}: a fitted or loaded model keeps the"
                f" last {longest} rows, whose past forecasts are too few to show how steps depend"
                " on one another; pass the whole table, as in total(data=df)",
                stacklevel=5,
            )

    def _past_ends(self, forecaster: Any) -> np.ndarray:
        """Absolute rows just after the contexts of past windows, ascending, a horizon apart."""
        panel = self.panel
        n_chosen = min(panel.n_series, _MOST_WINDOWS)
        chosen = spread_places(panel.n_series, _MOST_WINDOWS)
        n_most = min(_MOST_WINDOWS // n_chosen, _MOST_SERIES_WINDOWS)
        n_needed = min(self.steps, forecaster.max_context)
        least = max(forecaster.min_context, n_needed, _LEAST_ROWS)
        reach = self.steps
        # A forecaster may read more steps ahead than are asked for.
        if forecaster.covariate_columns_:
            reach = max(reach, forecaster.horizon)
        back = reach + self.steps * np.arange(n_most)
        places = panel.lengths[chosen, None] - back
        ends = panel.starts[chosen, None] + places
        ends = np.sort(ends[places >= least])
        # A forecaster that leaves missing values out needs one in each window.
        n_values = counts_before(~np.isnan(panel.values[:, 0]))
        rows_read = getattr(forecaster, "least_context", forecaster.max_context)
        read_from = np.maximum(ends - rows_read, panel.starts[panel.owners(ends)])
        return ends[n_values[ends] > n_values[read_from]]
