"""Which rows does a forecast see, and which does it answer for? Splits, windows, filling and
scaling.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch

from tsattn.data.columns import plain
from tsattn.data.frames import Panel

# A chunk of windows holds at most this many values (32 MB in float64), so memory follows the chunk.
_CHUNK_VALUES = 2**22
_CHUNK_WINDOWS = 512
# Statistics are taken of blocks of channels with about so many values: 8 MB in float64.
_SCALER_VALUES = 2**20
# Steps of a grid that forecasts are moved to, at most.
_GRID = 64
# Rows of history from which a network forecasts, if its context is not shorter.
_LEAST_ROWS = 8


@dataclass(frozen=True)
class Split:
    """Contiguous training, validation and test rows, from the first row on.

    Args:
        train: Rows to learn from; scalers see these only.
        valid: Rows for early stopping and calibration.
        test: Rows to be judged on. Rows after them stay unused.

    Raises:
        ValueError: If a part is negative or train or test is empty.
    """

    train: int
    valid: int
    test: int

    def __post_init__(self) -> None:
        if self.train < 1 or self.test < 1 or self.valid < 0:
            raise ValueError(
                f"a split needs train >= 1, valid >= 0 and test >= 1 rows; got {self.train},"
                f" {self.valid}, {self.test}; change the shares or bring more rows"
            )

    @property
    def bounds(self) -> tuple[int, int, int]:
        """First row after the training, validation and test span."""
        return self.train, self.train + self.valid, self.train + self.valid + self.test

    @classmethod
    def from_shares(cls, n_rows: int, shares: str | Sequence[float]) -> "Split":
        """Split ``n_rows`` as the published protocol does: int(a n) train, int(c n) test, the rest
        validation.

        Args:
            n_rows: Rows of the table.
            shares: Three shares ``(a, b, c)`` or ``"a,b,c"`` that sum to 1.

        Raises:
            ValueError: If there are not three shares between 0 and 1 that sum to 1.
        """
        fields = shares.split(",") if isinstance(shares, str) else list(shares)
        try:
            parts = [float(field) for field in fields]
        except (TypeError, ValueError):
            parts = []
        if (
            len(parts) != 3
            or any(not 0 <= part < 1 for part in parts)
            or abs(sum(parts) - 1) > 1e-9
        ):
            raise ValueError(
                f"split needs three shares that sum to 1, such as 0.7,0.1,0.2; got {shares!r}"
            )
        train = int(n_rows * parts[0])
        test = int(n_rows * parts[2])
        return cls(train, n_rows - train - test, test)


class History:
    """Contexts and futures of a panel, missing values filled with what was known at each cutoff.

    A value that is missing between two known ones lies on the line through them (``interpolate``)
    only if the later one stands before the cutoff; otherwise, and always under ``ffill``, the last
    known value holds. So no forecast depends on a row after its cutoff. Under ``mask`` nothing is
    filled: contexts have NaN where a value is missing, for forecasters that can look past them.

    Args:
        panel: The series; ``panel.missing`` is the policy.
    """

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        # All rows filled with what is known at the end of each series, [rows, C].
        self.filled = panel.values
        self._held: np.ndarray | None = None
        self._next: np.ndarray | None = None
        missing = np.isnan(panel.values)
        if missing.any() and panel.missing != "mask":
            self._fill(missing)

    def _fill(self, missing: np.ndarray) -> None:
        values = self.panel.values
        n_rows = len(self.panel.values)
        lengths = np.diff(self.panel.starts)
        first = np.repeat(self.panel.starts[:-1], lengths)[:, None]
        stop = np.repeat(self.panel.starts[1:], lengths)[:, None]
        row = np.arange(n_rows)[:, None]
        before = np.maximum.accumulate(np.where(missing, -1, row), axis=0)
        after = np.minimum.accumulate(np.where(missing, n_rows, row)[::-1], axis=0)[::-1]
        unknown_before = before < first
        unknown_after = after >= stop
        # A slice may begin with missing values: its first known one stands in for them.
        before = np.where(unknown_before, np.where(unknown_after, row, after), before)
        held = np.take_along_axis(values, before, axis=0)
        self.filled = held
        if self.panel.missing == "interpolate":
            later = np.where(unknown_after, before, after)
            gap = np.maximum(later - before, 1)
            slope = (np.take_along_axis(values, later, axis=0) - held) / gap
            self.filled = np.where(missing, held + slope * np.clip(row - before, 0, None), values)
            self._held, self._next = held, np.where(unknown_after, n_rows, after)

    def contexts(self, ends: np.ndarray, context: int) -> np.ndarray:
        """The ``context`` rows before each end.

        Args:
            ends: Absolute rows just after the last row of each context, ``[B]``.
            context: Rows in each context.

        Returns:
            Filled values, ``[B, T, C]`` in float64.
        """
        return self._at(ends[:, None] + np.arange(-context, 0), ends)

    def reaching(self, ends: np.ndarray, reach: int) -> np.ndarray:
        """The rows before each end, as many as its series has there, ``reach`` at most.

        Args:
            ends: Absolute rows just after the last row of each context, ``[B]``; each has a row
                before it.
            reach: Most rows in a context, at least 1.

        Returns:
            Filled values, ``[B, T, C]`` in float64, T the rows of the longest of these contexts. A
            shorter one has NaN before the first row of its series.
        """
        owner = np.searchsorted(self.panel.starts, ends - 1, side="right") - 1
        first = np.maximum(self.panel.starts[owner], ends - reach)
        rows = ends[:, None] + np.arange(-int((ends - first).max(initial=0)), 0)
        before = rows < first[:, None]
        x = self._at(np.where(before, first[:, None], rows), ends)
        x[before] = np.nan
        return x

    def _at(self, rows: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Values of ``rows [B, T]`` filled with what is known before ``ends [B]``, ``[B,
        T, C]``.
        """
        x = self.filled[rows]
        if self._held is not None and self._next is not None:
            x = np.where(self._next[rows] >= ends[:, None, None], self._held[rows], x)
        return x

    def futures(self, ends: np.ndarray, horizon: int) -> np.ndarray:
        """The ``horizon`` rows from each end on, ``[B, F, C]``, NaN where the truth is missing."""
        return self.panel.values[ends[:, None] + np.arange(horizon)]


