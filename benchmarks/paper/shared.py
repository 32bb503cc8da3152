"""Shared parts of the paper's experiments: a causal transformer by the name of its score, its cost
and its training.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from paper.rates import maximal_update_groups
from torch import Tensor, nn

from tsattn.kernels import Levels, Pattern
from tsattn.matrices import make_matrix
from tsattn.nn.attention import Attention, GlobalLocalAttention
from tsattn.nn.blocks import FeedForward, TransformerBlock, TransformerStack
from tsattn.nn.layers import linear
from tsattn.nn.scores import BilinearScore, DotScore, LevelScore, Score, default_ranks

# The width for which learning rates are given, and at which scores have the factor of ordinary
# attention.
BASE_WIDTH = 64
# Deviation of the start values of letters and positions. With 0.02 or 1 all variants take longer to
# learn more than a text's letter pairs.
EMBEDDING_STD = 0.2
# Scores without a structured matrix; any other name is that of the matrix of a bilinear score.
_PLAIN = (
    "standard",
    "standard_rotary",
    "sliding_window",
    "global_local",
    "global_local_one",
    "mlr",
)


@dataclass(frozen=True)
class Network:
    """A causal transformer without its first and last maps.

    ``score`` is ``"standard"``, ``"standard_rotary"`` (features turned by position),
    ``"sliding_window"``, ``"global_local"`` (a sum of two softmaxes), ``"global_local_one"`` (one
    softmax), ``"mlr"`` (over positions), or the name of a structured matrix for a bilinear score,
    such as ``"btt"``.
    """

    score: str
    width: int
    n_heads: int
    n_layers: int
    length: int  # most tokens of a sequence
    # Of "mlr", summing to width // n_heads, or of a bilinear MLR matrix.
    ranks: tuple[int, ...] | None = None
    # Keys of "sliding_window" and of local halves; default half of the length.
    window: int | None = None
    rotary: bool = False  # turn the features of each level of "mlr"; needs even ranks
    shifted: bool = False  # shift the block grid of "mlr" in every second layer
    # Divide scores by the number of features, not by its root, and let rates follow the width.
    maximal_update: bool = True
    # Features that a head of "standard" compares; default width // n_heads.
    head_features: int | None = None
    # Deviation of the start values of learned positions, best near that of the embedded tokens.
    position_std: float = EMBEDDING_STD
    # Features of a head at which scores have the usual factor; default those of as many heads at
    # BASE_WIDTH.
    base_features: int | None = None

    def scale(self, n_features: int, base_features: int) -> float:
        """Factor of the scores of ``n_features`` features; it is the usual ``n ** -0.5`` for
        ``base_features``.
        """
        if self.maximal_update:
            return math.sqrt(base_features) / n_features
        return n_features**-0.5


class CausalTransformer(nn.Module):
    """A map to the width, learned positions, pre-norm blocks, and a last map that starts at 0.

    ``read_in`` maps the input to ``[B L D]``; the output has ``n_out`` numbers for each token.
    """

    def __init__(
        self, network: Network, read_in: nn.Module, n_out: int, *, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.network = network
        self.read_in = read_in
        width = network.width
        self.positions = nn.Parameter(
            network.position_std * torch.randn(network.length, width, generator=generator)
        )
        blocks = []
        for layer in range(network.n_layers):
            attention = make_attention(network, layer, generator=generator)
            feed_forward = FeedForward(width, 4 * width, generator=generator)
            blocks.append(TransformerBlock(attention, feed_forward, d_model=width))
        self.stack = TransformerStack(blocks, d_model=width)
        self.read_out = linear(width, n_out, generator=generator)
        nn.init.zeros_(self.read_out.weight)
        nn.init.zeros_(self.read_out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[B L n_out]``; each token reads itself and those before it."""
        tokens = self.read_in(x)
        return self.read_out(self.stack(tokens + self.positions[: tokens.shape[1]]))


