"""Exact attention by the plain, expanded and masked backends, in slices whose score matrices fit
the cache.

All three are one loop over slices of the batch. A slice is so small that its scores stay in the
cache between the product that makes them, the softmax, and the product that uses them. The backward
pass is written by hand for the same reason. A backend decides how the scores of a slice are made
and how their gradient goes back to q and k. *Plain* is one product. *Expanded* writes each level's
features of a token into the slot of the token's block and zeros into the other slots, and
multiplies these wide features. *Masked* adds block products on the diagonal of the coarse scores
(docs/mathematics.md, section 4). Blocks need not be nested.
"""

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor

from tsattn.kernels.blocks import Blocks, Groups, fill, mask_slice, merge
from tsattn.kernels.geometry import (
    EVERYBODY,
    Geometry,
    Gradients,
    KeyGroups,
    Levels,
    token_positions,
)

# Least and most bytes of the scores of one slice on a CPU: small enough for a shared cache.
SLICE_BYTES = (4 * 2**20, 16 * 2**20)
# Most slices of a call where the bytes allow it: threads wait for one another after every product.
SLICES = 4
# Least and most bytes on other devices, where launches cost more than memory traffic.
DEVICE_SLICE_BYTES = (256 * 2**20, 256 * 2**20)
# Least bytes of a row of features that is read in place; narrower rows are copied side by side.
WIDE_ROW_BYTES = 128
# Most bytes of weights that are kept for the backward pass; larger ones are computed again.
KEPT_BYTES = 256 * 2**20
# Most pairs of query and key whose masks are cached between calls.
CACHED_PAIRS = 512 * 512

# Sequences and heads of a slice, as an index into the first two axes.
_Index = tuple[slice, slice]
# A slice, a buffer for its raw scores, a buffer for its weights.
_Slice = tuple[_Index, Tensor, Tensor]


# q, k, v, the mask, the result, and what the forward pass gave besides; the mask and this may be
# None.
Saved = tuple[Any, ...]


class Passes(ABC):
    """Forward and backward pass of one call, on tensors without a graph."""

    @abstractmethod
    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The result, and what the backward pass needs besides: weights, log-sum-exps or
        nothing.
        """

    @abstractmethod
    def backward(self, grad: Tensor, saved: Saved) -> Gradients:
        """Gradients of q, k and v from that of the result."""


def differentiable(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, passes: Passes) -> Tensor:
    """The result of the forward pass, with the backward pass as its gradient.

    Args:
        q, k, v: As in :func:`tsattn.kernels.attention`, with one number of heads.
        mask: A tensor about the keys for both passes, not differentiated.
        passes: How both are computed.

    Raises:
        RuntimeError: If a second derivative is computed.
    """
    return _Attention.apply(q, k, v, mask, passes)


def empty_batch(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The result for a batch without sequences, which depends on all inputs as autograd expects.

    Args:
        q, k, v: As in :func:`tsattn.kernels.attention`, with one number of heads.
    """
    batch, n_heads, n_queries, _ = q.shape
    n_features = v.shape[3]
    result = v.new_empty(batch, n_heads, n_queries, n_features)
    # Sums of nothing are zero; they tie the result to all inputs, so that each has a gradient.
    return q.sum() + k.sum() + result * v.sum()


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, passes: Passes
    ) -> Tensor:
        out, stored = passes.forward(q, k, v, mask)
        ctx.save_for_backward(q, k, v, mask, out, stored)
        ctx.passes = passes
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        dq, dk, dv = _Gradients.apply(ctx.passes, grad, *ctx.saved_tensors)
        return dq, dk, dv, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> NoReturn:
        raise RuntimeError(
            "this backend has no forward-mode derivatives; call attention with backend='reference'"
        )


class _Gradients(torch.autograd.Function):
    """A separate function, so that its derivative is an error instead of a silent zero."""

    @staticmethod
    def forward(ctx: Any, passes: Passes, grad: Tensor, *saved: Any) -> Gradients:
        # An autocast around the call of backward() must not narrow anything.
        with torch.autocast(grad.device.type, enabled=False):
            return passes.backward(grad, saved)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> NoReturn:
        raise RuntimeError(
            "this backend has first derivatives only; for second ones call attention with"
            " backend='reference'"
        )


