"""Scores of levels as products of blocks, contiguous or by groups, and their gradients."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tsattn.kernels.geometry import Geometry
from tsattn.kernels.reference import shared_groups

# Results with rows shorter than a vector register of the CPU are made the other way round, which
# fills it.
NARROW_BYTES = 64


@dataclass(frozen=True)
class Run:
    """``count`` neighbouring blocks of one level with as many queries and as many keys each."""

    features: slice
    factor: float
    query: int
    key: int
    n_queries: int
    n_keys: int
    count: int

    @property
    def query_rows(self) -> slice:
        """Rows of the queries."""
        return slice(self.query, self.query + self.count * self.n_queries)

    @property
    def key_rows(self) -> slice:
        """Rows of the keys."""
        return slice(self.key, self.key + self.count * self.n_keys)

    def queries(self, x: Tensor) -> Tensor:
        """The run's own rows and features, a block at a time: [b h L K] -> [b*h*count
        n_queries r].
        """
        rows = x[:, :, self.query_rows, self.features]
        return rows.reshape(-1, self.n_queries, rows.shape[3])

    def keys(self, x: Tensor) -> Tensor:
        """The same for keys."""
        rows = x[:, :, self.key_rows, self.features]
        return rows.reshape(-1, self.n_keys, rows.shape[3])

    def diagonal(self, scores: Tensor) -> Tensor:
        """View of the run's blocks in the scores: [b h Lq Lk] -> [b h count n_queries n_keys]."""
        blocks = scores[:, :, self.query_rows, self.key_rows].unflatten(
            3, (self.count, self.n_keys)
        )
        blocks = blocks.unflatten(2, (self.count, self.n_queries))
        return blocks.diagonal(dim1=2, dim2=4).permute(0, 1, 4, 2, 3)


class Blocks:
    """Scores as a sum: products over all pairs for the global levels, block products added on the
    diagonal.
    """

    def __init__(self, geometry: Geometry) -> None:
        # Neighbouring global levels of one factor are one product. For ordinary attention that is
        # all there is.
        self.common: list[tuple[slice, float]] = []
        start = 0
        for level in range(geometry.n_global_levels):
            stop = start + geometry.levels.ranks[level]
            factor = geometry.factors[level]
            if self.common and self.common[-1][1] == factor:
                start = self.common.pop()[0].start
            self.common.append((slice(start, stop), factor))
            start = stop
        # Heads whose grids agree go together: (first head, head after the last, runs).
        self.groups: list[tuple[int, int | None, list[Run]]] = []
        for head, offset in enumerate(geometry.levels.offsets):
            first = head
            runs = _runs(geometry, offset)
            if self.groups and self.groups[-1][2] == runs:
                first = self.groups.pop()[0]
            self.groups.append((first, head + 1, runs))
        if len(geometry.levels.offsets) == 1:
            self.groups = [(0, None, self.groups[0][2])]

    def _runs_of(self, heads: slice) -> list[tuple[slice, Run]]:
        chosen = []
        for first, stop, runs in self.groups:
            low = max(first, heads.start) - heads.start
            high = (heads.stop if stop is None else min(stop, heads.stop)) - heads.start
            if low < high:
                chosen += [(slice(max(low, 0), high), run) for run in runs]
        return chosen

    def scores(self, q: Tensor, k: Tensor, out: Tensor, heads: slice) -> None:
        """Fill ``out`` [b h Lq Lk]."""
        flat = out.flatten(0, 1)
        for position, (features, factor) in enumerate(self.common):
            left = merge(q[..., features])
            right = merge(k[..., features])
            flat.baddbmm_(left, right.transpose(1, 2), beta=min(position, 1), alpha=factor)
        for some, run in self._runs_of(heads):
            blocks = run.diagonal(out[:, some])
            part = torch.bmm(run.queries(q[:, some]), run.keys(k[:, some]).transpose(1, 2))
            blocks.add_(part.view(blocks.shape), alpha=run.factor)

    def gradients(
        self, ds: Tensor, q: Tensor, k: Tensor, dq: Tensor, dk: Tensor, heads: slice
    ) -> None:
        """From the gradient of the scores to those of q and k, block by block."""
        flat = ds.flatten(0, 1)
        for features, factor in self.common:
            fill(dq[..., features], flat, merge(k[..., features]), factor)
            fill(dk[..., features], flat.transpose(1, 2), merge(q[..., features]), factor)
        if dq.shape[2] != dk.shape[2]:
            # A query before the first key may belong to no block, and a block of keys may hold no
            # query.
            for target in (dq, dk):
                target[..., self.common[-1][0].stop :] = 0
        for some, run in self._runs_of(heads):
            blocks = run.diagonal(ds[:, some]).reshape(-1, run.n_queries, run.n_keys)
            queries = run.queries(q[:, some])
            keys = run.keys(k[:, some])
            fill(dq[:, some, run.query_rows, run.features], blocks, keys, run.factor)
            fill(
                dk[:, some, run.key_rows, run.features], blocks.transpose(1, 2), queries, run.factor
            )


def merge(x: Tensor) -> Tensor:
    """Batch and heads as one axis, a view where the layout allows: [b h L K] -> [b*h L K]."""
    return x.reshape(-1, *x.shape[2:])


