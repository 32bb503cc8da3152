"""Trials of the candidates of the default forecaster, each in a part of the time that is left."""

import math
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from tsattn.data.panel import Panel
from tsattn.data.windows import History
from tsattn.forecasters.candidates import Candidate, answer_windows, no_answer
from tsattn.forecasters.deadlines import (
    OutOfTime,
    Progress,
    TimedFit,
    fit_in_time,
    load_in_time,
    time_limit,
    work_at_once,
    work_in_time,
)
from tsattn.forecasters.pretrained import fit_without_columns
from tsattn.forecasts import Answer
from tsattn.silence import ignored

# Quantiles whose band is corrected.
_BAND_QUANTILES = (0.1, 0.9)
# Name of the candidate that stands in for the others and is therefore never left out.
_FALLBACK = "zero"
# Share of the remaining time that one candidate may take.
_CANDIDATE_SHARE = 0.5
# Rows and horizons of a series from which on a fit takes its usual time. Regressions on covariates
# learn nothing from less.
_LEAST_FIT_ROWS = 256
_FIT_HORIZONS = 8
# Share of the remaining time that its first fit may take, and that is kept for the second one.
_FIT_SHARE = 0.35
_REFIT_SHARE = 0.25
# A slow fit stays where the judged windows have less than this share of the rows that it read.
_NEW_ROWS_SHARE = 0.05
# Candidates that learn most from columns beside the target, on as many windows as the time allows,
# and the share of the remaining time that they have for it.
_LEARNERS = ("zero", "gbm")
_LEARNERS_SHARE = 0.6
# Share of the time that is left in the end, which the last fit on columns may take.
_LAST_SHARE = 0.9
# Seconds that must be left for a classical model; one estimation may take as long as a second.
_LEAST_CLASSICAL_SECONDS = 3.0
# Seconds that a candidate may take under any limit.
_FREE_SECONDS = 1.0
# Modules that take seconds to load.
_PACKAGES = MappingProxyType({"gbm": "sklearn.ensemble", "mlr": "tsattn.training.loop"})


class Trial(NamedTuple):
    """A candidate fitted on the rows before the judged windows, its forecasts, and its seconds."""

    candidate: Candidate
    answer: Answer
    seconds: float
    # The last fit, and the seconds that are kept for another one and one ``predict``.
    fit: TimedFit = TimedFit(0.0, 0)
    later_seconds: float = 0.0
    # Whether there was no time for the regressions on its columns.
    without_columns: bool = False
    # Whether it is fitted again, on all rows.
    refits: bool = True


class Limit(NamedTuple):
    """The time at which all must be done."""

    until: float
    max_time: str | float  # as the user set it

    def words(self, left: float) -> str:
        """How much time is left, for a note."""
        amount = f"{left:.0f} seconds are left"
        if left < 1.5:
            amount = "hardly any time is left"
        return f"{amount} of max_time={self.max_time!r}"

    def less(self, seconds: float) -> "Limit":
        """This limit without the seconds that are needed afterwards."""
        return self._replace(until=self.until - seconds)


def try_candidate(
    candidate: Candidate, past: Panel, panel: Panel, ends: np.ndarray, limit: Limit
) -> Trial | str:
    """Fit a candidate on ``past`` and forecast the windows of ``panel`` before ``ends``; the reason
    where it is left out.
    """
    started = time.monotonic()
    left = limit.until - started
    is_fallback = candidate.name == _FALLBACK
    if not is_fallback and not _can_begin(candidate, left):
        left = limit.until - time.monotonic()
        return f"was left out: {limit.words(left)}"
    without_columns = False
    share = _LEARNERS_SHARE if candidate.name in _LEARNERS else _FIT_SHARE
    fit = TimedFit(0.0, 0)
    try:
        fit = _fit_until(candidate, past, left * share)
    except ValueError as error:
        # No candidate could stand in for the pretrained network.
        if is_fallback:
            raise
        return str(error)
    except OutOfTime:
        if not is_fallback:
            words = limit.words(limit.until - time.monotonic())
            share_seconds = max(left * share, 0)
            return f"takes longer to fit than its share of {share_seconds:.0f} seconds; {words}"
        fit_without_columns(candidate.forecaster, past)
        without_columns = True
    left -= time.monotonic() - started
    answer_seconds = left * _CANDIDATE_SHARE
    answer, progress = _answer_in_time(candidate, panel, ends, answer_seconds)
    predict_seconds = progress.seconds_per_item * panel.n_series
    if not is_fallback:
        is_slow = predict_seconds > max(answer_seconds, _FREE_SECONDS)
        if is_slow or not progress.is_enough:
            needed = math.ceil(progress.needed_seconds)
            return f"would take {needed} seconds; {limit.words(left)}"
    if candidate.by_row:
        fit = TimedFit(0.0, 0)
    # Other candidates are worth more than a second fit on some more rows.
    is_slow_fit = fit.seconds > _FREE_SECONDS
    n_new_rows = len(panel.values) - len(past.values)
    few_new_rows = n_new_rows < _NEW_ROWS_SHARE * fit.n_rows
    refits = candidate.name != "mlr" and not (is_slow_fit and few_new_rows)
    later_seconds = predict_seconds
    if refits:
        later_seconds += min(fit.seconds, left * _REFIT_SHARE)
    seconds = time.monotonic() - started
    return Trial(candidate, answer, seconds, fit, later_seconds, without_columns, refits)


