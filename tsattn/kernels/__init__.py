"""Which way computes this attention? The one door to all kernels: arguments are checked here, once."""

import functools
import warnings
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tsattn.kernels.bands import attention_bands
from tsattn.kernels.decode import decode
from tsattn.kernels.dense import attend, attention_expanded, attention_masked
from tsattn.kernels.fused import pad
from tsattn.kernels.geometry import Geometry, make_geometry
from tsattn.kernels.partition import refusal
from tsattn.kernels.reference import (
    attention_mask,
    attention_reference,
    default_block_sizes,
    expand_heads,
    level_scores,
    weights_reference,
)
from tsattn.kernels.windowed import attention_windowed, window_refusal

__all__ = [
    "attention",
    "attention_bands",
    "attention_expanded",
    "attention_mask",
    "attention_masked",
    "attention_reference",
    "attention_weights",
    "attention_windowed",
    "available_backends",
    "decode",
    "default_block_sizes",
    "level_scores",
    "mlr_attention",
]

# What can be forced.
BACKENDS = ("auto", "reference", "expanded", "masked", "dense", "bands", "windowed")
# Up to this many numbers in a row of wide features, the expanded way costs less than block products.
EXPANDED_WIDTH = 32
# From this many keys on, torch's fused kernel beats three products over slices for ordinary attention.
FUSED_LENGTH = 96
# From this many keys on, fused kernels over bands beat products over slices for level scores.
BANDS_LENGTH = 768
# From this many keys on, chunks of a sliding window beat products over slices.
WINDOWED_LENGTH = 256
# From more keys than this on, level scores that bands cannot serve are worth a warning.
WARN_LENGTH = 4096


def available_backends() -> tuple[str, ...]:
    """Names that ``attention(backend=...)`` takes.

    Example:
        >>> available_backends()
        ('auto', 'reference', 'expanded', 'masked', 'dense', 'bands', 'windowed')
    """
    return BACKENDS


