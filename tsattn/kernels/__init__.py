"""Which way computes this attention? The one door to all kernels: arguments are checked here, once."""

import functools
import operator
import warnings
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tsattn.kernels.bands import attend_bands, attention_bands
from tsattn.kernels.dense import attend, attention_expanded, attention_masked
from tsattn.kernels.geometry import Geometry
from tsattn.kernels.partition import refusal
from tsattn.kernels.reference import attention_mask, attention_reference, default_block_sizes, level_scores

__all__ = [
    "attention",
    "attention_bands",
    "attention_expanded",
    "attention_mask",
    "attention_masked",
    "attention_reference",
    "available_backends",
    "default_block_sizes",
    "level_scores",
    "mlr_attention",
]

# What can be forced.
BACKENDS = ("auto", "reference", "expanded", "masked", "dense", "bands")
# Up to this many numbers in a row of wide features, the expanded way costs less than block products.
EXPANDED_WIDTH = 32
# From this many keys on, torch's fused kernel beats three products over slices for ordinary attention.
FUSED_LENGTH = 96
# From this many keys on, fused kernels over bands beat products over slices for level scores.
BANDS_LENGTH = 768
# From more keys than this on, level scores that bands cannot serve are worth a warning.
WARN_LENGTH = 4096


def available_backends() -> tuple[str, ...]:
    """Names that ``attention(backend=...)`` takes.

    Example:
        >>> available_backends()
        ('auto', 'reference', 'expanded', 'masked', 'dense', 'bands')
    """
    return BACKENDS


def attention(
    q: Float[Tensor, "B H Lq K"],
    k: Float[Tensor, "B H Lk K"],
    v: Float[Tensor, "B H Lk V"],
    *,
    ranks: tuple[int, ...] | None = None,
    block_sizes: tuple[int, ...] | None = None,
    offset: int | tuple[int, ...] = 0,
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
    (arXiv 2509.07963). Half-precision inputs are computed in float32.

    Args:
        ranks: Features per level, coarse to fine, summing to K. ``None`` is ordinary attention.
        block_sizes: Tokens per block at each level, non-increasing; the first covers the sequence. Default: halving
            sizes by :func:`default_block_sizes` of the longer of Lq and Lk.
        offset: Shift of the block grid in tokens, at least 0, for all heads or one per head.
        level_scales: Factor per level, default ones.
        mean_levels: Divide each score by the number of levels its pair shares.
        causal: Query i stands at position i + Lk - Lq and sees keys up to its own position.
        window: Number of keys seen, itself included. ``None`` is unlimited.
        n_global: Leading tokens that see, and are seen by, every token the mask allows in time.
        key_mask: True where a key may be seen.
        scale: Default ``K ** -0.5``.
        backend: ``"auto"``, ``"reference"``, ``"expanded"``, ``"masked"``, ``"dense"`` (the better of those two) or
            ``"bands"`` (long sequences, memory linear in their length, nested blocks only).
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
    geometry = _make_geometry(
        q.shape[1],
        q.shape[2],
        k.shape[2],
        q.shape[3],
        ranks=None if ranks is None else _whole(ranks, "ranks"),
        block_sizes=None if block_sizes is None else _whole(block_sizes, "block_sizes"),
        offset=_whole(offset if isinstance(offset, (tuple, list)) else (offset,), "offset"),
        level_scales=None if level_scales is None else tuple(float(x) for x in level_scales),
        mean_levels=bool(mean_levels),
        causal=bool(causal),
        window=None if window is None else _whole((window,), "window")[0],
        n_global=_whole((n_global,), "n_global")[0],
        scale=None if scale is None else float(scale),
    )
    way = _choose(geometry, backend, key_mask is not None, torch.compiler.is_compiling())
    # Whatever an autocast around the call would narrow, scores and softmax are not.
    with torch.autocast(q.device.type, enabled=False):
        if way == "fused":
            factor = geometry.factors[0]
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=factor)
        if way == "reference":
            return attention_reference(
                q,
                k,
                v,
                ranks=geometry.ranks,
                block_sizes=geometry.block_sizes,
                offset=geometry.offsets,
                level_scales=geometry.factors,
                mean_levels=mean_levels,
                causal=causal,
                window=window,
                n_global=n_global,
                key_mask=key_mask,
                scale=1.0,
            )
        if way == "bands":
            return attend_bands(q, k, v, key_mask, geometry)
        return attend(q, k, v, key_mask, geometry, way)


