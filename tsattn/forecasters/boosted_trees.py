"""Boosted trees as arrays, which scikit-learn fits and which predict without it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tsattn.data.stored import require
from tsattn.forecasters.deadlines import OutOfTime, fit_boosted, load_in_time, seconds_left

# Boosting steps.
_N_TREES = 200
# Share of a tree's values that is added.
_LEARNING_RATE = 0.05
# Leaves of a tree, at most.
_MAX_LEAVES = 31
# Training rows of a leaf, at least.
_LEAF_ROWS = 40
# Share of the features among which a split chooses. Trees that differ err less together.
_FEATURE_SHARE = 0.5
# Penalty of the squared value of a leaf.
_PENALTY = 1.0
# Rows that descend together. So few stay in the caches of a processor.
_CHUNK_ROWS = 4096
_INTEGER_ARRAYS = ("feature", "left", "right", "roots")
_FLOAT_ARRAYS = ("threshold", "value", "start")
_NODE_ARRAYS = ("feature", "threshold", "left", "right", "value")


class BoostedTrees:
    """The sum of regression trees and a constant.

    Args:
        **arrays: ``feature``, ``left`` and ``right`` (int64) and ``threshold`` and ``value``
            (float64) of the nodes of all trees, where both children of a leaf are the leaf;
            ``roots [trees]`` (int64) and ``start [1]`` (float64).
    """

    def __init__(self, **arrays: np.ndarray) -> None:
        self.arrays = arrays

    @classmethod
    def fit(cls, features: np.ndarray, target: np.ndarray) -> BoostedTrees:
        """Fit trees to a small mean absolute error.

        Args:
            features: ``[rows, n]``, finite.
            target: ``[rows]``, finite.

        Raises:
            OutOfTime: If that would not end in time.
        """
        if not load_in_time("sklearn.ensemble", seconds_left()):
            raise OutOfTime
        from sklearn.ensemble import HistGradientBoostingRegressor
        from threadpoolctl import threadpool_limits

        learner = HistGradientBoostingRegressor(
            loss="absolute_error",
            max_iter=_N_TREES,
            learning_rate=_LEARNING_RATE,
            max_leaf_nodes=_MAX_LEAVES,
            min_samples_leaf=_LEAF_ROWS,
            max_features=_FEATURE_SHARE,
            l2_regularization=_PENALTY,
            early_stopping=False,
            random_state=0,
        )
        # Threads of OpenMP spin while they wait for one another. Where other processes run, two
        # threads take far longer than one.
        with threadpool_limits(limits=1, user_api="openmp"):
            learner = fit_boosted(learner, features, target)
        return cls.of(learner)

    @classmethod
    def of(cls, learner: Any) -> BoostedTrees:
        """The trees of a fitted ``HistGradientBoostingRegressor`` without categories."""
        trees = [tree.nodes for (tree,) in learner._predictors]
        sizes = [len(tree) for tree in trees]
        nodes = np.concatenate(trees)
        sizes_before = [0, *sizes[:-1]]
        roots = np.cumsum(sizes_before).astype(np.int64)
        first = np.repeat(roots, sizes)  # children are numbered within a tree
        numbers = np.arange(len(nodes))
        leaf = nodes["is_leaf"].astype(bool)
        left_child = first + nodes["left"]
        right_child = first + nodes["right"]
        # Both children of a leaf are the leaf.
        left = np.where(leaf, numbers, left_child)
        right = np.where(leaf, numbers, right_child)
        feature = np.where(leaf, 0, nodes["feature_idx"])
        baseline = float(learner._baseline_prediction.item())
        return cls(
            feature=feature.astype(np.int64),
            threshold=nodes["num_threshold"].astype(np.float64),
            left=left.astype(np.int64),
            right=right.astype(np.int64),
            value=nodes["value"].astype(np.float64),
            roots=roots,
            start=np.array([baseline]),
        )

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Predictions ``[...]`` from features ``[..., n]``."""
        n_features = features.shape[-1]
        rows = features.reshape(-1, n_features)
        # Nothing is joined where there are no rows.
        predictions = [np.empty(0)]
        for first in range(0, len(rows), _CHUNK_ROWS):
            chunk = rows[first : first + _CHUNK_ROWS]
            predictions.append(self._descend(chunk))
        joined = np.concatenate(predictions)
        return joined.reshape(features.shape[:-1])

    def _descend(self, x: np.ndarray) -> np.ndarray:
        value = self.arrays["value"]
        columns = np.ascontiguousarray(x.T)
        baseline = self.arrays["start"][0]
        total = np.full(len(x), baseline)
        for root in self.arrays["roots"]:
            leaves = self._leaves(columns, root)
            total += value[leaves]
        return total

    def _leaves(self, columns: np.ndarray, root: int) -> np.ndarray:
        """The leaf that each row reaches in one tree, ``[rows]``."""
        feature = self.arrays["feature"]
        threshold = self.arrays["threshold"]
        left = self.arrays["left"]
        right = self.arrays["right"]
        n_rows = columns.shape[1]
        node = np.full(n_rows, root)
        rows = np.arange(n_rows)  # rows that have not reached a leaf
        while len(rows):
            parent = node[rows]
            split_feature = feature[parent]
            goes_left = columns[split_feature, rows] <= threshold[parent]
            child = np.where(goes_left, left[parent], right[parent])
            node[rows] = child
            is_inner = left[child] != child
            rows = rows[is_inner]
        return node

    def check(self, n_features: int) -> None:
        """Refuse arrays that are no trees over so many features, or in which following the branches
        would never end.

        Raises:
            ValueError: Naming what is wrong.
        """
        arrays = self.arrays
        all_names = {*_INTEGER_ARRAYS, *_FLOAT_ARRAYS}
        require(set(arrays) == all_names, "trees lack arrays")
        for name, array in arrays.items():
            dtype = np.int64 if name in _INTEGER_ARRAYS else np.float64
            fits = array.dtype == dtype and array.ndim == 1
            require(fits, "trees with other numbers")
        n_nodes = len(arrays["feature"])
        same_length = all(len(arrays[name]) == n_nodes for name in _NODE_ARRAYS)
        has_trees = len(arrays["roots"]) > 0 and len(arrays["start"]) == 1
        require(same_length and has_trees, "trees of other sizes")
        require(_within(arrays["feature"], 0, n_features), "trees over other features")
        require(_within(arrays["roots"], 0, n_nodes), "trees without roots")
        numbers = np.arange(n_nodes)
        left = arrays["left"]
        right = arrays["right"]
        # A child after its parent cannot lead back, and a leaf has no other child.
        require(_within(left, numbers, n_nodes), "trees with loops")
        require(_within(right, numbers, n_nodes), "trees with loops")
        same_leaves = (left == numbers) == (right == numbers)
        require(bool(same_leaves.all()), "trees with loops")
        are_finite = np.isfinite(arrays["value"]).all()
        is_finite_start = np.isfinite(arrays["start"]).all()
        require(bool(are_finite and is_finite_start), "trees without values")


def _within(numbers: np.ndarray, start: np.ndarray | int, stop: int) -> bool:
    is_within = (numbers >= start) & (numbers < stop)
    return bool(is_within.all())
