"""Attention of the newest token over the keys and values that a cache kept."""

import torch
from jaxtyping import Float
from torch import Tensor

from tsattn.kernels.geometry import Levels

# A level's first position in its slots: one number for all key heads, or one a head.
Start = int | tuple[int, ...]


def decode(
    q: Float[Tensor, "B H 1 K"],
    keys: tuple[Float[Tensor, "B Hk _ _"], ...],
    values: Float[Tensor, "B Hv T V"],
    *,
    levels: Levels | None = None,
    starts: tuple[Start, ...] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "B H 1 V"]:
    """Softmax attention of one query over T kept tokens, with the features of each level where that
    level counts.

    The last row of causal attention with distance-dependent levels (docs/mathematics.md, section
    3): the newest of the T tokens shares a block of level l with the tokens from the block's start
    on, so the scores of that level are added to those and nothing is masked. Ordinary attention is
    one level.

    Args:
        keys: One tensor a level, coarse to fine, (B, Hk, slots, r_l) with the widths r_l summing to
            K. The slot s of level l holds the token ``starts[l] + s``; slots beyond the T tokens
            are never seen.
        values: One a token. The heads Hk and Hv divide H, each for itself: the query head h uses
            the key head ``h // (H // Hk)`` and the value head ``h // (H // Hv)``.
        levels: Scales of the levels and whether to take their mean; block sizes and offset are in
            ``starts``.
        starts: First token that shares the query's block of each level, for all key heads or one
            per key head; 0 at the first level. Default: 0 at every level.
        scale: Default ``K ** -0.5``.

    Returns:
        The attended values, computed in float32 at least and returned in the type of ``q``.

    Raises:
        ValueError: If shapes or types do not fit together; what a cache keeps is not checked again.

    Cost:
        For one head, the sum over levels of r_l (T - starts[l]) multiply-adds for the scores, at
        most r_l b_l a level with blocks of b_l tokens, against T K of ordinary attention, and T V
        for the values. Grouped keys and values are never copied out: the queries of a group are
        rows of one product. Half-precision keys and values are widened to float32 for the time of
        the call.

    Example:
        >>> q, v = torch.ones(1, 1, 1, 2), torch.tensor([[[[0.0], [3.0], [6.0]]]])
        >>> keys = (torch.ones(1, 1, 3, 1), torch.ones(1, 1, 1, 1))
        >>> decode(q, keys, v, starts=(0, 2), scale=0.0).item()
        3.0
    """
    starts = (0,) * len(keys) if starts is None else starts
    _check_shapes(q, keys, values)
    n_batch, n_heads = q.shape[:2]
    n_tokens, width = values.shape[2:]
    work = torch.promote_types(q.dtype, torch.float32)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    # Whatever an autocast around the call would narrow, scores and softmax are not.
    with torch.autocast(q.device.type, enabled=False):
        rows = q.to(work).reshape(n_batch, keys[0].shape[1], -1, q.shape[3])
        scales = (
            levels.scales
            if levels is not None and levels.scales is not None
            else (1.0,) * len(keys)
        )
        scores = _scores(rows, keys, n_tokens, starts, tuple(scale * factor for factor in scales))
        if levels is not None and levels.mean:
            scores /= _shared_levels(starts, scores)
        weights = scores.softmax(dim=3).reshape(n_batch, values.shape[1], -1, n_tokens)
        return (weights @ values.to(work)).reshape(n_batch, n_heads, 1, width).to(q.dtype)


def heads_by_start(starts: Start) -> list[tuple[slice | list[int], int]]:
    """Which heads begin at which token: all at once where there is one start, else a list of heads
    for each.
    """
    if isinstance(starts, int):
        return [(slice(None), starts)]
    return [
        ([h for h, own in enumerate(starts) if own == start], start)
        for start in sorted(set(starts))
    ]


def _scores(
    rows: Float[Tensor, "B Hk group K"],
    keys: tuple[Float[Tensor, "B Hk _ _"], ...],
    n_tokens: int,
    starts: tuple[Start, ...],
    factors: tuple[float, ...],
) -> Float[Tensor, "B Hk group T"]:
    """Scores of all levels, each over the tokens that it counts for."""
    parts = zip(
        rows.split([level.shape[3] for level in keys], dim=3), keys, starts, factors, strict=True
    )
    scores = rows.new_zeros(())
    for level, (row, level_keys, start, factor) in enumerate(parts):
        by_start = heads_by_start(start)
        # One product for all heads, as long as the fullest needs it; what others have beyond their
        # own is not read.
        n_slots = n_tokens - min(first for _, first in by_start)
        part = (row * factor) @ level_keys[:, :, :n_slots].to(rows.dtype).transpose(2, 3)
        if level == 0:
            scores = part
            continue
        for heads, first in by_start:
            scores[:, heads, :, first:] += part[:, heads, :, : n_tokens - first]
    return scores


def _shared_levels(
    starts: tuple[Start, ...], scores: Float[Tensor, "B Hk group T"]
) -> Float[Tensor, "Hk 1 T"]:
    """How many levels each token shares with the newest."""
    count = scores.new_zeros(scores.shape[1], 1, scores.shape[3])
    for start in starts:
        for heads, first in heads_by_start(start):
            count[heads, :, first:] += 1
    return count


def _check_shapes(q: Tensor, keys: tuple[Tensor, ...], values: Tensor) -> None:
    if not keys or any(tensor.ndim != 4 for tensor in (q, *keys, values)):
        raise ValueError(
            "q, the keys of at least one level and values must have the axes (batch, heads,"
            f" tokens, features); got {q.ndim}, {[level.ndim for level in keys]} and {values.ndim}"
            " axes; add what is missing"
        )
    if q.shape[2] != 1:
        raise ValueError(
            f"decode answers one query; got {q.shape[2]}; take attention for a whole sequence"
        )
    if any(level.shape[:2] != keys[0].shape[:2] for level in keys) or not q.shape[0] == len(
        keys[0]
    ) == len(values):
        shapes = [tuple(tensor.shape) for tensor in (*keys, values)]
        raise ValueError(
            "q, keys and values must agree in batch, and the levels in heads; got q"
            f" {tuple(q.shape)} and {shapes}; make the cache for this batch"
        )
    for name, n in (("keys", keys[0].shape[1]), ("values", values.shape[1])):
        if q.shape[1] % n:
            raise ValueError(
                f"the heads of {name} must divide those of q; got {n} for {q.shape[1]}; give every"
                " group of queries one"
            )
    widths = tuple(level.shape[3] for level in keys)
    if sum(widths) != q.shape[3]:
        raise ValueError(
            f"the keys of all levels must be as wide as q; got sum({widths}) = {sum(widths)} for"
            f" {q.shape[3]}; give each level its slice of the features"
        )
    kinds = {(tensor.dtype, tensor.device) for tensor in (q, *keys, values)}
    if len(kinds) > 1:
        found = " and ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
        raise ValueError(
            f"q, keys and values must share one type and device; got {found}; convert them with"
            " .to()"
        )
