"""What is exact attention with distance-dependent levels, written down without any care for speed?"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def default_block_sizes(length: int, n_levels: int) -> tuple[int, ...]:
    """Halving block sizes that are nested whatever the length.

    Level l of n has blocks of ``2^(n-l) * ceil(length / 2^(n-1))`` tokens: ``length``, a half, a quarter and so on
    where those are whole numbers, and rounded up together otherwise (docs/mathematics.md, section 3).

    Args:
        length: Tokens of the longest sequence the blocks have to serve, at least 1.
        n_levels: Number of levels, at least 1.

    Returns:
        One size a level, coarse to fine; the first covers ``length``.

    Raises:
        ValueError: If either number is below 1.

    Example:
        >>> default_block_sizes(42, 3)
        (44, 22, 11)
    """
    if length < 1 or n_levels < 1:
        raise ValueError(
            f"default_block_sizes needs length and n_levels of at least 1; got length = {length}, "
            f"n_levels = {n_levels}; give the number of tokens and of ranks"
        )
    finest = -(-length // 2 ** (n_levels - 1))
    return tuple(finest * 2 ** (n_levels - 1 - level) for level in range(n_levels))


def attention_mask(
    n_queries: int,
    n_keys: int,
    *,
    causal: bool = False,
    window: int | None = None,
    n_global: int = 0,
    device: torch.device | str | None = None,
) -> Bool[Tensor, "Lq Lk"]:
    """Which query may see which key, as far as positions alone decide.

    Query i stands at position ``i + n_keys - n_queries``, so that the last query is level with the last key.

    Args:
        n_queries: Number of queries Lq.
        n_keys: Number of keys Lk.
        causal: Only keys up to the query's own position.
        window: Number of keys seen, the query's own included: ``i - window < j <= i`` when causal, otherwise
            ``|i - j| < window``. ``None`` is unlimited.
        n_global: Leading positions that see, and are seen by, every token in spite of the window (not of time).
        device: Where the mask is made.

    Returns:
        True where the key may be seen.

    Example:
        >>> attention_mask(3, 3, causal=True, window=2).int().tolist()
        [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """
    here = torch.arange(n_keys - n_queries, n_keys, device=device)[:, None]
    there = torch.arange(n_keys, device=device)[None, :]
    visible = torch.ones(n_queries, n_keys, dtype=torch.bool, device=device)
    if window is not None:
        near = (here - there).abs() < window
        visible = near | (here < n_global) | (there < n_global)
    if causal:
        visible = visible & (there <= here)
    return visible


def shared_blocks(
    n_queries: int,
    n_keys: int,
    *,
    block_size: int,
    offsets: tuple[int, ...],
    device: torch.device | str | None = None,
) -> Bool[Tensor, "heads Lq Lk"]:
    """Which query and key lie in the same block of one level.

    Args:
        n_queries: Number of queries Lq; the last one is level with the last key.
        n_keys: Number of keys Lk.
        block_size: Tokens a block.
        offsets: Shift of the block grid in tokens: one for all heads, or one per head.
        device: Where the mask is made.

    Returns:
        True where both positions, shifted, fall into one block; the leading axis is as long as ``offsets``.
    """
    shift = torch.tensor(offsets, device=device)[:, None]
    here = torch.arange(n_keys - n_queries, n_keys, device=device) + shift
    there = torch.arange(n_keys, device=device) + shift
    rows = torch.div(here, block_size, rounding_mode="floor")[:, :, None]
    columns = torch.div(there, block_size, rounding_mode="floor")[:, None, :]
    return rows == columns


def shared_groups(groups: Int[Tensor, "... Lk"], n_queries: int) -> Bool[Tensor, "Bx Hx Lq Lk"]:
    """Which query and key lie in the same part of one level that is given by groups.

    Args:
        groups: Part of each position, [Lk] for all sequences, [B Lk] or [B H Lk]; a negative number is in no part.
        n_queries: Number of queries Lq, at most Lk; they are the last positions.

    Returns:
        True where both positions are in one part; the leading axes are 1 where the groups have none.

    Example:
        >>> shared_groups(torch.tensor([0, 1, 0, -1]), 2).int().tolist()
        [[[[1, 0, 1, 0], [0, 0, 0, 0]]]]
    """
    there = groups.reshape((1,) * (3 - groups.ndim) + groups.shape) if groups.ndim != 2 else groups[:, None]
    here = there[..., there.shape[2] - n_queries :, None]
    return (here == there[..., None, :]) & (here >= 0)


def level_scores(
    q: Float[Tensor, "B H Lq K"],
    k: Float[Tensor, "B H Lk K"],
    *,
    ranks: tuple[int, ...],
    block_sizes: tuple[int, ...],
    offset: int | tuple[int, ...] = 0,
    groups: tuple[Int[Tensor, "... Lk"], ...] | None = None,
    level_scales: tuple[float, ...] | None = None,
    mean_levels: bool = False,
    scale: float | None = None,
) -> Float[Tensor, "B H Lq Lk"]:
    """Scores of distance-dependent MLR attention, materialised (docs/mathematics.md, section 3).

    ``S[i, j] = scale * sum over l of level_scales[l] * [l is the first, or i and j share a part] * q_l[i] . k_l[j]``.

    Args:
        ranks: Features per level, coarse to fine, summing to K.
        block_sizes: Tokens per block at each level; not read where groups are given.
        groups: Parts of each level from the second on, where they are no contiguous blocks.
        offset: Shift of the block grid in tokens, for all heads or one per head.
        level_scales: Factor per level, default ones.
        mean_levels: Divide each score by the number of levels that its pair shares.
        scale: Default ``K ** -0.5``.

    Returns:
        The scores, before any mask.

    Cost:
        B H Lq Lk K multiply-adds whatever the blocks, and one Lq x Lk matrix a head in memory.
    """
    n_queries, n_keys = q.shape[2], k.shape[2]
    offsets = offset if isinstance(offset, tuple) else (offset,)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    factors = level_scales or (1.0,) * len(ranks)
    scores = torch.zeros((), dtype=q.dtype, device=q.device)
    count = torch.ones((), dtype=q.dtype, device=q.device)
    parts = zip(q.split(ranks, dim=3), k.split(ranks, dim=3), block_sizes, factors, strict=True)
    for level, (q_level, k_level, block_size, factor) in enumerate(parts):
        part = (q_level * (scale * factor)) @ k_level.transpose(2, 3)
        if level > 0:
            if groups is None:
                same = shared_blocks(n_queries, n_keys, block_size=block_size, offsets=offsets, device=q.device)
            else:
                same = shared_groups(groups[level - 1], n_queries)
            part = part * same
            count = count + same.to(q.dtype)
        scores = scores + part
    return scores / count if mean_levels else scores


def expand_heads(x: Float[Tensor, "B Hx L F"], n_heads: int) -> Float[Tensor, "B H L F"]:
    """Repeat each head of keys or values for the group of query heads that shares it.

    Args:
        n_heads: Number of query heads H, a multiple of the heads of x.

    Returns:
        Head h is head ``h // (H // Hx)`` of x: x itself where nothing is shared, a view where one head serves all.
    """
    batch, own, length, width = x.shape
    if own == n_heads:
        return x
    return x[:, :, None].expand(batch, own, n_heads // own, length, width).reshape(batch, n_heads, length, width)


def weights_reference(
    q: Float[Tensor, "B H Lq K"],
    k: Float[Tensor, "B Hk Lk K"],
    *,
    ranks: tuple[int, ...] | None = None,
    block_sizes: tuple[int, ...] | None = None,
    offset: int | tuple[int, ...] = 0,
    groups: tuple[Int[Tensor, "... Lk"], ...] | None = None,
    level_scales: tuple[float, ...] | None = None,
    mean_levels: bool = False,
    causal: bool = False,
    window: int | None = None,
    n_global: int = 0,
    key_mask: Bool[Tensor, "B Lk"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "B H Lq Lk"]:
    """Softmax weights of attention, in plain differentiable torch: the one definition of what is computed.

    Arguments are those of :func:`tsattn.kernels.attention_weights`, which also checks them.

    Args:
        ranks: Features per level; ``None`` is ordinary attention.
        block_sizes: Tokens per block at each level; ``None`` is :func:`default_block_sizes` of the longer side.
        offset: Shift of the block grid in tokens, for all heads or one per head.
        groups: Parts of each level from the second on, instead of blocks.
        level_scales: Factor per level, default ones.
        mean_levels: Divide each score by the number of levels its pair shares.
        causal: See no later position than one's own.
        window: Number of keys seen, itself included.
        n_global: Leading tokens exempt from the window.
        key_mask: True where a key may be seen.
        scale: Default ``K ** -0.5``.

    Returns:
        Weights in float32 at least; rows sum to one, or are zero where no key is visible.
    """
    work = torch.promote_types(q.dtype, torch.float32)
    n_queries, n_keys = q.shape[2], k.shape[2]
    ranks = (q.shape[3],) if ranks is None else ranks
    scores = level_scores(
        q.to(work),
        expand_heads(k, q.shape[1]).to(work),
        ranks=ranks,
        block_sizes=block_sizes or default_block_sizes(max(n_queries, n_keys), len(ranks)),
        offset=offset,
        groups=groups,
        level_scales=level_scales,
        mean_levels=mean_levels,
        scale=scale,
    )
    visible = attention_mask(n_queries, n_keys, causal=causal, window=window, n_global=n_global, device=q.device)
    if key_mask is not None:
        visible = visible & key_mask[:, None, None, :]
    # A row without a visible key would be 0/0: it is given finite scores and its weights are struck out afterwards,
    # which leaves its gradients at zero instead of NaN.
    empty = ~visible.any(dim=-1, keepdim=True)
    weights = scores.masked_fill(~(visible | empty), -torch.inf).softmax(dim=-1)
    return weights.masked_fill(~visible, 0.0)


def attention_reference(
    q: Float[Tensor, "B H Lq K"],
    k: Float[Tensor, "B Hk Lk K"],
    v: Float[Tensor, "B Hv Lk V"],
    *,
    ranks: tuple[int, ...] | None = None,
    block_sizes: tuple[int, ...] | None = None,
    offset: int | tuple[int, ...] = 0,
    groups: tuple[Int[Tensor, "... Lk"], ...] | None = None,
    level_scales: tuple[float, ...] | None = None,
    mean_levels: bool = False,
    causal: bool = False,
    window: int | None = None,
    n_global: int = 0,
    key_mask: Bool[Tensor, "B Lk"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "B H Lq V"]:
    """Attention by materialised scores, in plain differentiable torch: the truth the fast ways are held to.

    Arguments and result are those of :func:`tsattn.kernels.attention`, which also checks them; here they are taken
    as they are. Inputs of half precision are computed in float32 and returned in their own type.

    Args:
        ranks: Features per level; ``None`` is ordinary attention.
        block_sizes: Tokens per block at each level; ``None`` is :func:`default_block_sizes` of the longer side.
        offset: Shift of the block grid in tokens, for all heads or one per head.
        groups: Parts of each level from the second on, instead of blocks.
        level_scales: Factor per level, default ones.
        mean_levels: Divide each score by the number of levels its pair shares.
        causal: See no later position than one's own.
        window: Number of keys seen, itself included.
        n_global: Leading tokens exempt from the window.
        key_mask: True where a key may be seen.
        scale: Default ``K ** -0.5``.

    Returns:
        Attended values; rows with no visible key are zero.

    Cost:
        Time B H Lq Lk (K + V) multiply-adds, memory B H Lq Lk numbers a few times over.
    """
    weights = weights_reference(
        q,
        k,
        ranks=ranks,
        block_sizes=block_sizes,
        offset=offset,
        groups=groups,
        level_scales=level_scales,
        mean_levels=mean_levels,
        causal=causal,
        window=window,
        n_global=n_global,
        key_mask=key_mask,
        scale=scale,
    )
    return (weights @ expand_heads(v, q.shape[1]).to(weights.dtype)).to(q.dtype)
