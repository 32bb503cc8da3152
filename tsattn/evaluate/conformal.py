"""Conformal intervals around the points of any forecaster, fixed or adaptive."""

import copy
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch

from tsattn.catalogue import load_forecaster
from tsattn.checks import warn
from tsattn.data.calendar import more, ticks
from tsattn.data.covariates import CovariateColumns
from tsattn.data.encoding import CovariateWindows
from tsattn.data.panel import BadSeriesError, Panel, require_length, skip_bad
from tsattn.data.stored import require
from tsattn.data.windows import History, Scaler, Values, check_windows
from tsattn.evaluate.intervals import (
    AdaptiveIntervals,
    KnownScales,
    SeriesScales,
    StepIntervals,
    bounds_around,
    can_be_count,
    step_of,
    tally_misses,
)
from tsattn.evaluate.rolling import (
    Rolled,
    judged_rows,
    require_starts,
    roll,
    rolling_origins,
    start_rolling,
)
from tsattn.forecaster import FitContext, Fitted, Forecaster, check_forecaster, learnt
from tsattn.forecasts import Answer, Data, unbounded
from tsattn.levels import check_ascending, check_request, level_to_quantiles, quantile_to_level
from tsattn.locks import in_turn
from tsattn.store import Saved, Tensors

# Rows whose steps tell the size of a long panel's series, where so many stand before the
# calibration span.
_SCALE_ROWS = 32
# Step size of the target shares of misses, by default ...
_USUAL_GAMMA = 0.02
# ... and this number of steps ahead divided by the horizon, if that is less.
_USUAL_GAMMA_STEPS = 0.4


@dataclass(frozen=True, eq=False, kw_only=True)
class ConformalFitted(Fitted):
    """A fitted forecaster and its calibration errors.

    Args:
        forecaster: The fitted copy.
        intervals: The errors, each relative to the size of its series' errors.
        sizes: Size of the errors of each series.
        scale_rows: Rows whose steps tell the size of a series.
        counts: Whether all values of a series are counts, ``[N]``.
    """

    saved_counts = MappingProxyType({"scale_rows": "scale_rows"})

    forecaster: Forecaster
    intervals: StepIntervals
    sizes: KnownScales
    scale_rows: int
    counts: np.ndarray

    @property
    def columns(self) -> CovariateColumns:
        """What the fitted copy reads beside the target."""
        return self.forecaster.covariate_columns_

    @property
    def scales(self) -> np.ndarray:
        """Size of the errors of each series, ``[N, 1]``."""
        return self.sizes.scales

    def tensors(self) -> Tensors:
        """Errors, sizes, and which series hold counts."""
        return {
            "learnt.errors": torch.as_tensor(self.intervals.errors),
            "learnt.scales": torch.as_tensor(self.sizes.scales),
            "learnt.per_step": torch.as_tensor(self.sizes.per_step),
            "learnt.counts": torch.as_tensor(self.counts),
        }

    def inside(self) -> dict[str, Forecaster]:
        """The fitted copy."""
        return {"forecaster": self.forecaster}

    @classmethod
    def restored(cls, forecaster: "SplitConformal", saved: Saved, **common: Any) -> Self:
        """As :meth:`tsattn.forecaster.Fitted.restored`."""
        panel = common["panel"]
        errors = saved.numbers("learnt.errors", (-1, forecaster.horizon, 1))
        scales = saved.numbers("learnt.scales", (panel.n_series, 1))
        per_step = saved.numbers("learnt.per_step", (1,))
        for sizes in (scales, per_step):
            is_positive = (sizes > 0) & np.isfinite(sizes)
            require(bool(is_positive.all()), "sizes of errors")
        counts = saved.tensors["learnt.counts"].numpy()
        fits = counts.shape == (panel.n_series,) and counts.dtype == np.bool_
        require(fits, "counts")
        scale_rows = saved.count("scale_rows")
        require(scale_rows >= forecaster.forecaster.min_context, f"scale_rows = {scale_rows}")
        ids = pd.Index(panel.ids)
        return cls(
            **common,
            forecaster=forecaster.forecaster,
            intervals=StepIntervals(errors),
            sizes=KnownScales(ids, scales, per_step),
            scale_rows=scale_rows,
            counts=counts,
        )


