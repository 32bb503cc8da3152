"""The reference: exact attention with distance-dependent levels in plain torch, without regard to
speed.
"""

import torch

from tsattn.kernels.geometry import (
    Attended,
    Geometry,
    HeadKeys,
    KeyGroups,
    KeyMask,
    Keys,
    Queries,
    Values,
    Weights,
    expand_heads,
    shared_groups,
)


def level_scores(
    q: Queries,
    k: HeadKeys,
    *,
    geometry: Geometry,
    groups: KeyGroups | None = None,
) -> Weights:
    """Scores of distance-dependent MLR attention, materialised (docs/mathematics.md, section 3).

    ``S[i, j] = sum over l of factors[l] * [l = 1, or i and j share a part] * q_l[i] . k_l[j]``.

    Args:
        geometry: The call.
        groups: Groups of each level from the second on, instead of contiguous blocks.

    Returns:
        The scores, before any mask.

    Cost:
        B H Lq Lk K multiply-adds whatever the blocks, and one Lq x Lk matrix a head in memory.
    """
    levels = geometry.levels
    n_queries = q.shape[2]
    n_keys = k.shape[2]
    scores = torch.zeros((), dtype=q.dtype, device=q.device)
    n_shared = torch.ones((), dtype=q.dtype, device=q.device)  # levels that a pair shares
    queries_by_level = q.split(levels.ranks, dim=3)
    keys_by_level = k.split(levels.ranks, dim=3)
    slices = zip(queries_by_level, keys_by_level, geometry.factors, strict=True)
    # The first level counts for all pairs, the others where both share a block or a group.
    for level, (q_level, k_level, factor) in enumerate(slices):
        products = (q_level * factor) @ k_level.transpose(2, 3)  # [B H Lq Lk]
        if level > 0:
            if groups is None:
                same = levels.shared(level, n_queries, n_keys, device=q.device)
            else:
                same = shared_groups(groups[level - 1], n_queries)
            products = products * same
            n_shared = n_shared + same.to(q.dtype)
        scores = scores + products
    return scores / n_shared if levels.mean else scores


def weights_reference(
    q: Queries,
    k: Keys,
    *,
    geometry: Geometry,
    key_mask: KeyMask | None = None,
    groups: KeyGroups | None = None,
) -> Weights:
    """Softmax weights of attention in plain differentiable torch: the definition that all backends
    follow.

    Args:
        geometry: Levels, pattern and scales of the call.
        key_mask: True where a key may be seen.
        groups: Groups of each level from the second on, instead of blocks.

    Returns:
        Weights in float32 at least; rows sum to one, or are zero where no key is visible.
    """
    work = torch.promote_types(q.dtype, torch.float32)
    n_heads = q.shape[1]
    k = expand_heads(k, n_heads)
    scores = level_scores(q.to(work), k.to(work), geometry=geometry, groups=groups)
    n_queries = q.shape[2]
    n_keys = k.shape[2]
    visible = geometry.pattern.mask(n_queries, n_keys, device=q.device)  # [Lq Lk]
    if key_mask is not None:
        visible = visible & key_mask[:, None, None, :]
    # The softmax of a row without a visible key would be 0/0. Such a row keeps its finite scores,
    # and its weights are set to zero afterwards, so that its gradients are zero instead of NaN.
    empty_rows = ~visible.any(dim=-1, keepdim=True)
    hidden = ~(visible | empty_rows)
    weights = scores.masked_fill(hidden, -torch.inf).softmax(dim=-1)
    return weights.masked_fill(~visible, 0.0)


def attention_reference(
    q: Queries,
    k: Keys,
    v: Values,
    *,
    geometry: Geometry,
    key_mask: KeyMask | None = None,
    groups: KeyGroups | None = None,
) -> Attended:
    """Attention by materialised scores in plain differentiable torch; tests compare the fast
    backends with it.

    Inputs of half precision are computed in float32 and returned in their own type.

    Args:
        geometry: Levels, pattern and scales of the call.
        key_mask: True where a key may be seen.
        groups: Groups of each level from the second on, instead of blocks.

    Returns:
        Attended values; rows with no visible key are zero.

    Cost:
        Time B H Lq Lk (K + V) multiply-adds, memory B H Lq Lk numbers a few times over.
    """
    weights = weights_reference(q, k, geometry=geometry, key_mask=key_mask, groups=groups)
    values = expand_heads(v, q.shape[1]).to(weights.dtype)
    return (weights @ values).to(q.dtype)
