"""The public functions of exact attention with distance-dependent levels, on plain arguments."""

from tsattn.kernels.dispatch import BACKENDS, attend, weigh
from tsattn.kernels.geometry import (
    Attended,
    Factors,
    KeyGroups,
    KeyMask,
    Keys,
    Levels,
    Offset,
    Pattern,
    Queries,
    Sizes,
    Values,
    Weights,
    default_block_sizes,
    is_listed,
)

__all__ = [
    "Levels",
    "Pattern",
    "attend",
    "attention",
    "attention_weights",
    "available_backends",
    "default_block_sizes",
    "mlr_attention",
    "weigh",
]


def available_backends() -> tuple[str, ...]:
    """Names that ``attention(backend=...)`` takes.

    Example:
        >>> available_backends()
        ('auto', 'reference', 'expanded', 'masked', 'dense', 'bands', 'windowed')
    """
    return BACKENDS


def attention(
    q: Queries,
    k: Keys,
    v: Values,
    *,
    ranks: Sizes | None = None,
    block_sizes: Sizes | None = None,
    offset: Offset = 0,
    groups: KeyGroups | None = None,
    level_scales: Factors | None = None,
    mean_levels: bool = False,
    causal: bool = False,
    window: int | None = None,
    n_global: int = 0,
    key_mask: KeyMask | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Attended:
    """Softmax attention, exact, with optional distance-dependent levels.

    Computes ``softmax(S + mask) @ v`` with ``S`` of docs/mathematics.md, section 3, after Kuang et
    al. 2025 (arXiv 2509.07963). Half-precision inputs are computed in float32. Query heads may
    share keys and values: query head h uses key head ``h // (H // Hk)`` and value head
    ``h // (H // Hv)``.

    Args:
        q: Queries of H heads.
        k: Keys of Hk heads; Hk divides H.
        v: Values of Hv heads; Hv divides H.
        ranks: Features per level, coarse to fine, summing to K. ``None`` is ordinary attention.
        block_sizes: Tokens per block at each level, non-increasing; the first covers the sequence.
            Default: halving sizes by :func:`default_block_sizes` of the longer of Lq and Lk.
        offset: Shift of the block grid in tokens, at least 0, for all heads or one per head.
        groups: Instead of blocks, any partition of the positions: one tensor of integers for each
            level after the first, ``[Lk]``, ``[B, Lk]`` or ``[B, H, Lk]``. Level l counts where
            query and key have the same number, a negative one is in no part (docs/mathematics.md,
            section 3). For the reference and masked backends.
        level_scales: Factor per level, default ones.
        mean_levels: Divide each score by the number of levels its pair shares.
        causal: Query i stands at position i + Lk - Lq and sees keys up to its own position.
        window: Number of keys seen, itself included. ``None`` is unlimited.
        n_global: Leading tokens that see, and are seen by, every token the mask allows in time.
        key_mask: True where a key may be seen. Hidden keys and their values may be NaN or infinite.
        scale: Default ``K ** -0.5``.
        backend: ``"auto"``, ``"reference"``, ``"expanded"``, ``"masked"``, ``"dense"`` (the better
            of those two), ``"bands"`` (long sequences, memory linear in their length, nested blocks
            only) or ``"windowed"`` (one level and a window, as many queries as keys, time linear in
            their length). All give the same numbers to rounding; only the reference, which
            ``"auto"`` takes inside torch.func, has second derivatives.

    Returns:
        Attended values; rows with no visible key are zero.

    Raises:
        ValueError: If shapes or types do not fit together, ranks do not sum to K, a number is out
            of its range, or the backend cannot serve these arguments (the message says which and
            what to do).
        TypeError: If ``ranks``, ``block_sizes``, ``offset``, ``window`` or ``n_global`` hold
            anything but integers.

    Cost:
        Time O(B H Lq Lk (K + V)) multiply-adds at most, less at finer levels; memory O(B H Lq (K +
        V)) beside the weights, which are kept for the backward pass only while they are small.

    Example:
        >>> import torch
        >>> q = k = v = torch.ones(1, 2, 8, 4)
        >>> attention(q, k, v, causal=True, ranks=(2, 2), block_sizes=(8, 4)).shape
        torch.Size([1, 2, 8, 4])
    """
    levels = _levels(ranks, block_sizes, offset, level_scales, mean_levels)
    pattern = Pattern(causal, window, n_global)
    return attend(
        q,
        k,
        v,
        levels=levels,
        pattern=pattern,
        key_mask=key_mask,
        groups=groups,
        scale=scale,
        backend=backend,
    )


def mlr_attention(
    q: Queries,
    k: Keys,
    v: Values,
    *,
    ranks: Sizes,
    block_sizes: Sizes | None = None,
    offset: Offset = 0,
    groups: KeyGroups | None = None,
    level_scales: Factors | None = None,
    mean_levels: bool = False,
    causal: bool = False,
    window: int | None = None,
    n_global: int = 0,
    key_mask: KeyMask | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Attended:
    """Distance-dependent MLR attention: :func:`attention` with ``ranks`` required.

    Args:
        ranks: Features per level, coarse to fine, summing to K. The other arguments are those of
            :func:`attention`.

    Returns:
        Attended values; rows with no visible key are zero.

    Raises:
        ValueError: As :func:`attention`, and if ``ranks`` is ``None``.

    Example:
        >>> import torch
        >>> x = torch.arange(8.0).view(1, 1, 4, 2)
        >>> mlr_attention(x, x, torch.ones(1, 1, 4, 1), ranks=(1, 1)).flatten().tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    if ranks is None:
        raise ValueError(
            "mlr_attention needs ranks; got None; give features per level, or call attention"
            " instead"
        )
    levels = Levels(ranks, block_sizes, offset, level_scales, mean_levels)
    pattern = Pattern(causal, window, n_global)
    return attend(
        q,
        k,
        v,
        levels=levels,
        pattern=pattern,
        key_mask=key_mask,
        groups=groups,
        scale=scale,
        backend=backend,
    )


def attention_weights(
    q: Queries,
    k: Keys,
    *,
    ranks: Sizes | None = None,
    block_sizes: Sizes | None = None,
    offset: Offset = 0,
    groups: KeyGroups | None = None,
    level_scales: Factors | None = None,
    mean_levels: bool = False,
    causal: bool = False,
    window: int | None = None,
    n_global: int = 0,
    key_mask: KeyMask | None = None,
    scale: float | None = None,
) -> Weights:
    """The weights with which :func:`attention` averages the values.

    Differentiable any number of times. ``attention_weights(q, k, ...) @ v`` is
    ``attention(q, k, v, ...)``, and the arguments are those of :func:`attention`.

    Returns:
        Weights in the type of q, computed in float32 at least. Rows sum to one; those with no
        visible key are zero.

    Raises:
        ValueError, TypeError: As :func:`attention`.

    Cost:
        B H Lq Lk K multiply-adds, and memory for B H Lq Lk numbers a few times over.

    Example:
        >>> import torch
        >>> x = torch.zeros(1, 1, 2, 4)
        >>> attention_weights(x, x, causal=True).tolist()
        [[[[1.0, 0.0], [0.5, 0.5]]]]
    """
    levels = _levels(ranks, block_sizes, offset, level_scales, mean_levels)
    pattern = Pattern(causal, window, n_global)
    return weigh(
        q, k, levels=levels, pattern=pattern, key_mask=key_mask, groups=groups, scale=scale
    )


def _levels(
    ranks: Sizes | None,
    block_sizes: Sizes | None,
    offset: Offset,
    level_scales: Factors | None,
    mean_levels: bool,
) -> Levels | None:
    """Levels of these ranks; without ranks ``None``, and the other arguments are refused."""
    if ranks is not None:
        return Levels(ranks, block_sizes, offset, level_scales, mean_levels)
    is_shifted = any(offset) if is_listed(offset) else bool(offset)
    options = {
        "block_sizes": block_sizes,
        "level_scales": level_scales,
        "mean_levels": mean_levels or None,
        "offset": offset if is_shifted else None,
    }
    for name, value in options.items():
        if value is not None:
            raise ValueError(
                f"{name} has a meaning only with ranks; got {value!r}; give ranks or leave it out"
            )
    return None
