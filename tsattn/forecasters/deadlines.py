"""Work that ends in time: fits on as many rows, and forecasts of as many windows, as seconds
allow.
"""

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from tsattn.data.panel import Panel

# Rows of the first of the fits that are timed. A table with fewer than twice as many is fitted at
# once.
_FIRST_ROWS = 1000
# Factor between the rows of two timed fits.
_ROW_GROWTH = 4
# Factor of the time that a larger fit is expected to take, beside its rows.
_FIT_MARGIN = 1.2
# Share of the time that is enough for a fit on all rows, since they may be many times as many.
_WHOLE_SHARE = 2 / 3
# Time of a further row, at least, as a share of the mean time of the rows so far.
_LEAST_SLOPE = 0.3
# Seconds from which the first fit is timed once more, since it may have loaded packages.
_SLOW_FIRST_SECONDS = 0.3
# Seconds of work between two looks at the clock, about.
_CHUNK_SECONDS = 0.25
# Windows that must be forecast, at least, where there are so many.
_LEAST_WINDOWS = 8
# Trees after which it is judged how long all of them take.
_JUDGED_TREES = 8
# Share of the trees that is enough: those after them add little.
_LEAST_TREE_SHARE = 0.5
# Share of the rows that boosting learns from at least.
_LEAST_ROW_SHARE = 0.1
# Time at which the work of this thread must be done.
_END: ContextVar[float] = ContextVar("_END", default=math.inf)


