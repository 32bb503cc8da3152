"""Forecasts of more steps than a forecaster's: its points are fed back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tsattn.checks import Argument, InputError, InPython, check_switch

if TYPE_CHECKING:
    from tsattn.data.encoding import CovariateWindows


def check_recursive(
    forecaster: Any, steps: int, recursive: bool, quantiles: Sequence[float]
) -> None:
    """Refuse more steps than a fitted forecaster's without ``recursive``, with intervals, or with
    past columns.

    Raises:
        ValueError: With what may be asked instead.
    """
    check_switch("recursive", recursive)
    name = forecaster.alias_
    horizon = forecaster.horizon
    if not recursive:
        raise InputError(
            f"horizon = {steps} is longer than the {horizon} steps that {name} was made for; make"
            " and fit one with ",
            Argument("horizon", steps),
            InPython(", or let its points be fed back by recursive=True"),
        )
    if len(quantiles):
        raise InputError(
            f"intervals reach {horizon} steps ahead, as far as {name} was trained, and horizon ="
            f" {steps} is beyond: what is fed back brings errors that nobody measured; ask for"
            " points, or make and fit one with ",
            Argument("horizon", steps),
        )
    past = forecaster.covariate_columns_.past
    if past:
        raise InputError(
            f"{name} reads the past column {past[0]!r}, whose values after the cutoff a recursive"
            " forecast would need; make and fit one with ",
            Argument("horizon", steps),
            ", or with that column among the future ones",
        )


def points_fed_back(
    forecaster: Any, x: np.ndarray, covariates: CovariateWindows | None, steps: int
) -> np.ndarray:
    """Points ``[B, steps, C]``, a horizon at a time, from ``x [B, T, C]`` and points before."""
    horizon = forecaster.horizon
    context = x.shape[1]
    for first in range(0, steps, horizon):
        n_rows = context + first
        round_covariates = None
        if covariates is not None:
            future = covariates.known[:, : n_rows + horizon]
            no_past = np.empty((len(x), n_rows, 0))
            round_covariates = replace(covariates, past=no_past, known=future)
        point, _ = forecaster.predict_windows(x, covariates=round_covariates)
        x = np.concatenate([x, point], axis=1)
    return x[:, context : context + steps]
