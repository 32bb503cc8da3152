"""The bands of an attention with nested blocks: which stretches of queries meet which stretches of
keys.
"""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from tsattn.kernels.blocks import Blocks
from tsattn.kernels.geometry import Geometry, Levels


@dataclass(frozen=True)
class Run:
    """``count`` pairs of a stretch of queries and a stretch of keys, each ``step`` tokens after the
    one before.
    """

    query: int
    n_queries: int
    key: int
    n_keys: int
    step: int = 0
    count: int = 1

    def queries(self, *tensors: Tensor) -> list[Tensor]:
        """Views of the queries' rows, [B H L F] -> [B H count n_queries F]."""
        return [self._view(x, self.query, self.n_queries) for x in tensors]

    def keys(self, *tensors: Tensor) -> list[Tensor]:
        """Views of the keys' rows, [B H L F] -> [B H count n_keys F]."""
        return [self._view(x, self.key, self.n_keys) for x in tensors]

    def _view(self, x: Tensor, start: int, length: int) -> Tensor:
        batch, heads, row, feature = x.stride()
        shape = (*x.shape[:2], self.count, length, x.shape[3])
        first = x.storage_offset() + start * row
        return x.as_strided(shape, (batch, heads, self.step * row, row, feature), first)


@dataclass(frozen=True)
class Band:
    """Pairs that share the same levels."""

    width: int  # leading features that count
    runs: tuple[Run, ...]  # the pairs
    causal: bool = False  # both sides are the same tokens in order, and none sees a later one
    scale: float = 1.0  # factor of the scores, above 0


@dataclass(frozen=True, eq=False)
class Inside:
    """Small blocks that are computed by block products, finer levels included."""

    run: Run  # the blocks
    blocks: Blocks  # the products of one
    geometry: Geometry  # the levels of one, those that all its pairs share taken as the first
    n_common: int  # how many levels that are

    def shares(self, like: Tensor) -> Tensor | None:
        """What scores of a block are multiplied by [n n], or nothing where that is 1 everywhere."""
        if not self.geometry.levels.mean:
            return None
        return self.geometry.shares(like.dtype, like.device, n_common=self.n_common)[0]


@dataclass(frozen=True, eq=False)
class Plan:
    """What has to be computed, in this order: the base, which covers every token once, then bands,
    finer first.
    """

    relative: (
        tuple[float, ...] | None
    )  # factor per feature beside the scale of a band, where it is not 1 everywhere
    causal: bool  # see no later position
    base: Band | None  # blocks of the base level by a fused kernel
    dense: tuple[
        Inside, ...
    ]  # the same by block products, where blocks are small or have finer levels inside
    bands: tuple[Band, ...]  # the rest

    def steps(self, operand: Tensor) -> Iterator[tuple[Band, Run]]:
        """All runs of the base and the bands; on the way, features of ``operand`` that count no
        more become zero.
        """
        if self.base is not None:
            yield from ((self.base, run) for run in self.base.runs)
        for band in self.bands:
            operand[..., band.width :] = 0
            yield from ((band, run) for run in band.runs)

    def scaled(self, q: Tensor) -> Tensor:
        """Queries to be changed at will, or q itself where nothing changes them."""
        if self.relative is None:
            return q.clone(memory_format=torch.contiguous_format) if self.bands else q
        copy = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        return torch.mul(q, self.factors(q), out=copy)

    def factors(self, q: Tensor) -> Tensor:
        """Factor per feature [K], ones where q was padded."""
        factors = torch.ones(q.shape[3], dtype=q.dtype, device="cpu")
        factors[: len(self.relative or ())] = torch.tensor(
            self.relative or (), dtype=q.dtype, device="cpu"
        )
        return factors.to(q.device)


@functools.lru_cache(maxsize=256)
def split_heads(geometry: Geometry) -> tuple[tuple[slice, Geometry], ...]:
    """Heads whose blocks agree, together where they lie at regular distances.

    Args:
        geometry: The call.

    Returns:
        Some heads and the call for them alone, of one offset; every head once.
    """
    offsets = geometry.levels.offsets
    if len(offsets) == 1:
        return ((slice(None), geometry),)
    groups = []
    for offset in dict.fromkeys(offsets):
        heads = [head for head, other in enumerate(offsets) if other == offset]
        steps = {after - before for before, after in pairwise(heads)} or {1}
        regular = [slice(heads[0], heads[-1] + 1, min(steps))]
        some = regular if len(steps) == 1 else [slice(head, head + 1) for head in heads]
        levels = replace(geometry.levels, offset=(offset,))
        groups += [(part, replace(geometry, levels=levels)) for part in some]
    return tuple(groups)


