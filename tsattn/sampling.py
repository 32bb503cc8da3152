"""Sample paths of a fitted forecaster, whose steps depend on one another as its past errors did."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tsattn.checks import warn
from tsattn.data.panel import Panel
from tsattn.data.windows import History, Values, chunk_size, has_value_before, spread_places
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
        quantile_arrays = [forecast.quantiles[level] for level in levels]
        curves = np.stack(quantile_arrays, axis=-1)
        rng = np.random.default_rng(seed)
        dependence = self._dependence(rng)
        n_series = self.panel.n_series
        n_path_values = self.steps * n_samples
        size = max(_CHUNK_VALUES // n_path_values, 1)
        for first in range(0, n_series, size):
            stop = min(first + size, n_series)
            part = slice(first, stop)
            scores = []
            for n in range(first, stop):
                # Each series draws from a generator of its own, whatever part it is in.
                series_rng = np.random.default_rng((seed, n))
                scores.append(dependence.draw(n, n_samples, series_rng))
            part_curves = curves[part]
            paths = values_at(levels, part_curves, np.stack(scores))
            yield part, self._possible(paths, part_curves, part)

    def _possible(self, paths: np.ndarray, curves: np.ndarray, part: slice) -> np.ndarray:
        """Paths without values that the series cannot take: those beyond the bounds and off the
        grid of its history, and those below 0 where neither history nor quantiles are.
        """
        ends = self.panel.starts[1:][part]
        history = History(self.panel)
        x = history.reaching(ends, self.forecaster.max_context)
        history_least = np.fmin.reduce(x, axis=(1, 2))
        least_quantile = curves.min(axis=(1, 2))
        never_below = (history_least >= 0) & (least_quantile >= 0)
        all_values = Values.after(x)
        values = all_values.above_zero(never_below[:, None, None])
        possible_paths = values.nearest(paths[:, :, None])
        return possible_paths[:, :, 0]

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
        longest = int(panel.lengths.max(initial=0))
        n_read = min(forecaster.max_context, longest)
        # Values of a window: its context, and points and quantiles of each step.
        n_outputs = 1 + len(levels)
        width = n_read + forecaster.horizon * n_outputs
        chunk = chunk_size(width)
        for first in range(0, len(ends), chunk):
            part = slice(first, first + chunk)
            part_ends = ends[part]
            covariates = None
            if covariate_history is not None:
                covariates = covariate_history.windows(part_ends, n_read, forecaster.horizon)
            _, bounds = forecaster.predict_before(
                history, part_ends, quantiles=levels, covariates=covariates
            )
            curves = bounds[:, : self.steps, 0]
            scores[part] = scores_of(levels, curves, truth[part], rng)
        return Dependence(scores, owners)

    def _tell_cut(self, n_windows: int) -> None:
        """Warn if the rows of a fit, which keeps no more than are read, have few past windows."""
        longest = int(self.panel.lengths.max())
        n_of_all = self.panel.n_series * _MOST_SERIES_WINDOWS
        n_wanted = min(_MOST_WINDOWS, n_of_all)
        is_cut = longest == self.forecaster.max_context
        if is_cut and n_windows < n_wanted:
            warn(
                f"paths and totals of {self.forecaster.alias_}: a fitted or loaded model keeps the"
                f" last {longest} rows, whose past forecasts are too few to show how steps depend"
                " on one another; pass the whole table, as in total(data=df)"
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
        all_ends = panel.starts[chosen, None] + places
        long_enough = places >= least
        ends = np.sort(all_ends[long_enough])
        # A forecaster that leaves missing values out needs one in each window.
        n_rows = getattr(forecaster, "least_context", forecaster.max_context)
        return ends[has_value_before(panel, ends, n_rows)]


def rows_read(forecaster: Any) -> int:
    """Rows of a series that its forecast and the past windows of its paths read."""
    n_before = max(forecaster.max_context, _LEAST_ROWS)
    n_back = _MOST_SERIES_WINDOWS * forecaster.horizon
    return n_before + n_back


def find_means(forecaster: Any, history: History) -> np.ndarray:
    """Whether the points of the series of a panel are means, ``[N]``."""
    ends = history.panel.starts[1:]
    if forecaster.point != "auto":
        ends = ends[:1]
    x = history.reaching(ends, forecaster.max_context)
    is_mean = forecaster.mean_windows(x)[:, 0, 0]
    return np.broadcast_to(is_mean, history.panel.n_series)
