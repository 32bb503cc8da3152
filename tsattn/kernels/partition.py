"""The plan of an attention with nested blocks: the stretches of queries and of keys that share the
same levels.
"""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from tsattn.kernels.blocks import Blocks
from tsattn.kernels.geometry import Factors, Geometry, Levels


@dataclass(frozen=True)
class StretchRun:
    """``count`` pairs of a stretch of queries and a stretch of keys; each pair starts ``step``
    tokens after the previous one.
    """

    query: int  # first query of the first pair
    n_queries: int  # of one pair
    key: int  # first key of the first pair
    n_keys: int  # of one pair
    step: int = 0
    count: int = 1

    def queries(self, *tensors: Tensor) -> list[Tensor]:
        """Views of the queries' rows, [B H L F] -> [B H count n_queries F]."""
        return [self._view(x, self.query, self.n_queries) for x in tensors]

    def keys(self, *tensors: Tensor) -> list[Tensor]:
        """Views of the keys' rows, [B H L F] -> [B H count n_keys F]."""
        return [self._view(x, self.key, self.n_keys) for x in tensors]

    def _view(self, x: Tensor, start: int, length: int) -> Tensor:
        batch_stride, head_stride, row_stride, feature_stride = x.stride()
        batch, n_heads, _, width = x.shape
        shape = (batch, n_heads, self.count, length, width)
        pair_stride = self.step * row_stride
        strides = (batch_stride, head_stride, pair_stride, row_stride, feature_stride)
        first_number = x.storage_offset() + start * row_stride
        return x.as_strided(shape, strides, first_number)


@dataclass(frozen=True)
class Band:
    """Pairs that share the same levels."""

    width: int  # leading features that count
    runs: tuple[StretchRun, ...]  # the pairs
    causal: bool = False  # queries and keys are the same tokens, and none sees a later one
    scale: float = 1.0  # factor of the scores, above 0


@dataclass(frozen=True, eq=False)
class Inside:
    """Small blocks that are computed by block products, finer levels included.

    Args:
        run: The blocks.
        blocks: The products of one block.
        geometry: The levels of one block; those that all its pairs share are its first level.
        n_common: How many levels the first one stands for.
    """

    run: StretchRun
    blocks: Blocks
    geometry: Geometry
    n_common: int

    def shares(self, like: Tensor) -> Tensor | None:
        """Factors of a block's scores [n n], or ``None`` where they are 1 everywhere."""
        if not self.geometry.levels.mean:
            return None
        shares = self.geometry.shares(like.dtype, like.device, n_common=self.n_common)
        return shares[0]  # a block has one offset


@dataclass(frozen=True, eq=False)
class BandPlan:
    """The parts of a call in the order of their computation: the base, which covers every token
    once, then bands, finer ones first.

    Args:
        relative: Factor per feature relative to the scale of a band, or ``None`` where it is 1
            everywhere.
        causal: No query sees a later key.
        base: Blocks of the base level by a fused kernel, or ``None`` where ``dense`` has them.
        dense: Blocks of the base level by block products, where blocks are small or have finer
            levels inside.
        bands: The remaining pairs.
    """

    relative: Factors | None
    causal: bool
    base: Band | None
    dense: tuple[Inside, ...]
    bands: tuple[Band, ...]

    def steps(self, operand: Tensor) -> Iterator[tuple[Band, StretchRun]]:
        """All runs of the base and the bands.

        Sets features of ``operand`` to zero in place as soon as no further band counts them.
        """
        if self.base is not None:
            for run in self.base.runs:
                yield self.base, run
        for band in self.bands:
            operand[..., band.width :] = 0
            for run in band.runs:
                yield band, run

    def scaled(self, q: Tensor) -> Tensor:
        """Queries times the factors of their features, a copy where :meth:`steps` will change
        them.
        """
        if self.relative is not None:
            copy = torch.empty(q.shape, dtype=q.dtype, device=q.device)
            factors = self.factors(q)
            return torch.mul(q, factors, out=copy)
        if self.bands:
            return q.clone(memory_format=torch.contiguous_format)
        return q

    def factors(self, q: Tensor) -> Tensor:
        """Factor per feature [K], 1 where q was padded."""
        relative = self.relative or ()
        n_padded = q.shape[3] - len(relative)
        return q.new_tensor((*relative, *[1.0] * n_padded))