def _heads_of(mask: Tensor, heads: slice) -> Tensor:
    """The part of a mask [1|H ...] for some heads."""
    if mask.shape[0] == 1:
        return mask
    return mask[heads]


class _Slots:
    """Constants of the expanded backend: the feature that each wide feature copies, and the tokens
    where it is not zero. R is the number of wide features.
    """

    def __init__(self, geometry: Geometry, dtype: torch.dtype, device: torch.device) -> None:
        ranks = geometry.levels.ranks
        n_features = sum(ranks)
        # The masks are made on the CPU: many small steps would cost launches elsewhere.
        features_of_levels = torch.arange(n_features, device="cpu").split(ranks)
        sources = []
        levels = []
        slots = []
        for level, n_slots in enumerate(geometry.n_slots):
            level_slots = torch.arange(n_slots, device="cpu").repeat_interleave(ranks[level])
            sources.append(features_of_levels[level].repeat(n_slots))
            levels.append(torch.full_like(level_slots, level))
            slots.append(level_slots)
        level_of = torch.cat(levels)  # [R]
        slot_of = torch.cat(slots)  # [R]
        factor_of = torch.tensor(geometry.factors, dtype=dtype, device="cpu")[level_of]  # [R]
        queries, keys = token_positions(geometry.n_queries, geometry.n_keys, device="cpu")
        q_in_slot = self._in_slot(geometry, level_of, slot_of, queries)
        k_in_slot = self._in_slot(geometry, level_of, slot_of, keys)
        self.q_mask = (q_in_slot * factor_of).to(device)  # [1|H Lq R]
        self.k_mask = k_in_slot.to(device, dtype)  # [1|H Lk R]
        # A product with columns of the identity copies each feature to its slots.
        identity = torch.eye(n_features, dtype=dtype, device=device)
        columns = torch.cat(sources).to(device)
        self.spread = identity[:, columns]  # [K R]

    @staticmethod
    def _in_slot(
        geometry: Geometry, level_of: Tensor, slot_of: Tensor, positions: Tensor
    ) -> Tensor:
        """Whether a token lies in the block of a wide feature [1|H L R]."""
        block_sizes = torch.tensor(geometry.block_sizes, device="cpu")
        sizes = block_sizes[level_of]
        is_global = level_of < geometry.n_global_levels
        n_levels = len(geometry.block_sizes)
        masks = []
        for offset in geometry.levels.offsets:
            first_blocks = [geometry.touched(level, offset)[0] for level in range(n_levels)]
            first_of_level = torch.tensor(first_blocks, device="cpu")
            slot_blocks = first_of_level[level_of] + slot_of
            shifted = positions[:, None] + offset
            blocks = torch.div(shifted, sizes, rounding_mode="floor")
            masks.append((blocks == slot_blocks) | is_global)
        return torch.stack(masks)

    def widen(self, x: Tensor, mask: Tensor, heads: slice) -> Tensor:
        """Features in the slots of their tokens' blocks: [b h L K] -> [b h L R]."""
        rows = x.reshape(-1, x.shape[3])
        wide = rows @ self.spread
        n_wide = wide.shape[1]
        wide = wide.view(*x.shape[:3], n_wide)
        return wide.mul_(_heads_of(mask, heads))

    def narrow(self, wide: Tensor, mask: Tensor, heads: slice, target: Tensor) -> None:
        """The transpose of :meth:`widen`, for gradients: [b h L R] -> ``target`` [b h L K]."""
        in_slots = wide.mul_(_heads_of(mask, heads)).flatten(0, 2)
        # The sum over the slots of each feature.
        narrow = in_slots @ self.spread.T
        target.copy_(narrow.view(target.shape))


