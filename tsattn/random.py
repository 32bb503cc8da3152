"""Seeds, and the random generators of a fit; no global random state is read or set."""

import secrets
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tsattn.checks import InputError, Name, is_whole


@dataclass(frozen=True)
class Generators:
    """Three independent random generators.

    Attributes:
        init: Draws the start values of the weights.
        order: Draws the order of the windows.
        masks: Draws the dropout masks.
    """

    init: torch.Generator
    order: torch.Generator
    masks: torch.Generator

    @classmethod
    def from_seed(cls, seed: int | None, device: torch.device) -> "Generators":
        """Make the generators from one seed; ``None`` takes a seed from the operating system."""
        entropy = secrets.randbits(63) if seed is None else seed
        sequences = np.random.SeedSequence(entropy).spawn(3)
        seeds = [int(sequence.generate_state(1, np.uint64)[0]) for sequence in sequences]
        return cls(
            init=torch.Generator().manual_seed(seeds[0]),
            order=torch.Generator().manual_seed(seeds[1]),
            masks=torch.Generator(device=device).manual_seed(seeds[2]),
        )


def seed_from(random_state: Any) -> int | None:
    """The seed that a user's ``random_state`` stands for.

    Args:
        random_state: An int is the seed itself. A numpy generator draws one. ``None`` stays.

    Raises:
        ValueError: If it is anything else, or negative.
    """
    if random_state is None:
        return None
    if is_whole(random_state) and random_state >= 0:
        return int(random_state)
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**63))
    raise InputError(
        Name("random_state"),
        f" must be an int of at least 0, a numpy generator or None; got {random_state!r}",
    )