def least_rows(context: int) -> int:
    """Rows of history without which a series is too short for a network that reads ``context``."""
    return min(_LEAST_ROWS, context)


def known_rows(x: np.ndarray) -> np.ndarray:
    """Rows of each window ``[B, T, C]`` from the first one with a value on, ``[B]``.

    Example:
        >>> known_rows(np.array([[[np.nan], [2.0], [np.nan]]]))
        array([2])
    """
    known = ~np.isnan(x).all(axis=2)
    return (
        np.where(known.any(axis=1), x.shape[1] - known.argmax(axis=1), 0)
        if x.shape[1]
        else np.zeros(len(x), int)
    )


def known_lengths(panel: Panel) -> np.ndarray:
    """Rows of each series from the first one with a value on, ``[N]``."""
    seen = np.flatnonzero(~np.isnan(panel.values).all(axis=1))
    first = np.append(seen, len(panel.values))[np.searchsorted(seen, panel.starts[:-1])]
    return np.maximum(panel.starts[1:] - first, 0)


def require_known(panel: Panel, reach: int) -> None:
    """Refuse a panel with a series or channel that has no value among the rows that a forecast
    reads.

    Args:
        panel: The panel.
        reach: Rows at the end of each series that are read.

    Raises:
        ValueError: Naming the first such series or channel, how many others, and the remedy.
    """
    if not np.isnan(panel.values).any():
        return
    known = np.zeros((len(panel.values) + 1, panel.n_channels), dtype=np.int64)
    np.cumsum(~np.isnan(panel.values), axis=0, out=known[1:])
    stops = panel.starts[1:]
    empty = known[stops] == known[np.maximum(stops - reach, panel.starts[:-1])]
    if empty.any():
        n, channel = (int(i) for i in np.argwhere(empty)[0])
        wide = panel.dialect.kind == "wide"
        name = f"channel {panel.channels[channel]!r}" if wide else f"series {plain(panel.ids[n])!r}"
        others = f" (and {int(empty.sum()) - 1} more)" if empty.sum() > 1 else ""
        raise ValueError(
            f"{name}{others} has no value among its last {min(reach, int(panel.lengths[n]))} rows,"
            " but a forecast needs one; fill one in, or leave it out"
        )


