"""Products of blocks, contiguous or by groups: the scores of levels and their gradients."""

import sys
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tsattn.kernels.geometry import Geometry, KeyGroups, shared_groups

# Bytes of a vector register of the CPU. Results with shorter rows are computed transposed, which
# fills the register.
NARROW_BYTES = 64


@dataclass(frozen=True)
class BlockRun:
    """``count`` neighbouring blocks of one level with as many queries and as many keys each."""

    features: slice
    factor: float
    query: int  # first query
    key: int  # first key
    n_queries: int  # of one block
    n_keys: int  # of one block
    count: int

    @property
    def query_rows(self) -> slice:
        """Rows of the queries."""
        n_rows = self.count * self.n_queries
        return slice(self.query, self.query + n_rows)

    @property
    def key_rows(self) -> slice:
        """Rows of the keys."""
        n_rows = self.count * self.n_keys
        return slice(self.key, self.key + n_rows)

    def queries(self, x: Tensor) -> Tensor:
        """The rows and features of the run, a block at a time: [b h Lq K] -> [b*h*count n_queries
        r].
        """
        rows = x[:, :, self.query_rows, self.features]
        return rows.reshape(-1, self.n_queries, rows.shape[3])

    def keys(self, x: Tensor) -> Tensor:
        """The same for keys: [b h Lk K] -> [b*h*count n_keys r]."""
        rows = x[:, :, self.key_rows, self.features]
        return rows.reshape(-1, self.n_keys, rows.shape[3])

    def diagonal(self, scores: Tensor) -> Tensor:
        """View of the run's blocks in the scores: [b h Lq Lk] -> [b h count n_queries n_keys]."""
        blocks = scores[:, :, self.query_rows, self.key_rows]
        blocks = blocks.unflatten(3, (self.count, self.n_keys))
        blocks = blocks.unflatten(2, (self.count, self.n_queries))
        # The diagonal moves its axis to the end.
        on_diagonal = blocks.diagonal(dim1=2, dim2=4)
        return on_diagonal.permute(0, 1, 4, 2, 3)


@dataclass(frozen=True)
class _Grid:
    """Neighbouring heads whose blocks agree, and the runs of these blocks."""

    first_head: int
    stop_head: int
    runs: list[BlockRun]


class Blocks:
    """Scores as a sum: products over all pairs for the global levels, block products added on the
    diagonal for the others.
    """

    def __init__(self, geometry: Geometry) -> None:
        # Features and factor of each product over all pairs. Neighbouring global levels of one
        # factor are one product, so ordinary attention is a single one.
        self.common: list[tuple[slice, float]] = []
        start = 0
        for level in range(geometry.n_global_levels):
            stop = start + geometry.levels.ranks[level]
            factor = geometry.factors[level]
            if self.common and self.common[-1][1] == factor:
                previous, _ = self.common.pop()
                start = previous.start
            features = slice(start, stop)
            self.common.append((features, factor))
            start = stop
        offsets = geometry.levels.offsets
        self.grids: list[_Grid] = []
        for head, offset in enumerate(offsets):
            first = head
            runs = _find_runs(geometry, offset)
            if self.grids and self.grids[-1].runs == runs:
                previous_grid = self.grids.pop()
                first = previous_grid.first_head
            # One offset serves any number of heads.
            stop = sys.maxsize if len(offsets) == 1 else head + 1
            self.grids.append(_Grid(first, stop, runs))

    def _runs_of(self, heads: slice) -> list[tuple[slice, BlockRun]]:
        """The runs of some heads, each with its heads counted from the first of these."""
        runs = []
        for grid in self.grids:
            # Heads of the grid, counted from the first of the slice.
            first = max(grid.first_head - heads.start, 0)
            stop = min(grid.stop_head, heads.stop) - heads.start
            if first < stop:
                grid_heads = slice(first, stop)
                runs += [(grid_heads, run) for run in grid.runs]
        return runs

    def scores(self, q: Tensor, k: Tensor, out: Tensor, heads: slice) -> None:
        """Fill ``out`` [b h Lq Lk]."""
        flat = out.flatten(0, 1)
        beta = 0  # the first product overwrites, the others add
        for features, factor in self.common:
            queries = merge(q[..., features])
            keys = merge(k[..., features])
            key_columns = keys.transpose(1, 2)
            flat.baddbmm_(queries, key_columns, beta=beta, alpha=factor)
            beta = 1
        for run_heads, run in self._runs_of(heads):
            blocks = run.diagonal(out[:, run_heads])
            queries = run.queries(q[:, run_heads])
            keys = run.keys(k[:, run_heads])
            products = torch.bmm(queries, keys.transpose(1, 2))
            blocks.add_(products.view(blocks.shape), alpha=run.factor)

    def gradients(
        self, ds: Tensor, q: Tensor, k: Tensor, dq: Tensor, dk: Tensor, heads: slice
    ) -> None:
        """From the gradient of the scores to those of q and k, block by block."""
        flat = ds.flatten(0, 1)  # [b*h Lq Lk]
        flat_by_key = flat.transpose(1, 2)
        for features, factor in self.common:
            queries = merge(q[..., features])
            keys = merge(k[..., features])
            fill(dq[..., features], flat, keys, factor)
            fill(dk[..., features], flat_by_key, queries, factor)
        if dq.shape[2] != dk.shape[2]:
            # A query before the first key may belong to no block, and a block of keys may hold no
            # query, so the runs do not fill every row.
            first_block_feature = self.common[-1][0].stop
            for target in (dq, dk):
                target[..., first_block_feature:] = 0
        for run_heads, run in self._runs_of(heads):
            blocks = run.diagonal(ds[:, run_heads])
            blocks = blocks.reshape(-1, run.n_queries, run.n_keys)
            queries = run.queries(q[:, run_heads])
            keys = run.keys(k[:, run_heads])
            to_queries = dq[:, run_heads, run.query_rows, run.features]
            to_keys = dk[:, run_heads, run.key_rows, run.features]
            fill(to_queries, blocks, keys, run.factor)
            fill(to_keys, blocks.transpose(1, 2), queries, run.factor)


