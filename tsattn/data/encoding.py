"""Covariates of windows, and what a network gets to see of them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from tsattn.data.calendar import future_times
from tsattn.data.columns import plain
from tsattn.data.covariates import CovariateColumns, label, places_among
from tsattn.data.cycles import calendar_width, choose_cycles, cycle_features
from tsattn.data.frames import Panel

_MOST_CATEGORIES = 100  # of one column


@dataclass(frozen=True, eq=False)
class CovariateWindows:
    """Covariates of B windows in the units of the table: T rows of context, F steps ahead.

    Attributes:
        past: float64 [B, T, P], the past columns; a category is its place among those of the
            columns, or -1.
        known: float64 [B, T + F, K], the future columns, then those of the calendar (see
            :func:`tsattn.data.cycles.cycle_features`). A step
            with NaN has no forecast: it comes back as NaN.
        static: object [B, S], the static columns: numbers, or categories as text.
    """

    past: np.ndarray
    known: np.ndarray
    static: np.ndarray

    def cut(self, context: int, horizon: int) -> CovariateWindows:
        """The last ``context`` rows of history and the steps after them, of windows with
        ``horizon`` steps.
        """
        known = self.known[:, max(self.known.shape[1] - horizon - context, 0) :]
        return replace(self, past=self.past[:, max(self.past.shape[1] - context, 0) :], known=known)

    def lengthened(self, context: int) -> CovariateWindows:
        """The same windows with ``context`` rows of history: the first row stands for those before
        it.
        """

        def repeat(rows: np.ndarray) -> np.ndarray:
            lacking = context - self.past.shape[1]
            return np.concatenate([np.repeat(rows[:, :1], max(lacking, 0), axis=1), rows], axis=1)

        return replace(self, past=repeat(self.past), known=repeat(self.known))

    def recoded(self, have: CovariateColumns, wanted: CovariateColumns) -> CovariateWindows:
        """The same windows of the same columns with the places of categories among those of
        ``wanted``, else -1.
        """
        parts = {"past": self.past, "known": self.known}
        p = len(have.past)
        for k, (own, known) in enumerate(zip(have.categories, wanted.categories, strict=True)):
            if own is None or known is None or own == known:
                continue
            name, column = ("past", k) if k < p else ("known", k - p)
            places = np.append(
                places_among(own, known), [np.nan, -1.0]
            )  # the last two: not known, none of these
            codes = np.nan_to_num(parts[name][..., column], nan=len(own)).astype(np.int64)
            parts[name] = parts[name].copy()
            parts[name][..., column] = places[codes]
        return replace(self, **parts)

    def of(self, windows: np.ndarray | slice) -> CovariateWindows:
        """Those of some of the windows."""
        return replace(
            self, past=self.past[windows], known=self.known[windows], static=self.static[windows]
        )


class CovariateHistory:
    """What each window of a panel may show: past columns to its cutoff, known ones to its last
    step, not beyond.

    Args:
        panel: The series, with the columns among its covariates.
        columns: What is read; its calendar names cycles.
        ahead: Future columns after the last row of each series, ``[N, F, K]`` with K = 0 where
            there are none. Windows then end with their series. ``None``: windows lie inside the
            panel, steps ahead included.
    """

    def __init__(
        self, panel: Panel, columns: CovariateColumns, ahead: np.ndarray | None = None
    ) -> None:
        here = panel.covariates
        self._starts = panel.starts
        n_rows = len(panel.values)
        n_series = panel.n_series
        moving = np.empty((n_rows, 0)) if here is None else here.coded(columns)
        self._past, self._known = moving[:, : len(columns.past)], moving[:, len(columns.past) :]
        self._static = (
            np.empty((n_series, 0), dtype=object)
            if here is None
            else here.pick_static(columns.static)
        )
        cycles = tuple(columns.calendar)
        # Many series share their stamps: each is looked up once.
        self._stamps, self._cycles = np.zeros(n_rows, dtype=np.int64), np.empty((1, 0))
        if cycles:
            self._stamps, distinct = pd.factorize(panel.times)
            self._cycles = cycle_features(pd.DatetimeIndex(distinct), cycles)
        self._ahead = None
        if ahead is not None:
            self._ahead = ahead
            if cycles:
                stamps, distinct = pd.factorize(
                    future_times(panel.last_times(), panel.freq, ahead.shape[1])
                )
                cycled = cycle_features(pd.DatetimeIndex(distinct), cycles)[stamps].reshape(
                    *ahead.shape[:2], -1
                )
                self._ahead = np.concatenate([ahead, cycled], axis=2)

    def width(self, context: int, horizon: int) -> int:
        """Numbers of one window, for those who bound their memory."""
        known = self._known.shape[1] + self._cycles.shape[1]
        return context * self._past.shape[1] + (context + horizon) * known

    def rows(self) -> CovariateWindows:
        """Past columns and known ones of all rows, ``[rows, features]``, and the static ones,
        ``[N, S]``.
        """
        known = np.concatenate([self._known, self._cycles[self._stamps]], axis=1)
        return CovariateWindows(self._past, known, self._static)

    def windows(self, ends: np.ndarray, context: int, horizon: int) -> CovariateWindows:
        """Covariates of the windows whose contexts end before rows ``ends [B]``.

        Args:
            ends: Absolute rows just after each context.
            context: Rows of history T; before the first row of a series, that row stands for them.
            horizon: Steps ahead F. Those beyond what ``ahead`` holds are NaN.
        """
        series = np.searchsorted(self._starts, ends - 1, side="right") - 1
        rows = ends[:, None] + np.arange(-context, 0 if self._ahead is not None else horizon)
        rows = np.maximum(rows, self._starts[series, None])
        known = self._known[rows]
        if self._cycles.shape[1]:
            known = np.concatenate([known, self._cycles[self._stamps[rows]]], axis=2)
        if self._ahead is not None:
            steps = self._ahead[series, :horizon]
            unknown = np.full((len(ends), horizon - steps.shape[1], steps.shape[2]), np.nan)
            known = np.concatenate([known, steps, unknown], axis=1)
        return CovariateWindows(self._past[rows[:, :context]], known, self._static[series])


@dataclass(frozen=True, eq=False)
class CovariateEncoder:
    """Covariates as the numbers that a network reads: columns standardised, categories as
    indicators.

    Attributes:
        columns: What is read, with its categories; its calendar names cycles, whose features stay
            as they are.
        mean: Of the past, then the future columns over the training rows of all series, [P + K]; 0
            for categories.
        scale: Their population standard deviation, 1 where that is 0 and for categories.
        static_mean: Of the static columns over the training series, [S]; 0 for categories.
        static_scale: Likewise; 1 for categories.
        categories: For each static column its categories, sorted, or None for a column of numbers.
    """

    columns: CovariateColumns
    mean: np.ndarray
    scale: np.ndarray
    static_mean: np.ndarray
    static_scale: np.ndarray
    categories: tuple[tuple[str, ...] | None, ...]

    @classmethod
    def fit(cls, columns: CovariateColumns, panel: Panel, stops: np.ndarray) -> CovariateEncoder:
        """Learn scales and categories, and choose the cycles of the calendar.

        Args:
            columns: What is to be read.
            panel: All rows, with the columns among the covariates.
            stops: Rows of each series that count, ``[N]``; categories are those of all series.

        Raises:
            ValueError: If the calendar does not fit, a column of text has more than 100 categories,
                or values are so large that their squares leave float64.
        """
        part = panel.until(stops)
        columns = learn_columns(columns, part)
        moving: list[tuple[float, float]] = []
        static: list[tuple[float, float]] = []
        categories: list[tuple[str, ...] | None] = []
        if part.covariates is not None:
            for name, known in zip(columns.moving, columns.categories, strict=True):
                moving.append(
                    (0.0, 1.0) if known else _moments(part.covariates.pick([name])[:, 0], name)
                )
            for name in columns.static:
                values = part.covariates.pick_static([name])[:, 0]
                numeric = not any(isinstance(value, str) for value in values)
                categories.append(
                    None if numeric else tuple(sorted({label(value) for value in values}))
                )
                static.append(_moments(values.astype(np.float64), name) if numeric else (0.0, 1.0))
        (mean, scale), (static_mean, static_scale) = (
            np.array(m).reshape(-1, 2).T for m in (moving, static)
        )
        return cls(
            columns,
            mean.copy(),
            scale.copy(),
            static_mean.copy(),
            static_scale.copy(),
            tuple(categories),
        )

    @property
    def sizes(self) -> dict[str, int]:
        """Features that the network reads: ``n_past`` and ``n_known`` a row,
        ``n_static`` a series.
        """
        widths = [len(known or (0,)) for known in self.columns.categories]
        p = len(self.columns.past)
        return {
            "n_past": sum(widths[:p]),
            "n_known": sum(widths[p:]) + calendar_width(self.columns.calendar),
            "n_static": sum(1 if each is None else len(each) for each in self.categories),
        }

    def check(self, panel: Panel) -> None:
        """Refuse static values that the training series did not have, and text where they had
        numbers.

        Raises:
            ValueError: Naming the series, the column, the value and what was known.
        """
        if panel.covariates is None:
            return
        panel.covariates.coded(self.columns)
        if not self.columns.static:
            return
        _, bad = self._static(panel.covariates.pick_static(self.columns.static))
        if bad is not None:
            raise ValueError(f"series {plain(panel.ids[bad[0]])!r}: {bad[1]}")

    def rows(self, panel: Panel) -> dict[str, np.ndarray]:
        """All rows of a panel as float32: ``past`` and ``known`` ``[rows, features]``, ``static``
        ``[N, features]``.
        """
        return self.parts(CovariateHistory(panel, self.columns).rows())

    def encode(self, windows: CovariateWindows, horizon: int) -> dict[str, np.ndarray]:
        """Windows as the network reads them, in float32; steps beyond those given, or not known,
        are zeros.

        Args:
            windows: Covariates in the units of the table.
            horizon: Steps ahead that the network reads.

        Raises:
            ValueError: If a static value was not seen in training.
        """
        encoded = self.parts(windows)
        if "known" in encoded:
            known = encoded["known"]
            beyond = windows.past.shape[1] + horizon - known.shape[1]
            padding = np.zeros((len(known), max(beyond, 0), known.shape[2]), dtype=np.float32)
            encoded["known"] = np.nan_to_num(np.concatenate([known, padding], axis=1), copy=False)
        return encoded

    def parts(self, windows: CovariateWindows) -> dict[str, np.ndarray]:
        """The same parts of windows, those that have a feature, with the steps that they have; NaN
        is not known.

        Raises:
            ValueError: If a static value was not seen in training.
        """
        past = windows.past
        known = windows.known
        p = len(self.columns.past)
        k = len(self.columns.future)
        kinds = self.columns.categories
        parts = {}
        with np.errstate(
            over="ignore"
        ):  # what leaves float32 becomes a forecast that is not finite, and is refused
            if p:
                parts["past"] = indicators(
                    (past - self.mean[:p]) / self.scale[:p], kinds[:p]
                ).astype(np.float32)
            if self.sizes["n_known"]:
                scaled = known.copy()
                scaled[..., :k] = (known[..., :k] - self.mean[p:]) / self.scale[p:]
                parts["known"] = indicators(scaled, kinds[p:]).astype(np.float32)
        if self.categories:
            parts["static"], bad = self._static(windows.static)
            if bad is not None:
                raise ValueError(bad[1])
        return parts

    def _static(self, values: np.ndarray) -> tuple[np.ndarray, tuple[int, str] | None]:
        """Features ``[B, features]``, and the first row that has a value never seen, with what is
        wrong about it.
        """
        parts = []
        for s, (column, known) in enumerate(zip(self.columns.static, self.categories, strict=True)):
            cells = values[:, s]
            if known is None:
                wrong = np.array([isinstance(value, str) for value in cells], dtype=bool)
                numbers = np.where(wrong, 0.0, cells).astype(np.float64)
                parts.append(((numbers - self.static_mean[s]) / self.static_scale[s])[:, None])
                rule = "held numbers in training"
            else:
                codes = pd.Index(known).get_indexer(
                    pd.Index([label(value) for value in cells], dtype=object)
                )
                wrong = codes < 0
                parts.append(codes[:, None] == np.arange(len(known)))
                rule = (
                    f"was {', '.join(map(repr, known[:8]))}{' ...' if len(known) > 8 else ''} in"
                    " training"
                )
            if wrong.any():
                row = int(np.argmax(wrong))
                return np.zeros((len(values), 0), dtype=np.float32), (
                    row,
                    (
                        f"static column {column!r} {rule}; got {plain(cells[row])!r:.60}; fit again"
                        " with such a series, or leave it out"
                    ),
                )
        return np.concatenate(parts, axis=1).astype(np.float32), None


def learn_columns(columns: CovariateColumns, panel: Panel) -> CovariateColumns:
    """The same columns with the cycles that fit and the categories that the rows of a panel show.

    Raises:
        ValueError: If the calendar does not fit, or a column of text has too many categories.
    """
    cycles = choose_cycles(columns.calendar, panel.freq, panel.times) if columns.calendar else ()
    if (here := panel.covariates) is None:
        return replace(columns, calendar=cycles, categories=())
    found: list[tuple[str, ...] | None] = []
    for name in columns.moving:
        own = here.kind(name)
        if own is None:
            found.append(None)
            continue
        seen = np.unique(here.pick([name]))
        if len(seen) > _MOST_CATEGORIES:
            raise ValueError(
                f"column {name!r} holds {len(seen)} categories such as {own[0]!r:.60}, but at most"
                f" {_MOST_CATEGORIES} are read; group the rare ones, or convert numbers with"
                " pd.to_numeric"
            )
        found.append(tuple(own[int(code)] for code in seen))
    return replace(columns, calendar=cycles, categories=tuple(found))


def indicators(values: np.ndarray, kinds: Sequence[tuple[str, ...] | None]) -> np.ndarray:
    """Columns side by side, one of categories as an indicator for each of them, all zero for
    another.

    Args:
        values: ``[..., K]``, and columns after them that stay.
        kinds: For each of the K columns its categories, or None for one of numbers.
    """
    if not any(kinds):
        return values
    parts = [
        (
            values[..., [k]]
            if known is None
            else (values[..., [k]] == np.arange(len(known))).astype(values.dtype)
        )
        for k, known in enumerate(kinds)
    ]
    return np.concatenate([*parts, values[..., len(kinds) :]], axis=-1)


def _moments(values: np.ndarray, name: Hashable) -> tuple[float, float]:
    """Mean and population standard deviation; 1 where a column does not vary."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(values.mean())
        scale = float(values.std())
    if not np.isfinite(scale):
        raise ValueError(
            f"covariate {name!r}: values must have squares within float64; got up to"
            f" {np.abs(values).max():.3g}; give them in a larger unit"
        )
    return mean, scale if scale > 1e-12 * max(abs(mean), 1e-300) else 1.0