def pad_front(x: np.ndarray, context: int, *, fill: bool) -> np.ndarray:
    """Windows ``[B, T, C]`` with ``context`` rows: those that are lacking stand at the front.

    Args:
        x: Windows with a value in each channel, T at most ``context``.
        context: Rows wanted.
        fill: Give the mean of the window and channel for missing values; otherwise the rows at the
            front are NaN.

    Example:
        >>> pad_front(np.array([[[1.0], [3.0]]]), 3, fill=True).ravel()
        array([2., 1., 3.])
    """
    if lacking := context - x.shape[1]:
        x = np.concatenate([np.full((len(x), lacking, x.shape[2]), np.nan), x], axis=1)
    gone = np.isnan(x)
    return (
        np.where(gone, x.mean(axis=1, keepdims=True, where=~gone), x) if fill and gone.any() else x
    )


def check_windows(x: np.ndarray, context: int, *, padded: bool = False) -> np.ndarray:
    """Return contexts as float64.

    Args:
        x: Contexts, ``[B, T, C]``.
        context: Least T.
        padded: Allow rows without a value at the front, which stand for a history that is shorter.

    Raises:
        ValueError: If the shape is wrong, T too short, or a value missing or infinite.
    """
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 3 or x.shape[1] < context:
        raise ValueError(
            f"windows must have shape [B, T, C] with T >= {context} rows of history; got {x.shape}:"
            " give longer windows, or a forecaster with a smaller context"
        )
    known = np.isfinite(x)
    if padded and not known.all():
        front = np.logical_and.accumulate(np.isnan(x).all(axis=2, keepdims=True), axis=1)
        front[:, -1] = False
        known |= front
    if not known.all():
        raise ValueError(
            "windows must be finite; got NaN or inf: fill missing values first, or pass a frame and"
            " missing='interpolate' or 'ffill'"
        )
    return x


