"""Attention of the newest token over the keys and values in a cache."""

import torch
from jaxtyping import Float
from torch import Tensor

from tsattn.kernels.geometry import Factors, Levels, Offset, check_scale

# A level's first position in its slots: one number for all key heads, or one a head.
Start = Offset


def decode(
    q: Float[Tensor, "B H 1 K"],
    keys: tuple[Float[Tensor, "B Hk _ _"], ...],
    values: Float[Tensor, "B Hv T V"],
    *,
    levels: Levels | None = None,
    starts: tuple[Start, ...] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "B H 1 V"]:
    """Softmax attention of one query over the T tokens of a cache, each level counted where the
    query and the token share a block.

    The last row of causal attention with distance-dependent levels (docs/mathematics.md, section
    3): the newest of the T tokens shares a block of level l with the tokens from the block's start
    on, so the scores of that level are added to those and nothing is masked. Ordinary attention is
    one level.

    Args:
        keys: One tensor a level, coarse to fine, (B, Hk, slots, r_l) with the widths r_l summing to
            K. The slot s of level l holds the token ``starts[l] + s``; slots beyond the T tokens
            are never seen.
        values: One a token. Hk and Hv both divide H: query head h uses key head ``h // (H // Hk)``
            and value head ``h // (H // Hv)``.
        levels: Scales of the levels and whether to take their mean; block sizes and offset are in
            ``starts``.
        starts: First token that shares the query's block of each level, for all key heads or one
            per key head; 0 at the first level. Default: 0 at every level.
        scale: Default ``K ** -0.5``.

    Returns:
        The attended values, computed in float32 at least and returned in the type of ``q``.

    Raises:
        ValueError: If shapes or types do not fit together. The numbers of a cache are not checked.

    Cost:
        For one head, the sum over levels of r_l (T - starts[l]) multiply-adds for the scores, at
        most r_l b_l a level with blocks of b_l tokens, against T K of ordinary attention, and T V
        for the values. Shared keys and values are not copied: the queries of a group are rows of
        one product. Half-precision keys and values are widened to float32 for the time of the
        call.

    Example:
        >>> q, v = torch.ones(1, 1, 1, 2), torch.tensor([[[[0.0], [3.0], [6.0]]]])
        >>> keys = (torch.ones(1, 1, 3, 1), torch.ones(1, 1, 1, 1))
        >>> decode(q, keys, v, starts=(0, 2), scale=0.0).item()
        3.0
    """
    if isinstance(keys, Tensor):
        raise TypeError("keys must be a tuple with one tensor a level; got a tensor; write (keys,)")
    n_levels = len(keys)
    if starts is None:
        starts = (0,) * n_levels
    _check_shapes(q, keys, values)
    _check_levels(n_levels, levels, starts)
    batch, n_heads, _, key_width = q.shape
    n_key_heads = keys[0].shape[1]
    n_value_heads, n_tokens, value_width = values.shape[1:]
    scale = key_width**-0.5 if scale is None else check_scale(scale)
    is_mean = levels is not None and levels.mean
    level_factors = (1.0,) * n_levels if levels is None else levels.factors
    factors = tuple(scale * factor for factor in level_factors)
    work = torch.promote_types(q.dtype, torch.float32)
    # Scores and softmax must not be narrowed by an autocast around the call.
    with torch.autocast(q.device.type, enabled=False):
        rows = q.to(work).reshape(batch, n_key_heads, -1, key_width)  # [B Hk group K]
        scores = _scores(rows, keys, n_tokens, starts, factors)
        if is_mean:
            scores /= _shared_levels(starts, scores)
        weights = scores.softmax(dim=3).reshape(batch, n_value_heads, -1, n_tokens)
        attended = weights @ values.to(work)
    return attended.reshape(batch, n_heads, 1, value_width).to(q.dtype)


def heads_by_start(starts: Start) -> list[tuple[slice | list[int], int]]:
    """Pairs of some heads and their common first token: all heads at once where there is one
    start, else a list of heads for each start.
    """
    if isinstance(starts, int):
        return [(slice(None), starts)]
    groups: dict[int, list[int]] = {}
    for head, start in enumerate(starts):
        heads = groups.setdefault(start, [])
        heads.append(head)
    return [(groups[start], start) for start in sorted(groups)]


