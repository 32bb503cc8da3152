"""Forecasts by a regression of the next rows on the last ones."""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from tsattn.data.calendar import calendar_cycles
from tsattn.data.cycles import calendar_width
from tsattn.data.encoding import CovariateEncoder, CovariateHistory, CovariateWindows
from tsattn.data.frames import Panel, season_length
from tsattn.data.schema import Schema
from tsattn.data.windows import chunk_size
from tsattn.forecaster import check_horizon
from tsattn.forecasters.naive import PointForecaster, check_rows
from tsattn.forecasters.pooled import (
    PooledForecaster,
    choose_context,
    drawn_windows,
    standardise,
    training_windows,
)
from tsattn.forecasters.step_features import StepFeatures
from tsattn.random import seed_from

if TYPE_CHECKING:
    from torch import Tensor

# Rows that teach boosted trees at most, each a window and one of its steps.
_TREE_ROWS = 100_000
# Nodes looked at in one go by trees out of a file.
_NODES_AT_ONCE = 2**22


def _ridge() -> Any:
    from sklearn.linear_model import Ridge

    return Ridge(alpha=1.0)


def _gbm() -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    # Chosen on four development tasks with covariates (docs/log.md, 2026-11-28). Absolute errors,
    # since large ones of rare days would bend all others.
    return HistGradientBoostingRegressor(
        loss="absolute_error",
        learning_rate=0.05,
        max_iter=300,
        max_leaf_nodes=63,
        max_features=0.5,
        early_stopping=False,
    )


