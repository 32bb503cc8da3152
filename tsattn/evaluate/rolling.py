"""Errors of a fitted forecaster over any number of windows, added up."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tsattn.checks import check_whole, check_whole_or_none
from tsattn.data.panel import Panel
from tsattn.data.windows import History, Scaler, chunk_size, window_sizes
from tsattn.evaluate import metrics
from tsattn.forecaster import Forecaster
from tsattn.forecasts import first_not_finite
from tsattn.levels import central_bounds, check_request

# Statistics are summed in slices that stay in a processor's cache: about 1 MB of float64.
_SLICE_VALUES = 2**17
# Scores that are means, and the sums that they are means of.
_MEANS = {
    "mse": "squared_scaled",
    "mae": "absolute_scaled",
    "mse_original": "squared",
    "mae_original": "absolute",
    "smape": "smape",
}


def judged_rows(horizon: int, *, n_windows: int | None, step_size: int) -> tuple[int, int]:
    """Windows a series, default 1, and the rows at its end that they judge:
    ``horizon + step_size * (n_windows - 1)``.

    Args:
        horizon: Rows forecast ahead.
        n_windows: Windows.
        step_size: Rows between one origin and the next.

    Raises:
        ValueError: If a number is below 1.

    Example:
        >>> judged_rows(2, n_windows=3, step_size=2)
        (3, 6)
    """
    count = 1 if n_windows is None else check_whole("n_windows", n_windows)
    step_size = check_whole("step_size", step_size)
    rows_between = step_size * (count - 1)
    return count, check_whole("horizon", horizon) + rows_between


def rolling_origins(
    lengths: Sequence[int] | np.ndarray,
    horizon: int,
    *,
    n_windows: int | None = None,
    step_size: int = 1,
) -> np.ndarray:
    """Rows of history before each forecast, the last window ending at each series' last row.

    Args:
        lengths: Rows of each series, ``[N]``.
        horizon, n_windows, step_size: As in :func:`judged_rows`; ``n_windows`` is W.

    Returns:
        int64, ``[N, W]``, ascending along W.

    Raises:
        ValueError: As :func:`judged_rows`.

    Example:
        >>> rolling_origins([10], 2, n_windows=3, step_size=2)
        array([[4, 6, 8]])
    """
    count, judged = judged_rows(horizon, n_windows=n_windows, step_size=step_size)
    first = np.asarray(lengths, dtype=np.int64) - judged
    offsets = step_size * np.arange(count)
    return first[:, None] + offsets


class Tally:
    """Sums of errors, streamed: their size does not depend on the number of windows.

    Args:
        scale: Scale of each series and channel, ``[N, C]``.
        horizon: Steps ahead F.
        quantiles: The Q quantiles, ascending.

    Attributes:
        by_step: Each sum over series and windows, ``[F, C]``.
        by_series: Each sum over windows and steps, ``[N, C]``.
    """

    def __init__(self, scale: np.ndarray, horizon: int, quantiles: tuple[float, ...]) -> None:
        self.scale = scale
        self.quantiles = np.asarray(quantiles)
        self.pairs = central_bounds(quantiles)
        coverage_names = map(_inside, self.pairs)
        names = ("count", *_MEANS.values(), "pinball", "size", *coverage_names)
        n_channels = scale.shape[1]
        self.by_step = {name: np.zeros((horizon, n_channels)) for name in names}
        self.by_series = {name: np.zeros(scale.shape) for name in names}

    def add(self, y: np.ndarray, point: np.ndarray, bounds: np.ndarray, series: np.ndarray) -> None:
        """Add windows, ``[B, F, C]`` and ``[B, F, C, Q]``, whose ``series [B]`` ascend."""
        observed = ~np.isnan(y)
        complete = bool(observed.all())
        error = y - point
        smape = metrics.smape_terms(y, point)
        if not complete:
            error = np.where(observed, error, 0.0)
            smape = np.where(observed, smape, 0.0)
        # The windows come series by series.
        first = np.flatnonzero(np.diff(series, prepend=-1))
        count = observed.astype(np.float64)
        absolute = np.abs(error)
        # [S, F, C], one sum for each of the S series in this slice
        sums = {"count": _sum_runs(count, first), "absolute": _sum_runs(absolute, first)}
        # Squared in place, after its absolute values were taken.
        squared = np.square(error, out=error)
        sums["squared"] = _sum_runs(squared, first)
        sums["smape"] = _sum_runs(smape, first)
        owners = series[first]
        scale = self.scale[owners][:, None, :]
        sums["absolute_scaled"] = sums["absolute"] / scale
        sums["squared_scaled"] = sums["squared"] / scale**2
        if len(self.quantiles):
            by_quantile = metrics.pinball_terms(y[..., None], bounds, self.quantiles)
            pinball = by_quantile.sum(axis=-1)
            pinball = np.where(observed, pinball, 0.0)
            size = np.abs(np.where(observed, y, 0.0))
            sums["pinball"] = _sum_runs(pinball, first)
            sums["size"] = _sum_runs(size, first)
            for level, (lower, upper) in self.pairs.items():
                is_above = y >= bounds[..., lower]
                is_below = y <= bounds[..., upper]
                inside = (is_above & is_below).astype(np.float64)
                sums[_inside(level)] = _sum_runs(inside, first)
        for name, term_sums in sums.items():
            self.by_step[name] += term_sums.sum(axis=0)
            self.by_series[name][owners] += term_sums.sum(axis=1)

    def include(self, other: "Tally", series: slice) -> None:
        """Add the sums of other windows, of the series ``series`` among these."""
        for name in self.by_step:
            self.by_step[name] += other.by_step[name]
            self.by_series[name][series] += other.by_series[name]


def _inside(level: float) -> str:
    return f"coverage-{level}"


def _sum_runs(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Sums over the leading axis of the runs that start at ``first``."""
    if len(first) == 1:
        return values.sum(axis=0, keepdims=True)
    return np.add.reduceat(values, first, axis=0)


