"""Structured matrices that are products of small ones: Kronecker and Butterfly, and the default
factors of a size.
"""

import math
from collections.abc import Iterable, Sequence
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from tsattn.checks import check_whole
from tsattn.matrices.structured import Inputs, Outputs, RandomSource, StructuredMatrix


def _largest_small_divisor(size: int) -> int:
    """The largest divisor that is at most the square root."""
    divisor = math.isqrt(size)
    while size % divisor:
        divisor -= 1
    return divisor


def default_factors(n_in: int, n_out: int) -> tuple[int, int, int, int]:
    """Factors (a, b, c, d) with ``n_out = a b`` and ``n_in = c d``, each pair as close to the
    square root as possible, b and d the smaller.

    For ``n_in = n_out`` this gives ``b c = n_out``, so that a block tensor train of rank 1 can have
    full rank. A prime size gives (size, 1), and the structure is then no smaller than a dense
    matrix.

    Example:
        >>> default_factors(16, 12)
        (4, 3, 4, 4)
    """
    b = _largest_small_divisor(check_whole("n_out", n_out))
    d = _largest_small_divisor(check_whole("n_in", n_in))
    return n_out // b, b, n_in // d, d


def check_factors(
    factors: Sequence[int] | None, n_in: int, n_out: int
) -> tuple[int, int, int, int]:
    """The factors, or the default ones for ``None``.

    Raises:
        ValueError: If they do not multiply to the sizes.
    """
    if factors is None:
        return default_factors(n_in, n_out)
    if not _factors_fit(factors, n_in, n_out):
        default = default_factors(n_in, n_out)
        raise ValueError(
            "factors must be four positive numbers (a, b, c, d) with a b = n_out and c d = n_in;"
            f" got {factors} for n_out = {n_out}, n_in = {n_in}; leave them out for"
            f" {default}"
        )
    a, b, c, d = factors
    return a, b, c, d


def _factors_fit(factors: Sequence[int], n_in: int, n_out: int) -> bool:
    """Whether these are four positive numbers that multiply to the sizes."""
    # A user may pass anything, such as a nested list or a string.
    if np.shape(factors) != (4,):
        return False
    are_positive = all(isinstance(factor, Integral) and factor > 0 for factor in factors)
    if not are_positive:
        return False
    a, b, c, d = factors
    return a * b == n_out and c * d == n_in


class Kronecker(StructuredMatrix):
    """``A kron B`` with A [a, c] and B [b, d]: ``a c + b d`` numbers.

    Args:
        n_in: Columns, ``c d``.
        n_out: Rows, ``a b``.
        factors: (a, b, c, d); ``None`` is :func:`default_factors`.
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
        super().__init__(n_in, n_out, heads=heads)
        self.factors = check_factors(factors, n_in, n_out)
        a, b, c, d = self.factors
        self.a = self._core(a, c, dtype=dtype)
        self.b = self._core(b, d, dtype=dtype)
        self.reset_parameters(generator)

    def forward(self, x: Inputs) -> Outputs:
        self.check_input(x, "n_in")
        return self._product(x, self.a, self.b)

    def rmatmul(self, x: Outputs) -> Inputs:
        self.check_input(x, "n_out")
        return self._product(x, self.a.mT, self.b.mT)

    @staticmethod
    def _product(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """``(first kron second) x = first X second^T``, in the order that costs less."""
        a, c = first.shape[-2:]
        b, d = second.shape[-2:]
        z = x.unflatten(-1, (c, d))
        second_first, first_first = _multiply_adds(a, b, c, d)
        if second_first <= first_first:
            z = torch.einsum("...cd,...bd->...cb", z, second)
            z = torch.einsum("...cb,...ac->...ab", z, first)
        else:
            z = torch.einsum("...cd,...ac->...ad", z, first)
            z = torch.einsum("...ad,...bd->...ab", z, second)
        return z.flatten(-2)

    @property
    def flops(self) -> int:
        n_heads = self.heads or 1
        return n_heads * min(_multiply_adds(*self.factors))

    def fan_in(self) -> dict[str, float]:
        _, _, c, d = self.factors
        return {"a": float(c), "b": float(d)}


def _multiply_adds(a: int, b: int, c: int, d: int) -> tuple[int, int]:
    """Multiply-adds of a Kronecker product, the second factor first and the first one first."""
    return b * c * (a + d), a * d * (b + c)


class Butterfly(StructuredMatrix):
    """Product of log2 n sparse factors, factor i mixing the positions that differ in bit i (Dao et
    al. 2019).

    ``2 n log2 n`` numbers. ``twiddle[..., i, p]`` is the 2 x 2 block of pair p of factor i, pairs
    counted in the order of the positions whose bit i is 0. The factor of the lowest bit acts first.

    Args:
        n_in: Columns, a power of two, at least 2.
        n_out: Rows, the same.
        heads, generator, dtype: As in :class:`tsattn.matrices.Dense`.

    Raises:
        ValueError: If the matrix is not square or its size no power of two.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        heads: int | None = None,
        generator: RandomSource = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(n_in, n_out, heads=heads)
        # A power of two has one bit.
        has_one_bit = n_in & (n_in - 1) == 0
        if n_in != n_out or n_in < 2 or not has_one_bit:
            raise ValueError(
                f"a butterfly must be square and a power of two, at least 2; got n_out = {n_out},"
                f" n_in = {n_in}; pad the vectors or take BTT, which factors any size"
            )
        self.n_stages = self.n_in.bit_length() - 1
        n_pairs = n_in // 2
        self.twiddle = self._core(self.n_stages, n_pairs, 2, 2, dtype=dtype)
        self.reset_parameters(generator)

    def forward(self, x: Inputs) -> Outputs:
        self.check_input(x, "n_in")
        return self.apply_stages(x, range(self.n_stages))

    def rmatmul(self, x: Outputs) -> Inputs:
        self.check_input(x, "n_out")
        last_first = reversed(range(self.n_stages))
        return self.apply_stages(x, last_first, transpose=True)

    def apply_stages(self, x: Tensor, stages: Iterable[int], *, transpose: bool = False) -> Tensor:
        """Product with some of the factors, in the order of ``stages``."""
        shape = list(x.shape)
        if self.heads is not None:
            shape[-2] = self.heads
        n_heads = self.heads or 1
        # Vectors run along the last axis, so that the two multiply-adds a number are long
        # contiguous passes.
        z = x.expand(shape).reshape(-1, n_heads, self.n_in)
        z = z.permute(1, 2, 0)  # [H n vectors]
        for stage in stages:
            distance = 2**stage  # between the two positions of a pair
            blocks = self.twiddle.select(-4, stage)
            if transpose:
                blocks = blocks.mT
            blocks = blocks.reshape(n_heads, -1, distance, 2, 2, 1)  # [H hi lo u v 1]
            z = z.unflatten(1, (-1, 2, distance))  # [H hi 2 lo vectors]
            low, high = z.unbind(2)  # [H hi lo vectors] each
            # A 2 x 2 block maps the pair (low, high) to a new pair.
            pairs = []
            for row in blocks.unbind(3):
                left, right = row.unbind(3)  # [H hi lo 1]
                pairs.append(torch.addcmul(low * left, high, right))
            z = torch.stack(pairs, dim=2).flatten(1, 3)
        return z.permute(2, 0, 1).reshape(shape)

    @property
    def flops(self) -> int:
        return self.n_parameters

    def fan_in(self) -> dict[str, float]:
        return {"twiddle": 2.0}
