"""Forecasts by a regression of the next rows on the last ones."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tsattn.checks import check_whole, check_whole_or_none, warn
from tsattn.data.calendar import calendar_cycles, season_length
from tsattn.data.cycles import calendar_width
from tsattn.data.encoding import CovariateEncoder, CovariateHistory, CovariateWindows
from tsattn.data.panel import Panel
from tsattn.data.schema import Schema
from tsattn.data.windows import chunk_size
from tsattn.forecaster import FitContext, Fitted, learnt
from tsattn.forecasters.boosted_trees import BoostedTrees
from tsattn.forecasters.deadlines import (
    fit_boosted,
    require_seconds,
    seconds_left,
    spread_order,
)
from tsattn.forecasters.naive import PointForecaster
from tsattn.forecasters.pooled import (
    PooledForecaster,
    choose_context,
    standardise,
    training_windows,
)
from tsattn.forecasters.step_features import StepFeatures
from tsattn.forecasts import Answer, unbounded
from tsattn.random import seed_from

if TYPE_CHECKING:
    from torch import Tensor

    from tsattn.store import Saved

# Root of the mean square of a future, in spreads of its window, above which the window counts for
# less: a calm window before a jump would decide all forecasts by its squared errors. Chosen on
# validation rows of ETT and on development tasks with covariates (docs/log.md).
_CALM_SIZE = 1.5
# Training rows of boosted trees, at most: pairs of a window and one of its steps.
_TREE_ROWS = 100_000
# Share of the time for their features; boosting takes the rest.
_FEATURES_SHARE = 0.4


def _ridge() -> Any:
    from sklearn.linear_model import Ridge

    return Ridge(alpha=1.0)


def _gbm() -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    # Chosen on four development tasks with covariates (docs/log.md, 2026-11-28). Squared errors
    # would let a few rare days decide the forecasts of all others.
    return HistGradientBoostingRegressor(
        loss="absolute_error",
        learning_rate=0.05,
        max_iter=300,
        max_leaf_nodes=63,
        max_features=0.5,
        early_stopping=False,
    )


class _Forests:
    """A forest of boosted trees for each step, or one for all steps, as arrays.

    Their predictions are those of scikit-learn's trees to the bit, and arrays do not depend on the
    version of scikit-learn. Files written before 2026-11-28 have one forest for each of F steps.

    Args:
        roots: First nodes of the trees of each forest, int64 ``[F, trees]``.
        start: Constant of each forest, float64 ``[F]``.
        **nodes: Arrays of the nodes of all trees, as :class:`BoostedTrees` has them.
    """

    def __init__(self, roots: np.ndarray, start: np.ndarray, **nodes: np.ndarray) -> None:
        self.arrays = {"roots": roots, "start": start, **nodes}
        self._forests = []
        for step in range(len(roots)):
            constant = start[step : step + 1]
            forest = BoostedTrees(roots=roots[step], start=constant, **nodes)
            self._forests.append(forest)

    @classmethod
    def of(cls, regressor: Any) -> "_Forests":
        """The trees of a ``HistGradientBoostingRegressor`` without categories."""
        arrays = dict(BoostedTrees.of(regressor).arrays)
        # One forest.
        arrays["roots"] = arrays["roots"][None]
        return cls(**arrays)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predictions ``[n, F]``, or ``[n, 1]`` of one forest, from features ``[n, features]``."""
        return np.stack([forest(x) for forest in self._forests], axis=1)

    def check(self, n_forests: int, n_features: int) -> None:
        """Refuse arrays that are not so many forests over so many features."""
        from tsattn.data.stored import require

        has_forests = len(self._forests) == n_forests
        has_constants = self.arrays["start"].shape == (n_forests,)
        require(has_forests and has_constants, "trees of other steps")
        for forest in self._forests:
            forest.check(n_features)


