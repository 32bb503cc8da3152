"""Seeds, and the generators of a fit that follow from one; no global random state is
read or set.
"""

import secrets
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Generators:
    """Three independent sources of chance: start values, order of windows, dropout masks."""

    init: torch.Generator
    order: torch.Generator
    masks: torch.Generator

    @classmethod
    def from_seed(cls, seed: int | None, device: torch.device) -> "Generators":
        """Make them from one seed; ``None`` asks the operating system, never a global generator."""
        entropy = secrets.randbits(63) if seed is None else seed
        init, order, masks = (
            int(s.generate_state(1, np.uint64)[0]) for s in np.random.SeedSequence(entropy).spawn(3)
        )
        return cls(
            torch.Generator().manual_seed(init),
            torch.Generator().manual_seed(order),
            torch.Generator(device=device).manual_seed(masks),
        )


def seed_from(random_state: Any) -> int | None:
    """An int as it is, None as it is; a numpy generator that the user passes is drawn from.

    Raises:
        ValueError: If it is anything else, or negative.
    """
    if random_state is None:
        return None
    whole = isinstance(random_state, int | np.integer) and not isinstance(random_state, bool)
    if whole and random_state >= 0:
        return int(random_state)
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**63))
    raise ValueError(
        "random_state must be an int of at least 0, a numpy generator or None; got"
        f" {random_state!r}"
    )
