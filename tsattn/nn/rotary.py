"""How does a score learn how far apart two tokens are? Rotary position embedding, level by level."""

from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor, nn


class RotaryEmbedding(nn.Module):
    """Turns pairs of features by angles that grow with the position, so that dot products depend on distances.

    After Su et al. 2021 (RoFormer): feature i of the first half of a slice and feature i of its second half are one
    pair, turned by ``position * base^(-2 i / r)``. Each level's slice of r features is turned by itself: pairs over
    the whole head would mix features of different levels, and what a far key shows would depend on hidden ones.

    Args:
        ranks: Features per slice, each even.
        base: Longest wave length over 2 pi, in tokens.

    Raises:
        ValueError: If a rank is odd.
    """

    partner: Tensor
    sign: Tensor
    rates: Tensor

    def __init__(self, ranks: tuple[int, ...], *, base: float = 10_000.0) -> None:
        super().__init__()
        if odd := [rank for rank in ranks if rank % 2]:
            raise ValueError(
                f"rotary embedding turns pairs of features, so every rank must be even; got {odd[0]} in {ranks};"
                " change the ranks or the width of a head"
            )
        starts = [0, *accumulate(ranks)]
        halves = [torch.arange(start, start + rank).chunk(2) for start, rank in zip(starts, ranks, strict=False)]
        rates = [base ** (-2 * torch.arange(rank // 2, dtype=torch.float64) / rank) for rank in ranks]
        self.register_buffer("partner", torch.cat([x for a, b in halves for x in (b, a)]), persistent=False)
        signs = [torch.tensor([-1.0, 1.0]).repeat_interleave(rank // 2) for rank in ranks]
        self.register_buffer("sign", torch.cat(signs), persistent=False)
        self.register_buffer("rates", torch.cat([x.repeat(2) for x in rates]), persistent=False)

    def forward(self, x: Float[Tensor, "B H L K"], *, start: int = 0) -> Float[Tensor, "B H L K"]:
        """Turn the features of tokens at positions ``start``, ``start + 1``, ..."""
        positions = torch.arange(start, start + x.shape[2], dtype=torch.float64, device=x.device)
        # Angles of far positions need more digits than float32 has.
        angles = positions[:, None] * self.rates.to(torch.float64)
        turned = x[..., self.partner] * (angles.sin() * self.sign).to(x.dtype)
        return x * angles.cos().to(x.dtype) + turned
