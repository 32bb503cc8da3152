"""What the paper's experiments share: a causal transformer by the name of its score, its cost and
its training.
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

# The width at which learning rates are meant; the factor of the scores is that of ordinary
# attention there.
BASE_WIDTH = 64
# Letters and positions start at this size. At 0.02 or at 1 all variants stay longer on the plateau
# of a text's letter pairs.
EMBEDDING_STD = 0.2
# What a score is: a name of STRUCTURES stands for a bilinear score with that matrix.
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
    """A causal transformer, without what reads and writes its tokens.

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
    ranks: tuple[int, ...] | None = (
        None  # of "mlr", summing to width // n_heads, or of a bilinear MLR matrix
    )
    window: int | None = (
        None  # keys seen by "sliding_window" and by local halves; default half of the length
    )
    rotary: bool = False  # turn the features of each level of "mlr"; wants even ranks
    shifted: bool = False  # shift the block grid of "mlr" in every second layer
    maximal_update: bool = (
        True  # divide scores by their features, not the root, and let rates follow the width
    )
    head_features: int | None = None  # that a head of "standard" compares; default width // n_heads
    position_std: float = (
        EMBEDDING_STD  # at which learned positions start, best near that of what is read
    )
    # Features of a head whose products are divided by the root even so; default those of as many
    # heads at BASE_WIDTH.
    base_features: int | None = None

    def scale(self, n_features: int, base: int) -> float:
        """Factor of the scores of ``n_features`` features, the usual ``n ** -0.5`` where there are
        ``base``.
        """
        return math.sqrt(base) / n_features if self.maximal_update else n_features**-0.5


class CausalTransformer(nn.Module):
    """Tokens in, tokens out: a map to the width, learned positions, pre-norm blocks, and a last map
    that starts at 0.

    ``read_in`` maps what is read to ``[B L D]``; ``n_out`` numbers are written for each token.
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
        """What is written at each token, which has seen itself and those before."""
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
    pattern = Pattern(causal=True, window=window if name == "sliding_window" else None)
    return Attention(
        width, score=_make_score(network, layer, generator), pattern=pattern, generator=generator
    )


def _make_score(network: Network, layer: int, generator: torch.Generator) -> Score:
    width = network.width
    n_heads = network.n_heads
    name = network.score
    if name == "mlr":
        d_head = width // n_heads
        levels = Levels(network.ranks or default_ranks(d_head)).fit(d_head, network.length)
        if network.shifted and layer % 2 and len(levels.ranks) > 1:
            levels = replace(levels, offset=levels.block_sizes[1] // 3)
        shape = {"length": network.length, "levels": levels, "rotary": network.rotary}
        return LevelScore(width, n_heads, **shape, scaling="paper", generator=generator)
    if name in _PLAIN:
        shape = {"d_head": network.head_features, "norm": True, "rotary": name == "standard_rotary"}
        return DotScore(width, n_heads, **shape, scale=_head_scale(network), generator=generator)
    kind, ranks = ("mlr", network.ranks) if name == "mlr_matrix" else (name, None)
    matrix = make_matrix(kind, width, width, ranks=ranks, heads=n_heads, generator=generator)
    n_features = matrix.n_features if matrix.splits else width
    return BilinearScore(matrix, norm=True, scale=network.scale(n_features, BASE_WIDTH))


def _head_scale(network: Network) -> float:
    n_features = network.head_features or network.width // network.n_heads
    return network.scale(n_features, network.base_features or BASE_WIDTH // network.n_heads)


class OneSoftmaxAttention(GlobalLocalAttention):
    """Scores of the first half of the features for every past key, and those of the other half
    added in a window.

    Unlike the sum of two softmaxes, rows of the weights sum to one. ``scale`` is the factor of the
    scores, all of which are written out.
    """

    def __init__(self, d_model: int, n_heads: int, *, scale: float, **given: Any) -> None:
        super().__init__(d_model, n_heads, causal=True, norm=True, **given)
        self.scale = scale

    def make_cache(self, *args: Any, **given: Any) -> Any:
        """Refuses: the cache of two softmaxes would answer wrongly here."""
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
        (q_far, q_near), (k_far, k_near) = self._halves(q), self._halves(k)
        sizes = {"n_queries": q.shape[2], "n_keys": k.shape[2], "device": q.device}
        near = self.local.mask(**sizes)
        seen = self.pattern.mask(**sizes)
        scores = q_far @ k_far.mT + (q_near @ k_near.mT).masked_fill(~near, 0.0)
        return torch.softmax((self.scale * scores).masked_fill(~seen, -math.inf), dim=3)


def multiply_adds(model: CausalTransformer) -> int:
    """Multiply-adds of one pass over one sequence of full length, without what reads and writes
    tokens.

    Scores and values are counted for the pairs that the pattern shows, each level's scores inside
    its blocks.
    """
    maps = 0
    for module in model.stack.modules():
        if isinstance(module, nn.Linear):
            maps += module.in_features * module.out_features
        elif isinstance(module, BilinearScore):
            maps += module.matrix.flops
    return maps * model.network.length + sum(
        _pair_work(block.attention, model.network) for block in model.stack.blocks
    )


def _pair_work(attention: Any, network: Network) -> int:
    at = torch.arange(network.length)
    score = attention.score
    n_values = attention.d_value
    apart = at[:, None] - at

    def pairs(window: int | None = None, block: int | None = None, offset: int = 0) -> int:
        seen = (apart >= 0) & (apart < (window or network.length))
        own = (at + offset) // (block or 2 * network.length)
        return int((seen & (own[:, None] == own)).sum())

    if isinstance(attention, GlobalLocalAttention):
        # Under one softmax the values are averaged once.
        again = 0 if isinstance(attention, OneSoftmaxAttention) else n_values
        near = pairs(attention.local.window) * (score.d_key - attention.d_global + again)
        return network.n_heads * (pairs() * (attention.d_global + n_values) + near)
    seen = pairs(attention.pattern.window)
    work = seen * score.d_key
    if isinstance(score, LevelScore):
        # The first level is one block wherever the grid lies.
        (coarse, *ranks), offset = score.levels.ranks, score.levels.offset
        finer = zip(ranks, score.levels.block_sizes[1:], strict=True)
        work = coarse * pairs() + sum(
            rank * pairs(block=size, offset=offset) for rank, size in finer
        )
    return network.n_heads * (work + seen * n_values)


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
    """Minimise one loss after another by AdamW as in the paper, each parameter at its rate by the
    rule of the network.

    The rate at the base width rises over ``n_warmup`` steps to ``learning_rate``; it stays, or
    falls in a straight line between the two steps of ``cooldown``. Returns the seconds of the
    steps.
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
