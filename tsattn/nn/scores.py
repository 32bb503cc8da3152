"""How much does one token matter to another? Scores turn tokens into queries and keys for the kernel."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tsattn.kernels import default_block_sizes
from tsattn.matrices import StructuredMatrix
from tsattn.nn.layers import linear
from tsattn.nn.rotary import RotaryEmbedding

SIDES = ("key", "query", "split")
SCALINGS = ("default", "paper")
# A matrix that does not split is multiplied entry by entry up to this width, where there are so many tokens a column:
# one large product is then faster than many small ones with fewer multiplications (measured on a CPU).
DENSE_WIDTH, DENSE_TOKENS = 128, 4


class Score(nn.Module, ABC):
    """Queries and keys whose dot products are the scores of a layer.

    Attributes:
        n_heads: Query heads H.
        n_key_heads: Key heads Hk; query head h meets key head ``h // (H / Hk)``.
        d_key: Features K of a query or key.
    """

    n_heads: int
    n_key_heads: int
    d_key: int

    @property
    def kernel_arguments(self) -> dict[str, Any]:
        """What the kernel has to know besides the features."""
        return {}

    def check_context(self) -> None:
        """Refuse keys of another sequence where the score has no meaning for them.

        Raises:
            ValueError: Saying why.
        """
        return

    @abstractmethod
    def features(
        self, x: Float[Tensor, "B Lq D"], context: Float[Tensor, "B Lk D"] | None = None, *, start: int = 0
    ) -> tuple[Float[Tensor, "B H Lq K"], Float[Tensor, "B Hk Lk K"]]:
        """Queries of ``x`` and keys of ``context``, which is ``x`` itself if nothing is given.

        Args:
            context: Tokens to look at.
            start: Position of the first token, for scores that know positions.
        """


class DotScore(Score):
    """Ordinary score: queries and keys are linear maps of the tokens, their dot product is the score.

    Args:
        d_model: Token width.
        n_heads: Heads.
        d_head: Features a head; default ``d_model // n_heads``.
        n_key_heads: Heads of the keys, a divisor of ``n_heads`` (grouped queries); default ``n_heads``.
        norm: Normalise queries and keys over the features of each head (layer norm).
        rotary: Turn queries and keys by their positions.
        scale: Factor of the scores; default ``d_head ** -0.5``.
        generator: Source of the start values; ``None`` is torch's global one.

    Raises:
        ValueError: If no ``d_head`` is given and ``n_heads`` does not divide ``d_model``, or ``n_key_heads`` does
            not divide ``n_heads``.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        d_head: int | None = None,
        n_key_heads: int | None = None,
        norm: bool = False,
        rotary: bool = False,
        scale: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.n_key_heads = group_heads(n_heads, n_key_heads)
        self.d_key = head_width(d_model, n_heads) if d_head is None else d_head
        self.scale = scale
        # One map for both: queries first, then keys.
        self.project = linear(d_model, (n_heads + self.n_key_heads) * self.d_key, generator=generator)
        self.norm_query = nn.LayerNorm(self.d_key) if norm else None
        self.norm_key = nn.LayerNorm(self.d_key) if norm else None
        self.rotary = RotaryEmbedding((self.d_key,)) if rotary else None

    @property
    def kernel_arguments(self) -> dict[str, Any]:
        """The scale, if one was given."""
        return {} if self.scale is None else {"scale": self.scale}

    def check_context(self) -> None:
        """Refuse rotary embedding across sequences.

        Raises:
            ValueError: If the score turns features by positions.
        """
        if self.rotary is not None:
            raise ValueError(
                "rotary embedding compares positions of one sequence, and queries and keys here come from two;"
                " build the score with rotary=False"
            )

    def features(
        self, x: Float[Tensor, "B Lq D"], context: Float[Tensor, "B Lk D"] | None = None, *, start: int = 0
    ) -> tuple[Float[Tensor, "B H Lq K"], Float[Tensor, "B Hk Lk K"]]:
        """Queries and keys."""
        width = self.n_heads * self.d_key
        if context is None:
            q, k = self.project(x).split([width, self.n_key_heads * self.d_key], dim=2)
        else:
            self.check_context()
            weight, bias = self.project.weight, self.project.bias
            q = nn.functional.linear(x, weight[:width], bias[:width])
            k = nn.functional.linear(context, weight[width:], bias[width:])
        q, k = self.by_head(q, k)
        if self.rotary is not None:
            q, k = self.rotary(q, start=start), self.rotary(k, start=start)
        return q, k

    def by_head(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Heads as an axis of their own, [B L HK] -> [B H L K], and normalised where that was asked for."""
        q = q.unflatten(2, (self.n_heads, self.d_key)).transpose(1, 2)
        k = k.unflatten(2, (self.n_key_heads, self.d_key)).transpose(1, 2)
        if self.norm_query is not None and self.norm_key is not None:
            q, k = self.norm_query(q), self.norm_key(k)
        return q, k


class LevelScore(DotScore):
    """Distance-dependent MLR score: feature slice l counts only inside a common block of level l.

    Formula in docs/mathematics.md, section 3, after Kuang et al. 2025 (arXiv 2509.07963).

    Args:
        d_model: Token width.
        n_heads: Heads.
        length: Longest sequence; it fixes the default block sizes.
        ranks: Features per level, coarse to fine, summing to ``d_head``. Default: half, a quarter, ..., the rest.
        block_sizes: Tokens per block at each level. Default: halving from the whole length.
        offset: Shift of the block grid in tokens, one number or one per head.
        scaling: ``"default"``: one factor ``d_head ** -0.5`` for all levels. ``"paper"``: queries and keys are
            normalised in each head, level l is divided by ``r_l``, and every score by the number of levels that its
            pair shares.
        learn_scales: A trained factor for each head and level besides, at first 1.
        d_head: Features a head; default ``d_model // n_heads``.
        n_key_heads: Heads of the keys; default ``n_heads``.
        rotary: Turn each level's slice by its tokens' positions; wants even ranks.
        generator: Source of the start values; ``None`` is torch's global one.

    Raises:
        ValueError: If ranks do not sum to ``d_head`` or do not match ``block_sizes``, or ``scaling`` is unknown.
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
        scaling: str = "default",
        learn_scales: bool = False,
        d_head: int | None = None,
        n_key_heads: int | None = None,
        rotary: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        if scaling not in SCALINGS:
            raise ValueError(f"scaling must be default or paper; got {scaling!r}")
        paper = scaling == "paper"
        super().__init__(
            d_model,
            n_heads,
            d_head=d_head,
            n_key_heads=n_key_heads,
            norm=paper,
            scale=1.0 if paper else None,
            generator=generator,
        )
        self.ranks = level_ranks(self.d_key, ranks, block_sizes)
        sizes = default_block_sizes(length, len(self.ranks)) if block_sizes is None else tuple(block_sizes)
        if len(sizes) != len(self.ranks):
            raise ValueError(
                f"block_sizes needs one size a level; got {sizes} for ranks {self.ranks}; leave it out for halving"
                " blocks"
            )
        self.block_sizes = sizes
        self.offset = offset
        self.level_scales = tuple(1 / rank for rank in self.ranks) if paper else None
        self.mean_levels = paper
        self.rotary = RotaryEmbedding(self.ranks) if rotary else None
        self.scales = nn.Parameter(torch.ones(n_heads, len(self.ranks))) if learn_scales else None

    @property
    def kernel_arguments(self) -> dict[str, Any]:
        """Ranks, blocks and scales for the kernel."""
        return {
            **super().kernel_arguments,
            "ranks": self.ranks,
            "block_sizes": self.block_sizes,
            "offset": self.offset,
            "level_scales": self.level_scales,
            "mean_levels": self.mean_levels,
        }

    def check_context(self) -> None:
        """Refuse keys of another sequence: two sequences have no blocks in common.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "level scores compare blocks of one sequence, and queries and keys here come from two; use DotScore or"
            " BilinearScore for cross-attention"
        )

    def features(
        self, x: Float[Tensor, "B Lq D"], context: Float[Tensor, "B Lk D"] | None = None, *, start: int = 0
    ) -> tuple[Float[Tensor, "B H Lq K"], Float[Tensor, "B Hk Lk K"]]:
        """Queries and keys; learned factors are part of the queries."""
        q, k = super().features(x, context, start=start)
        if self.scales is None:
            return q, k
        counts = torch.tensor(self.ranks, device=q.device)
        factors = self.scales.repeat_interleave(counts, dim=1, output_size=self.d_key)
        return q * factors[:, None, :], k

    def extra_repr(self) -> str:
        return f"ranks={self.ranks}, block_sizes={self.block_sizes}, offset={self.offset}"


class BilinearScore(Score):
    """Bilinear score ``x^T M_h y`` with one structured matrix a head (docs/mathematics.md, section 2).

    The scores are plain dot products of transformed tokens, so every kernel serves them. ``side`` says where the
    product is done, and with it what a cache holds of a token: ``"split"`` puts half of each low-rank level on
    either side (``sum r_l p_l`` numbers a head), ``"key"`` compares ``x`` with ``M y`` (D numbers a head) and
    ``"query"`` compares ``M^T x`` with ``y`` (D numbers for all heads together).

    Args:
        matrix: D x D, with a head axis.
        side: ``None`` is ``"split"`` where the matrix can be split and ``"key"`` elsewhere.
        norm: Normalise what was transformed over the features of each head (layer norm); the paper's block tensor
            trains do so on the side of the keys.
        scale: Factor of the scores; default ``D ** -0.5``, or ``K ** -0.5`` for normalised K features on both sides.

    Raises:
        ValueError: If the matrix is not square, has no head axis, or cannot be split.
    """

    def __init__(
        self,
        matrix: StructuredMatrix,
        *,
        side: str | None = None,
        norm: bool = False,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        if matrix.heads is None or matrix.n_in != matrix.n_out:
            raise ValueError(
                "a bilinear score needs one square matrix a head; got"
                f" {matrix.n_out} x {matrix.n_in} with heads = {matrix.heads}; build it with n_in = n_out and heads="
            )
        if side not in (None, *SIDES):
            raise ValueError(f"side must be key, query or split; got {side!r}")
        if side == "split" and not matrix.splits:
            raise ValueError(
                f"side='split' needs levels without shuffle; {type(matrix).__name__} has none; use 'key' or 'query'"
            )
        self.matrix = matrix
        self.side = side or ("split" if matrix.splits else "key")
        self.n_heads = matrix.heads
        self.n_key_heads = 1 if self.side == "query" else matrix.heads
        self.d_key = matrix.n_features if self.side == "split" else matrix.n_in
        self.norm_query = nn.LayerNorm(self.d_key) if norm and self.side != "key" else None
        self.norm_key = nn.LayerNorm(self.d_key) if norm and self.side != "query" else None
        both = self.norm_query is not None and self.norm_key is not None
        self.scale = (self.d_key if both else matrix.n_in) ** -0.5 if scale is None else scale

    @property
    def kernel_arguments(self) -> dict[str, Any]:
        """The scale."""
        return {"scale": self.scale}

    def features(
        self, x: Float[Tensor, "B Lq D"], context: Float[Tensor, "B Lk D"] | None = None, *, start: int = 0
    ) -> tuple[Float[Tensor, "B H Lq K"], Float[Tensor, "B Hk Lk K"]]:
        """Queries and keys."""
        x, y = x.unsqueeze(2), (x if context is None else context).unsqueeze(2)  # [B L 1 D]
        if self.side == "split":
            q, k = self.matrix.query_features(x), self.matrix.key_features(y)
        elif self.side == "key":
            q, k = x.expand(-1, -1, self.n_heads, -1), self._transform(y, self.matrix)
        else:
            q, k = self._transform(x, self.matrix.rmatmul), y
        # Before heads become an axis of their own, so that rows are normalised where they lie.
        if self.norm_query is not None:
            q = self.norm_query(q)
        if self.norm_key is not None:
            k = self.norm_key(k)
        return q.transpose(1, 2), k.transpose(1, 2)

    def _transform(self, x: Tensor, product: Callable[[Tensor], Tensor]) -> Tensor:
        """What a product with the matrix or its transpose makes of tokens: [B L 1 D] -> [B L H D]."""
        width = x.shape[3]
        if self.matrix.splits or width > DENSE_WIDTH or torch.compiler.is_compiling():
            return product(x)
        if x.shape[0] * x.shape[1] < DENSE_TOKENS * width:
            return product(x)
        unit = torch.eye(width, dtype=x.dtype, device=x.device)
        entries = product(unit.unsqueeze(1))  # [D H D], what becomes of each unit vector
        return (x.flatten(2) @ entries.flatten(1)).unflatten(2, entries.shape[1:])

    def extra_repr(self) -> str:
        return f"side={self.side!r}, scale={self.scale:.4g}"


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


def group_heads(n_heads: int, n_key_heads: int | None) -> int:
    """Heads of keys or values, as many as queries have unless fewer are asked for.

    Raises:
        ValueError: If ``n_key_heads`` does not divide ``n_heads``.
    """
    if n_key_heads is None:
        return n_heads
    if n_key_heads < 1 or n_heads % n_key_heads:
        raise ValueError(
            f"heads of keys and values must divide n_heads; got {n_key_heads} for n_heads = {n_heads}; take a divisor"
        )
    return n_key_heads


def default_ranks(d_head: int, n_levels: int = 3) -> tuple[int, ...]:
    """Half of the head's features for the coarsest level, a quarter for the next, ..., the rest for the finest.

    Heads of fewer than four features get as many levels as leave none empty.

    Example:
        >>> default_ranks(64), default_ranks(8, n_levels=2)
        ((32, 16, 16), (4, 4))
    """
    ranks = [max(d_head // 2, 1) if level == 0 else d_head // 2 ** (level + 1) for level in range(n_levels - 1)]
    return tuple(rank for rank in (*ranks, d_head - sum(ranks)) if rank > 0)


def level_ranks(d_head: int, ranks: tuple[int, ...] | None, sizes: tuple[int, ...] | None) -> tuple[int, ...]:
    """Features of a head by level: those given, or the default for as many levels as there are block sizes.

    Raises:
        ValueError: If they do not sum to ``d_head``.
    """
    if ranks is None:
        return default_ranks(d_head) if sizes is None else default_ranks(d_head, len(sizes))
    if sum(ranks) != d_head:
        raise ValueError(
            f"ranks must sum to d_head; got sum({tuple(ranks)}) = {sum(ranks)} for d_head = {d_head};"
            " change ranks, d_model or n_heads"
        )
    return tuple(ranks)
