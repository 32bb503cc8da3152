"""Covariates of windows, and the features that a network reads of them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from tsattn.checks import InputError, InPython, listed
from tsattn.data.calendar import future_times
from tsattn.data.columns import plain
from tsattn.data.covariates import Categories, CovariateColumns, label, places_among
from tsattn.data.cycles import calendar_width, choose_cycles, cycle_features
from tsattn.data.panel import Panel
from tsattn.data.windows import safe_scale

# Categories of one column at most; each of them is a feature of the network.
_MOST_CATEGORIES = 100
# Categories that an error names at most.
_MOST_NAMED = 8
# Mean and scale of categories, whose numbers are labels.
_NOT_SCALED = (0.0, 1.0)


@dataclass(frozen=True, eq=False)
class CovariateWindows:
    """Covariates of B windows in the units of the table: T rows of context, F steps ahead.

    Attributes:
        past: float64 [B, T, P], the past columns; a category is its number in the column's list of
            categories, or -1.
        known: float64 [B, T + F, K], the future columns, then those of the calendar (see
            :func:`tsattn.data.cycles.cycle_features`). The forecast of a step with NaN is NaN.
        static: object [B, S], the static columns: numbers, or categories as text.
    """

    past: np.ndarray
    known: np.ndarray
    static: np.ndarray

    def cut(self, context: int, horizon: int) -> CovariateWindows:
        """The last ``context`` rows of history and the steps after them, of windows with
        ``horizon`` steps.
        """
        n_past = self.past.shape[1]
        n_known = self.known.shape[1]
        first_past = max(n_past - context, 0)
        first_future = max(n_known - horizon - context, 0)
        past = self.past[:, first_past:]
        future = self.known[:, first_future:]
        return replace(self, past=past, known=future)

    def lengthened(self, context: int) -> CovariateWindows:
        """The same windows with ``context`` rows of history, of which the first is repeated."""
        n_missing = max(context - self.past.shape[1], 0)
        widths = ((0, 0), (n_missing, 0), (0, 0))
        past = np.pad(self.past, widths, mode="edge")
        future = np.pad(self.known, widths, mode="edge")
        return replace(self, past=past, known=future)

    def recoded(self, have: CovariateColumns, target: CovariateColumns) -> CovariateWindows:
        """The same windows with categories numbered as in ``target``, -1 for categories that it
        lacks.

        Args:
            have: The columns of these windows.
            target: The same columns with other categories.
        """
        past = self.past.copy()
        future = self.known.copy()
        n_past = len(have.past)
        pairs = zip(have.categories, target.categories, strict=True)
        for k, (categories, new_categories) in enumerate(pairs):
            if categories is None or new_categories is None or categories == new_categories:
                continue
            # A view, so that the codes are set in the copies.
            cells = past[..., k] if k < n_past else future[..., k - n_past]
            # Codes index the new places. NaN gets the code after the last category, and the code
            # -1 of an unknown category reads the last place.
            places = places_among(categories, new_categories)
            places = np.append(places, [np.nan, -1.0])
            numbers = np.nan_to_num(cells, nan=len(categories))
            codes = numbers.astype(np.int64)
            cells[...] = places[codes]
        return replace(self, past=past, known=future)

    def of(self, windows: np.ndarray | slice) -> CovariateWindows:
        """The covariates of some of the windows."""
        past = self.past[windows]
        future = self.known[windows]
        static = self.static[windows]
        return replace(self, past=past, known=future, static=static)


class CovariateHistory:
    """Covariates of the windows of a panel: past columns up to the cutoff, future columns up to the
    last step.

    Args:
        panel: The series, with the columns among its covariates.
        columns: The columns to read; their calendar names cycles.
        ahead: Future columns after the last row of each series, ``[N, F, K]`` with K = 0 where
            there are none. Windows then end with their series. ``None``: windows lie inside the
            panel, steps ahead included.
    """

    def __init__(
        self, panel: Panel, columns: CovariateColumns, ahead: np.ndarray | None = None
    ) -> None:
        n_rows = len(panel.values)
        moving = np.empty((n_rows, 0))
        static = np.empty((panel.n_series, 0), dtype=object)
        if panel.covariates is not None:
            moving = panel.covariates.coded(columns)
            static = panel.covariates.pick_static(columns.static)
        n_past = len(columns.past)
        self._starts = panel.starts
        self._past = moving[:, :n_past]
        self._future = moving[:, n_past:]
        self._static = static
        self._ahead = ahead
        self._stamps = np.zeros(n_rows, dtype=np.int64)
        self._cycles = np.empty((1, 0))
        cycles = tuple(columns.calendar)
        if not cycles:
            return
        # Many series share their stamps, so features are computed once for a distinct stamp.
        self._stamps, distinct = pd.factorize(panel.times)
        self._cycles = cycle_features(pd.Index(distinct), cycles)
        if ahead is not None:
            n_series, n_steps = ahead.shape[:2]
            times = future_times(panel.last_times(), panel.freq, n_steps)
            places, distinct = pd.factorize(times)
            features = cycle_features(pd.Index(distinct), cycles)
            cycles_ahead = features[places].reshape(n_series, n_steps, -1)
            self._ahead = np.concatenate([ahead, cycles_ahead], axis=2)

    def width(self, context: int, horizon: int) -> int:
        """Count of numbers in one window, by which callers limit their memory."""
        n_past = self._past.shape[1]
        n_future = self._future.shape[1] + self._cycles.shape[1]
        n_rows = context + horizon
        return context * n_past + n_rows * n_future

    def rows(self) -> CovariateWindows:
        """Past and future columns of all rows, ``[rows, features]``; static ones, ``[N, S]``."""
        cycles = self._cycles[self._stamps]
        future = np.concatenate([self._future, cycles], axis=1)
        return CovariateWindows(self._past, future, self._static)

    def windows(self, ends: np.ndarray, context: int, horizon: int) -> CovariateWindows:
        """Covariates of the windows whose contexts end before rows ``ends [B]``.

        Args:
            ends: Absolute rows just after each context.
            context: Rows of history T. The first row of a series is repeated before it.
            horizon: Steps ahead F; NaN after the last step of ``ahead``.
        """
        last_rows = ends - 1
        series = np.searchsorted(self._starts, last_rows, side="right") - 1
        # Steps ahead are rows of the panel, unless they are passed separately.
        n_steps = horizon if self._ahead is None else 0
        offsets = np.arange(-context, n_steps)
        rows = ends[:, None] + offsets
        # Rows before the series are read as its first one.
        rows = np.maximum(rows, self._starts[series, None])
        future = self._future[rows]
        if self._cycles.shape[1]:
            cycles = self._cycles[self._stamps[rows]]
            future = np.concatenate([future, cycles], axis=2)
        if self._ahead is not None:
            ahead = self._ahead[series, :horizon]
            widths = ((0, 0), (0, horizon - ahead.shape[1]), (0, 0))
            ahead = np.pad(ahead, widths, constant_values=np.nan)
            future = np.concatenate([future, ahead], axis=1)
        past = self._past[rows[:, :context]]
        static = self._static[series]
        return CovariateWindows(past, future, static)


@dataclass(frozen=True, eq=False)
class CovariateEncoder:
    """Covariates as the numbers that a network reads: columns standardised, categories as
    indicators.

    Attributes:
        columns: The columns to read, with their categories. Their calendar names cycles, whose
            features are not scaled.
        mean: Means of the past, then the future columns over the training rows of all series,
            [P + K]; 0 for categories.
        scale: Their population standard deviation, 1 where that is 0 and for categories.
        static_mean: Means of the static columns over the training series, [S]; 0 for categories.
        static_scale: Their population standard deviation; 1 for categories.
        categories: Sorted categories of each static column, or None for a column of numbers.
    """

    columns: CovariateColumns
    mean: np.ndarray
    scale: np.ndarray
    static_mean: np.ndarray
    static_scale: np.ndarray
    categories: tuple[Categories, ...]

    @classmethod
    def fit(cls, columns: CovariateColumns, panel: Panel, stops: np.ndarray) -> CovariateEncoder:
        """Learn scales and categories, and choose the cycles of the calendar.

        Args:
            columns: The columns to read.
            panel: All rows, with the columns among the covariates.
            stops: Number of training rows of each series, ``[N]``. Categories are those of all
                series.

        Raises:
            ValueError: If the calendar does not fit, a column of text has more than 100 categories,
                or values are so large that their squares leave float64.
        """
        part = panel.until(stops)
        columns = learn_columns(columns, part)
        moving_moments: list[tuple[float, float]] = []
        static_moments: list[tuple[float, float]] = []
        static_categories: list[Categories] = []
        if part.covariates is not None:
            moving_values = part.covariates.pick(columns.moving).T
            for name, kinds, values in zip(
                columns.moving, columns.categories, moving_values, strict=True
            ):
                moving_moments.append(_NOT_SCALED if kinds else _moments(values, name))
            static_values = part.covariates.pick_static(columns.static).T
            for name, values in zip(columns.static, static_values, strict=True):
                if any(isinstance(value, str) for value in values):
                    labels = {label(value) for value in values}
                    static_categories.append(tuple(sorted(labels)))
                    static_moments.append(_NOT_SCALED)
                else:
                    static_categories.append(None)
                    static_moments.append(_moments(values.astype(np.float64), name))
        # Without columns the array has one axis only, hence the shape.
        moving = np.array(moving_moments).reshape(-1, 2)
        static = np.array(static_moments).reshape(-1, 2)
        return cls(
            columns=columns,
            mean=moving[:, 0].copy(),
            scale=moving[:, 1].copy(),
            static_mean=static[:, 0].copy(),
            static_scale=static[:, 1].copy(),
            categories=tuple(static_categories),
        )

    @property
    def sizes(self) -> dict[str, int]:
        """Features that the network reads: ``n_past`` and ``n_known`` for a row, ``n_static`` for a
        series.
        """
        # A column of categories becomes one indicator for each of them.
        widths = [len(categories) if categories else 1 for categories in self.columns.categories]
        static_widths = [
            1 if categories is None else len(categories) for categories in self.categories
        ]
        n_past = len(self.columns.past)
        n_cycles = calendar_width(self.columns.calendar)
        return {
            "n_past": sum(widths[:n_past]),
            "n_known": sum(widths[n_past:]) + n_cycles,
            "n_static": sum(static_widths),
        }

    def check(self, panel: Panel) -> None:
        """Refuse static values that the training series did not have, and text where they had
        numbers.

        Raises:
            ValueError: Naming the series, the column, the value and the values of training.
        """
        if panel.covariates is None:
            return
        panel.covariates.coded(self.columns)
        if not self.columns.static:
            return
        values = panel.covariates.pick_static(self.columns.static)
        self._static(values, [f"series {plain(name)!r}: " for name in panel.ids])

    def rows(self, panel: Panel) -> dict[str, np.ndarray]:
        """All rows of a panel as float32: ``past`` and ``known`` ``[rows, features]``, ``static``
        ``[N, features]``.
        """
        return self.parts(CovariateHistory(panel, self.columns).rows())

    def encode(self, windows: CovariateWindows, horizon: int) -> dict[str, np.ndarray]:
        """Features of windows in float32; steps that are absent or NaN become zeros.

        Args:
            windows: Covariates in the units of the table.
            horizon: Steps ahead that the network reads.

        Raises:
            ValueError: If a static value did not occur in training.
        """
        encoded = self.parts(windows)
        if "known" in encoded:
            future = encoded["known"]
            n_rows = windows.past.shape[1] + horizon
            n_missing = max(n_rows - future.shape[1], 0)
            padded = np.pad(future, ((0, 0), (0, n_missing), (0, 0)))
            encoded["known"] = np.nan_to_num(padded, copy=False)
        return encoded

    def parts(self, windows: CovariateWindows) -> dict[str, np.ndarray]:
        """Features of windows in float32 as ``past``, ``known`` and ``static``, without parts that
        have no feature; missing values stay NaN.

        Raises:
            ValueError: If a static value did not occur in training.
        """
        n_past = len(self.columns.past)
        n_future = len(self.columns.future)
        past_categories = self.columns.categories[:n_past]
        future_categories = self.columns.categories[n_past:]
        parts = {}
        # A value beyond float32 becomes infinite, and the forecast from it is refused.
        with np.errstate(over="ignore"):
            if n_past:
                past = windows.past - self.mean[:n_past]
                past /= self.scale[:n_past]
                past = indicators(past, past_categories)
                parts["past"] = past.astype(np.float32)
            if self.sizes["n_known"]:
                # Features of the calendar follow the future columns and are not scaled.
                future = windows.known.copy()
                scaled = future[..., :n_future] - self.mean[n_past:]
                scaled /= self.scale[n_past:]
                future[..., :n_future] = scaled
                future = indicators(future, future_categories)
                parts["known"] = future.astype(np.float32)
        if self.categories:
            parts["static"] = self._static(windows.static)
        return parts

    def _static(self, values: np.ndarray, row_names: Sequence[str] | None = None) -> np.ndarray:
        """Features ``[B, features]``.

        Args:
            values: Static values, ``[B, S]``.
            row_names: What an error says before the column of each row.

        Raises:
            ValueError: If a value did not occur in training.
        """
        parts = []
        columns = zip(self.columns.static, self.categories, strict=True)
        for s, (column, categories) in enumerate(columns):
            cells = values[:, s]
            if categories is None:
                are_text = [isinstance(value, str) for value in cells]
                wrong = np.array(are_text, dtype=bool)
                numbers = np.where(wrong, 0.0, cells).astype(np.float64)
                centred = numbers - self.static_mean[s]
                scaled = centred / self.static_scale[s]
                parts.append(scaled[:, None])
                rule = "held numbers in training"
            else:
                codes = places_among([label(value) for value in cells], categories)
                wrong = codes < 0
                parts.append(codes[:, None] == np.arange(len(categories)))
                rule = f"was {listed([*map(repr, categories)], _MOST_NAMED)} in training"
            if wrong.any():
                row = int(np.argmax(wrong))
                wrong_value = plain(cells[row])
                place = "" if row_names is None else row_names[row]
                raise ValueError(
                    f"{place}static column {column!r} {rule}; got {wrong_value!r:.60}; fit again"
                    " with such a series, or leave it out"
                )
        return np.concatenate(parts, axis=1).astype(np.float32)


def learn_columns(columns: CovariateColumns, panel: Panel) -> CovariateColumns:
    """The same columns with the cycles and the categories that the rows of a panel have.

    Raises:
        ValueError: If the calendar does not fit, or a column of text has too many categories.
    """
    cycles: tuple[str, ...] = ()
    if columns.calendar:
        cycles = choose_cycles(columns.calendar, panel.freq, panel.times)
    categories: list[Categories] = []
    if panel.covariates is not None:
        for name in columns.moving:
            names = panel.covariates.kind(name)
            if names is None:
                categories.append(None)
                continue
            codes = np.unique(panel.covariates.pick([name]))
            if len(codes) > _MOST_CATEGORIES:
                raise InputError(
                    f"column {name!r} holds {len(codes)} categories such as {names[0]!r:.60}, but"
                    f" at most {_MOST_CATEGORIES} are read; group the rare ones",
                    InPython(", or convert numbers with pd.to_numeric"),
                )
            present = tuple(names[int(code)] for code in codes)
            categories.append(present)
    return replace(columns, calendar=cycles, categories=tuple(categories))


def indicators(values: np.ndarray, kinds: Sequence[Categories]) -> np.ndarray:
    """Replace a column of categories by one indicator for each category, all zero for others.

    Args:
        values: ``[..., K]``, and further columns that stay as they are.
        kinds: Categories of each of the K columns, or None for a column of numbers.
    """
    if not any(kinds):
        return values
    parts = []
    for k, categories in enumerate(kinds):
        column = values[..., [k]]
        if categories is not None:
            codes = np.arange(len(categories))
            column = (column == codes).astype(values.dtype)
        parts.append(column)
    # Features of the calendar follow the columns.
    parts.append(values[..., len(kinds) :])
    return np.concatenate(parts, axis=-1)


def _moments(values: np.ndarray, name: Hashable) -> tuple[float, float]:
    """Mean and population standard deviation; 1 where a column does not vary."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(values.mean())
        scale = float(values.std())
    if not np.isfinite(scale):
        largest = np.abs(values).max()
        raise ValueError(
            f"covariate {name!r}: values must have squares within float64; got up to"
            f" {largest:.3g}; give them in a larger unit"
        )
    return mean, float(safe_scale(mean, scale))


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
    n_windows, context, *_ = shape
    sizes = {
        "past": (n_windows, context, len(columns.past)),
        "known": (n_windows, context + horizon, n_known),
        "static": (n_windows, len(columns.static)),
    }
    for name, size in sizes.items():
        got = getattr(windows, name).shape
        if got != size:
            raise ValueError(
                f"covariates.{name} must have shape {size} beside windows of shape {shape} and"
                f" {horizon} steps ahead; got {got}"
            )
    past_is_finite = np.isfinite(windows.past).all()
    known_context = windows.known[:, :context]
    context_is_finite = np.isfinite(known_context).all()
    # NaN marks a future step without a value; infinity is never allowed.
    is_infinite = np.isinf(windows.known).any()
    if not past_is_finite or not context_is_finite or is_infinite:
        raise ValueError("covariates must be finite up to the cutoff; got NaN or inf; fill them in")
    return windows
