"""Exact level attention of long sequences by bands, with memory linear in their length.

Nested blocks split the pairs of tokens by the deepest level they share. The pairs of one level, a
*band*, are ordinary attention between blocks of one parent block, over views of k and v, with the
features of finer levels set to zero in q. A fused kernel computes each band, and log-sum-exps merge
the bands exactly (docs/mathematics.md, section 4). Inside the blocks of the *base* level all finer
levels are added to one small matrix of scores.
"""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from tsattn.kernels import fused
from tsattn.kernels.dense import Passes, Saved, differentiable, empty_batch
from tsattn.kernels.geometry import (
    Attended,
    Geometry,
    Gradients,
    HeadKeys,
    HeadValues,
    KeyMask,
    Queries,
)
from tsattn.kernels.partition import Band, BandPlan, Inside, StretchRun, make_band_plan, split_heads

# Most tokens of a block that block products compute, finer levels included.
DENSE_BLOCK = 64
# Bytes of the scores of one slice of such blocks: small enough for the cache.
SLICE_BYTES = 4 * 2**20
# Most bytes of q in one call of a fused kernel, so that its results need little memory compared
# with the inputs.
PIECE_BYTES = 4 * 2**20


def attention_bands(
    q: Queries,
    k: HeadKeys,
    v: HeadValues,
    *,
    geometry: Geometry,
    key_mask: KeyMask | None = None,
) -> Attended:
    """Distance-dependent MLR attention of long sequences, band by band through fused kernels.

    Blocks must be nested from the first level on that has more than one (docs/mathematics.md,
    section 4). Heads whose grids have different offsets are computed one after the other. The
    result has first derivatives only.

    Args:
        geometry: Ranks, blocks, scales and masks by position, for which
            :func:`tsattn.kernels.partition.bands_refusal` returns ``None``.
        key_mask: True where a key may be seen.

    Returns:
        Attended values in the type of q, merged in float32 at least; rows with no visible key are
        zero.

    Cost:
        Time B H L L (K + V) multiply-adds, half of that when causal; memory O(B H L (K + V)).
    """
    dtype = q.dtype
    value_width = v.shape[3]
    if not len(q):
        return empty_batch(q, k, v)
    # HIDDEN is beyond the range of float16.
    needs_range = q.device.type == "cpu" or key_mask is not None
    if dtype == torch.float16 and needs_range:
        q = q.float()
        k = k.float()
        v = v.float()
    bias = None
    if key_mask is not None:
        visible = torch.zeros((), dtype=q.dtype, device=q.device)
        key_bias = torch.where(key_mask, visible, fused.HIDDEN)
        # A feature of each key and head, so that it is cut into bands as k is.
        n_heads = q.shape[1]
        bias = key_bias[:, None, :, None].expand(-1, n_heads, -1, -1)
        bias = bias.contiguous()  # [B H L 1]
    q, k, v = fused.pad(q, k, v)
    q, k, v = fused.dense_rows(q, k, v)
    plans = []
    for heads, part in split_heads(geometry):
        plan = make_band_plan(part, DENSE_BLOCK)
        plans.append((heads, plan))
    out = differentiable(q, k, v, bias, _Bands(plans))
    # Padded features are no part of the result.
    return out[..., :value_width].to(dtype)


class _Bands(Passes):
    """Base and bands; ``plans`` are pairs of some heads and their plan."""

    def __init__(self, plans: list[tuple[slice, BandPlan]]) -> None:
        self.plans = plans

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        # Bands are merged in float32 at least.
        work = torch.promote_types(q.dtype, torch.float32)
        out, lse = fused.empty_results(q, v, work)
        inputs = (q, out, lse, k, v, *_as_list(mask))
        for heads, plan in self.plans:
            head_inputs = [x[:, heads] for x in inputs]
            _forward(plan, *head_inputs)
        if mask is not None:
            fused.clear_hidden(out, lse)
        return out.to(q.dtype), lse

    def backward(self, grad: Tensor, saved: Saved) -> Gradients:
        q, k, v, mask, out, lse = saved
        # Gradients of several bands are added in float32 at least.
        dq, dk, dv = (x.new_empty(x.shape, dtype=lse.dtype) for x in (q, k, v))
        # A gradient may have any strides, such as those of an expanded tensor.
        (grad,) = fused.dense_rows(grad)
        inputs = (q, grad, out, lse, dq, k, v, dk, dv, *_as_list(mask))
        for heads, plan in self.plans:
            head_inputs = [x[:, heads] for x in inputs]
            _backward(plan, *head_inputs)
        return dq.to(q.dtype), dk.to(q.dtype), dv.to(q.dtype)


