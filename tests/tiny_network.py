"""A small pretrained network with random weights: what it says is nonsense, and how it says it is
not.
"""

import functools

import torch

from tsattn.pretrained.network import ZeroConfig, ZeroNetwork
from tsattn.pretrained.weights import FACTS

# 64 steps of history at most.
SIZES = {
    "d_model": 16,
    "n_heads": 2,
    "n_layers": 2,
    "d_ff": 16,
    "max_tokens": 8,
    "encode": 3,
    "measure": "recent",
}
# What its card says.
CARD = dict.fromkeys(FACTS, "a test")


@functools.cache
def tiny_network():
    """The same network at each call; no weight of it is zero, so nothing that it reads is without
    effect.
    """
    generator = torch.Generator().manual_seed(0)
    network = ZeroNetwork(ZeroConfig(**SIZES), generator=generator)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network.eval().requires_grad_(False)
