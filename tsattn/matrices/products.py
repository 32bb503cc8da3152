"""Structured matrices that are products of small ones, Kronecker and Butterfly, and the factors of
a size.
"""

import math
from collections.abc import Iterable, Sequence
from numbers import Integral

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tsattn.matrices.structured import StructuredMatrix


def _even(size: int) -> int:
    """The largest divisor that is at most the square root."""
    return next(k for k in range(math.isqrt(size), 0, -1) if size % k == 0)


def default_factors(n_in: int, n_out: int) -> tuple[int, int, int, int]:
    """Factors (a, b, c, d) with ``n_out = a b`` and ``n_in = c d``, each pair as even as can be, b
    and d the smaller.

    For ``n_in = n_out`` this gives ``b c = n_out``, so that a block tensor train of rank 1 can have
    full rank. A prime size has no even pair: (size, 1), for which the structure is no smaller than
    a dense matrix.

    Example:
        >>> default_factors(16, 12)
        (4, 3, 4, 4)
    """
    b = _even(n_out)
    d = _even(n_in)
    return n_out // b, b, n_in // d, d


def check_factors(
    factors: Sequence[int] | None, n_in: int, n_out: int
) -> tuple[int, int, int, int]:
    """The factors given, or the default ones.

    Raises:
        ValueError: If they do not multiply to the sizes.
    """
    if factors is None:
        return default_factors(n_in, n_out)
    fit = np.shape(factors) == (4,) and all(
        isinstance(each, Integral) and each > 0 for each in factors
    )
    if not fit or factors[0] * factors[1] != n_out or factors[2] * factors[3] != n_in:
        raise ValueError(
            "factors must be four positive numbers (a, b, c, d) with a b = n_out and c d = n_in;"
            f" got {factors} for n_out = {n_out}, n_in = {n_in}; leave them out for"
            f" {default_factors(n_in, n_out)}"
        )
    a, b, c, d = factors
    return a, b, c, d


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
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(n_in, n_out, heads=heads)
        a, b, c, d = self.factors = check_factors(factors, n_in, n_out)
        self.a = self._core(a, c, dtype=dtype)
        self.b = self._core(b, d, dtype=dtype)
        self.reset_parameters(generator)

    def forward(self, x: Float[Tensor, "... n_in"]) -> Float[Tensor, "... n_out"]:
        self.check_input(x, "n_in")
        return self._product(x, self.a, self.b)

    def rmatmul(self, x: Float[Tensor, "... n_out"]) -> Float[Tensor, "... n_in"]:
        self.check_input(x, "n_out")
        return self._product(x, self.a.mT, self.b.mT)

    @staticmethod
    def _product(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """``(first kron second) x = first X second^T``, in the order that costs less."""
        (a, c), (b, d) = first.shape[-2:], second.shape[-2:]
        z = x.unflatten(-1, (c, d))
        if b * c * (a + d) <= a * d * (b + c):
            return torch.einsum(
                "...cb,...ac->...ab", torch.einsum("...cd,...bd->...cb", z, second), first
            ).flatten(-2)
        return torch.einsum(
            "...ad,...bd->...ab", torch.einsum("...cd,...ac->...ad", z, first), second
        ).flatten(-2)

    @property
    def flops(self) -> int:
        a, b, c, d = self.factors
        return (self.heads or 1) * min(b * c * (a + d), a * d * (b + c))

    def fan_in(self) -> dict[str, float]:
        return {"a": float(self.factors[2]), "b": float(self.factors[3])}


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
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(n_in, n_out, heads=heads)
        if n_in != n_out or n_in < 2 or n_in & (n_in - 1):
            raise ValueError(
                f"a butterfly must be square and a power of two, at least 2; got n_out = {n_out},"
                f" n_in = {n_in}; pad the vectors or take BTT, which factors any size"
            )
        self.n_stages = self.n_in.bit_length() - 1
        self.twiddle = self._core(self.n_stages, n_in // 2, 2, 2, dtype=dtype)
        self.reset_parameters(generator)

    def forward(self, x: Float[Tensor, "... n_in"]) -> Float[Tensor, "... n_out"]:
        self.check_input(x, "n_in")
        return self.apply_stages(x, range(self.n_stages))

    def rmatmul(self, x: Float[Tensor, "... n_out"]) -> Float[Tensor, "... n_in"]:
        self.check_input(x, "n_out")
        return self.apply_stages(x, reversed(range(self.n_stages)), transpose=True)

    def apply_stages(self, x: Tensor, stages: Iterable[int], *, transpose: bool = False) -> Tensor:
        """Product with some of the factors, in the order given."""
        shape = x.shape if self.heads is None else (*x.shape[:-2], self.heads, x.shape[-1])
        # Vectors run along the last axis, so that the two multiply-adds a number are long
        # contiguous passes.
        z = (
            x.expand(shape).reshape(-1, self.heads or 1, self.n_in).permute(1, 2, 0)
        )  # [H n vectors]
        for stage in stages:
            blocks = self.twiddle.select(-4, stage)
            blocks = (blocks.mT if transpose else blocks).reshape(
                z.shape[0], -1, 2**stage, 2, 2, 1
            )  # [H hi lo u v 1]
            low, high = z.unflatten(1, (-1, 2, 2**stage)).unbind(2)  # [H hi lo vectors] each
            first, second = blocks.unbind(3)
            both = [
                torch.addcmul(low * row[:, :, :, 0], high, row[:, :, :, 1])
                for row in (first, second)
            ]
            z = torch.stack(both, dim=2).flatten(1, 3)
        return z.permute(2, 0, 1).reshape(shape)

    @property
    def flops(self) -> int:
        return self.n_parameters

    def fan_in(self) -> dict[str, float]:
        return {"twiddle": 2.0}