def check_windows_of(
    windows: Any, columns: CovariateColumns, shape: tuple[int, ...], horizon: int
) -> CovariateWindows:
    """Covariates of contexts ``[B, T, C]`` of that shape.

    Raises:
        ValueError: If they are no :class:`CovariateWindows`, of other windows or columns, or
            missing up to the cutoff.
    """
    if not isinstance(windows, CovariateWindows):
        raise ValueError(
            "this forecaster reads covariates; got none for its windows; pass covariates=, as"
            " tsattn.data.encoding.CovariateHistory cuts them from a panel"
        )
    n_known = len(columns.future) + calendar_width(columns.calendar)
    wanted = {
        "past": (*shape[:2], len(columns.past)),
        "known": (shape[0], shape[1] + horizon, n_known),
        "static": (shape[0], len(columns.static)),
    }
    for name, size in wanted.items():
        got = getattr(windows, name).shape
        if got != size:
            raise ValueError(
                f"covariates.{name} must have shape {size} beside windows of shape {shape} and"
                f" {horizon} steps ahead; got {got}"
            )
    here = np.isfinite(windows.past).all() and np.isfinite(windows.known[:, : shape[1]]).all()
    if not here or np.isinf(windows.known).any():
        raise ValueError("covariates must be finite up to the cutoff; got NaN or inf; fill them in")
    return windows