def attention(
    q: Float[Tensor, "B H Lq K"],
    k: Float[Tensor, "B Hk Lk K"],
    v: Float[Tensor, "B Hv Lk V"],
    *,
    ranks: tuple[int, ...] | None = None,
    block_sizes: tuple[int, ...] | None = None,
    offset: int | tuple[int, ...] = 0,
    groups: tuple[Int[Tensor, "... Lk"], ...] | None = None,
    level_scales: tuple[float, ...] | None = None,
    mean_levels: bool = False,
    causal: bool = False,
    window: int | None = None,
    n_global: int = 0,
    key_mask: Bool[Tensor, "B Lk"] | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Float[Tensor, "B H Lq V"]:
    """Softmax attention, exact, with optional distance-dependent levels.

    Computes ``softmax(S + mask) @ v`` with ``S`` of docs/mathematics.md, section 3, after Kuang et al. 2025
    (arXiv 2509.07963). Half-precision inputs are computed in float32. Query heads may share keys and values: query
    head h uses key head ``h // (H // Hk)`` and value head ``h // (H // Hv)``.

    Args:
        q: Queries of H heads.
        k: Keys of Hk heads; Hk divides H.
        v: Values of Hv heads; Hv divides H.
        ranks: Features per level, coarse to fine, summing to K. ``None`` is ordinary attention.
        block_sizes: Tokens per block at each level, non-increasing; the first covers the sequence. Default: halving
            sizes by :func:`default_block_sizes` of the longer of Lq and Lk.
        offset: Shift of the block grid in tokens, at least 0, for all heads or one per head.
        groups: Instead of blocks, any partition of the positions: one tensor of integers for each level after the
            first, ``[Lk]``, ``[B, Lk]`` or ``[B, H, Lk]``. Level l counts where query and key have the same number,
            a negative one is in no part (docs/mathematics.md, section 3). By the reference or masked way.
        level_scales: Factor per level, default ones.
        mean_levels: Divide each score by the number of levels its pair shares.
        causal: Query i stands at position i + Lk - Lq and sees keys up to its own position.
        window: Number of keys seen, itself included. ``None`` is unlimited.
        n_global: Leading tokens that see, and are seen by, every token the mask allows in time.
        key_mask: True where a key may be seen.
        scale: Default ``K ** -0.5``.
        backend: ``"auto"``, ``"reference"``, ``"expanded"``, ``"masked"``, ``"dense"`` (the better of those two),
            ``"bands"`` (long sequences, memory linear in their length, nested blocks only) or ``"windowed"`` (one
            level and a window, as many queries as keys, time linear in their length).
            All give the same numbers to rounding; only the reference has second derivatives.

    Returns:
        Attended values; rows with no visible key are zero.

    Raises:
        ValueError: If shapes or types do not fit together, ranks do not sum to K, a number is out of its range, or
            the backend cannot serve these arguments (the message says which and what to do).
        TypeError: If ``ranks``, ``block_sizes``, ``offset``, ``window`` or ``n_global`` hold anything but integers.

    Cost:
        Time O(B H Lq Lk (K + V)) multiply-adds at most, less at finer levels; memory O(B H Lq (K + V)) beside the
        weights, which are kept for the backward pass only while they are small.

    Example:
        >>> q = k = v = torch.ones(1, 2, 8, 4)
        >>> attention(q, k, v, causal=True, ranks=(2, 2), block_sizes=(8, 4)).shape
        torch.Size([1, 2, 8, 4])
    """
    _check_tensors(q, k, v, key_mask)
    _check_backend(backend, ranks)
    geometry = make_geometry(
        q,
        k,
        ranks=ranks,
        block_sizes=block_sizes,
        offset=offset,
        groups=groups,
        level_scales=level_scales,
        mean_levels=mean_levels,
        causal=causal,
        window=window,
        n_global=n_global,
        scale=scale,
    )
    way = _choose(geometry, backend, key_mask is not None, torch.compiler.is_compiling())
    # Whatever an autocast around the call would narrow, scores and softmax are not.
    with torch.autocast(q.device.type, enabled=False):
        if way == "reference":
            return attention_reference(q, k, v, key_mask=key_mask, **_numbers(geometry), groups=groups)
        # Torch's kernels for the CPU read shared heads where they lie; elsewhere only some do, and slowly without.
        shared = way == "fused" and q.device.type == "cpu" and k.shape[1] == v.shape[1] < q.shape[1]
        if not shared:
            k, v = expand_heads(k, q.shape[1]), expand_heads(v, q.shape[1])
        if way == "fused":
            width = v.shape[3]
            if not torch.compiler.is_compiling():
                q, k, v = pad(q, k, v)  # with K != V torch would make all scores at once
            out = torch.nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=geometry.causal, scale=geometry.factors[0], enable_gqa=shared
            )
            return out[..., :width]
        if way in {"bands", "windowed"}:
            long = attention_bands if way == "bands" else attention_windowed
            return long(q, k, v, geometry=geometry, key_mask=key_mask)
        return attend(q, k, v, key_mask, geometry, way, groups)