def _can_begin(candidate: Candidate, left: float) -> bool:
    """Whether so many seconds are enough to begin with a candidate, whose package is loaded."""
    own_package = getattr(candidate.forecaster, "package", None)
    package = _PACKAGES.get(candidate.name, own_package)
    if package is None:
        return left > 0
    if left <= _LEAST_CLASSICAL_SECONDS:
        return False
    seconds = left * _CANDIDATE_SHARE
    return load_in_time(package, seconds)


def _answer_in_time(
    candidate: Candidate, panel: Panel, ends: np.ndarray, seconds: float
) -> tuple[Answer, Progress]:
    """The forecasts of a fitted candidate for the windows before ``ends``; where the seconds are
    too few, for some of them that are spread evenly, and NaN for the others.
    """
    forecaster = candidate.forecaster
    x = np.empty((0, 1, 1))
    if len(ends):
        x = History(panel).reaching(ends, forecaster.max_context)
    member_panel = panel.keep(forecaster.covariate_columns_)
    history = forecaster.covariate_history(member_panel)
    n_rows = x.shape[1]
    horizon = forecaster.horizon
    point, bounds = no_answer(len(ends), horizon, len(_BAND_QUANTILES))

    def forecast(places: np.ndarray) -> None:
        covariates = None
        if history is not None:
            covariates = history.windows(ends[places], n_rows, horizon)
        answer = answer_windows(candidate, x[places], _BAND_QUANTILES, covariates)
        point[places], bounds[places] = answer

    if candidate.by_row and not math.isinf(seconds):
        progress = work_in_time(forecast, len(ends), seconds, n_later=panel.n_series)
    else:
        progress = work_at_once(forecast, len(ends), seconds)
    return (point, bounds), progress


def _fit_until(candidate: Candidate, panel: Panel, seconds: float, n_rows: int = 0) -> TimedFit:
    """Fit a candidate on a panel, or on the last rows of it that can be fitted in time."""
    if candidate.name in _LEARNERS:
        # It reads as many windows as the time allows.
        begun = time.monotonic()
        with time_limit(seconds):
            _fit(candidate, panel)
        fit_seconds = time.monotonic() - begun
        return TimedFit(fit_seconds, len(panel.values))
    # A trained network has a time limit of its own; the others of these learn from one series.
    if candidate.by_row or candidate.name == "mlr":
        seconds = math.inf
    rows_of_horizons = _FIT_HORIZONS * candidate.forecaster.horizon
    least = max(_LEAST_FIT_ROWS, rows_of_horizons)
    fit = partial(_fit, candidate)
    return fit_in_time(fit, panel, seconds, series_rows=least, n_rows=n_rows)


def _fit(candidate: Candidate, panel: Panel) -> None:
    forecaster = candidate.forecaster
    if candidate.by_row:
        longest = int(panel.lengths.argmax())
        panel = panel.some(longest, longest + 1)
    if panel.missing == "mask" and not forecaster.masks:
        panel = replace(panel, missing="interpolate")
    # Series too short for a network are forecast as they would be without it.
    with ignored((UserWarning, r"\d+ of \d+ series have fewer than")):
        forecaster.fit(panel.keep(forecaster.covariate_columns))


def refitted(trial: Trial, panel: Panel, until: float) -> Candidate:
    """The candidate fitted on all rows, unless that is not worth the time or takes more of it than
    is left.
    """
    candidate = trial.candidate
    forecaster = candidate.forecaster
    share = _LAST_SHARE if forecaster.covariate_columns_ else _CANDIDATE_SHARE
    seconds = share * (until - time.monotonic())
    in_time = candidate.by_row or trial.fit.seconds < seconds
    if trial.without_columns:
        fit_without_columns(forecaster, panel)
    elif trial.refits and in_time:
        # The fit before it counts where this one does not end.
        with suppress(OutOfTime):
            _fit_until(candidate, panel, seconds, trial.fit.n_rows)
    # The rows of the series are stored once, with the pretrained network.
    if candidate.name == "zero":
        tail = panel.keep(forecaster.covariate_columns_)
    else:
        tail = forecaster.panel_.last(forecaster.min_context)
    return candidate._replace(forecaster=forecaster.revised(panel=tail))