class _DensePlan:
    """A backend and its masks, ready for every slice of a call."""

    def __init__(
        self,
        geometry: Geometry,
        backend: str,
        dtype: torch.dtype,
        device: torch.device,
        groups: KeyGroups | None,
    ) -> None:
        sizes = (geometry.n_queries, geometry.n_keys)
        length = max(sizes)
        self.slots: _Slots | None = None
        self.groups: Groups | None = None
        if groups is not None:
            self.groups = Groups(geometry, groups, dtype)
            # The blocks compute the first level only.
            first_rank = geometry.levels.ranks[:1]
            levels = Levels(first_rank, (length,), scales=geometry.factors[:1])
            self.blocks = Blocks(Geometry(*sizes, levels))
        elif backend == "expanded":
            self.slots = _Slots(geometry, dtype, device)
            # Over the wide features this is ordinary attention, scales included.
            levels = Levels((geometry.width,), (length,))
            self.blocks = Blocks(Geometry(*sizes, levels))
        else:
            self.blocks = Blocks(geometry)
        self.hidden: Tensor | None = None
        if geometry.pattern != EVERYBODY:
            visible = geometry.pattern.mask(*sizes, device=device)
            self.hidden = ~visible  # [Lq Lk]
        # Whether a query may see nothing without a key mask.
        self.may_be_empty = self.hidden is not None and bool(self.hidden.all(dim=1).any())
        self.share: Tensor | None = None
        if self.groups is not None:
            self.share = self.groups.share  # [1|B 1|H Lq Lk]
        elif geometry.levels.mean:
            self.share = geometry.shares(dtype, device)[None]  # [1 1|H Lq Lk]

    def operands(self, q: Tensor, k: Tensor, index: _Index) -> tuple[Tensor, Tensor]:
        """Queries and keys of a slice whose blocks are then multiplied."""
        if self.slots is None:
            return q[index], k[index]
        heads = index[1]
        wide_q = self.slots.widen(q[index], self.slots.q_mask, heads)
        wide_k = self.slots.widen(k[index], self.slots.k_mask, heads)
        return wide_q, wide_k

    def gradients(
        self, raw: Tensor, q: Tensor, k: Tensor, dq: Tensor, dk: Tensor, index: _Index
    ) -> None:
        """Gradients of q and k of a slice from that of its softmax ``raw``, where ``q`` and ``k``
        are its operands.
        """
        heads = index[1]
        if self.share is not None:
            raw.mul_(mask_slice(self.share, index))
        to_q = dq[index]
        to_k = dk[index]
        if self.slots is None:
            self.blocks.gradients(raw, q, k, to_q, to_k, heads)
            if self.groups is not None:
                self.groups.gradients(raw, q, k, to_q, to_k, index)
            return
        wide_dq = torch.empty_like(q)
        wide_dk = torch.empty_like(k)
        self.blocks.gradients(raw, q, k, wide_dq, wide_dk, heads)
        self.slots.narrow(wide_dq, self.slots.q_mask, heads, to_q)
        self.slots.narrow(wide_dk, self.slots.k_mask, heads, to_k)

    def weights(
        self,
        q: Tensor,
        k: Tensor,
        key_mask: Tensor | None,
        index: _Index,
        raw: Tensor,
        out: Tensor,
    ) -> None:
        """Softmax weights of a slice into ``out``, by way of ``raw``; both [b h Lq Lk]."""
        sequences, heads = index
        self.blocks.scores(q, k, raw, heads)
        if self.groups is not None:
            self.groups.add(q, k, raw, index)
        if self.share is not None:
            raw.mul_(mask_slice(self.share, index))
        if self.hidden is not None:
            raw.masked_fill_(self.hidden, -torch.inf)
        may_be_empty = self.may_be_empty
        visible_keys = None
        if key_mask is not None:
            visible_keys = key_mask[sequences, None, None, :]  # [b 1 1 Lk]
            if not visible_keys.all():
                bias = torch.where(visible_keys, 0.0, -torch.inf)
                raw.add_(bias)  # faster than masked_fill_
            some_key = bool(visible_keys.any(3).all())
            may_be_empty = may_be_empty or self.hidden is not None or not some_key
        torch.softmax(raw, dim=-1, out=out)
        if may_be_empty:
            # The softmax of a row of minus infinities is NaN; its weights must be zero.
            if self.hidden is not None:
                out.masked_fill_(self.hidden, 0.0)
            if visible_keys is not None:
                out.masked_fill_(~visible_keys, 0.0)