def mlr_attention(
    q: Float[Tensor, "B H Lq K"],
    k: Float[Tensor, "B Hk Lk K"],
    v: Float[Tensor, "B Hv Lk V"],
    *,
    ranks: tuple[int, ...],
    block_sizes: tuple[int, ...] | None = None,
    offset: int | tuple[int, ...] = 0,
    groups: tuple[Int[Tensor, "... Lk"], ...] | None = None,
    level_scales: tuple[float, ...] | None = None,
    mean_levels: bool = False,
    causal: bool = False,
    window: int | None = None,
    n_global: int = 0,
    key_mask: Bool[Tensor, "B Lk"] | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Float[Tensor, "B H Lq V"]:
    """Distance-dependent MLR attention: :func:`attention` with ``ranks`` required.

    Args:
        q: Queries of H heads.
        k: Keys of Hk heads; Hk divides H.
        v: Values of Hv heads; Hv divides H.
        ranks: Features per level, coarse to fine, summing to K.
        block_sizes: Tokens per block at each level; default halving.
        offset: Shift of the block grid in tokens, for all heads or one per head.
        groups: Parts of each level after the first, instead of blocks.
        level_scales: Factor per level, default ones.
        mean_levels: Divide each score by the number of levels its pair shares.
        causal: See no later position than one's own.
        window: Number of keys seen, itself included.
        n_global: Leading tokens exempt from the window.
        key_mask: True where a key may be seen.
        scale: Default ``K ** -0.5``.
        backend: As in :func:`attention`.

    Returns:
        Attended values; rows with no visible key are zero.

    Raises:
        ValueError: As :func:`attention`, and if ``ranks`` is ``None``.

    Example:
        >>> x = torch.arange(8.0).view(1, 1, 4, 2)
        >>> mlr_attention(x, x, torch.ones(1, 1, 4, 1), ranks=(1, 1)).flatten().tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    if ranks is None:
        raise ValueError("mlr_attention needs ranks; got None; give features per level, or call attention instead")
    return attention(
        q,
        k,
        v,
        ranks=ranks,
        block_sizes=block_sizes,
        offset=offset,
        groups=groups,
        level_scales=level_scales,
        mean_levels=mean_levels,
        causal=causal,
        window=window,
        n_global=n_global,
        key_mask=key_mask,
        scale=scale,
        backend=backend,
    )


def attention_weights(
    q: Float[Tensor, "B H Lq K"],
    k: Float[Tensor, "B Hk Lk K"],
    *,
    ranks: tuple[int, ...] | None = None,
    block_sizes: tuple[int, ...] | None = None,
    offset: int | tuple[int, ...] = 0,
    groups: tuple[Int[Tensor, "... Lk"], ...] | None = None,
    level_scales: tuple[float, ...] | None = None,
    mean_levels: bool = False,
    causal: bool = False,
    window: int | None = None,
    n_global: int = 0,
    key_mask: Bool[Tensor, "B Lk"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "B H Lq Lk"]:
    """The weights with which :func:`attention` averages the values, for looking at them.

    Differentiable any number of times. ``attention_weights(q, k, ...) @ v`` is ``attention(q, k, v, ...)``.

    Args:
        q: Queries of H heads.
        k: Keys of Hk heads; Hk divides H, and query head h uses key head ``h // (H // Hk)``.
        ranks: Features per level, coarse to fine, summing to K. ``None`` is ordinary attention.
        block_sizes: Tokens per block at each level; default halving.
        offset: Shift of the block grid in tokens, for all heads or one per head.
        groups: Parts of each level after the first, instead of blocks.
        level_scales: Factor per level, default ones.
        mean_levels: Divide each score by the number of levels its pair shares.
        causal: See no later position than one's own.
        window: Number of keys seen, itself included.
        n_global: Leading tokens exempt from the window.
        key_mask: True where a key may be seen.
        scale: Default ``K ** -0.5``.

    Returns:
        Weights in the type of q, computed in float32 at least. Rows sum to one; those with no visible key are zero.

    Raises:
        ValueError: As :func:`attention`.
        TypeError: As :func:`attention`.

    Cost:
        B H Lq Lk K multiply-adds, and memory for B H Lq Lk numbers a few times over.

    Example:
        >>> x = torch.zeros(1, 1, 2, 4)
        >>> attention_weights(x, x, causal=True).tolist()
        [[[[1.0, 0.0], [0.5, 0.5]]]]
    """
    _check_tensors(q, k, None, key_mask)
    geometry = make_geometry(
        q,
        k,
        ranks=ranks,
        block_sizes=block_sizes,
        offset=offset,
        groups=groups,
        level_scales=level_scales,
        mean_levels=mean_levels,
        causal=causal,
        window=window,
        n_global=n_global,
        scale=scale,
    )
    with torch.autocast(q.device.type, enabled=False):
        return weights_reference(q, k, key_mask=key_mask, **_numbers(geometry), groups=groups).to(q.dtype)


def _numbers(geometry: Geometry) -> dict[str, Any]:
    """A call in words that the reference understands."""
    return {
        "ranks": geometry.ranks,
        "block_sizes": geometry.block_sizes,
        "offset": geometry.offsets,
        "level_scales": geometry.factors,
        "mean_levels": geometry.mean_levels,
        "causal": geometry.causal,
        "window": geometry.window,
        "n_global": geometry.n_global,
        "scale": 1.0,  # it is in the factors
    }


@functools.lru_cache(maxsize=256)
def _choose(geometry: Geometry, backend: str, masked_keys: bool, compiling: bool) -> str:
    """``fused``, ``reference``, ``plain``, ``expanded``, ``masked``, ``bands`` or ``windowed``."""
    if geometry.grouped and backend in {"expanded", "windowed"}:
        raise ValueError(
            f"backend {backend!r} needs contiguous blocks; got levels by groups; use the reference or masked way"
        )
    if backend in {"reference", "expanded", "masked"}:
        return backend
    why_no_bands, why_no_window = refusal(geometry), window_refusal(geometry)
    if backend in {"bands", "windowed"}:
        reason = why_no_bands if backend == "bands" else why_no_window
        if reason is not None:
            raise ValueError(reason)
        return backend
    if geometry.grouped:
        return "reference" if compiling and backend == "auto" else "masked"
    one_level = geometry.n_global_levels == len(geometry.ranks) and not geometry.mean_levels
    whole = not masked_keys and geometry.window is None
    square = geometry.n_queries == geometry.n_keys or not geometry.causal
    # A fused kernel takes one scale; torch counts a causal mask from the first query, here it is from the last.
    fusible = backend == "auto" and one_level and whole and square and len(set(geometry.factors)) == 1
    if fusible and (compiling or geometry.n_keys >= FUSED_LENGTH):
        return "fused"
    if compiling and backend == "auto":
        return "reference"  # plain torch, which a compiler fuses by itself
    if backend == "auto" and why_no_window is None and geometry.n_keys >= WINDOWED_LENGTH:
        return "windowed"
    if one_level:
        return "plain"
    if backend == "auto" and geometry.n_keys >= BANDS_LENGTH:
        if why_no_bands is None:
            return "bands"
        if geometry.n_keys > WARN_LENGTH:
            # Said once for a geometry: the choice is remembered.
            warnings.warn(f"{geometry.n_keys} keys are compared pair by pair, for {why_no_bands}", stacklevel=3)
    return "expanded" if geometry.width <= EXPANDED_WIDTH else "masked"


def _check_tensors(q: Tensor, k: Tensor, v: Tensor | None, key_mask: Tensor | None) -> None:
    named = {"q": q, "k": k} if v is None else {"q": q, "k": k, "v": v}
    names, tensors = " and ".join(named) if v is None else "q, k and v", list(named.values())
    shapes = "got " + ", ".join(f"{name} {tuple(x.shape)}" for name, x in named.items())
    if any(x.ndim != 4 for x in tensors):
        raise ValueError(f"{names} must have the axes (batch, heads, tokens, features); {shapes}; add what is missing")
    if any(x.shape[0] != q.shape[0] for x in tensors):
        raise ValueError(f"{names} must agree in batch; {shapes}; expand the smaller ones")
    if q.shape[3] != k.shape[3]:
        raise ValueError(f"q and k must have as many features; {shapes}; project both to one width")
    if v is not None and k.shape[2] != v.shape[2]:
        raise ValueError(f"k and v must have as many tokens; {shapes}; give one value a key")
    if any(0 in x.shape[1:] for x in tensors):
        raise ValueError(f"{names} must have at least one head, token and feature; {shapes}; drop the empty call")
    for name, x in named.items():
        if q.shape[1] % x.shape[1]:
            raise ValueError(
                f"the heads of {name} must divide those of q, so that query head h uses {name}'s head h // (H // "
                f"{x.shape[1]}); {shapes}; change the number of heads of one"
            )
    if not (q.is_floating_point() and all(x.dtype == q.dtype for x in tensors)):
        types = ", ".join(str(x.dtype) for x in tensors)
        raise ValueError(f"{names} must share one floating dtype; got {types}; convert them with .to()")
    if any(x.device != q.device for x in tensors):
        places = ", ".join(str(x.device) for x in tensors)
        raise ValueError(f"{names} must be on one device; got {places}; move them with .to()")
    if key_mask is None:
        return
    if key_mask.dtype != torch.bool:
        raise ValueError(f"key_mask must be boolean, True where a key may be seen; got {key_mask.dtype}; compare first")
    if key_mask.shape != (k.shape[0], k.shape[2]):
        raise ValueError(
            f"key_mask must have the shape (batch, keys) = {(k.shape[0], k.shape[2])}; got {tuple(key_mask.shape)}; "
            "give one row a sequence"
        )


def _check_backend(backend: str, ranks: tuple[int, ...] | None) -> None:
    if backend not in BACKENDS:
        raise ValueError(
            f"backend must be one of {', '.join(BACKENDS)}; got {backend!r}; leave it out to have it chosen"
        )
    if backend in {"expanded", "masked", "dense", "bands"} and ranks is None:
        raise ValueError(f"backend {backend!r} is for level scores and needs ranks; got None; use auto or reference")