class _Trees:
    """Boosted trees as arrays, which answer as scikit-learn's own do, to the bit and in any version
    of it.

    There is one forest for all steps, or, in files written before 2026-11-28, one for each of F
    steps.

    Args:
        **arrays: Of all nodes one after the other ``feature``, ``left`` and ``right`` (int64; a
            leaf has itself below it), ``threshold`` and ``value`` (float64); ``roots [F, trees]``
            int64 and ``start [F]`` float64.
    """

    def __init__(self, **arrays: np.ndarray) -> None:
        self.arrays = arrays

    @classmethod
    def of(cls, regressor: Any) -> "_Trees":
        """Those of a ``HistGradientBoostingRegressor`` without categories."""
        forests = [[tree.nodes for (tree,) in regressor._predictors]]
        trees = [tree for forest in forests for tree in forest]
        nodes = np.concatenate(trees)
        starts = np.cumsum([0, *map(len, trees[:-1])])
        first = np.repeat(starts, [len(tree) for tree in trees])
        own = np.arange(len(nodes))
        leaf = nodes["is_leaf"].astype(bool)
        feature = nodes["feature_idx"].astype(np.int64)
        left, right = (
            np.where(leaf, own, first + nodes[side]).astype(np.int64) for side in ("left", "right")
        )
        return cls(
            feature=np.where(leaf, 0, feature),
            threshold=nodes["num_threshold"].astype(np.float64),
            left=left,
            right=right,
            value=nodes["value"].astype(np.float64),
            roots=starts.reshape(len(forests), -1).astype(np.int64),
            start=np.array([regressor._baseline_prediction.item()]),
        )

    def predict(self, x: np.ndarray) -> np.ndarray:
        """``[n, F]``, or ``[n, 1]`` of one forest, of features ``[n, features]``."""
        step = max(1, _NODES_AT_ONCE // self.arrays["roots"].shape[1])
        return np.concatenate(
            [self._descend(x[first : first + step]) for first in range(0, max(len(x), 1), step)]
        )

    def _descend(self, x: np.ndarray) -> np.ndarray:
        feature, threshold, left, right, value, roots, start = (
            self.arrays[name] for name in _TREES
        )
        answer = np.empty((len(x), len(roots)))
        rows = np.arange(len(x))
        for step, forest in enumerate(roots):
            node = np.repeat(forest[:, None], len(x), axis=1)  # [trees, n]
            while True:
                below = np.where(x[rows, feature[node]] <= threshold[node], left[node], right[node])
                if np.array_equal(below, node):
                    break
                node = below
            total = np.full(len(x), start[step])
            for each in value[node]:
                total += each
            answer[:, step] = total
        return answer

    def check(self, n_forests: int, n_features: int) -> None:
        """Refuse arrays that are no trees over so many features, or in which a descent would not
        end.
        """
        from tsattn.data.stored import require

        require(set(self.arrays) == set(_TREES), "trees lack arrays")
        feature, _, left, right, value, roots, start = (self.arrays[name] for name in _TREES)
        own = np.arange(len(feature))
        for name in _TREES:
            whole = self.arrays[name].dtype == (
                np.float64 if name in ("threshold", "value", "start") else np.int64
            )
            require(
                whole and (name in ("roots", "start") or self.arrays[name].shape == own.shape),
                f"{name} of trees",
            )
        require(
            roots.ndim == 2 and len(roots) == n_forests and start.shape == (n_forests,),
            "trees of other steps",
        )
        require(bool(((feature >= 0) & (feature < n_features)).all()), "trees over other features")
        require(bool(((roots >= 0) & (roots < len(own))).all()), "trees without roots")
        for side in (left, right):
            require(bool(((side >= own) & (side < len(own))).all()), "trees with loops")
        require(bool(np.isfinite(value).all() and np.isfinite(start).all()), "trees without values")


class _BySteps:
    """A regressor of one target, cloned for each step, which reads the covariates of that step
    only.

    The features that all steps read come first; those of the steps follow, ``n_own`` each.
    """

    def __init__(self, regressor: Any, n_shared: int, n_own: int) -> None:
        self.regressor = regressor
        self.n_shared = n_shared
        self.n_own = n_own

    def fit(self, x: np.ndarray, y: np.ndarray) -> "_BySteps":
        """Fit one a column of ``y``."""
        from sklearn.base import clone

        self.estimators_ = [
            clone(self.regressor).fit(self._read(x, step), y[:, step]) for step in range(y.shape[1])
        ]
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """``[n, F]`` of features ``[n, n_shared + F * n_own]``."""
        return np.stack(
            [each.predict(self._read(x, step)) for step, each in enumerate(self.estimators_)],
            axis=1,
        )

    def _read(self, x: np.ndarray, step: int) -> np.ndarray:
        first = self.n_shared + step * self.n_own
        return np.concatenate([x[:, : self.n_shared], x[:, first : first + self.n_own]], axis=1)


_TREES = ("feature", "threshold", "left", "right", "value", "roots", "start")
_REGRESSORS: MappingProxyType[str, Callable[[], Any]] = MappingProxyType(
    {"ridge": _ridge, "gbm": _gbm}
)


class SklearnForecaster(PooledForecaster, PointForecaster):
    """A regression of scikit-learn on lags: one answer for each step ahead, none fed back (direct
    multi-step).

    Features are the last ``context`` values, targets the next ``horizon``. Windows of all series
    and channels teach one model; each has its last value taken off and is divided by its standard
    deviation, so that series of any size, seen or not, share it, and forecasts follow shifts and
    changes of scale. A constant window forecasts its value.

    Covariates are features as well: the past columns as lags, the future ones by their mean in the
    context and their values at the steps ahead, with the calendar; the static ones as they are.
    Text becomes indicators.

    A regressor that takes several targets is fitted once; another is fitted once a step, with the
    future columns of that step alone. ``"gbm"`` is one regressor for all steps: it reads windows
    and steps in pairs, their features being those of
    :class:`tsattn.forecasters.step_features.StepFeatures`, with the mean of the window taken off; a
    step reads future columns up to its own row, and futures that miss some values teach by the
    others. It forecasts medians. All give points only; wrap one in
    :class:`tsattn.evaluate.conformal.SplitConformal` for intervals.

    Args:
        horizon: Rows forecast ahead.
        regressor: ``"ridge"`` (``Ridge(alpha=1)``), ``"gbm"`` (300 trees of
            ``HistGradientBoostingRegressor``), or any regressor of scikit-learn, which is cloned.
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

    learnt = ("context_", "n_windows_")
    bound = ("horizon", "regressor")

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
        named = isinstance(regressor, str)
        if named and regressor not in _REGRESSORS:
            raise ValueError(
                f"regressor must be one of {', '.join(_REGRESSORS)} or a regressor of scikit-learn;"
                f" got {regressor!r}"
            )
        if not named and not all(
            hasattr(regressor, each) for each in ("fit", "predict", "get_params")
        ):
            raise TypeError(
                "regressor must have fit, predict and get_params, as scikit-learn's do; got"
                f" {type(regressor).__name__}"
            )
        check_horizon(horizon)
        self.horizon = horizon
        self.alias = alias
        self.schema = schema
        self.regressor = regressor
        self.context = None if context is None else check_rows("context", context, 1)
        self.max_windows = check_rows("max_windows", max_windows, 1)
        self.random_state = random_state

    @property
    def name(self) -> str:
        """The name of the regressor, or of its class."""
        return self.regressor if isinstance(self.regressor, str) else type(self.regressor).__name__

    def _learn(self, panel: Panel) -> None:
        pairs = self.regressor == "gbm"
        season = max(_seasons(panel.freq), default=None) if pairs else None
        context = choose_context(panel, self.horizon, self.context, season=season)
        generator = np.random.default_rng(seed_from(self.random_state))
        columns = self.covariate_columns
        encoder = None
        if columns:
            encoder = CovariateEncoder.fit(columns, panel, panel.lengths)
        self.context_ = context
        self.encoder_ = encoder
        self.steps_ = None
        if pairs:
            self.steps_ = _step_features(panel.freq, context, self.horizon, encoder)
            x, y, self.n_windows_ = self._pairs(panel, self.steps_, generator)
        else:
            x, y = self._whole(panel, generator)
            self.n_windows_ = len(x)
        from threadpoolctl import threadpool_limits

        regressor = self._make(int(generator.integers(2**31)), context, encoder)
        # Threads of OpenMP spin while they wait for one another: beside other processes two take
        # far longer than one.
        with threadpool_limits(limits=1, user_api="openmp"):
            self.regressor_ = regressor.fit(x, y)

    def _whole(self, panel: Panel, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Features ``[n, features]`` and targets ``[n, F]`` of whole windows."""
        context = self.context_
        encoder = self.encoder_
        beside = None
        if encoder is not None:
            history = CovariateHistory(panel, encoder.columns)

            def beside(ends: np.ndarray) -> np.ndarray:
                return _features(encoder, history.windows(ends, context, self.horizon))

        how: dict[str, Any] = {
            "context": context,
            "horizon": self.horizon,
            "max_windows": self.max_windows,
        }
        return training_windows(panel, **how, generator=generator, centre="last", beside=beside)

    def _pairs(
        self, panel: Panel, features: StepFeatures, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Features ``[n, features]`` and targets ``[n]`` of windows and some of their steps, and
        how many windows.
        """
        how: dict[str, Any] = {
            "context": self.context_,
            "horizon": self.horizon,
            "max_windows": self.max_windows,
        }
        z, future, ends = drawn_windows(panel, **how, generator=generator, centre="mean", gaps=True)
        every = np.tile(np.arange(self.horizon), (len(z), 1))
        n_steps = int(np.clip(_TREE_ROWS // len(z), 1, self.horizon))
        steps = generator.permuted(every, axis=1)[:, :n_steps] if n_steps < self.horizon else every
        history = None if self.encoder_ is None else CovariateHistory(panel, self.encoder_.columns)
        size = chunk_size(
            self.context_ if history is None else history.width(self.context_, self.horizon)
        )
        rows = []
        targets = []
        for first in range(0, len(z), size):
            part = slice(first, first + size)
            parts: Mapping[str, np.ndarray] = {}
            if history is not None and self.encoder_ is not None:
                parts = self.encoder_.parts(
                    history.windows(ends[part], self.context_, self.horizon)
                )
            target = np.take_along_axis(future[part], steps[part], axis=1).ravel()
            known = ~np.isnan(target)
            rows.append(features.rows(z[part], parts, steps[part])[known])
            targets.append(target[known])
        return np.concatenate(rows), np.concatenate(targets), len(z)

    covariate_columns = property(
        attrgetter("schema.columns"), doc="What the next fit reads beside the target."
    )

    def _make(self, seed: int, context: int, encoder: CovariateEncoder | None) -> Any:
        from sklearn.base import clone
        from sklearn.multioutput import MultiOutputRegressor
        from sklearn.utils import get_tags

        regressor = (
            _REGRESSORS[self.regressor]()
            if isinstance(self.regressor, str)
            else clone(self.regressor)
        )
        params = regressor.get_params()
        open_seeds = [
            each
            for each in params
            if each.split("__")[-1] == "random_state" and params[each] is None
        ]
        regressor.set_params(**dict.fromkeys(open_seeds, seed))
        if self.steps_ is not None or get_tags(regressor).target_tags.multi_output:
            return regressor
        if encoder is not None:
            return _BySteps(regressor, *_sizes(encoder, context))
        return MultiOutputRegressor(regressor)

    def _forecast(
        self, x: np.ndarray, quantiles: Sequence[float], covariates: CovariateWindows | None
    ) -> tuple[np.ndarray, np.ndarray]:
        self._refuse_quantiles(quantiles)
        point = self._points(x, covariates)
        return point, np.empty((*point.shape, 0))

    def _points(self, x: np.ndarray, covariates: CovariateWindows | None = None) -> np.ndarray:
        n_windows, context, n_channels = x.shape
        if not x.size:
            return np.zeros((n_windows, self.horizon, n_channels))
        if self.steps_ is not None:
            return self._points_of_pairs(self.steps_, x, covariates)
        z, level, spread = standardise(x, centre="last")
        flat = z.swapaxes(1, 2).reshape(n_windows * n_channels, context)
        if self.encoder_ is not None and covariates is not None:
            covariates = covariates.lengthened(context)
            more = _features(self.encoder_, covariates)
            flat = np.concatenate([flat, np.repeat(more, n_channels, axis=0)], axis=1)
        answer = np.asarray(self.regressor_.predict(flat), dtype=np.float64)
        point = level + spread * answer.reshape(n_windows, n_channels, self.horizon).swapaxes(1, 2)
        if covariates is not None:
            point[np.isnan(covariates.known[:, context:]).any(axis=2)] = np.nan
        return point

    def _points_of_pairs(
        self, features: StepFeatures, x: np.ndarray, covariates: CovariateWindows | None
    ) -> np.ndarray:
        """Points ``[B, F, C]`` of trees that read windows and steps in pairs."""
        n_windows, context, n_channels = x.shape
        covariates = None if covariates is None else covariates.lengthened(context)
        point = np.empty((n_windows, self.horizon, n_channels))
        size = max(1, chunk_size(self.horizon * n_channels * features.width))
        for first in range(0, n_windows, size):
            part = slice(first, first + size)
            z, level, spread = standardise(x[part], centre="mean")
            flat = z.swapaxes(1, 2).reshape(-1, context)
            parts: Mapping[str, np.ndarray] = {}
            if self.encoder_ is not None and covariates is not None:
                found = self.encoder_.parts(covariates.of(part))
                parts = {
                    name: np.repeat(values, n_channels, axis=0) for name, values in found.items()
                }
            steps = np.tile(np.arange(self.horizon), (len(flat), 1))
            answer = np.asarray(
                self.regressor_.predict(features.rows(flat, parts, steps)), dtype=np.float64
            )
            point[part] = level + spread * answer.reshape(-1, n_channels, self.horizon).swapaxes(
                1, 2
            )
        if covariates is not None:
            point[np.isnan(covariates.known[:, context:]).any(axis=2)] = np.nan
        return point

    def _learnt_tensors(self) -> "dict[str, Tensor]":
        import torch

        found = self.regressor_
        if self.regressor == "ridge":
            arrays = {"coef": found.coef_.T, "intercept": found.intercept_}
        else:
            arrays = dict((found if isinstance(found, _Trees) else _Trees.of(found)).arrays)
        if self.steps_ is not None:
            # Also the mark by which files with one forest a step are told.
            arrays["layout"] = np.array(
                [self.horizon, self.context_, *self.steps_.cycles], dtype=np.int64
            )
        return {name: torch.as_tensor(array) for name, array in arrays.items()}

    def _take(
        self, tensors: "Mapping[str, Tensor]", facts: Mapping[str, Any], folder: Path
    ) -> None:
        from tsattn.data.stored import require

        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        self.steps_ = None
        if (layout := arrays.pop("layout", None)) is not None:
            self.steps_ = _step_features(
                self.panel_.freq, self.context_, self.horizon, self.encoder_
            )
            expected = [self.horizon, self.context_, *self.steps_.cycles]
            require(
                self.regressor == "gbm" and layout.tolist() == expected,
                "trees of other steps or windows",
            )
            self.regressor_ = _Trees(**arrays)
            self.regressor_.check(1, self.steps_.width)
            return
        n_features = self.context_
        if self.encoder_ is not None:
            n_shared, n_own = _sizes(self.encoder_, self.context_)
            n_features = n_shared + self.horizon * n_own
        if self.regressor == "gbm":
            self.regressor_ = _Trees(**arrays)
            self.regressor_.check(self.horizon, n_features)
            return
        ridge = _ridge()
        coef = arrays["coef"]
        intercept = arrays["intercept"]
        shape = (n_features, self.horizon)
        require(
            coef.shape in (shape, shape[: 1 if self.horizon == 1 else 2]),
            f"coefficients of shape {coef.shape}",
        )
        require(intercept.shape == (self.horizon,), f"intercepts of shape {intercept.shape}")
        for array in (coef, intercept):
            require(
                array.dtype == np.float64 and bool(np.isfinite(array).all()),
                "coefficients are no numbers",
            )
        ridge.coef_ = coef.T
        ridge.intercept_ = intercept
        ridge.n_features_in_ = n_features
        self.regressor_ = ridge


def _seasons(freq: str | int) -> tuple[int, ...]:
    """Rows of a week and of a day, or of the season that a frequency has otherwise; the longest
    first.
    """
    season = season_length(freq)
    return calendar_cycles(freq) or ((season,) if season > 1 else ())


def _step_features(
    freq: str | int, context: int, horizon: int, encoder: CovariateEncoder | None
) -> StepFeatures:
    """What trees read of windows of a frequency."""
    cycles = tuple(cycle for cycle in _seasons(freq) if cycle <= context)
    if encoder is None:
        return StepFeatures(context, horizon, cycles)
    sizes = encoder.sizes
    n_calendar = calendar_width(encoder.columns.calendar)
    n_future = sizes["n_known"] - n_calendar
    return StepFeatures(
        context, horizon, cycles, n_future, n_calendar, sizes["n_past"], sizes["n_static"]
    )


def _sizes(encoder: CovariateEncoder, context: int) -> tuple[int, int]:
    """Features that all steps read, lags among them, and those of one step."""
    sizes = encoder.sizes
    return context * (1 + sizes["n_past"]) + sizes["n_known"] + sizes["n_static"], sizes["n_known"]


def _features(encoder: CovariateEncoder, windows: CovariateWindows) -> np.ndarray:
    """Covariates of windows side by side ``[B, n]``: lags, means, statics, then those of each step
    ahead.
    """
    parts = encoder.parts(windows)
    context = windows.past.shape[1]
    n = len(windows.static)
    found = [parts["past"].reshape(n, -1)] if "past" in parts else []
    if "known" in parts:
        found.append(parts["known"][:, :context].mean(axis=1))
    if "static" in parts:
        found.append(parts["static"])
    if "known" in parts:
        found.append(np.nan_to_num(parts["known"][:, context:]).reshape(n, -1))
    return np.concatenate(found, axis=1).astype(np.float64)
