"""Exact level attention of long sequences by bands, in memory that grows with their length only.

Nested blocks split the pairs of tokens by the deepest level they share. The pairs of one level, a
*band*, are ordinary attention between blocks that have a parent in common, over views of k and v,
with the features of finer levels set to zero in q. A fused kernel computes each, and log-sum-exps
merge them exactly (docs/mathematics.md, section 4). Within the blocks of the *base* level all finer
levels are added to one small matrix of scores.
"""

import math
from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tsattn.kernels import fused
from tsattn.kernels.dense import Passes, differentiable
from tsattn.kernels.geometry import Geometry
from tsattn.kernels.partition import Inside, Plan, Run, bands_refusal, make_plan, split_heads

# The coarsest level whose blocks have at most this many tokens is computed by block products, finer
# ones included.
DENSE_BLOCK = 64
# Scores of one slice of such blocks: small enough for the cache.
SLICE_BYTES = 4 * 2**20
# A fused kernel is given at most this much of q at a time, so that what it returns stays small
# beside the inputs.
PIECE_BYTES = 4 * 2**20


def attention_bands(
    q: Float[Tensor, "B H L K"],
    k: Float[Tensor, "B H Lk K"],
    v: Float[Tensor, "B H Lk V"],
    *,
    geometry: Geometry,
    key_mask: Bool[Tensor, "B Lk"] | None = None,
) -> Float[Tensor, "B H L V"]:
    """Distance-dependent MLR attention of long sequences, band by band through fused kernels.

    Blocks must be nested from the first level on that has more than one (docs/mathematics.md,
    section 4). Heads whose grids have different offsets are computed one after the other. The
    result has first derivatives only.

    Args:
        geometry: Ranks, blocks, scales and masks by position.
        key_mask: True where a key may be seen.

    Returns:
        Attended values in the type of q, merged in float32 at least; rows with no visible key are
        zero.

    Raises:
        ValueError: If bands do not serve the geometry; the message names the obstacle, and the
            backends that do.

    Cost:
        Time B H L L (K + V) multiply-adds, half of that when causal; memory O(B H L (K + V)).
    """
    if torch.compiler.is_compiling():
        # Views by number and a choice of kernels at run time are nothing for a compiler: it goes
        # around them.
        return torch.compiler.disable(_attend)(q, k, v, key_mask, geometry)
    return _attend(q, k, v, key_mask, geometry)


def _attend(q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, geometry: Geometry) -> Tensor:
    reason = bands_refusal(geometry)
    if reason is not None:
        raise ValueError(reason)
    dtype = q.dtype
    width = v.shape[3]
    if not len(q):
        return q.sum() + k.sum() + v.new_empty(*q.shape[:3], width) * v.sum()
    if dtype == torch.float16 and (q.device.type == "cpu" or key_mask is not None):
        q, k, v = (x.float() for x in (q, k, v))  # its range does not hold what hides a key
    bias = None
    if key_mask is not None:
        shown = torch.zeros((), dtype=q.dtype, device=q.device)
        bias = torch.where(key_mask, shown, fused.HIDDEN)[:, None, :, None]
        bias = bias.expand(-1, q.shape[1], -1, -1).contiguous()  # [B H L 1]
    q, k, v = fused.dense_rows(*fused.pad(q, k, v))
    plans = [(heads, make_plan(part, DENSE_BLOCK)) for heads, part in split_heads(geometry)]
    return differentiable(q, k, v, bias, _Bands(plans))[..., :width].to(dtype)