def make_attention(network: Network, layer: int, *, generator: torch.Generator) -> Attention:
    """The attention of one block.

    Raises:
        ValueError: If the score is unknown.
    """
    width = network.width
    n_heads = network.n_heads
    name = network.score
    window = network.window or -(-network.length // 2)
    if name == "global_local":
        return GlobalLocalAttention(
            width, n_heads, window=window, causal=True, norm=True, generator=generator
        )
    if name == "global_local_one":
        scale = _head_scale(network)
        return OneSoftmaxAttention(width, n_heads, window=window, scale=scale, generator=generator)
    score = _make_score(network, layer, generator)
    pattern = Pattern(causal=True, window=window if name == "sliding_window" else None)
    return Attention(width, score=score, pattern=pattern, generator=generator)


def _make_score(network: Network, layer: int, generator: torch.Generator) -> Score:
    width = network.width
    n_heads = network.n_heads
    name = network.score
    if name == "mlr":
        return LevelScore(
            width,
            n_heads,
            length=network.length,
            levels=_make_levels(network, layer),
            rotary=network.rotary,
            scaling="paper",
            generator=generator,
        )
    if name in _PLAIN:
        return DotScore(
            width,
            n_heads,
            d_head=network.head_features,
            norm=True,
            rotary=name == "standard_rotary",
            scale=_head_scale(network),
            generator=generator,
        )
    kind = name
    ranks = None
    if name == "mlr_matrix":
        kind = "mlr"
        ranks = network.ranks
    matrix = make_matrix(kind, width, width, ranks=ranks, heads=n_heads, generator=generator)
    n_features = matrix.n_features if matrix.splits else width
    return BilinearScore(matrix, norm=True, scale=network.scale(n_features, BASE_WIDTH))


def _make_levels(network: Network, layer: int) -> Levels:
    """The levels of "mlr" in one layer."""
    d_head = network.width // network.n_heads
    levels = Levels(network.ranks or default_ranks(d_head)).fit(d_head, network.length)
    if network.shifted and layer % 2 and len(levels.ranks) > 1:
        levels = replace(levels, offset=levels.block_sizes[1] // 3)
    return levels


def _head_scale(network: Network) -> float:
    n_features = network.head_features or network.width // network.n_heads
    base_features = network.base_features or BASE_WIDTH // network.n_heads
    return network.scale(n_features, base_features)


class OneSoftmaxAttention(GlobalLocalAttention):
    """One softmax over scores of the first half of the features for every past key, plus scores of
    the other half for keys in a window.

    Unlike the sum of two softmaxes, rows of the weights sum to one. ``scale`` is the factor of the
    scores, all of which are computed.
    """

    def __init__(self, d_model: int, n_heads: int, *, scale: float, **options: Any) -> None:
        super().__init__(d_model, n_heads, causal=True, norm=True, **options)
        self.scale = scale

    def make_cache(self, *args: Any, **options: Any) -> Any:
        """Refuse: the cache of two softmaxes would answer wrongly here."""
        raise NotImplementedError(
            "attention of one softmax over both halves has no cache; pass over whole sequences"
        )

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None) -> Tensor:
        return self._weigh(q, k, key_mask) @ v

    def _weigh(self, q: Tensor, k: Tensor, key_mask: Tensor | None) -> Tensor:
        if key_mask is not None:
            raise ValueError(
                "one softmax over global and local scores takes no key_mask; give whole sequences"
            )
        q_far, q_near = self._halves(q)
        k_far, k_near = self._halves(k)
        sizes = {"n_queries": q.shape[2], "n_keys": k.shape[2], "device": q.device}
        is_near = self.local.mask(**sizes)
        is_visible = self.pattern.mask(**sizes)
        far_scores = q_far @ k_far.mT
        near_scores = (q_near @ k_near.mT).masked_fill(~is_near, 0.0)
        scores = self.scale * (far_scores + near_scores)
        return torch.softmax(scores.masked_fill(~is_visible, -math.inf), dim=3)


def multiply_adds(model: CausalTransformer) -> int:
    """Multiply-adds of one pass over one sequence of full length, without the first and last maps.

    Scores and values are counted for the visible pairs only, each level's scores for pairs inside
    its blocks.
    """
    token_work = 0
    for module in model.stack.modules():
        if isinstance(module, nn.Linear):
            token_work += module.in_features * module.out_features
        elif isinstance(module, BilinearScore):
            token_work += module.matrix.flops
    pair_work = sum(_pair_work(block.attention, model.network) for block in model.stack.blocks)
    return token_work * model.network.length + pair_work


def _pair_work(attention: Any, network: Network) -> int:
    """Multiply-adds of the scores and the weighted values of one block."""
    score = attention.score
    n_values = attention.d_value
    length = network.length
    n_past_pairs = _n_pairs(length)
    if isinstance(attention, GlobalLocalAttention):
        near_work = score.d_key - attention.d_global
        # Two softmaxes average the values twice.
        if not isinstance(attention, OneSoftmaxAttention):
            near_work += n_values
        far_work = attention.d_global + n_values
        n_near_pairs = _n_pairs(length, window=attention.local.window)
        return network.n_heads * (n_past_pairs * far_work + n_near_pairs * near_work)
    n_visible_pairs = _n_pairs(length, window=attention.pattern.window)
    score_work = n_visible_pairs * score.d_key
    if isinstance(score, LevelScore):
        levels = score.levels
        # The first level is one block, whatever the offset.
        score_work = levels.ranks[0] * n_past_pairs
        for rank, size in zip(levels.ranks[1:], levels.block_sizes[1:], strict=True):
            score_work += rank * _n_pairs(length, block=size, offset=levels.offset)
    return network.n_heads * (score_work + n_visible_pairs * n_values)


def _n_pairs(
    length: int, *, window: int | None = None, block: int | None = None, offset: int = 0
) -> int:
    """Number of pairs of a query and a key not after it, in a window and in the same block."""
    places = torch.arange(length)
    distances = places[:, None] - places
    is_visible = (distances >= 0) & (distances < (window or length))
    # Without a block size one block holds all tokens.
    block_numbers = (places + offset) // (block or 2 * length)
    is_same_block = block_numbers[:, None] == block_numbers
    return int((is_visible & is_same_block).sum())


def n_parameters(model: CausalTransformer) -> int:
    """Numbers that the blocks learn."""
    return sum(parameter.numel() for parameter in model.stack.parameters())


def train(
    model: CausalTransformer,
    losses: Iterable[Callable[[], Tensor]],
    *,
    learning_rate: float,
    n_warmup: int = 100,
    cooldown: tuple[int, int] | None = None,
) -> float:
    """Minimise one loss after another by AdamW as in the paper, with the rates of the network's
    rule.

    The rate at the base width rises over ``n_warmup`` steps to ``learning_rate``. It then stays, or
    falls in a straight line between the two steps of ``cooldown``.

    Returns:
        The seconds of the steps.
    """
    groups = [{"params": list(model.parameters()), "lr": learning_rate}]
    if model.network.maximal_update:
        groups = maximal_update_groups(
            model, learning_rate, base_width=BASE_WIDTH, inputs=(model.read_in,)
        )
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0, fused=True)

    def share(step: int) -> float:
        rising = min(1.0, (step + 1) / n_warmup)
        if cooldown is None:
            return rising
        begin, end = cooldown
        return min(rising, (end - step) / (end - begin))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    seconds = 0.0
    for loss in losses:
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        seconds += time.perf_counter() - started
    return seconds