@functools.lru_cache(maxsize=256)
def split_heads(geometry: Geometry) -> tuple[tuple[slice, Geometry], ...]:
    """Heads of one offset, joined where they lie at regular distances.

    Args:
        geometry: The call.

    Returns:
        Pairs of some heads and the call for these heads alone; every head is in one pair.
    """
    offsets = geometry.levels.offsets
    if len(offsets) == 1:
        return ((slice(None), geometry),)
    parts = []
    for offset in dict.fromkeys(offsets):
        levels = replace(geometry.levels, offset=(offset,))
        part = replace(geometry, levels=levels)
        heads = [head for head, head_offset in enumerate(offsets) if head_offset == offset]
        steps = {following - head for head, following in pairwise(heads)}
        if len(steps) > 1:
            # No slice takes heads at irregular distances together.
            for head in heads:
                only_head = slice(head, head + 1)
                parts.append((only_head, part))
            continue
        step = steps.pop() if steps else 1
        some_heads = slice(heads[0], heads[-1] + 1, step)
        parts.append((some_heads, part))
    return tuple(parts)


@functools.lru_cache(maxsize=256)
def bands_refusal(geometry: Geometry) -> str | None:
    """Why bands cannot compute a call, for an error message, or ``None`` when they can.

    Args:
        geometry: The call.

    Returns:
        One line that names the obstacle, and the backends that serve the call.
    """
    alternatives = "use the reference, expanded or masked backend"
    if geometry.grouped:
        return (
            "bands need contiguous blocks; got levels by groups; use the reference or masked"
            " backend"
        )
    if geometry.n_queries != geometry.n_keys:
        return (
            f"bands need as many queries as keys; got {geometry.n_queries} and {geometry.n_keys};"
            f" {alternatives}"
        )
    if field := geometry.pattern.beyond("causal"):
        return f"bands serve no pattern but causal; got {field}; {alternatives}"
    for _, part in split_heads(geometry):
        local_sizes = part.block_sizes[part.n_global_levels :]
        for coarse, fine in pairwise(local_sizes):
            if coarse % fine:
                return (
                    f"bands need nested blocks; got block sizes {coarse} and {fine}, no multiple of"
                    f" it; {alternatives}"
                )
    return None


@functools.lru_cache(maxsize=64)
def make_band_plan(geometry: Geometry, dense_block: int) -> BandPlan:
    """Find the stretches of queries and keys that share the same levels.

    Args:
        geometry: The call, of one offset; :func:`bands_refusal` returns ``None`` for it.
        dense_block: Most tokens of a block that block products compute.

    Returns:
        The plan, for any batch, number of heads, type and device.
    """
    ranks = geometry.levels.ranks
    mean = geometry.levels.mean
    widths = list(accumulate(ranks))
    scale = geometry.positive_factor
    first = geometry.n_global_levels - 1  # the last level that all pairs share
    level, is_small = _base_level(geometry, dense_block)
    bands = []
    for coarse in range(level - 1, first - 1, -1):
        runs = _join(_siblings(geometry, coarse))
        if runs:
            n_averaged = coarse + 1 if mean else 1
            band = Band(widths[coarse], runs, scale=scale / n_averaged)
            bands.append(band)
    # Each block of the base level with itself.
    blocks = []
    for start, stop in _spans(geometry, level):
        length = stop - start
        blocks.append(StretchRun(start, length, start, length))
    base: Band | None = None
    dense: tuple[Inside, ...] = ()
    if is_small:
        dense = tuple(_inside(geometry, level, blocks, scale))
    else:
        n_averaged = len(ranks) if mean else 1
        base_scale = scale / n_averaged
        base_runs = _join(blocks)
        base = Band(widths[-1], base_runs, geometry.pattern.causal, base_scale)
    return BandPlan(
        relative=geometry.relative_factors,
        causal=geometry.pattern.causal,
        base=base,
        dense=dense,
        bands=tuple(bands),
    )


