"""The mean error of a fitted forecaster over all windows of a table."""

from typing import Any

import numpy as np

from tsattn.data.grid import stacked_rows
from tsattn.data.panel import Panel, require_length
from tsattn.data.windows import History, chunk_size, has_value_before, least_rows, window_sizes


def mean_error(forecaster: Any, panel: Panel) -> float:
    """Mean absolute error of a fitted forecaster over all windows of a panel, on the scale of its
    training rows; missing truths are left out.

    Args:
        forecaster: A fitted :class:`tsattn.forecaster.Forecaster`.
        panel: The series, as it reads them.

    Raises:
        ValueError: If no series has a window, or a forecast is not finite.
    """
    ends = _all_ends(forecaster, panel)
    owners = panel.owners(ends)
    if forecaster.looks_across:
        # One window shows all series at a moment: those of one moment stand together.
        moments = ends - panel.starts[owners]
        order = np.argsort(moments, kind="stable")
        ends, owners = ends[order], owners[order]
    scale = forecaster.training_scales_.of_series(panel)[owners]
    history = History(panel)
    covariate_history = forecaster.covariate_history(panel)
    steps = forecaster.horizon
    n_read, n_values = window_sizes(
        panel, covariate_history, context=forecaster.max_context, n_steps=steps, n_answers=1
    )
    chunk = chunk_size(n_values)
    total = 0.0
    count = 0
    for first in range(0, len(ends), chunk):
        part = slice(first, first + chunk)
        covariates = None
        if covariate_history is not None:
            covariates = covariate_history.windows(ends[part], n_read, steps)
        point, _ = forecaster.predict_before(history, ends[part], covariates=covariates)
        is_finite = np.isfinite(point).all(axis=(1, 2))
        if not is_finite.all():
            label = panel.series_label(int(owners[part][np.argmin(is_finite)]))
            raise ValueError(
                f"{forecaster.alias_} gave a forecast that is not finite for {label}; look at the"
                " scale of its values and fit again"
            )
        errors = np.abs(history.futures(ends[part], steps) - point) / scale[part, None]
        total += np.nansum(errors)
        count += int(np.count_nonzero(~np.isnan(errors)))
    return total / count if count else np.nan


def _all_ends(forecaster: Any, panel: Panel) -> np.ndarray:
    """Absolute rows just after the context of each window, ascending.

    A window needs a whole context. The first one of a shorter series has half of the rows before
    the last horizon. A window without a value to read is left out.
    """
    context = forecaster.max_context
    steps = forecaster.horizon
    least = max(forecaster.min_context, least_rows(context))
    n_possible = panel.lengths - steps
    half = np.maximum(n_possible // 2, least)
    n_before = np.where(n_possible >= context, context, np.minimum(half, context))
    counts = np.maximum(n_possible - n_before + 1, 0)
    if not counts.any():
        require_length(panel, least + steps, f"a score of {forecaster.alias_}")
    ends = stacked_rows(panel.starts[:-1] + n_before, counts)
    n_rows = getattr(forecaster, "least_context", context)
    return ends[has_value_before(panel, ends, n_rows)]