def _build(
    geometry: Geometry,
    backend: str,
    dtype: torch.dtype,
    device: torch.device,
    groups: KeyGroups | None,
) -> _DensePlan:
    # Autograd refuses tensors that were made in inference mode, and a plan may be used outside it.
    with torch.inference_mode(False), torch.no_grad():
        return _DensePlan(geometry, backend, dtype, device, groups)


_build_cached = functools.lru_cache(maxsize=64)(_build)


class _Slices(Passes):
    """The loop over slices, for inputs of float32 or wider; weights are stored for the backward
    pass or computed again.
    """

    def __init__(self, plan: _DensePlan, stores_weights: bool) -> None:
        self.plan = plan
        self.stores_weights = stores_weights

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        shape = (*q.shape[:3], k.shape[2])
        n_features = v.shape[3]
        out = _empty_result(q, n_features)
        stored = q.new_empty(shape) if self.stores_weights else None
        for index, raw, weights in _walk(q, shape, stored):
            operands = self.plan.operands(q, k, index)
            self.plan.weights(*operands, mask, index, raw, weights)
            values = merge(v[index])
            flat_weights = weights.flatten(0, 1)
            fill(out[index], flat_weights, values, 1.0)
        return out, stored

    def backward(self, grad: Tensor, saved: Saved) -> Gradients:
        q, k, v, mask, out, stored = saved
        dq = torch.empty_like(q)
        dk = torch.empty_like(k)
        dv = torch.empty_like(v)
        # The gradient of a softmax subtracts the mean gradient of its weights from every row. That
        # mean is the dot product of the result and its gradient.
        means = (grad * out).sum(dim=-1, keepdim=True)
        grad = _lay_out(grad)
        shape = (*q.shape[:3], k.shape[2])
        for index, raw, weights in _walk(q, shape, stored):
            operands = self.plan.operands(q, k, index)
            if stored is None:
                self.plan.weights(*operands, mask, index, raw, weights)
            slice_grad = merge(grad[index])
            values = merge(v[index])
            flat_weights = weights.flatten(0, 1)
            fill(dv[index], flat_weights.transpose(1, 2), slice_grad, 1.0)
            # The gradient of the weights takes the place of the raw scores.
            flat_raw = raw.flatten(0, 1)
            torch.bmm(slice_grad, values.transpose(1, 2), out=flat_raw)
            raw.sub_(means[index]).mul_(weights)
            self.plan.gradients(raw, *operands, dq, dk, index)
        return dq, dk, dv


def _walk(q: Tensor, shape: tuple[int, ...], stored: Tensor | None) -> Iterator[_Slice]:
    """Slices of scores of this shape (B, H, Lq, Lk); all of them use the same buffers.

    The weights lie in ``stored`` where it is given.
    """
    batch, n_heads, n_queries, n_keys = shape
    slice_batch, slice_heads = _slice_size(q, shape)
    n_scores = slice_batch * slice_heads * n_queries * n_keys
    raw_buffer = q.new_empty(n_scores)
    weights_buffer = q.new_empty(n_scores if stored is None else 0)
    for first in range(0, batch, slice_batch):
        for head in range(0, n_heads, slice_heads):
            stop = min(first + slice_batch, batch)
            stop_head = min(head + slice_heads, n_heads)
            index = (slice(first, stop), slice(head, stop_head))
            size = (stop - first, stop_head - head, n_queries, n_keys)
            n_slice_scores = math.prod(size)
            raw = raw_buffer[:n_slice_scores].view(size)
            if stored is not None:
                yield index, raw, stored[index]
                continue
            weights = weights_buffer[:n_slice_scores].view(size)
            yield index, raw, weights