class OutOfTime(Exception):
    """Work was stopped because its time was over, or because it would not end in time."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Make work inside a block raise :class:`OutOfTime` when its time is over.

    Work of which a call takes long asks :func:`require_seconds` between its steps. Of limits inside
    one another the earliest counts.

    Args:
        seconds: Time of the block.
    """
    token = _END.set(min(_END.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _END.reset(token)


def seconds_left() -> float:
    """Seconds of the block of :func:`time_limit`; infinite outside of one."""
    return _END.get() - time.monotonic()


def require_seconds(seconds: float = 0.0) -> None:
    """Refuse to go on where time is short.

    Args:
        seconds: Time that the next step takes.

    Raises:
        OutOfTime: If less is left.
    """
    if seconds_left() <= seconds:
        raise OutOfTime


def fit_boosted(learner: Any, features: np.ndarray, target: np.ndarray) -> Any:
    """Fit boosted trees of scikit-learn on all rows, or on so many, drawn at random, that it ends
    in time.

    Where it takes longer than expected, half of the trees are enough.

    Args:
        learner: A ``HistGradientBoostingRegressor`` that does not stop early.
        features: ``[rows, n]``.
        target: ``[rows]``.

    Raises:
        OutOfTime: If it would not end in time on a tenth of the rows.
    """
    if math.isinf(seconds_left()):
        return learner.fit(features, target)
    require_seconds()
    clock = _BoostingClock(learner.max_iter, judges_pace=True)
    clock.fit(learner, features, target)
    if clock.is_slow:
        row_share = seconds_left() / (_FIT_MARGIN * clock.needed_seconds)
        if row_share < _LEAST_ROW_SHARE:
            raise OutOfTime
        n_rows = int(len(target) * row_share)
        chosen = np.sort(np.random.default_rng(0).permutation(len(target))[:n_rows])
        clock = _BoostingClock(learner.max_iter, judges_pace=False)
        clock.fit(learner, features[chosen], target[chosen])
    if clock.n_trees < _LEAST_TREE_SHARE * learner.max_iter:
        raise OutOfTime
    return learner


class _BoostingClock:
    """A score of boosted trees that says whether there is time for the next one.

    scikit-learn asks for it before the first tree and after each one, and stops when it does not
    rise. To fit in parts would prepare the features anew for each of them, which takes as long as
    fifty trees.

    Args:
        n_wanted: Trees of the whole fit.
        judges_pace: Whether to stop after few trees if all of them would not end in time.

    Attributes:
        n_trees: Trees so far.
        is_slow: Whether it stopped after few trees.
    """

    def __init__(self, n_wanted: int, *, judges_pace: bool) -> None:
        self.n_wanted = n_wanted
        self.judges_pace = judges_pace
        self.n_trees = 0
        self.is_slow = False
        self._begun = 0.0
        self._first_tree_begun: float | None = None
        self._prepared_seconds = 0.0
        self._tree_seconds = 0.0

    @property
    def needed_seconds(self) -> float:
        """Seconds that the whole fit takes at the pace so far."""
        return self._prepared_seconds + self.n_wanted * self._tree_seconds

    def fit(self, learner: Any, features: np.ndarray, target: np.ndarray) -> None:
        """Fit a learner for as long as there is time; its settings are then as before."""
        settings = learner.get_params()
        self._begun = time.monotonic()
        learner.set_params(
            early_stopping=True, validation_fraction=None, scoring=self, n_iter_no_change=1, tol=0.0
        )
        try:
            learner.fit(features, target)
        finally:
            learner.set_params(**settings)

    def __call__(self, learner: Any, features: np.ndarray, target: np.ndarray) -> float:
        """The number of trees while there is time for more, then less than any number."""
        now = time.monotonic()
        if self._first_tree_begun is None:
            self._first_tree_begun = now
            self._prepared_seconds = now - self._begun
            return 0.0
        self.n_trees += 1
        self._tree_seconds = (now - self._first_tree_begun) / self.n_trees
        n_next = 1
        is_judged = self.judges_pace and self.n_trees == _JUDGED_TREES
        if is_judged:
            n_next = self.n_wanted - self.n_trees
        if seconds_left() > n_next * self._tree_seconds:
            return float(self.n_trees)
        self.is_slow = self.judges_pace and self.n_trees <= _JUDGED_TREES
        return -math.inf


class Progress(NamedTuple):
    """How much of some work was done.

    Attributes:
        done: Items that were worked on, ``[n]`` of bool.
        seconds_per_item: Time of one item.
        needed_seconds: Time that the whole work would take from its start.
    """

    done: np.ndarray
    seconds_per_item: float
    needed_seconds: float

    @property
    def is_enough(self) -> bool:
        """Whether a judgement can rest on the items that were worked on."""
        return int(self.done.sum()) >= min(len(self.done), _LEAST_WINDOWS)


class TimedFit(NamedTuple):
    """The last one of the fits of :func:`fit_in_time`: its seconds and its rows."""

    seconds: float
    n_rows: int


def fit_in_time(
    fit: Callable[[Panel], None],
    panel: Panel,
    seconds: float,
    *,
    series_rows: int,
    n_rows: int = 0,
) -> TimedFit:
    """Fit on a panel, or on the last rows of it that can be fitted in time.

    Fits on growing parts of the table are timed until the next one would take too long. The last
    of them counts. Each of them has a limit (:func:`time_limit`).

    Args:
        fit: Fits on a panel; the last call decides.
        panel: The table.
        seconds: Time that all fits may take.
        series_rows: Rows of a series from which on a fit takes its usual time.
        n_rows: Rows of an earlier fit, with which the first of these begins.

    Returns:
        Seconds and rows of the last fit.

    Raises:
        ValueError: As ``fit`` raises it for the whole table.
        OutOfTime: If no fit ended in time.
    """
    end = time.monotonic() + seconds
    series_rows = min(series_rows, max(int(np.median(panel.lengths)), 1))
    timed_again = n_rows > 0
    n_rows = max(_FIRST_ROWS, series_rows, n_rows)
    if math.isinf(seconds):
        n_rows = len(panel.values)
    last_fit = None
    earlier_fit = TimedFit(0.0, 0)
    while True:
        is_whole = 2 * n_rows > len(panel.values)
        part = panel if is_whole else recent_rows(panel, n_rows, series_rows)
        begun = time.monotonic()
        try:
            with time_limit(end - begun):
                fit(part)
        except OutOfTime:
            if last_fit is None:
                raise
            # The fit before it counts.
            return last_fit
        except ValueError:
            if is_whole:
                raise
            # The part is too short for the model.
            n_rows *= _ROW_GROWTH
            continue
        fitted_at = time.monotonic()
        if last_fit is not None and last_fit.n_rows < n_rows:
            earlier_fit = last_fit
        last_fit = TimedFit(fitted_at - begun, n_rows)
        if is_whole:
            return last_fit
        larger = _affordable_rows(last_fit, earlier_fit, len(panel.values), end - fitted_at)
        # The first fit may have loaded a package.
        may_have_loaded = last_fit.seconds > _SLOW_FIRST_SECONDS and not timed_again
        if larger > n_rows:
            n_rows = larger
            timed_again = True
        elif may_have_loaded and last_fit.seconds < end - fitted_at:
            timed_again = True
        else:
            return last_fit


def _affordable_rows(
    last_fit: TimedFit, earlier_fit: TimedFit, n_all: int, available_seconds: float
) -> int:
    """Rows of the next fit: all of them if a part of the time suffices, otherwise a multiple of the
    last fit's rows, or as many as before if a larger fit would take too long.

    Rows cost what the line through the last two fits says, since a fit may have a cost of its own.
    """
    rows_between = last_fit.n_rows - earlier_fit.n_rows
    seconds_per_row = (last_fit.seconds - earlier_fit.seconds) / rows_between
    # Both times are noisy.
    seconds_per_row = max(seconds_per_row, _LEAST_SLOPE * last_fit.seconds / last_fit.n_rows)

    def expected_seconds(n_rows: int) -> float:
        return _FIT_MARGIN * (last_fit.seconds + seconds_per_row * (n_rows - last_fit.n_rows))

    if expected_seconds(n_all) <= available_seconds * _WHOLE_SHARE:
        return n_all
    larger = min(last_fit.n_rows * _ROW_GROWTH, n_all)
    return larger if expected_seconds(larger) <= available_seconds else last_fit.n_rows


def recent_rows(panel: Panel, n_rows: int, series_rows: int) -> Panel:
    """About the last ``n_rows`` rows of a panel. A panel of many series is cut to some of them,
    spread evenly over the ids.

    Args:
        panel: The series.
        n_rows: Rows of all series.
        series_rows: Rows of a series at least, where it has so many.
    """
    n_chosen = int(np.clip(n_rows // series_rows, 1, panel.n_series))
    chosen = np.unique(np.linspace(0, panel.n_series - 1, n_chosen).astype(np.int64))
    if len(chosen) < panel.n_series:
        panel = panel.chosen(chosen)
    return panel.last(max(n_rows // panel.n_series, 1))


def load_in_time(module: str, seconds: float) -> bool:
    """Import a module. If that takes longer than allowed, the import goes on in the background.

    Args:
        module: Its dotted name.
        seconds: Time to wait for it.
    """
    if module in sys.modules or math.isinf(seconds):
        return True
    # A large package on a slow disk takes half a minute, and an import cannot be stopped.
    loader = threading.Thread(target=_import_quietly, args=(module,), daemon=True)
    loader.start()
    loader.join(max(seconds, 0.0))
    return not loader.is_alive()


def _import_quietly(module: str) -> None:
    """Import a module; whoever needs it raises the error where there is one."""
    with suppress(ImportError):
        import_module(module)


def work_in_time(
    work: Callable[[np.ndarray], None], n_items: int, seconds: float, *, n_later: int
) -> Progress:
    """Work on items in small chunks until all are done or the time is over.

    Items are taken in an order in which every part is spread evenly over all of them.

    Args:
        work: Works on the items at some places ``[k]``.
        n_items: Number of items.
        seconds: Time that the work and ``n_later`` further items may take.
        n_later: Items that have to be worked on at another time.
    """
    started = time.monotonic()
    order = spread_order(n_items)
    is_done = np.zeros(n_items, dtype=bool)
    seconds_per_item = 0.0
    n_timed = 0
    timed_seconds = 0.0
    size = 1
    while not is_done.all():
        chunk = order[is_done.sum() : is_done.sum() + size]
        begun = time.monotonic()
        work(chunk)
        finished = time.monotonic()
        is_first = not is_done.any()
        is_done[chunk] = True
        # The first call may load packages or compile, which says nothing about the others.
        if not is_first:
            n_timed += len(chunk)
            timed_seconds += finished - begun
            seconds_per_item = timed_seconds / n_timed
        available_seconds = seconds - (finished - started) - n_later * seconds_per_item
        allowed = min(available_seconds, _CHUNK_SECONDS) / max(seconds_per_item, 1e-9)
        if available_seconds <= seconds_per_item:
            break
        size = 1 if is_first else int(np.clip(allowed, 1, 2 * len(chunk)))
    spent = time.monotonic() - started
    needed = spent + seconds_per_item * (int((~is_done).sum()) + n_later)
    return Progress(is_done, seconds_per_item, needed)


def work_at_once(work: Callable[[np.ndarray], None], n_items: int, seconds: float) -> Progress:
    """Work on all items together, or on as many as the time allows, spread evenly.

    Args:
        work: Works on the items at some places ``[k]``.
        n_items: Number of items.
        seconds: Time that the work may take.
    """
    started = time.monotonic()
    n_done = n_items
    if n_items > 4 * _LEAST_WINDOWS and not math.isinf(seconds):
        work(spread_order(n_items)[:_LEAST_WINDOWS])
        spent = time.monotonic() - started
        affordable = int(seconds / max(spent, 1e-9)) * _LEAST_WINDOWS
        n_done = min(max(affordable, _LEAST_WINDOWS), n_items)
        if n_done < n_items:
            n_done = max(n_done - _LEAST_WINDOWS, _LEAST_WINDOWS)
    begun = time.monotonic()
    places = np.sort(spread_order(n_items)[:n_done])
    work(places)
    finished = time.monotonic()
    seconds_per_item = (finished - begun) / max(n_done, 1)
    is_done = np.zeros(n_items, dtype=bool)
    is_done[places] = True
    return Progress(is_done, seconds_per_item, finished - started)


def spread_order(n_items: int) -> np.ndarray:
    """The places ``0`` to ``n_items - 1``, the last first, in an order whose every beginning is
    spread over all of them.
    """
    # Multiples of the golden section fill the unit interval evenly (Weyl's sequence).
    golden = (np.sqrt(5) - 1) / 2
    position = np.arange(n_items) * golden % 1.0
    # ``position[k]`` is where the k-th item of the order lies; ranks make places of positions.
    places = np.argsort(np.argsort(position, kind="stable"), kind="stable")
    return np.asarray((n_items - 1 - places), dtype=np.int64)
