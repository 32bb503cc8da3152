"""Fixed maps of the target, such as the logarithm, and their inverses."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tsattn.data.panel import Panel

# Maps that bend, and their inverses.
_BENDING: dict[Any, Any] = {"log1p": (np.log1p, np.expm1), "sqrt": (np.sqrt, np.square)}
TRANSFORMS = (*_BENDING, "nonnegative")


@dataclass(frozen=True)
class TargetTransform:
    """A monotone map of the target before anything is learnt, undone in every forecast.

    ``"log1p"`` is ``log(1 + y)`` and ``"sqrt"`` the square root, for values that are never negative
    and whose spread grows with their level. ``"nonnegative"`` leaves the values as they are and
    cuts forecasts off at 0. A point forecast that is a mean on the mapped scale is none on the
    original one: it lies below it for both maps.

    Args:
        name: One of ``TRANSFORMS``, or ``None`` for the identity.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> root = TargetTransform("sqrt")
        >>> root.inverse(root.forward(np.array([0.0, 9.0]))).tolist()
        [0.0, 9.0]
    """

    name: str | None = None

    def __post_init__(self) -> None:
        if self.name is not None and self.name not in TRANSFORMS:
            raise ValueError(
                f"target_transform must be one of {', '.join(TRANSFORMS)} or None; got"
                f" {self.name!r}"
            )

    @property
    def bends(self) -> bool:
        """Whether the mean of mapped values is not the image of their mean."""
        return self.name in _BENDING

    def check(self, panel: Panel) -> None:
        """Refuse values that the map has no image for.

        Raises:
            ValueError: Naming the first negative value, its series and stamp.
        """
        if self.name is None:
            return
        bad = np.argwhere(panel.values < 0)
        if len(bad):
            row, column = bad[0]
            n = int(panel.owners(row + 1))
            raise ValueError(
                f"target_transform={self.name!r} needs values of at least 0;"
                f" {panel.series_label(n)} has {panel.values[row, column]:g} at"
                f" {panel.times[row]}; shift the values or leave the transform out"
            )

    def panel(self, panel: Panel) -> Panel:
        """The same series on the scale of learning.

        Raises:
            ValueError: As :meth:`check`.
        """
        self.check(panel)
        return replace(panel, values=self.forward(panel.values)) if self.bends else panel

    def windows(self, x: np.ndarray) -> np.ndarray:
        """Contexts ``[B, T, C]`` on the scale of learning.

        Raises:
            ValueError: If a value is negative and the map is for values of at least 0.
        """
        if self.name is not None and (x < 0).any():
            raise ValueError(
                f"target_transform={self.name!r} needs values of at least 0; windows have"
                f" {np.nanmin(x):g}; shift them, or fit without the transform"
            )
        return self.forward(x)

    def forward(self, values: np.ndarray) -> np.ndarray:
        """Values on the scale of learning, missing ones stay missing."""
        return _BENDING[self.name][0](values) if self.bends else values

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Back to the original scale; what lies below the image of 0 becomes 0."""
        if self.name is None:
            return values
        values = np.maximum(values, 0.0)
        return _BENDING[self.name][1](values) if self.bends else values