class Values(NamedTuple):
    """What values may follow windows, ``[B, 1, C]`` each: bounds, infinite where there are none,
    and a grid.

    A bound is a value that a series touches again and again and never passes: one known value in
    twenty is the very same, in each quarter of 32 or more. Sales, rain and sunshine have one at
    zero, relative humidity at its hundred. A grid is where all known values lie, 32 or more, if
    their range is 64 of its steps at most, and half as many as there are values: small counts are
    whole numbers. Its step is 0 where there is none.
    """

    lower: np.ndarray
    upper: np.ndarray
    origin: np.ndarray
    step: np.ndarray

    @classmethod
    def after(cls, x: np.ndarray) -> Self:
        """Those of windows ``[B, T, C]``; NaN is missing."""
        least = np.fmin.reduce(x, axis=1, keepdims=True)
        most = np.fmax.reduce(x, axis=1, keepdims=True)
        found = cls(
            np.full_like(least, -np.inf), np.full_like(most, np.inf), least, np.zeros_like(least)
        )
        # Most windows have neither: none whose last values are many, and whose ends are no
        # twentieth of its values.
        with np.errstate(over="ignore", invalid="ignore"):  # values of any size
            apart = np.diff(np.sort(x[:, -2 * _GRID - 2 :], axis=1), axis=1) > 1e-9 * (most - least)
        some = apart.sum(axis=1) <= _GRID
        count = x.shape[1] - np.isnan(x).sum(axis=1)
        for end in (least, most):
            some |= 20 * (x == end).sum(axis=1) >= count
        some = some.any(axis=1)
        if some.any():
            for mine, theirs in zip(found, cls._among(x[some]), strict=True):
                mine[some] = theirs
        return found

    @classmethod
    def _among(cls, x: np.ndarray) -> Self:
        known = np.isfinite(x)
        count = known.sum(axis=1, keepdims=True)
        quarter = 4 * (known.cumsum(axis=1) - 1) // np.maximum(count, 1)
        least = np.fmin.reduce(x, axis=1, keepdims=True)
        most = np.fmax.reduce(x, axis=1, keepdims=True)

        def often(end: np.ndarray) -> np.ndarray:
            times = [((x == end) & (quarter == k)).sum(axis=1, keepdims=True) for k in range(4)]
            return (80 * np.minimum.reduce(times) >= count) & (count >= 32)

        with np.errstate(over="ignore", invalid="ignore"):  # values of any size
            gaps = np.diff(np.sort(x, axis=1), axis=1)
            reach = most - least
            gaps[~(gaps > 1e-9 * reach)] = np.inf
            step = gaps.min(axis=1, keepdims=True, initial=np.inf)
            place = (x - least) / step
            off = (np.abs(place - np.rint(place)) > 1e-6).any(axis=1, keepdims=True)
            even = ~off & (reach <= step * np.minimum(_GRID, count / 2)) & (count >= 32)
        lower = np.where(often(least), least, -np.inf)
        upper = np.where(often(most), most, np.inf)
        return cls(lower, upper, least, np.where(even & (step < np.inf), step, 0.0))

    def above_zero(self, where: np.ndarray) -> Self:
        """The same without values below 0 for the windows and channels ``where [B, 1, C]``."""
        return self._replace(lower=np.where(where, np.maximum(self.lower, 0.0), self.lower))

    def nearest(self, forecast: np.ndarray) -> np.ndarray:
        """Forecasts ``[B, F, C, ...]``, each moved to the nearest of these values."""
        lower, upper, origin, step = (each[(..., *[None] * (forecast.ndim - 3))] for each in self)
        origin = np.where(step > 0, origin, 0.0)
        unit = np.where(step > 0, step, 1.0)
        on_grid = origin + unit * np.rint((forecast - origin) / unit)
        return np.clip(np.where(step > 0, on_grid, forecast), lower, upper)