@functools.lru_cache(maxsize=256)
def bands_refusal(geometry: Geometry) -> str | None:
    """Why bands cannot compute a call, in words for an error, or ``None`` when they can.

    Args:
        geometry: The call.

    Returns:
        One line that names the obstacle, and which backends serve it.
    """
    others = "use the reference, expanded or masked backend"
    if geometry.grouped:
        return (
            "bands need contiguous blocks; got levels by groups; use the reference or masked"
            " backend"
        )
    if geometry.n_queries != geometry.n_keys:
        return (
            f"bands need as many queries as keys; got {geometry.n_queries} and {geometry.n_keys};"
            f" {others}"
        )
    if asked := geometry.pattern.beyond("causal"):
        return f"bands serve no pattern but causal; got {asked}; {others}"
    for _, part in split_heads(geometry):
        for coarse, fine in pairwise(part.block_sizes[part.n_global_levels :]):
            if coarse % fine:
                return (
                    f"bands need nested blocks; got block sizes {coarse} and {fine}, no multiple of"
                    f" it; {others}"
                )
    return None


@functools.lru_cache(maxsize=64)
def make_plan(geometry: Geometry, dense_block: int) -> Plan:
    """Work out which stretches of queries meet which stretches of keys.

    Args:
        geometry: The call, of one offset; :func:`bands_refusal` lets it pass.
        dense_block: Most tokens of a block that block products compute.

    Returns:
        The plan, for any batch, number of heads, type and device.
    """
    ranks = geometry.levels.ranks
    mean = geometry.levels.mean
    first = geometry.n_global_levels - 1
    last = len(ranks) - 1
    sizes = (
        geometry.n_keys,
        *geometry.block_sizes[first + 1 :],
    )  # of the last global level and the finer ones
    small = [level for level, size in enumerate(sizes, first) if size <= dense_block]
    level = min([*small, last])
    scale = next((f for f in geometry.factors if f > 0), 1.0)
    relative = [
        f / scale for f, rank in zip(geometry.factors, ranks, strict=True) for _ in range(rank)
    ]
    widths = list(accumulate(ranks))
    bands = []
    for coarse in range(level - 1, first - 1, -1):
        runs = _join(_siblings(geometry, coarse))
        if runs:
            bands.append(Band(widths[coarse], runs, scale=scale / (coarse + 1 if mean else 1)))
    blocks = [
        Run(start, stop - start, start, stop - start) for start, stop in _spans(geometry, level)
    ]
    share_all = scale / (len(ranks) if mean else 1)
    return Plan(
        relative=None if set(relative) == {1.0} else tuple(relative),
        causal=geometry.pattern.causal,
        base=None if small else Band(widths[-1], _join(blocks), geometry.pattern.causal, share_all),
        dense=tuple(_inside(geometry, level, blocks, scale)) if small else (),
        bands=tuple(bands),
    )


def _spans(geometry: Geometry, level: int) -> list[tuple[int, int]]:
    """First token and the one after the last of each block."""
    if level < geometry.n_global_levels:
        return [(0, geometry.n_keys)]
    size = geometry.block_sizes[level]
    offset = geometry.levels.offsets[0]
    edges = [0, *range(size - offset % size, geometry.n_keys, size), geometry.n_keys]
    return list(pairwise(edges))


def _siblings(geometry: Geometry, level: int) -> Iterator[Run]:
    """Each block of the next level with all tokens before it, and after it, in the block of this
    level around it.

    That is fewer and longer products than one for each pair of blocks, and a query is merged twice
    at most.
    """
    children = iter(_spans(geometry, level + 1))
    for low, high in _spans(geometry, level):
        stop = low
        while stop < high:
            start, stop = next(children)
            if start > low:
                yield Run(start, stop - start, low, start - low)
            if stop < high and not geometry.pattern.causal:
                yield Run(start, stop - start, stop, high - stop)


def _join(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Runs of the same shape at regular distances as one."""
    groups: dict[tuple[int, int, int], list[Run]] = {}
    for run in runs:
        group = groups.setdefault((run.n_queries, run.n_keys, run.key - run.query), [])
        before = group[-1] if group else None
        if before is not None and before.count == 1:
            group[-1] = replace(before, step=run.query - before.query, count=2)
        elif before is not None and run.query == before.query + before.count * before.step:
            group[-1] = replace(before, count=before.count + 1)
        else:
            group.append(run)
    return tuple(run for group in groups.values() for run in group)


def _inside(geometry: Geometry, level: int, blocks: list[Run], scale: float) -> Iterator[Inside]:
    """Blocks of a level with the finer levels inside them, those alike together."""
    ranks = geometry.levels.ranks
    finer = geometry.block_sizes[level + 1 :]
    n_coarse = len(ranks) - len(finer)
    alike: dict[tuple[int, int], list[Run]] = {}
    for run in blocks:
        shift = (run.query + geometry.levels.offsets[0]) % finer[0] if finer else 0
        alike.setdefault((run.n_queries, shift), []).append(run)
    for (length, shift), group in alike.items():
        levels = Levels(
            (sum(ranks[:n_coarse]), *ranks[n_coarse:]),
            (max((length, *finer)), *finer),  # a block cut short may be shorter than the finer ones
            offset=shift,
            scales=(scale,) * (len(finer) + 1),
            mean=geometry.levels.mean,
        )
        inner = Geometry(length, length, levels)
        for run in _join(group):
            yield Inside(run, Blocks(inner), inner, n_coarse)
