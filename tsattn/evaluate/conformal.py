"""Conformal intervals around the points of any forecaster: fixed after a calibration, or following
the misses.
"""

import copy
import math
from collections import deque
from collections.abc import Sequence
from operator import attrgetter

import numpy as np
import pandas as pd

from tsattn.data.calendar import ticks
from tsattn.data.encoding import CovariateWindows
from tsattn.data.frames import Panel, require_length
from tsattn.data.windows import History, Scaler, Values, check_windows, chunk_size
from tsattn.evaluate.intervals import (
    AdaptiveIntervals,
    KnownScales,
    SeriesScales,
    StepIntervals,
    bounds_around,
    step_of,
    tally_misses,
)
from tsattn.evaluate.rolling import Rolled, judged_rows, roll, rolling_origins, start_rolling
from tsattn.forecaster import Forecaster, check_forecaster
from tsattn.levels import check_request, quantile_to_level

# Rows whose steps tell the size of a long panel's series, where so many stand before the
# calibration span.
_SCALE_ROWS = 32


class SplitConformal(Forecaster):
    """A forecaster with calibrated intervals around the points of another.

    ``fit`` fits a copy of the forecaster on the rows before the calibration span, the last
    ``horizon + step_size * (n_windows - 1)`` rows of each series, and collects its absolute errors
    on rolling windows of that span, step by step. It is not fitted again on the calibration rows:
    the errors would then be another model's. If errors before and after the last row are
    exchangeable, an interval holds its level; overlapping windows and drift weaken that to a good
    approximation, which a backtest's coverage shows.

    A wide table is calibrated channel by channel, with n = ``n_windows`` errors a step. The series
    of a long one with errors share them, n = N * ``n_windows``, each relative to the size of its
    series' errors (:class:`SeriesScales`), so that quiet and noisy series each hold the level. A
    series that was not calibrated, and windows in ``predict_windows``, which do not say whose they
    are, take that size from the steps between their last rows: as many as the forecaster's context,
    32 where that is shorter and so many are there.

    Bounds keep within those of :class:`tsattn.data.windows.Values`, or the point where that is
    beyond, and above 0 for windows without a negative value if the forecaster raises its own
    (``nonnegative``) or the data are counts: all values of that channel in the table of ``fit`` and
    in the window are whole and none is negative.

    Args:
        forecaster: Any forecaster; it stays as it is.
        n_windows: Calibration windows a series. Level 80 needs n >= 4, level 95 n >= 19.
        step_size: Rows between them.

    Attributes:
        forecaster_: The fitted copy, set by ``fit``.
        intervals_: The calibration errors, a :class:`StepIntervals`, set by ``fit``.
        scales_: Size of the errors of each series in the order of ids, ``[N, 1]``; ``None`` for a
            wide table.

    Raises:
        TypeError: If the forecaster is a name or a class.
        ValueError: In ``fit``, if the windows do not fit into a series.
    """

    def __init__(self, forecaster: Forecaster, *, n_windows: int, step_size: int = 1) -> None:
        check_forecaster(forecaster)
        self.forecaster = forecaster
        self.n_windows = n_windows
        self.step_size = step_size
        self._scale_rows: int | None = None  # None: widths are in the units of the data

    @property
    def _inner(self) -> Forecaster:
        """The fitted copy, once there is one."""
        inner: Forecaster = vars(self).get("forecaster_", self.forecaster)
        return inner

    horizon = property(attrgetter("_inner.horizon"), doc="Rows forecast ahead.")
    alias = property(attrgetter("forecaster.alias_"), doc="Name of the columns: the forecaster's.")
    schema = property(
        attrgetter("_inner.schema"), doc="How tables are read: as the forecaster does."
    )
    default_missing = property(
        attrgetter("forecaster.default_missing"), doc="The forecaster's policy for missing values."
    )
    masks = property(
        attrgetter("_inner.masks"), doc="Whether the forecaster leaves missing values out."
    )
    covariate_columns = property(
        attrgetter("forecaster.covariate_columns"), doc="What its next fit reads beside the target."
    )
    covariate_columns_ = property(
        attrgetter("_inner.covariate_columns_"), doc="What the fitted copy reads."
    )

    @property
    def min_context(self) -> int:
        """Rows of history needed, for the point and for one step, which tells a scale."""
        return max(self._inner.min_context, min(self._scale_rows or 1, 2))

    @property
    def max_context(self) -> int:
        """Rows of history that are read where there are so many, for the point and for
        the scale.
        """
        return max(self._inner.max_context, self._scale_rows or 1)

    def _learn(self, panel: Panel) -> None:
        _, judged = judged_rows(self.horizon, n_windows=self.n_windows, step_size=self.step_size)
        require_length(panel, judged + 1, f"a calibration span of {judged} rows with one before it")
        origins = rolling_origins(
            panel.lengths, self.horizon, n_windows=self.n_windows, step_size=self.step_size
        )
        self.forecaster_ = copy.deepcopy(self.forecaster).fit(panel.until(origins[:, 0]))
        inner = self.forecaster_.min_context
        require_length(
            panel,
            judged + inner,
            f"a calibration span of {judged} rows with the context of {self.alias} before it",
        )
        self._scale_rows = None
        self.scales_: np.ndarray | None = None
        if panel.dialect.kind == "long":
            self._scale_rows = max(inner, min(_SCALE_ROWS, int(origins.min())))
        known = ~np.isnan(panel.values)
        self._counts = ((panel.values >= 0) & (panel.values == np.rint(panel.values)) | ~known).all(
            axis=0
        )
        history = History(panel)
        ends = panel.starts[:-1, None] + origins
        errors = self._errors(history, ends.ravel())
        if self._scale_rows is not None:
            steps = step_of(history.contexts(ends[:, 0], self._scale_rows))
            overlap = min(1.0, self.step_size / self.horizon)
            sizes = SeriesScales.of(errors.reshape(*ends.shape, *errors.shape[1:]), steps, overlap)
            self.scales_ = sizes.scales
            self._sizes = KnownScales(pd.Index(panel.ids), sizes.scales, sizes.per_step)
            errors /= sizes.left_out.reshape(len(errors), 1, -1)
        self.intervals_ = StepIntervals(errors)

    def _errors(self, history: History, ends: np.ndarray) -> np.ndarray:
        """Absolute errors of the windows before ``ends [B]``, in units, ``[B, F, C]``."""
        errors = np.empty((len(ends), self.horizon, history.panel.n_channels))
        beside = self.forecaster_.covariate_history(history.panel)
        more = 0 if beside is None else beside.width(self.max_context, self.horizon)
        chunk = chunk_size((self.max_context + self.horizon) * history.panel.n_channels + more)
        for first in range(0, len(ends), chunk):
            part = slice(first, first + chunk)
            x = self.windows(history, ends[part])
            given = None if beside is None else beside.windows(ends[part], x.shape[1], self.horizon)
            errors[part] = np.abs(history.futures(ends[part], self.horizon) - self._point(x, given))
        return errors

    def _point(self, x: np.ndarray, covariates: CovariateWindows | None) -> np.ndarray:
        inner = self.forecaster_.max_context
        given = None if covariates is None else covariates.cut(inner, self.horizon)
        return self.forecaster_.predict_windows(x[:, -inner:], covariates=given)[0]

    def _scale(self, x: np.ndarray) -> np.ndarray:
        if self._scale_rows is None:
            return np.ones((x.shape[0], x.shape[2]))
        return self._sizes.per_step * step_of(x[:, -self._scale_rows :])

    def _checked(self, x: np.ndarray) -> np.ndarray:
        self.check_fitted()
        if not self.masks:
            return super()._checked(x)
        x = np.asarray(x, dtype=np.float64)
        check_windows(
            np.where(np.isnan(x), 0.0, x), self.min_context
        )  # the forecaster looks at what is missing
        return x[:, -self.max_context :]

    def _forecast(
        self, x: np.ndarray, quantiles: Sequence[float], covariates: CovariateWindows | None
    ) -> tuple[np.ndarray, np.ndarray]:
        point = self._point(x, covariates)
        if not len(quantiles):
            return point, np.empty((*point.shape, 0))
        return point, self.bounded(self._around(point, quantiles, self._scale(x)), point, x)

    def predict_before(
        self,
        history: History,
        ends: np.ndarray,
        *,
        quantiles: Sequence[float] = (),
        covariates: CovariateWindows | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`tsattn.forecaster.Forecaster.predict_before`; the scales are those of the
        series, where known.
        """
        x = self.windows(history, ends)
        asked = check_request(None, tuple(quantiles))[2]
        point, bounds = self.predict_windows(
            x, covariates=covariates and covariates.cut(x.shape[1], self.horizon)
        )
        if len(asked):
            bounds = self.bounded(
                self._around(point, asked, self.scale_before(history, ends)), point, x
            )
        return point, bounds

    def _around(
        self, point: np.ndarray, quantiles: Sequence[float], scale: np.ndarray
    ) -> np.ndarray:
        return self.intervals_.apply(point, quantiles, scale)

    def bounded(self, bounds: np.ndarray, point: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Bounds ``[B, F, C, Q]`` around ``point [B, F, C]``, within what can follow
        ``x [B, T, C]``.
        """
        counts = self._counts & ((x == np.rint(x)) | np.isnan(x)).all(axis=1)
        never = (np.fmin.reduce(x, axis=1, initial=np.inf) >= 0) & (
            self.forecaster_.nonnegative | counts
        )
        lower, upper, *_ = Values.after(x).above_zero(never[:, None])
        return np.clip(
            bounds, np.minimum(point, lower)[..., None], np.maximum(point, upper)[..., None]
        )

    def scale_before(self, history: History, ends: np.ndarray) -> np.ndarray:
        """Unit of the errors of the windows that end before rows ``ends [B]``, ``[B, C]``."""
        scale = self._scale(history.reaching(ends, self._scale_rows or 1))
        return (
            scale
            if self.scales_ is None
            else self._sizes.at(self._sizes.places(history.panel, ends), scale)
        )


class AdaptiveConformal(SplitConformal):
    """Calibrated intervals whose levels follow the misses, for streams that drift away from their
    calibration.

    ``fit`` calibrates as :class:`SplitConformal` does. After that :meth:`update` is told truths as
    they become known, moment by moment, and moves the level of each step ahead and channel
    (:class:`AdaptiveIntervals`); the series of a long panel share theirs. ``predict`` and
    ``predict_windows`` only read that state, so ``backtest`` judges the levels as ``fit`` left
    them; :func:`roll_adaptive` judges them in motion.

    Only the levels named here are followed, so only they can be asked for. With fewer calibration
    errors than a level needs, ``fit`` refuses; beyond the largest error the intervals widen by
    doubling, see :class:`AdaptiveIntervals`.

    Args:
        forecaster: Any forecaster; it stays as it is.
        n_windows: Calibration windows a series.
        step_size: Rows between them.
        levels: Central levels in percent that are followed.
        gamma: How fast they follow, above 0. ``None`` takes 0.02, or 0.4 over the horizon where
            that is less: the truth of the last step comes a horizon late, and a level that moves
            much meanwhile swings.

    Attributes:
        adaptive_: The levels in motion, an :class:`AdaptiveIntervals`, set by ``fit``.

    Raises:
        TypeError: If the forecaster is a name or a class.
        ValueError: If a level or ``gamma`` is out of range; in ``fit``, if windows do not fit into
            a series or are too few for a level.
    """

    def __init__(
        self,
        forecaster: Forecaster,
        *,
        n_windows: int,
        step_size: int = 1,
        levels: Sequence[float] = (80, 95),
        gamma: float | None = None,
    ) -> None:
        super().__init__(forecaster, n_windows=n_windows, step_size=step_size)
        self.levels = levels
        if not self.levels_:
            raise ValueError(
                "levels must name at least one level to follow, such as levels=(80, 95); got none"
            )
        if gamma is not None and not (isinstance(gamma, int | float) and 0 < gamma < math.inf):
            raise ValueError(f"gamma must be a number above 0, such as 0.02; got {gamma!r}")
        self.gamma = gamma

    def _learn(self, panel: Panel) -> None:
        super()._learn(panel)
        gamma = min(0.02, 0.4 / self.horizon) if self.gamma is None else float(self.gamma)
        self.adaptive_ = AdaptiveIntervals(self.intervals_, self.levels_, gamma)

    @property
    def levels_(self) -> tuple[float, ...]:
        """The levels, ascending."""
        return check_request(self.levels, None)[0]

    def _around(
        self, point: np.ndarray, quantiles: Sequence[float], scale: np.ndarray
    ) -> np.ndarray:
        return bounds_around(point, self.adaptive_.widths(), self.places(quantiles), scale)

    def places(self, quantiles: Sequence[float]) -> list[tuple[int | None, float]]:
        """Index of the level that each quantile bounds and the side, -1 or 1; the median has none.

        Raises:
            ValueError: If a quantile bounds a level that is not followed.
        """
        places: list[tuple[int | None, float]] = []
        for q in quantiles:
            level = quantile_to_level(float(q)) or None
            if level is not None and level not in self.levels_:
                raise ValueError(
                    f"{type(self).__name__} follows the levels {', '.join(map(str, self.levels_))};"
                    f" got {level}: name it in levels= and fit again"
                )
            places.append(
                (None if level is None else self.levels_.index(level), math.copysign(1.0, q - 0.5))
            )
        return places

    def update(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        widths: np.ndarray | None = None,
        scale: np.ndarray | None = None,
        covariates: CovariateWindows | None = None,
    ) -> None:
        """Tell the truths of one moment's forecasts, in the order of time.

        Args:
            x: The contexts those forecasts were made from, ``[B, T, C]``; B series.
            y: What came, ``[B, F, C]``, NaN where it is not known. A truth is to be told once: a
                later call may tell the steps that an earlier one left out.
            widths: ``adaptive_.widths()`` as it was when those forecasts were made; ``None`` takes
                today's.
            scale: Unit of the errors, ``[B, C]``, as :meth:`scale_before` gives it to forecasts of
                a table; ``None`` is that of ``predict_windows``.
            covariates: Of the same windows, for a forecaster that reads some.

        Raises:
            ValueError: If not fitted or a shape is wrong.
        """
        point = self.predict_windows(x, covariates=covariates)[0]
        y = np.asarray(y, dtype=np.float64)
        if y.shape != point.shape:
            raise ValueError(
                f"y must have the shape of the forecasts, {point.shape}; got {y.shape}: pad"
                " with NaN"
            )
        scale = self._scale(self._checked(x)) if scale is None else scale
        self.adaptive_.update(np.abs(y - point) / scale[:, None, :], widths)


def roll_adaptive(
    forecaster: AdaptiveConformal,
    panel: Panel,
    ends: np.ndarray,
    *,
    scaler: Scaler | None = None,
    quantiles: Sequence[float] | None = None,
    keep: bool = True,
) -> Rolled:
    """Judge windows in the order of their cutoffs while the levels follow what is known at each.

    The truth at step h of a window is known at the first cutoff whose stamp is not before it; only
    then the miss counts, against the width that the window was given. No interval depends on a row
    after its cutoff. The forecaster itself stays as it is.

    Args:
        forecaster: Fitted; its state is where the levels start.
        panel: The series.
        ends: Absolute rows just after each context, any shape, read flat.
        scaler: As in :func:`tsattn.evaluate.rolling.roll`.
        quantiles: Quantiles to judge; ``None`` takes the bounds of all levels followed.
        keep: Keep forecasts. Points are kept meanwhile in any case.

    Raises:
        ValueError: As :func:`tsattn.evaluate.rolling.roll`, or if a quantile bounds a level that is
            not followed.
    """
    asked = check_request(forecaster.levels_ if quantiles is None else None, quantiles)[2]
    places = forecaster.places(asked)
    points = roll(forecaster, panel, ends, scaler=scaler)
    assert points.point is not None
    ends = points.ends
    horizon = forecaster.horizon
    rolled = start_rolling(
        points.alias, panel, ends, points.tally.scale, horizon=horizon, quantiles=asked, keep=keep
    )
    history = History(panel)
    stamps = ticks(panel.times)
    feed = _Feed(copy.deepcopy(forecaster.adaptive_), horizon)
    order = np.lexsort((ends, stamps[ends - 1]))
    moments = np.flatnonzero(np.diff(stamps[ends[order] - 1])) + 1
    for slots in np.split(order, moments) if len(order) else ():
        at = ends[slots]
        feed.learn(stamps[at[0] - 1])
        scale = forecaster.scale_before(history, at)
        point = points.point[slots]
        y = history.futures(at, horizon)
        widths = feed.adaptive.widths()
        bounds = bounds_around(point, widths, places, scale)
        bounds = forecaster.bounded(bounds, point, forecaster.windows(history, at))
        feed.wait(
            stamps[at[0] + np.arange(horizon)],
            *tally_misses(np.abs(y - point) / scale[:, None, :], widths),
        )
        rolled.tally.add(y, point, bounds, np.searchsorted(panel.starts, at - 1, side="right") - 1)
        if rolled.point is not None and rolled.bounds is not None:
            rolled.point[slots] = point
            rolled.bounds[slots] = bounds
    return rolled


class _Feed:
    """Misses that wait until their truths are known; each step ahead is fed in the order of the
    cutoffs.
    """

    def __init__(self, adaptive: AdaptiveIntervals, horizon: int) -> None:
        self.adaptive = adaptive
        self._waiting: deque[tuple[np.ndarray, np.ndarray, np.ndarray]] = deque()
        self._next = np.zeros(
            horizon, dtype=np.int64
        )  # which of those waiting is next, for each step

    def wait(self, stamps: np.ndarray, missed: np.ndarray, largest: np.ndarray) -> None:
        """Keep the misses ``[L, F, C]`` of one moment, whose truths come at ``stamps [F]``."""
        self._waiting.append((stamps, missed, largest))

    def learn(self, now: int) -> None:
        """Feed what is known at the stamp ``now``, one moment a step at a time."""
        while True:
            ready = [
                step
                for step, place in enumerate(self._next)
                if place < len(self._waiting) and self._waiting[place][0][step] <= now
            ]
            if not ready:
                break
            missed = np.full_like(self.adaptive.alphas, np.nan)
            largest = np.full(missed.shape[1:], np.nan)
            for step in ready:
                _, waited, errors = self._waiting[self._next[step]]
                missed[:, step], largest[step] = waited[:, step], errors[step]
            self.adaptive.follow(missed, largest)
            self._next[ready] += 1
        while self._next.min() > 0:
            self._waiting.popleft()
            self._next -= 1
