"""Forecasts by a regression of the next rows on the last ones."""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from tsattn.data.encoding import CovariateEncoder, CovariateHistory, CovariateWindows
from tsattn.data.frames import Panel
from tsattn.data.schema import Schema
from tsattn.forecaster import check_horizon
from tsattn.forecasters.naive import PointForecaster, check_rows
from tsattn.forecasters.pooled import PooledForecaster, choose_context, standardise, training_windows
from tsattn.random import seed_from

if TYPE_CHECKING:
    from torch import Tensor


def _ridge() -> Any:
    from sklearn.linear_model import Ridge

    return Ridge(alpha=1.0)


def _gbm() -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(early_stopping=False)


class _Trees:
    """Boosted trees of all steps as arrays, which answer as scikit-learn's own do, to the bit and in any version of it.

    Args:
        **arrays: Of all nodes one after the other ``feature``, ``left`` and ``right`` (int64; a leaf has itself below
            it), ``threshold`` and ``value`` (float64); ``roots [F, trees]`` int64 and ``start [F]`` float64.
    """

    def __init__(self, **arrays: np.ndarray) -> None:
        self.arrays = arrays

    @classmethod
    def of(cls, regressor: Any, n_shared: int, n_own: int) -> "_Trees":
        """Those of a ``HistGradientBoostingRegressor`` without categories a step; features as :class:`_BySteps` has."""
        forests = [[tree.nodes for (tree,) in each._predictors] for each in regressor.estimators_]
        trees = [tree for forest in forests for tree in forest]
        nodes = np.concatenate(trees)
        starts = np.cumsum([0, *map(len, trees[:-1])])
        first, own = np.repeat(starts, [len(tree) for tree in trees]), np.arange(len(nodes))
        leaf, feature = nodes["is_leaf"].astype(bool), nodes["feature_idx"].astype(np.int64)
        step = np.repeat(np.arange(len(forests)), [sum(map(len, forest)) for forest in forests])
        feature = np.where(feature < n_shared, feature, feature + step * n_own)
        left, right = (np.where(leaf, own, first + nodes[side]).astype(np.int64) for side in ("left", "right"))
        return cls(
            feature=np.where(leaf, 0, feature),
            threshold=nodes["num_threshold"].astype(np.float64),
            left=left,
            right=right,
            value=nodes["value"].astype(np.float64),
            roots=starts.reshape(len(forests), -1).astype(np.int64),
            start=np.array([each._baseline_prediction.item() for each in regressor.estimators_]),
        )

    def predict(self, x: np.ndarray) -> np.ndarray:
        """``[n, F]`` of lags and covariates ``[n, features]``."""
        feature, threshold, left, right, value, roots, start = (self.arrays[name] for name in _TREES)
        answer, rows = np.empty((len(x), len(roots))), np.arange(len(x))
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

    def check(self, horizon: int, n_features: int) -> None:
        """Refuse arrays that are no trees over so many features, or in which a descent would not end."""
        from tsattn.data.stored import require

        require(set(self.arrays) == set(_TREES), "trees lack arrays")
        feature, _, left, right, value, roots, start = (self.arrays[name] for name in _TREES)
        own = np.arange(len(feature))
        for name in _TREES:
            whole = self.arrays[name].dtype == (np.float64 if name in ("threshold", "value", "start") else np.int64)
            require(whole and (name in ("roots", "start") or self.arrays[name].shape == own.shape), f"{name} of trees")
        require(roots.ndim == 2 and len(roots) == horizon and start.shape == (horizon,), "trees of other steps")
        require(bool(((feature >= 0) & (feature < n_features)).all()), "trees over other features")
        require(bool(((roots >= 0) & (roots < len(own))).all()), "trees without roots")
        for side in (left, right):
            require(bool(((side >= own) & (side < len(own))).all()), "trees with loops")
        require(bool(np.isfinite(value).all() and np.isfinite(start).all()), "trees without values")


class _BySteps:
    """A regressor of one target, cloned for each step, which reads the covariates of that step only.

    The features that all steps read come first; those of the steps follow, ``n_own`` each.
    """

    def __init__(self, regressor: Any, n_shared: int, n_own: int) -> None:
        self.regressor, self.n_shared, self.n_own = regressor, n_shared, n_own

    def fit(self, x: np.ndarray, y: np.ndarray) -> "_BySteps":
        """Fit one a column of ``y``."""
        from sklearn.base import clone

        self.estimators_ = [clone(self.regressor).fit(self._read(x, step), y[:, step]) for step in range(y.shape[1])]
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """``[n, F]`` of features ``[n, n_shared + F * n_own]``."""
        return np.stack([each.predict(self._read(x, step)) for step, each in enumerate(self.estimators_)], axis=1)

    def _read(self, x: np.ndarray, step: int) -> np.ndarray:
        first = self.n_shared + step * self.n_own
        return np.concatenate([x[:, : self.n_shared], x[:, first : first + self.n_own]], axis=1)


_TREES = ("feature", "threshold", "left", "right", "value", "roots", "start")
_REGRESSORS: MappingProxyType[str, Callable[[], Any]] = MappingProxyType({"ridge": _ridge, "gbm": _gbm})


