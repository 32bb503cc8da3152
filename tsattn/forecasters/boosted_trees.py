"""Boosted trees as arrays: learnt by scikit-learn, and answering without it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tsattn.data.stored import require

# Boosting steps, their rate, leaves of a tree, rows of a leaf at least, and the penalty of a leaf's
# value.
_N_TREES = 200
_RATE = 0.05
_LEAVES = 31
_LEAF_ROWS = 40
_PENALTY = 1.0
# Rows that descend together, so that they stay in the caches.
_CHUNK_ROWS = 4096
_NAMES = ("feature", "threshold", "left", "right", "value", "roots", "start")


class BoostedTrees:
    """The sum of regression trees and a constant.

    Args:
        **arrays: Of the nodes of all trees, one tree after the other, ``feature``, ``left`` and
            ``right`` (int64; a leaf has itself below it), ``threshold`` and ``value`` (float64);
            ``roots [trees]`` (int64) and ``start [1]`` (float64).
    """

    def __init__(self, **arrays: np.ndarray) -> None:
        self.arrays = arrays

    @classmethod
    def fit(cls, features: np.ndarray, target: np.ndarray) -> BoostedTrees:
        """Trees with a small mean absolute error.

        Args:
            features: ``[rows, n]``, finite.
            target: ``[rows]``, finite.
        """
        from sklearn.ensemble import HistGradientBoostingRegressor
        from threadpoolctl import threadpool_limits

        learner = HistGradientBoostingRegressor(
            loss="absolute_error",
            max_iter=_N_TREES,
            learning_rate=_RATE,
            max_leaf_nodes=_LEAVES,
            min_samples_leaf=_LEAF_ROWS,
            l2_regularization=_PENALTY,
            early_stopping=False,
            random_state=0,
        )
        # Threads of OpenMP spin while they wait for one another: beside other processes two take
        # far longer than one.
        with threadpool_limits(limits=1, user_api="openmp"):
            learner.fit(features, target)
        return cls._of(learner)

    @classmethod
    def _of(cls, learner: Any) -> BoostedTrees:
        trees = [tree.nodes for (tree,) in learner._predictors]
        nodes = np.concatenate(trees)
        roots = np.cumsum([0, *(len(tree) for tree in trees[:-1])]).astype(np.int64)
        first = np.repeat(roots, [len(tree) for tree in trees])
        own = np.arange(len(nodes))
        leaf = nodes["is_leaf"].astype(bool)
        left, right = (
            np.where(leaf, own, first + nodes[side]).astype(np.int64) for side in ("left", "right")
        )
        return cls(
            feature=np.where(leaf, 0, nodes["feature_idx"]).astype(np.int64),
            threshold=nodes["num_threshold"].astype(np.float64),
            left=left,
            right=right,
            value=nodes["value"].astype(np.float64),
            roots=roots,
            start=np.array([float(learner._baseline_prediction.item())]),
        )

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """``[...]`` of features ``[..., n]``."""
        rows = features.reshape(-1, features.shape[-1])
        answers = [
            self._descend(rows[first : first + _CHUNK_ROWS])
            for first in range(0, len(rows), _CHUNK_ROWS)
        ]
        return np.concatenate([np.empty(0), *answers]).reshape(features.shape[:-1])

    def _descend(self, x: np.ndarray) -> np.ndarray:
        feature, threshold, left, right, value, roots, start = (
            self.arrays[name] for name in _NAMES
        )
        columns = np.ascontiguousarray(x.T)
        total = np.full(len(x), start[0])
        for root in roots:
            node = np.full(len(x), root)
            rows = np.arange(len(x))
            while len(rows):
                here = node[rows]
                below = np.where(
                    columns[feature[here], rows] <= threshold[here], left[here], right[here]
                )
                node[rows] = below
                rows = rows[left[below] != below]
            total += value[node]
        return total

    def check(self, n_features: int) -> None:
        """Refuse arrays that are no trees over so many features, or in which a descent would not
        end.

        Raises:
            ValueError: Naming what is wrong.
        """
        require(set(self.arrays) == set(_NAMES), "trees lack arrays")
        feature, threshold, left, right, value, roots, start = (
            self.arrays[name] for name in _NAMES
        )
        own = np.arange(len(feature))
        for array in (feature, left, right, roots):
            require(array.dtype == np.int64 and array.ndim == 1, "trees with other numbers")
        for array in (threshold, value, start):
            require(array.dtype == np.float64 and array.ndim == 1, "trees with other numbers")
        sizes = {len(array) for array in (feature, threshold, left, right, value)}
        require(
            sizes == {len(own)} and len(roots) > 0 and start.shape == (1,), "trees of other sizes"
        )
        require(bool(((feature >= 0) & (feature < n_features)).all()), "trees over other features")
        require(bool(((roots >= 0) & (roots < len(own))).all()), "trees without roots")
        for side in (left, right):
            require(bool(((side >= own) & (side < len(own))).all()), "trees with loops")
        require(bool(((left == own) == (right == own)).all()), "trees with loops")
        require(bool(np.isfinite(value).all() and np.isfinite(start).all()), "trees without values")
