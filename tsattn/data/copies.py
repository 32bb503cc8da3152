"""Columns that are known through the horizon and hold the target."""

from collections.abc import Hashable, Sequence

import numpy as np

from tsattn.checks import InputWarning, Name, warn
from tsattn.data.grid import inner_steps
from tsattn.data.panel import Panel

# Distinct steps of a target, at least, that no other column has by chance, and what rounding may
# change, as a share of their squares.
_LEAST_STEPS = 10
_ROUNDING_SHARE = 1e-4


def tell_copies(panel: Panel, columns: Sequence[Hashable]) -> None:
    """Warn of a future column that holds the target itself, maybe in another unit: it would give
    away what is to be forecast.

    Args:
        panel: A table just read.
        columns: Names of such columns, all of them in the panel.
    """
    if panel.covariates is None or not columns:
        return
    target = panel.values[:, 0]
    is_known = ~np.isnan(target)
    target_values = target[is_known]
    # A constant column may equal a constant target.
    if (target_values == target_values[:1]).all():
        return
    values = panel.covariates.pick(columns)
    target_steps = inner_steps(target, panel.starts)
    for name, column in zip(columns, values.T, strict=True):
        if panel.covariates.kind(name) is not None:
            continue
        content = ""
        if (column[is_known] == target_values).all():
            content = "the target itself"
        elif _are_proportional(inner_steps(column, panel.starts), target_steps):
            content = "the target in another unit"
        if content:
            warn(
                InputWarning(
                    f"column {name!r} holds {content} in all rows, but is named as known"
                    " through the horizon, so that scores of the past say nothing; take it out of ",
                    Name("future_cols"),
                    ", or give the forecasts that were known at the time",
                )
            )


def _are_proportional(steps: np.ndarray, target_steps: np.ndarray) -> bool:
    """Whether the steps of a column are those of the target times a constant, apart from rounding.
    A column with few distinct steps, such as a switch, may match by chance and does not count.
    """
    both_observed = np.isfinite(steps) & np.isfinite(target_steps)
    steps = steps[both_observed]
    target_steps = target_steps[both_observed]
    if len(np.unique(target_steps)) < _LEAST_STEPS or not steps.any():
        return False
    # Squares of these are numbers whatever the units are.
    steps = steps / np.abs(steps).max()
    target_steps = target_steps / np.abs(target_steps).max()
    factor = (steps @ target_steps) / (target_steps @ target_steps)
    residual = steps - factor * target_steps
    return bool(residual @ residual < _ROUNDING_SHARE * (steps @ steps))
