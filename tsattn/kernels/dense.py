"""Exact attention by the plain, expanded and masked backends, in slices whose score matrices fit
the cache.

All three are one loop over slices of the batch. A slice is so small that its scores stay in the
cache between the product that makes them, the softmax, and the product that uses them; the backward
pass is written by hand for the same reason. A backend says only how the scores of a slice are made
and how their gradient goes back to q and k: *plain* is one product; *expanded* writes each level's
features of a token into the slot of the token's block, zeros into the other slots, and multiplies
these wide features; *masked* adds block products on the diagonal of the coarse scores
(docs/mathematics.md, section 4). Blocks need not be nested.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor

from tsattn.kernels.blocks import Blocks, Groups, at, fill, merge
from tsattn.kernels.geometry import EVERYBODY, Geometry, Levels

# Scores of one slice on a CPU, least and most: small enough for a shared cache, but no more than
# SLICES of them while that is possible, for every product ends with the threads waiting for one
# another.
SLICE_BYTES = (4 * 2**20, 16 * 2**20)
SLICES = 4
# The same on other devices, where launches cost more than traffic.
DEVICE_SLICE_BYTES = (256 * 2**20, 256 * 2**20)
# Rows of features of at least this size are read where they lie instead of being copied side by
# side.
WIDE_ROW_BYTES = 128
# Weights are kept for the backward pass up to this many bytes in all; beyond, they are computed
# again.
KEPT_BYTES = 256 * 2**20
# Masks of longer sequences are built for every call instead of being remembered.
REMEMBERED_PAIRS = 512 * 512


class Passes(ABC):
    """Forward and backward pass of one call, on tensors without a graph."""

    @abstractmethod
    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The result, and what the backward pass needs beside it: weights, log-sum-exps
        or nothing.
        """

    @abstractmethod
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
        """Gradients of q, k and v for that of the result."""


def differentiable(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, passes: Passes) -> Tensor:
    """The result of the forward pass, with the backward pass as its gradient.

    Args:
        q, k, v: As in :func:`tsattn.kernels.attention`, with one number of heads.
        mask: What the passes know about keys, not differentiated.
        passes: How both are computed.

    Raises:
        RuntimeError: If a second derivative is asked for.
    """
    result: Tensor = _Attention.apply(q, k, v, mask, passes)
    return result


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, passes: Passes
    ) -> Tensor:
        out, kept = passes.forward(q, k, v, mask)
        ctx.save_for_backward(q, k, v, mask, out, kept)
        ctx.passes = passes
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *_Gradients.apply(ctx.passes, grad, *ctx.saved_tensors), None, None


