"""Exact attention within a sliding window by chunks, in time and memory that grow with length times
window.

A chunk is some neighbouring queries, the stretch of keys that their windows reach, and the leading
global keys; a fused kernel computes it. A mask by position cuts the stretch to the window of each
query. Global queries see all keys and are a chunk of their own.
"""

from collections.abc import Iterator
from dataclasses import dataclass

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

# Least and most queries of a chunk. Short chunks compute few pairs outside the windows, long ones
# need fewer calls of a kernel.
CHUNKS = (64, 256)
# Chunks in a window, between these bounds.
CHUNKS_PER_WINDOW = 4
# Most bytes of masks that differ by sequence at one time.
MASK_BYTES = 4 * 2**20


def window_refusal(geometry: Geometry) -> str | None:
    """Why chunks cannot compute a call, for an error message, or ``None`` when they can.

    Args:
        geometry: The call.

    Returns:
        One line that names the obstacle, and the backends that serve the call.
    """
    levels = geometry.levels
    if geometry.grouped:
        return (
            "the windowed backend needs contiguous blocks; got levels by groups; use the reference"
            " or masked backend"
        )
    if geometry.pattern.window is None:
        return "the windowed backend needs a window; got None; give one, or use auto"
    if field := geometry.pattern.beyond("causal", "window", "n_global"):
        return (
            f"the windowed backend serves no other pattern; got {field}; use the reference backend"
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
    q: Queries,
    k: HeadKeys,
    v: HeadValues,
    *,
    geometry: Geometry,
    key_mask: KeyMask | None = None,
) -> Attended:
    """Attention to the keys of a sliding window, and to leading global ones.

    The result has first derivatives only.

    Args:
        geometry: Window, global tokens, scales and the rest of the call, for which
            :func:`window_refusal` returns ``None``.
        key_mask: True where a key may be seen.

    Returns:
        Attended values in the type of q, computed in float32 at least; rows with no visible key are
        zero.

    Cost:
        B H L (W + c + G) (K + V) multiply-adds, the window counted on both sides unless causal, for
        W keys of a window, chunks of c queries and G global tokens, and B H G L (K + V) more for
        these; memory O(B H L (K + V)).
    """
    dtype = q.dtype
    value_width = v.shape[3]
    if not len(q):
        return empty_batch(q, k, v)
    if dtype == torch.float16:
        q, k, v = (x.float() for x in (q, k, v))  # HIDDEN is beyond the range of float16
    scale = geometry.positive_factor
    relative = geometry.relative_factors
    if relative is not None:
        factors = torch.tensor(relative, dtype=q.dtype, device=q.device)
        q = q * factors
    if geometry.levels.mean:
        # Every pair shares all levels.
        scale /= len(geometry.levels.ranks)
    q, k, v = fused.dense_rows(*fused.pad(q, k, v))
    chunks = _Chunks(geometry, scale)
    out = differentiable(q, k, v, key_mask, chunks)
    return out[..., :value_width].to(dtype)


@dataclass(frozen=True)
class _Chunk:
    """Some queries and the keys they see.

    Args:
        rows: The queries.
        n_global: Leading keys that all of them see.
        near: Further keys.
        banded: Whether a query sees only the further keys in its window.
        causal: Queries and keys are the same tokens, and none sees a later one.
    """

    rows: slice
    n_global: int
    near: slice
    banded: bool = True
    causal: bool = False

    @property
    def n_near(self) -> int:
        """Number of further keys."""
        return int(self.near.stop - self.near.start)

    def keys(self, x: Tensor) -> Tensor:
        """Rows of the keys [B H L F], side by side."""
        if not self.n_global:
            return x[:, :, self.near]
        if self.n_global == self.near.start:
            return x[:, :, : self.near.stop]
        global_keys = x[:, :, : self.n_global]
        near_keys = x[:, :, self.near]
        return torch.cat([global_keys, near_keys], dim=2)

    def add(self, x: Tensor, part: Tensor) -> None:
        """Add ``part``, in the order of :meth:`keys`, to the rows of the keys."""
        global_rows = x[:, :, : self.n_global]
        global_rows += part[:, :, : self.n_global]
        near_rows = x[:, :, self.near]
        near_rows += part[:, :, self.n_global :]


