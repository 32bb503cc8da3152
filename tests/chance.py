"""A generator of random numbers."""

import torch


def seeded(seed=0):
    """A generator of one's own."""
    return torch.Generator().manual_seed(seed)