class SklearnForecaster(PooledForecaster, PointForecaster):
    """A regression of scikit-learn on lags: one answer for each step ahead, none fed back (direct multi-step).

    Features are the last ``context`` values, targets the next ``horizon``. Windows of all series and channels teach
    one model; each has its last value taken off and is divided by its standard deviation, so that series of any
    size, seen or not, share it, and forecasts follow shifts and changes of scale. A constant window forecasts its
    value.

    Covariates are features as well: the past columns as lags, the future ones by their mean in the context and their
    values at the steps ahead, with the calendar; the static ones as they are. Text becomes indicators.

    A regressor that takes several targets is fitted once; another is fitted once a step, with the future columns of
    that step alone, so ``"gbm"`` costs ``horizon`` fits and as many passes a forecast. It gives points only; wrap it in
    :class:`tsattn.evaluate.conformal.SplitConformal` for intervals.

    Args:
        horizon: Rows forecast ahead.
        regressor: ``"ridge"`` (``Ridge(alpha=1)``), ``"gbm"`` (``HistGradientBoostingRegressor`` without early
            stopping), or any regressor of scikit-learn, which is cloned.
        context: Lags. ``None`` takes two horizons or one season, the longer, at most half of what the median series
            leaves beside one horizon. What a series lacks at the front is the mean of its window.
        max_windows: Most training windows; where there are more, so many are drawn. It bounds memory.
        random_state: Seed of the draw, and of the regressor where its own is ``None``: an int or a numpy generator.
        alias: Name of the column; default the name, or that of the regressor's class.
        schema: How tables are read, covariates among them. Futures that miss a value are no training windows.

    Attributes:
        context_: Lags read, set by ``fit``.
        regressor_: The fitted regressor, set by ``fit``; of a loaded ``"gbm"`` its trees. ``save`` takes the regressors
            with a name.
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
                f"regressor must be one of {', '.join(_REGRESSORS)} or a regressor of scikit-learn; got {regressor!r}"
            )
        if not named and not all(hasattr(regressor, each) for each in ("fit", "predict", "get_params")):
            raise TypeError(
                f"regressor must have fit, predict and get_params, as scikit-learn's do; got {type(regressor).__name__}"
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
        context = choose_context(panel, self.horizon, self.context)
        generator = np.random.default_rng(seed_from(self.random_state))
        encoder, beside = None, None
        if columns := self.covariate_columns:
            encoder = CovariateEncoder.fit(columns, panel, panel.lengths)
            history = CovariateHistory(panel, encoder.columns)

            def beside(ends: np.ndarray) -> np.ndarray:
                return _features(encoder, history.windows(ends, context, self.horizon))

        how: dict[str, Any] = {"context": context, "horizon": self.horizon, "max_windows": self.max_windows}
        x, y = training_windows(panel, **how, generator=generator, centre="last", beside=beside)
        regressor = self._make(int(generator.integers(2**31)), context, encoder)
        self.regressor_, self.context_, self.n_windows_ = regressor.fit(x, y), context, len(x)
        self.encoder_ = encoder

    covariate_columns = property(attrgetter("schema.columns"), doc="What the next fit reads beside the target.")

    def _make(self, seed: int, context: int, encoder: CovariateEncoder | None) -> Any:
        from sklearn.base import clone
        from sklearn.multioutput import MultiOutputRegressor
        from sklearn.utils import get_tags

        regressor = _REGRESSORS[self.regressor]() if isinstance(self.regressor, str) else clone(self.regressor)
        params = regressor.get_params()
        open_seeds = [each for each in params if each.split("__")[-1] == "random_state" and params[each] is None]
        regressor.set_params(**dict.fromkeys(open_seeds, seed))
        if get_tags(regressor).target_tags.multi_output:
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

    def _learnt_tensors(self) -> "dict[str, Tensor]":
        import torch

        found = self.regressor_
        if self.regressor == "ridge":
            arrays = {"coef": found.coef_.T, "intercept": found.intercept_}
        else:
            sizes = (self.context_, 0) if self.encoder_ is None else _sizes(self.encoder_, self.context_)
            arrays = (found if isinstance(found, _Trees) else _Trees.of(found, *sizes)).arrays
        return {name: torch.as_tensor(array) for name, array in arrays.items()}

    def _take(self, tensors: "Mapping[str, Tensor]", facts: Mapping[str, Any], folder: Path) -> None:
        from tsattn.data.stored import require

        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        n_features = self.context_
        if self.encoder_ is not None:
            n_shared, n_own = _sizes(self.encoder_, self.context_)
            n_features = n_shared + self.horizon * n_own
        if self.regressor == "gbm":
            self.regressor_ = _Trees(**arrays)
            self.regressor_.check(self.horizon, n_features)
            return
        ridge, coef, intercept = _ridge(), arrays["coef"], arrays["intercept"]
        shape = (n_features, self.horizon)
        require(coef.shape in (shape, shape[: 1 if self.horizon == 1 else 2]), f"coefficients of shape {coef.shape}")
        require(intercept.shape == (self.horizon,), f"intercepts of shape {intercept.shape}")
        for array in (coef, intercept):
            require(array.dtype == np.float64 and bool(np.isfinite(array).all()), "coefficients are no numbers")
        ridge.coef_, ridge.intercept_, ridge.n_features_in_ = coef.T, intercept, n_features
        self.regressor_ = ridge


def _sizes(encoder: CovariateEncoder, context: int) -> tuple[int, int]:
    """Features that all steps read, lags among them, and those of one step."""
    sizes = encoder.sizes
    return context * (1 + sizes["n_past"]) + sizes["n_known"] + sizes["n_static"], sizes["n_known"]


def _features(encoder: CovariateEncoder, windows: CovariateWindows) -> np.ndarray:
    """Covariates of windows side by side ``[B, n]``: lags, means, statics, then those of each step ahead."""
    parts, context, n = encoder.parts(windows), windows.past.shape[1], len(windows.static)
    found = [parts["past"].reshape(n, -1)] if "past" in parts else []
    if "known" in parts:
        found.append(parts["known"][:, :context].mean(axis=1))
    if "static" in parts:
        found.append(parts["static"])
    if "known" in parts:
        found.append(np.nan_to_num(parts["known"][:, context:]).reshape(n, -1))
    return np.concatenate(found, axis=1).astype(np.float64)