def _chunks(geometry: Geometry, window: int) -> Iterator[_Chunk]:
    """Chunks that cover each query once."""
    causal = geometry.pattern.causal
    length = geometry.n_queries
    n_global = min(geometry.pattern.n_global, length)
    if n_global:
        all_keys = slice(0, n_global if causal else length)
        yield _Chunk(slice(0, n_global), 0, all_keys, banded=False, causal=causal)
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
    """Biases that hide keys from the queries of a chunk."""

    def __init__(self, geometry: Geometry, window: int, like: Tensor) -> None:
        self.window = window
        causal = geometry.pattern.causal
        n_rows = min(chunk_length(window), geometry.n_queries)
        # The first query of a chunk sees window - 1 keys before itself; the last one sees as many
        # behind itself unless causal.
        n_behind = 0 if causal else window - 1
        n_columns = window - 1 + n_rows + n_behind
        # Positions relative to the first query of a chunk.
        rows = torch.arange(n_rows, device=like.device)[:, None]
        columns = torch.arange(n_columns, device=like.device) - (window - 1)
        distance = columns - rows
        too_early = distance <= -window
        too_late = distance > 0 if causal else distance >= window
        hidden = too_early | too_late
        band = torch.zeros(n_rows, n_columns, dtype=like.dtype, device=like.device)
        self.band = band.masked_fill_(hidden, fused.HIDDEN)

    def bias(self, chunk: _Chunk, key_mask: Tensor | None) -> Tensor | None:
        """Zeros and :data:`fused.HIDDEN` [1|b 1 1|rows keys], or ``None`` where all keys are
        visible.
        """
        band = None
        if chunk.banded:
            first_row = chunk.rows.start
            n_rows = chunk.rows.stop - first_row
            # The first column of the band is the first key in the window of the first query.
            first_key = first_row - self.window + 1
            first_column = chunk.near.start - first_key
            columns = slice(first_column, first_column + chunk.n_near)
            near_band = self.band[:n_rows, columns]
            # Global keys are visible to all.
            band = torch.nn.functional.pad(near_band, (chunk.n_global, 0))
            band = band[None, None]
        if key_mask is None:
            return band
        mask_rows = key_mask[:, None, :, None]
        visible = chunk.keys(mask_rows).transpose(2, 3)
        hidden = ~visible  # [b 1 1 keys]
        if band is None:
            band = torch.zeros(hidden.shape, dtype=self.band.dtype, device=hidden.device)
        return band.masked_fill(hidden, fused.HIDDEN)


def _walk(
    geometry: Geometry, key_mask: Tensor | None, queries: list[Tensor], keys: list[Tensor]
) -> Iterator[tuple[_Chunk, list[Tensor], list[Tensor], Tensor | None]]:
    """Each chunk with its rows of the queries' tensors, the whole tensors of the keys, and its
    bias.

    A chunk has all sequences at once, or a few at a time where a key mask makes their biases
    differ.
    """
    assert geometry.pattern.window is not None  # window_refusal has seen to it
    window = min(geometry.pattern.window, geometry.n_keys)
    masks = _Masks(geometry, window, queries[0])
    batch = len(queries[0])
    for chunk in _chunks(geometry, window):
        rows = [x[:, :, chunk.rows] for x in queries]
        if key_mask is None:
            yield chunk, rows, keys, masks.bias(chunk, None)
            continue
        n_rows = rows[0].shape[2]
        n_keys = chunk.n_global + chunk.n_near
        bias_bytes = n_rows * n_keys * masks.band.element_size()  # of one sequence
        n_batch = max(1, MASK_BYTES // bias_bytes)
        for first in range(0, batch, n_batch):
            part = slice(first, first + n_batch)
            bias = masks.bias(chunk, key_mask[part])
            part_rows = [x[part] for x in rows]
            part_keys = [x[part] for x in keys]
            yield chunk, part_rows, part_keys, bias


class _Chunks(Passes):
    """The loop over chunks."""

    def __init__(self, geometry: Geometry, scale: float) -> None:
        self.geometry = geometry
        self.scale = scale

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        out, lse = fused.empty_results(q, v, q.dtype)
        steps = _walk(self.geometry, mask, [q, out, lse], [k, v])
        for chunk, rows, keys, bias in steps:
            chunk_q, chunk_out, chunk_lse = rows
            chunk_k, chunk_v = (chunk.keys(x) for x in keys)
            part, part_lse = fused.forward(
                chunk_q, chunk_k, chunk_v, scale=self.scale, causal=chunk.causal, bias=bias
            )
            chunk_out.copy_(part)
            chunk_lse.copy_(part_lse.unsqueeze(3))
        if mask is not None:
            fused.clear_hidden(out, lse)
        return out, lse

    def backward(self, grad: Tensor, saved: Saved) -> Gradients:
        q, k, v, mask, out, lse = saved
        dq = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        dk = torch.zeros(k.shape, dtype=lse.dtype, device=k.device)
        dv = torch.zeros(v.shape, dtype=lse.dtype, device=v.device)
        (grad,) = fused.dense_rows(grad)
        of_queries = [q, grad, out, lse, dq]
        of_keys = [k, v, dk, dv]
        steps = _walk(self.geometry, mask, of_queries, of_keys)
        for chunk, rows, keys, bias in steps:
            chunk_q, chunk_grad, chunk_out, chunk_lse, to_q = rows
            all_k, all_v, to_k, to_v = keys
            part_dq, part_dk, part_dv = fused.backward(
                chunk_grad,
                chunk_q,
                chunk.keys(all_k),
                chunk.keys(all_v),
                chunk_out,
                chunk_lse.squeeze(3),
                scale=self.scale,
                causal=chunk.causal,
                bias=bias,
            )
            to_q.copy_(part_dq)
            chunk.add(to_k, part_dk)
            chunk.add(to_v, part_dv)
        return dq, dk.to(k.dtype), dv.to(v.dtype)
