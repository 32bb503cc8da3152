"""How do token states become a forecast? The point head."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tsattn.nn.layers import Dropout, linear


class PointHead(nn.Module):
    """All token states side by side, then one linear map to the horizon.

    Args:
        n_tokens: Tokens a window has.
        d_model: Token width.
        horizon: Future steps.
        dropout: Rate on the flattened states.
        generator: Source of the start values; ``None`` is torch's global one.
    """

    def __init__(
        self,
        n_tokens: int,
        d_model: int,
        horizon: int,
        *,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.project = linear(n_tokens * d_model, horizon, generator=generator)

    def forward(self, states: Float[Tensor, "B L D"]) -> Float[Tensor, "B F"]:
        """One value for each future step."""
        return self.project(self.dropout(states.flatten(1)))
