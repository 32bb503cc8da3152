"""Exact attention with distance-dependent levels, written down without any care for speed."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tsattn.kernels.geometry import Geometry


def traced() -> bool:
    """Whether a compiler or torch.func is at work: both want plain torch, no function with a
    gradient of its own.
    """
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def shared_groups(groups: Int[Tensor, "... Lk"], n_queries: int) -> Bool[Tensor, "Bx Hx Lq Lk"]:
    """Which query and key lie in the same part of one level that is given by groups.

    Args:
        groups: Part of each position, [Lk] for all sequences, [B Lk] or [B H Lk]; a negative number
            is in no part.
        n_queries: Number of queries Lq, at most Lk; they are the last positions.

    Returns:
        True where both positions are in one part; the leading axes are 1 where the groups have
        none.

    Example:
        >>> shared_groups(torch.tensor([0, 1, 0, -1]), 2).int().tolist()
        [[[[1, 0, 1, 0], [0, 0, 0, 0]]]]
    """
    there = (
        groups.reshape((1,) * (3 - groups.ndim) + groups.shape)
        if groups.ndim != 2
        else groups[:, None]
    )
    here = there[..., there.shape[2] - n_queries :, None]
    return (here == there[..., None, :]) & (here >= 0)


def expand_heads(x: Float[Tensor, "B Hx L F"], n_heads: int) -> Float[Tensor, "B H L F"]:
    """Repeat each head of keys or values for the group of query heads that shares it.

    Args:
        n_heads: Number of query heads H, a multiple of the heads of x.

    Returns:
        Head h is head ``h // (H // Hx)`` of x: x itself where nothing is shared, a view where one
        head serves all.
    """
    batch, own, length, width = x.shape
    if own == n_heads:
        return x
    return (
        x[:, :, None]
        .expand(batch, own, n_heads // own, length, width)
        .reshape(batch, n_heads, length, width)
    )


def level_scores(
    q: Float[Tensor, "B H Lq K"],
    k: Float[Tensor, "B H Lk K"],
    *,
    geometry: Geometry,
    groups: tuple[Int[Tensor, "... Lk"], ...] | None = None,
) -> Float[Tensor, "B H Lq Lk"]:
    """Scores of distance-dependent MLR attention, materialised (docs/mathematics.md, section 3).

    ``S[i, j] = sum over l of factors[l] * [l = 1, or i and j share a part] * q_l[i] . k_l[j]``.

    Args:
        geometry: The call.
        groups: Parts of each level from the second on, where they are no contiguous blocks.

    Returns:
        The scores, before any mask.

    Cost:
        B H Lq Lk K multiply-adds whatever the blocks, and one Lq x Lk matrix a head in memory.
    """
    levels = geometry.levels
    n_queries = q.shape[2]
    scores = torch.zeros((), dtype=q.dtype, device=q.device)
    count = torch.ones((), dtype=q.dtype, device=q.device)
    parts = zip(
        q.split(levels.ranks, dim=3), k.split(levels.ranks, dim=3), geometry.factors, strict=True
    )
    for level, (q_level, k_level, factor) in enumerate(parts):
        part = (q_level * factor) @ k_level.transpose(2, 3)
        if level > 0:
            if groups is None:
                same = levels.shared(level, n_queries, k.shape[2], device=q.device)
            else:
                same = shared_groups(groups[level - 1], n_queries)
            part = part * same
            count = count + same.to(q.dtype)
        scores = scores + part
    return scores / count if levels.mean else scores


def weights_reference(
    q: Float[Tensor, "B H Lq K"],
    k: Float[Tensor, "B Hk Lk K"],
    *,
    geometry: Geometry,
    key_mask: Bool[Tensor, "B Lk"] | None = None,
    groups: tuple[Int[Tensor, "... Lk"], ...] | None = None,
) -> Float[Tensor, "B H Lq Lk"]:
    """Softmax weights of attention, in plain differentiable torch: the one definition of what is
    computed.

    Args:
        geometry: Levels, pattern and scales of the call.
        key_mask: True where a key may be seen.
        groups: Parts of each level from the second on, instead of blocks.

    Returns:
        Weights in float32 at least; rows sum to one, or are zero where no key is visible.
    """
    work = torch.promote_types(q.dtype, torch.float32)
    scores = level_scores(
        q.to(work), expand_heads(k, q.shape[1]).to(work), geometry=geometry, groups=groups
    )
    visible = geometry.pattern.mask(q.shape[2], k.shape[2], device=q.device)
    if key_mask is not None:
        visible = visible & key_mask[:, None, None, :]
    # A row without a visible key would be 0/0: it is given finite scores and its weights are struck
    # out afterwards, which leaves its gradients at zero instead of NaN.
    empty = ~visible.any(dim=-1, keepdim=True)
    weights = scores.masked_fill(~(visible | empty), -torch.inf).softmax(dim=-1)
    return weights.masked_fill(~visible, 0.0)


def attention_reference(
    q: Float[Tensor, "B H Lq K"],
    k: Float[Tensor, "B Hk Lk K"],
    v: Float[Tensor, "B Hv Lk V"],
    *,
    geometry: Geometry,
    key_mask: Bool[Tensor, "B Lk"] | None = None,
    groups: tuple[Int[Tensor, "... Lk"], ...] | None = None,
) -> Float[Tensor, "B H Lq V"]:
    """Attention by materialised scores, in plain differentiable torch: the truth the fast backends
    are held to.

    Inputs of half precision are computed in float32 and returned in their own type.

    Args:
        geometry: Levels, pattern and scales of the call.
        key_mask: True where a key may be seen.
        groups: Parts of each level from the second on, instead of blocks.

    Returns:
        Attended values; rows with no visible key are zero.

    Cost:
        Time B H Lq Lk (K + V) multiply-adds, memory B H Lq Lk numbers a few times over.
    """
    weights = weights_reference(q, k, geometry=geometry, key_mask=key_mask, groups=groups)
    return (weights @ expand_heads(v, q.shape[1]).to(weights.dtype)).to(q.dtype)
