"""Rows of training, validation and test, and batches of windows that networks are trained on."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tsattn.checks import check_whole
from tsattn.data.grid import stacked_rows

if TYPE_CHECKING:
    import torch

# Rounding of three shares that sum to 1.
_SHARE_ROUNDING = 1e-9


@dataclass(frozen=True)
class Split:
    """Contiguous training, validation and test rows, from the first row on.

    Args:
        train: Rows of training, from which scalers take their statistics.
        valid: Rows for early stopping and calibration.
        test: Rows of the test. Rows after them are unused.

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
        train_stop = self.train
        valid_stop = train_stop + self.valid
        test_stop = valid_stop + self.test
        return train_stop, valid_stop, test_stop

    @classmethod
    def from_shares(cls, n_rows: int, shares: str | Sequence[float]) -> Split:
        """Split ``n_rows`` as the published protocol does: int(a n) rows of training, int(c n) of
        the test, the rest of validation.

        Args:
            n_rows: Rows of the table.
            shares: Three shares ``(a, b, c)`` or ``"a,b,c"`` that sum to 1.

        Raises:
            ValueError: If there are not three shares between 0 and 1 that sum to 1.
        """
        fields = shares.split(",") if isinstance(shares, str) else shares
        try:
            parts = [float(field) for field in fields]
        except (TypeError, ValueError):
            parts = []
        inside = all(0 <= part < 1 for part in parts)
        distance = abs(sum(parts) - 1)
        complete = distance <= _SHARE_ROUNDING
        if len(parts) != 3 or not inside or not complete:
            raise ValueError(
                f"split needs three shares that sum to 1, such as 0.7,0.1,0.2; got {shares!r}"
            )
        train = int(n_rows * parts[0])
        test = int(n_rows * parts[2])
        valid = n_rows - train - test
        return cls(train, valid, test)


@dataclass(frozen=True)
class WindowSpec:
    """Rows that a window reads (``context``) and forecasts (``horizon``).

    Args:
        context: Rows before the cutoff.
        horizon: Rows after it.
        least: Fewest rows before the cutoff if there are several series. The first window of a
            series then has half of the rows that remain without a horizon before its cutoff, if
            that is less than the context, and is padded at the front. ``None``: every window has
            all rows.
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
        n_before: np.ndarray | int = self.context
        if self.least is not None and len(starts) > 2:
            half = (stop - self.horizon) // 2
            n_before = np.minimum(self.context, np.maximum(self.least, half))
        lowest = np.maximum(first, n_before)
        # A series that is too short would have a negative number.
        n_ends = stop - self.horizon - lowest + 1
        counts = np.maximum(n_ends, 0)
        return stacked_rows(starts[:-1] + lowest, counts)


class WindowBatches:
    """Batches of windows in one pass or several, gathered from one resident tensor.

    Windows are an ``unfold`` view, so only the current batch is a copy. Covariates are gathered in
    the same way.

    Args:
        values: The stacked series, ``[rows, C]``.
        ends: Row after each context, ``[W]``.
        spec: Lengths of a window.
        batch_size: Windows in a batch; the last batch may have fewer.
        generator: Generator of a new order at each pass; ``None`` keeps the order.
        covariates: Resident tensors: ``past`` and ``known`` ``[rows, features]``, ``static``
            ``[N, features]``.
        starts: Rows at which series start, ``[N + 1]``; needed where there are static covariates.
        fill: Give the mean of a context for its missing values, for networks that cannot leave them
            out.

    Raises:
        ValueError: If a window leaves the table, or a batch would have no window.
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
        import torch

        last_end = len(values) - spec.horizon
        outside = ends[(ends < spec.context) | (ends > last_end)]
        if len(outside):
            raise ValueError(
                f"ends must lie in rows {spec.context} to {last_end}, which leave room for the"
                f" context and the horizon; got {outside[0]}"
            )
        self.spec = spec
        self.batch_size = check_whole("batch_size", batch_size)
        self.generator = generator
        self._covariates = dict(covariates or {})
        series_starts = [0] if starts is None else starts
        self._starts = torch.as_tensor(series_starts, dtype=torch.int64)
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
        """First row of each window of a pass, in order, ``[W]``; those of all shares together."""
        return self._first.numpy()

    def deal(self, values: torch.Tensor) -> Iterator[torch.Tensor]:
        """The entries of ``values [W]``, one for each window, batch by batch without shuffling."""
        return (chunk[self._part] for chunk in values.split(self.batch_size))

    def share(self, rank: int, size: int) -> Self:
        """The same batches with only every ``size``-th window from ``rank`` on, perhaps none."""
        return self._with(_part=slice(rank, None, size))

    def repeated(self, passes: int) -> Self:
        """The same windows several times; shuffled windows have a new order each time."""
        return self._with(_passes=passes)

    def in_order(self) -> Self:
        """The same batches, never shuffled; no generator is drawn from."""
        return self._with(generator=None)

    def to(self, device: torch.device) -> Self:
        """The same batches, gathered on a device."""
        values = self._values.to(device)
        covariates = {name: rows.to(device) for name, rows in self._covariates.items()}
        return self._with(_values=values, _covariates=covariates)

    def _with(self, **changes: Any) -> Self:
        other = copy.copy(self)
        vars(other).update(changes)
        return other

    def __len__(self) -> int:
        # Division of the negative number rounds up: the last batch may have fewer windows.
        return self._passes * -(-self.n_windows // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Yield ``(x [B, T, C], y [B, F, C])``, and covariates as a third part if there are any.

        Covariates are ``past`` ``[B, T, P]``, ``known`` ``[B, T + F, K]`` and ``static``
        ``[B, S]``, by name.
        """
        # Tables shorter than a window cannot be unfolded.
        windows = self._values[:0, :, None]
        if self.n_windows:
            windows = self._values.unfold(0, self.spec.length, 1)
        for chunk in self._chunks():
            first = chunk[self._part].to(windows.device)
            window = windows[first].transpose(1, 2)
            x = window[:, : self.spec.context]
            y = window[:, self.spec.context :]
            if self._fill:
                mean = x.nanmean(1, keepdim=True)
                x = x.where(x.isfinite(), mean)
            if self._covariates:
                yield x, y, self._gather(first)
            else:
                yield x, y

    def _chunks(self) -> Iterator[torch.Tensor]:
        """First rows of the windows of each batch, pass by pass."""
        import torch

        for _ in range(self._passes):
            order = self._first
            if self.generator is not None:
                shuffled = torch.randperm(self.n_windows, generator=self.generator)
                order = order[shuffled]
            yield from order.split(self.batch_size)

    def _gather(self, first: torch.Tensor) -> dict[str, torch.Tensor]:
        """Covariates of the windows that start at rows ``first``."""
        import torch

        parts = {}
        for name, rows in self._covariates.items():
            if name == "static":
                starts = self._starts.to(first.device)
                # The series of each window, whose first row is at or after its start.
                places = torch.searchsorted(starts, first.contiguous(), right=True)
                parts[name] = rows[places - 1]
            else:
                length = self.spec.context if name == "past" else self.spec.length
                windows = rows.unfold(0, length, 1)
                parts[name] = windows[first].transpose(1, 2)
        return parts
