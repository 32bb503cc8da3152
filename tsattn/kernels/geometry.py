"""What is the same for every sequence of a call: lengths, levels, blocks and masks by position?"""

import functools
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from tsattn.kernels.reference import default_block_sizes, shared_blocks


@dataclass(frozen=True)
class Geometry:
    """Everything about a call that is the same for every sequence of a batch, hashable so that it can be remembered.

    Args:
        n_queries: Lq; the last query is level with the last key.
        n_keys: Lk.
        ranks: Features per level, coarse to fine.
        block_sizes: Tokens per block at each level.
        offsets: Shift of the block grid: one for all heads, or one per head.
        factors: What each level's scores are multiplied by, softmax scale included.
        mean_levels: Divide each score by the number of levels its pair shares.
        causal: See no later position.
        window: Keys seen.
        n_global: Leading tokens exempt from the window.
        grouped: Levels from the second on have parts of their own, given beside this; block sizes mean nothing then.
    """

    n_queries: int
    n_keys: int
    ranks: tuple[int, ...]
    block_sizes: tuple[int, ...]
    offsets: tuple[int, ...] = (0,)
    factors: tuple[float, ...] = (1.0,)
    mean_levels: bool = False
    causal: bool = False
    window: int | None = None
    n_global: int = 0
    grouped: bool = False

    @property
    def n_global_levels(self) -> int:
        """Leading levels that every pair shares: the first, and those whose only block covers all positions."""
        if self.grouped:
            return 1
        first, last = min(0, self.n_keys - self.n_queries), self.n_keys - 1
        for level in range(1, len(self.ranks)):
            size = self.block_sizes[level]
            if any((first + offset) // size != (last + offset) // size for offset in self.offsets):
                return level
        return len(self.ranks)

    def touched(self, level: int, offset: int) -> tuple[int, int]:
        """First and last block of a level that holds a key."""
        if level < self.n_global_levels:
            return 0, 0
        size = self.block_sizes[level]
        return offset // size, (self.n_keys - 1 + offset) // size

    @property
    def n_slots(self) -> tuple[int, ...]:
        """Blocks per level, the most over the heads."""
        levels = range(len(self.ranks))
        spans = [[self.touched(level, offset) for offset in self.offsets] for level in levels]
        return tuple(max(last - first + 1 for first, last in span) for span in spans)

    @property
    def width(self) -> int:
        """Features of the expanded way: one slot of r_l features for every block of every level."""
        return sum(rank * slots for rank, slots in zip(self.ranks, self.n_slots, strict=True))


def make_geometry(
    q: Tensor,
    k: Tensor,
    *,
    ranks: tuple[int, ...] | None = None,
    block_sizes: tuple[int, ...] | None = None,
    offset: int | tuple[int, ...] = 0,
    groups: tuple[Tensor, ...] | None = None,
    level_scales: tuple[float, ...] | None = None,
    mean_levels: bool = False,
    causal: bool = False,
    window: int | None = None,
    n_global: int = 0,
    scale: float | None = None,
) -> Geometry:
    """Check the numbers of a call against one another and fill in the defaults.

    Args:
        q: Queries [B H Lq K], of which only the shape counts.
        k: Keys [B Hk Lk K], likewise.
        ranks: This and the others as in :func:`tsattn.kernels.attention`.

    Returns:
        What is the same for every sequence of the call.

    Raises:
        ValueError: If a number is out of its range or does not fit the others.
        TypeError: If what must be whole is not.
    """
    if groups is not None:
        _check_groups(groups, q, k, ranks, block_sizes, offset)
    return _checked(
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
        grouped=groups is not None,
    )


@functools.lru_cache(maxsize=256)
def _checked(
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
    grouped: bool,
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
        grouped=grouped,
    )


def _check_groups(
    groups: tuple[Tensor, ...],
    q: Tensor,
    k: Tensor,
    ranks: tuple[int, ...] | None,
    block_sizes: tuple[int, ...] | None,
    offset: int | tuple[int, ...],
) -> None:
    """Refuse parts that do not fit the levels, the tensors or the other arguments."""
    if ranks is None or len(groups) != len(ranks) - 1:
        raise ValueError(
            f"groups needs one tensor for each level after the first; got {len(groups)} for ranks {ranks}; give"
            " ranks, and as many tensors as they have numbers, less one"
        )
    if block_sizes is not None or (any(offset) if isinstance(offset, tuple) else offset):
        raise ValueError(
            f"groups take the place of blocks; got block_sizes = {block_sizes}, offset = {offset} beside them; leave"
            " those out, and give contiguous parts as groups too"
        )
    if q.shape[2] > k.shape[2]:
        raise ValueError(
            f"groups are of the keys' positions, so there may be no more queries than keys; got {q.shape[2]} and"
            f" {k.shape[2]}; leave out the queries before the first key"
        )
    shapes = ((k.shape[2],), (k.shape[0], k.shape[2]), (q.shape[0], q.shape[1], k.shape[2]))
    for tensor in groups:
        if tensor.dtype.is_floating_point or tensor.dtype.is_complex or tensor.dtype == torch.bool:
            raise ValueError(f"groups must hold integers; got {tensor.dtype}; convert them with .long()")
        if tuple(tensor.shape) not in shapes:
            raise ValueError(
                "groups must have the shape (keys), (batch, keys) or (batch, heads, keys), here one of"
                f" {', '.join(map(str, shapes))}; got {tuple(tensor.shape)}; give one number a position"
            )
        if tensor.device != k.device:
            raise ValueError(f"groups must be where k is; got {tensor.device} and {k.device}; move them with .to()")


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


def level_shares(geometry: Geometry, dtype: torch.dtype, device: torch.device, *, n_common: int = 1) -> Tensor:
    """One divided by the number of levels that each pair shares.

    Args:
        geometry: Lengths, blocks and offsets.
        dtype: Type of the result.
        device: Its place.
        n_common: How many levels the first one stands for.

    Returns:
        Shares, [1 Lq Lk] or [H Lq Lk] as there are offsets.
    """
    sizes = (geometry.n_queries, geometry.n_keys)
    count = torch.full((), n_common, dtype=dtype, device=device)
    for size in geometry.block_sizes[1:]:
        count = count + shared_blocks(*sizes, block_size=size, offsets=geometry.offsets, device=device).to(dtype)
    return count.reciprocal().expand(len(geometry.offsets), *sizes)
