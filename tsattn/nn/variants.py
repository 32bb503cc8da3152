"""Builders of the attention layers and of the stack of blocks that a configuration describes."""

from dataclasses import replace

import numpy as np

from tsattn.kernels import Levels
from tsattn.matrices import make_matrix
from tsattn.nn.attention import Attention, GlobalLocalAttention
from tsattn.nn.blocks import ChannelMixer, FeedForward, TransformerBlock, TransformerStack
from tsattn.nn.config import ModelConfig
from tsattn.nn.layers import RandomSource
from tsattn.nn.scores import BilinearScore, DotScore, LevelScore, Score, default_ranks, head_width

# The structured matrix of each attention with a bilinear score.
_MATRICES = {"bilinear_mlr": "mlr", "bilinear_btt": "btt", "mlbtc": "mlbtc"}


def make_stack(config: ModelConfig, *, generator: RandomSource = None) -> TransformerStack:
    """The blocks of a patch transformer.

    Args:
        config: The network.
        generator: Source of the start values; ``None`` is torch's global one.
    """
    width = config.d_model
    blocks = []
    for layer in range(config.n_layers):
        attention = make_attention(config, layer, generator=generator)
        feed_forward = FeedForward(width, config.d_ff, dropout=config.dropout, generator=generator)
        blocks.append(
            TransformerBlock(attention, feed_forward, d_model=width, dropout=config.dropout)
        )
    # Mixers are drawn after the blocks, so that these start the same with and without mixers.
    mixers = []
    if config.mixed_channels:
        for _ in range(config.n_layers):
            mixer = ChannelMixer(
                config.mixed_channels,
                width,
                config.n_heads,
                dropout=config.dropout,
                generator=generator,
            )
            mixers.append(mixer)
    return TransformerStack(blocks, d_model=width, mixers=mixers)


def make_attention(config: ModelConfig, layer: int, *, generator: RandomSource = None) -> Attention:
    """The attention of one block.

    Args:
        config: The network.
        layer: Number of the block, from 0.
        generator: Source of the start values; ``None`` is torch's global one.

    Raises:
        ValueError: If sizes do not fit together.
    """
    if config.backbone == "global_local":
        return GlobalLocalAttention(
            config.d_model,
            config.n_heads,
            window=config.window_size,
            causal=config.causal,
            n_key_heads=config.n_kv_heads,
            generator=generator,
        )
    return Attention(
        config.d_model,
        score=_make_score(config, layer, generator),
        pattern=config.pattern(layer),
        n_value_heads=config.n_kv_heads,
        generator=generator,
    )


def shifted_offset(block_sizes: tuple[int, ...]) -> int:
    """A third of the second level's block, rounded down: 0 for a block of one or two tokens, and
    for one level.

    With halving blocks that is a third or two thirds of a block at *every* level, so the borders of
    the shifted grid are far from those of the other grid at every level.

    Example:
        >>> shifted_offset((64, 32, 16, 8))
        10
    """
    return block_sizes[1] // 3 if len(block_sizes) > 1 else 0


def _make_score(config: ModelConfig, layer: int, generator: RandomSource) -> Score:
    if config.backbone in _MATRICES:
        return _bilinear_score(config, generator)
    if config.backbone == "mlr":
        return _level_score(config, layer, generator)
    return DotScore(
        config.d_model,
        config.n_heads,
        n_key_heads=config.n_kv_heads,
        rotary=config.rotary,
        generator=generator,
    )


def _level_score(config: ModelConfig, layer: int, generator: RandomSource) -> LevelScore:
    width = head_width(config.d_model, config.n_heads)
    sizes = config.block_sizes
    ranks = config.ranks
    if ranks is None:
        # A number alone has a size, too, and is refused with the levels.
        ranks = default_ranks(width) if sizes is None else default_ranks(width, np.size(sizes))
    # Block sizes are derived first: offsets by name depend on them.
    levels = Levels(ranks, sizes).fit(width, config.n_tokens)
    levels = replace(levels, offset=_layer_offset(config, layer, levels))
    return LevelScore(
        config.d_model,
        config.n_heads,
        length=config.n_tokens,
        levels=levels,
        scaling=config.scaling,
        learn_scales=config.learn_scales,
        n_key_heads=config.n_kv_heads,
        rotary=config.rotary,
        generator=generator,
    )


def _layer_offset(config: ModelConfig, layer: int, levels: Levels) -> int | tuple[int, ...]:
    """Shift of the block grid in a layer, for all heads or one per head."""
    if not isinstance(config.offset, str):
        return config.offset
    shift = shifted_offset(levels.block_sizes or ())
    if config.offset == "layers":
        return shift * (layer % 2)
    # Query heads that share keys share a grid, so that a cache can serve them.
    n_key_heads = config.n_kv_heads or config.n_heads
    group = config.n_heads // n_key_heads
    return tuple(shift * (head // group % 2) for head in range(config.n_heads))


def _bilinear_score(config: ModelConfig, generator: RandomSource) -> BilinearScore:
    name = _MATRICES[config.backbone]
    width = config.d_model
    # Values are as wide as in ordinary attention, so the heads must divide the width.
    d_head = head_width(width, config.n_heads)
    ranks = config.ranks
    if name == "mlr" and ranks is None:
        # These give as many numbers as the two projections of an ordinary head.
        ranks = default_ranks(d_head)
    matrix = make_matrix(
        name,
        width,
        width,
        ranks=ranks,
        tt_rank=config.tt_rank,
        heads=config.n_heads,
        generator=generator,
    )
    return BilinearScore(matrix)