def merge(x: Tensor) -> Tensor:
    """Batch and heads as one axis, a view where the layout allows: [b h L K] -> [b*h L K]."""
    # Sequences and heads in one axis, as batched products need it.
    return x.reshape(-1, *x.shape[2:])


def fill(target: Tensor, left: Tensor, right: Tensor, factor: float) -> None:
    """Write ``factor * left @ right`` into ``target`` [b h L F], which may be any view.

    A batched product needs a contiguous result, so some targets cost a copy.
    """
    batch, n_rows, _ = left.shape
    n_columns = right.shape[2]
    row_bytes = n_columns * right.element_size()
    if left.device.type == "cpu" and row_bytes < NARROW_BYTES:
        # The transposed product has long rows.
        transposed = left.new_empty((batch, n_columns, n_rows))
        left_columns = left.transpose(1, 2)
        right_columns = right.transpose(1, 2)
        transposed.baddbmm_(right_columns, left_columns, beta=0, alpha=factor)
        blocks = target.unflatten(2, (-1, n_rows))  # [b h count rows columns]
        transposed = transposed.view(*blocks.shape[:3], n_columns, n_rows)
        blocks.copy_(transposed.transpose(3, 4))
    elif target.is_contiguous():
        in_place = target.view(batch, n_rows, n_columns)
        in_place.baddbmm_(left, right, beta=0, alpha=factor)
    else:
        product = left.new_empty((batch, n_rows, n_columns))
        product.baddbmm_(left, right, beta=0, alpha=factor)
        target.copy_(product.view(target.shape))


def _find_runs(geometry: Geometry, offset: int) -> list[BlockRun]:
    """Blocks of every level that is not global, neighbours of one size joined."""
    runs: list[BlockRun] = []
    ranks = geometry.levels.ranks
    start = sum(ranks[: geometry.n_global_levels])
    for level in range(geometry.n_global_levels, len(ranks)):
        features = slice(start, start + ranks[level])
        start = features.stop
        first, last = geometry.touched(level, offset)
        for block in range(first, last + 1):
            run = _find_block(geometry, level, block, offset, features)
            if run is None:
                continue
            if runs and _is_next(runs[-1], run):
                previous = runs.pop()
                run = replace(previous, count=previous.count + 1)
            runs.append(run)
    return runs


def _find_block(
    geometry: Geometry, level: int, block: int, offset: int, features: slice
) -> BlockRun | None:
    """Queries and keys of one block, or ``None`` where it holds no query."""
    size = geometry.block_sizes[level]
    # The last query stands at the position of the last key.
    shift = geometry.n_keys - geometry.n_queries
    block_start = block * size - offset
    first_key = max(block_start, 0)
    stop_key = min(block_start + size, geometry.n_keys)
    first_query = max(block_start - shift, 0)
    stop_query = stop_key - shift
    if stop_query <= first_query:
        return None
    return BlockRun(
        features,
        geometry.factors[level],
        query=first_query,
        key=first_key,
        n_queries=stop_query - first_query,
        n_keys=stop_key - first_key,
        count=1,
    )


