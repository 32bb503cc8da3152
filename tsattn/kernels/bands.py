"""How is exact level attention computed for long sequences, in memory that grows with their length only?

Nested blocks split the pairs of tokens by the deepest level they share. The pairs of one level, a *band*, are ordinary
attention between blocks that have a parent in common, over views of k and v, with the features of finer levels set to
zero in q. A fused kernel computes each, and log-sum-exps merge them exactly (docs/mathematics.md, section 4). Within
the blocks of the *base* level all finer levels are added to one small matrix of scores.
"""

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, NoReturn

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tsattn.kernels import fused
from tsattn.kernels.dense import Blocks
from tsattn.kernels.geometry import Geometry
from tsattn.kernels.partition import Plan, Run, make_plan, refusal
from tsattn.kernels.reference import default_block_sizes

# The coarsest level whose blocks have at most this many tokens is computed by block products, finer ones included.
DENSE_BLOCK = 64
# Scores of one slice of such blocks: small enough for the cache.
SLICE_BYTES = 4 * 2**20
# A fused kernel is given at most this much of q at a time, so that what it returns stays small beside the inputs.
PIECE_BYTES = 4 * 2**20


def attention_bands(
    q: Float[Tensor, "B H L K"],
    k: Float[Tensor, "B H Lk K"],
    v: Float[Tensor, "B H Lk V"],
    *,
    ranks: tuple[int, ...],
    block_sizes: tuple[int, ...] | None = None,
    offset: int | tuple[int, ...] = 0,
    level_scales: tuple[float, ...] | None = None,
    mean_levels: bool = False,
    causal: bool = False,
    window: int | None = None,
    n_global: int = 0,
    key_mask: Bool[Tensor, "B Lk"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "B H L V"]:
    """Distance-dependent MLR attention of long sequences, band by band through fused kernels.

    Blocks must be nested from the first level on that has more than one, and share one grid (docs/mathematics.md,
    section 4). The result has first derivatives only.

    Args:
        ranks: Features per level, coarse to fine, summing to K.
        block_sizes: Tokens per block at each level; default halving.
        offset: Shift of the block grid in tokens, the same for all heads.
        level_scales: Factor per level, default ones.
        mean_levels: Not served; must be left out.
        causal: See no later position than one's own.
        window: Not served; must be left out.
        n_global: Not served; must be left out.
        key_mask: True where a key may be seen.
        scale: Default ``K ** -0.5``.

    Returns:
        Attended values in the type of q, merged in float32 at least; rows with no visible key are zero.

    Raises:
        ValueError: If shapes and levels do not fit together, or bands do not serve an argument; the message names it
            and the ways that do.

    Cost:
        Time B H L L (K + V) multiply-adds, half of that when causal; memory O(B H L (K + V)).

    Example:
        >>> x = torch.ones(1, 2, 8, 4)
        >>> attention_bands(x, x, x, ranks=(2, 2), block_sizes=(8, 4)).shape
        torch.Size([1, 2, 8, 4])
    """
    if q.shape[:2] != k.shape[:2] or q.shape[3] != k.shape[3] or k.shape[:3] != v.shape[:3] or not q.shape[2]:
        shapes = f"{tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        raise ValueError(f"q, k and v must fit together and hold a token; got {shapes}; check their axes (B, H, L, K)")
    length = max(q.shape[2], k.shape[2])
    sizes = block_sizes or default_block_sizes(length, len(ranks))
    scales = level_scales or (1.0,) * len(ranks)
    offsets = offset if isinstance(offset, tuple) else (offset,)
    _check(q.shape[3], length, ranks, sizes, scales, offsets)
    factor = q.shape[3] ** -0.5 if scale is None else scale
    geometry = Geometry(
        n_queries=q.shape[2],
        n_keys=k.shape[2],
        ranks=ranks,
        block_sizes=sizes,
        offsets=offsets[:1] if len(set(offsets)) == 1 else offsets,
        factors=tuple(factor * s for s in scales),
        mean_levels=mean_levels,
        causal=causal,
        window=window,
        n_global=n_global,
    )
    reason = refusal(geometry)
    if reason is not None:
        raise ValueError(reason)
    return attend_bands(q, k, v, key_mask, geometry)


def _check(
    n_features: int,
    length: int,
    ranks: tuple[int, ...],
    sizes: tuple[int, ...],
    scales: tuple[float, ...],
    offsets: tuple[int, ...],
) -> None:
    if not ranks or min(ranks) < 1 or sum(ranks) != n_features:
        raise ValueError(f"ranks must be at least 1 and sum to {n_features} features; got {ranks}; change ranks or q")
    if len(sizes) != len(ranks) or sizes[0] < length or min(sizes) < 1 or any(a < b for a, b in pairwise(sizes)):
        raise ValueError(
            f"block_sizes must hold one size a level, never grow and start with at least {length}; got {sizes} for "
            f"ranks {ranks}; sort and extend them, or leave them out"
        )
    if len(scales) != len(ranks):
        raise ValueError(f"level_scales needs one number a level; got {scales} for ranks {ranks}; add or drop some")
    if min(offsets) < 0:
        raise ValueError(f"offset must be at least 0; got {min(offsets)}; add a multiple of every block size")


def attend_bands(q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, geometry: Geometry) -> Tensor:
    """The same for arguments that are checked and that :func:`refusal` lets pass.

    Args:
        q, k, v: Queries, keys and values of one type.
        key_mask: True where a key may be seen [B Lk].
        geometry: The rest of the call.

    Returns:
        Attended values [B H L V] in the type of q.
    """
    if torch.compiler.is_compiling():
        # Views by number and a choice of kernels at run time are nothing for a compiler: it goes around them.
        return torch.compiler.disable(_attend)(q, k, v, key_mask, geometry)
    return _attend(q, k, v, key_mask, geometry)


def _attend(q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, geometry: Geometry) -> Tensor:
    dtype, width = q.dtype, v.shape[3]
    if dtype == torch.float16 and (q.device.type == "cpu" or key_mask is not None):
        q, k, v = (x.float() for x in (q, k, v))  # its range does not hold what hides a key
    if not len(q):
        return q.sum() + k.sum() + v.new_empty(*q.shape[:3], width) * v.sum()
    bias = None
    if key_mask is not None:
        shown = torch.zeros((), dtype=q.dtype, device=q.device)
        bias = torch.where(key_mask, shown, fused.HIDDEN)[:, None, :, None]
        bias = bias.expand(-1, q.shape[1], -1, -1).contiguous()  # [B H L 1]
    with torch.autocast(q.device.type, enabled=False):
        q, k, v = fused.pad(q, k, v)
        q, k, v = (x if x.stride(3) == 1 else x.contiguous() for x in (q, k, v))
        out = _Bands.apply(q, k, v, bias, make_plan(geometry, DENSE_BLOCK))
    return out[..., :width].to(dtype)


class _Bands(torch.autograd.Function):
    """Base and bands, forward and backward."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, plan: Plan) -> Tensor:
        work = torch.promote_types(q.dtype, torch.float32)
        out = torch.empty(*q.shape[:3], v.shape[3], dtype=work, device=q.device)
        lse = torch.empty(*q.shape[:3], 1, dtype=work, device=q.device)
        operand = plan.scaled(q)
        for run, blocks in plan.dense:
            for slices in _slices(run, [operand, out, lse, k, v, *_list(bias)]):
                _dense_forward(blocks, slices, plan.causal)
        for band, run in plan.steps(operand):
            views = [*run.queries(operand, out, lse), *run.keys(k, v, *_list(bias))]
            for a, o, s, b, c, *d in _pieces(views):
                part, part_lse = fused.forward(a, b, c, scale=plan.scale, causal=band.causal, bias=_across(d))
                if band is plan.base:
                    o.copy_(part)
                    s.copy_(part_lse.unsqueeze(3))
                else:
                    _merge(o, s, part.to(work), part_lse.unsqueeze(3))
                del part
        if bias is not None:
            # A row that has met hidden keys only: nothing comes out, and in its gradient no key weighs anything.
            empty = lse < fused.HIDDEN / 2
            out.masked_fill_(empty, 0.0)
            lse.masked_fill_(empty, -fused.HIDDEN)
        out = out.to(q.dtype)
        ctx.save_for_backward(q, k, v, bias, out, lse)
        ctx.plan = plan
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *_Gradients.apply(grad, *ctx.saved_tensors, ctx.plan), None, None


class _Gradients(torch.autograd.Function):
    """The backward pass, a function of its own so that asking for its derivative is an error and not a silent zero."""

    @staticmethod
    def forward(
        ctx: Any,
        grad: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        bias: Tensor | None,
        out: Tensor,
        lse: Tensor,
        plan: Plan,
    ) -> tuple[Tensor, ...]:
        dq, dk, dv = (torch.empty(x.shape, dtype=lse.dtype, device=x.device) for x in (q, k, v))
        grad = grad if grad.stride(3) == 1 else grad.contiguous()
        # Nothing here may be narrowed by an autocast around the call of backward().
        with torch.autocast(q.device.type, enabled=False):
            operand = plan.scaled(q)
            for run, blocks in plan.dense:
                for slices in _slices(run, [operand, grad, out, lse, dq, k, v, dk, dv, *_list(bias)]):
                    _dense_backward(blocks, slices, plan.causal)
            for band, run in plan.steps(operand):
                views = [*run.queries(operand, grad, out, lse, dq), *run.keys(k, v, dk, dv, *_list(bias))]
                for a, g, o, s, to_q, b, c, to_k, to_v, *d in _pieces(views):
                    parts = fused.backward(
                        g, a, b, c, o, s.squeeze(3), scale=plan.scale, causal=band.causal, bias=_across(d)
                    )
                    # Behind the features that count, the gradient of q is not zero, but that of the zeros put there.
                    widths = (band.width, band.width, c.shape[3])
                    for target, part, width in zip((to_q, to_k, to_v), parts, widths, strict=True):
                        if band is plan.base:
                            target.copy_(part)
                        else:
                            target[..., :width] += part[..., :width]
                    del parts, part  # before the next ones are made
            if plan.relative is not None:
                dq.mul_(plan.factors(dq))
        return dq.to(q.dtype), dk.to(q.dtype), dv.to(q.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> NoReturn:
        raise RuntimeError("bands have first derivatives only; for second ones call attention with backend='reference'")


def _list(bias: Tensor | None) -> list[Tensor]:
    return [] if bias is None else [bias]


def _across(bias: list[Tensor]) -> Tensor | None:
    """What is added to the scores of every key, along the keys: [b h n 1] -> [b h 1 n]."""
    return bias[0].transpose(2, 3) if bias else None


def _merge(out: Tensor, lse: Tensor, part: Tensor, part_lse: Tensor) -> None:
    """Add a part's keys to what the queries have seen so far."""
    out.lerp_(part, torch.sigmoid(part_lse - lse))
    torch.logaddexp(lse, part_lse, out=lse)


def _pieces(views: list[Tensor]) -> Iterator[list[Tensor]]:
    """Views [B H count n F] as such of four axes, whole if the layouts allow and one by one if they do not."""
    batch, n_heads, count = views[0].shape[:3]
    parts: Iterable[list[Tensor]]
    if batch == 1 or n_heads == 1 or all(x.stride(0) == n_heads * x.stride(1) for x in views):
        parts = [[x.flatten(0, 1) for x in views]]
    elif batch < count:
        parts = ([x[b] for x in views] for b in range(batch))
    else:
        parts = ([x[:, :, c] for x in views] for c in range(count))
    for part in parts:
        n_parts = math.ceil(max(x.nbytes for x in part) / PIECE_BYTES)
        yield from map(list, zip(*(x.split(math.ceil(len(x) / n_parts)) for x in part), strict=True))


def _slices(run: Run, tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Views [b h count n F] of some blocks whose scores fit the cache."""
    views = run.queries(*tensors)
    batch, n_heads, count, length, _ = views[0].shape
    room = max(1, SLICE_BYTES // (length * length * 4))
    n_blocks = max(1, min(count, room // n_heads))
    n_batch = max(1, room // (n_heads * count)) if n_blocks == count else 1
    for first in range(0, batch, n_batch):
        for block in range(0, count, n_blocks):
            yield [x[first : first + n_batch, :, block : block + n_blocks] for x in views]


def _side_by_side(x: Tensor, dtype: torch.dtype) -> Tensor:
    """[b h count n F] -> [1 b*h*count n F]."""
    return x.to(dtype).reshape(1, -1, *x.shape[3:])


def _dense_scores(blocks: Blocks, q: Tensor, k: Tensor, bias: list[Tensor], causal: bool) -> Tensor:
    """Scores of blocks, [1 N n F] -> [N n n]."""
    length = q.shape[2]
    scores = torch.empty(*q.shape[:3], length, dtype=q.dtype, device=q.device)
    blocks.scores(q, k, scores, slice(0, q.shape[1]))
    if bias:
        scores += _side_by_side(bias[0], q.dtype).transpose(2, 3)
    if causal:
        later = torch.ones(length, length, dtype=torch.bool, device=q.device).triu_(1)
        scores.masked_fill_(later, -torch.inf)
    return scores[0]


def _dense_forward(blocks: Blocks, slices: list[Tensor], causal: bool) -> None:
    to_out, to_lse = slices[1:3]
    q, k, v = (_side_by_side(slices[i], to_lse.dtype) for i in (0, 3, 4))
    weights = _dense_scores(blocks, q, k, slices[5:], causal)
    top = weights.amax(dim=2, keepdim=True)
    weights.sub_(top).exp_()
    total = weights.sum(dim=2, keepdim=True)
    to_out.copy_((weights @ v[0]).div_(total).view(to_out.shape))
    to_lse.copy_(total.log_().add_(top).view(to_lse.shape))


def _dense_backward(blocks: Blocks, slices: list[Tensor], causal: bool) -> None:
    to_q, to_k, to_v = (slices[i] for i in (4, 7, 8))
    q, grad, out, lse, k, v = (_side_by_side(slices[i], to_q.dtype) for i in (0, 1, 2, 3, 5, 6))
    weights = _dense_scores(blocks, q, k, slices[9:], causal).sub_(lse[0]).exp_()
    to_v.copy_((weights.transpose(1, 2) @ grad[0]).view(to_v.shape))
    mean = (grad[0] * out[0]).sum(dim=2, keepdim=True)
    ds = (grad[0] @ v[0].transpose(1, 2)).sub_(mean).mul_(weights)
    # Features that only pad q and k have no part in the scores.
    dq, dk = torch.zeros_like(q), torch.zeros_like(k)
    blocks.gradients(ds[None], q, k, dq, dk, slice(0, q.shape[1]))
    to_q.copy_(dq.view(to_q.shape))
    to_k.copy_(dk.view(to_k.shape))