def mlr_attention(
    q: Float[Tensor, "B H Lq K"],
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
    backend: str = "auto",
) -> Float[Tensor, "B H Lq V"]:
    """Distance-dependent MLR attention: :func:`attention` with ``ranks`` required.

    Args:
        ranks: Features per level, coarse to fine, summing to K.
        block_sizes: Tokens per block at each level; default halving.
        offset: Shift of the block grid in tokens, for all heads or one per head.
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
        level_scales=level_scales,
        mean_levels=mean_levels,
        causal=causal,
        window=window,
        n_global=n_global,
        key_mask=key_mask,
        scale=scale,
        backend=backend,
    )


@functools.lru_cache(maxsize=256)
def _choose(geometry: Geometry, backend: str, masked_keys: bool, compiling: bool) -> str:
    """``fused``, ``reference``, ``plain``, ``expanded``, ``masked`` or ``bands``."""
    if backend in {"reference", "expanded", "masked"}:
        return backend
    why_no_bands = refusal(geometry)
    if backend == "bands":
        if why_no_bands is not None:
            raise ValueError(why_no_bands)
        return backend
    one_level = geometry.n_global_levels == len(geometry.ranks) and not geometry.mean_levels
    whole = not masked_keys and geometry.window is None
    square = geometry.n_queries == geometry.n_keys or not geometry.causal
    # A fused kernel takes one scale; torch counts a causal mask from the first query, here it is from the last.
    fusible = backend == "auto" and one_level and whole and square and len(set(geometry.factors)) == 1
    if fusible and (compiling or geometry.n_keys >= FUSED_LENGTH):
        return "fused"
    if compiling and backend == "auto":
        return "reference"  # plain torch, which a compiler fuses by itself
    if one_level:
        return "plain"
    if backend == "auto" and geometry.n_keys >= BANDS_LENGTH:
        if why_no_bands is None:
            return "bands"
        if geometry.n_keys > WARN_LENGTH:
            # Said once for a geometry: the choice is remembered.
            warnings.warn(f"{geometry.n_keys} keys are compared pair by pair, for {why_no_bands}", stacklevel=3)
    return "expanded" if geometry.width <= EXPANDED_WIDTH else "masked"


@functools.lru_cache(maxsize=256)
def _make_geometry(
    n_heads: int,
    n_queries: int,
    n_keys: int,
    n_features: int,
    *,
    ranks: tuple[int, ...] | None,
    block_sizes: tuple[int, ...] | None,
    offset: tuple[int, ...],
    level_scales: tuple[float, ...] | None,
    mean_levels: bool,
    causal: bool,
    window: int | None,
    n_global: int,
    scale: float | None,
) -> Geometry:
    """Check the numbers against one another and fill in the defaults."""
    _check_positions(offset, n_heads, window, n_global)
    if ranks is None:
        _refuse_levels(
            block_sizes=block_sizes, level_scales=level_scales, mean_levels=mean_levels, offset=any(offset) and offset
        )
        ranks = (n_features,)
    _check_levels(ranks, block_sizes, level_scales, n_features, max(n_queries, n_keys))
    scale = n_features**-0.5 if scale is None else scale
    return Geometry(
        n_queries=n_queries,
        n_keys=n_keys,
        ranks=ranks,
        block_sizes=block_sizes or default_block_sizes(max(n_queries, n_keys), len(ranks)),
        offsets=offset[:1] if len(set(offset)) == 1 else offset,
        factors=tuple(scale * factor for factor in (level_scales or (1.0,) * len(ranks))),
        mean_levels=mean_levels,
        causal=causal,
        window=window,
        n_global=n_global,
    )


def _check_tensors(q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None) -> None:
    shapes = f"got q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if not q.ndim == k.ndim == v.ndim == 4:
        raise ValueError(
            f"q, k and v must have the axes (batch, heads, tokens, features); {shapes}; add what is missing"
        )
    if not q.shape[:2] == k.shape[:2] == v.shape[:2]:
        raise ValueError(f"q, k and v must agree in batch and heads; {shapes}; expand the smaller ones")
    if q.shape[3] != k.shape[3]:
        raise ValueError(f"q and k must have as many features; {shapes}; project both to one width")
    if k.shape[2] != v.shape[2]:
        raise ValueError(f"k and v must have as many tokens; {shapes}; give one value a key")
    if 0 in (*q.shape[1:], *v.shape[2:]):
        raise ValueError(f"q, k and v must have at least one head, token and feature; {shapes}; drop the empty call")
    if not (q.dtype == k.dtype == v.dtype and q.is_floating_point()):
        raise ValueError(
            f"q, k and v must share one floating dtype; got {q.dtype}, {k.dtype}, {v.dtype}; convert them with .to()"
        )
    if not q.device == k.device == v.device:
        raise ValueError(
            f"q, k and v must be on one device; got {q.device}, {k.device}, {v.device}; move them with .to()"
        )
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


def _whole(numbers: Iterable[Any], name: str) -> tuple[int, ...]:
    """Integers of any make as Python's own."""
    try:
        return tuple(operator.index(number) for number in numbers)
    except TypeError:
        raise TypeError(f"{name} must be made of integers; got {numbers!r}; round first") from None


