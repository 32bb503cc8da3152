"""One level of a multi-level block matrix, and the products of a vector with it."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tsattn.checks import check_switch, check_whole, is_number

# Vectors, the core of one side of a level, and features of each block.
Vectors = Float[Tensor, "... n"]
Core = Float[Tensor, "*H n q"]
BlockFeatures = Float[Tensor, "... p q"]


@dataclass(frozen=True)
class Level:
    """One term ``alpha * P_L (blockdiag L) P_R (blockdiag R^T)`` of a multi-level block matrix.

    ``R`` has ``right_blocks`` blocks and acts on the input, ``L`` has ``left_blocks`` blocks and
    makes the output. A level that is not shuffled has the identity for both permutations: block k
    of the output depends on block k of the input through ``rank`` features (a level of MLR; with
    one block, low rank). A shuffled level has transpositions: *every* pair of blocks is joined by
    ``rank`` separate features. ``P_R`` moves feature (k, k') of the right side to left block k',
    and ``P_L`` interleaves the left blocks, so that output ``i`` lies in left block
    ``i mod left_blocks`` (BTT).

    Args:
        left_blocks: Blocks over the output.
        right_blocks: Blocks over the input; equal to ``left_blocks`` unless shuffled.
        rank: Features a block, or a pair of blocks when shuffled.
        shuffled: Whether the permutations are transpositions.
        alpha: Fixed factor of the level, finite and not 0; it is not trained.

    Raises:
        ValueError: If a number is out of its range.
    """

    left_blocks: int = 1
    right_blocks: int = 1
    rank: int = 1
    shuffled: bool = False
    alpha: float = 1.0

    def __post_init__(self) -> None:
        for name in ("left_blocks", "right_blocks", "rank"):
            check_whole(name, getattr(self, name))
        check_switch("shuffled", self.shuffled)
        if not self.shuffled and self.left_blocks != self.right_blocks:
            raise ValueError(
                "a level without shuffle needs as many left as right blocks; got"
                f" {self.left_blocks} and {self.right_blocks}; make them equal or set shuffled=True"
            )
        if not is_number(self.alpha) or not math.isfinite(self.alpha) or self.alpha == 0:
            raise ValueError(
                f"alpha of a level must be a finite number and not 0; got {self.alpha!r}; drop the"
                " level instead"
            )

    @property
    def left_features(self) -> int:
        """Features that each left block receives."""
        n_senders = self.right_blocks if self.shuffled else 1
        return self.rank * n_senders

    @property
    def right_features(self) -> int:
        """Features that each right block sends out."""
        n_receivers = self.left_blocks if self.shuffled else 1
        return self.rank * n_receivers

    @property
    def n_features(self) -> int:
        """Features between the two sides, over all blocks."""
        return self.left_blocks * self.left_features

    def check(self, n_out: int, n_in: int) -> None:
        """Refuse sizes that this level cannot cut.

        Raises:
            ValueError: If there are more blocks than rows, or a shuffled level does not divide them
                evenly.
        """
        self._check_side("n_out", n_out, self.left_blocks)
        self._check_side("n_in", n_in, self.right_blocks)

    def _check_side(self, name: str, size: int, n_blocks: int) -> None:
        if n_blocks > size:
            raise ValueError(
                f"a level must have at most {name} blocks; got {n_blocks} for {name} = {size};"
                " take fewer blocks"
            )
        if self.shuffled and size % n_blocks:
            divisor = math.gcd(n_blocks, size)
            raise ValueError(
                f"a shuffled level's blocks must divide {name}; got {n_blocks} for {name} ="
                f" {size}; take a divisor, such as {divisor}"
            )


def block_starts(size: int, n_blocks: int) -> list[int]:
    """Where contiguous blocks begin: block k holds rows ``k size // p`` up to
    ``(k + 1) size // p``.

    Sizes need not divide: blocks differ by one row at most, none is empty, and the blocks of one
    level nest in those of another whenever their numbers divide each other.

    Returns:
        ``n_blocks + 1`` numbers, the last one ``size``.

    Example:
        >>> block_starts(10, 4)
        [0, 2, 5, 7, 10]
    """
    return [k * size // n_blocks for k in range(n_blocks + 1)]


def split_blocks(x: Tensor, n_blocks: int, dim: int = -1) -> Tensor:
    """Cut axis ``dim`` (negative) into blocks on a new axis before it; zeros pad short blocks."""
    size = x.shape[dim]
    if size % n_blocks == 0:
        return x.unflatten(dim, (n_blocks, size // n_blocks))
    longest = math.ceil(size / n_blocks)
    numbers = torch.arange(n_blocks + 1, device=x.device)  # of the blocks, and one more
    starts = numbers * size // n_blocks
    places = torch.arange(longest, device=x.device)
    rows = starts[:-1, None] + places  # [blocks longest]
    last_rows = starts[1:, None] - 1  # [blocks 1]
    # Padding repeats the last row of its own block, so that a NaN cannot move to another block.
    sources = torch.minimum(rows, last_rows)
    flat = x.index_select(dim, sources.flatten())
    blocks = flat.unflatten(dim, sources.shape)
    in_block = (rows <= last_rows).to(x.dtype)
    n_later_axes = -dim - 1
    later_axes = [1] * n_later_axes
    return blocks * in_block.view(*in_block.shape, *later_axes)


def join_blocks(x: Tensor, size: int) -> Tensor:
    """Undo :func:`split_blocks` on the last axis: blocks on the axis before it, padding dropped."""
    n_blocks, longest = x.shape[-2:]
    flat = x.flatten(-2)
    if size % n_blocks == 0:
        return flat
    # Row i of block k starts at k size // p, which is the inverse of block_starts.
    rows = torch.arange(size, device=x.device)
    blocks = ((rows + 1) * n_blocks - 1) // size  # of each row
    starts = blocks * size // n_blocks
    places = rows - starts  # of each row in its block
    sources = blocks * longest + places
    return flat.index_select(-1, sources)


def contract(x: Vectors, core: Core, n_blocks: int) -> BlockFeatures:
    """Product with the transpose of a block-diagonal matrix whose row i is ``core[i]`` in its
    block's columns.
    """
    vectors = split_blocks(x, n_blocks)
    blocks = split_blocks(core, n_blocks, -2)
    return torch.einsum("...ki,...kiq->...kq", vectors, blocks)


def expand(z: BlockFeatures, core: Core) -> Vectors:
    """Product with the block-diagonal matrix of :func:`contract` itself."""
    blocks = split_blocks(core, z.shape[-2], -2)
    products = torch.einsum("...kq,...kiq->...ki", z, blocks)
    return join_blocks(products, core.shape[-2])


def _transpose_groups(z: Tensor, n_blocks: int) -> Tensor:
    """Move feature group k' of block k to block k', where it becomes group k."""
    groups = z.unflatten(-1, (n_blocks, -1))
    return groups.transpose(-3, -2).flatten(-2)


def _transpose_rows(x: Tensor, n_rows: int) -> Tensor:
    """Read the last axis as a matrix of ``n_rows`` rows and transpose it."""
    rows = x.unflatten(-1, (n_rows, -1))
    return rows.transpose(-1, -2).flatten(-2)


def left_features(
    level: Level, x: Vectors, left: Float[Tensor, "*H n t"]
) -> Float[Tensor, "... b t"]:
    """Features of ``x`` on the left side: ``(blockdiag L)^T P_L^T x``."""
    if level.shuffled:
        n_rows = x.shape[-1] // level.left_blocks
        x = _transpose_rows(x, n_rows)
    return contract(x, left, level.left_blocks)


def right_features(level: Level, x: Vectors, right: Core) -> Float[Tensor, "... b t"]:
    """Features of ``x`` on the right side, in the order of the left blocks:
    ``P_R (blockdiag R^T) x``.
    """
    z = contract(x, right, level.right_blocks)
    return _transpose_groups(z, level.left_blocks) if level.shuffled else z


def apply_level(level: Level, x: Tensor, left: Tensor, right: Tensor) -> Float[Tensor, "... n_out"]:
    """Product of the level with ``x`` on the last axis."""
    z = right_features(level, x, right)
    y = expand(z, left)
    # P_L: output i lies in left block i mod left_blocks.
    if level.shuffled:
        y = _transpose_rows(y, level.left_blocks)
    return y if level.alpha == 1 else y * level.alpha


def apply_transpose(
    level: Level, x: Tensor, left: Tensor, right: Tensor
) -> Float[Tensor, "... n_in"]:
    """Product of the level's transpose with ``x`` on the last axis."""
    z = left_features(level, x, left)
    # P_R^T moves the features back to the right blocks.
    if level.shuffled:
        z = _transpose_groups(z, level.right_blocks)
    y = expand(z, right)
    return y if level.alpha == 1 else y * level.alpha