class _BySteps:
    """A regressor of one target, cloned for each step; a clone reads the covariates of its step
    only.

    The features that all steps read come first; then come ``n_step`` features for each step.
    """

    def __init__(self, regressor: Any, n_shared: int, n_step: int) -> None:
        self.regressor = regressor
        self.n_shared = n_shared
        self.n_step = n_step

    def fit(self, x: np.ndarray, y: np.ndarray) -> "_BySteps":
        """Fit one clone for each column of ``y``."""
        from sklearn.base import clone

        self.estimators_ = []
        for step in range(y.shape[1]):
            features = self._features(x, step)
            estimator = clone(self.regressor)
            fitted = estimator.fit(features, y[:, step])
            self.estimators_.append(fitted)
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predictions ``[n, F]`` from features ``[n, n_shared + F * n_step]``."""
        predictions = []
        for step, estimator in enumerate(self.estimators_):
            features = self._features(x, step)
            predictions.append(estimator.predict(features))
        return np.stack(predictions, axis=1)

    def _features(self, x: np.ndarray, step: int) -> np.ndarray:
        first = self.n_shared + step * self.n_step
        shared = x[:, : self.n_shared]
        of_step = x[:, first : first + self.n_step]
        return np.concatenate([shared, of_step], axis=1)


_REGRESSORS = MappingProxyType({"ridge": _ridge, "gbm": _gbm})


@dataclass(frozen=True, eq=False, kw_only=True)
class RegressionFitted(Fitted):
    """A fitted regressor and what it reads.

    Args:
        context: Lags read.
        n_windows: Training windows used.
        regressor: The fitted regressor; of a loaded ``"gbm"`` its trees.
        steps: What ``"gbm"`` reads of a window and a step; of all others ``None``.
    """

    saved_counts = MappingProxyType({"context": "context_", "n_windows": "n_windows_"})

    context: int
    n_windows: int
    regressor: Any
    steps: StepFeatures | None

    def tensors(self) -> "dict[str, Tensor]":
        """The coefficients or trees."""
        import torch

        regressor = self.regressor
        if self.bound["regressor"] == "ridge":
            arrays = {"coef": regressor.coef_.T, "intercept": regressor.intercept_}
        else:
            trees = regressor
            if not isinstance(regressor, _Forests):
                trees = _Forests.of(regressor)
            arrays = dict(trees.arrays)
        if self.steps is not None:
            # Files with one forest a step lack this array.
            layout = [self.bound["horizon"], self.context, *self.steps.cycles]
            arrays["layout"] = np.array(layout, dtype=np.int64)
        return {f"learnt.{name}": torch.as_tensor(array) for name, array in arrays.items()}

    @classmethod
    def restored(cls, forecaster: "SklearnForecaster", saved: "Saved", **common: Any) -> Self:
        """As :meth:`tsattn.forecaster.Fitted.restored`."""
        from tsattn.data.stored import require

        context = saved.count("context_")
        encoder = common["encoder"]
        horizon = forecaster.horizon
        arrays = {name: tensor.numpy() for name, tensor in saved.part("learnt.").items()}
        layout = arrays.pop("layout", None)
        steps = None
        if layout is not None:
            steps = _step_features(common["panel"].freq, context, horizon, encoder)
            expected_layout = [horizon, context, *steps.cycles]
            fits = layout.tolist() == expected_layout
            require(forecaster.regressor == "gbm" and fits, "trees of other steps or windows")
        n_shared, n_step = _sizes(encoder, context)
        n_features = n_shared + horizon * n_step
        regressor: Any
        if forecaster.regressor != "gbm":
            regressor = _ridge_from(arrays, n_features, horizon)
        else:
            regressor = _Forests(**arrays)
            if steps is None:
                regressor.check(horizon, n_features)
            else:
                regressor.check(1, steps.width)
        n_windows = saved.count("n_windows_")
        return cls(**common, context=context, n_windows=n_windows, regressor=regressor, steps=steps)


def _ridge_from(arrays: Mapping[str, np.ndarray], n_features: int, horizon: int) -> Any:
    """The ridge regression of saved coefficients."""
    from tsattn.data.stored import require

    ridge = _ridge()
    coef = arrays["coef"]
    intercept = arrays["intercept"]
    shapes: list[tuple[int, ...]] = [(n_features, horizon)]
    if horizon == 1:
        shapes.append((n_features,))  # some versions of scikit-learn drop the single target
    require(coef.shape in shapes, f"coefficients of shape {coef.shape}")
    require(intercept.shape == (horizon,), f"intercepts of shape {intercept.shape}")
    for array in (coef, intercept):
        is_double = array.dtype == np.float64
        finite = is_double and bool(np.isfinite(array).all())
        require(finite, "coefficients are no numbers")
    ridge.coef_ = coef.T
    ridge.intercept_ = intercept
    ridge.n_features_in_ = n_features
    return ridge


def _window_weights(y: np.ndarray) -> np.ndarray:
    """Weights ``[n]`` of windows with the futures ``[n, F]``, in spreads of each window.

    A squared error counts as one of a future of the size ``_CALM_SIZE`` at most.
    """
    size = np.sqrt((y**2).mean(axis=1))
    share = _CALM_SIZE / np.maximum(size, _CALM_SIZE)
    return share**2


class SklearnForecaster(PooledForecaster, PointForecaster):
    """A regression of scikit-learn on lags, which forecasts each step ahead directly (direct
    multi-step).

    Features are the last ``context`` values, targets the next ``horizon``. One model learns from
    windows of all series. The last value of a window is subtracted, and the window is divided by
    its standard deviation, so that series of any size share the model, and forecasts follow shifts
    and changes of scale. A constant window forecasts its value.

    Covariates are features as well: the past columns as lags, the future ones by their mean in the
    context and their values at the steps ahead, with the calendar; the static ones as they are.
    Text becomes indicators.

    A regressor that takes several targets is fitted once. Another is fitted once a step, with the
    future columns of that step alone. ``"gbm"`` is one regressor for all steps. It reads pairs of a
    window and a step, with the features of
    :class:`tsattn.forecasters.step_features.StepFeatures`, and subtracts the mean of the window. A
    step reads future columns up to its own row. A future with missing values is used for its other
    steps. ``"gbm"`` forecasts medians. All regressors give points only; wrap one in
    :class:`tsattn.evaluate.conformal.SplitConformal` for intervals.

    Args:
        horizon: Rows forecast ahead.
        regressor: ``"ridge"`` (``Ridge(alpha=1)``, in which calm windows before a jump count for
            less), ``"gbm"`` (300 trees of ``HistGradientBoostingRegressor``), or any regressor of
            scikit-learn, which is cloned.
        context: Lags. ``None`` takes two horizons or one season (of ``"gbm"`` a week of days or
            less), the longer, at most half of what the median series leaves beside one horizon.
            What a series lacks at the front is the mean of its window.
        max_windows: Most training windows; where there are more, so many are drawn. It bounds
            memory. ``"gbm"`` draws steps of them, 100,000 pairs at most.
        random_state: Seed of the draw, and of the regressor where its own is ``None``: an int or a
            numpy generator.
        alias: Name of the column; default the name, or that of the regressor's class.
        schema: How tables are read, covariates among them. Futures that miss a value are no
            training windows.

    Attributes:
        context_: Lags read, set by ``fit``.
        regressor_: The fitted regressor, set by ``fit``; of a loaded ``"gbm"`` its trees. ``save``
            takes the regressors with a name.
        steps_: What ``"gbm"`` reads of a window and a step, set by ``fit``; of all others ``None``.
        n_windows_: Training windows used, set by ``fit``.

    Raises:
        ValueError: If a setting is out of range; in ``fit``, if no series has room for one window.
        TypeError: If ``regressor`` is neither a known name nor a regressor.
    """

    fitted_class = RegressionFitted
    bound = ("horizon", "regressor")

    regressor_: Any = learnt("regressor", "The fitted regressor; of a loaded ``gbm`` its trees.")
    steps_: StepFeatures | None = learnt("steps", "What ``gbm`` reads of a window and a step.")

    def __init__(
        self,
        horizon: int,
        regressor: Any = "ridge",
        *,
        context: int | None = None,
        max_windows: int = 20_000,
        random_state: Any = None,
        alias: str | None = None,
        schema: Schema = Schema(),
    ) -> None:
        is_name = isinstance(regressor, str)
        if is_name and regressor not in _REGRESSORS:
            names = ", ".join(_REGRESSORS)
            raise ValueError(
                f"regressor must be one of {names} or a regressor of scikit-learn;"
                f" got {regressor!r}"
            )
        methods = ("fit", "predict", "get_params")
        has_methods = all(hasattr(regressor, method) for method in methods)
        if not is_name and not has_methods:
            raise TypeError(
                "regressor must have fit, predict and get_params, as scikit-learn's do; got"
                f" {type(regressor).__name__}"
            )
        super().__init__(horizon, alias=alias, schema=schema)
        self.regressor = regressor
        self.context = check_whole_or_none("context", context)
        self.max_windows = check_whole("max_windows", max_windows)
        self.random_state = random_state

    @property
    def name(self) -> str:
        """The name of the regressor, or of its class."""
        if isinstance(self.regressor, str):
            return self.regressor
        return type(self.regressor).__name__

    @property
    def own_point(self) -> str:
        """``"gbm"`` learns from absolute errors."""
        return "median" if self.regressor == "gbm" else "mean"

    def _fit(self, panel: Panel, context: FitContext) -> RegressionFitted:
        pairs = self.regressor == "gbm"
        season = None
        if pairs:
            season = max(_seasons(panel.freq), default=None)
        n_rows = choose_context(panel, self.horizon, self.context, season=season)
        generator = np.random.default_rng(seed_from(self.random_state))
        columns = self.covariate_columns
        encoder = None
        if columns:
            encoder = CovariateEncoder.fit(columns, panel, panel.lengths)
        steps = None
        if pairs:
            steps = _step_features(panel.freq, n_rows, self.horizon, encoder)
            x, y, n_windows = self._pairs(panel, steps, encoder, generator)
        else:
            x, y = self._whole(panel, n_rows, encoder, generator)
            n_windows = len(x)
        from threadpoolctl import threadpool_limits

        seed = int(generator.integers(2**31))
        regressor = self._make(seed, n_rows, encoder)
        # Threads of OpenMP spin while they wait for one another. Where other processes run, two
        # threads take far longer than one.
        with threadpool_limits(limits=1, user_api="openmp"):
            if pairs:
                regressor = fit_boosted(regressor, x, y)
            elif self.regressor == "ridge":
                regressor = regressor.fit(x, y, sample_weight=_window_weights(y))
            else:
                regressor = regressor.fit(x, y)
        return RegressionFitted(
            panel=panel,
            context=n_rows,
            encoder=encoder,
            n_windows=n_windows,
            regressor=regressor,
            steps=steps,
        )

    def _whole(
        self,
        panel: Panel,
        context: int,
        encoder: CovariateEncoder | None,
        generator: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Features ``[n, features]`` and targets ``[n, F]`` of whole windows."""
        z, future, ends = training_windows(
            panel,
            context=context,
            horizon=self.horizon,
            max_windows=self.max_windows,
            generator=generator,
            centre="last",
        )
        if encoder is not None:
            history = CovariateHistory(panel, encoder.columns)
            covariates = history.windows(ends, context, self.horizon)
            z = np.concatenate([z, _features(encoder, covariates)], axis=1)
        return z, future

    def _pairs(
        self,
        panel: Panel,
        features: StepFeatures,
        encoder: CovariateEncoder | None,
        generator: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Features ``[n, features]`` and targets ``[n]`` of pairs of a window and a step, and the
        number of windows, which is smaller where the time is short.
        """
        context = features.context
        z, future, ends = training_windows(
            panel,
            context=context,
            horizon=self.horizon,
            max_windows=self.max_windows,
            generator=generator,
            centre="mean",
            gaps=True,
        )
        n_windows = len(z)
        steps = self._steps(n_windows, generator)
        history = None
        width = context
        if encoder is not None:
            history = CovariateHistory(panel, encoder.columns)
            width = history.width(context, self.horizon)
        size = chunk_size(width)
        rows = []
        targets = []
        n_read = 0
        begun = time.monotonic()
        seconds = _FEATURES_SHARE * seconds_left()
        # Under a limit of time those that come first are spread over all.
        order = spread_order(n_windows) if math.isfinite(seconds) else np.arange(n_windows)
        while n_read < n_windows:
            require_seconds()
            part = order[n_read : n_read + size]
            parts = {}
            if history is not None and encoder is not None:
                covariates = history.windows(ends[part], context, self.horizon)
                parts = encoder.parts(covariates)
            part_steps = steps[part]
            values = np.take_along_axis(future[part], part_steps, axis=1)
            target = values.ravel()
            observed = ~np.isnan(target)
            part_rows = features.rows(z[part], parts, part_steps)
            rows.append(part_rows[observed])
            targets.append(target[observed])
            n_read += len(part)
            if time.monotonic() - begun > seconds:
                break
        return np.concatenate(rows), np.concatenate(targets), n_read

    def _steps(self, n_windows: int, generator: np.random.Generator) -> np.ndarray:
        """Steps of each window that trees learn from, ``[n, s]``: all, or some that are drawn."""
        steps = np.tile(np.arange(self.horizon), (n_windows, 1))
        affordable_steps = _TREE_ROWS // n_windows
        n_steps = int(np.clip(affordable_steps, 1, self.horizon))
        if n_steps == self.horizon:
            return steps
        in_random_order = generator.permuted(steps, axis=1)
        return in_random_order[:, :n_steps]

    covariate_columns = property(
        attrgetter("schema.columns"), doc="Covariates that the next fit reads."
    )

    def _make(self, seed: int, context: int, encoder: CovariateEncoder | None) -> Any:
        from sklearn.base import clone
        from sklearn.utils import get_tags

        if isinstance(self.regressor, str):
            regressor = _REGRESSORS[self.regressor]()
        else:
            regressor = clone(self.regressor)
        # Seeds of nested estimators, as of a pipeline's last step, end in the same name.
        seeds = {}
        for name, value in regressor.get_params().items():
            last_name = name.split("__")[-1]
            if value is None and last_name == "random_state":
                seeds[name] = seed
        regressor.set_params(**seeds)
        if self.regressor == "gbm":
            return regressor
        tags = get_tags(regressor)
        if tags.target_tags.multi_output:
            return regressor
        n_shared, n_step = _sizes(encoder, context)
        return _BySteps(regressor, n_shared, n_step)

    def _forecast(
        self, x: np.ndarray, quantiles: Sequence[float], covariates: CovariateWindows | None
    ) -> Answer:
        point = self._points(x, covariates)
        return unbounded(point)

    def _points(self, x: np.ndarray, covariates: CovariateWindows | None = None) -> np.ndarray:
        n_windows, context, n_channels = x.shape
        if not x.size:
            return np.zeros((n_windows, self.horizon, n_channels))
        # Channels are independent: each is a window for itself, with the covariates of its window.
        by_channel = x.swapaxes(1, 2)
        series = by_channel.reshape(n_windows * n_channels, context)
        if covariates is not None:
            window_of_series = np.repeat(np.arange(n_windows), n_channels)
            covariates = covariates.of(window_of_series)
            covariates = covariates.lengthened(context)
        if self.steps_ is None:
            point = self._points_of_windows(series, covariates)
        else:
            point = self._points_of_pairs(self.steps_, series, covariates)
        if covariates is not None:
            future = covariates.known[:, context:]
            is_missing = np.isnan(future).any(axis=2)
            point[is_missing] = np.nan
        point = point.reshape(n_windows, n_channels, self.horizon)
        return point.swapaxes(1, 2)

    def _points_of_windows(self, x: np.ndarray, covariates: CovariateWindows | None) -> np.ndarray:
        """Points ``[B, F]`` of windows ``[B, T]`` by a regressor that reads whole windows."""
        z, location, spread = standardise(x, centre="last")
        rows = z
        if self.encoder_ is not None and covariates is not None:
            future = covariates.known[:, x.shape[1] :]
            if np.isnan(future).any():
                warn(
                    f"{self.alias_} reads the columns of all {self.horizon} steps together, and"
                    " takes their mean for those that are not given; give all"
                )
            covariate_features = _features(self.encoder_, covariates)
            rows = np.concatenate([z, covariate_features], axis=1)
        answer = self._predicted(rows)
        return location + spread * answer

    def _points_of_pairs(
        self, features: StepFeatures, x: np.ndarray, covariates: CovariateWindows | None
    ) -> np.ndarray:
        """Points ``[B, F]`` of windows ``[B, T]`` by trees that read pairs of a window and a
        step.
        """
        point = np.empty((len(x), self.horizon))
        size = max(1, chunk_size(self.horizon * features.width))
        for first in range(0, len(x), size):
            part = slice(first, first + size)
            z, location, spread = standardise(x[part], centre="mean")
            parts = {}
            if self.encoder_ is not None and covariates is not None:
                part_covariates = covariates.of(part)
                parts = self.encoder_.parts(part_covariates)
            steps = np.tile(np.arange(self.horizon), (len(z), 1))
            rows = features.rows(z, parts, steps)
            point[part] = location + spread * self._predicted(rows)
        return point

    def _predicted(self, rows: np.ndarray) -> np.ndarray:
        """Answers ``[B, F]`` of the regressor to all features of B windows."""
        answer = np.asarray(self.regressor_.predict(rows), dtype=np.float64)
        return answer.reshape(-1, self.horizon)


def _seasons(freq: str | int) -> tuple[int, ...]:
    """Rows of a week and of a day, the longest first; else of the usual season, if any."""
    cycles = calendar_cycles(freq)
    if cycles:
        return cycles
    season = season_length(freq)
    if season > 1:
        return (season,)
    return ()


def _step_features(
    freq: str | int, context: int, horizon: int, encoder: CovariateEncoder | None
) -> StepFeatures:
    """The features that trees read from windows of a frequency."""
    seasons = _seasons(freq)
    cycles = tuple(season for season in seasons if season <= context)
    if encoder is None:
        return StepFeatures(context, horizon, cycles)
    sizes = encoder.sizes
    n_calendar = calendar_width(encoder.columns.calendar)
    n_future = sizes["n_known"] - n_calendar
    return StepFeatures(
        context, horizon, cycles, n_future, n_calendar, sizes["n_past"], sizes["n_static"]
    )


def _sizes(encoder: CovariateEncoder | None, context: int) -> tuple[int, int]:
    """Features that all steps read, lags among them, and those of one step."""
    if encoder is None:
        return context, 0
    sizes = encoder.sizes
    n_step = sizes["n_known"]
    n_lags = context * (1 + sizes["n_past"])  # of the target and of the past columns
    n_shared = n_lags + n_step + sizes["n_static"]  # future columns by their means
    return n_shared, n_step


def _features(encoder: CovariateEncoder, windows: CovariateWindows) -> np.ndarray:
    """Covariates of windows side by side ``[B, n]``: lags, means, statics, then those of each step
    ahead.
    """
    parts = encoder.parts(windows)
    context = windows.past.shape[1]
    n_windows = len(windows.static)
    features = []
    if "past" in parts:
        lags = parts["past"].reshape(n_windows, -1)
        features.append(lags)
    if "known" in parts:
        in_context = parts["known"][:, :context]
        features.append(in_context.mean(axis=1))
    if "static" in parts:
        features.append(parts["static"])
    if "known" in parts:
        future = parts["known"][:, context:]
        ahead = np.nan_to_num(future)  # forecasts of such steps become NaN
        features.append(ahead.reshape(n_windows, -1))
    return np.concatenate(features, axis=1).astype(np.float64)