class _Bands(Passes):
    """Base and bands by ``plans``: some heads, and what is to be done for them."""

    def __init__(self, plans: list[tuple[slice, Plan]]) -> None:
        self.plans = plans

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        work = torch.promote_types(q.dtype, torch.float32)
        out = torch.empty(*q.shape[:3], v.shape[3], dtype=work, device=q.device)
        lse = torch.empty(*q.shape[:3], 1, dtype=work, device=q.device)
        for heads, plan in self.plans:
            _forward(plan, *(x[:, heads] for x in (q, k, v, out, lse, *_list(mask))))
        if mask is not None:
            fused.clear_hidden(out, lse)
        return out.to(q.dtype), lse

    def backward(
        self,
        grad: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        out: Tensor,
        kept: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        assert kept is not None  # log-sum-exps
        dq, dk, dv = (torch.empty(x.shape, dtype=kept.dtype, device=x.device) for x in (q, k, v))
        (grad,) = fused.dense_rows(grad)
        for heads, plan in self.plans:
            _backward(
                plan, *(x[:, heads] for x in (grad, q, k, v, out, kept, dq, dk, dv, *_list(mask)))
            )
        return dq.to(q.dtype), dk.to(q.dtype), dv.to(q.dtype)


def _forward(
    plan: Plan, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, *bias: Tensor
) -> None:
    """Fill ``out`` and ``lse``."""
    operand = plan.scaled(q)
    for inside in plan.dense:
        for slices in _slices(inside.run, [operand, out, lse, k, v, *bias]):
            _dense_forward(inside, slices, plan.causal)
    for band, run in plan.steps(operand):
        views = [*run.queries(operand, out, lse), *run.keys(k, v, *bias)]
        for a, o, s, b, c, *d in _pieces(views):
            part, part_lse = fused.forward(
                a, b, c, scale=band.scale, causal=band.causal, bias=_across(d)
            )
            if band is plan.base:
                o.copy_(part)
                s.copy_(part_lse.unsqueeze(3))
            else:
                _merge(o, s, part.to(out.dtype), part_lse.unsqueeze(3))
            del part


def _backward(plan: Plan, *tensors: Tensor) -> None:
    """Fill ``dq``, ``dk`` and ``dv``."""
    grad, q, k, v, out, lse, dq, dk, dv, *bias = tensors
    operand = plan.scaled(q)
    for inside in plan.dense:
        for slices in _slices(inside.run, [operand, grad, out, lse, dq, k, v, dk, dv, *bias]):
            _dense_backward(inside, slices, plan.causal)
    for band, run in plan.steps(operand):
        views = [*run.queries(operand, grad, out, lse, dq), *run.keys(k, v, dk, dv, *bias)]
        for a, g, o, s, to_q, b, c, to_k, to_v, *d in _pieces(views):
            parts = fused.backward(
                g, a, b, c, o, s.squeeze(3), scale=band.scale, causal=band.causal, bias=_across(d)
            )
            # Behind the features that count, the gradient of q is not zero, but that of the zeros
            # put there.
            widths = (band.width, band.width, c.shape[3])
            for target, part, width in zip((to_q, to_k, to_v), parts, widths, strict=True):
                if band is plan.base:
                    target.copy_(part)
                else:
                    target[..., :width] += part[..., :width]
            del parts, part  # before the next ones are made
    if plan.relative is not None:
        dq.mul_(plan.factors(dq))


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
    """Views [B H count n F] as such of four axes, whole if the layouts allow and one by one if they
    do not.
    """
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
        yield from map(
            list, zip(*(x.split(math.ceil(len(x) / n_parts)) for x in part), strict=True)
        )


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


def _dense_scores(
    inside: Inside, q: Tensor, k: Tensor, shares: Tensor | None, bias: list[Tensor], causal: bool
) -> Tensor:
    """Scores of blocks, [1 N n F] -> [N n n]."""
    length = q.shape[2]
    scores = torch.empty(*q.shape[:3], length, dtype=q.dtype, device=q.device)
    inside.blocks.scores(q, k, scores, slice(0, q.shape[1]))
    if shares is not None:
        scores *= shares
    if bias:
        scores += _side_by_side(bias[0], q.dtype).transpose(2, 3)
    if causal:
        later = torch.ones(length, length, dtype=torch.bool, device=q.device).triu_(1)
        scores.masked_fill_(later, -torch.inf)
    return scores[0]


def _dense_forward(inside: Inside, slices: list[Tensor], causal: bool) -> None:
    to_out, to_lse = slices[1:3]
    q, k, v = (_side_by_side(slices[i], to_lse.dtype) for i in (0, 3, 4))
    weights = _dense_scores(inside, q, k, inside.shares(q), slices[5:], causal)
    top = weights.amax(dim=2, keepdim=True)
    weights.sub_(top).exp_()
    total = weights.sum(dim=2, keepdim=True)
    to_out.copy_((weights @ v[0]).div_(total).view(to_out.shape))
    to_lse.copy_(total.log_().add_(top).view(to_lse.shape))


def _dense_backward(inside: Inside, slices: list[Tensor], causal: bool) -> None:
    to_q, to_k, to_v = (slices[i] for i in (4, 7, 8))
    q, grad, out, lse, k, v = (_side_by_side(slices[i], to_q.dtype) for i in (0, 1, 2, 3, 5, 6))
    shares = inside.shares(q)
    weights = _dense_scores(inside, q, k, shares, slices[9:], causal).sub_(lse[0]).exp_()
    to_v.copy_((weights.transpose(1, 2) @ grad[0]).view(to_v.shape))
    mean = (grad[0] * out[0]).sum(dim=2, keepdim=True)
    ds = (grad[0] @ v[0].transpose(1, 2)).sub_(mean).mul_(weights)
    if shares is not None:
        ds *= shares
    # Features that only pad q and k have no part in the scores.
    dq = torch.zeros_like(q)
    dk = torch.zeros_like(k)
    inside.blocks.gradients(ds[None], q, k, dq, dk, slice(0, q.shape[1]))
    to_q.copy_(dq.view(to_q.shape))
    to_k.copy_(dk.view(to_k.shape))
