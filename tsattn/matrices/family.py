"""Structured matrices that are sums of levels, and the table of all structures by name."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from tsattn.checks import check_choice, check_whole
from tsattn.matrices.levels import Level
from tsattn.matrices.products import Butterfly, Kronecker, check_factors, default_factors
from tsattn.matrices.structured import Dense, LeveledMatrix, RandomSource, StructuredMatrix


def _default_rank(n_in: int, n_out: int) -> int:
    """A quarter of the smaller side."""
    smaller_side = min(check_whole("n_in", n_in), check_whole("n_out", n_out))
    return max(1, smaller_side // 4)


def _default_ranks(n_in: int, n_out: int) -> tuple[int, ...]:
    """:func:`_default_rank` shared as a half, a quarter and the rest; empty shares are dropped."""
    rank = _default_rank(n_in, n_out)
    half = math.ceil(rank / 2)
    quarter = rank // 4
    shares = (half, quarter, rank - half - quarter)
    return tuple(share for share in shares if share)


class LowRank(LeveledMatrix):
    """``L R^T`` with ``rank`` columns: ``(n_in + n_out) rank`` numbers.

    Args:
        n_in: Columns.
        n_out: Rows.
        rank: Columns of the factors; ``None`` is a quarter of the smaller side.
        heads, generator, dtype: As in :class:`tsattn.matrices.Dense`.

    Raises:
        ValueError: If the rank is below 1.
    """

    options = ("rank",)

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        rank: int | None = None,
        heads: int | None = None,
        generator: RandomSource = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if rank is None:
            rank = _default_rank(n_in, n_out)
        level = Level(rank=rank)
        super().__init__(n_in, n_out, (level,), heads=heads, generator=generator, dtype=dtype)


class MLR(LeveledMatrix):
    """Multi-level low rank, contiguous: level l adds a block-diagonal matrix of p_l blocks of rank
    r_l.

    ``(n_in + n_out) sum(ranks)`` numbers (Parshakova et al. 2023). Sizes need not divide by the
    numbers of blocks: block k of p holds rows ``k n // p`` to ``(k + 1) n // p``, which differ by
    one row at most.

    Args:
        n_in: Columns.
        n_out: Rows.
        ranks: r_l, coarse to fine; ``None`` shares a quarter of the smaller side as a half, a
            quarter and the rest.
        n_blocks: p_l; ``None`` is 1, 2, 4, ...
        heads, generator, dtype: As in :class:`tsattn.matrices.Dense`.

    Raises:
        ValueError: If a rank or number of blocks is below 1, a level has more blocks than rows, or
            lengths differ.
    """

    options = ("ranks", "n_blocks")

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        ranks: Sequence[int] | None = None,
        n_blocks: Sequence[int] | None = None,
        heads: int | None = None,
        generator: RandomSource = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        for name, numbers in (("ranks", ranks), ("n_blocks", n_blocks)):
            if numbers is not None and np.ndim(numbers) != 1:
                raise ValueError(
                    f"{name} must be a list of numbers, one a level; got {numbers!r}; write one"
                    " such as (2, 1)"
                )
        if ranks is None and n_blocks is not None:
            # One feature a block.
            ranks = (1,) * len(n_blocks)
        if ranks is None:
            ranks = _default_ranks(n_in, n_out)
        if n_blocks is None:
            n_blocks = tuple(2**level for level in range(len(ranks)))
        if len(ranks) != len(n_blocks):
            raise ValueError(
                f"ranks and n_blocks must have one number a level; got {len(ranks)} and"
                f" {len(n_blocks)}; leave n_blocks out for 1, 2, 4, ..."
            )
        # A level that is not shuffled has as many left as right blocks.
        levels = tuple(
            Level(count, count, rank) for rank, count in zip(ranks, n_blocks, strict=True)
        )
        super().__init__(n_in, n_out, levels, heads=heads, generator=generator, dtype=dtype)


class BTT(LeveledMatrix):
    """Block tensor train of two cores: ``P_L blockdiag(L) P_R blockdiag(R^T)`` (Qiu et al. 2024).

    With ``n_out = a b`` and ``n_in = c d``, entry ``(i b + j, k d + l)`` is the sum over
    ``m < tt_rank`` of ``L[j, i, k, m] R[k, l, j, m]``: each a x d block (j, k) has rank
    ``tt_rank``, in all ``(n_out c + n_in b) tt_rank`` numbers.

    Args:
        n_in: Columns, ``c d``; need not be a square.
        n_out: Rows, ``a b``.
        tt_rank: s, at least 1.
        factors: (a, b, c, d); ``None`` is :func:`default_factors`.
        heads, generator, dtype: As in :class:`tsattn.matrices.Dense`.

    Raises:
        ValueError: If the factors do not multiply to the sizes or the rank is below 1.
    """

    options: ClassVar[tuple[str, ...]] = ("tt_rank", "factors")

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        tt_rank: int = 1,
        factors: Sequence[int] | None = None,
        heads: int | None = None,
        generator: RandomSource = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        a, b, c, d = check_factors(factors, n_in, n_out)
        check_whole("tt_rank", tt_rank)
        # b left blocks of a rows and c right blocks of d columns.
        level = Level(b, c, tt_rank, shuffled=True)
        super().__init__(n_in, n_out, (level,), heads=heads, generator=generator, dtype=dtype)
        self.factors = (a, b, c, d)
        self.tt_rank = tt_rank


class Monarch(BTT):
    """``P blockdiag(L) P^T blockdiag(R)``: block tensor train of rank 1 (Dao et al. 2022).

    Args:
        n_in: Columns, ``c d``.
        n_out: Rows, ``a b``.
        factors: (a, b, c, d): b left blocks of a x c and c right blocks of b x d; ``None`` is
            :func:`default_factors`, square blocks for a square number.
        heads, generator, dtype: As in :class:`tsattn.matrices.Dense`.

    Raises:
        ValueError: If the factors do not multiply to the sizes.
    """

    options = ("factors",)

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        factors: Sequence[int] | None = None,
        heads: int | None = None,
        generator: RandomSource = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            n_in, n_out, factors=factors, heads=heads, generator=generator, dtype=dtype
        )


class MLBTC(LeveledMatrix):
    """Multi-level block tensor contraction, a sum of :class:`tsattn.matrices.Level`; the family
    contains all others.

    ``sum_l alpha_l P_L (blockdiag_k' L_lk') P_R (blockdiag_k R_lk^T)`` (Kuang et al. 2025).
    ``left[l]`` is ``[*H, n_out, features]``: row i is row i of the block-diagonal L, in the order
    before ``P_L``; ``right[l]`` is ``[*H, n_in, features]``, row i that of the block-diagonal R.

    Args:
        n_in: Columns.
        n_out: Rows.
        levels: The terms; ``None`` is low rank (an eighth of the smaller side) plus a block tensor
            train of rank 1.
        heads, generator, dtype: As in :class:`tsattn.matrices.Dense`.

    Raises:
        ValueError: If there is no level, or one does not fit the sizes.
    """

    options = ("levels",)

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        levels: Sequence[Level] | None = None,
        heads: int | None = None,
        generator: RandomSource = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if levels is None:
            # Low rank for the coarse structure, a block tensor train for the fine one.
            _, b, c, _ = default_factors(n_in, n_out)
            rank = max(1, min(n_in, n_out) // 8)
            levels = (Level(rank=rank), Level(b, c, 1, shuffled=True))
        super().__init__(n_in, n_out, levels, heads=heads, generator=generator, dtype=dtype)


STRUCTURES: dict[str, type[StructuredMatrix]] = {
    "dense": Dense,
    "low_rank": LowRank,
    "mlr": MLR,
    "kronecker": Kronecker,
    "monarch": Monarch,
    "btt": BTT,
    "butterfly": Butterfly,
    "mlbtc": MLBTC,
}


def make_matrix(
    name: str,
    n_in: int,
    n_out: int,
    *,
    rank: int | None = None,
    ranks: Sequence[int] | None = None,
    n_blocks: Sequence[int] | None = None,
    tt_rank: int | None = None,
    factors: Sequence[int] | None = None,
    levels: Sequence[Level] | None = None,
    heads: int | None = None,
    generator: RandomSource = None,
    dtype: torch.dtype | None = None,
) -> StructuredMatrix:
    """Build a structured matrix by name; options left at ``None`` take the structure's default.

    Args:
        name: A key of ``STRUCTURES``.
        n_in: Columns.
        n_out: Rows.
        rank: For ``low_rank``.
        ranks: For ``mlr``.
        n_blocks: For ``mlr``.
        tt_rank: For ``btt``.
        factors: For ``kronecker``, ``monarch`` and ``btt``.
        levels: For ``mlbtc``.
        heads, generator, dtype: As in :class:`tsattn.matrices.Dense`.

    Raises:
        ValueError: If the name is unknown, or an option is given that the structure does not have.

    Example:
        >>> make_matrix("mlr", 64, 64, ranks=(8, 4)).n_parameters
        1536
    """
    check_choice("name", name, STRUCTURES, "; choose one of them")
    # The structures take different options, which a type checker cannot see here.
    structure: Any = STRUCTURES[name]
    values = {
        "rank": rank,
        "ranks": ranks,
        "n_blocks": n_blocks,
        "tt_rank": tt_rank,
        "factors": factors,
        "levels": levels,
    }
    options = {option: value for option, value in values.items() if value is not None}
    for option, value in options.items():
        if option not in structure.options:
            own_options = ", ".join(structure.options) or "none"
            raise ValueError(
                f"{option} is no option of {name!r}, which has {own_options}; got {value};"
                " leave it out"
            )
    return structure(n_in, n_out, heads=heads, generator=generator, dtype=dtype, **options)
