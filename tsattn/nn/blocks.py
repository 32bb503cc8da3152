"""Pre-norm transformer blocks, the attention over channels between them, and their stack."""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tsattn.kernels.geometry import Device
from tsattn.nn.attention import Attention, NewTokens, TokenCache
from tsattn.nn.layers import Dropout, FeedForward, RandomSource, States
from tsattn.nn.scores import DotScore, Places

# Which tokens may be seen, and the weights of a block.
TokenMask = Bool[Tensor, "B L"]
AttentionMap = Float[Tensor, "B H L L"]


class TransformerBlock(nn.Module):
    """Attention, then feed-forward; each reads normalised tokens and is added to the residual
    stream (pre-norm).

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
        # Parameters are made on the CPU whatever torch's default device is, as all others here.
        self.norm_attention = nn.LayerNorm(d_model, device="cpu")
        self.norm_feed_forward = nn.LayerNorm(d_model, device="cpu")
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: States,
        *,
        key_mask: TokenMask | None = None,
        places: Places | None = None,
        n_last: int | None = None,
    ) -> Float[Tensor, "B Lo D"]:
        """One block.

        Args:
            key_mask: True where a token may be seen.
            places: Groups and positions of the tokens, for a score by groups; others read none.
            n_last: With places: compute only the results of this many last tokens.
        """
        attended = self.attention(
            self.norm_attention(x), key_mask=key_mask, places=places, n_last=n_last
        )
        if n_last is not None:
            x = x[:, x.shape[1] - n_last :]
        return self._add_and_feed_forward(x, attended)

    def weights(self, x: States, *, key_mask: TokenMask | None = None) -> AttentionMap:
        """Attention weights of this block."""
        return self.attention.weights(self.norm_attention(x), key_mask=key_mask)

    def step(self, x: NewTokens, cache: TokenCache) -> NewTokens:
        """Results for the next tokens of each sequence, with earlier tokens in the cache."""
        attended = self.attention.step(self.norm_attention(x), cache)
        return self._add_and_feed_forward(x, attended)

    def _add_and_feed_forward(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.dropout(attended)
        hidden = self.feed_forward(self.norm_feed_forward(x))
        return x + self.dropout(hidden)


class ChannelMixer(nn.Module):
    """Attention over the channels of a window at the same token, added to the residual stream
    (pre-norm).

    Each channel has a learned vector, which is added to its normalised tokens before the attention,
    so that one channel can attend to a certain other one. Different tokens are not mixed.

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
        generator: RandomSource = None,
    ) -> None:
        super().__init__()
        self.n_channels = n_channels
        score = DotScore(d_model, n_heads, generator=generator)
        self.attention = Attention(d_model, score=score, generator=generator)
        # Variance 1, as large as the normalised tokens: with smaller vectors similar channels stay
        # alike for a large part of the training.
        channel_vectors = torch.empty(n_channels, d_model, device="cpu")
        self.places = nn.Parameter(channel_vectors.normal_(generator=generator))
        self.norm = nn.LayerNorm(d_model, device="cpu")
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "BC L D"], *, key_mask: Bool[Tensor, "BC L"] | None = None
    ) -> Float[Tensor, "BC L D"]:
        """Add the attention over channels to the tokens.

        Args:
            x: Tokens of all channels, those of one window next to one another.
            key_mask: True where a token may be seen.
        """
        tokens = self._by_token(self.norm(x))  # [B L C D]
        queries = (tokens + self.places).flatten(0, 1)
        if key_mask is not None:
            key_mask = self._by_token(key_mask).flatten(0, 1)  # [BL C]
        # One sequence of channels for each window and token.
        mixed = self.attention(queries, key_mask=key_mask)
        mixed = mixed.unflatten(0, tokens.shape[:2]).transpose(1, 2).flatten(0, 1)  # [BC L D]
        return x + self.dropout(mixed)

    def _by_token(self, x: Tensor) -> Tensor:
        """[BC L ...] -> [B L C ...]."""
        return x.unflatten(0, (-1, self.n_channels)).transpose(1, 2)


class TransformerStack(nn.Module):
    """Blocks one after the other and a last norm, which a pre-norm stream needs.

    Args:
        blocks: The blocks, first to last.
        d_model: Token width.
        mixers: The attention over channels after each block; none keeps channels independent.
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

    def forward(self, x: States, *, key_mask: TokenMask | None = None) -> States:
        """All blocks.

        Args:
            key_mask: True where a token may be seen.
        """
        for layer, block in enumerate(self._blocks):
            x = block(x, key_mask=key_mask)
            x = self._mix(layer, x, key_mask)
        return self.norm(x)

    def weights(self, x: States, *, key_mask: TokenMask | None = None) -> list[AttentionMap]:
        """Attention maps, one a block.

        Args:
            key_mask: True where a token may be seen.
        """
        maps = []
        for layer, block in enumerate(self._blocks):
            maps.append(block.weights(x, key_mask=key_mask))
            x = block(x, key_mask=key_mask)
            x = self._mix(layer, x, key_mask)
        return maps

    def make_caches(
        self,
        n_sequences: int,
        max_length: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: Device = None,
    ) -> list[TokenCache]:
        """One cache a block, as in :meth:`tsattn.nn.attention.Attention.make_cache`."""
        return [
            block.attention.make_cache(n_sequences, max_length, dtype=dtype, device=device)
            for block in self._blocks
        ]

    @torch.no_grad()
    def step(self, x: NewTokens, caches: list[TokenCache]) -> NewTokens:
        """Results for the next tokens of each sequence; they equal those of the causal full pass.

        Args:
            caches: From :meth:`make_caches`; the new tokens are added to them.
        """
        for block, cache in zip(self._blocks, caches, strict=True):
            x = block.step(x, cache)
        return self.norm(x)

    def _mix(self, layer: int, x: Tensor, key_mask: Tensor | None) -> Tensor:
        if not len(self.mixers):
            return x
        mixer = self.mixers[layer]
        return mixer(x, key_mask=key_mask)

    @property
    def _blocks(self) -> list[TransformerBlock]:
        return [cast(TransformerBlock, block) for block in self.blocks]