def _check_levels(
    ranks: tuple[int, ...],
    block_sizes: tuple[int, ...] | None,
    level_scales: tuple[float, ...] | None,
    n_features: int,
    length: int,
) -> None:
    if not ranks or min(ranks) < 1:
        raise ValueError(f"ranks must hold at least one number, each at least 1; got {ranks}; leave out empty levels")
    if sum(ranks) != n_features:
        raise ValueError(
            f"ranks must sum to the features of q and k; got sum({ranks}) = {sum(ranks)} for {n_features}; "
            "change ranks or the projection"
        )
    for name, given in (("block_sizes", block_sizes), ("level_scales", level_scales)):
        if given is not None and len(given) != len(ranks):
            raise ValueError(
                f"{name} needs one number a level; got {given} for ranks {ranks}; add or drop some, or leave it out"
            )
    if block_sizes is None:
        return
    if min(block_sizes) < 1 or any(fine > coarse for coarse, fine in pairwise(block_sizes)):
        raise ValueError(
            f"block_sizes must be at least 1 and never grow from coarse to fine; got {block_sizes}; sort them downwards"
        )
    if block_sizes[0] < length:
        raise ValueError(
            f"the first of block_sizes must cover the sequence; got {block_sizes[0]} for {length} tokens; raise it, or "
            "leave block_sizes out"
        )


def _refuse_levels(**given: object) -> None:
    """Without ranks there are no levels for these to speak of."""
    for name, value in given.items():
        if value:
            raise ValueError(f"{name} has a meaning only with ranks; got {value!r}; give ranks or leave it out")


def _check_positions(offset: tuple[int, ...], n_heads: int, window: int | None, n_global: int) -> None:
    if len(offset) not in {1, n_heads}:
        raise ValueError(
            f"offset must be one number or one per head; got {len(offset)} numbers for {n_heads} heads; give one a head"
        )
    if min(offset) < 0:
        raise ValueError(f"offset must be at least 0; got {min(offset)}; add a multiple of every block size")
    if window is not None and window < 1:
        raise ValueError(f"window must be at least 1, the token itself; got {window}; None sees everything")
    if n_global < 0:
        raise ValueError(f"n_global must be at least 0; got {n_global}; 0 is no global token")