class SplitConformal(Forecaster):
    """Intervals around the points of another forecaster, from its errors on the last windows.

    The last ``horizon + step_size * (n_windows - 1)`` rows of each series are the calibration span.
    ``fit`` fits a copy of the forecaster on the rows before this span, and collects its absolute
    errors on rolling windows of the span, for each step ahead. The copy is not fitted again on
    these rows, because the errors would then belong to another model. An interval holds its level
    if errors before and after the last row are exchangeable. With overlapping windows and drift it
    holds approximately; ``coverage`` in a backtest shows how well. Overlap costs rare counts most;
    ``step_size=horizon`` avoids it.

    All N series share n = N * ``n_windows`` errors. Each error is divided by the size of the errors
    of its series (:class:`SeriesScales`), so that quiet and noisy series both hold the level. For
    series that were not calibrated, such as those too short, and in ``predict_windows``, the size
    comes from the changes between the last rows: as many rows as the forecaster's context, or 32 if
    that is shorter and the series has so many.

    Bounds stay within the repeated limits of a series (:class:`tsattn.data.windows.Values`), unless
    the point is beyond. They are at least 0 for windows without a negative value if the forecaster
    is ``nonnegative`` or the data are counts: whole numbers, none negative, in the table of ``fit``
    and in the window.

    Args:
        forecaster: Any forecaster; it stays as it is.
        n_windows: Calibration windows for each series. Level 80 needs n >= 4, level 95 n >= 19.
        step_size: Rows between the windows.

    Attributes:
        forecaster_: The fitted copy, set by ``fit``.
        intervals_: The calibration errors, a :class:`StepIntervals`, set by ``fit``.
        scales_: Size of the errors of each series in the order of ids, ``[N, 1]``.

    Raises:
        TypeError: If the forecaster is a name or a class.
        ValueError: In ``fit``, if the windows do not fit into a series; in ``predict``, if there
            are too few errors for a level.
    """

    fitted_class: ClassVar[type[Fitted]] = ConformalFitted
    unsaved = ("forecaster",)
    # The middle of symmetric intervals.
    own_point = "median"
    state_: ConformalFitted | None = None

    forecaster_: Forecaster = learnt("forecaster", "The fitted copy.")
    intervals_: StepIntervals = learnt("intervals", "The calibration errors.")
    scales_: np.ndarray = learnt("scales", "Size of the errors of each series, ``[N, 1]``.")
    _sizes: KnownScales = learnt("sizes", "The same by ids.")
    _counts: np.ndarray = learnt("counts", "Whether all values of a series are counts, ``[N]``.")

    def __init__(self, forecaster: Forecaster, *, n_windows: int, step_size: int = 1) -> None:
        check_forecaster(forecaster)
        self.forecaster = forecaster
        self.n_windows = n_windows
        self.step_size = step_size

    @property
    def _inner(self) -> Forecaster:
        """The fitted copy, once there is one."""
        if self.state_ is None:
            return self.forecaster
        return self.state_.forecaster

    @property
    def _scale_rows(self) -> int:
        """Rows whose steps tell the size of a series; known once it is fitted."""
        if self.state_ is None:
            return 1
        return self.state_.scale_rows

    @classmethod
    def _remade(cls, parameters: dict[str, Any], saved: Saved) -> Self:
        folder = saved.inner_folder("forecaster")
        return cls(load_forecaster(folder), **parameters)

    horizon = property(attrgetter("_inner.horizon"), doc="Rows forecast ahead.")
    alias = property(attrgetter("forecaster.alias_"), doc="Name of the columns: the forecaster's.")
    schema = property(
        attrgetter("_inner.schema"), doc="How tables are read: as the forecaster does."
    )
    looks_across = property(
        attrgetter("_inner.looks_across"), doc="Whether series look at one another."
    )
    masks = property(
        attrgetter("forecaster.masks"), doc="Whether its next fit can leave missing values out."
    )
    shares_stamps = property(
        attrgetter("forecaster.shares_stamps"), doc="Whether series need the same stamps."
    )
    masks_ = property(
        attrgetter("_inner.masks_"), doc="Whether the fitted copy leaves missing values out."
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
        # Two rows have one step, from which a size can be read.
        least_rows = min(self._scale_rows, 2)
        return max(self._inner.min_context, least_rows)

    @property
    def max_context(self) -> int:
        """Rows of history that are read where there are so many, for the point and for
        the scale.
        """
        return max(self._inner.max_context, self._scale_rows)

    def read(self, data: Data, *, fitted: bool = False, later: bool = False) -> Panel:
        """A table as it is read; series that the fitted copy refuses are left out, where they may
        be.

        Raises:
            ValueError: As the forecaster's own.
        """
        panel = super().read(data, fitted=fitted, later=later)
        if fitted:
            bad = self.bad_policy(data)

            def read_inside(part: Panel) -> Panel:
                inside = self.with_own_policy(part, fitted=True)
                return self.forecaster_.read(inside, fitted=True, later=later)

            _, panel = skip_bad(panel, read_inside, bad)
        return panel

    @property
    def sampled_quantiles(self) -> tuple[float, ...]:
        """The quantiles that the calibration errors support."""
        return self.intervals_.supported(super().sampled_quantiles)

    def require_starts(self, panel: Panel) -> None:
        """Refuse a panel with a series that the fitted copy cannot forecast.

        Raises:
            BadSeriesError: Naming the series.
        """
        self.forecaster_.require_starts(panel)

    def _fit(self, panel: Panel, context: FitContext) -> ConformalFitted:
        n_series = panel.n_series
        # Others may have a category that no calibrated series has.
        is_bound = self.shares_stamps or self.covariate_columns.static
        bad = "error" if is_bound else self.schema.bad
        fitted, calibrated = skip_bad(panel, lambda part: self._calibrated(part, n_series), bad)
        return fitted if calibrated is panel else self._with_others(fitted, panel)

    def _with_others(self, fitted: ConformalFitted, panel: Panel) -> ConformalFitted:
        """The fit for all series of a panel, of which some could not be calibrated.

        Raises:
            BadSeriesError: Naming series that cannot be forecast either.
        """
        is_other = ~pd.Index(panel.ids).isin(fitted.panel.ids)
        others = panel.chosen(np.flatnonzero(is_other))
        n_needed = self.with_state(fitted).min_context
        require_length(others, n_needed, f"the context of {self.alias}")
        fitted.forecaster.require_starts(others)
        reason = fitted.panel.skipped[-others.n_series].reason
        warn(
            f"{others.series_label(0)}{more(others.n_series)} is not calibrated, since it {reason};"
            " its intervals follow the size of its steps"
        )
        ends = panel.starts[1:]
        places = fitted.sizes.places(panel, ends)
        last_rows = History(panel).reaching(ends, fitted.scale_rows)
        step_scales = fitted.sizes.per_step * step_of(last_rows)
        scales = fitted.sizes.at(places, step_scales)
        sizes = KnownScales(pd.Index(panel.ids), scales, fitted.sizes.per_step)
        counts = _hold_counts(panel) & _of_counts(fitted.counts, places)
        return replace(fitted, panel=panel, sizes=sizes, counts=counts)

    def _calibrated(self, panel: Panel, n_series: int) -> ConformalFitted:
        """The fit on series that all have a calibration span, of a table of ``n_series``."""
        _, judged = judged_rows(self.horizon, n_windows=self.n_windows, step_size=self.step_size)
        require_length(panel, judged + 1, f"a calibration span of {judged} rows with one before it")
        origins = rolling_origins(
            panel.lengths, self.horizon, n_windows=self.n_windows, step_size=self.step_size
        )
        reason = f"a calibration span of {judged} rows with the context of {self.alias} before it"
        try:
            forecaster = copy.deepcopy(self.forecaster).fit(panel.until(origins[:, 0]))
        except BadSeriesError as error:
            # The forecaster knows only the rows before the span.
            if error.n_rows:
                require_length(panel, judged + error.n_rows, reason)
            raise
        require_starts(forecaster, panel, origins)
        n_rows = forecaster.min_context
        require_length(panel, judged + n_rows, reason)
        # A forecaster that was calibrated on one series takes every window for one of that series.
        longest = _SCALE_ROWS if n_series > 1 else 1
        scale_rows = max(n_rows, min(longest, int(origins.min())))
        history = History(panel)
        ends = panel.starts[:-1, None] + origins
        rolled = roll(forecaster, panel, ends)
        errors = np.abs(history.futures(rolled.ends, self.horizon) - rolled.point)
        first_contexts = history.contexts(ends[:, 0], scale_rows)
        steps = step_of(first_contexts)
        # Windows that overlap share their errors.
        overlap = min(1.0, self.step_size / self.horizon)
        errors_of_series = errors.reshape(*ends.shape, *errors.shape[1:])
        sizes = SeriesScales.of(errors_of_series, steps, overlap)
        # In place: the errors of a window by the size of its series without that window.
        errors /= sizes.left_out.reshape(len(errors), 1, -1)
        ids = pd.Index(panel.ids)
        return ConformalFitted(
            panel=panel,
            encoder=forecaster.encoder_,
            forecaster=forecaster,
            intervals=StepIntervals(errors),
            sizes=KnownScales(ids, sizes.scales, sizes.per_step),
            scale_rows=scale_rows,
            counts=_hold_counts(panel),
        )

    def _continued(self, panel: Panel) -> Self:
        """As in every forecaster; the errors stay those of the calibration, and a new series has
        the scale that its forecasts have.
        """
        ends = panel.starts[1:]
        places = self.places_of(panel, ends)
        scales = self.scale_before(History(panel), ends, places)
        ids = pd.Index(panel.ids)
        sizes = KnownScales(ids, scales, self._sizes.per_step)
        counts = _hold_counts(panel) & _of_counts(self._counts, places)
        return self.revised(panel=panel, sizes=sizes, counts=counts)

    def _point(self, x: np.ndarray, covariates: CovariateWindows | None) -> np.ndarray:
        n_read = self.forecaster_.max_context
        if covariates is not None:
            covariates = covariates.cut(n_read, self.horizon)
        context = x[:, -n_read:]
        point, _ = self.forecaster_.predict_windows(context, covariates=covariates)
        return point

    def _scale(self, x: np.ndarray) -> np.ndarray:
        if len(self.scales_) == 1:
            shape = (len(x), x.shape[2])
            return np.broadcast_to(self.scales_, shape)
        last_rows = x[:, -self._scale_rows :]
        return self._sizes.per_step * step_of(last_rows)

    def _checked(self, x: np.ndarray) -> np.ndarray:
        self.check_fitted()
        if not self.masks_:
            return super()._checked(x)
        x = np.asarray(x, dtype=np.float64)
        # The forecaster looks at what is missing.
        filled = np.where(np.isnan(x), 0.0, x)
        check_windows(filled, self.min_context)
        return x[:, -self.max_context :]

    def _forecast(
        self, x: np.ndarray, quantiles: Sequence[float], covariates: CovariateWindows | None
    ) -> Answer:
        point = self._point(x, covariates)
        if not len(quantiles):
            return unbounded(point)
        scale = self._scale(x)
        bounds = self._around(point, quantiles, scale)
        return point, self.bounded(bounds, point, x)

    def predict_before(
        self,
        history: History,
        ends: np.ndarray,
        *,
        quantiles: Sequence[float] = (),
        covariates: CovariateWindows | None = None,
    ) -> Answer:
        """As :meth:`tsattn.forecaster.Forecaster.predict_before`; the scales are those of the
        series, where known.
        """
        self.check_fitted()
        all_quantiles = check_ascending(quantiles)
        point = self.forecaster_.predict_before(history, ends, covariates=covariates)[0]
        if not len(all_quantiles):
            return unbounded(point)
        places = self.places_of(history.panel, ends)
        scale = self.scale_before(history, ends, places)
        bounds = self._around(point, all_quantiles, scale)
        return point, self.bounded_before(bounds, point, history, ends, places)

    def _around(
        self, point: np.ndarray, quantiles: Sequence[float], scale: np.ndarray
    ) -> np.ndarray:
        return self.intervals_.apply(point, quantiles, scale)

    def bounded(
        self,
        bounds: np.ndarray,
        point: np.ndarray,
        x: np.ndarray,
        of_counts: np.ndarray | None = None,
    ) -> np.ndarray:
        """Bounds ``[B, F, C, Q]`` around ``point [B, F, C]``, within what can follow
        ``x [B, T, C]``; ``of_counts [B, 1]`` says whose series hold counts only, where it is known.
        """
        if of_counts is None:
            of_counts = np.full((len(x), 1), self._counts.all())
        counts = of_counts & can_be_count(x).all(axis=1)
        smallest = np.fmin.reduce(x, axis=1, initial=np.inf)
        # Counts are never negative, and some forecasters never give negative values.
        has_floor = self.forecaster_.nonnegative | counts
        never_below = (smallest >= 0) & has_floor
        values = Values.after(x)
        values = values.above_zero(never_below[:, None])
        # The interval keeps the point even where that lies outside.
        lower = np.minimum(point, values.lower)
        upper = np.maximum(point, values.upper)
        return np.clip(bounds, lower[..., None], upper[..., None])

    def bounded_before(
        self,
        bounds: np.ndarray,
        point: np.ndarray,
        history: History,
        ends: np.ndarray,
        places: np.ndarray,
    ) -> np.ndarray:
        """As :meth:`bounded`, for the windows that end before rows ``ends [B]``, of the calibrated
        series at ``places [B]``.
        """
        of_counts = _of_counts(self._counts, places)
        x = self.windows(history, ends)
        return self.bounded(bounds, point, x, of_counts[:, None])

    def places_of(self, panel: Panel, ends: np.ndarray) -> np.ndarray:
        """The calibrated series that each window before rows ``ends [B]`` of a panel belongs to,
        ``[B]``; -1 for a series that was not calibrated.
        """
        return self._sizes.places(panel, ends)

    def scale_before(self, history: History, ends: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Unit of the errors of the windows that end before rows ``ends [B]``, of the calibrated
        series at ``places [B]``, ``[B, C]``.
        """
        x = history.reaching(ends, self._scale_rows)
        return self._sizes.at(places, self._scale(x))


def _hold_counts(panel: Panel) -> np.ndarray:
    """Whether all values of a series are counts or missing, ``[N]``."""
    may_be_count = can_be_count(panel.values[:, 0])
    return np.logical_and.reduceat(may_be_count, panel.starts[:-1])


def _of_counts(counts: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Whether the calibrated series at ``places [B]`` have counts; a new one where all have."""
    return np.where(places >= 0, counts[places], counts.all())


@dataclass(frozen=True, eq=False, kw_only=True)
class AdaptiveFitted(ConformalFitted):
    """A calibration whose levels move.

    Args:
        adaptive: The levels in motion.
    """

    adaptive: AdaptiveIntervals

    def tensors(self) -> Tensors:
        """As :class:`ConformalFitted`, and where the levels are."""
        return super().tensors() | {
            "learnt.alphas": torch.as_tensor(self.adaptive.alphas),
            "learnt.largest": torch.as_tensor(self.adaptive._largest),
        }

    @classmethod
    def restored(cls, forecaster: "SplitConformal", saved: Saved, **common: Any) -> Self:
        """As :class:`ConformalFitted`, with the levels where they were."""
        if not isinstance(forecaster, AdaptiveConformal):
            raise TypeError(f"levels in motion belong to AdaptiveConformal; got {forecaster!r}")
        fixed = ConformalFitted.restored(forecaster, saved, **common)
        adaptive = forecaster._adaptive(fixed.intervals)
        adaptive.alphas = saved.numbers("learnt.alphas", adaptive.alphas.shape)
        adaptive._largest = saved.numbers("learnt.largest", adaptive._largest.shape)
        for values in (adaptive.alphas, adaptive._largest):
            require(bool(np.isfinite(values).all()), "levels in motion")
        require(bool((adaptive._largest >= 0).all()), "largest errors")
        return cls(**vars(fixed), adaptive=adaptive)


class AdaptiveConformal(SplitConformal):
    """Conformal intervals that widen after misses and narrow after hits, for data that drift.

    ``fit`` calibrates as :class:`SplitConformal` does. :meth:`update` then takes the contexts of
    forecasts and observed values as they become known, in the order of time, and adapts the width
    of each level and step ahead (:class:`AdaptiveIntervals`); all series share it. ``predict`` and
    ``predict_windows`` do not adapt anything. ``backtest`` therefore scores the widths after
    ``fit``, and :func:`roll_adaptive` the adapting ones.

    Only the levels named here can be asked for. Beyond the largest calibration error the widths are
    doubled (:class:`AdaptiveIntervals`).

    Args:
        forecaster: Any forecaster; it stays as it is.
        n_windows: Calibration windows for each series.
        step_size: Rows between the windows.
        levels: Central levels in percent that adapt; default 80 and 95.
        gamma: Step size of the adaptation, above 0. ``None`` takes 0.02, or 0.4 / ``horizon`` if
            that is less: errors of the last step are known a horizon later, and widths that move
            much in the meantime oscillate.

    Attributes:
        adaptive_: The current target shares and widths, an :class:`AdaptiveIntervals`, set by
            ``fit``.

    Raises:
        TypeError: If the forecaster is a name or a class.
        ValueError: If a level or ``gamma`` is out of range; in ``fit``, if windows do not fit into
            a series or are too few for a level.
    """

    fitted_class = AdaptiveFitted
    bound = ("levels_", "gamma")
    state_: AdaptiveFitted | None = None

    adaptive_: AdaptiveIntervals = learnt("adaptive", "The levels in motion.")

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
        if gamma is not None:
            is_positive = isinstance(gamma, int | float) and 0 < gamma < math.inf
            if not is_positive:
                raise ValueError(f"gamma must be a number above 0, such as 0.02; got {gamma!r}")
        self.gamma = gamma

    def _fit(self, panel: Panel, context: FitContext) -> AdaptiveFitted:
        fixed = super()._fit(panel, context)
        adaptive = self._adaptive(fixed.intervals)
        return AdaptiveFitted(**vars(fixed), adaptive=adaptive)

    def _adaptive(self, intervals: StepIntervals) -> AdaptiveIntervals:
        """Levels that start where calibration errors put them."""
        gamma = self.gamma
        if gamma is None:
            gamma = min(_USUAL_GAMMA, _USUAL_GAMMA_STEPS / self.horizon)
        return AdaptiveIntervals(intervals, self.levels_, float(gamma))

    @property
    def sampled_quantiles(self) -> tuple[float, ...]:
        """The bounds of the levels, and the median."""
        quantiles = {*level_to_quantiles(self.levels_), 0.5}
        return tuple(sorted(quantiles))

    @property
    def levels_(self) -> tuple[float, ...]:
        """The levels, ascending."""
        return check_request(self.levels, None)[0]

    def _around(
        self, point: np.ndarray, quantiles: Sequence[float], scale: np.ndarray
    ) -> np.ndarray:
        widths = self.adaptive_.widths()
        places = self.places(quantiles)
        return bounds_around(point, widths, places, scale)

    def places(self, quantiles: Sequence[float]) -> list[tuple[int | None, float]]:
        """Index of the level that each quantile bounds and the side, -1 or 1; the median has none.

        Raises:
            ValueError: If a quantile bounds a level that is not followed.
        """
        levels = self.levels_
        places: list[tuple[int | None, float]] = []
        for quantile in quantiles:
            side = math.copysign(1.0, quantile - 0.5)
            # The level of the median is 0.
            level = quantile_to_level(float(quantile))
            if not level:
                places.append((None, side))
                continue
            if level not in levels:
                followed = ", ".join(map(str, levels))
                raise ValueError(
                    f"{type(self).__name__} follows the levels {followed};"
                    f" got {level}: name it in levels= and fit again"
                )
            places.append((levels.index(level), side))
        return places

    @in_turn
    def update(
        self,
        x: Data,
        y: np.ndarray | None = None,
        *,
        widths: np.ndarray | None = None,
        scale: np.ndarray | None = None,
        covariates: CovariateWindows | None = None,
    ) -> Self:
        """Adapt the widths to the observed values of forecasts from one cutoff; call it in the
        order of time. Or append the rows of a table, as every forecaster does; the widths stay.

        Args:
            x: The contexts of these forecasts, ``[B, T, C]``; B series. Without ``y``, a table.
            y: The observed values, ``[B, F, C]``, NaN where not known. Pass each value
                once: a later call may pass the steps that an earlier one left out.
            widths: ``adaptive_.widths()`` at the time of these forecasts; ``None`` takes the
                current ones.
            scale: Unit of the errors, ``[B, C]``, by :meth:`scale_before` for forecasts of a table;
                ``None`` takes that of ``predict_windows``.
            covariates: Covariates of the same windows, for a forecaster that reads some.

        Raises:
            ValueError: If not fitted, a shape is wrong, ``y`` is missing, or a table is faulty.
        """
        if y is None:
            if isinstance(x, np.ndarray) and x.ndim == 3:
                raise ValueError(
                    f"update(x, y) of {type(self).__name__} takes windows and what came after them;"
                    " got no y: pass it, or the rows of a table alone"
                )
            return super().update(x)
        x = np.asarray(x)
        point = self.predict_windows(x, covariates=covariates)[0]
        y = np.asarray(y, dtype=np.float64)
        if y.shape != point.shape:
            raise ValueError(
                f"y must have the shape of the forecasts, {point.shape}; got {y.shape}: pad"
                " with NaN"
            )
        if scale is None:
            x = self._checked(x)
            scale = self._scale(x)
        errors = np.abs(y - point) / scale[:, None, :]
        adaptive = copy.copy(self.adaptive_)
        adaptive.update(errors, widths)
        self.state_ = self.revised(adaptive=adaptive).state_
        return self


def roll_adaptive(
    forecaster: AdaptiveConformal,
    panel: Panel,
    ends: np.ndarray,
    *,
    scaler: Scaler | None = None,
    quantiles: Sequence[float] | None = None,
    keep: bool = True,
) -> Rolled:
    """Score windows in the order of their cutoffs, with widths that adapt in between.

    The observed value at step h of a window is used from the first cutoff on that is not before its
    stamp, and compared with the interval that the window was given. No interval depends on a row
    after its cutoff. The forecaster itself does not change.

    Args:
        forecaster: A fitted forecaster, from whose widths the windows start.
        panel: The series.
        ends: Absolute rows just after each context, of any shape, which is flattened.
        scaler: As in :func:`tsattn.evaluate.rolling.roll`.
        quantiles: Quantiles to score; ``None`` takes the bounds of all levels.
        keep: Whether the result keeps the forecasts.

    Raises:
        ValueError: As :func:`tsattn.evaluate.rolling.roll`, or if a quantile bounds a level that is
            not among ``levels``.
    """
    # By default the levels that are followed.
    levels = forecaster.levels_ if quantiles is None else None
    all_quantiles = check_request(levels, quantiles)[2]
    places = forecaster.places(all_quantiles)
    points = roll(forecaster, panel, ends, scaler=scaler)
    assert points.point is not None
    ends = points.ends
    horizon = forecaster.horizon
    rolled = start_rolling(
        points.alias,
        panel,
        ends,
        points.tally.scale,
        horizon=horizon,
        quantiles=all_quantiles,
        keep=keep,
    )
    history = History(panel)
    stamps = ticks(panel.times)
    adaptive = copy.deepcopy(forecaster.adaptive_)
    feed = _Feed(adaptive, horizon)
    for slots in _moments(ends, stamps):
        cutoffs = ends[slots]
        first = cutoffs[0]
        feed.learn(stamps[first - 1])
        owners = forecaster.places_of(panel, cutoffs)
        scale = forecaster.scale_before(history, cutoffs, owners)
        point = points.point[slots]
        widths = feed.adaptive.widths()
        bounds = bounds_around(point, widths, places, scale)
        bounds = forecaster.bounded_before(bounds, point, history, cutoffs, owners)
        y = history.futures(cutoffs, horizon)
        errors = np.abs(y - point) / scale[:, None, :]
        missed, largest = tally_misses(errors, widths)
        rows_ahead = first + np.arange(horizon)
        feed.wait(stamps[rows_ahead], missed, largest)
        rolled.tally.add(y, point, bounds, panel.owners(cutoffs))
        rolled.keep(slots, point, bounds)
    return rolled


def _moments(ends: np.ndarray, stamps: np.ndarray) -> list[np.ndarray]:
    """Numbers of the windows of each cutoff, in the order of time."""
    if not len(ends):
        return []
    cutoffs = stamps[ends - 1]
    order = np.lexsort((ends, cutoffs))
    ordered = cutoffs[order]
    later = np.flatnonzero(np.diff(ordered)) + 1
    return np.split(order, later)


class _Feed:
    """Misses that wait until their truths are known; each step ahead is fed in the order of the
    cutoffs.
    """

    def __init__(self, adaptive: AdaptiveIntervals, horizon: int) -> None:
        self.adaptive = adaptive
        # For each step the stamps of its truths, its misses [L, C] and its largest errors [C].
        self._waiting: list[deque[tuple[int, np.ndarray, np.ndarray]]] = [
            deque() for _ in range(horizon)
        ]

    def wait(self, stamps: np.ndarray, missed: np.ndarray, largest: np.ndarray) -> None:
        """Keep the misses ``[L, F, C]`` of one moment, whose truths come at ``stamps [F]``."""
        for step, waiting in enumerate(self._waiting):
            waiting.append((stamps[step], missed[:, step], largest[step]))

    def learn(self, stamp: int) -> None:
        """Feed what is known at a stamp, one moment a step at a time."""
        while True:
            # Steps whose next truth is known by the stamp.
            ready = [
                step
                for step, waiting in enumerate(self._waiting)
                if waiting and waiting[0][0] <= stamp
            ]
            if not ready:
                break
            missed = np.full_like(self.adaptive.alphas, np.nan)
            largest = np.full(missed.shape[1:], np.nan)
            for step in ready:
                _, missed[:, step], largest[step] = self._waiting[step].popleft()
            self.adaptive.follow(missed, largest)
