"""Candidates of the default forecaster, and how each answers windows of a table."""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tsattn.data.calendar import parse_freq, season_length
from tsattn.data.panel import Panel
from tsattn.data.schema import Schema
from tsattn.data.windows import known_rows
from tsattn.forecaster import Forecaster
from tsattn.forecasters.classical import LocalForecaster
from tsattn.forecasters.fitted import interpolated
from tsattn.forecasters.linear import LinearForecaster
from tsattn.forecasters.naive import Drift, Naive, SeasonalNaive
from tsattn.forecasters.pretrained import PretrainedForecaster
from tsattn.forecasters.regression import SklearnForecaster
from tsattn.forecasters.statsforecast import StatsforecastForecaster
from tsattn.forecasts import Answer
from tsattn.silence import ignored

if TYPE_CHECKING:
    from tsattn.data.encoding import CovariateWindows

# Share of positive values from which on logarithms are tried.
_POSITIVE_SHARE = 0.5
# Rows of a season, at most, that exponential smoothing estimates.
_LONGEST_SMOOTHED_SEASON = 24
# Rows that exponential smoothing reads at most.
_SMOOTHED_ROWS = 500
# Rows and seasons that the theta method reads of a series with a longer season.
_THETA_ROWS = 520
_THETA_SEASONS = 3
# Rows that it reads at most; a season that is longer than a third of them is left out.
_MOST_THETA_ROWS = 1000
# Rows that a series needs for a classical model.
_CLASSICAL_ROWS = 12
# Training windows from which on a network is trained.
_LEAST_TRAINING_WINDOWS = 1000
# Seconds that the training of a network needs.
_LEAST_TRAINING_SECONDS = 10.0
# Share of the remaining time that the training of a network may take.
_TRAINING_SHARE = 0.4
# Rows of history that a trained network reads, at least and at most.
_MIN_NETWORK_CONTEXT = 96
_MAX_NETWORK_CONTEXT = 512


class Candidate(NamedTuple):
    """A forecaster that may take part."""

    name: str  # as in the catalogue
    forecaster: Forecaster
    # Whether it forecasts each window from its own rows and learns nothing but the season, so that
    # its speed can be measured on a few windows.
    by_row: bool = False
    # Whether its quantiles count. Those of a network are calibrated on few windows of a short
    # table, and refused where there are too few.
    banded: bool = False
    # Rows that a series needs; 0 stands for half of the rows that the forecaster reads.
    least: int = 1
    # Whether it forecasts the logarithms of the values, of positive windows alone.
    in_logs: bool = False


def candidates(
    panel: Panel, horizon: int, *, point: str, schema: Schema, random_state: Any, until: float
) -> Iterator[Candidate]:
    """The candidates for a panel, the pretrained network first, the others from fast to slow.

    Args:
        panel: The rows that all are judged on.
        horizon: Rows forecast ahead.
        point: Kind of the point, as in :class:`tsattn.AutoForecaster`.
        schema: How tables are read.
        random_state: Seed of the trained models.
        until: The time at which all must be done.
    """
    pretrained = PretrainedForecaster(horizon, point=point, schema=schema)
    yield Candidate("zero", pretrained, banded=True)
    if not schema.columns and _grows_by_shares(panel):
        in_logs = PretrainedForecaster(horizon, schema=schema)
        yield Candidate("zero_log", in_logs, banded=True, in_logs=True)
    yield Candidate("naive", Naive(horizon), by_row=True)
    season = season_length(panel.freq)
    if season > 1:
        yield Candidate("seasonal_naive", SeasonalNaive(horizon), by_row=True)
    yield Candidate("drift", Drift(horizon), by_row=True)
    least_squares = LinearForecaster(horizon, "rlinear", closed_form=True, schema=schema)
    yield Candidate("least_squares", least_squares, least=0)
    if schema.columns:
        trees = SklearnForecaster(horizon, "gbm", schema=schema, random_state=random_state)
        yield Candidate("gbm", trees, least=0)
    for forecaster in _classical(horizon, season):
        yield Candidate(
            forecaster.name, forecaster, by_row=True, banded=True, least=_CLASSICAL_ROWS
        )
    training_seconds = _TRAINING_SHARE * (until - time.monotonic())
    if _can_train(panel, horizon, training_seconds):
        from tsattn.forecasters.attention import AttentionForecaster
        from tsattn.training.settings import Training

        training = Training(max_time=training_seconds, linear_skip="least_squares")
        network = AttentionForecaster(
            horizon, training=training, schema=schema, random_state=random_state
        )
        yield Candidate("mlr", network, least=0)