def _slice_size(q: Tensor, shape: tuple[int, ...]) -> tuple[int, int]:
    """Sequences and heads of one slice."""
    batch, n_heads, n_queries, n_keys = shape
    matrix_bytes = n_queries * n_keys * q.element_size()
    bounds = SLICE_BYTES if q.device.type == "cpu" else DEVICE_SLICE_BYTES
    least_bytes, most_bytes = bounds
    all_bytes = batch * n_heads * matrix_bytes
    slice_bytes = all_bytes // SLICES
    slice_bytes = min(max(slice_bytes, least_bytes), most_bytes)
    n_matrices = max(1, slice_bytes // matrix_bytes)
    if _heads_are_adjacent(q) and 8 * batch >= n_matrices:
        # A slice of one head needs no copy where the heads of a token are adjacent.
        return min(batch, n_matrices), 1
    n_heads_of_slice = min(n_heads, n_matrices)
    n_sequences = max(1, min(batch, n_matrices // n_heads))
    return n_sequences, n_heads_of_slice


def _heads_are_adjacent(x: Tensor) -> bool:
    """Whether the heads of a token are adjacent in memory, as one projection returns them."""
    return x.stride(1) < x.stride(2)


def _lay_out(x: Tensor) -> Tensor:
    """A contiguous copy where rows are narrow; wide rows are read well in place."""
    row_bytes = x.shape[3] * x.element_size()
    if row_bytes >= WIDE_ROW_BYTES:
        return x
    return x.contiguous()


def _empty_result(q: Tensor, n_features: int) -> Tensor:
    """Empty result [B H Lq V] in the layout of q."""
    batch, n_heads, length, _ = q.shape
    if _heads_are_adjacent(q):
        # The heads of a token side by side, as those of q are.
        adjacent = q.new_empty(batch, length, n_heads, n_features)
        return adjacent.transpose(1, 2)
    return q.new_empty(batch, n_heads, length, n_features)


def attention_dense(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    geometry: Geometry,
    backend: str,
    key_mask: Tensor | None = None,
    groups: KeyGroups | None = None,
) -> Tensor:
    """Attention by one of the backends ``plain``, ``expanded`` and ``masked``.

    Small weights are stored for the backward pass, large ones are computed again. A second
    derivative is a RuntimeError.

    Args:
        q, k, v: As in :func:`tsattn.kernels.attention`, checked, with one number of heads.
        geometry: The rest of the call.
        backend: How scores are made; ``plain`` for one level.
        key_mask: True where a key may be seen [B Lk].
        groups: Groups of the levels after the first, for the masked backend.

    Returns:
        Attended values [B H Lq V] in the type of q, computed in float32 at least.

    Cost:
        For the scores B H Lq Lk (sum of r_l p_l) multiply-adds by ``expanded``, with p_l blocks
        that level l touches, and B H (sum over levels of r_l times the sum of its squared block
        lengths) by ``masked``.
    """
    dtype = q.dtype
    work = torch.promote_types(dtype, torch.float32)
    n_pairs = geometry.n_queries * geometry.n_keys
    # Groups differ from call to call, so there is nothing to cache.
    is_cached = groups is None and n_pairs <= CACHED_PAIRS
    build = _build_cached if is_cached else _build
    plan = build(geometry, backend, work, q.device, groups)
    some_requires_grad = any(x.requires_grad for x in (q, k, v))
    needs_gradients = torch.is_grad_enabled() and some_requires_grad
    n_matrices = q.shape[0] * q.shape[1]
    weights_bytes = n_matrices * n_pairs * work.itemsize
    stores_weights = needs_gradients and weights_bytes <= KEPT_BYTES
    slices = _Slices(plan, stores_weights=stores_weights)
    q, k, v = (_lay_out(x.to(work)) for x in (q, k, v))
    out = differentiable(q, k, v, key_mask, slices)
    return out.to(dtype)