def _is_next(run: BlockRun, block: BlockRun) -> bool:
    """Whether a block continues a run: same features and sizes, directly behind it."""
    return block == replace(run, query=run.query_rows.stop, key=run.key_rows.stop, count=1)


@dataclass(frozen=True)
class _GroupLevel:
    """One level by groups; tokens before the first one in a group need no products."""

    features: slice
    factor: float
    query: int  # first query that may be in a group
    key: int  # first key that may be in a group
    same: Tensor  # 1 where query and key share a group, [1|B 1|H Lq-query Lk-key]


class Groups:
    """The levels after the first of a call by groups: products of all pairs, counted where both
    are in one group.
    """

    def __init__(self, geometry: Geometry, groups: KeyGroups, dtype: torch.dtype) -> None:
        self.levels: list[_GroupLevel] = []
        start, *ranks = geometry.levels.ranks
        factors = geometry.factors[1:]
        for rank, factor, level_groups in zip(ranks, factors, groups, strict=True):
            key = _first_grouped(level_groups)
            query = max(key - (geometry.n_keys - geometry.n_queries), 0)
            n_queries = geometry.n_queries - query
            same = shared_groups(level_groups[..., key:], n_queries).to(dtype)
            stop = start + rank
            level = _GroupLevel(slice(start, stop), factor, query, key, same)
            self.levels.append(level)
            start = stop
        self.share: Tensor | None = None
        if geometry.levels.mean:
            device = groups[0].device if groups else None
            # Levels in which a query and a key share a group; the first one is shared by all.
            count = torch.ones((), dtype=dtype, device=device)
            for level_groups in groups:
                count = count + shared_groups(level_groups, geometry.n_queries)
            share = count.reciprocal()
            while share.ndim < 4:
                share = share[None]
            self.share = share  # [1|B 1|H Lq Lk]

    def add(self, q: Tensor, k: Tensor, raw: Tensor, index: tuple[slice, slice]) -> None:
        """Add the levels' scores of a slice to ``raw`` [b h Lq Lk]."""
        for level in self.levels:
            queries = merge(q[:, :, level.query :, level.features])
            keys = merge(k[:, :, level.key :, level.features])
            target = raw[:, :, level.query :, level.key :]
            products = torch.bmm(queries, keys.transpose(1, 2))
            products = products.view(target.shape)
            target.addcmul_(products, mask_slice(level.same, index), value=level.factor)

    def gradients(
        self, ds: Tensor, q: Tensor, k: Tensor, dq: Tensor, dk: Tensor, index: tuple[slice, slice]
    ) -> None:
        """From the gradient of a slice's scores to those of the levels' queries and keys."""
        for level in self.levels:
            features = level.features
            same = mask_slice(level.same, index)
            part_ds = ds[:, :, level.query :, level.key :]
            level_ds = (part_ds * same).flatten(0, 1)
            queries = merge(q[:, :, level.query :, features])
            keys = merge(k[:, :, level.key :, features])
            # Rows before the first one of a group have no part in the level.
            dq[:, :, : level.query, features] = 0
            dk[:, :, : level.key, features] = 0
            to_queries = dq[:, :, level.query :, features]
            to_keys = dk[:, :, level.key :, features]
            fill(to_queries, level_ds, keys, level.factor)
            fill(to_keys, level_ds.transpose(1, 2), queries, level.factor)


def _first_grouped(groups: Tensor) -> int:
    """First position that is in a group in some sequence or head, 0 where there is none.

    Also 0 on other devices than the CPU, where the answer would have to be waited for.
    """
    if groups.device.type != "cpu":
        return 0
    n_keys = groups.shape[-1]
    in_group = (groups >= 0).reshape(-1, n_keys)
    in_any = in_group.any(dim=0)
    # The place of the first 1; 0 where there is none.
    return int(in_any.byte().argmax())


def mask_slice(mask: Tensor, index: tuple[slice, slice]) -> Tensor:
    """The part of a mask [1|B 1|H Lq Lk] for some sequences and heads."""
    sequences, heads = index
    # An axis of one entry serves all sequences or heads.
    if mask.shape[0] == 1:
        sequences = slice(None)
    if mask.shape[1] == 1:
        heads = slice(None)
    return mask[sequences, heads]