def chunk_size(n_values: int) -> int:
    """Windows in one call when each holds ``n_values`` values: bounded in number and in memory.

    Example:
        >>> chunk_size(100), chunk_size(2**20), chunk_size(2**30)
        (512, 4, 1)
    """
    return max(1, min(_CHUNK_WINDOWS, _CHUNK_VALUES // max(1, n_values)))


@dataclass(frozen=True)
class Scaler:
    """Mean and population standard deviation per series and channel, ``[N, C]`` each.

    A wide panel is one series. Channels that were constant in the training span have scale 1.
    """

    mean: np.ndarray
    scale: np.ndarray

    def transform(self, values: np.ndarray, series: np.ndarray | int = 0) -> np.ndarray:
        """Standardise ``[B, T, C]`` windows whose b-th comes from series ``series[b]``."""
        return (values - self._pick(self.mean, series)) / self._pick(self.scale, series)

    def at(self, places: np.ndarray, others: "Scaler") -> "Scaler":
        """Statistics of the series at ``places [N]``; where a place is -1, those of ``others``."""
        known = (places >= 0)[:, None]
        return Scaler(
            np.where(known, self.mean[places], others.mean),
            np.where(known, self.scale[places], others.scale),
        )

    @staticmethod
    def _pick(table: np.ndarray, series: np.ndarray | int) -> np.ndarray:
        return table[series][..., None, :]


def make_scaler(panel: Panel, stops: int | np.ndarray | None = None) -> Scaler:
    """Statistics of the first ``stops`` rows of every series, missing values left out.

    Args:
        panel: The series.
        stops: Rows that count, one number or one per series ``[N]``; ``None`` takes all rows.

    Raises:
        ValueError: If values are so large that their squares leave float64.
    """
    part = panel if stops is None else panel.until(np.broadcast_to(stops, (panel.n_series,)))
    mean, scale = (np.empty((panel.n_series, panel.n_channels)) for _ in range(2))
    # A few channels at a time, so that a wide table is not held several times over.
    few = max(1, _SCALER_VALUES // max(len(part.values), 1))
    for first in range(0, panel.n_channels, few):
        block = slice(first, first + few)
        mean[:, block], scale[:, block] = _moments(part.values[:, block], part.starts)
    if not np.isfinite(scale).all():
        n, channel = np.argwhere(~np.isfinite(scale))[0]
        name = panel.channels[channel] if panel.dialect.kind == "wide" else plain(panel.ids[n])
        raise ValueError(
            f"series {name!r}: values must have squares within float64; got up to"
            f" {np.nanmax(np.abs(part.values)):.3g}; give them in a larger unit"
        )
    # A constant series leaves rounding dust, not zero; dividing by it would blow noise up.
    constant = scale <= 1e-12 * np.maximum(np.abs(mean), 1e-300)
    return Scaler(mean, np.where(constant, 1.0, scale))


def _moments(values: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population standard deviation of the rows of each series, ``[N, C]``; they may be
    infinite.
    """
    seen = ~np.isnan(values)
    zeroed = np.where(seen, values, 0.0)
    cuts = starts[:-1]
    lengths = np.diff(starts)
    count = np.maximum(np.add.reduceat(seen.astype(float), cuts, axis=0), 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.add.reduceat(zeroed, cuts, axis=0) / count
        centred = np.where(seen, zeroed - np.repeat(mean, lengths, axis=0), 0.0)
        return mean, np.sqrt(np.add.reduceat(np.square(centred, out=centred), cuts, axis=0) / count)


@dataclass(frozen=True)
class WindowSpec:
    """Rows a window reads (``context``) and answers for (``horizon``).

    Args:
        context: Rows before the cutoff.
        horizon: Rows after it.
        least: Fewest rows before the cutoff where several series stand together: the windows of
            each begin at half of what it leaves beside a horizon, if that is less than the context,
            and what they lack is padded at the front. ``None``: no window lacks a row.
    """

    context: int
    horizon: int
    least: int | None = None

    @property
    def length(self) -> int:
        """Rows of context and horizon together."""
        return self.context + self.horizon

    def ends(self, starts: np.ndarray, first: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Absolute end rows of all contexts whose future lies in rows ``first[n]:stop[n]`` of
        series n.

        Contexts may reach back before ``first``; before the series' own start only where ``least``
        allows it.

        Args:
            starts: Offsets of the stacked series, ``[N + 1]``.
            first: First row that may be answered for, within each series, ``[N]``.
            stop: Row after the last that may be answered for, within each series, ``[N]``.

        Returns:
            Row numbers in the stacked table, ascending, ``[W]``.
        """
        needed: np.ndarray | int = self.context
        if self.least is not None and len(starts) > 2:
            needed = np.minimum(self.context, np.maximum(self.least, (stop - self.horizon) // 2))
        lowest = np.maximum(first, needed)
        counts = np.maximum(stop - self.horizon - lowest + 1, 0)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(starts[:-1] + lowest, counts) + within


class WindowBatches:
    """Batches of windows in one pass or several, gathered from one resident tensor when they are
    asked for.

    Windows are an ``unfold`` view; nothing is copied but the batch in hand. Covariates are gathered
    in the same way.

    Args:
        values: The stacked series, ``[rows, C]``.
        ends: Row after each context, ``[W]``.
        spec: Lengths of a window.
        batch_size: Windows a batch; the last batch may be short, none is dropped.
        generator: Shuffles anew at each pass; ``None`` keeps the order.
        covariates: Resident tensors: ``past`` and ``known`` ``[rows, features]``, ``static``
            ``[N, features]``.
        starts: Rows at which series start, ``[N + 1]``; needed where there are static covariates.
        fill: Give the mean of a context for its missing values, for networks that cannot leave them
            out.
    """

    def __init__(
        self,
        values: torch.Tensor,
        ends: np.ndarray,
        spec: WindowSpec,
        *,
        batch_size: int,
        generator: torch.Generator | None = None,
        covariates: Mapping[str, torch.Tensor] | None = None,
        starts: np.ndarray | None = None,
        fill: bool = False,
    ) -> None:
        self.spec = spec
        self.batch_size = int(batch_size)
        self.generator = generator
        self._covariates = dict(covariates or {})
        self._starts = torch.as_tensor([0] if starts is None else starts, dtype=torch.int64)
        self._values = values
        self._fill = fill
        self._first = torch.as_tensor(ends, dtype=torch.int64) - spec.context
        self._part = slice(None)
        self._passes = 1

    @property
    def n_windows(self) -> int:
        """Windows in one pass."""
        return len(self._first)

    @property
    def first(self) -> np.ndarray:
        """Row at which each window of a pass begins, in their order, ``[W]``; whole, also of a
        share.
        """
        rows: np.ndarray = self._first.numpy()
        return rows

    def deal(self, values: torch.Tensor) -> Iterator[torch.Tensor]:
        """What belongs to the windows of each batch in order, of ``values`` with one entry a
        window, ``[W]``.
        """
        return (chunk[self._part] for chunk in values.split(self.batch_size))

    def share(self, rank: int, size: int) -> Self:
        """The same batches, of which only every ``size``-th window from ``rank`` on is handed out,
        perhaps none.
        """
        return self._with(_part=slice(rank, None, size))

    def repeated(self, passes: int) -> Self:
        """The same windows so many times, each time in an order of its own where they
        are shuffled.
        """
        return self._with(_passes=passes)

    def in_order(self) -> Self:
        """The same batches, never shuffled; no generator is drawn from."""
        return self._with(generator=None)

    def to(self, device: torch.device) -> Self:
        """The same batches, gathered on a device."""
        moved = {name: rows.to(device) for name, rows in self._covariates.items()}
        return self._with(_values=self._values.to(device), _covariates=moved)

    def _with(self, **changes: Any) -> Self:
        other = copy.copy(self)
        vars(other).update(changes)
        return other

    def __len__(self) -> int:
        return self._passes * -(-self.n_windows // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Yield ``(x [B, T, C], y [B, F, C])``, and covariates as a third part where there are any.

        They are ``past`` ``[B, T, P]``, ``known`` ``[B, T + F, K]`` and ``static`` ``[B, S]``, by
        name.
        """
        windows = (
            self._values.unfold(0, self.spec.length, 1)
            if self.n_windows
            else self._values[:0, :, None]
        )
        for chunk in self._chunks():
            first = chunk[self._part].to(windows.device)
            window = windows[first].transpose(1, 2)
            x = window[:, : self.spec.context]
            y = window[:, self.spec.context :]
            if self._fill:
                x = x.where(x.isfinite(), x.nanmean(1, keepdim=True))
            yield (x, y, self._gather(first)) if self._covariates else (x, y)

    def _chunks(self) -> Iterator[torch.Tensor]:
        """First rows of the windows of each batch, pass by pass."""
        for _ in range(self._passes):
            order = self._first
            if self.generator is not None:
                order = order[torch.randperm(self.n_windows, generator=self.generator)]
            yield from order.split(self.batch_size)

    def _gather(self, first: torch.Tensor) -> dict[str, torch.Tensor]:
        """Covariates of the windows that start at rows ``first``."""
        found = {}
        for name, rows in self._covariates.items():
            if name == "static":
                owner = (
                    torch.searchsorted(
                        self._starts.to(first.device), first.contiguous(), right=True
                    )
                    - 1
                )
                found[name] = rows[owner]
            else:
                length = self.spec.context if name == "past" else self.spec.length
                found[name] = rows.unfold(0, length, 1)[first].transpose(1, 2)
        return found