def _can_train(panel: Panel, horizon: int, seconds: float) -> bool:
    """Whether a network has rows and seconds enough to learn from."""
    # Three and a half horizons.
    wished_context = max(_MIN_NETWORK_CONTEXT, 7 * horizon // 2)
    context = min(_MAX_NETWORK_CONTEXT, wished_context)
    window_rows = context + horizon
    windows = np.maximum(panel.lengths - window_rows + 1, 0)
    has_windows = windows.sum() >= _LEAST_TRAINING_WINDOWS
    return bool(has_windows and seconds >= _LEAST_TRAINING_SECONDS)


def _classical(horizon: int, season: int) -> tuple[LocalForecaster, ...]:
    """The theta method and exponential smoothing, whose form is chosen."""
    theta_settings: dict[str, Any] = {}
    smoothing_settings: dict[str, Any] = {"context": _SMOOTHED_ROWS}
    if season > _LONGEST_SMOOTHED_SEASON:
        # Each value of a season is a state: an estimation takes seconds and follows the noise.
        smoothing_settings = {"season_length": 1}
        theta_settings["context"] = max(_THETA_ROWS, _THETA_SEASONS * season)
    if _THETA_SEASONS * season > _MOST_THETA_ROWS:
        theta_settings = {"season_length": 1}
    theta = StatsforecastForecaster(horizon, "dynamic_theta", **theta_settings)
    smoothing = StatsforecastForecaster(horizon, "auto_ets", **smoothing_settings)
    return theta, smoothing


def _grows_by_shares(panel: Panel) -> bool:
    """Whether the series may grow by percentages: months, quarters or years of positive values."""
    if parse_freq(panel.freq).unit != "month":
        return False
    values = panel.values[:, 0]
    # A missing value is not at most 0.
    missing_or_positive = ~(values <= 0)
    return bool(missing_or_positive.mean() > _POSITIVE_SHARE)


def answer_windows(
    candidate: Candidate,
    x: np.ndarray,
    quantiles: Sequence[float],
    covariates: "CovariateWindows | None",
) -> Answer:
    """The forecasts of a candidate for windows ``x [B, T, 1]`` that may begin with NaN and miss
    values.
    """
    forecaster = candidate.forecaster
    if not forecaster.masks_:
        # Rows before the first value stay NaN: they stand for a shorter history.
        begun = np.logical_or.accumulate(~np.isnan(x), axis=1)
        x = np.where(begun, interpolated(x), np.nan)
    if candidate.in_logs:
        x = _logarithms(x)
    least = candidate.least or forecaster.max_context // 2
    least_rows = max(forecaster.min_context, least)
    able = known_rows(x) >= least_rows
    point, bounds = no_answer(len(x), forecaster.horizon, len(quantiles))
    if not able.any():
        return point, bounds
    member_quantiles = tuple(quantiles) if candidate.banded else ()
    rows = x[able][:, -forecaster.max_context :]
    columns = None
    if covariates is not None:
        able_covariates = covariates.of(able)
        columns = able_covariates.cut(rows.shape[1], forecaster.horizon)
    # The user did not choose this model, so a warning about its windows would not help.
    with ignored((RuntimeWarning, f"{forecaster.alias_}: of ")):
        member_point, member_bounds = forecaster.predict_windows(
            rows, quantiles=member_quantiles, covariates=columns
        )
    point[able] = member_point
    if member_quantiles:
        bounds[able] = member_bounds
    if candidate.in_logs:
        return _exponential(point), _exponential(bounds)
    return point, bounds


def no_answer(n_windows: int, horizon: int, n_quantiles: int) -> Answer:
    """Forecasts of windows of one channel that are all missing."""
    point = np.full((n_windows, horizon, 1), np.nan)
    bounds = np.full((n_windows, horizon, 1, n_quantiles), np.nan)
    return point, bounds


def _logarithms(x: np.ndarray) -> np.ndarray:
    """Logarithms of windows; NaN in those that are not positive."""
    is_positive = x > 0
    has_others = (x <= 0).any(axis=1, keepdims=True)
    usable = is_positive & ~has_others
    positive = np.where(usable, x, np.nan)
    return np.log(positive)


def _exponential(logarithm: np.ndarray) -> np.ndarray:
    """The exponential, bounded: one far beyond the past may be too large for a number."""
    largest = np.log(np.finfo(np.float64).max) - 1
    bounded = np.minimum(logarithm, largest)
    return np.exp(bounded)
