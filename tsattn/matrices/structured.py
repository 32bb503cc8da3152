"""The bases of all structured matrices: products, counts, start values and learning rates."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tsattn.checks import check_whole, check_whole_or_none, is_number
from tsattn.matrices.levels import (
    Level,
    apply_level,
    apply_transpose,
    block_starts,
    left_features,
    right_features,
)

# Where random numbers come from; None is torch's global generator.
RandomSource = torch.Generator | None
# Vectors of either side of a matrix, and features for a dot product.
Inputs = Float[Tensor, "... n_in"]
Outputs = Float[Tensor, "... n_out"]
Features = Float[Tensor, "... features"]


def _is_drawable(dtype: Any) -> bool:
    """Whether torch draws random numbers of this dtype."""
    if not isinstance(dtype, torch.dtype) or dtype.itemsize < 2:
        return False
    return dtype.is_floating_point or dtype.is_complex


class StructuredMatrix(nn.Module, ABC):
    """A matrix of ``n_out`` rows and ``n_in`` columns, or one a head, stored as its cores.

    ``forward`` acts on the last axis like ``nn.Linear`` without bias. With ``heads`` every core has
    a leading axis of that length, and so has the axis before the last of every vector: ``x`` is
    [..., H, n_in], or [..., 1, n_in] to give all heads the same vector (``x.unsqueeze(-2)``);
    results are [..., H, n_out]. Nothing is inferred from sizes.

    A subclass must have ``forward`` and ``fan_in``; the other methods have slow defaults.

    Args:
        n_in: Columns, at least 1.
        n_out: Rows, at least 1.
        heads: Number of matrices, or ``None`` for one without a head axis.

    Raises:
        ValueError: If a number is below 1.

    Example:
        A matrix whose entry depends on the distance of row and column, in the score of an
        attention with two heads:

        >>> from tsattn import Attention
        >>> from tsattn.matrices import StructuredMatrix
        >>> from tsattn.nn.scores import BilinearScore
        >>> class Circulant(StructuredMatrix):
        ...     def __init__(self, n_in, n_out, *, heads=None, generator=None, dtype=None):
        ...         super().__init__(n_in, n_out, heads=heads)
        ...         self.weight = self._core(n_in, dtype=dtype)
        ...         self.reset_parameters(generator)
        ...
        ...     def fan_in(self):
        ...         return {"weight": float(self.n_in)}
        ...
        ...     def forward(self, x):
        ...         self.check_input(x, "n_in")
        ...         product = torch.fft.rfft(self.weight) * torch.fft.rfft(x)
        ...         return torch.fft.irfft(product, n=self.n_in)
        >>> score = BilinearScore(Circulant(8, 8, heads=2))
        >>> Attention(8, score=score)(torch.ones(1, 5, 8)).shape
        torch.Size([1, 5, 8])
    """

    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, n_in: int, n_out: int, *, heads: int | None = None) -> None:
        super().__init__()
        self.n_in = check_whole("n_in", n_in)
        self.n_out = check_whole("n_out", n_out)
        self.heads = check_whole_or_none("heads", heads)

    @abstractmethod
    def forward(self, x: Inputs) -> Outputs:
        """The product ``M x``."""

    @abstractmethod
    def fan_in(self) -> dict[str, float]:
        """Numbers that each entry of a core's product sums over, by the name of the parameter."""

    def to_dense(self) -> Float[Tensor, "*H n_out n_in"]:
        """All entries, differentiable: the product with every unit vector."""
        parameter = next(self.parameters())
        unit_vectors = torch.eye(self.n_in, dtype=parameter.dtype, device=parameter.device)
        # The product with unit vector i is column i.
        if self.heads is None:
            return self(unit_vectors).T
        columns = self(unit_vectors[:, None, :])  # [n_in H n_out]
        return columns.permute(1, 2, 0)

    def rmatmul(self, x: Outputs) -> Inputs:
        """The transpose product ``M^T x``."""
        self.check_input(x, "n_out")
        dense = self.to_dense()
        return torch.einsum("...o,...oi->...i", x, dense)

    @property
    def splits(self) -> bool:
        """Whether both sides of a bilinear form become features; otherwise it is ``x . (M y)``."""
        return False

    @property
    def n_features(self) -> int:
        """Length of :meth:`query_features` and :meth:`key_features`."""
        return self.n_out

    def query_features(self, x: Outputs) -> Features:
        """Features of ``x`` whose dot product with :meth:`key_features` of y is ``x^T M y``."""
        self.check_input(x, "n_out")
        return x

    def key_features(self, y: Inputs) -> Features:
        """Features of ``y``, for the dot product with :meth:`query_features`."""
        return self(y)

    def bilinear(self, x: Outputs, y: Inputs) -> Float[Tensor, "..."]:
        """The form ``x^T M y``, one number a pair of vectors (and a head)."""
        products = self.query_features(x) * self.key_features(y)
        return products.sum(dim=-1)

    @property
    def n_parameters(self) -> int:
        """Numbers that are stored, all heads together."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def flops(self) -> int:
        """Multiply-adds of one product, by formula, all heads together; fixed factors alpha are not
        counted.
        """
        n_heads = self.heads or 1
        return n_heads * self.n_in * self.n_out

    def lr_multipliers(self, base_width: int) -> dict[str, float]:
        """Factor on the learning rate of each parameter, for Adam and its kin:
        ``base_width / fan_in``.

        The maximal-update rule for a dense map starts its entries with variance 1 / fan-in and
        moves them at a rate proportional to 1 / fan-in (Yang et al. 2022, Tensor Programs V, table
        3). Qiu et al. 2024 (Compute Better Spent, section 3) apply it to structured layers: each
        core is a batch of dense maps with a fan-in of its own. A rate that is good for a dense
        layer of ``base_width`` inputs is therefore multiplied by this factor to serve the core, at
        any width. Levels that add up share one left map, whose fan-in is the sum of their features.

        Args:
            base_width: Inputs of the dense layer for which the rate was chosen, at least 1.

        Returns:
            One factor per name of ``named_parameters()``.

        Raises:
            ValueError: If ``base_width`` is below 1.
        """
        if not is_number(base_width) or not 1 <= base_width < float("inf"):
            raise ValueError(
                f"base_width must be at least 1; got {base_width!r}; give the width the rate was"
                " found at"
            )
        fans = self.fan_in()
        return {name: base_width / fan for name, fan in fans.items()}

    @torch.no_grad()
    def reset_parameters(self, generator: RandomSource = None) -> None:
        """Draw every core anew, normal with variance 1 / fan-in: independent inputs of variance 1
        then give outputs of variance 1.

        Args:
            generator: Source of the draws; ``None`` is torch's global one.
        """
        fans = self.fan_in()
        # In the order of the names, which a generator's seed relies on.
        for name, parameter in self.named_parameters():
            deviation = fans[name] ** -0.5
            parameter.normal_(0.0, deviation, generator=generator)

    def extra_repr(self) -> str:
        heads = "" if self.heads is None else f", heads={self.heads}"
        return f"n_in={self.n_in}, n_out={self.n_out}{heads}"

    def _core(self, *shape: int, dtype: torch.dtype | None) -> nn.Parameter:
        if dtype is not None and not _is_drawable(dtype):
            raise ValueError(
                "dtype of a structured matrix must be a floating one of torch with 16 bits or more;"
                f" got {dtype!r}; leave it out for torch's default"
            )
        if self.heads is not None:
            shape = (self.heads, *shape)
        # On the CPU whatever torch's default device is, so that the start values do not depend on
        # it.
        values = torch.empty(*shape, dtype=dtype, device="cpu")
        return nn.Parameter(values)

    def check_input(self, x: Tensor, side: str) -> None:
        """Refuse a vector that does not fit ``side``, "n_in" or "n_out".

        Raises:
            TypeError: If it is no tensor.
            ValueError: If it has another dtype than the cores, where no autocast converts it; or
                the last axis, or with heads the one before it, has another length.
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"vectors must be a tensor; got {x!r:.60}; call torch.as_tensor")
        dtype = next(self.parameters()).dtype
        if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
            raise ValueError(
                f"vectors must have the dtype of the matrix, {dtype}; got {x.dtype}; call"
                f" .to({dtype})"
            )
        size = getattr(self, side)
        if x.shape[-1:] != (size,):
            raise ValueError(
                f"the last axis must have {side} = {size} features; got shape {tuple(x.shape)}; "
                "transpose it or build the matrix for that size"
            )
        if self.heads is None:
            return
        # An axis of length 1 gives every head the same vector.
        if x.dim() < 2 or x.shape[-2] not in (1, self.heads):
            raise ValueError(
                f"the axis before the last must be heads = {self.heads} or 1; got shape"
                f" {tuple(x.shape)}; x.unsqueeze(-2) gives every head the same vector"
            )