@dataclass(frozen=True, eq=False)
class Rolled:
    """Scores of one forecaster over windows, and its forecasts where they were kept.

    Attributes:
        alias: Name of the forecaster.
        ends: Absolute rows just after each context, ``[W]``, in the order asked.
        point: ``[W, F, C]``, or ``None`` where forecasts were not kept.
        bounds: Quantile forecasts, ``[W, F, C, Q]``, likewise.
        quantiles: The Q quantiles.
        tally: The sums behind the scores.
    """

    alias: str
    ends: np.ndarray
    point: np.ndarray | None
    bounds: np.ndarray | None
    quantiles: tuple[float, ...]
    tally: Tally

    @property
    def n_windows(self) -> int:
        """Windows judged, of all series together."""
        return len(self.ends)

    @property
    def mae(self) -> float:
        """Mean absolute error on the scaler's scale, every window, step and channel weighing the
        same.
        """
        return self._mean("absolute_scaled")

    @property
    def mse(self) -> float:
        """Mean squared error on the scaler's scale."""
        return self._mean("squared_scaled")

    @property
    def mae_original(self) -> float:
        """Mean absolute error in the units of the data."""
        return self._mean("absolute")

    @property
    def mse_original(self) -> float:
        """Mean squared error in the units of the data."""
        return self._mean("squared")

    @property
    def rmse_original(self) -> float:
        """Root mean squared error in the units of the data."""
        return math.sqrt(self.mse_original)

    @property
    def smape(self) -> float:
        """As :func:`tsattn.evaluate.metrics.smape`."""
        return self._mean("smape")

    @property
    def wql(self) -> float:
        """As :func:`tsattn.evaluate.metrics.wql`, NaN where no quantiles were asked."""
        if not self.quantiles:
            return math.nan
        sums = self.tally.by_step
        # The weighted quantile loss is twice the mean pinball loss by the size of the values.
        pinball = sums["pinball"].sum()
        total = 2 * pinball / len(self.quantiles)
        size = float(sums["size"].sum())
        is_empty = not sums["count"].any()
        return metrics.relative_to(total, size, is_empty)

    @property
    def coverage(self) -> dict[float, float]:
        """Share of truths inside each central level whose two bounds are among the quantiles."""
        return {level: self._mean(_inside(level)) for level in self.tally.pairs}

    @property
    def by_step(self) -> dict[str, np.ndarray]:
        """The scores of each step ahead by name, ``[F]`` each: the means, ``rmse_original``,
        ``wql``, coverages.
        """
        totals = {name: sums.sum(axis=1) for name, sums in self.tally.by_step.items()}
        return self._scores(totals)

    @property
    def by_series(self) -> dict[str, np.ndarray]:
        """The same scores of each series and channel, ``[N, C]`` each."""
        return self._scores(self.tally.by_series)

    def _mean(self, name: str) -> float:
        sums = self.tally.by_step
        total = sums[name].sum()
        count = sums["count"].sum()
        return ratio(total, count)

    def _scores(self, sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The scores that sums give, in the order of ``BacktestResult.scores``."""
        count = sums["count"]
        scores = {name: metrics.ratios(sums[term], count) for name, term in _MEANS.items()}
        scores["rmse_original"] = np.sqrt(scores["mse_original"])
        # Moved to the end of the scores without quantiles.
        scores["smape"] = scores.pop("smape")
        if self.quantiles:
            pinball = 2 * sums["pinball"] / len(self.quantiles)
            scores["wql"] = metrics.ratios(pinball, sums["size"])
        for level in self.tally.pairs:
            name = _inside(level)
            scores[name] = metrics.ratios(sums[name], count)
        return scores

    def keep(self, slots: np.ndarray, point: np.ndarray | None, bounds: np.ndarray | None) -> None:
        """Store the forecasts of the windows ``ends[slots]``, where forecasts are kept."""
        if self.point is not None and self.bounds is not None:
            self.point[slots] = point
            self.bounds[slots] = bounds

    def mase(self, seasonal: np.ndarray) -> float:
        """Mean over series and channels of MAE over the training span's seasonal error.

        Args:
            seasonal: Seasonal-naive error of each series and channel, ``[N, C]``.

        Returns:
            Series without a scale are left out with a warning; NaN where none is left.
        """
        mae = self.by_series["mae_original"]
        judged = ~np.isnan(mae)
        if not judged.any():
            return math.nan
        scaled = metrics.scaled_by(mae[judged], seasonal[judged], "mase")
        # One value comes back as a number.
        scaled = np.atleast_1d(scaled)
        n_finite = np.isfinite(scaled).sum()
        return ratio(np.nansum(scaled), n_finite)


def ratio(total: float, count: float) -> float:
    """``total / count``, NaN where nothing was counted."""
    if not count:
        return math.nan
    return float(total / count)


def roll(
    forecaster: Forecaster,
    panel: Panel,
    ends: np.ndarray,
    *,
    scaler: Scaler | None = None,
    quantiles: Sequence[float] = (),
    chunk: int | None = None,
    keep: bool = True,
    tell: Callable[[int], None] | None = None,
) -> Rolled:
    """Judge a fitted forecaster on windows; it is never fitted here, and only ``predict_before`` is
    called.

    Args:
        forecaster: Fitted.
        panel: The series.
        ends: Absolute rows just after each context, any shape, read flat: ``panel.starts[n]`` and
            the rows of history. Contexts may reach back as far as the series does.
        scaler: Scale of ``mse`` and ``mae``; ``None`` leaves them in the units of the data.
        quantiles: Quantiles to ask for.
        chunk: Windows in one call; ``None`` bounds number and memory. Scores do not depend on it.
        keep: Keep forecasts. Without them memory does not grow with the number of windows.
        tell: Called with the number of windows of each call.

    Raises:
        ValueError: If a window leaves its series, or a forecast has the wrong shape or is not
            finite.
    """
    all_quantiles = check_request(None, quantiles)[2]
    check_whole_or_none("chunk", chunk)
    ends = np.asarray(ends, dtype=np.int64).ravel()
    scale = 1.0 if scaler is None else scaler.scale
    rolled = start_rolling(
        forecaster.alias_,
        panel,
        ends,
        scale,
        horizon=forecaster.horizon,
        quantiles=all_quantiles,
        keep=keep,
    )
    slots = np.argsort(ends, kind="stable")
    history = History(panel)
    judge_windows(rolled, forecaster, history, slots, chunk=chunk, tell=tell)
    return rolled


def start_rolling(
    alias: str,
    panel: Panel,
    ends: np.ndarray,
    scale: np.ndarray | float,
    *,
    horizon: int,
    quantiles: tuple[float, ...],
    keep: bool,
) -> Rolled:
    """A result with no window judged yet; :func:`judge_windows` fills it, in several calls where
    models refit.
    """
    scale = np.broadcast_to(scale, (panel.n_series, panel.n_channels))
    shape = (len(ends), horizon, panel.n_channels)
    point = np.empty(shape) if keep else None
    bounds = np.empty((*shape, len(quantiles))) if keep else None
    tally = Tally(scale, horizon, quantiles)
    return Rolled(alias, ends, point, bounds, quantiles, tally)


def require_starts(forecaster: Forecaster, panel: Panel, origins: np.ndarray) -> None:
    """Refuse series of which a window cannot be forecast, such as those without a value among the
    rows that are read.

    Args:
        forecaster: Fitted.
        panel: The series.
        origins: Rows of history before each window, ``[N, W]``.

    Raises:
        BadSeriesError: Naming the series.
    """
    if np.isnan(panel.values).any():
        for stops in origins.T:
            forecaster.require_starts(panel.until(stops))


def judge_windows(
    rolled: Rolled,
    forecaster: Forecaster,
    history: History,
    slots: np.ndarray,
    *,
    chunk: int | None = None,
    tell: Callable[[int], None] | None = None,
) -> None:
    """Judge the windows ``rolled.ends[slots]``, which ascend, and add them to ``rolled``; ``tell``
    their numbers.
    """
    panel = history.panel
    steps = forecaster.horizon
    _check_inside(panel, rolled.ends[slots], forecaster.min_context, steps)
    covariate_history = forecaster.covariate_history(panel)
    n_answers = 1 + len(rolled.quantiles)
    n_read, n_values = window_sizes(
        panel, covariate_history, context=forecaster.max_context, n_steps=steps, n_answers=n_answers
    )
    if chunk is None:
        # Forecasts stand in memory up to three times: on their way out, as they came, and compared
        # with the truth.
        chunk = chunk_size(3 * n_values)
    for part in _parts(forecaster, panel, rolled.ends, slots, chunk):
        ends = rolled.ends[part]
        covariates = None
        if covariate_history is not None:
            covariates = covariate_history.windows(ends, n_read, steps)
        point, bounds = forecaster.predict_before(
            history, ends, quantiles=rolled.quantiles, covariates=covariates
        )
        bad = first_not_finite(point, bounds)
        if bad is not None:
            end = ends[[bad]]
            series = panel.series_label(int(panel.owners(end)[0]))
            raise ValueError(
                f"{rolled.alias} gave a forecast that is not finite for {series} after"
                f" {panel.times[end - 1][0]}; look at the scale of its values"
            )
        rolled.keep(part, point, bounds)
        _add_windows(rolled.tally, history, ends, point, bounds)
        if tell is not None:
            tell(len(point))


def _add_windows(
    tally: Tally, history: History, ends: np.ndarray, point: np.ndarray, bounds: np.ndarray
) -> None:
    """Add the errors of windows to a tally, slice by slice."""
    _, steps, _, n_quantiles = bounds.shape
    window_values = steps * (1 + n_quantiles)
    size = max(1, _SLICE_VALUES // window_values)
    series = history.panel.owners(ends)
    for first in range(0, len(point), size):
        part = slice(first, first + size)
        y = history.futures(ends[part], steps)
        tally.add(y, point[part], bounds[part], series[part])


def _parts(
    forecaster: Forecaster, panel: Panel, ends: np.ndarray, slots: np.ndarray, chunk: int
) -> Iterator[np.ndarray]:
    """Windows that are forecast together, each part in the order of its ends.

    One window of series that look at one another shows them all: the windows of one moment then
    stand together, so that few are forecast twice.
    """
    if forecaster.looks_across:
        # Windows of one moment stay together, one of each series.
        slot_ends = ends[slots]
        first_rows = panel.starts[panel.owners(slot_ends)]
        moment = slot_ends - first_rows
        slots = slots[np.argsort(moment, kind="stable")]
        n_moments = max(chunk // panel.n_series, 1)
        chunk = n_moments * panel.n_series
    for first in range(0, len(slots), chunk):
        part = slots[first : first + chunk]
        order = np.argsort(ends[part], kind="stable")
        yield part[order]


def _check_inside(panel: Panel, ends: np.ndarray, context: int, horizon: int) -> None:
    """Refuse windows that leave their series."""
    series = panel.owners(ends)
    inside = (series >= 0) & (series < panel.n_series)
    series = np.where(inside, series, 0)
    inside &= ends - context >= panel.starts[series]
    inside &= ends + horizon <= panel.starts[series + 1]
    if not inside.all():
        end = ends[int(np.argmin(inside))]
        raise ValueError(
            f"a window needs {context} rows before its end row and {horizon} from it on, within one"
            f" series; got end row {end}: move it, or use a smaller"
            " context or horizon"
        )
