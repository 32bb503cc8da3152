"""Attention layers by their name in a configuration, and the stack of blocks of a patch
transformer.
"""

from dataclasses import replace

import torch

from tsattn.kernels import Levels, Pattern
from tsattn.matrices import make_matrix
from tsattn.nn.attention import Attention, GlobalLocalAttention
from tsattn.nn.blocks import ChannelMixer, FeedForward, TransformerBlock, TransformerStack
from tsattn.nn.config import ModelConfig
from tsattn.nn.scores import BilinearScore, DotScore, LevelScore, Score, default_ranks, head_width

_MATRICES = {"bilinear_mlr": "mlr", "bilinear_btt": "btt", "mlbtc": "mlbtc"}


def make_stack(
    config: ModelConfig, *, generator: torch.Generator | None = None
) -> TransformerStack:
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
    # Drawn after the blocks, which are then the same with mixers and without.
    n_mixers = config.n_layers if config.mixed_channels else 0
    mixers = [
        ChannelMixer(
            config.mixed_channels,
            width,
            config.n_heads,
            dropout=config.dropout,
            generator=generator,
        )
        for _ in range(n_mixers)
    ]
    return TransformerStack(blocks, d_model=width, mixers=mixers)


def make_attention(
    config: ModelConfig, layer: int, *, generator: torch.Generator | None = None
) -> Attention:
    """The attention of one block.

    Args:
        config: The network.
        layer: Number of the block, from 0.
        generator: Source of the start values; ``None`` is torch's global one.

    Raises:
        ValueError: If sizes do not fit together.
    """
    causal = config.architecture == "decoder"
    window = default_window(config.n_tokens) if config.window is None else config.window
    if config.backbone == "global_local":
        sizes = (config.d_model, config.n_heads)
        n_shared = config.n_kv_heads
        return GlobalLocalAttention(
            *sizes, window=window, causal=causal, n_key_heads=n_shared, generator=generator
        )
    score = _make_score(config, layer, generator)
    pattern = (
        Pattern(causal, window, config.n_global) if config.layers[layer] == "W" else Pattern(causal)
    )
    return Attention(
        config.d_model,
        score=score,
        pattern=pattern,
        n_value_heads=config.n_kv_heads,
        generator=generator,
    )


def default_window(n_tokens: int) -> int:
    """A quarter of the tokens: a window to either side then shows half of the sequence.

    Example:
        >>> default_window(42)
        11
    """
    return -(-n_tokens // 4)


def shifted_offset(block_sizes: tuple[int, ...]) -> int:
    """A third of the second level's block, rounded down: 0 for a block of one or two tokens, and
    with one level.

    With halving blocks that is a third or two thirds of a block at *every* level, so no border of
    the shifted grid lies near one of the other grid at any level.

    Example:
        >>> shifted_offset((64, 32, 16, 8))
        10
    """
    return block_sizes[1] // 3 if len(block_sizes) > 1 else 0


def _make_score(config: ModelConfig, layer: int, generator: torch.Generator | None) -> Score:
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


def _level_score(config: ModelConfig, layer: int, generator: torch.Generator | None) -> LevelScore:
    width = head_width(config.d_model, config.n_heads)
    sizes = config.block_sizes
    ranks = (
        default_ranks(width, 3 if sizes is None else len(sizes))
        if config.ranks is None
        else config.ranks
    )
    levels = Levels(ranks, sizes).fit(width, config.n_tokens)
    return LevelScore(
        config.d_model,
        config.n_heads,
        length=config.n_tokens,
        levels=replace(levels, offset=_offset(config, layer, levels)),
        scaling=config.scaling,
        learn_scales=config.learn_scales,
        n_key_heads=config.n_kv_heads,
        rotary=config.rotary,
        generator=generator,
    )


def _offset(config: ModelConfig, layer: int, levels: Levels) -> int | tuple[int, ...]:
    if not isinstance(config.offset, str):
        return config.offset
    shift = shifted_offset(levels.block_sizes or ())
    if config.offset == "layers":
        return shift * (layer % 2)
    # Query heads that share keys share a grid, so that a cache can serve them.
    group = config.n_heads // (config.n_kv_heads or config.n_heads)
    return tuple(shift * (head // group % 2) for head in range(config.n_heads))


def _bilinear_score(config: ModelConfig, generator: torch.Generator | None) -> BilinearScore:
    name = _MATRICES[config.backbone]
    width = config.d_model
    head_width(width, config.n_heads)  # values are as wide as in ordinary attention
    ranks = config.ranks
    if name == "mlr" and ranks is None:
        # As many numbers as the two projections of an ordinary head.
        ranks = default_ranks(head_width(width, config.n_heads))
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