def _forward(
    plan: BandPlan, q: Tensor, out: Tensor, lse: Tensor, k: Tensor, v: Tensor, *bias: Tensor
) -> None:
    """Fill ``out`` and ``lse``; the bias is there where a mask hides keys."""
    operand = plan.scaled(q)
    tensors = [operand, out, lse, k, v, *bias]
    for inside in plan.dense:
        for blocks in _slices(inside.run, tensors):
            _dense_forward(inside, blocks, plan.causal)
    # The base comes first and fills; bands are merged into it.
    for band, run in plan.steps(operand):
        query_views = run.queries(operand, out, lse)
        key_views = run.keys(k, v, *bias)
        views = [*query_views, *key_views]
        for piece in _pieces(views):
            _band_forward(band, piece, fills=band is plan.base)


def _band_forward(band: Band, piece: list[Tensor], fills: bool) -> None:
    """Fill ``out`` and ``lse`` of a piece, or merge a band into them."""
    q, out, lse, k, v, *bias = piece
    key_bias = _along_keys(bias)
    part, part_lse = fused.forward(q, k, v, scale=band.scale, causal=band.causal, bias=key_bias)
    part_lse = part_lse.unsqueeze(3)
    if fills:
        out.copy_(part)
        lse.copy_(part_lse)
    else:
        part = part.to(out.dtype)
        _merge(out, lse, part, part_lse)


def _backward(plan: BandPlan, *tensors: Tensor) -> None:
    """Fill ``dq``, ``dk`` and ``dv``."""
    q, grad, out, lse, dq, k, v, dk, dv, *bias = tensors
    operand = plan.scaled(q)
    block_tensors = [operand, grad, out, lse, dq, k, v, dk, dv, *bias]
    for inside in plan.dense:
        for blocks in _slices(inside.run, block_tensors):
            _dense_backward(inside, blocks, plan.causal)
    for band, run in plan.steps(operand):
        query_views = run.queries(operand, grad, out, lse, dq)
        key_views = run.keys(k, v, dk, dv, *bias)
        views = [*query_views, *key_views]
        for piece in _pieces(views):
            _band_backward(band, piece, fills=band is plan.base)
    if plan.relative is not None:
        # The chain rule of the scaling of the queries.
        dq.mul_(plan.factors(dq))


def _band_backward(band: Band, piece: list[Tensor], fills: bool) -> None:
    """Fill ``dq``, ``dk`` and ``dv`` of a piece, or add a band to them."""
    q, grad, out, lse, dq, k, v, dk, dv, *bias = piece
    key_bias = _along_keys(bias)
    lse = lse.squeeze(3)
    part_dq, part_dk, part_dv = fused.backward(
        grad, q, k, v, out, lse, scale=band.scale, causal=band.causal, bias=key_bias
    )
    if fills:
        dq.copy_(part_dq)
        dk.copy_(part_dk)
        dv.copy_(part_dv)
        return
    # Features beyond the width are zeros that were put into q; their gradients do not count.
    width = band.width
    dq[..., :width] += part_dq[..., :width]
    dk[..., :width] += part_dk[..., :width]
    dv += part_dv


def _as_list(bias: Tensor | None) -> list[Tensor]:
    return [] if bias is None else [bias]


def _along_keys(bias: list[Tensor]) -> Tensor | None:
    """The bias of the scores with the keys on the last axis: [b h n 1] -> [b h 1 n]."""
    if not bias:
        return None
    return bias[0].transpose(2, 3)


def _merge(out: Tensor, lse: Tensor, part: Tensor, part_lse: Tensor) -> None:
    """Add further keys to the result of the keys so far (docs/mathematics.md, section 4)."""
    # The share of the further keys in the sum of all exponentials.
    log_odds = part_lse - lse
    share = torch.sigmoid(log_odds)
    out.lerp_(part, share)
    torch.logaddexp(lse, part_lse, out=lse)


def _pieces(views: list[Tensor]) -> Iterator[list[Tensor]]:
    """Views [B H count n F] as views of four axes, at most :data:`PIECE_BYTES` each.

    Batch and heads become one axis if all layouts allow; otherwise the shorter of batch and count
    is taken one by one.
    """
    batch, n_heads, count = views[0].shape[:3]
    # Sequences and heads become one axis without a copy where the strides allow it.
    mergeable = all(x.stride(0) == n_heads * x.stride(1) for x in views)
    parts: Iterable[list[Tensor]]
    if batch == 1 or n_heads == 1 or mergeable:
        parts = [[x.flatten(0, 1) for x in views]]
    elif batch < count:
        parts = ([x[i] for x in views] for i in range(batch))
    else:
        parts = ([x[:, :, i] for x in views] for i in range(count))
    for part in parts:
        n_rows = len(part[0])
        n_bytes = max(x.nbytes for x in part)
        n_pieces = math.ceil(n_bytes / PIECE_BYTES)
        length = math.ceil(n_rows / n_pieces)
        splits = [x.split(length) for x in part]
        for piece in zip(*splits, strict=True):
            yield list(piece)