class Dense(StructuredMatrix):
    """A matrix without structure, for comparison.

    Args:
        n_in: Columns.
        n_out: Rows.
        heads: Number of matrices; ``None`` is one without a head axis.
        generator: Source of the first values; ``None`` is torch's global one.
        dtype: Of the parameters, a floating one; ``None`` is torch's default.
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
        self.weight = self._core(n_out, n_in, dtype=dtype)
        self.reset_parameters(generator)

    def forward(self, x: Inputs) -> Outputs:
        self.check_input(x, "n_in")
        return torch.einsum("...i,...oi->...o", x, self.weight)

    def to_dense(self) -> Float[Tensor, "*H n_out n_in"]:
        return self.weight

    def fan_in(self) -> dict[str, float]:
        return {"weight": float(self.n_in)}


class LeveledMatrix(StructuredMatrix):
    """A sum of levels, cores in ``left`` and ``right``; see :class:`tsattn.matrices.MLBTC`.

    Args:
        n_in: Columns.
        n_out: Rows.
        levels: The terms, at least one.
        heads, generator, dtype: As in :class:`tsattn.matrices.Dense`.

    Raises:
        ValueError: If there is no level, or one does not fit the sizes.
        TypeError: If the levels are no list of :class:`tsattn.matrices.Level`.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        levels: Sequence[Level],
        *,
        heads: int | None,
        generator: RandomSource,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__(n_in, n_out, heads=heads)
        is_listed = isinstance(levels, Sequence)
        if not is_listed or not all(isinstance(level, Level) for level in levels):
            raise TypeError(
                f"levels of a multi-level matrix must be a list of Level; got {levels!r}; write"
                " [Level(rank=2)]"
            )
        if not levels:
            raise ValueError(
                "a multi-level matrix needs at least one level; got none; give a Level or a rank"
            )
        for level in levels:
            level.check(n_out, n_in)
        self.levels = tuple(levels)
        self.left = nn.ParameterList(
            self._core(n_out, level.left_features, dtype=dtype) for level in levels
        )
        self.right = nn.ParameterList(
            self._core(n_in, level.right_features, dtype=dtype) for level in levels
        )
        self.reset_parameters(generator)

    @property
    def _levels_and_cores(self) -> list[tuple[Level, Tensor, Tensor]]:
        return list(zip(self.levels, self.left, self.right, strict=True))

    def forward(self, x: Inputs) -> Outputs:
        self.check_input(x, "n_in")
        return self._sum(apply_level, x)

    def rmatmul(self, x: Outputs) -> Inputs:
        self.check_input(x, "n_out")
        return self._sum(apply_transpose, x)

    def _sum(self, product: Callable[[Level, Tensor, Tensor, Tensor], Tensor], x: Tensor) -> Tensor:
        """The sum of the products of all levels with ``x``."""
        terms = [product(level, x, left, right) for level, left, right in self._levels_and_cores]
        return sum(terms[1:], start=terms[0])

    @property
    def splits(self) -> bool:
        """Whether no level is shuffled; then both sides have projections for each level."""
        return not any(level.shuffled for level in self.levels)

    @property
    def n_features(self) -> int:
        """``sum(r_l p_l)`` where the form splits, otherwise ``n_out``."""
        if not self.splits:
            return self.n_out
        return sum(level.n_features for level in self.levels)

    def query_features(self, x: Outputs) -> Features:
        """Projections of all levels side by side, or ``x`` itself where a shuffled level would make
        them wide.
        """
        self.check_input(x, "n_out")
        if not self.splits:
            return x
        projections = []
        for level, left, _ in self._levels_and_cores:
            features = left_features(level, x, left)  # [... blocks rank]
            projection = features.flatten(-2)
            projections.append(projection * level.alpha)
        return torch.cat(projections, dim=-1)

    def key_features(self, y: Inputs) -> Features:
        """Features of ``y``, for the dot product with :meth:`query_features`."""
        if not self.splits:
            return self(y)
        self.check_input(y, "n_in")
        projections = []
        for level, _, right in self._levels_and_cores:
            features = right_features(level, y, right)  # [... blocks rank]
            projections.append(features.flatten(-2))
        return torch.cat(projections, dim=-1)

    @property
    def flops(self) -> int:
        # Every stored number is multiplied by one number of the vector.
        return self.n_parameters

    def fan_in(self) -> dict[str, float]:
        fans = {}
        # The levels add up, so their left cores are one map.
        total = float(sum(level.left_features for level in self.levels))
        for i, level in enumerate(self.levels):
            fans[f"left.{i}"] = total
            fans[f"right.{i}"] = self.n_in / level.right_blocks
        return fans

    @torch.no_grad()
    def reset_parameters(self, generator: RandomSource = None) -> None:
        """Draw as the base class does, then rescale each right block by its own number of rows,
        which differs where blocks are uneven.
        """
        super().reset_parameters(generator)
        for level, right in zip(self.levels, self.right, strict=True):
            mean_rows = self.n_in / level.right_blocks
            starts = block_starts(self.n_in, level.right_blocks)
            for start, stop in itertools.pairwise(starts):
                n_rows = stop - start
                variance_ratio = mean_rows / n_rows
                right[..., start:stop, :] *= variance_ratio**0.5