def fill(target: Tensor, left: Tensor, right: Tensor, factor: float) -> None:
    """Write ``factor * left @ right`` where ``target`` points; batched products want a dense place,
    so maybe a copy.
    """
    shape = (left.shape[0], left.shape[1], right.shape[2])
    if left.device.type == "cpu" and right.shape[2] * right.element_size() < NARROW_BYTES:
        turned = left.new_empty((shape[0], shape[2], shape[1]))
        turned.baddbmm_(right.transpose(1, 2), left.transpose(1, 2), beta=0, alpha=factor)
        blocks = target.unflatten(2, (-1, shape[1]))
        blocks.copy_(turned.view(*blocks.shape[:3], shape[2], shape[1]).transpose(3, 4))
    elif target.is_contiguous():
        target.view(shape).baddbmm_(left, right, beta=0, alpha=factor)
    else:
        product = left.new_empty(shape).baddbmm_(left, right, beta=0, alpha=factor)
        target.copy_(product.view(target.shape))


def _runs(geometry: Geometry, offset: int) -> list[Run]:
    """Blocks of every level that is not global, neighbours of one size joined."""
    runs: list[Run] = []
    shift = geometry.n_keys - geometry.n_queries
    ranks = geometry.levels.ranks
    start = sum(ranks[: geometry.n_global_levels])
    for level in range(geometry.n_global_levels, len(ranks)):
        size = geometry.block_sizes[level]
        features = slice(start, start + ranks[level])
        start = features.stop
        first, last = geometry.touched(level, offset)
        for block in range(first, last + 1):
            # Positions of the block, cut to those that hold a key, then to those that hold a query.
            low = max(block * size - offset, 0)
            high = min((block + 1) * size - offset, geometry.n_keys)
            top = max(block * size - offset - shift, 0)
            bottom = high - shift
            if bottom <= top:
                continue
            run = Run(features, geometry.factors[level], top, low, bottom - top, high - low, 1)
            if runs and _follows(runs[-1], run):
                before = runs.pop()
                run = replace(before, count=before.count + 1)
            runs.append(run)
    return runs


def _follows(before: Run, run: Run) -> bool:
    alike = (before.features, before.n_queries, before.n_keys) == (
        run.features,
        run.n_queries,
        run.n_keys,
    )
    return alike and before.query_rows.stop == run.query and before.key_rows.stop == run.key


class Groups:
    """Levels after the first whose parts are given: products of all pairs, counted where both are
    in one part.
    """

    def __init__(self, geometry: Geometry, groups: tuple[Tensor, ...], dtype: torch.dtype) -> None:
        self.levels: list[tuple[slice, float, int, int, Tensor]] = []
        start, *ranks = geometry.levels.ranks
        for rank, factor, parts in zip(ranks, geometry.factors[1:], groups, strict=True):
            key = _first_in_a_part(parts)
            query = max(key - (geometry.n_keys - geometry.n_queries), 0)
            same = shared_groups(parts[..., key:], geometry.n_queries - query).to(dtype)
            self.levels.append((slice(start, start + rank), factor, query, key, same))
            start += rank
        self.share: Tensor | None = None
        if geometry.levels.mean:
            count = torch.ones((), dtype=dtype, device=groups[0].device if groups else None)
            for parts in groups:
                count = count + shared_groups(parts, geometry.n_queries)
            self.share = count.reciprocal().expand(
                *((1,) * (4 - count.ndim)), *count.shape
            )  # [1|B, 1|H, Lq, Lk]

    def add(self, q: Tensor, k: Tensor, raw: Tensor, here: tuple[slice, slice]) -> None:
        """Add the levels' scores of a slice to ``raw`` [b h Lq Lk]."""
        for features, factor, query, key, same in self.levels:
            queries = merge(q[:, :, query:, features])
            keys = merge(k[:, :, key:, features])
            place = raw[:, :, query:, key:]
            part = torch.bmm(queries, keys.transpose(1, 2))
            place.addcmul_(part.view(place.shape), at(same, here), value=factor)
        if self.share is not None:
            raw.mul_(at(self.share, here))

    def gradients(
        self, ds: Tensor, q: Tensor, k: Tensor, dq: Tensor, dk: Tensor, here: tuple[slice, slice]
    ) -> None:
        """From the gradient of a slice's scores to those of the levels' queries and keys."""
        for features, factor, query, key, same in self.levels:
            own = (ds[:, :, query:, key:] * at(same, here)).flatten(0, 1)
            dq[:, :, :query, features] = 0
            dk[:, :, :key, features] = 0
            fill(dq[:, :, query:, features], own, merge(k[:, :, key:, features]), factor)
            fill(
                dk[:, :, key:, features],
                own.transpose(1, 2),
                merge(q[:, :, query:, features]),
                factor,
            )


def _first_in_a_part(parts: Tensor) -> int:
    """Positions before it need no products; 0 on devices that would have to be waited for, and
    where there is none.
    """
    if parts.device.type != "cpu":
        return 0
    return int((parts >= 0).reshape(-1, parts.shape[-1]).any(dim=0).byte().argmax())


def at(mask: Tensor, here: tuple[slice, slice]) -> Tensor:
    """What a mask [1 or B, 1 or H, Lq, Lk] holds for a slice of the batch and the heads."""
    sequences, heads = (
        part if size > 1 else slice(None) for part, size in zip(here, mask.shape[:2], strict=True)
    )
    return mask[sequences, heads]
