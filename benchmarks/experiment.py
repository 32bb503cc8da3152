"""What do the paper's experiments share? A causal transformer by the name of its score, its cost, its training, and
records of runs that are never lost, half written or done twice."""

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor, nn

from tsattn.benchmark import provenance
from tsattn.kernels import attention_mask
from tsattn.matrices import make_matrix
from tsattn.nn.attention import Attention, GlobalLocalAttention, Pattern
from tsattn.nn.blocks import FeedForward, TransformerBlock, TransformerStack
from tsattn.nn.cache import CacheSizes, KVCache
from tsattn.nn.layers import linear
from tsattn.nn.rates import maximal_update_groups
from tsattn.nn.scores import BilinearScore, DotScore, LevelScore, Score

RESULTS = Path(__file__).resolve().parent / "results"
PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
# The width at which learning rates are meant; the factor of the scores is that of ordinary attention there.
BASE_WIDTH = 64
# Letters and positions start at this size. At 0.02 or at 1 all variants stay longer on the plateau of a text's letter
# pairs (docs/log.md).
EMBEDDING_STD = 0.2
# What a score is: a name of STRUCTURES stands for a bilinear score with that matrix.
_PLAIN = ("standard", "standard_rotary", "sliding_window", "global_local", "global_local_one", "mlr")


@dataclass(frozen=True)
class Network:
    """A causal transformer, without what reads and writes its tokens.

    Args:
        score: ``"standard"``, ``"standard_rotary"`` (features turned by the positions of their tokens),
            ``"sliding_window"``, ``"global_local"`` (a sum of two softmaxes),
            ``"global_local_one"`` (one softmax), ``"mlr"`` (over positions), or the name of a structured matrix for a
            bilinear score, such as ``"btt"``.
        width: Token width D.
        n_heads: Heads.
        n_layers: Blocks.
        length: Most tokens of a sequence.
        ranks: Of ``"mlr"`` over positions (they sum to ``width // n_heads``), or of a bilinear MLR matrix.
        window: Keys seen by ``"sliding_window"`` and the local half of ``"global_local"``.
        rotary: Turn the features of each level of ``"mlr"`` by the positions of their tokens; wants even ranks.
        shifted: Shift the block grid of ``"mlr"`` in every second layer.
        maximal_update: Scores are divided by their features, and rates follow the width; otherwise by the square
            root, and one rate serves all.
        head_features: Features that a head of ``"standard"`` compares; default ``width // n_heads``.
        position_std: Size at which learned positions start, best near that of what is read.
        base_features: Features of a head whose dot products are divided by the square root even so; default those of
            as many heads at the base width. Where heads of one width grow in number, it is that width.
    """

    score: str
    width: int
    n_heads: int
    n_layers: int
    length: int
    ranks: tuple[int, ...] | None = None
    window: int | None = None
    rotary: bool = False
    shifted: bool = False
    maximal_update: bool = True
    head_features: int | None = None
    position_std: float = EMBEDDING_STD
    base_features: int | None = None

    def scale(self, n_features: int, base: int) -> float:
        """Factor of the scores of ``n_features`` features, the usual ``n ** -0.5`` where there are ``base``."""
        return math.sqrt(base) / n_features if self.maximal_update else n_features**-0.5


class CausalTransformer(nn.Module):
    """Tokens in, tokens out: a map to the width, learned positions, pre-norm blocks, and a last map that starts at 0.

    Args:
        network: Sizes and score.
        read_in: Maps what is read to ``[B L D]``.
        n_out: Numbers written for each token.
        generator: Source of the start values.
    """

    def __init__(self, network: Network, read_in: nn.Module, n_out: int, *, generator: torch.Generator) -> None:
        super().__init__()
        self.network = network
        self.read_in = read_in
        self.positions = nn.Parameter(
            network.position_std * torch.randn(network.length, network.width, generator=generator)
        )
        width = network.width
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

    @torch.no_grad()
    def step(self, x: Tensor, caches: list[Any]) -> Tensor:
        """The same for the next tokens, given the caches of ``self.stack.make_caches``."""
        start, tokens = caches[0].length, self.read_in(x)
        return self.read_out(self.stack.step(tokens + self.positions[start : start + tokens.shape[1]], caches))


def make_attention(network: Network, layer: int, *, generator: torch.Generator) -> Attention:
    """The attention of one block.

    Raises:
        ValueError: If the score is unknown.
    """
    width, n_heads, name = network.width, network.n_heads, network.score
    if name == "global_local":
        return GlobalLocalAttention(
            width, n_heads, window=_window(network), causal=True, norm=True, generator=generator
        )
    if name == "global_local_one":
        scale = _head_scale(network)
        return OneSoftmaxAttention(width, n_heads, window=_window(network), scale=scale, generator=generator)
    pattern = Pattern(causal=True, window=_window(network) if name == "sliding_window" else None)
    return Attention(width, score=_make_score(network, layer, generator), pattern=pattern, generator=generator)


