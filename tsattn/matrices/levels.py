"""One level of a multi-level block matrix, and the products of a vector with it."""

import math
from dataclasses import dataclass
from numbers import Integral

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Level:
    """One term ``alpha * P_L (blockdiag L) P_R (blockdiag R^T)`` of a multi-level block matrix.

    ``R`` has ``right_blocks`` blocks and takes the input apart, ``L`` has ``left_blocks`` and puts
    the output together. Not shuffled, both permutations are the identity: block k of the output
    sees block k of the input through ``rank`` features (a level of MLR; with one block, low rank).
    Shuffled, they are transpositions: *every* pair of blocks is joined by ``rank`` features of its
    own, ``P_R`` hands feature (k, k') of the right side to left block k', and ``P_L`` interleaves
    the left blocks, so that output ``i`` lies in left block ``i mod left_blocks`` (BTT).

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
            if not isinstance(value := getattr(self, name), Integral) or value < 1:
                raise ValueError(
                    f"{name} of a level must be a whole number, at least 1; got {value!r}; drop the"
                    " level"
                )
        if not self.shuffled and self.left_blocks != self.right_blocks:
            raise ValueError(
                "a level without shuffle needs as many left as right blocks; got"
                f" {self.left_blocks} and {self.right_blocks}; make them equal or set shuffled=True"
            )
        if not math.isfinite(self.alpha) or self.alpha == 0:
            raise ValueError(
                f"alpha of a level must be finite and not 0; got {self.alpha}; drop the level"
                " instead"
            )

    @property
    def left_features(self) -> int:
        """Features that each left block receives."""
        return self.rank * (self.right_blocks if self.shuffled else 1)

    @property
    def right_features(self) -> int:
        """Features that each right block sends out."""
        return self.rank * (self.left_blocks if self.shuffled else 1)

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
        for name, n_blocks, size in (
            ("n_out", self.left_blocks, n_out),
            ("n_in", self.right_blocks, n_in),
        ):
            if n_blocks > size:
                raise ValueError(
                    f"a level must have at most {name} blocks; got {n_blocks} for {name} = {size};"
                    " take fewer blocks"
                )
            if self.shuffled and size % n_blocks:
                raise ValueError(
                    f"a shuffled level's blocks must divide {name}; got {n_blocks} for {name} ="
                    f" {size}; take a divisor, such as {math.gcd(n_blocks, size)}"
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
    """Cut axis ``dim`` (negative) into blocks, a new axis before it; shorter blocks end
    in zeros.
    """
    size = x.shape[dim]
    if size % n_blocks == 0:
        return x.unflatten(dim, (n_blocks, size // n_blocks))
    starts = torch.arange(n_blocks + 1, device=x.device) * size // n_blocks
    places = starts[:-1, None] + torch.arange(
        -(-size // n_blocks), device=x.device
    )  # [blocks, longest]
    last = starts[1:, None] - 1
    # A place of padding repeats the block's own last row, so that a NaN cannot travel between
    # blocks.
    picked = x.index_select(dim, torch.minimum(places, last).flatten()).unflatten(dim, places.shape)
    return picked * (places <= last).to(x.dtype).view(*places.shape, *[1] * (-dim - 1))


def join_blocks(x: Tensor, size: int, dim: int = -1) -> Tensor:
    """Undo :func:`split_blocks`: blocks on the axis before ``dim``, padding dropped."""
    n_blocks = x.shape[dim - 1]
    longest = x.shape[dim]
    flat = x.flatten(dim - 1, dim)
    if size % n_blocks == 0:
        return flat
    row = torch.arange(size, device=x.device)
    block = ((row + 1) * n_blocks - 1) // size
    return flat.index_select(dim, block * longest + row - block * size // n_blocks)


def contract(
    x: Float[Tensor, "... n"], core: Float[Tensor, "*H n q"], n_blocks: int
) -> Float[Tensor, "... p q"]:
    """Product with the transpose of a block-diagonal matrix whose row i is ``core[i]`` in its
    block's columns.
    """
    return torch.einsum(
        "...ki,...kiq->...kq", split_blocks(x, n_blocks), split_blocks(core, n_blocks, -2)
    )


def expand(z: Float[Tensor, "... p q"], core: Float[Tensor, "*H n q"]) -> Float[Tensor, "... n"]:
    """Product with that block-diagonal matrix itself."""
    blocks = torch.einsum("...kq,...kiq->...ki", z, split_blocks(core, z.shape[-2], -2))
    return join_blocks(blocks, core.shape[-2])


def _transposed(z: Tensor, n_blocks: int) -> Tensor:
    """Hand feature group k' of block k to block k', where it becomes group k."""
    return z.unflatten(-1, (n_blocks, -1)).transpose(-3, -2).flatten(-2)


def left_features(
    level: Level, x: Float[Tensor, "... n"], left: Float[Tensor, "*H n t"]
) -> Float[Tensor, "... b t"]:
    """What the left side sees of ``x``: ``(blockdiag L)^T P_L^T x``."""
    if level.shuffled:
        x = x.unflatten(-1, (-1, level.left_blocks)).transpose(-1, -2).flatten(-2)
    return contract(x, left, level.left_blocks)


def right_features(
    level: Level, x: Float[Tensor, "... n"], right: Float[Tensor, "*H n q"]
) -> Float[Tensor, "... b t"]:
    """What the right side sees of ``x``, in the order of the left blocks:
    ``P_R (blockdiag R^T) x``.
    """
    z = contract(x, right, level.right_blocks)
    return _transposed(z, level.left_blocks) if level.shuffled else z


def apply_level(level: Level, x: Tensor, left: Tensor, right: Tensor) -> Float[Tensor, "... n_out"]:
    """Product of the level with ``x`` on the last axis."""
    y = expand(right_features(level, x, right), left)
    if level.shuffled:
        y = y.unflatten(-1, (level.left_blocks, -1)).transpose(-1, -2).flatten(-2)
    return y if level.alpha == 1 else y * level.alpha


def apply_transpose(
    level: Level, x: Tensor, left: Tensor, right: Tensor
) -> Float[Tensor, "... n_in"]:
    """Product of the level's transpose with ``x`` on the last axis."""
    z = left_features(level, x, left)
    y = expand(_transposed(z, level.right_blocks) if level.shuffled else z, right)
    return y if level.alpha == 1 else y * level.alpha
