"""Scores, which make queries and keys from tokens, and the rotary embedding of both."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tsattn.checks import check_choice, check_switch, check_whole, is_number
from tsattn.kernels import Levels
from tsattn.kernels.geometry import check_levels, check_scale
from tsattn.nn.layers import RandomSource, States, affine, linear

# Tokens, tokens of another sequence, and features of the tokens by head.
Tokens = Float[Tensor, "B Lq D"]
ContextTokens = Float[Tensor, "B Lk D"]
HeadTokens = Float[Tensor, "B H L K"]
# Groups and positions of tokens, for all sequences or one row each; cosines and sines of positions.
TokenGroups = Int[Tensor, "... L"]
Positions = Float[Tensor, "... L"]
Angles = tuple[Float[Tensor, "... L K"], Float[Tensor, "... L K"]]
QueriesAndKeys = tuple[Float[Tensor, "B H Lq K"], Float[Tensor, "B Hk Lk K"]]

SIDES = ("key", "query", "split")
SCALINGS = ("default", "paper")
# A structured matrix that does not split is multiplied as a dense one if it is narrow and there are
# many tokens: one large product is then faster than many small ones with fewer multiplications
# (measured on a CPU).
# Most columns of such a matrix.
DENSE_WIDTH = 128
# Least tokens for each column.
DENSE_TOKENS = 4


class RotaryEmbedding(nn.Module):
    """Turns pairs of features by angles that grow with the position, so that dot products depend on
    distances.

    After Su et al. 2021 (RoFormer): feature i of the first half of a slice and feature i of its
    second half are one pair, turned by ``position * base^(-2 i / r)``. Each level's slice of r
    features is turned separately. Pairs over the whole head would mix features of different levels,
    so that features of a far key would depend on hidden ones.

    Args:
        ranks: Features per slice, each even.
        base: Longest wave length over 2 pi, in tokens.

    Raises:
        ValueError: If a rank is odd or below 1, there is none, or ``base`` is not positive.
        TypeError: If the ranks are no integers.
    """

    rates: Tensor

    def __init__(self, ranks: tuple[int, ...], *, base: float = 10_000.0) -> None:
        super().__init__()
        self.ranks = Levels(ranks).ranks
        odd_ranks = [rank for rank in self.ranks if rank % 2]
        if odd_ranks:
            raise ValueError(
                "rotary embedding turns pairs of features, so every rank must be even; got"
                f" {odd_ranks[0]} in {self.ranks}; change the ranks or the width of a head"
            )
        if not is_number(base) or not 0 < base < math.inf:
            raise ValueError(
                f"base of a rotary embedding must be a positive number; got {base!r}; leave it out"
                " for 10000"
            )
        self._halves = [rank // 2 for rank in self.ranks]
        rates = []
        for half in self._halves:
            exponents = torch.arange(half, dtype=torch.float64, device="cpu") / half
            rates.append(base**-exponents)
        self.register_buffer("rates", torch.cat(rates), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "RotaryEmbedding":
        """Move with the network, but leave the rates in float64: far positions need the digits."""
        rates = self.rates
        super()._apply(fn, recurse)
        self.rates = rates.to(self.rates.device)
        return self

    def forward(self, x: HeadTokens, *, start: int = 0) -> HeadTokens:
        """Turn the features of tokens at positions ``start``, ``start + 1``, ..."""
        stop = start + x.shape[2]
        positions = torch.arange(start, stop, dtype=torch.float64, device=x.device)
        slice_positions = [positions] * len(self.ranks)  # the same for all slices
        angles = self.angles(slice_positions, dtype=x.dtype)
        return self.turn(x, angles)

    def angles(
        self, positions: Sequence[Positions], *, dtype: torch.dtype = torch.float32
    ) -> Angles:
        """Cosines and signed sines for :meth:`turn`, so that layers with the same positions share
        them.

        Args:
            positions: Positions of the tokens, one tensor a slice: the time for most slices, the
                cycle for a slice that compares the same phase of different cycles. [L] for all
                sequences, or [B L].
            dtype: Type of the result.
        """
        # Angles of far positions need more digits than float32 has.
        all_rates = self.rates.to(torch.float64)
        slice_rates = all_rates.split(self._halves)
        columns = [position.to(torch.float64)[..., None] for position in positions]  # [... L 1]
        slice_positions = torch.broadcast_tensors(*columns)
        cosines = []
        sines = []
        for position, rates in zip(slice_positions, slice_rates, strict=True):
            angles = position * rates  # [... L half]
            cosine = angles.cos().to(dtype)
            sine = angles.sin().to(dtype)
            cosines += [cosine, cosine]
            sines += [-sine, sine]
        return torch.cat(cosines, dim=-1), torch.cat(sines, dim=-1)

    def turn(
        self,
        x: HeadTokens,
        angles: Angles,
    ) -> HeadTokens:
        """Turn the features by angles of :meth:`angles`."""
        cosines, sines = angles
        if cosines.ndim == 3:
            cosines = cosines[:, None]  # [B 1 L K]
            sines = sines[:, None]
        # Exchange the two halves of each slice. Views are joined because the backward pass of
        # indexing is slow.
        widths = []
        for half in self._halves:
            widths += [half, half]
        halves = x.split(widths, dim=3)
        exchanged = []
        for first in range(0, len(halves), 2):
            exchanged += [halves[first + 1], halves[first]]
        partners = torch.cat(exchanged, dim=3)
        return torch.addcmul(x * cosines, partners, sines)


class Score(nn.Module, ABC):
    """Queries and keys whose dot products are the scores of a layer.

    Attributes:
        n_heads: Query heads H.
        n_key_heads: Key heads Hk; query head h uses key head ``h // (H / Hk)``.
        d_key: Features K of a query or key.
        levels: How the features are split into levels; ``None`` is one level.
        scale: Factor of the scores; ``None`` is ``d_key ** -0.5``.
    """

    n_heads: int
    n_key_heads: int
    d_key: int
    levels: Levels | None = None
    scale: float | None = None

    def check_context(self) -> None:
        """Refuse keys of another sequence where the score has no meaning for them.

        Raises:
            ValueError: With the reason.
        """

    @abstractmethod
    def features(
        self,
        x: Tokens,
        context: ContextTokens | None = None,
        *,
        start: int = 0,
    ) -> QueriesAndKeys:
        """Queries of ``x`` and keys of ``context``, by default of ``x`` itself.

        Args:
            context: Tokens of another sequence.
            start: Position of the first token, for scores that depend on positions.
        """


class DotScore(Score):
    """Ordinary score: the dot product of queries and keys that are linear maps of the tokens.

    Args:
        d_model: Token width.
        n_heads: Heads.
        d_head: Features a head; default ``d_model // n_heads``.
        n_key_heads: Heads of the keys, a divisor of ``n_heads`` (grouped queries); default
            ``n_heads``.
        norm: Normalise queries and keys over the features of each head (layer norm).
        rotary: Turn queries and keys by their positions.
        scale: Factor of the scores; default ``d_head ** -0.5``.
        generator: Source of the start values; ``None`` is torch's global one.

    Raises:
        ValueError: If ``n_heads`` does not divide ``d_model`` and ``d_head`` is ``None``, or
            ``n_key_heads`` does not divide ``n_heads``.
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
        generator: RandomSource = None,
    ) -> None:
        super().__init__()
        check_switch("norm", norm)
        check_switch("rotary", rotary)
        self.n_heads = check_whole("n_heads", n_heads)
        self.n_key_heads = group_heads(n_heads, n_key_heads)
        if d_head is None:
            self.d_key = head_width(d_model, n_heads)
        else:
            self.d_key = check_whole("d_head", d_head)
        self.scale = None if scale is None else check_scale(scale)
        # One map for both: queries first, then keys.
        n_outputs = (n_heads + self.n_key_heads) * self.d_key
        self.project = linear(d_model, n_outputs, generator=generator)
        self.norm_query = nn.LayerNorm(self.d_key, device="cpu") if norm else None
        self.norm_key = nn.LayerNorm(self.d_key, device="cpu") if norm else None
        self.rotary = RotaryEmbedding((self.d_key,)) if rotary else None

    def check_context(self) -> None:
        """Refuse rotary embedding across sequences.

        Raises:
            ValueError: If the score turns features by positions.
        """
        if self.rotary is not None:
            raise ValueError(
                "rotary embedding compares positions of one sequence, and queries and keys here"
                " come from two; build the score with rotary=False"
            )

    def features(
        self,
        x: Tokens,
        context: ContextTokens | None = None,
        *,
        start: int = 0,
    ) -> QueriesAndKeys:
        """Queries and keys."""
        if context is not None:
            self.check_context()
        q, k = self._by_head(x, context)
        if self.rotary is not None:
            q = self.rotary(q, start=start)
            k = self.rotary(k, start=start)
        return q, k

    def _by_head(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Queries of ``x`` and keys of ``context``, by default of ``x``, [B H L K], normalised if
        the score has norms.
        """
        query_width = self.n_heads * self.d_key
        if context is None:
            key_width = self.n_key_heads * self.d_key
            q, k = self.project(x).split([query_width, key_width], dim=2)
        else:
            weight = self.project.weight
            bias = self.project.bias
            q = affine(x, weight[:query_width], bias[:query_width])
            k = affine(context, weight[query_width:], bias[query_width:])
        q = q.unflatten(2, (self.n_heads, self.d_key)).transpose(1, 2)
        k = k.unflatten(2, (self.n_key_heads, self.d_key)).transpose(1, 2)
        if self.norm_query is not None and self.norm_key is not None:
            q = self.norm_query(q)
            k = self.norm_key(k)
        return q, k


class LevelScore(DotScore):
    """Distance-dependent MLR score: feature slice l counts only inside a common block of level l.

    Formula in docs/mathematics.md, section 3, after Kuang et al. 2025 (arXiv 2509.07963).

    Args:
        d_model: Token width.
        n_heads: Heads.
        length: Longest sequence; it fixes the default block sizes.
        levels: Ranks, which sum to ``d_head``, blocks and offset. Default: :func:`default_ranks`,
            halving blocks.
        scaling: ``"default"``: one factor ``d_head ** -0.5`` for all levels. ``"paper"``: queries
            and keys are normalised in each head, level l is divided by ``r_l``, and every score by
            the number of levels that its pair shares.
        learn_scales: Train an additional factor for each head and level, at first 1.
        d_head: Features a head; default ``d_model // n_heads``.
        n_key_heads: Heads of the keys; default ``n_heads``.
        rotary: Turn each level's slice by the positions of its tokens; needs even ranks.
        generator: Source of the start values; ``None`` is torch's global one.

    Raises:
        ValueError: If ranks do not sum to ``d_head``, the first block does not cover the length, or
            ``scaling`` is unknown or beside scales of the levels.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        length: int,
        levels: Levels | None = None,
        scaling: str = "default",
        learn_scales: bool = False,
        d_head: int | None = None,
        n_key_heads: int | None = None,
        rotary: bool = False,
        generator: RandomSource = None,
    ) -> None:
        check_choice("scaling", scaling, SCALINGS)
        check_switch("learn_scales", learn_scales)
        check_switch("rotary", rotary)
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
        if levels is None:
            levels = Levels(default_ranks(self.d_key))
        check_levels(levels)
        # Kuang et al. divide level l by its rank and average over the levels that a pair shares.
        if paper:
            if levels.scales is not None:
                raise ValueError(
                    "scaling='paper' divides each level by its rank and takes no other factors; got"
                    f" scales {levels.scales}; leave them out, or the scaling"
                )
            scales = tuple(1 / rank for rank in levels.ranks)
            levels = replace(levels, scales=scales, mean=True)
        self.levels: Levels = levels.fit(self.d_key, length)
        self.rotary = RotaryEmbedding(levels.ranks) if rotary else None
        self.scales: nn.Parameter | None = None
        if learn_scales:
            n_levels = len(levels.ranks)
            ones = torch.ones(n_heads, n_levels, device="cpu")
            self.scales = nn.Parameter(ones)

    def check_context(self) -> None:
        """Refuse keys of another sequence: two sequences have no blocks in common.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "level scores compare blocks of one sequence, and queries and keys here come from two;"
            " use DotScore or BilinearScore for cross-attention"
        )

    def features(
        self,
        x: Tokens,
        context: ContextTokens | None = None,
        *,
        start: int = 0,
    ) -> QueriesAndKeys:
        """Queries and keys; learned factors are multiplied into the queries."""
        q, k = super().features(x, context, start=start)
        if self.scales is None:
            return q, k
        # One factor a level becomes one factor a feature.
        ranks = torch.tensor(self.levels.ranks, device=q.device)
        factors = self.scales.repeat_interleave(ranks, dim=1, output_size=self.d_key)  # [H K]
        return q * factors[:, None, :], k

    def extra_repr(self) -> str:
        return (
            f"ranks={self.levels.ranks}, block_sizes={self.levels.block_sizes},"
            f" offset={self.levels.offset}"
        )


class BilinearScore(Score):
    """Bilinear score ``x^T M_h y`` with one structured matrix a head (docs/mathematics.md, section
    2).

    The scores are plain dot products of transformed tokens, so every kernel serves them. ``side``
    decides on which side the matrix is multiplied, and with it the size of a key in a cache.
    ``"split"`` multiplies half of each low-rank level on either side (``sum r_l p_l`` numbers a
    head), ``"key"`` compares ``x`` with ``M y`` (D numbers a head) and ``"query"`` compares
    ``M^T x`` with ``y`` (D numbers for all heads together).

    Args:
        matrix: A :class:`tsattn.matrices.StructuredMatrix`, D x D, with a head axis.
        side: ``None`` is ``"split"`` where the matrix can be split and ``"key"`` elsewhere.
        norm: Normalise the transformed tokens over the features of each head (layer norm); the
            paper's block tensor trains do so on the side of the keys.
        scale: Factor of the scores; default ``D ** -0.5``, or ``K ** -0.5`` for normalised K
            features on both sides.

    Raises:
        ValueError: If the matrix is not square, has no head axis, or cannot be split.
        TypeError: If it is no structured matrix.
    """

    def __init__(
        self,
        matrix: Any,
        *,
        side: str | None = None,
        norm: bool = False,
        scale: float | None = None,
    ) -> None:
        from tsattn.matrices import StructuredMatrix  # only bilinear scores need matrices

        super().__init__()
        if not isinstance(matrix, StructuredMatrix):
            raise TypeError(
                f"matrix of a bilinear score must be a structured one; got {matrix!r}; write"
                " make_matrix(name, d_model, d_model, heads=n_heads)"
            )
        if matrix.heads is None or matrix.n_in != matrix.n_out:
            raise ValueError(
                f"a bilinear score needs one square matrix a head; got {matrix.n_out} x"
                f" {matrix.n_in} with heads = {matrix.heads}; build it with n_in = n_out and heads="
            )
        check_choice("side", side, (None, *SIDES))
        check_switch("norm", norm)
        if side == "split" and not matrix.splits:
            raise ValueError(
                f"side='split' needs levels without shuffle; {type(matrix).__name__} has none; use"
                " 'key' or 'query'"
            )
        self.matrix = matrix
        self.side = side or ("split" if matrix.splits else "key")
        self.n_heads = matrix.heads
        self.n_key_heads = 1 if self.side == "query" else matrix.heads
        self.d_key = matrix.n_features if self.side == "split" else matrix.n_in
        # Only tokens that the matrix transforms are normalised.
        norm_query = norm and self.side != "key"
        norm_key = norm and self.side != "query"
        self.norm_query = nn.LayerNorm(self.d_key, device="cpu") if norm_query else None
        self.norm_key = nn.LayerNorm(self.d_key, device="cpu") if norm_key else None
        if scale is None:
            both_normalised = norm_query and norm_key
            n_terms = self.d_key if both_normalised else matrix.n_in
            scale = n_terms**-0.5
        self.scale = check_scale(scale)

    def features(
        self,
        x: Tokens,
        context: ContextTokens | None = None,
        *,
        start: int = 0,
    ) -> QueriesAndKeys:
        """Queries and keys."""
        y = x if context is None else context
        x = x.unsqueeze(2)  # [B Lq 1 D]
        y = y.unsqueeze(2)  # [B Lk 1 D]
        if self.side == "split":
            q = self.matrix.query_features(x)
            k = self.matrix.key_features(y)
        elif self.side == "key":
            q = x.expand(-1, -1, self.n_heads, -1)
            k = self._transform(y, self.matrix)
        else:
            q = self._transform(x, self.matrix.rmatmul)
            k = y
        # Before the transposition, so that the rows of a norm are contiguous.
        if self.norm_query is not None:
            q = self.norm_query(q)
        if self.norm_key is not None:
            k = self.norm_key(k)
        return q.transpose(1, 2), k.transpose(1, 2)

    def _transform(self, x: Tensor, product: Callable[[Tensor], Tensor]) -> Tensor:
        """Product of tokens with the matrix or its transpose: [B L 1 D] -> [B L H D]."""
        batch, length, _, width = x.shape
        if self.matrix.splits or width > DENSE_WIDTH or torch.compiler.is_compiling():
            return product(x)
        n_tokens = batch * length
        if n_tokens < DENSE_TOKENS * width:
            return product(x)
        unit_vectors = torch.eye(width, dtype=x.dtype, device=x.device)
        entries = product(unit_vectors.unsqueeze(1))  # [D H D]
        transformed = x.flatten(2) @ entries.flatten(1)  # [B L H*D]
        return transformed.unflatten(2, entries.shape[1:])

    def extra_repr(self) -> str:
        return f"side={self.side!r}, scale={self.scale:.4g}"


def head_width(d_model: int, n_heads: int) -> int:
    """Features of a head when the heads share the token width.

    Raises:
        ValueError: If ``n_heads`` does not divide ``d_model``.
    """
    check_whole("d_model", d_model)
    if n_heads < 1 or d_model % n_heads:
        raise ValueError(
            f"n_heads must divide d_model; got n_heads = {n_heads} for d_model = {d_model}; change"
            " one of them"
        )
    return d_model // n_heads


def group_heads(n_heads: int, n_key_heads: int | None) -> int:
    """Number of key or value heads, by default that of the query heads.

    Raises:
        ValueError: If ``n_key_heads`` does not divide ``n_heads``.
    """
    if n_key_heads is None:
        return n_heads
    if n_key_heads < 1 or n_heads % n_key_heads:
        raise ValueError(
            f"heads of keys and values must divide n_heads; got {n_key_heads} for n_heads ="
            f" {n_heads}; take a divisor"
        )
    return n_key_heads


def default_ranks(d_head: int, n_levels: int = 3) -> tuple[int, ...]:
    """Half of the head's features for the coarsest level, a quarter for the next, ..., the rest for
    the finest.

    Heads of fewer than four features get as many levels as leave none empty.

    Raises:
        ValueError: If either is no whole number of at least 1.

    Example:
        >>> default_ranks(64), default_ranks(8, n_levels=2)
        ((32, 16, 16), (4, 4))
    """
    check_whole("d_head", d_head)
    check_whole("n_levels", n_levels)
    ranks = [d_head // 2**level for level in range(1, n_levels)]
    if ranks:
        # The first level counts for all pairs, so it is never empty.
        ranks[0] = max(ranks[0], 1)
    n_remaining = d_head - sum(ranks)
    ranks.append(n_remaining)
    return tuple(rank for rank in ranks if rank > 0)


@dataclass(frozen=True, eq=False)
class Places:
    """Groups and positions of the tokens of a batch, the same for all layers
    (:meth:`GroupLevelScore.place`).

    Args:
        groups: Groups of the levels after the first, [L] or [B L] each.
        angles: Cosines and sines by which queries and keys are turned, or ``None``.
    """

    groups: tuple[TokenGroups, ...]
    angles: Angles | None = None


class GroupLevelScore(DotScore):
    """MLR score over groups that differ by sequence: feature slice l counts where two tokens share
    a group.

    Groups may be near tokens, tokens of one cycle of a season, or tokens of one phase
    (docs/mathematics.md, section 3). With one rank it is the ordinary score, turned by positions of
    the caller.

    Args:
        d_model: Token width.
        n_heads: Heads.
        ranks: Features per level, summing to ``d_model // n_heads``; the first counts everywhere.
        rotary_base: Longest wave length of the rotary embedding over 2 pi, in tokens; ``None``
            turns nothing.
        norm: Normalise queries and keys over the features of each head (layer norm).
        generator: Source of the start values; ``None`` is torch's global one.

    Raises:
        ValueError: If ranks do not sum to the width of a head, or one is odd where there is a
            rotary embedding.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        ranks: tuple[int, ...],
        rotary_base: float | None = 10_000.0,
        norm: bool = False,
        generator: RandomSource = None,
    ) -> None:
        super().__init__(d_model, n_heads, norm=norm, generator=generator)
        self.levels: Levels = Levels(ranks)
        # Only the ranks are checked: groups replace blocks, so the length has no effect.
        self.levels.fit(self.d_key, 1)
        self.rotary = None if rotary_base is None else RotaryEmbedding(ranks, base=rotary_base)

    def place(
        self,
        groups: Sequence[TokenGroups],
        positions: Sequence[Positions] | None = None,
    ) -> Places:
        """Groups and angles of the tokens, for every layer of these ranks.

        Args:
            groups: Groups of the levels after the first, [L] or [B L] each; a negative number is
                no group.
            positions: Positions for the rotary embedding, one tensor a level; not read without it.

        Raises:
            ValueError: If there are not as many groups or positions as the levels need.
        """
        ranks = self.levels.ranks
        n_levels = len(ranks)
        if len(groups) != n_levels - 1:
            raise ValueError(
                f"levels after the first need one group each; got {len(groups)} for ranks {ranks};"
                " give each one"
            )
        if self.rotary is None:
            return Places(tuple(groups))
        if positions is None or len(positions) != n_levels:
            raise ValueError(
                f"a rotary embedding of ranks {ranks} needs one tensor of positions a level"
            )
        angles = self.rotary.angles(positions, dtype=self.project.weight.dtype)
        return Places(tuple(groups), angles)

    def features_at(
        self, x: States, places: Places, n_last: int | None = None
    ) -> tuple[Float[Tensor, "B H Lq K"], Float[Tensor, "B Hk L K"]]:
        """Queries of the last tokens (default: of all tokens) and keys of all tokens."""
        if n_last is None:
            q, k = self._by_head(x, None)
        else:
            first_last = x.shape[1] - n_last
            last_tokens = x[:, first_last:]
            q, k = self._by_head(last_tokens, x)
        if self.rotary is not None and places.angles is not None:
            cosines, sines = places.angles  # [... L K]
            # The queries are the last of the tokens.
            first_query = cosines.shape[-2] - q.shape[2]
            query_cosines = cosines[..., first_query:, :]
            query_sines = sines[..., first_query:, :]
            q = self.rotary.turn(q, (query_cosines, query_sines))
            k = self.rotary.turn(k, places.angles)
        return q, k

    def features(
        self,
        x: Tokens,
        context: ContextTokens | None = None,
        *,
        start: int = 0,
    ) -> QueriesAndKeys:
        """Refused, because the score needs the groups of the tokens.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "a score by groups needs to know the parts of its tokens; call the layer with places="
        )

    def extra_repr(self) -> str:
        return f"ranks={self.levels.ranks}"