def _scores(
    rows: Float[Tensor, "B Hk group K"],
    keys: tuple[Float[Tensor, "B Hk _ _"], ...],
    n_tokens: int,
    starts: tuple[Start, ...],
    factors: Factors,
) -> Float[Tensor, "B Hk group T"]:
    """Scores of all levels, each over the tokens that it counts for."""
    ranks = [level_keys.shape[3] for level_keys in keys]
    rows_by_level = rows.split(ranks, dim=3)
    slices = zip(rows_by_level, keys, starts, factors, strict=True)
    scores = rows.new_zeros(())
    for level, (level_rows, level_keys, start, factor) in enumerate(slices):
        head_starts = heads_by_start(start)
        # One product for all heads, over the slots of the head that has most. The slots beyond a
        # head's tokens are not read.
        earliest = min(first for _, first in head_starts)
        n_slots = n_tokens - earliest
        slots = level_keys[:, :, :n_slots].to(rows.dtype)
        part = (level_rows * factor) @ slots.transpose(2, 3)  # [B Hk group slots]
        if level == 0:
            scores = part
            continue
        for heads, first in head_starts:
            n_head_slots = n_tokens - first
            scores[:, heads, :, first:] += part[:, heads, :, :n_head_slots]
    return scores


def _shared_levels(
    starts: tuple[Start, ...], scores: Float[Tensor, "B Hk group T"]
) -> Float[Tensor, "Hk 1 T"]:
    """How many levels each token shares with the newest."""
    _, n_heads, _, n_tokens = scores.shape
    count = scores.new_zeros(n_heads, 1, n_tokens)
    for start in starts:
        for heads, first in heads_by_start(start):
            count[heads, :, first:] += 1
    return count


def _check_levels(n_levels: int, levels: Levels | None, starts: tuple[Start, ...]) -> None:
    """Refuse another number of ranks or starts than of levels of keys."""
    if len(starts) != n_levels:
        raise ValueError(
            f"starts must have one number a level; got {starts} for the keys of {n_levels} levels;"
            " add or drop some"
        )
    if levels is not None and len(levels.ranks) != n_levels:
        raise ValueError(
            f"levels must have one rank for each tensor of keys; got ranks {levels.ranks} for"
            f" {n_levels} tensors; cut the keys by these ranks"
        )


def _check_shapes(q: Tensor, keys: tuple[Tensor, ...], values: Tensor) -> None:
    tensors = (q, *keys, values)
    if not keys or any(tensor.ndim != 4 for tensor in tensors):
        key_axes = [level.ndim for level in keys]
        raise ValueError(
            "q, the keys of at least one level and values must have the axes (batch, heads,"
            f" tokens, features); got {q.ndim}, {key_axes} and {values.ndim}"
            " axes; add what is missing"
        )
    if q.shape[2] != 1:
        raise ValueError(
            f"decode answers one query; got {q.shape[2]}; take attention for a whole sequence"
        )
    level_heads = {tuple(level.shape[:2]) for level in keys}
    batches = {len(q), len(keys[0]), len(values)}
    if len(level_heads) > 1 or len(batches) > 1:
        shapes = [tuple(tensor.shape) for tensor in (*keys, values)]
        raise ValueError(
            "q, keys and values must agree in batch, and the levels in heads; got q"
            f" {tuple(q.shape)} and {shapes}; make the cache for this batch"
        )
    n_heads = q.shape[1]
    for name, tensor in (("keys", keys[0]), ("values", values)):
        n_shared_heads = tensor.shape[1]
        if n_heads % n_shared_heads:
            raise ValueError(
                f"the heads of {name} must divide those of q; got {n_shared_heads} for"
                f" {n_heads}; give every group of queries one"
            )
    widths = tuple(level.shape[3] for level in keys)
    if sum(widths) != q.shape[3]:
        raise ValueError(
            f"the keys of all levels must be as wide as q; got sum({widths}) = {sum(widths)} for"
            f" {q.shape[3]}; give each level its slice of the features"
        )
    kinds = {f"{tensor.dtype} on {tensor.device}" for tensor in tensors}
    if len(kinds) > 1:
        kind_names = " and ".join(sorted(kinds))
        raise ValueError(
            "q, keys and values must share one type and device; got"
            f" {kind_names}; convert them with .to()"
        )
