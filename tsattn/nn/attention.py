"""Who looks at whom, and how much? An attention layer is a score and a pattern around one kernel."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tsattn.kernels import attention, default_block_sizes
from tsattn.nn.layers import linear


@dataclass(frozen=True)
class Pattern:
    """Who sees whom, whatever the score.

    Args:
        causal: A token sees itself and what came before.
        window: Number of keys seen, itself included; ``None`` is unlimited.
        n_global: Leading tokens that see, and are seen by, every token.
    """

    causal: bool = False
    window: int | None = None
    n_global: int = 0


class DotScore(nn.Module):
    """Ordinary score: queries and keys are linear maps of the tokens, their dot product is the score.

    Args:
        d_model: Token width.
        n_heads: Heads.
        d_head: Features a head; default ``d_model // n_heads``.
        generator: Source of the start values; ``None`` is torch's global one.

    Raises:
        ValueError: If no ``d_head`` is given and ``n_heads`` does not divide ``d_model``.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        d_head: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.d_head = head_width(d_model, n_heads) if d_head is None else d_head
        self.project = linear(d_model, 2 * n_heads * self.d_head, generator=generator)

    @property
    def kernel_arguments(self) -> dict[str, Any]:
        """What the kernel has to know besides the features."""
        return {}

    def features(self, x: Float[Tensor, "B L D"]) -> tuple[Float[Tensor, "B H L K"], Float[Tensor, "B H L K"]]:
        """Queries and keys."""
        both = self.project(x).view(*x.shape[:2], 2, self.n_heads, self.d_head)
        q, k = both.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k


class LevelScore(DotScore):
    """Distance-dependent MLR score: feature slice l counts only inside a common block of level l.

    Formula in docs/mathematics.md, section 3, after Kuang et al. 2025 (arXiv 2509.07963).

    Args:
        d_model: Token width.
        n_heads: Heads.
        length: Longest sequence; it fixes the default block sizes.
        ranks: Features per level, coarse to fine, summing to ``d_head``. Default: half, a quarter, the rest.
        block_sizes: Tokens per block at each level. Default: halving from the whole length.
        offset: Shift of the block grid in tokens, one number or one per head.
        level_scales: Factor per level; default ones.
        mean_levels: Divide each score by the number of levels that its pair shares.
        d_head: Features a head; default ``d_model // n_heads``.
        generator: Source of the start values; ``None`` is torch's global one.

    Raises:
        ValueError: If ranks do not sum to ``d_head`` or do not match ``block_sizes``.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        length: int,
        ranks: tuple[int, ...] | None = None,
        block_sizes: tuple[int, ...] | None = None,
        offset: int | tuple[int, ...] = 0,
        level_scales: tuple[float, ...] | None = None,
        mean_levels: bool = False,
        d_head: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(d_model, n_heads, d_head=d_head, generator=generator)
        self.ranks = default_ranks(self.d_head) if ranks is None else tuple(ranks)
        if sum(self.ranks) != self.d_head:
            raise ValueError(
                f"ranks must sum to d_head; got sum({self.ranks}) = {sum(self.ranks)} for d_head = {self.d_head};"
                " change ranks, d_model or n_heads"
            )
        levels = len(self.ranks)
        self.block_sizes = default_block_sizes(length, levels) if block_sizes is None else tuple(block_sizes)
        if len(self.block_sizes) != levels:
            raise ValueError(
                f"block_sizes needs one size a level; got {self.block_sizes} for ranks {self.ranks}; leave it out"
                " for halving blocks"
            )
        self.offset = offset
        self.level_scales = level_scales
        self.mean_levels = mean_levels

    @property
    def kernel_arguments(self) -> dict[str, Any]:
        """Ranks, blocks and scales for the kernel."""
        return {
            "ranks": self.ranks,
            "block_sizes": self.block_sizes,
            "offset": self.offset,
            "level_scales": self.level_scales,
            "mean_levels": self.mean_levels,
        }

    def extra_repr(self) -> str:
        return f"ranks={self.ranks}, block_sizes={self.block_sizes}, offset={self.offset}"


class Attention(nn.Module):
    """Multi-head self-attention: ``score`` gives features, ``pattern`` says who sees whom, the kernel does the rest.

    Args:
        d_model: Token width.
        score: Maps tokens to queries and keys, and says what the kernel must know about them.
        pattern: Who sees whom.
        generator: Source of the start values; ``None`` is torch's global one.
    """

    def __init__(
        self,
        d_model: int,
        *,
        score: DotScore,
        pattern: Pattern | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.score = score
        self.pattern = Pattern() if pattern is None else pattern
        width = score.n_heads * score.d_head
        self.value = linear(d_model, width, generator=generator)
        self.out = linear(width, d_model, generator=generator)

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """Attend within each sequence."""
        q, k = self.score.features(x)
        v = self.value(x).view(*x.shape[:2], self.score.n_heads, self.score.d_head).transpose(1, 2)
        seen = attention(
            q,
            k,
            v,
            causal=self.pattern.causal,
            window=self.pattern.window,
            n_global=self.pattern.n_global,
            **self.score.kernel_arguments,
        )
        return self.out(seen.transpose(1, 2).flatten(2))


def head_width(d_model: int, n_heads: int) -> int:
    """Features a head gets when the heads share the token width.

    Raises:
        ValueError: If ``n_heads`` does not divide ``d_model``.
    """
    if n_heads < 1 or d_model % n_heads:
        raise ValueError(
            f"n_heads must divide d_model; got n_heads = {n_heads} for d_model = {d_model}; change one of them"
        )
    return d_model // n_heads


def default_ranks(d_head: int) -> tuple[int, ...]:
    """Half of the head's features for the whole sequence, a quarter for its halves, the rest for its quarters.

    Heads of fewer than four features get as many levels as leave none empty.
    """
    coarse, middle = max(d_head // 2, 1), d_head // 4
    ranks = (coarse, middle, d_head - coarse - middle)
    return tuple(rank for rank in ranks if rank > 0)