def _slices(run: StretchRun, tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Views [b h count n F] of some blocks whose scores fit the cache."""
    views = run.queries(*tensors)
    batch, n_heads, count, length, _ = views[0].shape
    matrix_bytes = length * length * 4  # of float32
    n_matrices = max(1, SLICE_BYTES // matrix_bytes)
    n_blocks = max(1, min(count, n_matrices // n_heads))
    n_batch = 1
    if n_blocks == count:
        n_batch = max(1, n_matrices // (n_heads * count))
    for first in range(0, batch, n_batch):
        sequences = slice(first, first + n_batch)
        for block in range(0, count, n_blocks):
            blocks = slice(block, block + n_blocks)
            yield [x[sequences, :, blocks] for x in views]


def _side_by_side(x: Tensor, dtype: torch.dtype) -> Tensor:
    """[b h count n F] -> [1 b*h*count n F]."""
    return x.to(dtype).reshape(1, -1, *x.shape[3:])


def _dense_scores(
    inside: Inside, q: Tensor, k: Tensor, shares: Tensor | None, bias: list[Tensor], causal: bool
) -> Tensor:
    """Scores of blocks, [1 N n F] -> [N n n]."""
    _, n_blocks, length, _ = q.shape
    every_block = slice(0, n_blocks)
    scores = torch.empty(1, n_blocks, length, length, dtype=q.dtype, device=q.device)
    inside.blocks.scores(q, k, scores, every_block)
    if shares is not None:
        scores *= shares
    if bias:
        key_bias = _side_by_side(bias[0], q.dtype)
        scores += key_bias.transpose(2, 3)
    if causal:
        every_pair = torch.ones(length, length, dtype=torch.bool, device=q.device)
        later = every_pair.triu_(1)
        scores.masked_fill_(later, -torch.inf)
    return scores[0]


def _dense_forward(inside: Inside, blocks: list[Tensor], causal: bool) -> None:
    """Fill ``out`` and ``lse`` of some blocks [b h count n F]."""
    q, out, lse, k, v, *bias = blocks
    q = _side_by_side(q, lse.dtype)
    k = _side_by_side(k, lse.dtype)
    v = _side_by_side(v, lse.dtype)
    shares = inside.shares(q)
    scores = _dense_scores(inside, q, k, shares, bias, causal)
    # A softmax in place that also gives the log-sum-exp.
    maximum = scores.amax(dim=2, keepdim=True)
    weights = scores.sub_(maximum).exp_()
    total = weights.sum(dim=2, keepdim=True)
    attended = (weights @ v[0]).div_(total)
    out.copy_(attended.view(out.shape))
    log_total = total.log_().add_(maximum)
    lse.copy_(log_total.view(lse.shape))


def _dense_backward(inside: Inside, blocks: list[Tensor], causal: bool) -> None:
    """Fill ``dq``, ``dk`` and ``dv`` of some blocks [b h count n F]."""
    q, grad, out, lse, to_q, k, v, to_k, to_v, *bias = blocks
    inputs = (q, grad, out, lse, k, v)
    q, grad, out, lse, k, v = (_side_by_side(x, to_q.dtype) for x in inputs)
    grad = grad[0]
    shares = inside.shares(q)
    scores = _dense_scores(inside, q, k, shares, bias, causal)
    weights = scores.sub_(lse[0]).exp_()
    dv = weights.transpose(1, 2) @ grad
    to_v.copy_(dv.view(to_v.shape))
    # The gradient of a softmax subtracts the mean gradient of its weights from every row. That
    # mean is the dot product of the result and its gradient.
    means = (grad * out[0]).sum(dim=2, keepdim=True)
    weight_grads = grad @ v[0].transpose(1, 2)
    ds = weight_grads.sub_(means).mul_(weights)
    if shares is not None:
        ds *= shares
    # Zeros, because padded features of q and k have no part in the scores.
    dq = torch.zeros_like(q)
    dk = torch.zeros_like(k)
    every_block = slice(0, q.shape[1])
    inside.blocks.gradients(ds[None], q, k, dq, dk, every_block)
    to_q.copy_(dq.view(to_q.shape))
    to_k.copy_(dk.view(to_k.shape))