def _base_level(geometry: Geometry, dense_block: int) -> tuple[int, bool]:
    """The coarsest level of small blocks, else the finest level; and whether its blocks are
    small.
    """
    first = geometry.n_global_levels - 1
    n_levels = len(geometry.levels.ranks)
    # The only block of the last global level is the whole sequence.
    if geometry.n_keys <= dense_block:
        return first, True
    for level in range(first + 1, n_levels):
        if geometry.block_sizes[level] <= dense_block:
            return level, True
    return n_levels - 1, False


def _spans(geometry: Geometry, level: int) -> list[tuple[int, int]]:
    """First token and the one after the last of each block."""
    if level < geometry.n_global_levels:
        return [(0, geometry.n_keys)]
    size = geometry.block_sizes[level]
    offset = geometry.levels.offsets[0]
    first_border = size - offset % size
    borders = [0, *range(first_border, geometry.n_keys, size), geometry.n_keys]
    return list(pairwise(borders))


def _siblings(geometry: Geometry, level: int) -> Iterator[StretchRun]:
    """Each block of the next level with all tokens before it, and with all tokens after it, in its
    parent block of this level.

    These are fewer and longer products than one for each pair of blocks, and a query is merged
    twice at most.
    """
    children = iter(_spans(geometry, level + 1))
    for low, high in _spans(geometry, level):
        stop = low
        while stop < high:
            start, stop = next(children)
            length = stop - start
            n_before = start - low
            n_after = high - stop
            if n_before > 0:
                yield StretchRun(start, length, low, n_before)
            if n_after > 0 and not geometry.pattern.causal:
                yield StretchRun(start, length, stop, n_after)


def _join(runs: Iterable[StretchRun]) -> tuple[StretchRun, ...]:
    """Runs of the same shape at regular distances as one."""
    groups: dict[tuple[int, int, int], list[StretchRun]] = {}
    for run in runs:
        shape = (run.n_queries, run.n_keys, run.key - run.query)
        group = groups.setdefault(shape, [])
        if not group:
            group.append(run)
            continue
        last = group[-1]
        distance = run.query - last.query
        if last.count == 1:
            # The second pair sets the distance of those that follow.
            group[-1] = replace(last, step=distance, count=2)
        elif distance == last.count * last.step:
            group[-1] = replace(last, count=last.count + 1)
        else:
            group.append(run)
    return tuple(run for group in groups.values() for run in group)


def _inside(
    geometry: Geometry, level: int, blocks: list[StretchRun], scale: float
) -> Iterator[Inside]:
    """Blocks of a level with the finer levels inside them; equal blocks are joined."""
    ranks = geometry.levels.ranks
    offset = geometry.levels.offsets[0]
    fine_sizes = geometry.block_sizes[level + 1 :]
    n_coarse = len(ranks) - len(fine_sizes)
    # Blocks are equal where they have one length and their finer blocks begin alike.
    equal_blocks: dict[tuple[int, int], list[StretchRun]] = {}
    for run in blocks:
        shift = 0
        if fine_sizes:
            shift = (run.query + offset) % fine_sizes[0]
        runs = equal_blocks.setdefault((run.n_queries, shift), [])
        runs.append(run)
    for (length, shift), runs in equal_blocks.items():
        # A block at the border of the sequence may be shorter than the finer blocks.
        first_size = max((length, *fine_sizes))
        # All pairs of a block share its coarse levels, which are one level inside.
        first_rank = sum(ranks[:n_coarse])
        n_inner_levels = len(fine_sizes) + 1
        levels = Levels(
            (first_rank, *ranks[n_coarse:]),
            (first_size, *fine_sizes),
            offset=shift,
            scales=(scale,) * n_inner_levels,
            mean=geometry.levels.mean,
        )
        inner = Geometry(length, length, levels)
        for run in _join(runs):
            inner_blocks = Blocks(inner)
            yield Inside(run, inner_blocks, inner, n_coarse)
