"""The default for any table: candidates judged on the table's own past, and a combination of the
best.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pandas as pd
import torch

from tsattn.data.covariates import CovariateColumns
from tsattn.data.cycles import calendar_slices
from tsattn.data.frames import Panel, TableLike, season_length
from tsattn.data.schema import Schema
from tsattn.data.stored import require
from tsattn.data.windows import History, Values, known_rows
from tsattn.evaluate.backtest import seasonal_errors
from tsattn.forecaster import Forecaster
from tsattn.forecasters.classical import StatsmodelsForecaster
from tsattn.forecasters.linear import LinearForecaster
from tsattn.forecasters.naive import Drift, Naive, SeasonalNaive
from tsattn.forecasters.pretrained import GapForecaster, PretrainedForecaster, check_histories
from tsattn.forecasters.statsforecast import StatsforecastForecaster
from tsattn.limits import seconds_from
from tsattn.pretrained.weights import load_network
from tsattn.silence import ignored
from tsattn.terminal import ProgressLine, progress_line

if TYPE_CHECKING:
    from tsattn.data.encoding import CovariateWindows

# Windows judged: a horizon apart, the last one always, others while so large a share of the rows
# stands before them. Every series has up to _FEWEST of them, and up to _MOST where the table has
# few series; _JUDGED are drawn in all.
_FEWEST = 4
_MOST = 12
_BEFORE = 0.6
_FEW = 240
_JUDGED = 400
# Quantiles whose band is corrected.
_LEVEL = (0.1, 0.9)
# Values that weights are fitted on at most.
_VALUES = 20_000
# A candidate counts if its error is at most so many times the smallest one.
_WITHIN = 1.05
# Weights that fit best are mixed with equal ones, then with those believed before, which count as
# so many windows.
_EQUAL = 0.3
_BELIEF = 8
_LEAST_WEIGHT = 0.03
# Bands are made to hold so large a share of the truths; with so many windows the correction counts
# by half.
_HELD = 0.8
_HALF = 12
_NARROWEST = 0.4
_WIDEST = 2.5
# Series that a candidate forecasts before its time is told, and seconds that are always there.
_TIMED = 8
_ALWAYS = 1.0
# Rows from which on a classical model is asked for a series.
_LEAST_ROWS = 12
# A network is trained where there are so many windows to learn from, and so many seconds for it.
_LEAST_WINDOWS = 1000
_LEAST_SECONDS = 10.0
# Candidates, as progress counts them.
_CANDIDATES = 8
# Columns of the leaderboard.
_COLUMNS = ("error", "weight", "seconds", "note")


class _Candidate(NamedTuple):
    """A forecaster that may take part."""

    name: str  # as in the catalogue
    forecaster: Forecaster
    # Whether it answers each series and channel from its own rows and learns nothing but the
    # season, so that its time is told by a few.
    by_row: bool = False
    # Whether its quantiles count. Those of a network are calibrated on few windows of a short
    # table, and refused where there are too few.
    banded: bool = False
    least: int = 1  # rows of a series from which on it is asked; 0 stands for half of what it reads


# Points [B, F, C], NaN where there is none, and quantiles [B, F, C, Q], NaN too of a forecaster
# that gives points only.
_Answer = tuple[np.ndarray, np.ndarray]


class _Trial(NamedTuple):
    """What a candidate, fitted on the rows before the judged windows, said of them, and in how many
    seconds.
    """

    candidate: _Candidate
    answer: _Answer
    seconds: float


class AutoForecaster(GapForecaster):
    """The best forecast in a given time: candidates are judged on the table's own past, and the
    good ones combined.

    Candidates are the pretrained network, a map solved by least squares, the theta method and
    exponential smoothing, the seasonal naive, drift and naive rules, and an attention network where
    rows and time suffice. ``fit`` lets each learn from the rows before some windows at the end of
    every series, a horizon apart, and forecast these; absolute errors count in units of each
    series' seasonal differences.

    The point is a weighted mean of the candidates whose error is within a twentieth of the
    smallest. The weights are those with the smallest error on the windows, drawn towards equal
    ones, and, the fewer windows there are, towards the pretrained network alone, unless it is
    clearly behind. Bands are the members' own around the point, made wider or narrower until those
    of level 80 hold 80% of the windows' truths, as far as there are windows enough to tell. The
    pretrained network stands in where a series is too short for a member. Counts (whole numbers,
    none negative) have no forecast below zero.

    A candidate that would take more than half of what is left of ``max_time``, for the windows and
    one forecast of the table together, is left out: under a tight limit the forecast depends on the
    machine.

    Args:
        horizon: Rows forecast ahead, 1 to 1,024.
        max_time: Time limit of ``fit`` and one ``predict``, such as ``"1m"`` or seconds.
        alias: Name of the columns; default ``"auto"``.
        schema: How tables are read. Missing values are left out of account unless it says
            otherwise.
        random_state: Seed of the trained network.

    Attributes:
        leaderboard_: One row a candidate, the best first: ``error`` (mean absolute error, seasonal
            differences being 1), ``weight``, ``seconds``, and ``note``, which tells why it takes no
            part.
        n_windows_: Windows that were judged, of all series together.
        band_factor_: What the width of the members' bands is multiplied by.

    Raises:
        ValueError: If ``horizon`` or ``max_time`` is out of its range.

    Example:
        >>> days = pd.date_range("2024-01-01", periods=120)
        >>> df = pd.DataFrame({"ds": days, "y": np.arange(120) % 7 + np.sin(np.arange(120))})
        >>> AutoForecaster(7).fit(df).predict(level=80).columns.tolist()
        ['ds', 'auto', 'auto-lo-80', 'auto-hi-80']
    """

    name = "auto"

    leaderboard_: pd.DataFrame
    n_windows_: int
    band_factor_: float
    # Those with a weight, and the pretrained network, which stands in for them.
    _members: tuple[_Candidate, ...]
    _weights: np.ndarray
    _line: ProgressLine | None = None

    def __init__(
        self,
        horizon: int,
        *,
        max_time: str | float = "1m",
        alias: str | None = None,
        schema: Schema = Schema(),
        random_state: Any = 0,
    ) -> None:
        PretrainedForecaster(horizon)
        seconds = seconds_from(max_time)
        if seconds is None or not seconds > 0:
            raise ValueError(
                f"max_time must be above 0, such as '1m' or 60 seconds; got {max_time!r}"
            )
        self.horizon = horizon
        self.max_time = max_time
        self.alias = alias
        self.schema = schema
        self.random_state = random_state

    @property
    def max_context(self) -> int:
        """Rows of history that are read where there are so many; known once it is fitted, one
        before.
        """
        return max(
            (each.forecaster.max_context for each in vars(self).get("_members", ())), default=1
        )

    @property
    def least_context(self) -> int:
        """Rows at the end of a series among which it must have a value."""
        members = [member.forecaster for member in vars(self).get("_members", ())]
        reaches = [
            each.least_context if isinstance(each, GapForecaster) else each.max_context
            for each in members
        ]
        return max(reaches, default=1)

    @property
    def covariate_columns_(self) -> CovariateColumns:
        """What the last fit read beside the target, the cycles of all members among it."""
        return _joined(self._members) if "_members" in vars(self) else self.covariate_columns

    def _checked(self, x: np.ndarray) -> np.ndarray:
        self.check_fitted()
        return check_histories(x, self.max_context, self.least_context)

    def fit(self, data: TableLike | Panel, y: None = None, *, verbose: bool = False) -> Self:
        """Judge the candidates on a table; what was learnt before is forgotten.

        Args:
            data: A long or wide frame or a series, as :func:`tsattn.forecast` takes them, or a
                panel.
            y: Ignored; scikit-learn passes it.
            verbose: Show progress on stderr where that is a terminal.

        Raises:
            ValueError: If the table is faulty, or a series has no value; nothing is changed then.
        """
        seconds = seconds_from(self.max_time)
        with progress_line(
            self.alias_ if verbose else None, n_steps=_CANDIDATES, seconds=seconds
        ) as self._line:
            try:
                return super().fit(data)
            finally:
                self._line = None

    def _learn(self, panel: Panel) -> None:
        until = time.monotonic() + (seconds_from(self.max_time) or 0.0)
        ends, stops = _judged(panel, self.horizon)
        past = panel.until(stops)
        owners = np.searchsorted(panel.starts, ends, side="right") - 1
        trials: list[_Trial] = []
        notes: dict[str, str] = {}
        for number, candidate in enumerate(self._candidates(panel, until)):
            if self._line is not None:
                self._line.show(number, f"judging {candidate.name}")
            found = _try(candidate, past, panel, ends, until if trials and len(ends) else None)
            if not isinstance(found, str):
                trials.append(found)
            elif not trials:
                raise ValueError(
                    found
                )  # what the pretrained network refuses, nobody could stand in for
            else:
                notes[candidate.name] = found
            if not len(ends):
                break
        # [M, W C, F], in units of each series' seasonal differences; NaN where a truth, the unit or
        # an answer lacks.
        scale = _scale(panel)[owners][:, None]
        truth = History(panel).futures(ends, self.horizon)
        answers = [trial.answer for trial in trials]
        errors = np.moveaxis((np.stack([point for point, _ in answers]) - truth) / scale, 2, 3)
        errors = errors.reshape(len(trials), -1, self.horizon)
        told = ~np.isnan(errors[0]).all(axis=1)
        rows = np.repeat(owners, panel.n_channels) * panel.n_channels + np.tile(
            np.arange(panel.n_channels), len(ends)
        )
        errors = errors[:, told]
        n_rows = len(np.unique(rows[told]))
        # Windows of different series end at the same time, and tell less than as many of one
        # series.
        evidence = told.sum() / np.sqrt(max(n_rows, 1))
        weights = _weights(errors, evidence)
        board = _leaderboard(trials, notes, errors, weights)
        factor = _band_factor(
            *_combined([_completed(each, answers[0]) for each in answers], weights), truth, evidence
        )
        kept = [m for m, weight in enumerate(weights) if m == 0 or weight > 0]
        members = tuple(_refitted(trials[m], panel, until) for m in kept)
        self._members, self._weights = members, weights[kept]
        self.leaderboard_, self.n_windows_, self.band_factor_ = board, len(ends), factor

    def _candidates(self, panel: Panel, until: float) -> Iterator[_Candidate]:
        """The candidates, the pretrained network first and the others from cheap to dear."""
        steps = self.horizon
        schema = self.schema
        yield _Candidate("zero", PretrainedForecaster(steps, schema=schema), banded=True)
        yield _Candidate("naive", Naive(steps), by_row=True)
        if season_length(panel.freq) > 1:
            yield _Candidate("seasonal_naive", SeasonalNaive(steps), by_row=True)
        yield _Candidate("drift", Drift(steps), by_row=True)
        least_squares = LinearForecaster(steps, "rlinear", closed_form=True, schema=schema)
        yield _Candidate("least_squares", least_squares, least=0)
        for forecaster in _classical(steps):
            yield _Candidate(
                forecaster.name, forecaster, by_row=True, banded=True, least=_LEAST_ROWS
            )
        network = self._network(panel, until)
        if network is not None:
            yield _Candidate("mlr", network, least=0)

    def _network(self, panel: Panel, until: float) -> Forecaster | None:
        """A network to be trained in a part of the time that is left, if it is worth while."""
        from tsattn.forecasters.attention import AttentionForecaster
        from tsattn.training.settings import Training

        seconds = 0.4 * (until - time.monotonic())
        context = min(512, max(96, 7 * self.horizon // 2))
        windows = np.maximum(panel.lengths - context - self.horizon + 1, 0).sum() * panel.n_channels
        if windows < _LEAST_WINDOWS or seconds < _LEAST_SECONDS:
            return None
        training = Training(max_time=seconds, linear_skip="least_squares")
        return AttentionForecaster(
            self.horizon, training=training, schema=self.schema, random_state=self.random_state
        )

    def _forecast(
        self, x: np.ndarray, quantiles: Sequence[float], covariates: "CovariateWindows | None"
    ) -> tuple[np.ndarray, np.ndarray]:
        own = [
            covariates and _share(covariates, self.covariate_columns_, each)
            for each in self._members
        ]
        answers = [
            _answer(each, x, quantiles, beside)
            for each, beside in zip(self._members, own, strict=True)
        ]
        point, spread = _combined([_completed(each, answers[0]) for each in answers], self._weights)
        bounds = np.sort(point[..., None] + self.band_factor_ * spread, axis=-1)
        counts = np.isnan(x) | ((x >= 0) & (x == np.round(x)))
        values = Values.after(x).above_zero(counts.all(axis=1, keepdims=True))
        return values.nearest(point), values.nearest(bounds)

    # --- saved folders ----------------------------------------------------------------------------

    learnt = ("n_windows_",)
    bound = ("horizon",)

    def _learnt_tensors(self) -> dict[str, torch.Tensor]:
        factor = torch.tensor([self.band_factor_], dtype=torch.float64)
        return {"weights": torch.as_tensor(self._weights), "band_factor": factor}

    def _inside(self) -> tuple[dict[str, Any], dict[str, Any]]:
        board = self.leaderboard_.reset_index().to_numpy().tolist()
        facts = {
            "members": [[each.name, *each[2:]] for each in self._members],
            # Without NaN, which JSON lacks.
            "leaderboard": [[None if each != each else each for each in row] for row in board],
        }
        return facts, {each.name: each.forecaster for each in self._members}

    def _take(
        self, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any], folder: Path
    ) -> None:
        from tsattn.forecasters.saving import inner_folder, saved_class

        members = []
        for name, by_row, banded, least in facts["members"]:
            inside = inner_folder(folder, facts, name)
            forecaster = _kinds()[saved_class(inside)].load(inside)
            require(forecaster.horizon == self.horizon, f"horizon of {name}")
            members.append(_Candidate(name, forecaster, by_row is True, banded is True, int(least)))
        self._members = tuple(members)
        tail = self._members[0].forecaster.panel_
        require(len(tail.values) == len(self.panel_.values), "series")
        self.panel_ = replace(self.panel_, covariates=tail.covariates)
        board = pd.DataFrame(facts["leaderboard"], columns=["model", *_COLUMNS]).set_index("model")
        self.leaderboard_ = board.astype(dict.fromkeys(_COLUMNS[:3], float))
        weights = tensors["weights"].numpy()
        factor = float(tensors["band_factor"])
        require(weights.shape == (len(self._members),) and weights.dtype == np.float64, "weights")
        require(bool((weights >= 0).all()) and abs(weights.sum() - 1) < 1e-6, "weights")
        require(_NARROWEST <= factor <= _WIDEST, f"band_factor = {factor}")
        self._weights = weights
        self.band_factor_ = factor


def _classical(horizon: int) -> tuple[Forecaster, ...]:
    """The theta method and exponential smoothing, compiled and searched for where statsforecast is
    installed.
    """
    if find_spec("statsforecast") is None:
        return StatsmodelsForecaster(horizon, "theta"), StatsmodelsForecaster(horizon, "ets")
    return StatsforecastForecaster(horizon, "dynamic_theta"), StatsforecastForecaster(
        horizon, "auto_ets"
    )


def _kinds() -> dict[str, Any]:
    """The classes of members by name."""
    from tsattn.forecasters.attention import AttentionForecaster

    own = (Naive, SeasonalNaive, Drift, PretrainedForecaster, LinearForecaster, AttentionForecaster)
    return {each.__name__: each for each in (*own, StatsmodelsForecaster, StatsforecastForecaster)}


def _judged(panel: Panel, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Absolute rows just after the contexts of the judged windows ``[W]``, ascending, and the rows
    of each series that stand before its first one, ``[N]``; all rows of a series without any.
    """
    lengths = panel.lengths
    rows = panel.n_series * panel.n_channels
    most = min(max(_FEW // rows, _FEWEST), _MOST)
    counts = np.clip(((1 - _BEFORE) * lengths / horizon).astype(np.int64), 1, most)
    counts[lengths <= horizon] = 0
    owner = np.repeat(np.arange(panel.n_series), counts)
    back = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    ends = panel.starts[owner + 1] - horizon * (back + 1)
    # Before a window, every channel has shown a value to the pretrained network, which stands in
    # for all others.
    count = np.zeros((len(panel.values) + 1, panel.n_channels), dtype=np.int64)
    np.cumsum(~np.isnan(panel.values), axis=0, out=count[1:])
    reach = load_network().config.token_context
    told = (count[ends] > count[np.maximum(ends - reach, panel.starts[owner])]).all(axis=1)
    ends = ends[told]
    owner = owner[told]
    back = back[told]
    wanted = max(_JUDGED // panel.n_channels, 1)
    if len(ends) > wanted:
        # The last windows first, so that short series count as long ones do.
        chosen = np.lexsort((np.random.default_rng(0).random(len(ends)), back))[:wanted]
        ends = ends[chosen]
        owner = owner[chosen]
    stops = lengths.copy()
    np.minimum.at(stops, owner, ends - panel.starts[owner])
    return np.sort(ends), stops


def _scale(panel: Panel) -> np.ndarray:
    """Mean absolute seasonal difference of each series and channel, ``[N, C]``; that of neighbours
    where there is none, NaN where that is none either.
    """
    season = season_length(panel.freq)
    scale = seasonal_errors(panel, panel.lengths, season)
    if season > 1:
        scale = np.where(scale > 0, scale, seasonal_errors(panel, panel.lengths, 1))
    return np.where(scale > 0, scale, np.nan)


def _try(
    candidate: _Candidate, past: Panel, panel: Panel, ends: np.ndarray, until: float | None
) -> _Trial | str:
    """Answers to windows that end before ``ends`` in ``panel``, learnt from ``past``, or why there
    are none.

    ``until`` is the time at which all must be done; ``None`` asks for no limit.
    """
    started = time.monotonic()
    try:
        _fit(candidate, past)
    except ValueError as error:
        return str(error)
    forecaster = candidate.forecaster
    history = History(panel)
    x = (
        history.reaching(ends, forecaster.max_context)
        if len(ends)
        else np.empty((0, 1, panel.n_channels))
    )
    beside = forecaster.covariate_history(panel.keep(forecaster.covariate_columns_))
    if candidate.by_row and until is not None:
        few = x[np.linspace(0, len(x) - 1, min(len(x), _TIMED)).astype(np.int64)]
        _answer(candidate, few[:1], _LEVEL, None)
        before = time.monotonic()
        _answer(candidate, few, _LEVEL, None)
        now = time.monotonic()
        seconds = (now - before) / len(few) * (len(ends) + panel.n_series)
        if seconds > max((until - now) / 2, _ALWAYS):
            return (
                f"would take {seconds:.0f} of the {max(until - now, 0):.0f} seconds that are left"
            )
    covariates = None if beside is None else beside.windows(ends, x.shape[1], forecaster.horizon)
    answer = _answer(candidate, x, _LEVEL, covariates)
    return _Trial(candidate, answer, time.monotonic() - started)


def _fit(candidate: _Candidate, panel: Panel) -> None:
    forecaster = candidate.forecaster
    if candidate.by_row:
        longest = int(panel.lengths.argmax())
        panel = panel.some(longest, longest + 1)
    if panel.missing == "mask" and not forecaster.masks:
        panel = replace(panel, missing="interpolate")
    # Series too short for a network are forecast as they would be without it.
    with ignored((UserWarning, r"\d+ of \d+ series have fewer than")):
        forecaster.fit(panel.keep(forecaster.covariate_columns))


def _refitted(trial: _Trial, panel: Panel, until: float) -> _Candidate:
    """The candidate after learning from all rows; one that is trained, or takes more time than is
    left, stays.
    """
    candidate = trial.candidate
    forecaster = trial.candidate.forecaster
    if candidate.name != "mlr" and (candidate.by_row or trial.seconds < until - time.monotonic()):
        _fit(candidate, panel)
    # The series themselves are kept once.
    whole = candidate.name == "zero"
    tail = (
        panel.keep(forecaster.covariate_columns_)
        if whole
        else forecaster.panel_.last(forecaster.min_context)
    )
    forecaster.panel_ = tail
    return candidate


def _answer(
    candidate: _Candidate,
    x: np.ndarray,
    quantiles: Sequence[float],
    covariates: "CovariateWindows | None",
) -> _Answer:
    """What a member says of windows ``x [B, T, C]`` that may begin with NaN and miss values."""
    forecaster, (n_windows, _, n_channels) = candidate.forecaster, x.shape
    if candidate.by_row:
        x = np.moveaxis(x, 2, 1).reshape(-1, x.shape[1], 1)
    if not forecaster.masks:
        # All channels begin together, where the last of them does.
        begun = np.logical_or.accumulate(~np.isnan(x), axis=1).all(axis=2, keepdims=True)
        x = np.where(begun, _filled(x), np.nan)
    rows = known_rows(x)
    able = rows >= max(forecaster.min_context, candidate.least or forecaster.max_context // 2)
    point = np.full((len(x), forecaster.horizon, x.shape[2]), np.nan)
    bounds = np.full((*point.shape, len(quantiles)), np.nan)
    if able.any():
        asked = tuple(quantiles) if candidate.banded else ()
        beside = covariates and covariates.of(able).cut(
            min(x.shape[1], forecaster.max_context), forecaster.horizon
        )
        # How many windows a model broke down on is for a user who chose that model.
        with ignored((RuntimeWarning, f"{forecaster.alias_}: of ")):
            rows_read = x[able][:, -forecaster.max_context :]
            point[able], found = forecaster.predict_windows(
                rows_read, quantiles=asked, covariates=beside
            )
        if asked:
            bounds[able] = found
    if candidate.by_row:
        shape = (n_windows, n_channels, forecaster.horizon)
        point = np.moveaxis(point.reshape(shape), 1, 2)
        bounds = np.moveaxis(bounds.reshape(*shape, len(quantiles)), 1, 2)
    return point, bounds


def _joined(members: Sequence[_Candidate]) -> CovariateColumns:
    """The columns that members read, with the categories of the first, which has seen all rows, and
    all cycles.
    """
    found = [
        each.forecaster.covariate_columns_ for each in members if each.forecaster.covariate_columns_
    ]
    cycles = tuple(dict.fromkeys(name for each in found for name in each.calendar))
    return replace(found[0], calendar=cycles) if found else CovariateColumns()


def _share(
    covariates: "CovariateWindows", have: CovariateColumns, member: _Candidate
) -> "CovariateWindows | None":
    """Those covariates that a member reads."""
    wanted = member.forecaster.covariate_columns_
    if not wanted:
        return None
    n = len(have.future)
    places = calendar_slices(have.calendar)
    cycles = [
        n + k for name in wanted.calendar for k in range(places[name].start, places[name].stop)
    ]
    covariates = covariates.recoded(have, wanted)
    return replace(covariates, known=covariates.known[..., [*range(n), *cycles]])


def _filled(x: np.ndarray) -> np.ndarray:
    """Windows ``[B, T, C]`` without gaps between values: lines through them, and the last one to
    the end.
    """
    flat = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)
    missing = np.isnan(flat)
    if not (missing[1:] > missing[:-1]).any():
        return x
    whole = pd.DataFrame(flat).interpolate(limit_direction="forward").to_numpy()
    return np.moveaxis(whole.reshape(x.shape[1], x.shape[0], x.shape[2]), 0, 1)


def _completed(answer: _Answer, first: _Answer) -> _Answer:
    """What is not answered taken from another answer."""
    lacking = np.isnan(answer[0])
    return np.where(lacking, first[0], answer[0]), np.where(lacking[..., None], first[1], answer[1])


def _combined(answers: Sequence[_Answer], weights: np.ndarray) -> _Answer:
    """Weighted point, and how far the quantiles are from it: the weighted mean of those members
    that give some, or what the first one says.
    """
    point = sum(weight * each for weight, (each, _) in zip(weights, answers, strict=True))
    total = np.zeros_like(answers[0][1])
    shares = np.zeros_like(answers[0][1])
    for weight, (each, bounds) in zip(weights, answers, strict=True):
        spread = bounds - each[..., None]
        told = weight * ~np.isnan(spread)
        total += told * np.nan_to_num(spread)
        shares += told
    own = answers[0][1] - answers[0][0][..., None]
    return np.asarray(point), np.where(shares > 0, total / np.where(shares > 0, shares, 1.0), own)


def _weights(errors: np.ndarray, evidence: float) -> np.ndarray:
    """Weights of the candidates, ``[M]``, the first one being believed in before, from scaled
    errors ``[M, W, F]``.

    An error is NaN where it is not known. The first candidate has some in each window; where
    another has none, it stands in. ``evidence`` is the number of windows that would tell as much if
    they were independent.
    """
    prior = np.eye(len(errors))[0]
    if not errors.shape[1]:
        return prior
    means = _means(errors)
    near = means <= _WITHIN * means.min()
    errors = np.where(np.isnan(errors), errors[0], errors)
    each = np.nanmean(np.abs(errors), axis=2)
    flat = errors[near].reshape(int(near.sum()), -1)
    flat = flat[:, ~np.isnan(flat[0])]
    best = np.zeros(len(errors))
    best[near] = (1 - _EQUAL) * _least_absolute(
        flat[:, :: -(-flat.shape[1] // _VALUES)]
    ) + _EQUAL / near.sum()
    behind = each[0] - each[means.argmin()]
    if evidence >= 2 and behind.mean() > 2 * behind.std() / np.sqrt(evidence):
        prior = near / near.sum()
    weights = (evidence * best + _BELIEF * prior) / (evidence + _BELIEF)
    weights[weights < _LEAST_WEIGHT] = 0.0
    return np.asarray(weights / weights.sum())


def _means(errors: np.ndarray) -> np.ndarray:
    """Mean absolute error of each candidate, ``[M]``; over the windows that it answered, as it
    would be over all if it kept its lead or lag on the first one. Infinite where it answered none.
    """
    total = np.abs(errors)
    beside = np.where(np.isnan(errors), np.nan, total[0])
    own, first = (np.nansum(each, axis=(1, 2)) for each in (total, beside))
    ratio = np.where(
        (~np.isnan(errors)).any(axis=(1, 2)), own / np.where(first > 0, first, 1.0), np.inf
    )
    return np.asarray(ratio * np.nanmean(np.nanmean(total[0], axis=1)))


def _least_absolute(errors: np.ndarray) -> np.ndarray:
    """Weights on the simplex ``[M]`` for which the mean absolute weighted error is smallest, errors
    being ``[M, n]``.

    Exponentiated subgradients (Kivinen and Warmuth, 1997), the mean of the second half of the
    steps.
    """
    log = np.zeros(len(errors))
    total = np.zeros(len(errors))
    n_steps = 400
    unit = np.abs(errors).mean()
    for step in range(n_steps):
        weights = np.exp(log - log.max())
        weights /= weights.sum()
        if step >= n_steps // 2:
            total += weights
        gradient = errors @ np.sign(weights @ errors) / errors.shape[1]
        log -= gradient / max(unit, 1e-300) / np.sqrt(1 + step)
    return total / total.sum()


def _band_factor(
    point: np.ndarray, spread: np.ndarray, truth: np.ndarray, evidence: float
) -> float:
    """What the spread ``[W, F, C, 2]`` must be multiplied by for the bounds to hold so large a
    share of the truths.
    """
    known = ~np.isnan(truth)
    gap = (truth - point)[known]
    # Where so many truths, such as zeros, are the very points, any width holds them.
    if not gap.size or np.quantile(np.abs(gap), _HELD, method="higher") == 0:
        return 1.0
    room = np.where(gap > 0, spread[known][:, 1], -spread[known][:, 0])
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.where(gap == 0, 0.0, np.abs(gap) / room)
    factor = float(np.quantile(needed, _HELD, method="higher"))
    return float(np.clip(factor ** (evidence / (evidence + _HALF)), _NARROWEST, _WIDEST))


def _leaderboard(
    trials: Sequence[_Trial], notes: dict[str, str], errors: np.ndarray, weights: np.ndarray
) -> pd.DataFrame:
    means = _means(errors) if errors.shape[1] else np.full(len(trials), np.nan)
    means[np.isinf(means)] = np.nan
    rows = [
        (t.candidate.name, e, w, t.seconds, "")
        for t, e, w in zip(trials, means, weights, strict=True)
    ]
    rows += [(name, np.nan, 0.0, np.nan, note) for name, note in notes.items()]
    return (
        pd.DataFrame(rows, columns=["model", *_COLUMNS])
        .set_index("model")
        .sort_values("error", kind="stable")
    )
