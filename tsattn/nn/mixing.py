"""How do channels learn from one another? An attention over the channels of a window, at each token by itself."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tsattn.nn.attention import Attention
from tsattn.nn.layers import Dropout
from tsattn.nn.scores import DotScore


class ChannelMixer(nn.Module):
    """Each channel looks at all channels of its window at the same token, and adds what it sees (pre-norm).

    Channels are known by their place: each has a learned vector, added to its normalised tokens before anybody looks,
    so that one channel may listen to a certain other one. Time does not mix here.

    Args:
        n_channels: Channels C of every window.
        d_model: Token width.
        n_heads: Heads.
        dropout: Rate on what is added to the stream.
        generator: Source of the start values; ``None`` is torch's global one.
    """

    def __init__(
        self,
        n_channels: int,
        d_model: int,
        n_heads: int,
        *,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.n_channels = n_channels
        self.attention = Attention(d_model, score=DotScore(d_model, n_heads, generator=generator), generator=generator)
        # As large as the normalised tokens: otherwise channels of one kind could not be told apart for long.
        self.places = nn.Parameter(torch.empty(n_channels, d_model).normal_(generator=generator))
        self.norm = nn.LayerNorm(d_model)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "BC L D"], *, key_mask: Bool[Tensor, "BC L"] | None = None
    ) -> Float[Tensor, "BC L D"]:
        """One look around.

        Args:
            x: Tokens of all channels, those of one window next to one another.
            key_mask: True where a token may be looked at.
        """
        by_token = self.norm(x).unflatten(0, (-1, self.n_channels)).transpose(1, 2)
        seen = None if key_mask is None else key_mask.unflatten(0, (-1, self.n_channels)).transpose(1, 2).flatten(0, 1)
        mixed = self.attention((by_token + self.places).flatten(0, 1), key_mask=seen)
        return x + self.dropout(mixed.unflatten(0, by_token.shape[:2]).transpose(1, 2).flatten(0, 1))
