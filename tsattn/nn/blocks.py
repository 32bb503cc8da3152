"""Pre-norm transformer blocks, the mixer of channels between them, and their stack."""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tsattn.nn.attention import Attention, TokenCache
from tsattn.nn.layers import Dropout, FeedForward
from tsattn.nn.scores import DotScore, Places


class TransformerBlock(nn.Module):
    """Attention, then feed-forward; each reads normalised tokens and adds to the stream (pre-norm).

    Args:
        attention: The attention layer.
        feed_forward: The feed-forward layer.
        d_model: Token width.
        dropout: Rate on what is added to the stream.
    """

    def __init__(
        self, attention: Attention, feed_forward: FeedForward, *, d_model: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attention = attention
        self.feed_forward = feed_forward
        self.norm_attention = nn.LayerNorm(d_model, device="cpu")
        self.norm_feed_forward = nn.LayerNorm(d_model, device="cpu")
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        *,
        key_mask: Bool[Tensor, "B L"] | None = None,
        places: Places | None = None,
        n_last: int | None = None,
    ) -> Float[Tensor, "B Lo D"]:
        """One block.

        Args:
            key_mask: True where a token may be looked at.
            places: Where the tokens stand, for a score by groups.
            n_last: With places: answer so many last tokens only.
        """
        seen = self.attention(
            self.norm_attention(x), key_mask=key_mask, places=places, n_last=n_last
        )
        return self._then_feed_forward(x if n_last is None else x[:, x.shape[1] - n_last :], seen)

    def weights(
        self, x: Float[Tensor, "B L D"], *, key_mask: Bool[Tensor, "B L"] | None = None
    ) -> Float[Tensor, "B H L L"]:
        """How much each token looks at each other one in this block."""
        return self.attention.weights(self.norm_attention(x), key_mask=key_mask)

    def step(self, x: Float[Tensor, "B n D"], cache: TokenCache) -> Float[Tensor, "B n D"]:
        """The next tokens of each sequence, given those in the cache."""
        return self._then_feed_forward(x, self.attention.step(self.norm_attention(x), cache))

    def _then_feed_forward(self, x: Tensor, seen: Tensor) -> Tensor:
        x = x + self.dropout(seen)
        return x + self.dropout(self.feed_forward(self.norm_feed_forward(x)))


class ChannelMixer(nn.Module):
    """Each channel looks at all channels of its window at the same token, and adds what it sees
    (pre-norm).

    Channels are known by their place: each has a learned vector, added to its normalised tokens
    before anybody looks, so that one channel may listen to a certain other one. Time does not mix
    here.

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
        self.attention = Attention(
            d_model, score=DotScore(d_model, n_heads, generator=generator), generator=generator
        )
        # As large as the normalised tokens: otherwise channels of one kind could not be told apart
        # for long.
        start = torch.empty(n_channels, d_model, device="cpu").normal_(generator=generator)
        self.places = nn.Parameter(start)
        self.norm = nn.LayerNorm(d_model, device="cpu")
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
        seen = (
            None
            if key_mask is None
            else key_mask.unflatten(0, (-1, self.n_channels)).transpose(1, 2).flatten(0, 1)
        )
        mixed = self.attention((by_token + self.places).flatten(0, 1), key_mask=seen)
        return x + self.dropout(
            mixed.unflatten(0, by_token.shape[:2]).transpose(1, 2).flatten(0, 1)
        )


class TransformerStack(nn.Module):
    """Blocks in a row and a last norm, which a pre-norm stream needs.

    Args:
        blocks: The blocks, first to last.
        d_model: Token width.
        mixers: What lets channels look at one another after each block; none keeps them
            independent.
    """

    def __init__(
        self,
        blocks: Sequence[TransformerBlock],
        *,
        d_model: int,
        mixers: Sequence[ChannelMixer] = (),
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.mixers = nn.ModuleList(mixers)
        self.norm = nn.LayerNorm(d_model, device="cpu")

    def forward(
        self, x: Float[Tensor, "B L D"], *, key_mask: Bool[Tensor, "B L"] | None = None
    ) -> Float[Tensor, "B L D"]:
        """All blocks.

        Args:
            key_mask: True where a token may be looked at.
        """
        for i, block in enumerate(self._blocks):
            x = self._mix(i, block(x, key_mask=key_mask), key_mask)
        return self.norm(x)

    def weights(
        self, x: Float[Tensor, "B L D"], *, key_mask: Bool[Tensor, "B L"] | None = None
    ) -> list[Float[Tensor, "B H L L"]]:
        """Attention maps, one a block.

        Args:
            key_mask: True where a token may be looked at.
        """
        maps = []
        for i, block in enumerate(self._blocks):
            maps.append(block.weights(x, key_mask=key_mask))
            x = self._mix(i, block(x, key_mask=key_mask), key_mask)
        return maps

    def make_caches(
        self,
        n_sequences: int,
        max_length: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> list[TokenCache]:
        """One cache a block, as in :meth:`tsattn.nn.attention.Attention.make_cache`."""
        blocks = self._blocks
        return [
            b.attention.make_cache(n_sequences, max_length, dtype=dtype, device=device)
            for b in blocks
        ]

    @torch.no_grad()
    def step(self, x: Float[Tensor, "B n D"], caches: list[TokenCache]) -> Float[Tensor, "B n D"]:
        """The next tokens of each sequence; equals the causal full pass.

        Args:
            caches: From :meth:`make_caches`; the new tokens are added to them.
        """
        for block, cache in zip(self._blocks, caches, strict=True):
            x = block.step(x, cache)
        return self.norm(x)

    def _mix(self, layer: int, x: Tensor, key_mask: Tensor | None) -> Tensor:
        return (
            cast(ChannelMixer, self.mixers[layer])(x, key_mask=key_mask) if len(self.mixers) else x
        )

    @property
    def _blocks(self) -> list[TransformerBlock]:
        return [cast(TransformerBlock, block) for block in self.blocks]
