"""Covariates for forecasters that read none: a ridge regression before or after them, kept where it helps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tsattn.data.covariates import CovariateColumns
from tsattn.data.cycles import calendar_slices, calendar_width, season_cycle
from tsattn.data.encoding import CovariateEncoder, CovariateHistory, CovariateWindows
from tsattn.data.frames import Panel, season_length
from tsattn.data.stored import require
from tsattn.data.windows import History

# Points [B, F, C] and quantiles [B, F, C, Q] of contexts [B, T, C], without covariates.
Base = Callable[[np.ndarray, Sequence[float]], tuple[np.ndarray, np.ndarray]]

# Penalties tried, as shares of the variance of a feature.
_PENALTIES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
# A mean and a spread are those of so many seasons, and of so many rows at least.
_SEASONS, _LEAST_ROWS = 7, 32
# Windows that teach and check, series that they are taken from, and windows without which nothing is learnt.
_MOST_WINDOWS, _MOST_SERIES, _LEAST_WINDOWS = 1024, 128, 32
# The last windows of a series check: one of so many.
_HELD_OUT = 4
# Beyond so many features, covariates are not taken by the phase of the season.
_MOST_FEATURES = 1000
# A gain counts if it is so many standard errors above zero, and such a share of the error.
_SURE, _WORTH = 2.0, 0.01
_BINS = {"hour": 24, "weekday": 7, "month": 12}
_CHUNK_VALUES = 2**23


@dataclass(frozen=True, eq=False)
class Ridge:
    """A linear map of features to one number, in units of a window's spread.

    Attributes:
        weights: One a feature.
        offset: Added to it.
        squares: Whether squares of the numeric future columns are among the features.
    """

    weights: np.ndarray
    offset: float
    squares: bool

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """``[...]`` of features ``[..., n]``."""
        return np.asarray(features @ self.weights + self.offset)


@dataclass(frozen=True, eq=False)
class Leftovers:
    """What covariates add to the forecasts of a base that does not read them.

    A regression after the base forecasts its errors; one before it forecasts the target, and the base what that leaves
    over. Where both are kept, the forecast is the mean of the two. Everything is in units of the spread of a window's
    last rows, so all series and channels share the regressions.

    Attributes:
        encoder: How covariates are read.
        rows: Last rows of a window that its level and spread are of.
        horizon: Steps of the windows that taught.
        after: Regression of the base's errors, if it is kept.
        before: Regression of the target, if it is kept.
        ratio: Error on the windows held out over the base's, by which intervals are scaled.
    """

    encoder: CovariateEncoder
    rows: int
    horizon: int
    after: Ridge | None = None
    before: Ridge | None = None
    ratio: float = 1.0

    def forecast(
        self, base: Base, x: np.ndarray, quantiles: Sequence[float], covariates: CovariateWindows
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points ``[B, F, C]`` and quantiles ``[B, F, C, Q]`` of contexts ``[B, T, C]``.

        They are the base's own where no regression was kept. A step whose future columns are NaN is NaN otherwise.
        """
        if self.after is None and self.before is None:
            return base(x, quantiles)
        plain, bounds = base(x, (*quantiles, *(1 - q for q in quantiles)))
        point = self.completed(base, plain, x, covariates)
        # Events that the columns tell made the base's bands lopsided; both sides get half of their width.
        own, mirrored = np.split(bounds, 2, axis=3)
        return point, point[..., None] + self.ratio * (own - mirrored) / 2

    def completed(self, base: Base, plain: np.ndarray, x: np.ndarray, covariates: CovariateWindows) -> np.ndarray:
        """Points ``[B, F, C]`` with the regressions that are kept, of the base's own points ``plain``."""
        found, channels = [], range(x.shape[2])
        if self.after is not None:  # the errors that are expected of the base, taken off
            errors = [self._said(self.after, x[..., c], covariates, plain[..., c]) for c in channels]
            found.append(plain + np.stack(errors, axis=2))
        if self.before is not None:  # what covariates say, and the base for what they leave over
            said = np.stack([self._said(self.before, x[..., c], covariates) for c in channels], axis=2)
            point = base(x - said[:, : x.shape[1]], ())[0]
            found.append(point + said[:, x.shape[1] :][:, : point.shape[1]])
        return np.asarray(np.mean(found, axis=0))

    def _said(
        self, ridge: Ridge, x: np.ndarray, covariates: CovariateWindows, point: np.ndarray | None = None
    ) -> np.ndarray:
        """What a regression says, in the units of contexts ``[B, T]``: of all rows, or of steps that have points."""
        rows = slice(None) if point is None else slice(x.shape[1], x.shape[1] + point.shape[1])
        found, n_steps = [], (covariates.known if point is None else point).shape[1]
        size = max(1, _CHUNK_VALUES // (len(ridge.weights) * n_steps))
        for first in range(0, max(len(x), 1), size):
            part = slice(first, first + size)
            read = _Read(self, x[part], covariates.of(part))
            features = read.features(rows, ridge.squares, None if point is None else point[part])
            found.append(np.where(read.spread > 0, read.spread * ridge(features), 0.0))
        return np.concatenate(found)

    def facts(self) -> dict[str, Any]:
        """What JSON holds of it; the encoder is no part of it."""
        kept = {"after": self.after, "before": self.before}
        ridges = {n: r and {"offset": r.offset, "squares": r.squares} for n, r in kept.items()}
        return {"rows": self.rows, "horizon": self.horizon, "ratio": self.ratio, **ridges}

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights, by the names of the regressions that are kept."""
        kept = {"after": self.after, "before": self.before}
        return {f"leftovers.{name}": ridge.weights for name, ridge in kept.items() if ridge is not None}

    @classmethod
    def rebuilt(cls, encoder: CovariateEncoder, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> Leftovers:
        """Undo :meth:`facts` and :meth:`arrays`.

        Raises:
            ValueError: If something is not what they gave; also LookupError or TypeError.
        """
        for name in ("rows", "horizon"):
            require(type(facts[name]) is int and facts[name] >= 1, f"{name} = {facts[name]!r:.40}")
        made = cls(encoder, facts["rows"], facts["horizon"], ratio=float(facts["ratio"]))
        require(0 < made.ratio < np.inf, f"ratio = {made.ratio}")
        for name in ("after", "before"):
            if facts[name] is None:
                continue
            weights, offset, squares = arrays[f"leftovers.{name}"], facts[name]["offset"], facts[name]["squares"]
            require(type(squares) is bool and np.isfinite(offset), f"regression {name}")
            size = made.n_features(squares, based=name == "after")
            fits = weights.shape == (size,) and weights.dtype == np.float64 and bool(np.isfinite(weights).all())
            require(fits, f"weights of shape {weights.shape}")
            made = made.keeping({name: Ridge(weights, float(offset), squares)}, made.ratio)
        return made

    def keeping(self, ridges: Mapping[str, Ridge], ratio: float = 1.0) -> Leftovers:
        """The same with some regressions, by their names."""
        after, before = ridges.get("after", self.after), ridges.get("before", self.before)
        return replace(self, after=after, before=before, ratio=ratio)

    def n_features(self, squares: bool, *, based: bool) -> int:
        """Features that a regression reads."""
        columns = self.encoder.columns
        nothing = CovariateWindows(
            np.zeros((1, 1, len(columns.past))),
            np.zeros((1, 2, len(columns.future) + calendar_width(columns.calendar))),
            np.array([[0.0 if known is None else known[0] for known in self.encoder.categories]], dtype=object),
        )
        point = np.zeros((1, 1)) if based else None
        return _Read(self, np.ones((1, 1)), nothing).features(slice(1, 2), squares, point).shape[2]


class _Read:
    """What the regressions see of B windows of one channel, contexts ``x [B, T]``."""

    def __init__(self, own: Leftovers, x: np.ndarray, covariates: CovariateWindows) -> None:
        encoder, self.context, self.horizon = own.encoder, x.shape[1], own.horizon
        here = np.isfinite(x[:, -own.rows :])
        values, count = np.where(here, x[:, -own.rows :], 0.0), np.maximum(here.sum(axis=1, keepdims=True), 1)
        # In units of the largest value, so that squares stay within range.
        size = np.abs(values).max(axis=1, keepdims=True, initial=0.0)
        values = values / np.where(size > 0, size, 1.0)
        level = values.sum(axis=1, keepdims=True) / count
        spread = np.sqrt((np.where(here, values - level, 0.0) ** 2).sum(axis=1, keepdims=True) / count)
        # A constant window leaves rounding dust, not zero.
        self.level, self.spread = level * size, np.where(spread > 1e-12, spread, 0.0) * size
        parts, n_steps = encoder.parts(covariates), covariates.known.shape[1]
        empty = np.empty((len(x), n_steps, 0))
        known = parts.get("known", empty).astype(np.float64)
        known[np.isnan(covariates.known).any(axis=2)] = np.nan  # also of text, whose indicators would be zeros
        n_future = known.shape[2] - calendar_width(encoder.columns.calendar)
        cycles = {
            name: known[..., n_future:][..., at] for name, at in calendar_slices(encoder.columns.calendar).items()
        }
        self.season: np.ndarray | None = None
        self.week: np.ndarray | None = None
        if encoder.columns.calendar and encoder.columns.calendar[0] in _BINS:
            self.season = _indicators(cycles.pop(name := encoder.columns.calendar[0]), _BINS[str(name)])
        if "weekday" in cycles:
            self.week = _indicators(cycles.pop("weekday"), _BINS["weekday"])
        self.columns = np.concatenate([known[..., :n_future], *cycles.values()], axis=2)
        # Rows before the first value stand for none, but lengthen a window beside longer ones.
        begun = np.maximum.accumulate(np.isfinite(x), axis=1)[:, -own.rows :, None].astype(np.float64)
        share = begun / np.maximum(begun.sum(axis=1, keepdims=True), 1)
        recent = slice(max(self.context - own.rows, 0), self.context)
        self.mean = (self.columns[:, recent] * share).sum(axis=1, keepdims=True)
        kinds = encoder.columns.categories[len(encoder.columns.past) :]
        self.numeric = np.flatnonzero(
            np.repeat([each is None for each in kinds], [len(each or (0,)) for each in kinds])
        )
        self.past = parts.get("past", empty[:, : self.context]).astype(np.float64)
        self.past_mean = (self.past[:, recent] * share).sum(axis=1, keepdims=True)
        self.static = parts.get("static", empty[:, 0]).astype(np.float64)

    def features(self, at: slice, squares: bool, point: np.ndarray | None = None) -> np.ndarray:
        """Features of the rows ``at`` of context and horizon, ``[B, R, n]``; of steps ahead with the base's points."""
        now = self.columns[:, at]
        shape = now.shape[:2]
        parts = [now, now - self.mean, np.broadcast_to(self.static[:, None], (*shape, self.static.shape[1]))]
        if squares:
            parts.append(now[..., self.numeric] ** 2)
        if point is not None:
            parts.append(self._recent(shape[1]))
        columns = np.concatenate(parts, axis=2)
        found = [columns]
        if point is not None:
            # Effects grow with what they act on.
            scaled = ((point - self.level) / np.where(self.spread > 0, self.spread, 1.0))[..., None]
            found += [columns * scaled, scaled, scaled**2]
        for phases in (self.season, self.week):
            if phases is not None:
                found.append(phases[:, at])
        if self.season is not None:
            season = self.season[:, at]
            if columns.shape[2] * season.shape[2] <= _MOST_FEATURES:
                found.append(_products(columns, season))
            if self.week is not None:
                found.append(_products(self.week[:, at], season))
        return np.concatenate(found, axis=2)

    def _recent(self, n_steps: int) -> np.ndarray:
        """Of each past column the last value, its difference to the mean, and the value one horizon before the step."""
        rows = self.context - self.horizon + np.arange(n_steps)
        lagged = self.past[:, np.clip(rows, 0, self.context - 1)]
        last = np.broadcast_to(self.past[:, -1:], lagged.shape)
        return np.concatenate([last, last - self.past_mean, lagged], axis=2)


def _products(columns: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """Each column by each phase, ``[B, R, n * m]``."""
    return (columns[..., None] * phases[..., None, :]).reshape(*columns.shape[:2], -1)


def _indicators(cycle: np.ndarray, n_bins: int) -> np.ndarray:
    """Which part of a cycle a step lies in, from its sine and cosine, ``[B, R, n_bins]``; NaN stays NaN."""
    share = np.arctan2(cycle[..., 0], cycle[..., 1]) / (2 * np.pi) % 1
    place = np.floor(share * n_bins + 1e-4) % n_bins
    found = (place[..., None] == np.arange(n_bins)).astype(np.float64)
    found[np.isnan(place)] = np.nan
    return found


class _Sums:
    """Sums behind ridge regressions: their size does not depend on the number of rows."""

    def __init__(self, n_features: int) -> None:
        self.products, self.targets, self.count = np.zeros((n_features + 1,) * 2), np.zeros(n_features + 1), 0

    def add(self, features: np.ndarray, target: np.ndarray) -> None:
        """Add rows ``[B, R, n]`` and their targets ``[B, R]``, those that are known."""
        known = np.isfinite(target) & np.isfinite(features).all(axis=2)
        rows = np.concatenate([features[known], np.ones((int(known.sum()), 1))], axis=1)
        self.products += rows.T @ rows
        self.targets += rows.T @ target[known]
        self.count += len(rows)

    def join(self, other: _Sums) -> None:
        """Add the rows of another."""
        self.products += other.products
        self.targets += other.targets
        self.count += other.count

    def solve(self, penalty: float, squares: bool) -> Ridge:
        """The ridge regression with standardised features; those that do not vary are left out."""
        mean = self.products[-1, :-1] / self.count
        scatter = self.products[:-1, :-1] / self.count - np.outer(mean, mean)
        variance = scatter.diagonal().copy()
        live = np.flatnonzero(variance > 1e-9 * (1 + mean**2))
        scale, middle = np.sqrt(variance[live]), self.targets[-1] / self.count
        matrix = scatter[np.ix_(live, live)] / np.outer(scale, scale)
        matrix.flat[:: len(live) + 1] += penalty
        weights = np.zeros(len(mean))
        weights[live] = np.linalg.solve(matrix, (self.targets[live] / self.count - mean[live] * middle) / scale) / scale
        return Ridge(weights, float(middle - mean @ weights), squares)


def make_encoder(columns: CovariateColumns, panel: Panel) -> CovariateEncoder:
    """How covariates are read; the season's own cycle is always among the calendar, and its first.

    Args:
        columns: What is to be read.
        panel: All rows.

    Raises:
        ValueError: As :meth:`tsattn.data.encoding.CovariateEncoder.fit`.
    """
    encoder = CovariateEncoder.fit(columns, panel, panel.lengths)
    cycles, season = tuple(encoder.columns.calendar), season_cycle(panel.freq)
    if season is not None:
        cycles = (season, *(name for name in cycles if name != season))
    return replace(encoder, columns=replace(encoder.columns, calendar=cycles))


def fit_leftovers(
    base: Base,
    windows: Callable[[History, np.ndarray], np.ndarray],
    panel: Panel,
    encoder: CovariateEncoder,
    *,
    horizon: int,
    least: int,
) -> Leftovers:
    """Learn what covariates add to a base, from forecasts of the panel's own past.

    The base forecasts from rolling origins. Regressions learn from the earlier ones and are judged on the last quarter
    of each series: penalties, squares, a regression of the errors, one before the base, the mean of both. The best is
    kept if the base's error falls by 1% and by two standard errors; it is then learnt from all windows.

    Args:
        base: Forecasts without covariates.
        windows: Contexts before ends, as :meth:`tsattn.forecaster.Forecaster.windows` cuts them.
        panel: The series.
        encoder: How covariates are read.
        horizon: Steps F.
        least: Rows that the base needs before an end.
    """
    own = Leftovers(encoder, max(_SEASONS * season_length(panel.freq), _LEAST_ROWS), horizon)
    ends, held, overlap = _origins(panel, horizon, least, own.rows)
    if min((~held).sum(), _HELD_OUT * held.sum()) < _LEAST_WINDOWS:
        return own
    past = _Past(own, base, windows, panel, ends)
    # A constant window teaches nothing, nor does one whose future is missing.
    told = np.isfinite(past.truth / past.spread).any(axis=(1, 2))
    learn, check = np.flatnonzero(~held & told), np.flatnonzero(held & told)
    if min(len(learn), _HELD_OUT * len(check)) < _LEAST_WINDOWS:
        return own
    chosen = {kind: past.choose(kind, learn, check) for kind in past.kinds}
    answers = {kind: past.answer(own.keeping({kind: ridges[0]}), check) for kind, ridges in chosen.items()}
    options = {(kind,): answer for kind, answer in answers.items()} | {
        tuple(answers): np.mean(list(answers.values()), axis=0)
    }
    losses = {kinds: past.losses(answer, check) for kinds, answer in options.items()}
    plain = past.losses(past.plain[check], check)
    # Of two that are alike, the mean of both is the safer one.
    kinds = min(losses, key=lambda each: float(losses[each].mean()) * (1 + _WORTH / len(each)))
    gain = plain - losses[kinds]
    if not gain.mean() > max(_SURE * gain.std() * np.sqrt(overlap / len(gain)), _WORTH * plain.mean()):
        return own
    return own.keeping({kind: chosen[kind][1] for kind in kinds}, float(losses[kinds].mean() / plain.mean()))


class _Past:
    """Windows of a panel's own past before rows ``ends [W]``, with what came and what the base said."""

    def __init__(
        self,
        own: Leftovers,
        base: Base,
        windows: Callable[[History, np.ndarray], np.ndarray],
        panel: Panel,
        ends: np.ndarray,
    ) -> None:
        self.own, self.base, self.windows, self.ends = own, base, windows, ends
        self.history, self.beside = History(panel), CovariateHistory(panel, own.encoder.columns)
        self.truth = self.history.futures(ends, own.horizon)
        self.plain = np.empty(self.truth.shape)
        self.level, self.spread = (np.empty((len(ends), 1, panel.n_channels)) for _ in range(2))
        for part, x, covariates in self.parts(np.arange(len(ends))):
            self.plain[part] = base(x, ())[0]
            for c in range(panel.n_channels):
                read = _Read(own, x[..., c], covariates)
                self.level[part, :, c], self.spread[part, :, c] = read.level, read.spread
        self.spread[self.spread == 0] = np.nan

    @property
    def kinds(self) -> tuple[str, ...]:
        """Regressions that there are columns for."""
        columns = self.own.encoder.columns
        return ("after", "before") if columns.future or len(columns.calendar) > 1 else ("after",)

    def parts(self, pick: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, CovariateWindows]]:
        """Some windows, few at a time: which, their contexts and covariates."""
        width = self.own.n_features(True, based=True) * self.own.horizon
        longest = int(np.diff(self.history.panel.starts).max())
        step = min(max(1, _CHUNK_VALUES // (width + self.beside.width(longest, self.own.horizon))), 512)
        for first in range(0, len(pick), step):
            part = pick[first : first + step]
            x = self.windows(self.history, self.ends[part])
            yield part, x, self.beside.windows(self.ends[part], x.shape[1], self.own.horizon)

    def rows(self, kind: str, squares: bool, pick: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Features ``[B, F, n]`` and targets ``[B, F]`` of a regression."""
        for part, x, covariates in self.parts(pick):
            expected = self.plain[part] if kind == "after" else self.level[part]
            target = (self.truth[part] - expected) / self.spread[part]
            for c in range(x.shape[2]):
                read = _Read(self.own, x[..., c], covariates)
                point = self.plain[part, :, c] if kind == "after" else None
                yield read.features(slice(x.shape[1], None), squares, point), target[..., c]

    def choose(self, kind: str, learn: np.ndarray, check: np.ndarray) -> tuple[Ridge, Ridge]:
        """The regression with the least error on the windows that check, of those that learn and of all."""
        best, least = None, np.inf
        for squares in (False, True):
            sums, more = (_Sums(self.own.n_features(squares, based=kind == "after")) for _ in range(2))
            for features, target in self.rows(kind, squares, learn):
                sums.add(features, target)
            ridges, error = [sums.solve(penalty, squares) for penalty in _PENALTIES], np.zeros(len(_PENALTIES))
            for features, target in self.rows(kind, squares, check):
                more.add(features, target)
                error += [np.nansum(np.abs(target - ridge(features))) for ridge in ridges]
            sums.join(more)
            k = int(np.argmin(error))
            if error[k] < least:
                best, least = (ridges[k], sums.solve(_PENALTIES[k], squares)), error[k]
        assert best is not None
        return best

    def answer(self, leftovers: Leftovers, pick: np.ndarray) -> np.ndarray:
        """Points ``[B, F, C]`` with a regression."""
        answers = [leftovers.completed(self.base, self.plain[part], x, own) for part, x, own in self.parts(pick)]
        return np.concatenate(answers)

    def losses(self, point: np.ndarray, pick: np.ndarray) -> np.ndarray:
        """Mean absolute error of each window in units of its spread."""
        errors = (np.abs(self.truth[pick] - point) / self.spread[pick]).reshape(len(pick), -1)
        return np.asarray(np.nanmean(errors, axis=1))


def _origins(panel: Panel, horizon: int, least: int, rows: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Ends of contexts ``[W]``, which of them check, and how many windows overlap."""
    most = max(_MOST_WINDOWS // panel.n_channels, 2 * _LEAST_WINDOWS)
    series = np.unique(np.linspace(0, panel.n_series - 1, min(panel.n_series, _MOST_SERIES)).astype(np.int64))
    first = np.maximum(np.minimum(panel.lengths[series] // _HELD_OUT, rows), least)
    room = np.maximum(panel.lengths[series] - horizon - first, -1)
    step = int(np.clip(room.sum() // (2 * _LEAST_WINDOWS), 1, horizon))
    ends, held = [], []
    for n, rows in zip(series, room, strict=True):
        stop = panel.starts[n + 1] - horizon
        own = np.arange(stop, stop - rows - 1, -step)[: most // len(series)][::-1]
        last = len(own) // _HELD_OUT
        checks = np.arange(len(own)) >= len(own) - last
        # Of windows that learn, none ends in rows that check.
        clear = checks | (own + horizon <= own[len(own) - last] if last else ~checks)
        ends.append(own[clear])
        held.append(checks[clear])
    return np.concatenate(ends), np.concatenate(held), horizon / step
