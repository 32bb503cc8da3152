"""How does a score learn how far apart two tokens are? Rotary position embedding, level by level."""

from collections.abc import Sequence

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

    sign: Tensor
    rates: Tensor

    def __init__(self, ranks: tuple[int, ...], *, base: float = 10_000.0) -> None:
        super().__init__()
        self.ranks = tuple(ranks)
        if odd := [rank for rank in ranks if rank % 2]:
            raise ValueError(
                f"rotary embedding turns pairs of features, so every rank must be even; got {odd[0]} in {ranks};"
                " change the ranks or the width of a head"
            )
        self._halves = [rank // 2 for rank in ranks for _ in range(2)]
        rates = [base ** (-2 * torch.arange(rank // 2, dtype=torch.float64) / rank) for rank in ranks]
        signs = [torch.tensor([-1.0, 1.0]).repeat_interleave(rank // 2) for rank in ranks]
        self.register_buffer("sign", torch.cat(signs), persistent=False)
        self.register_buffer("rates", torch.cat([x.repeat(2) for x in rates]), persistent=False)

    def forward(self, x: Float[Tensor, "B H L K"], *, start: int = 0) -> Float[Tensor, "B H L K"]:
        """Turn the features of tokens at positions ``start``, ``start + 1``, ..."""
        positions = torch.arange(start, start + x.shape[2], dtype=torch.float64, device=x.device)
        return self.turn(x, self.angles([positions] * len(self.ranks), dtype=x.dtype))

    def angles(
        self, positions: Sequence[Float[Tensor, "... L"]], *, dtype: torch.dtype = torch.float32
    ) -> tuple[Float[Tensor, "... L K"], Float[Tensor, "... L K"]]:
        """Cosines and signed sines for :meth:`turn`, so that layers with the same positions share them.

        Args:
            positions: Where each token stands, one tensor a slice: time for most, the cycle for a slice that
                compares the same phase of different cycles. [L] for all sequences, or [B L].
            dtype: Type of the result.
        """
        # Angles of far positions need more digits than float32 has.
        rates = self.rates.to(torch.float64).split(self.ranks)
        parts = [place.to(torch.float64)[..., None] * rate for place, rate in zip(positions, rates, strict=True)]
        angles = torch.cat(_alike(parts), dim=-1)
        return angles.cos().to(dtype), (angles.sin() * self.sign).to(dtype)

    def turn(
        self, x: Float[Tensor, "B H L K"], angles: tuple[Float[Tensor, "... L K"], Float[Tensor, "... L K"]]
    ) -> Float[Tensor, "B H L K"]:
        """Turn the features by angles of :meth:`angles`."""
        cos, sin = (part if part.ndim == 2 else part[:, None] for part in angles)
        # Views put together: indexing would be slow in the backward pass.
        halves = x.split(self._halves, dim=3)
        partners = torch.cat([halves[i ^ 1] for i in range(len(halves))], dim=3)
        return x * cos + partners * sin


def _alike(parts: list[Tensor]) -> list[Tensor]:
    """The parts with the same leading axes."""
    # torch.broadcast_shapes would load sympy.
    lead = torch.broadcast_tensors(*(part[..., 0] for part in parts))[0].shape
    return [part.expand(*lead, part.shape[-1]) for part in parts]