def _make_score(network: Network, layer: int, generator: torch.Generator) -> Score:
    width, n_heads, name = network.width, network.n_heads, network.score
    if name == "mlr":
        shape = {"length": network.length, "ranks": network.ranks, "rotary": network.rotary}
        score = LevelScore(width, n_heads, **shape, scaling="paper", generator=generator)
        if network.shifted and layer % 2 and len(score.block_sizes) > 1:
            score.offset = score.block_sizes[1] // 3
        return score
    if name in _PLAIN:
        shape = {"d_head": network.head_features, "norm": True, "rotary": name == "standard_rotary"}
        return DotScore(width, n_heads, **shape, scale=_head_scale(network), generator=generator)
    ranks = network.ranks if name == "mlr_matrix" else None
    matrix = make_matrix(
        "mlr" if name == "mlr_matrix" else name, width, width, ranks=ranks, heads=n_heads, generator=generator
    )
    n_features = matrix.n_features if matrix.splits else width
    return BilinearScore(matrix, norm=True, scale=network.scale(n_features, BASE_WIDTH))


def _head_scale(network: Network) -> float:
    n_heads = network.n_heads
    n_features = network.head_features or network.width // n_heads
    return network.scale(n_features, network.base_features or BASE_WIDTH // n_heads)


def _window(network: Network) -> int:
    return network.window or -(-network.length // 2)


# --- global and local scores under one softmax ------------------------------------------------------------------


class OneSoftmaxAttention(GlobalLocalAttention):
    """Scores of the first half of the features for every past key, and those of the other half added in a window.

    Unlike the sum of two softmaxes, rows of the weights sum to one. All scores are written out.

    Args:
        d_model: Token width.
        n_heads: Heads.
        window: Keys for which the local half counts, the token itself included.
        scale: Factor of the scores.
        generator: Source of the start values.
    """

    def __init__(
        self, d_model: int, n_heads: int, *, window: int, scale: float, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(d_model, n_heads, window=window, causal=True, norm=True, generator=generator)
        self.scale = scale

    def make_cache(
        self,
        n_sequences: int,
        max_length: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> KVCache:
        """All keys and all values: under one softmax every value is needed once."""
        sizes = CacheSizes(
            batch=n_sequences,
            n_key_heads=self.score.n_key_heads,
            n_value_heads=self.n_value_heads,
            key_width=self.score.d_key,
            value_width=self.d_value,
            max_length=max_length,
            dtype=dtype,
            device=device,
        )
        return _OneSoftmaxCache(sizes, self)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None) -> Tensor:
        return self._weigh(q, k, key_mask) @ v

    def _weigh(self, q: Tensor, k: Tensor, key_mask: Tensor | None) -> Tensor:
        if key_mask is not None:
            raise ValueError("one softmax over global and local scores takes no key_mask; give whole sequences")
        (q_far, q_near), (k_far, k_near) = self._halves(q), self._halves(k)
        sizes = {"n_queries": q.shape[2], "n_keys": k.shape[2], "device": q.device}
        near = attention_mask(**sizes, **self.local.kernel_arguments)
        seen = attention_mask(**sizes, **self.pattern.kernel_arguments)
        scores = q_far @ k_far.mT + (q_near @ k_near.mT).masked_fill(~near, 0.0)
        return torch.softmax((self.scale * scores).masked_fill(~seen, -math.inf), dim=3)


class _OneSoftmaxCache(KVCache):
    def __init__(self, sizes: CacheSizes, layer: OneSoftmaxAttention) -> None:
        super().__init__(sizes, scale=layer.scale)
        self._layer = layer

    def _attend(self, q: Tensor) -> Tensor:
        keys, values = self.keys[0][:, :, : self.length], self.values[:, :, : self.length]
        return self._layer._attend(q, keys, values, None)


# --- cost -------------------------------------------------------------------------------------------------------


def multiply_adds(model: CausalTransformer) -> int:
    """Multiply-adds of one pass over one sequence of full length, without what reads and writes tokens.

    Scores and values are counted for the pairs that the pattern shows, each level's scores inside its blocks.
    """
    network = model.network
    maps = 0
    for module in model.stack.modules():
        if isinstance(module, nn.Linear):
            maps += module.in_features * module.out_features
        elif isinstance(module, BilinearScore):
            maps += module.matrix.flops
    return maps * network.length + sum(_pair_work(block.attention, network) for block in model.stack.blocks)


def _pair_work(attention: Any, network: Network) -> int:
    length, n_heads, score = network.length, network.n_heads, attention.score
    whole = _pairs(length)
    if isinstance(attention, GlobalLocalAttention):
        near, far = _pairs(length, _window(network)), attention.d_global
        # Under one softmax the values are averaged once.
        again = 0 if isinstance(attention, OneSoftmaxAttention) else attention.d_value
        return n_heads * (whole * (far + attention.d_value) + near * (score.d_key - far + again))
    seen = _pairs(length, attention.pattern.window)
    if isinstance(score, LevelScore):
        levels = zip(score.ranks, score.block_sizes, strict=True)
        scores = sum(
            rank * _block_pairs(length, size, _shift(score, number)) for number, (rank, size) in enumerate(levels)
        )
        return n_heads * (scores + seen * attention.d_value)
    return n_heads * seen * (score.d_key + attention.d_value)


def _shift(score: LevelScore, level: int) -> int:
    # The first level is one block wherever the grid lies.
    return score.offset if level and isinstance(score.offset, int) else 0


def _pairs(length: int, window: int | None = None) -> int:
    """Pairs of a token and one that it sees, itself included."""
    window = length if window is None else min(window, length)
    return window * (window + 1) // 2 + (length - window) * window


def _block_pairs(length: int, size: int, offset: int) -> int:
    cuts = [0, *range(size - offset % size, length, size), length]
    return sum(_pairs(stop - start) for start, stop in pairwise(cuts))


def n_parameters(model: CausalTransformer) -> int:
    """Numbers that the blocks learn."""
    return sum(parameter.numel() for parameter in model.stack.parameters())


# --- training ---------------------------------------------------------------------------------------------------


def make_optimizer(model: CausalTransformer, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW as in the paper (0.9, 0.95, no decay), with a rate for each parameter by the rule of the network."""
    groups = [{"params": list(model.parameters()), "lr": learning_rate}]
    if model.network.maximal_update:
        groups = maximal_update_groups(model, learning_rate, base_width=BASE_WIDTH, inputs=(model.read_in,))
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0, fused=True)


def train(
    model: CausalTransformer,
    losses: Iterable[Callable[[], Tensor]],
    *,
    learning_rate: float,
    n_warmup: int = 100,
    cooldown: tuple[int, int] | None = None,
    after: Callable[[int], None] | None = None,
) -> float:
    """Minimise one loss after another at a rate that rises over the first steps and then stays, or falls at last.

    Args:
        model: What learns.
        losses: One function a step.
        learning_rate: Highest rate, at the base width.
        n_warmup: Steps over which the rate rises.
        cooldown: First step from which the rate falls in a straight line, and the step at which it would be zero.
        after: Called after each step with the number of steps done; its time does not count.

    Returns:
        Seconds of the steps themselves.
    """
    optimizer = make_optimizer(model, learning_rate)

    def share(step: int) -> float:
        rising = min(1.0, (step + 1) / n_warmup)
        if cooldown is None:
            return rising
        begin, end = cooldown
        return min(rising, (end - step) / (end - begin))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    seconds = 0.0
    for step, loss in enumerate(losses, start=1):
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        seconds += time.perf_counter() - started
        if after is not None:
            after(step)
    return seconds


# --- records ----------------------------------------------------------------------------------------------------


class Records:
    """Rows of a file of JSON lines, each told from the others by some of its fields.

    Several processes may fill one file. A row is added by writing the whole file beside it and renaming.

    Args:
        path: The file.
        key: Fields that tell one run from another.
    """

    def __init__(self, path: Path, key: tuple[str, ...]) -> None:
        self.path, self.key = path, key

    def rows(self) -> list[dict[str, Any]]:
        """What is recorded, in the order in which it came."""
        if not self.path.exists():
            return []
        return [json.loads(text) for text in self.path.read_text(encoding="utf-8").splitlines()]

    def missing(self, cells: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Those runs that nobody has recorded yet, asked anew before each."""
        for cell in cells:
            wanted = self._key(cell)
            if not any(self._key(row) == wanted for row in self.rows()):
                yield dict(cell)

    def add(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Record a run, with where it comes from, unless another process has recorded it meanwhile; what is recorded.

        Raises:
            ValueError: If a field of the key is absent.
        """
        if absent := set(self.key) - set(row):
            raise ValueError(f"a row of {self.path.name} needs {', '.join(sorted(absent))}; got {sorted(row)}")
        whole = {**row, **provenance(None)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_name(f".{self.path.name}.lock")):
            if known := [other for other in self.rows() if self._key(other) == self._key(whole)]:
                return known[0]
            text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
            beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            beside.write_text(text + json.dumps(whole) + "\n", encoding="utf-8")
            os.replace(beside, self.path)
        return whole

    def _key(self, row: Mapping[str, Any]) -> str:
        return json.dumps([row.get(name) for name in self.key], sort_keys=True)
