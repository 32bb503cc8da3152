"""Pretrained networks whose every weight does something, series for them, and a measure by loops."""

import numpy as np
import torch

from tsattn.pretrained.network import ZeroConfig, ZeroNetwork

SMALL = {"d_model": 16, "n_heads": 2, "n_layers": 2, "d_ff": 32, "max_tokens": 32}


def shaken(**settings):
    """A small network whose every weight does something."""
    generator = torch.Generator().manual_seed(0)
    network = ZeroNetwork(ZeroConfig(**{**SMALL, **settings}), generator=generator).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator))
    return network


def some_series(n=6, length=150, seed=0):
    generator = torch.Generator().manual_seed(seed)
    wave = torch.sin(2 * torch.pi * torch.arange(length, dtype=torch.float64) / 12)
    return wave + 0.3 * torch.randn(n, length, generator=generator, dtype=torch.float64)


def recent_by_loops(row, period):
    """Mean and deviation of the recent part of a series, and the two facts about it."""
    period = max(period, 1)
    n_cycles = 2
    while n_cycles * period < 64:
        n_cycles += 1
    whole = row[np.isfinite(row)]
    recent = [value for value in row[-n_cycles * period :] if np.isfinite(value)]
    if len(recent) < 8:
        recent = whole
    mean = sum(recent) / len(recent)
    spread = max(
        (sum((value - mean) ** 2 for value in recent) / len(recent)) ** 0.5, 0.1 * whole.std()
    )
    distance = np.arcsinh((whole.mean() - mean) / spread)
    return mean, spread, distance, np.log(whole.std() / spread) / 2