class _Gradients(torch.autograd.Function):
    """A function of its own, so that asking for its derivative is an error and not a
    silent zero.
    """

    @staticmethod
    def forward(
        ctx: Any, passes: Passes, grad: Tensor, *saved: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Nothing here may be narrowed by an autocast around the call of backward().
        with torch.autocast(grad.device.type, enabled=False):
            return passes.backward(grad, *saved)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> NoReturn:
        raise RuntimeError(
            "this backend has first derivatives only; for second ones take torch.func, such as its"
            " hessian, or call attention with backend='reference'"
        )


def _of(mask: Tensor, heads: slice) -> Tensor:
    """What a mask holds for some heads: [1 or H, ...]."""
    return mask if mask.shape[0] == 1 else mask[heads]


class _Slots:
    """Constants of the expanded backend: which wide feature copies which, and where it
    is not zero.
    """

    def __init__(self, geometry: Geometry, dtype: torch.dtype, device: torch.device) -> None:
        ranks = geometry.levels.ranks
        start = torch.arange(sum(ranks), dtype=torch.long, device=device).split(ranks)
        sources = []
        factors = []
        levels = []
        slots = []
        for level, n_slots in enumerate(geometry.n_slots):
            for slot in range(n_slots):
                sources.append(start[level])
                factors += [geometry.factors[level]] * ranks[level]
                levels += [level] * ranks[level]
                slots += [slot] * ranks[level]
        places = (torch.tensor(levels, device="cpu"), torch.tensor(slots, device="cpu"))
        in_slot = functools.partial(self._in_slot, geometry, *places)
        weight = torch.tensor(factors, dtype=dtype, device="cpu")
        first = geometry.n_keys - geometry.n_queries
        self.q_mask = (in_slot(torch.arange(first, geometry.n_keys, device="cpu")) * weight).to(
            device
        )  # [1 or H, Lq, R]
        self.k_mask = in_slot(torch.arange(geometry.n_keys, device="cpu")).to(
            device, dtype
        )  # [1 or H, Lk, R]
        self.spread = torch.eye(sum(ranks), dtype=dtype, device=device)[
            :, torch.cat(sources)
        ]  # [K R]

    @staticmethod
    def _in_slot(geometry: Geometry, levels: Tensor, slots: Tensor, positions: Tensor) -> Tensor:
        sizes = torch.tensor(geometry.block_sizes, device="cpu")[levels]
        masks = []
        for offset in geometry.levels.offsets:
            touched = [
                geometry.touched(level, offset)[0] for level in range(len(geometry.block_sizes))
            ]
            firsts = torch.tensor(touched, device="cpu")
            blocks = torch.div(positions[:, None] + offset, sizes, rounding_mode="floor")
            masks.append((blocks == firsts[levels] + slots) | (levels < geometry.n_global_levels))
        return torch.stack(masks)

    def widen(self, x: Tensor, mask: Tensor, heads: slice) -> Tensor:
        """[b h L K] -> [b h L R]."""
        wide = x.reshape(-1, x.shape[3]) @ self.spread
        return wide.view(*x.shape[:3], wide.shape[1]).mul_(_of(mask, heads))

    def narrow(self, wide: Tensor, mask: Tensor, heads: slice, target: Tensor) -> None:
        """The transpose of that, for gradients: only a token's own slots count."""
        own = wide.mul_(_of(mask, heads)).flatten(0, 2)
        target.copy_((own @ self.spread.T).view(target.shape))


class _Plan:
    """A backend and the masks that go with it, ready for every slice of a call."""

    def __init__(
        self,
        geometry: Geometry,
        backend: str,
        dtype: torch.dtype,
        device: torch.device,
        groups: tuple[Tensor, ...] | None = None,
    ) -> None:
        sizes = (geometry.n_queries, geometry.n_keys)
        self.slots = _Slots(geometry, dtype, device) if backend == "expanded" else None
        self.groups = None if groups is None else Groups(geometry, groups, dtype)
        if self.groups is not None:
            first = Levels(geometry.levels.ranks[:1], (max(sizes),), scales=geometry.factors[:1])
            self.blocks = Blocks(Geometry(*sizes, first))
        elif self.slots is not None:
            # Over the wide features this is ordinary attention, scales included.
            self.blocks = Blocks(Geometry(*sizes, Levels((geometry.width,), (max(sizes),))))
        else:
            self.blocks = Blocks(geometry)
        self.hidden: Tensor | None = None
        if geometry.pattern != EVERYBODY:
            self.hidden = ~geometry.pattern.mask(*sizes, device=device)
        # Whether a query may see nothing without a key mask.
        self.may_be_empty = self.hidden is not None and bool(self.hidden.all(dim=1).any())
        self.share: Tensor | None = None
        if geometry.levels.mean and self.groups is None:
            self.share = geometry.shares(dtype, device)

    def operands(self, q: Tensor, k: Tensor, here: tuple[slice, slice]) -> tuple[Tensor, Tensor]:
        """Queries and keys of a slice whose blocks are then multiplied."""
        if self.slots is None:
            return q[here], k[here]
        slots = self.slots
        heads = here[1]
        return slots.widen(q[here], slots.q_mask, heads), slots.widen(k[here], slots.k_mask, heads)

    def gradients(
        self, raw: Tensor, q: Tensor, k: Tensor, dq: Tensor, dk: Tensor, here: tuple[slice, slice]
    ) -> None:
        """Gradients of q and k of a slice from that of its softmax, where ``q`` and ``k`` are
        operands.
        """
        heads = here[1]
        share = self.share if self.groups is None else self.groups.share
        if share is not None:
            raw.mul_(_of(share, heads) if self.groups is None else at(share, here))
        if self.slots is None:
            self.blocks.gradients(raw, q, k, dq[here], dk[here], heads)
            if self.groups is not None:
                self.groups.gradients(raw, q, k, dq[here], dk[here], here)
            return
        wide_q = torch.empty_like(q)
        wide_k = torch.empty_like(k)
        self.blocks.gradients(raw, q, k, wide_q, wide_k, heads)
        self.slots.narrow(wide_q, self.slots.q_mask, heads, dq[here])
        self.slots.narrow(wide_k, self.slots.k_mask, heads, dk[here])

    def weights(
        self,
        q: Tensor,
        k: Tensor,
        key_mask: Tensor | None,
        here: tuple[slice, slice],
        raw: Tensor,
        out: Tensor,
    ) -> None:
        """Softmax weights of a slice into ``out``, by way of ``raw``; both [b h Lq Lk]."""
        sequences, heads = here
        seen = None if key_mask is None else key_mask[sequences, None, None, :]
        self.blocks.scores(q, k, raw, heads)
        if self.groups is not None:
            self.groups.add(q, k, raw, here)
        if self.share is not None:
            raw.mul_(_of(self.share, heads))
        if self.hidden is not None:
            raw.masked_fill_(self.hidden, -torch.inf)
        if seen is not None and not seen.all():
            raw.add_(torch.where(seen, 0.0, -torch.inf))  # faster than to fill
        torch.softmax(raw, dim=-1, out=out)
        if self.may_be_empty or (
            seen is not None and not (seen.any(3).all() and self.hidden is None)
        ):
            # A row of minus infinities has become NaN: nothing visible weighs nothing.
            for hidden in (self.hidden, None if seen is None else ~seen):
                if hidden is not None:
                    out.masked_fill_(hidden, 0.0)


def _build(
    geometry: Geometry,
    backend: str,
    dtype: torch.dtype,
    device: torch.device,
    groups: tuple[Tensor, ...] | None = None,
) -> _Plan:
    # A plan made inside inference mode would be refused later by autograd.
    with torch.inference_mode(False), torch.no_grad():
        return _Plan(geometry, backend, dtype, device, groups)


_remembered = functools.lru_cache(maxsize=64)(_build)


class _Slices(Passes):
    """The loop over slices, for inputs of float32 or wider; weights are kept for the backward pass,
    or made again.
    """

    def __init__(self, plan: _Plan, keep: bool) -> None:
        self.plan = plan
        self.keep = keep

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        shape = (*q.shape[:3], k.shape[2])
        out = _like(q, v.shape[3])
        kept = q.new_empty(shape) if self.keep else None
        for here, raw, weights in _walk(q, shape, kept):
            self.plan.weights(*self.plan.operands(q, k, here), mask, here, raw, weights)
            fill(out[here], weights.flatten(0, 1), merge(v[here]), 1.0)
        return out, kept

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
        dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
        # What the softmax takes off every row: the mean gradient of its weights, which is that of
        # the result.
        means = (grad * out).sum(dim=-1, keepdim=True)
        grad = _laid_out(grad, v)
        for here, raw, weights in _walk(q, (*q.shape[:3], k.shape[2]), kept):
            operands = self.plan.operands(q, k, here)
            if kept is None:
                self.plan.weights(*operands, mask, here, raw, weights)
            g = merge(grad[here])
            fill(dv[here], weights.flatten(0, 1).transpose(1, 2), g, 1.0)
            torch.bmm(g, merge(v[here]).transpose(1, 2), out=raw.flatten(0, 1))
            raw.sub_(means[here]).mul_(weights)
            self.plan.gradients(raw, *operands, dq, dk, here)
        return dq, dk, dv


# Index of the slice into the batch and the heads, room for raw scores, room for weights.
_Slice = tuple[tuple[slice, slice], Tensor, Tensor]


def _walk(q: Tensor, shape: tuple[int, ...], kept: Tensor | None) -> Iterator[_Slice]:
    """Slices of a call, the room for their scores used again by every one."""
    n_sequences, n_heads = _slice_size(q, shape)
    pairs = shape[2] * shape[3]
    room = [q.new_empty(n_sequences * n_heads * pairs) for _ in range(2 if kept is None else 1)]
    for first in range(0, shape[0], n_sequences):
        for head in range(0, shape[1], n_heads):
            here = (
                slice(first, min(first + n_sequences, shape[0])),
                slice(head, min(head + n_heads, shape[1])),
            )
            size = (here[0].stop - first, here[1].stop - head, shape[2], shape[3])
            raw, *weights = (x[: size[0] * size[1] * pairs].view(size) for x in room)
            yield here, raw, weights[0] if kept is None else kept[here]


def _slice_size(q: Tensor, shape: tuple[int, ...]) -> tuple[int, int]:
    """Sequences and heads of one slice."""
    batch, n_heads, n_queries, n_keys = shape
    pair_bytes = n_queries * n_keys * q.element_size()
    least, most = SLICE_BYTES if q.device.type == "cpu" else DEVICE_SLICE_BYTES
    room = max(1, min(max(batch * n_heads * pair_bytes // SLICES, least), most) // pair_bytes)
    if _by_token(q) and 8 * batch >= room:
        # Taken one at a time, heads that lie side by side need no copy.
        return min(batch, room), 1
    return max(1, min(batch, room // n_heads)), min(n_heads, room)


def _by_token(x: Tensor) -> bool:
    """Do the heads of a token lie side by side in memory, as they come from one projection?"""
    return x.stride(1) < x.stride(2)


def _laid_out(x: Tensor, like: Tensor) -> Tensor:
    """Narrow rows sequence by sequence in memory, wide ones as they are, since they are read well
    from anywhere.
    """
    return x if like.shape[3] * like.element_size() >= WIDE_ROW_BYTES else x.contiguous()


def _like(q: Tensor, n_features: int) -> Tensor:
    """Empty result [B H Lq V] in the layout of q."""
    batch, n_heads, length = q.shape[:3]
    if _by_token(q):
        return q.new_empty(batch, length, n_heads, n_features).transpose(1, 2)
    return q.new_empty(batch, n_heads, length, n_features)


def attention_dense(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    geometry: Geometry,
    backend: str,
    key_mask: Tensor | None = None,
    groups: tuple[Tensor, ...] | None = None,
) -> Tensor:
    """Attention by one of the backends ``plain``, ``expanded`` and ``masked``.

    Weights are kept for the backward pass while they are small, else made again. A second
    derivative is a RuntimeError.

    Args:
        q, k, v: As in :func:`tsattn.kernels.attention`, checked, with one number of heads.
        geometry: The rest of the call.
        backend: How scores are made; ``plain`` for one level.
        key_mask: True where a key may be seen [B Lk].
        groups: Parts of the levels after the first, for the masked backend.

    Returns:
        Attended values [B H Lq V] in the type of q, computed in float32 at least.

    Cost:
        For the scores B H Lq Lk (sum of r_l p_l) multiply-adds by ``expanded``, with p_l blocks
        that level l touches, and B H (sum over levels of r_l times the sum of its squared block
        lengths) by ``masked``.
    """
    work = torch.promote_types(q.dtype, torch.float32)
    pairs = geometry.n_queries * geometry.n_keys
    if groups is not None:  # other parts in every call: nothing to remember
        plan = _build(geometry, backend, work, q.device, groups)
    else:
        plan = (_remembered if pairs <= REMEMBERED_PAIRS else _build)(
            geometry, backend, work, q.device
        )
    learning = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    keep = learning and q.shape[0] * q.shape[1] * pairs * work.itemsize <= KEPT_BYTES
    dtype, (q, k, v) = q.dtype, (x.to(work) for x in (q, k, v))
    q, k, v = (_laid_out(x, x) for x in (q, k, v))
    return differentiable(q, k, v, key_mask, _Slices(plan, keep)).to(dtype)
