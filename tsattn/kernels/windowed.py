"""Exact attention within a sliding window by chunks, in time and memory that grow with length times
window.

Queries are taken in chunks of neighbours, each with the stretch of keys that its windows reach and
the leading global keys, by a fused kernel. A mask by position cuts the stretch to the window of
each query. Global queries see all keys and are a chunk of their own.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tsattn.kernels import fused
from tsattn.kernels.dense import Passes, differentiable
from tsattn.kernels.geometry import Geometry

# Least and most queries of a chunk, and how many there are to a window in between: few waste no
# pairs outside the windows, many keep the kernel busy.
CHUNKS = (64, 256)
CHUNKS_PER_WINDOW = 4
# Masks that differ by sequence are made for so much at a time.
MASK_BYTES = 4 * 2**20


def window_refusal(geometry: Geometry) -> str | None:
    """Why chunks cannot compute a call, in words for an error, or ``None`` when they can.

    Args:
        geometry: The call.

    Returns:
        One line that names the obstacle, and which backends serve it.
    """
    levels = geometry.levels
    if geometry.grouped:
        return (
            "the windowed backend needs contiguous blocks; got levels by groups; use the reference"
            " or masked backend"
        )
    if geometry.pattern.window is None:
        return "the windowed backend needs a window; got None; give one, or use auto"
    if asked := geometry.pattern.beyond("causal", "window", "n_global"):
        return (
            f"the windowed backend serves no other pattern; got {asked}; use the reference backend"
        )
    if not geometry.one_level:
        return (
            f"the windowed backend serves one level that all pairs share; got ranks {levels.ranks}"
            f" with blocks of {geometry.block_sizes} tokens; use the reference, expanded or masked"
            " backend"
        )
    if geometry.n_queries != geometry.n_keys:
        return (
            f"the windowed backend needs as many queries as keys; got {geometry.n_queries} and"
            f" {geometry.n_keys}; use auto"
        )
    return None


def attention_windowed(
    q: Float[Tensor, "B H L K"],
    k: Float[Tensor, "B H Lk K"],
    v: Float[Tensor, "B H Lk V"],
    *,
    geometry: Geometry,
    key_mask: Bool[Tensor, "B Lk"] | None = None,
) -> Float[Tensor, "B H L V"]:
    """Attention to the keys of a sliding window, and to leading global ones.

    The result has first derivatives only.

    Args:
        geometry: Window, global tokens, scales and the rest of the call.
        key_mask: True where a key may be seen.

    Returns:
        Attended values in the type of q, computed in float32 at least; rows with no visible key are
        zero.

    Raises:
        ValueError: If there is no window, more than one level, or not as many queries as keys.

    Cost:
        B H L (W + c + G) (K + V) multiply-adds, the window counted on both sides unless causal, for
        W keys of a window, chunks of c queries and G global tokens, and B H G L (K + V) more for
        these; memory O(B H L (K + V)).
    """
    if torch.compiler.is_compiling():
        # A loop over chunks and a choice of kernels at run time are nothing for a compiler: it goes
        # around them.
        return torch.compiler.disable(_attend)(q, k, v, key_mask, geometry)
    return _attend(q, k, v, key_mask, geometry)


def _attend(q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, geometry: Geometry) -> Tensor:
    reason = window_refusal(geometry)
    if reason is not None:
        raise ValueError(reason)
    dtype = q.dtype
    width = v.shape[3]
    if not len(q):
        return q.sum() + k.sum() + v.new_empty(*q.shape[:3], width) * v.sum()
    if dtype == torch.float16:
        q, k, v = (x.float() for x in (q, k, v))  # its range does not hold what hides a key
    scale = next((factor for factor in geometry.factors if factor > 0), 1.0)
    if set(geometry.factors) != {scale}:
        pairs = zip(geometry.levels.ranks, geometry.factors, strict=True)
        relative = [factor / scale for rank, factor in pairs for _ in range(rank)]
        q = q * torch.tensor(relative, dtype=q.dtype, device=q.device)
    if geometry.levels.mean:
        scale /= len(geometry.levels.ranks)
    q, k, v = fused.dense_rows(*fused.pad(q, k, v))
    return differentiable(q, k, v, key_mask, _Chunks(geometry, scale))[..., :width].to(dtype)


@dataclass(frozen=True)
class _Chunk:
    """Some queries and the keys they see."""

    rows: slice  # the queries
    n_global: int  # leading keys that all of them see
    near: slice  # further keys
    banded: bool = True  # of the further keys, only those in a query's window are seen
    causal: bool = False  # queries and keys are the same tokens in order, and none sees a later one

    def keys(self, x: Tensor) -> Tensor:
        """Rows of the keys [B H L F], side by side."""
        if not self.n_global:
            return x[:, :, self.near]
        if self.n_global == self.near.start:
            return x[:, :, : self.near.stop]
        return torch.cat([x[:, :, : self.n_global], x[:, :, self.near]], dim=2)

    def add(self, x: Tensor, part: Tensor) -> None:
        """Add to the rows of the keys what :meth:`keys` has side by side."""
        x[:, :, : self.n_global] += part[:, :, : self.n_global]
        x[:, :, self.near] += part[:, :, self.n_global :]


def _chunks(geometry: Geometry, window: int) -> Iterator[_Chunk]:
    """All queries, each once."""
    causal = geometry.pattern.causal
    length = geometry.n_queries
    n_global = min(geometry.pattern.n_global, length)
    if n_global:
        everything = slice(0, n_global if causal else length)
        yield _Chunk(slice(0, n_global), 0, everything, banded=False, causal=causal)
    size = chunk_length(window)
    for start in range(n_global, length, size):
        stop = min(start + size, length)
        low = max(start - window + 1, n_global)
        high = stop if causal else min(stop + window - 1, length)
        yield _Chunk(slice(start, stop), n_global, slice(low, high))


def chunk_length(window: int) -> int:
    """Queries of one chunk.

    Args:
        window: Keys of a window.

    Returns:
        A part of the window, within bounds.
    """
    least, most = CHUNKS
    return min(max(window // CHUNKS_PER_WINDOW, least), most)


class _Masks:
    """What is added to the scores of a chunk."""

    def __init__(self, geometry: Geometry, window: int, like: Tensor) -> None:
        self.window, causal = window, geometry.pattern.causal
        # Of the first query of a chunk and its successors, to the first key it sees and its
        # successors.
        size = min(chunk_length(window), geometry.n_queries)
        reach = size + window - 1 if causal else size + 2 * window - 2
        ahead = torch.arange(reach, device=like.device) - (window - 1)
        distance = ahead - torch.arange(size, device=like.device)[:, None]
        unseen = (distance <= -window) | (distance > 0 if causal else distance >= window)
        self.band = torch.zeros(size, reach, dtype=like.dtype, device=like.device).masked_fill_(
            unseen, fused.HIDDEN
        )

    def of(self, chunk: _Chunk, key_mask: Tensor | None) -> Tensor | None:
        """Zeros and :data:`fused.HIDDEN`, [1 or b 1 1 or rows keys]."""
        band = None
        if chunk.banded:
            first = chunk.rows.start - self.window + 1
            band = self.band[
                : chunk.rows.stop - chunk.rows.start,
                chunk.near.start - first : chunk.near.stop - first,
            ]
            band = torch.nn.functional.pad(band, (chunk.n_global, 0))[None, None]
        if key_mask is None:
            return band
        unseen = ~chunk.keys(key_mask[:, None, :, None]).transpose(2, 3)
        if band is None:
            return torch.zeros(
                unseen.shape, dtype=self.band.dtype, device=unseen.device
            ).masked_fill_(unseen, fused.HIDDEN)
        return band.masked_fill(unseen, fused.HIDDEN)


def _walk(
    geometry: Geometry, key_mask: Tensor | None, queries: list[Tensor], keys: list[Tensor]
) -> Iterator[tuple[_Chunk, list[Tensor], list[Tensor], Tensor | None]]:
    """Each chunk with its rows of the queries' tensors, the keys' tensors whole, and its mask.

    One for all sequences, or a few sequences at a time where their masks differ.
    """
    window = min(geometry.pattern.window or 1, geometry.n_keys)
    masks = _Masks(geometry, window, queries[0])
    batch = len(queries[0])
    for chunk in _chunks(geometry, window):
        rows = [x[:, :, chunk.rows] for x in queries]
        if key_mask is None:
            yield chunk, rows, keys, masks.of(chunk, None)
            continue
        pairs = rows[0].shape[2] * (chunk.n_global + chunk.near.stop - chunk.near.start)
        n_batch = max(1, MASK_BYTES // (pairs * masks.band.element_size()))
        for first in range(0, batch, n_batch):
            some = slice(first, first + n_batch)
            yield (
                chunk,
                [x[some] for x in rows],
                [x[some] for x in keys],
                masks.of(chunk, key_mask[some]),
            )


class _Chunks(Passes):
    """The loop over chunks."""

    def __init__(self, geometry: Geometry, scale: float) -> None:
        self.geometry = geometry
        self.scale = scale

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        work = torch.promote_types(q.dtype, torch.float32)
        out = torch.empty(*q.shape[:3], v.shape[3], dtype=q.dtype, device=q.device)
        lse = torch.empty(*q.shape[:3], 1, dtype=work, device=q.device)
        for chunk, (a, o, s), (b, c), bias in _walk(self.geometry, mask, [q, out, lse], [k, v]):
            part, part_lse = fused.forward(
                a, chunk.keys(b), chunk.keys(c), scale=self.scale, causal=chunk.causal, bias=bias
            )
            o.copy_(part)
            s.copy_(part_lse.unsqueeze(3))
        if mask is not None:
            fused.clear_hidden(out, lse)
        return out, lse

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
        dq = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        dk, dv = (torch.zeros(x.shape, dtype=kept.dtype, device=x.device) for x in (k, v))
        (grad,) = fused.dense_rows(grad)
        steps = _walk(self.geometry, mask, [q, grad, out, kept, dq], [k, v, dk, dv])
        for chunk, (a, g, o, s, to_q), (b, c, to_k, to_v), bias in steps:
            part_q, *parts = fused.backward(
                *(g, a, chunk.keys(b), chunk.keys(c), o, s.squeeze(3)),
                scale=self.scale,
                causal=chunk.causal,
                bias=bias,
            )
            to_q.copy_(part_q)
            for target, part in zip((to_k, to_v), parts, strict=True):
                chunk.add(target, part)
        return dq, dk.to(k.dtype), dv.to(v.dtype)
